// SPDX-License-Identifier: MIT

// Package check judges programs for lab 9.
package check

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

// door is the function of the kernel at the end of the queue, in which senders sleep.
const door = trace.Attach

func TestBackpressure(t *testing.T) {
	// Who was interrupted, by which signal, and whether anybody has looked at a sender.
	events := []string{"signal:signal_generate"}
	for _, c := range looks[1:] { // the first is always traced
		events = append(events, "syscalls:sys_enter_"+c, "syscalls:sys_exit_"+c)
	}
	k := &lab{Check: labtest.New(t, labtest.Events(events...))}
	k.Step(1, k.fill)
	k.Step(2, k.sleep)
	k.Step(3, k.end)
	k.Step(4, func(s *labtest.Step) {
		k.kernel(s)
		k.shout(s)
	})
	k.Step(5, k.regain)
}

// looks are the system calls of which a program makes at least one when it looks into a
// file, as those of /proc: it opens and closes it, goes back to its beginning, or reads
// anywhere. (Reads are not traced: who reads the trace reads, too.)
var looks = []string{"close", "openat", "lseek", "pread64"}

// lab is the check under way, with the run that is judged.
type lab struct {
	*labtest.Check
	run *labtest.Run
}

// start runs one of the program's experiments to its end.
func (k *lab) start(args ...string) { k.run = k.Run(args...) }

// attempt is a message at the door of a queue: a call of netlink_attachskb, and the
// sendmsg that brought it there.
type attempt struct {
	trace.Call // its Socket is the receiver's
	send       trace.Call
}

// attempts are those of the program's own messages to programs' sockets, in order.
func (k *lab) attempts() []attempt {
	var as []attempt
	sends := k.run.Trace.Calls(trace.Sendmsg)
	for _, c := range k.run.Trace.Calls(door) {
		if c.Socket == nil || c.Entry.Uint("ssk") == 0 {
			continue
		}
		for _, send := range sends {
			// The kernel's answers come to the door inside a send, too, in its callback.
			if to, ok := send.To(); ok && to != 0 && trace.Inside(c.Entry, send) {
				as = append(as, attempt{c, send})
			}
		}
	}
	return as
}

// waited tells how long the sender was ready to wait: not at all, within a limit, or
// as long as it takes.
func (a attempt) waited() string {
	switch a.Entry.Int("timeo") {
	case 0:
		return "not at all"
	case math.MaxInt64:
		return "as long as it takes"
	}
	return "within a limit"
}

// full is the first attempt that was refused because the queue was full and the sender
// did not want to wait. (Whose time is up comes to the door once more like that.)
func (k *lab) full(as []attempt) attempt {
	for _, a := range as {
		if a.Err() == syscall.EAGAIN && a.waited() == "not at all" && len(k.run.Trace.Sleeps(a.send)) == 0 {
			return a
		}
	}
	return attempt{}
}

// queued is how many messages of programs had been let into the queue before e.
func queued(as []attempt, reader *trace.Socket, e trace.Event) int {
	n := 0
	for _, a := range as {
		if a.Socket == reader && a.Ret == 0 && trace.Before(a.Return, e) {
			n++
		}
	}
	return n
}

// sleeper is a send whose task slept at the door of a full queue.
type sleeper struct {
	trace.Call
	reader *trace.Socket
	last   attempt       // at the door, in which it slept
	sleeps []trace.Sleep // at the door
}

func (z *sleeper) began() trace.Event { return z.sleeps[0].Began }
func (z *sleeper) woken() trace.Event { return z.sleeps[len(z.sleeps)-1].Woken }

// over reports whether the send came back to the program. Those that the program's end
// interrupts, or a signal that begins them anew, do not.
func (z *sleeper) over() bool { return z.Returned() && !z.Interrupted() }

// sleepers are the sends that slept, in order.
func (k *lab) sleepers(as []attempt) []*sleeper {
	var zs []*sleeper
	for _, a := range as {
		var here []trace.Sleep
		for _, sleep := range k.run.Trace.Sleeps(a.send) {
			if trace.Inside(sleep.Began, a.Call) {
				here = append(here, sleep)
			}
		}
		if len(here) == 0 {
			continue
		}
		i := slices.IndexFunc(zs, func(z *sleeper) bool { return z.Entry.Seq == a.send.Entry.Seq })
		if i < 0 {
			zs = append(zs, &sleeper{a.send, a.Socket, a, here})
			continue
		}
		zs[i].last, zs[i].sleeps = a, append(zs[i].sleeps, here...)
	}
	return zs
}

// ended: the program ended by itself.
func (k *lab) ended(s *labtest.Step) {
	s.Expect(k.run.End.OK(), labtest.Failure{
		Got:      "all of it was seen, but the program did not end well",
		Expected: "exit code 0",
		Likely:   "its last words tell why",
	})
}

