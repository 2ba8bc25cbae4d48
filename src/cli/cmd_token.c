/* SPDX-License-Identifier: Apache-2.0 */
/* warren token: tokens of the API; warren openapi: what they open. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/out.h"
#include "model/openapi.h"

/* ---- token ---- */

/* read, operate, admin or project:ID */
static int
ask_scope(struct wr_ask *r, const char *scope, struct wr_err *err)
{
	static const char of[] = "project:";

	if (!strncmp(scope, of, strlen(of)) && scope[strlen(of)]) {
		wr_ask_str(r, "scope", "project");
		wr_ask_str(r, "project", scope + strlen(of));
		return 0;
	}
	if (!strcmp(scope, "read") || !strcmp(scope, "operate") || !strcmp(scope, "admin")) {
		wr_ask_str(r, "scope", scope);
		return 0;
	}
	wr_err_set(err, WR_E_USAGE, "--scope: '%s' is no scope", WR_Q(scope));
	return wr_err_hint(err, "it is read, operate, admin or project:ID");
}

/* "read", "project zoe" */
static char *
scope_text(const json_t *t)
{
	const char *scope = wr_json_get_str(t, "scope", "?"),
		   *name = wr_json_get_str(t, "name", wr_json_get_str(t, "project", NULL));

	return name ? wr_asprintf("%s %s", scope, name) : wr_strdup(scope);
}

int
wr_cmd_token_create(const struct wr_args *a, struct wr_err *err)
{
	const char *scope = wr_arg_str(a, "scope"), *token;
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_freep) char *text = NULL;
	uint64_t life = wr_arg_u64(a, "expires", 0);

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_TOKEN_CREATE, NULL);
	if (ask_scope(&r, scope ? scope : "read", err) < 0)
		return -1;
	if (life)
		wr_ask_u64(&r, "expires", life);
	wr_ask_str(&r, "purpose", wr_arg_str(a, "purpose"));
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	/* Standard output is the token alone: it goes into a file or a variable. */
	token = wr_json_get_str(o, "token", "");
	wr_name_print(token, strlen(token));
	putchar('\n');
	text = scope_text(o);
	wr_remark("token %s, scope %s, expires %s; it is shown this once",
		  wr_json_get_str(o, "id", "?"), text, wr_json_get_str(o, "expires", "never"));
	return 0;
}

int
wr_cmd_token_list(const struct wr_args *a, struct wr_err *err)
{
	static const char *const heads[] = {"ID", "SCOPE", "CREATED", "EXPIRES", "USED", "PURPOSE"};
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *list, *t;
	struct wr_table table;
	size_t i;

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_TOKENS, NULL);
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	list = wr_json_get_arr(o, "tokens");
	wr_table_init(&table, "llllll", wr_out_tty() && json_array_size(list) ? heads : NULL);
	json_array_foreach(list, i, t)
	{
		WR_SCOPED(wr_freep) char *scope = scope_text(t);
		const char *purpose = wr_json_get_str(t, "purpose", "");

		wr_table_add(&table, wr_json_get_str(t, "id", "?"));
		wr_table_add_name(&table, scope, strlen(scope));
		wr_table_add(&table, wr_json_get_str(t, "created", "-"));
		wr_table_add(&table, wr_json_get_bool(t, "expired", false)
					 ? "expired"
					 : wr_json_get_str(t, "expires", "never"));
		wr_table_add(&table, wr_json_get_str(t, "used", "never"));
		if (!wr_json_get_bool(t, "asked", true))
			wr_table_addf(&table, "(of its processes)");
		else
			wr_table_add_name(&table, purpose, strlen(purpose));
	}
	wr_table_print(&table);
	wr_table_fini(&table);
	if (!json_array_size(list))
		wr_remark("there are no tokens");
	return 0;
}

int
wr_cmd_token_revoke(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_freep) char *text = NULL;

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_TOKEN_REVOKE, NULL);
	wr_ask_str(&r, "token", a->pos[0]);
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	if (wr_out_quiet())
		return 0;
	text = scope_text(o);
	printf("token %.8s, scope ", wr_json_get_str(o, "id", "?"));
	wr_name_print(text, strlen(text));
	puts(", ended");
	return 0;
}

/* ---- openapi ---- */

int
wr_cmd_openapi(const struct wr_args *a WR_UNUSED, struct wr_err *err)
{
	return wr_json_print(wr_openapi(), err);
}
