#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Restore: to new places and in place; other tools judge the result.

bats_require_minimum_version 1.5.0
load lib

# A small tree of the usual things.
make_tree() {
	mkdir -p "$1/dir/sub" "$1/empty"
	echo one >"$1/one"
	echo two >"$1/dir/two"
	head -c 300000 /dev/urandom >"$1/dir/big"
	echo three >"$1/dir/sub/three"
	ln -s ../one "$1/dir/link"
	ln "$1/one" "$1/dir/hard"
	mkfifo "$1/fifo"
	chmod 640 "$1/dir/two"
	touch -d 2020-02-02T02:02:02.123456789 "$1/one" "$1/dir" "$1"
}

# Names, kinds, modes, owners, times, sizes and contents, as mtree sees them.
assert_mtree() {
	mtree -c -k type,uid,gid,mode,size,link,time,sha256,device -p "$1" | grep -v '^#' >spec1
	mtree -c -k type,uid,gid,mode,size,link,time,sha256,device -p "$2" | grep -v '^#' >spec2
	[ "$(wc -l <spec1)" -ge "$(find "$1" | wc -l)" ]
	diff spec1 spec2
}

assert_tar() {
	tar -C "$1" --acls --xattrs --xattrs-include='*' -cf tree.tar . 2>/dev/null
	run tar -C "$2" --compare --acls --xattrs --xattrs-include='*' -f tree.tar
	assert_status 0
	assert_equal "$output" ""
}

# ---- a repository by hand, to hold what no tool would store ----

blob() {
	printf "$@" | git --git-dir="$WARREN_REPO" hash-object -w --stdin
}

# entry MODE NAME ID: one entry of a tree
entry() {
	printf '%s %b\0' "$1" "$2"
	printf '%s' "$3" | xxd -r -p
}

tree() {
	git --git-dir="$WARREN_REPO" hash-object -t tree -w --stdin --literally
}

snapshot() {
	git --git-dir="$WARREN_REPO" update-ref refs/heads/evil \
		"$(git --git-dir="$WARREN_REPO" commit-tree -m x "$1")"
}

@test "every kind of metadata comes back, by rsync, tar and mtree" {
	need_root
	bash "$ROOT/test/lib/bup-golden.sh" "$PWD/golden" >/dev/null 2>&1
	use_repo golden/repo
	run -0 warren repo restore final out
	assert_same_tree golden/src out
	assert_tar golden/src out
	assert_mtree golden/src out
	run -0 warren repo restore final out --dry-run --json
	assert_json '.actions | length' 0
	assert_json .replaced 0
}

@test "flags, capabilities, default ACLs, odd times, names and depths" {
	need_root
	make_repo
	mkdir -p src/acl/sub src/locked
	echo x >src/acl/sub/f
	setfacl -m u:1234:rwx,d:u:1234:r-x,d:g:4321:rwx src/acl
	setfacl -m u:1234:r src/acl/sub/f
	echo x >src/locked/immutable
	echo x >src/locked/append
	touch src/nodump
	setfattr -n trusted.t -v "$(printf 'a\1b')" src/nodump
	setfattr -n user.empty src/nodump
	cp /bin/true src/capable
	setcap cap_net_raw+ep src/capable
	touch "src/$(printf '\377\001name')" "src/$(head -c 255 /dev/zero | tr '\0' n)"
	touch -h -d '1960-01-01 00:00:00.5' src/nodump
	touch -d '2200-01-01 00:00:00.000000001' src/acl/sub/f
	ln -s nowhere src/dangling
	ln -P src/dangling src/dangling2
	mknod src/dev c 7 9
	ln src/dev src/dev2
	chmod 6755 src/capable
	setcap cap_net_raw+ep src/capable
	chmod 1777 src/acl
	chmod 2750 src/locked
	p=src
	for i in $(seq 1 50); do
		p=$p/$(printf "d%.0s" $(seq 1 70))$i
	done
	mkdir -p "$p" && touch -d 2001-01-01 "$p/deepest"
	chattr +d src/nodump src/acl
	chattr +a src/locked/append
	ln src/locked/immutable src/locked/linked
	chattr +i src/locked/immutable src/locked
	run -0 warren repo save src
	run -0 warren repo restore main out
	assert_same_tree src out
	assert_tar src out
	for f in nodump acl locked locked/append locked/immutable; do
		assert_equal "$(lsattr -d "out/$f" | cut -d' ' -f1)" "$(lsattr -d "src/$f" | cut -d' ' -f1)"
	done
	assert_equal "$(getcap out/capable)" "out/capable cap_net_raw=ep"
	assert_equal "$(stat -c %i out/locked/linked)" "$(stat -c %i out/locked/immutable)"
	assert_equal "$(stat -c %i out/dangling)" "$(stat -c %i out/dangling2)"
	assert_equal "$(stat -c %i out/dev)" "$(stat -c %i out/dev2)"
	# In place, through flags that forbid every change.
	chattr -i -a out/locked out/locked/immutable out/locked/append
	echo other >out/locked/immutable
	echo other >>out/locked/append
	chattr -d out/nodump
	setfattr -n user.more -v x out/nodump
	setfattr -x trusted.t out/nodump
	setfacl -b -k out/acl
	rm out/dev2 out/dangling
	chattr +i out/locked/immutable out/locked
	run -0 warren repo restore main out
	assert_same_tree src out
	assert_tar src out
	for f in nodump acl locked locked/append locked/immutable; do
		assert_equal "$(lsattr -d "out/$f" | cut -d' ' -f1)" "$(lsattr -d "src/$f" | cut -d' ' -f1)"
	done
	chattr -R -i -a src/locked out/locked
}

