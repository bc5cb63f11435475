// SPDX-License-Identifier: MIT

package claims

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/trace"
)

func TestA1_1_ProtocolNumbers(t *testing.T) {
	c := Try(t)
	old := c.Compiles("protocols_before_2_6_18")
	_, err := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, Bugs)
	c.Verdict(
		Holds(old.OK, "the header has NETLINK_W1, 1"),
		Instead(old.Unknown("NETLINK_W1") && c.Compiles("protocols").OK, "1 is NETLINK_UNUSED, and 22, NETLINK_SMC, is behind 16"),
		Instead(err == nil, "the kernel's table has room up to 31: nlbugs has 27"),
	)
}

func TestA1_2_AGroupIsABit(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "group", 64)
	route, member := c.Bound(unix.NETLINK_ROUTE), c.Bound(Echo)
	err := route.TryJoin(33)
	member.Join(64)
	c.Bound(Echo).Send(Hello, Kernel)
	heard := member.Queued()
	c.Verdict(
		Holds(err != nil, "NETLINK_ROUTE has no group 33"),
		Instead(err == nil && route.Name().Groups == 0, "it has, and a member has no bit for it in nl_groups"),
		Instead(heard.Came() && heard.From.Groups == 0, "so it is with group 64 of nlecho: its message comes, and has no bit beside it"),
	)
}

func TestA1_3_OneCallReachesAGroup(t *testing.T) {
	c := Try(t)
	const group = 7
	members := members(Echo, group, c.Task, c.Task, c.Process(nil))
	sender := c.Bound(Echo)
	from := len(c.Trace().Calls(trace.Sendmsg))
	sender.Send(Hello, Group(group))
	run := c.Trace()
	sends, heard := run.Calls(trace.Sendmsg)[from:], 0
	for _, m := range members {
		if bytes.Equal(m.Queued().Data, Hello.Bytes()) {
			heard++
		}
	}
	c.Verdict(
		Holds(len(sends) == 1 && sends[0].Syscall == "sendto", "the program makes one system call"),
		Holds(len(run.Calls(trace.Broadcast).First().Queued()) == 3 && heard == 3, "and the message is in the queues of the three members (%d)", heard),
	)
}

func TestA1_5_PrototypeOfCreate(t *testing.T) {
	c := Try(t)
	old := c.Compiles("create_old")
	c.Verdict(
		Holds(old.OK, "a call with these six arguments compiles"),
		Instead(old.Says("too many arguments to function") && c.Compiles("kernel_api").OK, "the header has another prototype: net, unit and a struct netlink_kernel_cfg"),
	)
}

func TestA1_6_ModuleIsThisModule(t *testing.T) {
	c := Try(t)
	given := c.Compiles("create_module")
	before := references(c, "nlecho")
	s := c.Open(Echo)
	open := references(c, "nlecho")
	s.Close()
	c.Verdict(
		Holds(given.OK, "a module passes THIS_MODULE"),
		Instead(given.Says("too many arguments to function"), "the compiler says that there are too many arguments"),
		Instead(open == before+1 && references(c, "nlecho") == before, "yet the kernel knows whose the protocol is: nlecho passes no module, and a socket holds it (%d references, then %d)", before, open),
	)
}

func TestA1_7_BindTellsTheKernel(t *testing.T) {
	c := Try(t)
	s, unbound := c.Open(Echo), c.Open(Echo)
	s.Bind(Port(4711))
	unbound.Send(Hello, Kernel)
	answered := unbound.Queued().Came()
	run := c.Trace()
	bind := run.Calls(trace.Bind).First()
	told := len(run.Events(trace.Unicast, trace.EchoInput).In(bind))
	c.Verdict(
		Holds(told > 0 || !answered, "bind sends something to nlecho, or without it no answer comes"),
		Instead(told == 0 && run.Events(trace.Insert).In(bind).First().Uint("portid") == 4711, "bind enters the port in the kernel's table (netlink_insert), and sends nothing to anybody"),
		Instead(answered && len(run.Calls(trace.Bind)) == 1, "a socket on which bind was never called is answered"),
	)
}

func TestA1_8_NamesOfOldProtocols(t *testing.T) {
	c := Try(t)
	old := c.Compiles("protocols_2_4")
	const ip6fw = 13
	_, err := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, ip6fw)
	c.Verdict(
		Holds(old.OK && err == nil, "the header has the three names, and a socket of NETLINK_IP6_FW can be made"),
		Instead(old.Unknown("NETLINK_ARPD", "NETLINK_ROUTE6") && c.Compiles("protocols").OK, "NETLINK_ARPD and NETLINK_ROUTE6 are unknown, and 8 and 11 are iSCSI and the connector"),
		Instead(err == unix.EPROTONOSUPPORT, "nobody is behind NETLINK_IP6_FW, 13: %s", name(err)),
	)
}

