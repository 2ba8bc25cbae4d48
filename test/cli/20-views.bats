#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Looking at snapshots that bup made: snapshots, ls, cat, diff, find, history, tag, branch.

bats_require_minimum_version 1.5.0
load lib

# Three snapshots on main, one on other, made once for the whole file.
setup_file() {
	export TZ=UTC GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null HOME=$BATS_FILE_TMPDIR
	umask 022
	unset GIT_DIR
	local src=$BATS_FILE_TMPDIR/src
	export BUP_DIR=$BATS_FILE_TMPDIR/repo
	bup init >/dev/null 2>&1
	mkdir -p "$src/docs" "$src/bin" "$src/empty"
	printf 'one\ntwo\nthree\n' >"$src/docs/a.txt"
	printf 'old' >"$src/docs/old"
	printf '#!/bin/sh\n' >"$src/bin/run"
	chmod 755 "$src/bin/run"
	head -c 300000 /dev/urandom >"$src/big"
	printf 'x' >"$src/sp ace.bup"
	printf 'y' >"$src/$(printf 'odd\xff')"
	printf 'z' >"$src/$(printf 'tty\033[31m')"
	printf 'file' >"$src/thing"
	ln -s docs/a.txt "$src/link"
	mkfifo "$src/fifo"
	touch -d '2001-02-03 04:05:06.123456789 UTC' "$src/docs/a.txt"
	mkdir "$BATS_FILE_TMPDIR/copies"
	at() { # BRANCH SECONDS COPY
		bup index -u "$src" 2>/dev/null
		bup save -q --strip -n "$1" -d "$2" "$src"
		cp -a "$src" "$BATS_FILE_TMPDIR/copies/$3"
	}
	at main 1700000000 1
	printf 'one\n2\nthree\nfour' >"$src/docs/a.txt"
	rm "$src/docs/old"
	printf 'new\n' >"$src/docs/new"
	chmod 700 "$src/bin/run"
	at main 1700000100 2
	at other 1700000150 2b
	rm "$src/docs/a.txt" "$src/thing"
	mkdir "$src/thing"
	printf 'inside' >"$src/thing/inside"
	at main 1700000200 3
}

setup() {
	lib_setup
	cp -a "$BATS_FILE_TMPDIR/repo" .
	use_repo repo
	S1=main/2023-11-14-221320 S2=main/2023-11-14-221500 S3=main/2023-11-14-221640
	COPIES=$BATS_FILE_TMPDIR/copies
}

@test "snapshots: the names are bup's, newest first" {
	run -0 warren repo snapshots main
	assert_equal "$(awk '{ print $1 }' <<<"$output" | sort)" \
		"$(bup ls main | grep -v latest | sed 's,^,main/,' | sort)"
	assert_equal "$(awk 'NR == 1 { print $1, $2 }' <<<"$output")" "$S3 2023-11-14T22:16:40Z"
	assert_equal "$(awk 'NR == 1 { print $3 }' <<<"$output")" \
		"$(git --git-dir=repo rev-parse --short=10 main)"
	assert_output_has "bup save"
	run -0 warren repo snapshots
	assert_equal "$(awk '{ print $1 }' <<<"$output" | tr '\n' ' ')" \
		"$S3 other/2023-11-14-221550 $S2 $S1 "
	run -0 warren repo snapshots --limit 2
	assert_equal "${#lines[@]}" 2
	run -0 --separate-stderr warren repo snapshots --json main
	assert_json .schema warren.snapshots/1
	assert_json '.snapshots | length' 3
	assert_json '.snapshots[0].tree' "$(tree_of main)"
	assert_json '.snapshots[2].snapshot' "$S1"
	run -5 warren repo snapshots nope
	assert_output_has "main, other"
}

@test "snapshots: none yet" {
	make_bup_repo new
	run -0 --separate-stderr warren repo snapshots
	assert_equal "$output" ""
	run -0 --separate-stderr warren repo snapshots --json
	assert_json '.snapshots | length' 0
	run -0 --separate-stderr warren repo branch
	assert_equal "$output" ""
	run -0 --separate-stderr warren repo tag
	assert_equal "$output" ""
}

