// SPDX-License-Identifier: MIT

// Package check judges programs for lab 4.
package check

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

// overflow is how many replies nobody's queue holds: the default one has room for
// about 100 of them, the largest that a user may ask for for twice as many.
const overflow = 400

// patience is how often a watcher may look in vain before it is told. It opens a
// file of /proc each time, mostly, and closes it.
const patience = 300

// Numbers of the kernel, the same on x86 and on arm64.
const (
	soRcvTimeO      = 20
	soRcvTimeONew   = 66
	soSndTimeO      = 21
	soSndTimeONew   = 67
	solSocket       = 1
	cloneThread     = 0x10000
	uninterruptible = 2 // of prev_state
)

func TestSlowEcho(t *testing.T) {
	// Of the switches those into state D, and of the signals all but SIGURG, which Go's
	// runtime sends to goroutines that run for long.
	k := &lab{Check: labtest.New(t, labtest.Probes(trace.SetSockOpt),
		labtest.Events("sched:sched_switch if prev_state & 2", "signal:signal_generate if sig != 23"))}
	k.Param("nlecho", "delay_ms", "0")
	k.Step(1, func(s *labtest.Step) {
		k.queue(s, 3+rand.IntN(6))
		k.queue(s, overflow)
	})
	k.Step(2, func(s *labtest.Step) {
		k.watch(s)
		k.kill(s)
	})
	k.Step(3, k.read)
	k.Step(4, k.deferred)
	k.Step(5, func(s *labtest.Step) {
		k.free(s, false)
		k.free(s, true)
	})
}

// lab is the check under way.
type lab struct{ *labtest.Check }

// set makes nlecho give that many replies, in the callback or from a worker.
func (k *lab) set(replies int, deferred bool) {
	k.Param("nlecho", "replies", strconv.Itoa(replies))
	k.Param("nlecho", "defer", map[bool]string{true: "1", false: "0"}[deferred])
}

// message is the one that the program sent in this run, and the call that sent it.
func message(s *labtest.Step, r *labtest.Run) (trace.Call, *trace.Message) {
	send := s.ToKernel(r)
	for _, m := range r.Trace.Messages() {
		if m.Input.Seen() {
			return send, m
		}
	}
	var refused trace.Event
	if ms := r.Trace.Messages(); len(ms) > 0 {
		refused = ms[0].Reject
	}
	s.Fail(labtest.Failure{
		Got:      "nlecho took no message",
		Expected: "one message that nlecho takes",
		Trace:    []trace.Event{send.Entry, refused, send.Return},
		Likely:   "the header does not describe the message: greet in the starter builds one that does",
	})
	return send, nil
}

// inKernel is the number of replies that reached the program's queue.
func inKernel(m *trace.Message) int {
	n := 0
	for _, e := range m.Replies {
		if e.Int("ret") >= 0 {
			n++
		}
	}
	return n
}

// ended: the program ended by itself.
func ended(s *labtest.Step, r *labtest.Run, f labtest.Failure) {
	if f.Got == "" {
		f.Got = "everything was seen, but the program did not end well"
	}
	if f.Expected == "" {
		f.Expected = "exit code 0"
	}
	if f.Likely == "" {
		f.Likely = "its last words tell why"
	}
	s.Expect(r.End.OK(), f)
}

// queue: the program counts what lies in the queue when sendmsg has returned.
func (k *lab) queue(s *labtest.Step, replies int) {
	k.set(replies, false)
	run := k.Run("queue")
	send, m := message(s, run)
	k.counted(s, run, send, m)
	if replies != overflow {
		if trace.Inside(m.Done, send) && trace.Inside(m.Replies.Last(), send) {
			k.Answer("returns", 2, fmt.Sprintf("nlecho_done, and reply %d of %d before it, stand between the entry of netlink_sendmsg and its return", len(m.Replies), replies))
		}
		return
	}
	if n := inKernel(m); n < replies && trace.Inside(m.Done, send) {
		k.Answer("unread", 2, fmt.Sprintf("of %d replies %d fitted into the queue; for the others netlink_unicast returned an error, and nlecho went on", replies, n))
		k.Note("a reader that sleeps: of %d replies %d were queued and %d dropped, and nobody waited", replies, n, replies-n)
	}
}

