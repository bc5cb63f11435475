// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Trace is what a kernel was seen to do, in order: the events, and what they say about processes, sockets and calls.
// It grows event by event, so that the same code draws a finished run and a live one.
type Trace struct {
	events []Event
	infos  []info         // of each event
	losses Losses         // Probes: as the kernel counted
	lapses map[string]int // returns that never came, by probe

	tasks    map[int]*task
	procs    map[int]*process // by process ID, the latest
	byAddr   map[uint64]*Socket
	bySk     map[uint64]*Socket
	sockets  []*Socket
	made     int // sockets so far
	calls    []*Call
	messages []*Message
	byID     map[uint64]*Message
	echo     map[uint64]bool  // struct sock of nlecho's own sockets
	news     map[uint64]bool  // the same of nlnotify's
	unicasts map[uint64]*Call // by struct sk_buff, the netlink_unicast that sent it last
	files    int              // numbers given to descriptors that were copied
}

// info is what was known when an event came.
type info struct {
	owner   *process // whose thread was running; nil for events that the kernel did not make
	call    *Call    // the call that the event enters or leaves; of a waking, the send that was asleep
	parent  *Call    // the innermost call of the task that was under way, other than call
	message *Message
	socket  *Socket
	about   [2]*process // whose threads the event is about, see about; nil for those that nothing is known of
}

// about names the fields of an event that hold the IDs of threads other than the one that made it.
var about = map[string][]string{Signal: {"pid"}, Waking: {"pid"}, Switch: {"prev_pid", "next_pid"}}

type task struct {
	proc   *process
	open   []*Call // the calls under way, outermost first
	closed *Call   // the close that was the task's last system call: a socket may be released only on its way out
}

type process struct {
	pid    int
	parent *process
	began  int // Seq of the event that made it; 0 if it is older than the trace
	tasks  map[int]bool
	fds    map[int]descriptor
	exit   Event // its last thread ended

	executed bool   // a file, since it was made
	std      [3]int // the files of descriptors 0 to 2 when it did
}

// descriptor is what is known of a descriptor of a process. Copies are known where [DescriptorEvents] are traced.
type descriptor struct {
	socket  *Socket
	file    int  // equal for copies of one descriptor; 0 for one of which no copy was seen
	cloexec bool // closed by exec
}

// Losses says what the trace lacks. A check that finds any must not pass: what it asks about may be what was lost.
type Losses struct {
	Events  int            // events overwritten in the buffer before they were read
	Unknown bool           // some were, and the kernel did not count them
	Probes  map[string]int // hits of a probe that were not recorded, by its name
}

// Any reports whether anything is missing.
func (l Losses) Any() bool { return l.Events > 0 || l.Unknown || len(l.Probes) > 0 }

// String says what is missing, in words; "" if nothing is.
func (l Losses) String() string {
	var parts []string
	switch {
	case l.Events > 0 && l.Unknown:
		parts = append(parts, fmt.Sprintf("more than %d events were overwritten before they could be read", l.Events))
	case l.Unknown:
		parts = append(parts, "events were overwritten before they could be read")
	case l.Events > 0:
		parts = append(parts, fmt.Sprintf("%d events were overwritten before they could be read", l.Events))
	}
	var names []string
	for name := range l.Probes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%d hits of %s were not recorded", l.Probes[name], name))
	}
	return strings.Join(parts, "; ")
}

// Socket is one Netlink socket. Sockets are told apart by the kernel's own pointers, so that a descriptor number that
// is used again, or passed on, does not mislead. Its methods may be called on nil.
type Socket struct {
	ID       int    // 1, 2 ... in the order of creation
	Protocol int    // -1 for one that is older than the trace
	Net      uint64 // the network namespace, as a kernel pointer: equal or not is all it tells
	PID      int    // the process that made it
	FD       int    // its descriptor in that process; -1 where unknown

	Port  uint32 // the port ID given to it; 0 while unbound
	Auto  bool   // the kernel chose the port (autobind)
	Bound Event  // the netlink_insert that gave it

	Created  Event // netlink_create
	Closed   Event // close(2) of FD by that process
	Released Event // netlink_release, where traced: the last descriptor is gone

	groups    []membership
	owner     *process
	addr, sk  uint64
	connected bool
	closes    int  // how often close(2) was called for a descriptor of it
	outlived  bool // a close of it that was not its release
}

