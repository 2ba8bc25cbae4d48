#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: the ways back from accidents are those of life_test and task_test
# Full disks, lost volumes, histories moved by others, homes that somebody else holds: nothing is lost,
# no state is wrong, and the way out is said.

bats_require_minimum_version 1.5.0
load lib
load daemon

setup() {
	cd "$BATS_TEST_TMPDIR" || return 1
	HELD=
}

teardown() {
	[ -z "$HELD" ] || kill "$HELD" || true
	daemon_teardown
	! mountpoint -q "$BATS_TEST_TMPDIR/v" || umount "$BATS_TEST_TMPDIR/v"
}

warren() { "$WARREN" "$@"; }

node() {
	make_node
	start_daemon
}

dirty() { jq .dirty "$WARREN_ROOT/state/control/$(project_id "$1")"; }

# Real git on the repository of a project, as its owner.
project_git() {
	local repo=v/repos/$1
	shift
	local as=()
	[ "$(id -u)" != 0 ] || as=(setpriv --reuid "$NODE_UID" --regid "$NODE_UID" --clear-groups)
	"${as[@]}" env HOME=/nonexistent git --git-dir="$PWD/$repo" -c safe.directory='*' "$@"
}

@test "a folder that cannot be made is an error, and the daemon lives" {
	node
	seeded ann
	for path in ../z f/z; do
		run ! warren mkdir ann "$path"
		daemon_answers
	done
	warren mkdir ann x/y
}

@test "a home moves only while it is not in use; [node] home is where new projects begin" {
	make_node
	mkdir homes
	printf '[node]\nhome = %s/homes/{name}\n' "$PWD" >"$WARREN_ROOT/warren.conf"
	start_daemon
	seeded ann
	warren start ann
	[ "$(cat homes/ann/f)" = one ]
	run -4 warren settings ann "home=$PWD/homes/other"
	[[ $output == *"warren stop ann"* ]]
	[ "$(state_of ann)" = running ]
	warren stop ann
	[ ! -e homes/ann/f ]
	warren settings ann "home=$PWD/homes/other"
	warren start ann
	[ "$(cat homes/other/f)" = one ]
	warren stop ann
	[ ! -e homes/other/f ]
}

@test "the link to the history is not spoken of as unprotected" {
	node
	seeded ann
	warren start ann
	warren save ann --json | jq -e '.not_protected.count == 0'
	change ann .warrenignore f
	warren save ann --json | jq -e '.not_protected.count == 1'
}

@test "a volume that is lost is named by what fails, and all goes on when it is back" {
	node
	seeded ann
	mv v/volume.json kept
	run warren save ann
	[ "$status" != 0 ]
	[[ $output == *"$PWD/v"*volume.json* ]]
	mv kept v/volume.json
	warren save ann
}

# full blocks|inodes
full() {
	[ "$(id -u)" = 0 ] || skip "mounts a file system"
	truncate -s 48M disk
	mkfs.ext4 -q -N 2000 disk
	mkdir v
	mount -o loop disk v 2>/dev/null || skip "no loop devices"
	rmdir v/lost+found
	node
	seeded ann 'command=sleep 1000'
	warren start ann
	mkdir v/fill
	if [ "$1" = inodes ]; then
		(cd v/fill && seq 5000 | xargs touch) 2>/dev/null || true
	else
		head -c 100M /dev/zero >v/fill/1 2>/dev/null || true
		for ((n = 0; n < 2000; n++)); do
			echo x >"v/fill/x$n" || break
		done 2>/dev/null
	fi
	change ann f edited 2>/dev/null || true
	run -1 warren save ann
	[ "$(state_of ann)" = running ]
	run -3 warren stop ann
	[ "$(state_of ann)" = stopped ]
	[ "$(dirty ann)" = true ]
	[ ! -e "$WARREN_ROOT/home/ann/f" ]
	run ! pgrep -u "$(api GET /v1/projects/ann | jq .uid)"
	rm -rf v/fill
	change ann f edited
	warren start ann
	[ "$(cat "$WARREN_ROOT/home/ann/f")" = edited ]
	warren save ann
	warren stop ann
	[ "$(dirty ann)" = false ]
}

