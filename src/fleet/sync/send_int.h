/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sender's state, and what its files share. Each uses those above it:
 *
 *   send_find.c  what the far side lacks
 *   send_plan.c  in which order it goes; the newest state first; what came before
 *   send_mend.c  what a damaged far side wants
 *   send_data.c  entries
 *   send.c       frames, the machine
 */
#ifndef WR_SEND_INT_H
#define WR_SEND_INT_H

#include "fleet/sync/sync_int.h"

enum wr_send_state {
	WR_SEND_HELLO = 1,
	WR_SEND_REFS,
	WR_SEND_HISTORY,
	WR_SEND_HAVES,
	WR_SEND_TREES,
	WR_SEND_FULL,
	WR_SEND_PLAN,
	WR_SEND_REACH,
	WR_SEND_WANT,
	WR_SEND_TRY,
	WR_SEND_HELD,
	WR_SEND_DATA,
	WR_SEND_DONE,
};

struct wr_send_have {
	uint32_t ref;
	struct wr_id id;
};

/* Numbers of what is planned, by id. */
struct wr_send_table {
	uint32_t *slot; /* number + 1 */
	size_t cap;
};

/* A packed object to be sent. */
struct wr_send_item {
	uint64_t off, end;
	uint32_t pack, pos;
};

struct wr_send_pack {
	/* all borrowed from the repository, which keeps them until it is closed */
	const char *name;
	const struct wr_idx *idx;
	size_t number; /* in the repository, at the time of planning */
	bool has_new, has_base;
};

struct wr_send {
	struct wr_sync m;
	uint64_t waste, first_bytes;
	bool newest_first;
	enum wr_send_state state;
	unsigned again;

	struct wr_sync_list far;
	size_t far_total;
	bool can_resume;
	bool mend;       /* the far side is damaged */
	size_t offer_at; /* items, then loose ones: before it all was offered, or tried */
	bool asked_more;
	struct wr_send_have *have;
	size_t have_count, have_cap;

	struct wr_hist hist;
	struct wr_idmap base_id; /* of what the far side has: known refs, trees of commits met */
	struct wr_id *tree;      /* trees that refs and tags name */
	size_t tree_count, tree_cap;
	size_t *fresh, fresh_count, fresh_at;
	struct wr_pairs pairs;

	struct wr_id_marks seen;
	uint64_t *packed; /* ordinals */
	size_t packed_count, packed_cap;
	struct wr_id *loose;
	size_t loose_count, loose_cap;
	struct wr_full full;
	bool full_done;

	struct wr_send_pack *pack;
	size_t pack_count;
	struct wr_send_item *item;
	size_t item_count;
	struct wr_stream_id stream;
	uint64_t at;                /* number in the plan: before it all is sent or held */
	struct wr_send_table table; /* while HELD comes */
	uint64_t told;              /* ids in HELD so far */
	uint8_t *held;              /* by number in the plan */

	/* newest first */
	bool first_on, first_done;
	struct wr_buf tip;     /* the commit, as it is */
	struct wr_id newest;   /* the one that stands for it */
	struct wr_buf made;    /* its payload */
	struct wr_id tip_tree; /* of both */
	int64_t tip_time;
	bool has_far_tree;
	struct wr_id far_tree; /* of the far side's refs/warren/latest, if it is ours to know */
	struct wr_pack open;
	size_t open_pack; /* number in pack + 1 */
	struct wr_pack_reader *pr;
	struct wr_deflater *deflater;
	struct wr_buf data, payload;
};

/* ---- send_find.c ---- */

/* What was found, planned and begun to be sent. */
void wr_send_forget(struct wr_send *s);
/* To be sent; true: it is new. */
bool wr_send_add(struct wr_send *s, const struct wr_id *id);
/* Are all refs of the target where the far side has them already? Then nothing is looked at. */
bool wr_send_far_has_all(struct wr_send *s);
int wr_send_history(struct wr_send *s, struct wr_err *err);
/* Would it help to know more of the far side's branches? */
bool wr_send_want_more(const struct wr_send *s);
/* Behind the history: trees, then slices of them. */
void wr_send_trees(struct wr_send *s);
int wr_send_work_trees(struct wr_send *s, struct wr_err *err);

/* ---- send_plan.c: packed objects, then loose ones, then the commit that is made ---- */

int wr_send_make_items(struct wr_send *s, struct wr_err *err);
size_t wr_send_planned(const struct wr_send *s);
struct wr_id wr_send_nth(const struct wr_send *s, size_t i);
struct wr_id wr_send_item_id(const struct wr_send *s, size_t i);
/* Name the stream and announce it. */
void wr_send_begin(struct wr_send *s);
int wr_send_work_plan(struct wr_send *s, struct wr_err *err);
/* The far side begins again: with the newest state, or because its refs had moved. */
void wr_send_end_first(struct wr_send *s);
/* Of the ids told: which are of the plan, each once? They are not sent again. */
int wr_send_on_held(struct wr_send *s, struct wr_rd *r, struct wr_err *err);

/* ---- send_mend.c ---- */

/* Refs that the far side alone keeps may be known here, too. */
void wr_send_reach(struct wr_send *s);
int wr_send_work_reach(struct wr_send *s, struct wr_err *err);
int wr_send_on_want(struct wr_send *s, struct wr_rd *r, struct wr_err *err);
void wr_send_work_try(struct wr_send *s);

/* ---- send_data.c ---- */

int wr_send_work_data(struct wr_send *s, struct wr_err *err);

#endif
