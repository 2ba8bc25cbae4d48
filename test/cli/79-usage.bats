#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a project takes, what is told when it nears its limits, and what happens past the quota of its history.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet

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
	for at in life.save.moved save.after-ref; do
		wr settings olga repo_quota_factor=1
		echo "before $at" >"$home/f"
		run -4 wr save olga
		wr settings olga repo_quota_factor=0
		stop_daemon
		WARREN_CRASH=$at start_daemon
		echo "$at" >"$home/f"
		run ! wr save olga
		stop_daemon
		start_daemon
		wr stop olga
		wr start olga
		[ "$(in_git cat-file -p main:f)" = "$at" ]
		[ -z "$(in_git branch --list 'conflict-*')" ]
		# Also where the save ended before it could drop it.
		run ! in_git rev-parse -q --verify refs/warren/latest
	done
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

@test "usage: what came with an import has cost what it took" {
	make_node
	start_daemon
	mkdir -p src/a src/b
	noise src/a/big 3
	noise src/b/big 1
	made_from "$PWD/src" olga
	wr_json usage olga >sums
	wr_json usage olga --now >exact
	jq -e '[.folders[].path] == ["a", "b"] and .folders[0].stored > 3000000' sums
	jq -e --slurpfile was sums '[.folders, $was[0].folders] | transpose |
		all(.[0].path == .[1].path and .[0].bytes == .[1].bytes and (.[0].stored - .[1].stored | fabs) < 1000)' exact
}

# stop_worker: the worker of a look at olga's files is held where it has told how far it is
stop_worker() {
	# A shell of its own: bats watches each of its commands, and this has to be quick.
	worker=$(bash -s "/proc/$DAEMON_PID/task/$DAEMON_PID/children" <<-'EOF'
		for ((end = SECONDS + 10; SECONDS < end;)); do
			for pid in $(<"$1"); do
				mapfile -t -d '' argv 2>/dev/null <"/proc/$pid/cmdline" || continue
				[ "${argv[1]-}" = @worker ] && kill -STOP "$pid" && echo "$pid" && exit
			done
		done
		exit 1
	EOF
	) || return
	while :; do
		how_far=$(api GET '/v1/projects/olga/usage?progress=true')
		jq -e '.progress.files_total == 6050' <<<"$how_far" && return
		kill -CONT "$worker"
		sleep 0.005
		kill -STOP "$worker" || return
	done
}

# On a terminal, with the worker held; "$BATS_TEST_TMPDIR"/screen is what stood there.
look_in_vain() {
	local looker rc=0
	script -qec "'$WARREN' usage olga --now" screen </dev/null >/dev/null 3>&- &
	looker=$!
	stop_worker || rc=1
	wait "$looker" || [ "$rc" = 1 ] || rc=0
	return "$rc"
}

@test "usage --now tells how far it is, and is given up when nothing moves any more" {
	export WARREN_WORK_IDLE=2s
	make_node
	start_daemon
	make_project olga
	wr start olga
	home=$(wr_json show olga | jq -r .home)
	mkdir "$home"/{0..599}
	touch "$home"/f{0..49} "$home"/{0..599}/{0..9}
	wr save olga
	[ "$(api GET '/v1/projects/olga/usage?progress=true' | jq -c '[.schema, .progress]')" = '["warren.progress/1",null]' ]
	# It may be over before it is held.
	until_true look_in_vain
	jq -e '.progress | .step == "scan" and .files > 0 and .files <= .files_total' <<<"$how_far"
	run -0 cat "$BATS_TEST_TMPDIR/screen"
	[[ $output == *"counting: files "*%*" of 6,050 files"* ]]
	[[ $output == *"looking at 'olga': nothing moved for 2s"* && $output == *"HINT: is its volume well?"* ]]
	run ! kill -0 "$worker"
	wr usage olga --now
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
	[[ ${lines[-1]} =~ ^"(total)"\ +9.0\ MiB\ +40.0\ MiB\ +28.0\ MiB ]]
	[ "$(wr_json settings olga | jq '.rev, .settings.disk.value' | paste -sd' ')" = "1 20971520" ]
	run -0 wr_json quota auto --min 10M
	jq -e '[.projects[] | [.name, .new, .changed]] == [["olga", 18874368, true], ["piet", 10485760, true]]' <<<"$output"
	[ "$(wr_json settings olga | jq '.rev, .settings.disk.value' | paste -sd' ')" = "2 18874368" ]
	run -0 wr_json quota auto --min 1M --factor 1
	jq -e 'all(.projects[]; .new >= .used)' <<<"$output"
	run -0 wr quota auto --min 1M --factor 1
	[[ $output == *"as it is"* ]]
	run -2 wr quota auto --factor 0
	run -2 wr quota auto --factor 0.9
	run -2 wr quota auto --factor 1.2345
}

