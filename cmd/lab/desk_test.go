// SPDX-License-Identifier: MIT

package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/cache"
	"netlinklabs/internal/kernel"
	"netlinklabs/internal/lab"
	"netlinklabs/internal/vm"
)

// The tests of the tool run the built tool, as a user would, in a copy of the
// checkout, with a cache, a temporary folder and a home of their own. Kernels and
// modules are the user's, and so are the slots: all VMs of the machine share them.

// patience bounds a broken test. It orders nothing.
const patience = 5 * time.Minute

var (
	copyDir  string // the copy of the checkout, with bin/
	copyOnce = sync.OnceValues(func() (*shared, error) { return makeShared(copyDir) })
)

// shared is what all tests of the tool use.
type shared struct {
	root  string   // the copy of the checkout
	cache string   // the user's, with kernels and modules
	env   []string // of the go command, which else looks for its caches below HOME, and ACCEL
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "netlink-labs-tool-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	copyDir = filepath.Join(dir, "checkout")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func makeShared(dir string) (*shared, error) {
	s := &shared{root: dir}
	root, err := lab.FindRoot(".")
	if err != nil {
		return nil, err
	}
	if err := copyCheckout(dir, root); err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", dir+"/bin/", "./cmd/lab", "./cmd/guest")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "PWD="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the tool: %w\n%s", err, out)
	}
	if s.cache, err = cache.Dir(); err != nil {
		return nil, err
	}
	k, err := kernel.Prepare(context.Background(), "", nil)
	if err == nil {
		_, err = k.BuildModule(context.Background(), filepath.Join(root, "kmod/nlecho"), nil)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: run make setup", err)
	}
	if arch, err := kernel.HostArch(); err != nil {
		return nil, err
	} else if _, err := exec.LookPath(arch.QEMU); err != nil {
		return nil, fmt.Errorf("%w: run make setup", err)
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOENV", "GOPROXY", "GOTOOLCHAIN"} {
		v, err := exec.Command("go", "env", name).Output()
		if err != nil {
			return nil, fmt.Errorf("asking go for its %s: %w", name, err)
		}
		s.env = append(s.env, name+"="+strings.TrimSpace(string(v)))
	}
	// A KVM that hangs is found out once, and not at each desk. kvm.txtar tries that.
	if accel, _, ok := vm.Known(s.cache); ok {
		s.env = append(s.env, "ACCEL="+accel)
	}
	return s, nil
}

// copyCheckout copies what belongs to the workbook, and bin/ where there is one:
// not the history, nor a student's work.
func copyCheckout(dst, src string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		switch {
		case rel == ".git" || rel == "work" || rel == "bin" && src != copyDir:
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil // a worktree's .git
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		st, err := in.Stat()
		if err != nil {
			return err
		}
		out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, st.Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	})
}

// desk is where one test works.
type desk struct {
	*shared
	dir string
	env []string
}

func tool(t testing.TB) *shared {
	t.Helper()
	if testing.Short() {
		t.Skip("boots VMs")
	}
	s, err := copyOnce()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	s := tool(t)
	d, err := s.desk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// desk makes the folders of a desk in dir.
func (s *shared) desk(dir string) (*desk, error) {
	own := filepath.Join(dir, "cache/netlink-labs")
	for _, sub := range []string{own, filepath.Join(dir, "tmp"), filepath.Join(dir, "home")} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return nil, err
		}
	}
	names := []string{"kernels", "modules", "compilers"}
	for i := range runtime.NumCPU() {
		names = append(names, fmt.Sprintf("slot-%d", i))
	}
	for _, name := range names {
		if err := os.Symlink(filepath.Join(s.cache, name), filepath.Join(own, name)); err != nil {
			return nil, err
		}
	}
	env := append([]string{"HOME=" + dir + "/home", "TMPDIR=" + dir + "/tmp", "XDG_CACHE_HOME=" + dir + "/cache", "WORK=" + dir,
		"PATH=" + s.root + "/bin:" + os.Getenv("PATH"), "LANG=C.UTF-8", "TERM=xterm"}, s.env...)
	return &desk{s, dir, env}, nil
}

// command is a call of the tool, from the desk's folder.
func (d *desk) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.root+"/bin/lab", args...)
	cmd.Dir, cmd.Env = d.dir, append(d.env, "PWD="+d.dir)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// said is what a call of the tool printed, and how it ended.
type said struct {
	code     int
	out, err string
}

