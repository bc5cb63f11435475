// SPDX-License-Identifier: GPL-2.0-only

// Package nlecho_test tests the kernel module nlecho on a real kernel, from
// outside: through its sockets, its parameters and its trace events. It runs as
// root in the throw-away virtual machine, with the module loaded, and nowhere
// else.
package nlecho_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	protocol = 25
	// patience is how long a test waits for what must come. It bounds a broken
	// run and orders nothing: it is far beyond what the slowest emulator needs.
	patience = time.Minute

	headerLen = unix.NLMSG_HDRLEN
	replyLen  = headerLen + 1024
)

// guest skips the test anywhere but in the virtual machine: it would load and
// unload modules, and a mistake in them stops the kernel.
func guest(t *testing.T) {
	t.Helper()
	if os.Getenv("NETLINK_LABS_GUEST") == "" {
		t.Skip("runs only in the virtual machine: make test, " +
			`or go test -exec "$PWD/bin/lab exec -module nlecho" ./kmod/...`)
	}
}

// TestMain looks at the kernel's log when all tests are over: what the module
// did wrong often shows there and nowhere else.
func TestMain(m *testing.M) {
	if os.Getenv("NETLINK_LABS_GUEST") == "" {
		os.Exit(m.Run())
	}
	log, err := openKernelLog()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nlecho_test:", err)
		os.Exit(2)
	}
	code := m.Run()
	if bad := log.bad(); len(bad) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: the kernel's log has, since the tests began:\n\t%s\n", strings.Join(bad, "\n\t"))
		code = 1
	}
	os.Exit(code)
}

// kernelLog is a place in /dev/kmsg.
type kernelLog int

func openKernelLog() (kernelLog, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open /dev/kmsg: %w", err)
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		return 0, fmt.Errorf("go to the end of /dev/kmsg: %w", err)
	}
	return kernelLog(fd), nil
}

var trouble = regexp.MustCompile(`WARNING:|BUG:|Oops|general protection|Call Trace|refcount_t|use-after-free|scheduling while atomic|unregister_netdevice: waiting`)

// bad returns the lines since the log was opened that tell of a fault.
func (l kernelLog) bad() []string {
	var bad []string
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(int(l), buf)
		switch {
		case errors.Is(err, unix.EPIPE): // overwritten before it was read
			bad = append(bad, "lines were lost: the log was overrun")
			continue
		case err != nil || n <= 0: // EAGAIN: that was all
			return bad
		}
		if line := strings.TrimSpace(string(buf[:n])); trouble.MatchString(line) {
			bad = append(bad, line)
		}
	}
}

// ---- parameters ----

func paramPath(name string) string { return "/sys/module/nlecho/parameters/" + name }

// write writes a parameter with one write(2), and returns its error.
func write(name, value string) error {
	f, err := os.OpenFile(paramPath(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

func set(t testing.TB, name string, value any) {
	t.Helper()
	if err := write(name, fmt.Sprint(value)); err != nil {
		t.Fatalf("set %s=%v: %v", name, value, err)
	}
}

func get(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(paramPath(name))
	if err != nil {
		t.Fatal(err)
	}
	s, ok := strings.CutSuffix(string(b), "\n")
	if !ok {
		t.Errorf("%s reads %q, without a newline", name, b)
	}
	return s
}

// setup puts the module into a known state (one reply, at once, to the sender)
// and lets everything go that is still held when the test ends, however it
// ends.
func setup(t *testing.T) {
	t.Helper()
	guest(t)
	reset := func() {
		set(t, "replies", 0) // first: ends a recursion that a test has left
		set(t, "hold", 0)
		set(t, "release", 0)
		set(t, "replies", 1)
		set(t, "delay_ms", 0)
		set(t, "reply_to", "sender")
		set(t, "defer", 0)
	}
	reset()
	t.Cleanup(reset)
}

// ---- sockets ----

// socket is a Netlink socket of protocol 25.
type socket struct {
	fd   int
	port uint32
}

func tryOpen() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("socket(AF_NETLINK, SOCK_RAW, %d): %w", protocol, err)
	}
	s := &socket{fd: fd}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		s.close()
		return nil, fmt.Errorf("bind: %w", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("getsockname: %w", err)
	}
	s.port = sa.(*unix.SockaddrNetlink).Pid
	tv := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		s.close()
		return nil, fmt.Errorf("set SO_RCVTIMEO: %w", err)
	}
	return s, nil
}

