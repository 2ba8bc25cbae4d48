/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a database has to do to hold a catalog.  Rows go in and out as they are; every rule (what is
 * newer, whose name it is, which token is good) stands in catalog.c, above all drivers.  A driver
 * is right when catalog_test passes with it.
 *
 * All functions are required.  Those that write are called between begin and commit or abort only.
 * Functions that look give 1: found, 0: not there, -1: error.
 */
#ifndef WR_CATALOG_DRIVER_H
#define WR_CATALOG_DRIVER_H

#include "fleet/catalog/catalog.h"

/* A driver's own. */
struct wr_cat_db;

struct wr_cat_row {
	struct wr_cat_project p; /* name "": not known */
	bool exclusive;          /* nobody else may have its uid */
	int64_t purged;          /* 0: not; then its name is free */
};
void wr_cat_row_fini(struct wr_cat_row *r);

/* Rows belong to the driver and are valid during the call. Nonzero ends the walk with that value.
 * Further calls of the driver are allowed inside; what they change may or may not be met. */
typedef int (*wr_cat_row_fn)(void *ctx, const struct wr_cat_row *row, struct wr_err *err);

struct wr_cat_driver {
	const char *scheme; /* in front of the colon */

	/* rest: what stands behind the colon. Makes what is not there; WR_E_UNSUPPORTED with both
	 * numbers where a newer release made it, WR_E_CORRUPT with a hint where it is damaged or
	 * something else; neither is written to. */
	int (*open)(const char *rest, struct wr_cat_db **out, struct wr_err *err);
	void (*close)(struct wr_cat_db *d); /* NULL is fine; an open group is undone */

	/* No other writer between begin and the end, and what is read in between stays true. After
	 * commit it is on disk. A commit that fails has undone everything. */
	int (*begin)(struct wr_cat_db *d, struct wr_err *err);
	int (*commit)(struct wr_cat_db *d, struct wr_err *err);
	void (*abort)(struct wr_cat_db *d);

	/* Insert or replace by hash. */
	int (*join_store)(struct wr_cat_db *d, const struct wr_join *j, struct wr_err *err);
	int (*join_find)(struct wr_cat_db *d, const char *hash, struct wr_join *out,
			 struct wr_err *err);
	/* Those that expired before. */
	int (*join_sweep)(struct wr_cat_db *d, int64_t before, struct wr_err *err);

	/* Insert or replace by id. WR_E_EXISTS: another row has the name (purged rows have none).
	 */
	int (*project_store)(struct wr_cat_db *d, const struct wr_cat_row *row, struct wr_err *err);
	int (*project_by_id)(struct wr_cat_db *d, const char *id, struct wr_cat_row *out,
			     struct wr_err *err);
	int (*project_by_name)(struct wr_cat_db *d, const char *name, struct wr_cat_row *out,
			       struct wr_err *err);
	/* Rows that are not purged: ids from first up to, without, end, ascending, at most limit.
	 */
	int (*project_range)(struct wr_cat_db *d, const char *first, const char *end,
			     unsigned limit, wr_cat_row_fn fn, void *ctx, struct wr_err *err);
	/* Another row, not purged, with this uid: its exclusive one if there is any. */
	int (*project_by_uid)(struct wr_cat_db *d, uint32_t uid, const struct wr_uuid *not_this,
			      struct wr_cat_row *out, struct wr_err *err);
	/* Rows that are not purged, by name, those without first. */
	int (*project_each)(struct wr_cat_db *d, wr_cat_row_fn fn, void *ctx, struct wr_err *err);
	/* Smallest number in first..last that is the uid of no row but those purged at or before
	 * until. 0: there is none. */
	int (*uid_free)(struct wr_cat_db *d, uint32_t first, uint32_t last, int64_t until,
			uint32_t *out, struct wr_err *err);

	/* Rows that are not purged, made before then, of which no copy was ever stored, neither
	 * before the row was nor since. As project_range for the callback. */
	int (*project_bare)(struct wr_cat_db *d, int64_t before, unsigned limit, wr_cat_row_fn fn,
			    void *ctx, struct wr_err *err);

	/* One number; 0 until it is stored. */
	int (*starts_get)(struct wr_cat_db *d, uint64_t *out, struct wr_err *err);
	int (*starts_store)(struct wr_cat_db *d, uint64_t count, struct wr_err *err);
	/* Nodes of which everything is known, and since when. */
	int (*known_store)(struct wr_cat_db *d, const struct wr_uuid *node, int64_t at,
			   struct wr_err *err);
	int (*known_find)(struct wr_cat_db *d, const struct wr_uuid *node, int64_t *out_at,
			  struct wr_err *err);
	int (*known_clear)(struct wr_cat_db *d, struct wr_err *err);

	/* The greatest incarnation of the node among the copies; 0 if it has none. */
	int (*copy_newest)(struct wr_cat_db *d, const struct wr_uuid *node, uint32_t *out,
			   struct wr_err *err);
	/* Insert or replace by project and node. */
	int (*copy_store)(struct wr_cat_db *d, const struct wr_cat_copy *k, struct wr_err *err);
	/* All of the node's. */
	int (*copy_drop)(struct wr_cat_db *d, const struct wr_uuid *node, struct wr_err *err);
	/* Those of this incarnation with ids behind after, up to and with last. */
	int (*copy_drop_range)(struct wr_cat_db *d, const struct wr_node_id *node,
			       const char *after, const char *last, struct wr_err *err);
	/* By project, then node; project, node NULL: any. As project_range for the callback. */
	int (*copy_each)(struct wr_cat_db *d, const struct wr_uuid *project,
			 const struct wr_uuid *node, wr_cat_copy_fn fn, void *ctx,
			 struct wr_err *err);
};

extern const struct wr_cat_driver wr_cat_sqlite;

#endif
