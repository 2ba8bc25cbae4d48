#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it mostly waits until nodes are given up
# waits
# shellcheck disable=SC2034,SC2154 # FLEET_CONF is that of fleet.bash
# What a node or a hub has lost, or never heard: nothing is called safe that is not, nothing is overwritten, and there
# is a way on.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet
load cluster

# forget NODE PROJECT: what it promised is gone
forget() {
	rm "$1/state/control/$(fleet_id "$2").auth"
}

@test "a writer that lost what it promised saves nothing, can be stopped, and comes back as a new member" {
	need_hosts
	make_fleet 3
	make ann a
	done_on a start ann
	for i in 1 2 3; do
		echo "$i" | edit a ann f
		save a ann
	done
	forget a ann
	echo new | edit a ann g
	# Else its saves would be numbered anew, and the others take them for what they have.
	at a do_op POST /v1/projects/ann/save '{}' >answer
	jq -e '.error.code == "corrupt" and (.error.hint | contains("add it again"))' answer
	done_on a stop ann
	is a ann .state.state stopped
	stop_node a
	start_node a
	has_event a project.not-in-fleet
	run -1 on a start ann
	run ! on a delete ann
	within 60 done_on b start ann
	[ "$(saved_on b ann f)" = 3 ]
	echo 4 | edit b ann f
	save b ann
	safe_in "true 2"
	replica a | jq -e '.error.message | contains("knows nothing of it")'
	done_on b replica remove ann --node a
	done_on b replica add ann --node a
	within 60 is b ann .safe.in 3
	[ "$(saved_on a ann f)" = 4 ]
	# What was never saved waits, or went to the side when the files were brought along.
	[ "$(cat "$(tree_on a ann)/g")" = new ] || [ -n "$(side_branches a ann)" ]
	sound ann "${FLEET[@]}"
}

@test "a copy that lost what it promised has no vote in the project's first epoch either" {
	make_fleet 3
	make ann a
	forget b ann
	stop_node b
	start_node b
	echo 1 | edit a ann f
	save a ann
	safe_in "true 2"
	behind b
	replica b | jq -e '.error.message | contains("knows nothing of it")'
	[ ! -e "b/state/control/$(fleet_id ann).auth" ]
}

@test "a hub dies with the writer's promise for a record that nobody else heard of: the writer asks for one" {
	need_hosts
	make_fleet 3
	make ann b 'command=while :; do date >beat; sleep 0.1; done'
	done_on b start ann
	save b ann
	stop_node c
	stop_node a
	start_node a WARREN_CRASH=auth.store
	run ! on b replica remove ann --node c
	kill_node a
	start_node a
	start_node c
	# Longer than its lease would last; nobody starts it anew.
	went_on() { at b do_op POST /v1/projects/ann/save '{}' | jq -e '.receipt | .safe and (.side_branch | not)' >/dev/null; }
	within 45 went_on
	is b ann .state.state running
	# 2 with luck: its random half decides against the one that was promised; else 3.
	is b ann '.epoch == 2 or .epoch == 3' true
	sleep_until=$((SECONDS + 35))
	until ((SECONDS > sleep_until)); do
		! has_event b project.frozen
		sleep 1
	done
}

@test "what a former writer puts to the side is on one node, and is not called safe" {
	need_hosts
	make_fleet 3
	make ann c
	done_on c start ann
	echo 1 | edit c ann f
	save c ann
	echo unsaved | edit c ann f
	power_off c
	within 60 done_on b start ann
	start_node c
	within 30 is c ann .writer.name b
	at c do_op POST /v1/projects/ann/save '{}' >answer
	jq -e '.error.code == "denied" or (.receipt | .safe == false and .safe_in == 1 and .members == 3)' answer
}

@test "the mark of a side branch stays while somebody may be making one" {
	make_fleet 2
	make ann a
	save a ann
	within 30 is a ann .safe.in 2
	stop_node b
	mark=b/state/sides/$(fleet_id ann)
	mkdir -p b/state/sides
	: >"$mark"
	exec 9<>"$(repo_on b ann)/conf/lock"
	flock 9
	start_node b 9>&-
	looked() {
		at b api GET /v1/operations | jq -e 'any(.operations[]; .kind == "replicate" and .state == "done")'
	}
	within 30 looked
	[ -e "$mark" ]
	exec 9>&-
	unmarked() { [ ! -e "$mark" ]; }
	within 30 unmarked
}

@test "move takes nothing away that is not safe, unless that is accepted" {
	FLEET_CONF=$'[replica]\nmax_size = 4M\nretry_max = 600s'
	make_fleet 3
	make ann a
	done_on a start ann
	head -c 6M /dev/urandom | edit a ann big
	run -4 --separate-stderr on a move ann --to b
	[[ $stderr == *"not safe on other nodes"*"--accept-loss"* ]]
	within 20 is a ann .state.state running
	is a ann .writer.name a
	# The same of one that is at rest.
	done_on a stop ann
	run -4 on a move ann --to b
	is a ann .writer.name a
	rm "$(tree_on a ann)/big"
	done_on a move ann --to b --accept-loss
	is a ann .writer.name b
}

