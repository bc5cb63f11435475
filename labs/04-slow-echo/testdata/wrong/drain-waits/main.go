// SPDX-License-Identifier: MIT

// Fails: step 1: "replies were read, and then one more was waited for"
// recvmsg in a loop until it fails: but it does not fail where nothing is, it
// waits.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	echo     = 25 // the Netlink protocol on which the module nlecho listens
	greeting = "Hello you!"
)

func init() {
	// main keeps the process's first thread: nothing below runs on that one.
	runtime.LockOSThread()
}

func main() {
	experiment := "read"
	if len(os.Args) > 1 {
		experiment = os.Args[1]
	}
	done := make(chan error)
	go func() { done <- run(experiment) }()
	if err := <-done; err != nil {
		fmt.Fprintln(os.Stderr, "slow-echo:", err)
		os.Exit(1)
	}
}

// run does one of the experiments, on a socket of its own.
func run(experiment string) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, echo)
	if err != nil {
		return fmt.Errorf("opening a Netlink socket for protocol %d (is the module nlecho loaded?): %w", echo, err)
	}
	defer unix.Close(fd)
	// Port ID 0 leaves the choice to the kernel.
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("taking a port ID: %w", err)
	}
	send := func() error {
		n, err := greet(fd, 0)
		if err == nil {
			fmt.Printf("sent=%d\n", n) // sendmsg has returned
		}
		return err
	}
	switch experiment {
	case "queue":
		if err := send(); err != nil {
			return err
		}
		queued, lost, err := drain(fd)
		if err != nil {
			return err
		}
		fmt.Printf("queued=%d\n", queued)
		fmt.Printf("lost=%t\n", lost)
		return nil
	case "watch":
		over := make(chan struct{})
		defer close(over)
		return watch(func() error {
			elsewhere(over)
			return send()
		}, func(tid int, state string) {
			fmt.Printf("tid=%d\n", tid)
			fmt.Printf("state=%s\n", state)
		})
	case "read":
		replies, err := expected()
		if err != nil {
			return err
		}
		n := 0
		return together(send, func() error {
			if err := receive(fd, 0); err != nil {
				return err
			}
			n++
			fmt.Printf("read=%d\n", n) // so many replies have been read
			return nil
		}, replies)
	case "free":
		free, err := tryToFree(fd)
		if err == nil {
			fmt.Printf("free=%t\n", free)
		}
		return err
	}
	return fmt.Errorf("there is no experiment %q: it is read, queue, watch or free", experiment)
}

// greet sends the greeting to the kernel and returns how many bytes it took. flags
// are those of sendmsg.
func greet(fd, flags int) (int, error) {
	message := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(greeting))
	message = append(message, greeting...)
	binary.NativeEndian.PutUint32(message, uint32(len(message))) // nlmsg_len
	n, err := unix.SendmsgN(fd, message, nil, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}, flags)
	if err != nil {
		return 0, fmt.Errorf("sendmsg: %w", err)
	}
	return n, nil
}

// receive takes one reply out of the socket's queue. Where there is none it waits,
// or fails with EAGAIN if flags has MSG_DONTWAIT.
func receive(fd, flags int) error {
	buffer := make([]byte, 4096)
	n, _, got, from, err := unix.Recvmsg(fd, buffer, nil, flags)
	if err != nil {
		return fmt.Errorf("recvmsg: %w", err)
	}
	if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
		return fmt.Errorf("a message from %+v, which is not the kernel", from)
	}
	if n < unix.SizeofNlMsghdr || got&unix.MSG_TRUNC != 0 {
		return fmt.Errorf("%d bytes, which are no whole message", n)
	}
	return nil
}

// elsewhere brings the goroutine that calls it to another thread. Go's runtime does
// that whenever it likes; here it is made to. A goroutine that is locked to its
// thread stays where it is.
func elsewhere(over <-chan struct{}) {
	thread := unix.Gettid()
	for range 4 {
		taken := make(chan struct{})
		go func() {
			// Who waits gives away the thread, mostly to whom it has just started: to
			// this goroutine, which keeps it.
			runtime.LockOSThread()
			close(taken)
			<-over
		}()
		<-taken
		if unix.Gettid() != thread {
			return
		}
	}
}

// expected returns how many replies to read: the program's second argument, or as
// many as nlecho gives to a message, which the module says in a file.
func expected() (int, error) {
	if len(os.Args) > 2 {
		return strconv.Atoi(os.Args[2])
	}
	text, err := os.ReadFile("/sys/module/nlecho/parameters/replies")
	if err != nil {
		return 0, fmt.Errorf("asking nlecho for its number of replies (is the module loaded?): %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func drain(fd int) (queued int, lost bool, err error) {
	for {
		switch err := receive(fd, 0); {
		case err == nil:
			queued++
		case errors.Is(err, unix.EAGAIN):
			return queued, lost, nil
		case errors.Is(err, unix.ENOBUFS):
			lost = true
		default:
			return queued, lost, err
		}
	}
}

// watch calls send, and looks meanwhile at the thread that is in it. report gets
// the ID of that thread and its state, the letter of proc(5), whenever that is
// another than before; it is called while send lasts, not afterwards. watch
// returns what send returns.
//
// Seen when it is right: while nlecho waits, a line state=... in the timeline, and
// a tid= that is the task of the netlink_sendmsg.
func watch(send func() error, report func(tid int, state string)) error {
	tids := make(chan int)
	returned := make(chan error, 1)
	go func() {
		// From here on this goroutine is this thread, and no other.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tids <- unix.Gettid()
		returned <- send()
	}()
	tid, last := <-tids, ""
	for {
		select {
		case err := <-returned:
			return err
		case <-time.After(time.Millisecond):
		}
		state, err := threadState(tid)
		if err != nil {
			return err
		}
		if state != last {
			report(tid, state)
			last = state
		}
	}
}

// threadState returns the state of a thread of this process, "R" or "D" say.
func threadState(tid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
	if err != nil {
		return "", err
	}
	// "77 (slow) echo) D 1 ...": the name may hold anything, but behind it come
	// no more parentheses.
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')'):], []byte(" "))
	if len(rest) == 0 {
		return "", fmt.Errorf("no state in %q", stat)
	}
	return string(rest[:1]), nil
}

// together calls send once and receive as often as there are replies, so that none
// of the two waits for the other. It returns when all replies have been received
// and send has returned, or with the first error.
//
// Seen when it is right: recvmsg returns with the first reply while sendmsg still
// lasts, and nlecho waits before the second.
func together(send, receive func() error, replies int) error {
	read := make(chan error, 1)
	go func() {
		for range replies {
			if err := receive(); err != nil {
				read <- err
				return
			}
		}
		read <- nil
	}()
	if err := send(); err != nil {
		return err
	}
	return <-read
}

// tryToFree greets the kernel and tries to be rid of it: to be out of sendmsg
// before nlecho has answered. By which means is up to you. It returns whether that
// worked, as soon as it knows, and does not wait for nlecho.
//
// Seen when it is right: a line free=true or free=false while nlecho waits, and
// before it what should have freed the sender: see the text.
func tryToFree(fd int) (bool, error) {
	asleep := make(chan struct{}, 1)
	returned := make(chan error, 1)
	go func() {
		returned <- watch(func() error {
			_, err := greet(fd, unix.MSG_DONTWAIT) // rather an error than a wait
			return err
		}, func(_ int, state string) {
			if state == "D" {
				select {
				case asleep <- struct{}{}:
				default: // that is known
				}
			}
		})
	}()
	select {
	case err := <-returned:
		return true, err
	case <-asleep:
		return false, nil
	}
}
