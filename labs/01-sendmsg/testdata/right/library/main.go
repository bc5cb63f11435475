// SPDX-License-Identifier: MIT

// Another style: mdlayher/netlink writes the header, and SyscallConn gives what
// it does not tell.
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/mdlayher/netlink"
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
	conn, err := netlink.Dial(25, &netlink.Config{PID: 100})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	sent, err := conn.Send(netlink.Message{Data: []byte(greeting)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("sent=%d\n", sent.Header.Length)
	raw, err := conn.SyscallConn()
	if err != nil {
		log.Fatal(err)
	}
	for range replies {
		b := make([]byte, 4096)
		var n int
		var from unix.Sockaddr
		var failed error
		if err := raw.Read(func(fd uintptr) bool {
			n, _, _, from, failed = unix.Recvmsg(int(fd), b, nil, 0)
			return failed != unix.EAGAIN
		}); err != nil || failed != nil {
			log.Fatal(err, failed)
		}
		fmt.Printf("bytes=%d\nfrom=%d\nreply=%s\n", n, from.(*unix.SockaddrNetlink).Pid, unix.ByteSliceToString(b[16:n]))
	}
}
