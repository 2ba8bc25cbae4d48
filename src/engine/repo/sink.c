/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many threads put, one pack is open at a time.
 *
 *   put: hash; known? done.  Under the gate (shared): reserve the id, compress, append.
 *   rollover: under the gate (alone): publish the pack, forget the reservations.
 *
 * A thread that meets a reserved id returns at once, and may append a parent before the child it
 * did not wait for.  As no pack is published while a reservation is open, both end up in the same
 * pack; and if the child's append fails, the sink is poisoned and that pack is never published.
 *
 * Lock order: gate, map_mutex; gate, pack_mutex.
 */
#include "engine/repo/sink.h"

#include <pthread.h>
#include <stdatomic.h>

#include "engine/pack/pack.h"
#include "sys/crash.h"

/* LIMIT: ids a dry run remembers; beyond, what it sees again it counts again. */
#define DRY_IDS_MAX ((size_t)1 << 20)

struct worker {
	struct wr_deflater *deflater;
	struct wr_buf z;
	char pad[64]; /* keeps neighbours out of each other's cache lines */
};

struct wr_sink {
	struct wr_repo *repo;
	struct wr_sink_opts o;
	struct worker *worker;
	uint64_t bytes_max, count_max; /* of a pack */

	pthread_rwlock_t gate;

	pthread_mutex_t map_mutex;
	struct wr_idmap map;      /* guarded by map_mutex: ids of this pack, also reserved ones */
	struct wr_idmap restored; /* guarded by map_mutex: damaged ids that were put again */

	pthread_mutex_t pack_mutex; /* guards what follows */
	struct wr_packw *pack;      /* NULL: none open */
	struct wr_sink_stats stats;
	struct wr_err failure;

	atomic_bool poisoned;
	atomic_bool full; /* the open pack has reached its size */
	atomic_uint rollovers;
};

struct wr_sink *
wr_sink_open(struct wr_repo *r, const struct wr_sink_opts *o, struct wr_err *err)
{
	struct wr_sink *s;
	pthread_rwlockattr_t attr;

	if (o->level < 0 || o->level > 3) {
		wr_err_set(err, WR_E_INVALID, "compression level %d is not 0 to 3", o->level);
		return NULL;
	}
	s = wr_calloc(1, sizeof(*s));
	s->repo = r;
	s->o = *o;
	if (s->o.threads == 0)
		s->o.threads = 1;
	s->bytes_max = wr_repo_config(r)->pack_size_limit;
	s->count_max = WR_MAX(s->bytes_max / 5000, UINT64_C(1));
	s->worker = wr_calloc(s->o.threads, sizeof(*s->worker));
	for (unsigned i = 0; i < s->o.threads && !o->dry_run; i++)
		s->worker[i].deflater = wr_deflater_new(o->level);
	pthread_rwlockattr_init(&attr);
	/* Otherwise a steady stream of puts could keep the rollover out for ever. */
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&s->gate, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&s->map_mutex, NULL);
	pthread_mutex_init(&s->pack_mutex, NULL);
	return s;
}

static void
sink_free(struct wr_sink *s)
{
	wr_packw_abort(s->pack);
	for (unsigned i = 0; i < s->o.threads; i++) {
		wr_deflater_free(s->worker[i].deflater);
		wr_buf_fini(&s->worker[i].z);
	}
	free(s->worker);
	wr_idmap_fini(&s->map);
	wr_idmap_fini(&s->restored);
	pthread_rwlock_destroy(&s->gate);
	pthread_mutex_destroy(&s->map_mutex);
	pthread_mutex_destroy(&s->pack_mutex);
	free(s);
}

/* The first failure is what every later call reports. */
static int
poison_locked(struct wr_sink *s, const struct wr_err *err)
{
	if (!atomic_exchange(&s->poisoned, true))
		s->failure = *err;
	return -1;
}

static int
poisoned(struct wr_sink *s, struct wr_err *err)
{
	pthread_mutex_lock(&s->pack_mutex);
	if (err)
		*err = s->failure;
	pthread_mutex_unlock(&s->pack_mutex);
	return -1;
}

static bool
in_map(struct wr_sink *s, const struct wr_idmap *map, const struct wr_id *id)
{
	bool found;

	pthread_mutex_lock(&s->map_mutex);
	found = wr_idmap_find(map, id);
	pthread_mutex_unlock(&s->map_mutex);
	return found;
}

static bool
is_damaged(struct wr_sink *s, const struct wr_id *id)
{
	return s->o.damaged && s->o.damaged(s->o.ctx, id);
}

static bool
in_repo(struct wr_sink *s, const struct wr_id *id)
{
	if (s->o.only_damaged && !is_damaged(s, id))
		return true;
	return wr_repo_has(s->repo, id) && (!is_damaged(s, id) || in_map(s, &s->restored, id));
}

bool
wr_sink_has(struct wr_sink *s, const struct wr_id *id)
{
	return in_map(s, &s->map, id) || in_repo(s, id);
}

/* True if id was not there. */
static bool
reserve(struct wr_sink *s, const struct wr_id *id)
{
	bool damaged = is_damaged(s, id), is_new, ignored;

	pthread_mutex_lock(&s->map_mutex);
	if (s->o.dry_run && s->map.count >= DRY_IDS_MAX)
		wr_idmap_fini(&s->map);
	wr_idmap_put(&s->map, id, &is_new);
	if (damaged)
		wr_idmap_put(&s->restored, id, &ignored);
	pthread_mutex_unlock(&s->map_mutex);
	return is_new;
}

