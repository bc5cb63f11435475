// SPDX-License-Identifier: MIT

package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const testRelease = "6.1.0-9-cloud-amd64"

// These tests run Prepare against a make-believe apt, and packages made with the real dpkg-deb. The real mirrors are
// for the matrix of all kernels to try.

// fakeApt puts an apt first in the PATH that serves packages with the given files: by package name, then path. Its
// apt-get first runs the shell commands in hook, with the operation as $1.
func fakeApt(t *testing.T, packages map[string]map[string]string, hook string) {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), "cache"))
	repo, bin := t.TempDir(), t.TempDir()
	var names []string
	for name, files := range packages {
		tree := t.TempDir()
		write(t, tree+"/DEBIAN/control", "Package: "+name+"\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: test\n")
		for file, text := range files {
			write(t, filepath.Join(tree, file), text)
		}
		if out, err := exec.Command("dpkg-deb", "-Znone", "-b", tree, filepath.Join(repo, name+"_1_all.deb")).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb: %v: %s", err, out)
		}
		names = append(names, name)
	}
	write(t, bin+"/apt-cache", "#!/bin/sh\n[ $# -gt 3 ] || exit 9\nprintf '%s\\n  Depends: x\\n' "+strings.Join(names, " ")+" linux-image-6.1.0-9-cloud-amd64-unsigned dpkg\n")
	write(t, bin+"/apt-get", fmt.Sprintf("#!/bin/sh\nshift 3\n%s\n[ $1 = update ] || { shift; for p; do cp '%s'/${p}_1_all.deb . || exit 100; done; }\n", hook, repo))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	keyring = filepath.Join(bin, "keys")
	t.Cleanup(func() { keyring = Keyring })
	write(t, keyring, "")
}

// cloudKernel is what the packages of a kernel hold, in so far as it matters. Its build system copies NAME.c to NAME.ko,
// through a program of the headers' own.
func cloudKernel(t *testing.T) map[string]map[string]string {
	return map[string]map[string]string{
		"linux-image-" + testRelease: {
			"boot/vmlinuz-" + testRelease:                         string(bzImage([]byte("????????"), 8)),
			"lib/modules/" + testRelease + "/kernel/net/vsock.ko": string(makeModule(t, "depends=")),
			"usr/share/doc/changelog":                             "long",
		},
		"linux-headers-" + testRelease: {
			"usr/src/linux-headers-" + testRelease + "/Makefile":       "include /usr/src/linux-headers-6.1.0-9-common/Makefile\n",
			"usr/src/linux-headers-" + testRelease + "/.config":        "CONFIG_GCC_VERSION=10200\n",
			"usr/src/linux-headers-" + testRelease + "/Module.symvers": "0x1\tprintk\n",
			"usr/src/linux-headers-" + testRelease + "/vmlinux":        "types only",
		},
		"linux-headers-6.1.0-9-common": {
			"usr/src/linux-headers-6.1.0-9-common/Makefile": `
here := $(dir $(lastword $(MAKEFILE_LIST)))
modules:
	@echo built >> $(here)log
	@test -z "$(KBUILD_EXTMOD)$(ARCH)" || { echo environment; exit 1; }
	@if grep -n BAD $(M)/*.c; then echo "$(M): error"; exit 1; fi
	@for c in $(M)/*.c; do cp $$c $${c%.c}.ko || exit 1; done
`,
			"usr/src/linux-headers-6.1.0-9-common/arch/x86/include/asm/a.h":  "mine",
			"usr/src/linux-headers-6.1.0-9-common/arch/mips/include/asm/a.h": "not mine",
		},
		"linux-kbuild-6.1": {
			"usr/lib/linux-kbuild-6.1/scripts/basic/fixdep":            string(makeELF(t, nil)),
			"usr/lib/linux-kbuild-6.1/scripts/mod/modpost":             string(makeELF(t, nil)),
			"usr/lib/linux-kbuild-6.1/scripts/mod/modpost.real-lsb-64": "#!/bin/sh\necho modpost itself: \"$@\"\n",
			"usr/lib/linux-kbuild-6.1/scripts/a.sh":                    "#!/bin/sh\n",
		},
	}
}

