/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens that people ask for: made, listed, revoked.  Each is an event; the secret is told once. */
#include "base/str.h"
#include "model/text.h"
#include "serve/control/control_int.h"
#include "sys/clock.h"

/* ---- what is told ---- */

static json_t *
token_json(struct wr_control *c, json_t *o, const struct wr_token_row *t)
{
	struct wr_proj_row row = {0};

	wr_json_str(o, "id", t->id);
	wr_json_str(o, "scope", wr_scope_name(t->scope));
	wr_json_str(o, "project", *t->project.s ? t->project.s : NULL);
	if (*t->project.s &&
	    wr_store_proj_find(c->store, t->project.s, false, true, &row, NULL) == 0)
		wr_json_str(o, "name", row.name);
	else
		wr_json_null(o, "name");
	wr_proj_row_fini(&row);
	wr_json_str(o, "purpose", t->purpose);
	wr_json_bool(o, "asked", t->asked);
	if (t->created)
		wr_json_time(o, "created", t->created);
	else
		wr_json_null(o, "created");
	if (t->expires)
		wr_json_time(o, "expires", t->expires);
	else
		wr_json_null(o, "expires");
	wr_json_bool(o, "expired", t->expires && t->expires <= wr_clock_wall().s);
	/* Of its last use only the day is known. */
	if (t->used) {
		WR_SCOPED(wr_freep) char *day = wr_asprintf("%.10s", wr_fmt_utc(t->used).s);

		wr_json_str(o, "used", day);
	} else {
		wr_json_null(o, "used");
	}
	return o;
}

static void
token_event(struct wr_control *c, const struct wr_req *q, const char *what,
	    const struct wr_token_row *t)
{
	json_t *detail = json_object();
	WR_SCOPED(wr_freep)
	char *why = wr_asprintf("%s, scope %s%s%s", t->id, wr_scope_name(t->scope),
				*t->purpose ? ": " : "", t->purpose);

	wr_json_str(detail, "id", t->id);
	wr_json_str(detail, "scope", wr_scope_name(t->scope));
	if (t->expires)
		wr_json_time(detail, "expires", t->expires);
	wr_event(c, q->who.by, *t->project.s ? &t->project : NULL, what, why, detail);
}

/* ---- the calls ---- */

static enum wr_scope
scope_of(const char *name)
{
	for (enum wr_scope s = WR_SCOPE_READ; s <= WR_SCOPE_ADMIN; s++)
		if (!strcmp(wr_scope_name(s), name))
			return s;
	return WR_SCOPE_NONE;
}

/* The project of the call, if its token is to be for one. */
static int
find_project(struct wr_control *c, struct wr_req *q, const char *ref, struct wr_uuid *out,
	     struct wr_err *err)
{
	struct wr_proj_row row = {0};
	int rc = wr_store_proj_find(c->store, ref, true, false, &row, err);

	*out = row.id;
	wr_proj_row_fini(&row);
	/* Who may not know what there is does not hear it from here. */
	if (rc < 0 && !(q->who.rights & WR_RIGHT_READ))
		return wr_refuse(c, &q->who, q->call.api, ref, err);
	return rc;
}

int
wr_on_token_create(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *ref = wr_call_str(&q->call, "project"),
		   *purpose = wr_call_str(&q->call, "purpose");
	uint64_t life = wr_call_u64(&q->call, "expires", 0);
	struct wr_token_row t = {.scope = scope_of(wr_call_str(&q->call, "scope")),
				 .created = wr_clock_wall().s};
	char secret[80];
	json_t *o;

	if (t.scope == WR_SCOPE_PROJECT && !ref)
		return wr_err_set(err, WR_E_INVALID,
				  "project: is missing: scope project is of one");
	if (t.scope != WR_SCOPE_PROJECT && ref)
		return wr_err_set(err, WR_E_INVALID, "project: scope %s is of no project",
				  wr_scope_name(t.scope));
	if (ref && find_project(c, q, ref, &t.project, err) < 0)
		return -1;
	if (!wr_who_mints(&q->who, ref ? &t.project : NULL))
		return wr_refuse(c, &q->who, q->call.api, ref ? ref : "", err);
	if (purpose && !wr_text_plain(purpose, strlen(purpose), false))
		return wr_err_set(err, WR_E_INVALID, "purpose: has control characters");
	snprintf(t.purpose, sizeof(t.purpose), "%s", purpose ? purpose : "");
	t.expires = life ? t.created + (int64_t)life : 0;
	if (wr_store_token_make(c->store, &t, secret, err) < 0)
		return -1;
	token_event(c, q, "token.made", &t);
	o = token_json(c, wr_json_begin("warren.token/1"), &t);
	wr_json_str(o, "token", secret);
	explicit_bzero(secret, sizeof(secret));
	wr_req_reply(q, 200, 0, o);
	return 0;
}

struct listing {
	struct wr_control *c;
	const struct wr_who *who;
	json_t *list;
};

static int
list_one(void *ctx, const struct wr_token_row *t, struct wr_err *err WR_UNUSED)
{
	struct listing *l = ctx;

	if (wr_who_mints(l->who, *t->project.s ? &t->project : NULL))
		token_json(l->c, wr_json_item(l->list), t);
	return 0;
}

int
wr_on_tokens(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	bool all = q->who.rights & WR_RIGHT_ADMIN;
	json_t *o;
	struct listing l = {c, &q->who, NULL};

	if (!all && !*q->who.by_uid.s)
		return wr_refuse(c, &q->who, q->call.api, "", err);
	o = wr_json_begin("warren.tokens/1");
	l.list = wr_json_array(o, "tokens");
	return wr_req_answer(
	    q, wr_store_token_each(c->store, all ? NULL : &q->who.by_uid, list_one, &l, err), o);
}

int
wr_on_token_revoke(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *id = wr_call_str(&q->call, "token");
	bool all = q->who.rights & WR_RIGHT_ADMIN;
	struct wr_token_row t;
	int rc;

	if (!all && !*q->who.by_uid.s)
		return wr_refuse(c, &q->who, q->call.api, "", err);
	rc = wr_store_token_find(c->store, id, &t, err);
	if (rc < 0 && (all || err->code == WR_E_INVALID))
		return -1;
	if (rc < 0 || !wr_who_mints(&q->who, *t.project.s ? &t.project : NULL))
		return wr_refuse(c, &q->who, q->call.api, "", err);
	if (wr_store_token_revoke(c->store, id, err) < 0)
		return -1;
	token_event(c, q, "token.revoked", &t);
	wr_req_reply(q, 200, 0, token_json(c, wr_json_begin("warren.token/1"), &t));
	return 0;
}
