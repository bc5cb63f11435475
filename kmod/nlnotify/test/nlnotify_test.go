// SPDX-License-Identifier: GPL-2.0-only

package nlnotify_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/modtest"
)

// mine leaves out what was told in other network namespaces.
func mine(t *testing.T, events []modtest.Event) []modtest.Event {
	t.Helper()
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &ns); err != nil {
		t.Fatal(err)
	}
	var own []modtest.Event
	for _, e := range events {
		if n, ok := e.F["netns"]; !ok || n == fmt.Sprint(ns.Ino) {
			own = append(own, e)
		}
	}
	return own
}

// TestTrigger: news are told in the task that writes, to every member of the group
// and to the agreed port, and nobody has asked for them.
func TestTrigger(t *testing.T) {
	setup(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tr := trace(t)
	a, b, p := open(t, 0, 1), open(t, 0, 1), open(t, agreed, 0)
	want(t, mine(t, tr.Now(t)), "join group=1 ret=0", "join group=1 ret=0")
	n := a.mustCount(t)
	tr.Now(t)

	set(t, "trigger", 2)
	events := mine(t, tr.Now(t))
	var lines []string
	for i := n + 1; i <= n+2; i++ {
		head := fmt.Sprintf("send type=news number=%d cause=trigger wait=0 softirq=0 ", i)
		lines = append(lines, head+"via=group to=1 ret=0", head+fmt.Sprintf("via=port to=%d ret=%d", uint32(agreed), newsLen))
	}
	want(t, events, lines...)
	for _, e := range events {
		if e.Task != unix.Gettid() {
			t.Errorf("event %v: want task %d, which wrote", e, unix.Gettid())
		}
	}
	for i := n + 1; i <= n+2; i++ {
		a.mustHear(t, news(i), 1)
		b.mustHear(t, news(i), 1)
		p.mustHear(t, news(i), 0)
	}
	for _, s := range []*socket{a, b, p} {
		s.Empty(t)
	}

	a.Close()
	want(t, mine(t, tr.Now(t)), "part group=1")
	if err := unix.SetsockoptInt(b.FD, unix.SOL_NETLINK, unix.NETLINK_DROP_MEMBERSHIP, group); err != nil {
		t.Fatal(err)
	}
	want(t, mine(t, tr.Now(t)), "part group=1")
	if err := unix.SetsockoptInt(b.FD, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
		t.Fatal(err)
	}
	want(t, mine(t, tr.Now(t)), "join group=1 ret=0")
}

// TestSignals: a signal that has a handler does not interrupt the trigger. Who is told
// EINTR writes again, as the os package does, and there would be more notices than
// were asked for, or no end.
func TestSignals(t *testing.T) {
	setup(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := open(t, 0, 0)
	writer, stop, stopped := unix.Gettid(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default: // the runtime has a handler for this one, and does nothing
				_ = unix.Tgkill(unix.Getpid(), writer, unix.SIGURG)
			}
		}
	}()
	const rounds, each = 20, 2000
	n := s.mustCount(t)
	for range rounds {
		set(t, "trigger", each)
	}
	close(stop)
	<-stopped
	if got := s.mustCount(t) - n; got != rounds*each {
		t.Errorf("trigger=%d, %d times with signals: %d notices", each, rounds, got)
	}
}

// TestVia: who is told is a parameter, and that nobody listens is no matter.
func TestVia(t *testing.T) {
	setup(t)
	tr := trace(t)
	set(t, "trigger", 1)
	want(t, mine(t, tr.Now(t)), "send via=group ret=-3", "send via=port ret=-111") // ESRCH, ECONNREFUSED

	s := open(t, agreed, 1)
	n := s.mustCount(t)
	tr.Now(t)
	set(t, "via", "port")
	set(t, "trigger", 1)
	want(t, mine(t, tr.Now(t)), fmt.Sprintf("send via=port number=%d", n+1))
	s.mustHear(t, news(n+1), 0)
	set(t, "via", "group")
	set(t, "trigger", 1)
	want(t, mine(t, tr.Now(t)), fmt.Sprintf("send via=group number=%d", n+2))
	s.mustHear(t, news(n+2), 1)
	set(t, "via", "both")
	set(t, "port", 7)
	set(t, "trigger", 1)
	want(t, mine(t, tr.Now(t)), "send via=group ret=0", "send via=port to=7 ret=-111")
}

