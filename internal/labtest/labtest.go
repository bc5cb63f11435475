// SPDX-License-Identifier: MIT

// Package labtest is what the check of a lab is written against.
//
// A check is an ordinary Go test. It runs as root in a throw-away VM, starts the
// student's program as an ordinary user in namespaces of its own, and judges it
// by the trace: what the kernel saw, in the order in which it happened.
//
//	func TestGreeting(t *testing.T) {
//		c := labtest.New(t)
//		run := c.Run()
//		c.Step(1, func(s *labtest.Step) {
//			sent := run.Trace.Calls(trace.Sendmsg).To(0).First()
//			s.Expect(sent.Seen(), labtest.Failure{
//				Got:      "no message to the kernel",
//				Expected: "one sendmsg to port 0",
//				Likely:   "the program ended before it sent anything",
//			})
//		})
//	}
//
// Steps are declared in lab.toml and judged in order. The first that fails ends
// the check; those behind it are not tried. Assert order in the trace, never
// time: a machine may be slow. Compare what the program reports (its key=value
// lines) with the trace, since a program can print anything.
package labtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/guest"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

// HowToRun is what a check says when it is started in the wrong place.
const HowToRun = "a check runs inside the VM: make lab-N check, or go test -exec \"'$PWD/bin/lab' exec\" ./labs/..."

// Check is a check under way.
type Check struct {
	// Lab is what lab.toml says.
	Lab *wire.Lab

	t         *testing.T
	records   *wire.Records
	collector *trace.Collector
	judged    int  // the last step that was judged
	stepping  bool // step judged is under way
	failed    bool // a step has failed
	unbuilt   int  // the step that the program says is not done yet, or 0
	last      *Run
	held      atomic.Bool // nlecho holds messages, see Hold
	mu        sync.Mutex
	programs  []*Program
	family    map[int]bool // tasks of the programs, see ours
}

// Option changes how a check begins.
type Option func(*trace.Config)

// Probes adds kernel functions to those that are always traced: netlink_connect
// and netlink_release, for example. Each costs some milliseconds.
func Probes(functions ...string) Option {
	return func(c *trace.Config) { c.Probes = append(c.Probes, functions...) }
}

// Events adds tracepoints, "group:name", to those that are always traced.
func Events(names ...string) Option {
	return func(c *trace.Config) { c.Events = append(c.Events, names...) }
}

// New begins the check: the trace is running when it returns. Outside of the
// place of a check the test is skipped, with a message that says how to run it.
func New(t *testing.T, options ...Option) *Check {
	t.Helper()
	if os.Getenv(wire.EnvGuest) == "" || os.Getenv(wire.EnvLab) == "" {
		t.Skip(HowToRun)
	}
	lab, err := wire.LoadLab()
	if err != nil {
		t.Fatal(err)
	}
	records, err := wire.OpenRecords(lab.Boot)
	if err != nil {
		t.Fatal(err)
	}
	c := &Check{Lab: lab, t: t, records: records, family: map[int]bool{}}
	cfg := trace.Config{Keep: true, Emit: c.emit}
	if lab.Shared {
		cfg.Keep, cfg.Instance = false, wire.Instance
	}
	cfg.Add(lab.Trace...)
	for _, o := range options {
		o(&cfg)
	}
	if c.collector, err = trace.Start(cfg); err != nil {
		c.Fault("starting the trace: %v", err)
	}
	c.records.Send(wire.Record{Kind: wire.KindBegin})
	t.Cleanup(c.end)
	return c
}

// live tells whether what happens must leave the VM at once: somebody watches, or
// the kernel of this boot is not expected to live.
func (c *Check) live() bool {
	return c.Lab.Live || c.Lab.Boot != c.Lab.Boots[len(c.Lab.Boots)-1]
}

// emit gets each event of the trace as it comes.
func (c *Check) emit(e trace.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Name == trace.EchoReject && e.Int("reason") == trace.RejectedDeep {
		c.dies()
	}
	// The reader of the trace is switched to, is woken, and sends itself signals as
	// every Go program does: none says that the program under test has done anything.
	if e.Name != trace.Switch && e.Name != trace.Waking && e.Name != trace.Signal && c.ours(e) {
		for _, p := range c.programs {
			p.Active()
		}
	}
	if c.live() {
		if b, err := json.Marshal(e); err == nil {
			c.records.Send(wire.Record{Kind: wire.KindEvent, Event: b})
		}
	}
}

