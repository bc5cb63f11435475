// SPDX-License-Identifier: MIT

// Package check judges programs for lab 7.
package check

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/labtest"
	"netlinklabs/internal/trace"
)

func TestNeighbours(t *testing.T) {
	k := &course{c: labtest.New(t, labtest.Events(trace.DescriptorEvents()...))}
	k.c.Step(1, k.talk)
	k.c.Step(2, k.forbidden)
	k.c.Step(3, k.connected)
	k.c.Step(4, k.refused)
	k.c.Step(5, k.experiment)
	k.answer()
}

// course is the program on its way through the steps. Each is a run of its own.
type course struct {
	c *labtest.Check

	run  *labtest.Run
	text string // that the run was told

	// What decides the predictions.
	talked   trace.Call // step 1: on NETLINK_USERSOCK, accepted
	plain    trace.Call // step 2: the sends on protocol 25
	userns   trace.Call
	netns    trace.Call
	stranger trace.Call // step 3: to a connected socket
	largest  trace.Call // step 4: with a send buffer of
	buffer   int64
}

// start runs the program for one step, with a text that nobody can know beforehand.
// It is longer than what a program might say by itself, and always as long: shown output
// has the length.
func (k *course) start(mode string) {
	words := []string{"hedges", "fences", "ladder", "parcel", "kettle", "garden", "letter", "window"}
	rand.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	k.text = fmt.Sprintf("%s %d", strings.Join(words[:5], " "), 1000+rand.IntN(9000))
	k.run = k.c.Run(mode, k.text)
}

// holder returns the socket that had a port, where x stands, when e happened.
func (k *course) holder(x *trace.Socket, port uint32, e trace.Event) *trace.Socket {
	for _, s := range k.run.Trace.Sockets() {
		if port != 0 && s.Port == port && s.SharesPorts(x) && s.HasPort(e) {
			return s
		}
	}
	return nil
}

// reads are the calls that took a message out of the queue of whichever socket, in
// the order in which they did: who waits longest need not be the first.
func (k *course) reads() trace.Calls {
	calls := k.run.Trace.Calls(trace.Recvmsg).OK()
	calls = slices.DeleteFunc(calls, func(c trace.Call) bool { return c.Entry.Int("flags")&unix.MSG_PEEK != 0 })
	slices.SortFunc(calls, func(a, b trace.Call) int { return cmp.Compare(a.Took.Seq, b.Took.Seq) })
	return calls
}

// readFrom returns the first call after e by which to took a message of from.
func (k *course) readFrom(from, to *trace.Socket, e trace.Event) trace.Call {
	for _, c := range k.reads() {
		if c.Socket == to && c.Sender == from && trace.Before(e, c.Took) {
			return c
		}
	}
	return trace.Call{}
}

// peer returns the connect that decided with whom x was connected when e happened;
// the zero Call where x was not.
func (k *course) peer(x *trace.Socket, e trace.Event) trace.Call {
	last := k.run.Trace.Calls(trace.Connect).On(x).OK().Before(e).Last()
	if _, known := last.To(); !known {
		return trace.Call{} // never, or no longer
	}
	return last
}

// sends are those from one socket's port to another, be they accepted or not. An
// address may have been given or not.
func (k *course) sends(protocol int) trace.Calls {
	calls := k.run.Trace.Calls(trace.Sendmsg)
	return slices.DeleteFunc(calls, func(c trace.Call) bool {
		to, known := c.To()
		return c.Socket.Protocol != protocol || !known || to == 0
	})
}

func destination(c trace.Call) uint32 {
	to, _ := c.To()
	return to
}

// noAddress reports whether a send was given no address.
func noAddress(c trace.Call) bool { return c.Entry.Int("namelen") == 0 }

// events are those of calls, for the evidence.
func events(calls ...trace.Call) (es []trace.Event) {
	for _, c := range calls {
		es = append(es, c.Entry, c.Return)
	}
	return es
}

// says compares what the program reports under a key with what the kernel said.
func (k *course) says(s *labtest.Step, key string, c trace.Call, what string) {
	want := labtest.Verdict(c)
	if got, _ := k.run.Key(key); labtest.SameVerdict(got, want) {
		want = got
	}
	s.Reported(k.run, key, want, labtest.Failure{
		Expected: fmt.Sprintf("%s=%s: so the kernel answered", key, want),
		Likely:   fmt.Sprintf("%s= is what the kernel said to %s", key, what),
		Trace:    events(c),
	})
}

// told compares a text that the program reports with the one that it was told.
func (k *course) told(s *labtest.Step, key, want string, read trace.Call, likely string) {
	s.Reported(k.run, key, want, labtest.Failure{
		Expected: fmt.Sprintf("%s=%s", key, want),
		Likely:   likely,
		Trace:    []trace.Event{read.Took, read.Return},
	})
}

