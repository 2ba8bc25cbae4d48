#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it is about groups of processes
# What processes may take, as far as it shows without controllers, and how Warren's own work steps aside: its rate,
# its priority, and the page cache.  Limits themselves are tested in a virtual machine (test/vm).

bats_require_minimum_version 1.5.0
load lib
load daemon

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
	# Operations go by what the daemon goes by.
	"$WARREN" start ann
	"$WARREN" save ann
	"$WARREN" stop ann
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
	# The kernel may take any page back by itself: one beside it that nobody touches tells how much it took.
	cp src/warm beside
	sync src/cold src/warm beside
	dd if=src/cold iflag=nocache count=0 status=none
	cat src/warm beside >/dev/null
	(($(cached src/cold) < 4000000)) || skip "this file system does not drop its cache"
	local before taken
	before=$(cached src/warm)
	taken=$(cached beside)
	((before > 39000000))
	"$WARREN" repo init r
	"$WARREN" repo save -r r src
	taken=$((taken - $(cached beside)))
	echo "cold $(cached src/cold), warm $(cached src/warm) of $before, beside it $taken less, packs:"
	fincore r/objects/pack/*.pack
	(($(cached src/cold) < 4000000))
	((taken < 10000000)) || skip "the kernel itself took much of what nobody touches"
	(($(cached src/warm) >= before - 2 * taken - 1000000))
	# What was written is on the disk, and need not be in memory.
	(($(cached r/objects/pack/*.pack) < 40000000))
	"$WARREN" repo verify --data -r r
}

# How long small pieces of work take ann, in microseconds (the median).
neighbour() {
	rm -f "$WARREN_ROOT/home/ann/took"
	"$WARREN" restart ann >/dev/null
	until_true test -s "$WARREN_ROOT/home/ann/took"
	cut -d' ' -f2 "$WARREN_ROOT/home/ann/took"
}

@test "a neighbour beside a hog of processors" {
	project
	local probe alone beside
	probe=$(dirname "$WARREN")/test/lib/neighbour
	"$WARREN" show ann --json | jq -e .resources.cpu ||
		skip "$("$WARREN" show ann --json | jq -r .resources.why); in the VM lane it is measured"
	"$WARREN" settings ann command="$probe small 3000 2000 >new; mv new took; exec sleep 600" save_every=never
	"$WARREN" start ann
	alone=$(neighbour)
	"$WARREN" create --name hog >/dev/null
	"$WARREN" settings hog save_every=never \
		command="for i in $(seq -s' ' $((4 * $(nproc)))); do (while :; do :; done) & done; wait"
	"$WARREN" start hog
	beside=$(neighbour)
	"$WARREN" stop hog
	"$WARREN" stop ann
	echo "# $alone us alone, $beside us beside $((4 * $(nproc))) programs of another project" >&3
	((beside <= 8 * alone))
}

# ---- before the host goes down ----

receipt_of() {
	jq -r --arg n "$1" ".saves[] | select(.name == \$n) | $2" <<<"$output"
}
newest() {
	"$WARREN" snapshots ann --json | jq -r '.snapshots[0].name'
}

@test "before the host goes down projects are ended and saved, and come back with it" {
	project
	"$WARREN" create --name bob >/dev/null
	"$WARREN" settings ann command='exec sleep 600' save_every=never >/dev/null
	"$WARREN" start ann
	local uid
	uid=$("$WARREN" show ann --json | jq -r .uid)
	echo word >"$WARREN_ROOT/home/ann/note"
	run -2 "$WARREN" save-all --within 5s
	run -2 "$WARREN" save-all --shutdown --rf 1
	run -0 --separate-stderr "$WARREN" save-all --shutdown --json
	assert_json .schema warren.shutdown/1 .projects 1 .made 1 .late 0 .failed 0 .within 60
	[ "$(receipt_of ann '"\(.ok) \(.safe) \(.safe_in)"')" = "true true 1" ]
	state_is stopped
	[ "$(id -u)" != 0 ] || ! pgrep -u "$uid"
	run -0 "$WARREN" cat ann main:note
	[ "$output" = word ]
	"$WARREN" list --json | jq -e '.projects[] | select(.name == "ann") | .desired'
	# Nothing starts any more.
	run -4 "$WARREN" start bob
	grep -F "going down" <<<"$output"
	run "$WARREN" save-all --shutdown
	grep -F "going down already" <<<"$output"
	"$WARREN" save bob
	stop_daemon
	start_daemon
	until_true state_is running
	"$WARREN" events --json | jq -e '[.events[].what] | index("node.leaving")'
	"$WARREN" start bob
	"$WARREN" stop bob
	"$WARREN" stop ann
}

@test "a save that takes too long holds no host, and nothing is lost" {
	project
	"$WARREN" create --name bob >/dev/null
	printf '[work]\nrate = 500K\nshutdown_save = 3s\n' >"$WARREN_ROOT/warren.conf"
	tell_daemon
	until_true event_told config.loaded
	"$WARREN" settings ann command='trap "" TERM; while :; do sleep 1; done' save_every=never >/dev/null
	"$WARREN" start ann
	"$WARREN" start bob
	head -c 20000000 /dev/urandom >"$WARREN_ROOT/home/ann/big"
	echo word >"$WARREN_ROOT/home/bob/note"
	local sum tip
	sum=$(sha256sum <"$WARREN_ROOT/home/ann/big")
	tip=$(newest)
	SECONDS=0
	"$WARREN" save-all --shutdown --json >first 3>&- 4>&- &
	until_true event_told node.leaving
	# Who asks while it goes on waits for the same: the host goes down when he is answered.
	run -3 --separate-stderr "$WARREN" save-all --shutdown --json
	wait $! || [ $? = 3 ]
	[ "$output" = "$(cat first)" ]
	# At the rate it would be 40 s.
	((SECONDS < 15))
	assert_json .projects 2 .made 1 .late 1 .failed 0 .within 3
	[ "$(receipt_of bob .made)" = true ]
	[ "$(receipt_of ann .ok)" = false ]
	state_is stopped
	[ "$(newest)" = "$tip" ]
	stop_daemon
	rm "$WARREN_ROOT/warren.conf"
	start_daemon
	until_true state_is running
	[ "$(sha256sum <"$WARREN_ROOT/home/ann/big")" = "$sum" ]
	"$WARREN" save ann
	[ "$(newest)" != "$tip" ]
	"$WARREN" cat ann main:big | sha256sum | grep -F "${sum%% *}"
}

@test "a host that saves nothing when it goes down" {
	project
	printf '[work]\nshutdown_save = never\n' >"$WARREN_ROOT/warren.conf"
	tell_daemon
	until_true event_told config.loaded
	"$WARREN" start ann
	run -4 "$WARREN" save-all --shutdown
	grep -F "shutdown_save" <<<"$output"
	state_is running
	"$WARREN" stop ann
}
