/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files: whole reads and writes, atomic and durable replacement, directories opened without
 * following links.  EINTR is retried everywhere; a short write is an error.
 */
#ifndef WR_FS_H
#define WR_FS_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* WR_SCOPED(wr_closep) int fd = -1; */
void wr_closep(int *fd);

/* Read until len bytes or end of file; gives the count, -1 with errno on failure. */
ssize_t wr_read_full(int fd, void *p, size_t len);
ssize_t wr_pread_full(int fd, void *p, size_t len, uint64_t off);
/* Write all of it: 0, or -1 with errno. */
int wr_write_all(int fd, const void *p, size_t len);
int wr_pwrite_all(int fd, const void *p, size_t len, uint64_t off);

/* Append the whole file to *out. WR_E_NOT_FOUND when absent, WR_E_LIMIT above max bytes. */
int wr_read_file(int dirfd, const char *name, size_t max, struct wr_buf *out, struct wr_err *err);
/* Replace or create dirfd/name with the bytes: temporary file, fsync, rename, fsync of the
 * directory.  A crash leaves the old or the new content, at worst a stray temporary beside it. */
int wr_replace_file(int dirfd, const char *name, const void *p, size_t len, int mode,
		    struct wr_err *err);
int wr_fsync_dir(int dirfd, const char *what, struct wr_err *err);
/* Directory at path relative to dirfd, last component not followed; -1 with errno. */
int wr_open_dir(int dirfd, const char *path);
/* mkdir -p below dirfd. */
int wr_mkdirs(int dirfd, const char *path, int mode, struct wr_err *err);
/* Remove dirfd/name and all below it; never follows a link. */
int wr_remove_tree(int dirfd, const char *name, struct wr_err *err);
/* prefix + 12 random characters of [a-z0-9], in a caller's buffer of at least strlen + 13. */
void wr_random_name(char *out, size_t out_size, const char *prefix);

/* Of a file that is read once: is any of it in the page cache, as far as a few probes tell? Then
 * somebody uses it. Reads nothing from the disk; true where the file system does not tell. */
bool wr_cached(int fd, uint64_t size);
/* What was read or written there need not stay in the page cache; what is not on the disk yet
 * does. */
void wr_uncache(int fd, uint64_t off, uint64_t len);
/* Let this process have as many descriptors as it may: walks of deep trees hold one per level. */
void wr_raise_fd_limit(void);

#endif
