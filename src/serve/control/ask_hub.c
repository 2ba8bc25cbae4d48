/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What create and settings have to do with a hub: it is asked first, and what it answers is durable
 * here before anyone relies on it.
 */
#include <stdlib.h>

#include "serve/control/replicas.h"
#include "sys/crash.h"

#define HUB_MS 15000

struct asking {
	struct wr_control *c;
	struct wr_uuid project;
	wr_created_fn fn;
	void *ctx;
	struct wr_err why; /* SETTINGS: of the first answer, while the newest ones are fetched */
};

static int
read_doc(struct wr_control *c, const struct wr_buf *doc, struct wr_settings *out,
	 struct wr_err *err)
{
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc d = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (wr_settings_doc_decode(doc->p, doc->len, &d, err) < 0 ||
	    wr_settings_doc_verify(&d, &c->fleet->auth->fleet, err) < 0)
		return -1;
	o = wr_json_parse(d.json, strlen(d.json), err);
	return o ? wr_settings_parse(o, out, err) : -1;
}

/* What a hub answered becomes what this node knows: durable before anyone relies on it. */
static int
store_answer(struct asking *k, const struct wr_msg *m, struct wr_settings *out, struct wr_err *err)
{
	struct wr_auth *a = k->c->fleet->auth;
	struct wr_lock lock = WR_LOCK_INIT;
	struct wr_err none = WR_ERR_INIT;
	struct wr_member_state ms;
	struct wr_record e;
	int rc = -1;

	wr_member_init(&ms, &k->project);
	if (read_doc(k->c, &m->settings, out, err) < 0 ||
	    wr_auth_lock(a, &k->project, &lock, err) < 0)
		goto out;
	if (wr_auth_load(a, &k->project, &ms, &none) < 0 && none.code != WR_E_NOT_FOUND) {
		*err = none;
		goto out;
	}
	if (m->record.len && !ms.has_record) {
		/* What it saved under that record would be numbered anew, and taken for the old. */
		if (wr_auth_forgot(a, &k->project)) {
			*err = none;
			goto out;
		}
		if (wr_record_decode(m->record.p, m->record.len, &e, err) < 0 ||
		    wr_record_verify(&e, &a->fleet, err) < 0)
			goto out;
		if (strcmp(e.project.s, k->project.s) != 0 || !wr_record_has(&e, &a->self)) {
			wr_err_set(err, WR_E_DENIED, "the hub's record is about something else");
			goto out;
		}
		ms.record = e;
		ms.has_record = true;
		ms.promised = e.n;
		wr_buf_add(&ms.record_bytes, m->record.p, m->record.len);
	}
	if (out->rev > ms.settings_rev) {
		wr_buf_clear(&ms.settings);
		wr_buf_add(&ms.settings, m->settings.p, m->settings.len);
		ms.settings_rev = out->rev;
	}
	rc = wr_auth_store(a, &k->project, &ms, err);
out:
	wr_lock_drop(&lock);
	wr_member_fini(&ms);
	return rc;
}

static void
asked(struct asking *k, struct wr_settings *set, const struct wr_err *why)
{
	k->fn(k->ctx, set, why);
	free(k);
}

static void
on_created(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct asking *k = ctx;
	struct wr_control *c = k->c;
	const struct wr_uuid project = k->project;
	struct wr_settings set = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_proj_row row = {0};
	bool refused = answer && answer->kind != WR_MSG_CREATED;

	if (!answer) {
		err = *why;
		wr_err_wrap(&err, "ask the fleet's hub");
	} else if (refused) {
		wr_msg_get_err(answer, &err);
	} else {
		wr_crash_point("control.name-given");
		(void)store_answer(k, answer, &set, &err);
	}
	/* Before it may be asked for once more. */
	if (refused)
		wr_reserve_used(c, &project);
	asked(k, &set, err.code != WR_E_NONE ? &err : NULL);
	wr_settings_fini(&set);
	if (refused)
		return;
	/* No answer: it may be this node's all the same. */
	if (wr_row_find(c, &project, &row, NULL) == 0)
		wr_reserve_used(c, &project);
	else
		wr_reserve_free(c, &project);
	wr_proj_row_fini(&row);
}

