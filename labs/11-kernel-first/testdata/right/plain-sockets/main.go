// SPDX-License-Identifier: MIT

// Right: no library. Non-blocking sockets, poll, and a pipe that SIGTERM writes to.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const dir = "/sys/module/nlnotify/"

func main() {
	mode, n := os.Args[1], 0
	if len(os.Args) > 2 {
		n, _ = strconv.Atoi(os.Args[2])
	}
	var err error
	switch mode {
	case "hear":
		err = hear(n)
	case "wait":
		err = wait(n)
	case "daemon", "burst":
		err = daemon()
	case "experiment":
		err = experiment()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// file reads a number from a file of the module.
func file(name string) uint32 {
	b, _ := os.ReadFile(dir + name)
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	return uint32(n)
}

func open(port uint32, member bool) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 26)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port}); err == nil && member {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// read takes a message out of the queue: its type, and the number in it.
func read(fd int) (typ uint16, number uint32, err error) {
	var b [2048]byte
	n, _, err := unix.Recvfrom(fd, b[:], 0)
	if err != nil {
		return 0, 0, err
	}
	if n >= 20 {
		number = binary.NativeEndian.Uint32(b[16:])
	}
	return binary.NativeEndian.Uint16(b[4:]), number, nil
}

func hear(n int) error {
	var fds []unix.PollFd
	port := file("parameters/port")
	for i := range 3 {
		p := uint32(0)
		if i == 0 {
			p = port
		}
		fd, err := open(p, i > 0)
		if err != nil {
			return err
		}
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	fmt.Printf("port=%d\n", port)
	var heard [3]int
	for heard[0] < n || heard[1] < n || heard[2] < n {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return err
		}
		for i, f := range fds {
			if f.Revents == 0 || heard[i] == n {
				continue
			}
			_, number, err := read(int(f.Fd))
			if err != nil {
				return err
			}
			heard[i]++
			fmt.Printf("%s=%d\n", []string{"by_port", "by_group", "by_group"}[i], number)
		}
		for i := range fds {
			if heard[i] == n {
				fds[i].Fd = -1
			}
		}
	}
	return nil
}

// term is a pipe that can be read when SIGTERM has come.
func term() int {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		panic(err)
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM)
	go func() {
		<-c
		unix.Write(p[1], []byte{1})
	}()
	return p[0]
}

// until waits for fd, or none where that is -1: whether it can be read, and whether
// SIGTERM has come.
func until(fd, stop int, limit time.Duration) (ready, told bool) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	for end := time.Now().Add(limit); ; {
		left := -1
		if limit >= 0 {
			left = int(max(0, time.Until(end)+time.Millisecond-1) / time.Millisecond)
		}
		_, err := unix.Poll(fds, left)
		if err != unix.EINTR {
			return fds[0].Revents != 0, fds[1].Revents != 0
		}
	}
}

func wait(ms int) error {
	stop := term()
	fd, err := open(0, true)
	if err != nil {
		return err
	}
	for idle, heard := 1, 0; ; {
		ready, told := until(fd, stop, time.Duration(ms)*time.Millisecond)
		switch {
		case told:
			unix.Close(fd)
			fmt.Printf("stopped=%d\n", heard)
			return nil
		case !ready:
			fmt.Printf("idle=%d\n", idle)
			idle++
			continue
		}
		if typ, number, err := read(fd); err != nil {
			return err
		} else if typ == 16 {
			heard++
			fmt.Printf("news=%d\n", number)
		}
	}
}

// state asks, on a socket of its own.
func state() (uint32, error) {
	fd, err := open(0, false)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	q := make([]byte, 16)
	binary.NativeEndian.PutUint32(q, 16)
	binary.NativeEndian.PutUint16(q[4:], 18)
	binary.NativeEndian.PutUint16(q[6:], unix.NLM_F_REQUEST)
	if err := unix.Sendto(fd, q, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	_, number, err := read(fd) // sendto returns when the answer is there
	return number, err
}

func daemon() error {
	stop := term()
	pause := 50 * time.Millisecond
	for k := 1; ; {
		fd, err := open(0, true)
		switch err {
		case nil:
			pause = 50 * time.Millisecond
			last, _ := state()
			fmt.Printf("connected=%d\nrefs=%d\n", k, file("refcnt"))
			told, err := listen(fd, stop, last)
			unix.Close(fd)
			if told || err != nil {
				return err
			}
			fmt.Printf("left=%d\n", k)
			k++
		case unix.EPROTONOSUPPORT, unix.ESHUTDOWN:
			fmt.Printf("retry=%s\n", unix.ErrnoName(err.(unix.Errno)))
		default:
			return err
		}
		if _, told := until(-1, stop, pause); told {
			return nil
		}
		pause = min(2*pause, time.Second)
	}
}

func listen(fd, stop int, last uint32) (told bool, err error) {
	var missed, now uint32
	lost, asked := false, false // the queue was full; it was empty since, and we have asked
	for {
		if !lost {
			if _, told := until(fd, stop, -1); told {
				return true, nil
			}
		}
		typ, number, err := read(fd)
		switch {
		case err == unix.ENOBUFS:
			lost, asked = true, false
		case err == unix.EAGAIN && lost && !asked:
			if now, err = state(); err != nil {
				return false, err
			}
			asked = true // and what has come meanwhile?
		case err == unix.EAGAIN && lost:
			if now > last {
				missed += now - last
				last = now
			}
			lost = false
			fmt.Printf("missed=%d\n", missed)
		case err == unix.EAGAIN || err == unix.EINTR:
		case err != nil:
			return false, err
		case typ == 17:
			return false, nil
		case typ == 16:
			missed += number - last - 1
			last = number
			fmt.Printf("news=%d\n", number)
		}
	}
}

// The queue is filled, then emptied: what came, was it all?
func experiment() error {
	fd, err := open(file("parameters/port"), false)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	stop := term()
	time.Sleep(time.Second)
	for n := 0; n < 600; {
		if ready, told := until(fd, stop, 2*time.Second); told || !ready {
			break
		}
		_, _, err := read(fd)
		if err == unix.ENOBUFS {
			fmt.Println("waits=false")
			return nil
		}
		n++
	}
	fmt.Println("waits=true")
	return nil
}
