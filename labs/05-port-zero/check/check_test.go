// SPDX-License-Identifier: MIT

// Package check judges programs for lab 5.
package check

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

// postmortem is what the student found out about the crash.
type postmortem struct {
	Levels      int    `toml:"levels"`
	BytesALevel int    `toml:"bytes_a_level"`
	EndedBy     string `toml:"ended_by"`
	AnswersTo   int    `toml:"answers_to"`
	AnswersMet  string `toml:"answers_met"`
	Decides     string `toml:"decides"`
}

const file = "postmortem.toml"

func TestPortZero(t *testing.T) {
	c := labtest.New(t)
	if c.Lab.Boot == "crash" {
		c.RunHeld("crash")
		return
	}
	crash := c.Earlier("crash")
	c.Step(1, func(s *labtest.Step) { died(s, crash) })
	c.Step(2, func(s *labtest.Step) { explained(c, s, crash) })
	c.Step(3, func(s *labtest.Step) { survived(c, s) })
	c.Step(4, func(s *labtest.Step) { answered(c, s) })
	c.Step(5, func(s *labtest.Step) { decided(c, s) })
}

// guardPage are the words of a kernel whose stack has come to its end: on x86, 5.10
// and later, and on arm64.
var guardPage = regexp.MustCompile(`BUG: (TASK )?stack guard page was hit|Insufficient stack space to handle exception`)

// lastWord is what a kernel says when it dies, whatever the reason.
var lastWord = regexp.MustCompile(`(BUG: |Unable to handle |Kernel panic - not syncing: ).*`)

// died: the kernel died, by the recursion and by nothing else.
func died(s *labtest.Step, crash *labtest.Boot) {
	run := crash.Run
	r := run.Trace.Recursion()
	switch {
	case crash.Verdict == "done":
		lived(s, run)
	case crash.Verdict != "kernel panic" || !guardPage.MatchString(crash.Console) || r.Levels < 2:
		s.Fail(labtest.Failure{
			Got:      strings.TrimSpace(fmt.Sprintf("%s, at level %d of the recursion: %s", crash.Verdict, r.Levels, lastWord.FindString(crash.Console))),
			Expected: "a panic because the input callback calls itself until the stack is full",
			Trace:    []trace.Event{r.Inputs.First(), r.Inputs.Last()},
			Likely:   "one message is enough for it, and one socket",
		})
	}
	// The deepest level that was seen is the one above the end of the stack.
	last := r.Inputs.Last()
	left, size := last.Uint("stack_left"), last.Uint("stack_size")
	s.Expect(left < size/4, labtest.Failure{
		Got:      fmt.Sprintf("a panic at level %d, with %d of %d bytes of the stack left", r.Levels, left, size),
		Expected: "a recursion down to the end of the stack",
		Trace:    []trace.Event{r.Inputs.First(), last},
		Likely:   "something else was sent while the kernel was busy with itself",
	})
	first := run.Trace.Messages()[0].Call
	s.Expect(!first.Returned(), labtest.Failure{
		Got:      "the kernel died of a later message, not of the first",
		Expected: "one message",
		Trace:    []trace.Event{first.Entry, first.Return, r.Inputs.First()},
		Likely:   "crash sends one message; the others belong to survive and experiment",
	})
}

// lived fails because the kernel has survived crash.
func lived(s *labtest.Step, run *labtest.Run) {
	messages := run.Trace.Messages()
	if len(messages) == 0 {
		s.ToKernel(run) // fails, and knows why
	}
	f := labtest.Failure{
		Got:      "the kernel lives",
		Expected: "a message that nlecho answers to itself",
		Likely:   "nlecho answers to the port ID that it finds in the header. Which one is its own?",
	}
	if len(messages) == 0 {
		s.Fail(f)
	}
	m := messages[0]
	to := m.Input.Uint("to")
	f.Trace = []trace.Event{m.Call.Entry, m.Input, m.Reject, m.Replies.First()}
	switch {
	case m.Reject.Seen():
		f.Got = "nlecho refused the message"
		f.Likely = "nlmsg_len counts from the first byte of the header to the last one of the payload (lab 1)"
	case m.Input.Uint("to") == m.Input.Uint("portid"):
		f.Got = fmt.Sprintf("nlecho answered to port %d, which is the program's own: the kernel lives", to)
	case to != 0:
		f.Got = fmt.Sprintf("nlecho answered to port %d: the kernel lives", to)
	}
	s.Fail(f)
}

