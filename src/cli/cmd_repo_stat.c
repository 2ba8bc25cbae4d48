/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo stat: sizes, ratios, what holds space. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "engine/snap/space.h"

#define SHOWN_SNAPS 10

static double
ratio(uint64_t a, uint64_t b)
{
	return b ? (double)a / (double)b : 0;
}

static int
print_json(const struct wr_space *s, struct wr_err *err)
{
	json_t *o = wr_json_begin("warren.stat/1"), *list;

	wr_json_u64(o, "branches", s->branches);
	wr_json_u64(o, "tags", s->tags);
	wr_json_u64(o, "snapshots", s->snapshots);
	wr_json_u64(o, "packs", s->packs);
	wr_json_u64(o, "objects", s->objects);
	wr_json_u64(o, "stored_bytes", s->pack_bytes + s->index_bytes);
	wr_json_u64(o, "pack_bytes", s->pack_bytes);
	wr_json_u64(o, "index_bytes", s->index_bytes);
	wr_json_u64(o, "unique_bytes", s->raw_bytes);
	wr_json_u64(o, "original_bytes", s->original_bytes);
	wr_json_u64(o, "unreached_bytes", s->unreached_bytes);
	wr_json_real(o, "dedup_ratio", ratio(s->original_bytes, s->raw_bytes));
	wr_json_real(o, "compression_ratio", ratio(s->raw_bytes, s->pack_bytes));
	list = wr_json_array(o, "largest_files");
	for (size_t i = 0; i < s->file_count; i++) {
		json_t *e = wr_json_item(list);

		wr_json_path(e, "path", s->file[i].path, s->file[i].path_len);
		wr_json_u64(e, "bytes", s->file[i].bytes);
		wr_json_str(e, "snapshot", s->file[i].snapshot);
	}
	list = wr_json_array(o, "snapshot_list");
	for (size_t i = 0; i < s->snap_count; i++) {
		json_t *e = wr_json_item(list);

		wr_json_str(e, "snapshot", s->snap[i].snapshot);
		wr_json_id(e, "commit", &s->snap[i].commit);
		wr_json_time(e, "time", s->snap[i].time);
		wr_json_u64(e, "files_bytes", s->snap[i].files_bytes);
		wr_json_u64(e, "alone_bytes", s->snap[i].alone_bytes);
		wr_json_u64(e, "alone_objects", s->snap[i].alone_objects);
	}
	return wr_json_print(o, err);
}

static int
by_alone(const void *a, const void *b)
{
	const struct wr_space_snap *x = a, *y = b;

	return x->alone_bytes < y->alone_bytes ? 1 : x->alone_bytes > y->alone_bytes ? -1 : 0;
}

static void
print_text(struct wr_space *s)
{
	struct wr_table t;
	size_t n = WR_MIN(s->snap_count, (size_t)SHOWN_SNAPS);

	printf("snapshots    %s on %s", wr_fmt_count(s->snapshots).s, wr_fmt_count(s->branches).s);
	printf(" branches, %s tags\n", wr_fmt_count(s->tags).s);
	printf("objects      %s in ", wr_fmt_count(s->objects).s);
	printf("%s packs\n", wr_fmt_count(s->packs).s);
	printf("original     %-10s all files of all snapshots\n",
	       wr_fmt_bytes(s->original_bytes).s);
	printf("unique       %-10s after deduplication, 1 : %.1f\n", wr_fmt_bytes(s->raw_bytes).s,
	       ratio(s->original_bytes, s->raw_bytes));
	printf("stored       %-10s after compression,   1 : %.1f\n", wr_fmt_bytes(s->pack_bytes).s,
	       ratio(s->raw_bytes, s->pack_bytes));
	printf("indexes      %s\n", wr_fmt_bytes(s->index_bytes).s);
	if (s->unreached_bytes)
		printf("in no snapshot  %s\n", wr_fmt_bytes(s->unreached_bytes).s);
	if (s->file_count)
		printf("\nlargest files\n");
	wr_table_init(&t, "rll", NULL);
	for (size_t i = 0; i < s->file_count; i++) {
		wr_table_add(&t, wr_fmt_bytes(s->file[i].bytes).s);
		wr_table_add(&t, s->file[i].snapshot);
		wr_table_add_name(&t, s->file[i].path, s->file[i].path_len);
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	if (!n)
		return;
	qsort(s->snap, s->snap_count, sizeof(*s->snap), by_alone);
	printf("\nsnapshots that hold space (what nothing else needs)\n");
	wr_table_init(&t, "rrll", NULL);
	for (size_t i = 0; i < n; i++) {
		wr_table_add(&t, wr_fmt_bytes(s->snap[i].alone_bytes).s);
		wr_table_addf(&t, "of %s", wr_fmt_bytes(s->snap[i].files_bytes).s);
		wr_table_add(&t, s->snap[i].snapshot);
		wr_table_add(&t, wr_id_short(&s->snap[i].commit).s);
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

static void
on_progress(void *ctx, uint64_t done, uint64_t total)
{
	wr_progress_total(ctx, total, 0);
	wr_progress_set(ctx, done, 0);
}

int
wr_cmd_repo_stat(const struct wr_args *a, struct wr_err *err)
{
	const char *path = wr_arg_repo(a, err);
	struct wr_progress *p;
	struct wr_space s;
	struct wr_repo *r;
	int rc;

	if (!path || wr_repo_open(path, &r, err) < 0)
		return -1;
	p = wr_progress_begin(a, "measuring");
	rc = wr_space_measure(r, on_progress, p, &s, err);
	wr_progress_end(p);
	wr_repo_close(r);
	if (rc < 0)
		return wr_err_hint(err, "run `warren repo verify` to see what is damaged");
	if (wr_out_json())
		rc = print_json(&s, err);
	else
		print_text(&s);
	wr_space_fini(&s);
	return rc;
}
