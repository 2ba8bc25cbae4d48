/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata entries, the records of .bupm files (bup-format.md 6), and POSIX ACLs in the three
 * shapes they come in: the kernel's xattr, bup's text with names, bup's text with numbers. Pure.
 */
#ifndef WR_META_H
#define WR_META_H

#include "base/buf.h"
#include "base/ts.h"
#include "engine/object/id.h"

struct wr_bytes {
	const uint8_t *p; /* NULL = absent; a present empty value has p != NULL */
	size_t len;
};

struct wr_meta {
	bool has_common; /* false: an entry without metadata (a lone 00) */
	uint32_t mode;   /* full st_mode */
	uint32_t uid, gid;
	struct wr_bytes user, group; /* may be empty */
	uint64_t rdev;
	struct wr_ts atime, mtime, ctime;
	int64_t size; /* -1: none stored */
	struct wr_bytes symlink;
	struct wr_bytes hardlink; /* any string, unique per inode of the snapshot */
	struct wr_bytes acl[4];   /* access by name, access by id, default by name, default by id;
				     commas between entries; absent when acl[0].p is NULL */
	uint64_t attr;            /* FS_IOC_GETFLAGS, 0 = none */
	uint32_t xattr_count;
	struct wr_bytes xattrs; /* the encoded name/value pairs, read with wr_meta_xattr_next */
};

/* The bits of attr a user can set and see; the rest describes the file system's own layout. */
#define WR_ATTR_VISIBLE UINT64_C(0x208380fd)

/*
 * Decode the next entry of a .bupm stream.  1 = *out filled (pointers borrow from the input, or
 * for an ACL v1 record from scratch) and *out_raw set to the entry's bytes, its final tag
 * included; 0 = end; -1 WR_E_CORRUPT.  Unknown tags are skipped; v1, v2 and v3 common records and
 * ACL v1 and v2 are read.
 */
int wr_meta_next(struct wr_rd *r, struct wr_meta *out, struct wr_bytes *out_raw,
		 struct wr_buf *scratch, struct wr_err *err);
/* Append the entry in bup's order and newest record versions. */
void wr_meta_encode(struct wr_buf *out, const struct wr_meta *m);

/* xattrs: append one pair while building; walk the pairs of a decoded entry (*r from wr_rd over
 * m->xattrs): 1, 0 at the end, -1 corrupt. */
void wr_meta_xattr_add(struct wr_buf *pairs, const void *name, size_t name_len, const void *value,
		       size_t value_len);
int wr_meta_xattr_next(struct wr_rd *r, struct wr_bytes *name, struct wr_bytes *value);

/*
 * Equal in what a user can see: mode, uid, gid, rdev, mtime, size (of files and symlinks), symlink
 * target, hardlink key, xattrs (as a set, ACL attributes among them), default and access ACL by id
 * where one side lacks the xattr, visible attr bits.  Not: ctime, atime, owner names.
 */
bool wr_meta_same(const struct wr_meta *a, const struct wr_meta *b);

/* Resolve ids to names for ACL text: the name, or NULL if unknown; borrowed until the next call. */
typedef const char *(*wr_name_of_fn)(void *ctx, bool group, uint32_t id);

/* Text of a system.posix_acl_* value: libacl's abbreviated form, comma-separated. name_of NULL =
 * numbers. WR_E_CORRUPT if the value is not version 2 or malformed. */
int wr_acl_text(const void *xattr, size_t len, wr_name_of_fn name_of, void *ctx, struct wr_buf *out,
		struct wr_err *err);
/* The minimal access ACL of a mode: "u::rwx,g::r-x,o::---". */
void wr_acl_text_of_mode(uint32_t mode, struct wr_buf *out);
/* The xattr value of a numeric text, as bup stores it in acl[1] and acl[3]. */
int wr_acl_parse(const void *text, size_t len, struct wr_buf *out, struct wr_err *err);

#endif
