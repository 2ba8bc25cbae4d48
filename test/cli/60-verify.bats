#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# warren repo verify and stat: what is damaged, what that hurts, and what a repair brings back
# without editing or deleting anything.

bats_require_minimum_version 1.5.0
load lib

# Two snapshots, the second with one pack more; large files are chunked.
start() {
	mkdir -p src/dir src/other
	seq 60000 >src/dir/numbers
	head -c 2000000 /dev/urandom >src/dir/noise
	echo kept >src/other/kept
	make_repo
	warren repo save -q -d 1700000000 src
	first=$(ls repo/objects/pack/*.pack)
	echo second >src/other/second
	warren repo save -q -d 1700000100 src
	for p in repo/objects/pack/*.pack; do
		[ "$p" = "$first" ] || second=$p
	done
	chmod -R u+w repo/objects
}

# Turn a byte of the stream of the object that $1 names, in its pack.
damage() {
	local id idx off
	id=$(git --git-dir=repo rev-parse "$1")
	for idx in repo/objects/pack/*.idx; do
		off=$(git show-index <"$idx" | awk -v id="$id" '$2 == id { print $1 }')
		if [ -n "$off" ]; then
			python3 - "${idx%.idx}.pack" $((off + 6)) <<-'P'
				import sys
				with open(sys.argv[1], 'r+b') as f:
				    f.seek(int(sys.argv[2])); b = f.read(1)
				    f.seek(int(sys.argv[2])); f.write(bytes([b[0] ^ 0x55]))
			P
			return 0
		fi
	done
	return 1
}

sums() {
	find repo/objects repo/refs -type f -exec sha1sum {} + | sort
}

@test "a sound repository is whole, by structure and by data" {
	start
	run -0 warren repo verify
	assert_output_has "whole: 2 snapshots"
	run -0 warren repo verify --data --json
	assert_json .whole true
	assert_json .snapshots 2
	assert_json '.damage | length' 0
	make_bup_repo "$PWD/by-bup"
	bup_save b src
	run -0 warren repo verify --data
}

@test "a damaged object: named with the snapshots and paths it hurts, and filled again from the tree" {
	start
	chunk=$(git --git-dir=repo ls-tree -r main:dir/noise.bup | awk 'NR == 3 { print $3 }')
	damage "$chunk"
	damage main:other/kept
	run -0 warren repo verify
	run -1 warren repo verify --data
	assert_output_has "$chunk"
	assert_output_has "main/2023-11-14-221320:/dir/noise"
	assert_output_has "main/2023-11-14-221500:/other/kept"
	assert_output_lacks "noise.bup"
	run --separate-stderr -1 warren repo verify --data --json
	assert_json .whole false
	assert_json '.hurt | length' 4
	assert_json '[.hurt[].path] | unique | join(" ")' "dir/noise other/kept"
	before=$(sums)

	# a tree that no longer has it brings nothing back
	mkdir elsewhere
	run --separate-stderr -1 warren repo verify --data --repair --from elsewhere --json
	assert_json .repaired.objects 0
	assert_equal "$(sums)" "$before"

	run --separate-stderr -3 warren repo verify --data --repair --from src --json
	assert_json .whole true
	assert_json .repaired.objects 2
	assert_json '[.damage[].kind] | unique | join(" ")' shadowed
	# nothing was edited or deleted
	run -0 comm -23 <(echo "$before") <(sums)
	assert_equal "$output" ""
	run -0 warren repo restore -q main out
	assert_same_tree src out
	run -0 git --git-dir=repo cat-file blob main:other/kept
	run -0 bup restore -q -C by-bup /main/latest/.
	assert_same_tree src by-bup
}

@test "a lost pack: what it held is named as missing, older snapshots stay whole" {
	start
	mv "$second" "${second%.pack}.idx" .
	rm -rf repo/objects/pack/*.midx
	run -1 warren repo verify
	assert_output_has missing
	run -1 warren repo restore main out
	# the older snapshot is whole
	run -0 warren repo restore -q "$(awk 'NR == 1 { print $2 }' repo/logs/refs/heads/main)" out
	[ -e out/other/kept ]
}

@test "an index that is missing or damaged is rebuilt from its pack" {
	start
	idx=${first%.pack}.idx
	cp "$idx" saved
	rm "$idx"
	rm -f repo/objects/pack/*.midx
	run -1 warren repo verify
	run -0 warren repo verify --repair
	assert_output_has "rebuilt 1 index"
	cmp "$idx" saved
	chmod u+w "$idx"
	printf 'xx' | dd of="$idx" bs=1 seek=1100 conv=notrunc status=none
	run warren repo verify
	[ "$status" -ne 0 ]
	run -0 warren repo verify --repair
	cmp "$idx" saved
	assert_sound
}

@test "broken refs are named; a pack cut short is" {
	start
	echo garbage >repo/refs/heads/broken
	run -1 warren repo verify
	assert_output_has "refs/heads/broken"
	rm repo/refs/heads/broken
	truncate -s -100 "$first"
	run -1 warren repo verify
	assert_output_has "$(basename "$first")"
}

@test "wrong use, and a writer at work" {
	start
	run -2 warren repo verify --from src
	assert_output_has "--repair"
	run -5 warren repo verify -r nowhere
	run -5 warren repo verify --repair --from nowhere
	exec 9<>repo/warren/lock
	flock -x 9
	run -0 warren repo verify
	run -4 warren repo verify --repair
	exec 9>&-
}

@test "stat: sizes, the largest files, and what each snapshot alone holds" {
	start
	head -c 3000000 /dev/urandom >src/only-here
	warren repo save -q -d 1700000200 src
	rm src/only-here
	warren repo save -q -d 1700000300 src
	run -0 warren repo stat --json
	assert_json .snapshots 4
	assert_json '.largest_files[0].path' only-here
	assert_json '.largest_files[0].snapshot' main/2023-11-14-221640
	assert_json '[.snapshot_list[] | select(.alone_bytes > 3000000)] | length' 1
	assert_json '[.snapshot_list[] | select(.alone_bytes > 3000000)][0].snapshot' main/2023-11-14-221640
	assert_json '.dedup_ratio > 1.4' true
	assert_json '.stored_bytes > 5000000' true
	run -0 warren repo stat
	assert_output_has only-here
	make_repo "$PWD/empty"
	run -0 warren repo stat --json
	assert_json .snapshots 0
}
