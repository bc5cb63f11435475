// SPDX-License-Identifier: MIT

// Command job is the job that the tests of internal/vm give to a VM: it runs as
// root and does what its argument says.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/wire"
)

func main() {
	// As PID 1, in the place of the guest, it gives no sign of life.
	if os.Getpid() == 1 {
		if len(os.Args) > 1 && os.Args[1] == "die" {
			os.Exit(0)
		}
		for {
			_ = unix.Pause()
		}
	}
	if err := do(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "job:", err)
		os.Exit(99)
	}
}

func do(what string, args []string) error {
	switch what {
	case "exit": // CODE
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		os.Exit(code)
	case "kill": // PID SIGNAL; PID 0 is this process
		pid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		if pid == 0 {
			pid = os.Getpid()
		}
		if err := unix.Kill(pid, unix.SignalNum(args[1])); err != nil {
			return err
		}
		hang()
	case "sysrq": // KEY
		return os.WriteFile("/proc/sysrq-trigger", []byte(args[0]), 0)
	case "hang":
		fmt.Println("hanging")
		hang()
	case "spin":
		for {
		}
	case "print": // BYTES, without end if negative
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		line := []byte("0123456789012345678901234567890123456789012345678901234567890123456789012345678\n")
		for n != 0 {
			k := len(line)
			if n > 0 {
				k = min(k, n)
				n -= k
			}
			if _, err := os.Stdout.Write(line[:k]); err != nil {
				return err
			}
		}
	case "reboot": // restart or off: behind PID 1's back
		cmd := unix.LINUX_REBOOT_CMD_POWER_OFF
		if args[0] == "restart" {
			cmd = unix.LINUX_REBOOT_CMD_RESTART
		}
		return unix.Reboot(cmd)
	case "kmsg": // LINE: as the kernel would say it
		return os.WriteFile("/dev/kmsg", []byte("<2>"+args[0]+"\n"), 0)
	case "line": // HOW: writes to the result channel behind PID 1's back
		return line(args[0])
	case "orphan": // leaves a process that holds the output open
		_, err := os.StartProcess("/proc/self/exe", []string{"job", "hang"}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
		return err
	case "leave": // NAME SIZE: leaves a file for the host
		size, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return os.WriteFile(os.Getenv(wire.EnvOut)+"/"+args[0], make([]byte, size), 0o600)
	case "env":
		for _, kv := range os.Environ() {
			fmt.Println(kv)
		}
		dir, err := os.Getwd()
		fmt.Println(dir)
		return err
	default:
		return fmt.Errorf("nobody told me how to %s", what)
	}
	return nil
}

func hang() {
	for {
		_ = unix.Pause()
	}
}

// line writes what is no frame, or a broken one, to the result channel.
func line(how string) error {
	b, err := os.ReadFile(wire.JobPath)
	if err != nil {
		return err
	}
	var job wire.Job
	if err := json.Unmarshal(b, &job); err != nil {
		return err
	}
	tty, err := os.OpenFile(job.Line, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	payload := []byte(`{"code":0}`)
	head := append([]byte{0xf5, 'N'}, job.Nonce[:]...)
	head = append(head, byte(wire.Exit))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(payload)))
	head = binary.LittleEndian.AppendUint32(head, crc32.ChecksumIEEE(payload))
	switch how {
	case "noise":
		_, err = tty.Write(append([]byte("\xf5N noise that is no frame "), make([]byte, 4096)...))
	case "foreign": // a whole frame, of another nonce
		head[2] ^= 1
		_, err = tty.Write(append(head, payload...))
	case "corrupt":
		_, err = tty.Write(append(head, payload[:9]...))
		if err == nil {
			_, err = tty.Write([]byte("!"))
		}
	case "cut":
		if _, err = tty.Write(head); err == nil {
			err = unix.IoctlSetInt(int(tty.Fd()), unix.TCSBRK, 1)
		}
		if err == nil {
			err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		}
	}
	return err
}
