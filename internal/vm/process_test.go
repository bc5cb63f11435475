// SPDX-License-Identifier: MIT

package vm_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/vm"
	"netlinklabs/internal/wire"
)

// standIn is in the environment of a process that plays guest here: this test binary.
const standIn = "PROCESS"

// playHere does what the words of the variable say.
func playHere(words string) {
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	var h wire.Here
	if err == nil {
		err = json.Unmarshal(line, &h)
	}
	if err == nil {
		_, err = io.CopyN(io.Discard, in, h.Size)
	}
	if err != nil {
		panic(err)
	}
	w := wire.NewWriter(os.Stdout, h.Nonce)
	send := func(t wire.Type, text string) { _ = w.Frame(t, []byte(text)) }
	for word := range strings.FieldsSeq(words) {
		switch word {
		case "wait":
			send(wire.Wait, fmt.Sprintf("waiting for %s of %d bytes", h.Task, h.Size))
			time.Sleep(200 * time.Millisecond)
		case "locked":
			send(wire.Wait, "")
		case "hello":
			send(wire.Hello, `{"release":"6.1-test"}`)
		case "output":
			send(wire.Stdout, "some output")
		case "fault":
			send(wire.Fault, "what went wrong")
		case "exit":
			send(wire.Exit, `{"code":3}`)
		case "warning":
			send(wire.Console, "[    1.000000] WARNING: CPU: 0 PID: 1 at x\n")
		case "die":
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		case "fail":
			fmt.Fprintln(os.Stderr, "sudo: a password is required")
			os.Exit(1)
		case "until-the-end":
			_, _ = io.Copy(io.Discard, in)
		}
	}
}

func TestProcess(t *testing.T) {
	initrd, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer initrd.Close()
	if _, err := initrd.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words   string
		verdict vm.Verdict
		detail  string
		err     string
	}{
		{words: "locked hello output exit", verdict: vm.Done},
		{words: "wait locked hello output exit", verdict: vm.Done},
		{words: "hello output warning exit", verdict: vm.Dirty, detail: "WARNING: CPU: 0"},
		{words: "hello output exit warning", verdict: vm.Dirty, detail: "WARNING: CPU: 0"},
		{words: "hello output exit fault", verdict: vm.Faulted, detail: "what went wrong"},
		{words: "hello output", verdict: vm.Unheard, detail: "without a result"},
		{words: "hello output die", verdict: vm.Ended, detail: "signal: killed"},
		{words: "hello output fail", verdict: vm.Ended, detail: "exit status 1: sudo: a password is required"},
		{words: "hello output until-the-end", verdict: vm.Hung},
		{words: "locked fault", err: "what went wrong"},
		{words: "fail", err: "sudo: a password is required"},
		{words: "die", err: "did not begin: signal: killed"},
		{words: "", err: "did not begin"},
	} {
		t.Run(c.words, func(t *testing.T) {
			t.Setenv(standIn, c.words+" .")
			var out, console bytes.Buffer
			var said []string
			limit := time.Minute // the race detector alone has a process take a second to exit
			if c.verdict == vm.Hung {
				limit = time.Second
			}
			p := &vm.Process{Argv: []string{os.Args[0]}, Initrd: initrd, Here: wire.Here{Nonce: wire.Nonce{1, 2}, Task: "a test"},
				Limit: limit, Console: &console, Say: func(s string) { said = append(said, s) },
				Frame: func(_ wire.Type, b []byte) { out.Write(b) }}
			r, err := p.Run(t.Context())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%+v, %v; want %s", r, err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != c.verdict || !strings.Contains(r.Detail, c.detail) || r.Where != "here" || r.Accel != "" || r.Release != "6.1-test" || out.String() != "some output" {
				t.Errorf("%+v, output %q; want %v, %s", r, &out, c.verdict, c.detail)
			}
			if strings.HasPrefix(c.words, "wait") && !slices.Equal(said, []string{"waiting for a test of 1048576 bytes"}) {
				t.Errorf("said %q", said)
			}
			if strings.Contains(c.words, "exit") && r.Status.Code != 3 {
				t.Errorf("status %+v", r.Status)
			}
			if strings.Contains(c.words, "warning") != strings.Contains(console.String(), "WARNING") {
				t.Errorf("console %q", &console)
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		t.Setenv(standIn, "hello until-the-end")
		ctx, cancel := context.WithCancel(t.Context())
		p := &vm.Process{Argv: []string{os.Args[0]}, Initrd: initrd, Ready: func(*wire.Writer) { cancel() }}
		if r, err := p.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%+v, %v", r, err)
		}
	})
	if _, err := (&vm.Process{Argv: []string{"/no/such/program"}, Initrd: initrd}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "starting /no/such/program") {
		t.Errorf("without a program: %v", err)
	}
}
