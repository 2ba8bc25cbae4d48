#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: fleet_ctl_test, trust_test and link_test run the same code
# A second host joins a fleet: tokens, whom it speaks to, runs that are cut off, removal.

bats_require_minimum_version 1.5.0
load lib
load daemon

setup() {
	lib_setup
	PORT=$((20000 + ($$ + BATS_TEST_NUMBER * 7) % 20000))
	HUB=https://127.0.0.1:$PORT
	export WARREN_LISTEN_API=127.0.0.1:$PORT
	make_node
	unset WARREN_LISTEN_API
	printf '[listen]\napi = 127.0.0.1:%s\n' "$PORT" >n/warren.conf
	start_daemon
}

teardown() {
	unset WARREN_CRASH
	# Where a test failed it may be there still.
	[ -z "${second-}" ] || kill "$second" 2>/dev/null || true
	daemon_teardown
	# Each volume has set room aside.
	rm -rf "$BATS_TEST_TMPDIR"/{v,mv,thirdv,ov,firstv,keptv}
}

# join TOKEN [OPTION]...: the second host, ./m
join() {
	join_as m "$@"
}

join_third() {
	join_as third "$@"
}

join_as() {
	local host=$1 token=$2 user=()
	shift
	shift
	[ "$(id -u)" != 0 ] || user=(--user "$NODE_UID")
	env -u WARREN_ROOT timeout 60 "$WARREN" join --root "$PWD/$host" "$HUB" "$token" --volume "$PWD/${host}v" \
		--reserve 64M --allow-root-fs "${user[@]}" "$@"
}

add() {
	warren node add -q --name two --dc east "$@"
}

nodes() {
	warren node list --json | jq -r '.nodes[] | "\(.name) \(.dc) \(.incarnation)\(if .removed then " removed" else "" end)"' | sort
}

@test "init founds a fleet; a host joins, and both know of it" {
	assert_equal "$(nodes)" "test test 1"
	run -0 warren node add --json --name two --dc east
	token=$(json .token)
	assert_json .api "127.0.0.1:$PORT"
	print=$(json .fingerprint)
	assert_equal "$(warren ca --json | jq -r '.certificates[0].fingerprint')" "$print"
	run -0 join "$token" --json --listen-peer 127.0.0.2:7444 --listen-api 127.0.0.2:7443
	assert_json .schema warren.joined/1
	assert_json .ca_fingerprint "$print"
	assert_json '"\(.name) \(.dc) \(.incarnation)"' "two east 1"
	run -0 join "$token"
	assert_output_has "$print"
	assert_equal "$(nodes)" "$(printf 'test test 1\ntwo east 1')"
	run -0 warren node show two --json
	assert_json '"\(.peer) \(.api) \(.hub) \(.self)"' "127.0.0.2:7444 127.0.0.2:7443 false false"
	cmp n/state/fleet.bin m/state/fleet.bin
	assert_equal "$(jq -r '"\(.name) \(.dc) \(.incarnation)"' m/state/node.json)" "two east 1"
	assert_equal "$(jq -r .fleet m/state/node.json)" "$(jq -r .fleet n/state/node.json)"
	[ ! -e m/state/hub ]
	# Its certificate is the CA's and says who it is; what is secret is closed.
	openssl x509 -inform DER -in m/state/tls/node.crt -out cert.pem
	warren ca >ca.pem 2>/dev/null
	openssl verify -CAfile ca.pem cert.pem
	openssl x509 -in cert.pem -noout -ext subjectAltName | grep -q "URI:warren:$(jq -r .fleet m/state/node.json)/$(jq -r .id m/state/node.json)/1"
	openssl x509 -in cert.pem -noout -ext subjectAltName | grep -q "IP Address:127.0.0.2"
	[ -z "$(find m/state/tls -type f -name '*.key' -perm /077)" ]
	has_event node.token
	has_event node.joined
	# The token was told once and is nowhere.
	run grep -rlaF -e "${token#wrj_}" n m serve.log
	assert_equal "$output" ""
}

