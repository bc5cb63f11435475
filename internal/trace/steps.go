// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Lane is one side of the timeline.
type Lane int

// The two lanes.
const (
	ProgramLane Lane = iota // what the program did, and what was returned to it
	KernelLane              // what the kernel did
)

// Arrow is where a step leads.
type Arrow int

// The arrows of a timeline.
const (
	NoArrow   Arrow = iota
	Into            // from the program into the kernel: a send begins, and the next steps run inside it
	Back            // from the kernel back to the program: that send returns
	Delivered       // from the kernel to one of the program's sockets, which queues the message
)

// Step is one line of a timeline.
type Step struct {
	Seq   int   // of the event that it shows
	Time  int64 // nanoseconds on CLOCK_MONOTONIC
	Lane  Lane
	Arrow Arrow
	// Depth says how many sends are under way that the step stands inside: 0 outside of any, 1 in the kernel's callback
	// inside a sendmsg, 2 and more where the callback sends to itself.
	Depth  int
	Text   string
	Failed bool // an error was returned, or something was lost
	Output bool // Text is a line that the program printed
}

// Timeline returns the steps of the program's run.
func (p *Program) Timeline() []Step {
	if p.root == nil {
		return nil
	}
	s := stepper{t: p.trace, p: p}
	for i := range p.trace.events {
		if p.includes(i) {
			s.add(i)
		}
	}
	s.flush()
	place(p, s.steps)
	sort.SliceStable(s.steps, func(i, j int) bool { return s.steps[i].Time < s.steps[j].Time })
	return s.steps
}

// place gives printed lines the time at which they were written: what reads the program's output is woken only later.
// The bytes of the lines and of the writes are counted for that. Where a line cannot be matched its own time stays.
func place(p *Program, steps []Step) {
	printed := map[int64]int64{} // bytes, by descriptor
	for _, s := range steps {
		if s.Output {
			e := p.trace.at(s.Seq)
			printed[e.Int("fd")] += int64(len(e.Text("text"))) + 1
		}
	}
	writes := map[int64][]written{1: p.written(1, printed[1]), 2: p.written(2, printed[2])}
	bytes := map[int64]int64{}
	for i := range steps {
		if !steps[i].Output {
			continue
		}
		e := p.trace.at(steps[i].Seq)
		fd := e.Int("fd")
		bytes[fd] += int64(len(e.Text("text"))) + 1
		w := writes[fd]
		at := sort.Search(len(w), func(i int) bool { return w[i].end >= bytes[fd] })
		if at < len(w) && w[at].time < steps[i].Time {
			steps[i].Time = w[at].time
		}
	}
}

// written is a write to a descriptor: when it began, and how many bytes had been written with it.
type written struct {
	end  int64
	time int64
}

// written returns the writes to descriptor fd, of which so many bytes were printed. Where a child writes into a pipe of
// the program, and it is not known that it does (see [DescriptorEvents]), there are too many of them: then only those of
// the program's first process count.
func (p *Program) written(fd, printed int64) []written {
	var all, own []written
	add := func(ws []written, c Call) []written {
		w := written{c.Ret, c.Entry.Time}
		if n := len(ws); n > 0 {
			w.end += ws[n-1].end
		}
		return append(ws, w)
	}
	for _, c := range p.Calls("write") {
		if p.Stream(c) != fd || c.Ret <= 0 {
			continue
		}
		all = add(all, c)
		if c.owner == p.root {
			own = add(own, c)
		}
	}
	if n := len(own); n > 0 && n < len(all) && all[len(all)-1].end > printed && own[n-1].end <= printed {
		return own
	}
	return all
}

// Stream returns 1 or 2 where a write goes to the standard output or the standard error of the program, whichever
// descriptor and process it is made with, and 0 where it goes elsewhere. It needs [DescriptorEvents].
func (p *Program) Stream(c Call) int64 {
	for _, std := range []int{1, 2} {
		if f := p.root.std[std]; f != 0 && f == c.file || f == 0 && c.file == 0 && int(int32(c.Entry.Int("fd"))) == std {
			return int64(std)
		}
	}
	return 0
}

// at returns the event with this Seq.
func (t *Trace) at(seq int) Event {
	if i := t.index(seq); i >= 0 {
		return t.events[i]
	}
	return Event{}
}

// index finds the event with this Seq; -1 if there is none.
func (t *Trace) index(seq int) int {
	if i := seq - 1; i >= 0 && i < len(t.events) && t.events[i].Seq == seq {
		return i // an unbroken stream
	}
	for i := range t.events {
		if t.events[i].Seq == seq {
			return i
		}
	}
	return -1
}

