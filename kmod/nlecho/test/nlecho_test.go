// SPDX-License-Identifier: GPL-2.0-only

package nlecho_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/modtest"
)

// TestEcho: the answer is over when sendto returns, and the input event tells
// all about the message.
func TestEcho(t *testing.T) {
	setup(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	set(t, "replies", 10)
	tr, s := trace(t), open(t)

	payload := make([]byte, 1024)
	copy(payload, "Hello you!")
	msg := append(header{length: replyLen, typ: 0x1234, flag: 0x301, seq: 7, pid: 4711}.bytes(), payload...)
	s.MustSend(t, msg)
	events := tr.Now(t)
	s.mustReplies(t, 10, 7, s.Port)
	s.Empty(t)

	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		t.Fatal(err)
	}
	lines := []string{fmt.Sprintf("input netns=%d portid=%d dst_group=0 skb_len=1040 offset=0 nlmsg_len=1040 "+
		"type=%d flags=0x301 seq=7 pid=4711 crc=%08x depth=1 to=%d replies=10 delay_ms=0 reply_to=sender defer=0 hold=0",
		ns.Ino, s.Port, 0x1234, crc32.ChecksumIEEE(msg), s.Port)}
	for n := range 10 {
		lines = append(lines,
			fmt.Sprintf("wait portid=%d n=%d delay_ms=0 hold=0", s.Port, n),
			fmt.Sprintf("wake portid=%d n=%d why=delay", s.Port, n),
			fmt.Sprintf("reply portid=%d to=%d n=%d ret=1040", s.Port, s.Port, n))
	}
	lines = append(lines, fmt.Sprintf("done portid=%d replies=10 sent=10", s.Port))
	want(t, events, lines...)

	in := events[0]
	if got, want := in.F["data"], fmt.Sprintf("%x", msg[:64]); got != want {
		t.Errorf("data=%s, want %s", got, want)
	}
	if left, size := in.Num(t, "stack_left"), in.Num(t, "stack_size"); left <= 0 || left >= size {
		t.Errorf("stack_left=%d of %d: the callback runs on a stack", left, size)
	}
	for _, e := range events {
		if e.Task != unix.Gettid() || e.F["id"] != in.F["id"] {
			t.Errorf("event %v: want task %d, id %s", e, unix.Gettid(), in.F["id"])
		}
	}

	// A message to a group goes to the kernel too, its group with it.
	err := unix.Sendto(s.FD, message(8, 0, nil), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << 4})
	if err != nil {
		t.Fatalf("sendto group 5: %v", err)
	}
	if in := tr.Now(t)[0]; !in.Is("input", "dst_group=5 seq=8 nlmsg_len=16") {
		t.Errorf("event %v, want dst_group=5", in)
	}
}

// TestDelay: delay_ms is waited before each reply, at least.
func TestDelay(t *testing.T) {
	setup(t)
	set(t, "replies", 3)
	set(t, "delay_ms", 20)
	tr, s := trace(t), open(t)
	start := time.Now()
	s.MustSend(t, message(1, 0, nil))
	if took := time.Since(start); took < 60*time.Millisecond {
		t.Errorf("sendto took %v, want at least 3 times 20 ms", took)
	}
	want(t, tr.Now(t), "input", "wait delay_ms=20 n=0", "wake why=delay", "reply", "wait n=1", "wake why=delay", "reply",
		"wait n=2", "wake why=delay", "reply", "done sent=3")
}

// TestReplyTo: replies follow the kernel's word or the header's, and what
// becomes of them is told.
func TestReplyTo(t *testing.T) {
	setup(t)
	tr, a, b := trace(t), open(t), open(t)

	a.MustSend(t, message(1, b.Port, nil))
	a.mustReplies(t, 1, 1, a.Port)
	b.Empty(t)

	set(t, "reply_to", "header")
	a.MustSend(t, message(2, b.Port, nil))
	b.mustReplies(t, 1, 2, b.Port)
	a.Empty(t)
	tr.Now(t)

	// Nobody there: the sender is not told, the event is.
	gone := open(t)
	gone.Close()
	a.MustSend(t, message(3, gone.Port, nil))
	want(t, tr.Now(t), fmt.Sprintf("input to=%d reply_to=header", gone.Port), "wait", "wake",
		fmt.Sprintf("reply to=%d ret=-111", gone.Port), "done replies=1 sent=0")
}

// join makes s a member of a group.
func (s *socket) join(t *testing.T, group int) {
	t.Helper()
	if err := unix.SetsockoptInt(s.FD, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
		t.Fatalf("join group %d: %v", group, err)
	}
}

