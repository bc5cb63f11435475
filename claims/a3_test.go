// SPDX-License-Identifier: MIT

package claims

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/trace"
)

func TestA3_1_BothSidesMayStart(t *testing.T) {
	c := Try(t)
	listener := c.Bound(Notify)
	listener.Join(1)
	c.Write("nlnotify", "trigger", 1)
	news, asked := listener.Queued(), len(c.Trace().Calls(trace.Sendmsg))

	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	other := c.Process(nil).Bound(unix.NETLINK_USERSOCK)
	c.Bound(unix.NETLINK_USERSOCK).Send(Hello, other.Name())
	err := c.Nobody().Bound(Echo).TrySend(Hello.Bytes(), s.Name())
	c.Verdict(
		Holds(news.Came() && asked == 0, "the kernel speaks to a program that has sent nothing"),
		Holds(len(c.Trace().Messages()) == 1, "a program speaks to the kernel"),
		Holds(bytes.Equal(other.Receive().Data, Hello.Bytes()), "a program speaks to another"),
		But(err == unix.EPERM, "that needs CAP_NET_ADMIN on most protocols: without it the send is %s", name(err)),
	)
}

func TestA3_2_TheKernelHearsNoMulticast(t *testing.T) {
	c := Try(t)
	member, sender := c.Bound(Echo), c.Bound(Echo)
	member.Join(5)
	sender.Send(Hello, Addr{Port: member.Name().Port, Groups: Group(5).Groups})
	heard := len(c.Trace().Messages())
	sender.Send(Hello, Group(5)) // and port 0
	got := c.Trace().Messages()
	c.Verdict(
		Holds(heard == 0 && member.Queued().Came(), "a message to a group and a member's port reaches no function of the kernel"),
		But(len(got) == 1 && got[0].Input.Uint("dst_group") == 5, "a message to a group and port 0 is unicast to the kernel as well, with the group beside it"),
	)
}

func TestA3_3_NetlinkSendmsgIsTheWayIn(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	b := Hello.Bytes()
	_, err := unix.Write(s.FD, b)
	c.Must(err, "write") // the trace does not show the test's own write(2), only where it leads
	c.Must(s.TrySend(b, Kernel), "sendto")
	c.Must(s.TrySendmsg(b, Kernel, 0, 0), "sendmsg")
	sends := c.Trace().Calls(trace.Sendmsg)
	c.Verdict(
		Holds(len(sends) == 3 && len(sends.By("sendto")) == 1 && len(sends.By("sendmsg")) == 1, "write, sendto and sendmsg all lead to netlink_sendmsg"),
		Holds(c.Compiles("sendmsg_args").OK, "such a function is given the socket, the message and its length, and no struct kiocb"),
	)
}

func TestA3_4_OpsAreAttachedInCreate(t *testing.T) {
	c := Try(t)
	c.Probe("create", "__netlink_create", "sock=$arg2:x64 ops=+32($arg2):x64") // ops of struct socket
	c.Probe("binding", "netlink_bind", "sock=$arg1:x64 ops=+32($arg1):x64")
	c.Bound(Echo)
	run := c.Trace()
	create, bind := run.Events("create").First(), run.Events("binding").First()
	c.Verdict(
		Holds(trace.Inside(create, run.Calls("socket").First()) && create.Uint("ops") == 0, "socket(2) calls __netlink_create with a socket that has no functions"),
		Holds(bind.Uint("sock") == create.Uint("sock") && bind.Uint("ops") == c.Address("netlink_ops"), "when socket(2) is over, it has those of netlink_ops"),
	)
}

func TestA3_5_OutOfBand(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	send := s.TrySendRaw(Hello.Bytes(), Kernel.raw(), unix.MSG_OOB)
	_, receive := s.TryReceive(100, unix.MSG_OOB|unix.MSG_DONTWAIT)
	c.Verdict(Holds(send == unix.EOPNOTSUPP && receive == unix.EOPNOTSUPP, "with MSG_OOB sending is %s, and so is receiving", name(send)))
}

func TestA3_6_ScmSendHandlesAncillaryData(t *testing.T) {
	c := Try(t)
	reader, s := c.Bound(unix.NETLINK_USERSOCK), c.Bound(unix.NETLINK_USERSOCK)
	c.Must(reader.TrySet(unix.SOL_SOCKET, unix.SO_PASSCRED, 1), "SO_PASSCRED")
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: reader.Name().Port}
	files := unix.Sendmsg(s.FD, Hello.Bytes(), unix.UnixRights(s.FD), to, 0)
	c.Must(unix.Sendmsg(s.FD, Hello.Bytes(), unix.UnixCredentials(&unix.Ucred{Pid: 1, Uid: 7, Gid: 8}), to, 0), "credentials")
	s.Send(Hello, reader.Name())
	reader.Receive()
	reader.Receive()
	run := c.Trace()
	given, own := run.Calls(trace.Recvmsg).First().Told(unix.SOL_SOCKET, unix.SCM_CREDENTIALS), run.Calls(trace.Recvmsg).Last().Told(unix.SOL_SOCKET, unix.SCM_CREDENTIALS)
	c.Verdict(
		Holds(files == unix.EINVAL && run.RefusedBy(run.Calls(trace.Sendmsg).First()).Name == trace.ScmSend, "it refuses descriptors: %s", name(files)),
		Holds(given.Uint("a") == 1 && given.Uint("b") == 7 && given.Uint("c") == 8, "it takes credentials that root gives, and the reader is told them"),
		Holds(int(own.Uint("a")) == c.PID && own.Has("b") && own.Uint("b") == 0, "where none are given, the reader is told the sender's own"),
	)
}

func TestA3_7_AnotherFamily(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	family := s.TrySend(Hello.Bytes(), Addr{Family: unix.AF_INET})
	short := s.TrySendRaw(Hello.Bytes(), Kernel.raw()[:8], 0)
	c.Verdict(
		Holds(family == unix.EINVAL && len(c.Trace().Messages()) == 0, "a send to an address of another family is %s", name(family)),
		Holds(short == unix.EINVAL, "and so is one to an address that is too short: %s", name(short)),
	)
}

func TestA3_8_OneGroupByFfs(t *testing.T) {
	c := Try(t)
	low, high := c.Bound(unix.NETLINK_USERSOCK), c.Bound(unix.NETLINK_USERSOCK)
	low.Join(2)
	high.Join(3)
	_ = c.Bound(unix.NETLINK_USERSOCK).TrySend(Hello.Bytes(), Addr{Groups: 0b110})
	shout := c.Trace().Calls(trace.Broadcast).First()
	c.Verdict(Holds(shout.Entry.Uint("group") == 2 && low.Queued().Came() && !high.Queued().Came(),
		"a message to the mask 0b110 goes to group 2, the lowest bit, and not to group 3"))
}

