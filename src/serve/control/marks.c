/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that fill up.  Each is looked at every few seconds and before what would fill it further;
 * from mark to mark less is done there (enum wr_mark):
 *
 *   new       no new project, no new copy; hubs place none here
 *   alarm     what is past its time in the trash goes at once, operators are told
 *   snapshot  those of the day's ten largest growers that grew by a hundredth of the volume (1 GiB
 *             of a large one) and by a tenth of what the largest did make no snapshots
 *
 * Deleting, purging, stopping and starting go on to the end, out of the reserve.
 */
#include "serve/control/marks.h"

#include "base/log.h"
#include "base/str.h"
#include "serve/control/drops.h"
#include "sys/clock.h"

#define LOOK_NS (2 * (uint64_t)WR_SECOND)
#define EXPIRED_NS (60 * (uint64_t)WR_SECOND)
/* Who grew is found by looking at all projects. */
#define GROWERS_NS (10 * (uint64_t)WR_SECOND)
#define GROWERS 10
/* Less is no growth to speak of. */
#define GROWN_LEAST (UINT64_C(1) << 20)
/* A hundredth of a volume, of a large one this, is refused a snapshot for. */
#define GROWN_MATTERS (UINT64_C(1) << 30)
/* LIMIT: set aside within one look. */
#define REFILL_STEP (UINT64_C(64) << 20)

struct grower {
	struct wr_uuid id;
	char name[64];
	uint64_t bytes;
};
struct vol {
	struct wr_room room;
	enum wr_mark mark;
	bool known;
	struct grower grower[GROWERS]; /* most first */
	size_t grower_count;
};
/* What limits counted, in steps as those of the store. */
struct live {
	struct wr_uuid id;
	uint64_t at_ns, tree, before, now;
};
struct wr_marks {
	struct vol *vol;
	uint64_t looked_ns, expired_ns, growers_ns;
	struct wr_uuid *full_node; /* of the fleet */
	size_t full_count, full_cap;
	struct live *live;
	size_t live_count, live_cap;
};

/* ---- who grew ---- */

static struct live *
live_find(struct wr_marks *m, const struct wr_uuid *id)
{
	for (size_t i = 0; i < m->live_count; i++)
		if (!strcmp(m->live[i].id.s, id->s))
			return &m->live[i];
	return NULL;
}

void
wr_marks_used(struct wr_control *c, const struct wr_uuid *project, uint64_t bytes)
{
	const uint64_t now = wr_clock_mono_ns();
	struct wr_marks *m = c->marks;
	struct live *l = live_find(m, project);

	if (!l) {
		wr_grow(&m->live, &m->live_cap, m->live_count + 1, sizeof(*m->live));
		l = &m->live[m->live_count++];
		*l = (struct live){.id = *project, .at_ns = now, .tree = bytes, .before = bytes};
	}
	l->now = bytes;
	if (now - l->at_ns >= WR_GROWTH_HALF_S * (uint64_t)WR_SECOND) {
		l->before = l->tree;
		l->tree = bytes;
		l->at_ns = now;
	}
}

/* Those that are in memory no more are looked after no more. */
static void
forget_live(struct wr_control *c)
{
	struct wr_marks *m = c->marks;

	for (size_t i = m->live_count; i-- > 0;)
		if (!wr_proj_find(c, &m->live[i].id))
			m->live[i] = m->live[--m->live_count];
}

static void
add_grower(struct vol *v, const struct wr_growth_row *r, uint64_t bytes)
{
	size_t at = v->grower_count;

	if (bytes < GROWN_LEAST)
		return;
	while (at > 0 && v->grower[at - 1].bytes < bytes)
		at--;
	if (at == GROWERS)
		return;
	v->grower_count = WR_MIN(v->grower_count + 1, (size_t)GROWERS);
	memmove(v->grower + at + 1, v->grower + at,
		(v->grower_count - at - 1) * sizeof(*v->grower));
	v->grower[at] = (struct grower){.id = r->id, .bytes = bytes};
	snprintf(v->grower[at].name, sizeof(v->grower[at].name), "%s", r->name);
}

