// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// notifyProtocol is the Netlink protocol number of nlnotify (kmod/nlnotify).
const notifyProtocol = 26

// Values of the fields type and via of NotifySend (kmod/nlnotify/nlnotify.h).
const (
	NotifyNews    = 16 // type: a notice, something has happened
	NotifyLeaving = 17 // type: the module wants to be unloaded

	NotifyGroup = 1 // via: multicast
	NotifyPort  = 2 // via: unicast to the agreed port
)

// notified reports whether an event of nlnotify, or of its loading and unloading, concerns the program: it happened in a
// network namespace in which the program has a socket, or in none.
func (p *Program) notified(e Event) bool {
	switch e.Name {
	case NotifySend, NotifyJoin, NotifyPart:
		return slices.ContainsFunc(p.trace.sockets, func(s *Socket) bool {
			return s.Net == e.Uint("net") && p.has(s.owner)
		})
	case NotifyLeave:
		return true
	case ModuleLoad, ModuleFree:
		return e.Text("name") == "nlnotify"
	case moduleDelete:
		return true // who unloads modules while somebody traces it means that one
	}
	return false
}

// notify makes steps of what nlnotify does.
func (s *stepper) notify(e Event, in info) {
	depth := 0
	if in.parent != nil {
		depth = s.sends(in.parent)
	}
	line := func(arrow Arrow, failed bool, format string, args ...any) {
		s.put(e, KernelLane, arrow, depth, fmt.Sprintf(format, args...), failed)
	}
	err := e.Int("ret")
	switch e.Name {
	case NotifySend:
		what := fmt.Sprintf("notice %d", e.Int("number"))
		if e.Int("type") == NotifyLeaving {
			what = "“I am leaving”"
		}
		to := fmt.Sprintf("group %d", e.Uint("to"))
		if e.Int("via") == NotifyPort {
			to = "port " + portNumber(uint32(e.Uint("to")))
		}
		switch {
		case err < 0:
			line(NoArrow, true, "%s to %s: %s", what, to, undelivered(e))
		case e.Int("softirq") != 0:
			line(Delivered, false, "%s to %s, by a timer", what, to)
		default:
			line(Delivered, false, "%s to %s", what, to)
		}
	case NotifyJoin:
		if err < 0 {
			line(NoArrow, true, "takes no new subscriber: %s", errnoName(err))
		}
	case NotifyRequest:
		switch {
		case err == -int64(unix.EAGAIN):
			line(NoArrow, true, "the answer to port %s has no room: %s", portNumber(uint32(e.Uint("portid"))), errnoName(err))
		case err < 0:
			line(NoArrow, true, "refuses the request: %s", errnoName(err))
		default:
			what := "notices"
			if e.Int("number") == 1 {
				what = "notice"
			}
			line(Delivered, false, "%d %s so far, to port %s", e.Int("number"), what, portNumber(uint32(e.Uint("portid"))))
		}
	case NotifyLeave:
		if e.Int("leave") != 0 {
			line(NoArrow, false, "nlnotify is told to leave")
		} else {
			line(NoArrow, false, "nlnotify stays")
		}
	case moduleDelete:
		if err < 0 {
			line(NoArrow, true, "rmmod nlnotify: %s", errnoName(err))
		}
	case ModuleLoad:
		line(NoArrow, false, "nlnotify is loaded")
	case ModuleFree:
		line(NoArrow, false, "nlnotify is unloaded")
	}
}

// undelivered is the error of a NotifySend. That of a multicast which reached nobody needs a word: nobody is in the
// group, or nobody's queue has room.
func undelivered(e Event) string {
	err := e.Int("ret")
	if e.Int("via") == NotifyGroup && err == -int64(unix.ESRCH) {
		return errnoName(err) + ", nobody got it"
	}
	return errnoName(err)
}

// describeNotify describes an event of nlnotify in one line.
func describeNotify(e Event) string {
	switch e.Name {
	case NotifySend:
		what := fmt.Sprintf("notice %d", e.Int("number"))
		if e.Int("type") == NotifyLeaving {
			what = "leaving"
		}
		to := fmt.Sprintf("group %d", e.Uint("to"))
		if e.Int("via") == NotifyPort {
			to = "port " + portNumber(uint32(e.Uint("to")))
		}
		text := fmt.Sprintf("%s %s to %s", e.Name, what, to)
		if e.Int("softirq") != 0 {
			text += ", softirq"
		}
		if e.Int("ret") < 0 {
			text += ": " + undelivered(e)
		}
		return text
	case NotifyJoin:
		return fmt.Sprintf("%s group=%d %s", e.Name, e.Int("group"), returned(e))
	case NotifyRequest:
		return fmt.Sprintf("%s portid=%d number=%d %s", e.Name, e.Uint("portid"), e.Int("number"), returned(e))
	case NotifyLeave:
		return fmt.Sprintf("%s leave=%d", e.Name, e.Int("leave"))
	}
	return fmt.Sprintf("%s %s", e.Name, e.Text("name")) // ModuleLoad, ModuleFree
}

// asks reports whether c is inside a send to nlnotify.
func asks(c *Call) bool {
	for ; c != nil; c = c.parent {
		if c.Name == Sendmsg {
			return c.Socket != nil && c.Socket.Protocol == notifyProtocol
		}
	}
	return false
}
