/* SPDX-License-Identifier: Apache-2.0 */
/* A point in time as file systems record it. Pure. */
#ifndef WR_TS_H
#define WR_TS_H

#include <stdint.h>

/* Seconds and nanoseconds since the epoch; 0 <= ns < 10^9, also before 1970. */
struct wr_ts {
	int64_t s;
	uint32_t ns;
};

static inline int
wr_ts_cmp(struct wr_ts a, struct wr_ts b)
{
	if (a.s != b.s)
		return a.s < b.s ? -1 : 1;
	return a.ns < b.ns ? -1 : a.ns > b.ns;
}

#endif