// ours tells whether an event can be a sign of life of the program under test. On a
// kernel that others use, too, most are not: those are, of the tasks that descend from
// this process, and our modules' own.
func (c *Check) ours(e trace.Event) bool {
	if !c.Lab.Shared {
		return true
	}
	if e.Name == trace.NewTask {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", e.Task))
		if own := err == nil; own && e.Uint("clone_flags")&unix.CLONE_THREAD == 0 || c.family[e.Task] {
			c.family[int(e.Int("pid"))] = true
		}
	}
	return c.family[e.Task] || strings.HasPrefix(e.Name, "nlecho_") || strings.HasPrefix(e.Name, "nlnotify_")
}

// dies ends the check as the kernel's end would: what nlecho has refused is a
// recursion of which the kernel dies where nothing guards it.
func (c *Check) dies() {
	c.records.Send(wire.Record{Kind: wire.KindDied, Text: guest.DeepRecursion})
	os.Exit(1)
}

func (c *Check) end() {
	c.free()
	for _, p := range c.programs {
		p.Stop()
	}
	if err := c.collector.Close(); err != nil {
		c.records.Send(wire.Record{Kind: wire.KindFault, Text: "ending the trace: " + err.Error()})
	}
	if c.t.Skipped() {
		c.records.Send(wire.Record{Kind: wire.KindFault, Text: "the check skipped itself, and a skip is not a pass"})
	}
	c.records.Send(wire.Record{Kind: wire.KindEnd})
}

// Fault ends the check without a verdict: the place failed, not the program.
func (c *Check) Fault(format string, args ...any) {
	c.t.Helper()
	text := fmt.Sprintf(format, args...)
	c.records.Send(wire.Record{Kind: wire.KindFault, Text: text})
	c.t.Fatal(text)
}

// Note tells the reader of the report something that decides nothing. In a step it begins with the step's number.
func (c *Check) Note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if c.stepping {
		text = fmt.Sprintf("step %d: %s", c.judged, text)
	}
	c.records.Send(wire.Record{Kind: wire.KindNote, Text: text})
}

// Answer tells what the kernel really did, for the prediction id of lab.toml:
// the index of the option that was right, and one line that says why. Compute it
// from this very run.
func (c *Check) Answer(id string, option int, why string) {
	c.records.Send(wire.Record{Kind: wire.KindAnswer, Answer: &wire.Answer{ID: id, Option: option, Why: why}})
}

// Param sets a parameter of a loaded module. A value that the module refuses is
// the check's mistake.
func (c *Check) Param(module, name, value string) {
	c.t.Helper()
	file := "/sys/module/" + module + "/parameters/" + name
	if err := os.WriteFile(file, []byte(value), 0); err != nil {
		c.Fault("setting the parameter %s of the module %s to %q: %v", name, module, value, err)
	}
}

// Start starts the student's program, confined as lab.toml says.
func (c *Check) Start(args ...string) *Program {
	c.t.Helper()
	spec := guest.Spec{Program: c.Lab.Program, Args: args, Capabilities: c.Lab.Capabilities}
	said := make(chan struct{}, 1)
	line := func(o wire.Output) {
		if c.live() {
			c.records.Send(wire.Record{Kind: wire.KindOutput, Output: &o})
		}
		select {
		case said <- struct{}{}:
		default:
		}
	}
	p, err := spec.Start(line)
	if err != nil {
		c.Fault("%v", err)
	}
	prog := &Program{Program: p, c: c, said: said}
	c.mu.Lock()
	c.programs = append(c.programs, prog)
	c.mu.Unlock()
	return prog
}

// Run starts the student's program, without input, and waits for its end.
func (c *Check) Run(args ...string) *Run {
	c.t.Helper()
	p := c.Start(args...)
	p.Input.Close()
	return p.Wait()
}

// Program is the student's program while it runs.
type Program struct {
	*guest.Program
	c    *Check
	said chan struct{} // filled with each line that it prints
}

// WaitFor waits until the trace says so, or the program is over, or is being
// ended because it does nothing: it returns whether cond became true. Use it to
// act at a certain point of the order.
func (p *Program) WaitFor(cond func(*trace.Trace) bool) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-p.Over():
		case <-p.Ending():
		case <-ctx.Done():
		}
		cancel()
	}()
	if p.c.collector.WaitFor(ctx, cond) == nil {
		return true
	}
	tr, err := p.c.collector.Trace()
	return err == nil && cond(tr)
}

