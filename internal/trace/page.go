// SPDX-License-Identifier: MIT

package trace

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Flags in the commit field of a page that was handed to user space, and the types of records in it.
// (Kernel: ring_buffer.c, RB_MISSED_EVENTS and RB_MISSED_STORED; include/linux/ring_buffer.h, enum ring_buffer_type.)
const (
	missedEvents = 1 << 31
	missedStored = 1 << 30
	commitMask   = missedStored - 1

	typePadding    = 29
	typeTimeExtend = 30
	typeTimeStamp  = 31

	deltaBits = 27
	// An absolute time stamp carries 59 bits; the rest is that of the time before it (rb_fix_abs_ts).
	absoluteBits = 59
)

// Flags in common_flags of a record: what the task was interrupted by. (Kernel: enum trace_flag_type.)
const flagHardirqOrSoftirq = 0x08 | 0x10

// decoder turns the pages of the ring buffer into events.
type decoder struct {
	header  HeaderPage
	formats []*plan // by event ID; nil where the format has not been read
	// unknown is asked for the format of an event ID seen for the first time; nil, or an answer of nil, means that
	// records with this ID are left out.
	unknown func(id int) *Format
	ignored map[int]bool

	arena []field // fields are cut from here: one allocation for many events
}

// plan is a Format made ready: the fields that every record has are taken by their place, the others one by one.
type plan struct {
	name            string
	flags, pid, end int // offsets of common_flags and common_pid; bytes a record has at least
	fields          []Field
}

func newDecoder(h HeaderPage, unknown func(id int) *Format) *decoder {
	return &decoder{header: h, unknown: unknown, ignored: map[int]bool{}}
}

// add makes a format known.
func (d *decoder) add(f *Format) {
	p := &plan{name: f.Name, flags: -1, pid: -1}
	for _, field := range f.Fields {
		p.end = max(p.end, field.Offset+field.Size)
		switch field.Name {
		case "common_flags":
			if field.Size == 1 {
				p.flags = field.Offset
			}
		case "common_pid":
			if field.Size == 4 {
				p.pid = field.Offset
			}
		case "common_type", "common_preempt_count", "common_preempt_lazy_count", "common_migrate_disable":
			// of no use to a reader
		default:
			// Two underscores begin what only the kernel's own printing needs: the probe's address, the number of the
			// system call, padding, and from 7.x on the first bytes of what a program wrote.
			if !strings.HasPrefix(field.Name, "__") {
				p.fields = append(p.fields, field)
			}
		}
	}
	for len(d.formats) <= f.ID {
		d.formats = append(d.formats, nil)
	}
	d.formats[f.ID] = p
}

// page appends the events of one page, as a read of trace_pipe_raw returned it, to events. Whatever the bytes are, it
// does not panic; what cannot be understood is an error, and the events before it are returned with it.
func (d *decoder) page(events []Event, cpu int, page []byte) ([]Event, error) {
	le := binary.LittleEndian // as every machine that this project runs on; header_page does not tell
	if len(page) < d.header.Data || d.header.Data < 12 {
		return events, fmt.Errorf("trace: cpu %d: a page of %d bytes has no room for its header", cpu, len(page))
	}
	now := le.Uint64(page)
	var commit uint64
	if d.header.CommitSize == 8 {
		commit = le.Uint64(page[8:])
	} else {
		commit = uint64(le.Uint32(page[8:]))
	}
	data := page[d.header.Data:]
	used := int(commit & commitMask)
	if used > len(data) {
		return events, fmt.Errorf("trace: cpu %d: a page of %d bytes says that it holds %d", cpu, len(page), used)
	}
	if commit&missedEvents != 0 {
		lost := int64(-1)
		if commit&missedStored != 0 {
			// The count follows the last record.
			if rest := data[used:]; len(rest) >= 8 {
				lost = int64(le.Uint64(rest))
			}
		}
		events = append(events, Event{Time: int64(now), CPU: cpu, Name: Lost}.With("events", lost))
	}
	data = data[:used]

	for len(data) >= 4 {
		head := le.Uint32(data)
		kind, delta := head&31, uint64(head>>5)
		var body []byte
		size := 4
		switch {
		case kind == typePadding && delta == 0:
			return events, nil // the rest of the page is empty
		case kind == typeTimeExtend || kind == typeTimeStamp:
			if len(data) < 8 {
				return events, fmt.Errorf("trace: cpu %d: a time record is cut off", cpu)
			}
			long := uint64(le.Uint32(data[4:]))<<deltaBits | delta
			if kind == typeTimeExtend {
				now += long
			} else {
				now = long | now>>absoluteBits<<absoluteBits
			}
			data = data[8:]
			continue
		case kind == 0 || kind == typePadding: // the length stands in the next word, and counts that word
			if len(data) < 8 {
				return events, fmt.Errorf("trace: cpu %d: a record is cut off", cpu)
			}
			length := int64(le.Uint32(data[4:]))
			if length < 4 || length > int64(len(data)-4) {
				return events, fmt.Errorf("trace: cpu %d: a record of %d bytes in the last %d of a page", cpu, length, len(data)-4)
			}
			body = data[8 : 4+length]
			size = min(4+(int(length)+3)&^3, len(data))
		default:
			length := int(kind) * 4
			if length > len(data)-4 {
				return events, fmt.Errorf("trace: cpu %d: a record of %d bytes in the last %d of a page", cpu, length, len(data)-4)
			}
			body = data[4 : 4+length]
			size = 4 + length
		}
		now += delta
		data = data[size:]
		if kind == typePadding || len(body) < 2 {
			continue
		}
		if e, ok := d.record(body, cpu); ok {
			e.Time = int64(now)
			events = append(events, e)
		}
	}
	return events, nil
}

