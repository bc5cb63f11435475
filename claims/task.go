// SPDX-License-Identifier: MIT

package claims

import (
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Task is somebody who makes system calls: the test itself, a thread of it without
// rights or in another network namespace, or another process. All can do the same.
type Task struct {
	PID  int // of the process
	c    *Trial
	call func(request) reply
}

// request is a system call, in a form that can be sent to another process.
type request struct {
	Op      string
	FD      int
	A, B, C int
	Data    []byte
	Addr    []byte
}

type reply struct {
	N, Flags   int
	Errno      syscall.Errno
	Data, Addr []byte
	Control    []byte
}

// err returns the error of a call, or nil.
func (r reply) err() error {
	if r.Errno != 0 {
		return r.Errno
	}
	return nil
}

// do makes a system call in this very thread.
func do(r request) reply {
	call := func(nr uintptr, args ...uintptr) reply {
		var a [6]uintptr
		copy(a[:], args)
		for {
			n, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
			if errno != unix.EINTR {
				return reply{N: int(n), Errno: errno}
			}
		}
	}
	bytes := func(b []byte) (p, n uintptr) { return uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)) }
	defer runtime.KeepAlive(r)
	addr, addrLen := bytes(r.Addr)
	data, dataLen := bytes(r.Data)
	fd := uintptr(r.FD)
	switch r.Op {
	case "socket":
		return call(unix.SYS_SOCKET, uintptr(r.A), uintptr(r.B|unix.SOCK_CLOEXEC), uintptr(r.C))
	case "close":
		return call(unix.SYS_CLOSE, fd)
	case "bind":
		return call(unix.SYS_BIND, fd, addr, addrLen)
	case "connect":
		return call(unix.SYS_CONNECT, fd, addr, addrLen)
	case "send":
		return call(unix.SYS_SENDTO, fd, data, dataLen, uintptr(r.A), addr, addrLen)
	case "setsockopt":
		return call(unix.SYS_SETSOCKOPT, fd, uintptr(r.A), uintptr(r.B), data, dataLen)
	case "getsockopt":
		v := make([]byte, r.C)
		n := uint32(len(v))
		p, _ := bytes(v)
		out := call(unix.SYS_GETSOCKOPT, fd, uintptr(r.A), uintptr(r.B), p, uintptr(unsafe.Pointer(&n)))
		out.Data = v[:min(int(n), len(v))]
		return out
	case "getsockname":
		var sa unix.RawSockaddrNetlink
		n := uint32(unix.SizeofSockaddrNetlink)
		out := call(unix.SYS_GETSOCKNAME, fd, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&n)))
		out.Addr = unsafe.Slice((*byte)(unsafe.Pointer(&sa)), unix.SizeofSockaddrNetlink)
		return out
	case "poll": // until something can be read, A milliseconds at most
		p := []unix.PollFd{{Fd: int32(r.FD), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(p, r.A)
			if err != unix.EINTR {
				return reply{N: n}
			}
		}
	case "sendmsg": // with the flags A, and C in msg_flags
		iov := unix.Iovec{Base: unsafe.SliceData(r.Data)}
		iov.SetLen(len(r.Data))
		msg := unix.Msghdr{Name: unsafe.SliceData(r.Addr), Namelen: uint32(len(r.Addr)), Iov: &iov, Flags: int32(r.C)}
		msg.SetIovlen(1)
		return call(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&msg)), uintptr(r.A))
	case "recv": // A bytes, with the flags B, and C in msg_flags
		buf, control := make([]byte, r.A), make([]byte, 512)
		var sa unix.RawSockaddrNetlink
		iov := unix.Iovec{Base: unsafe.SliceData(buf)}
		iov.SetLen(len(buf))
		msg := unix.Msghdr{Name: (*byte)(unsafe.Pointer(&sa)), Namelen: unix.SizeofSockaddrNetlink, Iov: &iov, Control: &control[0], Flags: int32(r.C)}
		msg.SetIovlen(1)
		msg.SetControllen(len(control))
		out := call(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&msg)), uintptr(r.B))
		if out.Errno == 0 {
			out.Data, out.Control, out.Flags = buf[:min(out.N, len(buf))], control[:msg.Controllen], int(msg.Flags)
			out.Addr = append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&sa)), unix.SizeofSockaddrNetlink)...)
		}
		runtime.KeepAlive(buf)
		return out
	}
	return reply{Errno: unix.ENOSYS}
}