// Settle waits for the program's end, and then until cond is true of what is known of it:
// for what tasks of the kernel still do because of it, such as the return of a send that
// its end has woken. It comes before [Program.Wait], whose Run has that too. That it never
// happens is a fault of the check.
func (p *Program) Settle(cond func(*trace.Program) bool) {
	p.c.t.Helper()
	p.end()
	ctx, cancel := context.WithTimeout(context.Background(), settleLimit)
	defer cancel()
	err := p.c.collector.WaitFor(ctx, func(t *trace.Trace) bool {
		return cond(t.Program(p.PID(), p.c.Lab.Program))
	})
	if err != nil {
		p.c.Fault("after the program's end: %v", err)
	}
}

// settleLimit ends what would never end.
const settleLimit = time.Minute

// Stop ends the program if it still runs.
func (p *Program) Stop() {
	select {
	case <-p.Over():
	default:
		p.c.free()
		_ = p.Signal(9)
		p.Program.Wait()
	}
}

// Wait waits for the program's end and returns all that is known of its run.
func (p *Program) Wait() *Run {
	p.c.t.Helper()
	end := p.end()
	tr, err := p.c.collector.Trace()
	if err != nil {
		p.c.Fault("reading the trace: %v", err)
	}
	if l := tr.Lost(); l.Any() {
		p.c.Fault("the trace has gaps, so nothing can be judged: %s", l)
	}
	r := &Run{Trace: tr.Program(p.PID(), p.c.Lab.Program), End: end, Lines: p.Lines(), c: p.c}
	p.c.seen(r)
	if p.c.live() {
		p.c.records.Send(wire.Record{Kind: wire.KindExit, Exit: &wire.ProgramExit{Code: end.Code, Signal: int(end.Signal), Stopped: end.Stopped}})
	}
	return r
}

// end waits for the program's end.
func (p *Program) end() guest.End {
	select {
	case <-p.Over():
	case <-p.Ending():
		p.c.free() // a task that nlecho holds does not end
	}
	return p.Program.Wait()
}

// seen makes r the run that failing steps tell of.
func (c *Check) seen(r *Run) {
	if n := r.unbuilt(); n > 0 {
		c.unbuilt = n
	}
	c.last = r
}

// Run is one run of the student's program, from start to end.
type Run struct {
	Trace *trace.Program // what the kernel saw of it
	End   guest.End      // how it ended
	Lines []wire.Output  // what it printed
	c     *Check
}

// Keys returns the values that the program reported for a key, in order: the
// lines KEY=value of its standard output. The key must be declared in lab.toml.
func (r *Run) Keys(key string) []string {
	r.c.t.Helper()
	if !slices.Contains(r.c.Lab.Keys, key) {
		r.c.Fault("the check asks for the key %q, which lab.toml does not declare", key)
	}
	var values []string
	for _, l := range r.Lines {
		if v, ok := keyValue(l, key); ok {
			values = append(values, v)
		}
	}
	return values
}

// Key returns the last value that the program reported for a key.
func (r *Run) Key(key string) (string, bool) {
	r.c.t.Helper()
	v := r.Keys(key)
	if len(v) == 0 {
		return "", false
	}
	return v[len(v)-1], true
}

// unbuilt returns the step whose function is still the starter's, or 0.
func (r *Run) unbuilt() int {
	for _, l := range r.Lines {
		before, _, found := strings.Cut(l.Text, " is not done yet")
		i := strings.LastIndex(before, "step ")
		if !found || i < 0 || l.Stream != "stderr" {
			continue
		}
		if n, err := strconv.Atoi(before[i+len("step "):]); err == nil {
			return n
		}
	}
	return 0
}

// interrupted tells whether the program gave up because a system call said EINTR. That
// comes seldom and in any step, and whoever meets it looks for the mistake elsewhere.
func (r *Run) interrupted() bool {
	return r != nil && !r.End.OK() && slices.ContainsFunc(r.Lines, func(l wire.Output) bool {
		return l.Stream == "stderr" && strings.Contains(l.Text, unix.EINTR.Error())
	})
}

// likely adds that to the mistake that a step tells of. It comes first, and does not replace
// it: a program that waits for what its mistake keeps from coming is interrupted like any other.
func (r *Run) likely(mistake string) string {
	if !r.interrupted() {
		return mistake
	}
	const signals = "Go's runtime sends signals to its own threads, now and then. A wait with a time limit (SO_RCVTIMEO, " +
		"SO_SNDTIMEO, poll) is not begun again after one, as others are: it says EINTR, and you call it once more (signal(7))"
	if mistake == "" {
		return signals
	}
	return signals + ". Apart from that: " + mistake
}

