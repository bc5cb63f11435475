// SPDX-License-Identifier: MIT

package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"netlinklabs/internal/kernel"
	"netlinklabs/internal/lab"
)

// quoted returns the lines that docs/bugs.md shows below the command.
func quoted(t *testing.T, root, command string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/bugs.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n    "+command+"\n\n```text\n")
	block, _, end := strings.Cut(rest, "```\n")
	if !ok || !end {
		t.Fatalf("docs/bugs.md shows nothing below %q", command)
	}
	return strings.Split(strings.TrimRight(block, "\n"), "\n")
}

// wantQuoted checks that the lines are in the output in their order, under the masks
// of lab output; "..." stands for anything.
func wantQuoted(t *testing.T, lines []string, output string) {
	t.Helper()
	rest := lab.Mask(output)
	for _, line := range lines {
		line = strings.TrimSpace(lab.Mask(line))
		if line == "..." {
			continue
		}
		at := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(line), `\.\.\.`, ".*")).FindStringIndex(rest)
		if at == nil {
			t.Errorf("docs/bugs.md shows %q, which is not in the output, or not there:\n%s", line, output)
			return
		}
		rest = rest[at[1]:]
	}
}

// TestBugs shows the bugs of docs/bugs.md that the tests of kmod/nlbugs cannot show
// among themselves, those that harm the kernel and those that the compiler finds, and
// compares what the document quotes of them: on the default kernel, which that is of,
// but for what the compiler says.
func TestBugs(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for name, words := range map[string]string{
		"B1":      "lab: kernel panic: ",
		"B3Port0": "lab: kernel panic: ",
		"B6":      "lab: kernel complaint: WARNING: ",
		"B7":      "lab: kernel panic: ",
	} {
		t.Run(name, func(t *testing.T) {
			said := d.lab(t, []string{"KERNEL="}, "bug", name)
			said.want(t, 2, "", words)
			wantQuoted(t, quoted(t, d.root, "bin/lab bug "+name), said.err)
		})
	}
	t.Run("survived", func(t *testing.T) {
		said := d.lab(t, []string{"KERNEL="}, "bug", "B2")
		said.want(t, 0, "what another socket had sent: true", "")
		d.lab(t, nil, "bug", "B99").want(t, 2, "", "there is nothing to run for \"B99\", but for B")
		d.lab(t, nil, "bug").want(t, 2, "", "bug wants the name of one")
	})
	t.Run("compiler", func(t *testing.T) {
		const old = "exec -module kmod/nlbugs/testdata/old true"
		spec := os.Getenv("KERNEL")
		said := d.lab(t, []string{"KERNEL=" + spec}, strings.Fields(old)...)
		said.want(t, 2, "", "cannot build the module old")
		wantQuoted(t, quoted(t, d.root, "bin/lab "+old), said.err)

		k, err := kernel.Prepare(t.Context(), spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		output := ""
		for _, arg := range []string{"W=1", "C=2"} {
			out, err := k.CheckModule(t.Context(), filepath.Join(d.root, "kmod/nlbugs/testdata/untidy"), nil, arg)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			output += out
		}
		t.Log(output)
		if spec == "" {
			wantQuoted(t, quoted(t, d.root, "go test -v -run TestBugs/compiler ./cmd/lab"), output)
		}
		if newer, err := k.AtLeast("6.12"); err != nil || newer {
			// modpost names the whole path.
			wantQuoted(t, []string{"WARNING: modpost: missing MODULE_DESCRIPTION() in ...untidy.o"}, output)
		}
	})
	d.clean(t)
}
