// SPDX-License-Identifier: GPL-2.0-only
/*
 * nlecho - a Netlink protocol that answers every message, slowly
 *
 * For each message that arrives on protocol 25, nlecho sends a number of
 * messages back and waits before each of them. It exists to make visible what
 * Netlink does: by default it answers inside the input callback, so the
 * program's sendmsg() returns only when the last answer is on its way, and its
 * task is in state D meanwhile. README.md has the parameters and the trace
 * events, and tells why things are the way they are.
 *
 * It is a subject for experiments, not a service: any user may call it, and
 * with reply_to=header any user may bring the machine down.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/crc32.h>
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>
#include <net/netlink.h>
#include <net/netns/generic.h>
#include <net/sock.h>

#include "nlecho.h"

#define CREATE_TRACE_POINTS
#include "nlecho_trace.h"

#define NLECHO_PROTOCOL		25	/* free in linux/netlink.h */
#define NLECHO_PAYLOAD		1024	/* bytes in a reply */
#define NLECHO_TEXT		"I am from kernel!"

/* More than the 32 that every protocol has, and nl_groups has bits for. */
#define NLECHO_GROUPS		64

#define NLECHO_MAX_REPLIES	10000
#define NLECHO_MAX_DELAY_MS	(60 * 60 * 1000)
#define NLECHO_MAX_TICKETS	1000000
#define NLECHO_MAX_DEPTH	1000

/* struct nlecho_net - what nlecho keeps for each network namespace */
struct nlecho_net {
	struct sock *sk;
	struct workqueue_struct *wq;	/* deferred answers */
	struct list_head frames;	/* input callbacks under way */
	bool leaving;			/* waits end, no replies any more */
};

/* struct nlecho_frame - an input callback under way, on its own stack */
struct nlecho_frame {
	struct list_head node;		/* in nlecho_net.frames */
	const struct task_struct *task;
};

/* struct nlecho_waiter - a wait under way, on the stack of who waits */
struct nlecho_waiter {
	struct list_head node;		/* in nlecho_waiters */
	const struct nlecho_net *nn;
	bool hold;			/* ends by a ticket, not by time */
	enum nlecho_why why;
	struct completion go;
};

/* struct nlecho_job - an answer that the workqueue gives */
struct nlecho_job {
	struct work_struct work;
	struct nlecho_msg msg;
};

/* struct nlecho_uint - a parameter from 0 to @max */
struct nlecho_uint {
	unsigned int value;
	unsigned int max;
};

static unsigned int nlecho_net_id __read_mostly;
static atomic64_t nlecho_last_id = ATOMIC64_INIT(0);

/*
 * Guards everything below, and the lists and the flag in struct nlecho_net.
 * Process context only; never held while anybody waits or sends.
 */
static DEFINE_SPINLOCK(nlecho_lock);
static LIST_HEAD(nlecho_waiters);	/* in the order in which they began */
static unsigned int nlecho_tickets;	/* written to release, not used yet */
static u32 nlecho_hold_gen;		/* changed by each write of hold=0 */
static u32 nlecho_stop_gen;		/* changed by each nlecho_stop_all() */

static struct nlecho_uint nlecho_replies = {
	.value = 10, .max = NLECHO_MAX_REPLIES
};

static struct nlecho_uint nlecho_delay_ms = {
	.value = 3000, .max = NLECHO_MAX_DELAY_MS
};

/* 0: no guard */
static struct nlecho_uint nlecho_max_depth = {
	.value = 0, .max = NLECHO_MAX_DEPTH
};

static struct nlecho_uint nlecho_group = { .value = 0, .max = NLECHO_GROUPS };
static struct nlecho_uint nlecho_defer = { .value = 0, .max = 1 };
static struct nlecho_uint nlecho_hold = { .value = 0, .max = 1 };
static enum nlecho_reply_to nlecho_reply_to = NLECHO_SENDER;

static const char * const nlecho_reply_to_names[] = {
	[NLECHO_SENDER] = "sender",
	[NLECHO_HEADER] = "header",
};

/* ---- waiting ---- */

static void nlecho_wake(struct nlecho_waiter *w, enum nlecho_why why)
{
	lockdep_assert_held(&nlecho_lock);

	list_del(&w->node);
	w->why = why;
	complete(&w->go);
}

