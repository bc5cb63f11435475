// SPDX-License-Identifier: MIT

package judge

import (
	"bytes"
	"encoding/json"
	"text/template"

	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

// Events returns the events that a boot has left, as a trace.
func Events(left wire.Earlier) *trace.Trace {
	tr := trace.New()
	for _, r := range left.Records {
		var e trace.Event
		if r.Kind == wire.KindEvent && json.Unmarshal(r.Event, &e) == nil {
			tr.Add(e)
		}
	}
	return tr
}

// fill puts what the boot has shown into the files: {{.Levels}} and {{.BytesALevel}}
// of trace.Recursion. Both differ by kernel and by compiler, so a file that goes with
// the workbook cannot have them as numbers; {{add .Levels 1}} is for wrong ones. A student writes numbers, and where
// the braces are something else, the file stays as it is.
func fill(files map[string][]byte, left wire.Earlier) map[string][]byte {
	recursion := Events(left).Program(0, wire.ProgramPath).Recursion()
	filled := map[string][]byte{}
	for name, text := range files {
		filled[name] = text
		t, err := template.New(name).Funcs(template.FuncMap{"add": func(a, b int) int { return a + b }}).Parse(string(text))
		var out bytes.Buffer
		if err == nil && t.Execute(&out, recursion) == nil {
			filled[name] = out.Bytes()
		}
	}
	return filled
}
