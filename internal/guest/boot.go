// SPDX-License-Identifier: MIT

// Package guest does what the place of a check must do, whether that place is a
// throw-away VM or a machine set aside for the labs: mount what is missing, load
// modules, confine the program under test and clean up after it.
package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/wire"
)

// Boot is PID 1: it sets the VM up, does the job that the host put into the
// initramfs, reports, and switches the machine off. It never returns.
func Boot() {
	if err := boot(); err != nil {
		// Without a result channel the console is the only place left to say it.
		fmt.Fprintln(os.Stderr, "netlink-labs: guest:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func boot() error {
	booted := monotonic() // since the kernel began
	if err := mountAll(); err != nil {
		return err
	}
	if err := slacken(); err != nil {
		return err
	}
	b, err := os.ReadFile(wire.JobPath)
	if err != nil {
		return err
	}
	var job wire.Job
	if err := json.Unmarshal(b, &job); err != nil {
		return fmt.Errorf("%s: %w", wire.JobPath, err)
	}
	job.Env = append(job.Env, fmt.Sprintf("%s=%.1f", wire.EnvSlowness, time.Duration(booted).Seconds()/usualBoot.Seconds()))
	line, err := openLine(job.Line)
	if err != nil {
		return err
	}
	// drain waits until all bytes have left the UART: TCSBRK with an argument is
	// tcdrain(3). Go's runtime signals its own threads, and the kernel does not restart
	// this call by itself (tty_ioctl, EINTR).
	drain := func() error {
		for {
			if err := unix.IoctlSetInt(int(line.Fd()), unix.TCSBRK, 1); err != unix.EINTR {
				return err
			}
		}
	}
	if err := serve(&job, &place{line: line, drain: drain, sweep: func() { _ = unix.Kill(-1, unix.SIGKILL) }}); err != nil {
		return err
	}
	return drain() // before the machine goes
}

// usualBoot is more than a kernel takes to PID 1 by emulation on an idle machine. On a
// machine that is itself emulated it may take a minute.
const usualBoot = time.Second

// timerSlack is how much later than asked for a sleep may end: one tick of the kernel.
const timerSlack = 4 * time.Millisecond

// slacken gives timerSlack to all threads of PID 1, and so to every program in the VM,
// which inherits it (prctl(2), PR_SET_TIMERSLACK). A Go program that is busy has a
// thread that looks after the others every 20 microseconds (runtime.sysmon). Where each
// timer interrupt and each switch is emulated, that is a tenth of a check's time, and more
// of it in a VM within a VM. Now that thread runs when the tick comes anyway.
func slacken() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		err := os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", fmt.Append(nil, timerSlack.Nanoseconds()), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && err != unix.ESRCH { // it may have ended
			return err
		}
	}
	return nil
}

// place is what differs between the places of a job.
type place struct {
	line  io.ReadWriter // to the host
	drain func() error  // waits until all that was written has left the place
	sweep func()        // ends what the job has left running
}

// serve does the job: the first word, the work, the last word. The error is for a
// line that is broken.
func serve(job *wire.Job, p *place) error {
	w := wire.NewWriter(p.line, job.Nonce)
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	hello, _ := json.Marshal(wire.Greeting{Version: wire.Version,
		Release: unix.ByteSliceToString(uts.Release[:]), Machine: unix.ByteSliceToString(uts.Machine[:])})
	if err := w.Frame(wire.Hello, hello); err != nil {
		return err
	}
	status, err := work(job, p, w)
	if err != nil {
		if err := w.Frame(wire.Fault, []byte(err.Error())); err != nil {
			return err
		}
		status = wire.Status{Code: 2}
	}
	last, _ := json.Marshal(status)
	return w.Frame(wire.Exit, last)
}

// mount is one file system.
type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

// on makes the folder below root and mounts the file system there; it may be there
// already.
func (m mount) on(root string) error {
	target := filepath.Join(root, m.target)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	err := unix.Mount(m.source, target, m.fstype, m.flags, m.data)
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mounting %s on %s: %w", m.fstype, m.target, err)
	}
	return nil
}

const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

var (
	procMount   = mount{"proc", "/proc", "proc", plain, ""}
	sysMount    = mount{"sysfs", "/sys", "sysfs", plain, ""}
	traceMount  = mount{"tracefs", "/sys/kernel/tracing", "tracefs", 0, ""}
	cgroupMount = mount{"cgroup2", cgroupRoot, "cgroup2", plain, ""}
)

func mountAll() error {
	dev := mount{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"}
	for _, m := range []mount{procMount, sysMount, dev, traceMount, cgroupMount} {
		if err := m.on("/"); err != nil {
			return err
		}
	}
	if err := furnish("/"); err != nil {
		return err
	}
	// The command line's "quiet" is for the boot. From now on warnings must be seen:
	// by the console the host learns what the kernel complains of, and what WARN_ON prints is
	// of that level.
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("5"), 0); err != nil {
		return err
	}
	return os.WriteFile("/dev/kmsg", []byte("<4>"+wire.BootedLine+"\n"), 0)
}