@test "the second node's daemon serves, and its own API with the same CA" {
	join "$(add)" -q --listen-api "127.0.0.2:$PORT"
	WARREN_ROOT=$PWD/m "$WARREN" serve </dev/null >second.log 2>&1 3>&- 4>&- &
	second=$!
	warren ca >ca.pem 2>/dev/null
	second_answers() {
		curl -sS --max-time 20 --cacert ca.pem "https://127.0.0.2:$PORT/v1/health" | jq -e .ok >/dev/null 2>&1
	}
	until_true second_answers
	run -0 env WARREN_ROOT="$PWD/m" "$WARREN" node list --json
	assert_json '.nodes | length' 2
	assert_json .hub false
	# What changes the fleet is asked of the hub.
	run env WARREN_ROOT="$PWD/m" "$WARREN" node add --name three --dc x
	[ "$status" -ne 0 ]
	assert_output_has "127.0.0.1:$PORT"
	kill -TERM "$second"
	wait "$second"
}

@test "tokens that are none, used, of other nodes: refused before anything is made here" {
	refused() {
		local rc=$1 what=$2
		shift 2
		run join "$@"
		assert_status "$rc"
		assert_output_has "$what"
		[ ! -e m ]
		[ ! -e mv ]
	}
	refused 2 "begins with wrj_" nonsense
	refused 2 characters wrj_abc
	token=$(add)
	refused 4 "not 'three'" "$token" --name three
	# With another secret, but the right CA.
	wrong=wrj_$(tr 'A-Za-z' 'B-ZAb-za' <<<"${token:4:40}")${token:44}
	refused 4 "not known" "$wrong"
	run -0 join "$token"
	mv m first
	mv mv firstv
	refused 4 "was used" "$token"
	# A name is taken once.
	run -4 warren node add --name two --dc east
	run -2 warren node add --name three
	run -2 warren node add --name '-x' --dc east
	has_event refused
}

@test "a token ends after an hour" {
	need faketime
	[ -z "${WARREN_SANITIZED-}" ] || skip "faketime and the sanitizers do not go together"
	token=$(add)
	stop_daemon
	export FAKETIME_DONT_FAKE_MONOTONIC=1
	# The program faketime would stand between us and the daemon.
	LD_PRELOAD=$(find /usr/lib -name libfaketime.so.1) FAKETIME=+2h "$WARREN" serve </dev/null >>serve.log 2>&1 3>&- 4>&- &
	DAEMON_PID=$!
	until_true daemon_answers
	run env -u WARREN_ROOT faketime -f +2h "$WARREN" join --root "$PWD/m" "$HUB" "$token" --volume "$PWD/mv" --reserve 64M --allow-root-fs
	assert_status 4
	assert_output_has "expired"
	[ ! -e m ]
	stop_daemon
}

@test "a server with another CA hears nothing of the token" {
	token=$(add)
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout k.pem -out c.pem -days 2 -subj /CN=x \
		-addext subjectAltName=IP:127.0.0.1 2>/dev/null
	mkfifo hold
	openssl s_server -accept "127.0.0.1:$((PORT + 20001))" -cert c.pem -key k.pem -alpn http/1.1 <hold >heard 2>&1 3>&- 4>&- &
	server=$!
	exec 7>hold
	accepts() {
		grep -q ACCEPT heard
	}
	until_true accepts
	HUB=https://127.0.0.1:$((PORT + 20001))
	run join "$token"
	assert_status 4
	assert_output_has "nothing was sent"
	[ ! -e m ]
	exec 7>&-
	kill "$server" || true
	wait "$server" || true
	run grep -cE 'POST|wrj_|HTTP' heard
	assert_equal "$output" 0
	# Nor does a fleet of its own kind.
	"$WARREN" init --root "$PWD/o" --dc x --name other --user "$NODE_UID" --reserve 64M --allow-root-fs "$PWD/ov" >/dev/null
	printf '[listen]\napi = 127.0.0.3:%s\n' "$PORT" >o/warren.conf
	WARREN_ROOT=$PWD/o "$WARREN" serve </dev/null >other.log 2>&1 3>&- 4>&- &
	other=$!
	other_answers() {
		curl -sk --max-time 20 "https://127.0.0.3:$PORT/v1/health" | jq -e .ok >/dev/null
	}
	until_true other_answers
	HUB=https://127.0.0.3:$PORT
	run join "$token"
	assert_status 4
	[ ! -e m ]
	assert_equal "$(WARREN_ROOT=$PWD/o warren events --json | jq '[.events[] | select(.what == "refused")] | length')" 0
	kill -TERM "$other"
	wait "$other"
	# The token is as good as before.
	HUB=https://127.0.0.1:$PORT
	run -0 join "$token"
}

