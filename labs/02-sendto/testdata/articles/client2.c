// SPDX-License-Identifier: MIT

/*
 * What the articles' second client does, written anew: the same as the first, with
 * sendto and recvfrom. What is wrong with theirs is said where it is; do not copy
 * from here.
 *
 * gcc -static -o client2 client2.c
 * PROGRAM=client2 PARAMS='replies=10 delay_ms=3000' make lab-2 run
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
	struct sockaddr_nl sender;
	struct nlmsghdr *nlh;
	int state_smg = 0;
	socklen_t len;
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
	 * nlmsg_len by one macro, sendto's length by another: for 1024 both are
	 * 1040. For 1021 nlmsg_len would promise 3 bytes that are not sent, and
	 * the message would be refused without a word.
	 */
	nlh->nlmsg_len = NLMSG_SPACE(PAYLOAD);
	nlh->nlmsg_pid = PORT;		/* C */
	nlh->nlmsg_flags = 0;
	strcpy(NLMSG_DATA(nlh), "Hello you!");

	printf("state_smg\n");
	/*
	 * The dead check: what sendto returns goes nowhere, and state_smg is 0
	 * whatever happens.
	 */
	sendto(fd, nlh, NLMSG_LENGTH(PAYLOAD), 0, (struct sockaddr *)&kernel, sizeof(kernel));
	if (state_smg < 0)
		perror("sendto");

	printf("waiting received!\n");
	for (;;) {
		len = sizeof(sender);
		/*
		 * The sender is not looked at, and recvfrom cannot tell that a
		 * message was cut unless it is asked with MSG_TRUNC.
		 */
		n = recvfrom(fd, nlh, NLMSG_SPACE(PAYLOAD), 0, (struct sockaddr *)&sender, &len);
		if (n < 0) {
			/* theirs prints this and the old buffer again, for ever */
			perror("recvfrom");
			break;
		}
		printf("Received message: %s\n", (char *)NLMSG_DATA(nlh));
	}
	free(nlh);
	close(fd);
	return 1;
}
