// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// group is the folder below events/ that our kprobes stand in.
const group = "nll"

// probe is one kernel function and what is recorded of its arguments.
//
// Arguments are named by number ($arg1), which is the same on every architecture; struct members by their offset,
// all of them in structures that have not changed from 5.10 to 7.2:
//
//	struct socket       sk at 24                                       (include/linux/net.h)
//	struct sockaddr_nl  nl_family at 0, nl_pid at 4, nl_groups at 8    (include/uapi/linux/netlink.h)
//	struct msghdr       msg_name at 0, msg_namelen at 8, msg_controllen at 72
//	                                                                   (include/linux/socket.h)
//	struct sk_buff      sk at 24, cb at 40                             (include/linux/skbuff.h)
//	struct sock         skc_family at 16                               (include/net/sock.h)
//	NETLINK_CB(skb)     portid at 12, dst_group at 16 of cb            (include/linux/netlink.h)
//
// A program that gives no address has msg_namelen 0, and what family, to and to_groups then hold is noise.
type probe struct {
	name string
	args string
	// active is how many calls of the function may be under way at once and still have their return recorded; 0 means
	// that the return tells nothing. Every reader that waits in recvmsg is one, and so is every level of a recursion
	// through the input callback. (The kernel's own default, twice the number of CPUs, loses nested ones.)
	active int
	extra  bool // only when asked for by name
	// only is a filter in the kernel's language: of a function that other protocol families use as well, what is
	// Netlink's. The events themselves leave the program that collects them through a socket of another family, and
	// would bring about more of their kind.
	only string
	// symbols are what the function is called by, where that is not the event's name: the first that the kernel has is
	// probed.
	symbols []string
}

var probes = []probe{
	{name: Create, args: "net=$arg1:x64 sock=$arg2:x64 protocol=$arg3:s32"},
	{name: Bind, args: "sock=$arg1:x64 sk=+24($arg1):x64 " + addressArgs, active: 16},
	{name: Insert, args: "sk=$arg1:x64 portid=$arg2:u32", active: 16},
	{name: Sendmsg, args: "sock=$arg1:x64 sk=+24($arg1):x64 len=$arg3:u64 namelen=+8($arg2):s32 family=+0(+0($arg2)):u16 to=+4(+0($arg2)):u32 to_groups=+8(+0($arg2)):u32", active: 64},
	{name: Unicast, args: "ssk=$arg1:x64 skb=$arg2:x64 portid=$arg3:u32 nonblock=$arg4:s32", active: 256},
	{name: Recvmsg, args: "sock=$arg1:x64 sk=+24($arg1):x64 len=$arg3:u64 flags=$arg4:s32", active: 64},

	{name: Connect, args: "sock=$arg1:x64 sk=+24($arg1):x64 " + addressArgs, active: 16, extra: true},
	{name: Release, args: "sock=$arg1:x64", extra: true},
	{name: Attach, args: "sk=$arg1:x64 skb=$arg2:x64 timeo=+0($arg3):s64 ssk=$arg4:x64", active: 64, extra: true},
	{name: ScmSend, args: "sock=$arg1:x64", active: 16, extra: true},
	{name: Take, args: "skb=$arg1:x64 portid=+52($arg1):u32 group=+56($arg1):u32 len=$arg4:s32 family=+16(+24($arg1)):u16", extra: true, only: netlinkOnly},
	{name: Filter, args: "sk=$arg1:x64 skb=$arg2:x64", active: 16, extra: true},
	{name: PutCmsg, args: "level=$arg2:s32 type=$arg3:s32 len=$arg4:s32 a=+0($arg5):u32 b=+4($arg5):u32 c=+8($arg5):u32 room=+72($arg1):u64", extra: true},
	{name: SetOption, args: "sock=$arg1:x64 sk=+24($arg1):x64 optname=$arg3:s32 value=+u0($arg4):s32", active: 16, extra: true},
	// On most kernels netlink_broadcast only wraps the other, and not every caller goes through the wrapper; 6.1 has but
	// the one.
	{name: Broadcast, args: "ssk=$arg1:x64 skb=$arg2:x64 portid=$arg3:u32 group=$arg4:u32", active: 64, extra: true,
		symbols: []string{"netlink_broadcast_filtered", "netlink_broadcast"}},
	{name: Readable, args: "sk=$arg1:x64 family=+16($arg1):u16", extra: true, only: netlinkOnly},
	{name: SetSockOpt, args: "sock=$arg1:x64 sk=+24($arg1):x64 optname=$arg3:s32 sec=+u0($arg4):s64 usec=+u8($arg4):s64", extra: true},
}

