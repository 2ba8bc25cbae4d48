/* SPDX-License-Identifier: Apache-2.0 */
/* Git tree objects: "<octal mode> <name>\0<20-byte id>", in git's order. Pure. */
#ifndef WR_TREE_H
#define WR_TREE_H

#include "base/buf.h"
#include "engine/object/id.h"

#define WR_MODE_FILE 0100644u
#define WR_MODE_LINK 0120000u
#define WR_MODE_TREE 040000u

struct wr_tree_entry {
	uint32_t mode;
	const uint8_t *name; /* stored name, borrowed from the tree's bytes, not NUL-terminated */
	size_t name_len;
	struct wr_id id;
};

/* Next entry of the tree payload in r: 1, 0 at the end, -1 WR_E_CORRUPT (bad mode, empty name,
 * name with '/' or equal to "." or "..", cut short). */
int wr_tree_next(struct wr_rd *r, struct wr_tree_entry *out, struct wr_err *err);
/* As above over all entries, plus: sorted in git's order, no name twice. */
int wr_tree_check(const void *p, size_t len, struct wr_err *err);
/* Append one entry; the caller keeps git's order. */
void wr_tree_add(struct wr_buf *b, uint32_t mode, const void *name, size_t name_len,
		 const struct wr_id *id);
/* Git's order: bytewise, a tree's name compared as if it ended in '/'. */
int wr_tree_name_cmp(const void *a, size_t a_len, bool a_is_tree, const void *b, size_t b_len,
		     bool b_is_tree);

#endif
