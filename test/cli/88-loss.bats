#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2034,SC2154 # FLEET_CONF is that of fleet.bash
# What a node or a hub has lost, or does not know yet: nothing is called safe that is not, nothing is overwritten, and
# there is a way on.

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

show() {
	on "$1" show --json "$2" | jq -r "$3"
}

is() {
	[ "$(show "$1" "$2" "$3")" = "$4" ]
}

@test "a node that lost what it promised saves nothing, can be stopped, and comes back as a new member" {
	need_hosts
	make_fleet 3
	make ann a
	on a start -q ann
	for i in 1 2 3; do
		echo "$i" | edit a ann f
		save a ann
	done
	forget a ann
	echo new | edit a ann g
	# Else it would number its saves anew, and the others would take them for what they have.
	at a do_op POST /v1/projects/ann/save '{}' >answer
	jq -e '.error.code == "corrupt" and (.error.hint | contains("add it again"))' answer
	on a stop -q ann || [ $? = 3 ]
	is a ann .state.state stopped
	stop_node a
	start_node a
	has_event a project.not-in-fleet
	run -1 --separate-stderr on a start ann
	run ! on a delete ann
	# A copy that forgot is no voter any more, also in a project's first epoch.
	forget c ann
	stop_node c
	start_node c
	within 60 on b start -q ann || [ $? = 3 ]
	false_start=$(show b ann .writer.name)
	[ "$false_start" = a ]
}

@test "of two that forgot there is no majority; of one there is, and it is added again" {
	need_hosts
	make_fleet 3
	make ann a
	on a start -q ann
	echo 1 | edit a ann f
	save a ann
	forget a ann
	echo new | edit a ann g
	on a stop -q ann || [ $? = 3 ]
	started() { on b start -q ann || [ $? = 3 ]; }
	within 60 started
	[ "$(saved_on b ann f)" = 1 ]
	echo 2 | edit b ann f
	save b ann
	safe_in "true 2"
	behind a
	replica a | jq -e '.error.message | contains("knows nothing of it")'
	on b replica remove ann --node a -q
	on b replica add ann --node a -q
	copies() { is b ann .safe.in 3; }
	within 60 copies
	[ "$(saved_on a ann f)" = 2 ]
	# What was never saved is still there, and goes to the side when the files are brought along.
	unsaved() { [ -e "$(tree_on a ann)/g" ] || git_on a ann for-each-ref --format='%(refname)' refs/heads/ | grep -q conflict; }
	unsaved
	sound ann a b c
}
