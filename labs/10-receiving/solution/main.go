// SPDX-License-Identifier: MIT

// This program gets messages from the kernel and from neighbours, and looks at
// what comes with them. It reports:
//
//	copied=, cut=          step 1, both for each message
//	length=                step 2, for each message
//	accepted=              step 3, for each message
//	group=, pid=, uid=     step 4, all three for each message
//	taken=, got=, then=    step 5
//
//	program [STEP [SEED]]
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	echo = 25   // the Netlink protocol on which the module nlecho listens
	page = 4096 // bytes, the buffer of step 1

	// The groups to which a neighbour writes in step 4.
	groupA, groupB = 3, 20
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "receiving:", err)
		os.Exit(1)
	}
}

// seed decides what the neighbours send, and in which order: each takes the next.
// The check begins with another one each time.
var seed uint64 = 1

// run takes all steps, or the one that the first argument names.
func run(args []string) (err error) {
	if len(args) > 1 {
		if seed, err = strconv.ParseUint(args[1], 10, 64); err != nil {
			return fmt.Errorf("usage: program [STEP [SEED]]: %w", err)
		}
	}
	if len(args) == 4 && args[0] == "neighbour" {
		return send(args[2], args[3])
	}
	for i, step := range []func() error{cut, whole, forged, envelope, experiment} {
		if len(args) > 0 && args[0] != strconv.Itoa(i+1) {
			continue
		}
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

// neighbour starts this program once more, as another process, which sends
// something to a port ID on protocol 25. When neighbour returns, all of it has been
// sent.
//
//	neighbour("sizes", port)      messages of several lengths
//	neighbour("replies", port)    some that look like nlecho's replies to greet
//	neighbour("letters", port)    one to the port, one to each of the two groups
func neighbour(what string, port uint32) error {
	seed++
	cmd := exec.Command("/proc/self/exe", "neighbour", fmt.Sprint(seed), what, fmt.Sprint(port))
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the neighbour that sends %s to port %d: %w", what, port, err)
	}
	return nil
}

// greet sends a greeting to the kernel, to which nlecho replies.
func greet(fd int) error {
	hello := message("Hello you!", 26)
	return unix.Sendto(fd, hello, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// message makes a message of so many bytes, with a text behind its header.
func message(text string, length int) []byte {
	m := make([]byte, length)
	binary.NativeEndian.PutUint32(m[0:], uint32(length)) // nlmsg_len
	binary.NativeEndian.PutUint32(m[8:], 1)              // nlmsg_seq: nearly everybody begins with 1
	copy(m[unix.SizeofNlMsghdr:], text)
	return m
}

// send is what a neighbour does: it sends what it was told to, in any order.
func send(what, to string) error {
	n, err := strconv.ParseUint(to, 10, 32)
	if err != nil {
		return err
	}
	port := uint32(n)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, echo)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	random := rand.New(rand.NewPCG(seed, seed))
	// Some number that is not its process ID.
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 90_000 + random.Uint32N(9000)}); err != nil {
		return err
	}
	type letter struct {
		message []byte
		port    uint32
		group   int
	}
	var letters []letter
	switch what {
	case "sizes":
		// One of them is two messages, which come and go together.
		two := slices.Concat(message("one", 4000), message("two", 16_000+random.IntN(30_000)))
		letters = append(letters, letter{two, port, 0})
		for _, size := range []int{100 + random.IntN(3000), page, page + 1 + random.IntN(2*page)} {
			letters = append(letters, letter{message("one", size), port, 0})
		}
	case "replies":
		for range 1 + random.IntN(3) {
			reply := message("I am from kernel!", 1040)
			binary.NativeEndian.PutUint32(reply[12:], port) // nlmsg_pid: to whom, as the kernel writes it
			letters = append(letters, letter{reply, port, 0})
		}
	case "letters":
		for _, group := range []int{0, groupA, groupB} {
			l := letter{message("from a neighbour", 36), port, group}
			if group != 0 {
				l.port = 0
			}
			letters = append(letters, l)
		}
	}
	random.Shuffle(len(letters), func(i, j int) { letters[i], letters[j] = letters[j], letters[i] })
	for _, l := range letters {
		address := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: l.port}
		if l.group != 0 {
			address.Groups = 1 << (l.group - 1)
		}
		if err := unix.Sendto(fd, l.message, 0, address); err != nil {
			return fmt.Errorf("sending %d bytes to port %d: %w", len(l.message), l.port, err)
		}
	}
	return nil
}

