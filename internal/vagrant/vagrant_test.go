// SPDX-License-Identifier: MIT

package vagrant_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"netlinklabs/internal/vagrant"
)

// stub is a vagrant that leaves its arguments in the file calls, prints the files
// COMMAND.out and COMMAND.err, and fails where there is COMMAND.err.
const stub = `#!/bin/sh
cd "$STUB" || exit 99
echo "$* in $VAGRANT_CHECKPOINT_DISABLE" >>calls
[ ! -e waits ] || { : >waiting; exec sleep 100; }
[ ! -e "$1.out" ] || cat "$1.out"
[ ! -e "$1.err" ] || { cat "$1.err" >&2; exit 1; }
`

// stubbed puts the stub into PATH, with files, and returns a project.
func stubbed(t *testing.T, files map[string]string) (*vagrant.Project, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	write(t, filepath.Join(dir, "bin/vagrant"), stub)
	t.Setenv("STUB", dir)
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	return &vagrant.Project{Root: t.TempDir()}, dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What vagrant-libvirt 0.11 and Vagrant 2.3 print.
const (
	sshConfig = `Host labs
  HostName 192.168.121.7
  User vagrant
  Port 22
`
	notReadyForSSH = `The provider for this Vagrant-managed machine is reporting that it
is not yet ready for SSH. Depending on your provider this can carry
different meanings. Make sure your machine is created and running and
try again.
`
	off = `1795340000,labs,metadata,provider,libvirt
1795340000,labs,provider-name,libvirt
1795340000,labs,state,shutoff
1795340000,labs,state-human-short,shutoff
1795340000,labs,state-human-long,The Libvirt domain is not running. Run ` + "`vagrant up`" + ` to start it.
1795340000,,ui,info,Current machine states:\n\nlabs                      shutoff (libvirt)
`
)

func TestFind(t *testing.T) {
	p, dir := stubbed(t, map[string]string{"ssh-config.out": sshConfig})
	config := t.TempDir()
	m, err := p.Find(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	// ssh is asked for what it would do; it need not be there.
	write(t, filepath.Join(dir, "bin/ssh"), "#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
	cmd, err := m.Command(t.Context(), "echo 'it''s' $HOME")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Split(strings.TrimSpace(string(out)), "\n")
	if n := len(args); args[0] != "-F" || args[1] != filepath.Join(config, "ssh-config") || args[n-2] != "labs" {
		t.Errorf("ssh %q", args)
	}
	// What comes out of two shells is what went in.
	inner := exec.Command("sh", "-c", strings.Replace(args[len(args)-1], "bash -lc", "printf %s", 1))
	if word, err := inner.Output(); err != nil || string(word) != "echo 'it''s' $HOME" {
		t.Errorf("the shell in the VM gets %q, %v", word, err)
	}
	if b, err := os.ReadFile(args[1]); err != nil || string(b) != sshConfig {
		t.Errorf("ssh's configuration is %q, %v", b, err)
	}
	if err := m.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "calls")); string(b) != "ssh-config in 1\nrsync in 1\n" {
		t.Errorf("calls of vagrant:\n%s", b)
	}
}

// A state is another one when a file that is synced is another one.
func TestState(t *testing.T) {
	p := &vagrant.Project{Root: t.TempDir()}
	state := func() string {
		t.Helper()
		s, err := p.State()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	write(t, filepath.Join(p.Root, "go.mod"), "module x")
	was := state()
	for _, name := range []string{".git/HEAD", ".vagrant/id", "work/01/main.go", "bin/lab", "vagrant/labs.box"} {
		write(t, filepath.Join(p.Root, name), "")
		if state() != was {
			t.Errorf("%s is not synced, and changes the state", name)
		}
	}
	for _, change := range []func() error{
		func() error { return os.WriteFile(filepath.Join(p.Root, "a.go"), nil, 0o644) },
		func() error { return os.Rename(filepath.Join(p.Root, "a.go"), filepath.Join(p.Root, "b.go")) },
		func() error { return os.Chmod(filepath.Join(p.Root, "b.go"), 0o755) },
		func() error { return os.WriteFile(filepath.Join(p.Root, "b.go"), []byte("x"), 0o644) },
		func() error { return os.Chtimes(filepath.Join(p.Root, "b.go"), time.Unix(1, 0), time.Unix(1, 0)) },
		func() error { return os.Remove(filepath.Join(p.Root, "b.go")) },
		func() error { return os.Mkdir(filepath.Join(p.Root, "labs"), 0o755) }, // changes nothing
	} {
		was := state()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(filepath.Join(p.Root, "labs"))
		if empty := err == nil; (state() != was) == empty {
			t.Error("a change is not seen, or an empty folder is")
		}
	}
}

// failing returns a status that ends with an error of this class.
func failing(class, said string) string {
	return "1795340000,,ui,error," + said + "\n1795340000,,error-exit," + class + "," + said + "\n"
}

func TestNoVM(t *testing.T) {
	for _, tt := range []struct{ name, status, want string }{
		{"off", off, "the VM is not running (libvirt says: shutoff): `vagrant up`"},
		{"not created", strings.ReplaceAll(off, "state,shutoff", "state,not_created"), "the VM has not been made yet: `vagrant up`, see docs/instructors.md"},
		{"no access", strings.ReplaceAll(off, "state,shutoff", "state,running"),
			"the VM runs, but does not let anybody in: is it still starting? If not, `vagrant reload`\n  The provider for this"},
		{"no provider", failing("Vagrant::Errors::NoDefaultProvider", `No usable default provider could be found for your system.\n\nVagrant relies on interactions with 3rd party systems%!(VAGRANT_COMMA) known as\n"providers"`),
			"Vagrant finds no provider that works here (libvirt, VirtualBox, VMware, Parallels, QEMU): docs/instructors.md says how to get one\n  No usable default provider could be found for your system.\n  \n  Vagrant relies on interactions with 3rd party systems, known as\n  \"providers\""},
		{"provider is not usable", failing("Vagrant::Errors::ProviderNotUsable", `The provider 'virtualbox' that was requested to back the machine\n'labs' is reporting that it isn't usable on this system.`),
			"Vagrant finds no provider that works here"},
		{"no libvirtd", failing("VagrantPlugins::ProviderLibvirt::Errors::FogLibvirtConnectionError", `Error while connecting to Libvirt: Error making a connection to libvirt URI qemu:///system:\nCall to virConnectOpen failed: Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory`),
			"libvirt does not answer: `sudo systemctl start libvirtd`"},
		{"not in the group", failing("VagrantPlugins::ProviderLibvirt::Errors::FogLibvirtConnectionError", `Call to virConnectOpen failed: Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied`),
			"libvirt does not let you in: `sudo adduser $USER libvirt`, then log in again"},
		{"at work", failing("Vagrant::Errors::MachineLocked", `An action 'up' was attempted on the machine 'labs'%!(VAGRANT_COMMA)\nbut another process is already executing an action on the machine.`),
			"another vagrant is at work on the VM: try again when it has ended"},
		{"no Vagrantfile", failing("Vagrant::Errors::NoEnvironmentError", `A Vagrant environment or target machine is required to run this\ncommand.`),
			"there is no Vagrantfile in this folder"},
		{"a syntax error", failing("Vagrant::Errors::VagrantfileSyntaxError", `There is a syntax error`), "vagrant failed\n  There is a syntax error"},
		{"nothing", "", "vagrant status names no machine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := stubbed(t, map[string]string{"ssh-config.err": notReadyForSSH, "status.out": tt.status})
			_, err := p.Find(t.Context(), t.TempDir())
			var of *vagrant.Error
			if !errors.As(err, &of) || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("Find: %v\nwant: %s", err, tt.want)
			}
		})
	}
}

func TestNotInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	p := &vagrant.Project{Root: t.TempDir()}
	if _, err := p.Find(t.Context(), t.TempDir()); !errors.Is(err, vagrant.ErrNotInstalled) {
		t.Errorf("Find: %v", err)
	}
	if _, err := p.Version(t.Context()); !errors.Is(err, vagrant.ErrNotInstalled) {
		t.Errorf("Version: %v", err)
	}
}

func TestSyncFails(t *testing.T) {
	for _, tt := range []struct{ name, said, want string }{
		{"full", `There was an error when attempting to rsync a synced folder.
Error: rsync: [receiver] write failed on "/home/vagrant/netlink-labs/go.sum": No space left on device (28)
`, vagrant.FullDisk + "\n  There was an error"},
		{"hung", "The machine is reporting that it is not ready for rsync to\ncommunicate with it. Verify that this machine is properly running.\n",
			"the VM runs, but does not let anybody in"},
		{"else", "rsync could not be found\n", "vagrant failed\n  rsync could not be found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := stubbed(t, map[string]string{"ssh-config.out": sshConfig, "rsync.err": tt.said})
			m, err := p.Find(t.Context(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Sync(t.Context()); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("Sync: %v\nwant: %s", err, tt.want)
			}
		})
	}
}

// A vagrant that is interrupted is gone, and the error is the context's.
func TestInterrupted(t *testing.T) {
	p, dir := stubbed(t, map[string]string{"waits": ""})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "waiting")); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := p.Find(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("Find: %v", err)
	}
}

func TestTail(t *testing.T) {
	var lines []string
	tail := &vagrant.Tail{Line: func(s string) { lines = append(lines, s) }}
	for _, piece := range []string{"one\ntw", "o\r\n\nthr", "ee"} {
		if n, err := tail.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := strings.Join(lines, "|"); got != "one|two" {
		t.Errorf("lines: %q", got)
	}
	if got := tail.String(); got != "one\ntwo\n\nthree" {
		t.Errorf("kept: %q", got)
	}
}