// lastWords is how the program ended and what it said, when it did not end well: on
// stderr, and the last lines of its stdout that report nothing. Where it ended well
// it is what was said on stderr: a process that it has started may have failed.
func (r *Run) lastWords() []string {
	if r == nil {
		return nil
	}
	var stderr, stdout []string
	for _, l := range r.Lines {
		text := strings.TrimRight(strings.ReplaceAll(l.Text, "\t", "    "), " ")
		switch {
		case text == "":
		case l.Stream == "stderr":
			stderr = append(stderr, text)
		case !r.reports(l):
			stdout = append(stdout, text)
		}
	}
	if r.End.OK() {
		stdout = nil
		if len(stderr) == 0 {
			return nil
		}
	}
	words := []string{"the program " + r.End.String()}
	const most = 8
	if len(stderr) > most {
		stderr = append(stderr[:most:most], fmt.Sprintf("(and %d lines more: make lab-%d run)", len(stderr)-most, r.c.Lab.Number))
	}
	stdout = stdout[len(stdout)-min(len(stdout), max(0, most-len(stderr))):]
	return slices.Concat(words, stdout, stderr)
}

// reports tells whether a line is a report that checks compare with the trace.
func (r *Run) reports(l wire.Output) bool {
	return slices.ContainsFunc(r.c.Lab.Keys, func(key string) bool {
		_, ok := keyValue(l, key)
		return ok
	})
}

// Failure says why a step failed, in the words that a student needs.
type Failure struct {
	Got      string // what was seen
	Expected string // what should have been
	Likely   string // the mistake that is usually behind it, and what to do; no solution
	// Trace are the events that matter. They are printed as lines of the timeline.
	Trace []trace.Event
}

// Step is one step while it is judged.
type Step struct {
	// N is its number, from 1.
	N int
	c *Check
	t *testing.T
}

// Step judges step n: it passes when f returns. Steps must be judged in order,
// from 1. After a step that failed, f of the later ones is not called.
func (c *Check) Step(n int, f func(s *Step)) {
	c.t.Helper()
	if c.failed {
		return
	}
	if n != c.judged+1 || n > len(c.Lab.Steps) {
		c.Fault("the check judges step %d after step %d of %d", n, c.judged, len(c.Lab.Steps))
	}
	c.judged = n
	ok := c.t.Run(fmt.Sprintf("step %d", n), func(t *testing.T) {
		s := &Step{N: n, c: c, t: t}
		c.stepping = true
		defer func() { c.stepping = false }()
		f(s)
		c.records.Send(wire.Record{Kind: wire.KindStep, Step: &wire.Step{N: n, Passed: true}})
	})
	c.failed = !ok
}

// Expect fails the step unless ok is true.
func (s *Step) Expect(ok bool, f Failure) {
	s.t.Helper()
	if !ok {
		s.Fail(f)
	}
}

// Fail fails the step and ends the check.
func (s *Step) Fail(f Failure) {
	s.t.Helper()
	rec := &wire.Step{N: s.N, Got: f.Got, Expected: f.Expected, Likely: f.Likely, Program: s.c.last.lastWords()}
	if s.c.unbuilt == s.N {
		rec.Got, rec.Expected = fmt.Sprintf("step %d is not done yet", s.N), ""
		rec.Likely = fmt.Sprintf("the function of step %d still has the starter's panic in it: write it, then check again", s.N)
		rec.Program = nil
	} else if len(f.Trace) > 0 && s.c.last != nil {
		rec.Trace = s.c.last.Trace.Evidence(f.Trace...)
	}
	rec.Likely = s.c.last.likely(rec.Likely)
	if s.c.unbuilt > s.N {
		rec.Program = nil // the panic of a step that is still to come is no news
	}
	s.c.records.Send(wire.Record{Kind: wire.KindStep, Step: rec})
	s.t.Fatalf("got %s; expected %s", rec.Got, rec.Expected)
}

// Reported fails the step unless the program reported want for key, which the
// check has from the trace.
func (s *Step) Reported(r *Run, key, want string, f Failure) {
	s.t.Helper()
	got, ok := r.Key(key)
	switch {
	case ok && got == want:
		return
	case !ok:
		f.Got = fmt.Sprintf("the program printed no line %s=...", key)
	default:
		f.Got = key + "=" + got
	}
	if f.Expected == "" {
		f.Expected = key + "=" + want
	}
	s.Fail(f)
}