static int
look_grown(void *ctx, const struct wr_growth_row *r, struct wr_err *err WR_UNUSED)
{
	struct wr_control *c = ctx;
	struct wr_marks *m = c->marks;
	const struct live *l = live_find(m, &r->id);
	uint64_t tree = r->tree;

	/* What is not saved yet, or never is, fills the volume all the same. */
	if (l && l->now > l->before)
		tree = WR_MAX(tree, l->now - l->before);
	if (r->tree_vol >= c->node->volume_count || r->repo_vol >= c->node->volume_count)
		return 0;
	if (r->tree_vol == r->repo_vol) {
		add_grower(&m->vol[r->tree_vol], r, tree + r->repo);
	} else {
		add_grower(&m->vol[r->tree_vol], r, tree);
		add_grower(&m->vol[r->repo_vol], r, r->repo);
	}
	return 0;
}

static void
find_growers(struct wr_control *c)
{
	const uint64_t now = wr_clock_mono_ns();
	struct wr_marks *m = c->marks;
	struct wr_err err = WR_ERR_INIT;

	if (m->growers_ns && now - m->growers_ns < GROWERS_NS)
		return;
	m->growers_ns = now;
	for (size_t i = 0; i < c->node->volume_count; i++)
		m->vol[i].grower_count = 0;
	if (wr_store_growth_each(c->store, look_grown, c, &err) < 0)
		wr_log_err(WR_LOG_WARNING, "look who grew", &err);
}

static json_t *
growers_json(const struct vol *v)
{
	json_t *list = json_array();

	for (size_t i = 0; i < v->grower_count; i++) {
		json_t *o = wr_json_item(list);

		wr_json_str(o, "id", v->grower[i].id.s);
		wr_json_str(o, "name", v->grower[i].name);
		wr_json_u64(o, "bytes", v->grower[i].bytes);
	}
	return list;
}

static void
add_text(struct wr_err *err, const char *a, const char *b, const char *c)
{
	const size_t len = strlen(err->msg);

	snprintf(err->msg + len, sizeof(err->msg) - len, "%s%s%s", a, b, c);
}

/* Into the message of an error: names of others are for those who may know of them. */
static void
add_growers(const struct vol *v, bool sees_all, struct wr_err *err)
{
	for (size_t i = 0; sees_all && i < v->grower_count; i++) {
		add_text(err, i ? ", " : "; grew most within a day: ", v->grower[i].name, " ");
		add_text(err, wr_fmt_bytes(v->grower[i].bytes).s, "", "");
	}
}

/* ---- marks ---- */

char *
wr_marks_text(struct wr_control *c, size_t volume)
{
	const struct vol *v = &c->marks->vol[volume];

	return wr_asprintf("%s full, past its mark of %u %%", wr_room_text(&v->room).s,
			   wr_mark_percent(&c->node->config, v->mark));
}

static void
tell_mark(struct wr_control *c, size_t volume, enum wr_mark was)
{
	const struct vol *v = &c->marks->vol[volume];
	WR_SCOPED(wr_freep) char *text = NULL;
	json_t *detail = json_object();

	find_growers(c);
	text = wr_asprintf("%s is %s full: %s mark of %u %%", c->node->volume[volume].path,
			   wr_room_text(&v->room).s, v->mark > was ? "past its" : "below its",
			   wr_mark_percent(&c->node->config, WR_MAX(v->mark, was)));
	wr_json_str(detail, "volume", c->node->volume[volume].id.s);
	wr_json_str(detail, "mark", wr_mark_name(v->mark));
	wr_json_take(detail, "growers", growers_json(v));
	wr_log(v->mark >= WR_MARK_ALARM ? WR_LOG_WARNING : WR_LOG_NOTICE, "%s", text);
	wr_event(c, "control", NULL, "volume.mark", text, detail);
}

