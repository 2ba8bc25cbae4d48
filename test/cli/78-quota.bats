#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: most of it is the file systems' own work
# Limits of disk and files: the drivers on real file systems, and through the daemon.  ext4 and XFS are tested in
# a virtual machine (test/vm), for not every kernel has their quotas.

bats_require_minimum_version 1.5.0
load lib
load daemon

CONFORM=$(dirname "$WARREN")/quota_conform

setup() {
	lib_setup
	need_root
	[ -x "$CONFORM" ] || skip "needs a build with tests"
	open_path "$BATS_TEST_TMPDIR"
}

# A node on btrfs with a daemon.
btrfs_node() {
	make_btrfs "$BATS_TEST_TMPDIR/v" "$@"
	make_node
	start_daemon
}

limits() {
	api GET "/v1/projects/$1" | jq -c ".limits | $2"
}

limits_are() {
	btrfs filesystem sync v
	[ "$(limits "$1" "$2")" = "$3" ]
}

# write NAME FILE MIB [FROM]
write() {
	in_home "$1" dd if="${4:-/dev/zero}" of="$2" bs=1M count="$3" conv=fsync status=none
}

# The number of a project's subvolume; the limit of one.
subvolume() {
	btrfs subvolume show "$(tree_path "$1")" | awk '/Subvolume ID:/ { print $3 }'
}
limit_of() {
	btrfs qgroup show --raw -r v | awk -v g="700/$1" '$1 == g { print $4 }'
}

M=$((1024 * 1024))

@test "the drivers: btrfs with simple quotas" {
	make_btrfs m
	run "$CONFORM" btrfs m
	echo "$output"
	((status == 0))
	[[ $output == *"# caps btrfs bytes (simple)"* ]] || skip "this kernel has the older kind alone"
}

@test "the drivers: btrfs with the older kind" {
	make_btrfs m classic
	run -0 "$CONFORM" btrfs m
	echo "$output"
	[[ $output == *"# caps btrfs bytes"$'\n'* ]]
}

@test "the drivers: none" {
	run -0 "$CONFORM" none .
	echo "$output"
	[[ $output == *"# caps none"$'\n'* ]]
}

@test "a start sets limits, settings change them at once, a stop clears them" {
	btrfs_node
	make_project ann disk=20M
	assert_equal "$(limits ann '[.driver, .bytes, .limit]')" '["btrfs",true,null]'
	output=$(do_op POST /v1/projects/ann/start)
	assert_json .receipt.limits.enforced true
	assert_json .receipt.limits.limit $((84 * M))
	assert_equal "$(limits ann '[.limit, .grace]')" "[$((84 * M)),\"open\"]"
	run ! write ann big 100
	assert_output_has "Disk quota exceeded"
	in_home ann rm big
	run -0 warren settings ann disk=200M
	assert_equal "$(limits ann .limit)" $((264 * M))
	write ann big 100
	run -0 warren show ann
	assert_output_has "btrfs: bytes"
	run -0 warren settings ann disk=20M
	do_op POST /v1/projects/ann/stop '{"no_save":true}' >/dev/null
	assert_equal "$(limits ann .limit)" null
	head -c 10M /dev/urandom >"$(tree_path ann)/more"
	# Nor is anything limited where the configuration takes it back.
	do_op POST /v1/projects/ann/start >/dev/null
	number=$(subvolume ann)
	stop_daemon
	WARREN_VOLUME_QUOTA=none start_daemon
	assert_equal "$(limits ann .driver)" '"none"'
	assert_equal "$(limit_of "$number")" none
	write ann c 1
}

