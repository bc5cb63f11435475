// SPDX-License-Identifier: MIT

package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"netlinklabs/internal/report"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

var lab = &wire.Lab{Number: 4, Name: "04-slow-echo", Title: "How long does sendmsg take?", Steps: []wire.LabStep{
	{Title: "the message is sent", Points: 1, Read: "step-1"},
	{Title: "the time sendmsg took is measured", Points: 2, Read: "step-2"},
}}

func step(n int, passed bool) wire.Record {
	s := &wire.Step{N: n, Passed: passed}
	if !passed {
		s.Got = "blocked_ms=2"
	}
	return wire.Record{Kind: wire.KindStep, Step: s}
}

var (
	begin = wire.Record{Kind: wire.KindBegin}
	end   = wire.Record{Kind: wire.KindEnd}
	fault = wire.Record{Kind: wire.KindFault, Text: "the trace has gaps"}
)

func finish(r *vm.Result, records ...wire.Record) *report.Report {
	b := report.NewBuilder(lab)
	for _, rec := range records {
		b.Add(rec)
	}
	return b.Finish(r, "what the test printed\n")
}

// TestAbsenceIsNeverAPass goes through everything that can be there or not: of
// all combinations just one is a pass, and points are whole only with it.
func TestAbsenceIsNeverAPass(t *testing.T) {
	verdicts := []vm.Verdict{vm.Done, vm.Panicked, vm.Dirty, vm.Hung, vm.Flooded, vm.NoBoot, vm.Ended, vm.Faulted, vm.Unheard}
	statuses := []wire.Status{{Code: 0}, {Code: 1}, {Code: 2}, {Code: -1, Signal: "SIGKILL"}}
	stepStates := [][]wire.Record{{}, {step(1, false)}, {step(1, true)}, {step(2, false)}, {step(2, true)}, {step(1, true), step(2, true)},
		{step(1, true), step(2, false)}, {step(1, false), step(2, true)}, {step(1, false), step(2, false)},
		// What no check can send by labtest's functions.
		{step(1, true), step(3, true)}, {step(0, true), step(1, true)}, {step(1, true), step(2, true), step(3, true)},
		{step(1, false), step(1, true), step(2, true)}, {step(1, true), step(1, true), step(2, true)},
		{step(1, true), {Kind: wire.KindStep}}, {{Kind: "unknown"}},
	}
	both := [2]bool{false, true}
	passes := 0
	for _, v := range verdicts {
		for _, st := range statuses {
			for i, steps := range stepStates {
				for _, began := range both {
					for _, ended := range both {
						for _, faulty := range both {
							var records []wire.Record
							if began {
								records = append(records, begin)
							}
							records = append(records, steps...)
							if faulty {
								records = append(records, fault)
							}
							if ended {
								records = append(records, end)
							}
							rep := finish(&vm.Result{Where: "vm", Verdict: v, Status: st}, records...)
							whole := (i == 5 || i == 13) && began && ended && !faulty && v == vm.Done && st.Code == 0
							if (rep.Outcome == report.Passed) != whole {
								t.Errorf("%v, %+v, steps %d, begin %t, end %t, fault %t: %s (%s)", v, st, i, began, ended, faulty, rep.Outcome, rep.Problem)
							}
							if rep.Outcome == report.Passed {
								passes++
							}
							if (rep.Points == rep.Of) != (rep.Outcome == report.Passed) {
								t.Errorf("%v, %+v, steps %d, begin %t, end %t, fault %t: %s with %d of %d points", v, st, i, began, ended, faulty, rep.Outcome, rep.Points, rep.Of)
							}
							failedStep := false
							for _, s := range rep.Steps {
								failedStep = failedStep || s.State == report.StepFailed
							}
							if rep.Outcome != report.Passed && rep.Problem == "" && !failedStep {
								t.Errorf("%v, %+v, steps %d, begin %t, end %t, fault %t: %s without a word why", v, st, i, began, ended, faulty, rep.Outcome)
							}
							if v.Environment() && rep.Outcome != report.Environment {
								t.Errorf("%v is the place's fault, the outcome is %s", v, rep.Outcome)
							}
						}
					}
				}
			}
		}
	}
	if passes != 2 {
		t.Errorf("%d combinations pass, want 2: all steps once, and a step's pass told twice", passes)
	}
	b := report.NewBuilder(&wire.Lab{})
	b.Add(begin)
	b.Add(end)
	if rep := b.Finish(&vm.Result{}, ""); rep.Outcome != report.Environment {
		t.Errorf("a lab without steps: %s", rep.Outcome)
	}
}

