#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: ident_test and getent_test run the same code
# Who a project is: where its uid comes from, how the host knows it by name, and name services that
# hang, fail or changed their mind.  Everything runs in a mount namespace of its own with other files
# in /etc and an empty /run.

bats_require_minimum_version 1.5.0
load lib
load daemon

setup() {
	lib_setup
	[ "$(id -u)" = 0 ] || skip "needs root: identities are numbers of others"
	unshare --mount true 2>/dev/null || skip "needs mount namespaces"
	unshare --mount --propagation slave sleep 3600 </dev/null >/dev/null 2>&1 3>&- 4>&- &
	SPACE=$!
	until_true other_space
	mkdir etc
	cp /etc/passwd /etc/group /etc/nsswitch.conf etc/
	inside mount -t tmpfs tmpfs /run
	inside mkdir -m 755 /run/userdb
	local f
	for f in passwd group nsswitch.conf; do
		cover "etc/$f" "/etc/$f"
	done
	# Whatever is called warren from here on is there, too.
	REAL=$WARREN
	printf '#!/bin/sh\nexec nsenter -t %s -m -- %s "$@"\n' "$SPACE" "$REAL" >warren.sh
	chmod 755 warren.sh
	WARREN=$PWD/warren.sh
	make_node
	export WARREN_IDENTITY_USERDB=/run/userdb
	accounts auto
}

teardown() {
	[ -z "${WARREN_ROOT-}" ] || answering
	daemon_teardown
	[ -z "${SPACE-}" ] || kill "$SPACE" 2>/dev/null || true
}

other_space() {
	[ "$(readlink "/proc/$SPACE/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]
}

inside() {
	nsenter -t "$SPACE" -m -- "$@"
}

# cover FILE PLACE: PLACE is FILE there
cover() {
	inside mount --bind "$BATS_TEST_TMPDIR/$1" "$2"
}

# services WORD...: those that know users and groups there
services() {
	printf 'passwd: %s\ngroup: %s\n' "$*" "$*" >etc/nsswitch.conf
}

