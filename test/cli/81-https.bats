#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: most of it is TLS and refusals, which the unit tests of link and front run too
# The HTTPS API: who gets in, what tokens open, what strangers cannot do; the OpenAPI document.

bats_require_minimum_version 1.5.0
load lib
load daemon

setup() {
	lib_setup
	make_node
	PORT=$((20000 + ($$ + BATS_TEST_NUMBER * 7) % 20000))
	URL=https://127.0.0.1:$PORT
}

teardown() {
	unset WARREN_URL WARREN_CA WARREN_TOKEN
	daemon_teardown
	# Each volume has set room aside.
	rm -rf "$BATS_TEST_TMPDIR"/{v,ov}
}

# The daemon with its API on $PORT, and the fleet's CA in ca.pem.
start_api() {
	export WARREN_LISTEN_API=127.0.0.1:$PORT
	start_daemon
	warren ca >ca.pem 2>/dev/null
}

# get PATH [CURL OPTION]...: the body; the status goes to ./status
get() {
	local path=$1
	shift
	curl -sS --max-time 60 --cacert ca.pem -w '%{stderr}%{http_code}' "$@" "$URL$path" 2>status
}

post() {
	local path=$1 body=$2
	shift 2
	get "$path" -H 'Content-Type: application/json' --data-binary "$body" "$@"
}

bearer() {
	echo "Authorization: Bearer $1"
}

status_is() {
	assert_equal "$(cat status)" "$1"
}

# Sockets of the daemon and of all below it that listen by TCP.
listening() {
	local pid inode
	for pid in "$DAEMON_PID" $(pgrep -P "$DAEMON_PID"); do
		for inode in $(find "/proc/$pid/fd" -lname 'socket:*' -printf '%l\n' | tr -dc '0-9\n'); do
			awk -v i="$inode" '$4 == "0A" && $10 == i { print $2 }' /proc/net/tcp /proc/net/tcp6
		done
	done
}

has_event() {
	WARREN_TOKEN='' api GET '/v1/events?limit=1000' | jq -e --arg w "$1" 'any(.events[]; .what == $w)' >/dev/null
}

fronts() {
	pgrep -P "$DAEMON_PID" -fc '@front tls'
}

@test "nothing listens unless [listen] api is set" {
	start_daemon
	assert_equal "$(listening)" ""
	stop_daemon
	start_api
	assert_equal "$(listening | wc -l)" 1
	run -0 get /v1/health
	assert_json .ok true
	stop_daemon
	run ! get /v1/health
}

@test "an address that cannot be had: serve says so and does not start; a key that went is made again" {
	python3 -c 'if 1:
		import socket, sys
		s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
		open("taken", "w")
		sys.stdin.read()' "$PORT" < <(sleep 60) 3>&- 4>&- &
	other=$!
	until_true test -e taken
	WARREN_LISTEN_API=127.0.0.1:$PORT run timeout 60 "$WARREN" serve
	assert_status 4
	assert_output_has "127.0.0.1:$PORT"
	kill "$other"
	wait "$other" || true
	start_api
	run -2 env WARREN_LISTEN_API=nonsense "$WARREN" config check
	stop_daemon
	# A key that went is made again, with a certificate for it.
	rm n/state/tls/node.key n/state/tls/node.crt
	start_api
	run -0 get /v1/health
}

@test "TLS 1.3 and nothing older; the certificate names the address and comes from the fleet's CA" {
	start_api
	for v in tls1 tls1_1 tls1_2; do
		run openssl s_client -connect "127.0.0.1:$PORT" "-$v" </dev/null
		assert_output_has "New, (NONE)"
	done
	run -0 openssl s_client -connect "127.0.0.1:$PORT" -CAfile ca.pem -verify_ip 127.0.0.1 -verify_return_error </dev/null
	assert_output_has "New, TLSv1.3"
	assert_output_has "Verify return code: 0 (ok)"
	run ! curl -sS --max-time 20 "$URL/v1/health"
	run ! curl -sS --max-time 20 --cacert ca.pem --connect-to "example.org:$PORT:127.0.0.1:$PORT" "https://example.org:$PORT/v1/health"
}