/* Wakes every wait of @nn, or, where that is NULL, every one that is held. */
static void nlecho_wake_all(const struct nlecho_net *nn, enum nlecho_why why)
{
	struct nlecho_waiter *w, *next;

	list_for_each_entry_safe(w, next, &nlecho_waiters, node)
		if (nn ? w->nn == nn : w->hold)
			nlecho_wake(w, why);
}

/* Ends every answer that is under way, what is unsent is not sent. */
static void nlecho_stop_all(void)
{
	struct nlecho_waiter *w, *next;

	spin_lock(&nlecho_lock);
	nlecho_stop_gen++;
	list_for_each_entry_safe(w, next, &nlecho_waiters, node)
		nlecho_wake(w, NLECHO_STOP);
	spin_unlock(&nlecho_lock);
}

/* Gives the tickets there are to the held waits that began first. */
static void nlecho_give_tickets(void)
{
	struct nlecho_waiter *w, *next;

	list_for_each_entry_safe(w, next, &nlecho_waiters, node) {
		if (!nlecho_tickets)
			break;
		if (!w->hold)
			continue;
		nlecho_tickets--;
		nlecho_wake(w, NLECHO_RELEASE);
	}
}

/* Uninterruptible on purpose: the caller is to be seen in state D. */
static enum nlecho_why nlecho_wait(const struct nlecho_msg *msg, u32 n)
{
	struct nlecho_waiter w = {
		.nn = net_generic(sock_net(msg->sk), nlecho_net_id),
		.hold = msg->hold,
		.why = NLECHO_WAITING,
	};

	init_completion(&w.go);

	spin_lock(&nlecho_lock);
	trace_nlecho_wait(msg, n);	/* so their order is that of the waits */
	if (w.nn->leaving) {
		w.why = NLECHO_EXIT;
	} else if (msg->stop_gen != nlecho_stop_gen) {
		w.why = NLECHO_STOP;
	} else if (!msg->hold) {
		w.why = msg->delay_ms ? NLECHO_WAITING : NLECHO_DELAY;
	} else if (msg->hold_gen != nlecho_hold_gen) {
		w.why = NLECHO_FREED;
	} else if (nlecho_tickets) {
		nlecho_tickets--;
		w.why = NLECHO_RELEASE;
	}
	if (w.why == NLECHO_WAITING)
		list_add_tail(&w.node, &nlecho_waiters);
	spin_unlock(&nlecho_lock);

	if (w.why != NLECHO_WAITING) {
		cond_resched();
		return w.why;
	}
	if (msg->hold) {
		wait_for_completion(&w.go);
		return w.why;
	}

	/* One jiffy more: the present one is partly over already. */
	if (wait_for_completion_timeout(&w.go,
					msecs_to_jiffies(msg->delay_ms) + 1))
		return w.why;

	spin_lock(&nlecho_lock);
	if (w.why == NLECHO_WAITING) {
		list_del(&w.node);
		w.why = NLECHO_DELAY;
	}
	spin_unlock(&nlecho_lock);
	return w.why;
}

/* ---- answering ---- */

static int nlecho_reply(const struct nlecho_msg *msg)
{
	struct nlmsghdr *nlh;
	struct sk_buff *skb;

	skb = nlmsg_new(NLECHO_PAYLOAD, GFP_KERNEL);
	if (!skb)
		return -ENOMEM;

	nlh = nlmsg_put(skb, msg->to, msg->seq, 0, NLECHO_PAYLOAD, 0);
	if (WARN_ON_ONCE(!nlh)) {
		kfree_skb(skb);
		return -EMSGSIZE;
	}
	strscpy_pad((char *)nlmsg_data(nlh), NLECHO_TEXT, NLECHO_PAYLOAD);

	if (msg->group)
		return nlmsg_multicast(msg->sk, skb, 0, msg->group, GFP_KERNEL);

	/*
	 * Port 0 is nlecho itself: its input callback then runs inside this
	 * call. By default nothing guards against that, on purpose: README.md.
	 */
	return netlink_unicast(msg->sk, skb, msg->to, MSG_DONTWAIT);
}

static void nlecho_answer(const struct nlecho_msg *msg)
{
	enum nlecho_why why;
	u32 n, sent = 0;
	int ret;

	for (n = 0; n < msg->replies; n++) {
		why = nlecho_wait(msg, n);
		trace_nlecho_wake(msg, n, why);
		if (why == NLECHO_EXIT || why == NLECHO_STOP)
			break;

		ret = nlecho_reply(msg);
		trace_nlecho_reply(msg, n, ret);
		if (ret >= 0)
			sent++;
	}
	trace_nlecho_done(msg, sent);
}

