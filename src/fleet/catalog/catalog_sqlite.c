/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog in one SQLite file.  Epochs and versions are bytes (number, random, save; big
 * endian), so that they sort as they compare.  What was assigned (project) and what disks reported
 * (copy) are tables of their own, and no key binds them: evidence of a project that this catalog
 * does not know is kept all the same.
 */
#include "fleet/catalog/driver.h"
#include "db/db.h"

#define PROJECT \
	"id,name,uid,gid,exclusive,deleted,purged,n,settings_rev,record,settings,created,changed"
#define COPY                                                                                   \
	"project,node,inc,reported_at,n,held,scan_started,repo_bytes,tree_bytes,dirty,hidden," \
	"running,state"
#define JOIN "hash,name,dc,created,expires,used,node,rejoin,names"

#define STATEMENTS(X)                                                                              \
	X(JOIN_STORE,                                                                              \
	  "INSERT OR REPLACE INTO node_join(" JOIN ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)")         \
	X(JOIN_FIND, "SELECT " JOIN " FROM node_join WHERE hash=?1")                               \
	X(JOIN_SWEEP, "DELETE FROM node_join WHERE expires<?1")                                    \
	X(PROJECT_STORE,                                                                           \
	  "INSERT INTO project(" PROJECT ",copied) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12," \
	  "?13,EXISTS(SELECT 1 FROM copy WHERE copy.project=?1)) "                                 \
	  "ON CONFLICT(id) DO UPDATE SET name=?2,uid=?3,gid=?4,exclusive=?5,deleted=?6,purged=?7," \
	  "n=?8,settings_rev=?9,record=?10,settings=?11,created=?12,changed=?13")                  \
	X(PROJECT_BY_ID, "SELECT " PROJECT " FROM project WHERE id=?1")                            \
	X(PROJECT_BY_NAME, "SELECT " PROJECT " FROM project WHERE name=?1")                        \
	X(PROJECT_RANGE, "SELECT " PROJECT " FROM project WHERE id>=?1 AND id<?2 AND purged=0 "    \
			 "ORDER BY id LIMIT ?3")                                                   \
	X(PROJECT_BY_UID, "SELECT " PROJECT " FROM project WHERE uid=?1 AND id<>?2 AND purged=0 "  \
			  "ORDER BY exclusive DESC, id LIMIT 1")                                   \
	X(PROJECT_EACH,                                                                            \
	  "SELECT " PROJECT " FROM project WHERE purged=0 ORDER BY name IS NOT NULL, name, id")    \
	X(UIDS, "SELECT DISTINCT uid FROM project WHERE uid BETWEEN ?1 AND ?2 AND "                \
		"(purged=0 OR purged>?3) ORDER BY uid")                                            \
	X(PROJECT_BARE, "SELECT " PROJECT " FROM project WHERE purged=0 AND created<?1 AND "       \
			"copied=0 LIMIT ?2")                                                       \
	X(PROJECT_COPIED, "UPDATE project SET copied=1 WHERE id=?1 AND copied=0")                  \
	X(STARTS_GET, "SELECT count FROM start")                                                   \
	X(STARTS_STORE, "INSERT OR REPLACE INTO start(one,count) VALUES(1,?1)")                    \
	X(KNOWN_STORE, "INSERT OR REPLACE INTO known(node,at) VALUES(?1,?2)")                      \
	X(KNOWN_FIND, "SELECT at FROM known WHERE node=?1")                                        \
	X(KNOWN_CLEAR, "DELETE FROM known")                                                        \
	X(COPY_NEWEST, "SELECT max(inc) FROM copy WHERE node=?1")                                  \
	X(COPY_STORE, "INSERT OR REPLACE INTO copy(" COPY ") "                                     \
		      "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)")                        \
	X(COPY_DROP, "DELETE FROM copy WHERE node=?1")                                             \
	X(COPY_DROP_RANGE,                                                                         \
	  "DELETE FROM copy WHERE node=?1 AND inc=?2 AND project>?3 AND project<=?4")              \
	X(COPY_ALL, "SELECT " COPY " FROM copy ORDER BY project, node")                            \
	X(COPY_OF_PROJECT, "SELECT " COPY " FROM copy WHERE project=?1 ORDER BY node")             \
	X(COPY_OF_NODE, "SELECT " COPY " FROM copy WHERE node=?2 ORDER BY project")                \
	X(COPY_OF_BOTH, "SELECT " COPY " FROM copy WHERE project=?1 AND node=?2")

