#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it compares what is said; 70 and 72 call the same
# The commands that ask the daemon, as a new user would try them by hand, wrong input too.

bats_require_minimum_version 1.5.0
load lib
load daemon

setup() {
	lib_setup
	need curl
	make_node
}

# A folder worth saving, at ./seed.
make_seed() {
	mkdir -p seed/docs
	echo one >seed/notes.txt
	seq 100 >seed/docs/numbers
	echo hidden >seed/.hidden
}

# alice, with that folder's files, and its home in $HOME_OF
make_alice() {
	make_seed
	run -0 warren create --name alice --from seed "$@"
	HOME_OF=$WARREN_ROOT/home/alice
}

# refused STATUS MESSAGE HINT ARGS...: patterns for the first two lines of standard error
refused() {
	local want=$1 message=$2 hint=$3
	shift 3
	run --separate-stderr warren "$@"
	assert_status "$want"
	assert_equal "$output" ""
	# shellcheck disable=SC2053,SC2154 # patterns; set by run
	[[ ${stderr_lines[0]} == $message ]] || {
		echo "'${stderr_lines[0]}' instead of '$message'"
		return 1
	}
	# shellcheck disable=SC2053
	[ -z "$hint" ] || [[ ${stderr_lines[1]-} == "HINT: "$hint ]] || {
		echo "'${stderr_lines[1]-}' instead of 'HINT: $hint'"
		return 1
	}
}

# Hold the lifecycle lock of a project until unlock, as another operation would.
lock() {
	local file
	file=$BATS_TEST_TMPDIR/v/repos/$(project_id "$1")/conf/lock
	exec 9<>"$file"
	flock -n 9
}

unlock() {
	exec 9>&-
}

# ---- without a daemon ----

@test "no daemon: every command that needs one says so and how to start it" {
	for c in list status top events "show x" "state x" "settings x" "start x" "stop x" "restart x" "save x" \
		"snapshots x" "ls x latest" "cat x a:b" "diff x a" "find x y" "history x y" "restore x y" "undo x" \
		"files x" "read x y" "mkdir x y" "copy x:b y:d" "chown x" "delete x" "undelete x" "purge x" \
		"trash list" "trash purge" "op list" "op show abcd" "op wait abcd" "op cancel abcd" "op log abcd" \
		"create --name x"; do
		# shellcheck disable=SC2086 # words
		refused 1 "warren *: no daemon answers at '$WARREN_ROOT/run/warren.sock'" "start it with*" $c
		# shellcheck disable=SC2086
		run -1 --separate-stderr warren $c --json
		assert_json .error.code failed
	done
}

@test "where the daemon is: options before the environment, sockets before roots" {
	where() {
		run -1 --separate-stderr "$@"
		sed -nE "1s/.*answers at '(.*)'/\1/p" <<<"$stderr"
	}
	assert_equal "$(where warren list)" "$WARREN_ROOT/run/warren.sock"
	assert_equal "$(where warren list --root "$PWD/r")" "$PWD/r/run/warren.sock"
	assert_equal "$(WARREN_SOCKET=$PWD/s where warren list)" "$PWD/s"
	assert_equal "$(WARREN_SOCKET=$PWD/s where warren list --root "$PWD/r")" "$PWD/r/run/warren.sock"
	assert_equal "$(WARREN_SOCKET=$PWD/s where warren list --socket "$PWD/o")" "$PWD/o"
	assert_equal "$(WARREN_URL=unix:$PWD/u where warren list)" "$PWD/u"
	assert_equal "$(unset WARREN_ROOT && where warren list)" /run/warren/warren.sock
	WARREN_URL=http://example.com refused 2 "*'http://example.com' is not understood" "write https://HOST:PORT*" list
	printf '[node]\nsocket = %s\n' "$PWD/elsewhere" >"$WARREN_ROOT/warren.conf"
	assert_equal "$(where warren list)" "$PWD/elsewhere"
}

