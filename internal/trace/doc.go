// SPDX-License-Identifier: MIT

// Package trace shows what a kernel did with a program's Netlink messages: it collects the kernel's own events, on one
// clock and in order, and answers questions about them.
//
// A [Collector] sets up probes on the Netlink functions of the kernel (net/netlink/af_netlink.c), on the system calls
// that lead to them, on the birth and death of processes, and on the events of the modules nlecho and nlnotify, and reads
// them from
// the kernel's ring buffer. Each is an [Event]. A [Trace] is made from events, and knows what they say about processes,
// sockets and calls; a [Program] is that part of it which one run of one program brought about, whichever task it
// happened in. What strangers do at the same time is left out.
//
// # For authors of checks
//
// Ask for order, never for milliseconds. Take the calls and the messages of the run, and say what must be before, or
// inside, what:
//
//	send := run.Calls(trace.Sendmsg).To(0).OK().First()
//	message := run.Messages()[0]
//	trace.Inside(message.Done, send)            // the kernel answered inside the call,
//	trace.Before(message.Done, send.Return)     // that is, before it returned
//
// Nothing has to be checked for being there first: what did not happen is the zero [Event] or the zero [Call], which is
// before nothing, inside nothing, and Seen reports false for it. Some questions and where their answers are:
//
//	was anything sent to port 0?             len(run.Calls(trace.Sendmsg).To(0).OK())
//	did the kernel get just these bytes?     run.Messages()[0].Input.Uint("crc"), Int("nlmsg_len"), Data()
//	who sent it, by the kernel's word?       run.Messages()[0].PortID()
//	what does the header claim?              run.Messages()[0].Input.Uint("pid"), "seq", "type", "flags"
//	which port did the kernel choose?        run.Sockets()[0].Port, and Auto is true
//	was that socket ever bound?              len(run.Calls(trace.Bind).On(socket)) > 0
//	did bind fail, and why?                  run.Calls(trace.Bind).Failed(unix.EADDRINUSE).First()
//	was the reply read, and when?            run.Calls(trace.Recvmsg).On(socket).OK().First().Return
//	who sent what was read?                  run.Calls(trace.Recvmsg).On(socket).OK().First().Sender
//	which function refused a message?        run.RefusedBy(send).Name
//	was it read while the send lasted?       trace.During(read.Return, send)
//	did a sender sleep, and who woke it?      run.Sleeps(send): State, Began; trace.Inside(sleep.Woken, read)
//	did the kernel wait for a reader?         run.Arrivals(socket): one that returned 1
//	was write(2) used, or sendto(2)?         run.Calls(trace.Sendmsg).By("write")
//	was it cut, and how long had it been?    read.Copied(), read.Delivery().Ret
//	did a filter drop it?                    run.Calls(trace.Unicast).To(port).First().Dropped()
//	which groups was it in then?             run.Sockets()[0].Groups(send.Entry)
//	who heard a shout?                       run.Calls(trace.Broadcast).First().Queued()
//	where did a reply go?                    run.Messages()[0].Replies, Uint("to"), Int("ret")
//	how deep was the recursion?              run.Events(trace.EchoInput).Last().Int("depth")
//
// Put the question to [Sendmsg] and [Recvmsg], through which all ways of sending and receiving lead, so that no correct
// program is refused for the call it used. The fields of an event are named in the kernel: for the probes beside their
// names below, for the modules in kmod/NAME/NAME_trace.h, for the others in events/GROUP/NAME/format.
//
// # Losses
//
// A trace can have gaps: events that were overwritten before they were read, and probes that were hit while they could
// not be recorded. Both are events of the stream themselves, and [Trace.Lost] sums them up. No verdict may rest on a
// trace with losses.
package trace