static void
count_locked(struct wr_sink *s, size_t raw, uint64_t stored)
{
	s->stats.objects_new++;
	s->stats.raw_new += raw;
	s->stats.bytes_new += stored;
}

static int
append(struct wr_sink *s, const struct wr_buf *z, enum wr_obj_type type, const struct wr_id *id,
       size_t len, uint64_t *counter, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	uint64_t before;
	int rc = -1;

	pthread_mutex_lock(&s->pack_mutex);
	if (atomic_load(&s->poisoned)) {
		if (err)
			*err = s->failure;
		goto out;
	}
	if (!s->pack) {
		s->pack = wr_packw_open(wr_repo_objects_fd(s->repo), &why);
		if (!s->pack)
			goto fail;
	}
	before = wr_packw_bytes(s->pack);
	if (wr_packw_add(s->pack, type, id, len, z->p, z->len, &why) < 0)
		goto fail;
	count_locked(s, len, wr_packw_bytes(s->pack) - before);
	if (counter)
		__atomic_fetch_add(counter, wr_packw_bytes(s->pack) - before, __ATOMIC_RELAXED);
	if (wr_packw_bytes(s->pack) >= s->bytes_max || wr_packw_count(s->pack) >= s->count_max)
		atomic_store(&s->full, true);
	rc = 0;
	goto out;
fail:
	wr_err_wrap(&why, "store object %s", wr_id_hex(id).s);
	poison_locked(s, &why);
	if (err)
		*err = why;
out:
	pthread_mutex_unlock(&s->pack_mutex);
	return rc;
}

/* Publish the open pack. Nobody else may be in a put: the gate is held alone, or all is over. */
static int
publish(struct wr_sink *s, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = NULL;
	struct wr_err why = WR_ERR_INIT;
	int rc = 0;

	pthread_mutex_lock(&s->pack_mutex);
	if (atomic_load(&s->poisoned)) {
		if (err)
			*err = s->failure;
		rc = -1;
	} else if (s->pack && (wr_packw_commit(wr_steal(&s->pack), &name, &why) < 0)) {
		wr_err_wrap(&why, "publish pack");
		rc = poison_locked(s, &why);
		if (err)
			*err = why;
	} else if (name) {
		s->stats.packs++;
		wr_crash_point("sink.rollover");
		if (wr_repo_refresh(s->repo, &why) < 0) {
			wr_err_wrap(&why, "find the new pack");
			rc = poison_locked(s, &why);
			if (err)
				*err = why;
		}
	}
	pthread_mutex_unlock(&s->pack_mutex);
	return rc;
}

static int
roll_over(struct wr_sink *s, struct wr_err *err)
{
	int rc = 0;

	pthread_rwlock_wrlock(&s->gate);
	/* Several threads may have seen the same pack full. */
	if (atomic_load(&s->full)) {
		rc = publish(s, err);
		atomic_store(&s->full, false);
		atomic_fetch_add(&s->rollovers, 1);
		pthread_mutex_lock(&s->map_mutex);
		wr_idmap_fini(&s->map);
		pthread_mutex_unlock(&s->map_mutex);
	}
	pthread_rwlock_unlock(&s->gate);
	return rc;
}

int
wr_sink_put(struct wr_sink *s, unsigned thread, enum wr_obj_type type, const void *p, size_t len,
	    struct wr_id *out, struct wr_err *err)
{
	return wr_sink_put_counted(s, thread, type, p, len, out, NULL, err);
}

int
wr_sink_put_counted(struct wr_sink *s, unsigned thread, enum wr_obj_type type, const void *p,
		    size_t len, struct wr_id *out, uint64_t *counter, struct wr_err *err)
{
	struct worker *w = &s->worker[thread];
	struct wr_id id = wr_obj_id(type, p, len);
	unsigned rollovers = atomic_load(&s->rollovers);
	int rc = 0;

	wr_assert(thread < s->o.threads);
	if (atomic_load(&s->poisoned))
		return poisoned(s, err);
	if (wr_sink_has(s, &id)) {
		*out = id;
		return 0;
	}
	if (s->o.dry_run) {
		if (reserve(s, &id)) {
			pthread_mutex_lock(&s->pack_mutex);
			count_locked(s, len, 0);
			pthread_mutex_unlock(&s->pack_mutex);
		}
		*out = id;
		return 0;
	}
	pthread_rwlock_rdlock(&s->gate);
	/* A rollover in between has moved ids from the session to the repository. */
	if ((rollovers == atomic_load(&s->rollovers) || !in_repo(s, &id)) && reserve(s, &id)) {
		wr_buf_clear(&w->z);
		wr_deflate(w->deflater, p, len, &w->z);
		rc = append(s, &w->z, type, &id, len, counter, err);
	}
	pthread_rwlock_unlock(&s->gate);
	if (rc == 0 && atomic_load(&s->full))
		rc = roll_over(s, err);
	if (rc == 0)
		*out = id;
	return rc;
}

void
wr_sink_stats(const struct wr_sink *s, struct wr_sink_stats *out)
{
	pthread_mutex_t *m = (pthread_mutex_t *)(uintptr_t)&s->pack_mutex;

	pthread_mutex_lock(m);
	*out = s->stats;
	pthread_mutex_unlock(m);
}

int
wr_sink_commit(struct wr_sink *s, struct wr_sink_stats *out, struct wr_err *err)
{
	int rc = publish(s, err);

	if (rc == 0 && out)
		*out = s->stats;
	sink_free(s);
	return rc;
}

void
wr_sink_abort(struct wr_sink *s)
{
	if (s)
		sink_free(s);
}
