// SPDX-License-Identifier: GPL-2.0-only
/* The header that declares the header. */
#include <uapi/linux/netlink.h>

unsigned int size = sizeof(struct nlmsghdr);