// unfilled fails the step: no queue of a program was ever seen full.
func (k *lab) unfilled(s *labtest.Step, as []attempt, expected string) {
	f := labtest.Failure{
		Got:      "no message was sent from one socket of the program to another",
		Expected: expected,
		Likely:   "the destination is the port ID of the other socket. On NETLINK_USERSOCK no module is needed",
	}
	refused := k.run.Trace.Calls(trace.Sendmsg).Failed().First()
	switch zs := k.sleepers(as); {
	case len(zs) > 0 && !zs[0].over():
		f.Got = fmt.Sprintf("after %d messages the sender sleeps, and nobody wakes it", queued(as, zs[0].reader, zs[0].began()))
		f.Likely = "whoever fills the queue must not be the one who waits for room in it. A send can be asked not to wait: look at its flags"
		f.Trace = []trace.Event{zs[0].Entry, zs[0].began()}
	case len(zs) > 0:
		f.Got = fmt.Sprintf("the sender slept at the full queue, and then its send said: %s", labtest.Verdict(zs[0].Call))
		f.Likely = "a send can be asked not to wait at all: look at its flags"
		f.Trace = []trace.Event{zs[0].Entry, zs[0].began(), zs[0].woken(), zs[0].Return}
	case len(as) > 0:
		last := as[len(as)-1]
		f.Got = fmt.Sprintf("%d messages were sent, and all of them fitted", len(as))
		f.Likely = "a queue of the usual size takes hundreds of small messages: send more, or make it smaller (SO_RCVBUF)"
		f.Trace = []trace.Event{last.send.Entry, last.Return, last.send.Return}
		if reads := k.run.Reads(last.Socket); len(reads) > 0 && trace.Before(reads[0].Return, last.Entry) {
			f.Likely = "somebody reads meanwhile. Let the queue fill up first"
			f.Trace = []trace.Event{reads[0].Return, last.send.Entry, last.Return}
		}
	case refused.Seen():
		to, _ := refused.To()
		f.Got = fmt.Sprintf("a message to port %d on protocol %d: %s", to, refused.Socket.Protocol, labtest.Verdict(refused))
		f.Trace = []trace.Event{refused.Entry, refused.Return}
	}
	s.Fail(f)
}

// fill: a sender that does not wait is refused, and the reader has all that fitted.
func (k *lab) fill(s *labtest.Step) {
	k.start("fill")
	as := k.attempts()
	full := k.full(as)
	if !full.Seen() {
		k.unfilled(s, as, "messages to a socket that nobody reads, until the kernel refuses one at once")
	}
	reader := full.Socket
	n := queued(as, reader, full.Entry)
	s.Reported(k.run, "full", labtest.Verdict(full.send), labtest.Failure{
		Expected: fmt.Sprintf("full=%s: so said the kernel to message %d", labtest.Verdict(full.send), n+1),
		Trace:    []trace.Event{full.send.Entry, full.Return, full.send.Return},
		Likely:   "full= is the name of the error, as errno(3) has it: unix.ErrnoName knows it",
	})
	s.Reported(k.run, "queued", fmt.Sprint(n), labtest.Failure{
		Expected: fmt.Sprintf("queued=%d: so many were let in before one was refused", n),
		Trace:    []trace.Event{as[0].Return, full.Return},
		Likely:   "the one that was refused is not in the queue",
	})
	calls := k.run.Trace.Calls(trace.Recvmsg).On(reader).After(full.send.Return)
	reads := k.run.Reads(reader).After(full.send.Return)
	f := labtest.Failure{
		Got:      fmt.Sprintf("%d of %d messages were read", len(reads), n),
		Expected: "all that fitted",
		Trace:    []trace.Event{full.send.Return, calls.First().Entry, calls.First().Return, calls.Last().Entry, calls.Last().Return},
		Likely:   "the reader takes out all that is there, after the sender was refused",
	}
	if last := calls.Last(); last.Seen() && (!last.Returned() || k.run.End.Stopped != "") {
		f.Got += ", and then one more was waited for"
		f.Likely = "a read can be asked not to wait, too"
	}
	s.Expect(len(reads) == n && k.run.End.Stopped == "", f)
	s.Reported(k.run, "read", fmt.Sprint(n), labtest.Failure{
		Expected: fmt.Sprintf("read=%d", n),
		Trace:    []trace.Event{reads.First().Return, reads.Last().Return},
		Likely:   "only a read that returns a message counts",
	})
	k.ended(s)
	if first := calls.First(); first.Err() == nil {
		k.Answer("told", 2, fmt.Sprintf("netlink_sendmsg said %s to the sender; the first recvmsg after that returned a message, and %d more did", labtest.Verdict(full.send), n-1))
	} else if first.Err() == syscall.ENOBUFS {
		k.Answer("told", 0, "the first recvmsg after that returned ENOBUFS")
	}
}

