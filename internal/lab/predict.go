// SPDX-License-Identifier: MIT

package lab

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"netlinklabs/internal/text"
)

// AskPredictions asks the predictions of a lab that were not asked before, and
// records the answers in s. An empty line skips a question for good; at the
// end of the input, what is left is asked another time. It is for a terminal:
// in is read to the end of each line and no further.
func AskPredictions(in io.Reader, out io.Writer, l *Lab, s *State) error {
	left := 0
	for _, p := range l.Meta.Predictions {
		if _, asked := s.Predictions[p.ID]; !asked {
			left++
		}
	}
	if left == 0 {
		return nil
	}
	fmt.Fprintf(out, "Before the kernel answers: what do you think? (a number; Enter skips; nobody is graded on it)\n")
	for _, p := range l.Meta.Predictions {
		if _, asked := s.Predictions[p.ID]; asked {
			continue
		}
		a, err := ask(in, out, p)
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(out)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
		s.Predictions[p.ID] = a
	}
	fmt.Fprintln(out)
	return nil
}

func ask(in io.Reader, out io.Writer, p Prediction) (Answer, error) {
	fmt.Fprintf(out, "\n  %s\n", p.Question)
	for i, o := range p.Options {
		fmt.Fprintf(out, "    %d  %s\n", i+1, o)
	}
	for {
		fmt.Fprint(out, "  > ")
		line, err := readLine(in)
		if err != nil {
			return Answer{}, err
		}
		line = strings.TrimSpace(line)
		if line == "" {
			return Answer{Option: -1}, nil
		}
		if n, err := strconv.Atoi(line); err == nil && n >= 1 && n <= len(p.Options) {
			return Answer{Option: n - 1, Text: p.Options[n-1]}, nil
		}
		fmt.Fprintf(out, "  A number from 1 to %d, or Enter to skip.\n", len(p.Options))
	}
}

// readLine reads byte by byte: what follows the line may be meant for the
// student's program.
func readLine(in io.Reader) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for {
		n, err := in.Read(b)
		switch {
		case n == 1 && b[0] == '\n':
			return string(line), nil
		case n == 1:
			line = append(line, b[0])
		case err != nil:
			return "", err // a line without an end is no answer
		}
	}
}

// Outcome is a prediction beside what the kernel did.
type Outcome struct {
	Prediction Prediction
	// Answer is the student's, "" where there is none.
	Answer string
	// Truth is the option that the run showed to be right, "" where the
	// check did not get as far.
	Truth string
	// Why is what the check saw that settles it, "" where it did not say.
	Why string
	// Hit tells whether they are the same.
	Hit bool
}

// Truth is what a check found out about a prediction: the index, from 0, of the
// right option, and what it saw that settles it.
type Truth struct {
	Option int
	Why    string
}

// Outcomes compares the answers in s with the truth that a check reports, by the
// predictions' IDs. A prediction
// that the check knows and the lab does not, or the index of no option, is the
// lab's mistake, and an error.
func Outcomes(l *Lab, s *State, truth map[string]Truth) ([]Outcome, error) {
	var out []Outcome
	known := map[string]bool{}
	for _, p := range l.Meta.Predictions {
		known[p.ID] = true
		o := Outcome{Prediction: p}
		if t, ok := truth[p.ID]; ok {
			n := t.Option
			if n < 0 || n >= len(p.Options) {
				return nil, fmt.Errorf("the check of lab %d reports option %d for the prediction %s, which has the options 0 to %d",
					l.Number, n, p.ID, len(p.Options)-1)
			}
			o.Truth, o.Why = p.Options[n], t.Why
		}
		if a, ok := s.Predictions[p.ID]; ok && a.Option >= 0 {
			o.Answer = a.Text
		}
		o.Hit = o.Answer != "" && o.Answer == o.Truth
		out = append(out, o)
	}
	for id := range truth {
		if !known[id] {
			return nil, fmt.Errorf("the check of lab %d reports on the prediction %q, which lab.toml does not have", l.Number, id)
		}
	}
	return out, nil
}

// WriteOutcomes writes what a student predicted beside what the kernel did,
// and after a miss the question to think about, in lines of at most width
// characters. What was not predicted, or not seen, is left out, and so is what s
// says was told before; what is told now is noted there.
func WriteOutcomes(w io.Writer, s *State, outcomes []Outcome, width int) error {
	var b strings.Builder
	for _, o := range outcomes {
		if o.Answer == "" || o.Truth == "" || s.Told[o.Prediction.ID] {
			continue
		}
		if s.Told == nil {
			s.Told = map[string]bool{}
		}
		s.Told[o.Prediction.ID] = true
		field := func(name, value string) {
			for i, line := range text.Wrap(value, width-20) {
				if i > 0 {
					name = ""
				}
				fmt.Fprintf(&b, "    %-16s%s\n", name, line)
			}
		}
		for _, line := range text.Wrap(o.Prediction.Question, width-2) {
			fmt.Fprintf(&b, "  %s\n", line)
		}
		field("you predicted", o.Answer)
		field("the kernel did", o.Truth)
		if o.Why != "" {
			field("seen", o.Why)
		}
		if !o.Hit {
			field("think", o.Prediction.Think)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
