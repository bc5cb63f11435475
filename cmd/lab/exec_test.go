// SPDX-License-Identifier: MIT

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// goTest runs the tests of a package in the VM, as its author would, and returns
// the exit code of the go command and its output. execArgs are lab exec's.
func (d *desk) goTest(t *testing.T, dir, execArgs string, env []string, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-exec", "'" + d.root + "/bin/lab' exec " + execArgs}, args...)...)
	cmd.Dir, cmd.Env = dir, append(append(d.env, "PWD="+dir), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("go test %q: %v\n%s", args, err, &out)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// results runs `go test -json` and returns how each test ended, with what it said.
func (d *desk) results(t *testing.T, dir, execArgs string, env []string, args ...string) (results, output map[string]string, all string) {
	t.Helper()
	_, all = d.goTest(t, dir, execArgs, env, append([]string{"-json"}, args...)...)
	results, output = map[string]string{}, map[string]string{}
	for s := bufio.NewScanner(strings.NewReader(all)); s.Scan(); {
		var e struct{ Action, Package, Test, Output string }
		if json.Unmarshal(s.Bytes(), &e) != nil || e.Test == "" {
			continue
		}
		switch e.Action {
		case "output":
			output[e.Test] += e.Output
		case "pass", "fail", "skip":
			results[e.Test] = e.Action
		}
	}
	return results, output, all
}

// somebodysPackage is a package that knows nothing of this project.
var somebodysPackage = map[string]string{
	"go.mod":               "module example.com/somebody\n\ngo 1.21\n",
	"pkg/pkg.go":           "package pkg\n\n// Double doubles.\nfunc Double(n int) int {\n\tif n == 0 {\n\t\treturn 0\n\t}\n\treturn 2 * n\n}\n",
	"pkg/testdata/a b.txt": "hello from testdata\n",
	"pkg/pkg_test.go": `package pkg

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestPasses(t *testing.T) {
	if Double(21) != 42 {
		t.Error("wrong")
	}
}

func TestFails(t *testing.T) {
	if os.Getenv("FAIL") != "" {
		t.Error("as the environment says: " + os.Getenv("FAIL"))
	}
}

func TestSkips(t *testing.T) { t.Skip("never here") }

func TestTestdata(t *testing.T) {
	b, err := os.ReadFile("testdata/a b.txt")
	if err != nil || string(b) != "hello from testdata\n" {
		t.Error(string(b), err)
	}
	if err := os.WriteFile("written", nil, 0o644); err != nil {
		t.Error(err)
	}
}

func TestFolder(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil || dir != os.Getenv("WANT_DIR") {
		t.Errorf("the working folder is %s, %v", dir, err)
	}
	if !filepath.IsAbs(os.Args[0]) {
		t.Error(os.Args)
	}
}

func TestRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Error("not root")
	}
	host, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || strings.TrimSpace(string(host)) == os.Getenv("HOST_BOOT") {
		t.Error("this is the host", err)
	}
}

func TestLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	ifs, err := net.Interfaces()
	if err != nil || len(ifs) < 1 {
		t.Error(ifs, err)
	}
}

func TestShell(t *testing.T) {
	out, err := exec.Command("sh", "-c", "ip -o link show lo | cut -c1-6; echo $HOME").CombinedOutput()
	if err != nil || string(out) != "1: lo:\n/tmp\n" {
		t.Errorf("%v: %q", err, out)
	}
}

func TestDies(t *testing.T) {
	switch os.Getenv("DIE") {
	case "exit":
		os.Exit(3)
	case "panic":
		panic("at the disco")
	case "kernel":
		t.Fatal(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	}
}

func TestModule(t *testing.T) {
	name := os.Getenv("WANT_MODULE")
	if name == "" {
		t.Skip()
	}
	if _, err := os.Stat("/sys/module/" + name); err != nil {
		t.Error(err)
	}
	if p := os.Getenv("WANT_PARAM"); p != "" {
		k, v, _ := strings.Cut(p, "=")
		if b, err := os.ReadFile("/sys/module/" + name + "/parameters/" + k); err != nil || strings.TrimSpace(string(b)) != v {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
	if l := os.Getenv("WANT_LINK"); l != "" {
		if _, err := os.Stat("/sys/class/net/" + l); err != nil {
			t.Error(err)
		}
	}
	for _, e := range os.Environ() {
		if path, ok := strings.CutPrefix(e, "NETLINK_LABS_MODULE_"+name+"="); ok {
			if st, err := os.Stat(path); err != nil || st.Size() == 0 {
				t.Error(path, err)
			}
		}
	}
}

func BenchmarkDouble(b *testing.B) {
	for i := 0; i < b.N; i++ {
		Double(i)
	}
}
`,
	"cgo/cgo.go": "package cgo\n\n// int twice(int n) { return 2 * n; }\nimport \"C\"\n\n// Twice is in C.\nfunc Twice(n int) int { return int(C.twice(C.int(n))) }\n",
	"cgo/cgo_test.go": `package cgo

import (
	"os/user"
	"testing"
)

func TestTwice(t *testing.T) {
	done := make(chan int)
	go func() { done <- Twice(21) }()
	if n := <-done; n != 42 {
		t.Error(n)
	}
	if u, err := user.Current(); err != nil || u.Username != "root" { // by the C library
		t.Error(u, err)
	}
}
`,
}

// somebody makes the package at the desk, in a folder with a blank in its name.
func (d *desk) somebody(t *testing.T) (dir string) {
	t.Helper()
	for name, text := range somebodysPackage {
		d.write(t, "some body/"+name, text)
	}
	return filepath.Join(d.dir, "some body")
}

func hostBoot(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	return "HOST_BOOT=" + strings.TrimSpace(string(b))
}

func TestExec(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	dir := d.somebody(t)
	env := []string{hostBoot(t), "WANT_DIR=" + dir + "/pkg", "CGO_ENABLED=0"}
	want := map[string]string{"TestPasses": "pass", "TestFails": "pass", "TestSkips": "skip", "TestTestdata": "pass", "TestFolder": "pass",
		"TestRoot": "pass", "TestLoopback": "pass", "TestShell": "pass", "TestDies": "pass", "TestModule": "skip"}
	got, _, all := d.results(t, dir, "", env, "./pkg")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s\n%s", diff, all)
	}
	if _, err := os.Stat(dir + "/pkg/written"); err == nil {
		t.Error("a test in the VM has written to the host")
	}
	d.clean(t)
}

func TestExecFlags(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	dir := d.somebody(t)
	profile := filepath.Join(d.dir, "cover profile")
	code, out := d.goTest(t, dir, "", []string{"CGO_ENABLED=0"}, "-v", "-run", "Passes|Skips", "-bench", "Double", "-benchtime", "10x",
		"-coverprofile", profile, "-memprofile", "mem.out", "-outputdir", d.dir, "./pkg")
	for _, want := range []string{"--- PASS: TestPasses", "--- SKIP: TestSkips", "BenchmarkDouble", " ns/op", "coverage: 100.0% of statements", "\nok "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the output", want)
		}
	}
	if code != 0 || strings.Contains(out, "TestTestdata") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if b, err := os.ReadFile(profile); err != nil || !strings.HasPrefix(string(b), "mode: set\nexample.com/somebody/pkg/pkg.go:") {
		t.Errorf("the coverage profile: %v\n%s", err, b)
	}
	if st, err := os.Stat(filepath.Join(d.dir, "mem.out")); err != nil || st.Size() == 0 {
		t.Errorf("the memory profile: %v", err)
	}
	d.clean(t)
}

