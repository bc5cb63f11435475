// SPDX-License-Identifier: MIT

package trace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config says what a [Collector] collects. Its zero value is right for a check in a throw-away VM.
type Config struct {
	// Dir is where tracefs is mounted. Default: /sys/kernel/tracing. Start does not mount it.
	Dir string

	// Instance names a trace instance of our own, for a machine on which others trace too. Default: the top-level
	// buffer, the only one that the kernel prints when it dies (ftrace_dump_on_oops).
	Instance string

	// Probes names kernel functions beyond those of every trace: [Connect], [Release], [Attach], [SetSockOpt],
	// [ScmSend], [Take], [Filter], [PutCmsg], [SetOption], [Broadcast], [Readable]. Each costs about 15 ms under emulation.
	Probes []string

	// Events names tracepoints beyond those of every trace, "signal:signal_generate", or all of a group, "nlnotify".
	// The kernel must have them. Of a busy one it records only what passes a filter of its own language
	// (Documentation/trace/events.rst): "sched:sched_switch if prev_state & 2".
	Events []string

	// Emit is called for each event, live and in order, never by two goroutines at once. It must not call the
	// Collector.
	Emit func(Event)

	// Interval is how often the kernel's buffers are read; an event is emitted at most this much after it happened.
	// Default: 10 ms.
	Interval time.Duration

	// BufferKB is the size of the kernel's buffer for one CPU. Default: what the kernel has (1408), some 20,000 events.
	BufferKB int

	// Keep says that nobody else uses this kernel: in a VM that is thrown away. Close leaves the probes in place, as
	// removing them is time lost, and Start may switch off all function tracing for a moment.
	Keep bool

	// Record, where not nil, is given the formats and the raw pages too, for tests.
	Record *Recording
}

// Add adds what a lab.toml names under trace: kernel functions by their names, to Probes, tracepoints as "group:name",
// to Events, and "sleep" for [SleepEvents].
func (c *Config) Add(names ...string) {
	for _, name := range names {
		switch {
		case name == "sleep":
			c.Events = append(c.Events, SleepEvents()...)
		case strings.Contains(name, ":"):
			c.Events = append(c.Events, name)
		default:
			c.Probes = append(c.Probes, name)
		}
	}
}

// Collector collects the events of this machine's kernel. All of its methods may be called by several goroutines.
type Collector struct {
	cfg  Config
	root string // tracefs
	dir  string // the buffer: root, or an instance in it

	stop chan struct{}
	done chan struct{}

	printedMu sync.Mutex // guards printed
	printed   []Event    // lines of programs, not in pending yet

	mu       sync.Mutex // guards all below
	changed  *sync.Cond
	cpus     []*cpu
	marker   int // descriptor of trace_marker
	dec      *decoder
	unread   []unread         // enabled events that have not been met yet
	trace    *Trace           // everything emitted
	pending  []Event          // decoded, but not yet emitted: another CPU may still have an earlier one
	syncs    int              // markers written
	seen     int              // the last marker that came out of the buffer
	misses   map[string]int64 // reported already, by probe
	nameless int64            // sends without an address, see newMisses
	faults   bool             // this kernel counts them as misses
	enabled  []string         // paths of enable files that were written
	defined  []string         // names of probes that were defined
	err      error            // why collecting ended early
	closed   bool
	setUp    time.Duration
	instance bool
}

// unread is an enabled event of which it is not known yet which ID it has.
type unread struct {
	event string // GROUP/NAME
	text  string // its format file, once it has been read
}

// cpu is one trace_pipe_raw.
type cpu struct {
	id, fd int
	page   []byte
}

