// SPDX-License-Identifier: MIT

// Package vm boots a throw-away virtual machine with QEMU, carries the frames of
// its job to the caller, and says how it ended. QEMU runs unprivileged, without
// a network, in its own seccomp sandbox, and dies with the process that started
// it. Nothing is written to disk: initramfs, console and result channel are
// descriptors that QEMU inherits.
package vm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/wire"
)

// Verdict says how a VM ended.
type Verdict int

// The verdicts. Only Done carries the job's own exit status.
const (
	Done     Verdict = iota // the job ended, the guest switched itself off
	Panicked                // the kernel panicked, or PID 1 died
	Dirty                   // the job ended, but the kernel complained on its console
	Hung                    // the first word came, then the deadline passed
	Flooded                 // the job printed more than the limit
	NoBoot                  // the first word did not come in time
	Ended                   // QEMU ended by itself, by a signal or with an error
	Faulted                 // the guest said that it could not do the job
	Unheard                 // the guest switched itself off without a whole result
)

var verdictNames = [...]string{"done", "kernel panic", "kernel complaint", "hang", "too much output",
	"no boot", "QEMU ended", "guest fault", "no result"}

func (v Verdict) String() string { return verdictNames[v] }

// Environment tells whether the verdict blames the place rather than the job.
func (v Verdict) Environment() bool { return v >= NoBoot }

// Limits, far from what any job needs.
const maxConsole = 1 << 20 // bytes of the console that are kept

var maxOutput = 16 << 20 // bytes of the job's output and records; tests take less

// Machine is a VM to be booted. The zero values of optional fields are sensible.
type Machine struct {
	QEMU string // path of the QEMU system emulator
	CPU  string // -cpu under TCG
	// Args are the arguments that differ by architecture: -machine, and the serial
	// ports of the chardevs "console" and "res".
	Args   []string
	Kernel string   // path of the kernel image
	Initrd *os.File // the initramfs, of any kind that can be opened by /proc/self/fd
	Nonce  wire.Nonce
	// Console and Extra kernel parameters, in kernel syntax.
	Append string
	Memory int // MiB; 0 means 256
	// Accel is "kvm", "tcg" or "auto" (also ""): KVM where it boots, else TCG.
	Accel string
	// KVM is the device to ask; "" means /dev/kvm.
	KVM string
	// State is a folder for what is remembered between runs, and for the slots.
	State string
	// Slots is how many VMs may run at once; 0 means one for each core.
	Slots int
	// Limit is the time for the job under TCG on an idle machine. It is stretched
	// when the boot was slow. 0 means 2 minutes.
	Limit time.Duration
	// FirstWord is the time for a boot under TCG; 0 means 30 s, stretched by the
	// machine's load.
	FirstWord time.Duration
	// Frame is called for each frame, one at a time.
	Frame func(wire.Type, []byte)
	// Ready is called once, after the first word, with a writer to the guest.
	Ready func(*wire.Writer)
	// Console gets the console as it comes, when not nil.
	Console io.Writer
	// Say gets what the user may want to know: waiting, falling back.
	Say func(string)
}

// Result is what is known of a VM after its end.
type Result struct {
	Verdict Verdict
	Status  wire.Status // of the job; meaningful for Done, Dirty
	Where   string      // "vm", or "here" for this machine's kernel
	Release string      // the guest's kernel
	Accel   string      // "kvm" or "tcg"
	Why     string      // why this accelerator, when it was not asked for by name
	Console []byte      // the console's log, its middle cut when it is very long
	Excerpt []string    // the lines of the console that explain the verdict
	Detail  string      // one line more on the verdict
	Boot    time.Duration
	Total   time.Duration
	CPU     time.Duration // of QEMU: steadier than the time on a busy machine
	MaxRSS  int64         // bytes of QEMU's largest resident set
}

// Run boots the machine and waits for its end. The error is for a VM that could
// not be started at all; whatever a started VM did is in the Result. When ctx
// ends, the VM is killed and ctx's error returned.
func Run(ctx context.Context, m Machine) (*Result, error) {
	if m.Memory == 0 {
		m.Memory = 256
	}
	if m.Limit == 0 {
		m.Limit = 2 * time.Minute
	}
	if m.FirstWord == 0 {
		m.FirstWord = 30 * time.Second
	}
	if m.Slots == 0 {
		m.Slots = runtime.NumCPU()
	}
	if m.KVM == "" {
		m.KVM = "/dev/kvm"
	}
	if m.Say == nil {
		m.Say = func(string) {}
	}
	if err := m.checkVersion(ctx); err != nil {
		return nil, err
	}
	release, err := acquireSlot(ctx, m.State, m.Slots, m.Say)
	if err != nil {
		return nil, err
	}
	defer release()
	accel, why := m.accelerator()
	r, err := m.boot(ctx, accel)
	if err != nil {
		return nil, err
	}
	if accel == "kvm" && m.Accel != "kvm" {
		// Once the first word has come KVM works, and the job may have done things
		// that must not be done twice.
		if r.Boot == 0 && r.Verdict.Environment() {
			why = "KVM does not boot a VM here: " + r.Detail
			m.Say(why + "; using emulation (tcg) from now on")
			m.remember("tcg", why)
			accel = "tcg"
			if r, err = m.boot(ctx, accel); err != nil {
				return nil, err
			}
		} else {
			m.remember("kvm", "")
		}
	}
	r.Why = why
	return r, nil
}

