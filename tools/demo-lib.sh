# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # warren is the demonstration's
# For the demonstrations of this folder:  warren=PROGRAM; . demo-lib.sh; demo_begin NAME
#
#   demo_begin NAME    sets dir, which is removed at the end, whatever comes; `leave`, if the demo has one, is called first
#   say, fail          a headline; the end, with what daemons had to say last (DIR/*.log)
#   shown ARG...       warren ARG..., as typed (at a prompt of $who), and its answer; its status
#   run ARG...         the same, and neither success nor a warning is the end
#   node_begin [OPTION]... VOLUME   a node in DIR/node, and its daemon
#   serve, end_daemon  of that node; dies if it does not answer, or ends badly
#   stop_all NAME...   whatever else happened: its projects and its daemon end
#   counted FILE       a number from a file that its writer truncates first
#   demo_end

bold='' plain=''
if [ -t 1 ]; then
	bold=$'\033[1m' plain=$'\033[0m'
fi
daemon=

demo_begin() {
	dir=$(mktemp -d "${TMPDIR:-/tmp}/warren-$1-XXXXXX")
	trap demo_clean EXIT
	chmod a+rx "$dir"
	export TZ=UTC WARREN_ROOT=$dir/node
	unset WARREN_SOCKET WARREN_URL WARREN_TOKEN WARREN_PROJECT WARREN_REPO
	# A volume that is nearly full takes no new project, and many a laptop's is: not what is shown here.
	export WARREN_VOLUME_MARKS=100,100,100
	local free
	free=$(df --output=avail -k "$dir" | tail -n 1)
	if ((free < 1500000)); then
		echo "demo: $((free / 1000)) MB are free in ${dir%/*}, it takes 1500; elsewhere: TMPDIR=DIR make demo"
		exit 1
	fi
}

demo_clean() {
	trap - EXIT
	! declare -F leave >/dev/null || leave
	chmod -R u+w "$dir" 2>/dev/null || true
	rm -rf --one-file-system "$dir"
}

demo_end() {
	printf '\n%sdemo: ok%s\n' "$bold" "$plain"
}

say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }

fail() {
	echo "demo: FAILED: $*" >&2
	tail -n 20 "$dir"/*.log >&2 2>/dev/null || true
	exit 1
}

shown() {
	printf '%s$ warren %s\n' "${who-}" "${*//$dir/DIR}"
	"$warren" "$@" 2>&1 | sed "s|$dir|DIR|g"
	return "${PIPESTATUS[0]}"
}

run() {
	local rc=0
	shown "$@" || rc=$?
	[ "$rc" -eq 0 ] || [ "$rc" -eq 3 ] || fail "exit status $rc"
}

node_begin() {
	run init --dc dc1 --reserve 64M "$@"
	# Processes are ended by uid too: no other node's may be met.
	printf '[node]\nuid_range = %d-%d\n' $((1000000000 + $$ * 10)) $((1000000009 + $$ * 10)) >>"$dir/node/warren.conf"
	serve
}

serve() {
	"$warren" serve >>"$dir/serve.log" 2>&1 &
	daemon=$!
	for _ in $(seq 100); do
		"$warren" list -q >/dev/null 2>&1 && return
		kill -0 "$daemon" 2>/dev/null || fail "the daemon ended"
		sleep 0.1
	done
	fail "the daemon does not answer"
}

end_daemon() {
	kill "$daemon"
	wait "$daemon" || fail "the daemon ended with $?"
	daemon=
}

stop_all() {
	local name
	for name; do
		"$warren" stop "$name" --force --no-save -q >/dev/null 2>&1 || true
	done
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
	[ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
}

counted() {
	local n=
	for _ in $(seq 100); do
		n=$(cat "$1")
		[ -z "$n" ] || break
	done
	echo "${n:-0}"
}
