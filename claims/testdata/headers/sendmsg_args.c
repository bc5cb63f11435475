// SPDX-License-Identifier: GPL-2.0-only
/* What the sockets' function for sending is given: no struct kiocb. */
#include <linux/build_bug.h>
#include <linux/net.h>

static_assert(__builtin_types_compatible_p(
	typeof(((struct proto_ops *)0)->sendmsg),
	int (*)(struct socket *, struct msghdr *, size_t)));
