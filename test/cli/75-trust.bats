#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it is about rights
# Who is believed what: what lies where the user of the repositories can write decides nothing for
# root; what one project's user may ask for has an end, and takes nothing from others.

bats_require_minimum_version 1.5.0
load lib
load daemon

setup() {
	lib_setup
	make_node
}

teardown() {
	local pid
	[ ! -e stopped ] || while read -r pid; do
		kill -CONT "$pid" 2>/dev/null || true
	done <stopped
	[ ! -e impostor ] || kill "$(<impostor)" || true
	daemon_teardown
}

# as_node COMMAND...: as the user whom workers on repositories run as
as_node() {
	setpriv --reuid "$NODE_UID" --regid "$NODE_UID" --clear-groups "$@"
}

# forge NAME JQ: conf of that project becomes one of the node user's own, its settings edited
forge() {
	local repo
	repo=$BATS_TEST_TMPDIR/v/repos/$(project_id "$1")
	# shellcheck disable=SC2016 # for the inner shell
	as_node sh -euc 'cd "$1"
		mv conf conf.real
		mkdir conf
		cp conf.real/*.json conf
		jq "$2" conf.real/settings.json >conf/settings.json' - "$repo" "$2"
}

settings_file() {
	echo "$BATS_TEST_TMPDIR/v/repos/$(project_id "$1")/conf/settings.json"
}

# hold_save NAME: a save of it that is stopped in its middle; prints its process
hold_save() {
	local id f size=200M
	# Sanitizers make it ten times slower.
	[ -z "${WARREN_SANITIZED-}" ] || size=20M
	head -c "$size" /dev/urandom >"$(tree_path "$1")/large"
	id=$(api POST "/v1/projects/$1/save" '{}' | jq -r .id)
	while read -r f; do
		grep -aqs '@op' "$f" || continue
		f=${f#/proc/}
		kill -STOP "${f%/cmdline}"
		echo "${f%/cmdline}" | tee -a stopped
		return 0
	done < <(grep -lasF "$id" /proc/[0-9]*/cmdline)
	return 1
}

@test "settings that the repositories' user forged: no other identity, home or template" {
	need_root
	start_daemon
	make_project victim
	# shellcheck disable=SC2016 # for the command
	make_project one 'command=id -u >who; exec sleep 1000'
	local uid victim
	uid=$(api GET /v1/projects/one | jq .uid)
	victim=$(api GET /v1/projects/victim | jq .uid)
	mkdir -m 711 secret elsewhere
	echo secret >secret/file

	forge one ".uid = $victim | .gid = $victim | .exclusive = true | .rev += 7 |
		.settings.home = \"$PWD/elsewhere/etc\" | .settings.template = \"$PWD/secret\""
	[ "$(api GET /v1/projects/one/settings | jq .rev)" = 1 ]
	do_op POST /v1/projects/one/start '{}' >start
	jq -e '.state == "done"' start
	jq -e --argjson u "$uid" '.receipt.uid == $u and .receipt.skel == 0' start
	until_true test -s "$(tree_path one)/who"
	[ "$(cat "$(tree_path one)/who")" = "$uid" ]
	[ ! -e elsewhere/etc ]
	[ ! -e "$(tree_path one)/file" ]
	# The file is a copy of what is known, and that again now.
	jq -e --argjson u "$uid" '.uid == $u and (.settings | has("home") | not)' "$(settings_file one)"
	[ "$(do_op POST /v1/projects/one/stop '{"force":true}' | jq -r .state)" = "done" ]

	# Nor after a start of the daemon, which looks at all of them.
	mv "$BATS_TEST_TMPDIR/v/repos/$(project_id one)/conf.real" was
	forge one ".uid = 0 | .gid = 0 | .name = \"b\" | .settings.home = \"$PWD/elsewhere/etc\""
	stop_daemon
	start_daemon
	api GET /v1/projects/one | jq -e --argjson u "$uid" '.uid == $u and .name == "one"'
	[ "$(do_op POST /v1/projects/one/start '{}' | jq -r .state)" = "done" ]
	[ ! -e elsewhere/etc ]
	[ "$(do_op POST /v1/projects/one/stop '{"force":true}' | jq -r .state)" = "done" ]
}

@test "an index that is lost: an identity is believed if root has made it, a home only if it is the usual one" {
	need_root
	start_daemon
	make_project victim
	make_project liar
	make_project honest "home=$PWD/honest"
	local victim uid
	victim=$(api GET /v1/projects/victim | jq .uid)
	uid=$(api GET /v1/projects/honest | jq .uid)
	forge liar ".uid = $victim | .gid = $victim"
	stop_daemon
	rm "$WARREN_ROOT"/state/node.db*
	start_daemon
	api GET /v1/projects | jq -e '[.projects[].name] | sort == ["honest", "victim"]'
	api GET /v1/events | jq -e '.events | any(.what == "project.unreadable" and (.why | test("uid")))'
	api GET /v1/projects/honest | jq -e --argjson u "$uid" --arg h "$PWD/honest" \
		'.uid == $u and .home != $h'
	api GET /v1/events | jq -e '.events | any(.what == "project.found" and (.why | test("home")))'
}

