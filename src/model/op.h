/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds of operations, as data. Pure. */
#ifndef WR_MODEL_OP_H
#define WR_MODEL_OP_H

#include "base/base.h"

enum wr_op_kind {
	WR_OP_NONE = 0,
	WR_OP_CREATE,
	WR_OP_START,
	WR_OP_STOP,
	WR_OP_RESTART,
	WR_OP_SAVE,
	WR_OP_RESTORE,
	WR_OP_UNDO,
	WR_OP_CHOWN,
	WR_OP_COPY, /* into this project, from another */
	WR_OP_DELETE,
	WR_OP_UNDELETE,
	WR_OP_PURGE,
	WR_OP_REPLICATE, /* what is saved here goes to the other members; needs no lock */
	WR_OP_UPDATE,    /* the files of a copy are brought to its newest state */
	WR_OP_DROP,      /* a copy that other nodes proved superfluous goes to the trash */
	WR_OP_KINDS
};
const char *wr_op_kind_name(enum wr_op_kind k); /* "create", ... */
enum wr_op_kind wr_op_kind_parse(const char *s);

enum wr_op_state {
	WR_OPS_UNSET = 0,
	WR_OPS_QUEUED,
	WR_OPS_RUNNING,
	WR_OPS_DONE,
	WR_OPS_FAILED,
	WR_OPS_CANCELLED
};
const char *wr_op_state_name(enum wr_op_state s);
enum wr_op_state wr_op_state_parse(const char *s);

/* May it be ended by `op cancel` while it runs?  A save before its snapshot, a restore before its
 * first change, a create, a copy, a chown, a replicate: yes.  start, restart: no (half of one is an
 * error to repair).  stop, delete, undelete, purge, drop: no (they are short, or must end). */
bool wr_op_cancellable(enum wr_op_kind k);

#endif
