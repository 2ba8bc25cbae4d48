/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One number per packed object says which snapshot needs it: nobody, exactly one, or several.  A
 * tree that is met by a second snapshot makes everything below it shared, so every tree is read at
 * most twice, however many snapshots there are.
 */
#include "engine/snap/space.h"

#include <sys/stat.h>

#include "engine/pack/pack.h"
#include "engine/snap/dirview.h"
#include "engine/snap/reach.h"

#define SHARED UINT32_MAX

struct measure {
	struct wr_repo *repo;
	struct wr_reader *reader;
	struct wr_space *out;
	uint32_t *owner;       /* by ordinal: 0 nobody, n: snapshot n-1, SHARED */
	struct wr_idmap below; /* directory tree -> bytes of all files in and below it, plus 1 */
	const char *snapshot;  /* being walked */
	uint32_t turn;         /* its number */
	struct wr_pack *pack;  /* being shared out */
	const struct wr_idx *idx;
	struct wr_pack_reader *pack_reader;
};

/* ---- who needs what ---- */

/* Claim an object for the snapshot whose turn it is; true if what is below it must be looked at. */
static bool
claim(void *ctx, const struct wr_id *id, struct wr_fold *f WR_UNUSED)
{
	struct measure *m = ctx;
	int64_t o = wr_repo_ordinal(m->repo, id);

	if (o < 0 || m->owner[o] == m->turn || m->owner[o] == SHARED)
		return false; /* loose objects are not counted; missing ones are verify's matter */
	m->owner[o] = m->owner[o] ? SHARED : m->turn;
	return true;
}

static int
claim_all(struct measure *m, const struct wr_id *commit, const struct wr_id *root, uint32_t n,
	  struct wr_err *err)
{
	const struct wr_reach h = {.reader = m->reader, .claim = claim, .ctx = m};

	m->turn = n;
	claim(m, commit, NULL);
	return wr_reach_tree(&h, root, err);
}

/* ---- files as users see them ---- */

static void
offer_file(struct measure *m, const char *dir, const struct wr_dirent *e, uint64_t bytes)
{
	struct wr_space *s = m->out;
	size_t i = s->file_count;

	if (i == WR_SPACE_FILES && s->file[i - 1].bytes >= bytes)
		return;
	if (i == WR_SPACE_FILES) {
		i--;
		free(s->file[i].path);
		free(s->file[i].snapshot);
	} else {
		s->file_count++;
	}
	for (; i > 0 && s->file[i - 1].bytes < bytes; i--)
		s->file[i] = s->file[i - 1];
	s->file[i] =
	    (struct wr_space_file){.bytes = bytes,
				   .path = wr_asprintf("%s%s%s", dir, *dir ? "/" : "", e->name),
				   .path_len = strlen(dir) + (*dir != 0) + e->name_len,
				   .snapshot = wr_strdup(m->snapshot)};
}

/* A directory being added up; children are visited one after another. */
struct frame {
	struct wr_dirview view;
	char *path;
	size_t at;
	uint64_t bytes;
};

static int
push_frame(struct measure *m, struct frame **f, size_t *n, size_t *cap, const struct wr_id *tree,
	   char *path, struct wr_err *err)
{
	wr_grow(f, cap, *n + 1, sizeof(**f));
	(*f)[*n] = (struct frame){.path = path};
	if (wr_dirview_load(m->reader, tree, &(*f)[*n].view, err) < 0) {
		wr_err_wrap(err, "directory '%s' of %s", WR_Q(path), m->snapshot);
		free(path);
		return -1;
	}
	(*n)++;
	return 0;
}

/* Bytes of all files in and below a directory; each distinct tree is added up once. */
static int
add_up(struct measure *m, const struct wr_id *root, uint64_t *out, struct wr_err *err)
{
	const uint64_t *known = wr_idmap_find(&m->below, root);
	struct frame *f = NULL;
	size_t n = 0, cap = 0;
	int rc = 0;

	if (known) {
		*out = *known - 1;
		return 0;
	}
	rc = push_frame(m, &f, &n, &cap, root, wr_strdup(""), err);
	while (rc == 0 && n) {
		struct frame *top = &f[n - 1];
		const struct wr_dirent *e;

		if (top->at == top->view.count) {
			bool fresh;

			*wr_idmap_put(&m->below, &top->view.tree, &fresh) = top->bytes + 1;
			*out = top->bytes;
			if (n > 1)
				f[n - 2].bytes += top->bytes;
			wr_dirview_fini(&top->view);
			free(top->path);
			n--;
			continue;
		}
		e = &top->view.ent[top->at++];
		if (wr_dirent_kind(e) == WR_KIND_DIR) {
			known = wr_idmap_find(&m->below, &e->id);
			if (known)
				top->bytes += *known - 1;
			else
				rc = push_frame(m, &f, &n, &cap, &e->id,
						wr_asprintf("%s%s%s", top->path,
							    *top->path ? "/" : "", e->name),
						err);
		} else if (wr_dirent_kind(e) == WR_KIND_FILE) {
			uint64_t bytes = 0;

			rc = wr_dirent_size(m->reader, e, &bytes, err);
			top->bytes += bytes;
			offer_file(m, top->path, e, bytes);
		}
	}
	while (n--) {
		wr_dirview_fini(&f[n].view);
		free(f[n].path);
	}
	free(f);
	return rc;
}

