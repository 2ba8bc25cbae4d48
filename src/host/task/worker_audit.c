/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AUDIT: is a copy whole, and what exactly does it hold?  The manifest is the same wherever the
 * same refs reach the same objects, however they are packed: copies are compared by it.  Behind all
 * else on the machine, and with the contents read at no more than the given rate.
 */
#include "host/task/worker_int.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/object/tree.h"
#include "engine/repo/repo.h"
#include "engine/repo/verify.h"
#include "fleet/record/record.h"
#include "fleet/sync/sync.h"
#include "sys/clock.h"

#define DAMAGE_MAX 20 /* LIMIT of what is told */
#define IOPRIO_IDLE (3 << 13)
#define IOPRIO_LEAST (2 << 13 | 7) /* of those that share */

/* ---- behind all else ---- */

void
wr_worker_step_back(void)
{
	/* Where that is refused it is only less polite. */
	(void)setpriority(PRIO_PROCESS, 0, 19);
	(void)syscall(SYS_ioprio_set, 1, 0, IOPRIO_IDLE);
}

void
wr_worker_step_aside(void)
{
	(void)setpriority(PRIO_PROCESS, 0, 10); /* likewise */
	(void)syscall(SYS_ioprio_set, 1, 0, IOPRIO_LEAST);
}

struct pace {
	uint64_t rate, began_ns;
	const struct wr_verify_opts *vo;
};

static int
on_progress(void *ctx, uint64_t bytes)
{
	const struct pace *p = ctx;
	uint64_t due_ns = p->rate ? bytes * 1000 / p->rate * 1000000u : 0,
		 now_ns = wr_clock_mono_ns() - p->began_ns;

	wr_worker_progress(NULL, "audit", 0, 0, bytes, p->vo->total_bytes);
	if (due_ns > now_ns) {
		uint64_t wait = WR_MIN(due_ns - now_ns, UINT64_C(1000000000));
		struct timespec t = {.tv_sec = (time_t)(wait / 1000000000u),
				     .tv_nsec = (long)(wait % 1000000000u)};

		(void)nanosleep(&t, NULL);
	}
	return 0;
}

/* ---- the manifest ---- */

struct manifest {
	struct wr_reader *rd;
	struct wr_idmap seen;
	struct wr_id *todo;
	size_t todo_count, todo_cap;
	struct wr_buf buf;
	struct wr_digest fold;
};

/* Objects come in any order: their digests are folded into one. */
static void
meet(struct manifest *m, const struct wr_id *id, bool enter)
{
	struct wr_digest d;
	bool fresh;

	(void)wr_idmap_put(&m->seen, id, &fresh);
	if (!fresh)
		return;
	d = wr_digest_of(id->b, sizeof(id->b));
	for (size_t i = 0; i < sizeof(d.b); i++)
		m->fold.b[i] ^= d.b[i];
	if (!enter)
		return;
	wr_grow(&m->todo, &m->todo_cap, m->todo_count + 1, sizeof(*m->todo));
	m->todo[m->todo_count++] = *id;
}

static int
enter_tree(struct manifest *m, struct wr_err *err)
{
	struct wr_rd rd = wr_rd(m->buf.p, m->buf.len);
	struct wr_tree_entry e;
	int rc;

	while ((rc = wr_tree_next(&rd, &e, err)) > 0)
		if ((e.mode & 0170000) != 0160000)
			meet(m, &e.id, e.mode == WR_MODE_TREE);
	return rc;
}

static int
enter(struct manifest *m, const struct wr_id *id, struct wr_err *err)
{
	struct wr_commit c = WR_COMMIT_INIT;
	enum wr_obj_type type;
	struct wr_id to;

	if (wr_repo_read(m->rd, id, WR_OBJ_NONE, false, &type, &m->buf, err) < 0)
		return -1;
	switch (type) {
	case WR_OBJ_TREE:
		return enter_tree(m, err);
	case WR_OBJ_COMMIT:
		if (wr_commit_parse(m->buf.p, m->buf.len, &c, err) < 0)
			return -1;
		meet(m, &c.tree, true);
		for (size_t i = 0; i < c.parent_count; i++)
			meet(m, &c.parent[i], true);
		wr_commit_fini(&c);
		return 0;
	case WR_OBJ_TAG:
		if (strncmp(wr_buf_str(&m->buf), "object ", 7) != 0 ||
		    !wr_id_parse(wr_buf_str(&m->buf) + 7, &to))
			return wr_err_set(err, WR_E_CORRUPT, "a tag that names no object");
		meet(m, &to, true);
		return 0;
	default:
		return 0;
	}
}

static int
walk(struct manifest *m, struct wr_err *err)
{
	int rc = 0;

	while (rc == 0 && m->todo_count) {
		struct wr_id id = m->todo[--m->todo_count];

		rc = enter(m, &id, err);
	}
	return rc;
}

