// SPDX-License-Identifier: MIT

package trace

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inVM skips a test outside of the throw-away VM: no test traces the kernel that its author works on.
func inVM(t testing.TB) {
	t.Helper()
	if os.Getenv(outEnv) == "" {
		t.Skip(`runs in the VM only: go test -exec "'$PWD/bin/lab' exec -module nlecho" ./internal/trace`)
	}
}

// start starts a collector. The rest of the test stays on one thread: to the trace, which is younger than this process,
// each of its threads is a process.
func start(t testing.TB, cfg Config) *Collector {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	c, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func traced(t testing.TB, c *Collector) *Trace {
	t.Helper()
	tr, err := c.Trace()
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// bound opens a socket of nlecho's protocol and binds it to port.
func bound(t testing.TB, port uint32) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, echoProtocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port}); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestStartErrors(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{Dir: t.TempDir()}, "mount it first"},
		{Config{Dir: "/nonexistent"}, "mount it first"},
	} {
		if c, err := Start(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, %v", test.cfg, c, err)
		}
	}
	if _, err := choose([]string{"netlink_bind", "netlink_connect"}); err != nil {
		t.Error(err)
	}
	if _, err := choose([]string{"netlink_dance"}); err == nil || !strings.Contains(err.Error(), "netlink_release") {
		t.Errorf("a probe that there is not: %v", err)
	}
}

func TestStartErrorsInVM(t *testing.T) {
	inVM(t)
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{Probes: []string{"netlink_dance"}}, `no probe is named "netlink_dance"`},
		{Config{Events: []string{"sched:sched_dance"}}, "no event sched:sched_dance; is its module loaded"},
		{Config{Events: []string{"nothere"}}, "no event nothere"},
	} {
		if c, err := Start(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, %v", test.cfg, c, err)
		}
	}
	c := start(t, Config{})
	if err := c.Enable("signal:signal_generate"); err != nil {
		t.Error(err)
	}
	if err := c.Enable("sched:sched_switch if prev_state & 2"); err != nil {
		t.Error(err)
	}
	if err := c.Enable("sched:sched_switch if prev_mood == 2"); err == nil {
		t.Error("an event was enabled with a filter that makes no sense")
	}
	if err := c.Enable("signal:signal_dance"); err == nil {
		t.Error("an event that there is not was enabled")
	}
}

// In an instance, nothing is left behind, and the top-level buffer is not touched.
func TestInstance(t *testing.T) {
	inVM(t)
	const tracefs = "/sys/kernel/tracing"
	_, err := os.Stat(filepath.Join(tracefs, "events", group))
	before := err == nil
	c := start(t, Config{Instance: "netlink-labs-test", Probes: []string{Connect, Release},
		Events: []string{"sched:sched_switch", "signal:signal_generate if sig == 9"}})
	fd := bound(t, 4711)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 1000}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := unix.Recvfrom(fd, make([]byte, 100), 0); err != unix.EAGAIN {
		t.Errorf("a read for a millisecond: %v", err)
	}
	unix.Close(fd)
	tr := traced(t, c)
	p := tr.Program(unix.Gettid(), "")
	s := p.Socket(echoProtocol, 4711)
	if s == nil || !s.Released.Seen() {
		t.Errorf("the socket: %+v", s)
	}
	// The read sleeps, but a task may be preempted in bind, too.
	inKernel := p.Calls(Bind, Recvmsg)
	for _, e := range tr.Events().Named(Switch) {
		if !slices.ContainsFunc(inKernel, func(c Call) bool { return Inside(e, c) }) {
			t.Errorf("%v, outside of all that is traced", e)
		}
	}
	read := p.Calls(Recvmsg).First()
	if sleeps := p.Sleeps(read); len(sleeps) != 1 || sleeps[0].State != "S" {
		t.Errorf("sleeps in the read: %+v", sleeps)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if err := c.Sync(); err == nil {
		t.Error("Sync after Close")
	}
	if _, err := os.Stat(filepath.Join(tracefs, "instances/netlink-labs-test")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the instance is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(tracefs, "events", group)); !before && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the probes are still there: %v", err)
	}
	on, err := os.ReadFile(filepath.Join(tracefs, "events/syscalls/sys_enter_bind/enable"))
	if err != nil || strings.TrimSpace(string(on)) != "0" {
		t.Errorf("sys_enter_bind is %q in the top-level buffer: %v", on, err)
	}
}

