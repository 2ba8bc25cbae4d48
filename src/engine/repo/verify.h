/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is everything there and whole?  Indexes against packs, refs, and the closure of every tip: each
 * commit, tree and blob that a ref reaches.  With data, every object is read and hashed.
 * Repair writes new things only: an index for a pack that lost its own, good copies of damaged or
 * missing objects.
 */
#ifndef WR_VERIFY_H
#define WR_VERIFY_H

#include "engine/repo/repo.h"
#include "engine/repo/resolve.h"
#include "engine/pack/pack.h"

struct wr_pool;

struct wr_verify_opts {
	bool data;
	unsigned threads; /* 0: one per CPU */
	wr_progress_fn progress;
	void *ctx;
	uint64_t total_bytes; /* set before the first progress call: what done runs up to */
};

enum wr_damage_kind {
	WR_DAMAGE_MISSING = 1, /* reached, in no pack and not loose */
	WR_DAMAGE_BAD,         /* every copy is damaged */
	WR_DAMAGE_SHADOWED,    /* a copy is damaged, another is good */
	WR_DAMAGE_INDEX,       /* index unreadable or not of this pack */
	WR_DAMAGE_PACK,        /* pack unreadable, cut short, wrong trailer */
	WR_DAMAGE_REF,         /* ref that does not parse or leads nowhere */
	WR_DAMAGE_UNINDEXED,   /* a pack without index: a killed writer's, in nobody's way */
};

struct wr_damage {
	enum wr_damage_kind kind;
	struct wr_id id; /* of an object; zero for index, pack, ref */
	char *where;     /* pack, index or ref name; NULL for missing */
	char *why;
};

/* A path of a snapshot that a damaged or missing object takes away. */
struct wr_hurt {
	struct wr_id commit;
	char *snapshot;     /* BRANCH/NAME, or the tag's name */
	struct wr_buf path; /* "" = the root itself */
	struct wr_id object;
};

struct wr_verify_result {
	uint64_t packs, objects, bytes, refs, snapshots;
	struct wr_damage *damage;
	size_t damage_count, damage_cap;
	struct wr_hurt *hurt;
	size_t hurt_count, hurt_cap;
	uint64_t hurt_more; /* LIMIT: 10,000 are listed, the rest is counted */
};
void wr_verify_result_fini(struct wr_verify_result *v);
/* True if nothing that a snapshot needs is damaged or missing (shadowed copies are fine). */
bool wr_verify_whole(const struct wr_verify_result *v);

/* -1 only if it could not be carried out; damage is in *out. */
int wr_verify(struct wr_repo *r, struct wr_verify_opts *o, struct wr_verify_result *out,
	      struct wr_err *err);
/* Rebuild indexes that are missing or damaged (under the lock): a fresh, complete index replaces
 * the unusable one by rename, the pack is never touched. *out_rebuilt counts. */
int wr_repair_indexes(struct wr_repo *r, uint64_t *out_rebuilt, struct wr_err *err);

/* ---- aside.c ---- */

/* Damaged packs ("pack-HEX", also where only the index is left) go to REPO/warren/aside, under the
 * lock; objects of needed (what refs reach) that they alone still have good are stored again first.
 * WR_E_CORRUPT: one of those cannot be read, and all stay. */
int wr_repo_set_aside(struct wr_repo *r, const char *const *pack, size_t count,
		      const struct wr_idmap *needed, int64_t now, size_t *out_moved,
		      struct wr_err *err);
/* Delete what lies aside for longer than floor_s; negative: nothing. */
int wr_repo_drop_aside(struct wr_repo *r, int64_t now, int64_t floor_s, struct wr_err *err);

#endif
