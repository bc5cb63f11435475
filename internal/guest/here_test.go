// SPDX-License-Identifier: MIT

package guest_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/guest"
	"netlinklabs/internal/initramfs"
	"netlinklabs/internal/place"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// The kernel of the throw-away VM is the machine on whose own kernel the jobs of these
// tests run. A job is this very test binary, with the name of one of hereJobs.

const (
	hereJob = "HERE_JOB"
	inPlace = "/job/test" // this binary
)

var hereJobs = map[string]func() error{
	"look":  look,
	"trace": traced,
	"leave": func() error { // a process and a file
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), hereJob+"=sleep")
		fmt.Println("left")
		return errors.Join(cmd.Start(), os.WriteFile(wire.OutDir+"/left", []byte("a file"), 0o644))
	},
	"trace and sleep": func() error { return errors.Join(traced(), unix.Pause()) },
	"sleep":           unix.Pause,
	"exit 3": func() error {
		fmt.Fprintln(os.Stderr, "to the standard error")
		os.Exit(3)
		return nil
	},
	"echo": func() error {
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	},
	"terminal": func() error {
		size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err == nil {
			fmt.Println("a terminal of", size.Row, "rows")
		}
		return err
	},
	"held": func() error {
		if err := os.WriteFile(parameters+"hold", []byte("1"), 0); err != nil {
			return err
		}
		return send(1)
	},
	"delayed": func() error {
		if err := os.WriteFile(parameters+"delay_ms", []byte("3600000"), 0); err != nil {
			return err
		}
		return send(1)
	},
	"deferred": func() error {
		if err := errors.Join(os.WriteFile(parameters+"delay_ms", []byte("3600000"), 0), os.WriteFile(parameters+"defer", []byte("1"), 0)); err != nil {
			return err
		}
		return errors.Join(send(1), unix.Pause())
	},
	// Not so loud that the VM's own console has it.
	"complain": func() error { return os.WriteFile("/dev/kmsg", []byte("<6>WARNING: as if\n"), 0) },
}

const parameters = "/sys/module/nlecho/parameters/"

// send sends nlecho a message whose header has this port ID. It returns when the
// kernel's callback has.
func send(header uint32) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 25)
	if err != nil {
		return err
	}
	fmt.Println("sending")
	b := binary.NativeEndian.AppendUint32(nil, 16)
	b = append(b, make([]byte, 8)...)
	b = binary.NativeEndian.AppendUint32(b, header)
	return unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// look tells of the place what a job could stumble over.
func look() error {
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	depth, err := os.ReadFile(parameters + "max_depth")
	if err != nil {
		return err
	}
	root, err := filepath.Glob("/[^l]*") // libraries are where they are on the machine of the tests
	if err != nil {
		return err
	}
	dev, err := filepath.Glob("/dev/*")
	if err != nil {
		return err
	}
	mine, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	machine, err := os.Readlink("/proc/1/ns/net")
	if err != nil {
		return err
	}
	wd, err := os.Getwd()
	fmt.Printf("uid %d, in %s, own network %t\n", os.Getuid(), wd, mine != machine)
	fmt.Printf("cgroup %smax_depth %s", cgroup, depth)
	fmt.Println(strings.Join(root, " "))
	fmt.Println(strings.Join(dev, " "))
	return err
}

// traced is a check in small.
func traced() error {
	c, err := trace.Start(trace.Config{Instance: wire.Instance})
	if err != nil {
		return err
	}
	if err := send(1); err != nil {
		return err
	}
	tr, err := c.Trace()
	if err != nil {
		return err
	}
	fmt.Println(len(tr.Events().Named(trace.EchoInput)), "message", len(tr.Events().Named(trace.EchoReply)), "replies")
	return nil // without Close: what is left is the supervisor's affair
}

// here is a machine on whose kernel jobs run.
type here struct {
	module []byte
	guest  string
}

// onThisKernel makes the VM such a machine: the module that the tests of this package
// find loaded is for the time of this test not.
func onThisKernel(t *testing.T) *here {
	t.Helper()
	inVM(t)
	path := os.Getenv(wire.EnvModule + "nlecho")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err, ": lab exec -module nlecho")
	}
	if err := unix.DeleteModule("nlecho", unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	h := &here{b, os.Getenv(wire.EnvGuest)}
	t.Cleanup(func() {
		h.clean(t)
		if err := guest.LoadModule(path, ""); err != nil {
			t.Error(err)
		}
	})
	return h
}

