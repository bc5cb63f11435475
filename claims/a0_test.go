// SPDX-License-Identifier: MIT

package claims

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/trace"
)

func TestA0_1_KernelToUserAndUserToUser(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	fromKernel := s.Queued()

	other, nobody := c.Process(nil).Bound(unix.NETLINK_USERSOCK), c.Nobody()
	nobody.Bound(unix.NETLINK_USERSOCK).Send(Hello, other.Name())
	fromUser := other.Receive()
	err := nobody.Bound(Echo).TrySend(Hello.Bytes(), s.Name())
	c.Verdict(
		Holds(fromKernel.Came() && fromKernel.From.Port == 0, "the kernel answers a program"),
		Holds(bytes.Equal(fromUser.Data, Hello.Bytes()) && fromUser.From.Port != 0, "a message of one process reaches another"),
		But(err == unix.EPERM, "on most protocols, nlecho's for one, that takes CAP_NET_ADMIN: an ordinary user's send is %s", name(err)),
	)
}

func TestA0_2_BetweenProcessesForBroadcast(t *testing.T) {
	c := Try(t)
	const group = 3
	members := members(unix.NETLINK_USERSOCK, group, c.Process(nil), c.Process(nil))
	nobody := c.Nobody().Bound(unix.NETLINK_USERSOCK)
	err := nobody.TrySend(Hello.Bytes(), Group(group)) // of the copy for port 0, which nobody has
	run := c.Trace()
	joins := nobody.TryJoin(group)
	nobody.Send(Hello, Port(members[0].Name().Port))
	c.Verdict(
		Holds(len(run.Calls(trace.Broadcast).First().Queued()) == 2 && members[0].Receive().From.Groups == 1<<(group-1) && members[1].Receive().From.Groups == 1<<(group-1),
			"one send of a process reaches two others (and returns %s)", name(err)),
		But(joins == unix.EPERM, "an ordinary user may shout, but not listen: joining a group is %s", name(joins)),
		But(members[0].Receive().From == nobody.Name(), "a message to one process alone arrives as well"),
	)
}

func TestA0_3_ThreeWaysIntoTheKernel(t *testing.T) {
	c := Try(t)
	// sysfs: what is written reaches the module, for it acts on it.
	c.Param("nlecho", "replies", 2)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	first, second := s.Queued(), s.Queued()
	sysfs := first.Came() && second.Came()

	// A character device: the kernel's log takes the line, and gives it back with a number.
	kmsg, err := unix.Open("/dev/kmsg", unix.O_RDWR|unix.O_NONBLOCK, 0)
	c.Must(err, "opening /dev/kmsg")
	defer unix.Close(kmsg)
	_, err = unix.Seek(kmsg, 0, unix.SEEK_END)
	c.Must(err, "going to the end of /dev/kmsg")
	_, err = unix.Write(kmsg, []byte("a line of claim A0-3\n"))
	c.Must(err, "writing to /dev/kmsg")
	line := make([]byte, 8192)
	n, err := unix.Read(kmsg, line)
	device := err == nil && strings.HasSuffix(strings.TrimSpace(string(line[:n])), ";a line of claim A0-3")
	c.Verdict(
		Holds(!sysfs && !device, "nothing but /proc, ioctl and Netlink carries data between a program and the kernel"),
		Instead(sysfs, "a number written to a file in sysfs makes nlecho answer twice"),
		Instead(device, "a line written to a character device, /dev/kmsg, reaches the kernel's log and is read back from it"),
	)
}

func TestA0_4_OnlyNetlinkIsDuplex(t *testing.T) {
	c := Try(t)
	const file = "/proc/sys/net/core/somaxconn"
	old, err := os.ReadFile(file)
	c.Must(err, "reading %s", file)
	defer os.WriteFile(file, old, 0)
	c.Must(os.WriteFile(file, []byte("1234"), 0), "writing %s", file)
	now, err := os.ReadFile(file)
	c.Must(err, "reading %s", file)
	proc := strings.TrimSpace(string(now)) == "1234"

	ifr, err := unix.NewIfreq("lo") // in goes the name,
	c.Must(err, "making a struct ifreq")
	s := c.Open(unix.NETLINK_ROUTE)
	ioctl := unix.IoctlIfreq(s.FD, unix.SIOCGIFINDEX, ifr) == nil && ifr.Uint32() == 1 // out comes the number
	c.Verdict(
		Holds(!proc && !ioctl, "/proc and ioctl carry data one way only"),
		Instead(proc, "one file in /proc takes a number, and gives it back"),
		Instead(ioctl, "one ioctl takes the name of an interface, and gives its number back"),
	)
}