// sender compares a port ID that the program reports with that of who sent a message.
func (k *course) sender(s *labtest.Step, key string, read trace.Call) {
	port := uint32(read.Took.Uint("portid"))
	want := fmt.Sprint(port)
	if got, _ := k.run.Key(key); got == fmt.Sprint(int32(port)) {
		want = got // with a sign
	}
	s.Reported(k.run, key, want, labtest.Failure{
		Expected: fmt.Sprintf("%s=%s: the port that sent the message", key, want),
		Likely:   "recvfrom and recvmsg return the sender's address beside the message; a port ID is no process ID, even where the two are equal",
		Trace:    []trace.Event{read.Took, read.Return},
	})
}

// ended: the program came to its end by itself.
func (k *course) ended(s *labtest.Step) {
	s.Expect(k.run.End.OK(), labtest.Failure{
		Got:      "all of it was seen, but the program did not end well",
		Expected: "exit code 0",
		Likely:   "its last words tell why",
	})
}

// talk: a message goes from a process to another, and one comes back.
func (k *course) talk(s *labtest.Step) {
	k.start("talk")
	between := func(c trace.Call) bool {
		return c.Socket.Protocol == unix.NETLINK_USERSOCK && c.Sender != nil && c.Sender.PID != c.Socket.PID && c.Ret >= int64(len(k.text))
	}
	reads := k.reads()
	i := slices.IndexFunc(reads, between)
	if i < 0 {
		s.Fail(k.unheard(k.whySilent()))
	}
	there := reads[i]
	back := slices.IndexFunc(reads, func(c trace.Call) bool {
		return between(c) && trace.Before(there.Took, c.Took) && c.Sender.PID == there.Socket.PID && c.Socket.PID == there.Sender.PID
	})
	if back < 0 {
		f := labtest.Failure{
			Got:      "one process has read the text, and the other one read no answer",
			Expected: "the process that got the text answers the one that sent it, and that one reads the answer",
			Likely:   "the address that came with the text says where an answer goes",
			Trace:    []trace.Event{there.Took, there.Return},
		}
		if c := k.run.Trace.Calls(trace.Sendmsg).On(there.Socket).After(there.Took).Failed().Last(); c.Seen() {
			f.Got = fmt.Sprintf("the answer, to port %d: %s", destination(c), labtest.Verdict(c))
			f.Likely = "to whom must it go? And is that process still there?"
			f.Trace = append(f.Trace, events(c)...)
		}
		s.Fail(k.unheard(f))
	}
	answer := reads[back]
	k.told(s, "got", k.text, there, "got= is the text as it was read, without anything before or behind it")
	k.sender(s, "from", there)
	k.told(s, "answer", strings.ToUpper(k.text), answer, "the answer is the text in capital letters (strings.ToUpper), as it was read")
	k.sender(s, "answer_from", answer)
	k.ended(s)
	k.talked = k.sends(unix.NETLINK_USERSOCK).On(there.Sender).OK().First()
}

// unheard adds to a failure that a process has said something where nobody sees it: its
// standard output or standard error is another one than the program's.
func (k *course) unheard(f labtest.Failure) labtest.Failure {
	const stdout, stderr = 1, 2
	pid, fd, bytes := 0, int64(0), int64(0)
	for _, c := range k.run.Trace.Calls("write").OK() {
		to := c.Entry.Int("fd")
		if to != stdout && to != stderr || k.run.Trace.Stream(c) != 0 || pid != 0 && (pid != c.PID() || fd != to) {
			continue
		}
		pid, fd, bytes = c.PID(), to, bytes+c.Ret
	}
	if bytes > 0 {
		name := map[int64]string{stdout: "cmd.Stdout", stderr: "cmd.Stderr"}[fd]
		f.Got += fmt.Sprintf("; process %d wrote %d bytes to its descriptor %d, and that is not yours", pid, bytes, fd)
		f.Likely += fmt.Sprintf(". And what process %d says, an error perhaps, is only seen if it has your own descriptor %d: %s", pid, fd, name)
	}
	return f
}

