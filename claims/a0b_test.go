// SPDX-License-Identifier: MIT

package claims

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/trace"
)

// What nlnotify can be asked for: how much it has told.
const notifyGet = unix.NLMSG_MIN_TYPE + 2

// askLinks asks for the links of a network namespace.
var askLinks = Request(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg))

// waits is the order to wait until nlecho has begun to wait n times.
func (c *Trial) waits(n int) {
	c.t.Helper()
	c.WaitFor(fmt.Sprintf("nlecho waits, %d times", n), func(p *trace.Program) bool { return len(p.Events(trace.EchoWait)) >= n })
}

func TestA0_31_ErrorContainsAnError(t *testing.T) {
	c := Try(t)
	s := c.Bound(Notify)
	s.Send(Request(100, 0, nil), Kernel) // a type that nlnotify does not know
	refused, isError := s.Queued().Message().Error()
	s.Send(Request(unix.NLMSG_NOOP, unix.NLM_F_ACK, nil), Kernel)
	none, isAck := s.Queued().Message().Error()
	c.Verdict(
		Holds(isError && refused == unix.EOPNOTSUPP, "the NLMSG_ERROR that answers an unknown question has an error: %s", name(refused)),
		But(isAck && none == nil, "that of an acknowledgement has the number 0"),
	)
}

func TestA0_32_DoneIsLast(t *testing.T) {
	c := Try(t)
	parts := c.Bound(unix.NETLINK_ROUTE).List(askLinks)
	others, last := parts[:len(parts)-1], parts[len(parts)-1]
	marked := 0
	for _, m := range others {
		if m.Flags&unix.NLM_F_MULTI != 0 && m.Type == unix.RTM_NEWLINK {
			marked++
		}
	}
	c.Verdict(
		Holds(last.Type == unix.NLMSG_DONE && len(others) > 0 && marked == len(others), "a list ends with NLMSG_DONE, and the parts before it carry NLM_F_MULTI (%d of %d)", marked, len(others)),
		But(last.Flags&unix.NLM_F_MULTI != 0, "NLMSG_DONE carries it too"),
		But(len(last.Payload) >= 4 && bytes.Equal(last.Payload[:4], make([]byte, 4)), "and has a number, 0 where the list is whole"),
	)
}

func TestA0_33_OverrunIsUnused(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "replies", 20)
	s := c.Bound(Echo)
	s.Shrink()
	s.Send(Hello, Kernel)
	got, lost := s.Drain()
	overruns := 0
	for _, d := range got {
		if d.Message().Type == unix.NLMSG_OVERRUN {
			overruns++
		}
	}
	c.Verdict(
		Holds(lost == unix.ENOBUFS && 0 < len(got) && len(got) < 20, "a reader that has lost messages (%d of 20 came) is told by an error of recvmsg: %s", len(got), name(lost)),
		Holds(overruns == 0, "no NLMSG_OVERRUN comes"),
	)
}

func TestA0_34_ExtraFlags(t *testing.T) {
	c := Try(t)
	s := c.Bound(Notify)
	s.Send(Request(notifyGet, 0, nil), Kernel)
	plain, _ := s.Drain()
	s.Send(Request(notifyGet, unix.NLM_F_ACK, nil), Kernel)
	acked, _ := s.Drain()
	parts := c.Bound(unix.NETLINK_ROUTE).List(askLinks)
	c.Verdict(
		Holds(len(plain) == 1 && len(acked) == 2, "NLM_F_ACK in a question brings one message more: %d, and %d without", len(acked), len(plain)),
		Holds(plain[0].Message().Flags&unix.NLM_F_MULTI == 0 && parts[0].Flags&unix.NLM_F_MULTI != 0, "NLM_F_MULTI tells the parts of a list from a single answer"),
	)
}

func TestA0_35_RawOrDgram(t *testing.T) {
	c := Try(t)
	var got [][]byte
	for _, kind := range []int{unix.SOCK_RAW, unix.SOCK_DGRAM} {
		s, err := c.TryOpen(unix.AF_NETLINK, kind, Echo)
		c.Must(err, "socket")
		s.Send(Hello, Kernel)
		s.Send(Hello, Kernel)
		one := s.Queued()
		got = append(got, one.Data[:12], one.Data[16:]) // all but nlmsg_pid, the socket's port
	}
	sent := c.Trace().Messages()
	_, stream := c.TryOpen(unix.AF_NETLINK, unix.SOCK_STREAM, Echo)
	c.Verdict(
		Holds(len(sent) == 4 && sent[0].Input.Uint("crc") == sent[2].Input.Uint("crc") && bytes.Equal(got[0], got[2]) && bytes.Equal(got[1], got[3]),
			"of both kinds the same comes to the kernel and back, and messages stay apart"),
		Holds(stream == unix.ESOCKTNOSUPPORT, "there is no third one: SOCK_STREAM is %s", name(stream)),
	)
}

