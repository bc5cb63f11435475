// SPDX-License-Identifier: MIT

// Fails: step 1: "a message on protocol 2"
// Students take the protocol for a matter of form, and NETLINK_USERSOCK for the
// one that is free for users. No kernel code listens there.
package main

import (
	"fmt"
	"os"
	"time"

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
	conn, err := netlink.Dial(unix.NETLINK_USERSOCK, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
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
