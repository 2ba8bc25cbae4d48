/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conformance suite of catalogs: what is right for one driver is right for all.  A driver is
 * one more entry in `places`.  What only one of them can do (files, damage) stands at the end.
 */
#include "fleet/catalog/catalog.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/test_ok.h"
#include "db/db.h"
#include "sys/clock.h"
#include "sys/test_dir.h"

#define NOW INT64_C(1800000000)
#define HASH "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

/* Where an empty catalog of this kind is, for a test with this directory. */
struct place {
	const char *name;
	char *(*where)(const struct dir *d);
};

static char *
where_sqlite(const struct dir *d)
{
	return wr_asprintf("sqlite:%s/catalog.db", d->path);
}

static struct place places[] = {{"sqlite", where_sqlite}};
static const struct place *place; /* the one that is tried */

static struct wr_catalog *
open_catalog(const struct dir *d)
{
	WR_SCOPED(wr_freep) char *where = place->where(d);
	struct wr_catalog *c = NULL;

	ok(wr_catalog_open(where, &c, err));
	return c;
}

static struct wr_uuid
uuid(unsigned n)
{
	struct wr_uuid u;

	snprintf(u.s, sizeof(u.s), "%08x-0000-4000-8000-000000000000", n);
	return u;
}

/* ---- things to put in ---- */

static struct wr_sign_key hub;

struct doc {
	struct wr_settings_doc d;
	struct wr_buf bytes;
};
static void
doc_fini(struct doc *d)
{
	wr_settings_doc_fini(&d->d);
	wr_buf_fini(&d->bytes);
}
static struct doc
doc(const struct wr_uuid *id, const char *name, uint64_t rev, uint32_t uid, bool exclusive)
{
	struct doc r = {.d = {.project = *id, .rev = rev}};

	r.d.json =
	    wr_asprintf("{\"format\":1,\"id\":\"%s\",\"name\":\"%s\",\"rev\":%" PRIu64
			",\"uid\":%u,\"gid\":%u,\"exclusive\":%s,\"account\":\"\","
			"\"created\":\"2026-11-22T10:15:30Z\",\"labels\":{},\"settings\":{}}",
			id->s, name, rev, uid, uid, exclusive ? "true" : "false");
	ok(wr_settings_doc_sign(&r.d, &hub, err));
	wr_settings_doc_encode(&r.d, &r.bytes);
	return r;
}

struct rec {
	struct wr_record r;
	struct wr_buf bytes;
};
static struct rec
rec(const struct wr_uuid *id, uint64_t n, bool deleted)
{
	struct rec x = {.r = {.project = *id,
			      .n = {n, 77},
			      .member_count = 1,
			      .state = deleted ? WR_RECORD_DELETED : WR_RECORD_LIVE,
			      .settings_rev = 1,
			      .at = NOW + (int64_t)n}};

	x.r.member[0].node.id = uuid(0xaaaa);
	x.r.member[0].node.inc = 1;
	x.r.member[0].role = WR_ROLE_DATA;
	x.r.writer = x.r.member[0].node;
	if (n > 1) {
		x.r.prev.number = n - 1;
		x.r.prev.random = 77;
		x.r.base.n = x.r.prev;
	}
	ok(wr_record_sign(&x.r, &hub, err));
	wr_record_encode(&x.r, &x.bytes);
	return x;
}

static void
learn(struct wr_catalog *c, const struct rec *r, const struct doc *d)
{
	ok(wr_catalog_project_learn(c, r ? &r->r : NULL, r ? &r->bytes : NULL, d ? &d->d : NULL,
				    d ? &d->bytes : NULL, err));
}

static void
learn_doc(struct wr_catalog *c, const struct wr_uuid *id, const char *name, uint64_t rev)
{
	WR_SCOPED(doc_fini) struct doc d = doc(id, name, rev, 0, true);

	learn(c, NULL, &d);
}

static void
learn_rec(struct wr_catalog *c, const struct wr_uuid *id, uint64_t n, bool deleted)
{
	struct rec r = rec(id, n, deleted);

	learn(c, &r, NULL);
	wr_buf_fini(&r.bytes);
}

static struct wr_cat_project
project(unsigned id, const char *name, uint32_t uid)
{
	struct wr_cat_project p = {.id = uuid(id),
				   .uid = uid,
				   .gid = uid,
				   .n = {1, UINT64_MAX},
				   .settings_rev = 1,
				   .created = NOW,
				   .changed = NOW};

	snprintf(p.name, sizeof(p.name), "%s", name);
	return p;
}

static void
put(struct wr_catalog *c, unsigned id, const char *name, uint32_t uid)
{
	struct wr_cat_project p = project(id, name, uid);

	ok(wr_catalog_project_put(c, &p, err));
}

static void
assert_name(struct wr_catalog *c, const struct wr_uuid *id, const char *name)
{
	struct wr_cat_project p;

	ok(wr_catalog_project_find(c, id->s, &p, err));
	assert_string_equal(p.name, name);
	wr_cat_project_fini(&p);
}

/* ---- join tokens ---- */

static struct wr_join
token(void)
{
	return (struct wr_join){.hash = HASH,
				.name = "n2",
				.dc = "dc2",
				.names = "n2.example",
				.created = NOW,
				.expires = NOW + 3600};
}

