/* SPDX-License-Identifier: Apache-2.0 */
/* X3: projects of several members that are deleted, or come back, by their record. */
#ifndef WR_CONTROL_DELETION_H
#define WR_CONTROL_DELETION_H

#include "serve/control/fleet.h"

/* DELETE and UNDELETE of a project that is in the trash of, or live on, several nodes. 1: answered
 * later; 0: this node's own operation is all it takes; -1. */
int wr_deletion_delete(struct wr_control *c, struct wr_req *q, struct wr_err *err);
int wr_deletion_undelete(struct wr_control *c, struct wr_req *q, struct wr_err *err);
/* The record changed: the copy here goes to the trash, or comes out of it. */
void wr_deletion_learn(struct wr_control *c, const struct wr_uuid *project);
/* Every operation that ended. */
void wr_deletion_op_ended(struct wr_control *c, const struct wr_op_row *op);
/* A push of what lies in the trash here, by a record that is news: true: it is taken note of, and
 * err is the answer. */
bool wr_deletion_offered(struct wr_control *c, const struct wr_msg *push, struct wr_err *err);
void wr_deletions_begin(struct wr_control *c);
void wr_deletions_end(struct wr_control *c);

#endif
