// SPDX-License-Identifier: GPL-2.0-only
/*
 * nlbugs - what the articles' kernel module does wrong, one bug at a time
 *
 * The logic is that of the articles' module, written anew: for each message on
 * protocol 25 it logs what the message says and sends ten replies. Each of its
 * bugs can be switched on by its name, with the right way beside it in the
 * code: bugs=B3, bugs=B3+B8, bugs=all. docs/bugs.md tells what is seen then.
 *
 * For the throw-away virtual machine only: some of the bugs stop the kernel,
 * and B3 and B12 together let any user do that.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/capability.h>
#include <linux/completion.h>
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netlink.h>
#include <linux/skbuff.h>
#include <linux/string.h>
#include <net/net_namespace.h>
#include <net/netlink.h>
#include <net/sock.h>

#define NLBUGS_PAYLOAD	1024	/* bytes in a reply */
#define NLBUGS_LOGGED	100	/* bytes of a message that go into the log */

/* The names are those of docs/bugs.md; what is missing here needs no switch. */
enum nlbugs_bug { B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B12 };

static const char * const nlbugs_names[] = {
	[B1] = "B1", [B2] = "B2", [B3] = "B3", [B4] = "B4",
	[B5] = "B5", [B6] = "B6", [B7] = "B7", [B8] = "B8",
	[B9] = "B9", [B10] = "B10", [B12] = "B12",
};

static unsigned long nlbugs_on;		/* a bit for each enum nlbugs_bug */
static unsigned int nlbugs_protocol = 25;
static unsigned int nlbugs_replies = 10;
static unsigned int nlbugs_delay_ms = 3000;
static atomic_t nlbugs_sent = ATOMIC_INIT(0);
static atomic_t nlbugs_inside = ATOMIC_INIT(0);

static struct sock *nlbugs_sk;
static char *nlbugs_text = "I am from kernel!";

static bool has(enum nlbugs_bug bug)
{
	return READ_ONCE(nlbugs_on) & BIT(bug);
}

/* ---- answering ---- */

static int nlbugs_reply(u32 to, u32 seq)
{
	size_t len = strlen(nlbugs_text);
	struct nlmsghdr *nlh;
	struct sk_buff *skb;
	char *payload;

	/* B7 is about what comes next, so it has no memory to begin with. */
	skb = has(B7) ? NULL : nlmsg_new(NLBUGS_PAYLOAD, GFP_KERNEL);
	if (!skb) {
		pr_err("no memory for a reply\n");
		if (!has(B7))
			return -ENOMEM;
	}

	nlh = nlmsg_put(skb, 0, seq, 0, NLBUGS_PAYLOAD, 0);
	if (WARN_ON_ONCE(!nlh)) {
		kfree_skb(skb);
		return -EMSGSIZE;
	}
	payload = nlmsg_data(nlh);

	/*
	 * To end the text that is there already. It is a literal, and those
	 * cannot be written to. Once, so that the compiler does not find out
	 * that this changes nothing.
	 */
	if (has(B1))
		WRITE_ONCE(nlbugs_text[len], '\0');

	if (has(B2))
		memcpy(payload, nlbugs_text, len + 1);
	else
		strscpy_pad(payload, nlbugs_text, NLBUGS_PAYLOAD);

	return netlink_unicast(nlbugs_sk, skb, to, MSG_DONTWAIT);
}

static void nlbugs_wait(void)
{
	struct completion never;

	init_completion(&never);
	wait_for_completion_timeout(&never, msecs_to_jiffies(nlbugs_delay_ms));
}

static void nlbugs_answer(u32 to, u32 seq)
{
	unsigned int n;
	int ret;

	for (n = 0; n < nlbugs_replies; n++) {
		if (has(B9))
			nlbugs_wait();

		ret = nlbugs_reply(to, seq);
		if (ret >= 0 || has(B8))
			atomic_inc(&nlbugs_sent);
	}
}

/* ---- taking messages ---- */

static void nlbugs_log(const struct nlmsghdr *nlh)
{
	/* What is behind a buffer on the stack is anybody's; here it is known. */
	struct {
		char text[NLBUGS_LOGGED];
		char behind[32];
	} buf = { .behind = "(this is behind the buffer)" };

	if (has(B4)) {
		memcpy(buf.text, nlmsg_data(nlh), sizeof(buf.text));
		pr_info("message: %s\n", buf.text);
		return;
	}
	/* no more than there is, no end needed, and nothing but print */
	pr_info("message: %*pE\n", min(nlmsg_len(nlh), NLBUGS_LOGGED),
		(char *)nlmsg_data(nlh));
}