static void nlecho_work(struct work_struct *work)
{
	struct nlecho_job *job = container_of(work, struct nlecho_job, work);

	nlecho_answer(&job->msg);
	kfree(job);
}

static enum nlecho_reject nlecho_defer_answer(const struct nlecho_msg *msg)
{
	struct nlecho_net *nn = net_generic(sock_net(msg->sk), nlecho_net_id);
	struct nlecho_job *job;

	/*
	 * Each of its replies would come back as a message to answer. Inside
	 * the callback that ends with the stack; here it would never end.
	 */
	if (!msg->to && !msg->group)
		return NLECHO_PORT0;

	job = kmalloc(sizeof(*job), GFP_KERNEL);
	if (!job)
		return NLECHO_NOMEM;

	INIT_WORK(&job->work, nlecho_work);
	job->msg = *msg;
	queue_work(nn->wq, &job->work);
	return NLECHO_TAKEN;
}

/* ---- taking messages ---- */

static u32 nlecho_enter(struct nlecho_net *nn, struct nlecho_frame *frame)
{
	struct nlecho_frame *f;
	u32 depth = 0;

	frame->task = current;

	spin_lock(&nlecho_lock);
	list_add(&frame->node, &nn->frames);
	list_for_each_entry(f, &nn->frames, node)
		if (f->task == current)
			depth++;
	spin_unlock(&nlecho_lock);
	return depth;
}

static void nlecho_leave(struct nlecho_frame *frame)
{
	spin_lock(&nlecho_lock);
	list_del(&frame->node);
	spin_unlock(&nlecho_lock);
}

static void nlecho_message(struct sk_buff *skb, const struct nlmsghdr *nlh,
			   u64 id, u32 depth, u32 stack_left)
{
	struct nlecho_msg msg = {
		.id = id,
		.sk = skb->sk,
		.portid = NETLINK_CB(skb).portid,
		.seq = nlh->nlmsg_seq,
	};
	enum nlecho_reject reason;
	u32 max_depth;

	spin_lock(&nlecho_lock);
	msg.replies = nlecho_replies.value;
	msg.delay_ms = nlecho_delay_ms.value;
	msg.reply_to = nlecho_reply_to;
	msg.group = nlecho_group.value;
	msg.defer = nlecho_defer.value;
	msg.hold = nlecho_hold.value;
	msg.hold_gen = nlecho_hold_gen;
	msg.stop_gen = nlecho_stop_gen;
	max_depth = nlecho_max_depth.value;
	spin_unlock(&nlecho_lock);

	msg.to = msg.reply_to == NLECHO_HEADER ? nlh->nlmsg_pid : msg.portid;

	if (trace_nlecho_input_enabled()) {
		u32 crc = ~crc32_le(~0, (const u8 *)nlh, nlh->nlmsg_len);

		trace_nlecho_input(&msg, skb, nlh, crc, depth, stack_left);
	}

	if (max_depth && depth > max_depth) {
		/* a refusal alone would not do: each level has replies left */
		reason = NLECHO_DEEP;
		nlecho_stop_all();
	} else if (!msg.defer) {
		nlecho_answer(&msg);
		return;
	} else {
		reason = nlecho_defer_answer(&msg);
	}
	if (reason != NLECHO_TAKEN)
		trace_nlecho_reject(id, skb, (const u8 *)nlh - skb->data,
				    nlh->nlmsg_len, reason);
}

/*
 * Runs in the task of the sender, inside its sendmsg(), with no lock held: any
 * number of senders at once. Lengths are all that is looked at, flags and type
 * are not: netlink_rcv_skb() would skip a message that has no NLM_F_REQUEST or
 * a type below NLMSG_MIN_TYPE, and such are the messages to be answered here.
 */
