// SPDX-License-Identifier: MIT

// Fails: step 5: "which field of netlink.Message is filled in by your program"
// Every example of the library sets netlink.Request, and so does this one.
package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	echo = 25  // the Netlink protocol on which the module nlecho listens
	port = 100 // the port ID of our socket: any number that is free

	headerLen = unix.SizeofNlMsghdr // 16 bytes, struct nlmsghdr of linux/netlink.h
)

// field is one field of a message's header.
type field struct {
	name  string // as in struct nlmsghdr: nlmsg_len, nlmsg_type, nlmsg_flags, nlmsg_seq, nlmsg_pid
	value uint32
}

func main() {
	times := flag.Int("times", 1, "say the greeting `N` times over, in one message")
	to := flag.Uint("to", 0, "send to this `port` ID; 0 is the kernel")
	flag.Parse()
	greeting := "Hello, kernel"
	if flag.NArg() > 0 {
		greeting = flag.Arg(0)
	}
	if err := talk(strings.Repeat(greeting, *times), uint32(*to)); err != nil {
		fmt.Fprintln(os.Stderr, "sendto:", err)
		os.Exit(1)
	}
}

// talk says the greeting in each way, and reports what the kernel said to it.
func talk(greeting string, to uint32) error {
	replies, err := expected()
	if err != nil {
		return err
	}
	fd, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)

	same := message(greeting)
	ways := []struct {
		key      string
		messages int
		send     func() error
	}{
		{"sendmsg", 1, func() error { return bySendmsg(fd, same, to) }},
		{"sendto", 1, func() error { return bySendto(fd, same, to) }},
		{"bare", 1, func() error { return withoutAddress(fd, same) }},
		{"two", 2, func() error { return bySendto(fd, pack(greeting, greeting), to) }},
	}
	for _, way := range ways {
		err := way.send()
		report(way.key, err)
		if err != nil {
			continue // to what was not sent, there is no reply
		}
		for n := range way.messages * replies {
			text, err := receive(fd)
			if err != nil {
				return fmt.Errorf("%s: reply %d of %d: %w", way.key, n+1, way.messages*replies, err)
			}
			fmt.Printf("reply=%s\n", text)
		}
	}

	differs, err := byLibrary(greeting)
	report("library", err)
	for _, f := range differs {
		fmt.Printf("%s=%d\n", f.name, f.value)
	}
	return nil
}

// open makes a socket for talking to nlecho and gives it the port ID.
func open() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, echo)
	if err != nil {
		return -1, fmt.Errorf("opening a Netlink socket for protocol %d (is the module nlecho loaded?): %w", echo, err)
	}
	// To a message that it cannot make sense of nlecho is silent. After two seconds
	// a receive then fails with EAGAIN; without this it would wait for ever.
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

// message makes a Netlink message of a greeting, as in lab 1: nlmsg_len is what
// the macro NLMSG_LENGTH gives, and the other fields of the header are zero.
func message(greeting string) []byte {
	m := make([]byte, headerLen, headerLen+len(greeting))
	binary.NativeEndian.PutUint32(m, uint32(headerLen+len(greeting)))
	return append(m, greeting...)
}

// bySendmsg sends a datagram to a port by sendmsg(2), as in lab 1.
func bySendmsg(fd int, datagram []byte, to uint32) error {
	address := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: to}
	if _, err := unix.SendmsgN(fd, datagram, nil, address, 0); err != nil {
		return fmt.Errorf("sendmsg to port %d: %w", to, err)
	}
	return nil
}

// bySendto does the same by sendto(2). The error it returns is the kernel's.
//
// Seen when it is right: the system call sendto to the port that is asked for; and
// nlecho_input with the CRC that the message sent by sendmsg had.
func bySendto(fd int, datagram []byte, to uint32) error {
	address := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: to}
	if err := unix.Sendto(fd, datagram, 0, address); err != nil {
		return fmt.Errorf("sendto to port %d: %w", to, err)
	}
	return nil
}

