// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
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
	"netlinklabs/internal/place"
	"netlinklabs/internal/report"
)

// bench compares the time that a check takes beyond the two go builds with that
// of a bare boot: the same kernel and QEMU, and an init that only powers off. The
// two take turns, so that a machine that gets slower meets both alike.
func (a *app) bench(args []string) error {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	times := f.Int("n", 9, "")
	if err := f.Parse(args); err != nil || *times < 1 || f.NArg() > 1 {
		return usagef("bench takes -n TIMES and the number of a lab")
	}
	l, err := a.lab(cmp.Or(f.Arg(0), "1"))
	if err != nil {
		return err
	}
	j, remove, err := a.judge(os.Getenv("KERNEL"))
	if err != nil {
		return err
	}
	defer remove()
	program, bare := filepath.Join(j.Dir, "program"), filepath.Join(j.Dir, "bare")
	if err := j.Builder.Program(a.ctx, l.Path("solution"), program); err != nil {
		return err
	}
	if _, err := j.BuildCheck(a.ctx, l); err != nil {
		return err
	}
	if err := buildBare(a.ctx, a.root, bare); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var check, boot, inside, ratio, cpu, cpuBare, cpuRatio []float64
	var rss int64
	for i := range *times {
		a.progress.say(fmt.Sprintf("%d of %d", i+1, *times))
		// Everything but the two builds is done anew, the tool's own start too.
		start := time.Now()
		if err := exec.CommandContext(a.ctx, self, "help").Run(); err != nil {
			return err
		}
		k, err := kernel.Prepare(a.ctx, os.Getenv("KERNEL"), nil)
		if err != nil {
			return err
		}
		vm := *j.VM
		vm.Kernel, vm.Say = k, nil
		fresh := &judge.Judge{VM: &vm, Root: a.root, Dir: j.Dir, Builder: j.Builder}
		_ = fresh.Once(filepath.Join(j.Dir, l.Name+".check"), func() error { return nil })
		files, err := l.Files(l.Path("solution"))
		if err != nil {
			return err
		}
		rep, err := fresh.Check(a.ctx, l, program, files)
		if err != nil {
			return err
		}
		rep.Print(io.Discard, report.Style{})
		c := time.Since(start).Seconds()
		if rep.Outcome != report.Passed {
			return fmt.Errorf("lab %d's solution does not pass: %s", l.Number, why(rep))
		}
		start = time.Now()
		vm.Guest = bare
		res, err := vm.Run(a.ctx, &place.Job{})
		if err != nil {
			return err
		}
		b := time.Since(start).Seconds()
		if !strings.Contains(res.Detail, "without a result") {
			return fmt.Errorf("the bare boot: %s: %s", res.Verdict, res.Detail)
		}
		check, inside, boot, ratio = append(check, c), append(inside, rep.Seconds), append(boot, b), append(ratio, c/b)
		cpu, cpuBare = append(cpu, rep.CPUSeconds), append(cpuBare, res.CPU.Seconds())
		cpuRatio = append(cpuRatio, rep.CPUSeconds/res.CPU.Seconds())
		rss = max(rss, rep.MaxRSS)
	}
	a.progress.clear()
	fmt.Fprintf(a.out, "kernel %s, %s, %d runs of each, medians (least to most)\n\n", j.VM.Kernel.Release, accelName(j), *times)
	row := func(name, unit string, v []float64) {
		slices.Sort(v)
		fmt.Fprintf(a.out, "  %-44s %6.2f%s  (%.2f to %.2f)\n", name, v[len(v)/2], unit, v[0], v[len(v)-1])
	}
	row(fmt.Sprintf("lab %d's check, without the two go builds", l.Number), " s", check)
	row("  of that, QEMU from start to end", " s", inside)
	row("bare boot, an init that only powers off", " s", boot)
	row("ratio, run by run", "  ", ratio)
	row("QEMU's processor time, check", " s", cpu)
	row("QEMU's processor time, bare boot", " s", cpuBare)
	row("ratio, run by run", "  ", cpuRatio)
	fmt.Fprintf(a.out, "  %-44s %6.0f MB\n", "QEMU's largest resident set", float64(rss)/1e6)
	return nil
}

func accelName(j *judge.Judge) string {
	if j.VM.Accel == "" {
		return "auto"
	}
	return j.VM.Accel
}

// buildBare builds the init that only powers off.
func buildBare(ctx context.Context, root, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", out, "./internal/vm/testdata/bare")
	cmd.Dir = root
	cmd.Env = goEnv()
	var msg bytes.Buffer
	cmd.Stderr = &msg
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building the bare init: %w\n%s", err, msg.String())
	}
	return nil
}