func TestA0_36_PredefinedProtocols(t *testing.T) {
	c := Try(t)
	const firewall = 3
	_, routes := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	_, filters := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, firewall)
	names := c.Compiles("protocols_2_4")
	c.Verdict(
		Holds(filters == nil && names.OK, "NETLINK_FIREWALL has a socket, and the header the names NETLINK_ARPD and NETLINK_ROUTE6"),
		Instead(routes == nil && filters == unix.EPROTONOSUPPORT, "NETLINK_ROUTE has one, NETLINK_FIREWALL has none: %s", name(filters)),
		Instead(names.Unknown("NETLINK_ARPD", "NETLINK_ROUTE6"), "the header does not know NETLINK_ARPD and NETLINK_ROUTE6"),
		Instead(c.Compiles("protocols").OK, "their numbers, 8 and 11, are those of NETLINK_ISCSI and NETLINK_CONNECTOR; that of NETLINK_FIREWALL is kept"),
	)
}

func TestA0_37_AProtocolOfOnesOwn(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	_, unused := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, 24)
	_, beyond := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, 32)
	c.Verdict(
		Holds(s.Queued().Came() && c.Compiles("kernel_api").OK, "a number that is free and one call of netlink_kernel_create are enough: nlecho answers on 25"),
		But(unused == unix.EPROTONOSUPPORT, "a number alone is none: 24, with no module behind it, is %s", name(unused)),
		But(beyond == unix.EPROTONOSUPPORT && c.Compiles("protocols").OK, "and there are 32 of them only: 32 is %s, whatever is loaded", name(beyond)),
	)
}

func TestA0_38_AGroupsBit(t *testing.T) {
	c := Try(t)
	member, sender := c.Bound(Echo), c.Bound(Echo)
	own := member.Name().Port
	heard := 0
	for i := range 32 {
		member.Bind(Addr{Port: own, Groups: 1 << i}) // of this group only, from now on
		c.Param("nlecho", "group", i+1)
		sender.Send(Hello, Kernel)
		if member.Queued().From.Groups == 1<<i {
			heard++
		}
	}
	member.Bind(Addr{Port: own, Groups: 1<<32 - 1})
	c.Param("nlecho", "group", 33)
	sender.Send(Hello, Kernel)
	c.Verdict(
		Holds(heard == 32, "who binds with the bit 1 << i is in one group, and hears it by that bit (%d of 32)", heard),
		But(c.Trace().Messages()[32].Input.Uint("group") == 33 && !member.Queued().Came(), "the bit i is the group i+1, and group 33 has none: with all bits set it is not heard"),
	)
}

func TestA0_39_MulticastSavesCalls(t *testing.T) {
	c := Try(t)
	const group = 3
	members := members(unix.NETLINK_USERSOCK, group, c.Process(nil), c.Process(nil), c.Process(nil))
	s := c.Bound(unix.NETLINK_USERSOCK)
	for _, m := range members {
		s.Send(Hello, Port(m.Name().Port))
		m.Receive()
	}
	each := len(c.Trace().Calls(trace.Sendmsg))
	_ = s.TrySend(Hello.Bytes(), Group(group)) // and to port 0, which nobody has
	once := len(c.Trace().Calls(trace.Sendmsg)) - each
	heard := 0
	for _, m := range members {
		if m.Queued().Came() {
			heard++
		}
	}
	c.Verdict(Holds(each == 3 && once == 1 && heard == 3, "to reach 3 processes takes %d system calls one by one, and %d by their group (%d heard it)", each, once, heard))
}

func TestA0_41_PidAndGroupsZero(t *testing.T) {
	c := Try(t)
	s, other := c.Bound(Echo), c.Bound(Echo)
	s.Send(Hello, Addr{Port: 0, Groups: 0})
	zero := len(c.Trace().Messages())
	s.Send(Hello, other.Name())
	c.Verdict(
		Holds(zero == 1 && s.Queued().From == (Addr{Family: unix.AF_NETLINK}), "a message to nl_pid 0, nl_groups 0 is the kernel's, and the answer's sender has the same address"),
		Holds(len(c.Trace().Messages()) == zero && other.Queued().Came(), "one to another nl_pid is not: who has that port gets it"),
	)
}

func TestA0_42_UnicastToAProcess(t *testing.T) {
	c := Try(t)
	other := c.Process(nil)
	first, second := other.Bound(Echo), other.Bound(Echo)
	denied := c.Nobody().Bound(Echo).TrySend(Hello.Bytes(), first.Name())
	root := c.Bound(Echo)
	root.Send(Hello, first.Name())
	c.Verdict(
		Holds(denied == nil, "anybody's message to nl_pid = a process ID reaches the process"),
		Instead(denied == unix.EPERM && first.Queued().From == root.Name(), "it takes CAP_NET_ADMIN: with it the message comes, without it is %s", name(denied)),
		Instead(first.Name().Port == uint32(other.PID) && second.Name().Port != first.Name().Port, "and the number is that of a socket: another one of process %d has %v", other.PID, second.Name()),
	)
}

