// SPDX-License-Identifier: GPL-2.0-only
/* Today's prototype, and both kinds of allocation. */
#include <linux/gfp.h>
#include <linux/netlink.h>

int netlink_broadcast(struct sock *ssk, struct sk_buff *skb, __u32 portid,
		      __u32 group, gfp_t allocation);

int in_a_task(struct sock *sk, struct sk_buff *skb);
int in_a_task(struct sock *sk, struct sk_buff *skb)
{
	return netlink_broadcast(sk, skb, 0, 1, GFP_KERNEL);
}

int in_an_interrupt(struct sock *sk, struct sk_buff *skb);
int in_an_interrupt(struct sock *sk, struct sk_buff *skb)
{
	return netlink_broadcast(sk, skb, 0, 1, GFP_ATOMIC);
}