@test "plain HTTP on that port is closed, and does no harm" {
	start_api
	run ! curl -sS --max-time 20 "http://127.0.0.1:$PORT/v1/health"
	head -c 100000 /dev/urandom >noise
	run timeout 20 bash -c "cat noise >/dev/tcp/127.0.0.1/$PORT"
	[ "$status" -ne 124 ]
	run -0 get /v1/health
	[ -z "$(has_event front.ended && echo ended)" ]
}

@test "without a token there is what is public; uid and socket count for nothing" {
	start_api
	make_project zoe
	for path in /v1/health /v1/openapi.json /v1/ca; do
		get "$path" >/dev/null
		status_is 200
	done
	for path in /v1/node /v1/status /v1/projects /v1/events /v1/operations /v1/tokens /v1/nodes /v1/projects/zoe \
		/v1/projects/zoe/state /v1/projects/nobody /v1/trash "/v1/projects/zoe/read?path=x"; do
		output=$(get "$path")
		status_is 403
		assert_json .error.code denied
	done
	output=$(post /v1/projects '{"name":"x"}')
	status_is 403
	has_event refused
}

@test "tokens: what each scope opens" {
	start_api
	make_project zoe
	make_project yan
	declare -A of
	for scope in read operate admin; do
		of[$scope]=$(warren token create -q --scope "$scope")
	done
	of[project]=$(warren token create -q --scope project:zoe --purpose "of zoe")
	may() {
		local want=$1 scope=$2 method=$3 path=$4
		if [ "$method" = GET ]; then
			get "$path" -H "$(bearer "${of[$scope]}")" >out
		else
			post "$path" "${5-{\}}" -X "$method" -H "$(bearer "${of[$scope]}")" >out
		fi
		grep -qxE "$want" status || {
			echo "$scope: $method $path is $(cat status), not $want"
			cat out
			return 1
		}
	}
	for scope in read operate admin project; do
		may 200 $scope GET /v1/projects
		may 200 $scope GET /v1/projects/zoe
		may 200 $scope GET /v1/events
	done
	# looking at everything, not into files
	may 200 read GET /v1/projects/yan
	may 200 read GET /v1/node
	may 403 read GET "/v1/projects/yan/files"
	may 403 read POST /v1/projects/yan/save
	may 403 read GET /v1/trash
	may 403 read GET /v1/tokens
	may 403 read POST /v1/projects '{"name":"no"}'
	# any project, but none made or deleted
	may '20[02]' operate POST /v1/projects/yan/save '{"wait":"50s"}'
	may 200 operate GET /v1/projects/yan/files
	may 403 operate POST /v1/projects '{"name":"no"}'
	may 403 operate POST /v1/projects/yan/delete
	may 403 operate POST /v1/tokens '{"scope":"read"}'
	may 403 operate POST /v1/nodes '{"name":"n","dc":"d"}'
	# its own project, and no other, not even whether it is there
	may '20[02]' project POST /v1/projects/zoe/save '{"wait":"50s"}'
	may 200 project GET /v1/projects/zoe/files
	may 403 project GET /v1/projects/yan
	may 403 project GET /v1/projects/nobody
	may 403 project POST /v1/projects/yan/save
	may 403 project POST /v1/projects/zoe/delete
	may 403 project GET /v1/node
	may 403 project GET /v1/tokens
	may 403 project POST /v1/tokens '{"scope":"project","project":"zoe"}'
	assert_equal "$(get /v1/projects -H "$(bearer "${of[project]}")" | jq -r '.projects[].name')" zoe
	# everything
	may 200 admin GET /v1/trash
	may 200 admin GET /v1/tokens
	may 200 admin GET /v1/nodes
	may '20[02]' admin POST /v1/projects '{"name":"new","wait":"50s"}'
}

