/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths that users choose, opened beneath a directory and nowhere else: openat2 with
 * RESOLVE_BENEATH, no symlinks, no magic links, no other mounts; where the kernel lacks it,
 * component by component with O_NOFOLLOW.  "..", absolute paths, empty components and NUL are
 * refused before.
 */
#ifndef WR_BENEATH_H
#define WR_BENEATH_H

#include <sys/types.h>

#include "base/err.h"

/* "a/b" from "/a//./b/"; "" is the top itself. WR_E_INVALID for ".." or a component above 255 bytes
 * or a path above 4095. The caller frees. */
char *wr_beneath_clean(const char *path, size_t len, struct wr_err *err);
/* flags as open(2) (O_CLOEXEC, O_NOFOLLOW added; without O_NONBLOCK a FIFO waits; with O_PATH a
 * link at the end is opened itself). -1 with err: WR_E_NOT_FOUND, WR_E_EXISTS (O_EXCL), WR_E_DENIED
 * when the path leads over a link or a mount. path as cleaned. */
int wr_beneath_open(int dirfd, const char *path, int flags, mode_t mode, struct wr_err *err);
/* The parent directory of path (opened for reading), and its last component in *out_name (points
 * into path). For "" WR_E_INVALID. */
int wr_beneath_parent(int dirfd, const char *path, const char **out_name, struct wr_err *err);
/* Make path and what is missing above it, mode 0777 & ~umask. WR_E_EXISTS: something else is in the
 * way. out_existed may be NULL. */
int wr_beneath_mkdirs(int dirfd, const char *path, bool *out_existed, struct wr_err *err);

#endif
