/* SPDX-License-Identifier: Apache-2.0 */
/* From chunks to a tree of chunks (bup-format.md 4.3). Pure: trees are handed to the caller. */
#ifndef WR_HASHTREE_H
#define WR_HASHTREE_H

#include "base/buf.h"
#include "engine/object/id.h"

/* Store a tree object with this payload and tell its id; 0 or -1. */
typedef int (*wr_put_tree_fn)(void *ctx, const void *p, size_t len, struct wr_id *out,
			      struct wr_err *err);

struct wr_hashtree {
	wr_put_tree_fn put;
	void *ctx;
	struct wr_hashtree_stack *stack;
	size_t stack_count, stack_cap;
	struct wr_buf payload; /* scratch */
	uint64_t total;        /* bytes so far */
};

/* No boundary has a higher level (see wr_cut): a state of the rolling sum has no more bits. */
#define WR_HASHTREE_LEVEL_MAX 4

/* A call that fails empties the builder, which is then usable again. */
void wr_hashtree_init(struct wr_hashtree *t, wr_put_tree_fn put, void *ctx);
void wr_hashtree_fini(struct wr_hashtree *t);
/* Append one chunk. */
int wr_hashtree_add(struct wr_hashtree *t, const struct wr_id *blob, uint32_t len, unsigned level,
		    struct wr_err *err);
/* Append count chunks with the same id and length, all of level 0 (zero runs of sparse files);
 * costs O(trees), not O(chunks), where a whole tree repeats. */
int wr_hashtree_add_run(struct wr_hashtree *t, const struct wr_id *blob, uint32_t len,
			uint64_t count, struct wr_err *err);
/* The result: *out_mode is WR_MODE_FILE (one blob) or WR_MODE_TREE.  Without any chunk *out_empty
 * is set, *out is the id of the empty blob, and the caller stores that.  The builder is then empty
 * and usable again. */
int wr_hashtree_end(struct wr_hashtree *t, uint32_t *out_mode, struct wr_id *out, bool *out_empty,
		    struct wr_err *err);

/* The offset that a name in a chunk tree stands for: 1 to 16 lower-case hex digits. */
bool wr_hashtree_offset(const void *name, size_t len, uint64_t *out);

#endif