@test "a run that is cut off anywhere is repeated as it was" {
	token=$(add)
	for point in init.part init.claimed init.state join.cert join.fleet join.node; do
		WARREN_CRASH=$point run join "$token"
		[ "$status" -ne 0 ] || {
			echo "nothing was cut off at $point"
			return 1
		}
	done
	run -0 join "$token"
	assert_equal "$(nodes)" "$(printf 'test test 1\ntwo east 1')"
	cmp n/state/fleet.bin m/state/fleet.bin
	# And once more, after it was done.
	run -0 join "$token"
	assert_equal "$(nodes)" "$(printf 'test test 1\ntwo east 1')"
}

@test "a hub that is cut off in the middle of a join" {
	for point in control.join-used control.join-stored; do
		token=$(add --name "n-${point##*-}")
		stop_daemon
		WARREN_CRASH=$point start_daemon
		run join "$token"
		[ "$status" -ne 0 ]
		wait "$DAEMON_PID" || true
		start_daemon
		run -0 join "$token"
		[ "$(nodes | grep -c "^n-${point##*-} ")" = 1 ]
		cmp n/state/fleet.bin m/state/fleet.bin
		rm -rf m mv
	done
}

@test "a host of another fleet is refused; a node comes back with a token for that alone" {
	"$WARREN" init --root "$PWD/m" --dc x --name other --user "$NODE_UID" --reserve 64M --allow-root-fs "$PWD/mv" >/dev/null
	run join "$(add)"
	assert_status 4
	assert_output_has "already"
	rm -rf m mv
	run -0 join "$(add)"
	cp -a m image
	# Its keys are lost: it is not the one that the fleet knows.
	rm m/state/tls/*.key m/state/tls/node.crt
	run join "$(warren node add -q --name three --dc east)"
	[ "$status" -ne 0 ]
	run -5 warren node add --rejoin nobody
	run -0 join "$(warren node add -q --rejoin two)"
	assert_equal "$(nodes)" "$(printf 'test test 1\ntwo east 2')"
	assert_equal "$(jq .incarnation m/state/node.json)" 2
	# A host without the files is none that comes back.
	token=$(warren node add -q --rejoin two)
	mv m kept
	mv mv keptv
	run join "$token"
	assert_status 4
	assert_output_has "come back"
	[ ! -e m ]
}

@test "set, and remove: not while it has the only copies that the hub knows of" {
	join "$(add)" -q
	run -0 warren node set two --weight 50 --draining yes
	run -0 warren node show two --json
	assert_json '"\(.weight) \(.draining) \(.experimental)"' "50 true false"
	run -0 warren node set two --draining no --peer 127.0.0.9:1
	run -0 warren node show two --json
	assert_json '"\(.weight) \(.draining) \(.peer)"' "50 false 127.0.0.9:1"
	run -2 warren node set two
	run -2 warren node set two --peer nonsense
	run -5 warren node set nobody --weight 3
	run -2 warren node remove test
	stop_daemon
	python3 - "$(jq -r .id m/state/node.json)" <<-'END'
		import sqlite3, sys
		db = sqlite3.connect("n/state/hub/catalog.db")
		epoch = (1).to_bytes(8, "big") + (2).to_bytes(8, "big")
		db.execute("INSERT INTO copy VALUES(?,?,1,1000,?,?,1,1,1,0,0,0,1)",
		           ("0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d", sys.argv[1], epoch, epoch + (3).to_bytes(8, "big")))
		db.commit()
	END
	start_daemon
	run warren node remove two
	assert_status 4
	assert_output_has 0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d
	run -0 warren node remove two --force
	assert_equal "$(nodes)" "$(printf 'test test 1\ntwo east 1 removed')"
	run -5 warren node remove two
	run -5 warren node set two --weight 7
	has_event node.removed
	# Its name is free again.
	rm -rf m mv
	run -0 join "$(add)"
	assert_equal "$(nodes)" "$(printf 'test test 1\ntwo east 1\ntwo east 1 removed')"
	# A project's user sees nothing of this, and nobody changes it without rights.
	token=$(warren token create -q --scope operate)
	warren ca >ca.pem 2>/dev/null
	assert_equal "$(curl -sS --cacert ca.pem -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $token" \
		-H 'Content-Type: application/json' -d '{"node":"two"}' "$HUB/v1/nodes/remove")" 403
	assert_equal "$(curl -sS --cacert ca.pem -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' -d '{"name":"x","dc":"y"}' \
		"$HUB/v1/nodes")" 403
}

@test "who joins cannot take the name of another's server" {
	stop_daemon
	printf '[listen]\napi = 0.0.0.0:%s\nname = hub.example.org,127.0.0.1\n' "$PORT" >n/warren.conf
	start_daemon
	token=$(add)
	run join "$token" --listen-api 127.0.0.2:7443 --listen-name hub.example.org
	assert_status 4
	assert_output_has "hub.example.org"
	assert_equal "$(nodes)" "test test 1"
	# nor as an address, from which certificates are made later
	warren ca >ca.pem 2>/dev/null
	spki=$(openssl ecparam -name prime256v1 -genkey -noout | openssl ec -pubout -outform DER 2>/dev/null | base64 -w0)
	for what in api peer; do
		run -0 curl -sS --cacert ca.pem -H 'Content-Type: application/json' -d "$(jq -n --arg t "$token" --arg s "$spki" --arg w $what \
			--arg k "$(head -c 32 /dev/urandom | base64)" --arg n "$(cat /proc/sys/kernel/random/uuid)" \
			'{token: $t, node: $n, tls_spki: $s, sign_pub: $k, ($w): "hub.example.org:9"}')" "$HUB/v1/join"
		assert_output_has "another node of the fleet is reached as 'hub.example.org'"
	done
	assert_equal "$(nodes)" "test test 1"
	printf '[listen]\napi = 127.0.0.2:7443\nname = two.example.org\n' >m/warren.conf
	run -0 join "$token"
}

# names_of NODE-ROOT: what its certificate says that it is
names_of() {
	openssl x509 -inform DER -in "$1/state/tls/node.crt" -noout -ext subjectAltName |
		grep -o 'DNS:[^,]*\|IP Address:[^,]*' | sed 's/.*://; s/ //g' | paste -sd,
}

has_names() {
	[ "$(names_of "$1")" = "$2" ]
}

@test "a certificate has the names that an operator confirmed, whatever the node says later" {
	stop_daemon
	printf '[listen]\napi = 127.0.0.1:%s\npeer = 127.0.0.1:%s\nname = 127.0.0.1,hub.example.org\n' "$PORT" $((PORT + 20001)) >n/warren.conf
	start_daemon
	assert_equal "$(warren node show test --json | jq -r .names)" 127.0.0.1,hub.example.org
	join "$(add)" -q --listen-api "127.0.0.2:$PORT" --listen-peer 127.0.0.2:$((PORT + 20001)) --listen-name Two.example.org,127.0.0.2
	assert_equal "$(warren node show two --json | jq -r .names)" two.example.org,127.0.0.2
	assert_equal "$(names_of m | tr A-Z a-z)" two.example.org,127.0.0.2
	# What was its word at the beginning is not enough afterwards.
	printf '[listen]\napi = 127.0.0.2:%s\npeer = 127.0.0.2:%s\nname = login.example.org\n' "$PORT" $((PORT + 20001)) >m/warren.conf
	WARREN_ROOT=$PWD/m "$WARREN" serve </dev/null >second.log 2>&1 3>&- 4>&- &
	second=$!
	until_true has_event node.unconfirmed
	assert_equal "$(warren node show two --json | jq -r .names)" two.example.org,127.0.0.2
	[[ $(warren node show two --json | jq -r .api) == login.example.org:* ]]
	run ! grep login <(names_of m)
	# A token may say it; then it is that, and nothing else.
	run -2 warren node add --name three --dc dc3 --names 'a b'
	run -4 warren node add --name three --dc dc3 --names three.example.org,hub.example.org
	token=$(warren node add --name three --dc dc3 --names three.example.org,127.0.0.3 -q)
	run -4 join_third "$token" --listen-peer 127.0.0.4:9999
	assert_output_has "the join token is for a host called three.example.org,127.0.0.3, not '127.0.0.4'"
	rm -rf third thirdv
	join_third "$token" -q --listen-peer 127.0.0.3:9999 --listen-name three.example.org,other.example.org
	assert_equal "$(warren node show three --json | jq -r .names)" three.example.org,127.0.0.3
	warren node remove three --force -q
	# Nobody gets another's, an operator neither.
	run -4 warren node set two --names hub.example.org
	assert_output_has "another node of the fleet is reached as 'hub.example.org'"
	run -4 warren node set test --names Two.example.org
	run -2 warren node set two --names 'a b'
	# Where it is reached is added to what it is called.
	run -0 warren node set two --names login.example.org --peer 127.0.0.2:$((PORT + 20001))
	until_true has_names m login.example.org,127.0.0.2
	kill -TERM "$second"
	wait "$second"
}
