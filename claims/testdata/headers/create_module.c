// SPDX-License-Identifier: GPL-2.0-only
/* The call of 3.6: with a configuration, and still with the module. */
#include <linux/module.h>
#include <linux/netlink.h>
#include <net/net_namespace.h>

struct sock *create(struct netlink_kernel_cfg *cfg);
struct sock *create(struct netlink_kernel_cfg *cfg)
{
	return netlink_kernel_create(&init_net, 25, THIS_MODULE, cfg);
}
