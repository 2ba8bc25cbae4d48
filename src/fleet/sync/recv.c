/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiver.  Nothing of what comes is believed: objects are hashed one by one on their way into
 * the quarantine, then every reference of each is found in the quarantine or reachable from those
 * own refs that the sender says it builds on.
 *
 *   START (work)     own refs, HELLO
 *   OFFER, WANT      MEND: ids that could come, which of them do (work)
 *   BEGIN            MORE is answered, then the stream is announced, perhaps as the newest state
 *   LOAD (work)      what lies here of a transfer that broke off is read again
 *   HELD             its objects are told, piece by piece: which belong to the stream?
 *   KEEP (work)      the others go
 *   DATA             entries, then END
 *   SEAL (work)      trailer, index
 *   HISTORY (work)   which commits are new
 *   TREES (work)     their trees beside those of their parents
 *   REST (work)      objects that no new commit led to
 *   FULL (work)      only if pairs left references open: all that the base reaches
 *   SYNC (work)      durable: READY
 *   READY            commit; or, base refs moved, or that was the newest state alone: START again
 *
 * What comes for a MEND is checked by its hash alone, and is something that was asked for: what it
 * refers to may be on its way from another node.
 */
#include <sys/statvfs.h>

#include "engine/repo/verify.h"
#include "fleet/sync/sync_int.h"
#include "sys/crash.h"

#define MAX_OBJECTS (UINT64_C(16) << 20)
#define STALE_S ((int64_t)7 * 86400)
/* Commits below a branch that MORE is answered with: this many, then at growing distance. */
#define HAVES_NEAR 32
/* LIMIT: how deep that goes, and how many per branch. */
#define HAVES_DEPTH 200000
#define HAVES_PER_REF 64
/* The room on the file system is looked at after so many bytes. */
#define ROOM_EVERY ((uint64_t)8 << 20)
/* Entry's head at most. */
#define ENTRY_HEAD 32

enum recv_state {
	RECV_START = 1,
	RECV_OFFER,
	RECV_WANT,
	RECV_BEGIN,
	RECV_LOAD,
	RECV_HELD,
	RECV_KEEP,
	RECV_DATA,
	RECV_SEAL,
	RECV_HISTORY,
	RECV_TREES,
	RECV_REST,
	RECV_FULL,
	RECV_SYNC,
	RECV_READY,
};

struct recv {
	struct wr_sync m;
	struct wr_sync_recv_opts o;
	enum recv_state state;
	struct wr_sync_list own;
	bool told_more;

	/* MEND */
	const struct wr_idx **suspect; /* indexes of packs that are not to be trusted */
	size_t suspect_count;
	struct wr_buf offered_ids; /* of the last OFFER */
	size_t offer_at;
	uint64_t offers; /* ids in all OFFERs */
	bool offer_last;
	struct wr_buf want; /* bits */
	struct wr_idmap wanted;

	struct wr_quar *quar; /* NULL: nothing to come */
	bool found;           /* it lay here when the transfer began */
	bool reused;          /* what came before is part of it */
	uint64_t held_at;     /* its objects that were told */
	uint8_t *held;        /* which of them belong to the stream */
	uint64_t room_at;     /* when it is looked at next */
	uint64_t total, announced;
	bool first_on, first_done;  /* the newest state alone: comes now, is here */
	struct wr_sync_list newest; /* the list then */
	struct wr_buf part, payload, other;
	struct wr_inflater *inflater;

	/* the check */
	uint64_t packs; /* the repository's packs when it began */
	struct wr_hist hist;
	struct wr_idmap base_id; /* what the base has for certain -> type */
	size_t *fresh, fresh_count, fresh_at;
	struct wr_pairs pairs;
	uint8_t *visited; /* by position in the quarantine's index */
	uint32_t rest_at;
	struct wr_idmap open; /* references neither here nor proven -> type */
	size_t open_count;
	struct wr_src repo_only;
	struct wr_full full;
	struct wr_err bad; /* found where none can be returned */
};

static void
forget_check(struct recv *v)
{
	wr_hist_fini(&v->hist);
	wr_idmap_fini(&v->base_id);
	free(wr_steal(&v->fresh));
	v->fresh_count = v->fresh_at = 0;
	wr_pairs_fini(&v->pairs);
	free(wr_steal(&v->visited));
	v->rest_at = 0;
	wr_idmap_fini(&v->open);
	v->open_count = 0;
	wr_full_fini(&v->full);
}

static void
recv_free(struct wr_sync *m)
{
	struct recv *v = (struct recv *)m;

	forget_check(v);
	wr_quar_close(v->quar);
	free(v->held);
	wr_sync_list_fini(&v->newest);
	wr_sync_list_fini(&v->own);
	wr_buf_fini(&v->part);
	wr_buf_fini(&v->payload);
	wr_buf_fini(&v->other);
	free(v->suspect);
	wr_buf_fini(&v->offered_ids);
	wr_buf_fini(&v->want);
	wr_idmap_fini(&v->wanted);
	wr_inflater_free(v->inflater);
}

/* ---- hello ---- */

static int
add_own(struct recv *v, const char *prefix, bool newest, struct wr_err *err)
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

