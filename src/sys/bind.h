/* SPDX-License-Identifier: Apache-2.0 */
/* Bind mounts of homes. All paths are the daemon's own, never a user's. */
#ifndef WR_BIND_H
#define WR_BIND_H

#include "base/err.h"

/* May this process mount? */
bool wr_mount_available(void);
/* Bind the directory src_fd onto dest (an absolute path, a directory, made if absent with its
 * parents root-owned 0755), nosuid,nodev. dest's last component may not be a link. By open_tree and
 * move_mount, so no path of src is resolved twice. */
int wr_mount_bind(int src_fd, const char *dest, struct wr_err *err);
/* Is the topmost thing at dest a mount of exactly the directory src_fd? false also if dest is
 * absent. */
bool wr_mount_is(int src_fd, const char *dest);
/* Unmount dest at once (lazily: open files go on working; *out_held, which may be NULL: there are
 * some). Not mounted is fine. */
int wr_mount_drop(const char *dest, bool *out_held, struct wr_err *err);

#endif
