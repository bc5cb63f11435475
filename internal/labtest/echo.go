// SPDX-License-Identifier: MIT

package labtest

import (
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/trace"
)

// EchoProtocol is the Netlink protocol that nlecho listens on, and EchoText what
// each of its replies says (kmod/nlecho).
const (
	EchoProtocol = 25
	EchoText     = "I am from kernel!"
)

// ToKernel returns the call with which the program sent its one message to
// nlecho. Where the kernel got none, or more than one, it fails the step with
// words for the usual mistakes: another protocol, another destination.
//
// That nlecho could make sense of the message is not said yet: see
// [trace.Message].
func (s *Step) ToKernel(r *Run) trace.Call {
	s.t.Helper()
	sends := r.Trace.Calls(trace.Sendmsg)
	strange := func(c trace.Call) bool { return c.Socket.Protocol != EchoProtocol }
	echo := slices.DeleteFunc(slices.Clone(sends), strange)
	switch got := echo.To(0).OK(); {
	case len(got) == 1:
		return got[0]
	case len(got) > 1:
		f := Failure{
			Got:      fmt.Sprintf("%d messages to the kernel", len(got)),
			Expected: "one message",
			Likely:   "each send is a message of its own: header and text go together, and once",
		}
		for _, c := range got {
			f.Trace = append(f.Trace, c.Entry)
		}
		s.Fail(f)
	}

	f := Failure{Expected: fmt.Sprintf("one message to the kernel, on protocol %d", EchoProtocol)}
	refused := r.Trace.Calls("socket").Failed(unix.EPROTONOSUPPORT).Last()
	switch last := sends.Last(); {
	case len(echo) > 0:
		last = echo.Last()
		f.Got, f.Likely = whySend(last)
		f.Trace = []trace.Event{last.Entry, last.Return}
	case last.Seen():
		f.Got = fmt.Sprintf("a message on protocol %d", last.Socket.Protocol)
		f.Likely = "the protocol, which is the last argument of socket(2), decides who in the kernel gets the message; nlecho listens on another one"
		f.Trace = []trace.Event{last.Socket.Created, last.Entry, last.Return}
	case refused.Seen():
		f.Got = fmt.Sprintf("no socket: protocol %d is not supported", refused.Entry.Int("protocol"))
		f.Likely = "nobody in the kernel listens on that protocol"
		f.Trace = []trace.Event{refused.Entry, refused.Return}
	case !r.End.OK():
		f.Got = "no message was sent"
		f.Likely = "the program came to its end before: what it said is above"
	default:
		f.Got = "no message was sent"
		f.Likely = "what a program prints convinces nobody here: the kernel has to see a message"
	}
	s.Fail(f)
	return trace.Call{}
}

// whySend says what became of a message on the right protocol that did not reach
// the kernel, and what mistake is behind it.
func whySend(c trace.Call) (got, likely string) {
	to, known := c.To()
	groups := uint64(0)
	if c.Entry.Int("namelen") >= unix.SizeofSockaddrNetlink {
		groups = c.Entry.Uint("to_groups")
	}
	where := "the kernel"
	switch {
	case groups != 0:
		where = fmt.Sprintf("the groups %#x", groups)
	case known && to != 0:
		where = fmt.Sprintf("port %d", to)
	case !known:
		where = "an address that is none"
	}
	got = "a message to " + where
	err, failed := c.Err().(syscall.Errno)
	if failed {
		got += ": " + unix.ErrnoName(err)
	}
	switch {
	case groups != 0:
		likely = "a group is a crowd of receivers, and shouting to one is a privilege here; the kernel is in none of them"
	case known && to != 0 && c.Socket.Port == to:
		likely = fmt.Sprintf("the destination is the receiver's address, and port %d is the program's own: which one is the kernel's?", to)
	case known && to != 0:
		likely = "the destination is the receiver's address: which port is the kernel's?"
	case err == unix.ENODATA:
		likely = "the message is empty: not even a header is in it"
	case err == unix.EINVAL:
		likely = "the destination is no address of the family AF_NETLINK, or its length is wrong, or what was given as ancillary data is none"
	case failed:
		likely = "netlink_sendmsg refused the message before anybody could look into it"
	}
	return got, likely
}

// Reads returns the calls that took a message out of the queue of a socket, in
// order. Those that only looked at it (MSG_PEEK), that failed or that still wait
// are left out.
func (r *Run) Reads(from *trace.Socket) trace.Calls {
	calls := r.Trace.Calls(trace.Recvmsg).On(from).OK()
	return slices.DeleteFunc(calls, func(c trace.Call) bool { return c.Entry.Int("flags")&unix.MSG_PEEK != 0 })
}

// Short cuts what a program printed to a length that fits into a message.
func Short(text string) string {
	const most = 28
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}
