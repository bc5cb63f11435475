// SPDX-License-Identifier: MIT

// Fails: step 2: "nlecho refused the message"
// Who comes from UDP sends the text as it is. A Netlink socket takes that without
// a word, for the kernel's core does not look at the header: the receiver does.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	if err := greet("Hello, kernel!"); err != nil {
		fmt.Fprintln(os.Stderr, "first-contact:", err)
		os.Exit(1)
	}
}

func greet(greeting string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM, 25)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return err
	}
	if err := unix.Sendto(fd, []byte(greeting), 0, &unix.SockaddrNetlink{}); err != nil {
		return err
	}
	b := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return err
	}
	fmt.Printf("reply=%s\n", unix.ByteSliceToString(b[16:n]))
	return nil
}