@test "quota auto: decimals, what is near enough stays, what nobody counted is not lowered, one that fails stops none" {
	export WARREN_VOLUME_QUOTA=none
	make_node
	start_daemon
	for p in anna olga piet; do make_project $p disk=20M; done
	wr start olga
	noise "$(wr_json show olga | jq -r .home)/a" 8
	wr stop olga
	# Stopped, it is what its newest save says.
	run -0 wr_json quota auto --min 1M --factor 1.5
	jq -e '[.projects[] | [.name, .by, .used, .new]] ==
		[["anna", "none", 0, 1048576], ["olga", "save", 8388608, 12582912], ["piet", "none", 0, 1048576]]' <<<"$output"
	jq -e '.total == {projects: 3, used: 8388608, old: 62914560, new: 14680064}' <<<"$output"
	# 13 of 12 MiB is less than a tenth more; where all is to be exact, it is set.
	run -0 wr_json quota auto --min 1M --factor 1.6 --within 10
	jq -e '.projects[1] | [.wanted, .new, .old, .changed] == [13631488, 12582912, 12582912, false]' <<<"$output"
	[[ $(wr quota auto --min 1M --factor 1.6 --within 10) == *"olga"*"near enough"* ]]
	run -0 api POST /v1/quota/auto '{"min": "1M", "factor": 1.6, "within": 0}'
	jq -e '.projects[1] | .new == 13631488 and .changed' <<<"$output"
	# A least is one, whatever is near.
	run -0 wr_json quota auto --min 14M --within 100
	jq -e 'all(.projects[]; .new == 14 * 1048576 or .name == "olga")' <<<"$output"
	wr start piet
	run -0 wr_json quota auto --min 1M --within 0
	jq -e '.projects[2] | [.by, .new] == [null, 14680064]' <<<"$output"
	# The settings of one cannot be written.
	conf=$(echo v/repos/"$(project_id anna)"/conf)
	mv "$conf" "$conf.away"
	run -3 wr_json quota auto --min 30M
	mv "$conf.away" "$conf"
	jq -e '[.projects[] | [.name, .changed, has("error")]] ==
		[["anna", false, true], ["olga", true, false], ["piet", true, false]]' <<<"$output"
	jq -e '.total.new == .projects[0].old + 2 * 30 * 1048576' <<<"$output"
	wr stop piet
}

@test "past the quota of its history a project moves with its newest files, and nothing of it is lost" {
	cd "$BATS_TEST_TMPDIR"
	make_fleet 3
	mkdir seed && echo one >seed/f && chmod -R a+rX seed
	on a create --name x --from "$PWD/seed" -q
	on a settings x disk=1M repo_quota_factor=1 scratch=5M -q
	on a start x
	echo kept >"$(scratch_on a x)/f"
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
	run -0 on a move x --to b
	within 30 runs_on b x
	# Scratch does not travel.
	[[ $output == *"scratch   stays here, in the trash until"* ]]
	[ ! -e "$(scratch_on a x)" ]
	[ -d "$(scratch_on b x)" ] && [ -z "$(ls -A "$(scratch_on b x)")" ]
	on a events --json --project x | jq -e 'any(.events[]; .what == "scratch.aside")'
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
	run -0 on b move x --to a
	[[ $output != *scratch* ]]
	within 30 runs_on a x
	[ "$(cat "$(scratch_on a x)/f")" = kept ]
	[ "$(cat "$(tree_on a x)/f")" = five ]
	[ -z "$(git_on a x branch --list 'conflict-*')" ]
}

