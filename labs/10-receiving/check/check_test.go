// SPDX-License-Identifier: MIT

// Package check judges programs for lab 10.
package check

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

// page is how large the buffer of step 1 is, and the groups are those of step 4. What
// the starter's neighbour sends as "sizes" has two Netlink messages in one: first is how
// long the first of them is.
const (
	page           = 4096
	first          = 4000
	groupA, groupB = 3, 20
)

func TestReceiving(t *testing.T) {
	k := &course{c: labtest.New(t)}
	k.c.Param("nlecho", "delay_ms", "0")
	k.c.Step(1, k.cut)
	k.c.Step(2, k.whole)
	k.c.Step(3, k.forged)
	k.c.Step(4, k.envelope)
	k.c.Step(5, k.filter)
}

// course is the program on its way through the steps. Each is a run of its own.
type course struct {
	c   *labtest.Check
	run *labtest.Run

	socket *trace.Socket // the one that receives
	queue  trace.Calls   // the netlink_unicast calls that have put something into its queue
	reads  trace.Calls   // those that took something out of it
}

// start runs the program for one step. The socket that receives is the first of the
// program's own process that neighbours or the kernel have sent to.
func (k *course) start(s *labtest.Step) {
	k.run = k.c.Run(fmt.Sprint(s.N), fmt.Sprint(rand.Uint32()))
	k.socket, k.queue, k.reads = nil, nil, nil
	for _, x := range k.run.Trace.Sockets() {
		if x.PID != k.run.Trace.PID || x.Protocol != labtest.EchoProtocol || x.Port == 0 {
			continue
		}
		if queue := k.sentTo(x); k.socket == nil || len(k.queue) == 0 && len(queue) > 0 {
			k.socket, k.queue = x, queue
		}
	}
	if k.socket == nil {
		f := labtest.Failure{
			Got:      fmt.Sprintf("no socket of protocol %d that has a port ID", labtest.EchoProtocol),
			Expected: "one that messages can be sent to",
			Likely:   "the program ended before, or prints what it has not tried",
		}
		if refused := k.run.Trace.Calls(trace.Bind).Failed().Last(); refused.Seen() {
			f.Got = "bind " + refused.Err().Error()
			f.Likely = "what is in the address that bind was given?"
			f.Trace = []trace.Event{refused.Entry, refused.Return}
		}
		s.Fail(f)
	}
	k.reads = k.run.Reads(k.socket)
}

// sentTo returns what was put into the queue of a socket.
func (k *course) sentTo(x *trace.Socket) trace.Calls {
	var queue trace.Calls
	for _, c := range k.run.Trace.Calls(trace.Unicast).To(x.Port).OK() {
		if !c.Dropped() && !(c.Socket != nil && c.Socket.Protocol != x.Protocol) && trace.Before(x.Bound, c.Entry) {
			queue = append(queue, c)
		}
	}
	return queue
}

// sent: somebody has sent so many messages to the socket.
func (k *course) sent(s *labtest.Step, what string) {
	if len(k.queue) > 0 {
		return
	}
	f := labtest.Failure{
		Got:      fmt.Sprintf("nobody has sent anything to %s", k.socket),
		Expected: fmt.Sprintf("a neighbour that sends %q to it", what),
		Likely:   "the function neighbour starts one, and needs to know the socket's port ID",
		Trace:    []trace.Event{k.socket.Bound},
	}
	if missed := k.run.Trace.Calls(trace.Sendmsg).Failed(unix.ECONNREFUSED).First(); missed.Seen() {
		to, _ := missed.To()
		f.Got = fmt.Sprintf("a neighbour has sent to port %d, and nobody has that", to)
		f.Likely = "the kernel gave the socket its port ID, and can be asked which"
		f.Trace = append(f.Trace, missed.Entry, missed.Return)
	}
	s.Fail(f)
}

