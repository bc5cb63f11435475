// SPDX-License-Identifier: MIT

package vm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/cache"
	"netlinklabs/internal/initramfs"
	"netlinklabs/internal/kernel"
	"netlinklabs/internal/place"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// The tests boot real VMs under emulation. Where QEMU or a kernel is missing they
// fail and say how to get it: a verdict that was not tried is not proven.

// bench is what all tests use: built once, in a folder of its own.
type bench struct {
	guest, job string // programs
	kernel     *kernel.Prepared
	arch       kernel.Arch
	qemu       string
	state      string // the user's own, so that all VMs of the machine share its slots
}

var (
	benchDir  string
	benchOnce = sync.OnceValues(func() (*bench, error) {
		b := &bench{guest: filepath.Join(benchDir, "guest"), job: filepath.Join(benchDir, "job")}
		var err error
		if b.arch, err = kernel.HostArch(); err != nil {
			return nil, err
		}
		if b.qemu, err = exec.LookPath(b.arch.QEMU); err != nil {
			return nil, fmt.Errorf("%s is not installed: run make setup", b.arch.QEMU)
		}
		if b.kernel, err = kernel.Prepare(context.Background(), os.Getenv("KERNEL"), nil); err != nil {
			return nil, fmt.Errorf("%w: run make setup", err)
		}
		if b.state, err = cache.Dir(); err != nil {
			return nil, err
		}
		for out, pkg := range map[string]string{b.guest: "netlinklabs/cmd/guest", b.job: "netlinklabs/internal/vm/testdata/job"} {
			cmd := exec.Command("go", "build", "-o", out, pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if msg, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("building %s: %w\n%s", pkg, err, msg)
			}
		}
		return b, nil
	})
)

