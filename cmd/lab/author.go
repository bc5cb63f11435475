// SPDX-License-Identifier: MIT

package main

import (
	"errors"
	"fmt"
	"strconv"

	"netlinklabs/internal/kernel"
	"netlinklabs/internal/lab"
)

func isCode(err error) bool {
	var code *lab.CodeError
	return errors.As(err, &code)
}

// newLab writes the skeleton of a lab.
func (a *app) newLab(args []string) error {
	if len(args) != 2 {
		return usagef("new takes a number and a slug: lab new 7 neighbours")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return usagef("new: %q is not a number", args[0])
	}
	if err := lab.New(a.ctx, a.root, n, args[1]); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "labs/%02d-%s is there, and passes the form checks; docs/authoring.md says how to go on\n", n, args[1])
	return nil
}

// starter writes the starters of labs from their solutions.
func (a *app) starter(args []string) error {
	labs, err := a.labs(args)
	if err != nil {
		return err
	}
	for _, l := range labs {
		changed, err := l.WriteStarter()
		if err != nil {
			return err
		}
		state := "current"
		if changed {
			state = "written"
		}
		fmt.Fprintf(a.out, "labs/%s/starter/main.go: %s\n", l.Name, state)
	}
	return nil
}

// prepare fetches kernels and builds the modules for them, so that later runs
// need neither network nor patience.
func (a *app) prepare(args []string) error {
	if len(args) == 0 {
		args = []string{kernel.Default}
	}
	for _, spec := range args {
		k, err := kernel.Prepare(a.ctx, spec, a.progress.say)
		if err != nil {
			return err
		}
		for _, dir := range a.labModules() {
			if _, err := k.BuildModule(a.ctx, dir, a.progress.say); err != nil {
				return err
			}
		}
		a.progress.clear()
		fmt.Fprintf(a.out, "%-6s %s, modules built\n", spec, k.Release)
	}
	return nil
}
