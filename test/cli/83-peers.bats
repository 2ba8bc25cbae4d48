#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: peer_test, link_test and the tests of the rules run the same code
# waits
# shellcheck disable=SC2154 # answer is set by say
# What nodes believe of each other: gossip, promises and records, leases; and thieves, liars, copies of
# old hosts. peer_probe speaks with whatever keys a test gives it.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet

setup() {
	lib_setup
	[ -x "$PROBE" ] || skip "needs a build with tests"
}

# answers JQ: the last answer is so
answers() {
	jq -e "$1" <<<"$answer" >/dev/null || {
		echo "instead of $1: $answer"
		return 1
	}
}

# refused NODE TEXT: the answer says so, and an event does
refused() {
	answers "(.kind == \"ERROR\" or .kind == \"NACK\") and (.text | contains(\"$2\"))" || return 1
	has_event "$1" peer.refused "(.why | contains(\"$2\"))" || {
		echo "no event of: $2"
		return 1
	}
}

make_project_on() {
	at "$1" do_op POST /v1/projects "$(jq -n --arg n "$2" '{name: $n, settings: $ARGS.positional}' \
		--args "${@:3}")" >made
	jq -e '.state == "done"' made >/dev/null || {
		cat made
		return 1
	}
	P=$(jq -r .project made)
}

promises() {
	say a b PREPARE project="$P" n=+1 && answers '.kind == "PROMISE"' >/dev/null
}

# Refusals are events, of which there are 50 a minute.
promises_soon() {
	promises || {
		sleep 2
		return 1
	}
}

@test "a newer fleet record goes around; a node that was removed is no peer" {
	make_fleet 3
	say b c HELLO
	answers '.kind == "HELLO_OK" and .seq == 3'
	cp -a c c.old
	run -0 on a node remove c --force
	within 10 has_event b fleet.record '.why | startswith("number 4")'
	run ! say c b HELLO
	within 10 has_event b peer.note '.why | contains("not, or no longer, of the fleet")'
	# It comes back as another incarnation; the one before stays what it is.
	stop_node c
	token=$(join_token c dc3 --rejoin c)
	fleet_join c "$token" --volume "$PWD/c.v" --allow-root-fs
	start_node c
	within 20 say c b HELLO
	answers '.kind == "HELLO_OK"'
	mv c c.new
	mv c.old c
	run ! say c b HELLO
	rm -rf c
	mv c.new c
}

@test "promises and records: only as the rules have it, and every refusal is told" {
	make_fleet 3
	make_project_on a one
	# Only hubs ask for promises and grants.
	say c b PREPARE project="$P" n=+1
	refused b "is no hub"
	say c a GRANT_ASK project="$P" n=+0
	refused a "is no hub"
	# For a while after a start, or after the writer was heard, nothing is promised.
	say a b PREPARE project="$P" n=+1
	refused b "ago"
	within 60 promises_soon
	# The same again is the same answer; less is none.
	promises
	say a b PREPARE project="$P" n=+0
	refused b "promised epoch 2 already"
	# A record that no hub signed; one of less than was promised; of another project.
	say a b INSTALL project="$P" record=make n=+1 writer=b key=node
	refused b "hub key"
	say a b INSTALL project="$P" record=own
	answers '.kind == "OK"'
	say c b KEEP project="$P" n=+0 keep=1 number=1
	answers '.kind == "KEPT" and .kept == false and .record > 0'
	# The writer's own is no good either while b is bound to a later one.
	say a b KEEP project="$P" n=+0 keep=1 number=1
	answers '.kind == "KEPT" and .kept == false'
	# From here on b tells the hub, and so a: what is older is taken from what a knew before.
	cp -a a a.then
	say a b INSTALL project="$P" record=make n=+1 writer=b key=hub
	answers '.kind == "OK"'
	KNOWS=a.then say a b INSTALL project="$P" record=make n=+1 writer=c key=hub
	refused b "two records"
	KNOWS=a.then say a b INSTALL project="$P" record=own
	refused b "promised epoch 2 already"
	say b b KEEP project="$P" n=+0 keep=1 number=1
	answers '.kind == "KEPT" and .kept == true'
	# What is no question, and what a member that knows nothing of it is asked.
	say a b OK
	refused b "OK is no question"
	say a b PREPARE project=00000000-0000-4000-8000-000000000001 n=5
	refused b "unknown here"
}

@test "thieves: keys of another node, altered, played again, for someone else" {
	make_fleet 3
	make_project_on a one
	# c's keys, in the name of the hub.
	say c b --from a PREPARE project="$P" n=+1
	refused b "not signed"
	has_event b peer.refused '.detail.kind == "PREPARE"'
	# The TLS key of c carries what a signed: it can delay, not forge.
	say a b --tls "$PWD/c" HELLO
	answers '.kind == "HELLO_OK"'
	for at in 20 90 150; do
		say a b --flip "$at" KEEP project="$P" n=+0 keep=1 number=1
		answers '.kind == "ERROR"'
	done
	say a b --to-id c KEEP project="$P" n=+0 keep=1 number=1
	refused b "the message is for node"
	# Played again: to the same process, and to the next.
	say a b --keep kept KEEP project="$P" n=+0 keep=1 number=1
	answers '.kept'
	say a b --play kept
	refused b "here before"
	say c b --play kept
	refused b "here before"
	stop_node b
	start_node b
	within 20 say a b --play kept
	answers '.kind == "WRONG_NONCE"'
	# A nonce that was guessed.
	say a b --nonce 12345 HELLO
	answers '.kind == "WRONG_NONCE"'
	# A push of what is no save, of a record that c is not the writer of, and what is no push at all.
	say c b --stream PUSH project="$P" record=own
	answers '.kind == "ACK"'
	say c b --stream HELLO
	refused b "comes by no stream"
	say c b --stream --flip 150 PUSH project="$P" record=own
	answers '.kind == "ERROR"'
}

