/* SPDX-License-Identifier: Apache-2.0 */
/* A repository that belongs to a project of a node: whoever changes it with `warren repo` holds the
 * project's lifecycle lock meanwhile, as its operations do. */
#ifndef WR_CLAIM_H
#define WR_CLAIM_H

#include "engine/repo/repo.h"

/* Nothing to do if it is no project's (l->fd stays -1). WR_E_BUSY names who has it. wait_s as
 * wr_lock_take. */
int wr_claim(const struct wr_repo *r, const char *command, int wait_s, struct wr_lock *l,
	     struct wr_err *err);

#endif
