// SPDX-License-Identifier: MIT

// Fails: step 2: "heard="
// That a mask of two bits reaches two groups is taken for granted, and not looked at.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"join", "5", "hello"}
	}
	if err := run(args[0], args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "multicast:", err)
		os.Exit(1)
	}
}

// run takes the step that the first argument names.
func run(mode string, args []string) error {
	var groups []int
	text := ""
	for _, arg := range args {
		if n, err := strconv.Atoi(arg); err == nil {
			groups = append(groups, n)
		} else {
			text = arg
		}
	}
	switch {
	case mode == "join" && len(groups) == 1:
		return join(groups[0], text)
	case mode == "both" && len(groups) == 2:
		return both(groups[0], groups[1])
	case mode == "kernel" && len(groups) == 1:
		return kernel(groups[0])
	case mode == "beyond" && len(groups) == 1:
		return beyond(groups[0])
	case mode == "border":
		return border()
	}
	return errors.New("usage: program join GROUP TEXT | both GROUP GROUP | kernel GROUP | beyond GROUP | border")
}

// verdict is "ok", or the name of the kernel's error: "EINVAL".
func verdict(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// join has two sockets become members of the group, each in its own way, and a third
// one shout the text to it.
//
// Seen when it is right, on protocol NETLINK_USERSOCK: one socket is a member since
// its bind, the other by a socket option; one netlink_broadcast puts the shout into
// the queues of both, and both read it. shout= is what the kernel said to the send.
func join(group int, text string) error {
	mask := bit(group)
	bound, err := open(unix.NETLINK_USERSOCK, mask)
	if err != nil {
		return err
	}
	defer bound.close()
	optional, err := member(unix.NETLINK_USERSOCK, group)
	if err != nil {
		return err
	}
	defer optional.close()
	shouter, err := open(unix.NETLINK_USERSOCK, 0)
	if err != nil {
		return err
	}
	defer shouter.close()

	// What the send says is a result like any other here: who has heard the shout, the
	// listeners know better.
	fmt.Printf("mask=%d\n", mask)
	fmt.Printf("shout=%s\n", verdict(shouter.send(0, mask, text)))
	for _, l := range []struct {
		key string
		*socket
	}{{"by_bind", bound}, {"by_option", optional}} {
		messages, err := l.drain()
		if err != nil {
			return err
		}
		for _, m := range messages {
			fmt.Printf("%s=%s\n", l.key, m.text)
		}
	}
	return nil
}

// both shouts once, to two groups at the same time. Each of the two has a listener
// that is in no other group; the socket that shouts is a member of both.
//
// Seen when it is right, on protocol NETLINK_USERSOCK: one netlink_sendmsg whose
// address has two groups in it; afterwards all three sockets are asked what they have
// heard, and none of them waits.
func both(first, second int) error {
	mask := bit(first) | bit(second)
	shouter, err := open(unix.NETLINK_USERSOCK, mask)
	if err != nil {
		return err
	}
	defer shouter.close()
	groups := []int{first, second}
	var listeners []*socket
	for _, group := range groups {
		l, err := member(unix.NETLINK_USERSOCK, group)
		if err != nil {
			return err
		}
		defer l.close()
		listeners = append(listeners, l)
	}

	_ = shouter.send(0, mask, "both of you!") // step 1 has told what this says
	for i, l := range listeners {
		messages, err := l.drain()
		if err != nil {
			return err
		}
		_ = messages
		fmt.Printf("heard=%d\n", groups[i])
	}
	own, err := shouter.drain()
	if err != nil {
		return err
	}
	fmt.Printf("own=%s\n", yes(len(own) > 0))
	return nil
}

// kernel shouts twice to the group on nlecho's protocol. A listener hears both, each
// once. nlecho hears the first shout, and answers whoever shouted; the second one it
// does not hear.
//
// Seen when it is right: nlecho gets one message, with the number of the group beside
// it. After each shout a line listener= with the number of messages that the listener
// has got by it, and a line replies= with the number that the shouter has got from
// the kernel.
func kernel(group int) error {
	shouter, err := open(echo, 0)
	if err != nil {
		return err
	}
	defer shouter.close()
	listener, err := member(echo, group)
	if err != nil {
		return err
	}
	defer listener.close()

	// A copy of each shout goes to the port of the address. Port ID 0 is the kernel's.
	// Of all the others the shouter's own does no harm: it is no reply that it gets then.
	for _, port := range []uint32{0, shouter.port} {
		if err := shouter.send(port, bit(group), "anybody there?"); err != nil {
			return err
		}
		heard, err := listener.drain()
		if err != nil {
			return err
		}
		answers, err := shouter.drain()
		if err != nil {
			return err
		}
		replies := 0
		for _, m := range answers {
			if m.from == 0 {
				replies++
			}
		}
		fmt.Printf("listener=%d\n", len(heard))
		fmt.Printf("replies=%d\n", replies)
	}
	return nil
}

// beyond joins the group on nlecho's protocol, which nlecho now answers to, whatever
// its number is, and greets nlecho.
//
// Seen when it is right: each reply of nlecho is put into the queue of a member, and
// read there. news= is how many came, groups= what the address beside the first of
// them has for groups, as a decimal number.
func beyond(group int) error {
	listener, err := member(echo, group)
	if err != nil {
		return err
	}
	defer listener.close()
	greeter, err := open(echo, 0)
	if err != nil {
		return err
	}
	defer greeter.close()
	if err := greeter.send(0, 0, "tell them all"); err != nil {
		return err
	}
	news, err := listener.drain()
	if err != nil {
		return err
	}
	fmt.Printf("news=%d\n", len(news))
	if len(news) > 0 {
		fmt.Printf("groups=%d\n", news[0].groups)
	}
	return nil
}

// border is the experiment: two members of the same group, on the same protocol, in
// two network namespaces, and a shout in one of them.
//
// Seen when it is right: a shout that could have been heard by a member here and by a
// member there, and another one that the member there does hear.
func border() error {
	const group = 9
	here, err := member(unix.NETLINK_USERSOCK, group)
	if err != nil {
		return err
	}
	defer here.close()
	shouter, err := open(unix.NETLINK_USERSOCK, 0)
	if err != nil {
		return err
	}
	defer shouter.close()

	// A socket belongs to the network namespace in which it was made, whoever uses it
	// later. So the other one is needed for a moment only.
	var there, neighbour *socket
	err = abroad(func() (err error) {
		if there, err = member(unix.NETLINK_USERSOCK, group); err != nil {
			return err
		}
		neighbour, err = open(unix.NETLINK_USERSOCK, 0)
		return err
	})
	if err != nil {
		return err
	}
	defer there.close()
	defer neighbour.close()

	_ = shouter.send(0, bit(group), "hello, world")
	for _, l := range []struct {
		key string
		*socket
	}{{"here", here}, {"there", there}} {
		messages, err := l.drain()
		if err != nil {
			return err
		}
		fmt.Printf("%s=%s\n", l.key, yes(len(messages) > 0))
	}

	// Silence proves something only of a socket that can hear: a shout from next door.
	_ = neighbour.send(0, bit(group), "hello, neighbour")
	messages, err := there.drain()
	if err != nil {
		return err
	}
	fmt.Printf("control=%s\n", yes(len(messages) > 0))
	return nil
}

// abroad runs do in a new network namespace.
func abroad(do func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("a new network namespace: %w", err)
			return
		}
		result <- do()
	}()
	return <-result
}

