// SPDX-License-Identifier: MIT

// Fails: step 5: "printed no line waits="
// The queue is full, and then a file of the module is asked instead of the queue. It is
// there, and not even root can read it.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What nlnotify and its listeners have agreed upon.
const (
	protocol    = 26
	group       = 1
	typeNews    = 16
	typeLeaving = 17
	typeGet     = 18

	parameters = "/sys/module/nlnotify/parameters/"
)

func main() {
	mode, number := "daemon", 0
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	if len(os.Args) > 2 {
		number, _ = strconv.Atoi(os.Args[2]) // no number is 0
	}
	var err error
	switch mode {
	case "hear":
		err = hear(number)
	case "wait":
		err = wait(time.Duration(number) * time.Millisecond)
	case "daemon":
		err = daemon()
	case "burst":
		err = burst()
	case "experiment":
		err = experiment()
	default:
		err = fmt.Errorf("there is no mode %q: it is hear, wait, daemon, burst or experiment", mode)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernel-first:", err)
		os.Exit(1)
	}
}

// hear listens with three sockets, one at the agreed port and two in the group, until
// each has heard n notices.
//
// Seen when it is right: a line port=P with the agreed port; by_port= for each notice at
// that port, by_group= for each notice at either of the other two; and no sendmsg.
func hear(n int) error {
	port, err := agreedPort()
	if err != nil {
		return err
	}
	listeners := []struct {
		key    string
		config netlink.Config
		conn   *netlink.Conn
	}{
		{key: "by_port", config: netlink.Config{PID: port}},
		{key: "by_group", config: netlink.Config{Groups: 1 << (group - 1)}},
		{key: "by_group", config: netlink.Config{Groups: 1 << (group - 1)}},
	}
	for i := range listeners {
		l := &listeners[i]
		if l.conn, err = netlink.Dial(protocol, &l.config); err != nil {
			return fmt.Errorf("opening a socket for %s: %w", l.key, err)
		}
		defer l.conn.Close()
	}
	fmt.Printf("port=%d\n", port)
	var all sync.WaitGroup
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		all.Go(func() {
			for range n {
				messages, err := l.conn.Receive()
				if err != nil {
					failed <- err
					return
				}
				for _, m := range messages {
					fmt.Printf("%s=%d\n", l.key, numberOf(m))
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// wait listens to the group. Where nothing comes for as long as the limit, it says so
// and waits on. SIGTERM ends it, at once, whatever the limit is.
//
// Seen when it is right: idle=K after the K-th wait in vain, news=NUMBER for each
// notice; after SIGTERM the socket is closed, stopped=K says how many notices were heard,
// and the exit code is 0.
func wait(limit time.Duration) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	conn, err := netlink.Dial(protocol, &netlink.Config{Groups: 1 << (group - 1)})
	if err != nil {
		return err
	}
	idle, heard := 0, 0
	for {
		messages, err := receive(ctx, conn, limit)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			err := conn.Close()
			fmt.Printf("stopped=%d\n", heard)
			return err
		case errors.Is(err, os.ErrDeadlineExceeded):
			idle++
			fmt.Printf("idle=%d\n", idle)
		default:
			conn.Close()
			return err
		}
		for _, m := range messages {
			if m.Header.Type == typeNews {
				heard++
				fmt.Printf("news=%d\n", numberOf(m))
			}
		}
	}
}

// daemon listens to the group until SIGTERM ends it. When the module says that it
// wants to go, it closes its socket, and then tries again and again to come back, with
// pauses that grow.
//
// Seen when it is right: connected=K when it listens for the K-th time, and refs=R,
// how many references to the module there are then; news=NUMBER for each notice; left=K
// when it has closed its socket; retry=ERROR for each attempt to come back that
// failed. The module can be unloaded, and the daemon returns with it.
func daemon() error {
	return follow(func(*listener) error { return unix.ENOBUFS })
}

// burst is the daemon, and loses nothing in silence: where notices could not be queued
// for it, it finds out how many.
//
// Seen when it is right: after the queue was full, missed=K, the number of notices so far
// that never came, although no later one shows the gap; every notice that was in the
// queue has its line news=NUMBER before that.
func burst() error {
	return follow(catchUp)
}

// experiment finds out whether the kernel waits for a reader that does not read.
//
// Seen when it is right: a full queue at the agreed port, then a line waits=true or
// waits=false: see the text.
func experiment() error {
	port, err := agreedPort()
	if err != nil {
		return err
	}
	conn, err := netlink.Dial(protocol, &netlink.Config{PID: port})
	if err != nil {
		return err
	}
	defer conn.Close()
	time.Sleep(time.Second)
	text, err := os.ReadFile(parameters + "wait")
	if err != nil {
		return err
	}
	fmt.Printf("waits=%t\n", strings.TrimSpace(string(text)) == "1")
	return nil
}

// agreedPort is the port at which nlnotify expects somebody.
func agreedPort() (uint32, error) {
	text, err := os.ReadFile(parameters + "port")
	if err != nil {
		return 0, fmt.Errorf("asking for the agreed port (is the module loaded?): %w", err)
	}
	port, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	return uint32(port), err
}

// numberOf is the number of a notice, or in the answer about them.
func numberOf(m netlink.Message) uint32 {
	if len(m.Data) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(m.Data)
}

// receive waits for what comes next, but no longer than the limit, where there is one,
// and no longer than ctx.
func receive(ctx context.Context, conn *netlink.Conn, limit time.Duration) ([]netlink.Message, error) {
	var deadline time.Time // none
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	if err := conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	// A deadline that has passed ends a wait that is under way. It is set after the
	// other one, so that an end of ctx in between is not lost.
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	return conn.Receive()
}

// Pauses before an attempt to come back: the first, and the longest.
const (
	shortest = 250 * time.Millisecond
	longest  = 2 * time.Second
)

// follow is the daemon: it connects, listens, leaves and comes back until SIGTERM.
// overrun is called when the kernel says that something was dropped.
func follow(overrun func(*listener) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	pause := shortest
	for times := 1; ctx.Err() == nil; {
		l, err := connect()
		switch {
		case err == nil:
			pause = shortest
			fmt.Printf("connected=%d\n", times)
			if refs, err := os.ReadFile("/sys/module/nlnotify/refcnt"); err == nil {
				fmt.Printf("refs=%s\n", strings.TrimSpace(string(refs)))
			}
			err = l.listen(ctx, overrun)
			l.conn.Close()
			if ctx.Err() != nil {
				return nil
			}
			if !errors.Is(err, errLeaving) {
				return err
			}
			fmt.Printf("left=%d\n", times)
			times++
		case errors.Is(err, unix.EPROTONOSUPPORT): // it is not there
			fmt.Println("retry=EPROTONOSUPPORT")
		case errors.Is(err, unix.ESHUTDOWN): // it is about to go
			fmt.Println("retry=ESHUTDOWN")
		default:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
	return nil
}

// listener is a subscription, and what is known of the notices.
type listener struct {
	conn   *netlink.Conn
	next   uint32 // the number that is expected next
	missed uint32
}

// connect subscribes, and then asks how many notices there were: the other way round, what
// happens in between would be lost.
func connect() (*listener, error) {
	conn, err := netlink.Dial(protocol, &netlink.Config{Groups: 1 << (group - 1)})
	if err != nil {
		return nil, err
	}
	last, err := state()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &listener{conn: conn, next: last + 1}, nil
}

// state asks the kernel how many notices there were. The question has a socket of its
// own: on that of the subscription the answer would stand somewhere among the notices, or
// have no room.
func state() (uint32, error) {
	conn, err := netlink.Dial(protocol, nil)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	answers, err := conn.Execute(netlink.Message{Header: netlink.Header{Type: typeGet, Flags: netlink.Request}})
	if err != nil {
		return 0, err
	}
	if len(answers) != 1 {
		return 0, fmt.Errorf("%d answers to a question", len(answers))
	}
	return numberOf(answers[0]), nil
}

// errLeaving says that the module wants to go.
var errLeaving = errors.New("the module wants to go")

// listen returns when ctx has ended, or errLeaving, or what went wrong.
func (l *listener) listen(ctx context.Context, overrun func(*listener) error) error {
	for {
		messages, err := receive(ctx, l.conn, 0)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			if err := overrun(l); err != nil {
				return err
			}
		default:
			return err
		}
		for _, m := range messages {
			if m.Header.Type == typeLeaving {
				return errLeaving
			}
			l.take(m)
		}
	}
}

// take takes in a notice. A gap before it is what was missed.
func (l *listener) take(m netlink.Message) {
	if m.Header.Type != typeNews {
		return
	}
	n := numberOf(m)
	fmt.Printf("news=%d\n", n)
	if n >= l.next {
		l.missed += n - l.next
		l.next = n + 1
	}
}

// catchUp is called when something was dropped: behind what is in the queue, and there
// may never be a later notice that shows the gap. So the kernel is asked.
//
// ENOBUFS comes once. Until the queue has been empty everything else is dropped, too,
// without another word: whoever asks before that does not know of what is dropped behind
// the answer. And what has come between the emptying and the answer is in the queue, and
// is counted in the answer: so it is emptied once more before the two are compared.
func catchUp(l *listener) error {
	if _, err := l.drain(); err != nil {
		return err
	}
	for {
		last, err := state()
		if err != nil {
			return err
		}
		dropped, err := l.drain()
		if err != nil {
			return err
		}
		if dropped {
			continue // since the queue was empty: before the answer, or behind it
		}
		if last >= l.next {
			l.missed += last + 1 - l.next
			l.next = last + 1
		}
		fmt.Printf("missed=%d\n", l.missed)
		return nil
	}
}

// drain takes in what lies in the queue until it is empty, which the kernel says, and
// says whether ENOBUFS came once more.
func (l *listener) drain() (dropped bool, err error) {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return false, err
	}
	buffer := make([]byte, 4096)
	var ended error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, err := unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT)
			switch {
			case errors.Is(err, unix.EAGAIN):
				return true
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.ENOBUFS):
				dropped = true
				continue
			case err != nil:
				ended = err
				return true
			}
			var m netlink.Message
			if ended = m.UnmarshalBinary(slices.Clone(buffer[:n])); ended != nil {
				return true
			}
			if m.Header.Type == typeLeaving {
				ended = errLeaving
				return true
			}
			l.take(m)
		}
	})
	return dropped, errors.Join(ended, err)
}
