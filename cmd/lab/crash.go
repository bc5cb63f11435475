// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"netlinklabs/internal/lab"
	"netlinklabs/internal/text"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// What is left of a kernel that died: its own words, and what it was seen to do.
const (
	consoleFile = "console.log"
	eventsFile  = "events.log"
)

// meantToDie tells whether the kernel of a run died in a lab that is about that.
func meantToDie(l *lab.Lab, res *vm.Result) bool {
	return res.Verdict == vm.Panicked && l.Meta.Boots[0] == "crash"
}

// lastWords prints what the kernel said when it died: its complaints, without the
// context that is indented behind them, which differs each time.
func (a *app) lastWords(l *lab.Lab, res *vm.Result) {
	fmt.Fprintf(a.out, "\nThe kernel died, and that is what lab %d is about. Its last words:\n\n", l.Number)
	for _, line := range res.Excerpt {
		if !strings.HasPrefix(line, " ") {
			fmt.Fprintf(a.out, "  %s\n", strings.Join(text.Wrap(line, 76), "\n    "))
		}
	}
}

// keepCrash writes down, in the student's folder, what is left of a boot that was
// meant to die, and tells whether it could. Without room for it there is a note, and
// the verdict stands.
func (a *app) keepCrash(dir string, tr *trace.Trace, console []byte) bool {
	var events bytes.Buffer
	for _, e := range tr.Program(0, wire.ProgramPath).Events() {
		events.WriteString(e.String() + "\n")
	}
	if _, job, ok := bytes.Cut(console, []byte(wire.BootedLine)); ok {
		console = job
	}
	for name, log := range map[string][]byte{consoleFile: printableLog(console), eventsFile: events.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), log, 0o644); err != nil {
			a.note("keeping what is left of the kernel: %v", err)
			return false
		}
	}
	return true
}

var unprintable = regexp.MustCompile(`[^\n\t -~]`)

// printableLog is a console's log as a text file.
func printableLog(b []byte) []byte {
	return append(bytes.TrimSpace(unprintable.ReplaceAll(b, nil)), '\n')
}
