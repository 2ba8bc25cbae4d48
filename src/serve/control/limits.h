/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of working files (limits.c). */
#ifndef WR_LIMITS_H
#define WR_LIMITS_H

#include "host/quota/quota.h"
#include "serve/control/control_int.h"

/* After wr_ctl_reconcile: the volumes are looked at, quotas turned on where they may be, and what
 * is not active loses its limits. */
void wr_limits_begin(struct wr_control *c);
void wr_limits_end(struct wr_control *c);
/* Once a second: some of the active projects are looked after. */
void wr_limits_tick(struct wr_control *c);
/* The settings of one have changed, and its row. */
void wr_limits_changed(struct wr_control *c, const struct wr_proj_row *r);
/* Its uid is not its alone any more, so it is not to be limited. */
void wr_limits_shared(struct wr_control *c, const struct wr_proj_row *r);
/* What the file system counts of its working files now; false: nobody does. inodes 0: not those. */
bool wr_limits_usage(struct wr_control *c, const struct wr_proj_row *r, struct wr_quota_usage *out);
/* The same of its scratch; false also where there is none. */
bool wr_limits_scratch(struct wr_control *c, const struct wr_proj_row *r,
		       struct wr_quota_usage *out);
/* Member "limits" of a project that is shown. set: NULL if there are none. */
void wr_limits_json(struct wr_control *c, json_t *o, const struct wr_proj_row *r, bool active,
		    const struct wr_settings *set);

#endif
