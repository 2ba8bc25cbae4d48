#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it compares documents with tables
# The test vectors of doc/format: the tables are read from the documents and held against the binary.

bats_require_minimum_version 1.5.0
load lib

# Rows of the table of document $1 whose head begins with $2, cells separated by tabs, without ` and outer space.
table() {
	awk -v head="| $2" '
		index($0, head) == 1 { on = 1; next }
		on && /^\|---/ { next }
		on && !/^\|/ { exit }
		on {
			n = split($0, c, "|"); line = ""
			for (i = 2; i < n; i++) { gsub(/^ +| +$|`/, "", c[i]); line = line (i > 2 ? "\t" : "") c[i] }
			print line
		}' "$ROOT/doc/format/$1"
}

@test "chunks: ids of contents" {
	make_repo "$PWD/repo" --split-bits 13
	mkdir src
	rows=0
	while IFS=$'\t' read -r content bits id; do
		case $content in
		nothing) : >src/f ;;
		*' zero bytes') head -c "${content%% *}" /dev/zero >src/f ;;
		*) false ;;
		esac
		assert_equal "$bits" 13
		run -0 warren repo save --json src
		got=$(git --git-dir=repo rev-parse -q --verify main:f || git --git-dir=repo rev-parse main:f.bup)
		assert_equal "$got" "$id"
		rows=$((rows + 1))
	done < <(table repository.md Content)
	[ "$rows" -ge 6 ]
}

@test "snapshots: names of commit times" {
	mkdir src
	rows=0
	while IFS=$'\t' read -r when name; do
		rm -rf repo && make_repo
		run -0 warren repo save --json -d "$when" src
		assert_json .name "$name"
		run -0 warren repo ls "main/$name"
		# 1970 is a year that bup names as well
		assert_equal "$(bup ls main | head -n 1)" "$name"
		rows=$((rows + 1))
	done < <(table repository.md "Commit time")
	[ "$rows" -ge 4 ]
}

@test "commits: every trailer of the table and no other" {
	mkdir "s rc%"
	make_repo
	warren repo save -q "s rc%"
	git --git-dir=repo log -1 --format=%B main | sed -n 's/^\(Warren-[A-Za-z]*\): .*/\1/p' | sort >have
	table repository.md Trailer | cut -f 1 | sort >want
	run -0 diff want have
	run -0 git --git-dir=repo log -1 --format=%B main
	assert_output_has "Warren-Tree: $(tree_of main)"
	assert_output_has "/s%20rc%25"
}

@test "JSON: paths of any bytes" {
	mkdir src
	make_repo
	rows=0
	while IFS=$'\t' read -r hex path b64; do
		name=$(printf '%b' "$(sed 's/../\\x&/g' <<<"$hex")"; echo .)
		name=${name%.}
		rm -rf src && mkdir src && touch "src/$name"
		[ "$path" != newline ] || path=$'\n'
		warren repo save -q --force src
		output=$(warren repo ls --json main)
		assert_equal "$(jq -r '.entries[0].path' <<<"$output"; echo .)" "$path"$'\n.'
		assert_equal "$(jq -r '.entries[0].path_b64 // ""' <<<"$output")" "$b64"
		rows=$((rows + 1))
	done < <(table json.md "Bytes of the name")
	[ "$rows" -ge 7 ]
}

@test "exit statuses: the table has every code of the program" {
	# code, exit status, from the one table in the sources
	sed -n 's/^\tX(WR_E_[A-Z_]*, "\([a-z_]*\)", \([0-9]\),.*/\1 \2/p' "$ROOT/src/base/err.h" |
		grep -v '^none ' | sort >have
	table json.md Status | awk -F '\t' '{ n = split($3, c, " "); for (i = 1; i <= n; i++) print c[i], $1 }' |
		sort >want
	run -0 diff want have
}

@test "stat cache: magic, slots and first block are where the table says" {
	mkdir -p src/d && echo x >src/d/f
	make_repo
	warren repo save -q src
	f=$(echo repo/warren/stat/*)
	assert_equal "$(basename "$f")" "$(printf '%s' "$PWD/src" | git hash-object --stdin)"
	assert_equal "$(head -c 8 "$f")" WRSTAT1
	assert_equal "$(od -An -tx4 -j 512 -N 4 "$f" | tr -d ' ')" 57524331
	assert_equal "$(od -An -tx4 -j 4096 -N 4 "$f" | tr -d ' ')" 57524431
	# the root tree in slot A
	assert_equal "$(od -An -tx1 -j 552 -N 20 "$f" | tr -d ' \n')" "$(tree_of main)"
}

@test "HTTP: the page has every route of the table with its scope and arguments" {
	tr -d '\n' <"$ROOT/src/model/api.c" |
		grep -oE '"(GET|POST|PATCH)",[[:space:]]*"/v1[^"]*",[[:space:]]*WR_SCOPE_[A-Z]+' |
		sed -E 's/"([A-Z]+)",[[:space:]]*"([^"]*)",[[:space:]]*WR_SCOPE_([A-Z]+)/`\1` `\2` \L\3/' | sort >have
	[ "$(wc -l <have)" -ge 30 ]
	table http.md Method | awk -F '\t' '{ print "`" $1 "` `" $2 "` " $3 }' | tr -s '`' | sort >want
	run -0 diff want have
	# one argument of each kind of definition
	grep -qF '| `POST` | `/v1/projects/{id}/restore` | project | **`snapshot` text**, `path` path' "$ROOT/doc/format/http.md"
}
