// SPDX-License-Identifier: GPL-2.0-only
/* Three protocols of 2.4. */
#include <linux/build_bug.h>
#include <uapi/linux/netlink.h>

static_assert(NETLINK_ARPD == 8);
static_assert(NETLINK_ROUTE6 == 11);
static_assert(NETLINK_IP6_FW == 13);
