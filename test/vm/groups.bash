# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Projects whose programs do what they are told, and what their control groups say.
#
#   make_worker NAME       made and started
#   tell NAME SCRIPT       its program runs that now, by bash, beside what it was told before
#   measure TEXT NAME [SCRIPT]  how long small pieces of work take it, with SCRIPT begun before; then p50 and table
#   limit NAME FILE        what a file of its group says
# The rest are questions: enforced, nobody, burns, at_limit, told, noticed.

GROUPS_AT=/sys/fs/cgroup/warren.slice/warren-projects.slice/warren-projects.scope
# Asked once: each question takes half a second in an emulated guest.
known() {
	[ -s "/tmp/$2.$1" ] || field show "$1" ".$2" >"/tmp/$2.$1"
	cat "/tmp/$2.$1"
}
group_of() { echo "$GROUPS_AT/$(known "$1" id)"; }
limit() { cat "$(group_of "$1")/$2"; }

# It takes a script out of its home and runs it in the background, one after the other.
# shellcheck disable=SC2016 # expanded by the project's shell
WORKER='rm -f job.sh; while :; do > alive; [ -e job.sh ] && { mv job.sh job; bash job & }; sleep 0.2; done'

make_worker() {
	warren create --name "$1" &&
		warren settings "$1" "command=exec bash -c '$WORKER'" save_every=never memory=96M pids=60 &&
		warren start "$1" && within 20 does "$1"
}
does() {
	rm -f "/home/$1/alive" && sleep 0.5 && [ -e "/home/$1/alive" ]
}
# What it was told before it took away what lay there would be lost.
again() { warren restart "$1" && within 20 does "$1"; }

tell() {
	local uid home=/home/$1
	uid=$(known "$1" uid)
	printf '%s\n' "$2" >"$home/new"
	chown "$uid:$uid" "$home/new"
	mv "$home/new" "$home/job.sh"
	within 20 test ! -e "$home/job.sh"
}

enforced() {
	field show "$1" '.resources | (.cpu and .io and .memory and .pids)' ||
		{
			warren show "$1" --json | jq .resources
			return 1
		}
}
processes_of() { pgrep -c -u "$(known "$1" uid)"; }
nobody() { [ "$(processes_of "$1")" = 0 ]; }
used_us() { awk '$1 == "usage_usec" { print $2 }' "$(group_of "$1")/cpu.stat"; }
at_limit() { (($(awk '$1 == "max" { print $2 }' "$(group_of "$1")/pids.events") > 0)); }
told() {
	warren events --json |
		jq -e --arg p "$(known "$1" id)" --arg w "$2" '[.events[] | select(.project == $p and .what == $w)] | length > 0'
}
noticed() { field show "$1" .notice | grep -F "$2"; }

# A neighbour at work (test/lib/neighbour): a line of the table called TEXT; SCRIPT is begun by the same project before.
: >/tmp/table
measure() { # TEXT NAME [SCRIPT]
	local out=/home/$2/took
	rm -f "$out"
	tell "$2" "${3-}
sleep 0.3
/vm/bin/neighbour ${AT:-small} 1000 2000 >took.new && mv took.new took" && within 60 test -s "$out" &&
		printf '%s\t%s\n' "$1" "$(cat "$out")" >>/tmp/table
}
# Of a line, for cpu or disk, in microseconds.
p50() {
	awk -F '\t' -v text="$1" -v what="$2" '$1 == text { split($2, f, " "); v = what == "cpu" ? f[2] : f[5] } END { print v }' /tmp/table
}
table() {
	awk -F '\t' 'BEGIN {
		printf "# %-40s %9s %9s %9s %9s %7s\n", "milliseconds beside", "cpu p50", "p95", "disk p50", "p95", "rounds"
	} {
		split($2, f, " ")
		printf "# %-40s %9.1f %9.1f %9.1f %9.1f %7d\n", $1, f[2] / 1000, f[3] / 1000, f[5] / 1000, f[6] / 1000, f[8]
	}' /tmp/table
}
# HOG cpu|disk TIMES: beside it in a project of its own at most so many times as long as alone.
not_worse() { at_most "$(p50 "$1, a project of its own" "$2")" $(($(p50 alone "$2") * $3)); }
# HOG cpu|disk: what takes five times as long as alone where nothing separates them takes a third less where something does.
helps() {
	local alone without with
	alone=$(p50 alone "$2") without=$(p50 "$1, together" "$2") with=$(p50 "$1, a project of its own" "$2")
	echo "alone $alone, together $without, apart $with"
	((without < 5 * alone || with * 3 <= without * 2))
}
hogs_end() {
	local who
	who=$(known "$1" uid)
	# Shells that begin more, then those.
	pkill -KILL -u "$who" -f '^bash job' || true
	within 10 hogs_gone "$who"
}
hogs_gone() {
	pkill -KILL -u "$1" -x 'perl|dd'
	! pgrep -u "$1" -x 'perl|dd'
}
doctor_says() { # WORD DISK
	warren doctor | grep -E "^$1 +disk +.*: $2, scheduler"
}

# In hundredths of a processor, over some seconds by the guest's own clock; and what NAME gets of what it and
# another get together, in percent.
now_us() { echo "${EPOCHREALTIME/./}"; }
uses() {
	local at before
	at=$(now_us) before=$(used_us "$1")
	sleep 2
	echo $((($(used_us "$1") - before) * 100 / ($(now_us) - at)))
}
share() { # NAME OTHER
	local own other
	own=$(used_us "$1") other=$(used_us "$2")
	sleep 4
	own=$(($(used_us "$1") - own)) other=$(($(used_us "$2") - other))
	echo $((own * 100 / (own + other + 1)))
}
# Likewise of what is written to the slow disk.
written() { awk -v d="$(lsblk -ndo MAJ:MIN /dev/vdf | tr -d ' ')" '$1 == d { sub(/.*wbytes=/, ""); print $1 }' "$(group_of "$1")/io.stat"; }
writes() { (($(written "$1") > 2000000)); }
disk_share() { # NAME OTHER
	local own other
	own=$(written "$1") other=$(written "$2")
	sleep 4
	own=$(($(written "$1") - ${own:-0})) other=$(($(written "$2") - ${other:-0}))
	echo $((own * 100 / (own + other + 1)))
}
burns() { (($(uses "$1") > 20)); }
at_least() {
	echo "$1, at least $2"
	(($1 >= $2))
}
at_most() {
	echo "$1, at most $2"
	(($1 <= $2))
}
in_slice() { grep warren-work.slice "/proc/$(daemon_pid)/cgroup"; }
reload_rate() {
	printf '[work]\nrate = 77M\n' >>/etc/warren/warren.conf
	systemctl reload warren.service || return
	within 20 reloaded
	local rc=$?
	sed -i '/^\[work\]$/,/^rate/d' /etc/warren/warren.conf
	systemctl reload warren.service && return "$rc"
}
reloaded() { warren events --json | jq -e '[.events[] | select(.what == "config.loaded")] | length > 0'; }
