// SPDX-License-Identifier: MIT

package trace

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// Names of the events that checks ask about. Every other event has the name that the kernel gives it in its format
// file, without the group: "sys_enter_bind", "sys_exit_bind", "sched_process_exec".
const (
	// Entry of the kernel's own Netlink functions (net/netlink/af_netlink.c). The return of a function is an event of
	// the same name with "_ret" appended, and has one field, "ret".
	Create  = "netlink_create"  // net, sock, protocol: socket(2) made a Netlink socket
	Release = "netlink_release" // sock: its last descriptor was closed (Config.Probes)
	Bind    = "netlink_bind"    // sock, sk, family, portid, groups, len
	Connect = "netlink_connect" // sock, sk, family, portid, groups, len (Config.Probes)
	Insert  = "netlink_insert"  // sk, portid: a socket is given a port ID, by bind(2) or by the kernel's own choice
	Sendmsg = "netlink_sendmsg" // sock, sk, len, namelen, family, to, to_groups: any of send, sendto, sendmsg, write ...
	Unicast = "netlink_unicast" // ssk, skb, portid, nonblock: a message goes to one port, 0 being the kernel
	Recvmsg = "netlink_recvmsg" // sock, sk, len, flags: any of recv, recvfrom, recvmsg, read ...

	// Attach is the door of a socket's queue, for a message to one port: sk is the receiver's socket, timeo how long the
	// sender is willing to wait, in the kernel's ticks. It returns 0 where the message is let in, 1 where the sender slept
	// and has to try again, and an error otherwise: EAGAIN where the queue is full and nobody waits.
	Attach = "netlink_attachskb" // sk, skb, timeo, ssk (Config.Probes)

	// SetSockOpt gives an option of the level SOL_SOCKET to a socket of whatever family (net/core/sock.c). sec and usec
	// are the first 16 bytes of its value: the time limit where the option is one (SO_SNDTIMEO, SO_RCVTIMEO), and noise
	// where the option is shorter.
	SetSockOpt = "sock_setsockopt" // sock, sk, optname, sec, usec (Config.Probes)

	// ScmSend looks through the ancillary data of a message that has some (net/core/scm.c), inside netlink_sendmsg.
	ScmSend = "__scm_send" // sock (Config.Probes)

	// Take copies a message out of a queue (net/core/datagram.c), inside netlink_recvmsg; see [Call.Took]. It serves
	// sockets of other families too, where portid and group are noise.
	Take = "skb_copy_datagram_iter" // skb, portid of the sender, group of the receivers, len (Config.Probes)

	// Filter: a socket's filter looks at a message that is for it (net/core/filter.c), before it is queued. What it
	// returns is 0 where the message passes.
	Filter = "sk_filter_trim_cap" // sk, skb (Config.Probes)

	// PutCmsg puts something beside the message into the reader's buffer for ancillary data (net/core/scm.c), inside
	// netlink_recvmsg. a, b and c are its first 12 bytes, and noise where it is shorter: the number of a group
	// (NETLINK_PKTINFO), or process ID, user and group ID (SCM_CREDENTIALS). room is what is left of the buffer: where
	// that is too little the rest is cut off, or all (MSG_CTRUNC). See [Call.Told].
	PutCmsg = "put_cmsg" // level, type, len, a, b, c, room (Config.Probes)

	// SetOption gives an option of the level SOL_NETLINK to a socket, or takes it away: of NETLINK_ADD_MEMBERSHIP and
	// NETLINK_DROP_MEMBERSHIP value is the group.
	SetOption = "netlink_setsockopt" // sock, sk, optname, value (Config.Probes)

	// Broadcast sends a message to the members of a group, but not to the port portid; see [Call.Queued].
	Broadcast = "netlink_broadcast" // ssk, skb, portid, group (Config.Probes)

	// Readable wakes the readers of a socket of whatever family: something was put into its queue (net/core/sock.c).
	Readable = "sock_def_readable" // sk (Config.Probes)

	// Processes and threads.
	NewTask = "task_newtask"       // pid, clone_flags, in the task that forks
	Exec    = "sched_process_exec" // pid, filename
	Exit    = "sched_process_exit" // pid: one thread ended
	Switch  = "sched_switch"       // prev_pid, prev_state, next_pid, of tasks in one of the functions above (Config.Events)
	Waking  = "sched_waking"       // pid, of such a task, in the one that wakes it or in an interrupt (Config.Events)
	Signal  = "signal_generate"    // sig, pid, code, result (Config.Events)

	// The module nlecho.
	EchoInput  = "nlecho_input"  // one message of the datagram reached the input callback
	EchoReject = "nlecho_reject" // it was refused
	EchoWait   = "nlecho_wait"   // a pause before a reply begins
	EchoWake   = "nlecho_wake"   // and ends
	EchoReply  = "nlecho_reply"  // a reply was handed to netlink_unicast
	EchoDone   = "nlecho_done"   // the callback, or the deferred work, is over

	// The module nlnotify.
	NotifySend    = "nlnotify_send"    // type, number, cause, via, to, wait, softirq, ret: something was told, or could not be
	NotifyJoin    = "nlnotify_join"    // a socket wants to join the group
	NotifyPart    = "nlnotify_part"    // it has left
	NotifyInput   = "nlnotify_input"   // bytes came from a program
	NotifyRequest = "nlnotify_request" // a question among them was answered, or refused
	NotifyLeave   = "nlnotify_leave"   // leave: the module was told to announce that it wants to go, or to stay

	// Modules.
	ModuleLoad = "module_load" // name (Config.Events)
	ModuleFree = "module_free" // name (Config.Events)

	moduleDelete = "sys_exit_delete_module"

	// Made here, not by the kernel.
	Output = "output" // text, fd: a line that the program printed
	Lost   = "lost"   // events: the ring buffer overran at this place; -1 where the kernel did not count them
	Missed = "missed" // probe, count: a probe was hit while it could not be recorded
)