func TestMain(m *testing.M) {
	if state := os.Getenv(slotHolder); state != "" {
		holdSlot(state)
	}
	if words := os.Getenv(standIn); words != "" {
		playHere(words)
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "netlink-labs-vm-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	benchDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func setUp(t *testing.T) *bench {
	t.Helper()
	if testing.Short() {
		t.Skip("boots VMs")
	}
	b, err := benchOnce()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// heard is all that came of a VM.
type heard struct {
	*vm.Result
	mu      sync.Mutex
	out     bytes.Buffer
	records []wire.Record
	said    []string
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.Write(b)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.String()
}

func (h *heard) say(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, s)
}

// job is a job for the program testdata/job, and how its VM differs from others.
type job struct {
	args   []string
	module string // what the module complain does when it is loaded
	limit  time.Duration
	change func(*place.Job)
}

// run boots a VM as every check does, by place, and returns what came of it.
func (b *bench) run(t *testing.T, j job) *heard {
	t.Helper()
	h, err := b.tryRun(t, t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (b *bench) tryRun(t *testing.T, ctx context.Context, j job) (*heard, error) {
	t.Helper()
	h := new(heard)
	const inside = "/job/job"
	pj := &place.Job{
		Argv: append([]string{inside}, j.args...), Limit: j.limit, Stdout: h, Stderr: h,
		Record: func(r wire.Record) { h.records = append(h.records, r) },
		Files:  func(w *initramfs.Writer) { w.Program(inside, b.job) },
	}
	if j.module != "" {
		ko, err := b.kernel.BuildModule(t.Context(), "testdata/complain", nil)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(ko)
		if err != nil {
			t.Fatal(err)
		}
		pj.Modules = []place.Module{{Name: "complain", Data: data, Params: "what=" + j.module}}
	}
	if j.change != nil {
		j.change(pj)
	}
	p := &place.VM{Kernel: b.kernel, Guest: b.guest, Accel: "tcg", State: b.state, Say: h.say}
	var err error
	h.Result, err = p.Run(ctx, pj)
	return h, err
}

// initrd packs an initramfs by hand, with init as PID 1.
func (b *bench) initrd(t *testing.T, init string, nonce wire.Nonce, argv ...string) *os.File {
	t.Helper()
	f := memfile(t)
	w := initramfs.NewWriter(f)
	w.File(wire.GuestPath, 0o755, init)
	w.File("/job/job", 0o755, b.job)
	text, err := json.Marshal(wire.Job{Version: wire.Version, Nonce: nonce, Line: "/dev/" + b.arch.Result, Argv: argv})
	if err != nil {
		t.Fatal(err)
	}
	w.Data(wire.JobPath, 0o600, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return f
}

func memfile(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "initramfs")
	t.Cleanup(func() { f.Close() })
	return f
}

// machine is a VM whose job exits with code 7, to be changed by the test.
func (b *bench) machine(t *testing.T, h *heard) vm.Machine {
	nonce := wire.Nonce{1, 2, 3}
	return vm.Machine{
		QEMU: b.qemu, CPU: b.arch.CPU, Kernel: b.kernel.Image(), Nonce: nonce, State: b.state, Accel: "tcg",
		Initrd: b.initrd(t, b.guest, nonce, "/job/job", "exit", "7"),
		Args:   append([]string{"-machine", b.arch.Machine, "-serial", "chardev:console"}, b.arch.ResultArgs...),
		Append: "console=" + b.arch.Console + " " + b.arch.Params + " quiet panic=-1 cryptomgr.notests",
		Frame: func(t wire.Type, p []byte) {
			if t == wire.Stdout || t == wire.Stderr {
				_, _ = h.Write(p)
			}
		},
		Say: h.say,
	}
}

func (b *bench) boot(t *testing.T, change func(*vm.Machine)) *heard {
	t.Helper()
	h := new(heard)
	m := b.machine(t, h)
	change(&m)
	var err error
	if h.Result, err = vm.Run(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return h
}

// describe is for the message of a test that failed.
func (h *heard) describe() string {
	return fmt.Sprintf("%v, %+v, detail %q\nexcerpt:\n  %s\nsaid %q\noutput %.300q\nconsole:\n%s",
		h.Verdict, h.Status, h.Detail, strings.Join(h.Excerpt, "\n  "), h.said, h.String(), h.Console)
}

func (h *heard) want(t *testing.T, v vm.Verdict, detail string, excerpt ...string) {
	t.Helper()
	if h.Verdict != v || !strings.Contains(h.Detail, detail) {
		t.Errorf("want the verdict %q with %q, got %s", v, detail, h.describe())
		return
	}
	for _, e := range excerpt {
		if !strings.Contains(strings.Join(h.Excerpt, "\n"), e) {
			t.Errorf("the excerpt has no %q: %s", e, h.describe())
		}
	}
}

func TestJobsOwnExitCode(t *testing.T) {
	b := setUp(t)
	for _, code := range []int{0, 3, 255} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			h := b.run(t, job{args: []string{"exit", strconv.Itoa(code)}})
			h.want(t, vm.Done, "")
			if h.Status != (wire.Status{Code: code}) || h.Release != b.kernel.Release || h.Accel != "tcg" {
				t.Errorf("got %s on %q by %s", h.describe(), h.Release, h.Accel)
			}
			if got := h.String(); got != "to stdout\nto stderr\n" && got != "to stderr\nto stdout\n" {
				t.Errorf("the output is %q", got)
			}
			if h.Boot <= 0 || h.Boot > h.Total || h.MaxRSS < 50<<20 {
				t.Errorf("boot %v of %v, %d bytes", h.Boot, h.Total, h.MaxRSS)
			}
			if h.MaxRSS > 300<<20 {
				t.Errorf("QEMU held %d MiB", h.MaxRSS>>20)
			}
		})
	}
	t.Run("signal", func(t *testing.T) {
		t.Parallel()
		h := b.run(t, job{args: []string{"kill", "0", "SIGKILL"}})
		h.want(t, vm.Done, "")
		if h.Status != (wire.Status{Code: -1, Signal: "SIGKILL"}) {
			t.Errorf("got %s", h.describe())
		}
	})
}

func TestKernelPanics(t *testing.T) {
	b := setUp(t)
	for _, tt := range []struct {
		name    string
		job     job
		detail  string
		excerpt string
	}{
		{"sysrq", job{args: []string{"sysrq", "c"}}, "Kernel panic - not syncing: sysrq triggered crash", "Call Trace"},
		{"PID 1 dies", job{args: []string{"kill", "1", "SIGQUIT"}}, "Kernel panic - not syncing: Attempted to kill init!", ""},
		{"oops in a module", job{args: []string{"exit", "0"}, module: "oops"}, "Kernel panic - not syncing: Fatal exception", "complain_init"},
		{"panic in a module", job{args: []string{"exit", "0"}, module: "panic"}, "Kernel panic - not syncing: as the test asked for", "complain_init"},
		{"restart", job{args: []string{"reboot", "restart"}}, "the kernel died without a word", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := b.run(t, tt.job)
			h.want(t, vm.Panicked, tt.detail, tt.excerpt)
			if h.Verdict.Environment() {
				t.Error("the place is blamed")
			}
		})
	}
}

