// SPDX-License-Identifier: MIT

package kernel

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// An Error says that this machine or the arguments are at fault, never the student's program: a tool exits 2 on it.
type Error struct {
	Op  string // what was tried, as in "cannot OP"
	Err error  // why not; of a failed build it holds the compiler's output
	Fix string // what to do, may be empty
}

// Error says it in one line, unless a program's output is part of it.
func (e *Error) Error() string {
	s := fmt.Sprintf("cannot %s: %v", e.Op, e.Err)
	if e.Fix != "" {
		s += ": " + e.Fix
	}
	return s
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// explain makes an *Error of what went wrong while the cache folder dir was written, and finds the reasons behind
// reasons: a full disk shows as a hundred different messages of the programs that met it.
func explain(ctx context.Context, op, dir string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("cannot %s: %w", op, ctx.Err())
	}
	var e *Error
	switch {
	case diskFull(err):
		return &Error{Op: op, Err: fmt.Errorf("the disk of %s: %w", dir, unix.ENOSPC),
			Fix: "make room (a kernel takes 300 MB, a compiler 300 MB), or set XDG_CACHE_HOME to a folder on another disk"}
	case errors.As(err, &e):
		return err
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES):
		return &Error{Op: op, Err: err, Fix: "make " + dir + " writable, or set XDG_CACHE_HOME to a folder that is"}
	}
	return &Error{Op: op, Err: err}
}

// diskFull tells whether err, or the program's output in it, says that the disk or the user's share of it is full.
func diskFull(err error) bool {
	text := err.Error()
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) ||
		strings.Contains(text, "No space left on device") || strings.Contains(text, "Disk quota exceeded") ||
		strings.Contains(text, "enough free space")
}