// RejectedDeep is the reason in an [EchoReject] of nlecho's guard against a recursion without an end (its parameter
// max_depth): without it the kernel would have died.
const RejectedDeep = 6

// ret is what is appended to a probe's name for its return.
const ret = "_ret"

// Event is one thing the kernel was seen to do. Its JSON form is one object on one line.
//
// The zero Event stands for "did not happen": it is what a search returns that finds nothing, and it is neither
// before nor after anything.
type Event struct {
	Seq  int    // place in the stream, from 1; 0 only in the zero Event
	Time int64  // nanoseconds on CLOCK_MONOTONIC
	CPU  int    // -1 for an event that was not made by the kernel
	Task int    // thread ID in the first PID namespace: the task that was running
	IRQ  bool   // true in interrupt or softirq context: Task was only interrupted
	Name string // "netlink_bind", "nlecho_input" ...

	fields []field
}

// field is one value. Integers stand in num (sign-extended when signed), text and bytes in str: one small struct
// rather than an interface, because a check under emulation decodes thousands of them.
type field struct {
	name string
	kind kind
	num  uint64
	str  string
}

type kind uint8

const (
	kindUint kind = iota
	kindInt
	kindText
	kindBytes
)

// Seen reports whether the event happened: it is false for the zero Event only.
func (e Event) Seen() bool { return e.Seq != 0 }

// Has reports whether the event has a field of that name.
func (e Event) Has(name string) bool { return e.field(name) != nil }

// Int returns an integer field, such as "ret" or "fd"; 0 where there is none.
func (e Event) Int(name string) int64 {
	if f := e.field(name); f != nil && f.kind <= kindInt {
		return int64(f.num)
	}
	return 0
}

// Uint returns an integer field as unsigned, such as a port ID ("portid") or a kernel pointer ("sock"); 0 where there
// is none.
func (e Event) Uint(name string) uint64 {
	return uint64(e.Int(name))
}

// Text returns a character field, such as "filename" or "comm", without its terminating zero; "" where there is none.
func (e Event) Text(name string) string {
	if f := e.field(name); f != nil && f.kind == kindText {
		return f.str
	}
	return ""
}

// Bytes returns a field that is an array of bytes, such as nlecho_input's "data"; nil where there is none.
func (e Event) Bytes(name string) []byte {
	if f := e.field(name); f != nil && f.kind == kindBytes {
		return []byte(f.str)
	}
	return nil
}

// Fields returns the names of the event's fields, in the order of its format.
func (e Event) Fields() []string {
	names := make([]string, len(e.fields))
	for i := range e.fields {
		names[i] = e.fields[i].name
	}
	return names
}

func (e *Event) field(name string) *field {
	for i := range e.fields {
		if e.fields[i].name == name {
			return &e.fields[i]
		}
	}
	return nil
}

// With returns a copy of the event with one more field: an integer, text, or bytes. Events that the kernel did not make
// get theirs so, in tests too.
func (e Event) With(name string, value any) Event {
	f := field{name: name}
	switch v := value.(type) {
	case int:
		f.kind, f.num = kindInt, uint64(int64(v))
	case int64:
		f.kind, f.num = kindInt, uint64(v)
	case uint32:
		f.num = uint64(v)
	case uint64:
		f.num = v
	case string:
		f.kind, f.str = kindText, v
	case []byte:
		f.kind, f.str = kindBytes, string(v)
	default:
		panic(fmt.Sprintf("trace: field %s of event %s cannot be a %T", name, e.Name, value))
	}
	e.fields = append(e.fields[:len(e.fields):len(e.fields)], f)
	return e
}

