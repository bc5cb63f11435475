// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"strings"
	"testing"
)

// Two processes talk: whose message a read took, and who refused the others.
func TestNeighbours(t *testing.T) {
	socket := func(task, sock, port int) string {
		return fmt.Sprintf(`
		%[1]d sys_enter_socket family=16 type=3 protocol=2
		%[1]d netlink_create net=1 sock=%[2]d protocol=2
		%[1]d sys_exit_socket ret=%[2]d
		%[1]d sys_enter_bind fd=%[2]d
		%[1]d netlink_bind sock=%[2]d sk=%[2]d0 portid=%[3]d
		%[1]d netlink_insert sk=%[2]d0 portid=%[3]d
		%[1]d netlink_insert_ret ret=0
		%[1]d netlink_bind_ret ret=0
		%[1]d sys_exit_bind ret=0`, task, sock, port)
	}
	send := func(task, sock, port, skb, ret int) string {
		return fmt.Sprintf(`
		%[1]d sys_enter_sendto fd=%[2]d
		%[1]d netlink_sendmsg sock=%[2]d sk=%[2]d0 len=5 namelen=12 to=%[3]d
		%[1]d netlink_unicast ssk=%[2]d0 skb=%[4]d portid=%[3]d
		%[1]d netlink_unicast_ret ret=%[5]d
		%[1]d netlink_sendmsg_ret ret=%[5]d
		%[1]d sys_exit_sendto ret=%[5]d`, task, sock, port, skb, ret)
	}
	read := func(task, sock, skb, port int) string {
		return fmt.Sprintf(`
		%[1]d sys_enter_recvfrom fd=%[2]d
		%[1]d netlink_recvmsg sock=%[2]d sk=%[2]d0
		%[1]d skb_copy_datagram_iter skb=%[3]d portid=%[4]d
		%[1]d netlink_recvmsg_ret ret=5
		%[1]d sys_exit_recvfrom ret=5`, task, sock, skb, port)
	}
	events := script(t, `
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 task_newtask pid=11 clone_flags=0
		11 sched_process_exec pid=11 old_pid=11 filename=/prog`+
		socket(10, 1, 100)+socket(11, 2, 101)+
		send(10, 1, 101, 77, 5)+read(11, 2, 77, 100)+
		send(11, 2, 55, 78, -111)+`
		# The number passes on, and with it what the address says; not who sent it.
		10 sys_enter_close fd=1
		10 sys_exit_close ret=0
		10 netlink_release sock=1`+socket(10, 3, 100)+
		send(10, 3, 101, 79, 5)+read(11, 2, 79, 100)+
		read(11, 2, 99, 100)+`
		# What comes from the kernel, and what another family's socket reads.
		11 sys_enter_recvfrom fd=2
		11 netlink_recvmsg sock=2 sk=20
		11 skb_copy_datagram_iter skb=80 portid=0
		11 netlink_recvmsg_ret ret=5
		11 sys_exit_recvfrom ret=5
		11 sys_enter_recvfrom fd=9
		11 skb_copy_datagram_iter skb=81 portid=4711
		11 sys_exit_recvfrom ret=5
		# Ancillary data that is refused before anything else.
		11 sys_enter_sendmsg fd=2
		11 netlink_sendmsg sock=2 sk=20 len=5 namelen=12 to=100
		11 __scm_send sock=2
		11 __scm_send_ret ret=-22
		11 netlink_sendmsg_ret ret=-22
		11 sys_exit_sendmsg ret=-22
		11 sys_enter_sendmsg fd=2
		11 netlink_sendmsg sock=2 sk=20 len=0 namelen=12 to=100
		11 netlink_sendmsg_ret ret=-61
		11 sys_exit_sendmsg ret=-61
		# An address of another family, and one that is too short.
		11 sys_enter_sendto fd=2
		11 netlink_sendmsg sock=2 sk=20 len=5 namelen=16 family=2 to=7
		11 netlink_sendmsg_ret ret=-22
		11 sys_exit_sendto ret=-22
		11 sys_enter_sendto fd=2
		11 netlink_sendmsg sock=2 sk=20 len=5 namelen=4 family=16 to=7
		11 netlink_sendmsg_ret ret=-22
		11 sys_exit_sendto ret=-22
		11 sys_enter_connect fd=2
		11 netlink_connect sock=2 sk=20 family=16 portid=100
		11 netlink_connect_ret ret=0
		11 sys_exit_connect ret=0
		11 sys_enter_connect fd=2
		11 netlink_connect sock=2 sk=20 family=0 portid=100
		11 netlink_connect_ret ret=0
		11 sys_exit_connect ret=0`)
	p := New(events...).Program(10, "/prog")
	diff(t, "timeline", `
		P0 process 11 runs prog
		P0 socket protocol 2: fd 1
		P0 bind port 100: ok
		P0 process 11: socket protocol 2: fd 2
		P0 process 11: bind port 101: ok
		P0 sendto port 100 → port 101, 5 bytes: 5 bytes
		P0 process 11: recvfrom port 101: 5 bytes from port 100
		P0 process 11: sendto port 101 → port 55, 5 bytes: ECONNREFUSED (netlink_unicast)
		P0 close port 100
		P0 socket protocol 2: fd 3
		P0 bind port 100: ok
		P0 sendto port 100 → port 101, 5 bytes: 5 bytes
		P0 process 11: recvfrom port 101: 5 bytes from port 100
		P0 process 11: recvfrom port 101: 5 bytes from port 100
		P0 process 11: recvfrom port 101: 5 bytes
		P0 process 11: sendmsg port 101 → port 100, 5 bytes: EINVAL (__scm_send)
		P0 process 11: sendmsg port 101 → port 100, 0 bytes: ENODATA
		P0 process 11: sendto port 101 → no address of Netlink's, 5 bytes: EINVAL
		P0 process 11: sendto port 101 → no address of Netlink's, 5 bytes: EINVAL
		P0 process 11: connect port 101 → port 100
		P0 process 11: connect port 101
	`, timeline(p))
	sameLive(t, events, p)

	var got strings.Builder
	for _, c := range p.Calls(Recvmsg) {
		sender := 0
		if c.Sender != nil {
			sender = c.Sender.ID
		}
		fmt.Fprintf(&got, "read: message of socket %d\n", sender)
	}
	for _, c := range p.Calls(Sendmsg, "sendto") {
		if by := p.RefusedBy(c); by.Seen() {
			fmt.Fprintf(&got, "%s: refused by %s\n", c.Name, by.Name)
		}
	}
	diff(t, "answers", `
		read: message of socket 1
		read: message of socket 3
		read: message of socket 3
		read: message of socket 0
		sendto: refused by netlink_unicast
		netlink_sendmsg: refused by netlink_unicast
		netlink_sendmsg: refused by __scm_send
		netlink_sendmsg: refused by netlink_sendmsg
		sendto: refused by netlink_sendmsg
		netlink_sendmsg: refused by netlink_sendmsg
		sendto: refused by netlink_sendmsg
		netlink_sendmsg: refused by netlink_sendmsg
	`, got.String())
}
