# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# An orderly reboot, which projects were saved before; then the end of the package.
. /vm/lib.bash
. /vm/load.bash

# Seconds between two events, the last of their kind.
between() {
	warren events --json | jq --arg a "$1" --arg b "$2" '
		def last($w): [.events[] | select(.what == $w) | .at | fromdate] | max; last($b) - last($a)'
}
not_longer() { (($(between node.leaving node.stopping) <= $1)); }
saved_then() { is word warren cat alice "$(newest alice):note"; }
newer() { [ "$(newest bob)" != "$(cat /vm/state/bob.newest)" ]; }
fast_saves() {
	sed -i '/^\[work\]$/,/^shutdown_save/d' /etc/warren/warren.conf
	systemctl reload warren.service
}

t "the daemon is up" within 30 answers
t "what runs after a boot by its setting runs" within 60 is running field state alice .state
t "its program counts" within 20 counts
t "no state is stale" within 60 settled

t "the host waited no longer than it was to" not_longer 25
t "alice was saved" saved_then
t "bob was not, for lack of time" is "$(cat /vm/state/bob.newest)" newest bob
t "its file is as it was" is "$(cat /vm/state/bob.sum)" sh -c 'sha256sum </home/bob/big'
t "it runs, too" within 60 is running field state bob .state
t "saves are fast again" fast_saves
t "and bob is saved" warren save bob
t "this time" newer

snap
t "the package is removed" dpkg -r warren
t "the daemon has ended" is inactive systemctl show --value -p ActiveState warren.service
t "the program goes on all the same" counts_on
t "the package comes back" dpkg -i /vm/warren-next.deb
t "the daemon starts with it" within 20 answers
still_there
t "a stop ends the program" warren stop alice
t "it has ended" ended
t "purging leaves histories alone" sh -c 'dpkg -P warren && test -e /var/lib/warren/node.json &&
	test -d /vol/ext4/warren/repos'
