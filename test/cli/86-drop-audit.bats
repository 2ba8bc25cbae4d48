#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it mostly waits for copies
# waits
# shellcheck disable=SC2034,SC2154 # FLEET_CONF is that of fleet.bash
# Copies that come and go: a member more, a member less, and what becomes of the copy of the one that left.

bats_require_minimum_version 1.5.0
load lib
load daemon
load fleet
load cluster

setup() {
	lib_setup
	FLEET_CONF='[trash]
drop_after = 1s'
}

is_member() {
	[[ " $(members "$1" "$2") " == *" $3 "* ]]
}

events_of() {
	at "$1" api GET '/v1/events?limit=1000' | jq -r --arg w "$2" '.events[] | select(.what == $w) | .why'
}

@test "replica: a member more, filled and counted; a member less, whose copy goes to the trash and comes back" {
	make_fleet 4 || { cat a.log; false; }
	make p a
	fleet_id p >/dev/null
	# Whoever of them has no copy.
	local other='' gone='' name
	for name in b c d; do
		in_place "$name" p && gone=$name || other=$name
	done
	[ -n "$other" ] && [ -n "$gone" ]

	run -0 on a replica add p --node "$other" --wait 60s --json
	echo "$output"; on a events | tail -20; jq -e '.role == "data" and (.members | length) == 4' <<<"$output"
	same_refs p a "$other"
	has_event a replica.added

	# The one that keeps the files stays; nobody else is named twice.
	run -4 on a replica remove p --node a
	run -4 on a replica add p --node "$other"
	run -5 on a replica remove p --node nobody

	run -0 on a replica remove p --node "$gone"
	within 60 in_trash "$gone" p
	within 20 has_event "$gone" copy.dropped
	[ ! -d "$gone.v/projects/$(fleet_id p)" ]
	[ -d "$gone.v/projects/.trash/$(fleet_id p)" ]
	# What is left goes on.
	op a POST /v1/projects/p/save '{}'
	jq -e '.receipt.safe and .receipt.safe_in == 3' answer

	run -0 on "$gone" undelete "$(fleet_id p)"
	in_place "$gone" p
	git_on "$gone" p fsck --connectivity-only

	# It becomes a member again, and is brought to the newest version.
	echo new >"$(tree_on a p)/d/new" && op a POST /v1/projects/p/save '{}'
	run -0 on a replica add p --node "$gone" --wait 60s --json
	jq -e '.role == "data"' <<<"$output"
	same_refs p a "$gone"
}

# takes_leave PROJECT...: c is no member any more
takes_leave() {
	local p
	for p in "$@"; do
		on a replica remove -q "$p" --node c || return 1
	done
}

@test "a copy stays while any of those that must prove theirs cannot" {
	make_fleet 3
	make p a
	fleet_id p >/dev/null
	# b lost what it had, and does not know it.
	local pack
	pack=$(echo "$(repo_on b p)"/objects/pack/pack-*.pack)
	cp -p "$pack" kept.pack
	printf 'rubbish' | dd of="$pack" bs=1 seek=200 conv=notrunc status=none
	chmod u+w "$pack" && head -c 100 kept.pack >"$pack"
	kill_node b && start_node b
	takes_leave p
	within 40 has_event c copy.kept
	events_of c copy.kept
	in_place c p
	[ "$(at c api GET /v1/projects/p/explain | jq -r .epoch)" != null ]

	# The other way round: b is away.
	stop_node b
	kill_node c && start_node c
	sleep 3
	in_place c p
	# It is back, and whole.
	cat kept.pack >"$pack"
	start_node b
	within 90 in_trash c p
	git_on b p fsck --connectivity-only
}

@test "a copy that goes: kill -9 at each step leaves it in its place or in the trash" {
	FLEET_CONF+='
drops_per_day = 1000'
	make_fleet 3
	local point n=0
	for point in control.drop-hidden control.drop-proven control.op-queued control.op-running control.op-spawned \
		life.drop.begun life.drop.given-up life.drop.marked life.drop.tree life.drop.moved \
		life.drop.result control.op-ended; do
		n=$((n + 1))
		make "p$n" a
		fleet_id "p$n" >/dev/null
		kill_node c
		start_node c WARREN_CRASH="$point"
		takes_leave "p$n"
		# What comes next is undisturbed.
		within 40 crashed c "$point" || { cat c.log; at c api GET '/v1/events?limit=30'; false; }
		kill_node c
		start_node c
		within 60 in_trash c "p$n" || { tail -20 c.log; echo "$point"; false; }
		[ -d "c.v/projects/.trash/$(fleet_id "p$n")" ]
		git_on b "p$n" fsck --connectivity-only
		op a POST "/v1/projects/p$n/save" '{}'
		jq -e '.receipt.safe' answer
	done
}