@test "init, volume, config, doctor: this host as a node" {
	local user=()
	refused 2 "warren init: option '--dc' is missing" "it names the data centre*" init v2
	[ "$(id -u)" != 0 ] || user=(--user "$NODE_UID")
	refused 4 "*" "*" init --dc x --allow-root-fs "${user[@]}" v2
	mkdir full && touch full/x
	refused 4 "*root file system*" "*--allow-root-fs*" init --root "$PWD/r" --dc x "${user[@]}" full
	run -0 warren volume list --json
	assert_json .schema warren.volumes/1
	assert_json '.volumes | length' 1
	run -0 warren volume add --allow-root-fs "$PWD/v2"
	run -0 warren volume list
	assert_equal "${#lines[@]}" 2
	mkdir none
	refused 5 "*there is no node at*" "*warren init*" volume list --root "$PWD/none"

	run -0 warren config check
	assert_output_has "everything is at its default"
	printf '[save]\nevry = 5min\n' >bad.conf
	refused 2 "*bad.conf*evry*" "*every*" config check bad.conf
	refused 5 "*none.conf*" "" config check none.conf
	run -0 warren config get save.every
	assert_equal "$output" 5min
	WARREN_SAVE_EVERY=7min run -0 warren config get save.every
	assert_equal "$output" 7min
	run -0 warren config get --json
	assert_json .schema warren.config/1
	refused 5 "*'save.evry'*" "" config get save.evry

	run warren doctor --json
	[ "$status" = 0 ] || [ "$status" = 3 ]
	assert_json .schema warren.doctor/1
	assert_json '[.checks[] | select(.ok | not) | select(.lost == null and .check != "space")] | length' 0
	assert_json '[.checks[] | select(.check == "daemon")][0].ok' false
	assert_json '.missing == ([.checks[] | select(.ok | not)] | length)' true
	run warren doctor
	assert_output_has "no daemon answers"
	assert_output_has "Get it:"
}

# ---- a project's life ----

@test "create, list, show, state, settings: what a new project looks like" {
	start_daemon
	run -0 --separate-stderr warren list
	assert_equal "$output" ""
	assert_equal "$stderr" "warren list: no such projects; 'warren create' makes one"
	run -0 warren status
	assert_equal "$output" "no projects"

	make_seed
	run -0 warren create --name alice --from seed --label course=x --set disk=4G --json
	assert_json .schema warren.create/1
	assert_json .name alice
	assert_json .imported.files 3
	id=$(json .id)
	run -0 warren create --name bob
	[[ ${lines[0]} == "created bob ("*")"* ]]
	run -0 warren create --json
	warren delete "$(json .id)"

	run -0 warren list
	assert_equal "${#lines[@]}" 2
	[[ ${lines[0]} == "alice  stopped"*"$id" ]]
	run -0 warren list --label course=x --json
	assert_json .schema warren.projects/1
	assert_json '[.projects[].name] | join(" ")' alice
	run -0 warren list --name 'b*' -q
	[[ $output == bob* ]]
	run -0 warren list --state running
	[[ $output == *"no such projects"* ]]
	run -0 warren list --trashed --json
	assert_json '.projects | length' 1

	for ref in alice "$id" "${id:0:8}"; do
		run -0 warren show "$ref" --json
		assert_json .schema warren.project/1
		assert_json .id "$id"
		run -0 warren state "$ref" --json
		assert_json .schema warren.state/1
		assert_json .name alice
		assert_json .state stopped
	done
	run -0 warren show alice
	assert_output_has "course=x"
	assert_output_has "4G"

	run -0 warren settings alice
	grep -qE '^\* +disk +4G +bytes$' <<<"$output"
	grep -qE '^ +save_every +5min +time$' <<<"$output"
	run -0 warren settings alice disk=5G label.course= name=alicia description='two words, and "quotes"'
	assert_output_has "revision 2"
	run -0 warren settings alicia --json
	assert_json .settings.disk.value 5368709120
	assert_json .settings.description.value 'two words, and "quotes"'
	assert_json '.labels | length' 0
	run -0 warren settings alicia disk=
	run -0 warren show alicia --json
	assert_json .settings.disk.default true
	assert_json .rev 3
	refused 4 "*revision 3*" "*" settings alicia disk=6G --rev 1
}

