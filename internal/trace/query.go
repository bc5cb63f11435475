// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"slices"
	"syscall"
	"time"
)

// Before reports whether a happened before b. It is false when either did not happen.
func Before(a, b Event) bool {
	if !a.Seen() || !b.Seen() {
		return false
	}
	return a.Time < b.Time || a.Time == b.Time && a.Seq < b.Seq
}

// During reports whether e happened while the call lasted, in whichever task. A call that has not returned lasts on.
func During(e Event, c Call) bool {
	return Before(c.Entry, e) && (!c.Returned() || Before(e, c.Return))
}

// Inside reports whether e happened in the call: while it lasted, and in the same task. So it says that the kernel's
// callback runs in the caller: Inside(message.Done, sendmsg).
func Inside(e Event, c Call) bool {
	return During(e, c) && e.Task == c.Task && !e.IRQ
}

// Events is a list of events in order. Its methods narrow it down and can be strung together:
//
//	run.Events(trace.EchoReply).In(sendmsg).Where("ret", 1040)
type Events []Event

// Named keeps the events with one of these names.
func (es Events) Named(names ...string) Events {
	return es.filter(func(e Event) bool { return slices.Contains(names, e.Name) })
}

// Where keeps the events that have the integer field with that value: a port ID, an error (as -errno), a count.
func (es Events) Where(field string, value int64) Events {
	return es.filter(func(e Event) bool { return e.Has(field) && e.Int(field) == value })
}

// In keeps the events inside the call, see [Inside].
func (es Events) In(c Call) Events {
	return es.filter(func(e Event) bool { return Inside(e, c) })
}

// After keeps the events after e; none, if e did not happen.
func (es Events) After(e Event) Events {
	return es.filter(func(x Event) bool { return Before(e, x) })
}

// Before keeps the events before e; none, if e did not happen.
func (es Events) Before(e Event) Events {
	return es.filter(func(x Event) bool { return Before(x, e) })
}

// First returns the first of them, or the zero Event.
func (es Events) First() Event {
	if len(es) == 0 {
		return Event{}
	}
	return es[0]
}

// Last returns the last of them, or the zero Event.
func (es Events) Last() Event {
	if len(es) == 0 {
		return Event{}
	}
	return es[len(es)-1]
}

func (es Events) filter(keep func(Event) bool) Events {
	var kept Events
	for _, e := range es {
		if keep(e) {
			kept = append(kept, e)
		}
	}
	return kept
}

// HasPort reports whether the socket had its port ID when e happened. Its end is known where [Release] is traced.
func (s *Socket) HasPort(e Event) bool {
	return s != nil && Before(s.Bound, e) && !Before(s.Released, e)
}

// SharesPorts reports whether a port ID of the one socket is taken for the other: they are of the same protocol, and in
// the same network namespace.
func (s *Socket) SharesPorts(with *Socket) bool {
	return s != nil && with != nil && s.Protocol == with.Protocol && s.Net == with.Net
}

// Calls is a list of calls in the order in which they were entered. Its methods narrow it down:
//
//	run.Calls(trace.Sendmsg).To(0).OK().First()
type Calls []Call

// On keeps the calls on that socket.
func (cs Calls) On(s *Socket) Calls {
	return cs.filter(func(c Call) bool { return c.Socket == s && s != nil })
}

// To keeps the calls that sent to that port, 0 being the kernel; see [Call.To].
func (cs Calls) To(port uint32) Calls {
	return cs.filter(func(c Call) bool { return c.toSet && c.to == port })
}

// By keeps the calls of the kernel's functions that one of these system calls led to: By("write").
func (cs Calls) By(syscalls ...string) Calls {
	return cs.filter(func(c Call) bool { return slices.Contains(syscalls, c.Syscall) })
}

// OK keeps the calls that returned without error.
func (cs Calls) OK() Calls {
	return cs.filter(func(c Call) bool { return c.Returned() && c.Ret >= 0 })
}

// Failed keeps the calls that returned one of these errors, or any error where none is named.
func (cs Calls) Failed(errnos ...syscall.Errno) Calls {
	return cs.filter(func(c Call) bool {
		err, failed := c.Err().(syscall.Errno)
		return failed && (len(errnos) == 0 || slices.Contains(errnos, err))
	})
}

// After keeps the calls that were entered after e; none, if e did not happen.
func (cs Calls) After(e Event) Calls {
	return cs.filter(func(c Call) bool { return Before(e, c.Entry) })
}

