// SPDX-License-Identifier: MIT

// Fails: step 5: "nobody had looked at the socket before"
// After the call the socket has a number. Whether it had it before, nobody asked.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	echo      = 25
	headerLen = unix.SizeofNlMsghdr
	greeting  = "Whose number is it?"
)

var kernel = &unix.SockaddrNetlink{Family: unix.AF_NETLINK}

func main() {
	if err := program(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "port-ids:", err)
		os.Exit(1)
	}
}

func program(args []string) error {
	switch args[0] {
	case "number":
		n, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return err
		}
		return number(uint32(n))
	case "choices":
		first, second, err := chosen()
		if err != nil {
			return err
		}
		for _, port := range []uint32{first, second} {
			fmt.Printf("unsigned=%d\nsigned=%d\n", port, signed(port))
		}
	case "unbound":
		known, err := ask()
		if err != nil {
			return err
		}
		fmt.Printf("known=%d\n", known)
	case "forge":
		sender, arrived, err := divert()
		if err != nil {
			return err
		}
		fmt.Printf("sender=%d\narrived=%d\n", sender, arrived)
	case "experiment":
		return experiment()
	}
	return nil
}

func number(port uint32) error {
	fd, err := take(port)
	if err != nil {
		return fmt.Errorf("taking the port ID %d: %w", port, err)
	}
	defer unix.Close(fd)
	if err := greet(fd, 0); err != nil {
		return err
	}
	if _, _, err := reply(fd); err != nil {
		return err
	}
	p, err := portOf(fd)
	fmt.Printf("number=%d\n", p)
	return err
}

func open() (int, error) {
	return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, echo)
}

func greet(fd int, c uint32) error {
	message := make([]byte, headerLen+len(greeting))
	binary.NativeEndian.PutUint32(message[0:], uint32(len(message)))
	binary.NativeEndian.PutUint32(message[12:], c)
	copy(message[headerLen:], greeting)
	return unix.Sendto(fd, message, 0, kernel)
}

func reply(fd int) (to uint32, found bool, err error) {
	buffer := make([]byte, 4096)
	_, _, _, _, err = unix.Recvmsg(fd, buffer, nil, unix.MSG_DONTWAIT)
	if errors.Is(err, unix.EAGAIN) {
		return 0, false, nil
	}
	return binary.NativeEndian.Uint32(buffer[12:]), err == nil, err
}

func take(port uint32) (int, error) {
	fd, err := open()
	if err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port})
}

func portOf(fd int) (uint32, error) {
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return address.(*unix.SockaddrNetlink).Pid, nil
}

func chosen() (first, second uint32, err error) {
	var ports [2]uint32
	for i := range ports {
		fd, err := take(0)
		if err != nil {
			return 0, 0, err
		}
		defer unix.Close(fd)
		if ports[i], err = portOf(fd); err != nil {
			return 0, 0, err
		}
	}
	return ports[0], ports[1], nil
}

func signed(port uint32) int64 { return int64(int32(port)) }

func ask() (known uint32, err error) {
	fd, err := open()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := greet(fd, 0); err != nil {
		return 0, err
	}
	if _, _, err := reply(fd); err != nil {
		return 0, err
	}
	return portOf(fd)
}

func divert() (sender, arrived uint32, err error) {
	victim, err := take(101)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(victim)
	forger, err := take(100)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(forger)
	if err := greet(forger, 101); err != nil {
		return 0, 0, err
	}
	if _, found, err := reply(victim); err != nil || found {
		return 100, 101, err
	}
	_, found, err := reply(forger)
	if !found {
		return 0, 0, errors.Join(err, errors.New("no reply at all"))
	}
	return 100, 100, err
}

func experiment() error {
	for _, call := range []string{"socket", "recvmsg", "connect", "sendmsg"} {
		fd, err := open()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		switch call {
		case "socket":
		case "recvmsg":
			_, _, err = reply(fd)
		case "connect":
			err = unix.Connect(fd, kernel)
		case "sendmsg":
			err = greet(fd, 0)
		}
		if err != nil {
			return err
		}
		after, err := portOf(fd)
		if err != nil {
			return err
		}
		fmt.Printf("%s=%d\n", call, after)
	}
	return nil
}