@test "tokens: made once, listed without their secrets, expired, revoked; each is an event" {
	start_api
	make_project zoe
	run -0 warren token create --json --scope project:zoe --expires 90d --purpose "for ci"
	secret=$(json .token)
	id=$(json .id)
	[[ $secret =~ ^wrt_[A-Za-z0-9_-]{43}$ ]]
	assert_equal "${#id}" 8
	assert_equal "$(get /v1/projects/zoe -H "$(bearer "$secret")" | jq -r .name)" zoe
	run -0 warren token list --json
	assert_output_lacks "$secret"
	assert_json '.tokens | length' 1
	assert_json '.tokens[0] | "\(.id) \(.scope) \(.name) \(.purpose) \(.used)"' "$id project zoe for ci $(date -u +%F)"
	run -0 warren token list
	assert_output_has "$id  project zoe"
	# One that ends soon.
	short=$(warren token create -q --expires 1s)
	expired() {
		get /v1/node -H "$(bearer "$short")" >/dev/null
		[ "$(cat status)" = 403 ]
	}
	until_true expired
	run -2 warren token create --scope nonsense
	run -5 warren token create --scope project:nobody
	run -2 warren token create --expires soon
	run -2 warren token revoke "$secret"
	run -5 warren token revoke 00000000
	run -0 warren token revoke "${id:0:5}"
	get /v1/projects/zoe -H "$(bearer "$secret")" >/dev/null
	status_is 403
	has_event token.made
	has_event token.revoked
	# Nowhere but with its owner.
	stop_daemon
	run grep -rlaF -e "${secret#wrt_}" n serve.log
	assert_equal "$output" ""
}

@test "the own user of a project makes tokens for it and for nothing else" {
	need_root
	start_api
	make_project zoe
	uid=$(api GET /v1/projects/zoe | jq .uid)
	chmod 755 .
	as() {
		setpriv --reuid "$uid" --regid "$uid" --clear-groups env WARREN_ROOT="$WARREN_ROOT" "$@"
	}
	secret=$(as "$WARREN" token create -q --scope project:zoe)
	[[ $secret == wrt_* ]]
	warren token create -q --scope admin
	run -4 as "$WARREN" token create --scope admin
	run -4 as "$WARREN" token create --scope project:other
	run -0 as "$WARREN" token list --json
	assert_json '.tokens | length' 1
	other=$(warren token list --json | jq -r '.tokens[] | select(.scope == "admin").id')
	run -4 as "$WARREN" token revoke "$other"
	run -0 as "$WARREN" token revoke "$(json '.tokens[0].id' <<<"$output" 2>/dev/null || as "$WARREN" token list --json | jq -r '.tokens[0].id')"
}

@test "wrong tokens are bounded per address and told" {
	start_api
	good=$(warren token create -q --scope read)
	wrong=wrt_$(head -c 43 /dev/zero | tr '\0' A)
	for _ in {1..10}; do
		get /v1/node -H "$(bearer "$wrong")" >/dev/null
		status_is 403
	done
	get /v1/node -H "$(bearer "$good")" >/dev/null
	status_is 429
	has_event token.wrong
	# No token, and another address, are not touched by that.
	get /v1/health >/dev/null
	status_is 200
	get /v1/node -H "$(bearer "$good")" --interface 127.0.0.2 >/dev/null
	status_is 200
	# The socket is nobody's address.
	WARREN_TOKEN=$good warren list
}