// Nobody returns a thread of an ordinary user, without any capability.
func (c *Trial) Nobody() *Task {
	c.t.Helper()
	return c.thread("becoming an ordinary user", func() error {
		const id = 65534
		for _, nr := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			if _, _, errno := unix.RawSyscall(nr, id, id, id); errno != 0 { // of this thread only
				return errno
			}
		}
		return nil
	})
}

// Netns returns a thread in a new network namespace, which ends with the trial.
func (c *Trial) Netns() *Task {
	c.t.Helper()
	return c.thread("making a network namespace", func() error { return unix.Unshare(unix.CLONE_NEWNET) })
}

// Thread returns another thread of the test.
func (c *Trial) Thread() *Task {
	c.t.Helper()
	return c.thread("", func() error { return nil })
}

// thread starts a thread that first does begin. It is never given back: it ends.
func (c *Trial) thread(what string, begin func() error) *Task {
	c.t.Helper()
	requests, replies, began := make(chan request), make(chan reply), make(chan error)
	body := func() {
		began <- begin()
		for r := range requests {
			replies <- do(r)
		}
	}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies
		if unix.Gettid() == unix.Getpid() {
			// The first thread is not ended by Go: have another do it.
			done := make(chan struct{})
			go func() {
				defer close(done)
				runtime.LockOSThread()
				body()
			}()
			<-done
			runtime.UnlockOSThread()
			return
		}
		body()
	}()
	c.Must(<-began, "%s", what)
	c.t.Cleanup(func() { close(requests) })
	return &Task{PID: os.Getpid(), c: c, call: func(r request) reply {
		requests <- r
		return <-replies
	}}
}

// Gets waits until the first thread of the process, which is the one that makes its
// calls if it is another, is in a state that ps knows ("D"), and tells whether it got
// there.
func (k *Task) Gets(state string) bool {
	k.c.t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); runtime.Gosched() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", k.PID))
		k.c.Must(err, "reading the state of process %d", k.PID)
		if _, rest, ok := strings.Cut(string(b), ") "); ok && strings.HasPrefix(rest, state) {
			return true
		}
	}
	return false
}

// envTask tells the test binary to be the other process.
const envTask = "NETLINK_LABS_CLAIMS_TASK"

// Process returns another process, which ends with the trial: this program once
// more. attr may ask for more than that (a user namespace, another user), or be nil.
func (c *Trial) Process(attr *syscall.SysProcAttr) *Task {
	c.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envTask+"=1")
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	c.Must(err, "starting a process")
	out, err := cmd.StdoutPipe()
	c.Must(err, "starting a process")
	c.Must(cmd.Start(), "starting a process")
	c.t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill() // it may be held in the kernel
		_ = cmd.Wait()
	})
	enc, dec := gob.NewEncoder(in), gob.NewDecoder(out)
	return &Task{PID: cmd.Process.Pid, c: c, call: func(r request) reply {
		var answer reply
		err := enc.Encode(r)
		if err == nil {
			err = dec.Decode(&answer)
		}
		if err != nil { // it has been killed
			return reply{Errno: unix.ESRCH}
		}
		return answer
	}}
}

// serve is the other process: it makes the calls that it is told to, in its first
// thread, whose state /proc/PID tells.
func serve() {
	dec, enc := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var r request
		if dec.Decode(&r) != nil || enc.Encode(do(r)) != nil {
			return
		}
	}
}

func init() {
	if os.Getenv(envTask) != "" {
		runtime.LockOSThread()
	}
}

// Main is the tests' TestMain.
func Main(m *testing.M) {
	if os.Getenv(envTask) != "" {
		serve()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Background does f on a goroutine. The returned function, to be called once, waits
// for its end.
func (c *Trial) Background(f func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return func() { <-done }
}

// name is an error as it is called: "EPERM".
func name(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if n := unix.ErrnoName(errno); n != "" {
			return n
		}
	}
	return fmt.Sprint(err)
}