// TestGroup: replies go to the members of a group, above 32 too, and to nobody
// else; what a member is told of the group ends at 32.
func TestGroup(t *testing.T) {
	setup(t)
	tr, a, b := trace(t), open(t), open(t)
	set(t, "replies", 2)
	for _, tt := range []struct{ group, mask int }{{1, 1}, {32, 1 << 31}, {33, 0}, {64, 0}} {
		for _, deferred := range []int{0, 1} {
			set(t, "defer", deferred)
			set(t, "group", tt.group)
			a.MustSend(t, message(1, 0, nil))
			tr.Until(t, "done", "replies=2 sent=0") // nobody there: ESRCH

			b.join(t, tt.group)
			a.MustSend(t, message(2, 0, nil))
			want(t, tr.Until(t, "done", "sent=2"), fmt.Sprintf("input to=%d group=%d", a.Port, tt.group),
				"wait", "wake", fmt.Sprintf("reply to=%d group=%d n=0 ret=0", a.Port, tt.group),
				"wait", "wake", fmt.Sprintf("reply to=%d group=%d n=1 ret=0", a.Port, tt.group), "done")
			for range 2 {
				buf := make([]byte, 2*replyLen)
				n, from, err := unix.Recvfrom(b.FD, buf, 0)
				if err != nil || n != replyLen {
					t.Fatalf("a member of group %d gets %d bytes, %v", tt.group, n, err)
				}
				if nl := from.(*unix.SockaddrNetlink); nl.Pid != 0 || nl.Groups != uint32(tt.mask) {
					t.Errorf("a message to group %d comes from %+v, want port 0, groups %#x", tt.group, nl, tt.mask)
				}
			}
			a.Empty(t)
			b.Empty(t)
			if err := unix.SetsockoptInt(b.FD, unix.SOL_NETLINK, unix.NETLINK_DROP_MEMBERSHIP, tt.group); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.SetsockoptInt(b.FD, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, 65); !errors.Is(err, unix.EINVAL) {
		t.Errorf("join group 65: %v, want EINVAL", err)
	}
}

// TestFull: a receiver that does not read loses replies (EAGAIN for the
// module), is told by ENOBUFS first, and then finds what had room.
func TestFull(t *testing.T) {
	setup(t)
	set(t, "replies", 300)
	tr, s := trace(t), open(t)
	s.MustSend(t, message(1, 0, nil))

	sent, full := 0, 0
	events := tr.Now(t)
	for _, e := range events {
		if e.Name != "reply" {
			continue
		}
		switch ret := e.Num(t, "ret"); {
		case ret == replyLen && full == 0:
			sent++
		case ret == -int64(unix.EAGAIN):
			full++
		default:
			t.Fatalf("event %v after %d sent and %d refused", e, sent, full)
		}
	}
	if sent == 0 || full == 0 || sent+full != 300 {
		t.Fatalf("%d replies sent, %d refused: want some of both, 300 together", sent, full)
	}
	want(t, events[len(events)-1:], fmt.Sprintf("done replies=300 sent=%d", sent))
	if _, err := s.recv(); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("the first recvfrom: %v, want ENOBUFS", err)
	}
	s.mustReplies(t, sent, 1, s.Port)
	s.Empty(t)
}

// TestDefer: the callback returns before anything is sent; another task sends.
func TestDefer(t *testing.T) {
	setup(t)
	set(t, "replies", 2)
	set(t, "defer", 1)
	set(t, "hold", 1)
	tr, s := trace(t), open(t)

	s.MustSend(t, message(1, 0, nil)) // returns although every wait is held
	s.Empty(t)
	set(t, "release", 2)
	s.mustReplies(t, 2, 1, s.Port)
	events := tr.Until(t, "done", "")
	want(t, events, "input defer=1 hold=1", "wait n=0", "wake why=release", "reply ret=1040",
		"wait n=1", "wake why=release", "reply ret=1040", "done sent=2")
	for _, e := range events[1:] {
		if e.Task == events[0].Task {
			t.Errorf("event %v: in the sender's task, want a worker's", e)
		}
	}

	// Answers to oneself: refused, as they would never end.
	set(t, "reply_to", "header")
	s.MustSend(t, message(2, 0, []byte("abcd")))
	want(t, tr.Now(t), "input to=0 defer=1", fmt.Sprintf("reject portid=%d skb_len=20 offset=0 nlmsg_len=20 reason=port0", s.Port))

	// Two answers wait side by side.
	set(t, "reply_to", "sender")
	set(t, "replies", 1)
	s.MustSend(t, message(3, 0, nil))
	s.MustSend(t, message(4, 0, nil))
	tr.Until(t, "wait", "")
	tr.Until(t, "wait", "")
	if got := get(t, "release"); got != "-2" {
		t.Errorf("release reads %s while two waits are held, want -2", got)
	}
	set(t, "release", 2)
	tr.Until(t, "done", "")
	tr.Until(t, "done", "")
}

// waitState waits until thread tid is in a state of /proc's, "D" say.
func waitState(t *testing.T, tid int, state string) {
	t.Helper()
	path := fmt.Sprintf("/proc/self/task/%d/stat", tid)
	got := ""
	for deadline := time.Now().Add(modtest.Patience); time.Now().Before(deadline); runtime.Gosched() {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if got = rest[:1]; got == state {
			return
		}
	}
	t.Fatalf("%s: state %s, want %s", path, got, state)
}

// TestHold: each wait lasts until a ticket comes, be it written before or
// after, and tickets go to the waits in the order in which these began.
func TestHold(t *testing.T) {
	setup(t)
	set(t, "replies", 3)
	set(t, "hold", 1)
	tr, s := trace(t), open(t)

	sent := background(t, "sendto", func() error { return s.Send(message(1, 0, nil)) })
	e := last(tr.Until(t, "wait", "n=0 hold=1"))
	waitState(t, e.Task, "D")
	if got := get(t, "release"); got != "-1" {
		t.Errorf("release reads %s while a wait is held, want -1", got)
	}
	s.Empty(t)

	set(t, "release", 1)
	want(t, tr.Until(t, "wait", ""), "wake n=0 why=release", "reply n=0 ret=1040", "wait n=1")
	s.mustReplies(t, 1, 1, s.Port)
	s.Empty(t)

	set(t, "release", 5)
	sent()
	want(t, tr.Now(t), "wake n=1 why=release", "reply n=1", "wait n=2", "wake n=2 why=release", "reply n=2", "done sent=3")
	s.mustReplies(t, 2, 1, s.Port)

	// Three tickets are left over and serve the next message's waits.
	if got := get(t, "release"); got != "3" {
		t.Errorf("release reads %s, want 3 tickets left", got)
	}
	s.MustSend(t, message(2, 0, nil))
	s.mustReplies(t, 3, 2, s.Port)
	tr.Now(t)

	// Tickets that are taken back serve nobody.
	set(t, "release", 4)
	set(t, "release", 0)
	sent = background(t, "sendto", func() error { return s.Send(message(3, 0, nil)) })
	tr.Until(t, "wait", "n=0")
	if got := get(t, "release"); got != "-1" {
		t.Errorf("release reads %s, want -1: 0 takes tickets back", got)
	}
	set(t, "release", 3)
	sent()
	s.mustReplies(t, 3, 3, s.Port)
}

// TestHoldOrder: two senders are held at once, no lock keeps one out, and the
// one that came first goes first.
func TestHoldOrder(t *testing.T) {
	setup(t)
	set(t, "hold", 1)
	tr, a, b := trace(t), open(t), open(t)

	aSent := background(t, "sendto of the first", func() error { return a.Send(message(1, 0, nil)) })
	tr.Until(t, "wait", fmt.Sprintf("portid=%d", a.Port))
	bSent := background(t, "sendto of the second", func() error { return b.Send(message(2, 0, nil)) })
	want(t, tr.Until(t, "wait", ""), fmt.Sprintf("input portid=%d depth=1", b.Port), fmt.Sprintf("wait portid=%d", b.Port))

	set(t, "release", 1)
	aSent()
	want(t, tr.Now(t), fmt.Sprintf("wake portid=%d", a.Port), "reply", "done")
	a.mustReplies(t, 1, 1, a.Port)
	b.Empty(t)
	set(t, "release", 1)
	bSent()
	want(t, tr.Now(t), fmt.Sprintf("wake portid=%d", b.Port), "reply", "done")
}

// TestHoldOff: hold=0 frees the messages that are held, for good, and only
// those, and drops tickets.
func TestHoldOff(t *testing.T) {
	setup(t)
	set(t, "replies", 3)
	set(t, "hold", 1)
	tr, s := trace(t), open(t)

	sent := background(t, "sendto", func() error { return s.Send(message(1, 0, nil)) })
	tr.Until(t, "wait", "n=0")
	set(t, "hold", 0)
	set(t, "hold", 1) // holds no wait of that message
	sent()
	want(t, tr.Now(t), "wake n=0 why=freed", "reply", "wait n=1 hold=1", "wake n=1 why=freed", "reply",
		"wait n=2", "wake n=2 why=freed", "reply", "done sent=3")
	s.mustReplies(t, 3, 1, s.Port)

	set(t, "release", 7)
	set(t, "hold", 0)
	if got := get(t, "release"); got != "0" {
		t.Errorf("release reads %s after hold=0, want 0", got)
	}
}

// TestSnapshot: parameters are read once a message.
func TestSnapshot(t *testing.T) {
	setup(t)
	set(t, "replies", 2)
	set(t, "hold", 1)
	tr, a, b := trace(t), open(t), open(t)

	sent := background(t, "sendto", func() error { return a.Send(message(1, b.Port, nil)) })
	tr.Until(t, "wait", "n=0")
	set(t, "replies", 5)
	set(t, "reply_to", "header")
	set(t, "defer", 1)
	set(t, "release", 2)
	sent()
	a.mustReplies(t, 2, 1, a.Port)
	b.Empty(t)
}

// TestRecursion: a reply to port 0 is a message to nlecho, taken inside the
// call that sends it. Nothing stops that but the stack; here each level is
// held, so the test decides how deep it goes.
func TestRecursion(t *testing.T) {
	setup(t)
	set(t, "reply_to", "header")
	set(t, "hold", 1)
	tr, s := trace(t), open(t)

	const levels = 6
	sent := background(t, "sendto", func() error { return s.Send(message(1, 0, nil)) })
	var left []int64
	for level := 1; level <= levels; level++ {
		events := tr.Until(t, "wait", "")
		in := events[len(events)-2]
		if !in.Is("input", fmt.Sprintf("depth=%d pid=0 to=0 seq=1", level)) {
			t.Fatalf("event %v, want input at depth %d", in, level)
		}
		if got, want := in.Num(t, "portid"), int64(s.Port); level == 1 && got != want || level > 1 && got != 0 {
			t.Errorf("event %v: portid %d at depth %d", in, got, level)
		}
		left = append(left, in.Num(t, "stack_left"))
		if level == levels {
			set(t, "replies", 0) // what comes next is answered by nothing
		}
		set(t, "release", 1)
	}
	sent()
	lines := []string{"wake why=release", fmt.Sprintf("input depth=%d replies=0", levels+1), "done sent=0"}
	for range levels {
		lines = append(lines, "reply to=0 ret=1040", "done sent=1")
	}
	want(t, tr.Now(t), lines...)

	for i := 2; i < levels; i++ {
		if a, b := left[i-2]-left[i-1], left[i-1]-left[i]; i > 2 && a != b || b <= 0 {
			t.Errorf("stack_left by level: %v: want the same step each time", left)
			break
		}
	}
	t.Logf("%d bytes of stack a level, of %v", left[levels-2]-left[levels-1], left)
}

// TestMaxDepth: the first message beyond the depth stops all that led to it, and
// nothing else is different afterwards.
func TestMaxDepth(t *testing.T) {
	setup(t)
	set(t, "reply_to", "header")
	set(t, "replies", 2)
	set(t, "max_depth", 3)
	tr, s := trace(t), open(t)

	s.MustSend(t, message(1, 0, nil))
	var lines []string
	for depth := 1; depth <= 3; depth++ {
		lines = append(lines, fmt.Sprintf("input depth=%d to=0", depth), "wait n=0", "wake n=0 why=delay")
	}
	lines = append(lines, "input depth=4 to=0", "reject reason=deep")
	for range 3 {
		lines = append(lines, "reply n=0 to=0 ret=1040", "wait n=1", "wake n=1 why=stop", "done sent=1")
	}
	want(t, tr.Now(t), lines...)
	s.Empty(t)

	set(t, "max_depth", 1)
	s.MustSend(t, message(2, s.Port, nil))
	s.mustReplies(t, 2, 2, s.Port)
	want(t, tr.Now(t), "input depth=1", "wait n=0", "wake", "reply", "wait n=1", "wake why=delay", "reply", "done sent=2")
}

// TestStop: every answer under way ends, however it waits, and later ones do not.
func TestStop(t *testing.T) {
	setup(t)
	set(t, "replies", 2)
	tr, held, delayed, deferred := trace(t), open(t), open(t), open(t)

	set(t, "delay_ms", 3600000)
	waitDelayed := background(t, "sendto, an hour's pause", func() error { return delayed.Send(message(1, 0, nil)) })
	tr.Until(t, "wait", "hold=0")
	set(t, "hold", 1)
	waitHeld := background(t, "sendto, held", func() error { return held.Send(message(2, 0, nil)) })
	tr.Until(t, "wait", "hold=1")
	set(t, "defer", 1)
	deferred.MustSend(t, message(3, 0, nil))
	tr.Until(t, "wait", "hold=1")

	set(t, "stop", 1)
	waitDelayed()
	waitHeld()
	for range 3 {
		events := tr.Until(t, "done", "")
		if e := last(events); !e.Is("done", "sent=0") {
			t.Errorf("%v, want sent=0", e)
		}
	}
	for _, s := range []*socket{held, delayed, deferred} {
		s.Empty(t)
	}

	set(t, "defer", 0)
	waitHeld = background(t, "sendto, held", func() error { return held.Send(message(4, 0, nil)) })
	tr.Until(t, "wait", "hold=1")
	set(t, "hold", 0)
	waitHeld()
	held.mustReplies(t, 2, 4, held.Port)
}

// oracle says which events a datagram from port causes, with replies=0.
func oracle(datagram []byte, port uint32) []string {
	var lines []string
	for off := 0; ; {
		rest := datagram[off:]
		reject := func(length uint32, reason string) {
			lines = append(lines, fmt.Sprintf("reject portid=%d skb_len=%d offset=%d nlmsg_len=%d reason=%s",
				port, len(datagram), off, length, reason))
		}
		if len(rest) < headerLen {
			reject(0, "short")
			return lines
		}
		length := binary.NativeEndian.Uint32(rest)
		if length < headerLen {
			reject(length, "below")
			return lines
		}
		if uint64(length) > uint64(len(rest)) {
			reject(length, "beyond")
			return lines
		}
		lines = append(lines, fmt.Sprintf("input portid=%d skb_len=%d offset=%d nlmsg_len=%d type=%d seq=%d pid=%d crc=%08x depth=1",
			port, len(datagram), off, length, binary.NativeEndian.Uint16(rest[4:]), binary.NativeEndian.Uint32(rest[8:]),
			binary.NativeEndian.Uint32(rest[12:]), crc32.ChecksumIEEE(rest[:length])), "done sent=0")
		off += (int(length) + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
		if off >= len(datagram) {
			return lines
		}
	}
}

// TestMalformed: by the datagram, what is taken and what is not.
func TestMalformed(t *testing.T) {
	setup(t)
	tr, s := trace(t), open(t)

	lie := func(length uint32, bytes int) []byte {
		return append(header{length: length, seq: 9}.bytes(), make([]byte, bytes-headerLen)...)
	}
	one := message(1, 0, []byte("12345")) // 21 bytes: padded to 24 when another follows
	for _, tt := range []struct {
		name     string
		datagram []byte
		want     string // the events, but for what answers cause
	}{
		{"one byte", []byte{1}, "reject:short"},
		{"no whole header", lie(16, 16)[:15], "reject:short"},
		{"text", []byte("hello kernel, this is no header"), "reject:beyond"},
		{"header alone", message(1, 0, nil), "input"},
		{"length 0", lie(0, 32), "reject:below"},
		{"length 15", lie(15, 32), "reject:below"},
		{"length 16, more bytes follow", lie(16, 1040), "input reject:below"},
		{"one more than is there", lie(1041, 1040), "reject:beyond"},
		{"2 GiB", lie(1<<31, 1040), "reject:beyond"},
		{"the most", lie(1<<32-1, 1040), "reject:beyond"},
		{"rounds up to 0", lie(1<<32-3, 1040), "reject:beyond"},
		{"unaligned", one, "input"},
		{"padded", align(one), "input"},
		{"two", append(align(one), one...), "input input"},
		{"three and a tail", append(bytes.Repeat(align(one), 3), 1, 2, 3), "input input input reject:short"},
		{"good, lying, good", append(append(align(one), lie(999, 24)...), align(one)...), "input reject:beyond"},
		{"65 headers", bytes.Repeat(message(1, 0, nil), 65), strings.TrimSpace(strings.Repeat("input ", 65))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set(t, "replies", 1)
			s.MustSend(t, tt.datagram)
			var got []string
			for _, e := range tr.Now(t) {
				switch e.Name {
				case "input":
					got = append(got, "input")
					s.mustReplies(t, 1, uint32(e.Num(t, "seq")), s.Port)
				case "reject":
					got = append(got, "reject:"+e.F["reason"])
				}
			}
			s.Empty(t)
			if g := strings.Join(got, " "); g != tt.want {
				t.Errorf("events %s, want %s", g, tt.want)
			}
			set(t, "replies", 0)
			s.MustSend(t, tt.datagram)
			want(t, tr.Now(t), oracle(tt.datagram, s.Port)...)
		})
	}

	t.Run("empty", func(t *testing.T) {
		err := s.Send(nil)
		if errors.Is(err, unix.ENODATA) { // since 5.16 the core refuses it
			want(t, tr.Now(t))
			return
		}
		if err != nil {
			t.Fatalf("sendto of nothing: %v", err)
		}
		want(t, tr.Now(t), "reject skb_len=0 offset=0 nlmsg_len=0 reason=short")
	})
}

// TestLarge: as much as a socket may send at once.
func TestLarge(t *testing.T) {
	setup(t)
	tr, s := trace(t), open(t)
	payload := make([]byte, 200<<10)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range payload {
		payload[i] = byte(r.Uint32())
	}
	msg := message(5, 0, payload)
	s.MustSend(t, msg)
	want(t, tr.Now(t), fmt.Sprintf("input skb_len=%d nlmsg_len=%d crc=%08x", len(msg), len(msg), crc32.ChecksumIEEE(msg)),
		"wait", "wake", "reply ret=1040", "done sent=1")
	s.mustReplies(t, 1, 5, s.Port)

	many := bytes.Repeat(message(6, 0, nil), len(payload)/headerLen) // 12800 messages
	set(t, "replies", 0)
	done := background(t, "sendto", func() error { return s.Send(many) })
	inputs := 0
	for inputs < len(payload)/headerLen {
		if e, ok := tr.Next(t, time.Now().Add(modtest.Patience)); !ok {
			t.Fatalf("%d messages taken, want %d", inputs, len(payload)/headerLen)
		} else if e.Name == "input" {
			inputs++
		}
	}
	done()
	tr.Now(t)
}

// TestRandom: ten thousand datagrams of chance, each judged to the byte.
func TestRandom(t *testing.T) {
	setup(t)
	set(t, "replies", 0)
	tr, s := trace(t), open(t)

	const seed, datagrams, batch = 20260101, 10_000, 100
	r := rand.New(rand.NewPCG(seed, 0))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	lengths := []uint32{0, 1, 4, 15, 16, 17, 19, 20, 64, 1<<31 - 1, 1 << 31, 1<<32 - 4, 1<<32 - 1}
	datagram := func() []byte {
		if r.IntN(5) == 0 {
			return noise(1 + r.IntN(300))
		}
		var b []byte
		for range 1 + r.IntN(5) {
			m := message(r.Uint32(), r.Uint32(), noise(r.IntN(200)))
			switch r.IntN(8) {
			case 0:
				binary.NativeEndian.PutUint32(m, lengths[r.IntN(len(lengths))])
			case 1:
				binary.NativeEndian.PutUint32(m, uint32(len(m)+r.IntN(9)-4))
			case 2:
				m = m[:r.IntN(len(m))]
			}
			b = append(b, m...)
			if r.IntN(8) != 0 {
				b = align(b)
			}
		}
		if len(b) == 0 {
			b = []byte{0}
		}
		return b
	}

	taken, refused := 0, 0
	for i := 0; i < datagrams; i += batch {
		var lines []string
		for range batch {
			d := datagram()
			s.MustSend(t, d)
			lines = append(lines, oracle(d, s.Port)...)
		}
		got := tr.Now(t)
		for j := range min(len(got), len(lines)) {
			name, fields, _ := strings.Cut(lines[j], " ")
			if !got[j].Is(name, fields) {
				t.Fatalf("seed %d, datagrams %d to %d, event %d: %v\nwant %s", seed, i, i+batch, j, got[j], lines[j])
			}
			switch name {
			case "input":
				taken++
			case "reject":
				refused++
			}
		}
		if len(got) != len(lines) {
			t.Fatalf("seed %d, datagrams %d to %d: %d events, want %d", seed, i, i+batch, len(got), len(lines))
		}
	}
	if taken < datagrams/2 || refused < datagrams/4 {
		t.Errorf("%d messages taken, %d refused: the mixture is a poor test", taken, refused)
	}
	t.Logf("%d messages taken, %d refused", taken, refused)
	s.Empty(t)
}

// TestConcurrent: many senders, each gets its own replies and nothing else,
// while the parameters change under them.
func TestConcurrent(t *testing.T) {
	for _, deferred := range []int{0, 1} {
		t.Run(fmt.Sprintf("defer=%d", deferred), func(t *testing.T) {
			setup(t)
			set(t, "replies", 3)
			set(t, "defer", deferred)

			const senders, messages = 8, 200
			var wg sync.WaitGroup
			errs := make(chan error, senders)
			for i := range senders {
				s := open(t)
				wg.Go(func() {
					for m := range messages {
						seq := uint32(i<<16 | m)
						if err := s.Send(message(seq, s.Port, nil)); err != nil {
							errs <- fmt.Errorf("port %d: sendto: %w", s.Port, err)
							return
						}
						if err := s.replies(3, seq, s.Port); err != nil {
							errs <- err
							return
						}
					}
				})
			}
			stop := make(chan struct{})
			turns := 0
			over := background(t, "changing parameters", func() error {
				for ; ; turns++ {
					// Each turn ends with hold=0, so nobody is held for ever.
					for _, kv := range []struct{ name, value string }{
						{"hold", "1"}, {"reply_to", "header"}, {"release", "5"}, {"delay_ms", "1"},
						{"reply_to", "sender"}, {"release", "0"}, {"delay_ms", "0"}, {"hold", "0"},
					} {
						if err := module.Write(kv.name, kv.value); err != nil {
							return fmt.Errorf("set %s=%s: %w", kv.name, kv.value, err)
						}
					}
					select {
					case <-stop:
						return nil
					default:
					}
				}
			})
			wg.Wait()
			close(stop)
			over()
			close(errs)
			for err := range errs {
				t.Error(err)
			}
			t.Logf("the parameters changed %d times meanwhile", turns)
		})
	}
}

// TestParameters: what is taken reads back, what is not is refused and changes
// nothing.
func TestParameters(t *testing.T) {
	setup(t)
	for _, tt := range []struct{ name, good, bad string }{
		{"replies", "0 1 10 10000", "-1 10001 4294967296 99999999999999999999 1.5 ten 0x10 1e3"},
		{"delay_ms", "0 3000 3600000", "-1 3600001 -3000 3s"},
		{"reply_to", "header sender", "Sender sende senders 0 1 kernel"},
		{"group", "1 32 33 64 0", "-1 65 x"},
		{"defer", "1 0", "2 -1 Y yes"},
		{"hold", "1 0", "2 -1 N off"},
		{"release", "1 0 1000000 0", "-1 1000001 x"},
		{"max_depth", "1 1000 0", "-1 1001 deep"},
	} {
		for _, v := range strings.Fields(tt.good) {
			for _, end := range []string{"", "\n"} {
				if err := module.Write(tt.name, v+end); err != nil {
					t.Errorf("%s=%q: %v", tt.name, v+end, err)
				}
				if tt.name == "release" { // tickets add up
					if v == "0" {
						continue
					}
					set(t, "release", 0)
					set(t, "release", v)
				}
				if got := get(t, tt.name); got != v {
					t.Errorf("%s=%s reads back %s", tt.name, v, got)
				}
				if tt.name == "release" {
					set(t, "release", 0)
				}
			}
		}
		before := get(t, tt.name)
		for _, v := range append(strings.Fields(tt.bad), "", "\n", "1 2") {
			if v == "" {
				continue // module.Write(2) of nothing does not reach the module
			}
			if err := module.Write(tt.name, v); !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s=%q: %v, want EINVAL", tt.name, v, err)
			}
			if got := get(t, tt.name); got != before {
				t.Errorf("%s=%q: refused, and yet it reads %s", tt.name, v, got)
			}
		}
	}

	for _, v := range []string{"0", "2", "-1", "now"} {
		if err := module.Write("stop", v); !errors.Is(err, unix.EINVAL) {
			t.Errorf("stop=%s: %v, want EINVAL", v, err)
		}
	}

	set(t, "release", 999_999)
	if err := module.Write("release", "2"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("release=2 with 999999 tickets there: %v, want EINVAL", err)
	}
	if got := get(t, "release"); got != "999999" {
		t.Errorf("release reads %s, want 999999", got)
	}
}