static bool
mends(const struct recv *v)
{
	return v->o.mode == WR_SYNC_MEND;
}

/* The packs as they are now: none goes while this machine lives but under the locks. */
static int
find_suspects(struct recv *v, struct wr_err *err)
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

static int
start(struct recv *v, struct wr_err *err)
{
	static const char *const prefix[] = {"refs/heads/", "refs/tags/", WR_SYNC_LATEST,
					     WR_SYNC_FILL};
	struct wr_sync *m = &v->m;
	size_t at;

	if (wr_sync_check_list(m->src.repo, &m->target, v->o.mode == WR_SYNC_AS_SIDES, err) < 0)
		return -1;
	wr_quar_tidy(m->src.repo, v->o.now, v->o.stale_s);
	if (mends(v) && find_suspects(v, err) < 0)
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
	wr_buf_add8(&m->out, (v->quar ? WR_HELLO_RESUME : 0) | (mends(v) ? WR_HELLO_MEND : 0));
	wr_frame_end(m, at);
	for (size_t i = 0; i < v->own.count;) {
		at = wr_frame_begin(m, WR_FRAME_REFS);
		for (; i < v->own.count && m->out.len - at < WR_DATA_LEN; i++)
			wr_frame_add_ref(&m->out, v->own.ref[i].name, &v->own.ref[i].id);
		wr_frame_end(m, at);
	}
	v->told_more = false;
	v->offers = 0;
	v->state = mends(v) ? RECV_OFFER : RECV_BEGIN;
	return 0;
}

/* Commits below the branch number n: the near ones, then at growing distance. */
static size_t
add_haves(struct recv *v, uint32_t n)
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

static int
on_more(struct recv *v, struct wr_err *err)
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
wants(struct recv *v, const struct wr_id *id)
{
	bool doubt = v->o.all_suspect || !wr_repo_has(v->m.src.repo, id);

	for (size_t i = 0; !doubt && i < v->suspect_count; i++)
		doubt = wr_idx_find(v->suspect[i], id) >= 0;
	return doubt && wr_repo_read(v->m.src.rd, id, WR_OBJ_NONE, true, NULL, &v->other, NULL) < 0;
}

static int
on_offer(struct recv *v, struct wr_rd *r, struct wr_err *err)
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
	v->state = RECV_WANT;
	return 0;
}

static void
want(struct recv *v)
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
	v->state = v->offer_last ? RECV_BEGIN : RECV_OFFER;
}

/* ---- the stream ---- */

/* A transfer is in nobody else's way: what the volume keeps free is for saves and users. */
static int
check_room(struct recv *v, uint64_t more, struct wr_err *err)
{
	struct statvfs st;

	if (!v->o.min_free)
		return 0;
	if (fstatvfs(wr_repo_fd(v->m.src.repo), &st) < 0)
		return wr_err_sys(err, "look for room");
	if ((uint64_t)st.f_bavail * st.f_frsize / 2 >= v->o.min_free / 2 + more / 2)
		return 0;
	/* What there is no room for shall not take that of others until it is too old. */
	wr_quar_drop(wr_steal(&v->quar));
	return wr_err_set(err, WR_E_NOSPACE, "the volume takes no objects of other nodes now");
}

static int
on_begin(struct recv *v, struct wr_rd *r, struct wr_err *err)
{
	const uint8_t *id = wr_rd_bytes(r, WR_ID_LEN), *bits;
	uint64_t bytes;
	uint32_t count;
	struct wr_stream_id stream;

	v->total = wr_rd64be(r);
	bytes = wr_rd64be(r);
	count = wr_rd32be(r);
	bits = wr_rd_bytes(r, (v->own.count + 7) / 8);
	if (!id || !bits || count != v->own.count)
		return wr_err_set(err, WR_E_INVALID, "the far side names refs that we do not have");
	if (v->total > v->o.max_objects || v->total > UINT32_MAX)
		return wr_err_set(err, WR_E_LIMIT,
				  "the far side wants to send %" PRIu64 " objects, at most %" PRIu64
				  " are taken",
				  v->total, v->o.max_objects);
	if (bytes > v->o.max_bytes)
		return wr_err_set(err, WR_E_LIMIT,
				  "the far side wants to send %" PRIu64 " bytes, at most %" PRIu64
				  " are taken",
				  bytes, v->o.max_bytes);
	for (size_t i = 0; i < v->own.count; i++)
		v->own.ref[i].used = bits[i / 8] >> (i % 8) & 1;
	v->m.progress.phase = WR_SYNC_PHASE_OBJECTS;
	v->m.progress.objects_total = v->total;
	v->m.progress.bytes_total = v->announced = bytes;
	v->room_at = 0;
	v->reused = false;
	if (v->total == 0) {
		/* What lay here may be of another list: it stays until it is too old. */
		if (v->found)
			wr_quar_close(wr_steal(&v->quar));
		else
			wr_quar_drop(wr_steal(&v->quar));
		v->state = RECV_DATA;
		return 0;
	}
	if (v->quar) {
		v->state = RECV_LOAD;
		return 0;
	}
	memcpy(stream.b, id, WR_ID_LEN);
	v->quar = wr_quar_new(v->m.src.repo, &stream, v->total, err);
	if (!v->quar)
		return -1;
	v->state = RECV_DATA;
	/* What the sender says is checked again as it comes. */
	return check_room(v, bytes, err);
}