// One collector after another, with and without probes that were left: neither sees the other's events, each all of its
// own, live and in order.
func TestOneAfterAnother(t *testing.T) {
	inVM(t)
	for i, keep := range []bool{false, true, true, false} {
		var live []Event
		c, err := Start(Config{Keep: keep, Emit: func(e Event) { live = append(live, e) }})
		if err != nil {
			t.Fatal(err)
		}
		port := uint32(5000 + i)
		unix.Close(bound(t, port))
		if err := c.Sync(); err != nil {
			t.Fatal(err)
		}
		var ports []uint64
		for j, e := range live {
			if e.Seq != j+1 || j > 0 && e.Time < live[j-1].Time {
				t.Errorf("event %d is %v", j, e)
			}
			if e.Name == Bind {
				ports = append(ports, e.Uint("portid"))
			}
		}
		if len(ports) != 1 || ports[0] != uint64(port) {
			t.Errorf("collector %d saw the binds %v", i, ports)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What was overwritten in the kernel's buffer is reported.
func TestLost(t *testing.T) {
	inVM(t)
	c := start(t, Config{BufferKB: 8, Interval: time.Hour, Instance: "netlink-labs-lost"})
	fd := bound(t, 4712)
	for range 2000 {
		if _, err := unix.Getsockname(fd); err != nil {
			t.Fatal(err)
		}
	}
	lost := traced(t, c).Lost()
	if lost.Events < 1000 && !lost.Unknown {
		t.Errorf("lost: %+v", lost)
	}
}

// A return that could not be recorded is reported: more threads wait in recvmsg than the probe can remember.
func TestMissed(t *testing.T) {
	inVM(t)
	setParameters(t)
	c := start(t, Config{})
	const threads = 70 // the probe has room for 64
	var fds []int
	var ready, done sync.WaitGroup
	for i := range threads {
		fd := bound(t, uint32(6000+i))
		fds = append(fds, fd)
		ready.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			runtime.LockOSThread()
			ready.Done()
			unix.Recvfrom(fd, make([]byte, 2048), 0)
		}()
	}
	ready.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.WaitFor(ctx, func(tr *Trace) bool { return len(tr.Events().Named(Recvmsg)) >= threads }); err != nil {
		t.Fatal(err)
	}
	for i, fd := range fds {
		if err := unix.Sendto(fd, request("wake up", uint32(i), 0), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
	}
	done.Wait()
	lost := traced(t, c).Lost()
	if n := lost.Probes[Recvmsg+ret]; n != threads-64 {
		t.Errorf("%d returns missed, want %d: %v", n, threads-64, lost)
	}
}

// A send without an address makes the probe's handler read through a null pointer: nothing is missed by that.
func TestNoAddress(t *testing.T) {
	inVM(t)
	c := start(t, Config{})
	fd := bound(t, 4713)
	for range 3 {
		if _, err := unix.Write(fd, request("no address", 1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	tr := traced(t, c)
	if lost := tr.Lost(); lost.Any() {
		t.Errorf("lost: %v", lost)
	}
	if n := len(tr.Program(unix.Gettid(), "").Calls(Sendmsg).To(0).OK()); n != 3 {
		t.Errorf("%d sends", n)
	}
}

func TestWaitFor(t *testing.T) {
	inVM(t)
	c := start(t, Config{})
	if err := c.WaitFor(context.Background(), func(*Trace) bool { return true }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	if err := c.WaitFor(ctx, func(*Trace) bool { return false }); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("ended by its context: %v", err)
	}
	got := make(chan error)
	go func() {
		got <- c.WaitFor(context.Background(), func(tr *Trace) bool {
			return len(tr.Events().Named(Bind).Where("portid", 4714)) == 1
		})
	}()
	bound(t, 4714)
	if err := <-got; err != nil {
		t.Error(err)
	}
	go func() {
		got <- c.WaitFor(context.Background(), func(*Trace) bool { return false })
	}()
	c.Close()
	if err := <-got; err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("ended by Close: %v", err)
	}
}

// Output gets its place after what happened before it.
func TestOutput(t *testing.T) {
	inVM(t)
	c := start(t, Config{})
	bound(t, 4715)
	c.Output(unix.Gettid(), 2, "hello")
	bound(t, 4716)
	p := traced(t, c).Program(unix.Gettid(), "")
	out := p.Events(Output).First()
	if out.Text("text") != "hello" || out.Int("fd") != 2 || !Before(p.Socket(echoProtocol, 4715).Bound, out) || !Before(out, p.Socket(echoProtocol, 4716).Bound) {
		t.Errorf("output: %v", out)
	}
}

// BenchmarkStart measures what every check pays before it begins. In the VM: -bench Start -benchtime 5x.
func BenchmarkStart(b *testing.B) {
	inVM(b)
	for b.Loop() {
		c, err := Start(Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(c.SetUp().Milliseconds()), "last-ms")
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTracedSend measures a send to the kernel and its three replies, traced or not.
func BenchmarkTracedSend(b *testing.B) {
	inVM(b)
	for _, on := range []bool{false, true} {
		b.Run(strconv.FormatBool(on), func(b *testing.B) {
			if on {
				start(b, Config{})
			}
			fd := bound(b, 4717)
			kernel, msg, buf := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}, request("x", 1, 4717), make([]byte, 2048)
			for b.Loop() {
				if err := unix.Sendto(fd, msg, 0, kernel); err != nil {
					b.Fatal(err)
				}
				for range 3 {
					if _, _, err := unix.Recvfrom(fd, buf, 0); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