@test "who is over his limit is not locked out: start, stop, save, remove, write again" {
	btrfs_node
	make_project ann disk=200M
	do_op POST /v1/projects/ann/start >/dev/null
	write ann a 90
	run -0 warren settings ann disk=20M
	run ! write ann c 1
	assert_output_has "Disk quota exceeded"
	output=$(do_op POST /v1/projects/ann/save)
	assert_json .state "done"
	output=$(do_op POST /v1/projects/ann/stop)
	assert_json .state "done"
	output=$(do_op POST /v1/projects/ann/start)
	assert_json .state "done"
	assert_json .exit 0
	run ! write ann c 1
	in_home ann rm a
	btrfs filesystem sync v
	write ann c 1
}

@test "limits come after a restore, however large it is" {
	btrfs_node
	make_project ann disk=300M
	do_op POST /v1/projects/ann/start >/dev/null
	write ann a 90 /dev/urandom
	do_op POST /v1/projects/ann/stop >/dev/null
	run -0 warren settings ann disk=20M
	tree=$(tree_path ann)
	sum=$(sha1sum <"$tree/a")
	btrfs subvolume delete "$tree" >/dev/null
	output=$(do_op POST /v1/projects/ann/start)
	assert_json .state "done"
	assert_equal "$(sha1sum <"$tree/a")" "$sum"
	assert_equal "$(stat -c %i "$tree")" 256
	run ! write ann b 1
}

@test "the grace closes when it was used and left again, and opens with the next start" {
	btrfs_node
	make_project ann disk=20M
	do_op POST /v1/projects/ann/start >/dev/null
	write ann a 30
	until_true limits_are ann .grace '"in use"'
	# It is remembered by the file system, not by us.
	kill_daemon
	start_daemon
	limits_are ann .grace '"in use"'
	in_home ann rm a
	until_true limits_are ann '[.grace, .limit]' "[\"closed\",$((20 * M))]"
	run ! write ann a 30
	do_op POST /v1/projects/ann/restart >/dev/null
	limits_are ann .grace '"open"'
}

@test "a start of the daemon clears the limits of what is not active, of nothing else" {
	btrfs_node
	make_project ann disk=20M
	make_project bob disk=20M
	do_op POST /v1/projects/ann/start >/dev/null
	number=$(subvolume bob)
	kill_daemon
	# As after a power failure: the limit is there, the project is not.
	btrfs qgroup limit 10M "700/$number" v
	# Somebody else's is not touched.
	btrfs qgroup create 1/77 v
	btrfs qgroup limit 10M 1/77 v
	start_daemon
	assert_equal "$(limits ann .limit)" $((84 * M))
	assert_equal "$(limit_of "$number")" none
	btrfs qgroup show --raw -r v | grep -E "^1/77 .* $((10 * M)) "
	api GET /v1/events | jq -e '[.events[] | select(.what == "limits.cleared")] | length == 1'
}

@test "the older kind of quotas: a project's processes make no subvolumes, where files would not count" {
	btrfs_node classic
	make_project ann disk=20M command='btrfs subvolume create sub 2>&1; sudo -V >/dev/null 2>&1; echo tried; exec sleep 1000'
	assert_equal "$(limits ann '[.bytes, .tamperproof]')" "[true,false]"
	do_op POST /v1/projects/ann/start >/dev/null
	log=n/state/log/$(project_id ann)
	until_true grep -q tried "$log"
	grep -q "Operation not permitted" "$log"
	[ ! -e "$(tree_path ann)/sub" ]
	# Set-id programs are still what they are.
	run -0 sh -c "grep -h NoNewPrivs /proc/$(pgrep -u "$(api GET /v1/projects/ann | jq .uid)" sleep)/status"
	[[ $output == *0 ]]
}

@test "a purge takes subvolumes away at once, also those that the user made" {
	btrfs_node
	make_project ann disk=20M
	do_op POST /v1/projects/ann/start >/dev/null
	in_home ann btrfs subvolume create sub >/dev/null
	in_home ann mkdir -p sub/in
	in_home ann btrfs subvolume snapshot -r sub sub/in/ro >/dev/null
	write ann sub/f 5
	do_op POST /v1/projects/ann/delete '{"force":true}' >/dev/null
	output=$(do_op POST "/v1/projects/$(api GET /v1/trash | jq -r '.projects[0].id')/purge" '{"now":true}')
	assert_json .state "done"
	assert_json .receipt.files null
	assert_equal "$(btrfs subvolume list v | wc -l)" 0
}

