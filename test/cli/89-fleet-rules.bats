#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it mostly waits until nodes are given up
# waits
# shellcheck disable=SC2034,SC2154 # FLEET_CONF is that of fleet.bash
# Rules that are seldom needed, over real nodes: witnesses, five members, liars, old images, a node that is removed, a
# loss that is accepted, a record that is forced.  One fleet of five for all of it, so the tests go by their order: what
# has to wait until a writer is given up waits once, for all projects.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet
load cluster

BEAT='command=while :; do date >>beat; sleep 0.2; done'

setup_file() {
	BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR
	fleet_is_hosts || return 0
	lib_setup
	FLEET_CONF='[replica]
retry_max = 5s
tree_after = 2s
max_size = 25M
[trash]
drop_after = 1s'
	make_fleet 5
	projects
	fleet_keep
}

setup() {
	BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR
	fleet_is_hosts || skip "needs root and namespaces: each node is a host"
	lib_setup
	fleet_again
	[ ! -e failed ] || skip "goes on from what '$(cat failed)' was to leave"
}

teardown() {
	fleet_is_hosts || return 0
	[ -n "${BATS_TEST_COMPLETED-}${BATS_TEST_SKIPPED-}" ] || {
		echo "$BATS_TEST_DESCRIPTION" >failed
		fleet_tell
	}
	fleet_keep
}

teardown_file() {
	BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR
	fleet_is_hosts || return 0
	[ ! -e "$BATS_TEST_TMPDIR/fleet.kept" ] || fleet_again
	fleet_teardown
}

# ---- who holds what ----

# among NODE...: new projects go to these alone
among() {
	local name
	for name in "${FLEET[@]}"; do
		if [[ " $* " == *" $name "* ]]; then
			on a node set -q "$name" --draining no
		else
			on a node set -q "$name" --draining yes
		fi
	done
}

projects() {
	among c d
	make wit d "$BEAT"
	among a b c
	make tree a
	make drop a
	among a d e
	make gone d "$BEAT"
	among b c d
	make loss d "$BEAT"
	among b c e
	make left e "$BEAT"
	among a b c d e
	make five d "$BEAT"
	local name
	for name in a b c e; do
		[[ " $(members d five) " == *" $name:"* ]] || on d replica add -q five --node "$name"
	done
	within 60 members_are d five "a:data b:data c:data d:data e:data"
}

# event NODE WHAT TEXT: there is one, and its text has that
event() {
	at "$1" api GET '/v1/events?limit=1000' |
		jq -e --arg w "$2" --arg t "$3" 'any(.events[]; .what == $w and (.why | contains($t)))' >/dev/null
}

in_file() {
	[ "$(cat "$(tree_on "$1" "$2")/$3" 2>/dev/null)" = "$4" ]
}

# ---- everybody is there ----

@test "a witness keeps the record and votes; it gets no data and makes nothing safe" {
	has_event a fleet.two-copies
	members_are d wit "c:data d:data"
	run -0 on d replica add wit --node b --witness --json
	jq -e '.role == "witness" and (.members | length) == 3' <<<"$output"
	within 20 members_are d wit "b:witness c:data d:data"
	[ -e "b/state/control/$(fleet_id wit).auth" ]
	run -4 on d replica add wit --node b --witness
	on d start -q wit
	echo 1 | edit d wit f
	save d wit
	safe_in "true 2"
	jq -e '.receipt.members == 2 and ([.receipt.replicas[].name] == ["c"])' answer
	say d b --stream PUSH project="$(fleet_id wit)" record=own || true
	[[ $answer == *"is a witness"* ]]
	say d b KEEP project="$(fleet_id wit)" n=+0 keep=1 number=1
	[[ $answer == *'"kept":true'* ]]
	[ ! -e "$(repo_on b wit)" ] && [ ! -e "$(tree_on b wit)" ]
	# It may vote, but two copies are needed.
	stop_node c
	echo 2 | edit d wit f
	op d POST "/v1/projects/wit/save" '{}'
	safe_in "false 1"
	start_node c
	within 20 same_refs wit c d
}

