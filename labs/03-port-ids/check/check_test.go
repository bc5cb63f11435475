// SPDX-License-Identifier: MIT

// Package check judges programs for lab 3.
package check

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

// The port IDs that step 1 asks for: the process ID of somebody else, of whom
// Netlink knows nothing, and one that is negative when it is read as signed.
var numbers = []uint32{1, 3_000_000_000}

func TestPortIDs(t *testing.T) {
	c := labtest.New(t)
	c.Param("nlecho", "replies", "1")
	c.Param("nlecho", "delay_ms", "0") // pauses are for people who watch
	c.Param("nlecho", "reply_to", "sender")

	c.Step(1, func(s *labtest.Step) {
		for _, n := range numbers {
			number(s, c.Run("number", fmt.Sprint(n)), n)
		}
	})
	c.Step(2, func(s *labtest.Step) { choices(s, c, c.Run("choices")) })
	c.Step(3, func(s *labtest.Step) { unbound(s, c, c.Run("unbound")) })
	c.Step(4, func(s *labtest.Step) {
		believed(s, c)
		c.Param("nlecho", "reply_to", "sender")
		disbelieved(s, c.Run("forge"))
	})
	c.Step(5, func(s *labtest.Step) { experiment(s, c, c.Run("experiment")) })
}

// number: the greeting comes from the port ID that was asked for, and its reply
// is read.
func number(s *labtest.Step, run *labtest.Run, n uint32) {
	if refused := run.Trace.Calls(trace.Bind).Failed().Last(); refused.Seen() {
		f := labtest.Failure{
			Got:      "bind " + refused.Err().Error(),
			Expected: fmt.Sprintf("a socket with port ID %d", n),
			Trace:    []trace.Event{refused.Entry, refused.Return},
			Likely:   "nobody else has this number here: what else is in the address that bind was given?",
		}
		if groups := refused.Entry.Uint("groups"); groups != 0 {
			f.Got = fmt.Sprintf("bind to port ID %d and the groups %#x: %v", refused.Entry.Uint("portid"), groups, refused.Err())
			f.Likely = "an address has two numbers: one says who one is, the other which groups one listens to, and that is a privilege here"
		}
		s.Fail(f)
	}
	m := message(s, run)
	socket := m.Call.Socket
	f := labtest.Failure{
		Got:      fmt.Sprintf("a greeting from port ID %d", socket.Port),
		Expected: fmt.Sprintf("from port ID %d, the program's argument", n),
		Trace:    []trace.Event{socket.Bound, m.Call.Entry, m.Input},
		Likely:   "the number is another in each run: it comes to take as an argument",
	}
	switch {
	case socket.Auto:
		f.Got += ", which the kernel chose"
		f.Likely = "nobody told the kernel which number the socket is to have"
	case int(socket.Port) == run.Trace.PID:
		f.Likely = "this is the process ID. Many programs take it for their port ID, but nothing obliges them to"
	}
	s.Expect(socket.Port == n, f)
	answered(s, run, m, socket)
	s.Reported(run, "number", fmt.Sprint(n), labtest.Failure{
		Trace:  []trace.Event{socket.Bound},
		Likely: "the kernel knows the port ID of each socket: ask it about this one",
	})
	ended(s, run)
}