func TestKernelComplaints(t *testing.T) {
	b := setUp(t)
	for what, excerpt := range map[string]string{
		"warn": "WARNING: ", "refcount": "refcount_t: addition on 0; use-after-free", "leak": "Objects remaining",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := b.run(t, job{args: []string{"exit", "0"}, module: what})
			h.want(t, vm.Dirty, "", excerpt)
			if h.Status.Code != 0 {
				t.Errorf("the job's own status is lost: %s", h.describe())
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		h := b.run(t, job{args: []string{"exit", "0"}, module: "nothing"})
		h.want(t, vm.Done, "")
	})
	t.Run("of a starved host", func(t *testing.T) {
		t.Parallel()
		h := b.run(t, job{args: []string{"kmsg", "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [check:1]"}})
		h.want(t, vm.Done, "")
	})
}

func TestHang(t *testing.T) {
	b := setUp(t)
	for _, tt := range []struct {
		name    string
		job     job
		excerpt string
	}{
		{"job sleeps", job{args: []string{"hang"}}, "NMI"},
		{"job spins", job{args: []string{"spin"}}, "NMI"},
		{"kernel spins without interrupts", job{args: []string{"exit", "0"}, module: "spin"}, "complain_init"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.job.limit = 2 * time.Second
			h := b.run(t, tt.job)
			h.want(t, vm.Hung, "the deadline passed", "Kernel panic - not syncing", tt.excerpt)
		})
	}
}

// TestOutputBeforeAHangIsKept has a job that prints before it hangs.
func TestOutputBeforeAHangIsKept(t *testing.T) {
	b := setUp(t)
	h := b.run(t, job{args: []string{"hang"}, limit: 2 * time.Second})
	h.want(t, vm.Hung, "")
	if h.String() != "hanging\n" {
		t.Errorf("the output is %q", h.String())
	}
}

func TestGuestFaults(t *testing.T) {
	b := setUp(t)
	t.Run("no such program", func(t *testing.T) {
		t.Parallel()
		h := b.run(t, job{change: func(j *place.Job) { j.Argv = []string{"/no/such/program"} }})
		h.want(t, vm.Faulted, "starting /no/such/program: ")
	})
	t.Run("module that cannot be loaded", func(t *testing.T) {
		t.Parallel()
		h := b.run(t, job{args: []string{"exit", "0"}, change: func(j *place.Job) {
			j.Modules = []place.Module{{Name: "nonsense", Data: []byte("no ELF file"), Params: "x=1"}}
		}})
		h.want(t, vm.Faulted, `loading the module nonsense.ko with parameters "x=1": `)
	})
	t.Run("parameter that the module refuses", func(t *testing.T) {
		t.Parallel()
		h := b.run(t, job{args: []string{"exit", "0"}, module: "nothing", change: func(j *place.Job) { j.Modules[0].Params = "why=1" }})
		h.want(t, vm.Done, "") // the kernel ignores unknown parameters, and says so
		if !strings.Contains(string(h.Console), "complain: unknown parameter 'why' ignored") {
			t.Errorf("the console does not tell of the parameter: %s", h.describe())
		}
	})
}

