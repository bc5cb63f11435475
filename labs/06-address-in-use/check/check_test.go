// SPDX-License-Identifier: MIT

// Package check judges programs for lab 6.
package check

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

func TestAddressInUse(t *testing.T) {
	k := &course{c: labtest.New(t, labtest.Probes(trace.Release), labtest.Events(
		"syscalls:sys_enter_unshare", "syscalls:sys_exit_unshare",
		"syscalls:sys_enter_setns", "syscalls:sys_exit_setns"))}
	k.c.Step(1, k.taken)
	k.c.Step(2, k.rules)
	k.c.Step(3, k.twice)
	k.c.Step(4, k.containers)
	k.c.Step(5, k.closed)
	k.answer()
}

// course is the program on its way through the steps. Each is a run of its own.
type course struct {
	c *labtest.Check

	run    *labtest.Run
	number uint32    // that the run was told
	asked  []attempt // what the program asked bind for, in this run

	// What decides the predictions.
	reused  attempt          // step 2: both sockets had SO_REUSEADDR
	foreign attempt          // step 3: on another protocol
	abroad  attempt          // step 3: in another network namespace
	chosen  [2]*trace.Socket // step 4: by the kernel, for two containers
	late    attempt          // step 5: the holder's socket had been closed
}

// start runs the program for one step, with a number that nobody can know
// beforehand, and which is larger than any process ID.
func (k *course) start(step int) {
	k.number = 5_000_000 + rand.Uint32N(1_000_000_000)
	k.run = k.c.Run(fmt.Sprint(k.number), fmt.Sprint(step))
	k.asked = nil
	for _, c := range k.run.Trace.Calls(trace.Bind) {
		a := attempt{Call: c, number: uint32(c.Entry.Uint("portid"))}
		if c.Socket.HasPort(c.Entry) {
			a.had = c.Socket.Port
		}
		for _, s := range k.run.Trace.Sockets() {
			if s != c.Socket && s.SharesPorts(c.Socket) && s.Port == a.number && s.HasPort(c.Entry) {
				a.holder = s
			}
		}
		k.asked = append(k.asked, a)
	}
}

// attempt is a bind, and how things stood when it was called.
type attempt struct {
	trace.Call
	number uint32        // that was asked for; 0: any
	had    uint32        // the number that the socket had before; 0: none
	holder *trace.Socket // another socket that had the number
}

// find returns the first attempt after e that is so; e may be the zero Event.
func (k *course) find(e trace.Event, is func(attempt) bool) attempt {
	for _, a := range k.asked {
		if (!e.Seen() || trace.Before(e, a.Entry)) && is(a) {
			return a
		}
	}
	return attempt{}
}

// events are those of an attempt, for the evidence.
func (a attempt) events() []trace.Event { return []trace.Event{a.Entry, a.Return} }

// says compares what the program reports under a key with what the kernel said.
func (k *course) says(s *labtest.Step, key string, c trace.Call, likely string) {
	want := labtest.Verdict(c)
	if got, _ := k.run.Key(key); labtest.SameVerdict(got, want) {
		want = got
	}
	s.Reported(k.run, key, want, labtest.Failure{
		Expected: fmt.Sprintf("%s=%s: so the kernel answered", key, want),
		Likely:   likely,
		Trace:    []trace.Event{c.Entry, c.Return},
	})
}

// got returns the first attempt that got the run's number for a socket that had
// none, or fails the step.
func (k *course) got(s *labtest.Step) attempt {
	got := k.find(trace.Event{}, func(a attempt) bool { return a.number == k.number && a.had == 0 && a.Ret == 0 })
	if got.Seen() {
		return got
	}
	f := labtest.Failure{
		Got:      "no socket was bound to anything",
		Expected: fmt.Sprintf("a bind to %d, the program's first argument", k.number),
		Likely:   "the program ended before, or prints what it has not tried",
	}
	if len(k.asked) > 0 {
		a := k.asked[0]
		f.Got = fmt.Sprintf("a bind to %d: %s", a.number, labtest.Verdict(a.Call))
		f.Likely = "the check tells the program another number in each run"
		f.Trace = a.events()
	}
	s.Fail(f)
	return attempt{}
}