// choices: two sockets that were open at once, each with a port ID that the
// kernel chose, and both are reported in both readings.
func choices(s *labtest.Step, c *labtest.Check, run *labtest.Run) {
	first, second := twoChoices(s, run)
	for i, socket := range []*trace.Socket{first, second} {
		which := []string{"first", "second"}[i]
		for _, key := range []string{"unsigned", "signed"} {
			want := fmt.Sprint(socket.Port)
			if key == "signed" {
				want = fmt.Sprint(int32(socket.Port))
			}
			values := run.Keys(key)
			s.Expect(len(values) == 2, labtest.Failure{
				Got:      fmt.Sprintf("%d lines %s=...", len(values), key),
				Expected: "two: the first choice, and the second",
				Likely:   "for each of the two the program prints a line unsigned=... and a line signed=...",
			})
			f := labtest.Failure{
				Got:      key + "=" + labtest.Short(values[i]),
				Expected: fmt.Sprintf("%s=%s, the kernel's %s choice", key, want, which),
				Trace:    []trace.Event{first.Bound, second.Bound},
				Likely:   "this is not the number that the kernel gave the socket",
			}
			n, _ := strconv.ParseInt(values[i], 10, 64)
			switch {
			case key == "signed" && n == int64(socket.Port):
				f.Likely = "this is the unsigned number still: a type with more bits keeps the value. Which type has the same 32 bits?"
			case n == 0:
				f.Likely = "0 is what a socket without a port ID has. When was it asked?"
			case values[i] == fmt.Sprint(second.Port) || values[i] == fmt.Sprint(int32(second.Port)):
				f.Likely = "the two are in the wrong order"
			case n == int64(run.Trace.PID):
				f.Likely = "this is the process ID, as the first has it. What does the kernel say of this one?"
			}
			s.Expect(values[i] == want, f)
		}
	}
	ended(s, run)

	answer := 3
	switch {
	case second.Port == first.Port:
		answer = 1
	case second.Port == first.Port+1:
		answer = 2
	}
	if answer < 3 || int32(second.Port) < 0 {
		c.Answer("second", answer, fmt.Sprintf("the process ID is %d: the kernel chose %d, and then %d, which is %d",
			run.Trace.PID, first.Port, second.Port, int32(second.Port)))
	}
}

// twoChoices returns the sockets with the kernel's first and second choice.
func twoChoices(s *labtest.Step, run *labtest.Run) (first, second *trace.Socket) {
	var all, auto []*trace.Socket
	var events []trace.Event // what a failure shows
	for _, socket := range run.Trace.Sockets() {
		if socket.Protocol != labtest.EchoProtocol {
			continue
		}
		all = append(all, socket)
		events = append(events, socket.Created, socket.Bound, socket.Closed)
		if socket.Auto {
			auto = append(auto, socket)
		}
	}
	slices.SortStableFunc(auto, func(a, b *trace.Socket) int { return a.Bound.Seq - b.Bound.Seq })
	f := labtest.Failure{Expected: "two sockets that are open at once, with port IDs chosen by the kernel", Trace: events}
	named := slices.IndexFunc(all, func(x *trace.Socket) bool { return x.Port != 0 && !x.Auto })
	switch {
	case len(all) == 0:
		f.Got = fmt.Sprintf("no socket of protocol %d", labtest.EchoProtocol)
		f.Likely = "the kernel gives port IDs to sockets: chosen needs two of them"
	case named >= 0:
		f.Got = fmt.Sprintf("a socket with the port ID %d, which the program named", all[named].Port)
		f.Likely = "the program tells the kernel a number. Which number in an address tells it to choose one itself?"
		if int(all[named].Port) == run.Trace.PID {
			f.Likely = "the program names its process ID, as many do. It is to leave the choice to the kernel"
		}
	case len(auto) == 0:
		f.Got = "the sockets never got a port ID"
		f.Likely = "socket(2) gives no port ID, and asking for one gives none either: what makes the kernel choose?"
	case len(auto) == 1:
		f.Got = fmt.Sprintf("one choice of the kernel, port ID %d", auto[0].Port)
		f.Likely = "a socket keeps the number that it has got: a second choice needs a second socket"
	case auto[0].Closed.Seen() && trace.Before(auto[0].Closed, auto[1].Bound):
		f.Got = fmt.Sprintf("the first socket was closed, and then the second got port ID %d", auto[1].Port)
		f.Likely = "a number is free again as soon as its socket is closed. When does a defer run?"
	default:
		s.Expect(int(auto[0].Port) == run.Trace.PID, labtest.Failure{
			Got:      fmt.Sprintf("the first choice is %d", auto[0].Port),
			Expected: fmt.Sprintf("%d, the process ID", run.Trace.PID),
			Trace:    events,
			Likely:   "somebody had that number already: another socket of this program?",
		})
		return auto[0], auto[1]
	}
	s.Fail(f)
	return nil, nil
}

