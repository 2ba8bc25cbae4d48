/* SPDX-License-Identifier: Apache-2.0 */
/* Calls about the node as a whole: health, volumes, what needs attention, who costs what, events.
 */
#include "base/str.h"
#include "host/runner/runner.h"
#include "model/openapi.h"
#include "serve/control/fleet.h"
#include "serve/control/marks.h"
#include "sys/clock.h"
#include "sys/sandbox.h"

int
wr_on_health(struct wr_control *c, struct wr_req *q, struct wr_err *err WR_UNUSED)
{
	json_t *o = wr_json_begin("warren.health/1");

	wr_json_bool(o, "ok", true);
	wr_json_str(o, "version", WR_VERSION);
	wr_json_bool(o, "draining", c->draining);
	wr_req_reply(q, 200, 0, o);
	return 0;
}

int
wr_on_openapi(struct wr_control *c WR_UNUSED, struct wr_req *q, struct wr_err *err WR_UNUSED)
{
	wr_req_reply(q, 200, 0, wr_openapi());
	return 0;
}

static enum wr_mark
volume_json(struct wr_control *c, size_t i, json_t *o)
{
	const struct wr_volume *v = &c->node->volume[i];

	wr_json_str(o, "id", v->id.s);
	wr_json_path(o, "path", v->path, strlen(v->path));
	wr_json_bool(o, "lost", c->volume_lost[i]);
	return wr_marks_json(c, i, o);
}

static void
node_json(struct wr_control *c, json_t *o, bool walls)
{
	static const struct {
		unsigned bit;
		const char *name;
	} wall[] = {{WR_WALL_IDS, "ids"},
		    {WR_WALL_CAPS, "capabilities"},
		    {WR_WALL_NETWORK, "network"},
		    {WR_WALL_LANDLOCK, "landlock"},
		    {WR_WALL_SECCOMP, "seccomp"}};
	unsigned have = wr_sandbox_available();
	json_t *list;

	wr_json_str(o, "id", c->node->id.s);
	wr_json_str(o, "name", c->node->name);
	wr_json_str(o, "dc", c->node->dc);
	wr_json_str(o, "version", WR_VERSION);
	wr_json_bool(o, "root", c->node->root_mode);
	wr_json_str(o, "user", c->node->user);
	wr_json_u64(o, "uid", c->node->uid);
	wr_json_str(o, "socket", c->node->socket_path);
	list = wr_json_array(o, "volumes");
	for (size_t i = 0; i < c->node->volume_count; i++)
		(void)volume_json(c, i, wr_json_item(list));
	wr_json_u64(o, "running", c->running);
	wr_json_u64(o, "queued", c->queued);
	if (!walls)
		return;
	list = wr_json_array(o, "walls");
	for (size_t i = 0; i < WR_ARRAY_LEN(wall); i++)
		if (have & wall[i].bit)
			wr_json_add_str(list, wall[i].name);
}

