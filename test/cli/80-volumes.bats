#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it fills disks
# Volumes that fill up: filled to the last byte on every file system, and out of inodes; what stops, what goes on,
# and how all comes back by Warren's own commands.  Nothing of Warren's is ever removed by hand here.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet

setup() {
	lib_setup
	need_root
	open_path "$BATS_TEST_TMPDIR"
}

# volume FS SIZE [OPTION]...: a file system at v, and a node on it whose daemon runs
volume() {
	local fs=$1 size=$2
	shift 2
	command -v "mkfs.$fs" >/dev/null || skip "there is no mkfs.$fs"
	truncate -s "$size" disk
	"mkfs.$fs" -q "$@" disk >/dev/null
	mkdir -p v
	mount -o loop disk v 2>/dev/null || skip "$fs cannot be mounted here"
	chmod 755 v
	[ ! -d v/lost+found ] || rmdir v/lost+found
	RESERVE=16M make_node
	unset WARREN_VOLUME_MARKS
	start_daemon
}

# A directory is filled until neither bytes nor names fit in.
FILL='
import os
def until_full(f):
    try:
        f()
    except OSError:
        pass
def big(size):
    with open("big%d" % size, "wb", buffering=0) as f:
        while f.write(os.urandom(size)):
            pass
def small():
    for n in range(60000):
        with open("x%d" % n, "wb") as f:
            f.write(b"x" * 1500)
for size in (1 << 20, 4096):
    until_full(lambda: big(size))
    os.sync()
until_full(small)
os.sync()
'
fill() { /usr/bin/python3 -c "$FILL"; }

seeded() {
	make_project "$1" "${@:2}"
	warren start "$1" -q
	in_home "$1" sh -c 'echo one >f; mkdir -p d; head -c 300K /dev/urandom >d/g'
	warren save "$1" -q
}

room() { warren volume list --json | jq -r ".volumes[0] | $1"; }
room_is() { [ "$(room "$1")" = "$2" ]; }
dirty() { jq .dirty "$WARREN_ROOT/state/control/$(project_id "$1")"; }
event() { api GET /v1/events | jq -e "any(.events[]; $1)" >/dev/null; }

# NAME...: each runs, can be saved, and holds what it should; the reserve is whole again.
all_well() {
	local name
	# btrfs frees a subvolume when it finds the time: within two of its transactions, of 30 s at most.
	within 70 room_is .mark none
	for name in "$@"; do
		in_home "$name" sh -c 'date +%N >f'
		warren save "$name" --json | jq -e '.made and .safe' >/dev/null
		[ "$(warren cat "$name" main:f)" = "$(in_home "$name" cat f)" ]
		[ "$(state_of "$name")" = running ]
		warren repo verify -q -r "v/repos/$(project_id "$name")"
	done
	until_true room_is '.reserve | .bytes == .wanted and .files == .files_wanted' true
}

# Whatever is full: nothing new comes, what is there can be started, stopped and looked at.
all_refused() {
	run -4 warren create --name carl
	assert_output_has "volume '$PWD/v' is "
	assert_output_has "past its mark of "
	run -0 warren start old
	[ "$(state_of old)" = running ]
	run warren stop old
	[ "$status" = 0 ] || [ "$status" = 3 ]
	[ "$(state_of old)" = stopped ]
	[ "$(warren cat old main:f)" = one ]
	run -1 warren status
	assert_output_has "volume $PWD/v is "
}

# by_user: ann fills her home, is stopped, and is purged; the others saw nothing of it.
by_user() {
	in_home ann /usr/bin/python3 -c "$FILL"
	all_refused
	in_home ann sh -c 'echo two >f' || true # not everywhere is there room for it
	run warren save ann
	[ "$status" = 1 ] || [ "$status" = 4 ]
	[ "$(state_of ann)" = running ]
	run -3 warren stop ann
	[ "$(state_of ann)" = stopped ]
	[ "$(dirty ann)" = true ]
	[ "$(stat -c %s "$(tree_path ann)/d/g")" = 307200 ]
	run -0 warren start ann
	run -3 warren delete ann --force
	run -0 warren undelete ann
	run -0 warren delete ann
	run -0 warren purge ann --now
	all_well bob
}

# by_stranger: somebody else's file fills the volume; what is old goes all the same.
by_stranger() {
	mkdir v/other
	(cd v/other && fill)
	all_refused
	run -0 warren delete old
	run -0 warren purge old --now
	run warren stop bob
	[ "$(state_of bob)" = stopped ]
	warren start bob -q
	rm -r v/other
	all_well bob
}

# by_repositories: a project is saved, with nothing of the old in the new, until that fails.
by_repositories() {
	seeded eve
	for ((n = 0; n < 20; n++)); do
		in_home eve sh -c 'head -c 25M /dev/urandom >big' || break
		warren save eve -q || break
	done
	((n > 1 && n < 20))
	in_home eve /usr/bin/python3 -c "$FILL"
	run ! warren save eve
	[ "$(state_of eve)" = running ]
	warren repo verify -q -r "v/repos/$(project_id eve)"
	run -3 warren stop eve
	[ "$(state_of eve)" = stopped ]
	run -0 warren delete eve
	run -0 warren purge eve --now
	all_well bob
}

filled() {
	volume "$@"
	seeded ann
	seeded bob
	seeded old
	warren stop old -q
	by_user
	by_stranger
	by_repositories
	[ "$(api GET /v1/projects | jq -c '[.projects[].name]')" = '["bob"]' ]
}

@test "ext4: full by a user, by a stranger, by repositories, and back" {
	filled ext4 160M
}

