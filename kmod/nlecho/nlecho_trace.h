/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Trace events of nlecho. They are the evidence that checks are built on:
 * README.md describes each field, and fields are only ever added.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM nlecho

#if !defined(_NLECHO_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _NLECHO_TRACE_H

#include <linux/minmax.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/skbuff.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include "nlecho.h"

#define NLECHO_TRACE_DATA	64

TRACE_DEFINE_ENUM(NLECHO_SENDER);
TRACE_DEFINE_ENUM(NLECHO_HEADER);
TRACE_DEFINE_ENUM(NLECHO_SHORT);
TRACE_DEFINE_ENUM(NLECHO_BELOW);
TRACE_DEFINE_ENUM(NLECHO_BEYOND);
TRACE_DEFINE_ENUM(NLECHO_PORT0);
TRACE_DEFINE_ENUM(NLECHO_NOMEM);
TRACE_DEFINE_ENUM(NLECHO_DEEP);
TRACE_DEFINE_ENUM(NLECHO_DELAY);
TRACE_DEFINE_ENUM(NLECHO_RELEASE);
TRACE_DEFINE_ENUM(NLECHO_FREED);
TRACE_DEFINE_ENUM(NLECHO_EXIT);
TRACE_DEFINE_ENUM(NLECHO_STOP);

/* A well-formed message, before anything is done with it. */
TRACE_EVENT(nlecho_input,

	TP_PROTO(const struct nlecho_msg *msg, const struct sk_buff *skb,
		 const struct nlmsghdr *nlh, u32 crc, u32 depth,
		 u32 stack_left),

	TP_ARGS(msg, skb, nlh, crc, depth, stack_left),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(const void *, sk)
		__field(u32, netns)
		__field(u32, portid)
		__field(u32, dst_group)
		__field(u32, skb_len)
		__field(u32, offset)
		__field(u32, nlmsg_len)
		__field(u16, type)
		__field(u16, flags)
		__field(u32, seq)
		__field(u32, pid)
		__field(u32, crc)
		__field(u32, depth)
		__field(u32, stack_left)
		__field(u32, stack_size)
		__field(u32, to)
		__field(u32, group)
		__field(u32, replies)
		__field(u32, delay_ms)
		__field(u8, reply_to)
		__field(u8, defer)
		__field(u8, hold)
		__field(u8, data_len)
		__array(u8, data, NLECHO_TRACE_DATA)
	),

	TP_fast_assign(
		__entry->id = msg->id;
		__entry->sk = msg->sk;
		__entry->netns = sock_net(msg->sk)->ns.inum;
		__entry->portid = msg->portid;
		__entry->dst_group = NETLINK_CB(skb).dst_group;
		__entry->skb_len = skb->len;
		__entry->offset = (const u8 *)nlh - skb->data;
		__entry->nlmsg_len = nlh->nlmsg_len;
		__entry->type = nlh->nlmsg_type;
		__entry->flags = nlh->nlmsg_flags;
		__entry->seq = nlh->nlmsg_seq;
		__entry->pid = nlh->nlmsg_pid;
		__entry->crc = crc;
		__entry->depth = depth;
		__entry->stack_left = stack_left;
		__entry->stack_size = THREAD_SIZE;
		__entry->to = msg->to;
		__entry->group = msg->group;
		__entry->replies = msg->replies;
		__entry->delay_ms = msg->delay_ms;
		__entry->reply_to = msg->reply_to;
		__entry->defer = msg->defer;
		__entry->hold = msg->hold;
		__entry->data_len = min_t(u32, nlh->nlmsg_len,
					  NLECHO_TRACE_DATA);
		memset(__entry->data, 0, NLECHO_TRACE_DATA);
		memcpy(__entry->data, nlh, __entry->data_len);
	),

	TP_printk("id=%llu sk=%p netns=%u portid=%u dst_group=%u skb_len=%u offset=%u nlmsg_len=%u type=%u flags=%#x seq=%u pid=%u crc=%08x depth=%u stack_left=%u stack_size=%u to=%u group=%u replies=%u delay_ms=%u reply_to=%s defer=%u hold=%u data=%s",
		  __entry->id, __entry->sk, __entry->netns, __entry->portid,
		  __entry->dst_group, __entry->skb_len, __entry->offset,
		  __entry->nlmsg_len, __entry->type, __entry->flags,
		  __entry->seq, __entry->pid, __entry->crc, __entry->depth,
		  __entry->stack_left, __entry->stack_size, __entry->to,
		  __entry->group, __entry->replies, __entry->delay_ms,
		  __print_symbolic(__entry->reply_to,
				   { NLECHO_SENDER, "sender" },
				   { NLECHO_HEADER, "header" }),
		  __entry->defer, __entry->hold,
		  __print_hex_str(__entry->data, __entry->data_len))
);