// unbound: a socket that was never bound sent a header with nlmsg_pid 0, and got
// its reply.
func unbound(s *labtest.Step, c *labtest.Check, run *labtest.Run) {
	m := message(s, run)
	socket := m.Call.Socket
	bind := run.Trace.Calls(trace.Bind).On(socket).First()
	s.Expect(!bind.Seen(), labtest.Failure{
		Got:      "the socket was bound before it sent",
		Expected: "a greeting from a socket on which nobody ever called bind",
		Trace:    []trace.Event{bind.Entry, bind.Return, m.Call.Entry},
		Likely:   "to leave the choice to the kernel, bind is one way. Here it is to be done without",
	})
	s.Expect(m.Input.Uint("pid") == 0, labtest.Failure{
		Got:      fmt.Sprintf("nlmsg_pid=%d in the header", m.Input.Uint("pid")),
		Expected: "nlmsg_pid=0: the message is not to say whom it is from",
		Trace:    []trace.Event{m.Call.Entry, m.Input},
		Likely:   "C is the second argument of greet",
	})
	answered(s, run, m, socket)
	f := labtest.Failure{
		Expected: fmt.Sprintf("known=%d, as which nlecho knew the sender", m.PortID()),
		Trace:    []trace.Event{socket.Bound, m.Input, m.Replies.First()},
		Likely:   "nlecho sent its reply to somebody. Where does it say to whom, and what does the kernel say of the socket?",
	}
	if known, _ := run.Key("known"); known == "0" {
		f.Likely = "0 is what stands in your header and whom the reply is from. Whom did it go to?"
	}
	s.Reported(run, "known", fmt.Sprint(m.PortID()), f)
	ended(s, run)
	c.Answer("unbound", 2, fmt.Sprintf("bind was not called and nlmsg_pid was 0; nlecho replied to port %d, and the reply was read", m.PortID()))
}

// believed: with reply_to=header the reply goes to the socket that C names, and
// is found there.
func believed(s *labtest.Step, c *labtest.Check) {
	c.Param("nlecho", "reply_to", "header")
	run, fatal := guarded(c, "forge")
	s.Expect(!fatal.Seen(), labtest.Failure{
		Got:      "a message with C=0, to a module that believes C",
		Expected: "the port ID of the program's other socket in C",
		Trace:    []trace.Event{fatal},
		Likely: "port 0 is the kernel: nlecho would have answered itself, and that answer, until the machine stops " +
			"(lab 5). Which of your sockets still had no port ID when it was asked?",
	})
	m := message(s, run)
	sender := m.Call.Socket
	to, own := uint32(m.Input.Uint("pid")), m.PortID()
	reply := m.Replies.First()
	victim := holder(run, to, reply)
	f := labtest.Failure{
		Expected: "in C, the port ID of another socket of this program",
		Trace:    []trace.Event{m.Call.Entry, m.Input, reply},
	}
	switch {
	case to == own:
		f.Got = fmt.Sprintf("a greeting from port ID %d with C=%d", own, to)
		f.Likely = "so far the header tells the truth. Whose number would have to stand in it, for the reply to go astray?"
		s.Fail(f)
	case victim == nil:
		f.Got = fmt.Sprintf("C=%d, which no socket of this program has", to)
		f.Likely = "nlecho sent its reply to a port where nobody is. The other socket must have that number"
		s.Fail(f)
	case reply.Int("ret") < 0:
		f.Got = fmt.Sprintf("C=%d, and nobody had that port ID when nlecho replied", to)
		f.Expected = "the other socket is there when the reply comes"
		f.Trace = append(f.Trace, victim.Bound, victim.Closed)
		f.Likely = "nlecho answers before the send returns: what is opened after it, or closed before it, gets nothing"
		s.Fail(f)
	}
	answered(s, run, m, victim)
	where(s, run, m, victim)
	c.Note("reply_to=header: from port %d with C=%d, the reply went to port %d", sender.Port, to, reply.Uint("to"))
	c.Answer("forged", 0, fmt.Sprintf("port %d sent nlmsg_pid=%d; nlecho's reply went to port %d, and netlink_unicast returned %d",
		own, to, reply.Uint("to"), reply.Int("ret")))
}

// holder returns the socket that had the port ID at the time of e, or one that
// had it earlier or later, or nil.
func holder(run *labtest.Run, port uint32, e trace.Event) *trace.Socket {
	var found *trace.Socket
	for _, socket := range run.Trace.Sockets() {
		if socket.Protocol == labtest.EchoProtocol && socket.Port == port &&
			(found == nil || trace.Before(socket.Bound, e)) {
			found = socket
		}
	}
	return found
}

