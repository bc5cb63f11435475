// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"netlinklabs/internal/cache"
	"netlinklabs/internal/initramfs"
	"netlinklabs/internal/judge"
	"netlinklabs/internal/kernel"
	"netlinklabs/internal/ledger"
	"netlinklabs/internal/place"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

const (
	claimsDir     = "claims"
	claimsLimit   = 10 * time.Minute // for the trials of one boot, on an idle machine
	claimsJSON    = "docs/claims.json"
	claimsText    = "docs/claims.md"
	headersFile   = "/job/headers.json" // claims.HeadersFile
	claimsProgram = "/job/claims"
)

// claimsModules are loaded in each boot, with these parameters: nlecho answers once
// and at once, and nlbugs has a protocol of its own.
var claimsModules = map[string][]string{"nlecho": {"replies=1", "delay_ms=0"}, "nlnotify": nil, "nlbugs": {"protocol=27"}}

// claims tries what the articles claim, on the kernel that KERNEL names or on all,
// and writes the ledger.
func (a *app) claims(args []string) error {
	f := flag.NewFlagSet("claims", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	check := f.Bool("check", false, "")
	invert := f.Bool("invert", false, "")
	if err := f.Parse(args); err != nil {
		return usagef("claims takes -check (is what is written what a run of today shows?), -invert (each expectation turned around: all must fail), and rows (A0-85, A0)")
	}
	b, err := a.openLedger()
	if err != nil {
		return err
	}
	rows, err := b.choose(f.Args())
	if err != nil {
		return err
	}
	b.invert = *invert
	series := []string{os.Getenv("KERNEL")}
	if series[0] == "all" {
		series = kernel.Series()
	}
	defer func() { b.remove() }()
	old, err := b.written(a)
	if err != nil {
		return err
	}
	bad := 0
	for _, s := range series {
		run, err := b.run(a, s, rows)
		if err != nil {
			return err
		}
		a.progress.clear()
		bad += b.tell(a, run)
		release := run.Release
		if *check { // which kernel of a series is at hand differs from machine to machine
			release = cmp.Or(old.Release(run.Series), release)
		}
		old.Keep(run.Series, release, run.verdicts, b.tests)
	}
	switch {
	case bad > 0:
		return errNotPassed
	case *invert || f.NArg() > 0:
		return nil
	}
	files, err := ledger.Documents(b.table, b.tests, old)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{claimsText, files.Markdown}, {claimsJSON, files.JSON}} {
		name, text := f.name, f.text
		path := filepath.Join(a.root, name)
		was, err := os.ReadFile(path)
		switch {
		case err == nil && bytes.Equal(was, text):
		case *check:
			fmt.Fprintf(a.out, "%s is not what the table and a run of today give: make claims\n", name)
			bad++
		default:
			if err := os.WriteFile(path, text, 0o644); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s: written\n", name)
		}
	}
	if bad > 0 {
		return errNotPassed
	}
	return nil
}

