/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users and operators should know of a project while it lasts (notices.c): its disk, files or
 * history near their limits.  Kept in conf/state.json; told by an event when it comes and goes, to
 * the project's user by a file for his prompt, and to a program of the node's.
 */
#ifndef WR_NOTICES_H
#define WR_NOTICES_H

#include "serve/control/control_int.h"

void wr_notices_begin(struct wr_control *c);
void wr_notices_end(struct wr_control *c);
/* Once a second: some of the active projects are looked at. */
void wr_notices_tick(struct wr_control *c);
/* Something has changed: an operation has ended, or settings. Nothing happens while an operation
 * runs. */
void wr_notices_check(struct wr_control *c, const struct wr_proj_row *r);

#endif