func TestA0_43_SeveralGroupsAtOnce(t *testing.T) {
	c := Try(t)
	second, third := c.Bound(unix.NETLINK_USERSOCK), c.Bound(unix.NETLINK_USERSOCK)
	second.Join(2)
	third.Join(3)
	_ = c.Bound(unix.NETLINK_USERSOCK).TrySend(Hello.Bytes(), Addr{Groups: 0b110}) // and to port 0, which nobody has
	low, high := second.Queued().Came(), third.Queued().Came()
	shouts := c.Trace().Calls(trace.Broadcast)
	c.Verdict(
		Holds(low && high, "a message to the mask 0b110 reaches the groups 2 and 3"),
		Instead(low && len(shouts) == 1 && shouts.First().Entry.Uint("group") == 2, "it is for group 2 alone, the lowest bit"),
	)
}

func TestA0_44_ABigEnoughBuffer(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	small, err := s.TryReceive(100, 0)
	c.Must(err, "recvmsg")
	rest := s.Queued().Came()
	s.Send(Hello, Kernel)
	big, err := s.TryReceive(1040, 0)
	c.Must(err, "recvmsg")
	c.Verdict(
		Holds(len(small.Data) == 100 && small.Flags == unix.MSG_TRUNC && !rest, "of a message of 1040 bytes, a buffer of 100 gets 100, and MSG_TRUNC; the rest is lost"),
		Holds(len(big.Data) == 1040 && big.Flags == 0, "a buffer of 1040 gets it whole"),
	)
}

func TestA0_45_TheHeaderIsInFront(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Message{Seq: 4711, Payload: []byte("Hello you!")}, Kernel)
	d := s.Queued()
	m := d.Message()
	c.Verdict(Holds(int(m.Len) == len(d.Data) && m.Type == 0 && m.Seq == 4711 && m.PID == s.Name().Port,
		"the buffer begins with the header: nlmsg_len %d of %d bytes, nlmsg_seq as in the question", m.Len, len(d.Data)))
}

func TestA0_46_NameIsTheDestination(t *testing.T) {
	c := Try(t)
	const group = 2
	s, other := c.Bound(unix.NETLINK_USERSOCK), c.Process(nil).Bound(unix.NETLINK_USERSOCK)
	s.Join(group)
	other.Send(Hello, Port(s.Name().Port))
	direct := s.Receive().From
	_ = other.TrySend(Hello.Bytes(), Group(group)) // and to port 0, which nobody has
	shout := s.Receive().From
	c.Verdict(
		Holds(direct.Port == s.Name().Port, "the address that recvmsg returns has the port that the message was sent to"),
		Instead(direct == other.Name(), "it is the source's: %v", direct),
		Instead(shout.Port == other.Name().Port && shout.Groups == 1<<(group-1), "only of a group does it tell the destination, as a mask beside the source: %v", shout),
	)
}

func TestA0_47_DataIsThePayload(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	d := s.Queued()
	c.Verdict(Holds(c.Compiles("macros").OK && bytes.HasPrefix(d.Data[unix.NLMSG_HDRLEN:], []byte("I am from kernel!\x00")),
		"NLMSG_DATA is the place behind the header's 16 bytes, and there the text of the reply begins"))
}

func TestA0_48_Close(t *testing.T) {
	c := Try(t)
	s, next := c.Bound(Echo), c.Open(Echo)
	port := Port(s.Name().Port)
	taken := next.TryBind(port)
	s.Close()
	free := next.TryBind(port)
	c.Verdict(Holds(taken == unix.EADDRINUSE && free == nil, "close gives the socket back, and its port: bind to it is %s before, and done after", name(taken)))
}

func TestA0_50_NetIsInitNet(t *testing.T) {
	c := Try(t)
	c.Param("nlbugs", "replies", 1)
	here, there := c.Bound(Bugs), c.Netns()
	here.Send(Hello, Kernel)
	refused := there.Bound(Bugs).TrySend(Hello.Bytes(), Kernel)
	echo := there.Bound(Echo)
	echo.Send(Hello, Kernel)
	c.Verdict(
		Holds(here.Queued().Came(), "a module that gives init_net answers the programs of the first network namespace"),
		But(refused == unix.ECONNREFUSED, "in another one a socket of its protocol can be made and bound, but a send is %s", name(refused)),
		But(echo.Queued().Came(), "nlecho, which gives each namespace a socket, answers there too"),
	)
}

func TestA0_51_UnitIsTheProtocol(t *testing.T) {
	c := Try(t)
	own := c.Module("nlbugs", "parameters/protocol")
	s := c.Bound(Bugs)
	s.Send(Hello, Kernel)
	_, next := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, Bugs+1)
	c.Verdict(
		Holds(own == fmt.Sprint(Bugs) && s.Queued().Came(), "who gives 27 to socket reaches the module that gave 27 to netlink_kernel_create"),
		Holds(next == unix.EPROTONOSUPPORT, "28, which no module gave, is %s", name(next)),
	)
}

func TestA0_52_GroupsIsAnAddress(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo) // it gave 64
	first, last, beyond := s.TryJoin(1), s.TryJoin(64), s.TryJoin(65)
	s = c.Bound(Notify) // it gave 1
	least, more := s.TryJoin(32), s.TryJoin(33)
	c.Verdict(
		Holds(first != nil, "nlecho, which gave 64, has the group 64 and no other"),
		Instead(last == nil && beyond == unix.EINVAL, "it is how many there are: group 64 can be joined, 65 is %s", name(beyond)),
		Instead(least == nil && more == unix.EINVAL, "and 32 at least: nlnotify gave 1, and of its groups 32 can be joined, and 33 is %s", name(more)),
	)
}

