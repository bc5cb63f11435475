// SPDX-License-Identifier: MIT

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/initramfs"
	"netlinklabs/internal/wire"
)

// workHere does the job on this machine's kernel. What the job finds is what it would
// find in a VM: the files of the initramfs, and the paths of mountAll.
func workHere() error {
	unix.Umask(0)
	if err := enterRoot(os.NewFile(3, "initramfs")); err != nil {
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
	var modules []string
	for _, m := range job.Modules {
		modules = append(modules, m.Name)
	}
	line := struct {
		io.Reader
		io.Writer
	}{os.Stdin, os.Stdout}
	return serve(&job, &place{line: line,
		drain: func() error { return nil }, // this kernel does not die
		sweep: func() { _ = endAll(cgroupRoot, modules, os.Getpid(), cleanLimit) }})
}

// device is one of the files in /dev that a job gets: not all that the machine has.
type device struct {
	name         string
	perm         uint32
	major, minor uint32
}

var devices = []device{
	{"null", 0o666, 1, 3}, {"zero", 0o666, 1, 5}, {"full", 0o666, 1, 7}, {"random", 0o666, 1, 8}, {"urandom", 0o666, 1, 9},
	{"kmsg", 0o644, 1, 11}, {"tty", 0o666, 5, 0}, {"ptmx", 0o666, 5, 2},
}

// enterRoot makes the archive's files, in memory, this process's root.
func enterRoot(archive *os.File) error {
	memory := mount{"tmpfs", rootDir, "tmpfs", unix.MS_NOSUID, "mode=0755"}
	if err := memory.on("/"); err != nil {
		return err
	}
	if err := initramfs.Unpack(archive, rootDir); err != nil {
		return err
	}
	archive.Close()
	dev := mount{"tmpfs", "/dev", "tmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755,size=64k"}
	for _, m := range []mount{procMount, sysMount, traceMount, dev} {
		if err := m.on(rootDir); err != nil {
			return err
		}
	}
	for _, d := range devices {
		path := filepath.Join(rootDir, "dev", d.name)
		if err := unix.Mknod(path, unix.S_IFCHR|d.perm, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("making %s: %w", path, err)
		}
	}
	// The check's own cgroup stands where in a VM the whole tree does.
	if err := unix.Mount(hereCgroup, filepath.Join(rootDir, cgroupRoot), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting the cgroup: %w", err)
	}
	if err := furnish(rootDir); err != nil {
		return err
	}
	// As switch_root(8) does: pivot_root(2) does not leave an initramfs, in which
	// the tests run.
	if err := unix.Chdir(rootDir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("making %s the root: %w", rootDir, err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// kernelLog is the kernel's log from a moment on.
type kernelLog struct{ fd int }

func openKernelLog() (*kernelLog, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the kernel's log: %w", err)
	}
	if _, err := unix.Seek(fd, 0, io.SeekEnd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("the kernel's log: %w", err)
	}
	return &kernelLog{fd}, nil
}

func (l *kernelLog) close() { unix.Close(l.fd) }

// read returns what has been logged, as a console prints it.
func (l *kernelLog) read() []byte {
	var out []byte
	b := make([]byte, 8192)
	for {
		n, err := unix.Read(l.fd, b)
		switch {
		case errors.Is(err, unix.EPIPE):
			out = append(out, "[... older lines are lost ...]\n"...)
		case errors.Is(err, unix.EINTR):
		case err != nil || n <= 0: // EAGAIN: that was all
			return out
		default:
			out = append(out, consoleLine(string(b[:n]))...)
		}
	}
}

// consoleLine turns a record of /dev/kmsg, "6,1234,5678901,-;text" and lines with
// more about it (Documentation/ABI/testing/dev-kmsg), into the line of a console.
func consoleLine(record string) string {
	head, text, _ := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	stamp := time.Duration(0)
	if f := strings.Split(head, ","); len(f) > 2 {
		us, _ := strconv.ParseInt(f[2], 10, 64)
		stamp = time.Duration(us) * time.Microsecond
	}
	return fmt.Sprintf("[%12.6f] %s\n", stamp.Seconds(), text)
}