// TestTimer: the timer speaks in softirq context, again and again, until it is
// switched off.
func TestTimer(t *testing.T) {
	setup(t)
	tr := trace(t)
	s := open(t, agreed, 1)
	n := s.mustCount(t)
	tr.Now(t)
	set(t, "interval_ms", 5)
	for i := n + 1; i <= n+5; i++ {
		s.mustHear(t, news(i), 1)
		s.mustHear(t, news(i), 0)
	}
	set(t, "interval_ms", 0)
	sends := 0
	for _, e := range mine(t, tr.Now(t)) {
		if !e.Is("send", "type=news cause=timer wait=0 softirq=1") {
			t.Fatalf("event %v, want only news in softirq context", e)
		}
		sends++
	}
	if sends < 10 {
		t.Errorf("%d sends, want at least 10", sends)
	}
	// It is over when the write has returned.
	time.Sleep(50 * time.Millisecond)
	want(t, tr.Now(t))
}

// TestFull: a reader that does not read loses news, and nobody waits for it. It is
// told by ENOBUFS first, then finds what had room, and learns by asking what it has
// missed.
func TestFull(t *testing.T) {
	setup(t)
	const burst = 600
	for _, via := range []string{"group", "port"} {
		t.Run(via, func(t *testing.T) {
			set(t, "via", via)
			tr := trace(t)
			s, ask := open(t, agreed, 1), open(t, 0, 0)
			n := ask.mustCount(t)
			tr.Now(t)
			set(t, "trigger", burst)

			room, dropped := 0, 0
			for _, e := range mine(t, tr.Now(t)) {
				switch ret := e.Num(t, "ret"); {
				case ret >= 0 && dropped == 0:
					room++
				case ret == -int64(unix.EAGAIN) && via == "port", ret == -int64(unix.ESRCH) && via == "group":
					dropped++
				default:
					t.Fatalf("event %v after %d sent and %d dropped", e, room, dropped)
				}
			}
			if room == 0 || dropped == 0 || room+dropped != burst {
				t.Fatalf("%d news had room, %d were dropped: want some of both, %d together", room, dropped, burst)
			}
			if _, _, err := s.Recv(0); !errors.Is(err, unix.ENOBUFS) {
				t.Errorf("the first recvfrom: %v, want ENOBUFS", err)
			}
			mask := uint32(0)
			if via == "group" {
				mask = 1
			}
			for i := range room {
				s.mustHear(t, news(n+1+uint32(i)), mask)
			}
			s.Empty(t)
			if got := ask.mustCount(t); got != n+burst {
				t.Errorf("the state is %d after %d and a burst of %d", got, n, burst)
			}
			set(t, "trigger", 1)
			s.mustHear(t, news(n+burst+1), mask)
		})
	}
}