@test "below a directory with default ACLs, set-group-id and flags" {
	need_root
	make_repo
	make_tree src
	warren repo save -q src
	mkdir target
	chgrp 1234 target && chmod 2777 target
	setfacl -m d:u:77:rwx,d:o::--- target
	chattr +d target
	run -0 warren repo restore main target/in
	assert_same_tree src target/in
	assert_equal "$(lsattr -d target/in/dir | cut -d' ' -f1)" "$(lsattr -d src/dir | cut -d' ' -f1)"
}

@test "save after restore changes nothing and reads nothing" {
	make_repo
	make_tree src
	warren repo save -q src
	before=$(tree_of main)
	run -0 warren repo restore main out
	run -0 warren repo save out --json
	assert_json .made false
	assert_json .bytes.read 0
	assert_json .objects_new 0
	assert_equal "$(tree_of main)" "$before"
	# The same after a restore in place.
	echo x >>out/dir/big
	rm out/dir/hard
	run -0 warren repo restore main out --delete
	run -0 warren repo save out --json
	assert_json .made false
	assert_json .bytes.read 0
	assert_sound
}

@test "in place: what differs is written, nothing else" {
	make_repo
	make_tree src
	warren repo save -q src
	warren repo restore -q main out
	ls -iR out >inodes
	run -0 warren repo restore main out --json
	assert_json .created+.replaced+.metadata+.deleted 0
	assert_json .unchanged "$(find src | wc -l)"
	assert_equal "$(ls -iR out)" "$(cat inodes)"

	echo changed >out/dir/two
	chmod 777 out/dir/sub/three
	touch out/dir/big
	rm out/fifo
	rm out/dir/link && echo file >out/dir/link
	touch -d 2021-01-01 out/empty
	echo more >out/dir/extra
	run -0 warren repo restore main out --json
	assert_json .replaced 2 # two, link
	assert_json .created 1  # fifo
	assert_json .metadata 5 # three, big, empty, dir and (fifo was removed) the root
	assert_json .deleted 0
	assert_json '.safety.snapshot | startswith("safety/")' true
	assert_equal "$(cat out/dir/extra)" more
	rm out/dir/extra && touch -d 2020-02-02T02:02:02.123456789 out/dir
	assert_same_tree src out
	# Contents that were right kept their inode.
	assert_equal "$(stat -c %i out/dir/big)" "$(awk '$2 == "big" { print $1 }' inodes)"
	[ -z "$(find . -name '.warren-tmp-*')" ]
}

