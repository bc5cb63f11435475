// SPDX-License-Identifier: MIT

package lab

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

// OutputBlock is a place in a README.md that shows what a command printed:
//
//	<!-- output: NAME ARGS -->
//	```text
//	what the command printed
//	```
//	<!-- end -->
type OutputBlock struct {
	Name string
	Args []string
	// Line is that of the opening marker.
	Line int
	// Text is what stands in the fenced block, "" where there is none yet.
	Text string

	info     string // what the fence opens with after the backticks
	from, to int    // the lines between the markers, from 0
}

var (
	outputStart = regexp.MustCompile(`^<!--\s*output:\s*(.*?)\s*-->\s*$`)
	outputEnd   = regexp.MustCompile(`^<!--\s*end\s*-->\s*$`)
)

// OutputBlocks returns the output blocks of a Markdown text in their order.
// file is the path for its errors, which are of type Problems.
func OutputBlocks(file, text string) ([]OutputBlock, error) {
	var out []OutputBlock
	var ps Problems
	var f, inner fence
	var open *OutputBlock
	stray := 0 // the first line in open that should not be there
	for i, line := range strings.Split(text, "\n") {
		if f.inside(line) && open == nil {
			continue // an example of a block is none
		}
		start := outputStart.FindStringSubmatch(line)
		switch {
		case open != nil && inner.inside(line):
			if m := fenceLine.FindStringSubmatch(line); m != nil && open.info == "" && inner.open != "" && open.Text == "" {
				open.info = strings.TrimSpace(m[2])
			}
			open.Text += line + "\n"
		case outputEnd.MatchString(line):
			if open == nil {
				ps = append(ps, Problem{file, i + 1, "an end without an output block before it"})
				continue
			}
			if stray > 0 {
				ps = append(ps, Problem{file, stray, "between the markers of an output block stands one fenced block, and nothing else"})
				stray = 0
			}
			open.to = i
			open.Text = unfence(open.Text)
			out = append(out, *open)
			open = nil
		case start != nil:
			fields := strings.Fields(start[1])
			if open != nil {
				ps = append(ps, Problem{file, open.Line, "the output block has no <!-- end --> before the next one"})
				stray = 0
			}
			if len(fields) == 0 {
				ps = append(ps, Problem{file, i + 1, "the output block names no command: <!-- output: NAME ARGS -->"})
				fields = []string{""}
			}
			inner = fence{}
			open = &OutputBlock{Name: fields[0], Args: fields[1:], Line: i + 1, from: i + 1}
		case open != nil && strings.TrimSpace(line) != "":
			stray = cmp.Or(stray, i+1)
		}
	}
	if open != nil {
		ps = append(ps, Problem{file, open.Line, "the output block has no <!-- end -->"})
	}
	return out, ps.err()
}

// unfence returns what is in a fenced block.
func unfence(block string) string {
	lines := strings.SplitAfter(block, "\n")
	if len(lines) < 3 { // the two fences and what SplitAfter leaves behind the last
		return ""
	}
	return strings.Join(lines[1:len(lines)-2], "")
}

// ReplaceOutput returns the text with what render returns in each of its
// output blocks. Nothing is replaced when one of them fails.
func ReplaceOutput(file, text string, render func(OutputBlock) (string, error)) (string, error) {
	blocks, err := OutputBlocks(file, text)
	if err != nil {
		return "", err
	}
	lines := strings.Split(text, "\n")
	var out []string
	last := 0
	for _, b := range blocks {
		s, err := render(b)
		if err != nil {
			return "", fmt.Errorf("%s:%d: output of %s: %w", file, b.Line, strings.Join(append([]string{b.Name}, b.Args...), " "), err)
		}
		out = append(out, lines[last:b.from]...)
		out = append(out, fenced(s, b.info)...)
		last = b.to
	}
	return strings.Join(append(out, lines[last:]...), "\n"), nil
}

var (
	backticks = regexp.MustCompile("(?m)^ {0,3}`{3,}")
	escapes   = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`) // colours
)

// fenced returns the lines of a fenced block with the text s, whatever is in it.
func fenced(s, info string) []string {
	if info == "" {
		info = "text"
	}
	s = escapes.ReplaceAllString(s, "")
	mark := "```"
	for _, m := range backticks.FindAllString(s, -1) {
		if m = strings.TrimSpace(m); len(m) >= len(mark) {
			mark = m + "`"
		}
	}
	lines := []string{mark + info}
	if s = strings.Trim(strings.ReplaceAll(s, "\r\n", "\n"), "\n"); s != "" {
		for _, line := range strings.Split(s, "\n") {
			lines = append(lines, strings.TrimRight(line, " \t\r"))
		}
	}
	return append(lines, mark)
}

