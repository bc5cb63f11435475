// SPDX-License-Identifier: MIT

package trace

import (
	"compress/gzip"
	"encoding/json"
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

// load reads what save wrote.
func load(t testing.TB, path string) *Recording {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	r := new(Recording)
	if err := json.NewDecoder(z).Decode(r); err != nil {
		t.Fatalf("%s: %v", path, err)
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
