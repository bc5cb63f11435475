// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"
)

// soak repeats the labs' checks, on an idle machine and then on one with twice as many
// VMs as cores.
// A check that is right 19 times of 20 is wrong. What must pass (solutions and other
// right answers) is repeated: a false "no" there sends a student after a mistake
// that is none. What must fail (starters, wrong answers), six times as many programs,
// is tried once idle and once loaded, or with -all as often as the others.
func (a *app) soak(args []string) error {
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	times := f.Int("n", 20, "")
	all := f.Bool("all", false, "")
	only := f.String("only", "", "")
	if err := f.Parse(args); err != nil || *times < 1 || !slices.Contains([]string{"", "idle", "loaded"}, *only) {
		return usagef("soak takes -n TIMES, -all, -only idle or loaded, and the numbers of labs")
	}
	labs, err := a.labs(f.Args())
	if err != nil {
		return err
	}
	j, remove, err := a.judge(os.Getenv("KERNEL"))
	if err != nil {
		return err
	}
	defer remove()
	quiet(j)
	var right, wrong []trial
	for _, l := range labs {
		if l.Err != nil {
			return l.Err
		}
		ts, err := trials(l, j.Dir)
		if err != nil {
			return err
		}
		for _, t := range ts {
			if t.step == 0 || *all {
				right = append(right, t)
			} else {
				wrong = append(wrong, t)
			}
		}
	}
	if len(right) == 0 {
		return errNoRuns
	}
	bad := false
	for _, phase := range []string{"idle", "loaded"} {
		if *only != "" && *only != phase {
			continue
		}
		rounds := slices.Concat(slices.Repeat(right, *times), wrong)
		ctx, stop := context.WithCancel(a.ctx)
		if phase == "loaded" {
			// Each VM has another one to share its core with. On this machine's own kernel
			// there is one check at a time, and nothing else to keep the cores busy.
			j.VM.Slots = 2 * runtime.NumCPU()
			if j.Here != nil {
				burn(ctx)
			}
		}
		c := a.tally()
		start := time.Now()
		err := a.try(j, rounds, c)
		stop()
		a.progress.clear()
		bad = bad || c.failed > 0
		what := "that must pass"
		if *all {
			what = "in all"
		}
		fmt.Fprintf(a.out, "%-7s %d %s, %d times each", phase, len(right), what, *times)
		if len(wrong) > 0 {
			fmt.Fprintf(a.out, "; %d that must fail, once each", len(wrong))
		}
		fmt.Fprintf(a.out, ": %d judged right, %d wrong, %s\n", c.passed, c.failed, time.Since(start).Round(time.Second))
		if err != nil {
			return err
		}
	}
	if bad {
		return errNotPassed
	}
	return nil
}

// burn keeps every core busy until ctx ends.
func burn(ctx context.Context) {
	for range runtime.NumCPU() {
		go func() {
			for x := uint64(1); ctx.Err() == nil; {
				for range 1 << 20 {
					x = x*6364136223846793005 + 1
				}
			}
		}()
	}
}
