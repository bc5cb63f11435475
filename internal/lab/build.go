// SPDX-License-Identifier: MIT

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Builder builds programs and checks for the kernel under test.
type Builder struct {
	// Root is the workbook's repository, absolute.
	Root string
	// Cwd is the folder that paths in compile errors are told from; "" means
	// that they are absolute.
	Cwd string
	// Go is the go command; "" means the one in PATH.
	Go string
	// Arch is the GOARCH to build for; "" means this machine's.
	Arch string
}

// CodeError says that a program cannot be built because of its code: the
// student's affair, not the machine's.
type CodeError struct {
	// Dir is the folder of the code.
	Dir string
	// Output is what the compiler said, or words of ours in its form, with
	// paths as seen from Builder.Cwd.
	Output string
}

// Error returns the output under a line that tells what it is about.
func (e *CodeError) Error() string {
	return fmt.Sprintf("the program in %s does not compile:\n%s", e.Dir, strings.TrimRight(e.Output, "\n"))
}

// allowedImports are the packages beside the standard library that a lab's
// program can import, with all below them where the name ends in a slash.
var allowedImports = []string{
	"golang.org/x/sys/unix",
	"github.com/mdlayher/netlink", "github.com/mdlayher/netlink/",
	"github.com/vishvananda/netns",
}

// Program builds the Go program in the folder dir into the file out, static
// and for the kernel under test. The folder of out must be there; temporary
// files are made in it.
//
// The program is built with the workbook's own pinned dependencies, and may
// import only those that are meant for programs. A folder that has a go.mod is
// built as that says, with whatever it imports; so is one below somebody's
// go.mod when its imports need it. (A go.mod that somebody once left in their
// home folder must not rule the program of a lab.)
//
// An error of the code is a *CodeError; every other error is the machine's or
// the arguments'.
func (b *Builder) Program(ctx context.Context, dir, out string) error {
	dir, err := realDir(dir)
	if err != nil {
		return err
	}
	root, err := filepath.EvalSymlinks(b.Root)
	if err != nil {
		return fmt.Errorf("build %s: %w", dir, err)
	}
	module, err := moduleOf(dir)
	if err != nil {
		return err
	}
	pkg, err := b.inspect(dir)
	if err != nil {
		return err
	}
	if pkg != nil {
		err = b.checkImports(dir, pkg)
	}
	if module != "" && module != root && (module == dir || err != nil || importsOwn(module, pkg)) {
		return b.goBuild(ctx, dir, dir, module, out, nil, ".")
	}
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(root, dir); err == nil && module == root && plainPath.MatchString(filepath.ToSlash(rel)) {
		return b.goBuild(ctx, root, dir, "", out, nil, "./"+filepath.ToSlash(rel))
	}
	overlay, err := writeOverlay(root, dir)
	if err != nil {
		return err
	}
	defer overlay.Close()
	return b.goBuild(ctx, root, dir, "", out, overlay, "-overlay=/dev/fd/3",
		// The go command would give panics the names that the overlay made
		// up. This replaces its rewriting of paths by one that matches none;
		// with the folder's name in it, for else the build cache would take
		// the same text in two folders for the same package.
		fmt.Sprintf("-gcflags=%s/%s=-trimpath=/-%x=>/-", ModulePath, overlayDir, dir),
		"./"+overlayDir)
}

// overlayDir is the package, from the root, that code from outside the module
// is built as. It is not there: the overlay makes it up.
const overlayDir = "work/code"

// plainPath is what can be a part of an import path.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.~/-]*$`)

// realDir returns the folder that a path leads to.
func realDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return "", fmt.Errorf("the program's folder: %w", err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", fmt.Errorf("the program's folder: %w", err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is a file, not a folder: for a Go program say CODE=%s, for a finished executable PROGRAM=%s",
			abs, filepath.Dir(abs), abs)
	}
	return abs, nil
}

// moduleOf returns the folder of the go.mod that rules dir, or "".
func moduleOf(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(filepath.Join(at, "go.mod"))
		if err == nil && !info.IsDir() {
			return at, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return "", fmt.Errorf("look for the go.mod of %s: %w", dir, err)
		}
		if at == filepath.Dir(at) {
			return "", nil
		}
	}
}

