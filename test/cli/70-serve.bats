#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The daemon: how it starts and ends, what a kill -9 of any part of it leaves alone, who waits for whom.

bats_require_minimum_version 1.5.0
load lib
load daemon

setup() {
	lib_setup
	make_node
	export WARREN_WORK_RATE=15M
}

# A failed test leaves stopped operations.
teardown() {
	local id pid
	[ ! -e stopped ] || while read -r id; do
		! pid=$(op_pid "$id") || kill -CONT "$pid"
	done <stopped
	daemon_teardown
}

# op_pid ID: the process of a running operation; quick, for the operation goes on meanwhile
op_pid() {
	local f
	while read -r f; do
		! grep -aqs '@op' "$f" || {
			basename "${f%/cmdline}"
			return 0
		}
	done < <(grep -lasF "$1" /proc/[0-9]*/cmdline)
	return 1
}

# A project with enough in it that its first save takes a while, at the rate of setup.
make_large() {
	make_project "$1" "${@:2}"
	head -c 40M /dev/urandom >"$(tree_path "$1")/large"
}

# begin_save NAME: starts a save and stops its process in the middle; prints the operation's id
begin_save() {
	local id pid
	id=$(api POST "/v1/projects/$1/save" '{}' | jq -r .id)
	pid=$(op_pid "$id") || return 1
	until [ "$(state_of "$1")" = saving ]; do
		kill -0 "$pid" || return 1
	done
	kill -STOP "$pid" || return 1
	echo "$id" >>stopped
	echo "$id"
}

end_save() {
	kill -CONT "$(op_pid "$1")"
}

op_done() {
	[ "$(op_wait "$1" | jq -r .state)" = "done" ]
}

daemon_is_gone() {
	[[ $(cut -d' ' -f3 "/proc/$DAEMON_PID/stat" 2>/dev/null) != [!Z] ]]
}

# answers PATH FILTER: is that true of what GET gives?
answers() {
	api GET "$1" | jq -e "$2" >/dev/null
}

main_pid() {
	jq -r '.main | split(":")[0]' "$WARREN_ROOT/run/run/$(project_id "$1").json"
}

is_presented() {
	if [ "$(id -u)" = 0 ]; then
		mountpoint -q "$WARREN_ROOT/home/$1"
	else
		[ -L "$WARREN_ROOT/home/$1" ]
	fi
}

# ---- start and end ----

@test "a volume whose sentinel is missing or foreign is named, and nothing starts" {
	mv v/volume.json kept
	run "$WARREN" serve
	[ "$status" -ne 0 ]
	assert_output_has "$BATS_TEST_TMPDIR/v"
	assert_output_has HINT
	[ ! -e v/volume.json ]
	jq -c '.node = "00000000-0000-4000-8000-000000000000"' kept >v/volume.json
	run "$WARREN" serve
	[ "$status" -ne 0 ]
	assert_output_has "$BATS_TEST_TMPDIR/v"
	mv kept v/volume.json
	start_daemon
}

@test "a second daemon is refused, a stale socket is not in the way" {
	start_daemon
	run -4 "$WARREN" serve
	assert_output_has "pid"
	kill_daemon
	[ -S "$WARREN_ROOT/run/warren.sock" ]
	start_daemon
}

@test "readiness and the end are told to the service manager; SIGTERM ends with 0" {
	python3 - notify <<-'END' >told &
		import socket, sys
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind(sys.argv[1])
		s.settimeout(60)
		while True:
		    text = s.recv(4096).decode()
		    print(text, flush=True)
		    if "STOPPING" in text:
		        break
	END
	until_true test -S notify
	NOTIFY_SOCKET=$PWD/notify start_daemon
	until_true grep -q READY=1 told
	stop_daemon
	wait %1
	grep -q STOPPING=1 told
	run ! api GET /v1/health
}

@test "SIGTERM leaves operations and projects running; who waits is answered" {
	start_daemon
	make_large ann 'command=sleep 1000'
	do_op POST /v1/projects/ann/start '{}' | jq -e '.state == "done"'
	sleeper=$(main_pid ann)
	op=$(begin_save ann)
	curl -sSv --max-time 60 --unix-socket "$WARREN_ROOT/run/warren.sock" \
		"http://warren/v1/operations/$op?wait=50s" >waited 2>trace 3>&- &
	waiter=$!
	until_true grep -q '^> GET' trace
	stop_daemon
	wait "$waiter"
	jq -e '.state == "running"' waited
	kill -0 "$sleeper"
	is_presented ann
	end_save "$op"
	start_daemon
	op_done "$op"
	[ "$(main_pid ann)" = "$sleeper" ]
}

