/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verification in four steps: packs and their indexes; refs; the closure of the refs; and, if
 * something that is reached is lost, whom that hurts (hurt.c).
 *
 * The closure is a depth-first walk over commits and trees by all threads from one stack.  Every
 * tree is read and parsed once, a bit per object remembers it; blobs are looked up, not read (with
 * data, step one has read them).  Memory: the bits, the stack, and the maps of what is damaged.
 *
 * Lock: run->mutex guards the result, the map of lost objects and the callback; stack->mutex the
 * stack and the map of visited objects that lie in no pack.  They are never held together.
 */
#include "engine/repo/verify.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/object/tree.h"
#include "engine/repo/verify_int.h"
#include "sys/fs.h"
#include "sys/pool.h"

void
wr_verify_result_fini(struct wr_verify_result *v)
{
	for (size_t i = 0; i < v->damage_count; i++) {
		free(v->damage[i].where);
		free(v->damage[i].why);
	}
	for (size_t i = 0; i < v->hurt_count; i++) {
		free(v->hurt[i].snapshot);
		wr_buf_fini(&v->hurt[i].path);
	}
	free(v->damage);
	free(v->hurt);
	*v = (struct wr_verify_result){0};
}

bool
wr_verify_whole(const struct wr_verify_result *v)
{
	if (v->hurt_count || v->hurt_more)
		return false;
	for (size_t i = 0; i < v->damage_count; i++)
		if (v->damage[i].kind == WR_DAMAGE_MISSING || v->damage[i].kind == WR_DAMAGE_REF)
			return false;
	return true;
}

void
wr_marks_init(struct wr_marks *m, const struct wr_repo *r)
{
	uint64_t bits = wr_repo_ordinal_end(r);

	*m = (struct wr_marks){.bits = bits};
	m->word = wr_calloc((size_t)(bits / 64 + 1), sizeof(*m->word));
}

void
wr_marks_fini(struct wr_marks *m)
{
	free(m->word);
	m->word = NULL;
	wr_idmap_fini(&m->other);
}

static void
damage_locked(struct wr_verify_run *v, enum wr_damage_kind kind, const struct wr_id *id,
	      const char *where, const char *why)
{
	struct wr_verify_result *out = v->result;

	wr_grow(&out->damage, &out->damage_cap, out->damage_count + 1, sizeof(*out->damage));
	out->damage[out->damage_count++] =
	    (struct wr_damage){.kind = kind,
			       .id = id ? *id : (struct wr_id){{0}},
			       .where = where ? wr_strdup(where) : NULL,
			       .why = wr_strdup(why)};
}

static void
damage(struct wr_verify_run *v, enum wr_damage_kind kind, const struct wr_id *id, const char *where,
       const char *why)
{
	pthread_mutex_lock(&v->mutex);
	damage_locked(v, kind, id, where, why);
	pthread_mutex_unlock(&v->mutex);
}

/* ---- progress ---- */

static int
progress(void *ctx, uint64_t done)
{
	struct wr_verify_run *v = ctx;

	if (v->o->progress && !atomic_load(&v->cancelled) &&
	    v->o->progress(v->o->ctx, WR_MIN(v->done_before + done, v->o->total_bytes)) != 0)
		atomic_store(&v->cancelled, true);
	return atomic_load(&v->cancelled);
}

static int
cancelled(struct wr_err *err)
{
	return wr_err_set(err, WR_E_CANCELLED, "cancelled");
}

/* ---- packs ---- */

struct pack_check {
	struct wr_verify_run *run;
	const char *file; /* with suffix */
	uint64_t bad;
	bool told; /* something about the pack as a whole */
};

static void
bad_object(void *ctx, const struct wr_id *id, const char *why)
{
	struct pack_check *c = ctx;
	bool ignored;

	pthread_mutex_lock(&c->run->mutex);
	if (id) {
		/* Whether another copy is good is asked when all packs are known. */
		*wr_idmap_put(&c->run->bad, id, &ignored) = WR_DAMAGE_BAD;
		damage_locked(c->run, WR_DAMAGE_BAD, id, c->file, why);
		c->bad++;
	} else {
		c->told = true;
		damage_locked(c->run, WR_DAMAGE_PACK, NULL, c->file, why);
	}
	pthread_mutex_unlock(&c->run->mutex);
}

static int
pack_progress(void *ctx, uint64_t done)
{
	return progress(((struct pack_check *)ctx)->run, done);
}

