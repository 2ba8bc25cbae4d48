# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For the bats files that need a daemon:  load lib; load daemon
#
#   make_node                a node below $WARREN_ROOT, with one volume
#   start_daemon [OPTION]... serve, and wait until it answers
#   stop_daemon              SIGTERM; fails unless it ends with status 0
#   kill_daemon              kill -9
#   api METHOD PATH [JSON]   one request; the answer's body on standard output
#   do_op METHOD PATH [JSON] likewise, waits for the operation and prints it as it ended
#   op_wait ID               waits for an operation and prints it
#   until_true COMMAND...    tries again until it succeeds, at most 20 s (within, see lib.bash)
#   has_event WHAT [JQ]      there is such an event
#   make_project, seeded     with nothing in it; with files f and d/g
#   change NAME FILE TEXT    what a file of it has; in_home NAME COMMAND...: as its user
#
# As root the node has a user of its own (a number, without a name); else all is one user.
# DAEMON_PID is the daemon's.

# jq finds nothing wrong with no input at all.
set -o pipefail

NODE_UID=64950
DAEMON_PID=

make_node() {
	open_path "$BATS_TEST_TMPDIR"
	export WARREN_ROOT=$BATS_TEST_TMPDIR/n
	unset WARREN_SOCKET WARREN_TOKEN WARREN_PROJECT WARREN_URL
	# Suites run side by side, and a stop ends whatever has the project's uid.
	local user=() first=$((1000000 + $$ % 50000 * 1000))
	export WARREN_NODE_UID_RANGE=$first-$((first + 999))
	[ "$(id -u)" != 0 ] || user=(--user "$NODE_UID")
	"$WARREN" init --dc test --name test "${user[@]}" --allow-root-fs --reserve "${RESERVE:-4M}" \
		"$BATS_TEST_TMPDIR/v" </dev/null >/dev/null
}

# Daemons and what they leave running may not hold the descriptors of bats.
# shellcheck disable=SC2120 # options are for those who load this
start_daemon() {
	"$WARREN" serve "$@" </dev/null >>"$BATS_TEST_TMPDIR/serve.log" 2>&1 3>&- 4>&- &
	DAEMON_PID=$!
	until_true daemon_answers || {
		cat "$BATS_TEST_TMPDIR/serve.log"
		return 1
	}
}

daemon_answers() {
	lives "$DAEMON_PID" || return 99
	[[ $(api GET /v1/health 2>/dev/null) == *'"ok":true'* ]]
}

# lives PID: it has not ended, though it may not have been waited for
lives() {
	local state
	[ -n "$1" ] && read -r _ _ state _ 2>/dev/null <"/proc/$1/stat" && [ "$state" != Z ]
}

until_true() {
	within 20 "$@"
}

stop_daemon() {
	local rc=0
	kill -TERM "$DAEMON_PID"
	wait "$DAEMON_PID" || rc=$?
	DAEMON_PID=
	[ "$rc" = 0 ] || {
		echo "the daemon ended with $rc"
		tail -n 20 "$BATS_TEST_TMPDIR/serve.log"
		return 1
	}
}

kill_daemon() {
	kill -KILL "$DAEMON_PID"
	wait "$DAEMON_PID" 2>/dev/null || true
	DAEMON_PID=
}

