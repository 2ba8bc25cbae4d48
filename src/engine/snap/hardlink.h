/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hard links of a restore: which names are one inode.  The first member of a group is created, the
 * others wait until it is there and link to it.  Groups are formed by the stored link key together
 * with content and visible metadata, so that a forged key cannot join what does not belong
 * together.  Thread safe.
 */
#ifndef WR_HARDLINK_H
#define WR_HARDLINK_H

#include <sys/types.h>

#include "engine/object/meta.h"

struct wr_relinks;
struct wr_relinks *wr_relinks_new(void);
void wr_relinks_free(struct wr_relinks *l);

/* Identity of a group. m must have a hardlink key. */
void wr_relink_group(const struct wr_meta *m, const struct wr_id *content, bool chunked,
		     struct wr_id *out);

struct wr_relink_at {
	char *path; /* relative to the target */
	dev_t dev;
	ino_t ino; /* 0: only planned (dry run) */
};

/* True: the caller is the first and must end with wr_relinks_done or wr_relinks_failed.  False:
 * *out tells where the group's file is; the caller frees out->path. Waits while the first is made.
 */
bool wr_relinks_claim(struct wr_relinks *l, const struct wr_id *group, struct wr_relink_at *out);
/* path: copied. Also to register a file that is there already, or a new file for a group that has
 * as many links as the file system takes. */
void wr_relinks_done(struct wr_relinks *l, const struct wr_id *group, const char *path, size_t len,
		     dev_t dev, ino_t ino);
void wr_relinks_failed(struct wr_relinks *l, const struct wr_id *group);

/* An existing inode with several names may serve one group or one lone file (group NULL): false if
 * something else took it before. */
bool wr_relinks_take_inode(struct wr_relinks *l, dev_t dev, ino_t ino, const struct wr_id *group);

/* Make dirfd/name another name of the file at `at`, found from root_fd without following links.
 * 0, -1 with errno: EMLINK, EXDEV, EPERM, ... or ESTALE if something else lies there now. */
int wr_relinks_make(int root_fd, const struct wr_relink_at *at, int dirfd, const char *name);

#endif
