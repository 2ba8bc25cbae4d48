# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# Memory and processes: a project that takes too much ends alone; its neighbour and the daemon go on. This comes before
# systemd reads its units again: from then on it does not notice any more that the kernel ended something in a scope.
. /vm/lib.bash
. /vm/load.bash
. /vm/groups.bash

make_projects
t "a save that ran then ended well" save_ended
t "a project whose program does as told" make_worker eve
t "memory, processors, processes and disks are limited" enforced eve
t "each project has its group" test -d "$(group_of eve)"
t "with its memory" is $((96 << 20)) limit eve memory.max
t "which ends as one" is 1 limit eve memory.oom.group
t "with its processes" is 60 limit eve pids.max

snap
t "a hog" tell eve 'sleep 100000 & exec perl -e "my @x; push @x, q(x) x 1000000 while 1"'
t "ends, with all that belong to it" within 60 nobody eve
t "which is an event" within 20 told eve project.out-of-memory
t "and said where people look" noticed eve "warren start eve"
still_there
t "it can be started again" warren start eve
t "and runs" within 20 does eve

snap
t "a fork bomb" tell eve 'exec perl -e "while (1) { fork; select undef, undef, undef, 0.05 }"'
t "which is refused more" within 60 at_limit eve
t "its processes are no more than it may have" test "$(limit eve pids.current)" -le 60
t "which is an event" within 20 told eve project.out-of-processes
t "the neighbour counts on" counts_on
t "more are allowed at once" warren settings eve pids=70
t "and held to" is 70 limit eve pids.max
t "a restart of the daemon" systemctl restart warren.service
t "ends nothing" within 20 answers
t "not the neighbour" same_program
t "not the bomb" test "$(limit eve pids.current)" -gt 8
t "stop ends all of it" warren stop eve
t "not one is left" nobody eve
t "nor its group" test ! -e "$(group_of eve)"
t "the neighbour counts on" counts_on

t "it can be started again" warren start eve
t "it takes 60 MB" tell eve 'exec perl -e "my @x; push @x, q(x) x 1000000 for 1..60; open F, q(>have); close F; sleep"'
t "and has it" within 60 test -e /home/eve/have
t "less memory than it uses" warren settings eve memory=32M
t "ends nobody" pgrep -u "$(known eve uid)" perl
t "more at once" warren settings eve memory=300M
t "arrives" is $((300 << 20)) limit eve memory.max
t "so do processors" warren settings eve cpu_max=50% cpu_weight=300
t "at once" is "50000 100000" limit eve cpu.max
t "with their weight" is 300 limit eve cpu.weight
t "what is no part of a processor is refused" sh -c '! warren settings eve cpu_max=lots'
t "no limit again" warren settings eve cpu_max=
t "is none" is "max 100000" limit eve cpu.max
