// SPDX-License-Identifier: MIT

// Package claims tries what the articles claim about Netlink, one claim a test, and
// lets the kernel decide.
//
// A test is the definition of its claim: it does what the claim is about, looks at
// what the kernel did, and ends in one call of [Trial.Verdict], which compares the
// verdict with that of the table (a0.toml and its like).
//
//	func TestA0_85_BindIsMandatory(t *testing.T) {
//		c := Try(t)
//		s := c.Open(Echo) // and no bind
//		s.Send(Hello, Kernel)
//		socket := c.Trace().Sockets()[0]
//		c.Verdict(
//			Holds(!s.Queued().Came(), "who has not called bind gets no answer"),
//			Instead(socket.Auto, "the kernel itself chooses port %d", socket.Port),
//		)
//	}
//
// The tests run as root in the throw-away VM: bin/lab claims, or bin/lab claim A0-85
// for one. They run one after the other on one kernel, and one trace shows what it
// did in each. Order comes from the trace, never from sleeps.
package claims

import (
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/ledger"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

// Environment variables by which the tool says what it wants.
const (
	// EnvInvert turns all expectations around: each test must fail then.
	EnvInvert = "NETLINK_LABS_INVERT"
	// EnvTimeline asks for the timeline of each row.
	EnvTimeline = "NETLINK_LABS_TIMELINE"
)

// HowToRun is what a test says when it is started in the wrong place.
const HowToRun = "a claim is tried inside the VM: bin/lab claim A0-85, or bin/lab claims for all"

// Patience is how long a trial waits for what must come. It bounds a broken run and
// orders nothing: it is far beyond what the slowest emulator needs.
const Patience = time.Minute

//go:embed *.toml
var files embed.FS

// Trial is the trial of one claim.
type Trial struct {
	// The test itself is one who makes system calls.
	*Task
	// Row is what the table has about the claim.
	Row *ledger.Row

	t     *testing.T
	from  int           // events before it belong to earlier trials
	tasks []trace.Event // our threads when the trial began
	said  sync.Once     // the report is sent once
	error string        // why the trial could not be made
}

// Holds is a piece of a trial: what would be so, were the claim true. The words say
// what, in the present tense, so that they can be read with yes or no before them.
func Holds(so bool, words string, args ...any) ledger.Piece {
	return piece(ledger.Holds, so, words, args)
}

// But is a piece of the trial of a claim that is true with a qualification: what
// shows the qualification.
func But(so bool, words string, args ...any) ledger.Piece { return piece(ledger.But, so, words, args) }

// Instead is a piece of the trial of a claim that is not so: what the kernel does.
func Instead(so bool, words string, args ...any) ledger.Piece {
	return piece(ledger.Instead, so, words, args)
}

func piece(part ledger.Part, so bool, words string, args []any) ledger.Piece {
	return ledger.Piece{Part: part, So: so, Words: fmt.Sprintf(words, args...)}
}

// place is what all trials of a run share.
var place struct {
	sync.Mutex
	collector *trace.Collector
	records   *wire.Records
	events    []trace.Event // all, as they came
	table     *ledger.Table
	headers   map[string]string // what the compiler said of testdata/headers
}

// Probes that every trial's trace has beyond those of every trace.
var probes = []string{trace.Connect, trace.Release, trace.Attach, trace.Take, trace.Filter, trace.PutCmsg, trace.SetOption, trace.Broadcast, trace.Readable, trace.ScmSend}

// setUp begins the trace. It is done once, by the first trial.
var setUp = sync.OnceValue(func() error {
	var err error
	if place.table, err = ledger.Read(files); err != nil {
		return err
	}
	if place.records, err = wire.OpenRecords(""); err != nil {
		return err
	}
	if b, err := os.ReadFile(HeadersFile); err == nil {
		if err := json.Unmarshal(b, &place.headers); err != nil {
			return fmt.Errorf("%s: %w", HeadersFile, err)
		}
	}
	place.collector, err = trace.Start(trace.Config{
		Keep: true, Probes: probes, Events: trace.NamespaceEvents(),
		Emit: func(e trace.Event) {
			place.Lock()
			defer place.Unlock()
			place.events = append(place.events, e)
		},
	})
	return err
})

// Try begins the trial of the claim that the test is named after. Outside of the VM
// the test is skipped.
func Try(t *testing.T) *Trial {
	t.Helper()
	if os.Getenv(wire.EnvGuest) == "" {
		t.Skip(HowToRun)
	}
	if err := setUp(); err != nil {
		t.Fatal(err)
	}
	c := &Trial{t: t}
	c.Task = &Task{c: c, PID: os.Getpid(), call: do}
	id, ok := ledger.RowOf(t.Name())
	if c.Row = place.table.Row(id); !ok || c.Row == nil || !c.Row.Tried() {
		t.Fatalf("there is no row for %s that is tried: its id is what the test's name begins with, TestA0_85_ that of A0-85", t.Name())
	}
	t.Cleanup(func() { c.report(ledger.Report{Error: cmp.Or(c.error, "the test ended without a verdict")}) }) // the first report counts
	c.sync()
	place.Lock()
	c.from = len(place.events)
	place.Unlock()
	c.tasks = threads()
	return c
}

// fatal ends the trial: it could not be made, and says nothing about the claim.
func (c *Trial) fatal(format string, args ...any) {
	c.t.Helper()
	c.error = fmt.Sprintf(format, args...)
	c.t.Fatal("the trial could not be made: ", c.error)
}

// Must ends the trial where something failed that is not the question.
func (c *Trial) Must(err error, what string, args ...any) {
	c.t.Helper()
	if err != nil {
		c.fatal("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

func (c *Trial) sync() {
	if err := place.collector.Sync(); err != nil {
		c.fatal("reading the trace: %v", err)
	}
}

// threads returns an event for each thread that we have: to the trace of a trial they
// are born with it.
func threads() []trace.Event {
	var events []trace.Event
	self := os.Getpid()
	dirs, _ := filepath.Glob("/proc/self/task/*")
	for _, dir := range dirs {
		tid, _ := strconv.Atoi(filepath.Base(dir))
		e := trace.Event{Task: self, Name: trace.NewTask}
		events = append(events, e.With("pid", tid).With("clone_flags", unix.CLONE_THREAD))
	}
	return events
}

// trace is what the kernel was seen to do since the trial began.
func (c *Trial) trace() *trace.Trace {
	place.Lock()
	own := append(append([]trace.Event(nil), c.tasks...), place.events[c.from:]...)
	place.Unlock()
	for i := range own {
		own[i].Seq = i + 1
		if i < len(c.tasks) {
			own[i].Time = 0
		}
	}
	return trace.New(own...)
}

// Trace returns what the kernel did since the trial began: for the test and for the
// processes that it started. Questions to it are those of a lab's check.
func (c *Trial) Trace() *trace.Program {
	c.t.Helper()
	c.sync()
	tr := c.trace()
	if l := tr.Lost(); l.Any() {
		c.fatal("the trace has gaps: %s", l)
	}
	return tr.Program(os.Getpid(), "")
}

// WaitFor waits until the trace says so. Use it to act at a certain point of the order.
func (c *Trial) WaitFor(what string, cond func(*trace.Program) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	err := place.collector.WaitFor(ctx, func(*trace.Trace) bool { return cond(c.trace().Program(os.Getpid(), "")) })
	if err != nil {
		c.fatal("waiting until %s: %v", what, err)
	}
}

// Verdict ends the trial: what was seen gives the verdict, and it must be the table's
// for this kernel.
func (c *Trial) Verdict(pieces ...ledger.Piece) {
	c.t.Helper()
	want := c.Row.For(ledger.SeriesOf(release()))
	got, err := ledger.Judge(pieces)
	r := ledger.Report{Pieces: pieces, Useless: ledger.Invert(want, pieces)}
	for _, p := range pieces {
		c.t.Log(p)
	}
	c.report(r)
	if os.Getenv(EnvInvert) != "" {
		// Only if nothing could be turned around the row passes.
		if err == nil && ledger.Agrees(want, got) && len(r.Useless) == 0 {
			c.t.Fatalf("the opposite of %s is not what the kernel does", want)
		}
		return
	}
	switch {
	case err != nil:
		c.t.Fatalf("no verdict: %v", err)
	case !ledger.Agrees(want, got):
		c.t.Fatalf("the verdict is %s; the table has %s", got, want)
	}
}

// Dies says that the kernel is going to die of what comes next, with what words on its
// console, and what was seen before. If it does, the verdict is that of these pieces;
// when it lives on, the trial has failed. The row has a boot of its own (alone = true).
func (c *Trial) Dies(words string, pieces ...ledger.Piece) {
	c.t.Helper()
	for _, p := range pieces {
		c.t.Log(p)
	}
	place.records.Send(c.record(ledger.Report{Pieces: pieces, Dies: words,
		Useless: ledger.Invert(c.Row.For(ledger.SeriesOf(release())), pieces)}))
	c.Must(place.records.Flush(), "sending what was seen")
	c.error = "the kernel lives"
}

func (c *Trial) report(r ledger.Report) {
	c.said.Do(func() { place.records.Send(c.record(r)) })
}

func (c *Trial) record(r ledger.Report) wire.Record {
	r.Row, r.Test = c.Row.ID, c.t.Name()
	if os.Getenv(EnvTimeline) != "" && place.collector.Sync() == nil {
		r.Steps = c.trace().Program(os.Getpid(), "").Timeline()
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return wire.Record{Kind: wire.KindClaim, Claim: b}
}

// release is the kernel's, as uname -r prints it.
func release() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:])
}

// Param writes a parameter of a loaded module, and puts it back when the trial is
// over.
func (c *Trial) Param(module, name string, value any) {
	c.t.Helper()
	path := filepath.Join("/sys/module", module, "parameters", name)
	old, err := os.ReadFile(path)
	c.Must(err, "reading a parameter")
	c.Write(module, name, value)
	c.t.Cleanup(func() { _ = os.WriteFile(path, []byte(strings.TrimSpace(string(old))), 0) })
}

// Write writes a parameter that is a command, such as nlnotify's trigger, and has
// nothing that could be put back.
func (c *Trial) Write(module, name string, value any) {
	c.t.Helper()
	path := filepath.Join("/sys/module", module, "parameters", name)
	c.Must(os.WriteFile(path, fmt.Append(nil, value), 0), "setting %s of %s to %v", name, module, value)
}

// Module is what a file below a loaded module's folder in /sys/module says.
func (c *Trial) Module(module, file string) string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/module", module, file))
	c.Must(err, "reading %s of %s", file, module)
	return strings.TrimSpace(string(b))
}

// references is how many hold a loaded module.
func references(c *Trial, module string) int {
	c.t.Helper()
	n, err := strconv.Atoi(c.Module(module, "refcnt"))
	c.Must(err, "reading how many hold %s", module)
	return n
}

// news has nlnotify tell its group something, in a task and in its timer's softirq, and
// a member hear it. It returns how both were sent.
func news(c *Trial, member *Socket) (task, timer trace.Event) {
	c.t.Helper()
	member.Join(1)
	c.Param("nlnotify", "via", "group")
	sent := func(p *trace.Program, softirq int64) trace.Event {
		return p.Events(trace.NotifySend).Where("via", trace.NotifyGroup).Where("softirq", softirq).Where("ret", 0).First()
	}
	c.Write("nlnotify", "trigger", 1)
	c.Param("nlnotify", "interval_ms", 10)
	c.WaitFor("the timer has told something", func(p *trace.Program) bool { return sent(p, 1).Seen() })
	c.Write("nlnotify", "interval_ms", 0) // a probe that interrupts another is not recorded
	run := c.Trace()
	return sent(run, 0), sent(run, 1)
}

// members are sockets of these tasks, which are in a group.
func members(protocol, group int, tasks ...*Task) []*Socket {
	var members []*Socket
	for _, k := range tasks {
		m := k.Bound(protocol)
		m.Join(group)
		members = append(members, m)
	}
	return members
}

// symbols are the names in /proc/kallsyms, and where they are. To read them takes most of
// a second.
var symbols = sync.OnceValues(func() (map[string]uint64, error) {
	b, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return nil, err
	}
	names := map[string]uint64{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 {
			names[f[2]], _ = strconv.ParseUint(f[0], 16, 64)
		}
	}
	return names, nil
})