// taken: the number is refused to a second socket, and after close it is not.
func (k *course) taken(s *labtest.Step) {
	k.start(1)
	first := k.got(s)
	wants := func(a attempt) bool { return a.number == k.number }
	second := k.find(first.Return, func(a attempt) bool { return wants(a) && a.holder != nil })
	if !second.Seen() {
		f := labtest.Failure{
			Got:      fmt.Sprintf("%d was asked for once", k.number),
			Expected: fmt.Sprintf("another socket that asks for %d while the first has it", k.number),
			Likely:   "what second= reports was not tried",
			Trace:    first.events(),
		}
		next := k.find(first.Return, wants)
		f.Trace = append(f.Trace, first.Socket.Released, next.Entry, next.Return)
		switch {
		case next.Seen() && next.Socket == first.Socket:
			f.Got = fmt.Sprintf("the socket that had %d asked for it once more: %s", k.number, labtest.Verdict(next.Call))
			f.Likely = "a socket does not stand in its own way. It takes two"
		case next.Seen():
			f.Got = fmt.Sprintf("nobody had %d when the second socket asked for it", k.number)
			f.Likely = "the first socket is closed too early: when does a deferred call run?"
		}
		s.Fail(f)
	}
	k.says(s, "second", second.Call, "second= is what bind said to the second socket, while the first was open")

	third := k.find(second.Return, func(a attempt) bool {
		return wants(a) && a.had == 0 && a.holder == nil && a.Socket.SharesPorts(first.Socket)
	})
	if !third.Seen() {
		f := labtest.Failure{
			Got:      "after the refusal nobody asked again",
			Expected: fmt.Sprintf("the first socket is closed, then another asks for %d", k.number),
			Likely:   "what after_close= reports was not tried",
			Trace:    second.events(),
		}
		if next := k.find(second.Return, wants); next.Seen() {
			f.Got = fmt.Sprintf("%d was asked for again while the first socket still had it", k.number)
			f.Likely = "which socket has the number, the first or the one that was refused? And which one was closed?"
			f.Trace = append(f.Trace, second.Socket.Closed, next.Entry, next.Return, first.Socket.Closed)
		}
		s.Fail(f)
	}
	k.says(s, "after_close", third.Call, "after_close= is what bind said after the first socket had been closed")
	k.ended(s)
}

// ended: the program came to its end by itself.
func (k *course) ended(s *labtest.Step) {
	s.Expect(k.run.End.OK(), labtest.Failure{
		Got:      "all of it was seen, but the program did not end well",
		Expected: "exit code 0",
		Likely:   "its last words tell why",
	})
}

// situation is one row of the table of step 2: how things must stand when bind is
// called. What the kernel then says, the trace tells.
type situation struct {
	key    string
	what   string
	is     func(attempt) bool
	near   func(attempt) bool // what is easily taken for it
	likely string
}

// situations are those that step 2 asks for.
func (k *course) situations() []situation {
	fresh := func(a attempt) bool { return a.had == 0 }
	both := func(option int) func(attempt) bool {
		return func(a attempt) bool {
			return a.had == 0 && a.holder != nil && k.option(a.Socket, option, a.Entry).Seen() && k.option(a.holder, option, a.holder.Bound).Seen()
		}
	}
	refused := func(a attempt) bool { return a.holder != nil }
	return []situation{
		{"own", "a socket that has a number asks for that number again",
			func(a attempt) bool { return a.had != 0 && a.number == a.had }, fresh,
			"own= is about one socket and one number"},
		{"other", "a socket that has a number asks for a different one",
			func(a attempt) bool { return a.had != 0 && a.number != 0 && a.number != a.had }, func(a attempt) bool { return a.had == 0 && a.number != k.number },
			"a socket without a number may have any. The question is about one that has a number already"},
		{"zero", "a socket that has a number binds to 0",
			func(a attempt) bool { return a.had != 0 && a.number == 0 }, func(a attempt) bool { return a.had == 0 && a.number == 0 },
			"a socket without a number gets one by that. The question is about one that has a number already"},
		{"one", "a socket without a number asks for 1",
			func(a attempt) bool { return a.had == 0 && a.number == 1 }, fresh,
			"1 is meant as it stands there: the process ID of init"},
		{"reuseaddr", "SO_REUSEADDR is set on two sockets, then both bind to the same number",
			both(unix.SO_REUSEADDR), refused,
			"UDP wants the option on both sockets, and before they bind. Netlink shall have the same chance"},
		{"reuseport", "SO_REUSEPORT is tried on two sockets, then both bind to the same number",
			both(unix.SO_REUSEPORT), refused,
			"the option is tried on both sockets, and before they bind. Where setsockopt refuses it, bind is tried all the same"},
	}
}