// counted: the program reports how many replies it took out of the queue, which are
// all that lay there, and whether some were lost.
func (k *lab) counted(s *labtest.Step, run *labtest.Run, send trace.Call, m *trace.Message) {
	reads := run.Reads(send.Socket)
	after := reads.After(send.Return)
	lay := 0 // in the queue when sendmsg returned
	for _, e := range m.Replies {
		if e.Int("ret") >= 0 && trace.Before(e, send.Return) {
			lay++
		}
	}
	lost := lay < len(trace.Events(m.Replies).Before(send.Return))
	all := run.Trace.Calls(trace.Recvmsg).On(send.Socket).After(send.Return)
	stuck := all.Last()

	// A recvmsg that the program's end interrupted returns an error of the kernel's own.
	s.Expect(!stuck.Seen() || stuck.Returned() && run.End.Stopped == "", labtest.Failure{
		Got:      fmt.Sprintf("%d of %d replies were read, and then one more was waited for", len(after), lay),
		Expected: "an end, when nothing lies in the queue any more",
		Trace:    []trace.Event{send.Return, after.Last().Return, stuck.Entry},
		Likely:   "recvmsg waits where nothing is. It can be asked not to: look at its flags",
	})
	f := labtest.Failure{
		Got:      fmt.Sprintf("%d of %d replies were read", len(after), lay),
		Expected: fmt.Sprintf("all %d that lay in the queue when sendmsg returned", lay),
		Trace:    []trace.Event{m.Replies.Last(), send.Return, after.Last().Return, stuck.Return, send.Socket.Closed},
		Likely:   "the program stops before the queue is empty. The kernel says when it is",
	}
	switch {
	case lay > 0 && len(after) == 0 && len(reads) == 0 && lost:
		f.Likely = "the first recvmsg returned an error, but none that means an empty queue. What does it tell, and what comes after it?"
	case lay > 0 && len(reads) == 0:
		f.Likely = "drain has to take the replies out of the queue: what it says without that, nobody has seen"
	}
	s.Expect(len(reads) >= lay, f)
	f = labtest.Failure{
		Expected: fmt.Sprintf("queued=%d: recvmsg returned so many replies; the trace has the first and the last", lay),
		Trace:    []trace.Event{send.Return, after.First().Return, after.Last().Return, stuck.Return},
		Likely:   "only a recvmsg that returns a message counts",
	}
	if _, told := run.Key("queued"); !told && stuck.Err() == syscall.EAGAIN && !run.End.OK() {
		f.Likely = "EAGAIN came, and was taken for a failure. receive wraps its errors: == does not find it in there, errors.Is does"
	}
	s.Reported(run, "queued", fmt.Sprint(lay), f)
	s.Reported(run, "lost", fmt.Sprint(lost), labtest.Failure{
		Expected: fmt.Sprintf("lost=%t: of %d replies %d reached the queue", lost, len(m.Replies), inKernel(m)),
		Trace:    []trace.Event{send.Return, all.First().Return, after.First().Return},
		Likely:   "recvmsg tells it, once, by an error of its own, before it gives what did fit",
	})
	ended(s, run, labtest.Failure{})
}

// startWatch starts the program and waits until it has seen its sender asleep. The
// check fails when it does not: then nlecho goes on and the run is judged.
func (k *lab) startWatch(s *labtest.Step) *labtest.Program {
	k.set(2, false)
	k.Hold()
	p := k.Start("watch")
	p.Input.Close()
	seen := make(chan bool, 2)
	go func() {
		_, ok := p.WaitForKey("state", func(v string) bool { return v == "D" })
		seen <- ok
	}()
	go func() {
		p.WaitFor(func(t *trace.Trace) bool {
			r := t.Program(p.PID(), k.Lab.Program)
			for _, m := range r.Messages() {
				return len(r.Calls("close").After(m.Waits.First())) > patience
			}
			return false
		})
		seen <- false
	}()
	if <-seen && p.WaitFor(p.Waiting) {
		return p
	}
	k.Free()
	k.whyUnseen(s, p.Wait())
	return nil
}

