// SPDX-License-Identifier: MIT

package trace

import (
	"fmt"
	"runtime"
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
//	struct msghdr       msg_name at 0, msg_namelen at 8                (include/linux/socket.h)
//
// A program that gives no address has msg_namelen 0, and what "to" then holds is noise.
type probe struct {
	name string
	args string
	// active is how many calls of the function may be under way at once and still have their return recorded; 0 means
	// that the return tells nothing. Every reader that waits in recvmsg is one, and so is every level of a recursion
	// through the input callback. (The kernel's own default, twice the number of CPUs, loses nested ones.)
	active int
	extra  bool // only when asked for by name
}

var probes = []probe{
	{name: Create, args: "net=$arg1:x64 sock=$arg2:x64 protocol=$arg3:s32"},
	{name: Bind, args: "sock=$arg1:x64 sk=+24($arg1):x64 " + addressArgs, active: 16},
	{name: Insert, args: "sk=$arg1:x64 portid=$arg2:u32", active: 16},
	{name: Sendmsg, args: "sock=$arg1:x64 sk=+24($arg1):x64 len=$arg3:u64 namelen=+8($arg2):s32 to=+4(+0($arg2)):u32 to_groups=+8(+0($arg2)):u32", active: 64},
	{name: Unicast, args: "ssk=$arg1:x64 skb=$arg2:x64 portid=$arg3:u32 nonblock=$arg4:s32", active: 256},
	{name: Recvmsg, args: "sock=$arg1:x64 sk=+24($arg1):x64 len=$arg3:u64 flags=$arg4:s32", active: 64},

	{name: Connect, args: "sock=$arg1:x64 sk=+24($arg1):x64 " + addressArgs, active: 16, extra: true},
	{name: Release, args: "sock=$arg1:x64", extra: true},
	{name: SetSockOpt, args: "sock=$arg1:x64 sk=+24($arg1):x64 optname=$arg3:s32 sec=+u0($arg4):s64 usec=+u8($arg4):s64", extra: true},
}

const addressArgs = "family=+0($arg2):u16 portid=+4($arg2):u32 groups=+8($arg2):u32 len=$arg3:s32"

// define is what is written to kprobe_events for the probe: one line or two. Every function here returns an int.
func (p *probe) define() string {
	s := fmt.Sprintf("p:%s/%s %s %s\n", group, p.name, p.name, p.args)
	if p.active > 0 {
		s += fmt.Sprintf("r%d:%s/%s%s %s ret=$retval:s32\n", p.active, group, p.name, ret, p.name)
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
				if p.extra {
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

// moduleEvents are groups that are traced where their module is loaded.
var moduleEvents = []string{"nlecho"}