// String names the socket: by its port, or by its descriptor while it has none.
func (s *Socket) String() string {
	switch {
	case s == nil:
		return "a socket unknown"
	case s.Port != 0:
		return "port " + portNumber(s.Port)
	case s.FD >= 0:
		return fmt.Sprintf("fd %d", s.FD)
	}
	return "an unbound socket"
}

// at names the socket as it was when e happened: a port that it got later does not count.
func (s *Socket) at(e Event) string {
	if s != nil && s.Port != 0 && Before(e, s.Bound) && s.FD >= 0 {
		return fmt.Sprintf("fd %d", s.FD)
	}
	return s.String()
}

// portNumber prints a port ID the way /proc/net/netlink does, without a sign: the kernel's own choices beyond the first
// are large, and negative only for programs that take them for an int32.
func portNumber(port uint32) string {
	return fmt.Sprint(port)
}

// Call is a function of the kernel, or a system call, that a task entered and, mostly, left. The zero Call stands for
// one that did not happen.
type Call struct {
	Name    string // "netlink_sendmsg"; for a system call its own name, "sendto"
	Task    int
	Syscall string  // for a function of the kernel: the system call that led to it, "" where that was not traced
	Socket  *Socket // nil where there is none, or it is unknown
	Entry   Event   // with the arguments
	Return  Event   // with "ret"; the zero Event while the call lasts
	Ret     int64   // what it returned: a count of bytes, a descriptor, 0, or -errno

	// Of a netlink_recvmsg that took a message, or looked at it, where [Take] is traced: the event, with the port ID of
	// the sender in it, and the socket that sent the message, nil for the kernel's own and for one unknown.
	Took   Event
	Sender *Socket

	owner  *process
	parent *Call
	to     uint32
	toSet  bool
	file   int  // of a system call with a descriptor: see there
	shared bool // of a close: the socket lives on, as far as is known

	// Of a netlink_unicast, where [Filter] is traced: the receiver's filter has dropped the message.
	dropped bool
	// Of a netlink_recvmsg, where [Take] and [PutCmsg] are traced.
	delivery *Call
	told     []Event
	// Of a netlink_unicast or netlink_broadcast, where [Readable] is traced: into whose queues it was put.
	queued []*Socket
}

// Seen reports whether the call happened.
func (c Call) Seen() bool { return c.Entry.Seen() }

// Returned reports whether the call has come back.
func (c Call) Returned() bool { return c.Return.Seen() }

// Err returns the error that the call returned, a [syscall.Errno], or nil. It is nil too for a call that has not
// returned.
func (c Call) Err() error {
	if c.Returned() && c.Ret < 0 && c.Ret >= -4095 {
		return syscall.Errno(-c.Ret)
	}
	return nil
}

// PID returns the process of the task that called.
func (c Call) PID() int {
	if c.owner == nil {
		return 0
	}
	return c.owner.pid
}

// Interrupted reports whether a signal ended the call before it had done anything, with a value that no program ever
// sees (ERESTARTSYS, include/linux/errno.h): the kernel begins it anew by itself, unless the signal has ended the process
// or the handler was installed without SA_RESTART.
func (c Call) Interrupted() bool { return c.Returned() && c.Ret <= -512 && c.Ret >= -514 }

