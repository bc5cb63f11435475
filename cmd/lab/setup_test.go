// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeApt does as apt-get does: packages are known when the file lists is there,
// which update makes unless there is no network. Each call leaves a line in calls.
const fakeApt = `#!/bin/sh
cd "$FAKE" || exit 99
case " $* " in
*" --print-uris "*)
	echo known >>calls
	[ -e lists ] || exit 100 ;;
*" update "*)
	echo update >>calls
	if [ -e offline ]; then
		echo "W: Failed to fetch http://deb.example/InRelease  Temporary failure resolving 'deb.example'"
		echo "W: Some index files failed to download. They have been ignored, or old ones used instead."
		exit 0
	fi
	: >lists; : >fresh ;;
*)
	echo "install as ${AS:-user}, $DEBIAN_FRONTEND, $LC_ALL" >>calls
	echo "dlstatus:1:43.2:Retrieving file 1 of 2" >&3
	echo "pmstatus:qemu:amd64:50.0:Installing qemu (amd64)" >&3
	if [ -e stale ] && ! [ -e fresh ]; then
		echo "E: Failed to fetch http://deb.example/q.deb  404  Not Found"
		exit 100
	fi
	if [ -e says ]; then
		cat says
		exit 100
	fi ;;
esac
`

const fakeSudo = `#!/bin/sh
echo "sudo $1" >>"$FAKE/calls"
if [ -e "$FAKE/refuses" ]; then
	cat "$FAKE/refuses" >&2
	exit 1
fi
[ "$1" = -v ] && exit
[ "$1" = -n ] && shift
AS=root exec "$@"
`

