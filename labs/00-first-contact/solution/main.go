// SPDX-License-Identifier: MIT

// This program greets the kernel and prints what comes back.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// echo is the Netlink protocol on which the kernel module nlecho listens. The
// kernel's own protocols have names in linux/netlink.h; 25 is a free number.
const echo = 25

func main() {
	if err := greet("Hello, kernel!"); err != nil {
		fmt.Fprintln(os.Stderr, "first-contact:", err)
		os.Exit(1)
	}
}

// greet sends a greeting to the kernel and prints each reply to it.
func greet(greeting string) error {
	replies, err := expected()
	if err != nil {
		return err
	}

	conn, err := netlink.Dial(echo, nil)
	if err != nil {
		return fmt.Errorf("opening a Netlink socket for protocol %d (is the module nlecho loaded?): %w", echo, err)
	}
	defer conn.Close()

	// Should the kernel be silent, we want to hear about it, not wait for ever.
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return fmt.Errorf("setting a deadline: %w", err)
	}

	if _, err := conn.Send(netlink.Message{Data: []byte(greeting)}); err != nil {
		return fmt.Errorf("sending the greeting: %w", err)
	}
	fmt.Println("sent:", greeting)

	for n := range replies {
		messages, err := conn.Receive()
		if err != nil {
			return fmt.Errorf("waiting for reply %d of %d: %w", n+1, replies, err)
		}
		for _, m := range messages {
			// The payload is a C string: the text, and zero bytes behind it.
			fmt.Printf("reply=%s\n", unix.ByteSliceToString(m.Data))
		}
	}
	return nil
}

// expected returns how many replies nlecho gives to a message. The module says
// so in a file.
func expected() (int, error) {
	text, err := os.ReadFile("/sys/module/nlecho/parameters/replies")
	if err != nil {
		return 0, fmt.Errorf("asking nlecho for its number of replies (is the module loaded?): %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
