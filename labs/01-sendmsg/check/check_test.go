// SPDX-License-Identifier: MIT

// Package check judges programs for lab 1.
package check

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"testing"

	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

const headerLen = 16 // struct nlmsghdr

// talk is one run of the program: what it was told and what came of it. Two runs
// differ in both numbers, so a program cannot know either beforehand.
type talk struct {
	greeting string
	replies  int

	run     *labtest.Run
	sent    trace.Call     // the netlink_sendmsg that went to the kernel
	message *trace.Message // what nlecho made of it
	reads   trace.Calls    // the netlink_recvmsg that took replies out of the queue
}

func TestSendmsg(t *testing.T) {
	c := labtest.New(t)
	first := &talk{greeting: "Hello, kernel", replies: 4}
	first.hold(c)

	c.Step(1, first.addressed)
	c.Step(2, first.described)
	c.Step(3, first.read)
	c.Step(4, first.reported)
	c.Step(5, func(s *labtest.Step) {
		second := &talk{
			greeting: "A longer greeting, to see whether its length is counted, or only known by heart.",
			replies:  2,
		}
		second.hold(c)
		second.addressed(s)
		second.described(s)
		second.read(s)
		second.reported(s)
	})
	first.answer(c)
}

// hold runs the program once.
func (k *talk) hold(c *labtest.Check) {
	c.Param("nlecho", "replies", strconv.Itoa(k.replies))
	c.Param("nlecho", "delay_ms", "0") // pauses are for people who watch
	k.run = c.Run(k.greeting)
}

// addressed: the kernel got one message.
func (k *talk) addressed(s *labtest.Step) {
	k.sent = s.ToKernel(k.run)
}

// described: the message's header is one, the greeting follows it, and the
// program reports what the kernel took.
func (k *talk) described(s *labtest.Step) {
	var taken, refused trace.Event
	for _, m := range k.run.Trace.Messages() {
		if m.Input.Seen() && k.message == nil {
			k.message, taken = m, m.Input
		}
		if m.Reject.Seen() {
			refused = m.Reject
		}
	}
	fail := func(f labtest.Failure) {
		f.Trace = []trace.Event{k.sent.Entry, taken, refused, k.sent.Return}
		s.Fail(f)
	}

	seen := taken
	if !seen.Seen() {
		seen = refused
	}
	datagram, length := uint32(seen.Uint("skb_len")), uint32(seen.Uint("nlmsg_len"))
	whole := uint32(headerLen + len(k.greeting))
	switch {
	case datagram < headerLen:
		fail(labtest.Failure{
			Got:      fmt.Sprintf("%d bytes, which is not even a header", datagram),
			Expected: fmt.Sprintf("a header of %d bytes, and the greeting behind it", headerLen),
			Likely:   "the text was sent as it is. Nobody puts a header before it but the program",
		})
	case refused.Seen() || datagram >= align(length)+4 || length > datagram:
		fail(labtest.Failure{
			Got:      fmt.Sprintf("nlmsg_len=%d in a datagram of %d bytes", length, datagram),
			Expected: fmt.Sprintf("nlmsg_len=%d, where the greeting ends", whole),
			Likely:   k.whyLength(length, datagram),
		})
	}

	data := k.message.Data()
	want := append(slices.Clone(data[:headerLen]), k.greeting...)
	if length >= whole {
		// Zero bytes behind the text do no harm: many programs send a whole buffer.
		want = append(want, make([]byte, length-whole)...)
	}
	if uint64(crc32.ChecksumIEEE(want)) != k.message.Input.Uint("crc") {
		payload := string(data[headerLen:])
		f := labtest.Failure{
			Got:      fmt.Sprintf("the payload %q", labtest.Short(payload)),
			Expected: fmt.Sprintf("%q, the program's argument", labtest.Short(k.greeting)),
			Likely:   "the payload begins right behind the header's 16 bytes, and is what the program was told to say",
		}
		if strings.HasPrefix(k.greeting, payload) {
			f.Got = fmt.Sprintf("a payload of %d bytes, which begins like the greeting", length-headerLen)
			f.Expected = fmt.Sprintf("all of the greeting, %d bytes", len(k.greeting))
			f.Likely = "the message has room for a shorter greeting than this one"
		}
		fail(f)
	}
	s.Reported(k.run, "sent", fmt.Sprint(k.sent.Ret), labtest.Failure{
		Expected: fmt.Sprintf("sent=%d, which sendmsg returned", k.sent.Ret),
		Trace:    []trace.Event{k.sent.Entry, k.sent.Return},
		Likely:   "how much the kernel took, only the kernel knows: what becomes of the number that sendmsg returns?",
	})
}

