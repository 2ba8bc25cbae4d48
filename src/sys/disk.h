/* SPDX-License-Identifier: Apache-2.0 */
/* The disks below a directory, and whether they heed weights of control groups. */
#ifndef WR_DISK_H
#define WR_DISK_H

#include <stdbool.h>
#include <stddef.h>

struct wr_disk {
	char name[64];      /* as the kernel calls it: sda */
	char scheduler[32]; /* that in force; "none" where requests go straight to the disk */
	bool weights;       /* io.weight has an effect: bfq, or io.cost is on */
};

/* The disks themselves, below partitions, volume groups and arrays; of a file system on several
 * disks only those that its mount names. At most max of them; 0: there are none, as on a network,
 * or nothing is known of them. */
size_t wr_disks_below(const char *path, struct wr_disk *out, size_t max);

/* The scheduler in force of a list like "none [bfq] kyber", which is what there is; false: none
 * stands there. */
bool wr_disk_scheduler(const char *list, char *out, size_t size);
/* Has io.cost.qos a line that says that it is on for that disk? */
bool wr_disk_io_cost(const char *qos, unsigned major, unsigned minor);

#endif
