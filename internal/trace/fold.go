// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"regexp"
	"sync"
)

// Of a stretch of more than monotonous steps which say the same, but for a number that counts, only the first two
// and the last are drawn. A pause, in nanoseconds, ends the stretch: what comes slowly can be followed, and is not
// held back in a timeline that is drawn live.
const (
	monotonous = 8
	pause      = 1e9
)

// digits is made when it is needed: a check, which draws nothing, would pay for it at each start.
var digits = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[0-9]+`) })

// folder shortens such stretches in a row of steps. What the program itself prints is never left out, nor is a step
// in which a send begins or ends.
type folder struct {
	last Step
	n    int    // steps of the stretch
	held []Step // those from the third on
}

// fold shortens all long stretches of a finished timeline.
func fold(steps []Step) []Step {
	var f folder
	var all []Step
	for _, s := range steps {
		all = append(all, f.add(s)...)
	}
	return append(all, f.flush()...)
}

// add takes the next step, and returns those that can be drawn.
func (f *folder) add(s Step) []Step {
	goesOn := f.n > 0 && follows(f.last, s)
	f.last = s
	if !goesOn {
		steps := append(f.flush(), s)
		f.n = 1
		return steps
	}
	if f.n++; f.n == 2 {
		return []Step{s}
	}
	f.held = append(f.held, s)
	return nil
}

// flush ends the stretch, and returns what of it was held back.
func (f *folder) flush() []Step {
	steps := f.held
	if f.n > monotonous {
		rest := steps[0]
		rest.Text = fmt.Sprintf("… %d more like these", len(steps)-1)
		steps = []Step{rest, steps[len(steps)-1]}
	}
	f.n, f.held = 0, nil
	return steps
}

// follows reports whether b is one more of the same: each number in its text is that of a, or the next.
func follows(a, b Step) bool {
	if a.Lane != b.Lane || a.Arrow != b.Arrow || a.Depth != b.Depth || a.Failed != b.Failed || b.Time-a.Time > pause ||
		a.Output || b.Output || b.Arrow == Into || b.Arrow == Back {
		return false
	}
	if digits().ReplaceAllString(a.Text, "#") != digits().ReplaceAllString(b.Text, "#") {
		return false
	}
	before, after := digits().FindAllString(a.Text, -1), digits().FindAllString(b.Text, -1)
	for i := range before {
		if after[i] != before[i] && after[i] != nextNumber(before[i]) {
			return false
		}
	}
	return true
}

// nextNumber is the number that comes after this one.
func nextNumber(n string) string {
	var i uint64
	fmt.Sscan(n, &i)
	return fmt.Sprint(i + 1)
}
