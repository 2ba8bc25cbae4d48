/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the queue share. Each uses those above it:
 *
 *   queue.c      the operations of each project, and who waits for one
 *   op_row.c     what one changes in its project's row
 *   op_record.c  its end on record
 *   op_run.c     its beginning and its end
 *   op_wish.c    what is asked for
 *   op_adopt.c   what the daemon before left
 */
#ifndef WR_CONTROL_QUEUE_INT_H
#define WR_CONTROL_QUEUE_INT_H

#include "serve/control/control_int.h"

/* An operation that control itself wants waits this long for a lock that is held outside of our
 * queue; longer than any. */
#define WR_OP_PATIENCE_S 3600

/* ---- queue.c ---- */

void wr_op_free(struct wr_op *o);
int wr_op_store(struct wr_op *o, struct wr_err *err);
/* o->args is another one by now: so is what the row says. */
void wr_op_args_changed(struct wr_op *o);
bool wr_op_is_running(const struct wr_op *o);
void wr_op_set_running(struct wr_op *o);
/* Behind those of its project that wait. */
void wr_op_append(struct wr_op *o);
/* Out of wherever it is: it runs, waits, or waits beside. */
void wr_op_unlink(struct wr_op *o);

/* ---- op_row.c ---- */

/* What is wanted from now on; before anything is done about it. */
void wr_op_wish_row(struct wr_op *o, struct wr_proj_row *row, int64_t now);
/* After its end; false: the row is to go. */
bool wr_op_done_row(struct wr_op *o, struct wr_proj_row *row, const json_t *receipt);
bool wr_op_undone_row(struct wr_op *o, struct wr_proj_row *row);

/* ---- op_record.c ---- */

/* A save of the schedule that made nothing, and that nobody waits for. */
bool wr_op_is_quiet(const struct wr_op *o, enum wr_op_state state, const json_t *receipt);
/* Rows of operation and project; within the caller's transaction. */
int wr_op_record_end(struct wr_op *o, enum wr_op_state state, const json_t *receipt,
		     struct wr_err *err);
/* Those that node.db did not take, in the order in which they ended: each writes its project's row.
 * 0: none is left. */
int wr_ops_record_pending(struct wr_control *c, struct wr_err *err);
/* As far as node.db knows it may still wait: the next daemon must not begin what was told to be
 * over. */
void wr_op_leave_end(struct wr_op *o, const struct wr_err *why);
/* Taken: node.db is full, or busy; whoever asks hears how it ended all the same. */
void wr_op_record_later(struct wr_op *o);
void wr_op_tell_end(struct wr_op *o, enum wr_op_state state, const json_t *receipt,
		    const struct wr_err *why);
/* Old operations of a project go. */
void wr_ops_trim(struct wr_control *c, const struct wr_uuid *project);

/* ---- op_run.c ---- */

/* The lock of its project, if it needs one and has none. WR_E_BUSY: someone outside holds it. */
int wr_op_take_lock(struct wr_op *o, struct wr_err *err);
/* It fails if it is not begun within so many seconds. */
void wr_op_wait(struct wr_op *o, uint64_t seconds);
/* Its process is there: once it is gone, its end is collected. pidfd: as of wr_child_on. */
void wr_op_watch_process(struct wr_op *o, pid_t pid, int pidfd);
/* Its process is gone: what did it leave?  wait_status -1: it was no child of ours. */
void wr_op_collect(struct wr_op *o, int wait_status);
/* It is over, and o gone; receipt is taken; why: unless it is done. */
void wr_op_end(struct wr_op *o, enum wr_op_state state, json_t *receipt, const struct wr_err *why,
	       const char *step);
/* Start the first that waits, if none runs. */
void wr_op_kick(struct wr_proj *p);
/* The same for the one that replicates. */
void wr_op_kick_copy(struct wr_proj *p);

#endif
