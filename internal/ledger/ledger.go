// SPDX-License-Identifier: MIT

// Package ledger is the book of what the articles claim about Netlink: it reads the
// table of the claims, judges what a trial of one has seen, and writes the document
// that says which of them are so.
//
// The trials themselves are the tests in the folder claims.
package ledger

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Verdict is what became of a claim.
type Verdict string

// The verdicts. The table has one for each row; a run gives one of the first four,
// since when a claim ceased to be so cannot be seen in it.
const (
	True      Verdict = "TRUE"
	Qualified Verdict = "TRUE*"     // it is so, but not without a qualification
	Changed   Verdict = "CHANGED"   // it was so, or is so, from some version on or up to one
	Never     Verdict = "NEVER"     // it was not so in any kernel with the interface that it names
	NotTried  Verdict = "NOT TRIED" // nothing can be tried
)

// Kinds of claims that cannot be tried, and why.
var kinds = []string{"opinion", "vague", "typo"}

// Row is one claim.
type Row struct {
	ID      string  `toml:"id"`    // "A0-85": article 0, claim 85
	Claim   string  `toml:"claim"` // in one line, in our own words
	Verdict Verdict `toml:"verdict"`
	// On has the verdicts of those kernels that differ, by series: TRUE where a CHANGED
	// claim holds still, or NEVER.
	On      map[string]Verdict `toml:"on"`
	Version string             `toml:"version"` // of Linux, in which it changed
	What    string             `toml:"what"`    // what happens, in one sentence
	Lab     string             `toml:"lab"`     // that teaches it: "3, step 2"
	Kind    string             `toml:"kind"`    // of a row that is not tried: opinion, vague, typo
	Modules []string           `toml:"modules"` // of the kernel, that the trial needs
	Alone   bool               `toml:"alone"`   // its trial has a boot of its own, since it harms the kernel
}

// Article is one article's claims.
type Article struct {
	Name  string `toml:"article"` // "A0"
	Title string `toml:"title"`
	Count int    `toml:"count"` // of its claims, those without a row yet included
	Rows  []*Row `toml:"row"`
}

// Table is all claims, in order.
type Table struct {
	Articles []*Article
}

var rowID = regexp.MustCompile(`^(A\d)-([1-9]\d*)$`)

// Number returns the number of a row in its article.
func (r *Row) Number() int {
	_, n, _ := strings.Cut(r.ID, "-")
	i, _ := strconv.Atoi(n)
	return i
}

// Article returns the name of the row's article.
func (r *Row) Article() string {
	a, _, _ := strings.Cut(r.ID, "-")
	return a
}

// Tried tells whether there is something to try.
func (r *Row) Tried() bool { return r.Verdict != NotTried }

// For returns the verdict for a kernel series.
func (r *Row) For(series string) Verdict {
	return cmp.Or(r.On[series], r.Verdict)
}

// Read reads the table from the files *.toml of a folder. An article's rows may
// stand in several of them; its name, title and count in one, a0.toml.
func Read(fsys fs.FS) (*Table, error) {
	names, err := fs.Glob(fsys, "*.toml")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there are no claims: no file *.toml")
	}
	t := new(Table)
	rows := map[string][]*Row{}
	for _, name := range names {
		b, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		a := new(Article)
		md, err := toml.Decode(string(b), a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if more := md.Undecoded(); len(more) > 0 {
			return nil, fmt.Errorf("%s: nobody knows the key %s", name, more[0])
		}
		if a.Name != "" {
			if a.Name != strings.ToUpper(strings.TrimSuffix(path.Base(name), ".toml")) {
				return nil, fmt.Errorf("%s: it has the head of article %s", name, a.Name)
			}
			t.Articles = append(t.Articles, a)
		}
		for _, r := range a.Rows {
			if err := r.check(); err != nil {
				return nil, fmt.Errorf("%s: row %s: %w", name, r.ID, err)
			}
			rows[r.Article()] = append(rows[r.Article()], r)
		}
	}
	for _, a := range t.Articles {
		a.Rows = rows[a.Name]
		delete(rows, a.Name)
		slices.SortStableFunc(a.Rows, func(x, y *Row) int { return x.Number() - y.Number() })
		for i, r := range a.Rows {
			if i > 0 && a.Rows[i-1].ID == r.ID {
				return nil, fmt.Errorf("row %s: it is there twice", r.ID)
			}
			if r.Number() > a.Count {
				return nil, fmt.Errorf("row %s: article %s has %d claims", r.ID, a.Name, a.Count)
			}
		}
	}
	for name := range rows {
		return nil, fmt.Errorf("there are rows of article %s, but no %s.toml with its title", name, strings.ToLower(name))
	}
	return t, nil
}

func (r *Row) check() error {
	switch {
	case !rowID.MatchString(r.ID):
		return fmt.Errorf("the id is like A0-85")
	case r.Claim == "" || strings.Contains(r.Claim, "\n"):
		return fmt.Errorf("the claim is one line")
	case r.What == "" || strings.Contains(r.What, "\n"):
		return fmt.Errorf("what is one line: what happens, or why it cannot be tried")
	case !slices.Contains([]Verdict{True, Qualified, Changed, Never, NotTried}, r.Verdict):
		return fmt.Errorf("no verdict %q: TRUE, TRUE*, CHANGED, NEVER or NOT TRIED", r.Verdict)
	case (r.Verdict == NotTried) != (r.Kind != ""):
		return fmt.Errorf("a kind belongs to the verdict NOT TRIED, and to no other")
	case r.Kind != "" && !slices.Contains(kinds, r.Kind):
		return fmt.Errorf("no kind %q: %s", r.Kind, strings.Join(kinds, ", "))
	case (r.Verdict == Changed) != (r.Version != ""):
		return fmt.Errorf("a version belongs to the verdict CHANGED, and to no other")
	}
	for series, v := range r.On {
		if !slices.Contains([]Verdict{True, Qualified, Changed, Never}, v) {
			return fmt.Errorf("no verdict %q for %s", v, series)
		}
	}
	return nil
}

// Row returns the row with that ID, or nil.
func (t *Table) Row(id string) *Row {
	for _, r := range t.Rows() {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// Rows returns the rows of all articles.
func (t *Table) Rows() []*Row {
	var all []*Row
	for _, a := range t.Articles {
		all = append(all, a.Rows...)
	}
	return all
}

// SeriesOf returns the series of the kernel that uname -r calls release: one of those
// that are run for the table, where sid's is the newest.
func SeriesOf(release string) string {
	for _, s := range []string{"5.10", "6.1", "6.12"} {
		if strings.HasPrefix(release, s+".") {
			return s
		}
	}
	return "sid"
}