@test "ls: the names of the tree, also those that bup mangles" {
	for i in 1 2 3; do
		snap=S$i
		warren repo ls -R "${!snap}" | LC_ALL=C sort >ours
		(cd "$COPIES/$i" && find . -mindepth 1 \( -type d -printf '%P/\n' -o -printf '%P\n' \)) |
			LC_ALL=C sort >theirs
		cmp ours theirs
	done
	run -0 warren repo ls "$S1:docs"
	assert_equal "$output" "$(printf 'a.txt\nold')"
	run -0 warren repo ls "$S1:docs/a.txt"
	assert_equal "$output" "a.txt"
	run -0 warren repo ls "$S1:empty"
	assert_equal "$output" ""
	run -5 warren repo ls "$S1:nope/x"
	assert_output_has "'nope'"
	run -5 warren repo ls "$S1:bin/run/x"
	assert_output_has "'bin/run' is not a directory"
	run -2 warren repo ls "$S1:docs/../bin"
}

@test "ls -l: what stat says" {
	warren repo ls -l "$S3" | awk '{ print $1, $2, $3, $4, $5 }' >ours
	(cd "$COPIES/3" && LC_ALL=C && export LC_ALL && for f in *; do
		size=%s
		[ -d "$f" ] && [ ! -L "$f" ] && size=-
		stat --printf "%A %U %G $size " "$f"
		date -u -d "@$(stat -c %Y "$f")" +%FT%TZ
	done) >theirs
	diff theirs ours
	run -0 warren repo ls -l "$S1:link"
	assert_output_has "link -> docs/a.txt"
	run -0 warren repo ls -l "$S1:docs/a.txt"
	assert_output_has "14  2001-02-03T04:05:06Z  a.txt"
	run -0 --separate-stderr warren repo ls --json "$S1"
	assert_json .schema warren.ls/1
	assert_json '.entries[] | select(.path == "big").size' 300000
	assert_json '.entries[] | select(.path == "fifo").type' fifo
	assert_json '.entries[] | select(.path == "link").target' docs/a.txt
	assert_json '.entries[] | select(.path_b64).path_b64' "$(printf 'odd\xff' | base64)"
	run -0 --separate-stderr warren repo ls --json "$S1:docs/a.txt"
	assert_json '.entries[0].mtime_ns' 123456789
}

@test "ls on a terminal: no control bytes" {
	need script
	run -0 script -qec "$WARREN repo ls $S1" /dev/null
	assert_output_has 'tty\x1b[31m'
	assert_output_has 'odd\xff'
}

@test "ls: a repository made by git" {
	mkdir work && cd work
	git init -q . && mkdir -p d/e && echo hi >d/e/f && ln -s d l && chmod +x d/e/f
	git add . && git -c commit.gpgsign=false commit -qm "first line" -m rest
	cd ..
	run -0 warren repo ls -r work -R "$(git -C work rev-parse HEAD)"
	assert_equal "$output" "$(printf 'd/\nd/e/\nd/e/f\nl')"
	run -0 warren repo ls -l -r work "$(git -C work rev-parse HEAD):d/e"
	assert_equal "$output" "-rw-r--r--  -  -  3  -  f"
	run -0 warren repo snapshots -r work
	assert_output_has "first line"
	run -0 warren repo cat -r work "$(git -C work rev-parse --short=8 HEAD):d/e/f"
	assert_equal "$output" hi
}