func TestA0_5_SocketsWith32BitPorts(t *testing.T) {
	c := Try(t)
	const port = 0xfedcba98
	s := c.Open(Echo)
	s.Bind(Port(port))
	s.Send(Hello, Kernel)
	run := c.Trace()
	c.Verdict(
		Holds(c.Compiles("uapi_layout").OK, "in the header, nl_pid is a number of 4 bytes"),
		Holds(s.Name().Port == port && run.Messages()[0].PortID() == port, "all 32 bits of a port that bind was given are the sender's address"),
	)
}

func TestA0_6_AProtocolBelongsToAService(t *testing.T) {
	c := Try(t)
	route := c.Bound(unix.NETLINK_ROUTE)
	route.Send(Request(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg)), Kernel)

	nobodys := c.Bound(unix.NETLINK_USERSOCK).TrySend(Hello.Bytes(), Kernel)

	generic := c.Bound(unix.NETLINK_GENERIC)
	families := Request(unix.GENL_ID_CTRL, unix.NLM_F_DUMP, []byte{unix.CTRL_CMD_GETFAMILY, 1, 0, 0})
	generic.Send(families, Kernel)
	c.Verdict(
		Holds(route.Receive().Message().Type == unix.RTM_NEWLINK, "who asks on NETLINK_ROUTE is answered by the kernel's service for links"),
		But(nobodys == unix.ECONNREFUSED, "NETLINK_USERSOCK has a number, but no service: a send to the kernel is %s", name(nobodys)),
		But(len(generic.Receive().Messages()) > 1, "NETLINK_GENERIC has many: they are listed by the first of them"),
	)
}

// dump asks NETLINK_ROUTE for all objects of a kind, and returns them.
func dump(s *Socket, kind uint16, header int) []Message {
	all := s.List(Request(kind, unix.NLM_F_DUMP, make([]byte, header)))
	return all[:len(all)-1]
}

