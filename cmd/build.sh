#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Builds bin/lab and bin/guest where they are stale, and prints the path of lab.
# The Makefile runs it in the checkout's top folder.
set -eu

fail() {
	echo "$*" >&2
	exit 2
}

[ "$(uname -s)" = Linux ] ||
	fail "The labs run on Linux. On this machine they do in a VM: vagrant up, vagrant ssh, and there cd netlink-labs (docs/instructors.md)."

# Next to the sources; where these cannot be written, in the cache.
bin=bin
if ! { mkdir -p bin && [ -w bin ]; } 2>/dev/null; then
	bin=${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/netlink-labs/bin/$(pwd -P | cksum | tr -dc 0-9)
	mkdir -p "$bin"
fi

# The go command takes a third of a second to see that nothing is stale. ctime
# tells of every change, deleted and renamed files show in their folder's.
stamp=$bin/.stamp
if [ -x "$bin/lab" ] && [ -x "$bin/guest" ] && [ -e "$stamp" ] &&
	[ -z "$(find go.mod go.sum cmd internal -cnewer "$stamp" -print -quit 2>&1)" ]; then
	echo "$bin/lab"
	exit
fi

get='Get a new one from https://go.dev/dl (Debian 13 and Ubuntu 24.04 have one that serves: sudo apt-get install golang-go).'

# Told before anything is built: older ones only say that go.mod has errors.
version=$(GOTOOLCHAIN=local go version 2>&1) || fail "Go is not installed, or not in PATH. Go 1.21 or newer is needed. $get"
minor=${version#*go1.}
minor=${minor%%[!0-9]*}
if [ "${minor:-99}" -lt 21 ]; then
	fail "This Go is too old ($version, $(command -v go)). Go 1.21 or newer is needed. $get"
fi

# Two at a time would write the same files.
exec 9>"$bin/.lock"
flock 9 2>/dev/null || true # where there is no flock(1), there is no lock

[ -x "$bin/lab" ] || echo "building bin/lab; the first time takes a minute" >&2
touch "$stamp.new" # before the build: what changes meanwhile is stale

# Go 1.21 and later fetches the Go that go.mod names, unless it is told not to: by
# the environment it is, by other means it may be without anybody's knowing.
# What is set for other work does not reach in. -buildvcs: git refuses to look at
# another user's checkout.
GOTOOLCHAIN=${GOTOOLCHAIN:-auto} GOOS='' GOARCH='' GO111MODULE=on GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 \
	go build -buildvcs=false -ldflags='-s -w' -o "$bin/" ./cmd/lab ./cmd/guest 1>&2 9>&- ||
	fail "bin/lab could not be built, see above. The first time needs a network, for Go $(sed -n 's/^go //p' go.mod) and the libraries; $version"
mv "$stamp.new" "$stamp"
echo "$bin/lab"
