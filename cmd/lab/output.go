// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"netlinklabs/internal/lab"
	"netlinklabs/internal/report"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// pictureFile is a lab's timeline, drawn from a run of its solution. A lab that
// has the file has it redrawn.
const pictureFile = "timeline.svg"

// output brings the output that the labs' texts show up to date by running what
// they say was run; with -check it only tells what is stale. Times, IDs,
// addresses and versions may differ.
//
// The blocks are
//
//	<!-- output: check -->              the check of the solution
//	<!-- output: check wrong=NAME -->   the check of a wrong answer
//	<!-- output: run args=100,4 -->     a run of the solution with the arguments 100 and 4
//	<!-- output: run params=defer=1 --> a run with other parameters of the lab's module, as in PARAMS
//	<!-- output: run -->                a run of the solution
//	<!-- output: message -->            the bytes of the message that such a run sends
//	<!-- output: bug name=B5 -->        what lab bug B5 prints; of no lab
//
// and name another lab than that of their folder, or one in the README.md at the
// top and in docs/, with lab=N.
//
// A picture that begins with
//
//	<!-- runs: replies=3 | replies=3 defer=1 -->
//
// shows runs with these PARAMS side by side; args=100,4 among them are arguments.
func (a *app) output(args []string) error {
	f := flag.NewFlagSet("output", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	only := f.Bool("check", false, "")
	if err := f.Parse(args); err != nil {
		return usagef("output takes -check, the numbers of labs, and texts outside of them (docs/NAME.md)")
	}
	type document struct {
		lab  *lab.Lab // whose folder it is in, or nil
		path string
	}
	var documents []document
	var names []string
	for _, arg := range f.Args() {
		if filepath.Ext(arg) == ".md" {
			documents = append(documents, document{nil, arg})
		} else {
			names = append(names, arg)
		}
	}
	var labs []*lab.Lab
	if len(names) > 0 || f.NArg() == 0 {
		var err error
		if labs, err = a.labs(names); err != nil {
			return err
		}
	}
	for _, l := range labs {
		if l.Err != nil {
			return l.Err
		}
		documents = append(documents, document{l, l.Path("README.md")})
		if _, err := os.Stat(l.Path(pictureFile)); err == nil {
			documents = append(documents, document{l, l.Path(pictureFile)})
		}
	}
	if f.NArg() == 0 {
		more, _ := filepath.Glob(filepath.Join(a.root, "docs", "*.md"))
		for _, path := range append(more, filepath.Join(a.root, "README.md")) {
			documents = append(documents, document{nil, path})
		}
	}
	a.bugs = sync.OnceValues(a.bugOutputs)
	stale := false
	for _, d := range documents {
		// On a busy machine a program's pause of 100 ms may be over before what was to
		// happen meanwhile. What is shown has to be what one run of a few shows.
		var shown shownFile
		for range runsOfOutput {
			var err error
			if shown, err = a.shown(d.lab, d.path); err != nil {
				return err
			}
			if shown.diff == "" {
				break
			}
		}
		a.progress.clear()
		name := filepath.ToSlash(rel(a.root, d.path))
		switch {
		case shown.diff == "":
			fmt.Fprintf(a.out, "%s: current\n", name)
		case *only:
			stale = true
			fmt.Fprintf(a.out, "%s is not what a run of today shows: make output\n%s\n", name, shown.diff)
		default:
			if err := os.WriteFile(d.path, []byte(shown.now), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s: written\n", name)
		}
	}
	if stale {
		return errNotPassed
	}
	return nil
}

// runsOfOutput is how often output is run before it counts as another one.
const runsOfOutput = 3

// shownFile is a file that shows output: as it should be, and how that differs.
type shownFile struct{ now, diff string }

// shown renders anew what a file shows.
func (a *app) shown(l *lab.Lab, path string) (shownFile, error) {
	old, err := os.ReadFile(path)
	if err != nil {
		return shownFile{}, err
	}
	if filepath.Base(path) == pictureFile {
		var svg bytes.Buffer
		err := a.picture(l, &svg, string(old))
		return shownFile{svg.String(), lab.SameOutput(svgText(string(old)), svgText(svg.String()))}, err
	}
	diff := ""
	now, err := lab.ReplaceOutput(path, string(old), func(b lab.OutputBlock) (string, error) {
		text, err := a.render(l, b)
		d := lab.SameOutput(b.Text, text)
		diff += d
		if d == "" {
			return b.Text, err // no noise in the history for other milliseconds
		}
		return text, err
	})
	return shownFile{now, diff}, err
}

var tags = regexp.MustCompile(`(?s)<desc.*?</desc>|<[^>]*>`)

// numbers are process IDs, port IDs and descriptors, and sizes.
var numbers = regexp.MustCompile(`\bID[0-9]+\b|-?\b[0-9]{2,}\b( bytes)?`)

// svgText is what a picture says under lab.Mask, each word once. They are sorted, and one
// ID is like another: what two do at the same time is never twice in the same order,
// where a line is broken hangs on the length of an ID, and whether a read had to wait
// on who was faster.
func svgText(svg string) string {
	var lines []string
	for l := range strings.Lines(tags.ReplaceAllString(svg, "\n")) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	text := numbers.ReplaceAllStringFunc(lab.Mask(strings.Join(lines, "\n")), func(n string) string {
		if strings.HasSuffix(n, " bytes") {
			return n
		}
		return "N"
	})
	words := strings.Fields(text)
	slices.Sort(words)
	return strings.Join(slices.Compact(words), "\n")
}

// plain is the tool as it prints into a text: no terminal, 80 columns.
func (a *app) plain(out io.Writer) *app {
	p := *a
	p.out, p.terminal, p.colour, p.width = out, false, false, 80
	return &p
}

// render prints what a block asks for.
func (a *app) render(l *lab.Lab, b lab.OutputBlock) (string, error) {
	wrong, name := "", ""
	var args []string
	var set settings
	for _, arg := range b.Args {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "wrong":
			wrong = value
		case "name":
			name = value
		case "args":
			args = strings.Split(value, ",")
		case "params":
			var err error
			if set, err = parseSettings(strings.ReplaceAll(value, ",", " "), ""); err != nil {
				return "", fmt.Errorf("line %d: %w", b.Line, err)
			}
		case "lab":
			var err error
			if l, err = a.lab(value); err != nil {
				return "", err
			}
		default:
			return "", fmt.Errorf("line %d: an output block knows wrong=NAME, args=A,B, params=NAME=VALUE,..., lab=N and name=B5, not %q", b.Line, arg)
		}
	}
	if b.Name == "bug" {
		outputs, err := a.bugs()
		if err == nil && outputs[name] == "" {
			err = fmt.Errorf("lab bug prints nothing for the name %q", name)
		}
		return outputs[name], err
	}
	if l == nil {
		return "", fmt.Errorf("line %d: the output block names no lab: lab=N", b.Line)
	}
	if len(args)+len(set) > 0 && b.Name != "run" && b.Name != "message" {
		return "", fmt.Errorf("line %d: args= and params= are a run's: a check chooses its own", b.Line)
	}
	src := source{what: "solution", dir: l.Path("solution")}
	if wrong != "" {
		src = source{what: wrong, dir: l.Path("testdata", "wrong", wrong)}
	}
	var out bytes.Buffer
	p := a.plain(&out)
	switch b.Name {
	case "check":
		rep, err := p.checkOne(l, src)
		if err != nil {
			return "", err
		}
		rep.Print(&out, report.Style{Hint: fmt.Sprintf("make lab-%d hint", l.Number)})
	case "run":
		// From the finished trace: live, a printed line comes when it is read, which
		// is never twice at the same place.
		steps, res, err := p.timeline(l, src, set, args)
		if err != nil {
			return "", err
		}
		if err := trace.WriteText(&out, steps, trace.Style{}); err != nil {
			return "", err
		}
		if err := p.runEnd(l, res, set); err != nil {
			return "", err
		}
	case "message":
		tr := trace.New()
		if _, err := p.program(l, src, set, args, func(e trace.Event) { tr.Add(e) }); err != nil {
			return "", err
		}
		if err := writeMessage(&out, tr.Program(0, wire.ProgramPath)); err != nil {
			return "", fmt.Errorf("line %d: %w", b.Line, err)
		}
	default:
		return "", fmt.Errorf("line %d: no output block %q: there are check, run, message and bug", b.Line, b.Name)
	}
	return strings.Trim(out.String(), "\n") + "\n", nil
}

// timeline runs a program and returns the steps of its run.
func (a *app) timeline(l *lab.Lab, src source, params settings, args []string) ([]trace.Step, *vm.Result, error) {
	tr := trace.New()
	res, err := a.program(l, src, params, args, func(e trace.Event) { tr.Add(e) })
	if err != nil {
		return nil, nil, err
	}
	return tr.Program(0, wire.ProgramPath).Timeline(), res, nil
}

var pictureRuns = regexp.MustCompile(`^<!-- runs: (.+) -->\n`)

// picture draws the timeline of a run of the solution, or those of the runs that
// the old picture names in its first line: by the module's parameters, which makes
// columns (with args=100,4 the program has arguments in them), or one run by the
// program's arguments alone.
func (a *app) picture(l *lab.Lab, w io.Writer, old string) error {
	src := source{what: "solution", dir: l.Path("solution")}
	runs := pictureRuns.FindStringSubmatch(old)
	if runs == nil {
		steps, _, err := a.timeline(l, src, nil, nil)
		if err != nil {
			return err
		}
		return trace.WriteSVG(w, steps, l.Meta.Title)
	}
	if args, ok := strings.CutPrefix(runs[1], "args="); ok && !strings.ContainsAny(args, " |") {
		steps, _, err := a.timeline(l, src, nil, strings.Split(args, ","))
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, runs[0]); err != nil {
			return err
		}
		return trace.WriteSVG(w, steps, l.Meta.Title)
	}
	var columns []trace.Column
	for run := range strings.SplitSeq(runs[1], "|") {
		var args []string
		var set string
		for field := range strings.FieldsSeq(run) {
			if list, ok := strings.CutPrefix(field, "args="); ok {
				args = strings.Split(list, ",")
			} else {
				set += field + " "
			}
		}
		params, err := parseSettings(set, "")
		if err != nil {
			return err
		}
		steps, _, err := a.timeline(l, src, params, args)
		if err != nil {
			return err
		}
		columns = append(columns, trace.Column{Caption: params.String(), Steps: steps})
	}
	if _, err := io.WriteString(w, runs[0]); err != nil {
		return err
	}
	return trace.WriteSVGBeside(w, l.Meta.Title, columns...)
}
