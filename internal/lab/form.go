// SPDX-License-Identifier: MIT

package lab

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Sections are those of a lab's README.md, "## Name" each, in their order.
var Sections = []string{
	"The question",
	"What you will learn",
	"Predict",
	"Background",
	"Steps",
	"Run it",
	"What happened and why",
	"What the articles say",
	"Going further",
}

// LeastWrong is how many wrong answers a lab has at least, unless there is
// nothing to write in it.
const LeastWrong = 4

// Form judges the form of a lab: that all its parts are there, go with each
// other and compile. What they do is for the check to prove. The problems are
// sorted by file and line; none means that the form is sound.
func Form(ctx context.Context, l *Lab) []Problem {
	return judgeForm(l, func(f *form) { f.compiles(ctx) })
}

// judgeForm is Form with the slow part, compiles, as an argument.
func judgeForm(l *Lab, compiles func(*form)) []Problem {
	if l.Err != nil {
		return problems("labs/"+l.Name, l.Err)
	}
	f := &form{l: l}
	holes, err := l.Holes()
	f.err("solution/main.go", err)
	f.metadata()
	f.readme()
	_, err = l.Hints()
	f.err("hints.md", err)
	f.wrong(len(holes) > 0)
	if d, err := l.Drift(); err != nil {
		f.err("starter/main.go", err)
	} else if d != "" {
		f.add("starter/main.go", 0, "is not what the solution makes it: bin/lab starter %d", l.Number)
	}
	f.check()
	f.licences()
	compiles(f)
	// A solution that does not parse is told by each that needs it.
	slices.SortStableFunc(f.found, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(f.found)
}

// form collects what is wrong with the form of a lab.
type form struct {
	l     *Lab
	found Problems
}

func (f *form) add(file string, line int, format string, args ...any) {
	f.found = append(f.found, Problem{f.l.rel(file), line, fmt.Sprintf(format, args...)})
}

func (f *form) err(file string, err error) {
	f.found = append(f.found, problems(f.l.rel(file), err)...)
}

// read returns the text of a file, "" with a problem where it cannot be read.
func (f *form) read(file string) string {
	text, err := os.ReadFile(f.l.Path(file))
	if err != nil {
		f.add(file, 0, "cannot be read: %v", unwrapPath(err))
	}
	return string(text)
}

func (f *form) metadata() {
	if len(f.l.Meta.Predictions) == 0 {
		f.add("lab.toml", 0, "there is no [[prediction]]: a lab asks for one first")
	}
	solution := f.read("solution/main.go")
	for _, key := range f.l.Meta.Keys {
		if !strings.Contains(solution, key+"=") {
			f.add("lab.toml", 0, "keys: the solution prints no line %s=", key)
		}
	}
}

var (
	image      = regexp.MustCompile(`!\[[^\]]*\]\(([^)\s]+)\)`)
	stepNumber = regexp.MustCompile(`^Step ([0-9]+): \S`)
)

func (f *form) readme() {
	const file = "README.md"
	text := f.read(file)
	if text == "" {
		return
	}
	all := headings(text)
	title := fmt.Sprintf("Lab %d: %s", f.l.Number, f.l.Meta.Title)
	if len(all) == 0 || all[0].level != 1 || all[0].text != title {
		f.add(file, 1, "the first heading is # %s", title)
	}
	lines := strings.Split(text, "\n")
	section := map[string]string{} // from the heading to that of the next section
	var names []string
	var at []int
	steps := 0
	for i, h := range all {
		switch {
		case h.level == 1 && i > 0:
			f.add(file, h.line, "a second title: sections begin with ##")
		case h.level == 2:
			names, at = append(names, h.text), append(at, h.line)
			end := len(lines)
			for _, next := range all[i+1:] {
				if next.level <= 2 {
					end = next.line - 1
					break
				}
			}
			section[h.text] = strings.Join(lines[h.line:end], "\n")
			if strings.TrimSpace(section[h.text]) == "" {
				f.add(file, h.line, "the section %q is empty", h.text)
			}
		case h.level == 3 && len(names) > 0 && names[len(names)-1] == "Steps":
			steps++
			if m := stepNumber.FindStringSubmatch(h.text); m == nil || m[1] != strconv.Itoa(steps) {
				f.add(file, h.line, "%q: want ### Step %d: and its title", h.text, steps)
			}
		}
	}
	for i, name := range names {
		if i >= len(Sections) || name != Sections[i] {
			f.add(file, at[i], "the section %q: want %s, in this order", name, strings.Join(Sections, ", "))
			break
		}
	}
	if len(names) < len(Sections) {
		f.add(file, 0, "sections are missing, the first is ## %s", missing(names))
	}
	if steps != len(f.l.Meta.Steps) {
		f.add(file, 0, "it has %d steps under ## Steps, lab.toml has %d", steps, len(f.l.Meta.Steps))
	}
	known := anchors(text)
	for i, s := range f.l.Meta.Steps {
		if !known[s.Read] {
			f.add("lab.toml", 0, "read of step %d: README.md has no anchor %q", i+1, s.Read)
		}
	}
	for _, key := range f.l.Meta.Keys {
		if !strings.Contains(text, key+"=") {
			f.add(file, 0, "it does not tell the student to print a line %s=", key)
		}
	}
	f.pictures(text, section["Background"])
	f.shown(file, text, section["Run it"])
}

// missing returns the first section that is not among names.
func missing(names []string) string {
	for _, s := range Sections {
		if !slices.Contains(names, s) {
			return s
		}
	}
	return Sections[len(Sections)-1]
}

// pictures judges that the background has one, and that all are there.
func (f *form) pictures(text, background string) {
	drawn := slices.ContainsFunc(strings.Split(background, "\n"), fenceLine.MatchString)
	if background != "" && !drawn && !image.MatchString(background) {
		f.add("README.md", 0, "the background has no picture: message layout, lanes or addresses, drawn in a fenced block or as a file")
	}
	for i, line := range strings.Split(text, "\n") {
		for _, m := range image.FindAllStringSubmatch(line, -1) {
			if strings.Contains(m[1], "://") {
				f.add("README.md", i+1, "the picture %s is not in the repository: the labs are read offline too", m[1])
			} else if _, err := os.Stat(f.l.Path(filepath.FromSlash(m[1]))); err != nil {
				f.add("README.md", i+1, "the picture %s is missing", m[1])
			}
		}
	}
}

// shown judges the blocks of real output.
func (f *form) shown(file, text, run string) {
	_, err := OutputBlocks(f.l.rel(file), text)
	f.err(file, err)
	// An error in the section is one in the text, and told there.
	if blocks, _ := OutputBlocks("", run); err == nil && run != "" && len(blocks) == 0 {
		f.add(file, 0, "the section \"Run it\" shows no output of a real run: <!-- output: run --> and <!-- end -->")
	}
}

func (f *form) wrong(exercise bool) {
	answers, err := f.l.Wrong()
	f.err("testdata/wrong", err)
	if exercise && err == nil && len(answers) < LeastWrong {
		f.add("testdata/wrong", 0, "there are %d wrong answers: an exercise has at least %d", len(answers), LeastWrong)
	}
}

// checkImports are what a check may import of the workbook's own packages.
var checkImports = []string{ModulePath + "/internal/labtest", ModulePath + "/internal/trace"}

// namingCalls are the methods of labtest that name something of lab.toml, by
// the argument with that index.
var namingCalls = map[string]struct {
	kind string
	arg  int
}{
	"Step": {"step", 0}, "Answer": {"prediction", 0},
	"Key": {"key", 0}, "Keys": {"key", 0}, "Reported": {"key", 1},
}

// check compares what the check's source names with what lab.toml declares,
// as far as it names things by constants.
func (f *form) check() {
	files := f.tests()
	if len(files) == 0 {
		f.add("check", 0, "there is no test")
		return
	}
	uses := map[string]*named{}
	for _, kind := range []string{"step", "key", "prediction"} {
		uses[kind] = &named{at: map[string]token.Position{}}
	}
	fset := token.NewFileSet()
	for _, path := range files {
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return // the compiler tells
		}
		for _, spec := range file.Imports {
			if path, err := strconv.Unquote(spec.Path.Value); err == nil &&
				strings.HasPrefix(path, ModulePath+"/") && !slices.Contains(checkImports, path) {
				f.addAt(fset.Position(spec.Pos()), "imports %s: a check is written against %s", path, strings.Join(checkImports, " and "))
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if c, ok := namingCalls[sel.Sel.Name]; ok && len(call.Args) > c.arg {
				uses[c.kind].add(call.Args[c.arg], fset)
			}
			return true
		})
	}
	declared := map[string][]string{"key": f.l.Meta.Keys}
	for i := range f.l.Meta.Steps {
		declared["step"] = append(declared["step"], strconv.Itoa(i+1))
	}
	for _, p := range f.l.Meta.Predictions {
		declared["prediction"] = append(declared["prediction"], p.ID)
	}
	for kind, use := range uses {
		for name, pos := range use.at {
			if !slices.Contains(declared[kind], name) {
				f.addAt(pos, "the %s %s is not declared in lab.toml", kind, name)
			}
		}
		if use.other {
			continue // who knows what it names
		}
		for _, name := range declared[kind] {
			if _, ok := use.at[name]; !ok {
				f.add("lab.toml", 0, "the check never names the %s %s", kind, name)
			}
		}
	}
}

