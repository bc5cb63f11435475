#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Makes a Debian machine a place for the labs. It runs as root inside the Vagrant VM,
# may be repeated at any time, and says nothing where nothing is to do.
#
#   provision.sh             do it
#   provision.sh packages    only name the packages that it wants
#
# ACCOUNT is who does the labs, FOLDER where the workbook is, RELEASE the kernel that
# modules are built for (the running one).
set -euo pipefail

account=${ACCOUNT:-vagrant}
folder=${FOLDER:-/home/$account/netlink-labs}
release=${RELEASE:-$(uname -r)}
marker=/etc/netlink-labs/place # bin/lab runs checks on this machine's kernel where it is

say() { echo "netlink-labs: $*"; }

fail() {
	printf '\nnetlink-labs: %s\n' "$@" >&2
	exit 2
}

# Compiler and headers for the module; QEMU for the boots that crash; what helps to
# look at Netlink. Go is seen to below.
packages() {
	case $(dpkg --print-architecture) in
	arm64) echo qemu-system-arm ;;
	*) echo qemu-system-x86 ;;
	esac
	printf '%s\n' ca-certificates make gcc libc6-dev rsync sudo \
		iproute2 strace tshark busybox-static
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# install PACKAGE...: tells in one line what is done, and apt's words where it fails.
install() {
	say "installing $*"
	local log
	log=$(mktemp)
	# Lists that could not be fetched may be good enough, but are not remembered.
	if ! { { [ -e /run/netlink-labs-lists ] || { apt-get -q update --error-on=any && touch /run/netlink-labs-lists; } || true; } &&
		DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
			-o DPkg::Lock::Timeout=300 -o Acquire::Retries=2 install "$@"; } >"$log" 2>&1; then
		tail -n 15 "$log" >&2
		if grep -qE 'No space left|enough free space' "$log"; then
			why='the disk is full'
		elif grep -qE 'Temporary failure resolving|Could not (resolve|connect)|timed out|Network is unreachable' "$log"; then
			why='this machine does not reach Debian'\''s packages; a class without a network wants the box of vagrant/build-box.sh'
		else
			why='apt-get failed'
		fi
		rm -f "$log"
		return 1
	fi
	rm -f "$log"
}

see_to_packages() {
	local lacks=() p
	for p in $(packages); do
		installed "$p" || lacks+=("$p")
	done
	[ ${#lacks[@]} -eq 0 ] && return
	# The question whether everybody may capture packets is not asked.
	install "${lacks[@]}" || fail "the packages could not be installed: $why. When that is mended: vagrant provision"
}

# A public box may be older than the headers that Debian still serves.
see_to_headers() {
	[ -e "/lib/modules/$release/build/Makefile" ] && return
	install "linux-headers-$release" && return
	[ "$why" = 'apt-get failed' ] ||
		fail "the headers of kernel $release could not be installed: $why. When that is mended: vagrant provision"
	local flavour=${release#*-*-}
	case $release in
	*-cloud-*) flavour=cloud-$(dpkg --print-architecture) ;;
	*) flavour=$(dpkg --print-architecture) ;;
	esac
	say "Debian has no headers for kernel $release any more: taking today's kernel"
	install "linux-image-$flavour" "linux-headers-$flavour" ||
		fail "there are no headers for the running kernel $release, and no other kernel can be installed: $why. When that is mended: vagrant provision"
	fail "kernel $release has no headers any more; a newer kernel was installed, with its headers. To go on with that one: vagrant reload --provision"
}

# A Go of 1.21 or newer fetches the one that go.mod names.
see_to_go() {
	local go minor
	for go in /usr/local/go/bin/go "$(command -v go || true)"; do
		[ -x "$go" ] || continue
		minor=$(GOTOOLCHAIN=local "$go" version | sed -n 's/.*go1\.\([0-9]*\).*/\1/p')
		[ "${minor:-0}" -ge 21 ] || continue
		# Not every shell that ssh starts reads a profile.
		[ "$go" != /usr/local/go/bin/go ] || [ /usr/local/bin/go -ef "$go" ] || ln -sf "$go" /usr/local/bin/go
		return
	done
	install golang-go || fail "Go could not be installed: $why. When that is mended: vagrant provision"
}

# A check loads a module, so it runs as root. This gives the account nothing that it
# does not have in a Vagrant box already.
see_to_sudo() {
	local file=/etc/sudoers.d/netlink-labs
	as_account sudo -n true 2>/dev/null && return
	say "letting $account use sudo without a password"
	echo "$account ALL=(ALL) NOPASSWD: ALL" >"$file.new"
	chmod 440 "$file.new"
	visudo -cqf "$file.new" || fail "sudo does not take $file.new"
	mv "$file.new" "$file"
}

as_account() {
	runuser -u "$account" -- env HOME="$home" PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
		XDG_CACHE_HOME="$home/.cache" GOTOOLCHAIN=auto "$@"
}

# build COMMAND...: its words are shown where it fails.
build() {
	"$@" >"$log" 2>&1 && return
	tail -n 15 "$log" >&2
	rm -f "$log"
	fail "the labs could not be built. When that is mended: vagrant provision"
}

# Builds the tool, all packages of labs, and the modules: a student's first check need
# not wait for that. Where the box was built from the same files, it is all there.
warm() {
	local stamp=$home/.cache/netlink-labs/provisioned
	cd "$folder" || fail "$folder is not there: vagrant rsync, or vagrant reload"
	local sources log new
	log=$(mktemp)
	build as_account sh cmd/build.sh # does nothing where nothing has changed
	sources=$(find go.mod go.sum cmd internal kmod labs -type f -print0 | LC_ALL=C sort -z |
		xargs -0 sha256sum | sha256sum)
	sources="$release ${sources%% *}"
	if [ "$(cat "$stamp" 2>/dev/null)" = "$sources" ]; then
		rm -f "$log"
		return
	fi
	say "building, for a first check that does not wait"
	build as_account env GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0 go list -export -deps -test ./labs/...
	build as_account env KERNEL=host bin/lab prepare host
	rm -f "$log"
	new=$(mktemp)
	echo "$sources" >"$new"
	chown "$account:" "$new"
	mv "$new" "$stamp"
}

if [ "${1:-}" = packages ]; then
	packages
	exit
fi
[ "$(id -u)" = 0 ] || fail "provisioning is root's: vagrant provision does it"
home=$(getent passwd "$account" | cut -d: -f6) || fail "there is no account $account here"
see_to_packages
see_to_headers
see_to_go
see_to_sudo
warm
if [ ! -e "$marker" ]; then
	mkdir -p "${marker%/*}"
	echo vagrant >"$marker"
	say "ready: vagrant ssh, then cd ${folder##*/} and make lab-0 check"
fi
