// SPDX-License-Identifier: GPL-2.0-only
/* What a module uses to speak Netlink. */
#include <linux/netlink.h>
#include <net/net_namespace.h>
#include <net/netlink.h>

static int answer(struct sk_buff *skb, struct nlmsghdr *nlh,
		  struct netlink_ext_ack *extack)
{
	struct sk_buff *reply = nlmsg_new(0, GFP_KERNEL);

	if (!reply || !nlmsg_put(reply, 0, nlh->nlmsg_seq, 16, 0, 0))
		return -ENOMEM;
	return netlink_unicast(skb->sk, reply, NETLINK_CB(skb).portid, MSG_DONTWAIT);
}

static void input(struct sk_buff *skb)
{
	netlink_rcv_skb(skb, answer);
}

struct sock *create(void);
struct sock *create(void)
{
	struct netlink_kernel_cfg cfg = {
		.input = input,
	};

	return netlink_kernel_create(&init_net, 25, &cfg);
}

int shout(struct sock *sk, struct sk_buff *skb);
int shout(struct sock *sk, struct sk_buff *skb)
{
	return netlink_broadcast(sk, skb, 0, 1, GFP_KERNEL);
}

void release(struct sock *sk);
void release(struct sock *sk)
{
	netlink_kernel_release(sk);
}
