// SPDX-License-Identifier: MIT

// Another style: package syscall and os.File, structures instead of offsets, the
// kernel's choice of a port ID, and what differs found by eye.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var (
	times = flag.Int("times", 1, "")
	to    = flag.Uint("to", 0, "")
)

func say(key string, err error) bool {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		fmt.Println(key + "=" + unix.ErrnoName(errno))
	} else if err == nil {
		fmt.Println(key + "=ok")
	} else {
		panic(err)
	}
	return err == nil
}

func encode(text string) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.NativeEndian, syscall.NlMsghdr{Len: uint32(syscall.NLMSG_HDRLEN + len(text))})
	b.WriteString(text)
	return b.Bytes()
}

func main() {
	flag.Parse()
	text := strings.Repeat(flag.Arg(0), *times)
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM, 25)
	if err != nil {
		panic(err)
	}
	address := &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK, Pid: uint32(*to)}
	file := os.NewFile(uintptr(fd), "netlink")
	defer file.Close()

	read := func(ok bool, messages int) {
		var replies int
		params, _ := os.ReadFile("/sys/module/nlecho/parameters/replies")
		fmt.Sscan(string(params), &replies)
		for range messages * replies {
			if !ok {
				return
			}
			b := make([]byte, 1<<15)
			n, _, err := syscall.Recvfrom(fd, b, 0)
			if err != nil {
				panic(err)
			}
			parts, err := syscall.ParseNetlinkMessage(b[:n])
			if err != nil {
				panic(err)
			}
			fmt.Printf("reply=%s\n", bytes.TrimRight(parts[0].Data, "\x00"))
		}
	}
	_, err = syscall.SendmsgN(fd, encode(text), nil, address, 0)
	read(say("sendmsg", err), 1)
	read(say("sendto", syscall.Sendto(fd, encode(text), 0, address)), 1)
	_, err = file.Write(encode(text))
	read(say("bare", err), 1)

	one := encode(text)
	both := make([]byte, (len(one)+3)&^3, 2*len(one)+3)
	copy(both, one)
	read(say("two", syscall.Sendto(fd, append(both, one...), 0, address)), 2)

	conn, err := netlink.Dial(25, nil)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	sent, err := conn.Send(netlink.Message{Data: []byte(text)})
	if say("library", err) {
		if sent.Header.Length != uint32(len(one)) {
			fmt.Printf("nlmsg_len=%d\n", sent.Header.Length)
		}
		fmt.Printf("nlmsg_seq=%d\n", sent.Header.Sequence)
		fmt.Printf("nlmsg_pid=%d\n", sent.Header.PID)
	}
}
