// SPDX-License-Identifier: MIT

// Package kernel prepares the kernels that checks run on: it fetches Debian's cloud kernels and their headers without
// root, takes an installed kernel or a folder instead, and builds modules for them.
//
// A prepared kernel is a folder:
//
//	vmlinuz     the image
//	vmlinux     the same, uncompressed: optional, it boots faster under emulation
//	release     one line, what uname -r prints on it
//	modules/    its lib/modules/RELEASE tree: optional
//	build/      headers to build modules with: optional
//	NAME.ko     modules built before: used where build/ is missing
//
// Such a folder can be moved and packed; nothing in it knows where it stands.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"netlinklabs/internal/cache"
)

// A Prepared is a kernel that can be booted, with what belongs to it. Its methods may be used by several goroutines.
type Prepared struct {
	Dir     string // the folder, absolute
	Release string // as in uname -r: "6.1.0-56-cloud-amd64"
	Series  string // how it was asked for: "6.1", "sid", "host", or the folder's name
	Arch    Arch
}

// A series is a line of kernels that Debian serves, named as the user names it. What exactly is served changes with
// time (sid's more than others), so the version is learned when it is fetched.
type series struct {
	name string
	// suite is the Debian release that serves the kernel. It is asked for in suite-security first, whose package list
	// is twenty times smaller, unless it has none.
	suite      string
	noSecurity bool
	// A release at the end of its life moves to archive.debian.org at a time nobody tells.
	archived bool
}

var allSeries = []series{
	{name: "5.10", suite: "bullseye", archived: true},
	{name: "6.1", suite: "bookworm"},
	{name: "6.12", suite: "trixie"},
	{name: "sid", suite: "sid", noSecurity: true},
}

// Default is the series that is prepared when none is named: the one the texts were written on.
const Default = "6.1"

// Series returns the names of the kernel series that can be fetched, oldest first.
func Series() []string {
	var names []string
	for _, s := range allSeries {
		names = append(names, s.name)
	}
	return names
}

// layout is the version of the folder's form in the cache: raise it when prepared folders of before no longer serve.
const layout = "v1"

// Prepare returns the kernel that spec names, and fetches it first where the cache lacks it: that takes some seconds,
// 40 to 60 MB of downloads and 300 MB of disk, and progress is told what is being done, line by line. Else it takes a
// millisecond. spec is empty (Default), one of Series, "host" (this machine's kernel, or, where that is not
// installed, the newest one in /boot that has headers), or else a folder in the form above. Folders whose name could be
// taken for another spec need a slash. A fetched kernel is kept as it is: to have what its release serves now, remove its
// folder.
//
// Every failure that is not ctx's end is an *Error.
func Prepare(ctx context.Context, spec string, progress func(string)) (*Prepared, error) {
	if progress == nil {
		progress = func(string) {}
	}
	arch, err := HostArch()
	if err != nil {
		return nil, err
	}
	if spec == "" {
		spec = Default
	}
	if spec == "host" {
		return prepareHost(ctx, arch)
	}
	for _, s := range allSeries {
		if s.name == spec {
			return prepareSeries(ctx, s, arch, progress)
		}
	}
	if fi, err := os.Stat(spec); err == nil && fi.IsDir() || strings.Contains(spec, "/") {
		return openDir(spec, arch)
	}
	return nil, &Error{
		Op:  "prepare the kernel " + quote(spec),
		Err: errors.New("it is neither a known series nor a folder"),
		Fix: "use one of " + strings.Join(Series(), ", ") + ", host, or the folder of a prepared kernel",
	}
}

// Image returns the path to boot: vmlinux if there is one (see the package comment), else vmlinuz.
func (p *Prepared) Image() string {
	if vmlinux := filepath.Join(p.Dir, "vmlinux"); isFile(vmlinux) {
		return vmlinux
	}
	return filepath.Join(p.Dir, "vmlinuz")
}

// AtLeast tells whether the kernel's version is min or later, by the first two numbers: min is like "5.10".
// It fails where min is not of that form.
func (p *Prepared) AtLeast(min string) (bool, error) {
	want, err := version(min)
	if err != nil {
		return false, err
	}
	have, err := version(p.Release)
	if err != nil {
		return false, err
	}
	return slices.Compare(have[:], want[:]) >= 0, nil
}

