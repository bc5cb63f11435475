// SPDX-License-Identifier: MIT

package initramfs_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"netlinklabs/internal/initramfs"
	"netlinklabs/internal/initramfs/cpiotest"
)

func entry(mode uint32, data string) cpiotest.Entry { return cpiotest.Entry{Mode: mode, Data: data} }

// archive returns what add writes.
func archive(t testing.TB, add func(*initramfs.Writer)) []byte {
	t.Helper()
	var b bytes.Buffer
	w := initramfs.NewWriter(&b)
	add(w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t testing.TB, path, text string, perm fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), perm); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsWrittenCanBeRead(t *testing.T) {
	host := filepath.Join(t.TempDir(), "host")
	write(t, host, "of the host", 0o600)
	names, got := cpiotest.Read(t, archive(t, func(w *initramfs.Writer) {
		w.Dir("/job", 0o711)
		w.Data("/job/a.json", 0o600, []byte("{}"))
		w.Data("/job/../etc//passwd", 0o644, []byte("root"))
		w.File("/deep/in/the/tree", 0o755, host)
		w.Symlink("/bin/sh", "busybox")
		w.Data("empty", 0o644, nil)
		// The first of a name stays, whatever it is.
		w.Data("/job/a.json", 0o644, []byte("second"))
		w.Dir("/job", 0o777)
		w.Symlink("/deep", "/else")
		w.File("empty", 0o644, host)
		w.Dir("/", 0o700)
		// A set-user-ID bit does not get in.
		w.Data("/suid", 0o4755|fs.ModeSetuid, nil)
	}))
	want := map[string]cpiotest.Entry{
		"job":              entry(0o040711, ""),
		"job/a.json":       entry(0o100600, "{}"),
		"etc":              entry(0o040755, ""),
		"etc/passwd":       entry(0o100644, "root"),
		"deep":             entry(0o040755, ""),
		"deep/in":          entry(0o040755, ""),
		"deep/in/the":      entry(0o040755, ""),
		"deep/in/the/tree": entry(0o100755, "of the host"),
		"bin":              entry(0o040755, ""),
		"bin/sh":           entry(0o120777, "busybox"),
		"empty":            entry(0o100644, ""),
		"suid":             entry(0o100755, ""),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(names) != len(want) {
		t.Errorf("%d entries: %v", len(names), names)
	}
}

// TestAlignment has names and contents of all lengths modulo four, beside each
// other.
func TestAlignment(t *testing.T) {
	want := map[string]cpiotest.Entry{}
	_, got := cpiotest.Read(t, archive(t, func(w *initramfs.Writer) {
		for name := range 9 {
			for size := range 9 {
				n, data := fmt.Sprintf("%d%d%s", name, size, strings.Repeat("n", name)), strings.Repeat("d", size)
				w.Data(n, 0o644, []byte(data))
				want[n] = entry(0o100644, data)
			}
		}
	}))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFirstErrorIsKept(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	w := initramfs.NewWriter(io.Discard)
	w.File("/a", 0o644, missing)
	w.Program("/b", missing+"2")
	w.Tree("/c", missing+"3", 1)
	w.Data("/d", 0o644, []byte("x"))
	err := w.Close()
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) || strings.Contains(err.Error(), missing+"2") {
		t.Errorf("got %v, want the error of %s", err, missing)
	}
	full := errors.New("the disk is full")
	w = initramfs.NewWriter(writerFunc(func([]byte) (int, error) { return 0, full }))
	w.Data("/a", 0o644, make([]byte, 1<<20))
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestFileWhoseSizeLies has files that are longer or shorter when they are read
// than when their size was asked for: all behind them must not shift.
func TestFileWhoseSizeLies(t *testing.T) {
	// A file of /proc is a regular file of size 0 that has content.
	_, got := cpiotest.Read(t, archive(t, func(w *initramfs.Writer) { w.File("/v", 0o644, "/proc/version") }))
	if got["v"].Data != "" {
		t.Errorf("a file of no size has the content %q", got["v"].Data)
	}
	// A file of /sys has 4096 bytes for stat(2) and some for read(2).
	const sys = "/sys/kernel/uevent_seqnum"
	if st, err := os.Stat(sys); err != nil || st.Size() != 4096 {
		t.Skipf("%s is not there to be read: %v", sys, err)
	}
	w := initramfs.NewWriter(io.Discard)
	w.File("/seq", 0o644, sys)
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "seq") {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

func TestProgramStatic(t *testing.T) {
	out := filepath.Join(t.TempDir(), "static")
	build(t, out, "CGO_ENABLED=0", "package main\nfunc main() {}\n")
	names, got := cpiotest.Read(t, archive(t, func(w *initramfs.Writer) { w.Program("/job/p", out) }))
	if diff := cmp.Diff([]string{"job", "job/p"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if got["job/p"].Mode != 0o100755 {
		t.Errorf("mode %o", got["job/p"].Mode)
	}
}

// TestProgramDynamic runs a dynamically linked program in a root that has only
// what the archive brought.
func TestProgramDynamic(t *testing.T) {
	program, err := filepath.EvalSymlinks("/bin/ls")
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libs, err := f.ImportedLibraries()
	if err != nil || len(libs) == 0 {
		t.Skipf("%s needs no libraries here: %v", program, err)
	}
	_, got := cpiotest.Read(t, archive(t, func(w *initramfs.Writer) {
		w.Program("/bin/ls", program)
		w.Program("/bin/ls2", program) // its libraries are there already
	}))
	for _, lib := range libs {
		found := false
		for name := range got {
			found = found || filepath.Base(name) == lib
		}
		if !found {
			t.Errorf("the library %s is not in the archive", lib)
		}
	}
	if os.Getuid() != 0 {
		return // chroot is root's
	}
	root := t.TempDir()
	for _, dir := range []bool{true, false} { // folders first, a map has no order
		for name, e := range got {
			if (e.Mode&0o170000 == 0o040000) != dir {
				continue
			}
			if path := filepath.Join(root, name); dir {
				err = os.MkdirAll(path, 0o755)
			} else {
				write(t, path, e.Data, fs.FileMode(e.Mode&0o777))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.Command("/bin/ls2", "/bin")
	cmd.SysProcAttr = &unix.SysProcAttr{Chroot: root}
	cmd.Dir, cmd.Env = "/", []string{}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ls\nls2\n" {
		t.Errorf("in a root of what the archive holds, ls /bin printed %q: %v", out, err)
	}
}

func TestProgramThatIsNone(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	write(t, script, "#!/bin/sh\n", 0o755)
	w := initramfs.NewWriter(io.Discard)
	w.Program("/p", script)
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), script+" is not an ELF executable") {
		t.Errorf("got %v", err)
	}
}

func build(t *testing.T, out, env, source string) {
	t.Helper()
	src := out + ".go"
	write(t, src, source, 0o644)
	cmd := exec.Command("go", "build", "-o", out, src)
	cmd.Env = append(os.Environ(), env)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, msg)
	}
}

func TestTree(t *testing.T) {
	host := filepath.Join(t.TempDir(), "a package")
	write(t, filepath.Join(host, "x_test.go"), "package x", 0o644)
	write(t, filepath.Join(host, "testdata/in [1].txt"), "12345", 0o600)
	write(t, filepath.Join(host, "testdata/run.sh"), "", 0o755)
	write(t, filepath.Join(host, ".git/objects/big"), strings.Repeat("x", 1000), 0o644)
	write(t, filepath.Join(host, "sub/.git"), "gitdir: elsewhere", 0o644) // a worktree's is a file
	for _, link := range [][2]string{{"testdata/run.sh", "link"}, {"/no/such/file", "dangling"}, {"..", "up"}} {
		if err := os.Symlink(link[0], filepath.Join(host, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(host, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]cpiotest.Entry{
		"w":                         entry(0o040755, ""),
		"w/pkg":                     entry(0o040755, ""),
		"w/pkg/x_test.go":           entry(0o100644, "package x"),
		"w/pkg/testdata":            entry(0o040755, ""),
		"w/pkg/testdata/in [1].txt": entry(0o100600, "12345"),
		"w/pkg/testdata/run.sh":     entry(0o100755, ""),
		"w/pkg/sub":                 entry(0o040755, ""),
		"w/pkg/sub/.git":            entry(0o100644, "gitdir: elsewhere"),
		"w/pkg/link":                entry(0o120777, "testdata/run.sh"),
		"w/pkg/dangling":            entry(0o120777, "/no/such/file"),
		"w/pkg/up":                  entry(0o120777, ".."),
	}
	_, got := cpiotest.Read(t, archive(t, func(w *initramfs.Writer) { w.Tree("/w/pkg", host, 1000) }))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A folder that was reached by a link is the folder.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(host, link); err != nil {
		t.Fatal(err)
	}
	_, got = cpiotest.Read(t, archive(t, func(w *initramfs.Writer) { w.Tree("/w/pkg", link, 1000) }))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("by a link (-want +got):\n%s", diff)
	}
}

func TestTreeLimit(t *testing.T) {
	host := t.TempDir()
	write(t, filepath.Join(host, "a"), strings.Repeat("x", 600<<10), 0o644)
	write(t, filepath.Join(host, "b"), strings.Repeat("x", 424<<10), 0o644)
	tree := func() error {
		w := initramfs.NewWriter(io.Discard)
		w.Tree("/w", host, 1<<20)
		return w.Close()
	}
	if err := tree(); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	write(t, filepath.Join(host, "c"), "x", 0o644)
	if err := tree(); err == nil || !strings.Contains(err.Error(), host+" holds more than 1 MiB") {
		t.Errorf("beyond the limit: %v", err)
	}
}