// all: each message of the queue was read, and read by a call of its own.
func (k *course) all(s *labtest.Step) {
	f := labtest.Failure{
		Got:      fmt.Sprintf("%d of %d messages were read", len(k.reads), len(k.queue)),
		Expected: "each of them",
		Likely:   "how many there are nobody has told the program. When is the queue empty, and who says so?",
	}
	if n := len(k.reads); n > 0 {
		f.Trace = []trace.Event{k.reads[n-1].Entry, k.reads[n-1].Return}
	}
	if n := len(k.reads); n < len(k.queue) {
		f.Trace = append(f.Trace, k.queue[n].Entry)
	}
	last := k.run.Trace.Calls(trace.Recvmsg).On(k.socket).Last()
	switch {
	case len(k.reads) == 0 && !last.Seen():
		f.Got, f.Likely = "nothing was read", "the program ended before, or prints what it has not seen"
	case last.Seen() && !last.Returned():
		f.Got += ", and then the program waited for one more"
		f.Trace = []trace.Event{last.Entry}
	case k.panicked() != "":
		f.Likely = k.panicked()
	}
	s.Expect(len(k.reads) >= len(k.queue), f)
	k.waited(s, last)
}

// waited fails the step where all was read, and the program was ended because it waited
// for more: last is its last recvmsg.
func (k *course) waited(s *labtest.Step, last trace.Call) {
	if k.run.End.Stopped == "" || len(k.reads) == 0 {
		return
	}
	read := k.reads[len(k.reads)-1]
	if !trace.Before(read.Return, last.Entry) || last.Returned() && last.Err() == unix.EAGAIN {
		return
	}
	s.Fail(labtest.Failure{
		Got:      fmt.Sprintf("all %d messages were read, and then the program waited for one more, for ever", len(k.reads)),
		Expected: "an end when the queue is empty",
		Likely:   "recvmsg waits until a message is there, and nobody sends one. A flag makes it say at once that there is none",
		Trace:    []trace.Event{read.Entry, read.Return, last.Entry},
	})
}

// panicked explains the most likely death in this lab.
func (k *course) panicked() string {
	if k.said("slice bounds out of range") {
		return "with MSG_TRUNC recvmsg returns how long the message is, and that can be more than the buffer has"
	}
	return ""
}

// said reports whether the program has said so.
func (k *course) said(words string) bool {
	for _, l := range k.run.Lines {
		if strings.Contains(l.Text, words) {
			return true
		}
	}
	return false
}

// reported compares the lines KEY=value, one for each message that was read, with
// what they should be. why says more about message i.
func (k *course) reported(s *labtest.Step, key string, want []string, why func(i int, got string) labtest.Failure) {
	got := k.run.Keys(key)
	for i, w := range want {
		if i >= len(got) {
			break
		}
		if got[i] != w {
			f := why(i, got[i])
			if f.Got == "" {
				f.Got = fmt.Sprintf("%s=%s for message %d", key, labtest.Short(got[i]), i+1)
			}
			if f.Expected == "" {
				f.Expected = fmt.Sprintf("%s=%s", key, w)
			}
			f.Trace = append(f.Trace, k.reads[i].Entry, k.reads[i].Return)
			s.Fail(f)
		}
	}
	if len(got) != len(want) {
		f := labtest.Failure{
			Got:      fmt.Sprintf("%d lines %s=...", len(got), key),
			Expected: fmt.Sprintf("%d: one for each message that was read", len(want)),
			Likely:   "is a line printed for each recvmsg that returned a message, and for no other?",
		}
		if len(got) == 0 {
			f.Got = fmt.Sprintf("no line %s=...", key)
		}
		if len(got) < len(want) {
			i := len(got)
			f.Trace = []trace.Event{k.reads[i].Entry, k.reads[i].Return}
			if more := why(i, "(none)"); more.Likely != "" {
				f.Likely = more.Likely
			}
			f.Likely = cmp.Or(k.panicked(), f.Likely)
		}
		s.Fail(f)
	}
}

// ended: the program came to its end by itself.
func (k *course) ended(s *labtest.Step) {
	s.Expect(k.run.End.OK(), labtest.Failure{
		Got:      "all of it was seen, but the program did not end well",
		Expected: "exit code 0",
		Likely:   "its last words tell why",
	})
}