func TestA1_9_TwoHeadersToMake(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	message := Message{Type: 77, Seq: 88, Payload: []byte("Hello")}
	c.Must(s.TrySendmsg(message.Bytes(), Kernel, 0, 0), "sendmsg")
	c.Must(s.TrySendmsg([]byte("no header"), Kernel, 0, 0), "sendmsg without a struct nlmsghdr")
	run := c.Trace()
	got, call := run.Messages(), run.Calls(trace.Sendmsg).By("sendmsg").First()
	to, known := call.To()
	c.Verdict(
		Holds(known && to == 0 && call.Entry.Int("namelen") == unix.SizeofSockaddrNetlink, "where the message goes is in struct msghdr"),
		Holds(bytes.Equal(got[0].Data(), message.Bytes()), "struct nlmsghdr arrives as the program made it"),
		Holds(got[1].Reject.Seen(), "nobody makes one for it: nlecho refuses a message without"),
	)
}

func TestA1_11_RepliesHaveBuffersOfTheirOwn(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "replies", 2)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	run := c.Trace()
	request, replies := run.Calls(trace.Unicast).To(0).First(), run.Calls(trace.Unicast).To(s.Name().Port).OK()
	buffers := map[uint64]bool{request.Entry.Uint("skb"): true}
	for _, r := range replies {
		buffers[r.Entry.Uint("skb")] = true
	}
	c.Verdict(Holds(len(replies) == 2 && len(buffers) == 3 && trace.Inside(replies[1].Return, request),
		"while the request's sk_buff is in use, two replies are sent in two others"))
}

func TestA1_12_ControlBlock(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Message{PID: 1, Payload: []byte("Hello")}, Kernel)
	c.Verdict(
		Holds(c.Compiles("control_block").OK, "in the header NETLINK_CB(skb) is a struct netlink_skb_parms, at the place of cb"),
		Holds(c.Trace().Messages()[0].PortID() == s.Name().Port, "nlecho reads the sender's port there"),
	)
}

func TestA1_13_AddressIntoTheControlBlock(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	came, port := s.Queued().Came(), s.Name().Port
	field := c.Compiles("cb_destination")
	run := c.Trace()
	read := run.Calls(trace.Recvmsg).First().Took
	c.Verdict(
		Holds(field.OK || read.Uint("portid") == uint64(port), "NETLINK_CB of the reply has the destination's port"),
		Instead(field.Says("no member named"), "there is no field for it"),
		Instead(came && len(run.Calls(trace.Unicast).To(port).OK()) == 1 && read.Seen() && read.Uint("portid") == 0 && read.Uint("group") == 0,
			"netlink_unicast has the port as its argument; NETLINK_CB of the reply that came says 0, its sender, and no group"),
	)
}

func TestA1_14_UnicastToAProcess(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "reply_to", "header")
	other := c.Process(nil)
	s := other.Open(Echo)
	s.Bind(Port(4711))
	sender := c.Bound(Echo)
	sender.Send(Message{PID: uint32(other.PID)}, Kernel)
	sender.Send(Message{PID: 4711}, Kernel)
	run := c.Trace()
	process, port := run.Messages()[0].Replies.First(), run.Messages()[1].Replies.First()
	c.Verdict(
		Holds(process.Int("ret") > 0, "what is sent to the process ID arrives"),
		Instead(process.Int("ret") == -int64(unix.ECONNREFUSED), "the process has a socket, and yet its ID is ECONNREFUSED"),
		Instead(port.Int("ret") > 0 && s.Queued().Came(), "what is sent to the socket's port, 4711, arrives"),
	)
}