static void
test_join(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_uuid a = uuid(1), b = uuid(2);
	struct wr_join j = token(), got;

	refused(wr_catalog_join_use(c, HASH, &a, NOW, &got, err), WR_E_DENIED, "not known");
	ok(wr_catalog_join_put(c, &j, err));
	refused(wr_catalog_join_use(c, HASH, &a, NOW + 3600, &got, err), WR_E_DENIED,
		"expired at 2027-01-15T09:00:00Z");
	ok(wr_catalog_join_use(c, HASH, &a, NOW + 3599, &got, err));
	assert_string_equal(got.name, "n2");
	assert_string_equal(got.dc, "dc2");
	assert_string_equal(got.node, a.s);
	assert_int_equal(got.used, NOW + 3599);
	/* Its answer was lost: the same one again, for an hour, though it has expired. */
	ok(wr_catalog_join_use(c, HASH, &a, NOW + 3599 + 3599, &got, err));
	assert_int_equal(got.used, NOW + 3599);
	refused(wr_catalog_join_use(c, HASH, &b, NOW + 3599, &got, err), WR_E_DENIED, "was used");
	refused(wr_catalog_join_use(c, HASH, &a, NOW + 7199, &got, err), WR_E_DENIED, "was used");
	wr_catalog_close(c);
	c = open_catalog(*state);
	refused(wr_catalog_join_use(c, HASH, &b, NOW + 3599, &got, err), WR_E_DENIED, "was used");
	wr_catalog_close(c);
}

static void
test_join__to_come_back(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_uuid a = uuid(1), b = uuid(2);
	struct wr_join j = token(), got;

	memcpy(j.rejoin, a.s, sizeof(j.rejoin));
	ok(wr_catalog_join_put(c, &j, err));
	refused(wr_catalog_join_use(c, HASH, &b, NOW, &got, err), WR_E_DENIED, a.s);
	ok(wr_catalog_join_use(c, HASH, &a, NOW, &got, err));
	assert_string_equal(got.rejoin, a.s);
	wr_catalog_close(c);
}

static void
test_join__swept(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_uuid a = uuid(1);
	struct wr_join j = token(), later = token(), got;

	ok(wr_catalog_join_put(c, &j, err));
	memset(later.hash, 'b', 64);
	later.created = NOW + 100000;
	later.expires = NOW + 103600;
	ok(wr_catalog_join_put(c, &later, err));
	refused(wr_catalog_join_use(c, HASH, &a, NOW, &got, err), WR_E_DENIED, "not known");
	ok(wr_catalog_join_use(c, later.hash, &a, NOW + 100000, &got, err));
	wr_catalog_close(c);
}

/* ---- projects ---- */

