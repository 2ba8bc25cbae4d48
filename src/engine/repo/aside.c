/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packs that are damaged go out of the way, once nothing that is needed lies in them alone.
 *
 *   what they alone still have good -> a new pack -> midx away -> pack aside -> its index aside
 *
 * Aside is REPO/warren/aside/SECONDS-pack-HEX.{pack,idx}; a kill leaves at worst an index without
 * its pack, which the next one takes aside.  A pack that was replaced meanwhile by one of the same
 * name (and so the same content, whole) stays.
 */
#include "engine/repo/verify.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/repo/repo_int.h"
#include "engine/repo/sink.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define ASIDE "warren/aside"
#define LEVEL 1

struct bad {
	const char *name;
	struct wr_pack_ent *e; /* NULL: only an index, or nothing */
	ino_t ino;             /* 0: there is no pack */
};

static ino_t
pack_ino(struct wr_repo *r, const char *name)
{
	WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.pack", name);
	struct stat st;

	return fstatat(r->pack_fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_ino;
}

static bool
is_bad(const struct bad *b, size_t count, const struct wr_pack_ent *e)
{
	for (size_t i = 0; i < count; i++)
		if (b[i].e == e)
			return true;
	return false;
}

static bool
in_good_pack(const struct wr_packset *s, const struct bad *b, size_t count, const struct wr_id *id)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->pack[i]->has_idx && wr_idx_find(&s->pack[i]->idx, id) >= 0 &&
		    !is_bad(b, count, s->pack[i]))
			return true;
	return false;
}

/* ---- what is in them alone ---- */

static bool
is_wanted(void *ctx, const struct wr_id *id)
{
	return wr_idmap_find(ctx, id) != NULL;
}

static void
find_alone(const struct wr_packset *s, const struct bad *b, size_t count,
	   const struct wr_idmap *needed, struct wr_idmap *out)
{
	bool fresh;

	for (size_t i = 0; i < count; i++)
		for (uint32_t k = 0; b[i].e && b[i].e->has_idx && k < b[i].e->idx.count; k++) {
			struct wr_id id = wr_idx_id(&b[i].e->idx, k);

			if (wr_idmap_find(needed, &id) && !in_good_pack(s, b, count, &id))
				(void)wr_idmap_put(out, &id, &fresh);
		}
}

static int
put_all(struct wr_repo *r, struct wr_sink *sink, struct wr_idmap *alone, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_reader *rd = wr_reader_new(r);
	struct wr_idmap_slot *slot;
	int rc = 0;

	for (size_t i = 0; rc == 0 && (slot = wr_idmap_next(alone, &i));) {
		enum wr_obj_type type;
		struct wr_id id;

		rc = wr_repo_read(rd, &slot->id, WR_OBJ_NONE, true, &type, &b, err);
		if (rc == 0)
			rc = wr_sink_put(sink, 0, type, b.p, b.len, &id, err);
	}
	wr_reader_free(rd);
	return rc;
}

static int
store_again(struct wr_repo *r, struct wr_idmap *alone, struct wr_err *err)
{
	struct wr_sink_opts o = {.level = LEVEL, .threads = 1, .damaged = is_wanted, .ctx = alone};
	struct wr_sink_stats stats;
	struct wr_sink *sink;

	if (!alone->count)
		return 0;
	sink = wr_sink_open(r, &o, err);
	if (!sink)
		return -1;
	if (put_all(r, sink, alone, err) < 0) {
		wr_sink_abort(sink);
		return -1;
	}
	return wr_sink_commit(sink, &stats, err);
}

/* ---- aside ---- */

static int
move(struct wr_repo *r, int to, const char *name, const char *suffix, int64_t now,
     struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.%s", name, suffix);
	WR_SCOPED(wr_freep)
	char *as = wr_asprintf("%" PRId64 "-%s.%s", now, name, suffix);

	if (renameat(r->pack_fd, file, to, as) < 0 && errno != ENOENT)
		return wr_err_sys(err, "set '%s' aside", WR_Q(file));
	return 0;
}

static int
move_all(struct wr_repo *r, const struct bad *b, size_t count, int64_t now, size_t *out_moved,
	 struct wr_err *err)
{
	WR_SCOPED(wr_closep) int to = -1;

	if ((mkdirat(r->fd, "warren", 0777) < 0 && errno != EEXIST) ||
	    (mkdirat(r->fd, ASIDE, 0777) < 0 && errno != EEXIST))
		return wr_err_sys(err, "make directory '" ASIDE "'");
	to = wr_open_dir(r->fd, ASIDE);
	if (to < 0)
		return wr_err_sys(err, "open directory '" ASIDE "'");
	if (wr_repo_drop_midx(r, err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (pack_ino(r, b[i].name) != b[i].ino)
			continue;
		if (move(r, to, b[i].name, "pack", now, err) < 0)
			return -1;
		wr_crash_point("aside.pack");
		if (move(r, to, b[i].name, "idx", now, err) < 0)
			return -1;
		++*out_moved;
	}
	if (wr_fsync_dir(to, ".", err) < 0 || wr_fsync_dir(r->pack_fd, ".", err) < 0)
		return -1;
	wr_crash_point("aside.moved");
	return 0;
}

int
wr_repo_set_aside(struct wr_repo *r, const char *const *pack, size_t count,
		  const struct wr_idmap *needed, int64_t now, size_t *out_moved, struct wr_err *err)
{
	WR_SCOPED(wr_freep) struct bad *b = wr_calloc(count + 1, sizeof(*b));
	struct wr_idmap alone = WR_IDMAP_INIT;
	const struct wr_packset *s;
	int rc;

	wr_assert(wr_repo_locked(r));
	*out_moved = 0;
	if (wr_repo_refresh(r, err) < 0)
		return -1;
	s = atomic_load_explicit(&r->set, memory_order_acquire);
	for (size_t i = 0; i < count; i++) {
		b[i] = (struct bad){.name = pack[i], .ino = pack_ino(r, pack[i])};
		for (size_t k = 0; k < s->count; k++)
			if (!strcmp(s->pack[k]->name, pack[i]))
				b[i].e = s->pack[k];
	}
	find_alone(s, b, count, needed, &alone);
	rc = store_again(r, &alone, err);
	wr_idmap_fini(&alone);
	if (rc < 0)
		return wr_err_wrap(err, "store again what damaged packs still have");
	wr_crash_point("aside.stored");
	if (move_all(r, b, count, now, out_moved, err) < 0)
		return -1;
	return wr_repo_refresh(r, err);
}

int
wr_repo_drop_aside(struct wr_repo *r, int64_t now, int64_t floor_s, struct wr_err *err)
{
	int fd = floor_s < 0 ? -1 : wr_open_dir(r->fd, ASIDE);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		wr_closep(&fd);
		return 0; /* there is nothing aside */
	}
	while (rc == 0 && (e = readdir(d))) {
		char *end;
		int64_t since = strtoll(e->d_name, &end, 10);

		if (end == e->d_name || *end != '-' || since + floor_s >= now)
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) < 0 && errno != ENOENT)
			rc = wr_err_sys(err, "remove '" ASIDE "/%s'", WR_Q(e->d_name));
	}
	closedir(d);
	return rc;
}
