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
	"strings"

	"netlinklabs/internal/lab"
	"netlinklabs/internal/report"
	"netlinklabs/internal/trace"
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
//	<!-- output: run -->                a run of the solution
func (a *app) output(args []string) error {
	f := flag.NewFlagSet("output", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	only := f.Bool("check", false, "")
	if err := f.Parse(args); err != nil {
		return usagef("output takes -check and the numbers of labs")
	}
	labs, err := a.labs(f.Args())
	if err != nil {
		return err
	}
	stale := false
	for _, l := range labs {
		if l.Err != nil {
			return l.Err
		}
		files, err := a.outputs(l)
		if err != nil {
			return err
		}
		for _, file := range files {
			if file.diff == "" {
				continue
			}
			stale = true
			a.progress.clear()
			name := filepath.ToSlash(rel(a.root, file.path))
			if *only {
				fmt.Fprintf(a.out, "%s is not what a run of today shows: make output\n%s\n", name, file.diff)
				continue
			}
			if err := os.WriteFile(file.path, []byte(file.now), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s: written\n", name)
		}
		a.progress.clear()
		fmt.Fprintf(a.out, "labs/%s: looked through\n", l.Name)
	}
	if *only && stale {
		return errNotPassed
	}
	return nil
}

// shownFile is a file that shows output, as it is and as it should be.
type shownFile struct{ path, now, diff string }

// outputs renders all that a lab's folder shows.
func (a *app) outputs(l *lab.Lab) ([]shownFile, error) {
	var files []shownFile
	path := l.Path("README.md")
	old, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	diff := ""
	now, err := lab.ReplaceOutput(path, string(old), func(b lab.OutputBlock) (string, error) {
		text, err := a.render(l, b)
		diff += lab.SameOutput(b.Text, text)
		if err == nil && lab.SameOutput(b.Text, text) == "" {
			return b.Text, nil // no noise in the history for other milliseconds
		}
		return text, err
	})
	if err != nil {
		return nil, err
	}
	files = append(files, shownFile{path, now, diff})

	path = l.Path(pictureFile)
	if old, err = os.ReadFile(path); err == nil {
		var svg bytes.Buffer
		if err := a.picture(l, &svg); err != nil {
			return nil, err
		}
		files = append(files, shownFile{path, svg.String(), lab.SameOutput(svgText(string(old)), svgText(svg.String()))})
	}
	return files, nil
}

var tags = regexp.MustCompile(`<[^>]*>`)

// svgText is what a picture says, a line each.
func svgText(svg string) string {
	var lines []string
	for l := range strings.Lines(tags.ReplaceAllString(svg, "\n")) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "\n")
}

// plain is the tool as it prints into a text: no terminal, 80 columns.
func (a *app) plain(out io.Writer) *app {
	p := *a
	p.out, p.terminal, p.colour, p.width = out, false, false, 80
	return &p
}

// render prints what a block asks for.
func (a *app) render(l *lab.Lab, b lab.OutputBlock) (string, error) {
	src := source{what: "solution", dir: l.Path("solution")}
	for _, arg := range b.Args {
		name, ok := strings.CutPrefix(arg, "wrong=")
		if !ok {
			return "", fmt.Errorf("labs/%s/README.md:%d: an output block knows wrong=NAME, not %q", l.Name, b.Line, arg)
		}
		src = source{what: name, dir: l.Path("testdata", "wrong", name)}
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
		if err := p.runSource(l, src, nil); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("labs/%s/README.md:%d: no output block %q: there are check and run", l.Name, b.Line, b.Name)
	}
	return strings.Trim(out.String(), "\n") + "\n", nil
}

// picture draws the timeline of a run of the solution.
func (a *app) picture(l *lab.Lab, w io.Writer) error {
	tr := trace.New()
	src := source{what: "solution", dir: l.Path("solution")}
	if _, err := a.program(l, src, nil, func(e trace.Event) { tr.Add(e) }); err != nil {
		return err
	}
	return trace.WriteSVG(w, tr.Program(0, wire.ProgramPath).Timeline(), l.Meta.Title)
}
