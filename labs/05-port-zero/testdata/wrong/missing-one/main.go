// SPDX-License-Identifier: MIT

// Fails: step 5: "crash and survive do not count here"
// Only the message is sent that was missing in crash and survive.
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
	fd, err := open(0)
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
	fd, err := open(0)
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
	for _, m := range [][2]uint32{{4711, 0}} {
		fd, err := open(m[0])
		if err != nil {
			return err
		}
		if err := greet(fd, m[1]); err != nil {
			return err
		}
		unix.Close(fd)
	}
	return nil
}

func open(a uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, echo)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: a})
}

func greet(fd int, c uint32) error {
	message := append(make([]byte, headerLen), "Hello you!"...)
	binary.NativeEndian.PutUint32(message[0:], uint32(len(message)))
	binary.NativeEndian.PutUint32(message[12:], c)
	_, err := unix.SendmsgN(fd, message, nil, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}, 0)
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