@test "a hub that lost its catalog gives no project the name or the uid of another" {
	make_fleet 1
	make ann a
	stop_node a
	rm a/state/hub/catalog.db*
	start_node a
	make bob a
	[ "$(on a show --json ann | jq .uid)" != "$(on a show --json bob | jq .uid)" ] || [ "$(id -u)" != 0 ]
	run ! on a create --name ann
	done_on a settings ann description=still
	# Again, where another node has them.
	echo 1 | edit a ann f
	save a ann
}

# is_fleet JQ: what the hub shows
is_fleet() {
	{ on a fleet --json || true; } | jq -e "$1" >/dev/null
}

uid_on() {
	on "$1" show --json "$2" | jq .uid
}

@test "a hub whose catalog is gone, or an older one, asks every node before it gives a name away" {
	need_hosts
	make_fleet 3
	make ann b
	is_fleet '.recovering | not'
	stop_node a
	cp a/state/hub/catalog.db before.db
	start_node a
	make bob b
	make cyd c
	stop_node c
	# Gone: what c holds nobody can say, what b holds is heard soon.
	stop_node a
	rm a/state/hub/catalog.db*
	start_node a
	has_event a hub.recovering
	within 40 is_fleet '.recovering and .missing == ["c"]'
	on a fleet >shown 2>&1 || true
	grep -q 'recovering: .* c$' shown
	run -4 --separate-stderr on b create --name dan
	[[ $stderr == *"recovering"*" c"*"warren node remove"* ]]
	run -4 on a create --name dan
	run -4 on a node remove b
	# Everything else goes on.
	done_on b start bob
	echo 1 | edit b bob f
	save b bob
	done_on b settings bob description=still
	start_node c
	within 40 is_fleet '.recovering | not'
	has_event a hub.recovered
	for name in ann bob cyd; do
		run ! on a create --name $name
	done
	make dan a
	[ "$(for p in 'b ann' 'b bob' 'c cyd' 'a dan'; do uid_on $p; done | sort -u | wc -l)" = 4 ]
	# An older one: it knows of neither bob nor cyd, and of no node that what it knows is all.
	stop_node c
	stop_node a
	cp before.db a/state/hub/catalog.db
	rm -f a/state/hub/catalog.db-*
	start_node a
	within 40 is_fleet '.recovering and .missing == ["c"]'
	run -4 on a create --name cyd
	# It is gone for good, and so is what it alone held.
	run -0 on a node remove c --force
	is_fleet '.recovering | not'
	run ! on a create --name bob
	make fay a
	[ "$(for p in 'b ann' 'b bob' 'a dan' 'a fay'; do uid_on $p; done | sort -u | wc -l)" = 4 ]
}

copies_of() {
	python3 -c 'import sqlite3, sys
print(sqlite3.connect("a/state/hub/catalog.db").execute("SELECT count(*) FROM copy WHERE node=?", sys.argv[1:]).fetchone()[0])' "$1"
}

@test "what a node holds is read page by page; what was cut off goes on where it was, and ends" {
	need_hosts
	[ -x "$PROBE" ] || skip "needs a build with tests"
	make_fleet 2
	local id
	id=$(on a node list --json | jq -r '.nodes[] | select(.name == "b") | .id')
	stop_node b
	stop_node a
	rm a/state/hub/catalog.db*
	liar b a again=9000
	start_node a
	within 20 has_event a peer.refused '.why | contains("not in the order of ids")'
	is_fleet .recovering
	no_liar
	# As many as a node's index of projects may have; here three pages.
	liar b a holds=9000
	within 40 has_event a hub.recovering '.why | startswith("all 9000 projects")'
	is_fleet '.recovering | not'
	no_liar
	printf 'after %s\n' '' 00000fa0 00000fa0 00001f40 >pages
	cut -c 1-14 lied | sed 's/-$//' | diff - pages
	[ "$(copies_of "$id")" = 9000 ]
}

# dies_creating NODE POINT ON NAME: NODE is ended at that point by a create on ON
dies_creating() {
	stop_node "$1"
	start_node "$1" WARREN_CRASH="control.$2"
	created_in_vain() {
		run ! on "$2" create --name "$3"
		! kill -0 "${FLEET_DAEMON[$1]}" 2>/dev/null
	}
	within 30 created_in_vain "$1" "$3" "$4"
	wait "${FLEET_SERVE[$1]}" || true
}

can_create() {
	done_on "$1" create --name "$2"
}

