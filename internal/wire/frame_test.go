// SPDX-License-Identifier: MIT

package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"netlinklabs/internal/wire"
)

var nonce = wire.Nonce{1, 2, 3, 4, 5, 6, 7, 8}

type frame struct {
	Type    wire.Type
	Payload string
}

// frames reads all frames of b, and returns them with the error that ended it.
func frames(b []byte) ([]frame, *wire.Reader, error) {
	r := wire.NewReader(bytes.NewReader(b), nonce)
	var out []frame
	for {
		t, p, err := r.Next()
		if err != nil {
			return out, r, err
		}
		out = append(out, frame{t, string(p)})
	}
}

// written returns the bytes of frames with this nonce.
func written(t testing.TB, n wire.Nonce, fs ...frame) []byte {
	t.Helper()
	var b bytes.Buffer
	w := wire.NewWriter(&b, n)
	for _, f := range fs {
		if err := w.Frame(f.Type, []byte(f.Payload)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestFramesAmongOtherBytes(t *testing.T) {
	hello, out, empty := frame{wire.Hello, "{}"}, frame{wire.Stdout, "some\r\nlines\x00"}, frame{wire.Stdin, ""}
	all := written(t, nonce, hello, out, empty)
	other := written(t, wire.Nonce{8, 7, 6}, frame{wire.Exit, `{"code":0}`})
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	// Damage to each part of the second frame's header and to its payload.
	second := len(written(t, nonce, hello))
	damaged := func(offset int, by byte) []byte {
		b := bytes.Clone(all)
		b[second+offset] ^= by
		return b
	}
	for _, tt := range []struct {
		name  string
		in    []byte
		want  []frame
		err   error
		noise int
	}{
		{"nothing", nil, nil, io.EOF, 0},
		{"frames alone", all, []frame{hello, out, empty}, io.EOF, 0},
		{"noise around them", join([]byte("\xf5N[ 0.1] Linux\n"), all, []byte("bye, and a rather long one")), []frame{hello, out, empty}, io.EOF, 15 + 26},
		{"noise between them", join(all, []byte("\xf5"), all), []frame{hello, out, empty, hello, out, empty}, io.EOF, 1},
		{"half a nonce, then a frame", join(all[:6], all), []frame{hello, out, empty}, io.EOF, 6},
		{"half a header, then a frame", join(all[:12], all), nil, wire.ErrCorrupt, 0},
		{"another nonce", join(other, all, other), []frame{hello, out, empty}, io.EOF, 2 * len(other)},
		{"only another nonce", other, nil, io.EOF, len(other)},
		{"a changed nonce", damaged(2, 1), []frame{hello, empty}, io.EOF, len(out.Payload) + 19},
		{"a longer length", damaged(11, 0x40), []frame{hello}, io.ErrUnexpectedEOF, 0},
		{"a shorter length", damaged(11, 0x08), []frame{hello}, wire.ErrCorrupt, 0},
		{"a huge length", damaged(14, 0x80), []frame{hello}, wire.ErrCorrupt, 0},
		{"another checksum", damaged(15, 1), []frame{hello}, wire.ErrCorrupt, 0},
		{"another payload", damaged(19, 1), []frame{hello}, wire.ErrCorrupt, 0},
		{"a lost byte of payload", join(all[:second+20], all[second+21:]), []frame{hello}, wire.ErrCorrupt, 0},
		{"cut in the payload", all[:second+25], []frame{hello}, io.ErrUnexpectedEOF, 0},
		{"cut behind the header", all[:second+19], []frame{hello}, io.ErrUnexpectedEOF, 0},
		{"cut in the header", all[:second+15], []frame{hello}, io.ErrUnexpectedEOF, 0},
		{"cut in the nonce, behind noise", join([]byte("noise"), all[:5]), nil, io.ErrUnexpectedEOF, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, r, err := frames(tt.in)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
			if err != tt.err {
				t.Errorf("got the error %v, want %v", err, tt.err)
			}
			if r.Noise != tt.noise {
				t.Errorf("counted %d bytes of noise, want %d", r.Noise, tt.noise)
			}
		})
	}
}

// TestFramesInPieces reads a line that hands out a byte at a time, as a UART may.
func TestFramesInPieces(t *testing.T) {
	want := frame{wire.Line, strings.Repeat("x", 3000)}
	r := wire.NewReader(iotest.OneByteReader(bytes.NewReader(written(t, nonce, want, want))), nonce)
	for range 2 {
		ty, p, err := r.Next()
		if got := (frame{ty, string(p)}); got != want || err != nil {
			t.Fatalf("got %q of %d bytes, %v", ty, len(p), err)
		}
	}
}

func TestLongOutputIsSplit(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789abcde\n"), (2*wire.MaxPayload+wire.MaxPayload/2)/16)
	var line bytes.Buffer
	n, err := wire.NewWriter(&line, nonce).Stream(wire.Stdout).Write(long)
	if n != len(long) || err != nil {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(long), err)
	}
	got, _, err := frames(line.Bytes())
	if err != io.EOF {
		t.Fatal(err)
	}
	var sizes []int
	var text strings.Builder
	for _, f := range got {
		sizes = append(sizes, len(f.Payload))
		text.WriteString(f.Payload)
	}
	if diff := cmp.Diff([]int{wire.MaxPayload, wire.MaxPayload, wire.MaxPayload / 2}, sizes); diff != "" {
		t.Errorf("sizes of the frames (-want +got):\n%s", diff)
	}
	if text.String() != string(long) {
		t.Error("the output came out changed")
	}
	if err := wire.NewWriter(io.Discard, nonce).Frame(wire.Line, make([]byte, wire.MaxPayload+1)); err == nil {
		t.Error("a frame that no reader takes was written")
	}
}

// failing fails from its second write on.
type failing struct{ writes int }

func (f *failing) Write(p []byte) (int, error) {
	if f.writes++; f.writes > 1 {
		return 0, errors.New("the line is gone")
	}
	return len(p), nil
}

func TestStreamTellsHowMuchLeft(t *testing.T) {
	n, err := wire.NewWriter(new(failing), nonce).Stream(wire.Stderr).Write(make([]byte, wire.MaxPayload+10))
	if n != wire.MaxPayload || err == nil {
		t.Errorf("got %d, %v; want the %d bytes of the first frame and an error", n, err, wire.MaxPayload)
	}
}

func TestWritersDoNotMix(t *testing.T) {
	pr, pw := io.Pipe()
	w := wire.NewWriter(pw, nonce)
	var wg sync.WaitGroup
	const writers, each = 8, 50
	for i := range writers {
		wg.Go(func() {
			for range each {
				if err := w.Frame(wire.Stdout, bytes.Repeat([]byte{byte('a' + i)}, 100*i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { wg.Wait(); pw.Close() }()
	r := wire.NewReader(pr, nonce)
	count := 0
	for {
		_, p, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p) > 0 && len(bytes.Trim(p, string(p[0]))) > 0 {
			t.Fatalf("a frame holds the bytes of two writers: %q", p)
		}
		count++
	}
	if count != writers*each || r.Noise != 0 {
		t.Errorf("read %d frames and %d bytes of noise, want %d and none", count, r.Noise, writers*each)
	}
}

// FuzzReader feeds a reader any bytes: it never panics, never takes more memory
// than a frame may need, and accounts for every byte.
func FuzzReader(f *testing.F) {
	good := written(f, nonce, frame{wire.Hello, "{}"}, frame{wire.Stdout, "text"})
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append([]byte("noise\xf5N"), good...))
	f.Add(written(f, wire.Nonce{}, frame{wire.Exit, "{}"}))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, r, err := frames(in)
		var again bytes.Buffer
		w := wire.NewWriter(&again, nonce)
		for _, f := range got {
			if len(f.Payload) > wire.MaxPayload {
				t.Fatalf("a frame of %d bytes", len(f.Payload))
			}
			if err := w.Frame(f.Type, []byte(f.Payload)); err != nil {
				t.Fatal(err)
			}
		}
		left := len(in) - again.Len() - r.Noise
		switch {
		case err == io.EOF && left != 0:
			t.Errorf("%d bytes became neither frame nor noise", left)
		case err != io.EOF && err != io.ErrUnexpectedEOF && err != wire.ErrCorrupt:
			t.Errorf("ended with %v", err)
		case err != io.EOF && left <= 0:
			t.Errorf("ended with %v, but no byte belongs to a broken frame", err)
		}
	})
}

func ExampleReader() {
	var line bytes.Buffer
	line.WriteString("[    0.000000] the kernel talks first\n")
	w := wire.NewWriter(&line, nonce)
	_ = w.Frame(wire.Hello, []byte(`{"release":"6.1.0"}`))
	_, _ = io.WriteString(w.Stream(wire.Stdout), "hello\n")

	r := wire.NewReader(&line, nonce)
	for {
		t, payload, err := r.Next()
		if err != nil {
			fmt.Println(err, "after", r.Noise, "other bytes")
			return
		}
		fmt.Printf("%c %s\n", t, bytes.TrimSpace(payload))
	}
	// Output:
	// H {"release":"6.1.0"}
	// o hello
	// EOF after 38 other bytes
}