@test "without limits it says so" {
	export WARREN_VOLUME_QUOTA=none
	make_node
	start_daemon
	make_project ann disk=1M
	output=$(do_op POST /v1/projects/ann/start)
	assert_json .state "done"
	assert_json .receipt.limits.driver none
	assert_json .receipt.limits.enforced false
	write ann a 3
	run -0 warren show ann
	assert_output_has "nothing is enforced: [volume] quota = none"
	run warren doctor
	assert_output_has "driver none"
}

# as_user NAME COMMAND...: as the project's user, in its scratch
as_user() {
	local uid
	uid=$(api GET "/v1/projects/$1" | jq .uid)
	(cd "$(scratch_path "$1")" && setpriv --reuid "$uid" --regid "$uid" --clear-groups "${@:2}")
}

@test "scratch: made by a start, limited apart from the files, in no snapshot, kept over a stop" {
	btrfs_node
	make_project ann disk=20M scratch=30M command='echo "$WARREN_SCRATCH" >where; echo kept >"$WARREN_SCRATCH/f"; exec sleep 1000'
	output=$(do_op POST /v1/projects/ann/start)
	assert_json .exit 0
	assert_json .receipt.scratch.limit $((94 * M))
	scratch=$(scratch_path ann)
	until_true test -s "$scratch/f"
	assert_equal "$(cat "$(tree_path ann)/where")" "$scratch"
	assert_equal "$(stat -c '%a %u %i' "$scratch")" "700 $(api GET /v1/projects/ann | jq .uid) 256"
	do_op POST /v1/projects/ann/save >/dev/null
	before=$(du -s --block-size=1 "v/repos/$(project_id ann)" | cut -f1)
	run ! as_user ann dd if=/dev/urandom of=big bs=1M count=120 status=none
	assert_output_has "Disk quota exceeded"
	write ann a 10
	rm "$(tree_path ann)/a"
	do_op POST /v1/projects/ann/save >/dev/null
	(($(du -s --block-size=1 "v/repos/$(project_id ann)" | cut -f1) - before < M))
	btrfs filesystem sync v
	until_true warned ann
	until_true grace_is_used ann
	output=$(warren usage ann --json)
	jq -e --arg p "$scratch" '.scratch | .path == $p and .by == "quota" and .quota == 30 * 1048576 and
		.limit == 94 * 1048576 - 4096 and .bytes > 80000000 and .trash_until == null' <<<"$output"
	jq -e '.live.bytes < 10000000' <<<"$output"
	# The settings count at once.
	run -0 warren settings ann scratch=200M
	as_user ann dd if=/dev/zero of=more bs=1M count=50 status=none
	number=$(btrfs subvolume show "$scratch" | awk '/Subvolume ID:/ { print $3 }')
	assert_equal "$(limit_of "$number")" $((264 * M))
	do_op POST /v1/projects/ann/stop >/dev/null
	assert_equal "$(limit_of "$number")" none
	do_op POST /v1/projects/ann/start >/dev/null
	assert_equal "$(cat "$scratch/f")" kept
	assert_equal "$(limit_of "$number")" $((264 * M))
	# As after a power failure: active projects keep theirs, the rest loses it.
	kill_daemon
	start_daemon
	assert_equal "$(limit_of "$number")" $((264 * M))
	do_op POST /v1/projects/ann/stop >/dev/null
	mkdir "$scratch/roots" && chmod 700 v
	output=$(do_op POST /v1/projects/ann/chown)
	assert_json .receipt.scratch.changed 1
	assert_equal "$(stat -c %u "$scratch/roots")" "$(api GET /v1/projects/ann | jq .uid)"
	output=$(do_op POST /v1/projects/ann/start)
	assert_output_has "'ann' cannot reach its scratch: chmod o+x '$PWD/v'"
	chmod 755 v
	do_op POST /v1/projects/ann/stop >/dev/null
	kill_daemon
	btrfs qgroup limit 10M "700/$number" v
	start_daemon
	assert_equal "$(limit_of "$number")" none
}

