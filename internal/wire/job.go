// SPDX-License-Identifier: MIT

package wire

import (
	"encoding/json"
	"fmt"
	"os"
)

// Paths inside the VM. The host puts files there, the guest looks for them there.
const (
	JobPath     = "/job/job.json"     // a Job, readable by root only
	LabPath     = "/job/lab.json"     // a Lab, for the check
	ProgramPath = "/job/program"      // the student's program
	OutDir      = "/out"              // what the job leaves here, the host gets back
	EarlierDir  = "/job/earlier"      // what earlier boots of the same check left: NAME.json
	FilesDir    = "/job/files"        // what the student has written beside the program
	GuestPath   = "/init"             // PID 1; in a check, the check itself as well
	ResultLine  = "/dev/ttyS1"        // overridden by Job.Line
	ModuleDir   = "/lib/netlink-labs" // the modules that the host sent
)

// BootedLine is what PID 1 says in the kernel's log before its first word: what
// stands behind it came with the job.
const BootedLine = "netlink-labs: booted"

// EnvInit is in the environment of a VM's PID 1: the kernel takes it from its
// command line.
const EnvInit = "NETLINK_LABS_INIT"

// Environment variables that the guest sets for the job.
const (
	// EnvGuest is set inside the place of a check, to the path of the guest
	// program. A test that needs that place and does not find the variable says
	// how to be run there.
	EnvGuest = "NETLINK_LABS_GUEST"
	// EnvLab is the path of the Lab description.
	EnvLab = "NETLINK_LABS_LAB"
	// EnvOut is the folder whose files go back to the host.
	EnvOut = "NETLINK_LABS_OUT"
	// EnvRecords is the number of the descriptor for records.
	EnvRecords = "NETLINK_LABS_RECORDS"
	// EnvModule, with a module's name behind it, is the path of its .ko file.
	EnvModule = "NETLINK_LABS_MODULE_"
	// EnvSlowness is how many times as long as usual the VM took to boot: a number.
	EnvSlowness = "NETLINK_LABS_SLOWNESS"
)

// Job is what PID 1 has to do in this boot.
type Job struct {
	Version int      `json:"version"`
	Nonce   Nonce    `json:"nonce"`
	Line    string   `json:"line"` // device of the result channel
	Argv    []string `json:"argv"`
	Dir     string   `json:"dir,omitempty"`
	Env     []string `json:"env,omitempty"` // KEY=value, added to the guest's own
	Modules []Module `json:"modules,omitempty"`
	// OneOutput joins the standard error to the standard output, so that what is
	// written to both keeps its order.
	OneOutput bool `json:"oneOutput,omitempty"`
	// Input asks for a standard input that the host feeds.
	Input bool `json:"input,omitempty"`
	// Terminal asks for a pseudo-terminal as input and output: the job is an
	// interactive shell.
	Terminal   bool   `json:"terminal,omitempty"`
	Rows, Cols uint16 `json:",omitempty"`
}

// Module is a kernel module to load, in this order.
type Module struct {
	Name   string `json:"name"`
	Path   string `json:"path"`             // in the VM
	Params string `json:"params,omitempty"` // as insmod takes them
	Stock  bool   `json:"stock,omitempty"`  // it comes with the kernel, and is no matter of versions
}

// Lab is what a check must know of its lab and of this boot.
type Lab struct {
	Number       int       `json:"number"`
	Name         string    `json:"name"` // NN-slug
	Title        string    `json:"title"`
	Steps        []LabStep `json:"steps"`
	Keys         []string  `json:"keys,omitempty"`
	Capabilities []string  `json:"capabilities,omitempty"`
	Trace        []string  `json:"trace,omitempty"` // beyond what every trace has
	Modules      []Module  `json:"modules,omitempty"`
	Program      string    `json:"program"`        // path of the program under test
	Boot         string    `json:"boot"`           // name of this boot
	Boots        []string  `json:"boots"`          // all boots, in order; the last one judges
	Live         bool      `json:"live,omitempty"` // send events and output as they come
	Args         []string  `json:"args,omitempty"` // arguments for the program, in a run
	// Shared says that the kernel is this machine's and goes on afterwards: what the
	// check does to it must be undone, and others may be at work on it.
	Shared bool `json:"shared,omitempty"`
}

// Instance is the trace instance of a check on a shared kernel.
const Instance = "netlink-labs"

// Here is what the privileged process of a check on this kernel is told first: one
// line of JSON on its standard input. Size bytes of initramfs follow, and then
// frames. The end of the input ends the check.
type Here struct {
	Version int      `json:"version"`
	Nonce   Nonce    `json:"nonce"`
	Size    int64    `json:"size"`
	Modules []Module `json:"modules,omitempty"` // those of the job
	Task    string   `json:"task"`              // what is done, for those who wait for it: "lab 4"
}

// LabStep is one step of a lab, as lab.toml declares it.
type LabStep struct {
	Title  string `json:"title"`
	Points int    `json:"points"`
	Read   string `json:"read,omitempty"` // where to read on: an anchor in README.md
}

// Earlier is what a boot leaves for the boots behind it, in the file
// EarlierDir/NAME.json.
type Earlier struct {
	Verdict string   `json:"verdict"` // of the VM: "kernel panic", "done"
	Records []Record `json:"records"`
	Console string   `json:"console"`
}

// LoadLab reads the Lab description that the environment names.
func LoadLab() (*Lab, error) {
	path := os.Getenv(EnvLab)
	if path == "" {
		return nil, fmt.Errorf("%s is not set: this is not the place of a check", EnvLab)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	l := new(Lab)
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}
