// SPDX-License-Identifier: MIT

package ledger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"netlinklabs/internal/ledger"
)

const head = "article = \"A0\"\ntitle = \"basics\"\ncount = 4\n"

// row is a row of a table; more replaces or adds lines.
func row(id, verdict string, more ...string) string {
	return "[[row]]\nid = \"" + id + "\"\nclaim = \"c | d\"\nverdict = \"" + verdict + "\"\nwhat = \"w\"\n" + strings.Join(more, "\n") + "\n"
}

func table(t *testing.T, files ...string) (*ledger.Table, error) {
	t.Helper()
	fsys := fstest.MapFS{}
	for i, text := range files {
		fsys[[]string{"a0.toml", "a0_more.toml"}[i]] = &fstest.MapFile{Data: []byte(text)}
	}
	return ledger.Read(fsys)
}

func TestRead(t *testing.T) {
	got, err := table(t, head+row("A0-3", "TRUE", `on = { "5.10" = "NEVER" }`), row("A0-1", "CHANGED", `version = "3.6"`))
	if err != nil {
		t.Fatal(err)
	}
	rows := got.Rows()
	if len(rows) != 2 || rows[0].ID != "A0-1" || rows[1].ID != "A0-3" {
		t.Errorf("the rows of both files are not in order: %v", rows)
	}
	if r := got.Row("A0-3"); r.For("5.10") != ledger.Never || r.For("6.1") != ledger.True {
		t.Errorf("A0-3 is %s on 5.10 and %s on 6.1", r.For("5.10"), r.For("6.1"))
	}
	if got.Row("A0-2") != nil {
		t.Error("there is a row A0-2")
	}
}

func TestReadRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"twice", head + row("A0-1", "TRUE") + row("A0-1", "TRUE"), "twice"},
		{"beyond the count", head + row("A0-5", "TRUE"), "has 4 claims"},
		{"no such article", head + row("A7-1", "TRUE"), "article A7"},
		{"bad id", head + row("A0.1", "TRUE"), "like A0-85"},
		{"bad verdict", head + row("A0-1", "MAYBE"), `no verdict "MAYBE"`},
		{"no reason", head + row("A0-1", "NOT TRIED"), "kind"},
		{"bad kind", head + row("A0-1", "NOT TRIED", `kind = "dull"`), `no kind "dull"`},
		{"kind of a tried one", head + row("A0-1", "TRUE", `kind = "typo"`), "kind"},
		{"no version", head + row("A0-1", "CHANGED"), "version"},
		{"bad verdict for a kernel", head + row("A0-1", "TRUE", `on = { "6.1" = "NOT TRIED" }`), "for 6.1"},
		{"unknown key", head + row("A0-1", "TRUE", `wat = "w"`), "wat"},
		{"another's head", strings.Replace(head, "A0", "A1", 1), "head of article A1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := table(t, tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func piece(part ledger.Part, so bool) ledger.Piece {
	return ledger.Piece{Part: part, So: so, Words: string(part)}
}

func TestJudge(t *testing.T) {
	const h, b, i = ledger.Holds, ledger.But, ledger.Instead
	for _, tt := range []struct {
		name    string
		pieces  []ledger.Piece
		want    ledger.Verdict // "" for none
		useless int
	}{
		{"true", []ledger.Piece{piece(h, true)}, ledger.True, 0},
		{"two that hold", []ledger.Piece{piece(h, true), piece(h, true)}, ledger.True, 0},
		{"qualified", []ledger.Piece{piece(h, true), piece(b, true)}, ledger.Qualified, 0},
		{"never", []ledger.Piece{piece(h, false), piece(i, true)}, ledger.Never, 0},
		{"no longer changed", []ledger.Piece{piece(h, true), piece(i, false)}, ledger.True, 0},
		{"nothing claimed", []ledger.Piece{piece(i, true)}, "", 0},
		{"no qualification", []ledger.Piece{piece(h, true), piece(b, false)}, "", 0},
		{"nothing instead", []ledger.Piece{piece(h, false)}, "", 0},
		{"neither", []ledger.Piece{piece(h, false), piece(i, false)}, "", 0},
		{"both", []ledger.Piece{piece(h, true), piece(i, true)}, "", 0},
		{"one refutation too many", []ledger.Piece{piece(h, false), piece(h, false), piece(i, true)}, ledger.Never, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ledger.Judge(tt.pieces)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			if tt.want != "" {
				if useless := ledger.Invert(got, tt.pieces); len(useless) != tt.useless {
					t.Errorf("turned around, nobody notices %q", useless)
				}
			}
		})
	}
	if !ledger.Agrees(ledger.Changed, ledger.Never) || ledger.Agrees(ledger.Changed, ledger.True) {
		t.Error("what has changed does not hold now")
	}
}