// TestMeanwhile: what comes before an answer is counted in it, what comes behind is not;
// and it comes once, with a question and not with what is none.
func TestMeanwhile(t *testing.T) {
	setup(t)
	set(t, "via", "group")
	tr := trace(t)
	s, ask := open(t, 0, 1), open(t, 0, 0)
	n := ask.mustCount(t)
	set(t, "meanwhile", 2)
	ask.MustSend(t, message(typeGet, unix.NLM_F_REQUEST, 1, 0, number(1)))
	ask.MustSend(t, message(typeNews, unix.NLM_F_REQUEST, 2, 0, nil))
	ask.MustSend(t, message(typeGet, 0, 3, 0, nil))
	for range 2 {
		if _, _, err := ask.Recv(0); err != nil { // the errors
			t.Fatal(err)
		}
	}
	s.Empty(t)
	tr.Now(t)

	if got := ask.mustCount(t); got != n+2 {
		t.Errorf("the answer is %d, want %d and two more", got, n)
	}
	var lines []string
	for i := n + 1; i <= n+4; i++ {
		if i == n+3 {
			lines = append(lines, fmt.Sprintf("request type=18 number=%d", n+2))
		}
		lines = append(lines, fmt.Sprintf("send type=news number=%d cause=question via=group wait=0 softirq=0 ret=0", i))
		s.mustHear(t, news(i), 1)
	}
	events := slices.DeleteFunc(mine(t, tr.Now(t)), func(e modtest.Event) bool { return e.Is("input", "") })
	want(t, events, lines...)
	if got := ask.mustCount(t); got != n+4 || get(t, "meanwhile") != "0" {
		t.Errorf("the answer is %d, want %d: two behind the last answer, and no more", got, n+4)
	}
	s.Empty(t)

	// A queue that is full stays closed until it was empty: of what comes meanwhile
	// nothing has room, and ENOBUFS is not said once more.
	set(t, "trigger", 600)
	if _, _, err := s.Recv(0); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("the first recvfrom: %v, want ENOBUFS", err)
	}
	if _, _, err := s.Recv(0); err != nil { // there is room now
		t.Fatal(err)
	}
	set(t, "meanwhile", 3)
	tr.Now(t)
	ask.mustCount(t)
	dropped := 0
	for _, e := range mine(t, tr.Now(t)) {
		if e.Is("send", "cause=question ret=-3") {
			dropped++
		}
	}
	if dropped != 6 {
		t.Errorf("%d of 6 news were dropped behind ENOBUFS", dropped)
	}
	for {
		_, _, err := s.Recv(unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatalf("recvfrom: %v, want what is queued and then EAGAIN", err)
		}
	}
	set(t, "leave", 1)
	set(t, "meanwhile", 1)
	n = ask.mustCount(t)
	if got := ask.mustCount(t); got != n {
		t.Errorf("%d notices after leave, then %d", n, got)
	}
}

// TestWait: with wait=1 a unicast waits for room, in a worker and as long as it
// takes; nothing is lost. The reader's end is an end of the wait, too.
func TestWait(t *testing.T) {
	setup(t)
	set(t, "via", "port")
	set(t, "wait", 1)
	const burst = 600
	tr := trace(t)
	s, ask := open(t, agreed, 0), open(t, 0, 0)
	n := ask.mustCount(t)
	tr.Now(t)

	set(t, "trigger", burst)
	// The worker has stopped when the number no longer changes.
	stopped := func() (left string) {
		for deadline := time.Now().Add(modtest.Patience); ; {
			now := get(t, "trigger")
			if now == left && now != "0" {
				return left
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s news are still to be told: the worker neither waits nor ends", now)
			}
			left = now
			time.Sleep(100 * time.Millisecond)
		}
	}
	if left := stopped(); left == fmt.Sprint(burst) {
		t.Fatalf("%s of %d news are still to be told: none was", left, burst)
	}
	for i := range uint32(burst) {
		s.mustHear(t, news(n+1+i), 0)
	}
	s.Empty(t)
	events := mine(t, tr.Until(t, "send", fmt.Sprintf("number=%d", n+burst)))
	if len(events) != burst {
		t.Errorf("%d events, want %d", len(events), burst)
	}
	for _, e := range events {
		if !e.Is("send", fmt.Sprintf("wait=1 softirq=0 ret=%d", newsLen)) || e.Task == unix.Gettid() {
			t.Fatalf("event %v: want it told by a worker that may wait", e)
		}
	}

	set(t, "trigger", burst)
	stopped()
	s.Close()
	tr.Until(t, "send", "ret=-111")
	if got := last(tr.Until(t, "send", fmt.Sprintf("number=%d", n+2*burst))); !got.Is("send", "ret=-111") {
		t.Errorf("event %v: want ECONNREFUSED after the reader's end", got)
	}
}