/* Does the pack end as the index says? */
static bool
same_trailer(const struct wr_pack *p, const struct wr_idx *idx)
{
	struct wr_id trailer, sum = wr_idx_pack_sum(idx);

	return p->size > WR_ID_LEN &&
	       wr_pread_full(p->fd, trailer.b, WR_ID_LEN, p->size - WR_ID_LEN) == WR_ID_LEN &&
	       wr_id_eq(&trailer, &sum);
}

/* A writer renames the pack, then its index: a moment later it is there. */
static bool
index_just_comes(const struct wr_verify_run *v, const char *idx_file)
{
	struct timespec nap = {0, 50000000};

	nanosleep(&nap, NULL);
	return faccessat(v->repo->pack_fd, idx_file, F_OK, 0) == 0;
}

/* Index against pack; *out_doubt: the objects must be read to tell which are good. */
static void
check_index(struct wr_verify_run *v, const struct wr_pack_ent *e, const struct wr_pack *p,
	    const struct pack_check *c, bool *out_doubt)
{
	WR_SCOPED(wr_freep) char *idx_file = wr_asprintf("%s.idx", e->name);
	struct wr_err why = WR_ERR_INIT;

	*out_doubt = e->idx.count != p->count || !same_trailer(p, &e->idx);
	if (wr_idx_check(&e->idx, p->size, &why) == 0)
		return;
	*out_doubt = true;
	if (wr_idx_check(&e->idx, UINT64_MAX, NULL) == 0)
		damage(v, WR_DAMAGE_PACK, NULL, c->file, "it is shorter than its index says");
	else
		damage(v, WR_DAMAGE_INDEX, NULL, idx_file, why.msg);
}

/* The index does not name this pack's trailer: which of the two is to blame? */
static void
blame_trailer(struct wr_verify_run *v, const struct wr_pack_ent *e, const struct pack_check *c)
{
	WR_SCOPED(wr_freep) char *idx_file = wr_asprintf("%s.idx", e->name);

	if (c->bad > e->idx.count / 2)
		damage(v, WR_DAMAGE_INDEX, NULL, idx_file, "it is the index of another pack");
	else if (!c->told)
		damage(v, WR_DAMAGE_PACK, NULL, c->file,
		       "its last bytes are not what its index says");
}

static int
check_open_pack(struct wr_verify_run *v, struct wr_pack_ent *e, const struct wr_pack *p,
		struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *pack_file = wr_asprintf("%s.pack", e->name);
	struct pack_check c = {.run = v, .file = pack_file};
	struct wr_err why = WR_ERR_INIT;
	bool doubt;

	if (!e->has_idx) {
		WR_SCOPED(wr_freep) char *idx_file = wr_asprintf("%s.idx", e->name);

		if (e->idx_key.ino == 0 && index_just_comes(v, idx_file))
			return 0;
		v->result->packs++;
		damage(v, e->idx_key.ino ? WR_DAMAGE_INDEX : WR_DAMAGE_UNINDEXED, NULL, idx_file,
		       e->idx_why);
		return 0;
	}
	v->result->packs++;
	v->result->objects += e->idx.count;
	check_index(v, e, p, &c, &doubt);
	v->done_before += e->idx.map_len;
	if (v->o->data || doubt) {
		v->result->bytes += p->size;
		if (wr_pack_verify(p, &e->idx, v->pool, bad_object, pack_progress, &c, &why) < 0) {
			if (atomic_load(&v->cancelled))
				return cancelled(err);
			damage(v, WR_DAMAGE_PACK, NULL, pack_file, why.msg);
		} else if (!same_trailer(p, &e->idx)) {
			blame_trailer(v, e, &c);
		}
	}
	wr_odb_forget_pages(e);
	if (v->o->data)
		v->done_before += p->size;
	return progress(v, 0) ? cancelled(err) : 0;
}

static int
check_pack(struct wr_verify_run *v, struct wr_pack_ent *e, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	const struct wr_pack *p = wr_odb_acquire(v->repo, e, &why);
	int rc;

	if (!p) {
		WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.pack", e->name);

		v->result->packs++;
		damage(v, WR_DAMAGE_PACK, NULL, file, why.msg);
		wr_grow(&v->broken, &v->broken_cap, v->broken_count + 1,
			sizeof(struct wr_pack_ent *));
		v->broken[v->broken_count++] = e;
		return 0;
	}
	rc = check_open_pack(v, e, p, err);
	wr_odb_release(v->repo, e);
	return rc;
}