func TestOutcomes(t *testing.T) {
	done := &vm.Result{Where: "vm", Status: wire.Status{Code: 0}}
	failed := &vm.Result{Where: "vm", Status: wire.Status{Code: 1}}
	for _, tt := range []struct {
		name    string
		result  *vm.Result
		records []wire.Record
		outcome report.Outcome
		points  int
		problem string
	}{
		{"all passed", done, []wire.Record{begin, step(1, true), step(2, true), end}, report.Passed, 3, ""},
		{"second failed", failed, []wire.Record{begin, step(1, true), step(2, false), end}, report.Failed, 1, ""},
		{"a fault of the check", failed, []wire.Record{begin, step(1, true), fault, end}, report.Environment, 1, "the trace has gaps"},
		{"the check panicked", &vm.Result{Where: "vm", Status: wire.Status{Code: 2}}, []wire.Record{begin, step(1, true)}, report.Environment, 1,
			"the check itself broke off (exit code 2)"},
		{"the check was killed", &vm.Result{Where: "vm", Status: wire.Status{Code: -1, Signal: "SIGSEGV"}}, []wire.Record{begin}, report.Environment, 0,
			"the check itself broke off (exit code -1, SIGSEGV)"},
		{"nothing came", done, nil, report.Environment, 0, "the check itself broke off (exit code 0)"},
		{"a step is missing", done, []wire.Record{begin, step(1, true), end}, report.Environment, 1, "the check judged 1 of its 2 steps"},
		{"passed, but exit code 1", failed, []wire.Record{begin, step(1, true), step(2, true), end}, report.Environment, 0,
			"all steps passed, but the check ended with exit code 1"},
		{"the kernel complained", &vm.Result{Where: "vm", Verdict: vm.Dirty, Detail: "WARNING: CPU: 0"}, []wire.Record{begin, step(1, true), step(2, true), end},
			report.Failed, 0, "kernel complaint: WARNING: CPU: 0"},
		{"the kernel died", &vm.Result{Where: "vm", Verdict: vm.Panicked, Detail: "Kernel panic - not syncing: x"}, []wire.Record{begin, step(1, true)},
			report.Failed, 1, "kernel panic: Kernel panic - not syncing: x"},
		{"no boot", &vm.Result{Where: "vm", Verdict: vm.NoBoot, Detail: "no sign of life"}, nil, report.Environment, 0, "no boot: no sign of life"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rep := finish(tt.result, tt.records...)
			if rep.Outcome != tt.outcome || rep.Points != tt.points || rep.Of != 3 || rep.Problem != tt.problem {
				t.Errorf("got %s, %d of %d points, problem %q\nwant %s, %d of 3, %q", rep.Outcome, rep.Points, rep.Of, rep.Problem, tt.outcome, tt.points, tt.problem)
			}
		})
	}
}

// full is a report with all that one can have.
func full() *report.Report {
	bad := wire.Record{Kind: wire.KindStep, Step: &wire.Step{N: 2,
		Got:      "blocked_ms=2",
		Expected: "at least 1004: the kernel's callback ran from 12.3010 to 13.3050, as long as that takes",
		Trace:    []string{"12.3007  netlink_sendmsg(port 100)", "12.3010    nlecho_input portid=100"},
		Likely:   "the clock was started\nafter sendmsg had returned",
		Program:  []string{"the program ended with exit code 3", "panic: \x1b[32mok\x1b[0m\tbell\a, half \xff a rune"},
	}}
	return finish(&vm.Result{Where: "vm", Status: wire.Status{Code: 1}, Release: "6.1.0-56-cloud-amd64", Accel: "tcg", Total: 2500 * time.Millisecond},
		begin, step(1, true), bad, wire.Record{Kind: wire.KindNote, Text: "the trace is long"},
		wire.Record{Kind: wire.KindAnswer, Answer: &wire.Answer{ID: "order", Option: 1, Why: "seen"}}, end)
}

func printed(r *report.Report, s report.Style) string {
	var b strings.Builder
	r.Print(&b, s)
	return b.String()
}

