// SPDX-License-Identifier: MIT

package modtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Event is one trace event of the module, its fields as the event prints them.
type Event struct {
	Name string // without the module's name and the "_" behind it
	Task int    // thread ID
	F    map[string]string
}

func (e Event) String() string { return fmt.Sprintf("%s%v (task %d)", e.Name, e.F, e.Task) }

// Num returns a numeric field.
func (e Event) Num(t testing.TB, field string) int64 {
	t.Helper()
	v, err := strconv.ParseInt(e.F[field], 0, 64)
	if err != nil {
		t.Fatalf("event %v: field %s is %q, want a number", e, field, e.F[field])
	}
	return v
}

// Is says whether the event has this name and these fields ("n=0 why=delay").
func (e Event) Is(name, fields string) bool {
	if e.Name != name {
		return false
	}
	for _, kv := range strings.Fields(fields) {
		k, v, _ := strings.Cut(kv, "=")
		if got, ok := e.F[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Tracer reads the module's events from a trace instance of its own, so that
// whoever else traces this kernel is not disturbed.
type Tracer struct {
	module Module
	dir    string
	fd     int
	buf    []byte
	line   *regexp.Regexp
}

const tracefs = "/sys/kernel/tracing"

var instances int

// Trace turns the module's events on until the test ends.
func (m Module) Trace(t *testing.T) *Tracer {
	t.Helper()
	if _, err := os.Stat(tracefs + "/instances"); err != nil {
		if err := unix.Mount("tracefs", tracefs, "tracefs", 0, ""); err != nil {
			t.Fatalf("mount tracefs on %s: %v", tracefs, err)
		}
	}
	instances++
	tr := &Tracer{module: m, dir: fmt.Sprintf("%s/instances/%s_test_%d", tracefs, m, instances), fd: -1}
	// "  comm-123   [000] .....   1.234567: nlecho_input: id=1 sk=... data=aabb"
	tr.line = regexp.MustCompile(`-(\d+)\s+\[\d+\].*?: ` + string(m) + `_(\w+): (.*)$`)
	if err := os.Mkdir(tr.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(tr.fd)
		if err := os.Remove(tr.dir); err != nil {
			t.Errorf("remove the trace instance: %v", err)
		}
	})
	tr.put(t, "buffer_size_kb", "4096")
	tr.Enable(t)
	var err error
	tr.fd, err = unix.Open(tr.dir+"/trace_pipe", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open %s/trace_pipe: %v", tr.dir, err)
	}
	return tr
}

func (tr *Tracer) put(t *testing.T, file, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(tr.dir, file), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// Enable turns the events on, again after the module was loaded anew.
func (tr *Tracer) Enable(t *testing.T) {
	t.Helper()
	tr.put(t, "events/"+string(tr.module)+"/enable", "1")
}

// Next returns the next event, or false when none came until the deadline.
func (tr *Tracer) Next(t *testing.T, deadline time.Time) (Event, bool) {
	t.Helper()
	for {
		line, rest, ok := bytes.Cut(tr.buf, []byte("\n"))
		if ok {
			tr.buf = rest
			if bytes.Contains(line, []byte("LOST")) {
				t.Fatalf("the trace lost events: %s", line)
			}
			m := tr.line.FindSubmatch(line)
			if m == nil {
				continue
			}
			e := Event{Name: string(m[2]), F: map[string]string{}}
			e.Task, _ = strconv.Atoi(string(m[1]))
			for _, kv := range strings.Fields(string(m[3])) {
				k, v, _ := strings.Cut(kv, "=")
				e.F[k] = v
			}
			return e, true
		}
		chunk := make([]byte, 64<<10)
		n, err := unix.Read(tr.fd, chunk)
		switch {
		case n > 0:
			tr.buf = append(tr.buf, chunk[:n]...)
			continue
		case err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			t.Fatalf("read trace_pipe: %v", err)
		}
		if !time.Now().Before(deadline) {
			return Event{}, false
		}
		// Bounded: some kernels miss a wake-up of trace_pipe's readers.
		fds := []unix.PollFd{{Fd: int32(tr.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 100); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatalf("poll trace_pipe: %v", err)
		}
	}
}

// Until returns the events up to and with the first of this name and fields.
func (tr *Tracer) Until(t *testing.T, name, fields string) []Event {
	t.Helper()
	var seen []Event
	deadline := time.Now().Add(Patience)
	for {
		e, ok := tr.Next(t, deadline)
		if !ok {
			t.Fatalf("no event %s %s within %v; seen:\n%s", name, fields, Patience, List(seen))
		}
		seen = append(seen, e)
		if e.Is(name, fields) {
			return seen
		}
	}
}

// Now returns the events that are there already. Everything that happened
// before the call is: an event stands in the buffer before its task goes on.
func (tr *Tracer) Now(t *testing.T) []Event {
	t.Helper()
	var seen []Event
	for {
		e, ok := tr.Next(t, time.Time{})
		if !ok {
			return seen
		}
		seen = append(seen, e)
	}
}

// Want compares events with "name field=value ..." lines, one for each event.
func Want(t *testing.T, got []Event, lines ...string) {
	t.Helper()
	same := len(got) == len(lines)
	for i := 0; same && i < len(lines); i++ {
		name, fields, _ := strings.Cut(lines[i], " ")
		same = got[i].Is(name, fields)
	}
	if !same {
		t.Fatalf("events:\n%swant:\n\t%s", List(got), strings.Join(lines, "\n\t"))
	}
}

// List shows events, a line each.
func List(events []Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "\t%v\n", e)
	}
	return b.String()
}

// Last returns the last event.
func Last(events []Event) Event { return events[len(events)-1] }