// cut has a neighbour send "sizes" and reads each message with a buffer of one
// page. For each it reports how many bytes of it are in the buffer, copied=, and
// whether that is less than the message had, cut=true or cut=false.
//
// Seen when it is right: one recvmsg for each message, some of them "4096 bytes
// of" more.
//
//lab:step 1
func cut() error {
	fd, port, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := neighbour("sizes", port); err != nil {
		return err
	}
	buffer := make([]byte, page)
	return drain(fd, buffer, nil, func(p parcel) error {
		fmt.Printf("copied=%d\n", p.n)
		fmt.Printf("cut=%t\n", p.flags&unix.MSG_TRUNC != 0)
		return nil
	})
}

// whole has a neighbour send "sizes" and reads each message whole, into a buffer
// that is just as long as the message. For each it reports length=.
//
// Seen when it is right: each message is read by a recvmsg whose buffer it fills,
// and nothing of it is lost.
//
//lab:step 2
func whole() error {
	fd, port, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := neighbour("sizes", port); err != nil {
		return err
	}
	for {
		// How long is the next one? It stays where it is.
		n, _, err := unix.Recvfrom(fd, nil, unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("asking for the length: %w", err)
		}
		p, err := receive(fd, make([]byte, n), nil)
		if err != nil {
			return err
		}
		fmt.Printf("length=%d\n", p.n)
	}
}

// forged has a neighbour send "replies", greets the kernel, and has a neighbour
// send "replies" once more. Then it reads all that has come, and reports for each
// message whether it is the kernel's: accepted=true or accepted=false.
//
// Seen when it is right: accepted=true as often as nlecho has replied, and not
// where a neighbour has sent.
//
//lab:step 3
func forged() error {
	fd, port, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := neighbour("replies", port); err != nil {
		return err
	}
	if err := greet(fd); err != nil {
		return fmt.Errorf("greeting the kernel: %w", err)
	}
	if err := neighbour("replies", port); err != nil {
		return err
	}
	return drain(fd, make([]byte, page), nil, func(p parcel) error {
		fmt.Printf("accepted=%t\n", p.from == 0)
		return nil
	})
}

// envelope listens to both groups, has a neighbour send "letters", greets the
// kernel, and has another neighbour send "letters". Then it reads all that has
// come, and reports for each message the number of the group that it was sent to,
// group= (0: none), and which process and user sent it, pid= and uid=, as the
// kernel says.
//
// Seen when it is right: a group, a process and a user behind each recvmsg.
//
//lab:step 4
func envelope() error {
	fd, port, err := open(groupA, groupB)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_PKTINFO, 1); err != nil {
		return fmt.Errorf("asking for the group: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return fmt.Errorf("asking for the sender: %w", err)
	}
	if err := neighbour("letters", port); err != nil {
		return err
	}
	if err := greet(fd); err != nil {
		return fmt.Errorf("greeting the kernel: %w", err)
	}
	if err := neighbour("letters", port); err != nil {
		return err
	}
	const sizeofPktinfo = 4 // struct nl_pktinfo: the number of the group
	beside := make([]byte, unix.CmsgSpace(sizeofPktinfo)+unix.CmsgSpace(unix.SizeofUcred))
	return drain(fd, make([]byte, page), beside, func(p parcel) error {
		for _, c := range p.beside {
			switch {
			case c.Header.Level == unix.SOL_NETLINK && c.Header.Type == unix.NETLINK_PKTINFO:
				fmt.Printf("group=%d\n", binary.NativeEndian.Uint32(c.Data))
			case c.Header.Level == unix.SOL_SOCKET && c.Header.Type == unix.SCM_CREDENTIALS:
				sender, err := unix.ParseUnixCredentials(&c)
				if err != nil {
					return fmt.Errorf("reading the credentials: %w", err)
				}
				fmt.Printf("pid=%d\n", sender.Pid)
				fmt.Printf("uid=%d\n", sender.Uid)
			}
		}
		return nil
	})
}