func TestA3_9_EpermWithoutNonrootSend(t *testing.T) {
	c := Try(t)
	nobody := c.Nobody()
	s := nobody.Bound(Echo)
	port, group, kernel := s.TrySend(Hello.Bytes(), Port(4711)), s.TrySend(Hello.Bytes(), Group(5)), s.TrySend(Hello.Bytes(), Kernel)

	reader := c.Bound(unix.NETLINK_USERSOCK)
	waived := nobody.Bound(unix.NETLINK_USERSOCK).TrySend(Hello.Bytes(), reader.Name())

	id := []syscall.SysProcIDMap{{HostID: 65534, Size: 1}}
	own := c.Process(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: id, GidMappings: id,
		Credential: &syscall.Credential{NoSetGroups: true}}) // root there
	there := own.Bound(Echo)
	root := own.Bound(Echo).TrySend(Hello.Bytes(), there.Name())
	c.Verdict(
		Holds(port == unix.EPERM && group == unix.EPERM && kernel == nil, "an ordinary user's send to a port or a group is %s, and one to the kernel is not", name(port)),
		Holds(waived == nil, "on NETLINK_USERSOCK, which has the flag, it is allowed"),
		But(root == nil, "the flag is not all: CAP_NET_ADMIN will do, and be it in a user namespace of one's own, over a network namespace of one's own"),
	)
}

func TestA3_10_DefaultAddress(t *testing.T) {
	c := Try(t)
	reader, s, stranger := c.Bound(Echo), c.Bound(Echo), c.Bound(Echo)
	unconnected := s.TrySendRaw(Hello.Bytes(), nil, 0)
	atKernel := len(c.Trace().Messages())
	s.Connect(reader.Name())
	connected := s.TrySendRaw(Hello.Bytes(), nil, 0)
	refused := stranger.TrySend(Hello.Bytes(), s.Name())
	c.Verdict(
		Holds(connected == nil && reader.Queued().From == s.Name() && len(c.Trace().Messages()) == 1, "after connect a message without an address goes there"),
		Holds(unconnected == nil && atKernel == 1, "before, it went to the kernel"),
		But(refused == unix.ECONNREFUSED, "connect does more: strangers' messages to that socket are refused then, %s", name(refused)),
	)
}

func TestA3_11_Autobind(t *testing.T) {
	c := Try(t)
	bound := c.Bound(Echo)
	unbound := c.Open(Echo)
	inserted := func() int { return len(c.Trace().Events(trace.Insert)) }
	before := inserted()
	bound.Send(Hello, Kernel)
	none := inserted() == before
	unbound.Send(Hello, Kernel)
	run := c.Trace()
	socket := run.Sockets()[1]
	c.Verdict(
		Holds(socket.Auto && trace.Inside(socket.Bound, run.Calls(trace.Sendmsg).Last()), "an unbound socket is given a port inside its first send: %d", int32(socket.Port)),
		Holds(none, "one that is bound is given none"),
	)
}

func TestA3_12_MappedSend(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	ring := s.TrySet(unix.SOL_NETLINK, unix.NETLINK_TX_RING, 1)
	_, mapped := unix.Mmap(s.FD, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	c.Verdict(
		Holds(ring == nil && mapped == nil, "a socket takes a ring of messages, and can be mapped"),
		Instead(ring == unix.ENOPROTOOPT && mapped == unix.ENODEV && !c.Symbol("netlink_mmap"), "there is no such option (%s), and no mapping (%s)", name(ring), name(mapped)),
	)
}

func TestA3_13_LargestMessage(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	buffer, err := unix.GetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_SNDBUF)
	c.Must(err, "SO_SNDBUF")
	largest := buffer - 32
	fits := s.TrySend(make([]byte, largest), Kernel)
	larger := s.TrySend(make([]byte, largest+1), Kernel)
	c.Verdict(
		Holds(fits == nil, "with sk_sndbuf %d, a message of %d bytes is sent", buffer, largest),
		Holds(larger == unix.EMSGSIZE, "one of %d is %s", largest+1, name(larger)),
	)
}

func TestA3_14_NoMemory(t *testing.T) {
	c := Try(t)
	const size = 16 << 20 // more than the kernel gives in one piece
	s := c.Bound(Echo)
	c.Must(s.TrySet(unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size), "a large buffer")
	b := make([]byte, size)
	pieces := s.TrySend(b, Kernel)
	whole := s.TrySend(b, Group(5))
	c.Verdict(Holds(pieces == nil && whole == unix.ENOBUFS,
		"16 MiB to the kernel are sent; to a group, for which the message has to be in one piece of memory, they are %s", name(whole)))
}

func TestA3_15_ControlBlock(t *testing.T) {
	c := Try(t)
	c.Probe("block", "netlink_unicast", "pid=+40($arg2):s32 uid=+44($arg2):u32 portid=+52($arg2):u32 group=+56($arg2):u32 flags=+60($arg2):u32") // cb of struct sk_buff
	nobody := c.Nobody().Bound(Echo)
	nobody.Send(Hello, Kernel)
	s := c.Bound(Echo)
	_ = s.TrySend(Hello.Bytes(), Group(5))
	_ = s.TrySendRaw(Hello.Bytes(), nil, 0)
	run := c.Trace()
	var blocks []trace.Event
	for _, send := range run.Calls(trace.Sendmsg) {
		blocks = append(blocks, run.Events("block").In(send).First())
	}
	c.Verdict(
		Holds(c.Compiles("control_block").OK, "NETLINK_CB(skb) has portid, dst_group, creds and flags"),
		Holds(uint32(blocks[0].Uint("portid")) == nobody.Name().Port && blocks[1].Uint("group") == 5, "the sender's port and the group are in it"),
		Holds(int(blocks[0].Int("pid")) == c.PID && blocks[0].Uint("uid") == 65534 && blocks[1].Uint("uid") == 0, "and whose process it is"),
		Holds(blocks[1].Uint("flags") == 8 && blocks[2].Has("flags") && blocks[2].Uint("flags") == 0, "and a flag where an address was given"),
	)
}

func TestA3_16_SecurityHook(t *testing.T) {
	c := Try(t)
	c.Probe("hook", "security_netlink_send", "sk=$arg1:x64 skb=$arg2:x64")
	c.ProbeReturn("hooked", "security_netlink_send")
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	run := c.Trace()
	send, unicast := run.Calls(trace.Sendmsg).First(), run.Calls(trace.Unicast).First()
	hook := run.Events("hook").In(send).First()
	c.Verdict(Holds(hook.Uint("skb") == unicast.Entry.Uint("skb") && trace.Before(run.Events("hooked").In(send).First(), unicast.Entry),
		"security_netlink_send is shown each message before it goes anywhere"))
}