@test "those who hold connections open: bounded per address, and in time" {
	start_api
	cat >hold.py <<-'END'
		import select, socket, ssl, sys, time
		port = int(sys.argv[1])
		tls = ssl.create_default_context(cafile="ca.pem")
		# One drips a header, one says nothing after the handshake, the others nothing at all.
		drip = tls.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")
		mute = tls.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")
		held = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
		begin = time.monotonic()
		drip.sendall(b"GET /v1/health HTTP/1.1\r\n")
		print("held", flush=True)
		left = {s: "idle" for s in held} | {drip: "drip", mute: "mute"}
		early = 0
		while left and time.monotonic() - begin < 60:
		    if drip in left:
		        try:
		            drip.sendall(b"X-A: b\r\n")
		        except OSError:
		            del left[drip]
		    for s in select.select(list(left), [], [], 0.5)[0]:
		        try:
		            data = s.recv(100)
		        except OSError:
		            data = b""
		        if not data and s in left:
		            early += time.monotonic() - begin < 5
		            del left[s]
		print("early", early, "left", len(left), "after", int(time.monotonic() - begin), flush=True)
	END
	python3 - "$PORT" <hold.py >out 2>&1 3>&- &
	holder=$!
	is_held() {
		grep -q held out
	}
	until_true is_held
	# Others come through.
	run -0 get /v1/health --interface 127.0.0.3
	wait "$holder"
	read -r _ early _ left _ after <out.last || read -r _ early _ left _ after < <(tail -n 1 out)
	echo "early $early left $left after $after"
	[ "$early" -ge 30 ]
	[ "$left" = 0 ]
	[ "$after" -le 40 ]
	run -0 get /v1/health
}

@test "a body that is too long, a target that is too long: refused, as on the socket" {
	start_api
	token=$(warren token create -q --scope admin)
	head -c 2000000 /dev/zero | tr '\0' a >long
	run -0 curl -sS --max-time 60 --cacert ca.pem -o out -w '%{http_code}' -H "$(bearer "$token")" -H 'Content-Type: application/json' \
		--data-binary @long "$URL/v1/projects"
	assert_equal "$output" 413
	run curl -sS --max-time 60 --cacert ca.pem -o out -w '%{http_code}' "$URL/v1/$(head -c 100000 long)"
	[[ $output == 4* ]] || [ "$status" -ne 0 ]
	run -0 get /v1/health
}

@test "a new certificate: new connections see it, old ones are served, the old front ends" {
	start_api
	assert_equal "$(fronts)" 1
	serial() {
		openssl s_client -connect "127.0.0.1:$PORT" </dev/null 2>/dev/null | openssl x509 -noout -serial
	}
	old=$(serial)
	# A connection from before.
	coproc HOLD { exec openssl s_client -quiet -connect "127.0.0.1:$PORT" 2>/dev/null; }
	hold_pid=$HOLD_PID
	printf 'GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n' >&"${HOLD[1]}"
	read -r -t 20 line <&"${HOLD[0]}"
	[[ $line == *200* ]]
	printf 'subjectAltName=IP:127.0.0.1\n' >ext
	openssl req -new -key n/state/tls/node.key -subj /CN=again -out again.csr 2>/dev/null
	openssl x509 -req -in again.csr -CA n/state/hub/ca/current.key -CAkey n/state/hub/ca/current.key -set_serial 4711 \
		-days 9 -extfile ext -outform DER -out again.crt 2>/dev/null
	cp again.crt n/state/tls/node.crt
	renewed() {
		[ "$(serial)" = serial=1267 ]
	}
	until_true renewed
	[ "$old" != serial=1267 ]
	run -0 get /v1/health
	printf 'GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n' >&"${HOLD[1]}"
	again() {
		read -r -t 20 line <&"${HOLD[0]}" && [[ $line == *"HTTP/1.1 200"* ]]
	}
	until_true again
	kill "$hold_pid"
	one_front() {
		[ "$(fronts)" = 1 ]
	}
	until_true one_front
	has_event api.certificate
}