# ---- kill -9 ----

@test "kill -9 of the daemon during a save: processes, home and save go on, the new daemon adopts" {
	start_daemon
	make_large ann 'command=sleep 1000'
	do_op POST /v1/projects/ann/start '{}' | jq -e '.state == "done"'
	sleeper=$(main_pid ann)
	op=$(begin_save ann)
	kill_daemon
	kill -0 "$sleeper"
	is_presented ann
	start_daemon
	has_event op.adopted
	api GET "/v1/operations/$op" | jq -e '.state == "running"'
	[ "$(state_of ann)" = saving ]
	run -0 api POST /v1/projects/ann/stop '{}'
	assert_json .error.code busy
	end_save "$op"
	op_done "$op"
	[ "$(state_of ann)" = running ]
	[ "$(main_pid ann)" = "$sleeper" ]
}

@test "an operation that ended while no daemon was there is not forgotten" {
	start_daemon
	make_large ann
	op=$(begin_save ann)
	pid=$(op_pid "$op")
	kill_daemon
	kill -CONT "$pid"
	until_true test ! -e "/proc/$pid"
	start_daemon
	op_wait "$op" | jq -e '.state == "done" and .receipt.made'
	api GET /v1/projects/ann | jq -e '.last_save.ok and .files == 1'
}

@test "kill -9 of an operation: said so, the state is put right, the next one works" {
	start_daemon
	make_large ann 'command=sleep 1000'
	do_op POST /v1/projects/ann/start '{}' | jq -e '.state == "done"'
	sleeper=$(main_pid ann)
	op=$(begin_save ann)
	kill -KILL "$(op_pid "$op")"
	run -0 op_wait "$op"
	assert_json .state failed
	assert_output_has interrupted
	[ "$(state_of ann)" = running ]
	kill -0 "$sleeper"
	do_op POST /v1/projects/ann/save '{}' | jq -e '.state == "done"'
}

@test "kill -9 of daemon and operation at once: the new daemon puts the state right before it serves" {
	start_daemon
	make_large ann
	op=$(begin_save ann)
	pid=$(op_pid "$op")
	kill_daemon
	kill -KILL "$pid"
	start_daemon
	[ "$(state_of ann)" = stopped ]
	api GET "/v1/operations/$op" | jq -e '.state == "failed"'
	do_op POST /v1/projects/ann/save '{}' | jq -e '.state == "done"'
}

@test "kill -9 of the daemon at each step of an operation's beginning: done once, or failed and said" {
	for point in control.op-queued control.op-running control.op-spawned control.op-ended; do
		WARREN_CRASH=$point start_daemon
		api POST /v1/projects "{\"name\":\"p-$point\"}" >answer 2>&1 || true
		until_true daemon_is_gone
		wait "$DAEMON_PID" || true
		start_daemon
		run -0 op_wait "$(api GET '/v1/operations?limit=1' | jq -r '.operations[0].id')"
		case $(json .state) in
		done) [ "$(state_of "p-$point")" = stopped ] ;;
		failed) api GET "/v1/projects/p-$point" | jq -e '.error.code == "not_found"' ;;
		*) false ;;
		esac
		stop_daemon
	done
}

@test "kill -9 of the front: the daemon goes on, and the next request has a new one" {
	start_daemon
	make_project ann
	front=$(pgrep -P "$DAEMON_PID" -f @front | head -n 1)
	[ -n "$front" ]
	kill -KILL "$front"
	until_true has_event front.ended
	api GET /v1/projects/ann | jq -e '.name == "ann"'
}

