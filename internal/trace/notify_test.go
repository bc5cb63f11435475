// SPDX-License-Identifier: MIT

package trace

import "testing"

// Notices come by a timer, by a worker and in the task of whoever writes to trigger; then the module goes and comes.
// A stranger in another network namespace is told the same.
func notified(t *testing.T) *Program {
	events := script(t, `
		1 task_newtask pid=10 clone_flags=0
		10 sched_process_exec pid=10 old_pid=10 filename=/lab/prog
		10 netlink_create sock=1 protocol=26 net=500
		10 netlink_bind sock=1 sk=101 portid=7 groups=1
		10 nlnotify_join net=500 group=1 ret=0
		10 netlink_insert sk=101 portid=7
		10 netlink_insert_ret ret=0
		10 netlink_bind_ret ret=0
		0 nlnotify_send sk=900 net=500 type=16 number=1 cause=2 via=1 to=1 softirq=1 ret=0
		0 nlnotify_send sk=901 net=501 type=16 number=1 cause=2 via=1 to=1 softirq=1 ret=-3
		30 netlink_unicast ssk=900 portid=7 nonblock=0
		10 netlink_recvmsg sock=1 sk=101 len=2000
		10 netlink_recvmsg_ret ret=1040
		30 netlink_unicast_ret ret=1040
		30 nlnotify_send sk=900 net=500 type=16 number=2 cause=1 via=2 to=7 softirq=0 ret=1040
		2 nlnotify_send sk=900 net=500 type=16 number=3 cause=1 via=2 to=7 softirq=0 ret=-11
		10 netlink_sendmsg sock=1 sk=101 len=16 namelen=12 to=0
		10 netlink_unicast ssk=101 portid=0
		10 nlnotify_input portid=7
		10 netlink_unicast ssk=900 portid=7
		10 netlink_unicast_ret ret=20
		10 nlnotify_request portid=7 number=3 ret=0
		10 netlink_unicast_ret ret=16
		10 netlink_sendmsg_ret ret=16
		10 netlink_sendmsg sock=1 sk=101 len=16 namelen=12 to=0
		10 netlink_unicast ssk=101 portid=0
		10 nlnotify_input portid=7
		10 netlink_unicast ssk=900 portid=7
		10 netlink_unicast_ret ret=-11
		10 nlnotify_request portid=7 number=3 ret=-11
		10 netlink_unicast_ret ret=16
		10 netlink_sendmsg_ret ret=16
		2 sys_exit_delete_module ret=-11
		2 nlnotify_leave leave=1
		2 nlnotify_send sk=900 net=500 type=17 number=0 cause=0 via=1 to=1 softirq=0 ret=0
		2 module_free name=nlnotify
		2 module_free name=other
		2 module_load name=nlnotify
		10 netlink_create sock=2 protocol=26 net=500
		10 netlink_bind sock=2 sk=102 portid=0 groups=1
		10 nlnotify_join net=500 group=1 ret=-108
		10 netlink_bind_ret ret=-108`)
	for i := range events {
		if events[i].Task == 0 {
			events[i].IRQ = true
		}
	}
	return New(events...).Program(10, "/lab/prog")
}

func TestNotify(t *testing.T) {
	p := notified(t)
	sends := p.Events(NotifySend)
	if len(sends) != 4 || !sends[0].IRQ {
		t.Errorf("what the program was told: %v", sends)
	}
	// The worker waited until the program read.
	waited := p.Events(Unicast).Where("nonblock", 0).Where("portid", 7).First()
	read := p.Calls(Recvmsg).First().Return
	if !Before(waited, read) || !Before(read, sends[1]) {
		t.Errorf("the unicast %v, the read %v, the end %v", waited, read, sends[1])
	}
	if loads := p.Events(ModuleLoad, ModuleFree); len(loads) != 2 {
		t.Errorf("the module goes and comes: %v", loads)
	}
}

func TestNotifyTimeline(t *testing.T) {
	diff(t, "timeline", `
		P0 bind port 7, groups 0x1: ok
		K0 <- notice 1 to group 1, by a timer
		P0 recvmsg port 7: 1040 bytes
		K0 <- notice 2 to port 7
		K0 notice 3 to port 7: EAGAIN
		P0 > sendmsg port 7 → kernel (port 0)
		K1 <- 3 notices so far, to port 7
		P0 < sendmsg returns 16 bytes
		P0 > sendmsg port 7 → kernel (port 0)
		K1 the answer to port 7 has no room: EAGAIN
		P0 < sendmsg returns 16 bytes
		K0 rmmod nlnotify: EAGAIN
		K0 nlnotify is told to leave
		K0 <- “I am leaving” to group 1
		K0 nlnotify is unloaded
		K0 nlnotify is loaded
		P0 bind, any port, groups 0x1
		K0 takes no new subscriber: ESHUTDOWN
		P0 bind returns ESHUTDOWN`, timeline(notified(t)))
}

func TestNotifyEvidence(t *testing.T) {
	p := notified(t)
	joins, requests := p.Events(NotifyJoin), p.Events(NotifyRequest)
	if len(joins) != 2 || len(requests) != 2 {
		t.Fatalf("joins %v, requests %v", joins, requests)
	}
	diff(t, "evidence", `
		3.000 ms  nlnotify_join group=1 ret=0
		20.000 ms  nlnotify_request portid=7 number=3 ret=0
		28.000 ms  nlnotify_request portid=7 number=3 ret=-11, EAGAIN
		39.000 ms  nlnotify_join group=1 ret=-108, ESHUTDOWN
	`, evidence(p, joins[0], joins[1], requests[0], requests[1]))
}
