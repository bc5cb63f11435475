// SPDX-License-Identifier: MIT

// Package modtest is what the tests of the kernel modules in kmod have in common.
//
// Such a test runs as root in the throw-away virtual machine, with the module
// loaded, and nowhere else: it loads and unloads modules, and a mistake in one
// stops the kernel. It sees the module from outside, by its sockets, its parameters
// and its trace events.
package modtest

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/guest"
	"netlinklabs/internal/wire"
)

// Patience is how long a test waits for what must come. It bounds a broken run and
// orders nothing: it is far beyond what the slowest emulator needs.
const Patience = time.Minute

// Module is a kernel module by its name.
type Module string

// Guest skips the test anywhere but in the virtual machine.
func (m Module) Guest(t *testing.T) {
	t.Helper()
	if os.Getenv(wire.EnvGuest) == "" {
		t.Skipf(`runs only in the virtual machine: make test, or go test -exec "'$PWD/bin/lab' exec -module %s" ./kmod/%[1]s/...`, m)
	}
}

// Main is the tests' TestMain. It looks at the kernel's log when all are over: what
// a module did wrong often shows there and nowhere else.
func (m Module) Main(tests *testing.M) {
	if os.Getenv(wire.EnvGuest) == "" {
		os.Exit(tests.Run())
	}
	log, err := openKernelLog()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s_test: %v\n", m, err)
		os.Exit(2)
	}
	code := tests.Run()
	if bad := log.bad(); len(bad) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: the kernel's log has, since the tests began:\n\t%s\n", strings.Join(bad, "\n\t"))
		code = 1
	}
	os.Exit(code)
}

// kernelLog is a place in /dev/kmsg.
type kernelLog int

func openKernelLog() (kernelLog, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open /dev/kmsg: %w", err)
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		return 0, fmt.Errorf("go to the end of /dev/kmsg: %w", err)
	}
	return kernelLog(fd), nil
}

var trouble = regexp.MustCompile(`WARNING:|BUG:|Oops|general protection|Call Trace|refcount_t|use-after-free|scheduling while atomic|unregister_netdevice: waiting`)

// bad returns the lines since the log was opened that tell of a fault.
func (l kernelLog) bad() []string {
	var bad []string
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(int(l), buf)
		switch {
		case errors.Is(err, unix.EPIPE): // overwritten before it was read
			bad = append(bad, "lines were lost: the log was overrun")
			continue
		case err != nil || n <= 0: // EAGAIN: that was all
			return bad
		}
		if line := strings.TrimSpace(string(buf[:n])); trouble.MatchString(line) {
			bad = append(bad, line)
		}
	}
}

func (m Module) param(name string) string {
	return "/sys/module/" + string(m) + "/parameters/" + name
}

// Write writes a parameter with one write(2), and returns its error.
func (m Module) Write(name, value string) error {
	f, err := os.OpenFile(m.param(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// Set writes a parameter that the module must take.
func (m Module) Set(t testing.TB, name string, value any) {
	t.Helper()
	if err := m.Write(name, fmt.Sprint(value)); err != nil {
		t.Fatalf("set %s=%v: %v", name, value, err)
	}
}

// Get reads a parameter.
func (m Module) Get(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(m.param(name))
	if err != nil {
		t.Fatal(err)
	}
	s, ok := strings.CutSuffix(string(b), "\n")
	if !ok {
		t.Errorf("%s reads %q, without a newline", name, b)
	}
	return s
}

// Path returns where the module's file is.
func (m Module) Path(t *testing.T) string {
	t.Helper()
	path := os.Getenv(wire.EnvModule + string(m))
	if path == "" {
		t.Fatalf("%s%s is not set: it names the module's file, to load it anew", wire.EnvModule, m)
	}
	return path
}

// Load loads the module as insmod does.
func (m Module) Load(t *testing.T, params string) error {
	t.Helper()
	return guest.LoadModule(m.Path(t), params)
}

// Unload unloads the module as rmmod does.
func (m Module) Unload() error { return unix.DeleteModule(string(m), unix.O_NONBLOCK) }

// Background runs f on a goroutine and returns a function, to be called once, that
// waits for it and fails the test with its error.
func Background(t *testing.T, what string, f func() error) (wait func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	return func() {
		t.Helper()
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		case <-time.After(Patience):
			t.Fatalf("%s: not over after %v", what, Patience)
		}
	}
}

// NewNetns runs f on a thread that is alone in a new network namespace. The thread
// ends with f, and the namespace with it.
func NewNetns(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies
		if unix.Gettid() == unix.Getpid() {
			// The first thread is not ended by Go: have another do it.
			defer runtime.UnlockOSThread()
			done <- NewNetns(f)
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("unshare the network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Slab returns how much memory the kernel's small objects take, in KiB.
func Slab(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nSlab:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("Slab in /proc/meminfo: %v", err)
	}
	return kib
}