// Symbol tells whether the kernel has a function or a variable of that name.
func (c *Trial) Symbol(name string) bool {
	c.t.Helper()
	names, err := symbols()
	c.Must(err, "reading the kernel's symbols")
	_, ok := names[name]
	return ok
}

// Address is where the kernel has a function or a variable, or 0.
func (c *Trial) Address(name string) uint64 {
	c.t.Helper()
	names, err := symbols()
	c.Must(err, "reading the kernel's symbols")
	return names[name]
}

// HeadersFile is where the tool puts what became of the C files in testdata/headers,
// by name: they were compiled with the headers of the kernel that runs.
const HeadersFile = "/job/headers.json"

// Compiled is what became of a C file.
type Compiled struct {
	OK     bool
	Errors string // what the compiler said
}

// Compiles tells whether testdata/headers/NAME.c compiles with this kernel's headers.
func (c *Trial) Compiles(name string) Compiled {
	c.t.Helper()
	errors, ok := place.headers[name]
	if !ok {
		c.fatal("testdata/headers/%s.c was not compiled: is it there?", name)
	}
	if errors != "" {
		c.t.Log(errors)
	}
	return Compiled{errors == "", errors}
}

// Says tells whether the compiler refused it with these words.
func (k Compiled) Says(words string) bool { return strings.Contains(k.Errors, words) }

// Unknown tells whether the compiler refused it since it has not heard of these names.
func (k Compiled) Unknown(names ...string) bool {
	for _, n := range names {
		if !k.Says("'" + n + "' undeclared") {
			return false
		}
	}
	return true
}