enum sql {
#define X(name, text) name,
	STATEMENTS(X)
#undef X
	    COUNT
};

static const char *const statements[COUNT] = {
#define X(name, text) [name] = text,
    STATEMENTS(X)
#undef X
};

static const char *const formats[] = {
    "CREATE TABLE node_join(hash TEXT PRIMARY KEY, name TEXT NOT NULL, dc TEXT NOT NULL,"
    " created INTEGER NOT NULL, expires INTEGER NOT NULL, used INTEGER NOT NULL,"
    " node TEXT NOT NULL, rejoin TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE project(id TEXT PRIMARY KEY, name TEXT UNIQUE, uid INTEGER NOT NULL,"
    " gid INTEGER NOT NULL, exclusive INTEGER NOT NULL, deleted INTEGER NOT NULL,"
    " purged INTEGER NOT NULL, n BLOB NOT NULL, settings_rev INTEGER NOT NULL,"
    " record BLOB NOT NULL, settings BLOB NOT NULL, created INTEGER NOT NULL,"
    " changed INTEGER NOT NULL);"
    "CREATE INDEX project_uid ON project(uid, purged);"
    "CREATE TABLE copy(project TEXT NOT NULL, node TEXT NOT NULL, inc INTEGER NOT NULL,"
    " reported_at INTEGER NOT NULL, n BLOB NOT NULL, held BLOB NOT NULL,"
    " scan_started INTEGER NOT NULL, repo_bytes INTEGER NOT NULL, tree_bytes INTEGER NOT NULL,"
    " dirty INTEGER NOT NULL, hidden INTEGER NOT NULL, running INTEGER NOT NULL,"
    " state INTEGER NOT NULL, PRIMARY KEY(project, node)) WITHOUT ROWID;"
    "CREATE INDEX copy_node ON copy(node, inc);",
    ("CREATE TABLE start(one INTEGER PRIMARY KEY CHECK(one=1), count INTEGER NOT NULL);"
     "CREATE TABLE known(node TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;"),
    "ALTER TABLE node_join ADD COLUMN names TEXT NOT NULL DEFAULT '';",
    ("ALTER TABLE project ADD COLUMN copied INTEGER NOT NULL DEFAULT 0;"
     "UPDATE project SET copied=1 WHERE EXISTS(SELECT 1 FROM copy WHERE copy.project=project.id);"
     "CREATE INDEX project_bare ON project(created) WHERE copied=0 AND purged=0;"),
};

static const struct wr_db_kind kind = {
    .application = 0x57524354u, /* "WRCT" */
    .formats = formats,
    .format_count = WR_ARRAY_LEN(formats),
    .cache_kib = 8192,
    .statement = statements,
    .statement_count = COUNT,
    .damage_hint = "stop the daemon and move the file away, with its -wal and -shm: projects are "
		   "learned again from what the nodes report, join tokens are made anew",
};

struct wr_cat_db {
	struct wr_db db;
};

/* ---- the file ---- */

static void
cat_close(struct wr_cat_db *d)
{
	if (!d)
		return;
	wr_db_close(&d->db);
	free(d);
}

static int
cat_open(const char *rest, struct wr_cat_db **out, struct wr_err *err)
{
	struct wr_cat_db *d = wr_calloc(1, sizeof(*d));

	if (wr_db_open(rest, false, &kind, &d->db, err) < 0) {
		cat_close(d);
		return -1;
	}
	*out = d;
	return 0;
}

static int
cat_begin(struct wr_cat_db *d, struct wr_err *err)
{
	return wr_db_begin(&d->db, err);
}

static int
cat_commit(struct wr_cat_db *d, struct wr_err *err)
{
	return wr_db_commit(&d->db, err);
}