crashed() {
	case $2 in
	control.*) ! at "$1" api GET /v1/health >/dev/null 2>&1 ;;
	*) at "$1" api GET '/v1/operations?limit=1000' | jq -e --arg k "$n" \
		'any(.operations[]; .kind == "drop" and .name == "p" + $k and (.state == "failed" or .state == "done"))' >/dev/null ;;
	esac
}

@test "so many copies go a day, and no more; and for good only after another proof" {
	FLEET_CONF+='
drops_per_day = 1'
	make_fleet 3
	make p a
	make q a
	fleet_id p >/dev/null
	fleet_id q >/dev/null
	takes_leave p
	within 40 in_trash c p
	takes_leave q
	within 40 has_event c copy.limit
	in_place c q
	# A start in between does not count from the beginning.
	kill_node c && start_node c
	within 40 has_event c copy.limit
	in_place c q

	# b is away: nobody proves, nothing goes.
	stop_node b
	run -4 on c purge "$(fleet_id p)" --now
	in_trash c p
	start_node b
	within 150 gone_for_good c p
	at a api GET /v1/projects/p | jq -e '.safe.safe // .safe' >/dev/null
	git_on b p fsck --connectivity-only
}

gone_for_good() {
	[ ! -e "$1.v/repos/.trash/$(fleet_id "$2")" ] && [ ! -e "$1.v/projects/.trash/$(fleet_id "$2")" ]
}

copies() {
	jq -r '[.copies[] | "\(.name):\(.is)"] | sort | join(" ")' <<<"$1"
}

# break_pack NODE PROJECT: bytes in the middle of its largest pack
break_pack() {
	local pack
	pack=$(ls -S "$(repo_on "$1" "$2")"/objects/pack/pack-*.pack | head -n 1)
	chmod u+w "$pack"
	printf '\x55\xaa\x55' | dd of="$pack" bs=1 seek=$(($(stat -c %s "$pack") / 2)) conv=notrunc status=none
}

marked() {
	[ -e "$1/state/damaged/$(fleet_id "$2")" ]
}

whole_again() {
	! marked "$1" "$2" && has_event "$1" copy.whole
}

@test "audit: same, behind, damaged; a damaged copy is refilled, and counts for nothing until it is whole" {
	make_fleet 3
	make p a
	fleet_id p >/dev/null
	run -0 on a audit p --data --json
	assert_equal "$(copies "$output")" "a:same b:same c:same"
	assert_equal "$(jq '[.copies[].objects] | unique | length' <<<"$output")" 1
	# Packed otherwise, the same.
	git_on b p repack -adq
	[ "$(id -u)" != 0 ] || chown -R "$NODE_UID:$NODE_UID" "$(repo_on b p)/objects"
	run -0 on c audit p --json
	assert_equal "$(copies "$output")" "a:same b:same c:same"

	stop_node c
	echo more >"$(tree_on a p)/d/more"
	on a save -q p || [ $? = 3 ]
	run -3 on a audit p --json
	assert_equal "$(copies "$output")" "a:same b:same c:unknown"
	start_node c
	within 60 all_same || { on a audit p; on a explain p; on a events; false; }

	break_pack b p
	run -3 on a audit p --data --json
	assert_equal "$(copies "$output")" "a:same b:damaged c:same"
	jq -e '.copies[] | select(.name == "b") | .damage | length > 0' <<<"$output"
	within 20 has_event b copy.damaged
	within 60 whole_again b p || { on b events; cat b.log; false; }
	git_on b p fsck --full --strict
	ls "$(repo_on b p)/warren/aside"
	run -0 on a audit p --data --json
	assert_equal "$(copies "$output")" "a:same b:same c:same"
	echo again >"$(tree_on a p)/d/more"
	op a POST /v1/projects/p/save '{}'
	jq -e '.receipt.safe and .receipt.safe_in == 3' answer
}

