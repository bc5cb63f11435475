// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module that does wrong when it is loaded, so that the tests of internal/vm
 * see what the host makes of a kernel in trouble.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/string.h>

static char *what = "nothing";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "nothing, warn, refcount, leak, oops, panic or spin");

static void leak(void)
{
	struct kmem_cache *cache = kmem_cache_create("complain", 100, 0, SLAB_POISON, NULL);

	if (cache && kmem_cache_alloc(cache, GFP_KERNEL))
		kmem_cache_destroy(cache);
}

static int __init complain_init(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	if (!strcmp(what, "warn"))
		WARN_ON(1);
	else if (!strcmp(what, "refcount"))
		refcount_inc(&count);
	else if (!strcmp(what, "leak"))
		leak();
	else if (!strcmp(what, "oops"))
		*(volatile int *)NULL = 1;
	else if (!strcmp(what, "panic"))
		panic("as the test asked for");
	else if (!strcmp(what, "spin")) {
		local_irq_disable();
		for (;;)
			cpu_relax();
	}
	return 0;
}
module_init(complain_init);

static void __exit complain_exit(void)
{
}
module_exit(complain_exit);

MODULE_DESCRIPTION("Does wrong on purpose");
MODULE_LICENSE("GPL");