static void
cat_abort(struct wr_cat_db *d)
{
	wr_db_rollback(&d->db);
}

/* ---- values ---- */

struct epoch_bytes {
	uint8_t b[16];
};
struct version_bytes {
	uint8_t b[24];
};

static struct epoch_bytes
epoch_bytes(const struct wr_epoch *e)
{
	struct epoch_bytes r;

	wr_put64be(r.b, e->number);
	wr_put64be(r.b + 8, e->random);
	return r;
}

static struct version_bytes
version_bytes(const struct wr_version *v)
{
	struct epoch_bytes n = epoch_bytes(&v->n);
	struct version_bytes r;

	memcpy(r.b, n.b, sizeof(n.b));
	wr_put64be(r.b + 16, v->s);
	return r;
}

/* Zeros where a row of this length is not there: such a copy is older than any. */
static struct wr_version
col_version(sqlite3_stmt *st, int at)
{
	const void *p = sqlite3_column_blob(st, at);
	int len = sqlite3_column_bytes(st, at);
	struct wr_rd rd = wr_rd(p, len > 0 ? (size_t)len : 0);
	struct wr_version v;

	v.n.number = wr_rd64be(&rd);
	v.n.random = wr_rd64be(&rd);
	v.s = rd.left ? wr_rd64be(&rd) : 0;
	return v;
}

static void
col_bytes(sqlite3_stmt *st, int at, struct wr_buf *out)
{
	const void *p = sqlite3_column_blob(st, at);
	int len = sqlite3_column_bytes(st, at);

	if (p && len > 0)
		wr_buf_add(out, p, (size_t)len);
}

/* ---- join tokens ---- */

static int
join_store(struct wr_cat_db *d, const struct wr_join *j, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, JOIN_STORE, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, j->hash);
	wr_db_text(st, 2, j->name);
	wr_db_text(st, 3, j->dc);
	wr_db_int(st, 4, j->created);
	wr_db_int(st, 5, j->expires);
	wr_db_int(st, 6, j->used);
	wr_db_text(st, 7, j->node);
	wr_db_text(st, 8, j->rejoin);
	wr_db_text(st, 9, j->names);
	return wr_db_run(&d->db, JOIN_STORE, st, err);
}

static int
join_find(struct wr_cat_db *d, const char *hash, struct wr_join *out, struct wr_err *err)
{
	struct wr_join j = {0};
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&d->db, JOIN_FIND, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, hash);
	rc = wr_db_step(&d->db, st, err);
	if (rc > 0) {
		wr_db_col_copy(st, 0, j.hash, sizeof(j.hash));
		wr_db_col_copy(st, 1, j.name, sizeof(j.name));
		wr_db_col_copy(st, 2, j.dc, sizeof(j.dc));
		j.created = sqlite3_column_int64(st, 3);
		j.expires = sqlite3_column_int64(st, 4);
		j.used = sqlite3_column_int64(st, 5);
		wr_db_col_copy(st, 6, j.node, sizeof(j.node));
		wr_db_col_copy(st, 7, j.rejoin, sizeof(j.rejoin));
		wr_db_col_copy(st, 8, j.names, sizeof(j.names));
		*out = j;
	}
	wr_db_put(&d->db, JOIN_FIND, st);
	return rc;
}

static int
join_sweep(struct wr_cat_db *d, int64_t before, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, JOIN_SWEEP, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, before);
	return wr_db_run(&d->db, JOIN_SWEEP, st, err);
}

/* ---- projects ---- */

/* In the order of PROJECT. */
static void
read_project(sqlite3_stmt *st, struct wr_cat_row *r)
{
	struct wr_version v = col_version(st, 7);

	*r = (struct wr_cat_row){0};
	wr_db_col_copy(st, 0, r->p.id.s, sizeof(r->p.id.s));
	wr_db_col_copy(st, 1, r->p.name, sizeof(r->p.name));
	r->p.uid = wr_db_col_u32(st, 2);
	r->p.gid = wr_db_col_u32(st, 3);
	r->exclusive = sqlite3_column_int64(st, 4) != 0;
	r->p.deleted = sqlite3_column_int64(st, 5) != 0;
	r->purged = sqlite3_column_int64(st, 6);
	r->p.n = v.n;
	r->p.settings_rev = (uint64_t)sqlite3_column_int64(st, 8);
	col_bytes(st, 9, &r->p.record);
	col_bytes(st, 10, &r->p.settings);
	r->p.created = sqlite3_column_int64(st, 11);
	r->p.changed = sqlite3_column_int64(st, 12);
}

