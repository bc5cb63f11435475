// SPDX-License-Identifier: MIT

package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStateIsKept(t *testing.T) {
	root := smallWorkbook(t)
	l := findLab(t, root, "1")
	w := Workspace{Dir: filepath.Join(root, "work")}
	s, note, err := w.State(l)
	if err != nil || note != "" {
		t.Fatalf("State at first: %q, %v", note, err)
	}
	if s.NextStep(l) != 1 {
		t.Errorf("the next step is %d at first, want 1", s.NextStep(l))
	}
	note, err = w.Update(l, func(s *State) error {
		s.Hints[1] = 2
		s.Predictions["who"] = Answer{1, "a process"}
		s.Checked(map[int]bool{1: true, 2: false}, false)
		return nil
	})
	if err != nil || note != "" {
		t.Fatalf("Update: %q, %v", note, err)
	}
	s, _, err = w.State(l)
	if err != nil {
		t.Fatal(err)
	}
	want := newState()
	want.Hints[1] = 2
	want.Predictions["who"] = Answer{1, "a process"}
	want.Steps = map[int]bool{1: true, 2: false}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if s.NextStep(l) != 2 || !s.Passed.IsZero() {
		t.Errorf("next step %d, passed %v", s.NextStep(l), s.Passed)
	}
	// Once passed stays passed.
	s.Checked(map[int]bool{1: true, 2: true}, true)
	first := s.Passed
	if first.IsZero() || s.NextStep(l) != 0 {
		t.Errorf("next step %d, passed %v", s.NextStep(l), s.Passed)
	}
	s.Checked(map[int]bool{1: false, 2: true}, false)
	if s.Passed != first || s.NextStep(l) != 1 {
		t.Errorf("next step %d, passed %v", s.NextStep(l), s.Passed)
	}

	// A change that fails is none, and nothing else is left in the folder.
	_, err = w.Update(l, func(s *State) error { s.Hints[1] = 3; return errors.New("no") })
	if err == nil || err.Error() != "no" {
		t.Errorf("a change that fails: %v", err)
	}
	if s, _, _ := w.State(l); s.Hints[1] != 2 {
		t.Errorf("a change that failed was kept: %v", s.Hints)
	}
	for name := range files(t, w.LabDir(l)) {
		if name != stateFile {
			t.Errorf("%s is left behind", name)
		}
	}
}

func TestUpdateAtOnce(t *testing.T) {
	root := smallWorkbook(t)
	l := findLab(t, root, "1")
	w := Workspace{Dir: filepath.Join(root, "work")}
	const n = 20
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if _, err := w.Update(l, func(s *State) error { s.Hints[1]++; return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s, _, err := w.State(l); err != nil || s.Hints[1] != n {
		t.Errorf("%v after %d changes at once, %v", s.Hints, n, err)
	}
}

func TestStateCorrupt(t *testing.T) {
	for _, text := range []string{"", "{", `{"version":1,"hints":[]}`, `{"version":2}`, `{}`, "null", `{"version":1,"steps":null}`, "[1]"} {
		t.Run(text, func(t *testing.T) {
			root := smallWorkbook(t)
			l := findLab(t, root, "1")
			w := Workspace{Dir: filepath.Join(root, "work")}
			path := filepath.Join(w.LabDir(l), stateFile)
			for _, kept := range []string{path + ".bad", path + ".bad-2"} {
				write(t, path, text)
				note, err := w.Update(l, func(s *State) error {
					if diff := cmp.Diff(newState(), s); diff != "" {
						t.Errorf("state begun anew (-want +got):\n%s", diff)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(note, "kept as "+filepath.Base(kept)+";") {
					t.Errorf("note: %s", note)
				}
				if got := read(t, kept); got != text {
					t.Errorf("kept %q, want %q", got, text)
				}
			}
		})
	}
}

func TestStateUnreadable(t *testing.T) {
	root := smallWorkbook(t)
	l := findLab(t, root, "1")
	w := Workspace{Dir: filepath.Join(root, "work")}
	if err := os.MkdirAll(filepath.Join(w.LabDir(l), stateFile), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.State(l); err == nil || !strings.Contains(err.Error(), "read what was kept of lab 1") {
		t.Errorf("a folder in place of the file: %v", err)
	}
}