// disbelieved: with reply_to=sender the same program finds the reply at the
// sender.
func disbelieved(s *labtest.Step, run *labtest.Run) {
	m := message(s, run)
	to, own := uint32(m.Input.Uint("pid")), m.PortID()
	s.Expect(to != own && to != 0, labtest.Failure{
		Got:      fmt.Sprintf("with reply_to=sender, a greeting from port ID %d with C=%d", own, to),
		Expected: "the same forged C as with reply_to=header",
		Trace:    []trace.Event{m.Call.Entry, m.Input},
		Likely:   "the program is to do the same whatever nlecho believes: it finds out by looking where the reply is",
	})
	reader := m.Call.Socket
	if arrived, said := run.Key("arrived"); said && arrived != fmt.Sprint(own) {
		where(s, run, m, reader)
	}
	answered(s, run, m, reader)
	where(s, run, m, reader)
	ended(s, run)
}

// where: the program reports who sent the greeting, and where the reply arrived.
func where(s *labtest.Step, run *labtest.Run, m *trace.Message, arrived *trace.Socket) {
	reply := m.Replies.First()
	read := reads(run, arrived, reply).First()
	likely := "the sender is the socket that the greeting was sent from, by the kernel's word"
	if got, _ := run.Key("sender"); got == "0" {
		likely = "a socket without a number was looked at: when did the sender get its own?"
	}
	s.Reported(run, "sender", fmt.Sprint(m.PortID()), labtest.Failure{
		Trace:  []trace.Event{m.Call.Entry, m.Input},
		Likely: likely,
	})
	s.Reported(run, "arrived", fmt.Sprint(arrived.Port), labtest.Failure{
		Expected: fmt.Sprintf("arrived=%d: there nlecho's reply went, with reply_to=%s", arrived.Port, believes(m)),
		Trace:    []trace.Event{m.Input, reply, read.Entry, read.Return},
		Likely:   "whom nlecho believes, the program does not know. It knows in which queue it found the reply",
	})
	ended(s, run)
}

// believes is the value of reply_to for a message.
func believes(m *trace.Message) string {
	return []string{"sender", "header"}[m.Input.Int("reply_to")]
}

// guarded runs the program with each message held before its reply, and lets go
// on what is harmless. A reply to port 0 would be the end of this kernel: what
// asked for one is returned as fatal, and is not answered.
func guarded(c *labtest.Check, args ...string) (run *labtest.Run, fatal trace.Event) {
	c.Hold()
	program := c.Start(args...)
	program.Input.Close()
	for held := 1; ; held++ {
		var input trace.Event
		waits := func(t *trace.Trace) bool {
			waits := t.Events().Named(trace.EchoWait).Where("hold", 1)
			if len(waits) < held {
				return false
			}
			input = t.Events().Named(trace.EchoInput).Where("id", waits[held-1].Int("id")).First()
			return true
		}
		if !program.WaitFor(waits) {
			break
		}
		if input.Uint("to") == 0 {
			fatal = input
			c.Param("nlecho", "replies", "0") // for the answer that nlecho now sends to itself
			break
		}
		c.Release(1)
	}
	c.Free()
	run = program.Wait()
	c.Param("nlecho", "replies", "1")
	return run, fatal
}

// message returns the program's one message, which nlecho took.
func message(s *labtest.Step, run *labtest.Run) *trace.Message {
	sent := s.ToKernel(run)
	var refused trace.Event
	for _, m := range run.Trace.Messages() {
		if m.Input.Seen() && m.Call.Entry.Seq == sent.Entry.Seq {
			return m
		}
		if m.Reject.Seen() {
			refused = m.Reject
		}
	}
	s.Fail(labtest.Failure{
		Got:      "a message that nlecho refused",
		Expected: "a message that describes itself (lab 1)",
		Trace:    []trace.Event{sent.Entry, refused, sent.Return},
		Likely:   "greet builds a sound message: compare yours with it",
	})
	return nil
}

