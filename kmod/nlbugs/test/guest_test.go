// SPDX-License-Identifier: GPL-2.0-only

// Package nlbugs_test shows the bugs of the articles' programs on a real kernel,
// with the module nlbugs, and asserts what goes wrong. It runs as root in the
// throw-away virtual machine and nowhere else. docs/bugs.md quotes what it prints.
package nlbugs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	protocol = 25
	payload  = 1024 // bytes in a reply
	nobody   = 65534
	// patience bounds a broken run and orders nothing.
	patience = time.Minute
)

// childVariable tells the test binary to be a client that sends one message.
const childVariable = "NLBUGS_CHILD"

// The child's message is sent by its main thread, whose state /proc/PID tells.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		s, err := tryOpen(0)
		if err == nil {
			err = s.send(message(0, nil))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// say prints a line of what is seen.
func say(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }

// guest skips the test anywhere but in the virtual machine.
func guest(t *testing.T) {
	t.Helper()
	if os.Getenv("NETLINK_LABS_GUEST") == "" {
		t.Skip(`runs only in the virtual machine: go test -exec "$PWD/bin/lab exec -module nlbugs" ./kmod/nlbugs/...`)
	}
}

// kills skips a test that stops the kernel or makes it complain, either of which is
// the end of lab exec's good word, unless that is wanted.
func kills(t *testing.T) {
	t.Helper()
	guest(t)
	if os.Getenv("KILL") == "" {
		t.Skip("harms the kernel, which lab exec fails for: KILL=1 does it")
	}
}

// load loads the module anew, with these parameters.
func load(t *testing.T, params string) {
	t.Helper()
	guest(t)
	if err := tryLoad(t, params); err != nil {
		t.Fatalf("load nlbugs %s: %v", params, err)
	}
}

func tryLoad(t *testing.T, params string) error {
	t.Helper()
	unload(t)
	f, err := os.Open(os.Getenv("NETLINK_LABS_MODULE_nlbugs"))
	if err != nil {
		t.Fatalf("%v: is this lab exec -module nlbugs?", err)
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), params, 0)
}

// unload closes all sockets, for while there are any it is refused, and unloads the
// module.
func unload(t *testing.T) {
	t.Helper()
	for _, s := range opened {
		s.close()
	}
	opened = nil
	until(t, "the module can be unloaded", func() bool {
		err := unix.DeleteModule("nlbugs", unix.O_NONBLOCK)
		return err == nil || errors.Is(err, unix.ENOENT)
	})
}

// until waits for what must come to be true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// param reads a number among the module's parameters.
func param(t *testing.T, name string) int {
	t.Helper()
	b, err := os.ReadFile("/sys/module/nlbugs/parameters/" + name)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// kernelLog is a place in /dev/kmsg.
type kernelLog int

func openLog(t *testing.T) kernelLog {
	t.Helper()
	guest(t)
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		t.Fatal(err)
	}
	return kernelLog(fd)
}

// line waits for a line of the log that has these words, and returns it. Only
// backslashes are as they were logged: other signs than print stay escaped.
func (l kernelLog) line(t *testing.T, words string) string {
	t.Helper()
	found := ""
	buf := make([]byte, 8192)
	until(t, "the kernel logs "+strconv.Quote(words), func() bool {
		for {
			n, err := unix.Read(int(l), buf)
			if err != nil {
				return false
			}
			_, text, _ := strings.Cut(string(buf[:n]), ";")
			text, _, _ = strings.Cut(text, "\n")
			if strings.Contains(text, words) {
				found = strings.ReplaceAll(text, `\x5c`, `\`)
				return true
			}
		}
	})
	return found
}

// socket is a Netlink socket of protocol 25.
type socket struct {
	fd   int
	port uint32
}

// tryOpen opens a socket and binds it to a port ID, or where that is 0 to one that
// the kernel chooses.
func tryOpen(port uint32) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	s := &socket{fd: fd}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port})
	if err == nil {
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(fd); err == nil {
			s.port = sa.(*unix.SockaddrNetlink).Pid
		}
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("bind: %w", err)
	}
	return s, nil
}

// opened are the sockets that tests have not closed.
var opened []*socket

// open opens a socket that is closed at the latest when the module is loaded anew.
func open(t *testing.T) *socket {
	t.Helper()
	s, err := tryOpen(0)
	if err != nil {
		t.Fatal(err)
	}
	opened = append(opened, s)
	return s
}

func (s *socket) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

// send sends a datagram to the kernel, and returns when the input callback has.
func (s *socket) send(datagram []byte) error {
	return unix.Sendto(s.fd, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

func (s *socket) mustSend(t *testing.T, datagram []byte) {
	t.Helper()
	if err := s.send(datagram); err != nil {
		t.Fatalf("sendto: %v", err)
	}
}

// recv returns what is queued already: replies are, when send has returned.
func (s *socket) recv() ([]byte, error) {
	buf := make([]byte, 8192)
	n, _, err := unix.Recvfrom(s.fd, buf, unix.MSG_DONTWAIT)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// count reads all that is queued, and tells how much that was and which other error
// than EAGAIN came.
func (s *socket) count() (n int, lost error) {
	for {
		switch _, err := s.recv(); {
		case err == nil:
			n++
		case errors.Is(err, unix.EAGAIN):
			return n, lost
		default:
			lost = err
		}
	}
}

// message makes a message of type 0 with sequence number 1.
func message(pid uint32, payload []byte) []byte {
	return header(unix.NLMSG_HDRLEN+len(payload), pid, payload)
}

// header makes a message that claims to be so long.
func header(length int, pid uint32, payload []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(length))
	b = binary.NativeEndian.AppendUint32(b, 0) // type and flags
	b = binary.NativeEndian.AppendUint32(b, 1)
	b = binary.NativeEndian.AppendUint32(b, pid)
	return append(b, payload...)
}

// thread runs f in a thread of its own, which is thrown away: f may change what
// belongs to a thread.
func thread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// asNobody runs f as the user nobody, without capabilities.
func asNobody(f func() error) error {
	return thread(func() error {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			return fmt.Errorf("setresuid: %w", errno)
		}
		return f()
	})
}
