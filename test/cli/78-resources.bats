#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it is about groups of processes
# What processes may take, as far as it shows without controllers, and how Warren's own work steps aside: its rate,
# its priority, and the page cache.  Limits themselves are tested in a virtual machine (test/vm).

bats_require_minimum_version 1.5.0
load lib
load daemon

setup() {
	lib_setup
}

teardown() {
	daemon_teardown
}

project() {
	make_node
	start_daemon
	"$WARREN" create --name ann >/dev/null
}

tell_daemon() {
	kill -HUP "$DAEMON_PID"
}

event_told() {
	"$WARREN" events --json | jq -e --arg w "$1" '[.events[] | select(.what == $w)] | length > 0'
}

state_is() {
	[ "$("$WARREN" state ann --json | jq -r .state)" = "$1" ]
}

# The save has begun to read, so it is paced.
reading() {
	"$WARREN" state ann --json | jq -e '.progress.bytes > 0'
}

cached() {
	fincore --bytes --noheadings --output RES "$1"
}

@test "what is enforced is told, and why not more" {
	project
	"$WARREN" start ann
	run -0 --separate-stderr "$WARREN" show ann --json
	local on why
	on=$(jq '.resources | [.cpu, .io, .memory, .pids] | map(select(.)) | length' <<<"$output")
	why=$(jq -r '.resources.why // ""' <<<"$output")
	((on == 4)) || [ -n "$why" ]
	run -0 "$WARREN" show ann
	grep -E '^resources +(nothing is enforced|[a-z, ]+)' <<<"$output"
	"$WARREN" stop ann
}

@test "parts of processors: what is none is refused" {
	project
	local good bad
	for good in 2 0.5 50% 1000 100000% 0.01; do
		"$WARREN" settings ann "cpu_max=$good"
		[ "$("$WARREN" settings ann --json | jq -r .settings.cpu_max.value)" = "$good" ]
	done
	for bad in lots 0 0% -1 1.234 1. .5 1000.01 50%% '2 ' 99999999999; do
		run -2 "$WARREN" settings ann "cpu_max=$bad"
		grep -F "number of processors" <<<"$output"
	done
	"$WARREN" settings ann cpu_max=
	[ "$("$WARREN" settings ann --json | jq -r .settings.cpu_max.value)" = "" ]
	run -2 "$WARREN" settings ann io_weight=0
}

@test "a save is as slow as it is told, and as fast as soon as it is told" {
	project
	printf '[work]\nrate = 1M\n' >"$WARREN_ROOT/warren.conf"
	tell_daemon
	until_true event_told config.loaded
	"$WARREN" start ann
	head -c 60000000 /dev/urandom >"$WARREN_ROOT/home/ann/big"
	local op worker
	op=$("$WARREN" save ann --no-wait --json | jq -r .id)
	until_true reading
	# Without a rate it would take a second.
	sleep 3
	state_is saving
	worker=$(pgrep -P "$(pgrep -f "@op .*$op")" | head -n 1)
	[ "$(ps -o ni= -p "$worker")" -ge 10 ]
	printf '[work]\nrate = 0\n' >"$WARREN_ROOT/warren.conf"
	tell_daemon
	# By the old rate it would take most of a minute.
	SECONDS=0
	op_wait "$op"
	((SECONDS < 25))
	until_true state_is running
	"$WARREN" stop ann
}

@test "a configuration that is wrong is refused, and the daemon goes on" {
	project
	printf '[work]\nrate = fast\n' >"$WARREN_ROOT/warren.conf"
	tell_daemon
	until_true event_told config.refused
	"$WARREN" events --json | jq -r '.events[] | select(.what == "config.refused") | .why' | grep -F "rate"
	daemon_answers
	rm "$WARREN_ROOT/warren.conf"
	tell_daemon
	until_true event_told config.loaded
	"$WARREN" save ann
}

@test "a large file that nobody uses is not left in the page cache, one in use stays" {
	command -v fincore >/dev/null || skip "needs fincore"
	mkdir src
	head -c 40000000 /dev/urandom >src/cold
	head -c 40000000 /dev/urandom >src/warm
	sync src/cold src/warm
	dd if=src/cold iflag=nocache count=0 status=none
	cat src/warm >/dev/null
	(($(cached src/cold) < 4000000)) || skip "this file system does not drop its cache"
	local before
	before=$(cached src/warm)
	((before == 40001536 || before > 39000000))
	"$WARREN" repo init r
	"$WARREN" repo save -r r src
	echo "cold $(cached src/cold), warm $(cached src/warm) of $before, packs:"
	fincore r/objects/pack/*.pack
	(($(cached src/cold) < 4000000))
	(($(cached src/warm) >= before))
	# What was written is on the disk, and need not be in memory.
	(($(cached r/objects/pack/*.pack) < 40000000))
	"$WARREN" repo verify --data -r r
}
