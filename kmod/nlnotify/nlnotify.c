// SPDX-License-Identifier: GPL-2.0-only
/*
 * nlnotify - a kernel module that speaks first
 *
 * It tells news on Netlink protocol 26 to whoever listens: to a multicast group
 * and to an agreed port, when the file trigger is written and by a timer.
 * Nobody has to ask for that; who has missed some can ask how many there were.
 * README.md describes parameters, messages and trace events, and tells why
 * things are the way they are.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/skbuff.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>
#include <net/netlink.h>
#include <net/netns/generic.h>
#include <net/sock.h>

#include "nlnotify.h"

#define CREATE_TRACE_POINTS
#include "nlnotify_trace.h"

#define NLNOTIFY_MAX_INTERVAL_MS	(60 * 60 * 1000)
#define NLNOTIFY_MAX_TRIGGER		100000
#define NLNOTIFY_MAX_MEANWHILE		1000

/* struct nlnotify_net - what nlnotify keeps for each network namespace */
struct nlnotify_net {
	struct list_head node;		/* in nlnotify_nets */
	struct sock *sk;
	atomic_t number;		/* of the last notice */
	struct timer_list timer;	/* makes news in softirq context */
	struct work_struct work;	/* makes news that may wait */
	atomic_t pending;		/* how many the work has to make */
};

static unsigned int nlnotify_net_id __read_mostly;
static struct workqueue_struct *nlnotify_wq;

/*
 * Guards the list, and each write to a parameter with what it brings about.
 * Held while news is told that never waits; news that may wait is told by the
 * work, without it. The timer takes no lock: each has its own namespace.
 */
static DEFINE_MUTEX(nlnotify_mutex);
static LIST_HEAD(nlnotify_nets);

static unsigned int nlnotify_interval_ms;	/* 0: the timer is off */
static unsigned int nlnotify_port = 5000000;	/* above every process ID */
static enum nlnotify_via nlnotify_via = NLNOTIFY_VIA_BOTH;
static bool nlnotify_wait;
static bool nlnotify_leave;
static atomic_t nlnotify_meanwhile;	/* for the next question */

static const char * const nlnotify_via_names[] = {
	[NLNOTIFY_VIA_GROUP] = "group",
	[NLNOTIFY_VIA_PORT] = "port",
	[NLNOTIFY_VIA_BOTH] = "both",
};

/* ---- speaking ---- */

static struct sk_buff *nlnotify_message(u16 type, u32 number, gfp_t gfp)
{
	struct nlnotify_news *news;
	struct nlmsghdr *nlh;
	struct sk_buff *skb;
	int len = type == NLNOTIFY_NEWS ? sizeof(*news) : 0;

	skb = nlmsg_new(len, gfp);
	if (!skb)
		return NULL;

	/* As the kernel does: nobody has asked, so there is no number to repeat. */
	nlh = nlmsg_put(skb, 0, 0, type, len, 0);
	if (WARN_ON_ONCE(!nlh)) {
		kfree_skb(skb);
		return NULL;
	}
	if (len) {
		news = nlmsg_data(nlh);
		news->number = number;
		strscpy_pad(news->text, NLNOTIFY_TEXT, sizeof(news->text));
	}
	return skb;
}

/*
 * Tells one thing in one namespace. In a timer @gfp is GFP_ATOMIC and @wait is
 * false: whoever must not sleep can do neither with memory nor with readers.
 */
static void nlnotify_tell(struct nlnotify_net *nn, u16 type, u32 number,
			  enum nlnotify_cause cause, gfp_t gfp, bool wait)
{
	enum nlnotify_via via = READ_ONCE(nlnotify_via);
	u32 port = READ_ONCE(nlnotify_port);
	struct sk_buff *skb;
	int ret;

