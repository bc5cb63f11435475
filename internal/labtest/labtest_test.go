// SPDX-License-Identifier: MIT

package labtest

import (
	"strings"
	"testing"

	"netlinklabs/internal/guest"
	"netlinklabs/internal/wire"
)

// A mistake and an interrupted wait are told of both: the one may be why the program waited.
func TestLikely(t *testing.T) {
	const mistake, advice = "the bytes are turned around", "you call it once more"
	gaveUp := []wire.Output{{Stream: "stdout", Text: "replies=0"}, {Stream: "stderr", Text: "reading: interrupted system call"}}
	for _, tt := range []struct {
		name          string
		run           *Run
		mistake       string
		advised, kept bool
	}{
		{"no program", nil, mistake, false, true},
		{"ended well", &Run{Lines: gaveUp}, mistake, false, true},
		{"gave up", &Run{Lines: gaveUp, End: guest.End{Code: 1}}, mistake, true, true},
		{"gave up, and nothing else is known", &Run{Lines: gaveUp, End: guest.End{Code: 1}}, "", true, false},
		{"reported on stdout", &Run{Lines: []wire.Output{{Stream: "stdout", Text: "error=interrupted system call"}}, End: guest.End{Code: 1}}, mistake, false, true},
	} {
		got := tt.run.likely(tt.mistake)
		if strings.Contains(got, advice) != tt.advised || strings.Contains(got, mistake) != tt.kept {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}