func TestA3_17_UnicastOrMulticast(t *testing.T) {
	c := Try(t)
	port, member, sender := c.Bound(Echo), c.Bound(Echo), c.Bound(Echo)
	member.Join(5)
	sender.Send(Hello, Addr{Port: port.Name().Port, Groups: Group(5).Groups})
	run := c.Trace()
	unicast, multicast := port.Queued().Came(), member.Queued().Came()
	c.Verdict(
		Holds(unicast != multicast, "a message to a port and a group reaches one of the two"),
		Instead(unicast && multicast && trace.Before(run.Calls(trace.Broadcast).First().Return, run.Calls(trace.Unicast).First().Entry),
			"it reaches both: netlink_sendmsg calls netlink_broadcast, and netlink_unicast after it"),
	)
}

func TestA3_18_OneAndTwo(t *testing.T) {
	c := Try(t)
	reader, s := c.Bound(Echo), c.Bound(Echo)
	s.Send(Hello, reader.Name())
	c.Must(s.TrySendRaw(Hello.Bytes(), reader.Name().raw(), unix.MSG_DONTWAIT), "send")
	run := c.Trace()
	calls, doors := run.Calls(trace.Unicast), run.Calls(trace.Attach)
	waits, never := calls[0].Entry.Int("nonblock"), calls[1].Entry.Int("nonblock")
	c.Verdict(
		Holds(waits == 2 && never == 1, "netlink_unicast is given 2 by who waits and 1 by who does not"),
		Instead(waits == 0 && doors[0].Entry.Int("timeo") > 0, "0 waits"),
		Instead(never == unix.MSG_DONTWAIT && doors[1].Entry.Int("timeo") == 0, "MSG_DONTWAIT, which is %#x, does not", never),
		Instead(c.Compiles("noblock").OK, "nor does any other number but 0: it is taken as a bool"),
	)
}

func TestA3_19_ThreeUsesOfUnicast(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "reply_to", "header")
	c.Param("nlecho", "max_depth", 1)
	reader, s := c.Bound(Echo), c.Bound(Echo)
	s.Send(Message{PID: s.Name().Port}, Kernel)
	s.Send(Hello, reader.Name())
	s.Send(Message{PID: 0}, Kernel) // the answer goes to port 0
	run := c.Trace()
	calls, kernel := run.Calls(trace.Unicast), run.Messages()[0].Input.Uint("sk")
	ours := func(c trace.Call) bool { return c.Entry.Uint("ssk") != kernel }
	c.Verdict(
		Holds(ours(calls[0]) && calls[0].Entry.Uint("portid") == 0, "it takes a program's message to the kernel"),
		Holds(!ours(calls[1]) && calls[1].Entry.Uint("portid") != 0, "the kernel's to a program"),
		Holds(ours(calls[2]) && calls[2].Entry.Uint("portid") != 0, "and a program's to another"),
		But(!ours(calls[4]) && calls[4].Entry.Uint("portid") == 0, "there is a fourth use: the kernel's message to the kernel"),
	)
}

func TestA3_20_TrimThenTimeLimit(t *testing.T) {
	c := Try(t)
	c.Probe("expand", "pskb_expand_head", "skb=$arg1:x64 tail=$arg3:s32")
	generic := c.Bound(unix.NETLINK_GENERIC)
	// The name and version of family nlctrl: the answer is short, and its memory is a page.
	generic.Send(Request(unix.GENL_ID_CTRL, 0, []byte{unix.CTRL_CMD_GETFAMILY, 1, 0, 0, 6, 0, unix.CTRL_ATTR_FAMILY_ID, 0, unix.GENL_ID_CTRL, 0, 0, 0}), Kernel)
	run := c.Trace()
	answer := run.Calls(trace.Unicast)[1]
	trim := run.Events("expand").In(answer).First()

	reader, s := c.Bound(Echo), c.Bound(Echo)
	reader.Small()
	s.Full(Hello, reader.Name())
	c.Must(unix.SetsockoptTimeval(s.FD, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Usec: 20_000}), "SO_SNDTIMEO")
	err := s.TrySend(Hello.Bytes(), reader.Name())
	run = c.Trace()
	doors := run.Calls(trace.Attach)
	first, again := doors[len(doors)-2], doors[len(doors)-1]
	c.Verdict(
		Holds(trim.Uint("skb") == answer.Entry.Uint("skb") && trim.Int("tail") < 0 && trace.Before(trim, run.Calls(trace.Attach).First().Entry), "an answer of the kernel's with much unused memory is cut to size first (by %d bytes)", -trim.Int("tail")),
		Holds(first.Entry.Int("timeo") > 0 && first.Ret == 1 && again.Entry.Int("timeo") == 0 && err == unix.EAGAIN, "a sender with SO_SNDTIMEO waits at a full queue, and once the time is up the send is %s", name(err)),
	)
}

func TestA3_21_KernelDestination(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	run := c.Trace()
	toKernel, answer := run.Calls(trace.Unicast)[0], run.Calls(trace.Unicast)[1]
	c.Verdict(Holds(trace.Inside(run.Messages()[0].Input, toKernel) && len(run.Calls(trace.Attach)) == 1 && trace.Inside(run.Calls(trace.Attach)[0].Entry, answer),
		"a message to port 0 is handed to the kernel's function inside netlink_unicast, through no queue: only the answer is queued"))
}

// drops gives a socket a filter that lets nothing pass.
func drops(c *Trial, s *Socket) {
	c.t.Helper()
	code := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	c.Must(unix.SetsockoptSockFprog(s.FD, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &code[0]}), "a filter")
}

func TestA3_22_SocketFilter(t *testing.T) {
	c := Try(t)
	reader, s := c.Bound(Echo), c.Bound(Echo)
	drops(c, reader)
	s.Send(Hello, reader.Name())
	unicast := c.Trace().Calls(trace.Unicast).First()
	s.Send(Hello, Kernel)
	run := c.Trace()
	atKernel := run.Events(trace.Filter).In(run.Calls(trace.Unicast)[1]).Before(run.Messages()[0].Input)
	c.Verdict(
		Holds(unicast.Dropped() && !reader.Queued().Came(), "a filter that takes nothing keeps a message out of the reader's queue"),
		Holds(unicast.Ret == int64(len(Hello.Bytes())), "and the sender is told that all is well: %d bytes", unicast.Ret),
		Holds(len(atKernel) == 0 && s.Queued().Came(), "towards the kernel no filter is asked"),
	)
}

// lastSend is the last send of the socket's process.
func lastSend(p *trace.Program, s *Socket) (last trace.Call) {
	for _, send := range p.Calls(trace.Sendmsg) {
		if send.PID() == s.task.PID {
			last = send
		}
	}
	return last
}