func TestDocuments(t *testing.T) {
	tab, err := table(t, head+row("A0-1", "TRUE*")+row("A0-2", "CHANGED", `version = "6.2"`, `on = { "6.1" = "TRUE" }`)+
		row("A0-3", "NOT TRIED", `kind = "typo"`)+row("A0-4", "TRUE"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]ledger.Test{"A0-1": {"TestA0_1_First", "a0_test.go", "1"}, "A0-2": {"TestA0_2_Second", "a0_test.go", "2"}}
	var runs ledger.Runs
	runs.Keep("sid", "7.2.1", map[string]ledger.Verdict{"A0-1": ledger.Qualified, "A0-2": ledger.Never}, tests)
	runs.Keep("6.1", "6.1.1", map[string]ledger.Verdict{"A0-1": ledger.Qualified, "A0-2": ledger.True}, tests)
	files, err := ledger.Documents(tab, tests, &runs)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, files,
		"make 4 claims",
		`| proved | 1 | 0 as they stand (TRUE), 1 with a qualification (TRUE\*) |`, "| refuted | 0 |",
		"| changed | 1 |", "between these kernels: [A0-2](#a0-2) in 6.2 |",
		"| not to be tried | 1 | slips of the pen: [A0-3](#a0-3) |", "| not written yet | 1 |",
		"| 6.1 | 6.1.1, 2 claims |\n| sid | 7.2.1, 2 claims |",
		`| <a id="a0-1"></a>A0-1 | c \| d | TRUE\* | TRUE\* | TRUE\* | w | [First](../claims/a0_test.go) |`,
		`| <a id="a0-2"></a>A0-2 | c \| d | CHANGED (6.2) | TRUE | CHANGED | w | [Second](../claims/a0_test.go) |`,
		`| <a id="a0-3"></a>A0-3 | c \| d | NOT TRIED (typo) |  |  | w |  |`,
		"1 claims of this article are not written yet",
	)

	// A run on one kernel leaves what is written of the others.
	again := reread(t, files)
	if got := again.Release("sid"); got != "7.2.1" {
		t.Errorf("sid's release is %q", got)
	}
	again.Keep("6.1", "6.1.1", map[string]ledger.Verdict{"A0-1": ledger.Qualified, "A0-2": ledger.True}, tests)
	same, err := ledger.Documents(tab, tests, again)
	if err != nil {
		t.Fatal(err)
	}
	if string(same.JSON) != string(files.JSON) || string(same.Markdown) != string(files.Markdown) {
		t.Errorf("read and written again, it is another:\n%s\n%s", files.JSON, same.JSON)
	}

	// With another trial, an earlier run says nothing; with another row it does.
	tests["A0-1"] = ledger.Test{Name: "TestA0_1_First", File: "a0_test.go", Trial: "new"}
	tab.Row("A0-2").Verdict, tab.Row("A0-2").On, tab.Row("A0-2").What = ledger.Never, nil, "more"
	again = reread(t, files)
	again.Keep("6.1", "6.1.2", map[string]ledger.Verdict{"A0-1": ledger.Qualified, "A0-2": ledger.Never}, tests)
	files, err = ledger.Documents(tab, tests, again)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, files,
		"| 6.1 | 6.1.2, 2 claims |\n| sid | 7.2.1, 1 claims |", "A dash:",
		`A0-1 | c \| d | TRUE\* | TRUE\* | – | w |`,
		`A0-2 | c \| d | NEVER (6.2) | NEVER | NEVER | more |`,
	)
}