// length is how many bytes the message had that a call read.
func length(c trace.Call) int64 { return c.Delivery().Ret }

// copied is how many of them the program got.
func copied(c trace.Call) int64 {
	n, _ := c.Copied()
	return int64(n)
}

// cut: each message was read with a buffer of a page, and the program knows which
// were longer.
func (k *course) cut(s *labtest.Step) {
	k.start(s)
	k.sent(s, "sizes")
	for i, c := range k.reads {
		size := c.Entry.Int("len")
		s.Expect(size == page, labtest.Failure{
			Got:      fmt.Sprintf("a buffer of %d bytes for message %d", size, i+1),
			Expected: fmt.Sprintf("%d, for each", page),
			Likely:   "in this step the buffer is meant to be too small for some messages. Each recvmsg gives another message, and never more of the last one",
			Trace:    []trace.Event{c.Entry, c.Return},
		})
	}
	k.all(s)
	var longer, exact trace.Call
	var bytes, cut []string
	for _, c := range k.reads {
		bytes = append(bytes, fmt.Sprint(copied(c)))
		cut = append(cut, fmt.Sprint(copied(c) < length(c)))
		if length(c) > page {
			longer = c
		}
		if length(c) == page {
			exact = c
		}
	}
	s.Expect(longer.Seen() && exact.Seen(), labtest.Failure{
		Got:      "no message that was longer than the buffer, or none that was just as long",
		Expected: "both, and shorter ones: that is what the neighbour of the starter sends",
		Likely:   "the neighbour has been changed",
	})
	k.reported(s, "copied", bytes, func(i int, got string) labtest.Failure {
		f := labtest.Failure{Likely: "copied= is how many bytes of the message are in the buffer"}
		if got == fmt.Sprint(length(k.reads[i])) {
			f.Likely = fmt.Sprintf("so long was the message. How many bytes of it can be in a buffer of %d?", page)
		}
		return f
	})
	said := k.run.Keys("cut")
	k.reported(s, "cut", cut, func(i int, got string) labtest.Failure {
		c := k.reads[i]
		f := labtest.Failure{Expected: fmt.Sprintf("cut=%s: the message had %d bytes, and %d were copied", cut[i], length(c), copied(c))}
		switch {
		case !slices.Contains(said, "true"):
			f.Likely = "recvmsg returned no error, but it returned more than a number"
		case length(c) == page:
			f.Likely = "a message may fill the buffer and be whole. Whether it was cut, recvmsg says elsewhere"
		default:
			f.Likely = "recvmsg says it with each message. Where?"
		}
		return f
	})
	k.ended(s)

	for i, c := range k.reads[:len(k.reads)-1] {
		next := k.reads[i+1]
		if copied(c) < length(c) && next.Delivery().Entry.Seq != c.Delivery().Entry.Seq {
			k.c.Answer("cut", 2, fmt.Sprintf("of %d bytes netlink_recvmsg copied %d, and the next call got another message", length(c), copied(c)))
			return
		}
	}
	if last := k.reads[len(k.reads)-1]; copied(last) < length(last) {
		k.c.Answer("cut", 2, fmt.Sprintf("of %d bytes netlink_recvmsg copied %d, and then the queue was empty", length(last), copied(last)))
	}
}