func TestA0_53_InputIsCalled(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	for range 3 {
		s.Send(Hello, Kernel)
	}
	run := c.Trace()
	got, inside := run.Messages(), 0
	for i, m := range got {
		if trace.Inside(m.Input, run.Calls(trace.Sendmsg)[i]) {
			inside++
		}
	}
	c.Verdict(Holds(len(got) == 3 && inside == 3, "each of 3 messages calls it, inside its own sendmsg and in the task of the sender (%d)", inside))
}

func TestA0_54_SendmsgReturnsAfterInput(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "hold", 1)
	s := c.Thread().Bound(Echo)
	wait := c.Background(func() { _ = s.TrySend(Hello.Bytes(), Kernel) })
	c.waits(1)
	held := c.Trace().Calls(trace.Sendmsg).First()
	c.Write("nlecho", "release", 1)
	wait()
	run := c.Trace()
	send, m := run.Calls(trace.Sendmsg).First(), run.Messages()[0]
	c.Verdict(
		Holds(held.Seen() && !held.Returned(), "while nlecho's input function waits, so does sendmsg"),
		Holds(trace.Inside(m.Done, send) && trace.Before(m.Done, send.Return), "it returns when that has ended"),
	)
}

func TestA0_55_CbMutex(t *testing.T) {
	c := Try(t)
	lock := c.Compiles("cb_mutex")
	c.Verdict(
		Holds(lock.OK, "a module can give its protocol a lock, cb_mutex"),
		Instead(lock.Says("has no member named 'cb_mutex'"), "struct netlink_kernel_cfg has no such member"),
	)
}

func TestA0_56_ThisModule(t *testing.T) {
	c := Try(t)
	with, before := c.Compiles("create_module"), references(c, "nlecho")
	c.Open(Echo)
	after := references(c, "nlecho")
	c.Verdict(
		Holds(with.OK, "netlink_kernel_create takes THIS_MODULE"),
		Instead(with.Says("too many arguments to function") && c.Compiles("kernel_api").OK, "it is not an argument: the header gives it by itself"),
		Instead(after == before+1, "with the same effect: an open socket is a reference to its module (%d before, %d after)", before, after),
	)
}

func TestA0_57_UnicastsArguments(t *testing.T) {
	c := Try(t)
	c.Verdict(Holds(c.Compiles("proto_unicast").OK, "netlink_unicast takes a socket, a message, a number of 32 bits and an int, and returns an int"))
}

func TestA0_58_DataAndCB(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Hello, Addr{Groups: 1 << 2})
	m := c.Trace().Messages()[0]
	c.Verdict(
		Holds(m.Input.Int("offset") == 0 && bytes.Equal(m.Data(), Hello.Bytes()), "in the input function skb->data is the message as it was sent, header and all"),
		Holds(m.PortID() == s.Name().Port && m.Input.Uint("dst_group") == 3, "NETLINK_CB has the sender's %v and the group %d that it was sent to", s.Name(), m.Input.Uint("dst_group")),
	)
}

func TestA0_59_UnicastToAGroup(t *testing.T) {
	c := Try(t)
	member, s := c.Bound(Echo), c.Bound(Echo)
	member.Join(5)
	c.Param("nlecho", "reply_to", "header")
	c.Param("nlecho", "max_depth", 1)
	s.Send(Hello, Kernel) // nlmsg_pid is 0: there goes the reply
	unicast := member.Queued().Came()
	inputs := c.Trace().Events(trace.EchoInput)
	c.Param("nlecho", "group", 5)
	s.Send(Hello, Kernel)
	c.Verdict(
		Holds(unicast, "what a module sends by netlink_unicast to port 0 reaches the members of a group"),
		Instead(len(inputs) == 2 && inputs.Last().Uint("portid") == 0, "it reaches the module's own socket"),
		Instead(member.Queued().Came() && len(c.Trace().Calls(trace.Broadcast)) == 1, "to a group leads netlink_broadcast"),
	)
}

func TestA0_60_Nonblock(t *testing.T) {
	c := Try(t)
	const n = 20 // news, for a queue that holds less
	reader := c.Open(Notify)
	reader.Bind(Port(5000000))
	reader.Shrink()
	c.Param("nlnotify", "via", "port")
	c.Write("nlnotify", "trigger", n)
	refused := len(c.Trace().Events(trace.NotifySend).Where("ret", -int64(unix.EAGAIN)))
	kept, _ := reader.Drain()

	c.Write("nlnotify", "wait", 1) // which cannot be read
	t.Cleanup(func() { c.Write("nlnotify", "wait", 0) })
	c.Write("nlnotify", "trigger", n)
	all := 0
	for range n { // each makes room for another
		if reader.Receive().Came() {
			all++
		}
	}

	c.Param("nlecho", "hold", 1)
	s := c.Thread().Bound(Echo)
	wait := c.Background(func() { _ = s.TrySendRaw(Hello.Bytes(), Kernel.raw(), unix.MSG_DONTWAIT) })
	c.waits(1)
	send := c.Trace().Calls(trace.Sendmsg).First()
	c.Write("nlecho", "release", 1)
	wait()
	c.Verdict(
		Holds(refused > 0 && refused+len(kept) == n, "with 1 a message to a full queue is refused at once: EAGAIN for %d of %d", refused, n),
		Holds(all == n, "with 0 the sender waits for room, until all %d have come", all),
		But(send.Seen() && !send.Returned(), "a message to the kernel has no queue: what does not want to wait (MSG_DONTWAIT) waits for the input function"),
	)
}

