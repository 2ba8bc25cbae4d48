# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# A neighbour beside hogs of processors and disks, and beside a save. How long its work takes also depends on what
# else the machine around this guest does, so that has wide bounds; the shares that it gets do not.
. /vm/lib.bash
. /vm/load.bash
. /vm/groups.bash

HOGS='for i in 1 2 3 4 5 6 7 8; do perl -e "1 while 1" & done; wait'

t "a neighbour" make_worker fay
t "has its limits" enforced fay
t "its work takes so long" step fay
alone=$(took fay)

t "another project" warren settings eve memory=300M cpu_max=
t "from the beginning" warren restart eve
t "has eight hogs" tell eve "$HOGS"
t "which are at it" within 20 burns eve
t "beside them it takes so long" step fay
fair=$(took fay)
t "not ten times as long" at_most "$fair" $((alone * 10))
t "the neighbour wants a processor, too" tell fay 'exec perl -e "1 while 1"'
t "is at it" within 20 burns fay
# One of nine programs would get 11 of 100; one of two projects gets one of two processors, if both are real.
share=$(share fay eve)
t "and gets more than that" at_least "$share" 16
t "with little weight" warren settings fay cpu_weight=5
small=$(share fay eve)
t "it gets less" at_most "$small" $((share * 4 / 5))
t "the hogs get half a processor" warren settings eve cpu_max=50%
t "and keep to it" at_most "$(uses eve)" 80
pkill -u "$(known fay uid)" perl
echo "# work of $alone ms takes $fair ms beside hogs; shares: $share of 100, with little weight $small"

# Under that load.
snap
t "restart" systemctl restart warren.service
t "systemd reads its units again" systemctl daemon-reload
t "the package is installed again" dpkg -i /vm/warren-next.deb
still_there
t "the hogs are at it" burns eve
t "and limited as before" is "50000 100000" limit eve cpu.max
t "in memory too" is $((300 << 20)) limit eve memory.max
t "stop the hogs" warren stop eve --no-save

t "the daemon is in its slice" in_slice
t "which has little weight" is 20 cat /sys/fs/cgroup/warren.slice/warren-work.slice/cpu.weight
begin_save
t "beside a save the neighbour's work takes so long" step fay
busy=$(took fay)
t "not ten times as long" at_most "$busy" $((alone * 10))
t "the save ends well" save_ended

# The disk of the volume, with the scheduler that knows of weights.
echo bfq >/sys/block/vdc/queue/scheduler
t "weights of disks" warren settings eve io_weight=10 cpu_max=
t "one that writes all the time" warren start eve
t "writes" tell eve 'while :; do dd if=/dev/zero of=hog bs=1M count=40 oflag=direct conv=notrunc; done 2>/dev/null'
t "with the weight" is "default 10" limit eve io.bfq.weight
t "the neighbour's files reach the disk" synced fay
echo "# its work takes $busy ms beside a save; a file reaches the disk in $(took fay) ms beside the writer"
t "stop it" warren stop eve --no-save
t "rate is read anew" reload_rate
t "stop it" warren stop fay --no-save
