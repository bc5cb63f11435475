// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A shout to a group: who was a member, by a mask or by number, into whose queue it was put, and the copy that the
// kernel gets; then the module's own, to a group that has no bit.
func TestGroups(t *testing.T) {
	tr := New(script(t, fmt.Sprintf(`
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 sys_enter_socket family=16 type=3 protocol=25
		10 netlink_create sock=1 protocol=25
		10 sys_exit_socket ret=3
		10 netlink_bind sock=1 sk=101 portid=7 groups=6
		10 netlink_insert sk=101 portid=7
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 sys_enter_socket family=16 type=3 protocol=25
		10 netlink_create sock=2 protocol=25
		10 sys_exit_socket ret=4
		10 sys_enter_setsockopt fd=4 level=%d optname=%d
		10 netlink_setsockopt sock=2 sk=102 optname=%d value=40
		10 netlink_setsockopt_ret ret=0
		10 sys_exit_setsockopt ret=0
		10 netlink_bind sock=2 sk=102 portid=8 groups=0
		10 netlink_insert sk=102 portid=8
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 netlink_sendmsg sock=2 sk=102 len=20 namelen=12 to=0 to_groups=6
		10 netlink_broadcast ssk=102 portid=0 group=2
		10 sock_def_readable sk=101
		10 sock_def_readable sk=999
		10 netlink_broadcast_ret ret=0
		10 netlink_unicast ssk=102 portid=0
		10 nlecho_input id=1 sk=900 portid=8 pid=8 nlmsg_len=20 replies=2 dst_group=2 group=40
		10 netlink_broadcast ssk=900 portid=0 group=40
		10 sock_def_readable sk=102
		10 netlink_broadcast_ret ret=0
		10 nlecho_reply id=1 portid=8 to=8 group=40 n=0 ret=0
		10 netlink_setsockopt sock=2 sk=102 optname=%d value=40
		10 netlink_setsockopt_ret ret=0
		10 netlink_broadcast ssk=900 portid=0 group=40
		10 netlink_broadcast_ret ret=-3
		10 nlecho_reply id=1 portid=8 to=8 group=40 n=1 ret=-3
		10 nlecho_done id=1 portid=8 replies=2 sent=1
		10 netlink_unicast_ret ret=20
		10 netlink_sendmsg_ret ret=20
		10 sock_def_readable sk=101
		10 netlink_sendmsg sock=2 sk=102 len=20 namelen=12 to=7 to_groups=1
		10 netlink_broadcast ssk=102 portid=7 group=1
		10 netlink_broadcast_ret ret=-3
		10 netlink_unicast ssk=102 portid=7
		10 sock_def_readable sk=101
		10 netlink_unicast_ret ret=20
		10 netlink_sendmsg_ret ret=20
		10 netlink_bind sock=1 sk=101 portid=7 groups=0
		10 netlink_bind_ret ret=0`,
		unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NETLINK_ADD_MEMBERSHIP, unix.NETLINK_DROP_MEMBERSHIP))...)
	p := tr.Program(10, "/prog")
	diff(t, "timeline", `
		P0 socket protocol 25: fd 3
		P0 bind port 7, groups 0x6: ok
		P0 socket protocol 25: fd 4
		P0 setsockopt fd 4, NETLINK_ADD_MEMBERSHIP 40
		P0 bind port 8: ok
		P0 > sendmsg port 8 → groups 2|3, port 0
		K1 <- group 2 → port 7
		K1 gets 20 bytes from port 8, for group 2
		K1 <- group 40 → port 8
		K1 reply 1 of 2 to group 40
		K1 group 40 → nobody
		K1 reply 2 of 2 to group 40: ESRCH
		K1 done, 1 sent
		P0 < sendmsg returns 20 bytes
		P0 > sendmsg port 8 → group 1, port 7
		K1 group 1 → nobody
		K1 <- the copy → port 7
		P0 < sendmsg returns 20 bytes
		P0 bind port 7: ok
	`, timeline(p))

	a, b := p.Sockets()[0], p.Sockets()[1]
	casts := p.Calls(Broadcast)
	if len(casts) != 4 || casts[0].Outer().Name != Sendmsg || casts[1].Outer().Name != Unicast || casts[0].Outer().Outer().Seen() {
		t.Fatalf("broadcasts: %v", casts)
	}
	for i, want := range [][]*Socket{{a}, {b}, nil} {
		if got := casts[i].Queued(); len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
			t.Errorf("shout %d was put into the queues of %v", i, got)
		}
	}
	for i, want := range [][]int{{40}, {40}, nil} {
		if got := b.Groups(casts[i].Entry); !slices.Equal(got, want) {
			t.Errorf("groups of b at shout %d: %v, want %v", i, got, want)
		}
	}
	if d := cmp.Diff([]int{2, 3}, a.Groups(casts[0].Entry)); d != "" {
		t.Errorf("groups of a (-want +got):\n%s", d)
	}
	last := p.Events().Last() // the return of the bind that leaves them
	if d := cmp.Diff([]int{2, 3}, a.Groups(last)); d != "" {
		t.Errorf("groups of a until it has left them (-want +got):\n%s", d)
	}
	last.Time++
	if got := a.Groups(last); len(got) > 0 {
		t.Errorf("groups of a when it has left them: %v", got)
	}
	diff(t, "evidence", `
		3.000 ms  netlink_bind(port 7, groups 0x6)
		11.000 ms  netlink_setsockopt(port 8, NETLINK_ADD_MEMBERSHIP, 40)
		18.000 ms  netlink_sendmsg(port 8 to groups 0x6, port 0, 20 bytes)
		19.000 ms  netlink_broadcast(group 2)
		20.000 ms  sock_def_readable(port 7)
		24.000 ms  nlecho_input portid=8 nlmsg_pid=8 nlmsg_seq=0 len=20 dst_group=2
		33.000 ms  nlecho_reply n=1 group=40 ret=-3, ESRCH
	`, evidence(p, p.Events(EchoReply)[1], p.Events(EchoInput)[0], p.Events(Readable)[0], casts[0].Entry,
		p.Calls(Sendmsg)[0].Entry, p.Calls(SetOption)[0].Entry, p.Calls(Bind)[0].Entry))
}