// running is one QEMU process and what has been heard of it.
type running struct {
	m      *Machine
	accel  string
	mu     sync.Mutex
	began  time.Time // when it need not wait any longer, if it had to
	hello  time.Time
	status *wire.Status
	fault  string
	output int
	flood  bool
	broken error
	log    console
	reason string // of QMP's SHUTDOWN event
	first  chan struct{}
	excess chan struct{}
	qmp    *qmp
}

func (m *Machine) boot(ctx context.Context, accel string) (*Result, error) {
	run := &running{m: m, accel: accel, first: make(chan struct{}), excess: make(chan struct{})}
	run.log.live = m.Console
	start := time.Now()

	var ours [3]net.Conn
	theirs := []*os.File{m.Initrd}
	defer func() {
		for _, f := range theirs[1:] {
			f.Close()
		}
	}()
	for i := range ours {
		c, f, err := socketpair()
		if err != nil {
			return nil, err
		}
		defer c.Close()
		ours[i] = c
		theirs = append(theirs, f)
	}
	cmd := exec.Command(m.QEMU, m.arguments(accel)...)
	cmd.ExtraFiles = theirs
	var complaints tail
	cmd.Stdout, cmd.Stderr = &complaints, &complaints
	// A process group of its own: Ctrl-C at the terminal is for us, and we end QEMU.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp")
	cmd.WaitDelay = time.Second // for what it may have started, see end
	exited := make(chan error, 1)
	started := make(chan error)
	go func() {
		// Pdeathsig follows the thread that forked: it must live as long as QEMU.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	for _, f := range theirs[1:] {
		f.Close()
	}
	theirs = theirs[:1]

	var readers sync.WaitGroup
	run.qmp = newQMP(ours[2])
	readers.Go(func() { run.log.read(ours[0]) })
	readers.Go(func() { run.frames(ours[1]) })
	readers.Go(func() { run.qmp.read(func(reason string) { run.set(func() { run.reason = reason }) }) })

	verdict, err := run.wait(ctx, cmd.Process.Pid, exited)
	// QEMU's ends are closed, but what a script in its place has started may hold
	// copies. The readers still get all that was sent, and then the end of file.
	for _, c := range ours {
		_ = c.(*net.UnixConn).CloseRead()
	}
	readers.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r := run.judge(verdict, err, complaints.String())
	r.Where = "vm"
	r.Total = time.Since(start)
	if !run.hello.IsZero() {
		r.Boot = run.hello.Sub(start)
	}
	r.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.MaxRSS = ru.Maxrss << 10
	}
	return r, nil
}

// wait waits until QEMU has exited, and makes it exit when it is time.
func (run *running) wait(ctx context.Context, pid int, exited chan error) (Verdict, error) {
	// QEMU may be a script that starts the real one: the group ends as a whole.
	kill := func() { _ = unix.Kill(-pid, unix.SIGKILL) }
	start := time.Now()
	firstWord := run.m.FirstWord
	if run.accel == "kvm" {
		firstWord /= 5
	}
	limit := time.NewTimer(stretch(firstWord))
	defer limit.Stop()
	verdict := Done
	first := run.first
	for {
		select {
		case err := <-exited:
			return verdict, err
		case <-ctx.Done():
			kill()
			return verdict, <-exited
		case <-first:
			first = nil
			limit.Reset(run.m.jobLimit(time.Since(start)))
		case <-run.excess:
			kill()
			return Flooded, <-exited
		case <-limit.C:
			if first != nil {
				kill()
				return NoBoot, <-exited
			}
			if verdict == Hung { // the NMI was not answered either
				kill()
				return Hung, <-exited
			}
			verdict = Hung
			run.qmp.send("inject-nmi")
			limit.Reset(stretch(5 * time.Second))
		}
	}
}

// jobLimit stretches the job's limit by how much slower than usual the boot was.
func (m *Machine) jobLimit(boot time.Duration) time.Duration {
	const usual = time.Second
	return time.Duration(float64(m.Limit) * max(1, boot.Seconds()/usual.Seconds()))
}

// stretch lengthens a limit by the load of the machine.
func stretch(d time.Duration) time.Duration {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return d
	}
	load, _, _ := strings.Cut(string(b), " ")
	l, err := strconv.ParseFloat(load, 64)
	if err != nil {
		return d
	}
	return time.Duration(float64(d) * max(1, l/float64(runtime.NumCPU())))
}