func TestInstall(t *testing.T) {
	yes := func(string) (bool, error) { return true, nil }
	tests := []struct {
		name    string
		files   map[string]string // state of the fakes, see there
		without string            // a program that is not there
		root    bool
		ask     func(string) (bool, error)
		calls   string // what was called, in order
		says    string // a part of the error; "" means none
	}{
		{name: "root", files: map[string]string{"lists": ""}, root: true,
			calls: "known, install as user, noninteractive, C"},
		{name: "nobody can answer", files: map[string]string{"lists": ""},
			calls: "known, sudo -n, install as root, noninteractive, C"},
		{name: "asked", files: map[string]string{"lists": ""}, ask: yes,
			calls: "known, sudo -v, sudo sh, install as root, noninteractive, C"},
		{name: "asked and refused", files: map[string]string{"lists": ""},
			ask:   func(string) (bool, error) { return false, nil },
			calls: "known",
			says:  "nothing was installed; when you like, run make setup, or sudo apt-get install --no-install-recommends qemu strace"},
		{name: "empty lists", root: true,
			calls: "known, update, known, install as user, noninteractive, C"},
		{name: "lists older than the mirror", files: map[string]string{"lists": "", "stale": ""}, root: true,
			calls: "known, install as user, noninteractive, C, update, install as user, noninteractive, C"},
		{name: "no network", files: map[string]string{"offline": ""}, root: true,
			calls: "known, update, known",
			says:  "there is no network, or apt's proxy does not answer: later run make setup, or apt-get update && apt-get install --no-install-recommends qemu strace\n"},
		{name: "no sudo", files: map[string]string{"lists": ""}, without: "sudo",
			calls: "known",
			says:  "as root, run apt-get install --no-install-recommends qemu strace"},
		{name: "no sudo and empty lists", without: "sudo",
			calls: "known",
			says:  "as root, run apt-get update && apt-get install --no-install-recommends qemu strace"},
		{name: "sudo wants a password", files: map[string]string{"lists": "", "refuses": "sudo: a password is required\n"},
			calls: "known, sudo -n",
			says:  "sudo wants a password that nobody can type here: run make setup in a terminal, or sudo apt-get install"},
		{name: "no rights", files: map[string]string{"lists": "", "refuses": "eve is not in the sudoers file.\n"}, ask: yes,
			calls: "known, sudo -v",
			says:  "sudo does not give them to you: have somebody run sudo apt-get install"},
		{name: "another apt", files: map[string]string{"lists": "", "says": "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt-get)\n"}, root: true,
			calls: "known, install as user, noninteractive, C",
			says:  "another program is installing packages: when it has ended"},
		{name: "full disk", files: map[string]string{"lists": "", "says": "E: You don't have enough free space in /var/cache/apt/archives/.\n"}, root: true,
			calls: "known, install as user, noninteractive, C",
			says:  "the disk is full: make room"},
		{name: "another system", without: "apt-get",
			says: "this is not Debian or Ubuntu"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("FAKE", dir)
			t.Setenv("PATH", dir)
			for name, text := range tt.files {
				writeFile(t, filepath.Join(dir, name), text, 0o644)
			}
			for name, text := range map[string]string{"apt-get": fakeApt, "sudo": fakeSudo, "sh": "#!/bin/sh\nexec /bin/sh \"$@\"\n", "cat": "#!/bin/sh\nexec /bin/cat \"$@\"\n"} {
				if name != tt.without {
					writeFile(t, filepath.Join(dir, name), text, 0o755)
				}
			}
			in := &installer{root: tt.root, ask: tt.ask, say: func(string) {}}
			err := in.install(t.Context(), []string{"qemu", "strace"})
			switch {
			case tt.says == "" && err != nil:
				t.Errorf("error: %v", err)
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("error: %v\nwant the words: %s", err, tt.says)
			}
			b, _ := os.ReadFile(filepath.Join(dir, "calls"))
			if diff := cmp.Diff(tt.calls, strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", ", ")); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// A person who presses Ctrl-C is told so, not that packages are missing.
func TestInstallInterrupted(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	ready := filepath.Join(dir, "ready")
	t.Setenv("READY", ready)
	writeFile(t, filepath.Join(dir, "sh"), "#!/bin/sh\nexec /bin/sh \"$@\"\n", 0o755)
	// known is answered at once, the rest waits for the signal.
	writeFile(t, filepath.Join(dir, "apt-get"), `#!/bin/sh
case " $* " in *" --print-uris "*) exit 0;; esac
: >"$READY"
exec /bin/sleep 60
`, 0o755)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stop, interrupt := context.WithCancel(ctx)
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(ready); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		interrupt()
	}()
	in := &installer{root: true, say: func(string) {}}
	if err := in.install(stop, []string{"qemu"}); err != context.Canceled || ctx.Err() != nil {
		t.Errorf("install: %v, want %v", err, context.Canceled)
	}
}

func TestAptOutput(t *testing.T) {
	const text = "dlstatus:3:12.5:Retrieving file 3 of 9\r\npmstatus:strace:amd64:80.1:Unpacking strace (amd64)\n" +
		"Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)... 1s\n" +
		"Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)... 2s\n" +
		"W: a warning\nE: an error\nthe last\n"
	for _, tt := range []struct {
		live bool
		said []string
	}{
		{false, []string{"waiting for another program that installs packages"}},
		{true, []string{"fetching, 12 %  ", "installing, 80 %  Unpacking strace (amd64)", "waiting for another program that installs packages"}},
	} {
		var said []string
		o := &aptOutput{live: tt.live, fetching: "fetching", say: func(s string) { said = append(said, s) }}
		for i := range len(text) { // however it is cut into pieces
			if _, err := o.Write([]byte(text[i : i+1])); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(tt.said, said); diff != "" {
			t.Errorf("live %v: said (-want +got):\n%s", tt.live, diff)
		}
		if want := "W: a warning\nE: an error\n"; o.failed != want || strings.Join(o.tail, " ") != "the last" {
			t.Errorf("live %v: failed %q, tail %q; want %q, %q", tt.live, o.failed, o.tail, want, "the last")
		}
	}
}

// The Makefile only translates; here is what it translates to.
func TestMakefile(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ goals, call, says string }{
		{goals: "", call: "list"},
		{goals: "lab-3", call: "show 3"},
		{goals: "lab-3 check", call: "check 3"},
		{goals: "check lab-3", call: "check 3"},
		{goals: "check-3", call: "check 3"},
		{goals: "lab-3 lab-3 check check", call: "check 3"},
		{goals: "-j8 lab-3 check", call: "check 3"},
		{goals: "lab-03 hint", call: "hint 03"},
		{goals: "run-port-ids ARGS=-x", call: "run port-ids -x"},
		{goals: "check", call: "check"},
		{goals: "shell", call: "shell"},
		{goals: "soak N=5", call: "soak -n 5"},
		{goals: "lab-1 soak N=5", call: "soak -n 5 1"},
		{goals: "lab-1 lab-2 check", says: "one lab at a time"},
		{goals: "check-1 check-2", says: "one lab at a time"},
		{goals: "lab-1 check run", says: "one thing at a time"},
		{goals: "lab1", says: "there is no goal lab1"},
	}
	for _, tt := range tests {
		cmd := exec.Command("make", append([]string{"-n", "-C", "../.."}, strings.Fields(tt.goals)...)...)
		for _, kv := range os.Environ() {
			if !strings.HasPrefix(kv, "MAKE") && !strings.HasPrefix(kv, "MFLAGS") {
				cmd.Env = append(cmd.Env, kv)
			}
		}
		out, err := cmd.CombinedOutput()
		got := ""
		for line := range strings.Lines(string(out)) {
			if _, call, ok := strings.Cut(line, `"$lab" `); ok {
				got += strings.Join(strings.Fields(call), " ")
			}
		}
		if got != tt.call || tt.says == "" && err != nil || !strings.Contains(string(out), tt.says) || tt.says != "" && err == nil {
			t.Errorf("make %s: calls %q, want %q, saying %q: %v\n%s", tt.goals, got, tt.call, tt.says, err, out)
		}
	}
}

func writeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
