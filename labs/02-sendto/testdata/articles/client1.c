// SPDX-License-Identifier: MIT

/*
 * What the articles' first client does, written anew: it greets the kernel from
 * port 100 with sendmsg, then reads for ever. What is wrong with theirs is said
 * where it is; do not copy from here.
 *
 * gcc -static -o client1 client1.c
 * PROGRAM=client1 PARAMS='replies=10 delay_ms=3000' make lab-1 run
 */
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROTOCOL	25	/* nlecho's */
#define PORT		100	/* hard-coded: a second client gets EADDRINUSE */
#define PAYLOAD		1024

int main(void)
{
	struct sockaddr_nl self = { .nl_family = AF_NETLINK, .nl_pid = PORT };	/* A */
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };		/* B: port 0, no groups */
	struct nlmsghdr *nlh;
	struct iovec iov;
	struct msghdr msg;
	ssize_t n;
	int fd;

	setvbuf(stdout, NULL, _IOLBF, 0);	/* output is a pipe here, not a terminal */
	fd = socket(AF_NETLINK, SOCK_RAW, PROTOCOL);
	if (fd < 0) {
		perror("socket");
		return 1;
	}
	if (bind(fd, (struct sockaddr *)&self, sizeof(self)) < 0) {
		perror("bind");
		return 1;
	}

	/*
	 * Theirs comes from malloc: nlmsg_type, nlmsg_seq and what is behind the
	 * text go out as they were found in memory.
	 */
	nlh = calloc(1, NLMSG_SPACE(PAYLOAD));
	if (!nlh) {
		perror("calloc");
		return 1;
	}
	/*
	 * A mistake that goes unseen: NLMSG_SPACE is what the message takes up,
	 * NLMSG_LENGTH is how long it is. For 1024 both are 1040.
	 */
	nlh->nlmsg_len = NLMSG_SPACE(PAYLOAD);
	nlh->nlmsg_pid = PORT;		/* C */
	nlh->nlmsg_flags = 0;
	strcpy(NLMSG_DATA(nlh), "Hello you!");

	memset(&msg, 0, sizeof(msg));
	iov.iov_base = nlh;
	iov.iov_len = NLMSG_SPACE(PAYLOAD);
	msg.msg_name = &kernel;
	msg.msg_namelen = sizeof(kernel);
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;

	printf("state_smg\n");
	n = sendmsg(fd, &msg, 0);
	if (n < 0)
		perror("sendmsg");	/* and goes on to wait for replies */

	printf("waiting received!\n");
	for (;;) {
		/*
		 * msg_name is still `kernel`: recvmsg writes the sender's address
		 * over it, which nobody looks at. Nor at msg_flags, where MSG_TRUNC
		 * would stand.
		 */
		n = recvmsg(fd, &msg, 0);
		if (n < 0) {
			/* theirs prints this and the old buffer again, for ever */
			perror("recvmsg");
			break;
		}
		printf("Received message: %s\n", (char *)NLMSG_DATA(nlh));
	}
	free(nlh);
	close(fd);
	return 1;
}
