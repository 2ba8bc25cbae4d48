/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sender.  What the far side names as its own is only ever used to leave things out: commits
 * named there that this repository has, too.  What is sent is what the target's refs reach.
 *
 *   HELLO, REFS      until the far side's list is here
 *   HISTORY (work)   which commits are new; perhaps MORE and once again with HAVES
 *   TREES (work)     the objects of new commits, by pairs
 *   FULL (work)      only if much may be sent for nothing: minus what the base reaches
 *   PLAN (work)      order, stream id, BEGIN
 *   HELD             when objects lie on the far side that came before: which of the plan's?
 *   DATA (work)      the other entries, then END
 *   DONE             or HELLO again, when the far side's refs have moved
 *
 * Newest first: where the plan is large and of more than one snapshot, it is put off, and another
 * one is made of the tip's tree alone, behind FIRST.  When the far side has that, it begins again.
 *
 * To a damaged far side, instead of HISTORY to PLAN:
 *
 *   REACH (work)     all that the target's refs and the far side's reach here
 *   WANT             OFFER by OFFER: which of it is wanted
 *   TRY (work)       what of that can be read; then BEGIN as above
 *
 * Order of the stream: by pack and offset, which reads disks in order; loose objects by id.
 */
#include "fleet/sync/send_int.h"
#include "fleet/sync/sync_int.h"

#define WASTE_BYTES (UINT64_C(1) << 20)
/* From this size of a plan on the newest state goes first. */
#define FIRST_BYTES (UINT64_C(8) << 20)

static void
send_free(struct wr_sync *m)
{
	struct wr_send *s = (struct wr_send *)m;

	wr_send_forget(s);
	wr_sync_list_fini(&s->far);
	free(s->have);
	wr_buf_fini(&s->tip);
	wr_buf_fini(&s->made);
	wr_pack_reader_free(s->pr);
	wr_deflater_free(s->deflater);
	wr_buf_fini(&s->data);
	wr_buf_fini(&s->payload);
}

/* ---- frames ---- */

static int
on_hello(struct wr_send *s, struct wr_rd *r, struct wr_err *err)
{
	uint32_t magic = wr_rd32be(r);
	uint16_t version = wr_rd16be(r);
	uint8_t bits;

	if (magic != WR_SYNC_MAGIC)
		return wr_err_set(err, WR_E_INVALID, "the far side does not speak this protocol");
	if (version != WR_SYNC_VERSION)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "the far side speaks version %u of this protocol, we speak %d",
				  version, WR_SYNC_VERSION);
	if (s->state == WR_SEND_DONE && ++s->again > WR_SYNC_AGAIN_MAX)
		return wr_err_set(err, WR_E_LIMIT, "the far side began again %u times", s->again);
	s->far_total = wr_rd32be(r);
	bits = wr_rd8(r);
	s->can_resume = bits & WR_HELLO_RESUME;
	s->mend = bits & WR_HELLO_MEND;
	if (s->far_total > WR_SYNC_REFS_MAX)
		return wr_err_set(err, WR_E_INVALID, "the far side tells too many refs");
	wr_sync_list_fini(&s->far);
	free(wr_steal(&s->have));
	s->have_count = s->have_cap = 0;
	s->asked_more = false;
	s->m.progress.phase = WR_SYNC_PHASE_NEGOTIATE;
	s->state = WR_SEND_REFS;
	return 0;
}

static int
refs_complete(struct wr_send *s, struct wr_err *err)
{
	if (s->far.count < s->far_total)
		return 0;
	wr_send_end_first(s);
	if (s->mend) {
		wr_send_reach(s);
		return 0;
	}
	if (!wr_send_far_has_all(s))
		return wr_send_history(s, err);
	wr_send_forget(s);
	wr_send_begin(s);
	return 0;
}

static int
on_refs(struct wr_send *s, struct wr_rd *r, struct wr_err *err)
{
	while (r->left > 0 && s->far.count < s->far_total) {
		size_t len = wr_rd16be(r);
		const uint8_t *name = len && len <= WR_SYNC_NAME_MAX ? wr_rd_bytes(r, len) : NULL;
		const uint8_t *b = wr_rd_bytes(r, WR_ID_LEN);
		struct wr_id id;

		if (!name || !b || memchr(name, '\0', len))
			return wr_err_set(err, WR_E_INVALID, "the far side sent a bad ref");
		memcpy(id.b, b, WR_ID_LEN);
		wr_sync_list_add(&s->far, (const char *)name, len, &id);
	}
	return refs_complete(s, err);
}

