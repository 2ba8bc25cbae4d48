# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For the bats files of this folder:  load lib
#
# $WARREN is the binary under test ($WARREN_BIN), made absolute.  Every test works in its own
# $BATS_TEST_TMPDIR, which is the current directory and HOME; nothing of the user's settings is seen.

WARREN=$(realpath "${WARREN_BIN:-$(dirname "${BASH_SOURCE[0]}")/../../build/warren}")
ROOT=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
export WARREN ROOT
# How full the disk of who runs the tests is decides about nothing, but where that is what is tested.
export WARREN_VOLUME_MARKS=100,100,100

# Called by bats before each test; a file with a setup of its own calls lib_setup first.
setup() {
	lib_setup
}

lib_setup() {
	cd "$BATS_TEST_TMPDIR" || return 1
	export HOME=$BATS_TEST_TMPDIR GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null TZ=UTC
	export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.com
	export GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.com
	unset WARREN_REPO WARREN_CRASH NO_COLOR BUP_DIR GIT_DIR
	umask 022
}

# bats removes the directory itself, but not what chattr or a mount holds.
teardown() {
	lib_teardown
}

lib_teardown() {
	local m
	cd / || return 1
	while read -r m; do
		umount -l "$m" 2>/dev/null || fusermount -uz "$m" 2>/dev/null || true
	done < <(awk -v d="$BATS_TEST_TMPDIR/" 'index($2, d) == 1 { print $2 }' /proc/mounts | sort -r)
	if [ "$(id -u)" = 0 ] && command -v chattr >/dev/null; then
		chattr -R -f -i -a "$BATS_TEST_TMPDIR" 2>/dev/null || true
	fi
	chmod -R u+rwX "$BATS_TEST_TMPDIR" 2>/dev/null || true
}

# warren ARGS...: the binary itself, for use with `run` or alone
warren() {
	"$WARREN" "$@"
}

# A new repository at ./repo (or $1, further arguments go to init), which $WARREN_REPO and
# $BUP_DIR then name.
make_repo() {
	local dir=${1:-$BATS_TEST_TMPDIR/repo}
	[ $# -gt 0 ] && shift
	"$WARREN" repo init -q "$@" "$dir" || return 1
	use_repo "$dir"
}

# The same, made by bup.
make_bup_repo() {
	local dir=${1:-$BATS_TEST_TMPDIR/repo}
	BUP_DIR=$dir bup init >/dev/null 2>&1 || return 1
	use_repo "$dir"
}

use_repo() {
	WARREN_REPO=$(realpath "$1")
	BUP_DIR=$WARREN_REPO
	export WARREN_REPO BUP_DIR
}

# bup_save BRANCH DIR [OPTION...]: what `warren repo save -n BRANCH DIR` does, by bup
bup_save() {
	local branch=$1 dir
	dir=$(realpath "$2")
	shift 2
	bup index -u "$dir" 2>/dev/null && bup save -q --strip -n "$branch" "$@" "$dir"
}

# tree_of REF: id of the root tree
tree_of() {
	git --git-dir="$WARREN_REPO" rev-parse --verify -q "$1^{tree}"
}

# git and bup agree that the repository is sound.
assert_sound() {
	run git --git-dir="$WARREN_REPO" fsck --full --strict --no-dangling
	assert_status 0
	# bup's own check sees what lies in packs only, and wants a ref.
	if [ -n "$(git --git-dir="$WARREN_REPO" for-each-ref)" ] &&
		[ "$(git --git-dir="$WARREN_REPO" count-objects)" = "0 objects, 0 kilobytes" ]; then
		run bup validate-object-links
		assert_status 0
	fi
	run "$WARREN" repo verify --data
	assert_status 0
}

# Two trees are equal in names, contents, modes, owners, times, links, ACLs and xattrs.
assert_same_tree() {
	local difference
	difference=$(rsync -niaHAXS --checksum --delete --numeric-ids "$1/" "$2/") || return 1
	[ -z "$difference" ] || {
		echo "'$1' and '$2' differ:"
		echo "$difference" | head -n 50
		return 1
	}
}

# ---- assertions about the last `run` ----

assert_status() {
	# shellcheck disable=SC2154 # set by run
	[ "$status" -eq "$1" ] || {
		echo "exit status $status instead of $1; output:"
		echo "$output"
		return 1
	}
}

assert_output_has() {
	[[ $output == *"$1"* ]] || {
		echo "'$1' is not in the output:"
		echo "$output"
		return 1
	}
}

assert_output_lacks() {
	[[ $output != *"$1"* ]] || {
		echo "'$1' is in the output:"
		echo "$output"
		return 1
	}
}

assert_equal() {
	[ "$1" = "$2" ] || {
		echo "'$1' instead of '$2'"
		return 1
	}
}

# json EXPRESSION: what jq makes of $output; fails if that is not one object
json() {
	jq -es 'if length == 1 then .[0] else error("not one object") end' <<<"$output" >/dev/null ||
		return 1
	jq -r "$1" <<<"$output"
}

assert_json() {
	local got
	got=$(json "$1") || {
		echo "no JSON object, or no $1:"
		echo "$output"
		return 1
	}
	assert_equal "$got" "$2"
}

# within SECONDS COMMAND...: tries again until it succeeds; status 99 of it: there is no hope.  Looks often at first,
# then more seldom: what polls takes processors from what it waits for.
within() {
	local end=$((SECONDS + $1${WARREN_SANITIZED:+ * 4})) pause=20 rc
	shift
	while :; do
		"$@" && return 0
		rc=$?
		if [ "$rc" = 99 ] || ((SECONDS > end)); then
			echo "in vain: $*"
			return 1
		fi
		sleep "0.$(printf %03d "$pause")"
		((pause > 100)) || pause=$((pause * 3 / 2))
	done
}

# Let every user reach the directory $1 (bats makes its own for root alone).
open_path() {
	local d=$1
	while [ "$d" != / ] && [ "$d" != "$(dirname "$BATS_RUN_TMPDIR")" ]; do
		chmod a+rx "$d"
		d=$(dirname "$d")
	done
}

# ---- what a test may need ----

need_root() {
	[ "$(id -u)" = 0 ] || skip "needs root"
}

need() {
	command -v "$1" >/dev/null || skip "needs $1"
}

# unshare -m wants a root directory that is a mount point; that of a plain chroot is none.
need_private_mounts() {
	need_root
	unshare -m true 2>/dev/null || skip "needs a mount namespace of its own"
}

# Limits and measurements of time and memory mean nothing with sanitizers.
need_plain_build() {
	[ -z "${WARREN_SANITIZED-}" ] || skip "measures, so not with sanitizers"
}
