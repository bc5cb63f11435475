// SPDX-License-Identifier: MIT

package lab

import (
	"regexp"
	"strings"
	"unicode"
)

// heading is one of a Markdown text, in the form "## Text".
type heading struct {
	level int // 1 for #
	text  string
	line  int
	body  string // what follows, up to the next heading of any level
}

var (
	headingLine = regexp.MustCompile(`^(#{1,6})\s+(.*?)\s*#*\s*$`)
	fenceLine   = regexp.MustCompile("^ {0,3}(`{3,}|~{3,})(.*)$")
)

// fence follows fenced code blocks from line to line.
type fence struct{ open string }

// inside tells whether the line belongs to a fenced block, its ends included.
func (f *fence) inside(line string) bool {
	m := fenceLine.FindStringSubmatch(line)
	switch {
	case f.open == "" && m != nil:
		f.open = m[1]
		return true
	case f.open != "" && m != nil && strings.HasPrefix(m[1], f.open) && strings.TrimSpace(m[2]) == "":
		f.open = ""
		return true
	}
	return f.open != ""
}

// headings returns the headings of a text. What stands in a fenced block is none.
func headings(text string) []heading {
	var out []heading
	var f fence
	for i, line := range strings.Split(text, "\n") {
		if !f.inside(line) {
			if m := headingLine.FindStringSubmatch(line); m != nil {
				out = append(out, heading{level: len(m[1]), text: m[2], line: i + 1})
				continue
			}
		}
		if len(out) > 0 {
			out[len(out)-1].body += line + "\n"
		}
	}
	return out
}

var (
	htmlAnchor  = regexp.MustCompile(`<a\s+(?:id|name)="([^"]+)"`)
	stepHeading = regexp.MustCompile(`(?i)^step ([0-9]+)\b`)
)

// anchors returns the names that a link into the text can have: those that
// Git forges give to headings, those written as <a id="...">, and "step-N"
// for a heading "Step N: ...".
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, h := range headings(text) {
		out[slugify(h.text)] = true
		if m := stepHeading.FindStringSubmatch(h.text); m != nil {
			out["step-"+m[1]] = true
		}
	}
	for _, m := range htmlAnchor.FindAllStringSubmatch(text, -1) {
		out[m[1]] = true
	}
	return out
}

// slugify returns the anchor of a heading: small letters, digits, - and _, and
// a - for each space.
func slugify(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}