// To returns the port ID that a message was sent to, or that a socket was connected to. For netlink_sendmsg and the
// system calls that lead to it, it is what the kernel really did with it (netlink_unicast's argument), whether the
// address was given with the message, by connect(2) before, or not at all.
func (c Call) To() (port uint32, known bool) { return c.to, c.toSet }

// Dropped reports whether a netlink_unicast has put its message into no queue, as the receiver's filter did not let it
// through. It is known where [Filter] is traced.
func (c Call) Dropped() bool { return c.dropped }

// Delivery returns the netlink_unicast that had queued what a netlink_recvmsg got; its Ret is how long the message is.
// It is the zero Call where [Take] is not traced, and for a message to a group.
func (c Call) Delivery() Call {
	if c.delivery == nil {
		return Call{}
	}
	return *c.delivery
}

// Copied returns how many bytes of its message a netlink_recvmsg put into the reader's buffer, which may be less than
// the message has, and less than the call returned (MSG_TRUNC). It is known where [Take] is traced.
func (c Call) Copied() (n int, known bool) { return int(c.Took.Int("len")), c.Took.Has("len") }

// Told returns what a netlink_recvmsg put beside the message, ancillary data of this level and type, as its
// [PutCmsg] event; the zero Event where there is none, or it is not traced.
func (c Call) Told(level, kind int) Event {
	for _, e := range c.told {
		if e.Int("level") == int64(level) && e.Int("type") == int64(kind) {
			return e
		}
	}
	return Event{}
}

// String describes the call in one line, with its result.
func (c Call) String() string {
	if !c.Seen() {
		return "(no such call)"
	}
	s := c.Name
	if c.Socket != nil {
		s += "(" + c.Socket.String() + ")"
	}
	if c.toSet {
		s += " to " + portName(c.to)
	}
	switch {
	case !c.Returned():
		return s + ", not returned"
	case c.Err() != nil:
		return s + " -> " + errnoName(c.Ret)
	}
	return fmt.Sprintf("%s -> %d", s, c.Ret)
}

// errnoName names what a kernel function returned: "ECONNREFUSED" for -111.
func errnoName(ret int64) string {
	if name := unix.ErrnoName(syscall.Errno(-ret)); name != "" {
		return name
	}
	switch -ret { // include/linux/errno.h: never seen by a program, the system call is started again
	case 512:
		return "ERESTARTSYS"
	case 513:
		return "ERESTARTNOINTR"
	case 514:
		return "ERESTARTNOHAND"
	}
	return fmt.Sprintf("error %d", -ret)
}

// returned describes the field ret of an event, and names an error: "ret=-11, EAGAIN".
func returned(e Event) string {
	ret := e.Int("ret")
	if ret < 0 {
		return fmt.Sprintf("ret=%d, %s", ret, errnoName(ret))
	}
	return fmt.Sprintf("ret=%d", ret)
}

// portName names a destination.
func portName(port uint32) string {
	if port == 0 {
		return "kernel (port 0)"
	}
	return "port " + portNumber(port)
}

// Message is one Netlink message that reached nlecho, and what became of it.
type Message struct {
	ID      uint64 // the module's own number for it
	Input   Event  // its header and its first bytes, as the kernel got them; zero if the bytes were no message
	Reject  Event  // it was refused, or zero
	Waits   Events
	Wakes   Events
	Replies Events // one for each answer, "ret" being what netlink_unicast returned
	Done    Event  // zero while it is being answered
	Call    Call   // the netlink_sendmsg that carried it; zero for one that the module sent to itself

	owner *process
	call  *Call
}

// PortID is the sender's, by the kernel's own word (NETLINK_CB(skb).portid), whatever the header says.
func (m *Message) PortID() uint32 {
	if m.Input.Seen() {
		return uint32(m.Input.Uint("portid"))
	}
	return uint32(m.Reject.Uint("portid"))
}

// Data returns the first bytes of the message, at most 64, the header included.
func (m *Message) Data() []byte {
	data := m.Input.Bytes("data")
	return data[:min(len(data), int(m.Input.Uint("data_len")))]
}