func contains(t *testing.T, files *ledger.Files, words ...string) {
	t.Helper()
	for _, want := range words {
		if !strings.Contains(string(files.Markdown), want) {
			t.Errorf("the page lacks %q:\n%s", want, files.Markdown)
		}
	}
}

func reread(t *testing.T, files *ledger.Files) *ledger.Runs {
	t.Helper()
	runs, err := ledger.ReadRuns(files.JSON)
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

// TestTests looks at what a trial is taken to be.
func TestTests(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const test = "package claims\n\nfunc TestA0_1_First(t *testing.T) { c.Compiles(\"old\") }\n\nfunc TestOther(t *testing.T) {}\n"
	trial := func() string {
		t.Helper()
		tests, err := ledger.Tests(dir)
		if err != nil || len(tests) != 1 {
			t.Fatal(tests, err)
		}
		got := tests["A0-1"]
		if got.Name != "TestA0_1_First" || got.File != "a0_test.go" {
			t.Errorf("the test is %v", got)
		}
		return got.Trial
	}
	write("a0_test.go", test)
	write("testdata/headers/old.c", "int old;")
	first := trial()
	write("a0_test.go", strings.Replace(test, "func", "// Elsewhere.\nfunc", 2))
	if trial() != first {
		t.Error("the trial is another in another place")
	}
	write("a0_test.go", strings.Replace(test, "c.", "d.", 1))
	if trial() == first {
		t.Error("the trial is the same with another text")
	}
	write("a0_test.go", test)
	write("testdata/headers/old.c", "int older;")
	if trial() == first {
		t.Error("the trial is the same with another C file")
	}
}

// TestArticles looks at the page that is written from the table: what has changed or
// was never so is on it, and it names rows that there are.
func TestArticles(t *testing.T) {
	tab, err := ledger.Read(os.DirFS("../../claims"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/articles.md")
	if err != nil {
		t.Fatal(err)
	}
	page, links, _ := strings.Cut(string(text), "\n[A0-1]: ")
	links = "\n[A0-1]: " + links
	for l := range strings.Lines(links) {
		if id, _, is := strings.Cut(strings.TrimPrefix(l, "["), "]: "); is && tab.Row(id) == nil {
			t.Errorf("the page has a link to %s, which is no row", id)
		}
	}
	for _, r := range tab.Rows() {
		named := slices.DeleteFunc(strings.Split(page, "\n"), func(l string) bool { return !strings.Contains(l, "["+r.ID+"]") })
		version := strings.TrimPrefix(r.Version, "about ")
		switch {
		case (r.Verdict == ledger.Never || r.Verdict == ledger.Changed) && len(named) == 0:
			t.Errorf("%s, %s, is not on the page", r.ID, r.Verdict)
		case version != "" && !slices.ContainsFunc(named, func(l string) bool { return strings.Contains(l, version) }):
			t.Errorf("the page does not say that %s has changed in %s", r.ID, version)
		}
		if link := fmt.Sprintf("\n[%s]: claims.md#%s\n", r.ID, strings.ToLower(r.ID)); (len(named) > 0) != strings.Contains(links, link) {
			t.Errorf("%s is named on %d lines of the page, and at its end is no %q", r.ID, len(named), link)
		}
	}
}

// TestTable looks at the project's own table and its tests.
func TestTable(t *testing.T) {
	const dir = "../../claims"
	tab, err := ledger.Read(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := ledger.Tests(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range tab.Rows() {
		if r.Tried() != (tests[r.ID].Name != "") {
			t.Errorf("%s is %s, and its test is %q", r.ID, r.Verdict, tests[r.ID].Name)
		}
	}
	for id, test := range tests {
		if tab.Row(id) == nil {
			t.Errorf("%s tries no row of the table", test.Name)
		}
	}
}
