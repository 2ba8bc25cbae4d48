#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The main job on real input: save a tree of this machine, change it, compare, restore, undo; real
# git and bup confirm what lies in the repository, rsync what comes out of it.
#   demo.sh WARREN
set -eu

warren=$1
# shellcheck source-path=SCRIPTDIR source=demo-lib.sh
. "$(dirname "$0")/demo-lib.sh"
demo_begin engine
home=$dir/home
export WARREN_REPO=$dir/repo BUP_DIR=$dir/repo GIT_DIR=$dir/repo
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null

# Here not even a warning is expected.
run() { shown "$@" || fail "exit status $?"; }
# Nothing to transfer in either direction, metadata included.
same() {
	local out
	out=$(rsync -niaHAXS --checksum --delete "$1/" "$2/") || fail "rsync"
	[ -z "$out" ] || fail "$1 and $2 differ: $out"
}

say "A home with real files in it: this machine's programs' data"
mkdir "$home"
for d in /usr/share/doc /usr/share/perl5 /usr/share/zoneinfo /usr/include /usr/share/common-licenses; do
	[ ! -d "$d" ] || cp -a "$d" "$home/"
done
seq -f 'line %06g of a table that grows' 400000 >"$home/table.txt"
mkdir "$home/work"
printf 'int main(void) { return 0; }\n' >"$home/work/main.c"
echo "$(find "$home" -type f | wc -l) files, $(du -sh --apparent-size "$home" | cut -f1)"

say "Save it; save it again: nothing changed, nothing is written"
run repo init
run repo save "$home"
run repo save "$home"

say "The user works, and makes a mistake"
cp -a "$home" "$dir/before"
printf 'int main(void) { return 1; }\n' >"$home/work/main.c"
printf 'line 400001 of a table that grows\n' >>"$home/table.txt"
rm -rf "$home/common-licenses"
chmod 600 "$home/work/main.c"
run repo save "$home"
run repo snapshots
first=$("$warren" repo snapshots --json | jq -r '.snapshots[-1].name')
run repo diff --stat "main/$first" main
run repo diff "main/$first:work/main.c" main:work/main.c
run repo history work/main.c

say "Everything back as it was, in place; the receipt says how to undo that"
run repo restore "main/$first" "$home" --delete
same "$dir/before" "$home"
undo=$("$warren" repo restore --json main "$home" --delete | jq -r .undo)
echo "\$ ${undo//$dir/DIR}"
eval "${undo/#warren/$warren}" >/dev/null
same "$dir/before" "$home"

say "One directory to another place"
run repo restore "main/$first:work" "$dir/elsewhere"
same "$dir/before/work" "$dir/elsewhere"

say "Every object is read and hashed"
run repo verify --data
run repo stat

say "Real git and real bup are asked"
git fsck --full --strict --no-dangling >"$dir/fsck" 2>&1 || { cat "$dir/fsck"; fail "git fsck"; }
echo "git fsck --full --strict: ok"
for idx in "$dir"/repo/objects/pack/pack-*.idx; do
	git verify-pack "$idx" || fail "git verify-pack"
done
echo "git verify-pack: ok"
bup validate-object-links >/dev/null || fail "bup validate-object-links"
echo "bup validate-object-links: ok"
[ -n "$(bup ls main | grep "$first")" ] || fail "bup ls does not show $first"
bup restore -q -C "$dir/by-bup" "/main/$first/." || fail "bup restore"
same "$dir/before" "$dir/by-bup"
echo "bup restore: every file and all metadata equal"

demo_end
