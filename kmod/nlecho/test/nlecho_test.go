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
	s.mustSend(t, msg)
	events := tr.now(t)
	s.mustReplies(t, 10, 7, s.port)
	s.empty(t)

	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		t.Fatal(err)
	}
	lines := []string{fmt.Sprintf("input netns=%d portid=%d dst_group=0 skb_len=1040 offset=0 nlmsg_len=1040 "+
		"type=%d flags=0x301 seq=7 pid=4711 crc=%08x depth=1 to=%d replies=10 delay_ms=0 reply_to=sender defer=0 hold=0",
		ns.Ino, s.port, 0x1234, crc32.ChecksumIEEE(msg), s.port)}
	for n := range 10 {
		lines = append(lines,
			fmt.Sprintf("wait portid=%d n=%d delay_ms=0 hold=0", s.port, n),
			fmt.Sprintf("wake portid=%d n=%d why=delay", s.port, n),
			fmt.Sprintf("reply portid=%d to=%d n=%d ret=1040", s.port, s.port, n))
	}
	lines = append(lines, fmt.Sprintf("done portid=%d replies=10 sent=10", s.port))
	want(t, events, lines...)

	in := events[0]
	if got, want := in.f["data"], fmt.Sprintf("%x", msg[:64]); got != want {
		t.Errorf("data=%s, want %s", got, want)
	}
	if left, size := in.num(t, "stack_left"), in.num(t, "stack_size"); left <= 0 || left >= size {
		t.Errorf("stack_left=%d of %d: the callback runs on a stack", left, size)
	}
	for _, e := range events {
		if e.task != unix.Gettid() || e.f["id"] != in.f["id"] {
			t.Errorf("event %v: want task %d, id %s", e, unix.Gettid(), in.f["id"])
		}
	}

	// A message to a group goes to the kernel too, its group with it.
	err := unix.Sendto(s.fd, message(8, 0, nil), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << 4})
	if err != nil {
		t.Fatalf("sendto group 5: %v", err)
	}
	if in := tr.now(t)[0]; !in.is("input", "dst_group=5 seq=8 nlmsg_len=16") {
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
	s.mustSend(t, message(1, 0, nil))
	if took := time.Since(start); took < 60*time.Millisecond {
		t.Errorf("sendto took %v, want at least 3 times 20 ms", took)
	}
	want(t, tr.now(t), "input", "wait delay_ms=20 n=0", "wake why=delay", "reply", "wait n=1", "wake why=delay", "reply",
		"wait n=2", "wake why=delay", "reply", "done sent=3")
}

// TestReplyTo: replies follow the kernel's word or the header's, and what
// becomes of them is told.
func TestReplyTo(t *testing.T) {
	setup(t)
	tr, a, b := trace(t), open(t), open(t)

	a.mustSend(t, message(1, b.port, nil))
	a.mustReplies(t, 1, 1, a.port)
	b.empty(t)

	set(t, "reply_to", "header")
	a.mustSend(t, message(2, b.port, nil))
	b.mustReplies(t, 1, 2, b.port)
	a.empty(t)
	tr.now(t)

	// Nobody there: the sender is not told, the event is.
	gone := open(t)
	gone.close()
	a.mustSend(t, message(3, gone.port, nil))
	want(t, tr.now(t), fmt.Sprintf("input to=%d reply_to=header", gone.port), "wait", "wake",
		fmt.Sprintf("reply to=%d ret=-111", gone.port), "done replies=1 sent=0")
}