# A daemon that starts brings back what was to be active: it may be the first.
is_done='.state == "done" or .already == true'

# control has looked after it
grace_is_used() {
	warren usage "$1" --json | jq -e '.scratch.limit == 94 * 1048576 - 4096' >/dev/null
}

warned() {
	btrfs filesystem sync v
	api GET /v1/projects/ann/state | jq -e 'any(.notices[]; .code == "scratch")' >/dev/null
}

@test "scratch: into the trash and back with its project; what its user made of it leads a purge nowhere" {
	btrfs_node
	make_project ann scratch=100M
	do_op POST /v1/projects/ann/start >/dev/null
	id=$(project_id ann)
	scratch=$(scratch_path ann)
	mkdir -m 777 outside
	echo precious >outside/f
	as_user ann sh -c "ln -s '$PWD/outside' out; ln -s '$PWD/outside/f' f; ln -s / root
		mkdir -p a/b/c; echo x >a/b/c/x; ln -s '$PWD/outside' a/b/c/out; chmod 0 a/b/c a/b a"
	as_user ann btrfs subvolume create sub >/dev/null
	do_op POST /v1/projects/ann/delete '{"force":true}' >/dev/null
	[ ! -e "$scratch" ]
	[ -d "v/scratch/.trash/$id" ]
	do_op POST "/v1/projects/$id/undelete" >/dev/null
	output=$(do_op POST /v1/projects/ann/start)
	assert_json .exit 0
	[ -L "$scratch/out" ]
	do_op POST /v1/projects/ann/delete '{"force":true}' >/dev/null
	output=$(do_op POST "/v1/projects/$id/purge" '{"now":true}')
	assert_json .state "done"
	assert_equal "$(find v/scratch -mindepth 2)" ""
	assert_equal "$(btrfs subvolume list v | wc -l)" 0
	assert_equal "$(cat outside/f)" precious
}

@test "scratch: cut off at any step, the next one finishes it" {
	local at
	btrfs_node
	make_project ann scratch=100M
	id=$(project_id ann)
	scratch=$(scratch_path ann)
	crash() {
		stop_daemon
		WARREN_CRASH=$1 start_daemon
		shift
		output=$(do_op "$@")
		assert_json .state failed
		stop_daemon
		start_daemon
		output=$(do_op "$@")
		jq -e "$is_done" <<<"$output"
	}
	for at in scratch-made scratch; do
		crash "life.start.$at" POST /v1/projects/ann/start
		assert_equal "$(stat -c '%a %u' "$scratch")" "700 $(api GET /v1/projects/ann | jq .uid)"
		assert_equal "$(api GET /v1/projects/ann | jq -r .state.state)" running
		number=$(btrfs subvolume show "$scratch" | awk '/Subvolume ID:/ { print $3 }')
		assert_equal "$(limit_of "$number")" $((164 * M))
		do_op POST /v1/projects/ann/stop >/dev/null
		[ "$at" = scratch ] || btrfs subvolume delete "$scratch" >/dev/null
	done
	echo kept >"$scratch/f"
	crash life.delete.scratch POST "/v1/projects/$id/delete"
	assert_equal "$(cat "v/scratch/.trash/$id/f")" kept
	crash life.undelete.scratch POST "/v1/projects/$id/undelete"
	assert_equal "$(cat "$scratch/f")" kept
	do_op POST "/v1/projects/$id/delete" >/dev/null
	crash life.purge.scratch POST "/v1/projects/$id/purge" '{"now":true}'
	[ ! -e "v/scratch/.trash/$id" ]
}