// TestNetns: each network namespace has its own nlecho, and one that ends
// takes the answers with it that are still under way.
func TestNetns(t *testing.T) {
	setup(t)
	tr, outside := trace(t), open(t)

	var inum uint64
	err := modtest.NewNetns(func() error {
		var st unix.Stat_t
		if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
			return err
		}
		inum = st.Ino
		s, err := tryOpen()
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.Send(message(1, 0, nil)); err != nil {
			return err
		}
		return s.replies(1, 1, s.Port)
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, tr.Now(t)[:1], fmt.Sprintf("input netns=%d", inum))

	set(t, "defer", 1)
	set(t, "replies", 3)
	for round := range 3 { // namespaces end one after the other: a hang would show
		for _, how := range []struct{ hold, delay int }{{1, 0}, {0, 3_600_000}} {
			set(t, "hold", how.hold)
			set(t, "delay_ms", how.delay)
			err := modtest.NewNetns(func() error {
				s, err := tryOpen()
				if err != nil {
					return err
				}
				defer s.Close()
				if err := s.Send(message(1, 0, nil)); err != nil {
					return err
				}
				return s.Send(message(2, 0, nil))
			})
			if err != nil {
				t.Fatal(err)
			}
			events := append(tr.Until(t, "done", "sent=0"), tr.Until(t, "done", "sent=0")...)
			inputs := 0
			for _, e := range events {
				if e.Name != "input" {
					continue
				}
				inputs++
				want(t, of(events, e.F["id"]), "input", "wait n=0", "wake n=0 why=exit", "done replies=3 sent=0")
			}
			if inputs != 2 {
				t.Fatalf("round %d: %d messages taken, want 2:\n%s", round, inputs, list(events))
			}
			set(t, "hold", 0)
		}
	}

	// The others live on.
	set(t, "delay_ms", 0)
	outside.MustSend(t, message(9, 0, nil))
	outside.mustReplies(t, 3, 9, outside.Port)
}

