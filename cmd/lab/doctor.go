// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/kernel"
	"netlinklabs/internal/vm"
)

// What a machine must have free, in bytes. A kernel takes 300 MB, a compiler for
// its modules 250 MB, QEMU up to 300 MB.
const (
	roomToFetch = 700 << 20
	roomToWork  = 100 << 20
	memoryForVM = 400 << 20
)

// patience is how long doctor waits for what may never answer.
const patience = 5 * time.Second

// examination is a run of doctor.
type examination struct {
	a   *app
	bad int
}

// The states of what was examined: good, worth knowing, in the way of the labs.
const (
	good = "ok"
	note = "--"
	bad  = "x"
)

func (e *examination) say(state, what, format string, args ...any) {
	if state == bad {
		e.bad++
	}
	e.a.progress.clear()
	fmt.Fprintf(e.a.out, "  %-3s %-22s %s\n", state, what, fmt.Sprintf(format, args...))
}

// doctor tells what this machine has and lacks, a line each, with the fix. It
// installs and fetches nothing.
func (a *app) doctor(args []string) error {
	if len(args) > 0 {
		return usagef("doctor takes no arguments")
	}
	e := &examination{a: a}
	spec := os.Getenv("KERNEL")
	e.system()
	e.golang()
	e.qemu()
	e.kvm()
	e.kernel(spec)
	e.folders(spec)
	e.memory()
	if err := e.tools(); err != nil {
		return err
	}
	e.vagrantState()
	if a.ctx.Err() != nil {
		return a.ctx.Err()
	}
	if e.bad > 0 {
		return fmt.Errorf("labs cannot run yet: see the lines with %s. make setup installs what can be installed", bad)
	}
	fmt.Fprintln(a.out, "\nlabs can run here")
	return nil
}

func (e *examination) system() {
	name := "an unknown system"
	if f, err := os.Open("/etc/os-release"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if v, ok := strings.CutPrefix(s.Text(), "PRETTY_NAME="); ok {
				name = strings.Trim(v, `"'`)
			}
		}
	}
	if _, err := kernel.HostArch(); err != nil {
		e.say(bad, "system", "%s, %v", name, err)
		return
	}
	e.say(good, "system", "%s, %s, %d cores", name, runtime.GOARCH, runtime.NumCPU())
}

// goCommand runs the go command for a moment.
func (e *examination) goCommand(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(e.a.ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = e.a.root, goEnv()
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil && text != "" {
		err = errors.New(text)
	}
	return text, err
}

func (e *examination) golang() {
	version, err := e.goCommand("env", "GOVERSION")
	if err != nil {
		e.say(bad, "Go", "%v: get Go 1.21 or newer from https://go.dev/dl", err)
		return
	}
	e.say(good, "Go", "%s", version)
}

func (e *examination) qemu() {
	arch, err := kernel.HostArch()
	if err != nil {
		return
	}
	path, err := exec.LookPath(arch.QEMU)
	if err != nil {
		e.say(bad, "QEMU", "%s is not installed: make setup", arch.QEMU)
		return
	}
	ctx, cancel := context.WithTimeout(e.a.ctx, patience)
	defer cancel()
	major, minor, err := vm.Version(ctx, path)
	switch least := vm.MinQEMU; {
	case err != nil:
		e.say(bad, "QEMU", "%v", err)
	case major < least[0] || major == least[0] && minor < least[1]:
		e.say(bad, "QEMU", "%s is version %d.%d, %d.%d or newer is needed", path, major, minor, least[0], least[1])
	default:
		e.say(good, "QEMU", "%d.%d, %s", major, minor, path)
	}
}

// kvm is never in the way: emulation serves, and takes some seconds more.
func (e *examination) kvm() {
	const slower = "; labs run by emulation (tcg), which takes some seconds more"
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		e.say(note, "KVM", "there is no /dev/kvm%s", slower)
		return
	case errors.Is(err, os.ErrPermission):
		e.say(note, "KVM", "/dev/kvm is not yours to open%s. `sudo adduser $USER kvm`, then log in again", slower)
		return
	case err != nil:
		e.say(note, "KVM", "%v%s", err, slower)
		return
	}
	f.Close()
	switch accel, reason, known := vm.Known(e.a.cache); {
	case !known:
		e.say(good, "KVM", "/dev/kvm can be opened; the first check shows whether it boots a VM")
	case accel == "kvm":
		e.say(good, "KVM", "/dev/kvm boots VMs")
	default:
		e.say(note, "KVM", "%s%s", reason, slower)
	}
}