// option returns the setsockopt that tried an option of level SOL_SOCKET on the
// socket before e.
func (k *course) option(on *trace.Socket, option int, e trace.Event) trace.Call {
	for _, c := range k.run.Trace.Calls("setsockopt").On(on).Before(e) {
		if c.Entry.Int("level") == unix.SOL_SOCKET && c.Entry.Int("optname") == int64(option) {
			return c
		}
	}
	return trace.Call{}
}

// rules: each situation was brought about, and what the kernel said is reported.
func (k *course) rules(s *labtest.Step) {
	k.start(2)
	for _, row := range k.situations() {
		a := k.find(trace.Event{}, row.is)
		if !a.Seen() {
			f := labtest.Failure{
				Got:      "this situation was not seen",
				Expected: fmt.Sprintf("%s=: %s", row.key, row.what),
				Likely:   row.likely,
			}
			if near := k.find(trace.Event{}, row.near); near.Seen() {
				f.Trace = near.events()
			}
			if got, ok := k.run.Key(row.key); ok {
				f.Got = fmt.Sprintf("%s=%s, but no bind in that situation", row.key, labtest.Short(got))
			}
			s.Fail(f)
		}
		k.says(s, row.key, a.Call, fmt.Sprintf("%s= is what bind says when %s", row.key, row.what))
		switch row.key {
		case "reuseaddr":
			k.reused = a
		case "reuseport":
			k.says(s, "reuseport_set", k.option(a.Socket, unix.SO_REUSEPORT, a.Entry), "reuseport_set= is no row of the table: it is what ask returns as set, what setsockopt said to SO_REUSEPORT")
		}
	}
	k.ended(s)
}

// twice: while a socket has the number, another has it on another protocol, and one
// in another network namespace.
func (k *course) twice(s *labtest.Step) {
	k.start(3)
	holder := k.got(s).Socket
	wants := func(a attempt) bool { return a.number == k.number && a.had == 0 && holder.HasPort(a.Entry) }

	k.foreign = k.find(holder.Bound, func(a attempt) bool {
		return wants(a) && a.Socket.Protocol != holder.Protocol && a.Socket.Net == holder.Net
	})
	if !k.foreign.Seen() {
		f := labtest.Failure{
			Got:      fmt.Sprintf("%d was asked for on protocol %d only", k.number, holder.Protocol),
			Expected: fmt.Sprintf("another protocol, while a socket of protocol %d has %d", holder.Protocol, k.number),
			Likely:   "the protocol is the last argument of socket(2). NETLINK_ROUTE is one that every kernel has",
		}
		if c := k.run.Trace.Calls("socket").Failed(unix.EPROTONOSUPPORT).First(); c.Seen() {
			f.Got = fmt.Sprintf("no socket: protocol %d is not supported", c.Entry.Int("protocol"))
			f.Likely = "a protocol is there when a part of the kernel has registered it. man 7 netlink names them all, but not which ones this kernel has; /proc/net/netlink, in make shell, shows those (column Eth)"
			f.Trace = []trace.Event{c.Entry, c.Return}
		}
		s.Fail(f)
	}
	k.says(s, "protocol", k.foreign.Call, "protocol= is what bind said on the other protocol")

	k.abroad = k.find(holder.Bound, func(a attempt) bool {
		return wants(a) && a.Socket.Protocol == holder.Protocol && a.Socket.Net != holder.Net
	})
	if !k.abroad.Seen() {
		s.Fail(k.whyHome(holder))
	}
	k.says(s, "netns", k.abroad.Call, "netns= is what bind said in the other network namespace")

	home := k.find(k.abroad.Return, func(a attempt) bool { return wants(a) && a.Socket.Protocol == holder.Protocol })
	s.Expect(home.Seen(), labtest.Failure{
		Got:      "after that nobody asked in the old network namespace",
		Expected: fmt.Sprintf("a socket in the old network namespace that is refused %d", k.number),
		Likely:   "step3, which is written already, does it for the line home=",
		Trace:    k.abroad.events(),
	})
	s.Expect(home.Socket.Net == holder.Net, labtest.Failure{
		Got:      fmt.Sprintf("home=%s, but that socket is not in the old network namespace: thread %d made it, which is still in another network namespace", labtest.Verdict(home.Call), home.Socket.Created.Task),
		Expected: "the rest of the program stays in the old network namespace",
		Likely:   "a thread that was sent to another namespace stays there, whoever it works for. Who brings it back, or sees to it that nobody else gets it?",
		Trace:    append(k.abroad.events(), home.events()...),
	})
	k.says(s, "home", home.Call, "home= is what bind said in the old network namespace")
	k.ended(s)
}