@test "a copy into a dormant project outlives whatever looks at that meanwhile; there is an end to them" {
	start_daemon
	make_project from
	make_project to
	local id save answer n=0
	save=$(hold_save from)
	id=$(api POST /v1/copy '{"from":"from","to":"to","to_path":"got"}' | jq -r .id)
	api GET '/v1/status?project=to' | jq -e .
	do_op POST /v1/projects/to/mkdir '{"path":"x"}'
	# Another operation ends while the copy waits for its source.
	make_project third
	while answer=$(api POST /v1/copy '{"from":"from","to":"to","to_path":"got","wait":"60s"}') &&
		jq -e .id <<<"$answer" >/dev/null; do
		((++n < 100)) || break
	done
	jq -e '.error.code == "busy"' <<<"$answer"
	((n < 20))
	kill -CONT "$save"
	[ "$(op_wait "$id" | jq -r .state)" = "done" ]
	[ -e "$(tree_path to)/got/large" ]
}

@test "a process that calls itself an operation is not taken for one" {
	need_root
	start_daemon
	make_project one
	local id
	stop_daemon
	ls "$WARREN_ROOT/state/op" >before
	WARREN_CRASH=control.op-running start_daemon
	api POST /v1/projects/one/save '{}' 2>/dev/null || true
	wait "$DAEMON_PID" || true
	# shellcheck disable=SC2012 # ids
	id=$(ls "$WARREN_ROOT/state/op" | comm -13 before -)
	[ "${#id}" = 36 ]
	echo 'read -r _ <wait' >@op
	mkfifo wait
	# shellcheck disable=SC2016 # for the inner shell
	(
		exec setpriv --reuid 64941 --regid 64941 --clear-groups \
			bash -c 'exec -a warren sh @op - "$1"' - "$id"
	) 3>&- &
	echo $! >impostor
	until_true grep -qsz '^@op$' "/proc/$!/cmdline"
	start_daemon
	api GET "/v1/operations/$id" | jq -e '.state == "failed"'
	[ "$(do_op POST /v1/projects/one/save '{}' | jq -r .state)" = "done" ]
}

@test "holders have an end" {
	start_daemon
	make_project one
	[ "$(do_op POST /v1/projects/one/start '{"holder":"h0"}' | jq -r .state)" = "done" ]
	local n=0
	while api POST /v1/projects/one/start "{\"holder\":\"h$((n + 1))\"}" | jq -e .already >/dev/null; do
		((++n < 200)) || break
	done
	# Those who are in may come again, and go.
	api POST /v1/projects/one/start '{"holder":"h7"}' | jq -e '.already'
	api POST /v1/projects/one/stop '{"holder":"h7"}' | jq -e '.stopped == false'
	api POST /v1/projects/one/start '{"holder":"new"}' | jq -e '.already'
	api POST /v1/projects/one/start '{"holder":"newer"}' | jq -e '.error.code == "limit"'
}

@test "thousands of files that are not protected, with long paths: the save is done, its receipt short" {
	start_daemon
	make_project one
	local dir
	dir=$(tree_path one)/$(printf 'd%.0s' {1..200})/$(printf 'e%.0s' {1..200})
	mkdir -p "$dir"
	echo '*.o' >"$(tree_path one)/.warrenignore"
	(cd "$dir" && seq -f '%05.0f.o' 11000 | xargs touch)
	echo much >"$dir/00007.o"
	do_op POST /v1/projects/one/save '{}' >save
	jq -e '.state == "done" and .receipt.not_protected.count == 11000' save
	jq -e '.receipt.not_protected.largest[0].path | endswith("00007.o")' save
	(($(wc -c <save) < 400000))
}

@test "nobody else can hold the lock of the node, and so keep the daemon from starting" {
	need_root
	start_daemon
	stop_daemon
	run ! setpriv --reuid 64941 --regid 64941 --clear-groups \
		flock --nonblock "$WARREN_ROOT/state/lock" true
}

@test "as many users as there may be at a time: the administrator is heard all the same" {
	need_root
	WARREN_NODE_ADMINS=64943 start_daemon # whose own front is one of the 64
	python3 - "$WARREN_ROOT/run/warren.sock" <<-'PY'
		import os, socket, sys
		def ask(uid, s):
		    os.seteuid(uid)
		    try:
		        s.connect(sys.argv[1])
		        s.settimeout(20)
		        s.sendall(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
		        return s.recv(100)
		    except OSError:
		        return b""
		    finally:
		        os.seteuid(0)
		held = [socket.socket(socket.AF_UNIX) for _ in range(63)]
		for i, s in enumerate(held):
		    assert ask(3000000000 + i, s), i
		assert not ask(3000000100, socket.socket(socket.AF_UNIX))
		assert ask(64943, socket.socket(socket.AF_UNIX))
	PY
}
