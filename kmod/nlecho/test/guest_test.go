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
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/modtest"
)

const (
	protocol = 25

	headerLen = unix.NLMSG_HDRLEN
	replyLen  = headerLen + 1024
)

// module is what is tested; the others are short for what all modules' tests share.
const module = modtest.Module("nlecho")

var (
	want       = modtest.Want
	list       = modtest.List
	last       = modtest.Last
	background = modtest.Background
)

func TestMain(m *testing.M) { module.Main(m) }

func set(t testing.TB, name string, value any) { t.Helper(); module.Set(t, name, value) }
func get(t testing.TB, name string) string     { t.Helper(); return module.Get(t, name) }
func trace(t *testing.T) *modtest.Tracer       { t.Helper(); return module.Trace(t) }

// setup puts the module into a known state (one reply, at once, to the sender)
// and lets everything go that is still held when the test ends, however it
// ends.
func setup(t *testing.T) {
	t.Helper()
	module.Guest(t)
	reset := func() {
		set(t, "replies", 0) // first: ends a recursion that a test has left
		set(t, "max_depth", 0)
		set(t, "hold", 0)
		set(t, "release", 0)
		set(t, "replies", 1)
		set(t, "delay_ms", 0)
		set(t, "reply_to", "sender")
		set(t, "group", 0)
		set(t, "defer", 0)
	}
	reset()
	t.Cleanup(reset)
}

// ---- sockets ----

// socket is a Netlink socket of protocol 25.
type socket struct{ *modtest.Socket }

func tryOpen() (*socket, error) {
	s, err := modtest.Open(protocol, 0, 0)
	return &socket{s}, err
}

func open(t *testing.T) *socket {
	t.Helper()
	s, err := tryOpen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// recv waits for a datagram, which must not have come by a group.
func (s *socket) recv() ([]byte, error) {
	got, groups, err := s.Recv(0)
	if err == nil && groups != 0 {
		return nil, fmt.Errorf("the reply comes by group mask %#x, want none", groups)
	}
	return got, err
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
			return fmt.Errorf("port %d: reply %d of %d: %w", s.Port, i, n, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("port %d: reply %d of %d is %d bytes\n%s\nwant %d\n%s", s.Port, i, n,
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

// of returns the events of one message.
func of(events []modtest.Event, id string) []modtest.Event {
	var mine []modtest.Event
	for _, e := range events {
		if e.F["id"] == id {
			mine = append(mine, e)
		}
	}
	return mine
}
