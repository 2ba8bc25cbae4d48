/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks: wall time is for people and inode times, monotonic time for intervals. */
#ifndef WR_CLOCK_H
#define WR_CLOCK_H

#include "base/ts.h"

/* The clock from which the kernel stamps inodes: it moves once a tick. */
struct wr_ts wr_clock_inode(void);
struct wr_ts wr_clock_wall(void);
uint64_t wr_clock_mono_ns(void);

#endif