/* Of each damaged copy: is there a good one elsewhere? */
static void
judge_bad(struct wr_verify_run *v)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf payload = WR_BUF_INIT;
	struct wr_idmap_slot *s;

	for (size_t i = 0; (s = wr_idmap_next(&v->bad, &i));)
		if (wr_repo_read(v->reader[0], &s->id, WR_OBJ_NONE, true, NULL, &payload, NULL) ==
		    0)
			s->value = WR_DAMAGE_SHADOWED;
	for (size_t i = 0; i < v->result->damage_count; i++) {
		struct wr_damage *d = &v->result->damage[i];

		if (d->kind == WR_DAMAGE_BAD)
			d->kind = (enum wr_damage_kind) * wr_idmap_find(&v->bad, &d->id);
	}
}

static int
check_packs(struct wr_verify_run *v, const struct wr_packset *s, struct wr_err *err)
{
	for (size_t i = 0; i < s->count; i++)
		if (check_pack(v, s->pack[i], err) < 0)
			return -1;
	for (size_t i = 0; i < s->orphan_count; i++) {
		WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.pack", s->orphan[i]);

		damage(v, WR_DAMAGE_PACK, NULL, file, "there is only an index of it");
	}
	judge_bad(v);
	return 0;
}

/* ---- closure ---- */

struct item {
	struct wr_id id;
	uint8_t type;
};

struct stack {
	struct wr_verify_run *run;
	pthread_mutex_t mutex; /* guards what follows, and marks.other */
	pthread_cond_t changed;
	struct item *item;
	size_t count, cap;
	unsigned working;
	struct wr_marks marks;
	uint64_t visited, visited_end; /* for the progress */
	uint64_t commits;
	uint64_t weight; /* bytes that the whole walk stands for */
};

/* What a thread gathers before it takes the mutex. */
struct visitor {
	struct stack *stack;
	struct wr_reader *rd;
	struct wr_buf payload; /* of the object whose entries are visited */
	struct wr_buf blob;
	struct item *found;
	size_t count, cap;
	uint64_t visited, commits;
};

static void
lose(struct wr_verify_run *v, const struct wr_id *id, enum wr_damage_kind kind, const char *why)
{
	uint64_t *known;
	bool is_new;

	pthread_mutex_lock(&v->mutex);
	*wr_idmap_put(&v->lost, id, &is_new) = kind;
	known = wr_idmap_find(&v->bad, id);
	if (is_new && !(known && *known == WR_DAMAGE_BAD))
		damage_locked(v, kind, id, NULL, why);
	pthread_mutex_unlock(&v->mutex);
}

static void
lose_unread(struct wr_verify_run *v, const struct wr_id *id, const struct wr_err *why)
{
	lose(v, id, why->code == WR_E_NOT_FOUND ? WR_DAMAGE_MISSING : WR_DAMAGE_BAD, why->msg);
}

static bool
is_broken(const struct wr_verify_run *v, const struct wr_pack_ent *e)
{
	for (size_t i = 0; i < v->broken_count; i++)
		if (v->broken[i] == e)
			return true;
	return false;
}

/* A blob outside the packs, or in one that cannot be opened: is it anywhere else? */
static void
check_stray_blob(struct visitor *w, const struct wr_id *id)
{
	struct wr_verify_run *v = w->stack->run;
	struct wr_err why = WR_ERR_INIT;
	enum wr_obj_type type;
	uint64_t size;
	int rc;

	if (v->o->data)
		rc = wr_repo_read(w->rd, id, WR_OBJ_BLOB, true, NULL, &w->blob, &why);
	else
		rc = wr_repo_stat_object(w->rd, id, &type, &size, &why);
	if (rc < 0)
		lose_unread(v, id, &why);
}

