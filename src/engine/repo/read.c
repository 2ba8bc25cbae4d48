/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading objects, wherever a good copy lies: the pack a search names, every other pack that has
 * the id, the loose files; and all of it once more if packs came or went meanwhile.
 */
#include "engine/repo/repo_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "sys/fs.h"

struct wr_reader *
wr_reader_new(struct wr_repo *r)
{
	struct wr_reader *rd = wr_calloc(1, sizeof(*rd));

	rd->repo = r;
	rd->pr = wr_pack_reader_new();
	return rd;
}

void
wr_reader_free(struct wr_reader *rd)
{
	if (!rd)
		return;
	wr_pack_reader_free(rd->pr);
	wr_buf_fini(&rd->buf);
	free(rd);
}

bool
wr_repo_exists(struct wr_repo *r, const struct wr_id *id)
{
	return wr_repo_has(r, id) || wr_loose_exists(r->objects_fd, id);
}

/* What is asked of every copy in turn. */
struct ask {
	const struct wr_id *id;
	enum wr_obj_type want;
	bool check_hash;
	bool stat_only;
	enum wr_obj_type *out_type;
	uint64_t *out_size; /* stat_only */
	struct wr_buf *out; /* otherwise */
};

static int
check_copy(const struct ask *a, enum wr_obj_type type, struct wr_err *err)
{
	struct wr_id got;

	if (a->want != WR_OBJ_NONE && type != a->want)
		return wr_err_set(err, WR_E_CORRUPT, "it is a %s, not a %s", wr_obj_type_name(type),
				  wr_obj_type_name(a->want));
	if (a->check_hash) {
		got = wr_obj_id(type, a->out->p, a->out->len);
		if (!wr_id_eq(&got, a->id))
			return wr_err_set(err, WR_E_CORRUPT, "its content has the id %s",
					  wr_id_hex(&got).s);
	}
	return 0;
}

static int
read_packed(struct wr_reader *rd, struct wr_pack_ent *e, uint32_t pos, const struct ask *a,
	    struct wr_err *err)
{
	uint64_t off = wr_idx_offset(&e->idx, pos);
	enum wr_obj_type type;
	uint64_t size = 0;
	const struct wr_pack *p;
	int rc;

	if (off == UINT64_MAX)
		return wr_err_set(err, WR_E_CORRUPT, "'%s.idx' points outside its pack", e->name);
	p = wr_odb_acquire(rd->repo, e, err);
	if (!p)
		return -1;
	if (a->stat_only)
		rc = wr_pack_stat(p, &e->idx, rd->pr, off, &type, &size, err);
	else
		rc = wr_pack_read(p, &e->idx, rd->pr, off, &type, a->out, err);
	wr_odb_release(rd->repo, e);
	if (rc < 0 || check_copy(a, type, err) < 0)
		return wr_err_wrap(err, "'%s.pack'", e->name);
	*a->out_type = type;
	if (a->stat_only)
		*a->out_size = size;
	return 0;
}

static int
read_loose(struct wr_reader *rd, const struct ask *a, struct wr_err *err)
{
	struct wr_buf *out = a->stat_only ? &rd->buf : a->out;
	enum wr_obj_type type;

	wr_buf_clear(out);
	if (wr_loose_read(rd->repo->objects_fd, a->id, &type, out, err) < 0)
		return -1;
	if (check_copy(a, type, err) < 0)
		return wr_err_wrap(err, "loose object");
	*a->out_type = type;
	if (a->stat_only)
		*a->out_size = out->len;
	return 0;
}

/* 0 = done, 1 = there is no copy, -1 = there is none that reads well: *first tells why. */
static int
read_any(struct wr_reader *rd, const struct ask *a, struct wr_err *first)
{
	struct wr_repo *r = rd->repo;
	const struct wr_packset *s = atomic_load_explicit(&r->set, memory_order_acquire);
	uint32_t pos;
	struct wr_pack_ent *hit = wr_odb_find(r, s, a->id, &pos);
	struct wr_err err = WR_ERR_INIT;
	bool found = hit;

	if (hit) {
		if (read_packed(rd, hit, pos, a, &err) == 0)
			return 0;
		*first = err;
	}
	/* A midx may be wrong about an id: here every index is asked. */
	for (size_t i = 0; i < s->count; i++) {
		struct wr_pack_ent *e = s->pack[i];
		int64_t at = e->has_idx && e != hit ? wr_idx_find(&e->idx, a->id) : -1;

		if (at < 0)
			continue;
		if (read_packed(rd, e, (uint32_t)at, a, &err) == 0)
			return 0;
		if (!found)
			*first = err;
		found = true;
	}
	if (read_loose(rd, a, &err) == 0)
		return 0;
	if (err.code == WR_E_NOT_FOUND)
		return found ? -1 : 1;
	if (!found)
		*first = err;
	return -1;
}

static int
read_object(struct wr_reader *rd, const struct ask *a, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	bool changed = false;
	int rc = read_any(rd, a, &why);

	/* Packs come with every save and go with git repack: look again. */
	if (rc != 0 && wr_odb_refresh_if_changed(rd->repo, &changed, NULL) == 0 && changed)
		rc = read_any(rd, a, &why);
	if (rc == 0)
		return 0;
	if (rc == 1)
		return wr_err_set(err, WR_E_NOT_FOUND, "object %s is not in the repository",
				  wr_id_hex(a->id).s);
	if (err)
		*err = why;
	if (why.code == WR_E_NOT_FOUND)
		wr_err_recode(err, WR_E_CORRUPT); /* a pack that its index promised */
	return wr_err_wrap(err, "read object %s", wr_id_hex(a->id).s);
}

