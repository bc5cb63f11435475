// SPDX-License-Identifier: MIT

// Package check judges programs for lab 2.
package check

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

const (
	headerLen = 16   // struct nlmsghdr
	stranger  = 4711 // a port ID that nobody has
)

// The program's five ways, in the order of its sends.
const (
	bySendmsg = iota
	bySendto
	bare
	two
	byLibrary
)

var keys = []string{"sendmsg", "sendto", "bare", "two", "library"}

// talk is one run of the program. Runs differ in greeting and number of replies,
// so a program cannot know either beforehand.
type talk struct {
	greeting string
	replies  int
	run      *labtest.Run
	sends    trace.Calls // netlink_sendmsg on nlecho's protocol, all sockets
}

func TestSendto(t *testing.T) {
	c := labtest.New(t)
	first := hold(c, "Hello, kernel", 2)

	c.Step(1, func(s *labtest.Step) {
		first.base(s)
		first.sameAs(s, bySendto)
		first.read(s, bySendmsg)
		first.read(s, bySendto)
	})
	c.Step(2, func(s *labtest.Step) {
		first.sameAs(s, bare)
		first.read(s, bare)
		c.Note("%s", first.same())
	})
	c.Step(3, func(s *labtest.Step) {
		// One byte more than the socket's send buffer can hold, at least.
		long := "Hello again. "
		tooLong := hold(c, long, 1, "-times", fmt.Sprint(sendBuffer(c)/len(long)+1))
		tooLong.failed(s, unix.EMSGSIZE, 0)
		refused := hold(c, long, 1, "-to", fmt.Sprint(stranger))
		refused.failed(s, unix.EPERM, stranger)
	})
	// Other lengths: a program may have been written around those of the first run.
	var last *talk
	c.Step(4, func(s *labtest.Step) {
		last = hold(c, "Hello, kernel!", 1)
		last.packed(s)
	})
	c.Step(5, func(s *labtest.Step) {
		last.library(s)
		hold(c, "Hello, kernel!!!", 1).library(s)
	})
	first.answer(c)
}

// hold runs the program once.
func hold(c *labtest.Check, greeting string, replies int, options ...string) *talk {
	c.Param("nlecho", "replies", strconv.Itoa(replies))
	c.Param("nlecho", "delay_ms", "0") // pauses are for people who watch
	k := &talk{greeting: greeting, replies: replies}
	k.run = c.Run(append(options, greeting)...)
	k.sends = slices.DeleteFunc(k.run.Trace.Calls(trace.Sendmsg), func(c trace.Call) bool {
		return c.Socket == nil || c.Socket.Protocol != labtest.EchoProtocol
	})
	return k
}

// sendBuffer is how many bytes a socket may have under way, unless it asks for more.
func sendBuffer(c *labtest.Check) int {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		c.Fault("how large is a send buffer? %v", err)
	}
	defer unix.Close(fd)
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		c.Fault("how large is a send buffer? %v", err)
	}
	return n
}

// send returns the program's send of a way, the zero Call where it did not happen.
func (k *talk) send(way int) trace.Call {
	if way >= len(k.sends) {
		return trace.Call{}
	}
	return k.sends[way]
}

// took returns what nlecho made of a send: the messages, and the event that ended
// it early where something was no message.
func (k *talk) took(call trace.Call) (messages []*trace.Message, reject trace.Event) {
	for _, m := range k.run.Trace.Messages() {
		switch {
		case !call.Seen() || m.Call.Entry.Seq != call.Entry.Seq:
		case m.Reject.Seen():
			reject = m.Reject
		default:
			messages = append(messages, m)
		}
	}
	return messages, reject
}

