// SPDX-License-Identifier: GPL-2.0-only
/* What goes with each message inside the kernel: NETLINK_CB(skb) is the buffer's cb, taken
 * for a struct netlink_skb_parms. And where its fields are: the trace looks there.
 */
#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/netlink.h>
#include <linux/skbuff.h>
#include <linux/stddef.h>

#define SKB ((struct sk_buff *)0)

static_assert(__same_type(NETLINK_CB(SKB), struct netlink_skb_parms));
static_assert((unsigned long)&NETLINK_CB(SKB) == offsetof(struct sk_buff, cb));

static_assert(offsetof(struct sk_buff, cb) == 40);
static_assert(offsetof(struct netlink_skb_parms, creds) == 0);
static_assert(offsetof(struct netlink_skb_parms, portid) == 12);
static_assert(offsetof(struct netlink_skb_parms, dst_group) == 16);
static_assert(offsetof(struct netlink_skb_parms, flags) == 20);
