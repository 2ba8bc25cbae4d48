#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One host at work, with real folders of this machine: two projects are made, one runs a program, a file is broken and
# brought back, the daemon is killed in the middle of a save; nothing is lost and nobody's program ends.
#   demo-host.sh WARREN
set -eu

warren=$1
dir=$(mktemp -d "${TMPDIR:-/tmp}/warren-host-XXXXXX")
export WARREN_ROOT=$dir/node TZ=UTC
unset WARREN_SOCKET WARREN_URL WARREN_TOKEN WARREN_PROJECT WARREN_REPO
daemon=

cleanup() {
	trap - EXIT
	for p in alice bob; do
		"$warren" stop "$p" --force --no-save -q >/dev/null 2>&1 || true
	done
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
	[ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
	chmod -R u+w "$dir" 2>/dev/null || true
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
serve() {
	"$warren" serve >>"$dir/serve.log" 2>&1 &
	daemon=$!
	for _ in $(seq 100); do
		"$warren" list -q >/dev/null 2>&1 && return
		kill -0 "$daemon" 2>/dev/null || fail "the daemon ended"
		sleep 0.1
	done
	fail "the daemon does not answer"
}
# The program truncates the file before it writes.
count() {
	local n=
	for _ in $(seq 100); do
		n=$(cat "$home/count")
		[ -z "$n" ] || break
	done
	echo "${n:-0}"
}

if [ "$(id -u)" = 0 ]; then
	user=(--user nobody)
	echo "as root: homes are bind mounts, each project has its own uid, workers are confined"
else
	user=()
	echo "rootless: one user for everything, homes are symlinks; as root there are more walls (warren doctor)"
fi

say "A node: its state, one volume, the daemon"
run init --dc dc1 "${user[@]}" --allow-root-fs "$dir/volume"
# Processes are ended by uid too: no other node's may be met.
printf '[node]\nuid_range = %d-%d\n' $((1000000000 + $$ * 10)) $((1000000009 + $$ * 10)) >>"$dir/node/warren.conf"
serve
run volume list

say "Two projects from real folders"
mkdir "$dir/alice"
for d in /usr/share/perl5 /usr/share/zoneinfo /usr/include; do
	[ ! -d "$d" ] || cp -a "$d" "$dir/alice/"
done
run create --name alice --from "$dir/alice" --label course=algebra
run create --name bob --from /usr/share/common-licenses
run list

say "One runs a program: it counts, for as long as nobody stops it"
run settings alice 'command=i=0; while sleep 0.1; do i=$((i+1)); echo $i >count; done'
run start alice
run start alice
run state alice
home=$("$warren" show alice --json | jq -r .home)
for _ in $(seq 100); do [ ! -s "$home/count" ] || break; sleep 0.05; done
[ -s "$home/count" ] || fail "the program does not count"
run status

say "A file is broken, looked at, and brought back; the safety snapshot has the broken one"
f=$(cd "$home" && find . -type f -size +2k ! -name count | LC_ALL=C sort | head -n 1)
f=${f#./}
cp -a "$home/$f" "$dir/good"
echo 'oh no' >"$home/$f"
run save alice
run history alice "$f"
first=$("$warren" snapshots alice --json | jq -r '.snapshots[-1].name')
run restore alice "$first:$f" --in-place
cmp "$dir/good" "$home/$f" || fail "the file did not come back"

say "kill -9 of the daemon in the middle of a save"
before=$(count)
head -c 400000000 /dev/urandom >"$home/big"
op=$("$warren" save alice --no-wait --json | jq -r .id)
for _ in $(seq 200); do
	[ "$("$warren" state alice --json | jq -r '.state == "saving" and (.progress.percent // 0) > 0')" != true ] || break
	sleep 0.01
done
run state alice
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
echo "the daemon is dead; the state is read from the disk, and the save goes on:"
run state alice
serve
run op wait "$op"
run op show "$op"
run state alice
after=$(count)
[ "$after" -gt "$before" ] || fail "the program stopped counting at $after"
echo "the program counted on: $before, then $after"
run diff --stat alice "$first"

say "Stopped, and all of it is whole"
run stop alice
run list
for repo in "$dir"/volume/repos/*/; do
	run repo verify --data -r "$repo"
	git --git-dir="$repo" -c safe.directory='*' fsck --full --strict --no-dangling >"$dir/fsck" 2>&1 ||
		{ cat "$dir/fsck"; fail "git fsck"; }
done
echo "git fsck --full --strict of both: ok"
run op list --project alice

say "The daemon ends on request"
kill "$daemon"
wait "$daemon" || fail "the daemon ended with $?"
daemon=
printf '\n%sdemo: ok%s\n' "$bold" "$plain"
