#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a project takes, what is told when it nears its limits, and what happens past the quota of its history.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet

setup() {
	lib_setup
}

teardown() {
	if [ "${#FLEET[@]}" -gt 0 ]; then fleet_teardown; else daemon_teardown; fi
}

runs_on() {
	[ "$(on "$1" show --json "$2" | jq -r .state.state)" = running ]
}

# noise FILE MIB: nothing that compresses
noise() {
	dd if=/dev/urandom of="$1" bs=1M count="$2" status=none
}

repo_of() {
	echo "$BATS_TEST_TMPDIR"/v/repos/"$(project_id "$1")"
}

# A project whose history may take 1 MiB, and takes more.
over_quota() {
	make_node
	start_daemon
	make_project olga disk=1M repo_quota_factor=1
	wr start olga
	home=$(wr_json show olga | jq -r .home)
	noise "$home/big" 2
	wr save olga
}

in_git() {
	git -c safe.directory='*' --git-dir="$repo" "$@"
}

wr() {
	"$WARREN" "$@"
}

wr_json() {
	"$WARREN" "$@" --json
}

@test "past the quota of the history nothing becomes a snapshot, and the newest files are saved all the same" {
	over_quota
	repo=$(repo_of olga)
	tip=$(in_git rev-parse refs/heads/main)
	echo one >"$home/one"
	run -4 wr save olga
	echo "$output"
	[[ $output == *"no snapshot: the history of 'olga' takes"* ]]
	[[ $output == *"HINT: warren usage olga; an operator can raise it: repo_quota_factor, or disk"* ]]
	[ "$(in_git rev-parse refs/heads/main)" = "$tip" ]
	[ "$(in_git cat-file -p refs/warren/latest:one)" = one ]
	# The next takes its place.
	echo two >"$home/two"
	run -4 wr save olga --tag keep --json
	[ "$(jq -r '.latest, .refused.code, .snapshot, .tag' <<<"$output" | paste -sd' ')" = "true denied null null" ]
	[ "$(in_git cat-file -p refs/warren/latest:two)" = two ]
	[ "$(in_git rev-list --count refs/warren/latest)" = 1 ]
	run ! in_git rev-parse -q --verify refs/tags/keep
	in_git fsck --no-dangling
	# A stop is no failure, a start finds the files.
	echo three >"$home/three"
	run -3 wr stop olga
	[[ $output == *"the newest files are saved in its stead"* ]]
	[ "$(in_git cat-file -p refs/warren/latest:three)" = three ]
	rm -rf "$BATS_TEST_TMPDIR"/v/projects/*-*-*
	wr start olga
	[ "$(cat "$home"/one "$home"/two "$home"/three | paste -sd' ')" = "one two three" ]
	# Raised, it works again by itself, and the state is history.
	wr settings olga repo_quota_factor=9
	wr save olga
	[ "$(in_git rev-parse refs/heads/main^)" = "$tip" ]
	[ "$(in_git cat-file -p refs/heads/main:three)" = three ]
	run ! in_git rev-parse -q --verify refs/warren/latest
	wr stop olga
	wr start olga
	[ "$(wr_json snapshots olga | jq '.snapshots | length')" = "$(in_git rev-list --count main)" ]
}

@test "past the quota of the history a restore keeps what it overwrites" {
	over_quota
	repo=$(repo_of olga)
	echo two >"$home/two"
	run -4 wr save olga
	wr restore olga latest --in-place --delete --live
	[ ! -e "$home/two" ]
	tag=$(in_git tag -l 'before-*')
	[ "$(in_git cat-file -p "$tag:two")" = two ]
}

@test "past the quota of the history: cut off at any step, what was saved is the origin of the files" {
	local at
	make_node
	start_daemon
	make_project olga disk=1M repo_quota_factor=1
	wr start olga
	home=$(wr_json show olga | jq -r .home)
	repo=$(repo_of olga)
	noise "$home/big" 2
	wr save olga
	for at in life.save.{saving,moved,saved,result} save.after-latest; do
		stop_daemon
		WARREN_CRASH=$at start_daemon
		echo "$at" >"$home/f"
		run ! wr save olga
		stop_daemon
		start_daemon
		run -3 wr stop olga
		wr start olga
		[ "$(cat "$home/f")" = "$at" ]
		[ "$(in_git cat-file -p refs/warren/latest:f)" = "$at" ]
		[ -z "$(in_git branch --list 'conflict-*')" ]
	done
	# The way back into history likewise.
	wr settings olga repo_quota_factor=0
	stop_daemon
	WARREN_CRASH=life.save.moved start_daemon
	echo last >"$home/f"
	run ! wr save olga
	stop_daemon
	start_daemon
	wr stop olga
	wr start olga
	[ "$(in_git cat-file -p main:f)" = last ]
	[ -z "$(in_git branch --list 'conflict-*')" ]
	run ! in_git rev-parse -q --verify refs/warren/latest
}

notice_of() {
	wr_json state "$1" | jq -r "$2"
}

notice_is() {
	[ "$(notice_of "$1" '.notices | map("\(.code) \(.level)") | join(", ")')" = "$2" ]
}

@test "usage: live, history, what is not protected and the heaviest folders, from sums and exactly" {
	make_node
	start_daemon
	make_project olga disk=40M exclude=cache
	run -0 wr usage olga
	[[ $output == *"not saved yet"* ]]
	wr start olga
	home=$(wr_json show olga | jq -r .home)
	mkdir -p "$home"/a/b/c/d "$home/x" "$home/cache"
	noise "$home/a/b/c/d/big" 6
	noise "$home/x/f" 2
	noise "$home/cache/out" 1
	wr save olga
	noise "$home/x/f" 2
	wr save olga
	run -0 wr_json usage olga
	jq -e '.exact == false and .live.inodes == 2 and .live.disk == 41943040 and .trash == null' <<<"$output"
	jq -e '.not_protected == {count: 1, bytes: 1048576}' <<<"$output"
	jq -e '.history | .quota == 3 * 41943040 and .bytes > 1500000 and .bytes < 2600000' <<<"$output"
	jq -e '[.folders[].path] == ["a/b/c", "x"]' <<<"$output"
	jq -e '.folders[1] | .files == 1 and .stored > 4000000 and .stored < 4400000 and
		.bytes >= 2097152 and .bytes < 2200000' <<<"$output"
	sums=$(jq -cS '.folders' <<<"$output")
	# What was looked at says the same, also where the sums are lost or damaged.
	for f in "$BATS_TEST_TMPDIR"/v/repos/*-*/warren/sums/*; do
		printf x | dd of="$f" bs=1 seek=40 conv=notrunc status=none
	done
	[ "$(wr_json usage olga | jq -c '.at, .folders' | paste -sd' ')" = "null []" ]
	run -0 wr_json usage olga --now
	jq -e '.exact and .history.exact and .live.by == "scan"' <<<"$output"
	jq -e '.history | .bytes > 2090000 and .bytes < 2200000' <<<"$output"
	# The root of the tree counts for no folder; trees and metadata of folders do.
	jq -e --argjson was "$sums" '[.folders, $was] | transpose |
		all(.[0].path == .[1].path and .[0].bytes == .[1].bytes and
			(.[0].stored - .[1].stored | fabs) < 1000)' <<<"$output"
	[ "$(wr_json usage olga | jq -cS .folders)" = "$(jq -cS .folders <<<"$output")" ]
	run -0 wr usage olga
	[[ $output == *"a/b/c"* && $output == *"not protected  1 files, 1.0 MiB"* ]]
	wr delete olga --force
	run -0 wr usage olga
	[[ $output == *"in the trash"*"until"* ]]
}

@test "notices come at their marks, reach state, show, status, prompt and program, and go when there is room" {
	make_node
	cat >"$BATS_TEST_TMPDIR/told" <<-EOF
		#!/bin/sh
		cat >>$BATS_TEST_TMPDIR/inbox/all
	EOF
	chmod 755 told
	mkdir inbox
	chmod 777 inbox
	export WARREN_NOTICE_COMMAND=$BATS_TEST_TMPDIR/told
	start_daemon
	make_project olga disk=10M repo_quota_factor=0
	wr start olga
	home=$(wr_json show olga | jq -r .home)
	noise "$home/a" 7
	wr save olga
	notice_is olga ""
	noise "$home/b" 2
	wr save olga
	notice_is olga "disk 80"
	run -0 wr status
	[[ $output == *"more than 80 % of the disk quota of 10.0 MiB is used"* ]]
	# The prompt says it once.
	file=$WARREN_ROOT/run/notice/$(api GET /v1/projects/olga | jq .uid)
	run -0 bash -c 'PS1=x UID_=1; . "$1"; t=${2%/*}; mkdir n; cp "$2" "n/$UID"; WARREN_NOTICES=$PWD/n
		eval "$PROMPT_COMMAND"; eval "$PROMPT_COMMAND"' - "$BATS_TEST_DIRNAME/../../contrib/profile.d/warren.sh" "$file"
	[ "$(grep -c 'warren: olga: more than 80 %' <<<"$output")" = 1 ]
	[[ $output == *"        warren usage olga"* ]]
	run -0 bash -c 'PS1=x; . "$1"; WARREN_NOTICES=/nonexistent; eval "$PROMPT_COMMAND"' - \
		"$BATS_TEST_DIRNAME/../../contrib/profile.d/warren.sh"
	[ -z "$output" ]
	# Other things before the prompt see how the last command ended, with a notice or without.
	for f in n none; do
		run -0 bash -c 'PS1=x PROMPT_COMMAND="echo ended \$?"; . "$1"; WARREN_NOTICES=$PWD/$2
			(exit 7); eval "$PROMPT_COMMAND"' - "$BATS_TEST_DIRNAME/../../contrib/profile.d/warren.sh" "$f"
		[[ $output == *"ended 7" ]]
	done
	noise "$home/c" 1
	wr save olga
	notice_is olga "disk 100"
	run -3 wr status
	[[ $output == *"the disk quota of 10.0 MiB is used up (10.0 MiB): make room (since "* ]]
	[ "$(wr_json show olga | jq -r .notice)" = "the disk quota of 10.0 MiB is used up (10.0 MiB): make room" ]
	# Not by a hair: a mark is left three percent below it.
	truncate -s 900K "$home/c"
	wr save olga
	notice_is olga "disk 100"
	# A daemon that comes and goes forgets nothing, and tells nothing anew.
	stop_daemon
	start_daemon
	notice_is olga "disk 100"
	until_true test -f "$file"
	rm "$home"/b "$home"/c
	wr save olga
	notice_is olga ""
	[ ! -e "$file" ]
	wr_json events --project olga | jq -e '[.events[].what | select(startswith("notice"))] == ["notice", "notice", "notice.cleared"]'
	until_true grep -q '"cleared":true' inbox/all
	jq -se 'map("\(.notice.code) \(.notice.level) \(.cleared)") == ["disk 80 false", "disk 100 false", "disk 100 true"] and
		all(.schema == "warren.notice/1" and .name == "olga")' inbox/all
}

@test "quota auto: the larger of factor times the use and the least, never below the use" {
	make_node
	start_daemon
	make_project olga disk=20M
	make_project piet disk=20M
	wr start olga
	noise "$(wr_json show olga | jq -r .home)/a" 9
	wr save olga
	run -0 wr quota auto --min 10M --dry-run
	[[ $output == *"olga"*"18.0 MiB"*"would be set"* && $output == *"piet"*"10.0 MiB"*"would be set"* ]]
	[ "$(wr_json settings olga | jq '.rev, .settings.disk.value' | paste -sd' ')" = "1 20971520" ]
	run -0 wr_json quota auto --min 10M
	jq -e '[.projects[] | [.name, .new, .changed]] == [["olga", 18874368, true], ["piet", 10485760, true]]' <<<"$output"
	[ "$(wr_json settings olga | jq '.rev, .settings.disk.value' | paste -sd' ')" = "2 18874368" ]
	run -0 wr_json quota auto --min 1M --factor 1
	jq -e 'all(.projects[]; .new >= .used)' <<<"$output"
	run -0 wr quota auto --min 1M --factor 1
	[[ $output == *"as it is"* ]]
	run -2 wr quota auto --factor 0
}

@test "past the quota of its history a project moves with its newest files, and nothing of it is lost" {
	cd "$BATS_TEST_TMPDIR"
	make_fleet 3
	mkdir seed && echo one >seed/f && chmod -R a+rX seed
	on a create --name x --from "$PWD/seed" -q
	on a settings x disk=1M repo_quota_factor=1 -q
	on a start x
	noise "$(tree_on a x)/big" 2
	on a save x
	tip=$(git_on a x rev-parse main)
	noise "$(tree_on a x)/large" 1
	echo two >"$(tree_on a x)/f"
	run -4 --separate-stderr on a save x --json
	# The state alone is as safe as a snapshot.
	[ "$(jq -r '.latest, .safe, .safe_in' <<<"$output" | paste -sd' ')" = "true true 3" ]
	[ "$(git_on b x cat-file -p refs/warren/latest:f)" = two ]
	# What travels is what changed since the one before.
	echo three >"$(tree_on a x)/f"
	run -4 --separate-stderr on a save x --json
	(($(jq '[.replicas[].bytes] | max' <<<"$output") < 100000))
	echo four >"$(tree_on a x)/f"
	on a move x --to b
	within 30 runs_on b x
	[ "$(cat "$(tree_on b x)/f")" = four ]
	[ "$(git_on b x rev-parse main)" = "$tip" ]
	[ -z "$(git_on b x branch --list 'conflict-*')" ]
	# There, too, until the quota is raised; then it is history.
	echo five >"$(tree_on b x)/f"
	run -4 on b save x
	on b settings x repo_quota_factor=9 -q
	on b save x
	[ "$(git_on b x rev-parse main^)" = "$tip" ]
	for n in a b c; do
		[ "$(git_on "$n" x cat-file -p main:f)" = five ]
		run ! git_on "$n" x rev-parse -q --verify refs/warren/latest
		git_on "$n" x fsck --no-dangling
	done
	# Back where the files were those of the move: they are brought to the tip, nothing is salvaged.
	on b move x --to a
	within 30 runs_on a x
	[ "$(cat "$(tree_on a x)/f")" = five ]
	[ -z "$(git_on a x branch --list 'conflict-*')" ]
}