// stepper makes steps from the events of one program, one event after another.
//
// A call that returns before anything else happens is one line; one with something in it is two. So the line of a call
// that was just entered is held back until the next event decides.
type stepper struct {
	t      *Trace
	p      *Program
	steps  []Step
	held   *Call
	depth  int    // of the held line
	dying  bool   // a Go program prints its traceback
	home   uint64 // the network namespace of the first socket; 0 before that
	freed  Event  // the release of a socket inside a close whose line is still to come
	chosen Event  // the choice of a port ID inside a connect, likewise
	woken  Event  // the waking of a sender inside a recvmsg, likewise
	spread bool   // the lines of the members that have it stand before that of nlecho's shout
	drops  bool   // the kernel's own message, whose line is still to come, was dropped by the receiver's filter
	option Event  // the joining or leaving of a group, likewise
}

// add takes in event i of the trace.
func (s *stepper) add(i int) {
	e, in := s.t.events[i], s.t.infos[i]
	c := in.call
	switch e.Name {
	case Sendmsg, Recvmsg, Bind:
		if s.p.has(in.owner) {
			s.flush()
			s.held, s.depth = c, s.sends(c.parent)
		}
	case Sendmsg + ret, Recvmsg + ret, Bind + ret:
		if c == nil || !s.p.has(in.owner) {
			return
		}
		whole := s.held == c
		if whole {
			s.held = nil
			s.put(c.Entry, ProgramLane, NoArrow, s.sends(c.parent), fmt.Sprintf("%s%s: %s", s.begin(c), size(c), s.outcome(c)), c.Err() != nil)
			if s.woken.Seen() {
				s.wake(s.woken)
				s.woken = Event{}
			}
			return
		}
		arrow := NoArrow
		if c.Name == Sendmsg {
			arrow = Back
		}
		s.put(e, ProgramLane, arrow, s.sends(c.parent), fmt.Sprintf("%s returns %s", callName(c), s.outcome(c)), c.Err() != nil)
	case "sys_exit_socket":
		if c != nil && (c.Socket != nil || c.Ret < 0 && c.Entry.Int("family") == unix.AF_NETLINK) {
			protocol := c.Entry.Int("protocol")
			if c.Ret < 0 {
				s.put(c.Entry, ProgramLane, NoArrow, 0, fmt.Sprintf("socket protocol %d: %s", protocol, errnoName(c.Ret)), true)
			} else {
				text := fmt.Sprintf("socket protocol %d: fd %d", protocol, c.Ret)
				if s.home == 0 {
					s.home = c.Socket.Net
				} else if c.Socket.Net != s.home {
					text += ", in another network namespace"
				}
				s.put(c.Entry, ProgramLane, NoArrow, 0, text, false)
			}
		}
	case "sys_exit_unshare", "sys_exit_setns":
		if c != nil && c.Ret == 0 {
			switch kind := c.Entry.Int("unshare_flags") | c.Entry.Int("nstype"); {
			case kind&unix.CLONE_NEWNET == 0:
			case c.Name == "unshare":
				s.put(c.Entry, ProgramLane, NoArrow, 0, fmt.Sprintf("thread %d enters a new network namespace", c.Task), false)
			default:
				s.put(c.Entry, ProgramLane, NoArrow, 0, fmt.Sprintf("thread %d goes to another network namespace", c.Task), false)
			}
		}
	case "sys_exit_dup", "sys_exit_dup2", "sys_exit_dup3", "sys_exit_fcntl":
		if c != nil && c.Socket != nil && c.copies() && c.Ret >= 0 {
			name := c.Name
			if name == "fcntl" {
				name = "fcntl F_DUPFD"
			}
			s.put(c.Entry, ProgramLane, NoArrow, 0, fmt.Sprintf("%s %s: fd %d", name, c.Socket.at(c.Entry), c.Ret), false)
		}
	case Release:
		// As a rule the close of a socket is its release, and its line says so. It is told where a close came before that
		// was none.
		if x := in.socket; x != nil && x.Port != 0 && x.outlived {
			if c != nil && During(e, *c) {
				s.freed = e // newer kernels release inside close(2), older ones on the way out
				return
			}
			s.free(e, x)
		}
	case "sys_exit_connect", "sys_exit_getsockname", "sys_exit_setsockopt", "sys_exit_close":
		if c != nil && c.Socket != nil {
			text := fmt.Sprintf("%s %s", c.Name, s.name(c.Socket, c.Entry))
			switch {
			case c.Name == "connect" && c.toSet:
				text += " → " + portName(c.to)
			case c.Name == "setsockopt":
				text += ", " + optionName(c.Entry.Int("level"), c.Entry.Int("optname"))
				if s.option.Seen() && Inside(s.option, *c) {
					text += fmt.Sprintf(" %d", s.option.Int("value"))
				}
			case c.Name == "close" && c.shared && c.Socket.Port != 0:
				text = fmt.Sprintf("close fd %d of port %s: still in use", c.Entry.Int("fd"), portNumber(c.Socket.Port))
			}
			if c.Ret < 0 {
				text += ": " + errnoName(c.Ret)
			}
			s.put(c.Entry, ProgramLane, NoArrow, 0, text, c.Ret < 0)
			if s.chosen.Seen() && Inside(s.chosen, *c) {
				s.put(s.chosen, KernelLane, NoArrow, 0, fmt.Sprintf("chooses port %s (autobind)", portNumber(c.Socket.Port)), false)
				s.chosen = Event{}
			}
			if s.freed.Seen() && Inside(s.freed, *c) {
				s.free(s.freed, c.Socket)
				s.freed = Event{}
			}
		}
	case Connect:
		if c != nil && c.parent != nil && c.toSet {
			c.parent.send(c.to)
		}
	case Insert + ret:
		if c != nil && c.Socket != nil && c.Ret == 0 && c.Socket.Auto && (c.parent == nil || c.parent.Name != Bind) {
			if c.Syscall == "connect" {
				s.chosen = e // connect's own line comes at its end
				return
			}
			s.put(e, KernelLane, NoArrow, s.sends(c.parent), fmt.Sprintf("chooses port %s (autobind)", portNumber(c.Socket.Port)), false)
		}
	case Unicast:
		s.drops = false
		s.unicast(e, in)
	case Filter + ret:
		if c != nil && c.Ret != 0 && c.Socket != nil {
			s.drops = true
			s.put(e, KernelLane, NoArrow, s.sends(c.parent), fmt.Sprintf("%s's filter drops it", c.Socket.at(e)), true)
		}
	case SetOption:
		if o := e.Int("optname"); o == unix.NETLINK_ADD_MEMBERSHIP || o == unix.NETLINK_DROP_MEMBERSHIP {
			s.option = e
		}
	case Readable:
		switch c := in.parent; {
		case in.socket == nil:
		case c.Name == Broadcast:
			text := fmt.Sprintf("group %d → %s", c.Entry.Uint("group"), in.socket)
			if s.home != 0 && in.socket.Net != s.home { // where the same port may be another socket's
				text += ", in another network namespace"
			}
			s.spread = true
			s.put(e, KernelLane, Delivered, s.sends(c), text, false)
		case c.parent.shout() != 0:
			s.put(e, KernelLane, Delivered, s.sends(c), fmt.Sprintf("the copy → %s", in.socket), false)
		}
	case Broadcast + ret:
		// Outside of a send it is the kernel's own news, of a network namespace that is made, say.
		if c != nil && c.Err() == unix.ESRCH && s.sends(c) > 0 {
			var members []string
			for _, x := range s.members(c) {
				members = append(members, x.String())
			}
			to := "nobody"
			if len(members) > 0 { // no room, or a filter: netlink_broadcast does not say which
				to = strings.Join(members, ", ") + ": dropped"
			}
			s.put(e, KernelLane, NoArrow, s.sends(c), fmt.Sprintf("group %d → %s", c.Entry.Uint("group"), to), len(members) > 0)
		}
	case EchoInput, EchoReject, EchoWait, EchoWake, EchoReply, EchoDone:
		s.echo(e, in)
	case NotifySend, NotifyJoin, NotifyRequest, NotifyLeave, ModuleLoad, ModuleFree, moduleDelete:
		s.notify(e, in)
	case Signal:
		s.put(e, KernelLane, NoArrow, 0, fmt.Sprintf("signal %s for task %d", signalName(e.Int("sig")), e.Int("pid")), false)
	case Attach + ret:
		// A program's own send is told of by its sleep. Whether a stranger has waited, the return says.
		if c != nil && c.Ret == 1 && c.Socket != nil && !s.p.has(in.owner) {
			s.put(e, KernelLane, NoArrow, 0, fmt.Sprintf("%s full: waited", c.Socket), false)
		}
	case Switch:
		// Sleeping is seen where a task leaves the processor inside a send.
		p, state := in.parent, sleepState(e)
		if state == "" || p == nil || s.sends(p) == 0 || !s.p.has(in.owner) {
			return
		}
		text := "the task sleeps in state " + state
		if p.Name == Attach && p.Socket != nil {
			text = fmt.Sprintf("%s is full: sleeps in state %s", p.Socket, state)
		}
		s.put(e, KernelLane, NoArrow, s.sends(p), text, false)
	case Waking:
		switch {
		case c == nil:
		case s.held != nil && s.held.Name == Recvmsg && s.held == in.parent:
			s.woken = e // the reader's own line comes first
		default:
			s.wake(e)
		}
	case Exec:
		if e.Seq != s.p.Exec.Seq {
			s.put(e, ProgramLane, NoArrow, 0, fmt.Sprintf("process %d runs %s", e.Int("pid"), filepath.Base(e.Text("filename"))), false)
		}
	case Exit:
		// Of the processes that never executed anything (Go's runtime makes one to try out a kernel feature) no step tells.
		switch q := in.owner; {
		case q == nil || q.exit.Seq != e.Seq:
		case q == s.p.root:
			s.put(e, ProgramLane, NoArrow, 0, "exits", false)
		case q.executed:
			s.put(e, ProgramLane, NoArrow, 0, fmt.Sprintf("process %d exits", q.pid), false)
		}
	case Output:
		if s.p.has(in.owner) {
			s.output(e)
		}
	case Lost:
		text := "events were lost here"
		if n := e.Int("events"); n > 0 {
			text = fmt.Sprintf("%d events were lost here", n)
		}
		s.put(e, KernelLane, NoArrow, 0, text, true)
	case Missed:
		s.put(e, KernelLane, NoArrow, 0, fmt.Sprintf("%d hits of %s were not recorded", e.Int("count"), e.Text("probe")), true)
	}
}

