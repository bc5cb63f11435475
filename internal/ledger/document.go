// SPDX-License-Identifier: MIT

package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Version of the JSON document.
const Version = 1

// Kernel is one that the claims were tried on.
type Kernel struct {
	Series  string `json:"series"`
	Release string `json:"release"` // uname -r
}

// Entry is a row of the JSON document.
type Entry struct {
	ID      string             `json:"id"`
	Claim   string             `json:"claim"`
	Verdict Verdict            `json:"verdict"`
	Version string             `json:"version,omitempty"` // of Linux, in which it changed
	Kind    string             `json:"kind,omitempty"`    // of one that is not tried
	What    string             `json:"what"`
	Kernels map[string]Verdict `json:"kernels,omitempty"` // what a run gave, by series
	Test    *Test              `json:"test,omitempty"`
	Lab     string             `json:"lab,omitempty"`
}

// Document is the JSON document.
type Document struct {
	Schema  int            `json:"version"`
	Kernels []Kernel       `json:"kernels"`
	Counts  map[string]int `json:"counts"` // by verdict; "not written yet"
	Rows    []Entry        `json:"rows"`
}

// Runs is what runs on several kernels gave.
type Runs struct {
	Kernels  []Kernel
	outcomes map[string]map[string]outcome // by series and row
}

// outcome is what the trial of a row gave, and what was tried.
type outcome struct {
	verdict Verdict
	trial   string
}

// ReadRuns takes the runs out of a JSON document, so that a run on one kernel need not
// lose those on the others.
func ReadRuns(text []byte) (*Runs, error) {
	var d Document
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("the ledger that is written cannot be read: %w", err)
	}
	r := &Runs{Kernels: d.Kernels}
	for _, e := range d.Rows {
		for series, v := range e.Kernels {
			if v == Changed {
				v = Never // what the run gave
			}
			if e.Test != nil {
				r.put(series, e.ID, outcome{v, e.Test.Trial})
			}
		}
	}
	return r, nil
}

func (r *Runs) put(series, row string, o outcome) {
	if r.outcomes == nil {
		r.outcomes = map[string]map[string]outcome{}
	}
	if r.outcomes[series] == nil {
		r.outcomes[series] = map[string]outcome{}
	}
	r.outcomes[series][row] = o
}

// Release returns the release of the kernel that a series was run on, or "".
func (r *Runs) Release(series string) string {
	for _, k := range r.Kernels {
		if k.Series == series {
			return k.Release
		}
	}
	return ""
}

// Keep takes in what a run of these tests on a kernel gave, in place of an earlier run
// on that series.
func (r *Runs) Keep(series, release string, verdicts map[string]Verdict, tests map[string]Test) {
	r.Kernels = slices.DeleteFunc(r.Kernels, func(k Kernel) bool { return k.Series == series })
	r.Kernels = append(r.Kernels, Kernel{series, release})
	order := func(k Kernel) int { return slices.Index([]string{"5.10", "6.1", "6.12", "sid"}, k.Series) }
	slices.SortFunc(r.Kernels, func(a, b Kernel) int { return order(a) - order(b) })
	delete(r.outcomes, series)
	for row, v := range verdicts {
		r.put(series, row, outcome{v, tests[row].Trial})
	}
}

// Files are the documents that are written.
type Files struct {
	JSON, Markdown []byte
}

// NotWritten is the name under which rows are counted that the table has not yet.
const NotWritten = "not written yet"

// whyNotTried says of each kind of claim why there is nothing to try.
var whyNotTried = map[string]string{
	"opinion": "matters of taste",
	"typo":    "slips of the pen",
	"vague":   "too vague, as nothing says what would have to be seen",
}

// Documents writes the ledger: the table, and what runs of its tests gave.
func Documents(t *Table, tests map[string]Test, runs *Runs) (*Files, error) {
	d := &Document{Schema: Version, Kernels: runs.Kernels, Counts: map[string]int{}}
	for _, a := range t.Articles {
		d.Counts[NotWritten] += a.Count
		for _, r := range a.Rows {
			e := Entry{ID: r.ID, Claim: r.Claim, Verdict: r.Verdict, Version: r.Version, Kind: r.Kind, What: r.What, Lab: r.Lab}
			if test, ok := tests[r.ID]; ok {
				e.Test, e.Kernels = &test, map[string]Verdict{}
				for _, k := range runs.Kernels {
					o, ok := runs.outcomes[k.Series][r.ID]
					if !ok || o.trial != test.Trial {
						continue
					}
					if want := r.For(k.Series); Agrees(want, o.verdict) {
						o.verdict = want // CHANGED is NEVER to a run
					}
					e.Kernels[k.Series] = o.verdict
				}
			} else if r.Tried() {
				continue
			}
			d.Counts[NotWritten]--
			d.Counts[string(r.Verdict)]++
			d.Rows = append(d.Rows, e)
		}
	}
	j, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	return &Files{JSON: append(j, '\n'), Markdown: markdown(t, d)}, nil
}

