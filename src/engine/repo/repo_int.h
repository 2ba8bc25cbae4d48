/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of this folder: what stands behind struct wr_repo.
 *
 * Looking things up never takes a lock.  The packs known at one time form an immutable set; a
 * refresh builds the next set and publishes it with one pointer store.  Entries and old sets live
 * until the repository is closed, so a thread that still looks at an old set is safe.
 */
#ifndef WR_REPO_INT_H
#define WR_REPO_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/pack/pack.h"
#include "engine/repo/repo.h"
#include "engine/repo/resolve.h"

/* LIMIT: packs open at once. */
#define WR_PACK_FDS_MAX 200
/* LIMIT: a full ref name. */
#define WR_REF_NAME_MAX 1024
/* LIMIT: symbolic refs and tags of tags followed. */
#define WR_REF_DEPTH_MAX 5

/* Which file a name stood for when it was opened. */
struct wr_file_key {
	uint64_t ino, size;
	int64_t mtime_s;
	int64_t mtime_ns;
};

struct wr_pack_ent {
	char *name; /* "pack-<hex>" */
	struct wr_idx idx;
	bool has_idx;
	char *idx_why; /* why there is no usable index; NULL when has_idx */
	struct wr_file_key idx_key;
	uint64_t base;       /* ordinal of its first object; never given out again */
	unsigned generation; /* guarded by refresh_mutex: the last scan that saw it */

	/* guarded by fd_mutex */
	struct wr_pack pack;
	unsigned users;
	bool pinned;
	uint64_t used;
};

struct wr_midx_ent {
	char *file; /* "midx-<hex>.midx" */
	struct wr_file_key key;
	struct wr_midx midx;
	struct wr_pack_ent **pack; /* of each name in midx; NULL: unusable, keep away */
};

/* Fixed after publication, but for hot. */
struct wr_packset {
	struct wr_packset *older;
	struct wr_pack_ent **pack; /* ascending base */
	size_t count;
	struct wr_pack_ent **bare; /* those with an index that no midx covers */
	size_t bare_count;
	struct wr_midx_ent **midx;
	size_t midx_count;
	char **orphan; /* indexes without their pack, base names */
	size_t orphan_count;
	uint64_t objects;
	uint64_t map_bytes;
	atomic_size_t hot; /* into bare: where the last hit was */
};

/* Blocked Bloom filter over the ids of all packs: one cache line per question. */
struct wr_id_filter {
	struct wr_id_filter *older;
	uint64_t *word; /* blocks of 8 */
	uint64_t block_mask;
	uint64_t planned, count;
};

struct wr_repo {
	char *path;
	int fd, objects_fd, pack_fd, stat_fd;
	struct wr_repo_config config;
	bool split_unknown; /* bup.split.files asks for a way of cutting that we do not know */

	struct wr_lock lock;
	char *lock_note;
	const char *ref_lock[2]; /* ref files now locked, named in the note */

	struct wr_packset *_Atomic set;
	struct wr_id_filter *_Atomic filter;
	atomic_uint_fast64_t probes; /* index searches that missed while there was no filter */

	pthread_mutex_t refresh_mutex; /* guards what follows and the making of sets */
	struct wr_pack_ent **ent;      /* all that ever were */
	size_t ent_count, ent_cap;
	struct wr_midx_ent **midx;
	size_t midx_count, midx_cap;
	struct wr_id_filter *filters; /* all that ever were */
	uint64_t next_base;
	unsigned generation;
	struct wr_file_key dir_key; /* of objects/pack at the last scan */
	bool dir_settled;           /* dir_key was old enough then to tell a later change */

	pthread_mutex_t fd_mutex; /* guards what follows and the fd part of the entries */
	struct wr_pack_ent *open_ent[WR_PACK_FDS_MAX];
	size_t open_count;
	uint64_t tick;
};

struct wr_reader {
	struct wr_repo *repo;
	struct wr_pack_reader *pr;
	struct wr_buf buf; /* scratch of read_commit, stat_object and the like */
};

/* ---- config.c ---- */