// New returns the Trace of these events, in the order of their times.
func New(events ...Event) *Trace {
	t := &Trace{
		tasks: map[int]*task{}, procs: map[int]*process{},
		byAddr: map[uint64]*Socket{}, bySk: map[uint64]*Socket{},
		byID: map[uint64]*Message{}, echo: map[uint64]bool{}, news: map[uint64]bool{},
		unicasts: map[uint64]*Call{},
		losses:   Losses{Probes: map[string]int{}}, lapses: map[string]int{},
	}
	if !slices.IsSortedFunc(events, byTime) {
		events = slices.Clone(events)
		slices.SortStableFunc(events, byTime)
	}
	for _, e := range events {
		t.Add(e)
	}
	return t
}

// Events returns all events, those of strangers included.
func (t *Trace) Events() Events { return t.events }

// Lost says what is missing from the trace.
func (t *Trace) Lost() Losses {
	lost := t.losses
	lost.Probes = maps.Clone(lost.Probes)
	for probe, n := range t.lapses {
		lost.Probes[probe] = max(lost.Probes[probe], n)
	}
	return lost
}

// Sockets returns every Netlink socket that was seen, those of strangers included, in the order of creation.
func (t *Trace) Sockets() []*Socket { return t.sockets }

// Add appends an event, which must not be older than the last.
func (t *Trace) Add(e Event) {
	var in info
	if e.CPU >= 0 && e.Name != Lost {
		k := t.task(e.Task)
		in.owner = k.proc
		t.follow(e, k, &in)
		// Asked now: the thread may end, and its number be another's.
		for i, field := range about[e.Name] {
			if k := t.tasks[int(e.Int(field))]; k != nil {
				in.about[i] = k.proc
			}
		}
	} else {
		t.note(e, &in)
	}
	t.events = append(t.events, e)
	t.infos = append(t.infos, in)
}

// note takes in an event that was not made by the kernel in a task.
func (t *Trace) note(e Event, in *info) {
	switch e.Name {
	case Lost:
		if n := e.Int("events"); n > 0 {
			t.losses.Events += int(n)
		} else {
			t.losses.Unknown = true
		}
	case Missed:
		t.losses.Probes[e.Text("probe")] += int(e.Int("count"))
	default:
		in.owner = t.procs[e.Task]
	}
}

// follow takes in an event that task k made.
func (t *Trace) follow(e Event, k *task, in *info) {
	switch e.Name {
	case Waking:
		t.waking(e, in)
	case NotifySend:
		t.news[e.Uint("sk")] = true
	}
	if e.IRQ {
		return // the task was only interrupted
	}
	if n := len(k.open); n > 0 {
		in.parent = k.open[n-1]
	}
	switch e.Name {
	case NewTask:
		t.newTask(e, k)
	case Exec:
		t.exec(e, k, in)
	case Exit:
		t.exit(e, k)
	case Create:
		t.create(e, k, in)
	case Release:
		if s := t.byAddr[e.Uint("sock")]; s != nil {
			s.Released = e
			in.socket = s
			in.call = k.closing(s)
			s.outlived = s.closes > 1 || s.closes == 1 && in.call == nil
			t.forget(s)
		}
	case Take:
		t.take(e, in)
	case PutCmsg:
		if c := in.parent; c != nil && c.Name == Recvmsg {
			c.told, in.socket = append(c.told, e), c.Socket
		}
	case Readable:
		if c := in.parent; c != nil && (c.Name == Broadcast || c.Name == Unicast) {
			in.socket = t.bySk[e.Uint("sk")]
			c.queue(in.socket)
		}
	case Bind, Connect, Sendmsg, Recvmsg, Insert, Unicast, Broadcast, SetOption, Attach, Filter, ScmSend:
		t.enter(e, k, in, e.Name)
	case Bind + ret, Connect + ret, Sendmsg + ret, Recvmsg + ret, Insert + ret, Unicast + ret, Broadcast + ret, SetOption + ret, Attach + ret, Filter + ret, ScmSend + ret:
		t.leave(e, k, in, strings.TrimSuffix(e.Name, ret))
	case EchoInput, EchoReject, EchoWait, EchoWake, EchoReply, EchoDone:
		t.echoed(e, k, in)
	default:
		if name, ok := strings.CutPrefix(e.Name, "sys_enter_"); ok {
			// A task is in one system call at most: what is still open has lost its return.
			t.unreturned(k.open)
			k.open, k.closed = k.open[:0], nil
			in.parent = nil
			t.enter(e, k, in, name)
		} else if name, ok := strings.CutPrefix(e.Name, "sys_exit_"); ok {
			t.leave(e, k, in, name)
		}
	}
}

