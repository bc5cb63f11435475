// SPDX-License-Identifier: MIT

package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	left := "package main\n\nfunc f() {\n\treturn 1\n}\n\n// only mine\n"
	right := "package main\n\nfunc f() {\n\treturn 2\n}\n\nfunc g() {}\n// end\n"
	tests := []struct {
		name        string
		left, right string
		width       int
		want        string
	}{
		{"same", left, left, 0, "yours and the solution are the same.\n"},
		{"unified", left, right, 80, `--- yours
+++ the solution
@@ -1,7 +1,8 @@
 package main
 
 func f() {
-	return 1
+	return 2
 }
 
-// only mine
+func g() {}
+// end
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			if err := Compare(&b, "yours", tt.left, "the solution", tt.right, tt.width); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, b.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSideBySide(t *testing.T) {
	var b strings.Builder
	left := "same\nmine\n\tindented\nleft only\nend\n"
	right := "new\nsame\nthe solution's is a longer line\n\tindented\nend\n"
	if err := sideBySide(&b, "yours", left, "the solution", right, 20); err != nil {
		t.Fatal(err)
	}
	want := `
yours                  the solution
-------------------- - --------------------
                     > new
same                   same
mine                 | the solution's is a
                     | longer line
    indented               indented
left only            <
end                    end
`[1:]
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b.Reset()
	if err := Compare(&b, "a", left, "b", right, SideBySideWidth); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := len(strings.TrimRight(line, "\n")); n > SideBySideWidth {
			t.Errorf("a line of %d columns on a terminal of %d: %s", n, SideBySideWidth, line)
		}
	}
}
