#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: sync_test, link_test and the tests of the rules run the same code
# waits
# Three nodes, one project: copies, what a save says of them, starts elsewhere, settings, what is shown.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet

setup() {
	lib_setup
	# shellcheck disable=SC2034 # of fleet.bash
	FLEET_CONF='[replica]
retry_max = 5s'
}

# project NAME [SETTING]...: made on node a, with a file
project() {
	[ -d seed ] || { mkdir seed && echo one >seed/f && chmod -R a+rX seed; }
	on a create --name "$1" --from "$PWD/seed" -q "${@:2}"
}

# write NODE PROJECT TEXT: into file f
write() {
	local tree
	tree=$(tree_on "$1" "$2")
	echo "$3" >"$tree/f"
}

# show NODE PROJECT FILTER
show() {
	on "$1" show --json "$2" | jq -r "$3"
}

is() {
	[ "$(show "$1" "$2" "$3")" = "$4" ]
}

# The newest tree of a project as a node's repository has it.
file_on() {
	git_on "$1" "$2" show "${3-main}:f"
}

fsck() {
	local name
	for name in "${FLEET[@]}"; do
		git_on "$name" "$1" fsck --full --strict >/dev/null || return 1
	done
}

@test "create makes copies on all three; a save is safe in three data centres and says so" {
	make_fleet 3
	project x
	[ "$(show a x '"\(.epoch) \(.writer.name) \(.safe.now) \(.safe.in) \(.safe.of) \(.safe.dcs)"')" = "1 a true 3 3 3" ]
	write a x two
	run -0 --separate-stderr on a save x
	[[ $output == *"replica   b (dc2) at 1."* && $output == *"replica   c (dc3) at 1."* ]]
	[[ $output == *"everything you closed before "*" is in 3 data centres"* ]]
	on a save x --json | jq -e '.safe and .safe_in == 3 and .members == 3 and (.replicas | length) == 2'
	for n in b c; do
		[ "$(file_on $n x)" = two ]
		[ "$(show $n x .writer.name)" = a ]
	done
	fsck x
	on a fleet --json | jq -e '.summary == {projects: 1, safe: 1, behind: 0, unknown: 0, oldest: .summary.oldest}
		and .projects[0].safe.dcs == 3 and .projects[0].safe.since != null'
	on a locate --json | jq -e '.problems == 0 and ([.projects[0].places[].what] == ["current", "current", "current"])'
	on a explain x --json | jq -e '(.members | length) == 3 and ([.placement[] | select(.reason == "chosen")] | length) == 3'
	run -0 on a list
	[[ $output == *"3/3 "* ]]
	# names are the fleet's
	run -4 --separate-stderr on b create --name x
	# shellcheck disable=SC2154 # bats sets it
	[[ $stderr == *"'x'"* ]]
}

@test "many branches and tags travel, and go on travelling" {
	local tip long
	make_fleet 3
	project x
	tip=$(git_on a x rev-parse main)
	# the list of refs is longer than what goes into a pipe at once
	printf -v long '%0200d' 0
	for i in {1..300}; do
		echo "create refs/tags/$long-$i $tip"
	done | git_on a x update-ref --stdin
	for text in two three; do
		write a x $text
		run -0 --separate-stderr on a save x --json
		jq -e '.safe_in == 3' <<<"$output"
	done
	for n in b c; do
		[ "$(git_on $n x tag | wc -l)" = 300 ]
		[ "$(file_on $n x)" = three ]
	done
}

@test "a node that is away is behind: exit 3, safe on the two; it catches up by itself" {
	make_fleet 3
	project x
	power_off c
	write a x two
	run -3 --separate-stderr on a save x
	[[ $output == *"replica   c (dc3) is behind: "* ]]
	[[ $output == *"is in 2 data centres"* ]]
	[[ $stderr == *"replica c (dc3) is behind"* ]]
	# to c alone it is here alone
	write a x three
	run -3 on a save x --targets c --json
	jq -e '(.safe | not) and .safe_in == 1' <<<"$output"
	run -3 on a fleet
	[[ $output == *" c"* ]]
	run -2 on a replicate x --targets nobody
	start_node c
	within 40 is a x .safe.in 3
	[ "$(file_on c x)" = three ]
	[ "$(file_on b x)" = three ]
	on a events --json | jq -e '[.events[] | select(.what == "replica.current")] | length > 0'
	fsck x
}

@test "start elsewhere once it was stopped; what is new there is new everywhere" {
	make_fleet 3
	project x
	on a start -q x
	write a x two
	# it runs on a
	run -4 --separate-stderr on b start x
	[[ $stderr == *"in use on node 'a'"* && $stderr == *"warren move"* ]]
	on a stop -q x
	on b start -q x
	[ "$(show b x '"\(.epoch) \(.writer.name)"')" = "2 b" ]
	[ "$(cat "$(tree_on b x)/f")" = two ]
	write b x three
	on b save -q x
	[ "$(file_on a x)" = three ]
	# nothing is written on a now
	run -4 --separate-stderr on a save x
	[[ $stderr == *"kept by node b"* ]]
	on b stop -q x
	on a start -q x
	[ "$(cat "$(tree_on a x)/f")" = three ]
	fsck x
}

