// SPDX-License-Identifier: MIT

package place

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"os"
	"strings"

	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// Marker is the file that makes a machine one that is set aside for the labs: jobs may
// run on its kernel. vagrant/provision.sh writes it.
const Marker = "/etc/netlink-labs/place"

// Marked tells whether this machine is set aside for the labs.
func Marked() bool {
	_, err := os.Stat(Marker)
	return err == nil
}

// Where says in which place jobs are done.
type Where string

// The places.
const (
	InVM         Where = "vm"   // a throw-away VM
	OnThisKernel Where = "here" // this machine's own kernel
	// InVagrant is the Vagrant VM, seen from its host. This package knows nothing of it:
	// the tool in the VM does the job, there OnThisKernel.
	InVagrant Where = "vagrant"
)

// Here runs jobs on this machine's own kernel. A process with root's rights loads the
// modules, does the job in namespaces of its own, and removes all traces of it; one at
// a time on each machine.
type Here struct {
	Guest   string       // path of the guest program
	Task    string       // what is done, for those who wait for it
	Say     func(string) // for what the user may want to know; may be nil
	Console io.Writer    // gets the kernel's log of the job; may be nil
}

// maxDepth is how deep nlecho may call itself on a kernel that has to live. Checks that
// stop a recursion do so before; stacks are good for three times as many.
const maxDepth = "max_depth=8"

// Run does the job and waits until nothing is left of it. See vm.Process.Run about
// errors. A job whose program would have been the kernel's end, and was not because
// of nlecho's guard, ends as in a VM: with vm.Panicked.
func (h *Here) Run(ctx context.Context, job *Job) (*vm.Result, error) {
	var nonce wire.Nonce
	_, _ = rand.Read(nonce[:])
	j := *job
	died := ""
	j.Record = func(r wire.Record) {
		switch {
		case r.Kind == wire.KindDied:
			died = cmp.Or(died, r.Text)
		case job.Record != nil:
			job.Record(r)
		}
	}
	j.Modules = nil
	var told []wire.Module
	for _, m := range job.Modules {
		if m.Name == "nlecho" { // behind the lab's own: the last one counts
			m.Params = strings.TrimSpace(m.Params + " " + maxDepth)
		}
		j.Modules = append(j.Modules, m)
		told = append(told, wire.Module{Name: m.Name, Stock: m.Stock})
	}
	if job.Lab != nil {
		lab := *job.Lab
		lab.Shared = true
		j.Lab = &lab
	}
	initrd, err := j.pack(cmp.Or(j.Guest, h.Guest), nonce, "")
	if err != nil {
		return nil, err
	}
	defer initrd.Close()
	var left files
	p := vm.Process{
		Argv:   vm.Privileged(h.Guest, "here"),
		Here:   wire.Here{Nonce: nonce, Modules: told, Task: cmp.Or(h.Task, "a check")},
		Initrd: initrd, Limit: j.Limit, Ready: j.Ready, Console: h.Console, Say: h.Say,
		Frame: func(t wire.Type, b []byte) { j.frame(&left, t, b) },
	}
	r, err := p.Run(ctx)
	if err == nil && died != "" && !r.Verdict.Environment() {
		r.Verdict, r.Detail = vm.Panicked, died
	}
	return r, cmp.Or(err, left.err)
}
