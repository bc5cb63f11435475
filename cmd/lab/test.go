// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"go/format"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"netlinklabs/internal/kernel"
)

// testGroup is a part of the project's own tests.
type testGroup struct {
	name, does string
	lane       int // those of one lane run one after the other, beside the others
	// run returns what there is to read when the group fails.
	run func(*app, context.Context) (string, error)
}

// The lanes: how many VMs there are at once is not theirs to say (vm.Machine.Slots), so
// two of them see to it that there is always one that could start. The compiler keeps all
// cores busy by itself.
const (
	gateLane = iota
	vmLane
	goLane
	lanes
)

// testGroups are all parts, the long ones first.
func testGroups() []testGroup {
	return []testGroup{
		{"gate", "labs' solutions pass, starters and wrong answers fail as they say", gateLane, func(a *app, ctx context.Context) (string, error) {
			return a.self(ctx, "gate")
		}},
		{"output", "outputs shown in the texts are those of today", vmLane, func(a *app, ctx context.Context) (string, error) {
			return a.self(ctx, "output", "-check")
		}},
		{"guest", "what only the VM can show: confinement, the collector of the trace", vmLane, (*app).testGuest},
		{"claims", "the ledger of the articles' claims is that of a run of today; turned around, all fail", vmLane, (*app).testClaims},
		{"modules", "the kernel modules' own tests, in the VM", vmLane, (*app).testModules},
		{"unit", "go test ./...", goLane, func(a *app, ctx context.Context) (string, error) {
			// What a test finds in the VM or in the cache is not known to the go
			// command's own cache. The time-out only ends a hang.
			return a.command(ctx, goEnv(), "go", "test", "-count=1", "-vet=off", "-timeout=60m", "./...")
		}},
		{"staticcheck", "go tool staticcheck, without the starters", goLane, (*app).testStatic},
		{"vet", "go vet ./...", goLane, func(a *app, ctx context.Context) (string, error) {
			return a.command(ctx, goEnv(), "go", "vet", "./...")
		}},
		{"arm64", "it compiles for the other architecture", goLane, func(a *app, ctx context.Context) (string, error) {
			return a.command(ctx, append(goEnv(), "GOARCH=arm64"), "go", "build", "./...")
		}},
		{"kbuild", "the kernel modules are clean under W=1 and sparse", goLane, (*app).testKbuild},
		{"gofmt", "Go code is formatted", goLane, (*app).testGofmt},
		{"shellcheck", "shell scripts are sound", goLane, (*app).testShell},
	}
}

// test runs the project's own tests.
func (a *app) test(args []string) error {
	f := flag.NewFlagSet("test", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	only := f.String("run", "", "")
	groups := testGroups()
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
	}
	if err := f.Parse(args); err != nil || f.NArg() > 0 {
		return usagef("test takes -run GROUP,GROUP: %s", strings.Join(names, ", "))
	}
	if *only != "" {
		wanted := strings.Split(*only, ",")
		for _, w := range wanted {
			if !slices.Contains(names, w) {
				return usagef("test: no group %q, there are %s", w, strings.Join(names, ", "))
			}
		}
		groups = slices.DeleteFunc(groups, func(g testGroup) bool { return !slices.Contains(wanted, g.name) })
	}
	forgetChoices()
	if err := a.need(forLabs | forTests); err != nil {
		return err
	}
	// Once, rather than by all groups that want it at the same time.
	if _, err := kernel.Prepare(a.ctx, os.Getenv("KERNEL"), a.progress.say); err != nil {
		return err
	}
	t := &testRun{a: a, start: time.Now(), of: len(groups), running: map[string]time.Time{}}
	stop := t.show()
	var g errgroup.Group
	for lane := range lanes {
		g.Go(func() error {
			// Pdeathsig, see cmd, follows the thread that starts the program.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for _, group := range groups {
				if group.lane == lane && a.ctx.Err() == nil {
					t.do(group)
				}
			}
			return nil
		})
	}
	_ = g.Wait()
	stop()
	if a.ctx.Err() != nil {
		return a.ctx.Err()
	}
	return t.summary()
}

