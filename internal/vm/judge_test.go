// SPDX-License-Identifier: MIT

package vm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"netlinklabs/internal/wire"
)

// TestJudgeOrder has ends for which several rows of the verdict table hold: the
// graver one counts, and nothing that is missing makes a result better.
func TestJudgeOrder(t *testing.T) {
	const warning, death = "WARNING: CPU: 0 PID: 1 at x.c:1\n", "Kernel panic - not syncing: x\n"
	ok := &wire.Status{}
	booted := time.Unix(1, 0)
	for _, tt := range []struct {
		name    string
		run     *running
		console string
		v       Verdict // of wait
		exit    error
		want    Verdict
		detail  string
	}{
		{"all well", &running{hello: booted, status: ok, reason: "guest-shutdown"}, "", Done, nil, Done, ""},
		{"a result, then a panic", &running{hello: booted, status: ok, reason: "guest-panic"}, death, Done, nil, Panicked, "Kernel panic - not syncing: x"},
		{"a result, but a complaint", &running{hello: booted, status: ok, reason: "guest-shutdown"}, warning, Done, nil, Dirty, "WARNING: CPU: 0 PID: 1 at x.c:1"},
		{"a result, but QEMU was killed before the guest's end", &running{hello: booted, status: ok}, "", Done, errors.New("signal: killed"), Ended, "signal: killed"},
		{"a result, but no SHUTDOWN event", &running{hello: booted, status: ok}, "", Done, nil, Ended, "by itself, without an error"},
		{"told to end by a signal", &running{hello: booted, status: ok, reason: "host-signal"}, "", Done, nil, Ended, "by itself, without an error"},
		{"a fault and a result", &running{hello: booted, status: &wire.Status{Code: 2}, fault: "no such module", reason: "guest-shutdown"}, "", Done, nil, Faulted, "no such module"},
		{"a broken channel", &running{hello: booted, broken: wire.ErrCorrupt, reason: "guest-shutdown"}, "", Done, nil, Unheard, wire.ErrCorrupt.Error()},
		{"a broken channel behind the result", &running{hello: booted, status: ok, broken: errors.New("connection reset by peer"), reason: "guest-shutdown"}, "", Done, nil, Done, ""},
		{"no result", &running{hello: booted, reason: "guest-shutdown"}, "", Done, nil, Unheard, "without a result"},
		{"no result and a complaint", &running{hello: booted, reason: "guest-shutdown"}, warning, Done, nil, Unheard, "without a result"},
		{"output over the limit as it ended", &running{hello: booted, status: ok, flood: true, reason: "guest-shutdown"}, "", Done, nil, Flooded, "and was ended"},
		{"a hang that the NMI ended", &running{hello: booted, reason: "guest-panic"}, death, Hung, nil, Hung, "the deadline passed"},
		{"a hang whose result came too late", &running{hello: booted, status: ok, reason: "guest-shutdown"}, "", Hung, nil, Hung, "the deadline passed"},
		{"a panic before the first word", &running{reason: "guest-panic"}, death, Done, nil, NoBoot, "the kernel died while it booted: Kernel panic - not syncing: x"},
		{"a triple fault before the first word", &running{reason: "guest-reset"}, "", Done, nil, NoBoot, "the kernel died while it booted, without a word"},
		{"nothing at all", &running{}, "", NoBoot, errors.New("signal: killed"), NoBoot, "the kernel gave no sign of life"},
		{"off before the first word", &running{reason: "guest-shutdown"}, "netlink-labs: guest: mounting\n", Done, nil, Unheard, "without a result"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := tt.run
			run.m = &Machine{}
			run.log.add([]byte(tt.console))
			r := run.judge(tt.v, tt.exit, "")
			if r.Verdict != tt.want || !strings.Contains(r.Detail, tt.detail) {
				t.Errorf("got %v, %q; want %v, %q", r.Verdict, r.Detail, tt.want, tt.detail)
			}
			if (r.Detail == "") != (r.Verdict == Done) {
				t.Errorf("the detail of %v is %q", r.Verdict, r.Detail)
			}
			if tt.console != "" && r.Verdict != Done && len(r.Excerpt) == 0 {
				t.Errorf("%v is told without what the console said", r.Verdict)
			}
		})
	}
}

func TestVerdictNames(t *testing.T) {
	seen := map[string]bool{}
	for v := Done; v <= Unheard; v++ {
		if seen[v.String()] || v.String() == "" {
			t.Errorf("verdict %d has the name %q", v, v)
		}
		seen[v.String()] = true
		if want := v == NoBoot || v == Ended || v == Faulted || v == Unheard; v.Environment() != want {
			t.Errorf("%v blames the place: %t", v, v.Environment())
		}
	}
}

func TestArguments(t *testing.T) {
	m := &Machine{CPU: "max", Kernel: "/a b/vmlinuz", Append: "console=ttyS0 quiet", Memory: 256, Args: []string{"-machine", "pc"}}
	want := func(accel, cpu string) []string {
		return []string{"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
			"-accel", accel, "-cpu", cpu, "-smp", "1", "-m", "256M",
			// Without a device for it there is no network, and no disk.
			"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
			"-kernel", "/a b/vmlinuz", "-initrd", "/proc/self/fd/3", "-append", "console=ttyS0 quiet",
			"-chardev", "socket,id=console,fd=4", "-chardev", "socket,id=res,fd=5",
			"-chardev", "socket,id=qmp,fd=6", "-mon", "chardev=qmp,mode=control", "-machine", "pc"}
	}
	for accel, cpu := range map[string]string{"tcg": "max", "kvm": "host"} {
		if diff := cmp.Diff(want(accel, cpu), m.arguments(accel)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", accel, diff)
		}
	}
}

func TestLimitsScale(t *testing.T) {
	m := &Machine{Limit: time.Minute}
	for boot, want := range map[time.Duration]time.Duration{
		200 * time.Millisecond: time.Minute, // never shorter
		time.Second:            time.Minute,
		5 * time.Second:        5 * time.Minute,
	} {
		if got := m.jobLimit(boot); got != want {
			t.Errorf("after a boot of %v the limit is %v, want %v", boot, got, want)
		}
	}
	if got := stretch(time.Second); got < time.Second || got > 1000*time.Second {
		t.Errorf("a second becomes %v", got)
	}
}
