/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/dirview.h"

#include <sys/stat.h>

#include "engine/chunk/hashtree.h"
#include "engine/object/name.h"
#include "engine/object/tree.h"

/* LIMIT: metadata of one directory; a chunk tree of a few objects can claim any size. */
#define BUPM_BASE (UINT64_C(16) << 20)
#define BUPM_PER_ENTRY (UINT64_C(64) << 10)
#define BUPM_MAX (UINT64_C(1) << 30)

static bool
is_tree(uint32_t mode)
{
	return S_ISDIR(mode);
}

/* ---- content ---- */

struct walk {
	struct wr_reader *rd;
	wr_piece_fn fn;
	void *ctx;
	struct wr_buf blob;
};

static int
bad_chunks(const struct wr_id *id, const char *what, struct wr_err *err)
{
	return wr_err_set(err, WR_E_CORRUPT, "chunk tree %s: %s", wr_id_hex(id).s, what);
}

static int
each_blob(struct walk *w, const struct wr_id *id, uint64_t *out_len, struct wr_err *err)
{
	enum wr_obj_type type;

	if (wr_repo_read(w->rd, id, WR_OBJ_BLOB, true, &type, &w->blob, err) < 0)
		return -1;
	*out_len = w->blob.len;
	return w->blob.len ? w->fn(w->ctx, w->blob.p, w->blob.len, err) : 0;
}

static int
each_chunk(struct walk *w, const struct wr_id *id, unsigned depth, uint64_t *out_len,
	   struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf tree = WR_BUF_INIT;
	struct wr_tree_entry e;
	enum wr_obj_type type;
	uint64_t done = 0, at, len = 1;
	struct wr_rd r;
	int n;

	if (depth > WR_CHUNK_DEPTH_MAX)
		return bad_chunks(id, "too many levels", err);
	if (wr_repo_read(w->rd, id, WR_OBJ_TREE, true, &type, &tree, err) < 0)
		return -1;
	r = wr_rd(tree.p, tree.len);
	while ((n = wr_tree_next(&r, &e, err)) > 0) {
		/* An empty element would let a few trees stand for endless work. */
		if (!wr_hashtree_offset(e.name, e.name_len, &at) || at != done || len == 0)
			return bad_chunks(id, "a name is not the offset of its bytes", err);
		if (is_tree(e.mode))
			n = each_chunk(w, &e.id, depth + 1, &len, err);
		else if (S_ISREG(e.mode))
			n = each_blob(w, &e.id, &len, err);
		else
			n = bad_chunks(id, "an entry is neither blob nor tree", err);
		if (n)
			return n;
		if (__builtin_add_overflow(done, len, &done))
			return bad_chunks(id, "impossible size", err);
	}
	if (n < 0)
		return wr_err_wrap(err, "chunk tree %s", wr_id_hex(id).s);
	*out_len = done;
	return 0;
}

int
wr_content_each(struct wr_reader *rd, const struct wr_id *id, bool chunked, wr_piece_fn fn,
		void *ctx, struct wr_err *err)
{
	struct walk w = {.rd = rd, .fn = fn, .ctx = ctx};
	uint64_t len;
	int n = chunked ? each_chunk(&w, id, 1, &len, err) : each_blob(&w, id, &len, err);

	wr_buf_fini(&w.blob);
	return n;
}

