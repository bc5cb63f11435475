// SPDX-License-Identifier: MIT

package claims

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Protocols of the project's modules. nlbugs is loaded on one of its own here.
const (
	Echo   = 25 // nlecho: one reply to each message, at once, unless Param says otherwise
	Notify = 26 // nlnotify: speaks first
	Bugs   = 27 // nlbugs: the articles' module
)

// Addr is the address of a Netlink socket. The zero Addr is the kernel's.
type Addr struct {
	Port, Groups uint32
	Family       uint16 // 0 stands for AF_NETLINK
	Pad          uint16
}

// Kernel is the kernel's address: port 0, no group.
var Kernel = Addr{}

// Port is the address of a port.
func Port(port uint32) Addr { return Addr{Port: port} }

// Group is the address of a group, by number.
func Group(n int) Addr { return Addr{Groups: 1 << (n - 1)} }

func (a Addr) raw() []byte {
	if a.Family == 0 {
		a.Family = unix.AF_NETLINK
	}
	b := binary.NativeEndian.AppendUint16(nil, a.Family)
	b = binary.NativeEndian.AppendUint16(b, a.Pad)
	b = binary.NativeEndian.AppendUint32(b, a.Port)
	return binary.NativeEndian.AppendUint32(b, a.Groups)
}

func addrOf(b []byte) Addr {
	if len(b) < unix.SizeofSockaddrNetlink {
		return Addr{}
	}
	e := binary.NativeEndian
	return Addr{Family: e.Uint16(b), Pad: e.Uint16(b[2:]), Port: e.Uint32(b[4:]), Groups: e.Uint32(b[8:])}
}

// Message is a Netlink message.
type Message struct {
	Len         uint32 // of header and payload; 0 stands for the right one
	Type, Flags uint16
	Seq, PID    uint32
	Payload     []byte
}

// Hello is a message like those of the articles' clients: no flags, type 0.
var Hello = Message{Payload: []byte("Hello you!\x00")}

// Request is a message that asks for an answer or, with the flag NLM_F_ACK, for an
// acknowledgement.
func Request(typ, flags uint16, payload []byte) Message {
	return Message{Type: typ, Flags: unix.NLM_F_REQUEST | flags, Seq: 1, Payload: payload}
}

// Bytes is the message as it is sent, without padding behind it.
func (m Message) Bytes() []byte {
	if m.Len == 0 {
		m.Len = uint32(unix.NLMSG_HDRLEN + len(m.Payload))
	}
	e := binary.NativeEndian
	b := e.AppendUint32(nil, m.Len)
	b = e.AppendUint16(b, m.Type)
	b = e.AppendUint16(b, m.Flags)
	b = e.AppendUint32(b, m.Seq)
	b = e.AppendUint32(b, m.PID)
	return append(b, m.Payload...)
}

// Error returns the error in an NLMSG_ERROR, nil where it is an acknowledgement. ok
// is false for any other message.
func (m Message) Error() (err error, ok bool) {
	if m.Type != unix.NLMSG_ERROR || len(m.Payload) < 4 {
		return nil, false
	}
	if code := int32(binary.NativeEndian.Uint32(m.Payload)); code != 0 {
		return unix.Errno(-code), true
	}
	return nil, true
}

// Attribute is one of the attributes in a payload.
type Attribute struct {
	Len, Type uint16 // Len is of header and value, without the padding behind it
	Value     []byte
}

// Attributes takes a payload, or the end of one, apart. rest is what is no attribute.
func Attributes(b []byte) (all []Attribute, rest []byte) {
	for len(b) >= unix.SizeofNlAttr {
		a := Attribute{Len: binary.NativeEndian.Uint16(b), Type: binary.NativeEndian.Uint16(b[2:])}
		if a.Len < unix.SizeofNlAttr || int(a.Len) > len(b) {
			break
		}
		a.Value = b[unix.SizeofNlAttr:a.Len]
		all = append(all, a)
		b = b[min(len(b), int(a.Len+3)&^3):]
	}
	return all, b
}

// Datagram is what one receive took out of a queue.
type Datagram struct {
	Data    []byte
	From    Addr
	Flags   int    // MSG_TRUNC and the like
	Control []byte // ancillary data
}

// Came tells whether anything was received.
func (d Datagram) Came() bool { return d.Data != nil }

