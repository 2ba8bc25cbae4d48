/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside a restore.  restore.c prepares and concludes; restore_dir.c walks, one task per directory;
 * restore_file.c settles one entry that is not a directory; restore_data.c brings content;
 * restore_cache.c keeps the stat cache.
 */
#ifndef WR_RESTORE_INT_H
#define WR_RESTORE_INT_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "engine/snap/apply.h"
#include "engine/snap/content.h"
#include "engine/snap/fsmeta.h"
#include "engine/snap/hardlink.h"
#include "engine/snap/restore.h"
#include "engine/snap/scan.h"
#include "sys/pool.h"

#define WR_RS_TMP_PREFIX ".warren-tmp-"
#define WR_RS_TMP_LEN (sizeof(WR_RS_TMP_PREFIX) - 1 + 12)

/* Buffers of one thread. */
struct wr_rs_worker {
	struct wr_reader *reader;
	struct wr_content *content; /* to hash live files; made on first use */
	struct wr_listing listing;
	struct wr_metabuf live;
	struct wr_buf scratch, scratch2, object, path, shown;
	struct wr_rs_feed *feed; /* of restore_data.c; made on first use */
	struct wr_idmap zero;    /* blobs and chunk trees of nothing but zeros -> their length */
};

/* What is counted for the receipt. */
struct wr_rs_count {
	atomic_ullong files, dirs, created, replaced, metadata, deleted, unchanged, kept, bytes;
};

struct wr_rs {
	struct wr_repo *repo;
	const struct wr_restore_opts *o;
	struct wr_pool *pool;
	struct wr_rs_worker *worker; /* one per thread */
	struct wr_apply apply;
	struct wr_names *names; /* to read live metadata */
	struct wr_relinks *links;
	struct wr_rs_count n;
	int root_fd;    /* of the target */
	dev_t repo_dev; /* the repository, which may lie inside the target */
	ino_t repo_ino;
	uint64_t mount; /* with no_mounts: of the target */
	bool guarded;   /* a safety snapshot was made: touch nothing that is not in it */
	bool lone;      /* one file, protected by `alone` instead of the stat cache */
	struct wr_statkey alone;

	/* The stat cache of the target: read from, and (with `keep`) a new state appended to. */
	struct wr_statcache *cache;
	struct wr_scan *scan; /* NULL: the cache is as of now */
	bool use_cache, keep;
	atomic_bool keep_failed;
	uint64_t root_block; /* of the new state */

	atomic_bool failed; /* stop: no space, or the like */
	pthread_mutex_t mutex;
	struct wr_err err;              /* the first failure; guarded by mutex */
	struct wr_notes skipped;        /* guarded by mutex */
	struct wr_restore_texts *texts; /* guarded by mutex */
	atomic_ullong lost[WR_LOST_KINDS];
	struct wr_buf lost_at[WR_LOST_KINDS]; /* the first path; guarded by mutex */
};

/* What became of an entry. */
enum wr_rs_state {
	WR_RS_OPEN = 0,
	WR_RS_DONE,    /* as the snapshot has it; key holds its stat */
	WR_RS_NOT,     /* not as the snapshot has it */
	WR_RS_PLANNED, /* dry run */
	WR_RS_LATER,   /* a directory must go first */
	WR_RS_GONE,    /* not wanted, and away */
};

/* One name of a directory: wanted, there, or both. */
struct wr_rs_item {
	const char *name;
	const struct wr_dirent *want;   /* NULL: not in the snapshot */
	const struct wr_dirent *have;   /* in the snapshot that the cache stands for; may be NULL */
	const struct wr_cached *cached; /* may be NULL */
	uint16_t name_len;
	uint8_t type;  /* d_type of what is there, DT_UNKNOWN (0): nothing */
	bool dir;      /* a task of its own */
	bool left_out; /* by rules: neither overwritten nor deleted */
	uint8_t state; /* enum wr_rs_state */
	bool trusted;
	uint32_t link_hash;
	struct wr_statkey key;
	uint64_t child; /* directories: new block, its size in key.size, its tree */
	struct wr_id child_tree;
};