// waiting has another process send to a full queue, and returns when it sleeps there.
// The returned function waits for the end of that send.
func waiting(c *Trial, sender, reader *Socket) (wait func() error) {
	c.t.Helper()
	c.Enable(trace.SleepEvents()...)
	to := reader.Name()
	reader.Small()
	sender.Full(Hello, to)
	var err error
	done := c.Background(func() { err = sender.TrySend(Hello.Bytes(), to) })
	c.WaitFor("the sender sleeps", func(p *trace.Program) bool {
		return len(p.Sleeps(lastSend(p, sender))) > 0
	})
	return func() error { done(); return err }
}

func TestA3_23_AttachAndRetry(t *testing.T) {
	c := Try(t)
	other := c.Process(nil)
	reader := c.Bound(Echo)
	sender := other.Bound(Echo)
	wait := waiting(c, sender, reader)
	for reader.Queued().Came() {
	}
	c.Must(wait(), "the send")
	run := c.Trace()
	doors := run.Calls(trace.Attach)
	first, again := doors[len(doors)-2], doors[len(doors)-1]

	wait = waiting(c, sender, reader)
	reader.Close()
	gone := wait()
	c.Verdict(
		Holds(first.Ret == 1 && again.Ret == 0 && first.Entry.Uint("skb") == again.Entry.Uint("skb"), "where netlink_attachskb has slept it returns 1, and is called once more for the same message"),
		Holds(gone == unix.ECONNREFUSED, "in between the receiver is looked up again: where it was closed meanwhile, the send is %s", name(gone)),
	)
}

func TestA3_24_NoInputFunction(t *testing.T) {
	c := Try(t)
	const rare = 30 // nlrare's socket has none
	s := c.Bound(rare)
	err := s.TrySend(Hello.Bytes(), Kernel)
	run := c.Trace()
	c.Verdict(
		Holds(len(run.Calls(trace.Unicast)) == 1 && len(run.Calls(trace.Unicast)[0].Queued()) == 0 && !s.Queued().Came(), "nobody gets the message"),
		But(err == unix.ECONNREFUSED, "the sender is told so: %s", name(err)),
	)
}

func TestA3_25_CalledIsReceived(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Message{Len: 1, Payload: []byte("no message")}, Kernel)
	run := c.Trace()
	send := run.Calls(trace.Sendmsg).First()
	c.Verdict(Holds(trace.Inside(run.Messages()[0].Reject, send) && send.Ret == unix.NLMSG_HDRLEN+10,
		"what the kernel's function refuses counts as sent, too: %d bytes", send.Ret))
}

func TestA3_26_TapOnTheKernelPath(t *testing.T) {
	c := Try(t)
	route := c.Bound(unix.NETLINK_ROUTE)
	acked := func(m Message) {
		route.Send(m, Kernel)
		err, ok := route.Receive().Message().Error()
		c.Must(err, "changing a link")
		if !ok {
			c.fatal("no acknowledgement")
		}
	}
	// A device of type nlmon, which is up: attributes IFLA_IFNAME, and IFLA_INFO_KIND in IFLA_LINKINFO.
	link := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(link[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(link[12:], unix.IFF_UP)
	link = append(link, "\x0b\x00\x03\x00nlmon0\x00\x00\x10\x00\x12\x00\x0a\x00\x01\x00nlmon\x00\x00\x00"...)
	acked(Request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_ACK, link))
	index, err := net.InterfaceByName("nlmon0")
	c.Must(err, "finding the device")
	const everything = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
	tap, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything)
	c.Must(err, "a packet socket")
	defer unix.Close(tap)
	c.Must(unix.Bind(tap, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: index.Index}), "binding it")
	listed := Request(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg))
	route.Send(listed, Kernel)
	c.Bound(Echo).Send(Hello, Kernel)
	var seen [][]byte
	for b := make([]byte, bufferSize); ; {
		n, _, err := unix.Recvfrom(tap, b, unix.MSG_DONTWAIT)
		if err != nil {
			break
		}
		seen = append(seen, bytes.Clone(b[:n]))
	}
	gone := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(gone[4:], uint32(index.Index))
	for route.Queued().Came() {
	}
	acked(Request(unix.RTM_DELLINK, unix.NLM_F_ACK, gone))
	has := func(m Message) bool {
		return slices.ContainsFunc(seen, func(b []byte) bool { return bytes.Equal(b, m.Bytes()) })
	}
	c.Verdict(
		Holds(has(listed), "a device of type nlmon records a message to the kernel, on NETLINK_ROUTE"),
		But(!has(Hello), "only protocols of a list are recorded: nlecho's, 25, is not"),
	)
}

func TestA3_27_FullQueue(t *testing.T) {
	c := Try(t)
	reader, s := c.Bound(Echo), c.Bound(Echo)
	reader.Small()
	n := s.Full(Hello, reader.Name())
	used, limit := reader.Memory()
	for reader.Queued().Came() {
	}
	large := s.TrySendRaw(make([]byte, 10*limit), reader.Name().raw(), unix.MSG_DONTWAIT)
	c.Verdict(
		Holds(used > limit, "a queue takes messages until it is over its limit: with %d, %d of %d bytes", n, used, limit),
		Instead(used <= limit && used+used/n > limit, "a message has to fit: with %d, %d of %d bytes are used, and one more is refused", n, used, limit),
		Instead(large == nil, "but an empty queue takes one of any size"),
	)
}

func TestA3_28_FullAndNotWaiting(t *testing.T) {
	c := Try(t)
	reader, s := c.Bound(Echo), c.Bound(Echo)
	reader.Small()
	s.Full(Hello, reader.Name())
	_, ofProgram := reader.TryReceive(bufferSize, unix.MSG_DONTWAIT)

	c.Param("nlecho", "replies", 100)
	asker := c.Bound(Echo)
	asker.Small()
	asker.Send(Hello, Kernel)
	_, ofKernel := asker.TryReceive(bufferSize, unix.MSG_DONTWAIT)
	run := c.Trace()
	c.Verdict(
		Holds(len(run.Calls(trace.Attach).Failed(unix.EAGAIN)) > 1 && run.Messages()[0].Replies.Last().Int("ret") == -int64(unix.EAGAIN), "at a full queue who does not wait has EAGAIN, a program and the kernel"),
		Holds(ofKernel == unix.ENOBUFS && ofProgram == nil, "only where it was the kernel, the reader is told that something is missing: %s", name(ofKernel)),
	)
}

func TestA3_29_SleepsInterruptibly(t *testing.T) {
	c := Try(t)
	c.ProbeReturn("queued", "add_wait_queue")
	c.Probe("timeout", "schedule_timeout", "")
	sender, reader := c.Process(nil).Bound(Echo), c.Bound(Echo)
	waiting(c, sender, reader)
	run := c.Trace()
	door := run.Calls(trace.Attach).Last()
	sleep := run.Sleeps(door)[0]
	queued, timeout := run.Events("queued").In(door).First(), run.Events("timeout").In(door).First()
	c.Verdict(
		Holds(sleep.State == "S" && trace.Before(queued, sleep.Began), "a sender that waits is put into the receiver's wait queue, and sleeps in state %s", sleep.State),
		But(trace.Before(queued, timeout) && trace.Before(timeout, sleep.Began), "add_wait_queue only puts it there, and returns: it is schedule_timeout that sleeps"),
	)
}