/* Bytes that are no message, or a message that is refused. */
TRACE_EVENT(nlecho_reject,

	TP_PROTO(u64 id, const struct sk_buff *skb, u32 offset, u32 nlmsg_len,
		 enum nlecho_reject reason),

	TP_ARGS(id, skb, offset, nlmsg_len, reason),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u32, portid)
		__field(u32, skb_len)
		__field(u32, offset)
		__field(u32, nlmsg_len)
		__field(u8, reason)
	),

	TP_fast_assign(
		__entry->id = id;
		__entry->portid = NETLINK_CB(skb).portid;
		__entry->skb_len = skb->len;
		__entry->offset = offset;
		__entry->nlmsg_len = nlmsg_len;
		__entry->reason = reason;
	),

	TP_printk("id=%llu portid=%u skb_len=%u offset=%u nlmsg_len=%u reason=%s",
		  __entry->id, __entry->portid, __entry->skb_len,
		  __entry->offset, __entry->nlmsg_len,
		  __print_symbolic(__entry->reason,
				   { NLECHO_SHORT, "short" },
				   { NLECHO_BELOW, "below" },
				   { NLECHO_BEYOND, "beyond" },
				   { NLECHO_PORT0, "port0" },
				   { NLECHO_NOMEM, "nomem" },
				   { NLECHO_DEEP, "deep" }))
);

/* A wait begins. */
TRACE_EVENT(nlecho_wait,

	TP_PROTO(const struct nlecho_msg *msg, u32 n),

	TP_ARGS(msg, n),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u32, portid)
		__field(u32, n)
		__field(u32, delay_ms)
		__field(u8, hold)
	),

	TP_fast_assign(
		__entry->id = msg->id;
		__entry->portid = msg->portid;
		__entry->n = n;
		__entry->delay_ms = msg->delay_ms;
		__entry->hold = msg->hold;
	),

	TP_printk("id=%llu portid=%u n=%u delay_ms=%u hold=%u",
		  __entry->id, __entry->portid, __entry->n, __entry->delay_ms,
		  __entry->hold)
);

/* The wait is over. */
TRACE_EVENT(nlecho_wake,

	TP_PROTO(const struct nlecho_msg *msg, u32 n, enum nlecho_why why),

	TP_ARGS(msg, n, why),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u32, portid)
		__field(u32, n)
		__field(u8, why)
	),

	TP_fast_assign(
		__entry->id = msg->id;
		__entry->portid = msg->portid;
		__entry->n = n;
		__entry->why = why;
	),

	TP_printk("id=%llu portid=%u n=%u why=%s",
		  __entry->id, __entry->portid, __entry->n,
		  __print_symbolic(__entry->why,
				   { NLECHO_DELAY, "delay" },
				   { NLECHO_RELEASE, "release" },
				   { NLECHO_FREED, "freed" },
				   { NLECHO_EXIT, "exit" },
				   { NLECHO_STOP, "stop" }))
);

/* netlink_unicast(), or netlink_broadcast(), has returned. */
TRACE_EVENT(nlecho_reply,

	TP_PROTO(const struct nlecho_msg *msg, u32 n, int ret),

	TP_ARGS(msg, n, ret),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(const void *, sk)
		__field(u32, portid)
		__field(u32, to)
		__field(u32, group)
		__field(u32, n)
		__field(s32, ret)
	),

	TP_fast_assign(
		__entry->id = msg->id;
		__entry->sk = msg->sk;
		__entry->portid = msg->portid;
		__entry->to = msg->to;
		__entry->group = msg->group;
		__entry->n = n;
		__entry->ret = ret;
	),

	TP_printk("id=%llu sk=%p portid=%u to=%u group=%u n=%u ret=%d",
		  __entry->id, __entry->sk, __entry->portid, __entry->to,
		  __entry->group, __entry->n, __entry->ret)
);

/* The answer to this message is over. */
TRACE_EVENT(nlecho_done,

	TP_PROTO(const struct nlecho_msg *msg, u32 sent),

	TP_ARGS(msg, sent),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u32, portid)
		__field(u32, replies)
		__field(u32, sent)
	),

	TP_fast_assign(
		__entry->id = msg->id;
		__entry->portid = msg->portid;
		__entry->replies = msg->replies;
		__entry->sent = sent;
	),

	TP_printk("id=%llu portid=%u replies=%u sent=%u",
		  __entry->id, __entry->portid, __entry->replies,
		  __entry->sent)
);

#endif /* _NLECHO_TRACE_H */

/* Out of tree: this very folder, which Kbuild adds to the include path. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE nlecho_trace
#include <trace/define_trace.h>
