// SPDX-License-Identifier: MIT

package trace

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// save writes a recording to one compressed file.
func save(r *Recording, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(z).Encode(r); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}

// read reads what save wrote.
func read(r *Recording, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := json.NewDecoder(z).Decode(r); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func load(t testing.TB, path string) *Recording {
	t.Helper()
	r := new(Recording)
	if err := read(r, path); err != nil {
		t.Fatal(err)
	}
	return r
}

// recordings returns the recorded streams, by their kernel's series.
func recordings(t testing.TB) map[string]*Recording {
	t.Helper()
	all := map[string]*Recording{}
	for _, series := range []string{"5.10", "6.1", "6.12", "7.2"} {
		all[series] = load(t, filepath.Join("testdata", series+".trace.gz"))
	}
	return all
}
