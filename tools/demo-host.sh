#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One host at work, with real folders of this machine: two projects are made, one runs a program, a file is broken and
# brought back, the daemon is killed in the middle of a save; nothing is lost and nobody's program ends.
#   demo-host.sh WARREN
set -eu

warren=$1
# shellcheck source-path=SCRIPTDIR source=demo-lib.sh
. "$(dirname "$0")/demo-lib.sh"
demo_begin host
leave() { stop_all alice bob; }

if [ "$(id -u)" = 0 ]; then
	user=(--user nobody)
	echo "as root: homes are bind mounts, each project has its own uid, workers are confined"
else
	user=()
	echo "rootless: one user for everything, homes are symlinks; as root there are more walls (warren doctor)"
fi

say "A node: its state, one volume, the daemon"
node_begin "${user[@]}" --allow-root-fs "$dir/volume"
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
before=$(counted "$home/count")
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
after=$(counted "$home/count")
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
end_daemon
demo_end
