// SPDX-License-Identifier: MIT

package lab

import (
	"fmt"
	"go/scanner"
	"strings"
)

// Problem is one thing that is wrong with a file of a lab.
type Problem struct {
	// File is the path from the repository's root, in the form that editors
	// and compilers print and jump to.
	File string
	// Line counts from 1; 0 means the file as a whole.
	Line int
	// Text says what is wrong and what to do.
	Text string
}

// String returns "file:line: text".
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Problems are all that is wrong, as one error: an author mends a file once,
// not once for each mistake in it.
type Problems []Problem

// Error returns one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// err returns ps as an error, or nil where there is none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// problems returns what err says as problems of file.
func problems(file string, err error) Problems {
	switch err := err.(type) {
	case nil:
		return nil
	case Problems:
		return err
	case scanner.ErrorList:
		var ps Problems
		for _, e := range err {
			ps = append(ps, Problem{file, e.Pos.Line, e.Msg})
		}
		return ps
	default:
		return Problems{{File: file, Text: err.Error()}}
	}
}
