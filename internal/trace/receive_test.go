// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What becomes of messages on their way to the reader: one that is cut, one that is only looked at, one with a group's
// number and credentials, one that the filter drops, from a neighbour and from the kernel, and one whose memory was
// another message's.
func TestReceive(t *testing.T) {
	const peek, trunc = unix.MSG_PEEK, unix.MSG_TRUNC
	tr := New(script(t, fmt.Sprintf(`
		1 task_newtask pid=10 clone_flags=0
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 netlink_create sock=1 protocol=25
		10 netlink_bind sock=1 sk=101 portid=100
		10 netlink_insert sk=101 portid=100
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 task_newtask pid=20 clone_flags=0
		20 netlink_create sock=2 protocol=25
		20 netlink_bind sock=2 sk=102 portid=200
		20 netlink_insert sk=102 portid=200
		20 netlink_insert_ret ret=0
		20 netlink_bind_ret ret=0
		# 9000 bytes, of which the reader takes 4096
		20 netlink_sendmsg sock=2 sk=102 len=9000 namelen=12 to=100
		20 netlink_unicast ssk=102 skb=7 portid=100
		20 sk_filter_trim_cap sk=101 skb=7
		20 sk_filter_trim_cap_ret ret=0
		20 netlink_unicast_ret ret=9000
		20 netlink_sendmsg_ret ret=9000
		10 netlink_recvmsg sock=1 sk=101 len=0 flags=%d
		10 skb_copy_datagram_iter skb=7 portid=200 len=0
		10 netlink_recvmsg_ret ret=9000
		10 netlink_recvmsg sock=1 sk=101 len=4096 flags=0
		10 skb_copy_datagram_iter skb=7 portid=200 len=4096
		10 netlink_recvmsg_ret ret=4096
		# to a group: a copy, in memory that the last message had
		20 netlink_sendmsg sock=2 sk=102 len=20 namelen=12 to=0
		20 netlink_unicast ssk=102 skb=8 portid=0
		20 netlink_unicast_ret ret=-111
		20 netlink_sendmsg_ret ret=-111
		10 netlink_recvmsg sock=1 sk=101 len=4096 flags=0
		10 skb_copy_datagram_iter skb=7 portid=200 group=5 len=20
		10 put_cmsg level=270 type=3 len=4 a=5
		10 put_cmsg level=1 type=2 len=12 a=20 b=1000 c=1000
		10 netlink_recvmsg_ret ret=20
		# beside the message room for the group only, which takes a header of 16 bytes and its own 4; for neither; for both
		10 netlink_recvmsg sock=1 sk=101 len=4096 flags=0
		10 put_cmsg level=270 type=3 len=4 a=5 room=39
		10 put_cmsg level=1 type=2 len=12 a=20 b=1000 c=1000 room=15
		10 netlink_recvmsg_ret ret=20
		10 netlink_recvmsg sock=1 sk=101 len=4096 flags=0
		10 put_cmsg level=270 type=3 len=4 a=5 room=0
		10 put_cmsg level=1 type=2 len=12 a=20 b=1000 c=1000 room=0
		10 netlink_recvmsg_ret ret=20
		10 netlink_recvmsg sock=1 sk=101 len=4096 flags=0
		10 put_cmsg level=270 type=3 len=4 a=5 room=52
		10 put_cmsg level=1 type=2 len=12 a=20 b=1000 c=1000 room=28
		10 netlink_recvmsg_ret ret=20
		# dropped: a reason, or an error
		20 netlink_sendmsg sock=2 sk=102 len=30 namelen=12 to=100
		20 netlink_unicast ssk=102 skb=9 portid=100
		20 sk_filter_trim_cap sk=101 skb=9
		20 sk_filter_trim_cap_ret ret=6
		20 netlink_unicast_ret ret=30
		20 netlink_sendmsg_ret ret=30
		10 netlink_sendmsg sock=1 sk=101 len=20 namelen=12 to=0
		10 netlink_unicast ssk=101 skb=10 portid=0
		10 nlecho_input id=1 sk=900 portid=100 pid=100 nlmsg_len=20 replies=2
		10 netlink_unicast ssk=900 skb=11 portid=100
		10 sk_filter_trim_cap sk=101 skb=11
		10 sk_filter_trim_cap_ret ret=-1
		10 netlink_unicast_ret ret=1040
		10 nlecho_reply id=1 to=100 n=0 ret=1040
		10 netlink_unicast ssk=900 skb=12 portid=100
		10 sk_filter_trim_cap sk=101 skb=12
		10 sk_filter_trim_cap_ret ret=0
		10 netlink_unicast_ret ret=1040
		10 nlecho_reply id=1 to=100 n=1 ret=1040
		10 nlecho_done id=1 sent=2
		10 netlink_unicast_ret ret=20
		10 netlink_sendmsg_ret ret=20`, peek|trunc))...)

	p := tr.Program(10, "/prog")
	diff(t, "timeline", `
		P0 bind port 100: ok
		P0 process 20: bind port 200: ok
		P0 process 20: sendmsg port 200 → port 100, 9000 bytes: 9000 bytes
		P0 recvmsg port 100, flags PEEK|TRUNC: 9000 bytes from port 200, 0 copied
		P0 recvmsg port 100: 4096 bytes of 9000 from port 200
		P0 process 20: sendmsg port 200 → kernel (port 0), 20 bytes: ECONNREFUSED (netlink_unicast)
		P0 recvmsg port 100: 20 bytes from port 200, group=5 pid=20 uid=1000
		P0 recvmsg port 100: 20 bytes, group=5, CTRUNC: no room for credentials
		P0 recvmsg port 100: 20 bytes, CTRUNC: no room for group and credentials
		P0 recvmsg port 100: 20 bytes, group=5 pid=20 uid=1000
		P0 > process 20: sendmsg port 200 → port 100
		K1 port 100's filter drops it
		P0 < process 20: sendmsg returns 30 bytes
		P0 > sendmsg port 100 → kernel (port 0)
		K1 gets 20 bytes from port 100
		K1 port 100's filter drops it
		K1 reply 1 of 2 to port 100
		K1 <- reply 2 of 2 to port 100
		K1 done, 2 sent
		P0 < sendmsg returns 20 bytes`, timeline(p))

	reads := p.Calls(Recvmsg)
	for i, want := range []struct {
		copied   int
		delivery int64
		group    uint64
	}{{0, 9000, 0}, {4096, 9000, 0}, {20, 0, 5}} {
		c := reads[i]
		if n, known := c.Copied(); n != want.copied || !known {
			t.Errorf("recvmsg %d copied %d bytes, %t", i, n, known)
		}
		if d := c.Delivery(); d.Ret != want.delivery || d.Seen() != (want.delivery > 0) {
			t.Errorf("recvmsg %d got what %v had sent", i, d)
		}
		if told := c.Told(unix.SOL_NETLINK, unix.NETLINK_PKTINFO); told.Uint("a") != want.group {
			t.Errorf("recvmsg %d was told %v", i, told)
		}
	}
	if told := reads[2].Told(unix.SOL_SOCKET, unix.SCM_CREDENTIALS); told.Uint("a") != 20 || told.Uint("b") != 1000 {
		t.Errorf("credentials %v", told)
	}
	filtered := p.Calls(Filter)
	evidence := p.Evidence(filtered[0].Return, reads[3].told[1], reads[5].told[1], filtered[1].Return, filtered[2].Return)
	for i, want := range []string{"sk_filter_trim_cap: the message passes", "put_cmsg: no room for the credentials",
		"put_cmsg: SCM_CREDENTIALS, process 20, uid 1000, gid 1000", "sk_filter_trim_cap -> 6, the reason to drop it", "sk_filter_trim_cap -> EPERM"} {
		if !strings.HasSuffix(evidence[i], "  "+want) {
			t.Errorf("evidence %q, expected %q", evidence[i], want)
		}
	}
	var dropped []uint64
	for _, c := range p.Calls(Unicast) {
		if c.Dropped() {
			dropped = append(dropped, c.Entry.Uint("skb"))
		}
	}
	if fmt.Sprint(dropped) != "[9 11]" {
		t.Errorf("dropped: %v", dropped)
	}
}
