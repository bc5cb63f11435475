// SPDX-License-Identifier: MIT

// Another way: connect and write, no bind at all, and two sockets for the experiment,
// each of which sends two messages. The deadly ones come last.
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
	headerLen = unix.SizeofNlMsghdr
)

func main() {
	mode := "crash"
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	var err error
	switch mode {
	case "crash":
		err = crash()
	case "survive":
		err = survive()
	case "experiment":
		err = experiment()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, mode+":", err)
		os.Exit(1)
	}
}

func crash() error {
	fd, err := dial(0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := greet(fd, 0); err != nil {
		return err
	}
	n, err := expected()
	if err != nil {
		return err
	}
	return receive(fd, n)
}

func survive() error {
	fd, err := dial(0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := greet(fd, 100); err != nil {
		return err
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	fmt.Printf("port=%d\n", own.(*unix.SockaddrNetlink).Pid)
	return nil
}

func experiment() error {
	chosen, err := dial(1)
	if err != nil {
		return err
	}
	given, err := dial(0)
	if err != nil {
		return err
	}
	for _, c := range []uint32{100, 0} {
		for _, fd := range []int{chosen, given} {
			if err := greet(fd, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func dial(a uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, echo)
	if err != nil {
		return -1, err
	}
	if a != 0 {
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: a}); err != nil {
			return -1, err
		}
	}
	return fd, unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

func greet(fd int, c uint32) error {
	message := append(make([]byte, headerLen), "Hello you!"...)
	binary.NativeEndian.PutUint32(message[0:], uint32(len(message)))
	binary.NativeEndian.PutUint32(message[12:], c)
	_, err := unix.Write(fd, message)
	return err
}

func receive(fd, n int) error {
	buffer := make([]byte, 4096)
	for range n {
		size, _, _, _, err := unix.Recvmsg(fd, buffer, nil, 0)
		if err != nil {
			return err
		}
		fmt.Printf("reply=%s\n", unix.ByteSliceToString(buffer[headerLen:size]))
	}
	return nil
}

func expected() (int, error) {
	text, err := os.ReadFile("/sys/module/nlecho/parameters/replies")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
