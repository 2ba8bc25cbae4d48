/* SPDX-License-Identifier: Apache-2.0 */
/* The names of one live directory, and what the rules say of them. */
#ifndef WR_LISTING_H
#define WR_LISTING_H

#include "engine/snap/ignore.h"

struct wr_listing {
	struct wr_name {
		const char *name;
		uint16_t len;
		uint8_t type; /* DT_DIR, ...; DT_UNKNOWN only if it is gone already */
	} * ent;              /* ascending, without "." and ".." */
	size_t count, cap;
	struct wr_buf names;
	struct wr_buf dents; /* getdents buffer, kept between uses */
};
#define WR_LISTING_INIT \
	{               \
		0       \
	}
void wr_listing_fini(struct wr_listing *l);
int wr_listing_read(struct wr_listing *l, int fd, struct wr_err *err);

/*
 * What the rules say of a directory's names: reads a .warrenignore and CACHEDIR.TAG if the listing
 * has them.  path is the directory's root-relative path.  *out_level: the level for its children
 * (a new reference).  In a cache directory every name but CACHEDIR.TAG is left out.
 */
struct wr_rules {
	struct wr_ignore *level; /* owned reference */
	bool cachedir;
};
void wr_rules_enter(struct wr_rules *out, struct wr_ignore *above, int dirfd, const char *path,
		    const struct wr_listing *l);
void wr_rules_fini(struct wr_rules *r);
/* NULL = kept, else the reason for leaving it out. path: root-relative, of the entry. */
const char *wr_rules_out(const struct wr_rules *r, const char *path, size_t path_len,
			 const char *name, bool is_dir);

#endif
