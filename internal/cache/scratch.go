// SPDX-License-Identifier: MIT

package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Scratch makes an empty folder for files that one run of the tool needs, and
// returns what removes it. Folders of runs that were killed before they could do
// so are removed by the next call: a folder whose lock is free has no owner.
func Scratch() (dir string, remove func(), err error) {
	base, err := Dir()
	if err != nil {
		return "", nil, err
	}
	base = filepath.Join(base, "scratch")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", nil, err
	}
	// A folder that another run has made, but not locked yet, must not be taken for
	// one without an owner.
	gate, err := os.Open(base)
	if err != nil {
		return "", nil, err
	}
	defer gate.Close()
	if err := flock(gate); err != nil {
		return "", nil, err
	}
	if entries, err := os.ReadDir(base); err == nil {
		for _, e := range entries {
			reap(filepath.Join(base, e.Name()))
		}
	}
	if dir, err = os.MkdirTemp(base, "run-"); err != nil {
		return "", nil, err
	}
	d, err := os.Open(dir)
	if err == nil {
		err = flock(d)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return "", nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return dir, func() {
		_ = os.RemoveAll(dir)
		d.Close()
	}, nil
}

// flock takes the lock on f, which others hold for moments only.
func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// reap removes a folder that nobody holds.
func reap(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	if unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = os.RemoveAll(dir)
	}
}
