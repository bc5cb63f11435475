// SPDX-License-Identifier: GPL-2.0-only

package nlbugs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestB1: the reply's text is a literal, and the kernel dies of writing to it.
func TestB1(t *testing.T) {
	kills(t)
	load(t, "bugs=B1")
	t.Fatal("the kernel lives: ", open(t).send(message(0, nil)))
}

// TestB2: what is behind the reply's text is memory as it was found.
func TestB2(t *testing.T) {
	guest(t)
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	zeroed := !strings.Contains(string(cmdline), "init_on_alloc=0")
	secret := bytes.Repeat([]byte("secret "), payload/7+1)[:payload]
	// The largest number of bytes beyond the text that are not 0, and of those
	// that are the other socket's.
	leak := func(params string) (dirty, others int) {
		load(t, params+" replies=1")
		other, mine := open(t), open(t)
		// Memory that is free now is what replies are made of next.
		for range 64 {
			other.mustSend(t, message(0, secret))
			mine.mustSend(t, message(0, nil))
			reply, err := mine.recv()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = other.recv()
			rest := reply[unix.NLMSG_HDRLEN+len("I am from kernel!"):]
			n := len(rest) - bytes.Count(rest, []byte{0})
			dirty = max(dirty, n)
			others = max(others, bytes.Count(rest, []byte("secret"))*len("secret"))
		}
		return dirty, others
	}
	dirty, others := leak("bugs=B2")
	if zeroed {
		say("this kernel zeroes memory when it gives it out: nothing is seen")
		if dirty != 0 {
			t.Errorf("%d bytes behind the text are not 0", dirty)
		}
	} else {
		say("of the 1006 bytes behind the text up to %d are not 0", dirty)
		say("among them what another socket had sent: %t", others > 0)
		if dirty == 0 || others == 0 {
			t.Errorf("%d bytes behind the text are not 0, %d of another socket: want some", dirty, others)
		}
	}
	dirty, _ = leak("bugs=none")
	say("without B2: %d", dirty)
	if dirty != 0 {
		t.Errorf("without the bug %d bytes are not 0", dirty)
	}
}

// TestB3: the reply goes where the sender's header says.
func TestB3(t *testing.T) {
	for _, bugs := range []string{"B3", "none"} {
		load(t, "bugs="+bugs)
		a, b := open(t), open(t)
		a.mustSend(t, message(b.port, nil))
		atA, _ := a.count()
		atB, _ := b.count()
		say("bugs=%-4s a message with another socket's port ID in nlmsg_pid:", bugs)
		say("          %d replies to its sender, %d to the other", atA, atB)
		if wrong := bugs == "B3"; wrong != (atB == 10) || wrong != (atA == 0) {
			t.Errorf("bugs=%s: %d replies to the sender, %d to the other", bugs, atA, atB)
		}
	}
}

// TestB3Port0: and where that is port 0, the kernel's own, the callback calls itself
// until the stack ends. Anybody can do it.
func TestB3Port0(t *testing.T) {
	kills(t)
	load(t, "bugs=B3+B12")
	t.Fatal("the kernel lives: ", asNobody(func() error {
		s, err := tryOpen(0)
		if err != nil {
			return err
		}
		return s.send(message(0, nil))
	}))
}

// TestB4: 100 bytes are copied and printed, however many there are.
func TestB4(t *testing.T) {
	for _, bugs := range []string{"B4", "none"} {
		load(t, "replies=0 bugs="+bugs)
		log := openLog(t)
		open(t).mustSend(t, message(0, bytes.Repeat([]byte("x"), 200)))
		_, text, _ := strings.Cut(log.line(t, "message: "), "message: ")
		n := strings.Count(text, "x")
		say("bugs=%-4s the log has %d times x, then %q", bugs, n, strings.TrimLeft(text, "x"))
		if over := strings.Contains(text, "(this is behind the buffer)"); n != 100 || over != (bugs == "B4") {
			t.Errorf("bugs=%s logs %q", bugs, text)
		}
	}
}

// TestB5: only the datagram's length is looked at, not what its header says.
func TestB5(t *testing.T) {
	two := append(message(0, []byte("one!")), message(0, []byte("two!"))...)
	for _, tt := range []struct {
		bugs, what string
		datagram   []byte
		want       int
	}{
		{"B5", "16 bytes that claim to be 1040", header(1040, 0, nil), 10},
		{"none", "the same", header(1040, 0, nil), 0},
		{"B5", "16 bytes that claim to be 3", header(3, 0, nil), 10},
		{"none", "the same", header(3, 0, nil), 0},
		{"B5", "two messages in a datagram", two, 10},
		{"none", "the same", two, 20},
	} {
		load(t, "bugs="+tt.bugs)
		s := open(t)
		s.mustSend(t, tt.datagram)
		got, _ := s.count()
		say("bugs=%-4s %-30s  %2d replies", tt.bugs, tt.what, got)
		if got != tt.want {
			t.Errorf("bugs=%s, %s: %d replies, want %d", tt.bugs, tt.what, got, tt.want)
		}
	}
}

// TestB6: a datagram shorter than a header is never freed.
func TestB6(t *testing.T) {
	kills(t)
	load(t, "bugs=B6")
	log := openLog(t)
	open(t).mustSend(t, make([]byte, 8))
	unload(t)
	log.line(t, "WARNING:") // which lab exec shows
}

// TestB7: the failed allocation is told, and then used all the same.
func TestB7(t *testing.T) {
	kills(t)
	load(t, "bugs=B7")
	t.Fatal("the kernel lives: ", open(t).send(message(0, nil)))
}