// TestReload: it goes and comes again, and again, and leaves nothing.
func TestReload(t *testing.T) {
	setup(t)
	tr := trace(t)

	s := open(t)
	if err := module.Unload(); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("unload with a socket open: %v, want EAGAIN", err)
	}
	s.Close()

	for round := range 2 {
		// Deferred answers are held for ever; nobody is there to read them.
		set(t, "replies", 3)
		set(t, "defer", 1)
		set(t, "hold", 1)
		s := open(t)
		s.MustSend(t, message(1, 0, nil))
		s.MustSend(t, message(2, 0, nil))
		tr.Until(t, "wait", "")
		tr.Until(t, "wait", "")
		s.Close()

		if err := module.Unload(); err != nil {
			t.Fatalf("round %d: unload with answers held: %v", round, err)
		}
		if _, err := os.Stat("/sys/module/nlecho"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("round %d: after unloading /sys/module/nlecho is there: %v", round, err)
		}
		if _, err := tryOpen(); !errors.Is(err, unix.EPROTONOSUPPORT) {
			t.Fatalf("round %d: after unloading %v, want EPROTONOSUPPORT", round, err)
		}

		for _, bad := range []string{"replies=-1", "replies=10001", "delay_ms=forever", "reply_to=me", "defer=2", "hold=yes", "release=-1", "hold", "hold="} {
			if err := module.Load(t, bad); !errors.Is(err, unix.EINVAL) {
				t.Fatalf("load with %s: %v, want EINVAL", bad, err)
			}
		}

		if err := module.Load(t, "replies=2 reply_to=header hold=1 release=2"); err != nil {
			t.Fatalf("round %d: load: %v", round, err)
		}
		s = open(t)
		s.MustSend(t, message(3, s.Port, nil))
		s.mustReplies(t, 2, 3, s.Port)
		s.Close()
		if err := module.Unload(); err != nil {
			t.Fatalf("round %d: unload: %v", round, err)
		}

		if err := module.Load(t, ""); err != nil {
			t.Fatalf("round %d: load: %v", round, err)
		}
		tr.Enable(t)
		for name, value := range map[string]string{
			"replies": "10", "delay_ms": "3000", "reply_to": "sender", "defer": "0", "hold": "0", "release": "0",
		} {
			if got := get(t, name); got != value {
				t.Errorf("round %d: %s is %s after loading, want %s", round, name, got, value)
			}
		}
	}
}

// TestLeak: fifty thousand messages and deferred answers, of which the smallest
// part takes 96 bytes, leave no memory taken.
func TestLeak(t *testing.T) {
	setup(t)
	gone := open(t)
	gone.Close()
	many := bytes.Repeat(message(1, gone.Port, nil), 12_800)
	round := func() int {
		for range 4 {
			s := open(t)
			s.MustSend(t, many)
			s.Close()
		}
		// Unloading ends, unsent, what is not answered yet.
		if err := module.Unload(); err != nil {
			t.Fatalf("unload: %v", err)
		}
		if err := module.Load(t, "replies=1 delay_ms=0 reply_to=header defer=1"); err != nil {
			t.Fatalf("load: %v", err)
		}
		return modtest.Slab(t)
	}
	set(t, "delay_ms", 0)
	set(t, "reply_to", "header")
	set(t, "defer", 1)
	before := round() // fills the kernel's own caches
	after := round()
	t.Logf("slab memory: %d KiB, then %d KiB", before, after)
	if after-before > 2000 {
		t.Errorf("slab memory grew by %d KiB: 51200 objects of 96 bytes are 4800 KiB", after-before)
	}
}
