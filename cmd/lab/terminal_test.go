// SPDX-License-Identifier: MIT

package main_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// wait waits for a command's end and for all that it printed, and returns its exit code.
func wait(t *testing.T, cmd *exec.Cmd, term *terminal) int {
	t.Helper()
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-ended:
		term.drain(t)
		return cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		t.Fatalf("it does not end; the terminal shows %q", term)
		return 0
	}
}

func settings(t *testing.T, term *terminal) *unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(term.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestShell(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	term := newTerminal(t)
	before := settings(t, term)
	cmd := d.command(t.Context(), "shell")
	term.start(t, cmd)
	term.expect(t, "A throw-away VM. nlecho is loaded")
	const prompt = "vm:~# "
	term.expect(t, prompt)
	for _, c := range []struct{ keys, shows string }{
		{"echo $((6*7)) $USER$(id -u)\n", "\r\n42 0\r\n"},
		{"stty size\n", "\r\n30 100\r\n"},
		{"cat /sys/module/nlecho/parameters/replies\n", "\r\n10\r\n"},
		{"ip -o link show lo | cut -c1-6\n", "\r\n1: lo:\r\n"},
		{"ss -f netlink | head -n 1 | cut -c1-6\n", "\r\nRecv-Q\r\n"},
		{"strace -qq -e trace=socket ip link 2>&1 | grep -o AF_NETLINK | head -n 1\n", "\r\nAF_NETLINK\r\n"},
		// One process prints and sleeps: what it prints shows that the terminal is its own
		// already. Ctrl-C between two commands would be the shell's, and lost.
		{"sh -c 'echo $((20+1)); exec sleep 1000'\n", "\r\n21\r\n"},
		{"\x03", "^C"}, // Ctrl-C is for what runs in the VM
		{"echo still $((1+1))\n", "\r\nstill 2\r\n"},
	} {
		term.enter(t, c.keys)
		term.expect(t, c.shows)
		if !strings.Contains(c.keys, "sleep") {
			term.expect(t, prompt)
		}
	}
	// The window grows: the VM's terminal follows, in its own time.
	if err := unix.IoctlSetWinsize(int(term.ctrl.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120}); err != nil {
		t.Fatal(err)
	}
	term.enter(t, "until [ \"$(stty size)\" = '40 120' ]; do sleep 0.1; done; echo as big\n")
	term.expect(t, "\r\nas big\r\n")
	term.expect(t, prompt)
	term.enter(t, "\x04") // Ctrl-D
	if code := wait(t, cmd, term); code != 0 {
		t.Errorf("exit code %d; the terminal shows %q", code, term)
	}
	if diff := cmp.Diff(before, settings(t, term)); diff != "" {
		t.Errorf("the terminal is left changed (-before +after):\n%s", diff)
	}
	d.clean(t)
}

// TestShellInterrupted ends the tool, not the shell in the VM.
func TestShellInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			term := newTerminal(t)
			before := settings(t, term)
			cmd := d.command(t.Context(), "shell")
			term.start(t, cmd)
			term.expect(t, "vm:~# ")
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			code := wait(t, cmd, term)
			d.clean(t)
			if sig == syscall.SIGKILL {
				return // nobody is left to put the terminal back
			}
			if code != 130 {
				t.Errorf("exit code %d, want 130; the terminal shows %q", code, term)
			}
			term.expect(t, "interrupted; nothing is left behind")
			if diff := cmp.Diff(before, settings(t, term)); diff != "" {
				t.Errorf("the terminal is left changed (-before +after):\n%s", diff)
			}
		})
	}
}

