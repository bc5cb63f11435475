// SPDX-License-Identifier: MIT

// This program makes the kernel answer itself, and shows what decides whether it
// does.
//
//	program [crash | survive | experiment]
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
	echo   = 25  // the Netlink protocol on which the module nlecho listens
	nobody = 100 // a port ID that no socket has

	headerLen = unix.SizeofNlMsghdr // 16 bytes, struct nlmsghdr of linux/netlink.h
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
	default:
		err = errors.New("it is crash, survive or experiment")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "port-zero %s: %v\n", mode, err)
		os.Exit(1)
	}
}

// crash sends one message, and the kernel does not survive it. Where it does
// survive, because nlecho answers the sender, the replies are received.
//
// Seen when it is right: level after level in the kernel's lane, each one inside
// the one before, and then the kernel's last words.
//
//lab:step 1
func crash() error {
	fd, err := open(0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := greet(fd, 0); err != nil {
		return err
	}
	// Nobody gets here unless reply_to is sender.
	n, err := expected()
	if err != nil {
		return err
	}
	return receive(fd, n)
}

// survive sends a message that differs from crash's in C only, which is nobody's
// port ID, and prints in a line port= which port ID the socket has got for A = 0.
// It asks the socket for it, not the process.
//
// Seen when it is right: nlecho tries to answer, each time in vain; sendmsg returns;
// the kernel lives. No reply is waited for, since none will come.
//
//lab:step 3
func survive() error {
	fd, err := open(0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := greet(fd, nobody); err != nil {
		return err
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("asking for the socket's own address: %w", err)
	}
	address, ok := own.(*unix.SockaddrNetlink)
	if !ok {
		return fmt.Errorf("the socket's own address is a %T", own)
	}
	fmt.Printf("port=%d\n", address.Pid)
	return nil
}

// receive takes n replies out of the socket's queue and prints the text of each in a
// line reply=.
//
// Seen when it is right: crash, with reply_to=sender, reads every reply of nlecho,
// and prints as many lines as there are replies.
//
//lab:step 4
func receive(fd, n int) error {
	buffer := make([]byte, 4096)
	for i := range n {
		size, _, flags, from, err := unix.Recvmsg(fd, buffer, nil, 0)
		if err != nil {
			return fmt.Errorf("receiving reply %d of %d: %w", i+1, n, err)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			return fmt.Errorf("reply %d of %d is not from the kernel", i+1, n)
		}
		if size < headerLen || flags&unix.MSG_TRUNC != 0 {
			return fmt.Errorf("reply %d of %d is not whole: %d bytes", i+1, n, size)
		}
		fmt.Printf("reply=%s\n", unix.ByteSliceToString(buffer[headerLen:size]))
	}
	return nil
}

// experiment sends messages, all to the kernel, that show which of the two decides
// whether the kernel answers itself: A, the port ID that the socket is bound to, or
// C, the one in the header.
//
// Seen when it is right: two messages that differ in one of them only, and one of
// which recurses; and two that differ only in the other and behave alike: both
// recurse, or neither does. The check stops each recursion at its third level, so
// that the kernel lives.
//
//lab:step 5
func experiment() error {
	for _, message := range []struct{ a, c uint32 }{
		{a: 4711, c: nobody}, // neither is 0
		{a: 4711, c: 0},      // C alone
		{a: 0, c: nobody},    // A alone
		{a: 0, c: 0},         // both
	} {
		fd, err := open(message.a)
		if err != nil {
			return err
		}
		fmt.Printf("A is %d, C is %d\n", message.a, message.c)
		err = greet(fd, message.c)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// open makes a socket for talking to nlecho and asks for the port ID a, address A.
//
//lab:omit
func open(a uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, echo)
	if err != nil {
		return -1, fmt.Errorf("opening a Netlink socket for protocol %d (is the module nlecho loaded?): %w", echo, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: a}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("asking for the port ID %d: %w", a, err)
	}
	// A reply that does not come is an error after two seconds, and not a program
	// that waits for ever.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("limiting the time to wait: %w", err)
	}
	return fd, nil
}

// greet sends a message with c in the header, address C, to the kernel.
//
//lab:omit
func greet(fd int, c uint32) error {
	const text = "Hello you!"
	message := make([]byte, headerLen, headerLen+len(text))
	binary.NativeEndian.PutUint32(message[0:], uint32(headerLen+len(text))) // nlmsg_len
	binary.NativeEndian.PutUint32(message[12:], c)                          // nlmsg_pid
	message = append(message, text...)

	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK} // address B: port ID 0
	if err := unix.Sendto(fd, message, 0, kernel); err != nil {
		return fmt.Errorf("sending with %d in the header: %w", c, err)
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
