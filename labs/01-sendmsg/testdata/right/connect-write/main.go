// SPDX-License-Identifier: MIT

// Another style: connect(2) says once where everything goes, and from then on the
// socket is a file that is written and read.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	greeting := "Hello you!"
	if len(os.Args) > 1 {
		greeting = os.Args[1]
	}
	text, err := os.ReadFile("/sys/module/nlecho/parameters/replies")
	if err != nil {
		log.Fatal(err)
	}
	var replies int
	if _, err := fmt.Sscan(string(text), &replies); err != nil {
		log.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 25)
	if err != nil {
		log.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		log.Fatal(err)
	}
	peer, err := unix.Getpeername(fd)
	if err != nil {
		log.Fatal(err)
	}
	var b bytes.Buffer
	header := unix.NlMsghdr{Len: uint32(unix.SizeofNlMsghdr + len(greeting))}
	if err := binary.Write(&b, binary.NativeEndian, header); err != nil {
		log.Fatal(err)
	}
	b.WriteString(greeting)
	n, err := unix.Write(fd, b.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("sent=%d\n", n)
	in := make([]byte, 1<<16)
	for range replies {
		n, err := unix.Read(fd, in)
		if err != nil {
			log.Fatal(err)
		}
		end := bytes.IndexByte(in[16:n], 0)
		fmt.Printf("bytes=%d\nfrom=%d\nreply=%s\n", n, peer.(*unix.SockaddrNetlink).Pid, in[16:16+end])
	}
}
