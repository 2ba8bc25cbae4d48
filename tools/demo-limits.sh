#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A user fills his quota and gets out of it by himself; his neighbour and the volume notice nothing.  Needs root, for a
# btrfs of its own in a file.
#   demo-limits.sh WARREN
set -eu

warren=$1
if [ "$(id -u)" != 0 ]; then
	echo "demo of limits: left out, for only root can have a file system with quotas"
	exit 0
fi
if ! grep -qw btrfs /proc/filesystems && ! modprobe btrfs 2>/dev/null; then
	echo "demo of limits: left out, for this kernel has no btrfs"
	exit 0
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/warren-limits-XXXXXX")
chmod 755 "$dir"
export WARREN_ROOT=$dir/node TZ=UTC
unset WARREN_SOCKET WARREN_URL WARREN_TOKEN WARREN_PROJECT WARREN_REPO
daemon=

cleanup() {
	trap - EXIT
	for p in carol dave; do
		"$warren" stop "$p" --force --no-save -q >/dev/null 2>&1 || true
	done
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
	[ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
	! mountpoint -q "$dir/volume" || umount "$dir/volume"
	rm -rf --one-file-system "$dir"
}
trap cleanup EXIT

bold='' plain=''
if [ -t 1 ]; then
	bold=$'\033[1m' plain=$'\033[0m'
fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
fail() {
	echo "demo: FAILED: $*" >&2
	tail -n 20 "$dir/serve.log" >&2 || true
	exit 1
}
run() {
	local rc=0
	printf '$ warren %s\n' "${*//$dir/DIR}"
	"$warren" "$@" 2>&1 | sed "s|$dir|DIR|g"
	rc=${PIPESTATUS[0]}
	[ "$rc" -eq 0 ] || [ "$rc" -eq 3 ] || fail "exit status $rc"
}
# as NAME COMMAND...: what the user of that project does, in the home
as() {
	local name=$1 uid home
	shift
	uid=$("$warren" show "$name" --json | jq -r .uid)
	home=$("$warren" show "$name" --json | jq -r .home)
	printf '%s$ %s\n' "$name" "$*"
	(cd "$home" && HOME=$home setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@")
}

say "A volume with quotas: btrfs in a file of 2 GB"
truncate -s 2G "$dir/disk"
mkfs.btrfs -q "$dir/disk" >/dev/null
mkdir "$dir/volume"
if ! mount -o loop "$dir/disk" "$dir/volume"; then
	echo "demo of limits: left out, for loop devices cannot be mounted here"
	exit 0
fi
run init --dc dc1 --user nobody "$dir/volume"
# Processes are ended by uid too: no other node's may be met.
printf '[node]\nuid_range = %d-%d\n' $((1100000000 + $$ * 10)) $((1100000009 + $$ * 10)) >>"$dir/node/warren.conf"
"$warren" serve >>"$dir/serve.log" 2>&1 &
daemon=$!
for _ in $(seq 100); do
	"$warren" list -q >/dev/null 2>&1 && break
	kill -0 "$daemon" 2>/dev/null || fail "the daemon ended"
	sleep 0.1
done
run create --name carol --from /usr/share/zoneinfo
run create --name dave --from /usr/share/common-licenses
run settings carol disk=200M
run start carol
run start dave

say "Carol downloads more than there is room for"
if as carol dd if=/dev/urandom of=download bs=1M count=600 status=none; then
	fail "600 MB went into a home of 200 MB"
fi
run save carol
run usage carol

say "Dave works on"
as dave dd if=/dev/urandom of=work bs=1M count=50 conv=fsync status=none
run save dave

say "Carol is not locked out: her project starts, and she makes room herself"
run restart carol
as carol rm download
btrfs filesystem sync "$dir/volume"
as carol dd if=/dev/urandom of=thesis bs=1M count=20 conv=fsync status=none
run save carol
run usage carol --now

say "Stopped, nothing is limited any more"
run stop carol
run stop dave
[ "$("$warren" show carol --json | jq -r '.limits.limit // 0')" = 0 ] || fail "a limit is left"
kill "$daemon"
wait "$daemon" || fail "the daemon ended with $?"
daemon=
printf '\n%sdemo: ok%s\n' "$bold" "$plain"
