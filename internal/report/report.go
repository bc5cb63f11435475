// SPDX-License-Identifier: MIT

// Package report turns the records of a check into what people and programs
// read: the lines on a terminal and a JSON document. Whatever else is wanted
// (JUnit XML, a grade book) derives from the JSON.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"netlinklabs/internal/text"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// Version of the JSON document.
const Version = 1

// Outcome of a check.
type Outcome string

// The outcomes. Only Passed is a pass.
const (
	Passed      Outcome = "passed"
	Failed      Outcome = "failed"      // the program's fault
	Environment Outcome = "environment" // the place's fault: no verdict on the program
)

// State of a step.
type State string

// The states of a step.
const (
	StepPassed   State = "passed"
	StepFailed   State = "failed"
	StepNotTried State = "not tried" // a step before it failed
)

// Step is one line of the report.
type Step struct {
	N      int    `json:"n"`
	Title  string `json:"title"`
	State  State  `json:"state"`
	Points int    `json:"points"`
	Of     int    `json:"of"`
	Read   string `json:"read,omitempty"`
	wire.Step
}

// MarshalJSON flattens the step's record, whose own number and flag would
// otherwise stand twice.
func (s Step) MarshalJSON() ([]byte, error) {
	type doc struct {
		N        int      `json:"n"`
		Title    string   `json:"title"`
		State    State    `json:"state"`
		Points   int      `json:"points"`
		Of       int      `json:"of"`
		Got      string   `json:"got,omitempty"`
		Expected string   `json:"expected,omitempty"`
		Trace    []string `json:"trace,omitempty"`
		Likely   string   `json:"likely,omitempty"`
		Program  []string `json:"program,omitempty"`
		Read     string   `json:"read,omitempty"`
	}
	return json.Marshal(doc{s.N, s.Title, s.State, s.Points, s.Of, s.Got, s.Expected, s.Trace, s.Likely, s.Program, s.Read})
}

