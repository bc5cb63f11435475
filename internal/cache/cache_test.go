// SPDX-License-Identifier: MIT

package cache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"netlinklabs/internal/cache"
)

func TestMakeBuildsOnceForAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space[1]", "entry")
	const callers = 5
	var builds int // guarded by the lock under test; the race detector watches
	waiting := make(chan string, callers)
	started := make(chan struct{})
	var wg sync.WaitGroup
	build := func(tmp string) error {
		builds++
		close(started)
		for range callers - 1 { // go on when all others are seen to wait
			<-waiting
		}
		return os.WriteFile(filepath.Join(tmp, "file"), []byte("whole"), 0o644)
	}
	for i := range callers {
		if i > 0 {
			<-started
		}
		wg.Go(func() {
			if err := cache.Make(t.Context(), path, func(p string) { waiting <- p }, build); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(filepath.Join(path, "file")); string(got) != "whole" {
				t.Errorf("a caller returned before the entry was whole: %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if builds != 1 {
		t.Errorf("built %d times", builds)
	}
	onlyEntries(t, filepath.Dir(path), "entry")
}

func TestMakeLeavesNothingOfAFailure(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "entry")
	// What a killed builder leaves: its folder and its lock file.
	stale := path + ".tmp-123"
	if err := os.MkdirAll(filepath.Join(stale, "half"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".lock", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	want := errors.New("no luck")
	err := cache.Make(t.Context(), path, nil, func(tmp string) error {
		if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the killed builder's folder is still there: %v", err)
		}
		if err := os.WriteFile(filepath.Join(tmp, "half"), nil, 0o644); err != nil {
			return err
		}
		return want
	})
	if err != want {
		t.Errorf("got %v, want the builder's own error", err)
	}
	onlyEntries(t, dir)
}

func TestLockWaitEndsWithContext(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := cache.Lock(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = cache.Lock(ctx, file, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
}

// A holder may remove the file: who opened it before must not believe to hold the same lock as who makes it anew.
func TestLockSurvivesRemoval(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := cache.Lock(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan func())
	waits := make(chan struct{})
	go func() {
		second, err := cache.Lock(t.Context(), file, func(string) { close(waits) })
		if err != nil {
			t.Error(err)
		}
		got <- second
	}()
	<-waits
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	unlock()
	second := <-got
	defer second()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := cache.Lock(ctx, file, func(string) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("a third got the lock that the second holds: %v", err)
	}
}

func TestDir(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/c")
	if got, err := cache.Dir(); got != "/c/netlink-labs" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	t.Setenv("XDG_CACHE_HOME", "relative")
	if got, err := cache.Dir(); err == nil {
		t.Errorf("a relative XDG_CACHE_HOME gave %q, want an error", got)
	}
}

// onlyEntries fails unless dir has just these entries.
func onlyEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if err != nil || len(names) != len(want) || len(want) > 0 && names[0] != want[0] {
		t.Errorf("%s holds %q, want %q (%v)", dir, names, want, err)
	}
}