@test "in place without a stat cache, and without a safety snapshot" {
	make_repo
	make_tree src
	warren repo save -q src
	cp -a src out
	echo changed >out/dir/two
	rm -rf repo/warren/stat
	run -0 warren repo restore main out --no-safety --json
	assert_json .replaced 1
	assert_json .safety null
	assert_json .undo null
	assert_same_tree src out
	[ -z "$(git --git-dir=repo for-each-ref refs/heads/safety)" ]
	# Now with the cache that this left.
	sed -i s/two/TWO/ out/dir/two
	run -0 warren repo restore main out --no-safety --json
	assert_json .replaced 1
	assert_same_tree src out
}

@test "hard links: groups are made whole, and taken apart" {
	make_repo
	mkdir -p src/a src/b src/c
	echo x >src/a/1
	ln src/a/1 src/b/2
	ln src/a/1 src/c/3
	echo y >src/c/alone
	echo y >src/c/alone2
	warren repo save -q src
	run -0 warren repo restore main out
	assert_same_tree src out
	# One name lost: it comes back as a name of the inode that others still have.
	ino=$(stat -c %i out/a/1)
	rm out/b/2
	run -0 warren repo restore main out
	assert_same_tree src out
	assert_equal "$(stat -c %i out/b/2)" "$(stat -c %i out/a/1)"
	assert_equal "$(stat -c %i out/c/3)" "$(stat -c %i out/a/1)"
	# A name that became a file of its own, and two files that became one.
	rm out/a/1 && cp -p out/b/2 out/a/1
	ln -f out/c/alone out/c/alone2
	run -0 warren repo restore main out
	assert_same_tree src out
	[ "$(stat -c %i out/c/alone)" != "$(stat -c %i out/c/alone2)" ]
	run -0 warren repo save out --json
	assert_json .made false
	# A name outside of the tree does not cost a rewrite.
	ln out/c/alone outside
	run -0 warren repo restore main out --json
	assert_json .replaced 0
}

@test "extra things stay without --delete; what rules leave out stays always" {
	make_repo
	make_tree src
	warren repo save -q src
	warren repo restore -q main out
	mkdir -p out/more/deep out/cache out/keep
	echo x >out/more/deep/f
	echo x >out/ignored.o
	echo '*.o' >out/.warrenignore
	echo x >out/keep/also.o
	echo x >out/keep/not
	printf 'Signature: 8a477f597d28d172789f06886806bc55\n' >out/cache/CACHEDIR.TAG
	echo x >out/cache/big
	run -0 warren repo restore main out --json
	assert_json .deleted 0
	[ -e out/more/deep/f ]
	run -0 warren repo restore main out --delete --json
	[ ! -e out/more ] && [ ! -e out/.warrenignore ] && [ ! -e out/keep/not ]
	[ -e out/ignored.o ] && [ -e out/keep/also.o ] && [ -e out/cache/big ]
	# With the rule gone they are like any other.
	run -0 warren repo restore main out --delete
	[ ! -e out/ignored.o ] && [ ! -e out/keep ]
}

@test "what rules leave out is not overwritten either" {
	make_repo
	mkdir -p src/build
	echo old >src/a.o
	echo old >src/build/f
	echo old >src/b
	warren repo save -q src
	printf '*.o\nbuild\n' >src/.warrenignore
	echo new >src/a.o
	echo new >src/b
	echo new >src/build/f
	run -0 warren repo restore main src --json
	assert_json .kept 2
	assert_equal "$(cat src/a.o src/build/f src/b)" "$(printf 'new\nnew\nold')"
}

@test "kinds change: file, directory and link in each other's way" {
	make_repo
	make_tree src
	warren repo save -q src
	warren repo restore -q main out
	rm -r out/dir && echo file >out/dir
	rm out/one && mkdir -p out/one/full && echo x >out/one/full/x
	rm out/fifo && mkdir out/fifo
	rmdir out/empty && ln -s dir out/empty
	run -3 --separate-stderr warren repo restore main out --json
	assert_json '.skipped | length' 1
	assert_json '.skipped[0].path' one
	assert_json '.skipped[0].reason' "a directory is in the way"
	[ -d out/dir ] && [ -p out/fifo ] && [ -d out/empty ] && [ ! -L out/empty ]
	[ -e out/one/full/x ]
	run -0 warren repo restore main out --delete --json
	assert_same_tree src out
}

