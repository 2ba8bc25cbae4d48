# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Tells the user of a project, before a prompt, that its disk, files or history are near their limits.  Reads one small
# file that the daemon leaves for him, starts no program, says nothing where there is nothing to say, and the same
# thing once.

__warren_notice() {
	# What comes behind it before the prompt sees how the user's command ended.
	__warren_status=$?
	[ -r "${WARREN_NOTICES:-/run/warren/notice}/${UID:-none}" ] || return $__warren_status
	__warren_all=
	while read -r __warren_text && read -r __warren_command; do
		__warren_all="${__warren_all}warren: $__warren_text${__warren_command:+
        $__warren_command}
"
	done 2>/dev/null <"${WARREN_NOTICES:-/run/warren/notice}/$UID"
	if [ "$__warren_all" != "${__warren_told:-}" ]; then
		__warren_told=$__warren_all
		printf '%s' "$__warren_all" >&2
	fi
	unset __warren_all __warren_text __warren_command
	return $__warren_status
}

# $UID is of bash and zsh; others have no hook before the prompt either.
if [ -n "${BASH_VERSION:-}" ] && [ -n "${PS1:-}" ]; then
	case ${PROMPT_COMMAND:-} in
	*__warren_notice*) ;;
	*) PROMPT_COMMAND="__warren_notice${PROMPT_COMMAND:+; $PROMPT_COMMAND}" ;;
	esac
elif [ -n "${ZSH_VERSION:-}" ] && [ -n "${PS1:-}" ]; then
	# shellcheck disable=SC3030,SC3024 # zsh's own
	precmd_functions+=(__warren_notice)
fi