func TestA1_15_Nonblock(t *testing.T) {
	c := Try(t)
	reader, sender := c.Bound(unix.NETLINK_USERSOCK), c.Bound(unix.NETLINK_USERSOCK)
	c.Must(reader.TrySet(unix.SOL_SOCKET, unix.SO_RCVBUF, 1), "making the queue small") // to the least there is
	var full error
	for range 100 {
		if full = sender.TrySendRaw(Hello.Bytes(), reader.Name().raw(), unix.MSG_DONTWAIT); full != nil {
			break
		}
	}
	atOnce := c.Trace().Calls(trace.Sendmsg).Last()
	// The sleep must have an end, and nobody reads.
	c.Must(unix.SetsockoptTimeval(sender.FD, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 10000}), "setting SO_SNDTIMEO")
	late := sender.TrySend(Hello.Bytes(), reader.Name())

	c.Param("nlecho", "delay_ms", 1)
	echo := c.Bound(Echo)
	c.Must(echo.TrySendRaw(Hello.Bytes(), Kernel.raw(), unix.MSG_DONTWAIT), "a send to the kernel")
	run := c.Trace()
	slept := func(calls trace.Calls) bool { // 1: netlink_attachskb has slept, and the sender tries again
		for _, a := range calls {
			if a.Ret == 1 {
				return true
			}
		}
		return false
	}
	attach := run.Calls(trace.Attach)
	send := run.Calls(trace.Sendmsg).Last()
	c.Verdict(
		Holds(full == unix.EAGAIN && !slept(attach.Before(atOnce.Return)), "with nonblock a full queue is EAGAIN, and nobody sleeps"),
		Holds(late == unix.EAGAIN && slept(attach.After(atOnce.Return)), "without, the sender sleeps until its time is over"),
		But(run.Calls(trace.Unicast).To(0).Last().Entry.Int("nonblock") != 0 && trace.Inside(run.Messages()[0].Wakes.First(), send),
			"towards the kernel it changes nothing: the send lasts while nlecho sleeps in its callback"),
	)
}

func TestA1_16_BroadcastReturnsNothing(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "group", 9)
	void := c.Compiles("proto_broadcast_void")
	sender, member := c.Bound(Echo), c.Bound(Echo)
	sender.Send(Hello, Kernel)
	member.Join(9)
	sender.Send(Hello, Kernel)
	run := c.Trace()
	nobody, somebody := run.Messages()[0].Replies.First(), run.Messages()[1].Replies.First()
	c.Verdict(
		Holds(void.OK, "in the header netlink_broadcast is a void function"),
		Instead(void.Says("conflicting types") && c.Compiles("proto_broadcast").OK, "in the header it is an int function"),
		Instead(nobody.Int("ret") == -int64(unix.ESRCH) && somebody.Seen() && somebody.Int("ret") == 0, "it returns ESRCH where the group has no member, and 0 where it has one"),
	)
}

func TestA1_17_BroadcastLikeUnicast(t *testing.T) {
	c := Try(t)
	var members [4]*Socket // of the groups 1, 2, 3, and 3
	for i := range members {
		members[i] = c.Bound(Echo)
		members[i].Join(min(i+1, 3))
	}
	c.Param("nlecho", "group", 3)
	c.Bound(Echo).Send(Hello, Kernel)
	heard := ""
	for _, m := range members {
		heard += map[bool]string{true: "x", false: "-"}[m.Queued().Came()]
	}
	// A program's shout to a port as well: that is the third argument.
	port := members[2].Name().Port
	c.Bound(Echo).Send(Hello, Addr{Port: port, Groups: 1 << 2})
	shout := c.Trace().Calls(trace.Broadcast).Last()
	queued := shout.Queued()
	c.Verdict(
		Holds(heard == "xx--" || len(queued) == 1 && queued[0].Port == port, "a message for 3 goes to the groups 1 and 2, or one for a port to that port"),
		Instead(heard == "--xx", "a message for group 3 goes to the two members of group 3"),
		Instead(shout.Entry.Uint("portid") == uint64(port) && len(queued) == 1 && queued[0].Port == members[3].Name().Port,
			"with the port of the one as the third argument, it goes to the other alone"),
	)
}

func TestA1_18_AllocationByContext(t *testing.T) {
	c := Try(t)
	task, timer := news(c, c.Bound(Notify))
	c.Verdict(
		Holds(c.Compiles("proto_broadcast").OK, "netlink_broadcast takes both as its last argument"),
		Holds(task.Seen() && !task.IRQ, "a task tells something, with GFP_KERNEL"),
		Holds(timer.IRQ, "a timer, in an interrupt, tells something, with GFP_ATOMIC"),
	)
}

func TestA1_19_ALargeEnoughBuffer(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "replies", 2)
	const size = unix.NLMSG_HDRLEN + 1024 // of a reply
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	small, err := s.TryReceive(size-1, 0)
	c.Must(err, "receive")
	large, err := s.TryReceive(size, 0)
	c.Must(err, "receive")
	c.Verdict(
		Holds(small.Flags == unix.MSG_TRUNC && len(small.Data) == size-1, "a buffer with one byte less than the message gets what fits, and MSG_TRUNC"),
		Holds(large.Flags == 0 && len(large.Messages()) == 1 && !s.Queued().Came(), "the next call gets the next message: what did not fit is lost"),
	)
}
