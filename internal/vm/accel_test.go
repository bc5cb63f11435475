// SPDX-License-Identifier: MIT

package vm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/place"
	"netlinklabs/internal/vm"
)

// fakeQEMU writes a script that stands in QEMU's place: it notes in the file
// kvm.log each time that it is asked for KVM, and does then what kvm says. For
// everything else it is the real one, or does what tcg says.
func fakeQEMU(t *testing.T, real, kvm, tcg string) (path, log string) {
	t.Helper()
	dir := t.TempDir()
	path, log = filepath.Join(dir, "qemu"), filepath.Join(dir, "kvm.log")
	if tcg == "" {
		tcg = "exec '" + real + `' "$@"`
	}
	script := fmt.Sprintf(`#!/bin/sh
case " $* " in
*" --version "*) exec '%s' --version ;;
*" -accel kvm "*) echo asked >>'%s'; %s ;;
*) %s ;;
esac
`, real, log, kvm, tcg)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, log
}

const (
	// aborts is how QEMU ends on a machine whose /dev/kvm opens and does not do.
	aborts = `ulimit -c 0; echo "qemu-system-x86_64: error: failed to set MSR 0x10a to 0xc" >&2; kill -ABRT $$`
	// works pretends that KVM does: by emulation.
	works = `a=; for x; do case $x in kvm) x=tcg ;; host) x=max ;; esac; a="$a '$x'"; done; eval "exec REAL $a"`
)