func TestResultChannel(t *testing.T) {
	b := setUp(t)
	for _, tt := range []struct {
		args    []string
		verdict vm.Verdict
		detail  string
	}{
		{[]string{"line", "noise"}, vm.Done, ""},
		{[]string{"line", "foreign"}, vm.Done, ""},
		{[]string{"line", "corrupt"}, vm.Unheard, "a frame on the result channel is corrupt"},
		{[]string{"line", "cut"}, vm.Unheard, "unexpected EOF"},
		{[]string{"reboot", "off"}, vm.Unheard, "the guest switched itself off without a result"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			b.run(t, job{args: tt.args}).want(t, tt.verdict, tt.detail)
		})
	}
}

func TestTooMuchOutput(t *testing.T) {
	b := setUp(t)
	const limit = 1 << 20
	defer vm.LimitOutput(limit)()
	for name, size := range map[string]int{"without end": -1, "one byte more than the limit": limit + 1} {
		t.Run(name, func(t *testing.T) {
			h := b.run(t, job{args: []string{"print", strconv.Itoa(size)}})
			h.want(t, vm.Flooded, "printed more than 1 MiB")
			if n := len(h.String()); n > limit || n < limit-100<<10 {
				t.Errorf("%d bytes were kept", n)
			}
		})
	}
	t.Run("the limit itself", func(t *testing.T) {
		h := b.run(t, job{args: []string{"print", strconv.Itoa(limit)}})
		h.want(t, vm.Done, "")
		if n := len(h.String()); n != limit {
			t.Errorf("%d bytes were kept", n)
		}
	})
}

// TestOrphan has a job that ends while what it started holds its output open.
func TestOrphan(t *testing.T) {
	b := setUp(t)
	h := b.run(t, job{args: []string{"orphan"}})
	h.want(t, vm.Done, "")
}

func TestFilesOfTheJob(t *testing.T) {
	b := setUp(t)
	dir := t.TempDir()
	h := b.run(t, job{args: []string{"leave", "profile", "3000000"}, change: func(j *place.Job) { j.Out = dir }})
	h.want(t, vm.Done, "")
	got, err := os.ReadFile(filepath.Join(dir, "profile"))
	if err != nil || !bytes.Equal(got, make([]byte, 3000000)) {
		t.Errorf("got a file of %d bytes, %v; %s", len(got), err, h.describe())
	}
}

func TestNoBoot(t *testing.T) {
	b := setUp(t)
	noInit := func(t *testing.T) *os.File { // an archive without init
		f := memfile(t)
		w := initramfs.NewWriter(f)
		w.Data("/readme", 0o644, []byte("no init"))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return f
	}
	image := func(t *testing.T, content []byte) string {
		path := filepath.Join(t.TempDir(), "vmlinuz")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// As much of a kernel as QEMU looks at (Documentation/arch/x86/boot.rst), and
	// code that switches interrupts off and halts.
	halts := make([]byte, 8192)
	copy(halts[0x1fe:], "\x55\xaa\xeb\x6eHdrS\x03\x02")
	copy(halts[0x22c:], "\xff\xff\xff\x37") // the highest address for an initramfs
	halts[0x211] = 1                        // loaded high
	copy(halts[0x270:], "\xfa\xf4\xeb\xfd") // cli; hlt; jmp to the hlt
	for _, tt := range []struct {
		name    string
		change  func(*testing.T, *vm.Machine)
		verdict vm.Verdict
		detail  string
		excerpt string
	}{
		{"panic before the first word", func(t *testing.T, m *vm.Machine) { m.Initrd = noInit(t) }, vm.NoBoot, "died while it booted: Kernel panic - not syncing", "Kernel panic"},
		{"init dies before the first word", func(t *testing.T, m *vm.Machine) {
			m.Initrd, m.Append = b.initrd(t, b.job, m.Nonce), m.Append+" -- die"
		}, vm.NoBoot, "died while it booted: Kernel panic - not syncing: Attempted to kill init", "Kernel panic"},
		{"init is silent", func(t *testing.T, m *vm.Machine) { m.Initrd = b.initrd(t, b.job, m.Nonce) }, vm.NoBoot, "no sign of life", ""},
		{"a kernel that halts", func(t *testing.T, m *vm.Machine) { m.Kernel = image(t, halts) }, vm.NoBoot, "no sign of life", ""},
		{"a text file as kernel", func(t *testing.T, m *vm.Machine) { m.Kernel = image(t, []byte(strings.Repeat("no kernel\n", 1000))) }, vm.Ended, "exit status 1: qemu: linux kernel too old", ""},
		{"an empty file as kernel", func(t *testing.T, m *vm.Machine) { m.Kernel = image(t, nil) }, vm.Ended, "", ""},
		{"half a kernel", func(t *testing.T, m *vm.Machine) {
			whole, err := os.ReadFile(filepath.Join(b.kernel.Dir, "vmlinuz"))
			if err != nil {
				t.Fatal(err)
			}
			m.Kernel = image(t, whole[:len(whole)/2])
		}, vm.NoBoot, "", ""},
		{"no such kernel", func(t *testing.T, m *vm.Machine) { m.Kernel = "/no/such/vmlinuz" }, vm.Ended, "/no/such/vmlinuz", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := b.boot(t, func(m *vm.Machine) {
				m.FirstWord = 5 * time.Second
				tt.change(t, m)
			})
			h.want(t, tt.verdict, tt.detail, tt.excerpt)
			if !h.Verdict.Environment() {
				t.Error("the job is blamed")
			}
		})
	}
}

