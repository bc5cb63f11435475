// SPDX-License-Identifier: MIT

package lab

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"runtime"
)

// elfMachines are the machines that the workbook's kernels run on, by GOARCH.
var elfMachines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64,
	"arm64": elf.EM_AARCH64,
}

// howStatic is told to who brings a program that needs a dynamic linker.
const howStatic = "the place of a check has no libraries: link it static (gcc -static; CGO_ENABLED=0 go build)"

// CheckProgram tells why a file cannot be run as the program of a check; it
// must be a static executable for arch, a GOARCH ("" for this machine's).
func CheckProgram(path, arch string) error {
	if arch == "" {
		arch = runtime.GOARCH
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("PROGRAM=%s: "+format, append([]any{path}, args...)...)
	}
	f, err := os.Open(path)
	if err != nil {
		return bad("%w", unwrapPath(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return bad("%w", unwrapPath(err))
	}
	if info.IsDir() {
		return bad("is a folder: PROGRAM names an executable; for Go code in a folder say CODE=%s", path)
	}
	if !info.Mode().IsRegular() {
		return bad("is no regular file")
	}
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := io.ReadFull(f, magic); err != nil || string(magic) != elf.ELFMAG {
		if bytes.HasPrefix(magic, []byte("#!")) {
			return bad("is a script, and the place of a check has no interpreter: a static executable is wanted")
		}
		return bad("is no executable for Linux (no ELF file): compile it first; for Go code say CODE=DIR")
	}
	file, err := elf.NewFile(f)
	if err != nil {
		return bad("is a damaged ELF file: %w", err)
	}
	if want := elfMachines[arch]; file.Machine != want {
		return bad("is for %v, but the kernel under test is for %v (GOARCH=%s)", file.Machine, want, arch)
	}
	switch file.Type {
	case elf.ET_EXEC, elf.ET_DYN:
	case elf.ET_REL:
		return bad("is an object file, not an executable: link it (gcc without -c)")
	default:
		return bad("is no executable (%v)", file.Type)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return bad("is linked dynamically: %s", howStatic)
		}
	}
	// A static-pie has a dynamic section too, but needs nothing by it.
	if libs, err := file.ImportedLibraries(); err == nil && len(libs) > 0 || file.Entry == 0 {
		return bad("is a shared library, or needs %v: %s", libs, howStatic)
	}
	if info.Mode()&0o111 == 0 {
		return bad("is not executable: chmod +x it")
	}
	return nil
}
