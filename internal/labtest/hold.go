// SPDX-License-Identifier: MIT

package labtest

import (
	"os"
	"strconv"
	"strings"

	"netlinklabs/internal/trace"
	"netlinklabs/internal/wire"
)

// A check can decide when the kernel goes on, so that nothing has to be slow to be
// seen:
//
//	c.Hold()
//	p := c.Start()
//	p.WaitFor(func(t *trace.Trace) bool { ... }) // nlecho waits before its first reply
//	...                                          // the program may take all the time it needs
//	c.Release(1)                                 // one reply goes out
//	c.Free()                                     // and the rest
//	run := p.Wait()

const parameters = "/sys/module/nlecho/parameters/"

// Hold makes nlecho wait before each reply to the messages that come from now on,
// until Release or Free lets it go on. Nothing stays held when the program is
// ended by its limits or the check is over.
func (c *Check) Hold() {
	c.t.Helper()
	c.free() // what an earlier Release has left over
	c.Param("nlecho", "hold", "1")
	c.held.Store(true)
}

// Release lets nlecho end n waits: those that it is in, or those that come.
func (c *Check) Release(n int) {
	c.t.Helper()
	c.Param("nlecho", "release", strconv.Itoa(n))
}

// Free lets nlecho go on with everything that is held, and holds nothing more.
func (c *Check) Free() {
	c.t.Helper()
	c.Param("nlecho", "hold", "0")
	c.held.Store(false)
}

// free is Free where a failure has nobody to be told to.
func (c *Check) free() {
	if c.held.Swap(false) {
		_ = os.WriteFile(parameters+"hold", []byte("0"), 0)
	}
}

// Waiting reports whether nlecho waits before a reply, at the end of the trace so
// far, to a message of the program.
func (p *Program) Waiting(t *trace.Trace) bool {
	for _, m := range t.Program(p.PID(), p.c.Lab.Program).Messages() {
		if len(m.Waits) > len(m.Wakes) {
			return true
		}
	}
	return false
}

// WaitForKey waits until the program has reported a value for a key that ok
// accepts, or is over, or is being ended because it does nothing: it returns the
// value, and whether there is one. The program may go on meanwhile: what it has
// reported is as old as the line.
func (p *Program) WaitForKey(key string, ok func(value string) bool) (string, bool) {
	for {
		for _, l := range p.Lines() {
			if v, found := keyValue(l, key); found && ok(v) {
				return v, true
			}
		}
		select {
		case <-p.said:
			continue
		case <-p.Over():
		case <-p.Ending():
		}
		for _, l := range p.Lines() { // what came last
			if v, found := keyValue(l, key); found && ok(v) {
				return v, true
			}
		}
		return "", false
	}
}

// keyValue returns the value of a line KEY=value of standard output.
func keyValue(l wire.Output, key string) (string, bool) {
	k, v, ok := strings.Cut(l.Text, "=")
	if !ok || l.Stream != "stdout" || strings.TrimSpace(k) != key {
		return "", false
	}
	return strings.TrimSpace(v), true
}
