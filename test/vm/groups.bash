# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Projects whose programs do what they are told, and what their control groups say.
#
#   make_worker NAME       made and started
#   tell NAME SCRIPT       its program runs that now, by bash, beside what it was told before
#   step NAME [SCRIPT]     how many milliseconds a small piece of work takes it (the median of some), with
#                          SCRIPT begun before;  took NAME: what step or synced found last
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

# Rounds of some work, in a small gap each, so that it has to be woken; in microseconds, sorted.
# shellcheck disable=SC2016 # expanded by who does it
rounds() {
	printf '%s\n' "for ((r = 0; r < $1; r++)); do a=\${EPOCHREALTIME/./}; $2; b=\${EPOCHREALTIME/./}; echo \$((b - a)); sleep 0.03; done |
sort -n | sed -n $(($1 / 2 + 1))p >step.new && mv step.new step"
}
measured() { [ -s "/home/$1/step" ]; }
took() { echo $(($(cat "/home/$1/step") / 1000 + 1)); }
step() {
	rm -f "/home/$1/step"
	# shellcheck disable=SC2016 # expanded by who does it
	tell "$1" "${2-}
$(rounds 7 'for ((i = 0; i < 500; i++)); do :; done')" && within 60 measured "$1"
}
# Likewise, of small files that are written through.
synced() {
	rm -f "/home/$1/step"
	tell "$1" "$(rounds 7 'dd if=/dev/zero of=small bs=4k count=1 conv=fsync 2>/dev/null')" &&
		within 60 measured "$1" && (($(took "$1") < 5000))
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
