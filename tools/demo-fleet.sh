#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Three data centres on this machine, with real folders as projects: a save is safe in all three, one of them dies with
# work that was not saved, the project runs on elsewhere from what the others have, and the unsaved work is not lost
# when the dead one returns.
#   demo-fleet.sh WARREN
set -eu

warren=$1
# shellcheck source-path=SCRIPTDIR source=demo-lib.sh
. "$(dirname "$0")/demo-lib.sh"
demo_begin fleet
declare -A holder=() at=([oslo]=127.0.0.1 [paris]=127.0.0.2 [rome]=127.0.0.3)
nodes=(oslo paris rome)
port=$((20000 + $$ % 20000))

# ---- hosts ----

# As root each host has processes and mounts of its own, as three machines would; all of it ends with its first process.
host=()
if [ "$(id -u)" = 0 ] && unshare --mount --pid --fork true 2>/dev/null; then
	host=(unshare --mount --pid --fork --kill-child --mount-proc)
	echo "as root: three hosts with processes and mounts of their own, on one loopback"
else
	echo "rootless: three daemons on one loopback"
fi

# The one process below another, once it is there.
child() {
	local pid
	for _ in $(seq 100); do
		read -r pid _ <"/proc/$1/task/$1/children" || [ -n "${pid-}" ] && echo "$pid" && return
		sleep 0.02
	done
	return 1
}

power_on() {
	local name=$1
	# The shell is the host's first process, and looks after orphans.
	WARREN_ROOT=$dir/$name "${host[@]}" bash -c '"$@" & wait $!' - "$warren" serve >>"$dir/$name.log" 2>&1 &
	holder[$name]=$!
	for _ in $(seq 200); do
		WARREN_ROOT=$dir/$name "$warren" list -q >/dev/null 2>&1 && return
		kill -0 "${holder[$name]}" 2>/dev/null || fail "the daemon of $name ended"
		sleep 0.1
	done
	fail "the daemon of $name does not answer"
}

# Who knows of the node, or works in its files, is of it; where it has no processes of its own.
of_node() {
	grep -lzxF "WARREN_ROOT=$dir/$1" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n'
	find /proc/[0-9]*/cwd -maxdepth 0 -lname "$dir/$1[./]*" 2>/dev/null | tr -dc '0-9\n'
}

