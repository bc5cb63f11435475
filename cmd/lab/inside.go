// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"netlinklabs/internal/cache"
	"netlinklabs/internal/lab"
	"netlinklabs/internal/report"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// insideVersion is that of request and answer: what stands in the VM may be older
// than what asks.
const insideVersion = 1

// request asks the tool in the Vagrant VM to check or run a program, one JSON value
// on its standard input. The end of the input ends what is under way.
type request struct {
	Lab     string // NN-slug
	Program []byte // the executable
	// Files are what the student wrote beside the program, by name.
	Files map[string][]byte
	Env   map[string]string // variables of insideEnv
	// Run asks for a run in place of a check.
	Run    bool
	Args   []string // of the program, in a run
	Params string   // as PARAMS
}

// insideEnv are the variables that go with a request.
var insideEnv = []string{"KERNEL", "ACCEL", "V"}

// answer is one JSON value on the standard output. Each fills in one field, but for
// the last one to a request, which says so.
type answer struct {
	Version int           `json:",omitempty"` // the first of all
	Say     string        `json:",omitempty"` // progress
	Text    []byte        `json:",omitempty"` // for the standard error
	Boot    string        `json:",omitempty"` // name of Earlier
	Earlier *wire.Earlier `json:",omitempty"`
	Event   *trace.Event  `json:",omitempty"`

	Report  *report.Report `json:",omitempty"`
	Result  *vm.Result     `json:",omitempty"` // of a run
	Problem string         `json:",omitempty"` // why there is neither
	Usage   bool           `json:",omitempty"` // it is about the arguments
	Last    bool           `json:",omitempty"`
}

// inside is the other end of WHERE=vagrant, in the VM.
func (a *app) inside(args []string) error {
	if len(args) > 0 {
		return usagef("inside takes no arguments: WHERE=vagrant calls it")
	}
	// Who has asked may be gone when there is something to say. That is no reason to
	// die before all is cleaned up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	a.ctx = ctx
	requests := make(chan request)
	go func() {
		defer close(requests)
		defer cancel()
		for in := json.NewDecoder(os.Stdin); ; {
			var r request
			if in.Decode(&r) != nil {
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	var mu sync.Mutex
	out := json.NewEncoder(a.out)
	send := func(x answer) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(x)
	}
	a.err = writerFunc(func(b []byte) { send(answer{Text: b}) })
	a.progress = newProgress(writerFunc(func(b []byte) { send(answer{Say: string(bytes.TrimSpace(b))}) }), false)
	send(answer{Version: insideVersion})
	for r := range requests {
		last, err := a.serve(r, send)
		if ctx.Err() != nil {
			return nil // nobody listens
		}
		if err != nil {
			last = answer{Problem: err.Error(), Usage: errors.As(err, new(usageError))}
		}
		last.Last = true
		send(last)
	}
	return nil
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// serve does what is asked for, in a folder of its own: the work/ that is in the VM
// is somebody else's.
func (a *app) serve(r request, send func(answer)) (answer, error) {
	l, err := a.lab(r.Lab)
	if err != nil {
		return answer{}, err
	}
	for _, name := range insideEnv {
		os.Setenv(name, r.Env[name])
	}
	a.verbose = r.Env["V"] == "1"
	dir, remove, err := cache.Scratch()
	if err != nil {
		return answer{}, err
	}
	defer remove()
	src := source{program: filepath.Join(dir, "program"), earlier: func(boot string, left wire.Earlier) {
		send(answer{Boot: boot, Earlier: &left})
	}}
	if err := os.WriteFile(src.program, r.Program, 0o755); err != nil {
		return answer{}, err
	}
	if err := lab.CheckProgram(src.program, ""); err != nil { // another architecture's
		return answer{}, err
	}
	for name, text := range r.Files {
		if !slices.Contains(l.Meta.Files, name) {
			return answer{}, fmt.Errorf("lab %d has no file %s: is the project in the VM another one?", l.Number, name)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return answer{}, err
		}
	}
	if !r.Run {
		rep, err := a.checkOne(l, src)
		return answer{Report: rep}, err
	}
	params, err := parseSettings(r.Params, "")
	if err != nil {
		return answer{}, err
	}
	res, err := a.program(l, src, params, r.Args, func(e trace.Event) { send(answer{Event: &e}) })
	return answer{Result: res}, err
}