func (e *examination) kernel(spec string) {
	if kernel.NeedsFetch(spec) {
		if err := e.network(); err != nil {
			e.say(bad, "kernel", "not fetched yet, and %v: make setup once where there is a network, or KERNEL=DIR for the folder of a prepared kernel", err)
			return
		}
		e.say(good, "kernel", "not fetched yet; the first check does it, 60 MB")
		return
	}
	k, err := kernel.Prepare(e.a.ctx, spec, nil)
	if err != nil {
		e.say(bad, "kernel", "%v", err)
		return
	}
	e.say(good, "kernel", "%s", k.Release)
	// As a rule the modules are built already. Fetching a compiler may take longer
	// than anybody wants to wait for a doctor.
	ctx, cancel := context.WithTimeout(e.a.ctx, 4*patience)
	defer cancel()
	for _, dir := range e.a.labModules() {
		name := filepath.Base(dir)
		_, err := k.BuildModule(ctx, dir, e.a.progress.say)
		switch {
		case ctx.Err() != nil && e.a.ctx.Err() == nil:
			e.say(note, name, "was not built within %d s; the first check goes on with it", int(4*patience/time.Second))
		case err != nil:
			e.say(bad, name, "%v", err)
		default:
			e.say(good, name, "the module builds")
		}
	}
}

// network tells whether Debian's packages can be reached, in so far as can be
// found out in a moment.
func (e *examination) network() error {
	const mirror = "deb.debian.org"
	ctx, cancel := context.WithTimeout(e.a.ctx, patience)
	defer cancel()
	// No HTTP: with TLS it would be a quarter of what the first build compiles.
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", mirror+":80")
	if err == nil {
		conn.Close()
		return nil
	}
	// apt may know a way that we do not.
	ctx, cancel = context.WithTimeout(e.a.ctx, patience)
	defer cancel()
	out, aptErr := exec.CommandContext(ctx, "apt-config", "dump", "--no-empty", "--format", "%f=%v%n",
		"Acquire::http::Proxy", "Acquire::http::Proxy-Auto-Detect", "Acquire::http::ProxyAutoDetect").Output()
	if aptErr == nil && len(out) > 0 {
		return nil
	}
	return fmt.Errorf("there is no network (%s does not answer)", mirror)
}

func (e *examination) folders(spec string) {
	if err := os.MkdirAll(e.a.cache, 0o755); err != nil {
		e.say(bad, "cache", "%v: set XDG_CACHE_HOME to a folder that can be written", err)
		return
	}
	if err := unix.Access(e.a.cache, unix.W_OK); err != nil {
		e.say(bad, "cache", "%s cannot be written: set XDG_CACHE_HOME to a folder that can be", e.a.cache)
		return
	}
	var st unix.Statfs_t
	if err := unix.Statfs(e.a.cache, &st); err != nil {
		e.say(bad, "cache", "%s: %v", e.a.cache, err)
		return
	}
	free, want := st.Bavail*uint64(st.Bsize), uint64(roomToWork)
	if kernel.NeedsFetch(spec) {
		want = roomToFetch
	}
	if free < want {
		e.say(bad, "cache", "%s has %d MB free, %d are needed: make room, or set XDG_CACHE_HOME to a folder on another disk", e.a.cache, free>>20, want>>20)
		return
	}
	e.say(good, "cache", "%s, %.1f GB free", e.a.cache, float64(free)/1e9)
}

func (e *examination) memory() {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		e.say(note, "memory", "%v", err)
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 || fields[0] != "MemAvailable:" {
			continue
		}
		kb, _ := strconv.ParseUint(fields[1], 10, 64)
		if kb<<10 < memoryForVM {
			e.say(bad, "memory", "%d MB are free, a VM takes up to %d: end some programs", kb>>10, memoryForVM>>20)
			return
		}
		e.say(good, "memory", "%.1f GB free", float64(kb<<10)/1e9)
		return
	}
}

// tools looks for the other programs.
func (e *examination) tools() error {
	all, err := wants()
	if err != nil {
		return nil // said by system
	}
	arch, err := kernel.HostArch()
	if err != nil {
		return err
	}
	for _, w := range all {
		switch {
		case w.name == arch.QEMU, w.purpose == forVagrant:
		case w.there():
			e.say(good, w.label(), "%s", w.does)
		case w.purpose == forFetch && !kernel.NeedsFetch(os.Getenv("KERNEL")):
			e.say(note, w.label(), "missing, only needed to fetch other kernels: package %s", w.pkg)
		case w.purpose == forShell:
			e.say(note, w.label(), "missing, only needed by make shell, which installs it: package %s", w.pkg)
		case w.name == "gcc":
			e.say(note, w.label(), "missing; labs' modules are built with Debian's, fetched into the cache (60 MB); make test installs it")
		case w.purpose == forTests:
			e.say(note, w.label(), "missing, only needed by make test, which installs it: package %s", w.pkg)
		default:
			e.say(bad, w.label(), "missing (%s): make setup, package %s", w.does, w.pkg)
		}
	}
	return nil
}