/* The newest state alone comes first: it belongs to the list if its tip is the one that the list
 * names. */
static int
on_first(struct recv *v, struct wr_rd *r, struct wr_err *err)
{
	size_t len = r->left;
	const uint8_t *p = wr_rd_bytes(r, len);
	const struct wr_sync_ref *tip = wr_sync_list_find(&v->m.target, WR_SYNC_MAIN);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_commit c = WR_COMMIT_INIT;
	struct wr_id id = wr_obj_id(WR_OBJ_COMMIT, p, len);

	if (v->first_on || v->first_done || v->o.mode != WR_SYNC_PUSH)
		return wr_sync_out_of_turn(WR_FRAME_FIRST, err);
	if (!tip || !wr_id_eq(&tip->id, &id) || wr_sync_list_find(&v->m.target, WR_SYNC_LATEST))
		return wr_err_set(err, WR_E_INVALID, "the newest state is not that of the list");
	if (wr_commit_parse(p, len, &c, err) < 0)
		return wr_err_wrap(err, "commit %s", wr_id_hex(&id).s);
	wr_commit_latest(&b, &c.tree, c.committer_time);
	wr_commit_fini(&c);
	id = wr_obj_id(WR_OBJ_COMMIT, b.p, b.len);
	wr_sync_list_add(&v->newest, WR_SYNC_LATEST, strlen(WR_SYNC_LATEST), &id);
	v->first_on = true;
	return 0;
}

static uint64_t
held_end(const struct recv *v)
{
	return WR_MIN(v->held_at + WR_SYNC_HELD_STEP, (uint64_t)v->quar->count);
}

static void
tell_held(struct recv *v)
{
	size_t at = wr_frame_begin(&v->m, WR_FRAME_HELD);

	wr_buf_add8(&v->m.out, held_end(v) == v->quar->count);
	for (uint64_t i = v->held_at; i < held_end(v); i++)
		wr_buf_add(&v->m.out, v->quar->e[i].id.b, WR_ID_LEN);
	wr_frame_end(&v->m, at);
}

static int
on_use(struct recv *v, struct wr_rd *r, struct wr_err *err)
{
	size_t len = (size_t)(held_end(v) - v->held_at + 7) / 8;
	const uint8_t *bits = wr_rd_bytes(r, len);

	if (!bits && len)
		return wr_err_set(err, WR_E_INVALID, "the far side does not say what it uses");
	if (len)
		memcpy(v->held + v->held_at / 8, bits, len);
	v->held_at = held_end(v);
	if (v->held_at < v->quar->count)
		tell_held(v);
	else
		v->state = RECV_KEEP;
	return 0;
}

static int
load(struct recv *v, struct wr_err *err)
{
	int rc = wr_quar_load(v->quar, WR_SLICE, err);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	v->held_at = 0;
	free(v->held);
	v->held = wr_calloc(v->quar->count / 8 + 1, 1);
	tell_held(v);
	v->state = RECV_HELD;
	return 0;
}

static int
check_asked_for(const struct recv *v, const struct wr_id *id, struct wr_err *err)
{
	if (!mends(v) || wr_idmap_find(&v->wanted, id))
		return 0;
	return wr_err_set(err, WR_E_INVALID, "object %s was not asked for", wr_id_hex(id).s);
}

static int
keep(struct recv *v, struct wr_err *err)
{
	int rc = wr_quar_keep(v->quar, v->held, v->total, WR_SLICE, err);

	v->m.progress.objects = v->quar->count;
	v->m.progress.bytes = v->quar->bytes;
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	free(wr_steal(&v->held));
	v->found = false;
	v->reused = v->quar->count > 0;
	if (v->quar->count > v->total)
		return wr_err_set(err, WR_E_INVALID, "the far side uses more than it announced");
	for (size_t i = 0; i < v->quar->count; i++)
		if (check_asked_for(v, &v->quar->e[i].id, err) < 0)
			return -1;
	v->state = RECV_DATA;
	return check_room(v, v->announced > v->quar->bytes ? v->announced - v->quar->bytes : 0,
			  err);
}

/*
 * An object that is here already must have the same bytes: two contents of one id cannot both be
 * right, and other copies could then differ unseen.  A copy of ours that is damaged proves nothing.
 */
static int
check_same(struct recv *v, const struct wr_id *id, enum wr_obj_type type, const struct wr_buf *b,
	   struct wr_err *err)
{
	enum wr_obj_type ours;

	if (!wr_repo_exists(v->m.src.repo, id) ||
	    wr_repo_read(v->m.src.rd, id, WR_OBJ_NONE, true, &ours, &v->other, NULL) < 0)
		return 0;
	if (ours != type || v->other.len != b->len ||
	    (b->len && memcmp(v->other.p, b->p, b->len) != 0))
		return wr_err_set(err, WR_E_CORRUPT, "object %s is here with other content",
				  wr_id_hex(id).s);
	return 0;
}