// whyHome says why no socket was bound in another network namespace.
func (k *course) whyHome(holder *trace.Socket) labtest.Failure {
	f := labtest.Failure{
		Got:      "no thread entered another network namespace",
		Expected: fmt.Sprintf("a socket in a new network namespace that asks for %d", k.number),
		Likely:   "netns.New makes a namespace and enters it",
	}
	var moves trace.Calls
	for _, c := range k.run.Trace.Calls("unshare", "setns") {
		if c.Name == "setns" || c.Entry.Uint("unshare_flags")&unix.CLONE_NEWNET != 0 {
			moves = append(moves, c)
		}
	}
	entered := moves.OK().First()
	if failed := moves.Failed().First(); failed.Seen() && !entered.Seen() {
		f.Got = fmt.Sprintf("%s: %s", failed.Name, labtest.Verdict(failed))
		f.Likely = "the error is the kernel's: what did the call ask for?"
		f.Trace = []trace.Event{failed.Entry, failed.Return}
	}
	if !entered.Seen() {
		return f
	}
	f.Trace = []trace.Event{entered.Entry}
	f.Got = fmt.Sprintf("thread %d entered another network namespace, and then nobody asked for %d", entered.Task, k.number)
	f.Likely = "inNamespace must call what it was given, while it is there"
	a := k.find(entered.Return, func(a attempt) bool {
		return a.number == k.number && a.had == 0 && a.Socket.Protocol == holder.Protocol
	})
	if !a.Seen() {
		return f
	}
	made := a.Socket.Created
	f.Trace = append(f.Trace, made, a.Entry, a.Return)
	switch {
	case trace.Before(made, entered.Return):
		f.Got = "the socket was made before another network namespace was entered"
		f.Likely = "a socket belongs to the namespace in which it was made, wherever it is bound"
	case made.Task != entered.Task:
		f.Got = fmt.Sprintf("thread %d entered another network namespace, but thread %d made the socket, in the old one: %s", entered.Task, made.Task, labtest.Verdict(a.Call))
		f.Likely = "a network namespace is a matter of the thread. Which thread a goroutine runs on, Go decides anew again and again, unless it is told not to"
	default:
		f.Got = fmt.Sprintf("thread %d entered another network namespace, was back, and only then made the socket: %s", made.Task, labtest.Verdict(a.Call))
		f.Likely = "what was given to inNamespace has to run between the way there and the way back"
	}
	return f
}

// containers: two processes that are 1 in their PID namespaces take that for a
// number, and only one gets it; then the kernel chooses, and both get one.
func (k *course) containers(s *labtest.Step) {
	k.start(4)
	k.robust(s, k.collide(s))
	k.ended(s)
}

// collide judges the two containers that asked for their process IDs, and returns
// the moment at which the second one was answered.
func (k *course) collide(s *labtest.Step) trace.Event {
	asks := func(a attempt) bool { return a.number != 0 && a.Socket.PID != k.run.Trace.PID }
	first := k.find(trace.Event{}, asks)
	second := k.find(trace.Event{}, func(a attempt) bool { return asks(a) && a.Socket.PID != first.Socket.PID })
	f := labtest.Failure{
		Expected: "two processes that both ask for 1, their process ID, one while the other has it",
		Trace:    append(first.events(), second.events()...),
	}
	switch {
	case !first.Seen():
		f.Got = "no other process than the first asked for a number"
		f.Likely = "a container is a process of its own: the program, started once more with the arguments container and pid"
	case first.number != 1:
		f.Got = fmt.Sprintf("a container asked for %d", first.number)
		f.Likely = "that is what getpid says where the process is one among others. Process 1 it is in a PID namespace of its own only"
	case !second.Seen():
		f.Got = "one container"
		f.Likely = "was the second one started, and as far as its bind? A container prints one line, and its output ends only when it ends: read one line"
	case second.number != 1:
		f.Got = fmt.Sprintf("the second container asked for %d", second.number)
		f.Likely = "the second process in a PID namespace is not 1: each container has one of its own"
	case second.Socket.Net != first.Socket.Net:
		f.Got = "each container has a network namespace of its own, and both get 1"
		f.Likely = "containers of one pod share the network. Which namespaces does a process get that is started?"
	case second.holder == nil:
		f.Got = "the first container had given its number back when the second one asked"
		f.Likely = "a container keeps its number until its standard input ends. When does it end?"
		f.Trace = append(first.events(), first.Socket.Released, second.Entry, second.Return)
	}
	s.Expect(f.Got == "", f)
	k.each(s, "pid", []string{"1", labtest.Verdict(second.Call)}, "so bind answered", f.Trace,
		"what each container prints, containers returns: a number, or what bind said")
	return second.Return
}

