// SPDX-License-Identifier: MIT

package trace

// Recursion is how far nlecho's input callback called itself: an answer to port 0
// is a message to nlecho, and the callback runs inside its own netlink_unicast.
type Recursion struct {
	// Inputs are the calls of the callback inside each other, from the program's own
	// message to the deepest one.
	Inputs Events
	// Levels is how many there are, 1 without a recursion, 0 without a message.
	Levels int
	// BytesALevel is how much of the kernel's stack each level took; 0 where there
	// are less than two, or where they differ.
	BytesALevel int
}

// Recursion returns the deepest recursion of the program's run.
func (p *Program) Recursion() Recursion {
	var deepest, inputs Events // inputs are those under way
	for _, e := range p.Events(EchoInput) {
		depth := int(e.Int("depth"))
		if depth < 1 || depth > len(inputs)+1 {
			continue // of another task, or the trace begins inside
		}
		inputs = append(inputs[:depth-1:depth-1], e)
		if len(inputs) > len(deepest) {
			deepest = inputs
		}
	}
	r := Recursion{Inputs: deepest, Levels: len(deepest)}
	for i := 1; i < len(deepest); i++ {
		bytes := int(deepest[i-1].Int("stack_left") - deepest[i].Int("stack_left"))
		if i > 1 && bytes != r.BytesALevel {
			r.BytesALevel = 0
			break
		}
		r.BytesALevel = bytes
	}
	return r
}
