/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/history.h"

/* LIMIT: parts of a path. */
#define PARTS_MAX WR_TREE_DEPTH_MAX

struct part {
	const char *name;
	size_t len;
};

struct state {
	enum wr_kind kind;
	bool chunked;
	struct wr_id id;
};

/*
 * Where the path led in the snapshot before, directory by directory: as soon as a directory is the
 * same one again, so is all that follows.
 */
struct tracer {
	struct wr_reader *rd;
	struct part *part;
	size_t part_count, part_cap;
	struct wr_id *passed; /* directory in which part i was looked up */
	size_t passed_count;
	struct state state;
};

static int
split_path(struct tracer *t, const char *path, size_t len, struct wr_err *err)
{
	for (size_t at = 0, end; at < len; at = end + 1) {
		const char *slash = memchr(path + at, '/', len - at);
		size_t n;

		end = slash ? (size_t)(slash - path) : len;
		n = end - at;
		if (n == 0 || (n == 1 && path[at] == '.'))
			continue;
		if (n == 2 && memcmp(path + at, "..", 2) == 0)
			return wr_err_set(err, WR_E_INVALID, "'..' in path '%s'",
					  wr_quote(path, len).s);
		if (t->part_count == PARTS_MAX)
			return wr_err_set(err, WR_E_LIMIT, "path of more than %d parts", PARTS_MAX);
		wr_grow(&t->part, &t->part_cap, t->part_count + 1, sizeof(*t->part));
		t->part[t->part_count++] = (struct part){path + at, n};
	}
	t->passed = wr_reallocarray(NULL, t->part_count + 1, sizeof(*t->passed));
	return 0;
}

/* What the path is in this snapshot, into t->state. */
static int
trace(struct tracer *t, const struct wr_id *root, struct wr_err *err)
{
	struct state s = {.kind = WR_KIND_DIR, .id = *root};
	size_t known = t->passed_count;

	for (size_t i = 0; i < t->part_count && s.kind == WR_KIND_DIR; i++) {
		WR_SCOPED(wr_dirview_fini) struct wr_dirview v = WR_DIRVIEW_INIT;
		const struct wr_dirent *e;

		if (i < known && wr_id_eq(&t->passed[i], &s.id)) {
			t->passed_count = known;
			return 0;
		}
		t->passed[i] = s.id;
		t->passed_count = i + 1;
		if (wr_dirview_load_names(t->rd, &s.id, &v, err) < 0)
			return -1;
		e = wr_dirview_find(&v, t->part[i].name, t->part[i].len);
		if (!e || (i + 1 < t->part_count && wr_dirent_kind(e) != WR_KIND_DIR)) {
			s = (struct state){.kind = WR_KIND_NONE};
			break;
		}
		s.kind = wr_dirent_kind(e);
		s.chunked = e->chunked;
		s.id = e->id;
	}
	t->state = s;
	return 0;
}

static bool
same_content(const struct wr_version *v, const struct state *s)
{
	return v->kind == s->kind &&
	       (v->kind == WR_KIND_NONE || (v->chunked == s->chunked && wr_id_eq(&v->id, &s->id)));
}

/* Size and metadata as the snapshot has them. */
static int
describe(struct wr_reader *rd, const struct wr_id *root, const char *path, size_t len,
	 struct wr_version *v, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf storage = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf scratch = WR_BUF_INIT;
	WR_SCOPED(wr_at_fini) struct wr_at at = WR_AT_INIT;
	struct wr_meta m;

	if (wr_at_find(rd, root, path, len, &at, err) < 0)
		return -1;
	if (at.is_dir) {
		if (wr_dir_meta(rd, &at.tree, &m, &storage, &scratch, err) < 0)
			return -1;
	} else if (wr_dirent_meta(at.ent, &m, &scratch, err) < 0 ||
		   wr_dirent_size(rd, at.ent, &v->size, err) < 0) {
		return -1;
	}
	v->mode = m.mode;
	v->has_meta = m.has_common;
	v->mtime = m.mtime;
	return 0;
}

static int
each(struct tracer *t, const struct wr_snaps *snaps, const char *path, size_t len, wr_version_fn fn,
     void *ctx, struct wr_err *err)
{
	struct wr_version v = {.kind = WR_KIND_NONE};
	bool ever = false;
	int r;

	for (size_t i = 0; i < snaps->count; i++) {
		const struct wr_snap *snap = &snaps->snap[i];

		if (trace(t, &snap->tree, err) < 0)
			return wr_err_wrap(err, "snapshot %s", snap->name);
		if (v.last && same_content(&v, &t->state)) {
			v.first = snap;
			v.snapshots++;
			continue;
		}
		if (v.last && (r = fn(ctx, &v, err)) != 0)
			return r;
		v = (struct wr_version){.kind = t->state.kind,
					.chunked = t->state.chunked,
					.id = t->state.id,
					.first = snap,
					.last = snap,
					.snapshots = 1};
		if (v.kind == WR_KIND_NONE)
			continue;
		ever = true;
		if (describe(t->rd, &snap->tree, path, len, &v, err) < 0)
			return wr_err_wrap(err, "snapshot %s", snap->name);
	}
	if (v.last && v.kind != WR_KIND_NONE && (r = fn(ctx, &v, err)) != 0)
		return r;
	if (ever)
		return 0;
	wr_err_set(err, WR_E_NOT_FOUND, "no snapshot has '%s'", wr_quote(path, len).s);
	return wr_err_hint(err, "paths count from the root of the snapshot; "
				"'warren repo find NAME' searches everywhere");
}

int
wr_versions(struct wr_reader *rd, const struct wr_snaps *snaps, const char *path, size_t len,
	    wr_version_fn fn, void *ctx, struct wr_err *err)
{
	struct tracer t = {.rd = rd};
	int r = split_path(&t, path, len, err);

	if (r == 0)
		r = each(&t, snaps, path, len, fn, ctx, err);
	free(t.part);
	free(t.passed);
	return r;
}
