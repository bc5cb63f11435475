// SPDX-License-Identifier: MIT

// Fails: step 3: "nobody but the neighbour sent to the connected socket"
// The stranger sends to the neighbour, who is not connected to anybody: ok.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const echo = 25 // the Netlink protocol of the module nlecho

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "neighbours:", err)
		os.Exit(1)
	}
}

// run does what the arguments say: one step, or, without any, all of them. The last
// two are for the program itself, when it starts itself once more.
func run(args []string) error {
	if len(args) == 0 {
		const text = "Hello, neighbour!"
		return errors.Join(talk(text), forbidden(text), connected(text), refused(10000), experiment(text))
	}
	rest := args[1:]
	switch args[0] {
	case "neighbour":
		return neighbour(rest)
	case "elsewhere":
		return elsewhere(rest)
	}
	if len(rest) == 1 {
		switch args[0] {
		case "talk":
			return talk(rest[0])
		case "forbidden":
			return forbidden(rest[0])
		case "connected":
			return connected(rest[0])
		case "refused":
			size, err := strconv.Atoi(rest[0])
			if err != nil {
				return fmt.Errorf("refused BYTES: %w", err)
			}
			return refused(size)
		case "experiment":
			return experiment(rest[0])
		}
	}
	return errors.New("usage: program [talk|forbidden|connected|experiment TEXT, or refused BYTES]")
}

// verdict is what the kernel said: "ok", or the name of the error.
func verdict(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// socket is a Netlink socket with the number that the kernel has chosen for it.
type socket struct {
	fd   int
	port uint32
}

// open makes a socket of a protocol.
func open(protocol int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("opening a Netlink socket for protocol %d: %w", protocol, err)
	}
	s := &socket{fd: fd}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		s.close()
		return nil, fmt.Errorf("binding: %w", err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("asking for the port ID: %w", err)
	}
	s.port = address.(*unix.SockaddrNetlink).Pid // of no other type, for a Netlink socket
	return s, nil
}

// openAll makes so many sockets of a protocol. close closes them.
func openAll(protocol, n int) (sockets []*socket, close func(), err error) {
	close = func() {
		for _, s := range sockets {
			s.close()
		}
	}
	for range n {
		s, err := open(protocol)
		if err != nil {
			close()
			return nil, nil, err
		}
		sockets = append(sockets, s)
	}
	return sockets, close, nil
}

func (s *socket) close() { unix.Close(s.fd) }

// address is that of a port, be it the kernel's, 0.
func address(port uint32) unix.Sockaddr {
	return &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port}
}

// send sends a text to a port. It has no header: between programs nobody asks for
// one, and the kernel does not look.
func (s *socket) send(text string, to uint32) error {
	return unix.Sendto(s.fd, []byte(text), 0, address(to))
}

// receive waits for a text, and returns it with its sender's port ID.
func (s *socket) receive() (text string, from uint32, err error) {
	buf := make([]byte, 4096)
	n, sender, err := unix.Recvfrom(s.fd, buf, 0)
	if err != nil {
		return "", 0, fmt.Errorf("receiving: %w", err)
	}
	return string(buf[:n]), sender.(*unix.SockaddrNetlink).Pid, nil
}