@test "cat: the bytes, of several files, chunked or not" {
	warren repo cat "$S1:big" "$S1:docs/a.txt" >ours
	cat "$COPIES/1/big" "$COPIES/1/docs/a.txt" | cmp - ours
	warren repo cat "$S1:sp ace.bup" | cmp - "$COPIES/1/sp ace.bup"
	run -0 --separate-stderr warren repo cat --json "$S1:docs/a.txt" "$S1:big"
	assert_json '.files[0].content' "$(cat "$COPIES/1/docs/a.txt")"
	json '.files[1].content_b64' | base64 -d | cmp - "$COPIES/1/big"
	run -2 warren repo cat "$S1:docs"
	assert_output_has "is a directory"
	run -2 warren repo cat "$S1"
	assert_output_has "$S1:PATH"
	run -2 warren repo cat "$S1:link"
	assert_output_has "is a symlink to 'docs/a.txt'"
	run -2 warren repo cat "$S1:fifo"
	assert_output_has "is a fifo"
	run -5 warren repo cat "$S1:nope"
	run -2 --separate-stderr warren repo cat --json "$S1:docs"
	assert_json .error.code invalid
	if [ -e /dev/full ]; then
		run -1 bash -c "'$WARREN' repo cat '$S1:big' >/dev/full"
		assert_output_has "space left"
	fi
}

@test "cat, ls: an object that is not what its id says is refused" {
	mkdir work && git init -q work && cd work
	mkdir d && echo good >d/good && echo other >other
	git add . && git -c commit.gpgsign=false commit -qm one
	commit=$(git rev-parse HEAD)
	loose() {
		local id
		id=$(git rev-parse "HEAD:$1")
		echo ".git/objects/${id:0:2}/${id:2}"
	}
	cp --remove-destination "$(loose other)" "$(loose d/good)"
	run -1 --separate-stderr warren repo cat -r . "$commit:d/good"
	assert_equal "$output" ""
	run -0 warren repo cat -r . "$commit:other"
	cp --remove-destination "$(loose other)" "$(loose d)"
	run -1 --separate-stderr warren repo ls -r . "$commit:d"
	assert_equal "$output" ""
}

@test "diff: what changed" {
	run -0 warren repo diff "$S1" "$S2"
	assert_equal "$output" "$(printf '%s\n' 'm bin/run' 'M docs/a.txt (14 B -> 16 B)' \
		'A docs/new (4 B)' 'D docs/old (3 B)')"
	run -0 warren repo diff "$S2" "$S3"
	assert_equal "$output" "$(printf '%s\n' 'D docs/a.txt (16 B)' 'T thing (file -> directory)' \
		'A thing/inside (6 B)')"
	run -0 warren repo diff "$S3" "$S2"
	assert_equal "$output" "$(printf '%s\n' 'A docs/a.txt (16 B)' 'T thing (directory -> file)' \
		'D thing/inside (6 B)')"
	run -0 warren repo diff "$S2" other
	assert_equal "$output" ""
	run -0 warren repo diff --name-only "$S1" "$S2"
	assert_equal "$output" "$(printf '%s\n' bin/run docs/a.txt docs/new docs/old)"
	run -0 warren repo diff "$S1:docs" "$S2"
	assert_equal "$output" "$(printf '%s\n' 'M docs/a.txt (14 B -> 16 B)' \
		'A docs/new (4 B)' 'D docs/old (3 B)')"
	run -0 warren repo diff "$S1:docs/old" "$S2"
	assert_equal "$output" "D docs/old (3 B)"
	run -0 warren repo diff "$S1:docs" "$S1:bin"
	assert_output_has "A run (10 B)"
	run -5 warren repo diff "$S1:nope" "$S2"
	run -0 --separate-stderr warren repo diff --json "$S1" "$S2"
	assert_json .schema warren.diff/1
	assert_json '[.changes[].change] | join(" ")' "metadata content added removed"
	assert_json '.changes[0] | .a.mode + .b.mode' 07550700
	assert_json '.totals.added' 1
	assert_json '.a.snapshot' "$S1"
	run -0 --separate-stderr warren repo diff --json --stat "$S1" "$S3"
	assert_json '.changes | length' 0
	assert_json '.totals | [.added, .removed, .content, .metadata, .type] | join(" ")' "2 2 0 1 1"
	run -0 warren repo diff --stat "$S1" "$S3"
	assert_equal "$(awk '$1 == "removed" { print $2 }' <<<"$output")" 2
	run -2 warren repo diff --stat --name-only "$S1" "$S3"
}

