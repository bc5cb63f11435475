// SPDX-License-Identifier: MIT

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"netlinklabs/internal/lab"
)

// The wrong answers that docs/instructors.md explains are those of the labs, which
// the gate holds against the checks.
func TestInstructorsWrongAnswers(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/instructors.md"))
	if err != nil {
		t.Fatal(err)
	}
	cat, err := lab.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	head := regexp.MustCompile(`(?m)^### Lab (\d+): (.*)$`)
	row := regexp.MustCompile("(?m)^\\| (\\d+) \\| \"(.*)\" \\| `([^`]+)` \\|")
	at := head.FindAllSubmatchIndex(text, -1)
	if len(at) == 0 {
		t.Fatal("no lab has its wrong answers there")
	}
	for i, h := range at {
		number, title := string(text[h[2]:h[3]]), string(text[h[4]:h[5]])
		l, err := cat.Find(number)
		if err != nil || l.Meta.Title != title {
			t.Errorf("lab %s %q: it is %q, %v", number, title, l.Meta.Title, err)
			continue
		}
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		wrongs, err := l.Wrong()
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]lab.Wrong{}
		for _, w := range wrongs {
			known[w.Name] = w
		}
		rows := row.FindAllSubmatch(text[h[0]:end], -1)
		if len(rows) < 3 {
			t.Errorf("lab %s: %d wrong answers", number, len(rows))
		}
		for _, r := range rows {
			step, words, name := string(r[1]), string(r[2]), string(r[3])
			if w := known[name]; step != string(rune('0'+w.Step)) || words != w.Words {
				t.Errorf("lab %s, %s: step %s %q; the wrong answer says step %d %q", number, name, step, words, w.Step, w.Words)
			}
		}
	}
}
