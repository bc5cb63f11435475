// SPDX-License-Identifier: MIT

package place

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"netlinklabs/internal/initramfs"
	"netlinklabs/internal/initramfs/cpiotest"
	"netlinklabs/internal/kernel"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPack(t *testing.T) {
	guest := put(t, filepath.Join(t.TempDir(), "guest"), "the guest")
	nonce := wire.Nonce{9, 8, 7}
	lab := &wire.Lab{Number: 1, Name: "01-x", Program: wire.ProgramPath, Boot: "check"}
	f, err := (&Job{
		Argv: []string{"/job/check", "-test.v"}, Dir: "/job", Env: []string{"A=b c"}, Lab: lab,
		Modules: []Module{{"first", []byte("1st"), "", true}, {"nlecho", []byte("ko"), "hold=1 replies=2", false}},
		Files: func(w *initramfs.Writer) {
			w.Data("/job/extra", 0o700, []byte("extra"))
			w.Data(wire.JobPath, 0o644, []byte("a job of somebody else")) // comes too late
		},
	}).pack(guest, nonce, "/dev/ttyS7")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	_, got := cpiotest.Read(t, b)
	modes := map[string]uint32{}
	for name, e := range got {
		modes[name] = e.Mode
	}
	want := map[string]uint32{
		"init": 0o100700, "job": 0o040711, "job/job.json": 0o100600, "job/lab.json": 0o100600, "job/extra": 0o100700,
		"lib": 0o040755, "lib/netlink-labs": 0o040755, "lib/netlink-labs/first.ko": 0o100644, "lib/netlink-labs/nlecho.ko": 0o100644,
	}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
	if got["init"].Data != "the guest" || got["lib/netlink-labs/nlecho.ko"].Data != "ko" {
		t.Errorf("contents %q, %q", got["init"].Data, got["lib/netlink-labs/nlecho.ko"].Data)
	}
	modules := []wire.Module{{Name: "first", Path: "/lib/netlink-labs/first.ko", Stock: true},
		{Name: "nlecho", Path: "/lib/netlink-labs/nlecho.ko", Params: "hold=1 replies=2"}}
	var job wire.Job
	if err := json.Unmarshal([]byte(got["job/job.json"].Data), &job); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wire.Job{Version: wire.Version, Nonce: nonce, Line: "/dev/ttyS7", Argv: []string{"/job/check", "-test.v"},
		Dir: "/job", Env: []string{"A=b c"}, Modules: modules}, job); diff != "" {
		t.Errorf("the job (-want +got):\n%s", diff)
	}
	var packed wire.Lab
	if err := json.Unmarshal([]byte(got["job/lab.json"].Data), &packed); err != nil {
		t.Fatal(err)
	}
	described := *lab
	described.Modules = modules
	if diff := cmp.Diff(described, packed); diff != "" {
		t.Errorf("the lab (-want +got):\n%s", diff)
	}
	if lab.Modules != nil {
		t.Error("packing has changed the caller's lab")
	}
}

func TestPackErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := new(Job).pack(missing, wire.Nonce{}, ""); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("without a guest: %v", err)
	}
	j := &Job{Files: func(w *initramfs.Writer) { w.Program("/p", missing) }}
	_, err := j.pack(put(t, filepath.Join(t.TempDir(), "guest"), ""), wire.Nonce{}, "")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a program: %v", err)
	}
}

func TestRunWithoutQEMU(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	p := &VM{Guest: put(t, filepath.Join(t.TempDir(), "guest"), ""), Kernel: &kernel.Prepared{}, State: t.TempDir()}
	if _, err := p.Run(t.Context(), &Job{}); !errors.Is(err, vm.ErrQEMU) || !strings.Contains(err.Error(), "is not installed: run make setup") {
		t.Errorf("got %v", err)
	}
}

func TestReceive(t *testing.T) {
	dir := t.TempDir()
	var left files
	for _, piece := range [][2]string{
		{"profile", "one "}, {"other", "2"}, {"profile", "two"}, {"profile", ""}, {"other", ""}, {"empty", ""},
		// Names that lead elsewhere, from a guest that is not to be trusted.
		{"../up", "x"}, {"../up", ""}, {"/abs", "x"}, {"/abs", ""}, {".hidden", ""}, {"..", ""}, {"", ""}, {"a/b", ""},
		{"half", "never ended"},
	} {
		if err := left.receive(dir, piece[0], []byte(piece[1])); err != nil {
			t.Errorf("%q: %v", piece, err)
		}
	}
	got := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(b)
	}
	if diff := cmp.Diff(map[string]string{"profile": "one two", "other": "2", "empty": ""}, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if up, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(up) != 1 {
		t.Errorf("beside the folder: %v, %v", up, err)
	}
	if err := left.receive("", "profile", nil); err != nil {
		t.Errorf("nobody wants files: %v", err)
	}
	if err := left.receive(filepath.Join(dir, "missing"), "profile", nil); err == nil {
		t.Error("a file that could not be kept was not told of")
	}
}
