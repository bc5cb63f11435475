// SPDX-License-Identifier: MIT

package guest

import "testing"

func TestConsoleLine(t *testing.T) {
	for record, want := range map[string]string{
		"4,1234,5678901,-;WARNING: CPU: 0\n":         "[    5.678901] WARNING: CPU: 0\n",
		"6,1,0,-;a; b\n SUBSYSTEM=net\n DEVICE=+x\n": "[    0.000000] a; b\n",
		"6,9,123456789012,c;late\n":                  "[123456.789012] late\n",
		"nonsense":                                   "[    0.000000] \n",
	} {
		if got := consoleLine(record); got != want {
			t.Errorf("%q: %q, want %q", record, got, want)
		}
	}
}
