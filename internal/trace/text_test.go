// SPDX-License-Identifier: MIT

package trace

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// sampleSteps has a step of each kind, and text that is too long for its lane.
func sampleSteps() []Step {
	at := func(ms float64) int64 { return 5e9 + int64(ms*1e6) }
	return []Step{
		{Seq: 1, Time: at(0), Text: "socket protocol 25: fd 3"},
		{Seq: 2, Time: at(0.2), Arrow: Into, Text: "sendmsg port 100 → kernel (port 0), 1040 bytes"},
		{Seq: 3, Time: at(0.25), Lane: KernelLane, Depth: 1, Text: "gets 1040 bytes from port 100, header 4294967295"},
		{Seq: 4, Time: at(1000.5), Lane: KernelLane, Depth: 1, Arrow: Delivered, Text: "reply 1 of 1 to port 100"},
		{Seq: 5, Time: at(1000.6), Lane: KernelLane, Depth: 9, Text: "deep", Failed: true},
		{Seq: 6, Time: at(1001), Arrow: Back, Text: "sendmsg returns 1040 bytes"},
		{Seq: 7, Time: at(1002), Text: `prints "你好 <&> ` + strings.Repeat("x", 100) + `"`, Output: true},
	}
}

func TestWriteText(t *testing.T) {
	var b bytes.Buffer
	if err := WriteText(&b, sampleSteps(), Style{}); err != nil {
		t.Fatal(err)
	}
	const want = `
       ms  program                                  kernel
    0.000  socket protocol 25: fd 3
    0.200  sendmsg port 100 → kernel (port
             0), 1040 bytes ──────────────────────╮
    0.250                                         │ gets 1040 bytes from port
                                                  │   100, header 4294967295
 1000.500                                     ◂╌╌ │ reply 1 of 1 to port 100
 1000.600                                         │   deep
 1001.000  sendmsg returns 1040 bytes ◀───────────╯
 1002.000  prints "你好 <&>
             xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
             xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// However wide the terminal is, no line is wider, and all say the same.
func TestWriteTextFits(t *testing.T) {
	for _, style := range []Style{{Width: 1}, {Width: 60}, {Width: 71, ASCII: true}, {}, {Width: 100, Color: true}, {Width: 500}} {
		var b bytes.Buffer
		if err := WriteText(&b, sampleSteps(), style); err != nil {
			t.Fatal(err)
		}
		width := map[int]int{1: 60, 0: 80, 500: 120}[style.Width]
		if width == 0 {
			width = style.Width
		}
		text := b.String()
		for _, code := range []string{colorReset, colorHead, colorTime, colorArrow, colorKernel, colorOutput, colorFailed} {
			if strings.Contains(text, code) != style.Color {
				t.Errorf("%+v: colour %q", style, code)
			}
			text = strings.ReplaceAll(text, code, "")
		}
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if n := columns(line); n > width || strings.HasSuffix(line, " ") {
				t.Errorf("%+v: %d columns: %q", style, n, line)
			}
			if style.ASCII && !strings.Contains(line, "你好") && len(line) != utf8.RuneCountInString(line) {
				t.Errorf("not ASCII: %q", line)
			}
		}
		for _, s := range sampleSteps()[:4] {
			for _, word := range strings.Fields(ascii.Replace(s.Text)) {
				if !strings.Contains(ascii.Replace(text), word) {
					t.Errorf("%+v: %q of %q is not there", style, word, s.Text)
				}
			}
		}
	}
}

// Two threads that send at the same time.
func TestWriteTextOverlapping(t *testing.T) {
	steps := []Step{
		{Arrow: Into, Text: "sendto one"},
		{Arrow: Into, Text: "sendto two"},
		{Arrow: Back, Text: "one returns"},
		{Lane: KernelLane, Depth: 1, Text: "still in two"},
		{Arrow: Back, Text: "two returns"},
		{Lane: KernelLane, Text: "after"},
	}
	var b bytes.Buffer
	if err := WriteText(&b, steps, Style{Width: 60, ASCII: true}); err != nil {
		t.Fatal(err)
	}
	const want = `
       ms  program                       kernel
    0.000  sendto one -----------------.
    0.000  sendto two -----------------.
    0.000  one returns <---------------|
    0.000                              | still in two
    0.000  two returns <---------------'
    0.000                                after
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// The picture is well-formed XML, has words for those who cannot see it, and shows each step's text.
func TestWriteSVG(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSVG(&b, sampleSteps(), `A <title> & "more"`); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	elements := map[string]int{}
	for d := xml.NewDecoder(&b); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			elements[token.Name.Local]++
			for _, a := range token.Attr {
				if a.Name.Local == "href" {
					t.Errorf("the picture refers to %s", a.Value)
				}
			}
		case xml.CharData:
			text.Write(token)
		}
	}
	if elements["title"] != 1 || elements["desc"] != 1 || elements["circle"] != len(sampleSteps()) || elements["image"]+elements["script"] != 0 {
		t.Errorf("elements: %v", elements)
	}
	for _, want := range []string{`A <title> & "more"`, "sendmsg port 100 → kernel (port 0), 1040 bytes", "Kernel: reply 1 of 1 to port 100.", "1000.500", "你好"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
	if err := WriteSVG(io.Discard, nil, "nothing"); err != nil {
		t.Error(err)
	}
	if err := WriteSVG(brokenWriter{}, sampleSteps(), "x"); err == nil {
		t.Error("a full disk goes unnoticed")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("no space left on device") }