// forgetChoices removes the student's choices from the environment: they are not
// the tests'.
func forgetChoices() {
	for _, v := range []string{"CODE", "PROGRAM", "SOLUTION", "START", "WORK", "V"} {
		os.Unsetenv(v)
	}
}

// testRun is a run of the project's own tests.
type testRun struct {
	a       *app
	start   time.Time
	of      int
	mu      sync.Mutex
	running map[string]time.Time
	passed  int
	failed  []string
}

// show keeps a line on the terminal that tells what is running, until the
// returned function is called.
func (t *testRun) show() (stop func()) {
	if !t.a.progress.terminal {
		return func() {}
	}
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				t.mu.Lock()
				var now []string
				for name, since := range t.running {
					now = append(now, fmt.Sprintf("%s %.0f s", name, time.Since(since).Seconds()))
				}
				slices.Sort(now)
				line := fmt.Sprintf("%d of %d done; running: %s", t.passed+len(t.failed), t.of, strings.Join(now, ", "))
				t.mu.Unlock()
				t.a.progress.say(line)
			}
		}
	})
	return func() {
		close(done)
		ended.Wait()
	}
}

// do runs a group and prints what came of it.
func (t *testRun) do(g testGroup) {
	start := time.Now()
	t.mu.Lock()
	t.running[g.name] = start
	t.mu.Unlock()
	quiet := *t.a
	quiet.progress = newProgress(io.Discard, false)
	out, err := g.run(&quiet, t.a.ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, g.name)
	t.a.progress.clear()
	if t.a.ctx.Err() != nil {
		return
	}
	took := time.Since(start).Seconds()
	if err == nil {
		t.passed++
		fmt.Fprintf(t.a.out, "ok    %-12s %6.1f s  %s\n", g.name, took, g.does)
		return
	}
	t.failed = append(t.failed, g.name)
	fmt.Fprintf(t.a.out, "FAIL  %-12s %6.1f s  %s\n\n%s\n%s: %v\n\n", g.name, took, g.does, strings.TrimRight(out, "\n"), g.name, err)
}

// summary prints the end of all.
func (t *testRun) summary() error {
	fmt.Fprintf(t.a.out, "\n%.0f s", time.Since(t.start).Seconds())
	if len(t.failed) > 0 {
		fmt.Fprintf(t.a.out, "; failed, see above: %s. Alone: bin/lab test -run %s", strings.Join(t.failed, ", "), strings.Join(t.failed, ","))
	}
	fmt.Fprintf(t.a.out, "\ntest: %d passed, %d failed\n", t.passed, len(t.failed))
	if len(t.failed) > 0 {
		return errNotPassed
	}
	return nil
}

// cmd is a program to be run in the repository. When ctx ends it is interrupted,
// with all that it started; it is, too, when we are killed.
func (a *app) cmd(ctx context.Context, env []string, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = a.root, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 2 * patience
	return cmd
}

// command runs a program in the repository and returns all that it printed.
func (a *app) command(ctx context.Context, env []string, argv ...string) (string, error) {
	out, err := a.cmd(ctx, env, argv...).CombinedOutput()
	return string(out), err
}

// self runs another verb of this tool. Its progress is only worth reading where
// there is nothing else.
func (a *app) self(ctx context.Context, args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := a.cmd(ctx, os.Environ(), append([]string{self}, args...)...)
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err = cmd.Run(); err != nil && cmd.ProcessState.ExitCode() != 1 {
		return progress.String() + out.String(), err
	}
	return out.String(), err
}

func (a *app) testModules(context.Context) (string, error) {
	var all strings.Builder
	for _, dir := range moduleDirs(a.root) {
		out, err := a.moduleTests(dir, os.Getenv("KERNEL"))
		all.WriteString(out)
		if err == nil && !strings.Contains(out, "--- PASS") {
			err = errNoRuns
		}
		if err != nil {
			return all.String(), fmt.Errorf("%s: %w", filepath.Base(dir), err)
		}
	}
	return all.String(), nil
}