func (s *stepper) free(e Event, x *Socket) {
	s.put(e, KernelLane, NoArrow, 0, fmt.Sprintf("port %s is free", portNumber(x.Port)), false)
}

func (s *stepper) wake(e Event) {
	text := "wakes the sender"
	if e.IRQ {
		text = "the time is up: wakes the sender"
	}
	s.put(e, KernelLane, NoArrow, 1, text, false)
}

// output makes a step of a printed line. It is no sign that something happened inside the call that is held back: the
// line was written before, and is only read now. Of a Go program's death the first line is told, not the traceback.
func (s *stepper) output(e Event) {
	text := e.Text("text")
	said := "prints " + quote(text)
	if e.Int("fd") == 2 {
		if s.dying {
			return
		}
		for _, death := range []string{"panic: ", "fatal error: "} {
			if why, ok := strings.CutPrefix(text, death); ok {
				s.dying = true
				said = "panics: " + quote(why)
			}
		}
	}
	s.steps = append(s.steps, Step{Seq: e.Seq, Time: e.Time, Lane: ProgramLane, Text: said, Failed: s.dying, Output: true})
}

func (s *stepper) unicast(e Event, in info) {
	c := in.call
	if c == nil {
		return
	}
	outer := c.parent
	switch {
	case !s.p.has(in.owner) && outer != nil:
		s.put(e, KernelLane, Delivered, 0, fmt.Sprintf("another process sends to %s", portName(c.to)), false)
	case outer != nil && outer.Name == Sendmsg:
		// the line of the send says it
	case c.to == 0 && outer != nil && s.sends(outer) > 1:
		// from the second time on the line of the next level says it
	case c.to == 0 && outer != nil:
		s.put(e, KernelLane, NoArrow, s.sends(outer), "sends to port 0: to itself", false)
	case s.t.echo[c.Entry.Uint("ssk")]:
		// nlecho_reply will say it, with the result
	case s.t.news[c.Entry.Uint("ssk")] || outer == nil && s.p.Socket(notifyProtocol, c.to) != nil || asks(outer):
		// nlnotify_send or nlnotify_request will
	case outer != nil:
		s.put(e, KernelLane, Delivered, s.sends(outer), fmt.Sprintf("sends to %s", portName(c.to)), false)
	default:
		s.put(e, KernelLane, Delivered, 0, fmt.Sprintf("sends to %s", portName(c.to)), false)
	}
}

