/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting stored metadata back onto a live entry.
 *
 * Order: flags that forbid changes off; owner; extra attributes away; plain attributes; mode; ACL
 * attributes (they carry the mode's group bits); times; flags.  What cannot be set here (no right,
 * no support) is told by bits, not by failure: the content is worth more than its trimmings.
 */
#ifndef WR_APPLY_H
#define WR_APPLY_H

#include <sys/stat.h>

#include "engine/object/meta.h"

struct wr_names;

/* How to apply; fixed for one operation, shared by its threads. */
struct wr_apply {
	bool no_owner;
	bool root;  /* may act as any owner: effective user 0, or the capabilities for it */
	bool plain; /* though root: no attributes and locks that only user 0 may set */
	bool fixed; /* everything belongs to `owner`; see wr_apply_owner */
	uid_t owner;
	gid_t owner_group;
	uid_t uid; /* what creation gives */
	gid_t gid;
	mode_t umask;
	struct wr_names *names; /* owners by name where known here; NULL: by number */
	gid_t *groups;          /* supplementary groups, for all but root */
	size_t group_count;
};
void wr_apply_init(struct wr_apply *a, bool no_owner, struct wr_names *names);
void wr_apply_fini(struct wr_apply *a);
/* Whatever is stored, everything belongs to this user. Set-id bits of other owners are dropped. */
void wr_apply_owner(struct wr_apply *a, uid_t uid, gid_t gid);

/* What could not be set. */
enum wr_lost {
	WR_LOST_OWNER = 1, /* not permitted */
	WR_LOST_XATTR = 2, /* not permitted, or not supported by the file system */
	WR_LOST_FLAGS = 4, /* not permitted */
	WR_LOST_TIME = 8,  /* the file system cannot hold it */
	WR_LOST_MODE = 16,
};
#define WR_LOST_KINDS 5

struct wr_apply_to {
	int dirfd;
	const char *name; /* in dirfd; never followed */
	int fd;           /* the file itself if it is regular or a directory, else -1 */
	bool held;        /* held_fd (O_PATH) is the thing itself; the name may have moved on */
	int held_fd;
	bool fresh;     /* just created: nothing but what creation gives is there */
	bool inherits;  /* creation may have given ACLs or flags of the parent directory */
	struct stat st; /* mode, uid and gid are kept up to date */
};

/* The stored metadata as it is wanted here: owner mapped, type bits as `type` (S_IFREG, ...). */
void wr_apply_want(const struct wr_apply *a, mode_t type, struct wr_meta *m);
/* Mode bits to create with, so that usually no chmod is needed; never more than wanted, and
 * nothing for group and others while the owner still has to change. */
mode_t wr_apply_create_mode(const struct wr_apply *a, const struct wr_meta *want, gid_t dir_gid);
/* Does the live metadata equal the wanted, as far as this user could make it so?  Size, content
 * and hard links are not looked at. */
bool wr_apply_same(const struct wr_apply *a, const struct wr_meta *want,
		   const struct wr_meta *live);

/* -1 only for failures that are neither of rights nor of support (I/O, no space). */
int wr_apply_meta(const struct wr_apply *a, struct wr_apply_to *p, const struct wr_meta *want,
		  unsigned *out_lost, struct wr_err *err);
/* Take away immutable and append-only, which forbid every change. False if there were none or it
 * failed. fd: open on a regular file or directory. */
bool wr_apply_unlock(int fd);
/* Those two flags of a record. They must be set last: nothing that has them can be renamed. */
uint64_t wr_apply_locks(const struct wr_meta *m);
bool wr_apply_lock(int fd, uint64_t locks); /* false: not permitted */

#endif