static void nlecho_input(struct sk_buff *skb)
{
	/* not net_generic()->sk: a message can come before that is set */
	struct nlecho_net *nn = net_generic(sock_net(skb->sk), nlecho_net_id);
	struct nlmsghdr *nlh = nlmsg_hdr(skb);
	enum nlecho_reject reason;
	struct nlecho_frame frame;
	u32 depth, stack_left;
	int left = skb->len;
	u64 id;

	depth = nlecho_enter(nn, &frame);
	stack_left = (unsigned long)&frame - (unsigned long)end_of_stack(current);

	do {
		id = atomic64_inc_return(&nlecho_last_id);

		if (nlmsg_ok(nlh, left)) {
			nlecho_message(skb, nlh, id, depth, stack_left);
			nlh = nlmsg_next(nlh, &left);
			continue;
		}

		if (left < (int)sizeof(*nlh))
			reason = NLECHO_SHORT;
		else if (nlh->nlmsg_len < sizeof(*nlh))
			reason = NLECHO_BELOW;
		else
			reason = NLECHO_BEYOND;
		trace_nlecho_reject(id, skb, (u8 *)nlh - skb->data,
				    reason == NLECHO_SHORT ? 0 : nlh->nlmsg_len,
				    reason);
		break;	/* where the next message begins, nobody knows */
	} while (left > 0);

	nlecho_leave(&frame);
}

/* ---- parameters ---- */

static int nlecho_parse(const char *val, unsigned int max, unsigned int *res)
{
	if (kstrtouint(val, 10, res) || *res > max)
		return -EINVAL;
	return 0;
}

static int nlecho_uint_set(const char *val, const struct kernel_param *kp)
{
	struct nlecho_uint *p = kp->arg;
	unsigned int value;
	int err;

	err = nlecho_parse(val, p->max, &value);
	if (err)
		return err;

	spin_lock(&nlecho_lock);
	p->value = value;
	if (p == &nlecho_hold && !value) {
		/* messages held so far go on, and are never held again */
		nlecho_hold_gen++;
		nlecho_tickets = 0;
		nlecho_wake_all(NULL, NLECHO_FREED);
	}
	spin_unlock(&nlecho_lock);
	return 0;
}

static int nlecho_uint_get(char *buf, const struct kernel_param *kp)
{
	const struct nlecho_uint *p = kp->arg;

	return scnprintf(buf, PAGE_SIZE, "%u\n", READ_ONCE(p->value));
}

static const struct kernel_param_ops nlecho_uint_ops = {
	.set = nlecho_uint_set,
	.get = nlecho_uint_get,
};

static int nlecho_reply_to_set(const char *val, const struct kernel_param *kp)
{
	int i;

	i = sysfs_match_string(nlecho_reply_to_names, val);
	if (i < 0)
		return -EINVAL;

	spin_lock(&nlecho_lock);
	nlecho_reply_to = i;
	spin_unlock(&nlecho_lock);
	return 0;
}

static int nlecho_reply_to_get(char *buf, const struct kernel_param *kp)
{
	return scnprintf(buf, PAGE_SIZE, "%s\n",
			 nlecho_reply_to_names[READ_ONCE(nlecho_reply_to)]);
}

static const struct kernel_param_ops nlecho_reply_to_ops = {
	.set = nlecho_reply_to_set,
	.get = nlecho_reply_to_get,
};

static int nlecho_release_set(const char *val, const struct kernel_param *kp)
{
	unsigned int n;
	int err;

	err = nlecho_parse(val, NLECHO_MAX_TICKETS, &n);
	if (err)
		return err;

	spin_lock(&nlecho_lock);
	if (!n) {
		nlecho_tickets = 0;
	} else if (n > NLECHO_MAX_TICKETS - nlecho_tickets) {
		err = -EINVAL;
	} else {
		nlecho_tickets += n;
		nlecho_give_tickets();
	}
	spin_unlock(&nlecho_lock);
	return err;
}

/* Tickets and held waits are never there both: one number tells of both. */
static int nlecho_release_get(char *buf, const struct kernel_param *kp)
{
	struct nlecho_waiter *w;
	int n;

	spin_lock(&nlecho_lock);
	n = nlecho_tickets;
	list_for_each_entry(w, &nlecho_waiters, node)
		if (w->hold)
			n--;
	spin_unlock(&nlecho_lock);
	return scnprintf(buf, PAGE_SIZE, "%d\n", n);
}

static const struct kernel_param_ops nlecho_release_ops = {
	.set = nlecho_release_set,
	.get = nlecho_release_get,
};

static int nlecho_stop_set(const char *val, const struct kernel_param *kp)
{
	unsigned int n;

	if (nlecho_parse(val, 1, &n) || !n)
		return -EINVAL;

	nlecho_stop_all();
	return 0;
}

