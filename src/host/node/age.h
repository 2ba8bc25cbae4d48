/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users' bytes go when they are old enough (trash, refs/warren/keep/, side branches, safety tags),
 * by the wall clock, since they outlive boots; and a wall clock may jump.  So this node remembers
 * which time it last believed:
 *
 *   STATE/clock.json {"format":1,"boot","boot_s","time","doubt_s","ran_s"}
 *
 *   the wall clock is ahead of that, and of what passed since by the boot clock, by more than
 *     a day, within one boot ------> it is doubted
 *     30 days, from boot to boot --> it is doubted
 *   or behind by more than a day --> it is doubted, unless all this began less than a day before:
 *                                    a new host's clock may be anywhere until it hears the time
 *   doubted --- it is back, other nodes' clocks agree, or 30 days were run since --> believed
 *
 * As long as it is doubted, ages are counted as if it had not jumped: nothing goes early, and what
 * has its age goes.  A clock that is behind keeps longer what there is; but what begins its age by
 * it would be old as soon as it is set right, so that begins with what was believed (wr_age_stamp).
 */
#ifndef WR_AGE_H
#define WR_AGE_H

#include "host/node/node.h"

/* What was believed when, and for how long it has not been. */
struct wr_age {
	uint64_t boot; /* which; and the boot clock then */
	int64_t boot_s;
	int64_t time;
	int64_t doubt_s; /* run since it is doubted; -1: it is not */
	int64_t ran_s;   /* run since anything is remembered */
};
/* The same by now. agreed: others say that the wall clock is right. Gives how far that is ahead of
 * what is believed, in seconds, or behind (< 0); 0: it is believed. Pure. */
int64_t wr_age_judge(struct wr_age *a, uint64_t boot, int64_t boot_s, int64_t wall, bool agreed);

#define WR_AGE_EVER_S (UINT64_C(1000) * 366 * 86400)
/* A span after which something goes, as long as it has to be by the wall clock now. 0: it never
 * goes, which is WR_AGE_EVER_S; what is longer is as long. */
uint64_t wr_age_span(const struct wr_node *n, uint64_t span_s);
/* Of a worker that keeps refs: "floor_s", how long [replica] floor is now, and "now", of when what
 * it keeps is. */
void wr_age_floor(const struct wr_node *n, json_t *args);
/* What begins its age now is of this time: that of the wall clock, if it is not behind. */
int64_t wr_age_stamp(const struct wr_node *n);
/* Control's, every minute or so: what is to be remembered is. *out_ahead as wr_age_judge. */
int wr_age_look(const struct wr_node *n, bool agreed, int64_t *out_ahead, struct wr_err *err);

#endif
