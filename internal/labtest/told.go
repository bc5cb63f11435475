// SPDX-License-Identifier: MIT

package labtest

import "netlinklabs/internal/trace"

// ToldAt returns the write with which the program told a line KEY=VALUE for the
// first time, whatever the value where that is "": the line was printed no earlier,
// and what it tells was known then.
func (r *Run) ToldAt(key, value string) trace.Event {
	var last trace.Event
	for _, l := range r.Lines {
		v, ok := keyValue(l, key)
		if !ok || value != "" && v != value {
			continue
		}
		for _, w := range r.Trace.Calls("write") {
			if w.Entry.Int("fd") == 1 && w.Entry.Time < l.Time {
				last = w.Entry
			}
		}
		break
	}
	return last
}
