// SPDX-License-Identifier: MIT

// Package vagrant finds the project's Vagrant VM, brings the project in it up to
// date, and starts a command there. It only calls the programs vagrant and ssh.
package vagrant

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Guide is where a reader is sent who has no VM yet.
const Guide = "docs/instructors.md"

// ErrNotInstalled says that there is no vagrant in PATH.
var ErrNotInstalled = errors.New("vagrant is not installed: see " + Guide)

// Project is the folder of a Vagrantfile with one machine.
type Project struct {
	Root string
	// Say tells what takes time; may be nil.
	Say func(string)
}

// Error is a call of vagrant that failed: what that means, and Vagrant's own words.
type Error struct{ Means, Said string }

func (e *Error) Error() string {
	if e.Said == "" {
		return e.Means
	}
	return e.Means + "\n  " + strings.ReplaceAll(e.Said, "\n", "\n  ")
}

// run calls vagrant in the project's folder. Vagrant is a second or two in finding
// out where it is, so this is called as rarely as can be.
func (p *Project) run(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	path, err := exec.LookPath("vagrant")
	if err != nil {
		return "", "", ErrNotInstalled
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = p.Root
	// It would ask its maker for a newer version of itself, and wait for the answer.
	cmd.Env = append(os.Environ(), "VAGRANT_CHECKPOINT_DISABLE=1", "VAGRANT_NO_COLOR=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// A group of its own, so that Ctrl-C reaches it by us alone, and what it started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	runtime.LockOSThread() // Pdeathsig follows the thread
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out.String(), errs.String(), err
}

func (p *Project) say(s string) {
	if p.Say != nil {
		p.Say(s)
	}
}

// Status is what Vagrant knows of the machine.
type Status struct {
	Name     string // of the machine
	Provider string // "libvirt"
	State    string // "running", "not_created", "poweroff": the provider's word
}

// Status asks for the machine's state. The error is an *Error when it is Vagrant's.
func (p *Project) Status(ctx context.Context) (Status, error) {
	out, errs, err := p.run(ctx, "status", "--machine-readable")
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Status{}, err
	}
	s, class, said := parseStatus(out)
	switch {
	case class != "" || err != nil:
		if said == "" {
			said = strings.TrimSpace(errs)
		}
		return s, explain(class, said)
	case s.State == "":
		return s, &Error{"vagrant status names no machine", strings.TrimSpace(out + errs)}
	}
	return s, nil
}

// parseStatus reads lines of time, target, type and data, with commas between them.
// class is that of the error that ended vagrant, if one did.
func parseStatus(out string) (s Status, class, said string) {
	plain := strings.NewReplacer("%!(VAGRANT_COMMA)", ",", `\n`, "\n", `\r`, "")
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSpace(line), ",", 4)
		if len(f) < 4 {
			continue
		}
		switch f[2] {
		case "provider-name":
			s.Name, s.Provider = f[1], f[3]
		case "state":
			s.Name, s.State = f[1], f[3]
		case "error-exit":
			class, said, _ = strings.Cut(f[3], ",")
			said = strings.TrimSpace(plain.Replace(said))
		}
	}
	return s, class, said
}

var (
	noProvider  = regexp.MustCompile(`(?i)usable default provider|provider '.*' could not be found|NoDefaultProvider|ProviderNotFound|ProviderNotUsable`)
	noVirtd     = regexp.MustCompile(`(?i)connect\w* to libvirt|virConnectOpen|libvirt-sock`)
	refused     = regexp.MustCompile(`(?i)permission denied|authentication (unavailable|failed)|access denied`)
	noDisk      = regexp.MustCompile(`(?i)no space left on device|disk quota exceeded`)
	notReady    = regexp.MustCompile(`(?i)not (yet )?ready for (rsync|SSH)`)
	otherLocked = regexp.MustCompile(`(?i)another process is already executing an action|MachineLocked|EnvironmentLocked`)
	noFile      = regexp.MustCompile(`NoEnvironmentError|(?i)A Vagrant environment or target machine is required`)
)

// explain puts what it means before an error of Vagrant.
func explain(class, said string) error {
	text := class + "\n" + said
	means := "vagrant failed"
	switch {
	case noFile.MatchString(text):
		means = "there is no Vagrantfile in this folder: is it a whole checkout?"
	case noVirtd.MatchString(text) && refused.MatchString(text):
		means = "libvirt does not let you in: `sudo adduser $USER libvirt`, then log in again"
	case noVirtd.MatchString(text):
		means = "libvirt does not answer: `sudo systemctl start libvirtd` (without systemd: virtlogd -d; libvirtd -d)"
	case noProvider.MatchString(text):
		means = "Vagrant finds no provider that works here (libvirt, VirtualBox, VMware, Parallels, QEMU): " + Guide + " says how to get one"
	case otherLocked.MatchString(text):
		means = "another vagrant is at work on the VM: try again when it has ended"
	case noDisk.MatchString(text):
		means = FullDisk
	case notReady.MatchString(text):
		means = "the VM runs, but does not let anybody in: is it still starting? If not, `vagrant reload`"
	}
	return &Error{means, said}
}

