// SPDX-License-Identifier: MIT

package trace

import "testing"

func checkRecording(t *testing.T, r *Recording) {
	events, err := r.Events()
	if err != nil {
		t.Fatal(err)
	}
	tr := New(events...)
	p := tr.Program(r.PID, "")
	for _, s := range p.Timeline() {
		t.Logf("%d %d %d %s", s.Lane, s.Arrow, s.Depth, s.Text)
	}
}