// task returns the task with this ID. One that is older than the trace counts as a process of its own: which one it
// belongs to no event tells.
func (t *Trace) task(id int) *task {
	k := t.tasks[id]
	if k == nil {
		p := t.procs[id]
		if p == nil {
			p = t.process(id, nil, 0)
		}
		k = &task{proc: p}
		t.tasks[id] = k
		p.tasks[id] = true
	}
	return k
}

func (t *Trace) process(pid int, parent *process, began int) *process {
	p := &process{pid: pid, parent: parent, began: began, tasks: map[int]bool{}, fds: map[int]descriptor{}}
	t.procs[pid] = p
	return p
}

func (t *Trace) newTask(e Event, k *task) {
	id := int(e.Int("pid"))
	p := k.proc
	if e.Uint("clone_flags")&unix.CLONE_THREAD == 0 {
		p = t.process(id, k.proc, e.Seq)
		maps.Copy(p.fds, k.proc.fds)
	}
	p.tasks[id] = true
	t.tasks[id] = &task{proc: p}
}

// exec: all other threads of the process have ended, and the one that called it has taken the process's ID.
func (t *Trace) exec(e Event, k *task, in *info) {
	pid, old := int(e.Int("pid")), int(e.Int("old_pid"))
	k.open, k.closed = nil, nil
	k.proc.executed = true
	if pid != old {
		if was := t.tasks[old]; was != nil && was != k {
			k.proc = was.proc
			in.owner = was.proc
			delete(was.proc.tasks, old)
			delete(t.tasks, old)
		}
	}
	k.proc.tasks[pid] = true
	maps.DeleteFunc(k.proc.fds, func(_ int, d descriptor) bool { return d.cloexec })
	for fd := range k.proc.std {
		k.proc.std[fd] = k.proc.fds[fd].file
	}
}

func (t *Trace) exit(e Event, k *task) {
	k.open, k.closed = nil, nil
	delete(k.proc.tasks, e.Task)
	delete(t.tasks, e.Task)
	if len(k.proc.tasks) == 0 {
		k.proc.exit = e
	}
}

func (t *Trace) newSocket(addr uint64, owner *process) *Socket {
	if old := t.byAddr[addr]; old != nil {
		t.forget(old)
	}
	t.made++
	s := &Socket{ID: t.made, Protocol: -1, PID: owner.pid, FD: -1, owner: owner, addr: addr}
	t.sockets = append(t.sockets, s)
	t.byAddr[addr] = s
	return s
}

// forget: the kernel may use the socket's memory again.
func (t *Trace) forget(s *Socket) {
	if t.byAddr[s.addr] == s {
		delete(t.byAddr, s.addr)
	}
	if t.bySk[s.sk] == s {
		delete(t.bySk, s.sk)
	}
}

func (t *Trace) create(e Event, k *task, in *info) {
	s := t.newSocket(e.Uint("sock"), k.proc)
	s.Protocol, s.Net, s.Created = int(e.Int("protocol")), e.Uint("net"), e
	in.socket = s
	if in.parent != nil && in.parent.Name == "socket" {
		in.parent.Socket = s
	}
}

