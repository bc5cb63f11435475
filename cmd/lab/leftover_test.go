// SPDX-License-Identifier: MIT

package main_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/wire"
)

// watcher is a writer that says when a text has come.
type watcher struct {
	mu   sync.Mutex
	b    bytes.Buffer
	want string
	seen chan struct{}
	once sync.Once
}

func newWatcher(want string) *watcher { return &watcher{want: want, seen: make(chan struct{})} }

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	if w.want != "" && strings.Contains(w.b.String(), w.want) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

func (w *watcher) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

const hangs = `package main

import "fmt"

func main() {
	fmt.Println("here I am")
	fmt.Scanln() // there is no input
	for {
	}
}
`

const endless = `package main

import (
	"fmt"
	"time"
)

func main() {
	for i := 0; ; i++ {
		fmt.Println("here I am", i)
		time.Sleep(100 * time.Millisecond)
	}
}
`

// stage is a moment in a run of the tool at which it is interrupted.
type stage struct {
	name string
	args []string
	// prepare changes the desk and returns what is added to the environment.
	prepare func(t *testing.T, d *desk) []string
	process string // the moment is when there is a process of this name
	output  string // or when this was printed
	// next is a call of the tool that meets what a killed run left behind, and its
	// exit code. By default it is a check of a program that does not compile.
	next     []string
	nextCode int
}

var stages = []stage{
	{name: "building", args: []string{"check", "1"}, process: "compile", prepare: func(t *testing.T, d *desk) []string {
		return []string{"SOLUTION=1", "GOCACHE=" + d.dir + "/gocache"} // nothing is built yet
	}},
	{name: "fetching a kernel", args: []string{"prepare"}, process: "sleep", next: []string{"prepare"}, nextCode: 2, prepare: func(t *testing.T, d *desk) []string {
		d.ownCache(t, "kernels")
		// apt-get itself, from wherever: it is found in PATH.
		d.write(t, "bin/apt-get", "#!/bin/sh\nexec sleep 1000\n")
		return []string{"PATH=" + d.dir + "/bin:" + os.Getenv("PATH")}
	}},
	{name: "building a module", args: []string{"prepare"}, process: "make", next: []string{"prepare"}, nextCode: 0, prepare: func(t *testing.T, d *desk) []string {
		d.ownCache(t, "modules")
		return nil
	}},
	{name: "waiting for a slot", args: []string{"check", "1"}, output: "waiting for a free core: ", prepare: func(t *testing.T, d *desk) []string {
		d.holdSlots(t)
		return []string{"SOLUTION=1"}
	}},
	{name: "booting", args: []string{"check", "1"}, process: "qemu-system-x86", prepare: func(t *testing.T, d *desk) []string { return []string{"SOLUTION=1"} }},
	{name: "checking", args: []string{"check", "1"}, output: wire.BootedLine, prepare: func(t *testing.T, d *desk) []string {
		d.write(t, "hang/main.go", hangs)
		return []string{"CODE=hang", "V=1"}
	}},
	{name: "checking in the Vagrant VM", args: []string{"check", "1"}, output: wire.BootedLine, prepare: func(t *testing.T, d *desk) []string {
		d.write(t, "hang/main.go", hangs)
		// A Vagrant whose VM is this machine.
		d.write(t, "bin/vagrant", "#!/bin/sh\necho Host default\n")
		d.write(t, "bin/ssh", "#!/bin/sh\nunset WHERE\nexec \""+d.root+"/bin/lab\" inside\n")
		return []string{"CODE=hang", "V=1", "WHERE=vagrant", "PATH=" + d.dir + "/bin:" + os.Getenv("PATH")}
	}},
	{name: "running", args: []string{"run", "1"}, output: "here I am", prepare: func(t *testing.T, d *desk) []string {
		d.write(t, "endless/main.go", endless)
		return []string{"CODE=endless"}
	}},
	{name: "exec", args: []string{"exec", "./program"}, output: "here I am", prepare: func(t *testing.T, d *desk) []string {
		d.write(t, "endless/main.go", endless)
		cmd := exec.Command("go", "build", "-o", d.dir+"/program", "endless/main.go")
		cmd.Dir = d.dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return nil
	}},
}

