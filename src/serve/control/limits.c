/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of working files while the daemon runs: cleared at its start for whatever is not active,
 * set anew when settings change, and looked after, so that a grace that was used closes.
 */
#include "base/log.h"
#include "serve/control/control_int.h"
#include "serve/control/limits.h"
#include "serve/control/marks.h"
#include "sys/fs.h"

/* Each active project is looked after once in so many seconds. */
#define ROUND_S 30

struct wr_limits {
	struct wr_quota *quota; /* one for each volume of the node */
	size_t next;            /* of c->proj, to be looked after */
};

static const struct wr_quota no_quota = WR_QUOTA_INIT;

/* Of the volume with its working files; its driver is NULL where there is none. */
static struct wr_quota *
quota_of(struct wr_control *c, const struct wr_proj_row *r)
{
	struct wr_quota *q;

	if (!c->limits || r->tree_vol >= c->node->volume_count || c->volume_lost[r->tree_vol])
		return NULL;
	q = &c->limits->quota[r->tree_vol];
	return q->driver ? q : NULL;
}

static struct wr_quota_tree
tree_of(struct wr_control *c, const struct wr_proj_row *r)
{
	return (struct wr_quota_tree){.id = r->id,
				      .parent_fd = c->node->volume[r->tree_vol].projects_fd,
				      .uid = r->uid,
				      .exclusive = r->exclusive};
}

/* One that is open to be looked at; its driver is NULL where nobody counts it. */
struct scratch {
	struct wr_quota *q; /* borrowed */
	struct wr_quota_tree tree;
	int dir_fd;
};

static bool
scratch_open(struct wr_control *c, const struct wr_proj_row *r, struct scratch *out)
{
	struct wr_quota *q;
	size_t vol;

	*out = (struct scratch){.dir_fd = -1};
	if (!c->limits || !wr_scratch_find(c->node, &r->id, WR_SCRATCH_LIVE, &vol) ||
	    c->volume_lost[vol])
		return false;
	q = &c->limits->quota[vol];
	if (!q->driver || !q->caps.bytes)
		return false;
	out->dir_fd = wr_scratch_dir(&c->node->volume[vol], WR_SCRATCH_LIVE, false, NULL);
	out->q = q;
	out->tree = tree_of(c, r);
	out->tree.parent_fd = out->dir_fd;
	out->tree.scratch = true;
	return out->dir_fd >= 0;
}

/* ---- the start ---- */

struct owners {
	struct wr_control *c;
	struct wr_quota_owner *all;
	size_t count, cap;
};

/* Only what is in memory may be active (wr_ctl_reconcile saw to that), and of that what the
 * home's place says, or an operation is about to say. */
static bool
is_active(struct wr_control *c, const struct wr_proj_row *r)
{
	const struct wr_proj *p = wr_proj_find(c, &r->id);
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_settings set = {0};
	bool yes = true;

	if (!p || r->deleted)
		return false;
	if (!p->run && wr_place_of_find(c->node, &r->id, &place, NULL) == 0 &&
	    wr_row_settings(r, &set, NULL) == 0)
		yes = wr_life_presented(&place, &set);
	wr_settings_fini(&set);
	wr_place_of_fini(&place);
	return yes;
}

static int
take_owner(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct owners *o = ctx;

	wr_grow(&o->all, &o->cap, o->count + 1, sizeof(*o->all));
	o->all[o->count++] =
	    (struct wr_quota_owner){r->id, r->uid, r->exclusive, is_active(o->c, r)};
	return 0;
}

static int
by_id(const void *a, const void *b)
{
	const struct wr_quota_owner *x = a, *y = b;

	return strcmp(x->id.s, y->id.s);
}

static void
clear_volume(struct wr_control *c, const struct wr_volume *v, struct wr_quota *q,
	     const struct owners *o)
{
	WR_SCOPED(wr_freep) char *why = NULL;
	struct wr_err err = WR_ERR_INIT;
	size_t n;

	if (wr_quota_clear_all(q, o ? o->all : NULL, o ? o->count : 0, &n, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, v->path, &err);
		return;
	}
	if (n == 0)
		return;
	why = wr_asprintf("%zu on '%s' that no active project has", n, v->path);
	wr_event(c, "control", NULL, "limits.cleared", why, NULL);
}

