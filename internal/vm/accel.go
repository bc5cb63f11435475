// SPDX-License-Identifier: MIT

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// memory is what one run tells the next: whether KVM booted a VM, for this boot
// of the host, this QEMU and this kernel. A /dev/kvm that opens proves nothing. The file
// has those of several kernels, the newest first.
type memory struct {
	Key    string `json:"key"`
	Accel  string `json:"accel"`
	Reason string `json:"reason,omitempty"`
}

func (m *Machine) memoryFile() string { return filepath.Join(m.State, "accelerator.json") }

func (m *Machine) memoryKey() string {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	st, _ := os.Stat(m.QEMU)
	stamp := ""
	if st != nil {
		stamp = st.ModTime().UTC().Format(time.RFC3339Nano)
	}
	return strings.Join([]string{strings.TrimSpace(string(boot)), m.KVM, m.QEMU, stamp, m.Kernel}, " ")
}

// recall returns what is remembered of this boot of the host.
func (m *Machine) recall() []memory {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	b, err := os.ReadFile(m.memoryFile())
	var all []memory
	if err != nil || json.Unmarshal(b, &all) != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(x memory) bool { return !strings.HasPrefix(x.Key, strings.TrimSpace(string(boot))+" ") })
}

// Known tells what is remembered in the folder state of this boot of the host:
// the accelerator that the last VM got which tried KVM, and why KVM was given up. ok is
// false where no VM has tried it yet.
func Known(state string) (accel, reason string, ok bool) {
	all := (&Machine{State: state}).recall()
	if len(all) == 0 {
		return "", "", false
	}
	return all[0].Accel, all[0].Reason, true
}

func (m *Machine) remember(accel, reason string) {
	key := m.memoryKey()
	others := slices.DeleteFunc(m.recall(), func(x memory) bool { return x.Key == key })
	b, _ := json.Marshal(append([]memory{{key, accel, reason}}, others...))
	tmp := fmt.Sprintf("%s.%d", m.memoryFile(), os.Getpid())
	if os.WriteFile(tmp, b, 0o644) == nil {
		_ = os.Rename(tmp, m.memoryFile())
	}
}

// Forget drops what is remembered about KVM in the folder state.
func Forget(state string) error {
	err := os.Remove(filepath.Join(state, "accelerator.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// accelerator chooses how to run, and says why when it was not told.
func (m *Machine) accelerator() (accel, why string) {
	switch m.Accel {
	case "kvm", "tcg":
		return m.Accel, ""
	}
	f, err := os.OpenFile(m.KVM, os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "tcg", "this machine has no " + m.KVM
	case errors.Is(err, os.ErrPermission):
		return "tcg", m.KVM + " is not yours to open: `sudo adduser $USER kvm`, then log in again"
	case err != nil:
		return "tcg", err.Error()
	}
	f.Close()
	key := m.memoryKey()
	for _, x := range m.recall() {
		if x.Key == key {
			return x.Accel, x.Reason
		}
	}
	return "kvm", ""
}

// MinQEMU is the oldest QEMU that is known to do, Debian 11's.
var MinQEMU = [2]int{5, 2}

// ErrQEMU is wrapped by errors about the QEMU program itself.
var ErrQEMU = errors.New("QEMU")

var versionText = regexp.MustCompile(`version (\d+)\.(\d+)`)

// checkVersion refuses a QEMU that is missing or too old. What was found out
// about a file is remembered, since asking takes as long as a student's patience.
func (m *Machine) checkVersion(ctx context.Context) error {
	st, err := os.Stat(m.QEMU)
	if err != nil {
		return fmt.Errorf("%w is not installed (%s): run make setup", ErrQEMU, m.QEMU)
	}
	seen := filepath.Join(m.State, "qemu-version")
	key := fmt.Sprint(m.QEMU, " ", st.Size(), " ", st.ModTime().UnixNano())
	if b, err := os.ReadFile(seen); err == nil && string(b) == key {
		return nil
	}
	major, minor, err := Version(ctx, m.QEMU)
	if err != nil {
		return err
	}
	if major < MinQEMU[0] || major == MinQEMU[0] && minor < MinQEMU[1] {
		return fmt.Errorf("%w %d.%d is too old, %d.%d or newer is needed: %s", ErrQEMU, major, minor, MinQEMU[0], MinQEMU[1], m.QEMU)
	}
	_ = os.WriteFile(seen, []byte(key), 0o644)
	return nil
}

// Version asks the QEMU program at the path qemu for its version.
func Version(ctx context.Context, qemu string) (major, minor int, err error) {
	cmd := exec.CommandContext(ctx, qemu, "--version")
	cmd.WaitDelay = time.Second // for what a script in its place has started
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return 0, 0, ctx.Err()
	}
	v := versionText.FindStringSubmatch(string(out))
	if err != nil || v == nil {
		return 0, 0, fmt.Errorf("%w: asking %s for its version: %v: %s", ErrQEMU, qemu, err, strings.TrimSpace(string(out)))
	}
	major, _ = strconv.Atoi(v[1])
	minor, _ = strconv.Atoi(v[2])
	return major, minor, nil
}

// acquireSlot waits for one of n slots and returns the function that gives it back.
// The kernel gives it back if we die.
func acquireSlot(ctx context.Context, state string, n int, say func(string)) (func(), error) {
	if err := os.MkdirAll(state, 0o755); err != nil {
		return nil, err
	}
	said := false
	for {
		for i := range n {
			f, err := os.OpenFile(filepath.Join(state, fmt.Sprintf("slot-%d", i)), os.O_RDWR|os.O_CREATE, 0o644)
			if err != nil {
				return nil, err
			}
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				return func() { f.Close() }, nil
			}
			f.Close()
		}
		if !said {
			said = true
			say(fmt.Sprintf("waiting for a free core: %d VMs are running", n))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
