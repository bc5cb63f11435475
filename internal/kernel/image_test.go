// SPDX-License-Identifier: MIT

package kernel

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

func TestExtractImage(t *testing.T) {
	vmlinux := append(makeELF(t, nil), bytes.Repeat([]byte("kernel "), 50_000)...)
	compressors := map[string]func(io.Writer) (io.WriteCloser, error){
		"lz4 legacy": func(w io.Writer) (io.WriteCloser, error) {
			z := lz4.NewWriter(w)
			return z, z.Apply(lz4.LegacyOption(true))
		},
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
		"xz":   func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	}
	for name, c := range compressors {
		t.Run(name, func(t *testing.T) {
			var payload bytes.Buffer
			w, err := c(&payload)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(vmlinux); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := extract(t, bzImage(payload.Bytes(), len(vmlinux)))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, vmlinux) {
				t.Errorf("got %d bytes, not the %d that were packed", len(got), len(vmlinux))
			}
		})
	}
}

func TestExtractImageRefuses(t *testing.T) {
	pack := func(data []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(data)
		w.Close()
		return b.Bytes()
	}
	program := makeELF(t, nil)
	good := bzImage(pack(program), len(program))
	if _, err := extract(t, good); err != nil {
		t.Fatalf("the image that the others are made from: %v", err)
	}
	change := func(f func(b []byte)) []byte {
		b := bytes.Clone(good)
		f(b)
		return b
	}
	tests := map[string]struct {
		image []byte
		want  string
	}{
		"empty":                {nil, "not a bzImage"},
		"short":                {good[:0x200], "not a bzImage"},
		"another format":       {change(func(b []byte) { b[offMagic] = 'X' }), "not a bzImage"},
		"an old protocol":      {change(func(b []byte) { b[offMagic+4] = 7 }), "protocol 0x207"},
		"cut":                  {good[:len(good)-1], "outside"},
		"a lie about the end":  {change(func(b []byte) { b[offPayloadLength+3] = 0xff }), "outside"},
		"a lie about the size": {bzImage(pack(program), len(program)+1), "unexpected EOF"},
		"a giant":              {bzImage(pack(program), maxImage+1), "would be"},
		"unknown compression":  {bzImage([]byte("????????"), 8), "unknown compression"},
		"no ELF file inside":   {bzImage(pack(bytes.Repeat([]byte("text"), 99)), 396), "bad magic"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := extract(t, tt.image)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// extract runs extractImage on an image.
func extract(t *testing.T, image []byte) ([]byte, error) {
	t.Helper()
	in, out := filepath.Join(t.TempDir(), "vmlinuz"), filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(in, image, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := extractImage(in, out); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// bzImage makes an image of the x86 boot protocol around a payload that says to unpack to size bytes.
func bzImage(payload []byte, size int) []byte {
	const sectors, stub = 1, 0x2cc
	payload = binary.LittleEndian.AppendUint32(bytes.Clone(payload), uint32(size))
	b := make([]byte, (sectors+1)*512+stub)
	b[offSetupSects] = sectors
	copy(b[offMagic:], "HdrS")
	binary.LittleEndian.PutUint16(b[offMagic+4:], 0x20f)
	binary.LittleEndian.PutUint32(b[offPayload:], stub)
	binary.LittleEndian.PutUint32(b[offPayloadLength:], uint32(len(payload)))
	return append(b, payload...)
}

// makeELF makes a 64-bit little-endian ELF file with the given sections, and one program header of type PT_INTERP.
func makeELF(t *testing.T, sections map[string][]byte) []byte {
	t.Helper()
	const headerSize, progSize, sectionSize = 64, 56, 64
	var data, names bytes.Buffer
	names.WriteByte(0)
	headers := []elf.Section64{{}}
	add := func(name string, content []byte, kind elf.SectionType) {
		headers = append(headers, elf.Section64{
			Name: uint32(names.Len()), Type: uint32(kind),
			Off: uint64(headerSize + progSize + data.Len()), Size: uint64(len(content)), Addralign: 1,
		})
		names.WriteString(name + "\x00")
		data.Write(content)
	}
	for name, content := range sections {
		add(name, content, elf.SHT_PROGBITS)
	}
	add(".shstrtab", append(bytes.Clone(names.Bytes()), ".shstrtab\x00"...), elf.SHT_STRTAB)
	h := elf.Header64{
		Ident:   [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(elf.ET_REL),
		Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: headerSize, Phentsize: progSize, Phnum: 1,
		Shoff: uint64(headerSize + progSize + data.Len()), Ehsize: headerSize,
		Shentsize: sectionSize, Shnum: uint16(len(headers)), Shstrndx: uint16(len(headers) - 1),
	}
	var out bytes.Buffer
	for _, part := range []any{h, elf.Prog64{Type: uint32(elf.PT_INTERP)}, data.Bytes(), headers} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := elf.NewFile(bytes.NewReader(out.Bytes())); err != nil {
		t.Fatalf("the test's own ELF file: %v", err)
	}
	return out.Bytes()
}
