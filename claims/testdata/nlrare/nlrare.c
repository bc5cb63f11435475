// SPDX-License-Identifier: GPL-2.0-only
/*
 * nlrare - what hardly ever happens
 *
 * Two branches of af_netlink.c to which no program leads: a kernel socket
 * without an input function, on protocol 30, and a multicast for whose clone
 * there is no memory. Some of the claims are about them.
 *
 * For the throw-away virtual machine only.
 */

#include <linux/atomic.h>
#include <linux/init.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netlink.h>
#include <linux/preempt.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/skbuff.h>
#include <net/net_namespace.h>

#define NLRARE_PROTOCOL	30

static struct sock *nlrare_sk;

static int fail;
module_param(fail, int, 0644);
MODULE_PARM_DESC(fail, "process whose next skb_clone returns NULL");

/* Other than 0: what this call returns is left as it is. */
static int nlrare_enter(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	int pid = current->tgid;

	return !in_task() || cmpxchg(&fail, pid, 0) != pid;
}

static int nlrare_leave(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	consume_skb((struct sk_buff *)regs_return_value(regs));
	regs_set_return_value(regs, 0);
	return 0;
}

static struct kretprobe nlrare_clone = {
	.kp.symbol_name = "skb_clone",
	.entry_handler = nlrare_enter,
	.handler = nlrare_leave,
};

static int __init nlrare_init(void)
{
	int err;

	nlrare_sk = netlink_kernel_create(&init_net, NLRARE_PROTOCOL, NULL);
	if (!nlrare_sk)
		return -ENOMEM;

	err = register_kretprobe(&nlrare_clone);
	if (err)
		netlink_kernel_release(nlrare_sk);
	return err;
}

static void __exit nlrare_exit(void)
{
	unregister_kretprobe(&nlrare_clone);
	netlink_kernel_release(nlrare_sk);
}

module_init(nlrare_init);
module_exit(nlrare_exit);

MODULE_DESCRIPTION("What hardly ever happens to Netlink messages");
MODULE_AUTHOR("The Netlink Labs authors");
MODULE_LICENSE("GPL");