// masks are what differs between two runs of the same thing, in the order of
// their use: a longer form comes before what it contains.
var masks = []struct {
	what *regexp.Regexp
	with string
}{
	{escapes, ""},
	// A report's lines are broken where a longer number makes it necessary.
	{regexp.MustCompile("\n(?: {19}| {8})([A-Za-z0-9\"(`])"), " $1"},
	// Kernel versions: 6.1.0-51-cloud-amd64, 6.1.174-1, 7.2.6+deb14-amd64.
	{regexp.MustCompile(`\b[0-9]+\.[0-9]+(\.[0-9]+)*[-+~][0-9A-Za-z][-+.~0-9A-Za-z]*`), "KERNEL"},
	{regexp.MustCompile(`(?i)\b(kernel|linux) [0-9]+\.[0-9]+(\.[0-9]+)*\b`), "$1 KERNEL"},
	// What the virtual machine ran on.
	{regexp.MustCompile(`\b(KVM|TCG|kvm|tcg)\b`), "ACCEL"},
	// Kernel addresses, with or without 0x, and offsets into functions.
	{regexp.MustCompile(`\b0x[0-9a-f]{9,}\b`), "ADDRESS"},
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "ADDRESS"},
	{regexp.MustCompile(`\+0x[0-9a-f]+(/0x[0-9a-f]+)?\b`), "+OFFSET"},
	// Dates and clock times.
	{regexp.MustCompile(`\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b`), "DATE"},
	{regexp.MustCompile(`\b[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?\b`), "TIME"},
	// Durations: 1m2.5s, 3.2 s, 120 ms, blocked_ms=1004; then time stamps.
	{regexp.MustCompile(`\b([0-9]+h)?([0-9]+m)?[0-9]+(\.[0-9]+)? ?(ns|us|µs|μs|ms|s|seconds?|minutes?|min)\b`), "DURATION"},
	{regexp.MustCompile(`\b([a-z0-9_]*_(?:ns|us|ms|s))=[0-9]+(\.[0-9]+)?\b`), "$1=DURATION"},
	{regexp.MustCompile(`\b[0-9]+\.[0-9]{3,9}\b`), "TIME"},
	// A recursion: how deep it goes, and how many bytes of the stack a level takes, is
	// the kernel's and the compiler's affair. In a picture the time is a line before.
	{regexp.MustCompile(`(?m)^(TIME\n)?.*\blevel [0-9]+, stack left [0-9]+\n?`), ""},
	{regexp.MustCompile(`\b[0-9]+ levels of [0-9]+ bytes\b`), "LEVELS"},
}

var (
	// id is a process's or a port's, where the text calls it so: "pid 12",
	// "port 12", "nlmsg_pid=12", "to=12", "asks for 12"; or a descriptor, "fd 3";
	// or a sequence number, "nlmsg_seq=12", which libraries begin at random.
	id = regexp.MustCompile(`(?i)\b([a-z_]*(?:pid|tid|port|portid|port id|process|thread|task|header|fd|_seq|known|asks for)[ =:]+|to=)([0-9]+)\b`)
	// autobound is a port ID as netlink_autobind makes them up when the
	// thread group's ID is taken: from S32_MIN to -4096 (6.1), signed or not.
	autobound = regexp.MustCompile(`(^|[^0-9A-Za-z_.-])(-[1-9][0-9]{3,9}|[234][0-9]{9})\b`)
	spaces    = regexp.MustCompile(` {2,}`)
	rules     = regexp.MustCompile(`[-─━═]{3,}`)
)

// Mask replaces in the output of a command what differs from run to run and
// from machine to machine: times and durations, process IDs and port IDs (the
// kernel makes these of those), addresses, kernel versions, the accelerator.
// The width of columns goes too, for it follows from these.
//
// IDs are numbered as they come up, so that which of them are the same is
// still seen. 0 stays, which is the kernel's port, and 1, which is init.
func Mask(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	for _, m := range masks {
		s = m.what.ReplaceAllString(s, m.with)
	}
	ids := map[string]string{"0": "0", "1": "1"}
	s = id.ReplaceAllStringFunc(s, func(found string) string {
		m := id.FindStringSubmatch(found)
		if ids[m[2]] == "" {
			ids[m[2]] = fmt.Sprintf("ID%d", len(ids)-1)
		}
		return m[1] + ids[m[2]]
	})
	s = autobound.ReplaceAllString(s, "${1}PORT")
	s = rules.ReplaceAllString(s, "---")
	lines := strings.Split(spaces.ReplaceAllString(s, " "), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \t")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// SameOutput compares two outputs under their masks. It returns "" when they
// are the same, else a unified diff of the masked texts.
func SameOutput(shown, now string) string {
	a, b := Mask(shown), Mask(now)
	if a == b {
		return ""
	}
	return string(diff.Diff("shown", []byte(a+"\n"), "now", []byte(b+"\n")))
}
