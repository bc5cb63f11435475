// SPDX-License-Identifier: GPL-2.0-only
/* A lock of one's own for a protocol. */
#include <linux/mutex.h>
#include <linux/netlink.h>

static DEFINE_MUTEX(lock);

struct netlink_kernel_cfg cfg = {
	.cb_mutex = &lock,
};
