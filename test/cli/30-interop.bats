#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: most of its time is that of bup and git
# Real bup and git are the judges: ids equal bup's, each reads what the other wrote, both save to one
# repository in turn, and what git leaves behind is read too.

bats_require_minimum_version 1.5.0
load lib

# Build the golden corpus in $1 with bup's save of it.
golden() {
	"$ROOT/test/lib/bup-golden.sh" "$1" >"$1.out" 2>"$1.err" || {
		cat "$1.err"
		return 1
	}
	grep -q '^stable: ' "$1.out"
	grep -q '(as expected)$' "$1.out"
}

# Our tree of the corpus equals bup's, in a repository of our own and in bup's.
same_as_bup() {
	local want
	want=$(git --git-dir="$1/repo" rev-parse 'final^{tree}')
	make_repo "$PWD/ours" --split-bits 13
	warren repo save -q -n final "$1/src" || return 1
	assert_equal "$(tree_of final)" "$want" || return 1
	use_repo "$1/repo"
	before=$(git --git-dir="$1/repo" count-objects -v | awk '/^in-pack/ {print $2}')
	warren repo save -q -n ours "$1/src" || return 1
	assert_equal "$(tree_of ours)" "$want" || return 1
	after=$(git --git-dir="$1/repo" count-objects -v | awk '/^in-pack/ {print $2}')
	assert_equal $((after - before)) 1 # the commit
}

@test "tree ids equal bup's on every case of the format" {
	golden "$PWD/g"
	same_as_bup "$PWD/g"
	use_repo "$PWD/ours"
	assert_sound
}

@test "tree ids equal bup's on tmpfs" {
	need_root
	mkdir t
	mount -t tmpfs none t
	golden "$PWD/t/g"
	same_as_bup "$PWD/t/g"
}

@test "tree ids equal bup's on an ext4 file system with other features" {
	need_root
	need mkfs.ext4
	truncate -s 400M image
	mkfs.ext4 -q -b 4096 -I 256 -O ^dir_index,inline_data image
	mkdir t
	mount -o loop image t
	golden "$PWD/t/g"
	same_as_bup "$PWD/t/g"
}

@test "tree ids equal bup's for a user without rights" {
	need_root
	mkdir u && chown 65534:65534 u
	open_path "$PWD"
	cp "$WARREN" u/warren
	run -0 setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$PWD/u" \
		"$ROOT/test/lib/bup-golden.sh" "$PWD/u/g"
	run -0 setpriv --reuid 65534 --regid 65534 --clear-groups sh -c \
		'u/warren repo init -q --split-bits 13 u/ours && u/warren repo save -q -r u/ours -n final u/g/src'
	assert_equal "$(git -c safe.directory='*' --git-dir=u/ours rev-parse 'final^{tree}')" \
		"$(git -c safe.directory='*' --git-dir=u/g/repo rev-parse 'final^{tree}')"
}

@test "bup lists, restores, mounts and checks what we save" {
	golden "$PWD/g"
	# One of bup's own limits: beside a file named .bupm it does not find a .bupm that was split,
	# which depends on the ctimes in it.
	rm g/src/names/.bupm
	make_repo "$PWD/ours" --split-bits 13
	warren repo save -q -n b g/src
	run -0 bup ls -l b
	run -0 bup ls b/latest/names
	assert_output_has "a.bupm"
	run -0 bup fsck
	run -0 bup validate-object-links
	run -0 bup midx --check -a
	run -0 bup restore -q -C out /b/latest/.
	# Another: hard-linked dangling symlinks come back as two.
	rm out/hard/sl2 && ln out/hard/sl1 out/hard/sl2 && touch -h -r g/src/hard/sl1 out/hard/sl1
	touch -r g/src/hard out/hard
	rm g/outside-link
	assert_same_tree g/src out
	[ -c /dev/fuse ] || skip "needs /dev/fuse"
	mkdir mnt
	bup fuse mnt
	run -0 diff -r --no-dereference g/src/chunk mnt/b/latest/chunk
	run -0 diff -r --no-dereference g/src/order mnt/b/latest/order
	fusermount -u mnt
}