// enter opens a call.
func (t *Trace) enter(e Event, k *task, in *info, name string) {
	c := &Call{Name: name, Task: e.Task, Entry: e, owner: k.proc, parent: in.parent}
	for p := in.parent; p != nil && c.Syscall == ""; p = p.parent {
		if p.isSyscall() {
			c.Syscall = p.Name
		}
	}
	k.open = append(k.open, c)
	t.calls = append(t.calls, c)
	in.call = c

	switch name {
	case Bind, Connect, Sendmsg, Recvmsg, SetOption:
		s := t.byAddr[e.Uint("sock")]
		if s == nil {
			s = t.newSocket(e.Uint("sock"), k.proc)
		}
		if sk := e.Uint("sk"); sk != 0 {
			s.sk = sk
			t.bySk[sk] = s
		}
		c.Socket = s
	case ScmSend:
		c.Socket = t.byAddr[e.Uint("sock")]
	case Insert:
		if e.Uint("portid") == 0 {
			// A socket of the kernel's own, in a new network namespace: its memory may have been a program's.
			delete(t.bySk, e.Uint("sk"))
			break
		}
		c.Socket = t.bySk[e.Uint("sk")]
		// Autobind in a connect(2) that is not probed: its descriptor tells the socket. The memory may have been that of
		// another one before, which nobody saw released.
		if p := in.parent; p != nil && p.Name == "connect" && p.Socket != nil {
			c.Socket = p.Socket
			c.Socket.sk = e.Uint("sk")
			t.bySk[c.Socket.sk] = c.Socket
		}
	case Attach:
		c.Socket = t.bySk[e.Uint("sk")]
	case Broadcast:
		c.Socket = t.bySk[e.Uint("ssk")]
	case Unicast:
		c.Socket = t.bySk[e.Uint("ssk")]
		t.unicasts[e.Uint("skb")] = c
		c.send(uint32(e.Uint("portid")))
		if in.parent != nil && in.parent.Name == Sendmsg {
			in.parent.send(c.to)
			if up := in.parent.parent; up != nil && up.isSyscall() {
				up.send(c.to)
			}
		}
	case Filter:
		c.Socket = t.bySk[e.Uint("sk")]
	default: // a system call
		if fd, ok := descriptorOf(e); ok {
			d := k.proc.fds[fd]
			c.Socket, c.file = d.socket, d.file
		}
	}

	switch name {
	case Sendmsg:
		switch n := e.Int("namelen"); {
		case n >= unix.SizeofSockaddrNetlink && (!e.Has("family") || e.Uint("family") == unix.AF_NETLINK):
			c.send(uint32(e.Uint("to")))
		case n == 0 && !c.Socket.connected && c.Socket.Created.Seen():
			c.send(0) // the default destination of a socket that was never connected
		}
	case Connect:
		if e.Uint("family") != unix.AF_UNSPEC { // by which a socket is disconnected
			c.send(uint32(e.Uint("portid")))
		}
	case "close":
		fd, _ := descriptorOf(e)
		delete(k.proc.fds, fd)
		if s := c.Socket; s != nil {
			if s.owner == k.proc && s.FD == fd {
				s.Closed = e
			}
			s.closes++
			c.shared = t.shared(s)
		}
	}
	in.socket = c.Socket
}

func (c *Call) send(to uint32) { c.to, c.toSet = to, true }

func (c *Call) isSyscall() bool { return strings.HasPrefix(c.Entry.Name, "sys_enter_") }