// TestLeave: the module says that it wants to go, then says nothing more and takes
// no new subscriber; or it stays after all.
func TestLeave(t *testing.T) {
	setup(t)
	tr := trace(t)
	s := open(t, agreed, 1)
	n := s.mustCount(t)
	set(t, "interval_ms", 3_600_000)
	tr.Now(t)
	leaving := message(typeLeaving, 0, 0, 0, nil)
	for range 2 { // as often as it is said
		set(t, "leave", 1)
		want(t, mine(t, tr.Now(t)), "leave leave=1",
			"send type=leaving number=0 cause=admin via=group ret=0", fmt.Sprintf("send type=leaving via=port ret=%d", headerLen))
		s.mustHear(t, leaving, 1)
		s.mustHear(t, leaving, 0)
	}
	if err := module.Write("trigger", "1"); !errors.Is(err, unix.ESHUTDOWN) {
		t.Errorf("trigger=1 while leaving: %v, want ESHUTDOWN", err)
	}
	if _, err := tryOpen(0, 1); !errors.Is(err, unix.ESHUTDOWN) {
		t.Errorf("a subscriber while leaving: %v, want ESHUTDOWN", err)
	}
	other := open(t, 0, 0)
	if err := unix.SetsockoptInt(other.FD, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); !errors.Is(err, unix.ESHUTDOWN) {
		t.Errorf("NETLINK_ADD_MEMBERSHIP while leaving: %v, want ESHUTDOWN", err)
	}
	want(t, mine(t, tr.Now(t)), "join group=1 ret=-108", "join group=1 ret=-108")
	if got := other.mustCount(t); got != n {
		t.Errorf("the state is %d while leaving, want %d", got, n)
	}
	set(t, "interval_ms", 1)
	time.Sleep(20 * time.Millisecond)
	s.Empty(t)
	set(t, "interval_ms", 0)

	set(t, "leave", 0)
	set(t, "trigger", 1)
	s.mustHear(t, news(n+1), 1)
	open(t, 0, 1)
}

// TestUnprivileged: anybody may listen and ask; to send to others, in the place of
// the kernel, takes a privilege.
func TestUnprivileged(t *testing.T) {
	setup(t)
	victim := open(t, agreed, 0)
	err := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			err <- errno
			return
		}
		s, e := tryOpen(0, 1)
		if e == nil {
			defer s.Close()
			_, e = s.count(5)
		}
		if e == nil {
			to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: victim.Port}
			if e = unix.Sendto(s.FD, news(1), 0, to); errors.Is(e, unix.EPERM) {
				e = nil
			} else {
				e = fmt.Errorf("a forged message: %v, want EPERM", e)
			}
		}
		err <- e
	}()
	if err := <-err; err != nil {
		t.Error(err)
	}
	victim.Empty(t)
}

// TestMalformed: by the datagram, what comes back. The rules are those of
// netlink_rcv_skb.
func TestMalformed(t *testing.T) {
	setup(t)
	tr, s := trace(t), open(t, 0, 0)
	if err := unix.SetsockoptInt(s.FD, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1); err != nil {
		t.Fatal(err)
	}
	n := s.mustCount(t)
	tr.Now(t)
	ask := message(typeGet, unix.NLM_F_REQUEST, 5, 0, nil)
	lie := func(length uint32) []byte {
		b := bytes.Clone(ask)
		binary.NativeEndian.PutUint32(b, length)
		return b
	}
	for _, tt := range []struct {
		name     string
		datagram []byte
		want     string // the answers: the state, or an error
		requests string // the module's own look at them
	}{
		{"a question", ask, "state", "0"},
		{"with an ACK", message(typeGet, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 5, 0, nil), "state 0", "0"},
		{"two", append(bytes.Clone(ask), ask...), "state state", "0 0"},
		{"no request", message(typeGet, 0, 5, 0, nil), "", ""},
		{"no request, with an ACK", message(typeGet, unix.NLM_F_ACK, 5, 0, nil), "0", ""},
		{"a control message", message(unix.NLMSG_NOOP, unix.NLM_F_REQUEST, 5, 0, nil), "", ""},
		{"with a payload", message(typeGet, unix.NLM_F_REQUEST, 5, 0, []byte("abcd")), "-22", "-22"},
		{"with one byte", message(typeGet, unix.NLM_F_REQUEST, 5, 0, []byte("a")), "-22", "-22"},
		{"another type", message(typeGet+40, unix.NLM_F_REQUEST, 5, 0, nil), "-95", "-95"},
		{"the module's own type", message(typeNews, unix.NLM_F_REQUEST, 5, 0, nil), "-95", "-95"},
		{"a forged sender", message(typeGet, unix.NLM_F_REQUEST, 5, 4711, nil), "state", "0"},
		{"one byte", []byte{1}, "", ""},
		{"no whole header", ask[:15], "", ""},
		{"length 0", lie(0), "", ""},
		{"length 15", lie(15), "", ""},
		{"one more than is there", lie(17), "", ""},
		{"the most", lie(1<<32 - 1), "", ""},
		{"good, lying, good", append(append(bytes.Clone(ask), lie(999)...), ask...), "state", "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.MustSend(t, tt.datagram)
			var got, seen []string
			for {
				b, _, err := s.Recv(unix.MSG_DONTWAIT)
				if errors.Is(err, unix.EAGAIN) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				switch typ := binary.NativeEndian.Uint16(b[4:]); typ {
				case typeState:
					got = append(got, "state")
					if !bytes.Equal(b, message(typeState, 0, 5, s.Port, number(n))) {
						t.Errorf("the state is %x", b)
					}
				case unix.NLMSG_ERROR:
					code := int32(binary.NativeEndian.Uint32(b[headerLen:]))
					got = append(got, fmt.Sprint(code))
					if code != 0 && !bytes.Contains(b, []byte("NLNOTIFY_GET")) {
						t.Errorf("the error %d comes without a word", code)
					}
				default:
					t.Errorf("a message of type %d", typ)
				}
			}
			events := tr.Now(t)
			for _, e := range events[1:] {
				seen = append(seen, e.F["ret"])
			}
			if !events[0].Is("input", fmt.Sprintf("portid=%d skb_len=%d", s.Port, len(tt.datagram))) {
				t.Errorf("event %v", events[0])
			}
			if g := strings.Join(got, " "); g != tt.want {
				t.Errorf("answers %q, want %q", g, tt.want)
			}
			if g := strings.Join(seen, " "); g != tt.requests {
				t.Errorf("events with ret %q, want %q", g, tt.requests)
			}
		})
	}
}