/* ---- packs ---- */

/* Stored bytes of an object, given to the snapshot that alone needs it. */
static void
share_object(void *ctx, const struct wr_stored *o)
{
	struct measure *m = ctx;
	struct wr_space *s = m->out;
	const int64_t at = wr_repo_ordinal(m->repo, &o->id);
	const uint32_t owner = at >= 0 ? m->owner[at] : 0;
	enum wr_obj_type type;
	uint64_t size;

	/* Damaged entries have no size; verify names them. */
	if (wr_pack_stat(m->pack, m->idx, m->pack_reader, o->off, &type, &size, NULL) == 0)
		s->raw_bytes += size;
	if (owner == 0) {
		s->unreached_bytes += o->bytes;
	} else if (owner != SHARED) {
		s->snap[owner - 1].alone_bytes += o->bytes;
		s->snap[owner - 1].alone_objects++;
	}
}

static int
share_out(struct measure *m, size_t i, struct wr_err *err)
{
	struct wr_space *s = m->out;

	m->idx = wr_repo_pack_idx(m->repo, i);
	m->pack = wr_repo_pack(m->repo, i, err);
	if (!m->pack)
		return -1;
	s->packs++;
	s->pack_bytes += m->pack->size;
	if (m->idx) {
		s->index_bytes += m->idx->map_len;
		s->objects += m->idx->count;
	}
	return wr_stored_each(m->repo, i, share_object, m, err);
}

static void
claim_tags(struct measure *m, const struct wr_refs *tags)
{
	/* What a tag holds is not a snapshot's alone. */
	for (size_t i = 0; i < tags->count; i++) {
		struct wr_commit c = WR_COMMIT_INIT;

		if (wr_repo_read_commit(m->reader, &tags->ref[i].id, &c, NULL) == 0)
			(void)claim_all(m, &tags->ref[i].id, &c.tree, SHARED - 1, NULL);
		wr_commit_fini(&c);
	}
}

static int
walk(struct measure *m, const struct wr_snaps *snaps, void (*progress)(void *, uint64_t, uint64_t),
     void *ctx, struct wr_err *err)
{
	struct wr_space *s = m->out;

	s->snap = wr_calloc(snaps->count, sizeof(*s->snap));
	for (size_t i = 0; i < snaps->count; i++) {
		const struct wr_snap *from = &snaps->snap[i];
		struct wr_space_snap *to = &s->snap[i];

		to->commit = from->commit;
		to->time = from->time;
		to->snapshot = wr_asprintf("%s/%s", from->branch ? from->branch : "", from->name);
		s->snap_count++;
		m->snapshot = to->snapshot;
		if (add_up(m, &from->tree, &to->files_bytes, err) < 0 ||
		    claim_all(m, &from->commit, &from->tree, (uint32_t)i + 1, err) < 0)
			return -1;
		s->original_bytes += to->files_bytes;
		if (progress)
			progress(ctx, i + 1, snaps->count);
	}
	s->snapshots = snaps->count;
	return 0;
}

int
wr_space_measure(struct wr_repo *r, void (*progress)(void *ctx, uint64_t done, uint64_t total),
		 void *ctx, struct wr_space *out, struct wr_err *err)
{
	struct wr_space s = {0};
	struct measure m = {
	    .repo = r, .out = &s, .reader = wr_reader_new(r), .pack_reader = wr_pack_reader_new()};
	struct wr_snaps snaps = {0};
	struct wr_refs heads = {0}, tags = {0};
	int rc = -1;

	if (wr_refs_list(r, "refs/heads/", &heads, err) < 0 ||
	    wr_refs_list(r, "refs/tags/", &tags, err) < 0 ||
	    wr_snaps_list(m.reader, NULL, &snaps, err) < 0)
		goto out;
	s.branches = heads.count;
	s.tags = tags.count;
	m.owner = wr_calloc(wr_repo_ordinal_end(r), sizeof(*m.owner));
	if (walk(&m, &snaps, progress, ctx, err) < 0)
		goto out;
	claim_tags(&m, &tags);
	for (uint64_t i = 0; i < wr_repo_ordinal_end(r); i++)
		if (m.owner[i] == SHARED - 1)
			m.owner[i] = SHARED;
	for (size_t i = 0; i < wr_repo_pack_count(r); i++)
		if (share_out(&m, i, err) < 0)
			goto out;
	rc = 0;
out:
	wr_pack_reader_free(m.pack_reader);
	wr_reader_free(m.reader);
	wr_idmap_fini(&m.below);
	free(m.owner);
	wr_snaps_fini(&snaps);
	wr_refs_fini(&heads);
	wr_refs_fini(&tags);
	if (rc == 0)
		*out = s;
	else
		wr_space_fini(&s);
	return rc;
}

void
wr_space_fini(struct wr_space *s)
{
	for (size_t i = 0; i < s->file_count; i++) {
		free(s->file[i].path);
		free(s->file[i].snapshot);
	}
	for (size_t i = 0; i < s->snap_count; i++)
		free(s->snap[i].snapshot);
	free(s->snap);
	*s = (struct wr_space){0};
}
