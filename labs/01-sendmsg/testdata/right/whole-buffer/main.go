// SPDX-License-Identifier: MIT

// Another layout, that of many C programs: a payload of 1024 bytes whatever the
// text, so that nlmsg_len is always 1040; and no address in sendmsg at all.
package main

import (
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
	message := make([]byte, 1040)
	binary.NativeEndian.PutUint32(message, 1040)
	copy(message[16:], greeting)
	n, err := unix.SendmsgN(fd, message, nil, nil, 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("sent=%d\n", n)
	for range replies {
		n, from, err := unix.Recvfrom(fd, message, 0)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("bytes=%d\nfrom=%d\nreply=%s\n", n, from.(*unix.SockaddrNetlink).Pid, unix.ByteSliceToString(message[16:n]))
	}
}
