// SPDX-License-Identifier: MIT

package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"netlinklabs/internal/cache"
)

// BuildModule builds the module in the folder srcDir, which must have a Makefile for kbuild and is named like the
// module, and returns the path of its NAME.ko in the cache. The sources are copied first: srcDir is only read. The same
// sources are built once for a kernel and compiler (a second); later calls take some milliseconds.
//
// The host's compiler is used where it can build for this kernel. Else, where it is too old or missing, that of the
// Debian release which the kernel came with: it is fetched into the cache (60 MB, 250 MB unpacked) on first use.
// A prepared folder that has NAME.ko and no build/ gives that file.
//
// Every failure that is not ctx's end is an *Error; when the module does not compile it holds the compiler's output.
func (p *Prepared) BuildModule(ctx context.Context, srcDir string, progress func(string)) (string, error) {
	b, err := p.newBuild(srcDir, progress)
	if err != nil {
		return "", err
	}
	if b.unusable != nil {
		return b.shipped()
	}
	host := hostCompiler(b.gcc)
	key, err := b.key(host)
	if err != nil {
		return "", &Error{Op: b.op, Err: err}
	}
	dir := filepath.Join(b.cache, "modules", key[:32])
	err = cache.Make(ctx, dir, func(string) {
		b.progress("waiting for another process that builds " + b.name)
	}, func(tmp string) error {
		work := filepath.Join(tmp, "work")
		if _, err := b.make(ctx, host, b.src, work); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(work, b.name+".ko"), filepath.Join(tmp, b.name+".ko")); err != nil {
			return fmt.Errorf("its Makefile did not make %s.ko", b.name)
		}
		return os.RemoveAll(work)
	})
	if err != nil {
		return "", explain(ctx, b.op, b.cache, err)
	}
	return filepath.Join(dir, b.name+".ko"), nil
}

// CheckModule builds the module like BuildModule, but anew each time and with further arguments for kbuild ("W=1", or
// "C=2" for sparse), and throws it away. It returns what make and the compiler printed.
func (p *Prepared) CheckModule(ctx context.Context, srcDir string, progress func(string), args ...string) (string, error) {
	b, err := p.newBuild(srcDir, progress)
	if err != nil {
		return "", err
	}
	if b.unusable != nil {
		return "", b.unusable
	}
	tmp, err := os.MkdirTemp("", "netlink-labs-module-")
	if err != nil {
		return "", &Error{Op: b.op, Err: err}
	}
	defer os.RemoveAll(tmp)
	out, err := b.make(ctx, hostCompiler(b.gcc), b.src, filepath.Join(tmp, "work"), args...)
	if err != nil {
		return out, explain(ctx, b.op, tmp, err)
	}
	return out, nil
}

// notCompiled is how make names an object that it could not build.
var notCompiled = regexp.MustCompile(`\*\*\* \[[^]]*?(\w+)\.o\] Error`)

// CompileEach compiles each C file of the folder srcDir, whose Kbuild must ask for all objects, and returns what the
// compiler said of it, by the file's name: nothing where it compiles. That one does not is no error. The same sources are
// compiled once for a kernel and compiler, as in BuildModule.
func (p *Prepared) CompileEach(ctx context.Context, srcDir string, progress func(string)) (map[string]string, error) {
	b, err := p.newBuild(srcDir, progress)
	if err != nil {
		return nil, err
	}
	if b.unusable != nil {
		return nil, b.unusable
	}
	host := hostCompiler(b.gcc)
	key, err := b.key(host)
	if err != nil {
		return nil, &Error{Op: b.op, Err: err}
	}
	dir := filepath.Join(b.cache, "modules", key[:32])
	err = cache.Make(ctx, dir, func(string) {
		b.progress("waiting for another process that builds " + b.name)
	}, func(tmp string) error {
		work := filepath.Join(tmp, "work")
		out, err := b.make(ctx, host, b.src, work, "-k")
		if err != nil && (ctx.Err() != nil || !notCompiled.MatchString(out)) {
			return err
		}
		said, err := json.Marshal(sortOut(b.src, out))
		if err == nil {
			err = os.WriteFile(filepath.Join(tmp, "said.json"), said, 0o644)
		}
		return errors.Join(err, os.RemoveAll(work))
	})
	if err != nil {
		return nil, explain(ctx, b.op, b.cache, err)
	}
	said := map[string]string{}
	text, err := os.ReadFile(filepath.Join(dir, "said.json"))
	if err == nil {
		err = json.Unmarshal(text, &said)
	}
	if err != nil {
		return nil, &Error{Op: b.op, Err: err}
	}
	return said, nil
}