// whole: each message was read into a buffer that it fills.
func (k *course) whole(s *labtest.Step) {
	k.start(s)
	k.sent(s, "sizes")
	var lengths []string
	for i, c := range k.reads {
		n, size := length(c), c.Entry.Int("len")
		f := labtest.Failure{
			Expected: fmt.Sprintf("a buffer of %d bytes for message %d, as long as the message", n, i+1),
			Trace:    []trace.Event{c.Delivery().Entry, c.Entry, c.Return},
		}
		switch {
		case copied(c) < n:
			f.Got = fmt.Sprintf("a buffer of %d bytes: the rest is lost", size)
			f.Likely = "the length has to be known before the message is taken out of the queue. Can one look at a message and leave it there?"
			if c.Entry.Int("flags")&unix.MSG_TRUNC != 0 {
				f.Likely = "now you know how long it was. But it is gone: which flag leaves it in the queue?"
			}
		case size > (n+3)&^3: // NLMSG_ALIGN, as some libraries do it
			f.Got = fmt.Sprintf("a buffer of %d bytes", size)
			f.Likely = "that is long enough for this one. For the next one it may not be: its length can be asked for"
		}
		s.Expect(f.Got == "", f)
		lengths = append(lengths, fmt.Sprint(n))
	}
	k.all(s)
	k.reported(s, "length", lengths, func(_ int, got string) labtest.Failure {
		f := labtest.Failure{Likely: "length= is the number of bytes of the whole message, header included"}
		if got == fmt.Sprint(first) {
			f.Likely = fmt.Sprintf("%d is the nlmsg_len of the first of two Netlink messages, which came as one. How long both are together no header says: who does?", first)
		}
		return f
	})
	k.ended(s)

	const look = unix.MSG_PEEK | unix.MSG_TRUNC
	for _, c := range k.run.Trace.Calls(trace.Recvmsg).On(k.socket).OK() {
		n, known := c.Copied()
		if known && n == 0 && c.Entry.Int("flags")&look == look {
			k.c.Answer("length", 1, fmt.Sprintf("netlink_recvmsg copied nothing and returned %d; the next call got the message", c.Ret))
			return
		}
	}
}

// forged: the program has taken nlecho's replies for the kernel's, and no others.
func (k *course) forged(s *labtest.Step) {
	k.c.Param("nlecho", "replies", fmt.Sprint(2+rand.IntN(3)))
	k.start(s)
	k.sent(s, "replies")
	m := k.greeting(s)
	k.around(s, m, "replies")
	k.stranger(s)
	k.all(s)

	var want []string
	var stranger *trace.Socket // the first
	for i, c := range k.reads {
		s.Expect(copied(c) == length(c), labtest.Failure{
			Got:      fmt.Sprintf("message %d has %d bytes, and %d were read", i+1, length(c), copied(c)),
			Expected: "each message whole",
			Likely:   "the buffer is too small",
			Trace:    []trace.Event{c.Entry, c.Return},
		})
		sender := c.Sender
		want = append(want, fmt.Sprint(sender == nil))
		if stranger == nil {
			stranger = sender
		}
	}
	k.reported(s, "accepted", want, func(i int, got string) labtest.Failure {
		d := k.reads[i].Delivery()
		from := "the kernel"
		if d.Socket != nil {
			from = d.Socket.String()
		}
		f := labtest.Failure{
			Expected: fmt.Sprintf("accepted=%s: %s has sent it", want[i], from),
			Likely:   "what did you compare? The kernel's messages come from one address, and no neighbour can have that",
			Trace:    []trace.Event{d.Entry},
		}
		if d.Socket != nil {
			f.Likely = "every byte of this message is as nlecho would have written it, nlmsg_pid and nlmsg_seq too. What came with it that the neighbour has not written?"
		}
		return f
	})
	k.ended(s)

	if stranger != nil {
		k.c.Answer("forged", 2, fmt.Sprintf("the program could tell the forged messages: netlink_recvmsg gave it port %d with the first, which was the sender's",
			stranger.Port))
	}
}

// stranger fails the step where the program has ended with a stranger's message, and
// others were behind it.
func (k *course) stranger(s *labtest.Step) {
	n := len(k.reads)
	if n == 0 || n >= len(k.queue) || k.reads[n-1].Sender == nil || k.run.End.Stopped != "" {
		return
	}
	read, next := k.reads[n-1], k.queue[n]
	f := labtest.Failure{
		Got:      fmt.Sprintf("%d of %d messages were read: with one of %s the program ended", n, len(k.queue), read.Sender),
		Expected: "accepted=false for it, and then the next message",
		Likely:   "the kernel's reply is still in the queue. A stranger's message is none of your business, and it is no reason to stop: else anybody could stop you",
		Trace:    []trace.Event{read.Entry, read.Return, next.Entry},
	}
	if !slices.ContainsFunc(k.queue[n:], func(c trace.Call) bool { return k.sending(c).Socket == nil }) {
		f.Likely = "there are more messages in the queue. A stranger's is no reason to stop: else anybody could stop you"
	}
	s.Fail(f)
}

