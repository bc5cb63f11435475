// SPDX-License-Identifier: GPL-2.0-only
/* A multicast with a filter of the sender's. */
#include <linux/netlink.h>
#include <net/netlink.h>

static int filter(struct sock *dsk, struct sk_buff *skb, void *data)
{
	return 0;
}

int shout(struct sock *sk, struct sk_buff *skb);
int shout(struct sock *sk, struct sk_buff *skb)
{
	return netlink_broadcast_filtered(sk, skb, 0, 1, GFP_KERNEL, filter, NULL);
}
