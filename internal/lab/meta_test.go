// SPDX-License-Identifier: MIT

package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const soundMeta = `number = 3
title = "T"
question = "Q?"
`

const soundStep = `[[step]]
title = "S"
points = 1
read = "step-1"
`

func TestParseMetaErrors(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"sound", soundMeta + soundStep, nil},
		{"empty", "", []string{
			"f: number is missing", "f: title is missing", "f: question is missing", "f: there is no [[step]]: a lab has at least one"}},
		{"wrong type", soundMeta + "[[step]]\ntitle = \"S\"\npoints = \"x\"\nread = \"step-1\"\n", []string{
			"f:6: step.points: incompatible types: TOML value has type string; destination has type integer"}},
		{"unknown", soundMeta + "kernel = \"6.1\"\n" + soundStep + "hint = 1\n" + soundStep, []string{
			"f:4: no such key: kernel (the keys are described in docs/authoring.md)",
			"f:9: no such key: step.hint (the keys are described in docs/authoring.md)"}},
		{"texts", "number = 3\ntitle = \" \"\nquestion = \"\"\"\nQ\n\"\"\"\n" + soundStep, []string{
			"f:2: title is missing",
			"f:3: question: one line, without space around it",
			"f:3: question: a question ends with a question mark"}},
		{"lists", soundMeta + `kernel_min = "6"
modules = ["nlecho", "../x", "nlecho"]
capabilities = ["NET_ADMIN"]
keys = ["bytes", "Bytes"]
boots = ["judge"]
` + soundStep, []string{
			`f:4: kernel_min: "6": want a kernel series such as "5.10"`,
			`f:5: modules: "../x": want the name of a kernel module`,
			`f:5: modules: "nlecho" is there twice`,
			`f:6: capabilities: "NET_ADMIN": want a name of capabilities(7), CAP_NET_ADMIN say`,
			`f:7: keys: "Bytes": want small letters, digits and _`,
			`f:8: boots: want ["check"] or ["crash", "judge"]`}},
		{"params", soundMeta + "modules = [\"a\"]\n[params.a]\nx = \"1 2\"\ny = 1.5\n[params.b]\nz = 1\n[params]\nc = 1\n" + soundStep, []string{
			`f:6: params.a.x: "1 2": a parameter has no space or quote in it and is not empty`,
			`f:7: params.a.y: a parameter is a number, a string, true or false`,
			`f:8: params.b: modules does not name b`,
			`f:11: params.c: modules does not name c`,
			`f:11: params.c: want a table of parameters`}},
		{"steps", soundMeta + soundStep + "[[step]]\npoints = 0\nread = \"Step 2\"\n", []string{
			"f:8: title is missing",
			"f:9: points: a step has at least 1",
			`f:10: read: "Step 2": want an anchor of README.md, "step-2" say`}},
		{"trace", soundMeta + `trace = ["sleep", "netlink_connect", "sched:sched_switch if prev_state & 2", "no name", "a:b:c"]` + "\n" + soundStep, []string{
			`f:4: trace: "no name": want a kernel function, "group:event", or "sleep"`,
			`f:4: trace: "a:b:c": want a kernel function, "group:event", or "sleep"`}},
		{"predictions", soundMeta + soundStep + `[[prediction]]
id = "a"
question = "Q?"
options = ["x"]
article = 1
think = "T"
[[prediction]]
id = "a"
question = "Q?"
options = ["x", "x"]
think = "T?"
`, []string{
			"f:13: think: a question ends with a question mark",
			"f:11: options: want at least two",
			"f:12: article: 1: want the index, from 0, of one of the 1 options",
			`f:15: id: "a" is there twice`,
			`f:17: options: "x" is there twice`,
			"f:14: article is missing: the index, from 0, of the option that the articles claim"}},
		{"article without lines", soundMeta + `prediction = [{id = "a", question = "Q?", options = ["x", "y"], article = 0, think = "T?"}]` + "\n" + soundStep, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseMeta("f", tt.text)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}
