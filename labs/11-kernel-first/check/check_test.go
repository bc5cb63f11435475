// SPDX-License-Identifier: MIT

// Package check judges programs for lab 11.
package check

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

const (
	module   = "nlnotify"
	protocol = 26
	// burst is how many notices nobody's queue holds: the largest that a user may ask for
	// has room for about 200.
	burst = 600
)

func TestKernelFirst(t *testing.T) {
	k := &lab{labtest.New(t)}
	k.quiet()
	k.Step(1, k.hear)
	k.Step(2, func(s *labtest.Step) {
		k.idle(s)
		k.stop(s)
	})
	k.Step(3, func(s *labtest.Step) {
		k.leave(s)
		k.stopAway(s)
		k.Note("rmmod was refused with EAGAIN while the daemon listened, and not when its socket was closed; then socket(2) said EPROTONOSUPPORT, until the module was back")
	})
	k.Step(4, k.burst)
	k.Step(5, func(s *labtest.Step) {
		for _, wait := range rand.Perm(2) {
			k.experiment(s, wait == 1)
		}
		k.Note("netlink_unicast with nonblock=0 waited until the program had read; with MSG_DONTWAIT it returned EAGAIN, and the notice was gone")
		k.Answer("waits", 2, "where the last argument of netlink_unicast was 0 the kernel waited until the program read; where it was MSG_DONTWAIT it dropped the message")
	})
}

// lab is the check under way.
type lab struct{ *labtest.Check }

func (k *lab) set(name string, value any) { k.Param(module, name, fmt.Sprint(value)) }

// quiet makes nlnotify say nothing but what the check asks for, to the group.
func (k *lab) quiet() {
	k.set("interval_ms", 0)
	k.set("meanwhile", 0)
	k.set("via", "group")
	k.set("wait", 0)
}

// notices makes nlnotify send so many.
func (k *lab) notices(n int) { k.set("trigger", n) }

// view is what is known of a program that may still run.
func (k *lab) view(p *labtest.Program, t *trace.Trace) *trace.Program {
	return t.Program(p.PID(), k.Lab.Program)
}

// start starts the program without input.
func (k *lab) start(args ...string) *labtest.Program {
	p := k.Start(args...)
	p.Input.Close()
	return p
}

// joined are the events with which sockets of the program became members of the group.
func joined(r *trace.Program) trace.Events {
	return r.Events(trace.NotifyJoin).Where("ret", 0)
}

// members is how many sockets of the program are in the group. nlnotify is asked before
// the kernel notes the membership, so the call must be over.
func members(r *trace.Program) (n int) {
	calls := r.Calls(trace.Bind, "setsockopt").OK()
	for _, e := range joined(r) {
		if slices.ContainsFunc(calls, func(c trace.Call) bool { return trace.Inside(e, c) }) {
			n++
		}
	}
	return n
}

// told are the notices of which at least one listener of the program got a copy.
func told(r *trace.Program, via int64) trace.Events {
	return slices.DeleteFunc(r.Events(trace.NotifySend).Where("type", trace.NotifyNews).Where("via", via),
		func(e trace.Event) bool { return e.Int("ret") < 0 })
}

// numbers are those of notices.
func numbers(es trace.Events) []string {
	var list []string
	for _, e := range es {
		list = append(list, fmt.Sprint(e.Uint("number")))
	}
	return list
}

