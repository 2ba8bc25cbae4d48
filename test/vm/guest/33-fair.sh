# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# A neighbour beside hogs: how long its small pieces of work take alone; beside each hog where nothing separates the two,
# as on a host without Warren's groups; and beside the same hog in a project of its own. How long that takes also depends on what
# else the machine around this guest does, so bounds are wide; shares of processors are exact.
. /vm/lib.bash
. /vm/load.bash
. /vm/groups.bash

# shellcheck disable=SC2016 # expanded by perl
{
	CPU='for i in 1 2 3 4 5 6 7 8; do perl -e "1 while 1" & done'
	# All it may have, and for ever asking for more; each at work.
	FORKS='perl -e "for (1..100) { my \$p = fork; last if defined \$p && !\$p } 1 while 1" 2>/dev/null &'
	# All that is there, but for what the guest needs to live.
	MEMORY='perl -e "
		my @x;
		sub left { open F, q(/proc/meminfo); local \$/; <F> =~ /MemAvailable: +(\d+)/; \$1 }
		push @x, q(x) x 1000000 while left() > 65536;
		sleep 1000" &'
}

t "a neighbour" make_worker fay
t "has its limits" enforced fay
t "its work is measured" measure "alone" fay
t "it may have more than it needs" warren settings fay memory=900M pids=1000
t "beside hogs of processors that nothing separates from it" measure "processors, together" fay "$CPU"
t "they end" hogs_end fay
t "beside many processes" measure "processes, together" fay "$FORKS"
t "they end" hogs_end fay
t "beside one that takes all memory" measure "memory, together" fay "$MEMORY"
t "it ends" hogs_end fay

t "another project" warren settings eve memory=300M cpu_max= pids=60
t "from the beginning" again eve
t "has many processes" tell eve "$FORKS"
t "beside them the neighbour's work is measured" measure "processes, a project of its own" fay
t "they end" hogs_end eve
t "it takes much memory" tell eve "$MEMORY"
t "beside it the neighbour's work is measured" measure "memory, a project of its own" fay
t "it has ended, with all that belong to it" within 20 nobody eve
t "once more" again eve
t "has eight hogs" tell eve "$CPU"
t "which are at it" within 20 burns eve
t "beside them the neighbour's work is measured" measure "processors, a project of its own" fay
for hog in processors processes memory; do
	t "$hog: with limits it is not much worse than alone" not_worse "$hog" cpu 8
	t "$hog: where it hurts without limits, they help" helps "$hog" cpu
done

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
echo "# shares: $share of 100, with little weight $small"

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
t "the neighbour has its usual weight" warren settings fay cpu_weight=100
begin_save
t "beside a save its work is measured" measure "a save" fay
t "and is not much worse than alone" at_most "$(p50 "a save" cpu)" $(($(p50 alone cpu) * 8))
t "the save ends well" save_ended
table
