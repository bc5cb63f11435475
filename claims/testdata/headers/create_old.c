// SPDX-License-Identifier: GPL-2.0-only
/* The articles' call, with the six arguments that it had before 3.6. */
#include <linux/module.h>
#include <linux/netlink.h>
#include <net/net_namespace.h>

static void input(struct sk_buff *skb)
{
}

struct sock *create(void);
struct sock *create(void)
{
	return netlink_kernel_create(&init_net, 25, 0, input, NULL, THIS_MODULE);
}
