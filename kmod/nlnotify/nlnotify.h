/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What goes over the wire, and what nlnotify.c and its trace events share.
 */
#ifndef _NLNOTIFY_H
#define _NLNOTIFY_H

#include <linux/netlink.h>
#include <linux/types.h>

#define NLNOTIFY_PROTOCOL	26	/* free in linux/netlink.h */
#define NLNOTIFY_GROUP		1	/* everything is told to this group */
#define NLNOTIFY_TEXT		"The kernel speaks first."

/* Types of messages, in both directions. */
enum nlnotify_type {
	NLNOTIFY_NEWS	 = NLMSG_MIN_TYPE,	/* struct nlnotify_news */
	NLNOTIFY_LEAVING,			/* the module is about to go */
	NLNOTIFY_GET,				/* a question, no payload */
	NLNOTIFY_STATE,				/* the answer: nlnotify_state */
};

/**
 * struct nlnotify_news - payload of NLNOTIFY_NEWS
 * @number: how many there were in this network namespace, this one included
 * @text: always the same, and zeros
 *
 * The text makes the message large enough to fill somebody's queue.
 */
struct nlnotify_news {
	__u32	number;
	char	text[1020];
};

/**
 * struct nlnotify_state - payload of NLNOTIFY_STATE
 * @number: that of the last notice, 0 before the first
 */
struct nlnotify_state {
	__u32	number;
};

/* What makes news; a part of the trace's format. */
enum nlnotify_cause {
	NLNOTIFY_ADMIN		= 0,	/* a write to leave, which makes none */
	NLNOTIFY_TRIGGER	= 1,	/* a write to trigger */
	NLNOTIFY_TIMER		= 2,	/* interval_ms are over */
	NLNOTIFY_QUESTION	= 3,	/* somebody asks, see meanwhile */
};

/* Values of the parameter via, bits of a mask; trace format. */
enum nlnotify_via {
	NLNOTIFY_VIA_GROUP	= 1,	/* multicast to NLNOTIFY_GROUP */
	NLNOTIFY_VIA_PORT	= 2,	/* unicast to the agreed port */
	NLNOTIFY_VIA_BOTH	= NLNOTIFY_VIA_GROUP | NLNOTIFY_VIA_PORT,
};

#endif /* _NLNOTIFY_H */