// sent fails the step unless the program sent a datagram in a way, and the kernel
// took it.
func (k *talk) sent(s *labtest.Step, way int) trace.Call {
	call := k.send(way)
	if !call.Seen() {
		f := labtest.Failure{
			Got:      fmt.Sprintf("%s on protocol %d", count(len(k.sends), "send"), labtest.EchoProtocol),
			Expected: fmt.Sprintf("send number %d, the one that the line %s= tells of", way+1, keys[way]),
			Likely:   "a function of the program returned without having sent anything",
		}
		if !k.run.End.OK() {
			f.Likely = "the program came to its end before: what it said is above"
		}
		s.Fail(f)
	}
	if err, failed := call.Err().(syscall.Errno); failed {
		s.Fail(labtest.Failure{
			Got:      fmt.Sprintf("send number %d (%s=) was refused: %s", way+1, keys[way], unix.ErrnoName(err)),
			Expected: "a message for the kernel, which anybody may send",
			Trace:    []trace.Event{call.Entry, call.Return},
			Likely:   "the destination is the port ID that the function is given, and 0 means the kernel; the program's own port ID is no destination",
		})
	}
	return call
}

// base: the frame's own message, which the others are compared with.
func (k *talk) base(s *labtest.Step) *trace.Message {
	call := k.sent(s, bySendmsg)
	messages, reject := k.took(call)
	s.Expect(call.Syscall == "sendmsg" && len(messages) == 1 && !reject.Seen(), labtest.Failure{
		Got:      fmt.Sprintf("a first send by %s, of which nlecho took %s", name(call), count(len(messages), "message")),
		Expected: "one message by sendmsg, which the others are compared with",
		Trace:    []trace.Event{call.Entry, reject, call.Return},
		Likely:   "bySendmsg and message belong to the frame: make lab-2 reset brings them back (and keeps your file)",
	})
	return messages[0]
}

// sameAs: a message came by the call that is the question, and it is the same as
// the first one to the byte.
func (k *talk) sameAs(s *labtest.Step, way int) {
	call := k.sent(s, way)
	first, _ := k.took(k.send(bySendmsg))
	messages, reject := k.took(call)
	evidence := []trace.Event{call.Entry, reject, call.Return}

	switch namelen := call.Entry.Int("namelen"); way {
	case bySendto:
		s.Expect(call.Syscall == "sendto", labtest.Failure{
			Got:      fmt.Sprintf("send number 2 by the system call %s", name(call)),
			Expected: "by sendto",
			Trace:    evidence,
			Likely:   "the question of this step is the call itself. `go doc golang.org/x/sys/unix.Sendto`",
		})
		s.Expect(namelen > 0, labtest.Failure{
			Got:      "a sendto without an address",
			Expected: "the address of the port that bySendto is given",
			Trace:    evidence,
			Likely:   "that comes in step 2. Here sendto is asked to send to a port",
		})
	case bare:
		s.Expect(namelen == 0, labtest.Failure{
			Got:      fmt.Sprintf("send number 3 with an address of %d bytes", namelen),
			Expected: "no address",
			Trace:    evidence,
			Likely:   "an address in which everything is zero is an address too. Which calls can do without one?",
		})
		connect := k.run.Trace.Calls("connect").On(call.Socket).Before(call.Entry).Last()
		s.Expect(!connect.Seen(), labtest.Failure{
			Got:      "an address given by connect, before the send",
			Expected: "no address at all",
			Trace:    []trace.Event{connect.Entry, call.Entry, call.Return},
			Likely:   "connect writes the address down for later. What does the kernel do when it has never been told one?",
		})
	}

	datagram, size := k.sends[bySendmsg].Entry.Int("len"), call.Entry.Int("len")
	f := labtest.Failure{
		Expected: fmt.Sprintf("the datagram of sendmsg once more: %d bytes, CRC %08x", datagram, first[0].Input.Uint("crc")),
		Trace:    evidence,
		Likely:   "the function is given the finished message: it goes out as it is, with nothing before it and nothing behind it",
	}
	switch {
	case size != datagram:
		f.Got = fmt.Sprintf("%d bytes", size)
		s.Fail(f)
	case len(messages) != 1 || reject.Seen():
		f.Got = fmt.Sprintf("%d bytes, but nlecho refuses them", size)
		s.Fail(f)
	}
	why := "another payload"
	if d := differences(first[0], messages[0]); len(d) > 0 {
		why = d[0].String()
	}
	f.Got = fmt.Sprintf("CRC %08x: %s", messages[0].Input.Uint("crc"), why)
	s.Expect(messages[0].Input.Uint("crc") == first[0].Input.Uint("crc"), f)
	k.reported(s, way)
}