/* Those of a time before the configuration said that there are none. */
static void
clear_unwanted(struct wr_control *c, const struct wr_volume *v)
{
	WR_SCOPED(wr_quota_close) struct wr_quota q = WR_QUOTA_INIT;

	if (wr_quota_open(v->projects_fd, c->node->state_fd, v->path, "auto", false, &q, NULL) == 0)
		clear_volume(c, v, &q, NULL);
}

static void
clear_inactive(struct wr_control *c)
{
	struct owners o = {.c = c};
	struct wr_err err = WR_ERR_INIT;

	if (wr_store_proj_each(c->store, 2, take_owner, &o, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "look for limits to be cleared", &err);
		goto out;
	}
	if (o.count)
		qsort(o.all, o.count, sizeof(*o.all), by_id);
	for (size_t i = 0; i < c->node->volume_count; i++) {
		struct wr_quota *q = &c->limits->quota[i];

		if (!strcmp(c->node->config.volume_quota, "none"))
			clear_unwanted(c, &c->node->volume[i]);
		else if (q->driver)
			clear_volume(c, &c->node->volume[i], q, &o);
	}
out:
	free(o.all);
}

void
wr_limits_begin(struct wr_control *c)
{
	const size_t n = c->node->volume_count;

	c->limits = wr_calloc(1, sizeof(*c->limits));
	c->limits->quota = wr_calloc(n, sizeof(*c->limits->quota));
	for (size_t i = 0; i < n; i++) {
		const struct wr_volume *v = &c->node->volume[i];
		struct wr_quota *q = &c->limits->quota[i];
		struct wr_err err = WR_ERR_INIT;

		*q = no_quota;
		if (wr_quota_open(v->projects_fd, c->node->state_fd, v->path,
				  c->node->config.volume_quota, true, q, &err) < 0)
			wr_log_err(WR_LOG_ERROR, "limits", &err);
		else
			wr_log(WR_LOG_NOTICE, "limits volume=\"%s\" driver=%s enforced=%s%s%s%s",
			       v->path, q->caps.driver, q->caps.bytes ? "yes" : "no",
			       *q->why ? " why=\"" : "", q->why, *q->why ? "\"" : "");
	}
	clear_inactive(c);
}

void
wr_limits_end(struct wr_control *c)
{
	if (!c->limits)
		return;
	for (size_t i = 0; i < c->node->volume_count; i++)
		wr_quota_close(&c->limits->quota[i]);
	free(c->limits->quota);
	free(c->limits);
	c->limits = NULL;
}

/* ---- while projects are active ---- */

/* One that was taken back stays as it is limited, until the next start. */
static void
tend_scratch(struct wr_control *c, const struct wr_proj_row *r, const struct wr_settings *set)
{
	const uint64_t bytes = wr_settings_u64(set, "scratch");
	struct wr_err err = WR_ERR_INIT;
	struct wr_quota_usage u;
	struct scratch s;

	if (!bytes || !scratch_open(c, r, &s))
		return;
	if (wr_quota_tend(s.q, &s.tree, bytes, wr_settings_u64(set, "inodes"), &u, &err) < 0 &&
	    err.code != WR_E_UNSUPPORTED)
		wr_log_err(WR_LOG_WARNING, r->name, &err);
	wr_closep(&s.dir_fd);
}

/* An operation sets and clears by itself, and by the settings that it began with: then the next
 * round puts it right. */
static void
tend(struct wr_control *c, const struct wr_proj_row *r)
{
	const struct wr_proj *p = wr_proj_find(c, &r->id);
	struct wr_quota *q = quota_of(c, r);
	struct wr_settings set = {0};
	struct wr_quota_usage u;
	struct wr_quota_tree t;
	struct wr_err err = WR_ERR_INIT;

	if (!q || !q->caps.bytes || !p || p->run || wr_row_settings(r, &set, &err) < 0)
		return;
	t = tree_of(c, r);
	tend_scratch(c, r, &set); /* before the limits of the uid, which has both */
	if (wr_quota_tend(q, &t, wr_settings_u64(&set, "disk"), wr_settings_u64(&set, "inodes"), &u,
			  &err) == 0)
		wr_marks_used(c, &r->id, u.bytes);
	else if (err.code != WR_E_UNSUPPORTED) /* told by its start, and by show */
		wr_log_err(WR_LOG_WARNING, r->name, &err);
	wr_settings_fini(&set);
}

