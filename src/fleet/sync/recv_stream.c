/* SPDX-License-Identifier: Apache-2.0 */
/* The receiver: what comes goes into the quarantine, object by object, each hashed. */
#include <sys/statvfs.h>

#include "fleet/sync/recv_int.h"
#include "fleet/sync/sync_int.h"
#include "sys/crash.h"

/* The room on the file system is looked at after so many bytes. */
#define ROOM_EVERY ((uint64_t)8 << 20)
/* Entry's head at most. */
#define ENTRY_HEAD 32

/* What there is no room for shall not take that of others until it is too old. */
static void
make_room(struct wr_recv *v)
{
	wr_quar_drop(wr_steal(&v->quar));
}

/* A transfer is in nobody else's way: what the volume keeps free is for saves and users. */
static int
check_room(struct wr_recv *v, uint64_t more, struct wr_err *err)
{
	struct statvfs st;

	if (!v->o.min_free)
		return 0;
	if (fstatvfs(wr_repo_fd(v->m.src.repo), &st) < 0)
		return wr_err_sys(err, "look for room");
	if ((uint64_t)st.f_bavail * st.f_frsize / 2 >= v->o.min_free / 2 + more / 2)
		return 0;
	make_room(v);
	return wr_err_set(err, WR_E_NOSPACE, "the volume takes no objects of other nodes now");
}

int
wr_recv_on_begin(struct wr_recv *v, struct wr_rd *r, struct wr_err *err)
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
		v->state = WR_RECV_DATA;
		return 0;
	}
	if (v->quar) {
		v->state = WR_RECV_LOAD;
		return 0;
	}
	memcpy(stream.b, id, WR_ID_LEN);
	v->quar = wr_quar_new(v->m.src.repo, &stream, v->total, err);
	if (!v->quar)
		return -1;
	v->state = WR_RECV_DATA;
	/* What the sender says is checked again as it comes. */
	return check_room(v, bytes, err);
}

/* The newest state alone comes first: it belongs to the list if its tip is the one that the list
 * names. */
int
wr_recv_on_first(struct wr_recv *v, struct wr_rd *r, struct wr_err *err)
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
held_end(const struct wr_recv *v)
{
	return WR_MIN(v->held_at + WR_SYNC_HELD_STEP, (uint64_t)v->quar->count);
}

static void
tell_held(struct wr_recv *v)
{
	size_t at = wr_frame_begin(&v->m, WR_FRAME_HELD);

	wr_buf_add8(&v->m.out, held_end(v) == v->quar->count);
	for (uint64_t i = v->held_at; i < held_end(v); i++)
		wr_buf_add(&v->m.out, v->quar->e[i].id.b, WR_ID_LEN);
	wr_frame_end(&v->m, at);
}

int
wr_recv_on_use(struct wr_recv *v, struct wr_rd *r, struct wr_err *err)
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
		v->state = WR_RECV_KEEP;
	return 0;
}

int
wr_recv_load(struct wr_recv *v, struct wr_err *err)
{
	int rc = wr_quar_load(v->quar, WR_SLICE, err);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	v->held_at = 0;
	free(v->held);
	v->held = wr_calloc(v->quar->count / 8 + 1, 1);
	tell_held(v);
	v->state = WR_RECV_HELD;
	return 0;
}

static int
check_asked_for(const struct wr_recv *v, const struct wr_id *id, struct wr_err *err)
{
	if (!wr_recv_mends(v) || wr_idmap_find(&v->wanted, id))
		return 0;
	return wr_err_set(err, WR_E_INVALID, "object %s was not asked for", wr_id_hex(id).s);
}

int
wr_recv_keep(struct wr_recv *v, struct wr_err *err)
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
	v->state = WR_RECV_DATA;
	return check_room(v, v->announced > v->quar->bytes ? v->announced - v->quar->bytes : 0,
			  err);
}

/*
 * An object that is here already must have the same bytes: two contents of one id cannot both be
 * right, and other copies could then differ unseen.  A copy of ours that is damaged proves nothing.
 */
int
wr_recv_check_same(struct wr_recv *v, const struct wr_id *id, enum wr_obj_type type,
		   const struct wr_buf *b, struct wr_err *err)
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
take_entry(struct wr_recv *v, const uint8_t *p, size_t len, struct wr_err *err)
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
	if (check_asked_for(v, &id, err) < 0 ||
	    wr_recv_check_same(v, &id, type, &v->payload, err) < 0 ||
	    wr_quar_add(v->quar, type, &id, crc, p, len, err) < 0)
		return -1;
	v->m.progress.objects = v->quar->count;
	v->m.progress.bytes = v->quar->bytes;
	wr_crash_point("sync.object");
	return 0;
}

int
wr_recv_on_data(struct wr_recv *v, struct wr_rd *r, struct wr_err *err)
{
	uint64_t longest = ENTRY_HEAD + wr_deflate_bound((size_t)v->o.max_object);
	size_t left = r->left, at = 0;

	if (!v->quar || v->quar->sealed || left == 0)
		return wr_err_set(err, WR_E_INVALID, "objects that were not announced");
	wr_buf_add(&v->part, wr_rd_bytes(r, left), left);
	while (v->part.len - at >= 4) {
		uint32_t len = wr_get32be(v->part.p + at);
		size_t number = v->quar->count + 1;
		struct wr_err why = WR_ERR_INIT;

		if (len > longest)
			return wr_err_set(err, WR_E_LIMIT,
					  "an object of %" PRIu32 " packed bytes is too large",
					  len);
		if (v->part.len - at - 4 < len)
			break;
		if (take_entry(v, v->part.p + at + 4, len, &why) < 0) {
			if (why.code == WR_E_NOSPACE)
				make_room(v);
			if (err)
				*err = why;
			return wr_err_wrap(err, "object %zu of the stream", number);
		}
		at += 4 + (size_t)len;
	}
	memmove(v->part.p, v->part.p + at, v->part.len - at);
	v->part.len -= at;
	return 0;
}

int
wr_recv_on_end(struct wr_recv *v, struct wr_rd *r, struct wr_err *err)
{
	uint64_t total = wr_rd64be(r), have = v->quar ? v->quar->count : 0;

	if (total != v->total || have != v->total || v->part.len > 0)
		return wr_err_set(err, WR_E_INVALID,
				  "the stream ended after %" PRIu64 " of %" PRIu64 " objects", have,
				  v->total);
	wr_buf_fini(&v->part);
	v->m.progress.phase = WR_SYNC_PHASE_CHECK;
	v->state = WR_RECV_SEAL;
	return 0;
}
