// SPDX-License-Identifier: GPL-2.0-only
/* The protocols as they were from 2.6.15 to 2.6.17: 1-Wire is 1, and 16 is the last. */
#include <linux/build_bug.h>
#include <uapi/linux/netlink.h>

static_assert(NETLINK_ROUTE == 0);
static_assert(NETLINK_W1 == 1);
static_assert(NETLINK_GENERIC == 16);