func asked(t *testing.T, log string) int {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

// device is a file that can be opened like a /dev/kvm.
func device(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKVMBroken(t *testing.T) {
	b := setUp(t)
	t.Parallel()
	state := t.TempDir()
	h := b.boot(t, func(m *vm.Machine) {
		m.Accel, m.KVM, m.State = "auto", device(t), state
		m.QEMU, _ = fakeQEMU(t, m.QEMU, aborts, "")
	})
	h.want(t, vm.Done, "")
	const why = "KVM does not boot a VM here: signal: aborted: qemu-system-x86_64: error: failed to set MSR 0x10a to 0xc"
	if h.Status.Code != 7 || h.Accel != "tcg" || h.Why != why {
		t.Errorf("got %s by %s because of %q", h.describe(), h.Accel, h.Why)
	}
	if len(h.said) == 0 || h.said[len(h.said)-1] != why+"; using emulation (tcg) from now on" {
		t.Errorf("the user was told %q", h.said)
	}
	if accel, reason, ok := vm.Known(state); accel != "tcg" || reason != why || !ok {
		t.Errorf("remembered are %s, %q, %t", accel, reason, ok)
	}
}

func TestKVMHangs(t *testing.T) {
	b := setUp(t)
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	h := b.boot(t, func(m *vm.Machine) {
		m.Accel, m.KVM, m.State, m.FirstWord = "", device(t), t.TempDir(), 10*time.Second
		// Not the script itself hangs, but what it has started.
		m.QEMU, _ = fakeQEMU(t, m.QEMU, "sleep 1000 & echo $! >'"+pidFile+"'; wait; exit 0", "")
	})
	h.want(t, vm.Done, "")
	if h.Status.Code != 7 || h.Accel != "tcg" || h.Why != "KVM does not boot a VM here: the kernel gave no sign of life" {
		t.Errorf("got %s by %s because of %q", h.describe(), h.Accel, h.Why)
	}
	var pid int
	text, err := os.ReadFile(pidFile)
	if err == nil {
		_, err = fmt.Sscan(string(text), &pid)
	}
	if err != nil {
		t.Fatal(err)
	}
	if stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(stat), "sleep") {
		t.Errorf("what the hanging QEMU has started, process %d, is left behind", pid)
	}
}

func TestKVMWorks(t *testing.T) {
	b := setUp(t)
	t.Parallel()
	state := t.TempDir()
	h := b.boot(t, func(m *vm.Machine) {
		m.Accel, m.KVM, m.State, m.FirstWord = "auto", device(t), state, 5*time.Minute // a fifth of it for KVM
		m.QEMU, _ = fakeQEMU(t, m.QEMU, strings.ReplaceAll(works, "REAL", m.QEMU), "")
	})
	h.want(t, vm.Done, "")
	if h.Accel != "kvm" || h.Why != "" {
		t.Errorf("ran by %s because of %q", h.Accel, h.Why)
	}
	if accel, _, ok := vm.Known(state); accel != "kvm" || !ok {
		t.Errorf("remembered is %s, %t", accel, ok)
	}
}

// TestKVMEndsLater has QEMU killed after the first word: KVM works, and the job
// must not be done twice.
func TestKVMEndsLater(t *testing.T) {
	b := setUp(t)
	t.Parallel()
	state := t.TempDir()
	h := new(heard)
	m := b.machine(t, h)
	m.Accel, m.KVM, m.State, m.FirstWord = "auto", device(t), state, 5*time.Minute
	var log string
	m.QEMU, log = fakeQEMU(t, m.QEMU, strings.ReplaceAll(works, "REAL", m.QEMU), "")
	m.Initrd = b.initrd(t, b.guest, m.Nonce, "/job/job", "hang")
	m.Memory = 259 // to know it by
	killed := make(chan error, 1)
	m.Frame = whenHeard(h, "hanging\n", func() { killed <- killQEMU(m.Memory, unix.SIGKILL) })
	var err error
	if h.Result, err = vm.Run(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	h.want(t, vm.Ended, "signal: killed")
	if n := asked(t, log); n != 1 || h.String() != "hanging\n" || h.Accel != "kvm" {
		t.Errorf("KVM was asked %d times; %s", n, h.describe())
	}
	if accel, _, _ := vm.Known(state); accel == "tcg" {
		t.Error("KVM is given up though it boots")
	}
}

// TestKVMMemory goes through what makes KVM be asked again. No VM boots: KVM
// aborts and emulation ends at once.
func TestKVMMemory(t *testing.T) {
	b := setUp(t)
	state, dev := t.TempDir(), device(t)
	qemu, log := fakeQEMU(t, b.qemu, aborts, "exit 3")
	m := b.machine(t, new(heard))
	m.QEMU, m.KVM, m.State, m.Accel = qemu, dev, state, "auto"
	runs := 0
	run := func(what string, asksAgain bool) {
		t.Helper()
		before := asked(t, log)
		r, err := vm.Run(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if again := asked(t, log) > before; again != asksAgain {
			t.Errorf("%s: KVM was asked %d times, after %d before", what, asked(t, log), before)
		}
		if r.Accel != "tcg" || !strings.Contains(r.Why, "failed to set MSR") {
			t.Errorf("%s: ran by %s because of %q", what, r.Accel, r.Why)
		}
		runs++
	}
	run("first", true)
	run("second", false)
	if err := os.Chtimes(qemu, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	run("another QEMU", true)
	run("the same again", false)
	kernel := m.Kernel
	m.Kernel = "/no/such/kernel"
	run("another kernel", true)
	m.Kernel = kernel
	run("the first kernel again", false)
	m.KVM = device(t)
	run("another device", true)
	run("the same again", false)
	memory := filepath.Join(state, "accelerator.json")
	text, err := os.ReadFile(memory)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(text), strings.TrimSpace(string(boot)), "00000000-0000-0000-0000-000000000000", -1)
	if err := os.WriteFile(memory, []byte(other), 0o644); err != nil || other == string(text) {
		t.Fatalf("%v: %s", err, text)
	}
	if _, _, ok := vm.Known(state); ok {
		t.Error("what another boot of the host found out is taken for known")
	}
	run("another boot of the host", true)
	if err := os.WriteFile(memory, []byte(`[{"key":`), 0o644); err != nil {
		t.Fatal(err)
	}
	run("half a memory", true)
	if err := vm.Forget(state); err != nil {
		t.Fatal(err)
	}
	run("forgotten", true)
	if err := errors.Join(vm.Forget(state), vm.Forget(state)); err != nil {
		t.Errorf("forgetting twice: %v", err)
	}
	if left, _ := filepath.Glob(memory + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	// Who names the accelerator gets it, and nothing is remembered.
	for accel, asks := range map[string]bool{"kvm": true, "tcg": false} {
		before := asked(t, log)
		m.Accel = accel
		r, err := vm.Run(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != vm.Ended || r.Accel != accel || r.Why != "" || (asked(t, log) > before) != asks {
			t.Errorf("with %s: %v by %s, KVM was asked: %t", accel, r.Verdict, r.Accel, asked(t, log) > before)
		}
		if _, _, ok := vm.Known(state); ok {
			t.Errorf("with %s something is remembered", accel)
		}
	}
	m.Accel = "auto"
	// A device that cannot be opened is not remembered: opening it costs nothing.
	for dev, why := range map[string]string{
		"/no/such/kvm": "this machine has no /no/such/kvm",
		// A file of /proc/sys with mode 0444 refuses to be written by anybody, root
		// included (proc_sys_permission).
		"/proc/sys/kernel/random/boot_id": "/proc/sys/kernel/random/boot_id is not yours to open: `sudo adduser $USER kvm`, then log in again",
	} {
		before := asked(t, log)
		m.KVM = dev
		r, err := vm.Run(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if r.Accel != "tcg" || r.Why != why || asked(t, log) != before {
			t.Errorf("with %s: ran by %s because of %q", dev, r.Accel, r.Why)
		}
		if _, _, ok := vm.Known(state); ok {
			t.Errorf("with %s something is remembered", dev)
		}
	}
}

func TestQEMUVersions(t *testing.T) {
	b := setUp(t)
	for _, tt := range []struct {
		name, script string
		want         string // in the error, or "" for a QEMU that is run
	}{
		{"Debian 10's", "echo 'QEMU emulator version 3.1.0 (Debian 1:3.1+dfsg-8)'", "QEMU 3.1 is too old, 5.2 or newer is needed: "},
		{"just too old", "echo 'QEMU emulator version 5.1.0'", "QEMU 5.1 is too old"},
		{"the oldest", "echo 'QEMU emulator version 5.2.0'", ""},
		{"two digits", "echo 'QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)'", ""},
		{"fails", "echo 'libfoo.so: cannot open' >&2; exit 127", "exit status 127: libfoo.so: cannot open"},
		{"is something else", "echo hello", "hello"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a qemu")
			script := "#!/bin/sh\n[ \"$1\" = --version ] || exit 3\n" + tt.script + "\n"
			if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			m := b.machine(t, new(heard))
			m.QEMU, m.State = path, t.TempDir()
			r, err := vm.Run(t.Context(), m)
			switch {
			case tt.want == "" && (err != nil || r.Verdict != vm.Ended):
				t.Errorf("got %v, %v; want it run", r, err)
			case tt.want != "" && (!errors.Is(err, vm.ErrQEMU) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path)):
				t.Errorf("got %v, want %q of %s", err, tt.want, path)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		m := b.machine(t, new(heard))
		m.QEMU, m.State = "/no/such/qemu", t.TempDir()
		if _, err := vm.Run(t.Context(), m); !errors.Is(err, vm.ErrQEMU) || !strings.Contains(err.Error(), "make setup") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("answer that does not come", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "qemu")
		if err := os.WriteFile(path, []byte("#!/bin/sh\nsleep 1000\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, _, err := vm.Version(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// slotHolder is the variable that makes this test binary a process that takes a
// slot in the folder it names, and waits to be killed.
const slotHolder = "VM_TEST_SLOT_HOLDER"

func holdSlot(state string) {
	_, err := vm.AcquireSlot(context.Background(), state, runtime.NumCPU(), func(string) {})
	fmt.Println("holding", err)
	select {}
}

func TestSlots(t *testing.T) {
	state := filepath.Join(t.TempDir(), "made on first use")
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), slotHolder+"="+state)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	var word, problem string
	if _, err := fmt.Fscan(out, &word, &problem); err != nil || problem != "<nil>" {
		t.Fatal(word, problem, err)
	}
	silent := func(s string) { t.Errorf("said %q though there was a slot", s) }
	var releases []func()
	for range runtime.NumCPU() - 1 {
		release, err := vm.AcquireSlot(t.Context(), state, runtime.NumCPU(), silent)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	// All slots are taken: one by a process, the others by us.
	type got struct {
		release func()
		err     error
	}
	waiter := func(ctx context.Context) (said chan string, result chan got) {
		said, result = make(chan string, 10), make(chan got, 1)
		go func() {
			release, err := vm.AcquireSlot(ctx, state, runtime.NumCPU(), func(s string) { said <- s })
			result <- got{release, err}
		}()
		return said, result
	}
	said, result := waiter(t.Context())
	want := fmt.Sprintf("waiting for a free core: %d VMs are running", runtime.NumCPU())
	if s := <-said; s != want {
		t.Errorf("said %q, want %q", s, want)
	}
	select {
	case r := <-result:
		t.Fatalf("got a slot that there is not: %v", r.err)
	default:
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	r := <-result // the killed holder's
	if r.err != nil {
		t.Fatal(r.err)
	}
	if len(said) > 0 {
		t.Errorf("said more than once that it waits: %q", <-said)
	}
	ctx, cancel := context.WithCancel(t.Context())
	said, result = waiter(ctx)
	<-said
	cancel()
	if r := <-result; !errors.Is(r.err, context.Canceled) {
		t.Errorf("waiting was cancelled, got %v", r.err)
	}
	r.release()
	for _, release := range releases {
		release()
	}
	release, err := vm.AcquireSlot(t.Context(), state, runtime.NumCPU(), silent)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

// TestNoMoreVMsThanCores boots one VM more than there are cores, all at once: at
// no time do more of them run.
func TestNoMoreVMsThanCores(t *testing.T) {
	b := setUp(t)
	n := runtime.NumCPU() + 1
	results := make(chan *heard, n)
	for range n {
		go func() {
			h, err := b.tryRun(t, t.Context(), job{args: []string{"exit", "0"}, change: func(j *place.Job) { j.Memory = 258 }})
			if err != nil {
				t.Error(err)
			}
			results <- h
		}()
	}
	most, waited := 0, 0
	for i := 0; i < n; {
		select {
		case h := <-results:
			i++
			if h.Result != nil {
				h.want(t, vm.Done, "")
			}
			waited += len(h.said)
		case <-time.After(5 * time.Millisecond):
			most = max(most, len(qemus(258)))
		}
	}
	if most > runtime.NumCPU() || most == 0 {
		t.Errorf("%d VMs ran at once on %d cores", most, runtime.NumCPU())
	}
	if waited == 0 {
		t.Error("nobody was told to wait")
	}
}