func open(t *testing.T) *socket {
	t.Helper()
	s, err := tryOpen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func (s *socket) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}

// send sends a datagram to the kernel. It returns when the input callback has.
func (s *socket) send(datagram []byte) error {
	return unix.Sendto(s.fd, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

func (s *socket) mustSend(t *testing.T, datagram []byte) {
	t.Helper()
	if err := s.send(datagram); err != nil {
		t.Fatalf("sendto of %d bytes from port %d: %v", len(datagram), s.port, err)
	}
}

// recv waits for a datagram.
func (s *socket) recv() ([]byte, error) { return s.recvFlags(0) }

func (s *socket) recvFlags(flags int) ([]byte, error) {
	buf := make([]byte, 2*replyLen)
	for {
		n, from, err := unix.Recvfrom(s.fd, buf, flags)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 || nl.Groups != 0 {
			return nil, fmt.Errorf("the reply comes from %+v, want port 0, group 0", from)
		}
		return buf[:n], nil
	}
}

// replies receives n replies to a message with sequence number seq, sent to
// port, and checks every byte of each.
func (s *socket) replies(n int, seq, port uint32) error {
	want := make([]byte, replyLen)
	copy(want, header{length: replyLen, seq: seq, pid: port}.bytes())
	copy(want[headerLen:], "I am from kernel!")
	for i := range n {
		got, err := s.recv()
		if err != nil {
			return fmt.Errorf("port %d: reply %d of %d: %w", s.port, i, n, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("port %d: reply %d of %d is %d bytes\n%s\nwant %d\n%s", s.port, i, n,
				len(got), hex.Dump(got[:min(len(got), 64)]), len(want), hex.Dump(want[:64]))
		}
	}
	return nil
}

func (s *socket) mustReplies(t *testing.T, n int, seq, port uint32) {
	t.Helper()
	if err := s.replies(n, seq, port); err != nil {
		t.Fatal(err)
	}
}

// empty checks that nothing is queued on s.
func (s *socket) empty(t *testing.T) {
	t.Helper()
	got, err := s.recvFlags(unix.MSG_DONTWAIT)
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("port %d: recvfrom gives %d bytes, %v; want an empty queue", s.port, len(got), err)
	}
}

// header is struct nlmsghdr.
type header struct {
	length    uint32
	typ, flag uint16
	seq, pid  uint32
}

func (h header) bytes() []byte {
	b := binary.NativeEndian.AppendUint32(nil, h.length)
	b = binary.NativeEndian.AppendUint16(b, h.typ)
	b = binary.NativeEndian.AppendUint16(b, h.flag)
	b = binary.NativeEndian.AppendUint32(b, h.seq)
	return binary.NativeEndian.AppendUint32(b, h.pid)
}

// message makes a well-formed message.
func message(seq, pid uint32, payload []byte) []byte {
	h := header{length: uint32(headerLen + len(payload)), seq: seq, pid: pid}
	return append(h.bytes(), payload...)
}

// align fills b up to the next message's place.
func align(b []byte) []byte {
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// background runs f on a goroutine and returns a function, to be called once,
// that waits for it and fails the test with its error.
func background(t *testing.T, what string, f func() error) (wait func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	return func() {
		t.Helper()
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: not over after %v", what, patience)
		}
	}
}

// ---- trace events ----

// event is one trace event of the module, its fields as the event prints them.
type event struct {
	name string // without "nlecho_"
	task int    // thread ID
	f    map[string]string
}

func (e event) String() string { return fmt.Sprintf("%s%v (task %d)", e.name, e.f, e.task) }

// num returns a numeric field.
func (e event) num(t testing.TB, field string) int64 {
	t.Helper()
	v, err := strconv.ParseInt(e.f[field], 0, 64)
	if err != nil {
		t.Fatalf("event %v: field %s is %q, want a number", e, field, e.f[field])
	}
	return v
}

// is says whether the event has this name and these fields ("n=0 why=delay").
func (e event) is(name, fields string) bool {
	if e.name != name {
		return false
	}
	for _, kv := range strings.Fields(fields) {
		k, v, _ := strings.Cut(kv, "=")
		if got, ok := e.f[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// tracer reads the module's events from a trace instance of its own, so that
// whoever else traces this kernel is not disturbed.
type tracer struct {
	dir string
	fd  int
	buf []byte
}

const tracefs = "/sys/kernel/tracing"

var instances int

// trace turns the events on until the test ends.
func trace(t *testing.T) *tracer {
	t.Helper()
	if _, err := os.Stat(tracefs + "/instances"); err != nil {
		if err := unix.Mount("tracefs", tracefs, "tracefs", 0, ""); err != nil {
			t.Fatalf("mount tracefs on %s: %v", tracefs, err)
		}
	}
	instances++
	tr := &tracer{dir: fmt.Sprintf("%s/instances/nlecho_test_%d", tracefs, instances), fd: -1}
	if err := os.Mkdir(tr.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(tr.fd)
		if err := os.Remove(tr.dir); err != nil {
			t.Errorf("remove the trace instance: %v", err)
		}
	})
	tr.put(t, "buffer_size_kb", "4096")
	tr.enable(t)
	var err error
	tr.fd, err = unix.Open(tr.dir+"/trace_pipe", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s/trace_pipe: %v", tr.dir, err)
	}
	return tr
}

func (tr *tracer) put(t *testing.T, file, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(tr.dir, file), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// enable turns the events on, again after the module was loaded anew.
func (tr *tracer) enable(t *testing.T) { t.Helper(); tr.put(t, "events/nlecho/enable", "1") }

// "  comm-123   [000] .....   1.234567: nlecho_input: id=1 sk=... data=aabb"
var eventLine = regexp.MustCompile(`-(\d+)\s+\[\d+\].*?: nlecho_(\w+): (.*)$`)

// next returns the next event, or false when none came until the deadline.
func (tr *tracer) next(t *testing.T, deadline time.Time) (event, bool) {
	t.Helper()
	for {
		line, rest, ok := bytes.Cut(tr.buf, []byte("\n"))
		if ok {
			tr.buf = rest
			if bytes.Contains(line, []byte("LOST")) {
				t.Fatalf("the trace lost events: %s", line)
			}
			m := eventLine.FindSubmatch(line)
			if m == nil {
				continue
			}
			e := event{name: string(m[2]), f: map[string]string{}}
			e.task, _ = strconv.Atoi(string(m[1]))
			for _, kv := range strings.Fields(string(m[3])) {
				k, v, _ := strings.Cut(kv, "=")
				e.f[k] = v
			}
			return e, true
		}
		chunk := make([]byte, 64<<10)
		n, err := unix.Read(tr.fd, chunk)
		switch {
		case n > 0:
			tr.buf = append(tr.buf, chunk[:n]...)
			continue
		case err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			t.Fatalf("read trace_pipe: %v", err)
		}
		if !time.Now().Before(deadline) {
			return event{}, false
		}
		// Bounded: some kernels miss a wake-up of trace_pipe's readers.
		fds := []unix.PollFd{{Fd: int32(tr.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 100); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatalf("poll trace_pipe: %v", err)
		}
	}
}

// until returns the events up to and with the first of this name and fields.
func (tr *tracer) until(t *testing.T, name, fields string) []event {
	t.Helper()
	var seen []event
	deadline := time.Now().Add(patience)
	for {
		e, ok := tr.next(t, deadline)
		if !ok {
			t.Fatalf("no event %s %s within %v; seen:\n%s", name, fields, patience, list(seen))
		}
		seen = append(seen, e)
		if e.is(name, fields) {
			return seen
		}
	}
}

// now returns the events that are there already. Everything that happened
// before the call is: an event stands in the buffer before its task goes on.
func (tr *tracer) now(t *testing.T) []event {
	t.Helper()
	var seen []event
	for {
		e, ok := tr.next(t, time.Time{})
		if !ok {
			return seen
		}
		seen = append(seen, e)
	}
}

// want compares events with "name field=value ..." lines, one for each event.
func want(t *testing.T, got []event, lines ...string) {
	t.Helper()
	same := len(got) == len(lines)
	for i := 0; same && i < len(lines); i++ {
		name, fields, _ := strings.Cut(lines[i], " ")
		same = got[i].is(name, fields)
	}
	if !same {
		t.Fatalf("events:\n%swant:\n\t%s", list(got), strings.Join(lines, "\n\t"))
	}
}

func list(events []event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "\t%v\n", e)
	}
	return b.String()
}

// of returns the events of one message.
func of(events []event, id string) []event {
	var mine []event
	for _, e := range events {
		if e.f["id"] == id {
			mine = append(mine, e)
		}
	}
	return mine
}

// last returns the last event.
func last(events []event) event { return events[len(events)-1] }
