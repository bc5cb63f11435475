// SPDX-License-Identifier: GPL-2.0-only
/* What netlink_unicast() makes of its last argument: of any number but 0 the same. */
#include <linux/build_bug.h>
#include <net/sock.h>

static_assert(__builtin_types_compatible_p(
	typeof(&sock_sndtimeo), long (*)(const struct sock *, bool)));
