// SPDX-License-Identifier: MIT

// Fails: step 3: "1 of 5 replies were read"
// One question, one answer: that is how most protocols work, and so students read
// once. Here the kernel goes on talking, and what is not read is thrown away with
// the socket.
package main

import (
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func main() {
	if err := greet("Hello, kernel!"); err != nil {
		fmt.Fprintln(os.Stderr, "first-contact:", err)
		os.Exit(1)
	}
}

func greet(greeting string) error {
	conn, err := netlink.Dial(25, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Send(netlink.Message{Data: []byte(greeting)}); err != nil {
		return err
	}
	messages, err := conn.Receive()
	if err != nil {
		return err
	}
	for _, m := range messages {
		fmt.Printf("reply=%s\n", unix.ByteSliceToString(m.Data))
	}
	return nil
}
