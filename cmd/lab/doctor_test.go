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

// What doctor says of Vagrant, which is in nobody's way.
func TestDoctorVagrant(t *testing.T) {
	for _, tt := range []struct{ name, stub, want string }{
		{"none", "", "--  Vagrant                not installed, only needed for WHERE=vagrant: docs/instructors.md\n"},
		{"broken", "echo no such gem >&2; exit 1", "--  Vagrant                exit status 1: no such gem\n"},
		{"running", "[ $1 = --version ] && echo Vagrant 2.3.4 || printf '1,default,provider-name,libvirt\n1,default,state,running\n'",
			"ok  Vagrant                2.3.4\n  ok  Vagrant's VM           runs (libvirt): WHERE=vagrant checks there\n"},
		{"not made", "[ $1 = --version ] && echo Vagrant 2.3.4 || printf '1,default,provider-name,libvirt\n1,default,state,not_created\n'",
			"--  Vagrant's VM           not made yet (libvirt), only needed for WHERE=vagrant: vagrant up\n"},
		{"off", "[ $1 = --version ] && echo Vagrant 2.3.4 || printf '1,default,provider-name,virtualbox\n1,default,state,poweroff\n'",
			"--  Vagrant's VM           poweroff (virtualbox): vagrant up\n"},
		{"no provider", "[ $1 = --version ] && echo Vagrant 2.3.4 || { echo '1,,error-exit,Vagrant::Errors::NoDefaultProvider,None.'; exit 1; }",
			"--  Vagrant's VM           Vagrant finds no provider that works here"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bin := t.TempDir()
			if tt.stub != "" {
				writeFile(t, filepath.Join(bin, "vagrant"), "#!/bin/sh\n"+tt.stub+"\n", 0o755)
			}
			t.Setenv("PATH", bin)
			a, out := patient(t)
			a.root = t.TempDir()
			writeFile(t, filepath.Join(a.root, "Vagrantfile"), "", 0o644)
			e := &examination{a: a}
			e.vagrantState()
			if !strings.Contains(out.String(), tt.want) || e.bad > 0 {
				t.Errorf("%d in the way, and no %q in\n%s", e.bad, tt.want, out)
			}
		})
	}
}
