// SPDX-License-Identifier: MIT

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Files reads the files that lab.toml names beside the program, from the folder
// of a program: by name. What is not there is left out; the check says so.
func (l *Lab) Files(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range l.Meta.Files {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the file %s of lab %d: %w", name, l.Number, err)
		}
		files[name] = text
	}
	return files, nil
}

// SolutionFiles returns the solution's files as students see them: without markers.
func (l *Lab) SolutionFiles() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range l.Meta.Files {
		text, err := l.startFile(name, len(l.Meta.Steps)+1)
		if err != nil {
			return nil, err
		}
		files[name] = []byte(text)
	}
	return files, nil
}

// TestFiles is Files for the programs that prove a check: where one has no file of
// its own, it goes with the solution's.
func (l *Lab) TestFiles(dir string) (map[string][]byte, error) {
	files, err := l.Files(l.Path("solution"))
	if err != nil {
		return nil, err
	}
	own, err := l.Files(dir)
	for name, text := range own {
		files[name] = text
	}
	return files, err
}

// fileStep marks a value of the solution's file that the student has to find:
//
//	key = VALUE #lab:step 2
//
// In the starter the value is 0, or "" where the solution has a string.
var fileStep = regexp.MustCompile(`(?m)^([ \t]*[A-Za-z0-9_-]+[ \t]*=[ \t]*)(\S.*?)[ \t]*#lab:step ([1-9][0-9]*)$`)

// startFile returns one of Meta.Files as a student starts from it, written from
// the solution's, with the steps before start solved.
func (l *Lab) startFile(name string, start int) (string, error) {
	text, err := os.ReadFile(l.Path("solution", name))
	if err != nil {
		return "", Problems{{File: l.rel("solution", name), Text: "cannot be read: " + unwrapPath(err).Error()}}
	}
	cut := fileStep.ReplaceAllStringFunc(string(text), func(line string) string {
		m := fileStep.FindStringSubmatch(line)
		value := m[2]
		if n, _ := strconv.Atoi(m[3]); n >= start { // digits
			value = "0"
			if strings.HasPrefix(m[2], `"`) {
				value = `""`
			}
		}
		return m[1] + value
	})
	if i := strings.Index(cut, markerPrefix[2:]); i >= 0 {
		return "", Problems{{l.rel("solution", name), 1 + strings.Count(cut[:i], "\n"),
			fmt.Sprintf("no marker: want  key = value #%sstep N", markerPrefix[2:])}}
	}
	return cut, nil
}

// fileHoles returns the steps that the solution's files mark.
func (l *Lab) fileHoles() ([]int, error) {
	var steps []int
	for _, name := range l.Meta.Files {
		text, err := os.ReadFile(l.Path("solution", name))
		if err != nil {
			return nil, Problems{{File: l.rel("solution", name), Text: "cannot be read: " + unwrapPath(err).Error()}}
		}
		for _, m := range fileStep.FindAllStringSubmatch(string(text), -1) {
			n, err := strconv.Atoi(m[3])
			if err != nil || n > len(l.Meta.Steps) {
				return nil, Problems{{File: l.rel("solution", name),
					Text: fmt.Sprintf("step %s: lab.toml has %d steps", m[3], len(l.Meta.Steps))}}
			}
			steps = append(steps, n)
		}
	}
	return steps, nil
}