func TestA0_7_RouteIsForRoutesAndLinks(t *testing.T) {
	c := Try(t)
	s := c.Netns().Bound(unix.NETLINK_ROUTE)
	links := dump(s, unix.RTM_GETLINK, unix.SizeofIfInfomsg)
	before := len(dump(s, unix.RTM_GETROUTE, unix.SizeofRtMsg))
	up := make([]byte, unix.SizeofIfInfomsg) // of link 1, lo: flags and change mask IFF_UP
	binary.NativeEndian.PutUint32(up[4:], 1)
	binary.NativeEndian.PutUint32(up[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(up[12:], unix.IFF_UP)
	s.Send(Request(unix.RTM_NEWLINK, unix.NLM_F_ACK, up), Kernel)
	err, ok := s.Receive().Message().Error()
	routes := dump(s, unix.RTM_GETROUTE, unix.SizeofRtMsg)
	c.Verdict(
		Holds(len(links) > 0 && bytes.Contains(links[0].Payload, []byte("lo\x00")), "it lists the links of a network namespace, lo the first"),
		Holds(ok && err == nil && len(routes) > before, "it sets lo up, and lists the routes that come with that (%d before, %d after)", before, len(routes)),
	)
}

func TestA0_8_UeventTellsUdev(t *testing.T) {
	c := Try(t)
	s := c.Open(unix.NETLINK_KOBJECT_UEVENT)
	s.Bind(Addr{Groups: 1})
	c.Must(os.WriteFile("/sys/class/net/lo/uevent", []byte("add"), 0), "asking for an event of lo")
	d := s.Receive()
	c.Verdict(
		Holds(d.From.Port == 0 && d.From.Groups == 1 && bytes.Contains(d.Data, []byte("INTERFACE=lo\x00")), "the kernel tells the listeners of group 1 of lo"),
		But(bytes.HasPrefix(d.Data, []byte("add@/devices/virtual/net/lo\x00")) && len(d.Messages()) == 0,
			"what comes is text, %q, without a struct nlmsghdr", bytes.SplitN(d.Data, []byte{0}, 2)[0]),
	)
}

func TestA0_9_DuplexAndAsynchronous(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	s.Receive()
	run := c.Trace()
	send, read, message := run.Calls(trace.Sendmsg).First(), run.Calls(trace.Recvmsg).First(), run.Messages()[0]
	c.Verdict(
		Holds(trace.Inside(message.Replies.First(), send) && trace.Before(send.Return, read.Entry),
			"the kernel sends while the program's own send is under way, and does not wait until it is read"),
		But(trace.Inside(message.Done, send), "towards the kernel it is synchronous: the send returns when the kernel is done with the message"),
	)
}

func TestA0_10_YouBuildTheHeader(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Message{Type: 77, Flags: 0x5a5a, Seq: 88, PID: 99, Payload: []byte("Hello")}, Kernel)
	s.Send(Message{Len: 1, Payload: []byte("no header")}, Kernel) // sent, but of no use to anybody
	got := c.Trace().Messages()
	c.Verdict(
		Holds(got[0].Input.Uint("type") == 77 && got[0].Input.Uint("flags") == 0x5a5a && got[0].Input.Uint("seq") == 88 && got[0].Input.Uint("pid") == 99,
			"the standard calls carry the header as the program made it"),
		Holds(got[1].Reject.Seen(), "nothing makes one, or mends one: it is the receiver who finds a wrong length"),
	)
}

func TestA0_11_AnAPIInTheKernel(t *testing.T) {
	c := Try(t)
	missing := ""
	for _, f := range []string{"__netlink_kernel_create", "netlink_kernel_release", "netlink_unicast", "netlink_broadcast", "netlink_rcv_skb"} {
		if !c.Symbol(f) {
			missing += " " + f
		}
	}
	c.Verdict(
		Holds(missing == "", "the kernel has functions of its own for it%s", missing),
		Holds(c.Compiles("kernel_api").OK, "they are declared in linux/netlink.h and net/netlink.h"),
	)
}

func TestA0_12_Multicast(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "group", 5)
	sender, stranger := c.Bound(Echo), c.Bound(Echo)
	members := members(Echo, 5, c.Task, c.Task)
	sender.Send(Hello, Kernel)
	c.Verdict(
		Holds(members[0].Queued().Came() && members[1].Queued().Came(), "one message of the kernel reaches both members of a group"),
		Holds(!stranger.Queued().Came(), "and nobody else"),
	)
}

func TestA0_13_FromProcessesAndInterrupts(t *testing.T) {
	c := Try(t)
	task, timer := news(c, c.Bound(Notify))
	echo := c.Bound(Echo)
	echo.Send(Hello, Kernel)
	run := c.Trace()
	input := run.Messages()[0].Input
	c.Verdict(
		Holds(task.Seen() && !task.IRQ, "a message is sent from a task"),
		Holds(timer.IRQ, "and from a softirq, by a timer"),
		But(!input.IRQ && trace.Inside(input, run.Calls(trace.Sendmsg).Last()), "what a program sends is never handled in an interrupt, but in its own task"),
	)
}

