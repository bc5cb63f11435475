// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// script makes events from lines "TASK NAME field=value ...", a millisecond apart. Values are numbers, or text.
func script(t testing.TB, text string) []Event {
	t.Helper()
	var events []Event
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		n := len(events) + 1
		e := Event{Seq: n, Time: int64(n) * 1e6, Name: words[1]}
		if _, err := fmt.Sscan(words[0], &e.Task); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for _, w := range words[2:] {
			name, value, _ := strings.Cut(w, "=")
			var number int
			if _, err := fmt.Sscan(value, &number); err == nil {
				e = e.With(name, number)
			} else {
				e = e.With(name, strings.ReplaceAll(value, "_", " "))
			}
		}
		if e.Name == Output {
			e.CPU = -1
		}
		events = append(events, e)
	}
	return events
}

func timeline(p *Program) string {
	var b strings.Builder
	for _, s := range p.Timeline() {
		lane := "P"
		if s.Lane == KernelLane {
			lane = "K"
		}
		arrow := map[Arrow]string{NoArrow: "", Into: " >", Back: " <", Delivered: " <-"}[s.Arrow]
		fmt.Fprintf(&b, "%s%d%s %s\n", lane, s.Depth, arrow, s.Text)
	}
	return b.String()
}

func diff(t *testing.T, what, want, got string) {
	t.Helper()
	lines := func(s string) (out []string) {
		for l := range strings.Lines(s) {
			if l = strings.TrimSpace(l); l != "" {
				out = append(out, l)
			}
		}
		return out
	}
	if d := cmp.Diff(lines(want), lines(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

const clone = unix.CLONE_THREAD | unix.CLONE_VM

// A signal belongs to the program that its thread was of, also when that thread has ended since and its number is a
// stranger's.
func TestSignalToEndedThread(t *testing.T) {
	tr := New(script(t, fmt.Sprintf(`
		1 task_newtask pid=10 clone_flags=0
		10 sched_process_exec pid=10 old_pid=10 filename=/lab/prog
		10 task_newtask pid=11 clone_flags=%d
		1 signal_generate pid=11 sig=9
		1 sched_switch prev_pid=1 next_pid=11
		11 sched_process_exit pid=11
		1 task_newtask pid=11 clone_flags=0
		1 signal_generate pid=11 sig=15
		1 sched_switch prev_pid=1 next_pid=11`, clone))...)
	for pid, want := range map[int]string{10: "signal_generate sched_switch", 11: ""} {
		var got []string
		for _, e := range tr.Program(pid, "").Events(Signal, Switch) {
			got = append(got, e.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("process %d: %q, want %q", pid, got, want)
		}
	}
	if got := tr.Program(10, "").Events(Signal)[0].Int("sig"); got != 9 {
		t.Errorf("the signal is %d, want 9", got)
	}
}

// The process tree: what a helper did before the program began, what threads and children do, an exec by a thread that
// is not the first, and a process ID that is used again.
func TestProgram(t *testing.T) {
	tr := New(script(t, fmt.Sprintf(`
		1 task_newtask pid=10 clone_flags=0
		10 netlink_create sock=1 protocol=25
		10 task_newtask pid=11 clone_flags=%d
		10 task_newtask pid=12 clone_flags=0
		12 netlink_create sock=2 protocol=25
		# The thread executes: the leader is gone, and the thread is task 10 now.
		10 sched_process_exit pid=10
		10 sched_process_exec pid=10 old_pid=11 filename=/lab/prog
		10 netlink_create sock=3 protocol=25
		10 task_newtask pid=13 clone_flags=%d
		13 netlink_create sock=4 protocol=25
		13 task_newtask pid=14 clone_flags=0
		14 sched_process_exec pid=14 old_pid=14 filename=/bin/true
		14 netlink_create sock=5 protocol=25
		14 sched_process_exit pid=14
		10 sched_process_exit pid=10
		13 netlink_create sock=6 protocol=25
		13 sched_process_exit pid=13
		1 task_newtask pid=10 clone_flags=0
		10 netlink_create sock=7 protocol=25`, clone, clone))...)

	for _, p := range []*Program{tr.Program(10, "/lab/prog"), tr.Program(0, "/somewhere/else/prog"), tr.Program(10, "")} {
		var socks []uint64
		for _, s := range p.Sockets() {
			socks = append(socks, s.Created.Uint("sock"))
		}
		if d := cmp.Diff([]uint64{3, 4, 5, 6}, socks); d != "" {
			t.Errorf("sockets (-want +got):\n%s", d)
		}
		if p.PID != 10 || p.Exec.Task != 10 || p.Exit().Task != 13 {
			t.Errorf("process %d, executed %v, ended %v", p.PID, p.Exec, p.Exit())
		}
		if got := len(p.Events(Create)); got != 4 {
			t.Errorf("%d events", got)
		}
	}
	for _, p := range []*Program{tr.Program(12, "/lab/prog"), tr.Program(99, ""), tr.Program(0, "never")} {
		if p.Ran() || len(p.Events()) > 0 || len(p.Sockets()) > 0 || len(p.Calls(Sendmsg)) > 0 || len(p.Timeline()) > 0 || p.Exit().Seen() || p.Exec.Seen() {
			t.Errorf("a program that did not run: %+v", p)
		}
	}
}

// A deferred answer comes from another task; it belongs to the program, a stranger's does not.
func TestDeferred(t *testing.T) {
	tr := New(script(t, `
		1 task_newtask pid=10 clone_flags=0
		1 task_newtask pid=20 clone_flags=0
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 sys_enter_socket family=16 type=3 protocol=25
		10 netlink_create sock=1 protocol=25
		10 sys_exit_socket ret=3
		20 netlink_create sock=2 protocol=25
		10 netlink_bind sock=1 sk=101 portid=100
		10 netlink_insert sk=101 portid=100
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 sys_enter_sendto fd=3
		10 netlink_sendmsg sock=1 sk=101 len=20 namelen=12 to=0
		10 netlink_unicast ssk=101 portid=0
		10 nlecho_input id=1 sk=900 portid=100 pid=100 nlmsg_len=20 replies=2 defer=1
		10 netlink_unicast_ret ret=20
		20 netlink_sendmsg sock=2 sk=102 len=20 namelen=12 to=0
		20 netlink_unicast ssk=102 portid=0
		20 nlecho_input id=2 sk=900 portid=200 pid=200 nlmsg_len=20 replies=1 defer=1
		20 netlink_unicast_ret ret=20
		20 netlink_sendmsg_ret ret=20
		10 netlink_sendmsg_ret ret=20
		10 sys_exit_sendto ret=20
		5 nlecho_wait id=1 portid=100 n=0 delay_ms=3 hold=0
		5 nlecho_wake id=1 portid=100 n=0 why=1
		5 netlink_unicast ssk=900 portid=100
		5 netlink_unicast_ret ret=1040
		5 nlecho_reply id=1 portid=100 to=100 n=0 ret=1040
		5 netlink_unicast ssk=900 portid=200
		5 netlink_unicast_ret ret=1040
		5 nlecho_reply id=2 portid=200 to=200 n=0 ret=1040
		5 nlecho_done id=2 portid=200 replies=1 sent=1
		5 netlink_unicast ssk=900 portid=100
		5 netlink_unicast_ret ret=-111
		5 nlecho_reply id=1 portid=100 to=100 n=1 ret=-111
		5 nlecho_done id=1 portid=100 replies=2 sent=1
		20 netlink_create sock=3 protocol=16
		20 netlink_sendmsg sock=3 sk=103 len=20 namelen=12 to=100
		20 netlink_unicast ssk=103 portid=100
		20 netlink_unicast_ret ret=20
		20 netlink_sendmsg_ret ret=20
		20 netlink_sendmsg sock=2 sk=102 len=20 namelen=12 to=100
		20 netlink_unicast ssk=102 portid=100
		20 netlink_unicast_ret ret=20
		20 netlink_sendmsg_ret ret=20`)...)
	p := tr.Program(0, "/prog")
	diff(t, "timeline", `
		P0 socket protocol 25: fd 3
		P0 bind port 100: ok
		P0 > sendto port 100 → kernel (port 0)
		K1 gets 20 bytes from port 100
		P0 < sendto returns 20 bytes
		K0 waits 3 ms
		K0 goes on
		K0 <- reply 1 of 2 to port 100
		K0 reply 2 of 2 to port 100: ECONNREFUSED
		K0 done, 1 sent
		K0 <- another process sends to port 100
	`, timeline(p))
	ms := p.Messages()
	if len(ms) != 1 || ms[0].PortID() != 100 || len(ms[0].Replies) != 2 || len(ms[0].Waits) != 1 || len(ms[0].Wakes) != 1 {
		t.Fatalf("messages: %+v", ms)
	}
	send := ms[0].Call
	if !Inside(ms[0].Input, send) || Inside(ms[0].Done, send) || During(ms[0].Done, send) || Before(ms[0].Done, send.Return) {
		t.Error("the answer came after the send")
	}
	if n := len(p.Events(EchoReply).Where("ret", -111)); n != 1 {
		t.Errorf("%d refused replies", n)
	}
	if n := len(p.Events(Unicast).Where("portid", 100)); n != 3 { // two replies and the other process's message
		t.Errorf("%d messages to the port", n)
	}
	if got := send.String(); got != "netlink_sendmsg(port 100) to kernel (port 0) -> 20" {
		t.Errorf("the call is %q", got)
	}
	diff(t, "evidence", `
		3.000 ms  sendto(port 100)
		4.000 ms  netlink_sendmsg(port 100 to kernel (port 0), 20 bytes)
		6.000 ms  nlecho_input portid=100 nlmsg_pid=100 nlmsg_seq=0 len=20
		13.000 ms  netlink_sendmsg -> 20
		26.000 ms  nlecho_reply n=1 to=100 ret=-111, ECONNREFUSED
	`, evidence(p, send.Return, ms[0].Replies[1], ms[0].Input, send.Entry, Event{}, p.Calls("sendto").First().Entry))
}

// evidence is p.Evidence, with times counted from the first line's second.
func evidence(p *Program, events ...Event) string {
	lines := p.Evidence(events...)
	var b strings.Builder
	base := 0.0
	for i, l := range lines {
		var at float64
		fmt.Sscan(l, &at)
		if i == 0 {
			base = at - 3
		}
		fmt.Fprintf(&b, "%.3f%s\n", at-base, l[9:])
	}
	return b.String()
}

// The recursion of port 0: each level runs inside the one before.
func TestRecursion(t *testing.T) {
	text := `
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 netlink_create sock=1 protocol=25
		10 netlink_sendmsg sock=1 sk=101 len=20 namelen=12 to=0
		10 netlink_unicast ssk=101 portid=0
		10 nlecho_input id=1 sk=900 portid=100 pid=0 nlmsg_len=20 replies=1 depth=1`
	for i := 2; i <= 4; i++ {
		text += fmt.Sprintf(`
		10 netlink_unicast ssk=900 portid=0
		10 nlecho_input id=%d sk=900 portid=0 pid=0 nlmsg_len=1040 replies=1 depth=%d`, i, i)
	}
	p := New(script(t, text)...).Program(0, "prog")
	diff(t, "timeline", `
		P0 > sendmsg an unbound socket → kernel (port 0)
		K1 gets 20 bytes from port 100, nlmsg_pid 0
		K1 sends to port 0: to itself
		K2 level 2, stack left 0
		K3 level 3, stack left 0
		K4 level 4, stack left 0
	`, timeline(p))
	send := p.Calls(Sendmsg).First()
	if to, _ := send.To(); to != 0 || send.Returned() || send.Err() != nil || !strings.HasSuffix(send.String(), "not returned") {
		t.Errorf("the send: %v", send)
	}
	deepest := p.Events(EchoInput).Last()
	if deepest.Int("depth") != 4 || !Inside(deepest, send) {
		t.Errorf("the deepest input: %v", deepest)
	}
	ms := p.Messages()
	if len(ms) != 4 || !ms[0].Call.Seen() || ms[1].Call.Seen() {
		t.Errorf("messages: %v", ms)
	}
}

// Kernel memory and descriptors are used again, and sockets are refused, connected and inherited.
func TestSockets(t *testing.T) {
	p := New(script(t, `
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 sys_enter_socket family=16 type=3 protocol=25
		10 netlink_create sock=1 protocol=25
		10 sys_exit_socket ret=3
		10 sys_enter_connect fd=3
		10 netlink_insert sk=101 portid=10
		10 netlink_insert_ret ret=-98
		10 netlink_insert sk=101 portid=4294963000
		10 netlink_insert_ret ret=0
		10 sys_exit_connect ret=0
		10 sys_enter_write fd=3 count=16
		10 netlink_sendmsg sock=1 sk=101 len=16 namelen=0 to=123
		10 netlink_unicast ssk=101 portid=77
		10 netlink_unicast_ret ret=-1
		10 netlink_sendmsg_ret ret=-1
		10 sys_exit_write ret=-1
		10 task_newtask pid=11 clone_flags=0
		11 sys_enter_recvfrom fd=3
		11 netlink_recvmsg sock=1 sk=101 flags=2
		11 netlink_recvmsg_ret ret=-11
		11 sys_exit_recvfrom ret=-11
		11 sys_enter_close fd=3
		11 sys_exit_close ret=0
		10 sys_enter_close fd=3
		10 sys_exit_close ret=0
		10 netlink_release sock=1
		10 sys_enter_socket family=16 type=3 protocol=30
		10 netlink_create sock=1 protocol=30
		10 sys_exit_socket ret=-93
		10 sys_enter_socket family=16 type=3 protocol=16
		10 netlink_create sock=1 protocol=16
		10 sys_exit_socket ret=3
		10 sys_enter_bind fd=3
		10 netlink_bind sock=1 sk=101 portid=0 groups=3
		10 netlink_insert sk=101 portid=10
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 sys_exit_bind ret=0`)...).Program(10, "")
	diff(t, "timeline", `
		P0 socket protocol 25: fd 3
		P0 connect fd 3
		K0 chooses port 4294963000 (autobind)
		P0 write port 4294963000 → port 77, 16 bytes: EPERM (netlink_unicast)
		P0 process 11: recvfrom port 4294963000, flags PEEK: EAGAIN
		P0 process 11: close fd 3 of port 4294963000: still in use
		P0 close port 4294963000
		K0 port 4294963000 is free
		P0 socket protocol 30: EPROTONOSUPPORT
		P0 socket protocol 16: fd 3
		P0 bind, any port, groups 0x3: port 10 (autobind)
	`, timeline(p))
	ss := p.Sockets()
	if len(ss) != 2 || ss[0].Protocol != 25 || ss[1].Protocol != 16 || !ss[0].Released.Seen() || !ss[0].Closed.Seen() || ss[1].Released.Seen() {
		t.Fatalf("sockets: %v", ss)
	}
	if !ss[0].Auto || !ss[1].Auto || ss[0].Port != 4294963000 || ss[1].Port != 10 {
		t.Errorf("ports: %+v %+v", ss[0], ss[1])
	}
	if c := p.Calls(Sendmsg).To(77).Failed(unix.EPERM).First(); c.Syscall != "write" || c.Socket != ss[0] {
		t.Errorf("the send over a connected socket: %v", c)
	}
	if c := p.Calls("socket").Failed().First(); c.Err() != unix.EPROTONOSUPPORT || c.Socket != nil {
		t.Errorf("the refused socket: %v", c)
	}
}

// A missed return is noticed, counted or not.
// A program that makes a network namespace makes the kernel's sockets in it, too: none of them is one of the program's,
// though the memory was.
func TestKernelSockets(t *testing.T) {
	tr := New(script(t, `
		10 sched_process_exec pid=10 filename=/bin/student
		10 netlink_create sock=1 protocol=25
		10 netlink_bind sock=1 sk=11 portid=100
		10 netlink_insert sk=11 portid=100
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 netlink_insert sk=11 portid=0
		10 netlink_insert_ret ret=0
	`)...)
	p := tr.Program(10, "/bin/student")
	if s := p.Socket(25, 100); s == nil || s.Bound.Seq != 4 || s.Auto {
		t.Errorf("the program's socket is %+v", s)
	}
	diff(t, "timeline", `
		P0 bind port 100: ok
	`, timeline(p))
}

// The kernel uses a socket's memory again: the port that it chooses in a connect(2) is that of the socket which is
// connected, not of the one that was there before.
func TestAutobindInConnect(t *testing.T) {
	p := New(script(t, `
		10 sched_process_exec pid=10 old_pid=10 filename=/program
		10 sys_enter_socket family=16 protocol=25
		10 netlink_create sock=1 protocol=25
		10 sys_exit_socket ret=3
		10 sys_enter_bind fd=3
		10 netlink_bind sock=1 sk=7 portid=1
		10 netlink_insert sk=7 portid=1
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 sys_exit_bind ret=0
		10 sys_enter_close fd=3
		10 sys_exit_close ret=0
		10 sys_enter_socket family=16 protocol=25
		10 netlink_create sock=2 protocol=25
		10 sys_exit_socket ret=3
		10 sys_enter_connect fd=3
		10 netlink_insert sk=7 portid=10
		10 netlink_insert_ret ret=0
		10 sys_exit_connect ret=0
	`)...).Program(10, "/program")
	var got strings.Builder
	for _, s := range p.Sockets() {
		fmt.Fprintf(&got, "socket %d: %s, auto %t\n", s.ID, s, s.Auto)
	}
	diff(t, "sockets", "socket 1: port 1, auto false\nsocket 2: port 10, auto true", got.String())
}

func TestMissedReturn(t *testing.T) {
	for _, text := range []string{`
		10 sys_enter_sendto fd=3
		10 netlink_sendmsg sock=1 sk=101 namelen=12 to=0
		10 netlink_unicast ssk=101 portid=0
		10 netlink_sendmsg_ret ret=1
		10 sys_exit_sendto ret=1`, `
		10 netlink_sendmsg sock=1 sk=101 namelen=12 to=0
		10 netlink_unicast ssk=101 portid=0
		10 netlink_unicast ssk=900 portid=0
		10 sys_exit_sendto ret=1
		10 sys_enter_close fd=3`,
	} {
		lost := New(script(t, text)...).Lost()
		if !lost.Any() || lost.Probes["netlink_unicast_ret"] == 0 {
			t.Errorf("nothing missed in %s", text)
		}
	}
	tr := New(Event{Seq: 1, Time: 1, CPU: -1, Name: Missed}.With("probe", "netlink_unicast").With("count", 3),
		Event{Seq: 2, Time: 2, CPU: -1, Name: Lost}.With("events", 5), Event{Seq: 3, Time: 2, CPU: -1, Name: Lost}.With("events", -1))
	const want = "more than 5 events were overwritten before they could be read; 3 hits of netlink_unicast were not recorded"
	if got := tr.Lost().String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if lost := New().Lost(); lost.Any() || lost.String() != "" {
		t.Errorf("losses of nothing: %v", lost)
	}
}

// Printed lines stand where they were written, not where they were read.
func TestOutputIsPlaced(t *testing.T) {
	p := New(script(t, `
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 sys_enter_write fd=1 count=4
		10 sys_exit_write ret=4
		10 netlink_create sock=1 protocol=25
		10 netlink_bind sock=1 sk=101 portid=100
		10 netlink_bind_ret ret=0
		10 sys_enter_write fd=1 count=5
		10 sys_exit_write ret=5
		10 output fd=1 text=one
		10 output fd=1 text=four
		10 output fd=2 text=nobody_knows
		10 sched_process_exit pid=10`)...).Program(10, "")
	diff(t, "timeline", `
		P0 prints "one"
		P0 bind port 100: ok
		P0 prints "four"
		P0 prints "nobody knows"
		P0 exits
	`, timeline(p))
}

// What a child writes into a pipe of the program is not printed.
func TestOutputBesideAPipe(t *testing.T) {
	p := New(script(t, `
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 task_newtask pid=11 clone_flags=0
		11 sys_enter_write fd=1 count=4
		11 sys_exit_write ret=4
		10 netlink_create sock=1 protocol=25
		10 netlink_bind sock=1 sk=101 portid=100
		10 netlink_bind_ret ret=0
		10 sys_enter_write fd=1 count=4
		10 sys_exit_write ret=4
		10 netlink_bind sock=1 sk=101 portid=101
		10 netlink_bind_ret ret=-22
		10 output fd=1 text=one`)...).Program(10, "")
	diff(t, "timeline", `
		P0 bind port 100: ok
		P0 prints "one"
		P0 bind port 101: EINVAL
	`, timeline(p))
}

// Children write into pipes of the program, one into a copy of its standard output: the copies tell which. It is drawn
// the same live, when nobody knows yet how much will be printed.
func TestOutputOfChildren(t *testing.T) {
	events := script(t, fmt.Sprintf(`
		9 task_newtask pid=10 clone_flags=0
		10 sys_enter_dup3 oldfd=7 newfd=1 flags=0
		10 sys_exit_dup3 ret=1
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 task_newtask pid=11 clone_flags=0
		11 sys_enter_dup3 oldfd=5 newfd=1 flags=0
		11 sys_exit_dup3 ret=1
		11 sched_process_exec pid=11 old_pid=11 filename=/child
		11 sys_enter_write fd=1 count=6
		11 sys_exit_write ret=6
		10 task_newtask pid=12 clone_flags=0
		12 sys_enter_fcntl fd=1 cmd=%d arg=0
		12 sys_exit_fcntl ret=3
		12 sched_process_exec pid=12 old_pid=12 filename=/child
		12 sys_enter_write fd=3 count=6
		12 sys_exit_write ret=6
		12 sched_process_exit pid=12
		11 sched_process_exit pid=11
		10 sys_enter_write fd=1 count=4
		10 sys_exit_write ret=4
		10 output fd=1 text=child
		10 output fd=1 text=one
		10 sched_process_exit pid=10`, unix.F_DUPFD))
	want := `
		P0 process 11 runs child
		P0 process 12 runs child
		P0 prints "child"
		P0 process 12 exits
		P0 process 11 exits
		P0 prints "one"
		P0 exits
	`
	p := New(events...).Program(10, "/prog")
	diff(t, "timeline", want, timeline(p))
	sameLive(t, events, p)
}

// One process prints while another one is in a call of which nobody knows yet whether it is one line or two: they are
// drawn in the order of their times, live too.
func TestPrintsInsideACall(t *testing.T) {
	events := script(t, `
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 task_newtask pid=11 clone_flags=0
		11 sys_enter_socket family=16 type=3 protocol=2
		11 netlink_create sock=1 protocol=2
		11 sys_exit_socket ret=3
		11 netlink_bind sock=1 sk=101 portid=7 groups=0
		11 netlink_insert sk=101 portid=7
		11 netlink_insert_ret ret=0
		11 netlink_bind_ret ret=0
		11 netlink_recvmsg sock=1 sk=101 len=100 flags=0
		10 sys_enter_write fd=1 count=4
		10 sys_exit_write ret=4
		10 output fd=1 text=one
		10 sys_enter_socket family=16 type=3 protocol=2
		10 netlink_create sock=2 protocol=2
		10 sys_exit_socket ret=3
		10 netlink_bind sock=2 sk=102 portid=8 groups=0
		10 netlink_insert sk=102 portid=8
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		11 netlink_recvmsg_ret ret=-11
		11 sched_process_exit pid=11
		10 sched_process_exit pid=10`)
	p := New(events...).Program(10, "/prog")
	diff(t, "timeline", `
		P0 process 11: socket protocol 2: fd 3
		P0 process 11: bind port 7: ok
		P0 process 11: recvmsg port 7: waits
		P0 prints "one"
		P0 socket protocol 2: fd 3
		P0 bind port 8: ok
		P0 process 11: recvmsg returns EAGAIN
		P0 exits
	`, timeline(p))
	sameLive(t, events, p)
}

// sameLive draws the run of p, of which these are the events, as it comes.
func sameLive(t *testing.T, events []Event, p *Program) {
	t.Helper()
	var whole, live strings.Builder
	if err := WriteText(&whole, p.Timeline(), Style{}); err != nil {
		t.Fatal(err)
	}
	l := NewLive(&live, p.PID, p.Exec.Text("filename"), Style{})
	for _, e := range events {
		if err := l.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	diff(t, "live timeline", whole.String(), live.String())
}

// A socket is released when nobody has it any more, and that is told where it was closed before.
func TestRelease(t *testing.T) {
	socket := func(port, sock int) string {
		return fmt.Sprintf(`
		10 sys_enter_socket family=16 type=%d protocol=25
		10 netlink_create sock=%d protocol=25
		10 sys_exit_socket ret=3
		10 sys_enter_bind fd=3
		10 netlink_bind sock=%[2]d sk=10%[2]d portid=%[3]d
		10 netlink_insert sk=10%[2]d portid=%[3]d
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 sys_exit_bind ret=0`, 3|unix.SOCK_CLOEXEC, sock, port)
	}
	events := script(t, `
		10 sched_process_exec pid=10 old_pid=10 filename=/prog`+socket(100, 1)+`
		10 task_newtask pid=11 clone_flags=0
		11 sched_process_exec pid=11 old_pid=11 filename=/child
		10 sys_enter_dup fildes=3
		10 sys_exit_dup ret=4
		10 sys_enter_close fd=3
		10 sys_exit_close ret=0
		10 sys_enter_close fd=4
		10 netlink_release sock=1
		10 sys_exit_close ret=0`+socket(101, 2)+fmt.Sprintf(`
		10 task_newtask pid=20 clone_flags=%d
		20 sys_enter_recvmsg fd=3
		20 netlink_recvmsg sock=2 sk=102
		10 sys_enter_close fd=3
		10 sys_exit_close ret=0
		20 netlink_recvmsg_ret ret=-11
		20 sys_exit_recvmsg ret=-11
		20 netlink_release sock=2`, clone)+socket(102, 3)+`
		10 task_newtask pid=12 clone_flags=0
		12 sys_enter_fcntl fd=3 cmd=2 arg=0
		12 sys_exit_fcntl ret=0
		12 sched_process_exec pid=12 old_pid=12 filename=/child
		10 sys_enter_close fd=3
		10 sys_exit_close ret=0
		12 sched_process_exit pid=12
		12 netlink_release sock=3`+socket(103, 4)+`
		10 sys_enter_close fd=3
		10 sys_exit_close ret=0
		10 netlink_release sock=4`)
	p := New(events...).Program(10, "/prog")
	diff(t, "timeline", `
		P0 socket protocol 25: fd 3
		P0 bind port 100: ok
		P0 process 11 runs child
		P0 dup port 100: fd 4
		P0 close fd 3 of port 100: still in use
		P0 close port 100
		K0 port 100 is free
		P0 socket protocol 25: fd 3
		P0 bind port 101: ok
		P0 recvmsg port 101: waits
		P0 close fd 3 of port 101: still in use
		P0 recvmsg returns EAGAIN
		K0 port 101 is free
		P0 socket protocol 25: fd 3
		P0 bind port 102: ok
		P0 process 12 runs child
		P0 close fd 3 of port 102: still in use
		P0 process 12 exits
		K0 port 102 is free
		P0 socket protocol 25: fd 3
		P0 bind port 103: ok
		P0 close port 103
	`, timeline(p))
	sameLive(t, events, p)
	if s := p.Sockets()[0]; s.Closed.Int("fd") != 3 {
		t.Errorf("the close of the copy counts as that of the socket: %v", s.Closed)
	}
}

// Options have names, and a thread in another network namespace is seen there.
func TestOptionsAndNamespaces(t *testing.T) {
	p := New(script(t, fmt.Sprintf(`
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 sys_enter_socket family=16 type=3 protocol=25
		10 netlink_create net=1 sock=1 protocol=25
		10 sys_exit_socket ret=3
		10 sys_enter_setsockopt fd=3 level=1 optname=2
		10 sys_exit_setsockopt ret=0
		10 sys_enter_setsockopt fd=3 level=1 optname=15
		10 sys_exit_setsockopt ret=-95
		10 sys_enter_setsockopt fd=3 level=270 optname=1
		10 sys_exit_setsockopt ret=0
		10 sys_enter_setsockopt fd=3 level=270 optname=99
		10 sys_exit_setsockopt ret=-92
		10 sys_enter_setsockopt fd=3 level=6 optname=1
		10 sys_exit_setsockopt ret=-92
		10 task_newtask pid=20 clone_flags=%d
		20 sys_enter_unshare unshare_flags=%d
		20 sys_exit_unshare ret=0
		20 sys_enter_socket family=16 type=3 protocol=25
		20 netlink_create net=2 sock=2 protocol=25
		20 sys_exit_socket ret=4
		20 sys_enter_setns fd=5 nstype=%[2]d
		20 sys_exit_setns ret=0
		20 sys_enter_unshare unshare_flags=%d
		20 sys_exit_unshare ret=0`, clone, unix.CLONE_NEWNET, unix.CLONE_NEWNS))...).Program(10, "")
	diff(t, "timeline", `
		P0 socket protocol 25: fd 3
		P0 setsockopt fd 3, SO_REUSEADDR
		P0 setsockopt fd 3, SO_REUSEPORT: ENOTSUP
		P0 setsockopt fd 3, NETLINK_ADD_MEMBERSHIP
		P0 setsockopt fd 3, option 99 of SOL_NETLINK: ENOPROTOOPT
		P0 setsockopt fd 3, option 1 of level 6: ENOPROTOOPT
		P0 thread 20 enters a new network namespace
		P0 socket protocol 25: fd 4, in another network namespace
		P0 thread 20 goes to another network namespace
	`, timeline(p))
}

// In two network namespaces the same port ID is two sockets': their lines say which, as long as there are two.
func TestOnePortTwice(t *testing.T) {
	events := script(t, `
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 sys_enter_socket family=16 type=3 protocol=2
		10 netlink_create net=1 sock=1 protocol=2
		10 sys_exit_socket ret=3
		10 netlink_bind sock=1 sk=101 portid=7
		10 netlink_insert sk=101 portid=7
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 netlink_recvmsg sock=1 sk=101 len=4096
		10 netlink_recvmsg_ret ret=-11
		10 sys_enter_socket family=16 type=3 protocol=2
		10 netlink_create net=2 sock=2 protocol=2
		10 sys_exit_socket ret=4
		10 netlink_bind sock=2 sk=102 portid=7
		10 netlink_insert sk=102 portid=7
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 netlink_recvmsg sock=1 sk=101 len=4096
		10 netlink_recvmsg_ret ret=-11
		10 netlink_sendmsg sock=2 sk=102 len=20 namelen=12 to=9
		10 netlink_sendmsg_ret ret=-111
		10 sys_enter_close fd=4
		10 netlink_release sock=2
		10 sys_exit_close ret=0
		10 netlink_recvmsg sock=1 sk=101 len=4096
		10 netlink_recvmsg_ret ret=-11`)
	p := New(events...).Program(10, "/prog")
	diff(t, "timeline", `
		P0 socket protocol 2: fd 3
		P0 bind port 7: ok
		P0 recvmsg port 7: EAGAIN
		P0 socket protocol 2: fd 4, in another network namespace
		P0 bind port 7: ok
		P0 recvmsg port 7 (fd 3): EAGAIN
		P0 sendmsg port 7 (fd 4) → port 9, 20 bytes: ECONNREFUSED
		P0 close port 7 (fd 4)
		P0 recvmsg port 7 (fd 3): EAGAIN
	`, timeline(p))
	sameLive(t, events, p)
}

func TestQuote(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"plain ünï \"quoted\"", `"plain ünï \"quoted\""`},
		{"end\x00\x00\x00", `"end\x00(3 times)"`},
		{"a\x1b[31mb", `"a\x1b[31mb"`},
		{"bad \xff\xff", `"bad \xff(2 times)"`},
		{strings.Repeat("x", 200), `"` + strings.Repeat("x", 120) + `..."`},
	} {
		if got := quote(test.text); got != test.want {
			t.Errorf("%q: got %s, want %s", test.text, got, test.want)
		}
	}
}

func TestOrderOfWhatDidNotHappen(t *testing.T) {
	a, b := Event{Seq: 1, Time: 5}, Event{Seq: 2, Time: 5}
	call := Call{Entry: a, Task: 0}
	if !Before(a, b) || Before(b, a) || Before(a, a) || Before(a, Event{}) || Before(Event{}, a) {
		t.Error("Before")
	}
	if !During(b, call) || During(a, call) || Inside(Event{}, call) || During(b, Call{}) {
		t.Error("During")
	}
	if (Event{}).Seen() || (Call{}).Seen() || (Call{}).String() == "" || (Event{}).String() != "(did not happen)" {
		t.Error("zero values")
	}
	var none Events
	if none.First().Seen() || none.Last().Seen() || len(none.After(a)) > 0 || (Calls)(nil).First().Seen() || (Calls)(nil).Last().Seen() {
		t.Error("searches in nothing")
	}
}
