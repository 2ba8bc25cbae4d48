/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PROVE, both sides of it (doc/format/records.md, "The challenge").  Who asks draws objects that
 * its refs reach and says what the answer has to be; who is asked reads the same objects, and says
 * whether its own refs reach all that the other's refs name.
 *
 * Only what refs reach counts: what merely lies in a repository may go at any time.
 */
#include "host/task/worker_int.h"

#include <sys/random.h>

#include "base/str.h"
#include "engine/object/tree.h"
#include "engine/repo/repo.h"
#include "fleet/record/msg.h"

#define NONCE_LEN sizeof(((struct wr_msg *)0)->challenge)
/* LIMITs: trees within one another; draws for one object before fewer have to do. */
#define DEPTH_MAX 256
#define DRAWS 8
/* One of so many draws stays at a tree on its way down. */
#define STAY 16

struct prove {
	struct wr_repo *repo;
	struct wr_reader *rd;
	struct wr_refs refs;
	struct wr_idmap seen; /* reached from refs, trees and blobs left out; value: 1 a commit */
	struct wr_id *todo;
	size_t todo_count, todo_cap;
	struct wr_buf buf;
};

static void
prove_fini(struct prove *p)
{
	wr_buf_fini(&p->buf);
	free(p->todo);
	wr_idmap_fini(&p->seen);
	wr_refs_fini(&p->refs);
	wr_reader_free(p->rd);
	wr_repo_close(p->repo);
}

static int
prove_begin(struct prove *p, struct wr_err *err)
{
	if (wr_repo_open(WR_WORKER_REPO_PATH, &p->repo, err) < 0 ||
	    wr_refs_list(p->repo, "refs/", &p->refs, err) < 0)
		return -1;
	p->rd = wr_reader_new(p->repo);
	return 0;
}

/* ---- the answer to a challenge ---- */

/* SHA-256(nonce, then of each: id, SHA-256(nonce, u64be length, contents)). Read whole and with
 * their ids checked: the answer is about bytes that are here now. */
static int
digest_of(struct prove *p, const uint8_t *nonce, const struct wr_id *id, size_t count,
	  struct wr_digest *out, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf all = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf one = WR_BUF_INIT;

	wr_buf_add(&all, nonce, NONCE_LEN);
	for (size_t i = 0; i < count; i++) {
		struct wr_digest d;

		if (wr_repo_read(p->rd, &id[i], WR_OBJ_NONE, true, NULL, &p->buf, err) < 0)
			return -1;
		wr_buf_clear(&one);
		wr_buf_add(&one, nonce, NONCE_LEN);
		wr_buf_add64be(&one, p->buf.len);
		wr_buf_add(&one, p->buf.p, p->buf.len);
		d = wr_digest_of(one.p, one.len);
		wr_buf_add(&all, id[i].b, sizeof(id[i].b));
		wr_buf_add(&all, d.b, sizeof(d.b));
	}
	*out = wr_digest_of(all.p, all.len);
	return 0;
}

/* ---- what refs reach ---- */

static void
meet(struct prove *p, const struct wr_id *id)
{
	bool fresh;

	(void)wr_idmap_put(&p->seen, id, &fresh);
	if (!fresh)
		return;
	wr_grow(&p->todo, &p->todo_cap, p->todo_count + 1, sizeof(*p->todo));
	p->todo[p->todo_count++] = *id;
}

static int
meet_parents(struct prove *p, const struct wr_id *id, struct wr_err *err)
{
	struct wr_commit c = WR_COMMIT_INIT;

	if (wr_commit_parse(p->buf.p, p->buf.len, &c, err) < 0)
		return wr_err_wrap(err, "commit %s", wr_id_hex(id).s);
	*wr_idmap_find(&p->seen, id) = 1;
	for (size_t i = 0; i < c.parent_count; i++)
		meet(p, &c.parent[i]);
	wr_commit_fini(&c);
	return 0;
}

/* A tag names its object in its first line. */
static int
meet_tagged(struct prove *p, const struct wr_id *id, struct wr_err *err)
{
	static const char head[] = "object ";
	const char *s = wr_buf_str(&p->buf);
	struct wr_id to;

	if (strncmp(s, head, sizeof(head) - 1) != 0 || !wr_id_parse(s + sizeof(head) - 1, &to))
		return wr_err_set(err, WR_E_CORRUPT, "tag %s names no object", wr_id_hex(id).s);
	meet(p, &to);
	return 0;
}

