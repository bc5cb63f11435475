/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The clients in labs/02-sendto/testdata/articles leave out two mistakes of
 * theirs that would do harm there. gcc -include articles.h puts them back: memory
 * for the message as malloc gives it (B14), and after an error of recvmsg or
 * recvfrom on with what is in the buffer (B18).
 */
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define calloc(n, size)	malloc((n) * (size))
#define break		(void)0