/* Size of a chunk tree: where its last element begins and how long that is, down to a blob. */
static int
chunks_size(struct wr_reader *rd, struct wr_id id, uint64_t *out, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf tree = WR_BUF_INIT;
	uint64_t total = 0, at, len;

	for (unsigned depth = 1;; depth++) {
		struct wr_tree_entry e, last = {0};
		enum wr_obj_type type;
		struct wr_rd r;
		int n;

		if (depth > WR_CHUNK_DEPTH_MAX)
			return bad_chunks(&id, "too many levels", err);
		if (wr_repo_read(rd, &id, WR_OBJ_TREE, false, &type, &tree, err) < 0)
			return -1;
		r = wr_rd(tree.p, tree.len);
		while ((n = wr_tree_next(&r, &e, err)) > 0)
			last = e;
		if (n < 0)
			return wr_err_wrap(err, "chunk tree %s", wr_id_hex(&id).s);
		if (!last.name)
			break; /* empty */
		if (!wr_hashtree_offset(last.name, last.name_len, &at))
			return bad_chunks(&id, "a name is not an offset", err);
		if (__builtin_add_overflow(total, at, &total))
			return bad_chunks(&id, "impossible size", err);
		id = last.id;
		if (is_tree(last.mode))
			continue;
		if (wr_repo_stat_object(rd, &id, &type, &len, err) < 0)
			return -1;
		if (__builtin_add_overflow(total, len, &total))
			return bad_chunks(&id, "impossible size", err);
		break;
	}
	*out = total;
	return 0;
}

int
wr_content_size(struct wr_reader *rd, const struct wr_id *id, bool chunked, uint64_t *out,
		struct wr_err *err)
{
	enum wr_obj_type type;

	return chunked ? chunks_size(rd, *id, out, err)
		       : wr_repo_stat_object(rd, id, &type, out, err);
}

/* ---- loading a directory ---- */

struct fill {
	struct wr_buf *out;
	uint64_t max;
};

static int
fill_piece(void *ctx, const void *p, size_t len, struct wr_err *err)
{
	struct fill *f = ctx;

	if (len > f->max - f->out->len)
		return wr_err_set(err, WR_E_LIMIT, "more metadata than entries can have");
	wr_buf_add(f->out, p, len);
	return 0;
}

static int
cmp_name(const void *pa, const void *pb)
{
	const struct wr_dirent *a = pa, *b = pb;
	int c = memcmp(a->name, b->name, WR_MIN(a->name_len, b->name_len));

	if (c)
		return c;
	return a->name_len < b->name_len ? -1 : a->name_len > b->name_len;
}