func (s *stepper) echo(e Event, in info) {
	m := in.message
	depth := 0
	if in.parent != nil {
		depth = s.sends(in.parent)
	}
	line := func(arrow Arrow, failed bool, format string, args ...any) {
		s.put(e, KernelLane, arrow, depth, fmt.Sprintf(format, args...), failed)
	}
	switch e.Name {
	case EchoInput:
		s.spread = false
		from := "port " + portNumber(uint32(e.Uint("portid")))
		if e.Uint("portid") == 0 {
			from = "itself"
		}
		header := ""
		if e.Uint("pid") != e.Uint("portid") {
			header = fmt.Sprintf(", nlmsg_pid %s", portNumber(uint32(e.Uint("pid"))))
		}
		if level := e.Int("depth"); level > 1 {
			line(NoArrow, false, "level %d, stack left %d", level, e.Int("stack_left"))
			break
		}
		if group := e.Int("dst_group"); group != 0 {
			header += fmt.Sprintf(", for group %d", group)
		}
		line(NoArrow, false, "gets %d bytes from %s%s", e.Int("nlmsg_len"), from, header)
	case EchoReject:
		line(NoArrow, true, "refuses %d bytes: %s", e.Int("skb_len"), rejectReason(e.Int("reason")))
	case EchoWait:
		if depth > 1 {
			// dozens of levels, a line each
		} else if e.Int("hold") != 0 {
			line(NoArrow, false, "waits to be released")
		} else if e.Int("delay_ms") > 0 {
			line(NoArrow, false, "waits %d ms", e.Int("delay_ms"))
		}
	case EchoWake:
		const exit, stop = 4, 5 // NLECHO_EXIT: the network namespace or the module goes
		if e.Int("why") == exit {
			line(NoArrow, false, "waits no longer: its sockets are closed")
		} else if e.Int("why") == stop {
			line(NoArrow, false, "is stopped")
		} else if n := len(m.Waits); depth < 2 && n > 0 && (m.Waits[n-1].Int("hold") != 0 || m.Waits[n-1].Int("delay_ms") > 0) {
			line(NoArrow, false, "goes on")
		}
	case EchoReply:
		n := fmt.Sprint(e.Int("n") + 1)
		if total := m.Input.Int("replies"); total > 0 {
			n = fmt.Sprintf("%d of %d", e.Int("n")+1, total)
		}
		to := "port " + portNumber(uint32(e.Uint("to")))
		if e.Uint("to") == 0 {
			to = "itself"
		}
		if group := e.Int("group"); group != 0 {
			to = fmt.Sprintf("group %d", group)
		}
		if err := e.Int("ret"); err < 0 {
			line(NoArrow, true, "reply %s to %s: %s", n, to, errnoName(err))
		} else if s.drops || s.spread {
			line(NoArrow, false, "reply %s to %s", n, to)
		} else {
			line(Delivered, false, "reply %s to %s", n, to)
		}
		s.spread = false
	case EchoDone:
		line(NoArrow, false, "done, %d sent", e.Int("sent"))
	}
}

