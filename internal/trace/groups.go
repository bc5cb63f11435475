// SPDX-License-Identifier: MIT

package trace

import (
	"slices"

	"golang.org/x/sys/unix"
)

// membership is the groups that a socket is a member of from an event on.
type membership struct {
	from   Event
	groups []int
}

// maskGroups is how many groups have a bit in nl_groups, the address's mask (struct sockaddr_nl): group 1 the lowest.
const maskGroups = 32

// MaskOf returns the groups whose bits are set in the mask of an address, "groups" of netlink_bind and "to_groups" of
// netlink_sendmsg.
func MaskOf(mask uint64) []int {
	var groups []int
	for g := 1; g <= maskGroups; g++ {
		if mask>>(g-1)&1 != 0 {
			groups = append(groups, g)
		}
	}
	return groups
}

// Groups returns the groups that the socket was a member of when e happened, in their order. Those that were joined by
// number are known where [SetOption] is traced.
func (s *Socket) Groups(e Event) []int {
	if s == nil {
		return nil
	}
	for _, m := range slices.Backward(s.groups) {
		if Before(m.from, e) {
			return m.groups
		}
	}
	return nil
}

// member takes in the return of a bind, whose mask replaces the groups that it has bits for, or of a setsockopt.
func (s *Socket) member(c *Call) {
	if c.Ret != 0 {
		return
	}
	var now []int
	if n := len(s.groups); n > 0 {
		now = slices.Clone(s.groups[n-1].groups)
	}
	if c.Name == Bind {
		now = slices.DeleteFunc(now, func(g int) bool { return g <= maskGroups })
		now = append(now, MaskOf(c.Entry.Uint("groups"))...)
	} else {
		group := int(c.Entry.Int("value"))
		switch c.Entry.Int("optname") {
		case unix.NETLINK_ADD_MEMBERSHIP:
			now = append(now, group)
		case unix.NETLINK_DROP_MEMBERSHIP:
			now = slices.DeleteFunc(now, func(g int) bool { return g == group })
		default:
			return
		}
	}
	slices.Sort(now)
	s.groups = append(s.groups, membership{c.Return, slices.Compact(now)})
}

// queue notes that the message that c carries was put into the queue of s.
func (c *Call) queue(s *Socket) {
	if s != nil {
		c.queued = append(c.queued, s)
	}
}

// Queued returns the sockets into whose queues a netlink_broadcast or netlink_unicast put the message, in order. They
// are known where [Readable] is traced.
func (c Call) Queued() []*Socket { return c.queued }

// Outer returns the call that c was made in: the netlink_sendmsg of a netlink_broadcast, say. For a call that nothing
// else led to it is the zero Call.
func (c Call) Outer() Call {
	if c.parent == nil {
		return Call{}
	}
	return *c.parent
}