func TestFetchKernel(t *testing.T) {
	fakeApt(t, cloudKernel(t), "")
	var lines []string
	progress := func(s string) { lines = append(lines, s) }
	p, err := Prepare(t.Context(), "6.1", progress)
	if err != nil {
		t.Fatal(err)
	}
	if p.Release != testRelease || p.Series != "6.1" || p.Image() != filepath.Join(p.Dir, "vmlinuz") {
		t.Errorf("got %+v, image %s", p, p.Image())
	}
	if len(lines) == 0 || !strings.Contains(lines[0], "bookworm-security") {
		t.Errorf("progress: %q, want the package list of the security suite first", lines)
	}
	for file, want := range map[string]bool{
		"modules/kernel/net/vsock.ko": true,
		"build/Makefile":              true,
		"build/vmlinux":               false, // so that no type information is made for modules
		"vmlinux":                     false, // the image's payload is of no known kind
		"headers/usr/share":           false,
		"headers/lib":                 false,
		"fetch":                       false,
		"headers/usr/src/linux-headers-6.1.0-9-common/arch/x86/include/asm/a.h": true,
		"headers/usr/src/linux-headers-6.1.0-9-common/arch/mips":                false,
	} {
		if _, err := os.Stat(filepath.Join(p.Dir, file)); (err == nil) != want {
			t.Errorf("%s: %v", file, err)
		}
	}
	if m, err := p.Modules("vsock"); err != nil || len(m) != 1 {
		t.Errorf("modules: %v, %v", m, err)
	}

	// A second call asks nobody, and the folder can be moved and used from elsewhere.
	t.Setenv("PATH", "")
	lines = nil
	if again, err := Prepare(t.Context(), "6.1", progress); err != nil || again.Dir != p.Dir || len(lines) > 0 {
		t.Errorf("the second time: %+v, %v, progress %q", again, err, lines)
	}
}

func TestFetchFailures(t *testing.T) {
	tests := map[string]struct {
		packages map[string]map[string]string
		hook     string
		want     []string
	}{
		"no network": {nil,
			"echo \"W: Failed to fetch http://deb.debian.org/debian/InRelease  Temporary failure resolving 'deb.debian.org'\"; exit 0",
			[]string{"Debian's kernel 6.1", "Temporary failure resolving", "look at the network"}},
		"the mirror has it no more": {cloudKernel(t),
			"[ $1 = update ] || { echo 'E: Failed to fetch http://x/y.deb  404  Not Found'; exit 100; }",
			[]string{"404  Not Found", "try again"}},
		"a full disk": {cloudKernel(t),
			"[ $1 = update ] || { echo 'E: Write error - write (28: No space left on device)'; exit 100; }",
			[]string{"kernel 6.1", "no space left on device", "300 MB", "XDG_CACHE_HOME"}},
		"a package cut short": {cloudKernel(t),
			"[ $1 = update ] || { shift; for p; do head -c 700 /dev/zero > ${p}_1_all.deb; done; exit 0; }",
			[]string{"kernel 6.1", "dpkg-deb"}},
		"not what a kernel looks like": {map[string]map[string]string{"linux-image-6.1.0-9-cloud-amd64": {"boot/other": "x"}}, "",
			[]string{"there is no", "lib/modules"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			fakeApt(t, tt.packages, tt.hook)
			_, err := Prepare(t.Context(), "6.1", nil)
			wantError(t, err, tt.want...)
			emptyCache(t)
		})
	}
}

func TestFetchNeedsKeys(t *testing.T) {
	fakeApt(t, nil, "")
	keyring = filepath.Join(t.TempDir(), "none")
	_, err := Prepare(t.Context(), "6.1", nil)
	wantError(t, err, "keys are missing", "apt-get install debian-archive-keyring")
}

func TestFetchWithoutApt(t *testing.T) {
	fakeApt(t, nil, "")
	t.Setenv("PATH", t.TempDir())
	_, err := Prepare(t.Context(), "6.1", nil)
	wantError(t, err, "apt-get", "no such program", "KERNEL")
}

func TestFetchInterrupted(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// apt-get and what it starts have the other end open as long as they live.
	fakeApt(t, cloudKernel(t), "exec 3> '"+fifo+"'; echo >&3; sleep 1000 & wait")
	ctx, cancel := context.WithCancel(t.Context())
	lives := make(chan *os.File)
	go func() {
		f, err := os.Open(fifo) // until apt-get runs
		if err == nil {
			_, err = f.Read(make([]byte, 1))
		}
		if err != nil {
			t.Error(err)
		}
		cancel()
		lives <- f
	}()
	_, err := Prepare(ctx, "6.1", nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	emptyCache(t)
	f := <-lives
	defer f.Close()
	if err := f.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("apt-get or its child is still there: %d, %v", n, err)
	}
}

