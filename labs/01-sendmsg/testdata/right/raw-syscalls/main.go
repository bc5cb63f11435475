// SPDX-License-Identifier: MIT

// Another style: nothing but system call numbers, structures and pointers; the
// header and the greeting in two pieces; a port ID that the kernel chooses; the
// port ID in the header too (address C).
package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

type header struct {
	length      uint32
	kind, flags uint16
	seq, port   uint32
}

type address struct {
	family, pad  uint16
	port, groups uint32
}

func call(trap, a, b, c uintptr) uintptr {
	r, _, errno := syscall.Syscall(trap, a, b, c)
	if errno != 0 {
		fmt.Fprintln(os.Stderr, "system call", trap, errno)
		os.Exit(1)
	}
	return r
}

func main() {
	greeting := []byte("Hello you!")
	if len(os.Args) > 1 {
		greeting = []byte(os.Args[1])
	}
	var replies int
	text, err := os.ReadFile("/sys/module/nlecho/parameters/replies")
	if err != nil {
		panic(err)
	}
	if _, err := fmt.Sscan(string(text), &replies); err != nil {
		panic(err)
	}
	fd := call(syscall.SYS_SOCKET, syscall.AF_NETLINK, syscall.SOCK_DGRAM, 25)
	to := address{family: syscall.AF_NETLINK}
	h := header{length: uint32(16 + len(greeting)), port: uint32(os.Getpid()), seq: 7}
	iov := []syscall.Iovec{{Base: (*byte)(unsafe.Pointer(&h)), Len: 16}, {Base: &greeting[0], Len: uint64(len(greeting))}}
	msg := syscall.Msghdr{Name: (*byte)(unsafe.Pointer(&to)), Namelen: 12, Iov: &iov[0], Iovlen: 2}
	fmt.Printf("sent=%d\n", call(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&msg)), 0))
	for range replies {
		var from address
		b := make([]byte, 2000)
		in := []syscall.Iovec{{Base: &b[0], Len: uint64(len(b))}}
		msg := syscall.Msghdr{Name: (*byte)(unsafe.Pointer(&from)), Namelen: 12, Iov: &in[0], Iovlen: 1}
		n := call(syscall.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&msg)), 0)
		runtime.KeepAlive(in)
		end := 16
		for b[end] != 0 {
			end++
		}
		fmt.Printf("reply=%s\nbytes=%d\nfrom=%d\n", b[16:end], n, from.port)
	}
}