@test "wrong input is refused with the name of what is wrong" {
	start_daemon
	make_alice
	refused 5 "warren show: *'nobody'*" "*" show nobody
	refused 5 "warren start: *'alcie'*" "did you mean 'alice'?" start alcie
	for id in 'No Name' ../x 'a/b' "$(printf 'x%.0s' {1..200})" $'a\nb'; do
		run --separate-stderr warren start "$id"
		assert_status 2
		[ -n "$stderr" ]
	done
	refused 2 "*'' is neither a project's id nor its name" "" start ""
	refused 4 "*alice*" "*" create --name alice
	refused 2 "*'Bad Name'*" "*" create --name 'Bad Name'
	refused 2 "*label*'x' is not of the form KEY=VALUE" "" create --name x --label x
	refused 2 "*'disk'*'12X'*" "*" create --name x --set disk=12X
	refused 2 "*'dsk'*" "did you mean 'disk'?" settings alice dsk=1G
	refused 2 "*'disk' is not of the form KEY=VALUE" "*--keys*" settings alice disk
	refused 2 "*'disk'*" "*" settings alice disk=1K
	refused 2 "*--rev goes with a change*" "" settings alice --rev 3
	refused 5 "*none*" "" create --name x --from none
	refused 2 "*--adopt: which repository?" "*--from DIR" create --name x --adopt
	refused 2 "*id*'123'*" "" create --name x --id 123
	refused 2 "*'--wait': '10q'*" "durations are written*" start alice --wait 10q
	refused 2 "*'--wait': 30d is out of range" "*" start alice --wait 30d
	refused 2 "*'--max-size': '12Q' is not a size" "sizes*" read alice notes.txt --max-size 12Q
	refused 2 "*'--state': 'ill' is none of its values" "give one of: stopped*" list --state ill
	refused 2 "*--holder and --force exclude*" "" stop alice --force --holder x
	refused 2 "*--to and --in-place exclude*" "" restore alice latest:notes.txt --to x --in-place
	refused 2 "*':notes.txt' names no snapshot" "*latest:notes.txt" restore alice :notes.txt
	refused 2 "*names a path*" "*" undo alice latest:notes.txt
	refused 2 "*'alice' has no colon" "write ID:PATH*" copy alice alice:x
	refused 5 "*nothing*" "*" restore alice nothing:notes.txt
	refused 5 "*" "" restore alice latest:nothing
	refused 5 "*" "" read alice nothing
	refused 2 "*" "*--tar or --zip*" read alice docs
	refused 2 "*leads upwards" "" read alice ../../etc/passwd
	refused 5 "*abcd*" "" op show abcd
	refused 2 "*'not an id'*" "" op show 'not an id'
	refused 2 "*argument SNAP\[:PATH] is missing" "see*" restore
	refused 2 "*unexpected argument 'c'" "see*" start a c
	refused 2 "*--watch needs a terminal*" "" top --watch 1
	# What deletes takes no beginnings of ids.
	id=$(project_id alice)
	for c in delete undelete purge; do
		refused 2 "*'${id:0:8}' is only the beginning of an id" "*full id or a name*" "$c" "${id:0:8}"
		refused 5 "*'alic'*" "" "$c" alic
	done
	assert_equal "$(state_of alice)" stopped
}

@test "start, holders, restart, stop" {
	start_daemon
	make_alice --set command='sleep 600'
	run -0 warren start alice --holder hub
	[[ ${lines[0]} == "started alice at $HOME_OF"* ]]
	[ -e "$HOME_OF/notes.txt" ]
	run -0 warren start alice --holder me --json
	assert_json .schema warren.start/1
	assert_json .already true
	run -0 warren state alice
	[[ $output == "running (since "* ]]
	run -0 warren top --json
	assert_json .schema warren.top/1
	assert_json '.projects[0].name' alice
	run -0 warren top
	[[ $output == alice* ]]
	run -0 warren restart alice --force
	assert_output_has "restarted alice"
	run -0 warren stop alice --holder me
	assert_output_has "held by hub"
	run -0 warren stop alice --holder hub
	assert_output_has "stopped alice"
	run -0 warren stop alice
	assert_output_has "stopped already"
	[ ! -e "$HOME_OF/notes.txt" ]
	run -0 warren stop alice --json
	assert_json .schema warren.stop/1
	assert_json .stopped true
}