// Start sets up the probes and begins to collect. It needs root and a mounted tracefs. Load modules whose events are
// wanted before it, or call Enable after.
//
// Events come in the order of CLOCK_MONOTONIC; events that are older than Start are dropped.
func Start(cfg Config) (*Collector, error) {
	begin := time.Now()
	if cfg.Dir == "" {
		cfg.Dir = "/sys/kernel/tracing"
	}
	if cfg.Interval <= 0 {
		cfg.Interval = 10 * time.Millisecond
	}
	c := &Collector{
		cfg: cfg, root: cfg.Dir, dir: cfg.Dir, marker: -1,
		stop: make(chan struct{}), done: make(chan struct{}),
		trace: New(), misses: map[string]int64{},
	}
	c.changed = sync.NewCond(&c.mu)
	if err := c.start(); err != nil {
		c.tearDown()
		return nil, err
	}
	c.setUp = time.Since(begin)
	go c.collect()
	return c, nil
}

func (c *Collector) start() error {
	if _, err := os.Stat(filepath.Join(c.root, "kprobe_events")); err != nil {
		switch {
		case errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("trace: read %s: permission denied; tracing needs root", c.root)
		default:
			return fmt.Errorf("trace: %s has no kprobe_events; mount it first (mount -t tracefs nodev %s), on a kernel with CONFIG_KPROBE_EVENTS", c.root, c.root)
		}
	}
	if c.cfg.Instance != "" {
		c.dir = filepath.Join(c.root, "instances", c.cfg.Instance)
		if err := os.Mkdir(c.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("trace: make the trace instance %s: %w", c.cfg.Instance, err)
		}
		c.instance = true
	}
	if err := c.setClock(); err != nil {
		return err
	}
	if c.cfg.BufferKB > 0 {
		if err := c.write("buffer_size_kb", strconv.Itoa(c.cfg.BufferKB)); err != nil {
			return err
		}
	}
	if err := c.define(); err != nil {
		return err
	}

	text, err := os.ReadFile(filepath.Join(c.root, "events/header_page"))
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	header, err := ParseHeaderPage(string(text))
	if err != nil {
		return err
	}
	c.dec = newDecoder(header, c.format)
	if c.cfg.Record != nil {
		c.cfg.Record.HeaderPage = string(text)
	}
	if err := c.open(header.Size); err != nil {
		return err
	}

	c.unread = []unread{{event: "ftrace/print"}}
	if err := c.arm(); err != nil {
		return err
	}
	for _, e := range moduleEvents {
		if err := c.enable(e, false); err != nil {
			return err
		}
	}
	events := slices.Clone(otherEvents)
	for _, call := range systemCalls {
		events = append(events, "syscalls/sys_enter_"+call, "syscalls/sys_exit_"+call)
	}
	for _, e := range c.cfg.Events {
		events = append(events, strings.Replace(e, ":", "/", 1))
	}
	for _, e := range events {
		if err := c.enable(e, true); err != nil {
			return err
		}
	}

	on, err := os.ReadFile(filepath.Join(c.dir, "tracing_on"))
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	if strings.TrimSpace(string(on)) != "1" {
		if err := c.write("tracing_on", "1"); err != nil {
			return err
		}
	}
	// The counters of missed hits never go back: those of an earlier collector are not ours.
	counts, err := c.readMisses()
	if err != nil {
		return err
	}
	c.newMisses(counts)
	c.faults = before(5, 14)
	// Whatever is in the buffer before this marker is not ours either.
	return c.reach()
}

// setClock makes the buffer's clock CLOCK_MONOTONIC, which the programs and the checks can read too. Setting it waits
// 50 ms for all CPUs under emulation, so it is looked at first: trace_clock=mono on the kernel's command line saves that.
func (c *Collector) setClock() error {
	clocks, err := os.ReadFile(filepath.Join(c.dir, "trace_clock"))
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	if strings.Contains(string(clocks), "[mono]") {
		return nil
	}
	return c.write("trace_clock", "mono")
}

