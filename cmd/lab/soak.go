// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// soak repeats all trials of the labs, on an idle machine and then with every
// core busy. A check that is right 19 times of 20 is wrong.
func (a *app) soak(args []string) error {
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	times := f.Int("n", 20, "")
	if err := f.Parse(args); err != nil || *times < 1 {
		return usagef("soak takes -n TIMES and the numbers of labs")
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
	var once []trial
	for _, l := range labs {
		if l.Err != nil {
			return l.Err
		}
		ts, err := trials(l, j.Dir)
		if err != nil {
			return err
		}
		once = append(once, ts...)
	}
	var all []trial
	for range *times {
		all = append(all, once...)
	}
	if len(all) == 0 {
		return errNoRuns
	}
	bad := false
	for _, loaded := range []bool{false, true} {
		name := "idle"
		ctx, stop := context.WithCancel(a.ctx)
		if loaded {
			name = "loaded"
			burn(ctx)
		}
		c := &tally{}
		start := time.Now()
		err := a.try(j, all, c)
		stop()
		if err != nil {
			return err
		}
		a.progress.clear()
		for _, f := range c.failed {
			bad = true
			fmt.Fprintf(a.out, "%s\n\n", strings.TrimRight(f, "\n"))
		}
		fmt.Fprintf(a.out, "%-7s %d programs, %d times each: %d judged right, %d wrong, %s\n",
			name, len(once), *times, c.passed, len(c.failed), time.Since(start).Round(time.Second))
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