enum wr_mark
wr_marks_now(struct wr_control *c, size_t volume)
{
	struct vol *v = &c->marks->vol[volume];
	enum wr_mark was = v->mark;
	struct wr_room r;

	if (c->volume_lost[volume] || wr_room_look(&c->node->volume[volume], &r, NULL) < 0)
		return was;
	v->room = r;
	v->known = true;
	v->mark = wr_mark_of(&c->node->config, &r, was);
	if (v->mark != was) {
		tell_mark(c, volume, was);
		if (v->mark >= WR_MARK_ALARM && was < WR_MARK_ALARM)
			c->marks->expired_ns = 0;
	}
	return v->mark;
}

static int
refuse(struct wr_control *c, size_t volume, const char *what, bool sees_all, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *text = wr_marks_text(c, volume);

	find_growers(c);
	wr_err_set(err, WR_E_DENIED, "%s: volume '%s' is %s", what,
		   WR_Q(c->node->volume[volume].path), text);
	add_growers(&c->marks->vol[volume], sees_all, err);
	return -1;
}

int
wr_marks_pick(struct wr_control *c, const char *wish, bool sees_all, uint32_t *out,
	      struct wr_err *err)
{
	const size_t none = c->node->volume_count;
	size_t best = none, full = none;

	for (size_t i = 0; i < c->node->volume_count; i++) {
		const struct wr_volume *v = &c->node->volume[i];

		if (wish ? strcmp(wish, v->id.s) != 0 && strcmp(wish, v->path) != 0
			 : c->volume_lost[i])
			continue;
		if (wr_marks_now(c, i) >= WR_MARK_NEW)
			full = i;
		else if (best == none || c->marks->vol[i].room.free > c->marks->vol[best].room.free)
			best = i;
	}
	if (best != none) {
		*out = (uint32_t)best;
		return 0;
	}
	if (full != none) {
		refuse(c, full, "no new project", sees_all, err);
		return wr_err_hint(err, "warren trash purge, warren volume add DIRECTORY, or a "
					"higher [volume] marks; warren volume list");
	}
	if (wish)
		return wr_err_set(err, WR_E_INVALID, "volume: this node has no volume '%s'",
				  WR_Q(wish));
	return wr_err_set(err, WR_E_FAILED, "no volume of this node is there");
}

/* One of the largest growers, and so that it matters: NULL. */
static const struct grower *
grower_of(const struct vol *v, const struct wr_uuid *project)
{
	const uint64_t least = WR_MIN(v->room.bytes / 100, GROWN_MATTERS);

	for (size_t i = 0; i < v->grower_count; i++) {
		const struct grower *g = &v->grower[i];

		if (!strcmp(g->id.s, project->s))
			return g->bytes >= least && g->bytes >= v->grower[0].bytes / 10 ? g : NULL;
	}
	return NULL;
}

int
wr_marks_snapshot(struct wr_control *c, const struct wr_proj_row *row, struct wr_err *err)
{
	const size_t at = row->repo_vol;
	WR_SCOPED(wr_freep) char *what = NULL;
	const struct grower *g;

	if (at >= c->node->volume_count || wr_marks_now(c, at) < WR_MARK_SNAPSHOT)
		return 0;
	find_growers(c);
	g = grower_of(&c->marks->vol[at], &row->id);
	if (!g)
		return 0;
	what = wr_asprintf("no snapshot of '%s'", row->name);
	refuse(c, at, what, false, err);
	add_text(err, "; it grew by ", wr_fmt_bytes(g->bytes).s, " within a day");
	return wr_err_hint(err, "warren volume list");
}

/* ---- the fleet ---- */

bool
wr_marks_full(struct wr_control *c)
{
	if (!c->marks)
		return false;
	for (size_t i = 0; i < c->node->volume_count; i++)
		if (!c->volume_lost[i] && wr_marks_now(c, i) < WR_MARK_NEW)
			return false;
	return true;
}

static struct wr_uuid *
full_find(struct wr_marks *m, const struct wr_uuid *node)
{
	for (size_t i = 0; i < m->full_count; i++)
		if (!strcmp(m->full_node[i].s, node->s))
			return &m->full_node[i];
	return NULL;
}