// TestExecEnds has tests that end otherwise than well. The go command fails in
// each case, with 1, and shows what the tool says.
func TestExecEnds(t *testing.T) {
	for _, tt := range []struct{ name, env, want string }{
		{"a failure", "FAIL=too early", "as the environment says: too early"},
		{"os.Exit", "DIE=exit", "FAIL\texample.com/somebody/pkg"},
		{"panic", "DIE=panic", "panic: at the disco"},
		{"the kernel", "DIE=kernel", "lab: kernel panic: Kernel panic - not syncing: sysrq triggered crash (kernel "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			code, out := d.goTest(t, d.somebody(t), "", []string{"CGO_ENABLED=0", tt.env}, "-run", "Fails|Dies", "./pkg")
			if code != 1 || !strings.Contains(out, tt.want) || !strings.Contains(out, "FAIL") {
				t.Errorf("exit code %d, want 1 and %q:\n%s", code, tt.want, out)
			}
			d.clean(t)
		})
	}
	t.Run("no such module", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		code, out := d.goTest(t, d.somebody(t), "-module nonesuch", []string{"CGO_ENABLED=0"}, "./pkg")
		if code != 1 || !strings.Contains(out, "nonesuch") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	})
	t.Run("time-out", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t)
		d.write(t, "slow/go.mod", "module example.com/slow\n\ngo 1.21\n")
		d.write(t, "slow/slow_test.go", "package slow\n\nimport \"testing\"\n\nfunc TestSlow(t *testing.T) { select {} }\n\nfunc init() { go func() { for c := make(chan int); ; { <-c } }() }\n")
		code, out := d.goTest(t, filepath.Join(d.dir, "slow"), "", []string{"CGO_ENABLED=0"}, "-timeout", "2s", ".")
		if code != 1 || !strings.Contains(out, "panic: test timed out after 2s") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		d.clean(t)
	})
}

