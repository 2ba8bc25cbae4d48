/* SPDX-License-Identifier: Apache-2.0 */
/* The sender: entries copied out of packs, or made. */
#include "fleet/sync/send_int.h"
#include "fleet/sync/sync_int.h"

/* Level of what has to be compressed again: deltas, loose objects. */
#define LEVEL 1

static void
add_deflated(struct wr_send *s, enum wr_obj_type type, const struct wr_buf *payload)
{
	if (!s->deflater)
		s->deflater = wr_deflater_new(LEVEL);
	wr_pack_entry_make(s->deflater, type, payload->p, payload->len, &s->data);
}

static int
add_made(struct wr_send *s, const struct wr_id *id, struct wr_err *err)
{
	enum wr_obj_type type;

	if (wr_repo_read(s->m.src.rd, id, WR_OBJ_NONE, true, &type, &s->payload, err) < 0)
		return -1;
	add_deflated(s, type, &s->payload);
	return 0;
}

/* Append the entry as its pack has it; 0: that cannot be done. */
static int
add_copied(struct wr_send *s, const struct wr_send_item *it)
{
	const struct wr_send_pack *p = &s->pack[it->pack];
	uint32_t crc;
	bool has_crc = wr_idx_crc(p->idx, it->pos, &crc);

	if (s->open_pack != it->pack + 1) {
		WR_SCOPED(wr_freep) char *name = wr_asprintf("pack/%s.pack", p->name);

		wr_pack_close(&s->open);
		s->open_pack = it->pack + 1;
		/* Gone, after a repack: each object is then read from where it lies now. */
		(void)wr_pack_open(&s->open, wr_repo_objects_fd(s->m.src.repo), name, NULL);
	}
	if (s->open.fd < 0)
		return 0;
	if (!s->pr)
		s->pr = wr_pack_reader_new();
	return wr_pack_raw(&s->open, s->pr, it->off,
			   it->end == UINT64_MAX ? s->open.size - WR_ID_LEN : it->end,
			   has_crc ? &crc : NULL, &s->data, NULL) == 1;
}

static int
add_entry(struct wr_send *s, struct wr_err *err)
{
	size_t start = s->data.len;
	struct wr_id id;

	wr_buf_add32be(&s->data, 0);
	if (s->at < s->item_count) {
		id = wr_send_item_id(s, (size_t)s->at);
		if (!add_copied(s, &s->item[s->at]) && add_made(s, &id, err) < 0)
			return -1;
	} else if (s->at < s->item_count + s->loose_count) {
		if (add_made(s, &s->loose[s->at - s->item_count], err) < 0)
			return -1;
	} else {
		add_deflated(s, WR_OBJ_COMMIT, &s->made);
	}
	wr_put32be(s->data.p + start, (uint32_t)(s->data.len - start - 4));
	s->m.progress.objects++;
	s->m.progress.bytes += s->data.len - start;
	return 0;
}

static void
put_data(struct wr_send *s)
{
	for (size_t at = 0; at < s->data.len;) {
		size_t n = WR_MIN(s->data.len - at, WR_DATA_LEN);
		size_t frame = wr_frame_begin(&s->m, WR_FRAME_DATA);

		wr_buf_add(&s->m.out, s->data.p + at, n);
		wr_frame_end(&s->m, frame);
		at += n;
	}
	wr_buf_clear(&s->data);
}

int
wr_send_work_data(struct wr_send *s, struct wr_err *err)
{
	uint64_t total = wr_send_planned(s);

	for (; s->data.len < WR_DATA_LEN && s->at < total; s->at++)
		if (!(s->held && (s->held[s->at / 8] >> (s->at % 8) & 1)) && add_entry(s, err) < 0)
			return -1;
	put_data(s);
	if (s->at == total) {
		size_t at = wr_frame_begin(&s->m, WR_FRAME_END);

		wr_buf_add64be(&s->m.out, total);
		wr_frame_end(&s->m, at);
		s->m.progress.phase = WR_SYNC_PHASE_CHECK;
		s->state = WR_SEND_DONE;
	}
	return 0;
}