void
wr_marks_heard(struct wr_control *c, const struct wr_uuid *node, bool full)
{
	struct wr_marks *m = c->marks;
	struct wr_uuid *have = m ? full_find(m, node) : NULL;

	if (!m)
		return;
	if (full && !have) {
		wr_grow(&m->full_node, &m->full_cap, m->full_count + 1, sizeof(*m->full_node));
		m->full_node[m->full_count++] = *node;
	} else if (!full && have) {
		*have = m->full_node[--m->full_count];
	}
}

bool
wr_marks_node_full(struct wr_control *c, const struct wr_uuid *node)
{
	return !strcmp(node->s, c->node->id.s) ? wr_marks_full(c)
					       : c->marks && full_find(c->marks, node);
}

/* ---- told ---- */

enum wr_mark
wr_marks_json(struct wr_control *c, size_t volume, json_t *o)
{
	const struct vol *v = &c->marks->vol[volume];
	enum wr_mark mark = wr_marks_now(c, volume);
	json_t *r;

	if (!v->known) {
		wr_json_null(o, "total");
		return mark;
	}
	find_growers(c);
	wr_json_u64(o, "total", v->room.bytes);
	wr_json_u64(o, "used", v->room.used);
	wr_json_u64(o, "free", v->room.free);
	wr_json_u64(o, "inodes", v->room.inodes);
	wr_json_u64(o, "inodes_free", v->room.inodes_free);
	wr_json_u64(o, "percent", v->room.permille / 10);
	wr_json_str(o, "mark", wr_mark_name(mark));
	r = wr_json_object(o, "reserve");
	wr_json_u64(r, "bytes", v->room.reserve);
	wr_json_u64(r, "wanted", v->room.reserve_wanted);
	wr_json_u64(r, "files", v->room.spare);
	wr_json_u64(r, "files_wanted", v->room.spare_wanted);
	wr_json_take(o, "growers", growers_json(v));
	return mark;
}

/* ---- the clock ---- */

static void
refill(struct wr_control *c, size_t volume)
{
	struct wr_err err = WR_ERR_INIT;

	if (!c->volume_lost[volume] &&
	    wr_room_refill(&c->node->volume[volume], REFILL_STEP, NULL, &err) < 0)
		wr_log_err(WR_LOG_WARNING, "fill up the reserve", &err);
}

void
wr_marks_tick(struct wr_control *c)
{
	const uint64_t now = wr_clock_mono_ns();
	struct wr_marks *m = c->marks;
	struct wr_err err = WR_ERR_INIT;
	enum wr_mark mark;
	bool alarm = false;

	if (m->looked_ns && now - m->looked_ns < LOOK_NS)
		return;
	m->looked_ns = now;
	for (size_t i = 0; i < c->node->volume_count; i++) {
		mark = wr_marks_now(c, i);
		alarm |= mark >= WR_MARK_ALARM;
		if (mark != WR_MARK_NONE && !c->volume_lost[i])
			wr_room_hurry(&c->node->volume[i]);
		refill(c, i);
	}
	forget_live(c);
	if (wr_room_refill_state(c->node, &err) < 0)
		wr_log_err(WR_LOG_WARNING, "fill up the reserve", &err);
	/* Plans that thin histories are carried out here as well, when there are any. */
	if (alarm && (!m->expired_ns || now - m->expired_ns >= EXPIRED_NS)) {
		m->expired_ns = now;
		wr_purge_expired(c);
	}
}

void
wr_marks_begin(struct wr_control *c)
{
	c->marks = wr_calloc(1, sizeof(*c->marks));
	c->marks->vol = wr_calloc(c->node->volume_count, sizeof(*c->marks->vol));
	for (size_t i = 0; i < c->node->volume_count; i++)
		(void)wr_marks_now(c, i);
}

void
wr_marks_end(struct wr_control *c)
{
	if (!c->marks)
		return;
	free(c->marks->vol);
	free(c->marks->full_node);
	free(c->marks->live);
	free(c->marks);
	c->marks = NULL;
}