// sleep: a sender sleeps at the full queue, and a read wakes it.
func (k *lab) sleep(s *labtest.Step) {
	k.start("sleep")
	as := k.attempts()
	zs := k.sleepers(as)
	if len(zs) == 0 {
		k.sleepless(s, as)
	}
	z := zs[0]
	reads := k.run.Trace.Calls(trace.Recvmsg).On(z.reader).After(z.began())
	var waker trace.Call
	for _, c := range reads {
		if trace.Inside(z.woken(), c) {
			waker = c
		}
	}
	f := labtest.Failure{
		Got:      fmt.Sprintf("the sender sleeps, and nobody reads from %s", z.reader),
		Expected: "one message is read while the sender sleeps, and the sender goes on",
		Trace:    []trace.Event{z.Entry, z.began(), reads.First().Entry, reads.First().Return, z.woken(), z.Return},
		Likely:   "who could read, if the goroutine that sends is asleep? Or you look at another thread's files: is it the ID of the thread that sends?",
	}
	if z.over() {
		f.Got = fmt.Sprintf("the sender slept, and no read woke it: %s", labtest.Verdict(z.Call))
		f.Likely = "room in the queue is what it waits for, and a read makes room"
	}
	s.Expect(waker.Seen(), f)
	s.Expect(z.over() && z.Err() == nil, labtest.Failure{
		Got:      "a read woke the sender, and the program ended before its sendmsg had returned",
		Expected: "the sender's sendmsg returns: its message is in the queue",
		Trace:    []trace.Event{z.began(), waker.Return, z.woken(), z.Return},
		Likely:   "a program ends when main does. Who waits for the sender?",
	})
	k.looked(s, z)
	k.ended(s)
	sleep := z.sleeps[0]
	k.Answer("waits", map[string]int{"S": 2, "D": 3}[sleep.State],
		fmt.Sprintf("sched_switch shows task %d asleep in state %s inside netlink_attachskb, and sched_waking inside the reader's netlink_recvmsg", z.Task, sleep.State))
	k.Note("the sender slept in state %s until the reader's recvmsg woke it", sleep.State)
}

// looked: the program saw the right thread asleep.
func (k *lab) looked(s *labtest.Step, z *sleeper) {
	sleep := z.sleeps[0]
	s.Reported(k.run, "tid", fmt.Sprint(z.Task), labtest.Failure{
		Expected: fmt.Sprintf("tid=%d, the thread that was in sendmsg", z.Task),
		Trace:    []trace.Event{z.Entry, sleep.Began},
		Likely:   "a thread's ID is not the process's, only the thread itself can ask for it, and a goroutine changes threads unless it is locked to one",
	})
	s.Reported(k.run, "state", sleep.State, labtest.Failure{
		Expected: fmt.Sprintf("state=%s: so the kernel put task %d to sleep", sleep.State, z.Task),
		Trace:    []trace.Event{z.Entry, sleep.Began, z.Return},
		Likely:   "the state is the third field of /proc/self/task/TID/stat, behind the name in parentheses",
	})
	told := k.run.ToldAt("state", sleep.State)
	f := labtest.Failure{
		Expected: "state= of a sender that sleeps at the queue: looked up when it sleeps there, and then printed",
		Trace:    []trace.Event{told, z.Entry, sleep.Began},
		Likely:   "that thread slept elsewhere. A thread of Go's sleeps in state S whenever it has nothing to do; /proc/self/task/TID/syscall tells in which call. Look again until it is the send, and at the state only then",
	}
	before, since := k.looksAround(z, told)
	switch {
	case !trace.Before(sleep.Began, told):
		f.Got = fmt.Sprintf("a line state=%s before the sender slept in sendmsg", sleep.State)
	case since.Seen():
		return
	case before.Seen():
		f.Got = fmt.Sprintf("a line state=%s, but the last file before it was read before the sender slept in sendmsg", sleep.State)
		f.Trace = []trace.Event{before.Return, z.Entry, sleep.Began, told}
	default:
		f.Got = fmt.Sprintf("a line state=%s, and no file was looked into before", sleep.State)
		f.Likely = "a state that was not looked up is guessed, be it the right one. /proc/self/task/TID/stat has it, and /proc/self/task/TID/syscall tells in which call the thread sleeps"
		f.Trace = []trace.Event{z.Entry, sleep.Began, told}
	}
	s.Fail(f)
}