// rejectReason says why nlecho refused a message (kmod/nlecho, enum of reasons).
func rejectReason(reason int64) string {
	switch reason {
	case 1:
		return "too short for a header"
	case 2:
		return "nlmsg_len is less than a header"
	case 3:
		return "nlmsg_len is more than what came"
	case 4:
		return "the answer would go to port 0, for ever"
	case 5:
		return "no memory"
	case RejectedDeep:
		return "this recursion would have no end but that of the stack"
	}
	return fmt.Sprintf("reason %d", reason)
}

func signalName(sig int64) string {
	if name := unix.SignalName(unix.Signal(sig)); name != "" {
		return name
	}
	return fmt.Sprint(sig)
}

// members returns the sockets of the program whose queues a shout was meant for: members of the group, but for the one
// that sends, and the port that the shout leaves out.
func (s *stepper) members(shout *Call) []*Socket {
	group, portid := int(shout.Entry.Uint("group")), uint32(shout.Entry.Uint("portid"))
	send := shout.parent
	for send != nil && send.Name != Sendmsg {
		send = send.parent
	}
	if send == nil || send.Socket == nil {
		return nil
	}
	return slices.DeleteFunc(s.p.Sockets(), func(x *Socket) bool {
		return x == send.Socket && shout.parent == send || x.Port == portid || x.Protocol != send.Socket.Protocol || x.Net != send.Socket.Net ||
			!slices.Contains(x.Groups(shout.Entry), group) || Before(x.Released, shout.Entry)
	})
}

// sends counts the messages on their way to the kernel that c is, or is inside of.
func (s *stepper) sends(c *Call) int {
	n, inside := 0, false
	for ; c != nil; c = c.parent {
		switch {
		case c.Name == Sendmsg:
			n, inside = n+1, true
		case c.Name == Unicast && c.to == 0 && c.parent != nil && c.parent.Name == Unicast:
			n++ // the callback sends to itself
		}
	}
	if !inside {
		return 0
	}
	return n
}

// put appends a step, after the line that was held back.
func (s *stepper) put(e Event, lane Lane, arrow Arrow, depth int, text string, failed bool) {
	s.flush()
	if lane == ProgramLane && e.Name != Exec && e.Name != Exit {
		text = s.whose(e) + text
	}
	s.steps = append(s.steps, Step{Seq: e.Seq, Time: e.Time, Lane: lane, Arrow: arrow, Depth: depth, Text: text, Failed: failed})
}

// whose begins the line of what another process than the program's first does.
func (s *stepper) whose(e Event) string {
	if i := s.t.index(e.Seq); i >= 0 {
		if q := s.t.infos[i].owner; q != nil && q != s.p.root {
			return fmt.Sprintf("process %d: ", q.pid)
		}
	}
	return ""
}

// flush puts out the line that was held back: something happened inside the call.
func (s *stepper) flush() {
	c := s.held
	if c == nil {
		return
	}
	s.held = nil
	step := Step{Seq: c.Entry.Seq, Time: c.Entry.Time, Lane: ProgramLane, Depth: s.depth, Text: s.whose(c.Entry) + s.begin(c)}
	switch c.Name {
	case Sendmsg:
		step.Arrow = Into
	case Recvmsg:
		step.Text += ": waits"
	}
	s.steps = append(s.steps, step)
}

// quote makes a printed line fit for a picture: control characters become visible, and where there are many alike, or
// very much text, they are cut short.
func quote(text string) string {
	const most = 120
	var b strings.Builder
	for n := 0; text != ""; n++ {
		if n == most {
			b.WriteString("...")
			break
		}
		r, size := utf8.DecodeRuneInString(text)
		alike := 1
		visible := unicode.IsPrint(r) && !(r == utf8.RuneError && size == 1)
		for !visible && strings.HasPrefix(text[alike*size:], text[:size]) {
			alike++
		}
		quoted := strconv.Quote(text[:size])
		b.WriteString(quoted[1 : len(quoted)-1])
		if alike > 1 {
			fmt.Fprintf(&b, "(%d times)", alike)
		}
		text = text[alike*size:]
	}
	return `"` + b.String() + `"`
}

