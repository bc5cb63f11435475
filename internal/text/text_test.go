// SPDX-License-Identifier: MIT

package text_test

import (
	"strings"
	"testing"

	"netlinklabs/internal/text"
)

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"", 10, ""},
		{"one two three", 7, "one two|three"},
		{"one two three", 8, "one two|three"},
		{"a word-that-is-too-long b", 5, "a|word-that-is-too-long|b"},
		{"its own\nbreaks", 40, "its own|breaks"},
		{"drei Wörter, ähnlich lang", 12, "drei Wörter,|ähnlich lang"},
	} {
		if got := strings.Join(text.Wrap(c.in, c.width), "|"); got != c.want {
			t.Errorf("Wrap(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestFill(t *testing.T) {
	in := "a paragraph\nof two lines\n\n    code that stays as long as it is\n\nand more"
	want := "a paragraph of\ntwo lines\n\n    code that stays as long as it is\n\nand more"
	if got := text.Fill(in, 15); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