@test "status: worst first, with a command, and its own exit status" {
	start_daemon
	make_alice
	make_project bob
	run -0 warren status
	assert_equal "${lines[-1]}" "2 stopped"
	run -0 warren settings bob command='exit 7'
	run -1 warren start bob
	run -1 warren status
	[[ ${lines[0]} == error*bob*"warren "* ]]
	run -1 warren status --json
	assert_json .schema warren.status/1
	assert_json .exit 1
	assert_json '.projects[0].name' bob
	assert_json '.projects[0].level' error
	run -0 warren status alice
	run -0 warren state bob
	[[ $output == error* ]]
	assert_output_has 7
}

@test "save, snapshots, ls, cat, diff, find, history: the views of a project" {
	start_daemon
	make_alice
	run -0 warren save alice
	assert_output_has "nothing changed since main/"
	run -0 warren start alice
	echo two >>"$HOME_OF/notes.txt"
	printf 'x' >"$HOME_OF/$(printf 'odd\xff')"
	run -0 warren save alice --tag t1 --message why --json
	assert_json .schema warren.save/1
	assert_json .made true
	assert_json .files.changed 1
	assert_json .tag t1
	first=$(warren snapshots alice --json | jq -r '.snapshots[-1].snapshot')

	run -0 warren snapshots alice --limit 1 --json
	assert_json .schema warren.snapshots/1
	assert_json '.snapshots | length' 1
	run -0 warren ls alice
	assert_output_has docs/
	run -0 warren ls alice latest:docs
	assert_equal "$output" numbers
	run -0 warren ls alice t1 -lR --json
	assert_json .schema warren.ls/1
	assert_json '[.entries[] | select(.path_b64)] | length' 1
	run -0 warren cat alice t1:notes.txt "$first:notes.txt"
	assert_equal "$output" $'one\ntwo\none'
	run -0 warren diff alice "$first" --name-only
	assert_output_has notes.txt
	run -0 warren diff alice "$first:notes.txt" t1:notes.txt
	assert_output_has +two
	run -0 warren diff alice "$first" --json
	assert_json .schema warren.diff/1
	run -0 warren find alice 'NUM*' -i
	assert_output_has docs/numbers
	run -0 warren history alice notes.txt --json
	assert_json .schema warren.history/1
	assert_json '.versions | length' 2
	# A failure is one object, and a status.
	run -5 --separate-stderr warren ls alice none --json
	assert_json .schema warren.error/1
	run -5 --separate-stderr warren cat alice latest:none
	assert_equal "$output" ""
}

@test "files, read, mkdir: the files as they are" {
	start_daemon
	make_alice
	run -0 warren mkdir alice a/b
	assert_equal "$output" "made folder a/b"
	run -0 warren mkdir alice a/b --json
	assert_json .existed true
	run -0 warren files alice
	assert_output_has docs/
	assert_output_lacks .hidden
	run -0 warren files alice -a --sort size --reverse --json
	assert_json .schema warren.files/1
	assert_json '[.files[].name] | index(".hidden") != null' true
	run -0 --separate-stderr warren files alice --start 1 --limit 1
	assert_equal "${#lines[@]}" 1
	assert_output_has docs/
	# shellcheck disable=SC2154
	[[ $stderr == *"1 of 3"* ]]
	run -0 warren files alice docs/
	assert_output_has numbers

	head -c 3000000 /dev/urandom >"$(tree_path alice)/big"
	warren read alice big | cmp - "$(tree_path alice)/big"
	run -0 warren read alice docs --tar -o docs.tar
	tar tf docs.tar | grep -qx docs/numbers
	run -0 warren read alice docs --zip -o docs.zip
	python3 -m zipfile -l docs.zip | grep -q docs/numbers
	refused 4 "*docs.zip*" "" read alice docs --zip -o docs.zip
	refused 1 "*" "" read alice big --max-size 1M -o cut
	[ ! -e cut ]
}

