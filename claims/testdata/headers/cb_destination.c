// SPDX-License-Identifier: GPL-2.0-only
/* The destination's port, written into NETLINK_CB. */
#include <linux/netlink.h>

void to(struct sk_buff *skb, u32 port);
void to(struct sk_buff *skb, u32 port)
{
	NETLINK_CB(skb).dst_pid = port;
}
