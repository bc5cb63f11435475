// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"os"
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
	if ctx.Err() == nil && a.unload() != nil {
		a.write("leave", 1)
		a.until(ctx, closed)
		if ctx.Err() == nil && a.unload() == nil {
			a.until(ctx, func(r *trace.Program) bool {
				return len(r.Calls("socket").Failed(syscall.EPROTONOSUPPORT)) >= tries
			})
			if a.load() == nil {
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

// unload tries to unload the module.
func (a *admin) unload() error {
	defer a.still()()
	if err := a.collector.Sync(); err != nil {
		return err
	}
	return unix.DeleteModule(a.module.Name, unix.O_NONBLOCK)
}

// load loads it again.
func (a *admin) load() error {
	defer a.still()()
	if err := guest.LoadModule(a.module.Path, a.module.Params); err != nil {
		return err
	}
	return a.collector.Enable(a.module.Name)
}

// still makes the program stand still until the function that it returns is called.
func (a *admin) still() (goOn func()) {
	_ = a.program.Signal(syscall.SIGSTOP)
	return func() { _ = a.program.Signal(syscall.SIGCONT) }
}