// explained: the postmortem says what the crash of this check has shown.
func explained(c *labtest.Check, s *labtest.Step, crash *labtest.Boot) {
	var pm postmortem
	s.TOML(file, &pm)
	r := crash.Run.Trace.Recursion()
	first, last := r.Inputs.First(), r.Inputs.Last()
	if r.BytesALevel == 0 {
		c.Fault("the levels of the recursion take different numbers of bytes: %v", r.Inputs)
	}
	c.Answer("end", 2, fmt.Sprintf("level %d had %d bytes of the stack left, and one more did not fit", r.Levels, last.Uint("stack_left")))

	if pm.Levels == 0 && pm.BytesALevel == 0 && pm.EndedBy == "" {
		s.NotDone(file + ", beside main.go, has no numbers yet. events.log, which this check has written, shows each level: look for nlecho_input")
	}
	evidence := []trace.Event{first, r.Inputs[1], last}
	f := labtest.Failure{
		Got:      fmt.Sprintf("levels = %d", pm.Levels),
		Expected: "as many as this check's crash had: its events.log shows them",
		Trace:    evidence,
		Likely:   "the numbers of another run: each kernel, and each program, has its own. events.log is that of this check now",
	}
	switch {
	case pm.Levels == r.Levels-1:
		f.Likely = "the first level is the program's own message, which nlecho got at depth 1: the recursion counts from there"
	case pm.Levels == r.Levels+1:
		f.Likely = "the level that did not fit any more was never entered"
	case pm.Levels == int(last.Uint("stack_size"))/r.BytesALevel:
		f.Likely = "the whole stack divided by a level's bytes: but it was not empty when the first level began, and the last one still called other functions"
	}
	s.Expect(pm.Levels == r.Levels, f)

	f = labtest.Failure{
		Got:      fmt.Sprintf("bytes_a_level = %d; level 1 had %d bytes of the stack left, level 2 %d", pm.BytesALevel, first.Uint("stack_left"), r.Inputs[1].Uint("stack_left")),
		Expected: "how many bytes less are left of the stack at each level than at the one before",
		Trace:    evidence,
		Likely:   "stack_left stands in events.log: compare it on two levels, one behind the other",
	}
	switch pm.BytesALevel {
	case 1040:
		f.Likely = "1040 bytes is the length of a reply, and that is not on the stack: compare stack_left on two levels, one behind the other"
	case r.BytesALevel * 8:
		f.Likely = "these are bits"
	case r.BytesALevel / 8:
		f.Likely = "these are words of 8 bytes"
	case int(last.Uint("stack_size")) / r.Levels:
		f.Likely = "the whole stack divided by the levels: but some of it was in use before the first level, and some is needed below the last"
	case int(first.Uint("stack_left")) / r.Levels, int(first.Uint("stack_left")) / (r.Levels - 1):
		f.Likely = "the last level had something left of the stack too: compare stack_left on two levels, one behind the other"
	}
	s.Expect(pm.BytesALevel == r.BytesALevel, f)

	f = labtest.Failure{
		Got:      fmt.Sprintf("ended_by = %q", labtest.Short(pm.EndedBy)),
		Expected: `one of "endless loop", "deadlock", "out of memory", "guard page", "watchdog"`,
		Likely:   "the kernel's first line of complaint, in console.log, says it: look for BUG",
	}
	switch pm.EndedBy {
	case "endless loop":
		f.Likely = "a loop would still be running: the kernel says itself, in console.log, what it ran into"
	case "deadlock":
		f.Likely = "a deadlock is silent: everybody waits. This kernel made one step after the other, until the last line of console.log"
	case "out of memory":
		f.Likely = "one kind of memory was used up indeed, but not the one that the out-of-memory killer watches over: console.log has the kernel's own words"
	case "watchdog":
		f.Likely = "no clock was involved: console.log has the kernel's own words"
	}
	s.Expect(pm.EndedBy == "guard page", f)
	c.Note("%d levels of %d bytes, on a stack of %d", r.Levels, r.BytesALevel, last.Uint("stack_size"))
}