// leave closes a call. Calls that were opened later and are still open have lost their return; a return without entry
// belongs to a call that is older than the trace.
func (t *Trace) leave(e Event, k *task, in *info, name string) {
	i := len(k.open) - 1
	for i >= 0 && k.open[i].Name != name {
		i--
	}
	if i < 0 {
		return
	}
	c := k.open[i]
	t.unreturned(k.open[i+1:])
	k.open = k.open[:i]
	c.Return, c.Ret = e, e.Int("ret")
	in.call, in.parent, in.socket = c, c.parent, c.Socket

	switch name {
	case "dup", "dup2", "dup3", "fcntl":
		t.copied(c, k.proc)
	case "close":
		k.closed = c
	}
	switch {
	case name == Filter && c.Ret != 0 && c.parent != nil && c.parent.Name == Unicast:
		// Newer kernels return a reason instead of an error.
		c.parent.dropped = true
	case name == Unicast && (c.Ret < 0 || c.dropped):
		delete(t.unicasts, c.Entry.Uint("skb"))
	}
	s := c.Socket
	if s == nil {
		return
	}
	switch name {
	case "socket":
		if c.Ret < 0 {
			t.discard(s)
			c.Socket = nil
			return
		}
		s.FD = int(c.Ret)
		k.proc.fds[s.FD] = descriptor{socket: s, cloexec: c.Entry.Int("type")&unix.SOCK_CLOEXEC != 0}
	case Insert:
		if c.Ret == 0 {
			s.Port, s.Bound = uint32(c.Entry.Uint("portid")), c.Entry
			s.Auto = c.parent == nil || c.parent.Name != Bind || c.parent.Entry.Uint("portid") == 0
		}
	case "connect", Connect:
		s.connected = s.connected || c.Ret == 0
	case Bind, SetOption:
		s.member(c)
	}
}

// take: the netlink_recvmsg that is under way found a message. A multicast makes copies of the message, so that its
// sender is known by the port ID only.
func (t *Trace) take(e Event, in *info) {
	c := in.parent
	if c == nil || c.Name != Recvmsg {
		return
	}
	c.Took, in.socket = e, c.Socket
	port, skb := uint32(e.Uint("portid")), e.Uint("skb")
	u := t.unicasts[skb]
	if c.Entry.Int("flags")&unix.MSG_PEEK == 0 {
		delete(t.unicasts, skb) // the next message may have the same memory
	}
	if u != nil && c.Socket != nil && u.to == c.Socket.Port && (u.Socket == nil && port == 0 || u.Socket != nil && u.Socket.Port == port) {
		c.delivery, c.Sender = u, u.Socket
		return
	}
	for _, s := range t.sockets {
		if port != 0 && s.Port == port && s.Protocol == c.Socket.Protocol && s.Net == c.Socket.Net {
			c.Sender = s // the latest
		}
	}
}

// descriptorOf returns the descriptor that a system call was entered with.
func descriptorOf(e Event) (fd int, ok bool) {
	for _, name := range []string{"fd", "fildes", "oldfd"} {
		if e.Has(name) {
			return int(int32(e.Int(name))), true
		}
	}
	return 0, false
}

// copied takes in the return of a call that may have copied a descriptor of process p.
func (t *Trace) copied(c *Call, p *process) {
	fd, _ := descriptorOf(c.Entry)
	d := p.fds[fd]
	switch {
	case c.Ret < 0 || c.Ret == int64(fd) && c.Name == "dup2":
		return
	case c.Name == "dup3":
		d.cloexec = c.Entry.Int("flags")&unix.O_CLOEXEC != 0
	case c.Name == "fcntl" && c.Entry.Int("cmd") == unix.F_SETFD:
		if d != (descriptor{}) {
			d.cloexec = c.Entry.Int("arg")&unix.FD_CLOEXEC != 0
			p.fds[fd] = d
		}
		return
	case c.Name == "fcntl" && !c.copies():
		return
	default:
		d.cloexec = c.Name == "fcntl" && c.Entry.Int("cmd") == unix.F_DUPFD_CLOEXEC
	}
	if d.file == 0 {
		t.files++
		d.file = t.files
		from := p.fds[fd]
		from.file = d.file
		p.fds[fd] = from
	}
	p.fds[int(c.Ret)] = d
}