// String returns the event as one line for a person: the time in seconds, the task, the name and the fields.
func (e Event) String() string {
	if !e.Seen() {
		return "(did not happen)"
	}
	return string(e.appendText(nil))
}

func (e Event) appendText(b []byte) []byte {
	b = fmt.Appendf(b, "%d.%06d task %d %s", e.Time/int64(time.Second), e.Time%int64(time.Second)/1000, e.Task, e.Name)
	for i := range e.fields {
		f := &e.fields[i]
		b = append(b, ' ')
		b = append(b, f.name...)
		b = append(b, '=')
		switch {
		case f.kind == kindInt:
			b = strconv.AppendInt(b, int64(f.num), 10)
		case f.kind == kindUint && f.num > 1<<32: // pointers are read in hexadecimal, ports in decimal
			b = fmt.Appendf(b, "%#x", f.num)
		case f.kind == kindUint:
			b = strconv.AppendUint(b, f.num, 10)
		case f.kind == kindText:
			b = strconv.AppendQuote(b, f.str)
		default:
			b = hex.AppendEncode(b, []byte(f.str))
		}
	}
	return b
}

// MarshalJSON writes the event as {"seq":..,"time":..,"cpu":..,"task":..,"name":..,"fields":{..}}. Fields are
// numbers, strings, or, for bytes, an array of one string in hexadecimal.
func (e Event) MarshalJSON() ([]byte, error) {
	// By hand: encoding/json's reflection costs ten times as much, and events stream out of an emulated machine.
	b := make([]byte, 0, 160)
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, int64(e.Seq), 10)
	b = append(b, `,"time":`...)
	b = strconv.AppendInt(b, e.Time, 10)
	b = append(b, `,"cpu":`...)
	b = strconv.AppendInt(b, int64(e.CPU), 10)
	b = append(b, `,"task":`...)
	b = strconv.AppendInt(b, int64(e.Task), 10)
	if e.IRQ {
		b = append(b, `,"irq":true`...)
	}
	b = append(b, `,"name":`...)
	b = appendJSONString(b, e.Name)
	if len(e.fields) > 0 {
		b = append(b, `,"fields":{`...)
		for i := range e.fields {
			f := &e.fields[i]
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSONString(b, f.name)
			b = append(b, ':')
			switch f.kind {
			case kindUint:
				b = strconv.AppendUint(b, f.num, 10)
			case kindInt:
				b = strconv.AppendInt(b, int64(f.num), 10)
			case kindText:
				b = appendJSONString(b, f.str)
			default:
				b = append(b, `["`...)
				b = hex.AppendEncode(b, []byte(f.str))
				b = append(b, `"]`...)
			}
		}
		b = append(b, '}')
	}
	return append(b, '}'), nil
}

func appendJSONString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string cannot fail
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// UnmarshalJSON reads what MarshalJSON wrote. Fields keep their order.
func (e *Event) UnmarshalJSON(data []byte) error {
	var in struct {
		Seq    int             `json:"seq"`
		Time   int64           `json:"time"`
		CPU    int             `json:"cpu"`
		Task   int             `json:"task"`
		IRQ    bool            `json:"irq"`
		Name   string          `json:"name"`
		Fields json.RawMessage `json:"fields"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("trace: read an event: %w", err)
	}
	*e = Event{Seq: in.Seq, Time: in.Time, CPU: in.CPU, Task: in.Task, IRQ: in.IRQ, Name: in.Name}
	if len(in.Fields) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(in.Fields))
	dec.UseNumber()
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return fmt.Errorf("trace: event %s: fields is not an object", in.Name)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return fmt.Errorf("trace: event %s: %w", in.Name, err)
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("trace: event %s, field %v: %w", in.Name, name, err)
		}
		f, err := fieldFromJSON(value)
		if err != nil {
			return fmt.Errorf("trace: event %s, field %v: %w", in.Name, name, err)
		}
		f.name = name.(string)
		e.fields = append(e.fields, f)
	}
	return nil
}

func fieldFromJSON(value any) (field, error) {
	switch v := value.(type) {
	case string:
		return field{kind: kindText, str: v}, nil
	case json.Number:
		if n, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return field{kind: kindUint, num: n}, nil
		}
		n, err := strconv.ParseInt(v.String(), 10, 64)
		return field{kind: kindInt, num: uint64(n)}, err
	case []any:
		if len(v) == 1 {
			if s, ok := v[0].(string); ok {
				raw, err := hex.DecodeString(s)
				return field{kind: kindBytes, str: string(raw)}, err
			}
		}
	}
	return field{}, fmt.Errorf("neither a number, nor a string, nor an array of one hexadecimal string")
}
