// SPDX-License-Identifier: MIT

package lab

import (
	"context"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// moduleRoot returns a copy of the workbook's module without its packages, so
// that tests can put code into it.
func moduleRoot(t *testing.T) string {
	t.Helper()
	root := smallWorkbook(t)
	for _, name := range []string{"go.mod", "go.sum"} {
		write(t, filepath.Join(root, name), read(t, filepath.Join("..", "..", name)))
	}
	return root
}

// build builds dir and returns the path of the program. It fails the test if
// temporary files are left, or a program that could not be built.
func buildProgram(t *testing.T, b *Builder, dir string) (string, error) {
	t.Helper()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	out := filepath.Join(t.TempDir(), "the program")
	err := b.Program(t.Context(), dir, out)
	for _, dir := range []string{tmp, filepath.Dir(out)} {
		left, _ := os.ReadDir(dir)
		for _, e := range left {
			if err != nil || e.Name() != filepath.Base(out) {
				t.Errorf("%s is left behind", e.Name())
			}
		}
	}
	return out, err
}

const usesAll = `package main

import (
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nlenc"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var _ = []any{netlink.Request, nlenc.Uint32Bytes, netns.None}

func main() {
	if len(os.Args) > 1 {
		panic("at line 17")
	}
	fmt.Println("it runs, protocol", unix.NETLINK_USERSOCK)
}
`

func TestProgram(t *testing.T) {
	root := moduleRoot(t)
	outside := filepath.Join(t.TempDir(), "over there")
	own := filepath.Join(t.TempDir(), "own")
	write(t, filepath.Join(own, "go.mod"), "module own\n\ngo 1.21\n")
	write(t, filepath.Join(own, "inner", "inner.go"), "package inner\n\nconst Protocol = 2\n")
	write(t, filepath.Join(own, "cmd", "x", "main.go"), strings.NewReplacer(
		`"golang.org/x/sys/unix"`, `"own/inner"`, "unix.NETLINK_USERSOCK", "inner.Protocol",
		"\t\"github.com/mdlayher/netlink\"\n", "", "\t\"github.com/mdlayher/netlink/nlenc\"\n", "", "\t\"github.com/vishvananda/netns\"\n", "",
		"var _ = []any{netlink.Request, nlenc.Uint32Bytes, netns.None}\n", "\n\n\n\n").Replace(usesAll))
	work := filepath.Join(root, "work", "01-send")
	for _, dir := range []string{work, filepath.Join(root, "labs", "01-send", "testdata", "wrong", "x"), outside, filepath.Join(root, "my work")} {
		write(t, filepath.Join(dir, "main.go"), usesAll)
		write(t, filepath.Join(dir, "main_test.go"), "package main_test\n\nfunc f() { nonsense }\n")
		write(t, filepath.Join(dir, "backup-1", "main.go"), "package main\n\nno Go at all\n")
	}
	// What stands where the overlay is laid must not be compiled in.
	write(t, filepath.Join(root, overlayDir, "other.go"), "package other\n")
	// Nor must a go.mod that somebody left above it rule a program.
	stray := filepath.Join(t.TempDir(), "a", "b")
	write(t, filepath.Join(stray, "main.go"), usesAll)
	write(t, filepath.Join(filepath.Dir(stray), "go.mod"), "module stray\n\ngo 1.11\n")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOAMD64", "v3")
	t.Setenv("GOWORK", filepath.Join(t.TempDir(), "go.work"))
	t.Setenv("GOFLAGS", "")
	b := &Builder{Root: root, Cwd: root}
	for name, dir := range map[string]string{
		"in work": work, "among wrong answers": root + "/labs/01-send/testdata/wrong/x", "space in the module": root + "/my work",
		"outside": outside, "through a link": link, "below a go.mod that does not matter": stray, "own module": filepath.Join(own, "cmd", "x"),
	} {
		t.Run(name, func(t *testing.T) {
			if name == "own module" {
				t.Setenv("GOWORK", "") // the student's, which that module is in
			} else {
				t.Setenv("GOFLAGS", "-tags=x -mod=vendor")
			}
			out, err := buildProgram(t, b, dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckProgram(out, ""); err != nil {
				t.Error(err)
			}
			if text, err := exec.Command(out).CombinedOutput(); err != nil || string(text) != "it runs, protocol 2\n" {
				t.Errorf("it prints %q, %v", text, err)
			}
			// A panic names the student's own file and line, so that an
			// editor finds them.
			real, err := filepath.EvalSymlinks(dir)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := exec.Command(out, "panic").CombinedOutput()
			if want := filepath.Join(real, "main.go") + ":"; !strings.Contains(string(text), want) || !strings.Contains(string(text), "at line 17") {
				t.Errorf("a panic without %s:\n%s", want, text)
			}
		})
	}
}

func TestProgramCodeErrors(t *testing.T) {
	root := moduleRoot(t)
	imports := `
A lab's program imports the standard library, golang.org/x/sys/unix, github.com/mdlayher/netlink and
github.com/vishvananda/netns. A program that needs others has to be a module of its own: go mod init and
go get in a folder outside of the workbook, then CODE=DIR.`
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"types", map[string]string{"main.go": "package main\n\nfunc main() {\n\tvar n int = \"s\"\n\tf()\n}\n"},
			"main.go:4:6: declared and not used: n\n" +
				"main.go:4:14: cannot use \"s\" (untyped string constant) as int value in variable declaration\n" +
				"main.go:5:2: undefined: f\n"},
		{"syntax", map[string]string{"main.go": "package main\n\nfunc main() {\n\tx = = 1\n}\n"},
			"main.go:4:6: syntax error: unexpected =, expected expression\n"},
		{"no package", map[string]string{"main.go": "fun main\n"},
			"main.go:1:1: expected 'package', found fun\n"},
		{"two mains", map[string]string{"main.go": "package main\n\nfunc main() {}\n", "old.go": "package main\n\nfunc main() {}\n"},
			"old.go:3:6: main redeclared in this block\n\tmain.go:3:6: other declaration of main\n"},
		{"no such package", map[string]string{"main.go": "package main\n\nimport \"netlnk\"\n\nfunc main() { netlnk.F() }\n"},
			"main.go:3:8: package netlnk is not in std ("},
		{"unused import", map[string]string{"main.go": "package main\n\nimport \"os\"\n\nfunc main() {}\n"},
			"main.go:3:8: \"os\" imported and not used\n"},
		{"other modules", map[string]string{"main.go": "package main\n\nimport (\n\t_ \"github.com/jsimonetti/rtnetlink\"\n\t_ \"netlinklabs/internal/lab\"\n\t_ \"golang.org/x/sys/cpu\"\n)\n\nfunc main() {}\n"},
			"main.go:4:2: imports github.com/jsimonetti/rtnetlink\nmain.go:5:2: imports netlinklabs/internal/lab\nmain.go:6:2: imports golang.org/x/sys/cpu" + imports},
		{"cgo", map[string]string{"main.go": "package main\n\nimport \"C\"\n\nfunc main() {}\n"},
			"main.go: " + cgoWords},
		{"cgo in a second file", map[string]string{"main.go": "package main\n\nfunc main() { f() }\n", "c.go": "package main\n\nimport \"C\"\n\nfunc f() {}\n"},
			"c.go: " + cgoWords},
		{"another package", map[string]string{"main.go": "package client\n\nfunc main() {}\n"},
			"main.go: is of package client: a program is of package main"},
		{"two packages", map[string]string{"main.go": "package main\n\nfunc main() {}\n", "util.go": "package util\n"},
			"util.go: is of package util, but main.go is of package main: all files of a program are of package main"},
		{"no main", map[string]string{"main.go": "package main\n\ntype T int\n\nfunc (T) main() {}\n"},
			"main.go: has no func main, nor has another file beside it: a program starts there"},
	}
	outside := t.TempDir()
	for _, tt := range tests {
		for where, dir := range map[string]string{
			"work":    filepath.Join(root, "work", "01-"+strings.ReplaceAll(tt.name, " ", "-")),
			"outside": filepath.Join(outside, tt.name),
		} {
			t.Run(tt.name+"/"+where, func(t *testing.T) {
				for name, text := range tt.files {
					write(t, filepath.Join(dir, name), text)
				}
				for _, cwd := range []string{dir, filepath.Dir(dir)} {
					if cwd != dir && tt.name != "two mains" && tt.name != "no main" {
						continue // one of each kind is enough
					}
					_, err := buildProgram(t, &Builder{Root: root, Cwd: cwd}, dir)
					var code *CodeError
					if !errors.As(err, &code) {
						t.Fatalf("error %v, want a *CodeError", err)
					}
					// Paths are told from where the student stands.
					prefix, err := filepath.Rel(cwd, dir)
					if err != nil {
						t.Fatal(err)
					}
					want := tt.want
					if prefix != "." {
						want = atFile.ReplaceAllString(want, "${1}"+prefix+"/${2}")
					}
					if !strings.HasPrefix(code.Output, want) || (strings.HasSuffix(want, "\n") && code.Output != want) {
						t.Errorf("from %s (-want +got):\n%s", cwd, cmp.Diff(want, code.Output))
					}
				}
			})
		}
	}
}

