// SPDX-License-Identifier: MIT

package lab

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// DefaultKernelMin is the oldest kernel series that the workbook runs on.
const DefaultKernelMin = "5.10"

// Meta is what a lab.toml says.
type Meta struct {
	// Number is the lab's, the same as in its folder's name.
	Number int `toml:"number"`
	// Title is a few words, Question what the lab answers.
	Title    string `toml:"title"`
	Question string `toml:"question"`
	// KernelMin is the oldest kernel series that can run the lab, "5.10" say.
	// Left out, it is DefaultKernelMin.
	KernelMin string `toml:"kernel_min"`
	// Modules are loaded before the check, in this order, with the parameters
	// that Params has under the module's name. See ModuleParams.
	Modules []string                  `toml:"modules"`
	Params  map[string]map[string]any `toml:"params"`
	// Capabilities are what the program has inside its own user namespace, by
	// the names of capabilities(7).
	Capabilities []string `toml:"capabilities"`
	// Keys are those of the key=value lines that the program reports.
	Keys []string `toml:"keys"`
	// Trace names what the check and a run trace beyond what every one does:
	// kernel functions that have a probe ("netlink_attachskb"), tracepoints
	// ("signal:signal_generate"), and "sleep" for who sleeps and who wakes it.
	Trace []string `toml:"trace"`
	// Boots names the boots of one check, in order: {"check"}, which is meant
	// when it is left out, or {"crash", "judge"}.
	Boots []string `toml:"boots"`
	// Files are what the student writes beside main.go, and the check reads:
	// {"postmortem.toml"}. See Lab.Files.
	Files []string `toml:"files"`
	// Steps are what a check awards points for.
	Steps []Step `toml:"step"`
	// Predictions are asked before the first run.
	Predictions []Prediction `toml:"prediction"`
}

// Step is a [[step]] of a lab.toml. Steps are counted from 1, in the order of the file.
type Step struct {
	// Title says what is seen when the step is right.
	Title string `toml:"title"`
	// Points are at least 1.
	Points int `toml:"points"`
	// Read is the anchor in the lab's README.md that a failed step points to.
	Read string `toml:"read"`
}

// Prediction is a [[prediction]] of a lab.toml: a question with one right
// option, which nobody writes down, for the check computes it from the run.
type Prediction struct {
	// ID names the prediction in checks and in the student's state.
	ID string `toml:"id"`
	// Question and Options are shown as they are. Options are at least two.
	Question string   `toml:"question"`
	Options  []string `toml:"options"`
	// Article is the index, from 0, of the option that the articles claim.
	Article int `toml:"article"`
	// Think is the question asked after a miss.
	Think string `toml:"think"`
}

// Points returns the sum of the steps' points.
func (m *Meta) Points() int {
	sum := 0
	for _, s := range m.Steps {
		sum += s.Points
	}
	return sum
}

// ModuleParams returns the parameters of a module as the kernel takes them,
// "name=value", sorted by name. A bool becomes 1 or 0.
func (m *Meta) ModuleParams(module string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m.Params[module])) {
		v := m.Params[module][name]
		if b, ok := v.(bool); ok {
			v = 0
			if b {
				v = 1
			}
		}
		out = append(out, fmt.Sprintf("%s=%v", name, v))
	}
	return out
}

// parseMeta reads and judges the text of a lab.toml. file is the path for its
// errors. The error is of type Problems, and holds everything that is wrong.
func parseMeta(file, text string) (Meta, error) {
	var m Meta
	lines := keyLines(text)
	md, err := toml.Decode(text, &m)
	if err != nil {
		p := Problem{File: file, Text: strings.TrimPrefix(err.Error(), "toml: ")}
		var pe toml.ParseError
		if errors.As(err, &pe) {
			p.Line, p.Text = pe.Position.Line, pe.Message
		} else if m := typeError.FindStringSubmatch(p.Text); m != nil {
			p.Line, _ = strconv.Atoi(m[1])
			p.Text = m[2] + ": " + m[3]
		}
		return m, Problems{p}
	}
	c := metaCheck{file: file, lines: lines}
	seen := map[string]int{}
	for _, key := range md.Undecoded() {
		name := key.String()
		// A key of the n-th [[step]] is undecoded for the n-th time or
		// earlier: good enough to point at a line that has it.
		c.add(lines.find(name, seen[name]), "no such key: %s (the keys are described in docs/authoring.md)", name)
		seen[name]++
	}
	c.meta(&m, md)
	if m.KernelMin == "" {
		m.KernelMin = DefaultKernelMin
	}
	if len(m.Boots) == 0 {
		m.Boots = []string{"check"}
	}
	return m, c.found.err()
}

