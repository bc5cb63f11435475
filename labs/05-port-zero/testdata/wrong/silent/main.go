// SPDX-License-Identifier: MIT

// Fails: step 1: "no message was sent"
// A program that says what would be right, and does nothing.
package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	echo      = 25
	headerLen = unix.SizeofNlMsghdr
)

func main() {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, echo)
	fmt.Println(fd, err, headerLen)
	fmt.Println("port=4711")
	for range 3 {
		fmt.Println("reply=I am from kernel!")
	}
}
