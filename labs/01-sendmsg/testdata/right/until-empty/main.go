// SPDX-License-Identifier: MIT

// Another way to know the end: a second goroutine reads while the kernel still
// answers, and when sendmsg is back it reads on until nothing is left.
package main

import (
	"encoding/binary"
	"errors"
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
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 25)
	if err != nil {
		log.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		log.Fatal(err)
	}
	first, sent := make(chan string, 1), make(chan int, 1)
	go func() { first <- read(fd, 0) }()
	go func() {
		message := binary.NativeEndian.AppendUint32(nil, uint32(16+len(greeting)))
		message = append(append(message, make([]byte, 12)...), greeting...)
		n, err := unix.SendmsgN(fd, message, nil, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}, 0)
		if err != nil {
			log.Fatal(err)
		}
		sent <- n
	}()
	fmt.Print(<-first)
	fmt.Printf("sent=%d\n", <-sent)
	for {
		text := read(fd, unix.MSG_DONTWAIT)
		if text == "" {
			return
		}
		fmt.Print(text)
	}
}

// read returns one reply as lines, "" when there is none.
func read(fd, flags int) string {
	b := make([]byte, 8192)
	n, _, _, from, err := unix.Recvmsg(fd, b, nil, flags)
	for errors.Is(err, unix.EINTR) {
		n, _, _, from, err = unix.Recvmsg(fd, b, nil, flags)
	}
	if errors.Is(err, unix.EAGAIN) {
		return ""
	}
	if err != nil {
		log.Fatal(err)
	}
	return fmt.Sprintf("bytes=%d\nfrom=%d\nreply=%s\n", n, from.(*unix.SockaddrNetlink).Pid, unix.ByteSliceToString(b[16:n]))
}