// TestShellScript has input that is no terminal, much of it, and read slowly.
func TestShellScript(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	const lines = 20000
	var script, want strings.Builder
	script.WriteString("sleep 1\nlsmod | cut -c1-6 | tail -n 1\nn=0\nwhile read line; do n=$((n+1)); [ \"$line\" = \"line $n\" ] || echo line $n is $line; done <<END\n")
	for i := range lines {
		fmt.Fprintf(&script, "line %d\n", i+1)
	}
	script.WriteString("END\necho $n lines >&2\n[ -t 0 ] || exit 42\n")
	want.WriteString("nlecho\n")
	cmd := d.command(t.Context(), "shell")
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script.String()), &out, &errs
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 42 || out.String() != want.String() || !strings.HasSuffix(errs.String(), fmt.Sprintf("%d lines\n", lines)) {
		t.Errorf("exit code %d, want 42\n[stdout]\n%.500s\n[stderr]\n%s", code, out.String(), errs.String())
	}
	d.clean(t)
}

// TestCtrlC types it while a program hangs in the VM.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.write(t, "hang/main.go", hangs)
	term := newTerminal(t)
	cmd := d.command(t.Context(), "check", "1")
	cmd.Env = append(cmd.Env, "CODE=hang", "V=1")
	term.start(t, cmd)
	term.expect(t, "netlink-labs: booted")
	term.enter(t, "\x03")
	if code := wait(t, cmd, term); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	term.expect(t, "interrupted; nothing is left behind")
	d.clean(t)
}

// TestCtrlCWhileAsked types it instead of an answer to a prediction.
func TestCtrlCWhileAsked(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	term := newTerminal(t)
	cmd := d.command(t.Context(), "check", "1")
	term.start(t, cmd)
	term.expect(t, "Which address in sendmsg makes a message go to the kernel?")
	term.enter(t, "\x03")
	if code := wait(t, cmd, term); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	term.expect(t, "interrupted; nothing is left behind")
	d.clean(t)
}

var (
	escape = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")
	colour = regexp.MustCompile("\x1b\\[[0-9;]*m")
)

// TestTerminals prints the same report for all of them.
func TestTerminals(t *testing.T) {
	for _, tt := range []struct {
		name            string
		env             []string
		colours, escape bool // are to be seen: colours, and any escape sequence
	}{
		{"a terminal", nil, true, true},
		{"NO_COLOR", []string{"NO_COLOR=1"}, false, true},
		{"an empty NO_COLOR", []string{"NO_COLOR="}, true, true}, // no-color.org: when it is not empty
		{"dumb", []string{"TERM=dumb"}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			term := newTerminal(t)
			cmd := d.command(t.Context(), "check", "0")
			cmd.Env = append(append(cmd.Env, "SOLUTION=1"), tt.env...)
			term.start(t, cmd)
			code := wait(t, cmd, term)
			got := term.String()
			if i := strings.Index(got, " points "); code != 0 || i < 0 {
				t.Fatalf("exit code %d: %q", code, got)
			}
			if colour.MatchString(got) != tt.colours || escape.MatchString(got) != tt.escape {
				t.Errorf("colours %t, escape sequences %t; want %t, %t: %q", colour.MatchString(got), escape.MatchString(got), tt.colours, tt.escape, got)
			}
			for l := range strings.Lines(escape.ReplaceAllString(got, "")) {
				if n := len([]rune(strings.TrimRight(l, "\r\n"))); strings.HasPrefix(l, "  ok ") && n != 100 {
					t.Errorf("a line of %d columns on a terminal of 100: %q", n, l)
				}
			}
		})
	}
	t.Run("no terminal", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		s := d.lab(t, []string{"SOLUTION=1"}, "check", "0")
		s.want(t, 0, "passed  3 of 3 points", "lab 0: running on ")
		if m := escape.FindString(s.out + s.err); m != "" || strings.Contains(s.out+s.err, "\r") {
			t.Errorf("escape sequences or carriage returns, %q: %q %q", m, s.out, s.err)
		}
		for i, l := range strings.Split(s.out, "\n") {
			if len(l) > 110 {
				t.Errorf("line %d is %d columns long: %s", i+1, len(l), l)
			}
		}
		// Without a terminal nobody can answer: predictions are not asked.
		s = d.lab(t, nil, "check", "0")
		s.want(t, 0, "passed  3 of 3 points", fmt.Sprintf("your code for lab 0 is in %s", "00-first-contact/main.go"))
	})
}
