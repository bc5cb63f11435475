// SPDX-License-Identifier: MIT

// Another style: sendmmsg(2), and recvmmsg(2) for all replies at once.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

type mmsghdr struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

func main() {
	greeting := "Hello you!"
	if len(os.Args) > 1 {
		greeting = os.Args[1]
	}
	text, err := os.ReadFile("/sys/module/nlecho/parameters/replies")
	if err != nil {
		log.Fatal(err)
	}
	var replies int
	if _, err := fmt.Sscan(string(text), &replies); err != nil {
		log.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 25)
	if err != nil {
		log.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 4711}); err != nil {
		log.Fatal(err)
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(16+len(greeting)))
	b = append(b, make([]byte, 12)...)
	b = append(b, greeting...)
	to := unix.RawSockaddrNetlink{Family: unix.AF_NETLINK}
	out := make([]mmsghdr, 1)
	iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	out[0].Iov, out[0].Iovlen = &iov, 1
	out[0].Name, out[0].Namelen = (*byte)(unsafe.Pointer(&to)), unix.SizeofSockaddrNetlink
	if _, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&out[0])), 1, 0, 0, 0); errno != 0 {
		log.Fatal(errno)
	}
	runtime.KeepAlive(b)
	fmt.Printf("sent=%d\n", out[0].n)

	in := make([]mmsghdr, replies)
	from := make([]unix.RawSockaddrNetlink, replies)
	room := make([][2048]byte, replies)
	iovs := make([]unix.Iovec, replies)
	for i := range in {
		iovs[i] = unix.Iovec{Base: &room[i][0], Len: uint64(len(room[i]))}
		in[i].Iov, in[i].Iovlen = &iovs[i], 1
		in[i].Name, in[i].Namelen = (*byte)(unsafe.Pointer(&from[i])), unix.SizeofSockaddrNetlink
	}
	got, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&in[0])), uintptr(replies), 0, 0, 0)
	if errno != 0 {
		log.Fatal(errno)
	}
	runtime.KeepAlive(iovs)
	for i := range got {
		payload := room[i][16:in[i].n]
		fmt.Printf("bytes=%d\nfrom=%d\nreply=%s\n", in[i].n, from[i].Pid, payload[:bytes.IndexByte(payload, 0)])
	}
}