// clean fails the test for everything that a job has left.
func (h *here) clean(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"/run/netlink-labs/[^l]*", "/sys/fs/cgroup/netlink*", "/sys/kernel/tracing/instances/*", "/sys/module/nlecho"} {
		if left, _ := filepath.Glob(pattern); left != nil {
			t.Errorf("left: %v", left)
		}
	}
	// Probes of the tests of other packages are in their own VM.
	if left, _ := filepath.Glob("/sys/kernel/tracing/events/nll"); left != nil {
		t.Errorf("left: %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || bytes.Contains(mounts, []byte("netlink-labs")) {
		t.Errorf("left mounts: %s, %v", mounts, err)
	}
	if pids := processes("here"); len(pids) > 0 {
		t.Errorf("left processes: %v", pids)
	}
}

// processes returns those of the guest program that do this part of the work.
func processes(args ...string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		words := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		if len(words) > len(args) && slices.Equal(words[1:len(args)+1], args) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// hereRun is a job under way.
type hereRun struct {
	mu   sync.Mutex
	b    bytes.Buffer
	said []string
	hint chan struct{} // something new
	in   *wire.Writer
	res  *vm.Result
	err  error
	done chan struct{}
}

func (r *hereRun) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.news()
	return r.b.Write(b)
}

func (r *hereRun) news() {
	select {
	case r.hint <- struct{}{}:
	default:
	}
}

// wait waits until the job has printed that, or the place has said it.
func (r *hereRun) wait(t *testing.T, text string) {
	t.Helper()
	for {
		r.mu.Lock()
		found := strings.Contains(r.b.String(), text) || strings.Contains(strings.Join(r.said, "\n"), text)
		r.mu.Unlock()
		if found {
			return
		}
		select {
		case <-r.hint:
		case <-r.done:
			t.Fatalf("it is over without %q: %+v, %v\n%s%v", text, r.res, r.err, &r.b, r.said)
		case <-time.After(time.Minute):
			t.Fatalf("no %q within a minute; processes %v; %s%v", text, processes("here"), &r.b, r.said)
		}
	}
}

// start starts a job; change may be nil.
func (h *here) start(ctx context.Context, t *testing.T, name string, change func(*place.Job)) *hereRun {
	r := &hereRun{hint: make(chan struct{}, 1), done: make(chan struct{})}
	p := &place.Here{Guest: h.guest, Task: "the job " + name, Say: func(s string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.said = append(r.said, s)
		r.news()
	}}
	j := &place.Job{
		Argv: []string{inPlace}, Dir: "/job", Env: []string{hereJob + "=" + name},
		Files:   func(w *initramfs.Writer) { w.Program(inPlace, os.Args[0]) },
		Modules: []place.Module{{Name: "nlecho", Data: h.module, Params: "delay_ms=0 replies=2"}},
		Stdout:  r, Stderr: r, Ready: func(w *wire.Writer) { r.in = w },
	}
	if change != nil {
		change(j)
	}
	go func() {
		defer close(r.done)
		r.res, r.err = p.Run(ctx, j)
	}()
	t.Cleanup(func() { <-r.done })
	return r
}

func (h *here) run(t *testing.T, name string, change func(*place.Job)) *hereRun {
	t.Helper()
	r := h.start(t.Context(), t, name, change)
	<-r.done
	return r
}

// passes runs a job that needs everything, and finds nothing left.
func (h *here) passes(t *testing.T) {
	t.Helper()
	r := h.run(t, "trace", nil)
	if r.err != nil || r.res.Verdict != vm.Done || r.res.Status.Code != 0 || r.b.String() != "sending\n1 message 2 replies\n" {
		t.Fatalf("got %+v, %v\n%s", r.res, r.err, &r.b)
	}
	h.clean(t)
}