/* value NULL: a key without "=", which means true. key: section and variable in lower case. */
typedef void (*wr_config_fn)(void *ctx, const char *key, const char *value);
/* Walk git's configuration syntax; includes are not followed. WR_E_CORRUPT tells the line. */
int wr_config_parse(const void *p, size_t len, wr_config_fn fn, void *ctx, struct wr_err *err);
/* Read REPO/config into r->config. */
int wr_repo_config_load(struct wr_repo *r, struct wr_err *err);

/* ---- odb.c ---- */

int wr_odb_open(struct wr_repo *r, struct wr_err *err);
void wr_odb_close(struct wr_repo *r);
/* Refresh only if objects/pack may have changed; *out_changed: there is a new set. */
int wr_odb_refresh_if_changed(struct wr_repo *r, bool *out_changed, struct wr_err *err);
/* Where id lies, NULL if in no pack. */
struct wr_pack_ent *wr_odb_find(struct wr_repo *r, const struct wr_packset *s,
				const struct wr_id *id, uint32_t *out_pos);
/* The opened pack of an entry, until wr_odb_release. */
const struct wr_pack *wr_odb_acquire(struct wr_repo *r, struct wr_pack_ent *e, struct wr_err *err);
void wr_odb_release(struct wr_repo *r, struct wr_pack_ent *e);
/* Give the pages of an index back that a walk over all of it made resident. */
void wr_odb_forget_pages(const struct wr_pack_ent *e);

/* ---- read.c ---- */

/* Call fn for every object with this hex prefix, perhaps twice for one; nonzero ends the walk. */
typedef int (*wr_abbrev_fn)(void *ctx, const struct wr_id *id);
int wr_abbrev_each(struct wr_repo *r, const char *hex, wr_abbrev_fn fn, void *ctx,
		   struct wr_err *err);

/* ---- refs.c ---- */

/* Is this a full ref name that git would accept: refs/... or HEAD? */
bool wr_ref_full_ok(const char *name, size_t len);
/* The content of a loose ref: an id, or *out_target (caller frees) of a symbolic one. */
int wr_loose_ref_parse(const void *p, size_t len, struct wr_id *out, char **out_target,
		       struct wr_err *err);
/* The content of packed-refs, sorted by name. */
int wr_packed_refs_parse(const void *p, size_t len, struct wr_refs *out, struct wr_err *err);
/* repair.c; durable when it returns. */
int wr_repo_drop_midx(struct wr_repo *r, struct wr_err *err);
/* As wr_refs_list, but a packed-refs that cannot be read is told in *out_packed_err (code
 * WR_E_NONE: fine) and the loose refs are listed all the same. */
int wr_refs_list_lenient(struct wr_repo *r, const char *prefix, struct wr_refs *out,
			 struct wr_err *out_packed_err, struct wr_err *err);
/* The branch that HEAD names, without refs/heads/, born or not; NULL if it names none. */
char *wr_head_branch(struct wr_repo *r);
/* Remove ref locks that a note of a dead writer names. */
void wr_ref_clean(struct wr_repo *r, const char *note);

/* ---- resolve.c ---- */

/* A name as typed, cut into its parts. */
struct wr_spec {
	char *token;   /* all before ":PATH" */
	size_t leaf;   /* where in token the part after the last '/' begins */
	bool has_time; /* the leaf reads as a time */
	int64_t time;  /* up to when, inclusive */
	char *path;    /* NULL: none */
};
void wr_spec_fini(struct wr_spec *s);
void wr_spec_parse(const char *spec, int64_t now, struct wr_spec *out);
/* Follow tag objects to what they tag; *out_type is what that is. */
int wr_peel(struct wr_reader *rd, const struct wr_id *id, struct wr_id *out,
	    enum wr_obj_type *out_type, struct wr_err *err);
/* First-parent history from tip, newest first, named.  *out holds what could be read also on
 * failure; *out_bad then is the commit that could not be. */
int wr_history(struct wr_reader *rd, const struct wr_id *tip, const char *branch,
	       struct wr_snaps *out, struct wr_id *out_bad, struct wr_err *err);

#endif
