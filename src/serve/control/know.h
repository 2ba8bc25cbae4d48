/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hub must know before it gives names and uids away, and what it allows.  All of it hangs at
 * wr_fleetctl.know, NULL unless this node is a hub.
 */
#ifndef WR_CONTROL_KNOW_H
#define WR_CONTROL_KNOW_H

#include "serve/control/fleet.h"

int wr_know_begin(struct wr_control *c, struct wr_err *err);
void wr_know_end(struct wr_control *c);
/* A node reported: is all that it holds to be asked for? */
void wr_know_reported(struct wr_control *c, const struct wr_msg *report);
/* How many nodes of the fleet have not said yet what they hold; their names are appended to
 * out_names (an array; may be NULL). More than 0: the catalog is recovering. */
size_t wr_know_missing(struct wr_control *c, json_t *out_names);
/* A host that was in no fleet before holds nothing. In a group of the catalog's. */
int wr_know_new_node(struct wr_control *c, const struct wr_uuid *node, struct wr_err *err);
/* May that node have another name? WR_E_BUSY: not before the catalog is whole; WR_E_LIMIT: it had
 * too many within the hour. Counts it. */
int wr_know_may_create(struct wr_control *c, const struct wr_node_id *node, struct wr_err *err);
/* A loss of the project's newest saves was accepted, at this hub by an operator: may that node ask
 * for a raise that costs them? done: it came to be. */
bool wr_know_loss_permitted(struct wr_control *c, const struct wr_uuid *project,
			    const struct wr_node_id *node);
void wr_know_loss_done(struct wr_control *c, const struct wr_uuid *project);

#endif