// TestRandom: ten thousand datagrams of chance, and the module lives.
func TestRandom(t *testing.T) {
	setup(t)
	s := open(t, 0, 0)
	const seed, datagrams = 20260102, 10_000
	r := rand.New(rand.NewPCG(seed, 0))
	lengths := []uint32{0, 1, 15, 16, 17, 20, 64, 1<<31 - 1, 1 << 31, 1<<32 - 4, 1<<32 - 1}
	states, failures := 0, 0
	for range datagrams {
		var d []byte
		for range 1 + r.IntN(4) {
			m := message(uint16(15+r.IntN(5)), uint16(r.IntN(8)), r.Uint32(), r.Uint32(), make([]byte, r.IntN(4)/3*r.IntN(40)))
			for i := headerLen; i < len(m); i++ {
				m[i] = byte(r.Uint32())
			}
			switch r.IntN(8) {
			case 0:
				binary.NativeEndian.PutUint32(m, lengths[r.IntN(len(lengths))])
			case 1:
				m = m[:r.IntN(len(m))]
			}
			d = append(d, m...)
			for len(d)%4 != 0 && r.IntN(8) != 0 {
				d = append(d, 0)
			}
		}
		if len(d) == 0 {
			d = []byte{0}
		}
		s.MustSend(t, d)
		for {
			b, _, err := s.Recv(unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				t.Fatalf("seed %d, datagram %x: %v", seed, d, err)
			}
			if binary.NativeEndian.Uint16(b[4:]) == typeState {
				states++
			} else {
				failures++
			}
		}
	}
	if states < datagrams/20 || failures < datagrams/20 {
		t.Errorf("%d states, %d errors: the mixture is a poor test", states, failures)
	}
	t.Logf("%d states, %d errors and ACKs", states, failures)
	s.mustCount(t)
}

