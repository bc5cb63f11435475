// SPDX-License-Identifier: GPL-2.0-only
/* The control types, and where those of the families begin. */
#include <linux/build_bug.h>
#include <uapi/linux/netlink.h>

static_assert(NLMSG_NOOP == 1);
static_assert(NLMSG_ERROR == 2);
static_assert(NLMSG_DONE == 3);
static_assert(NLMSG_OVERRUN == 4);
static_assert(NLMSG_MIN_TYPE == 16);
