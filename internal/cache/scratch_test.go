// SPDX-License-Identifier: MIT

package cache_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"netlinklabs/internal/cache"
)

// scratchHolder is the variable that makes this test binary a process which makes
// a scratch folder, puts something into it, and waits to be killed.
const scratchHolder = "CACHE_TEST_SCRATCH_HOLDER"

func TestMain(m *testing.M) {
	if os.Getenv(scratchHolder) == "" {
		os.Exit(m.Run())
	}
	dir, _, err := cache.Scratch()
	if err == nil {
		err = os.MkdirAll(filepath.Join(dir, "go-build1/b001"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "program"), []byte("half"), 0o400)
	}
	fmt.Println(dir, err)
	select {}
}

func gone(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

func TestScratch(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", home)
	a, removeA, err := cache.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	onlyEntries(t, a)
	if !strings.HasPrefix(a, filepath.Join(home, "netlink-labs", "scratch")+"/") {
		t.Errorf("the folder %s is not in the cache", a)
	}
	b, removeB, err := cache.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a); err != nil {
		t.Errorf("another run took a folder that is in use: %v", err)
	}
	if err := os.WriteFile(filepath.Join(b, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	removeA()
	removeB()
	onlyEntries(t, filepath.Dir(a))
}

func TestScratchOfKilledRunVanishes(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), scratchHolder+"=1")
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	dir, ok := strings.CutSuffix(line, " <nil>\n")
	if err != nil || !ok {
		t.Fatalf("the holder says %q, %v", line, err)
	}

	_, remove, err := cache.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "program")); err != nil {
		t.Errorf("the folder of a living process was taken: %v", err)
	}
	remove()
	_ = holder.Process.Kill()
	_ = holder.Wait()
	_, remove, err = cache.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	gone(t, dir)
}

// TestScratchAtOnce has many runs begin at once: none takes another's folder
// between its making and its locking.
func TestScratchAtOnce(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				dir, remove, err := cache.Scratch()
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
					t.Error(err)
				}
				remove()
			}
		})
	}
	wg.Wait()
}

func TestScratchSaysWhatIsInTheWay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", file)
	if _, _, err := cache.Scratch(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want the path named", err)
	}
}
