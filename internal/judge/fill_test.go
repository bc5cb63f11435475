// SPDX-License-Identifier: MIT

package judge

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

func TestFill(t *testing.T) {
	var left wire.Earlier
	events := []trace.Event{
		trace.Event{Name: trace.Exec, Task: 7}.With("pid", int64(7)).With("filename", wire.ProgramPath),
		trace.Event{Name: trace.EchoInput, Task: 7}.With("id", uint64(1)).With("depth", uint64(1)).With("stack_left", uint64(1000)),
		trace.Event{Name: trace.EchoInput, Task: 7}.With("id", uint64(2)).With("depth", uint64(2)).With("stack_left", uint64(600)),
	}
	for i, e := range events {
		e.Seq, e.Time = i+1, int64(i+1)
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		left.Records = append(left.Records, wire.Record{Kind: wire.KindEvent, Event: b})
	}
	got := fill(map[string][]byte{
		"a": []byte("levels = {{.Levels}}, {{add .Levels -1}}; bytes = {{.BytesALevel}}"),
		"b": []byte("{{ is what a student wrote"),
		"c": []byte("{{.NoSuchThing}}"),
	}, left)
	want := map[string][]byte{
		"a": []byte("levels = 2, 1; bytes = 400"),
		"b": []byte("{{ is what a student wrote"),
		"c": []byte("{{.NoSuchThing}}"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("filled (-want +got):\n%s", diff)
	}
}