@test "scratch: a plain directory is limited once it was empty; in the trash it keeps its user too" {
	make_btrfs v
	make_node
	WARREN_VOLUME_QUOTA=none start_daemon
	make_project ann scratch=20M
	do_op POST /v1/projects/ann/start >/dev/null
	scratch=$(scratch_path ann)
	as_user ann touch f
	do_op POST /v1/projects/ann/stop >/dev/null
	with_quotas
	output=$(do_op POST /v1/projects/ann/start)
	[[ $(jq -r '.receipt.warnings[]' <<<"$output") == *"is no subvolume; empty it, then stop and start"* ]]
	rm "$scratch/f"
	do_op POST /v1/projects/ann/stop >/dev/null
	output=$(do_op POST /v1/projects/ann/start)
	assert_json .receipt.scratch.enforced true
	as_user ann mkdir d
	run -0 warren settings ann scratch=0
	do_op POST /v1/projects/ann/restart >/dev/null
	trashed=${scratch%/*}/.trash/${scratch##*/}
	mkdir "$trashed/roots"
	do_op POST /v1/projects/ann/stop >/dev/null
	output=$(do_op POST /v1/projects/ann/chown)
	assert_json .receipt.scratch.changed 1
	# It comes back to a project that was given another user meanwhile.
	uid=$(api GET /v1/projects/ann | jq .uid)
	chown -R 4242:4242 "$trashed"
	run -0 warren settings ann scratch=20M
	output=$(do_op POST /v1/projects/ann/start)
	assert_json .receipt.scratch.back true
	assert_equal "$(stat -c %u "$scratch" "$scratch/d" "$scratch/roots" | sort -u)" "$uid"
	# What lies there by the same name and is another's is not used.
	do_op POST /v1/projects/ann/stop >/dev/null
	chown 4242 v/scratch
	output=$(do_op POST /v1/projects/ann/start)
	[[ $(jq -r '.receipt.warnings[]' <<<"$output") == *"v/scratch' belongs to uid 4242"* ]]
	assert_equal "$(stat -c %u v/scratch)" 4242
	chown 0 v/scratch
}

# ---- plain directories on btrfs ----

# A project whose files lie in a plain directory, as they did before there were quotas.
plain_project() {
	make_btrfs "$BATS_TEST_TMPDIR/v" "$@"
	make_node
	WARREN_VOLUME_QUOTA=none start_daemon
	make_project ann disk=20M 'snapshots_link=""'
	tree=$(tree_path ann)
	[ "$(stat -c %i "$tree")" != 256 ]
}

with_quotas() {
	stop_daemon
	start_daemon
}

in_subvolume() { [ "$(stat -c %i "$(tree_path ann)")" = 256 ]; }
stage_is_empty() { [ -z "$(ls -A v/projects/.stage)" ]; }

# Of everything that a file system tells, what another copy can have as well.
all_of() {
	(cd "$1" && find . -printf '%P %y %m %U %G %s %T@ %l %n\n' | LC_ALL=C sort &&
		find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfacl -n &&
		find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m - &&
		find . '(' -type f -o -type d ')' -print0 | LC_ALL=C sort -z | xargs -0 lsattr -d &&
		find . -type f -exec sha1sum {} + | LC_ALL=C sort)
}

