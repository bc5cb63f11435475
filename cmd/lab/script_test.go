// SPDX-License-Identifier: MIT

package main_test

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script: what a user types, what must be printed, and
// how it must end. Beside testscript's own commands there are
//
//	code N COMMAND...   the command must end with exit code N
//	clean               nothing is left behind: no process, no file
//
// $ROOT is a copy of the checkout, $WORK the desk's folder and the student's.
func TestScripts(t *testing.T) {
	s := tool(t)
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			d, err := s.desk(e.WorkDir)
			if err != nil {
				return err
			}
			e.Values["desk"] = d
			e.Vars = append(e.Vars, d.env...)
			e.Setenv("ROOT", s.root)
			// unshare(1)'s flags for mounts of our own: root needs no user namespace, and
			// in a container it may not have one.
			e.Setenv("MOUNTS", "-m")
			if os.Getuid() != 0 {
				e.Setenv("MOUNTS", "-rm")
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: code N COMMAND...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				if err := ts.Exec(args[1], args[2:]...); err != nil {
					var exit *exec.ExitError
					if !errors.As(err, &exit) {
						ts.Fatalf("%v", err)
					}
					got = exit.ExitCode()
				}
				if got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
			"clean": func(ts *testscript.TestScript, neg bool, args []string) {
				if left := ts.Value("desk").(*desk).left(); len(left) > 0 {
					ts.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
				}
			},
		},
	})
}
