// SPDX-License-Identifier: GPL-2.0-only

// Package nlnotify_test tests the kernel module nlnotify on a real kernel, from
// outside: through its sockets, its parameters and its trace events. It runs as
// root in the throw-away virtual machine, with the module loaded, and nowhere
// else.
package nlnotify_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/modtest"
)

const (
	protocol  = 26
	group     = 1
	headerLen = unix.NLMSG_HDRLEN
	newsLen   = headerLen + 1024

	// Types of messages.
	typeNews    = 16
	typeLeaving = 17
	typeGet     = 18
	typeState   = 19

	text = "The kernel speaks first."
)

// module is what is tested; the others are short for what all modules' tests share.
const module = modtest.Module("nlnotify")

var (
	want       = modtest.Want
	last       = modtest.Last
	background = modtest.Background
)

func TestMain(m *testing.M) { module.Main(m) }

func set(t testing.TB, name string, value any) { t.Helper(); module.Set(t, name, value) }
func get(t testing.TB, name string) string     { t.Helper(); return module.Get(t, name) }
func trace(t *testing.T) *modtest.Tracer       { t.Helper(); return module.Trace(t) }

// agreed is the port that the tests agree upon with the module.
const agreed = 4_000_000_001

// setup puts the module into a known state: it tells to both, on the trigger only.
func setup(t *testing.T) {
	t.Helper()
	module.Guest(t)
	reset := func() {
		set(t, "interval_ms", 0)
		set(t, "leave", 1) // takes back what is still to be told
		set(t, "leave", 0)
		set(t, "via", "both")
		set(t, "port", agreed)
		set(t, "wait", 0)
		set(t, "meanwhile", 0)
	}
	reset()
	t.Cleanup(reset)
}

// ---- sockets ----

// socket is a Netlink socket of nlnotify's protocol.
type socket struct{ *modtest.Socket }

// tryOpen opens a socket at a port, 0 being any, that joins these groups, a mask.
func tryOpen(port, groups uint32) (*socket, error) {
	s, err := modtest.Open(protocol, port, groups)
	return &socket{s}, err
}

func open(t *testing.T, port, groups uint32) *socket {
	t.Helper()
	s, err := tryOpen(port, groups)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// message makes a well-formed message.
func message(typ, flags uint16, seq, pid uint32, payload []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(headerLen+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, pid)
	return append(b, payload...)
}

// number is one of 32 bits in a payload.
func number(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// news is message number n as it must be to the byte.
func news(n uint32) []byte {
	payload := make([]byte, newsLen-headerLen)
	copy(payload, number(n))
	copy(payload[4:], text)
	return message(typeNews, 0, 0, 0, payload)
}

// hears takes a datagram out of the queue that must be these bytes, by this group.
func (s *socket) hears(want []byte, groups uint32) error {
	got, by, err := s.Recv(0)
	if err != nil {
		return fmt.Errorf("port %d: %w", s.Port, err)
	}
	if string(got) != string(want) || by != groups {
		return fmt.Errorf("port %d: %d bytes by group mask %#x\n%s\nwant %d by %#x\n%s", s.Port,
			len(got), by, hex.Dump(got[:min(len(got), 64)]), len(want), groups, hex.Dump(want[:min(len(want), 64)]))
	}
	return nil
}

func (s *socket) mustHear(t *testing.T, want []byte, groups uint32) {
	t.Helper()
	if err := s.hears(want, groups); err != nil {
		t.Fatal(err)
	}
}

// count asks the module how many news there were.
func (s *socket) count(seq uint32) (uint32, error) {
	if err := s.Send(message(typeGet, unix.NLM_F_REQUEST, seq, 0, nil)); err != nil {
		return 0, err
	}
	got, by, err := s.Recv(0)
	if err != nil {
		return 0, err
	}
	if len(got) != headerLen+4 || by != 0 || string(got[:headerLen]) != string(message(typeState, 0, seq, s.Port, make([]byte, 4))[:headerLen]) {
		return 0, fmt.Errorf("port %d: the state is\n%s", s.Port, hex.Dump(got))
	}
	return binary.NativeEndian.Uint32(got[headerLen:]), nil
}

func (s *socket) mustCount(t *testing.T) uint32 {
	t.Helper()
	n, err := s.count(77)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
