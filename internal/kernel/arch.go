// SPDX-License-Identifier: MIT

package kernel

import (
	"fmt"
	"runtime"
)

// Arch is everything the project knows about a machine architecture. No other place names a machine type, a console
// or a compiler's triplet.
type Arch struct {
	Name   string // as in GOARCH
	Debian string // as in Debian's package names

	QEMU        string   // the system emulator's program
	Machine     string   // its -machine type ("pc": microvm hung in 3 of 15 boots under TCG)
	CPU         string   // its -cpu under TCG; under KVM it is "host"
	Console     string   // the guest's device of the first -serial: the kernel's console, for console=
	Result      string   // the guest's device of the second serial port: the result channel
	ResultArgs  []string // QEMU arguments that make the second port of the chardev with id "res"
	Params      string   // kernel parameters that the emulated machine wants
	PanicOnHang string   // kernel parameter that turns an injected NMI into a back-trace; empty: no such thing
	triplet     string   // of the GNU tools: TRIPLET-gcc
	headers     string   // what the kernel calls it: the start of its folder below arch/
	objtool     string   // the suffix of Debian's objtool for this architecture
}

var arches = []Arch{
	{
		Name: "amd64", Debian: "amd64",
		QEMU: "qemu-system-x86_64", Machine: "pc", CPU: "max",
		Console: "ttyS0", Result: "ttyS1", ResultArgs: []string{"-serial", "chardev:res"},
		// On a starved host the timer's test fails: "IO-APIC + timer doesn't work!" is a panic.
		Params:      "no_timer_check",
		PanicOnHang: "unknown_nmi_panic",
		triplet:     "x86_64-linux-gnu", headers: "x86", objtool: ".real-x86",
	},
	{
		Name: "arm64", Debian: "arm64",
		QEMU: "qemu-system-aarch64", Machine: "virt", CPU: "cortex-a72",
		// The virt machine has one PL011; a PCI serial card's 8250 port is the second.
		Console: "ttyAMA0", Result: "ttyS0", ResultArgs: []string{"-device", "pci-serial,chardev=res"},
		triplet: "aarch64-linux-gnu", headers: "arm", objtool: ".real-arm64",
	},
}

// HostArch returns the architecture of this machine. Kernels of other architectures are not prepared.
// It fails, as an *Error, on machines that the project does not know.
func HostArch() (Arch, error) {
	for _, a := range arches {
		if a.Name == runtime.GOARCH {
			return a, nil
		}
	}
	return Arch{}, &Error{
		Op:  "look up this machine's architecture",
		Err: fmt.Errorf("%s is not among the known ones", runtime.GOARCH),
		Fix: "use an amd64 or arm64 machine",
	}
}
