// SPDX-License-Identifier: MIT

package initramfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Unpack makes the files of an archive below dir, as the kernel would at boot. It
// knows what a Writer writes, and no more.
func Unpack(r io.Reader, dir string) error {
	b := bufio.NewReaderSize(r, 256<<10)
	for {
		name, mode, size, err := header(b)
		if err != nil {
			return fmt.Errorf("unpacking the initramfs: %w", err)
		}
		if name == "TRAILER!!!" {
			return nil
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("unpacking the initramfs: %s leads elsewhere", name)
		}
		if err := unpackOne(b, filepath.Join(dir, name), mode, size); err != nil {
			return fmt.Errorf("unpacking the initramfs: %w", err)
		}
		if _, err := b.Discard(int(-size & 3)); err != nil {
			return fmt.Errorf("unpacking the initramfs: %s: %w", name, err)
		}
	}
}

func unpackOne(b *bufio.Reader, path string, mode uint32, size int64) error {
	perm := fs.FileMode(mode & 0o777)
	switch mode &^ 0o777 {
	case modeDir:
		if err := os.Mkdir(path, perm); err != nil {
			return err
		}
	case modeLink:
		target := make([]byte, size)
		if _, err := io.ReadFull(b, target); err != nil {
			return err
		}
		return os.Symlink(string(target), path)
	case modeFile:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
		if err != nil {
			return err
		}
		_, err = io.CopyN(f, b, size)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	default:
		return fmt.Errorf("%s is of no known kind (mode %o)", path, mode)
	}
	return os.Chmod(path, perm) // whatever the umask is
}

// header reads one header of the newc format: magic, 13 fields of 8 hexadecimal
// digits, name.
func header(b *bufio.Reader) (name string, mode uint32, size int64, err error) {
	var h [110]byte
	if _, err := io.ReadFull(b, h[:]); err != nil {
		return "", 0, 0, err
	}
	var field [13]int64
	for i := range field {
		if field[i], err = strconv.ParseInt(string(h[6+8*i:14+8*i]), 16, 64); err != nil || string(h[:6]) != "070701" {
			return "", 0, 0, errors.New("this is no cpio archive in newc format")
		}
	}
	n := field[11]
	if n < 2 || n > 4096 {
		return "", 0, 0, fmt.Errorf("a name of %d bytes", n)
	}
	text := make([]byte, n+(-(int64(len(h))+n)&3))
	if _, err := io.ReadFull(b, text); err != nil {
		return "", 0, 0, err
	}
	return strings.TrimRight(string(text[:n]), "\x00"), uint32(field[1]), field[6], nil
}
