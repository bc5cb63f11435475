// SPDX-License-Identifier: MIT

// This program greets the kernel by hand. It builds a Netlink message byte by
// byte, sends it with sendmsg(2), and reads each reply with recvmsg(2).
//
//	program [GREETING]
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
	echo = 25  // the Netlink protocol on which the module nlecho listens
	port = 100 // the port ID of our socket, address A: any number that is free

	headerLen = unix.SizeofNlMsghdr // 16 bytes, struct nlmsghdr of linux/netlink.h
)

// reply is what receive makes of one message from the kernel.
type reply struct {
	bytes int    // size of the message, header included
	from  uint32 // port ID of the sender
	text  string // what it says
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

// talk greets the kernel and reports what it hears, a line KEY=value for each
// thing that the check compares with what the kernel saw.
func talk(greeting string) error {
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

	replies, err := expected()
	if err != nil {
		return err
	}
	for n := range replies {
		r, err := receive(fd)
		if errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("reply %d of %d did not come within two seconds: %w", n+1, replies, err)
		}
		if err != nil {
			return fmt.Errorf("receiving reply %d of %d: %w", n+1, replies, err)
		}
		fmt.Printf("bytes=%d\n", r.bytes)
		fmt.Printf("from=%d\n", r.from)
		fmt.Printf("reply=%s\n", r.text)
	}
	return nil
}

// open makes a socket for talking to nlecho and gives it the port ID, address A.
func open() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, echo)
	if err != nil {
		return -1, fmt.Errorf("opening a Netlink socket for protocol %d (is the module nlecho loaded?): %w", echo, err)
	}
	// To a message that it cannot make sense of nlecho is silent. After two seconds
	// recvmsg then fails with EAGAIN; without this it would wait for ever.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("limiting the time to wait: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("taking the port ID %d: %w", port, err)
	}
	return fd, nil
}

// send sends greeting to the kernel as one Netlink message, and returns how many
// bytes the kernel took.
//
// Seen when it is right: a netlink_sendmsg to the kernel, whose port ID stands
// in address B; and nlecho_input with a message that ends where the greeting
// ends. The greeting is the whole payload, right behind the header.
//
//lab:step 1
func send(fd int, greeting string) (int, error) {
	message := make([]byte, headerLen+len(greeting))
	binary.NativeEndian.PutUint32(message[0:], uint32(len(message))) // nlmsg_len: from here to the end of the payload
	binary.NativeEndian.PutUint16(message[4:], 0)                    // nlmsg_type: nlecho knows no types
	binary.NativeEndian.PutUint16(message[6:], 0)                    // nlmsg_flags: nor flags
	binary.NativeEndian.PutUint32(message[8:], 1)                    // nlmsg_seq: ours to choose, nlecho repeats it
	binary.NativeEndian.PutUint32(message[12:], 0)                   // nlmsg_pid, address C: the kernel knows us by A
	copy(message[headerLen:], greeting)

	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 0, Groups: 0} // address B
	n, err := unix.SendmsgN(fd, message, nil, kernel, 0)
	if err != nil {
		return 0, fmt.Errorf("sendmsg: %w", err)
	}
	return n, nil
}

// receive takes one reply out of the socket's queue. What is no whole Netlink
// message, or is not from the kernel, is an error.
//
// Seen when it is right: for each reply of nlecho one netlink_recvmsg, which
// returns the whole of it; its size, its sender's port ID, and a text that ends
// where people would end it.
//
//lab:step 3
func receive(fd int) (reply, error) {
	buffer := make([]byte, 4096)
	n, _, flags, address, err := unix.Recvmsg(fd, buffer, nil, 0)
	if err != nil {
		return reply{}, fmt.Errorf("recvmsg: %w", err)
	}
	if flags&unix.MSG_TRUNC != 0 {
		return reply{}, fmt.Errorf("a message of more than %d bytes: the rest of it is lost", len(buffer))
	}
	sender, ok := address.(*unix.SockaddrNetlink)
	if !ok {
		return reply{}, errors.New("a message without the address of its sender")
	}
	if sender.Pid != 0 {
		return reply{}, fmt.Errorf("a message from port %d, which is not the kernel", sender.Pid)
	}
	message := buffer[:n]
	if n < headerLen {
		return reply{}, fmt.Errorf("%d bytes, which is less than a header", n)
	}
	length := binary.NativeEndian.Uint32(message)
	if length < headerLen || length > uint32(n) {
		return reply{}, fmt.Errorf("nlmsg_len is %d in a message of %d bytes", length, n)
	}
	return reply{
		bytes: n,
		from:  sender.Pid,
		text:  unix.ByteSliceToString(message[headerLen:length]),
	}, nil
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
