// SPDX-License-Identifier: MIT

package labtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"

	"netlinklabs/internal/guest"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

// A lab whose kernel is meant to die names several boots in lab.toml,
//
//	boots = ["crash", "judge"]
//
// The check runs once in each; c.Lab.Boot tells in which. Only the last one judges
// steps. It learns from Earlier what happened in those before, whose kernels may be
// dead:
//
//	if c.Lab.Boot == "crash" {
//		c.RunHeld("crash") // the kernel is not expected to survive this
//		return
//	}
//	crash := c.Earlier("crash")

// Boot is what is known of an earlier boot of this check.
type Boot struct {
	// Verdict says how it ended: "kernel panic", "hang", or "done" for a kernel that
	// lived.
	Verdict string
	// Trace is what the kernel saw, up to what had left the VM when it died.
	Trace *trace.Trace
	// Lines are what the program printed.
	Lines []wire.Output
	// Console is the kernel's log with its last words.
	Console string
	// Run is the run of the program in that boot. Its End is the zero End where the
	// kernel died first.
	Run *Run
}

// Earlier returns the earlier boot of that name. A step that fails after it tells
// of the program's run in that boot, until the program is run again.
func (c *Check) Earlier(name string) *Boot {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(wire.EarlierDir, name+".json"))
	if err != nil {
		c.Fault("the check asks for the boot %q, but the boot %q is one of %q: %v", name, c.Lab.Boot, c.Lab.Boots, err)
	}
	var e wire.Earlier
	if err := json.Unmarshal(b, &e); err != nil {
		c.Fault("what the boot %q has left: %v", name, err)
	}
	boot := &Boot{Verdict: e.Verdict, Trace: trace.New(), Console: e.Console}
	run := &Run{c: c}
	for _, r := range e.Records {
		switch {
		case r.Kind == wire.KindEvent:
			var ev trace.Event
			if err := json.Unmarshal(r.Event, &ev); err != nil {
				c.Fault("an event of the boot %q: %v", name, err)
			}
			boot.Trace.Add(ev)
		case r.Kind == wire.KindOutput && r.Output != nil:
			boot.Lines = append(boot.Lines, *r.Output)
		case r.Kind == wire.KindExit && r.Exit != nil:
			run.End = guest.End{Code: r.Exit.Code, Signal: syscall.Signal(r.Exit.Signal), Stopped: r.Exit.Stopped}
		}
	}
	if l := boot.Trace.Lost(); l.Any() {
		c.Fault("the trace of the boot %q has gaps, so nothing can be judged: %s", name, l)
	}
	run.Trace, run.Lines = boot.Trace.Program(0, c.Lab.Program), boot.Lines
	boot.Run = run
	c.seen(run)
	return boot
}

// Flush waits until all events and lines so far have left the VM. Call it before
// what may kill the kernel.
func (c *Check) Flush() {
	c.t.Helper()
	if err := c.collector.Sync(); err != nil {
		c.Fault("reading the trace: %v", err)
	}
	if err := c.records.Flush(); err != nil {
		c.Fault("%v", err)
	}
}

// RunHeld is Run for a kernel that may die of it, with the module nlecho loaded and
// its parameter hold set: each wait of nlecho goes on only when everything before it
// has left the VM. So nothing is lost but what the kernel did after the last one.
func (c *Check) RunHeld(args ...string) *Run {
	c.t.Helper()
	p := c.Start(args...)
	p.Input.Close()
	for n := 1; ; n++ {
		waits := func(tr *trace.Trace) bool { return len(tr.Events().Named(trace.EchoWait)) >= n }
		if !p.WaitFor(waits) {
			return p.Wait()
		}
		c.Flush()
		c.Param("nlecho", "release", "1")
	}
}
