/* SPDX-License-Identifier: Apache-2.0 */
/* warren replicate, move, save-all, explain, locate, fleet: one project on several nodes. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/copies.h"
#include "cli/follow.h"
#include "cli/out.h"
#include "cli/project.h"
#include "sys/clock.h"

static void
print_name(const char *s)
{
	wr_name_print(s, strlen(s));
}

static void
add_name(struct wr_table *t, const char *s)
{
	wr_table_add_name(t, s, strlen(s));
}

void
wr_copies_nodes(struct wr_ask *r, const struct wr_args *a, const char *name)
{
	const char *const *list;
	size_t n = wr_arg_list(a, name, &list), count = 0, cap = 0;
	char **node = NULL;

	for (size_t i = 0; i < n; i++)
		for (const char *s = list[i]; *s;) {
			size_t len = strcspn(s, ",");

			wr_grow(&node, &cap, count + 1, sizeof(*node));
			if (len)
				node[count++] = wr_asprintf("%.*s", (int)len, s);
			s += len + (s[len] == ',');
		}
	wr_ask_list(r, name, (const char *const *)node, count);
	for (size_t i = 0; i < count; i++)
		free(node[i]);
	free(node);
}

/* "12 s ago" */
static struct wr_short
ago(int64_t when)
{
	int64_t age = wr_clock_wall().s - when;
	struct wr_short s;

	if (!when)
		return (struct wr_short){"-"};
	s = wr_fmt_duration((uint64_t)WR_MAX(age, (int64_t)0));
	snprintf(s.s + strlen(s.s), sizeof(s.s) - strlen(s.s), " ago");
	return s;
}

void
wr_copies_safe_text(const json_t *o, struct wr_buf *out)
{
	const json_t *s = wr_json_get_obj(o, "safe"), *w = wr_json_get_obj(o, "writer");

	if (s)
		wr_buf_addf(out, "%" PRIu64 "/%" PRIu64 " %s", wr_json_get_u64(s, "in", 0),
			    wr_json_get_u64(s, "of", 0), ago(wr_json_get_time(s, "since", 0)).s);
	else if (w)
		wr_buf_addf(out, "on %s", wr_json_get_str(w, "name", "?"));
	else
		wr_buf_adds(out, "-");
}

/* ---- operations ---- */

int
wr_cmd_replicate(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};

	if (wr_about_begin(&b, a, WR_API_REPLICATE, err) < 0)
		return -1;
	wr_copies_nodes(&b.req, a, "targets");
	return wr_operate(&b.client, a, &b.req, err);
}

int
wr_cmd_move(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	const char *to = wr_arg_str(a, "to");

	if (!to)
		return wr_err_set(err, WR_E_USAGE, "option '--to' is missing");
	if (wr_about_begin(&b, a, WR_API_MOVE, err) < 0)
		return -1;
	wr_ask_str(&b.req, "to", to);
	wr_ask_flag(&b.req, "accept_loss", wr_arg_flag(a, "accept-loss"));
	return wr_operate(&b.client, a, &b.req, err);
}

static int
fetch(const struct wr_args *a, enum wr_api_call_id call, const char *key, const char *value,
      uint64_t limit, json_t **out, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, call, NULL);
	if (value)
		wr_ask_str(&r, key, value);
	if (limit)
		wr_ask_u64(&r, "limit", limit);
	return wr_client_ask(&c, &r, NULL, out, err);
}

static void
save_all_text(const json_t *o)
{
	const json_t *list = wr_json_get_arr(o, "saves"), *s;
	size_t i;

	json_array_foreach(list, i, s)
	{
		const json_t *e = wr_json_get_obj(s, "error");

		if (e) {
			wr_warn("%s: %s", WR_Q(wr_json_get_str(s, "name", "?")),
				WR_Q(wr_json_get_str(e, "message", "?")));
			continue;
		}
		print_name(wr_json_get_str(s, "name", "?"));
		printf("  %s, in %" PRIu64 " %s%s\n",
		       wr_json_get_bool(s, "made", false) ? "saved" : "nothing changed",
		       wr_json_get_u64(s, "safe_in", 0),
		       wr_json_get_u64(s, "safe_in", 0) == 1 ? "copy" : "copies",
		       wr_json_get_bool(s, "safe", false) ? "" : ", not safe yet");
	}
	printf("%s projects: %s saved, %s behind, %s failed",
	       wr_fmt_count(wr_json_get_u64(o, "projects", 0)).s,
	       wr_fmt_count(wr_json_get_u64(o, "made", 0)).s,
	       wr_fmt_count(wr_json_get_u64(o, "behind", 0)).s,
	       wr_fmt_count(wr_json_get_u64(o, "failed", 0)).s);
	if (wr_json_get_u64(o, "late", 0))
		printf(", %s not done in time", wr_fmt_count(wr_json_get_u64(o, "late", 0)).s);
	printf("\n");
}

