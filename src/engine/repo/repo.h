/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A repository: open and init, configuration, reading objects wherever they lie, the one lock.
 *
 *   REPO/                     a bare git repository as bup makes it
 *     objects/pack/           packs, indexes, midx
 *     warren/lock             flock: one writer; holds a note on who and what
 *     warren/stat/KEY         stat caches, one per saved directory (engine/snap/statcache.h)
 *
 * Everything below warren/ may be deleted at any time when no Warren runs; it is rebuilt.
 * Thread safety: reading is thread safe with one wr_reader per thread; the rest is not.
 */
#ifndef WR_REPO_H
#define WR_REPO_H

#include "base/buf.h"
#include "engine/object/commit.h"
#include "engine/object/id.h"
#include "sys/lock.h"

struct wr_repo;
struct wr_reader; /* per thread: decoder, buffers, delta scratch */

struct wr_repo_config {
	unsigned split_bits;      /* bup.split.files legacy:N; 13 without it */
	bool split_trees;         /* bup.split.trees: read only for us */
	uint64_t pack_size_limit; /* bytes, pack.packSizeLimit; default 10^9 */
	char id[32];              /* bup.repo.id, "" without */
};

/* Make a repository at path (an existing empty directory or none), as `git init --bare` and
 * `bup init` leave it, with bup.split.files = legacy:N if split_bits != 13, and a bup.repo.id.
 * On an existing repository: nothing is changed, *out_existed is set. */
int wr_repo_init(const char *path, unsigned split_bits, bool *out_existed, struct wr_err *err);
#define WR_SPLIT_BITS_DEFAULT 16 /* doc/decision/0002-split-bits.md */

/* Open for reading. WR_E_NOT_FOUND with a hint if there is none, WR_E_UNSUPPORTED for sha256,
 * reftable or a repositoryformatversion above 1; path/.git is used if path is a work tree. */
int wr_repo_open(const char *path, struct wr_repo **out, struct wr_err *err);
void wr_repo_close(struct wr_repo *r); /* drops the lock; NULL is fine */
const char *wr_repo_path(const struct wr_repo *r);
const struct wr_repo_config *wr_repo_config(const struct wr_repo *r);
int wr_repo_objects_fd(const struct wr_repo *r); /* borrowed */
int wr_repo_fd(const struct wr_repo *r);         /* borrowed */
/* warren/stat, made on demand; borrowed, -1 with err. */
int wr_repo_stat_fd(struct wr_repo *r, struct wr_err *err);

/* The writer's lock. wait_s as wr_lock_take. Cleans up what a killed writer left: pack-tmp-warren-*
 * and a ref lock named in its note. Refused (WR_E_UNSUPPORTED) when split_trees is set. */
int wr_repo_lock(struct wr_repo *r, const char *what, int wait_s, struct wr_err *err);
void wr_repo_unlock(struct wr_repo *r);
bool wr_repo_locked(const struct wr_repo *r); /* by this wr_repo */

struct wr_reader *wr_reader_new(struct wr_repo *r);
void wr_reader_free(struct wr_reader *rd);

/* In a pack (what bup means by "already stored")? Thread safe. */
bool wr_repo_has(struct wr_repo *r, const struct wr_id *id);
/* Anywhere: packs, loose. */
bool wr_repo_exists(struct wr_repo *r, const struct wr_id *id);
/*
 * Read an object: *out replaced.  Looks into every pack that has it, then loose ones, until a copy
 * reads well.  want = WR_OBJ_NONE takes any type, otherwise another type is WR_E_CORRUPT.
 * WR_E_NOT_FOUND if it is nowhere, WR_E_CORRUPT if every copy is damaged; both name the object.
 * check_hash: also recompute the id.
 */
int wr_repo_read(struct wr_reader *rd, const struct wr_id *id, enum wr_obj_type want,
		 bool check_hash, enum wr_obj_type *out_type, struct wr_buf *out,
		 struct wr_err *err);
int wr_repo_stat_object(struct wr_reader *rd, const struct wr_id *id, enum wr_obj_type *out_type,
			uint64_t *out_size, struct wr_err *err);
int wr_repo_read_commit(struct wr_reader *rd, const struct wr_id *id, struct wr_commit *out,
			struct wr_err *err);
/* Look for packs again (after a writer published one, or a lookup missed). */
int wr_repo_refresh(struct wr_repo *r, struct wr_err *err);
/* Write a midx over the indexes that none covers once there are more than a handful. A cache:
 * failure is reported in err but harms nothing. */
int wr_repo_index_maintain(struct wr_repo *r, struct wr_err *err);

/* The packs, for verify and stat: 0 .. count-1, valid until the next refresh. */
struct wr_pack;
struct wr_idx;
size_t wr_repo_pack_count(const struct wr_repo *r);
const char *wr_repo_pack_name(const struct wr_repo *r, size_t i);         /* "pack-<hex>" */
const struct wr_idx *wr_repo_pack_idx(const struct wr_repo *r, size_t i); /* NULL: unreadable */
struct wr_pack *wr_repo_pack(struct wr_repo *r, size_t i, struct wr_err *err); /* opened */
/* A dense number for a packed object: pack and position; -1 if not packed. */
int64_t wr_repo_ordinal(struct wr_repo *r, const struct wr_id *id);
uint64_t wr_repo_ordinal_end(const struct wr_repo *r); /* one above the largest */
struct wr_id wr_repo_ordinal_id(const struct wr_repo *r, uint64_t ordinal);
/* The pack (as wr_repo_pack_name takes it) and the position in its index; -1 if it is gone. */
int64_t wr_repo_ordinal_pack(const struct wr_repo *r, uint64_t ordinal, uint32_t *out_pos);

/* Objects with this hex prefix (4..40 digits): 0 and *out if exactly one. */
int wr_repo_abbrev(struct wr_repo *r, const char *hex, struct wr_id *out, struct wr_err *err);

/* ---- refs (repo/refs.c) ---- */

struct wr_ref {
	char *name; /* full: refs/heads/main */
	struct wr_id id;
};
struct wr_refs {
	struct wr_ref *ref; /* sorted by name */
	size_t count;
};
void wr_refs_fini(struct wr_refs *r);
/* All refs below prefix ("refs/heads/"), loose ones win over packed-refs. */
int wr_refs_list(struct wr_repo *r, const char *prefix, struct wr_refs *out, struct wr_err *err);
/* WR_E_NOT_FOUND if absent. Symbolic refs are followed, at most 5 deep. */
int wr_ref_read(struct wr_repo *r, const char *name, struct wr_id *out, struct wr_err *err);
/*
 * Compare-and-set under the repository's lock: old NULL = must not exist, a zero id = do not care.
 * WR_E_CHANGED when it moved.  Durable when it returns: REF.lock, fsync, rename, fsync of the
 * directory; one reflog line with message.
 */
int wr_ref_update(struct wr_repo *r, const char *name, const struct wr_id *id,
		  const struct wr_id *old, const char *ident, const char *message,
		  struct wr_err *err);
/* Delete a ref, also from packed-refs; its reflog line remains findable in the message of the
 * caller's receipt (the id is the way back). */
int wr_ref_delete(struct wr_repo *r, const char *name, const struct wr_id *old, struct wr_err *err);
/* Since when it is what it is, in seconds, by its reflog; false: that does not tell. */
bool wr_ref_since(struct wr_repo *r, const char *name, int64_t *out);

#endif
