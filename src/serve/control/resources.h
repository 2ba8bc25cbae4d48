/* SPDX-License-Identifier: Apache-2.0 */
/* What processes of projects may take: memory, processors, processes, disks (resources.c). */
#ifndef WR_RESOURCES_H
#define WR_RESOURCES_H

#include "serve/control/control_int.h"

/* The daemon's start: where groups are, and what they can limit. */
void wr_resources_begin(struct wr_control *c);
/* Once a second: some of the active projects are looked after. */
void wr_resources_tick(struct wr_control *c);
/* The settings of one have changed, and its row. */
void wr_resources_changed(struct wr_control *c, const struct wr_proj_row *r);
/* Member "resources" of a project that is shown. */
void wr_resources_json(struct wr_control *c, json_t *o, const struct wr_proj_row *r);
/* What its user should know, with the command that helps; NULL: nothing. Caller frees. */
char *wr_resources_notice(struct wr_control *c, const struct wr_proj_row *r,
			  const struct wr_settings *set);

#endif
