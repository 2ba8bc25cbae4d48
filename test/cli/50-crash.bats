#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: its faults are those of system calls, thousands of them
# kill -9 at any point, a full disk, an I/O error at the n-th call for every n: the repository still
# verifies, every earlier snapshot is whole, and the next save simply works.

bats_require_minimum_version 1.5.0
load lib

setup_file() {
	gcc -D_GNU_SOURCE -shared -fPIC -O1 -o "$BATS_FILE_TMPDIR/fault.so" "$BATS_TEST_DIRNAME/../lib/fault.c"
}

# A repository with one snapshot, and a tree that differs from it in all that a save can meet.
start() {
	mkdir -p src/dir/sub src/gone
	seq 2000 >src/dir/numbers
	echo old >src/dir/sub/file
	echo gone >src/gone/x
	ln src/dir/numbers src/linked
	make_repo "$PWD/start"
	warren repo save -q src
	cp -a src first
	rm -r src/gone
	echo new >src/dir/sub/file
	seq 3000 5000 >src/more
	ln -s more src/link
	mkdir src/empty
}

# What must hold after anything: ours and git's word, and the first snapshot restores to what it was.
assert_survived() {
	git --git-dir="$WARREN_REPO" fsck --full --strict --no-dangling >fsck.out 2>&1 || {
		cat fsck.out
		return 1
	}
	warren repo verify --data -q || return 1
	rm -rf old
	warren repo restore -q "$first" old || return 1
	assert_same_tree first old
}

faulty() {
	env LD_PRELOAD="$BATS_FILE_TMPDIR/fault.so" ASAN_OPTIONS="${ASAN_OPTIONS-}:verify_asan_link_order=0" "$@"
}

# The number of calls that a command makes, on a copy of everything.
count_calls() {
	rm -f count
	faulty env FAULT_COUNT="$PWD/count" "$@" >/dev/null 2>&1
	tail -n 1 count
}

fresh() {
	rm -rf repo target
	cp -a start repo
	use_repo "$PWD/repo"
	[ ! -d target.start ] || cp -a target.start target
}

@test "save: every changing call fails, or is the last, in turn" {
	start
	use_repo start
	first=$(git --git-dir=start rev-parse main)
	fresh
	calls=$(count_calls "$WARREN" repo save --threads 1 src)
	[ "$calls" -gt 15 ]
	step=1
	[ -z "${WARREN_SANITIZED-}" ] || step=4
	for how in enospc eio kill; do
		for ((at = 1; at <= calls; at += step)); do
			fresh
			run faulty env FAULT_AT=$at FAULT_HOW=$how ${keep:+FAULT_KEEP=1} \
				"$WARREN" repo save --threads 1 src
			case $how in
			kill) [ "$status" -eq 137 ] || [ "$status" -eq 0 ] ;;
			*) [ "$status" -le 1 ] ;;
			esac || {
				echo "call $at, $how: status $status: $output"
				return 1
			}
			if [ "$status" -eq 1 ]; then
				assert_output_has "warren repo save: "
			fi
			# shellcheck disable=SC2030 # of this test
			failed="call $at, $how"
			assert_survived || { echo "$failed"; return 1; }
			run "$WARREN" repo save src
			[ "$status" -eq 0 ] || { echo "$failed, then: $output"; return 1; }
			rm -rf now && warren repo restore -q main now
			assert_same_tree src now || { echo "$failed"; return 1; }
			[ -z "$(find repo/objects -name 'pack-tmp-*')" ] || { echo "$failed: left over"; return 1; }
		done
	done
}

@test "save: a disk that is full from the n-th call on" {
	start
	first=$(git --git-dir=start rev-parse main)
	fresh
	calls=$(count_calls "$WARREN" repo save --threads 1 src)
	for ((at = 1; at <= calls; at += 3)); do
		fresh
		run faulty env FAULT_AT=$at FAULT_HOW=enospc FAULT_KEEP=1 "$WARREN" repo save --threads 1 src
		[ "$status" -le 1 ]
		assert_survived || { echo "call $at"; return 1; }
		run -0 "$WARREN" repo save src
	done
}

@test "save: every reading call fails in turn" {
	start
	first=$(git --git-dir=start rev-parse main)
	fresh
	export FAULT_CALLS=read
	calls=$(count_calls "$WARREN" repo save --threads 1 src)
	[ "$calls" -gt 30 ]
	step=1
	[ -z "${WARREN_SANITIZED-}" ] || step=5
	for ((at = 1; at <= calls; at += step)); do
		fresh
		run faulty env FAULT_AT=$at FAULT_HOW=eio "$WARREN" repo save --threads 1 src
		# failed as a whole, or saved with what could not be read on the list, or not needed
		[ "$status" -eq 0 ] || [ "$status" -eq 1 ] || [ "$status" -eq 3 ] || {
			echo "call $at: status $status: $output"
			return 1
		}
		FAULT_CALLS='' assert_survived || { echo "call $at"; return 1; }
		if [ "$status" -eq 0 ]; then
			rm -rf now && warren repo restore -q main now
			assert_same_tree src now || { echo "call $at: wrong without a word"; return 1; }
		fi
		run -0 "$WARREN" repo save src
		rm -rf now && warren repo restore -q main now
		assert_same_tree src now || { echo "call $at"; return 1; }
	done
}