func TestA0_14_MsgFlagsAreTheFlagsOfACall(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	ignored := s.TrySendmsg(Hello.Bytes(), Kernel, unix.MSG_OOB, 0) // in msg_flags
	obeyed := s.TrySendmsg(Hello.Bytes(), Kernel, 0, unix.MSG_OOB)  // as the argument
	d, err := s.TryRecvmsg(100, unix.MSG_PEEK, 0)
	c.Must(err, "recvmsg")
	taken := !s.Queued().Came()
	s.Send(Hello, Kernel)
	_, err = s.TryRecvmsg(100, 0, unix.MSG_PEEK)
	c.Must(err, "recvmsg")
	left := s.Queued().Came()
	c.Verdict(
		Holds(ignored != nil || !taken, "sendmsg refuses MSG_OOB, or recvmsg obeys MSG_PEEK, in msg_flags"),
		Instead(obeyed == unix.EOPNOTSUPP && left, "both obey them as their argument (%s; the message was left)", name(obeyed)),
		Instead(d.Flags == unix.MSG_TRUNC, "recvmsg overwrites msg_flags: they tell that what came was cut, MSG_TRUNC"),
	)
}

func TestA0_15_SendmsgDoesAll(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	c.Must(s.TrySet(unix.SOL_SOCKET, unix.SO_PASSCRED, 1), "setting SO_PASSCRED")
	b := Hello.Bytes()
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	s.Connect(Kernel)
	// What the others do: no address, one, several pieces.
	_, err := unix.Write(s.FD, b)
	c.Must(err, "write")
	c.Must(unix.Send(s.FD, b, 0), "send")
	c.Must(unix.Sendto(s.FD, b, 0, to), "sendto")
	_, err = unix.Writev(s.FD, [][]byte{b[:20], b[20:]})
	c.Must(err, "writev")
	// And all at once, with ancillary data beside it.
	_, err = unix.SendmsgBuffers(s.FD, [][]byte{b[:20], b[20:]}, unix.UnixCredentials(&unix.Ucred{Pid: int32(c.PID)}), to, 0)
	c.Must(err, "sendmsg")
	run := c.Trace()
	equal := 0
	for _, m := range run.Messages() {
		if bytes.Equal(m.Data(), b) && trace.Inside(m.Input, m.Call) {
			equal++
		}
	}
	pieces, control := [][]byte{make([]byte, 20), make([]byte, 2000)}, make([]byte, 256)
	n, oobn, _, from, err := unix.RecvmsgBuffers(s.FD, pieces, control, unix.MSG_PEEK)
	c.Must(err, "recvmsg")
	c.Verdict(
		Holds(equal == 5, "write, send, sendto, writev and sendmsg bring the same message to the same function of the kernel (%d of 5)", equal),
		Holds(n == unix.NLMSG_HDRLEN+1024 && from.(*unix.SockaddrNetlink).Pid == 0 && oobn > 0,
			"recvmsg gives pieces, address, flags and ancillary data at once"),
	)
}

func TestA0_17_FamilyAndPad(t *testing.T) {
	c := Try(t)
	s := c.Open(Echo)
	inet := Addr{Family: unix.AF_INET}
	errs := []error{s.TryBind(inet), s.TryConnect(inet), s.TrySend(Hello.Bytes(), inet)}
	padded := s.TryBind(Addr{Port: 4711, Pad: 7})
	reset := s.TryConnect(Addr{Family: unix.AF_UNSPEC})
	c.Verdict(
		Holds(errs[0] == unix.EINVAL && errs[1] == unix.EINVAL && errs[2] == unix.EINVAL, "bind, connect and sendto refuse another family: %v", errs),
		Holds(s.Name().Pad == 0, "in an address of the kernel's, nl_pad is 0"),
		But(padded == nil && s.Name().Port == 4711, "nobody looks at nl_pad: bind takes an address with 7 in it"),
		But(reset == nil, "connect takes AF_UNSPEC, too, to undo itself"),
	)
}

func TestA0_18_PidNamesAChannel(t *testing.T) {
	c := Try(t)
	other := c.Process(nil)
	first, second := other.Bound(Echo), other.Bound(Echo)
	same := Port(first.Name().Port)
	taken := c.Open(Echo).TryBind(same)
	protocol, netns := c.Open(Notify).TryBind(same), c.Netns().Open(Echo).TryBind(same)
	c.Verdict(
		Holds(taken == unix.EADDRINUSE, "the number is taken while a socket has it: %s", name(taken)),
		Holds(first.Name().Port == uint32(other.PID), "what the kernel chooses for a process is its process ID"),
		But(second.Name().Port != uint32(other.PID), "for its first socket, that is: the second one has %v", second.Name()),
		But(protocol == nil && netns == nil, "another protocol, and another network namespace, have numbers of their own"),
	)
}