// claim tries one claim and shows the timeline of what happened.
func (a *app) claim(args []string) error {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		return usagef("claim takes one row: bin/lab claim A0-85, see docs/claims.md")
	}
	b, err := a.openLedger()
	if err != nil {
		return err
	}
	defer func() { b.remove() }()
	id := strings.ToUpper(args[0])
	r := b.table.Row(id)
	switch {
	case r == nil:
		return usagef("there is no row %s, or it is not written yet", id)
	case !r.Tried():
		fmt.Fprintf(a.out, "%s  %s\n\n  %s (%s): %s\n", r.ID, r.Claim, r.Verdict, r.Kind, r.What)
		return nil
	case b.tests[id].Name == "":
		return usagef("row %s has no test yet", id)
	}
	b.timeline = true
	run, err := b.run(a, os.Getenv("KERNEL"), []*ledger.Row{r})
	if err != nil {
		return err
	}
	a.progress.clear()
	rep := run.reports[id]
	fmt.Fprintf(a.out, "%s  %s\n\n", r.ID, r.Claim)
	fmt.Fprintf(a.out, "  %s on Linux %s. %s\n\n", verdictIn(r.For(run.Series), r), run.Release, r.What)
	for _, p := range rep.Pieces {
		fmt.Fprintf(a.out, "  %s\n", p)
	}
	if len(rep.Steps) > 0 {
		fmt.Fprintln(a.out)
		if err := trace.WriteText(a.out, rep.Steps, trace.Style{Width: a.width, Color: a.colour, ASCII: a.terminal && !utf8Locale()}); err != nil {
			return err
		}
	}
	for _, l := range run.last[id] {
		fmt.Fprintf(a.out, "  %s\n", l)
	}
	fmt.Fprintf(a.out, "\n  %s/%s, %s", claimsDir, b.tests[id].File, b.tests[id].Name)
	if r.Lab != "" {
		fmt.Fprintf(a.out, "; lab %s", r.Lab)
	}
	fmt.Fprintln(a.out)
	if why := run.wrong(r); why != "" {
		fmt.Fprintf(a.out, "\n  It is not as the table says: %s\n", why)
		return errNotPassed
	}
	return nil
}

// verdictIn is a verdict with the version in which it changed.
func verdictIn(v ledger.Verdict, r *ledger.Row) string {
	if v == ledger.Changed {
		return fmt.Sprintf("%s (%s)", v, r.Version)
	}
	return string(v)
}

// book is the table with its tests, and what is needed to run them.
type book struct {
	table    *ledger.Table
	tests    map[string]ledger.Test
	dir      string // scratch
	remove   func()
	program  string
	invert   bool
	timeline bool
}

func (a *app) openLedger() (*book, error) {
	b := &book{remove: func() {}}
	dir := filepath.Join(a.root, claimsDir)
	var err error
	if b.table, err = ledger.Read(os.DirFS(dir)); err != nil {
		return nil, err
	}
	b.tests, err = ledger.Tests(dir)
	return b, err
}

// choose returns the rows with these names that have a test, "A0" being all of an
// article; without names all.
func (b *book) choose(names []string) ([]*ledger.Row, error) {
	var rows []*ledger.Row
	all := slices.DeleteFunc(b.table.Rows(), func(r *ledger.Row) bool { return !r.Tried() || b.tests[r.ID].Name == "" })
	if len(names) == 0 {
		return all, nil
	}
	for _, n := range names {
		n = strings.ToUpper(n)
		some := slices.DeleteFunc(slices.Clone(all), func(r *ledger.Row) bool { return r.ID != n && r.Article() != n })
		if len(some) == 0 {
			return nil, usagef("there is nothing to try for %s", n)
		}
		rows = append(rows, some...)
	}
	return rows, nil
}

// written reads what is written of earlier runs.
func (b *book) written(a *app) (*ledger.Runs, error) {
	text, err := os.ReadFile(filepath.Join(a.root, claimsJSON))
	if errors.Is(err, os.ErrNotExist) {
		return &ledger.Runs{}, nil
	}
	if err != nil {
		return nil, err
	}
	return ledger.ReadRuns(text)
}

// claimsRun is a run of rows on one kernel.
type claimsRun struct {
	Series, Release, accel string

	rows     []*ledger.Row
	reports  map[string]ledger.Report
	verdicts map[string]ledger.Verdict // of rows whose trial gave one
	last     map[string][]string       // a kernel's last words, by the row it died of
	output   string                    // what the tests printed
	took     time.Duration             // of all, the build and waiting for a free core included
	inVM     time.Duration             // of its boots
	invert   bool
}

// wrong says in which way a row is not as the table says, or "".
func (r *claimsRun) wrong(row *ledger.Row) string {
	rep, ok := r.reports[row.ID]
	want := row.For(r.Series)
	got, err := ledger.Judge(rep.Pieces)
	switch {
	case !ok:
		return "its test reported nothing"
	case rep.Error != "":
		return "the trial could not be made: " + rep.Error
	case err != nil:
		return err.Error()
	case !ledger.Agrees(want, got):
		return fmt.Sprintf("the verdict is %s, the table has %s", got, want)
	case len(rep.Useless) > 0:
		return "it passes even with this turned around: " + strings.Join(rep.Useless, "; ")
	}
	return ""
}

