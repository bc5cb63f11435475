// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/term"
	"netlinklabs/internal/cache"
	"netlinklabs/internal/kernel"
)

// purpose tells what something is wanted for. Purposes can be joined.
type purpose int

const (
	forVM      purpose = 1 << iota // to boot the VM and build modules
	forFetch                       // to fetch a kernel
	forShell                       // inside the VM
	forTests                       // make test
	forVagrant                     // make vagrant-test

	forLabs = forVM | forFetch | forShell
)

// want is something that this machine must have.
type want struct {
	name string // a program, or the path of a file
	pkg  string // the package of Debian and Ubuntu that brings it
	does string
	purpose
}

// wants are all there are, for this machine's architecture.
func wants() ([]want, error) {
	arch, err := kernel.HostArch()
	if err != nil {
		return nil, err
	}
	qemu := map[string]string{"amd64": "qemu-system-x86", "arm64": "qemu-system-arm"}[arch.Debian]
	return []want{
		{arch.QEMU, qemu, "boots the VM", forVM},
		{"make", "make", "builds kernel modules", forVM},
		{"apt-get", "apt", "fetches Debian's kernel", forFetch},
		{"dpkg-deb", "dpkg", "unpacks Debian's kernel", forFetch},
		{kernel.Keyring, "debian-archive-keyring", "proves that the kernel is Debian's", forFetch},
		{"busybox", "busybox-static", "the VM's shell", forShell},
		{"strace", "strace", "for the VM's shell", forShell},
		{"ip", "iproute2", "for the VM's shell", forShell},
		{"ss", "iproute2", "for the VM's shell", forShell},
		{"gcc", "gcc", "for go test -race, builds modules", forTests},
		{"/usr/include/stdlib.h", "libc6-dev", "for go test -race", forTests},
		{"shellcheck", "shellcheck", "tests the shell scripts", forTests},
		{"sparse", "sparse", "tests the kernel modules", forTests},
		{"vagrant", "vagrant", "makes the machine of a class", forVagrant},
		{"/usr/share/vagrant-plugins/plugins.d/vagrant-libvirt.json", "vagrant-libvirt", "Vagrant's libvirt provider", forVagrant},
		{"libvirtd", "libvirt-daemon", "runs the machine", forVagrant},
		{"/etc/libvirt/qemu.conf", "libvirt-daemon-system", "runs the machine", forVagrant},
		{"virsh", "libvirt-clients", "looks at what libvirt has", forVagrant},
		{"dnsmasq", "dnsmasq-base", "the machine's network", forVagrant},
		{"iptables", "iptables", "the machine's network", forVagrant},
		{"ssh", "openssh-client", "the way into the machine", forVagrant},
		{"rsync", "rsync", "copies the workbook into the machine", forVagrant},
		{"mmdebstrap", "mmdebstrap", "builds the box", forVagrant},
		{"sfdisk", "fdisk", "builds the box", forVagrant},
		{"mke2fs", "e2fsprogs", "builds the box", forVagrant},
		{"qemu-img", "qemu-utils", "builds the box", forVagrant},
		{"grub-mkimage", "grub-common", "builds the box", forVagrant},
		{"/usr/lib/grub/i386-pc/boot.img", "grub-pc-bin", "builds the box", forVagrant},
	}, nil
}

// there tells whether the machine has it.
func (w want) there() bool {
	if filepath.IsAbs(w.name) {
		_, err := os.Stat(w.name)
		return err == nil
	}
	_, err := lookTool(w.name)
	return err == nil
}

// label is its name in a list.
func (w want) label() string {
	return strings.TrimSuffix(filepath.Base(w.name), ".gpg")
}

// missing returns what the machine lacks for the purposes.
func missing(p purpose) ([]want, error) {
	all, err := wants()
	return slices.DeleteFunc(all, func(w want) bool { return w.purpose&p == 0 || w.there() }), err
}

// packages returns the packages that bring what is wanted.
func packages(ws []want) []string {
	var out []string
	for _, w := range ws {
		if !slices.Contains(out, w.pkg) {
			out = append(out, w.pkg)
		}
	}
	return out
}