// many is a number of things, in words: 1 socket, 2 sockets.
func many(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// few is a list in words, cut short.
func few(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	if len(list) > 6 {
		list = append(slices.Clone(list[:5]), fmt.Sprintf("... (%d in all)", len(list)))
	}
	return labtest.Short(strings.Join(list, " "))
}

// sockets are the program's of nlnotify's protocol.
func sockets(r *trace.Program) []*trace.Socket {
	return slices.DeleteFunc(r.Sockets(), func(s *trace.Socket) bool { return s.Protocol != protocol })
}

// noSocket fails the step where the program never had one.
func noSocket(s *labtest.Step, run *labtest.Run) {
	if len(sockets(run.Trace)) > 0 {
		return
	}
	f := labtest.Failure{
		Got:      fmt.Sprintf("no socket of protocol %d", protocol),
		Expected: fmt.Sprintf("a socket of protocol %d, nlnotify's", protocol),
		Likely:   "the program, run in this mode, has opened no Netlink socket at all",
	}
	if all := run.Trace.Sockets(); len(all) > 0 {
		f.Got += fmt.Sprintf(", but one of %d", all[0].Protocol)
		f.Trace = []trace.Event{all[0].Created}
		f.Likely = "the protocol is the last argument of socket(2), and the first of netlink.Dial"
	}
	s.Fail(f)
}

// noMember fails the step where no socket of the program has joined the group.
func noMember(s *labtest.Step, run *labtest.Run) {
	noSocket(s, run)
	if joined(run.Trace).First().Seen() {
		return
	}
	first := sockets(run.Trace)[0]
	s.Fail(labtest.Failure{
		Got:      "a socket, and it is in no group",
		Expected: "a socket in group 1: the notices go there",
		Trace:    []trace.Event{first.Created, first.Bound},
		Likely:   "a group is joined by a mask in bind, whose lowest bit is group 1, or by the option NETLINK_ADD_MEMBERSHIP: lab 8, or go doc netlink.Config",
	})
}

// ended: the program ended by itself.
func ended(s *labtest.Step, run *labtest.Run, f labtest.Failure) {
	if f.Got == "" {
		f.Got = "everything was seen, but the program did not end well"
	}
	if f.Expected == "" {
		f.Expected = "exit code 0"
	}
	if f.Likely == "" {
		f.Likely = "its last words tell why"
		for _, l := range run.Lines {
			if strings.Contains(l.Text, "mismatched sequence") { // netlink.Validate
				f.Likely = "mdlayher/netlink took a notice for the answer to a question: on a socket that listens, both come. Ask on another one"
			}
		}
	}
	s.Expect(run.End.OK(), f)
}

// ---- step 1 ----

func (k *lab) hear(s *labtest.Step) {
	port := 5_000_001 + rand.Uint32N(1<<30)
	n := 5 + rand.IntN(4)
	k.set("port", port)
	p := k.start("hear", strconv.Itoa(n))
	if p.WaitFor(func(t *trace.Trace) bool {
		r := k.view(p, t)
		return r.Socket(protocol, port) != nil && members(r) >= 2
	}) {
		// From a task, to the group, to the port and to both; then by the timer, and to
		// the group only: a probe of netlink_unicast can be missed where it is hit while
		// another one is being recorded, which only who interrupts can bring about.
		some := 1 + rand.IntN(3)
		k.set("via", "port")
		k.notices(some)
		k.set("via", "both")
		k.notices(n - some)
		k.set("via", "group")
		k.set("interval_ms", 10)
	}
	run := p.Wait()
	k.quiet()

	noSocket(s, run)
	at := run.Trace.Socket(protocol, port)
	f := labtest.Failure{
		Got:      fmt.Sprintf("nobody has the agreed port, %d", port),
		Expected: "a socket bound to it",
		Likely:   "which port it is, the file /sys/module/nlnotify/parameters/port says: another one each time",
	}
	for _, x := range sockets(run.Trace) {
		f.Trace = append(f.Trace, x.Bound)
	}
	s.Expect(at != nil, f)
	s.Reported(run, "port", fmt.Sprint(port), labtest.Failure{Trace: []trace.Event{at.Bound}})
	s.Expect(len(joined(run.Trace)) >= 2, labtest.Failure{
		Got:      many(len(joined(run.Trace)), "socket") + " in the group",
		Expected: "2 sockets in group 1, beside the one at the agreed port",
		Trace:    append(joined(run.Trace), at.Bound),
		Likely:   "each of the three is a socket of its own, and two of them join the group. One that waits before the others are there keeps them from coming",
	})
	if sent := run.Trace.Calls(trace.Sendmsg).First(); sent.Seen() {
		s.Fail(labtest.Failure{
			Got:      "the program has sent a message",
			Expected: "a program that sends nothing, and hears all the same",
			Trace:    []trace.Event{sent.Entry},
			Likely:   "nobody has to ask nlnotify for a notice",
		})
	}

	byPort, byGroup := told(run.Trace, trace.NotifyPort), told(run.Trace, trace.NotifyGroup)
	wantPort := numbers(byPort)[:min(n, len(byPort))]
	wantGroup := numbers(byGroup)[:min(n, len(byGroup))]
	reads := run.Reads(at)
	s.Expect(len(reads) >= n, labtest.Failure{
		Got:      many(len(reads), "message") + " read at the agreed port",
		Expected: fmt.Sprintf("%d: hear's argument", n),
		Trace:    []trace.Event{at.Bound, byPort.First(), reads.Last().Return},
		Likely:   "each of the three sockets has to be read, while the others wait: a goroutine for each",
	})
	got := run.Keys("by_port")
	s.Expect(slices.Equal(got, wantPort), labtest.Failure{
		Got:      "by_port= " + few(got),
		Expected: fmt.Sprintf("by_port= %s: what went to port %d", few(wantPort), port),
		Trace:    []trace.Event{byPort.First(), reads.First().Return},
		Likely:   "the number of a notice is in its payload, the first 4 bytes, in the machine's byte order; one line for each",
	})
	got = run.Keys("by_group")
	twice := slices.Concat(wantGroup, wantGroup)
	f = labtest.Failure{
		Got:      "by_group= " + few(got),
		Expected: fmt.Sprintf("by_group= %s, and each twice", few(wantGroup)),
		Trace:    []trace.Event{byGroup.First()},
		Likely:   "each of the two in the group gets a copy of each notice, and each of them prints a line",
	}
	slices.Sort(got)
	slices.Sort(twice)
	s.Expect(slices.Equal(got, twice), f)
	ended(s, run, labtest.Failure{Likely: fmt.Sprintf("when each has heard %d notices, the program ends", n)})

	asked, timed := byGroup.Where("softirq", 0), byGroup.Where("softirq", 1)
	if reads.First().Seen() {
		k.Answer("first", 0, fmt.Sprintf("nothing was ever sent from port %d, and %d notices arrived there", port, len(reads)))
	}
	if asked.First().Seen() && timed.First().Seen() {
		k.Answer("context", 1, fmt.Sprintf("nlnotify_send in task %d, which wrote to trigger, and in softirq context, by the timer: both arrived", asked.First().Task))
		k.Note("notices came from a task, which had written to trigger, and from a timer in softirq context")
	}
}

// ---- step 2 ----

// line takes a line KEY=value apart.
func line(text string) (key, value string) {
	key, value, _ = strings.Cut(text, "=")
	return strings.TrimSpace(key), strings.TrimSpace(value)
}

// idle: waits in vain end by the deadline, each by its own, and the program goes on. A
// notice comes as soon as the one before was reported: so some of them fall into each
// deadline that is not renewed.
func (k *lab) idle(s *labtest.Step) {
	const (
		limit = 100 * time.Millisecond
		some  = 10
	)
	p := k.start("wait", fmt.Sprint(limit.Milliseconds()))
	_, ok := p.WaitForKey("idle", func(v string) bool { return v == "2" })
	for n := 1; ok && n <= some; n++ {
		k.notices(1)
		_, ok = p.WaitForKey("news", func(v string) bool { return v == fmt.Sprint(n) })
	}
	if ok {
		_, ok = p.WaitForKey("idle", func(string) bool {
			told := false
			for _, l := range p.Lines() {
				key, value := line(l.Text)
				told = told || key == "news" && value == fmt.Sprint(some)
				if told && key == "idle" {
					return true
				}
			}
			return false
		})
	}
	if ok {
		_ = p.Signal(syscall.SIGTERM)
	}
	run := p.Wait()
	noMember(s, run)
	join := joined(run.Trace).First()
	waits := run.Keys("idle")
	s.Expect(len(waits) >= 2, labtest.Failure{
		Got:      many(len(waits), "line") + " idle=, where nothing came",
		Expected: fmt.Sprintf("idle=1, idle=2 ..., one each time that %v have passed", limit),
		Trace:    []trace.Event{join, run.Trace.Calls(trace.Recvmsg).Last().Entry},
		Likely:   "a wait has no end by itself. SetReadDeadline gives it one, which is a moment and no duration",
	})
	for i, v := range waits {
		s.Expect(v == fmt.Sprint(i+1), labtest.Failure{
			Got:      fmt.Sprintf("idle=%s after %s in vain", labtest.Short(v), many(i+1, "wait")),
			Expected: fmt.Sprintf("idle=%d", i+1),
			Likely:   "idle counts the waits in vain, from 1",
		})
	}
	// A wait may last longer than it was to, but never shorter.
	var last int64
	for _, l := range run.Lines {
		if key, _ := line(l.Text); key == "idle" {
			last = l.Time
		}
	}
	passed, least := time.Duration(last-join.Time), time.Duration(len(waits))*limit
	s.Expect(passed >= least, labtest.Failure{
		Got:      fmt.Sprintf("%s in vain within %v", many(len(waits), "wait"), passed.Round(time.Millisecond)),
		Expected: fmt.Sprintf("at least %v for so many, each waits %v", least, limit),
		Trace:    []trace.Event{join},
		Likely:   "a deadline is a moment. When it has passed it stays passed, for every wait that begins later",
	})
	notices := told(run.Trace, trace.NotifyGroup)
	if !notices.First().Seen() {
		s.Fail(labtest.Failure{
			Got:      "idle=2 never came, or the program was over before there was anything to hear",
			Expected: "a program that waits on",
			Likely:   "that nothing came is no reason to end",
		})
	}
	got := run.Keys("news")
	s.Expect(slices.Equal(got, numbers(notices)), labtest.Failure{
		Got:      "news= " + few(got),
		Expected: "news= " + few(numbers(notices)) + ", after waits in vain",
		Trace:    []trace.Event{notices.First(), run.Trace.Calls(trace.Recvmsg).OK().Last().Return},
		Likely:   "who receives it? Where each wait has a goroutine of its own, one that was given up is still there, takes the message, and nobody listens to it",
	})
	k.renewed(s, run, limit)
}

// renewed: a notice ends a wait, and the next one has the whole limit again.
func (k *lab) renewed(s *labtest.Step, run *labtest.Run, limit time.Duration) {
	notices := told(run.Trace, trace.NotifyGroup)
	var reads trace.Calls
	for _, x := range sockets(run.Trace) {
		if all := run.Reads(x); len(all) >= len(notices) {
			reads = all
		}
	}
	heard, again := 0, false
	for _, l := range run.Lines {
		key, value := line(l.Text)
		if key == "news" {
			heard++
			again = false
		}
		again = again || key == "idle"
		if key != "idle" || heard == 0 || heard > len(reads) {
			continue
		}
		// Who polls may know of it before recvmsg is called.
		read := reads[heard-1]
		passed := time.Duration(l.Time - min(read.Entry.Time, notices[heard-1].Time))
		s.Expect(passed >= limit, labtest.Failure{
			Got:      fmt.Sprintf("idle=%s, %v after notice %d", labtest.Short(value), passed.Round(time.Millisecond), heard),
			Expected: fmt.Sprintf("idle= where nothing has come for %v: each wait has the whole limit, that after a notice too", limit),
			Trace:    []trace.Event{notices[heard-1], read.Return},
			Likely:   "a deadline stays where it was set. Whoever sets a new one only when it has passed gives the next wait what the last one has left over",
		})
	}
	s.Expect(again, labtest.Failure{
		Got:      fmt.Sprintf("no idle= after notice %d, the last one", heard),
		Expected: fmt.Sprintf("idle=, when nothing has come for %v", limit),
		Trace:    []trace.Event{notices.Last(), run.Trace.Calls(trace.Recvmsg).Last().Entry, run.Trace.Exit()},
		Likely:   "after a notice begins a new wait. Which deadline has it?",
	})
}

// stop: SIGTERM ends a wait that would last for an hour.
func (k *lab) stop(s *labtest.Step) {
	p := k.start("wait", "3600000")
	some := 2 + rand.IntN(4)
	if p.WaitFor(func(t *trace.Trace) bool { return members(k.view(p, t)) > 0 }) {
		k.notices(some)
		reads := func(r *trace.Program) (n int, last trace.Event) {
			for _, c := range r.Calls(trace.Recvmsg).OK() {
				if c.Entry.Int("flags")&syscall.MSG_PEEK == 0 {
					n, last = n+1, c.Return
				}
			}
			return n, last
		}
		heard := p.WaitFor(func(t *trace.Trace) bool {
			n, _ := reads(k.view(p, t))
			return n >= some
		})
		// Most ways to wait begin with a recvmsg in vain; a poll does not.
		again := make(chan bool, 1)
		go func() {
			again <- p.WaitFor(func(t *trace.Trace) bool {
				r := k.view(p, t)
				_, last := reads(r)
				return r.Calls(trace.Recvmsg).After(last).First().Seen()
			})
		}()
		select {
		case <-again:
		case <-time.After(time.Second):
		}
		if heard {
			_ = p.Signal(syscall.SIGTERM)
		}
	}
	run := p.Wait()
	noMember(s, run)
	k.terminated(s, run, "wait")
	s.Reported(run, "stopped", fmt.Sprint(some), labtest.Failure{
		Trace:  told(run.Trace, trace.NotifyGroup),
		Likely: "stopped= says how many notices were heard until SIGTERM came",
	})
}

// terminated: SIGTERM has ended the program, and it went in good order.
func (k *lab) terminated(s *labtest.Step, run *labtest.Run, where string) {
	signal := run.Trace.Events(trace.Signal).Where("sig", int64(syscall.SIGTERM)).First()
	if !signal.Seen() {
		ended(s, run, labtest.Failure{
			Got:      "the program was over before SIGTERM was sent",
			Expected: "a program that listens until SIGTERM comes",
		})
		s.Fail(labtest.Failure{
			Got:      "the program was over before SIGTERM was sent",
			Expected: "a program that listens until SIGTERM comes",
			Likely:   "nothing went wrong; it just did not go on",
		})
	}
	f := labtest.Failure{
		Got:      "SIGTERM, and the program went on waiting",
		Expected: "an end, whatever it is waiting for",
		Trace:    []trace.Event{signal},
		Likely:   "who is asleep does not look at a context. What can another goroutine do to end the wait?",
	}
	switch {
	case run.End.Signal == syscall.SIGTERM:
		f.Got = "SIGTERM ended the program as it ends any other"
		f.Likely = "a program that wants to end in good order has to take the signal: signal.NotifyContext"
	case run.End.Stopped == "" && run.End.Code != 0:
		f.Got = fmt.Sprintf("SIGTERM, and then exit code %d", run.End.Code)
		f.Expected = "exit code 0: SIGTERM is no error"
		f.Likely = "the wait ends by an error, and which one depends on how it was ended. That it was meant to, the context says"
	}
	s.Expect(run.End.OK(), f)
	for _, x := range sockets(run.Trace) {
		s.Expect(x.Closed.Seen(), labtest.Failure{
			Got:      fmt.Sprintf("the program ended with the socket of %v open", x),
			Expected: "each socket closed before the end",
			Trace:    []trace.Event{x.Created, signal, run.Trace.Exit()},
			Likely:   "os.Exit runs no deferred function, and main waits for no other goroutine: who has called Close may not be back from it",
		})
	}
}

// ---- step 3 ----

// connect starts the daemon, lets it hear something, and returns it; nil where that
// has failed and the program is over.
func (k *lab) connect(mode string, notices int) *labtest.Program {
	p := k.start(mode)
	if _, ok := p.WaitForKey("connected", func(v string) bool { return v == "1" }); !ok {
		return p
	}
	k.hears(p, notices)
	return p
}

// most is how many notices there are before the module goes: fewer than afterwards, so
// that the last number is one that was not there before.
const most = 3

// hears makes notices, and waits until the program has reported the last.
func (k *lab) hears(p *labtest.Program, n int) bool {
	k.notices(n)
	k.Flush()
	last := ""
	p.WaitFor(func(t *trace.Trace) bool {
		last = fmt.Sprint(k.view(p, t).Events(trace.NotifySend).Last().Uint("number"))
		return true
	})
	_, ok := p.WaitForKey("news", func(v string) bool { return v == last })
	return ok
}

// away unloads the module when it can be unloaded: whether it could be while the
// program was there. The program stands still meanwhile, for what happens while the
// module goes is lost from the trace.
func (k *lab) away(p *labtest.Program) bool {
	for {
		stays := false // it tries to come back, and has not gone
		if !p.WaitFor(func(t *trace.Trace) bool {
			r := k.view(p, t)
			told := r.Events(trace.NotifySend).Where("type", trace.NotifyLeaving).First()
			open, old := false, false
			for _, x := range sockets(r) {
				open = open || !x.Closed.Seen()
				old = old || !x.Closed.Seen() && trace.Before(x.Created, told)
			}
			stays = old && len(r.Calls(trace.Bind, "setsockopt").Failed(syscall.ESHUTDOWN)) >= 3
			return !open || stays
		}) {
			return false
		}
		if stays {
			_ = p.Signal(syscall.SIGTERM)
			return false
		}
		_ = p.Signal(syscall.SIGSTOP)
		err := k.Unload(module)
		_ = p.Signal(syscall.SIGCONT)
		if err == nil {
			return true
		}
		select {
		case <-p.Over():
			return false
		case <-p.Ending():
			return false
		case <-time.After(2 * time.Millisecond): // it has the processor
		}
	}
}

// back loads the module again. The program stands still meanwhile: the module is there
// a moment before its events are traced, and who joined then would not be seen.
func (k *lab) back(p *labtest.Program) {
	_ = p.Signal(syscall.SIGSTOP)
	k.Load(module, "via=group")
	_ = p.Signal(syscall.SIGCONT)
}

// refused are the program's attempts to open a socket while there is no module: each
// is one system call, or two where a library tries it in another way (mdlayher/socket).
func refused(r *trace.Program) trace.Calls {
	return r.Calls("socket").Failed(syscall.EPROTONOSUPPORT).After(r.Events(trace.ModuleFree).Last())
}

// attempts are all those that failed since the socket was closed: what refused them is
// socket while there is no module, and bind or setsockopt while it is about to go.
func attempts(r *trace.Program, closed trace.Event) trace.Calls {
	return slices.DeleteFunc(r.Calls("socket", trace.Bind, "setsockopt").After(closed), func(c trace.Call) bool {
		return c.Err() != syscall.EPROTONOSUPPORT && c.Err() != syscall.ESHUTDOWN
	})
}

// listened: the daemon has listened, and reported what it heard.
func (k *lab) listened(s *labtest.Step, run *labtest.Run) {
	noMember(s, run)
	join := joined(run.Trace).First()
	_, ok := run.Key("connected")
	s.Expect(ok, labtest.Failure{
		Got:      "no line connected=1",
		Expected: "connected=1 when the daemon listens",
		Trace:    []trace.Event{join},
		Likely:   "the check makes notices only when it knows that somebody listens",
	})
	want, got := numbers(told(run.Trace, trace.NotifyGroup)), run.Keys("news")
	s.Expect(len(got) > 0 && len(want) > 0 && got[0] == want[0], labtest.Failure{
		Got:      "news= " + few(got),
		Expected: "news= " + few(want),
		Trace:    []trace.Event{join, told(run.Trace, trace.NotifyGroup).First()},
		Likely:   "the number of a notice is in its payload, the first 4 bytes, in the machine's byte order",
	})
}

// enough is how many calls of socket have to fail before the module is back: four
// attempts, and more where each is one call. By then the pauses between them have grown
// beyond what a machine that is busy takes for them.
const enough = 7

// leave: the daemon lets the module go and comes back with it.
func (k *lab) leave(s *labtest.Step) {
	p := k.connect("daemon", 1+rand.IntN(most))
	refs := ""
	if v, ok := p.WaitForKey("refs", func(string) bool { return true }); ok && v != "" {
		refs = k.references()
		if err := k.Unload(module); err == nil {
			k.Fault("the module could be unloaded while the program has a socket")
		}
	}
	k.set("leave", 1)
	gone := k.away(p)
	if gone {
		p.WaitFor(func(t *trace.Trace) bool { return len(refused(k.view(p, t))) >= enough })
		k.back(p)
		if _, ok := p.WaitForKey("connected", func(v string) bool { return v == "2" }); ok && k.hears(p, most+1+rand.IntN(3)) {
			_ = p.Signal(syscall.SIGTERM)
		}
	}
	run := p.Wait()
	if !gone {
		k.set("leave", 0)
	}
	k.listened(s, run)
	join := joined(run.Trace).First()
	s.Expect(refs != "", labtest.Failure{
		Got:      "no line refs=",
		Expected: "refs=R, when the daemon listens",
		Trace:    []trace.Event{join},
		Likely:   "the kernel counts who uses a module. lsmod shows it, and lsmod has it from a file",
	})
	s.Reported(run, "refs", refs, labtest.Failure{
		Expected: fmt.Sprintf("refs=%s: so many references has the module, while the daemon listens", refs),
		Trace:    []trace.Event{join},
		Likely:   "the number is in a file of /sys/module/nlnotify, and it is another one when there are more sockets",
	})
	announced := run.Trace.Events(trace.NotifySend).Where("type", trace.NotifyLeaving).First()
	var closed trace.Event
	for _, x := range sockets(run.Trace) {
		if trace.Before(x.Created, announced) && trace.Before(announced, x.Closed) && (!closed.Seen() || trace.Before(x.Closed, closed)) {
			closed = x.Closed
		}
	}
	// First of all: who never pauses may be stopped, for all its lines, before the module
	// is away, and then holds it by its last attempt.
	if closed.Seen() {
		k.paused(s, run, closed)
	}
	if !gone {
		k.stayed(s, run, announced)
	}
	s.Expect(closed.Seen(), labtest.Failure{
		Got:      "the program ended, instead of closing its socket",
		Expected: "a daemon that lives on without the module",
		Trace:    []trace.Event{announced, run.Trace.Exit()},
		Likely:   "its last words tell why",
	})
	s.Reported(run, "left", "1", labtest.Failure{
		Expected: "left=1, once: the module was told to leave once",
		Trace:    []trace.Event{announced, closed},
		Likely:   "left= follows when the socket is closed",
	})
	k.retried(s, run, closed)

	loaded := run.Trace.Events(trace.ModuleLoad).After(closed).First()
	again := joined(run.Trace).After(loaded).First()
	s.Expect(again.Seen(), labtest.Failure{
		Got:      "the module is back, and the daemon is not",
		Expected: "a socket in group 1 again",
		Trace:    []trace.Event{announced, closed, refused(run.Trace).Last().Return, loaded, run.Trace.Exit()},
		Likely:   "how often is it tried? Nobody knows how long the module will be away",
	})
	s.Reported(run, "connected", "2", labtest.Failure{Trace: []trace.Event{loaded, again}})
	got, want := run.Keys("news"), numbers(told(run.Trace, trace.NotifyGroup))
	s.Expect(slices.Equal(got, want), labtest.Failure{
		Got:      "news= " + few(got),
		Expected: "news= " + few(want) + ", counted anew from 1 by the new module",
		Trace:    []trace.Event{loaded, again, told(run.Trace, trace.NotifyGroup).Last()},
		Likely:   "what is known of the old module's numbers is void",
	})
	k.terminated(s, run, "daemon")
}

// references is the kernel's count.
func (k *lab) references() string {
	b, err := os.ReadFile("/sys/module/" + module + "/refcnt")
	if err != nil {
		k.Fault("%v", err)
	}
	return strings.TrimSpace(string(b))
}

// stayed fails the step: the module could not be unloaded.
func (k *lab) stayed(s *labtest.Step, run *labtest.Run, announced trace.Event) {
	f := labtest.Failure{
		Got:      "the module has said that it wants to go, and rmmod is refused to the end",
		Expected: "that the daemon closes its socket",
		Trace:    []trace.Event{announced, run.Trace.Calls(trace.Recvmsg).OK().Last().Return},
		Likely:   "a message of type 17 asks for it, and to be silent about it is not to be gone",
	}
	open, end := 0, run.Trace.Events(trace.Signal).Where("sig", int64(syscall.SIGTERM)).First()
	if !end.Seen() {
		end = run.Trace.Exit()
	}
	for _, x := range sockets(run.Trace) {
		// Not one of an attempt to come back, which the end may meet.
		if trace.Before(x.Created, announced) && (!x.Closed.Seen() || trace.Before(end, x.Closed)) {
			open++
		}
	}
	if _, left := run.Key("left"); left && open > 0 {
		f.Got = fmt.Sprintf("left=, and yet the program has %s open", many(open, "socket"))
		f.Likely = "to leave the group is not enough, nor to close one of several: what does the kernel count?"
	}
	s.Fail(f)
}

// paused: before each attempt to come back there was a pause, and they grow. A pause may
// last longer than it was to, but never shorter.
func (k *lab) paused(s *labtest.Step, run *labtest.Run, closed trace.Event) {
	const first, most = 50 * time.Millisecond, time.Second
	var least time.Duration
	pause, n := first, 0
	for _, l := range run.Lines {
		if !strings.HasPrefix(strings.TrimSpace(l.Text), "retry=") {
			continue
		}
		n++
		least += pause
		pause = min(2*pause, most)
		if time.Duration(l.Time-closed.Time) >= least {
			continue
		}
		// The attempt that the line is about, where the trace has it: then it says when it
		// was made, and by which error it failed.
		made, f := l.Time, labtest.Failure{
			Expected: fmt.Sprintf("attempt %d no sooner than %d ms after it: the pause before attempt 1 is %d ms or more, and each further one twice as long as the one before, up to a second", n, least.Milliseconds(), first.Milliseconds()),
			Trace:    []trace.Event{closed},
			Likely:   "there is a pause before each attempt, the first included. Who does not pause keeps the machine busy with nothing; who never pauses longer, too",
		}
		for _, c := range attempts(run.Trace, closed) {
			if c.Return.Time > l.Time || n == 1 && len(f.Trace) > 1 {
				break
			}
			made, f.Trace = c.Entry.Time, []trace.Event{closed, c.Entry, c.Return}
		}
		f.Got = fmt.Sprintf("attempt %d to come back was made %.1f ms after the socket was closed", n, milliseconds(closed, made))
		s.Fail(f)
	}
	// While the check unloaded the module, the program stood still: that may be all the
	// pauses it has made. Nothing stops it between the attempts after that, of which the
	// first call to fail belongs to attempt 1 or a later one, and the third one to the next.
	calls := refused(run.Trace)
	least, pause = 0, 2*first
	for i := 2; i < len(calls); i += 2 {
		least += pause
		pause = min(2*pause, most)
		a, b := calls[0], calls[i]
		if time.Duration(b.Entry.Time-a.Entry.Time) >= least {
			continue
		}
		s.Fail(labtest.Failure{
			Got:      fmt.Sprintf("%.1f ms after the socket was closed, and then within %.1f ms, socket was called %d times", milliseconds(closed, a.Entry.Time), milliseconds(a.Entry, b.Entry.Time), i+1),
			Expected: fmt.Sprintf("%d ms for that, or more: an attempt is one call, or two (mdlayher/netlink tries without flags, too), and between two attempts there is a pause of %d ms, of %d ms, and so on", least.Milliseconds(), 2*first.Milliseconds(), 4*first.Milliseconds()),
			Trace:    []trace.Event{closed, a.Entry, a.Return, b.Entry, b.Return},
			Likely:   "who does not pause keeps the machine busy with nothing",
		})
	}
}

// milliseconds is how long after an event something happened.
func milliseconds(since trace.Event, t int64) float64 {
	return time.Duration(t-since.Time).Seconds() * 1000
}

// retried: the daemon has tried to come back until it could, and told of its attempts.
func (k *lab) retried(s *labtest.Step, run *labtest.Run, closed trace.Event) {
	tries := refused(run.Trace)
	retries := run.Keys("retry")
	f := labtest.Failure{
		Got:      many(len(tries), "attempt") + " to come back while the module was away",
		Expected: "one attempt after the other, until it is back",
		Trace:    []trace.Event{closed, tries.First().Return, tries.Last().Return, run.Trace.Exit()},
		Likely:   "EPROTONOSUPPORT says that nobody serves the protocol now. It may be different the next time",
	}
	if end := run.Trace.Exit(); !trace.Before(run.Trace.Events(trace.ModuleLoad).First(), end) {
		f.Got = "the daemon ended while the module was away"
	}
	s.Expect(len(tries) >= enough, f) // what the check has waited for
	s.Expect(slices.Contains(retries, "EPROTONOSUPPORT"), labtest.Failure{
		Got:      "retry= " + few(retries),
		Expected: "retry=EPROTONOSUPPORT for each attempt that the kernel refused so",
		Trace:    []trace.Event{tries.First().Return},
		Likely:   "the line has the error's name, which unix.ErrnoName knows",
	})
}

// stopAway: SIGTERM ends the daemon too while there is no module.
func (k *lab) stopAway(s *labtest.Step) {
	p := k.connect("daemon", 1+rand.IntN(most))
	k.set("leave", 1)
	gone := k.away(p)
	if gone && p.WaitFor(func(t *trace.Trace) bool { return len(refused(k.view(p, t))) > 0 }) {
		_ = p.Signal(syscall.SIGTERM)
	}
	run := p.Wait()
	if gone {
		k.back(p)
	} else {
		k.set("leave", 0)
	}
	k.terminated(s, run, "pause")
}

// ---- step 4 ----

func (k *lab) burst(s *labtest.Step) {
	p := k.connect("burst", most)
	// The machine has other things to do than to run the program.
	_ = p.Signal(syscall.SIGSTOP)
	k.notices(burst)
	// What it learns by asking is old when it arrives, and counts what is still in the queue.
	k.set("meanwhile", 3+rand.IntN(7))
	_ = p.Signal(syscall.SIGCONT)
	if _, ok := p.WaitForKey("missed", func(string) bool { return true }); ok && k.hears(p, 1) {
		_ = p.Signal(syscall.SIGTERM)
	}
	run := p.Wait()
	k.listened(s, run)
	notices := run.Trace.Events(trace.NotifySend).Where("via", trace.NotifyGroup)
	if at := run.ToldAt("missed", ""); at.Seen() {
		notices = notices.Before(at)
	}
	lost := slices.DeleteFunc(slices.Clone(notices), func(e trace.Event) bool { return e.Int("ret") >= 0 })
	full := lost.First()
	if !full.Seen() {
		k.Fault("%d notices had room in the program's queue", burst)
	}
	overrun := run.Trace.Calls(trace.Recvmsg).Failed(syscall.ENOBUFS).First()
	asked := run.Trace.Events(trace.NotifyRequest).After(full)
	dropped, behind := len(lost), len(lost.After(asked.First()))
	f := labtest.Failure{
		Got:      "no line missed=",
		Expected: fmt.Sprintf("missed=%d: the program listened before notice 1, and of the %d notices until missed= so many had no room", dropped, len(notices)),
		Trace:    []trace.Event{full, overrun.Return, asked.First(), run.Trace.Exit()},
		Likely:   "something was dropped: recvmsg says so by ENOBUFS, once, before what is in the queue",
	}
	switch {
	case asked.First().Seen() && asked.First().Int("ret") < 0:
		f.Likely = "the question was asked, and the answer had no room in the same queue"
	case overrun.Seen() && !run.End.OK() && run.End.Stopped == "":
		f.Likely = "ENOBUFS is no end: it tells that something was dropped, and what had room comes after it"
	case overrun.Seen() && !asked.First().Seen():
		f.Likely = "the gap is behind the last notice in the queue, and no later one comes to show it. Who knows how many there were? See the types of messages"
	}
	missed, ok := run.Key("missed")
	if !ok {
		s.Fail(f)
	}
	f.Trace = []trace.Event{full, overrun.Return, asked.First()}
	f.Likely = "what the kernel says there were, less what was heard. What is still in the queue is not missed: take it out before the two are compared"
	if n, err := strconv.Atoi(missed); err == nil && n < dropped && behind > 0 {
		f.Trace = append(f.Trace, lost.Last())
		f.Likely = fmt.Sprintf("%s had no room behind the answer, and no ENOBUFS tells it: that comes once, and until the queue has been empty everything else is dropped. When is the time to ask?", many(behind, "notice"))
	}
	s.Reported(run, "missed", fmt.Sprint(dropped), f)
	got, want := run.Keys("news"), numbers(told(run.Trace, trace.NotifyGroup))
	s.Expect(slices.Equal(got, want), labtest.Failure{
		Got:      many(len(got), "line") + " news=",
		Expected: fmt.Sprintf("%d: all that were in the queue, in order, and the one after the burst", len(want)),
		Trace:    []trace.Event{full, overrun.Return, run.Trace.Calls(trace.Recvmsg).OK().Last().Return},
		Likely:   "what had room in the queue is still there after ENOBUFS. A new socket has a new queue, and nothing in it",
	})
	k.terminated(s, run, "daemon")
	k.Note("a burst of %d notices while the program stood still (SIGSTOP): %d had no room. ENOBUFS told that, and the kernel's answer to NLNOTIFY_GET how many", burst, dropped)
}

// ---- step 5 ----

func (k *lab) experiment(s *labtest.Step, wait bool) {
	port := 5_000_001 + rand.Uint32N(1<<30)
	k.set("port", port)
	k.set("via", "port")
	k.set("wait", map[bool]string{false: "0", true: "1"}[wait])
	p := k.start("experiment")
	if p.WaitFor(func(t *trace.Trace) bool { return k.view(p, t).Socket(protocol, port) != nil }) {
		k.notices(burst)
	}
	// Whoever waits for the reader is woken by its end.
	p.Settle(func(r *trace.Program) bool {
		return !slices.ContainsFunc(r.Arrivals(r.Socket(protocol, port)), func(c trace.Call) bool { return !c.Returned() })
	})
	run := p.Wait()
	k.set("leave", 1) // takes back what is still to be told
	k.set("leave", 0)
	k.quiet()

	noSocket(s, run)
	at := run.Trace.Socket(protocol, port)
	s.Expect(at != nil, labtest.Failure{
		Got:      fmt.Sprintf("nobody has the agreed port, %d", port),
		Expected: "a socket bound to it: to a group the kernel never waits",
		Trace:    []trace.Event{sockets(run.Trace)[0].Bound},
		Likely:   "which port it is, the file /sys/module/nlnotify/parameters/port says",
	})
	begin, end := k.full(run, at, wait)
	what := "a notice met a full queue, and was dropped"
	if wait {
		what = "a notice met a full queue, and its sender waited"
	}
	sends := run.Trace.Events(trace.NotifySend).Where("type", trace.NotifyNews).Where("via", trace.NotifyPort)
	told := run.ToldAt("waits", "")
	f := labtest.Failure{
		Got:      fmt.Sprintf("the queue was never full, although %d notices were sent", len(sends)),
		Expected: "a queue that is full: only then the kernel has to decide",
		Trace:    []trace.Event{at.Bound, sends.First(), run.Reads(at).First().Return, at.Closed},
		Likely:   "who reads as fast as the kernel writes learns nothing about waiting",
	}
	if told.Seen() && !trace.Before(sends.Last(), told) {
		f.Got = "waits= while notices were still being sent, and the queue was never full"
		f.Trace = []trace.Event{at.Bound, sends.First(), run.Reads(at).First().Return, told, sends.Last()}
		f.Likely = "the kernel takes its time to fill a queue. What was there to see before that?"
	}
	s.Expect(begin.Seen(), f)
	if _, ok := run.Key("waits"); ok && !trace.Before(begin, told) {
		s.Fail(labtest.Failure{
			Got:      "waits= before the queue was full",
			Expected: "an answer after that: only then the kernel has to decide",
			Trace:    []trace.Event{at.Bound, told, begin},
			Likely:   "what is known before the experiment is none of its results, be it true or not",
		})
	}
	f = labtest.Failure{
		Expected: fmt.Sprintf("waits=%t: %s", wait, what),
		Trace:    []trace.Event{at.Bound, begin, end},
		Likely:   "the check runs the experiment twice, and the second time the module sends in the other way. Something was dropped, or nothing was: which signs of that are there?",
	}
	if run.End.Stopped != "" {
		f.Likely = "the program waits for a sign that does not come. A queue can be full with Rmem below the buffer's size; and where somebody waits for the reader, nothing changes until it reads"
	}
	s.Reported(run, "waits", fmt.Sprint(wait), f)
	ended(s, run, labtest.Failure{})
}

// full finds the moment at which the queue was full: the event with which somebody met
// it so, and the one that ended that.
func (k *lab) full(run *labtest.Run, at *trace.Socket, wait bool) (begin, end trace.Event) {
	if !wait {
		return run.Trace.Events(trace.NotifySend).Where("via", trace.NotifyPort).Where("ret", -int64(syscall.EAGAIN)).First(), trace.Event{}
	}
	// A sender that slept at the door, until the program read or closed. One that is only
	// interrupted there, with room in the queue, returns 0.
	for _, c := range run.Trace.Arrivals(at) {
		if c.Ret != 1 {
			continue
		}
		for _, r := range run.Reads(at) {
			if trace.During(r.Return, c) {
				return c.Entry, r.Return
			}
		}
		return c.Entry, at.Closed
	}
	return trace.Event{}, trace.Event{}
}