@test "move: stopped here, started there; refused where too few answer" {
	make_fleet 3
	project x
	on a start -q x
	write a x two
	run -0 on a move x --to b
	[[ $output == *"moved x to b (epoch 2)"* ]]
	within 20 is b x .state.state running
	[ "$(cat "$(tree_on b x)/f")" = two ]
	is a x .state.state stopped
	run -4 --separate-stderr on a move x --to c
	[[ $stderr == *"kept by node b"*"there: warren move x --to c"* ]]
	power_off a
	power_off c
	run -4 --separate-stderr on b move x --to c
	[[ $stderr == *"does not answer"* ]]
	is b x .state.state running
}

@test "the writer dies with unsaved work: started elsewhere after the hold, its work comes back as a side branch" {
	need_hosts
	make_fleet 3
	project x
	on b start -q x || {
		on a stop -q x
		on b start -q x
	}
	write b x saved
	on b save -q x
	write b x unsaved
	power_off b
	# the others hold it for the writer as long as its lease may last
	run -3 --separate-stderr on c start x
	[[ $stderr == *"replica b (dc2) is behind"* ]]
	[ "$(show c x .writer.name)" = c ]
	[ "$(cat "$(tree_on c x)/f")" = saved ]
	write c x later
	run -3 on c save x
	start_node b
	within 60 is c x .safe.in 3
	[ "$(show b x .writer.name)" = c ]
	within 60 has_side_branch b x
	[ "$(file_on b x)" = later ]
	# W7: the writer takes it over, and it is in the next save, which all have
	within 60 has_side_branch c x
	within 30 has_side_branch a x
	on c events --json | jq -e 'any(.events[]; .what == "side.came")'
	within 30 not_marked b x
	within 30 is c x .safe.in 3
	on c snapshots x >list
	grep conflict- list
	name=$(side_branch c x)
	[ "$(show c x '.sides[0]')" = "$name" ]
	on c status --json | jq -e --arg n "$name" 'any(.projects[]; .text | endswith(": " + $n))'
	on c show x | grep -q "side branches.*$name"
	on c diff x "$name" | grep -q '^M f'
	fsck x
	# so the node where it was made can go
	power_off b
	wipe b
	[ "$(file_on a x "$(side_branch a x)")" = unsaved ]
	side_goes
}

# a side branch leaves the list 90 days after it came, then goes as other refs do
side_goes() {
	local name
	sed -i -E 's/> [0-9]+ /> 1700000000 /' "$(repo_on c x)/logs/refs/heads/$(side_branch c x)"
	write c x later2
	run -3 --separate-stderr on c save x --json
	jq -e '.safe_in == 2' <<<"$output"
	[ "$(show c x '.sides | length')" = 0 ]
	for name in a c; do
		run ! side_branch_is $name
		git_on $name x for-each-ref --format='%(objectname)' refs/warren/keep/ >kept.$name
	done
	[ "$(wc -l <kept.a)" = 1 ]
	cmp kept.a kept.c
	[ "$(git_on a x show "$(cat kept.a):f")" = unsaved ]
}

side_branch_is() {
	[ -n "$(side_branch "$1" x)" ]
}

not_marked() {
	[ ! -e "$1/state/sides/$(fleet_id "$2")" ]
}

side_branch() {
	git_on "$1" "$2" for-each-ref --format='%(refname:short)' refs/heads/conflict-\* | head -n 1
}

has_side_branch() {
	local ref
	ref=$(git_on "$1" "$2" for-each-ref --format='%(refname:short)' refs/heads/ | grep -v '^main$' | head -n 1)
	[ -n "$ref" ] && [ "$(file_on "$1" "$2" "$ref")" = unsaved ]
}

@test "settings and names travel; the hub keeps them apart" {
	make_fleet 3
	project x
	project y
	on a settings -q x save_every=17min name=z
	within 20 is b z .settings.save_every.text 17min
	within 20 is c z .rev 2
	run -4 --separate-stderr on a settings y name=z
	[[ $stderr == *"'z'"* ]]
	is a y .rev 1
	# an older revision is refused
	run -4 on a settings z --rev 1 save_every=18min
}

@test "settings that a node missed come with a push, though it lacks no save" {
	make_fleet 3
	project x
	within 20 is a x .safe.in 3
	stop_node c
	on a settings -q x save_every=18min
	within 20 is b x .settings.save_every.text 18min
	start_node c
	within 40 is c x .settings.save_every.text 18min
	[ "$(show a x '.version')" = "$(show c x '.version')" ]
}

latest_on() {
	git_on "$1" "$2" rev-parse -q --verify 'refs/warren/latest^{tree}'
}

