// SPDX-License-Identifier: MIT

package trace

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Style is how a timeline is drawn on a terminal.
type Style struct {
	Width int  // columns; 0 means 80, less than 60 counts as 60, more than 120 as 120
	Color bool // with ANSI colours
	ASCII bool // without box-drawing characters and arrows
}

// WriteText draws the timeline of a finished run, one line for each step:
//
//	   ms  program                                       kernel
//	0.000  bind port 100: ok
//	0.171  sendmsg port 100 → kernel (port 0) ─────────────╮
//	0.275                                                  │ gets 29 bytes from port 100
//	0.427                                              ◂╌╌ │ reply 1 of 1 to port 100
//	0.492  sendmsg returns 29 bytes ◀──────────────────────╯
//
// The vertical line is the time that a send lasts: what stands behind it, the kernel did inside that call. ◂╌╌ is a
// message for one of the program's sockets. Of many steps alike, one after another, the first two and the last are drawn.
func WriteText(w io.Writer, steps []Step, style Style) error {
	out := bufio.NewWriter(w)
	l := newLines(style)
	out.WriteString(l.head())
	for _, s := range fold(steps) {
		out.WriteString(l.step(s))
	}
	return out.Flush()
}

// Live draws a timeline while the program runs. Its methods must not be called by several goroutines at once.
type Live struct {
	w     io.Writer
	pid   int
	file  string
	lines *lines
	folds folder
	trace *Trace
	steps *stepper

	// What a program prints is read some time after it was written. So the steps behind a write wait for its text.
	queue   []liveStep
	written map[int64]int64 // bytes by descriptor
	read    map[int64]int64
}

// liveStep is a step that is still to be drawn, or the place of a write whose text has not come.
type liveStep struct {
	Step
	fd  int64 // of a write; 0 for a step
	end int64 // bytes written to fd up to here
}

// patience is how much later than a write, in nanoseconds of the trace's clock, steps are drawn without its text: a
// line that does not end is never read.
const patience = 1e9

// NewLive returns a timeline of the run of file by process pid, which are as in [Trace.Program], drawn to w.
func NewLive(w io.Writer, pid int, file string, style Style) *Live {
	return &Live{w: w, pid: pid, file: file, lines: newLines(style), trace: New(),
		written: map[int64]int64{}, read: map[int64]int64{}}
}

// Add takes in the next event, and draws the steps that are complete with it.
func (l *Live) Add(e Event) error {
	l.trace.Add(e)
	if l.steps == nil {
		if e.Name != Exec && l.file != "" {
			return nil
		}
		p := l.trace.Program(l.pid, l.file)
		if !p.Ran() {
			return nil
		}
		l.steps = &stepper{t: l.trace, p: p}
		if _, err := io.WriteString(l.w, l.lines.head()); err != nil {
			return err
		}
	}
	if last := len(l.trace.events) - 1; l.steps.p.includes(last) {
		l.steps.add(last)
		l.enqueue(e)
		if c := l.trace.infos[last].call; e.Name == "sys_exit_write" && c != nil && c.Ret > 0 {
			if fd := l.steps.p.Stream(*c); fd != 0 {
				l.written[fd] += c.Ret
				l.queue = append(l.queue, liveStep{Step{Time: c.Entry.Time}, fd, l.written[fd]})
			}
		}
	}
	return l.draw(e.Time - patience)
}

// enqueue takes the steps that event e made. A printed line goes where it was written.
func (l *Live) enqueue(e Event) {
	for _, s := range l.steps.steps {
		at := len(l.queue)
		if s.Output {
			fd := e.Int("fd")
			l.read[fd] += int64(len(e.Text("text"))) + 1
			i := slices.IndexFunc(l.queue, func(q liveStep) bool { return q.fd == fd && q.end >= l.read[fd] })
			if i >= 0 {
				at, s.Time = i, l.queue[i].Time
				if l.queue[i].end == l.read[fd] {
					l.queue = slices.Delete(l.queue, i, i+1)
				}
			}
		}
		for !s.Output && at > 0 && l.queue[at-1].Output && l.queue[at-1].Time > s.Time { // that waited for this one
			at--
		}
		l.queue = slices.Insert(l.queue, at, liveStep{Step: s})
	}
	l.steps.steps = l.steps.steps[:0]
}

// Close draws what was held back: a call that was entered last and had not returned.
func (l *Live) Close() error {
	if l.steps == nil {
		return nil
	}
	l.steps.flush()
	l.enqueue(Event{})
	if err := l.draw(math.MaxInt64); err != nil {
		return err
	}
	return l.write(l.folds.flush())
}

