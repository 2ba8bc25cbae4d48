#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it mostly waits for wires
# waits
# shellcheck disable=SC2034,SC2154 # FLEET_CONF and FLEET_DISK are those of fleet.bash
# Several nodes: wires that are cut or slow, a host that dies and returns.  After each: what a receipt called safe is on
# a majority, all members have the same refs, and git finds nothing wrong.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet
load cluster

@test "a wire is cut, silently: nobody hangs, a majority is enough, and the rest follows by itself" {
	need_hosts
	FLEET_CONF=$'[replica]\nrate = 2M\ntimeout = 3s\nretry_max = 5s'
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
	# Later saves leave the branches alone; moved back there, they come to everybody.
	for name in ann bob; do
		date +%N | edit c "$name" h
		save c "$name"
		[ -n "$(side_of b "$name")" ]
		at c do_op POST "/v1/projects/$name/move" '{"to":"b"}' >answer
		within 30 state_is b "$name" running
		date +%N | edit b "$name" h
		save b "$name"
		all_well "$name"
		[ -n "$(side_of c "$name")" ]
		op b POST "/v1/projects/$name/stop" '{"force":true}'
	done
}
