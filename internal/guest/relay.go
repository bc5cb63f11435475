// SPDX-License-Identifier: MIT

package guest

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/wire"
)

// carriers are the goroutines that carry output to the host.
type carriers struct{ wg sync.WaitGroup }

// copy carries what comes from r, to its end, and closes r.
func (c *carriers) copy(w io.Writer, r io.ReadCloser) {
	c.wg.Go(func() {
		defer r.Close()
		_, _ = io.Copy(w, r)
	})
}

// lines carries each line that comes from r as one frame. An empty line asks for a
// byte back when all before it has left the place.
func (c *carriers) lines(w *wire.Writer, r io.ReadWriteCloser, drain func() error) {
	c.wg.Go(func() {
		defer r.Close()
		s := bufio.NewScanner(r)
		s.Buffer(nil, wire.MaxPayload)
		var err error
		for err == nil && s.Scan() {
			if len(s.Bytes()) > 0 {
				err = w.Frame(wire.Line, s.Bytes())
			} else if err = drain(); err == nil {
				_, _ = r.Write([]byte{'\n'}) // who asked may have ended
			}
		}
		if err = cmp.Or(err, s.Err()); err != nil {
			_ = w.Frame(wire.Fault, []byte("carrying the records of the check: "+err.Error()))
		}
	})
}

// wait waits until all has been carried, but no longer than limit: a process that
// cannot be killed may hold the other end of a pipe open for ever.
func (c *carriers) wait(limit time.Duration) {
	done := make(chan struct{})
	go func() { c.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// startTerminal starts cmd on a pseudo-terminal whose other end is the host's.
func startTerminal(cmd *exec.Cmd, job *wire.Job, line io.Reader, w *wire.Writer, out *carriers) error {
	if err := os.MkdirAll("/dev/pts", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666"); err != nil {
		return err
	}
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err != nil {
		return err
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	resize := func(rows, cols uint16) {
		_ = unix.IoctlSetWinsize(int(ptmx.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	}
	resize(job.Rows, job.Cols)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	// Reading fails with EIO when the shell has gone: that is its end of file.
	out.copy(w.Stream(wire.Stdout), ptmx)
	go feed(line, job.Nonce, func(b []byte) {
		if len(b) == 0 {
			b = []byte{4} // ^D, as a terminal says end of file
		}
		_, _ = ptmx.Write(b)
	}, resize)
	return nil
}

// feed hands on what the host sends, until the line ends: input to write, the end
// of it as an empty piece. It never lets the line wait for the job: a serial line
// without flow control loses what nobody takes.
func feed(line io.Reader, nonce wire.Nonce, write func([]byte), resize func(rows, cols uint16)) {
	var mu sync.Mutex
	var pieces [][]byte
	more := sync.NewCond(&mu)
	go func() {
		for {
			mu.Lock()
			for len(pieces) == 0 {
				more.Wait()
			}
			b := pieces[0]
			pieces = pieces[1:]
			mu.Unlock()
			write(b)
		}
	}()
	r := wire.NewReader(line, nonce)
	for {
		t, b, err := r.Next()
		if err != nil {
			return
		}
		switch {
		case t == wire.Stdin:
			mu.Lock()
			pieces = append(pieces, b)
			mu.Unlock()
			more.Signal()
		case t == wire.Resize && len(b) == 4:
			resize(binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]))
		}
	}
}
