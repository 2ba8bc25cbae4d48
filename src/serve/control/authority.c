/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/control/control_int.h"

#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "sys/clock.h"
#include "sys/getent.h"

void
wr_event(struct wr_control *c, const char *who, const struct wr_uuid *project, const char *what,
	 const char *why, json_t *detail)
{
	struct wr_err err = WR_ERR_INIT;

	wr_log(WR_LOG_NOTICE, "%s%s%s%s%s by=\"%s\"", what, why ? ": " : "", why ? why : "",
	       project ? " project=" : "", project ? project->s : "", who);
	if (wr_store_event(c->store, who, project, what, why, detail, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "record an event", &err);
}

int
wr_admins_load(struct wr_control *c, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *text = wr_strdup(c->node->config.admins);
	char *save = NULL;

	for (char *w = strtok_r(text, ", \t", &save); w; w = strtok_r(NULL, ", \t", &save)) {
		uint64_t n;
		struct wr_getent_entry e;
		enum wr_getent_answer rc;
		uid_t uid;

		if (wr_parse_u64(w, &n, NULL) == 0 && n < UINT32_MAX) {
			uid = (uid_t)n;
		} else if ((rc = wr_getent_by_name(false, w, &e)) == WR_GETENT_FOUND) {
			uid = e.id;
		} else if (rc == WR_GETENT_FAILED) {
			/* Fewer may do everything, until the next start; the users are served. */
			wr_log(WR_LOG_ERROR, "admins: user '%s' is left out: %s", WR_Q(w),
			       wr_getent_why());
			continue;
		} else {
			wr_getent_end();
			wr_err_set(err, WR_E_INVALID, "admins: there is no user '%s'", WR_Q(w));
			return wr_err_hint(err, "see [node] admins in '%s'", c->node->config_path);
		}
		c->admins = wr_reallocarray(c->admins, c->admin_count + 1, sizeof(*c->admins));
		c->admins[c->admin_count++] = uid;
	}
	wr_getent_end();
	return 0;
}

bool
wr_is_admin(const struct wr_control *c, uid_t uid)
{
	if (uid == 0 || uid == c->self)
		return true;
	for (size_t i = 0; i < c->admin_count; i++)
		if (c->admins[i] == uid)
			return true;
	return false;
}

/* What his uid alone says. */
static void
who_by_uid(struct wr_control *c, uid_t uid, struct wr_who *out)
{
	struct wr_proj_row row = {0};

	wr_who_init(out, uid);
	if (wr_is_admin(c, uid)) {
		wr_who_grant(out, WR_SCOPE_ADMIN, NULL);
	} else if (wr_store_proj_by_uid(c->store, uid, &row, NULL) == 0) {
		if (row.exclusive) {
			wr_who_grant(out, WR_SCOPE_PROJECT, &row.id);
			out->by_uid = row.id;
		}
		wr_proj_row_fini(&row);
	}
}

/* Tokens cannot be guessed; but who tries costs us a look each and fills the list of events. */
int
wr_wrong_secret(struct wr_control *c, const struct wr_req *q)
{
	if (q->who.nobody &&
	    wr_wrongs_add(&c->net.wrong, &q->from, wr_clock_mono_ns(), WR_WRONG_MAX)) {
		WR_SCOPED(wr_freep)
		char *why = wr_asprintf("%d wrong tokens within a minute: no more are looked at",
					WR_WRONG_MAX);

		wr_event(c, q->who.by, NULL, "token.wrong", why, NULL);
	}
	return -1;
}

int
wr_wrong_held(struct wr_control *c, const struct wr_req *q, struct wr_err *err)
{
	if (!q->who.nobody ||
	    !wr_wrongs_too_many(&c->net.wrong, &q->from, wr_clock_mono_ns(), WR_WRONG_MAX))
		return 0;
	wr_err_set(err, WR_E_BUSY, "too many wrong tokens came from your address");
	return wr_err_hint(err, "wait for a minute, and look at the token");
}

int
wr_who_of(struct wr_control *c, struct wr_req *q, const char *token, struct wr_err *err)
{
	enum wr_scope scope;
	struct wr_uuid project;
	char shown[16];

	if (wr_front_is_nobody(q->front))
		wr_who_init_nobody(&q->who, wr_from_text(&q->from).s);
	else
		who_by_uid(c, wr_front_uid(q->front), &q->who);
	if (!*token)
		return 0;
	if (wr_wrong_held(c, q, err) < 0)
		return -1;
	if (wr_store_token_check(c->store, token, wr_clock_wall().s, &scope, &project, shown, err) <
	    0)
		return err->code == WR_E_DENIED ? wr_wrong_secret(c, q) : -1;
	wr_who_grant(&q->who, scope, project.s[0] ? &project : NULL);
	snprintf(q->who.by, sizeof(q->who.by), "token %s", shown);
	return 0;
}

int
wr_refuse(struct wr_control *c, const struct wr_who *who, const struct wr_api_call *api,
	  const char *ref, struct wr_err *err)
{
	unsigned hidden;
	char by[64];

	if (wr_tally_pass(&c->refusals, wr_clock_mono_ns(), WR_REFUSALS_MAX, &hidden)) {
		json_t *detail = json_object();
		WR_SCOPED(wr_freep) char *why = wr_asprintf("%s %s", api->method, api->route);

		wr_json_str(detail, "call", why);
		wr_json_str(detail, "ref", ref);
		if (who->nobody)
			snprintf(by, sizeof(by), "%s", who->by);
		else
			snprintf(by, sizeof(by), "uid %u", (unsigned)who->uid);
		wr_event(c, by, NULL, "refused", why, detail);
	}
	if (hidden) {
		WR_SCOPED(wr_freep) char *why = wr_asprintf("%u more refusals", hidden);

		wr_event(c, "control", NULL, "refused", why, NULL);
	}
	wr_err_set(err, WR_E_DENIED, "%s has no right to this: %s", who->by, api->summary);
	if (who->nobody && !who->rights && !who->own_count)
		return wr_err_hint(err, "it takes a token: 'warren token create' makes one");
	return wr_err_hint(err, "%s",
			   api->scope == WR_SCOPE_PROJECT
			       ? "that is for the project's own user and for administrators"
			       : "that is for administrators");
}

void
wr_refusals_flush(struct wr_control *c)
{
	unsigned hidden = wr_tally_flush(&c->refusals, wr_clock_mono_ns());

	if (hidden) {
		WR_SCOPED(wr_freep) char *why = wr_asprintf("%u more refusals", hidden);

		wr_event(c, "control", NULL, "refused", why, NULL);
	}
}