// whySilent says why no process read what another one sent.
func (k *course) whySilent() labtest.Failure {
	f := labtest.Failure{
		Got:      "no process has read what another process sent",
		Expected: "two processes, each with a socket of NETLINK_USERSOCK: a send to the port of the other one's, and a read there",
		Likely:   "no message was sent: what a program prints convinces nobody here",
	}
	if own := slices.IndexFunc(k.reads(), func(c trace.Call) bool { return c.Sender != nil }); own >= 0 {
		c := k.reads()[own]
		f.Trace = []trace.Event{c.Sender.Created, c.Socket.Created, c.Took, c.Return}
		if c.Sender.PID == c.Socket.PID {
			f.Got = fmt.Sprintf("a message was read, but both sockets belong to process %d", c.Socket.PID)
			f.Likely = "a goroutine is no process: both must be processes, which have been started"
		} else {
			f.Got = fmt.Sprintf("a message of %d bytes was read", c.Ret)
			f.Likely = fmt.Sprintf("the text that the program was told has %d bytes", len(k.text))
		}
		return f
	}
	sends := k.run.Trace.Calls(trace.Sendmsg)
	c := sends.Last()
	if !c.Seen() {
		return f
	}
	to, known := c.To()
	f.Trace = events(c)
	f.Got = fmt.Sprintf("a send to port %d on protocol %d: %s", to, c.Socket.Protocol, labtest.Verdict(c))
	switch {
	case c.Socket.Protocol != unix.NETLINK_USERSOCK:
		f.Likely = "this protocol is not for conversations between programs: that is step 2"
	case !known || to == 0:
		f.Likely = "port 0 is the kernel, and on NETLINK_USERSOCK there is nobody at home. Whose port should it be?"
	case c.Err() == unix.ECONNREFUSED:
		f.Got = fmt.Sprintf("a send to port %d, which nobody had at that moment: ECONNREFUSED", to)
		f.Likely = "who says that the other one has this port, and has it already? A process ID is no port ID, and a process that was started has no socket yet"
	case c.Err() == nil:
		f.Got = fmt.Sprintf("a message to port %d was accepted, and nobody read it", to)
		f.Likely = "it lies in the queue of the socket that has this port. Is that the one from which the other process reads?"
	}
	return f
}

// room tells, of each process, in how new namespaces it is.
type room struct{ user, net bool }

func (k *course) rooms() func(pid int) room {
	process, parent, own := map[int]int{}, map[int]int{}, map[int]uint64{}
	of := func(task int) int {
		if p, ok := process[task]; ok {
			return p
		}
		return task
	}
	for _, e := range k.run.Trace.Events(trace.NewTask) {
		pid, flags := int(e.Int("pid")), e.Uint("clone_flags")
		if flags&unix.CLONE_THREAD != 0 {
			process[pid] = of(e.Task)
			continue
		}
		parent[pid], own[pid] = of(e.Task), flags
	}
	for _, c := range k.run.Trace.Calls("unshare").OK() {
		own[of(c.Task)] |= c.Entry.Uint("unshare_flags")
	}
	return func(pid int) room {
		var flags uint64
		for seen := 0; pid != 0 && seen < 100; pid, seen = parent[pid], seen+1 {
			flags |= own[pid]
			if pid == k.run.Trace.PID {
				break // its own namespaces are not of its making
			}
		}
		return room{flags&unix.CLONE_NEWUSER != 0, flags&unix.CLONE_NEWNET != 0}
	}
}

// forbidden: on nlecho's protocol a send to another's port is refused, to root of
// another user namespace too, but not where the network belongs to that.
func (k *course) forbidden(s *labtest.Step) {
	k.start("forbidden")
	where := k.rooms()
	find := func(in room) (refused, accepted trace.Call) {
		for _, c := range k.sends(labtest.EchoProtocol) {
			if where(c.Socket.PID) != in || k.holder(c.Socket, destination(c), c.Entry) == nil {
				continue
			}
			if c.Err() != nil && !refused.Seen() {
				refused = c
			}
			if c.Err() == nil && !accepted.Seen() {
				accepted = c
			}
		}
		return refused, accepted
	}
	either := func(a, b trace.Call) trace.Call {
		if a.Seen() {
			return a
		}
		return b
	}

	k.plain = either(find(room{}))
	s.Expect(k.plain.Seen(), k.whyUnsent("plain", "of the program as it is", func(pid int) bool { return where(pid) == room{} }))
	k.says(s, "plain", k.plain, "a send to another's port, without any right")

	k.userns = either(find(room{user: true}))
	s.Expect(k.userns.Seen(), k.whyUnsent("userns", "in a new user namespace, in the old network namespace", func(pid int) bool { return where(pid) == room{user: true} }))
	k.says(s, "userns", k.userns, "the same in a new user namespace")

	refused, accepted := find(room{user: true, net: true})
	k.netns = either(accepted, refused)
	s.Expect(k.netns.Seen(), k.whyUnsent("netns", "in a new user namespace and a new network namespace", func(pid int) bool { return where(pid) == room{user: true, net: true} }))
	s.Expect(accepted.Seen(), labtest.Failure{
		Got:      fmt.Sprintf("in the new network namespace: %s", labtest.Verdict(k.netns)),
		Expected: "there the send is accepted",
		Likely:   "a process that is the first one in a new user namespace has every right there, until it executes a file: then only root keeps them. Which user is it, in that namespace? Without UidMappings and GidMappings it is nobody",
		Trace:    events(k.netns),
	})
	k.says(s, "netns", accepted, "the same in a new user namespace with a network namespace of its own")
	read := k.readFrom(accepted.Socket, k.holder(accepted.Socket, destination(accepted), accepted.Entry), accepted.Entry)
	s.Expect(read.Seen(), labtest.Failure{
		Got:      "the message was accepted, and nobody read it",
		Expected: "the socket that it was for reads it",
		Likely:   "heard= is the text as it was read from the other socket",
		Trace:    events(accepted),
	})
	k.told(s, "heard", k.text, read, "heard= is the text as it was read from the other socket")
	k.ended(s)
}

