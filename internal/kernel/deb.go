// SPDX-License-Identifier: MIT

package kernel

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// unpack unpacks from package files what want wants, by path without a leading slash, into dir; as many packages at a
// time as there are CPUs. It removes the package files.
func unpack(ctx context.Context, files []string, dir string, want func(name string) bool) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	errs := make([]error, len(files))
	for i, f := range files {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if errs[i] = unpackDeb(ctx, f, dir, want); errs[i] == nil {
				errs[i] = os.Remove(f)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// unpackDeb unpacks one package. dpkg-deb only decompresses; the files are written here, so that nothing goes on being
// written when this process is killed.
func unpackDeb(ctx context.Context, deb, dir string, want func(name string) bool) error {
	runtime.LockOSThread() // see command
	defer runtime.UnlockOSThread()
	cmd := command(ctx, "", cleanEnv(), "dpkg-deb", "--fsys-tarfile", deb)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	tarErr := untar(out, dir, want)
	if tarErr == nil {
		_, tarErr = io.Copy(io.Discard, out) // the padding, so that dpkg-deb ends well
	}
	out.Close()
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case tarErr != nil && err != nil: // either may be the reason of the other
		return fmt.Errorf("unpack %s: %w (%s)", filepath.Base(deb), tarErr, strings.TrimSpace(stderr.String()))
	case tarErr != nil:
		return fmt.Errorf("unpack %s: %w", filepath.Base(deb), tarErr)
	case err != nil:
		return &failure{"dpkg-deb", err, strings.TrimSpace(stderr.String())}
	}
	return nil
}

// untar writes the files of a package's archive that want wants below dir. Only what packages of kernels and compilers
// hold is known: folders, files and links.
func untar(r io.Reader, dir string, want func(name string) bool) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(h.Name)
		if !filepath.IsLocal(name) {
			return fmt.Errorf("the path %q leads out of the package", h.Name)
		}
		if h.Typeflag == tar.TypeDir || !want(name) {
			continue // folders are made for their files
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeReg:
			err = writeFile(path, tr, fs.FileMode(h.Mode)&0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		case tar.TypeLink:
			if !filepath.IsLocal(filepath.Clean(h.Linkname)) {
				return fmt.Errorf("the link %q leads out of the package", h.Name)
			}
			err = os.Link(filepath.Join(dir, h.Linkname), path)
		default:
			err = fmt.Errorf("%q is neither a file nor a link", h.Name)
		}
		if err != nil {
			return err
		}
	}
}

// writeFile writes a new file from r. Its owner can always read and replace it.
func writeFile(path string, r io.Reader, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