// whyUnseen fails the step: the program did not see its thread in state D.
func (k *lab) whyUnseen(s *labtest.Step, run *labtest.Run) {
	send, m := message(s, run)
	slept := k.slept(run, send, m)
	states := run.Keys("state")
	f := labtest.Failure{
		Got:      "while sendmsg lasted, no line state=D",
		Expected: fmt.Sprintf("state=D: task %d, which was in sendmsg, slept so until the check let nlecho go on", send.Task),
		Trace:    []trace.Event{send.Entry, m.Waits.First(), slept, send.Return},
		Likely:   "nobody looks while sendmsg lasts: who could, if the goroutine that calls it is in it?",
	}
	tid, told := run.Key("tid")
	switch {
	case len(states) > 0 && told && tid != fmt.Sprint(send.Task):
		f.Got = fmt.Sprintf("state=%s of tid=%s", labtest.Short(states[len(states)-1]), labtest.Short(tid))
		f.Likely = fmt.Sprintf("this is another thread's state. What the sender's own thread ID is, it has to say itself, and a goroutine may change its thread: sendmsg was in task %d", send.Task)
		if tid == fmt.Sprint(run.Trace.PID) {
			f.Likely = fmt.Sprintf("%s is the process ID. /proc/self/stat is about the process's first thread; sendmsg was in another", tid)
		}
	case len(states) > 0:
		got := states[len(states)-1]
		f.Got = fmt.Sprintf("state=%s of the right thread", labtest.Short(got))
		f.Likely = "one look is too early, or the last one: nobody knows when the sender falls asleep, so look until it does"
		if len(got) != 1 {
			f.Likely = "this is not the field that holds the state: proc(5), /proc/pid/stat. The name before it may have spaces"
		}
	}
	s.Fail(f)
}

// slept is the event with which the sender fell asleep in state D, in a wait of
// nlecho and inside its sendmsg.
func (k *lab) slept(run *labtest.Run, send trace.Call, m *trace.Message) trace.Event {
	for _, e := range run.Trace.Events(trace.Switch).After(m.Waits.First()).Where("prev_pid", int64(send.Task)) {
		if e.Int("prev_state")&uninterruptible != 0 && trace.Inside(e, send) {
			return e
		}
	}
	return trace.Event{}
}

// watch: the program sees the thread that is in sendmsg in state D, and knows it.
func (k *lab) watch(s *labtest.Step) {
	p := k.startWatch(s)
	k.Free()
	run := p.Wait()
	send, m := message(s, run)
	slept := k.slept(run, send, m)
	if !slept.Seen() {
		k.Fault("the program saw state D, and sched_switch did not: nlecho waited in task %d", m.Waits.First().Task)
	}
	told := run.ToldAt("state", "D")
	s.Expect(trace.Before(slept, told), labtest.Failure{
		Got:      "a line state=D before the sender slept",
		Expected: "state=D when it is so, and not before",
		Trace:    []trace.Event{told, send.Entry, slept},
		Likely:   "the state is not looked up: /proc has it, for each thread",
	})
	s.Reported(run, "tid", fmt.Sprint(send.Task), labtest.Failure{
		Expected: fmt.Sprintf("tid=%d, the thread that was in sendmsg", send.Task),
		Trace:    []trace.Event{send.Entry, slept, send.Return},
		Likely:   "a thread's ID is not the process's, and only the thread itself can ask for it",
	})
	ended(s, run, labtest.Failure{
		Trace:  []trace.Event{m.Done, send.Return},
		Likely: "its last words tell why. When sendmsg has returned, the watcher has to end too",
	})
	k.Note("state D: the program saw it, and sched_switch shows it of task %d, inside its netlink_sendmsg", send.Task)
}

