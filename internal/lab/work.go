// SPDX-License-Identifier: MIT

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Workspace is the folder that holds a student's own code and progress, one
// folder for each lab.
type Workspace struct {
	// Dir is absolute.
	Dir string
	// Note is something that the student has to be told about Dir, or "".
	Note string
}

// OpenWorkspace returns the student's folder: that of the variable WORK where
// it is set (from the folder cwd), else work/ of the repository, else, where
// the repository is read-only, a folder of the user's own, with a Note.
// getenv is os.Getenv, except in tests.
func OpenWorkspace(root, cwd string, getenv func(string) string) (Workspace, error) {
	if dir := getenv("WORK"); dir != "" {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(cwd, dir)
		}
		if err := writable(dir); err != nil {
			return Workspace{}, fmt.Errorf("WORK=%s cannot hold your code: %w", getenv("WORK"), err)
		}
		return Workspace{Dir: filepath.Clean(dir)}, nil
	}
	dir := filepath.Join(root, "work")
	err := writable(dir)
	if err == nil {
		return Workspace{Dir: dir}, nil
	}
	if !errors.Is(err, syscall.EROFS) && !errors.Is(err, fs.ErrPermission) {
		return Workspace{}, fmt.Errorf("the folder for your code: %w", err)
	}
	data := getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) { // the specification has relative ones ignored
		if getenv("HOME") == "" {
			return Workspace{}, fmt.Errorf("%s cannot be written: say WORK=DIR for a folder that can hold your code", dir)
		}
		data = filepath.Join(getenv("HOME"), ".local", "share")
	}
	own := filepath.Join(data, "netlink-labs", "work")
	if err := writable(own); err != nil {
		return Workspace{}, fmt.Errorf("neither %s nor %s can be written: say WORK=DIR for a folder that can hold your code: %w", dir, own, err)
	}
	return Workspace{
		Dir:  own,
		Note: fmt.Sprintf("%s cannot be written: your code is in %s (WORK=DIR chooses another folder)", dir, own),
	}, nil
}

// writable makes dir, and tells why no file can be made in it.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	// access(2) would not do: it knows nothing of a full disk or a quota.
	f, err := os.CreateTemp(dir, ".try-*")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

// LabDir returns the folder of the student's code for a lab. It may not be
// there yet: see Ensure.
func (w Workspace) LabDir(l *Lab) string { return filepath.Join(w.Dir, l.Name) }

// backupPrefix is that of the folders that Reset moves old code into. A folder
// is not compiled with the files beside it.
const backupPrefix = "backup-"

// own tells whether an entry of a student's folder is the student's code:
// not a backup, nor hidden, as the state of this package and a version
// control's or an editor's folder are.
func own(e fs.DirEntry) bool {
	return !strings.HasPrefix(e.Name(), ".") && !(e.IsDir() && strings.HasPrefix(e.Name(), backupPrefix))
}

// Ensure makes the student's folder for a lab from its starter, with the steps
// before start solved (see Lab.Starter), unless there is code in it already.
// It tells whether it did.
func (w Workspace) Ensure(l *Lab, start int) (created bool, err error) {
	dir := w.LabDir(l)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("your code for lab %d: %w", l.Number, err)
	}
	if slices.ContainsFunc(entries, own) {
		return false, nil
	}
	files, err := StartFiles(l, start)
	if err != nil {
		return false, err
	}
	return true, writeStarter(l, dir, files)
}

// Reset moves the student's code of a lab into a folder of its own beside it,
// named by the time, and puts the starter there anew, with the steps before
// start solved. It returns the backup's path, or "" where there was nothing to
// keep. Hints, predictions and hidden files stay.
func (w Workspace) Reset(l *Lab, start int) (backup string, err error) {
	files, err := StartFiles(l, start) // before anything is touched
	if err != nil {
		return "", err
	}
	dir := w.LabDir(l)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reset lab %d: %w", l.Number, err)
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !own(e) })
	if len(entries) > 0 {
		if backup, err = newBackup(dir, time.Now()); err != nil {
			return "", fmt.Errorf("reset lab %d: %w", l.Number, err)
		}
		for _, e := range entries {
			if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(backup, e.Name())); err != nil {
				return backup, fmt.Errorf("reset lab %d, halfway: what was moved is in %s: %w", l.Number, backup, err)
			}
		}
	}
	return backup, writeStarter(l, dir, files)
}

// newBackup makes a backup folder that is not there yet.
func newBackup(dir string, now time.Time) (string, error) {
	base := filepath.Join(dir, backupPrefix+now.Format("20060102-150405"))
	for n, path := 2, base; ; n, path = n+1, fmt.Sprintf("%s-%d", base, n) {
		err := os.Mkdir(path, 0o777)
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return path, err
		}
	}
}

// StartFiles returns what a student starts from, by name: main.go, what else the
// student writes, and what else is in the lab's starter folder. The steps before
// start are solved.
func StartFiles(l *Lab, start int) (map[string][]byte, error) {
	start = max(start, 1)
	main, err := l.Starter(start)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	entries, err := os.ReadDir(l.Path("starter"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the starter of lab %d: %w", l.Number, err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if files[e.Name()], err = os.ReadFile(l.Path("starter", e.Name())); err != nil {
			return nil, fmt.Errorf("the starter of lab %d: %w", l.Number, err)
		}
	}
	files["main.go"] = main
	for _, name := range l.Meta.Files {
		text, err := l.startFile(name, start)
		if err != nil {
			return nil, err
		}
		files[name] = []byte(text)
	}
	return files, nil
}

func writeStarter(l *Lab, dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("your code for lab %d: %w", l.Number, err)
	}
	for name, text := range files {
		if err := writeFile(filepath.Join(dir, name), text); err != nil {
			return fmt.Errorf("your code for lab %d: %w", l.Number, err)
		}
	}
	return nil
}

// StudentSource returns all Go code of a folder as one text, to be shown
// beside the solution: main.go first, each other file under a line with its name.
func StudentSource(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("read the code: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), ".go") && own(e) {
			names = append(names, e.Name())
		}
	}
	if i := slices.Index(names, "main.go"); i > 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, "main.go")
	}
	var buf bytes.Buffer
	for i, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("read the code: %w", err)
		}
		if i > 0 {
			fmt.Fprintf(&buf, "\n// %s:\n\n", name)
		}
		buf.Write(text)
	}
	return buf.String(), nil
}
