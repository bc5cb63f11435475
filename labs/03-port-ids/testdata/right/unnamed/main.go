// SPDX-License-Identifier: MIT

// Another right answer: no number is named but the one that is asked for, the kernel
// chooses all others; and the experiment is made by four goroutines at once.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

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
	a, err := open()
	if err != nil {
		return 0, 0, err
	}
	b, err := open()
	if err != nil {
		return 0, 0, err
	}
	// The second socket is asked first, and so has the first choice.
	if err := unix.Connect(b, kernel); err != nil {
		return 0, 0, err
	}
	if err := greet(a, 0); err != nil {
		return 0, 0, err
	}
	if first, err = portOf(b); err != nil {
		return 0, 0, err
	}
	second, err = portOf(a)
	return first, second, err
}

func signed(port uint32) int64 {
	if port >= 1<<31 {
		return int64(port) - 1<<32
	}
	return int64(port)
}

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
	victim, err := open()
	if err != nil {
		return 0, 0, err
	}
	if err := unix.Connect(victim, kernel); err != nil {
		return 0, 0, err
	}
	to, err := portOf(victim)
	if err != nil {
		return 0, 0, err
	}
	forger, err := open()
	if err != nil {
		return 0, 0, err
	}
	if err := greet(forger, to); err != nil {
		return 0, 0, err
	}
	if sender, err = portOf(forger); err != nil {
		return 0, 0, err
	}
	fds := []unix.PollFd{{Fd: int32(forger), Events: unix.POLLIN}, {Fd: int32(victim), Events: unix.POLLIN}}
	_, err = unix.Poll(fds, -1)
	for err == unix.EINTR { // a signal of Go's runtime, say
		_, err = unix.Poll(fds, -1)
	}
	if err != nil {
		return 0, 0, err
	}
	for _, fd := range fds {
		if fd.Revents&unix.POLLIN != 0 {
			if _, _, err := reply(int(fd.Fd)); err != nil {
				return 0, 0, err
			}
			arrived, err = portOf(int(fd.Fd))
		}
	}
	return sender, arrived, err
}

func experiment() error {
	calls := map[string]func(fd int) error{
		"recvmsg": func(fd int) error { _, _, err := reply(fd); return err },
		"connect": func(fd int) error { return unix.Connect(fd, kernel) },
		"sendmsg": func(fd int) error { return greet(fd, 0) },
		"socket":  nil,
	}
	var all sync.WaitGroup
	for name, call := range calls {
		all.Go(func() {
			fd, err := open()
			port, looked := portOf(fd)
			if call != nil {
				err = errors.Join(err, call(fd))
				port, looked = portOf(fd)
			}
			if err := errors.Join(err, looked); err != nil {
				fmt.Fprintln(os.Stderr, name, err)
				return
			}
			fmt.Printf("%s=%d\n", name, port)
		})
	}
	all.Wait()
	return nil
}