// testGuest runs the Go tests that need the place of a check. There, a skipped
// test is one that has not been run.
func (a *app) testGuest(ctx context.Context) (string, error) {
	out, err := a.inVM("nlecho", os.Getenv("KERNEL"), "./internal/guest", "./internal/trace")
	if err == nil && strings.Contains(out, "--- SKIP") {
		err = errors.New("tests were skipped")
	}
	return out, err
}

func (a *app) testClaims(ctx context.Context) (string, error) {
	out, err := a.self(ctx, "claims", "-check")
	if err != nil {
		return out, err
	}
	return a.self(ctx, "claims", "-invert")
}

// testStatic leaves out the starters: a variable whose use is the student's to
// write is unused in them.
func (a *app) testStatic(ctx context.Context) (string, error) {
	out, err := a.cmd(ctx, goEnv(), "go", "list", "./...").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	argv := []string{"go", "tool", "staticcheck"}
	for _, pkg := range strings.Fields(string(out)) {
		if !strings.HasSuffix(pkg, "/starter") {
			argv = append(argv, pkg)
		}
	}
	return a.command(ctx, goEnv(), argv...)
}

// warning is how gcc and sparse complain of a line. (Kbuild says "warning: " too, of
// tools that are not those of the kernel's builder.)
var warning = regexp.MustCompile(`(?m)^\S+:[0-9]+(:[0-9]+)?: (fatal )?(warning|error): .*$`)

func (a *app) testKbuild(ctx context.Context) (string, error) {
	k, err := kernel.Prepare(ctx, os.Getenv("KERNEL"), nil)
	if err != nil {
		return "", err
	}
	for _, dir := range append(moduleDirs(a.root), filepath.Join(a.root, claimsDir, "testdata", "nlrare")) {
		for _, arg := range []string{"W=1", "C=2"} {
			out, err := k.CheckModule(ctx, dir, nil, arg)
			if err == nil && warning.MatchString(out) {
				err = errors.New("there are warnings")
			}
			if err != nil {
				return out, fmt.Errorf("%s, make %s: %w", filepath.Base(dir), arg, err)
			}
		}
	}
	return "", nil
}

// sources finds the project's files, in a checkout and in an unpacked archive:
// all but hidden ones, what was built, and what students have written.
func (a *app) sources(match func(path string) bool) ([]string, error) {
	var found []string
	err := filepath.WalkDir(a.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == a.root {
			return err
		}
		name := rel(a.root, path)
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci" || name == "work" || name == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() && match(path) {
			found = append(found, name)
		}
		return nil
	})
	return found, err
}

// testGofmt formats in this process: the gofmt in PATH can be of another Go.
func (a *app) testGofmt(context.Context) (string, error) {
	files, err := a.sources(func(path string) bool { return filepath.Ext(path) == ".go" })
	if err != nil {
		return "", err
	}
	var bad strings.Builder
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(a.root, name))
		if err != nil {
			return "", err
		}
		switch formatted, err := format.Source(text); {
		case err != nil:
			fmt.Fprintf(&bad, "%s: %v\n", name, err)
		case !bytes.Equal(formatted, text):
			fmt.Fprintf(&bad, "%s is not formatted: gofmt -w %s\n", name, name)
		}
	}
	if bad.Len() > 0 {
		return bad.String(), errNotPassed
	}
	return "", nil
}

func (a *app) testShell(ctx context.Context) (string, error) {
	files, err := a.sources(isShell)
	if err == nil && len(files) == 0 {
		err = errNoRuns
	}
	if err != nil {
		return "", err
	}
	return a.command(ctx, os.Environ(), append([]string{"shellcheck"}, files...)...)
}

var shebang = regexp.MustCompile(`^#!\s*(/usr)?/bin/(env\s+)?(ba|da)?sh\b`)

// isShell tells whether a file is a shell script, by its name or first line.
func isShell(path string) bool {
	if filepath.Ext(path) == ".sh" {
		return true
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, 64)
	n, _ := io.ReadFull(f, b)
	return shebang.Match(b[:n])
}