@test "restore, undo, copy: beside, in place, and back" {
	start_daemon
	make_alice
	make_project bob
	first=$(warren snapshots alice --json | jq -r '.snapshots[0].snapshot')
	tree=$(tree_path alice)
	echo broken >"$tree/notes.txt"
	run -0 warren restore alice "$first:notes.txt"
	[[ ${lines[0]} == "restored $first:notes.txt to notes.txt.from-"* ]]
	assert_equal "$(cat "$tree/notes.txt")" broken
	rm "$tree"/notes.txt.from-*
	run -0 warren restore alice "$first:notes.txt" --in-place --dry-run
	assert_output_has "would restore"
	assert_equal "$(cat "$tree/notes.txt")" broken
	run -0 warren restore alice "$first:notes.txt" --in-place
	assert_equal "$(cat "$tree/notes.txt")" one
	# The last line of the receipt is the command that undoes it.
	run -0 bash -c "'$WARREN' ${lines[-1]#*warren }"
	assert_equal "$(cat "$tree/notes.txt")" broken
	run -0 warren undo alice "$first" --json
	assert_json .schema warren.undo/1
	assert_equal "$(cat "$tree/notes.txt")" one
	run -0 warren undo alice
	assert_equal "$(cat "$tree/notes.txt")" broken
	# The colons of a time are its own.
	for time in "$(date -u +%FT%H:%M)" "$(date -u +%FT%H:%MZ)" "$(date -u +%FT%H:%M:59)" now 0s; do
		run -0 warren restore alice "$time:docs/numbers" --to at-time --overwrite always --json
		assert_json .path docs/numbers
		run -0 warren cat alice "main/$time:docs/numbers"
		assert_equal "${#lines[@]}" 100
	done
	run -0 warren restore alice latest:docs --to copy/of --json
	assert_json .schema warren.restore/1
	cmp "$tree/copy/of/numbers" seed/docs/numbers

	run -0 warren copy alice:docs bob:d
	assert_output_has "copied to bob"
	cmp "$(tree_path bob)/d/numbers" seed/docs/numbers
	run -0 warren copy alice:docs bob:d --json
	assert_json .schema warren.copy/1
}

@test "delete, undelete, purge, trash" {
	start_daemon
	make_alice
	make_project bob
	id=$(project_id alice)
	run -0 warren delete alice --json
	assert_json .schema warren.delete/1
	run -0 warren state alice --json
	assert_json .state absent
	run -5 warren ls alice
	run -0 warren trash list
	[[ $output == "alice  $id"* ]]
	run -0 bash -c "'$WARREN' ${id:+undelete $id}"
	assert_output_has "took alice out of the trash"
	run -0 warren read alice notes.txt
	assert_equal "$output" one
	run -0 warren delete alice
	refused 4 "*kept in the trash until*" "*--now*" purge alice
	run -0 --separate-stderr warren trash purge
	assert_equal "$output" ""
	warren delete bob -q
	run -0 warren trash purge --now --dry-run
	assert_equal "${#lines[@]}" 2
	run -3 --separate-stderr warren trash purge --now --max 1 --json
	assert_json .schema warren.trash-purge/1
	assert_json .left 1
	assert_json '.purged | length' 1
	run -0 warren purge bob --now --json
	assert_json .schema warren.purge/1
	run -0 --separate-stderr warren trash list
	assert_equal "$output" ""
}

# ---- operations ----

