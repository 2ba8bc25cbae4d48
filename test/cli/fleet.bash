# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For the bats files that need several nodes:  load lib; load daemon; load fleet
#
#   make_fleet N [DC]...      nodes a, b, c ... (in dc1, dc2 ... unless given), all of them serve
#   at NODE FUNCTION...       what daemon.bash has (api, do_op, state_of ...), on that node
#   on NODE ARG...            warren ARG..., on that node
#   node NODE COMMAND...      any command, on that node
#   start_node NODE [VAR=VALUE]...   power_on if need be, serve, wait until it answers
#   stop_node kill_node NODE  SIGTERM; kill -9 of the daemon alone
#   power_off power_on NODE   everything of the node ends at once (its disks stay)
#   sever A [B], heal          nothing passes between the two, silently (or between A and all)
#   slow NODE RATE [DELAY]    of all that goes to it and comes from it (tc: 2mbit 100ms)
#   wipe NODE                 its volumes are empty
#   liar NODE OF HOW, no_liar  in the place of its daemon, which must not run: peer_probe --serve HOW
#   old_image NODE save|restore   all its disks as they were; it must not run
#   tree_on, scratch_on, repo_on NODE PROJECT, git_on NODE PROJECT ARG...
#   has_event NODE WHAT [JQ]
#   say NODE ARG...           peer_probe with that node's keys; what is answered is in $answer; KNOWS=COPY: and with
#                             what it knew when that copy of it was made
#   fleet_keep, fleet_again   one fleet for the tests of a file: kept by setup_file, taken up by setup; both
#                             with BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR
#
# As root each node is a host of its own: network, processes and mounts are in namespaces, joined by a
# bridge that is in one too, so that nothing of it is seen outside and all of it goes with its first
# process.  Else they are at 127.0.0.x, and what needs more is skipped (need_hosts).
#
# Before make_fleet: FLEET_CONF, more lines for each warren.conf; FLEET_DISK[NODE]=SIZE, a volume with
# a file system of its own.

PROBE=$(dirname "$WARREN")/test/lib/peer_probe
FLEET_SWITCH=
FLEET_TAG=$$
FLEET_CONF=
FLEET_PORT=7400
declare -ga FLEET=()
# Host processes: init is 1 in there; hold is who started it; serve and daemon likewise.
declare -gA FLEET_DISK=() FLEET_IP=() FLEET_MAC=() FLEET_HOLD=() FLEET_INIT=() FLEET_SERVE=() FLEET_DAEMON=()

need_hosts() {
	need_root
	need ip
	unshare --net --mount --pid --fork true 2>/dev/null || skip "needs namespaces"
}

fleet_is_hosts() {
	[ "$(id -u)" = 0 ] && command -v ip >/dev/null &&
		unshare --net --mount --pid --fork true 2>/dev/null
}

# hold VARIABLE UNSHARE-OPTION...: sets hold and init to the numbers of a process that waits, and of
# the one that started it.
fleet_hold() {
	unshare --kill-child "$@" bash -c 'while :; do sleep 1000 & wait $!; done' \
		</dev/null >/dev/null 2>&1 3>&- 4>&- &
	hold=$!
	until_true fleet_held
}

fleet_held() {
	read -r init _ <"/proc/$hold/task/$hold/children" || [ -n "${init-}" ] &&
		[[ $(readlink "/proc/$init/exe") == */bash ]]
}

# The bridge, alone in a network of its own.
fleet_switch() {
	local hold init=
	fleet_hold --net --pid --fork || return 1
	FLEET_HOLD[-]=$hold
	FLEET_SWITCH=$init
	nsenter -t "$FLEET_SWITCH" -n ip link add name br0 type bridge &&
		nsenter -t "$FLEET_SWITCH" -n ip link set br0 up
}

power_on() {
	local name=$1 hold init=
	if [ -z "$FLEET_SWITCH" ] || [ -n "${FLEET_INIT[$name]-}" ]; then
		return 0
	fi
	fleet_hold --net --mount --pid --fork --mount-proc || return 1
	FLEET_HOLD[$name]=$hold
	FLEET_INIT[$name]=$init
	nsenter -t "$FLEET_SWITCH" -n ip -batch - <<-END || return 1
		link add name v-$name type veth peer name eth0 netns $init
		link set v-$name master br0 up
	END
	nsenter -t "$init" -n ip -batch - <<-END
		link set lo up
		link set eth0 address ${FLEET_MAC[$name]} up
		addr add ${FLEET_IP[$name]}/24 dev eth0
	END
}

# The end of a process, and its status: 0 of one that another shell started.
fleet_wait() {
	local rc=0
	wait "$1" 2>/dev/null || rc=$?
	[ "$rc" = 127 ] || return "$rc"
	until_true fleet_gone "$1"
}

