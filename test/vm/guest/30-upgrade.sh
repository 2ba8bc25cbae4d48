# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# A newer package under load: the daemon is the new one, all else is as it was.
. /vm/lib.bash
. /vm/load.bash

version() { dpkg-query -W -f '${Version}' warren; }
runs_installed() { [ "/proc/$(daemon_pid)/exe" -ef /usr/bin/warren ]; }

before=$(daemon_pid)
old=$(version)
snap
begin_save
t "a newer package installs" dpkg -i /vm/warren-next.deb
t "its version is there" is "$old+next" version
t "the daemon is another one" test "$(daemon_pid)" != "$before"
t "and it is the installed binary" runs_installed
still_there
t "a save that ran then ended well" save_ended
t "nothing was saved for a shutdown" stayed