// align rounds up to a multiple of 4, as NLMSG_ALIGN does. What a datagram has
// behind nlmsg_len, up to there, is padding.
func align(n uint32) uint32 { return (n + 3) &^ 3 }

// whyLength says what mistake makes such an nlmsg_len.
func (k *talk) whyLength(length, datagram uint32) string {
	text := make([]byte, 4)
	copy(text, k.greeting)
	turned := bits.ReverseBytes32(length)
	switch {
	case length == binary.NativeEndian.Uint32(text):
		return fmt.Sprintf("these four bytes are the letters %q: where nlecho looks for a header, the text begins", text)
	case length > datagram && turned <= datagram:
		return fmt.Sprintf("the same four bytes, read from the other end, are %d: a header never leaves the machine, so whose order of bytes should it have?", turned)
	case length == 0:
		return "the header is there, but nobody has filled it in"
	case length == datagram-headerLen:
		return "this is the length of the payload. Count from where nlecho begins to read"
	case length > datagram:
		return "nlmsg_len promises more than was sent"
	}
	return "there is more in the datagram than nlmsg_len says, and nlecho takes the rest for another message"
}

// read: the program took every reply out of the queue, and whole.
func (k *talk) read(s *labtest.Step) {
	var queued trace.Events
	for _, e := range k.message.Replies {
		if e.Int("ret") > 0 {
			queued = append(queued, e)
		}
	}
	socket := k.sent.Socket
	k.reads = k.run.Reads(socket)
	for i, r := range k.reads[:min(len(k.reads), len(queued))] {
		size := queued[i].Int("ret")
		s.Expect(r.Ret >= size && r.Entry.Int("len") >= size, labtest.Failure{
			Got:      fmt.Sprintf("room for %d bytes", r.Entry.Int("len")),
			Expected: fmt.Sprintf("at least %d: so long is the reply", size),
			Trace:    []trace.Event{r.Entry, r.Return},
			Likely:   "what does not fit is thrown away: the next recvmsg gives the next message, not the rest of this one",
		})
	}

	f := labtest.Failure{
		Got:      fmt.Sprintf("%d of %d replies were read", len(k.reads), k.replies),
		Expected: fmt.Sprintf("%d: the kernel keeps each one until somebody reads it", k.replies),
		Trace:    []trace.Event{queued.Last(), k.reads.Last().Entry, k.reads.Last().Return, socket.Closed},
		Likely:   "the program stops too early. How many replies there are, nlecho says in /sys/module/nlecho/parameters/replies",
	}
	late := k.run.Trace.Calls("recvmsg", "recvfrom", "recvmmsg").After(socket.Closed).First()
	switch {
	case len(queued) < k.replies:
		f.Got = fmt.Sprintf("%d replies reached the socket", len(queued))
		f.Expected = fmt.Sprint(k.replies)
		f.Likely = "the socket was closed while the kernel still answered"
	case len(k.reads) == 0 && late.Seen():
		f.Got = "the socket was closed before anything was read"
		f.Likely = "the replies lie in the socket's queue, and go with it: when is it safe to close?"
		f.Trace = []trace.Event{queued.Last(), socket.Closed, late.Entry, late.Return}
	case len(k.reads) == 0:
		f.Likely = "nobody has asked the kernel for the replies: what is printed was not read"
	}
	s.Expect(len(k.reads) == k.replies, f)

	more := k.run.Trace.Calls(trace.Recvmsg).On(socket).After(k.reads.Last().Return).First()
	s.Expect(!more.Seen() || k.run.End.OK(), labtest.Failure{
		Got:      fmt.Sprintf("all %d replies were read, and then one more was waited for", k.replies),
		Expected: "an end after the last reply",
		Trace:    []trace.Event{k.reads.Last().Return, more.Entry, more.Return},
		Likely:   "the program takes a number of replies for granted. nlecho says how many there are in /sys/module/nlecho/parameters/replies",
	})
}