// receive takes one reply out of the socket's queue and returns its text. What is
// no whole Netlink message, or is not from the kernel, is an error.
//
// Seen when it is right: for each reply of nlecho one call of recvfrom(2), which
// returns the whole of it.
func receive(fd int) (string, error) {
	buffer := make([]byte, 4096)
	// recvfrom has no place for flags that come back. Asked with MSG_TRUNC, it
	// returns the message's true length, even where the buffer is shorter.
	n, address, err := unix.Recvfrom(fd, buffer, unix.MSG_TRUNC)
	if err != nil {
		return "", fmt.Errorf("recvfrom: %w", err)
	}
	if n > len(buffer) {
		return "", fmt.Errorf("a message of %d bytes: the last %d of them are lost", n, n-len(buffer))
	}
	sender, ok := address.(*unix.SockaddrNetlink)
	if !ok || sender.Pid != 0 {
		return "", fmt.Errorf("a message from %+v, which is not the kernel", address)
	}
	if n < headerLen {
		return "", fmt.Errorf("%d bytes, which is less than a header", n)
	}
	length := binary.NativeEndian.Uint32(buffer)
	if length < headerLen || length > uint32(n) {
		return "", fmt.Errorf("nlmsg_len is %d in a message of %d bytes", length, n)
	}
	return unix.ByteSliceToString(buffer[headerLen:length]), nil
}

// withoutAddress sends a datagram to the kernel and says nowhere where it is to go:
// not in the call, and not in another one before it. The error is the kernel's.
//
// Seen when it is right: a send with no address, and nlecho_input with the CRC that
// the other two messages had.
func withoutAddress(fd int, datagram []byte) error {
	if _, err := unix.Write(fd, datagram); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// pack makes one datagram with a message for each greeting, one behind the other.
//
// Seen when it is right: nlecho_input for each greeting, inside of one send, with an
// nlmsg_len that ends where that greeting ends.
func pack(greetings ...string) []byte {
	var datagram []byte
	for _, g := range greetings {
		for len(datagram)%unix.NLMSG_ALIGNTO != 0 {
			datagram = append(datagram, 0) // up to where NLMSG_SPACE ends; counted by no nlmsg_len
		}
		datagram = append(datagram, message(g)...)
	}
	return datagram
}

// byLibrary sends the greeting to the kernel with mdlayher/netlink, on a socket of
// its own, and leaves the header to the library. It returns those fields of the
// header whose values are not the ones that message(greeting) has, with the values
// that the library sent.
//
// Seen when it is right: one more nlecho_input with the greeting in it; what is
// returned is the whole difference between its header and the others'.
func byLibrary(greeting string) ([]field, error) {
	conn, err := netlink.Dial(echo, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a second socket: %w", err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, fmt.Errorf("limiting the time to wait: %w", err)
	}
	sent, err := conn.Send(netlink.Message{
		Header: netlink.Header{Flags: netlink.Request},
		Data:   []byte(greeting),
	})
	if err != nil {
		return nil, err
	}
	// One reply is enough: the others go with the socket.
	if _, err := conn.Receive(); err != nil {
		return nil, err
	}

	// Send returns a copy of the message with its header filled in.
	ours, theirs := header(message(greeting)), sent.Header
	var differs []field
	for i, value := range []uint32{
		theirs.Length, uint32(theirs.Type), uint32(theirs.Flags), theirs.Sequence, theirs.PID,
	} {
		if value != ours[i].value {
			differs = append(differs, field{ours[i].name, value})
		}
	}
	return differs, nil
}

// header returns the fields of a message's header.
func header(m []byte) []field {
	return []field{
		{"nlmsg_len", binary.NativeEndian.Uint32(m[0:])},
		{"nlmsg_type", uint32(binary.NativeEndian.Uint16(m[4:]))},
		{"nlmsg_flags", uint32(binary.NativeEndian.Uint16(m[6:]))},
		{"nlmsg_seq", binary.NativeEndian.Uint32(m[8:])},
		{"nlmsg_pid", binary.NativeEndian.Uint32(m[12:])},
	}
}

// report prints how a send ended: KEY=ok, or KEY= and the name of the error number
// that is somewhere in err, whose words go to stderr.
func report(key string, err error) {
	result := "ok"
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		result = "error"
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			result = unix.ErrnoName(errno)
		}
	}
	fmt.Printf("%s=%s\n", key, result)
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
