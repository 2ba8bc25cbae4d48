/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the folders of a tree take, counted by the way while a save looks at everything: now (blocks
 * on disk, files), and in the repository, where each save adds what it stored for them.  Folders
 * down to some depth count by themselves, what is deeper counts as the last of these above it.
 *
 * Kept in REPO/warren/sums/KEY (KEY as of the stat cache): the heaviest folders and the totals.  It
 * may be lost or old at any time; wr_usage_measure makes it anew from the history.
 * doc/format/stat-cache.md
 */
#ifndef WR_SUMS_H
#define WR_SUMS_H

#include "engine/repo/repo.h"

/* LIMITs */
#define WR_SUMS_DEPTH 3            /* folders within each other that count by themselves */
#define WR_SUMS_FOLDERS (1u << 15) /* while counting; later ones count as those above them */
#define WR_SUMS_KEPT 256           /* in the file: that many by each of the two sums */

struct wr_sums;
struct wr_fold; /* a folder that counts by itself */

struct wr_sums *wr_sums_new(void);
void wr_sums_free(struct wr_sums *s); /* NULL is fine */
struct wr_fold *wr_sums_root(struct wr_sums *s);
/* The folder in parent; parent itself where it does not count by itself. Thread safe, as are the
 * next two. */
struct wr_fold *wr_sums_child(struct wr_sums *s, struct wr_fold *parent, const char *name,
			      size_t len);
void wr_fold_live(struct wr_fold *f, uint64_t files, uint64_t bytes);
void wr_fold_stored(struct wr_fold *f, uint64_t bytes);

struct wr_usage_folder {
	char *path; /* below the root, any bytes; "" the root; owned */
	size_t path_len;
	uint64_t files, bytes; /* now, with all that is below */
	uint64_t stored;       /* in all snapshots */
};

struct wr_usage {
	int64_t at;            /* of the save, seconds; 0: nothing is known */
	uint64_t files, bytes; /* live: all but directories, blocks on disk */
	uint64_t left_out_files, left_out_bytes;
	/* As it was measured last: what all packs took then, and what of it the newest state needs.
	 */
	int64_t measured;
	uint64_t packs, needed, then;   /* then: what bytes was */
	struct wr_usage_folder *folder; /* by path, ascending; the root first */
	size_t folder_count;
};
void wr_usage_fini(struct wr_usage *u);

/* source: as of the stat cache. What is absent, damaged or of another format is empty. */
void wr_usage_load(struct wr_repo *r, const char *source, struct wr_usage *out);
/* Under the repository's lock. A cache: not synced, and what fails is not told. */
void wr_usage_store(struct wr_repo *r, const char *source, const struct wr_usage *u);
/* What was counted takes the place of what u has of now, and is added to what u has of history;
 * folders that are neither here nor heavy go. same_tree: nothing has changed since a snapshot; if u
 * is as old as that, there is nothing to do. *out_changed: it is worth storing. */
void wr_usage_add(struct wr_usage *u, struct wr_sums *s, bool same_tree, bool *out_changed);

/* History exactly: every object counts for the folder where the oldest snapshot has it. Sets
 * measured, packs, needed (by the newest state: what wr_latest_find finds, or the tip) and what
 * folders stored; what they take now stays. progress (may be NULL): stored bytes that were met,
 * of at most so many. */
int wr_usage_measure(struct wr_repo *r, const char *branch, struct wr_usage *u,
		     void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
		     struct wr_err *err);

#endif
