// SPDX-License-Identifier: MIT

package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// kernelPackages matches the packages of a cloud kernel, of all that its two meta packages depend on: image, modules and
// headers. Which of them hold what has changed with time (from 7.x on the image is in linux-binary, the modules in
// linux-modules), so all are taken and the files looked for.
var kernelPackages = regexp.MustCompile(`^linux-((image|binary|modules|base|headers)-[0-9]|kbuild-)`)

// isKernelPackage leaves out the unsigned image, which is an alternative to the signed one.
func isKernelPackage(name string) bool {
	return kernelPackages.MatchString(name) && !strings.HasSuffix(name, "-unsigned")
}

// fetchKernel fills dir, an empty folder, with the series' kernel.
func fetchKernel(ctx context.Context, s series, arch Arch, dir string, progress func(string)) error {
	work := filepath.Join(dir, "fetch")
	a, err := newApt(work, arch.Debian, progress)
	if err != nil {
		return err
	}
	packages, err := a.find(ctx, "Debian's kernel "+s.name, hostMirrors("/").sources(s.suite, !s.noSecurity, s.archived),
		func() ([]string, error) {
			return a.dependencies(ctx, isKernelPackage, "linux-image-cloud-"+arch.Debian, "linux-headers-cloud-"+arch.Debian)
		})
	if err != nil {
		return err
	}
	debs, err := a.download(ctx, packages)
	if err != nil {
		return err
	}
	progress("unpacking kernel " + s.name)
	headers := filepath.Join(dir, "headers")
	if err := unpack(ctx, debs, headers, arch.wantKernelFile); err != nil {
		return err
	}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := arrange(dir, headers, arch); err != nil {
		return fmt.Errorf("in Debian's packages of kernel %s: %w", s.name, err)
	}
	return nil
}

// otherArch matches headers of one architecture in the common headers, two thirds of whose files are of others.
var otherArch = regexp.MustCompile(`^usr/src/linux-headers-[^/]*-common/arch/([^/]+)/`)

// wantKernelFile tells which files of a kernel's packages serve a purpose here.
func (a Arch) wantKernelFile(name string) bool {
	if m := otherArch.FindStringSubmatch(name); m != nil {
		return strings.HasPrefix(m[1], a.headers)
	}
	return !strings.HasPrefix(name, "usr/share/")
}

// arrange brings the unpacked packages in headers into the form of a prepared kernel in dir.
func arrange(dir, headers string, arch Arch) error {
	// Before they merged /usr, packages had lib/modules at the top.
	modules, err := one(filepath.Join(headers, "usr/lib/modules/*"), filepath.Join(headers, "lib/modules/*"))
	if err != nil {
		return err
	}
	release := filepath.Base(modules)
	image, err := one(filepath.Join(headers, "boot/vmlinuz-"+release), filepath.Join(modules, "vmlinuz"))
	if err != nil {
		return err
	}
	vmlinuz := filepath.Join(dir, "vmlinuz")
	if err := os.Rename(image, vmlinuz); err != nil {
		return err
	}
	if err := os.Rename(modules, filepath.Join(dir, "modules")); err != nil {
		return err
	}
	for _, name := range []string{"modules/build", "modules/source", "headers/boot", "headers/lib", "headers/usr/lib/modules"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil { // links to where nothing is, and what nobody reads
			return err
		}
	}
	build := filepath.Join("headers/usr/src/linux-headers-" + release)
	if err := os.Symlink(build, filepath.Join(dir, "build")); err != nil {
		return err
	}
	if err := adaptHeaders(filepath.Join(dir, build), headers, arch); err != nil {
		return err
	}
	if err := addImage(vmlinuz, dir); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "release"), []byte(release+"\n"), 0o644)
}

