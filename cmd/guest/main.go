// SPDX-License-Identifier: MIT

// Command guest is the program inside the place of a check. Without arguments,
// as PID 1, it boots a throw-away VM and does the job that it finds there.
//
//	guest       PID 1 of a throw-away VM
//	guest run   runs the program under test and sends its output and trace
//	guest here  does a job on this machine's own kernel, as root: see internal/place
package main

import (
	"fmt"
	"os"

	"netlinklabs/internal/guest"
)

func main() {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	var err error
	switch {
	case os.Getpid() == 1:
		guest.Boot()
	case verb == "run":
		err = run()
	case verb == "here":
		err = guest.Here(os.Args[2:])
	default:
		err = fmt.Errorf("usage: guest run, in the place of a check")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(2)
	}
}