@test "newest first: who was away gets the newest state, then what led to it" {
	# shellcheck disable=SC2034 # of fleet.bash
	FLEET_CONF=$'[replica]\nretry_max = 5s\nrate = 3M'
	make_fleet 3
	project x
	on a start -q x
	stop_node c
	for i in 1 2 3; do
		head -c 6000000 /dev/urandom >"$(tree_on a x)/big"
		# long for b as well: it need not be waited for
		on a save -q x --targets b
	done
	start_node c
	within 60 latest_on c x
	[ "$(latest_on c x)" = "$(git_on a x rev-parse 'main^{tree}')" ]
	# that is no copy that counts
	run ! is a x .safe.in 3
	kill_node c
	start_node c
	within 60 is a x .safe.in 3
	run ! latest_on c x
	[ "$(git_on c x rev-parse main)" = "$(git_on a x rev-parse main)" ]
	fsck x
}

@test "save-all saves what may have changed, and sums it up" {
	make_fleet 3
	project x
	project y
	project quiet
	on a start -q x
	on a start -q y
	write a x two
	run -0 on a save-all --json
	jq -e '.projects == 2 and .made >= 1 and .behind == 0 and .failed == 0' <<<"$output"
	power_off b
	write a y two
	run -3 on a save-all
	[[ $output == *"2 projects: 1 saved, 2 behind, 0 failed"* ]]
	run -0 on a save-all --rf 2
}

@test "one node: a name that was purged, or whose create failed, is free again; an older project gets its record" {
	make_fleet 1
	project x
	[ "$(show a x '"\(.epoch) \(.safe.now) \(.safe.in) \(.safe.of)"')" = "1 true 1 1" ]
	on a delete -q x
	on a purge -q x --now
	within 10 project x
	on a locate --json | jq -e '.problems == 0 and (.projects | length) == 1'
	run on a create --name y --from "$PWD/nowhere"
	[ "$status" != 0 ]
	stop_node a
	# as if made before there were fleets
	node a find "$PWD/a/state/control" -name '*.auth' -delete
	start_node a
	is a x .epoch 1
	write a x two
	on a save x --json | jq -e .safe
}

@test "one node: a uid that two projects share is shared by both" {
	need_root
	make_fleet 1
	project x
	uid=$(show a x .uid)
	project y --uid "$uid"
	is a y .uid "$uid"
	within 10 is a x .rev 2
	on a settings -q x save_every=17min
	is a x .rev 3
}

# in_trash NODE ID, is_live NODE ID
in_trash() {
	on "$1" trash list --json | jq -e --arg id "$2" '[.projects[] | select(.id == $id)] | length == 1'
}

is_live() {
	on "$1" list --json | jq -e --arg id "$2" '[.projects[] | select(.id == $id)] | length == 1'
}

@test "delete: all three put it into their trash; undelete on another node brings it back everywhere" {
	make_fleet 3
	project x
	id=$(show a x .id)
	run -4 --separate-stderr on b delete x
	[[ $stderr == *"kept by node a"*"there: warren delete x"* ]]
	on a start -q x
	write a x two
	run -4 on a delete x
	run -0 on a delete x --force
	[[ $output == *"into the trash"*"warren undelete $id"* ]]
	for n in a b c; do
		within 20 in_trash $n "$id"
		! is_live $n "$id"
	done
	# nothing of it starts, its name is not free
	run -5 on b start x
	run -4 on b create --name x
	run -0 on b undelete "$id"
	for n in a b c; do
		within 40 is_live $n "$id"
		within 20 is $n x .writer.name b
		[ "$(file_on $n x)" = two ]
	done
	on b start -q x
	[ "$(cat "$(tree_on b x)/f")" = two ]
	write b x three
	within 20 on b save -q x
	within 20 is b x .safe.in 3
	on b stop -q x
	# one that is away hears of it when it is back; what was purged is filled anew
	power_off c
	on b delete -q x
	within 20 in_trash a "$id"
	on a purge --now --json "$id" | jq -e '(.kept_by | sort) == ["b", "c"]'
	run -4 --separate-stderr on b purge "$id"
	start_node c
	within 60 in_trash c "$id"
	run -0 on b undelete "$id"
	within 60 is b x .safe.in 3
	[ "$(file_on a x)" = three ]
	within 40 is_live c "$id"
	fsck x
}

@test "delete is refused where no majority answers, and is finished where it was cut off" {
	make_fleet 3
	project x
	id=$(show a x .id)
	on a start -q x
	power_off b
	power_off c
	run -4 --separate-stderr on a delete --force x
	[[ $stderr == *"nothing was changed"* ]]
	is a x .state.state running
	is a x .epoch 1
	start_node b
	start_node c
	within 40 is a x .frozen null
	write a x two
	on a save -q x
	on a stop -q x
	stop_node a
	start_node a WARREN_CRASH=control.deletion-raised
	run on a delete x
	[ "$status" != 0 ]
	within 20 in_trash b "$id"
	kill_node a || true
	start_node a
	within 20 in_trash a "$id"
	on a undelete -q "$id"
	for n in a b c; do
		within 40 is_live $n "$id"
	done
	[ "$(show a x .writer.name)" = a ]
	on a start -q x
	[ "$(cat "$(tree_on a x)/f")" = two ]
}