// atFile is a file's name at the start of a line of compiler output.
var atFile = regexp.MustCompile(`(?m)^(\t?)(\w+\.go:)`)

func TestProgramOwnModuleErrors(t *testing.T) {
	root := moduleRoot(t)
	own := t.TempDir()
	write(t, filepath.Join(own, "go.mod"), "module example.org/own\n\ngo 1.21\n")
	write(t, filepath.Join(own, "a", "main.go"), "package main\n\nfunc main() { f() }\n")
	write(t, filepath.Join(own, "a", "go.mod"), "module example.org/own/a\n\ngo 1.21\n")
	write(t, filepath.Join(own, "b", "main.go"), "package main\n\nimport _ \"example.net/no/such\"\n\nfunc main() {}\n")
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOPROXY", "off")
	for dir, want := range map[string]string{
		"a": "a/main.go:3:15: undefined: f\n(built as a part of the module in a)\n",
		"b": "Its go.mod does not have all that the code imports: run go mod tidy there.\n",
	} {
		_, err := buildProgram(t, &Builder{Root: root, Cwd: own}, filepath.Join(own, dir))
		var code *CodeError
		if !errors.As(err, &code) || !strings.HasSuffix(code.Output, want) {
			t.Errorf("%s: %v, want a *CodeError that ends in\n%s", dir, err, want)
		}
	}
	// A module that the go.mod asks for and nobody can fetch is not the
	// code's fault.
	write(t, filepath.Join(own, "go.mod"), "module example.org/own\n\ngo 1.21\n\nrequire example.net/no/such v1.0.0\n")
	write(t, filepath.Join(own, "go.sum"), "example.net/no/such v1.0.0 h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"+
		"example.net/no/such v1.0.0/go.mod h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
	_, err := buildProgram(t, &Builder{Root: root, Cwd: own}, filepath.Join(own, "b"))
	var code *CodeError
	if err == nil || errors.As(err, &code) || !strings.Contains(err.Error(), "run go mod download once where there is a network") {
		t.Errorf("offline: %v", err)
	}
}

func TestProgramEnvironment(t *testing.T) {
	root := moduleRoot(t)
	dir := filepath.Join(root, "work", "01-send")
	write(t, filepath.Join(dir, "main.go"), "package main\n\nfunc main() {}\n")
	empty := t.TempDir()
	tests := filepath.Join(t.TempDir(), "tests")
	write(t, filepath.Join(tests, "a_test.go"), "package main\n")
	other := t.TempDir()
	write(t, filepath.Join(other, "x_windows.go"), "package main\n")
	several := t.TempDir()
	write(t, filepath.Join(several, "one", "main.go"), "package main\n")
	write(t, filepath.Join(several, "cmd", "two", "main.go"), "package main\n")
	full := t.TempDir()
	write(t, filepath.Join(full, "go"), "#!/bin/sh\necho './main.go:1:1: write /x: no space left on device' >&2\nexit 1\n")
	if err := os.Chmod(filepath.Join(full, "go"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, dir, goCommand, want string
	}{
		{"no go", dir, "/nowhere/go", "the go command is not there (make doctor tells how to get it)"},
		{"full disk", dir, filepath.Join(full, "go"), "The disk is full: make room"},
		{"no folder", dir + "x", "", "the program's folder: lstat " + dir + "x: no such file or directory"},
		{"a file", dir + "/main.go", "", "is a file, not a folder: for a Go program say CODE=" + dir + ", for a finished executable PROGRAM="},
		{"empty", empty, "", "there is no Go file in " + empty + ": a program is a main.go with a func main"},
		{"only tests", tests, "", "there are only tests in " + tests},
		{"other systems", other, "", "no Go file in " + other + " is built for Linux: look at the build constraints of x_windows.go"},
		{"several programs", several, "", "say CODE=DIR for one of the folders\n  " + several + "/one\n  " + several + "/cmd/two"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &Builder{Root: root, Cwd: root, Go: tt.goCommand}
			_, err := buildProgram(t, b, tt.dir)
			var code *CodeError
			if err == nil || errors.As(err, &code) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that is not the code's, with %q", err, tt.want)
			}
		})
	}
}

