// SPDX-License-Identifier: MIT

// Another right answer: where a library will do, mdlayher/netlink.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/mdlayher/netlink"
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
	conn, err := netlink.Dial(echo, &netlink.Config{PID: port})
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Send(netlink.Message{Data: []byte(greeting)}); err != nil {
		return err
	}
	if _, err := conn.Receive(); err != nil {
		return err
	}
	fmt.Printf("number=%d\n", conn.PID())
	return nil
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
		conn, err := netlink.Dial(echo, nil)
		if err != nil {
			return 0, 0, err
		}
		defer conn.Close()
		ports[i] = conn.PID()
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
	victim, err := netlink.Dial(echo, nil)
	if err != nil {
		return 0, 0, err
	}
	defer victim.Close()
	forger, err := netlink.Dial(echo, nil)
	if err != nil {
		return 0, 0, err
	}
	defer forger.Close()
	forged := netlink.Message{Header: netlink.Header{PID: victim.PID()}, Data: []byte(greeting)}
	if _, err := forger.Send(forged); err != nil {
		return 0, 0, err
	}
	// Whoever has it says so, and the other one is closed by and by.
	arrival := make(chan uint32)
	for _, conn := range []*netlink.Conn{victim, forger} {
		go func() {
			if _, err := conn.Receive(); err == nil {
				arrival <- conn.PID()
			}
		}()
	}
	return forger.PID(), <-arrival, nil
}

func experiment() error {
	for _, call := range []string{"socket", "recvmsg", "connect", "sendmsg"} {
		fd, err := open()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		before, err := portOf(fd)
		if err != nil {
			return err
		}
		switch call {
		case "socket":
			fmt.Printf("%s=%d\n", call, before)
			continue
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