// TestB8: what netlink_unicast returns is not looked at.
func TestB8(t *testing.T) {
	for _, bugs := range []string{"B8", "none"} {
		load(t, "replies=1000 bugs="+bugs)
		s := open(t)
		s.mustSend(t, message(0, nil))
		sent := param(t, "sent")
		got, lost := s.count()
		say("bugs=%-4s the module believes that it sent %d replies", bugs, sent)
		say("          there are %d, after the error %q", got, lost)
		if !errors.Is(lost, unix.ENOBUFS) || got >= 1000 || got == 0 {
			t.Errorf("%d replies and %v, want some lost, and ENOBUFS", got, lost)
		}
		if want := map[string]int{"B8": 1000, "none": got}[bugs]; sent != want {
			t.Errorf("bugs=%s: sent=%d, want %d", bugs, sent, want)
		}
	}
	load(t, "bugs=B3+B8")
	s, gone := open(t), open(t)
	gone.close()
	s.mustSend(t, message(gone.port, nil))
	say("to a port ID that nobody has: it believes that it sent %d", param(t, "sent"))
	if sent := param(t, "sent"); sent != 10 {
		t.Errorf("sent=%d, want 10", sent)
	}
}

// TestB9: the callback sleeps, so its caller cannot even be killed.
func TestB9(t *testing.T) {
	load(t, "bugs=B9 delay_ms=100 replies=20")
	var children []*exec.Cmd
	for range 2 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), childVariable+"=1")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, c)
	}
	until(t, "two callbacks are under way", func() bool { return param(t, "inside") == 2 })
	say("two clients: %d callbacks are under way at once", 2)

	pid := children[0].Process.Pid
	status := func(key string) string {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, rest, _ := strings.Cut(string(b), "\n"+key+":\t")
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}
	pending := func() bool {
		for _, key := range []string{"SigPnd", "ShdPnd"} {
			if n, err := strconv.ParseUint(status(key), 16, 64); err == nil && n>>(unix.SIGKILL-1)&1 == 1 {
				return true
			}
		}
		return false
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	before := param(t, "sent")
	until(t, "the killed client is in state D", func() bool { return pending() && strings.HasPrefix(status("State"), "D") })
	say("one was sent SIGKILL: its state is %s, the signal is pending", status("State"))
	_ = children[0].Wait()
	if ws := children[0].ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != unix.SIGKILL {
		t.Errorf("it ended with %v, want SIGKILL", children[0].ProcessState)
	}
	if err := children[1].Wait(); err != nil {
		t.Errorf("the other client: %v", err)
	}
	// All of its own: the other's go to somebody who has not read, but has room.
	after := param(t, "sent")
	say("it died when the callback was over: all %d replies were made", after)
	if before >= after || after != 40 {
		t.Errorf("%d replies when it was killed, %d at the end, want 40", before, after)
	}
}

// TestB10: init returns 1 where it should fail, and the module stays.
func TestB10(t *testing.T) {
	guest(t)
	log := openLog(t)
	if err := tryLoad(t, "bugs=B10 protocol=0"); err != nil {
		t.Fatalf("loading fails: %v", err)
	}
	say("protocol 0 is taken, but insmod succeeds. In the log:")
	first, second, _ := strings.Cut(log.line(t, "suspiciously returned"), `\x0a`)
	for words := range strings.SplitSeq(first, ", ") {
		say("%s", words)
	}
	if second != "" { // newer kernels say no more
		say("%s", second)
	}
	if _, err := tryOpen(0); !errors.Is(err, unix.EPROTONOSUPPORT) {
		t.Errorf("a socket of protocol 25: %v, want EPROTONOSUPPORT", err)
	} else {
		say("a socket of protocol 25: %v", err)
	}
	err := tryLoad(t, "bugs=none protocol=0")
	say("without B10 insmod says: %v", err)
	if !errors.Is(err, unix.ENOMEM) {
		t.Errorf("loading without the bug: %v, want ENOMEM", err)
	}
}

// TestB11: the module is in the first network namespace only.
func TestB11(t *testing.T) {
	load(t, "")
	err := thread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
		}
		s, err := tryOpen(0)
		if err != nil {
			t.Errorf("in another network namespace: %v", err)
			return err
		}
		defer s.close()
		return s.send(message(0, nil))
	})
	say("in another network namespace socket and bind succeed")
	say("sendto: %v", err)
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("sendto: %v, want ECONNREFUSED", err)
	}
}

// TestB12: nobody is asked what they may do.
func TestB12(t *testing.T) {
	for _, bugs := range []string{"B12", "none"} {
		load(t, "bugs="+bugs)
		got := 0
		err := asNobody(func() error {
			s, err := tryOpen(0)
			if err != nil {
				return err
			}
			defer s.close()
			if err := s.send(message(0, nil)); err != nil {
				return err
			}
			got, _ = s.count()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		say("bugs=%-4s the user nobody gets %2d replies", bugs, got)
		if want := map[string]int{"B12": 10, "none": 0}[bugs]; got != want {
			t.Errorf("bugs=%s: %d replies, want %d", bugs, got, want)
		}
	}
}

// TestB15: nlmsg_len with the padding in it, and a datagram without.
func TestB15(t *testing.T) {
	load(t, "")
	s := open(t)
	for _, n := range []int{1024, 1021} {
		length, space := unix.NLMSG_HDRLEN+n, unix.NLMSG_HDRLEN+(n+3)&^3
		s.mustSend(t, header(space, 0, make([]byte, n)))
		got, _ := s.count()
		say("payload %d: %d bytes sent, nlmsg_len=%d: %2d replies", n, length, space, got)
		if want := map[int]int{1024: 10, 1021: 0}[n]; got != want {
			t.Errorf("payload %d: %d replies, want %d", n, got, want)
		}
	}
}
