// SPDX-License-Identifier: MIT

package vm

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"netlinklabs/internal/wire"
)

func consoleOf(text string) *console {
	c := new(console)
	c.add([]byte(text))
	return c
}

var registers = regexp.MustCompile(`R[A-D]X: |RSP: |R1[0-5]: |CR2: |Code: |Hardware name|Modules linked in|^ *\? `)

// TestConsolesOfAllKernels reads what real kernels have printed.
func TestConsolesOfAllKernels(t *testing.T) {
	files, err := filepath.Glob("testdata/console/*.txtar")
	if err != nil || len(files) != 4 {
		t.Fatalf("%d kernels, %v; want 4", len(files), err)
	}
	for _, file := range files {
		kernel := strings.TrimSuffix(filepath.Base(file), ".txtar")
		all, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, f := range all.Files {
			t.Run(kernel+" "+f.Name, func(t *testing.T) {
				c := consoleOf(strings.ReplaceAll(string(f.Data), "\n", "\r\n")) // as a serial line brings it
				got := c.complaints()
				text := strings.Join(got, "\n")
				var want []string // in this order
				died := ""
				switch f.Name {
				case "clean":
					if len(got) > 0 {
						t.Errorf("a content kernel complains: %q", got)
					}
					return
				case "warn":
					want = []string{"WARNING: ", "complain_init", "Call Trace:", "do_one_initcall", "finit_module"}
				case "refcount":
					want = []string{"refcount_t: addition on 0; use-after-free.", "WARNING: ", "refcount_warn_saturate", "Call Trace:", "complain_init"}
				case "leak":
					want = []string{"Objects remaining"}
				case "oops":
					want = []string{"BUG: kernel NULL pointer dereference, address: 0000000000000000", "Oops: ", "RIP: 0010:complain_init", "Call Trace:", "do_one_initcall"}
					died = "Kernel panic - not syncing: Fatal exception"
				case "panic":
					want = []string{"Kernel panic - not syncing: as the test asked for", "Call Trace:", "complain_init"}
					died = "Kernel panic - not syncing: as the test asked for"
				case "spin":
					want = []string{"Kernel panic - not syncing: NMI: Not continuing", "Call Trace:", "RIP: 0010:complain_init"}
					died = "Kernel panic - not syncing: NMI: Not continuing"
				case "init":
					want = []string{"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200", "Call Trace:", "do_exit"}
					died = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200"
				default:
					t.Fatal("nobody says what is to be seen in it")
				}
				seen++
				rest := text
				for _, w := range want {
					_, after, ok := strings.Cut(rest, w)
					if !ok {
						t.Fatalf("no %q where it should be; the excerpt is\n%s", w, text)
					}
					rest = after
				}
				if m := registers.FindString(text); m != "" {
					t.Errorf("the excerpt has noise, %q:\n%s", m, text)
				}
				if len(got) > 41 {
					t.Errorf("the excerpt is %d lines long", len(got))
				}
				if strings.ContainsAny(text, "\r") || strings.Contains(text, "[    ") {
					t.Errorf("the excerpt has line ends or times:\n%q", text)
				}
				if got := c.panicLine(); got != died {
					t.Errorf("it died of %q, want %q", got, died)
				}
			})
		}
		if seen != 7 {
			t.Errorf("kernel %s: %d recordings of trouble", kernel, seen)
		}
	}
}