@test "--overwrite: always, newer, never" {
	make_repo
	make_tree src
	warren repo save -q src
	warren repo restore -q main out
	echo mine >out/dir/two # newer than the snapshot's
	echo mine >out/one && touch -d 2019-01-01 out/one
	rm out/dir/sub/three
	run -0 warren repo restore main out --overwrite never --json
	assert_json .replaced 0
	assert_json .created 1
	assert_json .safety null
	assert_equal "$(cat out/dir/two out/one)" "$(printf 'mine\nmine')"
	rm out/dir/sub/three
	run -0 warren repo restore main out --overwrite=newer --json
	assert_equal "$(cat out/dir/two out/one)" "$(printf 'mine\none')"
	ino=$(stat -c %i out/dir/big)
	run -0 warren repo restore main out --overwrite always
	[ "$(stat -c %i out/dir/big)" != "$ino" ]
	assert_same_tree src out
}

@test "the safety snapshot undoes a restore, by the command in the receipt" {
	make_repo
	make_tree src
	warren repo save -q src
	warren repo restore -q main "my out"
	echo mine >"my out/one"
	echo mine >"my out/new"
	rm -r "my out/dir"
	cp -a "my out" before
	run -0 warren repo restore main "my out" --delete --json
	undo=$(json .undo)
	assert_json .safety.commit "$(git --git-dir=repo rev-parse safety)"
	assert_same_tree src "my out"
	run -0 bash -c "${undo/#warren/$WARREN}"
	assert_same_tree before "my out"
	# Text names it too.
	run -0 warren repo restore main "my out" --delete
	assert_output_has "warren repo restore -r $WARREN_REPO safety/"
	assert_output_has "'$PWD/my out' --delete"
	assert_sound
}

@test "a dry run says what a restore then does, and does nothing" {
	make_repo
	make_tree src
	warren repo save -q src
	warren repo restore -q main out
	echo mine >out/one
	rm -r out/dir/sub
	mkdir out/more && echo x >out/more/x
	chmod 700 out/dir/big
	cp -a out before
	run -0 warren repo restore main out --delete --dry-run --json
	assert_json '[.actions[] | .op + " " + .path] | join(";")' \
		"metadata .;metadata dir;metadata dir/big;replace dir/hard;create dir/sub;create dir/sub/three;delete more;delete more/x;replace one"
	assert_json .safety null
	planned=$(json '[.created, .replaced, .metadata, .deleted] | tostring')
	assert_same_tree before out
	[ -z "$(git --git-dir=repo for-each-ref refs/heads/safety)" ]
	run -0 warren repo restore main out --delete --json
	assert_json '[.created, .replaced, .metadata, .deleted] | tostring' "$planned"
	assert_same_tree src out
	run -0 warren repo restore main nowhere --dry-run
	assert_output_has "would create   dir/big"
	[ ! -e nowhere ]
}

@test "parts of a snapshot: a directory, a file, a link" {
	make_repo
	make_tree src
	warren repo save -q src
	run -0 warren repo restore main:dir/sub new/place
	assert_same_tree src/dir/sub new/place
	mkdir d
	run -0 warren repo restore main:dir/two d
	assert_equal "$(cat d/two)" two
	assert_equal "$(stat -c %a d/two)" 640
	run -0 warren repo restore main:dir/two d/other
	assert_equal "$(cat d/other)" two
	run -0 warren repo restore main:dir/link e/
	assert_equal "$(readlink e/link)" ../one
	# Over a file: only that one is saved before, and the way back is told.
	echo mine >d/two
	echo x >d/unrelated
	run -0 warren repo restore main:dir/two d/two --json
	assert_equal "$(cat d/two)" two
	assert_equal "$(git --git-dir=repo ls-tree --name-only safety | tr '\n' ' ')" ".bupm two "
	undo=$(json .undo)
	run -0 bash -c "${undo/#warren/$WARREN}"
	assert_equal "$(cat d/two)" mine
	[ -e d/unrelated ]
	mkdir d/one
	run -4 warren repo restore main:one d
	assert_output_has "is a directory"
	run -5 warren repo restore main:nothing d
	run -2 warren repo restore main d/two
	assert_output_has "a directory is restored into a directory"
}