/* An object that something reaches; type NONE: a tag's target, of whatever type. */
static void
visit(struct visitor *w, const struct wr_id *id, enum wr_obj_type type)
{
	struct stack *st = w->stack;
	struct wr_verify_run *v = st->run;
	const struct wr_packset *s = atomic_load_explicit(&v->repo->set, memory_order_acquire);
	uint32_t pos;
	struct wr_pack_ent *e = wr_odb_find(v->repo, s, id, &pos);
	uint64_t ordinal = e ? e->base + pos : UINT64_MAX;
	bool is_new;

	if (ordinal < st->marks.bits) {
		uint64_t bit = UINT64_C(1) << (ordinal % 64);

		is_new = !(atomic_fetch_or_explicit(&st->marks.word[ordinal / 64], bit,
						    memory_order_relaxed) &
			   bit);
	} else {
		pthread_mutex_lock(&st->mutex);
		wr_idmap_put(&st->marks.other, id, &is_new);
		pthread_mutex_unlock(&st->mutex);
	}
	if (!is_new)
		return;
	w->visited++;
	if (type != WR_OBJ_BLOB) {
		wr_grow(&w->found, &w->cap, w->count + 1, sizeof(*w->found));
		w->found[w->count++] = (struct item){*id, (uint8_t)type};
	} else if (!e || (v->broken_count && is_broken(v, e))) {
		check_stray_blob(w, id);
	} else if (v->bad.count) {
		const uint64_t *kind = wr_idmap_find(&v->bad, id);

		if (kind && *kind == WR_DAMAGE_BAD)
			lose(v, id, WR_DAMAGE_BAD, "every copy is damaged");
	}
}

static int
open_commit(struct visitor *w, const struct wr_id *id, struct wr_err *err)
{
	struct wr_commit c = WR_COMMIT_INIT;

	if (wr_repo_read_commit(w->rd, id, &c, err) < 0)
		return -1;
	visit(w, &c.tree, WR_OBJ_TREE);
	for (size_t i = 0; i < c.parent_count; i++)
		visit(w, &c.parent[i], WR_OBJ_COMMIT);
	wr_commit_fini(&c);
	w->commits++;
	return 0;
}

static int
open_tree(struct visitor *w, const struct wr_id *id, struct wr_err *err)
{
	struct wr_tree_entry e;
	struct wr_rd rd;
	int rc;

	if (wr_repo_read(w->rd, id, WR_OBJ_TREE, true, NULL, &w->payload, err) < 0)
		return -1;
	if (wr_tree_check(w->payload.p, w->payload.len, err) < 0)
		return wr_err_wrap(err, "tree %s", wr_id_hex(id).s);
	rd = wr_rd(w->payload.p, w->payload.len);
	while ((rc = wr_tree_next(&rd, &e, err)) > 0) {
		uint32_t kind = e.mode & 0170000;

		if (kind == 0160000)
			continue; /* a submodule's commit lies elsewhere */
		visit(w, &e.id, kind == WR_MODE_TREE ? WR_OBJ_TREE : WR_OBJ_BLOB);
	}
	return rc;
}

static int
open_tag(struct visitor *w, const struct wr_id *id, struct wr_err *err)
{
	struct wr_id target;
	enum wr_obj_type type;

	if (wr_repo_read(w->rd, id, WR_OBJ_TAG, true, NULL, &w->payload, err) < 0)
		return -1;
	/* "object <id>\ntype <name>\n" */
	if (w->payload.len < 53 || memcmp(w->payload.p, "object ", 7) != 0 ||
	    !wr_id_parse((const char *)w->payload.p + 7, &target) ||
	    memcmp(w->payload.p + 47, "\ntype ", 6) != 0)
		return wr_err_set(err, WR_E_CORRUPT, "tag %s names no object", wr_id_hex(id).s);
	type = wr_obj_type_parse((const char *)w->payload.p + 53,
				 strcspn((const char *)w->payload.p + 53, "\n"));
	visit(w, &target, type);
	return 0;
}

/* What a ref or a tag leads to; its type is in doubt. */
static int
open_any(struct visitor *w, const struct wr_id *id, struct wr_err *err)
{
	enum wr_obj_type type;
	uint64_t size;

	if (wr_repo_stat_object(w->rd, id, &type, &size, err) < 0)
		return -1;
	switch (type) {
	case WR_OBJ_COMMIT:
		return open_commit(w, id, err);
	case WR_OBJ_TREE:
		return open_tree(w, id, err);
	case WR_OBJ_TAG:
		return open_tag(w, id, err);
	default:
		return wr_repo_read(w->rd, id, WR_OBJ_NONE, true, NULL, &w->payload, err);
	}
}