// survived: A is 0, C is nobody's, and the answers are refused.
func survived(c *labtest.Check, s *labtest.Step) {
	c.Param("nlecho", "replies", "2")
	run := roped(c, "survive")
	if r := run.Trace.Recursion(); r.Levels > 1 {
		s.Fail(labtest.Failure{
			Got:      "nlecho answered itself again (the check has stopped it at the third level)",
			Expected: "answers that go somewhere else",
			Trace:    r.Inputs,
			Likely:   "C is still 0 in this message",
		})
	}
	sent := s.ToKernel(run)
	m := run.Trace.Messages()[0]
	s.Expect(!m.Reject.Seen(), labtest.Failure{
		Got:      "nlecho refused the message",
		Expected: "a whole message",
		Trace:    []trace.Event{sent.Entry, m.Reject},
		Likely:   "nlmsg_len counts from the first byte of the header to the last one of the payload (lab 1)",
	})
	socket := sent.Socket
	s.Expect(socket.Auto, labtest.Failure{
		Got:      fmt.Sprintf("A is %d, by the program's own choice", socket.Port),
		Expected: "A is 0, as in crash: the kernel chooses",
		Trace:    []trace.Event{socket.Bound, m.Input},
		Likely:   "two things differ from crash, and then nobody knows which of them saved the kernel",
	})
	to := m.Input.Uint("to")
	s.Expect(to != m.Input.Uint("portid"), labtest.Failure{
		Got:      fmt.Sprintf("C is %d, the program's own port ID, and the replies arrived", to),
		Expected: "C is 100, which nobody has",
		Trace:    []trace.Event{m.Input, m.Replies.First()},
		Likely:   "that is a well-behaved program. The question was what becomes of answers that nobody waits for",
	})
	for _, e := range m.Replies {
		s.Expect(e.Int("ret") == -int64(unix.ECONNREFUSED), labtest.Failure{
			Got:      fmt.Sprintf("the answer to port %d was delivered", to),
			Expected: "an answer to a port ID that nobody has",
			Trace:    []trace.Event{m.Input, e},
			Likely:   "a socket of the program has this port ID",
		})
	}
	port, _ := run.Key("port")
	if port != fmt.Sprint(int32(socket.Port)) { // a negative one may be read either way
		f := labtest.Failure{
			Expected: fmt.Sprintf("port=%d, which the kernel has chosen", socket.Port),
			Trace:    []trace.Event{socket.Bound},
			Likely:   "the kernel knows: it can be asked for a socket's own address",
		}
		if port == "0" {
			f.Likely = "0 is what was asked for. What the socket has got, only the kernel knows: it can be asked for a socket's own address"
		}
		s.Reported(run, "port", fmt.Sprint(socket.Port), f)
	}
	// The process ID is the kernel's first choice, so the number alone proves nothing.
	asked := run.Trace.Calls("getsockname").On(socket).OK().After(socket.Bound)
	s.Expect(len(asked) > 0, labtest.Failure{
		Got:      fmt.Sprintf("port=%s, but the program has not asked the socket since it got this number", port),
		Expected: "a question for the socket's own address, and the answer",
		Trace:    []trace.Event{socket.Bound, sent.Entry, sent.Return},
		Likely:   "this is the process ID: the kernel tries that first, and takes another number where somebody has it already (lab 3)",
	})
	s.Expect(run.End.OK(), labtest.Failure{
		Got:      "everything was sent and reported, but the program did not end well",
		Expected: "exit code 0",
		Likely:   "nobody answers this message: who waits for a reply waits in vain",
	})
	c.Answer("own", 1, fmt.Sprintf("bound to 0, the socket has the port ID %d", socket.Port))

	var pm postmortem
	s.TOML(file, &pm)
	if pm.AnswersTo == 0 && pm.AnswersMet == "" {
		s.NotDone("the program is right. " + file + " has no answers_to and answers_met yet: make lab-5 run ARGS=survive shows both")
	}
	s.Expect(pm.AnswersTo == int(to), labtest.Failure{
		Got:      fmt.Sprintf("answers_to = %d", pm.AnswersTo),
		Expected: "the port ID that nlecho sent its answers to in this run",
		Trace:    m.Replies,
		Likely:   "where a message goes is not where it came from, nor what its sender is bound to",
	})
	f := labtest.Failure{
		Got:      fmt.Sprintf("answers_met = %q", labtest.Short(pm.AnswersMet)),
		Expected: "the name of the error that netlink_unicast returned to nlecho",
		Trace:    m.Replies,
		Likely:   "look for its name, E and more capitals, in the kernel's lane of the timeline, not in the program's: its own calls have succeeded",
	}
	met := strings.TrimPrefix(strings.TrimSpace(pm.AnswersMet), "-")
	if _, err := strconv.Atoi(met); err == nil {
		f.Likely = "an error goes by its name here, E and more capitals, as in the timeline of make lab-5 run ARGS=survive"
	}
	refused := unix.ECONNREFUSED
	s.Expect(strings.EqualFold(met, unix.ErrnoName(refused)) || strings.EqualFold(met, refused.Error()), f)
}