@test "scratch that is taken back is in the trash, comes back with the setting, and goes for good after its time" {
	export WARREN_VOLUME_QUOTA=none
	make_node
	start_daemon
	make_project olga scratch=5M command='exec sleep 1000'
	run -0 wr start olga
	scratch=$(scratch_path olga)
	[[ $output == *"scratch   $scratch, not limited"* ]]
	head -c 100000 /dev/urandom >"$scratch/f"
	run -0 wr usage olga
	[[ $output == *"scratch        not counted of 5.0 MiB, not saved, in $scratch"* ]]
	run -0 wr_json usage olga --now
	jq -e '.scratch | .by == "scan" and .bytes >= 100000 and .bytes < 200000 and .limit == null' <<<"$output"
	# Whoever works in it goes on until the next start.
	wr settings olga scratch=0
	[ -e "$scratch/f" ]
	run -3 wr restart olga
	[[ $output == *"'olga' has no scratch any more: what was in it is in the trash until"* ]]
	[ ! -e "$scratch" ]
	[[ $(wr usage olga) == *"scratch        "*", in the trash until 20"* ]]
	# Not its time yet: also a volume that is nearly full takes nothing of it.
	stop_daemon
	WARREN_VOLUME_MARKS=1,1,99 start_daemon
	wr settings olga scratch=5M
	wr stop olga
	run -0 wr start olga
	[[ $output == *"scratch   $scratch, back from the trash"* ]]
	[ -e "$scratch/f" ]
	mkdir -p "$scratch/a/b" && touch "$scratch/a/b/f" && chmod 0 "$scratch/a/b" "$scratch/a"
	wr settings olga scratch=0
	run -3 wr restart olga
	stop_daemon
	touch -d '31 days ago' "${scratch%/*}/.trash/${scratch##*/}"
	WARREN_VOLUME_MARKS=1,1,99 start_daemon
	until_true scratch_empty
	wr_json events --project olga | jq -e '[.events[].what] | index("scratch.purged")'
	[ "$(state_of olga)" = running ]
	[ "$(wr_json usage olga | jq .scratch)" = null ]
	# An empty one is nothing to be kept.
	wr settings olga scratch=5M
	wr restart olga
	[ -d "$scratch" ]
	wr settings olga scratch=0
	run -0 wr restart olga
	[ "$(find "${scratch%/*}" -mindepth 1 -name '*-*')" = "" ]
}

scratch_empty() {
	[ "$(find "${scratch%/*}" -mindepth 2)" = "" ]
}

# Numbers of the file system itself: what du counts, and a little for directories and metadata.
usage_is_counted() {
	local home=$1 bytes du
	btrfs filesystem sync v
	bytes=$(wr_json usage olga | jq 'select(.live.by == "quota") | .live.bytes')
	du=$(du -s --block-size=1 "$home" | cut -f1)
	echo "counted $bytes, du $du"
	((bytes >= du && bytes - du < 1 << 20))
}

# The prompt of the project's own user.
prompt() {
	# shellcheck disable=SC2016 # for that shell
	in_home olga env WARREN_NOTICES="$WARREN_ROOT/run/notice" bash -c 'PS1=x; . "$1"; eval "$PROMPT_COMMAND"' - \
		"$ROOT/contrib/profile.d/warren.sh" 2>&1
}

# counted_by_btrfs [classic]
counted_by_btrfs() {
	local home step
	need_root
	make_btrfs "$BATS_TEST_TMPDIR/v" "$@"
	make_node
	start_daemon
	make_project olga disk=40M repo_quota_factor=0
	wr start olga
	home=$(wr_json show olga | jq -r .home)
	for step in "a 20 -" "b 13 80" "c 6 95" "d 2 100"; do
		read -r file size level <<<"$step"
		in_home olga dd if=/dev/zero of="$file" bs=1M count="$size" conv=fsync status=none
		usage_is_counted "$home"
		wr save olga
		if [ "$level" = - ]; then notice_is olga ""; else notice_is olga "disk $level"; fi
	done
	# Also what no save takes is counted, and what is removed is not any more.
	[[ $(prompt) == *"warren: olga: the disk quota of 40.0 MiB is used up"* ]]
	in_home olga rm b c d
	usage_is_counted "$home"
	wr save olga
	notice_is olga ""
	[ -z "$(prompt)" ]
	wr stop olga
	btrfs filesystem sync v
	# Stopped, it still counts.
	run -0 wr_json quota auto --min 1M
	jq -e '.projects[0] | .by == "quota" and .used >= 20 * 1048576 and .new >= 40 * 1048576 and .new < 44 * 1048576' <<<"$output"
}

@test "usage and notices where btrfs counts: simple quotas" {
	counted_by_btrfs
}

@test "usage and notices where btrfs counts: the older kind" {
	counted_by_btrfs classic
}
