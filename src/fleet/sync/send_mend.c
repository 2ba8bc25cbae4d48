/* SPDX-License-Identifier: Apache-2.0 */
/* The sender: what a damaged far side wants, and what of that can be read here. */
#include "fleet/sync/send_int.h"
#include "fleet/sync/sync_int.h"

static int
on_reached(void *ctx, const struct wr_id *id, WR_UNUSED enum wr_obj_type type)
{
	struct wr_send *s = ctx;

	if (wr_repo_exists(s->m.src.repo, id))
		wr_send_add(s, id);
	return 0;
}

/* Refs that the far side alone keeps may be known here, too. */
void
wr_send_reach(struct wr_send *s)
{
	wr_send_forget(s);
	wr_id_marks_init(&s->seen, s->m.src.repo);
	wr_hist_init(&s->hist, &s->m.src);
	wr_full_init(&s->full, &s->m.src);
	s->full.lenient = true;
	s->full.fn = on_reached;
	s->full.ctx = s;
	for (size_t i = 0; i < s->m.target.count; i++)
		wr_full_push(&s->full, &s->m.target.ref[i].id, WR_OBJ_NONE);
	for (size_t i = 0; i < s->far.count; i++)
		if (wr_repo_exists(s->m.src.repo, &s->far.ref[i].id))
			wr_full_push(&s->full, &s->far.ref[i].id, WR_OBJ_NONE);
	s->state = WR_SEND_REACH;
}

static size_t
offer_len(const struct wr_send *s)
{
	return WR_MIN(s->item_count + s->loose_count - s->offer_at, (size_t)WR_OFFER_IDS);
}

static void
put_offer(struct wr_send *s)
{
	size_t at = wr_frame_begin(&s->m, WR_FRAME_OFFER), n = offer_len(s);

	wr_buf_add8(&s->m.out, s->offer_at + n == s->item_count + s->loose_count);
	for (size_t i = 0; i < n; i++) {
		struct wr_id id = wr_send_nth(s, s->offer_at + i);

		wr_buf_add(&s->m.out, id.b, WR_ID_LEN);
	}
	wr_frame_end(&s->m, at);
	s->state = WR_SEND_WANT;
}

int
wr_send_work_reach(struct wr_send *s, struct wr_err *err)
{
	if (wr_full_step(&s->full, WR_SLICE, err) != 0)
		return 0;
	wr_full_fini(&s->full);
	if (wr_send_make_items(s, err) < 0)
		return -1;
	s->offer_at = 0;
	put_offer(s);
	return 0;
}

/* What is not wanted, or cannot be read, is marked before it goes: offsets of others depend on it.
 */
#define NOT_SENT UINT32_MAX

static void
leave_out(struct wr_send *s, size_t i)
{
	if (i < s->item_count)
		s->item[i].pack = NOT_SENT;
	else
		memset(&s->loose[i - s->item_count], 0, sizeof(*s->loose));
}

static bool
left_out(const struct wr_send *s, size_t i)
{
	return i < s->item_count ? s->item[i].pack == NOT_SENT
				 : wr_id_is_zero(&s->loose[i - s->item_count]);
}

int
wr_send_on_want(struct wr_send *s, struct wr_rd *r, struct wr_err *err)
{
	size_t n = offer_len(s);
	const uint8_t *bits = wr_rd_bytes(r, (n + 7) / 8);

	if (n && !bits)
		return wr_err_set(err, WR_E_INVALID, "the far side wants something else");
	for (size_t i = 0; i < n; i++)
		if (!(bits[i / 8] >> (i % 8) & 1))
			leave_out(s, s->offer_at + i);
	s->offer_at += n;
	if (s->offer_at < s->item_count + s->loose_count) {
		put_offer(s);
		return 0;
	}
	s->offer_at = 0;
	s->state = WR_SEND_TRY;
	return 0;
}

static void
drop_left_out(struct wr_send *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->item_count; i++)
		if (s->item[i].pack != NOT_SENT)
			s->item[n++] = s->item[i];
	s->item_count = n;
	n = 0;
	for (size_t i = 0; i < s->loose_count; i++)
		if (!wr_id_is_zero(&s->loose[i]))
			s->loose[n++] = s->loose[i];
	s->loose_count = n;
}

/* This copy may be damaged as well: what it cannot give must not end the transfer of the rest. */
void
wr_send_work_try(struct wr_send *s)
{
	size_t all = s->item_count + s->loose_count;

	for (size_t tried = 0; s->offer_at < all && tried < WR_SLICE; s->offer_at++) {
		struct wr_id id;

		if (left_out(s, s->offer_at))
			continue;
		tried++;
		id = wr_send_nth(s, s->offer_at);
		if (wr_repo_read(s->m.src.rd, &id, WR_OBJ_NONE, true, NULL, &s->payload, NULL) < 0)
			leave_out(s, s->offer_at);
	}
	if (s->offer_at < all)
		return;
	drop_left_out(s);
	wr_send_begin(s);
}