// reported: what the program says is what was seen.
func (k *talk) reported(s *labtest.Step) {
	for _, key := range []string{"reply", "bytes", "from"} {
		n := len(k.run.Keys(key))
		s.Expect(n == k.replies, labtest.Failure{
			Got:      fmt.Sprintf("%d lines %s=...", n, key),
			Expected: fmt.Sprintf("%d, one for each reply", k.replies),
			Likely:   "for each reply the program prints a line bytes=..., a line from=... and a line reply=...",
		})
	}
	for _, text := range k.run.Keys("reply") {
		f := labtest.Failure{
			Got:      fmt.Sprintf("reply=%q, %d bytes", labtest.Short(text), len(text)),
			Expected: fmt.Sprintf("reply=%q, %d bytes", labtest.EchoText, len(labtest.EchoText)),
			Likely:   "the text is not the one that was received",
		}
		i := slices.Index([]byte(text), 0)
		switch {
		case strings.HasPrefix(text, k.length(0)):
			f.Likely = "this is the beginning of the header: where does the payload begin?"
		case i >= 0:
			f.Likely = fmt.Sprintf("from byte %d on there are zeros, which a terminal does not show. A C string ends at the first of them; where does a Go string end?", i)
		}
		s.Expect(text == labtest.EchoText, f)
	}
	for i, bytes := range k.run.Keys("bytes") {
		r := k.reads[i]
		s.Expect(bytes == fmt.Sprint(r.Ret), labtest.Failure{
			Got:      "bytes=" + labtest.Short(bytes),
			Expected: fmt.Sprintf("bytes=%d, which recvmsg returned", r.Ret),
			Trace:    []trace.Event{r.Entry, r.Return},
			Likely:   "the size of the buffer, or of the text, is not the size of the message",
		})
	}
	for i, from := range k.run.Keys("from") {
		f := labtest.Failure{
			Got:      "from=" + labtest.Short(from),
			Expected: "from=0: it was nlecho that sent it, and its port is the kernel's",
			Trace:    []trace.Event{k.message.Replies[i], k.reads[i].Return},
			Likely:   "the address that recvmsg returns beside the data tells who sent it",
		}
		if from == fmt.Sprint(int32(k.sent.Socket.Port)) {
			f.Likely = fmt.Sprintf("port %s got the reply, it did not send it. The number in the reply's header is not the sender's address", from)
		}
		s.Expect(from == "0", f)
	}
	s.Expect(k.run.End.OK(), labtest.Failure{
		Got:      "everything was reported, but the program did not end well",
		Expected: "exit code 0",
		Likely:   "its last words tell why",
	})
}

// length is the beginning of reply i, as text: its nlmsg_len, without the zeros.
func (k *talk) length(i int) string {
	b := binary.NativeEndian.AppendUint32(nil, uint32(k.message.Replies[i].Int("ret")))
	return strings.Trim(string(b), "\x00")
}

// answer tells what the kernel did about the predictions, as far as this run
// decides them: a program may send padding, or write its port ID into the header.
func (k *talk) answer(c *labtest.Check) {
	if k.message != nil {
		in, socket := k.message.Input, k.sent.Socket
		to, _ := k.sent.To()
		if to == 0 {
			c.Answer("destination", 0, "netlink_unicast was called with port ID 0, and nlecho_input followed")
		}
		if in.Uint("nlmsg_len") == uint64(headerLen+len(k.greeting)) {
			c.Answer("length", 1, fmt.Sprintf("nlecho took %d bytes for a greeting of %d", in.Uint("nlmsg_len"), len(k.greeting)))
		}
		if in.Uint("pid") != in.Uint("portid") {
			c.Answer("header", 2, fmt.Sprintf("nlecho_input: portid=%d by the kernel's word, nlmsg_pid=%d in the header", in.Uint("portid"), in.Uint("pid")))
		}
		a := "bind"
		if socket.Auto {
			a = "chosen by the kernel"
		}
		c.Note("addresses: A (%s) %d, B (destination) %d, C (header) %d; nlecho knew the sender as %d",
			a, socket.Port, to, in.Uint("pid"), in.Uint("portid"))
	}
	if from := k.run.Keys("from"); len(k.reads) > 0 && len(from) == k.replies && from[0] == "0" {
		c.Answer("sender", 1, fmt.Sprintf("nlecho sent to port %d, and recvmsg returned the address %s", k.message.Replies[0].Uint("to"), from[0]))
	}
}