static int
take_entry(struct recv *v, const uint8_t *p, size_t len, struct wr_err *err)
{
	enum wr_obj_type type;
	struct wr_id id;
	uint32_t crc;

	if (v->quar->count == v->total)
		return wr_err_set(err, WR_E_INVALID, "more objects than announced");
	if (len > v->o.max_bytes || v->quar->bytes + len > v->o.max_bytes)
		return wr_err_set(err, WR_E_LIMIT, "more than %" PRIu64 " bytes", v->o.max_bytes);
	if (v->quar->bytes >= v->room_at) {
		v->room_at = v->quar->bytes + ROOM_EVERY;
		if (check_room(v, len, err) < 0)
			return -1;
	}
	if (!v->inflater)
		v->inflater = wr_inflater_new();
	if (wr_pack_entry_open(v->inflater, p, len, v->o.max_object, &type, &crc, &v->payload,
			       err) < 0)
		return -1;
	id = wr_quar_hash(v->quar, type, &v->payload, p, len);
	if (check_asked_for(v, &id, err) < 0 || check_same(v, &id, type, &v->payload, err) < 0 ||
	    wr_quar_add(v->quar, type, &id, crc, p, len, err) < 0)
		return -1;
	v->m.progress.objects = v->quar->count;
	v->m.progress.bytes = v->quar->bytes;
	wr_crash_point("sync.object");
	return 0;
}

static int
on_data(struct recv *v, struct wr_rd *r, struct wr_err *err)
{
	uint64_t longest = ENTRY_HEAD + wr_deflate_bound((size_t)v->o.max_object);
	size_t left = r->left, at = 0;

	if (!v->quar || v->quar->sealed || left == 0)
		return wr_err_set(err, WR_E_INVALID, "objects that were not announced");
	wr_buf_add(&v->part, wr_rd_bytes(r, left), left);
	while (v->part.len - at >= 4) {
		uint32_t len = wr_get32be(v->part.p + at);

		if (len > longest)
			return wr_err_set(err, WR_E_LIMIT,
					  "an object of %" PRIu32 " packed bytes is too large",
					  len);
		if (v->part.len - at - 4 < len)
			break;
		if (take_entry(v, v->part.p + at + 4, len, err) < 0)
			return wr_err_wrap(err, "object %zu of the stream", v->quar->count + 1);
		at += 4 + (size_t)len;
	}
	memmove(v->part.p, v->part.p + at, v->part.len - at);
	v->part.len -= at;
	return 0;
}

static int
on_end(struct recv *v, struct wr_rd *r, struct wr_err *err)
{
	uint64_t total = wr_rd64be(r), have = v->quar ? v->quar->count : 0;

	if (total != v->total || have != v->total || v->part.len > 0)
		return wr_err_set(err, WR_E_INVALID,
				  "the stream ended after %" PRIu64 " of %" PRIu64 " objects", have,
				  v->total);
	wr_buf_fini(&v->part);
	v->m.progress.phase = WR_SYNC_PHASE_CHECK;
	v->state = RECV_SEAL;
	return 0;
}

/* ---- the check ---- */

static void
open_question(struct recv *v, const struct wr_id *id, enum wr_obj_type type)
{
	bool fresh;
	uint64_t *t = wr_idmap_put(&v->open, id, &fresh);

	v->open_count += fresh;
	if (fresh || *t == WR_OBJ_NONE)
		*t = type;
}

/* A reference: 1 = it is here and was not seen yet, 0 = it is settled or an open question, -1. */
static int
refer(struct recv *v, const struct wr_id *id, enum wr_obj_type type, bool known, struct wr_err *err)
{
	const uint64_t *base;
	enum wr_obj_type is;
	int64_t at;

	if (known)
		return 0;
	at = v->quar ? wr_quar_find_id(v->quar, id) : -1;
	base = at < 0 ? wr_idmap_find(&v->base_id, id) : NULL;
	if (at < 0 && !base) {
		open_question(v, id, type);
		return 0;
	}
	is = at < 0 ? (enum wr_obj_type) * base : v->quar->type[at];
	if (type != WR_OBJ_NONE && is != type)
		return wr_err_set(err, WR_E_CORRUPT, "object %s is a %s and referred to as a %s",
				  wr_id_hex(id).s, wr_obj_type_name(is), wr_obj_type_name(type));
	if (at < 0)
		return 0;
	if (v->visited[at / 8] >> (at % 8) & 1)
		return 0;
	v->visited[at / 8] |= (uint8_t)(1u << (at % 8));
	return 1;
}

static int
on_ref(void *ctx, const struct wr_id *id, enum wr_obj_type type, bool known, struct wr_err *err)
{
	return refer(ctx, id, type, known, err);
}

/* A tree that came and was not looked at yet proves nothing about another. */
static bool
with_ok(void *ctx, const struct wr_id *id)
{
	const struct recv *v = ctx;
	int64_t at = v->quar ? wr_quar_find_id(v->quar, id) : -1;

	return at < 0 || (v->visited[at / 8] >> (at % 8) & 1);
}