static void
test_project(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_uuid id = uuid(0x1234);
	struct wr_cat_project p = project(0x1234, "notes", 700000), got;
	WR_SCOPED(doc_fini) struct doc d = doc(&id, "notes", 1, 700000, true);

	wr_buf_adds(&p.record, "the record");
	wr_buf_add(&p.settings, d.bytes.p, d.bytes.len);
	ok(wr_catalog_project_put(c, &p, err));
	wr_catalog_close(c);
	c = open_catalog(*state);
	ok(wr_catalog_project_find(c, "notes", &got, err));
	assert_string_equal(got.id.s, id.s);
	assert_int_equal(got.uid, 700000);
	assert_int_equal(got.gid, 700000);
	assert_false(got.deleted);
	assert_int_equal(wr_epoch_cmp(&got.n, &p.n), 0);
	assert_int_equal(got.settings_rev, 1);
	assert_int_equal(got.record.len, 10);
	assert_memory_equal(got.record.p, "the record", 10);
	assert_int_equal(got.settings.len, d.bytes.len);
	assert_memory_equal(got.settings.p, d.bytes.p, d.bytes.len);
	assert_int_equal(got.created, NOW);
	wr_cat_project_fini(&got);
	wr_cat_project_fini(&got);
	/* Again by id: all is replaced. */
	wr_buf_clear(&p.settings);
	snprintf(p.name, sizeof(p.name), "letters");
	p.deleted = true;
	ok(wr_catalog_project_put(c, &p, err));
	refused(wr_catalog_project_find(c, "notes", &got, err), WR_E_NOT_FOUND, "'notes'");
	ok(wr_catalog_project_find(c, id.s, &got, err));
	assert_true(got.deleted);
	assert_int_equal(got.settings.len, 0);
	wr_cat_project_fini(&got);
	snprintf(p.name, sizeof(p.name), "Bad Name");
	{
		struct wr_err err = WR_ERR_INIT;

		assert_int_equal(wr_catalog_project_put(c, &p, &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
	}
	wr_cat_project_fini(&p);
	wr_catalog_close(c);
}

static void
test_find(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_cat_project got;

	put(c, 0x12340001, "one", 1);
	put(c, 0x12340002, "two", 2);
	put(c, 0x12ff0003, "three", 3);
	ok(wr_catalog_project_find(c, "12ff", &got, err));
	assert_string_equal(got.name, "three");
	wr_cat_project_fini(&got);
	ok(wr_catalog_project_find(c, "12340002", &got, err));
	assert_string_equal(got.name, "two");
	wr_cat_project_fini(&got);
	ok(wr_catalog_project_find(c, "12340001-0000-4000-8000-000000000000", &got, err));
	assert_string_equal(got.name, "one");
	wr_cat_project_fini(&got);
	refused(wr_catalog_project_find(c, "1234", &got, err), WR_E_INVALID, "several ids");
	refused(wr_catalog_project_find(c, "abcd", &got, err), WR_E_NOT_FOUND, "'abcd'");
	refused(wr_catalog_project_find(c, "four", &got, err), WR_E_NOT_FOUND, "'four'");
	refused(wr_catalog_project_find(c, "%", &got, err), WR_E_INVALID, "neither");
	refused(wr_catalog_project_find(c, "", &got, err), WR_E_INVALID, "neither");
	wr_catalog_close(c);
}

static void
test_put__taken(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_cat_project p = project(2, "notes", 2), got;
	struct wr_uuid third = uuid(3), fourth = uuid(4);
	WR_SCOPED(doc_fini) struct doc shared = doc(&third, "pc", 1, 50, false);
	WR_SCOPED(doc_fini) struct doc also = doc(&fourth, "pd", 1, 50, false);

	put(c, 1, "notes", 1);
	refused(wr_catalog_project_put(c, &p, err), WR_E_EXISTS, "'notes' already");
	p = project(2, "letters", 1);
	refused(wr_catalog_project_put(c, &p, err), WR_E_EXISTS, "has uid 1 already");
	/* In a group, too, and the group goes on. */
	ok(wr_catalog_begin(c, err));
	refused(wr_catalog_project_put(c, &p, err), WR_E_EXISTS, "has uid 1 already");
	p = project(2, "notes", 9);
	refused(wr_catalog_project_put(c, &p, err), WR_E_EXISTS, "'notes' already");
	put(c, 2, "letters", 2);
	ok(wr_catalog_commit(c, err));
	ok(wr_catalog_project_find(c, "letters", &got, err));
	wr_cat_project_fini(&got);
	/* Trashed ones keep both. */
	p = project(1, "notes", 1);
	p.deleted = true;
	ok(wr_catalog_project_put(c, &p, err));
	p = project(5, "notes", 5);
	refused(wr_catalog_project_put(c, &p, err), WR_E_EXISTS, "'notes' already");
	p = project(5, "other", 1);
	refused(wr_catalog_project_put(c, &p, err), WR_E_EXISTS, "has uid 1");
	/* Uids that both say are shared; 0 is none. */
	p = project(3, "pc", 50);
	p.settings = shared.bytes;
	ok(wr_catalog_project_put(c, &p, err));
	p = project(4, "pd", 50);
	p.settings = also.bytes;
	ok(wr_catalog_project_put(c, &p, err));
	p = project(5, "pe", 50);
	refused(wr_catalog_project_put(c, &p, err), WR_E_EXISTS, "has uid 50");
	put(c, 6, "pf", 0);
	put(c, 7, "g", 0);
	wr_catalog_close(c);
}

static int
gather(void *ctx, const struct wr_cat_project *p, struct wr_err *err)
{
	(void)err;
	wr_buf_addf(ctx, "%s ", p->name);
	return 0;
}

static int
stop_at_once(void *ctx, const struct wr_cat_project *p, struct wr_err *err)
{
	(void)p;
	(void)err;
	++*(int *)ctx;
	return 7;
}

static int
ask_inside(void *ctx, const struct wr_cat_project *p, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT;
	struct wr_cat_project got, changed = *p;

	if (wr_catalog_project_find(ctx, p->id.s, &got, err) < 0 ||
	    wr_catalog_project_each(ctx, gather, &names, err) < 0)
		return -1;
	assert_string_equal(wr_buf_str(&names), "pa pb pc ");
	wr_cat_project_fini(&got);
	changed.changed++;
	return wr_catalog_project_put(ctx, &changed, err);
}

static void
test_each(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT;
	struct wr_cat_project got;
	int calls = 0;

	put(c, 1, "pb", 1);
	put(c, 2, "pc", 2);
	put(c, 3, "pa", 3);
	ok(wr_catalog_project_each(c, gather, &names, err));
	assert_string_equal(wr_buf_str(&names), "pa pb pc ");
	assert_int_equal(wr_catalog_project_each(c, stop_at_once, &calls, NULL), 7);
	assert_int_equal(calls, 1);
	ok(wr_catalog_project_each(c, ask_inside, c, err));
	ok(wr_catalog_project_find(c, "pb", &got, err));
	assert_int_equal(got.changed, NOW + 1);
	wr_cat_project_fini(&got);
	wr_catalog_close(c);
}

/* ---- copies of records and settings ---- */

static void
test_learn(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_uuid id = uuid(5);
	struct rec r2 = rec(&id, 2, false);
	WR_SCOPED(doc_fini) struct doc d3 = doc(&id, "notes", 3, 700005, true);
	struct wr_cat_project got;

	/* A record alone: the name is not known yet. */
	learn(c, &r2, NULL);
	ok(wr_catalog_project_find(c, id.s, &got, err));
	assert_string_equal(got.name, "");
	assert_int_equal(got.n.number, 2);
	assert_int_equal(got.settings_rev, 0);
	wr_cat_project_fini(&got);
	learn(c, NULL, &d3);
	ok(wr_catalog_project_find(c, "notes", &got, err));
	assert_int_equal(got.uid, 700005);
	assert_int_equal(got.settings_rev, 3);
	assert_int_equal(got.record.len, r2.bytes.len);
	assert_memory_equal(got.record.p, r2.bytes.p, r2.bytes.len);
	assert_memory_equal(got.settings.p, d3.bytes.p, d3.bytes.len);
	assert_int_equal(got.created, INT64_C(1795342530));
	assert_int_equal(got.changed, NOW + 2);
	wr_cat_project_fini(&got);
	/* Older ones and the same again change nothing. */
	learn_rec(c, &id, 1, true);
	learn_rec(c, &id, 2, true);
	learn_doc(c, &id, "older", 2);
	learn_doc(c, &id, "same", 3);
	ok(wr_catalog_project_find(c, "notes", &got, err));
	assert_false(got.deleted);
	wr_cat_project_fini(&got);
	/* Newer ones do. */
	learn_rec(c, &id, 3, true);
	learn_doc(c, &id, "essays", 4);
	ok(wr_catalog_project_find(c, "essays", &got, err));
	assert_true(got.deleted);
	assert_int_equal(got.n.number, 3);
	wr_cat_project_fini(&got);
	ok(wr_catalog_project_learn(c, NULL, NULL, NULL, NULL, err));
	wr_buf_fini(&r2.bytes);
	wr_catalog_close(c);
}

/* Epochs are pairs of 64 bits without sign. */
static void
test_learn__order_of_epochs(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_uuid id = uuid(5);
	struct rec low = rec(&id, 1, false), high = rec(&id, 1, true);
	struct wr_cat_project got;

	low.r.n.random = 1;
	high.r.n.random = UINT64_MAX - 1;
	learn(c, &high, NULL);
	learn(c, &low, NULL);
	ok(wr_catalog_project_find(c, id.s, &got, err));
	assert_true(got.n.random == UINT64_MAX - 1);
	assert_true(got.deleted);
	wr_cat_project_fini(&got);
	wr_buf_fini(&low.bytes);
	wr_buf_fini(&high.bytes);
	wr_catalog_close(c);
}

static void
test_learn__name_clash(void **state)
{
	/* In either order of arrival the higher revision has the name. */
	for (int order = 0; order < 2; order++) {
		struct wr_catalog *c = open_catalog(*state);
		unsigned base = order ? 0xb0 : 0xa0;
		struct wr_uuid winner = uuid(base), loser = uuid(base + 1);
		WR_SCOPED(wr_freep) char *name = wr_asprintf("notes%d", order);
		WR_SCOPED(wr_freep) char *moved = wr_asprintf("%s-%.8s", name, loser.s);

		for (int i = 0; i < 2; i++) {
			bool first = i == order;

			learn_doc(c, first ? &winner : &loser, name, first ? 5 : 4);
		}
		assert_name(c, &winner, name);
		assert_name(c, &loser, moved);
		/* Told again, nothing changes; a record does not change names. */
		learn_doc(c, &loser, name, 4);
		learn_rec(c, &loser, 1, false);
		assert_name(c, &loser, moved);
		/* Renamed by its owner it has what it asked for. */
		learn_doc(c, &loser, order ? "free1" : "free0", 6);
		assert_name(c, &loser, order ? "free1" : "free0");
		wr_catalog_close(c);
	}
}

static void
test_learn__name_clash_with_the_substitute(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_uuid a = uuid(0xa), b = uuid(0xb), third = uuid(0xc);
	char longest[64], cut[64];

	learn_doc(c, &third, "notes-0000000b", 1);
	learn_doc(c, &a, "notes", 2);
	learn_doc(c, &b, "notes", 1);
	assert_name(c, &b, "project-0000000b-0000-4000-8000-000000000000");
	assert_name(c, &third, "notes-0000000b");
	/* The longest name there may be. */
	memset(longest, 'x', 63);
	longest[63] = '\0';
	snprintf(cut, sizeof(cut), "%.54s-0000000b", longest);
	learn_doc(c, &a, longest, 9);
	learn_doc(c, &b, longest, 8);
	assert_name(c, &a, longest);
	assert_name(c, &b, cut);
	wr_catalog_close(c);
}

static void
test_purged(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_uuid id = uuid(5);
	struct wr_cat_project got;
	uint32_t uid;
	WR_SCOPED(doc_fini) struct doc d = doc(&id, "notes", 1, 700000, true);

	learn(c, NULL, &d);
	learn_rec(c, &id, 2, true);
	ok(wr_catalog_project_purged(c, &id, NOW, err));
	ok(wr_catalog_project_purged(c, &id, NOW + 50, err)); /* the first counts */
	refused(wr_catalog_project_find(c, "notes", &got, err), WR_E_NOT_FOUND, "");
	refused(wr_catalog_project_find(c, id.s, &got, err), WR_E_NOT_FOUND, "");
	refused(wr_catalog_project_find(c, "00000005", &got, err), WR_E_NOT_FOUND, "");
	/* Old copies do not bring it back. */
	learn_rec(c, &id, 2, true);
	learn(c, NULL, &d);
	refused(wr_catalog_project_find(c, id.s, &got, err), WR_E_NOT_FOUND, "");
	/* Its uid rests, its name does not. */
	ok(wr_catalog_uid_next(c, 700000, 700009, 100, NOW + 99, &uid, err));
	assert_int_equal(uid, 700001);
	ok(wr_catalog_uid_next(c, 700000, 700009, 100, NOW + 100, &uid, err));
	assert_int_equal(uid, 700000);
	put(c, 6, "notes", 700001);
	/* Somebody took it out of the trash after all. */
	learn_rec(c, &id, 3, false);
	ok(wr_catalog_project_find(c, id.s, &got, err));
	assert_string_equal(got.name, "notes"); /* the smaller id of two at one revision */
	wr_cat_project_fini(&got);
	ok(wr_catalog_project_find(c, "notes-00000006", &got, err));
	wr_cat_project_fini(&got);
	wr_catalog_close(c);
}

static void
test_uid_next(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	uint32_t uid;

	ok(wr_catalog_uid_next(c, 10, 12, 0, NOW, &uid, err));
	assert_int_equal(uid, 10);
	put(c, 1, "pa", 10);
	put(c, 2, "pb", 12);
	put(c, 3, "pc", 9);
	ok(wr_catalog_uid_next(c, 10, 12, 0, NOW, &uid, err));
	assert_int_equal(uid, 11);
	put(c, 4, "pd", 11);
	refused(wr_catalog_uid_next(c, 10, 12, 0, NOW, &uid, err), WR_E_LIMIT, "from 10 to 12");
	ok(wr_catalog_uid_next(c, UINT32_MAX - 1, UINT32_MAX - 1, UINT64_MAX, NOW, &uid, err));
	assert_true(uid == UINT32_MAX - 1);
	wr_catalog_close(c);
}

/* ---- evidence ---- */

static struct wr_report
held(unsigned project, uint64_t s)
{
	return (struct wr_report){.project = uuid(project),
				  .n = {3, UINT64_MAX},
				  .held = {{3, UINT64_MAX}, s},
				  .scan_started = NOW - 5,
				  .repo_bytes = UINT64_C(1) << 40,
				  .tree_bytes = 12,
				  .dirty = true,
				  .running = true,
				  .state = 2};
}

static int
list_copy(void *ctx, const struct wr_cat_copy *k, struct wr_err *err)
{
	(void)err;
	wr_buf_addf(ctx, "%.8s@%.8s.%u:%" PRIu64 " ", k->r.project.s, k->node.id.s, k->node.inc,
		    k->r.held.s);
	return 0;
}

static void
assert_copies(struct wr_catalog *c, const struct wr_uuid *project_id, const struct wr_uuid *node,
	      const char *list)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	ok(wr_catalog_copies(c, project_id, node, list_copy, &b, err));
	assert_string_equal(wr_buf_str(&b), list);
}

static int
check_copy(void *ctx, const struct wr_cat_copy *k, struct wr_err *err)
{
	const struct wr_report *r = ctx;

	(void)err;
	assert_string_equal(k->r.project.s, r->project.s);
	assert_int_equal(wr_epoch_cmp(&k->r.n, &r->n), 0);
	assert_int_equal(wr_version_cmp(&k->r.held, &r->held), 0);
	assert_int_equal(k->r.scan_started, r->scan_started);
	assert_true(k->r.repo_bytes == r->repo_bytes);
	assert_int_equal(k->r.tree_bytes, r->tree_bytes);
	assert_true(k->r.dirty && k->r.running && !k->r.hidden);
	assert_int_equal(k->r.state, 2);
	assert_int_equal(k->reported_at, NOW);
	return 0;
}

static int
count_bare(void *ctx, const struct wr_cat_project *p, struct wr_err *err WR_UNUSED)
{
	struct wr_buf *names = ctx;

	wr_buf_addf(names, "%s ", p->name);
	return 0;
}

static void
test_what_it_missed(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	const struct wr_uuid a = uuid(1), b = uuid(2);
	uint64_t count;
	int64_t at;
	bool older;

	assert_int_equal(wr_catalog_node_is_known(c, &a, NULL, NULL), 0);
	ok(wr_catalog_node_known(c, &a, NOW, err));
	ok(wr_catalog_node_known(c, &a, NOW + 1, err));
	assert_int_equal(wr_catalog_node_is_known(c, &a, &at, NULL), 1);
	assert_true(at == NOW + 1);
	assert_int_equal(wr_catalog_node_is_known(c, &b, NULL, NULL), 0);
	ok(wr_catalog_started(c, 0, &count, &older, err));
	assert_true(count == 1 && !older);
	ok(wr_catalog_started(c, 1, &count, &older, err));
	assert_true(count == 2 && !older);
	wr_catalog_close(c);
	c = open_catalog(*state);
	assert_int_equal(wr_catalog_node_is_known(c, &a, NULL, NULL), 1);
	/* Its hub did not remember: it is still the same one. */
	ok(wr_catalog_started(c, 0, &count, &older, err));
	assert_true(count == 3 && !older);
	assert_int_equal(wr_catalog_node_is_known(c, &a, NULL, NULL), 1);
	/* One that was put back. */
	ok(wr_catalog_started(c, 7, &count, &older, err));
	assert_true(count == 8 && older);
	assert_int_equal(wr_catalog_node_is_known(c, &a, NULL, NULL), 0);
	wr_catalog_close(c);
}

static void
test_bare(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	const struct wr_node_id node = {uuid(9), 1};
	struct wr_cat_project p = {.created = NOW};
	struct wr_report r = {.project = uuid(2)};
	WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT;

	for (unsigned i = 1; i <= 4; i++) {
		p.id = uuid(i);
		p.uid = 1000 + i;
		p.created = NOW + i;
		snprintf(p.name, sizeof(p.name), "p%u", i);
		ok(wr_catalog_project_put(c, &p, err));
	}
	ok(wr_catalog_report(c, &node, &r, 1, NOW, err));
	ok(wr_catalog_project_purged(
	    c, &(struct wr_uuid){.s = "00000003-0000-4000-8000-000000000000"}, NOW, err));
	ok(wr_catalog_project_bare(c, NOW + 1, 10, count_bare, &names, err));
	assert_string_equal(wr_buf_str(&names), "");
	ok(wr_catalog_project_bare(c, NOW + 9, 10, count_bare, &names, err));
	assert_string_equal(wr_buf_str(&names), "p1 p4 ");
	wr_buf_clear(&names);
	ok(wr_catalog_project_bare(c, NOW + 9, 1, count_bare, &names, err));
	assert_string_equal(wr_buf_str(&names), "p1 ");
	/* What was there once, and is lost, is no mere reservation: neither if its node forgot it,
	 * nor if that came back emptied. */
	wr_buf_clear(&names);
	ok(wr_catalog_report_page(c, &node, NULL, NULL, 0, true, NOW, err));
	ok(wr_catalog_project_bare(c, NOW + 9, 10, count_bare, &names, err));
	assert_string_equal(wr_buf_str(&names), "p1 p4 ");
	r.project = uuid(4);
	ok(wr_catalog_report(c, &node, &r, 1, NOW, err));
	ok(wr_catalog_report_page(c, &(struct wr_node_id){node.id, 2}, NULL, NULL, 0, true, NOW,
				  err));
	wr_buf_clear(&names);
	ok(wr_catalog_project_bare(c, NOW + 9, 10, count_bare, &names, err));
	assert_string_equal(wr_buf_str(&names), "p1 ");
	/* Nor one that was reported before it was known. */
	r.project = uuid(5);
	ok(wr_catalog_report(c, &(struct wr_node_id){uuid(8), 1}, &r, 1, NOW, err));
	p.id = r.project;
	p.uid = 1005;
	snprintf(p.name, sizeof(p.name), "p5");
	ok(wr_catalog_project_put(c, &p, err));
	ok(wr_catalog_report_page(c, &(struct wr_node_id){uuid(8), 1}, NULL, NULL, 0, true, NOW,
				  err));
	wr_buf_clear(&names);
	ok(wr_catalog_project_bare(c, NOW + 9, 10, count_bare, &names, err));
	assert_string_equal(wr_buf_str(&names), "p1 ");
	wr_catalog_close(c);
}

static void
test_report(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_node_id a = {uuid(0xa), 1}, b = {uuid(0xb), 2};
	struct wr_uuid one = uuid(1), two = uuid(2);
	struct wr_report r[] = {held(1, 4), held(2, 5)}, later = held(1, 6);

	/* Of projects that the catalog does not know, too. */
	ok(wr_catalog_report_page(c, &a, NULL, r, 2, true, NOW, err));
	ok(wr_catalog_copies(c, &one, &a.id, check_copy, &r[0], err));
	ok(wr_catalog_report(c, &b, &r[1], 1, NOW + 1, err));
	assert_copies(c, NULL, NULL,
		      "00000001@0000000a.1:4 00000002@0000000a.1:5 00000002@0000000b.2:5 ");
	/* A part of what it has, then all of it. */
	ok(wr_catalog_report(c, &a, &later, 1, NOW + 2, err));
	assert_copies(c, NULL, &a.id, "00000001@0000000a.1:6 00000002@0000000a.1:5 ");
	ok(wr_catalog_report_page(c, &a, NULL, &later, 1, true, NOW + 3, err));
	assert_copies(c, NULL, &a.id, "00000001@0000000a.1:6 ");
	assert_copies(c, &two, NULL, "00000002@0000000b.2:5 ");
	assert_copies(c, &two, &a.id, "");
	ok(wr_catalog_report(c, &a, NULL, 0, NOW + 4, err));
	assert_copies(c, NULL, &a.id, "00000001@0000000a.1:6 ");
	/* What it was before it came back counts no more. */
	b.inc = 1;
	ok(wr_catalog_report_page(c, &b, NULL, &later, 1, true, NOW + 5, err));
	assert_copies(c, NULL, &b.id, "00000002@0000000b.2:5 ");
	b.inc = 3;
	ok(wr_catalog_report(c, &b, &later, 1, NOW + 6, err));
	assert_copies(c, NULL, &b.id, "00000001@0000000b.3:6 ");
	ok(wr_catalog_report_page(c, &b, NULL, NULL, 0, true, NOW + 7, err));
	assert_copies(c, NULL, &b.id, "");
	wr_catalog_close(c);
}

/* Page by page; each says all that is in its range, and nothing about the rest. */
static void
test_report__pages(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_node_id a = {uuid(0xa), 1}, b = {uuid(0xb), 1};
	struct wr_report was[] = {held(1, 1), held(2, 1), held(3, 1), held(4, 1), held(5, 1)};
	struct wr_report first[] = {held(1, 2), held(3, 2)}, second[] = {held(4, 2)};
	struct wr_uuid three = uuid(3), four = uuid(4);

	ok(wr_catalog_report(c, &a, was, 5, NOW, err));
	ok(wr_catalog_report(c, &b, was, 5, NOW, err));
	ok(wr_catalog_report_page(c, &a, NULL, first, 2, false, NOW + 1, err));
	assert_copies(c, NULL, &a.id,
		      "00000001@0000000a.1:2 00000003@0000000a.1:2 00000004@0000000a.1:1 "
		      "00000005@0000000a.1:1 ");
	ok(wr_catalog_report_page(c, &a, three.s, second, 1, false, NOW + 2, err));
	assert_copies(c, NULL, &a.id,
		      "00000001@0000000a.1:2 00000003@0000000a.1:2 00000004@0000000a.1:2 "
		      "00000005@0000000a.1:1 ");
	refused(wr_catalog_report_page(c, &a, four.s, second, 1, true, NOW, err), WR_E_INVALID,
		"not in the order");
	/* An empty page that is not the end says nothing. */
	ok(wr_catalog_report_page(c, &a, four.s, NULL, 0, false, NOW + 2, err));
	assert_copies(c, &(struct wr_uuid){.s = "00000005-0000-4000-8000-000000000000"}, &a.id,
		      "00000005@0000000a.1:1 ");
	ok(wr_catalog_report_page(c, &a, four.s, NULL, 0, true, NOW + 3, err));
	assert_copies(c, NULL, &a.id,
		      "00000001@0000000a.1:2 00000003@0000000a.1:2 00000004@0000000a.1:2 ");
	/* A page of a later incarnation: all of the one before is gone with it. */
	a.inc = 2;
	ok(wr_catalog_report_page(c, &a, three.s, second, 1, false, NOW + 4, err));
	assert_copies(c, NULL, &a.id, "00000004@0000000a.2:2 ");
	assert_copies(c, NULL, &b.id,
		      "00000001@0000000b.1:1 00000002@0000000b.1:1 00000003@0000000b.1:1 "
		      "00000004@0000000b.1:1 00000005@0000000b.1:1 ");
	wr_catalog_close(c);
}

/* ---- groups ---- */

static void
test_group(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_node_id a = {uuid(0xa), 1};
	struct wr_report r = held(1, 4);
	struct wr_cat_project got;

	ok(wr_catalog_begin(c, err));
	put(c, 1, "pa", 1);
	ok(wr_catalog_report_page(c, &a, NULL, &r, 1, true, NOW, err));
	wr_catalog_abort(c);
	refused(wr_catalog_project_find(c, "pa", &got, err), WR_E_NOT_FOUND, "");
	assert_copies(c, NULL, NULL, "");
	ok(wr_catalog_begin(c, err));
	put(c, 1, "pa", 1);
	ok(wr_catalog_report_page(c, &a, NULL, &r, 1, true, NOW, err));
	ok(wr_catalog_commit(c, err));
	assert_copies(c, NULL, NULL, "00000001@0000000a.1:4 ");
	/* Left open: undone. */
	ok(wr_catalog_begin(c, err));
	put(c, 2, "pb", 2);
	wr_catalog_close(c);
	c = open_catalog(*state);
	refused(wr_catalog_project_find(c, "pb", &got, err), WR_E_NOT_FOUND, "");
	wr_catalog_close(c);
}

/* What was answered is there, whenever the writer ends. */
static void
test_killed(void **state)
{
	const struct dir *d = *state;
	struct wr_cat_project got;
	struct wr_catalog *c;
	unsigned told = 0, n;
	int status, pipe_fd[2];
	pid_t pid;

	wr_catalog_close(open_catalog(d));
	assert_int_equal(pipe(pipe_fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		c = open_catalog(d);
		for (n = 1;; n++) {
			char name[16];

			snprintf(name, sizeof(name), "p%u", n);
			put(c, n, name, n);
			if (write(pipe_fd[1], &n, sizeof(n)) != sizeof(n))
				_exit(1);
		}
	}
	close(pipe_fd[1]);
	while (told < 30 && read(pipe_fd[0], &n, sizeof(n)) == sizeof(n))
		told = n;
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	while (read(pipe_fd[0], &n, sizeof(n)) == sizeof(n))
		told = n;
	close(pipe_fd[0]);
	assert_true(told >= 30);
	c = open_catalog(d);
	for (n = 1; n <= told; n++) {
		struct wr_uuid id = uuid(n);

		ok(wr_catalog_project_find(c, id.s, &got, err));
		wr_cat_project_fini(&got);
	}
	wr_catalog_close(c);
}

/* Two hubs of one catalog. */
static void
test_two_at_once(void **state)
{
	struct wr_catalog *a = open_catalog(*state), *b = open_catalog(*state);
	struct wr_cat_project p = project(2, "notes", 2), got;
	struct wr_join j = token(), used;
	struct wr_uuid one = uuid(1), two = uuid(2);

	put(a, 1, "notes", 1);
	refused(wr_catalog_project_put(b, &p, err), WR_E_EXISTS, "");
	ok(wr_catalog_project_find(b, "notes", &got, err));
	wr_cat_project_fini(&got);
	ok(wr_catalog_join_put(a, &j, err));
	ok(wr_catalog_join_use(a, HASH, &one, NOW, &used, err));
	refused(wr_catalog_join_use(b, HASH, &two, NOW, &used, err), WR_E_DENIED, "");
	wr_catalog_close(a);
	wr_catalog_close(b);
}

/* ---- size ---- */

#define MANY 100000u

static double
us_per_find(struct wr_catalog *c, const char *form, unsigned step)
{
	uint64_t began = wr_clock_mono_ns();
	unsigned count = 0;

	for (unsigned i = 1; i <= MANY; i += step, count++) {
		struct wr_cat_project got;
		char ref[40];

		snprintf(ref, sizeof(ref), form[0] == 'n' ? "n%u" : "%08x", i);
		ok(wr_catalog_project_find(c, ref, &got, err));
		assert_int_equal(got.uid, i);
		wr_cat_project_fini(&got);
	}
	return (double)(wr_clock_mono_ns() - began) / 1e3 / count;
}

static void
test_many(void **state)
{
	struct wr_catalog *c = open_catalog(*state);
	struct wr_cat_project p = {0};
	uint64_t began = wr_clock_mono_ns();
	double by_name, by_prefix;
	uint32_t uid;

	wr_buf_add(&p.record, HASH HASH HASH HASH HASH, 320);
	ok(wr_catalog_begin(c, err));
	for (unsigned i = 1; i <= MANY; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%u", i);
		p.id = uuid(i);
		p.uid = p.gid = i;
		snprintf(p.name, sizeof(p.name), "%s", name);
		ok(wr_catalog_project_put(c, &p, err));
	}
	ok(wr_catalog_commit(c, err));
	wr_cat_project_fini(&p);
	print_message("%u projects put in %.1f s\n", MANY,
		      (double)(wr_clock_mono_ns() - began) / 1e9);
	by_name = us_per_find(c, "name", 37);
	by_prefix = us_per_find(c, "id", 37);
	began = wr_clock_mono_ns();
	ok(wr_catalog_uid_next(c, 1, UINT32_MAX - 1, 0, NOW, &uid, err));
	assert_int_equal(uid, MANY + 1);
	print_message("find: %.0f us by name, %.0f us by id; next uid: %.1f ms\n", by_name,
		      by_prefix, (double)(wr_clock_mono_ns() - began) / 1e6);
	/* The floor is 1 ms; here ten times as much, for slow machines and checkers. */
	assert_true(by_name < 10000 && by_prefix < 10000);
	wr_catalog_close(c);
}

/* ---- SQLite alone ---- */

static void
meddle(const struct dir *d, const char *sql)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/catalog.db", d->path);
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* The format before knew only of copies that there are: of what has none, nothing is known. */
static void
test_sqlite__upgrade(void **state)
{
	const struct dir *d = *state;
	struct wr_catalog *c = open_catalog(d);
	struct wr_node_id node = {uuid(9), 1};
	struct wr_report r = held(1, 1);
	WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT;

	put(c, 1, "copied", 1);
	put(c, 2, "bare", 2);
	ok(wr_catalog_report(c, &node, &r, 1, NOW, err));
	wr_catalog_close(c);
	meddle(d, "DROP INDEX project_bare; ALTER TABLE project DROP COLUMN copied; "
		  "PRAGMA user_version=3");
	c = open_catalog(d);
	ok(wr_catalog_report_page(c, &node, NULL, NULL, 0, true, NOW, err));
	ok(wr_catalog_project_bare(c, INT64_MAX, 10, count_bare, &names, err));
	assert_string_equal(wr_buf_str(&names), "bare ");
	wr_catalog_close(c);
}

static void
test_sqlite__file(void **state)
{
	const struct dir *d = *state;
	WR_SCOPED(wr_freep) char *where = place->where(d);
	struct wr_catalog *c = open_catalog(d);
	struct stat st;

	assert_int_equal(fstatat(d->fd, "catalog.db", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	wr_catalog_close(c);
	wr_catalog_close(NULL);
	meddle(d, "PRAGMA user_version=5");
	refused(wr_catalog_open(where, &c, err), WR_E_UNSUPPORTED,
		"has format 5, this program reads up to 4");
	meddle(d, "PRAGMA user_version=4; PRAGMA application_id=5");
	refused(wr_catalog_open(where, &c, err), WR_E_CORRUPT, "something else");
	assert_int_equal(wr_replace_file(d->fd, "catalog.db",
					 "not a database, but text of more "
					 "than a hundred bytes, so that it has "
					 "a whole header to be wrong about it",
					 100, 0600, NULL),
			 0);
	refused(wr_catalog_open(where, &c, err), WR_E_CORRUPT, "catalog.db");
	assert_int_equal(unlinkat(d->fd, "catalog.db", 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", d->fd, "catalog.db"), 0);
	refused(wr_catalog_open(where, &c, err), WR_E_SYS, "catalog.db");
	assert_int_equal(unlinkat(d->fd, "catalog.db", 0), 0);
	assert_int_equal(mkfifoat(d->fd, "catalog.db", 0600), 0);
	refused(wr_catalog_open(where, &c, err), WR_E_CORRUPT, "is no file");
	refused(wr_catalog_open("sqlite:/nonexistent/x", &c, err), WR_E_NOT_FOUND, "nonexistent");
	refused(wr_catalog_open("oracle:x", &c, err), WR_E_INVALID, "'oracle:x' names no catalog");
	refused(wr_catalog_open("sqlite", &c, err), WR_E_INVALID, "names no catalog");
}

/* ---- all of them ---- */

static int
setup_place(void **state)
{
	const void *which = *state;

	place = which;
	return setup(state);
}

#define CATALOG_TEST(f)                            \
	{                                          \
#f, f, setup_place, teardown, NULL \
	}

static const struct CMUnitTest suite[] = {
    CATALOG_TEST(test_join),
    CATALOG_TEST(test_join__to_come_back),
    CATALOG_TEST(test_join__swept),
    CATALOG_TEST(test_project),
    CATALOG_TEST(test_find),
    CATALOG_TEST(test_put__taken),
    CATALOG_TEST(test_each),
    CATALOG_TEST(test_learn),
    CATALOG_TEST(test_learn__order_of_epochs),
    CATALOG_TEST(test_learn__name_clash),
    CATALOG_TEST(test_learn__name_clash_with_the_substitute),
    CATALOG_TEST(test_purged),
    CATALOG_TEST(test_uid_next),
    CATALOG_TEST(test_report),
    CATALOG_TEST(test_report__pages),
    CATALOG_TEST(test_what_it_missed),
    CATALOG_TEST(test_bare),
    CATALOG_TEST(test_group),
    CATALOG_TEST(test_killed),
    CATALOG_TEST(test_two_at_once),
    CATALOG_TEST(test_many),
};

int
main(void)
{
	struct CMUnitTest all[WR_ARRAY_LEN(places) * WR_ARRAY_LEN(suite) + 2], *t = all;
	char name[WR_ARRAY_LEN(all)][96];

	if (wr_sign_key_new(&hub, NULL) < 0)
		return 1;
	for (size_t i = 0; i < WR_ARRAY_LEN(places); i++)
		for (size_t k = 0; k < WR_ARRAY_LEN(suite); k++, t++) {
			*t = suite[k];
			snprintf(name[t - all], sizeof(name[0]), "%s: %s", places[i].name,
				 suite[k].name);
			t->name = name[t - all];
			t->initial_state = &places[i];
		}
	t[0] = (struct CMUnitTest)CATALOG_TEST(test_sqlite__file);
	t[1] = (struct CMUnitTest)CATALOG_TEST(test_sqlite__upgrade);
	t[0].initial_state = t[1].initial_state = &places[0];
	return cmocka_run_group_tests(all, NULL, NULL);
}