static int
project_store(struct wr_cat_db *d, const struct wr_cat_row *r, struct wr_err *err)
{
	struct epoch_bytes n = epoch_bytes(&r->p.n);
	struct wr_err why = WR_ERR_INIT;
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, PROJECT_STORE, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, r->p.id.s);
	wr_db_text(st, 2, *r->p.name && !r->purged ? r->p.name : NULL);
	wr_db_int(st, 3, r->p.uid);
	wr_db_int(st, 4, r->p.gid);
	wr_db_int(st, 5, r->exclusive);
	wr_db_int(st, 6, r->p.deleted);
	wr_db_int(st, 7, r->purged);
	wr_db_blob(st, 8, n.b, sizeof(n.b));
	wr_db_int(st, 9, (int64_t)r->p.settings_rev);
	wr_db_blob(st, 10, r->p.record.p ? r->p.record.p : n.b, r->p.record.len);
	wr_db_blob(st, 11, r->p.settings.p ? r->p.settings.p : n.b, r->p.settings.len);
	wr_db_int(st, 12, r->p.created);
	wr_db_int(st, 13, r->p.changed);
	if (wr_db_run(&d->db, PROJECT_STORE, st, &why) == 0)
		return 0;
	/* Nothing else in the row is unique. */
	if (why.code == WR_E_EXISTS) {
		wr_err_set(err, WR_E_EXISTS, "there is a project named '%s' already",
			   WR_Q(r->p.name));
		return wr_err_hint(err, "it may be in the trash: 'warren trash list' shows it");
	}
	if (err)
		*err = why;
	return -1;
}

/* The first row, if any. The statement is bound. */
static int
first_project(struct wr_cat_db *d, enum sql q, sqlite3_stmt *st, struct wr_cat_row *out,
	      struct wr_err *err)
{
	int rc = wr_db_step(&d->db, st, err);

	if (rc > 0)
		read_project(st, out);
	wr_db_put(&d->db, q, st);
	return rc;
}

static int
project_by_text(struct wr_cat_db *d, enum sql q, const char *text, struct wr_cat_row *out,
		struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, q, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, text);
	return first_project(d, q, st, out, err);
}

static int
project_by_id(struct wr_cat_db *d, const char *id, struct wr_cat_row *out, struct wr_err *err)
{
	return project_by_text(d, PROJECT_BY_ID, id, out, err);
}

static int
project_by_name(struct wr_cat_db *d, const char *name, struct wr_cat_row *out, struct wr_err *err)
{
	return project_by_text(d, PROJECT_BY_NAME, name, out, err);
}

static int
project_by_uid(struct wr_cat_db *d, uint32_t uid, const struct wr_uuid *not_this,
	       struct wr_cat_row *out, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, PROJECT_BY_UID, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, uid);
	wr_db_text(st, 2, not_this->s);
	return first_project(d, PROJECT_BY_UID, st, out, err);
}

static int
walk_projects(struct wr_cat_db *d, enum sql q, sqlite3_stmt *st, wr_cat_row_fn fn, void *ctx,
	      struct wr_err *err)
{
	int rc;

	while ((rc = wr_db_step(&d->db, st, err)) > 0) {
		struct wr_cat_row row;

		read_project(st, &row);
		rc = fn(ctx, &row, err);
		wr_cat_row_fini(&row);
		if (rc)
			break;
	}
	wr_db_put(&d->db, q, st);
	return rc;
}

static int
project_range(struct wr_cat_db *d, const char *first, const char *end, unsigned limit,
	      wr_cat_row_fn fn, void *ctx, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, PROJECT_RANGE, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, first);
	wr_db_text(st, 2, end);
	wr_db_int(st, 3, limit);
	return walk_projects(d, PROJECT_RANGE, st, fn, ctx, err);
}

