// SPDX-License-Identifier: MIT

package trace

// SetSockOpt is the function of the kernel that gives an option of the level SOL_SOCKET to a socket of whatever family
// (net/core/sock.c). It tells what [Config.Probes] must ask for: sec and usec, the first 16 bytes of the value. They are
// the time limit where the option is one (SO_SNDTIMEO, SO_RCVTIMEO), and noise where the option is shorter.
const SetSockOpt = "sock_setsockopt" // sock, sk, optname, sec, usec (Config.Probes)

func init() {
	probes = append(probes, probe{
		name:  SetSockOpt,
		args:  "sock=$arg1:x64 sk=+24($arg1):x64 optname=$arg3:s32 sec=+u0($arg4):s64 usec=+u8($arg4):s64",
		extra: true,
	})
}