# What they all lack nobody can give: one is marked, the others go on.
@test "audit: one copy of a project is marked at a time; it counts for nothing, and the others do" {
	make_fleet 3
	make p a
	fleet_id p >/dev/null
	local name pack one other found
	for name in a b c; do
		pack=$(ls -S "$(repo_on "$name" p)"/objects/pack/pack-*.pack | head -n 1)
		cp -p "$pack" "$name.kept"
		break_pack "$name" p
	done
	run -3 on a audit p --data --json
	# Of the two that are not worked in, whichever stands first in the record.
	found=$(copies "$output")
	if [[ $found == *b:damaged* ]]; then one=b other=c; else one=c other=b; fi
	assert_equal "$(tr ' ' '\n' <<<"$found" | sort | xargs)" "$(printf '%s\n' a:suspect $one:damaged $other:suspect | sort | xargs)"
	has_event a copy.suspect
	within 40 has_event $one copy.lacking
	marked $one p
	! marked a p && ! marked $other p
	run -3 on c audit p --data --json
	assert_equal "$(copies "$output")" "$found"

	echo more >"$(tree_on a p)/d/more"
	op a POST /v1/projects/p/save '{}'
	jq -e '.receipt.safe and .receipt.safe_in == 2' answer
	jq -e --arg n $one '.receipt.replicas[] | select(.name == $n) | .error.message | test("damaged")' answer
	marked $one p
	# Its new objects are there nevertheless.
	git_on $one p cat-file -e "$(git_on a p rev-parse main)^{tree}"

	# One that has it all again, and a word.
	pack=$(ls -S "$(repo_on $other p)"/objects/pack/pack-*.pack | head -n 1)
	cat $other.kept >"$pack"
	# What it says is of when it was whole; it may lack the newest save still.
	on a audit -q p --repair --no-wait || [ $? = 3 ]
	run on a audit p --repair --json
	[[ $(copies "$output") =~ $one:(same|behind) ]]
	whole_again $one p || { on $one events; cat $one.log; false; }
	git_on $one p fsck --full --strict
	# Now it is the turn of the one that is worked in.
	run -3 on a audit p --data --json
	[[ $(copies "$output") == *a:damaged* ]]
	within 60 whole_again a p || { on a events; cat a.log; false; }
	git_on a p fsck --full --strict
	within 60 all_the_same || { on a audit p --data; on a explain p; false; }
	op a POST /v1/projects/p/save '{}'
	jq -e '.receipt.safe and .receipt.safe_in == 3' answer
}

all_the_same() {
	on a audit p -q --data
}

@test "audit: lost files of packs, kill -9 of who refills and of who is refilled; --all" {
	make_fleet 3
	make p a
	make q a
	fleet_id p >/dev/null
	fleet_id q >/dev/null
	echo more >"$(tree_on a p)/d/more" && op a POST /v1/projects/p/save '{}'
	run -0 on a audit --all --data --json
	jq -e '.projects == 2 and .audited == 2 and .copies == 6 and .wrong == 0 and (.stopped | not)' <<<"$output"
	run -0 on b audit --all
	[[ $output == *"0 of 0 projects"* ]]
	run -2 on a audit --all p

	kill_node b
	rm -f "$(repo_on b p)"/objects/pack/*.pack
	pack=$(ls -S "$(repo_on b q)"/objects/pack/pack-*.pack | head -n 1)
	chmod u+w "$pack" && truncate -s 100 "$pack"
	start_node b WARREN_CRASH=receive.mended
	run -3 on a audit --all --json
	jq -e '.damaged == 2 and .wrong == 2' <<<"$output"
	within 20 marked b p
	within 20 marked b q
	# Whoever receives for them dies when all is installed; it is asked for again.
	within 40 has_event b replica.failed || { cat b.log; false; }
	kill_node b
	kill_node a
	marked b p || marked b q
	start_node a
	start_node b
	within 90 gone_marks || { on b events; cat b.log; false; }
	git_on b p fsck --full --strict
	git_on b q fsck --full --strict
	same_refs p a b
	run -0 on a audit --all --data --json
	jq -e '.copies == 6 and .wrong == 0' <<<"$output"
}

gone_marks() {
	! marked b p && ! marked b q
}

all_same() {
	on a audit p -q
}
