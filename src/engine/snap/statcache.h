/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a directory tree looked like when a known snapshot was made of it: stat results beside
 * object ids, so that an unchanged file is known by one stat(2).  One file per source directory,
 * REPO/warren/stat/KEY; blocks (one per directory, each with its own checksum) are only ever
 * appended, children before parents, and a pair of header slots names the newest root.  A torn or
 * foreign file is an empty cache, never an error.
 *
 * Trust: the ids are only as good as the snapshot they came from.  The opener checks that `commit`
 * is still reachable in this repository; then the repository holds everything below `tree`.
 */
#ifndef WR_STATCACHE_H
#define WR_STATCACHE_H

#include <sys/stat.h>

#include "base/ts.h"
#include "engine/repo/repo.h"
#include "engine/snap/dirview.h"

struct wr_statcache;

/* Stat fields by which a change is seen. */
struct wr_statkey {
	uint32_t mode, uid, gid, nlink;
	uint32_t mtime_ns, ctime_ns;
	int64_t mtime_s, ctime_s;
	uint64_t size, ino;
};
void wr_statkey_of(const struct stat *st, struct wr_statkey *out);

struct wr_cached {             /* one entry of a directory; fixed part as it lies in the file */
	struct wr_statkey key; /* directories: all zero (their own block has it) but size, which
				  is the subtree_bytes of their block */
	uint64_t child;        /* directories: offset of their block, 0 if there is none */
	struct wr_id id;       /* blob or chunk tree; directories: their tree */
	uint32_t link_hash;    /* of the hard-link key, 0 if nlink was 1; directories: nonzero if
				  there are hard links below */
	uint16_t name_len;
	uint8_t kind; /* enum wr_kind; special files are WR_KIND_FILE */
	uint8_t chunked;
	uint8_t trusted; /* 0: changed too recently when it was read, look again */
	uint8_t pad[11];
};

struct wr_cached_dir {
	struct wr_statkey key; /* of the directory itself; size and nlink are 0 */
	uint64_t dev;
	struct wr_id tree;
	uint32_t count;
	uint64_t subtree_bytes; /* this block and all below it */
	bool has_links;         /* hard links here or below */
	const uint8_t *at;      /* entries ascending by name; read with wr_cached_next */
	size_t left;
	struct wr_buf storage;
};
#define WR_CACHED_DIR_INIT \
	{                  \
		0          \
	}

/* Open the cache of source directory `source` (absolute path; dev and ino of the directory as a
 * check). Never fails for a damaged file. With write, an appendable one is made if there is none.
 */
int wr_statcache_open(struct wr_repo *r, const char *source, struct wr_statcache **out,
		      struct wr_err *err);
void wr_statcache_close(struct wr_statcache *c);
/* Root block and what it stands for; false if empty. */
bool wr_statcache_root(const struct wr_statcache *c, uint64_t *out_block, struct wr_id *out_tree,
		       struct wr_id *out_commit);
/* Drop everything: the next commit starts a new file. */
void wr_statcache_reset(struct wr_statcache *c);

/* Read the block at off. False if damaged: treat the directory as unknown. Thread safe. */
bool wr_statcache_read(const struct wr_statcache *c, uint64_t off, struct wr_cached_dir *out);
/* Take apart the block in d->storage. False if it is damaged. */
bool wr_cached_dir_parse(struct wr_cached_dir *d);
void wr_cached_dir_fini(struct wr_cached_dir *d);
/* Next entry; *name borrows from the block. False at the end. */
bool wr_cached_next(struct wr_cached_dir *d, struct wr_cached *out, const char **name);

/* Build a block: begin, add entries ascending by name, append. */
struct wr_block {
	struct wr_buf bytes;
	uint32_t count;
	uint64_t below; /* subtree_bytes of child blocks, summed by wr_block_add */
	bool has_links;
};
#define WR_BLOCK_INIT \
	{             \
		0     \
	}
void wr_block_add(struct wr_block *b, const struct wr_cached *e, const char *name);
void wr_block_fini(struct wr_block *b);
/* Append to the file: offset in *out. Thread safe. Failure (full disk) is not an error of the save:
 * the cache then just is not renewed; -1 without err. */
int wr_statcache_append(struct wr_statcache *c, struct wr_block *b, const struct wr_statkey *dir,
			uint64_t dev, const struct wr_id *tree, uint64_t *out,
			uint64_t *out_subtree_bytes);
/* Make `root` the newest state. Compacts when less than half of the file is in use. */
void wr_statcache_commit(struct wr_statcache *c, uint64_t root, const struct wr_id *tree,
			 const struct wr_id *commit);

/* Was the file changed so recently that another change could leave the same times?  now: the inode
 * clock read before st was taken.  A file whose mtime was set back after its last change (as a
 * restore does) shows any later write by its mtime. */
bool wr_stat_racy(const struct wr_statkey *k, struct wr_ts now);

#endif
