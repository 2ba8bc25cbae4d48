# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# shellcheck shell=bash source=/dev/null
# Limits on ext4, through the daemon.
. /vm/lib.bash
. /vm/load.bash

HARD=$((84 << 20)) # of 20M: 64 MiB more are the grace

user() {
	local name=$1 uid
	shift
	uid=$(field show "$name" .uid)
	(cd "/home/$name" && setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@")
}
full() {
	local out
	! out=$(user dave dd if=/dev/zero of=big bs=1M count=90 2>&1) && grep "Disk quota exceeded" <<<"$out"
}
size() { df --output=size -B1 /home/dave | tail -n 1 | tr -d ' '; }
denied() { grep -q "Operation not permitted" "/var/lib/warren/log/$(field show erin .id)"; }
counted() { (($(field show frank .limits.used) > 1000000)); }
quota_is() {
	sed -i '/^\[volume\]$/,/^quota/d' /etc/warren/warren.conf
	printf '[volume]\nquota = %s\n' "$1" >>/etc/warren/warren.conf
	systemctl restart warren.service && within 20 answers
}

t "a project with a small disk" warren create --name dave
t "is set so" warren settings dave disk=20M save_every=never
t "what limits it" is prjquota field show dave .limits.driver
t "not before it starts" is none field show dave ".limits.limit // \"none\""
t "it starts" warren start dave
t "with its limit" is "$HARD" field show dave .limits.limit
t "df tells it" is "$HARD" size
t "it holds" full
t "files can be removed" user dave rm big
t "more is allowed at once" warren settings dave disk=200M
t "and can be used" user dave dd if=/dev/zero of=big bs=1M count=90
t "less again" warren settings dave disk=20M
t "over it, it stops" warren stop dave
t "and starts" warren start dave
t "nothing more can be written" full
t "but removed" user dave rm big

t "one whose program tries to leave" warren create --name erin
t "tries" warren settings erin save_every=never \
	'command=touch f; chattr -p 77 f 2>&1; chattr -P . 2>&1; exec sleep 100000'
t "starts" warren start erin
t "and is denied it" within 20 denied

t "a volume without limits" quota_is none
t "has a project with files" warren create --name frank --from /usr/lib/systemd
t "they come to be limited" quota_is auto
t "by a start" warren start frank
t "which counts what was there" counted
t "stop it" warren stop frank