static bool
name_is_sound(const uint8_t *name, size_t len)
{
	/* The tree codec has seen to '/' and NUL; "." and ".." can still come of unmangling. */
	return len > 0 && !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

/* Tree bytes to entries in the order of their real names; *out_bupm is the metadata's entry. */
static int
parse_tree(struct wr_dirview *v, struct wr_tree_entry *out_bupm, struct wr_err *err)
{
	struct wr_rd r = wr_rd(v->tree_bytes.p, v->tree_bytes.len);
	struct wr_tree_entry e;
	size_t cap = 0;
	bool sorted = true;
	int n;

	out_bupm->name = NULL;
	wr_buf_reserve(&v->names, v->tree_bytes.len); /* so that names never move */
	while ((n = wr_tree_next(&r, &e, err)) > 0) {
		struct wr_dirent *d;
		bool chunked;
		size_t len;

		if (!is_tree(e.mode) && !S_ISREG(e.mode) && !S_ISLNK(e.mode))
			continue; /* a gitlink names no object of this repository */
		len = wr_name_unmangle(e.name, e.name_len, is_tree(e.mode), &chunked);
		if (len == 0 && e.name_len == 5 && !S_ISLNK(e.mode) && !out_bupm->name) {
			*out_bupm = e;
			continue;
		}
		if (!name_is_sound(e.name, len))
			return wr_err_set(err, WR_E_CORRUPT, "bad name '%s'",
					  wr_quote(e.name, e.name_len).s);
		wr_grow(&v->ent, &cap, v->count + 1, sizeof(*v->ent));
		d = &v->ent[v->count++];
		*d = (struct wr_dirent){.name = (const char *)v->names.p + v->names.len,
					.name_len = len,
					.git_mode = e.mode,
					.chunked = chunked && is_tree(e.mode),
					.id = e.id};
		wr_buf_add(&v->names, e.name, len);
		wr_buf_add8(&v->names, 0);
		if (v->count > 1 && cmp_name(d - 1, d) > 0)
			sorted = false;
	}
	if (n < 0)
		return -1;
	if (!sorted)
		qsort(v->ent, v->count, sizeof(*v->ent), cmp_name);
	for (size_t i = 1; i < v->count; i++)
		if (cmp_name(&v->ent[i - 1], &v->ent[i]) == 0)
			return wr_err_set(err, WR_E_CORRUPT, "name '%s' is there twice",
					  wr_quote(v->ent[i].name, v->ent[i].name_len).s);
	return 0;
}

/* Hand the metadata entries out: the first is the directory's, one more for each non-directory. */
static int
deal_metadata(struct wr_dirview *v, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf scratch = WR_BUF_INIT;
	struct wr_rd r = wr_rd(v->bupm_bytes.p, v->bupm_bytes.len);
	struct wr_meta m;
	struct wr_bytes raw;
	int n = wr_meta_next(&r, &m, &v->self_raw, &scratch, err);

	for (size_t i = 0; n > 0 && i < v->count; i++) {
		if (wr_dirent_kind(&v->ent[i]) == WR_KIND_DIR)
			continue;
		n = wr_meta_next(&r, &m, &v->ent[i].raw, &scratch, err);
	}
	if (n == 0)
		return wr_err_set(err, WR_E_CORRUPT, "fewer metadata entries than files");
	if (n < 0)
		return -1;
	n = wr_meta_next(&r, &m, &raw, &scratch, err);
	return n > 0 ? wr_err_set(err, WR_E_CORRUPT, "more metadata entries than files") : n;
}

static int
load(struct wr_reader *rd, struct wr_dirview *v, bool with_metadata, struct wr_err *err)
{
	struct wr_tree_entry bupm;
	enum wr_obj_type type;
	uint64_t max;

	if (wr_repo_read(rd, &v->tree, WR_OBJ_TREE, true, &type, &v->tree_bytes, err) < 0 ||
	    parse_tree(v, &bupm, err) < 0)
		return -1;
	if (!bupm.name || !with_metadata)
		return 0;
	max = WR_MIN(BUPM_BASE + v->count * BUPM_PER_ENTRY, BUPM_MAX);
	if (wr_content_each(rd, &bupm.id, is_tree(bupm.mode), fill_piece,
			    &(struct fill){.out = &v->bupm_bytes, .max = max}, err) < 0 ||
	    deal_metadata(v, err) < 0)
		return wr_err_wrap(err, "metadata");
	return 0;
}

static int
load_whole(struct wr_reader *rd, const struct wr_id *tree, bool with_metadata,
	   struct wr_dirview *out, struct wr_err *err)
{
	struct wr_dirview v = {.tree = *tree};

	if (load(rd, &v, with_metadata, err) < 0) {
		wr_dirview_fini(&v);
		return wr_err_wrap(err, "directory %s", wr_id_short(tree).s);
	}
	*out = v;
	return 0;
}

int
wr_dirview_load(struct wr_reader *rd, const struct wr_id *tree, struct wr_dirview *out,
		struct wr_err *err)
{
	return load_whole(rd, tree, true, out, err);
}

int
wr_dirview_load_names(struct wr_reader *rd, const struct wr_id *tree, struct wr_dirview *out,
		      struct wr_err *err)
{
	return load_whole(rd, tree, false, out, err);
}

void
wr_dirview_fini(struct wr_dirview *v)
{
	free(v->ent);
	wr_buf_fini(&v->tree_bytes);
	wr_buf_fini(&v->bupm_bytes);
	wr_buf_fini(&v->names);
	*v = (struct wr_dirview)WR_DIRVIEW_INIT;
}

const struct wr_dirent *
wr_dirview_find(const struct wr_dirview *v, const void *name, size_t len)
{
	struct wr_dirent key = {.name = name, .name_len = len};

	if (v->count == 0)
		return NULL;
	return bsearch(&key, v->ent, v->count, sizeof(*v->ent), cmp_name);
}

/* ---- entries ---- */

enum wr_kind
wr_dirent_kind(const struct wr_dirent *e)
{
	if (is_tree(e->git_mode) && !e->chunked)
		return WR_KIND_DIR;
	return S_ISLNK(e->git_mode) ? WR_KIND_LINK : WR_KIND_FILE;
}

/* May metadata of this mode stand beside an entry of this kind? */
static bool
mode_fits(uint32_t mode, enum wr_kind kind, bool chunked)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return kind == WR_KIND_FILE;
	case S_IFLNK:
		return kind == WR_KIND_LINK;
	case S_IFDIR:
		return kind == WR_KIND_DIR;
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return kind == WR_KIND_FILE && !chunked;
	default:
		return false;
	}
}

