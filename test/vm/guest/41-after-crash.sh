# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# The first boot after the power failed.
. /vm/lib.bash
. /vm/load.bash

t "the daemon is up" within 30 answers
t "what runs after a boot by its setting runs" within 60 is running field state alice .state
t "its program counts" within 20 counts
t "its home is presented" presented alice
t "what was stopped half way says so" is error field state carol .state
t "its home is not presented" absent carol
t "nor is it limited any more" unlimited carol
t "a stop ends what was begun" warren stop carol
t "what runs is limited" limited alice
t "no state is stale" within 60 settled
t "a project that was being saved saves" within 60 warren save bob
t "its repository is whole" repository_whole bob
t "nothing has failed" is 0 sh -c 'systemctl --failed --no-legend | wc -l'

# The host goes down in order: what is not saved is saved first, as far as there is time.
slow_saves() {
	printf '[work]\nrate = 200K\nshutdown_save = 15s\n' >>/etc/warren/warren.conf
	systemctl reload warren.service
}
remember() {
	sha256sum </home/bob/big >/vm/state/bob.sum
	newest bob >/vm/state/bob.newest
}
t "bob is saved by nobody else" warren settings bob save_every=never
t "it runs" within 60 is running field state bob .state
t "saves are slow, and the host waits 15 s for them" slow_saves
t "alice writes a little" sh -c 'echo word >/home/alice/note'
t "bob more than can be saved then" sh -c 'head -c 20000000 /dev/urandom >/home/bob/big'
t "this is remembered" remember
sync
reboot_then