// tell prints what came of a run, and returns how many rows were not as they should.
func (b *book) tell(a *app, run *claimsRun) (bad int) {
	counts := map[ledger.Verdict]int{}
	silent := false // a test did not come to its end
	for _, row := range run.rows {
		why := run.wrong(row)
		if why == "" {
			counts[row.For(run.Series)]++
			continue
		}
		bad++
		if _, ok := run.reports[row.ID]; !ok {
			silent = true
		}
		fmt.Fprintf(a.out, "%s  %s\n       %s\n", row.ID, row.Claim, why)
		for _, p := range run.reports[row.ID].Pieces {
			fmt.Fprintf(a.out, "       %s\n", p)
		}
		fmt.Fprintln(a.out)
	}
	switch {
	case bad > 0 && a.verbose:
		fmt.Fprintln(a.out, run.output)
	case silent:
		fmt.Fprintf(a.out, "The tests' last words:\n%s\n\n", lastLines(run.output, 60))
	}
	var parts []string
	for _, v := range []ledger.Verdict{ledger.True, ledger.Qualified, ledger.Changed, ledger.Never} {
		parts = append(parts, fmt.Sprintf("%d %s", counts[v], v))
	}
	words := "as the table says"
	if run.invert {
		words = "fail when turned around, as they must"
	}
	fmt.Fprintf(a.out, "Linux %s, %s: %d of %d claims %s (%s); %.0f s, %.0f of them in the VM\n", run.Release, run.accel,
		len(run.rows)-bad, len(run.rows), words, strings.Join(parts, ", "), run.took.Seconds(), run.inVM.Seconds())
	return bad
}

// run tries rows on the kernel spec: those that may share a boot in one, each other in
// its own.
func (b *book) run(a *app, spec string, rows []*ledger.Row) (*claimsRun, error) {
	start := time.Now()
	p, err := a.vm(spec)
	if err != nil {
		return nil, err
	}
	if b.program == "" {
		if err := b.build(a); err != nil {
			return nil, err
		}
	}
	said, err := p.Kernel.CompileEach(a.ctx, filepath.Join(a.root, claimsDir, ledger.Headers), a.progress.say)
	if err != nil {
		return nil, err
	}
	headers, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	run := &claimsRun{Release: p.Kernel.Release, Series: ledger.SeriesOf(p.Kernel.Release), rows: rows, invert: b.invert,
		reports: map[string]ledger.Report{}, verdicts: map[string]ledger.Verdict{}, last: map[string][]string{}}
	var shared []*ledger.Row
	for _, r := range rows {
		if !r.Alone {
			shared = append(shared, r)
		}
	}
	if len(shared) > 0 {
		if err := b.boot(a, p, headers, shared, run); err != nil {
			return nil, err
		}
	}
	for _, r := range rows {
		if r.Alone {
			if err := b.boot(a, p, headers, []*ledger.Row{r}, run); err != nil {
				return nil, err
			}
		}
	}
	for _, r := range rows {
		if rep := run.reports[r.ID]; rep.Error == "" {
			if v, err := ledger.Judge(rep.Pieces); err == nil {
				run.verdicts[r.ID] = v
			}
		}
	}
	run.took = time.Since(start)
	return run, nil
}

// build builds the tests.
func (b *book) build(a *app) error {
	if err := a.need(forLabs); err != nil {
		return err
	}
	dir, remove, err := cache.Scratch()
	if err != nil {
		return err
	}
	b.dir, b.remove, b.program = dir, remove, filepath.Join(dir, "claims.test")
	a.progress.say("building the tests")
	out, err := a.command(a.ctx, goEnv(), "go", "test", "-c", "-o", b.program, "./"+claimsDir)
	if err != nil {
		return fmt.Errorf("building the tests: %w\n%s", err, out)
	}
	return nil
}

