/* SPDX-License-Identifier: Apache-2.0 */
/*
 * H1..H4, H6: how a hub makes the next record of a project.  A machine: answers and ticks in,
 * messages out, at its end a signed record that a majority installed, or an error.  Any number of
 * hubs may run one for the same project at once; none needs to know more than any old record.
 * Pure: random bits, time and keys are handed in.
 *
 *   GRANT     (if a grant is to be asked for) GRANT_ASK to C's writer
 *   PREPARE   to C's voters and learners; promises of maj(C) are collected; a newer record in an
 *             answer becomes C; a higher promise starts again with a higher number
 *   INSTALL   the record is signed; to all members of C and of the new record
 *   DONE      maj(new record) installed it.  Or back to GRANT, when the voters could not be changed
 *             in one go (H3: first a raise with the same voters).
 *   FAILED
 */
#ifndef WR_RAISE_H
#define WR_RAISE_H

#include "fleet/rules/member.h"

/* LIMITs: numbers tried; nodes asked. */
#define WR_RAISE_TRIES 8
#define WR_RAISE_NODES 64

/* A hub's opinion of nodes, for the choice of a writer (H4) and for texts. A node that is not
 * listed is not ready. */
struct wr_raise_node {
	struct wr_node_id node;
	bool ready; /* healthy, not draining: may become writer */
	bool warm;  /* its tree is fresh */
	/* As last reported, for texts alone ("B has 3 min more"); number 0: unknown. */
	struct wr_version held;
	int64_t scan_started;
};

struct wr_raise_opts {
	struct wr_uuid project;
	const struct wr_fleet *fleet;
	const struct wr_sign_key *key; /* of the hub; the recovery key if forced */
	const struct wr_record *known; /* C: the newest known, verified; or NULL and: */
	const struct wr_node_id *ask;  /* whom to ask for one */
	size_t ask_count;
	unsigned wish;          /* enum wr_wish, or 0: the same voters, the same writer if ready */
	struct wr_node_id node; /* WRITER: the new one, or inc 0: the best; UNDELETE: likewise, or
				   inc 0: as before; ADD, VOTER, REMOVE: whom */
	enum wr_role role;      /* VOTER: DATA (a learner that is filled) or WITNESS (any node) */
	uint64_t settings_rev;  /* of the newest settings doc; 0: as C says */
	struct wr_buf settings; /* that doc, sent along with INSTALL; borrowed; may be empty */
	bool accept_loss;
	bool has_grant; /* of C's writer, ready made: */
	struct wr_grant grant;
	/* Or ask C's writer for one: RELEASE, CONSENT, or 0. need_grant: give up without; else go
	 * on after a while, and the members' hold decides. */
	unsigned ask_grant;
	bool need_grant;
	bool
	    forced; /* H6: voters named dead need not promise, and leave; key is the recovery key */
	const struct wr_node_id *dead;
	size_t dead_count;
	const struct wr_raise_node *nodes;
	size_t node_count;
	size_t min_data;                 /* REMOVE refuses to go below; 0 counts as 1 */
	int64_t at;                      /* goes into the record */
	uint64_t random[WR_RAISE_TRIES]; /* fresh */
	uint64_t request;    /* requests are numbered from here on: unique among machines */
	uint64_t timeout_ns; /* of the whole; 0: 60 s */
};

enum wr_raise_state {
	WR_RAISE_GRANT = 1,
	WR_RAISE_PREPARE,
	WR_RAISE_INSTALL,
	WR_RAISE_DONE,
	WR_RAISE_FAILED,
};

struct wr_raise; /* opaque */
/* Copies what opts points at, but borrows fleet and key until the end. */
struct wr_raise *wr_raise_new(const struct wr_raise_opts *opts, uint64_t now_ns);
/* The first record of a project, members and writer as given in *first (n, prev, base, hub, sig are
 * filled in): no one is asked, INSTALL only. opts: project, fleet, key, settings, random, request,
 * timeout, at. NULL: err. */
struct wr_raise *wr_raise_new_first(const struct wr_raise_opts *opts, const struct wr_record *first,
				    uint64_t now_ns, struct wr_err *err);
void wr_raise_free(struct wr_raise *r); /* takes NULL */

enum wr_raise_state wr_raise_state(const struct wr_raise *r);
/* The next message to send; false: none now. msg: WR_MSG_INIT before; kind, project, body and
 * request are set, the rest of the envelope is the caller's. */
bool wr_raise_next(struct wr_raise *r, struct wr_node_id *to, struct wr_msg *msg);
/* An answer, its envelope verified; any late, doubled or strange one is harmless. */
void wr_raise_answer(struct wr_raise *r, const struct wr_msg *m, uint64_t now_ns);
/* That node cannot be asked (no connection): do not wait for it. Asked again on a later tick. */
void wr_raise_unreachable(struct wr_raise *r, const struct wr_node_id *node, uint64_t now_ns);
/* Time passed: repeats, decides, gives up. */
void wr_raise_tick(struct wr_raise *r, uint64_t now_ns);
/* When to tick next. */
uint64_t wr_raise_wake(const struct wr_raise *r);

/* The newest record this machine signed; DONE: the result. May be there after FAILED as well: a
 * majority did not answer, or what was wished cannot be and the record is as C was, for the
 * promises had stopped its writer. Whoever has it may go on handing it out. NULL: none. */
const struct wr_record *wr_raise_record(const struct wr_raise *r);
/* The newest record known, signed by whomever. NULL: none. */
const struct wr_record *wr_raise_known(const struct wr_raise *r);
/* FAILED: why, with a hint. */
const struct wr_err *wr_raise_err(const struct wr_raise *r);

#endif
