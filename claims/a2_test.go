// SPDX-License-Identifier: MIT

package claims

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/guest"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

func TestA2_1_GenericOrANumberOfYourOwn(t *testing.T) {
	c := Try(t)
	own, generic := c.Bound(Echo), c.Bound(unix.NETLINK_GENERIC)
	own.Send(Hello, Kernel)

	nlctrl := "nlctrl\x00" // of the family that knows the others
	attribute := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(nlctrl)))
	attribute = binary.NativeEndian.AppendUint16(attribute, unix.CTRL_ATTR_FAMILY_NAME)
	payload := append([]byte{unix.CTRL_CMD_GETFAMILY, 1, 0, 0}, attribute...)
	generic.Send(Request(unix.GENL_ID_CTRL, 0, append(payload, nlctrl...)), Kernel)
	family := generic.Queued().Message()

	generic.Send(Hello, Kernel)
	plain := generic.Queued()
	generic.Send(Request(9999, 0, []byte(nlctrl)), Kernel)
	err, refused := generic.Queued().Message().Error()
	c.Verdict(
		Holds(own.Queued().Came(), "a number of its own, 25, brings messages to nlecho"),
		Holds(family.Type == unix.GENL_ID_CTRL && bytes.Contains(family.Payload, []byte(nlctrl)), "on NETLINK_GENERIC the messages of a family reach it"),
		But(!plain.Came() && refused && err == unix.ENOENT, "no others: the articles' message is dropped, and one for an unknown family is %s", name(err)),
	)
}

// tryLoad loads one of the project's modules; it must not be loaded already.
func tryLoad(module, params string) error {
	return guest.LoadModule(wire.ModuleDir+"/"+module+".ko", params)
}

// unload unloads nlbugs, and loads it again when the trial is over.
func unload(c *Trial) {
	c.t.Helper()
	c.Must(unix.DeleteModule("nlbugs", 0), "unloading nlbugs")
	c.t.Cleanup(func() {
		_ = unix.DeleteModule("nlbugs", 0) // it may be back, with another protocol
		if err := tryLoad("nlbugs", fmt.Sprintf("protocol=%d", Bugs)); err != nil {
			c.t.Error(err)
		}
	})
}

func TestA2_2_NumberNeedNotBeInTheHeader(t *testing.T) {
	c := Try(t)
	_, named := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_FIREWALL)
	unload(c)
	_, before := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, 31)
	c.Must(tryLoad("nlbugs", "protocol=31"), "loading nlbugs")
	s, after := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, 31)
	if after == nil {
		s.Close()
	}
	c.Must(unix.DeleteModule("nlbugs", 0), "unloading nlbugs")
	taken, beyond := tryLoad("nlbugs", fmt.Sprintf("protocol=%d", Echo)), tryLoad("nlbugs", "protocol=32")
	c.Verdict(
		Holds(before == unix.EPROTONOSUPPORT && after == nil, "31 has no name: a socket of it is %s, and ok with a module behind it", name(before)),
		Holds(named == unix.EPROTONOSUPPORT, "NETLINK_FIREWALL has a name and no module: %s", name(named)),
		But(name(taken) == "ENOMEM", "25 is nlecho's, and a second module gets no socket (its own error is %s)", name(taken)),
		But(name(beyond) == "EINVAL", "there is no 32 (%s)", name(beyond)),
	)
}

func TestA2_3_WhoMakesTheHeader(t *testing.T) {
	c := Try(t)
	hi := []byte("hi")
	// Of UDP, a raw socket sees all that the kernel makes of the two bytes.
	const port = 4711
	inet := binary.NativeEndian.AppendUint16(nil, unix.AF_INET)
	inet = append(binary.BigEndian.AppendUint16(inet, port), 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	raw, err := c.TryOpen(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP)
	c.Must(err, "raw socket")
	udp, err := c.TryOpen(unix.AF_INET, unix.SOCK_DGRAM, 0)
	c.Must(err, "UDP socket")
	c.Must(udp.TrySendRaw(hi, inet, 0), "sending by UDP")
	packet := raw.Receive().Data[20:] // behind the header of IP

	a, b := c.Bound(unix.NETLINK_USERSOCK), c.Bound(unix.NETLINK_USERSOCK)
	c.Must(a.TrySend(hi, b.Name()), "sending by Netlink")
	c.Verdict(
		Holds(len(packet) == 8+2 && binary.BigEndian.Uint16(packet[2:]) == port && binary.BigEndian.Uint16(packet[4:]) == 8+2, "two bytes sent by UDP travel behind eight, in which the kernel has written port and length"),
		Holds(bytes.Equal(b.Queued().Data, hi), "two bytes sent by Netlink, without a struct nlmsghdr, arrive as two bytes"),
	)
}

func TestA2_4_Release(t *testing.T) {
	c := Try(t)
	before := c.Open(Bugs)
	before.Close() // it holds nlbugs
	unload(c)      // which calls netlink_kernel_release
	_, after := c.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, Bugs)
	c.Verdict(
		Holds(c.Compiles("kernel_api").OK && c.Symbol("netlink_kernel_release"), "the kernel has the function, with the socket as its argument"),
		Holds(after == unix.EPROTONOSUPPORT, "nlbugs, which is there and calls it when it goes, leaves no protocol behind: %s", name(after)),
	)
}

func TestA2_5_SockRaw(t *testing.T) {
	c := Try(t)
	var answers [][]byte
	for _, typ := range []int{unix.SOCK_RAW, unix.SOCK_DGRAM} {
		s, err := c.TryOpen(unix.AF_NETLINK, typ, Echo)
		c.Must(err, "socket of type %d", typ)
		s.Bind(Port(4711))
		s.Send(Hello, Kernel)
		answers = append(answers, s.Queued().Data)
		s.Close()
	}
	got := c.Trace().Messages()
	c.Verdict(
		Holds(bytes.Equal(got[0].Data(), Hello.Bytes()) && len(answers[0]) > 0, "with SOCK_RAW a message reaches the kernel, and its answer comes"),
		Holds(bytes.Equal(got[0].Data(), got[1].Data()) && bytes.Equal(answers[0], answers[1]), "with SOCK_DGRAM message and answer are the same bytes"),
	)
}

func TestA2_6_NoAddressWithoutBind(t *testing.T) {
	c := Try(t)
	s := c.Open(Notify)
	s.Connect(Kernel)
	port := s.Name().Port
	c.Param("nlnotify", "via", "port")
	c.Param("nlnotify", "port", port)
	c.Write("nlnotify", "trigger", 1)
	news := s.Queued()
	run := c.Trace()
	c.Verdict(
		Holds(port == 0 || !news.Came(), "a socket on which bind was never called has no port, or nothing can be sent there"),
		Instead(len(run.Calls(trace.Bind)) == 0 && run.Sockets()[0].Auto && trace.Inside(run.Sockets()[0].Bound, run.Calls(trace.Connect).First()), "connect gives it port %d", port),
		Instead(news.Message().Type == trace.NotifyNews && len(run.Calls(trace.Sendmsg)) == 0, "the kernel's news come there, and the program has sent nothing"),
	)
}
