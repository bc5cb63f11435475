// SPDX-License-Identifier: MIT

// Package place is where a job runs: a throw-away VM, made for the job and gone with
// it, or this machine's own kernel, which has to be as it was when the job is over.
// It puts kernel, modules and files together, boots, and hands the job's output,
// records and files to the caller.
package place

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/initramfs"
	"netlinklabs/internal/kernel"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// VM makes throw-away VMs of one kind.
type VM struct {
	Kernel  *kernel.Prepared
	Guest   string       // path of the guest program, PID 1
	Accel   string       // "auto", "kvm" or "tcg"
	State   string       // folder for slots and what is known of KVM
	Slots   int          // how many VMs may run at once; 0 means one for each core
	Say     func(string) // for what the user may want to know; may be nil
	Console io.Writer    // gets the kernel's console as it comes; may be nil
}

// Job is what is to be done in the VM.
type Job struct {
	Guest   string // path of a guest program of its own; "" is the VM's
	Argv    []string
	Dir     string
	Env     []string
	Modules []Module
	Boot    []string // more parameters on the kernel's command line
	// Files adds what the job needs to the initramfs; may be nil.
	Files  func(*initramfs.Writer)
	Lab    *wire.Lab // description for a check; may be nil
	Limit  time.Duration
	Stdout io.Writer // may be nil, and so may the next ones
	Stderr io.Writer // the standard output's writer means one pipe for both, in order
	Record func(wire.Record)
	Out    string // folder for the files that the job leaves

	// Ready is called with a writer for the job's standard input; nil for none.
	Ready func(*wire.Writer)
	// Terminal makes the job interactive.
	Terminal   bool
	Rows, Cols uint16
	Memory     int // MiB; 0 is the usual
}

// Module is a kernel module to be loaded before the job starts.
type Module struct {
	Name   string
	Data   []byte // the .ko file
	Params string // as insmod takes them
	Stock  bool   // it is the kernel's own
}

// Run boots a VM for the job and waits for its end. See vm.Run about errors.
func (p *VM) Run(ctx context.Context, j *Job) (*vm.Result, error) {
	var nonce wire.Nonce
	_, _ = rand.Read(nonce[:])
	arch, err := kernel.HostArch()
	if err != nil {
		return nil, err
	}
	initrd, err := j.pack(cmp.Or(j.Guest, p.Guest), nonce, "/dev/"+arch.Result)
	if err != nil {
		return nil, err
	}
	defer initrd.Close()
	qemu, err := exec.LookPath(arch.QEMU)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not installed: run make setup", vm.ErrQEMU, arch.QEMU)
	}
	var firstWord time.Duration
	if Marked() {
		// The Vagrant VM may be emulated itself. Nobody else waits so long for a kernel
		// that does not boot.
		firstWord = 5 * time.Minute
	}
	var left files
	r, err := vm.Run(ctx, vm.Machine{
		QEMU: qemu, CPU: arch.CPU, Kernel: p.Kernel.Image(), Initrd: initrd, Nonce: nonce,
		Args: append([]string{"-machine", arch.Machine, "-serial", "chardev:console"}, arch.ResultArgs...),
		Append: "console=" + arch.Console + " " + arch.Params + " " + arch.PanicOnHang + " quiet panic=-1 oops=panic " +
			// The clock that the trace wants: changing it later costs 50 ms under TCG.
			"trace_clock=mono cryptomgr.notests nowatchdog rcupdate.rcu_cpu_stall_suppress=1 " +
			// Each system call's stack begins at the same place, so that what is counted on
			// it (lab 5) is the same each time.
			"randomize_kstack_offset=off " +
			strings.Join(append([]string{wire.EnvInit + "=1"}, j.Boot...), " "),
		FirstWord: firstWord, Memory: j.Memory, Accel: p.Accel, State: p.State, Slots: p.Slots, Limit: j.Limit, Ready: j.Ready, Console: p.Console, Say: p.Say,
		Frame: func(t wire.Type, b []byte) { j.frame(&left, t, b) },
	})
	return r, cmp.Or(err, left.err)
}

// files are what the job leaves for the host.
type files struct {
	unfinished map[string]*bytes.Buffer // by name
	err        error
}

// frame hands on what comes from the place.
func (j *Job) frame(left *files, t wire.Type, b []byte) {
	switch t {
	case wire.Stdout:
		write(j.Stdout, b)
	case wire.Stderr:
		write(j.Stderr, b)
	case wire.Line:
		var rec wire.Record
		if json.Unmarshal(b, &rec) == nil && j.Record != nil {
			j.Record(rec)
		}
	case wire.File:
		name, content, _ := bytes.Cut(b, []byte{0})
		if err := left.receive(j.Out, string(name), content); err != nil {
			left.err = fmt.Errorf("keeping a file of the job: %w", err)
		}
	}
}

func write(w io.Writer, b []byte) {
	if w != nil {
		_, _ = w.Write(b)
	}
}

// receive collects the pieces of a file and writes it when the empty one comes.
func (f *files) receive(dir, name string, piece []byte) error {
	if dir == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return nil
	}
	if f.unfinished == nil {
		f.unfinished = map[string]*bytes.Buffer{}
	}
	b := f.unfinished[name]
	if b == nil {
		b = new(bytes.Buffer)
		f.unfinished[name] = b
	}
	if len(piece) > 0 {
		b.Write(piece)
		return nil
	}
	return os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644)
}

// pack writes the initramfs into memory: nothing is left behind, however we end.
// guest is the program that does the job, line the device of the result channel.
func (j *Job) pack(guest string, nonce wire.Nonce, line string) (*os.File, error) {
	fd, err := unix.MemfdCreate("initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making room for the initramfs: %w", err)
	}
	f := os.NewFile(uintptr(fd), "initramfs")
	w := initramfs.NewWriter(f)
	w.File(wire.GuestPath, 0o700, guest)
	job := wire.Job{Version: wire.Version, Nonce: nonce, Line: line,
		Argv: j.Argv, Dir: j.Dir, Env: j.Env, OneOutput: j.Stdout != nil && j.Stdout == j.Stderr, Input: j.Ready != nil, Terminal: j.Terminal, Rows: j.Rows, Cols: j.Cols}
	for _, m := range j.Modules {
		path := wire.ModuleDir + "/" + m.Name + ".ko"
		w.Data(path, 0o644, m.Data)
		job.Modules = append(job.Modules, wire.Module{Name: m.Name, Path: path, Params: m.Params, Stock: m.Stock})
	}
	// The job's folder can be passed, so that the program in it can be run by the
	// user it is confined to, but not listed.
	w.Dir(filepath.Dir(wire.JobPath), 0o711)
	b, err := json.Marshal(job)
	if err == nil {
		w.Data(wire.JobPath, 0o600, b)
	}
	if j.Lab != nil && err == nil {
		lab := *j.Lab
		lab.Modules = job.Modules
		if b, err = json.Marshal(lab); err == nil {
			w.Data(wire.LabPath, 0o600, b)
		}
	}
	if j.Files != nil {
		j.Files(w)
	}
	if e := w.Close(); err == nil {
		err = e
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