func markdown(t *Table, d *Document) []byte {
	var b bytes.Buffer
	total := 0
	for _, n := range d.Counts {
		total += n
	}
	fmt.Fprintf(&b, `<!-- Written by bin/lab claims from claims/*.toml and the runs of the tests. Do not edit. -->
# Every claim, tried

The five articles, here A0 to A4, make %d claims that can be told apart. Each one is a small test: it tries what is
claimed, and what the kernel does is the verdict. [How to read the articles today](articles.md) is the short version.

    bin/lab claim A0-85         try one, with the timeline of what happened
    make claims                 try all, and write this page
    make claims KERNEL=all      the same on all four kernels

| | claims | |
| --- | --: | --- |
`, total)
	for _, l := range heads(d) {
		if l.count > 0 || l.what != NotWritten {
			fmt.Fprintf(&b, "| %s | %d | %s |\n", l.what, l.count, l.words)
		}
	}
	fmt.Fprint(&b, "\nTried on\n\n| | release |\n| --- | --- |\n")
	dashes := false
	for _, k := range d.Kernels {
		tried := 0
		for _, e := range d.Rows {
			if e.Kernels[k.Series] != "" {
				tried++
			} else if e.Test != nil {
				dashes = true
			}
		}
		fmt.Fprintf(&b, "| %s | %s, %d claims |\n", k.Series, k.Release, tried)
	}
	fmt.Fprint(&b, `
A column shows what the run on that kernel gave. A claim about a kernel that is none of these is judged by what these
do, and the version in which it changed is from the kernel's history.
`)
	if dashes {
		fmt.Fprint(&b, "A dash: the trial is another since the last run on that kernel.\n")
	}
	for _, a := range t.Articles {
		fmt.Fprintf(&b, "\n## %s: %s\n\n", a.Name, a.Title)
		rows := slices.DeleteFunc(slices.Clone(d.Rows), func(e Entry) bool { return !strings.HasPrefix(e.ID, a.Name+"-") })
		if len(rows) == 0 {
			fmt.Fprintf(&b, "None of the %d claims of this article is written yet.\n", a.Count)
			continue
		}
		fmt.Fprintf(&b, "| | claim | verdict |")
		for _, k := range d.Kernels {
			fmt.Fprintf(&b, " %s |", k.Series)
		}
		fmt.Fprintf(&b, " what happens | test, lab |\n| --- | --- | --- |%s --- | --- |\n", strings.Repeat(" --- |", len(d.Kernels)))
		for _, e := range rows {
			verdict := string(e.Verdict)
			if more := cmp.Or(e.Version, e.Kind); more != "" {
				verdict += " (" + more + ")"
			}
			fmt.Fprintf(&b, "| <a id=\"%s\"></a>%s | %s | %s |", strings.ToLower(e.ID), e.ID, cell(e.Claim), cell(verdict))
			for _, k := range d.Kernels {
				v := cell(string(e.Kernels[k.Series]))
				if e.Test != nil {
					v = cmp.Or(v, "–")
				}
				fmt.Fprintf(&b, " %s |", v)
			}
			last := ""
			if e.Test != nil {
				_, words, _ := strings.Cut(strings.TrimPrefix(e.Test.Name, "Test"), "_")
				_, words, _ = strings.Cut(words, "_")
				last = fmt.Sprintf("[%s](../claims/%s)", words, e.Test.File)
			}
			if e.Lab != "" {
				last += ", lab " + e.Lab
			}
			fmt.Fprintf(&b, " %s | %s |\n", cell(e.What), strings.TrimPrefix(last, ", "))
		}
		if n := a.Count - len(rows); n > 0 {
			fmt.Fprintf(&b, "\n%d claims of this article are not written yet.\n", n)
		}
	}
	return b.Bytes()
}

// head is a line of the page's head.
type head struct {
	what  string
	count int
	words string
}

// heads counts the claims in the words of who wants to know what came of them.
func heads(d *Document) []head {
	n := func(v Verdict) int { return d.Counts[string(v)] }
	var changed, not []string
	kinds := map[string][]string{}
	for _, e := range d.Rows {
		seen := map[Verdict]bool{}
		for _, v := range e.Kernels {
			seen[v] = true
		}
		if len(seen) > 1 {
			changed = append(changed, strings.TrimSuffix(link(e.ID)+" in "+e.Version, " in "))
		}
		if e.Kind != "" {
			kinds[e.Kind] = append(kinds[e.Kind], link(e.ID))
		}
	}
	between := "none between these kernels"
	if len(changed) > 0 {
		between = "between these kernels: " + strings.Join(changed, ", ")
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		not = append(not, fmt.Sprintf("%s: %s", whyNotTried[kind], strings.Join(kinds[kind], ", ")))
	}
	return []head{
		{"proved", n(True) + n(Qualified), fmt.Sprintf("%d as they stand (TRUE), %d with a qualification (TRUE\\*)", n(True), n(Qualified))},
		{"refuted", n(Never), "it is not so, and was not with the interface that is shown (NEVER)"},
		{"changed", n(Changed), "it was so in an older kernel, or is so from some version on (CHANGED); " + between},
		{"not to be tried", n(NotTried), strings.Join(not, "; ")},
		{NotWritten, d.Counts[NotWritten], "there is no trial"},
	}
}

// link leads to a row of the page.
func link(id string) string { return fmt.Sprintf("[%s](#%s)", id, strings.ToLower(id)) }

// cell makes a text fit into a table's cell.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "*", "\\*").Replace(s)
}
