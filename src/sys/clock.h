/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks: wall time is for people and inode times, monotonic time for intervals. */
#ifndef WR_CLOCK_H
#define WR_CLOCK_H

#include "base/ts.h"

/* A clock that moves once a tick and is never ahead of the kernel's stamps on inodes: before Linux
 * 6.13 they are read from it, since then they may be finer. */
struct wr_ts wr_clock_inode(void);
struct wr_ts wr_clock_wall(void);
uint64_t wr_clock_mono_ns(void);
/* Since boot, suspended or not: what leases count by. */
uint64_t wr_clock_boot_ns(void);

#endif