// greeting returns the message with which the program has greeted the kernel by the
// socket that receives.
func (k *course) greeting(s *labtest.Step) *trace.Message {
	for _, m := range k.run.Trace.Messages() {
		if m.Call.Socket == k.socket && m.Input.Seen() {
			return m
		}
	}
	s.Fail(labtest.Failure{
		Got:      fmt.Sprintf("no greeting from %s to the kernel", k.socket),
		Expected: "one: otherwise there is no reply",
		Likely:   "the function greet sends one, by the socket that the reply is to come to",
	})
	return nil
}

// around: neighbours have sent before the greeting and after it.
func (k *course) around(s *labtest.Step, m *trace.Message, what string) {
	var before, after int
	for _, c := range k.run.Trace.Calls(trace.Sendmsg) {
		switch {
		case c.Socket == k.socket:
		case trace.Before(c.Return, m.Call.Entry):
			before++
		case trace.Before(m.Call.Return, c.Entry):
			after++
		}
	}
	f := labtest.Failure{
		Expected: fmt.Sprintf("a neighbour that sends %q, the greeting, and a neighbour once more", what),
		Likely:   "what comes first and what comes last shall not tell who it is from",
		Trace:    []trace.Event{m.Call.Entry, m.Call.Return},
	}
	switch {
	case before == 0:
		f.Got = "no neighbour has sent anything before the greeting"
	case after == 0:
		f.Got = "no neighbour has sent anything after the greeting"
	}
	s.Expect(f.Got == "", f)
}

// envelope: with each message its group and its sender were told, and the program
// says so.
func (k *course) envelope(s *labtest.Step) {
	k.c.Param("nlecho", "replies", fmt.Sprint(2+rand.IntN(3)))
	k.start(s)
	k.sent(s, "letters")
	m := k.greeting(s)
	k.around(s, m, "letters")

	shouts := k.shouts()
	f := labtest.Failure{
		Got:      fmt.Sprintf("%d of %d messages were read", len(k.reads), len(k.queue)+len(shouts)),
		Expected: fmt.Sprintf("each of them: %d were sent to %s, and %d to the groups %d and %d", len(k.queue), k.socket, len(shouts), groupA, groupB),
		Likely:   "does the socket listen to both groups since before the neighbours wrote, and is everything read that has come?",
		Trace:    []trace.Event{k.socket.Bound},
	}
	for _, c := range shouts {
		f.Trace = append(f.Trace, c.Entry)
	}
	if bound := k.run.Trace.Calls(trace.Bind).On(k.socket).OK().Last(); bound.Seen() {
		mask := bound.Entry.Uint("groups")
		if mask != 0 && mask != 1<<(groupA-1)|1<<(groupB-1) {
			f.Got += fmt.Sprintf(", and bind was given the groups %#x", mask)
			f.Likely = "in an address each group is one bit: group 1 is the lowest. What is the number for these two?"
		}
	}
	const room = "what comes beside a message goes into a buffer of its own, the second one of Recvmsg. Has it room for both (unix.CmsgSpace), with all that is around them? MSG_CTRUNC among the flags that come back says that something was left out"
	if k.said("index out of range") {
		f.Likely = room
	}
	s.Expect(len(k.reads) >= len(k.queue)+len(shouts), f)

	var group, pid, uid []string
	for i, c := range k.reads {
		info := c.Told(unix.SOL_NETLINK, unix.NETLINK_PKTINFO)
		creds := c.Told(unix.SOL_SOCKET, unix.SCM_CREDENTIALS)
		f := labtest.Failure{
			Expected: "the group and the sender's credentials beside each message",
			Trace:    []trace.Event{c.Entry, c.Return},
		}
		switch {
		case !info.Seen():
			f.Got = fmt.Sprintf("the kernel gave no group with message %d", i+1)
			f.Likely = "it tells those who have asked for it, by an option of the socket (man 7 netlink)"
		case !creds.Seen():
			f.Got = fmt.Sprintf("the kernel gave no credentials with message %d", i+1)
			f.Likely = "it tells those who have asked for it, by an option of the socket (man 7 unix)"
		}
		s.Expect(f.Got == "", f)
		group = append(group, fmt.Sprint(info.Uint("a")))
		pid = append(pid, fmt.Sprint(creds.Uint("a")))
		uid = append(uid, fmt.Sprint(creds.Uint("b")))
	}
	k.reported(s, "group", group, func(i int, got string) labtest.Failure {
		f := labtest.Failure{Likely: room, Trace: []trace.Event{k.reads[i].Told(unix.SOL_NETLINK, unix.NETLINK_PKTINFO)}}
		switch {
		case got == "0":
			f.Likely = "0 stands for a message that was sent to no group. Where does the number come from that you print? If from the ancillary data: " + room
		case got != "(none)":
			f.Likely = "group= is the number of the group. In an address there is a mask, in the ancillary data the number"
		}
		return f
	})
	for _, key := range []string{"pid", "uid"} {
		want := pid
		if key == "uid" {
			want = uid
		}
		k.reported(s, key, want, func(i int, got string) labtest.Failure {
			f := labtest.Failure{Likely: room, Trace: []trace.Event{k.reads[i].Told(unix.SOL_SOCKET, unix.SCM_CREDENTIALS)}}
			switch {
			case got == "(none)":
			case key == "pid" && got == "0":
				f.Got = fmt.Sprintf("pid=0 for message %d", i+1)
				f.Likely = "process 0 is the kernel, and a variable that nothing was written to. Did the credentials come along? Remember: " + room
			case key == "pid" && got == fmt.Sprint(k.reads[i].Took.Uint("portid")):
				f.Likely = "this is the sender's port ID. Its process ID is in the credentials"
			case want[i] == "0" || want[i] == "65534":
				f.Likely = "this one is the kernel's. Print what the credentials say, whatever you expected"
			default:
				f.Likely = "the credentials are three numbers: process, user and group, in this order"
			}
			return f
		})
	}
	k.ended(s)
	i := slices.Index(pid, "0")
	k.c.Note("the kernel's reply came from process 0 and uid %s; the others from their senders' processes", uid[max(i, 0)])
}