// TestProgramStopped ends a build, and the processes below it with it.
func TestProgramStopped(t *testing.T) {
	root := moduleRoot(t)
	dir := filepath.Join(root, "work", "01-send")
	write(t, filepath.Join(dir, "main.go"), "package main\n\nfunc main() {}\n")
	bin := t.TempDir()
	fifo := filepath.Join(bin, "alive")
	if err := exec.Command("mkfifo", fifo).Run(); err != nil {
		t.Fatal(err)
	}
	// A go command whose own child, as a compiler is one, holds the pipe open.
	write(t, filepath.Join(bin, "go"), "#!/bin/sh\nsh -c 'echo started; exec sleep 1000' > '"+fifo+"'\n")
	if err := os.Chmod(filepath.Join(bin, "go"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- (&Builder{Root: root, Go: filepath.Join(bin, "go")}).Program(ctx, dir, filepath.Join(bin, "out"))
	}()
	alive, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	buf := make([]byte, 100)
	if n, err := alive.Read(buf); err != nil || string(buf[:n]) != "started\n" {
		t.Fatalf("read %q, %v", buf[:n], err)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want that it was canceled", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the build goes on")
	}
	if left, _ := filepath.Glob(filepath.Join(bin, "go-*")); len(left) > 0 {
		t.Errorf("%s is left behind", left)
	}
	if n, err := alive.Read(buf); n != 0 || err == nil {
		t.Errorf("read %q, %v, want that nobody holds the other end", buf[:n], err)
	}
}