static int
project_each(struct wr_cat_db *d, wr_cat_row_fn fn, void *ctx, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, PROJECT_EACH, &st, err) < 0)
		return -1;
	return walk_projects(d, PROJECT_EACH, st, fn, ctx, err);
}

static int
project_bare(struct wr_cat_db *d, int64_t before, unsigned limit, wr_cat_row_fn fn, void *ctx,
	     struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, PROJECT_BARE, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, before);
	wr_db_int(st, 2, limit);
	return walk_projects(d, PROJECT_BARE, st, fn, ctx, err);
}

static int
uid_free(struct wr_cat_db *d, uint32_t first, uint32_t last, int64_t until, uint32_t *out,
	 struct wr_err *err)
{
	uint64_t next = first;
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&d->db, UIDS, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, first);
	wr_db_int(st, 2, last);
	wr_db_int(st, 3, until);
	/* Ascending, each once: the first that is not next leaves a gap. */
	while ((rc = wr_db_step(&d->db, st, err)) > 0 &&
	       sqlite3_column_int64(st, 0) == (int64_t)next)
		next++;
	wr_db_put(&d->db, UIDS, st);
	if (rc < 0)
		return -1;
	*out = next > last ? 0 : (uint32_t)next;
	return 0;
}

/* ---- what it may have missed ---- */

static int
starts_get(struct wr_cat_db *d, uint64_t *out, struct wr_err *err)
{
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&d->db, STARTS_GET, &st, err) < 0)
		return -1;
	rc = wr_db_step(&d->db, st, err);
	*out = rc > 0 ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
	wr_db_put(&d->db, STARTS_GET, st);
	return WR_MIN(rc, 0);
}

static int
starts_store(struct wr_cat_db *d, uint64_t count, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, STARTS_STORE, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, (int64_t)count);
	return wr_db_run(&d->db, STARTS_STORE, st, err);
}

static int
known_store(struct wr_cat_db *d, const struct wr_uuid *node, int64_t at, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, KNOWN_STORE, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, node->s);
	wr_db_int(st, 2, at);
	return wr_db_run(&d->db, KNOWN_STORE, st, err);
}

static int
known_find(struct wr_cat_db *d, const struct wr_uuid *node, int64_t *out_at, struct wr_err *err)
{
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&d->db, KNOWN_FIND, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, node->s);
	rc = wr_db_step(&d->db, st, err);
	if (rc > 0)
		*out_at = sqlite3_column_int64(st, 0);
	wr_db_put(&d->db, KNOWN_FIND, st);
	return rc;
}

static int
known_clear(struct wr_cat_db *d, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, KNOWN_CLEAR, &st, err) < 0)
		return -1;
	return wr_db_run(&d->db, KNOWN_CLEAR, st, err);
}

/* ---- evidence ---- */

static int
copy_newest(struct wr_cat_db *d, const struct wr_uuid *node, uint32_t *out, struct wr_err *err)
{
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&d->db, COPY_NEWEST, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, node->s);
	rc = wr_db_step(&d->db, st, err);
	*out = rc > 0 ? wr_db_col_u32(st, 0) : 0;
	wr_db_put(&d->db, COPY_NEWEST, st);
	return WR_MIN(rc, 0);
}

static int
copy_store(struct wr_cat_db *d, const struct wr_cat_copy *k, struct wr_err *err)
{
	struct epoch_bytes n = epoch_bytes(&k->r.n);
	struct version_bytes held = version_bytes(&k->r.held);
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, COPY_STORE, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, k->r.project.s);
	wr_db_text(st, 2, k->node.id.s);
	wr_db_int(st, 3, k->node.inc);
	wr_db_int(st, 4, k->reported_at);
	wr_db_blob(st, 5, n.b, sizeof(n.b));
	wr_db_blob(st, 6, held.b, sizeof(held.b));
	wr_db_int(st, 7, k->r.scan_started);
	wr_db_int(st, 8, (int64_t)k->r.repo_bytes);
	wr_db_int(st, 9, (int64_t)k->r.tree_bytes);
	wr_db_int(st, 10, k->r.dirty);
	wr_db_int(st, 11, k->r.hidden);
	wr_db_int(st, 12, k->r.running);
	wr_db_int(st, 13, k->r.state);
	if (wr_db_run(&d->db, COPY_STORE, st, err) < 0 ||
	    wr_db_get(&d->db, PROJECT_COPIED, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, k->r.project.s);
	return wr_db_run(&d->db, PROJECT_COPIED, st, err);
}