// kill: SIGKILL comes while nlecho waits, and the sender ends only after the
// callback. Nothing here depends on the program: it is the kernel that is asked.
func (k *lab) kill(s *labtest.Step) {
	p := k.startWatch(s)
	sender, victim := 0, 0 // the task in sendmsg, and its process
	threads := false       // whether that has other tasks
	p.WaitFor(func(t *trace.Trace) bool {
		r := t.Program(p.PID(), k.Lab.Program)
		sender = r.Messages()[0].Call.Task
		victim, threads = sender, sender == r.PID
		for _, e := range r.Events(trace.NewTask).Where("pid", int64(sender)) {
			if threads = e.Uint("clone_flags")&cloneThread != 0; threads {
				victim = r.PID
			}
		}
		return true
	})
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		k.Fault("sending SIGKILL to the program's process %d: %v", victim, err)
	}
	killed := func(r *trace.Program) trace.Event {
		return r.Events(trace.Signal).Where("sig", int64(syscall.SIGKILL)).First()
	}
	p.WaitFor(func(t *trace.Trace) bool {
		r := t.Program(p.PID(), k.Lab.Program)
		signal := killed(r)
		// The process's other threads, which are nowhere in the kernel, die at once.
		return signal.Seen() && (!threads || len(r.Events(trace.Exit).After(signal)) > 0)
	})
	k.Free()
	run := p.Wait()

	send, m := message(s, run)
	signal := killed(run.Trace)
	gone := run.Trace.Events(trace.Exit).Where("pid", int64(sender)).First()
	wait := m.Waits.First()
	if !trace.Before(wait, signal) || !trace.Before(signal, m.Wakes.First()) || !trace.Before(m.Done, gone) {
		k.Fault("SIGKILL did not come while nlecho waited, or the sender ended before nlecho was done: %s",
			strings.Join(run.Trace.Evidence(wait, signal, m.Wakes.First(), m.Done, send.Return, gone), "; "))
	}
	k.Answer("kill", 2, fmt.Sprintf("signal_generate SIGKILL while nlecho waited, then %d replies, nlecho_done, and only then the sender's sched_process_exit", len(m.Replies)))
	k.Note("kill -9 while nlecho waited: the program's other threads ended at once, the one in sendmsg after nlecho_done")
}

// read: another thread reads each reply before nlecho goes on to the next. nlecho
// gives one more than the program is to read, so sendmsg lasts until it has read all.
func (k *lab) read(s *labtest.Step) {
	replies := 3 + rand.IntN(3)
	k.set(replies+1, false)
	k.Hold()
	p := k.Start("read", strconv.Itoa(replies))
	p.Input.Close()
	for n := 1; n <= replies; n++ {
		p.WaitFor(p.Waiting)
		k.Release(1)
		if _, ok := p.WaitForKey("read", func(v string) bool { return v == strconv.Itoa(n) }); !ok {
			k.Free()
			k.whyUnread(s, p.Wait(), n, replies)
		}
	}
	// A program that does not wait for sendmsg ends here, while nlecho still waits.
	p.WaitFor(p.Waiting)
	k.Flush()
	k.Free()
	run := p.Wait()
	send, m := message(s, run)
	reads := run.Reads(send.Socket)
	for n := 1; n <= min(replies, len(m.Replies)); n++ {
		told, early := run.ToldAt("read", strconv.Itoa(n)), n > len(reads)
		if !early {
			early = !trace.Before(reads[n-1].Return, told)
		}
		s.Expect(!early, labtest.Failure{
			Got:      fmt.Sprintf("a line read=%d before reply %d was read", n, n),
			Expected: "a recvmsg that returns the reply, and then the line",
			Trace:    []trace.Event{m.Replies[n-1], told},
			Likely:   "the line is printed by receive, when it has got a reply: nobody else can know",
		})
	}
	k.allRead(s, run, send, m, replies)
}

// whyUnread fails the step: reply n was not reported before nlecho went on.
func (k *lab) whyUnread(s *labtest.Step, run *labtest.Run, n, replies int) {
	send, m := message(s, run)
	reads := run.Reads(send.Socket)
	var reply trace.Event
	if len(m.Replies) >= n {
		reply = m.Replies[n-1]
	}
	f := labtest.Failure{
		Got:      fmt.Sprintf("reply %d of %d lay in the queue, sendmsg waited, and no line read=%d came", n, replies, n),
		Expected: fmt.Sprintf("read=%d before nlecho goes on: the check lets one reply out, and waits for you to read it", n),
		Trace:    []trace.Event{send.Entry, reply, send.Return, reads.First().Entry, reads.First().Return},
		Likely:   "the goroutine that is in sendmsg cannot read as well: who else could?",
	}
	// Not the first of all: who came late may have found a reply, and then no other.
	gaveUp := run.Trace.Calls(trace.Recvmsg).On(send.Socket).Before(send.Return).Failed().First()
	switch {
	case len(reads) >= n && trace.During(reads[n-1].Return, send):
		f.Trace = []trace.Event{send.Entry, reply, reads[n-1].Return}
		f.Likely = "the reply was read but not told at once: receive prints the line, so call it once for each reply, and do not print into a buffer"
	case gaveUp.Seen():
		f.Trace = []trace.Event{send.Entry, gaveUp.Entry, gaveUp.Return}
		f.Likely = "somebody looked before there was a reply, and gave up"
	case len(reads) == 0 && run.End.Stopped == "":
		f.Likely = "nobody reads: the replies go with the socket when the program ends"
	}
	s.Fail(f)
}

