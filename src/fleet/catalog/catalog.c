/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of a catalog, above any database: which copy is newer, whose name it is, which token is
 * good. Every change is read, judged and written in one group. */
#include "fleet/catalog/catalog.h"

#include "base/json.h"
#include "base/str.h"
#include "fleet/catalog/driver.h"

/* A node whose answer was lost may use its token again for so long. */
#define JOIN_AGAIN_S 3600
/* An expired token is told apart from an unknown one for so long. */
#define JOIN_KEPT_S 86400
#define NAME_MAX_LEN 63

static const struct wr_cat_driver *const drivers[] = {&wr_cat_sqlite};

struct wr_catalog {
	const struct wr_cat_driver *drv;
	struct wr_cat_db *db;
	bool in_group; /* of the caller's */
};

/* ---- rows ---- */

void
wr_cat_project_fini(struct wr_cat_project *p)
{
	wr_buf_fini(&p->record);
	wr_buf_fini(&p->settings);
}

void
wr_cat_row_fini(struct wr_cat_row *r)
{
	wr_cat_project_fini(&r->p);
}

/* ---- opening, groups ---- */

int
wr_catalog_open(const char *where, struct wr_catalog **out, struct wr_err *err)
{
	const char *colon = strchr(where, ':');
	struct wr_cat_db *db = NULL;

	for (size_t i = 0; colon && i < WR_ARRAY_LEN(drivers); i++) {
		if (strlen(drivers[i]->scheme) != (size_t)(colon - where) ||
		    strncmp(drivers[i]->scheme, where, (size_t)(colon - where)) != 0)
			continue;
		if (drivers[i]->open(colon + 1, &db, err) < 0)
			return wr_err_wrap(err, "catalog");
		*out = wr_calloc(1, sizeof(**out));
		(*out)->drv = drivers[i];
		(*out)->db = db;
		return 0;
	}
	wr_err_set(err, WR_E_INVALID, "'%s' names no catalog", WR_Q(where));
	return wr_err_hint(err, "write sqlite:PATH");
}

void
wr_catalog_close(struct wr_catalog *c)
{
	if (!c)
		return;
	c->drv->close(c->db);
	free(c);
}

int
wr_catalog_begin(struct wr_catalog *c, struct wr_err *err)
{
	wr_assert(!c->in_group);
	if (c->drv->begin(c->db, err) < 0)
		return -1;
	c->in_group = true;
	return 0;
}

int
wr_catalog_commit(struct wr_catalog *c, struct wr_err *err)
{
	wr_assert(c->in_group);
	c->in_group = false;
	return c->drv->commit(c->db, err);
}

void
wr_catalog_abort(struct wr_catalog *c)
{
	wr_assert(c->in_group);
	c->in_group = false;
	c->drv->abort(c->db);
}

/* Several steps as one change, be there a group of the caller's or not. */
static int
enter(struct wr_catalog *c, struct wr_err *err)
{
	return c->in_group ? 0 : c->drv->begin(c->db, err);
}

static int
leave(struct wr_catalog *c, int rc, struct wr_err *err)
{
	if (c->in_group)
		return rc;
	if (rc == 0)
		return c->drv->commit(c->db, err);
	c->drv->abort(c->db);
	return rc;
}

/* ---- join tokens ---- */

int
wr_catalog_join_put(struct wr_catalog *c, const struct wr_join *j, struct wr_err *err)
{
	int rc;

	if (enter(c, err) < 0)
		return -1;
	rc = c->drv->join_sweep(c->db, j->created - JOIN_KEPT_S, err);
	if (rc == 0)
		rc = c->drv->join_store(c->db, j, err);
	return leave(c, rc, err);
}

static int
refuse_join(struct wr_err *err)
{
	return wr_err_hint(err, "make a new one on the hub: warren node add --name NAME --dc DC");
}

static int
judge_join(const struct wr_join *j, const struct wr_uuid *node, int64_t now, struct wr_err *err)
{
	bool same = !strcmp(j->node, node->s);

	if (*j->rejoin && strcmp(j->rejoin, node->s) != 0) {
		wr_err_set(err, WR_E_DENIED, "the join token is for node %s to come back with",
			   j->rejoin);
		return refuse_join(err);
	}
	if (j->used && (!same || now >= j->used + JOIN_AGAIN_S)) {
		wr_err_set(err, WR_E_DENIED, "the join token was used at %s",
			   wr_fmt_utc(j->used).s);
		return refuse_join(err);
	}
	if (!j->used && now >= j->expires) {
		wr_err_set(err, WR_E_DENIED, "the join token expired at %s",
			   wr_fmt_utc(j->expires).s);
		return refuse_join(err);
	}
	return 0;
}

