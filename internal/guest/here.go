// SPDX-License-Identifier: MIT

package guest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

// A job on this machine's own kernel is done by three processes, all of them of
// this program, started as root:
//
//	guest here             leaves the machine's mount namespace, so that nothing that
//	                       is mounted from here on shows there, and becomes
//	guest here supervise   which has the lock, cleans up, before and after, and starts
//	guest here work        which is to the job what PID 1 is in a VM: in namespaces and
//	                       in a file system of its own
//
// The supervisor stays outside of the cgroup of the others: it outlives whatever
// happens in it. What it was doing when it was killed itself stands in a note, and
// the next one undoes it.
const (
	runDir   = "/run/netlink-labs"
	lockPath = runDir + "/lock"
	notePath = runDir + "/note"
	rootDir  = runDir + "/root" // where the worker puts its file system together

	hereCgroup = cgroupRoot + "/netlink-labs"
	jobCgroup  = "job" // in it, and in the worker's cgroupRoot
)

// cleanLimit is how long cleaning up may take. What nlecho was asked to do ends at
// once; the rest is the kernel's own work.
const cleanLimit = 30 * time.Second

// Here is the program guest here.
func Here(args []string) error {
	if os.Geteuid() != 0 {
		return errors.New("guest here loads modules and traces: it must be root")
	}
	switch {
	case len(args) == 0:
		return apart()
	case args[0] == "supervise":
		return supervise()
	case args[0] == "work":
		return workHere()
	}
	return fmt.Errorf("guest here takes no arguments, not %q", args)
}

// apart goes on in a mount namespace of its own.
func apart() error {
	runtime.LockOSThread() // exec keeps the namespace of this very thread
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	return unix.Exec("/proc/self/exe", []string{"guest", "here", "supervise"}, os.Environ())
}

// note is what has to be undone by whoever comes next, if the supervisor cannot.
type note struct {
	Modules []string `json:"modules"`
}

type supervisor struct {
	wire.Here
	w     *wire.Writer
	input *os.File // frames from the host, for the worker
	log   *kernelLog
}

// supervise does one job. It ends early, with nothing left behind, when its standard
// input ends or a signal tells it to.
func supervise() error {
	// Pdeathsig, of the worker, follows the thread that started it.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer stop()
	// There is much to do for us when the host has gone, and it may be seen first by
	// writing to it.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)

	in := bufio.NewReaderSize(os.Stdin, 64<<10)
	s := new(supervisor)
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s.Here)
	}
	if err != nil {
		return fmt.Errorf("the first line of the standard input: %w", err)
	}
	s.w = wire.NewWriter(os.Stdout, s.Nonce)
	if s.Version != wire.Version {
		return s.fault(fmt.Errorf("the host speaks version %d, the guest %d: run make again", s.Version, wire.Version))
	}
	fd, err := unix.MemfdCreate("initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return s.fault(fmt.Errorf("making room for the initramfs: %w", err))
	}
	archive := os.NewFile(uintptr(fd), "initramfs")
	if _, err := io.CopyN(archive, in, s.Size); err != nil {
		return s.fault(fmt.Errorf("reading the initramfs: %w", err))
	}
	if _, err := archive.Seek(0, io.SeekStart); err != nil {
		return s.fault(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return s.fault(err)
	}
	s.input = r
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	go func() {
		_, _ = io.Copy(w, in)
		w.Close()
		_, _ = io.Copy(io.Discard, in) // after the worker's end
		gone()
	}()
	return s.fault(s.job(ctx, archive))
}

// fault tells the host of an error.
func (s *supervisor) fault(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return s.w.Frame(wire.Fault, []byte(err.Error()))
}