// looksAround returns the last time that another thread looked into a file before the
// sender slept, and the first time between that and the line that tells its state.
func (k *lab) looksAround(z *sleeper, told trace.Event) (before, since trace.Call) {
	const limit = 32 // bytes: Go's runtime reads the limits of its cgroup, a short line, now and then
	for _, c := range k.run.Trace.Calls(looks...).OK() {
		switch {
		case c.Task == z.Task || c.Socket != nil || !trace.Before(z.reader.Bound, c.Entry) || c.Name == "pread64" && c.Ret < limit:
		case trace.Before(c.Return, z.began()):
			before = c
		case trace.Before(c.Return, told) && !since.Seen():
			since = c
		}
	}
	return before, since
}

// sleepless fails the step: no send slept.
func (k *lab) sleepless(s *labtest.Step, as []attempt) {
	full := k.full(as)
	if !full.Seen() {
		k.unfilled(s, as, "a sender that sleeps, as the queue is full")
	}
	f := labtest.Failure{
		Got:      fmt.Sprintf("the queue of %s was full, and no sender slept", full.Socket),
		Expected: "one more message, from a sender that waits for room",
		Trace:    []trace.Event{full.send.Entry, full.Return, full.send.Return},
		Likely:   "a sendmsg with MSG_DONTWAIT, or on a non-blocking socket, never sleeps. (Packages that work with Go's poller make their sockets non-blocking.)",
	}
	for _, a := range as {
		if a.Socket != full.Socket || a.waited() == "not at all" || !trace.Before(full.Return, a.Entry) {
			continue
		}
		f.Trace = append(f.Trace, a.send.Entry, a.Return)
		if reads := k.run.Reads(full.Socket).Before(a.Entry).After(full.Return); len(reads) > 0 {
			f.Got = "the reader had read before the sender that waits came: there was room again"
			f.Likely = "nothing tells the reader that the sender sleeps, unless somebody looks. See /proc/self/task/TID"
			f.Trace = append(f.Trace, reads[0].Return)
		}
		break
	}
	s.Fail(f)
}

// end: a time limit ends the sleep of a sender, and then something else does.
func (k *lab) end(s *labtest.Step) {
	k.start("end")
	as := k.attempts()
	zs := k.sleepers(as)
	if len(zs) == 0 {
		k.sleepless(s, as)
	}
	k.limit(s, as, zs)
	k.other(s, as, zs)
	k.ended(s)
}

// limit judges the sender whose time was up.
func (k *lab) limit(s *labtest.Step, as []attempt, zs []*sleeper) {
	i := slices.IndexFunc(zs, func(z *sleeper) bool {
		return z.Err() == syscall.EAGAIN && z.last.waited() == "within a limit"
	})
	if i < 0 {
		z := zs[0]
		s.Fail(labtest.Failure{
			Got:      fmt.Sprintf("the sender slept, ready to wait %s: %s", z.last.waited(), labtest.Verdict(z.Call)),
			Expected: "a sender that sleeps until its time is up",
			Trace:    []trace.Event{z.Entry, z.began(), z.woken(), z.Return},
			Likely:   "the limit is an option of the sender's socket, and has to be set before the send: socket(7). A timer in your program ends no sleep in the kernel",
		})
	}
	z := zs[i]
	s.Reported(k.run, "limit", labtest.Verdict(z.Call), labtest.Failure{
		Expected: fmt.Sprintf("limit=%s", labtest.Verdict(z.Call)),
		Trace:    []trace.Event{z.Entry, z.began(), z.woken(), z.Return},
		Likely:   "limit= is what the send said when its time was up",
	})
}