static int
decode(struct wr_bytes raw, enum wr_kind kind, bool chunked, struct wr_meta *out,
       struct wr_buf *scratch, struct wr_err *err)
{
	static const uint32_t plain[] = {[WR_KIND_FILE] = S_IFREG | 0644,
					 [WR_KIND_LINK] = S_IFLNK | 0777,
					 [WR_KIND_DIR] = S_IFDIR | 0755};
	struct wr_rd r = wr_rd(raw.p, raw.len);
	struct wr_meta m = {.size = -1};
	struct wr_bytes again;

	if (raw.p && wr_meta_next(&r, &m, &again, scratch, err) < 0)
		return -1;
	if (m.has_common && !mode_fits(m.mode, kind, chunked))
		return wr_err_set(err, WR_E_CORRUPT, "metadata with mode %o is not of this entry",
				  m.mode);
	if (!m.has_common)
		m.mode = plain[kind];
	*out = m;
	return 0;
}

int
wr_dirent_meta(const struct wr_dirent *e, struct wr_meta *out, struct wr_buf *scratch,
	       struct wr_err *err)
{
	if (decode(e->raw, wr_dirent_kind(e), e->chunked, out, scratch, err) < 0)
		return wr_err_wrap(err, "'%s'", wr_quote(e->name, e->name_len).s);
	return 0;
}

int
wr_dirview_self_meta(const struct wr_dirview *v, struct wr_meta *out, struct wr_buf *scratch,
		     struct wr_err *err)
{
	if (decode(v->self_raw, WR_KIND_DIR, false, out, scratch, err) < 0)
		return wr_err_wrap(err, "directory %s", wr_id_short(&v->tree).s);
	return 0;
}

/* Collects a .bupm until its first entry is complete. */
struct first {
	struct wr_buf *out;
	size_t try_at; /* doubles, so that many small pieces cost linear time */
};

static int
first_piece(void *ctx, const void *p, size_t len, struct wr_err *err)
{
	struct first *f = ctx;
	WR_SCOPED(wr_buf_fini) struct wr_buf scratch = WR_BUF_INIT;
	struct wr_meta m;
	struct wr_bytes raw;
	struct wr_rd r;

	if (len > BUPM_BASE - f->out->len)
		return wr_err_set(err, WR_E_LIMIT, "more metadata than a directory can have");
	wr_buf_add(f->out, p, len);
	if (f->out->len < f->try_at)
		return 0;
	f->try_at = f->out->len * 2;
	r = wr_rd(f->out->p, f->out->len);
	return wr_meta_next(&r, &m, &raw, &scratch, NULL) > 0;
}

int
wr_dir_meta(struct wr_reader *rd, const struct wr_id *tree, struct wr_meta *out,
	    struct wr_buf *storage, struct wr_buf *scratch, struct wr_err *err)
{
	struct wr_tree_entry e, bupm = {0};
	struct first first = {.out = storage};
	struct wr_bytes raw = {0};
	enum wr_obj_type type;
	struct wr_rd r;
	int n;