// robust judges the two containers after that, for which the kernel chose.
func (k *course) robust(s *labtest.Step, after trace.Event) {
	var chosen []*trace.Socket
	for _, x := range k.run.Trace.Sockets() {
		// One of each process: the first that it had chosen for.
		if x.Auto && x.PID != k.run.Trace.PID && !slices.ContainsFunc(chosen, func(y *trace.Socket) bool { return y.PID == x.PID }) {
			chosen = append(chosen, x)
		}
	}
	f := labtest.Failure{Expected: "two containers at the same time, and in both the kernel chooses the number"}
	for _, x := range chosen {
		f.Trace = append(f.Trace, x.Bound)
	}
	if len(chosen) < 2 {
		f.Got = fmt.Sprintf("in %d containers the kernel chose", len(chosen))
		f.Likely = "was each of them started with the arguments container and auto, and as far as its bind? Of its output one line is read, not all"
		own := k.find(after, func(a attempt) bool { return a.number != 0 && a.Socket.PID != k.run.Trace.PID })
		if own.Seen() {
			f.Got = fmt.Sprintf("the program asked for %d itself: %s", own.number, labtest.Verdict(own.Call))
			f.Likely = "a number that one program makes up, another can make up too. Only one party sees who has which number"
			f.Trace = own.events()
		}
		s.Fail(f)
	}
	slices.SortFunc(chosen, func(a, b *trace.Socket) int { return cmp.Compare(a.Bound.Seq, b.Bound.Seq) })
	a, b := chosen[0], chosen[1]
	f.Trace = []trace.Event{a.Bound, a.Released, b.Bound}
	switch {
	case !a.HasPort(b.Bound):
		f.Got = "the first container had given its number back when the second one got one"
		f.Likely = "a container keeps its number until its standard input ends. When does it end?"
	case a.Net != b.Net:
		f.Got = "each container has a network namespace of its own"
		f.Likely = "containers of one pod share the network. Which namespaces does a process get that is started?"
	case a.Port != 1 && b.Port != 1:
		f.Got = fmt.Sprintf("the kernel chose %d and %d: none of them is 1", a.Port, b.Port)
		f.Likely = "the kernel's first choice is the process ID. Is each container process 1, and have those who asked for 1 ended by now?"
	}
	s.Expect(f.Got == "", f)
	k.each(s, "auto", []string{fmt.Sprint(int32(a.Port)), fmt.Sprint(int32(b.Port))}, "these are the numbers that the kernel gave", []trace.Event{a.Bound, b.Bound},
		"which number the kernel chose, the program has to ask it. It is printed as an int32, with its sign")
	k.chosen = [2]*trace.Socket{a, b}
}

// each compares what the program reports of its two containers, in either order,
// with what the kernel did.
func (k *course) each(s *labtest.Step, key string, want []string, why string, evidence []trace.Event, likely string) {
	got := k.run.Keys(key)
	slices.Sort(got)
	slices.Sort(want)
	s.Expect(slices.Equal(got, want), labtest.Failure{
		Got:      fmt.Sprintf("%s=%s", key, strings.Join(got, ", ")),
		Expected: fmt.Sprintf("%s=%s: %s", key, strings.Join(want, ", "), why),
		Likely:   likely,
		Trace:    evidence,
	})
}

