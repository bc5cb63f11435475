// SPDX-License-Identifier: MIT

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"netlinklabs/internal/trace"
)

// writeMessage writes the first message that nlecho took in a run, byte by byte as
// the kernel had it, with the names of struct nlmsghdr (include/uapi/linux/netlink.h).
func writeMessage(w io.Writer, p *trace.Program) error {
	messages := p.Messages()
	if len(messages) == 0 || !messages[0].Input.Seen() {
		return fmt.Errorf("nlecho took no message in this run")
	}
	m := messages[0]
	data := m.Data()
	length := int(m.Input.Uint("nlmsg_len"))
	var b strings.Builder
	b.WriteString("byte\n")
	for at := 0; at < 16; {
		var name, means string
		size := 4
		switch at {
		case 0:
			name, means = "nlmsg_len", fmt.Sprintf("%d: these 16 bytes, and %d of payload", length, length-16)
		case 4:
			name, means, size = "nlmsg_type", "what it asks for; the protocol decides", 2
		case 6:
			name, means, size = "nlmsg_flags", "a request, an ACK wanted, one part of many", 2
		case 8:
			name, means = "nlmsg_seq", "the sender's own number for it"
		case 12:
			name, means = "nlmsg_pid", "a port ID (C): the sender's word for itself"
		}
		if at > 0 {
			value := uint32(0)
			if size == 4 {
				value = binary.NativeEndian.Uint32(data[at:])
			} else {
				value = uint32(binary.NativeEndian.Uint16(data[at:]))
			}
			means = fmt.Sprintf("%d: %s", value, means)
		}
		fmt.Fprintf(&b, "%4d  % -11x  %-12s %s\n", at, data[at:at+size], name, means)
		at += size
	}
	for at := 16; at < min(length, len(data)); at += 4 {
		part := data[at:min(at+4, length, len(data))]
		name := ""
		if at == 16 {
			name = "payload"
		}
		fmt.Fprintf(&b, "%4d  % -11x  %-12s %q\n", at, part, name, part)
	}
	if length > len(data) {
		fmt.Fprintf(&b, "   …  and %d bytes more\n", length-len(data))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
