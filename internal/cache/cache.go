// SPDX-License-Identifier: MIT

// Package cache keeps what is expensive to make (kernels, compilers, modules) for the next run, and for
// other runs at the same time. An entry is made once: under a lock, beside its final place, and put there by
// one rename. What stands at its final path is therefore always whole, whenever its maker was killed.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Dir returns the folder all entries live in: $XDG_CACHE_HOME/netlink-labs, by default ~/.cache/netlink-labs.
// It fails where neither XDG_CACHE_HOME nor HOME is an absolute path. The folder need not exist yet.
func Dir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder for the cache: %w: set HOME or XDG_CACHE_HOME to an absolute path", err)
	}
	return filepath.Join(base, "netlink-labs"), nil
}

// Make returns at once when path exists. Else it calls build with an empty folder beside path, and renames that
// folder to path when build succeeded. Of several processes that want the same path one builds and the others
// wait for it; waiting is called once, with the path, by each that has to. What an earlier, killed builder left
// behind is removed. An error of build is returned as it is, and its folder is removed.
func Make(ctx context.Context, path string, waiting func(path string), build func(tmp string) error) error {
	if exists(path) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	lock := path + ".lock"
	unlock, err := Lock(ctx, lock, waiting)
	if err != nil {
		return err
	}
	defer unlock()
	defer os.Remove(lock) // while it is held, see Lock
	if exists(path) {     // made by the process that we waited for
		return nil
	}
	removeStale(path)
	defer removeStale(path) // what could not be removed yet
	// The folder's name is new each time: a child that outlives a killed builder for a moment may still write into
	// the old one.
	tmp, err := os.MkdirTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := build(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// removeStale removes the folders of builders that failed or were killed, as far as that works: they do no harm.
func removeStale(path string) {
	stale, _ := filepath.Glob(escape(path) + ".tmp-*")
	for _, old := range stale {
		os.RemoveAll(old)
	}
}

// lockPoll is how often a waiting process looks whether the lock is free: flock(2) cannot be waited for together
// with a context.
const lockPoll = 50 * time.Millisecond

// Lock takes the flock(2) on file, which it makes if need be, and returns what gives it back. While another process
// has it, Lock waits until ctx ends; waiting, if not nil, is called once before that. The kernel gives the lock back
// when its holder dies. The file stays; only who holds the lock may remove it.
func Lock(ctx context.Context, file string, waiting func(path string)) (unlock func(), err error) {
	for waited := false; ; {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && isAt(f, file) {
			return func() { f.Close() }, nil
		}
		f.Close()
		switch {
		case err == nil: // the holder removed the file between our open and its close
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, &os.PathError{Op: "flock", Path: file, Err: err}
		}
		if !waited && waiting != nil {
			waiting(file)
		}
		waited = true
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// isAt tells whether path still names the open file.
func isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// escape makes path safe as the fixed part of a filepath.Match pattern.
func escape(path string) string {
	var b []rune
	for _, r := range path {
		if r == '*' || r == '?' || r == '[' || r == '\\' {
			b = append(b, '\\')
		}
		b = append(b, r)
	}
	return string(b)
}