// Messages takes the datagram apart. What is no message ends it.
func (d Datagram) Messages() []Message {
	var all []Message
	for b := d.Data; len(b) >= unix.NLMSG_HDRLEN; {
		e := binary.NativeEndian
		m := Message{Len: e.Uint32(b), Type: e.Uint16(b[4:]), Flags: e.Uint16(b[6:]), Seq: e.Uint32(b[8:]), PID: e.Uint32(b[12:])}
		if m.Len < unix.NLMSG_HDRLEN || int(m.Len) > len(b) {
			break
		}
		m.Payload = b[unix.NLMSG_HDRLEN:m.Len]
		all = append(all, m)
		b = b[min(len(b), int(m.Len+3)&^3):]
	}
	return all
}

// Message returns its first message, the zero Message where there is none.
func (d Datagram) Message() Message {
	if m := d.Messages(); len(m) > 0 {
		return m[0]
	}
	return Message{}
}

// Socket is a socket of a task. Methods whose names begin with Try return the error
// of the kernel, for where that is the question; the others end the trial with it.
type Socket struct {
	FD   int
	task *Task
}

// Open makes a Netlink socket of a protocol, and nothing else: it is not bound.
func (k *Task) Open(protocol int) *Socket {
	k.c.t.Helper()
	s, err := k.TryOpen(unix.AF_NETLINK, unix.SOCK_RAW, protocol)
	k.c.Must(err, "socket of protocol %d", protocol)
	return s
}

// Bound makes a socket whose port the kernel chooses: socket(2) and bind(2).
func (k *Task) Bound(protocol int) *Socket {
	k.c.t.Helper()
	s := k.Open(protocol)
	s.Bind(Addr{})
	return s
}

// TryOpen is socket(2).
func (k *Task) TryOpen(domain, typ, protocol int) (*Socket, error) {
	r := k.call(request{Op: "socket", A: domain, B: typ, C: protocol})
	if err := r.err(); err != nil {
		return nil, err
	}
	s := &Socket{FD: r.N, task: k}
	k.c.t.Cleanup(s.Close)
	return s, nil
}

// Close closes the socket. It may be called twice.
func (s *Socket) Close() {
	if s.FD >= 0 {
		s.task.call(request{Op: "close", FD: s.FD})
		s.FD = -1
	}
}

// TryBind is bind(2).
func (s *Socket) TryBind(a Addr) error {
	return s.task.call(request{Op: "bind", FD: s.FD, Addr: a.raw()}).err()
}

// Bind gives the socket its address; port 0 leaves the choice to the kernel.
func (s *Socket) Bind(a Addr) {
	s.task.c.t.Helper()
	s.task.c.Must(s.TryBind(a), "bind to %+v", a)
}

// TryConnect is connect(2).
func (s *Socket) TryConnect(a Addr) error {
	return s.task.call(request{Op: "connect", FD: s.FD, Addr: a.raw()}).err()
}

// Connect sets the destination of what is sent without an address.
func (s *Socket) Connect(a Addr) {
	s.task.c.t.Helper()
	s.task.c.Must(s.TryConnect(a), "connect to %+v", a)
}

// TrySend is sendto(2) with the bytes as they are.
func (s *Socket) TrySend(b []byte, to Addr) error {
	return s.TrySendRaw(b, to.raw(), 0)
}

// TrySendRaw is sendto(2): nil is no address at all.
func (s *Socket) TrySendRaw(b, to []byte, flags int) error {
	return s.task.call(request{Op: "send", FD: s.FD, Data: b, Addr: to, A: flags}).err()
}

// TrySendmsg is sendmsg(2) with something in msg_flags, too.
func (s *Socket) TrySendmsg(b []byte, to Addr, msgFlags, flags int) error {
	return s.task.call(request{Op: "sendmsg", FD: s.FD, Data: b, Addr: to.raw(), A: flags, C: msgFlags}).err()
}

// Send sends a message.
func (s *Socket) Send(m Message, to Addr) {
	s.task.c.t.Helper()
	s.task.c.Must(s.TrySend(m.Bytes(), to), "send to %+v", to)
}

const bufferSize = 64 << 10

// Receive waits for the next datagram.
func (s *Socket) Receive() Datagram {
	s.task.c.t.Helper()
	if s.task.call(request{Op: "poll", FD: s.FD, A: int(Patience.Milliseconds())}).N == 0 {
		s.task.c.fatal("nothing came within %v", Patience)
	}
	d, err := s.TryReceive(bufferSize, 0)
	s.task.c.Must(err, "receive")
	return d
}

// Queued returns what is in the queue now, a zero Datagram where it is empty. What the
// kernel answers inside a send is there when the send has returned.
func (s *Socket) Queued() Datagram {
	s.task.c.t.Helper()
	d, err := s.TryReceive(bufferSize, unix.MSG_DONTWAIT)
	if !errors.Is(err, unix.EAGAIN) {
		s.task.c.Must(err, "receive")
	}
	return d
}

