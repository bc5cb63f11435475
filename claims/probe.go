// SPDX-License-Identifier: MIT

package claims

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	tracing = "/sys/kernel/tracing"
	ours    = "claims" // the group of our own probes
)

// Probe has the trace show one more function of the kernel while the trial lasts: as
// events called name, with what args fetches of its arguments ("sock=$arg1:x64", see
// Documentation/trace/kprobetrace.rst). It must not be a name that the trace has already.
func (c *Trial) Probe(name, function, args string) {
	c.t.Helper()
	c.probe("p:", name, function, args)
}

// ProbeReturn has the trace show where a function returns: as events called name, with
// its result, "ret". At most 16 calls of it may be under way at once.
func (c *Trial) ProbeReturn(name, function string) {
	c.t.Helper()
	// Newer kernels know of a function that returns nothing, and refuse to show what.
	c.probe("r16:", name, function, "ret=$retval:x64", "")
}

// probe adds a probe with the first of these arguments that the kernel takes.
func (c *Trial) probe(kind, name, function string, args ...string) {
	c.t.Helper()
	if _, err := os.Stat(filepath.Join(tracing, "events", ours, name)); err != nil {
		f, err := os.OpenFile(filepath.Join(tracing, "kprobe_events"), os.O_WRONLY|os.O_APPEND, 0)
		c.Must(err, "opening the list of probes")
		for _, a := range args {
			if _, err = fmt.Fprintf(f, "%s%s/%s %s %s\n", kind, ours, name, function, a); err == nil {
				break
			}
		}
		f.Close()
		c.Must(err, "a probe of %s", function)
	}
	c.Enable(ours + ":" + name)
}

// Enable has the trace show further tracepoints while the trial lasts, "GROUP:NAME" as in
// trace.Config.
func (c *Trial) Enable(events ...string) {
	c.t.Helper()
	c.Must(place.collector.Enable(events...), "tracing more")
	c.t.Cleanup(func() {
		for _, e := range events {
			e, _, _ = strings.Cut(e, " if ")
			_ = os.WriteFile(filepath.Join(tracing, "events", strings.Replace(e, ":", "/", 1), "enable"), []byte("0"), 0)
		}
	})
}