// boot tries rows in one boot. One that is alone in it may kill the kernel.
func (b *book) boot(a *app, p *place.VM, headers []byte, rows []*ledger.Row, run *claimsRun) error {
	names := []string{"nlecho", "nlnotify", "nlbugs"}
	var tests []string
	for _, r := range rows {
		tests = append(tests, b.tests[r.ID].Name)
		for _, m := range r.Modules {
			if !slices.Contains(names, m) {
				names = append(names, m)
			}
		}
	}
	modules, err := judge.Modules(a.ctx, p.Kernel, a.root, names, func(n string) []string { return claimsModules[n] }, a.progress.say)
	if err != nil {
		return err
	}
	tools := map[string]string{}
	for _, name := range []string{"busybox", "ip", "ss"} {
		if path, err := lookTool(name); err == nil {
			tools[name] = path
		}
	}
	var env []string
	if b.invert {
		env = append(env, "NETLINK_LABS_INVERT=1")
	}
	if b.timeline {
		env = append(env, "NETLINK_LABS_TIMELINE=1")
	}
	a.progress.say(fmt.Sprintf("booting %s", p.Kernel.Release))
	var out bytes.Buffer
	var broken error
	res, err := p.Run(a.ctx, &place.Job{
		Argv:    []string{claimsProgram, "-test.v", "-test.timeout=" + claimsLimit.String(), "-test.run=^(" + strings.Join(tests, "|") + ")$"},
		Dir:     "/job",
		Env:     env,
		Modules: modules,
		Memory:  execMemory,
		Limit:   claimsLimit + time.Minute,
		Stdout:  &out,
		Stderr:  &out,
		Record: func(rec wire.Record) {
			if rec.Kind != wire.KindClaim {
				return
			}
			var rep ledger.Report
			if err := json.Unmarshal(rec.Claim, &rep); err != nil {
				broken = err
				return
			}
			run.reports[rep.Row] = rep
			if a.progress.terminal {
				a.progress.say(fmt.Sprintf("%s: %s (%d of %d)", run.Release, rep.Row, len(run.reports), len(run.rows)))
			}
		},
		Files: func(w *initramfs.Writer) {
			w.Program(claimsProgram, b.program)
			w.Data(headersFile, 0o644, headers)
			userland(w, tools)
		},
	})
	if err == nil {
		err = broken
	}
	if err != nil {
		return err
	}
	run.accel = res.Accel
	run.inVM += res.Total
	run.output += out.String()
	alone := rows[0]
	rep := run.reports[alone.ID]
	switch {
	case res.Verdict == vm.Panicked && alone.Alone && rep.Dies != "":
		run.last[alone.ID] = res.Excerpt
		if !bytes.Contains(res.Console, []byte(rep.Dies)) {
			rep.Error = fmt.Sprintf("the kernel died, but it did not say %q", rep.Dies)
			run.reports[alone.ID] = rep
		}
		return nil
	case res.Verdict == vm.Dirty && alone.Alone:
		run.last[alone.ID] = res.Excerpt
	case res.Verdict != vm.Done:
		for _, l := range res.Excerpt {
			fmt.Fprintln(a.err, "  "+l)
		}
		return fmt.Errorf("%s: %s (kernel %s, %s)\n%s", res.Verdict, res.Detail, res.Release, res.Accel, lastLines(out.String(), 20))
	}
	for _, r := range rows {
		// In an inverted run all must fail, and the tests say which.
		if failed := strings.Contains(out.String(), "--- FAIL: "+b.tests[r.ID].Name+" "); failed != b.invert && run.wrong(r) == "" {
			rep := run.reports[r.ID]
			rep.Error = fmt.Sprintf("the test's own word is another (failed: %v):\n%s", failed, lastLines(out.String(), 20))
			run.reports[r.ID] = rep
		}
	}
	return nil
}

// lastLines returns the end of a text.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
