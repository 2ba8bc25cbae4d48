#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: life_test runs the same operations, 70 the same daemon
# Projects through the daemon: what becomes of files when operations are killed, and the way back.

bats_require_minimum_version 1.5.0
load lib
load daemon

setup() {
	cd "$BATS_TEST_TMPDIR" || return 1
	make_node
}

op_body() { jq -n '$ARGS.named' "$@"; }

# The operation ends well.
must() {
	local answer
	answer=$(do_op "$@")
	jq -e '.state == "done" or (.schema | startswith("warren.error") | not) and .state == null' \
		<<<"$answer" >/dev/null || {
		printf '%s\n' "$answer"
		return 1
	}
}

steady() {
	[[ $(state_of "$1") == @(stopped|running|error) ]]
}

# With a daemon whose operations die at a point: the operation fails, and says that it was cut off.
dies_at() {
	local point=$1
	shift
	stop_daemon
	WARREN_CRASH=$point start_daemon
	do_op "$@" >answer
	jq -e '.state == "failed"' answer >/dev/null || {
		echo "$point: $(cat answer)"
		return 1
	}
	stop_daemon
	start_daemon
}

@test "create from a folder, start, stop: the files are where they belong" {
	start_daemon
	seeded ann 'command=sleep 1000'
	must POST /v1/projects/ann/start '{}'
	[ "$(state_of ann)" = running ]
	[ "$(cat "$WARREN_ROOT/home/ann/d/g")" = two ]
	change ann f edited
	must POST /v1/projects/ann/stop '{"force":true}'
	[ "$(state_of ann)" = stopped ]
	[ ! -e "$WARREN_ROOT/home/ann/f" ]
	[ "$(cat "$(tree_path ann)/f")" = edited ]
}

@test "an operation that is killed anywhere: the next start has the user's files" {
	start_daemon
	seeded ann
	n=0
	for point in start.dirty start.presented stop.saving stop.moved stop.unmounted save.moved; do
		n=$((n + 1))
		kind=${point%%.*}
		[ "$kind" = start ] || must POST /v1/projects/ann/start '{}'
		change ann f "edit $n"
		body='{}'
		[ "$kind" != stop ] || body='{"force":true}'
		dies_at "life.$point" POST "/v1/projects/ann/$kind" "$body"
		# What was wanted to be active comes back by itself.
		until_true steady ann
		[ "$(state_of ann)" = running ] || must POST /v1/projects/ann/start '{"wait":"20s"}'
		[ "$(state_of ann)" = running ]
		[ "$(cat "$WARREN_ROOT/home/ann/f")" = "edit $n" ]
		must POST /v1/projects/ann/stop '{"force":true}'
	done
}

@test "working files that are gone come back from the newest snapshot" {
	start_daemon
	seeded ann
	rm -rf "$(tree_path ann)"
	do_op POST /v1/projects/ann/save '{}' | jq -e '.error.code == "not_found"'
	must POST /v1/projects/ann/start '{}'
	[ "$(cat "$WARREN_ROOT/home/ann/f")" = one ]
}

@test "a whole restore under running processes is refused; live, undo, and undo of the undo" {
	start_daemon
	seeded ann 'command=sleep 1000'
	first=$(do_op POST /v1/projects/ann/save '{}' | jq -r .receipt.commit)
	must POST /v1/projects/ann/start '{}'
	change ann f later
	body=$(op_body --arg snapshot "$first")
	do_op POST /v1/projects/ann/undo "$body" >answer
	jq -e '.error.code == "busy"' answer
	[ "$(state_of ann)" = running ]
	do_op POST /v1/projects/ann/undo "$(jq '.live = true' <<<"$body")" >answer
	jq -e '.state == "done" and (.receipt.safety.tag | startswith("before-"))' answer
	[ "$(cat "$WARREN_ROOT/home/ann/f")" = one ]
	must POST /v1/projects/ann/undo '{"live":true}'
	[ "$(cat "$WARREN_ROOT/home/ann/f")" = later ]
}

@test "a restore that is killed half way is finished by the next start" {
	start_daemon
	seeded ann
	first=$(do_op POST /v1/projects/ann/save '{}' | jq -r .receipt.commit)
	change ann f later
	dies_at life.undo.applying POST /v1/projects/ann/undo "$(op_body --arg snapshot "$first")"
	do_op POST /v1/projects/ann/start '{}' >answer
	jq -e '.state == "done" and .receipt.finished_restore != null' answer
	[ "$(cat "$WARREN_ROOT/home/ann/f")" = one ]
}