// answered: with reply_to=sender the program of step 1 gets its replies.
func answered(c *labtest.Check, s *labtest.Step) {
	const replies = 4
	c.Param("nlecho", "reply_to", "sender")
	c.Param("nlecho", "replies", strconv.Itoa(replies))
	c.Param("nlecho", "hold", "0")
	c.Param("nlecho", "delay_ms", "0")
	run := c.Run("crash")
	sent := s.ToKernel(run)
	m := run.Trace.Messages()[0]
	s.Expect(m.Input.Uint("pid") == 0, labtest.Failure{
		Got:      fmt.Sprintf("nlmsg_pid is %d", m.Input.Uint("pid")),
		Expected: "0: the same message that was deadly in step 1",
		Trace:    []trace.Event{m.Input},
		Likely:   "it is nlecho that has changed, not the program",
	})
	reads := run.Reads(sent.Socket)
	f := labtest.Failure{
		Got:      fmt.Sprintf("%d of %d replies were read", len(reads), replies),
		Expected: fmt.Sprintf("%d: nlecho sent them to the program's socket", replies),
		Trace:    []trace.Event{m.Input, m.Replies.First(), m.Replies.Last(), reads.Last().Return, sent.Socket.Closed},
		Likely:   "crash has never come to the point of reading replies, until now. How many there are, nlecho says in /sys/module/nlecho/parameters/replies",
	}
	s.Expect(len(reads) == replies, f)
	said := run.Keys("reply")
	s.Expect(len(said) == replies, labtest.Failure{
		Got:      fmt.Sprintf("%d lines reply=...", len(said)),
		Expected: fmt.Sprintf("%d, one for each reply", replies),
		Likely:   "for each reply the program prints a line reply=...",
	})
	for _, text := range said {
		s.Expect(text == labtest.EchoText, labtest.Failure{
			Got:      fmt.Sprintf("reply=%q, %d bytes", labtest.Short(text), len(text)),
			Expected: fmt.Sprintf("reply=%q, %d bytes", labtest.EchoText, len(labtest.EchoText)),
			Likely:   "the text begins behind the header and ends before the first zero byte (lab 1)",
		})
	}
	s.Expect(run.End.OK(), labtest.Failure{
		Got:      "all replies were read, but the program did not end well",
		Expected: "exit code 0",
		Likely:   "its last words tell why",
	})
}