@test "kill -9 of the daemon during a start: it goes on" {
	mkfifo gate
	cat >hook <<-END
		#!/bin/sh
		read x <$PWD/gate
	END
	chmod 755 hook
	chmod 666 gate
	printf '[hooks]\nstarted = %s/hook\n' "$PWD" >"$WARREN_ROOT/warren.conf"
	start_daemon
	make_project ann 'command=sleep 1000'
	op=$(api POST /v1/projects/ann/start '{}' | jq -r .id)
	until_true answers "/v1/operations/$op" '.step == "run_hooks"'
	kill_daemon
	start_daemon
	api GET "/v1/operations/$op" | jq -e '.state == "running"'
	run -0 api POST /v1/projects/ann/stop '{"force":true}'
	assert_json .error.code busy
	assert_output_has "start by uid"
	echo go >gate
	op_done "$op"
	[ "$(state_of ann)" = running ]
	api GET /v1/projects/ann | jq -e '.desired and .holders[0].name == "manual"'
}

# ---- states ----

@test "a mark left by a dead save never misleads: at the start, at a request" {
	start_daemon
	make_project ann
	id=$(project_id ann)
	stop_daemon
	state=v/repos/$id/conf/state.json
	jq -c '.state = "saving" | .op_kind = "save" | .step = "scan"' "$state" >s
	cat s >"$state"
	start_daemon
	[ "$(jq -r .state "$state")" = stopped ]
	cat s >"$state"
	[ "$(state_of ann)" = stopped ]
	[ "$(jq -r .state "$state")" = stopped ]
	has_event state.settled
}

@test "a garbled state file makes no project unreachable" {
	start_daemon
	make_project ann
	echo '{"v":1' >"v/repos/$(project_id ann)/conf/state.json"
	[ "$(state_of ann)" = error ]
	do_op POST /v1/projects/ann/start '{}' | jq -e '.state == "done"'
	[ "$(state_of ann)" = running ]
}

