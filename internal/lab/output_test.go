// SPDX-License-Identifier: MIT

package lab

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const readmeWithOutput = "# Lab\n" +
	"<!-- output: run -->\n" +
	"```text\nold\n\n  output\n```\n" +
	"<!-- end -->\n" +
	"\nA form:\n\n```markdown\n<!-- output: example -->\n<!-- end -->\n```\n\n" +
	"<!-- output: check 1 V=1 -->\n" +
	"<!-- end -->\n" +
	"<!-- output: dmesg -->\n\n" +
	"~~~~console\n```\ninner\n```\n~~~~\n\n" +
	"<!-- end -->"

func TestOutputBlocks(t *testing.T) {
	got, err := OutputBlocks("README.md", readmeWithOutput)
	if err != nil {
		t.Fatal(err)
	}
	want := []OutputBlock{
		{Name: "run", Args: []string{}, Line: 2, Text: "old\n\n  output\n"},
		{Name: "check", Args: []string{"1", "V=1"}, Line: 17},
		{Name: "dmesg", Args: []string{}, Line: 19, Text: "```\ninner\n```\n"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(OutputBlock{})); diff != "" {
		t.Errorf("blocks (-want +got):\n%s", diff)
	}
}

func TestOutputBlocksErrors(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"no end", "<!-- output: run -->\n```\nx\n```\n", []string{"f:1: the output block has no <!-- end -->"}},
		{"no end before the next", "<!-- output: a -->\n<!-- output: b -->\n<!-- end -->\n", []string{"f:1: the output block has no <!-- end --> before the next one"}},
		{"no start", "x\n<!-- end -->\n", []string{"f:2: an end without an output block before it"}},
		{"no name", "<!-- output: -->\n<!-- end -->\n", []string{"f:1: the output block names no command: <!-- output: NAME ARGS -->"}},
		{"text", "<!-- output: a -->\nfoo\n<!-- end -->\n", []string{"f:2: between the markers of an output block stands one fenced block, and nothing else"}},
		{"an open fence", "<!-- output: a -->\n```\n<!-- end -->\n", []string{"f:1: the output block has no <!-- end -->"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := OutputBlocks("f", tt.text)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(tt.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReplaceOutput(t *testing.T) {
	outputs := map[string]string{
		"run":   "\x1b[32mgreen\x1b[0m   \r\nnew\n\n",
		"check": "",
		"dmesg": "```\nfence\n````\n",
	}
	got, err := ReplaceOutput("README.md", readmeWithOutput, func(b OutputBlock) (string, error) { return outputs[b.Name], nil })
	if err != nil {
		t.Fatal(err)
	}
	want := "# Lab\n" +
		"<!-- output: run -->\n" +
		"```text\ngreen\nnew\n```\n" +
		"<!-- end -->\n" +
		"\nA form:\n\n```markdown\n<!-- output: example -->\n<!-- end -->\n```\n\n" +
		"<!-- output: check 1 V=1 -->\n" +
		"```text\n```\n" +
		"<!-- end -->\n" +
		"<!-- output: dmesg -->\n" +
		"`````console\n```\nfence\n````\n`````\n" +
		"<!-- end -->"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// What was written is found again, and written the same.
	again, err := ReplaceOutput("README.md", got, func(b OutputBlock) (string, error) { return b.Text, nil })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("replaced by itself (-want +got):\n%s", diff)
	}
	_, err = ReplaceOutput("README.md", readmeWithOutput, func(b OutputBlock) (string, error) { return "", errors.New("no VM") })
	if err == nil || err.Error() != "README.md:2: output of run: no VM" {
		t.Errorf("a command that fails: %v", err)
	}
}

func TestSameOutput(t *testing.T) {
	same := []struct{ name, a, b string }{
		{"times", "  12.3007  netlink_sendmsg(port 100)", "   3.1000  netlink_sendmsg(port 100)"},
		{"stamps", "1.066545: bind", "131.066541: bind"},
		{"durations", "passed in 3.2 s (1m2.5s, 12ms, 5 seconds, 3 µs)", "passed in 14 s (2.5s, 120ms, 15 seconds, 310 µs)"},
		{"keys", "got  blocked_ms=2", "got  blocked_ms=1004"},
		{"kernel", "on Linux 6.1.0-51-cloud-amd64 under KVM", "on Linux 7.2.6+deb14-amd64 under TCG"},
		{"plain kernel", "kernel 6.1.174, tcg", "kernel 6.12, kvm"},
		{"addresses", "sock=0xffff8881040a2c00 at ffff8881040a2c00 f+0x12/0x3d0", "sock=0xffff88810deadc00 at ffff88810deadc00 f+0x1a/0x410"},
		{"process IDs", "program (pid 312) bound to port 312", "program (pid 4711) bound to port 4711"},
		{"process keys", "pid=88 tid=91\nnlmsg_pid=88, to=91", "pid=98 tid=99\nnlmsg_pid=98, to=99"},
		{"sequence numbers", "nlmsg_seq=22453809\nnlmsg_pid=89", "nlmsg_seq=1784692341\nnlmsg_pid=90"},
		{"a number that is no ID", "port 87: 87 bytes, header 87", "port 88: 87 bytes, header 88"},
		{"autobind", "port -4097 port=-1204321 portid=3090645975", "port -82123 port=-1999999999 portid=4294963199"},
		{"columns", "pid 77      | x\n---------- | ---", "pid 12345 | x\n------ | -----   "},
		{"dates", "2026-01-02 03:04:05.123 x", "2025-11-12 13:14:15 x"},
		{"colour", "\x1b[1mok\x1b[0m", "ok"},
		{"ends", "a\r\nb\n", "a\nb"},
		{"levels", "1.000 a\n2.000   level 2, stack left 900\n3.000   level 3, stack left 500\nb", "1.000 a\n2.000   level 2, stack left 1000\nb"},
		{"levels in a picture", "1.000\na\n2.000\nlevel 2, stack left 900", "1.000\na"},
		{"levels counted", "crash: 35 levels of 416 bytes", "crash: 33 levels of 432 bytes"},
	}
	for _, tt := range same {
		t.Run(tt.name, func(t *testing.T) {
			if diff := SameOutput(tt.a, tt.b); diff != "" {
				t.Errorf("differ:\n%s", diff)
			}
		})
	}
	differ := []struct{ name, a, b string }{
		{"a port that was chosen", "sent to port 100", "sent to port 0"},
		{"a length", "nlmsg_len=1040", "nlmsg_len=1039"},
		{"a count", "10 replies", "9 replies"},
		{"an errno", "sendto -> -111", "sendto -> -22"},
		{"a step", "x 2  the time is measured  0/2", "x 2  the time is measured  1/2"},
		{"a CRC", "crc=0x0a1b2c3d", "crc=0x0a1b2c3e"},
		{"a port that is no process ID", "pid 312 port 312", "pid 312 port 313"},
		{"a line", "a\nb\nc", "a\nc"},
		{"other IDs", "from port 5 to port 6", "from port 5 to port 5"},
		{"init", "pid 1 port 1", "pid 7 port 7"},
		{"indent", "a\n b", "a\nb"},
	}
	for _, tt := range differ {
		t.Run(tt.name, func(t *testing.T) {
			if diff := SameOutput(tt.a, tt.b); diff == "" {
				t.Errorf("the same, masked as\n%s", Mask(tt.a))
			}
		})
	}
}
