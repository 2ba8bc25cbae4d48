# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# The power fails while projects run and one is being saved.
. /vm/lib.bash
. /vm/load.bash

t "one comes back after a boot, by its setting" warren settings alice autostart=yes
t "one has never run" warren create --name carol
begin_save
t "a save is on its way" within 20 is running saves
sync
reset_then