fleet_gone() {
	! lives "$1"
}

fleet_keep() {
	declare -p "${!FLEET@}" >"$BATS_TEST_TMPDIR/fleet.kept"
}

fleet_again() {
	# shellcheck disable=SC1090 # ours
	. <(sed 's/^declare /declare -g /' "$BATS_TEST_TMPDIR/fleet.kept")
}

# Who knows of the node, or works in its files, is of it; where it has no processes of its own.
fleet_of() {
	grep -lzxF "WARREN_ROOT=$BATS_TEST_TMPDIR/$1" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n'
	find /proc/[0-9]*/cwd -maxdepth 0 -lname "$BATS_TEST_TMPDIR/$1[./]*" 2>/dev/null | tr -dc '0-9\n'
}

power_off() {
	local name=$1 pid again=1
	if [ -n "$FLEET_SWITCH" ]; then
		kill -KILL "${FLEET_INIT[$name]}" 2>/dev/null || true
		fleet_wait "${FLEET_HOLD[$name]}" || true
		# Its end of the wire goes with the last of its processes, a little later.
		nsenter -t "$FLEET_SWITCH" -n ip link del "v-$name" 2>/dev/null || true
	else
		while [ -n "$again" ]; do
			again=
			for pid in $(fleet_of "$name"); do
				[ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] ||
					{ kill -KILL "$pid" 2>/dev/null && again=1; }
			done
		done
	fi
	[ -z "${FLEET_SERVE[$name]-}" ] || fleet_wait "${FLEET_SERVE[$name]}" || true
	unset "FLEET_INIT[$name]" "FLEET_HOLD[$name]" "FLEET_SERVE[$name]" "FLEET_DAEMON[$name]"
	# A host's run directory does not outlive it.
	rm -rf "${BATS_TEST_TMPDIR:?}/$name/run"
}

# Sets ENTER to the words that come before a command on a node.
fleet_enter() {
	ENTER=()
	[ -z "$FLEET_SWITCH" ] || ENTER=(nsenter -t "${FLEET_INIT[$1]}" -n -m -p --)
	ENTER+=(env -C "$PWD" "WARREN_ROOT=$BATS_TEST_TMPDIR/$1")
}

node() {
	local ENTER
	fleet_enter "$1"
	shift
	"${ENTER[@]}" "$@"
}

on() {
	local name=$1
	shift
	node "$name" "$WARREN" "$@"
}

at() {
	local -x WARREN_ROOT=$BATS_TEST_TMPDIR/$1
	shift
	"$@"
}

start_node() {
	local name=$1 ENTER
	shift
	power_on "$name" || return 1
	fleet_enter "$name"
	# A disk of its own has the marks that all disks have.
	[ -z "${FLEET_DISK[$name]-}" ] || set -- WARREN_VOLUME_MARKS=85,92,97 "$@"
	"${ENTER[@]}" "$@" "$WARREN" serve </dev/null >>"$BATS_TEST_TMPDIR/$name.log" 2>&1 3>&- 4>&- &
	FLEET_SERVE[$name]=$!
	until_true fleet_answers "$name" || {
		tail -n 30 "$BATS_TEST_TMPDIR/$name.log"
		return 1
	}
	FLEET_DAEMON[$name]=${FLEET_SERVE[$name]}
	[ -z "$FLEET_SWITCH" ] || FLEET_DAEMON[$name]=$(pgrep -P "${FLEET_SERVE[$name]}")
}

fleet_answers() {
	lives "${FLEET_SERVE[$1]}" || return 99
	[[ $(at "$1" api GET /v1/health 2>/dev/null) == *'"ok":true'* ]]
}

fleet_end() {
	local name=$1 rc=0
	[ -n "${FLEET_SERVE[$name]-}" ] || return 0
	kill "-$2" "${FLEET_DAEMON[$name]}" 2>/dev/null || true
	fleet_wait "${FLEET_SERVE[$name]}" || rc=$?
	unset "FLEET_SERVE[$name]" "FLEET_DAEMON[$name]"
	return $rc
}

kill_node() {
	fleet_end "$1" KILL || true
}

stop_node() {
	fleet_end "$1" TERM || {
		echo "the daemon of $1 ended with $?"
		tail -n 20 "$BATS_TEST_TMPDIR/$1.log"
		return 1
	}
}

# ---- making it ----

