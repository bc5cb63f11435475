// SPDX-License-Identifier: MIT

// Fails: step 1: "no message was sent"
// A test that looks at the output alone is content with this. It is the shortest
// program with the right words, and the first that a doubting student tries.
package main

import "fmt"

func main() {
	fmt.Println("sent: Hello, kernel!")
	for range 5 {
		fmt.Println("reply=I am from kernel!")
	}
}