func TestA0_19_KernelToKernel(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "reply_to", "header")
	c.Param("nlecho", "max_depth", 1)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel) // nlmsg_pid is 0: there goes the reply
	run := c.Trace()
	inputs := run.Events(trace.EchoInput).In(run.Calls(trace.Sendmsg).First())
	second := inputs.Where("portid", 0).First()
	c.Verdict(
		Holds(len(inputs) == 2 && second.Seen(), "a message that the kernel sends to port 0 reaches a kernel socket"),
		But(inputs.First().Uint("sk") == second.Uint("sk") && second.Int("depth") == 2,
			"it is the sender's own: its callback runs inside itself, and only nlecho's guard ends that"),
	)
}

func TestA0_20_PidZeroIsTheKernel(t *testing.T) {
	c := Try(t)
	s := c.Open(Echo)
	s.Bind(Port(0))
	s.Send(Hello, Port(0))
	run := c.Trace()
	c.Verdict(
		Holds(len(run.Messages()) == 1 && s.Queued().From.Port == 0, "a message to port 0 is the kernel's, and its answer comes from port 0"),
		But(run.Sockets()[0].Auto && s.Name().Port != 0, "in bind, 0 lets the kernel choose: port %d", s.Name().Port),
	)
}

func TestA0_21_JoiningTakesBind(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "group", 5)
	member, portless := c.Open(Echo), c.Open(Echo)
	err := member.TryJoin(5)
	portless.Join(5)
	member.Connect(Kernel) // which gives it a port
	c.Bound(Echo).Send(Hello, Kernel)
	run := c.Trace()
	c.Verdict(
		Holds(err != nil, "a socket on which bind was never called cannot join a group"),
		Instead(len(run.Calls(trace.Bind).On(run.Sockets()[0])) == 0 && member.Queued().From.Groups == 1<<4,
			"setsockopt (NETLINK_ADD_MEMBERSHIP) joins it, and the group's messages come"),
		Instead(!portless.Queued().Came(), "but a port it must have, from connect or a send: who has none is taken for the sender, port 0, and left out"),
	)
}

func TestA0_22_GroupsAreAMask(t *testing.T) {
	c := Try(t)
	member := c.Open(Echo)
	member.Bind(Addr{Groups: 0b101})
	heard, sender := 0, c.Bound(Echo)
	for group := range 5 {
		c.Param("nlecho", "group", group+1)
		sender.Send(Hello, Kernel)
		if member.Queued().Came() {
			heard |= 1 << group
		}
	}
	c.Verdict(Holds(heard == 0b101, "who binds with nl_groups 5 hears the groups 1 and 3, and not 5 (heard: %#b)", heard))
}

func TestA0_23_NoGroups(t *testing.T) {
	c := Try(t)
	s := c.Open(Echo)
	s.Bind(Addr{Groups: 0})
	heard, sender := 0, c.Bound(Echo)
	for group := range 64 {
		c.Param("nlecho", "group", group+1)
		sender.Send(Hello, Kernel)
		if s.Queued().Came() {
			heard++
		}
	}
	c.Verdict(Holds(heard == 0, "who binds with nl_groups 0 hears none of nlecho's 64 groups (%d)", heard))
}

func TestA0_24_AtMost32Groups(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "group", 40)
	s := c.Bound(Echo)
	err := s.TryJoin(40)
	c.Bound(Echo).Send(Hello, Kernel)
	c.Verdict(
		Holds(err != nil, "there is no group 40"),
		Instead(s.Queued().Came(), "a member of group 40 hears what is sent to it, and not to a bit of a mask"),
	)
}