func TestA3_30_SignalEndsTheWait(t *testing.T) {
	c := Try(t)
	other, reader := c.Process(nil), c.Bound(Echo)
	sender := other.Bound(Echo)
	limit := []byte{60, 15: 0} // a struct timeval: a minute
	c.Must(other.call(request{Op: "setsockopt", FD: sender.FD, A: unix.SOL_SOCKET, B: unix.SO_SNDTIMEO, Data: limit}).err(), "SO_SNDTIMEO")
	waiting(c, sender, reader)
	c.Must(unix.Tgkill(other.PID, other.PID, unix.SIGURG), "a signal")
	c.WaitFor("the send is interrupted", func(p *trace.Program) bool { return len(p.Calls(trace.Sendmsg).Failed(unix.EINTR)) > 0 })

	victim := c.Process(nil).Bound(Echo)
	wait := waiting(c, victim, reader)
	c.Must(unix.Kill(victim.task.PID, unix.SIGKILL), "a signal")
	wait()
	c.WaitFor("the send has ended", func(p *trace.Program) bool { return lastSend(p, victim).Returned() })
	run := c.Trace()
	for reader.Queued().Came() { // so that the first sender comes to its end
	}
	c.Verdict(
		Holds(len(run.Calls(trace.Attach).Failed(unix.EINTR)) == 1, "a signal ends the wait of a sender with SO_SNDTIMEO: EINTR"),
		Holds(lastSend(run, victim).Interrupted(), "and that of one without it: ERESTARTSYS, with which the kernel begins the call anew, if the process lives"),
	)
}

// multicast sends a message to group 5, whose copy for a port comes back to the sender:
// the kernel does not answer it.
func multicast(s *Socket) {
	s.task.c.t.Helper()
	s.Send(Hello, Addr{Port: s.Name().Port, Groups: Group(5).Groups})
}

func TestA3_31_QueueWakeAndLength(t *testing.T) {
	c := Try(t)
	c.Enable(trace.SleepEvents()...)
	reader, s := c.Process(nil).Bound(Echo), c.Bound(Echo)
	to := reader.Name()
	var first Datagram
	done := c.Background(func() { first, _ = reader.TryReceive(bufferSize, 0) })
	c.WaitFor("the reader sleeps", func(p *trace.Program) bool { return len(p.Sleeps(p.Calls(trace.Recvmsg).Last())) > 0 })
	for _, text := range []string{"first", "second", "third"} {
		s.Send(Message{Payload: []byte(text)}, to)
	}
	done()
	second, third := reader.Receive(), reader.Receive()
	run := c.Trace()
	sleep, unicast := run.Sleeps(run.Calls(trace.Recvmsg).First())[0], run.Calls(trace.Unicast).First()
	c.Verdict(
		Holds(string(first.Message().Payload)+string(second.Message().Payload)+string(third.Message().Payload) == "firstsecondthird", "messages are read in the order in which they were sent"),
		Holds(trace.Inside(sleep.Woken, unicast), "a reader that waits is woken inside netlink_unicast"),
		Holds(unicast.Ret == unix.NLMSG_HDRLEN+5, "which returns the message's length, %d", unicast.Ret),
	)
}

func TestA3_32_MulticastAndDataReady(t *testing.T) {
	c := Try(t)
	c.Probe("ready", "netlink_data_ready", "sk=$arg1:x64")
	reader, member, s := c.Bound(Echo), c.Bound(Echo), c.Bound(Echo)
	member.Join(5)
	s.Send(Hello, Addr{Port: reader.Name().Port, Groups: Group(5).Groups})
	table, err := os.ReadFile("/proc/net/netlink")
	c.Must(err, "reading the table of sockets")
	groups := ""
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); f[1] == "25" && f[2] == "0" { // protocol and port
			groups = f[3]
		}
	}
	run := c.Trace()
	called := len(run.Events("ready")) > 0
	c.Verdict(
		Holds(called, "a multicast comes as far as to the kernel socket's sk_data_ready"),
		Instead(!called && len(run.Calls(trace.Broadcast).First().Queued()) == 1, "it is delivered to the member alone, and nobody calls that function"),
		Instead(groups == "00000000", "for nlecho's socket is no member of any group: its mask is %s", groups),
	)
}

func TestA3_34_BroadcastToAPort(t *testing.T) {
	c := Try(t)
	named, member, s := c.Bound(Echo), c.Bound(Echo), c.Bound(Echo)
	named.Join(5)
	member.Join(5)
	s.Send(Hello, Addr{Port: named.Name().Port, Groups: Group(5).Groups})
	run := c.Trace()
	sent, sockets := run.Calls(trace.Broadcast).First(), run.Sockets()
	reached := slices.Contains(sent.Queued(), sockets[0])
	c.Verdict(
		Holds(reached, "netlink_broadcast delivers to the port that it is given"),
		Instead(uint32(sent.Entry.Uint("portid")) == named.Name().Port && len(sent.Queued()) == 1 && sent.Queued()[0] == sockets[1], "it delivers to all members but that port"),
		Instead(slices.Contains(run.Calls(trace.Unicast).First().Queued(), sockets[0]), "which gets its copy from netlink_unicast after that"),
	)
}

func TestA3_35_MembersOfTheProtocol(t *testing.T) {
	c := Try(t)
	reader, other, outside, s := c.Bound(Echo), c.Bound(Echo), c.Bound(unix.NETLINK_USERSOCK), c.Bound(Echo)
	for _, m := range []*Socket{reader, other, outside} {
		m.Join(5)
	}
	multicast(s)
	run := c.Trace()
	c.Verdict(
		Holds(len(run.Calls(trace.Broadcast).First().Queued()) == 2 && reader.Queued().Came() && other.Queued().Came(), "all members of the group are reached"),
		Holds(!outside.Queued().Came(), "and no member of the same group of another protocol"),
	)
}

