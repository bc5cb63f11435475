// SPDX-License-Identifier: MIT

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"netlinklabs/internal/cache"
	"netlinklabs/internal/judge"
	"netlinklabs/internal/lab"
	"netlinklabs/internal/place"
	"netlinklabs/internal/report"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// source is where the program under test comes from.
type source struct {
	what    string // for the report
	dir     string // Go code, or
	program string // a finished executable
	work    bool   // it is the student's own work
	// earlier gets what a boot before the last one has left; may be nil.
	earlier func(boot string, left wire.Earlier)
}

// source finds what is to be judged for a lab: CODE, PROGRAM, SOLUTION, or the
// student's folder, which is made on first use.
func (a *app) source(l *lab.Lab, w lab.Workspace) (source, error) {
	code, program, solution := os.Getenv("CODE"), os.Getenv("PROGRAM"), os.Getenv("SOLUTION") == "1"
	n := 0
	for _, set := range []bool{code != "", program != "", solution} {
		if set {
			n++
		}
	}
	switch {
	case n > 1:
		return source{}, usagef("CODE, PROGRAM and SOLUTION=1 exclude each other")
	case code != "":
		return source{what: code, dir: code}, nil
	case program != "":
		return source{what: program, program: program}, lab.CheckProgram(program, "")
	case solution:
		return source{what: "solution", dir: l.Path("solution")}, nil
	}
	if err := a.ensure(l, w); err != nil {
		return source{}, err
	}
	dir := w.LabDir(l)
	return source{what: a.short(dir), dir: dir, work: true, earlier: func(_ string, left wire.Earlier) {
		if left.Verdict == vm.Panicked.String() {
			a.keepCrash(dir, judge.Events(left), []byte(left.Console))
		}
	}}, nil
}

// ensure makes the student's folder on first use and says so.
func (a *app) ensure(l *lab.Lab, w lab.Workspace) error {
	start, err := startStep(l)
	if err != nil {
		return err
	}
	made, err := w.Ensure(l, start)
	if err == nil && made {
		a.note("your code for lab %d is in %s, made from the starter", l.Number, a.short(filepath.Join(w.LabDir(l), "main.go")))
	}
	return err
}