func TestHere(t *testing.T) {
	h := onThisKernel(t)
	h.passes(t)

	r := h.run(t, "look", nil)
	want := "uid 0, in /job, own network true\ncgroup 0::/netlink-labs/job\nmax_depth 8\n/dev /init /job /out /proc /sys /tmp\n" +
		"/dev/fd /dev/full /dev/kmsg /dev/null /dev/ptmx /dev/random /dev/stderr /dev/stdin /dev/stdout /dev/tty /dev/urandom /dev/zero\n"
	if r.err != nil || r.b.String() != want {
		t.Errorf("%v: the place is\n%swant\n%s", r.err, &r.b, want)
	}
	if r.res.Where != "here" || r.res.Accel != "" || r.res.Release == "" || r.res.Total <= 0 {
		t.Errorf("result %+v", r.res)
	}

	if r = h.run(t, "exit 3", nil); r.err != nil || r.res.Verdict != vm.Done || r.res.Status.Code != 3 || r.b.String() != "to the standard error\n" {
		t.Errorf("exit 3: %+v, %v\n%s", r.res, r.err, &r.b)
	}

	out := t.TempDir()
	if r = h.run(t, "leave", func(j *place.Job) { j.Out = out }); r.err != nil || r.res.Verdict != vm.Done || r.res.Status.Code != 0 {
		t.Errorf("leave: %+v, %v\n%s", r.res, r.err, &r.b)
	}
	if b, err := os.ReadFile(out + "/left"); string(b) != "a file" {
		t.Errorf("the file: %q, %v", b, err)
	}
	h.clean(t)

	if r = h.run(t, "complain", nil); r.err != nil || r.res.Verdict != vm.Dirty || r.res.Detail != "WARNING: as if" {
		t.Errorf("a complaint of the kernel: %+v, %v", r.res, r.err)
	}
	if r = h.run(t, "look", nil); r.err != nil || r.res.Verdict != vm.Done {
		t.Errorf("after a complaint: %+v, %v", r.res, r.err)
	}
}

func TestHereInput(t *testing.T) {
	h := onThisKernel(t)
	r := h.start(t.Context(), t, "echo", func(j *place.Job) {
		ready := j.Ready
		j.Ready = func(w *wire.Writer) {
			ready(w)
			_ = w.Frame(wire.Stdin, []byte("some input\n"))
			_ = w.Frame(wire.Stdin, nil)
		}
	})
	if <-r.done; r.err != nil || r.b.String() != "some input\n" {
		t.Errorf("%v: %q", r.err, r.b.String())
	}
}

func TestHereTerminal(t *testing.T) {
	h := onThisKernel(t)
	r := h.run(t, "terminal", func(j *place.Job) { j.Terminal, j.Rows, j.Cols = true, 24, 80 })
	if r.err != nil || r.b.String() != "a terminal of 24 rows\r\n" {
		t.Errorf("%+v, %v: %q", r.res, r.err, r.b.String())
	}
}

// What the confinement keeps from a program in a VM, it keeps from it here.
func TestHereConfines(t *testing.T) {
	h := onThisKernel(t)
	r := h.run(t, "", func(j *place.Job) {
		j.Argv = []string{inPlace, "-test.v", "-test.run=^(TestConfinement.*|TestNothingIsLeftOfAProgram|TestUnknownCapability)$"}
		j.Limit = 5 * time.Minute
	})
	if out := r.b.String(); r.err != nil || r.res.Verdict != vm.Done || r.res.Status.Code != 0 || strings.Contains(out, "SKIP") || !strings.Contains(out, "--- PASS: TestNothingIsLeft") {
		t.Errorf("%+v, %v\n%s", r.res, r.err, out)
	}
}

// A program that would be the end of the kernel is told so, and is not.
func TestHereGuard(t *testing.T) {
	h := onThisKernel(t)
	var reject trace.Event
	r := h.run(t, "", func(j *place.Job) {
		j.Argv = []string{wire.GuestPath, "run"}
		j.Modules[0].Params += " reply_to=header max_depth=0" // the last one counts
		j.Lab = &wire.Lab{Program: wire.ProgramPath, Args: []string{"deadly"}, Boot: "check", Boots: []string{"check"}}
		j.Files = func(w *initramfs.Writer) { w.Program(wire.ProgramPath, os.Args[0]) }
		j.Record = func(rec wire.Record) {
			var e trace.Event
			if rec.Kind == wire.KindEvent && json.Unmarshal(rec.Event, &e) == nil && e.Name == trace.EchoReject {
				reject = e
			}
		}
	})
	if r.err != nil || r.res.Verdict != vm.Panicked || !strings.Contains(r.res.Detail, "would have crashed the kernel") {
		t.Errorf("%+v, %v\n%s", r.res, r.err, &r.b)
	}
	if reject.Int("reason") != trace.RejectedDeep {
		t.Errorf("the rejection is %v", reject)
	}
	h.passes(t)
}

