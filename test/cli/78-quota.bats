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

teardown() {
	daemon_teardown
}

# btrfs DIR [simple]: a file system of its own, its quotas off, or of the older kind
make_btrfs() {
	grep -qw btrfs /proc/filesystems || modprobe btrfs 2>/dev/null || skip "this kernel has no btrfs"
	mkdir -p "$1"
	truncate -s 1G "$1.img"
	mkfs.btrfs -q "$1.img" >/dev/null
	mount -o loop "$1.img" "$1" || skip "loop devices cannot be mounted here"
	chmod 755 "$1"
	[ "${2-}" != classic ] || btrfs quota enable "$1"
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

# in_home NAME COMMAND...: as the project's user, in its home
in_home() {
	local name=$1 uid home
	shift
	uid=$(api GET "/v1/projects/$name" | jq .uid)
	home=$(api GET "/v1/projects/$name" | jq -r .home)
	(cd "$home" && HOME=$home setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@")
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
