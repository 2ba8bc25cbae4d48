/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hub's catalog: names and uids of projects, copies of records, what nodes reported, join tokens.
 * Nothing that keeps work safe reads it except as a hint: an older, empty or second catalog can
 * propose, never harm.  Intent (what was assigned) and evidence (what a disk reported, with the
 * time of the report) are different columns.
 *
 * Behind it stands a driver (driver.h); SQLite is the first.
 */
#ifndef WR_CATALOG_H
#define WR_CATALOG_H

#include "fleet/record/msg.h"

struct wr_catalog;

/* where: "sqlite:PATH". A newer schema is WR_E_UNSUPPORTED with both numbers. */
int wr_catalog_open(const char *where, struct wr_catalog **out, struct wr_err *err);
void wr_catalog_close(struct wr_catalog *c);
/* Group changes: one commit. Nesting is a bug. */
int wr_catalog_begin(struct wr_catalog *c, struct wr_err *err);
int wr_catalog_commit(struct wr_catalog *c, struct wr_err *err);
void wr_catalog_abort(struct wr_catalog *c);

/* ---- join tokens: hashes only ---- */

struct wr_join {
	char hash[65]; /* SHA-256 of the secret, hex */
	char name[64], dc[64];
	int64_t created, expires, used; /* used 0: not yet */
	char node[37];                  /* who used it */
	char rejoin[37];                /* node that it is to replace; "" = a new one */
	char names[WR_FLEET_NAMES];     /* what it may be called; "" = what it says */
};
int wr_catalog_join_put(struct wr_catalog *c, const struct wr_join *j, struct wr_err *err);
/* Use it up at now, for this node: WR_E_DENIED if unknown, expired, used by another node, or made
 * for another one to come back with. The same node may come again within the hour (its first answer
 * was lost). */
int wr_catalog_join_use(struct wr_catalog *c, const char *hash, const struct wr_uuid *node,
			int64_t now, struct wr_join *out, struct wr_err *err);

/* ---- projects ---- */

struct wr_cat_project {
	struct wr_uuid id;
	char name[64];
	uint32_t uid, gid;
	bool deleted;
	struct wr_epoch n; /* of the record below */
	uint64_t settings_rev;
	struct wr_buf record, settings; /* signed bytes; owned */
	int64_t created, changed;
};
void wr_cat_project_fini(struct wr_cat_project *p);
/* Insert or replace by id. WR_E_EXISTS: another living or trashed project has that name, or that
 * uid (unless the settings of both say that it is shared; without settings it is not; 0: none yet).
 */
int wr_catalog_project_put(struct wr_catalog *c, const struct wr_cat_project *p,
			   struct wr_err *err);
/* A copy of a record or of settings (either may be NULL) that is newer than the one here; older
 * ones are ignored. Makes the row if it is not there (rebuilt catalogs); the name is "" until
 * settings tell it. Two that claim one name: the higher revision keeps it, the other gets part of
 * its id behind it. Signatures were checked by the caller. */
int wr_catalog_project_learn(struct wr_catalog *c, const struct wr_record *r,
			     const struct wr_buf *record, const struct wr_settings_doc *d,
			     const struct wr_buf *settings, struct wr_err *err);
/* ref: id, name or unique prefix. WR_E_NOT_FOUND, WR_E_INVALID (ambiguous). */
int wr_catalog_project_find(struct wr_catalog *c, const char *ref, struct wr_cat_project *out,
			    struct wr_err *err);
typedef int (*wr_cat_project_fn)(void *ctx, const struct wr_cat_project *p, struct wr_err *err);
int wr_catalog_project_each(struct wr_catalog *c, wr_cat_project_fn fn, void *ctx,
			    struct wr_err *err);
/* Purged everywhere: it is found no more, its name is free, its uid rests for a while. The row
 * stays, so that an old copy of its record does not bring it back; a newer record that lives does.
 */
int wr_catalog_project_purged(struct wr_catalog *c, const struct wr_uuid *id, int64_t now,
			      struct wr_err *err);
/* Smallest uid in first..last that no project, living, trashed or within keep_s of its purge, has.
 * WR_E_LIMIT. */
int wr_catalog_uid_next(struct wr_catalog *c, uint32_t first, uint32_t last, uint64_t keep_s,
			int64_t now, uint32_t *out, struct wr_err *err);

/* Reservations of which no node ever reported a copy, made before then; at most limit of them. One
 * whose only copy is lost is none. */
int wr_catalog_project_bare(struct wr_catalog *c, int64_t before, unsigned limit,
			    wr_cat_project_fn fn, void *ctx, struct wr_err *err);

/* ---- what it may have missed ---- */

/* A start of its hub, counted. seen: the count that the hub remembers elsewhere; a catalog that is
 * behind it is an older one: it forgets of which nodes it knows everything. *out_count is to be
 * remembered. */
int wr_catalog_started(struct wr_catalog *c, uint64_t seen, uint64_t *out_count, bool *out_older,
		       struct wr_err *err);
/* All projects that the node holds are here by now. */
int wr_catalog_node_known(struct wr_catalog *c, const struct wr_uuid *node, int64_t now,
			  struct wr_err *err);
/* 1: that was said of it, *out_at (may be NULL) when; 0: not yet. */
int wr_catalog_node_is_known(struct wr_catalog *c, const struct wr_uuid *node, int64_t *out_at,
			     struct wr_err *err);

/* ---- evidence ---- */

struct wr_cat_copy {
	struct wr_report r;
	struct wr_node_id node;
	int64_t reported_at;
};
/* What one node said of some of its projects, in one transaction. What an earlier incarnation says
 * is ignored, what it said goes with the first word of a later one. */
int wr_catalog_report(struct wr_catalog *c, const struct wr_node_id *node,
		      const struct wr_report *r, size_t count, int64_t now, struct wr_err *err);
/* The same of a page of all that the node has, ascending by id: what it has behind after (an id, or
 * what one begins with; NULL: the first) up to the last of these; end: there is no more. What it
 * said of others in there is gone. WR_E_INVALID: they do not ascend. */
int wr_catalog_report_page(struct wr_catalog *c, const struct wr_node_id *node, const char *after,
			   const struct wr_report *r, size_t count, bool end, int64_t now,
			   struct wr_err *err);
typedef int (*wr_cat_copy_fn)(void *ctx, const struct wr_cat_copy *k, struct wr_err *err);
/* project NULL: all, by project; node NULL: of all nodes. */
int wr_catalog_copies(struct wr_catalog *c, const struct wr_uuid *project,
		      const struct wr_uuid *node, wr_cat_copy_fn fn, void *ctx, struct wr_err *err);

/* ---- api tokens live in the node's own store; see host/store ---- */

#endif
