// SPDX-License-Identifier: MIT

package trace

// Sleep is a time in which the task of a call was not on the processor, because it waited for something.
type Sleep struct {
	State string // "S": a signal ends it; "D": none does
	Began Event  // sched_switch: the task left the processor
	Woken Event  // sched_waking, in the task that woke it; zero for one that sleeps on
}

// Sleeps returns the sleeps of the task inside the call, in order. It needs [SleepEvents].
//
// Who woke it is a question to [Inside]: Inside(sleep.Woken, recvmsg), where a reader did.
func (p *Program) Sleeps(c Call) []Sleep {
	var sleeps []Sleep
	for i, e := range p.trace.events {
		switch {
		case e.Name == Switch && Inside(e, c) && p.includes(i):
			if state := sleepState(e); state != "" {
				sleeps = append(sleeps, Sleep{State: state, Began: e})
			}
		case e.Name == Waking && int(e.Int("pid")) == c.Task && len(sleeps) > 0 && p.includes(i):
			if s := &sleeps[len(sleeps)-1]; !s.Woken.Seen() {
				s.Woken = e
			}
		}
	}
	return sleeps
}

// sleepState returns the state in which a sched_switch lets its task sleep, by the letter that proc(5) has for it, or ""
// where the task could have run on.
func sleepState(e Event) string {
	switch state := e.Int("prev_state"); {
	case state&2 != 0:
		return "D"
	case state&1 != 0:
		return "S"
	}
	return ""
}

// waking takes in that a task is woken: which send it was asleep in, if in one.
func (t *Trace) waking(e Event, in *info) {
	if k := t.tasks[int(e.Int("pid"))]; k != nil {
		for _, c := range k.open {
			if c.Name == Sendmsg {
				in.call = c
			}
		}
	}
}