func TestA0_61_BroadcastsThirdArgument(t *testing.T) {
	c := Try(t)
	const group = 3
	a, b := c.Bound(unix.NETLINK_USERSOCK), c.Bound(unix.NETLINK_USERSOCK)
	a.Join(group)
	b.Join(group)
	port := a.Name().Port
	// The kernel gives the address to netlink_broadcast, then to netlink_unicast.
	c.Bound(unix.NETLINK_USERSOCK).Send(Hello, Addr{Port: port, Groups: 1 << (group - 1)})
	shout := c.Trace().Calls(trace.Broadcast).First()
	heard := func(s *Socket) bool {
		return slices.ContainsFunc(shout.Queued(), func(q *trace.Socket) bool { return q.Port == s.Name().Port })
	}
	c.Verdict(
		Holds(heard(a), "netlink_broadcast sends to the port that it is given, as netlink_unicast does"),
		Instead(shout.Entry.Uint("portid") == uint64(port) && heard(b), "it sends to the group's members, but for this one"),
	)
}

func TestA0_62_BroadcastsGroupIsAMask(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "group", 0b101)
	var members []*Socket
	for _, group := range []int{1, 3, 5} {
		s := c.Bound(Echo)
		s.Join(group)
		members = append(members, s)
	}
	c.Bound(Echo).Send(Hello, Kernel)
	first, third, fifth := members[0].Queued(), members[1].Queued(), members[2].Queued()
	c.Verdict(
		Holds(first.Came() && third.Came(), "what is sent to group 5 reaches the groups 1 and 3"),
		Instead(fifth.Came() && fifth.From.Groups == 1<<4, "it is for group 5: a number"),
	)
}

func TestA0_63_AtomicOrKernel(t *testing.T) {
	c := Try(t)
	reader := c.Bound(Notify)
	task, timer := news(c, reader)
	c.Verdict(
		Holds(c.Compiles("proto_broadcast").OK, "the last argument of netlink_broadcast is how to allocate memory"),
		Holds(task.Seen() && reader.Queued().Came(), "with GFP_KERNEL a task sends"),
		Holds(timer.Seen() && reader.Queued().Came(), "with GFP_ATOMIC a timer does, which must not sleep"),
	)
}

func TestA0_64_TheReleaseFunction(t *testing.T) {
	c := Try(t)
	c.Verdict(
		Holds(c.Compiles("proto_release_old").OK, "what gives a kernel socket back takes socket, message, port, group and allocation"),
		Instead(c.Compiles("proto_release").OK, "netlink_kernel_release takes the socket, and returns nothing"),
	)
}

func TestA0_65_ItWorksAsExpected(t *testing.T) {
	c := Try(t)
	c.Param("nlbugs", "replies", 1)
	s := c.Bound(Bugs)
	s.Send(Hello, Kernel)
	mended := s.Queued().Came()
	c.Param("nlbugs", "bugs", "B1") // writes a zero to the end of a literal, as the articles' module does
	c.Dies("supervisor write access in kernel mode",
		Holds(false, "as it was written, it answers"), // if it does, the kernel lives, and this is no verdict
		Instead(mended, "mended it does; as it was written, the kernel dies of the first message"),
	)
	s.Send(Hello, Kernel)
}

func TestA0_66_PidIsLikeAPort(t *testing.T) {
	c := Try(t)
	a, b := c.Bound(Echo), c.Bound(Echo)
	others := c.Nobody().Open(Echo).TryBind(Port(1))
	c.Verdict(
		Holds(a.Name().Port != b.Name().Port, "two sockets of one process have two: %v and %v", a.Name(), b.Name()),
		Holds(others == nil, "anybody may take any: 1, the process ID of init, for one"),
	)
}

func TestA0_67_PidIsTheAddress(t *testing.T) {
	c := Try(t)
	const port = 4711
	var at []*Socket
	for _, s := range []*Socket{c.Open(unix.NETLINK_USERSOCK), c.Open(Echo), c.Netns().Open(unix.NETLINK_USERSOCK)} {
		s.Bind(Port(port))
		at = append(at, s)
	}
	c.Bound(unix.NETLINK_USERSOCK).Send(Hello, Port(port))
	c.Verdict(
		Holds(at[0].Queued().Came(), "a message finds its socket by nl_pid, with nothing else in the address"),
		But(!at[1].Queued().Came() && !at[2].Queued().Came(), "protocol and network namespace are those of the sender's socket: those that have the number elsewhere do not hear it"),
	)
}