// shouts are what neighbours have sent to one of the two groups.
func (k *course) shouts() trace.Calls {
	var calls trace.Calls
	for _, c := range k.run.Trace.Calls(trace.Sendmsg) {
		mask := c.Entry.Uint("to_groups")
		if c.Socket != k.socket && c.Entry.Int("namelen") >= unix.SizeofSockaddrNetlink && (mask == 1<<(groupA-1) || mask == 1<<(groupB-1)) {
			calls = append(calls, c)
		}
	}
	return calls
}

// filter: a filter has dropped a message, and let another one pass.
func (k *course) filter(s *labtest.Step) {
	k.run = k.c.Run(fmt.Sprint(s.N), fmt.Sprint(rand.Uint32()))
	attached := k.attached(s)
	dropped := k.dropped(s, attached)
	receiver := k.receiver(dropped)

	k.reads = nil
	for _, c := range k.run.Reads(receiver) {
		if trace.Before(attached.Return, c.Entry) {
			k.reads = append(k.reads, c)
		}
	}
	passed := trace.Call{}
	for _, c := range k.run.Trace.Calls(trace.Filter).On(receiver).After(attached.Return) {
		if c.Ret == 0 && c.Returned() {
			passed = c
			break
		}
	}
	f := labtest.Failure{
		Got:      fmt.Sprintf("the filter has let nothing pass: it was asked %s, and dropped each", times(len(k.run.Trace.Calls(trace.Filter).On(receiver)))),
		Expected: "one message that it drops, and one that it lets pass, to the same port",
		Likely:   "a comparison that never holds looks like this. " + order,
		Trace:    append(evidence(attached), k.filtered(receiver)...),
	}
	s.Expect(passed.Seen(), f)
	f.Got, f.Likely, f.Trace = "nothing was read", "what the filter lets pass is in the queue. Is it read?", evidence(passed)
	s.Expect(len(k.reads) > 0, f)

	sent := k.sending(dropped)
	passes := k.passes(s, receiver, attached, sent)
	empty := k.run.Trace.Calls(trace.Recvmsg).On(receiver).After(dropped.Return).Failed(unix.EAGAIN).Last()
	last := k.run.Trace.Calls(trace.Recvmsg).On(receiver).After(dropped.Return).Last()
	f = labtest.Failure{
		Got:      "after that nobody has asked for more",
		Expected: "a recvmsg after the dropped message, until there is nothing more to read",
		Likely:   "whether the receiver is told of it shows only when it reads. It should not wait, or not for ever",
		Trace:    append(evidence(sent), evidence(k.reads[len(k.reads)-1])...),
	}
	if last.Seen() && !last.Returned() {
		f.Got, f.Trace = "the program waited in recvmsg, for ever", append(evidence(sent), last.Entry)
	}
	s.Expect(empty.Seen(), f)

	f = labtest.Failure{
		Expected: fmt.Sprintf("taken=%s: that is what the send returned whose message the filter has dropped", verdict(sent)),
		Likely:   "which of the sends was it, and what did it return? A number of bytes, or the name of an error",
		Trace:    append(evidence(sent), dropped.Entry, dropped.Return),
	}
	if said, _ := k.run.Key("taken"); passes.Seen() && said == verdict(passes) {
		f.Likely = fmt.Sprintf("the message of %s bytes came through, and the other one was dropped. If it was to be this one: where does the filter go on if the comparison holds (Jt), and where if not (Jf)?", said)
		f.Trace = append(f.Trace, evidence(passes)...)
	}
	s.Reported(k.run, "taken", verdict(sent), f)
	s.Reported(k.run, "got", fmt.Sprint(len(k.reads)), labtest.Failure{
		Likely: "got= is how many messages were read from the socket with the filter",
		Trace:  evidence(k.reads[len(k.reads)-1]),
	})
	s.Reported(k.run, "then", "EAGAIN", labtest.Failure{
		Likely: "then= is what the last recvmsg said, which found nothing more",
		Trace:  evidence(empty),
	})
	k.ended(s)

	option := 2
	switch {
	case errors.Is(sent.Err(), unix.EPERM):
		option = 0
	case errors.Is(sent.Err(), unix.ECONNREFUSED):
		option = 1
	case sent.Err() != nil || sent.Ret != sent.Entry.Int("len"):
		return
	}
	k.c.Answer("filter", option, fmt.Sprintf("sk_filter_trim_cap dropped the message, and netlink_sendmsg returned %s", verdict(sent)))
}

