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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	if err := mountAll(); err != nil {
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
	line, err := openLine(job.Line)
	if err != nil {
		return err
	}
	w := wire.NewWriter(line, job.Nonce)
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	hello, _ := json.Marshal(wire.Greeting{Version: wire.Version,
		Release: unix.ByteSliceToString(uts.Release[:]), Machine: unix.ByteSliceToString(uts.Machine[:])})
	if err := w.Frame(wire.Hello, hello); err != nil {
		return err
	}
	status, err := work(&job, line, w)
	if err != nil {
		if err := w.Frame(wire.Fault, []byte(err.Error())); err != nil {
			return err
		}
		status = wire.Status{Code: 2}
	}
	last, _ := json.Marshal(status)
	if err := w.Frame(wire.Exit, last); err != nil {
		return err
	}
	return drain(line) // before the machine goes
}

// drain waits until all bytes have left the UART: TCSBRK with an argument is
// tcdrain(3).
func drain(line *os.File) error { return unix.IoctlSetInt(int(line.Fd()), unix.TCSBRK, 1) }

func mountAll() error {
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"tracefs", "/sys/kernel/tracing", "tracefs", 0, ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mounting %s on %s: %w", m.fstype, m.target, err)
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		_ = os.Symlink(target, "/dev/"+name)
	}
	if err := loopback(); err != nil {
		return err
	}
	// The command line's "quiet" is for the boot. From now on warnings must be seen:
	// by the console the host learns what the kernel complains of, and what WARN_ON prints is
	// of that level.
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("5"), 0); err != nil {
		return err
	}
	if err := os.WriteFile("/dev/kmsg", []byte("<4>"+wire.BootedLine+"\n"), 0); err != nil {
		return err
	}
	if err := os.MkdirAll(wire.OutDir, 0o700); err != nil {
		return err
	}
	// The root is in memory already, and the job's files may stand below /tmp.
	if err := os.MkdirAll("/tmp", 0); err != nil {
		return err
	}
	return unix.Chmod("/tmp", 0o1777)
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
func work(job *wire.Job, line *os.File, w *wire.Writer) (wire.Status, error) {
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
		if err := LoadModule(m.Path, m.Params); err != nil {
			return none, err
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
		err = startTerminal(cmd, job, line, w, &out)
	} else {
		err = startPipes(cmd, job, line, w, &out)
	}
	if err != nil {
		return none, fmt.Errorf("starting %s: %w", job.Argv[0], err)
	}
	theirs.Close()
	out.lines(w, records, line)
	state, err := cmd.Process.Wait()
	if err != nil {
		return none, err
	}
	// What the job left behind would hold the pipes open. All output that is in them
	// already must get out, however slow the host is.
	_ = unix.Kill(-1, unix.SIGKILL)
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
	_, err := os.Stat("/sys/module/" + strings.ReplaceAll(name, "-", "_") + "/initstate")
	return err == nil
}
