# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# The package on a fresh host, a node, the daemon.
. /vm/lib.bash

up() { systemctl is-system-running --wait; }
controllers() { grep -w memory /sys/fs/cgroup/cgroup.controllers; }

t "the guest has booted to the end" up
t "control groups are unified" controllers
t "the package installs" dpkg -i /vm/warren.deb
t "the binary runs" warren version
t "there is a user for repositories" getent passwd warren
t "the daemon is enabled" systemctl is-enabled warren.service
t "but waits for a node" is inactive systemctl show --value -p ActiveState warren.service
t "the host becomes a node" warren init --dc lab --name vm --reserve 16M /vol/ext4/warren
t "the daemon starts, and says when it is ready" systemctl start warren.service
t "it answers" answers
t "the projects' slice is active" systemctl is-active warren-projects.slice
t "nothing has failed" is 0 sh -c 'systemctl --failed --no-legend | wc -l'
