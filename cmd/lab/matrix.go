// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"netlinklabs/internal/judge"
	"netlinklabs/internal/kernel"
	"netlinklabs/internal/lab"
)

// moduleDirs are the folders of the project's kernel modules.
func moduleDirs(root string) []string {
	builds, _ := filepath.Glob(filepath.Join(root, "kmod", "*", "Kbuild"))
	var dirs []string
	for _, b := range builds {
		dirs = append(dirs, filepath.Dir(b))
	}
	return dirs
}

// labModules are those that a lab loads; all, where the labs have not been read.
func (a *app) labModules() []string {
	if a.cat == nil {
		return moduleDirs(a.root)
	}
	return slices.DeleteFunc(moduleDirs(a.root), func(dir string) bool {
		return !slices.ContainsFunc(a.cat.Labs, func(l *lab.Lab) bool {
			return slices.Contains(l.Meta.Modules, filepath.Base(dir))
		})
	})
}

// moduleTests runs the tests of a kernel module on a kernel, and returns their output.
func (a *app) moduleTests(dir, spec string) (string, error) {
	return a.inVM(filepath.Base(dir), spec, "./"+filepath.ToSlash(rel(a.root, dir))+"/...")
}

// inVM runs the tests of Go packages in the VM, with a module loaded, on the kernel
// spec, and returns their output.
func (a *app) inVM(module, spec string, packages ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	// One package after another: each has a VM of its own, and there are other groups.
	args := append([]string{"test", "-v", "-p=1", "-timeout=10m", "-exec", fmt.Sprintf("'%s' exec -module %s", self, module)}, packages...)
	cmd := exec.CommandContext(a.ctx, "go", args...)
	cmd.Dir = a.root
	cmd.Env = append(goEnv(), "KERNEL="+spec)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

func rel(base, path string) string {
	if r, err := filepath.Rel(base, path); err == nil {
		return r
	}
	return path
}

// matrix runs the modules' tests and the labs' solutions on several kernels.
func (a *app) matrix(args []string) error {
	if len(args) == 0 {
		args = kernel.Series()
	}
	var table [][]string
	head := []string{"kernel", "release"}
	for _, d := range moduleDirs(a.root) {
		head = append(head, filepath.Base(d))
	}
	for _, l := range a.cat.Labs {
		head = append(head, fmt.Sprintf("lab %d", l.Number))
	}
	table = append(table, head)
	var problems []string
	for _, spec := range args {
		j, remove, err := a.judge(spec)
		if err != nil {
			return err
		}
		quiet(j)
		row := []string{spec, j.VM.Kernel.Release}
		cell := func(name string, f func() error) {
			a.progress.say(fmt.Sprintf("%s: %s", spec, name))
			start := time.Now()
			state := "ok"
			if err := f(); err != nil {
				state = "FAILED"
				problems = append(problems, fmt.Sprintf("%s on %s: %v", name, spec, err))
			}
			row = append(row, fmt.Sprintf("%s %.1fs", state, time.Since(start).Seconds()))
		}
		for _, dir := range moduleDirs(a.root) {
			cell(filepath.Base(dir), func() error {
				out, err := a.moduleTests(dir, spec)
				if err == nil && !strings.Contains(out, "--- PASS") {
					err = errNoRuns
				}
				if err != nil {
					return fmt.Errorf("%w\n%s", err, out)
				}
				return nil
			})
		}
		for _, l := range a.cat.Labs {
			cell(fmt.Sprintf("lab %d", l.Number), func() error { return a.solves(j, l) })
		}
		remove()
		if a.ctx.Err() != nil {
			return a.ctx.Err()
		}
		table = append(table, row)
	}
	a.progress.clear()
	writeTable(a.out, table)
	for _, p := range problems {
		fmt.Fprintf(a.out, "\n%s\n", strings.TrimRight(p, "\n"))
	}
	if len(problems) > 0 {
		return errNotPassed
	}
	return nil
}

// solves checks a lab's solution.
func (a *app) solves(j *judge.Judge, l *lab.Lab) error {
	if l.Err != nil {
		return l.Err
	}
	t := trial{lab: l, name: "solution", dir: l.Path("solution")}
	bad, err := t.try(a.ctx, j)
	if err == nil && bad != "" {
		err = errors.New(bad)
	}
	return err
}

// writeTable writes rows in columns as wide as their widest cell.
func writeTable(w io.Writer, rows [][]string) {
	width := map[int]int{}
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len(c))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			fmt.Fprintf(&b, "%-*s  ", width[i], c)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