// observation is one message of the experiment and what came of it.
type observation struct {
	a, c    string // 0, or another number
	got     uint32 // the port ID that the socket had
	recurse bool
	input   trace.Event
}

// same reports whether the student has done the same twice, and seen the same.
func (o observation) same(p observation) bool {
	return o.a == p.a && o.c == p.c && o.recurse == p.recurse
}

func (o observation) String() string {
	what := "no recursion"
	if o.recurse {
		what = "recursion"
	}
	return fmt.Sprintf("A=%s C=%s: %s", o.a, o.c, what)
}

// precise is String with the port ID that a socket with A = 0 has got, by which it is
// found in the trace.
func (o observation) precise() string {
	if o.a == "0" {
		o.a = fmt.Sprintf("0 (port %d)", o.got)
	}
	return o.String()
}

// decided: the student's experiment tells A from C, and so does the postmortem.
func decided(c *labtest.Check, s *labtest.Step) {
	c.Param("nlecho", "reply_to", "header")
	c.Param("nlecho", "replies", "1")
	run := roped(c, "experiment")
	inputs := run.Trace.Events(trace.EchoInput)
	var seen []observation
	for _, m := range run.Trace.Messages() {
		if !m.Input.Seen() || !m.Call.Seen() || m.Input.Int("depth") != 1 {
			continue
		}
		port := m.Call.Socket.Port
		o := observation{a: fmt.Sprint(int32(port)), c: fmt.Sprint(int32(m.Input.Uint("pid"))), got: port, input: m.Input}
		if m.Call.Socket.Auto {
			o.a = "0"
		}
		o.recurse = len(inputs.In(m.Call).Where("depth", 2)) > 0
		seen = append(seen, o)
	}
	if len(seen) == 0 {
		s.ToKernel(run) // fails, and knows why
	}
	var told, precise []string
	var evidence []trace.Event
	recursed := 0
	if len(seen) == 0 {
		s.Fail(labtest.Failure{
			Got:      "nlecho has taken none of the messages",
			Expected: "whole messages",
			Likely:   "nlmsg_len counts from the first byte of the header to the last one of the payload (lab 1)",
		})
	}
	for i, o := range seen {
		if !slices.ContainsFunc(seen[:i], o.same) {
			told = append(told, o.String())
			precise = append(precise, o.precise())
			evidence = append(evidence, o.input)
		}
		if o.recurse {
			recursed++
		}
	}
	f := labtest.Failure{
		Got:      strings.Join(precise, "; "),
		Expected: "two messages that differ in one field only, and one of which recurses; and two that differ only in the other field, and behave alike: both recurse, or neither does",
		Trace:    evidence,
	}
	// Zero or not is the question: two numbers that are not 0 are the same.
	zero := func(s string) bool { return s == "0" }
	pair := func(differs, same func(observation) string, outcome bool) bool {
		for _, x := range seen {
			for _, y := range seen {
				if zero(differs(x)) != zero(differs(y)) && same(x) == same(y) && (x.recurse == y.recurse) == outcome {
					return true
				}
			}
		}
		return false
	}
	fieldA := func(o observation) string { return o.a }
	fieldC := func(o observation) string { return o.c }
	switch {
	case !run.End.OK():
		f.Likely = "the program has not sent all that it wanted to: its last words tell why"
	case len(told) == 1:
		f.Likely = "one kind of message can be compared with nothing. crash and survive do not count here: the check looks at this run only, so send the known messages again"
	case recursed == 0:
		f.Likely = "nothing has recursed: the message that does it is missing, as in crash. The check stops it at its third level"
	case recursed == len(seen):
		f.Likely = "everything has recursed: a message that does not is missing, as in survive"
	case !pair(fieldC, fieldA, false):
		f.Likely = "where C is changed, A is changed too: then nobody knows which of them it was. Change one thing at a time"
	default:
		f.Likely = "C has been tried alone. What A does alone, no two of these messages show: they must have the same C"
	}
	s.Expect(pair(fieldC, fieldA, false) && pair(fieldA, fieldC, true), f)
	s.Expect(run.End.OK(), labtest.Failure{
		Got:      "the messages say it all, but the program did not end well",
		Expected: "exit code 0",
		Likely:   "its last words tell why",
	})
	c.Note("%s", strings.Join(told, "; "))
	c.Answer("field", 2, strings.Join(told, "; "))

	var pm postmortem
	s.TOML(file, &pm)
	if pm.Decides == "" {
		s.NotDone("the experiment is sound, and its result is in the trace. What is missing is the conclusion: decides, in " + file)
	}
	s.Expect(pm.Decides == "C", labtest.Failure{
		Got:      fmt.Sprintf("decides = %q", labtest.Short(pm.Decides)),
		Expected: `what the experiment has shown, "A", "B", "C" or "A and C"`,
		Trace:    evidence,
		Likely:   "look at your own messages again: " + strings.Join(precise, "; "),
	})
}