func TestComplaints(t *testing.T) {
	for _, tt := range []struct {
		line string
		bad  bool
	}{
		{"BUG: TASK stack guard page was hit at 00000000deadbeef", true},
		{"BUG: stack guard page was hit at 00000000deadbeef", true}, // 5.10
		{"BUG: scheduling while atomic: check/123/0x00000002", true},
		{"BUG: sleeping function called from invalid context at mm/slab.h:1", true},
		{"general protection fault, probably for non-canonical address", true},
		{"kmemleak: 1 new suspected memory leaks, unreferenced object 0xffff", true},
		{"UBSAN: array-index-out-of-bounds in net/netlink/af_netlink.c", true},
		{"Internal error: Oops: 0000000096000004 [#1] SMP", true}, // arm64
		{"WARNING: possible circular locking dependency detected", true},
		{"unregister_netdevice: waiting for lo to become free. Usage count = 2", true},
		// What a starved host makes of a guest.
		{"watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [check:1]", false},
		{"BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 35s!", false},
		{"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", false},
		{"INFO: task nlecho:12 blocked for more than 120 seconds. hung_task", false},
		{"clocksource: Long readout interval, skipping watchdog check", false},
		{"sched: RT throttling activated", false},
		{"hrtimer: interrupt took 12345678 ns", false},
		// What is no trouble.
		{"nlecho: loading out-of-tree module taints kernel.", false},
		{"nlecho: module verification failed: signature and/or required key missing - tainting kernel", false},
		{"reboot: Power down", false},
		{"systemd[1]: debug: on", false},
	} {
		for _, line := range []string{tt.line, "[   12.345678] " + tt.line, "[   12.345678][  T123] " + tt.line} {
			if got := consoleOf(line + "\r\n").complaints(); (len(got) > 0) != tt.bad {
				t.Errorf("%q: the complaints are %q", line, got)
			}
		}
	}
}

func TestComplaintsWhileBooting(t *testing.T) {
	const boot = "[    0.100000] Spectre V2 : WARNING: Unprivileged eBPF is enabled\n"
	c := consoleOf(boot)
	if len(c.complaints()) != 1 {
		t.Error("as long as it has not booted, the boot is all there is")
	}
	c.add([]byte("[    0.900000] " + wire.BootedLine + "\r\n"))
	if got := c.complaints(); len(got) > 0 {
		t.Errorf("%q counts as a complaint about the job", got)
	}
	c.add([]byte("[    1.000000] WARNING: CPU: 0 PID: 1 at x.c:1\n"))
	if got := c.complaints(); len(got) != 1 || !strings.HasPrefix(got[0], "WARNING: CPU") {
		t.Errorf("complaints %q", got)
	}
	if got := c.last(5); len(got) != 3 || got[0]+"\n" != boot[15:] {
		t.Errorf("the log as a whole is %q", got)
	}
}

// TestLongConsole has more than is kept: the beginning and the end stay.
func TestLongConsole(t *testing.T) {
	c := new(console)
	c.add([]byte("[    0.000000] Linux version\n"))
	piece := strings.Repeat("[    1.000000] the same again\n", 1000)
	for range 200 {
		c.add([]byte(piece))
	}
	c.add([]byte("[    2.000000] Kernel panic - not syncing: the end\n"))
	if n := len(c.bytes()); n > 2*maxConsole {
		t.Errorf("%d bytes are kept", n)
	}
	lines := lines(c.bytes())
	if lines[0] != "Linux version" || lines[len(lines)-1] != "Kernel panic - not syncing: the end" {
		t.Errorf("kept are %q ... %q", lines[0], lines[len(lines)-1])
	}
	if !strings.Contains(string(c.bytes()), "longer than is kept") {
		t.Error("nothing tells that the middle is missing")
	}
	if got := c.last(2); len(got) != 2 || got[0] != "the same again" {
		t.Errorf("the last lines are %q", got)
	}
	if got := consoleOf("").last(12); len(got) != 0 {
		t.Errorf("the last lines of nothing are %q", got)
	}
}

func TestTail(t *testing.T) {
	var tl tail
	for range 10 {
		if n, err := tl.Write([]byte(strings.Repeat("x", 1000))); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}
	_, _ = tl.Write([]byte("the end"))
	if s := tl.String(); len(s) != 4096 || !strings.HasSuffix(s, "xthe end") {
		t.Errorf("%d bytes are kept: ...%s", len(s), s[max(0, len(s)-20):])
	}
}
