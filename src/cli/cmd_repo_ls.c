/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo ls: what is in a snapshot. */
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/view.h"
#include "engine/snap/list.h"

/* Rows that are aligned with one another; a long listing is printed in such pieces. */
#define PIECE_ROWS 1000

struct ls {
	struct wr_table table;
	size_t rows;
};

static void
table_begin(struct ls *l)
{
	wr_table_init(&l->table, "lllrll", NULL);
	l->rows = 0;
}

static void
add_owner(struct wr_table *t, const struct wr_bytes *name, uint32_t id, bool known)
{
	if (!known)
		wr_table_add(t, "-");
	else if (name->len)
		wr_table_add_name(t, name->p, name->len);
	else
		wr_table_addf(t, "%" PRIu32, id);
}

static int
long_line(void *ctx, const struct wr_list_item *it, struct wr_err *err)
{
	const struct wr_meta *m = it->meta;
	WR_SCOPED(wr_buf_fini) struct wr_buf name = WR_BUF_INIT;
	struct ls *l = ctx;
	struct wr_table *t = &l->table;

	(void)err;
	wr_table_add(t, wr_mode_text(m->mode).s);
	add_owner(t, &m->user, m->uid, m->has_common);
	add_owner(t, &m->group, m->gid, m->has_common);
	if (S_ISCHR(m->mode) || S_ISBLK(m->mode))
		wr_table_addf(t, "%u, %u", major(m->rdev), minor(m->rdev));
	else if (it->kind == WR_KIND_DIR)
		wr_table_add(t, "-");
	else
		wr_table_addf(t, "%" PRIu64, it->size);
	wr_table_add(t, m->has_common ? wr_fmt_utc(m->mtime.s).s : "-");
	wr_name_add(&name, it->path, it->path_len);
	if (it->kind == WR_KIND_LINK) {
		wr_buf_adds(&name, " -> ");
		wr_name_add(&name, it->target.p, it->target.len);
	}
	wr_table_add(t, wr_buf_str(&name));
	if (++l->rows == PIECE_ROWS) {
		wr_table_print(t);
		wr_table_fini(t);
		table_begin(l);
	}
	return 0;
}

static int
short_line(void *ctx, const struct wr_list_item *it, struct wr_err *err)
{
	(void)ctx;
	(void)err;
	wr_name_print(it->path, it->path_len);
	puts(it->kind == WR_KIND_DIR ? "/" : "");
	return 0;
}

static int
json_line(void *ctx, const struct wr_list_item *it, struct wr_err *err)
{
	const struct wr_meta *m = it->meta;
	json_t *o = json_object();

	(void)ctx;
	wr_json_path(o, "path", it->path, it->path_len);
	wr_json_str(o, "type", wr_type_name(m->mode));
	wr_json_mode(o, m->mode);
	if (m->has_common) {
		wr_json_u64(o, "uid", m->uid);
		wr_json_u64(o, "gid", m->gid);
		if (m->user.len)
			wr_json_path(o, "user", m->user.p, m->user.len);
		if (m->group.len)
			wr_json_path(o, "group", m->group.p, m->group.len);
		wr_json_time(o, "mtime", m->mtime.s);
		wr_json_u64(o, "mtime_ns", m->mtime.ns);
	}
	if (it->kind != WR_KIND_DIR)
		wr_json_u64(o, "size", it->size);
	if (it->kind == WR_KIND_LINK)
		wr_json_path(o, "target", it->target.p, it->target.len);
	if (S_ISCHR(m->mode) || S_ISBLK(m->mode)) {
		wr_json_u64(o, "major", major(m->rdev));
		wr_json_u64(o, "minor", minor(m->rdev));
	}
	wr_json_id(o, "id", &it->id);
	return wr_json_stream_item(o, err);
}

int
wr_cmd_repo_ls(const struct wr_args *a, struct wr_err *err)
{
	unsigned flags = wr_arg_flag(a, "recursive") ? WR_LIST_RECURSIVE : 0;
	WR_SCOPED(wr_view_close) struct wr_view v = {0};
	WR_SCOPED(wr_place_fini) struct wr_place p = {0};
	struct ls l;
	int rc;

	if (wr_view_open(a, &v, err) < 0 || wr_place_find(&v, a->pos[0], &p, err) < 0)
		return -1;
	if (wr_out_json()) {
		json_t *head = wr_json_begin("warren.ls/1");
		const char *path = p.path ? p.path : "";

		wr_json_snap(head, &p.snap);
		wr_json_path(head, "path", path, strlen(path));
		wr_json_stream_begin(head, "entries");
		rc = wr_list(v.rd, &p.at, flags | WR_LIST_META, json_line, NULL, err);
		return rc < 0 ? -1 : wr_json_stream_end(NULL, err);
	}
	if (!wr_arg_flag(a, "long"))
		return wr_list(v.rd, &p.at, flags, short_line, NULL, err);
	table_begin(&l);
	rc = wr_list(v.rd, &p.at, flags | WR_LIST_META, long_line, &l, err);
	wr_table_print(&l.table);
	wr_table_fini(&l.table);
	return rc;
}