/* All commits and tags that the refs reach. */
static int
walk(struct prove *p, struct wr_err *err)
{
	for (size_t i = 0; i < p->refs.count; i++)
		meet(p, &p->refs.ref[i].id);
	while (p->todo_count) {
		struct wr_id id = p->todo[--p->todo_count];
		enum wr_obj_type type;
		uint64_t size;

		if (wr_repo_stat_object(p->rd, &id, &type, &size, err) < 0)
			return -1;
		if (type != WR_OBJ_COMMIT && type != WR_OBJ_TAG)
			continue;
		if (wr_repo_read(p->rd, &id, type, true, NULL, &p->buf, err) < 0 ||
		    (type == WR_OBJ_COMMIT ? meet_parents(p, &id, err) : meet_tagged(p, &id, err)) <
			0)
			return -1;
	}
	return 0;
}

/* ---- drawing ---- */

static size_t
below(size_t n)
{
	uint64_t x = 0;

	while (getrandom(&x, sizeof(x), 0) != (ssize_t)sizeof(x))
		;
	return (size_t)(x % n);
}

/* One entry of the tree in p->buf; false: it has none of ours. */
static bool
draw_entry(struct prove *p, struct wr_id *out, bool *out_tree)
{
	struct wr_rd rd = wr_rd(p->buf.p, p->buf.len);
	struct wr_tree_entry e;
	size_t n = 0;

	while (wr_tree_next(&rd, &e, NULL) > 0) {
		if ((e.mode & 0170000) == 0160000)
			continue; /* a commit of another repository */
		if (below(++n) == 0) {
			*out = e.id;
			*out_tree = e.mode == WR_MODE_TREE;
		}
	}
	return n > 0;
}

/* From a tree down to what a file consists of, or not quite. */
static int
draw_from(struct prove *p, const struct wr_id *tree, struct wr_id *out, struct wr_err *err)
{
	struct wr_id at = *tree, next;
	bool is_tree = true;

	for (int depth = 0; is_tree && depth < DEPTH_MAX; depth++) {
		if (wr_repo_read(p->rd, &at, WR_OBJ_TREE, true, NULL, &p->buf, err) < 0)
			return -1;
		if (!draw_entry(p, &next, &is_tree) || (depth && below(STAY) == 0))
			break;
		at = next;
	}
	*out = at;
	return 0;
}

static int
draw(struct prove *p, size_t count, struct wr_id *out, size_t *out_count, struct wr_err *err)
{
	WR_SCOPED(wr_freep) struct wr_id *commit = wr_calloc(p->seen.count + 1, sizeof(*commit));
	struct wr_idmap drawn = WR_IDMAP_INIT;
	struct wr_idmap_slot *s;
	size_t n = 0;
	int rc = 0;

	for (size_t i = 0; (s = wr_idmap_next(&p->seen, &i));)
		if (s->value)
			commit[n++] = s->id;
	for (size_t i = 0; n && rc == 0 && i < count * DRAWS && *out_count < count; i++) {
		const struct wr_id *from = &commit[below(n)];
		struct wr_commit c = WR_COMMIT_INIT;
		bool fresh;

		rc = wr_repo_read_commit(p->rd, from, &c, err);
		if (rc == 0)
			rc = draw_from(p, &c.tree, &out[*out_count], err);
		wr_commit_fini(&c);
		if (rc == 0) {
			(void)wr_idmap_put(&drawn, &out[*out_count], &fresh);
			*out_count += fresh;
		}
	}
	wr_idmap_fini(&drawn);
	return rc;
}

/* ---- the task ---- */

static int
get_nonce(const json_t *args, struct wr_buf *out, struct wr_err *err)
{
	const char *text = wr_json_get_str(args, "nonce_b64", "");

	if (!wr_base64_decode(out, text, strlen(text)) || out->len != NONCE_LEN)
		return wr_err_set(err, WR_E_INVALID, "the challenge has no nonce");
	return 0;
}

static int
get_ids(const json_t *args, const char *key, size_t max, struct wr_id **out, size_t *out_count,
	struct wr_err *err)
{
	const json_t *list = wr_json_get_arr(args, key), *e;
	size_t i;

