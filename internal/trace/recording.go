// SPDX-License-Identifier: MIT

package trace

import (
	"bytes"
	"fmt"
	"slices"
)

// Recording is a stream as the kernel wrote it: the formats, and the raw pages. Tests decode recordings of several
// kernels, so that what differs between them is known without booting one. The tests save and load it; here it is only
// filled and decoded, as a check has no use for the rest.
type Recording struct {
	Release    string   // of the kernel, as uname -r prints it
	PID        int      // of the program that was recorded
	HeaderPage string   // events/header_page
	Formats    []string // the format files of the events that were met
	Pages      []Page   // in the order in which they were read
	Extra      []Event  // events that are not from the buffer: output, missed probes
}

// Page is one page of the ring buffer.
type Page struct {
	CPU  int
	Data []byte // without the unused end
}

// add keeps a page, as it was read.
func (r *Recording) add(cpu int, page []byte) {
	// The unused end of a page is zero, apart from a count of lost events behind the last record.
	r.Pages = append(r.Pages, Page{CPU: cpu, Data: bytes.Clone(bytes.TrimRight(page, "\x00"))})
}

// Events decodes the recording, in the order of time.
func (r *Recording) Events() ([]Event, error) {
	header, err := ParseHeaderPage(r.HeaderPage)
	if err != nil {
		return nil, err
	}
	d := newDecoder(header, nil)
	for _, text := range r.Formats {
		f, err := ParseFormat(text)
		if err != nil {
			return nil, err
		}
		d.add(f)
	}
	var events []Event
	page := make([]byte, header.Size)
	for _, p := range r.Pages {
		if len(p.Data) > len(page) {
			return nil, fmt.Errorf("trace: a recorded page has %d bytes, the header says %d", len(p.Data), len(page))
		}
		clear(page[copy(page, p.Data):])
		if events, err = d.page(events, p.CPU, page); err != nil {
			return nil, err
		}
	}
	events = slices.DeleteFunc(events, func(e Event) bool { return e.Name == "print" })
	events = append(events, r.Extra...)
	slices.SortStableFunc(events, byTime)
	for i := range events {
		events[i].Seq = i + 1
	}
	return events, nil
}
