// SPDX-License-Identifier: MIT

package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// run runs a program and returns what it printed, on both outputs; each line is also given to line, if that is not
// nil, as it comes. The environment is env alone. When ctx ends the program and all it started are killed; when this
// process dies the program is.
func run(ctx context.Context, dir string, env []string, line func(string), name string, args ...string) (string, error) {
	// Pdeathsig is sent when the starting thread ends, so that thread stays with us.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
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
		return out.String(), fmt.Errorf("%s: %w:\n%s", name, err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// maxOutput is how much of a program's output is kept, in bytes.
const maxOutput = 1 << 20
