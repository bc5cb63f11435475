// SPDX-License-Identifier: MIT

package claims

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/trace"
)

func TestA4_1_RequestsAndNotifications(t *testing.T) {
	c := Try(t)
	const get, state = 18, 19 // nlnotify's question and answer
	s := c.Bound(Notify)
	question := Request(get, 0, nil)
	s.Send(question, Kernel)
	answer := s.Queued().Message()
	s.Join(1)
	from := len(c.Trace().Calls(trace.Sendmsg))
	c.Write("nlnotify", "trigger", 1)
	news := s.Queued().Message()
	c.Verdict(
		Holds(answer.Type == state && answer.Seq == question.Seq, "a request is answered, with its own nlmsg_seq"),
		Holds(news.Type == trace.NotifyNews && news.Seq == 0 && len(c.Trace().Calls(trace.Sendmsg)) == from, "a notification comes without a request, with nlmsg_seq 0"),
	)
}

func TestA4_2_Families(t *testing.T) {
	c := Try(t)
	route, generic := c.Bound(unix.NETLINK_ROUTE), c.Bound(unix.NETLINK_GENERIC)
	links, routes := dump(route, unix.RTM_GETLINK, unix.SizeofIfInfomsg), dump(route, unix.RTM_GETROUTE, unix.SizeofRtMsg)
	generic.Send(Request(unix.GENL_ID_CTRL, unix.NLM_F_DUMP, []byte{unix.CTRL_CMD_GETFAMILY, 1, 0, 0}), Kernel)
	ids, names := map[string]bool{}, ""
	for _, m := range generic.Receive().Messages() {
		attributes, _ := Attributes(m.Payload[4:])
		for _, a := range attributes {
			switch a.Type {
			case unix.CTRL_ATTR_FAMILY_ID:
				ids[string(a.Value)] = true
			case unix.CTRL_ATTR_FAMILY_NAME:
				names += " " + unix.ByteSliceToString(a.Value)
			}
		}
	}
	c.Verdict(
		Holds(len(links) > 0 && len(routes) > 0, "NETLINK_ROUTE lists links (%d) and routes (%d)", len(links), len(routes)),
		Holds(len(ids) > 1 && len(ids) == len(strings.Fields(names)), "on NETLINK_GENERIC there are several families, each with a number of its own:%s", names),
	)
}

func TestA4_3_FamilyIsTheType(t *testing.T) {
	c := Try(t)
	_, echo := c.TryOpen(unix.AF_NETLINK, Echo, 0)
	_, route := c.TryOpen(unix.AF_NETLINK, unix.NETLINK_ROUTE, 0)
	s, err := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, Echo)
	c.Must(err, "socket")
	s.Send(Hello, Kernel)
	c.Verdict(
		Holds(echo == nil || route == nil, "a socket whose type is 25, or NETLINK_ROUTE, can be made"),
		Instead(echo == unix.EINVAL && route == unix.ESOCKTNOSUPPORT, "there are no such types: %s, %s", name(echo), name(route)),
		Instead(s.Queued().Came(), "with 25 as the third argument nlecho answers"),
	)
}

func TestA4_4_SendAndReceive(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	c.Must(s.TrySend(Hello.Bytes(), Kernel), "sendto")
	c.Must(s.TrySendmsg(Hello.Bytes(), Kernel, 0, 0), "sendmsg")
	_, _, err := unix.Recvfrom(s.FD, make([]byte, bufferSize), 0)
	c.Must(err, "recvfrom")
	_, err = s.TryReceive(bufferSize, 0)
	c.Must(err, "recvmsg")
	run := c.Trace()
	sends, reads := run.Calls(trace.Sendmsg).To(0).OK(), run.Calls(trace.Recvmsg).OK()
	c.Verdict(
		Holds(len(run.Messages()) == 2 && len(sends.By("sendto")) == 1 && len(sends.By("sendmsg")) == 1, "sendto and sendmsg bring nlecho a message"),
		Holds(len(reads.By("recvfrom")) == 1 && len(reads.By("recvmsg")) == 1, "recvfrom and recvmsg bring an answer"),
	)
}

