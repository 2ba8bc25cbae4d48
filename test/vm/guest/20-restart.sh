# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# The daemon ends in every way there is, under load; users' programs, their memory and their mounts stay.
. /vm/lib.bash
. /vm/load.bash

begin_save

snap
t "restart" systemctl restart warren.service
still_there
t "a save that ran then ended well" save_ended

snap
begin_save
t "kill -9 of the daemon" kill -KILL "$(daemon_pid)"
t "systemd starts another" within 20 answers
still_there
t "a save that ran then ended well" save_ended

snap
t "systemd reads its units again" systemctl daemon-reload
t "systemd starts itself again" systemctl daemon-reexec
still_there

snap
t "stop" systemctl stop warren.service
t "the program goes on without a daemon" counts_on
t "the state is read from the disk" is running field state alice .state
t "start" systemctl start warren.service
still_there

snap
t "what saves projects when the host goes down: stop, start" systemctl restart warren-shutdown.service
still_there
t "the host does not go down, so it did nothing, all the while" stayed