func TestA3_36_EnobufsAndYield(t *testing.T) {
	c := Try(t)
	c.Probe("yielded", "yield", "")
	member, s := c.Bound(Echo), c.Bound(Echo)
	member.Join(5)
	member.Small()
	c.Must(member.TrySet(unix.SOL_NETLINK, unix.NETLINK_BROADCAST_ERROR, 1), "NETLINK_BROADCAST_ERROR")
	for range 6 {
		multicast(s)
	}
	run := c.Trace()
	sent := run.Calls(trace.Broadcast)
	yields := func(c trace.Call) int { return len(run.Events("yielded").In(c)) }
	failed := sent.Failed(unix.ENOBUFS)
	c.Verdict(
		Holds(sent[0].Ret == 0 && sent.Last().Ret == -int64(unix.ENOBUFS), "where a member's queue is full netlink_broadcast returns ENOBUFS, if that member wants it to (NETLINK_BROADCAST_ERROR)"),
		Holds(yields(sent[0]) == 0 && yields(sent.OK().Last()) == 1 && yields(failed.First()) == 0, "where all is delivered, but a queue is more than half full, the sender yields the processor"),
	)
}

func TestA3_37_SenderIsSkipped(t *testing.T) {
	c := Try(t)
	member, sender := c.Bound(unix.NETLINK_USERSOCK), c.Bound(unix.NETLINK_USERSOCK)
	member.Join(5)
	sender.Join(5)
	_ = sender.TrySend(Hello.Bytes(), Group(5)) // the copy for port 0 is refused
	c.Verdict(Holds(member.Queued().Came() && !sender.Queued().Came(), "a member that sends to its own group reaches the others, and not itself"))
}

func TestA3_38_WhoIsSkipped(t *testing.T) {
	c := Try(t)
	port, other, none, member, s := c.Bound(Echo), c.Bound(Echo), c.Bound(Echo), c.Bound(Echo), c.Bound(Echo)
	port.Join(5)
	other.Join(6)
	other.Join(64)
	member.Join(5)
	s.Send(Hello, Addr{Port: port.Name().Port, Groups: Group(5).Groups})
	run := c.Trace()
	queued, sockets := run.Calls(trace.Broadcast).First().Queued(), run.Sockets()
	c.Verdict(
		Holds(len(queued) == 1 && queued[0] == sockets[3], "a member with the port that is given, a member of other groups and who is no member are passed over"),
		Holds(member.Queued().Came() && !other.Queued().Came() && !none.Queued().Came(), "only the other member hears it"),
	)
}

func TestA3_39_OtherNamespacesAreSkipped(t *testing.T) {
	c := Try(t)
	const nsid = 7
	c.Param("nlecho", "group", 5)
	listener := c.Bound(Echo)
	listener.Join(5)
	there := c.Process(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET})
	s := there.Bound(Echo)
	s.Send(Hello, Kernel)
	skipped := !listener.Queued().Came()

	// A number for that namespace here: attributes NETNSA_NSID and NETNSA_PID.
	number := binary.NativeEndian.AppendUint32([]byte{0, 0, 0, 0, 8, 0, unix.NETNSA_NSID, 0}, nsid)
	number = binary.NativeEndian.AppendUint32(append(number, 8, 0, unix.NETNSA_PID, 0), uint32(there.PID))
	route := c.Bound(unix.NETLINK_ROUTE)
	route.Send(Request(unix.RTM_NEWNSID, unix.NLM_F_ACK, number), Kernel)
	err, _ := route.Receive().Message().Error()
	c.Must(err, "numbering the namespace")
	c.Must(listener.TrySet(unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1), "NETLINK_LISTEN_ALL_NSID")
	s.Send(Hello, Kernel)
	heard := listener.Queued().Came()
	told := c.Trace().Calls(trace.Recvmsg).Last().Told(unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID)
	c.Verdict(
		Holds(!heard, "a multicast reaches no other network namespace"),
		Instead(skipped, "by default it does not"),
		Instead(told.Uint("a") == nsid, "with NETLINK_LISTEN_ALL_NSID it reaches a listener whose namespace has a number for it, and the number comes with it: %d", told.Uint("a")),
	)
}

// cloneFails sends a message to group 5, where the memory for the first member's clone
// is missing.
func cloneFails(c *Trial) trace.Call {
	c.t.Helper()
	s := c.Bound(Echo)
	c.Param("nlrare", "fail", c.PID)
	multicast(s)
	return c.Trace().Calls(trace.Broadcast).Last()
}

func TestA3_40_FailureOverrunsTheRest(t *testing.T) {
	c := Try(t)
	c.Probe("clone", "skb_clone", "skb=$arg1:x64")
	all := members(Echo, 5, c.Task, c.Task, c.Task)
	sent := cloneFails(c)
	told := 0
	for _, m := range all {
		if _, err := m.TryReceive(bufferSize, unix.MSG_DONTWAIT); err == unix.ENOBUFS {
			told++
		}
	}
	c.Verdict(
		Holds(len(c.Trace().Events("clone").In(sent)) == 1 && len(sent.Queued()) == 0, "after a clone that has failed no other is tried, and no member gets the message"),
		Holds(told == 3, "all of them are told ENOBUFS (%d of 3)", told),
	)
}

func TestA3_41_CloneOrShare(t *testing.T) {
	c := Try(t)
	c.Probe("clone", "skb_clone", "skb=$arg1:x64")
	c.Param("nlecho", "group", 5)
	sender := c.Bound(Echo)
	members(Echo, 5, c.Task, c.Task, c.Task)
	multicast(sender)
	sender.Send(Hello, Kernel) // the answer goes to the group
	run := c.Trace()
	clones := func(b trace.Call) int { return len(run.Events("clone").In(b)) }
	sent := run.Calls(trace.Broadcast)
	c.Verdict(
		Holds(len(sent[0].Queued()) == 3 && clones(sent[0]) == 3, "a program's message, which netlink_sendmsg holds too, is cloned for each of three members"),
		Holds(len(sent[1].Queued()) == 3 && clones(sent[1]) == 2, "the kernel's, which nobody else holds, goes to the first member itself, and clones of it to two"),
	)
}

func TestA3_42_CloneFailure(t *testing.T) {
	c := Try(t)
	member := c.Bound(Echo)
	member.Join(5)
	silent := cloneFails(c)
	_, err := member.TryReceive(bufferSize, unix.MSG_DONTWAIT)
	c.Must(member.TrySet(unix.SOL_NETLINK, unix.NETLINK_BROADCAST_ERROR, 1), "NETLINK_BROADCAST_ERROR")
	loud := cloneFails(c)
	c.Verdict(
		Holds(err == unix.ENOBUFS, "a member whose clone has failed is told so: %s", name(err)),
		Holds(silent.Ret == -int64(unix.ESRCH) && loud.Ret == -int64(unix.ENOBUFS), "if it has set NETLINK_BROADCAST_ERROR, and only then, netlink_broadcast returns ENOBUFS"),
	)
}

func TestA3_43_SendersFilter(t *testing.T) {
	c := Try(t)
	filtered := c.Compiles("broadcast_filtered")
	has := c.Symbol("netlink_broadcast_filtered")
	c.Verdict(
		Holds(filtered.OK && has, "netlink_broadcast_filtered takes a function that is asked about each receiver"),
		Instead(filtered.Says("netlink_broadcast_filtered") && !has, "the kernel has no such function"),
	)
}

