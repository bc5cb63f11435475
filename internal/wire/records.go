// SPDX-License-Identifier: MIT

package wire

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
)

// Records sends the records of a check to the host. It may be used by several
// goroutines at once.
type Records struct {
	mu   sync.Mutex
	w    *os.File
	boot string
}

// OpenRecords opens the descriptor that the environment names; boot marks the
// records with the boot that they come from.
func OpenRecords(boot string) (*Records, error) {
	fd, err := strconv.Atoi(os.Getenv(EnvRecords))
	if err != nil {
		return nil, fmt.Errorf("%s is not set: this is not the place of a check", EnvRecords)
	}
	return &Records{w: os.NewFile(uintptr(fd), "records"), boot: boot}, nil
}

// Send sends one record. It panics when the line to the host is gone, since
// nothing that follows could be heard.
func (r *Records) Send(rec Record) {
	rec.Boot = r.boot
	b, err := json.Marshal(rec)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		_, err = r.w.Write(append(b, '\n'))
	}
	if err != nil {
		panic(fmt.Sprintf("sending a record: %v", err))
	}
}

// Flush waits until all records have left the VM. It is for what may be the end of
// the VM's kernel.
func (r *Records) Flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.w.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("asking for the records to be sent: %w", err)
	}
	if _, err := r.w.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("waiting for the records to be sent: %w", err)
	}
	return nil
}
