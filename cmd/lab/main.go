// SPDX-License-Identifier: MIT

// Command lab runs the labs of the workbook: it builds a program, boots a
// throw-away VM, runs the lab's check in it and prints the verdict. The Makefile
// only translates its goals into calls of this command.
//
// Exit codes: 0 passed, 1 not passed, 2 the environment or the arguments are at
// fault, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"
	"netlinklabs/internal/cache"
	"netlinklabs/internal/judge"
	"netlinklabs/internal/kernel"
	"netlinklabs/internal/lab"
	"netlinklabs/internal/place"
)

// verb is one command of the tool.
type verb struct {
	name, args, does string
	run              func(*app, []string) error
}

// anywhere are the verbs that obey WHERE=. The others do in a VM what they do in a VM.
var anywhere = []string{"check", "run", "shell", "gate", "soak", "inside"}

// verbs in the order in which help shows them. Those behind the empty one are
// for authors.
func verbs() []verb {
	return []verb{
		{"list", "", "the labs, what is done and what is next", (*app).list},
		{"show", "N", "lab N in ten lines", (*app).show},
		{"check", "[-json FILE] [N...]", "build, boot, judge; without N all labs, a line each", (*app).check},
		{"run", "N [ARG...]", "run the program in the VM, output and timeline live", (*app).runLab},
		{"hint", "N", "the next hint", (*app).hint},
		{"solution", "N", "the solution beside your code", (*app).solution},
		{"reset", "N", "back to the starter; your code is kept as a backup", (*app).reset},
		{"shell", "", "a root shell in the VM", (*app).shell},
		{"doctor", "", "what this machine lacks, and the fix", (*app).doctor},
		{"setup", "[-n] [-all]", "install what is missing; -n only tells, -all for test, too", (*app).setup},
		{},
		{"exec", "[-module NAME[,PARAM=VALUE...]]... [-boot PARAM=VALUE]... PROGRAM [ARG...]", "go test -exec: run a test binary in the VM", (*app).exec},
		{"bug", "NAME", "show in the VM what a bug of docs/bugs.md does", (*app).bug},
		{"claim", "ROW", "try a claim of docs/claims.md, with the timeline", (*app).claim},
		{"claims", "[-check] [-invert] [ROW...]", "try the articles' claims and write docs/claims.md", (*app).claims},
		{"new", "N SLUG", "write the skeleton of a lab", (*app).newLab},
		{"starter", "[N...]", "write the starters from the solutions", (*app).starter},
		{"output", "[-check] [N...]", "bring the output shown in the texts up to date", (*app).output},
		{"test", "[-run GROUP,...]", "the project's own tests", (*app).test},
		{"vagrant-test", "", "the Vagrant VM, from its box to its end; needs root or libvirt", (*app).vagrantTest},
		{"gate", "[N...]", "prove that checks can fail: solutions, starters, wrong answers", (*app).gate},
		{"soak", "[-n TIMES] [-all] [-only idle|loaded] [N...]", "repeat checks", (*app).soak},
		{"matrix", "[KERNEL...]", "modules' tests and solutions on several kernels", (*app).matrix},
		{"bench", "[-n TIMES] [N]", "a check's time beside a bare boot's", (*app).bench},
		{"inside", "", "the other end of WHERE=vagrant, in the VM", (*app).inside},
		{"prepare", "[KERNEL...]", "fetch kernels and build the modules", (*app).prepare},
	}
}

// errNotPassed is exit code 1; the reasons have been printed.
var errNotPassed = errors.New("not passed")

// usageError is about the arguments.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// app is one call of the tool.
type app struct {
	ctx      context.Context
	root     string
	cat      *lab.Catalogue
	cache    string
	out, err io.Writer
	terminal bool // both input and output are a person's
	width    int  // of the terminal; 0 when there is none
	colour   bool
	verbose  bool
	progress *progress
	where    place.Where                       // the place of checks and runs
	vagrant  *session                          // with the tool in the Vagrant VM, once it is wanted
	bugs     func() (map[string]string, error) // what output shows of them
}

func main() {
	os.Exit(run())
}

