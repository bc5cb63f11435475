// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"strconv"
	"strings"
)

// Format is one event's own description, events/GROUP/NAME/format: what its fields are called, where they stand in a
// record and how wide they are. Offsets differ between kernels; no offset is written down anywhere else.
type Format struct {
	Name   string
	ID     int
	Fields []Field
}

// Field is one field of a Format.
type Field struct {
	Name   string
	Offset int // bytes from the start of the record
	Size   int // bytes; 0 for text that reaches to the end of the record
	Signed bool

	Array   bool // Size bytes of text or of numbers
	Char    bool // the elements are characters
	DataLoc bool // the field holds the length and the offset of the data, which follow the record (__data_loc)
	RelLoc  bool // the same, the offset counted from the end of the field (__rel_loc)
}

// ParseFormat reads the text of a format file. (Kernel: trace_events.c, f_show, the same on 5.10 to 7.2.)
func ParseFormat(text string) (*Format, error) {
	f := &Format{ID: -1}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "name: "):
			f.Name = line[len("name: "):]
		case strings.HasPrefix(line, "ID: "):
			id, err := strconv.Atoi(line[len("ID: "):])
			if err != nil || id < 0 || id > 0xffff {
				return nil, fmt.Errorf("trace: format of %s: %q is no event ID", f.Name, line)
			}
			f.ID = id
		case strings.HasPrefix(line, "field:"):
			field, err := parseField(line)
			if err != nil {
				return nil, fmt.Errorf("trace: format of %s: %w", f.Name, err)
			}
			f.Fields = append(f.Fields, field)
		case strings.HasPrefix(line, "print fmt:"):
			if f.Name == "" || f.ID < 0 {
				return nil, fmt.Errorf("trace: a format without name or ID: %.60q", text)
			}
			return f, nil
		}
	}
	if f.Name == "" || f.ID < 0 {
		return nil, fmt.Errorf("trace: a format without name or ID: %.60q", text)
	}
	return f, nil
}

// parseField reads "field:TYPE NAME;	offset:N;	size:N;	signed:N;".
func parseField(line string) (Field, error) {
	var f Field
	bad := func() (Field, error) { return Field{}, fmt.Errorf("cannot read the line %q", line) }

	parts := strings.Split(line, ";")
	if len(parts) < 4 {
		return bad()
	}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(strings.TrimSpace(part), ":")
		if key != "offset" && key != "size" && key != "signed" {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > 1<<16 {
			return bad()
		}
		switch key {
		case "offset":
			f.Offset = n
		case "size":
			f.Size = n
		case "signed":
			f.Signed = n != 0
		}
	}

	decl := strings.TrimPrefix(parts[0], "field:")
	decl, f.DataLoc = strings.CutPrefix(decl, "__data_loc ")
	if !f.DataLoc {
		decl, f.RelLoc = strings.CutPrefix(decl, "__rel_loc ")
	}
	// "char comm[16]", "unsigned long args[6]"; with __data_loc the brackets follow the type: "char[] filename".
	typ, name, found := cutLast(decl, ' ')
	if !found || name == "" {
		return bad()
	}
	if i := strings.IndexByte(name, '['); i >= 0 {
		f.Array, name = true, name[:i]
	}
	if i := strings.IndexByte(typ, '['); i >= 0 {
		f.Array, typ = true, typ[:i]
	}
	f.Array = f.Array || f.DataLoc || f.RelLoc
	f.Char = typ == "char" || strings.HasSuffix(typ, " char") && !strings.Contains(typ, "unsigned")
	f.Name = name
	if !f.Array && f.Size != 1 && f.Size != 2 && f.Size != 4 && f.Size != 8 {
		f.Array = true // a struct: its bytes
	}
	if (f.DataLoc || f.RelLoc) && f.Size != 4 {
		return bad()
	}
	return f, nil
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// HeaderPage is events/header_page: how a page of the ring buffer begins.
type HeaderPage struct {
	CommitSize int // width in bytes of the field that counts the bytes used, 4 or 8
	Data       int // offset of the first record
	Size       int // bytes of a whole page
}

// ParseHeaderPage reads the text of events/header_page. (Kernel: ring_buffer.c, ring_buffer_print_page_header.)
func ParseHeaderPage(text string) (HeaderPage, error) {
	var h HeaderPage
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "field:") {
			continue
		}
		f, err := parseField(line)
		if err != nil {
			return h, fmt.Errorf("trace: header_page: %w", err)
		}
		switch f.Name {
		case "commit":
			h.CommitSize = f.Size
		case "data":
			h.Data, h.Size = f.Offset, f.Offset+f.Size
		}
	}
	if (h.CommitSize != 4 && h.CommitSize != 8) || h.Data != 8+h.CommitSize || h.Size < 512 || h.Size > 1<<20 {
		return h, fmt.Errorf("trace: header_page describes a page this program does not know: %q", text)
	}
	return h, nil
}