// TestFull: a receiver that does not read loses replies (EAGAIN for the
// module), is told by ENOBUFS first, and then finds what had room.
func TestFull(t *testing.T) {
	setup(t)
	set(t, "replies", 300)
	tr, s := trace(t), open(t)
	s.mustSend(t, message(1, 0, nil))

	sent, full := 0, 0
	events := tr.now(t)
	for _, e := range events {
		if e.name != "reply" {
			continue
		}
		switch ret := e.num(t, "ret"); {
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
	s.mustReplies(t, sent, 1, s.port)
	s.empty(t)
}

// TestDefer: the callback returns before anything is sent; another task sends.
func TestDefer(t *testing.T) {
	setup(t)
	set(t, "replies", 2)
	set(t, "defer", 1)
	set(t, "hold", 1)
	tr, s := trace(t), open(t)

	s.mustSend(t, message(1, 0, nil)) // returns although every wait is held
	s.empty(t)
	set(t, "release", 2)
	s.mustReplies(t, 2, 1, s.port)
	events := tr.until(t, "done", "")
	want(t, events, "input defer=1 hold=1", "wait n=0", "wake why=release", "reply ret=1040",
		"wait n=1", "wake why=release", "reply ret=1040", "done sent=2")
	for _, e := range events[1:] {
		if e.task == events[0].task {
			t.Errorf("event %v: in the sender's task, want a worker's", e)
		}
	}

	// Answers to oneself: refused, as they would never end.
	set(t, "reply_to", "header")
	s.mustSend(t, message(2, 0, []byte("abcd")))
	want(t, tr.now(t), "input to=0 defer=1", fmt.Sprintf("reject portid=%d skb_len=20 offset=0 nlmsg_len=20 reason=port0", s.port))

	// Two answers wait side by side.
	set(t, "reply_to", "sender")
	set(t, "replies", 1)
	s.mustSend(t, message(3, 0, nil))
	s.mustSend(t, message(4, 0, nil))
	tr.until(t, "wait", "")
	tr.until(t, "wait", "")
	if got := get(t, "release"); got != "-2" {
		t.Errorf("release reads %s while two waits are held, want -2", got)
	}
	set(t, "release", 2)
	tr.until(t, "done", "")
	tr.until(t, "done", "")
}

// waitState waits until thread tid is in a state of /proc's, "D" say.
func waitState(t *testing.T, tid int, state string) {
	t.Helper()
	path := fmt.Sprintf("/proc/self/task/%d/stat", tid)
	got := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
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

	sent := background(t, "sendto", func() error { return s.send(message(1, 0, nil)) })
	e := last(tr.until(t, "wait", "n=0 hold=1"))
	waitState(t, e.task, "D")
	if got := get(t, "release"); got != "-1" {
		t.Errorf("release reads %s while a wait is held, want -1", got)
	}
	s.empty(t)

	set(t, "release", 1)
	want(t, tr.until(t, "wait", ""), "wake n=0 why=release", "reply n=0 ret=1040", "wait n=1")
	s.mustReplies(t, 1, 1, s.port)
	s.empty(t)

	set(t, "release", 5)
	sent()
	want(t, tr.now(t), "wake n=1 why=release", "reply n=1", "wait n=2", "wake n=2 why=release", "reply n=2", "done sent=3")
	s.mustReplies(t, 2, 1, s.port)

	// Three tickets are left over and serve the next message's waits.
	if got := get(t, "release"); got != "3" {
		t.Errorf("release reads %s, want 3 tickets left", got)
	}
	s.mustSend(t, message(2, 0, nil))
	s.mustReplies(t, 3, 2, s.port)
	tr.now(t)

	// Tickets that are taken back serve nobody.
	set(t, "release", 4)
	set(t, "release", 0)
	sent = background(t, "sendto", func() error { return s.send(message(3, 0, nil)) })
	tr.until(t, "wait", "n=0")
	if got := get(t, "release"); got != "-1" {
		t.Errorf("release reads %s, want -1: 0 takes tickets back", got)
	}
	set(t, "release", 3)
	sent()
	s.mustReplies(t, 3, 3, s.port)
}

// TestHoldOrder: two senders are held at once, no lock keeps one out, and the
// one that came first goes first.
func TestHoldOrder(t *testing.T) {
	setup(t)
	set(t, "hold", 1)
	tr, a, b := trace(t), open(t), open(t)

	aSent := background(t, "sendto of the first", func() error { return a.send(message(1, 0, nil)) })
	tr.until(t, "wait", fmt.Sprintf("portid=%d", a.port))
	bSent := background(t, "sendto of the second", func() error { return b.send(message(2, 0, nil)) })
	want(t, tr.until(t, "wait", ""), fmt.Sprintf("input portid=%d depth=1", b.port), fmt.Sprintf("wait portid=%d", b.port))

	set(t, "release", 1)
	aSent()
	want(t, tr.now(t), fmt.Sprintf("wake portid=%d", a.port), "reply", "done")
	a.mustReplies(t, 1, 1, a.port)
	b.empty(t)
	set(t, "release", 1)
	bSent()
	want(t, tr.now(t), fmt.Sprintf("wake portid=%d", b.port), "reply", "done")
}

// TestHoldOff: hold=0 frees the messages that are held, for good, and only
// those, and drops tickets.
func TestHoldOff(t *testing.T) {
	setup(t)
	set(t, "replies", 3)
	set(t, "hold", 1)
	tr, s := trace(t), open(t)

	sent := background(t, "sendto", func() error { return s.send(message(1, 0, nil)) })
	tr.until(t, "wait", "n=0")
	set(t, "hold", 0)
	set(t, "hold", 1) // holds no wait of that message
	sent()
	want(t, tr.now(t), "wake n=0 why=freed", "reply", "wait n=1 hold=1", "wake n=1 why=freed", "reply",
		"wait n=2", "wake n=2 why=freed", "reply", "done sent=3")
	s.mustReplies(t, 3, 1, s.port)

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

	sent := background(t, "sendto", func() error { return a.send(message(1, b.port, nil)) })
	tr.until(t, "wait", "n=0")
	set(t, "replies", 5)
	set(t, "reply_to", "header")
	set(t, "defer", 1)
	set(t, "release", 2)
	sent()
	a.mustReplies(t, 2, 1, a.port)
	b.empty(t)
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
	sent := background(t, "sendto", func() error { return s.send(message(1, 0, nil)) })
	var left []int64
	for level := 1; level <= levels; level++ {
		events := tr.until(t, "wait", "")
		in := events[len(events)-2]
		if !in.is("input", fmt.Sprintf("depth=%d pid=0 to=0 seq=1", level)) {
			t.Fatalf("event %v, want input at depth %d", in, level)
		}
		if got, want := in.num(t, "portid"), int64(s.port); level == 1 && got != want || level > 1 && got != 0 {
			t.Errorf("event %v: portid %d at depth %d", in, got, level)
		}
		left = append(left, in.num(t, "stack_left"))
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
	want(t, tr.now(t), lines...)

	for i := 2; i < levels; i++ {
		if a, b := left[i-2]-left[i-1], left[i-1]-left[i]; i > 2 && a != b || b <= 0 {
			t.Errorf("stack_left by level: %v: want the same step each time", left)
			break
		}
	}
	t.Logf("%d bytes of stack a level, of %v", left[levels-2]-left[levels-1], left)
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
			s.mustSend(t, tt.datagram)
			var got []string
			for _, e := range tr.now(t) {
				switch e.name {
				case "input":
					got = append(got, "input")
					s.mustReplies(t, 1, uint32(e.num(t, "seq")), s.port)
				case "reject":
					got = append(got, "reject:"+e.f["reason"])
				}
			}
			s.empty(t)
			if g := strings.Join(got, " "); g != tt.want {
				t.Errorf("events %s, want %s", g, tt.want)
			}
			set(t, "replies", 0)
			s.mustSend(t, tt.datagram)
			want(t, tr.now(t), oracle(tt.datagram, s.port)...)
		})
	}

	t.Run("empty", func(t *testing.T) {
		err := s.send(nil)
		if errors.Is(err, unix.ENODATA) { // since 5.16 the core refuses it
			want(t, tr.now(t))
			return
		}
		if err != nil {
			t.Fatalf("sendto of nothing: %v", err)
		}
		want(t, tr.now(t), "reject skb_len=0 offset=0 nlmsg_len=0 reason=short")
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
	s.mustSend(t, msg)
	want(t, tr.now(t), fmt.Sprintf("input skb_len=%d nlmsg_len=%d crc=%08x", len(msg), len(msg), crc32.ChecksumIEEE(msg)),
		"wait", "wake", "reply ret=1040", "done sent=1")
	s.mustReplies(t, 1, 5, s.port)

	many := bytes.Repeat(message(6, 0, nil), len(payload)/headerLen) // 12800 messages
	set(t, "replies", 0)
	done := background(t, "sendto", func() error { return s.send(many) })
	inputs := 0
	for inputs < len(payload)/headerLen {
		if e, ok := tr.next(t, time.Now().Add(patience)); !ok {
			t.Fatalf("%d messages taken, want %d", inputs, len(payload)/headerLen)
		} else if e.name == "input" {
			inputs++
		}
	}
	done()
	tr.now(t)
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
			s.mustSend(t, d)
			lines = append(lines, oracle(d, s.port)...)
		}
		got := tr.now(t)
		for j := range min(len(got), len(lines)) {
			name, fields, _ := strings.Cut(lines[j], " ")
			if !got[j].is(name, fields) {
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
	s.empty(t)
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
						if err := s.send(message(seq, s.port, nil)); err != nil {
							errs <- fmt.Errorf("port %d: sendto: %w", s.port, err)
							return
						}
						if err := s.replies(3, seq, s.port); err != nil {
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
						if err := write(kv.name, kv.value); err != nil {
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
		{"defer", "1 0", "2 -1 Y yes"},
		{"hold", "1 0", "2 -1 N off"},
		{"release", "1 0 1000000 0", "-1 1000001 x"},
	} {
		for _, v := range strings.Fields(tt.good) {
			for _, end := range []string{"", "\n"} {
				if err := write(tt.name, v+end); err != nil {
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
				continue // write(2) of nothing does not reach the module
			}
			if err := write(tt.name, v); !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s=%q: %v, want EINVAL", tt.name, v, err)
			}
			if got := get(t, tt.name); got != before {
				t.Errorf("%s=%q: refused, and yet it reads %s", tt.name, v, got)
			}
		}
	}

	set(t, "release", 999_999)
	if err := write("release", "2"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("release=2 with 999999 tickets there: %v, want EINVAL", err)
	}
	if got := get(t, "release"); got != "999999" {
		t.Errorf("release reads %s, want 999999", got)
	}
}

// newNetns runs f on a thread that is alone in a new network namespace. The
// thread ends with f, and the namespace with it.
func newNetns(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies
		if unix.Gettid() == unix.Getpid() {
			// The first thread is not ended by Go: have another do it.
			defer runtime.UnlockOSThread()
			done <- newNetns(f)
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("unshare the network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// TestNetns: each network namespace has its own nlecho, and one that ends
// takes the answers with it that are still under way.
func TestNetns(t *testing.T) {
	setup(t)
	tr, outside := trace(t), open(t)

	var inum uint64
	err := newNetns(func() error {
		var st unix.Stat_t
		if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
			return err
		}
		inum = st.Ino
		s, err := tryOpen()
		if err != nil {
			return err
		}
		defer s.close()
		if err := s.send(message(1, 0, nil)); err != nil {
			return err
		}
		return s.replies(1, 1, s.port)
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, tr.now(t)[:1], fmt.Sprintf("input netns=%d", inum))

	set(t, "defer", 1)
	set(t, "replies", 3)
	for round := range 3 { // namespaces end one after the other: a hang would show
		for _, how := range []struct{ hold, delay int }{{1, 0}, {0, 3_600_000}} {
			set(t, "hold", how.hold)
			set(t, "delay_ms", how.delay)
			err := newNetns(func() error {
				s, err := tryOpen()
				if err != nil {
					return err
				}
				defer s.close()
				if err := s.send(message(1, 0, nil)); err != nil {
					return err
				}
				return s.send(message(2, 0, nil))
			})
			if err != nil {
				t.Fatal(err)
			}
			events := append(tr.until(t, "done", "sent=0"), tr.until(t, "done", "sent=0")...)
			inputs := 0
			for _, e := range events {
				if e.name != "input" {
					continue
				}
				inputs++
				want(t, of(events, e.f["id"]), "input", "wait n=0", "wake n=0 why=exit", "done replies=3 sent=0")
			}
			if inputs != 2 {
				t.Fatalf("round %d: %d messages taken, want 2:\n%s", round, inputs, list(events))
			}
			set(t, "hold", 0)
		}
	}

	// The others live on.
	set(t, "delay_ms", 0)
	outside.mustSend(t, message(9, 0, nil))
	outside.mustReplies(t, 3, 9, outside.port)
}

// modulePath returns where the module's file is.
func modulePath(t *testing.T) string {
	t.Helper()
	path := os.Getenv("NETLINK_LABS_MODULE_nlecho")
	if path == "" {
		t.Fatal("NETLINK_LABS_MODULE_nlecho is not set: it names the module's file, to load it anew")
	}
	return path
}

func load(path, params string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), params, 0)
}

// unload unloads the module as rmmod does.
func unload() error { return unix.DeleteModule("nlecho", unix.O_NONBLOCK) }

// TestReload: it goes and comes again, and again, and leaves nothing.
func TestReload(t *testing.T) {
	setup(t)
	path := modulePath(t)
	tr := trace(t)

	s := open(t)
	if err := unload(); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("unload with a socket open: %v, want EAGAIN", err)
	}
	s.close()

	for round := range 2 {
		// Deferred answers are held for ever; nobody is there to read them.
		set(t, "replies", 3)
		set(t, "defer", 1)
		set(t, "hold", 1)
		s := open(t)
		s.mustSend(t, message(1, 0, nil))
		s.mustSend(t, message(2, 0, nil))
		tr.until(t, "wait", "")
		tr.until(t, "wait", "")
		s.close()

		if err := unload(); err != nil {
			t.Fatalf("round %d: unload with answers held: %v", round, err)
		}
		if _, err := os.Stat("/sys/module/nlecho"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("round %d: after unloading /sys/module/nlecho is there: %v", round, err)
		}
		if _, err := tryOpen(); !errors.Is(err, unix.EPROTONOSUPPORT) {
			t.Fatalf("round %d: after unloading %v, want EPROTONOSUPPORT", round, err)
		}

		for _, bad := range []string{"replies=-1", "replies=10001", "delay_ms=forever", "reply_to=me", "defer=2", "hold=yes", "release=-1", "hold", "hold="} {
			if err := load(path, bad); !errors.Is(err, unix.EINVAL) {
				t.Fatalf("load with %s: %v, want EINVAL", bad, err)
			}
		}

		if err := load(path, "replies=2 reply_to=header hold=1 release=2"); err != nil {
			t.Fatalf("round %d: load: %v", round, err)
		}
		s = open(t)
		s.mustSend(t, message(3, s.port, nil))
		s.mustReplies(t, 2, 3, s.port)
		s.close()
		if err := unload(); err != nil {
			t.Fatalf("round %d: unload: %v", round, err)
		}

		if err := load(path, ""); err != nil {
			t.Fatalf("round %d: load: %v", round, err)
		}
		tr.enable(t)
		for name, value := range map[string]string{
			"replies": "10", "delay_ms": "3000", "reply_to": "sender", "defer": "0", "hold": "0", "release": "0",
		} {
			if got := get(t, name); got != value {
				t.Errorf("round %d: %s is %s after loading, want %s", round, name, got, value)
			}
		}
	}
}

// slab returns how much memory the kernel's small objects take, in KiB.
func slab(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nSlab:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("Slab in /proc/meminfo: %v", err)
	}
	return kib
}

// TestLeak: fifty thousand messages and deferred answers, of which the smallest
// part takes 96 bytes, leave no memory taken.
func TestLeak(t *testing.T) {
	setup(t)
	path := modulePath(t)
	gone := open(t)
	gone.close()
	many := bytes.Repeat(message(1, gone.port, nil), 12_800)
	round := func() int {
		for range 4 {
			s := open(t)
			s.mustSend(t, many)
			s.close()
		}
		// Unloading ends, unsent, what is not answered yet.
		if err := unload(); err != nil {
			t.Fatalf("unload: %v", err)
		}
		if err := load(path, "replies=1 delay_ms=0 reply_to=header defer=1"); err != nil {
			t.Fatalf("load: %v", err)
		}
		return slab(t)
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
