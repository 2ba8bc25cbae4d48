#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What can be said of the sources without running them.
#   lint.sh BUILD   a build where warnings are errors
set -u
cd "$(dirname "$0")/.." || exit 1

mapfile -t sources < <(tools/sources.sh)
mapfile -t headers < <(printf '%s\n' "${sources[@]}" | grep '\.h$')
mapfile -t units < <(printf '%s\n' "${sources[@]}" | grep '\.c$')
flags=(-std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 '-DWR_VERSION="0"' -Isrc -Werror -Wall -Wextra
	-Wshadow -Wconversion -Wformat=2 -Wcast-qual -Wundef -Wvla -Wmissing-prototypes
	-Wstrict-prototypes -Wwrite-strings)
build=$1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

check() {
	local name=$1 begin=$SECONDS
	shift
	if "$@" >"$work/log" 2>&1; then
		passed=$((passed + 1))
		echo "ok      $name ($((SECONDS - begin)) s)"
	else
		failed=$((failed + 1))
		echo "FAILED  $name"
		head -n 60 "$work/log" | sed 's/^/        /'
	fi
}

# each COMMAND... {}: once per line of standard input, as many at a time as there are CPUs
each() {
	xargs -P "$(nproc)" -I '{}' "$@"
}

layout() {
	clang-format --dry-run -Werror "${sources[@]}"
}

licence() {
	local f bad=0
	while read -r f; do
		head -n 3 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || {
			echo "$f: no SPDX line"
			bad=1
		}
	done < <(printf '%s\n' "${sources[@]}" && scripts)
	return $bad
}

scripts() {
	find tools test bench packaging .ci -type f \( -name '*.sh' -o -name '*.bash' -o -name '*.bats' \) 2>/dev/null
	grep -rlE '^#!/bin/(ba)?sh' tools test bench packaging .ci 2>/dev/null | grep -vE '\.(sh|bash|bats)$'
}

headers_alone() {
	printf '%s\n' "${headers[@]}" |
		each "$1" "${flags[@]}" -Wno-unused-function -fsyntax-only -x c '{}'
}

# Some warnings of gcc come with optimization.  Suites need the build anyway; what is not in it is compiled for this
# alone.
gcc_warnings() {
	ninja --quiet -k 0 -C "$build" all meson-test-prereq && printf '%s\n' "${units[@]}" |
		grep -vxFf <(ninja -C "$build" -t deps | sed -nE 's,^ .*\b((src|test|bench)/.*\.c)$,\1,p') |
		each gcc "${flags[@]}" -O2 -S -o /dev/null '{}'
}

# Those of clang do not.
clang_warnings() {
	printf '%s\n' "${units[@]}" | each clang "${flags[@]}" -fsyntax-only '{}'
}

static_analysis() {
	# Not the tests, whose assertions it cannot follow; not what it says of locals whose address
	# lives as long as they do, and of values that a function sets only when it succeeds.
	printf '%s\n' "${units[@]}" | grep -v '_test\.c$' >"$work/units"
	cppcheck --quiet --std=c11 --language=c -D__linux__ -D_GNU_SOURCE '-DWR_VERSION="0"' \
		--enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
		--suppress=missingInclude --suppress=missingIncludeSystem --suppress=unknownMacro \
		--suppress=preprocessorErrorDirective --suppress=autoVariables \
		--suppress=uninitvar --suppress=nullPointerRedundantCheck \
		-Isrc -j "$(nproc)" --file-list="$work/units"
}

shell_scripts() {
	scripts | sort -u | each shellcheck -S warning -x '{}'
}

man_pages() {
	local f bad=0
	for f in doc/man/*.scd; do
		scdoc <"$f" >"$work/page" || {
			echo "$f"
			bad=1
		}
	done
	return $bad
}

check "layout is clang-format's" layout
check "every file names its licence" licence
check "folders keep to tools/layers.txt" tools/check-layers
for cc in gcc clang; do
	check "each header compiles alone ($cc)" headers_alone "$cc"
	check "no warnings ($cc)" "${cc}_warnings"
done
check "cppcheck" static_analysis
check "shellcheck" shell_scripts
check "man pages build" man_pages
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
