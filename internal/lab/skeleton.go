// SPDX-License-Identifier: MIT

package lab

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed skeleton
var skeletonFiles embed.FS

// skeletonWrong are the wrong answers of a new lab, by their names: mistakes
// in the program of wrong.go.tmpl.
var skeletonWrong = map[string]wrongParts{
	"big-endian": {
		Step: 1, Words: "not in the machine's own order",
		Why:   "Network protocols taught people to write numbers big endian; Netlink never leaves the machine.",
		Order: "BigEndian", Length: "21", Read: readIt, From: "16",
	},
	"payload-only": {
		Step: 1, Words: "the length does not count the header",
		Why:   "In most protocols a length counts what follows the header, so people write that of the text.",
		Order: "NativeEndian", Length: "5", Read: readIt, From: "16",
	},
	"made-up": {
		Step: 2, Words: "nothing was read",
		Why:   "The answer is known from the text of the lab, and printing it seems to be enough.",
		Order: "NativeEndian", Length: "21", Read: `copy(buf[16:], "I am from kernel!")`, From: "16",
	},
	"with-header": {
		Step: 2, Words: "the text begins behind the header",
		Why:   "A read from most sockets gives the data alone, and people forget that Netlink gives the header too.",
		Order: "NativeEndian", Length: "21", Read: readIt, From: "0",
	},
}

const readIt = "if _, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); err != nil {\n\t\tpanic(err)\n\t}"

// wrongParts are what differs between the wrong answers of a new lab.
type wrongParts struct {
	Step                      int
	Words, Why                string
	Order, Length, Read, From string
}

// New writes the skeleton of a lab into labs/NN-slug of the repository at
// root: a small one that works and passes Form, for its author to replace part
// by part. Nothing is written where the number or the slug is taken.
func New(ctx context.Context, root string, number int, slug string) error {
	name := fmt.Sprintf("%02d-%s", number, slug)
	if number < 0 || folderName.FindStringSubmatch(name) == nil {
		return fmt.Errorf("a new lab %d %q: want a number from 0 and a slug of small letters, digits and -", number, slug)
	}
	c, err := Open(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c != nil {
		for _, l := range c.Labs {
			if l.Number == number || l.Slug == slug {
				return fmt.Errorf("a new lab %d %q: labs/%s has the number or the slug", number, slug, l.Name)
			}
		}
	}
	labs := filepath.Join(root, "labs")
	if err := os.MkdirAll(labs, 0o777); err != nil {
		return fmt.Errorf("a new lab: %w", err)
	}
	// Hidden until it is whole.
	tmp, err := os.MkdirTemp(labs, ".new-*")
	if err != nil {
		return fmt.Errorf("a new lab: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("a new lab: %w", err)
	}
	if err := writeSkeleton(tmp, number, slug); err != nil {
		return fmt.Errorf("a new lab: %w", err)
	}
	dir := filepath.Join(labs, name)
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("a new lab: %w", err)
	}
	l := load(root, name)
	if _, err := l.WriteStarter(); err != nil {
		return err
	}
	if ps := Form(ctx, l); len(ps) > 0 {
		return fmt.Errorf("the new lab in labs/%s is not as it should be: %w", name, Problems(ps))
	}
	return nil
}

func writeSkeleton(dir string, number int, slug string) error {
	title := strings.ReplaceAll(slug, "-", " ")
	title = strings.ToUpper(title[:1]) + title[1:]
	data := struct {
		Number      int
		Slug, Title string
		Wrong       wrongParts
	}{Number: number, Slug: slug, Title: title}
	files := map[string]string{
		"README.md":           "README.md",
		"lab.toml":            "lab.toml",
		"hints.md":            "hints.md",
		"solution/main.go":    "solution.go.tmpl",
		"check/check_test.go": "check_test.go.tmpl",
	}
	for wrong := range skeletonWrong {
		files["testdata/wrong/"+wrong+"/main.go"] = "wrong.go.tmpl"
	}
	tmpl, err := template.ParseFS(skeletonFiles, "skeleton/*")
	if err != nil {
		return err
	}
	for name, from := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		data.Wrong = skeletonWrong[filepath.Base(filepath.Dir(path))]
		var text strings.Builder
		if err := tmpl.ExecuteTemplate(&text, from, data); err != nil {
			return err
		}
		if err := writeFile(path, []byte(text.String())); err != nil {
			return err
		}
	}
	return nil
}