func TestA0_68_SamePidElsewhere(t *testing.T) {
	c := Try(t)
	port := Port(4711)
	c.Open(Echo).Bind(port)
	same := c.Open(Echo).TryBind(port)
	notify, usersock := c.Open(Notify).TryBind(port), c.Open(unix.NETLINK_USERSOCK).TryBind(port)
	c.Verdict(Holds(notify == nil && usersock == nil && same == unix.EADDRINUSE, "a number that is taken on one protocol (%s) is free on two others", name(same)))
}

func TestA0_69_PidZeroForAProcess(t *testing.T) {
	c := Try(t)
	s := c.Open(Echo)
	s.Bind(Port(0))
	s.Send(Hello, Kernel)
	run := c.Trace()
	c.Verdict(
		Holds(run.Messages()[0].PortID() == 0, "who binds to 0 has the port 0"),
		Instead(run.Sockets()[0].Auto && s.Name().Port != 0 && s.Queued().Came(), "the kernel chooses another, %v, and there comes the answer", s.Name()),
	)
}

func TestA0_70_NobodyFillsTheHeader(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Message{Payload: []byte("zeros")}, Kernel)
	s.Send(Message{Len: 3}, Kernel)
	got := c.Trace().Messages()
	in := got[0].Input
	c.Verdict(
		Holds(in.Seen() && in.Uint("type") == 0 && in.Uint("flags") == 0 && in.Uint("seq") == 0 && in.Uint("pid") == 0, "what is 0 in the header is 0 when the module gets it"),
		Holds(got[1].Reject.Uint("nlmsg_len") == 3, "a wrong nlmsg_len, 3, arrives as it is; that nlecho refuses it is nlecho's doing"),
	)
}

func TestA0_71_TheHeaderNamesTheSender(t *testing.T) {
	c := Try(t)
	s := c.Open(Echo)
	s.Send(Message{PID: 0}, Kernel)
	m, answer := c.Trace().Messages()[0], s.Queued()
	c.Verdict(
		Holds(m.PortID() == 0 && !answer.Came(), "the sender of a message with nlmsg_pid 0 is unknown, and gets no answer"),
		Instead(m.Input.Uint("pid") == 0 && m.PortID() == s.Name().Port && answer.Came(), "the kernel tells the module beside the message: %v", s.Name()),
	)
}

func TestA0_72_BindForReplies(t *testing.T) {
	c := Try(t)
	sender, connected := c.Open(Echo), c.Open(Echo)
	sender.Send(Hello, Kernel)
	connected.Connect(Kernel)
	connected.Send(Hello, Kernel)
	run := c.Trace()
	came := sender.Queued().Came() && connected.Queued().Came()
	made := run.Sockets()
	c.Verdict(
		Holds(!came, "without bind no reply comes"),
		Instead(len(run.Calls(trace.Bind)) == 0 && trace.Inside(made[0].Bound, run.Calls(trace.Sendmsg).First()) && trace.Inside(made[1].Bound, run.Calls(trace.Connect).First()),
			"the first send gives a port, or connect does, and replies come there"),
	)
}

func TestA0_73_AnothersNumber(t *testing.T) {
	c := Try(t)
	from, to, other := c.Nobody(), c.Process(nil), Port(101)
	sockets := func(protocol int) (*Socket, *Socket) {
		s, r := from.Open(protocol), to.Open(protocol)
		s.Bind(Port(100))
		r.Bind(other)
		return s, r
	}
	s, r := sockets(Echo)
	err := s.TrySend(Hello.Bytes(), other)
	got := r.Queued().Came()
	s, r = sockets(unix.NETLINK_USERSOCK)
	s.Send(Hello, other)
	c.Verdict(
		Holds(err == nil && got, "who sends to 101 on the module's protocol has the message come to the process there"),
		Instead(err == unix.EPERM && !got && len(c.Trace().Messages()) == 0, "the send is %s, and nobody gets it", name(err)),
		Instead(r.Queued().Came(), "on NETLINK_USERSOCK it still does"),
	)
}

func TestA0_74_AForgedPid(t *testing.T) {
	c := Try(t)
	s, other := c.Bound(Echo), c.Process(nil).Bound(Echo)
	forged := Message{PID: other.Name().Port}
	c.Param("nlecho", "reply_to", "header")
	s.Send(forged, Kernel)
	believed := other.Queued().Came() && !s.Queued().Came()
	c.Param("nlecho", "reply_to", "sender")
	s.Send(forged, Kernel)
	c.Verdict(
		Holds(believed, "with another's port in nlmsg_pid, the reply of a module that goes by it comes to the other"),
		But(s.Queued().Came() && !other.Queued().Came(), "that of a module that goes by NETLINK_CB comes to the sender"),
	)
}

