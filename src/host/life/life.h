/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One operation on one project, from request to receipt, in a process of its own that holds the
 * lifecycle lock. It outlives the daemon; its result is on disk (STATE/op/OPID/result.json) before
 * anyone hears of it.
 */
#ifndef WR_LIFE_H
#define WR_LIFE_H

#include "host/node/node.h"

/* argv: ROOT|- OPID. Descriptor 3: the lifecycle lock, held (for create: taken by the child itself
 * after it made conf/). Environment WARREN_OP_TOKEN: the secret to hand to the project's processes.
 * Returns the exit status (0, 3 or as errors map). */
int wr_life_main(int argc, char **argv);

/* Put a state right whose operation is gone (start-up, request, watchdog): pure rule plus the facts
 * it needs: the home mounted or linked, result.json there. Gives true and the new status if
 * something has to be written. */
bool wr_life_settle(struct wr_place_of *p, const struct wr_settings *set,
		    const struct wr_status *now, struct wr_status *out);
/* What saves of the project leave out, as arguments of tasks: exclude, own_link, max_file_size. */
void wr_life_leave_out_of(const struct wr_settings *set, json_t *args);
/* Is the home presented now? */
bool wr_life_presented(struct wr_place_of *p, const struct wr_settings *set);

#endif