// reported: what the program says of a send is what the kernel said to it.
func (k *talk) reported(s *labtest.Step, way int) {
	call := k.send(way)
	f := labtest.Failure{
		Trace:  []trace.Event{call.Entry, call.Return},
		Likely: "what the call returned was not looked at. In Go a call can stand there like a statement, and its error is gone; an `err` further down is then another one",
	}
	want := "ok"
	err, failed := call.Err().(syscall.Errno)
	if failed {
		want = unix.ErrnoName(err)
	}
	switch got, reported := k.run.Key(keys[way]); {
	case !reported:
		f.Likely = "the function returns what the kernel said, and the frame reports it: an error is no reason to end"
	case failed && got != "ok":
		f.Likely = "there is an error, but the kernel's number is no longer in it: what does %w keep that %v or errors.New do not?"
	case !failed:
		f.Likely = "the call went well: which error is it that the function returns?"
	}
	f.Expected = fmt.Sprintf("%s=%s, as the kernel said", keys[way], want)
	s.Reported(k.run, keys[way], want, f)
}

// read: the replies to a send were taken by recvfrom, before the next send.
func (k *talk) read(s *labtest.Step, way int) {
	call, next := k.send(way), k.send(way+1)
	messages, _ := k.took(call)
	reads := k.run.Reads(call.Socket).After(call.Return)
	if next.Seen() {
		reads = reads.Before(next.Entry)
	}
	for _, r := range reads {
		s.Expect(r.Syscall == "recvfrom", labtest.Failure{
			Got:      fmt.Sprintf("a reply was taken by %s", name(r)),
			Expected: "by recvfrom",
			Trace:    []trace.Event{r.Entry, r.Return},
			Likely:   "the question of this lab is the call itself. `go doc golang.org/x/sys/unix.Recvfrom`",
		})
		size := messages[0].Replies.First().Int("ret")
		s.Expect(r.Entry.Int("len") >= size, labtest.Failure{
			Got:      fmt.Sprintf("room for %d bytes", r.Entry.Int("len")),
			Expected: fmt.Sprintf("at least %d: so long is the reply", size),
			Trace:    []trace.Event{r.Entry, r.Return},
			Likely:   "what does not fit is thrown away, and recvfrom does not tell you, unless it is asked with MSG_TRUNC",
		})
	}
	s.Expect(len(reads) == k.replies, labtest.Failure{
		Got:      fmt.Sprintf("%s read after the send by %s", count(len(reads), "reply"), name(call)),
		Expected: fmt.Sprintf("%d, before the next send", k.replies),
		Trace:    []trace.Event{messages[0].Replies.Last(), call.Return, reads.Last().Entry, reads.Last().Return, next.Entry},
		Likely:   "receive is called once for each reply, and takes one message each time",
	})
	texts := k.run.Keys("reply")
	for _, text := range texts {
		got := fmt.Sprintf("%q, %d bytes", labtest.Short(text), len(text))
		if words := strings.TrimRight(text, "\x00"); words != text {
			got = fmt.Sprintf("%q and %d zero bytes", labtest.Short(words), len(text)-len(words))
		}
		s.Expect(text == labtest.EchoText, labtest.Failure{
			Got:      "reply=" + got,
			Expected: fmt.Sprintf("reply=%q, %d bytes", labtest.EchoText, len(labtest.EchoText)),
			Likely:   "as in lab 1: the text begins behind the header, and ends before the first zero byte",
		})
	}
	want := (way + 1) * k.replies
	s.Expect(len(texts) >= want, labtest.Failure{
		Got:      count(len(texts), "line") + " of the form reply=...",
		Expected: fmt.Sprintf("%d, one for each reply so far", want),
		Likely:   "the frame prints a line reply=... for each text that receive returns",
	})
}

