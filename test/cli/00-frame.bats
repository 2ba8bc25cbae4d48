#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# once: it compares texts
# The frame of the command line: table, help, manual pages and completions say the same.

bats_require_minimum_version 1.5.0
load lib

# path TAB name TAB letter TAB value of every option of every command
all_options() {
	warren help --json |
		jq -r '.commands[] | select(.group | not) | .command as $c | .options[] |
			[$c, .name, .letter // "-", .value // "-"] | @tsv'
}

commands() {
	warren help --json | jq -r '.commands[] | select(.group | not) | .command'
}

groups() {
	warren help --json | jq -r '.commands[] | select(.group) | .command'
}

@test "help at the top, of each group and of each command" {
	run -0 warren
	assert_output_has "Usage: warren COMMAND"
	top=$output
	run -0 warren --help
	assert_equal "$output" "$top"
	run -0 warren help
	assert_equal "$output" "$top"
	while read -r path; do
		# shellcheck disable=SC2086 # words
		run -0 warren $path --help
		assert_output_has "Usage: warren $path"
		help=$output
		# shellcheck disable=SC2086
		run -0 warren help $path
		assert_equal "$output" "$help"
	done < <(commands && groups)
}

@test "help shows every option of the table" {
	n=0
	while IFS=$'\t' read -r path name letter value; do
		# shellcheck disable=SC2086 # words
		help=$(warren $path --help)
		term="--$name"
		[ "$letter" = - ] || term="-$letter, $term"
		[ "$value" = - ] || term="$term ${value//[/\\[}"
		grep -qE -- "^ +$term( |\$)" <<<"$help" || {
			echo "$path: no '$term' in its help"
			return 1
		}
		n=$((n + 1))
	done < <(all_options)
	[ "$n" -gt 80 ]
}

@test "no help line is wider than 80 columns" {
	while read -r path; do
		# shellcheck disable=SC2086 # words
		run -0 warren $path --help
		! grep -E '.{81}' <<<"$output" || return 1
	done < <(commands && groups)
}

@test "help lists every command of its group" {
	for path in $(groups); do
		help=$(warren "$path" --help)
		while read -r word; do
			grep -q "^  $word " <<<"$help" || return 1
		done < <(commands | sed -n "s/^$path //p")
	done
}

@test "every command has a manual page, every manual page a command" {
	warren help --json | jq -r '.commands[].manual' | sort >table
	(cd "$ROOT/doc/man" && ls -- *.1.scd) | sed 's/\.1\.scd$//' | grep -vx warren | sort >pages
	diff table pages
}

@test "manual pages name exactly the options of the table" {
	while IFS=$'\t' read -r path man; do
		page=$ROOT/doc/man/$man.1.scd
		awk '/^# / { on = ($2 == "OPTIONS" && NF == 2) } on && /^\*-/' "$page" |
			sed -E 's/\\//g; s/[*_]([^*_]|_[^ ])*[*_]/&/g' | tr -d '*' | sed -E 's/ _(.*)_$/ \1/' |
			sort >in_page
		warren help --json | jq -r --arg c "$path" '.commands[] | select(.command == $c) |
			.options[] | (if .letter then "-" + .letter + ", " else "" end) + "--" + .name +
			(if .value then " " + .value else "" end)' | sort >in_table
		diff in_table in_page || {
			echo "in $man.1.scd"
			return 1
		}
	done < <(warren help --json | jq -r '.commands[] | [.command, .manual] | @tsv')
}

@test "manual pages have the synopsis and the summary of the table" {
	while IFS=$'\t' read -r path man synopsis summary; do
		page=$ROOT/doc/man/$man.1.scd
		head -n 1 "$page" | grep -qx "$man(1)"
		grep -qxF "$man - $summary" "$page" || {
			echo "$man: its summary is not '$summary'"
			return 1
		}
		got=$(awk '/^# / { on = ($2 == "SYNOPSIS") } on && /^\*/' "$page" | tr -d '*_')
		assert_equal "$got" "warren $path $synopsis"
	done < <(warren help --json | jq -r '.commands[] | [.command, .manual, .synopsis, .summary] | @tsv')
}

@test "manual pages document the exit statuses and refer to pages that exist" {
	for page in "$ROOT"/doc/man/*.scd; do
		grep -q '^# EXIT STATUS' "$page" || {
			echo "$page: no exit status"
			return 1
		}
		while read -r ref; do
			[ -e "$ROOT/doc/man/$ref.scd" ] || {
				echo "$page: no page $ref"
				return 1
			}
		done < <(grep -oE '\*warren[a-z.-]*\*\([1-9]\)' "$page" | tr -d '*' | tr '(' . | tr -d ')' |
			sort -u)
	done
}

# Terms of a list below the headings of page $1 that match $2.
terms() {
	awk -v on_heads="$2" '/^# / { on = ($0 ~ on_heads) } on && /^\*/' "$ROOT/doc/man/$1" |
		tr -d '*\\' | sort
}

@test "warren.conf(5) has every key of the configuration and its default" {
	run -0 warren config get --json --root "$PWD"
	json '.config | keys[] | split(".")[1]' | sort >keys
	terms warren.conf.5.scd '^# SECTION' | diff keys -
	page=$(tr -s ' \n\t' ' ' <"$ROOT/doc/man/warren.conf.5.scd" | tr -d '\\')
	while IFS=$'\t' read -r key default help; do
		[ "$default" = none ] || default=_${default}_
		[[ $page == *"*$key* ${help^}. Default: $default."* ]] || {
			echo "$key: no '${help^}. Default: $default.' in the page"
			return 1
		}
	done < <(json '.config | to_entries[] | [(.key | split(".")[1]), 
		(.value.default | if . == "" then "none" else . end), .value.help] | @tsv')
}

@test "warren-settings(1) has every setting" {
	run -0 warren settings --keys --json
	json '.settings | keys[]' | sort >keys
	terms warren-settings.1.scd '^# SETTINGS' | diff keys -
}

@test "manual pages build" {
	need scdoc
	for page in "$ROOT"/doc/man/*.scd; do
		scdoc <"$page" >/dev/null
	done
}

@test "usage errors: status 2, the command in front, a hint" {
	check() {
		local message=$1 hint=$2
		shift 2
		run -2 --separate-stderr warren "$@"
		assert_equal "$output" ""
		# shellcheck disable=SC2154 # set by run
		[[ ${stderr_lines[0]} == "$message" ]] || {
			echo "'${stderr_lines[0]}' instead of '$message'"
			return 1
		}
		# shellcheck disable=SC2053 # a pattern
		[[ ${stderr_lines[1]} == "HINT: "$hint ]] || {
			echo "'${stderr_lines[1]}' instead of 'HINT: $hint'"
			return 1
		}
	}
	check "warren: unknown command 'rpeo'" "did you mean 'warren repo'?" rpeo
	check "warren: unknown command 'xyzzy'" "'warren --help' lists the commands" xyzzy
	check "warren: unknown command 'repo restroe'" "did you mean 'warren repo restore'?" repo restroe
	check "warren: unknown option '-r'" "options stand behind*" -r x repo save
	check "warren repo save: unknown option '--foo'" "see 'warren repo save --help'" repo save --foo .
	check "warren repo save: unknown option '--dryrun'" "did you mean '--dry-run'?" \
		repo save --dryrun .
	check "warren repo save: unknown option '--dry'" "did you mean '--dry-run'?" repo save --dry .
	check "warren repo save: argument PATH is missing" "see*" repo save
	check "warren repo save: unexpected argument 'b'" "see*" repo save a b
	check "warren repo save: option '-n, --name' needs a value: BRANCH" "see*" repo save a -n
	check "warren repo save: option '--force' takes no value" "see*" repo save a --force=yes
	check "warren repo save: option '--max-file-size': '12Q' is not a size" "sizes*" \
		repo save a --max-file-size 12Q
	check "warren repo save: option '-d, --date': 'tomorrow' is not a number" "give whole seconds*" \
		repo save a -d tomorrow
	check "warren repo init: option '--split-bits': 12 is out of range" \
		"give a number from 13 to 19" repo init --split-bits=12 r
	check "warren repo restore: option '--overwrite': 'sometimes' is none of its values" \
		"give one of: changed, always, newer, never" repo restore a b --overwrite=sometimes
	check "warren repo tag: argument SNAP is missing" "see*" repo tag name
	check "warren help: unknown command 'nonsense'" "*" help nonsense
	check "warren completion: no completions for shell 'fish'" "*" completion fish
}

@test "a command without a repository says how to name one" {
	for c in init snapshots stat verify tag branch "save ." "ls a" "cat a:b" "diff a b" "find x" \
		"history x" "restore a b"; do
		# shellcheck disable=SC2086 # words
		run -2 --separate-stderr warren repo $c
		assert_equal "${stderr_lines[0]}" "warren repo ${c%% *}: no repository given"
		assert_equal "${stderr_lines[1]}" "HINT: name it with -r REPO or in \$WARREN_REPO"
	done
}

@test "a repository that is not there: status 5" {
	for c in snapshots stat verify tag branch "save ." "ls a" "cat a:b" "diff a b" "find x" \
		"history x" "restore a b"; do
		# shellcheck disable=SC2086 # words
		run -5 --separate-stderr warren repo $c -r "$PWD/none"
		[ "$output" = "" ]
		[[ ${stderr_lines[0]} == *none* ]]
		# shellcheck disable=SC2086
		run -5 --separate-stderr warren repo $c -r none --json
		assert_json .schema warren.error/1
		assert_json .error.code not_found
	done
}

@test "errors with --json are one object, usage errors too" {
	run -2 --separate-stderr warren repo save --json --foo
	assert_json .schema warren.error/1
	assert_json .error.code usage
	assert_json .error.message "unknown option '--foo'"
	run -2 --separate-stderr warren repo save --json
	assert_json .error.hint "see 'warren repo save --help'"
	run -2 --separate-stderr warren repo save -- --json --foo
	assert_equal "$output" ""
}

@test "foreign bytes never reach the terminal through an error" {
	run -2 warren repo save "--$(printf 'a\033[31mb\377')"
	assert_output_has 'a\x1b[31mb\xff'
	[[ $output != *$'\033'* ]]
}

@test "version" {
	run -0 warren version
	[[ $output =~ ^warren\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
	text=$output
	run -0 warren --version
	assert_equal "$output" "$text"
	run -0 warren version --json
	assert_json .schema warren.version/1
	assert_equal "warren $(json .version)" "$text"
}

@test "output that cannot be written is a failure" {
	[ -w /dev/full ] || skip "needs /dev/full"
	for c in "version" "help" "help --json" "version --json" "completion bash" "repo save --help"; do
		# shellcheck disable=SC2086 # words
		run -1 bash -c "'$WARREN' $c >/dev/full"
		assert_output_has "write standard output"
	done
}

@test "closed standard descriptors do no harm" {
	run -0 bash -c "'$WARREN' version >&- 2>&- <&-"
	run -0 bash -c "'$WARREN' version <&- 2>&-"
	assert_output_has "warren "
}

@test "bash completion is valid and completes" {
	warren completion bash >c.bash
	bash -n c.bash
	complete_words() {
		bash --norc -c 'source c.bash
			compopt() { :; }
			COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
			_warren
			printf "%s\n" "${COMPREPLY[@]}"' _ "$@" | sort
	}
	assert_equal "$(complete_words warren repo)" repo
	assert_equal "$(complete_words warren tra)" trash
	assert_equal "$(complete_words warren trash p)" purge
	assert_equal "$(complete_words warren list --state=ru)" ""
	assert_equal "$(complete_words warren list --state = ru)" running
	assert_equal "$(complete_words warren repo res)" restore
	assert_equal "$(complete_words warren repo restore --dr)" --dry-run
	assert_equal "$(complete_words warren repo restore --overwrite ne | xargs)" "never newer"
	assert_equal "$(complete_words warren repo restore --overwrite = al)" always
	assert_equal "$(complete_words warren completion z)" zsh
	mkdir -p dir1/sub file-dir
	assert_equal "$(complete_words warren repo save --name x di)" dir1
	assert_equal "$(complete_words warren repo init -r file)" file-dir
	# SNAP comes first, DEST second, whatever options stand between them.
	assert_equal "$(complete_words warren repo restore di)" ""
	assert_equal "$(complete_words warren repo restore --wait 5 snap --json di)" dir1
	# Every option of every command is offered.
	while IFS=$'\t' read -r path name _; do
		# shellcheck disable=SC2086 # words
		complete_words warren $path "--$name" | grep -qx -- "--$name" || {
			echo "$path: --$name is not completed"
			return 1
		}
	done < <(all_options)
}

@test "zsh completion is valid and has every option" {
	warren completion zsh >_warren
	while IFS=$'\t' read -r path name letter _; do
		block=$(sed -n "/^	'$path')/,/;;/p" _warren)
		[ -n "$block" ]
		grep -qE -- "--$name(=|\[|\})" <<<"$block"
		[ "$letter" = - ] || grep -qE -- "-$letter(\+|,| )" <<<"$block"
	done < <(all_options)
	need zsh
	zsh -n _warren
}

@test "zsh completes in a real shell" {
	need zsh
	need python3
	warren completion zsh >_warren
	# Types into an interactive zsh and prints what it makes of each line.
	cat >drive.py <<-'END'
		import os, pty, re, select, sys, time

		pid, fd = pty.fork()
		if pid == 0:
		    os.environ.update(TERM="dumb", ZDOTDIR=os.getcwd())
		    os.execvp("zsh", ["zsh", "-f", "-i"])

		def until(pattern, seconds=20):
		    text, end = "", time.monotonic() + seconds
		    while time.monotonic() < end and not re.search(pattern, text):
		        if select.select([fd], [], [], 0.1)[0]:
		            text += os.read(fd, 4096).decode(errors="replace")
		    if not re.search(pattern, text):
		        sys.exit(f"no {pattern} in {text!r}")

		os.write(fd, b"autoload -U compinit; compinit -u -D; source ./_warren; print REA''DY\n")
		until("READY")
		for typed, wanted in [("warren repo res", "restore"), ("warren repo save --dry", "-run"),
		                      ("warren repo restore --overwrite=alw", "always"),
		                      ("warren completion z", "zsh")]:
		    os.write(fd, typed.encode() + b"\t")
		    until(wanted)
		    os.write(fd, b"\x15")
		    print("completed", typed)
	END
	run -0 timeout 100 python3 drive.py
	assert_equal "${#lines[@]}" 4
}
