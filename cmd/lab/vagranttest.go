// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/cache"
	"netlinklabs/internal/lab"
	"netlinklabs/internal/report"
)

// vagrantTest does what an instructor and a class do, with a real Vagrant and a real
// machine: the box, vagrant up, all labs, provisioning again, halt, destroy. libvirt
// is the provider, which needs no KVM. Everything stands in a folder of its own, and
// nothing of it is left.
func (a *app) vagrantTest(args []string) error {
	if len(args) > 0 {
		return usagef("vagrant-test takes no arguments")
	}
	forgetChoices()
	if err := a.need(forLabs | forVagrant); err != nil {
		return err
	}
	// Pdeathsig, see cmd, follows the thread that starts a program.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dir := filepath.Join(a.cache, "vagrant-test")
	unlock, err := cache.Lock(a.ctx, dir+".lock", func(string) { a.progress.say("waiting for another make vagrant-test") })
	if err != nil {
		return err
	}
	defer unlock()
	t := &vagrantRun{app: a, dir: dir, checkout: filepath.Join(dir, vagrantName), start: time.Now()}
	return t.run()
}

// vagrantName is the folder of the copied checkout, and so a part of the names of all
// that the test makes in libvirt.
const vagrantName = "netlink-labs-test"

// vagrantRun is one call of vagrant-test.
type vagrantRun struct {
	*app
	dir, checkout string
	start         time.Time
	log           *os.File
	daemons       []*exec.Cmd
	before        libvirtState
	labs          []labTimes
}

// labTimes is a row of the table at the end.
type labTimes struct {
	name              string
	solution, starter float64
}

func (t *vagrantRun) run() (err error) {
	// What a killed test left in libvirt is found by its names, its folder here.
	if err := os.RemoveAll(t.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(t.dir, 0o711); err != nil { // QEMU's user passes through
		return err
	}
	if t.log, err = os.Create(filepath.Join(t.dir, "log")); err != nil {
		return err
	}
	defer t.log.Close()
	if err := t.startLibvirt(); err != nil {
		return err
	}
	defer t.stopLibvirt()
	if err := t.removeAll(t.ctx); err != nil {
		return fmt.Errorf("removing what another vagrant-test left: %w", err)
	}
	if t.before, err = t.libvirt(t.ctx); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), time.Minute)
		defer cancel()
		if e := t.removeAll(ctx); e != nil && err == nil {
			err = e
		}
		if e := t.undo(ctx); e != nil && err == nil {
			err = e
		}
		if err == nil || t.ctx.Err() != nil {
			err = errors.Join(err, os.RemoveAll(t.dir))
		}
	}()
	for _, s := range []struct {
		name, does string
		run        func() error
	}{
		{"validate", "the Vagrantfile is right for libvirt and VirtualBox, and a wrong one is refused", t.validate},
		{"kvm", "KVM is chosen where it is of use, and not where it can only be opened", t.kvm},
		{"box", "vagrant/build-box.sh, unless nothing has changed", t.box},
		{"up", "vagrant up, with provisioning", func() error { return t.vagrant("up", "--no-color") }},
		{"solutions", "every lab's solution passes inside", t.solutions},
		{"starters", "every lab's starter fails inside", t.starters},
		{"report", "lab 4's reports, inside and on the host, are those of the throw-away VM", t.reports},
		{"mishaps", "provisioning and checks say what goes wrong, and go on when repeated", t.mishaps},
		{"clean", "no module, trace, process or file of a check is left inside", t.clean},
		{"again", "a second provisioning changes nothing", t.again},
		{"halt", "vagrant halt and up; the student's code is still there", t.halt},
		{"destroy", "vagrant destroy leaves nothing in libvirt but the box", t.destroy},
	} {
		begin := time.Now()
		t.progress.say(s.name + ": " + s.does)
		if err := s.run(); err != nil {
			if t.ctx.Err() != nil {
				return t.ctx.Err()
			}
			fmt.Fprintf(t.out, "FAIL  %-10s %6.1f s  %s\n\n%v\n\neverything that was said: %s\n", s.name, time.Since(begin).Seconds(), s.does, err, t.log.Name())
			return errNotPassed
		}
		t.progress.clear()
		fmt.Fprintf(t.out, "ok    %-10s %6.1f s  %s\n", s.name, time.Since(begin).Seconds(), s.does)
	}
	fmt.Fprintf(t.out, "\n  %-28s %10s %10s\n", "inside the Vagrant VM", "solution", "starter")
	for _, l := range t.labs {
		fmt.Fprintf(t.out, "  %-28s %8.1f s %8.1f s\n", l.name, l.solution, l.starter)
	}
	fmt.Fprintf(t.out, "\n%.0f s in all\n", time.Since(t.start).Seconds())
	return nil
}

