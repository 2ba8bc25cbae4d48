/* SPDX-License-Identifier: Apache-2.0 */
/* What projects take, and their disk quota set by it (S4). */
#include "base/str.h"
#include "host/node/age.h"
#include "serve/control/fleet.h"
#include "serve/control/limits.h"
#include "serve/control/scratch.h"

#define FACTOR_DEFAULT 2000 /* thousandths */
#define WITHIN_DEFAULT 5    /* percent */
#define MIN_DEFAULT (UINT64_C(4) << 30)
/* Quotas are whole numbers of this. */
#define ROUND (UINT64_C(1) << 20)

/* ---- usage ---- */

int
wr_usage_args(struct wr_control *c, const struct wr_proj_row *r, json_t *args, int *out_scratch,
	      struct wr_err *err)
{
	struct wr_settings set = {0};
	struct wr_quota_usage u;

	if (wr_row_settings(r, &set, err) < 0)
		return -1;
	wr_life_leave_out_of(&set, args);
	if (wr_limits_usage(c, r, &u))
		wr_json_u64(args, "about", u.inodes);
	wr_settings_fini(&set);
	if (wr_json_get_bool(args, "now", false))
		*out_scratch = wr_scratch_open(c, r);
	return 0;
}

static void
u64_or_null(json_t *o, const char *key, uint64_t v)
{
	if (v)
		wr_json_u64(o, key, v);
	else
		wr_json_null(o, key);
}

json_t *
wr_usage_json(struct wr_control *c, const struct wr_proj_row *r, const json_t *result)
{
	const json_t *found = wr_json_get_obj(result, "live"),
		     *history = wr_json_get_obj(result, "history");
	json_t *o = wr_json_begin("warren.usage/1"), *part, *v;
	const bool exact = wr_json_get_bool(result, "exact", false);
	struct wr_settings set = {0};
	struct wr_quota_usage u = {0};
	bool counted = result && wr_limits_usage(c, r, &u);
	bool has = wr_row_settings(r, &set, NULL) == 0;

	wr_json_str(o, "project", r->id.s);
	wr_json_str(o, "name", r->name);
	v = json_object_get(result, "at");
	json_object_set(o, "at", v ? v : json_null());
	wr_json_bool(o, "exact", exact);
	if (result) {
		part = wr_json_object(o, "live");
		wr_json_u64(part, "bytes", counted ? u.bytes : wr_json_get_u64(found, "bytes", 0));
		wr_json_u64(part, "inodes",
			    counted && u.inodes ? u.inodes : wr_json_get_u64(found, "files", 0));
		/* quota: as the file system counts it, with what no save takes. */
		wr_json_str(part, "by", counted ? "quota" : exact ? "scan" : "save");
		wr_json_u64(part, "disk", has ? wr_settings_u64(&set, "disk") : 0);
		wr_json_u64(part, "inodes_limit", has ? wr_settings_u64(&set, "inodes") : 0);
		u64_or_null(part, "limit", u.limit_bytes);
		part = wr_json_object(o, "history");
		wr_json_u64(part, "bytes", wr_json_get_u64(history, "bytes", 0));
		wr_json_bool(part, "exact", exact);
		v = json_object_get(history, "measured");
		json_object_set(part, "measured", v ? v : json_null());
		wr_json_u64(part, "repository", wr_json_get_u64(history, "packs", 0));
		u64_or_null(part, "quota", has ? wr_repo_quota(&set) : 0);
		v = json_object_get(result, "not_protected");
		json_object_set(o, "not_protected", v ? v : json_null());
		wr_scratch_json(c, o, r, has ? &set : NULL, wr_json_get_obj(result, "scratch"));
		wr_json_null(o, "trash");
		v = json_object_get(result, "folders");
		json_object_set(o, "folders", v ? v : json_null());
	} else {
		wr_json_null(o, "live");
		wr_json_null(o, "history");
		wr_json_null(o, "not_protected");
		wr_scratch_json(c, o, r, has ? &set : NULL, NULL);
		part = wr_json_object(o, "trash");
		wr_json_u64(part, "bytes", r->bytes + r->repo_bytes);
		wr_json_time(part, "until",
			     r->deleted +
				 (int64_t)wr_age_span(c->node, c->node->config.trash_keep));
		wr_json_take(o, "folders", json_array());
	}
	wr_settings_fini(&set);
	return o;
}

