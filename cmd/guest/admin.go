// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/guest"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

// admin is who administers a machine with the module nlnotify in a run (lab 11). Two
// times there is a notice; then the admin tries to unload the module, which is refused,
// has it announce that it wants to go, and unloads it when the program has let go.
// When the program has tried in vain to come back, the module is loaded again, and
// there is one more notice. At the end the program is sent SIGTERM.
//
// A program that is run as "experiment" (step 5) has another admin: as soon as
// somebody has the agreed port, more notices go there than a queue has room for, and
// nothing else happens.
//
// Each step waits for what the program does, and the program stands still while the
// module goes and comes: so a run of the same program looks the same, and nothing is
// lost with the trace's buffer, which the kernel empties when the module goes.
//
// A nil admin is that of a machine without the module: it does nothing.
type admin struct {
	module    wire.Module
	path      string // of the program
	program   *guest.Program
	collector *trace.Collector
	// experiment says that the program is run for its experiment.
	experiment bool
	// idle says that the program has sockets that it does not read.
	idle bool
}

const (
	// patience is how long the admin waits for a program that does not do what it is
	// to do.
	patience = 3 * time.Second
	// quiet is how long nothing happens where nothing more is to come.
	quiet = 150 * time.Millisecond
	// burst is how many notices are told to an experiment: a queue of the usual size has
	// room for about 90.
	burst = 120
	// tries are the attempts to come back, as system calls: mdlayher/netlink makes two
	// for each.
	tries = 4
)

// newAdmin returns the admin of the machine that the lab describes.
func newAdmin(lab *wire.Lab, program *guest.Program, collector *trace.Collector) *admin {
	for _, m := range lab.Modules {
		if m.Name == "nlnotify" {
			return &admin{module: m, path: lab.Program, program: program, collector: collector,
				experiment: len(lab.Args) > 0 && lab.Args[0] == "experiment"}
		}
	}
	return nil
}

// work does all that. ctx ends with the program.
func (a *admin) work(ctx context.Context) {
	if a == nil {
		return
	}
	if a.experiment {
		a.fill(ctx)
		return
	}
	for range 2 {
		a.settled(ctx)
		a.write("trigger", 1)
	}
	a.settled(ctx)
	if ctx.Err() == nil && a.unload(ctx) != nil {
		// Not with write: while that waits for the trace, the program comes back.
		_ = os.WriteFile(a.parameter("leave"), []byte("1"), 0)
		if a.unloadFree(ctx) == nil {
			a.until(ctx, func(r *trace.Program) bool {
				return len(r.Calls("socket").Failed(syscall.EPROTONOSUPPORT)) >= tries
			})
			if a.load(ctx) == nil {
				a.until(ctx, func(r *trace.Program) bool { return !closed(r) })
				a.settled(ctx)
				a.write("trigger", 1)
				a.settled(ctx)
			}
		}
	}
	if ctx.Err() == nil {
		_ = a.program.Signal(syscall.SIGTERM)
	}
}

// until waits until cond is true of the program, but not for ever, and reports
// whether it is.
func (a *admin) until(ctx context.Context, cond func(*trace.Program) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return a.collector.WaitFor(ctx, func(t *trace.Trace) bool { return cond(t.Program(0, a.path)) }) == nil
}

// settled waits until the program waits for messages, and does nothing else: there may
// be another socket to come.
func (a *admin) settled(ctx context.Context) {
	for end := time.Now().Add(patience); ctx.Err() == nil && time.Now().Before(end); {
		if !a.until(ctx, func(r *trace.Program) bool { return waits(r, a.idle) }) {
			a.idle = true // what was not read by now is not going to be
		}
		before := a.events()
		select {
		case <-ctx.Done():
		case <-time.After(quiet):
		}
		if a.events() == before {
			return
		}
	}
}

// events is how much the program has been seen to do so far.
func (a *admin) events() (n int) {
	if t, err := a.collector.Trace(); err == nil {
		n = len(t.Program(0, a.path).Events())
	}
	return n
}

// waits reports whether all of the program's sockets wait for a message, and no notice
// is on its way. Those that were never read count only where idle is false.
func waits(r *trace.Program, idle bool) bool {
	reads := r.Calls(trace.Recvmsg)
	told := r.Events(trace.NotifySend).Last()
	for _, s := range r.Sockets() {
		read := reads.On(s).Last()
		if s.Closed.Seen() || idle && !read.Seen() {
			continue
		}
		if !read.Seen() || trace.Before(read.Entry, told) || read.Returned() && read.Err() != syscall.EAGAIN {
			return false
		}
	}
	return len(reads) > 0 && !closed(r)
}

