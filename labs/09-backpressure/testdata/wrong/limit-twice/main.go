// SPDX-License-Identifier: MIT

// Fails: step 3: "but for the time limit nothing ended a sender's sleep"
// Nobody reads, so the sleep needs an end: a limit, the second time as well.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const echo = 25 // the Netlink protocol of the module nlecho

func init() {
	// main keeps the process's first thread: no other goroutine runs on that one.
	runtime.LockOSThread()
}

func main() {
	experiment, number := "sleep", 12
	var err error
	if len(os.Args) > 1 {
		experiment = os.Args[1]
	}
	if len(os.Args) > 2 {
		number, err = strconv.Atoi(os.Args[2])
	}
	if err == nil {
		err = try(experiment, number)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "backpressure:", err)
		os.Exit(1)
	}
}

// try does one of the experiments. number is that of the questions to ask in
// recover.
func try(experiment string, number int) error {
	switch experiment {
	case "fill":
		return fill()
	case "sleep":
		return sleep()
	case "end":
		return end()
	case "kernel":
		return kernel()
	case "shout":
		return shout()
	case "recover":
		return regain(number)
	}
	return fmt.Errorf("there is no experiment %q: it is fill, sleep, end, kernel, shout or recover", experiment)
}

// size is that of our messages: the same as a reply of nlecho. queue is what the
// reader asks for as its SO_RCVBUF, room for a handful of them.
const (
	size  = 1040
	queue = 8192
)

// fill sends from one socket to another, which nobody reads, without ever waiting,
// until the queue is full. Then it reads all that is there.
//
// Seen when it is right: messages that fit, one that is refused at once, and then as
// many reads as messages fitted, the first of them without any error.
func fill() error {
	p, err := newPair(0)
	if err != nil {
		return err
	}
	defer p.close()
	queued, full := p.fill()
	fmt.Printf("full=%s\n", name(full))
	fmt.Printf("queued=%d\n", queued)
	read, err := drain(p.reader, nil)
	if err != nil {
		return err
	}
	fmt.Printf("read=%d\n", read)
	return nil
}

// sleep sends to a socket whose queue is full, and waits for room. While the sender
// sleeps it is looked at; then one message is read.
//
// Seen when it is right: a send in which a task goes to sleep, the lines tid= and
// state=, a read that wakes it, and only then the return of the send.
func sleep() error {
	p, err := newPair(0)
	if err != nil {
		return err
	}
	defer p.close()
	p.fill()
	s := p.start()
	state, err := s.asleep()
	if err != nil {
		return err
	}
	fmt.Printf("tid=%d\n", s.tid)
	fmt.Printf("state=%s\n", state)
	if _, err := receive(p.reader, 0); err != nil {
		return err
	}
	return <-s.returned
}

// end lets a sender sleep at a full queue twice, and nobody reads. The first time a
// limit ends it, that was set before; the second time something else does.
//
// Seen when it is right: a send that sleeps and fails when the time is up, and
// another one that sleeps and fails of something else.
func end() error {
	limited, err := newPair(0)
	if err != nil {
		return err
	}
	defer limited.close()
	limited.fill()
	limit := unix.NsecToTimeval(int64(100 * time.Millisecond))
	if err := unix.SetsockoptTimeval(limited.sender, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return err
	}
	err = unix.EINTR
	for errors.Is(err, unix.EINTR) { // a signal that has nothing to do with us
		err = limited.send(0)
	}
	fmt.Printf("limit=%s\n", name(err))

	left, err := newPair(0)
	if err != nil {
		return err
	}
	defer left.close()
	left.fill()
	if err := unix.SetsockoptTimeval(left.sender, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return err
	}
	s := left.start()
	fmt.Printf("other=%s\n", name(<-s.returned))
	return nil
}