static void
open_item(struct visitor *w, const struct item *it)
{
	struct wr_err why = WR_ERR_INIT;
	int rc;

	switch (it->type) {
	case WR_OBJ_COMMIT:
		rc = open_commit(w, &it->id, &why);
		break;
	case WR_OBJ_TREE:
		rc = open_tree(w, &it->id, &why);
		break;
	case WR_OBJ_TAG:
		rc = open_tag(w, &it->id, &why);
		break;
	default:
		rc = open_any(w, &it->id, &why);
	}
	if (rc < 0)
		lose_unread(w->stack->run, &it->id, &why);
}

/* Hand in what was found; the mutex is held. */
static void
hand_in_locked(struct stack *st, struct visitor *w)
{
	if (w->count) {
		wr_grow(&st->item, &st->cap, st->count + w->count, sizeof(*st->item));
		memcpy(st->item + st->count, w->found, w->count * sizeof(*w->found));
		st->count += w->count;
		w->count = 0;
		pthread_cond_broadcast(&st->changed);
	}
	st->visited += w->visited;
	st->commits += w->commits;
	w->visited = w->commits = 0;
}

static void
tell_walk(struct stack *st, uint64_t visited)
{
	double share = (double)visited / (double)WR_MAX(st->visited_end, UINT64_C(1));

	pthread_mutex_lock(&st->run->mutex);
	progress(st->run, (uint64_t)(WR_MIN(share, 1.0) * (double)st->weight));
	pthread_mutex_unlock(&st->run->mutex);
}

/* Take from the stack until nothing is left and nobody can add to it. */
static void
walk(struct stack *st, struct visitor *w)
{
	pthread_mutex_lock(&st->mutex);
	for (;;) {
		struct item batch[16];
		uint64_t visited;
		size_t n;

		while (st->count == 0 && st->working > 0)
			pthread_cond_wait(&st->changed, &st->mutex);
		if (st->count == 0 || atomic_load(&st->run->cancelled))
			break;
		/* Few when there are few: the others want work too. */
		n = WR_MIN(WR_ARRAY_LEN(batch), (st->count + 3) / 4);
		st->count -= n;
		memcpy(batch, st->item + st->count, n * sizeof(*batch));
		st->working++;
		pthread_mutex_unlock(&st->mutex);
		for (size_t i = n; i-- > 0;)
			open_item(w, &batch[i]);
		pthread_mutex_lock(&st->mutex);
		visited = st->visited / 4096;
		hand_in_locked(st, w);
		st->working--;
		if (st->visited / 4096 != visited) {
			visited = st->visited;
			pthread_mutex_unlock(&st->mutex);
			tell_walk(st, visited);
			pthread_mutex_lock(&st->mutex);
		}
	}
	st->count = 0; /* cancelled */
	pthread_cond_broadcast(&st->changed);
	pthread_mutex_unlock(&st->mutex);
}

static void
walk_range(void *ctx, size_t lo, size_t hi)
{
	struct stack *st = ctx;
	struct wr_verify_run *v = st->run;
	struct visitor w = {.stack = st, .rd = v->reader[wr_pool_self(v->pool)]};

	for (size_t i = lo; i < hi; i++)
		walk(st, &w);
	wr_buf_fini(&w.payload);
	wr_buf_fini(&w.blob);
	free(w.found);
}

static int
check_closure(struct wr_verify_run *v, uint64_t weight, struct wr_err *err)
{
	struct stack st = {.run = v, .weight = weight, .visited_end = v->result->objects};
	struct visitor w = {.stack = &st, .rd = v->reader[0]};

	pthread_mutex_init(&st.mutex, NULL);
	pthread_cond_init(&st.changed, NULL);
	wr_marks_init(&st.marks, v->repo);
	for (size_t i = 0; i < v->refs.count; i++)
		if (!wr_id_is_zero(&v->refs.ref[i].id))
			visit(&w, &v->refs.ref[i].id, WR_OBJ_NONE);
	hand_in_locked(&st, &w);
	wr_pool_for(v->pool, wr_pool_threads(v->pool), 1, 1, walk_range, &st);
	v->result->snapshots = st.commits;
	v->done_before += weight;
	wr_buf_fini(&w.payload);
	wr_buf_fini(&w.blob);
	free(w.found);
	free(st.item);
	wr_marks_fini(&st.marks);
	pthread_cond_destroy(&st.changed);
	pthread_mutex_destroy(&st.mutex);
	return atomic_load(&v->cancelled) ? cancelled(err) : 0;
}

/* ---- refs ---- */

