/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/clock.h"

#include <time.h>

static struct wr_ts
now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts); /* cannot fail for these clocks */
	return (struct wr_ts){ts.tv_sec, (uint32_t)ts.tv_nsec};
}

struct wr_ts
wr_clock_inode(void)
{
	return now(CLOCK_REALTIME_COARSE);
}

struct wr_ts
wr_clock_wall(void)
{
	return now(CLOCK_REALTIME);
}

uint64_t
wr_clock_mono_ns(void)
{
	struct wr_ts t = now(CLOCK_MONOTONIC);

	return (uint64_t)t.s * 1000000000u + t.ns;
}

uint64_t
wr_clock_boot_ns(void)
{
	struct wr_ts t = now(CLOCK_BOOTTIME);

	return (uint64_t)t.s * 1000000000u + t.ns;
}
