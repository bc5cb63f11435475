// SPDX-License-Identifier: MIT

package guest_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/guest"
	"netlinklabs/internal/wire"
)

// attacks are what a program under test may try, run by this very test binary
// in the program's place. Each returns nil when it succeeded: that is the bug.
var attacks = map[string]func() error{
	"write to the result channel": func() error { return open("/dev/ttyS1", os.O_WRONLY) },
	"write to the console":        func() error { return open("/dev/ttyS0", os.O_WRONLY) },
	"write to the kernel's log":   func() error { return open("/dev/kmsg", os.O_WRONLY) },
	"read the job with its nonce": func() error { return open(wire.JobPath, os.O_RDONLY) },
	"read the check":              func() error { return open(wire.GuestPath, os.O_RDONLY) },
	"write to an inherited descriptor": func() error {
		for fd := 3; fd < 64; fd++ {
			// The runtime has descriptors of its own: epoll, eventfd, its cgroup's
			// cpu.max. What leads to the checker would be a pipe, socket or device.
			st := new(unix.Stat_t)
			if unix.Fstat(fd, st) != nil {
				continue
			}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR:
				return nil
			}
		}
		return unix.EBADF
	},
	"see tracefs":       func() error { return open("/sys/kernel/tracing/trace", os.O_RDONLY) },
	"see debugfs":       func() error { return open("/sys/kernel/debug/tracing/trace", os.O_RDONLY) },
	"mount tracefs":     func() error { return unix.Mount("tracefs", "/tmp", "tracefs", 0, "") },
	"bind over tracefs": func() error { return unix.Mount("/tmp", "/sys/kernel/tracing", "", unix.MS_BIND, "") },
	"uncover tracefs":   func() error { return unix.Unmount("/sys/kernel", unix.MNT_DETACH) },
	"be root in a new user namespace": func() error {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"ATTACK=uncover tracefs"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}}
		return cmd.Run()
	},
	"kill the checker":  func() error { return unix.Kill(os.Getppid(), unix.SIGTERM) },
	"trace the checker": func() error { return unix.PtraceAttach(os.Getppid()) },
	"read the checker's memory": func() error {
		return open(fmt.Sprintf("/proc/%d/mem", os.Getppid()), os.O_RDONLY)
	},
	"reach the machine's files": func() error { return open("/proc/1/root/etc/passwd", os.O_RDONLY) },
	"reach the checker's root": func() error {
		_, err := os.ReadDir(fmt.Sprintf("/proc/%d/root/", os.Getppid()))
		return err
	},
	"change a module's parameter": func() error { return open("/sys/module/printk/parameters/time", os.O_WRONLY) },
	"load a module": func() error {
		_, _, errno := unix.Syscall(unix.SYS_FINIT_MODULE, 0, uintptr(unsafe.Pointer(new(byte))), 0)
		if errno == 0 {
			return nil
		}
		return errno
	},
	"switch the machine off": func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) },
	"leave its cgroup":       func() error { return open("/sys/fs/cgroup/cgroup.procs", os.O_WRONLY) },
	"gain rights by a set-user-ID program": func() error {
		n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		if err == nil && n == 1 {
			return unix.EPERM
		}
		return nil
	},
}

func open(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0)
	if err == nil {
		f.Close()
	}
	return err
}

