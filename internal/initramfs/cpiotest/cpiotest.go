// SPDX-License-Identifier: MIT

// Package cpiotest reads initramfs archives back in tests.
package cpiotest

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Entry is what the kernel would make of one header of the archive.
type Entry struct {
	Mode uint32 // type and permissions, as in stat(2)
	Data string // content, or target of a symbolic link
}

// Read parses an archive as the kernel does (init/initramfs.c): fields of eight
// hexadecimal digits, name and data both aligned to four bytes of the archive.
// It fails the test for all that the kernel would stumble over,
// and returns the names in their order and the entries by name.
func Read(t testing.TB, b []byte) (names []string, all map[string]Entry) {
	t.Helper()
	all = map[string]Entry{}
	inodes := map[uint64]bool{}
	for at := 0; ; {
		if at%4 != 0 {
			t.Fatalf("a header stands at %d: not a multiple of 4", at)
		}
		if len(b)-at < 110 || string(b[at:at+6]) != "070701" {
			t.Fatalf("no newc header at %d of %d", at, len(b))
		}
		var field [13]uint64
		for i := range field {
			v, err := strconv.ParseUint(string(b[at+6+8*i:at+14+8*i]), 16, 32)
			if err != nil {
				t.Fatalf("header at %d, field %d: %v", at, i, err)
			}
			field[i] = v
		}
		ino, mode, uid, gid, size, length := field[0], uint32(field[1]), field[2], field[3], int(field[6]), int(field[11])
		at += 110
		name, ok := strings.CutSuffix(string(b[at:at+length]), "\x00")
		if !ok || strings.Contains(name, "\x00") {
			t.Fatalf("the name %q does not end in one NUL", name)
		}
		at = (at + length + 3) &^ 3
		data := string(b[at : at+size])
		at = (at + size + 3) &^ 3
		if name == "TRAILER!!!" {
			if at != len(b) {
				t.Fatalf("%d bytes behind the trailer", len(b)-at)
			}
			return names, all
		}
		switch {
		case inodes[ino]:
			t.Errorf("%s has the inode number of another: the kernel takes it for a hard link", name)
		case uid != 0 || gid != 0:
			t.Errorf("%s belongs to %d:%d, not to root", name, uid, gid)
		case strings.HasPrefix(name, "/"):
			t.Errorf("the name %s is absolute", name)
		case name != filepath.Clean(name):
			t.Errorf("the name %s is not clean", name)
		}
		if _, ok := all[name]; ok {
			t.Errorf("%s stands there twice", name)
		}
		if dir := filepath.Dir(name); dir != "." && all[dir].Mode&0o170000 != 0o040000 {
			t.Errorf("%s comes before its folder, which the kernel does not make", name)
		}
		inodes[ino] = true
		names = append(names, name)
		all[name] = Entry{mode, data}
	}
}