// other judges the sender whose sleep ended without a read, and not by its limit.
func (k *lab) other(s *labtest.Step, as []attempt, zs []*sleeper) {
	var read, restarted *sleeper
	var anew trace.Call // the same send once more
	for _, z := range zs {
		switch reads := k.run.Reads(z.reader).After(z.began()); {
		case !z.Returned() || z.Err() == syscall.EAGAIN:
		case z.Interrupted():
			again := slices.IndexFunc(k.run.Trace.Calls(trace.Sendmsg).After(z.Return), func(c trace.Call) bool { return c.Task == z.Task })
			if again >= 0 {
				restarted, anew = z, k.run.Trace.Calls(trace.Sendmsg).After(z.Return)[again]
			} else if k.run.End.Stopped == "" {
				restarted, anew = z, trace.Call{}
			}
		case z.Err() == nil || trace.Before(reads.First().Return, z.Return):
			read = z
		default:
			s.Reported(k.run, "other", labtest.Verdict(z.Call), labtest.Failure{
				Expected: "other=" + labtest.Verdict(z.Call),
				Trace:    []trace.Event{z.Entry, z.began(), z.woken(), z.Return},
				Likely:   "other= is what the send said",
			})
			k.Note("a sleep that ended without a read and before any limit: %s", labtest.Verdict(z.Call))
			return
		}
	}
	f := labtest.Failure{
		Got:      "but for the time limit nothing ended a sender's sleep",
		Expected: "another sender that sleeps, and whose sendmsg fails without a read",
		Likely:   "whom does the sender wait for, and what can become of them?",
	}
	last := zs[len(zs)-1]
	for _, z := range zs[max(0, len(zs)-2):] { // two senders, as a rule
		f.Trace = append(f.Trace, z.Entry, z.began(), z.woken(), z.Return)
	}
	switch {
	case read != nil:
		f.Got = "a read ended the sleep: there was room"
		f.Likely = "a read is known already. What else can become of a reader?"
		f.Trace = []trace.Event{read.began(), read.woken(), read.Return}
	case restarted != nil:
		name, sent := "a signal", k.signal(restarted)
		if sent.Seen() {
			name = unix.SignalName(syscall.Signal(sent.Int("sig")))
		}
		f.Got = name + " interrupted sendmsg, and it began anew by itself"
		f.Likely = "ERESTARTSYS never comes to a program: the handler runs, and then the kernel begins the same call once more, if the handler was installed with SA_RESTART. Go's runtime installs every one so. Where the wait has a time limit the kernel does not begin it anew, and the send says EINTR"
		f.Trace = []trace.Event{restarted.began(), restarted.woken(), restarted.Return, anew.Entry}
	case !last.over():
		f.Got = "the sender that has no time limit sleeps and sleeps"
		f.Trace = []trace.Event{last.Entry, last.began()}
		if closed := last.Socket.Closed; trace.Before(last.began(), closed) {
			f.Got += ", and closing its own descriptor has not changed that"
			f.Trace = append(f.Trace, closed)
		}
	default:
		for _, c := range k.run.Trace.Calls(trace.Sendmsg).After(last.Return).Failed(syscall.ECONNREFUSED) {
			f.Got = "the reader was gone before the sender slept: " + labtest.Verdict(c)
			f.Likely = "the sender has to be asleep when it happens. Who looks?"
			f.Trace = []trace.Event{c.Entry, c.Return}
		}
	}
	s.Fail(f)
}

// signal returns the signal that ended a send's sleep. The kernel tells of it when it has
// woken the task, which may have left the send by then.
func (k *lab) signal(z *sleeper) trace.Event {
	for _, e := range k.run.Trace.Events(trace.Signal) {
		if pid := int(e.Int("pid")); trace.Before(z.began(), e) && (pid == z.Task || pid == z.PID()) {
			return e
		}
	}
	return trace.Event{}
}

// answers are nlecho's to the messages of the program, and what became of them.
type answers struct {
	messages []*trace.Message // those that it took
	replies  trace.Events     // all of them, in order
}

// answers returns what nlecho answered, and fails the step if it was asked nothing.
func (k *lab) answers(s *labtest.Step) (answers, *trace.Socket) {
	var a answers
	for _, m := range k.run.Trace.Messages() {
		if m.Input.Seen() && m.Call.Socket != nil {
			a.messages = append(a.messages, m)
			a.replies = append(a.replies, m.Replies...)
		}
	}
	if len(a.messages) == 0 {
		s.ToKernel(k.run) // has words for the usual mistakes
		s.Fail(labtest.Failure{
			Got:      "nlecho took no message",
			Expected: "a message whose header describes it",
			Likely:   "nlmsg_len is the first field of the header, and counts the header too",
		})
	}
	return a, a.messages[0].Call.Socket
}

// dropped are the replies that did not get into the queue.
func dropped(replies trace.Events) trace.Events { return replies.Where("ret", -int64(syscall.EAGAIN)) }

// in is how many of the replies, up to e, got into the queue.
func in(replies trace.Events) int { return len(replies) - len(dropped(replies)) }

