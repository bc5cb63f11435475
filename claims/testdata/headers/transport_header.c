// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does not compile, and is not meant to: the compiler says that a pointer to an array
 * of so many char is none to int, and that number is where the field is.
 */
#include <linux/skbuff.h>
#include <linux/stddef.h>

int *transport_header = (char (*)[offsetof(struct sk_buff, transport_header)])0;
