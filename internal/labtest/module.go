// SPDX-License-Identifier: MIT

package labtest

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
	"netlinklabs/internal/guest"
	"netlinklabs/internal/wire"
)

// Unload unloads a module as rmmod does, at once or not at all: the error tells that
// somebody uses it still (EAGAIN).
//
// The kernel throws away what is in the trace's buffer when a module goes whose
// events were traced. Everything that happened before the call is safe; let the
// program stand still meanwhile (SIGSTOP).
func (c *Check) Unload(module string) error {
	c.t.Helper()
	if err := c.collector.Sync(); err != nil {
		c.Fault("reading the trace: %v", err)
	}
	if err := unix.DeleteModule(module, unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("unloading the module %s: %w", module, err)
	}
	return nil
}

// Load loads a module of lab.toml anew, with these parameters and no others.
func (c *Check) Load(module, params string) {
	c.t.Helper()
	i := slices.IndexFunc(c.Lab.Modules, func(m wire.Module) bool { return m.Name == module })
	if i < 0 {
		c.Fault("the check loads the module %s, which lab.toml does not name", module)
	}
	if err := guest.LoadModule(c.Lab.Modules[i].Path, params); err != nil {
		c.Fault("%v", err)
	}
	if err := c.collector.Enable(module); err != nil {
		c.Fault("tracing the module %s: %v", module, err)
	}
}