@test "diff: of one file, as diff -u" {
	warren repo diff "$S1:docs/a.txt" "$S2:docs/a.txt" >ours
	diff -u "$COPIES/1/docs/a.txt" "$COPIES/2/docs/a.txt" >theirs || true
	diff <(tail -n +3 theirs) <(tail -n +3 ours)
	assert_equal "$(head -n 2 ours)" "$(printf -- '--- %s:docs/a.txt\n+++ %s:docs/a.txt' "$S1" "$S2")"
	cp "$COPIES/1/docs/a.txt" patched
	patch -s patched <ours
	cmp patched "$COPIES/2/docs/a.txt"
	run -0 warren repo diff "$S1:big" "$S1:docs/a.txt"
	assert_output_has "differ (binary)"
	run -0 --separate-stderr warren repo diff --json "$S1:docs/a.txt" "$S2"
	assert_json '[.text, .lines_added, .lines_removed] | join(" ")' "true 2 1"
	assert_equal "$(json .unified)" "$(tail -n +3 ours)"
	run -0 warren repo diff "$S1:bin/run" "$S2"
	assert_equal "$output" "m bin/run"
}

@test "find: by name, by path, over all branches" {
	run -0 warren repo find 'a.*'
	assert_equal "$(awk '{ print $1, $2, $3, $NF }' <<<"$output")" \
		"$S1 other/2023-11-14-221550 2 docs/a.txt"
	run -0 warren repo find --branch main 'docs/*'
	assert_equal "$(awk '{ print $1, $2, $3, $NF }' <<<"$output")" "$(printf '%s\n' \
		"$S1 $S2 2 docs/a.txt" "$S2 $S3 1 docs/new" "$S1 $S1 1 docs/old")"
	run -0 warren repo find -i 'BIG'
	assert_output_has "293 KiB  big"
	run -0 --separate-stderr warren repo find BIG
	assert_equal "$output" ""
	run -0 warren repo find 'thing/'
	assert_equal "$(awk '{ print $1, $2, $NF }' <<<"$output")" "$S3 $S3 thing/"
	run -0 --separate-stderr warren repo find --json 'odd*'
	assert_json '.found[0].path_b64' "$(printf 'odd\xff' | base64)"
	assert_json '.snapshots_searched' 4
	run -2 warren repo find '[a'
	run -5 warren repo find --branch nope x
}

@test "history: every version of a path" {
	run -0 warren repo history --branch main docs/a.txt
	assert_equal "$(awk '{ print $1, $2, $3, $NF }' <<<"$output")" "$(printf '%s\n' \
		"$S3 $S3 1 removed" "$S2 $S2 1 file" "$S1 $S1 1 file")"
	run -0 warren repo history --branch main thing
	assert_equal "$(awk '{ print $1, $2, $3, $NF }' <<<"$output")" "$(printf '%s\n' \
		"$S3 $S3 1 directory" "$S1 $S2 2 file")"
	run -0 warren repo history --branch main big
	assert_equal "$(awk '{ print $1, $2, $3, $4, $5 }' <<<"$output")" "$S1 $S3 3 293 KiB"
	run -0 --separate-stderr warren repo history --json --branch main /docs/a.txt
	assert_json '[.versions[].removed] | map(tostring) | join(" ")' "true false false"
	assert_json '.versions[2].mtime' 2001-02-03T04:05:06Z
	assert_json '.versions[2].id' "$(git hash-object "$COPIES/1/docs/a.txt")"
	run -5 warren repo history --branch main nope
	assert_output_has "HINT"
}