// furnish adds to the file system below root, and to the network, what every job
// expects.
func furnish(root string) error {
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		_ = os.Symlink(target, filepath.Join(root, "dev", name))
	}
	if err := os.MkdirAll(filepath.Join(root, wire.OutDir), 0o700); err != nil {
		return err
	}
	// The root is in memory already, and the job's files may stand below /tmp.
	tmp := filepath.Join(root, "tmp")
	if err := os.MkdirAll(tmp, 0); err != nil {
		return err
	}
	if err := unix.Chmod(tmp, 0o1777); err != nil {
		return err
	}
	return loopback()
}

// loopback brings lo up, as on any machine: programs expect to reach 127.0.0.1.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err == nil {
		ifr.SetUint16(unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
	}
	if err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	return nil
}

// openLine opens the result channel raw: with output processing on, the terminal
// layer would add a byte to each newline.
func openLine(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the result channel: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return f, unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

// work loads the job's modules, runs it to its end and sends what it left.
func work(job *wire.Job, p *place, w *wire.Writer) (wire.Status, error) {
	var none wire.Status
	if job.Version != wire.Version {
		return none, fmt.Errorf("the host speaks version %d, the guest %d: run make again", job.Version, wire.Version)
	}
	env := []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/tmp", "TMPDIR=/tmp",
		wire.EnvGuest + "=" + wire.GuestPath, wire.EnvOut + "=" + wire.OutDir, wire.EnvRecords + "=3"}
	if _, err := os.Stat(wire.LabPath); err == nil {
		env = append(env, wire.EnvLab+"="+wire.LabPath)
	}
	for _, m := range job.Modules {
		// Its own modules may be in a machine's kernel already.
		if !m.Stock || !ModuleLoaded(m.Name) {
			if err := LoadModule(m.Path, m.Params); err != nil {
				return none, err
			}
		}
		env = append(env, wire.EnvModule+m.Name+"="+m.Path)
	}
	cmd := exec.Command(job.Argv[0], job.Argv[1:]...)
	cmd.Dir = job.Dir
	cmd.Env = append(env, job.Env...)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return none, err
	}
	records, theirs := os.NewFile(uintptr(fds[0]), "records"), os.NewFile(uintptr(fds[1]), "records")
	cmd.ExtraFiles = []*os.File{theirs}
	var out carriers
	if job.Terminal {
		err = startTerminal(cmd, job, p.line, w, &out)
	} else {
		err = startPipes(cmd, job, p.line, w, &out)
	}
	if err != nil {
		return none, fmt.Errorf("starting %s: %w", job.Argv[0], err)
	}
	theirs.Close()
	out.lines(w, records, p.drain)
	state, err := cmd.Process.Wait()
	if err != nil {
		return none, err
	}
	// What the job left behind would hold the pipes open. All output that is in them
	// already must get out, however slow the host is.
	p.sweep()
	out.wait(time.Minute)
	if err := sendFiles(w); err != nil {
		return none, err
	}
	ws := state.Sys().(syscall.WaitStatus)
	st := wire.Status{Code: ws.ExitStatus()}
	if ws.Signaled() {
		st.Signal = unix.SignalName(ws.Signal())
	}
	return st, nil
}

// startPipes starts cmd with its output, and its input if there is one, in pipes.
func startPipes(cmd *exec.Cmd, job *wire.Job, line io.Reader, w *wire.Writer, out *carriers) error {
	var theirs []*os.File
	for _, s := range []struct {
		to *io.Writer
		t  wire.Type
	}{{&cmd.Stdout, wire.Stdout}, {&cmd.Stderr, wire.Stderr}} {
		r, f, err := os.Pipe()
		if err != nil {
			return err
		}
		*s.to = f
		theirs = append(theirs, f)
		out.copy(w.Stream(s.t), r)
	}
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	if job.OneOutput {
		cmd.Stderr = cmd.Stdout
	}
	if !job.Input {
		return cmd.Start()
	}
	r, input, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdin = r
	theirs = append(theirs, r)
	if err := cmd.Start(); err != nil {
		return err
	}
	go feed(line, job.Nonce, func(b []byte) {
		if len(b) == 0 {
			input.Close()
			return
		}
		_, _ = input.Write(b) // the job need not read it
	}, func(rows, cols uint16) {})
	return nil
}

// sendFiles returns what the job left in OutDir to the host.
func sendFiles(w *wire.Writer) error {
	entries, err := os.ReadDir(wire.OutDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(wire.OutDir, e.Name()))
		if err != nil {
			return err
		}
		// The name stands before each piece; an empty piece ends the file.
		head := append([]byte(e.Name()), 0)
		for len(b) > 0 {
			n := min(len(b), wire.MaxPayload/2)
			if err := w.Frame(wire.File, append(head[:len(head):len(head)], b[:n]...)); err != nil {
				return err
			}
			b = b[n:]
		}
		if err := w.Frame(wire.File, head); err != nil {
			return err
		}
	}
	return nil
}

// LoadModule inserts the module in the file path with insmod-like parameters.
// A module that is loaded already is an error: its parameters would not be ours.
func LoadModule(path, params string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), params, 0); err != nil {
		return fmt.Errorf("loading the module %s with parameters %q: %w", filepath.Base(path), params, err)
	}
	return nil
}

// ModuleLoaded tells whether a module of this name is loaded.
func ModuleLoaded(name string) bool {
	_, err := os.Stat("/sys/module/" + kernelName(name) + "/initstate")
	return err == nil
}
