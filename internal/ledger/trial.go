// SPDX-License-Identifier: MIT

package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"netlinklabs/internal/trace"
)

// Part is what a piece of a trial is there for.
type Part string

// The parts. A claim that holds has every Holds. One that does not has some Holds
// that is not so, and every Instead: without seeing what the kernel does in its place,
// a trial that went wrong would look like a refutation.
const (
	Holds   Part = "claim"   // what would be so, were the claim true
	But     Part = "but"     // the qualification, without which it is not the whole truth
	Instead Part = "instead" // what the kernel does where the claim is not so
)

// Piece is one thing that a trial has seen, or not.
type Piece struct {
	Part  Part   `json:"part"`
	So    bool   `json:"so"`
	Words string `json:"words"`
}

// String says it in one line.
func (p Piece) String() string {
	return fmt.Sprintf("%-7s  %-3s  %s", p.Part, map[bool]string{true: "yes", false: "no"}[p.So], p.Words)
}

// Report is what came of the trial of a row.
type Report struct {
	Row    string  `json:"row"`
	Test   string  `json:"test"`
	Pieces []Piece `json:"pieces,omitempty"`
	// Error tells why there is no verdict: the trial itself failed.
	Error string `json:"error,omitempty"`
	// Useless are pieces that could be turned around without anybody's noticing.
	Useless []string `json:"useless,omitempty"`
	// Dies is what the kernel is expected to say when it dies next. The pieces count if
	// it does.
	Dies  string       `json:"dies,omitempty"`
	Steps []trace.Step `json:"steps,omitempty"` // the timeline, where it was asked for
}

// Judge returns the verdict that the pieces give: TRUE, TRUE* or NEVER, the last for
// CHANGED as well, or an error where they give none.
func Judge(pieces []Piece) (Verdict, error) {
	has := map[Part]int{}
	there, missing := map[Part][]string{}, map[Part][]string{}
	for _, p := range pieces {
		has[p.Part]++
		if p.So {
			there[p.Part] = append(there[p.Part], p.Words)
		} else {
			missing[p.Part] = append(missing[p.Part], p.Words)
		}
	}
	switch {
	case has[Holds] == 0:
		return "", fmt.Errorf("the trial does not say what would be so, were the claim true")
	case len(missing[Holds]) > 0 && has[Instead] == 0:
		return "", fmt.Errorf("the claim does not hold, and nothing tells what happens instead: not so: %s", strings.Join(missing[Holds], "; "))
	case len(missing[Holds]) > 0 && len(missing[Instead]) > 0:
		return "", fmt.Errorf("neither the claim holds nor what should be instead: not so: %s", strings.Join(append(missing[Holds], missing[Instead]...), "; "))
	case len(missing[Holds]) > 0:
		return Never, nil
	case len(there[Instead]) > 0:
		return "", fmt.Errorf("the claim holds, and so does what should be instead: %s", strings.Join(there[Instead], "; "))
	case len(missing[But]) > 0:
		return "", fmt.Errorf("the claim holds, but its qualification was not seen: not so: %s", strings.Join(missing[But], "; "))
	case has[But] > 0:
		return Qualified, nil
	}
	return True, nil
}

// Agrees tells whether what a run gave is what the table says.
func Agrees(table, run Verdict) bool {
	return table == run || table == Changed && run == Never
}

// Invert turns each piece around, one at a time, and returns the words of those with
// which the table's verdict comes out all the same: nothing depends on them.
func Invert(table Verdict, pieces []Piece) []string {
	var useless []string
	for i := range pieces {
		turned := append([]Piece(nil), pieces...)
		turned[i].So = !turned[i].So
		if v, err := Judge(turned); err == nil && Agrees(table, v) {
			useless = append(useless, pieces[i].Words)
		}
	}
	return useless
}

// Test is the test that tries a row.
type Test struct {
	Name string `json:"name"` // TestA0_85_BindIsMandatory
	File string `json:"file"` // its name, in the folder of the claims
	// Trial stands for what the test does. With another trial, what an earlier one gave
	// on a kernel says nothing.
	Trial string `json:"trial"`
}

var testName = regexp.MustCompile(`^Test(A\d)_([1-9]\d*)_\w+$`)

// RowOf returns the row that a test tries, by its name.
func RowOf(test string) (id string, ok bool) {
	m := testName.FindStringSubmatch(test)
	if m == nil {
		return "", false
	}
	return m[1] + "-" + m[2], true
}

// Tests finds the tests in a folder, by row.
func Tests(dir string) (map[string]Test, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	tests := map[string]Test{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, file, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil {
				continue
			}
			id, ok := RowOf(fn.Name.Name)
			if !ok {
				continue
			}
			if other, twice := tests[id]; twice {
				return nil, fmt.Errorf("row %s has two tests: %s and %s", id, other.Name, fn.Name.Name)
			}
			body := text[set.Position(fn.Body.Pos()).Offset:set.Position(fn.Body.End()).Offset]
			tests[id] = Test{fn.Name.Name, filepath.Base(file), trial(dir, body)}
		}
	}
	return tests, nil
}

// Headers is the folder of C files, in that of the claims, that are compiled with a
// kernel's headers.
const Headers = "testdata/headers"

var compiles = regexp.MustCompile(`\bCompiles\("(\w+)"\)`)

// trial is a digest of a test's text and of the C files that it has compiled. What it
// calls is not in it: a helper that changes what is tried has the table run anew on all
// kernels anyway.
func trial(dir string, body []byte) string {
	h := sha256.New()
	h.Write(body)
	for _, m := range compiles.FindAllSubmatch(body, -1) {
		b, _ := os.ReadFile(filepath.Join(dir, Headers, string(m[1])+".c")) // without it the trial fails
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}
