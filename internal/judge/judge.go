// SPDX-License-Identifier: MIT

// Package judge checks a program against a lab: it builds the check, boots as
// often as the lab asks, and makes the report.
package judge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"netlinklabs/internal/initramfs"
	"netlinklabs/internal/kernel"
	"netlinklabs/internal/lab"
	"netlinklabs/internal/place"
	"netlinklabs/internal/report"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// Judge checks programs on one kernel. It may be used by several goroutines at
// once; checks and modules are built once each.
type Judge struct {
	VM *place.VM
	// Here, where not nil, is where the boots run that a kernel survives: the last of
	// each lab. Its kernel is the one of VM.
	Here    *place.Here
	Root    string // of the repository
	Dir     string // scratch folder for what is built
	Builder *lab.Builder
	Say     func(string) // progress; may be nil
	// Earlier is called with what a boot before the last one has left; may be nil.
	Earlier func(boot string, left wire.Earlier)

	mu    sync.Mutex
	built map[string]func() error // by path of what is built
}

// Once runs build for a path the first time, and returns its error each time.
func (j *Judge) Once(path string, build func() error) error {
	j.mu.Lock()
	if j.built == nil {
		j.built = map[string]func() error{}
	}
	f := j.built[path]
	if f == nil {
		f = sync.OnceValue(build)
		j.built[path] = f
	}
	j.mu.Unlock()
	return f()
}

func (j *Judge) say(format string, args ...any) {
	if j.Say != nil {
		j.Say(fmt.Sprintf(format, args...))
	}
}

// BuildCheck builds the lab's check, unless that was done, and returns its path.
func (j *Judge) BuildCheck(ctx context.Context, l *lab.Lab) (string, error) {
	path := filepath.Join(j.Dir, l.Name+".check")
	return path, j.Once(path, func() error { return j.Builder.Check(ctx, l, path) })
}

// Modules builds or finds the modules that are asked for: those of kmod/, those of
// other folders of the project ("claims/testdata/nlrare"), or the kernel's own with
// what they depend on. params are by module's name.
func (j *Judge) Modules(ctx context.Context, names []string, params func(name string) []string) ([]place.Module, error) {
	return Modules(ctx, j.VM.Kernel, j.Root, names, params, j.Say)
}

// Modules is the Judge's method for who has no Judge.
func Modules(ctx context.Context, k *kernel.Prepared, root string, names []string, params func(string) []string, say func(string)) ([]place.Module, error) {
	var out []place.Module
	for _, name := range names {
		dir := filepath.Join(root, "kmod", name)
		if strings.Contains(name, "/") {
			dir = filepath.Join(root, name)
			name = filepath.Base(name)
			if !isDir(dir) {
				return nil, fmt.Errorf("there is no folder %s for the module %s", dir, name)
			}
		}
		if isDir(dir) {
			ko, err := k.BuildModule(ctx, dir, say)
			if err != nil {
				return nil, err
			}
			data, err := os.ReadFile(ko)
			if err != nil {
				return nil, err
			}
			out = append(out, place.Module{Name: name, Data: data, Params: strings.Join(params(name), " ")})
			continue
		}
		stock, err := k.Modules(name)
		if err != nil {
			return nil, err
		}
		for _, m := range stock {
			pm := place.Module{Name: m.Name, Data: m.Data, Stock: true}
			if m.Name == strings.ReplaceAll(name, "-", "_") {
				pm.Params = strings.Join(params(name), " ")
			}
			out = append(out, pm)
		}
	}
	return out, nil
}

// Describe returns what a check in the VM must know of the lab.
func Describe(l *lab.Lab) *wire.Lab {
	w := &wire.Lab{Number: l.Number, Name: l.Name, Title: l.Meta.Title, Keys: l.Meta.Keys,
		Capabilities: l.Meta.Capabilities, Trace: l.Meta.Trace, Program: wire.ProgramPath, Boots: l.Meta.Boots}
	for _, s := range l.Meta.Steps {
		w.Steps = append(w.Steps, wire.LabStep{Title: s.Title, Points: s.Points, Read: s.Read})
	}
	return w
}

// Check judges the executable program, with the files that the student wrote beside
// it, by name. The error is for checks that could not be made; a place that failed is
// an outcome of the report.
func (j *Judge) Check(ctx context.Context, l *lab.Lab, program string, files map[string][]byte) (*report.Report, error) {
	if l.Err != nil {
		return nil, l.Err
	}
	if ok, err := j.VM.Kernel.AtLeast(l.Meta.KernelMin); err != nil || !ok {
		return nil, fmt.Errorf("lab %d needs Linux %s or newer, this is %s: choose another with KERNEL=", l.Number, l.Meta.KernelMin, j.VM.Kernel.Release)
	}
	check, err := j.BuildCheck(ctx, l)
	if err != nil {
		return nil, err
	}
	modules, err := j.Modules(ctx, l.Meta.Modules, l.Meta.ModuleParams)
	if err != nil {
		return nil, err
	}
	desc := Describe(l)
	earlier := map[string]wire.Earlier{}
	var took, cpu time.Duration // of the boots before the last
	for i, boot := range l.Meta.Boots {
		last := i == len(l.Meta.Boots)-1
		desc.Boot = boot
		var records []wire.Record
		var output bytes.Buffer
		builder := report.NewBuilder(desc)
		if last {
			j.say("lab %d: running on %s", l.Number, j.VM.Kernel.Release)
		} else {
			j.say("lab %d: running on %s, which may die of it", l.Number, j.VM.Kernel.Release)
		}
		run := j.VM.Run
		if last && j.Here != nil {
			here := *j.Here
			here.Task = fmt.Sprintf("lab %d", l.Number)
			run = here.Run
		}
		res, err := run(ctx, &place.Job{
			Guest:   check,
			Argv:    []string{wire.GuestPath, "-test.v"},
			Dir:     filepath.Dir(wire.JobPath),
			Modules: modules,
			Lab:     desc,
			Stdout:  &output, Stderr: &output,
			Record: func(r wire.Record) {
				records = append(records, r)
				builder.Add(r)
			},
			Files: func(w *initramfs.Writer) {
				w.Program(wire.ProgramPath, program)
				w.Dir(wire.FilesDir, 0o700)
				for name, text := range files {
					w.Data(wire.FilesDir+"/"+name, 0o600, text)
				}
				w.Dir(wire.EarlierDir, 0o700)
				for name, e := range earlier {
					if b, err := json.Marshal(e); err == nil {
						w.Data(wire.EarlierDir+"/"+name+".json", 0o600, b)
					}
				}
			},
		})
		if err != nil {
			return nil, err
		}
		// A check that failed in an earlier boot has not seen the kernel live.
		if last || res.Verdict.Environment() || res.Verdict == vm.Done && res.Status.Code != 0 {
			rep := builder.Finish(res, output.String())
			rep.Seconds += took.Seconds()
			rep.CPUSeconds += cpu.Seconds()
			return rep, nil
		}
		took += res.Total
		cpu += res.CPU
		left := wire.Earlier{Verdict: res.Verdict.String(), Records: records, Console: string(res.Console)}
		earlier[boot] = left
		files = fill(files, left)
		if j.Earlier != nil {
			j.Earlier(boot, left)
		}
	}
	panic("unreachable: a lab has at least one boot")
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
