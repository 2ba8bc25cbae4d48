/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiver's state, and what its files share. Each uses those above it:
 *
 *   recv_hello.c   what is here, what a damaged repository wants
 *   recv_stream.c  what comes, into the quarantine
 *   recv_check.c   is all there that it refers to?
 *   recv.c         the machine, the commit
 */
#ifndef WR_RECV_INT_H
#define WR_RECV_INT_H

#include "fleet/sync/sync_int.h"

enum wr_recv_state {
	WR_RECV_START = 1,
	WR_RECV_OFFER,
	WR_RECV_WANT,
	WR_RECV_BEGIN,
	WR_RECV_LOAD,
	WR_RECV_HELD,
	WR_RECV_KEEP,
	WR_RECV_DATA,
	WR_RECV_SEAL,
	WR_RECV_HISTORY,
	WR_RECV_TREES,
	WR_RECV_REST,
	WR_RECV_FULL,
	WR_RECV_SYNC,
	WR_RECV_READY,
};

struct wr_recv {
	struct wr_sync m;
	struct wr_sync_recv_opts o;
	enum wr_recv_state state;
	struct wr_sync_list own;
	bool told_more;

	/* MEND */
	const struct wr_idx **suspect; /* indexes of packs that are not to be trusted */
	size_t suspect_count;
	struct wr_buf offered_ids; /* of the last OFFER */
	size_t offer_at;
	uint64_t offers; /* ids in all OFFERs */
	bool offer_last;
	struct wr_buf want; /* bits */
	struct wr_idmap wanted;

	struct wr_quar *quar; /* NULL: nothing to come */
	bool found;           /* it lay here when the transfer began */
	bool reused;          /* what came before is part of it */
	uint64_t held_at;     /* its objects that were told */
	uint8_t *held;        /* which of them belong to the stream */
	uint64_t room_at;     /* when it is looked at next */
	uint64_t total, announced;
	bool first_on, first_done;  /* the newest state alone: comes now, is here */
	struct wr_sync_list newest; /* the list then */
	struct wr_buf part, payload, other;
	struct wr_inflater *inflater;

	/* the check */
	uint64_t packs; /* the repository's packs when it began */
	struct wr_hist hist;
	struct wr_idmap base_id; /* what the base has for certain -> type */
	size_t *fresh, fresh_count, fresh_at;
	struct wr_pairs pairs;
	uint8_t *visited; /* by position in the quarantine's index */
	uint32_t rest_at;
	struct wr_idmap open; /* references neither here nor proven -> type */
	size_t open_count;
	struct wr_src repo_only;
	struct wr_full full;
	struct wr_err bad; /* found where none can be returned */
};

static inline bool
wr_recv_mends(const struct wr_recv *v)
{
	return v->o.mode == WR_SYNC_MEND;
}

/* ---- recv_hello.c ---- */

int wr_recv_start(struct wr_recv *v, struct wr_err *err);
int wr_recv_on_more(struct wr_recv *v, struct wr_err *err);
int wr_recv_on_offer(struct wr_recv *v, struct wr_rd *r, struct wr_err *err);
/* A slice of the last offer: which of it is wanted? */
void wr_recv_want(struct wr_recv *v);

/* ---- recv_stream.c ---- */

int wr_recv_on_begin(struct wr_recv *v, struct wr_rd *r, struct wr_err *err);
int wr_recv_on_first(struct wr_recv *v, struct wr_rd *r, struct wr_err *err);
int wr_recv_on_use(struct wr_recv *v, struct wr_rd *r, struct wr_err *err);
int wr_recv_on_data(struct wr_recv *v, struct wr_rd *r, struct wr_err *err);
int wr_recv_on_end(struct wr_recv *v, struct wr_rd *r, struct wr_err *err);
/* What lies here of a transfer that broke off: read again, then without what is of no use. */
int wr_recv_load(struct wr_recv *v, struct wr_err *err);
int wr_recv_keep(struct wr_recv *v, struct wr_err *err);
/* An object that is here already must have the same bytes. */
int wr_recv_check_same(struct wr_recv *v, const struct wr_id *id, enum wr_obj_type type,
		       const struct wr_buf *b, struct wr_err *err);

/* ---- recv_check.c ---- */

void wr_recv_forget(struct wr_recv *v);
/* All came: seal it, then step by step until it is durable. */
int wr_recv_check(struct wr_recv *v, struct wr_err *err);
int wr_recv_end_history(struct wr_recv *v, struct wr_err *err);
int wr_recv_trees(struct wr_recv *v, struct wr_err *err);
int wr_recv_rest(struct wr_recv *v, struct wr_err *err);
int wr_recv_full(struct wr_recv *v, struct wr_err *err);
int wr_recv_sync(struct wr_recv *v, struct wr_err *err);

#endif
