// SPDX-License-Identifier: GPL-2.0-only
/* The prototype that one of the articles prints. Declared once more, it has to be the same. */
#include <linux/netlink.h>

void netlink_broadcast(struct sock *ssk, struct sk_buff *skb, __u32 portid,
		       __u32 group, gfp_t allocation);