static int
load_refs(struct wr_verify_run *v, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	struct wr_id id;

	if (wr_refs_list_lenient(v->repo, "refs/", &v->refs, &why, err) < 0)
		return -1;
	if (why.code != WR_E_NONE)
		damage(v, WR_DAMAGE_REF, NULL, "packed-refs", why.msg);
	/* A HEAD that names a branch not yet born is fine. */
	if (wr_ref_read(v->repo, "HEAD", &id, &why) < 0 && why.code == WR_E_CORRUPT)
		damage(v, WR_DAMAGE_REF, NULL, "HEAD", why.msg);
	for (size_t i = 0; i < v->refs.count; i++) {
		const struct wr_ref *ref = &v->refs.ref[i];

		if (!wr_id_is_zero(&ref->id))
			continue;
		if (wr_ref_read(v->repo, ref->name, &id, &why) == 0)
			snprintf(why.msg, sizeof(why.msg), "it holds no object's id");
		damage(v, WR_DAMAGE_REF, NULL, ref->name, why.msg);
	}
	v->result->refs = v->refs.count;
	return 0;
}

/* After the closure: refs whose very target is lost. */
static void
judge_refs(struct wr_verify_run *v)
{
	for (size_t i = 0; i < v->refs.count; i++) {
		const struct wr_ref *ref = &v->refs.ref[i];
		const uint64_t *kind = wr_idmap_find(&v->lost, &ref->id);

		if (!kind)
			continue;
		WR_SCOPED(wr_freep)
		char *why = wr_asprintf("object %s is %s", wr_id_hex(&ref->id).s,
					*kind == WR_DAMAGE_MISSING ? "missing" : "damaged");
		damage(v, WR_DAMAGE_REF, NULL, ref->name, why);
	}
}

/* ---- all ---- */

static uint64_t
file_size(int dirfd, const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, 0) < 0 ? 0 : (uint64_t)st.st_size;
}

static int
run_steps(struct wr_verify_run *v, struct wr_err *err)
{
	const struct wr_packset *s;
	uint64_t idx_bytes = 0, pack_bytes = 0;

	if (wr_repo_refresh(v->repo, err) < 0)
		return -1;
	s = atomic_load_explicit(&v->repo->set, memory_order_acquire);
	for (size_t i = 0; i < s->count; i++) {
		WR_SCOPED(wr_freep) char *file = wr_asprintf("%s.pack", s->pack[i]->name);

		idx_bytes += s->pack[i]->has_idx ? s->pack[i]->idx.map_len : 0;
		pack_bytes += file_size(v->repo->pack_fd, file);
	}
	/* The walk over the closure costs about what the indexes weigh. */
	v->o->total_bytes = 2 * idx_bytes + (v->o->data ? pack_bytes : 0);
	if (check_packs(v, s, err) < 0 || load_refs(v, err) < 0 ||
	    check_closure(v, idx_bytes, err) < 0)
		return -1;
	judge_refs(v);
	if (v->lost.count && wr_verify_hurt(v, err) < 0)
		return -1;
	v->done_before = v->o->total_bytes;
	(void)progress(v, 0); /* too late to cancel */
	return 0;
}

int
wr_verify(struct wr_repo *r, struct wr_verify_opts *o, struct wr_verify_result *out,
	  struct wr_err *err)
{
	WR_SCOPED(wr_verify_result_fini) struct wr_verify_result result = {0};
	struct wr_verify_run v = {.repo = r, .o = o, .result = &result};
	unsigned threads;
	int rc;

	v.pool = wr_pool_new(o->threads);
	threads = wr_pool_threads(v.pool);
	v.reader = wr_calloc(threads, sizeof(struct wr_reader *));
	for (unsigned i = 0; i < threads; i++)
		v.reader[i] = wr_reader_new(r);
	pthread_mutex_init(&v.mutex, NULL);
	rc = run_steps(&v, err);
	pthread_mutex_destroy(&v.mutex);
	wr_pool_free(v.pool);
	for (unsigned i = 0; i < threads; i++)
		wr_reader_free(v.reader[i]);
	free(v.reader);
	free(v.broken);
	wr_refs_fini(&v.refs);
	wr_idmap_fini(&v.bad);
	wr_idmap_fini(&v.lost);
	if (rc < 0)
		return wr_err_wrap(err, "verify repository '%s'", WR_Q(wr_repo_path(r)));
	*out = result;
	result = (struct wr_verify_result){0};
	return 0;
}