	if (via & NLNOTIFY_VIA_GROUP) {
		ret = -ENOMEM;
		skb = nlnotify_message(type, number, gfp);
		if (skb)
			ret = nlmsg_multicast(nn->sk, skb, 0, NLNOTIFY_GROUP,
					      gfp);
		/* A multicast waits for nobody, whatever is asked for. */
		trace_nlnotify_send(nn->sk, type, number, cause,
				    NLNOTIFY_VIA_GROUP, NLNOTIFY_GROUP, false,
				    ret);
	}
	if (via & NLNOTIFY_VIA_PORT) {
		ret = -ENOMEM;
		skb = nlnotify_message(type, number, gfp);
		if (skb)
			ret = netlink_unicast(nn->sk, skb, port,
					      wait ? 0 : MSG_DONTWAIT);
		trace_nlnotify_send(nn->sk, type, number, cause,
				    NLNOTIFY_VIA_PORT, port, wait, ret);
	}
}

static void nlnotify_news(struct nlnotify_net *nn, enum nlnotify_cause cause,
			  gfp_t gfp, bool wait)
{
	u32 number = atomic_inc_return(&nn->number);

	nlnotify_tell(nn, NLNOTIFY_NEWS, number, cause, gfp, wait);
}

/*
 * What may wait for a reader, for ever, is told here and not by the task that
 * writes to trigger: that holds the lock of this module's parameters, and the
 * reader may want to read one.
 */
static void nlnotify_work(struct work_struct *work)
{
	struct nlnotify_net *nn = container_of(work, struct nlnotify_net, work);

	while (atomic_dec_if_positive(&nn->pending) >= 0) {
		nlnotify_news(nn, NLNOTIFY_TRIGGER, GFP_KERNEL, true);
		cond_resched();
	}
}

static void nlnotify_arm(struct nlnotify_net *nn, unsigned int interval_ms)
{
	mod_timer(&nn->timer, jiffies + msecs_to_jiffies(interval_ms));
}

/* Softirq context: whichever task is running was only interrupted. */
static void nlnotify_timeout(struct timer_list *timer)
{
	struct nlnotify_net *nn = container_of(timer, struct nlnotify_net,
					       timer);
	unsigned int interval_ms = READ_ONCE(nlnotify_interval_ms);

	if (!interval_ms || READ_ONCE(nlnotify_leave))
		return;
	nlnotify_news(nn, NLNOTIFY_TIMER, GFP_ATOMIC, false);
	nlnotify_arm(nn, interval_ms);
}

/* Starts or stops the timers, by what the parameters are now. */
static void nlnotify_rearm(void)
{
	struct nlnotify_net *nn;

	lockdep_assert_held(&nlnotify_mutex);

	list_for_each_entry(nn, &nlnotify_nets, node)
		if (nlnotify_interval_ms && !nlnotify_leave)
			nlnotify_arm(nn, nlnotify_interval_ms);
		else
			timer_delete_sync(&nn->timer);
}

/* ---- being asked ---- */

static int nlnotify_state(const struct sk_buff *skb, const struct nlmsghdr *req,
			  u32 number)
{
	u32 to = NETLINK_CB(skb).portid;
	struct nlnotify_state *state;
	struct nlmsghdr *nlh;
	struct sk_buff *rep;

	rep = nlmsg_new(sizeof(*state), GFP_KERNEL);
	if (!rep)
		return -ENOMEM;

	nlh = nlmsg_put(rep, to, req->nlmsg_seq, NLNOTIFY_STATE, sizeof(*state),
			0);
	if (WARN_ON_ONCE(!nlh)) {
		kfree_skb(rep);
		return -EMSGSIZE;
	}
	state = nlmsg_data(nlh);
	state->number = number;
	return nlmsg_unicast(skb->sk, rep, to);
}

/* The world does not stand still because somebody asks how it is. */
static void nlnotify_go_on(struct nlnotify_net *nn, unsigned int n)
{
	for (; n && !READ_ONCE(nlnotify_leave); n--)
		nlnotify_news(nn, NLNOTIFY_QUESTION, GFP_KERNEL, false);
}

static int nlnotify_request(struct sk_buff *skb, struct nlmsghdr *nlh,
			    struct netlink_ext_ack *extack)
{
	struct nlnotify_net *nn = net_generic(sock_net(skb->sk),
					      nlnotify_net_id);
	unsigned int meanwhile = 0;
	u32 number;
	int err;