fleet_conf() {
	local name=$1 first=$((1000000 + $$ % 50000 * 1000)) group
	# Suites run side by side, and a stop ends whatever has the project's uid.  In one fleet a
	# project has one uid, so its nodes need to be hosts of their own.
	mkdir -p "$name" && chmod a+rx "$name"
	cat >"$name/warren.conf" <<-END
		[node]
		uid_range = $first-$((first + 999))
		[listen]
		api = ${FLEET_IP[$name]}:$FLEET_PORT
		peer = ${FLEET_IP[$name]}:$((FLEET_PORT + 1))
		[front]
		idle = 2s
	END
	# Nodes of one machine have the hierarchy of control groups in common.
	group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	if [ -n "$group" ] && mkdir "$group/warren-test-$FLEET_TAG-$name" 2>/dev/null; then
		group=$group/warren-test-$FLEET_TAG-$name
	else
		group=none
	fi
	printf '[runner]\ncgroup = %s\n%s\n' "$group" "$FLEET_CONF" >>"$name/warren.conf"
}

# Sets OPTIONS to what a first volume is told.  What is kept back is little: there are many.
fleet_volume() {
	local name=$1
	OPTIONS=(--allow-root-fs --reserve 4M)
	[ "$(id -u)" != 0 ] || OPTIONS+=(--user "$NODE_UID")
	[ -n "${FLEET_DISK[$name]-}" ] || return 0
	truncate -s "${FLEET_DISK[$name]}" "$name.disk"
	mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 -m 0 "$name.disk"
	mkdir "$name.v"
	mount -o loop "$name.disk" "$name.v"
	# mkfs makes it; a volume is to be empty.
	rmdir "$name.v/lost+found"
}

# The name of the Nth node.
fleet_name() {
	printf '%b' "\\x$(printf %x $((96 + $1)))"
}

make_fleet() {
	local count=$1 i name dcs=("${@:2}") token OPTIONS
	open_path "$BATS_TEST_TMPDIR"
	unset WARREN_ROOT WARREN_SOCKET WARREN_TOKEN WARREN_PROJECT WARREN_URL WARREN_NODE_UID_RANGE
	if fleet_is_hosts; then
		fleet_switch || return 1
	else
		FLEET_PORT=$((20000 + ($$ * 2 + BATS_TEST_NUMBER * 14) % 20000))
	fi
	for ((i = 1; i <= count; i++)); do
		name=$(fleet_name $i)
		FLEET+=("$name")
		FLEET_IP[$name]=127.0.0.$i
		[ -z "$FLEET_SWITCH" ] || FLEET_IP[$name]=10.99.0.$i
		FLEET_MAC[$name]=$(printf '02:00:00:00:00:%02x' "$i")
	done
	fleet_make a && on a init -q --dc "${dcs[0]-dc1}" --name a "${OPTIONS[@]}" "$PWD/a.v" || return 1
	start_node a || return 1
	for ((i = 2; i <= count; i++)); do
		name=${FLEET[i - 1]}
		fleet_make "$name" && token=$(join_token "$name" "${dcs[i - 1]-dc$i}") &&
			fleet_join "$name" "$token" --volume "$PWD/$name.v" "${OPTIONS[@]}" || return 1
	done
	# Not in subshells: the numbers are to stay.
	for name in "${FLEET[@]:1}"; do
		start_node "$name" || return 1
	done
	within 20 fleet_known
}

fleet_make() {
	fleet_conf "$1" && fleet_volume "$1" && power_on "$1"
}

# join_token NAME DC OPTION...
join_token() {
	on a node add --name "$1" --dc "$2" --json "${@:3}" | jq -re .token
}

# fleet_join NODE TOKEN OPTION...
fleet_join() {
	on "$1" join -q "https://${FLEET_IP[a]}:$FLEET_PORT" "$2" "${@:3}" </dev/null
}

# Every node knows of every node.
fleet_known() {
	local name
	for name in "${FLEET[@]}"; do
		[ "$(on "$name" node list --json | jq '[.nodes[] | select(.removed | not)] | length')" \
			= "${#FLEET[@]}" ] || return 1
	done
}

# ---- what happens to it ----

