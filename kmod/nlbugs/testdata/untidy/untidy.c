// SPDX-License-Identifier: GPL-2.0-only
/*
 * B11 and B20: names that the whole kernel sees, one of them unused, and a
 * module that does not say what it is. It is here for what the tools say.
 */
#include <linux/module.h>

int err;
int flag;

int untidy_init(void)
{
	flag = 1;
	return 0;
}

static void __exit untidy_exit(void)
{
}

module_init(untidy_init);
module_exit(untidy_exit);

MODULE_LICENSE("GPL");
