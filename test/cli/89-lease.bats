#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it mostly waits until leases end
# waits
# shellcheck disable=SC2034,SC2154 # FLEET_CONF is that of fleet.bash
# Who may not run does not: a writer that is cut off, one whose daemon is dead, and what each does when that is over.
# What has to wait for the end of a lease waits once, for all projects.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet
load cluster

# What it counts is in its memory alone: it begins anew when it is started anew. Whenever it is frozen the file is whole.
COUNT='command=n=0; while :; do n=$((n+1)); echo $n >.beat; mv .beat beat; sleep 0.1; done'

# runs NODE PROJECT [FROM]: it counts on, and never below FROM; BEAT is how far it came
runs() {
	local file before
	file=$(tree_on "$1" "$2")/beat
	before=$(cat "$file")
	sleep 0.5
	BEAT=$(cat "$file")
	[ -n "$before" ] && [ -n "$BEAT" ] && ((BEAT > before && BEAT > ${3-0}))
}

# stands NODE PROJECT
stands() {
	local file before
	file=$(tree_on "$1" "$2")/beat
	before=$(cat "$file")
	sleep 1
	BEAT=$(cat "$file")
	[ -n "$BEAT" ] && [ "$BEAT" = "$before" ]
}

# by_keeper NODE PROJECT: frozen while no daemon was there
by_keeper() {
	jq -e '.by == "keeper"' "$1/run/frozen/$(fleet_id "$2")" >/dev/null 2>&1
}

side() {
	side_branches "$1" "$2" | head -n 1
}

@test "cut off, or without a daemon: frozen in time, running on or stopped as it is set; then thawed, or salvaged" {
	need_hosts
	FLEET_CONF=$'[replica]\nretry_max = 5s\ntimeout = 3s'
	make_fleet 3
	make freeze b "$COUNT"
	make run b "$COUNT" isolation=run
	make stop b "$COUNT" isolation=stop
	make kept c "$COUNT"
	make taken c "$COUNT"
	make alone c "$COUNT" isolation=run
	make halt c "$COUNT" isolation=stop
	for p in freeze run stop; do
		done_on b start $p
	done
	for p in kept taken alone halt; do
		done_on c start $p
	done
	# A restart that is shorter than the lease.
	runs c kept
	runs c taken
	kill_node c
	start_node c
	is c kept .frozen null
	run ! has_event c project.frozen
	save c taken
	# One daemon is dead, one writer is cut off.
	kill_node c
	sever b
	killed=$SECONDS
	runs c kept
	kept=$BEAT
	runs c taken
	taken=$BEAT
	runs b freeze
	freeze=$BEAT
	runs b run
	run=$BEAT
	runs b stop
	within 33 by_keeper c kept
	within 3 by_keeper c taken
	# To stop it takes a daemon; it stands still until there is one.
	within 3 by_keeper c halt
	echo "frozen $((SECONDS - killed)) s after the daemon was killed"
	((SECONDS - killed >= 15))
	stands c kept
	[ "$BEAT" -gt "$kept" ]
	stands c taken
	[ "$BEAT" -gt "$taken" ]
	grep -q '\[warren: frozen: its lease ended' "c/state/log/$(fleet_id kept)"
	runs c alone
	within 15 has_event b project.frozen
	stands b freeze
	freeze=$BEAT
	within 20 state_is b stop stopped
	runs b run "$run"
	is b run .frozen null
	# Both are back, and nobody was in their place: they go on with what they had in memory.
	heal
	start_node c
	within 30 runs b freeze "$freeze"
	within 30 runs c kept "$kept"
	within 30 runs c taken "$taken"
	within 30 runs c halt
	has_event c project.thawed
	is c kept .frozen null
	is b freeze .frozen null
	[ ! -e "c/run/frozen/$(fleet_id kept)" ]
	runs c alone
	# Again, and this time another node takes one over.
	sever c
	kill_node c
	runs c taken
	taken=$BEAT
	within 60 done_on b start taken
	by_keeper c taken
	stands c taken
	[ "$BEAT" -gt "$taken" ]
	taken=$BEAT
	within 20 runs b taken
	# Its daemon is back, and still nobody answers: what is to be stopped is, and kept here; else all is as it was.
	by_keeper c halt
	stands c halt
	halt=$BEAT
	start_node c
	within 30 state_is c halt stopped
	[ "$(saved_on c halt beat)" = "$halt" ] || { echo "saved $(saved_on c halt beat), and it stood at $halt"; false; }
	[ ! -e "c/run/run/$(fleet_id halt).json" ]
	[ ! -e "c/run/run/$(fleet_id halt).lease" ]
	stands c kept
	is c kept '.frozen != null' true
	runs c alone
	heal
	within 40 is c taken .writer.name b
	salvaged() { [ -n "$(side c taken)" ]; }
	within 40 salvaged
	[ "$(git_on c taken cat-file blob "$(side c taken):beat")" = "$taken" ]
	gone() { ! at c api GET /v1/projects/taken | jq -e '.frozen' >/dev/null && [ ! -e "c/run/run/$(fleet_id taken).json" ]; }
	within 20 gone
	[ ! -e "c/run/run/$(fleet_id taken).lease" ]
	runs b taken
	within 30 runs c kept
}

@test "one voter, or no other node: nothing is left for a keeper, and nothing is ever frozen" {
	make_fleet 1
	make ann a "$COUNT"
	done_on a start ann
	runs a ann
	kill_node a
	runs a ann
	[ -z "$(find a/run -name '*.lease')" ]
	start_node a
	runs a ann
	[ -z "$(find a/run -name '*.lease')" ]
}

ahead() {
	on "$1" node list --json | jq -e --arg n "$2" --argjson s "$3" \
		'.nodes[] | select(.name == $n) | .clock_ahead_s | . != null and . > $s - 5 and . < $s + 5' >/dev/null
}

@test "a node whose clock is wrong: seconds are shown, more than a minute is an event" {
	need_plain_build
	lib=$(find /usr/lib -name libfaketime.so.1 2>/dev/null | head -n 1)
	[ -n "$lib" ] || skip "needs libfaketime"
	make_fleet 2
	for s in 20 -200; do
		stop_node b
		start_node b LD_PRELOAD="$lib" FAKETIME="$(printf %+d $s)" FAKETIME_DONT_FAKE_MONOTONIC=1
		within 30 ahead a b "$s"
		has_event a clock.skew && found=1 || found=0
		[ "$found" = $((s < -60)) ]
	done
	at a api GET '/v1/events?limit=1000' | jq -e \
		'[.events[] | select(.what == "clock.skew") | .why | contains("behind ours") and contains("\u0027b\u0027")] == [true]'
}
