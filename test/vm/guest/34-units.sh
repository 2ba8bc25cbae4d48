# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash source=/dev/null
# Programs of unit tests that need a control group with all controllers: one that systemd hands over.
. /vm/lib.bash

in_group() {
	# shellcheck disable=SC2016 # expanded there
	systemd-run --quiet --pipe --wait --collect -p Delegate=yes -p TasksMax=infinity --unit="vm-$1" bash -c '
		own=/sys/fs/cgroup/system.slice/$0.service
		mkdir "$own/self" && echo 0 >"$own/self/cgroup.procs" || exit
		WARREN_CGROUP=$own exec "/vm/bin/$@" 2>&1' "vm-$1" "$@" >/tmp/out
	local rc=$?
	cat /tmp/out
	return "$rc"
}
# Groups are of no use to it unless their tests ran.
none_skipped() { ! grep -F SKIPPED /tmp/out; }

t "control groups" in_group cgroup_test
t "none of it was skipped" none_skipped
t "limits of projects" in_group runner_test 'test_limits*'
t "none of it was skipped" none_skipped