@test "what is wanted comes back after a reboot, nothing else" {
	start_daemon
	for n in ann ben cleo; do
		make_project $n 'command=exec sleep 1000'
	done
	do_op POST /v1/projects/ann/start '{"holder":"x"}' | jq -e '.state == "done"'
	do_op POST /v1/projects/ben/start '{}' | jq -e '.state == "done"'
	do_op POST /v1/projects/ben/stop '{}' | jq -e '.state == "done"'
	api PATCH /v1/projects/cleo/settings '{"set":["autostart=yes"]}' | jq -e '.rev == 2'
	stop_daemon
	# As a reboot does it: processes and mounts are gone, RUN is empty.
	for f in "$WARREN_ROOT"/run/run/*.json; do
		kill -KILL "$(jq -r '.main | split(":")[0]' "$f")" \
			"$(jq -r '.keeper | split(":")[0]' "$f")" 2>/dev/null || true
	done
	[ "$(id -u)" != 0 ] || until_true umount "$WARREN_ROOT/home/ann"
	[ "$(id -u)" = 0 ] || rm "$WARREN_ROOT/home/ann"
	rm -rf "$WARREN_ROOT"/run/*
	start_daemon
	until_true answers /v1/projects/ann/state '.state == "running"'
	until_true answers /v1/projects/cleo/state '.state == "running"'
	[ "$(state_of ben)" = stopped ]
	is_presented ann
	api GET /v1/projects/ann | jq -e '.holders | map(.name) == ["x"]'
}

# ---- one at a time ----

@test "at most one save runs and one waits; whoever asks is answered by a save that began later" {
	start_daemon
	make_large ann
	one=$(begin_save ann)
	two=$(api POST /v1/projects/ann/save '{}' | jq -r .id)
	echo late >"$(tree_path ann)/late"
	asked=$(date -u +%Y-%m-%dT%H:%M:%SZ)
	run -0 api POST /v1/projects/ann/save '{"tag":"mine"}'
	assert_json .id "$two"
	assert_json .joined 1
	assert_json .state queued
	[ "$one" != "$two" ]
	api GET '/v1/operations?state=running' | jq -e '.operations | length == 1'
	end_save "$one"
	op_done "$one"
	op_wait "$two" | jq -e --arg t "$asked" \
		'.state == "done" and .receipt.scan_started >= $t and .receipt.files.total == 2'
	api GET "/v1/projects/ann/cat?spec=mine:late" | grep -qx late
}

@test "a busy project says by whom and since when; --wait waits, a cancelled wait goes" {
	start_daemon
	make_large ann
	op=$(begin_save ann)
	run -0 api POST /v1/projects/ann/start '{}'
	assert_json .error.code busy
	[[ $(json .error.message) =~ ^project\ \'ann\'\ is\ busy:\ save\ by\ uid\ [0-9]+\ since\ [0-9:]+\ \([0-9]+\ s\)$ ]]
	assert_output_has "$op"
	run -0 api POST /v1/projects/ann/start '{"wait":"1s"}'
	assert_json .state queued
	op_wait "$(json .id)" | jq -e '.state == "failed" and .error.code == "busy" and .exit == 4'
	waits=$(api POST /v1/projects/ann/start '{"wait":"1min"}' | jq -r .id)
	api POST "/v1/operations/$waits/cancel" | jq -e '.state == "cancelled"'
	waits=$(api POST /v1/projects/ann/start '{"wait":"1min"}' | jq -r .id)
	end_save "$op"
	op_done "$waits"
	api POST "/v1/operations/$waits/cancel" | jq -e '.error.code == "busy"'
}

@test "a lock that someone else holds is respected" {
	start_daemon
	make_project ann
	lock=v/repos/$(project_id ann)/conf/lock
	exec 9<>"$lock"
	flock 9
	run -0 api POST /v1/projects/ann/start '{}'
	assert_json .error.code busy
	api GET '/v1/operations' | jq -e 'all(.operations[]; .kind == "create")'
	op=$(api POST /v1/projects/ann/start '{"wait":"1min"}' | jq -r .id)
	api GET "/v1/operations/$op" | jq -e '.state == "queued"'
	exec 9>&-
	op_done "$op"
}

@test "start is idempotent; holders keep a project active, --force says whom it hits" {
	start_daemon
	make_project ann 'command=sleep 1000'
	do_op POST /v1/projects/ann/start '{"holder":"one"}' | jq -e '.receipt.already == false'
	pid=$(main_pid ann)
	run -0 api POST /v1/projects/ann/start '{"holder":"two"}'
	assert_json .already true
	assert_json '.holders | join(",")' one,two
	run -0 api POST /v1/projects/ann/start '{"holder":"two"}'
	assert_json '.holders | join(",")' one,two
	[ "$(main_pid ann)" = "$pid" ]
	run -0 api POST /v1/projects/ann/stop '{"holder":"one"}'
	assert_json .stopped false
	assert_json '.holders | join(",")' two
	kill -0 "$pid"
	run -0 do_op POST /v1/projects/ann/stop '{"holder":"three","force":true}'
	assert_json '.receipt.dropped | join(",")' two
	assert_json .receipt.stopped true
	run ! kill -0 "$pid"
	[ "$(state_of ann)" = stopped ]
	run -0 api POST /v1/projects/ann/stop '{}'
	assert_json .already true
	[ "$(id -u)" != 0 ] || ! is_presented ann
}

@test "a copy saves its source first" {
	start_daemon
	make_project ann
	make_project ben
	echo new >"$(tree_path ann)/f"
	run -0 do_op POST /v1/copy '{"from":"ann","from_path":"f","to":"ben","to_path":"g"}'
	assert_json .state "done"
	grep -qx new "$(tree_path ben)/g"
	api GET '/v1/operations?project=ann' | jq -e '.operations[0].kind == "save"'
}

@test "the trash: delete hides, undelete brings back, purge needs --now before its time" {
	start_daemon
	make_project ann
	id=$(project_id ann)
	do_op POST /v1/projects/ann/delete '{}' | jq -e '.state == "done"'
	api GET /v1/projects | jq -e '.projects == []'
	api GET /v1/trash | jq -e '.projects[0].name == "ann"'
	api POST /v1/projects/ann/start '{}' | jq -e '.error.code == "not_found"'
	do_op POST "/v1/projects/$id/undelete" '{}' | jq -e '.state == "done"'
	[ "$(state_of ann)" = stopped ]
	do_op POST /v1/projects/ann/delete '{}' | jq -e '.state == "done"'
	stop_daemon
	start_daemon
	api POST "/v1/projects/$id/purge" '{}' | jq -e '.error.code == "denied"'
	do_op POST "/v1/projects/$id/purge" '{"now":true}' | jq -e '.state == "done"'
	api GET /v1/trash | jq -e '.projects == []'
	[ ! -e "v/repos/.trash/$id" ]
}

@test "what was told to be over while node.db took nothing is not begun by the next daemon" {
	start_daemon
	make_project ann
	echo x >"$(tree_path ann)/f"
	id=$(project_id ann)
	exec 9<>"v/repos/$id/conf/lock"
	flock 9
	op=$(api POST /v1/projects/ann/save '{}' | jq -r .id)
	mkfifo go
	python3 - "$WARREN_ROOT/state/node.db" <<-'PY' 9>&- &
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1], isolation_level=None)
		db.execute("BEGIN IMMEDIATE")
		open("held", "w").close()
		open("go").read()
	PY
	holder=$!
	until_true test -e held
	run -0 api POST "/v1/operations/$op/cancel"
	api GET "/v1/operations/$op" | jq -e '.state == "cancelled"'
	kill_daemon
	echo >go
	wait "$holder"
	exec 9>&-
	start_daemon
	op_wait "$op" | jq -e '.state == "cancelled"'
	api GET /v1/projects/ann/snapshots | jq -e '.snapshots == []'
}

@test "the index is made again from the disks" {
	start_daemon
	make_project ann
	echo x >"$(tree_path ann)/f"
	do_op POST /v1/projects/ann/save '{}' | jq -e '.state == "done"'
	id=$(project_id ann)
	stop_daemon
	rm "$WARREN_ROOT"/state/node.db*
	start_daemon
	[ "$(project_id ann)" = "$id" ]
	has_event project.found
	api GET "/v1/projects/ann/cat?spec=latest:f" | grep -qx x
}

@test "a project whose create failed leaves nothing, and its name is free" {
	start_daemon
	run -0 do_op POST /v1/projects '{"name":"ann","from":"/nowhere/at/all"}'
	assert_json .state failed
	assert_output_has /nowhere/at/all
	api GET /v1/projects | jq -e '.projects == []'
	make_project ann
	run -0 api POST /v1/projects '{"name":"ann"}'
	assert_json .error.code exists
}

@test "settings: a revision is compared, a change of one project is seen at once" {
	start_daemon
	make_project ann
	run -0 api PATCH /v1/projects/ann/settings '{"set":["save_every=1min"],"rev":1}'
	assert_json .rev 2
	run -0 api PATCH /v1/projects/ann/settings '{"set":["save_every=2min"],"rev":1}'
	assert_json .error.code changed
	run -0 api PATCH /v1/projects/ann/settings '{"set":["save_every=soon"]}'
	assert_output_has save_every
	make_project ben
	run -0 api PATCH /v1/projects/ben/settings '{"set":["name=ann"]}'
	assert_json .error.code exists
	run -0 api PATCH /v1/projects/ben/settings '{"set":["name=cleo"]}'
	assert_json .name cleo
	stop_daemon
	start_daemon
	api GET /v1/projects/cleo/settings | jq -e '.rev == 2'
}

@test "the node saves active projects by itself, and keeps no rows of saves that found nothing" {
	start_daemon
	make_project ann save_every=1s
	printf '[save]\nmin_interval = 0\n' >"$WARREN_ROOT/warren.conf"
	stop_daemon
	start_daemon
	do_op POST /v1/projects/ann/start '{}' | jq -e '.state == "done"'
	echo x >"$(tree_path ann)/f"
	until_true answers /v1/projects/ann '.files == 1'
	saved=$(api GET /v1/projects/ann | jq -r .last_save.began)
	until_true answers /v1/projects/ann ".last_save.began > \"$saved\""
	api GET '/v1/operations?project=ann' |
		jq -e '[.operations[] | select(.by == "schedule" and .receipt.made == false)] | length <= 1'
}

# ---- authority ----

@test "the project's own user has his project, and nothing else; refusals are events" {
	need_root
	start_daemon
	make_project ann
	make_project ben
	uid=$(api GET /v1/projects/ann | jq -r .uid)
	as() {
		setpriv --reuid="$1" --regid="$1" --clear-groups curl -sS --max-time 30 \
			--unix-socket "$WARREN_ROOT/run/warren.sock" -X "$2" ${4:+-d "$4"} \
			-H 'Content-Type: application/json' "http://warren$3"
	}
	as "$uid" GET /v1/projects/ann | jq -e '.name == "ann"'
	as "$uid" GET /v1/projects | jq -e '.projects | length == 1'
	as "$uid" POST /v1/projects/ann/save '{}' | jq -e '.kind == "save"'
	as "$uid" GET /v1/projects/ben | jq -e '.error.code == "denied"'
	as "$uid" GET /v1/projects/none | jq -e '.error.code == "denied"'
	as "$uid" POST /v1/projects '{"name":"cleo"}' | jq -e '.error.code == "denied"'
	as "$uid" PATCH /v1/projects/ann/settings '{"set":["disk=1T"]}' | jq -e '.error.code == "denied"'
	as "$uid" PATCH /v1/projects/ann/settings '{"set":["description=mine"]}' | jq -e '.rev == 2'
	as 64951 GET /v1/health | jq -e .ok
	as 64951 GET /v1/projects | jq -e '.error.code == "denied"'
	as 64951 POST /v1/projects/ann/stop '{"force":true}' | jq -e '.error.code == "denied"'
	api GET '/v1/events?limit=1000' |
		jq -e '[.events[] | select(.what == "refused" and .who == "uid 64951")] | length == 2'
	WARREN_TOKEN=wrt_nonsense api GET /v1/projects | jq -e '.error.code == "denied"'
}

@test "the token of a project's processes is for that project" {
	start_daemon
	make_project ann 'command=env >env.txt; sleep 1000'
	do_op POST /v1/projects/ann/start '{}' | jq -e '.state == "done"'
	env=$(tree_path ann)/env.txt
	until_true grep -q ^WARREN_TOKEN= "$env"
	grep -qx "WARREN_PROJECT=$(project_id ann)" "$env"
	grep -qx "WARREN_URL=unix:$WARREN_ROOT/run/warren.sock" "$env"
	token=$(sed -n 's/^WARREN_TOKEN=//p' "$env")
	run ! grep -aqF -e "$token" "$WARREN_ROOT"/state/node.db*
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=64951 --regid=64951 --clear-groups curl -sS --max-time 30 \
			--unix-socket "$WARREN_ROOT/run/warren.sock" -H "Authorization: Bearer $token" \
			http://warren/v1/projects | jq -e '.projects | map(.name) == ["ann"]'
	fi
}

# ---- views ----

@test "views and files: what they stream, and their errors with the right status" {
	start_daemon
	make_project ann
	mkdir "$(tree_path ann)/d"
	echo hello >"$(tree_path ann)/d/f"
	do_op POST /v1/projects/ann/save '{"tag":"one"}' | jq -e '.state == "done"'
	api GET /v1/projects/ann/snapshots | jq -e '.snapshots | length == 1'
	api GET '/v1/projects/ann/ls?spec=one:d&format=text' | grep -qx f
	[ "$(api GET '/v1/projects/ann/cat?spec=one:d/f')" = hello ]
	api GET '/v1/projects/ann/find?pattern=f' | jq -e .
	api GET '/v1/projects/ann/history?path=d/f' | jq -e .
	[ "$(api GET '/v1/projects/ann/read?path=d/f')" = hello ]
	api GET '/v1/projects/ann/read?path=d&format=tar' | tar -tf - | grep -q f
	api GET '/v1/projects/ann/files?path=d' | jq -e '.total == 1'
	api GET '/v1/projects/ann/cat?spec=one:none' | jq -e '.error.code == "not_found"'
	api GET '/v1/projects/ann/read?path=../../x' | jq -e '.error'
	api GET '/v1/projects/ann/ls?spec=--help' | jq -e '.error'
	api POST /v1/projects/ann/mkdir '{"path":"x/y"}' | jq -e '.existed == false'
	[ -d "$(tree_path ann)/x/y" ]
}

@test "a hundred requests at once are all answered" {
	start_daemon
	make_project ann
	for _ in $(seq 100); do
		echo "url = http://warren/v1/projects/ann/state"
		echo "output = /dev/stdout"
	done >urls
	curl -sS --max-time 60 --unix-socket "$WARREN_ROOT/run/warren.sock" -Z --parallel-max 50 \
		-K urls | jq -s -e 'length == 100 and all(.[]; .state == "stopped")'
}
