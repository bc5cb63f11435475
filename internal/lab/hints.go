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

// HintLevels are the hints of each step, from the first to the last given, by
// the headings that they have in hints.md.
var HintLevels = [3]string{"nudge", "pointer", "nearly"}

// Hints are a lab's, by the number of the step; the texts are Markdown.
type Hints map[int][len(HintLevels)]string

// Hints reads the lab's hints.md. Its form is a section "## Step N" for every
// step, each with the sections "### Nudge", "### Pointer" and "### Nearly", in
// that order. A lab in which there is nothing to write needs no such file: it
// has no hints then. The error is of type Problems.
func (l *Lab) Hints() (Hints, error) {
	text, err := os.ReadFile(l.Path("hints.md"))
	if errors.Is(err, fs.ErrNotExist) {
		if holes, err := l.Holes(); err == nil && len(holes) == 0 {
			return Hints{}, nil
		}
	}
	if err != nil {
		return nil, Problems{{File: l.rel("hints.md"), Text: "cannot be read: " + unwrapPath(err).Error()}}
	}
	return parseHints(l.rel("hints.md"), string(text), len(l.Meta.Steps))
}

var hintStep = regexp.MustCompile(`(?i)^step ([1-9][0-9]*)(:.*)?$`)

func parseHints(file, text string, steps int) (Hints, error) {
	var ps Problems
	bad := func(line int, format string, args ...any) {
		ps = append(ps, Problem{file, line, fmt.Sprintf(format, args...)})
	}
	hints := Hints{}
	step, stepLine, level := 0, 0, 0
	end := func() { // of a step's section
		if step > 0 && level < len(HintLevels) {
			bad(stepLine, "step %d lacks the hint %q: each step has %s", step, HintLevels[level], strings.Join(HintLevels[:], ", "))
		}
		step, level = 0, 0
	}
	for _, h := range headings(text) {
		switch h.level {
		case 1:
		case 2:
			end()
			m := hintStep.FindStringSubmatch(h.text)
			if m == nil {
				bad(h.line, "%q: want a section for a step, ## Step 1", h.text)
				continue
			}
			n, err := strconv.Atoi(m[1])
			if err != nil || n > steps {
				bad(h.line, "%q: lab.toml has %d steps", h.text, steps)
				continue
			}
			if _, ok := hints[n]; ok {
				bad(h.line, "%q is there twice", h.text)
				continue
			}
			step, stepLine = n, h.line
			hints[n] = [len(HintLevels)]string{}
		case 3:
			switch body := strings.Trim(h.body, "\r\n"); {
			case step == 0: // under a section that is wrong itself
			case level == len(HintLevels) || !strings.EqualFold(h.text, HintLevels[level]):
				bad(h.line, "%q: want the hints %s, in this order", h.text, strings.Join(HintLevels[:], ", "))
				step = 0 // said once
			case strings.TrimSpace(body) == "":
				bad(h.line, "the hint is empty")
				level++
			default:
				levels := hints[step]
				levels[level] = body
				hints[step] = levels
				level++
			}
		}
	}
	end()
	for n := 1; n <= steps; n++ {
		if _, ok := hints[n]; !ok {
			bad(0, "there are no hints for step %d", n)
		}
	}
	if ps != nil {
		return nil, ps
	}
	return hints, nil
}

// Hint is one that was given.
type Hint struct {
	Step  int
	Level int // from 1
	Text  string
}

// Given returns the hints for a step that were given so far.
func (h Hints) Given(s *State, step int) []Hint {
	var out []Hint
	levels := h[step]
	for i, text := range levels[:min(max(s.Hints[step], 0), len(levels))] {
		out = append(out, Hint{step, i + 1, text})
	}
	return out
}

// Next gives the next hint for a step and records that in s. ok is false when
// all were given.
func (h Hints) Next(s *State, step int) (hint Hint, ok bool) {
	given := max(s.Hints[step], 0)
	if _, known := h[step]; !known || given >= len(HintLevels) {
		return Hint{}, false
	}
	s.Hints[step] = given + 1
	return Hint{step, given + 1, h[step][given]}, true
}