@test "files of copies: eager on all, warm on one, none; never over unsaved work" {
	local name
	on a settings -q tree replica_tree=eager
	within 20 is b tree .settings.replica_tree.text eager
	within 20 is c tree .settings.replica_tree.text eager
	echo 1 | edit a tree f
	save a tree
	within 15 in_file b tree f 1
	within 15 in_file c tree f 1
	# The first of the others stands by; who that is goes by its id.
	on a settings -q tree replica_tree=warm
	within 20 is b tree .settings.replica_tree.text warm
	within 20 is c tree .settings.replica_tree.text warm
	echo 2 | edit a tree f
	save a tree
	local first=b other=c
	[[ $(at a api GET /v1/nodes | jq -r '[.nodes[] | select(.name == "b" or .name == "c")] | sort_by(.id)[0].name') == b ]] ||
		first=c other=b
	within 15 in_file "$first" tree f 2
	in_file "$other" tree f 1
	on a settings -q tree replica_tree=none
	within 20 is "$first" tree .settings.replica_tree.text none
	echo 3 | edit a tree f
	save a tree
	# Something else that is due as late as this would be: by then it would be here.
	on a settings -q drop replica_tree=eager
	within 20 is "$first" drop .settings.replica_tree.text eager
	echo 3 | edit a drop f
	save a drop
	within 15 in_file "$first" drop f 3
	in_file "$first" tree f 2
}

updating() {
	at "$1" api GET '/v1/operations?limit=20' |
		jq -e --arg p "$(fleet_id tree)" 'any(.operations[]; .kind == "update" and .project == $p and .state == "running")' >/dev/null
}

@test "files of copies: a start does not wait for an update, and nothing is missing then" {
	local tree
	on a settings -q tree replica_tree=eager
	within 20 is b tree .settings.replica_tree.text eager
	tree=$(tree_on a tree)
	mkdir "$tree/many"
	seq 6000 | (cd "$tree/many" && split -l 1 -a 4)
	chown -R --reference="$tree" "$tree/many"
	save a tree
	within 15 updating b
	done_on b start tree
	[ "$(find "$(tree_on b tree)/many" -type f | wc -l)" = 6000 ]
	in_file b tree f 3
	done_on b stop tree
	# Nothing was taken for a change.
	[ "$(git_on b tree rev-parse 'main^{tree}')" = "$(git_on a tree rev-parse 'main^{tree}')" ]
}

lied() {
	grep -q lied lied
}

kept_times() {
	[ "$(at c api GET '/v1/events?limit=1000' |
		jq --arg p "$(fleet_id drop)" '[.events[] | select(.what == "copy.kept" and .project == $p)] | length')" -ge "$1" ]
}

@test "a member that lies about what it has: with a made-up proof, with another one's; no copy goes" {
	[ -x "$PROBE" ] || skip "needs a build with tests"
	members_are a drop "a:data b:data c:data"
	stop_node b
	liar b a wrong
	on a replica remove -q drop --node c
	within 30 lied
	within 20 event c copy.kept "'b': its proof is wrong"
	no_liar
	# What a says to b's question proves a's copy.
	liar b a relay
	kill_node c
	start_node c
	within 40 lied || { cat liar.log; at c api GET '/v1/events?limit=20'|jq -c '.events[]|[.when,.what,.why]'; false; }
	grep -q ^YES liar.log
	no_liar
	[ -d "$(repo_on c drop)" ]
	start_node b
	within 90 in_trash c drop
	git_on b drop fsck --connectivity-only
}

serial() {
	openssl x509 -inform DER -in "$1/state/tls/node.crt" -noout -serial
}

@test "a certificate is renewed at day 100 under way, and no transfer breaks" {
	need_plain_build
	need tc
	[ -n "$(find /usr/lib -name libfaketime.so.1 2>/dev/null)" ] || skip "needs libfaketime"
	serial b >serial.was
	power_off b
	power_on b
	cp -a /etc etc.b
	echo +0 >etc.b/faketimerc
	find /usr/lib -name libfaketime.so.1 >etc.b/ld.so.preload
	node b mount --bind etc.b /etc
	start_node b FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_CACHE_DURATION=1
	slow b 16mbit
	head -c 20M /dev/urandom | edit d loss big
	on d save -q --json loss >saved &
	within 20 receiving b loss
	[ "$(serial b)" = "$(cat serial.was)" ]
	echo +120d >etc.b/faketimerc
	within 20 renewed
	receiving b loss
	wait $!
	fast b
	jq -e '.safe and .safe_in == 3' saved
	# Others meet it with the new one.
	say a b HELLO
	[[ $answer == *HELLO_OK* ]]
	power_off b
	start_node b
}

renewed() {
	[ "$(serial b)" != "$(cat serial.was)" ] && event b node.certificate renewed
}

receiving() {
	[ -n "$(find "$(repo_on "$1" "$2")" -path '*quarantine*' -size +100k 2>/dev/null | head -n 1)" ] ||
		[ -n "$(find "$1.v" -path "*$(fleet_id "$2")*" -name '*pack*' -newer saved -size +100k 2>/dev/null | head -n 1)" ]
}

