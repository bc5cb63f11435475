// SPDX-License-Identifier: MIT

package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/wire"
)

// ConfineVerb is the argument with which the guest program is started to give
// up its rights and become the program under test.
const ConfineVerb = "confine"

// Who the program under test is, outside of its user namespace (nobody, with no
// right to anything) and inside (an ordinary user).
const (
	outerRoot = 100000
	outerUser = 101000
	innerUser = 1000
)

// Limits of the program under test. They are there to end what runs wild, far
// from what any sane answer to a lab needs.
const (
	maxTasks  = 100       // processes and threads; a Go program has about 10
	maxMemory = 128 << 20 // bytes
	maxTmp    = "size=16m"
)

// specEnv carries the Spec to the confining helper.
const specEnv = "NETLINK_LABS_CONFINE"

// Spec says how the program under test is started.
type Spec struct {
	Program      string   // path of the executable
	Args         []string // without the program's name
	Env          []string // KEY=value, added to PATH and HOME
	Capabilities []string // "CAP_NET_ADMIN", within its own user namespace
}

// confined is a cgroup with the program under test and all it started.
type confined struct {
	cmd    *exec.Cmd
	cgroup string
}

const cgroupRoot = "/sys/fs/cgroup"

// start runs the program in user, mount and network namespaces of its own and
// in a cgroup. Stdin, Stdout and Stderr are set on cmd by prepare.
func (s *Spec) start(prepare func(*exec.Cmd)) (*confined, error) {
	spec, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if _, err := capabilities(s.Capabilities); err != nil {
		return nil, err
	}
	helper := os.Getenv(wire.EnvGuest)
	if helper == "" {
		return nil, fmt.Errorf("%s is not set: this is not the place of a check", wire.EnvGuest)
	}
	dir, err := makeCgroup()
	if err != nil {
		return nil, err
	}
	fd, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	cmd := exec.Command(helper, ConfineVerb)
	cmd.Env = []string{specEnv + "=" + string(spec)}
	ids := []syscall.SysProcIDMap{
		{ContainerID: 0, HostID: outerRoot, Size: 1},
		{ContainerID: innerUser, HostID: outerUser, Size: 1},
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential:  &syscall.Credential{Uid: 0, Gid: 0},
		UseCgroupFD: true, CgroupFD: int(fd.Fd()),
	}
	prepare(cmd)
	if err := cmd.Start(); err != nil {
		_ = os.Remove(dir)
		return nil, fmt.Errorf("starting the program under test: %w", err)
	}
	return &confined{cmd, dir}, nil
}

func makeCgroup() (string, error) {
	// Not every kernel has both controllers; what is missing only limits less.
	for _, c := range []string{"+pids", "+memory"} {
		_ = os.WriteFile(cgroupRoot+"/cgroup.subtree_control", []byte(c), 0)
	}
	dir, err := os.MkdirTemp(cgroupRoot, "netlink-labs-")
	if err != nil {
		return "", fmt.Errorf("making a cgroup for the program: %w", err)
	}
	_ = os.WriteFile(dir+"/pids.max", []byte(strconv.Itoa(maxTasks)), 0)
	_ = os.WriteFile(dir+"/memory.max", []byte(strconv.Itoa(maxMemory)), 0)
	return dir, nil
}

// tasks returns the IDs of the processes in the cgroup.
func (c *confined) tasks() []int {
	b, err := os.ReadFile(c.cgroup + "/cgroup.procs")
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// kill ends every process of the cgroup and removes it. It waits for processes
// that the kernel holds in an uninterruptible sleep, up to limit.
func (c *confined) kill(limit time.Duration) error {
	end := time.Now().Add(limit)
	for {
		// cgroup.kill exists since Linux 5.14. Before, freezing keeps a program that
		// forks faster than it is killed from winning.
		if os.WriteFile(c.cgroup+"/cgroup.kill", []byte("1"), 0) != nil {
			_ = os.WriteFile(c.cgroup+"/cgroup.freeze", []byte("1"), 0)
			for _, pid := range c.tasks() {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			_ = os.WriteFile(c.cgroup+"/cgroup.freeze", []byte("0"), 0)
		}
		err := os.Remove(c.cgroup)
		if err == nil || os.IsNotExist(err) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("left processes %v that do not end", c.tasks())
		}
		time.Sleep(time.Millisecond)
	}
}

// Confine is what the guest program does for ConfineVerb: inside its new
// namespaces it covers what the program must not see, gives up all rights but
// the named capabilities, and becomes the program. It returns only an error.
func Confine() error {
	// Rights belong to a thread, and execve(2) takes those of the calling one.
	runtime.LockOSThread()
	var s Spec
	if err := json.Unmarshal([]byte(os.Getenv(specEnv)), &s); err != nil {
		return fmt.Errorf("%s: %w", specEnv, err)
	}
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, maxTmp + ",mode=1777"},
		// tracefs holds the evidence. Its permissions forbid it to the program
		// already; out of sight it tempts nobody.
		{"tmpfs", "/sys/kernel", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RDONLY, "size=0"},
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	caps, err := capabilities(s.Capabilities)
	if err != nil {
		return err
	}
	if err := dropTo(caps); err != nil {
		return fmt.Errorf("giving up rights: %w", err)
	}
	if err := os.Chdir("/tmp"); err != nil {
		return err
	}
	env := append([]string{"PATH=/bin:/usr/bin", "HOME=/tmp", "TMPDIR=/tmp"}, s.Env...)
	argv := append([]string{filepath.Base(s.Program)}, s.Args...)
	return fmt.Errorf("becoming %s: %w", s.Program, unix.Exec(s.Program, argv, env))
}

// dropTo makes the calling thread an ordinary user with just these capabilities.
func dropTo(caps uint64) error {
	last := 63
	if b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			last = n
		}
	}
	for c := 0; c <= last; c++ {
		if caps&(1<<c) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
				return err
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	// Raw system calls: the wrappers would change the runtime's other threads, which
	// are about to vanish, and these must be seen to work on this one.
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, 0, 0, 0},
		{unix.SYS_SETRESGID, innerUser, innerUser, innerUser},
		{unix.SYS_SETRESUID, innerUser, innerUser, innerUser},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return errno
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		w := uint32(caps >> (32 * i))
		data[i] = unix.CapUserData{Effective: w, Permitted: w, Inheritable: w}
	}
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return err
	}
	for c := 0; c <= last; c++ {
		if caps&(1<<c) != 0 {
			if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); err != nil {
				return err
			}
		}
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// The capabilities that a lab may ask for, within the program's user namespace.
var capabilityBits = map[string]uint{
	"CAP_NET_ADMIN":     unix.CAP_NET_ADMIN,
	"CAP_NET_BROADCAST": unix.CAP_NET_BROADCAST,
	"CAP_NET_RAW":       unix.CAP_NET_RAW,
	"CAP_SYS_ADMIN":     unix.CAP_SYS_ADMIN,
}

// CapabilityNames lists what Spec.Capabilities may hold, sorted.
func CapabilityNames() []string {
	var names []string
	for n := range capabilityBits {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func capabilities(names []string) (set uint64, err error) {
	for _, n := range names {
		bit, ok := capabilityBits[n]
		if !ok {
			return 0, fmt.Errorf("no capability %q for a lab; there are %s", n, strings.Join(CapabilityNames(), ", "))
		}
		set |= 1 << bit
	}
	return set, nil
}
