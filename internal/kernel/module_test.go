// SPDX-License-Identifier: MIT

package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// prepared fetches the made-up kernel of fetch_test.go.
func prepared(t *testing.T) *Prepared {
	t.Helper()
	packages := cloudKernel(t)
	fakeApt(t, packages, "")
	p, err := Prepare(t.Context(), "6.1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBuildModule(t *testing.T) {
	p := prepared(t)
	builds := func() int {
		text, _ := os.ReadFile(filepath.Join(p.Dir, "headers/usr/src/linux-headers-6.1.0-9-common/log"))
		return strings.Count(string(text), "\n")
	}
	// make's and the user's own settings must not reach kbuild.
	t.Setenv("KBUILD_EXTMOD", "/elsewhere")
	t.Setenv("ARCH", "mips")
	t.Setenv("MAKEFLAGS", "--no-such-flag")

	src := filepath.Join(t.TempDir(), "my labs", "hello")
	write(t, src+"/hello.c", "one")
	write(t, src+"/Makefile", "obj-m := hello.o\n")
	if err := os.Chmod(src, 0o555); err != nil {
		t.Fatal(err)
	}
	build := func() string {
		t.Helper()
		ko, err := p.BuildModule(t.Context(), src, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(ko)
		if err != nil || filepath.Base(ko) != "hello.ko" {
			t.Fatalf("%s: %v", ko, err)
		}
		return string(text)
	}
	if got := build(); got != "one" {
		t.Fatalf("got %q", got)
	}
	if entries, _ := os.ReadDir(src); len(entries) != 2 {
		t.Errorf("the build wrote into the sources: %v", entries)
	}
	if build(); builds() != 1 {
		t.Errorf("the same sources were built %d times", builds())
	}

	if err := os.Chmod(src, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, src+"/hello.o", "left by a build here")
	write(t, src+"/.hello.c.swp", "and this by an editor")
	if build(); builds() != 1 {
		t.Error("what is no source had the module built again")
	}
	write(t, src+"/hello.c", "two")
	if got := build(); got != "two" || builds() != 2 {
		t.Errorf("changed sources gave %q after %d builds", got, builds())
	}
	// The same files in a folder of another name are another module, which these do not make.
	other := filepath.Join(filepath.Dir(src), "other")
	if err := os.Rename(src, other); err != nil {
		t.Fatal(err)
	}
	_, err := p.BuildModule(t.Context(), other, nil)
	wantError(t, err, "did not make other.ko")
}

func TestBuildModuleFails(t *testing.T) {
	p := prepared(t)
	src := filepath.Join(t.TempDir(), "hello")
	write(t, src+"/hello.c", "BAD")
	_, err := p.BuildModule(t.Context(), src, nil)
	wantError(t, err, "build the module hello", testRelease, "1:BAD", src+": error")
	if _, err := p.CheckModule(t.Context(), src, nil); err == nil {
		t.Error("CheckModule passed it")
	}

	write(t, src+"/hello.c", "good")
	if out, err := p.CheckModule(t.Context(), src, nil, "W=1"); err != nil || strings.Contains(out, "error") {
		t.Errorf("after the fault is gone: %v, %s", err, out)
	}
	if err := os.Rename(src+"/hello.c", src+"/goodbye.c"); err != nil {
		t.Fatal(err)
	}
	_, err = p.BuildModule(t.Context(), src, nil)
	wantError(t, err, "did not make hello.ko")

	_, err = p.BuildModule(t.Context(), src+"/nothing", nil)
	wantError(t, err, "nothing", "no such file")
}

// A folder for an offline class brings its modules built.
func TestShippedModule(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := filepath.Join(t.TempDir(), "usb stick")
	write(t, dir+"/vmlinuz", "")
	write(t, dir+"/release", testRelease)
	p, err := Prepare(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(t.TempDir(), "hello")
	_, err = p.BuildModule(t.Context(), src, nil)
	wantError(t, err, "neither headers", "hello.ko", "leave KERNEL out")

	write(t, dir+"/hello.ko", string(makeModule(t, "vermagic="+testRelease+" SMP mod_unload ")))
	if ko, err := p.BuildModule(t.Context(), src, nil); err != nil || ko != dir+"/hello.ko" {
		t.Errorf("got %s, %v", ko, err)
	}
	// kbuild could not use headers at such a path; the module still serves.
	write(t, dir+"/build/Makefile", "")
	if ko, err := p.BuildModule(t.Context(), src, nil); err != nil || ko != dir+"/hello.ko" {
		t.Errorf("with headers in a path with a space: got %s, %v", ko, err)
	}
	write(t, dir+"/hello.ko", string(makeModule(t, "vermagic=6.1.0-8-cloud-amd64 SMP mod_unload ")))
	_, err = p.BuildModule(t.Context(), src, nil)
	wantError(t, err, "built for kernel 6.1.0-8-cloud-amd64, not "+testRelease)
}

func TestCompilerFor(t *testing.T) {
	for major, want := range map[int]struct {
		suite string
		gcc   int
	}{10: {"bookworm", 12}, 12: {"bookworm", 12}, 14: {"trixie", 14}, 16: {"sid", 16}} {
		if suite, gcc := compilerFor(major); suite != want.suite || gcc != want.gcc {
			t.Errorf("gcc %d: got %s's %d, want %s's %d", major, suite, gcc, want.suite, want.gcc)
		}
	}
}

func TestOlderThan(t *testing.T) {
	gcc := filepath.Join(t.TempDir(), "gcc")
	write(t, gcc, "#!/bin/sh\n[ \"$1\" = -dumpversion ] && echo 12.2.0\n")
	c := compiler{path: gcc}
	for major, want := range map[int]bool{0: false, 11: false, 12: false, 13: true} {
		if got := c.olderThan(t.Context(), major); got != want {
			t.Errorf("gcc 12 older than %d: %v", major, got)
		}
	}
	if (compiler{path: gcc + "-none"}).olderThan(t.Context(), 99) {
		t.Error("a compiler that says nothing passes for old")
	}
}

func TestSortOut(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"good", "bad", "worse", "silent"} {
		write(t, filepath.Join(dir, name+".c"), "")
	}
	got := sortOut(dir, dir+`/good.c:1:1: warning: not so good
`+dir+`/bad.c:14:16: error: too many arguments
make[2]: *** [/usr/src/linux/scripts/Makefile.build:250: `+dir+`/bad.o] Error 1
worse.c:2:2: error: worse
make[3]: *** [scripts/Makefile.build:250: worse.o] Error 1
make[3]: *** [scripts/Makefile.build:250: silent.o] Error 1
make[1]: *** [Makefile:1: `+dir+`] Error 2
`)
	want := map[string]string{
		"good":   "",
		"bad":    dir + "/bad.c:14:16: error: too many arguments\n",
		"worse":  "worse.c:2:2: error: worse\n",
		"silent": "it does not compile",
	}
	if len(got) != len(want) {
		t.Errorf("got %q", got)
	}
	for name, said := range want {
		if got[name] != said {
			t.Errorf("%s: got %q, want %q", name, got[name], said)
		}
	}
}