@test "a name whose answer was lost is given back: by the node, after its end too, and by the hub alone" {
	make_fleet 2
	# The hub dies before it answers.
	dies_creating a name-taken b ann
	[ -n "$(ls b/state/asked)" ]
	start_node a
	within 30 can_create b ann
	# The node dies before it keeps the answer.
	dies_creating b name-given b bob
	run ! on a create --name bob
	start_node b
	within 30 can_create a bob
	within 10 test -z "$(ls b/state/asked)"
	# It forgets even that, and all else: an hour later it says that it holds nothing of it.
	on a node set -q a --draining yes
	make eve b
	on a node set -q a --draining no
	run -0 on a locate eve --json
	dies_creating b name-given b cyd
	run -0 on a node add --name b --dc dc2 --rejoin b --json
	rm -rf b/state/{control,asked}/* b/state/node.db* b.v/{repos,projects}/*-*
	fleet_join b "$(jq -r .token <<<"$output")" --volume "$PWD/b.v" --allow-root-fs
	stop_node a
	python3 - <<-'END'
		import sqlite3
		db = sqlite3.connect("a/state/hub/catalog.db")
		assert db.execute("UPDATE project SET created=created-4000 WHERE name IN ('cyd', 'eve')").rowcount == 2
		db.commit()
	END
	start_node a
	run ! on a create --name cyd
	start_node b
	within 40 has_event a hub.name-free
	done_on a create --name cyd
	# What lives, however old, keeps its name.
	run ! on a create --name ann
	run ! on b create --name bob
	# So does what was there once, and is lost.
	run ! on a create --name eve
	run -3 on a locate eve --json
	jq -e '[.projects[] | .name, (.places[] | .name, .what)] == ["eve", "b", "missing"]' <<<"$output"
}

@test "losses are accepted at the hub, and a node makes no more projects than it may" {
	FLEET_CONF=$'[hub]\ncreates = 2'
	make_fleet 3
	make ann a
	make bob b
	make cyd b
	run -1 --separate-stderr on b create --name dan
	[[ $stderr == *"node 'b' made 2 projects within the hour"*"[hub] creates"* ]]
	has_event a hub.create-limit
	make dan c
	make eli a
	make fay a
	# A node's own word is none.
	run -4 --separate-stderr on b start ann --accept-loss
	[[ $stderr == *"permitted at a hub"*"warren hub permit-loss"*"--node b"* ]]
	has_event a peer.refused '.why | contains("permitted at a hub")' || true
	run ! on b hub permit-loss ann --node b
	run -2 on a hub permit-loss ann
	run -5 on a hub permit-loss nobody --node b
	run -0 on a hub permit-loss ann --node b
	assert_output_has "warren start ann --accept-loss"
	has_event a hub.loss-permitted
	run -4 on c start ann --accept-loss
	done_on b start ann --accept-loss
	is b ann .writer.name b
	# Once.
	run -4 on c start ann --accept-loss
	# A project's own token is no operator's.
	token=$(on b token create -q --scope project:ann)
	run -0 node b curl -sk -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
		-d '{"accept_loss": true}' "https://${FLEET_IP[b]}:$FLEET_PORT/v1/projects/ann/start"
	assert_equal "$output" 403
}

@test "an operation that ends while node.db takes nothing is answered, and recorded later" {
	make_fleet 1
	make ann a
	done_on a start ann
	head -c 100M /dev/urandom | edit a ann big
	op=$(at a api POST /v1/projects/ann/save '{}' | jq -r .id)
	within 10 pgrep -f "warren @op .*$op"
	pid=$(pgrep -f "warren @op .*$op")
	kill -STOP "$pid"
	# Nobody else may write then: as good as full, and it can be taken back.
	mkfifo hold
	python3 - <<-'END' 3>&- 4>&- &
		import sqlite3
		db = sqlite3.connect("a/state/node.db", isolation_level=None)
		db.execute("BEGIN IMMEDIATE")
		open("held", "w").close()
		open("hold").read()
	END
	holder=$!
	within 10 test -e held
	kill -CONT "$pid"
	at a api GET "/v1/operations/$op?wait=60s" >answer
	jq -e '.state == "done" and .receipt.made' answer
	[ "$(on a op show --json "$op" | jq -r .state)" = "done" ]
	python3 -c 'import sqlite3, sys
assert sqlite3.connect("a/state/node.db").execute("SELECT count(*) FROM op WHERE id=? AND receipt IS NOT NULL", sys.argv[1:]).fetchone()[0] == 0' "$op"
	echo >hold
	wait "$holder"
	recorded() {
		python3 -c 'import sqlite3, sys
assert sqlite3.connect("a/state/node.db").execute("SELECT count(*) FROM op WHERE id=? AND receipt IS NOT NULL", sys.argv[1:]).fetchone()[0] == 1' "$op" 2>/dev/null
	}
	within 20 recorded
	echo more | edit a ann f
	save a ann
}