// name names a socket as it was when e happened, with its descriptor once the program had another one of that port ID
// beside it: on another protocol, or in another network namespace.
func (s *stepper) name(x *Socket, e Event) string {
	text := x.at(e)
	if x == nil || x.FD < 0 || !Before(x.Bound, e) {
		return text
	}
	for _, y := range s.p.Sockets() {
		if y != x && y.Port == x.Port && Before(y.Bound, e) && !Before(y.Closed, x.Bound) && !Before(y.Released, x.Bound) {
			return fmt.Sprintf("%s (fd %d)", text, x.FD)
		}
	}
	return text
}

// callName is what the program called it.
func callName(c *Call) string {
	if c.Syscall != "" {
		return c.Syscall
	}
	return strings.TrimPrefix(c.Name, "netlink_")
}

// begin is the line with which a call begins.
func (s *stepper) begin(c *Call) string {
	switch c.Name {
	case Sendmsg:
		to := "its default destination"
		if c.toSet {
			to = portName(c.to)
		} else if c.Entry.Int("namelen") != 0 {
			to = "no address of Netlink's"
		}
		if groups := c.shout(); groups != 0 {
			to = fmt.Sprintf("%s, port %s", groupNames(groups), portNumber(c.to))
		}
		return fmt.Sprintf("%s %s → %s", callName(c), s.name(c.Socket, c.Entry), to)
	case Bind:
		port := uint32(c.Entry.Uint("portid"))
		text := fmt.Sprintf("bind port %s", portNumber(port))
		if port == 0 {
			text = "bind, any port"
		}
		if groups := c.Entry.Uint("groups"); groups != 0 {
			text += fmt.Sprintf(", groups %#x", groups)
		}
		return text
	}
	text := fmt.Sprintf("%s %s", callName(c), s.name(c.Socket, c.Entry))
	if flags := c.Entry.Uint("flags") &^ (unix.MSG_CMSG_CLOEXEC | unix.MSG_DONTWAIT); flags != 0 {
		text += fmt.Sprintf(", flags %s", messageFlags(flags))
	}
	return text
}

// shout returns the groups that a netlink_sendmsg was addressed to, as a mask.
func (c *Call) shout() uint64 {
	if c == nil || c.Name != Sendmsg || c.Entry.Int("namelen") < unix.SizeofSockaddrNetlink {
		return 0
	}
	return c.Entry.Uint("to_groups")
}

// groupNames names the groups of a mask, "group 7" or "groups 3|7".
func groupNames(mask uint64) string {
	var numbers []string
	for _, g := range MaskOf(mask) {
		numbers = append(numbers, strconv.Itoa(g))
	}
	if len(numbers) == 1 {
		return "group " + numbers[0]
	}
	return "groups " + strings.Join(numbers, "|")
}

// size is how much a send that is told in one line was to send. Where it takes two, the second has the number.
func size(c *Call) string {
	if c.Name != Sendmsg {
		return ""
	}
	return fmt.Sprintf(", %d bytes", c.Entry.Int("len"))
}

// optionName is the name of a socket option.
func optionName(level, option int64) string {
	names, of := map[int64]string(nil), fmt.Sprintf("level %d", level)
	switch level {
	case unix.SOL_SOCKET:
		names, of = socketOptions, "SOL_SOCKET"
	case unix.SOL_NETLINK:
		names, of = netlinkOptions, "SOL_NETLINK"
	}
	if name := names[option]; name != "" {
		return name
	}
	return fmt.Sprintf("option %d of %s", option, of)
}

var socketOptions = map[int64]string{
	unix.SO_DEBUG: "SO_DEBUG", unix.SO_REUSEADDR: "SO_REUSEADDR", unix.SO_REUSEPORT: "SO_REUSEPORT",
	unix.SO_SNDBUF: "SO_SNDBUF", unix.SO_RCVBUF: "SO_RCVBUF", unix.SO_SNDBUFFORCE: "SO_SNDBUFFORCE", unix.SO_RCVBUFFORCE: "SO_RCVBUFFORCE",
	unix.SO_BROADCAST: "SO_BROADCAST", unix.SO_PRIORITY: "SO_PRIORITY", unix.SO_MARK: "SO_MARK",
	unix.SO_PASSCRED: "SO_PASSCRED", unix.SO_RCVLOWAT: "SO_RCVLOWAT", unix.SO_TIMESTAMP: "SO_TIMESTAMP",
	unix.SO_SNDTIMEO: "SO_SNDTIMEO", unix.SO_RCVTIMEO: "SO_RCVTIMEO", unix.SO_SNDTIMEO_NEW: "SO_SNDTIMEO", unix.SO_RCVTIMEO_NEW: "SO_RCVTIMEO",
	unix.SO_ATTACH_FILTER: "SO_ATTACH_FILTER", unix.SO_DETACH_FILTER: "SO_DETACH_FILTER", unix.SO_ATTACH_BPF: "SO_ATTACH_BPF",
	unix.SO_RXQ_OVFL: "SO_RXQ_OVFL",
}