// adaptHeaders makes Debian's headers work wherever they stand.
func adaptHeaders(build, headers string, arch Arch) error {
	makefile := filepath.Join(build, "Makefile")
	text, err := os.ReadFile(makefile)
	if err != nil {
		return err
	}
	adapted, err := relocate(text)
	if err != nil {
		return err
	}
	if err := os.WriteFile(makefile, adapted, 0o644); err != nil {
		return err
	}
	// From 6.12 on the headers have a vmlinux with nothing but type information, from which pahole would make that of
	// each module. Nobody here reads it, and pahole would be one more thing to install.
	if err := os.Remove(filepath.Join(build, "vmlinux")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	kbuild, err := one(filepath.Join(headers, "usr/lib/linux-kbuild-*"))
	if err != nil {
		return err
	}
	return wrapPrograms(kbuild, arch)
}

// relocate rewrites the absolute paths in the Makefile of Debian's linux-headers-*-cloud to paths from its own place.
func relocate(makefile []byte) ([]byte, error) {
	const here = "$(dir $(lastword $(MAKEFILE_LIST)))"
	var out []string
	for line := range strings.Lines(string(makefile)) {
		if rest, ok := strings.CutPrefix(line, "include /usr/src/"); ok {
			line = "include " + here + "../" + rest
		}
		if strings.HasPrefix(line, "KBUILD_OUTPUT=") {
			line = "KBUILD_OUTPUT := $(abspath " + here + ")\n"
		}
		if strings.Contains(line, " /usr/") || strings.Contains(line, "=/usr/") {
			return nil, fmt.Errorf("the headers' Makefile has an unknown absolute path: %q", line)
		}
		out = append(out, line)
	}
	return []byte(strings.Join(out, "")), nil
}

// rootVariable names the environment variable that tells wrapped programs which root's C library to use. Unset, they
// use the host's.
const rootVariable = "NETLINK_LABS_ROOT"

// wrapPrograms puts a shell script in the place of each dynamically linked program below dir, which runs the program,
// now NAME.elf, with the loader and the libraries of the root that rootVariable names. So programs of another release
// run without being root, without chroot(2) and without user namespaces, which many machines forbid.
func wrapPrograms(dir string, arch Arch) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		// Debian's modpost and objtool only choose one NAME.real-* by their own name and the file at hand, and fail
		// under another name: the scripts choose for them.
		if err != nil || !d.Type().IsRegular() || strings.Contains(d.Name(), ".real-") {
			return err
		}
		if ok, err := isProgram(path); !ok {
			return err
		}
		target := d.Name() + ".elf"
		if err := os.Rename(path, path+".elf"); err != nil {
			return err
		}
		for _, suffix := range []string{".real-lsb-64", arch.objtool} {
			if isFile(path + suffix) {
				target = d.Name() + suffix
			}
		}
		script := fmt.Sprintf("#!/bin/sh\nr=$%s\n"+
			`exec ${r:+"$r/ld.so" --argv0 "$0" --library-path "$r/usr/lib/%[2]s:$r/lib/%[2]s"} "${0%%/*}/%[3]s" "$@"`+"\n",
			rootVariable, arch.triplet, target)
		return os.WriteFile(path, []byte(script), 0o755)
	})
}

// isProgram tells whether the file is executable and wants a dynamic loader.
func isProgram(path string) (bool, error) {
	fi, err := os.Stat(path)
	if err != nil || fi.Mode()&0o111 == 0 {
		return false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil || !bytes.Equal(magic[:], []byte(elf.ELFMAG)) {
		return false, nil
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return false, nil // not of a kind we could run anyway
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return !strings.Contains(filepath.Base(path), ".so"), nil // libc.so.6 can be run too
		}
	}
	return false, nil
}

// one returns the only path that matches the first pattern that has any.
func one(patterns ...string) (string, error) {
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil {
			return "", err
		}
		if len(found) > 1 {
			return "", fmt.Errorf("%s: %d of them, not one", p, len(found))
		}
		if len(found) == 1 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("there is no %s", strings.Join(patterns, " nor "))
}