// TestExecModules loads modules of the kernel's own, one with what it depends on,
// and the project's.
func TestExecModules(t *testing.T) {
	for _, tt := range []struct{ args, name, want string }{
		{"-module dummy,numdummies=2", "dummy", "WANT_LINK=dummy1"},
		{"--module=nlmon", "nlmon", ""},
		{"-module veth -module nlecho,replies=4,delay_ms=0", "nlecho", "WANT_PARAM=replies=4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			got, _, all := d.results(t, d.somebody(t), tt.args, []string{"CGO_ENABLED=0", "WANT_MODULE=" + tt.name, tt.want}, "-run", "Module", "./pkg")
			if diff := cmp.Diff(map[string]string{"TestModule": "pass"}, got); diff != "" {
				t.Errorf("results (-want +got):\n%s\n%s", diff, all)
			}
		})
	}
}

// TestExecDynamic runs a test that is linked with the C library, and with the race
// detector's.
func TestExecDynamic(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Fatalf("%v: run make setup", err)
	}
	d := newDesk(t)
	got, _, all := d.results(t, d.somebody(t), "", []string{"CGO_ENABLED=1"}, "-race", "./cgo")
	if diff := cmp.Diff(map[string]string{"TestTwice": "pass"}, got); diff != "" {
		t.Errorf("results (-want +got):\n%s\n%s", diff, all)
	}
	d.clean(t)
}