var netlinkOptions = map[int64]string{
	unix.NETLINK_ADD_MEMBERSHIP: "NETLINK_ADD_MEMBERSHIP", unix.NETLINK_DROP_MEMBERSHIP: "NETLINK_DROP_MEMBERSHIP",
	unix.NETLINK_PKTINFO: "NETLINK_PKTINFO", unix.NETLINK_BROADCAST_ERROR: "NETLINK_BROADCAST_ERROR",
	unix.NETLINK_NO_ENOBUFS: "NETLINK_NO_ENOBUFS", unix.NETLINK_LISTEN_ALL_NSID: "NETLINK_LISTEN_ALL_NSID",
	unix.NETLINK_CAP_ACK: "NETLINK_CAP_ACK", unix.NETLINK_EXT_ACK: "NETLINK_EXT_ACK", unix.NETLINK_GET_STRICT_CHK: "NETLINK_GET_STRICT_CHK",
}

func messageFlags(flags uint64) string {
	var names []string
	for _, f := range []struct {
		bit  uint64
		name string
	}{{unix.MSG_PEEK, "PEEK"}, {unix.MSG_TRUNC, "TRUNC"}, {unix.MSG_WAITALL, "WAITALL"}} {
		if flags&f.bit != 0 {
			names = append(names, f.name)
			flags &^= f.bit
		}
	}
	if flags != 0 {
		names = append(names, fmt.Sprintf("%#x", flags))
	}
	return strings.Join(names, "|")
}

// result is what a call returned, in words.
func result(c *Call) string {
	switch {
	case c.Err() != nil:
		return errnoName(c.Ret)
	case c.Name == Bind && c.Entry.Uint("portid") == 0:
		return c.Socket.String() + " (autobind)"
	case c.Name == Bind:
		return "ok"
	}
	text := fmt.Sprintf("%d bytes", c.Ret)
	if whole := c.Delivery().Ret; c.Name == Recvmsg && c.Ret < whole {
		text += fmt.Sprintf(" of %d", whole)
	}
	return text
}

// outcome is the result of a call, and where it comes from, as far as that is traced: for the error of a send the function
// of the kernel that returned it, if that is not netlink_sendmsg itself, or one that has lines of its own; and for a
// message its sender, and what else came with it.
func (s *stepper) outcome(c *Call) string {
	text := result(c)
	if by := s.t.refusedBy(c); c.Name == Sendmsg && by != nil && by.Name != Sendmsg && by.Name != Attach {
		text += fmt.Sprintf(" (%s)", by.Name)
	}
	if port := uint32(c.Took.Uint("portid")); port != 0 {
		text += " from " + portName(port)
	}
	if n, known := c.Copied(); known && int64(n) < c.Ret {
		text += fmt.Sprintf(", %d copied", n)
	}
	var told, lost []string
	for _, e := range c.told {
		switch level, kind := e.Int("level"), e.Int("type"); {
		case cut(e):
			lost = append(lost, ancillaryName(e))
		case level == unix.SOL_NETLINK && kind == unix.NETLINK_PKTINFO:
			told = append(told, fmt.Sprintf("group=%d", e.Uint("a")))
		case level == unix.SOL_SOCKET && kind == unix.SCM_CREDENTIALS:
			told = append(told, fmt.Sprintf("pid=%d uid=%d", e.Uint("a"), e.Uint("b")))
		}
	}
	if len(told) > 0 {
		text += ", " + strings.Join(told, " ")
	}
	if len(lost) > 0 {
		text += ", CTRUNC: no room for " + strings.Join(lost, " and ")
	}
	return text
}

// cut reports whether the reader's buffer had no room for what a [PutCmsg] was to put there.
func cut(e Event) bool {
	return e.Has("room") && e.Uint("room") < uint64(unix.CmsgLen(int(e.Int("len"))))
}

// ancillaryName says what a [PutCmsg] puts beside a message.
func ancillaryName(e Event) string {
	switch level, kind := e.Int("level"), e.Int("type"); {
	case level == unix.SOL_NETLINK && kind == unix.NETLINK_PKTINFO:
		return "group"
	case level == unix.SOL_SOCKET && kind == unix.SCM_CREDENTIALS:
		return "credentials"
	default:
		return fmt.Sprintf("type %d of level %d", kind, level)
	}
}

