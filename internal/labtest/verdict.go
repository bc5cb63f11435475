// SPDX-License-Identifier: MIT

package labtest

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/trace"
)

// Verdict is what the kernel said to a call, as programs report it: "ok", or the
// name of the error, "EPERM".
func Verdict(c trace.Call) string {
	var errno syscall.Errno
	if errors.As(c.Err(), &errno) {
		return unix.ErrnoName(errno)
	}
	return "ok"
}

// SameVerdict reports whether two verdicts are the same, by whatever name: ENOTSUP
// and EOPNOTSUPP are one number.
func SameVerdict(a, b string) bool {
	one := func(v string) string {
		if v == "EOPNOTSUPP" {
			return "ENOTSUP"
		}
		return v
	}
	return one(a) == one(b)
}
