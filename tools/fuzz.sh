#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Run every fuzz target for a while.
#   fuzz.sh BUILD SECONDS [PART]
# New inputs stay in BUILD/corpus/TARGET; what crashed stays as BUILD/crash/TARGET-*.
set -u
cd "$(dirname "$0")/.." || exit 1

build=$1
seconds=$2
part=${3-}
failed=0
passed=0
mkdir -p "$build/crash"
for exe in "$build"/test/fuzz/fuzz_*; do
	[[ -f $exe && -x $exe ]] || continue
	name=${exe##*/fuzz_}
	[[ $name == *"$part"* ]] || continue
	mkdir -p "$build/corpus/$name"
	seeds=()
	[ -d "test/fuzz/corpus/$name" ] && seeds=("test/fuzz/corpus/$name")
	log=$build/crash/$name.log
	if "$exe" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="$build/crash/$name-" "$build/corpus/$name" "${seeds[@]}" \
		>"$log" 2>&1; then
		passed=$((passed + 1))
		runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
		echo "$name: $runs inputs in $seconds s, no finding"
	else
		failed=$((failed + 1))
		echo "$name: FOUND something, see $log"
		tail -n 30 "$log" | sed 's/^/    /'
	fi
done
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0 && passed > 0))
