/* SPDX-License-Identifier: Apache-2.0 */
/* The receiver: what is here, and what a damaged repository wants. */
#include "fleet/sync/recv_int.h"
#include "fleet/sync/sync_int.h"

/* Commits below a branch that MORE is answered with: this many, then at growing distance. */
#define HAVES_NEAR 32
/* LIMIT: how deep that goes, and how many per branch. */
#define HAVES_DEPTH 200000
#define HAVES_PER_REF 64

/* ---- hello ---- */

static int
add_own(struct wr_recv *v, const char *prefix, bool newest, struct wr_err *err)
{
	struct wr_refs refs;
	size_t n;

	if (wr_refs_list(v->m.src.repo, prefix, &refs, err) < 0)
		return -1;
	n = WR_MIN(refs.count, WR_SYNC_REFS_MAX - v->own.count);
	for (size_t i = 0; i < n; i++) {
		const struct wr_ref *r = &refs.ref[newest ? refs.count - n + i : i];

		/* Zero: it cannot be read. */
		if (!wr_id_is_zero(&r->id) && strlen(r->name) <= WR_SYNC_NAME_MAX)
			wr_sync_list_add(&v->own, r->name, strlen(r->name), &r->id);
	}
	wr_refs_fini(&refs);
	return 0;
}

/* The packs as they are now: none goes while this machine lives but under the locks. */
static int
find_suspects(struct wr_recv *v, struct wr_err *err)
{
	struct wr_repo *r = v->m.src.repo;

	if (wr_repo_refresh(r, err) < 0)
		return -1;
	free(wr_steal(&v->suspect));
	v->suspect_count = 0;
	v->suspect = wr_calloc(wr_repo_pack_count(r) + 1, sizeof(*v->suspect));
	for (size_t i = 0; i < wr_repo_pack_count(r); i++) {
		const struct wr_idx *idx = wr_repo_pack_idx(r, i);
		const char *name = wr_repo_pack_name(r, i);

		for (size_t k = 0; idx && k < v->o.suspect_count; k++)
			if (v->o.suspect[k] && !strcmp(name, v->o.suspect[k])) {
				v->suspect[v->suspect_count++] = idx;
				break;
			}
	}
	return 0;
}

int
wr_recv_start(struct wr_recv *v, struct wr_err *err)
{
	static const char *const prefix[] = {"refs/heads/", "refs/tags/", WR_SYNC_LATEST,
					     WR_SYNC_FILL};
	struct wr_sync *m = &v->m;
	size_t at;

	if (wr_sync_check_list(m->src.repo, &m->target, v->o.mode == WR_SYNC_AS_SIDES, err) < 0)
		return -1;
	wr_quar_tidy(m->src.repo, v->o.now, v->o.stale_s);
	if (wr_recv_mends(v) && find_suspects(v, err) < 0)
		return -1;
	wr_sync_list_fini(&v->own);
	for (size_t i = 0; i < WR_ARRAY_LEN(prefix); i++)
		if (add_own(v, prefix[i], false, err) < 0)
			return -1;
	/* Their names begin with the time: the last ones are the newest. */
	if (add_own(v, WR_SYNC_KEEP, true, err) < 0)
		return -1;
	if (!v->quar) {
		v->quar = wr_quar_take(m->src.repo, v->o.max_bytes);
		v->found = v->quar != NULL;
	} else if (v->quar->sealed && wr_quar_unseal(v->quar, err) < 0) {
		return -1;
	}
	at = wr_frame_begin(m, WR_FRAME_HELLO);
	wr_buf_add32be(&m->out, WR_SYNC_MAGIC);
	wr_buf_add8(&m->out, WR_SYNC_VERSION >> 8);
	wr_buf_add8(&m->out, WR_SYNC_VERSION & 0xff);
	wr_buf_add32be(&m->out, (uint32_t)v->own.count);
	wr_buf_add8(&m->out,
		    (v->quar ? WR_HELLO_RESUME : 0) | (wr_recv_mends(v) ? WR_HELLO_MEND : 0));
	wr_frame_end(m, at);
	for (size_t i = 0; i < v->own.count;) {
		at = wr_frame_begin(m, WR_FRAME_REFS);
		for (; i < v->own.count && m->out.len - at < WR_DATA_LEN; i++)
			wr_frame_add_ref(&m->out, v->own.ref[i].name, &v->own.ref[i].id);
		wr_frame_end(m, at);
	}
	v->told_more = false;
	v->offers = 0;
	v->state = wr_recv_mends(v) ? WR_RECV_OFFER : WR_RECV_BEGIN;
	return 0;
}

