// SPDX-License-Identifier: MIT

package kernel

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// The fields of the x86 boot protocol that lead to the payload (Documentation/arch/x86/boot.rst, protocol 2.08 and
// later). All numbers are little endian.
const (
	offSetupSects    = 0x1f1 // sectors of real-mode code after the first, 0 means 4
	offMagic         = 0x202 // "HdrS", then the version as a u16
	offPayload       = 0x248 // from the end of the real-mode code
	offPayloadLength = 0x24c
	protocolPayload  = 0x208
)

// maxImage bounds what an image may say of its size, in bytes.
const maxImage = 512 << 20

// addImage adds the uncompressed image to a prepared folder. It is a bonus: without it the compressed one is booted, so
// that only a full disk is an error.
func addImage(vmlinuz, dir string) error {
	vmlinux := filepath.Join(dir, "vmlinux")
	err := extractImage(vmlinuz, vmlinux)
	if err == nil {
		return nil
	}
	os.Remove(vmlinux)
	if diskFull(err) {
		return err
	}
	return nil
}

// extractImage writes the ELF image that is compressed in a bzImage. It fails where vmlinuz is not a bzImage, or the
// payload is not what Linux makes; what was written then is of no use.
func extractImage(vmlinuz, vmlinux string) error {
	image, err := os.ReadFile(vmlinuz)
	if err != nil {
		return err
	}
	payload, err := imagePayload(image)
	if err != nil {
		return fmt.Errorf("%s: %w", vmlinuz, err)
	}
	out, err := unpackPayload(payload)
	if err != nil {
		return fmt.Errorf("%s: %w", vmlinuz, err)
	}
	return os.WriteFile(vmlinux, out, 0o644)
}

// imagePayload returns the compressed part of a bzImage. The last four bytes of it are the length of what it holds.
func imagePayload(image []byte) ([]byte, error) {
	if len(image) < offPayloadLength+4 || string(image[offMagic:offMagic+4]) != "HdrS" {
		return nil, errors.New("not a bzImage")
	}
	if v := binary.LittleEndian.Uint16(image[offMagic+4:]); v < protocolPayload {
		return nil, fmt.Errorf("boot protocol %#x does not tell where the payload is", v)
	}
	sectors := int64(image[offSetupSects])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + int64(binary.LittleEndian.Uint32(image[offPayload:]))
	length := int64(binary.LittleEndian.Uint32(image[offPayloadLength:]))
	if length < 8 || start+length > int64(len(image)) {
		return nil, errors.New("the payload lies outside of the image")
	}
	return image[start : start+length], nil
}

// unpackPayload decompresses a payload and makes sure that it is an ELF file.
func unpackPayload(payload []byte) ([]byte, error) {
	data, trailer := payload[:len(payload)-4], payload[len(payload)-4:]
	size := binary.LittleEndian.Uint32(trailer)
	if size > maxImage {
		return nil, fmt.Errorf("the payload would be %d bytes", size)
	}
	r, err := decompressor(data)
	if err != nil {
		return nil, err
	}
	out := make([]byte, size)
	if _, err := io.ReadFull(r, out); err != nil {
		return nil, fmt.Errorf("the payload: %w", err)
	}
	if _, err := elf.NewFile(bytes.NewReader(out)); err != nil {
		return nil, fmt.Errorf("the payload: %w", err)
	}
	return out, nil
}

// decompressor reads data as what its first bytes say it is; they are of formats that Linux kernels and modules are
// compressed with.
func decompressor(data []byte) (io.Reader, error) {
	r := bytes.NewReader(data)
	switch {
	case bytes.HasPrefix(data, []byte{0x02, 0x21, 0x4c, 0x18}): // legacy frame
		return lz4.NewReader(r), nil
	case bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxImage))
	case bytes.HasPrefix(data, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return xz.NewReader(r)
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	}
	return nil, fmt.Errorf("unknown compression, first bytes % x", data[:min(len(data), 4)])
}