func run() int {
	// What make put into the environment is for make: kbuild and go would take it
	// for theirs.
	for _, v := range []string{"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"} {
		os.Unsetenv(v)
	}
	// The Go that go.mod names is fetched, whatever the installed one is told by
	// other means than the environment: see cmd/build.sh.
	if os.Getenv("GOTOOLCHAIN") == "" {
		os.Setenv("GOTOOLCHAIN", "auto")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	a := &app{ctx: ctx, out: os.Stdout, err: os.Stderr, verbose: os.Getenv("V") == "1"}
	if fd := int(os.Stdout.Fd()); term.IsTerminal(fd) {
		a.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		a.width, _, _ = term.GetSize(fd)
		a.terminal = term.IsTerminal(int(os.Stdin.Fd()))
	}
	a.progress = newProgress(a.err, term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb")
	err := a.dispatch(os.Args[1:])
	if a.vagrant != nil {
		a.vagrant.close()
	}
	a.progress.clear()
	var code *lab.CodeError
	var usage usageError
	var exit exitCode
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(a.err, "interrupted; nothing is left behind")
		return 130
	case errors.Is(err, errNotPassed):
		return 1
	case errors.As(err, &code):
		fmt.Fprintln(a.err, err)
		return 1
	case errors.As(err, &usage):
		fmt.Fprintln(a.err, "lab:", err)
		return 2
	case errors.As(err, &exit):
		return int(exit)
	default:
		fmt.Fprintln(a.err, "lab:", err)
		return 2
	}
}

func (a *app) dispatch(args []string) error {
	root, err := findRoot()
	if err != nil {
		return err
	}
	a.root = root
	if a.cat, err = lab.Open(root); err != nil {
		return err
	}
	if a.cache, err = cache.Dir(); err != nil {
		return err
	}
	name := "list"
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	if name == "help" || name == "-h" || name == "--help" {
		a.help()
		return nil
	}
	all := verbs()
	i := slices.IndexFunc(all, func(v verb) bool { return v.name == name && name != "" })
	if i < 0 {
		return usagef("no verb %q: `%s help` lists them", name, filepath.Base(os.Args[0]))
	}
	if a.where, err = chooseWhere(os.Getenv("WHERE"), os.Getenv("FORCE") == "1", place.Marked()); err != nil {
		return err
	}
	if !slices.Contains(anywhere, name) {
		a.where = place.InVM
	}
	return all[i].run(a, args)
}

// findRoot finds the repository by the tool's own place, which is bin/ in it, or
// by the folder we stand in: `go test -exec` runs us in the package's.
func findRoot() (string, error) {
	if self, err := os.Executable(); err == nil {
		if root, err := lab.FindRoot(filepath.Dir(self)); err == nil {
			return root, nil
		}
	}
	return lab.FindRoot(".")
}

func (a *app) help() {
	fmt.Fprintf(a.out, "usage: lab VERB [ARGUMENT...]\n\n")
	for _, v := range verbs() {
		if v.name == "" {
			fmt.Fprintf(a.out, "\nfor authors:\n")
			continue
		}
		fmt.Fprintf(a.out, "  %-28s %s\n", strings.TrimSpace(v.name+" "+v.args), v.does)
	}
	fmt.Fprint(a.out, `
variables:
  CODE=DIR       judge the Go program in DIR instead of work/
  PROGRAM=FILE   judge a static executable, written in anything
  SOLUTION=1     judge the lab's solution
  START=N        make the starter with the steps before N solved
  WORK=DIR       keep your code in DIR
  KERNEL=...     `+strings.Join(kernel.Series(), ", ")+`, host, or a folder; default `+kernel.Default+`;
                 claims: or all
  ACCEL=...      auto, kvm or tcg
  WHERE=...      check, run, shell, gate, soak: vm (a throw-away VM), or here
                 (this machine's own kernel; the default in the Vagrant VM);
                 check, run: vagrant (from the host, in the Vagrant VM)
  PARAMS="..."   run: parameters for the lab's module, "replies=3 defer=1"
  DELAY=MS       run: short for PARAMS="delay_ms=MS"
  V=1            show the VM's console
  NO_COLOR=1     no colours

exit codes: 0 passed, 1 not passed, 2 the environment or the arguments are at
fault, 130 interrupted. make turns every failure into 2.
`)
}

// lab finds a lab that is not broken.
func (a *app) lab(name string) (*lab.Lab, error) {
	l, err := a.cat.Find(name)
	if err != nil {
		return nil, usageError{err.Error()}
	}
	return l, l.Err
}

// one finds the lab that is the verb's only argument.
func (a *app) one(verb string, args []string) (*lab.Lab, error) {
	if len(args) != 1 {
		return nil, usagef("%s takes the number of one lab", verb)
	}
	return a.lab(args[0])
}

// labs finds the labs that are named, or all.
func (a *app) labs(names []string) ([]*lab.Lab, error) {
	if len(names) == 0 {
		return a.cat.Labs, nil
	}
	var out []*lab.Lab
	for _, n := range names {
		l, err := a.lab(n)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// workspace opens the student's folder and tells what there is to tell of it.
func (a *app) workspace() (lab.Workspace, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return lab.Workspace{}, err
	}
	w, err := lab.OpenWorkspace(a.root, cwd, os.Getenv)
	if err == nil && w.Note != "" {
		a.note("%s", w.Note)
	}
	return w, err
}

func (a *app) note(format string, args ...any) {
	a.progress.clear()
	fmt.Fprintf(a.err, format+"\n", args...)
}

// builder builds what runs in the VM.
func (a *app) builder() *lab.Builder {
	cwd, _ := os.Getwd()
	return &lab.Builder{Root: a.root, Cwd: cwd}
}

// vm prepares the kernel that KERNEL names and the place for throw-away VMs.
func (a *app) vm(spec string) (*place.VM, error) {
	accel := os.Getenv("ACCEL")
	if !slices.Contains([]string{"", "auto", "kvm", "tcg"}, accel) {
		return nil, usagef("ACCEL=%s: it is auto, kvm or tcg", accel)
	}
	what := forVM
	if kernel.NeedsFetch(spec) {
		what |= forFetch
	}
	if err := a.need(what); err != nil {
		return nil, err
	}
	k, err := kernel.Prepare(a.ctx, spec, a.progress.say)
	if err != nil {
		return nil, err
	}
	p := &place.VM{Kernel: k, Guest: a.guest(), Accel: accel, State: a.cache, Say: func(s string) { a.note("%s", s) }}
	if a.verbose {
		p.Console = a.err
	}
	return p, nil
}

// guest is the path of the guest program, which stands beside this one.
func (a *app) guest() string {
	if self, err := os.Executable(); err == nil {
		return filepath.Join(filepath.Dir(self), "guest")
	}
	return filepath.Join(a.root, "bin", "guest")
}

// places prepares the kernel that KERNEL names, the place for throw-away VMs, and, where
// checks run on this machine's kernel, the place for these.
func (a *app) places(spec string) (*place.VM, *place.Here, error) {
	if a.where == place.InVagrant {
		return nil, nil, usagef("WHERE=vagrant is for check and run; for everything else: vagrant ssh")
	}
	if a.where != place.OnThisKernel {
		p, err := a.vm(spec)
		return p, nil, err
	}
	running, err := kernel.Running(a.ctx)
	if err != nil {
		return nil, nil, err
	}
	if spec != "" && spec != "host" && spec != running.Release {
		return nil, nil, usagef("KERNEL=%s: checks run on this machine's own kernel here, which is %s. In a throw-away VM they run on any: WHERE=vm", spec, running.Release)
	}
	p, err := a.vm("host")
	if err != nil {
		return nil, nil, err
	}
	p.Kernel = running
	h := &place.Here{Guest: p.Guest, Say: p.Say, Console: p.Console}
	return p, h, nil
}

// judge prepares everything for checks. The returned function removes the
// scratch folder.
func (a *app) judge(spec string) (*judge.Judge, func(), error) {
	p, h, err := a.places(spec)
	if err != nil {
		return nil, nil, err
	}
	dir, remove, err := cache.Scratch()
	if err != nil {
		return nil, nil, err
	}
	return &judge.Judge{VM: p, Here: h, Root: a.root, Dir: dir, Builder: a.builder(), Say: a.progress.say}, remove, nil
}

// progress shows what takes time: on a terminal one line that is written over,
// elsewhere nothing but what may take longer than a few seconds.
type progress struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	shown    bool
}

func newProgress(w io.Writer, terminal bool) *progress { return &progress{w: w, terminal: terminal} }

func (p *progress) say(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		if len(s) > 76 {
			s = s[:73] + "..."
		}
		fmt.Fprintf(p.w, "\r\x1b[K%s", s)
		p.shown = true
		return
	}
	fmt.Fprintln(p.w, s)
}

func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