@test "never through a link out of the target" {
	make_repo
	make_tree src
	warren repo save -q src
	warren repo restore -q main out
	mkdir outside && echo mine >outside/two && mkdir outside/sub
	cp -a outside before
	rm -r out/dir && ln -s ../outside out/dir
	rm out/one && ln -s ../outside/two out/one
	run -0 warren repo restore main out --delete
	assert_same_tree src out
	assert_same_tree before outside
	ln -s ../outside out/extra
	run -0 warren repo restore main out --delete
	assert_same_tree before outside
	# The target itself may be named through one.
	ln -s out alias
	rm out/one
	run -0 warren repo restore main alias
	assert_same_tree src out
}

@test "sparse files of any size stay sparse" {
	make_repo
	mkdir src
	truncate -s 40G src/hole
	truncate -s 1G src/mixed
	printf data | dd of=src/mixed bs=1 seek=500M conv=notrunc status=none
	printf end | dd of=src/mixed bs=1 seek=1073741821 conv=notrunc status=none
	head -c 200000 /dev/zero >src/zeros
	head -c 50000 /dev/zero >src/small
	run -0 warren repo save src
	SECONDS=0
	run -0 warren repo restore main out
	[ $SECONDS -lt 20 ]
	for f in hole mixed zeros small; do
		assert_equal "$(stat -c %s out/$f)" "$(stat -c %s src/$f)"
	done
	[ "$(du -k out | cut -f1)" -lt 1000 ]
	cmp src/mixed out/mixed
	run -0 warren repo restore main out --no-safety --json
	assert_json .replaced 0
}

@test "the repository inside of the target is left alone" {
	mkdir target
	make_tree target/src
	make_repo target/repo
	warren repo save -q target/src
	run -0 warren repo restore main target --delete
	[ ! -e target/src ] && [ -e target/one ]
	run -0 warren repo verify --data
	run -2 warren repo restore main target/repo/inner
	assert_output_has "part of the repository"
}

@test "without root: what cannot be set is told, the rest comes back" {
	need_root
	make_repo
	make_tree src
	chown -R 1234:1234 src/dir/sub
	cp /bin/true src/suid && chown 1234 src/suid && chmod 4755 src/suid
	mknod src/device c 1 3
	setfattr -n trusted.t -v x src/one
	chmod 555 src/empty src/dir
	warren repo save -q src
	open_path "$PWD"
	chmod -R a+rX repo
	mkdir -m 777 free
	run -3 --separate-stderr setpriv --reuid 65534 --regid 65534 --clear-groups "$WARREN" repo restore main free/out --json
	assert_json '[.skipped[] | select(.path == "device")][0].reason' \
		"only root can make device nodes"
	assert_json '[.skipped[].reason | select(startswith("owner not set"))] | length' 1
	assert_equal "$(stat -c %a free/out/suid)" 755
	assert_equal "$(stat -c %a free/out/dir)" 555
	diff -r --no-dereference src/dir free/out/dir
	# Once more: nothing is rewritten for what cannot be had.
	run -3 --separate-stderr setpriv --reuid 65534 --regid 65534 --clear-groups "$WARREN" repo restore main free/out \
		--no-safety --json
	assert_json .replaced+.metadata 0
}

@test "owners: by number, by name, or left alone" {
	need_root
	make_repo
	mkdir src && echo x >src/f
	chown 65534:65534 src/f
	warren repo save -q src
	run -0 warren repo restore main a
	assert_equal "$(stat -c %u:%g a/f)" 65534:65534
	run -0 warren repo restore main b --no-owner
	assert_equal "$(stat -c %u:%g b/f)" 0:0
	unshare --mount true 2>/dev/null || skip "needs mount namespaces"
	# The same names with other numbers.
	run -0 unshare -m bash -c 'sed "s/^nobody:x:65534:65534/nobody:x:4444:5555/" /etc/passwd >passwd
		mount --bind passwd /etc/passwd && "$WARREN" repo restore main c --names'
	assert_equal "$(stat -c %u c/f)" 4444
	run -0 warren repo restore main c
	assert_equal "$(stat -c %u c/f)" 65534
}

