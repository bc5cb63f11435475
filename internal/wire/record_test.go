// SPDX-License-Identifier: MIT

package wire_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"netlinklabs/internal/wire"
)

func TestRecordsAreWholeLines(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// Records takes its descriptor over, as a check does with the one it inherits.
	fd, err := unix.Dup(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Setenv(wire.EnvRecords, fmt.Sprint(fd))
	records, err := wire.OpenRecords("crash")
	if err != nil {
		t.Fatal(err)
	}
	const senders, each = 4, 200
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			for range each {
				records.Send(wire.Record{Kind: wire.KindNote, Text: strings.Repeat("a line\n", 100*i)})
			}
		})
	}
	seen := 0
	s := bufio.NewScanner(r)
	for ; seen < senders*each && s.Scan(); seen++ {
		var rec wire.Record
		if err := json.Unmarshal(s.Bytes(), &rec); err != nil {
			t.Fatalf("line %d: %v: %q", seen, err, s.Text())
		}
		if rec.Kind != wire.KindNote || rec.Boot != "crash" {
			t.Fatalf("line %d: %q", seen, s.Text())
		}
	}
	wg.Wait()
	if seen != senders*each {
		t.Fatalf("read %d records of %d: %v", seen, senders*each, s.Err())
	}
	r.Close()
	defer func() {
		if msg := fmt.Sprint(recover()); !strings.Contains(msg, "sending a record") {
			t.Errorf("with nobody listening Send panicked with %q, want it to say what it did", msg)
		}
	}()
	records.Send(wire.Record{Kind: wire.KindEnd})
}

func TestOpenRecordsElsewhere(t *testing.T) {
	for _, v := range []string{"", "x"} {
		t.Setenv(wire.EnvRecords, v)
		if _, err := wire.OpenRecords(""); err == nil || !strings.Contains(err.Error(), wire.EnvRecords) {
			t.Errorf("with %q: got %v, want the variable named", v, err)
		}
	}
}

func TestLoadLab(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lab.json")
	load := func(env string) (*wire.Lab, error) {
		t.Setenv(wire.EnvLab, env)
		return wire.LoadLab()
	}
	if _, err := load(""); err == nil || !strings.Contains(err.Error(), wire.EnvLab) {
		t.Errorf("without the variable: got %v, want it named", err)
	}
	if _, err := load(path); err == nil {
		t.Error("without the file there was no error")
	}
	if err := os.WriteFile(path, []byte(`{"number":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("with half a file: got %v, want it named", err)
	}
	want := &wire.Lab{Number: 4, Name: "04-slow-echo", Steps: []wire.LabStep{{Title: "t", Points: 2, Read: "step-1"}},
		Modules: []wire.Module{{Name: "nlecho", Path: "/x", Params: "hold=1"}}, Boot: "crash", Boots: []string{"crash", "judge"}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what was read is not what was written (-want +got):\n%s", diff)
	}
}