// define makes the probes that do not exist yet. All are written at once: the kernel takes them line by line, and
// searches its table of symbols for each, which up to 6.1 takes nearly all of the time.
func (c *Collector) define() error {
	chosen, err := choose(c.cfg.Probes)
	if err != nil {
		return err
	}
	existing := ""
	if _, err := os.Stat(filepath.Join(c.root, "events", group)); err == nil {
		text, err := os.ReadFile(filepath.Join(c.root, "kprobe_events"))
		if err != nil {
			return fmt.Errorf("trace: %w", err)
		}
		existing = string(text)
	}
	var lines strings.Builder
	for _, p := range chosen {
		if p.symbols == nil {
			lines.WriteString(p.define(p.name))
		}
	}
	if err := c.probe(lines.String(), existing); err != nil {
		return err
	}
	for _, p := range chosen {
		if p.symbols == nil || slices.ContainsFunc(p.symbols, func(f string) bool { return hasProbes(existing, p.define(f)) }) {
			continue
		}
		there, err := existing, error(nil)
		for _, function := range p.symbols {
			if err = c.probe(p.define(function), there); err == nil {
				break
			}
			there = "" // what was there under that name has been removed
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hasProbes reports whether all these probes are among the existing ones.
func hasProbes(existing, lines string) bool {
	for line := range strings.Lines(lines) {
		name, args := probeLine(line)
		found := false
		for old := range strings.Lines(existing) {
			n, a := probeLine(old)
			found = found || n == name && a == args
		}
		if !found {
			return false
		}
	}
	return true
}

// probe defines these probes, but those that exist already.
func (c *Collector) probe(lines, existing string) error {
	var define, stale strings.Builder
	for line := range strings.Lines(lines) {
		name, args := probeLine(line)
		found, foundArgs := "", ""
		for old := range strings.Lines(existing) {
			if n, a := probeLine(old); n == name {
				found, foundArgs = n, a
			}
		}
		if found != "" && foundArgs == args {
			continue // left by an earlier collector in this VM
		}
		if found != "" {
			fmt.Fprintf(&stale, "-:%s\n", name)
		}
		define.WriteString(line)
		if name = strings.TrimPrefix(name, group+"/"); !slices.Contains(c.defined, name) {
			c.defined = append(c.defined, name)
		}
	}
	if stale.Len() > 0 {
		if err := c.writeTo(filepath.Join(c.root, "kprobe_events"), stale.String()); err != nil {
			return fmt.Errorf("%w; probes of another version are in use: end the other check, or reboot", err)
		}
	}
	if define.Len() == 0 {
		return nil
	}
	if err := c.writeTo(filepath.Join(c.root, "kprobe_events"), define.String()); err != nil {
		return fmt.Errorf("%w; %s", err, c.probeError())
	}
	return nil
}

// arm enables the probes. For each one's function the kernel goes through all functions that it could trace, some
// 50,000, and again to change their code; the latter it does but once, after all, if ftrace is off meanwhile. That saves
// 30 ms of 70 under emulation. On a machine that others use too it would take their tracing away for a moment.
func (c *Collector) arm() error {
	const ftrace = "/proc/sys/kernel/ftrace_enabled"
	off := c.cfg.Keep && len(c.defined) > 0 && c.writeTo(ftrace, "0") == nil
	err := c.filter()
	if err == nil {
		err = c.enable(group, true)
	}
	if off {
		if err := c.writeTo(ftrace, "1"); err != nil {
			return err // without it no probe would ever be hit
		}
	}
	return err
}

// filter sets the filters of probes that have one.
func (c *Collector) filter() error {
	for _, p := range probes {
		file := filepath.Join(c.dir, "events", group, p.name, "filter")
		if p.only == "" || !slices.Contains(c.cfg.Probes, p.name) {
			continue
		}
		if err := c.writeTo(file, p.only); err != nil {
			return err
		}
	}
	return nil
}

// probeLine takes a line of kprobe_events apart into "GROUP/NAME" and what is probed. The kernel prints back what was
// written, except for the maximum of active calls.
func probeLine(line string) (name, rest string) {
	head, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	_, name, _ = strings.Cut(head, ":")
	return name, rest
}

// probeError says which function the kernel did not accept, from its own log.
func (c *Collector) probeError() string {
	log, err := os.ReadFile(filepath.Join(c.root, "error_log"))
	if err != nil || len(log) == 0 {
		return "is CONFIG_KPROBE_EVENTS set, and has the kernel a symbol for each function?"
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return "the kernel says: " + strings.Join(lines[max(0, len(lines)-3):], " ")
}

// Enable begins to collect further events, "GROUP:NAME" or all of a "GROUP": those of a module loaded after Start.
func (c *Collector) Enable(events ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range events {
		if err := c.enable(strings.Replace(e, ":", "/", 1), true); err != nil {
			return err
		}
	}
	return nil
}

// enable switches on an event, GROUP/NAME, with " if FILTER" behind it or without, or a GROUP of them.
func (c *Collector) enable(event string, mandatory bool) error {
	event, filter, filtered := strings.Cut(event, " if ")
	path := filepath.Join(c.dir, "events", event)
	file := filepath.Join(path, "enable")
	var err error
	if filtered {
		err = c.writeTo(filepath.Join(path, "filter"), filter)
	}
	if err == nil {
		err = c.writeTo(file, "1")
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && mandatory:
		return fmt.Errorf("trace: this kernel has no event %s; is its module loaded, and is the name one of %s?", strings.Replace(event, "/", ":", 1), filepath.Join(c.root, "available_events"))
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	c.enabled = append(c.enabled, file)
	if filtered {
		c.enabled = append(c.enabled, filepath.Join(path, "filter")) // 0 takes it away
	}
	if strings.Contains(event, "/") {
		c.unread = append(c.unread, unread{event: event})
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			c.unread = append(c.unread, unread{event: event + "/" + e.Name()})
		}
	}
	clear(c.dec.ignored) // the ID of a module's event may have been that of another's
	return nil
}

// format finds the event with this ID. Formats are read only now, when the first event of a kind is met: most kinds
// never are, and reading all of them at the start takes 15 ms under emulation.
func (c *Collector) format(id int) *Format {
	want := fmt.Sprintf("\nID: %d\n", id)
	for i := range c.unread {
		u := &c.unread[i]
		if u.text == "" {
			text, err := os.ReadFile(filepath.Join(c.dir, "events", u.event, "format"))
			if err != nil {
				continue // its module has been unloaded
			}
			u.text = string(text)
		}
		if !strings.Contains(u.text, want) {
			continue
		}
		f, err := ParseFormat(u.text)
		if err != nil {
			c.fail(err)
			return nil
		}
		if c.cfg.Record != nil {
			c.cfg.Record.Formats = append(c.cfg.Record.Formats, u.text)
		}
		c.unread = slices.Delete(c.unread, i, i+1)
		return f
	}
	return nil // somebody else's event
}

func (c *Collector) open(pageSize int) error {
	dirs, err := filepath.Glob(filepath.Join(c.dir, "per_cpu/cpu*"))
	if err != nil || len(dirs) == 0 {
		return fmt.Errorf("trace: %s has no buffers in per_cpu", c.dir)
	}
	for _, dir := range dirs {
		id, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "cpu"))
		if err != nil {
			continue
		}
		// Not an os.File: the Go runtime would poll it, and wake up for each event.
		fd, err := openFile(filepath.Join(dir, "trace_pipe_raw"), unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return err
		}
		c.cpus = append(c.cpus, &cpu{id: id, fd: fd, page: make([]byte, pageSize)})
	}
	sort.Slice(c.cpus, func(i, j int) bool { return c.cpus[i].id < c.cpus[j].id })
	c.marker, err = openFile(filepath.Join(c.dir, "trace_marker"), unix.O_WRONLY)
	return err
}

// collect reads the buffers until Close. It reads by the clock, not by poll: being woken for each event would double
// what a traced call costs.
func (c *Collector) collect() {
	defer close(c.done)
	tick := time.NewTicker(c.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		c.drain()
		c.mu.Unlock()
	}
}

// drain reads all that is in the buffers, and emits what no other CPU can still come before. c.mu is held.
func (c *Collector) drain() {
	if c.err != nil || c.closed {
		return
	}
	// What was recorded before this moment is in the buffers already, whichever CPU recorded it.
	limit := now()
	for _, cpu := range c.cpus {
		for {
			size, err := unix.Read(cpu.fd, cpu.page)
			if err == unix.EINTR {
				continue
			}
			if err != nil && err != unix.EAGAIN {
				c.fail(fmt.Errorf("trace: read the buffer of CPU %d: %w", cpu.id, err))
				return
			}
			if size <= 0 {
				break
			}
			if c.cfg.Record != nil {
				c.cfg.Record.add(cpu.id, cpu.page[:size])
			}
			if c.pending, err = c.dec.page(c.pending, cpu.id, cpu.page[:size]); err != nil {
				c.fail(err)
				return
			}
		}
	}
	// After the buffers: a line that is not here yet is later than all that was in them.
	c.printedMu.Lock()
	c.pending = append(c.pending, c.printed...)
	c.printed = nil
	c.printedMu.Unlock()
	if len(c.pending) == 0 {
		return
	}
	slices.SortStableFunc(c.pending, byTime)
	ready := len(c.pending)
	if len(c.cpus) > 1 {
		ready = sort.Search(len(c.pending), func(i int) bool { return c.pending[i].Time > limit })
	}
	emitted := false
	for _, e := range c.pending[:ready] {
		if e.Name == "print" {
			c.mark(e.Text("buf"))
			continue
		}
		if e.Name == Sendmsg && e.Int("namelen") == 0 {
			c.nameless++
		}
		if c.seen == 0 || c.ours(e) {
			continue // older than Start, or of no interest
		}
		c.emit(e)
		emitted = true
	}
	c.pending = slices.Delete(c.pending, 0, ready)
	if emitted {
		c.changed.Broadcast()
	}
}

// ours reports whether e is a write or a close of a process that is older than the trace: of the one that traces, or of
// one that carries its reports on. Emit writes, most likely, and a write that is an event would be emitted in its turn,
// for ever. Of sleeping and waking, which everybody does all the time, only that is of interest which happens inside one
// of the kernel's functions that are traced.
func (c *Collector) ours(e Event) bool {
	switch e.Name {
	case "sys_enter_write", "sys_exit_write", "sys_enter_close", "sys_exit_close":
		return c.older(e.Task)
	case Switch:
		return !c.inKernel(int(e.Int("prev_pid")))
	case Waking:
		return !c.inKernel(int(e.Int("pid")))
	}
	return false
}

// older reports whether a task is older than the trace.
func (c *Collector) older(task int) bool {
	k := c.trace.tasks[task]
	return k == nil || k.proc.began == 0
}

// inKernel reports whether a task is inside a function of the kernel that is traced.
func (c *Collector) inKernel(task int) bool {
	k := c.trace.tasks[task]
	return k != nil && slices.ContainsFunc(k.open, func(c *Call) bool { return !c.isSyscall() })
}

func (c *Collector) emit(e Event) {
	e.Seq = len(c.trace.events) + 1
	c.trace.Add(e)
	if c.cfg.Emit != nil {
		c.cfg.Emit(e)
	}
}

func byTime(a, b Event) int {
	switch {
	case a.Time < b.Time:
		return -1
	case a.Time > b.Time:
		return 1
	}
	return 0
}

// now is CLOCK_MONOTONIC, the clock of the buffer.
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // the clock exists on every Linux
	}
	return ts.Nano()
}

