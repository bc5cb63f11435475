// SPDX-License-Identifier: MIT

package trace

import "testing"

// A sender finds a queue full, sleeps, is woken by the reader's read, and another time by a timer.
func sleepy(t *testing.T) *Program {
	events := script(t, `
		1 task_newtask pid=10 clone_flags=0
		10 sched_process_exec pid=10 old_pid=10 filename=/lab/prog
		10 task_newtask pid=11 clone_flags=65536
		10 netlink_create sock=1 protocol=2
		10 netlink_bind sock=1 sk=101 portid=7
		10 netlink_insert sk=101 portid=7
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		10 netlink_create sock=2 protocol=2
		11 netlink_sendmsg sock=2 sk=102 len=26 namelen=12 to=7
		11 netlink_unicast ssk=102 portid=7
		11 netlink_attachskb sk=101 timeo=1000
		11 sched_switch prev_pid=11 prev_state=1 next_pid=10
		10 netlink_recvmsg sock=1 sk=101 len=100
		10 sched_waking pid=11
		10 netlink_recvmsg_ret ret=26
		11 netlink_attachskb_ret ret=1
		11 netlink_attachskb sk=101 timeo=900
		11 netlink_attachskb_ret ret=0
		11 netlink_unicast_ret ret=26
		11 netlink_sendmsg_ret ret=26
		11 netlink_sendmsg sock=2 sk=102 len=26 namelen=12 to=7
		11 netlink_unicast ssk=102 portid=7
		11 netlink_attachskb sk=101 timeo=1000
		11 sched_switch prev_pid=11 prev_state=1 next_pid=0
		0 sched_waking pid=11
		11 netlink_attachskb_ret ret=1
		11 netlink_attachskb sk=101 timeo=0
		11 netlink_attachskb_ret ret=-11
		11 netlink_unicast_ret ret=-11
		11 netlink_sendmsg_ret ret=-11
		11 sched_switch prev_pid=11 prev_state=1 next_pid=0
		10 sched_waking pid=11`)
	for i := range events {
		if events[i].Task == 0 {
			events[i].IRQ = true
		}
	}
	return New(events...).Program(10, "/lab/prog")
}

func TestSleeps(t *testing.T) {
	p := sleepy(t)
	sends := p.Calls(Sendmsg)
	first, second := p.Sleeps(sends[0]), p.Sleeps(sends[1])
	if len(first) != 1 || len(second) != 1 {
		t.Fatalf("%d and %d sleeps", len(first), len(second))
	}
	if s := first[0]; s.State != "S" || !Inside(s.Woken, p.Calls(Recvmsg).First()) {
		t.Errorf("the first sleep: %+v", s)
	}
	if s := second[0]; s.State != "S" || !s.Woken.IRQ || !During(s.Woken, sends[1]) {
		t.Errorf("the second sleep: %+v", s)
	}
	doors := p.Arrivals(p.Socket(2, 7))
	if len(doors) != 4 || len(p.Arrivals(nil)) != 0 || len(doors.Failed()) != 1 || !Inside(first[0].Began, doors[0]) {
		t.Errorf("netlink_attachskb: %v", doors)
	}
}

// The sleep is told where the send is, and the waking behind the read that brings it about.
func TestSleepTimeline(t *testing.T) {
	diff(t, "timeline", `
		P0 bind port 7: ok
		P0 > sendmsg an unbound socket → port 7
		K1 port 7 is full: sleeps in state S
		P0 recvmsg port 7: 26 bytes
		K1 wakes the sender
		P0 < sendmsg returns 26 bytes
		P0 > sendmsg an unbound socket → port 7
		K1 port 7 is full: sleeps in state S
		K1 the time is up: wakes the sender
		P0 < sendmsg returns EAGAIN`, timeline(sleepy(t)))
}

// A sender of the kernel's own waits for the program's reader, and is interrupted at the door of a queue with room.
func TestArrivalsFromTheKernel(t *testing.T) {
	p := New(script(t, `
		1 task_newtask pid=10 clone_flags=0
		10 sched_process_exec pid=10 old_pid=10 filename=/lab/prog
		10 netlink_create sock=1 protocol=26
		10 netlink_bind sock=1 sk=101 portid=7
		10 netlink_insert sk=101 portid=7
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		90 netlink_unicast ssk=900 portid=7
		90 netlink_attachskb sk=101 timeo=1000
		10 netlink_recvmsg sock=1 sk=101 len=100
		90 netlink_attachskb_ret ret=1
		10 netlink_recvmsg_ret ret=26
		90 netlink_attachskb sk=101 timeo=900
		10 sys_enter_close fd=9
		90 netlink_attachskb_ret ret=0
		90 netlink_unicast_ret ret=26`)...).Program(10, "/lab/prog")
	as := p.Arrivals(p.Socket(26, 7))
	if len(as) != 2 || as[0].Ret != 1 || as[1].Ret != 0 {
		t.Errorf("arrivals: %v", as)
	}
	diff(t, "timeline", `
		P0 bind port 7: ok
		P0 recvmsg port 7: waits
		K0 port 7 full: waited
		P0 recvmsg returns 26 bytes`, timeline(p))
}
