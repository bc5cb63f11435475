// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"netlinklabs/internal/cache"
)

// patient returns the tool, as doctor sees it, and what it prints.
func patient(t *testing.T) (*app, *bytes.Buffer) {
	t.Helper()
	dir, err := cache.Dir()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	out := new(bytes.Buffer)
	return &app{ctx: t.Context(), root: root, cache: dir, out: out, err: io.Discard, progress: newProgress(io.Discard, false)}, out
}

// The tests need what labs need, so here doctor is content.
func TestDoctorIsContent(t *testing.T) {
	a, out := patient(t)
	if err := a.doctor(nil); err != nil {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	for _, want := range []string{"ok  QEMU", "ok  Go ", "ok  cache", "ok  memory", "labs can run here"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestDoctorFinds(t *testing.T) {
	golang, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(golang, filepath.Join(bin, "go")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	t.Setenv("KERNEL", filepath.Join(t.TempDir(), "none"))
	t.Setenv("XDG_CACHE_HOME", "/dev/null/cache")
	a, out := patient(t)
	err = a.doctor(nil)
	if err == nil || !strings.Contains(err.Error(), "make setup") {
		t.Errorf("doctor: %v", err)
	}
	for _, want := range []string{
		"x   QEMU", "is not installed: make setup", // in PATH alone: a QEMU elsewhere would not be started
		"x   kernel", "name a folder that exists",
		"x   cache", "set XDG_CACHE_HOME",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
