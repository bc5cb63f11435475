// SPDX-License-Identifier: MIT

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// stateFile stands in the student's folder of a lab.
const stateFile = ".lab.json"

// stateVersion is that of the file's form.
const stateVersion = 1

// State is what the workbook remembers of one student and one lab.
type State struct {
	Version int `json:"version"`
	// Hints is how many hints were given for each step, by the step's number.
	Hints map[int]int `json:"hints,omitempty"`
	// Predictions are the answers by the prediction's ID. One that was never
	// asked is not in it.
	Predictions map[string]Answer `json:"predictions,omitempty"`
	// Told are the predictions, by ID, that the student was told the truth of:
	// once is enough.
	Told map[string]bool `json:"told,omitempty"`
	// Steps tells for each step of the last check whether it passed.
	Steps map[int]bool `json:"steps,omitempty"`
	// Passed is when a check first passed whole; zero if none has.
	Passed time.Time `json:"passed,omitzero"`
}

// Answer is the first answer to a prediction.
type Answer struct {
	// Option is the index, from 0, of the option chosen; -1 where the
	// student skipped the question.
	Option int `json:"option"`
	// Text is that option's, so that a change of the lab does not change
	// what somebody answered.
	Text string `json:"text,omitempty"`
}

// Checked records the result of a whole check: for each step whether it passed.
func (s *State) Checked(steps map[int]bool, passed bool) {
	s.Steps = steps
	if passed && s.Passed.IsZero() {
		s.Passed = time.Now().UTC().Truncate(time.Second)
	}
}

// NextStep returns the number of the first step that did not pass in the last
// check; 0 when all did.
func (s *State) NextStep(l *Lab) int {
	for n := 1; n <= len(l.Meta.Steps); n++ {
		if !s.Steps[n] {
			return n
		}
	}
	return 0
}

// State reads what is remembered of a lab. A file that makes no sense is kept
// under another name and the state begins anew: note says so then.
func (w Workspace) State(l *Lab) (s *State, note string, err error) {
	fail := func(err error) (*State, string, error) {
		return nil, "", fmt.Errorf("read what was kept of lab %d: %w", l.Number, err)
	}
	path := filepath.Join(w.LabDir(l), stateFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newState(), "", nil
	}
	if err != nil {
		return fail(err)
	}
	s = newState()
	s.Version = 0 // the file has to say it
	if err = json.Unmarshal(text, s); err == nil && s.Version != stateVersion {
		err = fmt.Errorf("its version is %d, not %d", s.Version, stateVersion)
	}
	if err == nil && (s.Hints == nil || s.Predictions == nil || s.Steps == nil) {
		err = errors.New("a null in it")
	}
	if err == nil {
		return s, "", nil
	}
	bad := path + ".bad"
	for n := 2; ; n++ {
		if _, e := os.Lstat(bad); errors.Is(e, fs.ErrNotExist) {
			break
		}
		bad = fmt.Sprintf("%s.bad-%d", path, n)
	}
	if e := os.Rename(path, bad); e != nil {
		return fail(e)
	}
	note = fmt.Sprintf("%s cannot be understood (%v): it is kept as %s; hints and predictions of lab %d begin anew",
		path, err, filepath.Base(bad), l.Number)
	return newState(), note, nil
}

func newState() *State {
	return &State{
		Version:     stateVersion,
		Hints:       map[int]int{},
		Predictions: map[string]Answer{},
		Steps:       map[int]bool{},
	}
}

// Update reads the state of a lab, has change change it, and writes it. It
// does so under a lock, so that two checks at once lose nothing; a change that
// fails writes nothing. note is that of State.
func (w Workspace) Update(l *Lab, change func(*State) error) (note string, err error) {
	dir := w.LabDir(l)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", fmt.Errorf("keep what is known of lab %d: %w", l.Number, err)
	}
	// The folder itself is the lock: no file is left behind.
	lock, err := os.Open(dir)
	if err != nil {
		return "", fmt.Errorf("keep what is known of lab %d: %w", l.Number, err)
	}
	defer lock.Close()
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			return "", fmt.Errorf("lock %s: %w", dir, err)
		}
	}
	s, note, err := w.State(l)
	if err != nil {
		return note, err
	}
	if err := change(s); err != nil {
		return note, err
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return note, fmt.Errorf("keep what is known of lab %d: %w", l.Number, err)
	}
	return note, writeFile(filepath.Join(dir, stateFile), append(text, '\n'))
}
