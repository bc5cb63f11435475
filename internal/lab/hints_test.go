// SPDX-License-Identifier: MIT

package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHints(t *testing.T) {
	h, err := findLab(t, smallWorkbook(t), "1").Hints()
	if err != nil {
		t.Fatal(err)
	}
	want := Hints{
		1: {"Count the bytes.\n\n```\n## not a heading\n```", "Look at nlmsghdr.", "binary.NativeEndian.PutUint32(b, 16)."},
		2: {"Read.", "Recvfrom.", "unix.Recvfrom(fd, b, 0)"},
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("hints (-want +got):\n%s", diff)
	}
	s := newState()
	for level := 1; level <= 3; level++ {
		got, ok := h.Next(s, 2)
		if want := (Hint{2, level, h[2][level-1]}); !ok || got != want {
			t.Errorf("hint %d: %+v, %v, want %+v", level, got, ok, want)
		}
	}
	if got, ok := h.Next(s, 2); ok {
		t.Errorf("a fourth hint: %+v", got)
	}
	if got, ok := h.Next(s, 3); ok {
		t.Errorf("a hint for no step: %+v", got)
	}
	if diff := cmp.Diff(map[int]int{2: 3}, s.Hints); diff != "" {
		t.Errorf("hints given (-want +got):\n%s", diff)
	}
	if got := h.Given(s, 2); len(got) != 3 || got[2] != (Hint{2, 3, h[2][2]}) {
		t.Errorf("given: %+v", got)
	}
	if got := h.Given(s, 1); len(got) != 0 {
		t.Errorf("given for step 1: %+v", got)
	}
	// A state that somebody wrote by hand.
	for _, n := range []int{-5, 50} {
		s.Hints[1] = n
		h.Given(s, 1)
		h.Next(s, 1)
	}
}

func TestParseHintsErrors(t *testing.T) {
	good := "### Nudge\na\n### Pointer\nb\n### Nearly\nc\n"
	tests := []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"h: there are no hints for step 1", "h: there are no hints for step 2"}},
		{"lacking", "## Step 1\n### Nudge\na\n## Step 2\n" + good, []string{
			`h:1: step 1 lacks the hint "pointer": each step has nudge, pointer, nearly`}},
		{"order", "## Step 1\n### Pointer\na\n## Step 2\n" + good, []string{
			`h:2: "Pointer": want the hints nudge, pointer, nearly, in this order`}},
		{"four", "## Step 1\n" + good + "### More\nd\n## Step 2\n" + good, []string{
			`h:8: "More": want the hints nudge, pointer, nearly, in this order`}},
		{"no text", "## Step 1\n### Nudge\n\n### Pointer\nb\n### Nearly\nc\n## Step 2\n" + good, []string{"h:2: the hint is empty"}},
		{"other section", "## Step one\n## Step 1\n" + good + "## Step 2\n" + good, []string{`h:1: "Step one": want a section for a step, ## Step 1`}},
		{"twice", "## Step 1\n" + good + "## Step 1\n" + good + "## Step 2\n" + good, []string{`h:8: "Step 1" is there twice`}},
		{"beyond", "## Step 1\n" + good + "## Step 2\n" + good + "## Step 3\n" + good, []string{`h:15: "Step 3": lab.toml has 2 steps`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := parseHints("h", tt.text, 2)
			if err == nil {
				t.Fatalf("no error, but %v", h)
			}
			if diff := cmp.Diff(tt.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}