@test "a full volume: the project stops, its state is true, nothing is lost" {
	full blocks
}

@test "a volume without inodes: likewise" {
	full inodes
}

@test "history taken back by others: the files of the lost snapshot go to a side branch, once" {
	command -v git >/dev/null || skip "git is not installed"
	node
	seeded ann
	id=$(project_id ann)
	change ann mine mine
	warren save ann
	project_git "$id" update-ref refs/heads/main main~1
	stop_daemon
	WARREN_CRASH=life.start.salvaged start_daemon
	run ! warren start ann
	stop_daemon
	start_daemon
	# Unless the daemon brought it back by itself meanwhile.
	run warren start ann
	[ "$status" = 3 ] || [[ $output == *already* ]]
	[ ! -e "$(tree_path ann)/mine" ]
	[ "$(project_git "$id" for-each-ref --format=x 'refs/heads/conflict-*')" = x ]
	branch=$(project_git "$id" for-each-ref --format='%(refname:short)' 'refs/heads/conflict-*')
	[ "$(warren cat ann "$branch:mine")" = mine ]
	# While it runs: each save of files off the line adds to one branch, if they changed.
	change ann mine again
	warren save ann
	project_git "$id" update-ref refs/heads/main main~1
	for text in again again other; do
		change ann mine "$text"
		run -3 warren save ann
	done
	run -3 warren stop ann
	[ "$(dirty ann)" = true ]
	[ "$(project_git "$id" for-each-ref --format=x 'refs/heads/conflict-*' | wc -l)" -le 2 ]
}

@test "a safety snapshot is kept as long as it says, however old the files; users' tags are theirs" {
	make_node
	printf '[restore]\nsafety_keep = 2s\n' >"$WARREN_ROOT/warren.conf"
	start_daemon
	seeded ann
	change ann f later
	warren save ann --tag before-upgrade
	then=$(warren snapshots ann --json | jq -r '.snapshots[0].time | fromdate')
	old() { (($(date +%s) > then + 2)); }
	until_true old
	# Nothing differs from what was saved before: the snapshot is new all the same.
	undo=$(warren undo ann before-upgrade --json | jq -r .undo)
	change ann f last
	read -ra words <<<"$undo"
	"${words[@]}"
	[ "$(cat "$(tree_path ann)/f")" = later ]
	# The newest one that an operation made.
	warren undo ann
	[ "$(cat "$(tree_path ann)/f")" = last ]
	[ "$(warren cat ann before-upgrade:f)" = later ]
}

@test "a home that somebody else holds when it goes is not called clean" {
	[ "$(id -u)" = 0 ] || skip "needs mounts"
	node
	seeded ann
	warren start ann
	(cd "$WARREN_ROOT/home/ann" && exec sleep 1000 3>>held 4>&-) &
	HELD=$!
	until_true test -e "$WARREN_ROOT/home/ann/held"
	run -3 warren stop ann
	[[ $output == *"open"* ]]
	[ "$(state_of ann)" = stopped ]
	[ "$(dirty ann)" = true ]
	kill "$HELD"
	wait "$HELD" || true
	HELD=
	warren start ann
	warren stop ann
	[ "$(dirty ann)" = false ]
}

@test "the command that a receipt names brings back what was there, whatever it is called" {
	node
	seeded ann
	name="it's \$(touch pasted) \"x\""
	change ann "$name" first
	warren save ann --tag t
	change ann "$name" second
	warren restore ann "t:$name" --in-place --json | jq -r .undo >undo
	[ "$(cat "$(tree_path ann)/$name")" = first ]
	sed -i 's/^warren/"$WARREN"/' undo
	. ./undo
	[ "$(cat "$(tree_path ann)/$name")" = second ]
	[ ! -e pasted ]
	# A folder: also what was added goes again. A new file: there is nothing to bring back.
	rm "$(tree_path ann)/d/g"
	change ann d/h new
	warren restore ann t:d --in-place --json | jq -r .undo >undo
	[ -e "$(tree_path ann)/d/g" ]
	sed -i 's/^warren/"$WARREN"/' undo
	. ./undo
	[ ! -e "$(tree_path ann)/d/g" ]
	[ -e "$(tree_path ann)/d/h" ]
	warren restore ann t:f --to d --json | jq -e '.undo == null'
	# A place that cannot be is a refusal: nothing was changed, no state is wrong.
	run ! warren restore ann t --to f
	[ "$(state_of ann)" = stopped ]
}