/* How far a look at it is, whoever asked for that. */
static void
reply_progress(struct wr_control *c, struct wr_req *q)
{
	json_t *o = wr_json_begin("warren.progress/1");
	json_t *progress = wr_streams_progress(c, &q->row.id);

	wr_json_str(o, "project", q->row.id.s);
	if (progress)
		wr_json_take(o, "progress", progress);
	else
		wr_json_null(o, "progress");
	wr_req_reply(q, 200, 0, o);
}

int
wr_on_usage(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	if (wr_call_bool(&q->call, "progress", false))
		reply_progress(c, q);
	else if (!q->row.deleted)
		return wr_on_task(c, q, err);
	else
		wr_req_reply(q, 200, 0, wr_usage_json(c, &q->row, NULL));
	return 0;
}

/* ---- quota auto ---- */

struct quotas {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	char by[64];
	uint64_t factor, min, within; /* in thousandths, bytes, percent */
	bool dry_run, walked;
	json_t *answer, *list; /* list: borrowed */
	size_t open;           /* changes that are on their way */
	uint64_t failed;
};

/* One change. */
struct quota {
	struct quotas *all;
	json_t *item; /* borrowed from the list */
};

static void
forget(struct wr_req *q)
{
	struct quotas *a = q->held;

	a->q = NULL;
}

/* Of those that failed nothing has changed. */
static void
add_totals(struct quotas *a)
{
	uint64_t used = 0, old = 0, new = 0;
	const json_t *item;
	json_t *o;
	size_t i;

	json_array_foreach(a->list, i, item)
	{
		const bool failed = wr_json_get_obj(item, "error") != NULL;

		used += wr_json_get_u64(item, "used", 0);
		old += wr_json_get_u64(item, "old", 0);
		new += wr_json_get_u64(item, failed ? "old" : "new", 0);
	}
	o = wr_json_object(a->answer, "total");
	wr_json_u64(o, "projects", json_array_size(a->list));
	wr_json_u64(o, "used", used);
	wr_json_u64(o, "old", old);
	wr_json_u64(o, "new", new);
}

static void
finish(struct quotas *a)
{
	if (!a->walked || a->open)
		return;
	if (a->q) {
		a->q->gone = NULL;
		add_totals(a);
		wr_json_u64(a->answer, "exit", a->failed ? 3 : 0);
		wr_req_reply(a->q, 200, a->failed ? 3 : 0, a->answer);
	} else {
		json_decref(a->answer);
	}
	free(a);
}

static void
on_changed(void *ctx, const struct wr_err *why)
{
	struct quota *one = ctx;
	struct quotas *a = one->all;

	wr_json_bool(one->item, "changed", !why);
	if (why)
		wr_json_err(one->item, "error", why);
	a->failed += why != NULL;
	a->open--;
	free(one);
	finish(a);
}

/* Never less than is used: who is locked out of what is his cannot even make room. */
static uint64_t
wanted(const struct quotas *a, uint64_t used)
{
	const uint64_t most = (uint64_t)INT64_MAX / ROUND * ROUND;
	uint64_t want = most;

	if (used / 1000 < most / a->factor)
		want = used / 1000 * a->factor + used % 1000 * a->factor / 1000;
	want = WR_MAX(want, WR_MAX(used, a->min));
	return want < most ? (want + ROUND - 1) / ROUND * ROUND : most;
}

/* What a project takes goes up and down a little: its limit is not to follow each time. */
static bool
near_enough(const struct quotas *a, uint64_t used, uint64_t old, uint64_t want)
{
	const uint64_t by = old > want ? old - want : want - old;

	return old >= WR_MAX(used, a->min) && (double)by < (double)old * (double)a->within / 100;
}