// answered: the reply to m is in the queue of that socket, and was read from it.
func answered(s *labtest.Step, run *labtest.Run, m *trace.Message, socket *trace.Socket) {
	reply := m.Replies.First()
	f := labtest.Failure{
		Expected: fmt.Sprintf("a reply that is read from the socket with port ID %d", socket.Port),
		Trace:    []trace.Event{m.Call.Entry, m.Input, reply, m.Call.Return, socket.Closed},
	}
	if reply.Int("ret") <= 0 || uint32(reply.Uint("to")) != socket.Port {
		f.Got = fmt.Sprintf("nlecho's reply went to port ID %d: %s", reply.Uint("to"), m.Call)
		f.Likely = "the socket must be open until it has its reply"
		s.Fail(f)
	}
	f.Got = fmt.Sprintf("the reply lies in the queue of port ID %d, and nobody read it", socket.Port)
	f.Likely = "the program has to look into the queue of this socket, while it is open"
	for _, other := range run.Trace.Sockets() {
		if late := run.Trace.Calls(trace.Recvmsg).On(other).After(reply).First(); late.Seen() && other != socket {
			f.Trace = append(f.Trace, late.Entry, late.Return)
			f.Likely = fmt.Sprintf("the program waits for it at port ID %d. It cannot know where the reply is before it has looked at both", other.Port)
		}
	}
	s.Expect(len(reads(run, socket, reply)) > 0, f)
}

// reads returns the calls that took a message out of the socket's queue after e.
func reads(run *labtest.Run, socket *trace.Socket, e trace.Event) trace.Calls {
	return slices.DeleteFunc(run.Reads(socket), func(c trace.Call) bool { return !trace.Before(e, c.Return) })
}

// ended: everything was there, and the program ended well.
func ended(s *labtest.Step, run *labtest.Run) {
	s.Expect(run.End.OK(), labtest.Failure{
		Got:      "everything was reported, but the program did not end well",
		Expected: "exit code 0",
		Likely:   "its last words tell why",
	})
}

// The calls that step 5 asks about, by the key of the line that answers.
var candidates = []struct{ key, function string }{
	{"socket", "socket"},
	{"recvmsg", trace.Recvmsg},
	{"connect", "connect"},
	{"sendmsg", trace.Sendmsg},
}

// observation is a call on a socket between two looks at its port ID, with
// nothing else between them: what is different then, the call has done. Of the
// call socket there is but the look after it.
type observation struct {
	function string
	before   trace.Call // the look before, or socket(2)
	call     trace.Call
	after    trace.Call // the look after
	had, has uint32     // the port ID at both
}

// attempt is a call on a socket, whatever was done before and after it.
type attempt struct {
	call   trace.Call
	looked bool // at the socket, before
}

// observations returns what the program did between two looks alone, and the
// first attempt at each call, for the words of a failure.
func observations(run *labtest.Run) (seen []observation, first map[string]attempt) {
	first = map[string]attempt{}
	for _, socket := range run.Trace.Sockets() {
		if socket.Protocol != labtest.EchoProtocol {
			continue
		}
		at := func(c trace.Call) uint32 {
			if trace.Before(socket.Bound, c.Entry) {
				return socket.Port
			}
			return 0
		}
		var before trace.Call   // the last look
		var between trace.Calls // what came after it
		fresh := true           // nobody has looked yet
		for _, call := range run.Trace.Calls("getsockname", "connect", trace.Bind, trace.Recvmsg, trace.Sendmsg).On(socket) {
			if call.Name != "getsockname" {
				between = append(between, call)
				if _, tried := first[call.Name]; !tried {
					first[call.Name] = attempt{call, !fresh}
				}
				continue
			}
			if call.Err() != nil {
				continue
			}
			o := observation{before: before, after: call, has: at(call)}
			switch {
			case fresh && len(between) == 0:
				o.function = "socket"
				seen = append(seen, o)
			case !fresh && len(between) > 0 && !slices.ContainsFunc(between, func(c trace.Call) bool { return c.Name != between[0].Name }):
				o.function, o.call, o.had = between[0].Name, between[0], at(before)
				seen = append(seen, o)
			}
			before, between, fresh = call, nil, false
		}
	}
	return seen, first
}