# One of each kind.
all_kinds() {
	(cd "$1" &&
		mkdir -p d/deep 'odd
 name' shut open && echo one >f && echo two >d/deep/g && ln f d/name && ln -s nowhere l && ln l l2 &&
		mkfifo fifo && truncate -s 5M sparse && head -c 300K /dev/urandom >'odd
 name/data' && touch empty && cp f nocow-not && touch nocow packed && chattr +C nocow && chattr +c packed &&
		head -c 200K /dev/zero | tee nocow >packed && setfattr -n user.note -v said f &&
		setfacl -m u:12345:r f && setfacl -d -m u:12345:rwx open && echo in >open/in &&
		chmod 6755 d/deep/g && chmod 2775 d && chattr +d empty && touch -d 2001-02-03T04:05:06.789 f d/deep l2 -h &&
		chown -R --no-dereference --reference=. . && chmod 0 shut && chmod 4711 nocow-not && chattr +i packed)
}

@test "a plain directory becomes a subvolume at its start, as it was to the last attribute" {
	plain_project classic
	all_kinds "$tree"
	warren save ann -q
	all_of "$tree" >before
	with_quotas
	output=$(do_op POST /v1/projects/ann/start)
	assert_json .receipt.limits.enforced true
	assert_json .exit 0
	in_subvolume
	stage_is_empty
	all_of "$tree" >after
	diff before after
	# What a create finds in the stage of a project that is there is not its own.
	mkdir -p "v/projects/.stage/${tree##*/}/${tree##*/}" && warren create --name bob -q
	[ -d "v/projects/.stage/${tree##*/}/${tree##*/}" ] && warren delete bob -q
	left=v/projects/.stage/${tree##*/}
	warren save ann --json | jq -e '.made == false'
	chattr -i "$tree/packed"
	run ! write ann big 100
	assert_output_has "Disk quota exceeded"
	# Once that is purged, nothing of it stays.
	warren delete ann --force -q
	warren purge "${tree##*/}" --now -q
	warren create --name carl -q
	[ ! -e "$left" ]
}

@test "simple quotas: so it does, and what does not count is said once" {
	plain_project
	head -c 30M /dev/urandom >"$tree/old"
	chown --reference="$tree" "$tree/old"
	with_quotas
	output=$(do_op POST /v1/projects/ann/start)
	in_subvolume
	[[ $(jq -r '.receipt.warnings[]' <<<"$output") == *"do not count the 30.0 MiB that were there before"* ]]
	run ! write ann big 100
	assert_output_has "Disk quota exceeded"
	do_op POST /v1/projects/ann/restart | jq -e '.exit == 0'
}

@test "killed while it becomes a subvolume: the one or the other, whole" {
	plain_project
	all_kinds "$tree"
	all_of "$tree" >before
	for at in subvolume cloned exchanged; do
		stop_daemon
		WARREN_CRASH=life.start.$at start_daemon
		do_op POST /v1/projects/ann/start | jq -e '.state == "failed"'
		all_of "$tree" | diff before -
		[ "$at" = exchanged ] || ! in_subvolume
		# So that the next daemon does not begin by itself.
		do_op POST /v1/projects/ann/stop '{"no_save":true}' >/dev/null
	done
	in_subvolume
	stop_daemon
	start_daemon
	do_op POST /v1/projects/ann/start | jq -e "$is_done"
	stage_is_empty
	all_of "$tree" | diff before -
	chattr -i "$tree/packed"
}

@test "what cannot become a subvolume stays what it is, and the start says why" {
	plain_project
	echo one >"$tree/f"
	ln "$tree/f" v/elsewhere
	with_quotas
	inode=$(stat -c %i "$tree")
	stays() {
		output=$(do_op POST /v1/projects/ann/start)
		assert_json .state "done"
		assert_json .receipt.limits.enforced false
		[[ $(jq -r '.receipt.warnings[]' <<<"$output") == *"$1"* ]]
		[ "$(stat -c %i "$tree")" = "$inode" ]
		stage_is_empty
		do_op POST /v1/projects/ann/stop '{"no_save":true}' >/dev/null
	}
	stays "'f' has names outside of the working files"
	rm v/elsewhere
	# Nor while somebody may be at work in the home, as after a start that was killed at its end.
	rm -r n/state/plain
	stop_daemon
	WARREN_CRASH=life.start.presented WARREN_VOLUME_QUOTA=none start_daemon
	do_op POST /v1/projects/ann/start | jq -e '.state == "failed"'
	with_quotas
	stays "are no subvolume; stop it and start it"
	ln "$tree/f" v/elsewhere
	stays "'f' has names outside of the working files"
	rm v/elsewhere
	# What takes as long as there are files is not tried at each start; when it is, is said.
	stays "'f' has names outside of the working files; mend that: a start after 20"
	rm -r n/state/plain
	chattr +i "$tree"
	stays "'.' is immutable or append-only"
	chattr -i "$tree"
	rm -r n/state/plain
	# Where it could fill a volume for all who are there, nothing is begun, nor remembered.
	stop_daemon
	WARREN_VOLUME_MARKS=1,99,99 start_daemon
	head -c 20M /dev/urandom >v/fill
	btrfs filesystem sync v
	stays "the volume is too full"
	[ ! -e n/state/plain ] || [ -z "$(ls n/state/plain)" ]
	rm v/fill
	with_quotas
	btrfs subvolume create "$tree/sub" >/dev/null
	stays "'sub' is a subvolume of its own"
	btrfs subvolume delete "$tree/sub" >/dev/null
	rm -r n/state/plain
	# Whoever writes on in what would be removed is noticed; that may be over with the next start.
	exec 8>>"$tree/f"
	stays "somebody has 'f' open to write"
	exec 8>&-
	# Also who sets nothing but an attribute, which leaves size and times of the file alone. It takes long enough that
	# the writer comes to work meanwhile.
	seq -f "$tree/n%g" 3000 | xargs touch
	python3 -c 'import os, sys, time
f, end = os.open(sys.argv[1], os.O_RDONLY), time.monotonic() + 60
while time.monotonic() < end: os.setxattr(f, "user.n", os.urandom(4).hex().encode())' "$tree/f" 3>&- &
	writer=$!
	until_true getfattr -n user.n "$tree/f"
	stays "'f' was changed meanwhile"
	kill "$writer"
	do_op POST /v1/projects/ann/start | jq -e .receipt.limits.enforced
	in_subvolume
	[ "$(cat "$tree/f")" = one ]
}

@test "a user's own subvolumes are saved as directories, and restored as such" {
	btrfs_node
	make_project ann
	warren start ann -q
	in_home ann sh -c 'echo one >f'
	warren save ann -q
	in_home ann sh -c 'btrfs subvolume create sub && mkdir sub/d && echo two >sub/d/g && ln sub/d/g sub/h &&
		btrfs subvolume create sub/d/in && echo three >sub/d/in/i' >/dev/null
	output=$(warren save ann --json)
	assert_json .files.new 3
	assert_json .not_protected.count 0
	[ "$(warren cat ann main:sub/d/in/i)" = three ]
	# What is unchanged there is known to be.
	in_home ann sh -c 'echo more >f'
	output=$(warren save ann --json)
	assert_json .bytes.read 5
	warren stop ann -q
	btrfs subvolume delete "$(tree_path ann)/sub/d/in" "$(tree_path ann)/sub" >/dev/null
	warren restore ann main:sub --in-place -q
	assert_equal "$(cat "$(tree_path ann)/sub/d/in/i")" three
	[ "$(stat -c %i "$(tree_path ann)/sub")" != 256 ]
}

@test "hooks are denied what a project's processes are" {
	cat >hook <<-'E'
		#!/bin/sh
		btrfs subvolume create made 2>&1
		exit 0
	E
	chmod 755 hook
	make_btrfs v
	make_node
	WARREN_HOOKS_STARTED=$PWD/hook start_daemon
	make_project ann
	do_op POST /v1/projects/ann/start >answer
	grep -q "Operation not permitted" "n/state/op/$(jq -r .id answer)/log"
	[ ! -e "$(tree_path ann)/made" ]
}
