// SPDX-License-Identifier: MIT

package main

import (
	"strings"
	"testing"

	"netlinklabs/internal/place"
)

func TestChooseWhere(t *testing.T) {
	for _, tt := range []struct {
		where         string
		force, marked bool
		want          place.Where
		says          string
	}{
		{where: "", want: place.InVM},
		{where: "", marked: true, want: place.OnThisKernel},
		{where: "", force: true, want: place.InVM},
		{where: "vm", marked: true, want: place.InVM},
		{where: "here", says: "a mistake in them or in a program can take it down"},
		{where: "here", force: true, want: place.OnThisKernel},
		{where: "here", marked: true, want: place.OnThisKernel},
		{where: "vagrant", want: place.InVagrant},
		{where: "vagrant", marked: true, says: "this is the VM: leave WHERE out"},
		{where: "moon", says: "WHERE=moon: it is vm"},
	} {
		got, err := chooseWhere(tt.where, tt.force, tt.marked)
		if got != tt.want || tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("chooseWhere(%q, %t, %t) = %q, %v; want %q, %q", tt.where, tt.force, tt.marked, got, err, tt.want, tt.says)
		}
	}
}
