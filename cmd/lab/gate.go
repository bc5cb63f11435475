// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"netlinklabs/internal/judge"
	"netlinklabs/internal/lab"
	"netlinklabs/internal/report"
)

// trial is one program with the verdict that the check must reach on it.
type trial struct {
	lab  *lab.Lab
	name string
	dir  string // the Go code
	// step is the one that must fail, with words in its message; 0 means that the
	// check must pass.
	step  int
	words string
}

// trials lists everything that proves a lab's check: the solution and other right
// answers in Go, the starter of each step, and each wrong answer. Starters are
// written into dir.
func trials(l *lab.Lab, dir string) ([]trial, error) {
	out := []trial{{lab: l, name: "solution", dir: l.Path("solution")}}
	right, err := filepath.Glob(l.Path("testdata/right/*/*.go"))
	if err != nil {
		return nil, err
	}
	for _, path := range right {
		dir := filepath.Dir(path)
		if at := filepath.Base(dir); out[len(out)-1].dir != dir {
			out = append(out, trial{lab: l, name: "right answer " + at, dir: dir})
		}
	}
	holes, err := l.Holes()
	if err != nil {
		return nil, err
	}
	for _, n := range holes {
		files, err := lab.StartFiles(l, n)
		if err != nil {
			return nil, err
		}
		at := filepath.Join(dir, fmt.Sprintf("%s.start-%d", l.Name, n))
		if err := os.MkdirAll(at, 0o755); err != nil {
			return nil, err
		}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(at, name), text, 0o644); err != nil {
				return nil, err
			}
		}
		out = append(out, trial{l, fmt.Sprintf("starter, START=%d", n), at, n, lab.NotDone(n)})
	}
	wrong, err := l.Wrong()
	if err != nil {
		return nil, err
	}
	for _, w := range wrong {
		out = append(out, trial{l, "wrong answer " + w.Name, w.Dir, w.Step, w.Words})
	}
	return out, nil
}

// try builds and checks the trial's program, once; it returns what is wrong with
// the check's verdict, or "".
func (t *trial) try(ctx context.Context, j *judge.Judge) (string, error) {
	program := filepath.Join(j.Dir, strings.NewReplacer(" ", "-", ",", "").Replace(t.lab.Name+"."+t.name)+".program")
	if err := j.Once(program, func() error { return j.Builder.Program(ctx, t.dir, program) }); err != nil {
		return "", err
	}
	files, err := t.lab.TestFiles(t.dir)
	if err != nil {
		return "", err
	}
	rep, err := j.Check(ctx, t.lab, program, files)
	if err != nil {
		return "", err
	}
	return t.judge(rep), nil
}

// judge compares a report with what it should be.
func (t *trial) judge(rep *report.Report) string {
	var printed strings.Builder
	rep.Print(&printed, report.Style{})
	got := func(format string, args ...any) string {
		return fmt.Sprintf(format, args...) + "\n" + printed.String()
	}
	if t.step == 0 {
		if rep.Outcome != report.Passed {
			return got("it does not pass")
		}
		return ""
	}
	if rep.Outcome != report.Failed {
		return got("its outcome is %q, it must fail at step %d", rep.Outcome, t.step)
	}
	for _, s := range rep.Steps {
		switch {
		case s.State == report.StepFailed && s.N != t.step:
			return got("it fails at step %d, it must fail at step %d", s.N, t.step)
		case s.State == report.StepFailed:
			// As a student reads it: line breaks are no part of the words.
			said := strings.Join(strings.Fields(strings.Join(append(append([]string{s.Got, s.Expected, s.Likely}, s.Trace...), s.Program...), " ")), " ")
			if !strings.Contains(said, t.words) {
				return got("step %d fails without the words %q", t.step, t.words)
			}
			return ""
		}
	}
	return got("no step fails, step %d must", t.step)
}

// tally counts trials and tells what went wrong, at once: who interrupts a long run
// keeps what it has shown. It may be used by several goroutines at once.
type tally struct {
	tell func(text string)

	mu             sync.Mutex
	passed, failed int
	perLab         map[int][2]int // passed, failed
}

func (a *app) tally() *tally {
	return &tally{tell: func(text string) {
		a.progress.clear()
		fmt.Fprintf(a.out, "%s\n\n", strings.TrimRight(text, "\n"))
	}}
}

// fail counts and tells what is wrong apart from trials.
func (c *tally) fail(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed++
	c.tell(text)
}

func (c *tally) add(t *trial, bad string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.perLab == nil {
		c.perLab = map[int][2]int{}
	}
	n := c.perLab[t.lab.Number]
	if bad == "" {
		c.passed++
		n[0]++
	} else {
		n[1]++
		c.failed++
		c.tell(fmt.Sprintf("lab %d, %s: %s", t.lab.Number, t.name, bad))
	}
	c.perLab[t.lab.Number] = n
}

// try runs all trials, as many at once as there may be VMs.
func (a *app) try(j *judge.Judge, all []trial, c *tally) error {
	g, ctx := errgroup.WithContext(a.ctx)
	g.SetLimit(max(runtime.NumCPU(), j.VM.Slots))
	for i := range all {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t := &all[i]
			a.progress.say(fmt.Sprintf("%d of %d: lab %d, %s", c.count()+1, len(all), t.lab.Number, t.name))
			bad, err := t.try(ctx, j)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				bad = err.Error()
			}
			c.add(t, bad)
			return nil
		})
	}
	return g.Wait()
}

func (c *tally) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed + c.failed
}

// gate proves of each lab that its form is sound, its solution passes, its
// starters and wrong answers fail where and how they should.
func (a *app) gate(args []string) error {
	labs, err := a.labs(args)
	if err != nil {
		return err
	}
	j, remove, err := a.judge(os.Getenv("KERNEL"))
	if err != nil {
		return err
	}
	defer remove()
	quiet(j)
	// One more than there are cores: what the programs of some labs do most is wait.
	j.VM.Slots = runtime.NumCPU() + 1
	c := a.tally()
	var all []trial
	form := map[int]int{}
	for _, l := range labs {
		if l.Err != nil {
			c.fail(l.Err.Error())
			continue
		}
		for _, p := range lab.Form(a.ctx, l) {
			form[l.Number]++
			c.fail(p.String())
		}
		ts, err := trials(l, j.Dir)
		if err != nil {
			c.fail(err.Error())
			continue
		}
		all = append(all, ts...)
	}
	if err := a.try(j, all, c); err != nil {
		return err
	}
	a.progress.clear()
	for _, l := range labs {
		n := c.perLab[l.Number]
		mark := "ok "
		if l.Err != nil || n[1]+form[l.Number] > 0 {
			mark = "x  "
		}
		fmt.Fprintf(a.out, "  %s lab %-3d %-20s %d of %d programs judged right, %d problems of form\n", mark, l.Number, l.Slug, n[0], n[0]+n[1], form[l.Number])
	}
	if c.failed > 0 {
		return errNotPassed
	}
	return nil
}

// quiet keeps a judge from telling of each check: the caller tells of them all.
func quiet(j *judge.Judge) {
	j.Say = nil
	j.VM.Say = nil
	if j.Here != nil {
		j.Here.Say = nil
	}
}

var errNoRuns = errors.New("nothing was run")