// passes returns the first send of which the filter let the message pass; the zero Call if that was the kernel's. Which
// message a filter was to drop only its author knows. So one that passed must have another length: then taken= says
// which was meant.
func (k *course) passes(s *labtest.Step, receiver *trace.Socket, attached, dropped trace.Call) trace.Call {
	var first trace.Call
	for _, c := range k.run.Trace.Calls(trace.Unicast).To(receiver.Port).OK().After(attached.Return) {
		sent := k.sending(c)
		if c.Dropped() || !sent.Seen() || sent.Socket.Protocol != receiver.Protocol {
			continue
		}
		n := sent.Entry.Int("len")
		s.Expect(n != dropped.Entry.Int("len"), labtest.Failure{
			Got:      fmt.Sprintf("one message was dropped and one has passed, and both have %d bytes", n),
			Expected: "two lengths: what taken= says tells then which of them was dropped",
			Likely:   "a filter that drops the wrong one of the two looks just like this. Give them different lengths",
			Trace:    append(evidence(dropped), evidence(sent)...),
		})
		if !first.Seen() {
			first = sent
		}
	}
	return first
}

// order is the mistake that is usually behind a comparison of a filter's that never holds.
const order = "Is the number that it compares with the one that it sees? Of two or four bytes it takes the first as the highest, and a Netlink header has them as this machine does"

// times is how often something happened, in words.
func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