// command runs a program for at most limit. Everything that it says goes to the log;
// an error has its last lines.
func (t *vagrantRun) command(ctx context.Context, limit time.Duration, dir string, env []string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := t.cmd(ctx, append(t.environ(), env...), argv...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Minute // vagrant tidies up
	fmt.Fprintf(t.log, "\n%6.1f s  %s\n", time.Since(t.start).Seconds(), strings.Join(argv, " "))
	b, err := cmd.CombinedOutput()
	out := progressLine.ReplaceAllString(string(b), "")
	fmt.Fprintln(t.log, out)
	if err == nil {
		return out, nil
	}
	if ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("it took more than %s", limit)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return out, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, strings.Join(lines[max(0, len(lines)-30):], "\n"))
}

// progressLine is what vagrant writes over and over while it copies a box.
var progressLine = regexp.MustCompile(`(?m)^.*(\r|Progress: \d+%.*\n)`)

// environ is Vagrant's environment: its own folders, our box, nothing of the user's.
func (t *vagrantRun) environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "VAGRANT_") })
	return append(env, "VAGRANT_HOME="+filepath.Join(t.dir, "home"), "VAGRANT_CHECKPOINT_DISABLE=1", "VAGRANT_DEFAULT_PROVIDER=libvirt",
		"VAGRANT_NO_PARALLEL=1", "BOX="+filepath.Join(t.dir, vagrantName+".box"), "CONSOLE="+filepath.Join(t.dir, "console"))
}

func (t *vagrantRun) vagrant(args ...string) error {
	_, err := t.vagrantOut(args...)
	return err
}

func (t *vagrantRun) vagrantOut(args ...string) (string, error) {
	return t.command(t.ctx, 15*time.Minute, t.checkout, nil, append([]string{"vagrant"}, args...)...)
}

// inside runs a shell's command in the machine, in the workbook's folder.
func (t *vagrantRun) inside(command string) (string, error) {
	return t.command(t.ctx, 15*time.Minute, t.dir, nil, "ssh", "-q", "-F", "ssh-config", "default", "cd netlink-labs && "+command)
}

// copyCheckout copies what git would track, as it is now.
func (t *vagrantRun) copyCheckout() error {
	_, err := t.command(t.ctx, time.Minute, t.root, nil, "rsync", "-a", "--exclude=/.git", "--exclude=/work/", "--exclude=/bin/", "--exclude=/.vagrant/",
		"--exclude=/vagrant/*.box", "./", t.checkout+"/")
	return err
}

