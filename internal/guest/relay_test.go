// SPDX-License-Identifier: MIT

package guest

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"netlinklabs/internal/wire"
)

// The records of a check that cannot be carried any further are a fault of the place,
// never the end of a check that has said nothing.
func TestLinesFault(t *testing.T) {
	var host bytes.Buffer
	nonce := wire.Nonce{1}
	ours, theirs := net.Pipe()
	var out carriers
	out.lines(wire.NewWriter(&host, nonce), ours, func() error { return errors.New("the line is stuck") })
	if _, err := theirs.Write([]byte("a record\n\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Read(make([]byte, 1)); err == nil {
		t.Error("a flush was acknowledged whose records are still here")
	}
	out.wait(time.Minute)
	r := wire.NewReader(&host, nonce)
	for _, want := range []struct {
		t    wire.Type
		text string
	}{{wire.Line, "a record"}, {wire.Fault, "carrying the records of the check: the line is stuck"}} {
		typ, b, err := r.Next()
		if err != nil || typ != want.t || string(b) != want.text {
			t.Errorf("got frame %q %q (%v), want %q %q", typ, b, err, want.t, want.text)
		}
	}
}

func TestStretch(t *testing.T) {
	for slowness, want := range map[string]time.Duration{
		"": 10 * time.Second, "0.7": 10 * time.Second, "9.9": 10 * time.Second, // a busy machine
		"42.0": 7 * time.Minute,
	} {
		t.Setenv(wire.EnvSlowness, slowness)
		if got := stretch(10 * time.Second); got != want {
			t.Errorf("slowness %q: a limit of 10 s becomes %v, want %v", slowness, got, want)
		}
	}
}