static int
refer_tree(struct recv *v, const struct wr_id *id, const struct wr_id *with, struct wr_err *err)
{
	int rc = refer(v, id, WR_OBJ_TREE, false, err);

	if (rc > 0)
		wr_pairs_push(&v->pairs, id, with);
	return rc < 0 ? -1 : 0;
}

/* Where a tag that came leads to. */
static int
refer_tagged(struct recv *v, const struct wr_id *tag, struct wr_id *out, enum wr_obj_type *out_type,
	     struct wr_err *err)
{
	if (wr_src_read(&v->m.src, tag, WR_OBJ_TAG, NULL, &v->payload, err) < 0 ||
	    wr_tag_parse(&v->payload, out, out_type, err) < 0)
		return wr_err_wrap(err, "tag %s", wr_id_hex(tag).s);
	return 0;
}

/* A commit: one that came is looked at in the order of history, others are looked for there. */
static int
refer_commit(struct recv *v, const struct wr_id *id, struct wr_err *err)
{
	return wr_hist_add(&v->hist, id, true, false, err);
}

static int
check_target(struct recv *v, const struct wr_sync_ref *ref, struct wr_err *err)
{
	bool branch = !strncmp(ref->name, "refs/heads/", 11) || !strcmp(ref->name, WR_SYNC_LATEST);
	struct wr_id at = ref->id;
	enum wr_obj_type type = WR_OBJ_NONE, claimed = WR_OBJ_NONE;

	for (int depth = 0; depth < WR_SYNC_TAG_DEPTH; depth++) {
		bool here = v->quar && wr_quar_find_id(v->quar, &at) >= 0;

		if (!here && !wr_repo_exists(v->m.src.repo, &at))
			return wr_err_set(err, WR_E_CORRUPT, "object %s is missing",
					  wr_id_hex(&at).s);
		if (wr_src_stat(&v->m.src, &at, &type, err) < 0)
			return -1;
		if ((branch && type != WR_OBJ_COMMIT) ||
		    (claimed != WR_OBJ_NONE && claimed != type))
			return wr_err_set(err, WR_E_CORRUPT, "object %s is a %s", wr_id_hex(&at).s,
					  wr_obj_type_name(type));
		if (type == WR_OBJ_COMMIT)
			return wr_idmap_find(&v->base_id, &at) ? 0 : refer_commit(v, &at, err);
		if (type == WR_OBJ_TREE)
			return refer_tree(v, &at, NULL, err);
		if (refer(v, &at, type, false, err) < 0)
			return -1;
		if (type != WR_OBJ_TAG || !here)
			return 0;
		if (refer_tagged(v, &at, &at, &claimed, err) < 0)
			return -1;
	}
	return wr_err_set(err, WR_E_CORRUPT, "more than %d tags of tags", WR_SYNC_TAG_DEPTH);
}

static const struct wr_sync_list *
list_now(const struct recv *v)
{
	return v->first_on ? &v->newest : &v->m.target;
}

static void
add_base(struct recv *v, const struct wr_id *id)
{
	struct wr_id at = *id;
	enum wr_obj_type type;
	bool fresh;

	for (int depth = 0; depth < WR_SYNC_TAG_DEPTH; depth++) {
		uint64_t size;

		/* From the repository, not from what came. */
		if (wr_repo_stat_object(v->m.src.rd, &at, &type, &size, NULL) < 0)
			return;
		*wr_idmap_put(&v->base_id, &at, &fresh) = type;
		if (type == WR_OBJ_COMMIT)
			(void)wr_hist_add(&v->hist, &at, false, true, NULL); /* never fails */
		if (type != WR_OBJ_TAG ||
		    wr_repo_read(v->m.src.rd, &at, WR_OBJ_TAG, true, NULL, &v->payload, NULL) < 0 ||
		    wr_tag_parse(&v->payload, &at, &type, NULL) < 0)
			return;
	}
}

static int
start_check(struct recv *v, struct wr_err *err)
{
	struct wr_sync *m = &v->m;

	if (v->quar && !v->quar->sealed && wr_quar_seal(v->quar, err) < 0)
		return -1;
	forget_check(v);
	if (mends(v)) {
		v->packs = wr_repo_ordinal_end(m->src.repo);
		v->state = RECV_SYNC;
		return 0;
	}
	m->src.quar = v->quar;
	v->packs = wr_repo_ordinal_end(m->src.repo);
	v->visited = wr_calloc(v->total / 8 + 1, 1);
	v->pairs = (struct wr_pairs){.src = &m->src, .fn = on_ref, .ctx = v, .with_ok = with_ok};
	wr_hist_init(&v->hist, &m->src);
	for (size_t i = 0; i < v->own.count; i++)
		if (v->own.ref[i].used)
			add_base(v, &v->own.ref[i].id);
	for (size_t i = 0; i < list_now(v)->count; i++)
		if (check_target(v, &list_now(v)->ref[i], err) < 0)
			return wr_err_wrap(err, "ref '%s'", WR_Q(list_now(v)->ref[i].name));
	v->state = RECV_HISTORY;
	return 0;
}