func TestPrint(t *testing.T) {
	died := finish(&vm.Result{Where: "vm", Verdict: vm.Ended, Accel: "tcg", Total: time.Second, Detail: "exit status 1: one\ntwo",
		Excerpt: []string{"last line of the console", strings.Repeat("x", 1000)}})
	for _, tt := range []struct {
		name  string
		r     *report.Report
		style report.Style
		want  string
	}{
		{"80 columns", full(), report.Style{Hint: "make lab-4 hint"}, `lab 4  How long does sendmsg take?

  ok 1  the message is sent                                                  1/1
  x  2  the time sendmsg took is measured                                    0/2
         got       blocked_ms=2
         expected  at least 1004: the kernel's callback ran from 12.3010 to
                   13.3050, as long as that takes
         trace     12.3007  netlink_sendmsg(port 100)
                   12.3010    nlecho_input portid=100
         program   the program ended with exit code 3
                   panic: \x1b[32mok\x1b[0m    bell\a, half \xff a rune
         likely    the clock was started
                   after sendmsg had returned
         read      labs/04-slow-echo/README.md, step 2      make lab-4 hint

  note: the trace is long

not passed  1 of 3 points   kernel 6.1.0-56-cloud-amd64, vm, tcg, 2.5s
`},
		{"passed, wide and narrow", finish(&vm.Result{Where: "vm", Release: "6.1", Accel: "kvm", Total: 900 * time.Millisecond}, begin, step(1, true), step(2, true), end),
			report.Style{Width: 30}, `lab 4  How long does sendmsg take?

  ok 1  the message is sent 1/1
  ok 2  the time sendmsg took is measured 2/2

passed  3 of 3 points   kernel 6.1, vm, kvm, 900ms
`},
		{"no verdict", died, report.Style{}, `lab 4  How long does sendmsg take?

  -  1  the message is sent                                                  0/1
  -  2  the time sendmsg took is measured                                    0/2

  QEMU ended: exit status 1: one
  two
    last line of the console
    ` + strings.Repeat("x", 400) + ` ...

no verdict: the place of the check failed, not the program  0 of 3 points   vm, tcg, 1s
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, printed(tt.r, tt.style)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestWidths prints for terminals of all widths: lines that can be broken fit.
func TestWidths(t *testing.T) {
	for _, width := range []int{1, 20, 40, 60, 80, 110, 250} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			for l := range strings.Lines(printed(full(), report.Style{Width: width})) {
				l = strings.TrimRight(l, "\n")
				if strings.Contains(l, "1/1") && width >= 40 && len(l) != min(width, 110) {
					t.Errorf("the points do not stand at the right edge: %q", l)
				}
				if (strings.Contains(l, "callback") || strings.Contains(l, "13.3050")) && width >= 40 && len(l) > width {
					t.Errorf("%d columns of %d: %q", len(l), width, l)
				}
			}
		})
	}
}

func TestColour(t *testing.T) {
	plain, colour := printed(full(), report.Style{}), printed(full(), report.Style{Colour: true})
	if strings.Contains(plain, "\x1b") {
		t.Errorf("escape sequences without colour: %q", plain)
	}
	strip := strings.NewReplacer("\x1b[32m", "", "\x1b[31m", "", "\x1b[2m", "", "\x1b[1m", "", "\x1b[0m", "")
	if got := strip.Replace(colour); got != plain {
		t.Errorf("colour changes more than the colours (-plain +colour):\n%s", cmp.Diff(plain, got))
	}
	for _, want := range []string{"\x1b[32mok\x1b[0m", "\x1b[31mx \x1b[0m", "\x1b[31mnot passed\x1b[0m"} {
		if !strings.Contains(colour, want) {
			t.Errorf("%q is not there: %q", want, colour)
		}
	}
	if strings.Count(colour, "\x1b[0m")*2 != strings.Count(colour, "\x1b") {
		t.Error("not every colour is switched off again")
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := full().JSON(&b); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"version": 1.0, "lab": 4.0, "name": "04-slow-echo", "title": "How long does sendmsg take?", "outcome": "failed",
		"points": 1.0, "of": 3.0, "code": "", "where": "vm", "kernel": "6.1.0-56-cloud-amd64", "accel": "tcg", "seconds": 2.5,
		"notes":   []any{"the trace is long"},
		"answers": []any{map[string]any{"id": "order", "option": 1.0, "why": "seen"}},
		"steps": []any{
			map[string]any{"n": 1.0, "title": "the message is sent", "state": "passed", "points": 1.0, "of": 1.0, "read": "step-1"},
			map[string]any{"n": 2.0, "title": "the time sendmsg took is measured", "state": "failed", "points": 0.0, "of": 2.0, "read": "step-2",
				"got":      "blocked_ms=2",
				"expected": "at least 1004: the kernel's callback ran from 12.3010 to 13.3050, as long as that takes",
				"trace":    []any{"12.3007  netlink_sendmsg(port 100)", "12.3010    nlecho_input portid=100"},
				"likely":   "the clock was started\nafter sendmsg had returned",
				"program":  []any{"the program ended with exit code 3", "panic: \x1b[32mok\x1b[0m\tbell\a, half \uFFFD a rune"},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
