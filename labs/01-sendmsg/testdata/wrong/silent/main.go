// SPDX-License-Identifier: MIT

// Fails: step 1: "no message was sent"
// A program that prints all the right words and does nothing. Whoever judges by
// the output is content with it.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	greeting := strings.Join(os.Args[1:], " ")
	fmt.Printf("sent=%d\n", 16+len(greeting))
	for range 4 {
		fmt.Println("bytes=1040")
		fmt.Println("from=0")
		fmt.Println("reply=I am from kernel!")
	}
}
