// SPDX-License-Identifier: MIT

package kernel

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"netlinklabs/internal/cache"
)

// A compiler builds modules.
type compiler struct {
	path string // of gcc; empty: there is none
	root string // the root whose libraries it needs; empty: the host's
	id   string // changes when the compiler does
}

// hostCompiler finds the host's compiler: the very version the kernel was built with, or whatever gcc is.
func hostCompiler(major int) compiler {
	for _, name := range []string{"gcc-" + strconv.Itoa(major), "gcc"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		fi, err := os.Stat(path)
		if err != nil {
			continue
		}
		return compiler{path: path, id: fmt.Sprint(path, fi.Size(), fi.ModTime().UnixNano())}
	}
	return compiler{id: "none"}
}

// olderThan tells whether the compiler's major version is below major; if it does not say, it is not.
func (c compiler) olderThan(ctx context.Context, major int) bool {
	out, err := run(ctx, "", cleanEnv(), nil, c.path, "-dumpversion")
	if err != nil {
		return false
	}
	have, _, _ := strings.Cut(strings.TrimSpace(out), ".")
	n, err := strconv.Atoi(have)
	return err == nil && n < major
}

// A Debian release serves few compilers. One that is newer than the kernel's builds its modules too, as gcc 12 does for
// 5.10.
var compilers = []struct {
	suite string
	gcc   int
}{
	{"bookworm", 12},
	{"trixie", 14},
}

// compilerFor returns where to fetch a compiler for a kernel that gcc's major version built, and which.
func compilerFor(major int) (suite string, gcc int) {
	for _, c := range compilers {
		if major <= c.gcc {
			return c.suite, c.gcc
		}
	}
	return "sid", major
}

// forLinking matches what a compiler's packages have for other purposes than to make object files: half of their size.
var forLinking = regexp.MustCompile(`^usr/share/|/lto|san\.so|\.a$|gprofng`)

func wantCompilerFile(name string) bool { return !forLinking.MatchString(name) }

// fetchCompiler returns the compiler for a kernel that gcc's major version built, out of a root in the cache: a folder
// with Debian's packages of the compiler and all they need, unpacked only. Its programs are wrapped, see wrapPrograms.
func fetchCompiler(ctx context.Context, major int, arch Arch, cacheDir string, progress func(string)) (compiler, error) {
	suite, major := compilerFor(major)
	gcc := "gcc-" + strconv.Itoa(major)
	root := filepath.Join(cacheDir, "compilers", fmt.Sprintf("%s-%s-%s-%s", suite, gcc, arch.Debian, layout))
	op := "fetch the compiler " + gcc
	err := cache.Make(ctx, root, func(string) {
		progress("waiting for another process that fetches " + gcc)
	}, func(tmp string) error {
		work := filepath.Join(tmp, "fetch")
		a, err := newApt(work, arch.Debian, progress)
		if err != nil {
			return err
		}
		// libelf1 is for the headers' objtool, on architectures that have one.
		packages, err := a.find(ctx, gcc, hostMirrors("/").sources(suite, false, false), func() ([]string, error) {
			return a.closure(ctx, gcc, "libelf1")
		})
		if err != nil {
			return err
		}
		debs, err := a.download(ctx, packages)
		if err != nil {
			return err
		}
		progress("unpacking " + gcc)
		if err := unpack(ctx, debs, tmp, wantCompilerFile); err != nil {
			return err
		}
		if err := os.RemoveAll(work); err != nil {
			return err
		}
		lib := filepath.Join(arch.triplet, "ld-linux-*.so.*")
		loader, err := one(filepath.Join(tmp, "usr/lib", lib), filepath.Join(tmp, "lib", lib))
		if err != nil {
			return err
		}
		if loader, err = filepath.Rel(tmp, loader); err != nil {
			return err
		}
		if err := os.Symlink(loader, filepath.Join(tmp, "ld.so")); err != nil {
			return err
		}
		// Before bookworm's successor gcc's own programs were in usr/lib, where libraries are too.
		for _, dir := range []string{"usr/bin", "usr/lib/gcc", "usr/libexec"} {
			if err := wrapPrograms(filepath.Join(tmp, dir), arch); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return compiler{}, explain(ctx, op, cacheDir, err)
	}
	return compiler{path: filepath.Join(root, "usr/bin", gcc), root: root}, nil
}
