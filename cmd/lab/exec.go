// SPDX-License-Identifier: MIT

package main

import (
	"errors"
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
	"netlinklabs/internal/place"
	"netlinklabs/internal/vm"
)

// Limits of what exec copies into the VM, and of the VM itself.
const (
	execFolder = 64 << 20 // bytes of the working folder
	execMemory = 512      // MiB
)

// exec runs a program in the VM as root, in the same folder, with the same
// environment: what `go test -exec` asks for. Its exit code is the program's.
func (a *app) exec(args []string) error {
	var names, boot []string
	params := map[string][]string{}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		flag, value, joined := strings.Cut(args[0], "=")
		kind := strings.TrimLeft(flag, "-")
		if kind != "module" && kind != "boot" {
			return usagef("exec knows the flags -module and -boot, not %s", flag)
		}
		args = args[1:]
		if !joined {
			if len(args) == 0 {
				return usagef("-%s wants a value", kind)
			}
			value, args = args[0], args[1:]
		}
		if kind == "boot" {
			boot = append(boot, value)
			continue
		}
		name, rest, _ := strings.Cut(value, ",")
		names = append(names, name)
		if rest != "" {
			params[name] = strings.Split(rest, ",")
		}
	}
	if len(args) == 0 {
		return usagef("exec wants a program to run: go test -exec \"'%s/bin/lab' exec\" ./...", a.root)
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	program, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	p, err := a.vm(os.Getenv("KERNEL"))
	if err != nil {
		return err
	}
	modules, err := judge.Modules(a.ctx, p.Kernel, a.root, names, func(n string) []string { return params[n] }, a.progress.say)
	if err != nil {
		return err
	}
	scratch, remove, err := cache.Scratch()
	if err != nil {
		return err
	}
	defer remove()
	argv, limit, collect := testFlags(args[1:], dir, scratch)
	// By its own name: some programs do what they are called.
	inside := "/job/" + filepath.Base(program)
	if out := os.Getenv("OUT"); out != "" {
		// What the program leaves in the folder for the host is asked for by name.
		if collect, err = collectAll(scratch, out); err != nil {
			return err
		}
	}
	tools := map[string]string{}
	for _, name := range []string{"busybox", "ip", "ss"} {
		if path, err := lookTool(name); err == nil { // a test that wants it tells if not
			tools[name] = path
		}
	}
	a.progress.clear()
	errs := a.err
	if sameFile(a.out, a.err) {
		errs = a.out
	}
	res, err := p.Run(a.ctx, &place.Job{
		Argv:    append([]string{inside}, argv...),
		Dir:     dir,
		Env:     passedOn(os.Environ()),
		Modules: modules,
		Boot:    boot,
		Memory:  execMemory,
		Limit:   limit,
		Stdout:  a.out,
		Stderr:  errs,
		Out:     scratch,
		Files: func(w *initramfs.Writer) {
			w.Program(inside, program)
			w.Tree(dir, dir, execFolder)
			userland(w, tools)
		},
	})
	if err != nil {
		return err
	}
	if err := collect(); err != nil {
		return err
	}
	return a.execEnd(res)
}

// sameFile tells whether what is written to both comes out in one place, as under
// the go command.
func sameFile(a, b io.Writer) bool {
	f, ok := a.(*os.File)
	g, ok2 := b.(*os.File)
	if !ok || !ok2 {
		return false
	}
	x, err := f.Stat()
	if err != nil {
		return false
	}
	y, err := g.Stat()
	return err == nil && os.SameFile(x, y)
}

// exitCode ends the tool with the code of the program that it ran.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func (a *app) execEnd(res *vm.Result) error {
	switch {
	case res.Verdict == vm.Done && res.Status.Code == 0:
		return nil
	case res.Verdict == vm.Done && res.Status.Signal != "":
		a.note("lab exec: the program was ended by %s", res.Status.Signal)
		return exitCode(1)
	case res.Verdict == vm.Done:
		return exitCode(res.Status.Code)
	}
	for _, l := range res.Excerpt {
		fmt.Fprintln(a.err, "  "+l)
	}
	return fmt.Errorf("%s: %s (kernel %s, %s)", res.Verdict, res.Detail, res.Release, res.Accel)
}

// passedOn leaves out of the environment what would be wrong in the VM.
func passedOn(env []string) []string {
	return slices.DeleteFunc(env, func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "OUT"}, k) ||
			strings.HasPrefix(k, "XDG_") || strings.HasPrefix(k, "NETLINK_LABS_")
	})
}

// testFlags looks at the flags that the go command gives a test binary. The files
// that it is told to write go into the folder for the host; collect puts them
// where they belong. limit is longer than the test's own time-out.
func testFlags(args []string, dir, scratch string) (out []string, limit time.Duration, collect func() error) {
	outputs := map[string]string{} // name in scratch: path
	outdir := dir
	limit = 15 * time.Minute
	for _, arg := range args {
		flag, value, _ := strings.Cut(arg, "=")
		switch strings.TrimLeft(flag, "-") {
		case "test.outputdir":
			outdir = value
			continue
		case "test.testlogfile":
			continue // for the go command's cache, which -exec switches off
		case "test.gocoverdir":
			continue // a folder of the host; without it the test makes one for itself
		case "test.timeout":
			if d, err := time.ParseDuration(value); err == nil && d > 0 {
				limit = d + time.Minute
			} else if err == nil {
				limit = 24 * time.Hour // it has none
			}
		case "test.coverprofile", "test.cpuprofile", "test.memprofile", "test.blockprofile", "test.mutexprofile", "test.trace":
			name := strings.TrimPrefix(strings.TrimLeft(flag, "-"), "test.")
			outputs[name] = value
			arg = flag + "=/out/" + name
		}
		out = append(out, arg)
	}
	return out, limit, func() error {
		for name, path := range outputs {
			if !filepath.IsAbs(path) {
				path = filepath.Join(outdir, path)
			}
			b, err := os.ReadFile(filepath.Join(scratch, name))
			if errors.Is(err, os.ErrNotExist) {
				continue // a test that fails early writes none
			}
			if err == nil {
				err = os.WriteFile(path, b, 0o644)
			}
			if err != nil {
				return fmt.Errorf("keeping the test's %s: %w", name, err)
			}
		}
		return nil
	}
}

// collectAll copies everything that the program left for the host.
func collectAll(scratch, out string) (func() error, error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	return func() error { return os.CopyFS(out, os.DirFS(scratch)) }, nil
}
