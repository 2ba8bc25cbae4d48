#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: what its enemies talk to runs in 70 and 72 too
# A front that was taken over: a hostile program in its place says to control whatever it likes, for
# a user without rights.  Nothing happens, and each refusal is an event.

bats_require_minimum_version 1.5.0
load lib

STRANGER=64941 # owns nothing
OWNER=64942    # owns project alpha
NODE_USER=64940

HOSTILE=$(dirname "$WARREN")/test/lib/hostile_front

setup() {
	lib_setup
	need_root
	[ -x "$HOSTILE" ] || skip "needs a build with tests"
	open_path "$BATS_TEST_TMPDIR"
	export WARREN_ROOT=$PWD/node
	unset WARREN_TOKEN WARREN_URL WARREN_SOCKET WARREN_PROJECT
	# Where the user of the fronts can run it.
	cp "$HOSTILE" hostile_front
	chmod 755 hostile_front
	"$WARREN" init --user $NODE_USER --dc dc1 --allow-root-fs --reserve 4M "$PWD/volume"
	mkdir seed
	seq 1000 >seed/numbers
	echo secret >seed/secret
	serve
	"$WARREN" create --name alpha --uid $OWNER --gid $OWNER --from "$PWD/seed"
	"$WARREN" create --name beta --from "$PWD/seed"
	"$WARREN" save beta
	beta=$("$WARREN" show beta --json | jq -r .id)
	operation=$("$WARREN" op list --json | jq -r '.operations[0].id')
	[ "${#beta}" = 36 ]
	[ "${#operation}" = 36 ]
	quit
}

teardown() {
	[ -z "${daemon-}" ] || kill -9 "$daemon" 2>/dev/null || true
	lib_teardown
}

# serve [OPTION...]: the daemon, until its socket answers
serve() {
	"$WARREN" serve "$@" >>serve.log 2>&1 3>&- &
	daemon=$!
	for ((i = 0; i < 600; i++)); do
		kill -0 "$daemon" || break
		python3 - "$WARREN_ROOT/run/warren.sock" <<-'PY' 2>/dev/null && return 0
			import socket, sys
			socket.socket(socket.AF_UNIX).connect(sys.argv[1])
		PY
		sleep 0.05
	done
	cat serve.log
	return 1
}

quit() {
	kill -TERM "$daemon"
	wait "$daemon"
	daemon=
}

# The daemon with the hostile program as its front; it is told of beta alone.
serve_hostile() {
	local zeros
	zeros=$(printf 'wrt_%064d' 0)
	export WARREN_HOSTILE="beta op:$operation token:wrt_forged token:$zeros token:$beta"
	WARREN_HOSTILE+=" $WARREN_ROOT/state/node.db $PWD/seed/secret /etc/shadow"
	serve --front "$PWD/hostile_front"
}

# as UID MODES [SECONDS]: what the hostile front says to that user, in a connection for each line of
# MODES until one says "none"; a connection ends after so long
as() {
	python3 - "$WARREN_ROOT/run/warren.sock" "$2" "${3-60}" "$1" <<-'PY'
		import os, socket, sys, time
		uid = int(sys.argv[4])
		os.setgroups([])
		os.setresgid(uid, uid, uid)
		os.setresuid(uid, uid, uid)
		for mode in sys.argv[2].split("\n"):
		    said = b""
		    end = time.monotonic() + float(sys.argv[3])
		    s = socket.socket(socket.AF_UNIX)
		    s.connect(sys.argv[1])
		    try:
		        s.sendall(mode.encode() + b"\n")
		        while True:
		            s.settimeout(max(0.01, end - time.monotonic()))
		            b = s.recv(65536)
		            if not b:
		                break
		            said += b
		    except socket.timeout:
		        said += b"timeout\n"
		    except (ConnectionResetError, BrokenPipeError):
		        pass
		    sys.stdout.write(said.decode(errors="replace"))
		    if b"none\n" in said:
		        break
	PY
}

# db SQL: rows of node.db
db() {
	python3 - "$WARREN_ROOT/state/node.db" "$1" <<-'PY'
		import sqlite3, sys
		for row in sqlite3.connect(sys.argv[1], timeout=20).execute(sys.argv[2]):
		    print(*row, sep="\t")
	PY
}