// importsOwn tells whether a program imports packages of the module that it is
// in, whose go.mod is in the folder module.
func importsOwn(module string, pkg *build.Package) bool {
	text, err := os.ReadFile(filepath.Join(module, "go.mod"))
	m := modulePath.FindSubmatch(text)
	if err != nil || m == nil || pkg == nil {
		return false
	}
	return slices.ContainsFunc(pkg.Imports, func(path string) bool { return strings.HasPrefix(path, string(m[1])+"/") })
}

var modulePath = regexp.MustCompile(`(?m)^module\s+"?([^"\s]+)"?\s*(?://.*)?$`)

// inspect looks at the files of a program before anything is compiled, for the
// mistakes that the go command tells in words for other people. It returns nil
// where the code does not even parse: the compiler says that best.
func (b *Builder) inspect(dir string) (*build.Package, error) {
	conf := build.Default
	conf.GOOS, conf.GOARCH, conf.CgoEnabled, conf.BuildTags = "linux", b.arch(), false, nil
	pkg, err := conf.ImportDir(dir, 0)
	var several *build.MultiplePackageError
	var none *build.NoGoError
	switch {
	case errors.As(err, &several):
		return nil, b.codeError(dir, filepath.Join(dir, several.Files[1]), 0,
			"is of package %s, but %s is of package %s: all files of a program are of package main",
			several.Packages[1], several.Files[0], several.Packages[0])
	case errors.As(err, &none):
		if file := b.cgoFile(dir, pkg); file != "" {
			return nil, b.codeError(dir, file, 0, cgoWords)
		}
		return nil, noGo(dir, pkg)
	case err != nil:
		return nil, nil
	}
	if file := b.cgoFile(dir, pkg); file != "" {
		return nil, b.codeError(dir, file, 0, cgoWords)
	}
	if len(pkg.GoFiles) == 0 {
		return nil, fmt.Errorf("there are only tests in %s: a program is a main.go with a func main", dir)
	}
	if pkg.Name != "main" {
		return nil, b.codeError(dir, filepath.Join(dir, pkg.GoFiles[0]), 0,
			"is of package %s: a program is of package main", pkg.Name)
	}
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, nil
		}
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "main" {
				return pkg, nil
			}
		}
	}
	return nil, b.codeError(dir, filepath.Join(dir, pkg.GoFiles[0]), 0, "has no func main, nor has another file beside it: a program starts there")
}

const cgoWords = `imports "C", but programs are built without cgo: build it yourself, static, and say PROGRAM=FILE`

// cgoFile returns a file that is left out of a build because of cgo, or "".
func (b *Builder) cgoFile(dir string, pkg *build.Package) string {
	for _, name := range pkg.IgnoredGoFiles {
		path := filepath.Join(dir, name)
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err == nil && slices.ContainsFunc(file.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == `"C"` }) {
			return path
		}
	}
	return ""
}