@test "every command works over HTTPS" {
	start_api
	token=$(warren token create -q --scope admin)
	make_project zoe
	echo hello >"$(tree_path zoe)/f"
	print=$(warren ca --json | jq -r '.certificates[0].fingerprint')
	openssl x509 -in ca.pem -outform DER -out ca.der
	unset WARREN_ROOT
	export WARREN_URL=$URL WARREN_TOKEN=$token
	for WARREN_CA in "$PWD/ca.pem" "$PWD/ca.der" "$print" "${print//:/}"; do
		export WARREN_CA
		run -0 warren list
		assert_output_has zoe
	done
	run warren save zoe --json
	echo "$output"
	assert_status 0
	assert_json .schema warren.save/1
	run -0 warren cat zoe "latest:f"
	assert_equal "$output" hello
	run -0 warren mkdir zoe d
	run -0 warren files zoe
	run -0 warren read zoe f
	assert_equal "$output" hello
	run -0 warren show zoe --json
	run -0 warren op list
	run -0 warren node list
	run warren status --json
	assert_json .schema warren.status/1
	WARREN_URL=$URL/ run -0 warren list
	export WARREN_ROOT=$BATS_TEST_TMPDIR/n
}

@test "a long stream, byte by byte the same" {
	start_api
	make_project zoe
	head -c 30M /dev/urandom >"$(tree_path zoe)/big"
	token=$(warren token create -q --scope operate)
	env -u WARREN_ROOT WARREN_URL="$URL" WARREN_CA=ca.pem WARREN_TOKEN="$token" "$WARREN" read zoe big >got
	cmp got "$(tree_path zoe)/big"
	# One that is not read to its end leaves nothing behind.
	curl -sS --max-time 60 --cacert ca.pem -H "$(bearer "$token")" "$URL/v1/projects/zoe/read?path=big" | head -c 1000 >/dev/null || true
	run -0 get /v1/health
}

@test "the client says what is wrong with the server" {
	start_api
	token=$(warren token create -q --scope admin)
	export WARREN_URL=$URL WARREN_TOKEN=$token
	says() {
		local rc=$1 what=$2
		shift 2
		run env -u WARREN_ROOT "$@"
		echo "$output"
		[ "$status" = "$rc" ]
		[[ $output == *"$what"* ]]
		[[ $output == *HINT* ]]
		[[ $output != *"$token"* ]]
	}
	says 2 'WARREN_CA' "$WARREN" list
	says 5 'WARREN_CA' WARREN_CA=nowhere.pem "$WARREN" list
	echo nonsense >bad.pem
	says 2 'no certificate' WARREN_CA=bad.pem "$WARREN" list
	"$WARREN" init --root "$PWD/other" --dc x --user "$NODE_UID" --reserve 64M --allow-root-fs "$PWD/ov" >/dev/null
	openssl x509 -in other/state/hub/ca/current.key -out other.pem
	says 4 '' WARREN_CA=other.pem "$WARREN" list
	says 4 '' WARREN_CA="$(openssl x509 -in other.pem -noout -fingerprint -sha256 | cut -d= -f2)" "$WARREN" list
	says 4 'localhost' WARREN_CA=ca.pem WARREN_URL="https://localhost:$PORT" "$WARREN" list
	says 1 '' WARREN_CA=ca.pem WARREN_URL=https://127.0.0.1:1 "$WARREN" list
	need faketime
	says 4 'expired' WARREN_CA=ca.pem faketime -f '+500d' "$WARREN" list
	says 4 '' WARREN_CA=ca.pem faketime -f '-400d' "$WARREN" list
}

@test "OpenAPI: a valid document, the same from the program and from the server, which does what it says" {
	start_api
	make_project zoe
	warren openapi >doc.json
	run -0 python3 "$ROOT/test/lib/openapi.py" form doc.json
	# Every call of the table is in it.
	calls=$(tr -d '\n' <"$ROOT/src/model/api.c" | grep -oE '"(GET|POST|PATCH)",[[:space:]]*"/v1[^"]*"' | wc -l)
	assert_equal "$output" "$calls operations"
	op=$(api GET /v1/operations | jq -r '.operations[0].id')
	WARREN_TOKEN=$(warren token create -q --scope admin) run -0 python3 "$ROOT/test/lib/openapi.py" server doc.json 127.0.0.1 "$PORT" ca.pem \
		zoe "$op"
	# Nothing was changed by it.
	assert_equal "$(api GET '/v1/operations?limit=1000' | jq '.operations | length')" 1
}
