// SPDX-License-Identifier: MIT

package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// command prepares a program to run in a process group of its own, with the environment env alone. When ctx ends the
// whole group is killed; when the thread that starts it ends, so at the latest when this process dies, the program is.
func command(ctx context.Context, dir string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// run runs a program and returns what it printed, on both outputs; each line is also given to line, if that is not
// nil, as it comes. See command for the rest.
func run(ctx context.Context, dir string, env []string, line func(string), name string, args ...string) (string, error) {
	runtime.LockOSThread() // see command
	defer runtime.UnlockOSThread()
	cmd := command(ctx, dir, env, name, args...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	var out strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		br := bufio.NewReader(r)
		for {
			s, err := br.ReadString('\n')
			if out.Len() < maxOutput {
				out.WriteString(s)
			}
			if s = strings.TrimSpace(s); s != "" && line != nil {
				line(s)
			}
			if err != nil {
				return
			}
		}
	}()
	err := cmd.Run()
	w.Close()
	<-done
	if ctx.Err() != nil {
		return out.String(), ctx.Err()
	}
	if errors.Is(err, exec.ErrNotFound) {
		return "", &Error{Op: "run " + name, Err: errors.New("this machine has no such program"), Fix: "install it"}
	}
	if err != nil {
		err = &failure{name, err, strings.TrimSpace(out.String())}
	}
	return out.String(), err
}

// A failure is the error of a program that ran and failed.
type failure struct {
	name   string
	err    error
	output string
}

func (f *failure) Error() string { return fmt.Sprintf("%s: %v:\n%s", f.name, f.err, f.output) }

func (f *failure) Unwrap() error { return f.err }

// maxOutput is how much of a program's output is kept, in bytes.
const maxOutput = 1 << 20

// cleanEnv is the environment of the programs run here: what they need, with messages in English, and nothing of what
// make or the user set for other purposes (MAKEFLAGS, KBUILD_*, ARCH, CROSS_COMPILE, APT_CONFIG ...).
func cleanEnv(more ...string) []string {
	env := []string{"LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, more...)
}