	if (json_array_size(list) > max)
		return wr_err_set(err, WR_E_LIMIT, "%s: more than %zu", key, max);
	*out = wr_calloc(json_array_size(list) + 1, sizeof(**out));
	json_array_foreach(list, i, e)
	{
		const char *s = json_string_value(e);

		if (!s || !wr_id_parse(s, &(*out)[i]))
			return wr_err_set(err, WR_E_INVALID, "%s: no id", key);
	}
	*out_count = i;
	return 0;
}

static void
add_ids(json_t *o, const char *key, const struct wr_id *id, size_t count)
{
	json_t *list = wr_json_array(o, key);

	for (size_t i = 0; i < count; i++)
		wr_json_add_str(list, wr_id_hex(&id[i]).s);
}

static void
add_digest(json_t *o, const struct wr_digest *d)
{
	WR_SCOPED(wr_freep) char *text = wr_base64(d->b, sizeof(d->b));

	wr_json_str(o, "digest_b64", text);
}

static int
by_id(const void *a, const void *b)
{
	return wr_id_cmp(a, b);
}

/* Where refs lead, each once, ascending. */
static void
add_tips(json_t *o, const struct prove *p)
{
	WR_SCOPED(wr_freep) struct wr_id *tip = wr_calloc(p->refs.count + 1, sizeof(*tip));
	size_t n = 0;

	for (size_t i = 0; i < p->refs.count; i++)
		tip[i] = p->refs.ref[i].id;
	qsort(tip, p->refs.count, sizeof(*tip), by_id);
	for (size_t i = 0; i < p->refs.count; i++)
		if (i == 0 || !wr_id_eq(&tip[i], &tip[n - 1]))
			tip[n++] = tip[i];
	add_ids(o, "tips", tip, n);
}

static int
challenge(struct prove *p, const json_t *args, const uint8_t *nonce, json_t *result,
	  struct wr_err *err)
{
	struct wr_id id[WR_MSG_IDS];
	struct wr_digest d;
	size_t n = 0;
	uint64_t count = wr_json_get_u64(args, "pick", 0);

	add_tips(result, p);
	if (count > WR_ARRAY_LEN(id))
		return wr_err_set(err, WR_E_LIMIT, "pick: more than %d", WR_MSG_IDS);
	if (count && (walk(p, err) < 0 || draw(p, (size_t)count, id, &n, err) < 0))
		return -1;
	if (digest_of(p, nonce, id, n, &d, err) < 0)
		return -1;
	add_ids(result, "ids", id, n);
	add_digest(result, &d);
	return 0;
}

static int
response(struct prove *p, const json_t *args, const uint8_t *nonce, json_t *result,
	 struct wr_err *err)
{
	WR_SCOPED(wr_freep) struct wr_id *id = NULL;
	WR_SCOPED(wr_freep) struct wr_id *tip = NULL;
	struct wr_digest d;
	size_t n = 0, tips = 0;

	if (get_ids(args, "ids", WR_MSG_IDS, &id, &n, err) < 0 ||
	    get_ids(args, "tips", WR_SAVE_REFS_MAX, &tip, &tips, err) < 0 || walk(p, err) < 0)
		return -1;
	for (size_t i = 0; i < tips; i++)
		if (!wr_idmap_find(&p->seen, &tip[i]))
			return wr_err_set(err, WR_E_NOT_FOUND, "%s is reached by no ref here",
					  wr_id_hex(&tip[i]).s);
	if (digest_of(p, nonce, id, n, &d, err) < 0)
		return -1;
	add_digest(result, &d);
	return 0;
}

json_t *
wr_work_prove(struct wr_worker *w, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	WR_SCOPED(wr_buf_fini) struct wr_buf nonce = WR_BUF_INIT;
	struct prove p = {.repo = NULL};
	int rc = get_nonce(w->args, &nonce, err);

	if (rc == 0)
		rc = prove_begin(&p, err);
	if (rc == 0)
		rc = json_object_get(w->args, "pick") ? challenge(&p, w->args, nonce.p, o, err)
						      : response(&p, w->args, nonce.p, o, err);
	prove_fini(&p);
	return rc < 0 ? NULL : wr_steal(&o);
}