@test "restore in place: killed or failing at every changing call, then run again" {
	start
	use_repo start
	first=$(git --git-dir=start rev-parse main)
	warren repo save -q src
	cp -a src target.start
	echo precious >target.start/mine
	fresh
	calls=$(count_calls "$WARREN" repo restore --threads 1 "$first" target --delete)
	[ "$calls" -gt 30 ]
	step=2
	[ -z "${WARREN_SANITIZED-}" ] || step=7
	for how in kill enospc; do
		for ((at = 1; at <= calls; at += step)); do
			fresh
			run faulty env FAULT_AT=$at FAULT_HOW=$how "$WARREN" repo restore --threads 1 "$first" target --delete
			failed="call $at, $how: status $status: $output"
			assert_survived || { echo "$failed"; return 1; }
			# what was deleted is in the safety snapshot
			if [ ! -e target/mine ]; then
				assert_equal "$(warren repo cat safety:mine)" precious || { echo "$failed"; return 1; }
			fi
			run "$WARREN" repo restore "$first" target --delete
			[ "$status" -eq 0 ] || { echo "$failed, then: $output"; return 1; }
			assert_same_tree first target || { echo "$failed"; return 1; }
			# the stat cache that was left tells the truth
			echo again >target/linked
			run -0 "$WARREN" repo save -n check target
			assert_equal "$(warren repo cat check:linked)" again || { echo "$failed"; return 1; }
		done
	done
}

@test "every named crash point of the engine is reached, and survived" {
	start
	use_repo start
	first=$(git --git-dir=start rev-parse main)
	cp -a src target.start
	fresh
	idx=$(ls start/objects/pack/*.idx)
	# each command stands for the crash points on its way
	attempt() {
		run env WARREN_CRASH="$point" "$WARREN" "$@"
		[ "$status" -ne 137 ] || hit=1
	}
	run_all() {
		attempt repo save -q src
		attempt repo restore -q "$first" target --delete
		attempt repo tag t main
		rm -f "repo/${idx#start/}"
		attempt repo verify --repair
		attempt repo init new
		git --git-dir=repo config pack.packSizeLimit 2000
		head -c 100000 /dev/urandom >big/noise
		attempt repo save -q -n big big
	}
	# No command passes those of aside.c and latest.c: aside_test and 79-usage do.
	points=$(grep -rhoE --exclude={'*_test.c',aside.c,latest.c} 'wr_crash_point\("[^"]+"\)' "$ROOT/src/engine" "$ROOT/src/sys" |
		sed 's/.*"\(.*\)".*/\1/' | sort -u)
	[ "$(wc -l <<<"$points")" -ge 10 ]
	mkdir big
	for point in $points; do
		fresh
		rm -rf new
		hit=
		run_all
		[ -n "$hit" ] || { echo "nothing passes '$point'"; return 1; }
		run "$WARREN" repo verify --repair
		[ "$status" -eq 0 ] || { echo "after '$point': $output"; return 1; }
		assert_survived || { echo "after '$point'"; return 1; }
		run -0 "$WARREN" repo save src
	done
}

@test "a loop of saves killed at random moments" {
	start
	use_repo start
	first=$(git --git-dir=start rev-parse main)
	fresh
	mkdir src/churn
	rounds=60
	[ -z "${WARREN_SANITIZED-}" ] || rounds=15
	for ((round = 0; round < rounds; round++)); do
		for _ in $(seq 30); do
			head -c $((RANDOM * 3)) /dev/urandom >"src/churn/f$((RANDOM % 50))"
		done
		"$WARREN" repo save -q src 2>/dev/null &
		pid=$!
		python3 -c "import time; time.sleep($((RANDOM % 60)) / 1000)"
		kill -9 $pid 2>/dev/null || true
		wait $pid || true
		if ((round % 10 == 9)); then
			assert_survived
		fi
	done
	run -0 "$WARREN" repo save src
	run -0 "$WARREN" repo restore -q main now
	assert_same_tree src now
	assert_survived
}

@test "a real file system that fills up, and is emptied again" {
	need_root
	truncate -s 24M image
	mkfs.ext4 -q -b 4096 -O ^has_journal image
	mkdir fs
	mount -o loop image fs
	mkdir src first
	seq 1000 >src/file
	cp -a src/. first
	touch -r src first
	make_repo "$PWD/fs/repo"
	run -0 warren repo save src
	first=$(git --git-dir=fs/repo rev-parse main)
	head -c 10M /dev/urandom >fs/ballast
	for i in $(seq 30); do
		head -c 1M /dev/urandom >"src/noise$i"
		run "$WARREN" repo save src
		[ "$status" -eq 0 ] || break
	done
	assert_status 1
	assert_output_has "No space left on device"
	assert_output_has "HINT:"
	assert_survived
	rm fs/ballast
	run -0 "$WARREN" repo save src
	rm -rf now && run -0 "$WARREN" repo restore -q main now
	assert_same_tree src now
	assert_survived
}