// version reads the first two numbers of a release.
func version(release string) (v [2]int, err error) {
	if n, _ := fmt.Sscanf(release, "%d.%d", &v[0], &v[1]); n != 2 {
		return v, fmt.Errorf("%q does not start like a kernel version, as in 6.1", release)
	}
	return v, nil
}

// dir is where the series' kernel stands in the cache folder root.
func (s series) dir(root string, arch Arch) string {
	return filepath.Join(root, "kernels", s.name+"-"+arch.Debian+"-"+layout)
}

// NeedsFetch tells whether Prepare would fetch the kernel that spec names.
func NeedsFetch(spec string) bool {
	if spec == "" {
		spec = Default
	}
	i := slices.IndexFunc(allSeries, func(s series) bool { return s.name == spec })
	if i < 0 {
		return false
	}
	root, rootErr := cache.Dir()
	arch, archErr := HostArch()
	if rootErr != nil || archErr != nil {
		return true
	}
	_, err := os.Stat(allSeries[i].dir(root, arch))
	return err != nil
}

// prepareSeries returns the cached kernel of the series, after fetching it if need be.
func prepareSeries(ctx context.Context, s series, arch Arch, progress func(string)) (*Prepared, error) {
	root, err := cache.Dir()
	if err != nil {
		return nil, &Error{Op: "prepare kernel " + s.name, Err: err}
	}
	dir := s.dir(root, arch)
	err = cache.Make(ctx, dir, func(string) {
		progress("waiting for another process that fetches kernel " + s.name)
	}, func(tmp string) error {
		return fetchKernel(ctx, s, arch, tmp, progress)
	})
	if err != nil {
		return nil, explain(ctx, "prepare kernel "+s.name, root, err)
	}
	p, err := openDir(dir, arch)
	if err != nil {
		return nil, err
	}
	p.Series = s.name
	return p, nil
}

// openDir takes a folder in the package comment's form.
func openDir(dir string, arch Arch) (*Prepared, error) {
	fail := func(err error, fix string) (*Prepared, error) {
		return nil, &Error{Op: "use the kernel in the folder " + quote(dir), Err: err, Fix: fix}
	}
	const form = "a prepared kernel has vmlinuz, release (one line: what uname -r prints on it) and modules/ or its modules' .ko files"
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fail(err, "")
	}
	if fi, err := os.Stat(abs); err != nil {
		return fail(errors.Unwrap(err), "name a folder that exists")
	} else if !fi.IsDir() {
		return fail(errors.New("it is not a folder"), form)
	}
	f, err := os.Open(filepath.Join(abs, "vmlinuz"))
	if errors.Is(err, fs.ErrNotExist) {
		return fail(errors.New("it has no file vmlinuz"), form)
	} else if err != nil {
		return fail(err, "make it readable")
	}
	f.Close()
	line, err := os.ReadFile(filepath.Join(abs, "release"))
	release := strings.TrimSpace(string(line))
	if err != nil || release == "" {
		return fail(errors.New("it has no file release, or an empty one"), form)
	}
	if _, err := version(release); err != nil {
		return fail(fmt.Errorf("in its file release, %w", err), form)
	}
	return &Prepared{Dir: abs, Release: release, Series: filepath.Base(abs), Arch: arch}, nil
}

// prepareHost makes a prepared kernel of one installed on this machine, out of links.
func prepareHost(ctx context.Context, arch Arch) (*Prepared, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, &Error{Op: "use this machine's kernel", Err: err}
	}
	return hostKernel(ctx, "/", unix.ByteSliceToString(uts.Release[:]), arch)
}

