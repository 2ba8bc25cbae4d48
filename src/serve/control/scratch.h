/* SPDX-License-Identifier: Apache-2.0 */
/* Scratch of projects that have left this host, and its trash (scratch.c). */
#ifndef WR_SCRATCH_H
#define WR_SCRATCH_H

#include "serve/control/control_int.h"

void wr_scratch_begin(struct wr_control *c);
void wr_scratch_end(struct wr_control *c);
/* What belongs to projects that other nodes run by now goes to the trash, what was in there for its
 * time goes for good: begun here, done beside. */
void wr_scratch_sweep(struct wr_control *c);
/* Another node has taken over. Member "scratch" of what is told: what is left here, or null. */
void wr_scratch_left(struct wr_control *c, const struct wr_uuid *project, json_t *o);
/* That of a project, to be counted by a worker: descriptor, or -1. */
int wr_scratch_open(struct wr_control *c, const struct wr_proj_row *r);
/* Member "scratch" of a project's usage. found: as a worker counted it, or NULL. */
void wr_scratch_json(struct wr_control *c, json_t *o, const struct wr_proj_row *r,
		     const struct wr_settings *set, const json_t *found);

#endif