// whyUnsent says why there is no send for a line of step 2.
func (k *course) whyUnsent(key, where string, in func(pid int) bool) labtest.Failure {
	f := labtest.Failure{
		Got:      "no such send was seen",
		Expected: fmt.Sprintf("%s=: a send on protocol %d to the port of another socket, %s", key, labtest.EchoProtocol, where),
		Likely:   "the process that sends, and the one that has the port, are both in these namespaces; which ones a new process gets, SysProcAttr in exec.Cmd says",
	}
	if got, ok := k.run.Key(key); ok {
		f.Got = fmt.Sprintf("%s=%s, but no such send was seen", key, labtest.Short(got))
	}
	if key != "plain" {
		k.whyNowhere(&f)
	}
	for _, c := range k.run.Trace.Calls(trace.Sendmsg) {
		if !in(c.Socket.PID) {
			continue
		}
		to, _ := c.To()
		f.Trace = events(c)
		switch {
		case c.Socket.Protocol != labtest.EchoProtocol:
			f.Got = fmt.Sprintf("a send on protocol %d", c.Socket.Protocol)
			f.Likely = fmt.Sprintf("this step is about the protocol of nlecho, %d", labtest.EchoProtocol)
		case to == 0:
			f.Got = fmt.Sprintf("a send to port 0: %s", labtest.Verdict(c))
			f.Likely = "that is nlecho in the kernel, to whom everybody may send. The question is about the port of another socket"
		default:
			f.Got = fmt.Sprintf("a send to port %d, which nobody has there: %s", to, labtest.Verdict(c))
			f.Likely = "what was refused because of the right, and what because of the number? Let another socket have the port, in the same network namespace"
		}
		break
	}
	return f
}

// whyNowhere says what became of the processes that were to run in a new user
// namespace, where none of them came as far as to run a program.
func (k *course) whyNowhere(f *labtest.Failure) {
	ran := func(pid int) bool {
		return slices.ContainsFunc(k.run.Trace.Events(trace.Exec), func(e trace.Event) bool { return int(e.Int("pid")) == pid })
	}
	made := 0
	for _, e := range k.run.Trace.Events(trace.NewTask) {
		flags, pid := e.Uint("clone_flags"), int(e.Int("pid"))
		if flags&unix.CLONE_NEWUSER == 0 {
			continue
		}
		if made++; !ran(pid) {
			f.Got += fmt.Sprintf("; process %d was made in a new user namespace, and was gone before it executed a file", pid)
			f.Likely = "there it must be a user before it can run: UidMappings and GidMappings say which. Without rights outside you may map one ID only, your own (HostID os.Getuid() or os.Getgid(), Size 1), and the kernel refuses any other. The error of cmd.Start or cmd.Run tells it"
			return
		}
	}
	unshare := k.run.Trace.Calls("unshare").Failed().Last()
	switch {
	case unshare.Seen():
		f.Got += fmt.Sprintf("; unshare: %s", labtest.Verdict(unshare))
		f.Likely = "a process with several threads, as every one of Go's is, cannot go into a new user namespace, and a new network namespace alone takes a right. Let another process begin there: SysProcAttr in exec.Cmd"
		f.Trace = append(f.Trace, unshare.Entry, unshare.Return)
	case made == 0:
		f.Got += "; no process was made in a new user namespace"
		f.Likely += ". A new network namespace alone takes a right; in a new user namespace the process has it"
	}
}