static void nlbugs_message(const struct sk_buff *skb, const struct nlmsghdr *nlh)
{
	u32 to = has(B3) ? nlh->nlmsg_pid : NETLINK_CB(skb).portid;

	nlbugs_log(nlh);
	nlbugs_answer(to, nlh->nlmsg_seq);
}

static void nlbugs_datagram(struct sk_buff *skb)
{
	struct nlmsghdr *nlh = nlmsg_hdr(skb);
	int left = skb->len;

	if (!has(B12) && !netlink_capable(skb, CAP_NET_ADMIN))
		return;

	if (has(B6))
		skb_get(skb);

	if (skb->len < NLMSG_HDRLEN)
		return;		/* with B6: and nobody gives the reference back */

	if (has(B5)) {
		nlbugs_message(skb, nlh);
	} else {
		for (; nlmsg_ok(nlh, left); nlh = nlmsg_next(nlh, &left))
			nlbugs_message(skb, nlh);
	}

	if (has(B6))
		kfree_skb(skb);
}

static void nlbugs_input(struct sk_buff *skb)
{
	atomic_inc(&nlbugs_inside);
	nlbugs_datagram(skb);
	atomic_dec(&nlbugs_inside);
}

/* ---- parameters ---- */

static int nlbugs_bugs_set(const char *val, const struct kernel_param *kp)
{
	char list[64], *rest = list, *name;
	unsigned long on = 0;
	int i;

	if (strscpy(list, val, sizeof(list)) < 0)
		return -EINVAL;
	strim(list);
	if (!strcmp(list, "all"))
		on = BIT(ARRAY_SIZE(nlbugs_names)) - 1;
	else if (strcmp(list, "none"))
		while ((name = strsep(&rest, "+"))) {
			i = match_string(nlbugs_names, ARRAY_SIZE(nlbugs_names),
					 name);
			if (i < 0)
				return -EINVAL;
			on |= BIT(i);
		}
	WRITE_ONCE(nlbugs_on, on);
	return 0;
}

static int nlbugs_bugs_get(char *buf, const struct kernel_param *kp)
{
	int i, len = 0;

	for (i = 0; i < ARRAY_SIZE(nlbugs_names); i++)
		if (has(i))
			len += scnprintf(buf + len, PAGE_SIZE - len, "%s%s",
					 len ? "+" : "", nlbugs_names[i]);
	return len + scnprintf(buf + len, PAGE_SIZE - len, "%s\n",
			       len ? "" : "none");
}

static const struct kernel_param_ops nlbugs_bugs_ops = {
	.set = nlbugs_bugs_set,
	.get = nlbugs_bugs_get,
};

static int nlbugs_atomic_get(char *buf, const struct kernel_param *kp)
{
	return scnprintf(buf, PAGE_SIZE, "%d\n", atomic_read(kp->arg));
}

static const struct kernel_param_ops nlbugs_atomic_ops = {
	.get = nlbugs_atomic_get,
};

module_param_cb(bugs, &nlbugs_bugs_ops, NULL, 0644);
MODULE_PARM_DESC(bugs, "B1 to B10, B12, several with + between, all, or none (default)");
module_param_named(protocol, nlbugs_protocol, uint, 0444);
MODULE_PARM_DESC(protocol, "Netlink protocol (default 25)");
module_param_named(replies, nlbugs_replies, uint, 0644);
MODULE_PARM_DESC(replies, "replies to each message (default 10)");
module_param_named(delay_ms, nlbugs_delay_ms, uint, 0644);
MODULE_PARM_DESC(delay_ms, "with B9: wait before each reply in ms (default 3000)");
module_param_cb(sent, &nlbugs_atomic_ops, &nlbugs_sent, 0444);
MODULE_PARM_DESC(sent, "replies that were sent, as the module believes");
module_param_cb(inside, &nlbugs_atomic_ops, &nlbugs_inside, 0444);
MODULE_PARM_DESC(inside, "input callbacks under way");

/* ---- the module ---- */

/* B11: in the first network namespace only. */
static int __init nlbugs_init(void)
{
	struct netlink_kernel_cfg cfg = {
		.input = nlbugs_input,
	};

	if (nlbugs_protocol >= MAX_LINKS)
		return -EINVAL;

	nlbugs_sk = netlink_kernel_create(&init_net, nlbugs_protocol, &cfg);
	if (!nlbugs_sk) {
		pr_err("no kernel socket for protocol %u\n", nlbugs_protocol);
		return has(B10) ? 1 : -ENOMEM;
	}
	return 0;
}

static void __exit nlbugs_exit(void)
{
	netlink_kernel_release(nlbugs_sk);
}

module_init(nlbugs_init);
module_exit(nlbugs_exit);

MODULE_DESCRIPTION("The bugs of the articles' Netlink module, one at a time");
MODULE_AUTHOR("The Netlink Labs authors");
MODULE_LICENSE("GPL");