# has_new NODE PROJECT: it holds the newest version, and its copy counts
has_new() {
	at "$1" api GET "/v1/projects/$(fleet_id "$2")/explain" >explained
	[[ " $(members d "$2") " == *" $1:data "* ]] && same_refs "$2" d "$1"
}

# One record after the other: another change may be under way.
taken_in() {
	on "$1" replica add -q "$2" --node c 2>said
}

@test "a node that was set back to an old image has no vote; it joins anew, and is filled again" {
	stop_node c
	old_image c save
	start_node c
	stop_node c
	start_node c
	echo since | edit d loss f
	save d loss
	safe_in "true 3"
	stop_node c
	# What is older than a minute, or kept on a disk, cannot be a message that was late.
	stop_node b
	start_node b
	old_image c restore
	start_node c
	within 40 has_event c node.behind
	at c api GET /v1/status | jq -e 'any(.projects[]; .level == "error" and (.text | contains("set back")))'
	say a c PREPARE project="$(fleet_id loss)" n=99
	[[ $answer == *"it has no vote"* ]]
	say d c KEEP project="$(fleet_id loss)" n=+0 keep=1 number=1
	[[ $answer == *'"kept":false'* ]]
	echo later | edit d loss f
	save d loss
	safe_in "true 2"
	behind c
	# Neither after a start.
	stop_node c
	start_node c
	say a c PREPARE project="$(fleet_id loss)" n=99
	[[ $answer == *"it has no vote"* ]]

	run -0 on a node add --name c --dc dc3 --rejoin c --json
	stop_node c
	fleet_join c "$(jq -r .token <<<"$output")" --volume "$PWD/c.v" --allow-root-fs
	start_node c
	on c node show --json | jq -e '.incarnation == 2'
	at c api GET /v1/status | jq -e 'all(.projects[]; .text | contains("set back") | not)'
	# With one copy and a witness left there is no taking away first.
	local project
	for project in loss wit five; do
		within 20 taken_in d "$project" || { cat said; false; }
	done
	within 20 taken_in e left
	for project in loss wit five; do
		within 30 has_new c "$project"
	done
	save d loss
	safe_in "true 3"
}

closed() {
	[ "$(at "$1" state_of "$2")" = "$3" ]
}

@test "two nodes go at once: one dies, one is taken out of the fleet; the others go on, each by its rules" {
	done_on d start five
	done_on d start gone
	done_on d start loss
	done_on e start left
	echo 2 | edit d five f
	save d five
	safe_in "true 5"
	echo 2 | edit e left f
	save e left
	# Of one the newest version is on d alone, and a record says that it is the base.
	head -c 26M /dev/urandom | edit d loss more
	op d POST /v1/projects/loss/save '{}'
	safe_in "false 1"
	run -0 on d replica add -q loss --node a
	# Of one there is work that nobody saved.
	echo 1 | edit d gone f
	save d gone
	safe_in "true 3"
	echo unsaved | edit d gone g

	power_off d
	run -0 on a node remove e --force
	local name
	for name in a b c; do
		within 15 event "$name" fleet.record "4 nodes"
	done
	# What was called a majority is one.
	run -4 on a hub force wit --dead d --key a/state/hub/recovery.key
	assert_output_has "need no force"
	openssl rand -hex 32 >wrong.key
	run -4 on a hub force gone --dead d,e --key wrong.key
	assert_output_has "is not this fleet's recovery key"
	run -2 on a hub force gone --dead d,e
	run -0 on a hub force gone --dead d,e --dry-run --json
	jq -e '.forced == false and ([.dead[].name] | sort) == ["d", "e"] and ([.members[].name] == ["a"]) and .lost == []' <<<"$output"
	# It tries for a minute.
	{ on a start gone >tried 2>&1 || echo "status $?" >>tried; } 3>&- 4>&- &
	{ on b start loss >tried.loss 2>&1 || echo "status $?" >>tried.loss; } 3>&- 4>&- &
}

@test "a node that was removed is refused everywhere, and stands still; its projects go on elsewhere" {
	local name
	for name in a b c; do
		run ! say e "$name" KEEP project="$(fleet_id left)" n=+0 keep=1 number=1
		run ! say e "$name" --stream PUSH project="$(fleet_id left)" record=own
		within 10 event "$name" peer.note "not, or no longer, of the fleet"
	done
	echo 3 | edit e left f
	op e POST /v1/projects/left/save '{}'
	safe_in "false 1"
	within 60 has_event e project.frozen
	within 60 done_on b start left
	is b left .writer.name b
	in_file b left f 2
	echo 4 | edit b left f
	save b left
	safe_in "true 2"
}