// failed: the program was asked for sends that the kernel refuses, and says what
// the kernel said, of each.
func (k *talk) failed(s *labtest.Step, errno syscall.Errno, to uint32) {
	for _, way := range []int{bySendmsg, bySendto, bare} {
		call := k.send(way)
		s.Expect(call.Seen(), labtest.Failure{
			Got:      fmt.Sprintf("%s, then the program's end", count(len(k.sends), "send")),
			Expected: fmt.Sprintf("%s=..., and what the kernel said to it", keys[way]),
			Trace:    []trace.Event{k.sends.Last().Entry, k.sends.Last().Return},
			Likely:   "a send that failed is no reason to end: it is reported, and the next way is tried",
		})
		evidence := []trace.Event{call.Entry, call.Return}
		if port, _ := call.To(); way != bare { // it cannot be asked to send anywhere else
			s.Expect(port == to, labtest.Failure{
				Got:      fmt.Sprintf("%s sent to port %d", name(call), port),
				Expected: fmt.Sprintf("to port %d, as the option -to said", to),
				Trace:    evidence,
				Likely:   "the destination is what the function was given, and not always the kernel",
			})
		}
		s.Expect(call.Err() != nil || errno != unix.EMSGSIZE, labtest.Failure{
			Got:      fmt.Sprintf("%s took %d bytes", name(call), call.Ret),
			Expected: "a message that is longer than the socket can take",
			Trace:    evidence,
			Likely:   "with -times the program says its greeting many times over, in one message",
		})
		k.reported(s, way)
	}
}

// packed: two messages in one datagram, each with the whole greeting and nothing
// but the greeting.
func (k *talk) packed(s *labtest.Step) {
	call := k.sent(s, two)
	messages, reject := k.took(call)
	length := headerLen + len(k.greeting) // what NLMSG_LENGTH says
	space := align(length)                // and NLMSG_SPACE
	evidence := []trace.Event{call.Entry}
	for _, m := range messages {
		evidence = append(evidence, m.Input)
	}
	fail := func(f labtest.Failure) {
		f.Trace = append(evidence, reject, call.Return)
		s.Fail(f)
	}

	for i, m := range messages[:min(2, len(messages))] {
		got := int(m.Input.Int("nlmsg_len"))
		f := labtest.Failure{
			Got:      fmt.Sprintf("nlmsg_len=%d in message %d", got, i+1),
			Expected: fmt.Sprintf("%d: a greeting of %d bytes, and where it ends", length, len(k.greeting)),
		}
		switch {
		case got == space && got != length:
			f.Likely = fmt.Sprintf("the padding is counted: nlecho takes it for %d more bytes of the greeting", got-length)
			fail(f)
		case got > length:
			f.Likely = "this message reaches into the next one: each has a header of its own, and an nlmsg_len that ends before the next begins"
			fail(f)
		case got < length:
			f.Likely = "the message ends before its greeting does"
			fail(f)
		}
		data := m.Data()
		want := append(slices.Clone(data[:headerLen]), k.greeting...)
		if uint64(crc32.ChecksumIEEE(want)) != m.Input.Uint("crc") {
			fail(labtest.Failure{
				Got:      fmt.Sprintf("message %d says %q", i+1, labtest.Short(string(data[headerLen:]))),
				Expected: fmt.Sprintf("%q", labtest.Short(k.greeting)),
				Likely:   "both messages carry the greeting, each behind a header of its own",
			})
		}
	}
	f := labtest.Failure{
		Got:      fmt.Sprintf("nlecho took %s out of %d bytes", count(len(messages), "message"), call.Entry.Int("len")),
		Expected: "two, in one datagram",
		Likely:   "pack is given two greetings, and makes a message of each",
	}
	if at := int(reject.Int("offset")); reject.Seen() {
		f.Got += fmt.Sprintf(", and refused what stands at byte %d", at)
		left, claims := int(reject.Int("skb_len"))-at, int(reject.Int("nlmsg_len"))
		switch {
		case left < headerLen:
			f.Likely = fmt.Sprintf("behind the messages there are %d bytes more, which are neither padding nor a message", left)
		case claims == align(claims) && claims > left && claims <= align(left):
			f.Likely = fmt.Sprintf("nlmsg_len is %d there, and only %d bytes are left: padding was counted that was not sent", claims, left)
		case at == space && len(messages) == 1:
			f.Likely = fmt.Sprintf("the first message ends at byte %d, and the next one is looked for at byte %d: where does it stand?", length, at)
		default:
			f.Likely = "what stands there is no header: count the bytes of the messages before it"
		}
	}
	if len(messages) != 2 || reject.Seen() {
		fail(f)
	}
	k.reported(s, two)
}