static int
on_haves(struct wr_send *s, struct wr_rd *r, struct wr_err *err)
{
	bool last = wr_rd8(r);

	while (r->left > 0) {
		struct wr_send_have h = {.ref = wr_rd32be(r)};
		const uint8_t *id = wr_rd_bytes(r, WR_ID_LEN);

		if (!id || h.ref >= s->far.count || s->have_count == WR_SYNC_HAVES_MAX)
			return wr_err_set(err, WR_E_INVALID, "the far side names bad commits");
		memcpy(h.id.b, id, WR_ID_LEN);
		wr_grow(&s->have, &s->have_cap, s->have_count + 1, sizeof(*s->have));
		s->have[s->have_count++] = h;
	}
	return last ? wr_send_history(s, err) : 0;
}

static int
send_frame(struct wr_sync *m, enum wr_frame type, struct wr_rd *r, struct wr_err *err)
{
	struct wr_send *s = (struct wr_send *)m;

	if (type == WR_FRAME_HELLO && (s->state == WR_SEND_HELLO || s->state == WR_SEND_DONE)) {
		if (on_hello(s, r, err) < 0)
			return -1;
		return s->far_total == 0 ? refs_complete(s, err) : 0;
	}
	if (type == WR_FRAME_REFS && s->state == WR_SEND_REFS)
		return on_refs(s, r, err);
	if (type == WR_FRAME_HAVES && s->state == WR_SEND_HAVES)
		return on_haves(s, r, err);
	if (type == WR_FRAME_WANT && s->state == WR_SEND_WANT)
		return wr_send_on_want(s, r, err);
	if (type == WR_FRAME_HELD && s->state == WR_SEND_HELD)
		return wr_send_on_held(s, r, err);
	if (type == WR_FRAME_DONE && s->state == WR_SEND_DONE && !s->first_on) {
		s->m.status = WR_SYNC_DONE;
		return 0;
	}
	return wr_sync_out_of_turn(type, err);
}

static int
send_work(struct wr_sync *m, struct wr_err *err)
{
	struct wr_send *s = (struct wr_send *)m;
	int rc;

	switch (s->state) {
	case WR_SEND_HISTORY:
		rc = wr_hist_step(&s->hist, WR_SLICE, err);
		if (rc != 0)
			return rc < 0 ? -1 : 0;
		if (!wr_send_want_more(s)) {
			wr_send_trees(s);
			return 0;
		}
		s->asked_more = true;
		wr_frame_end(m, wr_frame_begin(m, WR_FRAME_MORE));
		s->state = WR_SEND_HAVES;
		return 0;
	case WR_SEND_TREES:
		return wr_send_work_trees(s, err);
	case WR_SEND_FULL:
		if (wr_full_step(&s->full, WR_SLICE, err) == 0)
			s->state = WR_SEND_PLAN;
		return 0;
	case WR_SEND_PLAN:
		return wr_send_work_plan(s, err);
	case WR_SEND_REACH:
		return wr_send_work_reach(s, err);
	case WR_SEND_TRY:
		wr_send_work_try(s);
		return 0;
	default:
		return wr_send_work_data(s, err);
	}
}

static bool
send_busy(const struct wr_sync *m)
{
	const struct wr_send *s = (const struct wr_send *)m;

	return s->state == WR_SEND_HISTORY || s->state == WR_SEND_TREES ||
	       s->state == WR_SEND_FULL || s->state == WR_SEND_PLAN || s->state == WR_SEND_REACH ||
	       s->state == WR_SEND_TRY || s->state == WR_SEND_DATA;
}

struct wr_sync *
wr_sync_send_new(struct wr_repo *r, const struct wr_save_rec *target,
		 const struct wr_sync_send_opts *o)
{
	static const struct wr_sync_ops ops = {send_frame, send_work, send_busy, send_free};
	struct wr_send *s = wr_calloc(1, sizeof(*s));

	wr_sync_init(&s->m, &ops, r, target);
	s->state = WR_SEND_HELLO;
	s->waste = o && o->waste_bytes ? o->waste_bytes : WASTE_BYTES;
	s->newest_first = o && o->newest_first;
	s->first_bytes = o && o->first_bytes ? o->first_bytes : FIRST_BYTES;
	s->open = (struct wr_pack)WR_PACK_INIT;
	return &s->m;
}
