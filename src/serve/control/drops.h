/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies that come and go: what attest.c, drop.c and calls_replica.c share.
 *
 *   attest.c        looks at objects, in workers: challenges and their answers
 *   drop.c          a copy that its record does not count any more: hide, prove, to the trash (X1);
 *                   out of the trash for good (X2)
 *   calls_audit.c   `audit`: every member looks at its own copy, who asks compares
 *   mend.c          copies of this node that were found damaged, until they are whole again
 *   calls_replica.c `replica add` and `replica remove`; learners that are filled become voters
 */
#ifndef WR_CONTROL_DROPS_H
#define WR_CONTROL_DROPS_H

#include "host/task/task.h"
#include "serve/control/fleet.h"

/* LIMIT: workers that look at objects for proofs, at a time. */
#define WR_PROVING_MAX 4
/* LIMIT: audits at a time, and seconds of one. */
#define WR_AUDITING_MAX 3
#define WR_AUDIT_S 86400
/* How many objects a challenge asks for. */
#define WR_CHALLENGE_IDS 16

/* ---- attest.c ---- */

/* result: of WR_TASK_PROVE; NULL: why. */
typedef void (*wr_prove_fn)(void *ctx, const json_t *result, const struct wr_err *why);
struct wr_prove;
struct wr_dropping;
struct wr_drop_cand;
struct wr_fill;
struct wr_mend;
struct wr_found;
struct wr_marks_of;
struct wr_drops {
	struct wr_control *c;
	struct wr_prove *proves; /* workers */
	size_t proving, auditing;
	struct wr_drop_cand *cands; /* copies that may go */
	struct wr_dropping *list;   /* those that are being proved */
	size_t dropping;
	int64_t *gone; /* when copies went, of the last day; oldest first */
	size_t gone_count, gone_cap;
	int64_t limit_told;
	struct wr_fill *fills;     /* learners of projects that are written here */
	struct wr_found *found;    /* damaged copies that are not marked yet; newest first */
	struct wr_marks_of *marks; /* of nodes that were asked */
	struct wr_mend *mends;
	bool mending; /* one is being looked at */
	struct wr_timer tick;
};
/* Look at the repository of a project, or of one in the trash. args is taken. fn is called once,
 * from the loop, unless it is forgotten before. NULL with err: WR_E_BUSY: as many as may run do. */
struct wr_prove *wr_prove_begin(struct wr_control *c, const struct wr_uuid *project, bool trashed,
				json_t *args, wr_prove_fn fn, void *ctx, struct wr_err *err);
/* Likewise, for WR_TASK_PROVE, WR_TASK_AUDIT or WR_TASK_MEND. */
struct wr_prove *wr_look_begin(struct wr_control *c, enum wr_task_kind kind,
			       const struct wr_uuid *project, bool trashed, json_t *args,
			       wr_prove_fn fn, void *ctx, struct wr_err *err);
void wr_prove_forget(struct wr_prove *p); /* its worker is ended; NULL is fine */
void wr_proves_end(struct wr_control *c);

/* X1, the side that is asked: ATTEST. */
typedef void (*wr_attested_fn)(struct wr_asked *k, bool has_refs, const struct wr_digest *proof);
/* Are all tips of k's save reached here, and what is the answer to its challenge? fn is called
 * once, perhaps from within; or k is answered, where that cannot be found out now. */
void wr_attest_facts(struct wr_asked *k, wr_attested_fn fn);

/* ---- drop.c ---- */

void wr_drops_begin(struct wr_control *c);
void wr_drops_end(struct wr_control *c);
/* Its record or its copy changed: is it one that may go, by now or not any more? */
void wr_drop_learn(struct wr_control *c, const struct wr_uuid *project);
/* Every operation that ended. */
void wr_drop_op_ended(struct wr_control *c, const struct wr_op_row *op, const struct wr_err *why);
/* Of what lies in the trash too long: true if it is seen to here (a copy that was dropped: it is
 * proved again first). */
bool wr_drop_purges(struct wr_control *c, const struct wr_uuid *project);

/* ---- calls_audit.c ---- */

/* AUDIT, of whoever is in the fleet: this node's copy is looked at. */
void wr_audit_asked(struct wr_asked *k);
/* MARK, likewise: what was found damaged here counts as that from now on, and is refilled. */
void wr_audit_mark(struct wr_asked *k);
void wr_audits_end(struct wr_control *c);

/* ---- mend.c ---- */

void wr_mends_begin(struct wr_control *c);
void wr_mends_end(struct wr_control *c);
void wr_mends_tick(struct wr_control *c);
/* It is marked: refill it, without a pause. */
void wr_mend_now(struct wr_control *c, const struct wr_uuid *project);
/* A push brought what it lacked. */
void wr_mend_received(struct wr_control *c, const struct wr_uuid *project);

/* ---- calls_replica.c ---- */

void wr_fills_tick(struct wr_control *c);
void wr_fills_end(struct wr_control *c);
/* If this node is the writer: learners are filled, and made voters then. */
void wr_fill_learn(struct wr_control *c, const struct wr_uuid *project);
void wr_fill_op_ended(struct wr_control *c, const struct wr_op_row *op, const json_t *receipt);

#endif
