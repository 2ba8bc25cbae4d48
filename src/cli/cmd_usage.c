/* SPDX-License-Identifier: Apache-2.0 */
/* warren usage, quota: what projects take, and limits that follow from it. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/out.h"
#include "cli/project.h"

/* "84 %", "-" without a limit. */
static struct wr_short
percent(uint64_t used, uint64_t of)
{
	struct wr_short s = {"-"};

	if (of)
		snprintf(s.s, sizeof(s.s), "%.0f %%", (double)used / (double)of * 100);
	return s;
}

static void
print_live(const json_t *o)
{
	const json_t *live = wr_json_get_obj(o, "live");
	uint64_t bytes = wr_json_get_u64(live, "bytes", 0), disk = wr_json_get_u64(live, "disk", 0);
	uint64_t inodes = wr_json_get_u64(live, "inodes", 0),
		 most = wr_json_get_u64(live, "inodes_limit", 0);

	printf("  live           %s of %s (%s), %s of %s files\n", wr_fmt_bytes(bytes).s,
	       wr_fmt_bytes(disk).s, percent(bytes, disk).s, wr_fmt_count(inodes).s,
	       wr_fmt_count(most).s);
}

static void
print_history(const json_t *o)
{
	const json_t *h = wr_json_get_obj(o, "history");
	uint64_t all = wr_json_get_u64(h, "repository", 0), quota = wr_json_get_u64(h, "quota", 0);

	printf("  repository     %s", wr_fmt_bytes(all).s);
	if (quota)
		printf(" of %s (%s)", wr_fmt_bytes(quota).s, percent(all, quota).s);
	printf("\n  history        %s%s of it, what only older snapshots need\n",
	       wr_json_get_bool(h, "exact", false) ? "" : "about ",
	       wr_fmt_bytes(wr_json_get_u64(h, "bytes", 0)).s);
}

static void
print_folders(const json_t *list)
{
	static const char *const heads[] = {"LIVE", "STORED", "FILES", "FOLDER"};
	struct wr_table t;
	const json_t *f;
	size_t i;

	if (!json_array_size(list))
		return;
	wr_table_init(&t, "rrrl", heads);
	json_array_foreach(list, i, f)
	{
		WR_SCOPED(wr_freep) char *path = wr_json_path_bytes(f, "path");

		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(f, "bytes", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(f, "stored", 0)).s);
		wr_table_add(&t, wr_fmt_count(wr_json_get_u64(f, "files", 0)).s);
		wr_table_add_name(&t, path ? path : "?", strlen(path ? path : "?"));
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

static void
print_usage(const json_t *o)
{
	const json_t *out = wr_json_get_obj(o, "not_protected"),
		     *trash = wr_json_get_obj(o, "trash");
	const char *name = wr_json_get_str(o, "name", "?");
	int64_t at = wr_json_get_time(o, "at", 0);

	wr_name_print(name, strlen(name));
	if (trash) {
		printf(" is in the trash, with %s, until %s\n",
		       wr_fmt_bytes(wr_json_get_u64(trash, "bytes", 0)).s,
		       wr_fmt_utc(wr_json_get_time(trash, "until", 0)).s);
		return;
	}
	if (at)
		printf(", as of %s\n", wr_when_text(at).s);
	else
		printf(", not saved yet\n");
	print_live(o);
	print_history(o);
	printf("  not protected  %s files, %s\n", wr_fmt_count(wr_json_get_u64(out, "count", 0)).s,
	       wr_fmt_bytes(wr_json_get_u64(out, "bytes", 0)).s);
	print_folders(wr_json_get_arr(o, "folders"));
}

int
wr_cmd_usage(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const bool now = wr_arg_flag(a, "now");
	struct wr_progress *p;
	int rc;

	if (wr_about_begin(&b, a, WR_API_USAGE, err) < 0)
		return -1;
	wr_ask_flag(&b.req, "now", now);
	p = now ? wr_progress_begin(a, "counting") : NULL;
	rc = wr_client_ask(&b.client, &b.req, NULL, &o, err);
	wr_progress_end(p);
	if (rc < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	print_usage(o);
	return 0;
}

/* ---- quota auto ---- */

static void
print_quotas(const json_t *o)
{
	static const char *const heads[] = {"PROJECT", "USED", "OLD", "NEW", ""};
	const json_t *list = wr_json_get_arr(o, "projects"), *p;
	const bool dry_run = wr_json_get_bool(o, "dry_run", false);
	struct wr_table t;
	size_t i;

	wr_table_init(&t, "lrrrl", json_array_size(list) ? heads : NULL);
	json_array_foreach(list, i, p)
	{
		const json_t *e = wr_json_get_obj(p, "error");
		const char *name = wr_json_get_str(p, "name", "?");
		const char *why = e ? wr_json_get_str(e, "message", "?") : "";
		uint64_t old = wr_json_get_u64(p, "old", 0), new = wr_json_get_u64(p, "new", 0);

		wr_table_add_name(&t, name, strlen(name));
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(p, "used", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(old).s);
		wr_table_add(&t, wr_fmt_bytes(new).s);
		if (e)
			wr_table_add_name(&t, why, strlen(why));
		else
			wr_table_add(&t, old == new ? "as it is"
					 : dry_run  ? "would be set"
						    : "set");
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

int
wr_cmd_quota_auto(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	int status;

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_QUOTA_AUTO, NULL);
	wr_ask_u64(&r, "factor", wr_arg_u64(a, "factor", 2));
	wr_ask_u64(&r, "min", wr_arg_u64(a, "min", UINT64_C(4) << 30));
	wr_ask_flag(&r, "dry_run", wr_arg_flag(a, "dry-run"));
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	status = (int)wr_json_get_u64(o, "exit", 0);
	if (!wr_out_json() && !wr_out_quiet())
		print_quotas(o);
	if (wr_out_json() && wr_json_print(wr_steal(&o), err) < 0)
		return -1;
	return status;
}
