// SPDX-License-Identifier: MIT

package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPrepareRefuses(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dirs := t.TempDir()
	write(t, filepath.Join(dirs, "no-image/release"), "6.1.0\n")
	write(t, filepath.Join(dirs, "no-release/vmlinuz"), "")
	write(t, filepath.Join(dirs, "bad-release/vmlinuz"), "")
	write(t, filepath.Join(dirs, "bad-release/release"), "bookworm\n")
	tests := map[string]struct {
		spec string
		want []string // words of the message: what is wrong, and what to do
	}{
		"an unknown series":     {"6.6", []string{"6.6", "neither a known series nor a folder", "5.10, 6.1, 6.12, sid, host"}},
		"no such folder":        {dirs + "/nothing", []string{"nothing", "no such file", "a folder that exists"}},
		"a file":                {dirs + "/no-release/vmlinuz", []string{"not a folder"}},
		"no vmlinuz":            {dirs + "/no-image", []string{"no-image", "no file vmlinuz", "modules/"}},
		"no release":            {dirs + "/no-release", []string{"no file release", "uname -r"}},
		"a release that is not": {dirs + "/bad-release", []string{`"bookworm"`, "kernel version"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Prepare(t.Context(), tt.spec, nil)
			wantError(t, err, tt.want...)
		})
	}
}

func TestPrepareDir(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := filepath.Join(t.TempDir(), "class kernel")
	write(t, dir+"/vmlinuz", "image")
	write(t, dir+"/release", "6.1.0-56-cloud-amd64\n")
	p, err := Prepare(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Release != "6.1.0-56-cloud-amd64" || p.Series != "class kernel" || p.Image() != dir+"/vmlinuz" {
		t.Errorf("got %+v, image %s", p, p.Image())
	}
	write(t, dir+"/vmlinux", "the same")
	if got := p.Image(); got != dir+"/vmlinux" {
		t.Errorf("with vmlinux beside it, the image is %s", got)
	}
}

func TestHostKernel(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	arch := arches[0]
	root := t.TempDir()
	host := func(running string) (*Prepared, error) { return hostKernel(t.Context(), root, running, arch) }

	_, err := host("6.5.0")
	wantError(t, err, "6.5.0", "not in /boot", "leave KERNEL out")

	write(t, root+"/boot/vmlinuz-6.5.0", "image")
	_, err = host("6.5.0")
	wantError(t, err, "no headers", "linux-headers-6.5.0")

	write(t, root+"/lib/modules/6.5.0/build/Makefile", "")
	p, err := host("6.5.0")
	if err != nil {
		t.Fatal(err)
	}
	if p.Release != "6.5.0" || p.Series != "host" {
		t.Errorf("got %+v", p)
	}
	if got, err := os.ReadFile(p.Image()); string(got) != "image" {
		t.Errorf("the image is not the installed one: %q, %v", got, err)
	}

	// A machine that runs another kernel, as in a container: the newest that is complete.
	for _, r := range []string{"6.5.9", "6.5.10"} {
		write(t, root+"/boot/vmlinuz-"+r, r)
		write(t, root+"/lib/modules/"+r+"/build/Makefile", "")
	}
	write(t, root+"/lib/modules/6.7.0/modules.dep", "") // removed, but for this
	if p, err = host("5.4.0-container"); err != nil || p.Release != "6.5.10" {
		t.Errorf("got %+v, %v, want 6.5.10", p, err)
	}
}

func TestAtLeast(t *testing.T) {
	tests := []struct {
		release, min string
		want         bool
	}{
		{"6.1.0-56-cloud-amd64", "5.10", true},
		{"6.1.0-56-cloud-amd64", "6.1", true},
		{"6.1.0-56-cloud-amd64", "6.2", false},
		{"5.10.0-46-cloud-amd64", "5.4", true},
		{"5.4.0", "5.10", false},
		{"7.2.13+deb14-cloud-amd64", "6.12", true},
	}
	for _, tt := range tests {
		got, err := (&Prepared{Release: tt.release}).AtLeast(tt.min)
		if err != nil || got != tt.want {
			t.Errorf("%s at least %s: got %v, %v, want %v", tt.release, tt.min, got, err, tt.want)
		}
	}
	if _, err := (&Prepared{Release: "6.1.0"}).AtLeast("six"); err == nil {
		t.Error(`at least "six": no error`)
	}
}

func TestEndOfContextIsNoError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := explain(ctx, "do it", "/", errors.New("exit status 1"))
	var e *Error
	if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("got %v, want the context's end and not the environment's fault", err)
	}
}

// wantError fails unless err is an *Error with all the words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("got %v, want an *Error", err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, without %q", err, w)
		}
	}
}

func ExamplePrepare() {
	ctx := context.Background()
	p, err := Prepare(ctx, "6.1", func(line string) { println(line) })
	if err != nil {
		panic(err)
	}
	ko, err := p.BuildModule(ctx, "kmod/nlecho", nil)
	if err != nil {
		panic(err)
	}
	println("boot", p.Image(), "and load", ko)
}