// validate has Vagrant look at the Vagrantfile. It checks only the block of the
// provider that is chosen, and VirtualBox has to be there for that: a stub is.
func (t *vagrantRun) validate() error {
	if err := t.copyCheckout(); err != nil {
		return err
	}
	stub := filepath.Join(t.dir, "stub")
	if err := os.MkdirAll(stub, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(stub, "VBoxManage"), []byte("#!/bin/sh\necho 7.0.20r163906\n"), 0o755); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(t.checkout, "Vagrantfile"))
	if err != nil {
		return err
	}
	wrong := filepath.Join(t.dir, "wrong")
	if err := os.CopyFS(filepath.Join(wrong, "vagrant"), os.DirFS(filepath.Join(t.checkout, "vagrant"))); err != nil {
		return err
	}
	for provider, at := range map[string]string{"libvirt": "libvirt.memory", "virtualbox": "virtualbox.memory"} {
		env := []string{"VAGRANT_DEFAULT_PROVIDER=" + provider, "PATH=" + stub + ":" + os.Getenv("PATH"), "BOX="}
		if _, err := t.command(t.ctx, time.Minute, t.checkout, env, "vagrant", "validate"); err != nil {
			return err
		}
		broken := strings.Replace(string(text), at+" =", strings.TrimSuffix(at, "memory")+"memorry =", 1)
		if err := os.WriteFile(filepath.Join(wrong, "Vagrantfile"), []byte(broken), 0o644); err != nil {
			return err
		}
		out, err := t.command(t.ctx, time.Minute, wrong, env, "vagrant", "validate")
		if err == nil || !strings.Contains(out, "memorry") {
			return fmt.Errorf("a wrong option of %s is not refused: %s", provider, out)
		}
	}
	return nil
}

// kvm has the Vagrantfile's choice made with a QEMU that pretends. What it does under KVM
// is what was seen on machines; by emulation it always works.
func (t *vagrantRun) kvm() error {
	if runtime.GOARCH != "amd64" {
		return nil // elsewhere there is no choice: see kvm.rb
	}
	ruby, err := exec.LookPath("ruby")
	if err != nil {
		return err
	}
	dir := filepath.Join(t.dir, "pretends")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, c := range []struct {
		what, underKVM, device, accel string
		chosen                        bool
	}{
		{"KVM works", "exit 85", "/dev/null", "", true},
		{"it takes much longer than emulation", "/bin/sleep 1.5; exit 85", "/dev/null", "", false},
		{"QEMU aborts", "kill -ABRT $$", "/dev/null", "", false},
		{"QEMU refuses", "exit 1", "/dev/null", "", false},
		{"the device is not everybody's", "exit 85", "/proc/sys/kernel/random/boot_id", "", false},
		{"there is no device", "exit 85", "/dev/no-kvm", "", false},
		{"ACCEL=tcg", "exit 85", "/dev/null", "tcg", false},
		{"ACCEL=kvm", "exit 1", "/dev/null", "kvm", true},
	} {
		script := "#!/bin/sh\ncase \"$*\" in *accel=kvm*) " + c.underKVM + " ;; esac\nexit 85\n"
		if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(script), 0o755); err != nil {
			return err
		}
		out, err := t.command(t.ctx, time.Minute, t.checkout, []string{"ACCEL=" + c.accel, "PATH=" + dir},
			ruby, "-r./vagrant/kvm", "-e", "print kvm_works?(ARGV[0])", c.device)
		if err != nil || out != fmt.Sprint(c.chosen) {
			return fmt.Errorf("%s: KVM is chosen: %s, want %t: %v", c.what, out, c.chosen, err)
		}
	}
	return nil
}

// box builds the box, or takes the one that was built from the same files, and gives
// it a name of its own: what libvirt keeps of it is removed by that name.
func (t *vagrantRun) box() error {
	key := ""
	version, err := t.command(t.ctx, time.Minute, t.root, goEnv(), "go", "version")
	if err != nil {
		return err
	}
	for _, name := range []string{"vagrant/build-box.sh", "vagrant/provision.sh", "go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(t.root, name))
		if err != nil {
			return err
		}
		key += string(b)
	}
	dir := filepath.Join(t.cache, "boxes", fmt.Sprintf("%x", sha256.Sum256([]byte(key+version)))[:16])
	err = cache.Make(t.ctx, dir, nil, func(tmp string) error {
		_, err := t.command(t.ctx, 40*time.Minute, t.checkout, []string{"OUT=" + filepath.Join(tmp, "netlink-labs.box")}, "vagrant/build-box.sh")
		return err
	})
	if err != nil {
		return err
	}
	return os.Link(filepath.Join(dir, "netlink-labs.box"), filepath.Join(t.dir, vagrantName+".box"))
}

