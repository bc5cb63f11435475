// SPDX-License-Identifier: MIT

package guest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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

// Spec says how the program under test is started.
type Spec struct {
	Program      string   // path of the executable
	Args         []string // without the program's name
	Env          []string // KEY=value, added to PATH and HOME
	Capabilities []string // "CAP_NET_ADMIN", within its own user namespace
	// Excused, where not nil, is asked now and then whether it is the kernel that
	// takes its time: what passes then does not count against the program's limits.
	Excused func() bool
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
	caps, err := capabilities(s.Capabilities)
	if err != nil {
		return nil, err
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
	if err := sealDescriptors(); err != nil {
		return nil, err
	}
	cmd := exec.Command(s.Program, s.Args...)
	cmd.Dir = "/tmp"
	cmd.Env = append([]string{"PATH=/bin:/usr/bin", "HOME=/tmp", "TMPDIR=/tmp"}, s.Env...)
	ids := []syscall.SysProcIDMap{
		{ContainerID: 0, HostID: outerRoot, Size: 1},
		{ContainerID: innerUser, HostID: outerUser, Size: 1},
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// The copy of the mount namespace and the new network namespace belong to the
		// new user namespace, and so the program's capabilities hold in them and
		// nowhere else.
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential:  &syscall.Credential{Uid: innerUser, Gid: innerUser},
		AmbientCaps: caps,
		UseCgroupFD: true, CgroupFD: int(fd.Fd()),
	}
	prepare(cmd)
	started := make(chan error)
	go func() {
		// The mount namespace and no_new_privs are a thread's, and a child has those of
		// the thread that made it. This thread is spoilt for
		// anything else: it is never unlocked, and so ends with the goroutine.
		runtime.LockOSThread()
		err := cover()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	if err := <-started; err != nil {
		_ = os.Remove(dir)
		return nil, fmt.Errorf("starting the program under test: %w", err)
	}
	return &confined{cmd, dir}, nil
}

// sealDescriptors keeps every descriptor but the standard ones from the programs
// that this process starts. What Go opens is kept from them anyway; what this
// process was given, the one for records above all, is not.
func sealDescriptors() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// cover gives the calling thread a view of the file system without what the
// program must not see, and takes from it the way to more rights.
func cover() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
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
		{"tmpfs", "/sys/kernel", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RDONLY, "size=4k"},
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	// No program that it starts can give it more than it has: without this, the
	// bounding set of a new user namespace, which is full, would be a way.
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
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

// killOnce kills every process of the cgroup. cgroup.kill exists since Linux 5.14.
// Before, freezing keeps a program that forks faster than it is killed from winning.
func (c *confined) killOnce() {
	if os.WriteFile(c.cgroup+"/cgroup.kill", []byte("1"), 0) == nil {
		return
	}
	_ = os.WriteFile(c.cgroup+"/cgroup.freeze", []byte("1"), 0)
	for _, pid := range c.tasks() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	_ = os.WriteFile(c.cgroup+"/cgroup.freeze", []byte("0"), 0)
}

// kill ends every process of the cgroup and removes it. It waits for processes
// that the kernel holds in an uninterruptible sleep, up to limit.
func (c *confined) kill(limit time.Duration) error {
	end := time.Now().Add(limit)
	for {
		c.killOnce()
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

// The capabilities that a lab may ask for, within the program's user namespace.
var capabilityBits = map[string]uintptr{
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

func capabilities(names []string) (set []uintptr, err error) {
	for _, n := range names {
		bit, ok := capabilityBits[n]
		if !ok {
			return nil, fmt.Errorf("no capability %q for a lab; there are %s", n, strings.Join(CapabilityNames(), ", "))
		}
		set = append(set, bit)
	}
	return set, nil
}