# A service that hangs, or fails, where others have libnss_compat.
MODULE=
bad_service() {
	answering
	local there=(/lib/*/libnss_compat.so.2)
	MODULE=$(realpath "${there[0]}")
	inside mount --bind "$(dirname "$REAL")/test/lib/nss_$1.so" "$MODULE"
	services "${@:2}"
}

answering() {
	[ -z "$MODULE" ] || inside umount "$MODULE"
	MODULE=
	[ ! -e etc/nsswitch.conf ] || services files systemd
}

# accounts DRIVER [ETC]: of the daemons from here on
accounts() {
	export WARREN_IDENTITY_ACCOUNTS=$1 WARREN_IDENTITY_ETC=${2-$BATS_TEST_TMPDIR/etc}
}

# account NAME NUMBER: of the host
account() {
	echo "$1:x:$2:$2:$1:/nonexistent:/bin/sh" >>etc/passwd
	echo "$1:x:$2:" >>etc/group
}

# The file is mounted: it is written, never replaced.
no_account() {
	local text f
	for f in etc/passwd etc/group; do
		text=$(grep -v "^$1:" "$f")
		printf '%s\n' "$text" >"$f"
	done
}

member() {
	api GET "/v1/projects/$1" | jq -r ".$2"
}

known() {
	inside getent passwd "$1"
}

has_systemd_names() {
	ls /lib/*/libnss_systemd.so.2 >/dev/null 2>&1 || skip "needs libnss-systemd"
}

@test "userdb: the host knows an active project by name, and no other" {
	has_systemd_names
	accounts userdb
	services files systemd
	start_daemon
	make_project notes
	make_project quiet
	uid=$(member notes uid)
	[ "$(member notes identity)" = range ]
	run ! known notes
	"$WARREN" start notes
	[ "$(known notes | cut -d: -f1,3-)" = "notes:$uid:$uid:project notes:$WARREN_ROOT/home/notes:/bin/sh" ]
	[ "$(inside id notes)" = "uid=$uid(notes) gid=$uid(notes) groups=$uid(notes)" ]
	[ "$(known "$uid" | cut -d: -f1)" = notes ]
	[ "$(inside getent group "$uid" | cut -d: -f1)" = notes ]
	[ "$(inside stat -c %U "$(tree_path notes)")" = notes ]
	run ! known quiet
	"$WARREN" show notes | grep -E '^identity +range, account notes \(userdb\)$'
	"$WARREN" stop notes
	run ! known notes
	run ! known "$uid"
	"$WARREN" settings notes name=paper
	"$WARREN" start paper
	known paper
	run ! known notes
	"$WARREN" stop paper
	[ -z "$(inside ls /run/userdb)" ]
}

@test "userdb: what a crash left goes at the daemon's start, what is active stays" {
	accounts userdb
	start_daemon
	make_project gone
	make_project here
	echo '{"userName":"hers","uid":4242}' >hers.user
	inside cp "$PWD/hers.user" /run/userdb/hers.user
	"$WARREN" start gone
	"$WARREN" start here
	inside cp -a /run/userdb "$PWD/before"
	"$WARREN" stop gone
	kill_daemon
	inside sh -c "cp -a '$PWD'/before/gone.* '$PWD/before/$(jq .uid before/gone.user)'.* /run/userdb"
	[ -n "$(inside ls /run/userdb/gone.user)" ]
	start_daemon
	uid=$(member here uid)
	[ "$(inside ls /run/userdb | tr '\n' ' ')" = "$uid.group $uid.user here.group here.user hers.user " ]
	# With another configuration they all go, but for hers.
	stop_daemon
	WARREN_IDENTITY_ACCOUNTS=none start_daemon
	[ "$(inside ls /run/userdb)" = hers.user ]
}

@test "names and records of others are left alone: the project starts without" {
	accounts userdb
	start_daemon
	make_project games
	make_project taken
	make_project sudo
	id=$(member taken id)
	echo '{"userName":"taken","uid":4242}' >taken.user
	inside cp "$PWD/taken.user" /run/userdb/taken.user
	run -3 "$WARREN" start games
	[[ $output == *"account 'games': the host has one, of uid 5, not $(member games uid)"* ]]
	# What the host allows its group of that name is not for the project's.
	run -3 "$WARREN" start sudo
	[[ $output == *"group 'sudo': the host has one, of gid 27, not $(member sudo gid)"* ]]
	services files
	run -3 "$WARREN" start taken
	[[ $output == *"'taken.user' is somebody else's"* ]]
	[ "$(state_of taken)" = running ]
	[ "$(inside ls /run/userdb)" = taken.user ]
	"$WARREN" stop "$id"
	[ "$(inside cat /run/userdb/taken.user)" = "$(<taken.user)" ]
}

@test "passwd: a line from the first start until it is deleted, and nothing else is touched" {
	mkdir pw
	printf 'root:x:0:0:root:/root:/bin/sh\n# a remark\nold:!warren:4711:4711:::\n' >pw/passwd
	printf 'root:x:0:\nstaff:x:50:root' >pw/group
	chmod 644 pw/passwd pw/group
	cp -r pw pw.before
	accounts passwd "$PWD/pw"
	start_daemon
	make_project notes
	cmp pw/passwd pw.before/passwd
	id=$(member notes id) uid=$(member notes uid)
	"$WARREN" start notes
	[ "$(tail -n 1 pw/passwd)" = "notes:!warren:$uid:$uid:warren $id:$WARREN_ROOT/home/notes:/bin/sh" ]
	[ "$(tail -n 1 pw/group)" = "notes:!warren:$uid:" ]
	"$WARREN" stop notes
	"$WARREN" settings notes name=paper
	"$WARREN" start paper
	[ "$(grep -c warren pw/passwd)" = 2 ]
	[ "$(tail -n 1 pw/group)" = "paper:!warren:$uid:" ]
	"$WARREN" stop paper
	[ "$(stat -c %a pw/passwd)" = 644 ]
	"$WARREN" delete paper
	cmp pw/passwd pw.before/passwd
	diff <(cat pw.before/group; echo) pw/group
	# A line that only looks like it.
	make_project old
	run -3 "$WARREN" start old
	[[ $output == *"passwd: 'old' with number 4711 is somebody else's"* ]]
	cmp pw/passwd pw.before/passwd
}

@test "nss: the account's numbers, and no start where it means somebody else" {
	services files
	account alice 4711
	start_daemon
	"$WARREN" create --name notes --identity nss --account alice
	api GET /v1/projects/notes |
		jq -e '[.uid, .gid, .identity, .account] == [4711, 4711, "nss", "alice"]'
	"$WARREN" show notes | grep -E '^identity +nss, account alice$'
	"$WARREN" start notes
	"$WARREN" stop notes
	run -5 "$WARREN" create --name other --identity nss --account nobody-has-this
	[[ $output == *"no account 'nobody-has-this'"* ]]
	run -4 "$WARREN" create --name other --identity nss --account root
	run -2 "$WARREN" create --name other --identity nss --uid 7
	no_account alice
	account alice 4712
	run -4 "$WARREN" start notes
	[[ $output == *"account 'alice' is uid 4712, gid "*", but project 'notes' is uid 4711, gid 4711"* ]]
	[ "$(state_of notes)" = stopped ]
	no_account alice
	run -4 "$WARREN" start notes
	[[ $output == *"account 'alice' (uid 4711, gid 4711), which this host does not have any more"* ]]
	[ "$(state_of notes)" = stopped ]
}

@test "nss: failed is not absent, a start goes by what is stored" {
	services files
	account alice 4711
	start_daemon
	"$WARREN" create --name notes --identity nss --account alice
	no_account alice
	# Also where a service behind it says that there is no such account.
	bad_service fails files compat systemd
	run -3 "$WARREN" start notes
	[[ $output == *"account 'alice': the name service failed: Connection refused; started as uid 4711"* ]]
	"$WARREN" stop notes
	bad_service hangs compat files
	SECONDS=0
	run -3 "$WARREN" start notes
	[[ $output == *"account 'alice': the name service did not answer within 2 s; started as uid 4711"* ]]
	echo new >"$(tree_path notes)/new"
	"$WARREN" save notes
	"$WARREN" stop notes
	echo "it took $SECONDS s"
	((SECONDS < 20 + ${WARREN_SANITIZED:+4}0))
	# What is not known yet cannot be stored.
	run -4 "$WARREN" create --name other --identity nss --account alice
	[[ $output == *"did not answer"* ]]
	run ! "$WARREN" show other
}

@test "a save asks no service that hangs twice, and keeps the names that its parent has" {
	services files
	account alice 4711
	mkdir t
	echo 1 >t/changes
	echo 1 >t/stays
	chown -R 4711:4711 t
	"$WARREN" repo init -q "$PWD/r"
	"$WARREN" repo save -q -r "$PWD/r" "$PWD/t"
	inside "$REAL" repo ls -r "$PWD/r" -l main | grep -c ' alice ' | grep -qx 2
	no_account alice
	for kind in fails hangs; do
		bad_service $kind files compat
		echo "$kind" >t/changes
		echo "$kind" >"t/$kind"
		# Numbers that nobody has a name for.
		for i in 1 2 3 4; do
			echo >"t/$kind.$i"
			chown "500$i:500$i" "t/$kind.$i"
		done
		SECONDS=0
		"$WARREN" repo save -q -r "$PWD/r" "$PWD/t"
		((SECONDS < 9 + ${WARREN_SANITIZED:+2}0)) || { echo "$kind: $SECONDS s" && false; }
		"$WARREN" repo ls -r "$PWD/r" -l main >list
		grep -E ' alice .* changes$' list
		grep -E ' alice .* stays$' list
	done
	# Absent is absent.
	answering
	services files
	echo absent >t/changes
	"$WARREN" repo save -q -r "$PWD/r" "$PWD/t"
	"$WARREN" repo ls -r "$PWD/r" -l main >list
	run ! grep -E ' alice .* changes$' list
	grep -E ' alice .* stays$' list
}

@test "derived: the uid of the id's SHA-512; taken by another it is refused" {
	start_daemon
	id=0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d
	want=$((16#$(printf %s "$id" | sha512sum | head -c 8) / 2))
	((want > 65537)) || want=$((want + 65537))
	"$WARREN" create --name first --uid "$want"
	[ "$(member first identity)" = fixed ]
	run -4 "$WARREN" create --id "$id" --name notes --identity derived
	[[ $output == *"uid: $want, derived from the id, is another project's"* ]]
	id=1a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d
	want=$((16#$(printf %s "$id" | sha512sum | head -c 8) / 2))
	((want > 65537)) || want=$((want + 65537))
	WARREN_IDENTITY_DRIVER=nss "$WARREN" create --id "$id" --name notes --identity derived
	api GET /v1/projects/notes | jq -e --arg id "${id//-/}" --argjson uid "$want" \
		'.uid == $uid and .gid == $uid and .identity == "derived"'
	[ "$(jq -r .account v/repos/"$id"/conf/settings.json)" = "${id//-/}" ]
	# Given numbers may be shared, as always.
	"$WARREN" create --name second --uid "$want" --identity fixed
	jq -e '.exclusive == false' v/repos/"$(member second id)"/conf/settings.json
}

@test "range: numbers of others are left out, at the time they are asked for" {
	first=${WARREN_NODE_UID_RANGE%-*}
	services files
	start_daemon
	make_project one
	[ "$(member one uid)" = "$first" ]
	printf '# users\nalice:%s:10\nbroken line\n' $((first + 1)) >etc/subuid
	printf 'bob:%s:5\n' $((first + 12)) >etc/subgid
	account carol $((first + 17))
	echo "staff2:x:$((first + 18)):" >>etc/group
	make_project two
	make_project three
	[ "$(member two uid)" = $((first + 11)) ]
	[ "$(member three uid)" = $((first + 19)) ]
	run -3 "$WARREN" doctor
	[[ $output == *"missing"*"uids"*"of which $((first + 1))-$((first + 10)) are alice's in"* ]]
	printf 'alice:%s:1000\n' "$first" >etc/subuid
	run ! make_project four
	run -1 "$WARREN" create --name four
	[[ $output == *"is alice's in $PWD/etc/subuid"* ]]
	rm etc/subuid etc/subgid
	# The default is nobody's.
	unset WARREN_NODE_UID_RANGE
	run "$WARREN" doctor --json
	jq -e '.checks[] | select(.check == "uids") | .ok' <<<"$output"
	WARREN_NODE_UID_RANGE=700000-799999 run -3 "$WARREN" doctor
	[[ $output == *"of which 524288-1879048191 are systemd's, for containers"* ]]
	mkdir etc/sssd
	printf '[domain/x]\n ldap_idmap_range_min = 2100000000\nldap_idmap_range_max=2100000010\n' \
		>etc/sssd/sssd.conf
	run -3 "$WARREN" doctor
	[[ $output == *"of which 2100000000-2100000009 are sssd's"* ]]
}

@test "doctor says that a name service hangs" {
	bad_service hangs files compat
	run -3 "$WARREN" doctor
	[[ $output == *"missing"*"names"*"did not answer within 2 s"* ]]
	bad_service fails files compat
	run -3 "$WARREN" doctor
	[[ $output == *"names"*"the name service failed"* ]]
}
