/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo history: the versions of one path, newest first. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/view.h"
#include "engine/snap/history.h"

static int
text_version(void *ctx, const struct wr_version *v, struct wr_err *err)
{
	struct wr_table *t = ctx;
	struct wr_snap_name first = wr_snap_name(v->first), last = wr_snap_name(v->last);

	(void)err;
	wr_table_add_name(t, first.s, strlen(first.s));
	wr_table_add_name(t, last.s, strlen(last.s));
	wr_table_add(t, wr_fmt_count(v->snapshots).s);
	if (v->kind == WR_KIND_NONE) {
		wr_table_add(t, "-");
		wr_table_add(t, "-");
		wr_table_add(t, "-");
		wr_table_add(t, "removed");
		return 0;
	}
	wr_table_add(t, v->kind == WR_KIND_DIR ? "-" : wr_fmt_bytes(v->size).s);
	wr_table_add(t, v->has_meta ? wr_fmt_utc(v->mtime.s).s : "-");
	wr_table_add(t, wr_id_short(&v->id).s);
	wr_table_add(t, wr_type_name(v->mode));
	return 0;
}

static int
json_version(void *ctx, const struct wr_version *v, struct wr_err *err)
{
	json_t *o = json_object();

	(void)ctx;
	wr_json_bool(o, "removed", v->kind == WR_KIND_NONE);
	if (v->kind != WR_KIND_NONE) {
		wr_json_str(o, "type", wr_type_name(v->mode));
		wr_json_mode(o, v->mode);
		if (v->kind != WR_KIND_DIR)
			wr_json_u64(o, "size", v->size);
		if (v->has_meta)
			wr_json_time(o, "mtime", v->mtime.s);
		wr_json_id(o, "id", &v->id);
	}
	wr_json_snap(wr_json_object(o, "first"), v->first);
	wr_json_snap(wr_json_object(o, "last"), v->last);
	wr_json_u64(o, "snapshots", v->snapshots);
	return wr_json_stream_item(o, err);
}

int
wr_cmd_repo_history(const struct wr_args *a, struct wr_err *err)
{
	static const char *const heads[] = {"FIRST",    "LAST", "SNAPSHOTS", "SIZE",
					    "MODIFIED", "ID",   "TYPE"};
	const char *path = a->pos[0], *branch = wr_arg_str(a, "branch");
	size_t len = strlen(path);
	WR_SCOPED(wr_freep) char *chosen = NULL;
	WR_SCOPED(wr_view_close) struct wr_view v = {0};
	WR_SCOPED(wr_snaps_fini) struct wr_snaps snaps = {0};
	struct wr_table t;
	json_t *head;
	int rc;

	if (wr_view_open(a, &v, err) < 0)
		return -1;
	if (!branch) {
		if (wr_default_branch(v.rd, &chosen, err) < 0)
			return -1;
		branch = chosen;
	}
	if (wr_snaps_list(v.rd, branch, &snaps, err) < 0)
		return -1;
	if (wr_out_json()) {
		head = wr_json_begin("warren.history/1");
		wr_json_str(head, "branch", branch);
		wr_json_path(head, "path", path, len);
		wr_json_stream_begin(head, "versions");
		rc = wr_versions(v.rd, &snaps, path, len, json_version, NULL, err);
		return rc < 0 ? -1 : wr_json_stream_end(NULL, err);
	}
	wr_table_init(&t, "llrrlll", wr_out_tty() ? heads : NULL);
	rc = wr_versions(v.rd, &snaps, path, len, text_version, &t, err);
	if (rc == 0)
		wr_table_print(&t);
	wr_table_fini(&t);
	return rc;
}
