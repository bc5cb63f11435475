// SPDX-License-Identifier: MIT

// A right answer in another style: the thread is brought back, both containers start
// at once, the number comes with connect, and in the experiment it is a goroutine
// in recvmsg that has the socket still.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const echo = 25 // the Netlink protocol of the module nlecho

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "address-in-use:", err)
		os.Exit(1)
	}
}

// run does what the arguments say.
func run(args []string) error {
	if len(args) == 2 && args[0] == "container" {
		return inside(args[1])
	}
	numbers := []int{100, 0} // the port ID, and the only step to take; 0: all of them
	for i, arg := range args[:min(len(args), len(numbers))] {
		n, err := strconv.Atoi(arg)
		if err != nil {
			return fmt.Errorf("usage: program [NUMBER [STEP]]: %w", err)
		}
		numbers[i] = n
	}
	return explore(uint32(numbers[0]), numbers[1])
}

// explore goes through the steps, or through one of them, with the same number.
func explore(number uint32, only int) error {
	for i, step := range []func(uint32) error{step1, step2, step3, step4, step5} {
		if only != 0 && only != i+1 {
			continue
		}
		if err := step(number); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

// step1: a number is taken, and free again.
func step1(number uint32) error {
	second, afterClose := taken(number)
	report("second", second)
	report("after_close", afterClose)
	return nil
}

// step2: a line for each rule of bind.
func step2(number uint32) error {
	for _, r := range rules(number) {
		set, answer := ask(r)
		if r.option == unix.SO_REUSEPORT {
			report("reuseport_set", set)
		}
		report(r.key, answer)
	}
	return nil
}

// step3: one socket has the number, and others ask for it elsewhere. In the old
// network namespace ("home") it is taken all the time.
func step3(number uint32) error {
	holder, err := hold(echo, number)
	if err != nil {
		return err
	}
	defer unix.Close(holder)
	report("protocol", otherProtocol(number))
	report("netns", inNamespace(func() error { return try(echo, number) }))
	report("home", try(echo, number))
	return nil
}

// step4: two containers in which each program asks for its process ID,
// and then two that are not so sure of it.
func step4(uint32) error {
	for _, way := range []string{"pid", "auto"} {
		answers, err := containers(way)
		if err != nil {
			return err
		}
		for _, answer := range answers {
			fmt.Printf("%s=%s\n", way, answer)
		}
	}
	return nil
}

// step5: the experiment.
func step5(number uint32) error {
	closed, freed := experiment(number)
	report("closed", closed)
	report("freed", freed)
	return nil
}

// report prints what the kernel said, by the name that errno(3) has for it.
func report(key string, answer error) {
	fmt.Printf("%s=%s\n", key, verdict(answer))
}

// verdict is "ok", or the name of an error: "EADDRINUSE".
func verdict(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// open makes a socket of a Netlink protocol. It has no number yet.
func open(protocol int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, fmt.Errorf("opening a Netlink socket for protocol %d (is the module nlecho loaded?): %w", protocol, err)
	}
	return fd, nil
}

// bind asks for a number for the socket: for number, or, if that is 0, for any.
func bind(fd int, number uint32) error {
	return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: number})
}

// hold makes a socket of the protocol that has the number.
func hold(protocol int, number uint32) (int, error) {
	fd, err := open(protocol)
	if err != nil {
		return -1, err
	}
	if err := bind(fd, number); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("taking the number %d: %w", number, err)
	}
	return fd, nil
}

