/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What nlecho.c and its trace events share.
 */
#ifndef _NLECHO_H
#define _NLECHO_H

#include <linux/types.h>

struct sock;

/* Values of the parameter reply_to; a part of the trace's format. */
enum nlecho_reply_to {
	NLECHO_SENDER	= 0,	/* NETLINK_CB(skb).portid: the kernel's word */
	NLECHO_HEADER	= 1,	/* nlmsg_pid: the sender's word */
};

/* Why a message, or bytes that are none, got no answer; trace format. */
enum nlecho_reject {
	NLECHO_TAKEN	= 0,	/* none: it is answered */
	NLECHO_SHORT	= 1,	/* fewer bytes left than a header has */
	NLECHO_BELOW	= 2,	/* nlmsg_len is less than a header */
	NLECHO_BEYOND	= 3,	/* nlmsg_len is more than what is left */
	NLECHO_PORT0	= 4,	/* deferred answers to oneself never end */
	NLECHO_NOMEM	= 5,	/* no memory for a deferred answer */
	NLECHO_DEEP	= 6,	/* deeper in a recursion than max_depth */
};

/* What ended a wait; trace format. */
enum nlecho_why {
	NLECHO_WAITING	= 0,	/* nothing yet */
	NLECHO_DELAY	= 1,	/* delay_ms are over */
	NLECHO_RELEASE	= 2,	/* a write to release */
	NLECHO_FREED	= 3,	/* hold=0 was written */
	NLECHO_EXIT	= 4,	/* the network namespace or the module goes */
	NLECHO_STOP	= 5,	/* a write to stop, or max_depth was passed */
};

/**
 * struct nlecho_msg - a message that is being answered
 * @id: its number, from 1; ties its trace events together
 * @sk: kernel socket that took it and sends the replies
 * @portid: port ID of its sender, from the control block
 * @to: port ID that the replies go to
 * @seq: its nlmsg_seq; the replies carry the same
 * @replies: how many replies to send
 * @delay_ms: wait before each of them, in milliseconds
 * @hold_gen: nlecho_hold_gen when it came
 * @stop_gen: nlecho_stop_gen when it came
 * @group: group that the replies go to instead, or 0
 * @reply_to: where @to comes from, an enum nlecho_reply_to
 * @defer: answer from the workqueue, not inside the input callback
 * @hold: each wait lasts until a ticket comes
 *
 * The parameters are copied here once, when the message comes, so that a
 * write to them never changes an answer that is under way.
 */
struct nlecho_msg {
	u64		id;
	struct sock	*sk;
	u32		portid;
	u32		to;
	u32		seq;
	u32		replies;
	u32		delay_ms;
	u32		hold_gen;
	u32		stop_gen;
	u8		group;
	u8		reply_to;
	u8		defer;
	u8		hold;
};

#endif /* _NLECHO_H */
