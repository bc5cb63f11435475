// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"netlinklabs/internal/cache"
)

// bugTests is the package whose tests show the bugs of docs/bugs.md, TestB5 that of
// the name B5.
const bugTests = "./kmod/nlbugs/test"

// bug shows in the VM what a bug of the articles' programs does. It fails when the
// kernel dies of it: that is exec's word, and what some of them are about.
func (a *app) bug(args []string) error {
	if len(args) != 1 || strings.HasPrefix(args[0], "-") {
		return usagef("bug wants the name of one: bin/lab bug B5, see docs/bugs.md")
	}
	os.Setenv("KILL", "1") // it is asked for by its name
	return a.runBugs(args[0], "-test.run=^Test"+regexp.QuoteMeta(args[0])+"$")
}

// runBugs builds the tests and the articles' clients, and runs the tests in the VM.
// name is one that must be among them, or "". Memory is not zeroed there when it is
// given out, because that hides B2.
func (a *app) runBugs(name string, flags ...string) error {
	if err := a.need(forLabs); err != nil {
		return err
	}
	dir, remove, err := cache.Scratch()
	if err != nil {
		return err
	}
	defer remove()
	program := filepath.Join(dir, "bugs.test")
	out, err := a.command(a.ctx, goEnv(), "go", "test", "-c", "-o", program, bugTests)
	if err != nil {
		return fmt.Errorf("building the tests: %w\n%s", err, out)
	}
	list, err := a.command(a.ctx, os.Environ(), program, "-test.list=^TestB")
	if err != nil {
		return fmt.Errorf("listing the tests: %w\n%s", err, list)
	}
	names := strings.Fields(strings.ReplaceAll(list, "Test", ""))
	if name != "" && !slices.Contains(names, name) {
		return usagef("there is nothing to run for %q, but for %s", name, strings.Join(names, ", "))
	}
	if gcc, err := exec.LookPath("gcc"); err == nil { // a test that wants the clients skips if not
		for _, client := range []string{"client1", "client2"} {
			out, err := a.command(a.ctx, os.Environ(), gcc, "-static", "-include", "kmod/nlbugs/testdata/articles.h",
				"-o", filepath.Join(dir, client), "labs/02-sendto/testdata/articles/"+client+".c")
			if err != nil {
				return fmt.Errorf("building %s: %w\n%s", client, err, out)
			}
		}
	}
	// exec takes the working folder into the VM, with the clients in it.
	was, err := os.Getwd()
	if err == nil {
		err = os.Chdir(dir)
	}
	if err != nil {
		return err
	}
	defer os.Chdir(was)
	return a.exec(append([]string{"-module", "nlbugs", "-boot", "init_on_alloc=0", program}, flags...))
}

// bugOutputs returns what bug prints for each bug that the kernel survives, by its
// name, from one boot.
func (a *app) bugOutputs() (map[string]string, error) {
	var out bytes.Buffer
	p := a.plain(&out)
	p.err = io.Discard
	os.Unsetenv("KILL")
	if err := p.runBugs("", "-test.v"); err != nil {
		return nil, errors.Join(err, errors.New(out.String()))
	}
	outputs := map[string]string{}
	name, text := "", ""
	for line := range strings.Lines(out.String()) {
		if _, after, ok := strings.Cut(line, "=== RUN   Test"); ok {
			name, text = strings.TrimSpace(after), ""
		} else if strings.HasPrefix(line, "--- PASS") {
			outputs[name] = text + "PASS\n"
		} else {
			text += line
		}
	}
	return outputs, nil
}