// experiment finds out who is told what a filter drops: see the text. It reports
// what the send of a message returned that was dropped, taken=, how many messages
// the receiver has read, got=, and what recvmsg said when it asked for more, then=.
//
// Seen when it is right: of two messages of different lengths, to the same port, the
// filter drops one, and the other is read.
//
//lab:step 5
func experiment() error {
	fd, port, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const wanted, unwanted = 0x1234, 0x1235 // nlmsg_type
	if err := attach(fd, wanted); err != nil {
		return fmt.Errorf("attaching the filter: %w", err)
	}
	sender, _, err := open()
	if err != nil {
		return err
	}
	defer unix.Close(sender)
	for i, kind := range []uint16{unwanted, wanted} {
		m := message("which one?", 26+8*i) // two lengths: taken= tells which one was dropped
		binary.NativeEndian.PutUint16(m[4:], kind)
		n, err := unix.SendmsgN(sender, m, nil, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port}, 0)
		switch {
		case kind == wanted && err != nil:
			return fmt.Errorf("sending what is to pass: %w", err)
		case kind == unwanted && err != nil:
			fmt.Printf("taken=%s\n", name(err))
		case kind == unwanted:
			fmt.Printf("taken=%d\n", n)
		}
	}
	for got := 0; ; got++ {
		if _, err := receive(fd, make([]byte, page), nil); err != nil {
			fmt.Printf("got=%d\n", got)
			fmt.Printf("then=%s\n", name(err))
			return nil
		}
	}
}

// attach gives the socket a filter that only lets messages of one type pass.
//
//lab:omit
func attach(fd int, kind uint16) error {
	// The filter's machine reads two bytes as a packet from the network has them, the
	// higher one first. A Netlink header has them as this machine does.
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], kind)
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4}, // nlmsg_type
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(binary.BigEndian.Uint16(b[:])), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff}, // so many bytes may pass: all
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},          // none
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// open makes a socket that listens to these groups, with a port ID that the kernel
// chooses.
//
//lab:omit
func open(groups ...int) (fd int, port uint32, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, echo)
	if err != nil {
		return -1, 0, fmt.Errorf("opening a socket of protocol %d (is the module nlecho loaded?): %w", echo, err)
	}
	address := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, g := range groups {
		address.Groups |= 1 << (g - 1)
	}
	err = unix.Bind(fd, address)
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if own, ok := name.(*unix.SockaddrNetlink); ok && err == nil {
		return fd, own.Pid, nil
	}
	unix.Close(fd)
	return -1, 0, fmt.Errorf("taking a port ID: %w", err)
}

// parcel is what one recvmsg returned.
//
//lab:omit
type parcel struct {
	n      int    // bytes in the buffer
	flags  int    // MSG_TRUNC: there were more
	from   uint32 // the sender's port ID; 0: the kernel
	beside []unix.SocketControlMessage
}

// receive takes the next message out of the queue. Where there is none it fails
// with EAGAIN.
//
//lab:omit
func receive(fd int, buffer, beside []byte) (p parcel, err error) {
	n, m, flags, from, err := unix.Recvmsg(fd, buffer, beside, unix.MSG_DONTWAIT)
	if err != nil {
		return p, fmt.Errorf("recvmsg: %w", err)
	}
	sender, ok := from.(*unix.SockaddrNetlink)
	if !ok {
		return p, fmt.Errorf("a message from %v, which is no Netlink address", from)
	}
	p = parcel{n: n, flags: flags, from: sender.Pid}
	if p.beside, err = unix.ParseSocketControlMessage(beside[:m]); err != nil {
		return p, fmt.Errorf("what came beside the message: %w", err)
	}
	return p, nil
}

// drain reads what lies in the queue, and calls each for it.
//
//lab:omit
func drain(fd int, buffer, beside []byte, each func(parcel) error) error {
	for {
		p, err := receive(fd, buffer, beside)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err == nil {
			err = each(p)
		}
		if err != nil {
			return err
		}
	}
}

// name is what errno(3) calls an error.
//
//lab:omit
func name(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}