func TestMain(m *testing.M) {
	if name := os.Getenv("ATTACK"); name != "" {
		if err := attacks[name](); err != nil {
			fmt.Println("refused:", err)
			os.Exit(1)
		}
		fmt.Println("succeeded")
		os.Exit(0)
	}
	if what := os.Getenv("MISBEHAVE"); what != "" {
		misbehave(what)
		os.Exit(0)
	}
	if job := hereJobs[os.Getenv(hereJob)]; job != nil {
		if err := job(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if name := os.Getenv("HERE_HOST"); name != "" {
		hostHere(name)
		os.Exit(0)
	}
	if slices.Equal(os.Args[1:], []string{"deadly"}) {
		fmt.Println(send(0))
		os.Exit(0)
	}
	if _, ok := os.LookupEnv("WHOAMI"); ok {
		whoami()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inVM skips a test that runs in the wrong place.
func inVM(t *testing.T) {
	t.Helper()
	if os.Getenv(wire.EnvGuest) == "" {
		t.Skip(`runs in the VM: make test, or go test -exec "'$PWD/bin/lab' exec" ./internal/guest`)
	}
}

func start(t *testing.T, s guest.Spec) (*guest.Program, guest.End) {
	t.Helper()
	s.Program = os.Args[0]
	p, err := s.Start(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Input.Close()
	return p, p.Wait()
}

func TestConfinementRefusesAttacks(t *testing.T) {
	inVM(t)
	for _, caps := range [][]string{nil, {"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}} {
		for name := range attacks {
			if caps != nil && (name == "uncover tracefs" || name == "bind over tracefs" || name == "be root in a new user namespace") {
				continue // its own mounts are its own affair: what it finds beneath is still root's
			}
			t.Run(fmt.Sprintf("%s %v", name, caps), func(t *testing.T) {
				p, end := start(t, guest.Spec{Env: []string{"ATTACK=" + name}, Capabilities: caps})
				if end.Code != 1 || len(p.Lines()) != 1 || !strings.HasPrefix(p.Lines()[0].Text, "refused: ") {
					t.Errorf("the program %v and said %v, want a refusal", end, p.Lines())
				}
			})
		}
	}
}

// In the VM no thread, and no program that it starts, is woken more often than the tick
// comes: without that a check takes a tenth longer.
func TestTimerSlack(t *testing.T) {
	inVM(t)
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || slack != 4_000_000 {
		t.Errorf("timer slack %d ns, %v", slack, err)
	}
}

func whoami() {
	fmt.Println("uid", os.Getuid(), os.Geteuid())
	groups, err := os.Getgroups()
	fmt.Println("gid", os.Getgid(), groups, err)
	status, _ := os.ReadFile("/proc/self/status")
	for l := range strings.Lines(string(status)) {
		if strings.HasPrefix(l, "Cap") && !strings.HasPrefix(l, "CapBnd") || strings.HasPrefix(l, "NoNewPrivs") {
			fmt.Print(strings.Join(strings.Fields(l), " "), "\n")
		}
	}
	fmt.Println(os.Getwd())
	fmt.Println(open("/tmp/x", os.O_CREATE|os.O_WRONLY))
	_, err = os.Stat("/sys/kernel/tracing")
	fmt.Println(errors.Is(err, os.ErrNotExist))
}

func TestConfinementIdentity(t *testing.T) {
	inVM(t)
	for _, c := range []struct {
		caps []string
		set  string
	}{{nil, "0000000000000000"}, {[]string{"CAP_NET_ADMIN"}, "0000000000001000"}} {
		p, end := start(t, guest.Spec{Env: []string{"WHOAMI=1"}, Capabilities: c.caps})
		if !end.OK() {
			t.Fatalf("the program %v: %v", end, p.Lines())
		}
		var got []string
		for _, l := range p.Lines() {
			got = append(got, l.Text)
		}
		// The bounding set of a user namespace is full when it is made, and worth
		// nothing with no_new_privs.
		want := []string{"uid 1000 1000", "gid 1000 [] <nil>", "CapInh: " + c.set, "CapPrm: " + c.set, "CapEff: " + c.set,
			"CapAmb: " + c.set, "NoNewPrivs: 1", "/tmp <nil>", "<nil>", "true"}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("capabilities %v: got\n%s\nwant\n%s", c.caps, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func misbehave(what string) {
	switch what {
	case "print":
		for {
			fmt.Println(strings.Repeat("x", 100))
		}
	case "one long line":
		for {
			fmt.Print(strings.Repeat("x", 1000))
		}
	case "hang":
		_ = unix.Pause()
	case "fork":
		for {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = []string{"MISBEHAVE=fork"}
			if cmd.Start() != nil {
				_ = unix.Pause()
			}
		}
	case "leave a child":
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"MISBEHAVE=sleep"}
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		fmt.Println("left", cmd.Process.Pid)
	case "sleep":
		_ = unix.Pause()
	case "eat memory":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
			if len(all) > 1<<12 {
				return
			}
		}
	case "exit 3":
		os.Exit(3)
	}
}

func TestProgramsThatRunWildAreEnded(t *testing.T) {
	inVM(t)
	for _, c := range []struct{ what, want string }{
		{"print", "was stopped: it printed more than 2000 lines, or 1024 KiB"},
		{"one long line", "was stopped: it printed more than 2000 lines, or 1024 KiB"},
		{"hang", "was stopped: it did nothing for 10s and did not end"},
		{"fork", "was stopped: it did nothing for 10s and did not end"},
		{"leave a child", "ended with exit code 0"},
		{"eat memory", "was ended by SIGKILL"},
		{"exit 3", "ended with exit code 3"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			p, end := start(t, guest.Spec{Env: []string{"MISBEHAVE=" + c.what, "GOTRACEBACK=none"}})
			if end.String() != c.want {
				t.Errorf("the program %s, want %s; it said %v", end, c.want, p.Lines()[:min(3, len(p.Lines()))])
			}
		})
	}
}

func TestNothingIsLeftOfAProgram(t *testing.T) {
	inVM(t)
	p, _ := start(t, guest.Spec{Env: []string{"MISBEHAVE=leave a child"}})
	var child int
	if _, err := fmt.Sscanf(p.Lines()[0].Text, "left %d", &child); err != nil {
		t.Fatal(err, p.Lines())
	}
	if err := unix.Kill(child, 0); !errors.Is(err, unix.ESRCH) {
		// A zombie that PID 1 has not reaped yet is no process any more.
		if stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child)); !strings.Contains(string(stat), ") Z ") {
			t.Errorf("the child %d is still there: %v %s", child, err, stat)
		}
	}
	entries, err := os.ReadDir("/sys/fs/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "netlink-labs-") {
			t.Errorf("the cgroup %s is still there", e.Name())
		}
	}
}

func TestUnknownCapability(t *testing.T) {
	inVM(t)
	s := guest.Spec{Program: os.Args[0], Capabilities: []string{"CAP_NONE"}}
	if _, err := s.Start(nil); err == nil || !strings.Contains(err.Error(), `no capability "CAP_NONE"`) {
		t.Errorf("got %v", err)
	}
}
