/* SPDX-License-Identifier: Apache-2.0 */
/* warren op, events: what was asked for, and what happened. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/out.h"
#include "cli/project.h"

static void
add_name(struct wr_table *t, const json_t *o, const char *key)
{
	const char *s = wr_json_get_str(o, key, "-");

	wr_table_add_name(t, s, strlen(s));
}

/* --project, which may be "." for the one here. */
static int
add_project(struct wr_client *c, struct wr_ask *r, const struct wr_args *a, struct wr_err *err)
{
	const char *ref = wr_arg_str(a, "project");
	WR_SCOPED(wr_freep) char *id = NULL;

	if (ref && wr_target_resolve(c, ref, &id, NULL, err) < 0)
		return -1;
	wr_ask_str(r, "project", id);
	return 0;
}

static void
op_table(const json_t *list)
{
	static const char *const heads[] = {"ID", "KIND", "PROJECT", "STATE", "BEGAN", "BY", ""};
	const json_t *op;
	struct wr_table t;
	size_t i;

	wr_table_init(&t, "lllllll", wr_out_tty() && json_array_size(list) ? heads : NULL);
	json_array_foreach(list, i, op)
	{
		const json_t *e = wr_json_get_obj(op, "error");
		const char *state = wr_json_get_str(op, "state", "?");
		const char *note =
		    e ? wr_json_get_str(e, "message", "") : wr_json_get_str(op, "step", "");

		add_name(&t, op, "id");
		add_name(&t, op, "kind");
		add_name(&t,
			 wr_json_get_str(op, "name", NULL) ? op : wr_json_get_obj(op, "receipt"),
			 "name");
		wr_table_addf(&t, "%s%s%s",
			      wr_color(!strcmp(state, "failed")    ? WR_RED
				       : !strcmp(state, "running") ? WR_BLUE
								   : WR_PLAIN),
			      WR_Q(state), wr_color(WR_PLAIN));
		wr_table_add(&t, wr_when_text(wr_json_get_time(op, "started",
							       wr_json_get_time(op, "created", 0)))
				     .s);
		add_name(&t, op, "by");
		wr_table_add_name(&t, note, strcspn(note, "\n"));
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

int
wr_cmd_op_list(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_OPS, NULL);
	wr_ask_str(&r, "state", wr_arg_str(a, "state"));
	wr_ask_u64(&r, "limit", wr_arg_u64(a, "limit", 50));
	if (add_project(&c, &r, a, err) < 0 || wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	op_table(wr_json_get_arr(o, "operations"));
	return 0;
}

/* One call about the operation of the arguments. */
static int
about(const struct wr_args *a, enum wr_api_call_id call, json_t **out, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, call, a->pos[0]);
	return wr_client_ask(&c, &r, NULL, out, err);
}

static void
show_line(const char *what, const json_t *op, const char *key)
{
	const char *s = wr_json_get_str(op, key, NULL);

	if (!s)
		return;
	printf("  %-9s ", what);
	wr_name_print(s, strlen(s));
	printf("\n");
}

int
wr_cmd_op_show(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *op = NULL;

	if (about(a, WR_API_OP_SHOW, &op, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&op), err);
	wr_report_op(op);
	show_line("asked by", op, "by");
	show_line("asked at", op, "created");
	show_line("started", op, "started");
	show_line("finished", op, "finished");
	if (wr_json_get_obj(op, "error"))
		show_line("hint", wr_json_get_obj(op, "error"), "hint");
	if (wr_json_get_obj(op, "receipt"))
		(void)wr_report(wr_json_get_obj(op, "receipt"));
	return 0;
}

int
wr_cmd_op_wait(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	return wr_follow(&c, a, a->pos[0], wr_arg_u64(a, "timeout", 0), err);
}

int
wr_cmd_op_cancel(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *op = NULL;

	if (about(a, WR_API_OP_CANCEL, &op, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&op), err);
	wr_report_op(op);
	return 0;
}

int
wr_cmd_op_log(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	const char *s;

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_OP_LOG, a->pos[0]);
	if (wr_client_read(&c, &r, &text, err) < 0)
		return -1;
	s = wr_buf_str(&text);
	if (wr_out_json()) {
		json_t *o = wr_json_begin("warren.op-log/1");

		wr_json_str(o, "op", a->pos[0]);
		wr_json_path(o, "text", s, text.len);
		return wr_json_print(o, err);
	}
	/* Line by line: the escaping for a terminal is not to take the line ends. */
	for (size_t at = 0; at < text.len;) {
		const char *end = memchr(s + at, '\n', text.len - at);
		size_t n = end ? (size_t)(end - (s + at)) : text.len - at;

		wr_name_print(s + at, n);
		putchar('\n');
		at += n + 1;
	}
	return 0;
}

/* ---- events ---- */

int
wr_cmd_events(const struct wr_args *a, struct wr_err *err)
{
	static const char *const heads[] = {"SEQ", "AT", "WHO", "WHAT", "PROJECT", "WHY"};
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *list, *e;
	struct wr_table t;
	size_t i;

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_EVENTS, NULL);
	if (wr_arg_str(a, "since"))
		wr_ask_u64(&r, "since", wr_arg_u64(a, "since", 0));
	wr_ask_u64(&r, "limit", wr_arg_u64(a, "limit", 50));
	if (add_project(&c, &r, a, err) < 0 || wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	list = wr_json_get_arr(o, "events");
	wr_table_init(&t, "rlllll", wr_out_tty() && json_array_size(list) ? heads : NULL);
	json_array_foreach(list, i, e)
	{
		wr_table_addf(&t, "%" PRIu64, wr_json_get_u64(e, "seq", 0));
		add_name(&t, e, "at");
		add_name(&t, e, "who");
		add_name(&t, e, "what");
		add_name(&t, e, wr_json_get_str(e, "name", NULL) ? "name" : "project");
		add_name(&t, e, "why");
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	return 0;
}
