/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata of live files: read all that a snapshot keeps, and put it back. */
#ifndef WR_FSMETA_H
#define WR_FSMETA_H

#include <sys/stat.h>

#include "engine/object/meta.h"

/* User and group names by id, cached, thread safe; an unknown id or a failing name service gives
 * "" (a save is never hurt by it). Shared by all threads of an operation. */
struct wr_names;
struct wr_names *wr_names_new(void);
void wr_names_free(struct wr_names *n);
const char *wr_names_get(struct wr_names *n, bool group, uint32_t id); /* valid until free */
/* Is that "" because no name service answered, rather than because there is no name? */
bool wr_names_unsure(struct wr_names *n, bool group, uint32_t id);
/* The local id of a name: false if unknown. */
bool wr_names_find(struct wr_names *n, bool group, const void *name, size_t len, uint32_t *out);

/* What is at hand of one live entry. */
struct wr_live {
	int dirfd;        /* its directory */
	const char *name; /* in that directory; "." for the directory itself */
	int fd;           /* open for reading (regular files, directories), else -1 */
	struct stat st;
};

/* Storage behind a wr_meta that wr_fsmeta_read fills; reuse it from file to file. */
struct wr_metabuf {
	struct wr_buf link, acl, xattrs, list, value;
	size_t acl_off[5];
};
#define WR_METABUF_INIT \
	{               \
		0       \
	}
void wr_metabuf_fini(struct wr_metabuf *b);

/*
 * Fill *out (borrowing from buf and names) with everything but content and hard-link key: size is
 * st_size for files, the target's length for symlinks, -1 else.  Reads the symlink target, xattrs,
 * ACLs, attr flags. A file system without xattrs or flags gives none.
 */
int wr_fsmeta_read(const struct wr_live *live, struct wr_names *names, struct wr_metabuf *buf,
		   struct wr_meta *out, struct wr_err *err);

/* Number of the mount that fd is on; 0 where the kernel does not tell (before 5.8). */
uint64_t wr_mount_of(int fd);

/* struct stat's times. */
static inline struct wr_ts
wr_st_mtime(const struct stat *st)
{
	return (struct wr_ts){st->st_mtim.tv_sec, (uint32_t)st->st_mtim.tv_nsec};
}
static inline struct wr_ts
wr_st_ctime(const struct stat *st)
{
	return (struct wr_ts){st->st_ctim.tv_sec, (uint32_t)st->st_ctim.tv_nsec};
}

#define WR_NAME_AT_MAX 300
/*
 * A path to dirfd/name for system calls that have no *at form: name itself, after making dirfd the
 * calling thread's own working directory; where containers forbid that, one through /proc in buf.
 */
const char *wr_name_at(int dirfd, const char *name, char buf[WR_NAME_AT_MAX]);

#endif
