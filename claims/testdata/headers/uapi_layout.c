// SPDX-License-Identifier: GPL-2.0-only
/* The structures of the interface, as programs see them. */
#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <uapi/linux/netlink.h>

#define FIELD(type, member, at, bytes) \
	static_assert(offsetof(struct type, member) == (at)); \
	static_assert(sizeof_field(struct type, member) == (bytes))

static_assert(sizeof(struct sockaddr_nl) == 12);
FIELD(sockaddr_nl, nl_family, 0, 2);
FIELD(sockaddr_nl, nl_pad, 2, 2);
FIELD(sockaddr_nl, nl_pid, 4, 4);
FIELD(sockaddr_nl, nl_groups, 8, 4);

static_assert(sizeof(struct nlmsghdr) == 16);
FIELD(nlmsghdr, nlmsg_len, 0, 4);
FIELD(nlmsghdr, nlmsg_type, 4, 2);
FIELD(nlmsghdr, nlmsg_flags, 6, 2);
FIELD(nlmsghdr, nlmsg_seq, 8, 4);
FIELD(nlmsghdr, nlmsg_pid, 12, 4);
