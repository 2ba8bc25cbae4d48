#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# warren repo init and save: receipts, what counts as a change, what is left out, what goes wrong.

bats_require_minimum_version 1.5.0
load lib

make_tree() {
	mkdir -p src/dir/sub src/empty
	printf 'hello\n' >src/file
	printf 'other\n' >src/dir/sub/deep
	ln -s file src/link
	head -c 300000 /dev/urandom >src/dir/large
	chmod 640 src/file
}

# Objects in packs, that is all that a save can have stored.
objects() {
	git --git-dir="$WARREN_REPO" count-objects -v | awk '/^in-pack/ {print $2}'
}

@test "init makes a repository that git and bup accept, and leaves an existing one alone" {
	run -0 warren repo init repo
	assert_output_has "split bits 16"
	use_repo repo
	run -0 bup ls
	run -0 git --git-dir=repo rev-parse --is-bare-repository
	assert_equal "$output" true
	before=$(find repo -type f -exec sha1sum {} + | sort)
	run -0 warren repo init repo --json
	assert_json .existed true
	assert_equal "$(find repo -type f -exec sha1sum {} + | sort)" "$before"
	run -4 warren repo init --split-bits 13 repo
	assert_output_has "HINT:"
	BUP_DIR=$PWD/by-bup bup init 2>/dev/null
	run -0 warren repo init by-bup --json
	assert_json .split_bits 13
}

@test "init refuses what is no place for a repository" {
	mkdir full && touch full/x
	run -4 warren repo init full
	assert_output_has "HINT:"
	touch file
	run warren repo init file
	[ "$status" -ne 0 ]
	run -2 warren repo init --split-bits 12 r
	run -2 warren repo init --split-bits abc r
	[ ! -e r ]
}

@test "the receipt of a first save, an unchanged one and a changed one" {
	make_tree
	make_repo
	run -0 warren repo save --json src
	assert_json .schema warren.save/1
	assert_json .made true
	assert_json .branch main
	assert_json .files.total 4
	assert_json .files.new 4
	assert_json .bytes.read 300012
	assert_json .not_protected.count 0
	assert_json '.skipped | length' 0
	first=$(json .commit)
	assert_equal "$(git --git-dir=repo rev-parse main)" "$first"
	assert_equal "$(git --git-dir=repo rev-parse 'main^{tree}')" "$(json .tree)"
	count=$(objects)

	run -0 warren repo save --json src
	assert_json .made false
	assert_json .commit "$first"
	assert_json .bytes.read 0
	assert_equal "$(objects)" "$count"

	printf 'changed\n' >src/file
	rm src/dir/sub/deep
	touch src/dir/new
	run -0 warren repo save --json src
	assert_json .made true
	assert_json .files.changed 1
	assert_json .files.removed 1
	assert_json .files.new 1
	assert_equal "$(git --git-dir=repo rev-parse main~1)" "$first"
	assert_sound
}

@test "text receipts, --quiet, --force and --dry-run" {
	make_tree
	make_repo
	run -0 warren repo save --dry-run src
	assert_output_has "would save"
	assert_equal "$(git --git-dir=repo for-each-ref)" ""
	assert_equal "$(objects)" 0
	[ ! -e repo/warren/stat ] || [ -z "$(ls repo/warren/stat)" ]
	run -0 warren repo save src
	assert_output_has "saved main/"
	run -0 warren repo save src
	assert_output_has "nothing changed since main/"
	run -0 warren repo save -q src
	assert_equal "$output" ""
	run -0 warren repo save --force --json src
	assert_json .made true
	assert_equal "$(git --git-dir=repo rev-list --count main)" 2
	assert_equal "$(tree_of main)" "$(tree_of main~1)"
}

@test "snapshot times strictly increase along a branch" {
	make_tree
	make_repo
	run -0 warren repo save --json -d 1700000005 src
	assert_json .name 2023-11-14-221325
	run -0 warren repo save --json --force -d 1700000005 src
	assert_json .name 2023-11-14-221326
	run -0 warren repo save --json --force -d 5 src
	assert_json .name 2023-11-14-221327
	assert_equal "$(bup ls main | wc -l)" 4
}