// noGo says that a folder holds no program, and where there may be one.
func noGo(dir string, pkg *build.Package) error {
	if n := len(pkg.IgnoredGoFiles); n > 0 {
		return fmt.Errorf("no Go file in %s is built for Linux: look at the build constraints of %s", dir, strings.Join(pkg.IgnoredGoFiles, ", "))
	}
	var below []string
	for _, pattern := range []string{"*/*.go", "cmd/*/*.go"} {
		files, _ := filepath.Glob(filepath.Join(escapeGlob(dir), pattern)) // the pattern is sound
		for _, f := range files {
			if sub := filepath.Dir(f); !strings.HasPrefix(filepath.Base(sub), backupPrefix) && !slices.Contains(below, sub) {
				below = append(below, sub)
			}
		}
	}
	if len(below) > 0 {
		return fmt.Errorf("there is no Go file in %s itself: say CODE=DIR for one of the folders\n  %s", dir, strings.Join(below, "\n  "))
	}
	return fmt.Errorf("there is no Go file in %s: a program is a main.go with a func main", dir)
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// checkImports holds a program to the packages that the workbook pins.
func (b *Builder) checkImports(dir string, pkg *build.Package) error {
	var bad []string
	for _, path := range pkg.Imports {
		first, _, _ := strings.Cut(path, "/")
		if !strings.Contains(first, ".") && first != ModulePath {
			continue // the standard library's, or so the compiler will see
		}
		if slices.ContainsFunc(allowedImports, func(a string) bool {
			return path == a || strings.HasSuffix(a, "/") && strings.HasPrefix(path, a)
		}) {
			continue
		}
		for _, pos := range pkg.ImportPos[path] {
			bad = append(bad, fmt.Sprintf("%s:%d:%d: imports %s", b.seen(pos.Filename), pos.Line, pos.Column, path))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	slices.Sort(bad)
	return &CodeError{Dir: b.seen(dir), Output: strings.Join(bad, "\n") + `
A lab's program imports the standard library, golang.org/x/sys/unix, github.com/mdlayher/netlink and
github.com/vishvananda/netns. A program that needs others has to be a module of its own: go mod init and
go get in a folder outside of the workbook, then CODE=DIR.`}
}

func (b *Builder) codeError(dir, file string, line int, format string, args ...any) error {
	p := Problem{b.seen(file), line, fmt.Sprintf(format, args...)}
	return &CodeError{Dir: b.seen(dir), Output: p.String()}
}

// writeOverlay makes the file for the go command that lays dir's files over
// overlayDir. It is in memory only: killed, we leave none behind.
func writeOverlay(root, dir string) (file *os.File, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("lay %s over the workbook's module: %w", dir, err)
		}
	}()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	// Should there be such a folder after all, its own files are hidden.
	old, err := os.ReadDir(filepath.Join(root, overlayDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range old {
		overlay.Replace[filepath.Join(root, overlayDir, e.Name())] = ""
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name())) // what a link leads to
		if err == nil && info.Mode().IsRegular() {
			overlay.Replace[filepath.Join(root, overlayDir, e.Name())] = filepath.Join(dir, e.Name())
		}
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("overlay.json", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file = os.NewFile(uintptr(fd), "overlay.json")
	if _, err := file.Write(text); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// Check builds the lab's check into the file out, as Program does it. Its
// errors are never the student's.
func (b *Builder) Check(ctx context.Context, l *Lab, out string) error {
	dir := l.Path("check")
	out, err := filepath.Abs(out) // for the root is not where the caller is
	if err != nil {
		return fmt.Errorf("build the check of lab %d: %w", l.Number, err)
	}
	text, err := b.run(ctx, filepath.Dir(out), b.Root, b.env(true), nil, "test", "-c", "-vet=off", "-ldflags=-s -w", "-o", out, "./"+l.rel("check"))
	if err != nil {
		os.Remove(out)
		return fmt.Errorf("build the check of lab %d, %s: %w\n%s", l.Number, b.seen(dir), err, b.relative(b.Root, dir, text)+advice(text))
	}
	if _, err := os.Stat(out); err != nil { // go test -c is content without a test
		return fmt.Errorf("build the check of lab %d: there is no test in %s", l.Number, b.seen(dir))
	}
	return nil
}

// goBuild runs go build in the folder at for the program in dir. module is the
// folder of the student's own go.mod, "" for a program in the workbook's. extra,
// if there is one, is the go command's descriptor 3.
func (b *Builder) goBuild(ctx context.Context, at, dir, module, out string, extra *os.File, args ...string) error {
	abs, err := filepath.Abs(out) // for at is not where the caller is
	if err != nil {
		return fmt.Errorf("build %s: %w", dir, err)
	}
	// -s -w leaves out what debuggers want. Panics keep their line numbers.
	args = append([]string{"build", "-buildvcs=false", "-ldflags=-s -w", "-o", abs}, args...)
	text, err := b.run(ctx, filepath.Dir(abs), at, b.env(module == ""), extra, args...)
	if err == nil {
		return nil
	}
	os.Remove(abs)
	text = b.relative(at, dir, text)
	if module != "" {
		text += fmt.Sprintf("(built as a part of the module in %s)\n", b.seen(module))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		switch {
		case machineFault.MatchString(text):
		case module != "" && requirement.MatchString(text):
			return &CodeError{b.seen(dir), text + "Its go.mod does not have all that the code imports: run go mod tidy there.\n"}
		case position.MatchString(text) && !requirement.MatchString(text):
			return &CodeError{b.seen(dir), text}
		}
	}
	return fmt.Errorf("build the program in %s: %w\n%s%s", b.seen(dir), err, text, advice(text))
}

var (
	// position is where the compiler and the go command say that something is.
	position = regexp.MustCompile(`(?m)^(\s*)(\S[^\n]*?\.(?:go|s|mod))(:\d+(?::\d+)?: )`)
	// machineFault are the words of a go command that lacks something. They
	// can come with the position of the import that it was wanted for.
	machineFault = regexp.MustCompile(`(?i)no space left on device|disk quota exceeded|read-only file system|` +
		`cannot allocate memory|signal: killed|dial tcp|module lookup disabled|toolchain not available`)
	// requirement are its words for a go.mod that does not go with the code.
	requirement = regexp.MustCompile(`missing go\.sum entry|no required module provides package|` +
		`cannot find module providing package|updates to go\.mod needed`)
)

// advice returns what to do about a fault of the machine.
func advice(text string) string {
	switch strings.ToLower(machineFault.FindString(text)) {
	case "no space left on device", "disk quota exceeded":
		return "The disk is full: make room, or set GOCACHE and XDG_CACHE_HOME to folders on another one."
	case "read-only file system":
		return "The go command needs a cache: set GOCACHE to a folder that can be written."
	case "cannot allocate memory", "signal: killed":
		return "The machine has too little memory for the compiler."
	case "dial tcp", "module lookup disabled":
		return "A module is not on this machine and cannot be fetched: run go mod download once where there is a network."
	case "toolchain not available":
		return "This Go is too old and cannot fetch a newer one: install that from go.dev/dl."
	}
	return ""
}

// relative rewrites the paths in the output of a go command that ran in the
// folder at, for code in the folder dir, and leaves out its headings.
func (b *Builder) relative(at, dir, text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "# ") {
			continue
		}
		if m := position.FindStringSubmatch(line); m != nil {
			path := m[2]
			if !filepath.IsAbs(path) {
				path = filepath.Join(at, path)
			}
			// The compiler knows the real files below an overlay, the go
			// command's own messages do not.
			if filepath.Dir(path) == filepath.Join(at, overlayDir) {
				path = filepath.Join(dir, filepath.Base(path))
			}
			line = m[1] + b.seen(path) + line[len(m[1])+len(m[2]):]
		}
		out.WriteString(line)
	}
	return out.String()
}

// seen returns a path as the student sees it: from Cwd where that is short,
// else absolute.
func (b *Builder) seen(path string) string {
	if b.Cwd == "" {
		return path
	}
	cwd := b.Cwd
	if real, err := filepath.EvalSymlinks(cwd); err == nil {
		cwd = real // as the paths are
	}
	rel, err := filepath.Rel(cwd, path)
	if err != nil || len(rel) > len(path) {
		return path
	}
	return rel
}

func (b *Builder) arch() string {
	if b.Arch != "" {
		return b.Arch
	}
	return runtime.GOARCH
}

// env returns the environment of a go command, with the workbook's own module
// pinned or not. What the student has set for other work does not reach in:
// GOAMD64=v3, say, is more than an emulated processor has.
func (b *Builder) env(pinned bool) []string {
	env := append(os.Environ(),
		"CGO_ENABLED=0", "GOOS=linux", "GOARCH="+b.arch(), "GOAMD64=v1", "GOARM64=v8.0")
	if pinned {
		env = append(env, "GOWORK=off", "GOFLAGS=-mod=readonly -buildvcs=false", "GO111MODULE=on")
	}
	return env
}

// run runs the go command in a folder and returns all that it prints. Its
// temporary files are in a folder of their own in scratch while it runs.
func (b *Builder) run(ctx context.Context, scratch, dir string, env []string, extra *os.File, args ...string) (string, error) {
	name := b.Go
	if name == "" {
		name = "go"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("the go command is not there (make doctor tells how to get it): %w", err)
	}
	tmp, err := os.MkdirTemp(scratch, "go-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = dir, append(env, "PWD="+dir, "GOTMPDIR="+tmp)
	cmd.Stdout, cmd.Stderr = &out, &out
	if extra != nil {
		cmd.ExtraFiles = []*os.File{extra}
	}
	// The group is the compilers too. SIGINT would be more polite, but does
	// nothing to a group started in the background by a shell. Killed
	// ourselves, the thread's end kills the go command (prctl(2),
	// PR_SET_PDEATHSIG): the thread must not end before.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return out.String(), ctx.Err()
	}
	return out.String(), err
}
