// SPDX-License-Identifier: GPL-2.0-only
/* netlink_unicast takes a socket, a message, a port and a flag. */
#include <linux/build_bug.h>
#include <linux/netlink.h>

static_assert(__builtin_types_compatible_p(typeof(netlink_unicast),
	int(struct sock *, struct sk_buff *, __u32, int)));