// Output puts a line that a program printed into the stream. task is the program's process ID, fd 1 or 2.
//
// It never waits for Config.Emit: where that is slow, the line would get the time of the end of the wait.
func (c *Collector) Output(task, fd int, line string) {
	e := Event{CPU: -1, Task: task, Name: Output}.With("fd", fd).With("text", line)
	c.printedMu.Lock()
	defer c.printedMu.Unlock()
	// Its place is after all that is in the buffers now; see drain.
	e.Time = now()
	c.printed = append(c.printed, e)
}

// Sync returns when every event that happened before the call has been emitted. It writes a marker into the buffer and
// reads until the marker comes out: no waiting for time to pass.
func (c *Collector) Sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sync()
}

func (c *Collector) sync() error {
	if c.closed {
		return errors.New("trace: the collector is closed")
	}
	counted, err := c.readMisses() // before the events, so that those which explain a count have been seen
	if err != nil {
		return err
	}
	if err := c.reach(); err != nil {
		return err
	}
	misses := c.newMisses(counted)
	for _, e := range misses {
		c.emit(e)
	}
	if len(misses) > 0 {
		c.changed.Broadcast()
	}
	return nil
}

// reach writes a marker into the buffer and reads until it comes out.
func (c *Collector) reach() error {
	// A marker is in its buffer when the write returns, so the first reading finds it. Only where the buffer overran
	// meanwhile can it be gone; then the next one is found.
	for try := 0; try < 100; try++ {
		if err := c.writeMarker(); err != nil {
			return err
		}
		c.drain()
		if c.err != nil || c.seen == c.syncs {
			return c.err
		}
		runtime.Gosched()
	}
	return fmt.Errorf("trace: a marker written to %s/trace_marker never came out: has something else stopped the trace, or does it read the same buffer?", c.dir)
}

