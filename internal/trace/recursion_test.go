// SPDX-License-Identifier: MIT

package trace

import "testing"

// Two messages recurse, the second one deeper; the callback returns in between.
func TestDeepestRecursion(t *testing.T) {
	for _, tt := range []struct {
		name   string
		inputs [][2]int // depth, stack_left
		levels int
		bytes  int
	}{
		{"no message", nil, 0, 0},
		{"no recursion", [][2]int{{1, 900}, {1, 900}}, 1, 0},
		{"the deeper one", [][2]int{{1, 900}, {2, 500}, {1, 880}, {2, 480}, {3, 80}}, 3, 400},
		{"one level, several times", [][2]int{{1, 900}, {2, 500}, {2, 500}, {3, 100}, {2, 500}}, 3, 400},
		{"of no one size", [][2]int{{1, 900}, {2, 500}, {3, 200}}, 3, 0},
	} {
		tr := New()
		tr.Add(Event{Seq: 1, Time: 1, Task: 10, Name: Exec}.With("pid", int64(10)).With("filename", "/prog"))
		for i, in := range tt.inputs {
			tr.Add(Event{Seq: i + 2, Time: int64(i + 2), Task: 10, Name: EchoInput}.
				With("id", uint64(i+1)).With("depth", uint64(in[0])).With("stack_left", uint64(in[1])))
		}
		r := tr.Program(10, "prog").Recursion()
		if r.Levels != tt.levels || r.BytesALevel != tt.bytes || len(r.Inputs) != r.Levels {
			t.Errorf("%s: %d levels of %d bytes, want %d of %d", tt.name, r.Levels, r.BytesALevel, tt.levels, tt.bytes)
		}
	}
}
