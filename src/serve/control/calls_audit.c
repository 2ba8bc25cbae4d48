/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit: every member looks at its own copy, in a worker behind all else; who asks compares what
 * they say, and has at most one of the damaged ones marked (MARK): that one proves nothing, is no
 * source of files and acknowledges nothing until it is whole again (mend.c).  The others are
 * suspect: a verifier may be wrong, too, and objects are taken singly from whoever can read them.
 */
#include "base/log.h"
#include "base/str.h"
#include "serve/control/drops.h"
#include "serve/control/fleet_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define ASK_MS (uint32_t)(WR_AUDIT_S * 1000u)
#define MARK_MS 20000u
/* LIMIT of marks, on a node and in the fleet: a thousandth of the copies held, at least this many.
 */
#define MARKS_LEAST 3
/* LIMIT of what a member says besides. */
#define TOLD_BYTES (64u << 10)
/* LIMIT of damaged copies that wait for a MARK, and for how long. */
#define FOUND_MAX 256
#define FOUND_S 86400

/* ---- how many ---- */

static bool
too_many(uint64_t marks, uint64_t held)
{
	return marks >= WR_MAX(held / 1000, (uint64_t)MARKS_LEAST);
}

static int
count_row(void *ctx, const struct wr_proj_row *r WR_UNUSED, struct wr_err *err WR_UNUSED)
{
	++*(uint64_t *)ctx;
	return 0;
}

static int
count_own(struct wr_control *c, uint64_t *marks, uint64_t *held, struct wr_err *err)
{
	WR_SCOPED(wr_freep) struct wr_uuid *id = NULL;
	size_t n;

	*held = 0;
	if (wr_flag_list(c->node, WR_FLAG_DAMAGED, &id, &n, err) < 0 ||
	    wr_store_proj_each(c->store, 0, count_row, held, err) < 0)
		return -1;
	*marks = n;
	return 0;
}

/* What members said of their marks last. */
struct wr_marks_of {
	struct wr_marks_of *next;
	struct wr_uuid node;
	uint64_t marks, held;
};

static void
learn_marks(struct wr_control *c, const struct wr_uuid *node, const json_t *told)
{
	struct wr_drops *d = c->fleet->drops;
	struct wr_marks_of *m = d->marks;

	while (m && strcmp(m->node.s, node->s) != 0)
		m = m->next;
	if (!m) {
		m = wr_calloc(1, sizeof(*m));
		m->node = *node;
		m->next = d->marks;
		d->marks = m;
	}
	m->marks = wr_json_get_u64(told, "marks", 0);
	m->held = wr_json_get_u64(told, "held", 0);
}

/* F20: damage in all places at once is that of a program, not of disks. As far as is known here. */
static bool
fleet_is_full(struct wr_control *c)
{
	uint64_t marks = 0, held = 0;

	for (const struct wr_marks_of *m = c->fleet->drops->marks; m; m = m->next) {
		marks += m->marks;
		held += m->held;
	}
	return too_many(marks, held);
}

/* ---- what was found here ---- */

struct wr_found {
	struct wr_found *next;
	struct wr_uuid project;
	int64_t at;
	char *first;
};

static void
found_drop(struct wr_found **at)
{
	struct wr_found *f = *at;

	*at = f->next;
	free(f->first);
	free(f);
}

static struct wr_found **
found_at(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_found **at = &c->fleet->drops->found;

	while (*at && strcmp((*at)->project.s, project->s) != 0)
		at = &(*at)->next;
	return at;
}

static void
found_note(struct wr_control *c, const struct wr_uuid *project, const json_t *result)
{
	struct wr_found **at = found_at(c, project), *f;
	const char *first = json_string_value(json_array_get(wr_json_get_arr(result, "damage"), 0));
	size_t n = 0;

	if (*at)
		found_drop(at);
	if (wr_json_get_bool(result, "whole", false) ||
	    wr_flag_is(c->node, WR_FLAG_DAMAGED, project))
		return;
	f = wr_calloc(1, sizeof(*f));
	f->project = *project;
	f->at = wr_clock_wall().s;
	f->first = wr_strdup(first ? first : "it cannot be read whole");
	f->next = c->fleet->drops->found;
	c->fleet->drops->found = f;
	for (at = &c->fleet->drops->found; *at && n < FOUND_MAX; at = &(*at)->next)
		n++;
	while (*at)
		found_drop(at);
}

