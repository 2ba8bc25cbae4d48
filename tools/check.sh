#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Run every suite against a build and count: the unit tests that meson knows and the bats files of
# test/cli, all through TAP.
#   check.sh BUILD [PART]   PART: only suites whose name contains it
#   check.sh --vm BUILD     instead of them the guests of test/vm
# Suites run side by side, except bats files that say "# alone" in their first ten lines: those
# measure time or use what there is only one of.  "# waits" there: for clocks mostly, not for
# processors, so there are places of their own for such suites.  "# once: REASON": not repeated with
# sanitizers, because it runs little of our own code and takes long.
set -u
cd "$(dirname "$0")/.." || exit 1

guests=
if [ "$1" = --vm ]; then
	guests="guest quota"
	shift
fi
build=$1
part=${2-}
# How many more may begin, of each kind: also those that work wait now and then.
declare -A places=([works]=${JOBS:-$(($(nproc) + 1))} [waits]=${JOBS:-$(($(nproc) * 2))})
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

export WARREN_BIN=$PWD/$build/warren
if meson introspect --buildoptions "$build" |
	jq -e '.[] | select(.name == "b_sanitize" and .value != "none")' >/dev/null; then
	# Tests that limit or measure memory and time look at this.
	export WARREN_SANITIZED=1
fi
export ASAN_OPTIONS=${ASAN_OPTIONS-detect_leaks=1:detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS-print_stacktrace=1:halt_on_error=1}
# The settings of whoever runs the tests stay out of them.
unset WARREN_REPO WARREN_CRASH NO_COLOR BUP_DIR GIT_DIR
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null TZ=UTC

# name TAB command, one suite per line; those that take longest come first, so that no long one is
# left over at the end.
suites() {
	local f
	if [ -n "$guests" ]; then
		for f in $guests; do
			printf 'vm-%s\t%s\n' "$f" "test/vm/run $f $build"
		done
		return
	fi
	for f in $(printf '%s\n' test/cli/*.bats | sort -r); do
		[ -e "$f" ] || continue
		printf '%s\t%s\n' "$(basename "$f" .bats)" "bats --print-output-on-failure --formatter tap $f"
	done
	meson introspect --tests "$build" |
		jq -r 'sort_by(-.priority)[] | [.name, (.cmd | @sh)] | @tsv'
}

# A suite that dies, stops short of its plan or fails without saying so has failed.
count() {
	awk -v rc="$1" -v err="$3" '
	/^1\.\.[0-9]+/ { plan = substr($1, 4) + 0; planned = 1; if (/# *[Ss][Kk][Ii][Pp]/) { skip++; plan = 1 } }
	# cmocka says "not ok N # SKIP name"
	/^(not )?ok .*# *[Ss][Kk][Ii][Pp]/ { skip++; sub(/^(not )?ok [0-9]+ (- )?/, ""); print "    skipped: " $0; next }
	/^ok / { ok++; next }
	/^not ok / { bad++; sub(/^not ok [0-9]+ (- )?/, ""); print "    FAILED: " $0; show = 1; next }
	/^ *#/ && show { print "        " $0 }
	END {
		if (!planned || ok + bad + skip < plan || (rc != 0 && !bad)) {
			bad++
			print "    FAILED: ended with status " rc " after " ok + bad + skip - 1 " of " plan + 0 " tests"
			while ((getline line < err) > 0 && n++ < 60)
				print "        " line
		}
		print ok + 0, bad + 0, skip + 0
	}' "$2"
}

passed=0 failed=0 skipped=0
report() {
	local name=$1 out ok bad skip
	out=$(count "$(cat "$work/$name.rc")" "$work/$name.tap" "$work/$name.err")
	read -r ok bad skip <<<"${out##*$'\n'}"
	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
	printf '%-24s %4d passed, %d failed, %d skipped  (%s)\n' "$name" "$ok" "$bad" "$skip" \
		"$(spent <"$work/$name.time")"
	[ "$out" = "${out##*$'\n'}" ] || printf '%s\n' "${out%$'\n'*}"
}

# What bash says of the time of a suite; processes that nobody waited for are not in it.
spent() {
	awk '{ printf "%.0f s", $1; if ($2 + $3 >= 1) printf ", %.0f s of a processor", $2 + $3 }'
}

run() {
	local name=$1 cmd=$2 TIMEFORMAT='%1R %1U %1S'
	{
		time CMOCKA_MESSAGE_OUTPUT=TAP bash -c "$cmd" >"$work/$name.tap" 2>"$work/$name.err" </dev/null
		echo $? >"$work/$name.rc"
	} 2>"$work/$name.time"
}

# says WORD COMMAND: it is a bats file whose first lines say so
says() {
	[[ $2 == *.bats ]] && head -n 10 "${2##* }" | grep -q "^# $1"
}

# Why a suite is not repeated with sanitizers; empty: it is.
why_once() {
	[ -n "${WARREN_SANITIZED-}" ] || return
	case $1 in
	protocol-model) echo "it runs none of our own code" ;;
	sim | sim_*) echo "the unit tests of the rules run the same code" ;;
	*) [[ $2 != *.bats ]] || head -n 10 "${2##* }" | sed -n 's/^# once: //p' ;;
	esac
}

works=() waits=() alone=()
while IFS=$'\t' read -r name cmd; do
	[[ $name == *"$part"* ]] || continue
	why=$(why_once "$name" "$cmd")
	if [ -n "$why" ]; then
		printf '%-24s not repeated with sanitizers: %s\n' "$name" "$why"
		skipped=$((skipped + 1))
	elif says alone "$cmd"; then
		alone+=("$name" "$cmd")
	elif says waits "$cmd"; then
		waits+=("$name" "$cmd")
	else
		works+=("$name" "$cmd")
	fi
done < <(suites)

running=0
# begin KIND NAME COMMAND...: as many of them as there are places; LEFT is what is left
begin() {
	local kind=$1
	shift
	while [ $# -gt 0 ] && ((places[$kind] > 0)); do
		{
			run "$1" "$2"
			echo "$kind" >"$work/$1.ended"
		} &
		places[$kind]=$((places[$kind] - 1)) running=$((running + 1))
		shift 2
	done
	LEFT=("$@")
}

while :; do
	begin waits "${waits[@]}"
	waits=("${LEFT[@]}")
	begin works "${works[@]}"
	works=("${LEFT[@]}")
	((running > 0)) || break
	wait -n
	for f in "$work"/*.ended; do
		[ -s "$f" ] || continue
		kind=$(cat "$f")
		rm "$f"
		places[$kind]=$((places[$kind] + 1)) running=$((running - 1))
		report "$(basename "$f" .ended)"
	done
done
for ((i = 0; i < ${#alone[@]}; i += 2)); do
	run "${alone[i]}" "${alone[i + 1]}"
	report "${alone[i]}"
done

if ((passed + failed + skipped == 0)); then
	echo "no suite was run" >&2
	failed=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