static void
manifest_fini(struct manifest *m)
{
	wr_reader_free(m->rd);
	wr_idmap_fini(&m->seen);
	free(m->todo);
	wr_buf_fini(&m->buf);
}

int
wr_worker_reached(struct wr_repo *r, struct wr_idmap *out, struct wr_err *err)
{
	struct manifest m = {.rd = NULL};
	struct wr_refs refs;
	int rc;

	if (wr_refs_list(r, "refs/", &refs, err) < 0)
		return -1;
	m.rd = wr_reader_new(r);
	for (size_t i = 0; i < refs.count; i++)
		meet(&m, &refs.ref[i].id, true);
	wr_refs_fini(&refs);
	rc = walk(&m, err);
	if (rc == 0) {
		*out = m.seen;
		m.seen = (struct wr_idmap)WR_IDMAP_INIT;
	}
	manifest_fini(&m);
	return rc;
}

static int
manifest_of(struct wr_repo *r, struct wr_digest *out, uint64_t *out_objects, struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec refs = WR_SAVE_REC_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf all = WR_BUF_INIT;
	struct manifest m = {.rd = wr_reader_new(r)};
	struct wr_digest d;
	int rc = wr_sync_refs(r, &refs, err);

	for (size_t i = 0; rc == 0 && i < refs.ref_count; i++) {
		struct wr_id id;

		memcpy(id.b, refs.ref[i].id, sizeof(id.b));
		meet(&m, &id, true);
	}
	if (rc == 0)
		rc = walk(&m, err);
	d = wr_save_refs_digest(&refs);
	*out_objects = m.seen.count;
	wr_buf_add(&all, d.b, sizeof(d.b));
	wr_buf_add64be(&all, m.seen.count);
	wr_buf_add(&all, m.fold.b, sizeof(m.fold.b));
	*out = wr_digest_of(all.p, all.len);
	manifest_fini(&m);
	return rc;
}

/* ---- the task ---- */

int
wr_worker_verify(struct wr_worker *w, struct wr_repo *r, bool data, struct wr_verify_result *out,
		 struct wr_err *err)
{
	struct pace pace = {.rate = wr_json_get_u64(w->args, "rate", 0),
			    .began_ns = wr_clock_mono_ns()};
	struct wr_verify_opts vo = {
	    .data = data, .threads = 1, .progress = on_progress, .ctx = &pace};

	pace.vo = &vo;
	return wr_verify(r, &vo, out, err);
}

json_t *
wr_worker_with_repo(struct wr_worker *w, wr_repo_work_fn fn, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	struct wr_repo *r = NULL;
	int rc = wr_repo_open(WR_WORKER_REPO_PATH, &r, err);

	if (rc == 0)
		rc = fn(w, r, o, err);
	wr_repo_close(r);
	return rc < 0 ? NULL : wr_steal(&o);
}

void
wr_worker_damage(json_t *o, const struct wr_verify_result *v, const struct wr_err *why)
{
	json_t *list = wr_json_array(o, "damage");

	for (size_t i = 0; i < v->damage_count && i < DAMAGE_MAX; i++) {
		const struct wr_damage *d = &v->damage[i];
		WR_SCOPED(wr_freep)
		char *text = wr_asprintf("%s%s%s", d->where ? d->where : wr_id_hex(&d->id).s,
					 d->why ? ": " : "", d->why ? d->why : "");

		wr_json_add_str(list, text);
	}
	wr_json_u64(o, "damage_more",
		    v->damage_count > DAMAGE_MAX ? v->damage_count - DAMAGE_MAX : 0);
	if (why->code != WR_E_NONE)
		wr_json_add_str(list, why->msg);
}

static int
audit(struct wr_worker *w, struct wr_repo *r, json_t *o, struct wr_err *err)
{
	struct wr_verify_result v = {0};
	struct wr_err why = WR_ERR_INIT;
	struct wr_digest d = {{0}};
	uint64_t objects = 0;
	bool whole;

	if (wr_worker_verify(w, r, wr_json_get_bool(w->args, "data", false), &v, err) < 0)
		return -1;
	whole = wr_verify_whole(&v);
	if (whole && manifest_of(r, &d, &objects, &why) < 0)
		whole = false;
	wr_json_bool(o, "whole", whole);
	wr_json_u64(o, "objects", objects);
	wr_json_u64(o, "refs", v.refs);
	wr_json_u64(o, "snapshots", v.snapshots);
	wr_json_u64(o, "bytes", v.bytes);
	wr_worker_damage(o, &v, &why);
	if (whole) {
		WR_SCOPED(wr_freep) char *text = wr_base64(d.b, sizeof(d.b));

		wr_json_str(o, "digest_b64", text);
	}
	wr_verify_result_fini(&v);
	return 0;
}

json_t *
wr_work_audit(struct wr_worker *w, struct wr_err *err)
{
	wr_worker_step_back();
	return wr_worker_with_repo(w, audit, err);
}
