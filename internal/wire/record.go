// SPDX-License-Identifier: MIT

package wire

import "encoding/json"

// Kind says which part of a Record is filled in.
type Kind string

// The kinds of records, in the order in which a check emits them: Begin first,
// End last; a stream without End is not a result.
const (
	KindBegin  Kind = "begin"  // a check has begun
	KindStep   Kind = "step"   // a step was judged: Step
	KindOutput Kind = "output" // the program printed a line: Output
	KindEvent  Kind = "event"  // the trace has an event: Event, a trace.Event
	KindAnswer Kind = "answer" // what the kernel did, for a prediction: Answer
	KindNote   Kind = "note"   // something that the reader should know: Text
	KindExit   Kind = "exit"   // the program ended, in a boot that does not judge: Exit
	KindFault  Kind = "fault"  // the place failed, not the program: Text
	KindClaim  Kind = "claim"  // a claim was tried: Claim, a ledger.Report
	KindDied   Kind = "died"   // the program would have been the kernel's end, but for a guard: Text
	KindEnd    Kind = "end"    // the check came to its end
)

// Record is one line of a check's report. Checks send them on a descriptor of
// their own, never in test output, which anybody could print.
type Record struct {
	Kind   Kind            `json:"kind"`
	Boot   string          `json:"boot,omitempty"`
	Step   *Step           `json:"step,omitempty"`
	Output *Output         `json:"output,omitempty"`
	Event  json.RawMessage `json:"event,omitempty"`
	Answer *Answer         `json:"answer,omitempty"`
	Text   string          `json:"text,omitempty"`
	Exit   *ProgramExit    `json:"exit,omitempty"`
	Claim  json.RawMessage `json:"claim,omitempty"`
}

// ProgramExit is how a program ended.
type ProgramExit struct {
	Code    int    `json:"code"`              // -1 after a signal
	Signal  int    `json:"signal,omitempty"`  // that ended it
	Stopped string `json:"stopped,omitempty"` // why it was ended from outside
}

// Step is the verdict on one step of a lab.
type Step struct {
	N      int  `json:"n"` // from 1
	Passed bool `json:"passed"`
	// What follows is empty for a step that passed.
	Got      string   `json:"got,omitempty"`
	Expected string   `json:"expected,omitempty"`
	Trace    []string `json:"trace,omitempty"`  // the lines of the trace that matter
	Likely   string   `json:"likely,omitempty"` // the likely mistake
	// Program is how the program under test ended and its last words, when it did
	// not end well.
	Program []string `json:"program,omitempty"`
}

// Output is one line that the program under test printed.
type Output struct {
	Stream string `json:"stream"` // "stdout" or "stderr"
	Text   string `json:"text"`
	Time   int64  `json:"time"` // nanoseconds of CLOCK_MONOTONIC in the place of the check
}

// Answer is the true answer to one of the lab's predictions, from this run.
type Answer struct {
	ID     string `json:"id"`
	Option int    `json:"option"` // index of the option that was right
	Why    string `json:"why,omitempty"`
}
