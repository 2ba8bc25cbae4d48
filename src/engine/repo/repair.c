/* SPDX-License-Identifier: Apache-2.0 */
/* Rebuilding the indexes of packs: only what is derived is replaced, a pack is never touched. */
#include "engine/repo/verify.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/repo/repo_int.h"
#include "sys/fs.h"
#include "sys/pool.h"

struct count {
	uint64_t bad;
};

static void
count_bad(void *ctx, const struct wr_id *id, const char *why)
{
	(void)why;
	((struct count *)ctx)->bad += id != NULL; /* NULL: only the trailer is wrong */
}

/* Is the index fit for use? */
static bool
index_ok(const struct wr_pack_ent *e, const struct wr_pack *p)
{
	struct wr_id trailer, sum;
	struct wr_pool *pool;
	struct count c = {0};
	int rc;

	if (!e->has_idx || wr_idx_check(&e->idx, p->size, NULL) < 0 || e->idx.count != p->count)
		return false;
	sum = wr_idx_pack_sum(&e->idx);
	if (wr_pread_full(p->fd, trailer.b, WR_ID_LEN, p->size - WR_ID_LEN) == WR_ID_LEN &&
	    wr_id_eq(&trailer, &sum))
		return true;
	/* Either the pack's end is damaged or this is the index of another pack; if the objects are
	 * where it says, it is the former, and a new index would be no better. */
	pool = wr_pool_new(0);
	rc = wr_pack_verify(p, &e->idx, pool, count_bad, NULL, &c, NULL);
	wr_pool_free(pool);
	return rc == 0 && c.bad == 0;
}

/* Multi-indexes repeat what indexes say: they go before an index changes. */
int
wr_repo_drop_midx(struct wr_repo *r, struct wr_err *err)
{
	int fd = openat(r->pack_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		wr_err_sys(err, "read directory 'objects/pack'");
		wr_closep(&fd);
		return -1;
	}
	while (rc == 0 && (e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (n > 5 && !strcmp(e->d_name + n - 5, ".midx") &&
		    unlinkat(r->pack_fd, e->d_name, 0) < 0 && errno != ENOENT)
			rc = wr_err_sys(err, "remove '%s'", WR_Q(e->d_name));
	}
	closedir(d);
	return rc < 0 ? -1 : wr_fsync_dir(r->pack_fd, ".", err);
}

/* 1 = rebuilt, 0 = nothing to do or nothing that could be done, -1. */
static int
repair_one(struct wr_repo *r, struct wr_pack_ent *e, const struct wr_pack *p, bool midx_gone,
	   struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf idx = WR_BUF_INIT;
	WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.idx", e->name);
	struct count c = {0};

	/* What of the pack cannot be read is verify's to tell. */
	if (index_ok(e, p) || wr_pack_index(p, &idx, count_bad, &c, NULL) < 0)
		return 0;
	if (!midx_gone && wr_repo_drop_midx(r, err) < 0)
		return -1;
	if (wr_replace_file(r->pack_fd, file, idx.p, idx.len, 0444, err) < 0)
		return -1;
	return 1;
}

int
wr_repair_indexes(struct wr_repo *r, uint64_t *out_rebuilt, struct wr_err *err)
{
	const struct wr_packset *s;
	uint64_t rebuilt = 0;
	int rc = 0;

	wr_assert(r->lock.fd >= 0);
	if (wr_repo_refresh(r, err) < 0)
		return -1;
	s = atomic_load_explicit(&r->set, memory_order_acquire);
	for (size_t i = 0; i < s->count && rc >= 0; i++) {
		const struct wr_pack *p = wr_odb_acquire(r, s->pack[i], NULL);

		if (!p)
			continue;
		rc = repair_one(r, s->pack[i], p, rebuilt > 0, err);
		wr_odb_release(r, s->pack[i]);
		rebuilt += rc > 0;
	}
	if (rc < 0)
		return wr_err_wrap(err, "rebuild indexes");
	if (rebuilt && wr_repo_refresh(r, err) < 0)
		return -1;
	*out_rebuilt = rebuilt;
	return 0;
}