@test "operations: not waited for, listed, waited for, cancelled" {
	start_daemon
	make_alice
	lock alice
	run -0 warren save alice --no-wait --json
	assert_json .schema warren.operation/1
	op=$(json .id)
	run -0 warren op list --project alice
	[[ ${lines[0]} == "$op  save"* ]]
	run -0 warren op list --state 'done' --limit 1 --json
	assert_json .schema warren.operations/1
	assert_json '.operations | length' 1
	# A wait that is over, and one that is interrupted, leave it alone.
	refused 1 "*it did not end in time; the operation goes on" "'warren op wait $op'*" op wait "$op" --timeout 1s
	"$WARREN" op wait "$op" >out 2>&1 9>&- &
	pid=$!
	until_true grep -q 'SigCgt.*2$' "/proc/$pid/status"
	until_true interrupt_ends "$pid"
	run -1 wait "$pid"
	grep -q "interrupted; the operation goes on" out
	run -0 warren op show "$op" --json
	[[ $(json .state) == queued || $(json .state) == running ]]
	unlock
	run -0 warren op wait "${op:0:8}"
	assert_output_has "nothing changed since"
	run -0 warren op wait "$op" --json
	assert_json .schema warren.save/1
	run -0 warren op show "$op"
	assert_output_has "$op  save of alice: done"
	run -0 warren op log "$op"
	run -0 warren op log "$op" --json
	assert_json .schema warren.op-log/1
	refused 4 "*" "" op cancel "$op"

	lock alice
	run -0 warren save alice --no-wait -q
	op=$output
	run -0 warren op cancel "$op"
	unlock
	run -1 warren op wait "$op"
}

# The signal may come while the command does not wait yet, so it is sent again.
interrupt_ends() {
	kill -INT "$1" 2>/dev/null || return 0
	! grep -q '^State:.[^Z]' "/proc/$1/status" 2>/dev/null
}

@test "a daemon that is away for a moment does not end the waiting" {
	start_daemon
	make_alice
	lock alice
	run -0 warren save alice --no-wait -q
	op=$output
	"$WARREN" op wait "$op" >out 2>&1 9>&- &
	pid=$!
	until_true grep -q 'SigCgt.*2$' "/proc/$pid/status"
	kill_daemon
	unlock
	start_daemon
	wait "$pid"
	grep -q "nothing changed since" out
}

@test "events: what happened, in order" {
	start_daemon
	make_alice
	run -0 warren events --json
	assert_json .schema warren.events/1
	assert_json '[.events[].seq] | . == sort' true
	run -0 warren events --project alice --limit 1
	assert_equal "${#lines[@]}" 1
	run -0 warren events --since 1000000
	assert_equal "$output" ""
}

# ---- whose project ----

@test "inside a home the ID may be left out" {
	start_daemon
	make_alice
	make_project bob
	refused 2 "*no project is named, and '$PWD' is in no project's home" "*warren list*" show
	run -0 warren start alice
	mkdir -p "$HOME_OF/sub"
	cd "$HOME_OF/sub"
	run -0 warren show --json
	assert_json .name alice
	run -0 warren state . --json
	assert_json .name alice
	echo new >>../notes.txt
	run -0 warren save
	first=$(warren snapshots --json | jq -r '.snapshots[-1].snapshot')
	run -0 warren ls
	assert_output_has docs/
	run -0 warren ls . latest
	run -0 warren ls latest:docs
	assert_equal "$output" numbers
	run -0 warren cat "$first:notes.txt"
	assert_equal "$output" one
	run -0 warren cat "$first:$HOME_OF/notes.txt"
	assert_equal "$output" one
	run -0 warren diff . "$first"
	run -0 warren diff "$first" --name-only
	assert_output_has notes.txt
	run -0 warren find numbers
	run -0 warren history "$HOME_OF/notes.txt"
	assert_equal "${#lines[@]}" 2
	run -0 warren read notes.txt
	assert_equal "${lines[1]}" new
	run -0 warren files . docs
	assert_output_has numbers
	run -0 warren mkdir "$HOME_OF/made"
	[ -d "$HOME_OF/made" ]
	run -0 warren restore "$first:notes.txt" --to was.txt
	assert_equal "$(cat ../was.txt)" one
	run -0 warren settings description=x
	run -0 warren copy :docs bob:d
	WARREN_PROJECT=bob run -0 warren show --json
	assert_json .name bob
	cd "$BATS_TEST_TMPDIR"
	WARREN_PROJECT=$(project_id bob) run -0 warren state --json
	assert_json .name bob
}