/* What it uses, and who says so. */
static const char *
used_by(const struct quotas *a, const struct wr_proj_row *r, uint64_t *out)
{
	struct wr_quota_usage u;
	struct wr_work work = {0};
	bool nothing;

	*out = r->bytes;
	if (wr_limits_usage(a->c, r, &u)) {
		*out = u.bytes;
		return "quota";
	}
	if (r->save_ended)
		return "save";
	/* Never started, so nothing is there. */
	nothing = wr_work_load(a->c->node, &r->id, &work, NULL) == 0 && !work.dirty;
	wr_work_fini(&work);
	return nothing ? "none" : NULL;
}

static int
set_one(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct quotas *a = ctx;
	WR_SCOPED(wr_freep) char *change = NULL;
	struct wr_settings set = {0};
	struct wr_err why = WR_ERR_INIT;
	struct quota *one;
	struct wr_record e;
	uint64_t used, old, want, new, before;
	const char *by;
	json_t *item;

	/* A copy's settings are its writer's matter. */
	if (a->c->fleet && wr_fleet_record(a->c, &r->id, &e) && !wr_fleet_is_writer(a->c, &r->id))
		return 0;
	item = wr_json_item(a->list);
	wr_json_str(item, "id", r->id.s);
	wr_json_str(item, "name", r->name);
	by = used_by(a, r, &used);
	if (wr_row_settings(r, &set, &why) < 0) {
		wr_json_bool(item, "changed", false);
		wr_json_err(item, "error", &why);
		a->failed++;
		return 0;
	}
	old = wr_settings_u64(&set, "disk");
	want = wanted(a, used);
	/* Of what nobody has counted yet nothing is taken away. */
	if (!by)
		want = WR_MAX(want, old);
	new = near_enough(a, used, old, want) ? old : want;
	wr_json_u64(item, "used", used);
	wr_json_str(item, "by", by);
	wr_json_u64(item, "old", old);
	wr_json_u64(item, "wanted", want);
	wr_json_u64(item, "new", new);
	wr_json_bool(item, "changed", false);
	before = set.rev;
	change = wr_asprintf("disk=%" PRIu64, new);
	if (old == new || a->dry_run)
		goto out;
	one = wr_calloc(1, sizeof(*one));
	*one = (struct quota){a, item};
	a->open++;
	if (wr_settings_change(&set, change, false, false, &why) < 0)
		on_changed(one, &why);
	else
		wr_settings_put(a->c, r, &set, before, a->by, change, on_changed, one);
out:
	wr_settings_fini(&set);
	return 0;
}

int
wr_on_quota_auto(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct quotas *a = wr_calloc(1, sizeof(*a));

	*a = (struct quotas){.c = c,
			     .q = q,
			     .factor = wr_call_u64(&q->call, "factor", FACTOR_DEFAULT),
			     .min = wr_call_u64(&q->call, "min", MIN_DEFAULT),
			     .within = wr_call_u64(&q->call, "within", WITHIN_DEFAULT),
			     .dry_run = wr_call_bool(&q->call, "dry_run", false)};
	snprintf(a->by, sizeof(a->by), "%s", q->who.by);
	if (a->factor < 1000) {
		free(a);
		return wr_err_set(err, WR_E_INVALID,
				  "factor: less than 1 would take away what is in use");
	}
	a->answer = wr_json_begin("warren.quotas/1");
	wr_json_bool(a->answer, "dry_run", a->dry_run);
	a->list = wr_json_array(a->answer, "projects");
	q->held = a;
	q->gone = forget;
	if (wr_store_proj_each(c->store, 0, set_one, a, err) < 0) {
		/* What was begun goes on; its answers find nobody. */
		q->gone = NULL;
		a->q = NULL;
		a->walked = true;
		finish(a);
		return -1;
	}
	a->walked = true;
	finish(a);
	return 0;
}
