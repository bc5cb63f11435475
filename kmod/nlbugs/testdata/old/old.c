// SPDX-License-Identifier: GPL-2.0-only
/*
 * B13: a module for Linux 2.6.24 to 3.5, which later ones do not compile. It is
 * here for what the compiler says.
 */
#include <linux/module.h>
#include <linux/netlink.h>
#include <net/net_namespace.h>
#include <net/sock.h>

static struct sock *old_sk;

static void old_input(struct sk_buff *skb)
{
	pr_info("from port %d\n", NETLINK_CB(skb).pid);
}

static int __init old_init(void)
{
	old_sk = netlink_kernel_create(&init_net, 25, 1, old_input, NULL, THIS_MODULE);
	return old_sk ? 0 : -ENOMEM;
}

static void __exit old_exit(void)
{
	netlink_kernel_release(old_sk);
}

module_init(old_init);
module_exit(old_exit);

MODULE_DESCRIPTION("A module for an older kernel");
MODULE_LICENSE("GPL");