static int
use_join(struct wr_catalog *c, const char *hash, const struct wr_uuid *node, int64_t now,
	 struct wr_join *out, struct wr_err *err)
{
	struct wr_join j;
	int rc = c->drv->join_find(c->db, hash, &j, err);

	if (rc < 0)
		return -1;
	if (rc == 0) {
		wr_err_set(err, WR_E_DENIED, "the join token is not known here");
		return refuse_join(err);
	}
	if (judge_join(&j, node, now, err) < 0)
		return -1;
	if (!j.used) {
		j.used = now;
		memcpy(j.node, node->s, sizeof(j.node));
		if (c->drv->join_store(c->db, &j, err) < 0)
			return -1;
	}
	*out = j;
	return 0;
}

int
wr_catalog_join_use(struct wr_catalog *c, const char *hash, const struct wr_uuid *node, int64_t now,
		    struct wr_join *out, struct wr_err *err)
{
	if (enter(c, err) < 0)
		return -1;
	return leave(c, use_join(c, hash, node, now, out, err), err);
}

/* ---- projects ---- */

/* What settings say of a project, read leniently: a newer release may have written them. */
static int
take_settings(struct wr_cat_row *row, const struct wr_settings_doc *d, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_parse(d->json, strlen(d->json), err);
	const char *name = o ? wr_json_get_str(o, "name", "") : "";

	if (!o || wr_name_check(name, err) < 0)
		return wr_err_wrap(err, "settings of project %s", d->project.s);
	snprintf(row->p.name, sizeof(row->p.name), "%s", name);
	row->p.uid = (uint32_t)WR_MIN(wr_json_get_u64(o, "uid", 0), (uint64_t)UINT32_MAX);
	row->p.gid = (uint32_t)WR_MIN(wr_json_get_u64(o, "gid", 0), (uint64_t)UINT32_MAX);
	row->p.created = wr_json_get_time(o, "created", row->p.created);
	row->p.settings_rev = d->rev;
	row->exclusive = wr_json_get_bool(o, "exclusive", true);
	return 0;
}

static void
keep(struct wr_buf *to, const struct wr_buf *from)
{
	wr_buf_clear(to);
	wr_buf_add(to, from->p, from->len);
}

static int
check_uid(struct wr_catalog *c, const struct wr_cat_row *row, struct wr_err *err)
{
	struct wr_cat_row other = {0};
	int rc =
	    row->p.uid ? c->drv->project_by_uid(c->db, row->p.uid, &row->p.id, &other, err) : 0;

	if (rc > 0 && (row->exclusive || other.exclusive)) {
		wr_err_set(err, WR_E_EXISTS, "project '%s' has uid %" PRIu32 " already",
			   WR_Q(other.p.name), row->p.uid);
		rc = -1;
	}
	wr_cat_row_fini(&other);
	return WR_MIN(rc, 0);
}

int
wr_catalog_project_put(struct wr_catalog *c, const struct wr_cat_project *p, struct wr_err *err)
{
	struct wr_cat_row row = {.p = *p, .exclusive = true};
	struct wr_settings_doc d = {0};
	int rc;

	if (wr_name_check(p->name, err) < 0)
		return -1;
	if (p->settings.len) {
		WR_SCOPED(wr_json_freep) json_t *o = NULL;

		if (wr_settings_doc_decode(p->settings.p, p->settings.len, &d, err) < 0)
			return -1;
		o = wr_json_parse(d.json, strlen(d.json), NULL);
		row.exclusive = wr_json_get_bool(o, "exclusive", true);
		wr_settings_doc_fini(&d);
	}
	if (enter(c, err) < 0)
		return -1;
	rc = check_uid(c, &row, err);
	if (rc == 0)
		rc = c->drv->project_store(c->db, &row, err);
	return leave(c, rc, err);
}

/* ---- copies of records and settings ---- */