@test "with a witness the copy that is left goes on" {
	within 60 done_on c start wit
	is c wit .state.state running
	is c wit .writer.name c
	[ ! -e "$(repo_on b wit)" ]
	op c POST /v1/projects/wit/save '{}'
	safe_in "false 1"
}

@test "five members: two are away and saves are safe, three and they are not" {
	within 60 done_on c start five
	in_file c five f 2
	echo 3 | edit c five f
	save c five
	safe_in "true 3"
	stop_node b
	echo 4 | edit c five f
	run -3 on c save five
	assert_output_has "not safe"
	start_node b
	within 30 same_refs five c a b
}

@test "the newest version is where nobody can ask: refused with the reason, then with a loss that is accepted" {
	within 60 grep -q ^status tried.loss
	# One that began too early heard of holds alone.
	base_missing || within 70 loss_refused
	grep -Eq "needs --accept-loss(: d has|;)" tried.loss
	permit
	on b start loss --accept-loss --json >started || [ $? = 3 ]
	jq -e '.warnings | tostring | contains("was given up")' started || { cat started; false; }
	in_file b loss f later
	[ ! -e "$(tree_on b loss)/more" ]
	echo beside | edit b loss g
	save b loss
}

base_missing() {
	grep -q "no node that answered holds save .*, the base of epoch" tried.loss
}

loss_refused() {
	! on b start loss >tried.loss 2>&1 && base_missing
}

permit() {
	! on a hub permit-loss --help >/dev/null 2>&1 || on a hub permit-loss loss --node b
}

@test "two of three are gone for good: the recovery key goes on with the one that is left" {
	within 60 grep -q ^status tried
	grep -q "offline recovery key" tried
	run -0 on a hub force gone --dead d,e --key a/state/hub/recovery.key --json
	jq -e '.forced and .writer == "a" and ([.members[].name] == ["a"]) and ([.dead[].name] | sort) == ["d", "e"] and .lost == []' <<<"$output"
	event a raise.forced "without d (incarnation 1), e (incarnation 1)"
	done_on a start gone
	in_file a gone f 1
	echo alone | edit a gone f
	save a gone
	safe_in "true 1"
	run -0 on a replica add -q gone --node b --wait 30s
	save a gone
	safe_in "true 2"
}

@test "who was called dead and comes back writes nothing; what it had is kept beside" {
	start_node d
	local project
	for project in gone loss wit five; do
		within 40 is d "$project" '.writer.name != "d"' true
		within 40 closed d "$project" stopped
	done
	# The work that nobody saved goes to the side by itself; with the other dead one d was a majority of the old record
	# until it heard, and may have saved it. Until that is done a save does it, and never more.
	local tip
	tip=$(git_on d gone rev-parse main)
	put_aside() {
		local rc=0
		on d save --json gone >aside 2>said || rc=$?
		[ "$rc" != 4 ] || return 0
		[ "$rc" = 3 ] && jq -e '.side_branch and .safe == false' aside || touch more
		return 1
	}
	within 70 on_some_branch d gone g
	within 20 put_aside && [ ! -e more ] || { cat aside said; false; }
	[ "$(git_on d gone rev-parse main)" = "$tip" ]
	run -4 on d start gone
	# Killed before that was done, the next daemon does it.
	stop_node d
	echo again >"$(tree_on d gone)/again"
	jq -c '.dirty = true' "d/state/control/$(fleet_id gone)" >work
	cp work "d/state/control/$(fleet_id gone)"
	start_node d
	within 30 on_some_branch d gone again
	# The version that was given up.
	within 40 on_some_branch d loss more || { git_on d loss for-each-ref; members d loss; false; }
	say d a KEEP project="$(fleet_id gone)" n=1 keep=1 number=1 || true
	[[ $answer != *'"kept":true'* ]]
	is a gone .writer.name a
	save a gone
	# As a member it has what the others have, besides what is its own.
	within 40 same_tip five c d
}

same_tip() {
	[ "$(git_on "$2" "$1" rev-parse main)" = "$(git_on "$3" "$1" rev-parse main)" ]
}

# on_some_branch NODE PROJECT FILE. No pipe into a grep -q: where two branches have it the second one would be told to
# nobody, which counts as a failure (pipefail).
on_some_branch() {
	local id
	for id in $(git_on "$1" "$2" for-each-ref --format='%(objectname)' refs/heads); do
		if git_on "$1" "$2" cat-file -e "$id:$3" 2>/dev/null || git_on "$1" "$2" cat-file -e "$id:$3.bup" 2>/dev/null; then
			return 0
		fi
	done
	return 1
}