@test "damaged objects: listed by name, nothing half-written, the rest comes back" {
	make_repo
	make_tree src
	head -c 3000000 /dev/urandom >src/large
	warren repo save -q src
	git --git-dir=repo unpack-objects -q < <(cat repo/objects/pack/*.pack) 2>/dev/null || true
	mv repo/objects/pack packs && mkdir repo/objects/pack
	git --git-dir=repo unpack-objects -q <packs/*.pack
	gone=$(git --git-dir=repo rev-parse main:dir/two)
	chunk=$(git --git-dir=repo ls-tree -r main:large.bup | awk 'NR == 4 { print $3 }')
	sub=$(git --git-dir=repo rev-parse main:dir/sub)
	for id in "$gone" "$chunk" "$sub"; do
		rm -f "repo/objects/${id:0:2}/${id:2}"
	done
	run -3 --separate-stderr warren repo restore main out --json
	assert_json '[.skipped[].path] | sort | join(" ")' "dir/sub dir/two large"
	assert_json "[.skipped[] | select(.path == \"large\")][0].reason | contains(\"$chunk\")" true
	[ ! -e out/large ] && [ ! -e out/dir/two ] && [ ! -e out/dir/sub ]
	assert_equal "$(cat out/one)" one
	cmp src/dir/big out/dir/big
	# In place the old file stays.
	echo mine >out/large
	run -3 warren repo restore main out --no-safety
	assert_equal "$(cat out/large)" mine
}

@test "hostile trees stay inside, and end" {
	make_repo
	b=$(blob evil)
	mkdir victim
	for name in .. ../escaped a/b . '' '/abs' '..bup/../x'; do
		t=$({ entry 100644 good "$b"; entry 100644 "$name" "$b"; } | tree)
		snapshot "$t"
		run warren repo restore evil out
		[ "$status" -eq 1 ] || [ "$status" -eq 3 ]
		[ ! -e escaped ] && [ ! -e out/../evil ] && [ ! -e x ]
		rm -rf out
	done
	# A link and a directory of one name: the second must not be written through the first.
	target=$(blob %s "$PWD/victim")
	inner=$(entry 100644 pwned "$b" | tree)
	for order in 1 2; do
		t=$(if [ $order = 1 ]; then
			entry 120000 x "$target"
			entry 40000 x "$inner"
		else
			entry 40000 x "$inner"
			entry 120000 x "$target"
		fi | tree)
		snapshot "$t"
		run warren repo restore evil out
		[ -z "$(ls -A victim)" ]
		rm -rf out
	done
	# One name by two roads of mangling.
	t=$({ entry 100644 x "$b"; entry 40000 x.bup "$inner"; } | tree)
	snapshot "$t"
	run warren repo restore evil out
	[ "$status" -ne 139 ]
	# A link in one save, a directory behind it in the next.
	snapshot "$(entry 120000 x "$target" | tree)"
	run -0 warren repo restore evil out
	snapshot "$(entry 40000 x "$inner" | tree)"
	run -0 warren repo restore evil out
	[ -z "$(ls -A victim)" ] && [ -f out/x/pwned ]
	# Targets that no link can have.
	for what in '' 'a\0b'; do
		snapshot "$(entry 120000 x "$(blob "$what")" | tree)"
		rm -rf out
		run -3 warren repo restore evil out
		[ ! -e out/x ] && [ ! -L out/x ]
	done
}

@test "hostile metadata and chunk trees" {
	make_repo
	b=$(blob content)
	dot='\0'
	# Too few, too many, cut short, lengths beyond all, a device and a directory in the clothes of a file.
	for bupm in "" "$dot" "$dot$dot$dot" '\012\377\377\377\377\377\377\377\377\377\001' '\012' \
		"$dot"'\007\005\377\377\377\377\017' "$dot"'\012\003\244\203\002\000\000'; do
		t=$({ entry 100644 .bupm "$(blob "$bupm")"; entry 100644 f "$b"; } | tree)
		snapshot "$t"
		rm -rf out
		run warren repo restore evil out
		[ "$status" -le 3 ]
		[ ! -e out/f ] || cmp <(printf content) out/f
	done
	# Zeros without end, from a few objects; and a chunk tree that is empty all the way down.
	z=$(head -c 32768 /dev/zero | git --git-dir=repo hash-object -w --stdin)
	len=32768
	for level in 1 2 3 4 5 6 7 8 9 10 11 12; do
		z=$(for i in $(seq 0 15); do
			entry "$([ $level = 1 ] && echo 100644 || echo 40000)" "$(printf %016x $((i * len)))" "$z"
		done | tree)
		len=$((len * 16))
	done
	snapshot "$(entry 40000 huge.bup "$z" | tree)"
	rm -rf out
	run -3 timeout 60 "$WARREN" repo restore evil out
	[ ! -e out/huge ]
	z=$(: | tree)
	for level in $(seq 1 15); do
		z=$(for i in $(seq 0 15); do entry 40000 "0000$(printf %x "$i")" "$z"; done | tree)
	done
	snapshot "$(entry 40000 nothing.bup "$z" | tree)"
	run -3 timeout 60 "$WARREN" repo restore evil out
	[ ! -e out/nothing ]
	for level in $(seq 1 20); do
		z=$(entry 40000 0 "$z" | tree)
	done
	snapshot "$(entry 40000 deep.bup "$z" | tree)"
	run -3 timeout 60 "$WARREN" repo restore evil out
}

@test "a forged link key joins nothing that does not belong together" {
	make_repo
	mkdir src
	echo secret >src/a && ln src/a src/b
	warren repo save -q src
	# b's record, with its key, beside other content.
	other=$(blob other)
	t=$(git --git-dir=repo ls-tree main |
		while read -r mode _ id name; do
			[ "$name" = b ] && id=$other
			entry "${mode#0}" "$name" "$id"
		done | tree)
	snapshot "$t"
	run -0 warren repo restore evil out
	assert_equal "$(cat out/a out/b)" "$(printf 'secret\nother')"
}

@test "directories within directories, 30,000 of them" {
	make_repo
	python3 - "$WARREN_REPO" <<-'END' | git --git-dir="$WARREN_REPO" fast-import --quiet --force
		print("blob\nmark :1\ndata 1\nx")
		print("commit refs/heads/evil\ncommitter a <a@b> 1 +0000\ndata 0")
		print("M 100644 :1 " + "d/" * 30000 + "f")
	END
	ulimit -n 4096 || true
	run timeout 100 "$WARREN" repo restore evil out
	[ "$status" -eq 0 ] || [ "$status" -eq 3 ]
	# rm -r copes with what is there.
	rm -rf out
}

@test "another writer: in place is refused, a new place is not" {
	make_repo
	make_tree src
	warren repo save -q src
	mkdir -p repo/warren
	exec 9>>repo/warren/lock
	flock 9
	run -0 warren repo restore main new
	assert_same_tree src new
	echo mine >new/one
	run -4 warren repo restore main new
	assert_equal "$(cat new/one)" mine
	assert_output_has "safety snapshot"
	run -0 warren repo restore main new --no-safety
	assert_same_tree src new
}

@test "killed at any of its points, a restore simply runs again" {
	make_repo
	make_tree src
	warren repo save -q src
	warren repo restore -q main base
	for point in restore.file-written restore.renamed restore.deleted restore.synced; do
		for n in 1 2; do
			rm -rf out
			cp -a base out
			echo mine >out/one
			echo mine >out/dir/two
			echo x >out/extra
			echo x >out/dir/extra
			run env WARREN_CRASH=$point:$n "$WARREN" repo restore main out --delete
			[ "$point:$n" = restore.synced:2 ] || assert_status 137
			run -0 warren repo restore main out --delete
			assert_same_tree src out
			run -0 warren repo save out --json
			assert_json .made false
		done
	done
	assert_sound
}

@test "no space: the restore ends with the reason, and what was there is whole" {
	need_root
	make_repo
	mkdir src small
	head -c 6000000 /dev/urandom >src/big
	echo x >src/a
	warren repo save -q src
	mount -t tmpfs -o size=3m tmpfs small
	echo mine >small/big
	run -1 warren repo restore main small
	assert_output_has "o space left"
	assert_output_has "safety/"
	assert_equal "$(cat small/big)" mine
	[ -z "$(find small -name '.warren-tmp-*')" ]
}