// checks runs all labs' checks inside, by environment variables. env says which
// programs, and judge what is wrong with a report.
func (t *vagrantRun) checks(env string, judge func(*report.Report) string, took func(*labTimes, float64)) error {
	if _, err := t.command(t.ctx, time.Minute, t.checkout, nil, "sh", "-c", "vagrant ssh-config >../ssh-config"); err != nil {
		return err
	}
	bad := ""
	for i, l := range t.cat.Labs {
		t.progress.say(fmt.Sprintf("lab %d: %s", l.Number, env))
		begin := time.Now()
		// The exit code says what the report says.
		out, failed := t.inside(fmt.Sprintf("%s bin/lab check -json /tmp/report.json %d; code=$?; [ $code -lt 2 ] || exit $code; cat /tmp/report.json; rm /tmp/report.json", env, l.Number))
		if t.ctx.Err() != nil {
			return t.ctx.Err()
		}
		if i == len(t.labs) {
			t.labs = append(t.labs, labTimes{name: fmt.Sprintf("%d %s", l.Number, l.Meta.Title)})
		}
		took(&t.labs[i], time.Since(begin).Seconds())
		if failed != nil {
			bad += fmt.Sprintf("lab %d: %v\n", l.Number, failed)
			continue
		}
		var rep report.Report
		if err := json.Unmarshal([]byte(out[max(0, strings.Index(out, "\n{")):]), &rep); err != nil {
			bad += fmt.Sprintf("lab %d: no report: %v\n%s\n", l.Number, err, out)
		} else if why := judge(&rep); why != "" {
			bad += fmt.Sprintf("lab %d: %s\n%s\n", l.Number, why, out)
		}
	}
	if bad != "" {
		return errors.New(bad)
	}
	return nil
}

func (t *vagrantRun) solutions() error {
	return t.checks("SOLUTION=1", func(r *report.Report) string {
		switch {
		case r.Outcome != report.Passed:
			return "the solution does not pass"
		case r.Where != "here":
			return "it was checked in the wrong place: " + r.Where
		}
		return ""
	}, func(l *labTimes, s float64) { l.solution = s })
}

func (t *vagrantRun) starters() error {
	return t.checks("WORK=/tmp/starters", func(r *report.Report) string {
		holes, err := t.cat.Labs[r.Lab].Holes()
		switch {
		case err != nil:
			return err.Error()
		case len(holes) == 0: // nothing is left to write
			return ""
		case r.Outcome != report.Failed || why(r) == "" || !strings.Contains(why(r), lab.NotDone(holes[0])):
			return "the starter does not fail as it should"
		}
		return ""
	}, func(l *labTimes, s float64) { l.starter = s })
}

// reports compares what is printed in the throw-away VM with what is printed inside, and
// on the host about the machine: of a solution, and of a wrong answer.
func (t *vagrantRun) reports() error {
	l, err := t.lab("4")
	if err != nil {
		return err
	}
	codes := []string{"solution"}
	wrong, err := l.Wrong()
	if err != nil {
		return err
	}
	for _, w := range wrong[:min(1, len(wrong))] {
		codes = append(codes, "testdata/wrong/"+w.Name)
	}
	if _, err := t.command(t.ctx, 10*time.Minute, t.checkout, nil, "sh", "cmd/build.sh"); err != nil {
		return err
	}
	// What it says besides matters where there is no report.
	const check = ` check 4 2>"$said"; code=$?; [ $code -lt 2 ] || cat "$said"; rm "$said"; echo "exit code $code"`
	for _, code := range codes {
		code = "CODE=labs/" + l.Name + "/" + code
		here := func(where string) (string, error) {
			return t.command(t.ctx, 15*time.Minute, t.checkout, []string{code, "WHERE=" + where}, "sh", "-c", "said=$(mktemp); bin/lab"+check)
		}
		want, err := here("vm")
		if err != nil {
			return err
		}
		inside, err := t.inside("said=$(mktemp); " + code + " bin/lab" + check)
		if err != nil {
			return err
		}
		host, err := here("vagrant")
		if err != nil {
			return err
		}
		for where, got := range map[string]string{"in the Vagrant VM": inside, "on its host": host} {
			if diff := lab.SameOutput(anyPlace.ReplaceAllString(want, ", PLACE,"), anyPlace.ReplaceAllString(got, ", PLACE,")); diff != "" {
				return fmt.Errorf("the report on %s is another one %s:\n%s", code, where, diff)
			}
		}
	}
	return nil
}