// TestExecDirectly uses the tool without the go command.
func TestExecDirectly(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v: run make setup", err)
	}
	sh := func(script string) []string { return []string{"exec", busybox, "sh", "-c", script} }
	d.write(t, "a file", "content")
	d.lab(t, nil, sh(`cat "a file"; pwd; exit 7`)...).want(t, 7, "content"+d.dir+"\n", "")
	d.lab(t, nil, sh(`kill -TERM $$`)...).want(t, 1, "", "lab exec: the program was ended by SIGTERM")
	d.lab(t, []string{"OUT=" + d.dir + "/out"}, sh(`echo kept > $NETLINK_LABS_OUT/file`)...).want(t, 0, "", "")
	if b, err := os.ReadFile(filepath.Join(d.dir, "out/file")); string(b) != "kept\n" {
		t.Errorf("the program left %q, %v", b, err)
	}
	d.lab(t, nil, "exec").want(t, 2, "", "exec wants a program to run: go test -exec")
	d.lab(t, nil, "exec", "-what", "x").want(t, 2, "", "exec knows the flags -module and -boot, not -what")
	d.lab(t, nil, "exec", "-module").want(t, 2, "", "-module wants a value")
	d.lab(t, nil, "exec", "./nothing").want(t, 2, "", "nothing: no such file or directory")
	d.lab(t, nil, "exec", "./a file").want(t, 2, "", "is not an ELF executable")
	big := filepath.Join(d.dir, "big")
	f, err := os.Create(big)
	if err == nil {
		err = errors.Join(f.Truncate(65<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	d.lab(t, nil, "exec", busybox, "true").want(t, 2, "", fmt.Sprintf("the folder %s holds more than 64 MiB", d.dir))
	os.Remove(big)
	d.clean(t)
}

// TestExecMdlayherNetlink runs the tests of a package that the labs use, from the
// module cache, and compares the results with what is known of them: as root on a
// kernel with the module tun (CONFIG_TUN=m) all pass but two, which are for
// ordinary users. That is what the package's own CI sees of `sudo ./netlink.test`
// (.github/workflows/linux-integration-test.yml), and it holds on all of our
// kernels: choose one by KERNEL. Its folder internal/integration is a module of
// its own, and not in the module cache.
func TestExecMdlayherNetlink(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	const pkgs = "github.com/mdlayher/netlink/..."
	env := []string{"CGO_ENABLED=0", "GOWORK=off", "KERNEL=" + os.Getenv("KERNEL")}
	// Two of its tests give the kernel 10 ms for a whole dump, which a busy machine has not
	// always, and panic with all the others then.
	const hasty = "TestIntegrationConnConcurrentSerializeReceive"
	got, output, all := d.results(t, d.root, "-module tun", env, "-timeout", "30m", "-skip", "^"+hasty, pkgs)
	want := map[string]string{}
	cmd := exec.Command("go", "test", "-list", ".", pkgs)
	cmd.Dir, cmd.Env = d.root, append(append(d.env, "PWD="+d.root), env...)
	list, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(list)) {
		if !strings.HasPrefix(name, hasty) && (strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Example")) {
			want[name] = "pass"
		}
	}
	if len(want) < 80 {
		t.Errorf("the package has %d tests and examples, version 1.11.2 has 84 that are run", len(want))
	}
	for name := range got {
		if _, ok := want[name]; !ok && strings.Contains(name, "/") {
			want[name] = "pass" // a subtest
		}
	}
	for name, why := range map[string]string{
		"TestIntegrationConnNetNSUnprivileged":                  "test must be run as non-root user",
		"TestIntegrationConnSetBuffersSyscallConn/unprivileged": "test must be run as non-root user",
	} {
		want[name] = "skip"
		if !strings.Contains(output[name], why) {
			t.Errorf("%s is not skipped because %s, but:\n%s", name, why, output[name])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		for name, how := range got {
			if how != want[name] {
				t.Errorf("%s:\n%s", name, output[name])
			}
		}
		t.Errorf("results (-want +got):\n%s", diff)
		if len(got) == 0 {
			t.Error(all)
		}
	}
	d.clean(t)
}

// TestExecOneOutput has both outputs in one pipe, as under go test: what is written
// to the two keeps its order, and all of it comes out, though the program leaves
// somebody behind who holds the pipe open.
func TestExecOneOutput(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v: run make setup", err)
	}
	const lines = 2000
	script := fmt.Sprintf(`sleep 1000 & i=0; while [ $i -lt %d ]; do printf '%%s-' $i; printf '%%s\n' $i >&2; i=$((i+1)); done`, lines)
	cmd := d.command(t.Context(), "exec", busybox, "sh", "-c", script)
	cmd.Env = append(cmd.Env, "ACCEL=tcg") // nor says it anything about KVM
	got, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%.500s", err, got)
	}
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "%d-%d\n", i, i)
	}
	// The tool may have had to wait for a free core, and says so before.
	_, words, _ := strings.Cut(string(got), "VMs are running\n")
	if words == "" {
		words = string(got)
	}
	if diff := cmp.Diff(want.String(), words); diff != "" {
		t.Errorf("output (-want +got):\n%.1000s", diff)
	}
	d.clean(t)
}
