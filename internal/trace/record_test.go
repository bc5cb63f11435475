// SPDX-License-Identifier: MIT

package trace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The recordings in testdata are made by TestRecord, in the throw-away VM, one for each kernel; what the program leaves
// in the folder that outEnv names, lab exec brings to the folder OUT:
//
//	for k in 5.10 6.1 6.12 sid; do
//		OUT=$PWD/internal/trace/testdata KERNEL=$k go test -exec "'$PWD/bin/lab' exec -module nlecho" -run 'TestRecord$' ./internal/trace
//	done
//	go test ./internal/trace -update
const outEnv = "NETLINK_LABS_OUT"

// roleEnv makes this test binary one of the processes that are recorded.
const roleEnv = "TRACE_TEST_ROLE"

func TestMain(m *testing.M) {
	roles := map[string]func() error{"program": program, "child": child, "stranger": stranger}
	if role := roles[os.Getenv(roleEnv)]; role != nil {
		if err := role(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", os.Getenv(roleEnv), err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program is what is recorded: everything that the labs ask about.
func program() error {
	// A message to the kernel from port 100, and its three replies.
	first, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, echoProtocol)
	if err != nil {
		return fmt.Errorf("open a socket of protocol 25: %w", err)
	}
	if err := unix.Bind(first, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 100}); err != nil {
		return fmt.Errorf("bind port 100: %w", err)
	}
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if _, err := unix.SendmsgN(first, request("Hello, kernel", 1, 100), nil, kernel, 0); err != nil {
		return fmt.Errorf("send to the kernel: %w", err)
	}
	buf := make([]byte, 4096)
	for range 3 {
		if _, _, _, _, err := unix.Recvmsg(first, buf, nil, 0); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
	}
	fmt.Println("three replies")

	// A socket that was never bound.
	second, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM, echoProtocol)
	if err != nil {
		return err
	}
	if err := unix.Sendto(second, request("Who am I?", 2, 0), 0, kernel); err != nil {
		return err
	}
	if _, err := unix.Getsockname(second); err != nil {
		return err
	}

	// Another one that wants the first one's port.
	third, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, echoProtocol)
	if err != nil {
		return err
	}
	if err := unix.Bind(third, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 100}); err != unix.EADDRINUSE {
		return fmt.Errorf("bind port 100 once more: %v", err)
	}
	unix.Close(third)

	// A thread that waits for the reply while another sends.
	tid, read := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		_, _, err := unix.Recvfrom(first, make([]byte, 4096), 0)
		read <- err
	}()
	if err := asleep(<-tid); err != nil {
		return err
	}
	if _, err := unix.Write(first, request("To whoever reads", 3, 100)); err != nil {
		return err
	}
	if err := <-read; err != nil {
		return err
	}

	// A process of its own.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=child")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

func child() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 77})
}

// stranger talks to nlecho and to rtnetlink until its input ends.
func stranger() error {
	route, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	echo, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, echoProtocol)
	if err != nil {
		return err
	}
	// The same port as the program's, in another protocol.
	if err := unix.Bind(route, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 100}); err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	buf := make([]byte, 1<<16)
	for i := 0; ; i++ {
		get := make([]byte, 17)
		header(get, unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, uint32(i), 0)
		if err := unix.Sendto(route, get, 0, kernel); err != nil {
			return fmt.Errorf("ask for the links: %w", err)
		}
		for done := false; !done; {
			n, _, err := unix.Recvfrom(route, buf, 0)
			if err != nil {
				return err
			}
			done = n < 20 || buf[4] == unix.NLMSG_DONE || i == 0 && buf[4] == unix.NLMSG_ERROR
		}
		if err := unix.Sendto(echo, request("I am a stranger", uint32(i), 100), 0, kernel); err != nil {
			return err
		}
		for range 3 {
			if _, _, err := unix.Recvfrom(echo, buf, 0); err != nil {
				return err
			}
		}
		if i == 0 {
			fmt.Println("ready")
		}
		select {
		case <-stop:
			return nil
		case <-time.After(20 * time.Millisecond): // leave the processor to the others; nothing depends on it
		}
	}
}

// request is a message to nlecho: header, text, no padding.
func request(text string, seq, pid uint32) []byte {
	b := append(make([]byte, 16), text...)
	header(b, 0, 0, seq, pid)
	return b
}

func header(b []byte, typ, flags uint16, seq, pid uint32) {
	for i, v := range []uint32{uint32(len(b)), uint32(typ) | uint32(flags)<<16, seq, pid} {
		b[4*i], b[4*i+1], b[4*i+2], b[4*i+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
}

// asleep returns when the thread sleeps in recvfrom(2).
func asleep(tid int) error {
	path := fmt.Sprintf("/proc/self/task/%d/stat", tid)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		stat, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, rest, ok := strings.Cut(string(stat), ") "); ok && rest[0] == 'S' {
			return nil
		}
	}
	return errors.New("the reading thread did not fall asleep")
}

// TestRecord records a run of program, with a stranger at work at the same time.
func TestRecord(t *testing.T) {
	inVM(t)
	out := os.Getenv(outEnv)
	setParameters(t)

	record := new(Recording)
	c, err := Start(Config{Record: record, Keep: true, Emit: func(e Event) {
		if e.CPU < 0 {
			record.Extra = append(record.Extra, e)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Logf("set up in %v", c.SetUp())

	other := role(t, "stranger")
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the stranger said %q: %v", line, err)
	}

	prog := role(t, "program")
	lines, err := prog.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := prog.Start(); err != nil {
		t.Fatal(err)
	}
	for in := bufio.NewScanner(lines); in.Scan(); {
		c.Output(prog.Process.Pid, 1, in.Text())
	}
	if err := prog.Wait(); err != nil {
		t.Fatalf("the program: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.WaitFor(ctx, func(tr *Trace) bool { return tr.Program(prog.Process.Pid, "").Exit().Seen() }); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	if err := other.Wait(); err != nil {
		t.Fatalf("the stranger: %v", err)
	}

	live, err := c.Trace()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	record.Release, record.PID = unix.ByteSliceToString(uts.Release[:]), prog.Process.Pid

	// What was recorded must be what was seen live.
	checkRecording(t, record)
	series := strings.Join(strings.SplitN(record.Release, ".", 3)[:2], ".")
	if err := save(record, filepath.Join(out, series+".trace.gz")); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events, %d pages", len(live.Events()), len(record.Pages))
}

func role(t *testing.T, name string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

func setParameters(t testing.TB) {
	t.Helper()
	for name, value := range map[string]string{"replies": "3", "delay_ms": "0"} {
		path := filepath.Join("/sys/module/nlecho/parameters", name)
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			t.Fatalf("set a parameter of nlecho: %v; load the module first", err)
		}
	}
}
