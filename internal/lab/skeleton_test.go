// SPDX-License-Identifier: MIT

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// emptyWorkbook returns the root of a workbook without labs, which has the
// packages that a check needs.
func emptyWorkbook(t *testing.T) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	real, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		write(t, filepath.Join(root, name), read(t, filepath.Join(real, name)))
	}
	if err := os.Symlink(filepath.Join(real, "internal"), filepath.Join(root, "internal")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestNew(t *testing.T) {
	root := emptyWorkbook(t)
	if err := New(t.Context(), root, 7, "two-neighbours"); err != nil { // which judges the form too
		t.Fatal(err)
	}
	l := findLab(t, root, "7")
	if l.Name != "07-two-neighbours" || l.Meta.Title != "Two neighbours" {
		t.Errorf("name %q, title %q", l.Name, l.Meta.Title)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "labs", ".*")); len(left) > 0 {
		t.Errorf("%s is left behind", left)
	}
	out, err := exec.Command("gofmt", "-l", root+"/labs").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("gofmt: %v\n%s", err, out)
	}
	holes, err := l.Holes()
	if diff := cmp.Diff([]int{1, 2}, holes); diff != "" || err != nil {
		t.Errorf("holes (-want +got):\n%s%v", diff, err)
	}

	before := files(t, filepath.Join(root, "labs"))
	for _, bad := range []struct {
		number int
		slug   string
		want   string
	}{
		{7, "other", "labs/07-two-neighbours has the number or the slug"},
		{8, "two-neighbours", "labs/07-two-neighbours has the number or the slug"},
		{8, "Two", "want a number from 0 and a slug of small letters, digits and -"},
		{8, "../x", "want a number from 0 and a slug of small letters, digits and -"},
		{8, "", "want a number from 0 and a slug of small letters, digits and -"},
		{-1, "minus", "want a number from 0 and a slug of small letters, digits and -"},
	} {
		if err := New(t.Context(), root, bad.number, bad.slug); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("New(%d, %q): %v, want %s", bad.number, bad.slug, err, bad.want)
		}
	}
	if diff := cmp.Diff(before, files(t, filepath.Join(root, "labs"))); diff != "" {
		t.Errorf("what cannot be made changed something (-want +got):\n%s", diff)
	}
}