// anyPlace is where a check ran, as the report's last line says; for a throw-away VM
// with what carries it.
var anyPlace = regexp.MustCompile(`, (here|vagrant|vm, [a-z]+),`)

// clean looks for what checks could have left.
func (t *vagrantRun) clean() error {
	out, err := t.inside(`
		lsmod | grep '^nl'
		sudo cat /sys/kernel/tracing/kprobe_events
		sudo ls /sys/kernel/tracing/instances
		sudo cat /sys/kernel/tracing/current_tracer | grep -v nop
		sudo sh -c 'cat /sys/kernel/tracing/events/enable' | grep -v 0
		pgrep -a qemu-system
		pgrep -af '^guest here|^/init -test|^/job/program'
		ls ~/.cache/netlink-labs/scratch
		sudo dmesg | grep -E 'BUG:|WARNING:|Oops'
		true`)
	if err == nil && strings.TrimSpace(out) != "" {
		err = fmt.Errorf("left inside:\n%s", out)
	}
	return err
}

// mishaps lets provisioning and checks fail inside, as they do to people.
func (t *vagrantRun) mishaps() error {
	const provision = "env FOLDER=$PWD bash vagrant/provision.sh"
	for _, m := range []struct {
		what, command string
		code          int
		says          string
	}{
		{"no network, and the running kernel's headers are not there", "sudo rm -f /run/netlink-labs-lists && sudo unshare -n env RELEASE=6.12.0-0-cloud-amd64 " + provision,
			2, "the headers of kernel 6.12.0-0-cloud-amd64 could not be installed: this machine does not reach Debian's packages"},
		{"headers that Debian does not have any more", "sudo touch /run/netlink-labs-lists && sudo env RELEASE=6.12.0-0-cloud-amd64 " + provision,
			2, "kernel 6.12.0-0-cloud-amd64 has no headers any more; a newer kernel was installed"},
		{"an account that is not there", "sudo env ACCOUNT=nobody-else " + provision, 2, "there is no account nobody-else here"},
		{"two students at once", "checks() { for i in 1 2 3; do SOLUTION=1 bin/lab check 0 || return; done; }; checks & checks && wait $!", 0, "one check at a time on this kernel: waiting for "},
		{"a module that somebody else has loaded", "sudo insmod $(ls -t ~/.cache/netlink-labs/modules/*/nlecho.ko | head -n 1) && { " +
			"SOLUTION=1 bin/lab check 1; code=$?; sudo rmmod nlecho; (exit $code); }", 2, "the module nlecho is loaded, and not by a check: sudo rmmod nlecho"},
		{"a full disk", "fallocate -l $(df -B1 --output=avail ~ | tail -n 1) ~/all; { " +
			"SOLUTION=1 bin/lab check 1; code=$?; rm ~/all; (exit $code); }", 2, "no space left on device"},
		// Half way, however fast it is: by the find with which it begins to build. That sends
		// Ctrl-C's signal to the process group, which is timeout's.
		{"it was interrupted", "sudo rm -f /etc/netlink-labs/place ~/.cache/netlink-labs/provisioned && " +
			"mkdir /tmp/half && printf '#!/bin/sh\\nkill -INT 0\\n' >/tmp/half/find && chmod +x /tmp/half/find && { " +
			"sudo timeout 600 env PATH=/tmp/half:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin " + provision + "; code=$?; rm -r /tmp/half; (exit $code); }", 130, ""},
		{"a check on a machine that is not provisioned", "WHERE=here bin/lab check 0", 2, "WHERE=here"},
		{"all is well again", "sudo " + provision + " && SOLUTION=1 bin/lab check 0", 0, "here"},
	} {
		out, err := t.inside("{ " + m.command + "; }; code=$?; test $code = " + fmt.Sprint(m.code) + " || { echo exit code $code; false; }")
		if t.ctx.Err() != nil {
			return t.ctx.Err()
		}
		if err != nil || !strings.Contains(out, m.says) {
			return fmt.Errorf("%s: want exit code %d and the words %q: %v\n%s", m.what, m.code, m.says, err, out)
		}
	}
	return nil
}

