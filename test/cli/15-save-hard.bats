#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: 10 and 40 run the same code
# warren repo save where it is hard: coarse clocks, sandboxes, trees without end, files that grow.

bats_require_minimum_version 1.5.0
load lib

# deep DIR LEVELS LENGTH: directories within directories, with a file `leaf` in the last
deep() {
	python3 - "$@" <<-'END'
		import os, sys
		os.mkdir(sys.argv[1]); os.chdir(sys.argv[1])
		for _ in range(int(sys.argv[2])):
		    name = 'd' * int(sys.argv[3])
		    os.mkdir(name); os.chdir(name)
		open('leaf', 'w').close()
	END
}

@test "a file system that keeps whole seconds hides no change" {
	need_root
	need mkfs.ext4
	truncate -s 40M image
	mkfs.ext4 -q -I 128 image
	mkdir src
	mount -o loop image src
	make_repo
	for i in 1 2 3; do
		echo "one $i" >src/file
		sleep 0.05 # more than a clock tick, less than a second
		run -0 warren repo save -q src
		echo "two $i" >src/file
		run -0 warren repo save -q src
		assert_equal "$(warren repo cat main:file)" "two $i"
	done
	# Once it is old enough it is not read again.
	trusted() {
		warren repo save -q src && warren repo save --json src | jq -e '.bytes.read == 0' >/dev/null
	}
	within 10 trusted
}

@test "where a sandbox forbids unshare, links and special files are saved the same" {
	cat >deny.c <<-'END'
		#include <errno.h>
		int unshare(int flags) { (void)flags; errno = EPERM; return -1; }
	END
	gcc -shared -fPIC -o deny.so deny.c
	mkdir src
	ln -s nowhere src/link
	mkfifo src/fifo
	if [ "$(id -u)" = 0 ]; then setfattr -h -n trusted.k -v v src/link; fi
	make_repo
	run -0 env LD_PRELOAD="$PWD/deny.so" \
		ASAN_OPTIONS="${ASAN_OPTIONS-}:verify_asan_link_order=0" "$WARREN" repo save --json src
	assert_json '.skipped | length' 0
	assert_json .files.total 2
	tree=$(json .tree)
	rm -r repo/warren/stat
	run -0 warren repo save --json src
	assert_json .made false
	assert_json .tree "$tree"
	run -0 env LD_PRELOAD="$PWD/deny.so" \
		ASAN_OPTIONS="${ASAN_OPTIONS-}:verify_asan_link_order=0" \
		"$WARREN" repo restore -q main out
	assert_same_tree src out
}

@test "long paths need no memory for each level" {
	need_plain_build
	need python3
	deep src 1500 250
	make_repo
	need time
	run -0 /usr/bin/env time -f '%M' "$WARREN" repo save -q src
	[ "$output" -lt 65536 ] || {
		echo "$output KiB"
		return 1
	}
	run -0 warren repo save --json src
	assert_json .made false
	echo hello >src/new
	run -0 warren repo save --json src
	assert_json .files.new 1
	assert_sound
}

@test "directories deeper than can be restored are listed, and do not end the save" {
	need python3
	deep src 10020 1
	echo hello >src/file
	make_repo
	run -3 --separate-stderr warren repo save --json src
	assert_json '.skipped | length' 1
	assert_json '.skipped[0].reason' 'too many directories within each other'
	assert_json .files.total 1
	run -3 --separate-stderr warren repo save --json src
	assert_json .made false
	run -0 "$WARREN" repo ls -R main
	run -0 "$WARREN" repo restore -q main out
	rm -rf src out
}

@test "a file that grows as it is read does not keep the save" {
	need_plain_build
	mkdir src
	make_repo
	timeout 20 "$BASH" -c 'while :; do head -c 4M /dev/zero; done >src/log' 3>&- &
	writer=$!
	within 10 test -s src/log
	run -3 --separate-stderr timeout 15 "$WARREN" repo save --json src
	kill "$writer"
	wait "$writer" || true
	assert_json '.skipped[0].reason' 'changed while it was read'
	run -0 warren repo save -q src
	assert_equal "$(warren repo cat main:log | sha1sum)" "$(sha1sum <src/log)"
}

@test "an ignore file cut off at the limit leaves out nothing by half a line" {
	mkdir -p src/d src/data
	echo hello >src/d/file
	{
		printf '/data\n#'
		head -c $(((1 << 20) - 10)) /dev/zero | tr '\0' x
		printf '\n/d-and-more\n'
	} >src/.warrenignore
	assert_equal "$(head -c $((1 << 20)) src/.warrenignore | tail -c 2)" "/d"
	make_repo
	run -0 warren repo save --json src
	assert_json .not_protected.count 0
	assert_json '.not_protected.largest[0].path' data
	assert_equal "$(warren repo cat main:d/file)" hello
}

@test "no snapshot is dated after the year 9999" {
	mkdir src
	make_repo
	run -2 warren repo save -d 253402300800 src
	run -2 warren repo save -d 9223372036854775807 src
	run -0 warren repo save --json -d 253402300799 src
	assert_json .name 9999-12-31-235959
	run -2 warren repo save --force src
	assert_output_has "another branch"
	assert_sound
}

@test "a file that grows over the limit after the scan is listed" {
	need_plain_build
	mkdir -p src/t/{1..60}
	for d in src/t/*; do (cd "$d" && seq 400 | xargs touch); done
	make_repo
	# The scan meets the top first; where it is when the file grows is a matter of luck, but a
	# file is either saved or listed.
	for n in 1 2 3 4 5; do
		echo small >src/file
		(sleep "0.0$n" && head -c 5000 /dev/zero >src/file) 3>&- &
		run --separate-stderr "$WARREN" repo save --json --force --threads 1 -n "b$n" \
			--max-file-size 1000 src
		wait $!
		[ "$(json '.skipped + .not_protected.largest | length')" = 1 ] ||
			warren repo cat "b$n:file" >/dev/null
	done
}

@test "a branch deleted and swept by git or bup is saved anew" {
	mkdir -p src/dir
	seq 1000 >src/dir/file
	ln src/dir/file src/other
	make_repo
	for how in git bup; do
		run -0 warren repo save -q src
		tree=$(tree_of main)
		if [ "$how" = git ]; then
			git --git-dir=repo update-ref -d refs/heads/main
			git --git-dir=repo gc -q --prune=now
		else
			run -0 bup rm --unsafe main
			run -0 bup gc --unsafe
		fi
		run -0 warren repo save --json src
		assert_json .made true
		assert_equal "$(tree_of main)" "$tree"
		assert_sound
	done
}
