// SPDX-License-Identifier: MIT

package vm

// AcquireSlot is for tests that hold slots without a VM.
var AcquireSlot = acquireSlot

// LimitOutput sets how many bytes of output a job may have, and returns what
// undoes it: the usual limit takes an emulated serial line half a minute.
func LimitOutput(n int) (restore func()) {
	old := maxOutput
	maxOutput = n
	return func() { maxOutput = old }
}