static void
add_settings(const struct wr_settings *set, struct wr_buf *out)
{
	WR_SCOPED(wr_json_freep) json_t *o = wr_settings_json(set);

	wr_json_write(o, out);
}

static struct asking *
asking_new(struct wr_control *c, const struct wr_uuid *project, wr_created_fn fn, void *ctx)
{
	struct asking *k = wr_calloc(1, sizeof(*k));

	*k = (struct asking){c, *project, fn, ctx, WR_ERR_INIT};
	return k;
}

void
wr_fleet_create(struct wr_control *c, const struct wr_settings *set, bool pick_uid,
		wr_created_fn fn, void *ctx)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_CREATE;
	m.project = set->id;
	m.text = wr_strdup(set->name);
	m.number = pick_uid ? 0 : set->uid;
	add_settings(set, &m.blob);
	wr_reserve_note(c, &set->id);
	wr_ask(c, wr_hub_pick(c), &m, HUB_MS, on_created, asking_new(c, &set->id, fn, ctx));
}

/* The newest ones, after a refusal: they are here when it is told. */
static void
on_fetched(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct asking *k = ctx;
	struct wr_settings set = {0};
	struct wr_err ignored = WR_ERR_INIT;

	if (answer && answer->kind == WR_MSG_RAISED && store_answer(k, answer, &set, &ignored) == 0)
		wr_fleet_learn(k->c, &k->project);
	wr_settings_fini(&set);
	asked(k, NULL, &k->why);
}

static void
on_settings(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct asking *k = ctx;
	struct wr_control *c = k->c;
	struct wr_uuid project = k->project;
	struct wr_settings set = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_msg m = WR_MSG_INIT;
	bool took = false;

	if (!answer) {
		err = *why;
		wr_err_wrap(&err, "ask the fleet's hub");
	} else if (answer->kind != WR_MSG_RAISED) {
		wr_msg_get_err(answer, &err);
	} else {
		took = store_answer(k, answer, &set, &err) == 0;
	}
	if (err.code == WR_E_CHANGED) {
		k->why = err;
		m.kind = WR_MSG_SETTINGS;
		m.project = k->project;
		wr_ask(k->c, wr_hub_pick(k->c), &m, HUB_MS, on_fetched, k);
		return;
	}
	asked(k, &set, err.code != WR_E_NONE ? &err : NULL);
	/* Members that the hub does not reach get them from here, if this is the writer. */
	if (took)
		wr_fleet_learn(c, &project);
	wr_settings_fini(&set);
}

void
wr_fleet_settings(struct wr_control *c, const struct wr_settings *set, uint64_t rev,
		  wr_created_fn fn, void *ctx)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_SETTINGS;
	m.project = set->id;
	m.number = rev;
	add_settings(set, &m.blob);
	wr_ask(c, wr_hub_pick(c), &m, HUB_MS, on_settings, asking_new(c, &set->id, fn, ctx));
}

void
wr_fleet_tell(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_member_state ms;

	if (wr_auth_load(c->fleet->auth, project, &ms, NULL) < 0)
		return;
	for (size_t i = 0; ms.has_record && i < ms.record.member_count; i++) {
		struct wr_msg m = WR_MSG_INIT;

		if (wr_node_id_eq(&ms.record.member[i].node, &c->fleet->auth->self))
			continue;
		m.kind = WR_MSG_INSTALL;
		wr_buf_add(&m.record, ms.record_bytes.p, ms.record_bytes.len);
		wr_buf_add(&m.settings, ms.settings.p, ms.settings.len);
		wr_ask(c, &ms.record.member[i].node.id, &m, HUB_MS, NULL, NULL);
	}
	wr_member_fini(&ms);
}