# Everything at once, unasked.
power_off() {
	local name=$1 pid again=1
	[ -n "${holder[$name]-}" ] || return 0
	if [ ${#host[@]} -gt 0 ]; then
		kill -KILL "$(child "${holder[$name]}")"
	else
		while [ -n "$again" ]; do
			again=
			for pid in $(of_node "$name"); do
				if [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] && kill -KILL "$pid" 2>/dev/null; then
					again=1
				fi
			done
		done
	fi
	{ wait "${holder[$name]}"; } 2>/dev/null || true
	unset "holder[$name]"
	rm -rf "${dir:?}/$name/run"
}

leave() {
	local name
	for name in "${nodes[@]}"; do
		power_off "$name"
	done
}

# ---- what is typed there ----

on() {
	local who=$1
	shift
	WARREN_ROOT=$dir/$who run "$@" </dev/null
}
ask() {
	local name=$1
	shift
	WARREN_ROOT=$dir/$name "$warren" "$@" --json </dev/null
}
# Tries again for a while, and says nothing.
until_true() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		((SECONDS <= end)) || fail "in vain: $what"
		sleep 0.1
	done
}
tree() { echo "$dir/$1.volume/projects/$id"; }
refs() { git -c safe.directory='*' --git-dir="$dir/$1.volume/repos/$id" for-each-ref --format='%(refname)' "${@:2}"; }
count() { counted "$(tree "$1")/count"; }

configure() {
	local name=$1
	mkdir "$dir/$name"
	chmod a+rx "$dir/$name"
	# Control groups are named by project: one hierarchy is not for three nodes.  Processes are ended by uid too: no
	# other node's may be met.
	cat >"$dir/$name/warren.conf" <<-END
		[node]
		uid_range = $((1000000000 + $$ * 10))-$((1000000009 + $$ * 10))
		[listen]
		api = ${at[$name]}:$port
		peer = ${at[$name]}:$((port + 1))
		[replica]
		retry_max = 5s
		[runner]
		cgroup = none
	END
}

options=(--reserve 16M)
[ "$(id -u)" != 0 ] || options+=(--user nobody)

say "Oslo: the first node founds the fleet, and is its hub"
for name in "${nodes[@]}"; do
	configure "$name"
done
on oslo init --dc oslo --name oslo "${options[@]}" --allow-root-fs "$dir/oslo.volume"
power_on oslo

say "Paris and Rome join, each with a token that is good once"
for name in paris rome; do
	token=$(ask oslo node add --name "$name" --dc "$name" | jq -r .token)
	printf 'oslo$ warren node add --name %s --dc %s\n' "$name" "$name"
	on "$name" join "https://127.0.0.1:$port" "$token" "${options[@]}" --allow-root-fs \
		--volume "$dir/$name.volume" | sed "s|$token|TOKEN|"
	power_on "$name"
done
known() { [ "$(ask "$1" node list | jq '.nodes | length')" = 3 ]; }
for name in "${nodes[@]}"; do
	until_true 20 "$name knows all nodes" known "$name"
done
on rome node list

say "A project of real folders, made in Paris; its program counts"
mkdir "$dir/alice"
for d in /usr/share/perl5 /usr/share/zoneinfo /usr/share/common-licenses; do
	[ ! -d "$d" ] || cp -a "$d" "$dir/alice/"
done
on paris create --name alice --from "$dir/alice"
id=$(ask paris show alice | jq -r .id)
on paris settings alice 'command=i=$(cat count 2>/dev/null || echo 0); while sleep 0.1; do i=$((i+1)); echo $i >count; done'
on paris start alice
until_true 10 "the program counts" test -s "$(tree paris)/count"

say "Saved in Paris, safe in three data centres before it is called so"
echo "the good result" >"$(tree paris)/result"
on paris save alice
[ "$(ask paris save alice | jq -r .safe)" = true ] || fail "it is not safe"
saved=$(git -c safe.directory='*' --git-dir="$dir/rome.volume/repos/$id" cat-file blob main:count)
on paris status alice

say "Work goes on, unsaved. Then Paris loses its power"
echo "an idea that nobody saved" >"$(tree paris)/idea"
sleep 0.5
power_off paris
echo "(kill -9 of all that runs there)"

say "Alice starts in Rome"
echo "Rome asks the hub for a new epoch, and Oslo and Rome are the majority that it takes. But Paris may be alive behind a"
echo "cut wire: both hold still until they heard nothing of it for 36 s, for then its lease has run out for sure."
begin=$SECONDS
begun() { ask rome start alice; }
until_true 80 "start in Rome" begun
printf 'rome$ warren start alice\n'
echo "it runs in Rome, $((SECONDS - begin)) s later"
on rome state alice
[ "$(cat "$(tree rome)/result")" = "the good result" ] || fail "what was saved is not there"
counts() { [ "$(count rome)" -gt "$saved" ]; }
until_true 10 "the program counts in Rome" counts
echo "its files are those of the newest save: 'result' is there, the count went on from $saved"
echo "another good result" >>"$(tree rome)/result"
on rome save alice

say "The recovery point of each project: what would be lost if its writer went away now"
on rome list

say "Paris returns"
power_on paris
not_running() { [ "$(ask paris state alice | jq -r .state)" != running ]; }
until_true 60 "it does not run in Paris" not_running
side() { refs paris | grep conflict-; }
until_true 60 "the unsaved work is in a branch" side
branch=$(side | head -n 1)
echo "what was never saved is in ${branch#refs/heads/}:"
git -c safe.directory='*' --git-dir="$dir/paris.volume/repos/$id" cat-file blob "$branch:idea"
echo "the files in Rome were not touched:"
cat "$(tree rome)/result"
on paris list

say "Moved back to Paris while it runs: nobody has to wait for a lease that is given up"
begin=$SECONDS
on rome move alice --to paris
running() { [ "$(ask paris state alice | jq -r .state)" = running ]; }
until_true 40 "it runs in Paris" running
echo "$((SECONDS - begin)) s"
on paris state alice
on paris save alice

say "All of it is whole, everywhere, and the same"
on paris stop alice --force
same() {
	refs paris refs/heads refs/tags >"$dir/refs.paris"
	for name in oslo rome; do
		refs "$name" refs/heads refs/tags | cmp -s - "$dir/refs.paris" || return 1
	done
}
until_true 40 "all have the same refs" same
for name in "${nodes[@]}"; do
	git -c safe.directory='*' --git-dir="$dir/$name.volume/repos/$id" fsck --full --strict --no-dangling \
		>"$dir/fsck" 2>&1 || { cat "$dir/fsck"; fail "git fsck in $name"; }
	echo "$name: git fsck --full --strict: ok"
done
demo_end