// kernel: nlecho sends more than the queue holds, three times.
func (k *lab) kernel(s *labtest.Step) {
	replies := 30 + rand.IntN(30)
	k.Param("nlecho", "replies", strconv.Itoa(replies))
	k.start("kernel")
	a, reader := k.answers(s)
	first := a.messages[0]
	lost := len(dropped(first.Replies))
	calls := k.run.Trace.Calls(trace.Recvmsg).On(reader).After(first.Done)
	f := labtest.Failure{
		Got:      fmt.Sprintf("the kernel sent %d replies, and all of them fitted", len(first.Replies)),
		Expected: "more replies than the queue holds",
		Trace:    []trace.Event{first.Replies.First(), first.Replies.Last(), first.Done},
		Likely:   "a queue of the usual size holds 90 of them or more. Make it smaller before you greet: SO_RCVBUF, socket(7)",
	}
	if early := k.run.Trace.Calls(trace.Recvmsg).On(reader).First(); trace.Before(early.Entry, first.Done) {
		f.Likely = "somebody reads while the kernel sends"
		f.Trace = []trace.Event{early.Entry, first.Done}
	}
	s.Expect(lost > 0, f)
	s.Expect(in(first.Replies) > 1, labtest.Failure{
		Got:      fmt.Sprintf("%d of %d replies fitted", in(first.Replies), replies),
		Expected: "a queue with room for some: one is to be read, and others are to be there still",
		Trace:    []trace.Event{first.Replies.First(), dropped(first.Replies).First()},
		Likely:   "SO_RCVBUF is in bytes, and a reply takes up more than twice its length",
	})
	k.count(s, "drops", lost, dropped(first.Replies).First(), first.Done)

	s.Expect(calls.First().Seen(), labtest.Failure{
		Got:      "nothing was read",
		Expected: "reads, when the kernel has sent its replies",
		Likely:   "what recvmsg says first is the question",
	})
	says := labtest.Verdict(calls.First())
	f = labtest.Failure{
		Trace:  []trace.Event{dropped(first.Replies).First(), first.Done, calls.First().Return},
		Likely: "first= is what the first recvmsg after the loss said",
	}
	s.Expect(says == "ENOBUFS", labtest.Failure{
		Got:      "the first recvmsg said " + says,
		Expected: "ENOBUFS: the kernel had dropped replies",
		Trace:    f.Trace,
		Likely:   "who sets NETLINK_NO_ENOBUFS is not told, and the drops are the same",
	})
	s.Reported(k.run, "first", says, f)
	k.room(s, a, reader)
	k.Note("%d replies were queued, and the others dropped; the reader was told by %s, before the first of them", in(first.Replies), says)
}

// count compares a number of dropped replies with the program's.
func (k *lab) count(s *labtest.Step, key string, want int, evidence ...trace.Event) {
	s.Reported(k.run, key, fmt.Sprint(want), labtest.Failure{
		Expected: fmt.Sprintf("%s=%d: for so many replies up to now netlink_unicast returned EAGAIN to nlecho", key, want),
		Trace:    evidence,
		Likely:   "the kernel counts the drops of each socket, and shows them in /proc/net/netlink: the row with your protocol (Eth) and your port ID (Pid), the column Drops",
	})
}

// room: with some messages still in the queue the kernel drops what it sends; with
// none it does not.
func (k *lab) room(s *labtest.Step, a answers, reader *trace.Socket) {
	reads := k.run.Reads(reader)
	first := a.messages[0]
	s.Expect(len(a.messages) == 3, labtest.Failure{
		Got:      fmt.Sprintf("%d greetings", len(a.messages)),
		Expected: "three: one to overflow the queue, one when a single reply has been read, one when the queue is empty",
		Trace:    []trace.Event{first.Input, first.Done, reads.First().Return, a.messages[len(a.messages)-1].Input},
		Likely:   "each greeting is one message to nlecho, and it answers each",
	})
	second, third := a.messages[1], a.messages[2]
	before := len(reads.Before(second.Input))
	s.Expect(before == 1, labtest.Failure{
		Got:      fmt.Sprintf("%d of %d replies had been read when the second greeting came", before, in(first.Replies)),
		Expected: "1: there is room for a message, and the others are still there",
		Trace:    []trace.Event{reads.First().Return, second.Input},
		Likely:   "the recvmsg that says ENOBUFS takes no message out of the queue",
	})
	queued, lost := in(first.Replies)+in(second.Replies), len(dropped(first.Replies))+len(dropped(second.Replies))
	k.count(s, "room", lost, reads.First().Return, second.Replies.First(), second.Replies.Last())
	calls := k.run.Trace.Calls(trace.Recvmsg).On(reader).After(second.Done)
	read := len(reads.Before(third.Input))
	s.Expect(read == queued, labtest.Failure{
		Got:      fmt.Sprintf("%d of %d replies had been read when the third greeting came", read, queued),
		Expected: "an empty queue",
		Trace:    []trace.Event{reads.Last().Return, third.Input},
		Likely:   "the kernel says when the queue is empty, to a recvmsg that does not wait",
	})
	s.Reported(k.run, "read", fmt.Sprint(read), labtest.Failure{
		Expected: fmt.Sprintf("read=%d, the first one included", read),
		Trace:    []trace.Event{reads.First().Return, calls.First().Return, calls.Before(third.Input).Last().Return},
		Likely:   "only a recvmsg that returns a message counts, and the one before the second greeting counts too",
	})
	k.count(s, "empty", lost+len(dropped(third.Replies)), third.Replies.First(), dropped(third.Replies).First(), third.Done)
	k.ended(s)
	if in(second.Replies) == 0 && in(third.Replies) > 0 {
		k.Answer("room", 1, fmt.Sprintf("one message was read, and of %d replies after that 0 were queued; when all had been read, %d were", len(second.Replies), in(third.Replies)))
	} else if in(second.Replies) > 0 {
		k.Answer("room", 0, fmt.Sprintf("one message was read, and of the replies after that %d were queued", in(second.Replies)))
	}
}