// experiment: for each of the calls, the trace has it alone between two looks at
// a socket that had no port ID before, and what was reported is what the second
// look showed.
func experiment(s *labtest.Step, c *labtest.Check, run *labtest.Run) {
	seen, first := observations(run)
	chose := map[string]bool{}
	for _, candidate := range candidates {
		key := candidate.key
		s.Expect(len(run.Keys(key)) > 0, labtest.Failure{
			Got:      fmt.Sprintf("the program printed no line %s=...", key),
			Expected: fmt.Sprintf("%s=, and the port ID that a socket has right after that call", key),
			Likely:   "the question is asked of four calls, and each has a line of its own",
		})
		said, _ := run.Key(key)
		var had, failed, good observation
		ok := false
		for _, o := range seen {
			if o.function != candidate.function {
				continue
			}
			switch {
			case o.had != 0:
				had = o
			case o.call.Err() != nil && key != "recvmsg":
				failed = o
			default:
				good, ok = o, ok || said == fmt.Sprint(o.has)
			}
		}
		if ok {
			chose[key] = good.has != 0
			continue
		}
		f := labtest.Failure{Got: fmt.Sprintf("%s=%s", key, labtest.Short(said))}
		switch {
		case good.after.Seen():
			f.Expected = fmt.Sprintf("%s=%d, which the socket had after that call", key, good.has)
			f.Trace = []trace.Event{good.before.Entry, good.call.Entry, good.call.Return, good.after.Entry, good.after.Return}
			f.Likely = "what is printed is not what the look after the call showed"
			if said == fmt.Sprint(int32(good.has)) && good.has > math.MaxInt32 {
				f.Likely = "the right number, but read as signed: here it is wanted as the kernel stores it"
			}
		case had.after.Seen():
			f.Got = fmt.Sprintf("%s on a socket that had port ID %d before", key, had.had)
			f.Expected = "the call on a socket that has no port ID yet"
			f.Trace = []trace.Event{had.before.Entry, had.call.Entry, had.call.Return, had.after.Entry}
			f.Likely = "a socket that has got a number keeps it, and tells nothing more about who gives numbers"
		case failed.after.Seen():
			f.Got = fmt.Sprintf("%s: %v", key, failed.call.Err())
			f.Expected = "a call that succeeds"
			f.Trace = []trace.Event{failed.before.Entry, failed.call.Entry, failed.call.Return, failed.after.Entry}
			f.Likely = "of a call that the kernel refused at once, one learns nothing about the others"
		case key == "socket":
			f.Expected = "a look at a socket with which nothing was done yet"
			f.Likely = "the trace shows nobody who asked a new socket for its port ID (portOf) before using it"
		default:
			tried := first[candidate.function]
			f.Expected = "a look at the port ID, that one call, and a look again"
			f.Trace = around(run, tried.call)
			switch {
			case !tried.call.Seen():
				f.Likely = "the call never happened on a socket of this program: what is printed was not tried out"
			case !tried.looked:
				f.Got = fmt.Sprintf("a %s, and nobody had looked at the socket before", key)
				f.Likely = "what the socket has after the call it may have had before"
			default:
				f.Got = fmt.Sprintf("a %s, but not alone between two looks", key)
				f.Likely = "where two things are done between two looks, nobody can say which of them it was"
			}
		}
		s.Fail(f)
	}
	ended(s, run)

	var giving []string
	for _, candidate := range candidates {
		if chose[candidate.key] {
			giving = append(giving, candidate.key)
		}
	}
	answers := map[string]int{"": 0, "socket": 1, "connect sendmsg": 2, "recvmsg": 3}
	if option, ok := answers[strings.Join(giving, " ")]; ok {
		c.Answer("when", option, fmt.Sprintf("of %s, netlink_insert was seen in %s", "socket, recvmsg, connect and sendmsg", strings.Join(giving, " and ")))
	}
}

// around returns what was done with the socket of c up to the look that follows
// it.
func around(run *labtest.Run, c trace.Call) []trace.Event {
	if !c.Seen() {
		return nil
	}
	events := []trace.Event{c.Socket.Created}
	for _, call := range run.Trace.Calls("getsockname", "connect", trace.Bind, trace.Recvmsg, trace.Sendmsg).On(c.Socket) {
		events = append(events, call.Entry)
		if call.Name == "getsockname" && trace.Before(c.Entry, call.Entry) || len(events) > 7 {
			break
		}
	}
	return events
}