func TestA3_44_FilterOfAMember(t *testing.T) {
	c := Try(t)
	deaf, member, s := c.Bound(Echo), c.Bound(Echo), c.Bound(Echo)
	deaf.Join(5)
	member.Join(5)
	drops(c, deaf)
	multicast(s)
	c.Verdict(Holds(!deaf.Queued().Came() && member.Queued().Came(), "a member whose filter takes nothing does not get what the other gets"))
}

func TestA3_45_FullMember(t *testing.T) {
	c := Try(t)
	member, s := c.Bound(Echo), c.Bound(Echo)
	member.Join(5)
	member.Small()
	for range 6 { // each of which returns without an error
		multicast(s)
	}
	in := 0
	for _, sent := range c.Trace().Calls(trace.Broadcast) {
		in += len(sent.Queued())
	}
	_, first := member.TryReceive(bufferSize, unix.MSG_DONTWAIT)
	read := 0
	for member.Queued().Came() {
		read++
	}
	c.Verdict(
		Holds(first == unix.ENOBUFS, "a member that has missed something is told so first: %s", name(first)),
		Holds(in < 6 && read == in, "then it reads what was queued, without another error: %d of 6", read),
	)
}

func TestA3_46_FreedAndReused(t *testing.T) {
	c := Try(t)
	c.ProbeReturn("cloned", "skb_clone")
	both, s := members(Echo, 5, c.Task, c.Task), c.Bound(Echo)
	multicast(s)
	both[0].Receive()
	both[1].Receive()
	run := c.Trace()
	clones, taken := map[uint64]bool{}, map[uint64]bool{}
	for _, e := range run.Events("cloned").In(run.Calls(trace.Broadcast).First()) {
		clones[e.Uint("ret")] = true
	}
	for _, r := range run.Calls(trace.Recvmsg) {
		taken[r.Took.Uint("skb")] = true
	}
	c.Verdict(
		Holds(len(clones) == 1, "one clone serves both members, one after the other"),
		Instead(len(clones) == 2 && maps.Equal(clones, taken), "there is a clone for each, which belongs to the member's queue: recvmsg takes just these two out of it"),
	)
}

func TestA3_47_HalfFull(t *testing.T) {
	c := Try(t)
	c.Probe("yielded", "yield", "")
	member, s := c.Bound(Echo), c.Bound(Echo)
	member.Join(5)
	c.Must(member.TrySet(unix.SOL_SOCKET, unix.SO_RCVBUF, 6<<10), "SO_RCVBUF")
	var halves []bool
	for {
		multicast(s)
		used, limit := member.Memory()
		halves = append(halves, used > limit/2)
		if used > limit*3/4 {
			break
		}
	}
	run := c.Trace()
	var yields []bool
	for _, sent := range run.Calls(trace.Broadcast) {
		yields = append(yields, len(run.Events("yielded").In(sent)) == 1)
	}
	c.Verdict(Holds(!halves[0] && slices.Equal(halves, yields), "of %d messages just those are followed by a yield after which more than half of the queue is used: from number %d on", len(halves), slices.Index(yields, true)+1))
}

func TestA3_48_MulticastNeverBlocks(t *testing.T) {
	c := Try(t)
	c.Enable(trace.SleepEvents()...)
	member, s := c.Bound(Echo), c.Bound(Echo)
	member.Join(5)
	member.Small()
	s.Full(Hello, member.Name())
	multicast(s)
	run := c.Trace()
	sent := run.Calls(trace.Broadcast).First()
	c.Verdict(Holds(sent.Returned() && len(sent.Queued()) == 0 && len(run.Sleeps(sent)) == 0, "at a full queue netlink_broadcast returns without having slept"))
}

func TestA3_49_KernelNeverWaits(t *testing.T) {
	c := Try(t)
	route := c.Bound(unix.NETLINK_ROUTE)
	lo := make([]byte, unix.SizeofIfInfomsg)
	lo[4] = 1 // its number
	route.Send(Request(unix.RTM_GETLINK, 0, lo), Kernel)
	route.Receive()

	const get = 1000 // AUDIT_GET: is answered by a thread of the kernel
	audit := c.Open(unix.NETLINK_AUDIT)
	audit.Bind(Port(4711))
	audit.Send(Request(get, 0, nil), Kernel)
	audit.Receive()
	run := c.Trace()
	to := func(s *Socket) trace.Events {
		return run.Events(trace.Unicast).Where("portid", int64(s.Name().Port))
	}
	c.Verdict(
		Holds(to(route).First().Int("nonblock") == unix.MSG_DONTWAIT, "an answer about a link is sent with MSG_DONTWAIT"),
		But(to(audit).First().Seen() && to(audit).First().Int("nonblock") == 0, "one of the audit subsystem's without: its thread would wait"),
	)
}

func TestA3_50_NlmsgMulticast(t *testing.T) {
	c := Try(t)
	shouting := "netlink_broadcast" // which wraps the other, where there is that
	if c.Symbol("netlink_broadcast_filtered") {
		shouting = "netlink_broadcast_filtered"
	}
	c.Probe("shouted", shouting, "group=$arg4:u32 dst_group=+56($arg2):u32") // cb of struct sk_buff
	member := c.Bound(Notify)
	member.Join(1)
	c.Write("nlnotify", "trigger", 1)
	d := member.Queued()
	run := c.Trace()
	sent := run.Events("shouted").First()
	c.Verdict(
		Holds(sent.Int("group") == 1 && trace.Before(sent, run.Events(trace.NotifySend).Where("via", trace.NotifyGroup).First()), "it multicasts to the group"),
		Holds(sent.Int("dst_group") == 1 && d.From.Groups == 1, "and has written it into the message before, where the reader has it from"),
	)
}

func TestA3_51_ShortBuffer(t *testing.T) {
	c := Try(t)
	reader, s := c.Bound(Echo), c.Bound(Echo)
	s.Send(Hello, reader.Name())
	s.Send(Message{Payload: []byte("next")}, reader.Name())
	d, err := reader.TryReceive(10, unix.MSG_DONTWAIT)
	c.Must(err, "receiving")
	c.Verdict(
		Holds(len(d.Data) == 10 && d.Flags == unix.MSG_TRUNC, "into a buffer of 10 bytes come 10, and MSG_TRUNC in msg_flags"),
		Holds(string(reader.Queued().Message().Payload) == "next", "the rest is lost: what is read next is the next message"),
	)
}