func TestHereModuleOfAnother(t *testing.T) {
	h := onThisKernel(t)
	if err := guest.LoadModule(os.Getenv(wire.EnvModule+"nlecho"), "replies=7"); err != nil {
		t.Fatal(err)
	}
	r := h.run(t, "look", nil)
	if want := "the module nlecho is loaded, and not by a check: sudo rmmod nlecho"; r.res != nil || r.err == nil || r.err.Error() != want {
		t.Errorf("got %+v, %v; want %s", r.res, r.err, want)
	}
	if b, err := os.ReadFile(parameters + "replies"); string(b) != "7\n" {
		t.Errorf("the module of another: %q, %v", b, err)
	}
	// One that comes with the kernel may be there already.
	r = h.run(t, "exit 3", func(j *place.Job) { j.Modules[0].Stock = true })
	if r.err != nil || r.res.Status.Code != 3 || !guest.ModuleLoaded("nlecho") {
		t.Errorf("a module of the kernel: %+v, %v", r.res, r.err)
	}
	if err := unix.DeleteModule("nlecho", unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	h.passes(t)
}

func TestHereTwoAtOnce(t *testing.T) {
	h := onThisKernel(t)
	input := func(j *place.Job) {}
	first := h.start(t.Context(), t, "echo", input)
	for len(processes("here", "work")) == 0 {
		time.Sleep(time.Millisecond)
	}
	second := h.start(t.Context(), t, "trace", nil)
	second.wait(t, "one check at a time on this kernel: waiting for the job echo (root, since ")
	ctx, cancel := context.WithCancel(t.Context())
	third := h.start(ctx, t, "trace", nil)
	third.wait(t, "waiting for the job echo")
	cancel()
	if <-third.done; !errors.Is(third.err, context.Canceled) {
		t.Errorf("the third, interrupted while it waits: %v", third.err)
	}
	select {
	case <-second.done:
		t.Fatalf("the second did not wait: %+v, %v", second.res, second.err)
	default:
	}
	if err := first.in.Frame(wire.Stdin, nil); err != nil {
		t.Error(err)
	}
	for _, r := range []*hereRun{first, second} {
		if <-r.done; r.err != nil || r.res.Verdict != vm.Done || r.res.Status.Code != 0 {
			t.Errorf("%+v, %v\n%s", r.res, r.err, &r.b)
		}
	}
	h.clean(t)
}

// stages are moments of a job at which something happens to it.
var stages = []struct {
	name, job string
	at        func(*testing.T, *hereRun)
}{
	{"at once", "sleep", func(*testing.T, *hereRun) {}},
	{"supervising", "sleep", func(*testing.T, *hereRun) { await("here", "supervise") }},
	{"working", "sleep", func(*testing.T, *hereRun) { await("here", "work") }},
	{"module loaded", "sleep", func(*testing.T, *hereRun) {
		for !guest.ModuleLoaded("nlecho") {
			time.Sleep(time.Millisecond)
		}
	}},
	{"held in the kernel", "held", sending},
	{"an hour's pause in the kernel", "delayed", sending},
	{"an hour's pause in a workqueue", "deferred", sending},
	{"traced", "trace and sleep", sending},
}

func sending(t *testing.T, r *hereRun) { t.Helper(); r.wait(t, "sending\n") }

func await(args ...string) {
	for end := time.Now().Add(time.Minute); len(processes(args...)) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

func TestHereInterrupted(t *testing.T) {
	h := onThisKernel(t)
	for _, s := range stages {
		t.Run(s.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			r := h.start(ctx, t, s.job, nil)
			s.at(t, r)
			cancel()
			if <-r.done; !errors.Is(r.err, context.Canceled) {
				t.Errorf("%+v, %v\n%s", r.res, r.err, &r.b)
			}
			h.clean(t)
		})
	}
	h.passes(t)
}

// What a killed supervisor leaves, the next one removes.
func TestHereKilled(t *testing.T) {
	h := onThisKernel(t)
	for _, who := range []string{"supervise", "work"} {
		for _, s := range stages[2:] {
			t.Run(who+", "+s.name, func(t *testing.T) {
				r := h.start(t.Context(), t, s.job, nil)
				s.at(t, r)
				for _, pid := range processes("here", who) {
					if err := unix.Kill(pid, unix.SIGKILL); err != nil {
						t.Error(err)
					}
				}
				if <-r.done; r.err == nil && !r.res.Verdict.Environment() {
					t.Errorf("%+v\n%s", r.res, &r.b)
				}
				if who == "supervise" { // what is the worker's, its supervisor has removed
					if r := h.run(t, "exit 3", nil); r.err != nil || r.res.Status.Code != 3 {
						t.Errorf("the next job: %+v, %v", r.res, r.err)
					}
				}
				h.clean(t)
			})
		}
	}
	h.passes(t)
}

// When the host's program is killed, nobody is there to hear how it went on.
func TestHereHostKilled(t *testing.T) {
	h := onThisKernel(t)
	for _, s := range stages[1:] {
		t.Run(s.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "HERE_HOST="+s.job)
			out := &hereRun{hint: make(chan struct{}, 1), done: make(chan struct{})}
			cmd.Stdout, cmd.Stderr = out, out
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			s.at(t, out)
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait()
			for end := time.Now().Add(time.Minute); len(processes("here")) > 0 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			h.clean(t)
		})
	}
	h.passes(t)
}