@test "tag: set, list, delete, and back with the command of the receipt" {
	run -0 warren repo tag keep "$S2"
	assert_equal "$(git -C repo rev-parse refs/tags/keep)" "$(git -C repo rev-parse main~1)"
	assert_equal "$(git -C repo cat-file -t keep)" commit
	bup ls .tag/keep | grep -q docs
	run -0 warren repo tag
	assert_equal "$(awk '{ print $1, $2 }' <<<"$output")" "keep 2023-11-14T22:15:00Z"
	run -0 warren repo cat keep:docs/new
	assert_equal "$output" new
	run -4 warren repo tag keep main
	assert_output_has "exists already"
	run -4 warren repo tag other main
	assert_output_has "branch 'other'"
	run -2 warren repo tag 'a b' main
	run -2 warren repo tag keep2 main:docs
	run -2 warren repo tag keep2
	run -5 warren repo tag keep2 nope
	run -0 --separate-stderr warren repo tag --json
	assert_json '.tags[0].tag' keep
	run -0 warren repo tag --delete keep
	undo=$(sed -n 's/^undo with: warren //p' <<<"$output")
	run git -C repo rev-parse -q --verify refs/tags/keep
	assert_status 1
	# shellcheck disable=SC2086 # words of a command
	run -0 warren $undo
	assert_equal "$(git -C repo rev-parse refs/tags/keep)" "$(git -C repo rev-parse main~1)"
	run -5 warren repo tag --delete nope
	run -2 warren repo tag --delete keep main
	run -0 --separate-stderr warren repo tag --json --delete keep
	assert_json '.undo' "warren repo tag keep $(git -C repo rev-parse main~1)"
}

@test "tag: what git made" {
	git -C repo tag -a -m annotated ann main
	git -C repo tag tree "main^{tree}"
	git -C repo pack-refs --all
	run -0 warren repo tag
	assert_equal "$(awk '{ print $1, $2 }' <<<"$output")" \
		"$(printf '%s\n' 'ann 2023-11-14T22:16:40Z' 'tree tree')"
	id=$(git -C repo rev-parse ann)
	run -0 warren repo tag --delete ann
	assert_output_has "undo with: git update-ref refs/tags/ann $id"
	run -0 warren repo tag
	assert_output_lacks ann
}

@test "branch: list, make, delete, and back" {
	run -0 warren repo branch
	assert_equal "$(awk '{ print $1, $2, $3, $4 }' <<<"$output")" "$(printf '%s\n' \
		"main 3 2023-11-14-221640 $(git -C repo rev-parse --short=10 main)" \
		"other 1 2023-11-14-221550 $(git -C repo rev-parse --short=10 other)")"
	run -0 warren repo branch again "$S2"
	assert_equal "$(git -C repo rev-parse again)" "$(git -C repo rev-parse main~1)"
	assert_equal "$(bup ls again | grep -vc latest)" 2
	run -4 warren repo branch again main
	run -0 warren repo branch --delete main
	assert_output_has "deleted branch main"
	undo=$(sed -n 's/^undo with: warren //p' <<<"$output")
	run -0 warren repo branch
	assert_output_lacks main
	# shellcheck disable=SC2086 # words of a command
	run -0 warren $undo
	run -0 warren repo ls main/latest
	assert_output_has thing/
	run -0 --separate-stderr warren repo branch --json
	assert_json '[.branches[].branch] | join(" ")' "again main other"
	assert_json '.branches[1].newest.snapshot' "$S3"
	run -2 warren repo branch a/b main
	run git -C repo fsck --full --strict
	assert_status 0
}

@test "tag and branch wait for the writer's lock" {
	need flock
	warren repo tag first main
	exec 9>>repo/warren/lock
	flock 9
	run -4 warren repo tag second main
	run -4 warren repo branch --delete other
	run -0 warren repo snapshots
	"$WARREN" repo tag --wait 20 second main 9>&- &
	tagger=$!
	waiting() { [ -n "$(find "/proc/$tagger/fd" -lname '*/warren/lock' 2>/dev/null)" ]; }
	within 10 waiting
	exec 9>&-
	wait "$tagger"
	run -0 warren repo tag
	assert_output_has second
}

@test "names: times, ids, short names" {
	run -0 warren repo cat main/2023-11-14T22:15:docs/new
	assert_equal "$output" new
	run -0 warren repo ls main/2023-11-14-2213:docs
	assert_output_has old
	run -0 warren repo ls "$(git -C repo rev-parse --short=6 main):thing"
	assert_equal "$output" inside
	run -5 warren repo ls nope
	run -5 warren repo ls main/2001-01-01
}
