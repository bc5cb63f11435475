// SPDX-License-Identifier: MIT

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// withFile returns lab 1 of a small workbook with a file beside its program.
func withFile(t *testing.T, text string) *Lab {
	t.Helper()
	root := smallWorkbook(t)
	l := findLab(t, root, "1")
	toml := l.Path("lab.toml")
	write(t, toml, strings.Replace(read(t, toml), "number = 1\n", "number = 1\nfiles = [\"notes.toml\"]\n", 1))
	write(t, l.Path("solution", "notes.toml"), text)
	return findLab(t, root, "1")
}

func TestStartFile(t *testing.T) {
	l := withFile(t, `# What was seen?
bytes = 26 #lab:step 1
  why = "a # in it"   #lab:step 2
more = {{.Levels}} #lab:step 2
given = "stays" # as it is
`)
	for start, want := range map[int]string{
		1: "# What was seen?\nbytes = 0\n  why = \"\"\nmore = 0\ngiven = \"stays\" # as it is\n",
		2: "# What was seen?\nbytes = 26\n  why = \"\"\nmore = 0\ngiven = \"stays\" # as it is\n",
		3: "# What was seen?\nbytes = 26\n  why = \"a # in it\"\nmore = {{.Levels}}\ngiven = \"stays\" # as it is\n",
	} {
		files, err := StartFiles(l, start)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(files["notes.toml"])); diff != "" {
			t.Errorf("START=%d (-want +got):\n%s", start, diff)
		}
	}
	solution, err := l.SolutionFiles()
	if err != nil || strings.Contains(string(solution["notes.toml"]), "lab:") {
		t.Errorf("the solution as students see it: %v\n%s", err, solution["notes.toml"])
	}
	if d, err := l.Drift(); err != nil || !strings.Contains(d, "+bytes = 0\n") {
		t.Errorf("drift without a starter: %v\n%s", err, d)
	}
	if _, err := l.WriteStarter(); err != nil {
		t.Fatal(err)
	}
	if d, err := l.Drift(); err != nil || d != "" {
		t.Errorf("drift in a new starter: %v\n%s", err, d)
	}
}

func TestStartFileProblems(t *testing.T) {
	l := withFile(t, "a = 1\n# b = 2 #lab:step 1\n")
	if _, err := l.WriteStarter(); err == nil || err.Error() != "labs/01-send/solution/notes.toml:2: no marker: want  key = value #lab:step N" {
		t.Errorf("a marker that marks nothing: %v", err)
	}
	l = withFile(t, "a = 1 #lab:step 7\n")
	if _, err := l.Holes(); err == nil || !strings.Contains(err.Error(), "step 7: lab.toml has 2 steps") {
		t.Errorf("a step that is not there: %v", err)
	}
	if err := os.Remove(l.Path("solution", "notes.toml")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.WriteStarter(); err == nil || !strings.Contains(err.Error(), "labs/01-send/solution/notes.toml: cannot be read") {
		t.Errorf("no file: %v", err)
	}
}

func TestFiles(t *testing.T) {
	l := withFile(t, "a = 1 #lab:step 1\n")
	dir := t.TempDir()
	for name, f := range map[string]func(string) (map[string][]byte, error){"Files": l.Files, "TestFiles": l.TestFiles} {
		files, err := f(dir)
		want := map[string]int{"Files": 0, "TestFiles": 1}[name]
		if err != nil || len(files) != want {
			t.Errorf("%s of an empty folder: %d files, %v", name, len(files), err)
		}
	}
	write(t, filepath.Join(dir, "notes.toml"), "a = 2\n")
	files, err := l.TestFiles(dir)
	if err != nil || string(files["notes.toml"]) != "a = 2\n" {
		t.Errorf("a file of its own: %q, %v", files["notes.toml"], err)
	}
}