/* Commits below the branch number n: the near ones, then at growing distance. */
static size_t
add_haves(struct wr_recv *v, uint32_t n)
{
	struct wr_id at = v->own.ref[n].id;
	uint64_t next = 1;
	size_t told = 0;

	for (uint64_t depth = 1; depth <= HAVES_DEPTH && told < HAVES_PER_REF; depth++) {
		struct wr_commit c = WR_COMMIT_INIT;
		bool root;

		if (wr_repo_read_commit(v->m.src.rd, &at, &c, NULL) < 0)
			break;
		root = c.parent_count == 0;
		if (!root)
			at = c.parent[0];
		wr_commit_fini(&c);
		if (root)
			break;
		if (depth < next)
			continue;
		wr_buf_add32be(&v->m.out, n);
		wr_buf_add(&v->m.out, at.b, WR_ID_LEN);
		told++;
		next = depth < HAVES_NEAR ? depth + 1 : depth + depth / 4;
	}
	return told;
}

int
wr_recv_on_more(struct wr_recv *v, struct wr_err *err)
{
	struct wr_sync *m = &v->m;
	size_t at, told = 0;

	if (v->told_more)
		return wr_sync_out_of_turn(WR_FRAME_MORE, err);
	v->told_more = true;
	at = wr_frame_begin(m, WR_FRAME_HAVES);
	wr_buf_add8(&m->out, 1);
	for (uint32_t i = 0; i < v->own.count; i++)
		if (!strncmp(v->own.ref[i].name, "refs/heads/", 11) &&
		    told + HAVES_PER_REF <= WR_SYNC_HAVES_MAX)
			told += add_haves(v, i);
	wr_frame_end(m, at);
	return 0;
}

/* ---- what a damaged repository wants ---- */

/* Lacking, or every copy of it damaged. */
static bool
wants(struct wr_recv *v, const struct wr_id *id)
{
	bool doubt = v->o.all_suspect || !wr_repo_has(v->m.src.repo, id);

	for (size_t i = 0; !doubt && i < v->suspect_count; i++)
		doubt = wr_idx_find(v->suspect[i], id) >= 0;
	return doubt && wr_repo_read(v->m.src.rd, id, WR_OBJ_NONE, true, NULL, &v->other, NULL) < 0;
}

int
wr_recv_on_offer(struct wr_recv *v, struct wr_rd *r, struct wr_err *err)
{
	size_t len;

	v->offer_last = wr_rd8(r);
	len = r->left;
	if (len % WR_ID_LEN != 0 || len / WR_ID_LEN > WR_OFFER_IDS || (len == 0 && !v->offer_last))
		return wr_err_set(err, WR_E_INVALID, "the far side sent a bad offer");
	v->offers += len / WR_ID_LEN;
	if (v->offers > v->o.max_objects)
		return wr_err_set(err, WR_E_LIMIT,
				  "the far side offers more than %" PRIu64 " objects",
				  v->o.max_objects);
	wr_buf_clear(&v->offered_ids);
	wr_buf_add(&v->offered_ids, wr_rd_bytes(r, len), len);
	wr_buf_clear(&v->want);
	v->offer_at = 0;
	v->state = WR_RECV_WANT;
	return 0;
}

void
wr_recv_want(struct wr_recv *v)
{
	size_t n = v->offered_ids.len / WR_ID_LEN, at;

	for (unsigned i = 0; i < WR_SLICE && v->offer_at < n; i++, v->offer_at++) {
		struct wr_id id;
		bool fresh;

		memcpy(id.b, v->offered_ids.p + v->offer_at * WR_ID_LEN, WR_ID_LEN);
		if (v->offer_at % 8 == 0)
			wr_buf_add8(&v->want, 0);
		if (!wants(v, &id))
			continue;
		(void)wr_idmap_put(&v->wanted, &id, &fresh);
		v->want.p[v->offer_at / 8] |= (uint8_t)(1u << (v->offer_at % 8));
	}
	if (v->offer_at < n)
		return;
	at = wr_frame_begin(&v->m, WR_FRAME_WANT);
	wr_buf_add(&v->m.out, v->want.p, v->want.len);
	wr_frame_end(&v->m, at);
	v->state = v->offer_last ? WR_RECV_BEGIN : WR_RECV_OFFER;
}
