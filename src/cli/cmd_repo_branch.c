/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo branch: the lines of snapshots. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/refcmd.h"

static int
show(struct wr_view *v, const struct wr_refs *refs, struct wr_err *err)
{
	static const char *const heads[] = {"BRANCH", "SNAPSHOTS", "NEWEST", "COMMIT"};
	struct wr_table t;
	int rc = 0;

	if (wr_out_json())
		wr_json_stream_begin(wr_json_begin("warren.branch/1"), "branches");
	else
		wr_table_init(&t, "lrll", wr_out_tty() && refs->count ? heads : NULL);
	for (size_t i = 0; i < refs->count && rc == 0; i++) {
		const char *name = refs->ref[i].name + strlen(WR_HEADS);
		WR_SCOPED(wr_snaps_fini) struct wr_snaps snaps = {0};

		rc = wr_snaps_list(v->rd, name, &snaps, err);
		if (rc < 0)
			break;
		if (wr_out_json()) {
			json_t *o = json_object();

			wr_json_str(o, "branch", name);
			wr_json_u64(o, "snapshots", snaps.count);
			if (snaps.count)
				wr_json_snap(wr_json_object(o, "newest"), &snaps.snap[0]);
			rc = wr_json_stream_item(o, err);
			continue;
		}
		wr_table_add_name(&t, name, strlen(name));
		wr_table_add(&t, wr_fmt_count(snaps.count).s);
		wr_table_add(&t, snaps.count ? snaps.snap[0].name : "-");
		wr_table_add(&t, wr_id_short(&refs->ref[i].id).s);
	}
	if (wr_out_json())
		return rc ? rc : wr_json_stream_end(NULL, err);
	wr_table_print(&t);
	wr_table_fini(&t);
	return rc;
}

int
wr_cmd_repo_branch(const struct wr_args *a, struct wr_err *err)
{
	static const struct wr_refcmd cmd = {.word = "branch",
					     .schema = "warren.branch/1",
					     .prefix = WR_HEADS,
					     .other_word = "tag",
					     .other_prefix = WR_TAGS,
					     .show = show};

	return wr_refcmd_run(&cmd, a, err);
}
