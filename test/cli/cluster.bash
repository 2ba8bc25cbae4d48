# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For the bats files of what happens to a fleet:  load lib; load daemon; load fleet; load cluster
#
#   make PROJECT NODE [SETTING]...   a project with a few files; edit NODE PROJECT FILE <TEXT; save NODE PROJECT
#   done_on NODE ARG..., is NODE PROJECT JQ TEXT, members_are, in_place, in_trash, side_branches
#   safe_in "true 3", behind NODE    what the last answer (./answer) says
#   all_well PROJECT [NODE]...       all have the same refs, what a receipt called safe is on a majority, and git
#                                    finds nothing wrong
#   begin_long MEGABYTES             a save of ann on a, well under way to all when it returns; LONG is the operation
# shellcheck disable=SC2034,SC2154 # FLEET is that of fleet.bash, LONG is for others

# ---- the work of a user ----

# make PROJECT NODE [SETTING]...: with a few files, safe everywhere
make() {
	local project=$1 name=$2 i
	if [ ! -e seed ]; then
		mkdir -p seed/d
		for i in 1 2 3 4 5 6 7 8; do
			seq "$i" "$((i * 500))" >"seed/d/f$i"
		done
		chmod -R a+rX seed
	fi
	op "$name" POST /v1/projects "$(jq -n --arg n "$project" --arg d "$PWD/seed" --args \
		'{name: $n, from: $d, settings: $ARGS.positional}' "${@:3}")"
}

# edit NODE PROJECT FILE: FILE becomes what comes in
edit() {
	local tree
	tree=$(tree_on "$1" "$2")
	cat >"$tree/$3"
	[ "$(id -u)" != 0 ] || chown --reference="$tree" "$tree/$3"
}

# op NODE METHOD PATH [JSON]: it ends well; ./answer has it
op() {
	at "$1" do_op "${@:2}" >answer
	jq -e '.state == "done"' answer >/dev/null || {
		echo "${*:1:3}: $(cat answer)"
		return 1
	}
}

# save NODE PROJECT: what it calls safe has to be found again for ever after
save() {
	op "$1" POST "/v1/projects/$2/save" '{}' || return 1
	jq -r 'select(.receipt.safe == true) | .receipt.commit' answer >>"acked.$2"
}

# What the last answer says of a copy.
replica() {
	jq -c --arg n "$1" '.receipt.replicas[] | select(.name == $n)' answer
}

safe_in() {
	[ "$(jq -r '"\(.receipt.safe) \(.receipt.safe_in)"' answer)" = "$1" ] || {
		echo "instead of $1: $(jq -c .receipt answer)"
		return 1
	}
}

behind() {
	replica "$1" | jq -e '.ok == false' >/dev/null || {
		echo "copy $1 is not behind: $(jq -c .receipt answer)"
		return 1
	}
}

# done_on NODE ARG...: as `on`, and a warning (status 3) is fine; ./said has what was said
done_on() {
	local rc=0
	on "$@" -q 2>said || rc=$?
	[ "$rc" = 0 ] || [ "$rc" = 3 ]
}

state_is() {
	[ "$(at "$1" state_of "$2")" = "$3" ]
}

# is NODE PROJECT JQ TEXT: of what `show` says there
is() {
	[ "$(on "$1" show --json "$2" | jq -r "$3")" = "$4" ]
}

# members NODE PROJECT: "a:data b:data", by name
members() {
	at "$1" api GET "/v1/projects/$(fleet_id "$2")/explain" |
		jq -r '[.members[]? | "\(.name):\(.role)"] | sort | join(" ")'
}

members_are() {
	[ "$(members "$1" "$2")" = "$3" ]
}

# in_place, in_trash NODE PROJECT: where its copy is
in_place() {
	[ -d "$(repo_on "$1" "$2")" ]
}

in_trash() {
	[ -d "$1.v/repos/.trash/$(fleet_id "$2")" ] && ! in_place "$1" "$2"
}

# side_branches NODE PROJECT
side_branches() {
	git_on "$1" "$2" for-each-ref --format='%(refname:short)' 'refs/heads/conflict-*'
}

# ---- what must hold ----

same_refs() {
	local project=$1 name
	shift
	for name; do
		refs_on "$name" "$project" >"refs.$name" 2>/dev/null && [ -s "refs.$name" ] &&
			cmp -s "refs.$name" "refs.$1" || return 1
	done
}

# converge PROJECT [NODE]...
converge() {
	local project=$1 name
	shift
	[ $# -gt 0 ] || set -- "${FLEET[@]}"
	within 45 same_refs "$project" "$@" || {
		for name; do
			echo "$name:"
			refs_on "$name" "$project" || true
			grep -v level=info "$name.log" | tail -n 5
		done
		return 1
	}
}

sound() {
	local project=$1 name pids=() bad=0 pid
	shift
	for name; do
		git_on "$name" "$project" fsck --full --strict --no-dangling >"fsck.$name" 2>&1 &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || bad=1
	done
	((bad == 0)) || head -n 20 fsck.*
	return $bad
}

nothing_lost() {
	local project=$1 name
	for name in "${FLEET[@]}"; do
		git_on "$name" "$project" rev-list --all 2>/dev/null || true
	done | sort | uniq -c | awk -v n=${#FLEET[@]} '2 * $1 > n { print $2 }' >majority
	sort -u "acked.$project" | comm -23 - majority >lost
	[ -s "acked.$project" ] && [ ! -s lost ] || {
		echo "called safe, and lost: $(cat lost)"
		return 1
	}
}

all_well() {
	converge "$@"
	nothing_lost "$1"
	local project=$1
	shift
	[ $# -gt 0 ] || set -- "${FLEET[@]}"
	sound "$project" "$@"
}

# What is in a file of a project's newest snapshot, as a node's repository has it.
saved_on() {
	git_on "$1" "$2" cat-file blob "main:$3"
}

begin_long() {
	local megabytes=$1
	head -c "${megabytes}M" /dev/urandom | edit a ann big
	LONG=$(at a api POST /v1/projects/ann/save '{}' | jq -r .id)
	within 20 sending
}

sending() {
	at a api GET /v1/projects/ann/state |
		jq -e '[.targets[]?.done] | length > 0 and min > 1000000' >/dev/null
}

# Ends every process of a node that has one of our parts' names; it may just have ended.
kill_part() {
	need_hosts
	node "$1" sh -c 'for p in $(pgrep -f "^[^ ]*warren @'"$2"'"); do kill -KILL $p || true; done'
}