// sortOut returns what make and the compiler said of each C file in a folder, where it did not compile.
func sortOut(dir, out string) map[string]string {
	failed := map[string]bool{}
	for _, m := range notCompiled.FindAllStringSubmatch(out, -1) {
		failed[m[1]] = true
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.c"))
	said := map[string]string{}
	for _, f := range files {
		base := filepath.Base(f)
		name := strings.TrimSuffix(base, ".c")
		said[name] = ""
		if !failed[name] {
			continue
		}
		for line := range strings.Lines(out) {
			if strings.Contains("/"+line, "/"+base+":") { // some kernels' make is in the folder
				said[name] += line
			}
		}
		if said[name] == "" {
			said[name] = "it does not compile"
		}
	}
	return said
}

// A build is what there is to know about the build of a module.
type build struct {
	kernel   *Prepared
	src      string // absolute
	name     string
	headers  string // the kernel's build folder, without links
	unusable *Error // why nothing can be built with the headers, nil if it can
	gcc      int    // major version of the compiler that built the kernel; 0: not told, or not gcc
	cache    string
	op       string
	progress func(string)
}

func (p *Prepared) newBuild(srcDir string, progress func(string)) (*build, error) {
	src, err := filepath.Abs(srcDir)
	b := &build{kernel: p, src: src, name: filepath.Base(src), progress: progress}
	b.op = "build the module " + b.name + " for kernel " + p.Release
	if err == nil {
		b.cache, err = cache.Dir()
	}
	if err != nil {
		return nil, &Error{Op: b.op, Err: err}
	}
	if progress == nil {
		b.progress = func(string) {}
	}
	if b.headers, err = filepath.EvalSymlinks(filepath.Join(p.Dir, "build")); err != nil || !isFile(filepath.Join(b.headers, "Makefile")) {
		b.unusable = &Error{Op: b.op, Err: fmt.Errorf("%s has neither headers (build/) nor %s.ko", quote(p.Dir), b.name),
			Fix: "give a kernel that has one of them, or leave KERNEL out"}
		return b, nil
	}
	for _, path := range []string{b.headers, b.cache} { // links do not help: kbuild resolves them
		if strings.ContainsAny(path, " \t:#$%") {
			b.unusable = &Error{Op: b.op, Err: fmt.Errorf("the kernel's build system takes no spaces or signs in a path, as in %s", quote(path)),
				Fix: "move the folder, or set XDG_CACHE_HOME to a path of letters and digits"}
		}
	}
	b.gcc = builtWith(b.headers)
	return b, nil
}

// shipped returns the module that came with a prepared folder whose headers are missing or cannot be used.
func (b *build) shipped() (string, error) {
	ko := filepath.Join(b.kernel.Dir, b.name+".ko")
	data, err := readModule(ko)
	if errors.Is(err, fs.ErrNotExist) {
		return "", b.unusable
	}
	if err != nil {
		return "", &Error{Op: b.op, Err: err}
	}
	info, err := modinfo(data)
	if err != nil {
		return "", &Error{Op: "use " + ko, Err: err}
	}
	if release, _, _ := strings.Cut(info["vermagic"], " "); release != b.kernel.Release {
		return "", &Error{Op: "use " + ko, Err: fmt.Errorf("it was built for kernel %s, not %s", release, b.kernel.Release),
			Fix: "build it again for this kernel"}
	}
	return ko, nil
}

// key names all that the built module depends on.
func (b *build) key(host compiler) (string, error) {
	symbols, err := os.ReadFile(filepath.Join(b.headers, "Module.symvers")) // names and checksums of all a module can use
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	config, err := os.ReadFile(filepath.Join(b.headers, ".config"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	parts := []string{layout, b.name, b.kernel.Release, string(symbols), string(config), host.id}
	err = sourceFiles(b.src, func(name string, data []byte) error {
		parts = append(parts, name, string(data))
		return nil
	})
	return hashOf(parts...), err
}

// make builds the sources in src in the new folder work and returns what was printed. The host's compiler is not tried
// where it is older than the kernel's. Where it is not, only trying tells whether it serves: the headers' own programs
// may fail on the host's C library. So when the host's fails on a module of three lines too, the release's takes over.
func (b *build) make(ctx context.Context, host compiler, src, work string, args ...string) (string, error) {
	memo := filepath.Join(b.cache, "modules", "needs-root-"+hashOf(b.kernel.Release, b.headers, host.id)[:16])
	if host.path != "" && !isFile(memo) && !(wrapped(b.headers) && host.olderThan(ctx, b.gcc)) {
		b.progress("building " + b.name + " for kernel " + b.kernel.Release)
		out, err := b.kbuild(ctx, host, src, work, args...)
		if err == nil || ctx.Err() != nil || diskFull(err) {
			return out, err
		}
		probe := work + "-probe"
		defer os.RemoveAll(probe)
		if err := writeProbe(probe + "-src"); err != nil {
			return "", err
		}
		defer os.RemoveAll(probe + "-src")
		_, probeErr := b.kbuild(ctx, host, probe+"-src", probe)
		if probeErr == nil || ctx.Err() != nil || diskFull(probeErr) {
			return out, err // the module is at fault
		}
		if !wrapped(b.headers) {
			return out, &Error{Op: b.op, Err: err, Fix: fmt.Sprintf("this kernel was built with gcc %d: install that compiler", b.gcc)}
		}
		if err := os.RemoveAll(work); err != nil {
			return "", err
		}
		if err := os.MkdirAll(filepath.Dir(memo), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(memo, []byte(probeErr.Error()), 0o644); err != nil {
			return "", err
		}
	}
	if !wrapped(b.headers) {
		return "", &Error{Op: b.op, Err: errors.New("this machine has no C compiler"), Fix: "sudo apt-get install gcc"}
	}
	cc, err := fetchCompiler(ctx, b.gcc, b.kernel.Arch, b.cache, b.progress)
	if err != nil {
		return "", err
	}
	b.progress("building " + b.name + " for kernel " + b.kernel.Release + " with " + filepath.Base(cc.path) + " of its own release")
	return b.kbuild(ctx, cc, src, work, args...)
}

// kbuild copies src to work and runs the kernel's build system there.
func (b *build) kbuild(ctx context.Context, cc compiler, src, work string, args ...string) (string, error) {
	if err := os.MkdirAll(work, 0o755); err != nil {
		return "", err
	}
	err := sourceFiles(src, func(name string, data []byte) error {
		file := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		return os.WriteFile(file, data, 0o644)
	})
	if err != nil {
		return "", err
	}
	if _, err := exec.LookPath("make"); err != nil {
		return "", &Error{Op: b.op, Err: errors.New("this machine has no make"), Fix: "sudo apt-get install make"}
	}
	// A compiler that is killed leaves its temporary files behind: let them go with the folder.
	tmp := filepath.Join(work, ".tmp")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", err
	}
	env := append(cleanEnv(), "TMPDIR="+tmp)
	if cc.root != "" {
		// The tools beside the compiler go before the host's.
		env = append(env, rootVariable+"="+cc.root, "PATH="+filepath.Dir(cc.path)+":"+os.Getenv("PATH"))
	}
	// Debug information would make the module ten times larger. What pahole(1) would make of it for BPF (installed headers
	// from 6.12 on have what that takes) nobody here reads, and without it pahole fails.
	args = append([]string{"-C", b.headers, "M=" + work, "CC=" + cc.path, "KCFLAGS=-g0", "CONFIG_DEBUG_INFO_BTF_MODULES=",
		"-j" + strconv.Itoa(runtime.NumCPU()), "modules"}, args...)
	out, err := run(ctx, "", env, nil, "make", args...)
	var f *failure
	if errors.As(err, &f) {
		f.output = strings.ReplaceAll(f.output, work, src) // as the author knows the files
	}
	return strings.ReplaceAll(out, work, src), err
}

// wrapped tells whether the programs of the headers were wrapped by wrapPrograms, so that they run with a root.
func wrapped(headers string) bool {
	data, err := os.ReadFile(filepath.Join(headers, "scripts/basic/fixdep"))
	return err == nil && strings.HasPrefix(string(data), "#!")
}

// writeProbe writes the sources of a module that any compiler which is good enough for the kernel builds.
func writeProbe(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const probe = "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\nMODULE_DESCRIPTION(\"probe of the compiler\");\n"
	if err := os.WriteFile(filepath.Join(dir, "probe.c"), []byte(probe), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "Makefile"), []byte("obj-m := probe.o\n"), 0o644)
}

// sourceFiles gives the files below dir to f, in order, without what a build in that folder left there, and hidden
// files.
func sourceFiles(dir string, f func(name string, data []byte) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return err
		case strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !d.Type().IsRegular() || products.MatchString(d.Name()):
			return nil
		}
		data, err := root.ReadFile(name)
		if err != nil {
			return err
		}
		return f(name, data)
	})
}

// products are the files that kbuild makes beside the sources.
var products = regexp.MustCompile(`\.(o|ko|mod|mod\.c|a|symvers|cmd)$|^modules\.order$`)

// gccVersion is how a kernel's .config tells what built it: 120200 for gcc 12.2.
var gccVersion = regexp.MustCompile(`(?m)^CONFIG_GCC_VERSION=(\d+)\d{4}$`)

// builtWith returns the major version of the gcc that built the kernel, 0 if its headers do not tell.
func builtWith(headers string) int {
	config, err := os.ReadFile(filepath.Join(headers, ".config"))
	if err != nil {
		return 0
	}
	m := gccVersion.FindSubmatch(config)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// hashOf returns the SHA-256, in hex, of the parts; where one ends and the next starts makes a difference.
func hashOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