// connected: a send without an address goes to the neighbour, and a stranger is
// refused where the neighbour is not.
func (k *course) connected(s *labtest.Step) {
	k.start("connected")
	var link trace.Call
	var neighbour *trace.Socket
	connects := k.run.Trace.Calls(trace.Connect)
	for _, c := range connects.OK() {
		if n := k.holder(c.Socket, destination(c), c.Return); n != nil && n != c.Socket {
			link, neighbour = c, n
			break
		}
	}
	if !link.Seen() {
		f := labtest.Failure{
			Got:      "no socket was connected",
			Expected: "a connect to the port of another socket, on NETLINK_USERSOCK",
			Likely:   "connect(2) is what chooses a default destination",
		}
		if c := connects.Last(); c.Seen() {
			f.Got = fmt.Sprintf("a connect to port %d on protocol %d: %s", destination(c), c.Socket.Protocol, labtest.Verdict(c))
			f.Likely = "nobody has this port: a neighbour is a socket that is there"
			if c.Err() != nil {
				f.Likely = "who may not send to others may not connect to them either: which protocol is it?"
			}
			f.Trace = events(c)
		}
		s.Fail(f)
	}
	own := link.Socket
	linked := func(c trace.Call) bool { return k.peer(own, c.Entry).Entry.Seq == link.Entry.Seq }
	find := func(is func(trace.Call) bool) trace.Call {
		for _, c := range k.run.Trace.Calls(trace.Sendmsg).After(link.Return) {
			if is(c) && linked(c) {
				return c
			}
		}
		return trace.Call{}
	}

	bare := find(func(c trace.Call) bool { return c.Socket == own && noAddress(c) })
	if !bare.Seen() {
		f := labtest.Failure{
			Got:      "the connected socket sent nothing",
			Expected: "a send without an address",
			Likely:   "write(2) has no address, and sendto and sendmsg do without one",
			Trace:    events(link),
		}
		if c := find(func(c trace.Call) bool { return c.Socket == own }); c.Seen() {
			f.Got = fmt.Sprintf("the connected socket sent to port %d, by an address that came with the send", destination(c))
			f.Trace = append(f.Trace, events(c)...)
		}
		s.Fail(f)
	}
	read := k.readFrom(own, neighbour, bare.Entry)
	s.Expect(read.Seen(), labtest.Failure{
		Got:      fmt.Sprintf("the neighbour, port %d, did not read it", neighbour.Port),
		Expected: "the neighbour reads what was sent without an address",
		Likely:   "default= is what was read, not what was sent",
		Trace:    append(events(link), events(bare)...),
	})
	k.told(s, "default", k.text, read, "default= is the text as the neighbour has read it")

	toOwn := func(c trace.Call) bool { return destination(c) == own.Port && c.Socket.SharesPorts(own) }
	back := find(func(c trace.Call) bool { return c.Socket == neighbour && toOwn(c) })
	s.Expect(back.Seen(), labtest.Failure{
		Got:      "the neighbour sent nothing to the connected socket",
		Expected: fmt.Sprintf("a send from port %d to port %d", neighbour.Port, own.Port),
		Likely:   "neighbour= is what the kernel says to that send. The neighbour need not be connected itself",
		Trace:    events(link),
	})
	k.says(s, "neighbour", back, "the neighbour, who sent to the connected socket")

	k.stranger = find(func(c trace.Call) bool { return c.Socket != neighbour && c.Socket != own && toOwn(c) })
	s.Expect(k.stranger.Seen(), labtest.Failure{
		Got:      "nobody but the neighbour sent to the connected socket",
		Expected: fmt.Sprintf("a third socket that sends to port %d while it is connected", own.Port),
		Likely:   "the socket that was connected is the one that a stranger must send to, and not the other way round",
		Trace:    events(link, back),
	})
	k.says(s, "stranger", k.stranger, "the stranger, who sent to the connected socket")
	k.ended(s)
}

// refusal is a row of the table of step 4.
type refusal struct {
	key    string
	what   string
	is     func(trace.Call) bool
	likely string
}