// Before keeps the calls that had returned before e; none, if e did not happen.
func (cs Calls) Before(e Event) Calls {
	return cs.filter(func(c Call) bool { return Before(c.Return, e) })
}

// First returns the first of them, or the zero Call.
func (cs Calls) First() Call {
	if len(cs) == 0 {
		return Call{}
	}
	return cs[0]
}

// Last returns the last of them, or the zero Call.
func (cs Calls) Last() Call {
	if len(cs) == 0 {
		return Call{}
	}
	return cs[len(cs)-1]
}

func (cs Calls) filter(keep func(Call) bool) Calls {
	var kept Calls
	for _, c := range cs {
		if keep(c) {
			kept = append(kept, c)
		}
	}
	return kept
}

// Program is one run of one program: the process that executed the file, all its threads, and all processes that it
// started. What the kernel did for it in other tasks (a deferred answer, a message to one of its ports) belongs to it;
// what strangers did does not.
type Program struct {
	PID  int   // of the process that executed the file
	Exec Event // the execution; the zero Event if it never came to that

	trace   *Trace
	root    *process
	members map[*process]bool
}

// Program returns the run of file by process pid: from the moment when pid executed it, so that what a helper did in
// the same process before is left out. file is a path; where the paths differ inside the program's own mount namespace,
// the last element decides. An empty file means all of the process; a pid of 0 means whoever executed the file first.
//
// It never returns nil: a program that was not run has [Program.Ran] false and no events.
func (t *Trace) Program(pid int, file string) *Program {
	p := &Program{PID: pid, trace: t, members: map[*process]bool{}}
	for i, e := range t.events {
		owner := t.infos[i].owner
		if owner == nil || pid != 0 && owner.pid != pid {
			continue
		}
		if file == "" {
			p.root = owner
			if e.Name == Exec {
				p.Exec = e
				break
			}
			continue
		}
		if e.Name == Exec && sameFile(e.Text("filename"), file) {
			p.root, p.Exec = owner, e
			break
		}
	}
	if p.root != nil {
		p.PID = p.root.pid
	}
	return p
}

// Ran reports whether the program was started.
func (p *Program) Ran() bool { return p.root != nil }

// Exit returns the event with which the program's process, its last thread, ended; the zero Event while it lives.
func (p *Program) Exit() Event {
	if p.root == nil {
		return Event{}
	}
	return p.root.exit
}

// from is the Seq from which on events of the root process are the program's.
func (p *Program) from() int { return p.Exec.Seq }

// has reports whether a process is the program's, or was started by it.
func (p *Program) has(q *process) bool {
	if q == nil || p.root == nil {
		return false
	}
	if q == p.root {
		return true
	}
	in, known := p.members[q]
	if !known {
		in = q.parent != nil && q.began > p.from() && p.has(q.parent)
		p.members[q] = in
	}
	return in
}

// includes reports whether event i of the trace belongs to the program.
func (p *Program) includes(i int) bool {
	e, in := &p.trace.events[i], &p.trace.infos[i]
	if p.root == nil || e.Seq < p.from() {
		return false
	}
	switch {
	case e.Name == Lost || e.Name == Missed:
		return true
	case in.message != nil:
		return p.has(in.message.owner)
	case !e.IRQ && p.has(in.owner):
		return true
	}
	switch e.Name {
	case Signal, Waking, Switch:
		return p.isAbout(e, in)
	case NotifySend, NotifyJoin, NotifyPart, NotifyLeave, ModuleLoad, ModuleFree, moduleDelete:
		return p.notified(*e)
	case Unicast, Unicast + ret:
		return in.call != nil && p.isFor(in.call)
	case Attach, Attach + ret:
		return in.call != nil && in.call.Socket != nil && p.has(in.call.Socket.owner)
	case Filter, Filter + ret:
		return in.socket != nil && p.has(in.socket.owner)
	}
	return false
}

// isAbout reports whether a signal, a waking or a switch is about one of the program's threads, or about its first one
// after that has ended.
func (p *Program) isAbout(e *Event, in *info) bool {
	for i, field := range about[e.Name] {
		if p.has(in.about[i]) || p.root.pid == int(e.Int(field)) {
			return true
		}
	}
	return false
}

