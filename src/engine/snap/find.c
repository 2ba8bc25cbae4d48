/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/find.h"

#include <sys/stat.h>

#include "engine/snap/diff.h"
#include "engine/snap/glob.h"

#define FOUND_MAX 1000000 /* LIMIT: paths of one result */

/* A path while its snapshots are walked, oldest first. */
struct track {
	struct wr_found f;
	bool here; /* in the snapshot in hand, as `now` */
	struct wr_diff_side now;
};

struct finder {
	struct wr_glob glob;
	bool by_path, dirs_only;
	struct track *track;
	size_t count, cap;
	uint32_t *slot; /* open addressing by path: track index + 1; 0 = free */
	size_t slots;
	struct wr_idmap versions; /* (path, content) pairs met */
	const struct wr_snap *cur, *prev;
};

static size_t
hash_path(const char *p, size_t len)
{
	/* SHA-1, so that nobody can choose names that collide. */
	struct wr_id id = wr_obj_id(WR_OBJ_BLOB, p, len);

	return (size_t)wr_get64be(id.b);
}

static void
rehash(struct finder *f)
{
	f->slots = f->slots ? f->slots * 2 : 1024;
	free(f->slot);
	f->slot = wr_calloc(f->slots, sizeof(*f->slot));
	for (size_t i = 0; i < f->count; i++) {
		size_t h = hash_path(f->track[i].f.path, f->track[i].f.path_len) & (f->slots - 1);

		while (f->slot[h])
			h = (h + 1) & (f->slots - 1);
		f->slot[h] = (uint32_t)i + 1;
	}
}

/* The track of a path, made if there is none; NULL with err at the limit. */
static struct track *
get_track(struct finder *f, const char *path, size_t len, struct wr_err *err)
{
	size_t h;
	struct track *t;

	if (f->count * 2 >= f->slots)
		rehash(f);
	for (h = hash_path(path, len) & (f->slots - 1); f->slot[h]; h = (h + 1) & (f->slots - 1)) {
		t = &f->track[f->slot[h] - 1];
		if (t->f.path_len == len && memcmp(t->f.path, path, len) == 0)
			return t;
	}
	if (f->count == FOUND_MAX) {
		wr_err_set(err, WR_E_LIMIT, "more than %d paths match", FOUND_MAX);
		wr_err_hint(err, "use a narrower pattern, or one branch");
		return NULL;
	}
	wr_grow(&f->track, &f->cap, f->count + 1, sizeof(*f->track));
	t = &f->track[f->count++];
	f->slot[h] = (uint32_t)f->count;
	*t = (struct track){.f = {.path = wr_memdup(path, len + 1), .path_len = len}};
	return t;
}

/* The path was there, as t->now, up to and including this snapshot. */
static void
was_in(struct track *t, const struct wr_snap *snap)
{
	if (t->f.last && t->f.last->time > snap->time)
		return;
	t->f.last = snap;
	t->f.kind = t->now.kind;
	t->f.chunked = t->now.chunked;
	t->f.id = t->now.id;
}

static void
count_version(struct finder *f, struct track *t)
{
	struct wr_id key = t->now.id;
	uint32_t number = (uint32_t)(t - f->track);
	bool fresh;

	/* Directories are one thing, whatever is in them. */
	if (t->now.kind == WR_KIND_DIR)
		memset(&key, 0, sizeof(key));
	wr_put32be(key.b, wr_get32be(key.b) ^ number);
	key.b[4] ^= (uint8_t)t->now.kind;
	wr_idmap_put(&f->versions, &key, &fresh);
	t->f.versions += fresh;
}

static bool
is_match(const struct finder *f, const struct wr_diff_item *it)
{
	const char *slash = memrchr(it->path, '/', it->path_len);
	const char *text = f->by_path || !slash ? it->path : slash + 1;

	if (f->dirs_only && it->a.kind != WR_KIND_DIR && it->b.kind != WR_KIND_DIR)
		return false;
	return it->path_len &&
	       wr_glob_match(&f->glob, text, it->path_len - (size_t)(text - it->path));
}

static int
on_change(void *ctx, const struct wr_diff_item *it, struct wr_err *err)
{
	struct finder *f = ctx;
	struct track *t;
	bool gone, comes;

	if (!is_match(f, it))
		return 0;
	t = get_track(f, it->path, it->path_len, err);
	if (!t)
		return -1;
	gone = it->b.kind == WR_KIND_NONE || (f->dirs_only && it->b.kind != WR_KIND_DIR);
	comes = !gone && !t->here;
	if (t->here) /* its content up to the snapshot before this one */
		was_in(t, f->prev);
	if (comes && (!t->f.first || t->f.first->time > f->cur->time))
		t->f.first = f->cur;
	t->here = !gone;
	if (!gone) {
		t->now = it->b;
		count_version(f, t);
	}
	return 0;
}