// refusals are the situations that step 4 asks for, but for the two about sizes.
func (k *course) refusals() []refusal {
	by := func(c trace.Call) string { return k.run.Trace.RefusedBy(c).Name }
	return []refusal{
		{"oob", "a message with the flag MSG_OOB",
			func(c trace.Call) bool { return c.Err() == unix.EOPNOTSUPP },
			"the flag is one of the send's flags, and Netlink knows no urgent data"},
		{"empty", "a message of 0 bytes",
			func(c trace.Call) bool { return c.Entry.Int("len") == 0 },
			"not even a header may be in it"},
		{"family", "an address that is none of AF_NETLINK",
			func(c trace.Call) bool { return !noAddress(c) && c.Entry.Uint("family") != unix.AF_NETLINK },
			"x/sys/unix has a type for the addresses of each family; AF_INET is one"},
		{"descriptor", "a message with a descriptor as ancillary data",
			func(c trace.Call) bool { return by(c) == trace.ScmSend },
			"sendmsg takes ancillary data beside the message, and unix.UnixRights makes some. Over a Unix socket it would pass a descriptor on"},
		{"nobody", "a message to a port that no socket has",
			func(c trace.Call) bool {
				to := destination(c)
				return to != 0 && by(c) == trace.Unicast && k.holder(c.Socket, to, c.Entry) == nil
			},
			"a number that another socket has had, and has given back, is one that nobody has"},
		{"kernel", "a message to the kernel, port 0",
			func(c trace.Call) bool { to, known := c.To(); return known && to == 0 && by(c) == trace.Unicast },
			"on NETLINK_USERSOCK there is nobody in the kernel. On nlecho's protocol there is"},
	}
}

// refused: each refusal was provoked, and what the kernel said, and which of its
// functions, is reported.
func (k *course) refused(s *labtest.Step) {
	// The usual receive buffer (212992 bytes) must not hold all that a search for the
	// limit by halves sends: see the wrong answer full-queue.
	size := 20_000 + rand.Int64N(30_000)
	k.run = k.c.Run("refused", fmt.Sprint(size))
	sends := k.run.Trace.Calls(trace.Sendmsg)
	sends = slices.DeleteFunc(sends, func(c trace.Call) bool { return c.Socket.Protocol != unix.NETLINK_USERSOCK })
	k.drained(s, sends)
	for _, row := range k.refusals() {
		i := slices.IndexFunc(sends, row.is)
		if i < 0 {
			f := labtest.Failure{
				Got:      "this situation was not seen",
				Expected: fmt.Sprintf("%s=: %s, on NETLINK_USERSOCK", row.key, row.what),
				Likely:   row.likely,
			}
			if got, ok := k.run.Key(row.key); ok {
				f.Got = fmt.Sprintf("%s=%s, but no send in that situation", row.key, labtest.Short(got))
			}
			s.Fail(f)
		}
		k.refusedBy(s, row.key, row.what, sends[i])
	}
	k.sizes(s, sends, size)
	k.ended(s)
}

// drained fails the step where the last send waits for room in the queue of a receiver
// that nobody reads, until the program is stopped.
func (k *course) drained(s *labtest.Step, sends trace.Calls) {
	c := sends.Last()
	if k.run.End.Stopped == "" || destination(c) == 0 || c.Returned() && !c.Interrupted() {
		return
	}
	before := sends.To(destination(c)).OK().Before(c.Entry)
	s.Fail(labtest.Failure{
		Got:      fmt.Sprintf("a send to port %d did not return: %d messages had been sent there before, and %d were read", destination(c), len(before), len(k.run.Reads(k.holder(c.Socket, destination(c), c.Entry)))),
		Expected: "sends that are refused, or accepted, but none that waits",
		Likely:   "the receiver's queue is full, and who sends there waits for room. That has nothing to do with the size of one message: have the receiver read what was sent, or let a send not wait (MSG_DONTWAIT), and tell its two refusals apart",
		Trace:    []trace.Event{before.Last().Entry, before.Last().Return, c.Entry},
	})
}

// refusedBy compares a line KEY=ERROR FUNCTION with the kernel's refusal.
func (k *course) refusedBy(s *labtest.Step, key, what string, c trace.Call) {
	by := k.run.Trace.RefusedBy(c)
	got, ok := k.run.Key(key)
	said, function, two := strings.Cut(got, " ")
	function = strings.TrimSuffix(strings.TrimSpace(function), "()")
	if ok && labtest.SameVerdict(said, labtest.Verdict(c)) && function == by.Name {
		return
	}
	f := labtest.Failure{
		Got:      fmt.Sprintf("%s=%s", key, labtest.Short(got)),
		Expected: fmt.Sprintf("%s=%s FUNCTION: so the kernel answered, and which function said so", key, labtest.Verdict(c)),
		Likely:   fmt.Sprintf("%s= is about %s", key, what),
		Trace:    events(c),
	}
	switch {
	case !ok:
		f.Got = fmt.Sprintf("the program printed no line %s=...", key)
	case !labtest.SameVerdict(said, labtest.Verdict(c)):
	case !two:
		f.Got += ", and no function"
		f.Likely = "the picture in the README has the functions through which a message goes"
	default:
		entered := k.run.Trace.Calls(function)
		entered = slices.DeleteFunc(entered, func(x trace.Call) bool { return !trace.Inside(x.Entry, c) && x.Entry.Seq != c.Entry.Seq })
		f.Expected = "the function that returned " + labtest.Verdict(c)
		f.Trace = append(f.Trace, by.Entry, by.Return)
		switch {
		case function == trace.Sendmsg:
			f.Likely = "netlink_sendmsg has only passed on what a function that it called had returned. How far did the message come?"
		case len(entered) == 0:
			f.Likely = fmt.Sprintf("the message did not come as far as %s: it was refused before", labtest.Short(function))
		default:
			f.Likely = "this function was entered, and did not complain"
		}
	}
	s.Fail(f)
}

