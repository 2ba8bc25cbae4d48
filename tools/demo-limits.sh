#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A user fills his quota and gets out of it by himself; his neighbour and the volume notice nothing.  Needs root, for a
# btrfs of its own in a file.
#   demo-limits.sh WARREN
set -eu

warren=$1
# shellcheck source-path=SCRIPTDIR source=demo-lib.sh
. "$(dirname "$0")/demo-lib.sh"
if [ "$(id -u)" != 0 ]; then
	echo "demo of limits: left out, for only root can have a file system with quotas"
	exit 0
fi
if ! grep -qw btrfs /proc/filesystems && ! modprobe btrfs 2>/dev/null; then
	echo "demo of limits: left out, for this kernel has no btrfs"
	exit 0
fi
demo_begin limits
leave() {
	stop_all carol dave
	! mountpoint -q "$dir/volume" || umount "$dir/volume"
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
node_begin --user nobody "$dir/volume"
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
end_daemon
demo_end