// again provisions a second time, and looks for files that this has written.
func (t *vagrantRun) again() error {
	if _, err := t.inside("sleep 1; sudo touch /run/before; sleep 1"); err != nil {
		return err
	}
	out, err := t.vagrantOut("provision", "--no-color")
	if err != nil {
		return err
	}
	if strings.Contains(out, "netlink-labs: ") {
		return fmt.Errorf("it had something to do:\n%s", out)
	}
	out, err = t.inside("sudo find /etc /usr /opt /boot /home /var/lib/dpkg -xdev -newer /run/before")
	if err == nil && strings.TrimSpace(out) != "" {
		err = fmt.Errorf("it has changed\n%s", out)
	}
	return err
}

// halt turns the machine off and on. The host's checkout has changed meanwhile, and
// the student has written code inside.
func (t *vagrantRun) halt() error {
	const mine, changed = "work/04-slow-echo/mine.txt", "docs/changed-on-the-host.txt"
	if _, err := t.inside("mkdir -p work/04-slow-echo && echo mine >" + mine); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(t.checkout, changed), []byte("changed\n"), 0o644); err != nil {
		return err
	}
	if err := t.vagrant("halt", "--no-color"); err != nil {
		return err
	}
	if err := t.vagrant("up", "--no-color"); err != nil {
		return err
	}
	if _, err := t.command(t.ctx, time.Minute, t.checkout, nil, "sh", "-c", "vagrant ssh-config >../ssh-config"); err != nil {
		return err
	}
	out, err := t.inside("cat " + mine + " " + changed + " && bin/lab check 0")
	if err == nil && !strings.HasPrefix(out, "mine\nchanged\n") {
		err = fmt.Errorf("the student's file, or the host's, is not there:\n%s", out)
	}
	return err
}

func (t *vagrantRun) destroy() error {
	if err := t.vagrant("destroy", "--no-color", "--force"); err != nil {
		return err
	}
	now, err := t.libvirt(t.ctx)
	if err != nil {
		return err
	}
	for _, d := range now.domains {
		if strings.HasPrefix(d, vagrantName) {
			return fmt.Errorf("the machine is still there: %s", d)
		}
	}
	// The box is Vagrant's to keep, for the next machine. It is ours to remove.
	for _, v := range now.volumes {
		if strings.HasPrefix(v, vagrantName) && !strings.Contains(v, "_vagrant_box_image_") {
			return fmt.Errorf("a disk is still there: %s", v)
		}
	}
	if err := t.removeAll(t.ctx); err != nil {
		return err
	}
	if now, err = t.libvirt(t.ctx); err != nil {
		return err
	}
	if left := minus(now.volumes, t.before.volumes); len(left) > 0 {
		return fmt.Errorf("left in the pool: %s", strings.Join(left, ", "))
	}
	return nil
}

// libvirtState is what libvirt has, by name.
type libvirtState struct{ domains, volumes, pools, networks []string }