// attached returns the call that gave a socket its filter.
func (k *course) attached(s *labtest.Step) trace.Call {
	var refused trace.Call
	for _, c := range k.run.Trace.Calls("setsockopt") {
		if c.Entry.Int("level") != unix.SOL_SOCKET || c.Socket == nil {
			continue
		}
		if o := c.Entry.Int("optname"); o != unix.SO_ATTACH_FILTER && o != unix.SO_ATTACH_BPF {
			continue
		}
		if c.Err() == nil && c.Returned() {
			return c
		}
		refused = c
	}
	f := labtest.Failure{
		Got:      "no socket was given a filter",
		Expected: "a filter on the socket that receives",
		Likely:   "messages that the program throws away itself have been in its queue already. A filter is an option of the socket (man 7 socket)",
	}
	if refused.Seen() {
		f.Got = "the filter was refused: " + verdict(refused)
		f.Trace = evidence(refused)
		f.Likely = "the kernel looks at a filter's program before it takes it: every path through it ends with a return, and no jump leads out of it"
		if errors.Is(refused.Err(), unix.EPERM) {
			f.Likely = "SO_ATTACH_BPF takes a program of the new kind, which needs a privilege to load. The old kind, classic BPF, is for everybody"
		}
	}
	s.Fail(f)
	return trace.Call{}
}

// dropped returns the first message that went to a port and was dropped there by
// the filter, as the call of it.
func (k *course) dropped(s *labtest.Step, attached trace.Call) trace.Call {
	byKernel := trace.Call{}
	for _, c := range k.run.Trace.Calls(trace.Unicast).After(attached.Return) {
		if !c.Dropped() {
			continue
		}
		if k.sending(c).Seen() {
			return c
		}
		byKernel = c
	}
	f := labtest.Failure{
		Got:      "the filter has dropped nothing",
		Expected: "a message to the port of the socket with the filter, which the filter drops",
		Trace:    append(evidence(attached), k.filtered(attached.Socket)...),
	}
	if n := len(k.run.Trace.Calls(trace.Filter).On(attached.Socket)); n > 0 {
		f.Got += fmt.Sprintf(": it was asked %s, and let each message pass", times(n))
		f.Likely = "a filter ends with how many bytes of a message may pass: all of yours ended with more than none. If there is a BPF_RET with K: 0, the comparison before it has never led there. " + order
	} else {
		f.Got = "the filter has not been asked"
		f.Likely = "was anything sent to this socket's port since it has the filter?"
	}
	if byKernel.Seen() {
		f.Got = "the filter has dropped a message of the kernel's, and none of a program's"
		f.Likely = "the question is what the sender is told, and the kernel tells nobody what it was told. Who else can send to the port?"
	}
	s.Fail(f)
	return trace.Call{}
}

// filtered are the events that show what the filter of a socket was asked, and said.
func (k *course) filtered(x *trace.Socket) []trace.Event {
	var events []trace.Event
	for _, c := range k.run.Trace.Calls(trace.Filter).On(x) {
		if len(events) < 8 {
			events = append(events, c.Entry, c.Return)
		}
	}
	return events
}

// receiver is the socket whose filter has dropped a message.
func (k *course) receiver(dropped trace.Call) *trace.Socket {
	for _, c := range k.run.Trace.Calls(trace.Filter) {
		if trace.Inside(c.Entry, dropped) {
			return c.Socket
		}
	}
	return nil
}

// sending is the netlink_sendmsg of a program that a netlink_unicast is part of; the
// zero Call for one of the kernel's own.
func (k *course) sending(unicast trace.Call) trace.Call {
	for _, c := range k.run.Trace.Calls(trace.Sendmsg) {
		if to, _ := c.To(); trace.Inside(unicast.Entry, c) && to != 0 {
			return c
		}
	}
	return trace.Call{}
}

// evidence are the events of a call.
func evidence(c trace.Call) []trace.Event { return []trace.Event{c.Entry, c.Return} }

// verdict is what a call returned, as the program reports it.
func verdict(c trace.Call) string {
	if c.Err() != nil {
		return labtest.Verdict(c)
	}
	return fmt.Sprint(c.Ret)
}