// record decodes one record; false means that it is none that was asked for.
func (d *decoder) record(b []byte, cpu int) (Event, bool) {
	id := int(binary.LittleEndian.Uint16(b))
	if id >= len(d.formats) || d.formats[id] == nil {
		if d.unknown == nil || d.ignored[id] {
			return Event{}, false
		}
		f := d.unknown(id)
		if f == nil || f.ID != id {
			d.ignored[id] = true
			return Event{}, false
		}
		d.add(f)
	}
	p := d.formats[id]
	if len(b) < p.end {
		return Event{}, false
	}
	e := Event{CPU: cpu, Name: p.name}
	if p.pid >= 0 {
		e.Task = int(int32(number(b[p.pid:], 4)))
	}
	if p.flags >= 0 {
		e.IRQ = b[p.flags]&flagHardirqOrSoftirq != 0
	}
	n := len(p.fields)
	if cap(d.arena)-len(d.arena) < n {
		d.arena = make([]field, 0, max(512, n))
	}
	start := len(d.arena)
	for i := range p.fields {
		d.arena = append(d.arena, value(b, &p.fields[i]))
	}
	e.fields = d.arena[start : start+n : start+n]
	return e, true
}

// value decodes one field; p.end has made sure that the field itself lies within b.
func value(b []byte, f *Field) field {
	if !f.Array {
		n := number(b[f.Offset:], f.Size)
		if !f.Signed {
			return field{name: f.Name, kind: kindUint, num: n}
		}
		unused := 64 - 8*f.Size
		return field{name: f.Name, kind: kindInt, num: uint64(int64(n<<unused) >> unused)}
	}
	var data []byte
	switch {
	case f.DataLoc || f.RelLoc:
		loc := int(number(b[f.Offset:], 4))
		start, length := loc&0xffff, loc>>16&0xffff
		if f.RelLoc {
			start += f.Offset + f.Size
		}
		if start <= len(b) {
			data = b[start:min(start+length, len(b))]
		}
	case f.Size == 0:
		data = b[f.Offset:]
	default:
		data = b[f.Offset : f.Offset+f.Size]
	}
	if !f.Char {
		return field{name: f.Name, kind: kindBytes, str: string(data)}
	}
	text := string(data)
	if i := strings.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	if !utf8.ValidString(text) { // a program may call itself anything
		return field{name: f.Name, kind: kindBytes, str: text}
	}
	return field{name: f.Name, kind: kindText, str: text}
}

func number(b []byte, size int) uint64 {
	le := binary.LittleEndian
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(le.Uint16(b))
	case 4:
		return uint64(le.Uint32(b))
	default:
		return le.Uint64(b)
	}
}