// shout: a message to a group finds the queue of a member full, and nobody waits.
func (k *lab) shout(s *labtest.Step) {
	k.start("shout")
	as := k.attempts()
	full := k.full(as)
	if !full.Seen() {
		k.unfilled(s, as, "a member of the group, with a full queue")
	}
	reader := full.Socket
	var call trace.Call
	for _, c := range k.run.Trace.Calls(trace.Sendmsg).After(full.Return) {
		if k.group(c) != 0 {
			call = c
			break
		}
	}
	reads := k.run.Trace.Calls(trace.Recvmsg).On(reader)
	f := labtest.Failure{
		Got:      "nothing was sent to a group",
		Expected: fmt.Sprintf("a message to a group that %s is in, while its queue is full", reader),
		Trace:    []trace.Event{full.Return, reads.First().Return},
		Likely:   "the group is in the address to send to, nl_groups: a mask, as in bind",
	}
	s.Expect(call.Seen(), f)
	first := reads.After(call.Entry).First()
	f.Trace = []trace.Event{full.Return, call.Entry, call.Return, first.Return}
	if early := reads.Before(call.Entry).After(full.Return); len(early) > 0 {
		f.Got = "there was room again: something had been read before the message to the group"
		f.Likely = "fill the queue, and then send to the group"
		s.Fail(f)
	}
	if sleeps := k.run.Trace.Sleeps(call); len(sleeps) > 0 {
		f.Got = fmt.Sprintf("the sender slept: its message to the group was also one to %s", reader)
		f.Likely = "the address has two fields: nl_groups, the group, and nl_pid, a port ID that gets a copy of its own. Leave that 0"
		f.Trace = append(f.Trace, sleeps[0].Began)
		s.Fail(f)
	}
	s.Expect(first.Seen(), labtest.Failure{
		Got:      "nothing was read",
		Expected: "the member reads, after the message to the group",
		Trace:    f.Trace,
		Likely:   "what the member's first recvmsg says is the question",
	})
	s.Expect(first.Err() == syscall.ENOBUFS, labtest.Failure{
		Got:      "the member's first recvmsg says " + labtest.Verdict(first),
		Expected: "ENOBUFS: the message to the group was dropped",
		Trace:    f.Trace,
		Likely:   "was it a member, and of this group? Group number N is bit N-1 of the mask, and a socket joins by bind",
	})
	s.Reported(k.run, "shout", labtest.Verdict(first), labtest.Failure{
		Expected: "shout=" + labtest.Verdict(first),
		Trace:    f.Trace,
		Likely:   "shout= is what the member's first recvmsg said",
	})
	n := queued(as, reader, call.Entry)
	got := len(k.run.Reads(reader))
	s.Expect(got == n, labtest.Failure{
		Got:      fmt.Sprintf("%d of %d messages were read", got, n),
		Expected: "all that were in the queue",
		Trace:    []trace.Event{first.Return, reads.Last().Entry, reads.Last().Return},
		Likely:   "ENOBUFS does not mean that the queue is empty",
	})
	s.Reported(k.run, "read", fmt.Sprint(n), labtest.Failure{
		Expected: fmt.Sprintf("read=%d: the queue as it was before", n),
		Trace:    []trace.Event{first.Return, reads.Last().Return},
		Likely:   "only a recvmsg that returns a message counts",
	})
	k.ended(s)
	k.Answer("shout", 2, fmt.Sprintf("no sched_switch inside the sender's netlink_sendmsg, which said %s; the member's recvmsg said ENOBUFS", labtest.Verdict(call)))
}

// group is the mask of groups that a message was sent to: that of its own address, or
// of the one that the socket was connected to.
func (k *lab) group(send trace.Call) uint64 {
	if send.Entry.Int("namelen") >= unix.SizeofSockaddrNetlink {
		return send.Entry.Uint("to_groups")
	}
	return k.run.Trace.Calls(trace.Connect).On(send.Socket).OK().Before(send.Entry).Last().Entry.Uint("groups")
}

