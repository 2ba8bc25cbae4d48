/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo tag: names that stay with one snapshot. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/refcmd.h"

static int
show(struct wr_view *v, const struct wr_refs *refs, struct wr_err *err)
{
	static const char *const heads[] = {"TAG", "TIME", "COMMIT"};
	struct wr_table t;
	int rc = 0;

	if (wr_out_json())
		wr_json_stream_begin(wr_json_begin("warren.tag/1"), "tags");
	else
		wr_table_init(&t, "lll", wr_out_tty() && refs->count ? heads : NULL);
	for (size_t i = 0; i < refs->count && rc == 0; i++) {
		const char *name = refs->ref[i].name + strlen(WR_TAGS);
		struct wr_ref_target target;

		/* One that leads nowhere is no reason to hide the others. */
		wr_ref_target(v, &refs->ref[i].id, &target);
		if (wr_out_json()) {
			json_t *o = json_object();

			wr_json_str(o, "tag", name);
			wr_json_str(o, "type", target.type);
			wr_json_id(o, target.is_commit ? "commit" : "id", &target.id);
			if (target.is_commit)
				wr_json_time(o, "time", target.time);
			rc = wr_json_stream_item(o, err);
			continue;
		}
		wr_table_add_name(&t, name, strlen(name));
		wr_table_add(&t, target.is_commit ? wr_fmt_utc(target.time).s : target.type);
		wr_table_add(&t, wr_id_short(&target.id).s);
	}
	if (wr_out_json())
		return rc ? rc : wr_json_stream_end(NULL, err);
	wr_table_print(&t);
	wr_table_fini(&t);
	return rc;
}

int
wr_cmd_repo_tag(const struct wr_args *a, struct wr_err *err)
{
	static const struct wr_refcmd cmd = {.word = "tag",
					     .schema = "warren.tag/1",
					     .prefix = WR_TAGS,
					     .other_word = "branch",
					     .other_prefix = WR_HEADS,
					     .show = show};

	return wr_refcmd_run(&cmd, a, err);
}