// ownCache replaces a part of the user's cache by an empty one.
func (d *desk) ownCache(t *testing.T, name string) {
	t.Helper()
	path := filepath.Join(d.dir, "cache/netlink-labs", name)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

// holdSlots takes all places for VMs until the test ends: places of the desk's
// own, for others are at work.
func (d *desk) holdSlots(t *testing.T) (release func()) {
	t.Helper()
	slots, err := filepath.Glob(filepath.Join(d.dir, "cache/netlink-labs/slot-*"))
	if err != nil || len(slots) == 0 {
		t.Fatal(slots, err)
	}
	var held []*os.File
	for _, s := range slots {
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(s)
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, f)
	}
	release = sync.OnceFunc(func() {
		for _, f := range held {
			f.Close()
		}
	})
	t.Cleanup(release)
	return release
}

// TestNothingIsLeftBehind interrupts the tool by each signal at each stage.
func TestNothingIsLeftBehind(t *testing.T) {
	tool(t)
	for _, st := range stages {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
			t.Run(st.name+" "+unix.SignalName(sig), func(t *testing.T) {
				t.Parallel()
				st.interrupt(t, sig)
			})
		}
	}
}

func (st stage) interrupt(t *testing.T, sig syscall.Signal) {
	d := newDesk(t)
	env := st.prepare(t, d)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := d.command(ctx, st.args...)
	cmd.Env = append(cmd.Env, env...)
	out := newWatcher(st.output)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	if st.process != "" {
		stop, give := context.WithCancel(ctx)
		go func() { <-ended; give() }()
		if _, err := d.waitFor(stop, st.process); err != nil {
			cancel()
			<-ended
			t.Fatalf("%v\n%s", err, out)
		}
	} else {
		select {
		case <-out.seen:
		case <-ended:
			t.Fatalf("it ended, %v, without %q:\n%s", cmd.ProcessState, st.output, out)
		case <-ctx.Done():
			t.Fatalf("it does not say %q:\n%s", st.output, out)
		}
	}
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	<-ended
	if ctx.Err() != nil {
		t.Fatalf("it did not end:\n%s", out)
	}
	if sig != syscall.SIGKILL {
		if code := cmd.ProcessState.ExitCode(); code != 130 {
			t.Errorf("%v, want exit code 130:\n%s", cmd.ProcessState, out)
		}
		if !strings.HasSuffix(out.String(), "interrupted; nothing is left behind\n") {
			t.Errorf("the last words are not those of an interrupted run:\n%s", out)
		}
		d.clean(t)
		d.cleanCache(t)
		return
	}
	// Killed, it could not clean up. Processes are gone all the same, and so are
	// temporary files; scratch folders go with the next run.
	if left, _ := os.ReadDir(filepath.Join(d.dir, "tmp")); len(left) > 0 {
		t.Errorf("temporary files are left behind: %v", left)
	}
	var still []string
	for _, l := range d.left() {
		if strings.HasPrefix(l, "process ") {
			still = append(still, l)
		}
	}
	if len(still) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(still, "\n"))
	}
	next, code := st.next, st.nextCode
	if next == nil {
		d.write(t, "broken/main.go", "package main\n\nfunc main() { x }\n")
		next, code = []string{"check", "1"}, 1
	}
	if st.name == "fetching a kernel" {
		d.write(t, "bin/apt-get", "#!/bin/sh\necho no such luck >&2\nexit 100\n")
	}
	s := d.lab(t, append(append(env, d.shared.env...), "CODE=broken", "SOLUTION="), next...)
	if s.code != code {
		t.Errorf("the next run, lab %q, has exit code %d, want %d:\n%s%s", next, s.code, code, s.out, s.err)
	}
	d.clean(t)
	d.cleanCache(t)
}

// cleanCache looks for what is half made in those parts of the cache that are the
// desk's own.
func (d *desk) cleanCache(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"*/*.tmp-*", "*/*.lock", "*.tmp*"} {
		half, err := filepath.Glob(filepath.Join(d.dir, "cache/netlink-labs", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range half {
			if st, err := os.Lstat(filepath.Dir(h)); err == nil && st.IsDir() {
				t.Errorf("left behind: %s", h)
			}
		}
	}
}
