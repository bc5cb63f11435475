// SPDX-License-Identifier: MIT

package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOpen(t *testing.T) {
	c, err := Open(smallWorkbook(t))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, l := range c.Labs {
		got[l.Name] = ""
		if l.Err != nil {
			got[l.Name] = l.Err.Error()
		}
	}
	want := map[string]string{
		"00-first":   "",
		"01-send":    "",
		"02-syntax":  "labs/02-syntax/lab.toml:2: strings cannot contain newlines",
		"04-later":   "labs/04-later/lab.toml:1: number = 5, but the folder's name says 4",
		"05-no-toml": "labs/05-no-toml/lab.toml: cannot be read: no such file or directory",
		"06-one":     "",
		"06-two":     "labs/06-two: number 6 is taken by labs/06-one",
		"Seven":      "labs/Seven: a lab's folder is named by its number in two digits and a slug, 04-slow-echo say",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the labs and what is wrong with them (-want +got):\n%s", diff)
	}
}

func TestOpenMeta(t *testing.T) {
	l := findLab(t, smallWorkbook(t), "1")
	want := Meta{
		Number:       1,
		Title:        "Send",
		Question:     "How do you address a kernel?",
		KernelMin:    "6.1",
		Modules:      []string{"nlecho"},
		Params:       map[string]map[string]any{"nlecho": {"replies": int64(1), "delay_ms": int64(0), "defer": true, "reply_to": "sender"}},
		Capabilities: []string{"CAP_NET_ADMIN"},
		Keys:         []string{"bytes", "reply"},
		Boots:        []string{"check"},
		Steps:        []Step{{"the message is built", 2, "step-1"}, {"the answer is read", 3, "step-2"}},
		Predictions: []Prediction{
			{"replies", "How many answers come?", []string{"none", "one", "ten"}, 2, "What is replies set to?"},
			{"who", "Who answers?", []string{"the kernel", "a process"}, 0, "Whose stack is it?"},
		},
	}
	if diff := cmp.Diff(want, l.Meta); diff != "" {
		t.Errorf("meta (-want +got):\n%s", diff)
	}
	if got := l.Meta.Points(); got != 5 {
		t.Errorf("points: %d, want 5", got)
	}
	if diff := cmp.Diff([]string{"defer=1", "delay_ms=0", "replies=1", "reply_to=sender"}, l.Meta.ModuleParams("nlecho")); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
	if l := findLab(t, smallWorkbook(t), "0"); l.Meta.KernelMin != DefaultKernelMin {
		t.Errorf("kernel_min left out: %q, want %q", l.Meta.KernelMin, DefaultKernelMin)
	}
}

func TestFind(t *testing.T) {
	c, err := Open(smallWorkbook(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"1": "01-send", "01": "01-send", "lab-1": "01-send", "lab-01": "01-send", "send": "01-send", "01-send": "01-send",
		"0": "00-first", "2": "02-syntax", "6": "06-one", "two": "06-two",
	} {
		l, err := c.Find(name)
		if err != nil {
			t.Errorf("Find(%q): %v", name, err)
		} else if l.Name != want {
			t.Errorf("Find(%q) = %s, want %s", name, l.Name, want)
		}
	}
	for _, name := range []string{"", "9", "-1", "lab-", "sen", "01-", "../01-send"} {
		_, err := c.Find(name)
		var none *NoSuchLabError
		if !errors.As(err, &none) {
			t.Errorf("Find(%q): %v, want a *NoSuchLabError", name, err)
		} else if !strings.Contains(err.Error(), "  1 send\n  2 syntax\n") {
			t.Errorf("Find(%q) does not list the labs: %v", name, err)
		}
	}
	_, err = (&Catalogue{}).Find("1")
	if err == nil || !strings.Contains(err.Error(), "no labs at all") {
		t.Errorf("an empty catalogue: %v", err)
	}
}

func TestOpenWithoutLabs(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder without labs: %v, want that it does not exist", err)
	}
}

func TestFindRoot(t *testing.T) {
	root := smallWorkbook(t)
	for _, dir := range []string{root, filepath.Join(root, "labs", "01-send", "solution")} {
		if got, err := FindRoot(dir); err != nil || got != root {
			t.Errorf("FindRoot(%s) = %s, %v, want %s", dir, got, err, root)
		}
	}
	other := t.TempDir()
	write(t, filepath.Join(other, "go.mod"), "module netlinklabs.example\n")
	if got, err := FindRoot(other); err == nil || !strings.Contains(err.Error(), "in no checkout of Netlink Labs") {
		t.Errorf("FindRoot of another module = %s, %v", got, err)
	}
}