static int
end_history(struct recv *v, struct wr_err *err)
{
	bool fresh;

	wr_hist_new(&v->hist, &v->fresh, &v->fresh_count);
	for (size_t i = 0; i < v->hist.count; i++)
		if (v->hist.c[i].base && !v->hist.c[i].unread)
			*wr_idmap_put(&v->base_id, &v->hist.c[i].tree, &fresh) = WR_OBJ_TREE;
	/* Commits that did not come and were not met on the way back from the base. */
	for (size_t i = 0; i < v->hist.count; i++)
		if (v->hist.c[i].target && !v->hist.c[i].base && !v->hist.c[i].quar &&
		    refer(v, &v->hist.c[i].id, WR_OBJ_COMMIT, false, err) < 0)
			return -1;
	v->state = RECV_TREES;
	return 0;
}

/* Tree to put beside that of a commit without parents. */
static const struct wr_id *
some_tree(const struct recv *v)
{
	const struct wr_hist_commit *best = NULL;

	if (v->fresh_at > 0)
		return &v->hist.c[v->fresh[v->fresh_at - 1]].tree;
	for (size_t i = 0; i < v->hist.count; i++)
		if (v->hist.c[i].base && (!best || v->hist.c[i].time > best->time))
			best = &v->hist.c[i];
	return best ? &best->tree : NULL;
}

static int
next_commit(struct recv *v, struct wr_err *err)
{
	const struct wr_hist_commit *c = &v->hist.c[v->fresh[v->fresh_at]], *parent = NULL;
	bool same;

	if (c->parents > 0)
		parent = wr_hist_find(&v->hist, &v->hist.parent[c->parent]);
	if (parent && parent->unread)
		parent = NULL;
	if (refer(v, &c->id, WR_OBJ_COMMIT, false, err) < 0)
		return -1;
	/* A parent that is an open question answers none: all fails with it. */
	same = parent && wr_id_eq(&parent->tree, &c->tree);
	if (!same && refer_tree(v, &c->tree, parent ? &parent->tree : some_tree(v), err) < 0)
		return wr_err_wrap(err, "commit %s", wr_id_hex(&c->id).s);
	v->fresh_at++;
	return 0;
}

static int
trees(struct recv *v, struct wr_err *err)
{
	int rc = wr_pairs_step(&v->pairs, WR_SLICE, err);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	for (unsigned i = 0; i < WR_SLICE && v->pairs.count == 0; i++) {
		if (v->fresh_at == v->fresh_count) {
			v->state = RECV_REST;
			return 0;
		}
		if (next_commit(v, err) < 0)
			return -1;
	}
	return 0;
}

/* References of an object that nothing led to. */
static int
rest_object(struct recv *v, uint32_t pos, struct wr_err *err)
{
	struct wr_id id = wr_idx_id(&v->quar->idx, pos), to;
	enum wr_obj_type type = v->quar->type[pos];
	struct wr_commit c = WR_COMMIT_INIT;
	int rc = refer(v, &id, type, false, err);

	if (rc <= 0 || type == WR_OBJ_BLOB)
		return rc < 0 ? -1 : 0;
	if (type == WR_OBJ_TREE) {
		wr_pairs_push(&v->pairs, &id, NULL);
		return 0;
	}
	if (type == WR_OBJ_TAG) {
		if (refer_tagged(v, &id, &to, &type, err) < 0)
			return -1;
		/* What it leads to is met here as well, if it came. */
		if (wr_quar_find_id(v->quar, &to) < 0)
			return refer(v, &to, type, false, err) < 0 ? -1 : 0;
		return 0;
	}
	if (wr_src_read(&v->m.src, &id, WR_OBJ_COMMIT, NULL, &v->payload, err) < 0 ||
	    wr_commit_parse(v->payload.p, v->payload.len, &c, err) < 0)
		return wr_err_wrap(err, "commit %s", wr_id_hex(&id).s);
	rc = refer_tree(v, &c.tree, NULL, err);
	for (size_t i = 0; rc == 0 && i < c.parent_count; i++) {
		int64_t at = wr_quar_find_id(v->quar, &c.parent[i]);

		if (at < 0)
			rc = refer(v, &c.parent[i], WR_OBJ_COMMIT, false, err);
		else if (v->quar->type[at] != WR_OBJ_COMMIT)
			rc = wr_err_set(err, WR_E_CORRUPT, "parent %s is no commit",
					wr_id_hex(&c.parent[i]).s);
	}
	wr_commit_fini(&c);
	return rc;
}

static int
rest(struct recv *v, struct wr_err *err)
{
	int rc = wr_pairs_step(&v->pairs, WR_SLICE, err);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	for (unsigned i = 0; i < 64 * WR_SLICE && v->pairs.count == 0; i++) {
		if (v->rest_at == v->total) {
			v->state = v->open_count ? RECV_FULL : RECV_SYNC;
			return 0;
		}
		if (rest_object(v, v->rest_at++, err) < 0)
			return -1;
	}
	return 0;
}