// kernel lets nlecho send more than a queue holds: to a reader that has not read,
// to one that has read a single message, and to one that has read all.
//
// Seen when it is right: replies that are refused, a first recvmsg that fails and a
// second that does not, and another two greetings.
func kernel() error {
	fd, port, err := listen(echo, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// greeted greets nlecho and reports how many of its messages were dropped so far.
	greeted := func(key string) error {
		if err := ask(fd, 1); err != nil {
			return err
		}
		n, err := drops(echo, port)
		if err == nil {
			fmt.Printf("%s=%d\n", key, n)
		}
		return err
	}

	if err := greeted("drops"); err != nil {
		return err
	}
	_, first := receive(fd, unix.MSG_DONTWAIT)
	fmt.Printf("first=%s\n", name(first))
	if _, err := receive(fd, unix.MSG_DONTWAIT); err != nil {
		return err
	}
	if err := greeted("room"); err != nil {
		return err
	}
	read, err := drain(fd, nil)
	if err != nil {
		return err
	}
	fmt.Printf("read=%d\n", 1+read)
	return greeted("empty")
}

// shout sends to a group while the queue of a member is full, and reads what that
// member has then.
//
// Seen when it is right: a queue that is full, a send to a group that does not
// sleep, and a first read that tells of the loss.
func shout() error {
	const group = 1 // a mask: group number 1
	p, err := newPair(group)
	if err != nil {
		return err
	}
	defer p.close()
	p.fill()
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group}
	// ECONNREFUSED is about port 0, which a message to a group goes to as well.
	if err := unix.Sendto(p.sender, message(1), 0, to); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	_, first := receive(p.reader, unix.MSG_DONTWAIT)
	fmt.Printf("shout=%s\n", name(first))
	read, err := drain(p.reader, nil)
	if err != nil {
		return err
	}
	fmt.Printf("read=%d\n", read)
	return nil
}

// regain asks nlecho that many questions, with nlmsg_seq 1, 2, 3 ..., and reads no
// answer before the last one has been asked. Some answers are lost; in the end every
// question has been answered all the same.
//
// Seen when it is right: replies that are refused, and for each nlmsg_seq a reply
// that was read.
func regain(number int) error {
	fd, port, err := listen(echo, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	missing := map[int]bool{}
	for seq := range number {
		missing[seq+1] = true
	}
	for len(missing) > 0 {
		for _, seq := range slices.Sorted(maps.Keys(missing)) {
			if err := ask(fd, seq); err != nil {
				return err
			}
		}
		// To the last message: before that the kernel drops whatever it would send,
		// and does not say so again.
		if _, err := drain(fd, missing); err != nil {
			return err
		}
	}
	lost, err := drops(echo, port)
	if err != nil {
		return err
	}
	fmt.Printf("lost=%d\n", lost)
	fmt.Printf("answered=%d\n", number)
	return nil
}

// listen makes a socket with a small queue, in the groups of the mask, and returns
// the port ID that the kernel has given to it.
func listen(protocol int, groups uint32) (fd int, port uint32, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, 0, fmt.Errorf("opening a Netlink socket for protocol %d: %w", protocol, err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, queue); err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
	}
	var own unix.Sockaddr
	if err == nil {
		own, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, 0, fmt.Errorf("a reader on protocol %d: %w", protocol, err)
	}
	return fd, own.(*unix.SockaddrNetlink).Pid, nil
}

// pair is a sender, and a reader that does not read by itself.
type pair struct {
	reader, sender int
	port           uint32 // of the reader
}

// newPair makes two sockets on the protocol that the kernel leaves to programs. The
// reader is in the groups of the mask.
func newPair(groups uint32) (*pair, error) {
	reader, port, err := listen(unix.NETLINK_USERSOCK, groups)
	if err != nil {
		return nil, err
	}
	sender, _, err := listen(unix.NETLINK_USERSOCK, 0)
	if err != nil {
		unix.Close(reader)
		return nil, err
	}
	return &pair{reader, sender, port}, nil
}