# sever A: from all.  The address of the other end leads nowhere, so connections hang half-open.
sever() {
	local a=$1 b others=("${@:2}")
	need_hosts
	[ ${#others[@]} -gt 0 ] || others=("${FLEET[@]}")
	for b in "${others[@]}"; do
		[ "$a" = "$b" ] || { fleet_lose "$a" "$b" && fleet_lose "$b" "$a"; } || return 1
	done
}

fleet_lose() {
	nsenter -t "${FLEET_INIT[$1]}" -n ip neigh replace "${FLEET_IP[$2]}" \
		lladdr 02:00:00:00:ff:ff nud permanent dev eth0
}

heal() {
	local name
	for name in "${FLEET[@]}"; do
		[ -z "${FLEET_INIT[$name]-}" ] ||
			nsenter -t "${FLEET_INIT[$name]}" -n ip neigh flush nud permanent dev eth0 2>/dev/null || true
	done
}

slow() {
	local name=$1 rate=$2 delay=${3-} at words
	need_hosts
	words=(tbf rate "$rate" burst 64k latency 200ms)
	[ -z "$delay" ] || words=(netem rate "$rate" delay "$delay")
	for at in "${FLEET_INIT[$name]} eth0" "$FLEET_SWITCH v-$name"; do
		nsenter -t "${at% *}" -n tc qdisc replace dev "${at#* }" root "${words[@]}" || return 1
	done
}

# The same as before `slow`.
fast() {
	local name=$1 at
	for at in "${FLEET_INIT[$name]} eth0" "$FLEET_SWITCH v-$name"; do
		nsenter -t "${at% *}" -n tc qdisc del dev "${at#* }" root || true
	done
}

wipe() {
	find "$1.v" -mindepth 1 -delete
}

old_image() {
	local name=$1 what
	for what in "$name" "$name.v"; do
		if [ "$2" = save ]; then
			rm -rf "$what.image" && cp -a "$what" "$what.image" || return 1
		else
			# The file system under it may be mounted.
			find "$what" -mindepth 1 -delete && cp -a "$what.image/." "$what/" || return 1
		fi
	done
	rm -rf "$name/run"
}

# ---- looking at it ----

# has_event NODE WHAT [JQ]: it has such an event
has_event() {
	events "$1" | jq -e --arg w "$2" "any(.events[] | select(.what == \$w); ${3-true})" >/dev/null
}

events() {
	at "$1" api GET '/v1/events?limit=1000'
}

say() {
	local name=$1
	shift
	answer=$(node "$name" timeout 60 "$PROBE" "$PWD/${KNOWS:-$name}" "$@" 2>&1) || {
		echo "$name: $* -> $answer" >&2
		return 1
	}
}

# liar NODE OF HOW: NODE's daemon is another one, which serves OF as peer_probe --serve HOW; `lied` is what it says
liar() {
	local ENTER
	fleet_enter "$1"
	"${ENTER[@]}" "$PROBE" "$PWD/$1" "$2" --serve "$3" </dev/null >lied 2>liar.log 3>&- 4>&- &
	LIAR=$!
}

no_liar() {
	kill -KILL "$(pgrep -P "$LIAR")" || true
	wait "$LIAR" || true
}

fleet_id() {
	local f name
	[ ! -e "id.$1" ] || { cat "id.$1" && return; }
	for name in "${FLEET[@]}"; do
		f=$(at "$name" api GET "/v1/projects/$1" 2>/dev/null | jq -r '.id // empty') || f=
		[ -z "$f" ] || { echo "$f" | tee "id.$1" && return; }
	done
	return 1
}

tree_on() {
	echo "$BATS_TEST_TMPDIR/$1.v/projects/$(fleet_id "$2")"
}

scratch_on() {
	echo "$BATS_TEST_TMPDIR/$1.v/scratch/$(fleet_id "$2")"
}

repo_on() {
	echo "$BATS_TEST_TMPDIR/$1.v/repos/$(fleet_id "$2")"
}

git_on() {
	git -c safe.directory='*' --git-dir="$(repo_on "$1" "$2")" "${@:3}"
}

# Of a test that failed: the last answer, and what the daemons had to say.
fleet_tell() {
	local name
	[ ! -s "$BATS_TEST_TMPDIR/answer" ] || echo "last answer: $(head -c 4000 "$BATS_TEST_TMPDIR/answer")"
	for name in "${FLEET[@]}"; do
		echo "$name:"
		grep -v level=info "$BATS_TEST_TMPDIR/$name.log" 2>/dev/null | tail -n 8 || true
	done
}

# What is replicated of the refs there.
refs_on() {
	git_on "$1" "$2" for-each-ref --format='%(objectname) %(refname)' refs/heads refs/tags refs/warren/latest
}

# A test of a file that loads this may also have a node of its own alone.
teardown() {
	if [ "${#FLEET[@]}" -gt 0 ]; then
		fleet_teardown
	else
		daemon_teardown
	fi
}

fleet_teardown() {
	local name group
	[ -n "${BATS_TEST_COMPLETED-}${BATS_TEST_SKIPPED-}" ] || [ -z "${BATS_TEST_NAME-}" ] || fleet_tell
	for name in "${FLEET[@]}"; do
		power_off "$name"
	done
	[ -z "${FLEET_HOLD[-]-}" ] || {
		kill -KILL "$FLEET_SWITCH" "${FLEET_HOLD[-]}" 2>/dev/null || true
		wait "${FLEET_HOLD[-]}" 2>/dev/null || true
	}
	group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	for name in "${FLEET[@]}"; do
		[ ! -d "${group:-/nowhere}/warren-test-$FLEET_TAG-$name" ] ||
			find "$group/warren-test-$FLEET_TAG-$name" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
	lib_teardown
}