const markerText = "netlink-labs marker "

func (c *Collector) writeMarker() error {
	c.syncs++
	text := markerText + strconv.Itoa(os.Getpid()) + " " + strconv.Itoa(c.syncs)
	if _, err := unix.Write(c.marker, []byte(text)); err != nil {
		return fmt.Errorf("trace: write to %s/trace_marker: %w", c.dir, err)
	}
	return nil
}

// mark notes that a marker has come out of the buffer. Those of an earlier collector carry another process ID.
func (c *Collector) mark(text string) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), markerText+strconv.Itoa(os.Getpid())+" ")
	if n, err := strconv.Atoi(rest); ok && err == nil && n <= c.syncs {
		c.seen = max(c.seen, n)
	}
}

// readMisses returns how often each probe was hit without being recorded, since it was made.
func (c *Collector) readMisses() ([]missCount, error) {
	text, err := os.ReadFile(filepath.Join(c.root, "kprobe_profile"))
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	var counts []missCount
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) != 3 {
			continue
		}
		if n, err := strconv.ParseInt(words[2], 10, 64); err == nil && n > 0 {
			counts = append(counts, missCount{words[0], n})
		}
	}
	return counts, nil
}

type missCount struct {
	probe string
	count int64
}

// newMisses returns an event for each probe whose count has grown since the last call.
//
// Up to 5.13 a kernel adds to the count of a probe that was recorded well, for each page fault in its handler
// (kprobe_fault_handler). There is one such: netlink_sendmsg's where the caller gave no address, as the handler then
// reads "family", "to" and "to_groups" through a null pointer. It faults twice for each, the second time byte by byte.
func (c *Collector) newMisses(counts []missCount) []Event {
	var events []Event
	for _, m := range counts {
		if c.faults && strings.TrimSuffix(m.probe, ret) == Sendmsg {
			m.count -= 6 * c.nameless
		}
		if n := m.count - c.misses[m.probe]; n > 0 {
			events = append(events, Event{Time: now(), CPU: -1, Name: Missed}.With("probe", m.probe).With("count", n))
			c.misses[m.probe] = m.count
		}
	}
	return events
}

