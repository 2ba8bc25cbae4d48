#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: what it kills is killed in 83, 84 and 88 too, and it mostly waits
# waits
# shellcheck disable=SC2034,SC2154 # FLEET_CONF and FLEET_DISK are those of fleet.bash
# Several nodes: kills of either end, disks, clocks.  After each: what a receipt called safe is on a majority, all
# members have the same refs, and git finds nothing wrong.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet
load cluster

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

@test "both ends are killed, restarted and powered off in mid-transfer" {
	need_hosts
	FLEET_CONF=$'[replica]\nrate = 2M\ntimeout = 4s\nretry_max = 5s'
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
	# The loop device goes when the last who looks at it does, a little later.
	detached() { [ -z "$(losetup -j c.disk)" ]; }
	until_true detached
	truncate -s 400M c.disk
	run e2fsck -fp c.disk
	((status <= 1))
	run -0 resize2fs c.disk
	mount -o loop c.disk c.v
	[ "$(df --output=size -m c.v | tail -n 1)" -gt 300 ]
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

# clock NODE SHIFT: of all that runs there, by files of its own in /etc; it must not run.
clock() {
	power_off "$1"
	power_on "$1"
	[ -d "etc.$1" ] || cp -a /etc "etc.$1"
	echo "$2" >"etc.$1/faketimerc"
	find /usr/lib -name libfaketime.so.1 >"etc.$1/ld.so.preload"
	node "$1" mount --bind "etc.$1" /etc
}

@test "a wrong clock: minutes do no harm, years are named as what is wrong" {
	need_hosts
	need_plain_build
	[ -n "$(find /usr/lib -name libfaketime.so.1 2>/dev/null)" ] || skip "needs libfaketime"
	make_fleet 3
	make ann c
	for by in +600 -600; do
		clock b "$by"
		start_node b
		echo "$by" | edit c ann f
		save c ann
		safe_in "true 3"
	done
	clock b -3000d
	start_node b
	echo years | edit c ann f
	save c ann
	safe_in "true 2"
	behind b
	replica b | jq -e '.error.message | contains("clock")'
	# The clock of who saves: its own certificate is not good yet, and the others are not to blame.
	power_off b
	start_node b
	clock c -3000d
	start_node c
	echo past | edit c ann f
	save c ann
	safe_in "false 1"
	replica b | jq -e '.error.message | contains("clock")'
	power_off c
	start_node c
	echo now | edit c ann f
	save c ann
	all_well ann
}

# As if a list had let it go then.
keep_since() {
	git_on b ann update-ref "refs/warren/keep/$(date -u -d "$1" +%Y%m%dT%H%M%SZ)-00000000" "$(git_on b ann rev-parse main)"
	[ "$(id -u)" != 0 ] || chown -R --reference="$(repo_on b ann)" "$(repo_on b ann)/refs"
}

kept() {
	git_on b ann for-each-ref --format='%(refname)' refs/warren/keep/ | cut -c 18-25 | paste -sd' '
}

doubts() {
	at "$1" api GET /v1/status |
		jq -e 'any(.projects[]; .level == "warning" and (.text | contains("jumped 40 days ahead")))' >/dev/null
}

@test "a clock that jumped ahead makes nothing old; what is old goes" {
	need_plain_build
	local lib bob
	lib=$(find /usr/lib -name libfaketime.so.1 2>/dev/null | head -n 1)
	[ -n "$lib" ] || skip "needs libfaketime"
	FLEET_CONF=$'[trash]\nkeep = 1d'
	make_fleet 2
	make ann a
	make bob a
	done_on a delete bob
	bob=$(fleet_id bob)
	within 20 test -d "b.v/repos/.trash/$bob"
	within 10 test -e b/state/clock.json
	# In one boot, by the clock of its daemon.
	stop_node b
	start_node b LD_PRELOAD="$lib" FAKETIME=+40d FAKETIME_DONT_FAKE_MONOTONIC=1
	within 10 has_event b clock.doubted
	doubts b
	run -4 on b purge "$bob"
	assert_output_has "kept in the trash until"
	# It is set right.
	stop_node b
	start_node b
	run ! doubts b
	# From one boot to the next, by that of all of its processes.
	stop_node b
	jq -c --arg t "$(date -u -d "40 days ago" +%FT%TZ)" '.boot = 1 | .time = $t' b/state/clock.json >clock
	cp clock b/state/clock.json
	start_node b
	within 10 doubts b
	keep_since "60 days ago"
	keep_since "71 days ago"
	echo 1 | edit a ann f
	save a ann
	safe_in "true 2"
	[ "$(kept)" = "$(date -u -d "60 days ago" +%Y%m%d)" ]
	# Where it always was that late, what is old goes.
	stop_node b
	rm b/state/clock.json
	start_node b
	echo 2 | edit a ann f
	save a ann
	[ -z "$(kept)" ]
	# And never is never.
	stop_node b
	printf '[replica]\nfloor = never\n' >>b/warren.conf
	start_node b
	keep_since "4000 days ago"
	echo 3 | edit a ann f
	save a ann
	[ "$(kept)" = "$(date -u -d "4000 days ago" +%Y%m%d)" ]
	# Set back, what is deleted now is not old when it is set right.
	stop_node a
	jq -c --arg t "$(date -u -d "40 days" +%FT%TZ)" '.boot = 1 | .time = $t | .ran_s = 86400' a/state/clock.json >clock
	cp clock a/state/clock.json
	start_node a
	within 10 has_event a clock.doubted
	done_on a delete ann
	at a api GET /v1/projects/"$(fleet_id ann)" >shown
	[[ $(jq -r .trash_until shown) > $(date -u -d "41 days" +%F) ]]
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
