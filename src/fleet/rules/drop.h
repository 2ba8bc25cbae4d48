/* SPDX-License-Identifier: Apache-2.0 */
/*
 * X1, X2: may this copy go?  Hide, prove, delete: the copy declares itself gone (hidden, durable),
 * then asks the data members of the newest record for proofs, and goes only when a majority of the
 * record's voters proved, as unhidden data members, that they hold all it holds.  The last copy to
 * hide always leaves its provers standing.  Pure.
 */
#ifndef WR_DROP_H
#define WR_DROP_H

#include "fleet/rules/member.h"

enum wr_drop_need {
	WR_DROP_NEVER = 1, /* a voter of a live record, or unknown: see err */
	WR_DROP_PROVE,     /* after proofs */
	WR_DROP_FREE,      /* the project is deleted: to trash without proofs */
};
/* err: filled for NEVER; may be NULL. */
enum wr_drop_need wr_drop_need(const struct wr_member_state *s, const struct wr_member_env *env,
			       struct wr_err *err);

/* What is to be proved. */
struct wr_drop_opts {
	struct wr_buf save; /* the copy's save record, encoded; empty: it has none; borrowed */
	uint8_t nonce[16];  /* fresh for each hiding: a late proof of an earlier one fails */
	const uint8_t (*ids)[20]; /* objects of the copy, chosen at random; at most WR_MSG_IDS */
	size_t id_count;
	struct wr_digest expected; /* the answer to that challenge */
	uint64_t request;          /* requests are numbered from here on */
	uint64_t timeout_ns;       /* 0: 60 s */
};
enum wr_drop_verdict { WR_DROP_WAIT = 1, WR_DROP_PROVEN, WR_DROP_KEEP };

struct wr_drop {
	struct wr_record record;
	struct wr_buf save;
	struct wr_digest refs;
	struct wr_drop_opts opts; /* ids: owned copy */
	uint8_t (*ids)[20];
	struct wr_drop_peer {
		struct wr_node_id node;
		bool to_send, yes, no;
	} peer[WR_MEMBERS_MAX];
	size_t peer_count;
	uint64_t end_ns, repeat_ns;
	enum wr_drop_verdict verdict;
	struct wr_record newer; /* KEEP because of a newer record: this one */
	bool has_newer;
	struct wr_err why;
};
/* The state is hidden and durable. -1: not PROVE, or not hidden. */
int wr_drop_begin(struct wr_drop *d, const struct wr_member_state *s,
		  const struct wr_member_env *env, const struct wr_drop_opts *opts,
		  struct wr_err *err);
void wr_drop_fini(struct wr_drop *d); /* harmless twice */
/* As for wr_raise_next. */
bool wr_drop_next(struct wr_drop *d, struct wr_node_id *to, struct wr_msg *msg);
void wr_drop_answer(struct wr_drop *d, const struct wr_member_env *env, const struct wr_msg *m);
/* PROVEN: wr_drop_commit. KEEP: un-hide, d->why says why. */
enum wr_drop_verdict wr_drop_tick(struct wr_drop *d, uint64_t now_ns);
/* Under the locks, before the copy moves to trash: judges anew (a record or a push may have come
 * meanwhile), then the state holds no save any more, and stays hidden. Make it durable, then move.
 * A push to a member that is hidden un-hides it. */
int wr_drop_commit(const struct wr_drop *d, struct wr_member_state *s,
		   const struct wr_member_env *env, struct wr_err *err);

#endif
