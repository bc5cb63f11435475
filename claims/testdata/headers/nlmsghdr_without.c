// SPDX-License-Identifier: GPL-2.0-only
/* The same without it: the compiler has not heard of the structure. */
#include <uapi/linux/socket.h>

unsigned int size = sizeof(struct nlmsghdr);
