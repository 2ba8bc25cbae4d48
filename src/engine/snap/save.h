/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Save: the contents of a directory become the root of a new snapshot on a branch.
 *
 * Two passes over the tree: wr_scan_run learns what is unchanged; the second reads what is not,
 * stores it children first and builds the directories.  An entry whose content and visible metadata
 * equal the parent snapshot's is written with the parent's bytes (ctime, atime and owner names are
 * carried over), so a copy, a restore or a failing name service changes nothing.
 */
#ifndef WR_SAVE_H
#define WR_SAVE_H

#include "engine/repo/repo.h"
#include "engine/repo/sink.h"
#include "engine/snap/scan.h"

struct wr_save_opts {
	const char *branch; /* NULL: the repository's default branch, "main" in a new one */
	int64_t date;       /* seconds since the epoch; -1: now */
	struct wr_ignore *ignore;
	bool one_file_system;
	uint64_t max_file_size; /* 0: WR_MAX_FILE_SIZE_DEFAULT */
	bool dry_run, force;
	/* No snapshot: the state alone, as refs/warren/latest (see latest.h). Without it a snapshot
	 * takes the place of such a state. */
	bool latest;
	/* Without a stat cache take a file with the parent snapshot's path, size and mtime as
	 * unchanged, as rsync does, instead of reading it. */
	bool trust_mtime;
	bool no_cache; /* neither use nor write the stat cache */
	/* Sums of folders are kept as those of this source; NULL: of the one that is saved. */
	const char *sums_of;
	/* Carry bytes over from the snapshot the stat cache stands for, if there is one, instead of
	 * the branch's newest (safety snapshots: most of it is in history already). */
	bool carry_from_cache;
	/* Repair: make no snapshot, store only the objects for which damaged() is true. */
	bool fill;
	bool (*damaged)(void *ctx, const struct wr_id *id);
	void *damaged_ctx;
	unsigned threads;    /* 0: one per CPU, at most 8 */
	int wait_s;          /* for the lock; ignored if the caller holds it */
	const char *what;    /* for the commit's first line; NULL: "warren save" */
	const char *trailer; /* "Key: value", a trailer line of its own; NULL: none */
	/* >= 0: the directory itself. path is then never opened: it names the stat cache and the
	 * source in messages, and must be absolute. */
	int root_fd;
	bool no_mounts; /* leave out what other mounts show, bind mounts too */
	/* Leave out files with several names that are not `owner`'s: with a hard link a user can
	 * bring any file of the file system into his tree. */
	bool only_own_links;
	uid_t owner;
	const char *own_link; /* see wr_scan_opts; NULL: none */
	/* Progress: the scan's running totals, then work done against the final totals. */
	void (*progress)(void *ctx, const char *step, uint64_t files, uint64_t files_total,
			 uint64_t bytes, uint64_t bytes_total);
	void *ctx;
};
#define WR_SAVE_OPTS_INIT                  \
	{                                  \
		.date = -1, .root_fd = -1, \
	}
/* LIMIT: a file of more apparent bytes is left out unless told otherwise: 10-exabyte sparse files
 * exist, and even their holes cost time. */
#define WR_MAX_FILE_SIZE_DEFAULT (UINT64_C(1) << 40)

struct wr_save_result {
	bool made;           /* a snapshot was made (or would be, with dry_run) */
	struct wr_id commit; /* the new one, or the parent if nothing changed; zero if none */
	struct wr_id tree;
	bool has_commit;
	bool latest; /* commit is no snapshot, but stands for a state alone */
	char branch[256];
	char name[40]; /* snapshot name of commit */
	int64_t time;  /* of commit */
	struct wr_ts scan_started;
	uint64_t files, dirs, files_new, files_changed, files_removed;
	uint64_t bytes_total, bytes_read, bytes_new, bytes_stored;
	uint64_t objects_new;
	double seconds;
	uint64_t left_out_files, left_out_bytes;
	struct wr_notes left_out; /* not protected: by rules, largest first */
	struct wr_notes skipped;  /* unreadable, vanished or unstable: exit status 3 */
};
void wr_save_result_fini(struct wr_save_result *r);

/* Takes the repository's lock unless dry_run or the caller holds it. WR_E_NOT_FOUND if path is not
 * there, WR_E_BUSY if another writer has the lock. On failure the repository is as before. */
int wr_save(struct wr_repo *r, const char *path, const struct wr_save_opts *o,
	    struct wr_save_result *out, struct wr_err *err);

#endif
