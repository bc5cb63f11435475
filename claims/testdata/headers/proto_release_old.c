// SPDX-License-Identifier: GPL-2.0-only
/* The prototype that is given for it: netlink_broadcast's. */
#include <linux/build_bug.h>
#include <linux/netlink.h>

static_assert(__builtin_types_compatible_p(typeof(netlink_kernel_release),
	int(struct sock *, struct sk_buff *, __u32, __u32, gfp_t)));
