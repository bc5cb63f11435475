// SPDX-License-Identifier: GPL-2.0-only
/* The macros for lengths, and where the payload begins. */
#include <linux/build_bug.h>
#include <uapi/linux/netlink.h>

static_assert(NLMSG_HDRLEN == sizeof(struct nlmsghdr));
static_assert(NLMSG_LENGTH(5) == 21);
static_assert(NLMSG_SPACE(5) == 24);

char *payload(struct nlmsghdr *nlh);
char *payload(struct nlmsghdr *nlh)
{
	return NLMSG_DATA(nlh);
}