/* Part of its id behind it; where even that is somebody's, all of it. */
static int
rename_loser(struct wr_catalog *c, struct wr_cat_row *loser, struct wr_err *err)
{
	WR_SCOPED(wr_freep)
	char *shorter = wr_asprintf("%.*s-%.8s", NAME_MAX_LEN - 9, loser->p.name, loser->p.id.s);
	struct wr_cat_row other = {0};
	int rc = c->drv->project_by_name(c->db, shorter, &other, err);

	bool taken = rc > 0 && strcmp(other.p.id.s, loser->p.id.s) != 0;

	wr_cat_row_fini(&other);
	if (rc < 0)
		return -1;
	if (taken)
		snprintf(loser->p.name, sizeof(loser->p.name), "project-%s", loser->p.id.s);
	else
		snprintf(loser->p.name, sizeof(loser->p.name), "%s", shorter);
	return 0;
}

/* Does a keep its name against b? Everyone who sees the same settings decides alike. */
static bool
keeps_name(const struct wr_cat_row *a, const struct wr_cat_row *b)
{
	if (a->p.settings_rev != b->p.settings_rev)
		return a->p.settings_rev > b->p.settings_rev;
	return strcmp(a->p.id.s, b->p.id.s) < 0;
}

static int
settle_name(struct wr_catalog *c, struct wr_cat_row *row, struct wr_err *err)
{
	struct wr_cat_row other = {0};
	int rc = *row->p.name ? c->drv->project_by_name(c->db, row->p.name, &other, err) : 0;

	if (rc > 0 && strcmp(other.p.id.s, row->p.id.s) != 0) {
		rc = rename_loser(c, keeps_name(row, &other) ? &other : row, err);
		if (rc == 0 && keeps_name(row, &other))
			rc = c->drv->project_store(c->db, &other, err);
	}
	wr_cat_row_fini(&other);
	return WR_MIN(rc, 0);
}

/* A purged one lost its name; its settings still say it. */
static int
revive(struct wr_cat_row *row, struct wr_err *err)
{
	struct wr_settings_doc d = {0};
	int rc;

	row->purged = 0;
	if (!row->p.settings.len)
		return 0;
	rc = wr_settings_doc_decode(row->p.settings.p, row->p.settings.len, &d, err);
	if (rc == 0)
		rc = take_settings(row, &d, err);
	wr_settings_doc_fini(&d);
	return rc;
}

/* Take what is newer; *out_changed says whether anything was. */
static int
merge(struct wr_cat_row *row, const struct wr_record *r, const struct wr_buf *record,
      const struct wr_settings_doc *d, const struct wr_buf *settings, bool *out_changed,
      struct wr_err *err)
{
	bool newer_record = r && wr_epoch_cmp(&r->n, &row->p.n) > 0,
	     newer_settings = d && d->rev > row->p.settings_rev;

	*out_changed = newer_record || newer_settings;
	if (newer_record) {
		row->p.n = r->n;
		row->p.deleted = r->state == WR_RECORD_DELETED;
		row->p.changed = r->at;
		if (!row->p.created)
			row->p.created = r->at;
		keep(&row->p.record, record);
		if (row->purged && !row->p.deleted && revive(row, err) < 0)
			return -1;
	}
	if (newer_settings) {
		if (take_settings(row, d, err) < 0)
			return -1;
		keep(&row->p.settings, settings);
	}
	return 0;
}

static int
learn(struct wr_catalog *c, const struct wr_uuid *id, const struct wr_record *r,
      const struct wr_buf *record, const struct wr_settings_doc *d, const struct wr_buf *settings,
      struct wr_err *err)
{
	struct wr_cat_row row = {0};
	bool changed = false;
	int rc = c->drv->project_by_id(c->db, id->s, &row, err);

	if (rc == 0) {
		row.p.id = *id;
		row.exclusive = true;
	}
	if (rc >= 0)
		rc = merge(&row, r, record, d, settings, &changed, err);
	/* A purged one has no claim on a name. */
	if (rc == 0 && changed && !row.purged)
		rc = settle_name(c, &row, err);
	if (rc == 0 && changed)
		rc = c->drv->project_store(c->db, &row, err);
	wr_cat_row_fini(&row);
	return rc;
}

int
wr_catalog_project_learn(struct wr_catalog *c, const struct wr_record *r,
			 const struct wr_buf *record, const struct wr_settings_doc *d,
			 const struct wr_buf *settings, struct wr_err *err)
{
	wr_assert(!r || !d || !strcmp(r->project.s, d->project.s));
	if (!r && !d)
		return 0;
	if (enter(c, err) < 0)
		return -1;
	return leave(c, learn(c, r ? &r->project : &d->project, r, record, d, settings, err), err);
}

