// SPDX-License-Identifier: MIT

package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWrong(t *testing.T) {
	root := smallWorkbook(t)
	l := findLab(t, root, "1")
	got, err := l.Wrong()
	if err != nil {
		t.Fatal(err)
	}
	want := []Wrong{
		{"no-length", l.Path("testdata/wrong/no-length"), 1, `the length is 0, not "16"`, "Students take the field for one that the kernel fills in."},
		{"no-read", l.Path("testdata/wrong/no-read"), 2, "nothing was read", "The answer is there, but nobody looks."},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("wrong answers (-want +got):\n%s", diff)
	}
	// One that is malformed breaks none of the others.
	write(t, l.Path("testdata/wrong/empty/main.go"), "package main\n")
	write(t, l.Path("testdata/wrong/none/other.go"), "package main\n")
	got, err = l.Wrong()
	if len(got) != 2 || err == nil {
		t.Fatalf("%d answers, %v", len(got), err)
	}
	if diff := cmp.Diff([]string{
		`labs/01-send/testdata/wrong/empty/main.go:1: the first comment after the licence says what must fail: want one line such as  // Fails: step 2: "words of the failure"`,
		`labs/01-send/testdata/wrong/none/main.go: cannot be read: no such file or directory`,
	}, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if got, err := findLab(t, root, "0").Wrong(); got != nil || err != nil {
		t.Errorf("a lab without wrong answers: %v, %v", got, err)
	}
}

func TestParseWrongErrors(t *testing.T) {
	const spdx = "// SPDX-License-Identifier: MIT\n\n"
	const form = `want one line such as  // Fails: step 2: "words of the failure"`
	tests := []struct{ name, text, want string }{
		{"nothing", spdx, "w: nothing says what must fail: " + form},
		{"another comment", spdx + "// Package main.\n// Fails: step 1: \"x\"\npackage main\n", "w:3: the first comment after the licence says what must fail: " + form},
		{"no quotes", spdx + "// Fails: step 1: x\n", "w:3: " + form},
		{"no step", spdx + "// fails: \"x\"\n", "w:3: " + form},
		{"no words", spdx + "// Fails: step 1: \"\"\n", `w:3: the words "": ` + form},
		{"bad words", spdx + "// Fails: step 1: \"\\x\"\n", `w:3: the words "\x": ` + form},
		{"no such step", spdx + "// Fails: step 3: \"x\"\n", "w:3: step 3: lab.toml has 2 steps"},
		{"two", spdx + "// Fails: step 1: \"x\"\n// Fails: step 2: \"y\"\n", "w:4: a second expectation, the first is on line 3: " + form},
		{"two apart", spdx + "// Fails: step 1: \"x\"\n// Why.\npackage main\n\n// Fails: step 2: \"y\"\n", "w:7: a second expectation, the first is on line 3: " + form},
		{"no reason", spdx + "// Fails: step 1: \"x\"\npackage main\n\n// Why.\n", "w:3: a sentence is missing after this line: why students do this"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseWrong("w", tt.text, 2)
			if err == nil {
				t.Fatalf("no error, but %+v", got)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
}
