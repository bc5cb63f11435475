// SPDX-License-Identifier: MIT

package modtest

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Socket is a Netlink socket that talks to a module.
type Socket struct {
	FD   int // -1 when it is closed
	Port uint32
}

// Open opens a socket of the protocol at a port, 0 being any, that joins these
// groups, a mask. Whoever reads from it waits no longer than Patience.
func Open(protocol int, port, groups uint32) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("socket(AF_NETLINK, SOCK_RAW, %d): %w", protocol, err)
	}
	s := &Socket{FD: fd}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port, Groups: groups}); err != nil {
		s.Close()
		return nil, fmt.Errorf("bind: %w", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("getsockname: %w", err)
	}
	s.Port = sa.(*unix.SockaddrNetlink).Pid
	tv := unix.NsecToTimeval(Patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		s.Close()
		return nil, fmt.Errorf("set SO_RCVTIMEO: %w", err)
	}
	return s, nil
}

// Close closes it, once.
func (s *Socket) Close() {
	if s.FD >= 0 {
		unix.Close(s.FD)
		s.FD = -1
	}
}

// Send sends a datagram to the kernel. It returns when the input callback has.
func (s *Socket) Send(datagram []byte) error {
	return unix.Sendto(s.FD, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// MustSend is Send for a datagram that the kernel must take.
func (s *Socket) MustSend(t *testing.T, datagram []byte) {
	t.Helper()
	if err := s.Send(datagram); err != nil {
		t.Fatalf("sendto of %d bytes from port %d: %v", len(datagram), s.Port, err)
	}
}

// Recv takes a datagram of the kernel's out of the queue, and returns the groups by
// which it came, a mask, 0 for a unicast.
func (s *Socket) Recv(flags int) ([]byte, uint32, error) {
	buf := make([]byte, 8192) // the modules' messages have 1040 bytes
	for {
		n, from, err := unix.Recvfrom(s.FD, buf, flags)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		nl, ok := from.(*unix.SockaddrNetlink)
		if !ok || nl.Pid != 0 {
			return nil, 0, fmt.Errorf("the message comes from %+v, want port 0", from)
		}
		return buf[:n], nl.Groups, nil
	}
}

// Empty checks that nothing is queued.
func (s *Socket) Empty(t *testing.T) {
	t.Helper()
	got, _, err := s.Recv(unix.MSG_DONTWAIT)
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("port %d: recvfrom gives %d bytes, %v; want an empty queue", s.Port, len(got), err)
	}
}
