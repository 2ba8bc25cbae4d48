#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# For warren.conf:  [notice] command = /usr/local/lib/warren/mail.sh
#
# A mail for each notice of a project that comes or goes; needs jq and sendmail.  The daemon starts this as its own
# user, with a JSON object of schema warren.notice/1 on standard input, and ends it after 30 s.
set -eu
to=${WARREN_MAIL_TO:-root}
notice=$(cat)
get() { printf '%s' "$notice" | jq -r "$1"; }
{
	printf 'To: %s\n' "$to"
	printf 'Subject: warren: %s: %s%s\n\n' "$(get .name)" "$(get 'if .cleared then "over: " else "" end')" \
		"$(get .notice.text)"
	printf '%s\n' "$(get '"node \(.node), since \(.notice.since)", (.notice.command // empty)')"
} | /usr/sbin/sendmail -t
