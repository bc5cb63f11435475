// SPDX-License-Identifier: MIT

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"netlinklabs/internal/initramfs"
	"netlinklabs/internal/judge"
	"netlinklabs/internal/lab"
	"netlinklabs/internal/place"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// runLab runs a lab's program in the VM and shows its output and the kernel's
// side of it as they happen. The variables PARAMS and DELAY set parameters of the
// lab's modules for this run.
func (a *app) runLab(args []string) error {
	if len(args) == 0 {
		return usagef("run takes the number of a lab, and arguments for the program")
	}
	l, err := a.lab(args[0])
	if err != nil {
		return err
	}
	params, err := parseSettings(os.Getenv("PARAMS"), os.Getenv("DELAY"))
	if err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	src, err := a.source(l, w)
	if err != nil {
		return err
	}
	if err := a.predict(l, w, src); err != nil {
		return err
	}
	return a.runSource(l, src, params, args[1:])
}

// runSource runs a program with the timeline live. Where nothing happens for
// long, it is told on a terminal that this is how it is.
func (a *app) runSource(l *lab.Lab, src source, params settings, args []string) error {
	live := trace.NewLive(a.out, 0, wire.ProgramPath, trace.Style{Width: a.width, Color: a.colour, ASCII: a.terminal && !utf8Locale()})
	still := newLull(a.progress)
	seen := trace.New()
	res, err := a.program(l, src, params, args, func(e trace.Event) {
		still.mu.Lock()
		defer still.mu.Unlock()
		a.progress.clear()
		still.add(e)
		live.Add(e)
		seen.Add(e)
	})
	still.stop()
	live.Close() // what it holds back is shown, however the run ended
	if err != nil {
		return err
	}
	err = a.runEnd(l, res, params)
	if meantToDie(l, res) && src.work && a.keepCrash(src.dir, seen, res.Console) {
		dir := a.short(src.dir)
		fmt.Fprintf(a.out, "\nAll that it said is in %s/%s,\nand what it was seen to do in %s/%s.\n", dir, consoleFile, dir, eventsFile)
	}
	return err
}

// lull tells on a terminal how long nothing has happened, and what is waited for.
type lull struct {
	mu    sync.Mutex
	since time.Time // of the last event, or of nlecho's wait; zero before the first
	waits string    // what nlecho waits for, if it does
	done  chan struct{}
	over  sync.WaitGroup
}

func (q *lull) add(e trace.Event) {
	switch e.Name {
	case trace.EchoWait:
		q.waits = fmt.Sprintf("nlecho waits before reply %d", e.Int("n")+1)
	case trace.EchoWake:
		q.waits = ""
	default:
		if q.waits != "" {
			return
		}
	}
	q.since = time.Now()
}

func newLull(p *progress) *lull {
	q := &lull{done: make(chan struct{})}
	if !p.terminal {
		return q
	}
	q.over.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-q.done:
				return
			case <-tick.C:
			}
			q.mu.Lock()
			if idle := time.Since(q.since).Truncate(time.Second); !q.since.IsZero() && idle >= time.Second {
				p.say(fmt.Sprintf("%s, %v", cmp.Or(q.waits, "nothing happens"), idle))
			}
			q.mu.Unlock()
		}
	})
	return q
}

func (q *lull) stop() {
	close(q.done)
	q.over.Wait()
}

// program builds a lab's program and runs it in the VM without judging it. event
// gets the trace as it comes, with the lines that the program prints in it.
func (a *app) program(l *lab.Lab, src source, params settings, args []string, event func(trace.Event)) (*vm.Result, error) {
	if a.where == place.InVagrant {
		return a.programAway(l, src, params, args, event)
	}
	j, remove, err := a.judge(os.Getenv("KERNEL"))
	if err != nil {
		return nil, err
	}
	defer remove()
	a.progress.say(fmt.Sprintf("lab %d: building", l.Number))
	program, err := src.build(a.ctx, j.Builder, j.Dir, "program")
	if err != nil {
		return nil, err
	}
	modules, err := j.Modules(a.ctx, l.Meta.Modules, l.Meta.ModuleParams)
	if err != nil {
		return nil, err
	}
	if err := params.apply(modules); err != nil {
		return nil, err
	}
	desc := judge.Describe(l)
	desc.Args = args
	inPlace := j.VM.Run
	switch {
	case j.Here != nil && len(l.Meta.Boots) == 1:
		j.Here.Task = fmt.Sprintf("a run of lab %d", l.Number)
		inPlace = j.Here.Run
		a.progress.say(fmt.Sprintf("lab %d: running on %s", l.Number, j.VM.Kernel.Release))
	default: // a lab with several boots is one that is about the kernel's end
		a.progress.say(fmt.Sprintf("lab %d: booting %s", l.Number, j.VM.Kernel.Release))
	}
	var fault error
	res, err := inPlace(a.ctx, &place.Job{
		Argv:    []string{wire.GuestPath, "run"},
		Dir:     filepath.Dir(wire.ProgramPath),
		Modules: modules,
		Lab:     desc,
		// The guest ends a program that does nothing; this ends a guest that does
		// nothing. Ten messages, one after the other, are let through.
		Limit:  2*time.Minute + 10*params.pauses(l),
		Stderr: a.err,
		Record: func(r wire.Record) {
			switch r.Kind {
			case wire.KindEvent:
				var e trace.Event
				if err := json.Unmarshal(r.Event, &e); err != nil {
					fault = fmt.Errorf("an event from the VM: %w", err)
					return
				}
				event(e)
			case wire.KindNote:
				a.note("%s", r.Text)
			case wire.KindFault:
				fault = fmt.Errorf("%s", r.Text)
			}
		},
		Files: func(w *initramfs.Writer) { w.Program(wire.ProgramPath, program) },
	})
	if err == nil {
		err = fault
	}
	return res, err
}

// runEnd says how a run ended and where.
func (a *app) runEnd(l *lab.Lab, res *vm.Result, params settings) error {
	if res.Verdict == vm.Faulted && len(params) > 0 && strings.Contains(res.Detail, "loading the module") {
		return usagef("%s: the module refuses a value\n  %s", params, res.Detail)
	}
	with := ""
	if len(params) > 0 {
		with = ", " + params.String()
	}
	where := res.Where
	if res.Accel != "" {
		where += ", " + res.Accel
	}
	fmt.Fprintf(a.out, "\nkernel %s, %s, %.1fs%s      judge it: make lab-%d check\n", res.Release, where, res.Total.Seconds(), with, l.Number)
	if res.Verdict == vm.Done && res.Status.Code == 0 {
		return nil
	}
	if meantToDie(l, res) {
		a.lastWords(l, res)
		return nil
	}
	for _, line := range res.Excerpt {
		fmt.Fprintln(a.out, "  "+line)
	}
	if res.Verdict.Environment() || res.Verdict == vm.Done {
		return fmt.Errorf("%s: %s", res.Verdict, res.Detail)
	}
	fmt.Fprintf(a.out, "%s: %s\n", res.Verdict, res.Detail)
	return errNotPassed
}

// utf8Locale tells whether the terminal can be expected to show more than ASCII.
func utf8Locale() bool {
	for _, v := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if s := strings.ToLower(os.Getenv(v)); s != "" {
			return strings.Contains(s, "utf-8") || strings.Contains(s, "utf8")
		}
	}
	return false
}