static const struct kernel_param_ops nlecho_stop_ops = {
	.set = nlecho_stop_set,
};

module_param_cb(replies, &nlecho_uint_ops, &nlecho_replies, 0644);
MODULE_PARM_DESC(replies, "replies to each message (0..10000, default 10)");
module_param_cb(delay_ms, &nlecho_uint_ops, &nlecho_delay_ms, 0644);
MODULE_PARM_DESC(delay_ms, "wait before each reply in ms (0..3600000, default 3000)");
module_param_cb(reply_to, &nlecho_reply_to_ops, NULL, 0644);
MODULE_PARM_DESC(reply_to, "port ID to reply to: sender (the kernel's word, default) or header (nlmsg_pid)");
module_param_cb(group, &nlecho_uint_ops, &nlecho_group, 0644);
MODULE_PARM_DESC(group, "reply to this group instead (1..64; 0: to a port, default)");
module_param_cb(defer, &nlecho_uint_ops, &nlecho_defer, 0644);
MODULE_PARM_DESC(defer, "1: answer from a workqueue, 0: inside the input callback (default)");
module_param_cb(hold, &nlecho_uint_ops, &nlecho_hold, 0644);
MODULE_PARM_DESC(hold, "1: each wait lasts until a write to release (default 0)");
module_param_cb(release, &nlecho_release_ops, NULL, 0644);
MODULE_PARM_DESC(release, "write N: let N held waits go, now or later; 0: take that back");
module_param_cb(stop, &nlecho_stop_ops, NULL, 0200);
MODULE_PARM_DESC(stop, "write 1: answers under way end, what is unsent is not sent");
module_param_cb(max_depth, &nlecho_uint_ops, &nlecho_max_depth, 0644);
MODULE_PARM_DESC(max_depth, "refuse a message to itself beyond this depth, and stop (0..1000, default 0: no guard)");

/* ---- network namespaces ---- */

static int __net_init nlecho_net_init(struct net *net)
{
	struct nlecho_net *nn = net_generic(net, nlecho_net_id);
	struct netlink_kernel_cfg cfg = {
		.groups = NLECHO_GROUPS,
		.input = nlecho_input,
	};

	INIT_LIST_HEAD(&nn->frames);
	nn->leaving = false;

	/*
	 * One for each namespace, so that the end of one waits for its own
	 * answers only. Unbound: an answer sleeps most of its time.
	 */
	nn->wq = alloc_workqueue("nlecho", WQ_UNBOUND, 0);
	if (!nn->wq)
		return -ENOMEM;

	/* last: from here on messages come */
	nn->sk = netlink_kernel_create(net, NLECHO_PROTOCOL, &cfg);
	if (!nn->sk) {
		pr_err("no kernel socket for protocol %d: is it taken?\n",
		       NLECHO_PROTOCOL);
		destroy_workqueue(nn->wq);
		return -ENOMEM;
	}
	return 0;
}

/*
 * No input callback is under way here, and none will be: a user's socket holds
 * a reference to its namespace and to this module. Deferred answers may be.
 */
static void __net_exit nlecho_net_exit(struct net *net)
{
	struct nlecho_net *nn = net_generic(net, nlecho_net_id);

	spin_lock(&nlecho_lock);
	nn->leaving = true;
	nlecho_wake_all(nn, NLECHO_EXIT);
	spin_unlock(&nlecho_lock);

	destroy_workqueue(nn->wq);
	netlink_kernel_release(nn->sk);
}

static struct pernet_operations nlecho_net_ops = {
	.init = nlecho_net_init,
	.exit = nlecho_net_exit,
	.id = &nlecho_net_id,
	.size = sizeof(struct nlecho_net),
};

static int __init nlecho_init(void)
{
	return register_pernet_subsys(&nlecho_net_ops);
}

static void __exit nlecho_exit(void)
{
	unregister_pernet_subsys(&nlecho_net_ops);
}

module_init(nlecho_init);
module_exit(nlecho_exit);

/*
 * No MODULE_ALIAS_NET_PF_PROTO(): whoever wants this module loads it by hand;
 * a user's socket() must not.
 */
MODULE_DESCRIPTION("Answers every Netlink message, slowly, to show how Netlink works");
MODULE_AUTHOR("The Netlink Labs authors");
MODULE_LICENSE("GPL");
