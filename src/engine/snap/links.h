/* SPDX-License-Identifier: Apache-2.0 */
/* Hard links of a live tree, seen from the names met in it: the group's name that sorts last. */
#ifndef WR_LINKS_H
#define WR_LINKS_H

#include "base/base.h"

struct wr_link_group {
	uint64_t dev, ino;
	char *path;           /* root-relative; greatest of the names, bytewise */
	uint32_t cached_hash; /* of the key that the stat cache was written with, 0: none seen */
	uint32_t names;       /* met in the tree; others may lie outside */
	bool mixed;           /* the cache holds different keys for its names */
};

/* Memory: one path per inode with several names. Not thread safe. */
struct wr_links {
	struct wr_link_group *slot; /* open addressing; path NULL = free */
	size_t cap, count;
};
#define WR_LINKS_INIT \
	{             \
		0     \
	}
void wr_links_fini(struct wr_links *l);
/* One name of an inode; cached_hash: what the stat cache says of this name, 0 if nothing. */
void wr_links_add(struct wr_links *l, uint64_t dev, uint64_t ino, const char *path,
		  uint32_t cached_hash);
const struct wr_link_group *wr_links_find(const struct wr_links *l, uint64_t dev, uint64_t ino);

#endif
