// SPDX-License-Identifier: MIT

// This program asks whose number a port ID is. It has a part for each step, and
// without an argument it goes through them one after another.
//
//	program [number N | choices | unbound | forge | experiment]
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	echo = 25 // the Netlink protocol on which the module nlecho listens

	headerLen = unix.SizeofNlMsghdr
	greeting  = "Whose number is it?"
)

// kernel is the address of the kernel: port ID 0, no group.
var kernel = &unix.SockaddrNetlink{Family: unix.AF_NETLINK}

func main() {
	if err := program(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "port-ids:", err)
		os.Exit(1)
	}
}

// program does the part that its arguments name, or all of them.
func program(args []string) error {
	if len(args) == 0 {
		return all()
	}
	switch part := args[0]; {
	case part == "number" && len(args) == 2:
		n, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return fmt.Errorf("which number? %w", err)
		}
		return number(uint32(n))
	case len(args) > 1:
	case part == "choices":
		return choices()
	case part == "unbound":
		return unbound()
	case part == "forge":
		return forge()
	case part == "experiment":
		return experiment()
	}
	return fmt.Errorf("want: program [number N | choices | unbound | forge | experiment], not %q", args)
}

// all goes through all parts. While the module believes headers, it leaves out
// those that send a message with nlmsg_pid 0: what comes of such a message then
// is lab 5.
func all() error {
	const file = "/sys/module/nlecho/parameters/reply_to"
	replyTo, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("asking nlecho how it is set (is the module loaded?): %w", err)
	}
	if strings.TrimSpace(string(replyTo)) == "header" {
		return forge()
	}
	for _, part := range []func() error{
		func() error { return number(1) },
		choices,
		unbound,
		forge,
		experiment,
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// number greets the kernel from a port ID of our own choice.
func number(port uint32) error {
	fd, err := take(port)
	if err != nil {
		return fmt.Errorf("taking the port ID %d: %w", port, err)
	}
	defer unix.Close(fd)

	if err := greet(fd, 0); err != nil {
		return err
	}
	if _, found, err := reply(fd); err != nil || !found {
		return fmt.Errorf("a reply for port ID %d was found: %t: %w", port, found, err)
	}
	p, err := portOf(fd)
	if err != nil {
		return err
	}
	fmt.Printf("number=%d\n", p)
	return nil
}

// choices has the kernel choose twice and reports what it chose, each in both
// readings.
func choices() error {
	first, second, err := chosen()
	if err != nil {
		return err
	}
	for _, port := range []uint32{first, second} {
		fmt.Printf("unsigned=%d\n", port)
		fmt.Printf("signed=%d\n", signed(port))
	}
	return nil
}

// unbound greets the kernel from a socket that nobody gave a port ID to.
func unbound() error {
	known, err := ask()
	if err != nil {
		return err
	}
	fmt.Printf("known=%d\n", known)
	return nil
}

// forge reports where the reply to a forged message arrived.
func forge() error {
	sender, arrived, err := divert()
	if err != nil {
		return err
	}
	fmt.Printf("sender=%d\n", sender)
	fmt.Printf("arrived=%d\n", arrived)
	return nil
}

// open makes a socket for talking to nlecho. It has no port ID yet.
func open() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, echo)
	if err != nil {
		return -1, fmt.Errorf("opening a Netlink socket for protocol %d (is the module nlecho loaded?): %w", echo, err)
	}
	return fd, nil
}

// greet sends nlecho a greeting. c is written into nlmsg_pid, address C.
func greet(fd int, c uint32) error {
	message := make([]byte, headerLen+len(greeting))
	binary.NativeEndian.PutUint32(message[0:], uint32(len(message)))
	binary.NativeEndian.PutUint32(message[12:], c)
	copy(message[headerLen:], greeting)
	if err := unix.Sendto(fd, message, 0, kernel); err != nil {
		return fmt.Errorf("greeting the kernel: %w", err)
	}
	return nil
}

// reply takes a reply out of the socket's queue and tells whether there was one.
// It does not wait: when greet has returned, nlecho has answered already (lab 4
// is about that). to is the reply's own nlmsg_pid, in which nlecho repeats the
// port ID that it sent the reply to.
func reply(fd int) (to uint32, found bool, err error) {
	buffer := make([]byte, 4096)
	n, _, flags, from, err := unix.Recvmsg(fd, buffer, nil, unix.MSG_DONTWAIT)
	switch sender, _ := from.(*unix.SockaddrNetlink); {
	case errors.Is(err, unix.EAGAIN):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("reading a reply: %w", err)
	case sender == nil || sender.Pid != 0 || flags&unix.MSG_TRUNC != 0 || n < headerLen:
		return 0, false, fmt.Errorf("%d bytes that are no reply of the kernel", n)
	}
	return binary.NativeEndian.Uint32(buffer[12:]), true, nil
}

