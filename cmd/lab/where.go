// SPDX-License-Identifier: MIT

package main

import "netlinklabs/internal/place"

// chooseWhere returns the place that the variable WHERE names, or the usual one of this
// machine. marked says that the machine is set aside for the labs, force that the user
// takes the risk on any other.
func chooseWhere(where string, force, marked bool) (place.Where, error) {
	switch w := place.Where(where); {
	case w == "" && marked:
		return place.OnThisKernel, nil
	case w == "" || w == place.InVM:
		return place.InVM, nil
	case w == place.InVagrant && marked:
		return "", usagef("WHERE=vagrant is for the host, and this is the VM: leave WHERE out")
	case w == place.InVagrant, w == place.OnThisKernel && (marked || force):
		return w, nil
	case w == place.OnThisKernel:
		return "", usagef("WHERE=here loads kernel modules into this machine's own kernel, and a mistake in them or in a program can take it down. " +
			"That is for machines set aside for it, as the Vagrant VM is. WHERE=vm takes a throw-away VM; FORCE=1 does it all the same")
	}
	return "", usagef("WHERE=%s: it is vm (a throw-away VM), here (this machine's own kernel) or vagrant (the Vagrant VM)", where)
}