void
wr_audits_end(struct wr_control *c)
{
	struct wr_drops *d = c->fleet->drops;

	while (d->found)
		found_drop(&d->found);
	while (d->marks) {
		struct wr_marks_of *m = d->marks;

		d->marks = m->next;
		free(m);
	}
}

/* F20: a bug of the verifier, or bad memory, is not to condemn everything that a node holds. */
static int
mark(struct wr_control *c, const struct wr_uuid *project, struct wr_err *err)
{
	struct wr_found **f = found_at(c, project);
	uint64_t marks, held;

	if (!*f || wr_clock_wall().s - (*f)->at > FOUND_S)
		return wr_err_set(err, WR_E_NOT_FOUND, "nothing was found damaged of it here");
	if (count_own(c, &marks, &held, err) < 0)
		return -1;
	if (too_many(marks, held)) {
		wr_err_set(err, WR_E_LIMIT,
			   "%" PRIu64 " copies are marked as damaged already: no more are", marks);
		wr_event(c, "audit", project, "audit.limit", err->msg, NULL);
		return wr_err_hint(err, "look at this host's memory and disks first");
	}
	if (wr_damage_set(c->node, project, NULL, err) < 0)
		return -1;
	wr_event(c, "audit", project, "copy.damaged", (*f)->first, NULL);
	found_drop(f);
	return 0;
}

/* ---- who is asked ---- */

void
wr_audit_mark(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;

	if (!wr_flag_is(c->node, WR_FLAG_DAMAGED, &k->q.project) &&
	    mark(c, &k->q.project, &err) < 0) {
		wr_asked_fail(k, &err);
		return;
	}
	wr_mend_now(c, &k->q.project);
	a.kind = WR_MSG_OK;
	wr_asked_answer(k, &a);
}

static void
on_audited(void *ctx, const json_t *result, const struct wr_err *why)
{
	struct wr_asked *k = ctx;
	struct wr_control *c = k->c;
	const char *text = wr_json_get_str(result, "digest_b64", "");
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_json_freep) json_t *told = NULL;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_state s;
	uint64_t marks = 0, held = 0;

	if (why) {
		wr_asked_fail(k, why);
		return;
	}
	found_note(c, &k->q.project, result);
	a.kind = WR_MSG_AUDITED;
	a.project = k->q.project;
	a.flag = wr_json_get_bool(result, "whole", false);
	if (wr_base64_decode(&b, text, strlen(text)) && b.len == sizeof(a.digest.b))
		memcpy(a.digest.b, b.p, b.len);
	(void)count_own(c, &marks, &held, NULL); /* nothing known is nothing said */
	told = json_deep_copy(result);
	wr_json_bool(told, "marked", wr_flag_is(c->node, WR_FLAG_DAMAGED, &k->q.project));
	wr_json_u64(told, "marks", marks);
	wr_json_u64(told, "held", held);
	wr_json_write(told, &a.blob);
	if (a.blob.len > TOLD_BYTES)
		wr_buf_clear(&a.blob);
	wr_member_init(&s, &k->q.project);
	if (wr_member_load(c, &k->q.project, &s, NULL) == 0)
		a.version = wr_member_version(&s);
	wr_member_fini(&s);
	wr_asked_answer(k, &a);
}

void
wr_audit_asked(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	json_t *args = json_object();
	struct wr_err err = WR_ERR_INIT;

	wr_json_bool(args, "data", k->q.flag);
	wr_json_u64(args, "rate", c->node->config.replica_rate);
	if (!wr_look_begin(c, WR_TASK_AUDIT, &k->q.project, false, args, on_audited, k, &err))
		wr_asked_fail(k, &err);
}

/* ---- who asks ---- */