func (run *running) set(f func()) {
	run.mu.Lock()
	defer run.mu.Unlock()
	f()
}

// frames reads the result channel to its end.
func (run *running) frames(c net.Conn) {
	r := wire.NewReader(c, run.m.Nonce)
	for {
		t, b, err := r.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				run.set(func() { run.broken = err })
			}
			// Whatever still comes is read and dropped: a full socket would block QEMU.
			_, _ = io.Copy(io.Discard, c)
			return
		}
		switch t {
		case wire.Hello:
			if run.hello.IsZero() {
				run.hello = time.Now()
				var g wire.Greeting
				_ = json.Unmarshal(b, &g)
				run.set(func() { run.log.release = g.Release })
				close(run.first)
				if run.m.Ready != nil {
					run.m.Ready(wire.NewWriter(c, run.m.Nonce))
				}
			}
		case wire.Wait:
			if len(b) == 0 {
				run.began = time.Now()
			} else {
				run.m.Say(string(b))
			}
		case wire.Console:
			run.log.add(b)
		case wire.Fault:
			run.set(func() { run.fault = string(b) })
		case wire.Exit:
			st := new(wire.Status)
			if err := json.Unmarshal(b, st); err == nil {
				run.set(func() { run.status = st })
			}
		default:
			run.output += len(b)
			if run.output > maxOutput {
				if !run.flood {
					run.flood = true
					close(run.excess)
				}
				continue
			}
			if run.m.Frame != nil {
				run.m.Frame(t, b)
			}
		}
	}
}

// judge turns what was seen into a Result: the verdict table of docs/design.md.
func (run *running) judge(v Verdict, exit error, complaints string) *Result {
	run.mu.Lock()
	defer run.mu.Unlock()
	r := &Result{Verdict: v, Accel: run.accel, Release: run.log.release, Console: run.log.bytes()}
	if run.status != nil {
		r.Status = *run.status
	}
	panicked := run.reason == "guest-panic" || run.reason == "guest-reset"
	oops := run.log.complaints()
	switch {
	case v == Flooded || run.flood:
		r.Verdict = Flooded // however it ended: some of the output is lost
		r.Detail = fmt.Sprintf("the job printed more than %d MiB and was ended", maxOutput>>20)
	case v == Hung:
		r.Detail = "the deadline passed"
		r.Excerpt = oops
	case v == NoBoot:
		r.Detail = "the kernel gave no sign of life"
		r.Excerpt = run.log.last(12)
	case panicked && run.hello.IsZero():
		r.Verdict, r.Detail = NoBoot, "the kernel died while it booted, without a word"
		if l := run.log.panicLine(); l != "" {
			r.Detail = "the kernel died while it booted: " + l
		}
		if r.Excerpt = oops; len(oops) == 0 {
			r.Excerpt = run.log.last(12)
		}
	case panicked:
		r.Verdict, r.Detail = Panicked, cmp.Or(run.log.panicLine(), "the kernel died without a word")
		r.Excerpt = oops
	case run.reason != "guest-shutdown":
		r.Verdict, r.Detail = Ended, "by itself, without an error"
		if exit != nil {
			r.Detail = exit.Error()
		}
		if c := strings.TrimSpace(complaints); c != "" {
			r.Detail += ": " + c
		}
		r.Excerpt = run.log.last(12)
	case run.fault != "":
		r.Verdict, r.Detail = Faulted, run.fault
	case run.status == nil && run.broken != nil:
		r.Verdict, r.Detail = Unheard, run.broken.Error()
	case run.status == nil:
		r.Verdict, r.Detail = Unheard, "the guest switched itself off without a result"
		r.Excerpt = run.log.last(12)
	case len(oops) > 0:
		r.Verdict, r.Detail = Dirty, oops[0]
		r.Excerpt = oops
	}
	return r
}

// socketpair returns a connection for us and a file for QEMU.
func socketpair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fds[0]), "vm")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	return c, os.NewFile(uintptr(fds[1]), "vm"), nil
}

// arguments are QEMU's. Descriptor 3 is the initramfs, then console, result, QMP.
func (m *Machine) arguments(accel string) []string {
	cpu := m.CPU
	if accel == "kvm" {
		cpu = "host"
	}
	args := []string{"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-accel", accel, "-cpu", cpu, "-smp", "1", "-m", strconv.Itoa(m.Memory) + "M",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-kernel", m.Kernel, "-initrd", "/proc/self/fd/3", "-append", m.Append,
		"-chardev", "socket,id=console,fd=4", "-chardev", "socket,id=res,fd=5",
		"-chardev", "socket,id=qmp,fd=6", "-mon", "chardev=qmp,mode=control"}
	return append(args, m.Args...)
}
