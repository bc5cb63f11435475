// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"netlinklabs/internal/lab"
	"netlinklabs/internal/place"
)

// setting is a module parameter for one run, on top of those of lab.toml.
type setting struct{ name, value string }

func (s setting) String() string { return s.name + "=" + s.value }

// settings are those that a run was asked for.
type settings []setting

var parameterName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// parseSettings reads the variables PARAMS, "name=value name=value", and DELAY,
// which is short for delay_ms.
func parseSettings(params, delay string) (settings, error) {
	var out settings
	for _, field := range strings.Fields(params) {
		name, value, ok := strings.Cut(field, "=")
		switch {
		case !ok || !parameterName.MatchString(name) || value == "" || strings.ContainsAny(value, `="`):
			return nil, usagef("PARAMS=%q: %q is not name=value. For example: PARAMS=\"replies=3 defer=1\"", params, field)
		case name == "hold" && value != "0", name == "release", name == "stop", name == "max_depth":
			return nil, usagef("PARAMS=%q: %s is for checks, which let nlecho go on; in a run nobody does. A long pause does as well: DELAY=2000", params, name)
		case out.has(name):
			return nil, usagef("PARAMS=%q: %s is there twice", params, name)
		}
		out = append(out, setting{name, value})
	}
	if delay != "" {
		if _, err := strconv.ParseUint(delay, 10, 32); err != nil {
			return nil, usagef("DELAY=%s: it is a number of milliseconds, 3000 say", delay)
		}
		if out.has("delay_ms") {
			return nil, usagef("DELAY=%s: PARAMS has delay_ms already", delay)
		}
		out = append(out, setting{"delay_ms", delay})
	}
	return out, nil
}

func (ss settings) has(name string) bool {
	return slices.ContainsFunc(ss, func(s setting) bool { return s.name == name })
}

func (ss settings) String() string {
	var words []string
	for _, s := range ss {
		words = append(words, s.String())
	}
	return strings.Join(words, " ")
}

// apply gives each setting to the module that has such a parameter. The kernel
// would not do for a check of the names: it loads a module all the same.
func (ss settings) apply(modules []place.Module) error {
	for _, s := range ss {
		var known []string
		found := false
		for i := range modules {
			names, err := parameters(modules[i])
			if err != nil {
				return err
			}
			if slices.Contains(names, s.name) {
				// The last one of a name counts: that of lab.toml is before it.
				modules[i].Params = strings.TrimSpace(modules[i].Params + " " + s.String())
				found = true
				break
			}
			known = append(known, names...)
		}
		switch {
		case len(modules) == 0:
			return usagef("%s: this lab loads no module", s)
		case !found:
			return usagef("%s: no module of this lab has the parameter %s; there are %s", s, s.name, strings.Join(known, ", "))
		}
	}
	return nil
}

// parameters returns the names of a module's parameters, sorted, those left out
// that are for checks.
func parameters(m place.Module) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(m.Data))
	if err != nil {
		return nil, fmt.Errorf("reading the module %s: %w", m.Name, err)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, nil
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("reading the module %s: %w", m.Name, err)
	}
	var names []string
	for entry := range strings.SplitSeq(string(data), "\x00") {
		if parm, ok := strings.CutPrefix(entry, "parm="); ok {
			name, _, _ := strings.Cut(parm, ":")
			if !slices.Contains([]string{"release", "stop", "max_depth"}, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// pauses is how long nlecho waits to answer one message: a run may take that much
// longer than others.
func (ss settings) pauses(l *lab.Lab) time.Duration {
	if !slices.Contains(l.Meta.Modules, "nlecho") {
		return 0
	}
	number := map[string]int64{"replies": 10, "delay_ms": 3000} // the module's own
	for name := range number {
		for _, p := range append(l.Meta.ModuleParams("nlecho"), strings.Fields(ss.String())...) {
			if key, value, _ := strings.Cut(p, "="); key == name {
				if n, err := strconv.ParseInt(value, 10, 32); err == nil {
					number[name] = n
				}
			}
		}
	}
	return time.Duration(number["replies"]) * time.Duration(number["delay_ms"]) * time.Millisecond
}
