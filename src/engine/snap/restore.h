/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restore: make a directory (or one file) equal to what a snapshot holds, in place.
 *
 * Writes only what differs, deletes only when told to, never follows a link out of the target:
 * every directory is opened relative to its parent without following links.  A file that is there
 * already is replaced by temporary file and rename, so an open reader never sees a mix; absent ones
 * are made directly.  One sync at the end.  Before the first byte of a user's file is overwritten
 * or deleted the target is saved to branch "safety"; the receipt names that snapshot.  What the
 * rules
 * (.warrenignore, CACHEDIR.TAG) leave out of saves is neither overwritten nor deleted.  Leaves a
 * stat cache behind, so that the next save of the target knows its files.
 */
#ifndef WR_RESTORE_H
#define WR_RESTORE_H

#include "engine/repo/resolve.h"
#include "engine/snap/save.h"

#define WR_SAFETY_BRANCH "safety"

enum wr_overwrite {
	WR_OVERWRITE_CHANGED, /* default: what differs in content or metadata */
	WR_OVERWRITE_ALWAYS,  /* every file anew */
	WR_OVERWRITE_NEWER,   /* only files whose mtime is older than the snapshot's */
	WR_OVERWRITE_NEVER,   /* only what is absent */
};

struct wr_restore_opts {
	bool delete_extra;
	bool dry_run;
	bool no_owner; /* leave new files to the calling user */
	bool names;    /* owner and group by stored name where it exists here, else by number */
	bool no_safety;
	/*
	 * The files belong to this user whatever the snapshot says, and get nothing that he could
	 * not have made: no devices, no set-id bits of others.  Nothing in the target is trusted to
	 * stay what it was: he may be renaming and linking while this runs.
	 */
	bool owned;
	uid_t uid;
	gid_t gid;
	/* >= 0: the target directory itself; for a single file the directory that it goes to, under
	 * the last component of dest. dest is then never opened: it names the stat cache and the
	 * target in messages, and must be absolute. */
	int dest_fd;
	bool no_mounts; /* do not enter what other mounts show */
	bool no_cache;  /* neither use nor write the stat cache; only with no_safety */
	/* Patterns beside those in the target: neither overwritten nor deleted. Borrowed. */
	struct wr_ignore *ignore;
	/* With no_safety: a snapshot of the target, made just now with its stat cache. What is not
	 * in it, or has changed since, is neither overwritten nor deleted. Whole directories only.
	 */
	const struct wr_id *guard;
	enum wr_overwrite overwrite;
	unsigned threads;
	int wait_s;
	void (*progress)(void *ctx, const char *step, uint64_t files, uint64_t files_total,
			 uint64_t bytes, uint64_t bytes_total);
	/* Each path that is (or with dry_run would be) created, replaced, updated in metadata, or
	 * deleted: op is "create", "replace", "metadata", "delete". Any thread. May be NULL. */
	void (*action)(void *ctx, const char *op, const char *path, size_t len);
	void *ctx;
};
#define WR_RESTORE_OPTS_INIT  \
	{                     \
		.dest_fd = -1 \
	}

struct wr_restore_result {
	uint64_t files, dirs;                                           /* of the snapshot's part */
	uint64_t created, replaced, metadata, deleted, unchanged, kept; /* kept: not overwritten */
	uint64_t bytes_written;
	struct wr_notes skipped; /* what could not be restored, with the reason: exit status 3 */
	struct wr_restore_texts *texts; /* storage of reasons in skipped that are not static */
	bool has_safety;
	struct wr_id safety_commit;
	char safety_name[40];
	bool one_file; /* not a directory: the safety snapshot holds only what was at its place */
	char *target;  /* full path of the directory or file that was restored to */
	double seconds;
};
void wr_restore_result_fini(struct wr_restore_result *r);

/*
 * path: inside the snapshot (NULL or "": its root). A directory is restored into dest itself (made
 * if absent); a file or link becomes dest/NAME if dest is a directory or ends in '/', else dest.
 * Damaged objects: what they hold is listed in skipped (the rest is restored), nothing half-written
 * stays. -1 if it could not be done at all.
 */
int wr_restore(struct wr_repo *r, const struct wr_snap *snap, const char *path, const char *dest,
	       const struct wr_restore_opts *o, struct wr_restore_result *out, struct wr_err *err);

#endif
