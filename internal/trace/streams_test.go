// SPDX-License-Identifier: MIT

package trace

import (
	"os"
	"testing"
)

func checkRecording(t *testing.T, r *Recording) {
	events, err := r.Events()
	if err != nil {
		t.Fatal(err)
	}
	tr := New(events...)
	p := tr.Program(r.PID, "")
	_ = p
	WriteText(os.Stdout, p.Timeline(), Style{Width: 100})
	n := map[string]int{}
	for _, e := range tr.Events() {
		n[e.Name]++
	}
	t.Log(n)
	f, _ := os.Create("/tmp/trc/x.svg")
	WriteSVG(f, p.Timeline(), "Lab 0: first contact")
	f.Close()
}
func TestX(t *testing.T) { r := load(t, "/tmp/trc/out/6.1.trace.gz"); checkRecording(t, r) }
