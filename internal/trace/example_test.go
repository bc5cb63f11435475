// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"strings"
)

// exampleRun is a run like those that checks judge: two messages, of which the second came from a socket without a port.
func exampleRun() *Program {
	r := new(Recording)
	if err := read(r, "testdata/6.1.trace.gz"); err != nil {
		panic(err)
	}
	events, err := r.Events()
	if err != nil {
		panic(err)
	}
	return New(events...).Program(r.PID, "")
}

// Who waits for whom?
func ExampleInside() {
	run := exampleRun()

	message := run.Messages()[0]
	send := run.Calls(Sendmsg).To(0).OK().First()
	fmt.Println("the callback ended inside the send:", Inside(message.Done, send))
	fmt.Println("and before it returned:", Before(message.Done, send.Return))
	// Output:
	// the callback ended inside the send: true
	// and before it returned: true
}

// Which port did the kernel choose, and when?
func ExampleProgram_Sockets() {
	run := exampleRun()

	for _, s := range run.Sockets() {
		send := run.Calls(Sendmsg).On(s).First()
		switch {
		case s.Auto:
			fmt.Println("the kernel chose a port; while sending:", Inside(s.Bound, send))
		case s.Port != 0:
			fmt.Println("the program chose port", s.Port)
		default:
			fmt.Println("no port:", run.Calls(Bind).On(s).First().Err())
		}
	}
	// Output:
	// the program chose port 100
	// the kernel chose a port; while sending: true
	// no port: address already in use
	// the program chose port 77
}

// Which call was used, and did another thread wait for the reply meanwhile?
func ExampleCalls_By() {
	run := exampleRun()

	write := run.Calls(Sendmsg).By("write").First()
	read := run.Calls(Recvmsg).By("recvfrom").First()
	fmt.Println("another thread read while this one wrote:", During(write.Entry, read) && write.Task != read.Task)

	words := strings.Fields(write.String())
	fmt.Println(words[len(words)-1], "bytes")
	// Output:
	// another thread read while this one wrote: true
	// 32 bytes
}