// describe is an event in one line of evidence, by the names that the kernel uses.
func (t *Trace) describe(e Event) string {
	i := t.index(e.Seq)
	if i < 0 {
		return e.Name
	}
	c := t.infos[i].call
	name, isReturn := strings.CutSuffix(e.Name, ret)
	name = strings.TrimPrefix(strings.TrimPrefix(name, "sys_enter_"), "sys_exit_")
	if c != nil && (isReturn || strings.HasPrefix(e.Name, "sys_exit_")) {
		if c.Name == Filter && c.Ret == 0 { // not the number: a filter itself says 0 to drop
			return name + ": the message passes"
		}
		if err := c.Err(); err != nil {
			return fmt.Sprintf("%s -> %s", name, errnoName(c.Ret))
		}
		if c.Name == Filter {
			return fmt.Sprintf("%s -> %d, the reason to drop it", name, c.Ret)
		}
		return fmt.Sprintf("%s -> %d", name, c.Ret)
	}
	switch e.Name {
	case Sendmsg, Recvmsg:
		text := fmt.Sprintf("%s(%s", name, c.Socket)
		if groups := c.shout(); groups != 0 {
			text += fmt.Sprintf(" to groups %#x, port %s", groups, portNumber(c.to))
		} else if c.toSet {
			text += " to " + portName(c.to)
		}
		return fmt.Sprintf("%s, %d bytes)", text, e.Int("len"))
	case Bind, Connect:
		text := fmt.Sprintf("%s(port %s", name, portNumber(uint32(e.Uint("portid"))))
		if groups := e.Uint("groups"); groups != 0 {
			text += fmt.Sprintf(", groups %#x", groups)
		}
		return text + ")"
	case PutCmsg:
		switch level, kind := e.Int("level"), e.Int("type"); {
		case cut(e):
			return fmt.Sprintf("%s: no room for the %s", name, ancillaryName(e))
		case level == unix.SOL_NETLINK && kind == unix.NETLINK_PKTINFO:
			return fmt.Sprintf("%s: NETLINK_PKTINFO, group %d", name, e.Uint("a"))
		case level == unix.SOL_SOCKET && kind == unix.SCM_CREDENTIALS:
			return fmt.Sprintf("%s: SCM_CREDENTIALS, process %d, uid %d, gid %d", name, e.Uint("a"), e.Uint("b"), e.Uint("c"))
		}
		return fmt.Sprintf("%s: level %d, type %d", name, e.Int("level"), e.Int("type"))
	case SetOption:
		return fmt.Sprintf("%s(%s, %s, %d)", name, c.Socket, optionName(unix.SOL_NETLINK, e.Int("optname")), e.Int("value"))
	case Broadcast:
		return fmt.Sprintf("%s(group %d)", name, e.Uint("group"))
	case Readable:
		if x := t.infos[i].socket; x != nil {
			return fmt.Sprintf("%s(%s)", name, x)
		}
		return name
	case Insert, Unicast:
		return fmt.Sprintf("%s(%s)", name, portName(uint32(e.Uint("portid"))))
	case Take:
		return fmt.Sprintf("%s: a message from %s", name, portName(uint32(e.Uint("portid"))))
	case EchoInput:
		text := fmt.Sprintf("%s portid=%d nlmsg_pid=%d nlmsg_seq=%d len=%d", name, e.Uint("portid"), e.Uint("pid"), e.Uint("seq"), e.Uint("nlmsg_len"))
		if group := e.Int("dst_group"); group != 0 {
			text += fmt.Sprintf(" dst_group=%d", group)
		}
		if e.Int("depth") > 1 {
			text += fmt.Sprintf(" depth=%d stack_left=%d", e.Int("depth"), e.Int("stack_left"))
		}
		return text
	case EchoReject:
		return fmt.Sprintf("%s portid=%d: %s", name, e.Uint("portid"), rejectReason(e.Int("reason")))
	case EchoReply:
		to := fmt.Sprintf("to=%d", e.Uint("to"))
		if group := e.Int("group"); group != 0 {
			to = fmt.Sprintf("group=%d", group)
		}
		return fmt.Sprintf("%s n=%d %s %s", name, e.Int("n"), to, returned(e))
	case EchoWait, EchoWake, EchoDone:
		return fmt.Sprintf("%s portid=%d", name, e.Uint("portid"))
	case NotifySend, NotifyJoin, NotifyRequest, NotifyLeave, ModuleLoad, ModuleFree:
		return describeNotify(e)
	case Output:
		return fmt.Sprintf("output %q", e.Text("text"))
	case Exec:
		return fmt.Sprintf("%s %s", name, e.Text("filename"))
	case Switch:
		if state := sleepState(e); state != "" {
			return fmt.Sprintf("%s: task %d sleeps in state %s", name, e.Int("prev_pid"), state)
		}
	case Waking:
		return fmt.Sprintf("%s: task %d is woken by task %d", name, e.Int("pid"), e.Task)
	case Signal:
		return fmt.Sprintf("%s %s for task %d", name, signalName(e.Int("sig")), e.Int("pid"))
	}
	if c != nil && c.Socket != nil {
		return fmt.Sprintf("%s(%s)", name, c.Socket.at(e))
	}
	return name
}
