// SPDX-License-Identifier: MIT

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ModulePath is the import path of the workbook's Go module.
const ModulePath = "netlinklabs"

// Lab is one folder of labs/.
type Lab struct {
	// Name is the folder's, "04-slow-echo"; Number and Slug are its parts.
	Name   string
	Number int
	Slug   string
	// Root is the repository, Dir the lab's folder; both are absolute.
	Root, Dir string
	// Meta is what lab.toml says. It is not to be trusted where Err is set.
	Meta Meta
	// Err tells what is wrong with this lab, nil when nothing is. A broken
	// lab is kept in the catalogue, so that it breaks no other one and can
	// still be named.
	Err error
}

// Path returns the path of a file or folder of the lab.
func (l *Lab) Path(elem ...string) string {
	return filepath.Join(append([]string{l.Dir}, elem...)...)
}

// rel returns the path of a file of the lab as problems print it.
func (l *Lab) rel(elem ...string) string {
	return filepath.ToSlash(filepath.Join(append([]string{"labs", l.Name}, elem...)...))
}

// Catalogue is all labs of a repository, in the order of their numbers.
type Catalogue struct {
	Root string
	Labs []*Lab
}

// FindRoot returns the workbook's repository that dir is in: the nearest folder
// upwards whose go.mod is the workbook's.
func FindRoot(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the workbook's folder from %s: %w", dir, err)
	}
	for at := abs; ; at = filepath.Dir(at) {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if m := modulePath.FindSubmatch(text); err == nil && m != nil && string(m[1]) == ModulePath {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is in no checkout of Netlink Labs: change to the folder that holds its Makefile", abs)
		}
	}
}

// folderName is that of a lab: the number in two digits or more, and a slug.
var folderName = regexp.MustCompile(`^([0-9]{2,})-([a-z][a-z0-9]*(?:-[a-z0-9]+)*)$`)

// Open reads the catalogue of the repository at root. What is wrong with one
// lab is in that lab's Err; Open fails only when labs/ itself cannot be read.
func Open(root string) (*Catalogue, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open the labs of %s: %w", root, err)
	}
	entries, err := os.ReadDir(filepath.Join(root, "labs"))
	if err != nil {
		return nil, fmt.Errorf("open the labs: %w", err)
	}
	c := &Catalogue{Root: root}
	byNumber, bySlug := map[int]*Lab{}, map[string]*Lab{}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(root, "labs", e.Name())) // a link to a folder will do
		if err != nil || !info.IsDir() || strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "_") {
			continue
		}
		l := load(root, e.Name())
		if l == nil {
			continue
		}
		// The first keeps its good name.
		if other := byNumber[l.Number]; other != nil && l.Number >= 0 {
			l.broken(fmt.Sprintf("number %d is taken by labs/%s", l.Number, other.Name))
		} else {
			byNumber[l.Number] = l
		}
		if other := bySlug[l.Slug]; other != nil {
			l.broken(fmt.Sprintf("%q is the slug of labs/%s too", l.Slug, other.Name))
		} else {
			bySlug[l.Slug] = l
		}
		c.Labs = append(c.Labs, l)
	}
	slices.SortStableFunc(c.Labs, func(a, b *Lab) int { return cmp.Compare(a.Number, b.Number) })
	return c, nil
}

// broken adds to what is wrong with the lab's folder.
func (l *Lab) broken(text string) {
	l.Err = append(problems("labs/"+l.Name, l.Err), Problem{File: "labs/" + l.Name, Text: text})
}

// load returns the lab in labs/name, or nil where the folder is none.
func load(root, name string) *Lab {
	l := &Lab{Name: name, Number: -1, Slug: name, Root: root, Dir: filepath.Join(root, "labs", name)}
	file := l.rel("lab.toml")
	text, readErr := os.ReadFile(l.Path("lab.toml"))
	parts := folderName.FindStringSubmatch(name)
	if parts == nil {
		if errors.Is(readErr, fs.ErrNotExist) {
			return nil // no lab at all, and not our business
		}
		l.Err = Problems{{File: "labs/" + name, Text: "a lab's folder is named by its number in two digits and a slug, 04-slow-echo say"}}
		return l
	}
	l.Slug = parts[2]
	number, err := strconv.Atoi(parts[1])
	if err != nil {
		l.Err = Problems{{File: "labs/" + name, Text: "the number is too large"}}
		return l
	}
	l.Number = number
	if readErr != nil {
		l.Err = Problems{{File: file, Text: "cannot be read: " + unwrapPath(readErr).Error()}}
		return l
	}
	if l.Meta, err = parseMeta(file, string(text)); err != nil {
		l.Err = err
		return l
	}
	if l.Meta.Number != l.Number {
		l.Err = Problems{{file, keyLines(string(text)).line("number"),
			fmt.Sprintf("number = %d, but the folder's name says %d", l.Meta.Number, l.Number)}}
	}
	return l
}

// unwrapPath returns the reason in err without the path, which the message has already.
func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// NoSuchLabError says that a name is no lab's.
type NoSuchLabError struct {
	// Name is what was asked for.
	Name string
	// Labs are those that there are: "1 sendmsg".
	Labs []string
}

// Error lists the labs that there are.
func (e *NoSuchLabError) Error() string {
	if len(e.Labs) == 0 {
		return fmt.Sprintf("there is no lab %q: there are no labs at all in labs/", e.Name)
	}
	return fmt.Sprintf("there is no lab %q; the labs are:\n  %s", e.Name, strings.Join(e.Labs, "\n  "))
}

// Find returns the lab of that name: "3", "03", "lab-3", "port-ids" or
// "03-port-ids". It may be a broken one: see its Err. The error is a
// *NoSuchLabError.
func (c *Catalogue) Find(name string) (*Lab, error) {
	number, err := strconv.Atoi(strings.TrimPrefix(name, "lab-"))
	for _, l := range c.Labs {
		if err == nil && number >= 0 && l.Number == number || l.Slug == name || l.Name == name {
			return l, nil
		}
	}
	e := &NoSuchLabError{Name: name}
	for _, l := range c.Labs {
		if l.Number >= 0 {
			e.Labs = append(e.Labs, fmt.Sprintf("%d %s", l.Number, l.Slug))
		}
	}
	return nil, e
}
