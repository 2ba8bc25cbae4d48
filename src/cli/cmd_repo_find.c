/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo find: paths by name, in all snapshots. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/view.h"
#include "engine/snap/find.h"

static int
print_json(const char *pattern, const struct wr_find_result *r, struct wr_err *err)
{
	json_t *head = wr_json_begin("warren.find/1"), *tail;

	wr_json_path(head, "pattern", pattern, strlen(pattern));
	wr_json_stream_begin(head, "found");
	for (size_t i = 0; i < r->count; i++) {
		const struct wr_found *f = &r->found[i];
		json_t *o = json_object();

		wr_json_path(o, "path", f->path, f->path_len);
		wr_json_str(o, "type", wr_kind_name(f->kind));
		wr_json_u64(o, "versions", f->versions);
		if (f->has_size)
			wr_json_u64(o, "size", f->size);
		wr_json_snap(wr_json_object(o, "first"), f->first);
		wr_json_snap(wr_json_object(o, "last"), f->last);
		if (wr_json_stream_item(o, err) < 0)
			return -1;
	}
	tail = json_object();
	wr_json_u64(tail, "snapshots_searched", r->snapshots);
	return wr_json_stream_end(tail, err);
}

static void
print_text(const struct wr_find_result *r)
{
	static const char *const heads[] = {"FIRST", "LAST", "VERSIONS", "SIZE", "PATH"};
	struct wr_table t;

	wr_table_init(&t, "llrrl", wr_out_tty() && r->count ? heads : NULL);
	for (size_t i = 0; i < r->count; i++) {
		const struct wr_found *f = &r->found[i];
		struct wr_snap_name first = wr_snap_name(f->first), last = wr_snap_name(f->last);
		WR_SCOPED(wr_buf_fini) struct wr_buf path = WR_BUF_INIT;

		wr_table_add_name(&t, first.s, strlen(first.s));
		wr_table_add_name(&t, last.s, strlen(last.s));
		wr_table_add(&t, wr_fmt_count(f->versions).s);
		wr_table_add(&t, f->has_size ? wr_fmt_bytes(f->size).s : "-");
		wr_name_add(&path, f->path, f->path_len);
		if (f->kind == WR_KIND_DIR)
			wr_buf_add8(&path, '/');
		wr_table_add(&t, wr_buf_str(&path));
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

int
wr_cmd_repo_find(const struct wr_args *a, struct wr_err *err)
{
	struct wr_find_opts o = {.branch = wr_arg_str(a, "branch"),
				 .ignore_case = wr_arg_flag(a, "ignore-case")};
	WR_SCOPED(wr_view_close) struct wr_view v = {0};
	WR_SCOPED(wr_find_result_fini) struct wr_find_result r = {0};

	if (wr_view_open(a, &v, err) < 0 || wr_find(v.rd, a->pos[0], &o, &r, err) < 0)
		return -1;
	if (wr_out_json())
		return print_json(a->pos[0], &r, err);
	print_text(&r);
	if (!r.count)
		wr_remark("nothing in %s snapshots matches", wr_fmt_count(r.snapshots).s);
	return 0;
}