# All that must not change: projects, operations, tokens; files with their metadata; states; snapshots.
everything() {
	# What the schedule notes of its own work is not what a caller changed.
	db "SELECT id, name, uid, gid, exclusive, desired, autostart, created, deleted, settings, holders FROM project ORDER BY id"
	db "SELECT id, project, kind, state, asked_by, args, receipt, error FROM op WHERE asked_by NOT LIKE 'schedule%' ORDER BY seq"
	db "SELECT hex(hash), scope, project FROM token ORDER BY hash"
	(cd volume && find projects -printf '%p %y %m %U %G %s %l %T@\n' | sort)
	(cd volume && find projects -type f -print0 | sort -z | xargs -0 sha256sum)
	(cd volume && for r in repos/*/; do git --git-dir="$r" for-each-ref; done)
	# The time of a state is when it was entered.
	find volume node -name settings.json -print0 | sort -z | xargs -0 -r sha256sum
	"$WARREN" state alpha --json | jq -c '{state, active, error}'
	"$WARREN" state beta --json | jq -c '{state, active, error}'
	ls -A /etc/owned /tmp/owned 2>/dev/null || true
}

assert_nothing_changed() {
	everything >after
	diff -u before after
}

# Events of a kind that name the user.
events() {
	db "SELECT count(*) FROM event WHERE what = '$1' AND who = 'uid $2'"
}

@test "every call, well-formed, for a stranger: refused, and each refusal is an event" {
	everything >before
	serve_hostile
	run as $STRANGER calls
	echo "$output"
	[ "${lines[-1]}" = "done" ]
	# All of the table but what is public.
	denied=$(grep -c ' 403 denied$' <<<"$output")
	answered=$(grep -c ' [0-9][0-9][0-9] [a-z_-]*$' <<<"$output")
	[ "$denied" -ge 30 ]
	for path in health openapi.json ca; do
		grep -q "^GET /v1/$path - - 200 -\$" <<<"$output"
	done
	# Health is asked once more at the end; POST /v1/join had a token that opens nothing.
	[ "$answered" = $((denied + 4)) ]
	assert_output_lacks STREAM
	# Told up to fifty a minute, the rest are counted.
	assert_equal "$(events refused $STRANGER)" $((denied < 50 ? denied : 50))
	quit
	assert_nothing_changed
	serve
	"$WARREN" list --json | jq -e '.projects | length == 2'
	run "$WARREN" events --json
	assert_output_has '"refused"'
	quit
}

@test "every call with a forged token: refused" {
	everything >before
	serve_hostile
	run as $STRANGER forged
	echo "$output"
	[ "${lines[-1]}" = "done" ]
	# Evidence that is false is worth less than none; health at the end comes without.
	assert_equal "$(grep -c ' 200 ' <<<"$output")" 1
	[ "$(grep -c ' 403 denied$' <<<"$output")" -ge 90 ]
	[ "$(events refused $STRANGER)" -ge 49 ]
	quit
	assert_nothing_changed
}

@test "every call about another's project, for the owner of one: refused" {
	everything >before
	serve_hostile
	run as $OWNER calls
	echo "$output"
	[ "${lines[-1]}" = "done" ]
	# What he may do without naming a project is to look at his own.
	run grep -v ' 403 denied$' <<<"$output"
	run grep -vE '^(GET /v1/(health|openapi.json|ca|projects|status|events|operations|tokens) - - 200 -|mode calls|done)$' <<<"$output"
	assert_equal "$output" ""
	quit
	assert_nothing_changed
}

@test "connections that are not its own, descriptors, messages beyond every limit: the front is ended" {
	local mode
	everything >before
	serve_hostile
	for mode in foreign closed oversized descriptors; do
		run as $STRANGER $mode
		echo "$mode: $output"
		assert_output_lacks "done"
	done
	[ "$(events front.ended $STRANGER)" -ge 4 ]
	# Others did not notice.
	run as $OWNER forks
	assert_output_has "done"
	quit
	assert_nothing_changed
}

@test "messages that are none: the front is ended, each time, and control goes on" {
	local n
	everything >before
	serve_hostile
	run as $STRANGER "$(seq -f 'malformed %g' 0 1000)"
	n=$(grep -c '^mode malformed' <<<"$output")
	# The last connection found that there are no more; it alone came to its end.
	assert_output_has none
	assert_equal "$(grep -c '^done$' <<<"$output")" 1
	[ "$n" -gt 300 ]
	kill -0 "$daemon"
	quit
	assert_nothing_changed
}

@test "floods: whoever else asks is answered meanwhile" {
	local flood twice rss
	everything >before
	serve_hostile
	as $STRANGER flood 8 >flood.out &
	flood=$!
	as $STRANGER twice 8 >twice.out &
	twice=$!
	for ((i = 0; i < 5; i++)); do
		run timeout 5 "${BASH:-bash}" -c "$(declare -f as); as $OWNER forks"
		assert_output_has "done"
	done
	rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$daemon/status")
	echo "control: $rss KiB"
	[ -n "${WARREN_SANITIZED-}" ] || [ "$rss" -lt 131072 ]
	wait $flood
	wait $twice
	quit
	assert_nothing_changed
}

@test "from inside its walls: no programs, no network, no files of the node" {
	serve_hostile
	run as $STRANGER forks
	echo "$output"
	assert_output_has "done"
	assert_output_lacks POSSIBLE
	quit
}