int
wr_cmd_save_all(const struct wr_args *a, struct wr_err *err)
{
	static const char *const number[] = {"rf", "limit", "within"};
	const bool down = wr_arg_flag(a, "shutdown");
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	bool bad;

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, down ? WR_API_SHUTDOWN : WR_API_SAVE_ALL, NULL);
	for (size_t i = 0; i < WR_ARRAY_LEN(number); i++) {
		bool of_shutdown = !strcmp(number[i], "within");
		uint64_t n = wr_arg_u64(a, number[i], 0);

		if (n && of_shutdown != down)
			return wr_err_set(err, WR_E_USAGE, "'--%s' is for %s'--shutdown'",
					  number[i], of_shutdown ? "" : "saves without ");
		if (n)
			wr_ask_u64(&r, number[i], n);
	}
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	bad = wr_json_get_u64(o, "failed", 0) || wr_json_get_u64(o, "behind", 0) ||
	      wr_json_get_u64(o, "late", 0);
	if (!wr_out_json() && !wr_out_quiet())
		save_all_text(o);
	else if (wr_out_json() && wr_json_print(wr_steal(&o), err) < 0)
		return -1;
	return bad ? WR_EXIT_WARNINGS : 0;
}

/* ---- explain ---- */

static void
explain_lease(const json_t *o)
{
	const json_t *l = wr_json_get_obj(o, "lease");

	if (wr_json_get_bool(l, "frozen", false))
		printf("frozen: %s\n", WR_Q(wr_json_get_str(l, "why", "?")));
}