void
wr_limits_changed(struct wr_control *c, const struct wr_proj_row *r)
{
	if (is_active(c, r))
		tend(c, r);
}

void
wr_limits_shared(struct wr_control *c, const struct wr_proj_row *r)
{
	struct wr_quota *q = quota_of(c, r);
	struct wr_quota_tree t;
	struct wr_err err = WR_ERR_INIT;

	if (!q || !is_active(c, r))
		return;
	t = tree_of(c, r);
	t.exclusive = true;
	if (wr_quota_clear(q, &t, &err) < 0)
		wr_log_err(WR_LOG_WARNING, r->name, &err);
	tend(c, r);
}

void
wr_limits_tick(struct wr_control *c)
{
	for (size_t n = c->proj_count / ROUND_S + 1; n > 0 && c->proj_count; n--) {
		struct wr_proj_row row = {0};
		const struct wr_proj *p;

		if (c->limits->next >= c->proj_count)
			c->limits->next = 0;
		p = c->proj[c->limits->next++];
		if (p->run || !p->restless || wr_row_find(c, &p->id, &row, NULL) < 0)
			continue;
		if (is_active(c, &row))
			tend(c, &row);
		wr_proj_row_fini(&row);
	}
}

/* ---- told ---- */

bool
wr_limits_usage(struct wr_control *c, const struct wr_proj_row *r, struct wr_quota_usage *out)
{
	struct wr_quota *q = quota_of(c, r);
	struct wr_quota_tree t;

	*out = (struct wr_quota_usage){0};
	if (!q || !q->caps.bytes)
		return false;
	t = tree_of(c, r);
	return wr_quota_usage(q, &t, out, NULL) == 0;
}

bool
wr_limits_scratch(struct wr_control *c, const struct wr_proj_row *r, struct wr_quota_usage *out)
{
	struct scratch s;
	bool counted;

	*out = (struct wr_quota_usage){0};
	if (!scratch_open(c, r, &s))
		return false;
	counted = wr_quota_usage(s.q, &s.tree, out, NULL) == 0;
	wr_closep(&s.dir_fd);
	return counted;
}

void
wr_limits_json(struct wr_control *c, json_t *o, const struct wr_proj_row *r, bool active,
	       const struct wr_settings *set)
{
	struct wr_quota *q = quota_of(c, r);
	json_t *l = wr_json_object(o, "limits");
	struct wr_quota_usage u = {0};
	struct wr_quota_tree t;
	bool counted = false;

	wr_json_str(l, "driver", q ? q->caps.driver : "none");
	wr_json_bool(l, "bytes", q && q->caps.bytes);
	wr_json_bool(l, "inodes", q && q->caps.inodes);
	wr_json_bool(l, "df", q && q->caps.df);
	wr_json_bool(l, "tamperproof",
		     q && q->caps.tamperproof && (r->exclusive || !q->caps.inodes));
	wr_json_str(l, "why", q && *q->why ? q->why : NULL);
	if (q && q->caps.bytes) {
		t = tree_of(c, r);
		counted = wr_quota_usage(q, &t, &u, NULL) == 0;
	}
	if (counted)
		wr_json_u64(l, "used", u.bytes);
	else
		wr_json_null(l, "used");
	if (counted && u.limit_bytes)
		wr_json_u64(l, "limit", u.limit_bytes);
	else
		wr_json_null(l, "limit");
	if (counted && u.limit_bytes && active && set)
		wr_json_str(l, "grace",
			    wr_quota_grace_name(
				wr_quota_grace(wr_settings_u64(set, "disk"), u.limit_bytes)));
	else
		wr_json_null(l, "grace");
}