// closed: the number of a socket that was closed was still taken, and then free.
func (k *course) closed(s *labtest.Step) {
	k.start(5)
	refused := func(a attempt) bool { return a.had == 0 && a.holder != nil }
	k.late = k.find(trace.Event{}, func(a attempt) bool { return refused(a) && k.closedBefore(a.holder, a.Entry) })
	if !k.late.Seen() {
		f := labtest.Failure{
			Got:      "no socket was closed whose number somebody asked for afterwards",
			Expected: "close returns 0, and after that another socket is refused the number",
			Likely:   "the sequence is: a socket that has the number, its close, a bind to the same number",
		}
		if a := k.find(trace.Event{}, refused); a.Seen() {
			f.Got = fmt.Sprintf("%d was refused while the socket that has it had not been closed", a.number)
			f.Likely = "that two sockets cannot have it was step 1. Here the program has to close that socket first"
			f.Trace = append(a.events(), a.holder.Closed)
			if first := k.hadBefore(a); first != nil {
				f.Got = fmt.Sprintf("%d was refused because another socket had got it since: after close it was free at once", a.number)
				f.Likely = "the question is about the socket that was closed. Who else could have that one at that moment?"
				f.Trace = append(f.Trace, first.Closed, a.holder.Bound)
			}
		} else if a := k.reopened(); a.Seen() {
			f.Got = fmt.Sprintf("the socket was closed, and %d was free at once", a.number)
			f.Likely = "close gives up a descriptor. Who else could have the socket at that moment?"
			f.Trace = a.events()
		}
		s.Fail(f)
	}
	k.says(s, "closed", k.late.Call, "closed= is what bind said after close")

	holder := k.late.holder
	freed := k.find(holder.Released, func(a attempt) bool {
		return a.had == 0 && a.number == k.late.number && a.Socket.SharesPorts(holder)
	})
	f := labtest.Failure{
		Got:      fmt.Sprintf("%d was never asked for again", k.late.number),
		Expected: "once nobody has the socket any more, another one gets the number",
		Likely:   "the program has to find out that the number is free again",
		Trace:    append(k.late.events(), holder.Closed, holder.Released),
	}
	if again := k.find(k.late.Return, refused); again.Seen() && !freed.Seen() {
		f.Got = fmt.Sprintf("%d was never free again before the program's end", k.late.number)
		f.Likely = "whoever has the socket still, has to give it up too. Does the program wait until that is done?"
		f.Trace = append(f.Trace, again.Entry, again.Return)
	}
	s.Expect(holder.Released.Seen() && freed.Seen(), f)
	k.says(s, "freed", freed.Call, "freed= is what bind said when nobody had the socket any more")
	k.ended(s)
}

// closedBefore reports whether close of the socket had returned 0 before e.
func (k *course) closedBefore(x *trace.Socket, e trace.Event) bool {
	return slices.ContainsFunc(k.run.Trace.Calls("close").On(x).OK(), func(c trace.Call) bool {
		return c.Entry.Seq == x.Closed.Seq && trace.Before(c.Return, e)
	})
}

// hadBefore returns the socket that had the number of a, and was closed, before a's
// holder got it; nil if there is none.
func (k *course) hadBefore(a attempt) *trace.Socket {
	for _, b := range k.asked {
		if b.Ret == 0 && b.number == a.number && b.Socket != a.holder && b.Socket.SharesPorts(a.holder) && k.closedBefore(b.Socket, a.holder.Bound) {
			return b.Socket
		}
	}
	return nil
}

// reopened returns the first attempt to get a number whose holder had been closed.
func (k *course) reopened() attempt {
	return k.find(trace.Event{}, func(a attempt) bool {
		return slices.ContainsFunc(k.asked, func(b attempt) bool {
			return b.Ret == 0 && b.number == a.number && k.closedBefore(b.Socket, a.Entry) && b.Socket != a.Socket
		})
	})
}

// answer tells what the kernel did about the predictions.
func (k *course) answer() {
	if a := k.reused; a.Seen() {
		option := 0
		if a.Err() != nil {
			option = 1
		}
		k.c.Answer("reuse", option, fmt.Sprintf("netlink_bind returned %s, with the option on both sockets", labtest.Verdict(a.Call)))
	}
	if k.foreign.Seen() && k.abroad.Seen() {
		option := 0
		switch foreign, abroad := k.foreign.Err() == nil, k.abroad.Err() == nil; {
		case foreign && abroad:
			option = 2
		case foreign:
			option = 1
		}
		k.c.Answer("twice", option, fmt.Sprintf("netlink_bind returned %s on protocol %d, and %s in another network namespace",
			labtest.Verdict(k.foreign.Call), k.foreign.Socket.Protocol, labtest.Verdict(k.abroad.Call)))
	}
	if a, b := k.chosen[0], k.chosen[1]; b != nil && a.Port == 1 && int32(b.Port) < 0 {
		k.c.Answer("containers", 2, fmt.Sprintf("netlink_insert was called for %d, then for %d", a.Port, b.Port))
	}
	if k.late.Seen() {
		k.c.Answer("close", 2, fmt.Sprintf("netlink_bind returned %s after close, and netlink_release came later", labtest.Verdict(k.late.Call)))
	}
}
