// SPDX-License-Identifier: MIT

// Package initramfs writes the file system that a throw-away VM boots with: an
// uncompressed cpio archive in the "newc" format that the kernel unpacks into
// memory (Documentation/driver-api/early-userspace/buffer-format.rst).
// Uncompressed, because under emulation unpacking costs more than reading.
package initramfs

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Writer writes an archive. Its methods create the folders above a name and
// refuse nothing twice: the first file of a name stays. The first error sticks
// and is returned by Close.
type Writer struct {
	w    *bufio.Writer
	n    int64
	ino  uint32
	seen map[string]bool
	err  error
}

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, 256<<10), seen: map[string]bool{}}
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
)

// entry writes one header, and size bytes from data.
func (w *Writer) entry(name string, mode uint32, size int64, data io.Reader) {
	if w.err != nil {
		return
	}
	if size > 1<<32-1 {
		w.err = fmt.Errorf("%s: %d bytes do not fit into a cpio archive", name, size)
		return
	}
	w.ino++
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		w.ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	w.write([]byte(head))
	w.pad()
	if size > 0 && w.err == nil {
		n, err := io.CopyN(w.w, data, size)
		w.n += n
		if err != nil {
			w.err = fmt.Errorf("adding %s to the initramfs: %w", name, err)
		}
	}
	w.pad()
}

func (w *Writer) write(b []byte) {
	if w.err == nil {
		var n int
		n, w.err = w.w.Write(b)
		w.n += int64(n)
	}
}

func (w *Writer) pad() { w.write(make([]byte, -w.n&3)) }

// enter makes the folders above name and tells whether name is new.
func (w *Writer) enter(name string) (string, bool) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" || w.seen[name] {
		return name, false
	}
	w.Dir(path.Dir("/"+name), 0o755)
	w.seen[name] = true
	return name, true
}

// Dir adds a folder.
func (w *Writer) Dir(name string, perm fs.FileMode) {
	if name, ok := w.enter(name); ok {
		w.entry(name, modeDir|uint32(perm.Perm()), 0, nil)
	}
}

// Symlink adds a symbolic link to target.
func (w *Writer) Symlink(name, target string) {
	if name, ok := w.enter(name); ok {
		w.entry(name, modeLink|0o777, int64(len(target)), strings.NewReader(target))
	}
}

// Data adds a file with the given content.
func (w *Writer) Data(name string, perm fs.FileMode, content []byte) {
	if name, ok := w.enter(name); ok {
		w.entry(name, modeFile|uint32(perm.Perm()), int64(len(content)), strings.NewReader(string(content)))
	}
}

// File adds a copy of a file of the host.
func (w *Writer) File(name string, perm fs.FileMode, host string) {
	name, ok := w.enter(name)
	if !ok || w.err != nil {
		return
	}
	f, err := os.Open(host)
	if err != nil {
		w.err = err
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		w.err = err
		return
	}
	w.entry(name, modeFile|uint32(perm.Perm()), st.Size(), f)
}

// Program adds an executable of the host and, when it is linked dynamically,
// its interpreter and libraries at the paths where the interpreter looks.
func (w *Writer) Program(name, host string) {
	w.File(name, 0o755, host)
	if w.err == nil {
		w.err = w.libraries(host)
	}
}

// libraryDirs are where Debian's and Ubuntu's dynamic loader looks by itself.
func libraryDirs(m elf.Machine) []string {
	triplet := map[elf.Machine]string{elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu"}[m]
	return []string{"/lib/" + triplet, "/usr/lib/" + triplet, "/lib", "/usr/lib", "/lib64", "/usr/lib64"}
}

func (w *Writer) libraries(host string) error {
	f, err := elf.Open(host)
	if err != nil {
		return fmt.Errorf("%s is not an ELF executable: %w", host, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b, err := io.ReadAll(p.Open())
		if err != nil {
			return err
		}
		interp := strings.TrimRight(string(b), "\x00")
		w.File(interp, 0o755, interp)
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return nil // a static executable has no dynamic section
	}
	for _, lib := range libs {
		found := false
		for _, dir := range libraryDirs(f.Machine) {
			p := filepath.Join(dir, lib)
			if _, err := os.Stat(p); err != nil {
				continue
			}
			found = true
			if w.seen[strings.TrimPrefix(p, "/")] {
				break
			}
			w.File(p, 0o755, p)
			if err := w.libraries(p); err != nil {
				return err
			}
			break
		}
		if !found {
			return fmt.Errorf("%s needs the library %s, which is in none of the usual places; link it statically", host, lib)
		}
	}
	return nil
}

// Tree adds the regular files, folders and links below the host's folder.
// It leaves out .git, and fails beyond limit bytes so that a wrong folder does
// not become a VM full of somebody's photographs.
func (w *Writer) Tree(name, host string, limit int64) {
	if w.err != nil {
		return
	}
	// WalkDir does not follow a link that it is started on.
	real, err := filepath.EvalSymlinks(host)
	if err != nil {
		w.err = err
		return
	}
	var total int64
	err = filepath.WalkDir(real, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(real, p)
		if err != nil {
			return err
		}
		dst := path.Join(name, filepath.ToSlash(rel))
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case d.IsDir():
			w.Dir(dst, info.Mode())
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			w.Symlink(dst, target)
		case d.Type().IsRegular():
			if total += info.Size(); total > limit {
				return fmt.Errorf("the folder %s holds more than %d MiB: too much to copy into the VM", host, limit>>20)
			}
			w.File(dst, info.Mode(), p)
		}
		return w.err
	})
	if w.err == nil {
		w.err = err
	}
}

// Close ends the archive and returns the first error.
func (w *Writer) Close() error {
	w.entry("TRAILER!!!", 0, 0, nil)
	return errors.Join(w.err, w.w.Flush())
}