// hostHere is the program that is killed.
func hostHere(name string) {
	b, err := os.ReadFile(os.Getenv(wire.EnvModule + "nlecho"))
	if err != nil {
		panic(err)
	}
	p := &place.Here{Guest: os.Getenv(wire.EnvGuest)}
	fmt.Println(p.Run(context.Background(), &place.Job{Argv: []string{inPlace}, Env: []string{hereJob + "=" + name},
		Files:   func(w *initramfs.Writer) { w.Program(inPlace, os.Args[0]) },
		Modules: []place.Module{{Name: "nlecho", Data: b}}, Stdout: os.Stdout, Stderr: os.Stderr}))
}

// Somebody on the machine has a socket of the module's protocol when it is to go.
func TestHereModuleInUse(t *testing.T) {
	h := onThisKernel(t)
	r := h.start(t.Context(), t, "echo", nil)
	for !guest.ModuleLoaded("nlecho") {
		time.Sleep(time.Millisecond)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 25)
	if err != nil {
		t.Fatal(err)
	}
	for r.in == nil {
		time.Sleep(time.Millisecond)
	}
	_ = r.in.Frame(wire.Stdin, nil)
	if <-r.done; r.err != nil || r.res.Verdict != vm.Faulted || !strings.Contains(r.res.Detail, "unloading the module nlecho: ") || !strings.Contains(r.res.Detail, "it has 1 users") {
		t.Errorf("%+v, %v", r.res, r.err)
	}
	unix.Close(fd)
	h.passes(t)
}

func TestHereRefuses(t *testing.T) {
	inVM(t)
	program := os.Getenv(wire.EnvGuest)
	if b, err := os.ReadFile(program); err != nil { // root's only, where it is PID 1
		t.Fatal(err)
	} else if program = filepath.Join(t.TempDir(), "guest"); os.WriteFile(program, b, 0o755) != nil || os.Chmod(filepath.Dir(filepath.Dir(program)), 0o755) != nil || os.Chmod(filepath.Dir(program), 0o755) != nil {
		t.Fatal("no copy of the guest program")
	}
	user := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	for _, c := range []struct {
		in, want string
		args     []string
		attr     *syscall.SysProcAttr
	}{
		{in: "", args: []string{"here"}, attr: user, want: "must be root"},
		{in: "", args: []string{"here"}, want: "the first line of the standard input: EOF"},
		{in: "hello\n", args: []string{"here"}, want: "the first line of the standard input: invalid character"},
		{in: `{"version":99}` + "\n", args: []string{"here"}, want: "the host speaks version 99, the guest 2: run make again"},
		{in: `{"version":2,"size":10}` + "\nhalf", args: []string{"here"}, want: "reading the initramfs: EOF"},
		{in: "", args: []string{"here", "there"}, want: `guest here takes no arguments, not ["there"]`},
	} {
		cmd := exec.Command(program, c.args...)
		cmd.Stdin, cmd.SysProcAttr = strings.NewReader(c.in), c.attr
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%q: %q, want %s", c.in, out, c.want)
		}
	}
}
