// SPDX-License-Identifier: MIT

// Fails: step 3: "goes by its name here"
// The error is copied from events.log, which has its number.
package main

import (
	"encoding/binary"
	"fmt"
	"os"

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
	return greet(fd, 0)
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