func TestCheckBinary(t *testing.T) {
	root := moduleRoot(t)
	l := findLab(t, root, "1")
	b := &Builder{Root: root, Cwd: root}
	out := filepath.Join(t.TempDir(), "check")

	write(t, l.Path("check", "check.go"), "package check\n")
	err := b.Check(t.Context(), l, out)
	if err == nil || err.Error() != "build the check of lab 1: there is no test in labs/01-send/check" {
		t.Errorf("no test: %v", err)
	}
	write(t, l.Path("check", "check_test.go"), "package check\n\nimport \"testing\"\n\nfunc TestLab(t *testing.T) { f() }\n")
	err = b.Check(t.Context(), l, out)
	var code *CodeError
	if err == nil || errors.As(err, &code) || !strings.Contains(err.Error(), "labs/01-send/check/check_test.go:5:30: undefined: f") {
		t.Errorf("a check that does not compile: %v", err)
	}
	write(t, l.Path("check", "f_test.go"), "package check\n\nfunc f() {}\n")
	if err := b.Check(t.Context(), l, out); err != nil {
		t.Fatal(err)
	}
	if err := CheckProgram(out, ""); err != nil {
		t.Error(err)
	}
	if text, err := exec.Command(out, "-test.v").CombinedOutput(); err != nil || !strings.Contains(string(text), "--- PASS: TestLab") {
		t.Errorf("the check prints %s, %v", text, err)
	}
}

func TestCheckProgram(t *testing.T) {
	dir := t.TempDir()
	out, err := buildProgram(t, &Builder{Root: moduleRoot(t)}, func() string {
		write(t, filepath.Join(dir, "static", "main.go"), "package main\n\nfunc main() {}\n")
		return filepath.Join(dir, "static")
	}())
	if err != nil {
		t.Fatal(err)
	}
	static, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, text []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	patched := func(at int, b ...byte) []byte {
		text := append([]byte(nil), static...)
		copy(text[at:], b)
		return text
	}
	// The first program header turned into an interpreter's.
	phoff := int(static[32]) // e_phoff of a 64-bit file, small in Go's
	tests := []struct{ name, path, want string }{
		{"static", put("ok", static, 0o755), ""},
		{"not executable", put("noexec", static, 0o644), "is not executable: chmod +x it"},
		{"script", put("script", []byte("#!/bin/sh\n"), 0o755), "is a script"},
		{"text", put("text", []byte("int main() {}\n"), 0o755), "is no executable for Linux (no ELF file)"},
		{"empty", put("empty", nil, 0o755), "is no executable for Linux (no ELF file)"},
		{"cut off", put("short", static[:40], 0o755), "is a damaged ELF file"},
		{"another machine", put("riscv", patched(18, byte(elf.EM_RISCV), 0), 0o755), "is for EM_RISCV, but the kernel under test is for EM_"},
		{"object file", put("x.o", patched(16, byte(elf.ET_REL), 0), 0o755), "is an object file, not an executable"},
		{"core file", put("core", patched(16, byte(elf.ET_CORE), 0), 0o755), "is no executable (ET_CORE)"},
		{"dynamic", put("dynamic", patched(phoff, byte(elf.PT_INTERP), 0, 0, 0), 0o755), "is linked dynamically: the place of a check has no libraries: link it static (gcc -static"},
		{"library", put("lib.so", patched(24, make([]byte, 8)...), 0o755), "is a shared library"},
		{"folder", dir, "is a folder: PROGRAM names an executable; for Go code in a folder say CODE=" + dir},
		{"device", "/dev/null", "is no regular file"},
		{"missing", filepath.Join(dir, "none"), "no such file or directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := CheckProgram(tt.path, "")
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "PROGRAM="+tt.path+": "+tt.want)):
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
	if exe, err := exec.LookPath("env"); err == nil { // a real one, where there is one
		if f, err := elf.Open(exe); err == nil && f.Section(".interp") != nil {
			if err := CheckProgram(exe, ""); err == nil || !strings.Contains(err.Error(), "is linked dynamically") {
				t.Errorf("%s: %v", exe, err)
			}
		}
	}
}