func TestA4_5_LikeSystemV(t *testing.T) {
	c := Try(t)
	// The message as msgsnd takes it, struct msgbuf: a long and the text.
	const text = "Hello you! Are you there?"
	message := append(binary.NativeEndian.AppendUint64(nil, 1), text...)
	queue, _, errno := unix.Syscall(unix.SYS_MSGGET, 0, unix.IPC_CREAT|0o600, 0)
	if errno != 0 {
		c.fatal("msgget: %v", errno)
	}
	defer unix.Syscall(unix.SYS_MSGCTL, queue, unix.IPC_RMID, 0)
	_, _, errno = unix.Syscall6(unix.SYS_MSGSND, queue, uintptr(unsafe.Pointer(&message[0])), uintptr(len(text)), 0, 0, 0)
	got := make([]byte, len(message))
	n, _, _ := unix.Syscall6(unix.SYS_MSGRCV, queue, uintptr(unsafe.Pointer(&got[0])), uintptr(len(text)), 1, unix.IPC_NOWAIT, 0)
	systemV := errno == 0 && int(n) == len(text) && bytes.Equal(got, message)

	s := c.Bound(Echo)
	c.Must(s.TrySend(message, Kernel), "sending the same bytes")
	m := c.Trace().Messages()[0]
	c.Verdict(
		Holds(m.Input.Seen(), "what is a message to System V is one to Netlink"),
		Instead(systemV && m.Reject.Int("nlmsg_len") == 1, "nlecho takes the type 1 for a length, which is too small; msgsnd and msgrcv have the length as an argument"),
	)
}

func TestA4_6_HeaderAndPayload(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	arrived := 0
	for _, n := range []int{0, 1, 9000} {
		m := Message{Type: 77, Seq: 88, Payload: bytes.Repeat([]byte{'x'}, n)}
		s.Send(m, Kernel)
		got := c.Trace().Messages()[arrived]
		if got.Input.Uint("crc") != uint64(crc32.ChecksumIEEE(m.Bytes())) {
			break
		}
		arrived++
	}
	c.Verdict(Holds(arrived == 3, "messages with payloads of 0, 1 and 9000 bytes reach nlecho as they were sent (%d of 3)", arrived))
}

func TestA4_7_TypeAndLength(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	m := Message{Type: 77, Flags: 0x5a5a, Seq: 88, PID: 99, Payload: []byte("Hello")}
	s.Send(m, Kernel)
	got := c.Trace().Messages()[0].Input
	c.Verdict(
		Holds(got.Uint("type") == 77 && got.Uint("nlmsg_len") == uint64(len(m.Bytes())), "nlecho finds the type, and the length of header and payload together"),
		But(got.Uint("flags") == 0x5a5a && got.Uint("seq") == 88 && got.Uint("pid") == 99, "beside them flags, a number and a port, which the sender has filled in, too"),
	)
}

func TestA4_8_PayloadOfAttributes(t *testing.T) {
	c := Try(t)
	s := c.Bound(Echo)
	s.Send(Hello, Kernel)
	link := dump(c.Bound(unix.NETLINK_ROUTE), unix.RTM_GETLINK, unix.SizeofIfInfomsg)[0].Payload
	attributes, rest := Attributes(link[unix.SizeofIfInfomsg:])
	tooEarly, _ := Attributes(link)
	c.Verdict(
		Holds(len(attributes) > 1 && len(rest) == 0, "behind its first 16 bytes, what the kernel says of a link is %d attributes and nothing else", len(attributes)),
		But(len(tooEarly) == 0 && binary.NativeEndian.Uint32(link[4:]) == 1, "these 16 are no attribute, but a struct ifinfomsg, which says that it is link 1"),
		But(bytes.HasPrefix(s.Queued().Message().Payload, []byte("I am from kernel!\x00")), "nlecho's payload has no attributes, it is a text"),
	)
}

func TestA4_9_Attribute(t *testing.T) {
	c := Try(t)
	link := dump(c.Bound(unix.NETLINK_ROUTE), unix.RTM_GETLINK, unix.SizeofIfInfomsg)[0].Payload
	attributes, rest := Attributes(link[unix.SizeofIfInfomsg:])
	lo, lengths := Attribute{}, map[uint16]bool{}
	for _, a := range attributes {
		lengths[a.Len] = true
		if a.Type == unix.IFLA_IFNAME {
			lo = a
		}
	}
	c.Verdict(
		Holds(lo.Len == unix.SizeofNlAttr+3 && string(lo.Value) == "lo\x00", "the name of a link has its type, and the length 7: 4 of header and 3 of value"),
		Holds(len(lengths) > 1 && len(rest) == 0, "others have other lengths (%d), and each begins at the next multiple of 4", len(lengths)),
	)
}
