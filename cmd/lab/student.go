// SPDX-License-Identifier: MIT

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"netlinklabs/internal/lab"
	"netlinklabs/internal/text"
)

// startStep is the variable START: the step that the student begins with.
func startStep(l *lab.Lab) (int, error) {
	v := os.Getenv("START")
	if v == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > len(l.Meta.Steps) {
		return 0, usagef("START=%s: lab %d has the steps 1 to %d", v, l.Number, len(l.Meta.Steps))
	}
	return n, nil
}

// list shows all labs and what is next.
func (a *app) list(args []string) error {
	if len(args) > 0 {
		return usagef("list takes no arguments")
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	fmt.Fprint(a.out, "Netlink Labs: predict what the kernel will do, write it, see.\n\n")
	next := -1
	for _, l := range a.cat.Labs {
		mark, title := "   ", l.Meta.Title
		switch st, _, err := w.State(l); {
		case l.Err != nil:
			mark, title = " ! ", "broken: "+firstLine(l.Err)
		case err == nil && !st.Passed.IsZero():
			mark = "ok "
		case next < 0:
			next, mark = l.Number, "-> "
		}
		fmt.Fprintf(a.out, "  %s lab %-3d %s\n", mark, l.Number, title)
	}
	if next < 0 {
		next = a.cat.Labs[len(a.cat.Labs)-1].Number
	}
	fmt.Fprintf(a.out, `
  make lab-%[1]d             what lab %[1]d is about
  make lab-%[1]d check       build, boot, judge
  make lab-%[1]d run         run your program in the VM, with the kernel's side beside it
  make lab-%[1]d hint        the next hint
  make lab-%[1]d solution    the solution beside your code
  make lab-%[1]d reset       back to the starter; your code is kept
  make shell             a root shell in the VM
  make check             all labs, a line each
  make doctor            what this machine lacks
  make test              the project's own tests
`, next)
	return nil
}

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

// show tells what a lab is about, in ten lines.
func (a *app) show(args []string) error {
	l, err := a.one("show", args)
	if err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	if err := a.ensure(l, w); err != nil {
		return err
	}
	st, _, err := w.State(l)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "lab %d  %s\n\n  %s\n\n", l.Number, l.Meta.Title, l.Meta.Question)
	for i, s := range l.Meta.Steps {
		mark := "  "
		if st.Steps[i+1] {
			mark = "ok"
		}
		fmt.Fprintf(a.out, "  %s %d  %s (%d)\n", mark, i+1, s.Title, s.Points)
	}
	fmt.Fprintf(a.out, "\n  read   labs/%s/README.md\n", l.Name)
	if holes, err := l.Holes(); err == nil && len(holes) == 0 {
		fmt.Fprintf(a.out, "  look   %s: nothing to write in this lab\n", a.short(w.LabDir(l)))
	} else {
		fmt.Fprintf(a.out, "  edit   %s\n", strings.Join(append([]string{a.short(w.LabDir(l)) + "/main.go"}, l.Meta.Files...), ", "))
	}
	fmt.Fprintf(a.out, "  type   make lab-%d check, make lab-%d run, make lab-%d hint\n", l.Number, l.Number, l.Number)
	return nil
}

// hint gives the next hint for the first step that has not passed.
func (a *app) hint(args []string) error {
	l, err := a.one("hint", args)
	if err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	hints, err := l.Hints()
	if err != nil {
		return err
	}
	note, err := w.Update(l, func(s *lab.State) error {
		step := s.NextStep(l)
		if holes, err := l.Holes(); err == nil && len(holes) == 0 {
			fmt.Fprintf(a.out, "there is nothing to write in lab %d: read it, and type make lab-%d check\n", l.Number, l.Number)
			return nil
		}
		if step == 0 {
			fmt.Fprintf(a.out, "lab %d has passed: no hint is needed. All of them are in labs/%s/hints.md, and the solution is a good read now: make lab-%d solution\n", l.Number, l.Name, l.Number)
			return nil
		}
		given := hints.Given(s, step)
		next, ok := hints.Next(s, step)
		for _, h := range given {
			a.printHint(l, h)
		}
		if ok {
			a.printHint(l, next)
			return nil
		}
		fmt.Fprintf(a.out, "These were all hints for step %d. What is left: make lab-%d solution\n", step, l.Number)
		return nil
	})
	if note != "" {
		a.note("%s", note)
	}
	return err
}

func (a *app) printHint(l *lab.Lab, h lab.Hint) {
	fmt.Fprintf(a.out, "step %d of lab %d, hint %d of %d\n\n%s\n\n", h.Step, l.Number, h.Level, len(lab.HintLevels), text.Fill(h.Text, cmp.Or(min(a.width, 100), 80)))
}

// solution shows the solution beside the student's code.
func (a *app) solution(args []string) error {
	l, err := a.one("solution", args)
	if err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	sol, err := l.Solution()
	if err != nil {
		return err
	}
	mine, err := lab.StudentSource(w.LabDir(l))
	fresh := errors.Is(err, os.ErrNotExist)
	if fresh {
		_, err = a.out.Write(sol)
	} else if err == nil {
		err = lab.Compare(a.out, "your code", mine, "solution", string(sol), a.width)
	}
	if err != nil {
		return err
	}
	right, err := l.SolutionFiles()
	if err != nil {
		return err
	}
	own, err := l.Files(w.LabDir(l))
	if err != nil {
		return err
	}
	for _, name := range l.Meta.Files {
		fmt.Fprintln(a.out)
		if fresh {
			_, err = a.out.Write(right[name])
		} else {
			err = lab.Compare(a.out, "your "+name, string(own[name]), "solution", string(right[name]), a.width)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reset puts the starter back and keeps what was there.
func (a *app) reset(args []string) error {
	l, err := a.one("reset", args)
	if err != nil {
		return err
	}
	w, err := a.workspace()
	if err != nil {
		return err
	}
	start, err := startStep(l)
	if err != nil {
		return err
	}
	backup, err := w.Reset(l, start)
	if err != nil {
		return err
	}
	if backup != "" {
		fmt.Fprintf(a.out, "your code is kept in %s\n", a.short(backup))
	}
	fmt.Fprintf(a.out, "%s is the starter again\n", a.short(w.LabDir(l)))
	return nil
}