// again is this program once more, as another process, in new namespaces of the
// kinds given; in a new user namespace it is root.
func again(namespaces uintptr, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if namespaces&unix.CLONE_NEWUSER != 0 {
		// Whoever has no user there is nobody, and keeps no right when a file is executed.
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// talk makes two processes talk: one sends the text, the other gets it and answers
// with the same text in capital letters. The one prints answer= and answer_from=,
// the other got= and from=.
//
// Seen when it is right: a socket of one process sends to the port of another
// process's, on NETLINK_USERSOCK, and gets an answer from there.
func talk(text string) error {
	own, err := open(unix.NETLINK_USERSOCK)
	if err != nil {
		return err
	}
	defer own.close()
	// The other one is told the port, and begins. So nobody sends to a port that
	// nobody has yet, and the port of the other is in the address of what it sends.
	other := again(0, "neighbour", fmt.Sprint(own.port), text)
	if err := other.Start(); err != nil {
		return fmt.Errorf("starting the neighbour: %w", err)
	}
	got, from, err := own.receive()
	if err != nil {
		return err
	}
	fmt.Printf("got=%s\nfrom=%d\n", got, int32(from))
	if err := own.send(strings.ToUpper(got), from); err != nil {
		return fmt.Errorf("answering port %d: %w", int32(from), err)
	}
	return other.Wait()
}

// neighbour is the second process, if the first one has started it as this program
// with the argument "neighbour". args are those behind it: it is up to you what they
// say, and who begins.
//
// Seen when it is right: as for talk.
func neighbour(args []string) error {
	port, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return err
	}
	own, err := open(unix.NETLINK_USERSOCK)
	if err != nil {
		return err
	}
	defer own.close()
	if err := own.send(args[1], uint32(port)); err != nil {
		return fmt.Errorf("sending to port %d: %w", int32(port), err)
	}
	answer, from, err := own.receive()
	if err != nil {
		return err
	}
	fmt.Printf("answer=%s\nanswer_from=%d\n", answer, int32(from))
	return nil
}

// forbidden sends the text from one socket of nlecho's protocol to the port of
// another, three times: as the user that the program is; as root of a new user
// namespace; and as root of a new user namespace in a new network namespace. It
// prints plain=, userns= and netns=, what the kernel said to each send, and
// heard=, the text that was read.
//
// Seen when it is right: three sends on protocol 25 to a port that somebody has. One
// of them is read.
func forbidden(text string) error {
	return errors.Join(
		ask("plain", text),
		again(unix.CLONE_NEWUSER, "elsewhere", "userns", text).Run(),
		again(unix.CLONE_NEWUSER|unix.CLONE_NEWNET, "elsewhere", "netns", text).Run())
}

// elsewhere is what runs in new namespaces, if they were given to this program with
// the argument "elsewhere". args are those behind it.
//
// Seen when it is right: as for forbidden.
func elsewhere(args []string) error {
	return ask(args[0], args[1])
}

// ask sends a text from one socket to another, and reports what the kernel said.
func ask(key, text string) error {
	s, close, err := openAll(echo, 2)
	if err != nil {
		return err
	}
	defer close()
	said := s[0].send(text, s[1].port)
	fmt.Printf("%s=%s\n", key, verdict(said))
	if said != nil {
		return nil
	}
	heard, _, err := s[1].receive()
	if err != nil {
		return err
	}
	fmt.Printf("heard=%s\n", heard)
	return nil
}

// connected connects a socket to a neighbour, and sends the text without an address.
// Then the neighbour sends to the socket, and a stranger does. It prints
// default=, the text that the neighbour has read, and neighbour= and stranger=, what
// the kernel said to the two.
//
// Seen when it is right: on NETLINK_USERSOCK, a connect; a send without an address,
// which the neighbour reads; a send that is accepted, and one that is not, to the port
// of the connected socket.
func connected(text string) error {
	s, close, err := openAll(unix.NETLINK_USERSOCK, 3)
	if err != nil {
		return err
	}
	defer close()
	own, neighbour, stranger := s[0], s[1], s[2]
	if err := unix.Connect(own.fd, address(neighbour.port)); err != nil {
		return fmt.Errorf("connecting to port %d: %w", int32(neighbour.port), err)
	}
	if _, err := unix.Write(own.fd, []byte(text)); err != nil {
		return fmt.Errorf("sending without an address: %w", err)
	}
	got, _, err := neighbour.receive()
	if err != nil {
		return err
	}
	fmt.Printf("default=%s\n", got)
	fmt.Printf("neighbour=%s\n", verdict(neighbour.send(text, own.port)))
	fmt.Printf("stranger=%s\n", verdict(stranger.send(text, neighbour.port)))
	return nil
}

// refused provokes each way in which a send can fail, and prints for each what the
// kernel said, and after a space the function of the kernel that said so. size is
// what SO_SNDBUF is to be set to for the last two lines.
//
// Seen when it is right: the situations of the text's table, each with a send.
func refused(size int) error {
	s, close, err := openAll(unix.NETLINK_USERSOCK, 2)
	if err != nil {
		return err
	}
	defer close()
	own, neighbour := s[0], address(s[1].port)
	gone, err := open(unix.NETLINK_USERSOCK)
	if err != nil {
		return err
	}
	gone.close()

	if err := unix.SetsockoptInt(own.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size); err != nil {
		return fmt.Errorf("setting SO_SNDBUF: %w", err)
	}
	buffer, err := unix.GetsockoptInt(own.fd, unix.SOL_SOCKET, unix.SO_SNDBUF) // twice the size
	if err != nil {
		return fmt.Errorf("reading SO_SNDBUF: %w", err)
	}
	largest := make([]byte, buffer-32)
	if err := unix.Sendto(own.fd, largest, 0, neighbour); err != nil {
		return fmt.Errorf("sending %d bytes: %w", len(largest), err)
	}
	fmt.Printf("largest=%d\n", len(largest))

	text := []byte("hello")
	const core, lookup, ancillary = "netlink_sendmsg", "netlink_unicast", "__scm_send"
	for _, row := range []struct {
		key  string
		err  error
		from string
	}{
		{"larger", unix.Sendto(own.fd, append(largest, 0), 0, neighbour), core},
		{"oob", unix.Sendto(own.fd, text, unix.MSG_OOB, neighbour), core},
		{"empty", unix.Sendto(own.fd, nil, 0, neighbour), core},
		{"family", unix.Sendto(own.fd, text, 0, &unix.SockaddrInet4{}), core},
		{"descriptor", unix.Sendmsg(own.fd, text, unix.UnixRights(own.fd), neighbour, 0), ancillary},
		{"nobody", own.send("hello", gone.port), lookup},
		{"kernel", own.send("hello", 0), lookup},
	} {
		fmt.Printf("%s=%s %s\n", row.key, verdict(row.err), row.from)
	}
	return nil
}

// experiment brings about that a socket which is connected to a neighbour reads a
// message, the text, from somebody else. It prints read=, the text, and by=, the port ID in
// the sender's address.
//
// Seen when it is right: after its connect, a socket reads a message that neither
// the neighbour nor the socket itself has sent.
func experiment(text string) error {
	s, close, err := openAll(unix.NETLINK_USERSOCK, 3)
	if err != nil {
		return err
	}
	defer close()
	own, neighbour, stranger := s[0], s[1], s[2]
	// Whether a message is welcome is asked when it is sent. What is in the queue is
	// in the queue.
	if err := stranger.send(text, own.port); err != nil {
		return fmt.Errorf("sending to port %d: %w", int32(own.port), err)
	}
	if err := unix.Connect(own.fd, address(neighbour.port)); err != nil {
		return fmt.Errorf("connecting to port %d: %w", int32(neighbour.port), err)
	}
	read, by, err := own.receive()
	if err != nil {
		return err
	}
	fmt.Printf("read=%s\nby=%d\n", read, int32(by))
	return nil
}