// allRead: every reply was read and told, sendmsg's return was told, and the
// program waited for both.
func (k *lab) allRead(s *labtest.Step, run *labtest.Run, send trace.Call, m *trace.Message, replies int) {
	reads := run.Reads(send.Socket)
	s.Expect(len(reads) == replies, labtest.Failure{
		Got:      fmt.Sprintf("%d of %d replies were read", len(reads), replies),
		Expected: fmt.Sprintf("all %d", replies),
		Trace:    []trace.Event{m.Replies.Last(), send.Return, reads.Last().Return, send.Socket.Closed},
		Likely:   "the program ended while a reply was still to come: main waits for nobody whom it is not told to wait for",
	})
	s.Reported(run, "sent", fmt.Sprint(send.Ret), labtest.Failure{
		Expected: fmt.Sprintf("sent=%d, and only then the end", send.Ret),
		Trace:    []trace.Event{reads.Last().Return, run.Trace.Events(trace.Exit).After(reads.Last().Return).First(), m.Done},
		Likely:   "all was read, but sendmsg had not returned, and the program ended: who runs beside the reader has to be waited for, too",
	})
	var want []string
	for n := range replies {
		want = append(want, strconv.Itoa(n+1))
	}
	got := run.Keys("read")
	s.Expect(slices.Equal(got, want), labtest.Failure{
		Got:      fmt.Sprintf("%d lines read=...: %s", len(got), strings.Join(got, ", ")),
		Expected: strings.Join(want, ", ") + ": a line for each reply",
		Likely:   "receive prints the line: it is called once for each reply, by one goroutine at a time",
	})
	ended(s, run, labtest.Failure{})
}

// deferred: with defer=1 sendmsg is back before the first reply.
func (k *lab) deferred(s *labtest.Step) {
	// Nothing is in the queue when sendmsg returns.
	k.set(3, true)
	k.Hold()
	run := k.Run("queue")
	k.Free()
	send, m := message(s, run)
	k.counted(s, run, send, m)

	// The sender does not sleep in state D.
	k.Hold()
	p := k.Start("watch")
	p.Input.Close()
	inVain := p.WaitFor(func(t *trace.Trace) bool {
		r := t.Program(p.PID(), k.Lab.Program)
		send := r.Calls(trace.Sendmsg).To(0).OK().First()
		return len(r.Calls("close").After(send.Return)) > patience
	})
	k.Free()
	if inVain {
		p.Stop()
	}
	run = p.Wait()
	send, m = message(s, run)
	states := run.Keys("state")
	s.Expect(!slices.Contains(states, "D"), labtest.Failure{
		Got:      "state=D",
		Expected: "no line state=D: with defer=1 the sender does not sleep",
		Trace:    []trace.Event{send.Entry, send.Return, m.Waits.First()},
		Likely:   "the state is not looked up, or it is another thread's: a worker of the kernel sleeps now, and not in your process",
	})
	f := labtest.Failure{Trace: []trace.Event{send.Entry, send.Return}}
	if inVain || run.End.Stopped != "" {
		f.Got = "sendmsg had returned, and the program did not end"
		f.Expected = "an end when send has returned, whatever was seen until then"
		f.Likely = "the watcher waits for a state that has always come so far. With defer=1 it does not"
	}
	ended(s, run, f)
	unslept := !k.slept(run, send, m).Seen()

	// It has returned before the first reply is there to be read.
	k.set(3, true)
	k.Hold()
	p = k.Start("read")
	p.Input.Close()
	_, told := p.WaitForKey("sent", func(string) bool { return true })
	k.Free()
	run = p.Wait()
	send, m = message(s, run)
	s.Expect(told, labtest.Failure{
		Got:      "sendmsg had returned, nlecho waited, and no line sent=... came",
		Expected: fmt.Sprintf("sent=%d before the first reply", send.Ret),
		Trace:    []trace.Event{send.Entry, send.Return, m.Waits.First()},
		Likely:   "send is called, or its end is told, only when the replies are there: none of the two should wait for the other",
	})
	k.allRead(s, run, send, m, 3)
	// Asked this way round: nlecho's worker may not have come to its end when the program has.
	if first := m.Replies.First(); trace.Before(first, send.Return) || trace.Before(m.Done, send.Return) {
		k.Fault("with defer=1 sendmsg returned after a reply: %s", strings.Join(run.Trace.Evidence(send.Entry, first, m.Done, send.Return), "; "))
	}
	if unslept {
		k.Answer("whose", 1, "with defer=0 sched_switch shows the sender in state D, with defer=1 it does not: both went through the same netlink_sendmsg")
	}
}

