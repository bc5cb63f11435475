// SPDX-License-Identifier: MIT

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"
	"netlinklabs/internal/initramfs"
	"netlinklabs/internal/judge"
	"netlinklabs/internal/place"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// lookTool finds a tool of the host that is copied into the VM. Debian keeps
// some in folders that are not in an ordinary user's PATH.
func lookTool(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: run make setup", name)
}

// userland adds what programs expect of a Linux system, with tools by name.
func userland(w *initramfs.Writer, tools map[string]string) {
	for name, path := range tools {
		w.Program("/bin/"+name, path)
	}
	if tools["busybox"] != "" {
		w.Symlink("/bin/sh", "busybox")
	}
	w.Dir("/root", 0o700)
	w.Data("/etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	w.Data("/etc/group", 0o644, []byte("root:x:0:\n"))
	w.Data("/etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
}

// shell is a root shell in the VM, with nlecho loaded and the usual tools.
func (a *app) shell(args []string) error {
	if len(args) > 0 {
		return usagef("shell takes no arguments")
	}
	if err := a.need(forShell); err != nil {
		return err
	}
	p, h, err := a.places(os.Getenv("KERNEL"))
	if err != nil {
		return err
	}
	inPlace, prompt, motd := p.Run, "vm", "A throw-away VM. nlecho is loaded"
	if h != nil {
		h.Task = "make shell"
		inPlace, prompt, motd = h.Run, "here", "This machine's own kernel, and namespaces of your own. nlecho is loaded until you leave"
	}
	modules, err := judge.Modules(a.ctx, p.Kernel, a.root, []string{"nlecho"}, func(string) []string { return nil }, a.progress.say)
	if err != nil {
		return err
	}
	tools := map[string]string{}
	for _, name := range []string{"busybox", "strace", "ip", "ss"} {
		if tools[name], err = lookTool(name); err != nil {
			return err
		}
	}
	job := &place.Job{
		Argv:    []string{"/bin/busybox", "sh", "-c", `/bin/busybox --install -s /bin 2>/dev/null; cat /etc/motd; exec sh`},
		Dir:     "/root",
		Env:     []string{"TERM=" + os.Getenv("TERM"), "HOME=/root", `PS1=` + prompt + `:\w# `},
		Modules: modules, Memory: execMemory, Limit: 24 * time.Hour, Stdout: a.out, Stderr: a.err,
		Files: func(w *initramfs.Writer) {
			userland(w, tools)
			w.Data("/etc/motd", 0o644, []byte("\n"+motd+`.
Its parameters are files in /sys/module/nlecho/parameters. Try:
cat /proc/net/netlink, ss -f netlink, strace -e trace=network ip link.
Leave with exit or Ctrl-D; nothing is kept.

`))
		},
	}
	fd := int(os.Stdin.Fd())
	if a.terminal {
		job.Terminal = true
		if c, r, err := term.GetSize(fd); err == nil {
			job.Rows, job.Cols = uint16(r), uint16(c)
		}
		job.Ready = func(w *wire.Writer) { a.attach(fd, w) }
		old, err := term.MakeRaw(fd)
		if err != nil {
			return err
		}
		defer func() { _ = term.Restore(fd, old) }()
	} else {
		// A script: no terminal, no greeting, and an exit code.
		job.Argv = []string{"/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin 2>/dev/null; exec sh"}
		job.Ready = func(w *wire.Writer) { go feed(w) }
	}
	a.progress.clear()
	res, err := inPlace(a.ctx, job)
	if err != nil {
		return err
	}
	if res.Verdict == vm.Done && a.terminal {
		return nil
	}
	return a.execEnd(res)
}

// attach carries what is typed, and the terminal's size, into the VM.
func (a *app) attach(fd int, w *wire.Writer) {
	go feed(w)
	sizes := make(chan os.Signal, 1)
	signal.Notify(sizes, syscall.SIGWINCH)
	go func() {
		for range sizes {
			if c, r, err := term.GetSize(fd); err == nil {
				b := binary.LittleEndian.AppendUint16(nil, uint16(r))
				_ = w.Frame(wire.Resize, binary.LittleEndian.AppendUint16(b, uint16(c)))
			}
		}
	}()
}

func feed(w *wire.Writer) {
	b := make([]byte, 4096)
	for {
		n, err := os.Stdin.Read(b)
		if n > 0 && w.Frame(wire.Stdin, b[:n]) != nil {
			return
		}
		if err != nil {
			_ = w.Frame(wire.Stdin, nil)
			return
		}
	}
}
