// SPDX-License-Identifier: GPL-2.0-only
/* netlink_kernel_release takes the socket and returns nothing. */
#include <linux/build_bug.h>
#include <linux/netlink.h>

static_assert(__builtin_types_compatible_p(typeof(netlink_kernel_release),
	void(struct sock *)));
