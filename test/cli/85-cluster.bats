#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# alone
# shellcheck disable=SC2034,SC2154 # FLEET_CONF and FLEET_DISK are those of fleet.bash
# Several nodes, and what happens to hosts, disks and wires.  After each: what a receipt called safe is on a majority,
# all members have the same refs, and git finds nothing wrong.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet

setup() {
	lib_setup
}

teardown() {
	fleet_teardown
}

# ---- the work of a user ----

# make PROJECT NODE [SETTING]...: with a few files, safe everywhere
make() {
	local project=$1 name=$2 i
	if [ ! -e seed ]; then
		mkdir -p seed/d
		for i in 1 2 3 4 5 6 7 8; do
			seq "$i" "$((i * 500))" >"seed/d/f$i"
		done
		chmod -R a+rX seed
	fi
	at "$name" do_op POST /v1/projects "$(jq -n --arg n "$project" --arg d "$PWD/seed" --args \
		'{name: $n, from: $d, settings: $ARGS.positional}' "${@:3}")" >answer
	jq -e '.state == "done"' answer >/dev/null || {
		cat answer
		return 1
	}
}

# edit NODE PROJECT FILE: FILE becomes what comes in
edit() {
	local tree
	tree=$(tree_on "$1" "$2")
	cat >"$tree/$3"
	[ "$(id -u)" != 0 ] || chown --reference="$tree" "$tree/$3"
}

# op NODE METHOD PATH [JSON]: it ends well; ./answer has it
op() {
	at "$1" do_op "${@:2}" >answer
	jq -e '.state == "done"' answer >/dev/null || {
		echo "${*:1:3}: $(cat answer)"
		return 1
	}
}

# save NODE PROJECT: what it calls safe has to be found again for ever after
save() {
	op "$1" POST "/v1/projects/$2/save" '{}' || return 1
	jq -r 'select(.receipt.safe == true) | .receipt.commit' answer >>"acked.$2"
}

# What the last answer says of a copy.
replica() {
	jq -c --arg n "$1" '.receipt.replicas[] | select(.name == $n)' answer
}

safe_in() {
	[ "$(jq -r '"\(.receipt.safe) \(.receipt.safe_in)"' answer)" = "$1" ] || {
		echo "instead of $1: $(jq -c .receipt answer)"
		return 1
	}
}

behind() {
	replica "$1" | jq -e '.ok == false' >/dev/null || {
		echo "copy $1 is not behind: $(jq -c .receipt answer)"
		return 1
	}
}

has_event() {
	at "$1" api GET '/v1/events?limit=1000' | jq -e --arg w "$2" 'any(.events[]; .what == $w)' >/dev/null
}

state_is() {
	[ "$(at "$1" state_of "$2")" = "$3" ]
}

# ---- what must hold ----

same_refs() {
	local project=$1 name
	shift
	for name; do
		refs_on "$name" "$project" >"refs.$name" 2>/dev/null && [ -s "refs.$name" ] &&
			cmp -s "refs.$name" "refs.$1" || return 1
	done
}

