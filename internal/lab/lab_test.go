// SPDX-License-Identifier: MIT

package lab

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"
)

// tree writes the files of an archive into a new folder, whose path has a
// space in it, and returns that.
func tree(t *testing.T, archive []byte) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "my checkout")
	for _, f := range txtar.Parse(archive).Files {
		path := filepath.Join(root, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// smallWorkbook returns the root of a copy of testdata/labs.txtar.
func smallWorkbook(t *testing.T) string {
	t.Helper()
	archive, err := os.ReadFile("testdata/labs.txtar")
	if err != nil {
		t.Fatal(err)
	}
	return tree(t, archive)
}

// findLab returns a lab of the repository at root, which must be sound.
func findLab(t *testing.T, root, name string) *Lab {
	t.Helper()
	c, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	if l.Err != nil {
		t.Fatalf("lab %s: %v", name, l.Err)
	}
	return l
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
