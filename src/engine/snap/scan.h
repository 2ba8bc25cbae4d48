/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first pass over a live tree: stat everything once, in parallel, and learn what cannot have
 * changed since the stat cache was written.  Gives the totals that progress needs, the groups of
 * hard links, what the rules leave out, and for each directory of the cache whether all below it is
 * as it was.
 */
#ifndef WR_SCAN_H
#define WR_SCAN_H

#include <sys/stat.h>

#include "engine/snap/listing.h"
#include "engine/snap/notes.h"
#include "engine/snap/statcache.h"
#include "engine/snap/sums.h"
#include "sys/pool.h"

struct wr_scan_opts {
	bool one_file_system;
	/* Other mounts are left out even if they show the same file system, and nothing else is
	 * (subvolumes of btrfs are part of their mount); where the kernel does not tell mounts
	 * apart, one_file_system decides. */
	bool no_mounts;
	bool only_own_links; /* files with several names that are not owner's are left out */
	uid_t owner;
	const char *own_link;     /* a link of the root that rules leave out: not worth a word */
	uint64_t max_file_size;   /* larger files are left out; 0 = no limit */
	struct wr_ignore *ignore; /* options' patterns; borrowed, may be NULL */
	dev_t skip_dev;           /* the repository itself, if it lies inside */
	ino_t skip_ino;
	struct wr_sums *sums; /* what folders take now is added; may be NULL */
	/* Called now and then from any thread with running totals; may be NULL. */
	void (*progress)(void *ctx, uint64_t files, uint64_t bytes);
	void *ctx;
};

struct wr_scan; /* result */

/* root_fd: the directory, borrowed, as is cache (may be NULL). Unreadable places are noted by the
 * second pass, not here: this one fails only for lack of the root. */
int wr_scan_run(int root_fd, struct wr_pool *pool, const struct wr_scan_opts *o,
		struct wr_statcache *cache, const char *link_root, struct wr_scan **out,
		struct wr_err *err);
void wr_scan_free(struct wr_scan *s);

/* Non-directories and their apparent bytes. */
void wr_scan_totals(const struct wr_scan *s, uint64_t *out_files, uint64_t *out_dirs,
		    uint64_t *out_bytes);
/* The part of the totals that the cache does not know: what is to be read. */
void wr_scan_todo(const struct wr_scan *s, uint64_t *out_files, uint64_t *out_bytes);
/* What rules left out: number of files, bytes, and the places themselves. */
const struct wr_notes *wr_scan_left_out(const struct wr_scan *s, uint64_t *out_files,
					uint64_t *out_bytes);
/* Why this directory is not entered, as it lies beyond what is saved: static text, NULL if it is
 * part of it. */
const char *wr_scan_beyond(const struct wr_scan *s, int fd, const struct stat *st);
/* Why this file is left out whatever its name: static text, NULL if it is not. */
const char *wr_scan_refuses(const struct wr_scan_opts *o, const struct stat *st);
/* Was this file left out for such a reason? */
bool wr_scan_refused(const struct wr_scan *s, dev_t dev, ino_t ino);
/* Is everything in and below the directory of this cache block as the cache says? */
bool wr_scan_clean(const struct wr_scan *s, uint64_t block);
/* Key of the hard-link group of an inode with several names: link_root/PATH of the name that sorts
 * last (what a fresh `bup index` of the tree records).  Appended to *out; gives the number of names
 * met in the tree, 0 if the inode was not met.  When parts of the tree could not be looked at there
 * may be more names: then at least 2. */
unsigned wr_scan_link_key(const struct wr_scan *s, dev_t dev, ino_t ino, struct wr_buf *out);
uint32_t wr_link_hash(const void *key, size_t len); /* never 0 */

#endif
