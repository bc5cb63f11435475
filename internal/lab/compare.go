// SPDX-License-Identifier: MIT

package lab

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
)

// SideBySideWidth is the least width of a terminal, in columns, for two texts
// beside each other.
const SideBySideWidth = 120

// Compare writes two texts so that their differences are seen: beside each
// other where width, that of the terminal in columns, is at least
// SideBySideWidth, else (0 for no terminal) as a unified diff.
func Compare(w io.Writer, leftName, left, rightName, right string, width int) error {
	if left == right {
		_, err := fmt.Fprintf(w, "%s and %s are the same.\n", leftName, rightName)
		return err
	}
	if width < SideBySideWidth {
		text := diff.Diff(leftName, []byte(left), rightName, []byte(right))
		// Its first line is a command that nobody typed.
		_, err := w.Write(text[strings.IndexByte(string(text), '\n')+1:])
		return err
	}
	return sideBySide(w, leftName, left, rightName, right, (width-3)/2)
}

// sideBySide writes two columns; between them stands | where lines differ,
// < and > where a line is on one side only.
func sideBySide(w io.Writer, leftName, left, rightName, right string, column int) error {
	out := bufio.NewWriter(w)
	row := func(l, mark, r string) {
		ls, rs := wrap(l, column), wrap(r, column)
		for i := range max(len(ls), len(rs)) {
			var a, b string
			if i < len(ls) {
				a = ls[i]
			}
			if i < len(rs) {
				b = rs[i]
			}
			pad := strings.Repeat(" ", column-utf8.RuneCountInString(a))
			fmt.Fprintln(out, strings.TrimRight(a+pad+" "+mark+" "+b, " "))
		}
	}
	row(leftName, " ", rightName)
	row(strings.Repeat("-", column), "-", strings.Repeat("-", column))
	a, b := textLines(left), textLines(right)
	i, j := 0, 0
	for _, m := range append(commonLines(a, b), [2]int{len(a), len(b)}) {
		for i < m[0] && j < m[1] {
			row(a[i], "|", b[j])
			i, j = i+1, j+1
		}
		for ; i < m[0]; i++ {
			row(a[i], "<", "")
		}
		for ; j < m[1]; j++ {
			row("", ">", b[j])
		}
		if i < len(a) && j < len(b) {
			row(a[i], " ", b[j])
			i, j = i+1, j+1
		}
	}
	return out.Flush()
}

func textLines(s string) []string {
	return strings.Split(strings.TrimSuffix(strings.ReplaceAll(s, "\t", "    "), "\n"), "\n")
}

// wrap cuts a line into pieces of at most width columns, at least one.
func wrap(s string, width int) []string {
	var out []string
	r := []rune(s)
	for len(r) > width {
		out = append(out, string(r[:width]))
		r = r[width:]
	}
	return append(out, string(r))
}

// commonLines returns a longest common subsequence of two texts, as pairs of
// indexes. It takes time and memory of len(a)*len(b), which is nothing for
// programs of a few hundred lines.
func commonLines(a, b []string) [][2]int {
	// longest[i][j] is the length for a[i:] and b[j:].
	longest := make([][]int, len(a)+1)
	for i := range longest {
		longest[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	var out [][2]int
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			out = append(out, [2]int{i, j})
			i, j = i+1, j+1
		case longest[i+1][j] >= longest[i][j+1]:
			i++
		default:
			j++
		}
	}
	return out
}