@test "other split bits: bup restores them, and the branch of a legacy:N repository is ours to continue" {
	mkdir src
	head -c 3000000 /dev/urandom >src/noise
	seq 500000 >src/numbers
	for bits in 13 14 16 17 19; do
		make_repo "$PWD/r$bits" --split-bits $bits
		warren repo save -q src
		run -0 bup restore -q -C "out$bits" /main/latest/.
		assert_same_tree src "out$bits"
		assert_sound
	done
}

@test "bup and warren save to one repository in turn" {
	mkdir -p src/d
	seq 100000 >src/d/numbers
	echo one >src/one
	ln src/one src/two
	make_bup_repo
	bup_save b src
	echo 1 >src/d/a
	run -0 warren repo save --json -n b src
	assert_json .files.new 1
	assert_json '.objects_new <= 8' true
	echo 2 >src/d/b
	bup_save b src
	echo 3 >src/d/c
	run -0 warren repo save --json -n b src
	assert_json .files.new 1
	assert_equal "$(git --git-dir=repo rev-list --count b)" 4
	assert_equal "$(bup ls b | wc -l)" 5
	assert_sound
	run -0 bup restore -q -C out /b/latest/.
	assert_same_tree src out
	# an unchanged tree after bup's save of it: nothing to store but a commit, if anything
	bup_save b src
	run -0 warren repo save --json -n b src
	assert_json '.bytes.stored < 4000' true
}

@test "a snapshot after bup's keeps bup's bytes for what did not change" {
	mkdir src
	echo one >src/one
	echo two >src/two
	make_bup_repo
	bup_save b src
	tree=$(tree_of b)
	cp -a src copy
	run -0 warren repo save --json -n b copy
	assert_json .made false
	assert_json .tree "$tree"
}

@test "what git leaves is read: deltas, packed refs, keep, bitmaps, multi-pack-index, loose objects" {
	mkdir -p src/d
	for i in $(seq 200); do
		seq "$i" $((i + 300)) >"src/d/f$i"
	done
	make_repo
	run -0 warren repo save src
	echo more >>src/d/f7
	run -0 warren repo save src
	cp -a src want
	g() { git --git-dir=repo "$@"; }
	g repack -adfq --depth=50 --window=50 --write-bitmap-index
	run -0 g verify-pack -v repo/objects/pack/pack-*.idx
	assert_output_has "chain length"
	g pack-refs --all
	touch "$(ls repo/objects/pack/pack-*.pack | sed 's/pack$/keep/')"
	rm -rf repo/warren
	echo third >src/third
	run -0 warren repo save --json src
	assert_json .files.new 1
	assert_json '.objects_new <= 5' true
	g multi-pack-index write
	run -0 warren repo verify --data
	run -0 warren repo restore "$(g rev-parse main~1)" out
	assert_same_tree want out
	# all loose
	mv repo/objects/pack p && mkdir repo/objects/pack
	for f in p/*.pack; do g unpack-objects -q <"$f"; done
	run -0 warren repo ls main:d
	assert_output_has f200
	run -0 warren repo cat main:third
	assert_equal "$output" third
	# loose objects do not count as stored: the next save puts into a pack what it needs
	echo fourth >src/fourth
	run -0 warren repo save src
	assert_sound
}

@test "annotated tags, symbolic refs and git-made trees can be read" {
	make_repo
	mkdir w && echo content >w/file && chmod 755 w/file
	g() { git --git-dir=repo --work-tree=w "$@"; }
	GIT_INDEX_FILE=$PWD/idx g add -A
	tree=$(GIT_INDEX_FILE=$PWD/idx g write-tree)
	commit=$(g commit-tree -m x "$tree")
	g update-ref refs/heads/by-git "$commit"
	g tag -a -m annotated v1 "$commit"
	g symbolic-ref refs/heads/alias refs/heads/by-git
	run -0 warren repo cat by-git:file
	assert_equal "$output" content
	run -0 warren repo cat v1:file
	assert_equal "$output" content
	run -0 warren repo ls -l by-git
	assert_output_has file
	run -0 warren repo verify
}