struct wr_rs_dir {
	struct wr_rs *rs;
	struct wr_rs_dir *up;
	struct wr_rs_item *in_up; /* NULL for the root */
	char *name;               /* "" for the root */
	unsigned depth;
	int fd;            /* -1: not there (dry run) */
	bool existed;      /* before this restore */
	bool done;         /* taken over, or not to be entered */
	bool remove;       /* nothing of it is wanted */
	bool fresh;        /* the cache block tells what is there without looking */
	bool inherits;     /* what is created here may get ACLs or flags from it */
	bool dress;        /* its metadata is to be as wanted */
	bool differs;      /* and is not */
	struct wr_id tree; /* wanted */
	struct wr_dirview want, have_own;
	const struct wr_dirview *have; /* of the cache's snapshot: &want, &have_own or NULL */
	struct wr_cached_dir block;
	struct wr_rs_cached {
		struct wr_cached c;
		const char *name; /* in block */
	} * cached;
	size_t cached_count;
	struct wr_rules rules;
	struct wr_rs_item *item;
	size_t count;
	struct wr_buf names; /* of items that are not wanted */
	struct stat st;
	struct wr_ts now;    /* inode clock before the last stat */
	uint64_t old_block;  /* 0: none */
	bool unlocked;       /* guarded by rs->mutex: what forbids changes was taken away */
	atomic_bool touched; /* an entry was made or removed */
	atomic_bool inexact; /* not all as wanted */
	atomic_uint pending;
};

static inline struct wr_rs_worker *
wr_rs_self(const struct wr_rs *rs)
{
	return &rs->worker[wr_pool_self(rs->pool)];
}

/* ---- restore.c ---- */

/* Path of dir/name (name NULL: of dir) relative to the target, in out. */
void wr_rs_path(const struct wr_rs_dir *d, const char *name, struct wr_buf *out);
/* List as skipped; the entry or directory is then not exact. reason: static. */
void wr_rs_skip(struct wr_rs_dir *d, const char *name, const char *reason);
/* The same with the text of an error, which is copied. Damage is noted; lack of space and the like
 * ends the restore. */
void wr_rs_skip_err(struct wr_rs_dir *d, const char *name, const struct wr_err *err);
/* The same with errno. */
void wr_rs_skip_sys(struct wr_rs_dir *d, const char *name, const char *what);
/* Metadata that could not be set is counted and told once per kind. */
void wr_rs_lost(struct wr_rs_dir *d, const char *name, unsigned lost);
/* Count and tell one action. */
void wr_rs_did(struct wr_rs_dir *d, const char *name, const char *op, atomic_ullong *counter);

/* ---- restore_dir.c ---- */

/* Task: arg is a struct wr_rs_dir, which it frees in the end. */
void wr_rs_dir_run(void *arg);
struct wr_rs_dir *wr_rs_dir_new(struct wr_rs *rs, struct wr_rs_dir *up, struct wr_rs_item *in_up,
				const char *name);
void wr_rs_dir_free(struct wr_rs_dir *d);
/* The directory is about to change: take away what forbids it. */
void wr_rs_touch(struct wr_rs_dir *d);

/* ---- restore_file.c ---- */

/* Bring a wanted entry that is no directory, or remove one that is not wanted. */
void wr_rs_entry(struct wr_rs_dir *d, struct wr_rs_item *it);
/* May what is there (st: now) be overwritten or removed? Lists why not. */
bool wr_rs_may_touch(struct wr_rs_dir *d, struct wr_rs_item *it, const struct stat *st);
/* Remove it if so, by any name of the directory. */
bool wr_rs_remove(struct wr_rs_dir *d, struct wr_rs_item *it);

/* ---- restore_data.c ---- */

/* Write the content to fd, which is new and empty.  Runs of zeros become holes in larger files.
 * *out_damaged: the repository's fault, not the target's. */
int wr_rs_content(struct wr_rs *rs, int fd, const struct wr_id *id, bool chunked,
		  uint64_t *out_bytes, bool *out_damaged, struct wr_err *err);
void wr_rs_feed_free(struct wr_rs_feed *f); /* NULL is fine */

/* ---- restore_cache.c ---- */

/* Is the directory's cache block still true, and its tree the wanted one? Then count what is below
 * as unchanged and take the block over. */
bool wr_rs_take_subtree(struct wr_rs_dir *d);
/* The block of a directory that is done. */
void wr_rs_store_block(struct wr_rs_dir *d);
/* Before the walk: register hard links inside of what will be taken over. */
void wr_rs_known_links(struct wr_rs *rs, const struct wr_id *tree);
/* After it: stat results of hard links, which change with every name that is added. */
void wr_rs_settle_links(struct wr_rs *rs, const struct wr_id *tree, const struct wr_id *commit);

#endif