@test "XFS: likewise" {
	filled xfs 300M
}

@test "btrfs: likewise, with no room for metadata either" {
	filled btrfs 200M
}

@test "out of inodes, and back" {
	volume ext4 200M -N 1200
	seeded ann
	seeded bob
	seeded old
	warren stop old -q
	in_home ann sh -c 'seq 2000 | xargs touch' 2>/dev/null || true
	all_refused
	room_is '.inodes_free < 100 and .bytes_free > 50000000' true
	run -1 warren status
	assert_output_has "of the inodes full"
	in_home ann sh -c 'seq 3000 4000 | xargs touch' 2>/dev/null || true
	run ! warren save ann
	[ "$(state_of ann)" = running ]
	run -3 warren stop ann
	[ "$(dirty ann)" = true ]
	[ "$(state_of ann)" = stopped ]
	[ "$(cat "$(tree_path ann)/f")" = one ]
	run -0 warren delete ann
	run -0 warren purge ann --now
	all_well bob
}

# to PERCENT: the volume is filled so far by somebody else, or emptied
to() {
	local all used want have
	have=$(stat -c %s v/other 2>/dev/null || echo 0)
	all=$(room .bytes)
	used=$(room .bytes_used)
	want=$((all * $1 / 1000 - used + have))
	rm -f v/other
	fallocate -l "$want" v/other
	sync -f v
}
mark_is() { room_is .mark "$1"; }

@test "marks: no new project, then expired trash goes, then the largest growers make no snapshots" {
	volume ext4 300M
	stop_daemon
	export WARREN_TRASH_KEEP=1s
	start_daemon
	seeded bob
	seeded ann
	seeded old
	in_home ann sh -c 'head -c 8M /dev/urandom >grown'
	warren save ann -q
	warren delete old --force -q
	run -0 warren volume list --json
	assert_json '.volumes[0].growers[0].name' ann
	assert_json '.volumes[0].mark' none

	to 860
	until_true mark_is new
	event '.what == "volume.mark" and .detail.growers[0].name == "ann"'
	run -4 warren create --name carl
	assert_output_has "volume '$PWD/v' is 86 % full, past its mark of 85 %; grew most within a day: ann "
	in_home bob sh -c 'date +%N >f'
	warren save bob --json | jq -e .made
	run -3 warren status
	assert_output_has "past its mark of 85 %"
	run warren doctor
	assert_output_has "takes no new projects"
	# It is left a little below where it was reached.
	to 845
	sleep 0.1
	run -4 warren create --name carl
	[ "$(warren trash list --json | jq '.projects | length')" = 1 ]

	to 930
	trash_is_empty() { warren trash list --json | jq -e '.projects == []'; }
	until_true trash_is_empty
	run -1 warren status
	in_home ann sh -c 'date +%N >f'
	warren save ann --json | jq -e .made

	to 975
	until_true mark_is snapshot
	snapshots=$(warren snapshots ann --json | jq '.snapshots | length')
	in_home ann sh -c 'date +%N >f'
	in_home bob sh -c 'date +%N >f'
	run -4 warren save ann
	assert_output_has "no snapshot of 'ann': volume '$PWD/v' is 97 % full, past its mark of 97 %; it grew by "
	event '.what == "save.refused" and .name == "ann"'
	[ "$(warren snapshots ann --json | jq '.snapshots | length')" = "$snapshots" ]
	warren save bob --json | jq -e .made
	# Its own user hears of nobody else.
	[[ $output != *bob* ]]
	run -3 warren stop ann
	assert_output_has "the newest files are saved in its stead"
	[ "$(state_of ann)" = stopped ]
	run -0 warren start ann
	run -0 warren delete bob --force
	rm v/other
	all_well ann
	run -0 warren create --name carl
}

@test "the reserve: killed anywhere in taking it and filling it up" {
	volume ext4 150M
	seeded ann
	for at in room.take room.taken; do
		(mkdir -p v/other && cd v/other && fill)
		run warren stop ann
		[ "$(state_of ann)" = stopped ]
		stop_daemon
		WARREN_CRASH=$at start_daemon
		run ! warren start ann
		stop_daemon
		start_daemon
		warren start ann -q
		[ "$(room '.reserve | .bytes < .wanted')" = true ]
		rm -r v/other
		all_well ann
	done
	for at in room.refill room.refilled; do
		(mkdir -p v/other && cd v/other && fill)
		run warren stop ann
		warren start ann -q
		[ "$(room '.reserve | .bytes < .wanted')" = true ]
		stop_daemon
		rm -r v/other
		WARREN_CRASH=$at "$WARREN" serve </dev/null >>serve.log 2>&1 3>&- 4>&- &
		DAEMON_PID=$!
		ended() { ! kill -0 "$DAEMON_PID" 2>/dev/null; }
		until_true ended
		wait "$DAEMON_PID" || true
		start_daemon
		all_well ann
	done
}

@test "a node past its first mark gets no new copies, and hubs place none there" {
	make_fleet 3
	stop_node c
	start_node c WARREN_VOLUME_MARKS=1,100,100
	run -3 on a create --name x
	assert_output_has "replica c (dc3) is behind: its volume takes no objects now"
	placed_full() {
		on a explain x --json | jq -e 'any(.placement[]; .name == "c" and .reason == "full")' >/dev/null
	}
	until_true placed_full
	on a create --name y -q
	on a explain y --json | jq -e '[.members[].name] | sort == ["a", "b"]'
	run -4 on c create --name z
	assert_output_has "past its mark of 1 %"
	stop_node c
	start_node c
	not_full() { ! placed_full; }
	until_true not_full
}