func TestA0_75_StateD(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "hold", 1)
	client := c.Process(nil)
	s := client.Open(Echo)
	wait := c.Background(func() { _ = s.TrySend(Hello.Bytes(), Kernel) })
	c.waits(1)
	asleep := client.Gets("D")
	c.Must(unix.Kill(client.PID, unix.SIGKILL), "killing the client")
	still := client.Gets("D")
	c.Write("nlecho", "release", 1)
	wait()
	end := func(p *trace.Program) trace.Event {
		return p.Events(trace.Exit).Where("pid", int64(client.PID)).First()
	}
	c.WaitFor("the client has ended", func(p *trace.Program) bool { return end(p).Seen() })

	c.Param("nlecho", "defer", 1)
	c.Bound(Echo).Send(Hello, Kernel) // which is held as well
	run := c.Trace()
	c.Write("nlecho", "release", 1)
	c.WaitFor("nlecho is done with that", func(p *trace.Program) bool { return len(p.Events(trace.EchoDone)) == 2 })
	c.Verdict(
		Holds(asleep, "while nlecho waits inside the client's sendmsg, ps shows state D"),
		Holds(still && trace.Before(run.Messages()[0].Done, end(run)), "kill -9 changes nothing, until the input function is over"),
		But(run.Messages()[1].Input.Seen() && !run.Messages()[1].Done.Seen(), "that is the module's choice: if it waits elsewhere (defer=1), sendmsg returns at once"),
	)
}

func TestA0_76_SyncAndAsync(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	s.Receive()
	run := c.Trace()
	m, send, read := run.Messages()[0], run.Calls(trace.Sendmsg).First(), run.Calls(trace.Recvmsg).First()
	c.Verdict(
		Holds(trace.Inside(m.Input, send) && trace.Inside(m.Done, send), "a message to the kernel is handled from beginning to end inside sendmsg"),
		Holds(m.Replies.First().Int("ret") == 1040 && trace.Before(m.Done, read.Entry), "the kernel has sent its own and is done before anybody reads"),
	)
}

func TestA0_77_TenWaits(t *testing.T) {
	c := Try(t)
	const n = 10
	c.Param("nlecho", "replies", n)
	c.Param("nlecho", "delay_ms", 10)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	run := c.Trace()
	m, send := run.Messages()[0], run.Calls(trace.Sendmsg).First()
	turns := 0 // wait, reply, and only then the next
	for i, wait := range m.Waits {
		if wait.Int("delay_ms") == 10 && trace.Inside(wait, send) && trace.Before(wait, m.Wakes[i]) && trace.Before(m.Wakes[i], m.Replies[i]) &&
			(i == 0 || trace.Before(m.Replies[i-1], wait)) {
			turns++
		}
	}
	c.Verdict(
		Holds(len(m.Waits) == n && turns == n && trace.Before(m.Replies.Last(), send.Return), "ten waits, one after the other, are in one sendmsg: it takes the sum of them"),
		Holds(trace.Before(m.Replies.First(), m.Waits[1]), "the first reply is in the queue after the first of them"),
	)
}

func TestA0_78_RepliesQueue(t *testing.T) {
	c := Try(t)
	const n = 20
	c.Param("nlecho", "replies", n)
	s := c.Bound(Echo)
	s.Shrink()
	s.Send(Hello, Kernel)
	m := c.Trace().Messages()[0]
	refused := len(m.Replies.Where("ret", -int64(unix.EAGAIN)))
	got, lost := s.Drain()
	c.Verdict(
		Holds(len(got) > 1 && len(m.Replies) == n && m.Done.Seen(), "%d replies are queued and the kernel is done with all %d before anybody reads", len(got), n),
		But(refused > 0 && refused+len(got) == n, "the queue has an end: for %d replies netlink_unicast returns EAGAIN, and they are gone", refused),
		But(lost == unix.ENOBUFS, "the reader is told, by %s", name(lost)),
	)
}

func TestA0_79_PortZeroKills(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "reply_to", "header")
	c.Param("nlecho", "max_depth", 5)
	a, b := c.Open(Echo), c.Open(Echo)
	a.Bind(Port(100)) // A is 100, C is 0
	a.Send(Message{PID: 0}, Kernel)
	deep := c.Trace().Recursion()
	b.Bind(Port(0)) // A is 0, C is not
	b.Send(Message{PID: b.Name().Port}, Kernel)
	answered := b.Queued().Came()
	c.Param("nlecho", "max_depth", 0)
	c.Dies("stack guard page was hit",
		Holds(deep.Levels > 5, "with C at 0 the module answers itself, again and again: the kernel dies of it"),
		But(deep.BytesALevel > 0, "that is no loop but a recursion, and ends with the stack: each level takes %d bytes of it", deep.BytesALevel),
		But(answered, "A has no part in it: the above was with A at 100, and with A at 0 and C not there is one reply"),
	)
	b.Send(Message{PID: 0}, Kernel)
}

func TestA0_80_StateDMeanwhile(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "reply_to", "header")
	c.Param("nlecho", "max_depth", 2)
	c.Param("nlecho", "hold", 1)
	client := c.Process(nil)
	s := client.Open(Echo)
	wait := c.Background(func() { _ = s.TrySend(Message{PID: 0}.Bytes(), Kernel) })
	asleep := 0
	for level := 1; level <= 2; level++ { // of the recursion; there is a guard behind the second
		c.waits(level)
		if client.Gets("D") {
			asleep++
		}
		c.Write("nlecho", "release", 1)
	}
	wait()
	c.Verdict(Holds(asleep == 2 && c.Trace().Recursion().Levels > 2, "ps shows state D in each of the two levels that were looked at"))
}

