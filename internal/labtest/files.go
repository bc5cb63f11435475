// SPDX-License-Identifier: MIT

package labtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
	"netlinklabs/internal/wire"
)

// File returns what the student has written in a file beside the program, and
// whether it is there. lab.toml names such files:
//
//	files = ["postmortem.toml"]
func (c *Check) File(name string) (text string, ok bool) {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(wire.FilesDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	if err != nil {
		c.Fault("reading the file %s: %v", name, err)
	}
	return string(b), true
}

// TOML decodes the student's file into v, a pointer to a struct with tags. It fails
// the step where the file is missing, is no TOML, or has keys that v has not.
func (s *Step) TOML(name string, v any) {
	s.t.Helper()
	text, ok := s.c.File(name)
	s.Expect(ok, Failure{
		Got:      "no file " + name,
		Expected: name + " beside main.go",
		Likely:   fmt.Sprintf("it was moved or deleted: labs/%s/starter/%s is as it was", s.c.Lab.Name, name),
	})
	md, err := toml.Decode(text, v)
	if err != nil {
		f := Failure{
			Got:      name + ": " + strings.TrimPrefix(err.Error(), "toml: "),
			Expected: "lines  key = value",
			Likely:   "a text stands in \"double quotes\", a number in none; what is behind a # is for people",
		}
		var pe toml.ParseError
		if errors.As(err, &pe) {
			f.Got = fmt.Sprintf("%s, line %d: %s", name, pe.Position.Line, pe.Message)
		}
		s.Fail(f)
	}
	if more := md.Undecoded(); len(more) > 0 {
		s.Fail(Failure{
			Got:      fmt.Sprintf("%s: a key %s", name, more[0]),
			Expected: "the keys that the file had at first",
			Likely:   fmt.Sprintf("it is misspelt: labs/%s/starter/%s has them all", s.c.Lab.Name, name),
		})
	}
}

// NotDone fails the step because its part of a file is still the starter's.
func (s *Step) NotDone(likely string) {
	s.t.Helper()
	s.c.unbuilt, s.c.last = 0, nil // the program has nothing to do with it
	s.Fail(Failure{Got: fmt.Sprintf("step %d is not done yet", s.N), Likely: likely})
}
