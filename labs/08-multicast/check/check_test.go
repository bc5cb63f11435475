// SPDX-License-Identifier: MIT

// Package check judges programs for lab 8.
package check

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

func TestMulticast(t *testing.T) {
	k := &course{c: labtest.New(t, labtest.Events(trace.NamespaceEvents()...))}
	k.c.Step(1, k.join)
	k.c.Step(2, k.both)
	k.c.Step(3, k.kernel)
	k.c.Step(4, k.beyond)
	k.c.Step(5, k.border)
}

// course is the program on its way through the steps. Each has a run of its own.
type course struct {
	c      *labtest.Check
	run    *labtest.Run
	shouts []shout // of this run
}

// shout is a message on its way to a group.
type shout struct {
	trace.Call            // of trace.Broadcast
	group      int        // that it went to, by the kernel's word
	send       trace.Call // the program's netlink_sendmsg that it came from; zero for one of nlecho's
	unicast    trace.Call // the one that followed, with the copy for a port
}

// start runs the program with arguments.
func (k *course) start(args ...string) {
	k.run = k.c.Run(args...)
	k.shouts = nil
	unicasts := k.run.Trace.Calls(trace.Unicast)
	for _, b := range k.run.Trace.Calls(trace.Broadcast) {
		x := shout{Call: b, group: int(b.Entry.Uint("group"))}
		if outer := b.Outer(); outer.Name == trace.Sendmsg {
			x.send = outer
		}
		for _, u := range unicasts.After(b.Entry) {
			if same(u.Outer(), x.send) {
				x.unicast = u
				break
			}
		}
		k.shouts = append(k.shouts, x)
	}
}

// same reports whether a and b are one call.
func same(a, b trace.Call) bool { return a.Seen() && a.Entry.Seq == b.Entry.Seq }

// events are those of a shout, for the evidence.
func (x shout) events() []trace.Event {
	return []trace.Event{x.send.Entry, x.Entry, x.Return, x.send.Return}
}

// mask returns the groups of the address that a message was sent to.
func mask(c trace.Call) uint64 {
	if c.Entry.Int("namelen") < unix.SizeofSockaddrNetlink {
		return 0
	}
	return c.Entry.Uint("to_groups")
}

// bit is the mask of a group, 0 for one that has no bit.
func bit(group int) uint64 { return 1 << (group - 1) & 0xffffffff }

