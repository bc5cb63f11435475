// SPDX-License-Identifier: MIT

package trace

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Measures of the picture, in pixels. The text is monospaced, so that its width is known whatever font a viewer has:
// no monospaced font in use is wider than advance for its size.
const (
	svgMargin  = 24
	svgHead    = 96 // room above the first row
	svgCaption = 34 // and more of it for the captions of timelines side by side
	svgRow     = 26
	svgFont    = 14
	svgAdvance = 8.43

	svgIndent     = 16
	svgMaxIndent  = 6
	svgTextOffset = 16
)

// lanes are where a timeline's lines stand, from the left edge of the picture.
type lanes struct {
	time    int // right edge of the times; 0 for a timeline without
	program int // the program's line
	kernel  int // the kernel's line
	end     int // of the kernel's text
}

// The lanes of a timeline that has the picture to itself, and those of the first of two. There the times are left out,
// as the order is what is compared.
var (
	wideLanes   = lanes{time: 104, program: 124, kernel: 590, end: 956}
	narrowLanes = lanes{program: 34, kernel: 318, end: 548}
)

// Column is one of the timelines that [WriteSVGBeside] draws.
type Column struct {
	Caption string
	Steps   []Step
}

// WriteSVG draws the timeline as a picture: the same two lanes as [WriteText], with arrows. It is light or dark as the
// reader's browser asks, needs no font of its own, and its text can be selected and read aloud.
func WriteSVG(w io.Writer, steps []Step, title string) error {
	return writeSVG(w, title, []Column{{Steps: steps}}, wideLanes, wideLanes.end)
}

// WriteSVGBeside draws timelines side by side, for their order to be compared: as [WriteSVG] does, but without times.
func WriteSVGBeside(w io.Writer, title string, columns ...Column) error {
	return writeSVG(w, title, columns, narrowLanes, narrowLanes.end)
}

// writeSVG draws columns, the first at these lanes and each next one further right by step.
func writeSVG(w io.Writer, title string, columns []Column, at lanes, step int) error {
	out := bufio.NewWriter(w)
	d := drawing{w: out, head: svgHead}
	words := ""
	columns = slices.Clone(columns)
	for i := range columns {
		columns[i].Steps = fold(columns[i].Steps)
	}
	for _, c := range columns {
		if c.Caption != "" {
			d.head = svgHead + svgCaption
			words += c.Caption + ". "
		}
		words += describeSteps(c.Steps) + " "
	}
	width := at.end + (len(columns)-1)*step + svgMargin
	height := 0
	for _, c := range columns {
		d.lanes = at
		height = max(height, d.head+d.height(c.Steps)+svgMargin)
	}

	d.f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" xml:space="preserve" role="img" aria-labelledby="title desc">`, width, height, width, height)
	d.f(`<title id="title">%s</title>`, escape(title))
	d.f(`<desc id="desc">%s</desc>`, escape(strings.TrimSpace(words)))
	d.f("%s", svgStyle)
	d.f(`<rect class="paper" x="0.5" y="0.5" width="%d" height="%d" rx="10"/>`, width-1, height-1)
	d.f(`<text class="title" x="%d" y="36">%s</text>`, svgMargin, escape(title))
	for i, c := range columns {
		d.lanes = lanes{program: at.program + i*step, kernel: at.kernel + i*step, end: at.end + i*step, time: at.time}
		d.column(c, height)
	}
	d.f(`</svg>`)
	if d.err != nil {
		return d.err
	}
	return out.Flush()
}

// column draws one timeline, in a picture of that height.
func (d *drawing) column(c Column, height int) {
	if c.Caption != "" {
		d.f(`<text class="caption" x="%d" y="68">%s</text>`, d.lanes.program, escape(c.Caption))
	}
	names := d.head - 24
	if d.lanes.time > 0 {
		d.f(`<text class="time" x="%d" y="%d" text-anchor="end">ms</text>`, d.lanes.time, names)
	}
	d.f(`<text class="lane program" x="%d" y="%d">program</text>`, d.lanes.program+svgTextOffset, names)
	d.f(`<text class="lane kernel" x="%d" y="%d">kernel</text>`, d.lanes.kernel+svgTextOffset, names)
	for _, x := range []int{d.lanes.program, d.lanes.kernel} {
		d.f(`<line class="life" x1="%d" y1="%d" x2="%d" y2="%d"/>`, x, names-10, x, height-svgMargin+6)
	}

	// First the bars, so that arrows and text lie upon them: one for each send, as long as it lasts.
	y := d.head
	var begun []int
	for _, s := range c.Steps {
		rows := d.rows(s)
		last := y + (len(rows)-1)*svgRow
		switch s.Arrow {
		case Into:
			begun = append(begun, last)
		case Back:
			if n := len(begun); n > 0 {
				d.bar(begun[n-1], y)
				begun = begun[:n-1]
			}
		}
		y += len(rows) * svgRow
	}
	for _, from := range begun { // a send that never returned
		d.bar(from, height-svgMargin)
	}

	y = d.head
	for _, s := range c.Steps {
		rows := d.rows(s)
		d.step(s, rows, y, s.Time-c.Steps[0].Time)
		y += len(rows) * svgRow
	}
}