struct heard {
	struct auditing *all;
	struct wr_node_id node;
	bool answered, whole;
	struct wr_version v;
	struct wr_digest digest;
	json_t *told;
	struct wr_err why;
};
struct auditing {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	struct wr_record e;
	struct heard of[WR_MEMBERS_MAX];
	size_t count, asked;
	bool repair;
	struct heard *marked; /* the one that is, or is to be */
	struct wr_err why;    /* why it could not be */
};

static void
on_gone(struct wr_req *q)
{
	((struct auditing *)q->held)->q = NULL;
}

/* The newest version that is whole; of the writer, if it has it. */
static const struct heard *
reference(const struct auditing *h)
{
	const struct heard *best = NULL;

	for (size_t i = 0; i < h->count; i++) {
		const struct heard *o = &h->of[i];
		int cmp;

		if (!o->answered || !o->whole || o == h->marked)
			continue;
		cmp = best ? wr_version_cmp(&o->v, &best->v) : 1;
		if (cmp > 0 || (cmp == 0 && wr_node_id_eq(&o->node, &h->e.writer)))
			best = o;
	}
	return best;
}

static const char *
verdict(const struct heard *o, const struct heard *ref)
{
	if (!o->answered)
		return "unknown";
	if (!o->whole)
		return o == o->all->marked ? "damaged" : "suspect";
	if (o == o->all->marked)
		return "damaged"; /* it was, and has not been read whole since */
	if (ref && wr_version_cmp(&o->v, &ref->v) < 0)
		return "behind";
	return memcmp(o->digest.b, ref->digest.b, sizeof(o->digest.b)) == 0 ? "same" : "differs";
}

static json_t *
copy_json(const struct auditing *h, const struct heard *o, const char *is)
{
	const struct wr_fleet_node *f = wr_fleet_has(&h->c->fleet->auth->fleet, &o->node);
	json_t *j = json_object();

	wr_json_str(j, "node", o->node.id.s);
	wr_json_str(j, "name", f ? f->name : NULL);
	wr_json_str(j, "dc", f ? f->dc : NULL);
	wr_json_str(j, "is", is);
	wr_json_str(j, "version", o->answered ? wr_version_text(&o->v).s : NULL);
	wr_json_u64(j, "objects", wr_json_get_u64(o->told, "objects", 0));
	wr_json_u64(j, "bytes", wr_json_get_u64(o->told, "bytes", 0));
	if (wr_json_get_arr(o->told, "damage"))
		json_object_set(j, "damage", wr_json_get_arr(o->told, "damage"));
	else
		(void)wr_json_array(j, "damage");
	if (o->answered)
		wr_json_null(j, "error");
	else
		wr_json_err(j, "error", &o->why);
	return j;
}

/* Nobody else says so. */
static void
tell_suspect(struct auditing *h, const struct heard *o)
{
	const char *first =
	    json_string_value(json_array_get(wr_json_get_arr(o->told, "damage"), 0));
	WR_SCOPED(wr_freep)
	char *why = wr_asprintf("the copy of node %s looks damaged, and is not marked: %s",
				wr_fleet_name(h->c, &o->node.id),
				h->why.code ? h->why.msg
				: h->marked ? "another one of this project is"
				: first     ? first
					    : "?");

	wr_event(h->c, "audit", &h->e.project, "copy.suspect", why, NULL);
}

static void
answer(struct auditing *h)
{
	const struct heard *ref = reference(h);
	json_t *o = wr_json_begin("warren.audit/1"), *list;
	size_t wrong = 0;

	wr_json_str(o, "project", h->e.project.s);
	wr_json_str(o, "name", h->q ? h->q->row.name : NULL);
	wr_json_u64(o, "epoch", h->e.n.number);
	list = wr_json_array(o, "copies");
	for (size_t i = 0; i < h->count; i++) {
		const char *is = verdict(&h->of[i], ref);

		wrong += strcmp(is, "same") != 0;
		if (!strcmp(is, "suspect"))
			tell_suspect(h, &h->of[i]);
		json_array_append_new(list, copy_json(h, &h->of[i], is));
		json_decref(h->of[i].told);
	}
	wr_json_u64(o, "wrong", wrong);
	if (h->q) {
		h->q->held = NULL;
		h->q->gone = NULL;
		wr_req_reply(h->q, 200, wrong ? 3 : 0, o);
	} else {
		json_decref(o);
	}
	free(h);
}

