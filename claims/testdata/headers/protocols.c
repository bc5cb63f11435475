// SPDX-License-Identifier: GPL-2.0-only
/* The protocols as they are: 1 is nobody's, there are some behind 16, and room up to 31. */
#include <linux/build_bug.h>
#include <uapi/linux/netlink.h>

static_assert(NETLINK_ROUTE == 0);
static_assert(NETLINK_UNUSED == 1);
static_assert(NETLINK_USERSOCK == 2);
static_assert(NETLINK_FIREWALL == 3);
static_assert(NETLINK_ISCSI == 8);
static_assert(NETLINK_CONNECTOR == 11);
static_assert(NETLINK_KOBJECT_UEVENT == 15);
static_assert(NETLINK_GENERIC == 16);
static_assert(NETLINK_SCSITRANSPORT == 18);
static_assert(NETLINK_SMC == 22);
static_assert(MAX_LINKS == 32);
