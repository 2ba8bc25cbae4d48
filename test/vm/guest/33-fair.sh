# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# A neighbour's latency beside hogs of processors and disks, and beside a save. Bounds are generous:
# what they tell from nothing is a factor of three and more.
. /vm/lib.bash
. /vm/load.bash
. /vm/groups.bash

HOGS='for i in 1 2 3 4 5 6 7 8; do perl -e "1 while 1" & done; wait'
no_slower() { # than LIMIT percent of OTHER
	echo "$1 ms, compared with $3 ms"
	(($1 * 100 <= $2 * $3))
}

t "a neighbour" make_worker fay
t "whose steps take so long" step fay
alone=$(took fay)

t "beside eight hogs in its own group" step fay "$HOGS &"
crowded=$(took fay)
t "stop them" sh -c 'pkill -u "$(warren show fay --json | jq .uid)" perl; true'

t "beside eight hogs of another project" tell eve "$HOGS"
t "they are at it" within 20 burns eve
t "its steps take so long" step fay
fair=$(took fay)
echo "# a step takes $alone ms alone, $crowded ms with hogs in its group, $fair ms with hogs beside it"
t "limits make the difference" no_slower "$fair" 70 "$crowded"

t "the hogs get half a processor" warren settings eve cpu_max=50%
t "and keep to it" throttled eve

# Under that load.
snap
t "restart" systemctl restart warren.service
t "systemd reads its units again" systemctl daemon-reload
t "the package is installed again" dpkg -i /vm/warren-next.deb
still_there
t "the hogs are the same" burns eve
t "and limited as before" is "50000 100000" limit eve cpu.max
t "in memory too" is $((300 << 20)) limit eve memory.max
t "so is the neighbour" enforced fay
t "stop the hogs" warren stop eve --no-save

t "the daemon is in its slice" in_slice
t "which has little weight" is 20 cat /sys/fs/cgroup/warren.slice/warren-work.slice/cpu.weight
begin_save
t "beside it a step takes so long" step fay
t "the save ends well" save_ended
busy=$(took fay)
echo "# a step takes $busy ms beside a save"
t "not much longer" no_slower "$busy" 300 "$alone"

# The disk of the volume, with the scheduler that knows of weights.
echo bfq >/sys/block/vdc/queue/scheduler
t "weights of disks" warren settings eve io_weight=10 cpu_max=
t "one that writes all the time" warren start eve
t "writes" tell eve 'while :; do dd if=/dev/zero of=hog bs=1M count=40 oflag=direct conv=notrunc; done 2>/dev/null'
t "with the weight" is "default 10" limit eve io.bfq.weight
t "the neighbour's files reach the disk" synced fay
echo "# a write to the disk takes $(took fay) ms beside it"
t "stop it" warren stop eve --no-save
t "rate is read anew" reload_rate
t "the neighbour is well" enforced fay
t "stop it" warren stop fay --no-save