// regain: answers were lost, and in the end every question has its answer.
func (k *lab) regain(s *labtest.Step) {
	questions := 30 + rand.IntN(30)
	k.Param("nlecho", "replies", "1")
	k.start("recover", strconv.Itoa(questions))
	a, reader := k.answers(s)
	lost := dropped(a.replies)
	reads := k.run.Reads(reader)

	answered := map[uint64]bool{}
	asked := map[uint64]bool{}
	queued := map[*trace.Socket]int{}
	for _, m := range a.messages {
		seq, from := m.Input.Uint("seq"), m.Call.Socket
		asked[seq] = true
		for range in(m.Replies) {
			// A queue is a queue: the n-th reply that got in is the n-th that was read.
			if queued[from]++; queued[from] <= len(k.run.Reads(from)) && seq >= 1 && seq <= uint64(questions) {
				answered[seq] = true
			}
		}
	}
	var missing []string
	for seq := uint64(1); seq <= uint64(questions); seq++ {
		if !asked[seq] {
			s.Fail(labtest.Failure{
				Got:      fmt.Sprintf("question %d of %d was never asked", seq, questions),
				Expected: fmt.Sprintf("the questions 1 to %d, by their nlmsg_seq", questions),
				Trace:    []trace.Event{a.messages[0].Input, a.messages[len(a.messages)-1].Input},
				Likely:   "how many there are, the program's second argument says; nlmsg_seq is the field at byte 8 of the header",
			})
		}
		if !answered[seq] {
			missing = append(missing, fmt.Sprint(seq))
		}
	}
	s.Expect(len(lost) > 0, labtest.Failure{
		Got:      fmt.Sprintf("%d questions, and all answers fitted into the queue: nothing was lost", questions),
		Expected: "answers that are lost, and questions that are answered all the same",
		Trace:    []trace.Event{a.messages[0].Input, reads.First().Return, a.replies.Last()},
		Likely:   "all questions are to be asked before the first answer is read, and the queue must be too small for the answers",
	})
	k.unanswered(s, a, reader, questions, missing)
	s.Reported(k.run, "lost", fmt.Sprint(len(lost)), labtest.Failure{
		Expected: fmt.Sprintf("lost=%d: so many answers were dropped, all in all", len(lost)),
		Trace:    []trace.Event{lost.First(), lost.Last()},
		Likely:   "what is asked again can be lost again: the kernel's own count has all of it",
	})
	s.Reported(k.run, "answered", fmt.Sprint(len(answered)), labtest.Failure{
		Expected: fmt.Sprintf("answered=%d: different questions that an answer was read for", len(answered)),
		Trace:    []trace.Event{reads.First().Return, reads.Last().Return},
		Likely:   "two answers to one question count once",
	})
	k.ended(s)
	k.Note("every question has an answer, and answers were dropped on the way")
}

// unanswered fails the step if answers are missing, with words for why.
func (k *lab) unanswered(s *labtest.Step, a answers, reader *trace.Socket, questions int, missing []string) {
	if len(missing) == 0 {
		return
	}
	calls := k.run.Trace.Calls(trace.Recvmsg).On(reader)
	told := calls.Failed(syscall.ENOBUFS).First()
	lost := dropped(a.replies)
	f := labtest.Failure{
		Got:      fmt.Sprintf("%d of %d questions have no answer that was read, number %s for one", len(missing), questions, missing[0]),
		Expected: "an answer to every question",
		Trace:    []trace.Event{lost.First(), lost.First(), told.Return, calls.Last().Entry, calls.Last().Return},
		Likely:   "the reader read what was there, and took that for all. What says that something is missing, and what?",
	}
	if last := calls.Last(); !last.Returned() || k.run.End.Stopped != "" {
		f.Likely = "the reader waits for answers that were dropped, and those never come by themselves"
	}
	for _, m := range a.messages { // the last that asked this
		if fmt.Sprint(m.Input.Uint("seq")) == missing[0] {
			f.Trace[0], f.Trace[1] = m.Input, m.Replies.First()
		}
	}
	again := slices.IndexFunc(a.messages, func(m *trace.Message) bool { return trace.Before(told.Return, m.Input) })
	switch {
	case !told.Seen() && k.run.End.Stopped == "":
		f.Likely = "nobody was told of a loss: no recvmsg said ENOBUFS. Without that, what was read has to be compared with what was asked"
	case again >= 0 && len(dropped(a.messages[again].Replies)) > 0:
		m := a.messages[again]
		f.Got += fmt.Sprintf("; question %d was asked again, and its answer was dropped as well", m.Input.Uint("seq"))
		f.Trace = []trace.Event{told.Return, m.Input, m.Replies.First(), calls.After(m.Done).First().Entry, calls.Last().Return}
		f.Likely = "after ENOBUFS the queue is still full of answers, and until it is empty the kernel drops everything, without another ENOBUFS. See step 4, room="
	case told.Seen() && !k.run.Reads(reader).After(told.Return).First().Seen():
		f.Likely = "ENOBUFS is no end. It tells that something was dropped, and what had room is still there, behind it"
	case again >= 0 && k.run.End.Stopped == "":
		f.Likely = "asking again loses answers again, if it is as much as the first time"
	}
	s.Fail(f)
}
