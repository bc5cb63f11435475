// SPDX-License-Identifier: MIT

package trace

import (
	"encoding/binary"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testHeader = `	field: u64 timestamp;	offset:0;	size:8;	signed:0;
	field: local_t commit;	offset:8;	size:8;	signed:1;
	field: int overwrite;	offset:8;	size:1;	signed:1;
	field: char data;	offset:16;	size:4080;	signed:1;
`

// testFormat has a field of each kind.
const testFormat = `name: sample
ID: 7
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:unsigned long __probe_ip;	offset:8;	size:8;	signed:0;
	field:s8 tiny;	offset:16;	size:1;	signed:1;
	field:u16 port;	offset:18;	size:2;	signed:0;
	field:s32 ret;	offset:20;	size:4;	signed:1;
	field:char comm[8];	offset:24;	size:8;	signed:1;
	field:unsigned char data[4];	offset:32;	size:4;	signed:0;
	field:__data_loc char[] filename;	offset:36;	size:4;	signed:1;
	field:__rel_loc u8[] rest;	offset:40;	size:4;	signed:0;

print fmt: "%d", REC->ret
`

func testDecoder(t testing.TB) *decoder {
	t.Helper()
	h, err := ParseHeaderPage(testHeader)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseFormat(testFormat)
	if err != nil {
		t.Fatal(err)
	}
	d := newDecoder(h, nil)
	d.add(f)
	return d
}

// page makes a page of records; flags go into its commit field.
func page(start uint64, flags uint64, records ...[]byte) []byte {
	p := make([]byte, 4096)
	n := 16
	for _, r := range records {
		n += copy(p[n:], r)
	}
	binary.LittleEndian.PutUint64(p, start)
	binary.LittleEndian.PutUint64(p[8:], uint64(n-16)|flags)
	return p
}

// record makes a record with the length in its head, or, if long, in a word of its own.
func record(delta uint32, long bool, body []byte) []byte {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	if !long {
		return append(word(uint32(len(body)/4)|delta<<5), body...)
	}
	return append(append(word(delta<<5), word(uint32(len(body)+4))...), body...)
}

func word(words ...uint32) (b []byte) {
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

func sample(pid int32, ret int32, flags byte) []byte {
	b := make([]byte, 44)
	b[0], b[2] = 7, flags
	binary.LittleEndian.PutUint32(b[4:], uint32(pid))
	b[16] = 0xfe
	binary.LittleEndian.PutUint16(b[18:], 65535)
	binary.LittleEndian.PutUint32(b[20:], uint32(ret))
	copy(b[24:], "abc\x00junk")
	copy(b[32:], []byte{1, 0, 2, 0})
	binary.LittleEndian.PutUint32(b[36:], 44|5<<16) // 5 bytes at 44
	binary.LittleEndian.PutUint32(b[40:], 5|3<<16)  // 3 bytes, 5 after the field's end
	return append(b, "/bin\x00xyz"...)
}

func TestPage(t *testing.T) {
	d := testDecoder(t)
	events, err := d.page(nil, 3, page(1000, 0,
		record(1, false, sample(42, -98, 0)),
		append(word(typeTimeExtend|5<<5), word(1)...), // + 1<<27 + 5
		record(2, true, sample(43, 7, 0x10)),
		append(word(typePadding|9<<5), word(12, 0, 0)...), // discarded, 12 bytes
		append(word(typeTimeStamp|1<<5), word(100)...),    // absolute: 100<<27 + 1
		record(0, false, sample(44, 0, 0)),
		word(typePadding), // the end
		record(5, false, sample(45, 0, 0)),
	))
	if err != nil {
		t.Fatal(err)
	}
	type got struct {
		Time int64
		CPU  int
		Task int
		IRQ  bool
		Ret  int64
	}
	var all []got
	for _, e := range events {
		all = append(all, got{e.Time, e.CPU, e.Task, e.IRQ, e.Int("ret")})
	}
	want := []got{
		{1001, 3, 42, false, -98},
		{1001 + 1<<27 + 5 + 2, 3, 43, true, 7},
		{100<<27 + 1, 3, 44, false, 0},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Fatalf("events (-want +got):\n%s", diff)
	}
	e := events[0]
	if e.Int("tiny") != -2 || e.Uint("port") != 65535 || e.Text("comm") != "abc" || e.Text("filename") != "/bin" {
		t.Errorf("fields: %v", e)
	}
	if diff := cmp.Diff([]byte{1, 0, 2, 0}, e.Bytes("data")); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	if string(e.Bytes("rest")) != "xyz" {
		t.Errorf("rest is %q", e.Bytes("rest"))
	}
	if diff := cmp.Diff([]string{"tiny", "port", "ret", "comm", "data", "filename", "rest"}, e.Fields()); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if e.Has("__probe_ip") || e.Has("common_pid") || e.Int("none") != 0 || e.Text("ret") != "" || e.Bytes("comm") != nil {
		t.Errorf("a field that is none, or of another kind: %v", e)
	}
}

// An absolute time stamp has 59 bits; the upper ones are those of the time before.
func TestPageTimeBeyond59Bits(t *testing.T) {
	start := uint64(3)<<59 | 12345
	events, err := testDecoder(t).page(nil, 0, page(start, 0,
		append(word(typeTimeStamp|7<<5), word(200)...), record(0, false, sample(1, 0, 0))))
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	if want := int64(uint64(3)<<59 | 200<<27 | 7); events[0].Time != want {
		t.Errorf("time %d, want %d", events[0].Time, want)
	}
}

// What was lost before a page is an event, with the number of events where the kernel stored it.
func TestPageLost(t *testing.T) {
	stored := page(1000, missedEvents|missedStored, record(1, false, sample(42, 0, 0)))
	binary.LittleEndian.PutUint64(stored[16+int(binary.LittleEndian.Uint32(stored[8:])&0xfffff):], 250)
	for _, test := range []struct {
		page  []byte
		count int64
		want  Losses
		text  string
	}{
		{stored, 250, Losses{Events: 250}, "250 events were overwritten before they could be read"},
		{page(1000, missedEvents, record(1, false, sample(42, 0, 0))), -1, Losses{Unknown: true}, "events were overwritten before they could be read"},
	} {
		events, err := testDecoder(t).page(nil, 0, test.page)
		if err != nil || len(events) != 2 {
			t.Fatal(events, err)
		}
		if events[0].Name != Lost || events[0].Int("events") != test.count {
			t.Errorf("lost: %v", events[0])
		}
		lost := New(number1(events)...).Lost()
		lost.Probes = nil
		if diff := cmp.Diff(test.want, lost); diff != "" || !lost.Any() || lost.String() != test.text {
			t.Errorf("losses: %q, (-want +got):\n%s", lost, diff)
		}
	}
}

func number1(events []Event) []Event {
	for i := range events {
		events[i].Seq = i + 1
	}
	return events
}

func TestPageThatIsNone(t *testing.T) {
	for name, p := range map[string][]byte{
		"too short":       make([]byte, 10),
		"commit too long": page(0, 5000),
		"cut off":         page(0, 0, word(28)),
		"length beyond":   page(0, 0, word(0), word(4000)),
		"length below":    page(0, 0, word(0), word(1)),
		"time cut off":    page(0, 0, word(typeTimeExtend)),
	} {
		if _, err := testDecoder(t).page(nil, 0, p); err == nil || !strings.HasPrefix(err.Error(), "trace: cpu 0: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A format is asked for once; records of strangers are left out.
func TestPageUnknown(t *testing.T) {
	f, err := ParseFormat(testFormat)
	if err != nil {
		t.Fatal(err)
	}
	asked := map[int]int{}
	d := newDecoder(testDecoder(t).header, func(id int) *Format {
		asked[id]++
		if id == 7 {
			return f
		}
		return nil
	})
	strange := sample(1, 2, 0)
	strange[0] = 9
	r, s := record(1, false, sample(1, 2, 0)), record(1, false, strange)
	events, err := d.page(nil, 0, page(0, 0, s, r, s, r))
	if err != nil || len(events) != 2 || events[1].Time != 4 {
		t.Fatal(events, err)
	}
	if diff := cmp.Diff(map[int]int{7: 1, 9: 1}, asked); diff != "" {
		t.Errorf("formats asked for (-want +got):\n%s", diff)
	}
}

func TestParseFormatErrors(t *testing.T) {
	for _, text := range []string{
		"",
		"name: x\nprint fmt:",
		"name: x\nID: many\n",
		"name: x\nID: 70000\n",
		"name: x\nID: 1\nfield:int a;\n",
		"name: x\nID: 1\nfield:int a;\toffset:x;\tsize:4;\tsigned:1;\n",
		"name: x\nID: 1\nfield:int a;\toffset:0;\tsize:-4;\tsigned:1;\n",
		"name: x\nID: 1\nfield:int;\toffset:0;\tsize:4;\tsigned:1;\n",
		"name: x\nID: 1\nfield:__data_loc char[] a;\toffset:0;\tsize:8;\tsigned:1;\n",
	} {
		if f, err := ParseFormat(text); err == nil {
			t.Errorf("%q became %+v", text, f)
		}
	}
	for _, text := range []string{"", strings.Replace(testHeader, "size:8;	signed:1", "size:5;	signed:1", 1), strings.Replace(testHeader, "offset:16", "offset:24", 1)} {
		if h, err := ParseHeaderPage(text); err == nil {
			t.Errorf("%q became %+v", text, h)
		}
	}
}

func TestEventJSON(t *testing.T) {
	e := Event{Seq: 3, Time: 12, CPU: 1, Task: 42, IRQ: true, Name: "sample"}.
		With("ret", -98).With("sock", uint64(1<<63)).With("comm", "a \"b\"\n\x01é").With("data", []byte{0, 255}).With("empty", "")
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"seq":3,"time":12,"cpu":1,"task":42,"irq":true,"name":"sample","fields":{"ret":-98,"sock":9223372036854775808,"comm":"a \"b\"\n\u0001é","data":["00ff"],"empty":""}}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back Event
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(e, back) {
		t.Errorf("%v became %v", e, back)
	}
	for _, bad := range []string{`{`, `{"fields":[]}`, `{"fields":{"a":{}}}`, `{"fields":{"a":["xy"]}}`, `{"fields":{"a":1.5}}`, `{"fields":{"a":true}}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s became %v", bad, back)
		}
	}
}

// FuzzPage: whatever a page holds, and whatever a format says, nothing panics.
func FuzzPage(f *testing.F) {
	f.Add(testFormat, page(1000, 0, record(1, false, sample(42, -98, 0)), record(1, true, sample(1, 1, 1)))[:256])
	f.Add(testFormat, page(1000, missedEvents|missedStored)[:64])
	if paths, _ := filepath.Glob("testdata/*.trace.gz"); len(paths) > 0 {
		r := load(f, paths[0])
		for i, format := range r.Formats {
			f.Add(format, r.Pages[i%len(r.Pages)].Data)
		}
	}
	h, err := ParseHeaderPage(testHeader)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, format string, page []byte) {
		d := newDecoder(h, nil)
		if parsed, err := ParseFormat(format); err == nil {
			d.add(parsed)
		}
		events, _ := d.page(nil, 0, page)
		for _, e := range number1(events) {
			if b, err := json.Marshal(e); err != nil || !json.Valid(b) {
				t.Fatalf("%v: %s", err, b)
			}
		}
		// Nor does the model, whatever comes.
		p := New(events...).Program(0, "")
		p.Timeline()
		p.Evidence(events...)
	})
}

// FuzzModel feeds the model with events in any order, as when some are lost.
func FuzzModel(f *testing.F) {
	r := load(f, "testdata/6.1.trace.gz")
	events, err := r.Events()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0, 1, 2, 3, 250, 251, 9, 9, 9})
	f.Fuzz(func(t *testing.T, picks []byte) {
		var some []Event
		at := 0
		for i, b := range picks {
			at = (at + int(b)) % len(events)
			e := events[at]
			e.Seq, e.Time = i+1, int64(i)
			some = append(some, e)
		}
		for _, pid := range []int{0, r.PID} {
			tr := New(some...)
			p := tr.Program(pid, "")
			p.Timeline()
			p.Evidence(some...)
			p.Messages()
			_ = tr.Lost().String()
		}
	})
}