@test "a project's user sees and saves his own project, and no other" {
	need_root
	start_daemon
	make_alice
	make_project bob
	run -0 warren show alice --json
	as_alice=(setpriv "--reuid=$(json .uid)" "--regid=$(json .gid)" --clear-groups "$WARREN")
	run -0 "${as_alice[@]}" list
	assert_equal "${#lines[@]}" 1
	run -0 "${as_alice[@]}" save alice
	run -0 "${as_alice[@]}" state alice
	run -0 "${as_alice[@]}" ls alice
	for c in "show bob" "state bob" "save bob" "ls bob" "read bob x" "create --name x" "delete alice" \
		"trash list" "settings alice disk=9G"; do
		# shellcheck disable=SC2086 # words
		run --separate-stderr "${as_alice[@]}" $c
		[ "$status" = 4 ] || [ "$status" = 5 ] || {
			echo "$c: status $status"
			return 1
		}
		assert_equal "$output" ""
	done
	run -0 "${as_alice[@]}" settings alice description=mine
}

@test "state is told from the disk, without a daemon" {
	start_daemon
	make_alice
	id=$(project_id alice)
	stop_daemon
	run -0 warren state alice --json
	assert_json .id "$id"
	assert_json .state stopped
	run -0 warren state "${id:0:8}"
	run -1 warren state nobody
	start_daemon
}

# ---- a daemon that is none ----

@test "answers that are broken, cut off or without end are told as such" {
	need python3
	cat >fake.py <<-'END'
		import os, socket, sys
		ok = b"HTTP/1.1 200 OK\r\n"
		answers = {
		    "none": b"",
		    "text": b"SSH-2.0-x\r\n\r\n",
		    "cut-head": ok + b"Content-Le",
		    "cut-body": ok + b"Content-Length: 100\r\n\r\n{}",
		    "no-json": ok + b"Content-Length: 3\r\n\r\nabc",
		    "no-number": ok + b"Content-Length: many\r\n\r\n{}",
		    "long-line": ok + b"X: " + b"x" * 100000 + b"\r\n\r\n",
		    "many-lines": ok + b"X: x\r\n" * 1000 + b"\r\n{}",
		    "no-colon": ok + b"what\r\n\r\n{}",
		    "gzip": ok + b"Transfer-Encoding: gzip\r\n\r\n{}",
		    "bad-chunk": ok + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
		    "long-chunk": ok + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
		    "big-chunk": ok + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
		    "no-end": ok + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		    "failed": ok + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nWarren-Exit: 5\r\n"
		              b'Warren-Error: {"code":"not_found","message":"gone"}\r\n\r\n',
		    "refused": b"HTTP/1.1 423 Locked\r\nContent-Length: 88\r\n\r\n" +
		               b'{"schema":"warren.error/1","error":{"code":"busy","message":"in use","hint":"wait"}}'.ljust(88),
		}
		s = socket.socket(socket.AF_UNIX)
		s.bind("fake.sock")
		s.listen()
		print("ready", flush=True)
		while True:
		    c, _ = s.accept()
		    request = b""
		    while b"\r\n\r\n" not in request:
		        request += c.recv(65536)
		    with open("case") as f:
		        c.sendall(answers[f.read().strip()])
		    c.close()
	END
	python3 fake.py >ready 3>&- &
	fake=$!
	until_true grep -q ready ready
	export WARREN_SOCKET=$PWD/fake.sock
	for c in none text cut-head cut-body no-json no-number long-line many-lines no-colon gzip bad-chunk \
		long-chunk big-chunk; do
		echo "$c" >case
		run -1 --separate-stderr warren list
		[[ $stderr == *"the daemon's answer"* ]] || {
			echo "$c: $stderr"
			return 1
		}
		# What is read may be any bytes.
		[ "$c" = no-json ] || run -1 --separate-stderr warren read x y
	done
	echo no-end >case
	run -1 --separate-stderr warren read x y
	[[ $stderr == *"does not say how it ended"* ]]
	echo failed >case
	run -5 --separate-stderr warren read x y
	[[ $stderr == *gone* ]]
	run -5 --separate-stderr warren ls x --json
	assert_equal "$output" "{}"
	echo refused >case
	run -4 --separate-stderr warren list
	assert_equal "${stderr_lines[0]}" "warren list: in use"
	assert_equal "${stderr_lines[1]}" "HINT: wait"
	kill "$fake"
	unset WARREN_SOCKET
}