// isFor reports whether a netlink_unicast of somebody else goes to a port of the program. A port number is only unique
// within a protocol, which the sending socket tells.
func (p *Program) isFor(c *Call) bool {
	if c.to == 0 {
		return false
	}
	protocol, sender := -1, c.Socket
	for up := c.parent; sender == nil && up != nil; up = up.parent {
		sender = up.Socket
	}
	switch {
	case sender != nil && sender.Protocol >= 0:
		protocol = sender.Protocol
	case p.trace.echo[c.Entry.Uint("ssk")]:
		protocol = echoProtocol
	case p.trace.news[c.Entry.Uint("ssk")]:
		protocol = notifyProtocol
	case c.parent != nil:
		return false // a stranger's call, on a socket that nothing is known of
	}
	for _, s := range p.trace.sockets {
		if s.Port == c.to && p.has(s.owner) && (protocol < 0 || s.Protocol == protocol) {
			return true
		}
	}
	return false
}

// echoProtocol is the Netlink protocol number of nlecho (kmod/nlecho).
const echoProtocol = 25

// Events returns the program's events with these names, or all of them.
func (p *Program) Events(names ...string) Events {
	var es Events
	for i := range p.trace.events {
		if (len(names) == 0 || slices.Contains(names, p.trace.events[i].Name)) && p.includes(i) {
			es = append(es, p.trace.events[i])
		}
	}
	return es
}

// Calls returns the program's own calls with these names, in the order in which they were entered: functions of the
// kernel by their name ([Sendmsg]), system calls by theirs ("sendto").
//
// A question about messages is best put to [Sendmsg] and [Recvmsg], through which every way of sending and receiving
// leads; ask for system calls only where the call itself is the question.
func (p *Program) Calls(names ...string) Calls {
	var cs Calls
	for _, c := range p.trace.calls {
		if c.Entry.Seq >= p.from() && p.has(c.owner) && slices.Contains(names, c.Name) {
			cs = append(cs, *c)
		}
	}
	return cs
}

// Arrivals returns the messages that came to the door of that socket's queue, in order, whoever sent them: calls of
// [Attach], where that is traced.
func (p *Program) Arrivals(at *Socket) Calls {
	var cs Calls
	for _, c := range p.trace.calls {
		if c.Name == Attach && at != nil && c.Socket == at {
			cs = append(cs, *c)
		}
	}
	return cs
}

// RefusedBy returns the call that a failed call has its error from: the innermost function of the kernel inside it, of
// those that are traced, that returned the same error, or the call itself. The zero Call, if c did not fail. Of a send,
// it can be [Sendmsg] itself, [Unicast], and [ScmSend] where that is traced.
func (p *Program) RefusedBy(c Call) Call {
	if by := p.trace.refusedBy(&c); by != nil {
		return *by
	}
	return Call{}
}

// Sockets returns the Netlink sockets that the program made, in order.
func (p *Program) Sockets() []*Socket {
	var ss []*Socket
	for _, s := range p.trace.sockets {
		if p.has(s.owner) && (s.owner != p.root || s.Created.Seq >= p.from()) {
			ss = append(ss, s)
		}
	}
	return ss
}

// Socket returns the program's first socket of that protocol with that port ID, or nil.
func (p *Program) Socket(protocol int, port uint32) *Socket {
	for _, s := range p.Sockets() {
		if s.Protocol == protocol && s.Port == port {
			return s
		}
	}
	return nil
}

// Messages returns the messages from this program that reached nlecho, in order.
func (p *Program) Messages() []*Message {
	var ms []*Message
	for _, m := range p.trace.messages {
		if !p.has(m.owner) || max(m.Input.Seq, m.Reject.Seq) < p.from() {
			continue
		}
		c := *m
		if c.call != nil {
			c.Call = *c.call
		}
		ms = append(ms, &c)
	}
	return ms
}

// Evidence describes events, one line each, in the order of their times, which are those of the timeline: what a failed
// step shows. Events that did not happen are left out.
func (p *Program) Evidence(events ...Event) []string {
	events = slices.DeleteFunc(slices.Clone(events), func(e Event) bool { return !e.Seen() })
	slices.SortStableFunc(events, byTime)
	events = slices.CompactFunc(events, func(a, b Event) bool { return a.Seq == b.Seq })
	var lines []string
	start := p.start()
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("%s ms  %s", ms(e.Time-start), p.trace.describe(e)))
	}
	return lines
}

// start is the time that the timeline counts from: the program's first step.
func (p *Program) start() int64 {
	if steps := p.Timeline(); len(steps) > 0 {
		return steps[0].Time
	}
	return p.Exec.Time
}

// ms prints a duration in milliseconds.
func ms(ns int64) string {
	return fmt.Sprintf("%9.3f", float64(ns)/float64(time.Millisecond))
}
