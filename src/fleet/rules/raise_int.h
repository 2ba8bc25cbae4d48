/* SPDX-License-Identifier: Apache-2.0 */
/* The machine of a raise, for raise.c, which asks and is answered, and raise_plan.c, which judges.
 */
#ifndef WR_RAISE_INT_H
#define WR_RAISE_INT_H

#include "fleet/rules/raise.h"
#include "fleet/rules/rules_int.h"

/* What is said to a node; each question has its own request number. */
enum ask { ASK_NOTHING, ASK_GRANT, ASK_PREPARE, ASK_CATCH_UP, ASK_INSTALL };

struct wr_raise_peer {
	struct wr_node_id node;
	enum ask ask;
	bool to_send, away;
	uint64_t request; /* of ask */
	bool promised, clean, installed;
	bool overtaken; /* it promised a higher number */
	bool has_record, has_save, save_ok;
	bool damaged; /* its copy is: it is no source of what it says it has */
	struct wr_record record;
	struct wr_version v;
	struct wr_digest refs;
	struct wr_node_id writer; /* of that save */
	struct wr_err why;        /* of its last refusal */
};

struct wr_raise {
	struct wr_raise_opts o; /* its pointers point to the copies below, but fleet and key */
	struct wr_record known;
	struct wr_node_id *ask, *dead;
	struct wr_raise_node *nodes;
	bool has_known;     /* the newest record seen */
	struct wr_record c; /* the one that this attempt starts from */
	bool has_c;
	bool again; /* H3: this attempt, or the one before, keeps the voters */
	bool undo;  /* the wish cannot be met: err says why, once the record is installed */
	struct wr_record made;
	bool has_made;
	enum wr_raise_state state;
	struct wr_epoch n;
	uint64_t greatest, request;
	size_t tries;
	bool has_grant;
	struct wr_grant grant;
	struct wr_raise_peer *peer;
	size_t peer_count;
	uint64_t end_ns, repeat_ns;
	uint64_t grant_ns, settle_ns, retry_ns; /* 0: none */
	struct wr_err err;
};

/* What the promises add up to. */
struct wr_tally {
	size_t promised, clean, need;
	struct wr_version v; /* v*, of number 0 if none holds anything */
	struct wr_digest refs;
	bool conflict;
	bool
	    whole; /* a copy of v* that is not damaged is among them, or there is nothing to hold */
	bool lost; /* a later version was left out, for its copies are damaged */
};

/* ---- raise.c ---- */

struct wr_raise_peer *wr_raise_peer_of(const struct wr_raise *r, const struct wr_node_id *node);
/* Is the node one that a forced record names as gone? */
bool wr_raise_dead(const struct wr_raise *r, const struct wr_node_id *node);
/* Is there a grant, and is it for C and this number? */
bool wr_raise_grant_fits(const struct wr_raise *r);
/* The raise has failed; hint may be NULL. Always -1. */
int wr_raise_fail(struct wr_raise *r, enum wr_err_code code, const char *text, const char *hint);

/* ---- raise_plan.c ---- */

struct wr_tally wr_raise_tally(const struct wr_raise *r);
/* Do the promises do? -1 with the reason. */
int wr_raise_check(const struct wr_raise *r, const struct wr_tally *t, struct wr_err *out);
/* The record to sign: as wished, or, if the wish cannot be met (r->undo, r->err), as before. */
void wr_raise_plan(struct wr_raise *r, const struct wr_tally *t, struct wr_record *e);

#endif