// short is a path as the user would type it.
func (a *app) short(path string) string {
	cwd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(cwd, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return rel
}

// build builds the program of a source and returns its path.
func (s source) build(ctx context.Context, b *lab.Builder, dir, name string) (string, error) {
	if s.program != "" {
		return s.program, nil
	}
	out := filepath.Join(dir, name)
	return out, b.Program(ctx, s.dir, out)
}

// files returns what was written beside the program, by name.
func (s source) files(l *lab.Lab) (map[string][]byte, error) {
	if s.program != "" {
		return l.Files(filepath.Dir(s.program))
	}
	if dir, err := filepath.Abs(s.dir); err == nil && strings.HasPrefix(dir, l.Path("testdata")+"/") {
		return l.TestFiles(dir)
	}
	return l.Files(s.dir)
}

func (a *app) check(args []string) error {
	f := flag.NewFlagSet("check", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	jsonFile := f.String("json", "", "")
	if err := f.Parse(args); err != nil {
		return usagef("check: %v", err)
	}
	if f.NArg() != 1 {
		return a.checkMany(f.Args(), *jsonFile)
	}
	l, err := a.lab(f.Arg(0))
	if err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	src, err := a.source(l, w)
	if err != nil {
		return err
	}
	if err := a.predict(l, w, src); err != nil {
		return err
	}
	rep, err := a.checkOne(l, src)
	if err != nil {
		return err
	}
	a.progress.clear()
	style := report.Style{Colour: a.colour, Width: a.width}
	if src.work {
		style.Hint = fmt.Sprintf("make lab-%d hint", l.Number)
	}
	rep.Print(a.out, style)
	if src.work {
		if err := a.remember(l, w, rep); err != nil {
			return err
		}
	}
	if *jsonFile != "" {
		if err := writeJSON(*jsonFile, rep); err != nil {
			return err
		}
	}
	return outcome(rep)
}

// checkOne builds program and check at the same time, and judges.
func (a *app) checkOne(l *lab.Lab, src source) (*report.Report, error) {
	if a.where == place.InVagrant {
		return a.checkAway(l, src)
	}
	// The program first, apart from everything: a compile error is for the student
	// to see before anything is fetched or booted.
	dir, remove, err := cache.Scratch()
	if err != nil {
		return nil, err
	}
	defer remove()
	a.progress.say(fmt.Sprintf("lab %d: building", l.Number))
	var program string
	j := &judge.Judge{Root: a.root, Dir: dir, Builder: a.builder(), Say: a.progress.say}
	g, ctx := errgroup.WithContext(a.ctx)
	g.Go(func() (err error) {
		program, err = src.build(ctx, j.Builder, dir, "program")
		return err
	})
	g.Go(func() error {
		_, err := j.BuildCheck(ctx, l)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if j.VM, j.Here, err = a.places(os.Getenv("KERNEL")); err != nil {
		return nil, err
	}
	files, err := src.files(l)
	if err != nil {
		return nil, err
	}
	j.Earlier = src.earlier
	rep, err := j.Check(a.ctx, l, program, files)
	if rep != nil {
		rep.Code = src.what
	}
	return rep, err
}

// outcome is the error that says how a check ended, after it was printed.
func outcome(rep *report.Report) error {
	switch rep.Outcome {
	case report.Passed:
		return nil
	case report.Failed:
		return errNotPassed
	default:
		return fmt.Errorf("no verdict on lab %d: %s", rep.Lab, rep.Problem)
	}
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// predict asks the lab's predictions before the first run of the student's work.
func (a *app) predict(l *lab.Lab, w lab.Workspace, src source) error {
	if !src.work || !a.terminal {
		return nil
	}
	st, note, err := w.State(l)
	if err != nil {
		return err
	}
	if note != "" {
		a.note("%s", note)
	}
	// Reading cannot be interrupted, but waiting for it can.
	asked := make(chan error, 1)
	go func() { asked <- lab.AskPredictions(os.Stdin, a.out, l, st) }()
	select {
	case err = <-asked:
	case <-a.ctx.Done():
		err = a.ctx.Err()
	}
	if err != nil {
		return err
	}
	_, err = w.Update(l, func(s *lab.State) error {
		s.Predictions = st.Predictions
		return nil
	})
	return err
}

// remember keeps the result of a check and shows the predictions beside it.
func (a *app) remember(l *lab.Lab, w lab.Workspace, rep *report.Report) error {
	if rep.Outcome == report.Environment {
		return nil
	}
	steps := map[int]bool{}
	for _, s := range rep.Steps {
		steps[s.N] = s.State == report.StepPassed
	}
	truth := map[string]lab.Truth{}
	for _, ans := range rep.Answers {
		truth[ans.ID] = lab.Truth{Option: ans.Option, Why: ans.Why}
	}
	note, err := w.Update(l, func(s *lab.State) error {
		outcomes, err := lab.Outcomes(l, s, truth)
		if err != nil {
			return err
		}
		s.Checked(steps, rep.Outcome == report.Passed)
		var told strings.Builder
		err = lab.WriteOutcomes(&told, s, outcomes, cmp.Or(min(a.width, 110), 80))
		if told.Len() > 0 {
			fmt.Fprintf(a.out, "\nyour predictions\n%s", told.String())
		}
		return err
	})
	if note != "" {
		a.note("%s", note)
	}
	return err
}

// checkMany checks several labs, all when none is named, and prints a line each.
func (a *app) checkMany(names []string, jsonFile string) error {
	labs, err := a.labs(names)
	if err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	if a.where == place.InVagrant {
		if err := a.connect(a.ctx); err != nil { // once, and not for each lab
			return err
		}
	}
	var reports []*report.Report
	var failed, fault error
	for _, l := range labs {
		rep, err := func() (*report.Report, error) {
			if l.Err != nil {
				return nil, l.Err
			}
			src, err := a.source(l, w)
			if err != nil {
				return nil, err
			}
			rep, err := a.checkOne(l, src)
			if err == nil && src.work {
				quiet := *a
				quiet.out = io.Discard
				err = quiet.remember(l, w, rep)
			}
			return rep, err
		}()
		if a.ctx.Err() != nil {
			return a.ctx.Err()
		}
		a.progress.clear()
		switch {
		case err != nil:
			first, _, _ := strings.Cut(err.Error(), "\n")
			fmt.Fprintf(a.out, "  x   lab %-3d %-20s %s\n", l.Number, l.Slug, first)
			if isCode(err) {
				failed = errNotPassed
			} else {
				fault = err
			}
			continue
		case rep.Outcome == report.Passed:
			fmt.Fprintf(a.out, "  ok  lab %-3d %-20s %2d/%-2d  %s\n", l.Number, l.Slug, rep.Points, rep.Of, rep.Facts())
		default:
			fmt.Fprintf(a.out, "  x   lab %-3d %-20s %2d/%-2d  %s\n", l.Number, l.Slug, rep.Points, rep.Of, why(rep))
			if err := outcome(rep); rep.Outcome == report.Failed {
				failed = err
			} else {
				fault = err
			}
		}
		reports = append(reports, rep)
	}
	if jsonFile != "" {
		if err := writeJSON(jsonFile, reports); err != nil {
			return err
		}
	}
	if fault != nil {
		return fault
	}
	return failed
}

// why says in one line what a report fails for.
func why(rep *report.Report) string {
	for _, s := range rep.Steps {
		if s.State == report.StepFailed {
			return fmt.Sprintf("step %d: %s", s.N, s.Got)
		}
	}
	return rep.Problem
}