func (f *form) addAt(pos token.Position, format string, args ...any) {
	file, err := filepath.Rel(f.l.Dir, pos.Filename)
	if err != nil {
		file = pos.Filename
	}
	f.add(filepath.ToSlash(file), pos.Line, format, args...)
}

// named are the constants that calls of one kind have as an argument.
type named struct {
	at    map[string]token.Position
	other bool // one was no constant
}

func (n *named) add(arg ast.Expr, fset *token.FileSet) {
	lit, ok := arg.(*ast.BasicLit)
	if !ok {
		n.other = true
		return
	}
	name := lit.Value
	if s, err := strconv.Unquote(name); err == nil {
		name = s
	}
	if _, ok := n.at[name]; !ok {
		n.at[name] = fset.Position(lit.Pos())
	}
}

// licences judges the first line of each Go file.
func (f *form) licences() {
	err := filepath.WalkDir(f.l.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		line, _ := bufio.NewReader(file).ReadString('\n')
		if !strings.HasPrefix(line, "// SPDX-License-Identifier: ") {
			f.addAt(token.Position{Filename: path, Line: 1}, "want the licence first: // SPDX-License-Identifier: MIT")
		}
		return nil
	})
	f.err(".", err)
}

// compiles judges that solution, starter, wrong answers and check do. The go
// command is asked once for all of them, and links nothing.
func (f *form) compiles(ctx context.Context) {
	b := &Builder{Root: f.l.Root, Cwd: f.l.Root}
	dirs := []string{"solution", "starter"}
	answers, _ := f.l.Wrong() // its error was told
	for _, w := range answers {
		dirs = append(dirs, "testdata/wrong/"+w.Name)
	}
	var packages []string
	for _, dir := range dirs {
		path := f.l.Path(dir)
		pkg, err := b.inspect(path)
		if err == nil && pkg != nil {
			err = b.checkImports(path, pkg)
		}
		var code *CodeError
		switch {
		case errors.As(err, &code):
			f.output(dir, code.Output)
		case err != nil:
			f.add(dir, 0, "%v", err)
		default:
			packages = append(packages, "./"+f.l.rel(dir))
		}
	}
	if len(f.tests()) > 0 {
		packages = append(packages, "./"+f.l.rel("check"))
	}
	if len(packages) == 0 {
		return
	}
	args := append([]string{"list", "-export", "-test", "-f", `{{""}}`}, packages...)
	if text, err := b.run(ctx, "", f.l.Root, b.env(true), nil, args...); err != nil {
		if text = b.relative(f.l.Root, "", text); text == "" {
			text = err.Error()
		}
		f.output(".", text)
	}
}

// tests returns the files of the check.
func (f *form) tests() []string {
	files, _ := filepath.Glob(escapeGlob(f.l.Path("check")) + "/*_test.go") // the pattern is sound
	return files
}

var compilerLine = regexp.MustCompile(`^(\S.*?\.go):(?:(\d+)(?::\d+)?:)? (.*)$`)

// output adds what a compiler said about the lab: each line with a position,
// or the whole where there is none.
func (f *form) output(dir, text string) {
	positions := false
	for line := range strings.Lines(text) {
		if m := compilerLine.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			n, _ := strconv.Atoi(m[2]) // digits
			f.found = append(f.found, Problem{filepath.ToSlash(m[1]), n, m[3]})
			positions = true
		}
	}
	if !positions {
		f.add(dir, 0, "%s", strings.TrimSpace(text))
	}
}