// try asks for the number with a new socket, and closes that again. It returns what
// the kernel said.
func try(protocol int, number uint32) error {
	fd, err := hold(protocol, number)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// taken asks for the number while another socket has it, and once more when that
// has been closed. It returns what the kernel said to each.
//
// Seen when it is right: on nlecho's protocol, one socket binds to the number, and
// another is refused the same number; the first is closed; then a third gets it.
func taken(number uint32) (second, afterClose error) {
	holder, err := hold(echo, number)
	if err != nil {
		return err, err
	}
	second = try(echo, number)
	unix.Close(holder)
	return second, try(echo, number)
}

// rule is a question to bind, as a row of a table.
type rule struct {
	key    string
	option int       // of level SOL_SOCKET, set to 1 on both sockets before they bind; 0: none
	binds  []request // in this order; what the kernel says to the last one is the rule
}

// request asks for a number for one of two sockets, which are new for each rule.
type request struct {
	socket int // 0 or 1
	number uint32
}

// rules is the table: for each key the shortest way to the situation that the text
// describes under that key.
//
// Seen when it is right: each of these situations, and what the kernel answers in it.
func rules(number uint32) []rule {
	return []rule{
		{"own", 0, []request{{0, number}, {0, number}}},
		{"other", 0, []request{{0, number}, {0, number + 1}}},
		{"zero", 0, []request{{0, number}, {0, 0}}},
		{"one", 0, []request{{0, 1}}},
		{"reuseaddr", unix.SO_REUSEADDR, []request{{0, number}, {1, number}}},
		{"reuseport", unix.SO_REUSEPORT, []request{{0, number}, {1, number}}},
	}
}

// ask carries out a rule: it returns what the kernel said to the option, and what it
// said to the last bind. An option that the kernel refuses is no reason to stop: the
// sockets bind all the same. Afterwards both sockets are gone.
//
// Seen when it is right: as for rules.
func ask(r rule) (set, answer error) {
	var sockets [2]int
	for i := range sockets {
		fd, err := open(echo)
		if err != nil {
			return err, err
		}
		defer unix.Close(fd)
		if r.option != 0 {
			set = errors.Join(set, unix.SetsockoptInt(fd, unix.SOL_SOCKET, r.option, 1))
		}
		sockets[i] = fd
	}
	for i, b := range r.binds {
		answer = bind(sockets[b.socket], b.number)
		if answer != nil && i < len(r.binds)-1 {
			return set, fmt.Errorf("bind %d of %d: %w", i+1, len(r.binds), answer)
		}
	}
	return set, answer
}
func otherProtocol(number uint32) error {
	return try(unix.NETLINK_GENERIC, number)
}
func inNamespace(do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	if err != nil {
		return err
	}
	defer old.Close()
	ns, err := netns.New()
	if err != nil {
		return err
	}
	defer ns.Close()
	defer netns.Set(old)
	return do()
}

// inside is what runs in a container. It takes a number in one of two ways, prints
// which, or what the kernel said, and keeps it until its standard input ends.
func inside(way string) error {
	fd, err := open(echo)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var number uint32
	if way == "pid" {
		number = uint32(os.Getpid()) // as so many programs do
		err = bind(fd, number)
	} else {
		number, err = robust(fd)
	}
	if err == nil {
		fmt.Println(int32(number))
	} else {
		fmt.Println(verdict(err))
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
func robust(fd int) (uint32, error) {
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return address.(*unix.SockaddrNetlink).Pid, nil
}
func containers(way string) (answers []string, err error) {
	var cmds [2]*exec.Cmd
	var stdins [2]io.Closer
	lines := make(chan string)
	for i := range cmds {
		cmd := exec.Command("/proc/self/exe", "container", way)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Cloneflags: unix.CLONE_NEWPID}
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		cmds[i], stdins[i] = cmd, stdin
		go func() {
			line, _ := bufio.NewReader(stdout).ReadString('\n')
			lines <- strings.TrimSpace(line)
		}()
	}
	for range cmds {
		answers = append(answers, <-lines)
	}
	for i := range cmds {
		stdins[i].Close()
		cmds[i].Wait()
	}
	return answers, nil
}
func experiment(number uint32) (closed, freed error) {
	fd, err := hold(echo, number)
	if err != nil {
		return err, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 3}); err != nil {
		return err, err
	}
	tid := make(chan int)
	read := make(chan error)
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		_, _, _, _, err := unix.Recvmsg(fd, make([]byte, 100), nil, 0)
		for err == unix.EINTR { // with a time limit it is not begun again by itself
			_, _, _, _, err = unix.Recvmsg(fd, make([]byte, 100), nil, 0)
		}
		read <- err
	}()
	// The kernel tells in which system call a thread sleeps.
	file, waiting := fmt.Sprintf("/proc/self/task/%d/syscall", <-tid), fmt.Sprintf("%d ", unix.SYS_RECVMSG)
	for {
		text, err := os.ReadFile(file)
		if err != nil {
			return err, err
		}
		if strings.HasPrefix(string(text), waiting) {
			break
		}
	}
	unix.Close(fd)
	closed = try(echo, number)
	<-read
	return closed, try(echo, number)
}
