// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"

	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

// What is left of a kernel that died: its own words, and what it was seen to do.
const (
	consoleFile = "console.log"
	eventsFile  = "events.log"
)

// keepCrash writes down, in the student's folder, what is left of a boot that was
// meant to die. Without room for it there is a note, and the verdict stands.
func (a *app) keepCrash(dir string, tr *trace.Trace, console []byte) {
	var events bytes.Buffer
	for _, e := range tr.Program(0, wire.ProgramPath).Events() {
		events.WriteString(e.String() + "\n")
	}
	if _, job, ok := bytes.Cut(console, []byte(wire.BootedLine)); ok {
		console = job
	}
	for name, text := range map[string][]byte{consoleFile: printableLog(console), eventsFile: events.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			a.note("keeping what is left of the kernel: %v", err)
		}
	}
}

var unprintable = regexp.MustCompile(`[^\n\t -~]`)

// printableLog is a console's log as a text file.
func printableLog(b []byte) []byte {
	return append(bytes.TrimSpace(unprintable.ReplaceAll(b, nil)), '\n')
}