// before reports whether this kernel is older than that version.
func before(major, minor int) bool {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return false
	}
	var x, y int
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &x, &y); n != 2 {
		return false
	}
	return x < major || x == major && y < minor
}

// Trace returns the model of everything that happened up to now.
func (c *Collector) Trace() (*Trace, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.sync(); err != nil {
		return nil, err
	}
	return New(c.trace.events...), nil
}

// WaitFor returns when cond is true of the trace so far: at once, or after the event that makes it so. cond is called
// again after each batch of events; it must neither keep the Trace nor call the Collector.
func (c *Collector) WaitFor(ctx context.Context, cond func(*Trace) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	wake := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer wake()
	for {
		switch {
		case cond(c.trace):
			return nil
		case c.err != nil:
			return c.err
		case c.closed:
			return errors.New("trace: the collector was closed before what was waited for happened")
		case ctx.Err() != nil:
			return fmt.Errorf("trace: what was waited for did not happen: %w", context.Cause(ctx))
		}
		c.changed.Wait()
	}
}

// SetUp is the time that Start took.
func (c *Collector) SetUp() time.Duration { return c.setUp }

// fail ends collecting; the next call that can return an error returns this one.
func (c *Collector) fail(err error) {
	if c.err == nil {
		c.err = err
		c.changed.Broadcast()
	}
}