// Drain empties the queue. It returns what was in it and, where the kernel said that
// something is missing, its error: ENOBUFS.
func (s *Socket) Drain() (all []Datagram, lost error) {
	s.task.c.t.Helper()
	for {
		d, err := s.TryReceive(bufferSize, unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			all = append(all, d)
		case errors.Is(err, unix.EAGAIN):
			return all, lost
		case errors.Is(err, unix.ENOBUFS):
			lost = err
		default:
			s.task.c.Must(err, "receive")
		}
	}
}

// List sends a question for a list, and returns all parts of the answer, the
// NLMSG_DONE at its end included.
func (s *Socket) List(question Message) []Message {
	s.task.c.t.Helper()
	s.Send(question, Kernel)
	var all []Message
	for {
		all = append(all, s.Receive().Messages()...)
		if t := all[len(all)-1].Type; t == unix.NLMSG_DONE || t == unix.NLMSG_ERROR {
			return all
		}
	}
}

// Shrink makes the queue so small that it holds no more than a few of nlecho's replies.
func (s *Socket) Shrink() {
	s.task.c.t.Helper()
	s.task.c.Must(s.TrySet(unix.SOL_SOCKET, unix.SO_RCVBUF, 4096), "setting SO_RCVBUF")
}

// TryReceive is recvmsg(2), with a buffer of size bytes.
func (s *Socket) TryReceive(size, flags int) (Datagram, error) {
	return s.TryRecvmsg(size, 0, flags)
}

// TryRecvmsg is recvmsg(2) with something in msg_flags, too.
func (s *Socket) TryRecvmsg(size, msgFlags, flags int) (Datagram, error) {
	r := s.task.call(request{Op: "recv", FD: s.FD, A: size, B: flags, C: msgFlags})
	if err := r.err(); err != nil {
		return Datagram{}, err
	}
	return Datagram{Data: append([]byte{}, r.Data...), From: addrOf(r.Addr), Flags: r.Flags, Control: r.Control}, nil
}

// Full sends a message again and again, without waiting, until the queue that it goes to
// is full, and returns how many went in.
func (s *Socket) Full(m Message, to Addr) (n int) {
	s.task.c.t.Helper()
	for {
		err := s.TrySendRaw(m.Bytes(), to.raw(), unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			return n
		}
		s.task.c.Must(err, "send to %+v", to)
		n++
	}
}

// Small gives the socket the smallest queue that there is.
func (s *Socket) Small() {
	s.task.c.t.Helper()
	s.task.c.Must(s.TrySet(unix.SOL_SOCKET, unix.SO_RCVBUF, 1), "a small queue")
}

// Memory is how many bytes the socket's queue takes up, and how many it may (SO_MEMINFO).
func (s *Socket) Memory() (used, limit int) {
	s.task.c.t.Helper()
	r := s.task.call(request{Op: "getsockopt", FD: s.FD, A: unix.SOL_SOCKET, B: unix.SO_MEMINFO, C: 64})
	s.task.c.Must(r.err(), "SO_MEMINFO")
	e := binary.NativeEndian
	return int(e.Uint32(r.Data)), int(e.Uint32(r.Data[4:]))
}

// TrySet is setsockopt(2) with an integer.
func (s *Socket) TrySet(level, option, value int) error {
	v := int32(value)
	return s.task.call(request{Op: "setsockopt", FD: s.FD, A: level, B: option, Data: unsafe.Slice((*byte)(unsafe.Pointer(&v)), 4)}).err()
}

// TryJoin joins a group by its number (NETLINK_ADD_MEMBERSHIP).
func (s *Socket) TryJoin(group int) error {
	return s.TrySet(unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
}

// Join joins a group by its number.
func (s *Socket) Join(group int) {
	s.task.c.t.Helper()
	s.task.c.Must(s.TryJoin(group), "join group %d", group)
}

// Name is getsockname(2): the port and the first 32 groups.
func (s *Socket) Name() Addr {
	s.task.c.t.Helper()
	r := s.task.call(request{Op: "getsockname", FD: s.FD})
	s.task.c.Must(r.err(), "getsockname")
	return addrOf(r.Addr)
}

// String names the address.
func (a Addr) String() string {
	if a.Groups != 0 {
		return fmt.Sprintf("port %d, groups %#x", a.Port, a.Groups)
	}
	return fmt.Sprintf("port %d", a.Port)
}
