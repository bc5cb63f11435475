// SPDX-License-Identifier: MIT

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netlinklabs/internal/kernel"
)

// TestBugs shows the bugs of docs/bugs.md that the tests of kmod/nlbugs cannot show
// among themselves: those that harm the kernel, and those that the compiler finds.
func TestBugs(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	env := []string{"KERNEL=" + os.Getenv("KERNEL")}
	for _, tt := range []struct {
		name, out string
		err       []string
	}{
		{"B1", "", []string{"lab: kernel panic: ", "BUG: unable to handle page fault for address", "#PF: supervisor write access in kernel mode",
			"permissions violation", "nlbugs_message"}},
		{"B3Port0", "", []string{"lab: kernel panic: ", "BUG: TASK stack guard page was hit", "nlbugs_message"}},
		{"B6", "PASS\n", []string{"lab: kernel complaint: WARNING: ", "net/netlink/af_netlink.c", "netlink_sock_destruct"}},
		{"B7", "", []string{"lab: kernel panic: ", "BUG: kernel NULL pointer dereference", "nlbugs_message"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			said := d.lab(t, env, "bug", tt.name)
			for _, words := range tt.err {
				said.want(t, 2, tt.out, words)
			}
			t.Log(said.err)
		})
	}
	t.Run("survived", func(t *testing.T) {
		said := d.lab(t, env, "bug", "B2")
		said.want(t, 0, "are not 0", "")
		said.want(t, 0, "what another socket had sent: true", "")
		d.lab(t, env, "bug", "B99").want(t, 2, "", "there is nothing to run for \"B99\", but for B")
		d.lab(t, env, "bug").want(t, 2, "", "bug wants the name of one")
	})
	t.Run("compiler", func(t *testing.T) {
		old := d.lab(t, env, "exec", "-module", "nlbugs/testdata/old", "true")
		old.want(t, 2, "", "has no member named ‘pid’")
		old.want(t, 2, "", "too many arguments to function ‘netlink_kernel_create’")

		k, err := kernel.Prepare(t.Context(), os.Getenv("KERNEL"), nil)
		if err != nil {
			t.Fatal(err)
		}
		untidy := filepath.Join(d.root, "kmod/nlbugs/testdata/untidy")
		out, err := k.CheckModule(t.Context(), untidy, nil, "C=2")
		if err != nil || !strings.Contains(out, "symbol 'err' was not declared. Should it be static?") {
			t.Errorf("sparse does not tell of the variable err: %v\n%s", err, out)
		}
	})
	d.clean(t)
}
