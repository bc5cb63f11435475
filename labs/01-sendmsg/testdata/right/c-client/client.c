// SPDX-License-Identifier: MIT

/*
 * The same in C: gcc -static -O2 -Wall -o client client.c, then PROGRAM=client.
 */
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *greeting = argc > 1 ? argv[1] : "Hello you!";
	struct sockaddr_nl self = { .nl_family = AF_NETLINK, .nl_pid = 100 };
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	char out[NLMSG_SPACE(256)] = "", in[4096];
	struct nlmsghdr *nlh = (struct nlmsghdr *)out;
	struct iovec iov = { .iov_base = out };
	struct msghdr msg = {
		.msg_name = &kernel, .msg_namelen = sizeof(kernel),
		.msg_iov = &iov, .msg_iovlen = 1,
	};
	int replies = 0, fd;
	ssize_t n;
	FILE *f;

	f = fopen("/sys/module/nlecho/parameters/replies", "r");
	if (!f || fscanf(f, "%d", &replies) != 1) {
		perror("replies");
		return 1;
	}
	fd = socket(AF_NETLINK, SOCK_RAW, 25);
	if (fd < 0 || bind(fd, (struct sockaddr *)&self, sizeof(self))) {
		perror("socket, bind");
		return 1;
	}
	nlh->nlmsg_len = NLMSG_LENGTH(strlen(greeting) + 1);
	nlh->nlmsg_pid = 100;
	snprintf(NLMSG_DATA(nlh), 256, "%s", greeting);
	iov.iov_len = NLMSG_ALIGN(nlh->nlmsg_len);
	n = sendmsg(fd, &msg, 0);
	if (n < 0) {
		perror("sendmsg");
		return 1;
	}
	printf("sent=%zd\n", n);
	while (replies--) {
		iov.iov_base = in;
		iov.iov_len = sizeof(in);
		n = recvmsg(fd, &msg, 0);
		if (n < 0) {
			perror("recvmsg");
			return 1;
		}
		printf("bytes=%zd\nfrom=%u\nreply=%s\n", n, kernel.nl_pid,
		       (char *)NLMSG_DATA((struct nlmsghdr *)in));
	}
	close(fd);
	return 0;
}