// draw draws the steps up to the first that is not older than since and has to wait: a write for its text, or a printed
// line for that of a call which was entered before it.
func (l *Live) draw(since int64) error {
	for len(l.queue) > 0 {
		q := l.queue[0]
		held := l.steps.held
		if q.Time > since && (q.fd != 0 || q.Output && held != nil && held.Entry.Time < q.Time) {
			return nil
		}
		l.queue = l.queue[1:]
		if q.fd != 0 {
			continue
		}
		if err := l.write(l.folds.add(q.Step)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Live) write(steps []Step) error {
	for _, s := range steps {
		if _, err := io.WriteString(l.w, l.lines.step(s)); err != nil {
			return err
		}
	}
	return nil
}

// lines draws steps as lines of text.
type lines struct {
	style       Style
	left, right int // columns of the lanes
	start       int64
	started     bool
	open        int // sends that have not returned
}

// The columns of a line are: time, two blanks, the program's lane, the arrows, the kernel's lane.
const (
	timeColumns  = 11
	arrowColumns = 7
)

func newLines(style Style) *lines {
	if style.Width == 0 {
		style.Width = 80
	}
	style.Width = min(max(style.Width, 60), 120)
	lanes := style.Width - timeColumns - arrowColumns
	left := lanes * 11 / 20
	return &lines{style: style, left: left, right: lanes - left}
}

// ANSI colours, by what they are used for.
const (
	colorReset  = "\x1b[0m"
	colorHead   = "\x1b[1m"
	colorTime   = "\x1b[2m"
	colorArrow  = "\x1b[34m"
	colorKernel = "\x1b[36m"
	colorOutput = "\x1b[32m"
	colorFailed = "\x1b[31m"
)

func (l *lines) color(code, text string) string {
	if !l.style.Color || code == "" || strings.TrimSpace(text) == "" {
		return text
	}
	return code + text + colorReset
}

func (l *lines) head() string {
	line := fmt.Sprintf("%*s  %s%s", timeColumns-2, "ms", pad("program", l.left+arrowColumns), "kernel")
	return l.color(colorHead, line) + "\n"
}

func (l *lines) step(s Step) string {
	if !l.started {
		l.start, l.started = s.Time, true
	}
	if s.Arrow == Into {
		l.open++
	}
	text := s.Text
	if l.style.ASCII {
		text = ascii.Replace(text)
	}
	width := l.left
	indent := ""
	switch {
	case s.Lane == ProgramLane && s.Arrow == NoArrow && l.open == 0:
		width = l.style.Width - timeColumns // nothing is beside it
	case s.Lane == KernelLane:
		// A recursion can be a hundred levels deep: the indentation shows the first ones only.
		indent = strings.Repeat("  ", min(max(s.Depth-1, 0), 1))
		width = l.right - len(indent)
	}
	rows := wrap(text, width)

	var b strings.Builder
	for i, row := range rows {
		last := i == len(rows)-1
		when := ""
		if i == 0 {
			when = ms(s.Time - l.start)
		}
		b.WriteString(l.color(colorTime, fmt.Sprintf("%*s  ", timeColumns-2, when)))

		var line strings.Builder
		if s.Lane == ProgramLane {
			line.WriteString(l.color(textColor(s), row))
			line.WriteString(l.color(colorArrow, strings.TrimRight(l.arrow(s.Arrow, last, l.left-columns(row)+arrowColumns), " ")))
		} else {
			arrow := NoArrow
			if i == 0 {
				arrow = s.Arrow
			}
			line.WriteString(strings.Repeat(" ", l.left))
			line.WriteString(l.color(colorArrow, l.arrow(arrow, true, arrowColumns)))
			line.WriteString(indent)
			line.WriteString(l.color(textColor(s), row))
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	if s.Arrow == Back && l.open > 0 {
		l.open--
	}
	return b.String()
}

func textColor(s Step) string {
	switch {
	case s.Failed:
		return colorFailed
	case s.Output:
		return colorOutput
	case s.Lane == KernelLane:
		return colorKernel
	}
	return ""
}

// ascii replaces what Step texts use beyond ASCII.
var ascii = strings.NewReplacer("→", "->", "…", "...")

// arrow draws what stands between the lanes, width columns of it, up to and with the blank before the kernel's lane.
func (l *lines) arrow(a Arrow, last bool, width int) string {
	into, back, delivered, bar := "──╮", "◀──╯", "◂╌╌ ", "│"
	dash := "─"
	if l.style.ASCII {
		into, back, delivered, bar, dash = "--.", "<--'", "<-- ", "|", "-"
	}
	if l.open == 0 {
		bar = " "
	}
	end := ""
	switch {
	case a == Into && last:
		return fill(" ", dash, into+" ", width)
	case a == Back && last:
		if l.open > 1 { // another thread's send lasts on
			back = strings.TrimRight(back, "╯'") + bar
		}
		return fill(" "+string([]rune(back)[:1]), dash, string([]rune(back)[1:])+" ", width)
	case a == Delivered:
		end = delivered + bar + " "
	case a == Into: // the first rows of a text of several
		end = "  "
	default:
		end = bar + " "
	}
	return fill("", " ", end, width)
}

// fill returns start and end with as much of middle between as makes width columns.
func fill(start, middle, end string, width int) string {
	n := width - columns(start) - columns(end)
	return start + strings.Repeat(middle, max(n, 0)) + end
}

func pad(s string, width int) string { return s + strings.Repeat(" ", max(0, width-columns(s))) }

// wrap breaks text into rows of at most width columns, between words where it can. Later rows are indented.
func wrap(text string, width int) []string {
	const indent = "  "
	var rows []string
	row := ""
	for _, word := range strings.Split(text, " ") {
		if row != "" && columns(row)+1+columns(word) <= width {
			row += " " + word
			continue
		}
		if row != "" {
			rows = append(rows, row)
			word = indent + word
		}
		for columns(word) > width {
			cut, n := 0, 0
			for i, r := range word {
				if n += runeColumns(r); n > width {
					cut = i
					break
				}
			}
			if cut == 0 {
				break
			}
			rows = append(rows, word[:cut])
			word = indent + word[cut:]
		}
		row = word
	}
	return append(rows, row)
}

// columns is the room that s takes on a terminal.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

// runeColumns is 2 for the wide characters of East Asia and for emoji, which students print too.
func runeColumns(r rune) int {
	switch {
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}
