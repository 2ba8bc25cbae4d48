/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in packs, and what of it trees reach: the two loops that space and sums share. */
#ifndef WR_REACH_H
#define WR_REACH_H

#include "engine/repo/repo.h"

struct wr_sums;
struct wr_fold;

/* An object of a pack. */
struct wr_stored {
	struct wr_id id;
	uint64_t off, bytes; /* in the pack; bytes: as stored */
};

/* All objects of pack i in the order of the pack; none where its index is missing. ctx is not
 * looked at. */
int wr_stored_each(struct wr_repo *r, size_t i, void (*fn)(void *ctx, const struct wr_stored *s),
		   void *ctx, struct wr_err *err);

struct wr_reach {
	struct wr_reader *reader;
	/* An object is met, in folder f: is what is below it to be looked at? */
	bool (*claim)(void *ctx, const struct wr_id *id, struct wr_fold *f);
	void *ctx;
	struct wr_sums *sums; /* folders are told apart by these; NULL: they are not, f is NULL */
};
/* root and all that is below it, without recursion on the stack. */
int wr_reach_tree(const struct wr_reach *h, const struct wr_id *root, struct wr_err *err);

#endif