static int
answer(void *ctx, const struct wr_id *id, enum wr_obj_type type)
{
	struct recv *v = ctx;
	uint64_t *want = wr_idmap_find(&v->open, id);

	/* A ref of the base comes without its type: nobody can have asked for it with another. */
	if (!want || *want == UINT64_MAX)
		return 0;
	if (type != WR_OBJ_NONE && *want != WR_OBJ_NONE && *want != type) {
		wr_err_set(&v->bad, WR_E_CORRUPT, "object %s is a %s and referred to as a %s",
			   wr_id_hex(id).s, wr_obj_type_name(type),
			   wr_obj_type_name((enum wr_obj_type) * want));
		return 1;
	}
	*want = UINT64_MAX;
	return --v->open_count == 0;
}

static int
full(struct recv *v, struct wr_err *err)
{
	static const struct wr_err none = WR_ERR_INIT;
	const struct wr_idmap_slot *s;
	int rc;

	if (!v->full.src) {
		v->bad = none;
		v->repo_only = (struct wr_src){.repo = v->m.src.repo, .rd = v->m.src.rd};
		wr_full_init(&v->full, &v->repo_only);
		v->full.lenient = true;
		v->full.fn = answer;
		v->full.ctx = v;
		for (size_t i = 0; i < v->own.count; i++)
			if (v->own.ref[i].used)
				wr_full_push(&v->full, &v->own.ref[i].id, WR_OBJ_NONE);
	}
	rc = wr_full_step(&v->full, WR_SLICE, err);
	if (v->bad.code != WR_E_NONE) {
		if (err)
			*err = v->bad;
		return -1;
	}
	if (v->open_count == 0) {
		v->state = RECV_SYNC;
		return 0;
	}
	if (rc == 1)
		return 0;
	for (size_t i = 0; (s = wr_idmap_next(&v->open, &i));)
		if (s->value != UINT64_MAX)
			return wr_err_set(err, WR_E_CORRUPT,
					  "object %s is missing: it neither came nor is it reached "
					  "by the refs that the far side builds on",
					  wr_id_hex(&s->id).s);
	return wr_err_set(err, WR_E_CORRUPT, "an object is missing");
}

static int
sync_quar(struct recv *v, struct wr_err *err)
{
	if (v->quar && wr_quar_sync(v->quar, err) < 0)
		return -1;
	wr_crash_point("sync.ready");
	forget_check(v);
	v->m.progress.phase = WR_SYNC_PHASE_COMMIT;
	v->m.status = WR_SYNC_READY;
	v->state = RECV_READY;
	return 0;
}

/* ---- the machine ---- */

static int
recv_frame(struct wr_sync *m, enum wr_frame type, struct wr_rd *r, struct wr_err *err)
{
	struct recv *v = (struct recv *)m;

	if (type == WR_FRAME_OFFER && v->state == RECV_OFFER)
		return on_offer(v, r, err);
	if (type == WR_FRAME_MORE && v->state == RECV_BEGIN && !mends(v))
		return on_more(v, err);
	if (type == WR_FRAME_FIRST && v->state == RECV_BEGIN)
		return on_first(v, r, err);
	if (type == WR_FRAME_BEGIN && v->state == RECV_BEGIN)
		return on_begin(v, r, err);
	if (type == WR_FRAME_USE && v->state == RECV_HELD)
		return on_use(v, r, err);
	if (type == WR_FRAME_DATA && v->state == RECV_DATA)
		return on_data(v, r, err);
	if (type == WR_FRAME_END && v->state == RECV_DATA)
		return on_end(v, r, err);
	return wr_sync_out_of_turn(type, err);
}

static int
recv_step(struct recv *v, struct wr_err *err)
{
	int rc;

	switch (v->state) {
	case RECV_START:
		return start(v, err);
	case RECV_WANT:
		want(v);
		return 0;
	case RECV_LOAD:
		return load(v, err);
	case RECV_KEEP:
		return keep(v, err);
	case RECV_SEAL:
		return start_check(v, err);
	case RECV_HISTORY:
		rc = wr_hist_step(&v->hist, WR_SLICE, err);
		return rc == 0 ? end_history(v, err) : rc < 0 ? -1 : 0;
	case RECV_TREES:
		return trees(v, err);
	case RECV_REST:
		return rest(v, err);
	case RECV_FULL:
		return full(v, err);
	default:
		return sync_quar(v, err);
	}
}

static int
recv_work(struct wr_sync *m, struct wr_err *err)
{
	struct recv *v = (struct recv *)m;
	enum recv_state was = v->state;

	if (recv_step(v, err) == 0)
		return 0;
	/* What is wrong in itself would be wrong again after a resumption. */
	if (was >= RECV_SEAL && err->code != WR_E_SYS && err->code != WR_E_NOSPACE) {
		m->src.quar = NULL;
		wr_quar_drop(wr_steal(&v->quar));
	}
	return -1;
}

static bool
recv_busy(const struct wr_sync *m)
{
	const struct recv *v = (const struct recv *)m;

	return v->state == RECV_START || v->state == RECV_WANT || v->state == RECV_LOAD ||
	       v->state == RECV_KEEP || (v->state >= RECV_SEAL && v->state <= RECV_SYNC);
}

