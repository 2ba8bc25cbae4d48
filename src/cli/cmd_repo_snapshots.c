/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo snapshots: what there is, newest first. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/view.h"

static int
newest_first(const void *pa, const void *pb)
{
	const struct wr_snap *const *a = pa, *const *b = pb;

	if ((*a)->time != (*b)->time)
		return (*a)->time < (*b)->time ? 1 : -1;
	return *a < *b ? -1 : *a > *b; /* as the list has them */
}

/* The first line of the commit's message that says something. */
static char *
first_line(struct wr_view *v, const struct wr_snap *s, struct wr_err *err)
{
	struct wr_commit c = WR_COMMIT_INIT;
	const char *line;
	char *out;

	if (wr_repo_read_commit(v->rd, &s->commit, &c, err) < 0)
		return NULL;
	line = c.message + strspn(c.message, "\n");
	out = wr_memdup(line, strlen(line) + 1);
	out[strcspn(out, "\n")] = '\0';
	wr_commit_fini(&c);
	return out;
}

static int
show(struct wr_view *v, struct wr_snap *const *list, size_t count, struct wr_err *err)
{
	static const char *const heads[] = {"SNAPSHOT", "TIME", "COMMIT", "MESSAGE"};
	struct wr_table t;
	int rc = 0;

	if (wr_out_json())
		wr_json_stream_begin(wr_json_begin("warren.snapshots/1"), "snapshots");
	else
		wr_table_init(&t, "llll", wr_out_tty() && count ? heads : NULL);
	for (size_t i = 0; i < count && rc == 0; i++) {
		const struct wr_snap *s = list[i];
		WR_SCOPED(wr_freep) char *line = first_line(v, s, err);

		if (!line) {
			rc = -1;
		} else if (wr_out_json()) {
			json_t *o = json_object();

			wr_json_snap(o, s);
			wr_json_id(o, "tree", &s->tree);
			wr_json_str(o, "message", line);
			rc = wr_json_stream_item(o, err);
		} else {
			struct wr_snap_name name = wr_snap_name(s);

			wr_table_add_name(&t, name.s, strlen(name.s));
			wr_table_add(&t, wr_fmt_utc(s->time).s);
			wr_table_add(&t, wr_id_short(&s->commit).s);
			wr_table_add_name(&t, line, strlen(line));
		}
	}
	if (wr_out_json())
		return rc ? rc : wr_json_stream_end(NULL, err);
	if (rc == 0)
		wr_table_print(&t);
	wr_table_fini(&t);
	return rc;
}

int
wr_cmd_repo_snapshots(const struct wr_args *a, struct wr_err *err)
{
	const char *branch = a->pos_count ? a->pos[0] : NULL;
	WR_SCOPED(wr_view_close) struct wr_view v = {0};
	WR_SCOPED(wr_snaps_fini) struct wr_snaps snaps = {0};
	WR_SCOPED(wr_freep) struct wr_snap **list = NULL;
	uint64_t limit = wr_arg_u64(a, "limit", UINT64_MAX);

	if (wr_view_open(a, &v, err) < 0 || wr_snaps_list(v.rd, branch, &snaps, err) < 0)
		return -1;
	list = wr_reallocarray(NULL, snaps.count + 1, sizeof(struct wr_snap *));
	for (size_t i = 0; i < snaps.count; i++)
		list[i] = &snaps.snap[i];
	/* One branch is in the order of its history already, whatever its clock did. */
	if (!branch && snaps.count)
		qsort(list, snaps.count, sizeof(struct wr_snap *), newest_first);
	if (snaps.count == 0)
		wr_remark("no snapshots yet");
	return show(&v, list, (size_t)WR_MIN(snaps.count, limit), err);
}
