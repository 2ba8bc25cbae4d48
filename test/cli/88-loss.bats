#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it mostly waits until nodes are given up
# shellcheck disable=SC2034,SC2154 # FLEET_CONF is that of fleet.bash
# What a node or a hub has lost, or never heard: nothing is called safe that is not, nothing is overwritten, and there
# is a way on.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet
load cluster

setup() {
	lib_setup
}

teardown() {
	fleet_teardown
}

# forget NODE PROJECT: what it promised is gone
forget() {
	rm "$1/state/control/$(fleet_id "$2").auth"
}

is() {
	[ "$(on "$1" show --json "$2" | jq -r "$3")" = "$4" ]
}

# Status 3 is fine: something is worth a warning.
done_on() {
	local rc=0
	on "$@" -q 2>said || rc=$?
	[ "$rc" = 0 ] || [ "$rc" = 3 ]
}

conflicts() {
	git_on "$1" "$2" for-each-ref --format='%(refname:short)' 'refs/heads/conflict-*'
}

@test "a writer that lost what it promised saves nothing, can be stopped, and comes back as a new member" {
	need_hosts
	make_fleet 3
	make ann a
	done_on a start ann
	for i in 1 2 3; do
		echo "$i" | edit a ann f
		save a ann
	done
	forget a ann
	echo new | edit a ann g
	# Else its saves would be numbered anew, and the others take them for what they have.
	at a do_op POST /v1/projects/ann/save '{}' >answer
	jq -e '.error.code == "corrupt" and (.error.hint | contains("add it again"))' answer
	done_on a stop ann
	is a ann .state.state stopped
	stop_node a
	start_node a
	has_event a project.not-in-fleet
	run -1 on a start ann
	run ! on a delete ann
	within 60 done_on b start ann
	[ "$(saved_on b ann f)" = 3 ]
	echo 4 | edit b ann f
	save b ann
	safe_in "true 2"
	replica a | jq -e '.error.message | contains("knows nothing of it")'
	done_on b replica remove ann --node a
	done_on b replica add ann --node a
	within 60 is b ann .safe.in 3
	[ "$(saved_on a ann f)" = 4 ]
	# What was never saved waits, or went to the side when the files were brought along.
	[ "$(cat "$(tree_on a ann)/g")" = new ] || [ -n "$(conflicts a ann)" ]
	sound ann "${FLEET[@]}"
}

@test "a copy that lost what it promised has no vote in the project's first epoch either" {
	make_fleet 3
	make ann a
	forget b ann
	stop_node b
	start_node b
	echo 1 | edit a ann f
	save a ann
	safe_in "true 2"
	behind b
	replica b | jq -e '.error.message | contains("knows nothing of it")'
	[ ! -e "b/state/control/$(fleet_id ann).auth" ]
}

@test "a hub dies with the writer's promise for a record that nobody else heard of: the writer asks for one" {
	need_hosts
	make_fleet 3
	make ann b 'command=while :; do date >beat; sleep 0.1; done'
	done_on b start ann
	save b ann
	stop_node c
	stop_node a
	start_node a WARREN_CRASH=auth.store
	run ! on b replica remove ann --node c
	kill_node a
	start_node a
	start_node c
	# Longer than its lease would last; nobody starts it anew.
	went_on() { at b do_op POST /v1/projects/ann/save '{}' | jq -e '.receipt | .safe and (.side_branch | not)' >/dev/null; }
	within 45 went_on
	is b ann .state.state running
	# 2 with luck: its random half decides against the one that was promised; else 3.
	is b ann '.epoch == 2 or .epoch == 3' true
	sleep_until=$((SECONDS + 35))
	until ((SECONDS > sleep_until)); do
		! has_event b project.frozen
		sleep 1
	done
}

@test "what a former writer puts to the side is on one node, and is not called safe" {
	need_hosts
	make_fleet 3
	make ann c
	done_on c start ann
	echo 1 | edit c ann f
	save c ann
	echo unsaved | edit c ann f
	power_off c
	within 60 done_on b start ann
	start_node c
	within 30 is c ann .writer.name b
	at c do_op POST /v1/projects/ann/save '{}' >answer
	jq -e '.error.code == "denied" or (.receipt | .safe == false and .safe_in == 1 and .members == 3)' answer
}

@test "move takes nothing away that is not safe, unless that is accepted" {
	FLEET_CONF=$'[replica]\nmax_size = 4M\nretry_max = 600s'
	make_fleet 3
	make ann a
	done_on a start ann
	head -c 6M /dev/urandom | edit a ann big
	run -4 --separate-stderr on a move ann --to b
	[[ $stderr == *"not safe on other nodes"*"--accept-loss"* ]]
	within 20 is a ann .state.state running
	is a ann .writer.name a
	# The same of one that is at rest.
	done_on a stop ann
	run -4 on a move ann --to b
	is a ann .writer.name a
	rm "$(tree_on a ann)/big"
	done_on a move ann --to b --accept-loss
	is a ann .writer.name b
}

@test "a hub that lost its catalog gives no project the name or the uid of another" {
	make_fleet 1
	make ann a
	stop_node a
	rm a/state/hub/catalog.db*
	start_node a
	make bob a
	[ "$(on a show --json ann | jq .uid)" != "$(on a show --json bob | jq .uid)" ] || [ "$(id -u)" != 0 ]
	run ! on a create --name ann
	done_on a settings ann description=still
	# Again, where another node has them.
	echo 1 | edit a ann f
	save a ann
}