@test "a copy with cp -a changes nothing and stores nothing" {
	make_tree
	ln src/file src/zz-second-name
	ln src/dir/large "$PWD/outside"
	make_repo
	run -0 warren repo save src
	count=$(objects)
	tree=$(tree_of main)
	cp -a src copy
	run -0 warren repo save --json copy
	assert_json .made false
	assert_json .tree "$tree"
	assert_equal "$(objects)" "$count"
	# and neither does the original after its copy, nor with --trust-mtime
	run -0 warren repo save --json src
	assert_json .made false
	cp -a src third
	run -0 warren repo save --json --trust-mtime third
	assert_json .made false
	assert_json .bytes.read 0
}

@test "owner names that are gone change nothing" {
	need_private_mounts
	make_tree
	chown 1:1 src/file
	setfacl -m u:daemon:r src/file
	make_repo
	run -0 warren repo save src
	rm -r repo/warren/stat
	printf '' >empty
	# shellcheck disable=SC2016 # expanded by the inner shell
	run -0 unshare -m sh -c 'mount --bind empty /etc/passwd && mount --bind empty /etc/group &&
		"$WARREN" repo save --json src'
	assert_json .made false
	assert_json .objects_new 0
}

@test "a change within the clock's tick, same size and mtime, is never missed" {
	mkdir src
	make_repo
	for value in $(seq 100 160); do
		printf '%s' "$value" >src/file
		touch -d @1600000000 src/file
		run -0 warren repo save -q src
		assert_equal "$(git --git-dir=repo cat-file -p main:file)" "$value"
	done
	for value in $(seq 100 140); do
		printf '%s' "$value" >src/file
		run -0 warren repo save -q src
		assert_equal "$(git --git-dir=repo cat-file -p main:file)" "$value"
	done
}

@test "changes of metadata alone are changes" {
	make_tree
	make_repo
	run -0 warren repo save src
	for change in 'chmod 600 src/file' 'touch -d @1234567890.5 src/file' \
		'setfattr -n user.a -v b src/file' 'setfacl -m u:1:r src/file' 'chattr +d src/file' \
		'chmod 700 src/dir' 'setfattr -n user.d -v e src/dir/sub' 'ln -sf other src/link'; do
		$change
		run -0 warren repo save --json src
		assert_json .made true
		run -0 warren repo save --json src
		assert_json .made false
	done
	assert_sound
}

@test "hard links keep their group when a directory that holds one is renamed" {
	mkdir -p src/a src/z
	echo content >src/a/one
	ln src/a/one src/z/two
	ln src/a/one src/three
	make_repo
	run -0 warren repo save src
	mv src/z src/b
	run -0 warren repo save src
	bup restore -q -C out /main/latest/.
	assert_equal "$(stat -c %h out/a/one)" 3
	assert_same_tree src out
}

@test "exclude patterns, .warrenignore, cache directories: left out, counted and named" {
	mkdir -p src/keep src/build/deep src/cache/x src/work
	echo 1 >src/keep/a.c
	head -c 1000 /dev/zero >src/keep/a.o
	head -c 5000 /dev/zero >src/build/deep/big
	printf 'Signature: 8a477f597d28d172789f06886806bc55\n' >src/cache/CACHEDIR.TAG
	head -c 3000 /dev/zero >src/cache/x/data
	printf '*.tmp\n!keep.tmp\n' >src/work/.warrenignore
	touch src/work/a.tmp src/work/keep.tmp
	printf '# comment\n/build\n' >patterns
	make_repo
	run -0 warren repo save --json --exclude '*.o' --exclude-from patterns src
	assert_json .not_protected.count 4
	assert_json .not_protected.bytes 9000
	assert_json '.not_protected.largest[0].path' build
	assert_json '.not_protected.largest[0].bytes' 5000
	assert_equal "$(git --git-dir=repo ls-tree -r --name-only main | grep -v bupm | sort | tr '\n' ' ')" \
		"cache/CACHEDIR.TAG keep/a.c work/.warrenignore work/keep.tmp "
	run -0 warren repo save --exclude '*.o' --exclude-from patterns src
	assert_output_has "nothing changed"
	assert_output_has "not protected: 4 files"
	# without the patterns they are new
	run -0 warren repo save --json src
	assert_json .files.new 2
	run -5 warren repo save --exclude-from nowhere src
	assert_output_has "--exclude-from"
	assert_sound
}