// need makes sure that the machine has what the purposes take, and installs it
// when it may: see installer.install. It costs microseconds when all is there.
func (a *app) need(p purpose) error {
	lacks, err := missing(p)
	if err != nil || len(lacks) == 0 {
		return err
	}
	// Several of us may find the same (go test -exec): one installs.
	if err := os.MkdirAll(a.cache, 0o755); err != nil {
		return err
	}
	unlock, err := cache.Lock(a.ctx, filepath.Join(a.cache, "setup.lock"), func(string) {
		a.progress.say("waiting for another make setup")
	})
	if err != nil {
		return err
	}
	defer unlock()
	if lacks, err = missing(p); err != nil || len(lacks) == 0 {
		return err
	}
	// Whoever is asked, is asked once for all that labs take.
	if lacks, err = missing(p | forLabs); err != nil {
		return err
	}
	a.tellLacks(a.err, lacks)
	if err := a.installer().install(a.ctx, packages(lacks)); err != nil {
		return err
	}
	if lacks, err = missing(p); err == nil && len(lacks) > 0 {
		err = fmt.Errorf("%s is still not there, though the package %s is installed: look at PATH", lacks[0].name, lacks[0].pkg)
	}
	return err
}

func (a *app) tellLacks(w io.Writer, lacks []want) {
	a.progress.clear()
	fmt.Fprintln(w, "This machine lacks")
	for _, l := range lacks {
		fmt.Fprintf(w, "  %-22s %-34s package %s\n", l.label(), l.does, l.pkg)
	}
}

// setup installs what labs take, then fetches the kernel and the libraries, so
// that no lab needs a network afterwards.
func (a *app) setup(args []string) error {
	f := flag.NewFlagSet("setup", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	only := f.Bool("n", false, "")
	all := f.Bool("all", false, "")
	if err := f.Parse(args); err != nil || f.NArg() > 0 {
		return usagef("setup takes -n (only tell) and -all (what make test takes, too)")
	}
	p := forLabs
	if *all {
		p |= forTests
	}
	lacks, err := missing(p)
	if err != nil {
		return err
	}
	if *only {
		if len(lacks) == 0 {
			fmt.Fprintln(a.out, "nothing is missing")
			return nil
		}
		a.tellLacks(a.out, lacks)
		in := a.installer()
		in.stale = !known(a.ctx, packages(lacks))
		fmt.Fprintf(a.out, "To be run: %s\n", in.line(packages(lacks)))
		return nil
	}
	if err := a.need(p); err != nil {
		return err
	}
	a.progress.say("fetching the libraries")
	if err := a.fetchLibraries(); err != nil {
		return err
	}
	if err := a.prepare(nil); err != nil {
		return err
	}
	a.progress.clear()
	fmt.Fprintln(a.out, "all is there: make lists the labs")
	return nil
}

// fetchLibraries fetches all that programs and checks of labs import.
func (a *app) fetchLibraries() error {
	cmd := exec.CommandContext(a.ctx, "go", "list", "-deps", "-test", "./...")
	cmd.Dir = a.root
	cmd.Env = goEnv()
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("fetching the libraries: %w\n%s", err, said.String())
	}
	return nil
}

// goEnv is the environment for the go command to work on this module alone. No
// cgo: many machines have a C compiler without the C library's headers.
func goEnv() []string {
	return append(os.Environ(), "GO111MODULE=on", "GOWORK=off", "GOFLAGS=-mod=readonly", "CGO_ENABLED=0")
}

// installer installs packages with apt-get.
type installer struct {
	root bool // we are root
	// ask asks for leave; nil where nobody can answer.
	ask func(question string) (bool, error)
	say func(string) // progress
	// live says that progress is written over, and may say more.
	live bool
	// stale says that the package lists lack what is to be installed.
	stale bool
}

func (a *app) installer() *installer {
	in := &installer{root: os.Geteuid() == 0, say: a.progress.say, live: a.progress.terminal}
	if term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd())) {
		in.ask = a.ask
	}
	return in
}

// ask asks a question on the terminal; Enter alone is a yes.
func (a *app) ask(question string) (bool, error) {
	a.progress.clear()
	fmt.Fprintf(a.err, "%s [Y/n] ", question)
	answered := make(chan bool, 1)
	go func() {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		line = strings.ToLower(strings.TrimSpace(line))
		answered <- err == nil && (line == "" || line == "y" || line == "yes")
	}()
	select {
	case yes := <-answered:
		return yes, nil
	case <-a.ctx.Done():
		return false, a.ctx.Err()
	}
}