// align rounds up to a multiple of 4, as NLMSG_ALIGN does.
func align(n int) int { return (n + 3) &^ 3 }

// library: the library's message has the greeting in it, and the program tells
// which fields of its header differ from those of the first message.
func (k *talk) library(s *labtest.Step) {
	first := k.base(s)
	call := k.sent(s, byLibrary)
	messages, reject := k.took(call)
	evidence := []trace.Event{k.send(bySendmsg).Entry, first.Input, call.Entry, reject, call.Return}
	if len(messages) > 0 {
		evidence = append(evidence, messages[0].Input)
	}
	fail := func(got, expected, likely string) {
		s.Fail(labtest.Failure{Got: got, Expected: expected, Likely: likely, Trace: evidence})
	}
	text := ""
	if len(messages) == 1 && !reject.Seen() {
		text = string(messages[0].Data()[headerLen:])
	}
	if !strings.HasPrefix(text, k.greeting) || len(text) != align(len(k.greeting)) && text != k.greeting {
		fail(fmt.Sprintf("the last message says %q", labtest.Short(text)),
			fmt.Sprintf("%q, sent by the library", k.greeting),
			"netlink.Message has a field for what is behind the header")
	}
	theirs := messages[0]
	differs := differences(first, theirs)
	left := func(name string) bool {
		return slices.ContainsFunc(differs, func(d difference) bool { return d.name == name })
	}
	if left("nlmsg_type") || left("nlmsg_flags") {
		fail(fmt.Sprintf("nlmsg_type=%d, nlmsg_flags=%#x in the last message", theirs.Input.Uint("type"), theirs.Input.Uint("flags")),
			"0 in both, as in the messages made by hand",
			"this is not the library's doing: which field of netlink.Message is filled in by your program, beside the text?")
	}
	if theirs.Input.Uint("pid") != uint64(theirs.PortID()) || !left("nlmsg_seq") || !left("nlmsg_pid") {
		fail(fmt.Sprintf("nlmsg_seq=%d, nlmsg_pid=%d in the last message", theirs.Input.Uint("seq"), theirs.Input.Uint("pid")),
			"a header that the library has filled in",
			"the library fills in what it finds to be zero: leave the header to it")
	}
	k.reported(s, byLibrary)

	var said []string
	for _, name := range fields {
		values := k.run.Keys(name)
		if len(values) == 0 {
			continue
		}
		said = append(said, name)
		i := slices.IndexFunc(differs, func(d difference) bool { return d.name == name })
		if i < 0 {
			f := labtest.Failure{
				Got:      name + "=" + labtest.Short(values[0]),
				Expected: "a line for each field that differs, and for no other",
				Trace:    evidence,
				Likely:   fmt.Sprintf("%s is %d in both messages", name, value(theirs, name)),
			}
			if name == "nlmsg_len" {
				f.Likely += fmt.Sprintf(": this greeting has %d bytes", len(k.greeting))
			}
			s.Fail(f)
		}
		f := labtest.Failure{
			Expected: fmt.Sprintf("%s=%d, which nlecho got", name, differs[i].theirs),
			Trace:    evidence,
			Likely:   "this is not what the library sent. Only what has gone out is filled in: what does Send return?",
		}
		if values[0] == fmt.Sprint(differs[i].ours) {
			f.Likely = "this is the value of the message that was made by hand, or of one that has not been sent yet: what does Send return?"
		}
		s.Reported(k.run, name, fmt.Sprint(differs[i].theirs), f)
	}
	if len(said) != len(differs) {
		got := "no field is reported"
		if len(said) > 0 {
			got = fmt.Sprintf("%s: %s", count(len(said), "field"), strings.Join(said, ", "))
		}
		fail(got, fmt.Sprintf("%d: so many differ", len(differs)),
			"lay the header that the library sent beside that of message: five fields, one by one")
	}
}