// free: the program tries to be out of sendmsg before nlecho has answered, and
// reports whether it is.
func (k *lab) free(s *labtest.Step, deferred bool) {
	k.set(2, deferred)
	k.Hold()
	p := k.Start("free")
	p.Input.Close()
	_, told := p.WaitForKey("free", func(string) bool { return true })
	k.Free()
	run := p.Wait()

	var messages []*trace.Message
	for _, m := range run.Trace.Messages() {
		if m.Input.Seen() && m.Call.Seen() {
			messages = append(messages, m)
		}
	}
	s.Expect(len(messages) > 0, labtest.Failure{
		Got:      "nlecho got no message",
		Expected: "a greeting, whose sendmsg lasts while nlecho waits",
		Likely:   "whatever is tried, there must be a sendmsg first to be freed from",
	})
	m := messages[0]
	send := m.Call
	f := labtest.Failure{
		Got:      "nlecho waited, and no line free=... came",
		Expected: "free=true or free=false while nlecho waits: the check lets it go on only then",
		Trace:    []trace.Event{send.Entry, m.Waits.First(), send.Return},
		Likely:   "the answer is told only when sendmsg is over, and that is too late: somebody else has to look, and to tell",
	}
	if v, ok := run.Key("free"); ok {
		f.Got = fmt.Sprintf("free=%s only after nlecho had gone on", labtest.Short(v))
	}
	if deferred {
		f.Likely = "with defer=1 nobody is asleep in sendmsg: an answer that waits for that never comes"
	}
	s.Expect(told, f)

	answer := run.ToldAt("free", "")
	var means []string
	var tried []trace.Event
	for _, m := range messages {
		names, events := k.means(run.Trace, m.Call, answer)
		means, tried = append(means, names...), append(tried, events...)
	}
	if len(means) == 0 && !deferred {
		k.untried(s, run, send, answer)
	}
	// With defer=1 there is no need: sendmsg may be back before anything is tried.
	s.Expect(len(means) > 0 || deferred, labtest.Failure{
		Got:      "a sendmsg like any other: nothing in the trace could have freed it",
		Expected: "something that should bring sendmsg back early, and only then the line free=...",
		Trace:    []trace.Event{send.Entry, m.Waits.First(), answer},
		Likely:   "the time that you are willing to wait passes in your program. What can be asked of sendmsg, of its socket, of its thread?",
	})
	// With defer=1 nlecho's worker may not even have begun when the program has ended.
	want := fmt.Sprint(!trace.Before(m.Wakes.First(), send.Return))
	likely := "look at sendmsg, not at what was asked of it: has it returned?"
	if deferred {
		likely = "the check runs the program a second time, with defer=1, and the answer is not the same"
	}
	s.Reported(run, "free", want, labtest.Failure{
		Trace:  append(tried, send.Entry, m.Waits.First(), send.Return, m.Wakes.First(), m.Done),
		Likely: likely,
	})
	if deferred {
		return
	}
	if !trace.Before(m.Done, send.Return) {
		k.Fault("sendmsg returned before nlecho was done: %s", strings.Join(run.Trace.Evidence(send.Entry, m.Done, send.Return), "; "))
	}
	k.Note("%s; sendmsg returned after nlecho_done", strings.Join(means, ", "))
}