// take returns a new socket for talking to nlecho whose port ID is port.
//
// Seen when it is right: a netlink_insert with that number, and nlecho_input
// with the same number as portid.
//
//lab:step 1
func take(port uint32) (int, error) {
	fd, err := open()
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// portOf returns the port ID that the socket has by the kernel's own word, 0
// while it has none.
//
// Seen when it is right: it knows the port ID of a socket although nobody told
// it the number.
//
//lab:step 1
func portOf(fd int) (uint32, error) {
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("asking for the socket's address: %w", err)
	}
	own, ok := address.(*unix.SockaddrNetlink)
	if !ok {
		return 0, fmt.Errorf("the address of the socket is a %T", address)
	}
	return own.Pid, nil
}

// chosen returns two port IDs that the kernel chose for two sockets of this
// program, in the order in which it chose them.
//
// Seen when it is right: two sockets that are open at the same time, and for
// each a netlink_insert with a number that the program did not name.
//
//lab:step 2
func chosen() (first, second uint32, err error) {
	var ports [2]uint32
	for i := range ports {
		fd, err := open()
		if err != nil {
			return 0, 0, err
		}
		defer unix.Close(fd) // at the end of chosen: both are open at once
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 0}); err != nil {
			return 0, 0, fmt.Errorf("having the kernel choose: %w", err)
		}
		if ports[i], err = portOf(fd); err != nil {
			return 0, 0, err
		}
	}
	return ports[0], ports[1], nil
}

// signed reads the 32 bits of a port ID as a signed number.
//
// Seen when it is right: the number that the timeline of `make lab-3 run` shows.
//
//lab:step 2
func signed(port uint32) int64 {
	return int64(int32(port))
}

// ask greets the kernel from a socket that was never bound, in a message with
// nlmsg_pid 0, and reads the reply. It returns the port ID by which nlecho knew
// the sender.
//
// Seen when it is right: no netlink_bind, and a reply is queued and read all the
// same.
//
//lab:step 3
func ask() (known uint32, err error) {
	fd, err := open()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := greet(fd, 0); err != nil {
		return 0, err
	}
	to, found, err := reply(fd)
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, errors.New("no reply to a socket that was not bound")
	}
	return to, nil
}

// divert greets the kernel from one socket so that a module which believes the
// header sends its reply to another socket of this program. It returns the port
// ID of the socket that sent the greeting, and that of the socket in whose queue
// the reply was found.
//
// Seen when it is right: with reply_to=header the reply is read from the other
// socket; with reply_to=sender the same code says that it came back to the
// sender.
//
//lab:step 4
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
	for _, fd := range []int{victim, forger} {
		_, found, err := reply(fd)
		if err != nil {
			return 0, 0, err
		}
		if found {
			arrived, err = portOf(fd)
			return 100, arrived, err
		}
	}
	return 0, 0, errors.New("the reply is in neither socket's queue")
}

// experiment finds out which call it is that gives a socket its port ID, if the
// program never names one: socket, recvmsg, connect or sendmsg. For each it
// prints the port ID that a socket has right after that call and did not have
// right before, in lines socket=, recvmsg=, connect= and sendmsg=; 0 means none.
//
// Seen when it is right: between two looks at a socket nothing else was done
// with it but that one call, and the numbers are those of the trace.
//
//lab:step 5
func experiment() error {
	calls := []struct {
		name string
		make func(fd int) error
	}{
		{"socket", nil}, // open makes it
		{"recvmsg", func(fd int) error { _, _, err := reply(fd); return err }},
		{"connect", func(fd int) error { return unix.Connect(fd, kernel) }},
		{"sendmsg", func(fd int) error { return greet(fd, 0) }},
	}
	for _, call := range calls {
		fd, err := open() // a new socket for each: whoever has a number once, keeps it
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		port, err := portOf(fd)
		if err != nil {
			return err
		}
		if call.make != nil {
			if port != 0 {
				return fmt.Errorf("%s: the socket has the port ID %d before the call", call.name, port)
			}
			if err := call.make(fd); err != nil {
				return fmt.Errorf("%s: %w", call.name, err)
			}
			if port, err = portOf(fd); err != nil {
				return err
			}
		}
		fmt.Printf("%s=%d\n", call.name, port)
	}
	return nil
}