// TestParameters: what is taken reads back, what is not is refused and changes
// nothing. Whether news waits cannot be read, not even by root.
func TestParameters(t *testing.T) {
	setup(t)
	for _, tt := range []struct{ name, good, bad string }{
		{"interval_ms", "3600000 0", "-1 3600001 1.5 ten 0x10"},
		{"via", "group port both", "Group grou groups 1 none"},
		{"port", "1 4294967295 5000000", "0 -1 4294967296 99999999999999999999 x"},
		{"leave", "1 0", "2 -1 N"},
		{"meanwhile", "1 1000 0", "1001 -1 x"},
		{"trigger", "", "0 -1 100001 x"},
	} {
		for _, v := range strings.Fields(tt.good) {
			for _, end := range []string{"", "\n"} {
				if err := module.Write(tt.name, v+end); err != nil {
					t.Errorf("%s=%q: %v", tt.name, v+end, err)
				}
				if got := get(t, tt.name); got != v {
					t.Errorf("%s=%s reads back %s", tt.name, v, got)
				}
			}
		}
		before := get(t, tt.name)
		for _, v := range append(strings.Fields(tt.bad), "\n", "1 2") {
			if err := module.Write(tt.name, v); !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s=%q: %v, want EINVAL", tt.name, v, err)
			}
			if got := get(t, tt.name); got != before {
				t.Errorf("%s=%q: refused, and yet it reads %s", tt.name, v, got)
			}
		}
	}
	if got := get(t, "trigger"); got != "0" {
		t.Errorf("trigger reads %s, want 0", got)
	}
	for value, want := range map[string]error{"1\n": nil, "0": nil, "2": unix.EINVAL, "-1": unix.EINVAL, "Y": unix.EINVAL, "\n": unix.EINVAL} {
		if err := module.Write("wait", value); !errors.Is(err, want) {
			t.Errorf("wait=%q: %v, want %v", value, err, want)
		}
	}
	if value, err := os.ReadFile("/sys/module/nlnotify/parameters/wait"); !errors.Is(err, unix.EACCES) {
		t.Errorf("wait reads %q, %v, want EACCES", value, err)
	}
}