api() {
	local json=()
	[ $# -lt 3 ] || json=(-H 'Content-Type: application/json' --data-binary "$3")
	curl -sS --max-time 60 --unix-socket "$WARREN_ROOT/run/warren.sock" -X "$1" \
		${WARREN_TOKEN:+-H "Authorization: Bearer $WARREN_TOKEN"} \
		"${json[@]}" "http://warren$2"
}

op_wait() {
	api GET "/v1/operations/$1?wait=50s"
}

# A refusal, or an answer without an operation, is printed as it came.
do_op() {
	local answer id
	answer=$(api "$@") || return 1
	id=$(jq -r 'select(.schema == "warren.operation/1").id' <<<"$answer") || id=
	if [ -n "$id" ]; then
		op_wait "$id"
	else
		printf '%s\n' "$answer"
	fi
}

# make_project NAME [SETTING]...
make_project() {
	made_from "" "$@"
}

# made_from DIR NAME [SETTING]...: a project from that folder, or from nothing
made_from() {
	local answer
	answer=$(do_op POST /v1/projects "$(jq -n --arg d "$1" --arg n "$2" --args \
		'{name: $n, settings: $ARGS.positional} + if $d == "" then {} else {from: $d} end' "${@:3}")") &&
		jq -e '.state == "done"' <<<"$answer" >/dev/null || {
		echo "no project '$2': $answer"
		return 1
	}
}

project_id() {
	api GET "/v1/projects/$1" | jq -r .id
}

# seeded NAME [SETTING]...: a project with files f and d/g, from ./seed
seeded() {
	mkdir -p seed/d
	echo one >seed/f
	echo two >seed/d/g
	chmod -R a+rX seed
	made_from "$PWD/seed" "$@"
}

# change NAME FILE TEXT: of its working files
change() {
	local tree
	tree=$(tree_path "$1")
	echo "$3" >"$tree/$2"
	[ "$(id -u)" != 0 ] || chown --reference="$tree" "$tree/$2"
}

# in_home NAME COMMAND...: as the project's user, in its home
in_home() {
	local name=$1 uid home
	shift
	read -r uid home < <(api GET "/v1/projects/$name" | jq -r '"\(.uid) \(.home)"')
	(cd "$home" && HOME=$home setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@")
}

# Where a project's scratch is, if it has one.
scratch_path() {
	echo "$BATS_TEST_TMPDIR/v/scratch/$(project_id "$1")"
}

# The working files of a project, as root sees them.
tree_path() {
	echo "$BATS_TEST_TMPDIR/v/projects/$(project_id "$1")"
}

state_of() {
	api GET "/v1/projects/$1/state" | jq -r .state
}

has_event() {
	api GET '/v1/events?limit=1000' |
		jq -e --arg w "$1" "any(.events[] | select(.what == \$w); ${2-true})" >/dev/null
}

# make_btrfs DIR [classic]: a file system of its own, its quotas off, or of the older kind
make_btrfs() {
	grep -qw btrfs /proc/filesystems || modprobe btrfs 2>/dev/null || skip "this kernel has no btrfs"
	mkdir -p "$1"
	truncate -s 1G "$1.img"
	mkfs.btrfs -q "$1.img" >/dev/null
	mount -o loop "$1.img" "$1" || skip "loop devices cannot be mounted here"
	chmod 755 "$1"
	[ "${2-}" != classic ] || btrfs quota enable "$1"
}

# A bats file with more to clean up has a teardown of its own.
teardown() {
	daemon_teardown
}

# Ends the projects of the test, then its daemon.
daemon_teardown() {
	local name
	[ -n "${BATS_TEST_COMPLETED-}${BATS_TEST_SKIPPED-}" ] ||
		tail -n 8 "$BATS_TEST_TMPDIR/serve.log" 2>/dev/null || true
	if [ -n "${WARREN_ROOT-}" ] && [ -d "$WARREN_ROOT" ]; then
		unset WARREN_CRASH WARREN_TOKEN
		if [ -z "$DAEMON_PID" ] || ! daemon_answers; then
			# shellcheck disable=SC2119 # none
			start_daemon >/dev/null 2>&1 || true
		fi
		for name in $(api GET /v1/projects 2>/dev/null | jq -r '.projects[]? |
			select(.desired or .state.active) | .name'); do
			do_op POST "/v1/projects/$name/stop" \
				'{"force":true,"no_save":true,"wait":"20s"}' >/dev/null 2>&1 || true
		done
		[ -z "$DAEMON_PID" ] || stop_daemon >/dev/null 2>&1 || true
	fi
	lib_teardown
}
