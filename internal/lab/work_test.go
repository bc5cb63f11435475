// SPDX-License-Identifier: MIT

package lab

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// files returns the files below dir and their texts.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out[rel] = read(t, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestOpenWorkspace(t *testing.T) {
	root := smallWorkbook(t)
	home := t.TempDir()
	file := filepath.Join(home, "file")
	write(t, file, "")
	tests := []struct {
		name string
		env  map[string]string
		want string // or what the error has
		fail bool
	}{
		{"usual", nil, filepath.Join(root, "work"), false},
		{"absolute", map[string]string{"WORK": home + "/a b/"}, home + "/a b", false},
		{"relative", map[string]string{"WORK": "mine"}, root + "/labs/mine", false},
		{"below a file", map[string]string{"WORK": file + "/x"}, "WORK=" + file + "/x cannot hold your code: ", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := OpenWorkspace(root, filepath.Join(root, "labs"), env(tt.env))
			switch {
			case tt.fail && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("error %v, want %s", err, tt.want)
			case !tt.fail && (err != nil || got != Workspace{Dir: tt.want}):
				t.Errorf("got %+v, %v, want %s", got, err, tt.want)
			}
		})
	}
}

// TestOpenWorkspaceReadOnly needs a user for whom folders can be read-only, so
// root runs it in a process of another one.
func TestOpenWorkspaceReadOnly(t *testing.T) {
	const child = "LAB_TEST_READ_ONLY"
	if os.Getuid() == 0 {
		root := t.TempDir()
		for dir := root; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Skipf("let another user in: %v", err)
			}
			if filepath.Dir(dir) == os.TempDir() {
				break
			}
		}
		home := filepath.Join(root, "home")
		if err := os.Mkdir(home, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(home, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		exe := filepath.Join(root, "lab.test") // the first one may be where nobody else can go
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(exe, text, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(exe, "-test.run=^TestOpenWorkspaceReadOnly$", "-test.v")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), child+"="+root, "HOME="+home, "TMPDIR="+home)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("as another user: %v\n%s", err, out)
		}
		return
	}
	root, home := os.Getenv(child), os.Getenv("HOME")
	if root == "" {
		root, home = t.TempDir(), t.TempDir()
		if err := os.Chmod(root, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, want string
		env        map[string]string
	}{
		{"home", home + "/.local/share/netlink-labs/work", map[string]string{"HOME": home}},
		{"data", home + "/data/netlink-labs/work", map[string]string{"HOME": home, "XDG_DATA_HOME": home + "/data"}},
		{"relative data", home + "/.local/share/netlink-labs/work", map[string]string{"HOME": home, "XDG_DATA_HOME": "data"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := OpenWorkspace(root, root, env(tt.env))
			if err != nil {
				t.Fatal(err)
			}
			if got.Dir != tt.want || !strings.Contains(got.Note, tt.want) || !strings.Contains(got.Note, "cannot be written") {
				t.Errorf("got %+v, want %s and a note", got, tt.want)
			}
		})
	}
	if _, err := OpenWorkspace(root, root, env(nil)); err == nil || !strings.Contains(err.Error(), "say WORK=DIR") {
		t.Errorf("no folder at all: %v", err)
	}
}

func TestEnsureAndReset(t *testing.T) {
	root := smallWorkbook(t)
	l := findLab(t, root, "1")
	w := Workspace{Dir: filepath.Join(root, "work")}
	dir := w.LabDir(l)

	created, err := w.Ensure(l, 0)
	if err != nil || !created {
		t.Fatalf("Ensure: %v, %v", created, err)
	}
	starter, err := l.Starter(1)
	if err != nil {
		t.Fatal(err)
	}
	fresh := map[string]string{"main.go": string(starter), "notes.toml": "answer = \"\"\n"}
	if diff := cmp.Diff(fresh, files(t, dir)); diff != "" {
		t.Fatalf("made on first use (-want +got):\n%s", diff)
	}

	// Code that is there is never touched, under whatever name.
	if err := os.Rename(filepath.Join(dir, "main.go"), filepath.Join(dir, "mine.go")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "mine.go"), "mine")
	write(t, filepath.Join(dir, "sub", "x.go"), "below")
	write(t, filepath.Join(dir, ".git", "HEAD"), "hidden")
	if _, err := w.Update(l, func(s *State) error { s.Hints[1] = 1; return nil }); err != nil {
		t.Fatal(err)
	}
	state := read(t, filepath.Join(dir, stateFile))
	if created, err = w.Ensure(l, 1); err != nil || created {
		t.Fatalf("Ensure with code there: %v, %v", created, err)
	}

	backup, err := w.Reset(l, 2)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(backup) != dir || !strings.HasPrefix(filepath.Base(backup), "backup-") {
		t.Errorf("the backup is %s", backup)
	}
	second, err := l.Starter(2)
	if err != nil {
		t.Fatal(err)
	}
	b := filepath.Base(backup)
	want := map[string]string{
		"main.go": string(second), "notes.toml": "answer = \"\"\n",
		b + "/mine.go": "mine", b + "/sub/x.go": "below", b + "/notes.toml": "answer = \"\"\n",
		".git/HEAD": "hidden", stateFile: state,
	}
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("after reset (-want +got):\n%s", diff)
	}

	// A reset keeps older backups where they are.
	write(t, filepath.Join(dir, "main.go"), "again")
	again, err := w.Reset(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	got := files(t, dir)
	if again == backup || got[b+"/mine.go"] != "mine" || got[filepath.Base(again)+"/main.go"] != "again" {
		t.Errorf("a second reset to %s: %v", again, got)
	}

	// A reset that cannot be done changes nothing.
	before := files(t, dir)
	if _, err := w.Reset(l, 9); err == nil {
		t.Error("START=9 was taken")
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Errorf("after a reset that failed (-want +got):\n%s", diff)
	}
}

func TestResetOfNothing(t *testing.T) {
	root := smallWorkbook(t)
	l := findLab(t, root, "1")
	w := Workspace{Dir: filepath.Join(root, "work")}
	backup, err := w.Reset(l, 1)
	if err != nil || backup != "" {
		t.Errorf("Reset without code: backup %q, %v", backup, err)
	}
	if _, err := os.Stat(filepath.Join(w.LabDir(l), "main.go")); err != nil {
		t.Error(err)
	}
}

func TestNewBackup(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, want := range []string{"backup-20260203-040506", "backup-20260203-040506-2", "backup-20260203-040506-3"} {
		if got, err := newBackup(dir, at); err != nil || got != filepath.Join(dir, want) {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	if _, err := newBackup(filepath.Join(dir, "none"), at); err == nil {
		t.Error("a backup in a folder that is not there")
	}
}

func TestStudentSource(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.go", "main.go", "notes.txt", ".b.go", "backup-1/old.go"} {
		write(t, filepath.Join(dir, name), fmt.Sprintf("text of %s\n", name))
	}
	got, err := StudentSource(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := "text of main.go\n\n// a.go:\n\ntext of a.go\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := StudentSource(filepath.Join(dir, "none")); err == nil {
		t.Error("no error for a folder that is not there")
	}
}