// TestNetns: each network namespace has news of its own, told in all of them at
// once, and one may end whatever is under way in it.
func TestNetns(t *testing.T) {
	setup(t)
	outside := open(t, 0, 1)
	n := outside.mustCount(t)
	err := modtest.NewNetns(func() error {
		s, err := tryOpen(agreed, 1)
		if err != nil {
			return err
		}
		defer s.Close()
		if got, err := s.count(3); err != nil || got != 0 {
			return fmt.Errorf("a new namespace has seen %d news, %v; want 0", got, err)
		}
		if err := module.Write("trigger", "1"); err != nil {
			return err
		}
		if err := s.hears(news(1), 1); err != nil {
			return err
		}
		return s.hears(news(1), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	outside.mustHear(t, news(n+1), 1)
	outside.Empty(t)

	// Namespaces end one after the other: a hang would show.
	for round := range 3 {
		set(t, "interval_ms", 1)
		set(t, "wait", 1)
		err := modtest.NewNetns(func() error {
			s, err := tryOpen(agreed, 0)
			if err != nil {
				return err
			}
			defer s.Close()
			return module.Write("trigger", "100000") // the worker waits for s
		})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		gone := open(t, 0, 0) // this protocol still serves others
		gone.mustCount(t)
		set(t, "interval_ms", 0)
		set(t, "leave", 1)
		set(t, "leave", 0)
		set(t, "wait", 0)
		// A namespace ends in a worker of its own: for the next to begin nobody waits.
		for range 5 {
			if err := modtest.NewNetns(func() error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestConcurrent: subscribers, questions, news of both kinds and changes of the
// parameters at once.
func TestConcurrent(t *testing.T) {
	setup(t)
	set(t, "via", "group")
	const subscribers, rounds = 6, 400
	var wg sync.WaitGroup
	errs := make(chan error, 2*subscribers)
	for i := range subscribers {
		wg.Go(func() {
			for range rounds {
				s, err := tryOpen(0, 1)
				if errors.Is(err, unix.ESHUTDOWN) {
					continue
				}
				if err == nil {
					// Leave a question and take what is there.
					err = s.Send(message(typeGet, unix.NLM_F_REQUEST, uint32(i), 0, nil))
					for err == nil {
						_, _, err = s.Recv(unix.MSG_DONTWAIT)
					}
					s.Close()
				}
				if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) {
					errs <- err
					return
				}
			}
		})
	}
	stop := make(chan struct{})
	over := background(t, "changing parameters", func() error {
		for {
			for _, kv := range []struct{ name, value string }{
				{"interval_ms", "1"}, {"trigger", "20"}, {"via", "both"}, {"wait", "1"}, {"trigger", "20"},
				{"leave", "1"}, {"interval_ms", "2"}, {"leave", "0"}, {"wait", "0"}, {"via", "group"}, {"interval_ms", "0"},
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
}

// refcount is the number of references to the module.
func refcount(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/sys/module/nlnotify/refcnt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// TestReload: it is refused to unload the module while anybody has a socket of it,
// member of a group or not. Otherwise it goes and comes again, and again, with
// timers running and news to be told, and leaves nothing.
func TestReload(t *testing.T) {
	setup(t)
	tr := trace(t)
	if got := refcount(t); got != "0" {
		t.Errorf("%s references without a socket, want 0", got)
	}
	a, b := open(t, 0, 1), open(t, 0, 0)
	if got := refcount(t); got != "2" {
		t.Errorf("%s references with two sockets, want 2", got)
	}
	for _, s := range []*socket{a, b} {
		if err := module.Unload(); !errors.Is(err, unix.EAGAIN) {
			t.Fatalf("unload with a socket open: %v, want EAGAIN", err)
		}
		s.Close()
	}

	for round := range 2 {
		set(t, "interval_ms", 1)
		set(t, "wait", 1)
		set(t, "trigger", 100_000)
		if err := module.Unload(); err != nil {
			t.Fatalf("round %d: unload: %v", round, err)
		}
		if _, err := os.Stat("/sys/module/nlnotify"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("round %d: after unloading /sys/module/nlnotify is there: %v", round, err)
		}
		if _, err := tryOpen(0, 0); !errors.Is(err, unix.EPROTONOSUPPORT) {
			t.Fatalf("round %d: after unloading %v, want EPROTONOSUPPORT", round, err)
		}

		for _, bad := range []string{"interval_ms=-1", "via=all", "port=0", "wait=2", "leave=yes", "trigger=0", "wait", "wait="} {
			if err := module.Load(t, bad); !errors.Is(err, unix.EINVAL) {
				t.Fatalf("load with %s: %v, want EINVAL", bad, err)
			}
		}

		if err := module.Load(t, "interval_ms=1 via=group leave=1 trigger=3"); !errors.Is(err, unix.ESHUTDOWN) {
			t.Fatalf("round %d: load with leave=1 trigger=3: %v, want ESHUTDOWN", round, err)
		}
		if err := module.Load(t, "interval_ms=1 via=group trigger=3"); err != nil {
			t.Fatalf("round %d: load: %v", round, err)
		}
		s := open(t, 0, 1)
		if _, by, err := s.Recv(0); err != nil || by != 1 {
			t.Fatalf("round %d: after loading: by group %#x, %v", round, by, err)
		}
		s.Close()
		if err := module.Unload(); err != nil {
			t.Fatalf("round %d: unload: %v", round, err)
		}

		if err := module.Load(t, ""); err != nil {
			t.Fatalf("round %d: load: %v", round, err)
		}
		tr.Enable(t)
		for name, value := range map[string]string{
			"interval_ms": "0", "via": "both", "port": "5000000", "leave": "0", "trigger": "0",
		} {
			if got := get(t, name); got != value {
				t.Errorf("round %d: %s is %s after loading, want %s", round, name, got, value)
			}
		}
		s = open(t, 0, 0)
		if got := s.mustCount(t); got != 0 {
			t.Errorf("round %d: the state is %d after loading, want 0", round, got)
		}
		s.Close()
	}
}

// TestLeak: fifty thousand news, dropped, refused or read, leave no memory taken.
func TestLeak(t *testing.T) {
	setup(t)
	round := func() int {
		for range 5 {
			s := open(t, agreed, 1)
			set(t, "trigger", 5000)
			for range 100 {
				if _, err := s.count(1); err != nil && !errors.Is(err, unix.ENOBUFS) && !strings.Contains(err.Error(), "the state is") {
					t.Fatal(err)
				}
			}
			s.Close()
			set(t, "trigger", 500) // to nobody
		}
		if err := module.Unload(); err != nil {
			t.Fatalf("unload: %v", err)
		}
		if err := module.Load(t, fmt.Sprintf("port=%d", uint32(agreed))); err != nil {
			t.Fatalf("load: %v", err)
		}
		return modtest.Slab(t)
	}
	before := round() // fills the kernel's own caches
	after := round()
	t.Logf("slab memory: %d KiB, then %d KiB", before, after)
	if after-before > 2000 {
		t.Errorf("slab memory grew by %d KiB", after-before)
	}
}
