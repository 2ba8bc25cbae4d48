/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/control/control_int.h"

#include <pwd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "sys/clock.h"

void
wr_event(struct wr_control *c, const char *who, const struct wr_uuid *project, const char *what,
	 const char *why, json_t *detail)
{
	struct wr_err err = WR_ERR_INIT;

	wr_log(WR_LOG_NOTICE, "%s: %s%s%s by=\"%s\"", what, why, project ? " project=" : "",
	       project ? project->s : "", who);
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
		const struct passwd *pw;
		uid_t uid;

		if (wr_parse_u64(w, &n, NULL) == 0 && n < UINT32_MAX) {
			uid = (uid_t)n;
		} else if ((pw = getpwnam(w))) { /* before any other thread or request */
			uid = pw->pw_uid;
		} else {
			wr_err_set(err, WR_E_INVALID, "admins: there is no user '%s'", WR_Q(w));
			return wr_err_hint(err, "see [node] admins in '%s'", c->node->config_path);
		}
		c->admins = wr_reallocarray(c->admins, c->admin_count + 1, sizeof(*c->admins));
		c->admins[c->admin_count++] = uid;
	}
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

int
wr_who_of(struct wr_control *c, uid_t uid, const char *token, struct wr_who *out,
	  struct wr_err *err)
{
	struct wr_proj_row row = {0};

	wr_who_init(out, uid);
	if (wr_is_admin(c, uid))
		wr_who_grant(out, WR_SCOPE_ADMIN, NULL);
	else if (wr_store_proj_by_uid(c->store, uid, &row, NULL) == 0) {
		if (row.exclusive)
			wr_who_grant(out, WR_SCOPE_PROJECT, &row.id);
		wr_proj_row_fini(&row);
	}
	if (*token) {
		enum wr_scope scope;
		struct wr_uuid project;
		char shown[16];

		if (wr_store_token_check(c->store, token, wr_clock_wall().s, &scope, &project,
					 shown, err) < 0)
			return -1;
		wr_who_grant(out, scope, project.s[0] ? &project : NULL);
		snprintf(out->by, sizeof(out->by), "token %s", shown);
	}
	return 0;
}

int
wr_refuse(struct wr_control *c, const struct wr_who *who, const struct wr_api_call *api,
	  const char *ref, struct wr_err *err)
{
	unsigned hidden;
	char by[32];

	if (wr_rate_pass(&c->refusals, wr_clock_mono_ns(), WR_REFUSALS_MAX, &hidden)) {
		json_t *detail = json_object();
		WR_SCOPED(wr_freep) char *why = wr_asprintf("%s %s", api->method, api->route);

		wr_json_str(detail, "call", why);
		wr_json_str(detail, "ref", ref);
		snprintf(by, sizeof(by), "uid %u", (unsigned)who->uid);
		wr_event(c, by, NULL, "refused", why, detail);
	}
	if (hidden) {
		WR_SCOPED(wr_freep) char *why = wr_asprintf("%u more refusals", hidden);

		wr_event(c, "control", NULL, "refused", why, NULL);
	}
	wr_err_set(err, WR_E_DENIED, "%s has no right to this: %s", who->by, api->summary);
	return wr_err_hint(err, "%s",
			   api->scope == WR_SCOPE_PROJECT
			       ? "that is for the project's own user and for administrators"
			       : "that is for administrators");
}

void
wr_refusals_flush(struct wr_control *c)
{
	unsigned hidden = wr_rate_flush(&c->refusals, wr_clock_mono_ns());

	if (hidden) {
		WR_SCOPED(wr_freep) char *why = wr_asprintf("%u more refusals", hidden);

		wr_event(c, "control", NULL, "refused", why, NULL);
	}
}
