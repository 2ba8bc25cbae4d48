#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: life_test has every step that is killed here
# alone
# Random kill -9 of daemon, fronts, workers and operations while 50 projects are worked on; every invariant afterwards.

bats_require_minimum_version 1.5.0
load lib

# What went wrong is shown, with the seed that repeats the choices.
chaos() {
	run python3 "$ROOT/test/lib/chaos.py" "$WARREN" "$BATS_TEST_TMPDIR/c" "$@"
	echo "$output"
	[ "$status" -eq 0 ] || tail -n 40 "$BATS_TEST_TMPDIR/c/serve.log"
	return "$status"
}

@test "200 random kills under the load of 50 projects lose nothing and leave nothing behind" {
	open_path "$BATS_TEST_TMPDIR"
	if [ -n "${WARREN_SANITIZED-}" ]; then
		chaos --kills 60 --projects 20
	else
		chaos --kills 200 --projects 50
	fi
}

@test "the same without root" {
	need_root
	local dir=$BATS_TEST_TMPDIR/c
	open_path "$BATS_TEST_TMPDIR"
	mkdir "$dir"
	chown 64951 "$dir"
	run setpriv --reuid=64951 --regid=64951 --clear-groups env HOME="$dir" PYTHONDONTWRITEBYTECODE=1 \
		python3 "$ROOT/test/lib/chaos.py" "$WARREN" "$dir" --kills 40 --projects 10
	echo "$output"
	[ "$status" -eq 0 ]
}
