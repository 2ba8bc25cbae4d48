/* SPDX-License-Identifier: Apache-2.0 */
/* The drivers. */
#ifndef WR_QUOTA_INT_H
#define WR_QUOTA_INT_H

#include "host/quota/quota.h"

/* Entries that are NULL: nothing has to be done, or (usage) cannot be had. */
struct wr_quota_driver {
	const char *name;
	int (*make_tree)(struct wr_quota *, const struct wr_quota_tree *, mode_t, struct wr_err *);
	int (*check_tree)(struct wr_quota *, const struct wr_quota_tree *, uint32_t *out_number,
			  struct wr_err *);
	bool (*wants_new_tree)(const struct wr_quota_tree *);
	int (*remove_tree)(struct wr_quota *, const struct wr_quota_tree *, bool *out_gone,
			   uint64_t *out_bytes, struct wr_err *);
	/* Both 0: clear. */
	int (*set)(struct wr_quota *, const struct wr_quota_tree *, const struct wr_quota_limits *,
		   struct wr_err *);
	int (*usage)(struct wr_quota *, const struct wr_quota_tree *, struct wr_quota_usage *,
		     struct wr_err *);
	int (*clear_all)(struct wr_quota *, const struct wr_quota_owner *all, size_t count,
			 size_t *out_cleared, struct wr_err *);
};
extern const struct wr_quota_driver wr_quota_btrfs, wr_quota_prjquota;

/* Fill in driver, caps, why and hint; the driver stays unset if this file system has nothing for
 * it. own: it is a mount of its own, or asked for by name. */
void wr_quota_btrfs_probe(struct wr_quota *q, const char *path, bool turn_on, bool own);
void wr_quota_prjquota_probe(struct wr_quota *q, const char *path, bool turn_on);

/* Is it in the list, and active? */
const struct wr_quota_owner *wr_quota_owner_find(const struct wr_quota_owner *all, size_t count,
						 const struct wr_uuid *id);

/* ---- the numbers of trees (projid.c) ---- */

#define WR_PROJID_FIRST (UINT32_C(1) << 30)
#define WR_PROJID_LAST ((UINT32_C(1) << 31) - 1)
/* The project's number, or that of its scratch, durably. add false: 0 if it has none. */
int wr_projid_of(int state_fd, const struct wr_uuid *id, bool scratch, bool add, uint32_t *out,
		 struct wr_err *err);
/* Whose number it is, of one kind or the other. False: nobody's. */
bool wr_projid_owner(int state_fd, uint32_t number, struct wr_uuid *out);

#endif