func TestA3_52_TransportHeader(t *testing.T) {
	c := Try(t)
	// The compiler's words tell where the field is: a pointer to an array of so many bytes.
	at := regexp.MustCompile(`char \(\*\)\[(\d+)\]`).FindStringSubmatch(c.Compiles("transport_header").Errors)
	if at == nil {
		c.fatal("the compiler does not say where transport_header is")
	}
	c.Probe("taken", "skb_copy_datagram_iter", "skb=$arg1:x64 header=+"+at[1]+"($arg1):u16")
	reader, s := c.Bound(Echo), c.Bound(Echo)
	s.Send(Hello, reader.Name())
	reader.Receive()
	run := c.Trace()
	taken := run.Events("taken").In(run.Calls(trace.Recvmsg).First()).First()
	c.Verdict(
		Holds(taken.Seen() && taken.Uint("header") == 0, "when a message is read its transport header is put at its beginning"),
		Instead(taken.Uint("header") == 0xffff, "it is left unset, as it was when the message was made"),
	)
}

func TestA3_53_SenderAndGroups(t *testing.T) {
	c := Try(t)
	member, s := c.Bound(Echo), c.Bound(Echo)
	member.Join(5)
	member.Join(40)
	multicast(s)
	five := member.Queued()
	c.Param("nlecho", "group", 40)
	s.Send(Hello, Kernel)
	forty := member.Queued()
	c.Verdict(
		Holds(five.From.Port == s.Name().Port && five.From.Groups == Group(5).Groups, "with a message to group 5 come the sender's port and the mask %#x", five.From.Groups),
		But(forty.Came() && forty.From.Groups == 0, "for group 40 there is no bit: its mask is 0"),
	)
}

func TestA3_54_Pktinfo(t *testing.T) {
	c := Try(t)
	c.Param("nlecho", "group", 40)
	member, s := c.Bound(Echo), c.Bound(Echo)
	member.Join(40)
	s.Send(Hello, Kernel)
	member.Receive()
	c.Must(member.TrySet(unix.SOL_NETLINK, unix.NETLINK_PKTINFO, 1), "NETLINK_PKTINFO")
	s.Send(Hello, Kernel)
	member.Receive()
	reads := c.Trace().Calls(trace.Recvmsg)
	without, with := reads[0].Told(unix.SOL_NETLINK, unix.NETLINK_PKTINFO), reads[1].Told(unix.SOL_NETLINK, unix.NETLINK_PKTINFO)
	c.Verdict(Holds(!without.Seen() && with.Uint("a") == 40, "with the option, and not without, the number of the group comes beside the message: %d", with.Uint("a")))
}

func TestA3_55_Credentials(t *testing.T) {
	c := Try(t)
	reader := c.Bound(unix.NETLINK_USERSOCK)
	c.Must(reader.TrySet(unix.SOL_SOCKET, unix.SO_PASSCRED, 1), "SO_PASSCRED")
	c.Nobody().Bound(unix.NETLINK_USERSOCK).Send(Hello, reader.Name())
	reader.Receive()
	told := c.Trace().Calls(trace.Recvmsg).First().Told(unix.SOL_SOCKET, unix.SCM_CREDENTIALS)
	c.Verdict(Holds(int(told.Uint("a")) == c.PID && told.Uint("b") == 65534 && told.Uint("c") == 65534, "with SO_PASSCRED the sender's process, user and group come beside the message"))
}

func TestA3_56_RealLength(t *testing.T) {
	c := Try(t)
	reader, s := c.Bound(Echo), c.Bound(Echo)
	s.Send(Hello, reader.Name())
	_, err := reader.TryReceive(10, unix.MSG_TRUNC|unix.MSG_DONTWAIT)
	c.Must(err, "receiving")
	read := c.Trace().Calls(trace.Recvmsg).First()
	copied, _ := read.Copied()
	c.Verdict(Holds(copied == 10 && read.Ret == int64(len(Hello.Bytes())), "with the flag MSG_TRUNC recvmsg copies %d bytes, and returns the message's length, %d", copied, read.Ret))
}

func TestA3_57_DumpGoesOnInRecvmsg(t *testing.T) {
	c := Try(t)
	c.Probe("dumping", "netlink_dump", "sk=$arg1:x64")
	links := Request(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg))
	s, busy := c.Bound(unix.NETLINK_ROUTE), c.Bound(unix.NETLINK_ROUTE)
	s.Small()
	s.Send(links, Kernel)
	used, limit := s.Memory()
	_, err := s.TryReceive(bufferSize, unix.MSG_PEEK)
	c.Must(err, "looking at the first part")
	var last Message
	for last.Type != unix.NLMSG_DONE { // each read takes a part out of the queue, which is empty then
		m := s.Receive().Messages()
		last = m[len(m)-1]
	}

	busy.Send(links, Kernel)
	busy.Send(links, Kernel) // while the first is under way
	busy.Receive()
	refused, _ := busy.Receive().Message().Error()
	run := c.Trace()
	parts := func(c trace.Call) int { return len(run.Events("dumping").In(c)) }
	reads := run.Calls(trace.Recvmsg)
	c.Verdict(
		Holds(parts(run.Calls(trace.Sendmsg).First()) == 1 && parts(reads[1]) == 1, "the first part of a dump is made in the send, the next one when that is read"),
		Holds(used > limit/2 && parts(reads[0]) == 0, "while the queue is more than half full, %d of %d bytes, it does not go on", used, limit),
		Holds(refused == unix.EBUSY, "another dump on the same socket is refused meanwhile: %s", name(refused)),
	)
}

func TestA3_58_ReadersWakeSenders(t *testing.T) {
	c := Try(t)
	reader := c.Bound(Echo)
	wait := waiting(c, c.Process(nil).Bound(Echo), reader)
	for reader.Queued().Came() {
	}
	c.Must(wait(), "the send")
	run := c.Trace()
	sleep := run.Sleeps(run.Calls(trace.Sendmsg).Last())[0]
	c.Verdict(Holds(trace.Inside(sleep.Woken, run.Calls(trace.Recvmsg).First()), "a sender that waits at a full queue is woken inside the reader's recvmsg"))
}

func TestA3_59_WhereDeliveriesEnd(t *testing.T) {
	c := Try(t)
	member, s := c.Bound(Echo), c.Bound(Echo)
	member.Join(5)
	s.Send(Hello, Kernel)
	s.Send(Hello, member.Name())
	s.Send(Hello, Group(5)) // and the kernel
	run := c.Trace()
	queue, callback := 0, 0
	for _, u := range append(run.Calls(trace.Unicast), run.Calls(trace.Broadcast)...) {
		q := len(u.Queued())
		input := run.Events(trace.EchoInput).In(u).First().Seen()
		switch {
		case input: // inside it the answer is queued, by another call
			callback++
		case q == 1:
			queue++
		}
	}
	c.Verdict(
		Holds(callback == 2, "what goes to the kernel ends in the module's function"),
		Holds(queue == 4, "what goes to programs, the answers and what was sent to a port and a group, ends in a queue"),
	)
}
