// SPDX-License-Identifier: MIT

package guest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/wire"
)

// How long a program may do nothing, run in all, and how much it may print. A
// limit only ends what would never end; nothing is judged by it. In a VM that is very
// slow, times are longer: see stretch.
const (
	idleLimit   = 10 * time.Second // without output, trace event or exit
	totalLimit  = 60 * time.Second
	outputLimit = 1 << 20 // bytes
	lineMax     = 2000    // lines: each one is several events of the trace
	lineLimit   = 64 << 10
)

// DeepRecursion says what a program has done whose message nlecho has refused with the
// reason trace.RejectedDeep.
const DeepRecursion = "this program would have crashed the kernel: nlecho answered itself, each time inside of the other, " +
	"and only the guard that it has on this machine has ended that. In a throw-away VM you can watch it happen: WHERE=vm"

// Program is the program under test while it runs.
type Program struct {
	*confined
	// Input is the program's standard input. Closing it is the end of file.
	Input io.WriteCloser

	mu     sync.Mutex
	lines  []wire.Output
	bytes  int
	flood  bool
	active time.Time
	ending chan struct{} // closed when the watch ends the program
	over   chan struct{}
	end    End
}

// End says how a program ended.
type End struct {
	Code   int            // exit code, -1 after a signal
	Signal syscall.Signal // that ended it, or 0
	// Stopped is why we ended it: "" when it ended by itself.
	Stopped string
}

// OK tells whether the program ended by itself with exit code 0.
func (e End) OK() bool { return e.Code == 0 && e.Stopped == "" }

func (e End) String() string {
	switch {
	case e.Stopped != "":
		return "was stopped: it " + e.Stopped
	case e.Signal != 0:
		return "was ended by " + unix.SignalName(e.Signal)
	default:
		return fmt.Sprintf("ended with exit code %d", e.Code)
	}
}

// Start starts the program confined. line is called for each line it prints,
// from two goroutines; it may be nil.
func (s *Spec) Start(line func(wire.Output)) (*Program, error) {
	p := &Program{active: time.Now(), ending: make(chan struct{}), over: make(chan struct{})}
	var readers sync.WaitGroup
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	var pipeErr error
	c, err := s.start(func(cmd *exec.Cmd) {
		for _, o := range []struct {
			name string
			to   *io.Writer
		}{{"stdout", &cmd.Stdout}, {"stderr", &cmd.Stderr}} {
			r, w, err := os.Pipe()
			if err != nil {
				pipeErr = err
				return
			}
			*o.to = w
			theirs = append(theirs, w)
			readers.Go(func() { p.read(r, o.name, line) })
		}
		r, w, err := os.Pipe()
		if err != nil {
			pipeErr = err
			return
		}
		cmd.Stdin, p.Input = r, w
		theirs = append(theirs, r)
	})
	if err = errors.Join(pipeErr, err); err != nil {
		return nil, err
	}
	p.confined = c
	go p.watch(&readers, s.Excused)
	return p, nil
}

// read takes the program's lines. A line without an end is a line.
func (p *Program) read(r *os.File, stream string, line func(wire.Output)) {
	defer r.Close()
	b := bufio.NewReaderSize(r, lineLimit)
	for {
		text, err := b.ReadSlice('\n')
		if n := len(text); n > 0 {
			if text[n-1] == '\n' {
				text = text[:n-1]
			}
			o := wire.Output{Stream: stream, Text: string(text), Time: monotonic()}
			p.mu.Lock()
			p.active = time.Now()
			p.bytes += n
			p.flood = p.bytes > outputLimit || len(p.lines) == lineMax
			if !p.flood {
				p.lines = append(p.lines, o)
			}
			flood := p.flood
			p.mu.Unlock()
			if !flood && line != nil {
				line(o)
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// Active tells the program's watch that something was heard of it.
func (p *Program) Active() {
	p.mu.Lock()
	p.active = time.Now()
	p.mu.Unlock()
}

// watch ends the program when it runs wild, and cleans up after its end.
func (p *Program) watch(readers *sync.WaitGroup, excused func() bool) {
	exited := make(chan error, 1)
	go func() { exited <- p.cmd.Wait() }()
	start := time.Now()
	last := start
	idleLimit, totalLimit := stretch(idleLimit), stretch(totalLimit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	stopped := ""
	for done := false; !done; {
		select {
		case <-exited:
			done = true
		case <-tick.C:
			now := time.Now()
			p.mu.Lock()
			if excused != nil && excused() {
				p.active = now
				start = start.Add(now.Sub(last))
			}
			last = now
			idle, flood := time.Since(p.active), p.flood
			p.mu.Unlock()
			switch {
			case stopped != "":
			case flood:
				stopped = fmt.Sprintf("printed more than %d lines, or %d KiB", lineMax, outputLimit>>10)
			case idle > idleLimit:
				stopped = fmt.Sprintf("did nothing for %v and did not end", idleLimit)
			case time.Since(start) > totalLimit:
				stopped = fmt.Sprintf("did not end within %v", totalLimit)
			}
			if stopped != "" {
				p.ended()
				_ = p.kill(0)
			}
		}
	}
	// What the program started and left behind holds its pipes open.
	left := p.kill(5 * time.Second)
	readers.Wait()
	p.Input.Close()
	ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	p.end = End{Code: ws.ExitStatus(), Stopped: stopped}
	if ws.Signaled() {
		p.end.Signal = ws.Signal()
	}
	if left != nil && stopped == "" {
		p.end.Stopped = left.Error()
	}
	close(p.over)
}

// stretch lengthens a time by how slow the VM is, where it is that much slower that
// the machine it runs on must be emulated itself. What a busy machine costs, the limits
// allow for anyway.
func stretch(d time.Duration) time.Duration {
	slowness, err := strconv.ParseFloat(os.Getenv(wire.EnvSlowness), 64)
	if err != nil || slowness < 10 {
		return d
	}
	return time.Duration(float64(d) * slowness).Round(time.Second)
}

// PID is the process ID of the program, in the initial PID namespace.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the program's first process.
func (p *Program) Signal(s syscall.Signal) error { return unix.Kill(p.PID(), s) }

// ended tells once that the program is being ended.
func (p *Program) ended() {
	select {
	case <-p.ending:
	default:
		close(p.ending)
	}
}

// Ending is closed when a limit was passed and the program is being ended. What
// the kernel holds in an uninterruptible sleep does not end before it is let go.
func (p *Program) Ending() <-chan struct{} { return p.ending }

// Over is closed when the program has ended and all its output has been read.
func (p *Program) Over() <-chan struct{} { return p.over }

// Wait waits for the program's end.
func (p *Program) Wait() End {
	<-p.over
	return p.end
}

// Lines are what the program has printed so far, in the order in which it came.
func (p *Program) Lines() []wire.Output {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[:len(p.lines):len(p.lines)]
}