// hostKernel looks for installed kernels below root: the running one first, then the others, newest first.
func hostKernel(ctx context.Context, root, running string, arch Arch) (*Prepared, error) {
	const other = "or leave KERNEL out: Debian's cloud kernel is fetched, and nothing is installed"
	installed, _ := filepath.Glob(filepath.Join(root, "lib/modules/*"))
	releases := []string{running}
	slices.SortFunc(installed, func(a, b string) int { return compareReleases(filepath.Base(b), filepath.Base(a)) })
	for _, dir := range installed {
		if r := filepath.Base(dir); r != running {
			releases = append(releases, r)
		}
	}
	// The first failure is told: it is the running kernel's.
	var first error
	for _, release := range releases {
		p, err := installedKernel(ctx, root, release, other, arch)
		if err == nil || ctx.Err() != nil {
			return p, err
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// installedKernel makes a prepared kernel of the installed one of that release. other is what else can be done where it
// has not all that it takes.
func installedKernel(ctx context.Context, root, release, other string, arch Arch) (*Prepared, error) {
	modules := filepath.Join(root, "lib/modules", release)
	build := filepath.Join(modules, "build")
	image, err := readableImage(root, release)
	e := &Error{Op: "use this machine's kernel " + release, Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Err, e.Fix = errors.New("its image is not in /boot (in a container it never is)"), "install the kernel package, "+other
	case errors.Is(err, fs.ErrPermission):
		e.Fix = "let users read it: sudo chmod a+r " + errPath(err) + ", " + other
	case err != nil:
	case !isFile(filepath.Join(build, "Makefile")):
		e.Err, e.Fix = errors.New("it has no headers: "+build+" is not there"), "install them: sudo apt-get install linux-headers-"+release+", "+other
	default:
		return linkKernel(ctx, release, image, modules, build, arch)
	}
	return nil, e
}

// Running returns the very kernel that this machine runs on, for modules that are to be loaded into it.
func Running(ctx context.Context) (*Prepared, error) {
	arch, err := HostArch()
	if err != nil {
		return nil, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, &Error{Op: "use this machine's kernel", Err: err}
	}
	const other = "or, where Debian has newer ones only, reboot into the newest kernel. WHERE=vm needs neither"
	return installedKernel(ctx, "/", unix.ByteSliceToString(uts.Release[:]), other, arch)
}

// readableImage finds the image of an installed kernel and makes sure that it can be read: on Ubuntu only root may.
func readableImage(root, release string) (string, error) {
	var first error
	for _, path := range []string{
		filepath.Join(root, "boot/vmlinuz-"+release),
		filepath.Join(root, "lib/modules", release, "vmlinuz"),
	} {
		f, err := os.Open(path)
		if err == nil {
			f.Close()
			return path, nil
		}
		if first == nil || errors.Is(first, fs.ErrNotExist) {
			first = err
		}
	}
	return "", first
}

// linkKernel makes a prepared folder of links, and the uncompressed image.
func linkKernel(ctx context.Context, release, image, modules, build string, arch Arch) (*Prepared, error) {
	op := "use this machine's kernel " + release
	root, err := cache.Dir()
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	// The image's place is part of the name: a test, or a container with another root, is another kernel. So is its
	// time: Debian brings out a mended kernel under the same release.
	st, err := os.Stat(image)
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	dir := filepath.Join(root, "kernels", "host-"+hashOf(release, image, modules, build, fmt.Sprint(st.ModTime().Unix()))[:16]+"-"+layout)
	err = cache.Make(ctx, dir, nil, func(tmp string) error {
		for name, target := range map[string]string{"vmlinuz": image, "modules": modules, "build": build} {
			if err := os.Symlink(target, filepath.Join(tmp, name)); err != nil {
				return err
			}
		}
		if err := addImage(image, tmp); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(tmp, "release"), []byte(release+"\n"), 0o644)
	})
	if err != nil {
		return nil, explain(ctx, op, root, err)
	}
	p, err := openDir(dir, arch)
	if err != nil {
		return nil, err
	}
	p.Series = "host"
	return p, nil
}

// compareReleases orders releases by the numbers in them.
func compareReleases(a, b string) int {
	numbers := func(s string) (n []int) {
		for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
			var v int
			fmt.Sscan(f, &v)
			n = append(n, v)
		}
		return n
	}
	return slices.Compare(numbers(a), numbers(b))
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

// quote puts a name into a message as a shell would read it; most names need no quotes.
func quote(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n'\"") {
		return s
	}
	return "'" + s + "'"
}

func errPath(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Path
	}
	return ""
}
