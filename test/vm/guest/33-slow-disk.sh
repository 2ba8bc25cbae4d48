# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# Like 33-fair, beside one that writes all the time to the same slow disk: as it comes, in one group; then with the scheduler
# that knows of weights, in a project of its own with little weight. How long a single request takes is up to what the disk
# has in hand already; the shares of those who write all the time are not.
. /vm/lib.bash
. /vm/load.bash
. /vm/groups.bash

# shellcheck disable=SC2016 # expanded by the project's shell
DISK='for i in 1 2 3 4; do
	(while :; do dd if=/dev/zero of=/mnt/WHO$i bs=256k count=40 oflag=direct conv=notrunc; done 2>/dev/null) &
done'

mount -t ext4 /dev/vdf /mnt && chmod 1777 /mnt
t "doctor says that weights have no effect on the volume's disk" doctor_says "could be" vdc
export AT=/mnt/small
t "a slow disk: the neighbour's files are measured" measure "alone, a slow disk" fay
t "beside one that writes all the time" measure "disk, together" fay "${DISK//WHO/fay}"
t "that ends" hogs_end fay
echo bfq | tee /sys/block/vd[cf]/queue/scheduler
t "doctor says that weights count" doctor_says ok vdc
t "weights of disks" warren settings eve io_weight=10 cpu_max=
t "one that writes all the time" again eve
t "writes" tell eve "${DISK//WHO/eve}"
t "with the weight" is "default 10" limit eve io.bfq.weight
t "beside it the neighbour's files are measured" measure "disk, a project of its own" fay
t "the neighbour writes all the time, too" tell fay 'while :; do dd if=/dev/zero of=/mnt/fay bs=256k count=40 oflag=direct conv=notrunc; done 2>/dev/null'
t "is at it" within 20 writes fay
share=$(disk_share fay eve)
t "one of five gets more than a fifth" at_least "$share" 40
echo "# share: $share of 100"
t "stop it" warren stop eve --no-save
table
t "rate is read anew" reload_rate
t "stop it" warren stop fay --no-save