static void
explain_text(const json_t *o)
{
	const json_t *list = wr_json_get_arr(o, "replicas"), *m, *w = wr_json_get_obj(o, "writer");
	struct wr_table t;
	size_t i;

	print_name(wr_json_get_str(o, "name", "?"));
	if (!w) {
		printf(": no record of it is known on this node\n");
		return;
	}
	printf(", epoch %" PRIu64 ": its files are kept by ", wr_json_get_u64(o, "epoch", 0));
	print_name(wr_json_get_str(w, "name", "?"));
	printf("\n");
	explain_lease(o);
	wr_table_init(&t, "llllll", NULL);
	json_array_foreach(list, i, m)
	{
		const char *error = wr_json_get_str(m, "error", NULL);
		int64_t next = wr_json_get_time(m, "next_try", 0);

		wr_table_add(&t, "");
		add_name(&t, wr_json_get_str(m, "name", "?"));
		add_name(&t, wr_json_get_str(m, "dc", "?"));
		wr_table_addf(&t, "%s%s", wr_json_get_str(m, "role", "?"),
			      wr_json_get_bool(m, "writer", false) ? ", writer" : "");
		wr_table_addf(&t, "%s %s", wr_json_get_str(m, "version", "-"),
			      ago(wr_json_get_time(m, "since", 0)).s);
		if (error) {
			WR_SCOPED(wr_freep)
			char *text = wr_asprintf("%s; next try %s", error, wr_when_text(next).s);

			add_name(&t, text);
		} else {
			wr_table_add(&t, "");
		}
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	printf("where a new project of that node would go, and why:\n");
	list = wr_json_get_arr(o, "placement");
	wr_table_init(&t, "llll", NULL);
	json_array_foreach(list, i, m)
	{
		wr_table_add(&t, "");
		add_name(&t, wr_json_get_str(m, "name", "?"));
		add_name(&t, wr_json_get_str(m, "dc", "?"));
		wr_table_add(&t, wr_json_get_str(m, "text", "?"));
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

int
wr_cmd_explain(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (wr_about_begin(&b, a, WR_API_EXPLAIN, err) < 0 ||
	    wr_client_ask(&b.client, &b.req, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	explain_text(o);
	return 0;
}

/* ---- locate ---- */

static void
locate_text(const json_t *o)
{
	const json_t *list, *p, *places, *at;
	struct wr_table t;
	size_t i, k;

	list = wr_json_get_arr(o, "nodes");
	json_array_foreach(list, i, p) if (!wr_json_get_bool(p, "answered", false))
	    wr_warn("node '%s' does not answer: %s", WR_Q(wr_json_get_str(p, "name", "?")),
		    WR_Q(wr_json_get_str(p, "error", "?")));
	list = wr_json_get_arr(o, "projects");
	wr_table_init(&t, "llllr", NULL);
	json_array_foreach(list, i, p)
	{
		places = wr_json_get_arr(p, "places");
		json_array_foreach(places, k, at)
		{
			const char *what = wr_json_get_str(at, "what", "?");

			add_name(&t, wr_json_get_str(p, "name", wr_json_get_str(p, "id", "?")));
			add_name(&t, wr_json_get_str(at, "name", "?"));
			wr_table_addf(&t, "%s%s%s",
				      wr_color(strcmp(what, "current") ? WR_YELLOW : WR_PLAIN),
				      what, wr_color(WR_PLAIN));
			wr_table_addf(&t, "%s %s", wr_json_get_str(at, "version", "-"),
				      ago(wr_json_get_time(at, "since", 0)).s);
			wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(at, "repo_bytes", 0)).s);
		}
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

int
wr_cmd_locate(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	bool bad;

	if (fetch(a, WR_API_LOCATE, "project", a->pos_count ? a->pos[0] : NULL, 0, &o, err) < 0)
		return -1;
	bad = wr_json_get_u64(o, "problems", 0) > 0;
	if (!wr_out_json())
		locate_text(o);
	else if (wr_json_print(wr_steal(&o), err) < 0)
		return -1;
	return bad ? WR_EXIT_WARNINGS : 0;
}

/* ---- fleet ---- */

static void
fleet_text(const json_t *o)
{
	static const char *const heads[] = {"NAME", "NODE", "STATE", "SAFE", "DCS", "BEHIND"};
	const json_t *list = wr_json_get_arr(o, "projects"), *p, *behind, *b;
	const json_t *sum = wr_json_get_obj(o, "summary");
	struct wr_table t;
	size_t i, k;

	wr_table_init(&t, "llllrl", wr_out_tty() && json_array_size(list) ? heads : NULL);
	json_array_foreach(list, i, p)
	{
		WR_SCOPED(wr_buf_fini) struct wr_buf safe = WR_BUF_INIT, names = WR_BUF_INIT;

		wr_copies_safe_text(p, &safe);
		behind = wr_json_get_arr(p, "behind");
		json_array_foreach(behind, k, b)
		    wr_buf_addf(&names, "%s%s", k ? "," : "", json_string_value(b));
		add_name(&t, wr_json_get_str(p, "name", "?"));
		add_name(&t, wr_json_get_str(wr_json_get_obj(p, "writer"), "name", "?"));
		wr_table_add(&t, wr_json_get_str(p, "state", "-"));
		wr_table_add(&t, wr_buf_str(&safe));
		wr_table_addf(&t, "%" PRIu64,
			      wr_json_get_u64(wr_json_get_obj(p, "safe"), "dcs", 0));
		add_name(&t, names.len ? wr_buf_str(&names) : "-");
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	printf("%s projects: %s safe, %s with copies that are behind",
	       wr_fmt_count(wr_json_get_u64(sum, "projects", 0)).s,
	       wr_fmt_count(wr_json_get_u64(sum, "safe", 0)).s,
	       wr_fmt_count(wr_json_get_u64(sum, "behind", 0)).s);
	if (wr_json_get_time(sum, "oldest", 0))
		printf("; of what runs, the oldest is safe as it was %s",
		       ago(wr_json_get_time(sum, "oldest", 0)).s);
	printf("\n");
	if (!wr_json_get_bool(o, "whole", true))
		wr_remark("only what this node holds; a hub shows all");
	if (wr_json_get_bool(o, "recovering", false)) {
		WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT;

		json_array_foreach(wr_json_get_arr(o, "missing"), i, p)
		    wr_buf_addf(&names, "%s%s", i ? ", " : "", json_string_value(p));
		wr_remark("recovering: the hub does not know yet what lies on %s",
			  WR_Q(wr_buf_str(&names)));
	}
}

int
wr_cmd_fleet(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	bool bad;

	if (fetch(a, WR_API_FLEET, NULL, NULL, 0, &o, err) < 0)
		return -1;
	bad = wr_json_get_u64(wr_json_get_obj(o, "summary"), "behind", 0) > 0;
	if (!wr_out_json())
		fleet_text(o);
	else if (wr_json_print(wr_steal(&o), err) < 0)
		return -1;
	return bad ? WR_EXIT_WARNINGS : 0;
}