	if (nlh->nlmsg_type == NLNOTIFY_GET && !nlmsg_len(nlh))
		meanwhile = atomic_xchg(&nlnotify_meanwhile, 0);
	nlnotify_go_on(nn, meanwhile);
	number = atomic_read(&nn->number);
	if (nlh->nlmsg_type != NLNOTIFY_GET) {
		NL_SET_ERR_MSG(extack, "the only request is NLNOTIFY_GET");
		err = -EOPNOTSUPP;
	} else if (nlmsg_len(nlh)) {
		NL_SET_ERR_MSG(extack, "NLNOTIFY_GET has no payload");
		err = -EINVAL;
	} else {
		err = nlnotify_state(skb, nlh, number);
	}
	trace_nlnotify_request(skb, nlh, number, err);
	nlnotify_go_on(nn, meanwhile);
	return err;
}

/* Runs in the task of the sender, with no lock held: any number at once. */
static void nlnotify_input(struct sk_buff *skb)
{
	trace_nlnotify_input(skb);
	netlink_rcv_skb(skb, nlnotify_request);
}

/* ---- subscribers ---- */

/* Who joins now would have to be told to go at once. */
static int nlnotify_join(struct net *net, int group)
{
	int ret = READ_ONCE(nlnotify_leave) ? -ESHUTDOWN : 0;

	trace_nlnotify_join(net, group, ret);
	return ret;
}

static void nlnotify_part(struct net *net, int group)
{
	trace_nlnotify_part(net, group);
}

/* ---- parameters ---- */

static int nlnotify_parse(const char *val, unsigned int min, unsigned int max,
			  unsigned int *res)
{
	if (kstrtouint(val, 10, res) || *res < min || *res > max)
		return -EINVAL;
	return 0;
}

static int nlnotify_uint_get(char *buf, const struct kernel_param *kp)
{
	const unsigned int *value = kp->arg;

	return scnprintf(buf, PAGE_SIZE, "%u\n", READ_ONCE(*value));
}

static int nlnotify_bool_get(char *buf, const struct kernel_param *kp)
{
	const bool *value = kp->arg;

	return scnprintf(buf, PAGE_SIZE, "%u\n", READ_ONCE(*value));
}

static int nlnotify_interval_set(const char *val, const struct kernel_param *kp)
{
	unsigned int value;
	int err;

	err = nlnotify_parse(val, 0, NLNOTIFY_MAX_INTERVAL_MS, &value);
	if (err)
		return err;

	mutex_lock(&nlnotify_mutex);
	WRITE_ONCE(nlnotify_interval_ms, value);
	nlnotify_rearm();
	mutex_unlock(&nlnotify_mutex);
	return 0;
}

static const struct kernel_param_ops nlnotify_interval_ops = {
	.set = nlnotify_interval_set,
	.get = nlnotify_uint_get,
};

/* Not 0, which is nlnotify's own. */
static int nlnotify_port_set(const char *val, const struct kernel_param *kp)
{
	unsigned int value;
	int err;

	err = nlnotify_parse(val, 1, U32_MAX, &value);
	if (err)
		return err;

	WRITE_ONCE(nlnotify_port, value);
	return 0;
}

static const struct kernel_param_ops nlnotify_port_ops = {
	.set = nlnotify_port_set,
	.get = nlnotify_uint_get,
};

static int nlnotify_via_set(const char *val, const struct kernel_param *kp)
{
	int i;

	/* Not sysfs_match_string(): that ends at the first name that is none. */
	for (i = NLNOTIFY_VIA_GROUP; i <= NLNOTIFY_VIA_BOTH; i++) {
		if (sysfs_streq(val, nlnotify_via_names[i])) {
			WRITE_ONCE(nlnotify_via, i);
			return 0;
		}
	}
	return -EINVAL;
}

static int nlnotify_via_get(char *buf, const struct kernel_param *kp)
{
	return scnprintf(buf, PAGE_SIZE, "%s\n",
			 nlnotify_via_names[READ_ONCE(nlnotify_via)]);
}

static const struct kernel_param_ops nlnotify_via_ops = {
	.set = nlnotify_via_set,
	.get = nlnotify_via_get,
};

static int nlnotify_wait_set(const char *val, const struct kernel_param *kp)
{
	unsigned int value;
	int err;

	err = nlnotify_parse(val, 0, 1, &value);
	if (err)
		return err;

	WRITE_ONCE(nlnotify_wait, value);
	return 0;
}