var (
	typeError    = regexp.MustCompile(`^line (\d+) \(last key "([^"]+)"\): (.*)$`)
	identifier   = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	moduleName   = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
	traceName    = regexp.MustCompile(`^[a-z_][a-z0-9_]*(:[a-z_][a-z0-9_]*( if .+)?)?$`)
	series       = regexp.MustCompile(`^[1-9][0-9]*\.(0|[1-9][0-9]*)$`)
	anchorName   = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
	fileName     = regexp.MustCompile(`^[a-z][a-z0-9_-]*\.[a-z]+$`)
	boots        = [][]string{{"check"}, {"crash", "judge"}}
	capabilities = strings.Fields(`
		CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID
		CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE
		CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW
		CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT
		CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE
		CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE
		CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE
		CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND
		CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)
)

// metaCheck collects what is wrong with a Meta.
type metaCheck struct {
	file  string
	lines *tomlLines
	found Problems
}

func (c *metaCheck) add(line int, format string, args ...any) {
	c.found = append(c.found, Problem{c.file, line, fmt.Sprintf(format, args...)})
}

// text judges a text that is shown to students: there, and on one line.
func (c *metaCheck) text(path, s string) {
	switch {
	case strings.TrimSpace(s) == "":
		c.add(c.lines.line(path), "%s is missing", lastKey(path))
	case strings.ContainsAny(s, "\n\r\t") || s != strings.TrimSpace(s):
		c.add(c.lines.line(path), "%s: one line, without space around it", lastKey(path))
	}
}

func (c *metaCheck) question(path, s string) {
	c.text(path, s)
	if s != "" && !strings.HasSuffix(s, "?") {
		c.add(c.lines.line(path), "%s: a question ends with a question mark", lastKey(path))
	}
}

// names judges a list of names: each of the right form, none twice.
func (c *metaCheck) names(path string, names []string, ok func(string) bool, want string) {
	seen := map[string]bool{}
	for _, n := range names {
		if !ok(n) {
			c.add(c.lines.line(path), "%s: %q: want %s", path, n, want)
		}
		if seen[n] {
			c.add(c.lines.line(path), "%s: %q is there twice", path, n)
		}
		seen[n] = true
	}
}

func (c *metaCheck) meta(m *Meta, md toml.MetaData) {
	if !md.IsDefined("number") {
		c.add(0, "number is missing")
	}
	c.text("title", m.Title)
	c.question("question", m.Question)
	if m.KernelMin != "" && !series.MatchString(m.KernelMin) {
		c.add(c.lines.line("kernel_min"), "kernel_min: %q: want a kernel series such as %q", m.KernelMin, DefaultKernelMin)
	}
	c.names("modules", m.Modules, moduleName.MatchString, "the name of a kernel module")
	c.names("capabilities", m.Capabilities, func(s string) bool { return slices.Contains(capabilities, s) },
		"a name of capabilities(7), CAP_NET_ADMIN say")
	c.names("keys", m.Keys, identifier.MatchString, "small letters, digits and _")
	c.names("trace", m.Trace, traceName.MatchString, `a kernel function, "group:event", or "sleep"`)
	if len(m.Boots) > 0 && !slices.ContainsFunc(boots, func(b []string) bool { return slices.Equal(b, m.Boots) }) {
		c.add(c.lines.line("boots"), `boots: want ["check"] or ["crash", "judge"]`)
	}
	c.names("files", m.Files, func(s string) bool { return fileName.MatchString(s) && !strings.HasSuffix(s, ".go") },
		"the name of a file that is no Go code, postmortem.toml say")
	c.params(m)
	c.steps(m)
	c.predictions(m, md)
}

func (c *metaCheck) params(m *Meta) {
	for _, module := range slices.Sorted(maps.Keys(m.Params)) {
		table := "params." + module
		if !slices.Contains(m.Modules, module) {
			c.add(c.lines.line(table), "%s: modules does not name %s", table, module)
		}
		if m.Params[module] == nil { // the library takes a number for it without a word
			c.add(c.lines.line(table), "%s: want a table of parameters", table)
		}
		for _, name := range slices.Sorted(maps.Keys(m.Params[module])) {
			path := table + "." + name
			switch v := m.Params[module][name].(type) {
			case bool, int64:
			case string:
				// The kernel splits a module's parameters at spaces.
				if v == "" || strings.ContainsAny(v, " \t\n\"") {
					c.add(c.lines.line(path), "%s: %q: a parameter has no space or quote in it and is not empty", path, v)
				}
			default:
				c.add(c.lines.line(path), "%s: a parameter is a number, a string, true or false", path)
			}
		}
	}
}

func (c *metaCheck) steps(m *Meta) {
	if len(m.Steps) == 0 {
		c.add(0, "there is no [[step]]: a lab has at least one")
	}
	for i, s := range m.Steps {
		path := "step[" + strconv.Itoa(i) + "]"
		c.text(path+".title", s.Title)
		if s.Points < 1 {
			c.add(c.lines.line(path+".points"), "points: a step has at least 1")
		}
		if !anchorName.MatchString(s.Read) {
			c.add(c.lines.line(path+".read"), `read: %q: want an anchor of README.md, "step-%d" say`, s.Read, i+1)
		}
	}
}

func (c *metaCheck) predictions(m *Meta, md toml.MetaData) {
	articles := 0 // 0 is a good index: what is missing shows in the keys only
	for _, key := range md.Keys() {
		if key.String() == "prediction.article" {
			articles++
		}
	}
	ids := map[string]bool{}
	for i, p := range m.Predictions {
		path := "prediction[" + strconv.Itoa(i) + "]"
		switch {
		case !identifier.MatchString(p.ID):
			c.add(c.lines.line(path+".id"), "id: %q: want small letters, digits and _", p.ID)
		case ids[p.ID]:
			c.add(c.lines.line(path+".id"), "id: %q is there twice", p.ID)
		}
		ids[p.ID] = true
		c.question(path+".question", p.Question)
		c.question(path+".think", p.Think)
		if len(p.Options) < 2 {
			c.add(c.lines.line(path+".options"), "options: want at least two")
		}
		seen := map[string]bool{}
		for _, o := range p.Options {
			c.text(path+".options", o)
			if seen[o] {
				c.add(c.lines.line(path+".options"), "options: %q is there twice", o)
			}
			seen[o] = true
		}
		if articles < len(m.Predictions) && c.lines.at[path+".article"] == 0 {
			c.add(c.lines.line(path), "article is missing: the index, from 0, of the option that the articles claim")
		} else if p.Article < 0 || p.Article >= len(p.Options) {
			c.add(c.lines.line(path+".article"), "article: %d: want the index, from 0, of one of the %d options", p.Article, len(p.Options))
		}
	}
}

// lastKey returns "points" for "step[2].points".
func lastKey(path string) string { return path[strings.LastIndex(path, ".")+1:] }

// tomlLines knows the lines on which the keys of a TOML text stand: the
// library tells positions of syntax errors only.
type tomlLines struct {
	at    map[string]int   // "step[1].points" to its line, "step[1]" to that of its header
	plain map[string][]int // "step.points" to every line that has it
}

var (
	tomlHeader = regexp.MustCompile(`^\s*(\[\[?)\s*([A-Za-z0-9_.-]+)\s*\]`)
	tomlKey    = regexp.MustCompile(`^\s*([A-Za-z0-9_.-]+)\s*=`)
	tomlIndex  = regexp.MustCompile(`\[[0-9]+\]`)
)

func keyLines(text string) *tomlLines {
	l := &tomlLines{at: map[string]int{}, plain: map[string][]int{}}
	set := func(path string, line int) {
		if l.at[path] == 0 {
			l.at[path] = line
		}
		plain := tomlIndex.ReplaceAllString(path, "")
		l.plain[plain] = append(l.plain[plain], line)
	}
	count := map[string]int{}
	prefix, inString := "", false
	for i, s := range strings.Split(text, "\n") {
		open := (strings.Count(s, `"""`)+strings.Count(s, `'''`))%2 == 1
		if inString {
			inString = !open
			continue
		}
		inString = open
		if h := tomlHeader.FindStringSubmatch(s); h != nil {
			prefix = h[2]
			if h[1] == "[[" {
				prefix = fmt.Sprintf("%s[%d]", h[2], count[h[2]])
				count[h[2]]++
			}
			set(prefix, i+1)
			prefix += "."
		} else if k := tomlKey.FindStringSubmatch(s); k != nil {
			set(prefix+k[1], i+1)
		}
	}
	return l
}

// line returns the line of a key, or of the table that it is missing from, or 0.
func (l *tomlLines) line(path string) int {
	if n := l.at[path]; n > 0 {
		return n
	}
	if i := strings.LastIndex(path, "."); i > 0 {
		return l.at[path[:i]]
	}
	return 0
}

// find returns the line of the n-th key, from 0, with that name in whichever
// of the tables of an array, or 0.
func (l *tomlLines) find(plain string, n int) int {
	lines := l.plain[plain]
	if len(lines) == 0 {
		return 0
	}
	return lines[min(n, len(lines)-1)]
}
