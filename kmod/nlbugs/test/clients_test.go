// SPDX-License-Identifier: GPL-2.0-only

package nlbugs_test

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// client is one of the articles' programs under way.
type client struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner // what it prints, errors and all
}

// start starts a client, client1 or client2, which the host has built into the
// working folder: bin/lab bug does that.
func start(t *testing.T, name string, env []string, flags uintptr) *client {
	t.Helper()
	guest(t)
	if _, err := os.Stat(name); err != nil {
		t.Skip("the clients are not here: bin/lab bug B14 builds them, if there is gcc")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("./" + name)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	c := &client{cmd, bufio.NewScanner(r)}
	t.Cleanup(func() { c.end(); r.Close() })
	return c
}

// end kills a client: most wait for ever. Killing it twice does no harm.
func (c *client) end() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// until returns the lines up to the first with these words. The last line is the
// one where the output ended.
func (c *client) until(t *testing.T, words string) []string {
	t.Helper()
	var lines []string
	for c.lines.Scan() {
		lines = append(lines, c.lines.Text())
		if strings.Contains(c.lines.Text(), words) {
			return lines
		}
	}
	t.Fatalf("it never printed %q, but:\n%s", words, strings.Join(lines, "\n"))
	return nil
}

// show says what a client prints.
func show(lines ...string) {
	for _, l := range lines {
		say("%s", l)
	}
}

// TestB14: the message goes out with what malloc left in it.
func TestB14(t *testing.T) {
	load(t, "replies=1")
	log := openLog(t)
	// With this glibc fills what it gives out, so that it is seen.
	c := start(t, "client1", []string{"MALLOC_PERTURB_=1"}, 0)
	c.until(t, "Received message")
	_, text, _ := strings.Cut(log.line(t, "message: "), "message: ")
	text = strings.ReplaceAll(text, `\376`, `\xfe`) // depends on the kernel
	say("the kernel got: %.47s...", text)
	if !strings.HasPrefix(text, `Hello you!\0\xfe\xfe`) {
		t.Errorf("the kernel got %q, want memory as malloc gives it", text)
	}
}

// TestB16: the client believes everybody.
func TestB16(t *testing.T) {
	load(t, "replies=1")
	c := start(t, "client1", nil, 0)
	show(c.until(t, "Received message: I am from kernel!")...)
	s := open(t)
	err := unix.Sendto(s.fd, message(0, []byte("I am from a process!\x00")), 0,
		&unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 100})
	if err != nil {
		t.Fatal(err)
	}
	show(c.until(t, "I am from a process!")...)
}

// TestB17: where the message is refused, client 2 does not notice.
func TestB17(t *testing.T) {
	load(t, "") // in the first network namespace only, see B11
	for _, tt := range []struct{ name, last string }{
		{"client1", "sendmsg: Connection refused"},
		{"client2", "waiting received!"},
	} {
		c := start(t, tt.name, nil, unix.CLONE_NEWNET)
		lines := c.until(t, "waiting received!")
		say("%s in another network namespace:", tt.name)
		show(lines...)
		if told := strings.Contains(strings.Join(lines, "\n"), "refused"); told != (tt.name == "client1") {
			t.Errorf("%s prints %q", tt.name, lines)
		}
		c.end()
	}
}

// TestB18: after an error the client prints what is in the buffer: its own message.
func TestB18(t *testing.T) {
	load(t, "replies=1000")
	c := start(t, "client1", nil, 0)
	lines := append(c.until(t, "recvmsg: No buffer space available"), c.until(t, "Received message")...)
	show(lines...)
	if last := lines[len(lines)-1]; last != "Received message: Hello you!" {
		t.Errorf("after the error it prints %q, want its own greeting", last)
	}
}

// TestB19: a second client has no port.
func TestB19(t *testing.T) {
	load(t, "replies=1")
	first := start(t, "client1", nil, 0)
	first.until(t, "Received message")
	for _, name := range []string{"client1", "client2"} {
		lines := start(t, name, nil, 0).until(t, "bind")
		say("while client1 runs, %s: %s", name, lines[len(lines)-1])
		if got := lines[len(lines)-1]; got != "bind: Address already in use" {
			t.Errorf("%s prints %q", name, got)
		}
	}
}