// job waits for the lock, prepares the machine, does the job and cleans up.
func (s *supervisor) job(ctx context.Context, archive *os.File) (err error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, m := range []mount{traceMount, cgroupMount} {
		if err := m.on("/"); err != nil {
			return err
		}
	}
	if err := s.cleanOld(); err != nil {
		return fmt.Errorf("an earlier check was cut short, and what it left cannot be removed: %w", err)
	}
	loads, err := s.loads()
	if err != nil {
		return err
	}
	if s.log, err = openKernelLog(); err != nil {
		return err
	}
	defer s.log.close()
	b, _ := json.Marshal(note{loads})
	if err := os.WriteFile(notePath, b, 0o644); err != nil {
		return err
	}
	err = s.work(ctx, archive)
	if e := clean(loads); e != nil {
		err = errors.Join(err, fmt.Errorf("the check is over, and what it left cannot be removed: %w", e))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, e := s.w.Stream(wire.Console).Write(s.log.read())
	return errors.Join(err, e)
}

// lock waits until no other check is at work on this kernel, and says for whom.
func (s *supervisor) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(lockPath, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	told := ""
	for unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		// Who has just got the lock has not written who that is.
		b, _ := os.ReadFile(lockPath)
		if who := strings.TrimSpace(string(b)); who != "" && who != told {
			told = who
			if err := s.w.Frame(wire.Wait, []byte("one check at a time on this kernel: waiting for "+who)); err != nil {
				f.Close()
				return nil, err
			}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	who := fmt.Sprintf("%s (%s, since %s)\n", s.Task, cmp.Or(os.Getenv("SUDO_USER"), "root"), time.Now().Format("15:04:05"))
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(who), 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		_ = f.Truncate(0)
		f.Close()
	}, s.w.Frame(wire.Wait, nil)
}

// cleanOld removes what a supervisor has left that was killed.
func (s *supervisor) cleanOld() error {
	b, err := os.ReadFile(notePath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var n note
	if err == nil {
		_ = json.Unmarshal(b, &n) // empty, where it was killed while it wrote
	}
	if err == nil {
		err = clean(n.Modules)
	}
	return err
}

// loads returns the modules that the job will load. Those of the kernel itself may
// be there already; another nlecho would not be the one that belongs to the check.
func (s *supervisor) loads() (names []string, err error) {
	for _, m := range s.Modules {
		switch {
		case !ModuleLoaded(m.Name):
			names = append(names, m.Name)
		case !m.Stock:
			return nil, fmt.Errorf("the module %s is loaded, and not by a check: sudo rmmod %s", m.Name, m.Name)
		}
	}
	return names, nil
}

// work starts the worker and waits for its end, or for ctx's.
func (s *supervisor) work(ctx context.Context, archive *os.File) error {
	job := filepath.Join(hereCgroup, jobCgroup)
	if err := os.MkdirAll(job, 0o755); err != nil {
		return fmt.Errorf("a cgroup for the check: %w", err)
	}
	if err := delegate(cgroupRoot); err != nil {
		return err
	}
	if err := os.MkdirAll(rootDir, 0o755); err != nil {
		return err
	}
	cgroup, err := os.Open(job)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	cmd := exec.Command("/proc/self/exe", "here", "work")
	cmd.Env = []string{}
	var complaints bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.input, os.Stdout, &complaints
	cmd.ExtraFiles = []*os.File{archive}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:   unix.SIGKILL,
		UseCgroupFD: true, CgroupFD: int(cgroup.Fd()),
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the worker: %w", err)
	}
	s.input.Close()
	archive.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("%s (%w)", strings.TrimSpace(complaints.String()), err)
		}
		return nil
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-ended
		return ctx.Err()
	}
}

// delegate makes the controllers that confine the program available in the cgroups
// below dir. Where the machine has them not, they only limit less.
func delegate(dir string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, c := range []string{"pids", "memory"} {
		if !slices.Contains(strings.Fields(string(b)), c) {
			_ = os.WriteFile(file, []byte("+"+c), 0)
		}
	}
	return nil
}

// clean undoes all that a job has done to the machine.
func clean(modules []string) error {
	if err := endAll(hereCgroup, modules, 0, cleanLimit); err != nil {
		return err
	}
	if err := removeCgroup(hereCgroup); err != nil {
		return err
	}
	if err := trace.CleanUp("/sys/kernel/tracing", wire.Instance); err != nil {
		return err
	}
	for _, name := range slices.Backward(modules) {
		if err := unload(name); err != nil {
			return err
		}
	}
	_ = os.Remove(rootDir)
	return os.Remove(notePath)
}

// endAll kills all processes in the cgroups at and below dir but spare, and waits for
// their end. What a module keeps in the kernel is asked to come back.
func endAll(dir string, modules []string, spare int, limit time.Duration) error {
	end := time.Now().Add(limit)
	for {
		for _, m := range modules {
			_ = os.WriteFile("/sys/module/"+kernelName(m)+"/parameters/stop", []byte("1"), 0)
		}
		var left []int
		for _, d := range cgroups(dir) {
			c := confined{cgroup: d}
			tasks := c.tasks()
			if i := slices.Index(tasks, spare); i >= 0 {
				tasks = slices.Delete(tasks, i, i+1)
				for _, pid := range tasks {
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			} else if len(tasks) > 0 {
				c.killOnce()
			}
			left = append(left, tasks...)
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the processes %v do not end", left)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// cgroups returns dir and the cgroups below it, the inner ones first.
func cgroups(dir string) []string {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs)
	return dirs
}

func removeCgroup(dir string) error {
	for _, d := range cgroups(dir) {
		for end := time.Now().Add(cleanLimit); ; time.Sleep(time.Millisecond) {
			err := os.Remove(d)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				break
			}
			if time.Now().After(end) {
				return err
			}
		}
	}
	return nil
}

// unload removes a module. The last of its users may be on their way out: a network
// namespace goes some time after its last process.
func unload(name string) error {
	for end := time.Now().Add(cleanLimit / 3); ; time.Sleep(5 * time.Millisecond) {
		err := unix.DeleteModule(kernelName(name), unix.O_NONBLOCK)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case time.Now().After(end):
			return fmt.Errorf("unloading the module %s: %w%s", name, err, users(name))
		}
	}
}

// users says what uses a module that cannot be unloaded.
func users(name string) string {
	b, err := os.ReadFile("/sys/module/" + kernelName(name) + "/refcnt")
	if err != nil {
		return ""
	}
	return fmt.Sprintf("; it has %s users. A program outside of the check has a socket of its protocol: cat /proc/net/netlink", strings.TrimSpace(string(b)))
}

// kernelName is how the kernel writes a module's name.
func kernelName(name string) string { return strings.ReplaceAll(name, "-", "_") }