func TestA0_25_HeaderWithTheSendersPid(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Message{PID: uint32(c.PID), Payload: []byte("true")}, Kernel)
	s.Send(Message{PID: 1, Payload: []byte("false")}, Kernel)
	got := c.Trace().Messages()
	c.Verdict(
		Holds(c.Compiles("uapi_layout").OK, "struct nlmsghdr has the fields len, type, flags, seq and pid, of 4, 2, 2, 4 and 4 bytes"),
		Holds(got[0].Input.Uint("pid") == uint64(c.PID), "nlmsg_pid can carry the sender's process ID"),
		But(got[1].Input.Uint("pid") == 1 && got[1].PortID() == s.Name().Port, "nobody compares it with anything: a false one arrives just so, beside the sender's true port"),
	)
}

func TestA0_26_HeaderFile(t *testing.T) {
	c := Try(t)
	c.Verdict(
		Holds(c.Compiles("nlmsghdr").OK, "linux/netlink.h alone declares struct nlmsghdr"),
		Holds(!c.Compiles("nlmsghdr_without").OK, "without it there is none"),
	)
}

func TestA0_27_LengthIncludesTheHeader(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	payload := []byte("12345")
	for _, n := range []uint32{unix.NLMSG_HDRLEN + 5, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN - 1} {
		s.Send(Message{Len: n, Payload: payload}, Kernel)
	}
	got := c.Trace().Messages()
	c.Verdict(
		Holds(len(got[0].Data()) == 21 && bytes.HasSuffix(got[0].Data(), payload), "a length of 21 is 16 of header and 5 of payload"),
		Holds(got[1].Input.Seen() && got[2].Reject.Seen(), "16 is the least: 15 is refused"),
	)
}

func TestA0_28_TypesAreDataOrControl(t *testing.T) {
	c := Try(t)
	s := c.Bound(Notify)
	handled := func(first int) int {
		from := c.Trace().Events(trace.NotifyRequest)
		for typ := range uint16(16) {
			s.Send(Request(uint16(first)+typ, 0, nil), Kernel)
		}
		return len(c.Trace().Events(trace.NotifyRequest)) - len(from)
	}
	control, data := handled(0), handled(unix.NLMSG_MIN_TYPE)
	c.Verdict(
		Holds(control == 0, "no message of the types 0 to 15 reaches the module behind netlink_rcv_skb (%d of 16 do)", control),
		Holds(data == 16, "those of the types 16 to 31 all do (%d of 16)", data),
	)
}

func TestA0_29_FourControlTypes(t *testing.T) {
	c := Try(t)
	c.Verdict(Holds(c.Compiles("control_types").OK, "the header has NOOP, ERROR, DONE and OVERRUN, with the numbers 1 to 4, and keeps those up to 15 for more"))
}

func TestA0_30_NoopDoesNothing(t *testing.T) {
	c := Try(t)
	s := c.Bound(Notify)
	s.Send(Request(unix.NLMSG_NOOP, 0, nil), Kernel)
	silent := !s.Queued().Came() && len(c.Trace().Events(trace.NotifyRequest)) == 0
	s.Send(Request(unix.NLMSG_NOOP, unix.NLM_F_ACK, nil), Kernel)
	err, ok := s.Queued().Message().Error()
	c.Verdict(
		Holds(silent, "the module does not see it, and nothing comes back"),
		But(ok && err == nil, "with NLM_F_ACK it is acknowledged all the same"),
	)
}

func TestA0_85_BindIsMandatory(t *testing.T) {
	c := Try(t)
	s := c.Open(Echo) // and no bind
	s.Send(Hello, Kernel)
	answer := s.Queued()
	run := c.Trace()
	socket := run.Sockets()[0]
	c.Verdict(
		Holds(!answer.Came(), "who has not called bind gets no answer"),
		Instead(len(run.Calls(trace.Bind)) == 0 && socket.Auto && trace.Inside(socket.Bound, run.Calls(trace.Sendmsg).First()),
			"the kernel itself chooses port %d, inside the first sendmsg", socket.Port),
	)
}

func TestA0_49_CreateTakesSixArguments(t *testing.T) {
	c := Try(t)
	old := c.Compiles("create_old")
	c.Verdict(
		Holds(old.OK, "a call with these six arguments compiles"),
		Instead(old.Says("too many arguments to function"), "the compiler says that there are too many arguments"),
	)
}
