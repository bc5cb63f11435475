// SPDX-License-Identifier: MIT

package initramfs_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"netlinklabs/internal/initramfs"
)

func packed(t *testing.T, write func(*initramfs.Writer)) []byte {
	t.Helper()
	var b bytes.Buffer
	w := initramfs.NewWriter(&b)
	write(w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	b := packed(t, func(w *initramfs.Writer) {
		w.Data("/init", 0o700, []byte("the guest"))
		w.Dir("/job", 0o711)
		w.Data("/job/a/b", 0o666, []byte("12345"))
		w.Data("/job/empty", 0o600, nil)
		w.Symlink("/bin/sh", "busybox")
	})
	dir := t.TempDir()
	if err := initramfs.Unpack(bytes.NewReader(b), dir); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text = "-> " + target
		case d.Type().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(content)
		}
		got[strings.TrimPrefix(path, dir)] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"/init": "-rwx------ the guest", "/job": "drwx--x--x", "/job/a": "drwxr-xr-x", "/job/a/b": "-rw-rw-rw- 12345",
		"/job/empty": "-rw------- ", "/bin": "drwxr-xr-x", "/bin/sh": "-> busybox"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if err := initramfs.Unpack(bytes.NewReader(b), dir); err == nil {
		t.Error("files that were there have been written over")
	}
}

// Whatever is broken, or leads elsewhere, is an error, and nothing outside of the
// folder is touched.
func TestUnpackErrors(t *testing.T) {
	whole := packed(t, func(w *initramfs.Writer) { w.Data("/job/program", 0o755, []byte("1234567")) })
	for n := range whole {
		if err := initramfs.Unpack(bytes.NewReader(whole[:n]), t.TempDir()); err == nil && n < len(whole)-3 {
			t.Fatalf("the first %d of %d bytes were taken for an archive", n, len(whole))
		}
	}
	up := bytes.Replace(whole, []byte("job/program"), []byte("../programs"), 1)
	up = bytes.Replace(up, []byte("job\x00"), []byte("abc\x00"), 1)
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := initramfs.Unpack(bytes.NewReader(up), dir); err == nil || !strings.Contains(err.Error(), "leads elsewhere") {
		t.Errorf("a name above the folder: %v", err)
	}
	for _, text := range []string{"", "hello", strings.Repeat("x", 200), "070701" + strings.Repeat("0", 104), "070701" + strings.Repeat("f", 104)} {
		if err := initramfs.Unpack(strings.NewReader(text), t.TempDir()); err == nil {
			t.Errorf("%.20q was taken for an archive", text)
		}
	}
}