int
wr_catalog_project_purged(struct wr_catalog *c, const struct wr_uuid *id, int64_t now,
			  struct wr_err *err)
{
	struct wr_cat_row row = {0};
	int rc;

	if (enter(c, err) < 0)
		return -1;
	rc = c->drv->project_by_id(c->db, id->s, &row, err);
	if (rc > 0 && !row.purged) {
		row.purged = row.p.changed = WR_MAX(now, 1);
		rc = c->drv->project_store(c->db, &row, err);
	}
	wr_cat_row_fini(&row);
	return leave(c, WR_MIN(rc, 0), err);
}

/* ---- looking for one ---- */

static int
not_found(const char *ref, struct wr_err *err)
{
	wr_err_set(err, WR_E_NOT_FOUND, "the catalog has no project '%s'", WR_Q(ref));
	return wr_err_hint(err, "'warren list' shows all of them");
}

/* All ids that begin as some text does. */
struct hits {
	struct wr_cat_project first;
	unsigned count;
	struct wr_buf names;
};

static void
copy_project(struct wr_cat_project *to, const struct wr_cat_project *from)
{
	*to = *from;
	to->record = to->settings = (struct wr_buf)WR_BUF_INIT;
	keep(&to->record, &from->record);
	keep(&to->settings, &from->settings);
}

static int
take_hit(void *ctx, const struct wr_cat_row *row, struct wr_err *err)
{
	struct hits *h = ctx;

	(void)err;
	if (h->count++ == 0)
		copy_project(&h->first, &row->p);
	if (h->count <= 5)
		wr_buf_addf(&h->names, "%s%s (%s)", h->count > 1 ? ", " : "", row->p.name,
			    row->p.id.s);
	return 0;
}

static int
find_prefix(struct wr_catalog *c, const char *ref, struct wr_cat_project *out, struct wr_err *err)
{
	struct hits h = {0};
	char end[40];
	int rc;

	/* 'g' stands behind the hex digits, and they behind the dash. */
	snprintf(end, sizeof(end), "%.36sg", ref);
	rc = c->drv->project_range(c->db, ref, end, 6, take_hit, &h, err);
	if (rc == 0 && h.count == 1) {
		*out = h.first;
		h.first = (struct wr_cat_project){0};
	} else if (rc == 0 && h.count == 0) {
		rc = not_found(ref, err);
	} else if (rc == 0) {
		wr_err_set(err, WR_E_INVALID, "'%s' is the beginning of several ids", WR_Q(ref));
		rc = wr_err_hint(err, "%s%s", wr_buf_str(&h.names), h.count > 5 ? ", ..." : "");
	}
	wr_cat_project_fini(&h.first);
	wr_buf_fini(&h.names);
	return rc;
}

int
wr_catalog_project_find(struct wr_catalog *c, const char *ref, struct wr_cat_project *out,
			struct wr_err *err)
{
	struct wr_cat_row row = {0};
	int rc = 0;

	switch (wr_project_ref(ref)) {
	case WR_REF_ID:
		rc = c->drv->project_by_id(c->db, ref, &row, err);
		break;
	case WR_REF_NAME:
		rc = c->drv->project_by_name(c->db, ref, &row, err);
		break;
	case WR_REF_PREFIX:
		return find_prefix(c, ref, out, err);
	case WR_REF_BAD:
		return wr_err_set(err, WR_E_INVALID, "'%s' is neither a project's id nor its name",
				  WR_Q(ref));
	}
	if (rc < 0)
		return -1;
	if (rc == 0 || row.purged) {
		wr_cat_row_fini(&row);
		return not_found(ref, err);
	}
	*out = row.p;
	return 0;
}

struct each {
	wr_cat_project_fn fn;
	void *ctx;
};

static int
pass_on(void *ctx, const struct wr_cat_row *row, struct wr_err *err)
{
	const struct each *e = ctx;

	return e->fn(e->ctx, &row->p, err);
}

int
wr_catalog_project_each(struct wr_catalog *c, wr_cat_project_fn fn, void *ctx, struct wr_err *err)
{
	struct each e = {fn, ctx};

	return c->drv->project_each(c->db, pass_on, &e, err);
}

int
wr_catalog_project_bare(struct wr_catalog *c, int64_t before, unsigned limit, wr_cat_project_fn fn,
			void *ctx, struct wr_err *err)
{
	struct each e = {fn, ctx};

	return c->drv->project_bare(c->db, before, limit, pass_on, &e, err);
}