// emptyCache fails if the failure left anything among the kernels.
func emptyCache(t *testing.T) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "netlink-labs/kernels/*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in the cache: %q (%v)", left, err)
	}
}

func TestRelocate(t *testing.T) {
	got, err := relocate([]byte("KBUILD_OUTPUT=/usr/src/linux-headers-7-cloud\ninclude /usr/src/linux-headers-7-common/Makefile\n"))
	const want = "KBUILD_OUTPUT := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))\n" +
		"include $(dir $(lastword $(MAKEFILE_LIST)))../linux-headers-7-common/Makefile\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if got, err := relocate([]byte("X = /usr/src/other\n")); err == nil {
		t.Errorf("an unknown absolute path gave %q, want an error", got)
	}
}

func TestWrapPrograms(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b")
	program := string(makeELF(t, nil))
	for _, name := range []string{"tool", "modpost", "objtool", "libc.so.6"} {
		write(t, filepath.Join(dir, name), program)
	}
	const itself = "#!/bin/sh\necho \"${0##*/}\" itself: \"$@\"\n"
	write(t, dir+"/modpost.real-lsb-64", itself)
	write(t, dir+"/modpost.real-msb-64", itself)
	write(t, dir+"/objtool.real-x86", itself)
	write(t, dir+"/script", itself)
	if err := wrapPrograms(dir, arches[0]); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/tool.elf", itself) // the made-up program does not run
	root := filepath.Join(t.TempDir(), "r t")
	write(t, root+"/ld.so", "#!/bin/sh\nshift 4\nexec \"$@\"\n")
	for name, want := range map[string]string{
		"tool":    "tool.elf itself: a  b\n",
		"modpost": "modpost.real-lsb-64 itself: a  b\n",
		"objtool": "objtool.real-x86 itself: a  b\n",
		"script":  "script itself: a  b\n",
	} {
		for _, env := range [][]string{{}, {rootVariable + "=" + root}} {
			cmd := exec.Command(filepath.Join(dir, name), "a  b")
			cmd.Env = env
			if got, err := cmd.CombinedOutput(); err != nil || string(got) != want {
				t.Errorf("%v %s: got %q, %v, want %q", env, name, got, err, want)
			}
		}
	}
	if got, err := os.ReadFile(dir + "/libc.so.6"); err != nil || string(got) != program {
		t.Errorf("a library was wrapped: %v", err)
	}
}

func TestUntar(t *testing.T) {
	archive := func(headers ...tar.Header) *bytes.Buffer {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				w.Write(make([]byte, h.Size))
			}
		}
		w.Close()
		return &b
	}
	all := func(string) bool { return true }
	dir := t.TempDir()
	err := untar(archive(
		tar.Header{Name: "./", Typeflag: tar.TypeDir},
		tar.Header{Name: "./a/file", Typeflag: tar.TypeReg, Size: 3, Mode: 0o755},
		tar.Header{Name: "./a/skipped", Typeflag: tar.TypeReg, Size: 700},
		tar.Header{Name: "./a/link", Typeflag: tar.TypeSymlink, Linkname: "file"},
		tar.Header{Name: "./b/hard", Typeflag: tar.TypeLink, Linkname: "./a/file"},
	), dir, func(name string) bool { return name != "a/skipped" })
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/file", "a/link", "b/hard"} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Size() != 3 || fi.Mode() != 0o755 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
	if _, err := os.Stat(dir + "/a/skipped"); err == nil {
		t.Error("an unwanted file was unpacked")
	}
	for _, h := range []tar.Header{
		{Name: "../out", Typeflag: tar.TypeReg},
		{Name: "/out", Typeflag: tar.TypeReg},
		{Name: "in", Typeflag: tar.TypeLink, Linkname: "../../out"},
		{Name: "null", Typeflag: tar.TypeChar},
	} {
		if err := untar(archive(h), t.TempDir(), all); err == nil {
			t.Errorf("%+v was unpacked", h)
		}
	}
}