// copies reports whether c is a system call that copies a descriptor.
func (c *Call) copies() bool {
	switch c.Name {
	case "dup", "dup2", "dup3":
		return true
	case "fcntl":
		return c.Entry.Int("cmd") == unix.F_DUPFD || c.Entry.Int("cmd") == unix.F_DUPFD_CLOEXEC
	}
	return false
}

// shared reports whether a descriptor of the socket is known, or a system call that is under way on it.
func (t *Trace) shared(s *Socket) bool {
	for _, k := range t.tasks {
		for _, c := range k.open {
			// Who waits for room in its queue keeps no socket alive.
			if c.Socket == s && c.Name != "close" && c.Name != Attach {
				return true
			}
		}
		for _, d := range k.proc.fds {
			if d.socket == s && !k.proc.exit.Seen() {
				return true
			}
		}
	}
	return false
}

// closing returns the close of a descriptor of s that task k is in, or is on its way out of: there the kernel releases
// the socket, before or after the event of its return, according to the version.
func (k *task) closing(s *Socket) *Call {
	for _, c := range k.open {
		if c.Name == "close" && c.Socket == s {
			return c
		}
	}
	if k.closed != nil && k.closed.Socket == s {
		return k.closed
	}
	return nil
}

// unreturned notes that the returns of these calls were missed. (The kernel has a count of them, but not every version
// shows it.)
func (t *Trace) unreturned(calls []*Call) {
	for _, c := range calls {
		if !c.isSyscall() {
			t.lapses[c.Name+ret]++
		}
	}
}

// refusedBy returns the innermost call inside c, or c itself, that returned c's error.
func (t *Trace) refusedBy(c *Call) *Call {
	if c.Err() == nil {
		return nil
	}
	for _, d := range t.calls {
		if d.parent != nil && d.parent.Entry.Seq == c.Entry.Seq && d.Returned() && d.Ret == c.Ret {
			c = d
		}
	}
	return c
}

// discard takes back a socket that socket(2) then failed to make.
func (t *Trace) discard(s *Socket) {
	t.forget(s)
	t.sockets = slices.DeleteFunc(t.sockets, func(x *Socket) bool { return x == s })
}

// echoed takes in an event of nlecho. The first event of a message comes in the task that sent it; the later ones may
// come in another, and are known by the message's number.
func (t *Trace) echoed(e Event, k *task, in *info) {
	id := e.Uint("id")
	m := t.byID[id]
	first := e.Name == EchoInput || e.Name == EchoReject && (m == nil || m.Done.Seen() || m.Reject.Seen() || !m.Input.Seen())
	if m == nil || first {
		m = &Message{ID: id, owner: k.proc}
		for i := len(k.open) - 1; i >= 0; i-- {
			if k.open[i].Name == Sendmsg {
				// Only the outermost message came from the program: those inside it the module sent itself.
				if e.Uint("portid") != 0 {
					m.call = k.open[i]
				}
				break
			}
		}
		t.messages = append(t.messages, m)
		t.byID[id] = m
	}
	in.message = m
	switch e.Name {
	case EchoInput:
		m.Input = e
		t.echo[e.Uint("sk")] = true
	case EchoReject:
		m.Reject = e
	case EchoWait:
		m.Waits = append(m.Waits, e)
	case EchoWake:
		m.Wakes = append(m.Wakes, e)
	case EchoReply:
		m.Replies = append(m.Replies, e)
	case EchoDone:
		m.Done = e
	}
}

// sameFile reports whether the file that was executed is the one meant. A program in a mount namespace of its own is
// executed by another path than the one outside: then the last element must do.
func sameFile(executed, file string) bool {
	return executed == file || filepath.Base(executed) == filepath.Base(file)
}