// netlinkOnly lets AF_NETLINK's pass.
const netlinkOnly = "family == 16"

const addressArgs = "family=+0($arg2):u16 portid=+4($arg2):u32 groups=+8($arg2):u32 len=$arg3:s32"

// define is what is written to kprobe_events for the probe of a function: one line or two. Every function here returns
// an int.
func (p *probe) define(function string) string {
	s := fmt.Sprintf("p:%s/%s %s %s\n", group, p.name, function, p.args)
	if p.active > 0 {
		s += fmt.Sprintf("r%d:%s/%s%s %s ret=$retval:s32\n", p.active, group, p.name, ret, function)
	}
	return s
}

// choose returns the probes that every trace has, and the extra ones named.
func choose(extra []string) ([]*probe, error) {
	var chosen []*probe
	for i := range probes {
		if !probes[i].extra {
			chosen = append(chosen, &probes[i])
		}
	}
next:
	for _, name := range extra {
		for i := range probes {
			if p := &probes[i]; p.name == name {
				if p.extra && !slices.Contains(chosen, p) {
					chosen = append(chosen, p)
				}
				continue next
			}
		}
		return nil, fmt.Errorf("trace: no probe is named %q; the names are %s", name, strings.Join(probeNames(), ", "))
	}
	return chosen, nil
}

func probeNames() []string {
	var names []string
	for i := range probes {
		names = append(names, probes[i].name)
	}
	return names
}

// systemCalls are those whose entry and return every trace has: they name the call by which a program came to the
// kernel's function, and the descriptor. Writes also place the lines that a program prints among its other steps;
// closes show a socket that was given up too early. (The order is that in which formats are searched, see
// [Collector.format]: what everybody calls comes first.)
var systemCalls = []string{
	"close", "write",
	"socket", "bind", "sendto", "sendmsg", "recvfrom", "recvmsg", "getsockname", "setsockopt", "connect", "sendmmsg", "recvmmsg",
}

// otherEvents are the further tracepoints of every trace: processes and threads. (task_newtask tells a thread from a
// process by its flags, which sched_process_fork does not.)
var otherEvents = []string{"task/task_newtask", "sched/sched_process_exec", "sched/sched_process_exit"}

// DescriptorEvents returns the names of events, for [Config.Events], by which the trace knows the copies of a descriptor:
// who else has a socket, and whether a child's standard output is that of the program.
func DescriptorEvents() []string {
	calls := []string{"dup", "dup3", "fcntl"}
	if runtime.GOARCH == "amd64" {
		calls = append(calls, "dup2") // newer architectures have no such call
	}
	var events []string
	for _, c := range calls {
		events = append(events, "syscalls:sys_enter_"+c, "syscalls:sys_exit_"+c)
	}
	return events
}

// NamespaceEvents returns the names of events, for [Config.Events], that show a thread going to another namespace.
func NamespaceEvents() []string {
	return []string{"syscalls:sys_enter_unshare", "syscalls:sys_exit_unshare", "syscalls:sys_enter_setns", "syscalls:sys_exit_setns"}
}

// SleepEvents returns the names of events, for [Config.Events], that show who goes to sleep in a call and who wakes it:
// what [Program.Sleeps] is made from.
func SleepEvents() []string {
	return []string{"sched:sched_switch if prev_state & 3", "sched:sched_waking"}
}

// moduleEvents are groups that are traced where their module is loaded.
var moduleEvents = []string{"nlecho", "nlnotify"}
