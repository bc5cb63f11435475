// SPDX-License-Identifier: MIT

package trace

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Measures of the picture, in pixels. The text is monospaced, so that its width is known whatever font a viewer has:
// no monospaced font in use is wider than advance for its size.
const (
	svgMargin  = 24
	svgHead    = 96 // room above the first row
	svgRow     = 26
	svgFont    = 14
	svgAdvance = 8.43

	svgTime       = 104 // right edge of the times
	svgProgram    = 124 // the program's line
	svgKernel     = 590 // the kernel's line
	svgWidth      = 980
	svgIndent     = 16
	svgMaxIndent  = 6
	svgTextOffset = 16
)

// WriteSVG draws the timeline as a picture: the same two lanes as [WriteText], with arrows. It is light or dark as the
// reader's browser asks, needs no font of its own, and its text can be selected and read aloud.
func WriteSVG(w io.Writer, steps []Step, title string) error {
	out := bufio.NewWriter(w)
	d := drawing{w: out}
	rows := make([][]string, len(steps)) // of text, one step each
	height := svgHead
	for i, s := range steps {
		rows[i] = wrap(s.Text, d.room(s))
		height += len(rows[i]) * svgRow
	}
	height += svgMargin

	d.f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" xml:space="preserve" role="img" aria-labelledby="title desc">`, svgWidth, height, svgWidth, height)
	d.f(`<title id="title">%s</title>`, escape(title))
	d.f(`<desc id="desc">%s</desc>`, escape(describeSteps(steps)))
	d.f("%s", svgStyle)
	d.f(`<rect class="paper" x="0.5" y="0.5" width="%d" height="%d" rx="10"/>`, svgWidth-1, height-1)
	d.f(`<text class="title" x="%d" y="36">%s</text>`, svgMargin, escape(title))
	d.f(`<text class="time" x="%d" y="72" text-anchor="end">ms</text>`, svgTime)
	d.f(`<text class="lane program" x="%d" y="72">program</text>`, svgProgram+svgTextOffset)
	d.f(`<text class="lane kernel" x="%d" y="72">kernel</text>`, svgKernel+svgTextOffset)
	for _, x := range []int{svgProgram, svgKernel} {
		d.f(`<line class="life" x1="%d" y1="62" x2="%d" y2="%d"/>`, x, x, height-svgMargin+6)
	}

	// First the bars, so that arrows and text lie upon them: one for each send, as long as it lasts.
	y := svgHead
	var begun []int
	for i, s := range steps {
		last := y + (len(rows[i])-1)*svgRow
		switch s.Arrow {
		case Into:
			begun = append(begun, last)
		case Back:
			if n := len(begun); n > 0 {
				d.bar(begun[n-1], y)
				begun = begun[:n-1]
			}
		}
		y += len(rows[i]) * svgRow
	}
	for _, from := range begun { // a send that never returned
		d.bar(from, height-svgMargin)
	}

	y = svgHead
	for i, s := range steps {
		d.step(s, rows[i], y, s.Time-steps[0].Time)
		y += len(rows[i]) * svgRow
	}
	d.f(`</svg>`)
	if d.err != nil {
		return d.err
	}
	return out.Flush()
}

// svgStyle is the style sheet: shapes, and the colours of light pages, and of dark ones where the reader's system asks
// for them. (Written out rather than with CSS variables, which not every viewer of SVG knows.)
var svgStyle = "<style>\n" + `text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace; white-space: pre }
.title { font: 600 17px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif }
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
	w   io.Writer
	err error
}

func (d *drawing) f(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, format+"\n", args...)
	}
}

// room is how many characters of a step's text go into one row.
func (d *drawing) room(s Step) int {
	from, to := d.textX(s), svgWidth-svgMargin
	if s.Lane == ProgramLane {
		to = svgKernel - 40 // for the arrow
	}
	return int(float64(to-from) / svgAdvance)
}

func (d *drawing) textX(s Step) int {
	if s.Lane == ProgramLane {
		return svgProgram + svgTextOffset
	}
	return svgKernel + svgTextOffset + svgIndent*min(max(s.Depth-1, 0), svgMaxIndent)
}

func (d *drawing) bar(from, to int) {
	d.f(`<rect class="bar" x="%d" y="%d" width="10" height="%d" rx="3"/>`, svgKernel-5, from-6, to-from+12)
}

func (d *drawing) step(s Step, rows []string, y int, since int64) {
	lane, x := "program", svgProgram
	if s.Lane == KernelLane {
		lane, x = "kernel", svgKernel
	}
	class := ""
	switch {
	case s.Failed:
		class, lane = ` class="failed"`, "failed"
	case s.Output:
		class = ` class="output"`
	}
	d.f(`<text class="time" x="%d" y="%d" text-anchor="end">%s</text>`, svgTime, y+4, strings.TrimSpace(ms(since)))

	end := y + (len(rows)-1)*svgRow // the arrow goes with the last row
	tail := d.textX(s) + int(float64(columns(rows[len(rows)-1]))*svgAdvance) + 10
	switch s.Arrow {
	case Into:
		d.f(`<path class="arrow into" d="M%d %d H%d"/><path class="arrow into tip" d="M%d %d l7 4 l-7 4"/>`, tail, end, svgKernel-8, svgKernel-14, end-4)
	case Back:
		d.f(`<path class="arrow back" d="M%d %d H%d"/><path class="arrow back tip" d="M%d %d l-7 4 l7 4"/>`, svgKernel-6, end, tail+2, tail+8, end-4)
	case Delivered:
		d.f(`<path class="arrow delivered" d="M%d %d H%d"/><path class="arrow delivered tip" d="M%d %d l-7 4 l7 4"/>`, svgKernel-8, y, svgProgram+8, svgProgram+14, y-4)
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
