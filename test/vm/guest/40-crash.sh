# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# The power fails while projects run, one is being saved, and one was stopped half way.
. /vm/lib.bash
. /vm/load.bash

cut_off() { ! warren stop carol; }

t "one comes back after a boot, by its setting" warren settings alice autostart=yes
t "another project" warren create --name carol
t "its files are not limited" unlimited carol
t "start it" warren start carol
t "while it runs they are" limited carol
systemctl set-environment WARREN_CRASH=life.stop.unmounted
t "restart" systemctl restart warren.service
t "a stop is cut off before limits are cleared" cut_off
t "the limit stands" limited carol
systemctl unset-environment WARREN_CRASH
begin_save
t "a save is on its way" within 20 is running saves
sync
reset_then