func (p *pair) close() {
	unix.Close(p.sender)
	if p.reader >= 0 {
		unix.Close(p.reader)
	}
}

// send sends one message to the reader.
func (p *pair) send(flags int) error {
	return unix.Sendto(p.sender, message(1), flags, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: p.port})
}

// fill sends until the kernel refuses. It returns how many messages fitted, and what
// the kernel said then.
func (p *pair) fill() (queued int, full error) {
	for {
		if err := p.send(unix.MSG_DONTWAIT); err != nil {
			return queued, err
		}
		queued++
	}
}

// sending is a send under way, in a thread of its own.
type sending struct {
	tid      int
	returned chan error
}

// start begins to send one message to the reader, for as long as it takes.
func (p *pair) start() *sending {
	s := &sending{returned: make(chan error, 1)}
	tid := make(chan int)
	go func() {
		// From here on this goroutine is this thread, and no other.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		s.returned <- p.send(0)
	}()
	s.tid = <-tid
	return s
}

// asleep waits until the sender sleeps in its send, and returns in which state. (A
// thread of Go's sleeps in other system calls, too: when it has nothing to do.)
func (s *sending) asleep() (state string, err error) {
	dir := fmt.Sprintf("/proc/self/task/%d/", s.tid)
	for {
		// "44 0x4 ...": the number of the call that it sleeps in; or "running".
		text, err := os.ReadFile(dir + "syscall")
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(string(text), fmt.Sprintf("%d ", unix.SYS_SENDTO)) {
			time.Sleep(time.Millisecond)
			continue
		}
		stat, err := os.ReadFile(dir + "stat")
		if err != nil {
			return "", err
		}
		// "77 (name) S 1 ...": the name may hold anything, but behind it come no more
		// parentheses.
		return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[0], nil
	}
}

// message builds a message of our size with that nlmsg_seq.
func message(seq int) []byte {
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, size)            // nlmsg_len
	binary.NativeEndian.PutUint32(b[8:], uint32(seq)) // nlmsg_seq
	return b
}

// ask sends one question to nlecho.
func ask(fd, seq int) error {
	return unix.Sendto(fd, message(seq), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// receive takes one message out of the queue and returns its nlmsg_seq.
func receive(fd, flags int) (seq int, err error) {
	b := make([]byte, 2*size)
	n, _, err := unix.Recvfrom(fd, b, flags)
	if err != nil {
		return 0, err
	}
	if n < unix.SizeofNlMsghdr {
		return 0, fmt.Errorf("%d bytes, which are no message", n)
	}
	return int(binary.NativeEndian.Uint32(b[8:])), nil
}

// drain reads until the queue is empty, and returns how many messages that were. What
// they answer is missing no longer. A loss that the kernel tells of on the way is no
// reason to stop.
func drain(fd int, missing map[int]bool) (read int, err error) {
	for {
		switch seq, err := receive(fd, unix.MSG_DONTWAIT); {
		case err == nil:
			read++
			delete(missing, seq)
		case errors.Is(err, unix.ENOBUFS):
		case errors.Is(err, unix.EAGAIN):
			return read, nil
		default:
			return read, err
		}
	}
}

// drops returns how many messages for the socket with that port ID the kernel has
// dropped, by its own count.
func drops(protocol int, port uint32) (int, error) {
	f, err := os.Open("/proc/net/netlink")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// sk  Eth  Pid  Groups  Rmem  Wmem  Dump  Locks  Drops  Inode
	for s := bufio.NewScanner(f); s.Scan(); {
		c := strings.Fields(s.Text())
		if len(c) > 8 && c[1] == strconv.Itoa(protocol) && c[2] == strconv.FormatUint(uint64(port), 10) {
			return strconv.Atoi(c[8])
		}
	}
	return 0, fmt.Errorf("no socket of protocol %d with port ID %d in /proc/net/netlink", protocol, port)
}

// name is what errno(3) calls an error: "EAGAIN".
func name(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}