func TestA0_81_TheSecondClient(t *testing.T) {
	c := Try(t)
	first, second := c.Process(nil).Open(Echo), c.Process(nil).Open(Echo)
	first.Bind(Port(100))
	err := second.TryBind(Port(100))
	c.Verdict(Holds(err == unix.EADDRINUSE && err.Error() == "address already in use", "the second process that binds to port 100 is refused: %v (%s)", err, name(err)))
}

func TestA0_82_ReuseAddr(t *testing.T) {
	c := Try(t)
	try := func(option int) (set, bind error) {
		first, second := c.Open(Echo), c.Open(Echo)
		defer first.Close()
		_ = first.TrySet(unix.SOL_SOCKET, option, 1)
		set = second.TrySet(unix.SOL_SOCKET, option, 1)
		first.Bind(Port(100))
		return set, second.TryBind(Port(100))
	}
	set, bind := try(unix.SO_REUSEADDR)
	_, again := try(unix.SO_REUSEPORT)
	c.Verdict(
		Holds(set == nil && bind == unix.EADDRINUSE, "both sockets can have SO_REUSEADDR, and bind of the second is %s", name(bind)),
		Holds(again == unix.EADDRINUSE, "nor does SO_REUSEPORT help, where setsockopt takes it at all: %s", name(again)),
	)
}

func TestA0_83_UDPFailsToo(t *testing.T) {
	c := Try(t)
	try := func(reuse int) error {
		var port int
		for range 2 {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			c.Must(err, "socket")
			defer unix.Close(fd)
			c.Must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, reuse), "setting SO_REUSEADDR")
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
				return err
			}
			sa, err := unix.Getsockname(fd)
			c.Must(err, "getsockname")
			port = sa.(*unix.SockaddrInet4).Port
		}
		return nil
	}
	without, with := try(0), try(1)
	c.Verdict(
		Holds(without == unix.EADDRINUSE, "a second UDP socket at the same port is refused: %s", name(without)),
		Holds(with == nil, "and not if both have SO_REUSEADDR"),
	)
}

func TestA0_84_SendtoAndRecvfrom(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	c.Must(unix.Sendto(s.FD, Hello.Bytes(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}), "sendto")
	n, from, err := unix.Recvfrom(s.FD, make([]byte, 2000), 0)
	c.Must(err, "recvfrom")
	run := c.Trace()
	c.Verdict(
		Holds(len(run.Calls(trace.Sendmsg).By("sendto")) == 1 && bytes.Equal(run.Messages()[0].Data(), Hello.Bytes()), "sendto brings the message to the kernel"),
		Holds(len(run.Calls(trace.Recvmsg).By("recvfrom")) == 1 && n == 1040 && from.(*unix.SockaddrNetlink).Pid == 0, "recvfrom the reply and its sender's address"),
	)
}

func TestA0_86_NobodysAddress(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "reply_to", "header")
	s := c.Bound(Echo)
	err := s.TrySend(Message{PID: 4711}.Bytes(), Kernel)
	m := c.Trace().Messages()[0]
	c.Verdict(
		Holds(err == nil && m.Input.Uint("pid") == 4711, "a message with a number in nlmsg_pid that no socket has is taken"),
		But(m.Replies.First().Int("ret") == -int64(unix.ECONNREFUSED), "the module that replies there is told: ECONNREFUSED, from netlink_unicast"),
	)
}

func TestA0_87_AnAddressOnlyByBind(t *testing.T) {
	c := Try(t)
	s, other := c.Open(unix.NETLINK_USERSOCK), c.Process(nil).Bound(unix.NETLINK_USERSOCK)
	before := s.Name().Port
	_ = s.TrySend(Hello.Bytes(), Kernel) // which NETLINK_USERSOCK has not
	after := s.Name()
	if after.Port != 0 {
		other.Send(Hello, after)
	}
	c.Verdict(
		Holds(before == 0 && after.Port == 0, "who has not called bind has no address"),
		Instead(before == 0 && s.Queued().From == other.Name(), "one comes with the first send, %v, and others can send there", after),
	)
}

func TestA0_88_TheKernelBegins(t *testing.T) {
	c := Try(t)
	const agreed = 5000000 // nlnotify's
	s := c.Process(nil).Open(Notify)
	s.Bind(Port(agreed))
	c.Param("nlnotify", "via", "port")
	c.Write("nlnotify", "trigger", 1)
	d := s.Receive()
	c.Verdict(Holds(len(c.Trace().Calls(trace.Sendmsg)) == 0 && d.From.Port == 0 && d.Message().Type == trace.NotifyNews,
		"who has bound to the agreed port is told something, and has sent nothing"))
}

func TestA0_89_TheMakefile(t *testing.T) {
	c := Try(t)
	s := c.Bound(Bugs)
	s.Send(Hello, Kernel)
	c.Verdict(Holds(strings.Contains(c.Module("nlbugs", "taint"), "O") && s.Queued().Came(),
		"a module that was built outside of the kernel's sources, by obj-m and make -C .../build M=... modules, is loaded and answers"))
}