// A shout that no member got: for want of room, say. The kernel's own shouts that nobody hears are not told.
func TestShoutDropped(t *testing.T) {
	tr := New(script(t, `
		10 sched_process_exec pid=10 old_pid=10 filename=/prog
		10 sys_enter_socket family=16 type=3 protocol=2
		10 netlink_create sock=1 protocol=2
		10 sys_exit_socket ret=3
		10 netlink_bind sock=1 sk=101 portid=7 groups=1
		10 netlink_insert sk=101 portid=7
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 sys_enter_socket family=16 type=3 protocol=2
		10 netlink_create sock=2 protocol=2
		10 sys_exit_socket ret=4
		10 netlink_bind sock=2 sk=102 portid=8 groups=3
		10 netlink_insert sk=102 portid=8
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 sys_enter_socket family=16 type=3 protocol=2
		10 netlink_create sock=3 protocol=2
		10 sys_exit_socket ret=5
		10 netlink_bind sock=3 sk=103 portid=9 groups=1
		10 netlink_insert sk=103 portid=9
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 netlink_broadcast ssk=900 portid=0 group=1
		10 netlink_broadcast_ret ret=-3
		10 netlink_sendmsg sock=2 sk=102 len=20 namelen=12 to=0 to_groups=1
		10 netlink_broadcast ssk=102 portid=0 group=1
		10 netlink_broadcast_ret ret=-3
		10 netlink_sendmsg_ret ret=-111
		10 netlink_sendmsg sock=2 sk=102 len=20 namelen=12 to=7 to_groups=1
		10 netlink_broadcast ssk=102 portid=7 group=1
		10 netlink_broadcast_ret ret=-3
		10 netlink_sendmsg_ret ret=20
		10 netlink_sendmsg sock=2 sk=102 len=20 namelen=12 to=0 to_groups=2
		10 netlink_broadcast ssk=102 portid=0 group=2
		10 netlink_broadcast_ret ret=-3
		10 netlink_sendmsg_ret ret=-111`)...)
	diff(t, "timeline", `
		P0 socket protocol 2: fd 3
		P0 bind port 7, groups 0x1: ok
		P0 socket protocol 2: fd 4
		P0 bind port 8, groups 0x3: ok
		P0 socket protocol 2: fd 5
		P0 bind port 9, groups 0x1: ok
		P0 > sendmsg port 8 → group 1, port 0
		K1 group 1 → port 7, port 9: dropped
		P0 < sendmsg returns ECONNREFUSED
		P0 > sendmsg port 8 → group 1, port 7
		K1 group 1 → port 9: dropped
		P0 < sendmsg returns 20 bytes
		P0 > sendmsg port 8 → group 2, port 0
		K1 group 2 → nobody
		P0 < sendmsg returns ECONNREFUSED
	`, timeline(tr.Program(10, "/prog")))
}