// echo is the Netlink protocol of the module nlecho.
const echo = 25

// socket is a Netlink socket that has a port ID.
type socket struct {
	fd   int
	port uint32
}

// heard is a message, and what the address beside it says.
type heard struct {
	from   uint32 // port ID of the sender
	groups uint32 // mask of the group that it was sent to
	text   string
}

// bit is the mask of a group in an address: the first group has the lowest bit. A
// group above 32 has none.
func bit(group int) uint32 { return 1 << (group - 1) }

// yes is "yes" or "no".
func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// open makes a socket of the protocol, with a port ID that the kernel chooses. It is
// a member of the groups of mask, and of no other.
func open(protocol int, mask uint32) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("opening a Netlink socket for protocol %d (is the module nlecho loaded?): %w", protocol, err)
	}
	s := &socket{fd: fd}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: mask}); err != nil {
		s.close()
		return nil, fmt.Errorf("binding to any port, and to the groups %#x: %w", mask, err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("asking for the port: %w", err)
	}
	s.port = address.(*unix.SockaddrNetlink).Pid
	return s, nil
}

// member makes a socket of the protocol that is a member of the group, which may be
// above 32.
func member(protocol, group int) (*socket, error) {
	s, err := open(protocol, 0) // bound first: without a port ID a member hears nothing
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
		s.close()
		return nil, fmt.Errorf("joining group %d: %w", group, err)
	}
	return s, nil
}

func (s *socket) close() { unix.Close(s.fd) }

// send sends a message with the text to a port and to the groups of mask.
func (s *socket) send(port, mask uint32, text string) error {
	message := make([]byte, unix.SizeofNlMsghdr+len(text))
	binary.NativeEndian.PutUint32(message, uint32(len(message)))
	copy(message[unix.SizeofNlMsghdr:], text)
	return unix.Sendto(s.fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port, Groups: mask})
}

// drain takes out of the queue what is there, and does not wait for more: a message
// is in the queues of all who hear it when the send returns.
func (s *socket) drain() ([]heard, error) {
	var messages []heard
	buffer := make([]byte, 8192)
	for {
		n, address, err := unix.Recvfrom(s.fd, buffer, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return messages, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("receiving at port %d: %w", s.port, err)
		}
		from, ok := address.(*unix.SockaddrNetlink)
		if !ok || n < unix.SizeofNlMsghdr {
			return nil, fmt.Errorf("%d bytes at port %d that are no message", n, s.port)
		}
		messages = append(messages, heard{from.Pid, from.Groups, unix.ByteSliceToString(buffer[unix.SizeofNlMsghdr:n])})
	}
}