/* ---- what it may have missed ---- */

static int
started(struct wr_catalog *c, uint64_t seen, uint64_t *out_count, bool *out_older,
	struct wr_err *err)
{
	uint64_t is;

	if (c->drv->starts_get(c->db, &is, err) < 0)
		return -1;
	*out_older = is < seen;
	*out_count = WR_MAX(is, seen) + 1;
	if (*out_older && c->drv->known_clear(c->db, err) < 0)
		return -1;
	return c->drv->starts_store(c->db, *out_count, err);
}

int
wr_catalog_started(struct wr_catalog *c, uint64_t seen, uint64_t *out_count, bool *out_older,
		   struct wr_err *err)
{
	if (enter(c, err) < 0)
		return -1;
	return leave(c, started(c, seen, out_count, out_older, err), err);
}

int
wr_catalog_node_known(struct wr_catalog *c, const struct wr_uuid *node, int64_t now,
		      struct wr_err *err)
{
	if (enter(c, err) < 0)
		return -1;
	return leave(c, c->drv->known_store(c->db, node, now, err), err);
}

int
wr_catalog_node_is_known(struct wr_catalog *c, const struct wr_uuid *node, int64_t *out_at,
			 struct wr_err *err)
{
	int64_t at;
	int rc = c->drv->known_find(c->db, node, &at, err);

	if (rc > 0 && out_at)
		*out_at = at;
	return rc;
}

int
wr_catalog_uid_next(struct wr_catalog *c, uint32_t first, uint32_t last, uint64_t keep_s,
		    int64_t now, uint32_t *out, struct wr_err *err)
{
	int64_t until = now - (int64_t)WR_MIN(keep_s, (uint64_t)INT32_MAX * 64);
	uint32_t uid = 0;

	if (c->drv->uid_free(c->db, first, last, until, &uid, err) < 0)
		return -1;
	if (!uid) {
		wr_err_set(err, WR_E_LIMIT, "no uid from %" PRIu32 " to %" PRIu32 " is free", first,
			   last);
		return wr_err_hint(err, "make [node] uid_range of the hub larger, or purge "
					"projects from the trash");
	}
	*out = uid;
	return 0;
}

/* ---- evidence ---- */

/* after: NULL if it is no page. */
static int
report(struct wr_catalog *c, const struct wr_node_id *node, const char *after, const char *last,
       const struct wr_report *r, size_t count, int64_t now, struct wr_err *err)
{
	uint32_t newest;

	if (c->drv->copy_newest(c->db, &node->id, &newest, err) < 0)
		return -1;
	if (node->inc < newest)
		return 0;
	if (node->inc > newest && c->drv->copy_drop(c->db, &node->id, err) < 0)
		return -1;
	if (after && c->drv->copy_drop_range(c->db, node, after, last, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		struct wr_cat_copy k = {.r = r[i], .node = *node, .reported_at = now};

		if (c->drv->copy_store(c->db, &k, err) < 0)
			return -1;
	}
	return 0;
}

int
wr_catalog_report(struct wr_catalog *c, const struct wr_node_id *node, const struct wr_report *r,
		  size_t count, int64_t now, struct wr_err *err)
{
	if (enter(c, err) < 0)
		return -1;
	return leave(c, report(c, node, NULL, NULL, r, count, now, err), err);
}

int
wr_catalog_report_page(struct wr_catalog *c, const struct wr_node_id *node, const char *after,
		       const struct wr_report *r, size_t count, bool end, int64_t now,
		       struct wr_err *err)
{
	/* 'g' stands behind the hex digits. */
	const char *first = after ? after : "", *last = end     ? "g"
							: count ? r[count - 1].project.s
								: "";

	/* Else it could go on for ever, or speak of what was told before. */
	for (size_t i = 0; i < count; i++)
		if (strcmp(r[i].project.s, i ? r[i - 1].project.s : first) <= 0)
			return wr_err_set(err, WR_E_INVALID,
					  "what it holds is not in the order of ids");
	if (enter(c, err) < 0)
		return -1;
	return leave(c, report(c, node, first, last, r, count, now, err), err);
}

int
wr_catalog_copies(struct wr_catalog *c, const struct wr_uuid *project, const struct wr_uuid *node,
		  wr_cat_copy_fn fn, void *ctx, struct wr_err *err)
{
	return c->drv->copy_each(c->db, project, node, fn, ctx, err);
}