@test "one file system: a mount point is an empty directory" {
	need_private_mounts
	mkdir -p src/mnt
	echo a >src/a
	make_repo
	# shellcheck disable=SC2016
	run -0 unshare -m sh -c 'mount -t tmpfs none src/mnt && echo b >src/mnt/b &&
		"$WARREN" repo save --json -x src'
	assert_json '.not_protected.largest[0].reason' "other file system"
	assert_equal "$(git --git-dir=repo ls-tree -r --name-only main | sort | tr '\n' ' ')" \
		".bupm a mnt/.bupm "
	# shellcheck disable=SC2016
	run -0 unshare -m sh -c 'mount -t tmpfs none src/mnt && echo b >src/mnt/b &&
		"$WARREN" repo save --json src'
	assert_equal "$(git --git-dir=repo cat-file -p main:mnt/b)" b
	assert_sound
}

@test "a sparse file of exabytes ends quickly, left out and said so" {
	need_private_mounts
	mkdir -p src/t
	make_repo
	# shellcheck disable=SC2016
	run -0 timeout 20 unshare -m sh -c 'mount -t tmpfs none src/t &&
		truncate -s 7E src/t/huge && echo small >src/t/small && "$WARREN" repo save --json src'
	assert_json '.not_protected.largest[0].path' t/huge
	assert_json '.not_protected.largest[0].reason' "larger than the limit"
	assert_equal "$(git --git-dir=repo cat-file -p main:t/small)" small
	run -0 warren repo save --json --max-file-size 3 src
}

@test "sparse files: the same ids as when their zeros are written out" {
	make_repo "$PWD/repo" --split-bits 13
	mkdir src
	truncate -s 40M src/holes
	printf island | dd of=src/holes bs=1 seek=20000003 conv=notrunc status=none
	cp --sparse=never src/holes src/plain
	run -0 warren repo save src
	assert_equal "$(git --git-dir=repo rev-parse main:holes.bup)" \
		"$(git --git-dir=repo rev-parse main:plain.bup)"
	assert_equal "$(git --git-dir=repo rev-parse main:holes.bup)" \
		"$(BUP_DIR=$PWD/repo bup split -t <src/plain)"
}

@test "a file that changes while it is read is listed, and never fails the save" {
	mkdir src
	head -c 100M /dev/zero >src/busy
	echo calm >src/calm
	make_repo
	while :; do printf x >>src/busy; done &
	writer=$!
	run --separate-stderr warren repo save --json src
	kill "$writer"
	wait "$writer" || true
	assert_status 3
	assert_json '.skipped[0].path' busy
	assert_json '.skipped[0].reason' "changed while it was read"
	run -0 warren repo save --json src
	assert_json .files.changed 1
	cmp src/busy <(bup join "$(git --git-dir=repo rev-parse main:busy.bup)")
	assert_sound
}

