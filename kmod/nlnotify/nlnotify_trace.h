/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Trace events of nlnotify. They are the evidence that checks are built on:
 * README.md describes each field, and fields are only ever added.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM nlnotify

#if !defined(_NLNOTIFY_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _NLNOTIFY_TRACE_H

#include <linux/netlink.h>
#include <linux/preempt.h>
#include <linux/skbuff.h>
#include <linux/tracepoint.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include "nlnotify.h"

TRACE_DEFINE_ENUM(NLNOTIFY_NEWS);
TRACE_DEFINE_ENUM(NLNOTIFY_LEAVING);
TRACE_DEFINE_ENUM(NLNOTIFY_ADMIN);
TRACE_DEFINE_ENUM(NLNOTIFY_TRIGGER);
TRACE_DEFINE_ENUM(NLNOTIFY_TIMER);
TRACE_DEFINE_ENUM(NLNOTIFY_VIA_GROUP);
TRACE_DEFINE_ENUM(NLNOTIFY_VIA_PORT);

/* nlmsg_multicast() or netlink_unicast() has returned. */
TRACE_EVENT(nlnotify_send,

	TP_PROTO(const struct sock *sk, u16 type, u32 number,
		 enum nlnotify_cause cause, enum nlnotify_via via, u32 to,
		 bool wait, int ret),

	TP_ARGS(sk, type, number, cause, via, to, wait, ret),

	TP_STRUCT__entry(
		__field(const void *, sk)
		__field(const void *, net)
		__field(u32, netns)
		__field(u32, number)
		__field(u32, to)
		__field(s32, ret)
		__field(u16, type)
		__field(u8, cause)
		__field(u8, via)
		__field(u8, wait)
		__field(u8, softirq)
	),

	TP_fast_assign(
		__entry->sk = sk;
		__entry->net = sock_net(sk);
		__entry->netns = sock_net(sk)->ns.inum;
		__entry->number = number;
		__entry->to = to;
		__entry->ret = ret;
		__entry->type = type;
		__entry->cause = cause;
		__entry->via = via;
		__entry->wait = wait;
		__entry->softirq = !!in_serving_softirq();
	),

	TP_printk("sk=%p net=%p netns=%u type=%s number=%u cause=%s via=%s to=%u wait=%u softirq=%u ret=%d",
		  __entry->sk, __entry->net, __entry->netns,
		  __print_symbolic(__entry->type,
				   { NLNOTIFY_NEWS, "news" },
				   { NLNOTIFY_LEAVING, "leaving" }),
		  __entry->number,
		  __print_symbolic(__entry->cause,
				   { NLNOTIFY_ADMIN, "admin" },
				   { NLNOTIFY_TRIGGER, "trigger" },
				   { NLNOTIFY_TIMER, "timer" },
				   { NLNOTIFY_QUESTION, "question" }),
		  __print_symbolic(__entry->via,
				   { NLNOTIFY_VIA_GROUP, "group" },
				   { NLNOTIFY_VIA_PORT, "port" }),
		  __entry->to, __entry->wait, __entry->softirq, __entry->ret)
);

/* A socket joins the group, or wants to. */
TRACE_EVENT(nlnotify_join,

	TP_PROTO(const struct net *net, u32 group, int ret),

	TP_ARGS(net, group, ret),

	TP_STRUCT__entry(
		__field(const void *, net)
		__field(u32, netns)
		__field(u32, group)
		__field(s32, ret)
	),

	TP_fast_assign(
		__entry->net = net;
		__entry->netns = net->ns.inum;
		__entry->group = group;
		__entry->ret = ret;
	),

	TP_printk("net=%p netns=%u group=%u ret=%d", __entry->net,
		  __entry->netns, __entry->group, __entry->ret)
);

/* A socket has left the group, by its own wish or by its end. */
TRACE_EVENT(nlnotify_part,

	TP_PROTO(const struct net *net, u32 group),

	TP_ARGS(net, group),

	TP_STRUCT__entry(
		__field(const void *, net)
		__field(u32, netns)
		__field(u32, group)
	),

	TP_fast_assign(
		__entry->net = net;
		__entry->netns = net->ns.inum;
		__entry->group = group;
	),

	TP_printk("net=%p netns=%u group=%u", __entry->net, __entry->netns,
		  __entry->group)
);

/* Bytes came from a program, before anything is done with them. */
TRACE_EVENT(nlnotify_input,

	TP_PROTO(const struct sk_buff *skb),

	TP_ARGS(skb),

	TP_STRUCT__entry(
		__field(const void *, sk)
		__field(u32, netns)
		__field(u32, portid)
		__field(u32, skb_len)
	),

	TP_fast_assign(
		__entry->sk = skb->sk;
		__entry->netns = sock_net(skb->sk)->ns.inum;
		__entry->portid = NETLINK_CB(skb).portid;
		__entry->skb_len = skb->len;
	),

	TP_printk("sk=%p netns=%u portid=%u skb_len=%u", __entry->sk,
		  __entry->netns, __entry->portid, __entry->skb_len)
);

/* A request among them has been answered, or refused. */
TRACE_EVENT(nlnotify_request,

	TP_PROTO(const struct sk_buff *skb, const struct nlmsghdr *nlh,
		 u32 number, int ret),

	TP_ARGS(skb, nlh, number, ret),

	TP_STRUCT__entry(
		__field(u32, portid)
		__field(u32, nlmsg_len)
		__field(u32, seq)
		__field(u32, number)
		__field(s32, ret)
		__field(u16, type)
		__field(u16, flags)
	),

	TP_fast_assign(
		__entry->portid = NETLINK_CB(skb).portid;
		__entry->nlmsg_len = nlh->nlmsg_len;
		__entry->seq = nlh->nlmsg_seq;
		__entry->number = number;
		__entry->ret = ret;
		__entry->type = nlh->nlmsg_type;
		__entry->flags = nlh->nlmsg_flags;
	),

	TP_printk("portid=%u nlmsg_len=%u type=%u flags=%#x seq=%u number=%u ret=%d",
		  __entry->portid, __entry->nlmsg_len, __entry->type,
		  __entry->flags, __entry->seq, __entry->number, __entry->ret)
);

/* leave was written. */
TRACE_EVENT(nlnotify_leave,

	TP_PROTO(bool leave),

	TP_ARGS(leave),

	TP_STRUCT__entry(
		__field(u8, leave)
	),

	TP_fast_assign(
		__entry->leave = leave;
	),

	TP_printk("leave=%u", __entry->leave)
);

#endif /* _NLNOTIFY_TRACE_H */

/* Out of tree: this very folder, which Kbuild adds to the include path. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE nlnotify_trace
#include <trace/define_trace.h>