// FullDisk is what to do about a VM whose disk is full.
const FullDisk = "the VM's disk is full: make room in it (`vagrant ssh`, then `df -h`; ~/.cache/netlink-labs and `go clean -cache` can always go)"

// Full tells whether somebody's words are about a full disk.
func Full(said string) bool { return noDisk.MatchString(said) }

// Machine is the VM, running, and how to get in.
type Machine struct {
	project *Project
	name    string // of ssh's configuration
	config  string // file
}

// Find returns the running VM, or an error that says why there is none. A file is
// made in the folder dir.
func (p *Project) Find(ctx context.Context, dir string) (*Machine, error) {
	p.say("asking Vagrant for the VM")
	// One call says all where the VM runs. What is wrong where it does not, status
	// knows better.
	out, errs, err := p.run(ctx, "ssh-config")
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	name := regexp.MustCompile(`(?m)^Host (\S+)`).FindStringSubmatch(out)
	if err != nil || name == nil {
		s, err := p.Status(ctx)
		switch {
		case err != nil:
			return nil, err
		case s.State == "not_created":
			return nil, &Error{Means: "the VM has not been made yet: `vagrant up`, see " + Guide}
		case s.State != "running":
			return nil, &Error{Means: fmt.Sprintf("the VM is not running (%s says: %s): `vagrant up`", s.Provider, s.State)}
		}
		return nil, explain("", strings.TrimSpace(errs))
	}
	m := &Machine{p, name[1], filepath.Join(dir, "ssh-config")}
	return m, os.WriteFile(m.config, []byte(out), 0o600)
}

// State names the state of the project's files, as far as they are synced: another
// name, other files. Syncing takes a second, and a minute where the VM is emulated.
func (p *Project) State() (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(p.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(p.Root, path)
		if err != nil {
			return err
		}
		switch rel {
		case ".git", ".vagrant", "work", "bin":
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(rel) == ".box" {
			return nil
		}
		st, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // an editor's temporary file
			return nil
		}
		if err == nil && !d.IsDir() {
			fmt.Fprintf(h, "%q %v %d %d\n", rel, st.Mode(), st.Size(), st.ModTime().UnixNano())
		}
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// Sync brings the project in the VM up to date, in the way of the provider: where
// the folder is shared there is nothing to do, and vagrant rsync does nothing.
func (m *Machine) Sync(ctx context.Context) error {
	m.project.say("syncing the project to the VM")
	out, errs, err := m.project.run(ctx, "rsync")
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return explain("", strings.TrimSpace(errs+"\n"+out))
	}
	return err
}

// Command returns a call of the script in the VM, by the login shell of its account.
// It is to be started by a thread that lives as long: when we are killed it ends,
// and what runs inside sees the end of its standard input.
func (m *Machine) Command(ctx context.Context, script string) (*exec.Cmd, error) {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		return nil, errors.New("ssh is not installed: package openssh-client")
	}
	cmd := exec.CommandContext(ctx, ssh, "-F", m.config, "-T",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=30",
		// A kernel that has died says nothing more.
		"-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4",
		m.name, "exec bash -lc "+quote(script))
	cmd.Dir = m.project.Root
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return cmd, nil
}

// quote makes one word of a text, for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Version returns Vagrant's.
func (p *Project) Version(ctx context.Context) (string, error) {
	out, errs, err := p.run(ctx, "--version")
	if err != nil {
		if said := strings.TrimSpace(errs); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return "", err
	}
	return strings.TrimPrefix(strings.TrimSpace(out), "Vagrant "), nil
}

// Tail keeps the last of what is written to it, and tells each line.
type Tail struct {
	Line func(string) // may be nil
	rest []byte
	last []string
}

// Write takes the next piece.
func (t *Tail) Write(b []byte) (int, error) {
	t.rest = append(t.rest, b...)
	for {
		i := bytes.IndexByte(t.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		line := strings.TrimRight(string(t.rest[:i]), "\r")
		t.rest = t.rest[i+1:]
		t.last = append(t.last, line)
		t.last = t.last[max(0, len(t.last)-30):]
		if t.Line != nil && line != "" {
			t.Line(line)
		}
	}
}

// String returns what was kept.
func (t *Tail) String() string {
	return strings.TrimSpace(strings.Join(append(t.last[:len(t.last):len(t.last)], string(t.rest)), "\n"))
}