// line is the command that a person would type for the same.
func (in *installer) line(pkgs []string) string {
	sudo := "sudo "
	if in.root {
		sudo = ""
	}
	s := sudo + "apt-get install --no-install-recommends " + strings.Join(pkgs, " ")
	if in.stale {
		s = sudo + "apt-get update && " + s
	}
	return s
}

// install installs packages, after asking where somebody can answer. The package
// lists are only updated where they lack a package, as in a new container.
func (in *installer) install(ctx context.Context, pkgs []string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("this is not Debian or Ubuntu, where make setup can install: install the programs above by the means of this system")
	}
	in.stale = !known(ctx, pkgs)
	if _, err := exec.LookPath("sudo"); err != nil && !in.root {
		return fmt.Errorf("installing takes root's rights, and this machine has no sudo: as root, run %s", strings.ReplaceAll(in.line(pkgs), "sudo ", ""))
	}
	if in.ask != nil {
		yes, err := in.ask("Install with `" + in.line(pkgs) + "`?")
		if err != nil {
			return err
		}
		if !yes {
			return fmt.Errorf("nothing was installed; when you like, run make setup, or %s", in.line(pkgs))
		}
		if err := in.authenticate(ctx); err != nil {
			return in.explain(ctx, err, pkgs)
		}
	}
	updated := false
	update := func() error {
		updated = true
		in.say("reading the package lists (apt-get update)")
		return in.apt(ctx, "update")
	}
	var listsErr error
	if in.stale {
		// Lists of others may fail while Debian's do not: what is known then counts.
		if listsErr = update(); !known(ctx, pkgs) && listsErr != nil {
			return in.explain(ctx, listsErr, pkgs)
		}
	}
	in.say("installing " + strings.Join(pkgs, ", "))
	args := append([]string{"install"}, pkgs...)
	err := in.apt(ctx, args...)
	// Lists that are older than the mirror name packages that it no longer has.
	if err != nil && !updated && fetchFailed.MatchString(err.Error()) && ctx.Err() == nil {
		if err := update(); err != nil {
			return in.explain(ctx, err, pkgs)
		}
		err = in.apt(ctx, args...)
	}
	if err != nil && listsErr != nil {
		err = fmt.Errorf("%w\n%w", listsErr, err)
	}
	return in.explain(ctx, err, pkgs)
}

// authenticate lets sudo ask for the password before progress is shown, which it
// would write into.
func (in *installer) authenticate(ctx context.Context) error {
	if in.root {
		return nil
	}
	cmd := exec.CommandContext(ctx, "sudo", "-v")
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = os.Stdin, &said
	if err := cmd.Run(); err != nil {
		return &sudoError{strings.TrimSpace(said.String())}
	}
	return nil
}

// sudoError is a sudo that refused.
type sudoError struct{ said string }

func (e *sudoError) Error() string { return "sudo: " + e.said }

// known tells whether the package lists have all packages, and what they depend on.
func known(ctx context.Context, pkgs []string) bool {
	args := append([]string{"-qq", "-y", "--print-uris", "--no-install-recommends", "install"}, pkgs...)
	return exec.CommandContext(ctx, "apt-get", args...).Run() == nil
}