/* Not to be read: who could ask a file need not make an experiment. */
static const struct kernel_param_ops nlnotify_wait_ops = {
	.set = nlnotify_wait_set,
};

static int nlnotify_trigger_set(const char *val, const struct kernel_param *kp)
{
	struct nlnotify_net *nn;
	unsigned int n, i;
	int err;

	err = nlnotify_parse(val, 1, NLNOTIFY_MAX_TRIGGER, &n);
	if (err)
		return err;

	mutex_lock(&nlnotify_mutex);
	if (nlnotify_leave) {
		err = -ESHUTDOWN;
	} else if (nlnotify_wait) {
		list_for_each_entry(nn, &nlnotify_nets, node) {
			atomic_add(n, &nn->pending);
			queue_work(nlnotify_wq, &nn->work);
		}
	} else {
		for (i = 0; i < n && !err; i++) {
			list_for_each_entry(nn, &nlnotify_nets, node)
				nlnotify_news(nn, NLNOTIFY_TRIGGER, GFP_KERNEL,
					      false);
			cond_resched();
			/*
			 * Not for any signal: whoever is told EINTR writes
			 * again, and there would be more than N.
			 */
			if (fatal_signal_pending(current))
				err = -EINTR;
		}
	}
	mutex_unlock(&nlnotify_mutex);
	return err;
}

/* How many are still to be told, which is more than 0 only with wait=1. */
static int nlnotify_trigger_get(char *buf, const struct kernel_param *kp)
{
	struct nlnotify_net *nn;
	unsigned int n = 0;

	mutex_lock(&nlnotify_mutex);
	list_for_each_entry(nn, &nlnotify_nets, node)
		n = max_t(unsigned int, n, atomic_read(&nn->pending));
	mutex_unlock(&nlnotify_mutex);
	return scnprintf(buf, PAGE_SIZE, "%u\n", n);
}

static const struct kernel_param_ops nlnotify_trigger_ops = {
	.set = nlnotify_trigger_set,
	.get = nlnotify_trigger_get,
};

static int nlnotify_leave_set(const char *val, const struct kernel_param *kp)
{
	struct nlnotify_net *nn;
	unsigned int value;
	int err;

	err = nlnotify_parse(val, 0, 1, &value);
	if (err)
		return err;

	mutex_lock(&nlnotify_mutex);
	WRITE_ONCE(nlnotify_leave, value);
	trace_nlnotify_leave(value);
	nlnotify_rearm();
	if (value)
		list_for_each_entry(nn, &nlnotify_nets, node) {
			atomic_set(&nn->pending, 0);
			nlnotify_tell(nn, NLNOTIFY_LEAVING, 0, NLNOTIFY_ADMIN,
				      GFP_KERNEL, false);
		}
	mutex_unlock(&nlnotify_mutex);
	return 0;
}

static const struct kernel_param_ops nlnotify_leave_ops = {
	.set = nlnotify_leave_set,
	.get = nlnotify_bool_get,
};

static int nlnotify_meanwhile_set(const char *val,
				  const struct kernel_param *kp)
{
	unsigned int value;
	int err;

	err = nlnotify_parse(val, 0, NLNOTIFY_MAX_MEANWHILE, &value);
	if (err)
		return err;

	atomic_set(&nlnotify_meanwhile, value);
	return 0;
}

static int nlnotify_meanwhile_get(char *buf, const struct kernel_param *kp)
{
	return scnprintf(buf, PAGE_SIZE, "%u\n",
			 (unsigned int)atomic_read(&nlnotify_meanwhile));
}

static const struct kernel_param_ops nlnotify_meanwhile_ops = {
	.set = nlnotify_meanwhile_set,
	.get = nlnotify_meanwhile_get,
};