/* The snapshots of one branch, newest first in snap[0 .. n). */
static int
walk_branch(struct wr_reader *rd, struct finder *f, const struct wr_snap *snap, size_t n,
	    struct wr_err *err)
{
	f->prev = NULL;
	for (size_t i = n; i-- > 0;) {
		struct wr_at a, b = wr_at_root(&snap[i].tree);

		f->cur = &snap[i];
		if (f->prev)
			a = wr_at_root(&f->prev->tree);
		if (wr_diff(rd, f->prev ? &a : NULL, &b, WR_DIFF_NAMES, on_change, f, err) < 0)
			return wr_err_wrap(err, "snapshot '%s/%s'", WR_Q(snap[i].branch),
					   snap[i].name);
		f->prev = f->cur;
	}
	for (size_t i = 0; i < f->count; i++) {
		if (f->track[i].here)
			was_in(&f->track[i], f->prev);
		f->track[i].here = false;
	}
	return 0;
}

static int
cmp_track(const void *pa, const void *pb)
{
	const struct track *a = pa, *b = pb;
	int c = memcmp(a->f.path, b->f.path, WR_MIN(a->f.path_len, b->f.path_len));

	if (c)
		return c;
	return a->f.path_len < b->f.path_len ? -1 : a->f.path_len > b->f.path_len;
}

/* With directories asked for, a file that was never one has left a track without snapshots. */
static void
collect(struct wr_reader *rd, struct finder *f, struct wr_find_result *out)
{
	if (f->count)
		qsort(f->track, f->count, sizeof(*f->track), cmp_track);
	out->found = wr_reallocarray(NULL, f->count + 1, sizeof(*out->found));
	for (size_t i = 0; i < f->count; i++) {
		struct wr_found *w = &f->track[i].f;

		if (!w->last) {
			free(w->path);
			continue;
		}
		if (w->kind != WR_KIND_DIR)
			w->has_size = wr_content_size(rd, &w->id, w->chunked, &w->size, NULL) == 0;
		out->found[out->count++] = *w;
	}
	f->count = 0;
}

int
wr_find(struct wr_reader *rd, const char *pattern, const struct wr_find_opts *o,
	struct wr_find_result *out, struct wr_err *err)
{
	struct wr_find_result r = {0};
	struct finder f = {0};
	size_t len = strlen(pattern);
	int result = -1;

	if (len > 1 && pattern[len - 1] == '/')
		f.dirs_only = true, len--;
	f.by_path = memchr(pattern, '/', len) != NULL;
	if (f.by_path && *pattern == '/')
		pattern++, len--;
	if (len == 0)
		return wr_err_set(err, WR_E_INVALID, "the pattern is empty");
	if (wr_glob_compile(&f.glob, pattern, len,
			    (f.by_path ? WR_GLOB_PATHS : 0u) | (o->ignore_case ? WR_GLOB_FOLD : 0u),
			    err) < 0)
		return -1;
	if (f.glob.never) {
		wr_err_set(err, WR_E_INVALID, "pattern '%s' is malformed",
			   wr_quote(pattern, len).s);
		goto out;
	}
	if (wr_snaps_list(rd, o->branch, &r.snaps, err) < 0)
		goto out;
	for (size_t i = 0, end; i < r.snaps.count; i = end) {
		const struct wr_snap *s = r.snaps.snap;

		for (end = i; end < r.snaps.count && !strcmp(s[i].branch, s[end].branch);)
			end++;
		if (walk_branch(rd, &f, s + i, end - i, err) < 0)
			goto out;
	}
	r.snapshots = r.snaps.count;
	collect(rd, &f, &r);
	*out = r;
	r = (struct wr_find_result){0};
	result = 0;
out:
	for (size_t i = 0; i < f.count; i++)
		free(f.track[i].f.path);
	free(f.track);
	free(f.slot);
	wr_idmap_fini(&f.versions);
	wr_glob_fini(&f.glob);
	wr_find_result_fini(&r);
	return result;
}

void
wr_find_result_fini(struct wr_find_result *r)
{
	for (size_t i = 0; i < r->count; i++)
		free(r->found[i].path);
	free(r->found);
	wr_snaps_fini(&r->snaps);
	*r = (struct wr_find_result){0};
}