// untried fails the step where the answer came before a time limit of the socket had
// passed, or where that is one for reading.
func (k *lab) untried(s *labtest.Step, run *labtest.Run, send trace.Call, told trace.Event) {
	if l := limit(run.Trace, send, soSndTimeO, soSndTimeONew); l.set.Seen() {
		waited := time.Duration(told.Time - send.Entry.Time)
		f := labtest.Failure{
			Got:      fmt.Sprintf("SO_SNDTIMEO is %v, and the answer came %v after sendmsg had begun", l.time, waited.Round(time.Millisecond)),
			Expected: "an answer when the limit has passed, and is known to have worked or not",
			Trace:    []trace.Event{l.set.Entry, send.Entry, told},
			Likely:   "a limit that has not passed has not been tried. Set a shorter one, or look longer",
		}
		if l.time == 0 {
			f.Got = "SO_SNDTIMEO is 0"
			f.Likely = "0 means no limit: socket(7)"
		}
		s.Fail(f)
	}
	if l := limit(run.Trace, send, soRcvTimeO, soRcvTimeONew); l.set.Seen() {
		s.Fail(labtest.Failure{
			Got:      "SO_RCVTIMEO, and a sendmsg like any other",
			Expected: "something that should bring sendmsg back early, and only then the line free=...",
			Trace:    []trace.Event{l.set.Entry, send.Entry, told},
			Likely:   "SO_RCVTIMEO is a limit for reading, and nobody reads here. socket(7) has the other one beside it",
		})
	}
}

// timeLimit is a limit of a socket, and the call that set it last.
type timeLimit struct {
	set  trace.Call
	time time.Duration
}

// limit is the time limit that the socket of a send had, by the number of the option,
// of which there are two.
func limit(r *trace.Program, send trace.Call, options ...int64) (l timeLimit) {
	for _, c := range r.Calls("setsockopt").On(send.Socket).OK().Before(send.Entry) {
		if c.Entry.Int("level") != solSocket || !slices.Contains(options, c.Entry.Int("optname")) {
			continue
		}
		for _, e := range r.Events(trace.SetSockOpt).In(c) {
			l = timeLimit{c, time.Duration(e.Int("sec"))*time.Second + time.Duration(e.Int("usec"))*time.Microsecond}
		}
	}
	return l
}

// means finds what the program did, before it told its answer, that might have
// brought sendmsg back.
func (k *lab) means(r *trace.Program, send trace.Call, told trace.Event) (names []string, events []trace.Event) {
	add := func(e trace.Event, name string) {
		if trace.Before(e, told) && !slices.Contains(names, name) {
			names, events = append(names, name), append(events, e)
		}
	}
	for _, c := range r.Calls(trace.Unicast) {
		if trace.Inside(c.Entry, send) && c.Entry.Int("nonblock") != 0 && c.Entry.Uint("portid") == 0 {
			add(c.Entry, "MSG_DONTWAIT or O_NONBLOCK")
		}
	}
	if l := limit(r, send, soSndTimeO, soSndTimeONew); l.time != 0 && int64(l.time) <= told.Time-send.Entry.Time {
		add(l.set.Entry, "SO_SNDTIMEO")
	}
	if trace.During(send.Socket.Closed, send) {
		add(send.Socket.Closed, "close")
	}
	// Nobody sends SIGCHLD: a child has ended.
	for _, e := range r.Events(trace.Signal) {
		if sig := syscall.Signal(e.Int("sig")); sig != syscall.SIGCHLD && trace.During(e, send) {
			add(e, fmt.Sprintf("signal %d (%v)", int(sig), sig))
		}
	}
	// A process ends when its first thread does: others come and go.
	processes := []int{r.PID}
	for _, e := range r.Events(trace.NewTask) {
		if e.Uint("clone_flags")&cloneThread == 0 {
			processes = append(processes, int(e.Int("pid")))
		}
	}
	for _, e := range r.Events(trace.Exit) {
		if trace.During(e, send) && slices.Contains(processes, e.Task) {
			add(e, "exit")
		}
	}
	return names, events
}