static int
copy_drop(struct wr_cat_db *d, const struct wr_uuid *node, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, COPY_DROP, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, node->s);
	return wr_db_run(&d->db, COPY_DROP, st, err);
}

static int
copy_drop_range(struct wr_cat_db *d, const struct wr_node_id *node, const char *after,
		const char *last, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&d->db, COPY_DROP_RANGE, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, node->id.s);
	wr_db_int(st, 2, node->inc);
	wr_db_text(st, 3, after);
	wr_db_text(st, 4, last);
	return wr_db_run(&d->db, COPY_DROP_RANGE, st, err);
}

/* In the order of COPY. */
static void
read_copy(sqlite3_stmt *st, struct wr_cat_copy *k)
{
	struct wr_version n = col_version(st, 4);

	*k = (struct wr_cat_copy){.reported_at = sqlite3_column_int64(st, 3)};
	wr_db_col_copy(st, 0, k->r.project.s, sizeof(k->r.project.s));
	wr_db_col_copy(st, 1, k->node.id.s, sizeof(k->node.id.s));
	k->node.inc = wr_db_col_u32(st, 2);
	k->r.n = n.n;
	k->r.held = col_version(st, 5);
	k->r.scan_started = sqlite3_column_int64(st, 6);
	k->r.repo_bytes = (uint64_t)sqlite3_column_int64(st, 7);
	k->r.tree_bytes = (uint64_t)sqlite3_column_int64(st, 8);
	k->r.dirty = sqlite3_column_int64(st, 9) != 0;
	k->r.hidden = sqlite3_column_int64(st, 10) != 0;
	k->r.running = sqlite3_column_int64(st, 11) != 0;
	k->r.state = (uint8_t)WR_MIN(wr_db_col_u32(st, 12), (uint32_t)UINT8_MAX);
}

static int
copy_each(struct wr_cat_db *d, const struct wr_uuid *project, const struct wr_uuid *node,
	  wr_cat_copy_fn fn, void *ctx, struct wr_err *err)
{
	enum sql q = project && node ? COPY_OF_BOTH
		     : project       ? COPY_OF_PROJECT
		     : node          ? COPY_OF_NODE
				     : COPY_ALL;
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&d->db, q, &st, err) < 0)
		return -1;
	if (project)
		wr_db_text(st, 1, project->s);
	if (node)
		wr_db_text(st, 2, node->s);
	while ((rc = wr_db_step(&d->db, st, err)) > 0) {
		struct wr_cat_copy k;

		read_copy(st, &k);
		rc = fn(ctx, &k, err);
		if (rc)
			break;
	}
	wr_db_put(&d->db, q, st);
	return rc;
}

const struct wr_cat_driver wr_cat_sqlite = {
    .scheme = "sqlite",
    .open = cat_open,
    .close = cat_close,
    .begin = cat_begin,
    .commit = cat_commit,
    .abort = cat_abort,
    .join_store = join_store,
    .join_find = join_find,
    .join_sweep = join_sweep,
    .project_store = project_store,
    .project_by_id = project_by_id,
    .project_by_name = project_by_name,
    .project_range = project_range,
    .project_by_uid = project_by_uid,
    .project_each = project_each,
    .uid_free = uid_free,
    .project_bare = project_bare,
    .starts_get = starts_get,
    .starts_store = starts_store,
    .known_store = known_store,
    .known_find = known_find,
    .known_clear = known_clear,
    .copy_newest = copy_newest,
    .copy_store = copy_store,
    .copy_drop = copy_drop,
    .copy_drop_range = copy_drop_range,
    .copy_each = copy_each,
};
