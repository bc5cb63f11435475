// SPDX-License-Identifier: MIT

// Right: the listeners are connections of github.com/mdlayher/netlink, each of which
// waits in a goroutine of its own, up to a limit of time.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(mode string, args []string) error {
	group := func(i int) uint32 {
		n, _ := strconv.Atoi(args[i])
		return uint32(n)
	}
	switch mode {
	case "join":
		return join(group(0), args[1])
	case "both":
		return both(group(0), group(1))
	case "kernel":
		return kernel(group(0))
	case "beyond":
		return beyond(group(0))
	}
	return border()
}

// listener is a member of groups, with a goroutine that collects what it hears.
type listener struct {
	*netlink.Conn
	heard chan netlink.Message
}

func listen(protocol int, mask uint32, groups ...uint32) *listener {
	c, err := netlink.Dial(protocol, &netlink.Config{Groups: mask})
	if err != nil {
		panic(err)
	}
	for _, g := range groups {
		if err := c.JoinGroup(g); err != nil {
			panic(err)
		}
	}
	l := &listener{c, make(chan netlink.Message, 100)}
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		panic(err)
	}
	return l
}

// count starts to read, and returns what tells how much was heard in the end.
func (l *listener) count() func() []netlink.Message {
	done := make(chan []netlink.Message)
	go func() {
		var all []netlink.Message
		for {
			messages, err := l.Receive()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				done <- all
				return
			}
			if err != nil {
				panic(err)
			}
			all = append(all, messages...)
		}
	}()
	return func() []netlink.Message { return <-done }
}

// shouter is a bare socket: the library sends to the kernel only.
func shouter(protocol int) int {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM, protocol)
	if err != nil {
		panic(err)
	}
	return fd
}

func shout(fd int, port, mask uint32, text string) error {
	b := make([]byte, 16, 16+len(text))
	binary.NativeEndian.PutUint32(b, uint32(16+len(text)))
	b = append(b, text...)
	for len(b)%4 != 0 { // the library wants whole messages
		b = append(b, 0)
		binary.NativeEndian.PutUint32(b, uint32(len(b)))
	}
	_, err := unix.SendmsgN(fd, b, nil, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port, Groups: mask}, 0)
	return err
}

func name(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return "ok"
}

func join(group uint32, text string) error {
	a := listen(unix.NETLINK_USERSOCK, 1<<(group-1))
	b := listen(unix.NETLINK_USERSOCK, 0, group)
	heardA, heardB := a.count(), b.count()
	fmt.Printf("mask=%d\n", uint32(1)<<(group-1))
	fmt.Printf("shout=%s\n", name(shout(shouter(unix.NETLINK_USERSOCK), 0, 1<<(group-1), text)))
	fmt.Printf("by_option=%s\n", unix.ByteSliceToString(heardB()[0].Data))
	fmt.Printf("by_bind=%s\n", unix.ByteSliceToString(heardA()[0].Data))
	return nil
}

func both(first, second uint32) error {
	a := listen(unix.NETLINK_USERSOCK, 0, first)
	b := listen(unix.NETLINK_USERSOCK, 1<<(second-1))
	c := listen(unix.NETLINK_USERSOCK, 0, first, second)
	heardA, heardB, heardC := a.count(), b.count(), c.count()
	time.Sleep(200 * time.Millisecond) // mostly all three wait in poll then, and none in recvmsg
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	_ = raw.Control(func(fd uintptr) {
		_ = shout(int(fd), 0, 1<<(first-1)|1<<(second-1), "hello")
	})
	if len(heardA()) > 0 {
		fmt.Printf("heard=%d\n", first)
	}
	if len(heardB()) > 0 {
		fmt.Printf("heard=%d\n", second)
	}
	if len(heardC()) > 0 {
		fmt.Println("own=yes")
	} else {
		fmt.Println("own=no")
	}
	return nil
}

func kernel(group uint32) error {
	for _, port := range []uint32{0, 4242} { // nobody has 4242: an error, and heard all the same
		l := listen(25, 1<<(group-1))
		fd := shouter(25)
		_ = shout(fd, port, 1<<(group-1), "hello")
		replies := 0
		for {
			_, from, err := unix.Recvfrom(fd, make([]byte, 4096), unix.MSG_DONTWAIT)
			if err != nil {
				break
			}
			if from.(*unix.SockaddrNetlink).Pid == 0 {
				replies++
			}
		}
		fmt.Printf("listener=%d\n", len(l.count()()))
		fmt.Printf("replies=%d\n", replies)
		l.Close()
	}
	return nil
}

func beyond(group uint32) error {
	fd := shouter(25)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(group)); err != nil {
		return err
	}
	// The member itself greets.
	if err := shout(fd, 0, 0, "hello"); err != nil {
		return err
	}
	news, groups := 0, uint32(0)
	for {
		_, from, err := unix.Recvfrom(fd, make([]byte, 4096), unix.MSG_DONTWAIT)
		if err != nil {
			break
		}
		if news == 0 {
			groups = from.(*unix.SockaddrNetlink).Groups
		}
		news++
	}
	fmt.Printf("groups=%d\n", groups)
	fmt.Printf("news=%d\n", news)
	return nil
}

func border() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		return err
	}
	if _, err := netns.New(); err != nil {
		return err
	}
	there := listen(25, 0, 3, 40)
	greeter := shouter(25)
	if err := unix.Bind(greeter, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	if err := netns.Set(home); err != nil {
		return err
	}
	here := listen(25, 1<<2)
	heardHere := here.count()
	// First the control: the one there is able to hear.
	_ = shout(greeter, 0, 1<<2, "first")
	_ = there.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if len(there.count()()) > 0 {
		fmt.Println("control=yes")
	}
	_ = there.SetReadDeadline(time.Now().Add(time.Second))
	heardThere := there.count()
	_ = shout(shouter(25), 0, 1<<2, "second")
	yes := map[bool]string{true: "yes", false: "no"}
	fmt.Printf("here=%s\n", yes[len(heardHere()) > 0])
	fmt.Printf("there=%s\n", yes[len(heardThere()) > 0])
	return nil
}