@test "delete, undelete and purge, killed on the way" {
	start_daemon
	seeded ann
	id=$(project_id ann)
	must POST /v1/projects/ann/delete '{}'
	[ ! -e "v/projects/$id" ]
	dies_at life.undelete.tree POST "/v1/projects/$id/undelete" '{}'
	must POST "/v1/projects/$id/undelete" '{}'
	must POST /v1/projects/ann/start '{}'
	[ "$(cat "$WARREN_ROOT/home/ann/f")" = one ]
	must POST /v1/projects/ann/delete '{"force":true}'
	do_op POST "/v1/projects/$id/purge" '{}' | jq -e '.error.code == "denied"'
	must POST "/v1/projects/$id/purge" '{"now":true}'
	[ ! -e "v/projects/.trash/$id" ]
	[ ! -e "v/repos/.trash/$id" ]
}

@test "warren repo on a project's history holds the project's lock, and is refused while an operation has it" {
	local repo lock
	start_daemon
	seeded ann
	repo=$(echo "$BATS_TEST_TMPDIR"/*/repos/"$(project_id ann)")
	[ -d "$repo" ]
	run -0 "$WARREN" repo tag -r "$repo" mine main
	# held by another, as an operation holds it
	exec {lock}<>"$repo/conf/lock"
	flock -n "$lock"
	run -4 "$WARREN" repo tag -r "$repo" --delete mine
	[[ $output == *"the project whose history this is: in use"* ]]
	run -4 "$WARREN" repo save -r "$repo" seed
	run -4 "$WARREN" repo verify -r "$repo" --repair
	run -0 "$WARREN" repo snapshots -r "$repo"
	run -0 "$WARREN" repo verify -r "$repo"
	exec {lock}>&-
	run -0 "$WARREN" repo tag -r "$repo" --delete mine
	# and the other way round: what the command line left is free
	must POST /v1/projects/ann/save
}

# What an operation shows while it runs: its steps, and whether a percentage between the ends was among it.
watch_op() {
	local op=$1 seen='' o
	while :; do
		o=$(api GET "/v1/operations/$op") || return 1
		[ "$(jq -r .state <<<"$o")" = running ] || break
		seen+=$(jq -r '"\(.step) \(.progress.percent // 0) \(.progress.files_total // 0)"' <<<"$o")$'\n'
		sleep 0.03
	done
	jq -e '.state == "done"' <<<"$o" >/dev/null || { echo "$o"; return 1; }
	printf '%s' "$seen"
}

@test "steps and progress are live during import, save and restore" {
	local op tree
	# So that there is time to look.
	WARREN_WORK_RATE=15M start_daemon
	mkdir -p big/many
	head -c 40000000 /dev/urandom >big/blob
	(cd big/many && seq 2000 | split -l 1 -a 4 -)
	chmod -R a+rX big
	op=$(api POST /v1/projects "$(jq -n --arg d "$PWD/big" '{name: "ann", from: $d}')" | jq -r .id)
	run -0 watch_op "$op"
	grep -qE '^import [1-9][0-9]? 2001$' <<<"$output" || { echo "$output"; return 1; }
	tree=$(tree_path ann)
	head -c 40000000 /dev/urandom >"$tree/more"
	op=$(api POST /v1/projects/ann/save '{}' | jq -r .id)
	run -0 watch_op "$op"
	grep -qE '^snapshot [1-9][0-9]? 1$' <<<"$output" || { echo "$output"; return 1; }
	rm -rf "${tree:?}"/*
	op=$(api POST /v1/projects/ann/undo '{}' | jq -r .id)
	run -0 watch_op "$op"
	grep -q '^restore ' <<<"$output" || { echo "$output"; return 1; }
}

@test "what is wrong with a start stays wrong until a start or stop: neither a save nor an undo hides it" {
	start_daemon
	seeded ann 'command=exit 7'
	run -0 do_op POST /v1/projects/ann/start '{}'
	[[ $output == *'"failed"'* ]]
	[ "$(state_of ann)" = error ]
	change ann f changed
	must POST /v1/projects/ann/save
	[ "$(state_of ann)" = error ]
	must POST /v1/projects/ann/undo '{}'
	[ "$(state_of ann)" = error ]
	api GET /v1/projects/ann/state | jq -e '.error.message | test("command")'
	api PATCH /v1/projects/ann/settings '{"set": ["command=exec sleep 600"]}' | jq -e .rev
	must POST /v1/projects/ann/start '{}'
	[ "$(state_of ann)" = running ]
}

@test "a stop that was cut off shows in every list, also after another operation and a new daemon" {
	start_daemon
	seeded ann 'command=exec sleep 600'
	must POST /v1/projects/ann/start '{}'
	dies_at life.stop.begun POST /v1/projects/ann/stop '{}'
	seen() {
		api GET /v1/projects | jq -r '.projects[0].state | "\(.state) \(.active)"'
	}
	[ "$(seen)" = "error true" ]
	must POST /v1/projects/ann/save
	[ "$(seen)" = "error true" ]
	stop_daemon
	start_daemon
	[ "$(seen)" = "error true" ]
	api GET /v1/status | jq -e '.projects[0].level == "error"'
	must POST /v1/projects/ann/stop '{}'
	[ "$(seen)" = "stopped false" ]
}
