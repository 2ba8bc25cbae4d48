# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# An orderly reboot, then the end of the package.
. /vm/lib.bash
. /vm/load.bash

t "the daemon is up" within 30 answers
t "what runs after a boot by its setting runs" within 60 is running field state alice .state
t "its program counts" within 20 counts
t "no state is stale" within 60 settled

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