static void
on_marked(void *ctx, const struct wr_msg *m, const struct wr_err *why)
{
	struct auditing *h = ctx;

	if (m && m->kind == WR_MSG_OK) {
		if (wr_fleet_is_writer(h->c, &h->e.project))
			wr_copies_damaged(h->c, &h->e.project, &h->marked->node.id);
	} else {
		if (m)
			wr_msg_get_err(m, &h->why);
		else
			h->why = *why;
		h->marked = NULL;
	}
	answer(h);
}

/* At most one of a project: one that is marked already, else a replica rather than the writer. */
static void
choose(struct auditing *h)
{
	bool was = false;

	for (size_t i = 0; i < h->count; i++) {
		struct heard *o = &h->of[i];
		bool is = o->answered && wr_json_get_bool(o->told, "marked", false);

		if (o->answered)
			learn_marks(h->c, &o->node.id, o->told);
		if (is && !was)
			h->marked = o;
		else if (!was && o->answered && !o->whole &&
			 (!h->marked || wr_node_id_eq(&h->marked->node, &h->e.writer)))
			h->marked = o;
		was = was || is;
	}
	if (h->marked && !was && fleet_is_full(h->c)) {
		wr_err_set(&h->why, WR_E_LIMIT,
			   "too many copies of the fleet are marked as damaged already");
		wr_event(h->c, "audit", NULL, "audit.limit", h->why.msg, NULL);
		h->marked = NULL;
	}
	if (was && !h->repair) {
		answer(h);
		return;
	}
	if (h->marked) {
		struct wr_msg m = WR_MSG_INIT;

		m.kind = WR_MSG_MARK;
		m.project = h->e.project;
		wr_ask(h->c, &h->marked->node.id, &m, MARK_MS, on_marked, h);
		return;
	}
	answer(h);
}

static void
on_answer(void *ctx, const struct wr_msg *a, const struct wr_err *why)
{
	struct heard *o = ctx;
	struct auditing *h = o->all;

	if (a && a->kind == WR_MSG_AUDITED && !strcmp(a->project.s, h->e.project.s)) {
		o->answered = true;
		o->whole = a->flag;
		o->v = a->version;
		o->digest = a->digest;
		if (a->blob.len <= TOLD_BYTES)
			o->told = wr_json_parse((const char *)a->blob.p, a->blob.len, NULL);
	} else if (a) {
		wr_msg_get_err(a, &o->why);
		if (o->why.code == WR_E_NONE)
			wr_err_set(&o->why, WR_E_FAILED, "it answered something else");
	} else {
		o->why = *why;
	}
	if (--h->asked == 0)
		choose(h);
}

int
wr_on_audit(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	bool data = wr_call_bool(&q->call, "data", false);
	struct auditing *h;

	if (!c->fleet) {
		wr_err_set(err, WR_E_UNSUPPORTED, "this host belongs to no fleet");
		return wr_err_hint(err, "warren repo verify looks at a repository alone");
	}
	h = wr_calloc(1, sizeof(*h));
	if (!wr_fleet_record(c, &q->row.id, &h->e)) {
		free(h);
		return wr_err_set(err, WR_E_NOT_FOUND, "no record of '%s' is here", q->row.name);
	}
	h->c = c;
	h->q = q;
	h->repair = wr_call_bool(&q->call, "repair", false);
	q->held = h;
	q->gone = on_gone;
	for (size_t i = 0; i < h->e.member_count; i++)
		if (h->e.member[i].role != WR_ROLE_WITNESS)
			h->of[h->count++] = (struct heard){.all = h, .node = h->e.member[i].node};
	h->asked = h->count;
	for (size_t i = 0; i < h->count; i++) {
		struct wr_msg m = WR_MSG_INIT;

		m.kind = WR_MSG_AUDIT;
		m.project = h->e.project;
		m.flag = data;
		wr_ask(c, &h->of[i].node.id, &m, ASK_MS, on_answer, &h->of[i]);
	}
	return 0;
}