const pool = "default"

func (t *vagrantRun) virsh(ctx context.Context, args ...string) ([]string, error) {
	out, err := t.command(ctx, time.Minute, t.dir, []string{"LC_ALL=C"}, append([]string{"virsh", "-q", "-c", "qemu:///system"}, args...)...)
	return strings.Fields(out), err
}

func (t *vagrantRun) libvirt(ctx context.Context) (s libvirtState, err error) {
	if s.domains, err = t.virsh(ctx, "list", "--all", "--name"); err != nil {
		return s, err
	}
	if s.networks, err = t.virsh(ctx, "net-list", "--all", "--name"); err != nil {
		return s, err
	}
	if s.pools, err = t.virsh(ctx, "pool-list", "--all", "--name"); err != nil {
		return s, err
	}
	if !slices.Contains(s.pools, pool) {
		return s, nil
	}
	if _, err = t.virsh(ctx, "pool-refresh", pool); err != nil {
		return s, err
	}
	fields, err := t.virsh(ctx, "vol-list", pool)
	for i := 0; i < len(fields); i += 2 { // name and path
		s.volumes = append(s.volumes, fields[i])
	}
	return s, err
}

// removeAll removes the machine, its disk, and what libvirt keeps of the box.
func (t *vagrantRun) removeAll(ctx context.Context) error {
	s, err := t.libvirt(ctx)
	if err != nil {
		return err
	}
	for _, d := range s.domains {
		if strings.HasPrefix(d, vagrantName) {
			_, _ = t.virsh(ctx, "destroy", d) // it may be off
			if _, err := t.virsh(ctx, "undefine", d); err != nil {
				return err
			}
		}
	}
	for _, v := range s.volumes {
		if strings.HasPrefix(v, vagrantName) {
			if _, err := t.virsh(ctx, "vol-delete", "--pool", pool, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// undo removes the network and the pool that Vagrant made, if it made them.
func (t *vagrantRun) undo(ctx context.Context) error {
	now, err := t.libvirt(ctx)
	if err != nil {
		return err
	}
	for _, n := range minus(now.networks, t.before.networks) {
		_, _ = t.virsh(ctx, "net-destroy", n)
		if _, err := t.virsh(ctx, "net-undefine", n); err != nil {
			return err
		}
	}
	for _, p := range minus(now.pools, t.before.pools) {
		_, _ = t.virsh(ctx, "pool-destroy", p)
		if _, err := t.virsh(ctx, "pool-undefine", p); err != nil {
			return err
		}
	}
	return nil
}

func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// startLibvirt starts libvirt's daemons where none answers, as in a container.
func (t *vagrantRun) startLibvirt() error {
	if _, err := t.virsh(t.ctx, "version"); err == nil {
		return nil
	} else if os.Geteuid() != 0 {
		return fmt.Errorf("libvirt does not answer you. On a machine of your own: `sudo adduser $USER libvirt`, then log in again.\n%w", err)
	}
	if err := os.MkdirAll("/run/libvirt", 0o755); err != nil {
		return err
	}
	for _, name := range []string{"virtlogd", "libvirtd"} {
		path, err := lookTool(name)
		if err != nil {
			return err
		}
		d := exec.Command(path, "-p", filepath.Join(t.dir, name+".pid"))
		d.Stdout, d.Stderr = t.log, t.log
		d.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
		if err := d.Start(); err != nil {
			return err
		}
		t.daemons = append(t.daemons, d)
	}
	for range 60 {
		if _, err := t.virsh(t.ctx, "version"); err == nil || t.ctx.Err() != nil {
			return t.ctx.Err()
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.stopLibvirt()
	return fmt.Errorf("libvirtd was started, and does not answer: see %s", t.log.Name())
}

func (t *vagrantRun) stopLibvirt() {
	for _, d := range slices.Backward(t.daemons) {
		_ = d.Process.Signal(unix.SIGTERM)
		_ = d.Wait()
	}
}