// svgStyle is the style sheet: shapes, and the colours of light pages, and of dark ones where the reader's system asks
// for them. (Written out rather than with CSS variables, which not every viewer of SVG knows.)
var svgStyle = "<style>\n" + `text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace; white-space: pre }
.title { font: 600 17px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif }
.caption { font-weight: 600 }
.time { font-size: 12px }
.lane { font-weight: 600 }
.life, .dot { stroke-width: 2 }
.arrow { fill: none; stroke-width: 1.5 }
.back, .delivered { stroke-dasharray: 5 4 }
.tip { stroke-dasharray: none }
` + svgColors("#ffffff", "#d0d7de", "#1f2328", "#656d76", "#0550ae", "#8250df", "#d8dee4", "#e9defa", "#cf222e", "#116329") +
	"@media (prefers-color-scheme: dark) {\n" +
	svgColors("#0d1117", "#30363d", "#e6edf3", "#8d96a0", "#79c0ff", "#d2a8ff", "#30363d", "#35284d", "#ff7b72", "#7ee787") +
	"}\n</style>"

func svgColors(paper, edge, ink, quiet, program, kernel, life, bar, bad, good string) string {
	return strings.NewReplacer("PAPER", paper, "EDGE", edge, "INK", ink, "QUIET", quiet, "PROGRAM", program, "KERNEL", kernel,
		"LIFE", life, "BAR", bar, "BAD", bad, "GOOD", good).Replace(`text { fill: INK }
text.time { fill: QUIET }
text.program { fill: PROGRAM }
text.kernel { fill: KERNEL }
text.output { fill: GOOD }
text.failed { fill: BAD }
.paper { fill: PAPER; stroke: EDGE }
.life { stroke: LIFE }
.bar { fill: BAR; stroke: KERNEL }
.dot { fill: PAPER }
.dot.program { stroke: PROGRAM }
.dot.kernel { stroke: KERNEL }
.dot.failed { stroke: BAD }
.into, .back { stroke: PROGRAM }
.delivered { stroke: KERNEL }
`)
}

type drawing struct {
	w     io.Writer
	err   error
	head  int   // room above the first row
	lanes lanes // of the column that is drawn
}

func (d *drawing) f(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, format+"\n", args...)
	}
}

// rows is a step's text, row by row.
func (d *drawing) rows(s Step) []string { return wrap(s.Text, d.room(s)) }

// height is how much room the rows of a timeline take.
func (d *drawing) height(steps []Step) int {
	n := 0
	for _, s := range steps {
		n += len(d.rows(s))
	}
	return n * svgRow
}

// room is how many characters of a step's text go into one row.
func (d *drawing) room(s Step) int {
	from, to := d.textX(s), d.lanes.end
	if s.Lane == ProgramLane {
		to = d.lanes.kernel - 40 // for the arrow
	}
	return int(float64(to-from) / svgAdvance)
}

func (d *drawing) textX(s Step) int {
	if s.Lane == ProgramLane {
		return d.lanes.program + svgTextOffset
	}
	return d.lanes.kernel + svgTextOffset + svgIndent*min(max(s.Depth-1, 0), svgMaxIndent)
}

func (d *drawing) bar(from, to int) {
	d.f(`<rect class="bar" x="%d" y="%d" width="10" height="%d" rx="3"/>`, d.lanes.kernel-5, from-6, to-from+12)
}

func (d *drawing) step(s Step, rows []string, y int, since int64) {
	lane, x := "program", d.lanes.program
	if s.Lane == KernelLane {
		lane, x = "kernel", d.lanes.kernel
	}
	class := ""
	switch {
	case s.Failed:
		class, lane = ` class="failed"`, "failed"
	case s.Output:
		class = ` class="output"`
	}
	if d.lanes.time > 0 {
		d.f(`<text class="time" x="%d" y="%d" text-anchor="end">%s</text>`, d.lanes.time, y+4, strings.TrimSpace(ms(since)))
	}

	end := y + (len(rows)-1)*svgRow // the arrow goes with the last row
	tail := d.textX(s) + int(float64(columns(rows[len(rows)-1]))*svgAdvance) + 10
	switch s.Arrow {
	case Into:
		d.f(`<path class="arrow into" d="M%d %d H%d"/><path class="arrow into tip" d="M%d %d l7 4 l-7 4"/>`, tail, end, d.lanes.kernel-8, d.lanes.kernel-14, end-4)
	case Back:
		d.f(`<path class="arrow back" d="M%d %d H%d"/><path class="arrow back tip" d="M%d %d l-7 4 l7 4"/>`, d.lanes.kernel-6, end, tail+2, tail+8, end-4)
	case Delivered:
		d.f(`<path class="arrow delivered" d="M%d %d H%d"/><path class="arrow delivered tip" d="M%d %d l-7 4 l7 4"/>`, d.lanes.kernel-8, y, d.lanes.program+8, d.lanes.program+14, y-4)
	}
	d.f(`<circle class="dot %s" cx="%d" cy="%d" r="4"/>`, lane, x, y)
	for i, row := range rows {
		d.f(`<text%s x="%d" y="%d">%s</text>`, class, d.textX(s), y+i*svgRow+5, escape(row))
	}
}

// describeSteps is the picture in words, for those who cannot see it.
func describeSteps(steps []Step) string {
	var b strings.Builder
	b.WriteString("A timeline of what the program and the kernel did, in order.")
	for _, s := range steps {
		who := "Program"
		if s.Lane == KernelLane {
			who = "Kernel"
		}
		fmt.Fprintf(&b, " %s: %s.", who, s.Text)
	}
	return b.String()
}

func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s)) // a strings.Builder does not fail
	return b.String()
}