// fields are those of struct nlmsghdr, in their order.
var fields = []string{"nlmsg_len", "nlmsg_type", "nlmsg_flags", "nlmsg_seq", "nlmsg_pid"}

// value returns a field of the header that nlecho got.
func value(m *trace.Message, field string) uint64 {
	name := strings.TrimPrefix(field, "nlmsg_")
	if name == "len" {
		name = field // in the event "len" would be the datagram's
	}
	return m.Input.Uint(name)
}

// difference is a field of the header that two messages do not agree in.
type difference struct {
	name         string
	ours, theirs uint64
}

func (d difference) String() string { return fmt.Sprintf("%s is %d, not %d", d.name, d.theirs, d.ours) }

// differences compares the headers of two messages as nlecho got them.
func differences(ours, theirs *trace.Message) []difference {
	var found []difference
	for _, name := range fields {
		if a, b := value(ours, name), value(theirs, name); a != b {
			found = append(found, difference{name, a, b})
		}
	}
	return found
}

// same says by which calls the same message came.
func (k *talk) same() string {
	var calls []string
	for _, way := range []int{bySendmsg, bySendto, bare} {
		calls = append(calls, name(k.send(way)))
	}
	m, _ := k.took(k.send(bySendmsg))
	return fmt.Sprintf("by %s: %d bytes, CRC %08x, each time", strings.Join(calls, ", "), m[0].Input.Uint("nlmsg_len"), m[0].Input.Uint("crc"))
}

// answer tells what the kernel did about the predictions, as far as the first run
// decides them.
func (k *talk) answer(c *labtest.Check) {
	var took [byLibrary + 1]*trace.Message // the first message of each way
	for way := range took {
		if m, reject := k.took(k.send(way)); len(m) > 0 && !reject.Seen() {
			took[way] = m[0]
		}
	}
	if took[bySendmsg] == nil {
		return
	}
	crc := took[bySendmsg].Input.Uint("crc")
	if m := took[bySendto]; m != nil && k.send(bySendto).Syscall == "sendto" && m.Input.Uint("crc") == crc {
		c.Answer("sendto", 0, fmt.Sprintf("netlink_sendmsg both times, %d bytes, CRC %08x both times", m.Input.Uint("nlmsg_len"), crc))
	}
	if call := k.send(bare); took[bare] != nil && call.Entry.Int("namelen") == 0 {
		c.Answer("address", 1, fmt.Sprintf("netlink_unicast was called with port ID 0, after %s without an address", name(call)))
	}
	if m, reject := k.took(k.send(two)); len(m) == 2 && !reject.Seen() {
		length := int(m[0].Input.Int("nlmsg_len"))
		if at := m[1].Input.Int("offset"); length == headerLen+len(k.greeting) {
			c.Answer("padding", 0, fmt.Sprintf("nlecho took the first as %d bytes, and found the second at byte %d", length, at))
		}
	}
	if m := took[byLibrary]; m != nil {
		var names, said []string
		for _, d := range differences(took[bySendmsg], m) {
			names = append(names, d.name)
			said = append(said, fmt.Sprintf("%s %d", d.name, d.theirs))
		}
		if slices.Equal(names, []string{"nlmsg_len", "nlmsg_seq", "nlmsg_pid"}) {
			c.Answer("library", 2, "nlecho_input: "+strings.Join(said, ", "))
		}
	}
}

// name returns the system call behind a call of the kernel's function.
func name(c trace.Call) string {
	if c.Syscall == "" {
		return "a call that is none of the usual ones"
	}
	return c.Syscall
}

// count returns "1 message", "2 messages", "2 replies".
func count(n int, what string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(what, "y"):
		what = strings.TrimSuffix(what, "y") + "ies"
	default:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