struct wr_sync *
wr_sync_recv_new(struct wr_repo *r, const struct wr_save_rec *target,
		 const struct wr_sync_recv_opts *o)
{
	static const struct wr_sync_ops ops = {recv_frame, recv_work, recv_busy, recv_free};
	struct recv *v = wr_calloc(1, sizeof(*v));

	wr_sync_init(&v->m, &ops, r, target);
	v->o = *o;
	v->o.max_bytes = o->max_bytes ? o->max_bytes : UINT64_MAX;
	v->o.max_objects = o->max_objects ? o->max_objects : MAX_OBJECTS;
	v->o.max_object = o->max_object ? WR_MIN(o->max_object, WR_OBJ_MAX) : WR_OBJ_MAX;
	v->o.stale_s = o->stale_s ? o->stale_s : STALE_S;
	v->state = RECV_START;
	return &v->m;
}

/* ---- commit ---- */

/* 1: they are where they were when the sender was told; 0: not. */
static int
base_unchanged(struct recv *v, struct wr_err *err)
{
	for (size_t i = 0; i < v->own.count; i++) {
		const struct wr_sync_ref *ref = &v->own.ref[i];
		struct wr_err why = WR_ERR_INIT;
		struct wr_id now;

		if (!ref->used)
			continue;
		if (wr_ref_read(v->m.src.repo, ref->name, &now, &why) < 0) {
			if (why.code == WR_E_NOT_FOUND)
				return 0;
			if (err)
				*err = why;
			return -1;
		}
		if (!wr_id_eq(&now, &ref->id))
			return 0;
	}
	return 1;
}

/* Packs came to the repository since: what they brought must be the same, too. */
static int
check_all_same(struct recv *v, struct wr_err *err)
{
	for (uint32_t i = 0; i < v->total; i++) {
		struct wr_id id = wr_idx_id(&v->quar->idx, i);
		enum wr_obj_type type;

		if (!wr_repo_exists(v->m.src.repo, &id))
			continue;
		if (wr_quar_read(v->quar, i, &type, &v->payload, err) < 0 ||
		    check_same(v, &id, type, &v->payload, err) < 0)
			return -1;
	}
	return 0;
}

static void
begin_again(struct recv *v)
{
	v->first_on = false;
	wr_sync_list_fini(&v->newest);
	v->m.status = WR_SYNC_RUNNING;
	v->m.progress.phase = WR_SYNC_PHASE_NEGOTIATE;
	v->m.src.quar = NULL;
	v->state = RECV_START;
}

static int
commit_locked(struct recv *v, const struct wr_sync_commit *c, struct wr_sync_result *out,
	      struct wr_err *err)
{
	struct wr_repo *r = v->m.src.repo;
	int same = base_unchanged(v, err);

	if (same < 0)
		return -1;
	if (!same)
		return wr_err_set(err, WR_E_CHANGED, "refs that the far side builds on have moved");
	if (v->quar) {
		if ((v->reused || wr_repo_ordinal_end(r) != v->packs) && check_all_same(v, err) < 0)
			return -1;
		out->objects = v->quar->total;
		out->bytes = v->quar->bytes + WR_ID_LEN;
		v->m.src.quar = NULL;
		if (wr_quar_install(v->quar, err) < 0)
			return -1;
		v->quar = NULL;
		if (wr_repo_refresh(r, err) < 0)
			return -1;
	}
	if (mends(v))
		return 0;
	if (v->first_on)
		return wr_sync_put_latest(r, &v->newest.ref[0].id, c, err);
	if (wr_sync_move_refs(r, v->o.mode, &v->m.target, c, out, err) < 0)
		return -1;
	if (wr_sync_drop_keeps(r, c->now, c->floor_s, &out->refs_dropped, err) < 0 ||
	    wr_repo_drop_aside(r, c->now, c->floor_s, err) < 0)
		return -1;
	/* A cache: without it searches are slower. */
	if (out->objects)
		(void)wr_repo_index_maintain(r, NULL);
	return 0;
}

int
wr_sync_recv_commit(struct wr_sync *m, const struct wr_sync_commit *c, struct wr_sync_result *out,
		    struct wr_err *err)
{
	struct recv *v = (struct recv *)m;
	struct wr_err why = WR_ERR_INIT;
	struct wr_sync_result res = {0};
	int rc;

	wr_assert(m->status == WR_SYNC_READY && v->state == RECV_READY);
	if (wr_repo_lock(m->src.repo, "receive", c->lock_wait_s, &why) < 0) {
		if (why.code != WR_E_BUSY)
			wr_sync_fail(m, &why);
		if (err)
			*err = why;
		return -1;
	}
	rc = commit_locked(v, c, &res, &why);
	wr_repo_unlock(m->src.repo);
	if (rc == 0 && v->first_on) {
		v->first_done = true;
		rc =
		    wr_err_set(&why, WR_E_CHANGED, "the newest state is here, its history follows");
	}
	if (rc < 0) {
		if (why.code == WR_E_CHANGED)
			begin_again(v);
		else
			wr_sync_fail(m, &why);
		if (err)
			*err = why;
		return -1;
	}
	wr_frame_end(m, wr_frame_begin(m, WR_FRAME_DONE));
	m->status = WR_SYNC_DONE;
	*out = res;
	return 0;
}
