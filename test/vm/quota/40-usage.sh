# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What `usage` says where ext4 and XFS count, and the notices at 80, 95 and 100 %, as the user's prompt shows them.
# btrfs: test/cli/79-usage.bats.
. /vm/lib.bash
M=$((1024 * 1024))

as_user() {
	(cd "$home" && setpriv --reuid "$uid" --regid "$uid" --clear-groups env HOME="$home" "$@")
}
# write FILE MIB
write() {
	as_user dd if=/dev/zero of="$1" bs=1M count="$2" conv=fsync status=none
}

# Directories and blocks that name others are all that du does not see.
agrees_with_du() {
	local u du
	u=$("$warren" usage olga --json | jq -er 'select(.live.by == "quota") | .live.bytes') || return
	du=$(du -s --block-size=1 "$home" | cut -f1)
	echo "quota $u, du $du"
	((u >= du - 64 * 1024 && u < du + M / 2))
}
notice() {
	"$warren" state olga --json | jq -r '.notices | map("\(.code) \(.level)") | join(" ")'
}
prompt() {
	# shellcheck disable=SC2016 # for that shell
	as_user env WARREN_NOTICES="$WARREN_ROOT/run/notice" bash -c 'PS1=x; . /vm/bin/warren.sh; eval "$PROMPT_COMMAND"' 2>&1
}
# level MARK: after a save, which looks at once
marked() {
	"$warren" save olga -q && is "$1" notice
}
shows() {
	[[ $(prompt) == *"$1"* ]]
}
counts_when_stopped() {
	"$warren" quota auto --min 1M --dry-run --json |
		jq -e '.projects[0] | .by == "quota" and .used >= 20 * 1048576 and .wanted >= 2 * .used'
}

warren=/vm/bin/warren
for fs in ext4 xfs; do
	export WARREN_ROOT=/run/n-$fs WARREN_NODE_UID_RANGE=1900000000-1900000999
	dir=/vol/$fs/usage
	t "$fs: a node" "$warren" init --dc vm --name vm --user 64950 --allow-root-fs --reserve 4M "$dir" ||
		continue
	"$warren" serve >/run/log-$fs 2>&1 &
	daemon=$!
	t "$fs: its daemon" within 30 "$warren" list -q
	t "$fs: a project" "$warren" create --name olga -q
	"$warren" settings olga disk=40M repo_quota_factor=0 -q
	t "$fs: its start" "$warren" start olga -q
	home=$("$warren" show olga --json | jq -r .home)
	uid=$(stat -c %u "$home")
	t "$fs: half of it" write a 20
	t "$fs: numbers agree with du" agrees_with_du
	t "$fs: no notice" marked ""
	for step in "b 13 80" "c 6 95" "d 2 100"; do
		read -r file size level <<<"$step"
		t "$fs: more" write "$file" "$size"
		t "$fs: notice at $level %" marked "disk $level"
	done
	t "$fs: numbers agree with du when it is full" agrees_with_du
	t "$fs: the prompt shows it" shows "warren: olga: the disk quota of 40.0 MiB is used up"
	as_user rm b c d
	t "$fs: what is removed does not count" agrees_with_du
	t "$fs: the notice goes" marked ""
	t "$fs: the prompt is quiet" is "" prompt
	t "$fs: a stop" "$warren" stop olga -q
	t "$fs: it counts while nothing runs" counts_when_stopped
	kill "$daemon"
	wait "$daemon" || t "$fs: the daemon ends well" false
done