// qemus returns the QEMUs of this process with so much memory, by which tests
// know theirs.
func qemus(memory int) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		stat, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		_, rest, _ := bytes.Cut(stat, []byte(") "))
		var state string
		var ppid int
		if _, err := fmt.Sscan(string(rest), &state, &ppid); err != nil || ppid != os.Getpid() || state == "Z" {
			continue
		}
		args, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && bytes.Contains(args, fmt.Appendf(nil, "\x00-m\x00%dM\x00", memory)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killQEMU sends a signal to the only QEMU of ours with so much memory.
func killQEMU(memory int, s unix.Signal) error {
	pids := qemus(memory)
	if len(pids) != 1 {
		return fmt.Errorf("%d VMs with %d MiB", len(pids), memory)
	}
	return unix.Kill(pids[0], s)
}

// whenHeard returns what takes frames and calls do once the output is want.
func whenHeard(h *heard, want string, do func()) func(wire.Type, []byte) {
	return func(t wire.Type, p []byte) {
		if t != wire.Stdout {
			return
		}
		_, _ = h.Write(p)
		if h.String() == want {
			do()
		}
	}
}

func TestQEMUEnds(t *testing.T) {
	b := setUp(t)
	for i, tt := range []struct {
		name   string
		signal unix.Signal
		detail string
	}{
		{"killed", unix.SIGKILL, "signal: killed"},
		{"told to end", unix.SIGTERM, "by itself, without an error"}, // QEMU says why on its standard error
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			memory := 260 + i
			killed := make(chan error, 1)
			h := new(heard)
			m := b.machine(t, h)
			m.Memory = memory
			m.Initrd = b.initrd(t, b.guest, m.Nonce, "/job/job", "hang")
			m.Frame = whenHeard(h, "hanging\n", func() { killed <- killQEMU(memory, tt.signal) })
			var err error
			if h.Result, err = vm.Run(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if err := <-killed; err != nil {
				t.Fatal(err)
			}
			h.want(t, vm.Ended, tt.detail)
			if !h.Verdict.Environment() {
				t.Error("the job is blamed")
			}
		})
	}
}

// TestInterrupt ends the context while the job runs.
func TestInterrupt(t *testing.T) {
	b := setUp(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h := new(heard)
	m := b.machine(t, h)
	m.Memory = 262
	m.Initrd = b.initrd(t, b.guest, m.Nonce, "/job/job", "hang")
	m.Frame = whenHeard(h, "hanging\n", cancel)
	if _, err := vm.Run(ctx, m); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := qemus(262); len(left) > 0 {
		t.Errorf("QEMU %v is left behind", left)
	}
}