@test "files that come and go, are swapped for links or truncated: no save fails, none reads outside" {
	mkdir -p src/d secret
	echo secret >secret/inner
	head -c 2M /dev/zero >src/shrinks
	make_repo
	(
		while :; do
			mv src/d src/d.real && ln -s ../secret src/d
			rm src/d && mv src/d.real src/d
			touch src/come && rm -f src/come
			ln -sf /etc/passwd src/swap && rm -f src/swap && echo x >src/swap && rm -f src/swap
			mkfifo src/pipe && rm -f src/pipe && echo y >src/pipe && rm -f src/pipe
			truncate -s 10 src/shrinks && truncate -s 2M src/shrinks
		done
	) 2>/dev/null &
	racer=$!
	for _ in $(seq 40); do
		run timeout 20 "$WARREN" repo save -q src
		[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || break
	done
	kill "$racer"
	wait "$racer" || true
	[ "$status" -eq 0 ] || [ "$status" -eq 3 ]
	run git --git-dir=repo log --all --name-only --format= -- '*inner'
	assert_equal "$output" ""
	assert_sound
}

@test "unreadable files and directories are listed" {
	need_root
	mkdir -p src/closed
	echo a >src/closed/a
	echo b >src/b
	echo c >src/c
	chmod 000 src/closed src/b
	chown -R 65534:65534 src
	mkdir home && chown 65534 home
	open_path "$PWD"
	cp "$WARREN" ./w
	as() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
	run -0 as ./w repo init home/repo
	run --separate-stderr -3 as ./w repo save --json -r home/repo src
	assert_json '.skipped | map(.path + " " + .reason) | sort | join(", ")' \
		"b permission denied, closed permission denied"
	assert_json .files.new 1
}

@test "the repository inside its own source is left out" {
	mkdir src
	echo a >src/a
	make_repo "$PWD/src/repo"
	run -0 warren repo save --json src
	assert_json '.not_protected.largest[0].reason' "the repository itself"
	run -0 warren repo save --json src
	assert_json .made false
	assert_equal "$(git --git-dir=src/repo ls-tree --name-only main | tr '\n' ' ')" ".bupm a "
}

@test "names of any bytes, long names, deep paths" {
	mkdir src
	make_repo
	touch "src/$(printf 'nl\nx')" "src/$(printf '\377\376')" "src/ " 'src/-n' 'src/\' \
		"src/$(printf 'n%.0s' {1..255})"
	python3 - <<-'P'
		import os
		os.chdir('src')
		for i in range(700):
		    os.mkdir('level-%03d' % i)
		    os.chdir('level-%03d' % i)
		open('bottom', 'w').write('deep')
	P
	run -0 warren repo save --json src
	assert_json .directories 701
	run -0 warren repo save --json src
	assert_json .made false
	run -0 warren repo verify --data
	run -0 git --git-dir=repo fsck --full --strict
}

@test "one writer at a time: refused, or waits; a dead writer is not in the way" {
	make_tree
	make_repo
	run -0 warren repo save src
	echo more >src/more
	exec 9<>repo/warren/lock
	flock -x 9
	echo "pid 1, somebody" >&9
	run -4 warren repo save src
	assert_output_has "in use by another writer"
	assert_output_has "somebody"
	run -0 warren repo save --dry-run src
	"$WARREN" repo save --wait 20 src 9>&- &
	saver=$!
	# It waits: it has the lock's file open and is not done.
	waiting() { [ -n "$(find "/proc/$saver/fd" -lname '*/warren/lock' 2>/dev/null)" ]; }
	within 10 waiting
	exec 9>&-
	wait "$saver"
	run -0 warren repo save --force src
}

@test "wrong input is refused with the reason" {
	make_tree
	make_repo
	run -5 warren repo save nowhere
	assert_output_has "nowhere"
	run -2 warren repo save src/file
	assert_output_has "HINT: save takes a directory"
	run -5 warren repo save -r nowhere src
	assert_output_has "HINT:"
	run -2 warren repo save
	run -2 warren repo save src other
	for name in a/b .hidden 'x..y' 'x.lock' 'sp ace' '' '-x' '@'; do
		run -2 warren repo save --name="$name" src
	done
	run -2 warren repo save -d -5 src
	run -2 warren repo save -d tomorrow src
	run -2 warren repo save --max-file-size 5Q src
	run -2 warren repo save --threads 0 src
	assert_equal "$(git --git-dir=repo for-each-ref)" ""
	git --git-dir=repo config bup.split.trees true
	run -1 warren repo save src
	assert_output_has "split"
	run --separate-stderr -5 warren repo save --json -r nowhere src
	assert_json .error.code not_found
}