// names lists groups in words.
func names(groups []int) string {
	var words []string
	for _, g := range groups {
		words = append(words, strconv.Itoa(g))
	}
	switch len(words) {
	case 0:
		return "no group"
	case 1:
		return "group " + words[0]
	}
	return "the groups " + strings.Join(words, ", ")
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// asked reports whether the program looked into the queue of x after e: by a call
// that receives, be it that it began before and was waiting. A socket that does not
// block waits in poll, once such a call has found nothing.
func (k *course) asked(x *trace.Socket, e trace.Event) bool {
	calls := k.run.Trace.Calls(trace.Recvmsg).On(x)
	if slices.ContainsFunc(calls, func(c trace.Call) bool { return trace.Before(e, c.Entry) || trace.During(e, c) }) {
		return true
	}
	last := calls.Last()
	return last.Err() == unix.EAGAIN && !waitless(last.Outer()) && waitless(last)
}

// waitless reports whether a call that receives was told not to wait. The kernel tells
// netlink_recvmsg so as well where it is the socket that does not block.
func waitless(c trace.Call) bool { return c.Entry.Int("flags")&unix.MSG_DONTWAIT != 0 }

// read reports whether the program took a message out of the queue of x after e.
func (k *course) read(x *trace.Socket, e trace.Event) bool {
	return slices.ContainsFunc(k.run.Reads(x), func(c trace.Call) bool { return trace.Before(e, c.Return) })
}

// sockets returns the program's sockets on a protocol that were there when e happened.
func (k *course) sockets(protocol int, e trace.Event) []*trace.Socket {
	var there []*trace.Socket
	for _, x := range k.run.Trace.Sockets() {
		if x.Protocol == protocol && trace.Before(x.Created, e) && !trace.Before(x.Released, e) {
			there = append(there, x)
		}
	}
	return there
}

// memberships returns the calls by which sockets of a protocol joined groups, or tried
// to, in order.
func (k *course) memberships(protocol int) trace.Calls {
	var calls trace.Calls
	for _, c := range k.run.Trace.Calls(trace.Bind, trace.SetOption) {
		switch {
		case c.Socket.Protocol != protocol:
		case c.Name == trace.Bind && c.Entry.Uint("groups") != 0,
			c.Name == trace.SetOption && c.Entry.Int("optname") == unix.NETLINK_ADD_MEMBERSHIP:
			calls = append(calls, c)
		}
	}
	return calls
}

// ended: the program came to its end by itself.
func (k *course) ended(s *labtest.Step) {
	s.Expect(k.run.End.OK(), labtest.Failure{
		Got:      "all of it was seen, but the program did not end well",
		Expected: "exit code 0",
		Likely:   "its last words tell why. Who waits for a message that does not come, waits for ever",
	})
}

// sent returns the first message that the program sent on a protocol and that is so.
// Where there is none, it fails the step; what says what such a message is.
func (k *course) sent(s *labtest.Step, protocol int, what string, is func(trace.Call) bool) trace.Call {
	sends := k.run.Trace.Calls(trace.Sendmsg)
	on := slices.DeleteFunc(slices.Clone(sends), func(c trace.Call) bool { return c.Socket.Protocol != protocol })
	for _, c := range on {
		if is(c) {
			return c
		}
	}
	f := labtest.Failure{Expected: what}
	refused := k.run.Trace.Calls("socket").Failed().Last()
	stuck := k.run.Trace.Calls(trace.Recvmsg).Last()
	switch last := sends.Last(); {
	case len(on) > 0:
		last = on.Last()
		to, _ := last.To()
		f.Got = fmt.Sprintf("a message to %s (nl_groups %#x) and port %d", names(trace.MaskOf(mask(last))), mask(last), to)
		f.Likely = "nl_groups has one bit for each group, the lowest for group 1"
		if len(on) > 1 && !same(on.First(), last) {
			f.Likely += ". One address can have several of them at once"
		}
		if mask(last) == 0 {
			f.Got = fmt.Sprintf("a message to no group, and port %d", to)
			f.Likely = "the groups of a message stand in its address, beside the port ID"
		}
		f.Trace = []trace.Event{last.Entry, last.Return}
	case last.Seen():
		f.Got = fmt.Sprintf("a message on protocol %d", last.Socket.Protocol)
		f.Likely = "a protocol has groups of its own; the step says which one is meant"
		f.Trace = []trace.Event{last.Socket.Created, last.Entry, last.Return}
	case refused.Seen():
		f.Got = fmt.Sprintf("no socket: socket says %s", labtest.Verdict(refused))
		f.Likely = "what is protocol's number, and what was asked for?"
		f.Trace = []trace.Event{refused.Entry, refused.Return}
	case stuck.Seen() && !k.run.End.OK():
		f.Got = fmt.Sprintf("nothing was sent, and %s was read", stuck.Socket)
		f.Likely = "nobody has shouted yet: a program that waits for a message before it sends one waits for ever"
		f.Trace = []trace.Event{stuck.Entry, stuck.Return}
	default:
		f.Got = "nothing was sent"
		f.Likely = "the program ended before, or prints what it has not tried"
		if c := k.memberships(protocol).Failed().Last(); c.Seen() {
			f.Got, f.Likely = whyNot(c)
			f.Trace = []trace.Event{c.Entry, c.Return}
		}
	}
	s.Fail(f)
	return trace.Call{}
}

// whyNot says what is wrong with an attempt to join a group that the kernel refused.
func whyNot(c trace.Call) (got, likely string) {
	if c.Name == trace.Bind {
		got = fmt.Sprintf("bind to %s (nl_groups %#x): %s", names(trace.MaskOf(c.Entry.Uint("groups"))), c.Entry.Uint("groups"), labtest.Verdict(c))
		likely = "is the port ID one that the socket has, or may have?"
		return got, likely
	}
	got = fmt.Sprintf("NETLINK_ADD_MEMBERSHIP %d: %s", uint32(c.Entry.Int("value")), labtest.Verdict(c))
	likely = "no group of this protocol has that number. Does the option take a mask or a number?"
	return got, likely
}

// strayed says why a shout to the group was not put into the queue of a member of the
// kind that is wanted: by says of a call that joins whether it is of that kind.
func (k *course) strayed(x shout, protocol, group int, by func(trace.Call) bool) (f labtest.Failure) {
	f.Trace = []trace.Event{x.send.Entry, x.Entry, x.Return}
	var tried trace.Calls
	for _, c := range k.memberships(protocol) {
		if by(c) {
			tried = append(tried, c)
		}
	}
	c := tried.Last()
	if !c.Seen() {
		f.Got = "no socket has joined a group in this way"
		f.Likely = "which of the two ways is missing? A socket that joins in both does not show which of them it was"
		return f
	}
	f.Trace = append(f.Trace, c.Entry, c.Return)
	switch in := c.Socket.Groups(x.Entry); {
	case c.Err() != nil:
		f.Got, f.Likely = whyNot(c)
	case !trace.Before(c.Return, x.Entry):
		f.Got = fmt.Sprintf("the shout came before %s had joined", c.Socket)
		f.Likely = "a shout is heard by those who are members at that moment, and kept for nobody"
	case !slices.Contains(in, group):
		f.Got = fmt.Sprintf("%s is a member of %s", c.Socket, names(in))
		f.Likely = "one of the two ways takes a number, the other a mask, in which group 1 has the lowest bit"
		if c.Name == trace.Bind && uint64(group) == c.Entry.Uint("groups") {
			f.Got += fmt.Sprintf(": bind had nl_groups %d", group)
		}
	case c.Socket == x.send.Socket:
		f.Got = fmt.Sprintf("%s is the one that shouted", c.Socket)
		f.Likely = "who shouts does not hear it: it takes another socket"
	case c.Socket.Port == 0 || !trace.Before(c.Socket.Bound, x.Entry):
		f.Got = fmt.Sprintf("%s is a member, but has no port ID, and nothing was put into its queue", c.Socket)
		f.Likely = "the kernel leaves out the member that has the port ID of the address, as it gets the message by unicast. Which one does a socket have that was never bound?"
		f.Trace = append(f.Trace, c.Socket.Bound)
	default:
		f.Got = fmt.Sprintf("%s is a member, but nothing was put into its queue", c.Socket)
		f.Likely = "is it still open, and in the same network namespace?"
	}
	return f
}

// join: a shout is put into the queues of two members, one of each kind.
func (k *course) join(s *labtest.Step) {
	// 17 to 31: as a mask, each stands for several groups, and none of them is this one;
	// and shifted by one too many it is still a group.
	group := 17 + rand.IntN(15)
	text := fmt.Sprintf("shout-%d", rand.IntN(9000)+1000)
	k.start("join", strconv.Itoa(group), text)
	const protocol = unix.NETLINK_USERSOCK

	send := k.sent(s, protocol, fmt.Sprintf("a message on protocol %d to group %d", protocol, group),
		func(c trace.Call) bool { return mask(c) == bit(group) })
	x := k.shoutOf(s, send)

	var of = map[string]*trace.Socket{}
	ways := []struct {
		key, how string
		by       func(trace.Call) bool
	}{
		{"by_bind", "that has joined it by bind", func(c trace.Call) bool { return c.Name == trace.Bind }},
		{"by_option", "that has joined it by NETLINK_ADD_MEMBERSHIP", func(c trace.Call) bool { return c.Name == trace.SetOption }},
	}
	joined := func(x *trace.Socket, e trace.Event, by func(trace.Call) bool) bool {
		return slices.ContainsFunc(k.memberships(protocol).On(x).OK().Before(e), func(c trace.Call) bool {
			return by(c) && (c.Name == trace.Bind && c.Entry.Uint("groups")&bit(group) != 0 || c.Entry.Int("value") == int64(group))
		})
	}
	for i, way := range ways {
		other := ways[1-i].by
		for _, q := range x.Queued() {
			if joined(q, x.Entry, way.by) && !joined(q, x.Entry, other) {
				of[way.key] = q
			}
		}
		if of[way.key] == nil {
			f := k.strayed(x, protocol, group, way.by)
			f.Expected = fmt.Sprintf("the shout to group %d is put into the queue of a socket %s", group, way.how)
			s.Fail(f)
		}
	}
	for _, way := range ways {
		q := of[way.key]
		s.Expect(k.read(q, x.Entry), labtest.Failure{
			Got:      fmt.Sprintf("the shout lies in the queue of %s, and nobody has taken it out", q),
			Expected: fmt.Sprintf("the socket %s reads it", way.how),
			Likely:   "the program ended before, or prints what it has not read. The shout may have been heard whatever the send said",
			Trace:    append(x.events(), k.run.Trace.Calls(trace.Recvmsg).On(q).Last().Return),
		})
		s.Reported(k.run, way.key, text, labtest.Failure{
			Expected: fmt.Sprintf("%s=%s, the text that was shouted", way.key, text),
			Likely:   "the text begins behind the header's 16 bytes, and ends where the message ends",
			Trace:    x.events(),
		})
	}
	s.Reported(k.run, "mask", fmt.Sprint(bit(group)), labtest.Failure{
		Expected: fmt.Sprintf("mask=%d: nl_groups of group %d, as a decimal number", bit(group), group),
		Likely:   "what stands in nl_groups of the address that the socket was bound to, and that the shout was sent to",
		Trace:    []trace.Event{x.send.Entry},
	})
	s.Reported(k.run, "shout", labtest.Verdict(x.send), labtest.Failure{
		Expected: fmt.Sprintf("shout=%s: so the kernel answered the send", labtest.Verdict(x.send)),
		Likely:   "shout= is what the send said, whoever has heard it",
		Trace:    x.events(),
	})
	k.ended(s)

	option := 0
	if x.send.Err() == unix.ECONNREFUSED {
		option = 1
	}
	k.c.Answer("returned", option, fmt.Sprintf("netlink_broadcast returned %d, netlink_unicast %s, and the send what the second one had",
		x.Ret, labtest.Verdict(x.unicast)))
}

// shoutOf returns the shout that a send became.
func (k *course) shoutOf(s *labtest.Step, send trace.Call) shout {
	for _, x := range k.shouts {
		if same(x.send, send) {
			return x
		}
	}
	s.Fail(labtest.Failure{
		Got:      fmt.Sprintf("the kernel refused to send it: %s", labtest.Verdict(send)),
		Expected: "a message on its way to the members of a group",
		Likely:   "was it refused for what is in its address, or for how long it is?",
		Trace:    []trace.Event{send.Entry, send.Return},
	})
	return shout{}
}

// both: of two groups in one shout, who heard it, and did the sender?
func (k *course) both(s *labtest.Step) {
	low := 2 + rand.IntN(20)
	high := low + 1 + rand.IntN(32-low)
	first, second := low, high
	if rand.IntN(2) == 0 {
		first, second = high, low
	}
	k.start("both", strconv.Itoa(first), strconv.Itoa(second))
	const protocol = unix.NETLINK_USERSOCK

	send := k.sent(s, protocol, fmt.Sprintf("one message on protocol %d to the groups %d and %d", protocol, low, high),
		func(c trace.Call) bool { return mask(c) == bit(low)|bit(high) })
	x := k.shoutOf(s, send)
	listener := map[int]*trace.Socket{}
	for _, q := range k.sockets(protocol, x.Entry) {
		switch in := q.Groups(x.Entry); {
		case q == send.Socket || q.Port == 0 || !trace.Before(q.Bound, x.Entry):
		case slices.Equal(in, []int{low}):
			listener[low] = q
		case slices.Equal(in, []int{high}):
			listener[high] = q
		}
	}
	for _, g := range []int{low, high} {
		if listener[g] != nil {
			continue
		}
		f := labtest.Failure{
			Got:      "there was none when the shout came",
			Expected: fmt.Sprintf("a socket on protocol %d that is a member of group %d and of no other", protocol, g),
			Likely:   "a member of both groups hears the shout in any case. Each of the two groups needs a listener of its own, beside the socket that shouts",
			Trace:    []trace.Event{send.Entry},
		}
		for _, c := range k.memberships(protocol) {
			if c.Err() != nil {
				f.Got, f.Likely = whyNot(c)
			} else if in := c.Socket.Groups(x.Entry); slices.Contains(in, g) && c.Socket.Port == 0 {
				f.Got = fmt.Sprintf("%s is one, but has no port ID", c.Socket)
				f.Likely = "without a port ID a member hears nothing that is sent to port ID 0 as well"
			}
			f.Trace = append(f.Trace, c.Entry)
		}
		s.Fail(f)
	}
	in := send.Socket.Groups(x.Entry)
	s.Expect(slices.Contains(in, low) && slices.Contains(in, high), labtest.Failure{
		Got:      fmt.Sprintf("the socket that shouts is a member of %s", names(in)),
		Expected: fmt.Sprintf("it is a member of group %d and of group %d itself", low, high),
		Likely:   "that a socket does not hear what it is no member for proves nothing about its own shouts",
		Trace:    append(x.events(), k.memberships(protocol).On(send.Socket).Last().Entry),
	})
	for _, q := range []*trace.Socket{listener[low], listener[high], send.Socket} {
		s.Expect(k.asked(q, x.Entry), labtest.Failure{
			Got:      fmt.Sprintf("%s (a member of %s) was not asked after the shout", q, names(q.Groups(x.Entry))),
			Expected: "each of the three sockets is asked what it has heard",
			Likely:   "to know that nothing has come, one has to look. A call that does not wait says so at once: what is heard has been put into the queue when the send returns",
			Trace:    x.events(),
		})
	}
	var want []string
	for _, g := range []int{low, high} {
		if slices.Contains(x.Queued(), listener[g]) {
			want = append(want, strconv.Itoa(g))
		}
	}
	got := k.run.Keys("heard")
	slices.Sort(got)
	slices.Sort(want)
	s.Expect(slices.Equal(got, want), labtest.Failure{
		Got:      fmt.Sprintf("heard=%s", strings.Join(got, ", heard=")),
		Expected: fmt.Sprintf("heard=%s: into no other listener's queue was anything put", strings.Join(want, ", heard=")),
		Likely:   "one line for each listener that has read the shout, with the number of its group, and none for one that has not",
		Trace:    append(x.events(), k.run.Trace.Events(trace.Readable).In(x.send)...),
	})
	s.Reported(k.run, "own", yes(slices.Contains(x.Queued(), send.Socket)), labtest.Failure{
		Expected: fmt.Sprintf("own=%s", yes(slices.Contains(x.Queued(), send.Socket))),
		Likely:   "own= is whether the socket that shouted found its own shout in its queue",
		Trace:    append(x.events(), k.run.Trace.Events(trace.Readable).In(x.send)...),
	})
	k.ended(s)

	option := 3
	switch l, h := slices.Contains(want, strconv.Itoa(low)), slices.Contains(want, strconv.Itoa(high)); {
	case l && h:
		option = 0
	case l:
		option = 1
	case h:
		option = 2
	}
	k.c.Answer("both", option, fmt.Sprintf("nl_groups %#x: the groups %d and %d; netlink_broadcast was called for group %d", mask(send), low, high, x.group))
}

// kernel: a shout that nlecho hears, and one that it does not, and a listener that
// hears both.
func (k *course) kernel(s *labtest.Step) {
	const protocol = labtest.EchoProtocol
	group := 2 + rand.IntN(30)
	replies := 2 + rand.IntN(4)
	k.c.Param("nlecho", "replies", strconv.Itoa(replies))
	k.start("kernel", strconv.Itoa(group))

	messages := k.run.Trace.Messages()
	got := func(c trace.Call) *trace.Message {
		for _, m := range messages {
			if same(m.Call, c) {
				return m
			}
		}
		return nil
	}
	to := func(c trace.Call) bool { return mask(c) == bit(group) }
	first := k.sent(s, protocol, fmt.Sprintf("a message on protocol %d to group %d", protocol, group), to)
	x := k.shoutOf(s, first)
	m := got(first)
	if m == nil || !m.Input.Seen() {
		f := labtest.Failure{
			Got:      "nlecho did not get the first shout",
			Expected: fmt.Sprintf("nlecho gets a message, and beside it dst_group %d", group),
			Likely:   "every message goes to a port too, and one of all ports is the kernel's",
			Trace:    append(x.events(), x.unicast.Entry, x.unicast.Return),
		}
		if m != nil {
			f.Got = "nlecho could not make sense of the first shout"
			f.Likely = "nlecho wants a message with a header whose nlmsg_len is right: lab 1"
			f.Trace = append(f.Trace, m.Reject)
		}
		s.Fail(f)
	}
	var listener *trace.Socket
	for _, q := range x.Queued() {
		if q != first.Socket {
			listener = q
		}
	}
	if listener == nil {
		f := k.strayed(x, protocol, group, func(trace.Call) bool { return true })
		f.Expected = fmt.Sprintf("a listener in group %d hears the first shout", group)
		s.Fail(f)
	}

	// Of the shouts after that, the one that did what was asked for, or else the last.
	var second shout
	var again *trace.Socket // who heard it once
	for _, y := range k.shouts {
		if !to(y.send) || !trace.Before(first.Return, y.Entry) {
			continue
		}
		second, again = y, nil
		copies := map[*trace.Socket]int{}
		for _, q := range slices.Concat(y.Queued(), y.unicast.Queued()) {
			copies[q]++
		}
		for q, n := range copies {
			if n == 1 && q != y.send.Socket && slices.Contains(q.Groups(y.Entry), group) {
				again = q
			}
		}
		if again != nil && got(y.send) == nil {
			break
		}
	}
	f := labtest.Failure{
		Expected: fmt.Sprintf("another shout to group %d, which a member hears once, and nlecho not at all", group),
		Trace:    append(second.events(), second.unicast.Entry, second.unicast.Return),
	}
	switch m := got(second.send); {
	case !second.Seen():
		f.Got = "there was one shout only"
		f.Likely = "the program shouts twice; what did the send say to the first?"
		f.Trace = append(x.events(), x.unicast.Return)
		if other := k.run.Trace.Calls(trace.Sendmsg).After(first.Return).First(); other.Seen() {
			f.Got = fmt.Sprintf("the second message went to %s", names(trace.MaskOf(mask(other))))
			f.Likely = "both are shouts to the group that the program was told; what else is there in an address?"
			f.Trace = []trace.Event{other.Entry, other.Return}
		}
	case m != nil:
		f.Got = "nlecho heard the second shout as well"
		f.Likely = "a copy of each shout goes to a port. What stands in this address that makes it nlecho's?"
		f.Trace = append(f.Trace, m.Input)
	case again == nil:
		f.Got = "no listener heard the second shout"
		f.Likely = "is it still a member, and open?"
	}
	s.Expect(f.Got == "", f)
	f = labtest.Failure{
		Got:      fmt.Sprintf("a shout lies in the queue of %s, and nobody has taken it out", again),
		Expected: "the listener reads both",
		Likely:   "after each shout the queues are looked into",
		Trace:    second.events(),
	}
	if second.send.Err() != nil {
		f.Likely = "after each shout the queues are looked into, whatever the send has said: it speaks of the copy for the port in the address, not of the group"
	}
	s.Expect(k.read(listener, x.Entry) && k.read(again, second.Entry), f)
	for _, y := range []shout{x, second} {
		s.Expect(k.asked(y.send.Socket, y.Entry), labtest.Failure{
			Got:      fmt.Sprintf("%s, which shouted, was not asked what has come back", y.send.Socket),
			Expected: "after each shout the one who shouted looks for replies",
			Likely:   "nlecho answers whoever sent the message",
			Trace:    y.events(),
		})
	}
	answered := 0
	for _, r := range m.Replies {
		if r.Int("ret") > 0 {
			answered++
		}
	}
	k.twice(s, "listener", []string{"1", "1"}, "so many messages were put into its queue",
		"a line after each shout: how many messages the listener has got by it", append(x.events(), second.events()...))
	k.twice(s, "replies", []string{strconv.Itoa(answered), "0"}, "so many times nlecho has answered",
		"a line after each shout: how many messages have come from the kernel, whose port ID is 0; what others send does not count",
		append([]trace.Event{first.Entry, m.Input, m.Done}, second.events()...))
	k.ended(s)

	k.c.Note("netlink_broadcast put the first shout into the queue of the member; then netlink_unicast gave it to nlecho, together with the number of the group")
	if !slices.Contains(second.Queued(), again) {
		k.c.Note("the second shout came to %s as the copy for the port in the address, and not by the group, which leaves this port out", again)
	}
	option := 1
	if trace.Inside(m.Input, x.unicast) {
		option = 2
	}
	k.c.Answer("kernel", option, fmt.Sprintf("nlecho_input came inside netlink_unicast(port 0), after netlink_broadcast had returned, with dst_group=%d", m.Input.Int("dst_group")))
}

// twice compares a key that is reported after each of two shouts.
func (k *course) twice(s *labtest.Step, key string, want []string, why, likely string, evidence []trace.Event) {
	line := func(values []string) string {
		if len(values) == 0 {
			return "no line " + key + "="
		}
		return key + "=" + strings.Join(values, ", then "+key+"=")
	}
	got := k.run.Keys(key)
	s.Expect(slices.Equal(got, want), labtest.Failure{
		Got:      line(got),
		Expected: line(want) + ": " + why,
		Likely:   likely,
		Trace:    evidence,
	})
}

// beyond: nlecho's replies go to a group, one that has no bit in a mask and one that
// has.
func (k *course) beyond(s *labtest.Step) {
	high := 33 + rand.IntN(32)
	replies := rand.Perm(4) // two numbers that differ, so that none is right by luck
	k.news(s, high, 2+replies[0])
	k.news(s, 2+rand.IntN(30), 2+replies[1])
	k.c.Answer("many", 2, fmt.Sprintf("a member of group %d heard what nlecho sent there; nlecho has asked for 64", high))
}

// news judges one run, with nlecho giving so many replies, to that group.
func (k *course) news(s *labtest.Step, group, replies int) {
	const protocol = labtest.EchoProtocol
	k.c.Param("nlecho", "replies", strconv.Itoa(replies))
	k.c.Param("nlecho", "group", strconv.Itoa(group))
	k.start("beyond", strconv.Itoa(group))
	k.c.Param("nlecho", "group", "0")

	greeting := k.sent(s, protocol, "a message to the kernel, on protocol 25",
		func(c trace.Call) bool { to, known := c.To(); return known && to == 0 && c.Err() == nil })
	var m *trace.Message
	for _, x := range k.run.Trace.Messages() {
		if x.Input.Seen() {
			m = x
			break
		}
	}
	s.Expect(m != nil, labtest.Failure{
		Got:      "nlecho could not make sense of the message",
		Expected: "a greeting that nlecho answers",
		Likely:   "nlecho wants a header whose nlmsg_len is right: lab 1",
		Trace:    []trace.Event{greeting.Entry, greeting.Return},
	})
	var answers []shout
	for _, x := range k.shouts {
		if !x.send.Seen() && trace.During(x.Entry, m.Call) && x.group == group {
			answers = append(answers, x)
		}
	}
	if len(answers) == 0 {
		k.c.Fault("nlecho answered to no group")
	}
	var listener *trace.Socket
	for _, q := range k.sockets(protocol, answers[0].Entry) {
		heard := 0
		for _, x := range answers {
			if slices.Contains(x.Queued(), q) {
				heard++
			}
		}
		if heard == len(answers) && k.read(q, answers[0].Entry) {
			listener = q
		}
	}
	if listener == nil {
		f := k.deaf(answers[0], group)
		f.Expected = fmt.Sprintf("a member of group %d hears the %d replies of nlecho, and reads them", group, replies)
		s.Fail(f)
	}
	evidence := []trace.Event{m.Input, answers[0].Entry, answers[0].Return}
	s.Reported(k.run, "news", strconv.Itoa(len(answers)), labtest.Failure{
		Expected: fmt.Sprintf("news=%d: so many were put into the queue of %s", len(answers), listener),
		Likely:   "how many there are, the check sets anew for each run: read until the queue is empty",
		Trace:    evidence,
	})
	s.Reported(k.run, "groups", fmt.Sprint(bit(group)), labtest.Failure{
		Expected: fmt.Sprintf("groups=%d beside a message that was sent to group %d", bit(group), group),
		Likely:   "groups= is nl_groups of the address that came with the first message, as a decimal number, even where you had hoped for another one",
		Trace:    evidence,
	})
	k.ended(s)
}

// deaf says why nobody has heard, or read, what nlecho sent to a group.
func (k *course) deaf(x shout, group int) (f labtest.Failure) {
	const protocol = labtest.EchoProtocol
	f.Trace = []trace.Event{x.Entry, x.Return}
	if q := x.Queued(); len(q) > 0 {
		f.Got = fmt.Sprintf("the replies lie in the queue of %s, and nobody has taken them out", q[0])
		f.Likely = "the program ended before, or read another socket's queue"
		return f
	}
	joins := k.memberships(protocol)
	c := joins.Last()
	f.Trace = append(f.Trace, c.Entry, c.Return)
	switch bound := k.run.Trace.Calls(trace.Bind).Last(); {
	case !c.Seen():
		f.Got = "no socket has joined a group"
		f.Likely = "NETLINK_ADD_MEMBERSHIP is an option of the level SOL_NETLINK"
		if bound.Seen() {
			f.Got = "bind was given nl_groups 0, which is no group"
			f.Likely = fmt.Sprintf("a mask has 32 bits: the one for group %d was shifted out of it", group)
			f.Trace = append(f.Trace, bound.Entry, bound.Return)
		}
	case joins.Failed().Last().Seen():
		c = joins.Failed().Last()
		f.Got, f.Likely = whyNot(c)
		f.Trace = []trace.Event{c.Entry, c.Return}
	case !trace.Before(c.Return, x.Entry):
		f.Got = fmt.Sprintf("%s joined when nlecho had answered already", c.Socket)
		f.Likely = "a shout is heard by those who are members at that moment, and kept for nobody"
	case !slices.Contains(c.Socket.Groups(x.Entry), group):
		f.Got = fmt.Sprintf("%s is a member of %s", c.Socket, names(c.Socket.Groups(x.Entry)))
		f.Likely = "a mask has 32 bits, and none for a group above 32. The other way takes a number"
	case c.Socket.Port == 0 || !trace.Before(c.Socket.Bound, x.Entry):
		f.Got = fmt.Sprintf("%s is a member, but has no port ID, and nothing was put into its queue", c.Socket)
		f.Likely = "nlecho sends to port ID 0 and the group, and a member with that port ID is left out. Which one does a socket have that was never bound?"
	default:
		f.Got = fmt.Sprintf("nothing was put into the queue of %s", c.Socket)
		f.Likely = "is it still open?"
	}
	return f
}

// border: whether a shout crosses from one network namespace into another, by a
// program that can know.
func (k *course) border(s *labtest.Step) {
	k.start("border")
	s.Expect(len(k.shouts) > 0, labtest.Failure{
		Got:      "nobody has shouted",
		Expected: "a shout to a group that has members in two network namespaces",
		Likely:   "the address of a shout has a group in it. What did the send say?",
		Trace:    []trace.Event{k.run.Trace.Calls(trace.Sendmsg).Last().Entry, k.run.Trace.Calls(trace.Sendmsg).Last().Return},
	})

	// The first shout that has what it takes, or else the first.
	var best trial
	for _, x := range k.shouts {
		if !x.send.Seen() {
			continue // nlecho's
		}
		if t := k.try(x); best.have == 0 || t.have == complete {
			best = t
		}
		if best.have == complete {
			break
		}
	}
	f := labtest.Failure{
		Expected: "a shout that a member in the same network namespace and a member in another one could have heard, both of that group and that protocol",
		Trace:    append(best.x.events(), k.moves()...),
	}
	switch {
	case best.here == nil:
		f.Got = fmt.Sprintf("the shout to group %d of protocol %d, by %s, had no listener in its own network namespace", best.x.group, best.x.send.Socket.Protocol, whose(best.x.send.Socket))
		f.Likely = "without one nobody can tell whether it was a shout at all. Who shouts does not hear it"
	case best.there == nil:
		f.Got, f.Likely = k.whyAlone(best.x)
	case !best.asked:
		f.Got = fmt.Sprintf("%s, in the other network namespace, was not asked after the shout", whose(best.there))
		f.Expected = "the member there is asked what it has heard"
		f.Likely = "to know that nothing has come, one has to look"
	case !best.control.Seen():
		f.Got = fmt.Sprintf("no shout was ever put into the queue of %s, the member in the other network namespace", whose(best.there))
		f.Expected = "the same socket hears another shout, so that its silence means something"
		f.Likely = "a socket in the wrong group would have been silent as well. Who could shout so that it must hear?"
		k.uncontrolled(&f, best)
	}
	s.Expect(f.Got == "", f)

	here, there := slices.Contains(best.x.Queued(), best.here), slices.Contains(best.x.Queued(), best.there)
	for _, line := range []struct {
		key, about string
		is         bool
	}{
		{"here", "the member in the namespace of the shout has heard it: " + whose(best.here), here},
		{"there", "the member in the other namespace has heard it: " + whose(best.there), there},
		{"control", "this member has heard the other shout: " + whose(best.there), true},
	} {
		s.Reported(k.run, line.key, yes(line.is), labtest.Failure{
			Expected: fmt.Sprintf("%s=%s: whether %s", line.key, yes(line.is), line.about),
			Likely:   "so it was in the trace. Which queue was looked into, and when?",
			Trace:    append(best.x.events(), best.control.events()...),
		})
	}
	k.ended(s)
	word := "not heard"
	if there {
		word = "heard"
	}
	k.c.Note("a shout was %s by a member in another network namespace, which could hear: another one was put into its queue", word)
}

// uncontrolled says of a trial without a control what the program tried, if it tried
// anything: its last send in the network namespace of the member there, or else its
// last one.
func (k *course) uncontrolled(f *labtest.Failure, t trial) {
	var last trace.Call
	for _, c := range k.run.Trace.Calls(trace.Sendmsg) {
		if !same(c, t.x.send) && (c.Socket.Net == t.there.Net || !last.Seen() || last.Socket.Net != t.there.Net) {
			last = c
		}
	}
	if !last.Seen() {
		return
	}
	f.Trace = append(f.Trace, last.Entry)
	for _, c := range k.run.Trace.Calls(trace.Broadcast, trace.Unicast) {
		if same(c.Outer(), last) {
			f.Trace = append(f.Trace, c.Entry, c.Return)
		}
	}
	f.Trace = append(f.Trace, last.Return)
	switch to, _ := last.To(); {
	case last.Socket == t.there && mask(last) != 0:
		f.Got += ". It has shouted itself"
		f.Likely = "who shouts is left out, as in step 2. Which other socket could shout so that this one must hear?"
	case to != 0 && to == t.there.Port && last.Socket.Net == t.there.Net:
		f.Likely = "what is sent to its port comes by the port: a socket in the wrong group gets it, too, and is silent when somebody shouts. Who could shout so that this one must hear?"
	}
}

// whose names a socket together with its process and descriptor. A port ID alone may be
// that of two sockets, one in each network namespace.
func whose(x *trace.Socket) string {
	return fmt.Sprintf("%s (fd %d of process %d)", x, x.FD, x.PID)
}

// trial is a shout, seen as an experiment about network namespaces.
type trial struct {
	x           shout
	here, there *trace.Socket // members in its own namespace, and in another one
	asked       bool          // the member there was asked afterwards
	control     shout         // that the member there has heard
	have        int           // how much of it there is, from 1 to complete
}

const complete = 5

// try judges a shout as an experiment.
func (k *course) try(x shout) trial {
	best := trial{x: x, have: 1}
	var here *trace.Socket
	var others []*trace.Socket
	for _, q := range k.sockets(x.send.Socket.Protocol, x.Entry) {
		switch {
		case q == x.send.Socket || !slices.Contains(q.Groups(x.Entry), x.group):
		case q.Net != x.send.Socket.Net:
			others = append(others, q)
		case slices.Contains(x.Queued(), q):
			here = q
		}
	}
	if here == nil {
		return best
	}
	best.here, best.have = here, 2
	for _, q := range others {
		t := trial{x: x, here: here, there: q, have: 3, asked: k.asked(q, x.Entry)}
		if t.asked {
			t.have++
			for _, y := range k.shouts {
				if !same(x.Call, y.Call) && slices.Contains(y.Queued(), q) && k.read(q, y.Entry) {
					t.control = y
				}
			}
			if t.control.Seen() {
				t.have++
			}
		}
		if t.have > best.have {
			best = t
		}
	}
	return best
}

// moves returns the events by which threads went into other network namespaces.
func (k *course) moves() []trace.Event {
	var events []trace.Event
	for _, c := range k.run.Trace.Calls("unshare", "setns") {
		if c.Name == "setns" || c.Entry.Uint("unshare_flags")&unix.CLONE_NEWNET != 0 {
			events = append(events, c.Entry)
		}
	}
	return events
}

// whyAlone says why a shout had no member of its group in another network namespace.
func (k *course) whyAlone(x shout) (got, likely string) {
	// Of those in another network namespace, the one that could rather be meant.
	var foreign *trace.Socket
	most := -1
	for _, q := range k.run.Trace.Sockets() {
		if q.Net == x.send.Socket.Net {
			continue
		}
		fits := 0
		if q.Protocol == x.send.Socket.Protocol {
			fits += 4 // groups of other protocols are other groups
		}
		if trace.Before(q.Created, x.Entry) && !trace.Before(q.Released, x.Entry) {
			fits += 2
		}
		if len(q.Groups(x.Entry)) > 0 {
			fits++
		}
		if fits > most {
			foreign, most = q, fits
		}
	}
	switch {
	case foreign == nil && len(k.moves()) == 0:
		return "all sockets are in one network namespace", "who makes a new network namespace, and which thread is in it? Lab 6, step 3"
	case foreign == nil:
		return "a thread went into another network namespace, but all sockets are in one", "a socket belongs to the namespace in which its thread was when it made it. Which thread does a goroutine run on? Lab 6, step 3"
	case foreign.Protocol != x.send.Socket.Protocol:
		return fmt.Sprintf("%s, in the other network namespace, is one of protocol %d; the shout, by %s, was on protocol %d", whose(foreign), foreign.Protocol, whose(x.send.Socket), x.send.Socket.Protocol), "a group is a group of a protocol: another one's members would not hear it in any case"
	case trace.Before(foreign.Released, x.Entry):
		return fmt.Sprintf("%s, in the other network namespace, had been closed when the shout came", whose(foreign)), "who is to hear a shout has to be there"
	case !trace.Before(foreign.Created, x.Entry):
		return fmt.Sprintf("%s, in the other network namespace, was made after the shout", whose(foreign)), "a shout is heard by those who are members at that moment, and kept for nobody"
	}
	return fmt.Sprintf("the shout, by %s, went to group %d of protocol %d; %s, in the other network namespace, was a member of %s then",
			whose(x.send.Socket), x.group, foreign.Protocol, whose(foreign), names(foreign.Groups(x.Entry))),
		"a socket that is in another group would not hear it in any case"
}
