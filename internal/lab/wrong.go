// SPDX-License-Identifier: MIT

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Wrong is a wrong answer: a program with a mistake that real students make,
// which the check has to find at the right step and in the right words.
type Wrong struct {
	// Name is that of its folder under testdata/wrong, Dir the folder.
	Name, Dir string
	// Step is the first step that must fail, Words what its message must have.
	Step  int
	Words string
	// Why tells how students come to make the mistake.
	Why string
}

// Wrong reads the lab's wrong answers, sorted by name. The first comment of
// each main.go, after the licence, says what is expected of it:
//
//	// Fails: step 2: "words that the failure must have"
//	// And a sentence that tells why students do this.
//
// The error is of type Problems; the answers without one are returned with it.
func (l *Lab) Wrong() ([]Wrong, error) {
	base := l.rel("testdata/wrong")
	entries, err := os.ReadDir(l.Path("testdata", "wrong"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, Problems{{File: base, Text: "cannot be read: " + unwrapPath(err).Error()}}
	}
	var out []Wrong
	var ps Problems
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		file := base + "/" + e.Name() + "/main.go"
		dir := l.Path("testdata", "wrong", e.Name())
		text, err := os.ReadFile(l.Path("testdata", "wrong", e.Name(), "main.go"))
		if err != nil {
			ps = append(ps, Problem{File: file, Text: "cannot be read: " + unwrapPath(err).Error()})
			continue
		}
		w, err := parseWrong(file, string(text), len(l.Meta.Steps))
		if err != nil {
			ps = append(ps, problems(file, err)...)
			continue
		}
		w.Name, w.Dir = e.Name(), dir
		out = append(out, w)
	}
	return out, ps.err()
}

var (
	failsPrefix = regexp.MustCompile(`(?i)^//\s*fails\b`)
	failsLine   = regexp.MustCompile(`^// Fails: step ([1-9][0-9]*): (".*")$`)
)

func parseWrong(file, text string, steps int) (Wrong, error) {
	var w Wrong
	bad := func(line int, format string, args ...any) (Wrong, error) {
		return w, Problems{{file, line, fmt.Sprintf(format, args...)}}
	}
	const form = `want one line such as  // Fails: step 2: "words of the failure"`
	var why []string
	at := 0
	inFirst := false // in the comment that has the line
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		switch {
		case failsPrefix.MatchString(line):
			if at > 0 {
				return bad(i+1, "a second expectation, the first is on line %d: %s", at, form)
			}
			m := failsLine.FindStringSubmatch(line)
			if m == nil {
				return bad(i+1, "%s", form)
			}
			at, inFirst = i+1, true
			n, err := strconv.Atoi(m[1])
			if err != nil || n > steps {
				return bad(at, "step %s: lab.toml has %d steps", m[1], steps)
			}
			if w.Words, err = strconv.Unquote(m[2]); err != nil || strings.TrimSpace(w.Words) == "" {
				return bad(at, "the words %s: %s", m[2], form)
			}
			w.Step = n
		case inFirst && strings.HasPrefix(line, "//"):
			why = append(why, strings.TrimSpace(strings.TrimPrefix(line, "//")))
		case at > 0:
			inFirst = false
		case line != "" && !strings.HasPrefix(line, "// SPDX-"):
			return bad(i+1, "the first comment after the licence says what must fail: %s", form)
		}
	}
	if at == 0 {
		return bad(0, "nothing says what must fail: %s", form)
	}
	if w.Why = strings.TrimSpace(strings.Join(why, " ")); w.Why == "" {
		return bad(at, "a sentence is missing after this line: why students do this")
	}
	return w, nil
}