@test "records that cannot be read: a stop ends what runs, a save writes the state anew" {
	node
	seeded ann 'command=sleep 1000'
	id=$(project_id ann)
	warren start ann
	echo '{garb' >"v/repos/$id/conf/state.json"
	[ "$(state_of ann)" = error ]
	warren save ann
	[ "$(state_of ann)" = running ]
	change ann f edited
	echo garbage >"$WARREN_ROOT/state/control/$id"
	run -3 warren stop ann
	[ "$(state_of ann)" = stopped ]
	[ ! -e "$WARREN_ROOT/home/ann/f" ]
	run ! warren start ann
	[[ $output == *"move it away"* ]]
	[ "$(cat "$WARREN_ROOT/state/control/$id")" = garbage ]
	rm "$WARREN_ROOT/state/control/$id"
	run -3 warren start ann
	branch=$(warren start ann --json >/dev/null && warren op list --json | jq -r '[.operations[] |
		select(.kind == "start" and .receipt.salvaged)][0].receipt.salvaged')
	[ "$(warren cat ann "$branch:f")" = edited ]
	warren stop ann
}

@test "with one volume lost, what lies on others goes on; what lies there is refused by its name" {
	make_node
	"$WARREN" volume add --allow-root-fs "$PWD/w" </dev/null
	start_daemon
	warren create --name ann --volume "$PWD/v"
	warren create --name bob --volume "$PWD/w"
	warren start bob
	mv w/volume.json kept
	change ann f edited
	warren start ann
	warren save ann
	warren stop ann
	[ "$(warren cat ann main:f)" = edited ]
	warren create --name carl
	warren delete carl
	warren purge carl --now
	for command in save stop restart 'delete --force'; do
		# shellcheck disable=SC2086 # words
		run ! warren $command bob
		echo "$command: $output"
		[[ $output == *"volume '$PWD/w'"* ]]
	done
	run ! warren create --name dora --volume "$PWD/w"
	mv kept w/volume.json
	within_reach() { warren save bob; }
	until_true within_reach
	warren stop bob
}

@test "scratch on a volume that is lost is not made anew elsewhere, and follows its project when that is back" {
	make_node
	"$WARREN" volume add --allow-root-fs "$PWD/w" </dev/null
	start_daemon
	for name in ann bob; do
		warren create --name "$name" --volume "$PWD/v"
		api PATCH "/v1/projects/$name/settings" '{"set":["scratch=1M"]}' >/dev/null
		run warren start "$name" # with a word about directories above
		warren stop "$name"
		id=$(api GET "/v1/projects/$name" | jq -r .id)
		mkdir -p w/scratch/.trash
		echo kept >"v/scratch/$id/f"
		mv "v/scratch/$id" w/scratch/
	done
	ann=$(api GET /v1/projects/ann | jq -r .id)
	mv w/volume.json kept
	run -3 warren start ann
	[[ $output == *"scratch of 'ann'"*"volume '$PWD/w'"* ]]
	[ ! -e "v/scratch/$ann" ]
	warren stop ann
	warren delete bob
	mv kept w/volume.json
	until_true stored_again
	run warren start ann
	[ "$(cat "w/scratch/$ann/f")" = kept ]
	stop_daemon
	start_daemon
	[ "$(cat "w/scratch/.trash/$id/f")" = kept ]
	warren undelete bob
	[ "$(cat "w/scratch/$id/f")" = kept ]
	warren delete bob
	warren purge bob --now
	[ ! -e "w/scratch/.trash/$id" ]
}

stored_again() { warren save ann; }
