// SPDX-License-Identifier: MIT

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"netlinklabs/internal/wire"
)

// Process is a privileged process of this machine that does what a VM would do: the
// job runs on this very kernel, and is to leave it as it was.
type Process struct {
	// Argv is the program, `guest here`, with what makes it root.
	Argv []string
	// Here is what it is told first; its Size is filled in.
	wire.Here
	Initrd  *os.File // the initramfs
	Limit   time.Duration
	Frame   func(wire.Type, []byte)
	Ready   func(*wire.Writer)
	Console io.Writer
	Say     func(string)
}

// farewell is how long a process that was told to end may clean up, on an idle
// machine. What it undoes takes some tenths of a second.
const farewell = 40 * time.Second

// Run starts the process and waits until it has cleaned up. The error is for a job
// that could not begin, with the reason; all else is in the Result. When ctx ends, the
// job is ended, and ctx's error returned when nothing is left of it.
func (p *Process) Run(ctx context.Context) (*Result, error) {
	m := &Machine{Nonce: p.Nonce, Limit: p.Limit, Frame: p.Frame, Ready: p.Ready, Console: p.Console, Say: p.Say}
	if m.Limit == 0 {
		m.Limit = 2 * time.Minute
	}
	if m.Say == nil {
		m.Say = func(string) {}
	}
	run := &running{m: m, first: make(chan struct{}), excess: make(chan struct{})}
	run.log.live = p.Console
	start := time.Now()
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	cmd := exec.Command(p.Argv[0], p.Argv[1:]...)
	var complaints tail
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, &complaints
	// A session of its own: neither Ctrl-C at the terminal nor sudo's wish for one
	// reaches it. It ends when its line does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.Argv[0], err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	read := make(chan struct{})
	go func() {
		defer close(read)
		run.frames(ours)
	}()
	go p.send(ours)

	verdict, err := run.attend(ctx, ours, exited)
	if errors.Is(err, errStays) {
		return nil, err
	}
	_ = ours.(*net.UnixConn).CloseRead()
	<-read
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if run.hello.IsZero() {
		switch said := strings.TrimSpace(complaints.String()); {
		case run.fault != "":
			return nil, errors.New(run.fault)
		case said != "":
			return nil, errors.New(said)
		default:
			return nil, fmt.Errorf("%s did not begin: %v", strings.Join(p.Argv, " "), err)
		}
	}
	if err == nil {
		run.reason = "guest-shutdown" // as a VM's orderly end is called
	}
	r := run.judge(verdict, err, complaints.String())
	r.Where = "here"
	r.Boot, r.Total = run.hello.Sub(start), time.Since(start)
	if !run.began.IsZero() { // waiting for others is no part of it
		r.Boot, r.Total = run.hello.Sub(run.began), time.Since(run.began)
	}
	r.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return r, nil
}

// send tells the process what there is to do.
func (p *Process) send(to io.Writer) {
	st, err := p.Initrd.Stat()
	if err != nil {
		return // it will miss the rest, and say so
	}
	p.Size, p.Version = st.Size(), wire.Version
	b, _ := json.Marshal(p.Here)
	if _, err := to.Write(append(b, '\n')); err == nil {
		_, _ = io.Copy(to, io.NewSectionReader(p.Initrd, 0, p.Size))
	}
}

// errStays tells of a process that we cannot end: it is another user's.
var errStays = errors.New("the privileged process of the check does not end; `ps -ef | grep guest` shows it, and the next check cleans up after it")

// attend waits for the process's end, and ends its line when it is time.
func (run *running) attend(ctx context.Context, line net.Conn, exited chan error) (Verdict, error) {
	hangUp := func(v Verdict) (Verdict, error) {
		_ = line.(*net.UnixConn).CloseWrite()
		select {
		case err := <-exited:
			return v, err
		case <-time.After(stretch(farewell)):
			return v, errStays
		}
	}
	var limit <-chan time.Time
	first := run.first
	for {
		select {
		case err := <-exited:
			return Done, err
		case <-ctx.Done():
			return hangUp(Done)
		case <-run.excess:
			return hangUp(Flooded)
		case <-first:
			first = nil
			limit = time.After(stretch(run.m.Limit))
		case <-limit:
			return hangUp(Hung)
		}
	}
}

// Privileged returns the command that runs a program of ours as root.
func Privileged(argv ...string) []string {
	if os.Geteuid() == 0 {
		return argv
	}
	return append([]string{"sudo", "-n", "--"}, argv...)
}