int
wr_on_node(struct wr_control *c, struct wr_req *q, struct wr_err *err WR_UNUSED)
{
	json_t *o = wr_json_begin("warren.node/1");

	node_json(c, o, true);
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* ---- status: what needs attention, worst first ---- */

enum level { LEVEL_ERROR, LEVEL_WARNING, LEVEL_OK, LEVELS };
static const char *const level_name[] = {"error", "warning", "ok"};

/* From here on a notice needs attention, not only its user's. */
#define NOTICE_WARNS 95

struct status {
	struct wr_control *c;
	json_t *level[LEVELS];
	uint64_t count[WR_ST_ERROR + 1];
};

static void
add_line(struct status *s, enum level level, const struct wr_proj_row *r,
	 const struct wr_status *st, const char *text, const char *command)
{
	json_t *o = wr_json_item(s->level[level]);

	wr_json_str(o, "id", r ? r->id.s : NULL);
	wr_json_str(o, "name", r ? r->name : NULL);
	wr_json_str(o, "level", level_name[level]);
	wr_json_str(o, "text", text);
	wr_json_str(o, "command", command);
	wr_json_str(o, "state", st ? wr_state_name(st->state) : NULL);
	if (st)
		wr_json_time(o, "since", st->when);
	else
		wr_json_null(o, "since");
}

static char *
cure(const struct wr_proj_row *r, const struct wr_status *st)
{
	if (!strncmp(st->error.hint, "warren ", 7))
		return wr_strdup(st->error.hint);
	if (*st->op)
		return wr_asprintf("warren op show %s", st->op);
	return wr_asprintf("warren start %s", r->name);
}

/* Beside whatever else there is to say of it. */
static void
status_beside(struct status *s, const struct wr_proj_row *r, const struct wr_status *st)
{
	struct wr_beside b;

	wr_copies_beside(s->c, r, &b);
	if (b.sides) {
		WR_SCOPED(wr_freep)
		char *text =
		    wr_asprintf("%zu side branch%s with work that was off the line: %s%s", b.sides,
				b.sides == 1 ? "" : "es", b.side, b.sides == 1 ? "" : ", ...");
		WR_SCOPED(wr_freep)
		char *command = wr_asprintf("warren diff %s %s", r->name, b.side);

		add_line(s, LEVEL_OK, r, st, text, command);
	}
	if (b.latest) {
		WR_SCOPED(wr_freep)
		char *text = wr_asprintf("its newest state of %s lies on %s for recovery only; the "
					 "history is on its way",
					 wr_fmt_utc(b.latest).s, b.latest_on);
		WR_SCOPED(wr_freep)
		char *command = wr_asprintf("warren show %s", r->name);

		add_line(s, LEVEL_WARNING, r, st, text, command);
	}
}

static int
status_one(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct status *s = ctx;
	struct wr_proj *p = wr_proj_find(s->c, &r->id);
	struct wr_status st = {.state = WR_ST_STOPPED, .when = r->used ? r->used : r->created};
	int64_t now = wr_clock_wall().s, age = now - r->save_began;
	WR_SCOPED(wr_freep) char *text = NULL;
	WR_SCOPED(wr_freep) char *command = NULL;
	const struct wr_notice *n;
	struct wr_err lost = WR_ERR_INIT, full = WR_ERR_INIT;
	const char *why;
	int64_t since;

	if (p)
		wr_row_status(s->c, r, &st);
	s->count[st.state]++;
	if (st.state == WR_ST_ERROR) {
		text = wr_asprintf("%s%s%s", *st.step ? st.step : "", *st.step ? ": " : "",
				   st.error.msg);
		command = cure(r, &st);
		add_line(s, LEVEL_ERROR, r, &st, text, command);
	} else if (wr_row_volumes(s->c, r, &lost) < 0) {
		add_line(s, LEVEL_ERROR, r, &st, lost.msg, "warren doctor");
	} else if (wr_lease_frozen(s->c, &r->id, &since, &why)) {
		text = wr_asprintf("frozen: %s", why);
		command = wr_asprintf("warren explain %s", r->name);
		add_line(s, LEVEL_ERROR, r, &st, text, command);
	} else if (p && st.active && wr_marks_snapshot(s->c, r, &full) < 0) {
		add_line(s, LEVEL_WARNING, r, &st, full.msg, "warren volume list");
	} else if (r->save_began && !r->save_ok) {
		text = wr_asprintf("its last save failed; the newest good one is %s old",
				   wr_fmt_duration((uint64_t)WR_MAX(age, (int64_t)0)).s);
		command = wr_asprintf("warren save %s", r->name);
		add_line(s, LEVEL_WARNING, r, &st, text, command);
	} else if ((n = wr_notice_worst(&st)) && n->level >= NOTICE_WARNS) {
		text = wr_asprintf("%s (since %s)", n->text, wr_fmt_utc(n->since).s);
		add_line(s, LEVEL_WARNING, r, &st, text, *n->command ? n->command : NULL);
	} else if (p && p->active && st.active && p->save_every && r->save_began &&
		   age > 3 * (int64_t)p->save_every) {
		text = wr_asprintf("not saved for %s", wr_fmt_duration((uint64_t)age).s);
		command = wr_asprintf("warren save %s", r->name);
		add_line(s, LEVEL_WARNING, r, &st, text, command);
	} else if (p && p->run && p->run->row.started && now - p->run->row.started > 3600) {
		text = wr_asprintf("%s since %s", wr_op_kind_name(p->run->row.kind),
				   wr_fmt_utc(p->run->row.started).s);
		command = wr_asprintf("warren op show %s", p->run->row.id.s);
		add_line(s, LEVEL_WARNING, r, &st, text, command);
	} else if (p) {
		/* At rest and well: only counted. */
		text = wr_asprintf("%s%s%s%s%s", wr_state_name(st.state), *st.step ? ": " : "",
				   st.step, n ? ", " : "", n ? n->text : "");
		add_line(s, LEVEL_OK, r, &st, text, NULL);
	}
	if (p)
		status_beside(s, r, &st);
	return 0;
}

static void
status_volumes(struct status *s)
{
	struct wr_control *c = s->c;

	for (size_t i = 0; i < c->node->volume_count; i++) {
		enum wr_mark mark = wr_marks_now(c, i);
		WR_SCOPED(wr_freep) char *full = NULL;
		WR_SCOPED(wr_freep) char *text = NULL;

		if (c->volume_lost[i]) {
			text =
			    wr_asprintf("volume %s is not there any more", c->node->volume[i].path);
			add_line(s, LEVEL_ERROR, NULL, NULL, text, "warren doctor");
		} else if (mark >= WR_MARK_NEW) {
			full = wr_marks_text(c, i);
			text = wr_asprintf("volume %s is %s", c->node->volume[i].path, full);
			add_line(s, mark >= WR_MARK_ALARM ? LEVEL_ERROR : LEVEL_WARNING, NULL, NULL,
				 text, "warren volume list");
		}
	}
}

static void
status_fleet(struct status *s)
{
	WR_SCOPED(wr_freep) char *clock = wr_clock_doubt(s->c);
	struct wr_err err = WR_ERR_INIT;

	if (wr_fleet_set_back(s->c, &err))
		add_line(s, LEVEL_ERROR, NULL, NULL, err.msg, err.hint);
	if (clock)
		add_line(s, LEVEL_WARNING, NULL, NULL, clock, "timedatectl");
}

int
wr_on_status(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *ref = wr_call_str(&q->call, "project");
	struct status s = {.c = c};
	struct wr_proj_row row = {0};
	json_t *o, *list, *counts;
	int rc = 0, exit;

	if (ref && (wr_store_proj_find(c->store, ref, true, false, &row, err) < 0 ||
		    !wr_who_sees(&q->who, &row.id))) {
		wr_proj_row_fini(&row);
		return q->who.rights & WR_RIGHT_READ ? -1
						     : wr_refuse(c, &q->who, q->call.api, ref, err);
	}
	for (size_t i = 0; i < LEVELS; i++)
		s.level[i] = json_array();
	if (ref) {
		struct wr_proj *p = wr_proj_get(c, &row.id); /* told in full, also at rest */

		status_one(&s, &row, err);
		wr_proj_rest(p);
	} else {
		if (q->who.rights & WR_RIGHT_READ) {
			status_volumes(&s);
			status_fleet(&s);
		}
		rc = wr_rows_seen(c, &q->who, false, status_one, &s, err);
	}
	exit = json_array_size(s.level[LEVEL_ERROR])     ? 1
	       : json_array_size(s.level[LEVEL_WARNING]) ? 3
							 : 0;
	o = wr_json_begin("warren.status/1");
	if (q->who.rights & WR_RIGHT_READ)
		node_json(c, wr_json_object(o, "node"), false);
	else
		wr_json_null(o, "node");
	list = wr_json_array(o, "projects");
	for (size_t i = 0; i < LEVELS; i++) {
		json_array_extend(list, s.level[i]);
		json_decref(s.level[i]);
	}
	counts = wr_json_object(o, "counts");
	for (size_t i = WR_ST_ABSENT; i <= WR_ST_ERROR; i++)
		if (s.count[i])
			wr_json_u64(counts, wr_state_name((enum wr_state)i), s.count[i]);
	wr_json_u64(o, "exit", (uint64_t)exit);
	wr_proj_row_fini(&row);
	return wr_req_answer(q, rc, o);
}

/* ---- top ---- */

static int
newest_save(void *ctx, const struct wr_op_row *r, struct wr_err *err WR_UNUSED)
{
	json_t *save = ctx;
	json_t *receipt;

	if (r->kind != WR_OP_SAVE || !r->receipt)
		return 0;
	receipt = wr_json_parse(r->receipt, strlen(r->receipt), NULL);
	wr_json_real(save, "seconds", wr_json_get_real(receipt, "seconds", 0));
	wr_json_u64(save, "bytes", wr_json_get_u64(wr_json_get_obj(receipt, "bytes"), "new", 0));
	json_decref(receipt);
	return 1;
}

int
wr_on_top(struct wr_control *c, struct wr_req *q, struct wr_err *err WR_UNUSED)
{
	json_t *o = wr_json_begin("warren.top/1"), *list = wr_json_array(o, "projects");

	for (size_t i = 0; i < c->proj_count; i++) {
		struct wr_proj_row row = {0};
		struct wr_runner_status run = {0};
		json_t *item, *save;

		if (!c->proj[i]->active || wr_row_find(c, &c->proj[i]->id, &row, NULL) < 0)
			continue;
		wr_runner_status(c->node, &row.id, row.uid, row.exclusive, true, &run);
		item = wr_json_item(list);
		wr_json_str(item, "id", row.id.s);
		wr_json_str(item, "name", row.name);
		wr_json_u64(item, "processes", run.processes);
		wr_json_u64(item, "rss", run.rss);
		wr_json_real(item, "cpu_s", run.cpu_s);
		wr_json_last_save(item, &row);
		save = wr_json_get_obj(item, "last_save");
		if (save)
			(void)wr_store_op_each(c->store, &row.id, WR_OPS_DONE, 0, newest_save, save,
					       NULL); /* then those members are absent */
		wr_json_u64(item, "files", row.files);
		wr_json_u64(item, "bytes", row.bytes);
		wr_json_u64(item, "repo_bytes", row.repo_bytes);
		wr_proj_row_fini(&row);
	}
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* ---- events ---- */

static void
add_events(struct wr_control *c, json_t *list, const json_t *found)
{
	size_t i;
	json_t *e;

	json_array_foreach(found, i, e)
	{
		struct wr_proj_row row = {0};
		const char *id = wr_json_get_str(e, "project", NULL);

		if (id && wr_store_proj_find(c->store, id, false, true, &row, NULL) == 0)
			wr_json_str(e, "name", row.name);
		wr_proj_row_fini(&row);
		json_array_append(list, e);
	}
}

int
wr_on_events(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *ref = wr_call_str(&q->call, "project");
	uint64_t since = wr_call_u64(&q->call, "since", UINT64_MAX);
	uint32_t limit = (uint32_t)wr_call_u64(&q->call, "limit", 100);
	struct wr_proj_row row = {0};
	json_t *o, *list, *found = NULL;
	int rc = 0;

	if (ref) {
		if (wr_store_proj_find(c->store, ref, true, true, &row, err) < 0 &&
		    (q->who.rights & WR_RIGHT_READ))
			return -1;
		if (!*row.id.s || !wr_who_sees(&q->who, &row.id)) {
			wr_proj_row_fini(&row);
			return wr_refuse(c, &q->who, q->call.api, ref, err);
		}
	}
	o = wr_json_begin("warren.events/1");
	list = wr_json_array(o, "events");
	if (ref || (q->who.rights & WR_RIGHT_READ)) {
		rc = wr_store_events(c->store, since, ref ? &row.id : NULL, WR_MAX(limit, 1u),
				     &found, err);
		if (rc == 0)
			add_events(c, list, found);
		json_decref(found);
	} else {
		for (size_t i = 0; rc == 0 && i < q->who.own_count; i++) {
			rc = wr_store_events(c->store, since, &q->who.own[i], WR_MAX(limit, 1u),
					     &found, err);
			if (rc == 0)
				add_events(c, list, found);
			json_decref(found);
			found = NULL;
		}
	}
	wr_proj_row_fini(&row);
	return wr_req_answer(q, rc, o);
}
