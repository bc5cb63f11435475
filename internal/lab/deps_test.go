// SPDX-License-Identifier: MIT

package lab

// These are here for go mod tidy: a student's program, which it does not see,
// imports them, and go.mod has to name them also while no lab of ours does.
import (
	_ "github.com/mdlayher/netlink"
	_ "github.com/vishvananda/netns"
	_ "golang.org/x/sys/unix"
)
