// SPDX-License-Identifier: MIT

// Package wire is the language that the host and the place of a check speak with
// each other: frames over a line, and inside them the records in which a check
// tells what it saw. The line is a serial line of a throw-away VM, or, where a
// check runs on this very kernel, a socket.
//
// The line carries bytes in both directions and nothing else; the kernel's
// console is another line. Each frame repeats a nonce that only the host and
// PID 1 know, so that bytes from anybody else in the VM are noise, not a result.
package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// Version is raised when frames, jobs or records change their meaning. Host
// and guest come from one build and refuse each other when it differs.
const Version = 2

// Nonce marks the frames of one boot. The host makes it at random and hands it
// to PID 1 in a file that only root can read.
type Nonce [8]byte

// Type says what a frame's payload is.
type Type byte

// The frames. Guest to host, unless a comment says otherwise.
const (
	// Hello is the first word: JSON of a Greeting. But for Wait, and a Fault instead
	// of it, no other frame comes before it.
	Hello Type = 'H'
	// Stdout and Stderr carry what the job printed, in pieces of any size.
	Stdout Type = 'o'
	Stderr Type = 'e'
	// Line is one Record, as JSON.
	Line Type = 'r'
	// File is a file that the job left for the host: name, NUL, content.
	File Type = 'f'
	// Fault says that the guest, not the job, failed: text.
	Fault Type = 'F'
	// Exit is the last word of the job: JSON of a Status.
	Exit Type = 'X'
	// Wait says what the place waits for before it can begin: text, or nothing when
	// it waits no longer. Only from a place on this kernel, and only before Hello.
	Wait Type = 'w'
	// Console is a piece of the kernel's log. Only from a place on this kernel: a VM
	// has a console of its own.
	Console Type = 'c'

	// Stdin goes from host to guest: input for the job. Empty means end of file.
	Stdin Type = 'i'
	// Resize goes from host to guest: rows and columns of the terminal, two uint16.
	Resize Type = 'z'
)

// Greeting is the payload of Hello.
type Greeting struct {
	Version int    `json:"version"`
	Release string `json:"release"` // uname -r
	Machine string `json:"machine"` // uname -m
}

// Status is the payload of Exit.
type Status struct {
	Code   int    `json:"code"`             // exit code of the job, or -1
	Signal string `json:"signal,omitempty"` // name of the signal that ended the job
}

// MaxPayload is the largest payload of a frame, in bytes. Larger output is cut
// into several frames by the writer.
const MaxPayload = 1 << 20

var magic = [2]byte{0xf5, 'N'}

const headerLen = 2 + 8 + 1 + 4 + 4

// ErrCorrupt is returned for a frame whose checksum does not fit its payload:
// bytes were lost or changed on the line.
var ErrCorrupt = errors.New("a frame on the result channel is corrupt")

// Writer writes frames. It may be used by several goroutines at once.
type Writer struct {
	mu    sync.Mutex
	w     io.Writer
	nonce Nonce
}

// NewWriter returns a Writer that marks its frames with nonce.
func NewWriter(w io.Writer, nonce Nonce) *Writer { return &Writer{w: w, nonce: nonce} }

// Frame writes one frame. The payload must not be longer than MaxPayload.
func (w *Writer) Frame(t Type, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("frame %q of %d bytes is longer than %d", t, len(payload), MaxPayload)
	}
	b := make([]byte, headerLen+len(payload))
	copy(b, magic[:])
	copy(b[2:], w.nonce[:])
	b[10] = byte(t)
	binary.LittleEndian.PutUint32(b[11:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[15:], crc32.ChecksumIEEE(payload))
	copy(b[headerLen:], payload)
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.w.Write(b)
	return err
}

// Stream returns an io.Writer whose bytes leave in frames of type t.
func (w *Writer) Stream(t Type) io.Writer { return stream{w, t} }

type stream struct {
	w *Writer
	t Type
}

func (s stream) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		end := min(n+MaxPayload, len(p))
		if err := s.w.Frame(s.t, p[n:end]); err != nil {
			return n, err
		}
		n = end
	}
	return len(p), nil
}

// Reader reads frames and steps over bytes that are none.
type Reader struct {
	r     *bufio.Reader
	start []byte
	// Noise counts the bytes that belonged to no frame of this nonce.
	Noise int
}

// NewReader returns a Reader for frames marked with nonce.
func NewReader(r io.Reader, nonce Nonce) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 64<<10), start: append(magic[:], nonce[:]...)}
}

// Next returns the next frame. The error is io.EOF when the line ended between
// frames, io.ErrUnexpectedEOF within one, ErrCorrupt for a broken one.
func (r *Reader) Next() (Type, []byte, error) {
	for {
		b, err := r.r.Peek(headerLen)
		if err != nil {
			if err == io.EOF && r.cut(b) {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
		if bytes.HasPrefix(b, r.start) {
			break
		}
		r.Noise++
		_, _ = r.r.Discard(1)
	}
	var h [headerLen]byte
	if _, err := io.ReadFull(r.r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(h[11:])
	if n > MaxPayload {
		return 0, nil, ErrCorrupt
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r.r, payload); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	if crc32.ChecksumIEEE(payload) != binary.LittleEndian.Uint32(h[15:]) {
		return 0, nil, ErrCorrupt
	}
	return Type(h[10]), payload, nil
}

// cut tells whether the line's last bytes are the start of a frame. Those before
// that are counted as noise.
func (r *Reader) cut(last []byte) bool {
	for i := range last {
		if b := last[i:]; bytes.HasPrefix(b, r.start) || bytes.HasPrefix(r.start, b) {
			r.Noise += i
			return true
		}
	}
	r.Noise += len(last)
	return false
}