// TestForm spoils a lab that is sound, in one way after the other.
func TestForm(t *testing.T) {
	root := emptyWorkbook(t)
	if err := writeSkeleton(filepath.Join(root, "labs", "03-form"), 3, "form"); err != nil {
		t.Fatal(err)
	}
	const lab = "labs/03-form/"
	if _, err := findLab(t, root, "3").WriteStarter(); err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Errorf("no %q in\n%s", old, s)
			}
			return strings.Replace(s, old, new, 1)
		}
	}
	gone := func(string) string { return "" }
	tests := []struct {
		name, file string
		change     func(string) string // "" removes the file
		want       []string
	}{
		{"sound", "README.md", func(s string) string { return s }, nil},
		{"metadata", "lab.toml", replace("number = 3", "number = 4"), []string{
			"lab.toml:1: number = 4, but the folder's name says 3"}},
		{"no prediction", "lab.toml", func(s string) string { return s[:strings.Index(s, "[[prediction]]")] }, []string{
			"check/check_test.go:51: the prediction replies is not declared in lab.toml",
			"lab.toml: there is no [[prediction]]: a lab asks for one first"}},
		{"key not declared", "lab.toml", replace(`keys = ["reply"]`, `keys = ["bytes"]`), []string{
			"README.md: it does not tell the student to print a line bytes=",
			"check/check_test.go:61: the key reply is not declared in lab.toml",
			"lab.toml: keys: the solution prints no line bytes=",
			"lab.toml: the check never names the key bytes"}},
		{"no such anchor", "lab.toml", replace(`read = "step-2"`, `read = "step-two"`), []string{
			`lab.toml: read of step 2: README.md has no anchor "step-two"`}},
		{"no text", "README.md", gone, []string{"README.md: cannot be read: no such file or directory"}},
		{"title", "README.md", replace("# Lab 3: Form", "# Form"), []string{"README.md:1: the first heading is # Lab 3: Form"}},
		{"order", "README.md", replace("## Predict", "## Predictions"), []string{
			`README.md:14: the section "Predictions": want ` + strings.Join(Sections, ", ") + ", in this order"}},
		{"missing section", "README.md", func(s string) string { return s[:strings.Index(s, "## Going further")] }, []string{
			"README.md: sections are missing, the first is ## Going further"}},
		{"empty section", "README.md", func(s string) string { return s[:strings.Index(s, "What does the kernel do")] }, []string{
			`README.md:62: the section "Going further" is empty`}},
		{"step without a number", "README.md", replace("### Step 2:", "### Then:"), []string{
			`README.md:37: "Then: the answer is read": want ### Step 2: and its title`,
			`lab.toml: read of step 2: README.md has no anchor "step-2"`}},
		{"no picture", "README.md", func(s string) string {
			return s[:strings.Index(s, "```text")] + s[strings.Index(s, "The length counts the header too"):]
		}, []string{
			"README.md: the background has no picture: message layout, lanes or addresses, drawn in a fenced block or as a file"}},
		{"pictures", "README.md", func(s string) string { return s + "![a](a.svg) ![b](https://example.org/b.png)\n" }, []string{
			"README.md:65: the picture a.svg is missing",
			"README.md:65: the picture https://example.org/b.png is not in the repository: the labs are read offline too"}},
		{"no output", "README.md", replace("<!-- output: run -->\n```text\n```\n<!-- end -->\n", ""), []string{
			`README.md: the section "Run it" shows no output of a real run: <!-- output: run --> and <!-- end -->`}},
		{"open output", "README.md", replace("<!-- end -->", ""), []string{
			"README.md:46: the output block has no <!-- end -->"}},
		{"hints", "hints.md", replace("### Pointer", "### Next"), []string{
			`hints.md:9: "Next": want the hints nudge, pointer, nearly, in this order`}},
		{"no hints", "hints.md", gone, []string{"hints.md: cannot be read: no such file or directory"}},
		{"drift", "starter/main.go", replace("protocol = 25", "protocol = 26"), []string{
			"starter/main.go: is not what the solution makes it: bin/lab starter 3"}},
		{"solution", "solution/main.go", replace("msg := message(greeting)", "msg := message(greting)"), []string{
			"solution/main.go:49: undefined: greting"}},
		{"markers", "solution/main.go", replace("//lab:step 2", "//lab:step 9"), []string{
			"solution/main.go:66: //lab:step 9: lab.toml has 2 steps"}},
		{"imports", "solution/main.go", replace("\"bytes\"", "_ \"example.org/x\"\n\t\"bytes\""), []string{
			"solution/main.go:7: imports example.org/x",
			"starter/main.go: is not what the solution makes it: bin/lab starter 3"}},
		{"wrong answer", "testdata/wrong/made-up/main.go", replace("Fails: step 2", "Fails: step two"), []string{
			`testdata/wrong/made-up/main.go:3: want one line such as  // Fails: step 2: "words of the failure"`}},
		{"no wrong answer", "testdata/wrong/made-up/main.go", gone, []string{
			"testdata/wrong/made-up/main.go: cannot be read: no such file or directory"}},
		{"a wrong answer that does not compile", "testdata/wrong/made-up/main.go", replace("PutUint32", "PutUint33"), []string{
			"testdata/wrong/made-up/main.go:21: binary.NativeEndian.PutUint33 undefined (type binary.nativeEndian has no field or method PutUint33)"}},
		{"licence", "check/check_test.go", replace("// SPDX-License-Identifier: MIT\n", "\n"), []string{
			"check/check_test.go:1: want the licence first: // SPDX-License-Identifier: MIT"}},
		{"check's imports", "check/check_test.go", replace("\"fmt\"", "\"fmt\"\n\t_ \"netlinklabs/internal/wire\""), []string{
			"check/check_test.go:8: imports netlinklabs/internal/wire: a check is written against netlinklabs/internal/labtest and netlinklabs/internal/trace"}},
		{"step not judged", "check/check_test.go", replace("c.Step(2,", "c.Step(3,"), []string{
			"check/check_test.go:53: the step 3 is not declared in lab.toml",
			"lab.toml: the check never names the step 2"}},
		{"a check that names no constants", "check/check_test.go", replace("c.Step(2,", "c.Step(1+1,"), nil},
		{"check", "check/check_test.go", replace("trace.Sendmsg", "trace.Sendmessage"), []string{
			"check/check_test.go:24: undefined: trace.Sendmessage"}},
		{"no check", "check/check_test.go", gone, []string{
			"check: there is no test"}},
	}
	// The compiler is slow, and has something to say in these only.
	compiled := map[string]bool{"sound": true, "solution": true, "imports": true, "a wrong answer that does not compile": true, "check": true, "no check": true}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(root, lab, tt.file)
			old := read(t, path)
			defer write(t, path, old)
			if text := tt.change(old); text != "" {
				write(t, path, text)
			} else if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			c, err := Open(root)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range judgeForm(c.Labs[0], func(f *form) {
				if compiled[tt.name] {
					f.compiles(t.Context())
				}
			}) {
				got = append(got, strings.TrimPrefix(p.String(), lab))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
	if err := os.RemoveAll(filepath.Join(root, lab, "testdata/wrong/made-up")); err != nil {
		t.Fatal(err)
	}
	got := judgeForm(findLab(t, root, "3"), func(*form) {})
	want := []Problem{{File: lab + "testdata/wrong", Text: "there are 3 wrong answers: an exercise has at least 4"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("with three wrong answers (-want +got):\n%s", diff)
	}
}