// closed reports whether the program had sockets, and has none.
func closed(r *trace.Program) bool {
	sockets := r.Sockets()
	for _, s := range sockets {
		if !s.Closed.Seen() {
			return false
		}
	}
	return len(sockets) > 0
}

// fill tells a burst of notices to the agreed port, when the program has it.
func (a *admin) fill(ctx context.Context) {
	text, err := os.ReadFile(a.parameter("port"))
	if err != nil {
		return
	}
	port, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return
	}
	a.until(ctx, func(r *trace.Program) bool {
		return slices.ContainsFunc(r.Sockets(), func(s *trace.Socket) bool { return s.Port == uint32(port) })
	})
	a.write("via", "port")
	a.write("trigger", burst)
}

// parameter is the file of one of the module's parameters.
func (a *admin) parameter(name string) string {
	return "/sys/module/" + a.module.Name + "/parameters/" + name
}

// write sets one of the module's parameters, and returns when what that brought about
// is in the trace.
func (a *admin) write(parameter string, value any) {
	_ = os.WriteFile(a.parameter(parameter), fmt.Append(nil, value), 0)
	_ = a.collector.Sync()
}

// unload tries to unload the module, whoever has references to it.
func (a *admin) unload(ctx context.Context) error {
	return a.unloadWhen(ctx, always)
}

// unloadFree does so when nobody has a reference to it any more, or after some time.
func (a *admin) unloadFree(ctx context.Context) error {
	// Opened once: each open and close would be in the trace.
	count, err := os.Open("/sys/module/" + a.module.Name + "/refcnt")
	if err != nil {
		return err
	}
	defer count.Close()
	text := make([]byte, 32)
	return a.unloadWhen(ctx, func() bool {
		n, _ := count.ReadAt(text, 0)
		return string(text[:n]) == "0\n"
	})
}

func (a *admin) unloadWhen(ctx context.Context, cond func() bool) error {
	defer a.still(ctx, cond)()
	if err := a.collector.Sync(); err != nil {
		return err
	}
	return unix.DeleteModule(a.module.Name, unix.O_NONBLOCK)
}

// load loads it again.
func (a *admin) load(ctx context.Context) error {
	defer a.still(ctx, always)()
	if err := guest.LoadModule(a.module.Path, a.module.Params); err != nil {
		return err
	}
	return a.collector.Enable(a.module.Name)
}

func always() bool { return true }

// still makes the program stand still until the function that it returns is called. That
// begins when cond is true, or after some time, and when the program sleeps: then it has
// said what it was about to say.
//
// The program may sleep for a pause of 50 ms only, and a VM whose host is busy is held up
// for longer than that. So this thread runs before all others meanwhile (sched(7),
// SCHED_FIFO): there is one processor, and when it goes on and finds both naps over, this
// one and the program's, it comes here first.
func (a *admin) still(ctx context.Context, cond func() bool) (goOn func()) {
	// Go's runtime has one processor of its own for each of the machine's. One that another
	// thread has is not let go of before that thread runs: there must be a free one.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 3))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	policy := func(p, priority uint32) {
		_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: p, Priority: priority}, 0)
	}
	policy(unix.SCHED_FIFO, 1)
	defer policy(unix.SCHED_NORMAL, 0)
	napUntil := func(limit time.Duration, cond func() bool) {
		nap := unix.NsecToTimespec(int64(2 * time.Millisecond))
		for end := time.Now().Add(limit); ctx.Err() == nil && !cond() && time.Now().Before(end); {
			_ = unix.Nanosleep(&nap, nil) // not time.Sleep: it is another thread that ends that
		}
	}
	napUntil(patience, cond)
	napUntil(quiet, func() bool { return asleep(a.program.PID()) })
	_ = a.program.Signal(syscall.SIGSTOP)
	return func() { _ = a.program.Signal(syscall.SIGCONT) }
}

// asleep reports whether all threads of a process sleep (proc(5), the state in stat).
func asleep(pid int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if _, rest, ok := strings.Cut(string(text), ") "); ok && !strings.HasPrefix(rest, "S") {
			return false
		}
	}
	return true
}