// Report is the result of one check of one lab.
type Report struct {
	Version int           `json:"version"`
	Lab     int           `json:"lab"`
	Name    string        `json:"name"` // NN-slug
	Title   string        `json:"title"`
	Outcome Outcome       `json:"outcome"`
	Points  int           `json:"points"`
	Of      int           `json:"of"`
	Steps   []Step        `json:"steps"`
	Answers []wire.Answer `json:"answers,omitempty"` // to the lab's predictions
	Notes   []string      `json:"notes,omitempty"`
	// Problem and Evidence say what went wrong apart from the steps: the kernel
	// died, the VM did not boot.
	Problem  string   `json:"problem,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
	Code     string   `json:"code"` // what was judged: a folder or a program
	Where    string   `json:"where"`
	Kernel   string   `json:"kernel,omitempty"`
	Accel    string   `json:"accel,omitempty"`
	Seconds  float64  `json:"seconds"`
	// CPUSeconds is the processor time that QEMU took, MaxRSS the most memory that
	// it held, in bytes.
	CPUSeconds float64 `json:"cpu_seconds,omitempty"`
	MaxRSS     int64   `json:"max_rss,omitempty"`
}

// Builder collects the records of a check as they come.
type Builder struct {
	lab     *wire.Lab
	steps   map[int]*wire.Step
	answers []wire.Answer
	notes   []string
	fault   string
	began   bool
	ended   bool
}

// NewBuilder returns a Builder for a check of this lab.
func NewBuilder(lab *wire.Lab) *Builder {
	return &Builder{lab: lab, steps: map[int]*wire.Step{}}
}

// Add takes one record.
func (b *Builder) Add(r wire.Record) {
	switch {
	case r.Kind == wire.KindBegin:
		b.began = true
	case r.Kind == wire.KindStep && r.Step != nil:
		if old := b.steps[r.Step.N]; old == nil || old.Passed { // a failure stays
			b.steps[r.Step.N] = r.Step
		}
	case r.Kind == wire.KindAnswer && r.Answer != nil:
		b.answers = append(b.answers, *r.Answer)
	case r.Kind == wire.KindNote:
		b.notes = append(b.notes, r.Text)
	case r.Kind == wire.KindFault:
		b.fault = r.Text
	case r.Kind == wire.KindEnd:
		b.ended = true
	}
}

// Finish judges the check by its records and by how the VM ended. A pass needs a
// record of every declared step, the records of beginning and end, exit code 0, and a
// kernel that did not complain: the absence of anything is never a pass.
func (b *Builder) Finish(r *vm.Result, output string) *Report {
	rep := &Report{Version: Version, Lab: b.lab.Number, Name: b.lab.Name, Title: b.lab.Title,
		Answers: b.answers, Notes: b.notes, Where: r.Where, Kernel: r.Release, Accel: r.Accel, Seconds: r.Total.Seconds(), CPUSeconds: r.CPU.Seconds(), MaxRSS: r.MaxRSS}
	failed, judged := false, 0
	for i, s := range b.lab.Steps {
		st := Step{N: i + 1, Title: s.Title, Of: s.Points, Read: s.Read, State: StepNotTried}
		if rec := b.steps[i+1]; rec != nil {
			judged++
			st.Step = *rec
			st.State = StepFailed
			if rec.Passed {
				st.State, st.Points = StepPassed, s.Points
			}
		}
		failed = failed || st.State == StepFailed
		rep.Of += st.Of
		rep.Points += st.Points
		rep.Steps = append(rep.Steps, st)
	}
	rep.Evidence = r.Excerpt
	switch {
	case r.Verdict.Environment():
		rep.Outcome, rep.Problem = Environment, r.Verdict.String()+": "+r.Detail
	case r.Verdict != vm.Done:
		rep.Outcome, rep.Problem = Failed, r.Verdict.String()+": "+r.Detail
	case b.fault != "":
		rep.Outcome, rep.Problem = Environment, b.fault
	case failed && b.began && b.ended:
		rep.Outcome = Failed
	case !b.began || !b.ended:
		rep.Outcome, rep.Problem = Environment, fmt.Sprintf("the check itself broke off (exit code %d%s)", r.Status.Code, signal(r.Status))
		rep.Evidence = tail(output, 20)
	case judged == 0 || judged != len(b.lab.Steps) || judged != len(b.steps):
		rep.Outcome, rep.Problem = Environment, fmt.Sprintf("the check judged %d of its %d steps", judged, len(b.lab.Steps))
	case r.Status.Code != 0:
		rep.Outcome, rep.Problem = Environment, fmt.Sprintf("all steps passed, but the check ended with exit code %d%s", r.Status.Code, signal(r.Status))
		rep.Evidence = tail(output, 20)
	default:
		rep.Outcome = Passed
	}
	if rep.Outcome != Passed && rep.Points == rep.Of {
		rep.Points = 0 // what spoils a whole check spoils its points
	}
	return rep
}

func signal(s wire.Status) string {
	if s.Signal == "" {
		return ""
	}
	return ", " + s.Signal
}

func tail(s string, n int) []string {
	l := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return l[max(0, len(l)-n):]
}

// JSON writes the report as a document.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Style says how a report is printed.
type Style struct {
	Colour bool
	Width  int    // columns; 0 means 80
	Hint   string // command that gives a hint, for failed steps
}

const (
	green = "\x1b[32m"
	red   = "\x1b[31m"
	dim   = "\x1b[2m"
	bold  = "\x1b[1m"
	reset = "\x1b[0m"
)

func (s Style) paint(colour, text string) string {
	if !s.Colour {
		return text
	}
	return colour + text + reset
}

// Print writes the report for people.
func (r *Report) Print(w io.Writer, s Style) {
	if s.Width == 0 {
		s.Width = 80
	}
	s.Width = min(s.Width, 110)
	fmt.Fprintf(w, "%s\n\n", s.paint(bold, fmt.Sprintf("lab %d  %s", r.Lab, r.Title)))
	for _, st := range r.Steps {
		mark := map[State]string{StepPassed: s.paint(green, "ok"), StepFailed: s.paint(red, "x "), StepNotTried: s.paint(dim, "- ")}[st.State]
		score := fmt.Sprintf("%d/%d", st.Points, st.Of)
		title := fmt.Sprintf("%d  %s", st.N, st.Title)
		pad := max(1, s.Width-5-len([]rune(title))-len(score))
		fmt.Fprintf(w, "  %s %s%s%s\n", mark, title, strings.Repeat(" ", pad), score)
		if st.State == StepFailed {
			s.field(w, "got", st.Got)
			s.field(w, "expected", st.Expected)
			s.verbatim(w, "trace", st.Trace)
			s.verbatim(w, "program", st.Program)
			s.field(w, "likely", st.Likely)
			read := fmt.Sprintf("labs/%s/README.md, step %d", r.Name, st.N)
			if s.Hint != "" {
				read += "      " + s.Hint
			}
			s.verbatim(w, "read", []string{read})
		}
	}
	if r.Problem != "" {
		fmt.Fprintln(w)
		for l := range strings.SplitSeq(r.Problem, "\n") {
			fmt.Fprintf(w, "  %s\n", s.paint(red, printable(l)))
		}
		for _, l := range r.Evidence {
			fmt.Fprintf(w, "    %s\n", printable(l))
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\n  note: %s\n", strings.Join(text.Wrap(printable(n), s.Width-8), "\n        "))
	}
	colour := map[Outcome]string{Passed: green, Failed: red, Environment: red}[r.Outcome]
	verdict := map[Outcome]string{Passed: "passed", Failed: "not passed", Environment: "no verdict: the place of the check failed, not the program"}[r.Outcome]
	fmt.Fprintf(w, "\n%s  %d of %d points   %s\n", s.paint(colour, verdict), r.Points, r.Of, s.paint(dim, r.Facts()))
}

// Facts names kernel, accelerator, place and time.
func (r *Report) Facts() string {
	var facts []string
	if r.Kernel != "" { // it has booted
		facts = append(facts, "kernel "+r.Kernel)
	}
	facts = append(facts, r.Where)
	if r.Accel != "" { // a VM's
		facts = append(facts, r.Accel)
	}
	took := time.Duration(r.Seconds * float64(time.Second)).Round(100 * time.Millisecond)
	return strings.Join(append(facts, took.String()), ", ")
}

const label = "         %-10s"

func (s Style) field(w io.Writer, name, value string) {
	if value != "" {
		s.verbatim(w, name, text.Wrap(value, s.Width-19))
	}
}

func (s Style) verbatim(w io.Writer, name string, lines []string) {
	for i, l := range lines {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(w, "%s%s\n", s.paint(dim, fmt.Sprintf(label, name)), printable(l))
	}
}

// maxLine is how many characters of one line are printed: what a program says
// may have no end of line. The JSON document has it whole.
const maxLine = 400

// printable makes a line safe for a terminal: much of a report comes from the
// program under test, which could paint a verdict of its own with escape sequences.
func printable(line string) string {
	var b strings.Builder
	n := 0
	for i, r := range line {
		if n++; n > maxLine {
			return b.String() + " ..."
		}
		switch {
		case r == utf8.RuneError && line[i] != "\uFFFD"[0]:
			fmt.Fprintf(&b, `\x%02x`, line[i])
		case r == '\t':
			b.WriteString("    ")
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
