// SPDX-License-Identifier: MIT

package vm

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"sync"

	"netlinklabs/internal/wire"
)

// console keeps the kernel's log: its beginning and its end when it is long.
type console struct {
	mu      sync.Mutex
	head    []byte
	tail    []byte
	cut     bool
	live    io.Writer
	release string
}

func (c *console) read(r io.Reader) {
	b := make([]byte, 32<<10)
	for {
		n, err := r.Read(b)
		c.add(b[:n])
		if err != nil {
			return
		}
	}
}

func (c *console) add(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live != nil {
		_, _ = c.live.Write(b)
	}
	if room := maxConsole/2 - len(c.head); room > 0 {
		n := min(room, len(b))
		c.head = append(c.head, b[:n]...)
		b = b[n:]
	}
	c.tail = append(c.tail, b...)
	if over := len(c.tail) - maxConsole; over > 0 {
		c.cut = true
		c.tail = append(c.tail[:0], c.tail[len(c.tail)-maxConsole/2:]...)
	}
}

func (c *console) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	mark := ""
	if c.cut {
		mark = "\n[... the console was longer than is kept ...]\n"
	}
	return bytes.Join([][]byte{c.head, c.tail}, []byte(mark))
}

// stamp is the time that the kernel puts before a line. It may stand in the middle
// of one that a program is writing to the console.
var stamp = regexp.MustCompile(`\[ *[0-9]+\.[0-9]{6}\](\[[^\]]*\])? ?`)

func lines(log []byte) []string {
	var out []string
	for l := range strings.Lines(stamp.ReplaceAllString(string(log), "\n")) {
		if l = strings.TrimRight(l, "\r\n"); strings.TrimSpace(l) != "" {
			out = append(out, l)
		}
	}
	return out
}

func (c *console) last(n int) []string {
	l := lines(c.bytes())
	return l[max(0, len(l)-n):]
}

var (
	complaint = regexp.MustCompile(`\bBUG\b|WARNING:|Oops|Kernel panic|general protection fault|refcount_t:|unreferenced object|` +
		`UBSAN:|KASAN:|Objects remaining|unregister_netdevice: waiting`)
	// What a starved host makes of a guest is not the job's doing.
	starved = regexp.MustCompile(`soft lockup|rcu.*(stall|kthread starved)|hung_task|NMI watchdog|clocksource|workqueue lockup|sched: RT throttling|hrtimer: interrupt took`)
	// RIP stays where it is in the kernel (segment 10): it says which function it was.
	noise = regexp.MustCompile(`^(Modules linked in|CPU: |Hardware name|Code: |R([A-D]X|[SD]I|[BS]P|[01][0-9]): |RIP: 0033|Tainted: |Kernel Offset|reboot: |FS: |CS: |CR2: |DR[03]: |---\[|PKRU| *\? )`)
)

// complaints are the kernel's complaints with a few lines of context each, the
// registers left out: empty when the kernel was content. What it found wrong with
// the machine while it booted ("Spectre V2 : WARNING: ...") is not the job's doing.
func (c *console) complaints() []string {
	log := c.bytes()
	if _, job, ok := bytes.Cut(log, []byte(wire.BootedLine)); ok {
		log = job
	}
	var out []string
	follow := 0
	for _, l := range lines(log) {
		switch {
		case complaint.MatchString(l) && !starved.MatchString(l):
			out = append(out, l)
			follow = 14
		case follow > 0 && !noise.MatchString(l):
			out = append(out, "  "+strings.TrimSpace(l))
			follow--
		}
		if len(out) >= 40 {
			break
		}
	}
	return out
}

// panicLine is the line that says what the kernel died of, or "".
func (c *console) panicLine() string {
	for _, l := range lines(c.bytes()) {
		if i := strings.Index(l, "Kernel panic - not syncing"); i >= 0 {
			return l[i:]
		}
	}
	return ""
}

// tail keeps the last bytes that were written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - 4096; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
