/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of the bytes and files that a project's working files may take, kept by the file system
 * that holds them.
 *
 *   btrfs      a tree is a subvolume, 0/N; its group 700/N, which only Warren makes, is limited.
 *   prjquota   ext4 and XFS: every file of a tree carries the tree's number, which is limited; so
 *              is, beside it, the uid, if it is the project's alone and the mount has usrquota.
 *   none       nothing is enforced, and what is used is not known here.
 *
 * The numbers of trees: STATE/projid/NUMBER -> ID, or ID.scratch, symbolic links, numbers from 2^30
 * to 2^31 - 1. A number is given to one project for ever.
 *
 * A limit is set while a project is active, and only then.  It is disk + grace, until the grace was
 * used and left again: then it is disk, up to the next start.  The limit itself tells which of the
 * three it is, so it needs no memory but the file system's (wr_quota_next).
 */
#ifndef WR_QUOTA_H
#define WR_QUOTA_H

#include <sys/types.h>

#include "base/err.h"
#include "model/uuid.h"
#include "sys/sandbox.h"

/* What is enforced, on this volume as it is now. */
struct wr_quota_caps {
	const char *driver; /* btrfs, prjquota, none */
	bool bytes, inodes;
	bool df;          /* statfs(2) in the tree tells limit and use */
	bool tamperproof; /* the project's user cannot get out of it by calls of his own, whoever
			     started his processes; only for exclusive identities where
			     the driver is prjquota */
};

struct wr_quota_driver;
/* Of one volume. */
struct wr_quota {
	const struct wr_quota_driver *driver;
	struct wr_quota_caps caps;
	int fd;                   /* VOLUME/projects, own */
	int state_fd;             /* STATE, own */
	bool simple;              /* btrfs: simple quotas */
	bool user;                /* prjquota: uids are limited as well */
	char why[160], hint[240]; /* what is missing, and the commands for it; "": nothing */
};
#define WR_QUOTA_INIT                    \
	{                                \
		.fd = -1, .state_fd = -1 \
	}

/*
 * Look at a volume. want: [volume] quota: auto, btrfs, prjquota, none. turn_on: quotas that are off
 * may be turned on: on btrfs if it is wanted by name, or the volume is a file system of its own;
 * enforcement on ext4 and XFS where uses are counted. Only errors of our own descriptors fail: a
 * volume that cannot have what is wanted has the driver none, and why.
 */
int wr_quota_open(int projects_fd, int state_fd, const char *path, const char *want, bool turn_on,
		  struct wr_quota *out, struct wr_err *err);
void wr_quota_close(struct wr_quota *q); /* harmless twice */

struct wr_quota_tree {
	struct wr_uuid id;
	int parent_fd; /* the tree is parent_fd/ID */
	uid_t uid;
	bool exclusive;
	bool scratch; /* the project's second one: counted and limited apart */
};

/* An empty directory, of which all that comes into it is counted. */
int wr_quota_make_tree(struct wr_quota *q, const struct wr_quota_tree *t, mode_t mode,
		       struct wr_err *err);
/* A tree that was made otherwise: *out_number is what its files have to carry before they count
 * (0: nothing is to be done): a worker's task, for it takes as long as there are files.
 * WR_E_UNSUPPORTED: it cannot be limited as it is; the hint says what helps. */
int wr_quota_check_tree(struct wr_quota *q, const struct wr_quota_tree *t, uint32_t *out_number,
			struct wr_err *err);
/* Can it be limited only once its files lie in a tree of wr_quota_make_tree?  (btrfs: a plain
 * directory.) False where limits are not kept at all. */
bool wr_quota_wants_new_tree(struct wr_quota *q, const struct wr_quota_tree *t);
/* Before a tree is removed: limits go, and where it can go at once it is gone then; *out_bytes is
 * what it took. Absent is fine. */
int wr_quota_remove_tree(struct wr_quota *q, const struct wr_quota_tree *t, bool *out_gone,
			 uint64_t *out_bytes, struct wr_err *err);

struct wr_quota_limits {
	uint64_t bytes, inodes; /* 0: none */
};
int wr_quota_set(struct wr_quota *q, const struct wr_quota_tree *t,
		 const struct wr_quota_limits *limits, struct wr_err *err);
int wr_quota_clear(struct wr_quota *q, const struct wr_quota_tree *t, struct wr_err *err);

struct wr_quota_usage {
	uint64_t bytes, inodes;             /* inodes: 0 where caps say that they are not counted */
	uint64_t limit_bytes, limit_inodes; /* as the file system has them; 0: none */
	bool uneven; /* what is limited beside them (a uid) does not fit to them */
};
/* As of the file system's last commit, on btrfs. WR_E_UNSUPPORTED: nobody counts. */
int wr_quota_usage(struct wr_quota *q, const struct wr_quota_tree *t, struct wr_quota_usage *out,
		   struct wr_err *err);

struct wr_quota_owner {
	struct wr_uuid id;
	uid_t uid;
	bool exclusive, active;
};
/* All limits of this volume that are Warren's, but those of active projects of the list. all:
 * ascending by id. *out_cleared counts. */
int wr_quota_clear_all(struct wr_quota *q, const struct wr_quota_owner *all, size_t count,
		       size_t *out_cleared, struct wr_err *err);

/* What the project's processes are denied so that they stay in their limits (enum wr_deny). */
unsigned wr_quota_deny(const struct wr_quota *q, bool exclusive);

/* ---- the numbers, pure ---- */

/* disk and 5 %, at least 64 MiB: the last work can be saved, and room be made. */
uint64_t wr_quota_hard(uint64_t disk);
/* What the limit of bytes has to be, where it is now and with so much in use. */
uint64_t wr_quota_next(uint64_t disk, uint64_t now, uint64_t used);
enum wr_quota_grace { WR_GRACE_OPEN = 1, WR_GRACE_USED, WR_GRACE_CLOSED };
const char *wr_quota_grace_name(enum wr_quota_grace g); /* open, in use, closed */
enum wr_quota_grace wr_quota_grace(uint64_t disk, uint64_t limit);

/* Look after the limits of an active project: settings may have changed, the grace may be used or
 * left. *out: as it is then. Nothing is written if nothing changes. */
int wr_quota_tend(struct wr_quota *q, const struct wr_quota_tree *t, uint64_t disk, uint64_t inodes,
		  struct wr_quota_usage *out, struct wr_err *err);

#endif