// apt runs apt-get as root and tells its progress. The error holds apt's own
// words.
func (in *installer) apt(ctx context.Context, args ...string) error {
	// The shell is there since sudo passes on neither the environment nor further
	// descriptors, and dpkg has no standard output when apt's status goes there.
	// The lock of another apt is waited for; a network that is not there, not long.
	argv := append([]string{"sh", "-c", `export DEBIAN_FRONTEND=noninteractive LC_ALL=C; exec apt-get "$@" 3>&1`, "apt-get",
		"-q", "-y", "--no-install-recommends", "-o", "APT::Status-Fd=3", "-o", "Dpkg::Use-Pty=0",
		"-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"}, args...)
	switch {
	case in.root:
	case in.ask == nil:
		argv = append([]string{"sudo", "-n"}, argv...)
	default:
		argv = append([]string{"sudo"}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	// Not a process group of its own: sudo could not ask for the password. A dpkg
	// that was told to stop finishes its package first, and is waited for.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	out := &aptOutput{say: in.say, live: in.live, fetching: "fetching packages"}
	if args[0] == "update" {
		out.fetching = "reading the package lists"
	}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || args[0] == "update" && out.failed != "" {
		said := out.failed
		if said == "" || strings.Contains(said, "/usr/bin/dpkg returned an error") {
			said = strings.Join(out.tail, "\n") + "\n" + said
		}
		return &aptError{args[0], strings.TrimSpace(said)}
	}
	return nil
}

// aptOutput reads what apt-get prints: status lines for progress, errors, the rest.
type aptOutput struct {
	say      func(string)
	live     bool
	fetching string // what a download is called
	waiting  bool
	rest     []byte
	failed   string   // errors and warnings
	tail     []string // the last of the other lines
}

// status is a line of APT::Status-Fd: kind, package, percent, words.
var status = regexp.MustCompile(`^(dl|pm)(?:status|error|conffile):(.*):([0-9.]*):(.*)$`)

// Write takes apt's output.
func (o *aptOutput) Write(b []byte) (int, error) {
	o.rest = append(o.rest, b...)
	for {
		i := bytes.IndexAny(o.rest, "\r\n")
		if i < 0 {
			return len(b), nil
		}
		o.line(strings.TrimSpace(string(o.rest[:i])))
		o.rest = o.rest[i+1:]
	}
}

func (o *aptOutput) line(s string) {
	m := status.FindStringSubmatch(s)
	switch {
	case m != nil && o.live:
		doing, percent := "installing", strings.Split(m[3], ".")[0]
		if m[1] == "dl" {
			doing, m[4] = o.fetching, ""
		}
		o.say(fmt.Sprintf("%s, %s %%  %s", doing, percent, m[4]))
	case m != nil:
	case strings.Contains(s, "Could not get lock") && strings.Contains(s, "Waiting"), strings.HasPrefix(s, "Waiting for cache lock"):
		if !o.waiting {
			o.say("waiting for another program that installs packages")
		}
		o.waiting = true
	case strings.HasPrefix(s, "E: "), strings.HasPrefix(s, "W: "), strings.HasPrefix(s, "Err:"), strings.HasPrefix(s, "sudo: "):
		o.failed += s + "\n"
	case s != "":
		o.tail = append(o.tail, s)
		o.tail = o.tail[max(0, len(o.tail)-30):]
	}
}

// aptError is an apt-get that failed.
type aptError struct{ verb, said string }

func (e *aptError) Error() string { return "apt-get " + e.verb + ": " + e.said }

var (
	fetchFailed = regexp.MustCompile(`(?i)failed to fetch|unable to fetch`)
	noNetwork   = regexp.MustCompile(`Temporary failure resolving|Could not resolve|Could not connect|Unable to connect|onnection timed out|Network is unreachable|onnection refused`)
	noRights    = regexp.MustCompile(`^apt-get \w+: .*(a password is required|a terminal is required|no tty present|not in the sudoers|not allowed to|may not run sudo|no new privileges|incorrect password)`)
	locked      = regexp.MustCompile(`Could not get lock|Unable to lock|Unable to acquire the dpkg frontend lock`)
	diskIsFull  = regexp.MustCompile(`No space left on device|enough free space`)
)

// explain puts before apt's words what is wrong and what to do.
func (in *installer) explain(ctx context.Context, err error, pkgs []string) error {
	var apt *aptError
	var sudo *sudoError
	if ctx.Err() != nil || !errors.As(err, &apt) && !errors.As(err, &sudo) {
		return err
	}
	text := err.Error()
	reason := "the packages could not be installed: try it by hand, "
	switch {
	case noRights.MatchString(text) && in.ask == nil:
		reason = "installing takes root's rights, and sudo wants a password that nobody can type here: run make setup in a terminal, or "
	case sudo != nil, noRights.MatchString(text):
		reason = "installing takes root's rights, and sudo does not give them to you: have somebody run "
	case locked.MatchString(text):
		reason = "another program is installing packages: when it has ended, run make setup, or "
	case diskIsFull.MatchString(text):
		reason = "the disk is full: make room, then run make setup, or "
	case noNetwork.MatchString(text):
		reason = "the packages have to be fetched once, and there is no network, or apt's proxy does not answer: later run make setup, or "
	}
	return fmt.Errorf("%s%s\n%w", reason, in.line(pkgs), err)
}