// sizes: the largest message that a socket sends, and one byte more.
func (k *course) sizes(s *labtest.Step, sends trace.Calls, size int64) {
	length := func(c trace.Call) int64 { return c.Entry.Int("len") }
	tooLarge := sends.Failed(unix.EMSGSIZE)
	var refused trace.Call
	for _, c := range tooLarge {
		if !refused.Seen() || length(c) < length(refused) {
			refused = c
		}
	}
	// Refused for another reason, which a program may take for this one.
	full := func(on *trace.Socket) trace.Call {
		c := sends.Failed(unix.EAGAIN).Last()
		if on != nil {
			c = sends.Failed(unix.EAGAIN).On(on).Last()
		}
		return c
	}
	const drain = "EAGAIN is said of the receiver's queue: there was no room in it for one more. The size of a message is another matter (EMSGSIZE). Have the receiver read what was sent, each time"
	if c := full(nil); c.Seen() && !refused.Seen() {
		s.Fail(labtest.Failure{
			Got:      fmt.Sprintf("no message was too large; one of %d bytes was refused for a queue that was full: EAGAIN", length(c)),
			Expected: "larger=: a message that is larger than the socket's send buffer lets through",
			Likely:   drain,
			Trace:    events(sends.OK().Before(c.Entry).Last(), c),
		})
	}
	s.Expect(refused.Seen(), labtest.Failure{
		Got:      "no message was too large",
		Expected: "larger=: a message that is larger than the socket's send buffer lets through",
		Likely:   "SO_SNDBUF makes the send buffer small; getsockopt tells what it really is now. socket(7) knows why the two differ",
	})
	for _, c := range sends.On(refused.Socket).OK() {
		if !k.largest.Seen() || length(c) > length(k.largest) {
			k.largest = c
		}
	}
	f := labtest.Failure{
		Got:      fmt.Sprintf("%d bytes were refused, and nothing smaller was sent", length(refused)),
		Expected: "two messages from one socket, with one byte between them: the larger one is refused, the other one is not",
		Likely:   "the limit is near what getsockopt says about SO_SNDBUF, which is not what was asked for; near, and not equal",
		Trace:    events(refused),
	}
	if k.largest.Seen() {
		f.Got = fmt.Sprintf("%d bytes were sent, and %d were refused: what about those between?", length(k.largest), length(refused))
		f.Trace = append(events(k.largest), events(refused)...)
	}
	if c := full(refused.Socket); c.Seen() && length(c) < length(refused) {
		f.Got += fmt.Sprintf(" One of %d bytes was refused for a queue that was full: EAGAIN", length(c))
		f.Likely = drain
		f.Trace = append(f.Trace, events(c)...)
	}
	s.Expect(k.largest.Seen() && length(k.largest)+1 == length(refused), f)
	k.buffer = 2 * size
	s.Expect(k.buffer-length(k.largest) < 1000 && length(k.largest) <= k.buffer, labtest.Failure{
		Got:      fmt.Sprintf("%d bytes were the largest message", length(k.largest)),
		Expected: fmt.Sprintf("that of a socket for which SO_SNDBUF was set to %d, as the program was told", size),
		Likely:   "setsockopt comes before the sends, on the socket that sends",
		Trace:    events(k.largest, refused),
	})
	k.refusedBy(s, "larger", "a message of one byte more than the largest", refused)
	s.Reported(k.run, "largest", strconv.FormatInt(length(k.largest), 10), labtest.Failure{
		Likely: "largest= is how many bytes the largest message had that was sent",
		Trace:  events(k.largest),
	})
}

// experiment: a socket that is connected to a neighbour reads somebody else's message.
func (k *course) experiment(s *labtest.Step) {
	k.start("experiment")
	for _, read := range k.reads() {
		link := k.peer(read.Socket, read.Took)
		neighbour := k.holder(read.Socket, destination(link), link.Return)
		if neighbour == nil || read.Sender == nil || read.Sender == neighbour || read.Sender == read.Socket {
			continue
		}
		k.told(s, "read", k.text, read, "read= is the text as the connected socket has read it")
		k.sender(s, "by", read)
		k.c.Note("%s", k.how(link, neighbour, read))
		k.ended(s)
		return
	}
	s.Fail(k.whyNoStranger())
}

