// SPDX-License-Identifier: MIT

package lab

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAskPredictions(t *testing.T) {
	l := findLab(t, smallWorkbook(t), "1")
	tests := []struct {
		name, in string
		had      map[string]Answer
		want     map[string]Answer
		rest     string // of the input
	}{
		{"answers", "2\n1\nfor the program\n", nil, map[string]Answer{"replies": {1, "one"}, "who": {0, "the kernel"}}, "for the program\n"},
		{"skipped", "\n 2 \n", nil, map[string]Answer{"replies": {-1, ""}, "who": {1, "a process"}}, ""},
		{"asked again", "0\n4\nten\n3\n\n", nil, map[string]Answer{"replies": {2, "ten"}, "who": {-1, ""}}, ""},
		{"first answer stays", "1\n", map[string]Answer{"replies": {0, "none"}}, map[string]Answer{"replies": {0, "none"}, "who": {0, "the kernel"}}, ""},
		{"a skip is an answer", "1\n", map[string]Answer{"replies": {-1, ""}}, map[string]Answer{"replies": {-1, ""}, "who": {0, "the kernel"}}, ""},
		{"end of input", "3\n1", nil, map[string]Answer{"replies": {2, "ten"}}, ""},
		{"nothing to ask", "1\n", map[string]Answer{"replies": {0, "none"}, "who": {0, "x"}}, map[string]Answer{"replies": {0, "none"}, "who": {0, "x"}}, "1\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newState()
			for id, a := range tt.had {
				s.Predictions[id] = a
			}
			in := strings.NewReader(tt.in)
			if err := AskPredictions(in, io.Discard, l, s); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, s.Predictions); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if rest, _ := io.ReadAll(in); string(rest) != tt.rest {
				t.Errorf("%q of the input is left, want %q", rest, tt.rest)
			}
		})
	}
}

func TestAskPredictionsText(t *testing.T) {
	l := findLab(t, smallWorkbook(t), "1")
	var out strings.Builder
	if err := AskPredictions(strings.NewReader("7\n1\n\n"), &out, l, newState()); err != nil {
		t.Fatal(err)
	}
	want := `
Before the kernel answers: what do you think? (a number; Enter skips; nobody is graded on it)

  How many answers come?
    1  none
    2  one
    3  ten
  >   A number from 1 to 3, or Enter to skip.
  > 
  Who answers?
    1  the kernel
    2  a process
  > 
`[1:]
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOutcomes(t *testing.T) {
	l := findLab(t, smallWorkbook(t), "1")
	s := newState()
	s.Predictions["replies"] = Answer{2, "ten"}
	s.Predictions["who"] = Answer{0, "the kernel"}
	outs, err := Outcomes(l, s, map[string]Truth{"replies": {1, "nlecho_reply was seen once"}, "who": {Option: 0}})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := WriteOutcomes(&b, s, outs, 80); err != nil {
		t.Fatal(err)
	}
	want := `
  How many answers come?
    you predicted   ten
    the kernel did  one
    seen            nlecho_reply was seen once
    think           What is replies set to?
  Who answers?
    you predicted   the kernel
    the kernel did  the kernel
`[1:]
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	b.Reset()
	if err := WriteOutcomes(&b, s, outs, 80); err != nil || b.Len() > 0 {
		t.Errorf("told a second time: %v\n%s", err, b.String())
	}

	// Neither a skip nor what was not seen is compared.
	s.Predictions["replies"] = Answer{Option: -1}
	outs, err = Outcomes(l, s, map[string]Truth{"replies": {Option: 1}})
	if err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if err := WriteOutcomes(&b, &State{}, outs, 80); err != nil || b.Len() > 0 {
		t.Errorf("nothing to compare: %v\n%s", err, b.String())
	}
	for _, o := range outs {
		if o.Hit {
			t.Errorf("a hit without an answer and a truth: %+v", o)
		}
	}

	for _, truth := range []map[string]Truth{{"replies": {Option: 3}}, {"replies": {Option: -1}}, {"nobody": {}}} {
		if _, err := Outcomes(l, s, truth); err == nil || !strings.Contains(err.Error(), "the check of lab 1 reports") {
			t.Errorf("truth %v: %v", truth, err)
		}
	}
}
