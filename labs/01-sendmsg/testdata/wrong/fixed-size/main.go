// SPDX-License-Identifier: MIT

// Fails: step 5: "room for a shorter greeting"
// A buffer of a size that seemed to be plenty, as in C: what does not fit, copy leaves
// out without a word.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	echo      = 25
	port      = 100
	headerLen = unix.SizeofNlMsghdr
)

type reply struct {
	bytes int
	from  uint32
	text  string
}

func main() {
	greeting := "Hello you!"
	if len(os.Args) > 1 {
		greeting = os.Args[1]
	}
	if err := talk(greeting); err != nil {
		fmt.Fprintln(os.Stderr, "sendmsg:", err)
		os.Exit(1)
	}
}

func talk(greeting string) error {
	replies, err := expected()
	if err != nil {
		return err
	}
	fd, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)

	sent, err := send(fd, greeting)
	if err != nil {
		return fmt.Errorf("sending the greeting: %w", err)
	}
	fmt.Printf("sent=%d\n", sent)

	for n := range replies {
		r, err := receive(fd)
		if err != nil {
			return fmt.Errorf("reply %d of %d: %w", n+1, replies, err)
		}
		fmt.Printf("bytes=%d\n", r.bytes)
		fmt.Printf("from=%d\n", r.from)
		fmt.Printf("reply=%s\n", r.text)
	}
	return nil
}

func open() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, echo)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port})
}

func send(fd int, greeting string) (int, error) {
	message := make([]byte, 48)
	binary.NativeEndian.PutUint32(message, uint32(len(message)))
	copy(message[headerLen:], greeting)
	return unix.SendmsgN(fd, message, nil, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}, 0)
}

func receive(fd int) (reply, error) {
	buffer := make([]byte, 4096)
	n, _, _, address, err := unix.Recvmsg(fd, buffer, nil, 0)
	if err != nil {
		return reply{}, err
	}
	sender := address.(*unix.SockaddrNetlink)
	return reply{n, sender.Pid, unix.ByteSliceToString(buffer[headerLen:n])}, nil
}

func expected() (int, error) {
	text, err := os.ReadFile("/sys/module/nlecho/parameters/replies")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