// Close emits what is left and ends the collection. It removes the probes unless Config.Keep is set.
func (c *Collector) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	err := c.sync()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()

	close(c.stop)
	<-c.done
	return errors.Join(err, c.tearDown())
}

// tearDown undoes what start has done so far.
func (c *Collector) tearDown() error {
	for _, cpu := range c.cpus {
		unix.Close(cpu.fd)
	}
	if c.marker >= 0 {
		unix.Close(c.marker)
	}
	if c.cfg.Keep {
		return nil
	}
	var errs []error
	if c.instance { // its events are switched off with it, all at once
		errs = append(errs, removeInstance(c.dir))
	} else {
		for _, file := range slices.Backward(c.enabled) {
			if err := c.writeTo(file, "0"); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(append(errs, c.undefine(c.defined))...)
}

func removeInstance(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("trace: remove the trace instance: %w", err)
	}
	return nil
}

// undefine removes those of our probes that there are, by name.
func (c *Collector) undefine(names []string) error {
	var remove strings.Builder
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(c.root, "events", group, name)); err == nil {
			fmt.Fprintf(&remove, "-:%s/%s\n", group, name)
		}
	}
	if remove.Len() == 0 {
		return nil
	}
	return c.writeTo(filepath.Join(c.root, "kprobe_events"), remove.String())
}

// CleanUp removes what a collector has left whose process was killed: the instance, and the probes. dir is where
// tracefs is mounted. It is no error that there is nothing.
func CleanUp(dir, instance string) error {
	err := removeInstance(filepath.Join(dir, "instances", instance))
	entries, readErr := os.ReadDir(filepath.Join(dir, "events", group))
	if errors.Is(readErr, fs.ErrNotExist) {
		return err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return errors.Join(err, readErr, (&Collector{root: dir}).undefine(names))
}

func (c *Collector) write(file, text string) error {
	return c.writeTo(filepath.Join(c.dir, file), text)
}

// writeTo writes text to a control file of tracefs, in one write.
func (c *Collector) writeTo(path, text string) error {
	fd, err := openFile(path, unix.O_WRONLY|unix.O_APPEND)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		_, err = unix.Write(fd, []byte(text))
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		if len(text) > 40 {
			text = text[:40] + " ..."
		}
		return fmt.Errorf("trace: write %q to %s: %w", text, path, err)
	}
	return nil
}

func openFile(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &fs.PathError{Op: "trace: open", Path: path, Err: err}
		}
		return fd, nil
	}
}