// lab calls the tool; env is added to the desk's.
func (d *desk) lab(t *testing.T, env []string, args ...string) said {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := d.command(ctx, args...)
	cmd.Env = append(cmd.Env, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("lab %q: %v\n%s%s", args, err, &out, &errs)
	}
	return said{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func (s said) want(t *testing.T, code int, out, err string) {
	t.Helper()
	if s.code != code || !strings.Contains(s.out, out) || !strings.Contains(s.err, err) {
		t.Errorf("want exit code %d, %q on stdout and %q on stderr, got %d\n[stdout]\n%s\n[stderr]\n%s", code, out, err, s.code, s.out, s.err)
	}
}

func (d *desk) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(d.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// process is one that belongs to a desk.
type process struct {
	pid  int
	name string // the name that the kernel shows
	args string
}

// processes returns all that run on behalf of the desk: what the tool has started
// has the desk's folder in its environment, whoever its parent is now.
func (d *desk) processes() []process {
	var out []process
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range folders {
		env, err := os.ReadFile(p + "/environ")
		if err != nil || !bytes.Contains(env, []byte("="+d.dir)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil || pid == os.Getpid() {
			continue
		}
		args, _ := os.ReadFile(p + "/cmdline")
		name, err := os.ReadFile(p + "/comm")
		if err != nil || len(args) == 0 { // gone, or a zombie
			continue
		}
		out = append(out, process{pid, strings.TrimSpace(string(name)), strings.ReplaceAll(strings.TrimRight(string(args), "\x00"), "\x00", " ")})
	}
	return out
}

// waitFor waits until a process of the desk has this name.
func (d *desk) waitFor(ctx context.Context, name string) (process, error) {
	for ctx.Err() == nil {
		all := d.processes()
		if i := slices.IndexFunc(all, func(p process) bool { return p.name == name }); i >= 0 {
			return all[i], nil
		}
		time.Sleep(time.Millisecond)
	}
	return process{}, fmt.Errorf("there was no process %s; there are %v: %w", name, d.processes(), ctx.Err())
}

// left returns what is left behind at the desk. What dies with a killed parent may
// take a moment to do so.
func (d *desk) left() []string {
	var out []string
	for end := time.Now().Add(30 * time.Second); ; {
		out = nil
		for _, p := range d.processes() {
			out = append(out, fmt.Sprintf("process %d: %s", p.pid, p.args))
		}
		if len(out) == 0 || time.Now().After(end) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, dir := range []string{"tmp", "cache/netlink-labs/scratch"} {
		entries, _ := os.ReadDir(filepath.Join(d.dir, dir))
		for _, e := range entries {
			out = append(out, "file "+filepath.Join(dir, e.Name()))
		}
	}
	return out
}

func (d *desk) clean(t *testing.T) {
	t.Helper()
	if left := d.left(); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// terminal is a terminal whose other end is the test.
type terminal struct {
	ctrl *os.File
	tty  *os.File

	mu  sync.Mutex
	out bytes.Buffer
	new chan struct{} // gets something when out has grown
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	ctrl, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ctrl.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ctrl.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{ctrl: ctrl, tty: tty, new: make(chan struct{}, 1)}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 100}); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := ctrl.Read(b)
			if err != nil {
				return
			}
			term.mu.Lock()
			term.out.Write(b[:n])
			term.mu.Unlock()
			select {
			case term.new <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() { tty.Close(); ctrl.Close() })
	return term
}

// start starts the command as the terminal's foreground process, as a shell does.
func (term *terminal) start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.tty, term.tty, term.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (term *terminal) String() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.out.String()
}

// expect waits until the terminal shows text, behind what it showed before.
func (term *terminal) expect(t *testing.T, text string) {
	t.Helper()
	end := time.After(patience)
	for {
		s := term.String()
		if i := strings.Index(s, text); i >= 0 {
			term.mu.Lock()
			term.out.Next(i + len(text))
			term.mu.Unlock()
			return
		}
		select {
		case <-term.new:
		case <-end:
			t.Fatalf("the terminal does not show %q but %q", text, s)
		}
	}
}

// drain waits until everything that was printed so far has been read. A program can have ended,
// and what it printed still be on its way: so something is printed behind it.
func (term *terminal) drain(t *testing.T) {
	t.Helper()
	const mark = "\x00end\x00"
	if _, err := term.tty.WriteString(mark); err != nil {
		t.Fatal(err)
	}
	end := time.After(patience)
	for {
		term.mu.Lock()
		before, found := bytes.CutSuffix(term.out.Bytes(), []byte(mark))
		if found {
			term.out.Truncate(len(before))
		}
		term.mu.Unlock()
		if found {
			return
		}
		select {
		case <-term.new:
		case <-end:
			t.Fatalf("the terminal does not show the mark behind %q", term)
		}
	}
}

func (term *terminal) enter(t *testing.T, keys string) {
	t.Helper()
	if _, err := term.ctrl.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}