int
wr_repo_read(struct wr_reader *rd, const struct wr_id *id, enum wr_obj_type want, bool check_hash,
	     enum wr_obj_type *out_type, struct wr_buf *out, struct wr_err *err)
{
	enum wr_obj_type type;
	struct ask a = {
	    .id = id, .want = want, .check_hash = check_hash, .out_type = &type, .out = out};

	wr_buf_clear(out);
	if (read_object(rd, &a, err) < 0)
		return -1;
	if (out_type)
		*out_type = type;
	return 0;
}

int
wr_repo_stat_object(struct wr_reader *rd, const struct wr_id *id, enum wr_obj_type *out_type,
		    uint64_t *out_size, struct wr_err *err)
{
	struct ask a = {.id = id, .stat_only = true, .out_type = out_type, .out_size = out_size};

	return read_object(rd, &a, err);
}

int
wr_repo_read_commit(struct wr_reader *rd, const struct wr_id *id, struct wr_commit *out,
		    struct wr_err *err)
{
	/* With the hash checked a history cannot lead back to itself. */
	if (wr_repo_read(rd, id, WR_OBJ_COMMIT, true, NULL, &rd->buf, err) < 0)
		return -1;
	if (wr_commit_parse(rd->buf.p, rd->buf.len, out, err) < 0)
		return wr_err_wrap(err, "commit %s", wr_id_hex(id).s);
	return 0;
}

/* ---- abbreviated ids ---- */

static bool
parse_prefix(const char *hex, struct wr_id *out, size_t *out_digits)
{
	char full[2 * WR_ID_LEN + 1];
	size_t n = strlen(hex);

	if (n < 4 || n > 2 * WR_ID_LEN || strspn(hex, "0123456789abcdefABCDEF") != n)
		return false;
	memset(full, '0', sizeof(full) - 1);
	full[sizeof(full) - 1] = '\0';
	memcpy(full, hex, n);
	*out_digits = n;
	return wr_id_parse(full, out);
}

static int
each_loose(struct wr_repo *r, const struct wr_id *prefix, size_t digits, wr_abbrev_fn fn, void *ctx)
{
	struct wr_id_hex want = wr_id_hex(prefix);
	char dir[3] = {want.s[0], want.s[1], '\0'};
	int fd = wr_open_dir(r->objects_fd, dir);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		wr_closep(&fd);
		return 0; /* the usual case: no loose objects there */
	}
	while (rc == 0 && (e = readdir(d))) {
		char hex[2 * WR_ID_LEN + 1];
		struct wr_id id;

		if (strlen(e->d_name) != 2 * WR_ID_LEN - 2 ||
		    memcmp(e->d_name, want.s + 2, digits - 2) != 0)
			continue;
		memcpy(hex, dir, 2);
		memcpy(hex + 2, e->d_name, 2 * WR_ID_LEN - 1);
		if (wr_id_parse(hex, &id))
			rc = fn(ctx, &id);
	}
	closedir(d);
	return rc;
}

int
wr_abbrev_each(struct wr_repo *r, const char *hex, wr_abbrev_fn fn, void *ctx, struct wr_err *err)
{
	const struct wr_packset *s = atomic_load_explicit(&r->set, memory_order_acquire);
	struct wr_id prefix;
	size_t digits;

	if (!parse_prefix(hex, &prefix, &digits))
		return wr_err_set(err, WR_E_INVALID, "'%s' is not 4 to 40 hex digits", WR_Q(hex));
	for (size_t i = 0; i < s->count; i++) {
		const struct wr_pack_ent *e = s->pack[i];
		uint32_t count = 0;
		uint32_t at = e->has_idx
				  ? wr_idx_prefix(&e->idx, &prefix, (unsigned)(4 * digits), &count)
				  : 0;

		for (uint32_t k = 0; k < count; k++) {
			struct wr_id id = wr_idx_id(&e->idx, at + k);

			if (fn(ctx, &id) != 0)
				return 0;
		}
	}
	(void)each_loose(r, &prefix, digits, fn, ctx); /* only tells that fn ended the walk */
	return 0;
}

struct unique {
	struct wr_id id, other;
	unsigned count; /* 0, 1, 2 = more */
};

static int
take_unique(void *ctx, const struct wr_id *id)
{
	struct unique *u = ctx;

	if (u->count == 1 && wr_id_eq(id, &u->id))
		return 0;
	if (u->count == 0)
		u->id = *id;
	else
		u->other = *id;
	return ++u->count == 2;
}

int
wr_repo_abbrev(struct wr_repo *r, const char *hex, struct wr_id *out, struct wr_err *err)
{
	struct unique u = {0};

	if (wr_abbrev_each(r, hex, take_unique, &u, err) < 0)
		return -1;
	if (u.count == 0)
		return wr_err_set(err, WR_E_NOT_FOUND, "no object's id begins with '%s'", hex);
	if (u.count > 1) {
		wr_err_set(err, WR_E_INVALID, "more than one object's id begins with '%s'", hex);
		return wr_err_hint(err, "give more digits: %s, %s", wr_id_hex(&u.id).s,
				   wr_id_hex(&u.other).s);
	}
	*out = u.id;
	return 0;
}