module_param_cb(interval_ms, &nlnotify_interval_ops, &nlnotify_interval_ms, 0644);
MODULE_PARM_DESC(interval_ms, "tell news that often, from a timer, in ms (0..3600000, default 0: never)");
module_param_cb(trigger, &nlnotify_trigger_ops, NULL, 0644);
MODULE_PARM_DESC(trigger, "write N (1..100000): tell N notices now; read: how many are still to be told");
module_param_cb(via, &nlnotify_via_ops, NULL, 0644);
MODULE_PARM_DESC(via, "tell by multicast to group 1 (group), by unicast to the agreed port (port), or both (default)");
module_param_cb(port, &nlnotify_port_ops, &nlnotify_port, 0644);
MODULE_PARM_DESC(port, "the agreed port ID (1..4294967295, default 5000000)");
module_param_cb(wait, &nlnotify_wait_ops, NULL, 0200);
MODULE_PARM_DESC(wait, "1: what trigger tells by unicast waits for room in the reader's queue (default 0)");
module_param_cb(leave, &nlnotify_leave_ops, &nlnotify_leave, 0644);
MODULE_PARM_DESC(leave, "write 1: announce that the module wants to go, and take no new subscribers; 0: stay");
module_param_cb(meanwhile, &nlnotify_meanwhile_ops, NULL, 0644);
MODULE_PARM_DESC(meanwhile, "write N (0..1000): when the next question comes, tell N notices before its answer and N behind it");

/* ---- network namespaces ---- */

static int __net_init nlnotify_net_init(struct net *net)
{
	struct nlnotify_net *nn = net_generic(net, nlnotify_net_id);
	struct netlink_kernel_cfg cfg = {
		.groups = NLNOTIFY_GROUP,
		.flags = NL_CFG_F_NONROOT_RECV,	/* news is for everybody */
		.input = nlnotify_input,
		.bind = nlnotify_join,
		.unbind = nlnotify_part,
	};

	atomic_set(&nn->number, 0);
	atomic_set(&nn->pending, 0);
	timer_setup(&nn->timer, nlnotify_timeout, 0);
	INIT_WORK(&nn->work, nlnotify_work);

	nn->sk = netlink_kernel_create(net, NLNOTIFY_PROTOCOL, &cfg);
	if (!nn->sk) {
		pr_err("no kernel socket for protocol %d: is it taken?\n",
		       NLNOTIFY_PROTOCOL);
		return -ENOMEM;
	}

	/* last: from here on there is news */
	mutex_lock(&nlnotify_mutex);
	list_add_tail(&nn->node, &nlnotify_nets);
	if (nlnotify_interval_ms && !nlnotify_leave)
		nlnotify_arm(nn, nlnotify_interval_ms);
	mutex_unlock(&nlnotify_mutex);
	return 0;
}

/*
 * No input callback is under way here, none will be, and no work waits for a
 * reader: a user's socket holds a reference to its namespace and to this module.
 */
static void __net_exit nlnotify_net_exit(struct net *net)
{
	struct nlnotify_net *nn = net_generic(net, nlnotify_net_id);

	mutex_lock(&nlnotify_mutex);
	list_del(&nn->node);
	mutex_unlock(&nlnotify_mutex);

	/* Nobody arms the one or queues the other any more. */
	timer_delete_sync(&nn->timer);
	atomic_set(&nn->pending, 0);
	cancel_work_sync(&nn->work);
	netlink_kernel_release(nn->sk);
}

static struct pernet_operations nlnotify_net_ops = {
	.init = nlnotify_net_init,
	.exit = nlnotify_net_exit,
	.id = &nlnotify_net_id,
	.size = sizeof(struct nlnotify_net),
};

static int __init nlnotify_init(void)
{
	int err;

	/* Unbound: what waits for a reader sleeps most of its time. */
	nlnotify_wq = alloc_workqueue("nlnotify", WQ_UNBOUND, 0);
	if (!nlnotify_wq)
		return -ENOMEM;

	err = register_pernet_subsys(&nlnotify_net_ops);
	if (err)
		destroy_workqueue(nlnotify_wq);
	return err;
}

static void __exit nlnotify_exit(void)
{
	unregister_pernet_subsys(&nlnotify_net_ops);
	destroy_workqueue(nlnotify_wq);
}

module_init(nlnotify_init);
module_exit(nlnotify_exit);

/*
 * No MODULE_ALIAS_NET_PF_PROTO(): whoever wants this module loads it by hand;
 * a user's socket() must not, least of all after it was unloaded.
 */
MODULE_DESCRIPTION("Tells news before anybody asks, to show how Netlink notifies");
MODULE_AUTHOR("The Netlink Labs authors");
MODULE_LICENSE("GPL");
