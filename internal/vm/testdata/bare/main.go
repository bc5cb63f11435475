// SPDX-License-Identifier: MIT

// Command bare is an init that only powers off: what every check is compared
// with by the benchmark.
package main

import "golang.org/x/sys/unix"

func main() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