	if (wr_repo_read(rd, tree, WR_OBJ_TREE, true, &type, storage, err) < 0)
		return -1;
	r = wr_rd(storage->p, storage->len);
	while ((n = wr_tree_next(&r, &e, err)) > 0)
		if (e.name_len == 5 && memcmp(e.name, ".bupm", 5) == 0 && !S_ISLNK(e.mode))
			bupm = e;
	if (n < 0)
		goto fail;
	wr_buf_clear(storage);
	if (bupm.name) {
		if (wr_content_each(rd, &bupm.id, is_tree(bupm.mode), first_piece, &first, err) < 0)
			goto fail;
		raw = (struct wr_bytes){storage->p, storage->len};
	}
	if (decode(raw, WR_KIND_DIR, false, out, scratch, err) == 0)
		return 0;
fail:
	return wr_err_wrap(err, "directory %s", wr_id_short(tree).s);
}

int
wr_dirent_size(struct wr_reader *rd, const struct wr_dirent *e, uint64_t *out, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf scratch = WR_BUF_INIT;
	struct wr_meta m;

	if (wr_dirent_meta(e, &m, &scratch, err) < 0)
		return -1;
	if (wr_dirent_kind(e) == WR_KIND_DIR || (!S_ISREG(m.mode) && !S_ISLNK(m.mode))) {
		*out = 0; /* an older bup noted st_size for devices too */
		return 0;
	}
	if (m.size >= 0) {
		*out = (uint64_t)m.size;
		return 0;
	}
	return wr_content_size(rd, &e->id, e->chunked, out, err);
}

/* ---- paths ---- */

/* The next part of a path from *at on: its length, *at where it begins; 0 at the end. */
static size_t
next_part(const char *path, size_t len, size_t *at)
{
	size_t end;

	while (*at < len && path[*at] == '/')
		++*at;
	for (end = *at; end < len && path[end] != '/';)
		end++;
	return end - *at;
}

int
wr_at_find(struct wr_reader *rd, const struct wr_id *root, const char *path, size_t len,
	   struct wr_at *out, struct wr_err *err)
{
	struct wr_id tree = *root, holder = *root;
	enum wr_kind kind = WR_KIND_DIR;
	size_t name_at = 0, name_len = 0;
	struct wr_at found = WR_AT_INIT;

	for (size_t at = 0, n; (n = next_part(path, len, &at)) > 0; at += n) {
		WR_SCOPED(wr_dirview_fini) struct wr_dirview v = WR_DIRVIEW_INIT;
		const struct wr_dirent *e;

		if (n == 1 && path[at] == '.')
			continue;
		if (n == 2 && path[at] == '.' && path[at + 1] == '.')
			return wr_err_set(err, WR_E_INVALID, "'..' in path '%s'",
					  wr_quote(path, len).s);
		if (kind != WR_KIND_DIR)
			return wr_err_set(err, WR_E_NOT_FOUND, "'%s' is not a directory",
					  wr_quote(path, name_at + name_len).s);
		if (wr_dirview_load_names(rd, &tree, &v, err) < 0)
			return -1;
		e = wr_dirview_find(&v, path + at, n);
		if (!e)
			return wr_err_set(err, WR_E_NOT_FOUND, "'%s' is not in the snapshot",
					  wr_quote(path, at + n).s);
		kind = wr_dirent_kind(e);
		holder = tree;
		tree = e->id;
		name_at = at;
		name_len = n;
	}
	found.is_dir = kind == WR_KIND_DIR;
	found.tree = tree;
	if (!found.is_dir) {
		if (wr_dirview_load(rd, &holder, &found.in, err) < 0)
			return -1;
		found.ent = wr_dirview_find(&found.in, path + name_at, name_len);
	}
	*out = found;
	return 0;
}

void
wr_at_fini(struct wr_at *a)
{
	wr_dirview_fini(&a->in);
	*a = (struct wr_at)WR_AT_INIT;
}
