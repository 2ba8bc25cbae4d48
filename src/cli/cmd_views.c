/* SPDX-License-Identifier: Apache-2.0 */
/* warren snapshots, ls, cat, diff, find, history: what `warren repo` shows, of a project.  The
 * daemon runs that in a sandbox; its output comes through as it is. */
#include "cli/cli.h"
#include "cli/out.h"
#include "cli/project.h"

static int
begin(struct wr_about *l, const struct wr_args *a, enum wr_api_call_id call, struct wr_err *err)
{
	if (wr_about_begin(l, a, call, err) < 0)
		return -1;
	wr_ask_str(&l->req, "format", wr_out_json() ? "json" : "text");
	wr_ask_flag(&l->req, "tty", wr_out_tty());
	return 0;
}

/* A spec as typed: a full path behind its colon loses the home. */
static char *
spec_of(const struct wr_about *l, const char *typed)
{
	WR_SCOPED(wr_freep) char *snap = NULL, *path = NULL;

	wr_snapshot_cut(typed, &snap, &path);
	if (!path)
		return wr_strdup(typed);
	return wr_asprintf("%s:%s", *snap ? snap : "latest", wr_target_path(&l->target, path));
}

int
wr_cmd_snapshots(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about l = {0};

	if (begin(&l, a, WR_API_SNAPSHOTS, err) < 0)
		return -1;
	wr_ask_str(&l.req, "branch", wr_arg_str(a, "branch"));
	if (wr_arg_str(a, "limit"))
		wr_ask_u64(&l.req, "limit", wr_arg_u64(a, "limit", 0));
	return wr_client_show(&l.client, &l.req, err);
}

int
wr_cmd_ls(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about l = {0};
	WR_SCOPED(wr_freep) char *spec = NULL;

	if (begin(&l, a, WR_API_LS, err) < 0)
		return -1;
	spec = spec_of(&l, l.target.pos_count ? l.target.pos[0] : "latest");
	wr_ask_path(&l.req, "spec", spec);
	wr_ask_flag(&l.req, "long", wr_arg_flag(a, "long"));
	wr_ask_flag(&l.req, "recursive", wr_arg_flag(a, "recursive"));
	return wr_client_show(&l.client, &l.req, err);
}

int
wr_cmd_cat(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about l = {0};

	if (begin(&l, a, WR_API_CAT, err) < 0)
		return -1;
	for (size_t i = 0; i < l.target.pos_count; i++) {
		WR_SCOPED(wr_freep) char *spec = spec_of(&l, l.target.pos[i]);

		wr_ask_list(&l.req, "spec", (const char *const *)&spec, 1);
	}
	return wr_client_show(&l.client, &l.req, err);
}

int
wr_cmd_diff(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about l = {0};
	WR_SCOPED(wr_freep) char *from = NULL, *to = NULL;

	if (wr_arg_flag(a, "stat") && wr_arg_flag(a, "name-only"))
		return wr_err_set(err, WR_E_USAGE, "--stat and --name-only exclude each other");
	if (begin(&l, a, WR_API_DIFF, err) < 0)
		return -1;
	from = spec_of(&l, l.target.pos[0]);
	to = spec_of(&l, l.target.pos_count > 1 ? l.target.pos[1] : "latest");
	wr_ask_path(&l.req, "a", from);
	wr_ask_path(&l.req, "b", to);
	wr_ask_flag(&l.req, "stat", wr_arg_flag(a, "stat"));
	wr_ask_flag(&l.req, "name_only", wr_arg_flag(a, "name-only"));
	return wr_client_show(&l.client, &l.req, err);
}

int
wr_cmd_project_find(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about l = {0};

	if (begin(&l, a, WR_API_FIND, err) < 0)
		return -1;
	wr_ask_path(&l.req, "pattern", l.target.pos[0]);
	wr_ask_str(&l.req, "branch", wr_arg_str(a, "branch"));
	wr_ask_flag(&l.req, "ignore_case", wr_arg_flag(a, "ignore-case"));
	return wr_client_show(&l.client, &l.req, err);
}

int
wr_cmd_history(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about l = {0};

	if (begin(&l, a, WR_API_HISTORY, err) < 0)
		return -1;
	wr_ask_path(&l.req, "path", wr_target_path(&l.target, l.target.pos[0]));
	wr_ask_str(&l.req, "branch", wr_arg_str(a, "branch"));
	return wr_client_show(&l.client, &l.req, err);
}
