/* SPDX-License-Identifier: Apache-2.0 */
/* warren delete, undelete, purge, trash: what ends projects takes full ids and names only. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/out.h"
#include "cli/project.h"
#include "sys/clock.h"

/* One call about the project that is named in full. */
static int
exact(const struct wr_args *a, enum wr_api_call_id call, const char *flag, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};

	if (wr_target_exact(a->pos[0], err) < 0 || wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, call, a->pos[0]);
	if (flag)
		wr_ask_flag(&r, flag, wr_arg_flag(a, flag));
	return wr_operate(&c, a, &r, err);
}

int
wr_cmd_delete(const struct wr_args *a, struct wr_err *err)
{
	return exact(a, WR_API_DELETE, "force", err);
}

int
wr_cmd_undelete(const struct wr_args *a, struct wr_err *err)
{
	return exact(a, WR_API_UNDELETE, NULL, err);
}

int
wr_cmd_purge(const struct wr_args *a, struct wr_err *err)
{
	return exact(a, WR_API_PURGE, "now", err);
}

static int
fetch(struct wr_client *c, json_t **out, struct wr_err *err)
{
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};

	wr_ask_init(&r, WR_API_TRASH, NULL);
	return wr_client_ask(c, &r, NULL, out, err);
}

int
wr_cmd_trash_list(const struct wr_args *a, struct wr_err *err)
{
	static const char *const heads[] = {"NAME", "ID", "DELETED", "UNTIL", "SIZE"};
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *list, *p;
	struct wr_table t;
	size_t i;

	if (wr_client_init(&c, a, err) < 0 || fetch(&c, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	list = wr_json_get_arr(o, "projects");
	wr_table_init(&t, "llllr", wr_out_tty() && json_array_size(list) ? heads : NULL);
	json_array_foreach(list, i, p)
	{
		const char *name = wr_json_get_str(p, "name", "?");

		wr_table_add_name(&t, name, strlen(name));
		wr_table_add(&t, wr_json_get_str(p, "id", "?"));
		wr_table_add(&t, wr_json_get_str(p, "deleted", "-"));
		wr_table_add(&t, wr_json_get_str(p, "trash_until", "-"));
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(p, "bytes", 0)).s);
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	if (!json_array_size(list))
		wr_remark("the trash is empty");
	return 0;
}

/* Purge one and wait for the end of it. */
static int
purge_one(struct wr_client *c, const char *id, bool now, json_t **out, struct wr_err *err)
{
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *op = NULL;
	WR_SCOPED(wr_freep) char *op_id = NULL;
	const char *state;

	wr_ask_init(&r, WR_API_PURGE, id);
	wr_ask_flag(&r, "now", now);
	if (wr_client_ask(c, &r, NULL, &op, err) < 0)
		return -1;
	op_id = wr_strdup(wr_json_get_str(op, "id", ""));
	for (;;) {
		state = wr_json_get_str(op, "state", "");
		if (strcmp(state, "queued") != 0 && strcmp(state, "running") != 0)
			break;
		wr_ask_fini(&r);
		wr_ask_init(&r, WR_API_OP_SHOW, op_id);
		wr_ask_u64(&r, "wait", 30);
		wr_json_freep(&op);
		op = NULL;
		if (wr_client_ask(c, &r, NULL, &op, err) < 0)
			return -1;
	}
	if (wr_json_get_obj(op, "error")) {
		wr_json_get_err(wr_json_get_obj(op, "error"), err);
		return -1;
	}
	*out = json_incref(wr_json_get_obj(op, "receipt") ? wr_json_get_obj(op, "receipt") : op);
	return 0;
}

/* Has its time in the trash run out? */
static bool
over(const json_t *p)
{
	int64_t until = wr_json_get_time(p, "trash_until", INT64_MAX);

	return until <= wr_clock_wall().s;
}

int
wr_cmd_trash_purge(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL, *done = wr_json_begin("warren.trash-purge/1");
	bool now = wr_arg_flag(a, "now"), dry = wr_arg_flag(a, "dry-run"), failed = false;
	json_t *purged = wr_json_array(done, "purged"), *receipt;
	uint64_t max = wr_arg_u64(a, "max", 10), left = 0, count = 0;
	const json_t *p;
	size_t i;

	if (wr_client_init(&c, a, err) < 0 || fetch(&c, &o, err) < 0)
		return -1;
	json_array_foreach(wr_json_get_arr(o, "projects"), i, p)
	{
		const char *name = wr_json_get_str(p, "name", "?");
		const char *id = wr_json_get_str(p, "id", "?");

		if (!now && !over(p))
			continue;
		if (count == max) {
			left++;
			continue;
		}
		count++;
		if (dry) {
			json_t *item = wr_json_item(purged);

			wr_json_str(item, "id", id);
			wr_json_str(item, "name", name);
		} else if (purge_one(&c, id, now, &receipt, err) == 0) {
			json_array_append_new(purged, receipt);
		} else {
			WR_SCOPED(wr_freep) char *text = wr_asprintf("'%s': %s", name, err->msg);

			wr_warn_text(text);
			failed = true;
			continue;
		}
		if (!wr_out_json()) {
			printf("%s ", dry ? "would remove" : "removed");
			wr_name_print(name, strlen(name));
			printf(" (%s)\n", id);
		}
	}
	if (left)
		wr_warn("%" PRIu64 " more stay, as --max says", left);
	if (!count)
		wr_remark("nothing in the trash is due");
	wr_json_bool(done, "dry_run", dry);
	wr_json_u64(done, "left", left);
	if (wr_out_json() && wr_json_print(wr_steal(&done), err) < 0)
		return -1;
	return failed || left ? WR_EXIT_WARNINGS : 0;
}
