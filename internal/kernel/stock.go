// SPDX-License-Identifier: MIT

package kernel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Module is a kernel module ready to be loaded.
type Module struct {
	Name string // with underscores, as in /proc/modules
	Data []byte // the ELF file, not compressed
}

// Modules returns stock modules of the kernel and the modules they depend on, in the order to load them, each once.
// Names may have dashes or underscores. Modules built into the kernel are left out. Soft dependencies are not followed.
func (p *Prepared) Modules(names ...string) ([]Module, error) {
	op := "load modules of kernel " + p.Release
	tree := filepath.Join(p.Dir, "modules")
	// Debian's packages hold no modules.dep, depmod(8) makes it on the machine; what depends on what stands in each
	// module too.
	paths, err := moduleFiles(tree)
	if err != nil {
		return nil, &Error{Op: op, Err: err, Fix: "give a kernel that has its modules, or leave KERNEL out"}
	}
	builtin, err := builtinModules(filepath.Join(tree, "modules.builtin"))
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	var out []Module
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = moduleName(name)
		if seen[name] || builtin[name] {
			return nil
		}
		seen[name] = true
		path, ok := paths[name]
		if !ok {
			return fmt.Errorf("it has no module %s, nor is that built in", name)
		}
		data, err := readModule(path)
		if err != nil {
			return err
		}
		info, err := modinfo(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for dep := range strings.SplitSeq(info["depends"], ",") {
			if dep == "" {
				continue
			}
			if err := add(dep); err != nil {
				return err
			}
		}
		out = append(out, Module{name, data})
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, &Error{Op: op, Err: err}
		}
	}
	return out, nil
}

// moduleName makes a module's name of a file's, or of one written with dashes.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// moduleFiles finds all modules below a lib/modules/RELEASE folder, by name.
func moduleFiles(tree string) (map[string]string, error) {
	tree, err := filepath.EvalSymlinks(tree) // WalkDir does not follow a link at its root
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	err = filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), ".ko") && !d.IsDir() {
			found[moduleName(path)] = path
		}
		return err
	})
	return found, err
}

// builtinModules reads a modules.builtin file: one path a line. Without the file nothing is known to be built in.
func builtinModules(file string) (map[string]bool, error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	found := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		found[moduleName(strings.TrimSpace(line))] = true
	}
	return found, nil
}

// readModule reads a module, decompressed.
func readModule(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil || bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return data, err
	}
	r, err := decompressor(data)
	if err == nil {
		data, err = io.ReadAll(r)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// modinfo returns the key=value strings of a module's .modinfo section; of a key that comes twice, the last.
func modinfo(module []byte) (map[string]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("it has no section .modinfo: not a kernel module")
	}
	data, err := s.Data()
	if err != nil {
		return nil, err
	}
	info := map[string]string{}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		if k, v, ok := strings.Cut(string(entry), "="); ok {
			info[k] = v
		}
	}
	return info, nil
}