# converge PROJECT [NODE]...
converge() {
	local project=$1 name
	shift
	[ $# -gt 0 ] || set -- "${FLEET[@]}"
	within 45 same_refs "$project" "$@" || {
		for name; do
			echo "$name:"
			refs_on "$name" "$project" || true
			grep -v level=info "$name.log" | tail -n 5
		done
		return 1
	}
}

sound() {
	local project=$1 name pids=() bad=0 pid
	shift
	for name; do
		git_on "$name" "$project" fsck --full --strict --no-dangling >"fsck.$name" 2>&1 &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || bad=1
	done
	((bad == 0)) || head -n 20 fsck.*
	return $bad
}

nothing_lost() {
	local project=$1 name
	for name in "${FLEET[@]}"; do
		git_on "$name" "$project" rev-list --all 2>/dev/null || true
	done | sort | uniq -c | awk -v n=${#FLEET[@]} '2 * $1 > n { print $2 }' >majority
	sort -u "acked.$project" | comm -23 - majority >lost
	[ -s "acked.$project" ] && [ ! -s lost ] || {
		echo "called safe, and lost: $(cat lost)"
		return 1
	}
}

all_well() {
	converge "$@"
	nothing_lost "$1"
	local project=$1
	shift
	[ $# -gt 0 ] || set -- "${FLEET[@]}"
	sound "$project" "$@"
}

# What is in a file of a project's newest snapshot, as a node's repository has it.
saved_on() {
	git_on "$1" "$2" cat-file blob "main:$3"
}

# ---- the tests ----

@test "a save is safe on three nodes in three data centres, and they hold the same" {
	make_fleet 3
	make ann a 'description=first'
	echo one | edit a ann f
	save a ann
	safe_in "true 3"
	jq -e '.receipt | .members == 3 and .dcs == 3 and (.replicas | map(.ok) == [true, true])' answer
	on a save ann --tag v1 -q
	all_well ann
	[ "$(saved_on c ann f)" = one ]
	[ -n "$(git_on b ann for-each-ref refs/tags)" ]
	# Settings go along; a copy is no place to work at.
	on a settings ann description=second -q
	echo two | edit a ann f
	save a ann
	settings_came() { at "$1" api GET /v1/projects/ann/settings | jq -e '.settings.description.value == "second"' >/dev/null; }
	within 20 settings_came b
	within 20 settings_came c
	at b do_op POST /v1/projects/ann/save '{}' >answer
	jq -e '.error.code == "denied" and (.error.message | contains("node a"))' answer
	# Nothing changed: nothing is sent, and it is safe all the same.
	save a ann
	safe_in "true 3"
	stop_node b
	stop_node c
	stop_node a
}

@test "the receiving side is killed at each step" {
	make_fleet 3
	stop_node b
	start_node b WARREN_CRASH=receive.made
	make ann a
	kill_node b
	# Points of a worker's own are met in fleet/sync's tests, and below by kills in mid-transfer.
	for point in receive.locked receive.moved auth.store auth.stored receive.stored; do
		start_node b
		op a POST /v1/projects/ann/replicate '{}'
		same_refs ann a b || { echo "before $point"; false; }
		stop_node b
		start_node b WARREN_CRASH=$point
		echo "$point" | edit a ann f
		save a ann
		jq -e '.receipt.safe' answer
		behind b || { echo "at $point"; false; }
		kill_node b
	done
	start_node b
	all_well ann
}

@test "the sending side is killed at each step" {
	make_fleet 3
	make ann a
	echo begin | edit a ann f
	save a ann
	n=0
	for point in life.save.begun life.save.moved life.save.saved auth.store auth.stored life.save.noted \
		result.stored life.save.result control.op-queued control.op-spawned control.op-running control.op-ended; do
		n=$((n + 1))
		stop_node a
		start_node a "WARREN_CRASH=$point"
		echo "edit $n" | edit a ann f
		at a do_op POST /v1/projects/ann/save '{}' >answer 2>/dev/null || true
		jq -r 'select(.receipt.safe? == true) | .receipt.commit' answer >>acked.ann
		kill_node a
		start_node a
		echo "again $n" | edit a ann f
		save a ann
		safe_in "true 3" || { echo "after $point"; false; }
		same_refs ann "${FLEET[@]}"
	done
	all_well ann
}

# A transfer that takes a while is under way to all.
begin_long() {
	local megabytes=$1
	head -c "${megabytes}M" /dev/urandom | edit a ann big
	LONG=$(at a api POST /v1/projects/ann/save '{}' | jq -r .id)
	within 20 sending
}

sending() {
	at a api GET /v1/projects/ann/state |
		jq -e '[.progress.targets[]?.done] | length > 0 and min > 1000000' >/dev/null
}

# Ends every process of a node that has one of our parts' names.
kill_part() {
	need_hosts
	node "$1" sh -c 'for p in $(pgrep -f "^[^ ]*warren @'"$2"'"); do kill -KILL $p; done'
}

@test "both ends are killed, restarted and powered off in mid-transfer" {
	need_hosts
	FLEET_CONF=$'[replica]\nrate = 3M\ntimeout = 4s'
	make_fleet 3
	make ann a
	echo begin | edit a ann f
	save a ann
	# Workers on either side.
	begin_long 6
	kill_part a worker
	kill_part b worker
	at a op_wait "$LONG" >answer
	jq -e '.state == "done" and .receipt.safe == false' answer
	all_well ann
	# The daemons: what is under way goes on.
	begin_long 6
	kill_node a
	kill_node b
	start_node b
	start_node a
	at a op_wait "$LONG" >answer
	jq -r 'select(.receipt.safe? == true) | .receipt.commit' answer >>acked.ann
	all_well ann
	# Hosts.
	begin_long 6
	power_off b
	power_off a
	start_node a
	start_node b
	echo after | edit a ann f
	save a ann
	all_well ann
	[ "$(saved_on b ann f)" = after ]
}

@test "a wire is cut, silently: nobody hangs, a majority is enough, and the rest follows by itself" {
	need_hosts
	FLEET_CONF=$'[replica]\nrate = 3M\ntimeout = 3s\nretry_max = 5s'
	make_fleet 3
	make ann a
	sever a b
	echo one | edit a ann f
	begin=$SECONDS
	save a ann
	((SECONDS - begin < 20))
	safe_in "true 2"
	behind b
	# From the rest of the world: saved here, and not called more than that.
	sever a
	echo two | edit a ann f
	save a ann
	safe_in "false 1"
	same_refs ann a b && false
	heal
	all_well ann
	[ "$(saved_on b ann f)" = two ]
	# In mid-transfer: half-open connections at either end.
	begin_long 9
	sever a b
	begin=$SECONDS
	at a op_wait "$LONG" >answer
	((SECONDS - begin < 20))
	jq -r 'select(.receipt.safe == true) | .receipt.commit' answer >>acked.ann
	safe_in "true 2"
	behind b
	quiet() { ! node b pgrep -f '^[^ ]*warren @receive' >/dev/null; }
	within 15 quiet
	heal
	all_well ann
}

@test "a slow wire: it takes its time, and is not given up" {
	need_hosts
	need tc
	FLEET_CONF=$'[replica]\ntimeout = 3s'
	make_fleet 3
	make ann a
	slow b 4mbit
	head -c 4M /dev/urandom | edit a ann big
	begin=$SECONDS
	save a ann
	safe_in "true 3"
	((SECONDS - begin >= 5))
	all_well ann
}

@test "a full disk at a target: it says so, the others do not mind, and it catches up once there is room" {
	need_hosts
	FLEET_CONF=$'[replica]\nrate = 0\nretry_max = 5s'
	FLEET_DISK[c]=48M
	make_fleet 3
	make ann a
	head -c 70M /dev/urandom | edit a ann big
	save a ann
	safe_in "true 2"
	behind c
	replica c | jq -e '.error.code == "no_space"'
	# What it has is whole, and small things still come.
	[ -n "$(refs_on c ann)" ]
	sound ann c
	make bob a
	echo x | edit a bob f
	save a bob
	safe_in "true 3"
	power_off c
	umount c.v
	truncate -s 400M c.disk
	e2fsck -fp c.disk >/dev/null || true
	resize2fs c.disk >/dev/null 2>&1
	mount -o loop c.disk c.v
	start_node c
	all_well ann
	all_well bob
}

@test "a disk that is not mounted, and one that was emptied, are never written to" {
	need_hosts
	FLEET_CONF=$'[replica]\nretry_max = 5s'
	make_fleet 3
	make ann a
	echo one | edit a ann f
	save a ann
	stop_node c
	mv c.v c.v.away
	mkdir c.v
	start_node c || true
	echo two | edit a ann f
	save a ann
	safe_in "true 2"
	behind c
	make bob a
	echo one | edit a bob f
	save a bob
	jq -e .receipt.safe answer
	[ -z "$(ls -A c.v)" ]
	power_off c
	rmdir c.v
	mv c.v.away c.v
	start_node c
	all_well ann
	all_well bob
	# Everything of it is gone but its state.
	stop_node c
	wipe c
	start_node c || true
	echo three | edit a ann f
	save a ann
	safe_in "true 2"
	behind c
	[ -z "$(ls -A c.v)" ]
	all_well ann a b
}

@test "a node from an old image counts for nothing, and says so" {
	need_hosts
	make_fleet 3
	make ann a
	stop_node c
	old_image c save
	start_node c
	echo one | edit a ann f
	save a ann
	safe_in "true 3"
	stop_node c
	power_off c
	old_image c restore
	start_node c
	told() { has_event a node.behind || has_event c node.behind; }
	within 60 told
	echo two | edit a ann f
	save a ann
	safe_in "true 2"
	behind c
	all_well ann a b
}

@test "a wrong clock: minutes do no harm, years are named as what is wrong" {
	need_hosts
	lib=$(find /usr/lib -name 'libfaketime.so.1' 2>/dev/null | head -n 1)
	[ -n "$lib" ] || skip "needs libfaketime"
	[ -z "${WARREN_SANITIZED-}" ] || skip "preloads"
	make_fleet 3
	make ann a
	for by in +600 -600; do
		stop_node b
		start_node b LD_PRELOAD="$lib" FAKETIME="$by" FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1
		echo "$by" | edit a ann f
		save a ann
		safe_in "true 3"
	done
	stop_node b
	start_node b LD_PRELOAD="$lib" FAKETIME=-3000d FAKETIME_DONT_FAKE_MONOTONIC=1 || true
	echo years | edit a ann f
	save a ann
	safe_in "true 2"
	behind b
	power_off b
	start_node b
	all_well ann
}

# One byte in the middle of the largest pack of a project is another.
damage() {
	local pack size
	pack=$(find "$(repo_on "$1" "$2")/objects/pack" -name '*.pack' -printf '%s %p\n' | sort -n | tail -n 1)
	size=${pack%% *}
	pack=${pack#* }
	cp -a "$pack" "$pack.good"
	chmod u+w "$pack"
	printf 'X' | dd of="$pack" bs=1 seek=$((size / 2)) conv=notrunc status=none
	cmp -s "$pack" "$pack.good" && printf 'Y' | dd of="$pack" bs=1 seek=$((size / 2)) conv=notrunc status=none
	DAMAGED=$pack
}

repair() {
	mv "$DAMAGED.good" "$DAMAGED"
}

@test "a damaged pack does not travel, from the writer or from a copy" {
	need_hosts
	FLEET_CONF=$'[replica]\nretry_max = 5s'
	make_fleet 3
	power_off c
	make ann a
	head -c 3M /dev/urandom | edit a ann big
	save a ann
	safe_in "true 2"
	stop_node a
	damage a ann
	start_node a
	start_node c
	at a do_op POST /v1/projects/ann/replicate '{}' >answer
	jq -e '[.receipt.replicas[]? | select(.name == "c")] | all(.ok == false)' answer
	# What came is not what the refs there name.
	refs_on c ann | grep . && sound ann c
	sound ann b
	repair
	all_well ann
	# At a copy: it does not hold up the others, and the damage stays where it is.
	damage b ann
	echo later | edit a ann f
	save a ann
	jq -e .receipt.safe answer
	sound ann a c
	repair
	echo last | edit a ann f
	save a ann
	all_well ann
}

@test "the primary dies, its project runs elsewhere, and it comes back with unsaved work" {
	need_hosts
	FLEET_CONF=$'[replica]\nretry_max = 5s'
	make_fleet 3
	# Not on a, the hub: a raise needs one.
	make ann b 'command=exec sleep 10000'
	make bob b
	op b POST /v1/projects/ann/start '{}'
	op b POST /v1/projects/bob/start '{}'
	echo saved | edit b ann f
	save b ann
	safe_in "true 3"
	echo saved | edit b bob f
	save b bob
	# Ann has edits that no save knows of, bob a save that nobody else has.
	sever b
	echo alone | edit b bob f
	save b bob
	safe_in "false 1"
	alone=$(jq -r .receipt.commit answer)
	echo unsaved | edit b ann f
	echo new | edit b ann g
	power_off b
	heal
	# No majority knows yet that it is silent: the members hold still for 36 s.
	at c do_op POST /v1/projects/bob/start '{"wait":"60s"}' >bob.answer &
	other=$!
	start_ann() { op c POST /v1/projects/ann/start '{"wait":"50s"}' >/dev/null; }
	within 90 start_ann
	wait "$other"
	start_bob() { state_is c bob running || op c POST /v1/projects/bob/start '{"wait":"50s"}' >/dev/null; }
	within 60 start_bob
	[ "$(cat "$(tree_on c ann)/f")" = saved ]
	[ "$(cat "$(tree_on c bob)/f")" = saved ]
	[ ! -e "$(tree_on c ann)/g" ]
	echo elsewhere | edit c ann f
	save c ann
	safe_in "true 2"
	echo elsewhere | edit c bob f
	save c bob
	safe_in "true 2"

	start_node b
	# It does not run there any more, and what was not saved is in a branch.
	not_there() { [ "$(at b state_of ann)" != running ]; }
	within 60 not_there
	side_of() { git_on "$1" "$2" for-each-ref --format='%(refname)' | grep -E 'conflict|salvage'; }
	within 60 side_of b ann
	within 60 side_of b bob
	[ "$(git_on b ann cat-file blob "$(side_of b ann | head -n 1):f")" = unsaved ]
	[ "$(git_on b ann cat-file blob "$(side_of b ann | head -n 1):g")" = new ]
	git_on b bob merge-base --is-ancestor "$alone" "$(side_of b bob | head -n 1)"
	# The running one is not touched by any of it.
	[ "$(cat "$(tree_on c ann)/f")" = elsewhere ]
	state_is c ann running
	# The side branches come to everybody with the next save.
	more() {
		date +%N | edit c ann h && save c ann && date +%N | edit c bob h && save c bob &&
			side_of a ann && side_of a bob
	}
	within 40 more
	all_well ann
	all_well bob
	op c POST /v1/projects/ann/stop '{"force":true}'
	op c POST /v1/projects/bob/stop '{"force":true}'
}

@test "moved while it runs: nothing waits, nothing is lost, and it can go back" {
	make_fleet 3
	make ann a 'command=exec sleep 10000'
	op a POST /v1/projects/ann/start '{}'
	echo here | edit a ann f
	begin=$SECONDS
	at a do_op POST /v1/projects/ann/move '{"to":"c","wait":"50s"}' >answer
	within 30 state_is c ann running
	((SECONDS - begin < 25))
	state_is a ann running && false
	[ "$(cat "$(tree_on c ann)/f")" = here ]
	echo there | edit c ann f
	save c ann
	safe_in "true 3"
	at c do_op POST /v1/projects/ann/move '{"to":"a","wait":"50s"}' >answer
	within 30 state_is a ann running
	[ "$(cat "$(tree_on a ann)/f")" = there ]
	all_well ann
	op a POST /v1/projects/ann/stop '{"force":true}'
}

@test "parts are killed at random while a project is saved again and again" {
	need_hosts
	FLEET_CONF=$'[replica]\nretry_max = 5s\ntimeout = 3s'
	make_fleet 3
	make ann a
	RANDOM=${CLUSTER_SEED-$$}
	echo "CLUSTER_SEED=$RANDOM"
	end=$((SECONDS + 12))
	n=0
	while ((SECONDS < end)); do
		n=$((n + 1))
		echo "edit $n" | edit a ann "f$((n % 5))"
		at a api POST /v1/projects/ann/save '{}' >began 2>/dev/null || true
		case $((RANDOM % 6)) in
		0) kill_part a op ;;
		1) kill_part b receive ;;
		2) kill_part c worker ;;
		3) kill_node b && start_node b ;;
		4) kill_part a peer ;;
		5) kill_part c peer ;;
		esac
		at a op_wait "$(jq -r .id began)" >answer || true
		jq -r 'select(.receipt.safe? == true) | .receipt.commit' answer >>acked.ann || true
	done
	echo "$n saves, $(wc -l <acked.ann) called safe"
	echo last | edit a ann f
	save a ann
	all_well ann
}
