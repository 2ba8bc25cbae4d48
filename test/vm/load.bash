# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Projects at work.  alice counts, in memory: her program knows a number that is nowhere else, and
# writes it beside the count.  bob has files enough that a save takes a while.
#
#   make_projects   both of them, started
#   snap            remembers process, memory, count and mount of alice
#   still_there     tests: they are as they were, and the count goes on
#   begin_save      a save of bob begins;  save_ended: it was done

# shellcheck disable=SC2016 # expanded by the project's shell
COUNTER='k=$RANDOM$RANDOM; i=0; while sleep 0.1; do i=$((i+1)); echo $$ $k $i >count.new; mv count.new count; done'

make_projects() {
	t "create a project" warren create --name alice
	t "it has a program" warren settings alice "command=exec bash -c '$COUNTER'" save_every=never
	t "start it" warren start alice
	t "its program counts" within 20 counts
	t "create another" warren create --name bob
	t "start it" warren start bob
	begin_save
}

counts() { [ -s /home/alice/count ]; }
mount_of() { awk -v d="/home/$1" '$5 == d { print $1 }' /proc/self/mountinfo; }
presented() { [ -n "$(mount_of "$1")" ]; }
absent() { ! presented "$1"; }

snap() {
	read -r PID KEY COUNT </home/alice/count
	MOUNT=$(mount_of alice)
}

counted_on() {
	local pid key count
	read -r pid key count </home/alice/count
	[ "$pid $key" = "$PID $KEY" ] && ((count > COUNT))
}
counts_on() {
	read -r PID KEY COUNT </home/alice/count
	within 20 counted_on
}
ended() { ! kill -0 "$PID"; }
same_program() {
	local pid key count
	read -r pid key count </home/alice/count
	is "$PID $KEY" echo "$pid $key"
}

still_there() {
	t "the daemon answers" within 20 answers
	t "the program is the same, with its memory" same_program
	t "it goes on" counts_on
	t "the home is the same mount" is "$MOUNT" mount_of alice
	t "the project is known to run" within 20 is running field state alice .state
}

OP=
begin_save() {
	local uid
	uid=$(field show bob .uid)
	rm -f /home/bob/big
	head -c 20000000 /dev/urandom >/home/bob/big
	chown "$uid:$uid" /home/bob/big
	OP=$(warren save bob --no-wait --json | jq -r .id)
}
saves() { warren op show "$OP" --json | jq -r .state; }
save_ended() {
	warren op wait "$OP" && warren op show "$OP" --json | jq -e '.state == "done"'
}

# As the file system has it, whether the project is active or not.
limited() { (($(field show "$1" '.limits.limit // 0') > 0)); }
unlimited() { ! limited "$1"; }

settled() {
	local p
	for p in alice bob carol; do
		[[ $(field state "$p" .state) == @(running|stopped) ]] || {
			warren state "$p"
			return 1
		}
	done
}
newest() { field snapshots "$1" '.snapshots[0].name'; }

# When the host goes down projects are saved; when the daemon does, or is replaced, nothing of that is to happen.
left() { warren events --json | jq -e '[.events[] | select(.what == "node.leaving")] | length > 0'; }
stayed() { systemctl is-active warren-shutdown.service && ! left; }

repository_whole() {
	warren repo verify --data -r "/vol/ext4/warren/repos/$(field show "$1" .id)"
}
