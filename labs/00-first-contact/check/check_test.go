// SPDX-License-Identifier: MIT

// Package check judges programs for lab 0.
package check

import (
	"fmt"
	"strconv"
	"testing"

	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

// replies is how often nlecho answers in this check: not as often as lab.toml
// says, so that a program that knows the number beforehand is found out.
const replies = 5

func TestFirstContact(t *testing.T) {
	c := labtest.New(t)
	c.Param("nlecho", "replies", strconv.Itoa(replies))
	c.Param("nlecho", "delay_ms", "0") // pauses are for people who watch
	run := c.Run()

	var sent trace.Call
	var message *trace.Message
	var queued trace.Events

	c.Step(1, func(s *labtest.Step) {
		sent = s.ToKernel(run)
	})

	c.Step(2, func(s *labtest.Step) {
		for _, m := range run.Trace.Messages() {
			s.Expect(!m.Reject.Seen(), labtest.Failure{
				Got:      "nlecho refused the message",
				Expected: "a message that begins with a whole header (struct nlmsghdr)",
				Trace:    []trace.Event{sent.Entry, m.Input, m.Reject, sent.Return},
				Likely:   "the bytes are not laid out as a Netlink message; the library's Send does that",
			})
			message = m
		}
		for _, e := range message.Replies {
			if e.Int("ret") > 0 {
				queued = append(queued, e)
			}
		}
		s.Expect(len(queued) == replies, labtest.Failure{
			Got:      fmt.Sprintf("%d replies reached the program's socket", len(queued)),
			Expected: fmt.Sprintf("%d", replies),
			Trace:    append(message.Replies, message.Done),
			Likely:   "the socket was closed while the kernel still answered",
		})
	})

	c.Step(3, func(s *labtest.Step) {
		reads := run.Reads(sent.Socket)
		s.Expect(len(reads) == len(queued), labtest.Failure{
			Got:      fmt.Sprintf("%d of %d replies were read", len(reads), len(queued)),
			Expected: "all of them: the kernel keeps a reply until somebody reads it",
			Trace:    []trace.Event{queued.Last(), reads.Last().Entry, reads.Last().Return, sent.Socket.Closed},
			Likely:   "the program takes another number of replies for granted; nlecho tells its own in /sys/module/nlecho/parameters/replies",
		})
		printed := run.Keys("reply")
		s.Expect(len(printed) == len(reads), labtest.Failure{
			Got:      fmt.Sprintf("%d lines reply=...", len(printed)),
			Expected: fmt.Sprintf("%d, one for each reply", len(reads)),
			Likely:   "a line is printed where nothing was received, or the other way round",
		})
		for _, text := range printed {
			s.Expect(text == labtest.EchoText, labtest.Failure{
				Got:      fmt.Sprintf("reply=%q", labtest.Short(text)),
				Expected: fmt.Sprintf("reply=%q", labtest.EchoText),
				Likely:   "the payload is 1024 bytes: the text, and zero bytes behind it",
			})
		}
		s.Expect(run.End.OK(), labtest.Failure{
			Got:      "all was read and printed, but the program did not end well",
			Expected: "exit code 0",
			Likely:   "it waited for one more reply than there are",
		})
	})

	if message == nil {
		return
	}
	answer(c, run, sent, message)
}

// answer tells what the kernel really did about the predictions.
func answer(c *labtest.Check, run *labtest.Run, sent trace.Call, m *trace.Message) {
	last := m.Replies.Last()
	switch {
	case len(m.Replies.In(sent)) == len(m.Replies):
		c.Answer("when", 0, "every nlecho_reply lies inside netlink_sendmsg, in the program's own task")
	case trace.Before(sent.Return, m.Replies.First()):
		c.Answer("when", 1, "netlink_sendmsg had returned before the first nlecho_reply")
	case last.Seen():
		c.Answer("when", 2, "the replies lie between the program's reads")
	}
	switch m.PortID() {
	case 0:
		c.Answer("port", 0, "nlecho saw port ID 0")
	case uint32(run.Trace.PID):
		c.Answer("port", 1, fmt.Sprintf("netlink_insert gave the socket port ID %d, which is the process ID", m.PortID()))
	default:
		c.Answer("port", 2, fmt.Sprintf("netlink_insert gave the socket port ID %d", m.PortID()))
	}
}