// roped runs the program with nlecho on a rope: each wait goes on when it was seen,
// and a recursion ends at its third level, so that the kernel lives.
func roped(c *labtest.Check, args ...string) *labtest.Run {
	c.Param("nlecho", "hold", "0")
	c.Param("nlecho", "hold", "1")
	p := c.Start(args...)
	p.Input.Close()
	for {
		var wait, input, top trace.Event
		pending := func(tr *trace.Trace) bool {
			wait, input, top = oldestWait(tr.Events())
			return wait.Seen()
		}
		if !p.WaitFor(pending) {
			return p.Wait()
		}
		id, n := wait.Int("id"), wait.Int("n")
		if input.Int("depth") < 3 {
			c.Param("nlecho", "release", "1")
			p.WaitFor(func(tr *trace.Trace) bool {
				return tr.Events().Named(trace.EchoWake).Where("id", id).Where("n", n).First().Seen()
			})
			continue
		}
		inSleep(c, wait.Task)
		// No message from here on is answered, until the program's own has come to its
		// end. The program must not send the next one before that: it is in state D now,
		// and stops when it comes back from the kernel.
		replies := fmt.Sprint(input.Int("replies"))
		_ = p.Signal(syscall.SIGSTOP)
		c.Param("nlecho", "replies", "0")
		c.Param("nlecho", "hold", "0")
		over := top.Int("id")
		p.WaitFor(func(tr *trace.Trace) bool {
			return tr.Events().Named(trace.EchoDone).Where("id", over).First().Seen()
		})
		c.Param("nlecho", "replies", replies)
		c.Param("nlecho", "hold", "1")
		_ = p.Signal(syscall.SIGCONT)
	}
}

// inSleep answers the prediction about the program's state while nlecho waits.
func inSleep(c *labtest.Check, task int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", task))
	if err != nil {
		return
	}
	// pid (comm) state ...; see proc(5)
	if _, rest, ok := strings.Cut(string(stat), ") "); ok && strings.HasPrefix(rest, "D ") {
		c.Answer("state", 0, fmt.Sprintf("/proc/%d/stat said D while nlecho waited in the callback, three levels deep", task))
	}
}

// oldestWait returns the first wait of nlecho that is under way, the message that is
// answered there, and the program's own message that it all comes from.
func oldestWait(events trace.Events) (wait, input, top trace.Event) {
	waits := events.Named(trace.EchoWait)
	wakes := events.Named(trace.EchoWake)
	for _, w := range waits {
		if !wakes.Where("id", w.Int("id")).Where("n", w.Int("n")).First().Seen() {
			wait = w
			break
		}
	}
	for _, e := range events.Named(trace.EchoInput).Before(wait) {
		if e.Task == wait.Task && e.Int("depth") == 1 {
			top = e
		}
		if e.Int("id") == wait.Int("id") {
			input = e
		}
	}
	return wait, input, top
}
