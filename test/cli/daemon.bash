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
#   until_true COMMAND...    tries again until it succeeds, at most 20 s
#
# As root the node has a user of its own (a number, without a name); else all is one user.
# DAEMON_PID is the daemon's.  Whoever loads this calls daemon_teardown in a teardown of its own.

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
	[[ $(cut -d' ' -f3 "/proc/$DAEMON_PID/stat" 2>/dev/null) == [!Z] ]] || return 99
	api GET /v1/health 2>/dev/null | jq -e .ok >/dev/null 2>&1
}

# Status 99 of the command: there is no hope.
until_true() {
	local end=$((SECONDS + ${WARREN_SANITIZED:+60} + 20)) rc
	while :; do
		"$@" && return 0
		rc=$?
		if [ "$rc" = 99 ] || ((SECONDS > end)); then
			echo "in vain: $*"
			return 1
		fi
		sleep 0.02
	done
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
	local answer
	answer=$(api "$@") || return 1
	if jq -e '.schema == "warren.operation/1"' <<<"$answer" >/dev/null; then
		op_wait "$(jq -r .id <<<"$answer")"
	else
		printf '%s\n' "$answer"
	fi
}

# make_project NAME [SETTING]...
make_project() {
	local name=$1
	shift
	do_op POST /v1/projects "$(jq -n --arg n "$name" \
		'{name: $n, settings: $ARGS.positional}' --args "$@")" | jq -e '.state == "done"' >/dev/null || {
		echo "no project '$name'"
		return 1
	}
}

project_id() {
	api GET "/v1/projects/$1" | jq -r .id
}

# The working files of a project, as root sees them.
tree_path() {
	echo "$BATS_TEST_TMPDIR/v/projects/$(project_id "$1")"
}

state_of() {
	api GET "/v1/projects/$1/state" | jq -r .state
}

# Ends the projects of the test, then its daemon.
daemon_teardown() {
	local name
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
