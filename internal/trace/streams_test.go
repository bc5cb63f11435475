// SPDX-License-Identifier: MIT

package trace

import (
	"bytes"
	"encoding/json"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the expected timelines in testdata anew")

// TestRecordings asserts what the recorded streams of all kernels must say.
func TestRecordings(t *testing.T) {
	for series, r := range recordings(t) {
		t.Run(series, func(t *testing.T) {
			if !strings.HasPrefix(r.Release, series+".") {
				t.Errorf("the recording is one of kernel %s", r.Release)
			}
			checkRecording(t, r)
		})
	}
}

// checkRecording asserts everything that program and stranger in record_test.go do.
func checkRecording(t *testing.T, r *Recording) {
	t.Helper()
	events, err := r.Events()
	if err != nil {
		t.Fatal(err)
	}
	tr := New(events...)
	if lost := tr.Lost(); lost.Any() {
		t.Errorf("lost: %v", lost)
	}
	p := tr.Program(r.PID, "")
	if !p.Ran() || p.PID != r.PID || !Before(p.Exec, p.Exit()) {
		t.Fatalf("the run of process %d: executed %v, ended %v", r.PID, p.Exec, p.Exit())
	}

	// Sockets: whose they are, which port they have, and who chose it.
	type socket struct {
		Protocol  int
		FD        int
		Port      uint32
		Auto, Own bool
	}
	var sockets []socket
	for _, s := range p.Sockets() {
		sockets = append(sockets, socket{s.Protocol, s.FD, s.Port, s.Auto, s.PID == r.PID})
	}
	if len(sockets) != 4 {
		t.Fatalf("%d sockets: %+v", len(sockets), sockets)
	}
	fd := sockets[0].FD
	want := []socket{
		{echoProtocol, fd, 100, false, true},
		{echoProtocol, fd + 1, uint32(r.PID), true, true}, // the kernel's first choice is the process ID
		{echoProtocol, fd + 2, 0, false, true},
		{unix.NETLINK_ROUTE, sockets[3].FD, 77, false, false},
	}
	if diff := cmp.Diff(want, sockets); diff != "" {
		t.Fatalf("sockets (-want +got):\n%s", diff)
	}
	first, auto, refused := p.Sockets()[0], p.Sockets()[1], p.Sockets()[2]
	if p.Socket(echoProtocol, 100) != first || p.Socket(unix.NETLINK_ROUTE, 100) != nil {
		t.Error("port 100 of protocol 25 is not the program's first socket, or the stranger's port counts as its own")
	}
	if first.Net == 0 || first.Net != auto.Net {
		t.Errorf("network namespaces: %#x and %#x", first.Net, auto.Net)
	}
	if !refused.Closed.Seen() || first.Closed.Seen() {
		t.Error("the third socket was closed, the first was not")
	}

	// What was sent, what the kernel got, and that it was answered before the call returned.
	type message struct {
		Syscall    string
		Sent       int64
		From       *Socket
		PortID     uint32
		CRC        uint32
		Data       string
		Replies    int
		Header     uint32
		InsideCall bool
	}
	var messages []message
	for _, m := range p.Messages() {
		c := m.Call
		to, known := c.To()
		if !known || to != 0 {
			t.Errorf("message %d went to port %d, known %v", m.ID, to, known)
		}
		inside := Inside(m.Input, c) && Inside(m.Done, c) && Before(m.Done, c.Return)
		for _, reply := range m.Replies {
			inside = inside && Inside(reply, c)
			if reply.Uint("to") != uint64(m.PortID()) || reply.Int("ret") != 1040 {
				t.Errorf("a reply: %v", reply)
			}
		}
		messages = append(messages, message{c.Syscall, c.Ret, c.Socket, m.PortID(), uint32(m.Input.Uint("crc")),
			string(m.Data()), len(m.Replies), uint32(m.Input.Uint("pid")), inside})
	}
	sent := func(text string, seq, pid uint32) (uint32, string) {
		b := request(text, seq, pid)
		return crc32.ChecksumIEEE(b), string(b)
	}
	crc1, data1 := sent("Hello, kernel", 1, 100)
	crc2, data2 := sent("Who am I?", 2, 0)
	crc3, data3 := sent("To whoever reads", 3, 100)
	wantMessages := []message{
		{"sendmsg", 29, first, 100, crc1, data1, 3, 100, true},
		{"sendto", 25, auto, uint32(r.PID), crc2, data2, 3, 0, true},
		{"write", 32, first, 100, crc3, data3, 3, 100, true},
	}
	if diff := cmp.Diff(wantMessages, messages, cmp.Comparer(func(a, b *Socket) bool { return a == b })); diff != "" {
		t.Fatalf("messages (-want +got):\n%s", diff)
	}

	// The questions that labs ask.
	sends := p.Calls(Sendmsg)
	if n := len(sends.To(0).OK()); n != 3 {
		t.Errorf("%d messages to the kernel", n)
	}
	if got := p.Calls("sendto").First(); got.Socket != auto || len(sends.By("sendto")) != 1 {
		t.Errorf("the call of sendto is %v", got)
	}
	if n := len(p.Calls(Bind).On(auto)); n != 0 {
		t.Errorf("%d binds of the socket that the kernel bound", n)
	}
	if !Inside(auto.Bound, sends.On(auto).First()) {
		t.Errorf("the kernel chose the port in %v, not in the send", auto.Bound)
	}
	binds := p.Calls(Bind).On(refused)
	if c := binds.First(); len(binds) != 1 || c.Err() != syscall.EADDRINUSE || len(binds.Failed(syscall.EADDRINUSE)) != 1 || len(binds.OK()) != 0 {
		t.Errorf("the bind of a port in use: %v", c)
	}
	reads := p.Calls(Recvmsg).On(first).By("recvmsg").OK()
	if len(reads) != 3 || reads.First().Ret != 1040 || !Before(p.Messages()[0].Done, reads.First().Entry) {
		t.Errorf("reads of the first three replies: %v", reads)
	}
	write, read := sends.By("write").First(), p.Calls(Recvmsg).By("recvfrom").First()
	if write.Task == read.Task || !Before(read.Entry, write.Entry) || !Before(p.Messages()[2].Replies[0], read.Return) {
		t.Errorf("the thread that reads while another writes: %v and %v", read, write)
	}
	if During(read.Entry, write) || !During(write.Entry, read) {
		t.Error("the write came while the read waited, not the other way round")
	}
	if out := p.Events(Output); len(out) != 1 || out.First().Text("text") != "three replies" {
		t.Errorf("output: %v", out)
	}

	// The stranger is there, and is kept out.
	other := 0
	for _, s := range tr.Sockets() {
		if s.Port == 100 && s.Protocol == unix.NETLINK_ROUTE && s.PID != r.PID {
			other++
		}
	}
	if other != 1 {
		t.Errorf("%d sockets of the stranger with port 100", other)
	}
	for _, e := range p.Events() {
		if e.Task != r.PID && e.CPU >= 0 && tr.infos[e.Seq-1].owner.pid != r.PID && tr.infos[e.Seq-1].owner.parent.pid != r.PID {
			t.Errorf("an event of a stranger: %v", e)
		}
	}
	if n := len(tr.Events().Named(EchoInput)); n <= 3 {
		t.Errorf("%d messages in all: the stranger was not recorded", n)
	}
}

// TestTimelines compares the timelines of the recordings with the expected ones, as text and, for one, as a picture.
// Look at what -update writes before you commit it.
func TestTimelines(t *testing.T) {
	for series, r := range recordings(t) {
		events, err := r.Events()
		if err != nil {
			t.Fatal(err)
		}
		steps := New(events...).Program(r.PID, "").Timeline()
		var text bytes.Buffer
		if err := WriteText(&text, steps, Style{Width: 100}); err != nil {
			t.Fatal(err)
		}
		golden(t, series+".timeline.txt", text.Bytes())
		if series == "6.1" {
			var svg bytes.Buffer
			if err := WriteSVG(&svg, steps, "A program speaks with nlecho"); err != nil {
				t.Fatal(err)
			}
			golden(t, series+".timeline.svg", svg.Bytes())
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; if it is right, run this test with -update):\n%s", path, diff)
	}
}

// TestLiveIsTheSame draws the recordings event by event, through JSON, as a host does that follows a guest.
func TestLiveIsTheSame(t *testing.T) {
	for series, r := range recordings(t) {
		events, err := r.Events()
		if err != nil {
			t.Fatal(err)
		}
		var live bytes.Buffer
		l := NewLive(&live, r.PID, "", Style{})
		for _, e := range events {
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var back Event
			if err := json.Unmarshal(line, &back); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if back.String() != e.String() {
				t.Fatalf("%s became %s", e, back)
			}
			if err := l.Add(back); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var whole bytes.Buffer
		if err := WriteText(&whole, New(events...).Program(r.PID, "").Timeline(), Style{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(whole.String(), live.String()); diff != "" {
			t.Errorf("%s: live timeline (-whole +live):\n%s", series, diff)
		}
	}
}