// how says in which way a stranger's message came into the socket's hands.
func (k *course) how(link trace.Call, neighbour *trace.Socket, read trace.Call) string {
	sent := k.run.Trace.Calls(trace.Sendmsg).On(read.Sender).OK().Before(read.Took).Last()
	switch {
	case read.Took.Uint("group") != 0:
		return "the stranger's message was a multicast"
	case read.Sender.Port == neighbour.Port:
		return fmt.Sprintf("the neighbour had gone, and the stranger had port %d", neighbour.Port)
	case trace.Before(sent.Entry, link.Return):
		return "the stranger's message was in the queue before the socket was connected"
	}
	return "the stranger's message came while the socket was connected"
}

// whyNoStranger says why no connected socket read a stranger's message.
func (k *course) whyNoStranger() labtest.Failure {
	f := labtest.Failure{
		Got:      "no socket was connected to another",
		Expected: "a connect to a neighbour that is there, and then a read that takes a message of somebody else",
		Likely:   "the sequence is: a connect, and later a read on the same socket",
	}
	link := k.run.Trace.Calls(trace.Connect).OK().Last()
	if !link.Seen() {
		return f
	}
	own := link.Socket
	f.Trace = events(link)
	refused := k.run.Trace.Calls(trace.Sendmsg).To(own.Port).Failed(unix.ECONNREFUSED).After(link.Return).Last()
	read := k.run.Reads(own).Last()
	f.Trace = append(f.Trace, read.Took, read.Return)
	neighbour := k.holder(own, destination(link), link.Return)
	switch {
	case neighbour == nil:
		f.Got = fmt.Sprintf("the socket was connected to port %d, which nobody had", destination(link))
		f.Likely = "without a neighbour everybody is a stranger: somebody has to have the port at the connect"
	case read.Seen() && trace.Before(read.Took, link.Return):
		f.Got = "the message was read before the socket was connected"
		f.Likely = "before the connect everybody is welcome. When is it decided who is, and when is it read?"
	case read.Seen() && read.Sender == own:
		f.Got = "the socket read a message of its own"
		f.Likely = "that is nobody's but its own. A third socket has to have sent it"
	case read.Seen() && read.Sender == neighbour:
		f.Got = fmt.Sprintf("the socket was connected to port %d, and read what that one had sent", neighbour.Port)
		f.Likely = "whoever a socket is connected to is its neighbour, and no stranger. Who else could have sent something, and when?"
	case refused.Seen():
		f.Got = "the stranger was refused: ECONNREFUSED, as in step 3"
		f.Likely = "who is welcome is asked when a message is sent, and by number. What can be different before, and what afterwards?"
		f.Trace = append(f.Trace, events(refused)...)
	default:
		f.Got = "the connected socket read nothing of a stranger's"
	}
	return f
}

// answer tells what the kernel did about the predictions.
func (k *course) answer() {
	verdict := labtest.Verdict
	if k.talked.Seen() && k.plain.Seen() {
		option := 1
		switch ok := k.talked.Err() == nil; {
		case ok && k.plain.Err() == nil:
			option = 0
		case ok:
			option = 2
		}
		k.c.Answer("protocol", option, fmt.Sprintf("netlink_sendmsg returned %s on NETLINK_USERSOCK, and %s on protocol %d", verdict(k.talked), verdict(k.plain), labtest.EchoProtocol))
	}
	if k.netns.Seen() {
		option := 0
		switch {
		case k.userns.Err() == nil:
			option = 1
		case k.netns.Err() == nil:
			option = 2
		}
		k.c.Answer("root", option, fmt.Sprintf("netlink_sendmsg returned %s to root of a new user namespace, and %s where the network namespace was new, too", verdict(k.userns), verdict(k.netns)))
	}
	if k.stranger.Seen() {
		option := 2
		if k.stranger.Err() == nil {
			option = 0
		}
		k.c.Answer("connected", option, fmt.Sprintf("%s returned %s to the stranger", k.by(k.stranger), verdict(k.stranger)))
	}
	if k.largest.Seen() {
		length := k.largest.Entry.Int("len")
		option := slices.Index([]int64{0, 16, 32}, k.buffer-length)
		if option >= 0 {
			k.c.Answer("largest", option, fmt.Sprintf("with a send buffer of %d bytes, %d were sent, and one more was EMSGSIZE", k.buffer, length))
		}
	}
}

// by names the function that refused a call.
func (k *course) by(c trace.Call) string {
	if name := k.run.Trace.RefusedBy(c).Name; name != "" {
		return name
	}
	return "netlink_sendmsg"
}
