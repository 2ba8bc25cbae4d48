# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For scripts that run in a guest:  . /vm/lib.bash
#
#   t NAME COMMAND...       a test: ok if the command succeeds; what it prints is shown if not
#   skip NAME WHY           a test that cannot be here
#   within SECONDS COMMAND  tries again until it succeeds
#   reboot_then             the next script runs after a reboot (reset_then: after a reset without
#                           a word, as if the power had failed); ends this script
# The plan is printed at the end of the script.

tests=0 failed=0

t() {
	local name=$1 out rc=0
	shift
	tests=$((tests + 1))
	out=$("$@" 2>&1) || rc=$?
	if [ "$rc" = 0 ]; then
		echo "ok $tests - $name"
	else
		failed=$((failed + 1))
		echo "not ok $tests - $name"
		echo "status $rc of: $*"
		printf '%s\n' "$out"
	fi
	return "$rc"
}

skip() {
	tests=$((tests + 1))
	echo "ok $tests - $1 # SKIP $2"
}

within() {
	local end=$((SECONDS + $1)) out rc
	shift
	while :; do
		rc=0
		out=$("$@" 2>&1) || rc=$?
		[ "$rc" != 0 ] || break
		((SECONDS < end)) || {
			echo "in vain: $*"
			printf '%s\n' "$out"
			return 1
		}
		sleep 0.1
	done
	printf '%s\n' "$out"
}

plan() {
	local rc=$?
	echo "1..$tests"
	[ "$rc" != 0 ] || [ "$failed" = 0 ] || rc=1
	exit "$rc"
}
trap plan EXIT

reboot_then() { exit 75; }
reset_then() { exit 76; }

# ---- the node of these tests ----

# A field of a project's state or record:  field state alice .state
field() {
	warren "$1" "$2" --json | jq -er "$3"
}
is() {
	local want=$1 have
	shift
	have=$("$@") || return
	[ "$have" = "$want" ] || {
		echo "have '$have', want '$want'"
		return 1
	}
}
daemon_pid() {
	local pid
	pid=$(systemctl show --value -p MainPID warren.service)
	[ "$pid" -gt 0 ] && echo "$pid"
}
answers() {
	warren list -q
}