# settings NAME [JQ]: of a project that a node would like to have
settings() {
	jq -n --arg n "$1" --arg p "$P" "{format: 1, id: \$p, name: \$n, account: \"\", rev: 1, epoch: 1, uid: 900001,
		gid: 900001, exclusive: true, created: \"2026-01-01T00:00:00Z\", labels: {}, settings: {}} | ${2-.}" -c
}

@test "a node that lies about whose a project is becomes nobody else for it, nor does a hub" {
	need_root
	make_fleet 2
	make_project_on a one
	local one=$P uid
	uid=$(on b show --json one | jq .uid)
	# what it asks the hub to sign
	P=$(cat /proc/sys/kernel/random/uuid)
	say b a CREATE project="$P" text=evil number=1 blob="$(settings evil '.uid = 0')"
	answers '.kind == "ERROR" and (.text | contains("is root"))'
	say b a CREATE project="$P" text=evil number=1 blob="$(settings evil ".uid = $uid")"
	answers '.kind == "ERROR" and (.text | contains("has uid"))'
	P=$one
	say b a SETTINGS project="$P" number=1 blob="$(settings one)"
	answers '.kind == "ERROR" and (.text | contains("does not change"))'
	# what a hub that was taken over signs: whose it is, where it is, which one it is
	for how in '.uid = 0' '.gid = 27' ".uid = $uid + 1" '.settings.home = "/root/.ssh"' '.settings.template = "/root"' \
		'.id = "00000000-0000-4000-8000-000000000001"'; do
		say a b INSTALL project="$P" record=own doc="$(settings one ".uid = $uid | .gid = $uid | .rev = 1000 | $how")"
		say a b --stream PUSH project="$P" record=own doc="$(settings one ".uid = $uid | .gid = $uid | .rev = 1000 | $how")"
		answers '.kind == "ERROR"'
		[ "$(on b show --json one | jq '[.uid, .gid, .settings.home.default, .settings.template.default] == ['"$uid, $uid"', true, true]')" = true ]
	done
}

# Another process saw it further than it is.
@test "a node that was restored from an image, or emptied, has no vote" {
	make_fleet 3
	make_project_on a one
	id=$(on b node list --json | jq -r '.nodes[] | select(.name == "b") | .id')
	within 20 has_event b replica.new
	stop_node a
	jq --arg id "$id" '.nodes |= map(select(.node != $id)) + [{node: $id, incarnation: 1, counter: 5000}]' \
		a/state/peers.json >peers
	cp peers a/state/peers.json
	start_node a
	within 40 has_event b node.behind '.why | contains("5000")'
	has_event a node.behind '.why | contains("was set back")'
	say a b PREPARE project="$P" n=+1
	refused b "it has no vote"
	say a b KEEP project="$P" n=+0 keep=1 number=1
	answers '.kept == false'
	at b api GET /v1/status | jq -e 'any(.projects[]; .level == "error" and (.text | contains("set back")))'
	# Nor after a start, nor with whatever it has to send.
	stop_node b
	start_node b
	say a b PREPARE project="$P" n=+1
	refused b "it has no vote"
	say b a --stream PUSH project="$P" record=own
	refused a "set back"
	# c: all that it promised is gone.
	stop_node c
	rm c/state/control/*.auth
	start_node c
	say a c PREPARE project="$P" n=+1
	refused c "unknown here"
	say a c INSTALL project="$P" record=make n=+1 key=hub
	refused c "it knows nothing of it"
}

# beats NODE PROJECT: the processes of it write
beats() {
	local f was
	f=$(tree_on "$1" "$2")/beat
	was=$(stat -c %s "$f" 2>/dev/null || echo 0)
	within 3 grew "$f" "$was"
}

grew() {
	[ "$(stat -c %s "$1" 2>/dev/null || echo 0)" -gt "$2" ]
}

@test "a writer that nobody answers stands still, and goes on when they do; also over a crash" {
	need_hosts
	make_fleet 3
	make_project_on a one "command=while :; do date >>beat; sleep 0.1; done"
	at a do_op POST /v1/projects/one/start '{}' >started
	beats a one
	sever a
	within 60 has_event a project.frozen '.why | contains("lost its replicas")'
	[ -e "a/run/frozen/$P" ]
	at a api GET /v1/projects/one | jq -e '.frozen.why | contains("lost its replicas")'
	run ! beats a one
	# The daemon dies; the next one knows.
	kill_node a
	start_node a
	run ! beats a one
	heal
	within 40 has_event a project.thawed
	beats a one
	[ ! -e "a/run/frozen/$P" ]
}

@test "a writer that a record takes away is stopped" {
	make_fleet 3
	make_project_on a one "command=while :; do date >>beat; sleep 0.1; done"
	at a do_op POST /v1/projects/one/start '{}' >started
	beats a one
	# As a forced raise would: a majority has it, without a word of a.
	say a a INSTALL project="$P" record=make n=+1 writer=b key=hub
	answers '.kind == "OK"'
	has_event a project.frozen '.why | contains("another node is its writer now")'
	within 30 stopped a
}

stopped() {
	[ "$(at "$1" state_of one)" = stopped ]
}
