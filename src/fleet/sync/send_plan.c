/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sender: in which order what is lacking goes, which of it came before, and whether the newest
 * state goes first.
 */
#include "fleet/sync/send_int.h"
#include "fleet/sync/sync_int.h"

/* ---- plan ---- */

static int
pack_cmp(const void *a, const void *b)
{
	return strcmp(((const struct wr_send_pack *)a)->name,
		      ((const struct wr_send_pack *)b)->name);
}

static int
item_cmp(const void *a, const void *b)
{
	const struct wr_send_item *x = a, *y = b;

	if (x->pack != y->pack)
		return x->pack < y->pack ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static int
id_cmp(const void *a, const void *b)
{
	return wr_id_cmp(a, b);
}

struct wr_id
wr_send_item_id(const struct wr_send *s, size_t i)
{
	return wr_idx_id(s->pack[s->item[i].pack].idx, s->item[i].pos);
}

/* Which of s->pack has this number in the repository; they are sorted by name. */
static size_t *
pack_places(struct wr_send *s)
{
	size_t *place;

	s->pack_count = wr_repo_pack_count(s->m.src.repo);
	s->pack = wr_calloc(s->pack_count, sizeof(*s->pack));
	for (size_t i = 0; i < s->pack_count; i++)
		s->pack[i] = (struct wr_send_pack){.name = wr_repo_pack_name(s->m.src.repo, i),
						   .idx = wr_repo_pack_idx(s->m.src.repo, i),
						   .number = i};
	if (s->pack_count)
		qsort(s->pack, s->pack_count, sizeof(*s->pack), pack_cmp);
	place = wr_calloc(s->pack_count, sizeof(*place));
	for (size_t i = 0; i < s->pack_count; i++)
		place[s->pack[i].number] = i;
	return place;
}

/* What is planned: packed objects, then loose ones, then the commit that is made. */
size_t
wr_send_planned(const struct wr_send *s)
{
	return s->item_count + s->loose_count + s->first_on;
}

struct wr_id
wr_send_nth(const struct wr_send *s, size_t i)
{
	if (i < s->item_count)
		return wr_send_item_id(s, i);
	return i < s->item_count + s->loose_count ? s->loose[i - s->item_count] : s->newest;
}

static void
table_new(struct wr_send_table *t, size_t count)
{
	for (t->cap = 16; t->cap < 2 * count; t->cap *= 2)
		;
	t->slot = wr_calloc(t->cap, sizeof(*t->slot));
}

/* Where this id stands, or its free place. */
static uint32_t *
table_find(const struct wr_send *s, const struct wr_send_table *t, const struct wr_id *id)
{
	uint64_t h;

	for (memcpy(&h, id->b, sizeof(h));; h++) {
		uint32_t *at = &t->slot[h & (t->cap - 1)];
		struct wr_id other;

		if (*at == 0)
			return at;
		other = wr_send_nth(s, *at - 1);
		if (wr_id_eq(&other, id))
			return at;
	}
}

/* An object that lies in two packs may have been met in both: out with the second. */
static void
drop_doubles(struct wr_send *s)
{
	struct wr_send_table t;
	size_t n = 0;

	table_new(&t, s->item_count);
	for (size_t i = 0; i < s->item_count; i++) {
		struct wr_id id = wr_send_item_id(s, i);
		uint32_t *at = table_find(s, &t, &id);

		if (*at)
			continue;
		s->item[n] = s->item[i];
		*at = (uint32_t)++n;
	}
	s->item_count = n;
	free(t.slot);
}

/* Where the entries end: at the nearest offset behind theirs. */
static void
find_ends(struct wr_send *s)
{
	for (size_t lo = 0, hi; lo < s->item_count; lo = hi) {
		const struct wr_idx *x = s->pack[s->item[lo].pack].idx;

		for (hi = lo; hi < s->item_count && s->item[hi].pack == s->item[lo].pack; hi++)
			s->item[hi].end = UINT64_MAX;
		for (uint32_t k = 0; k < x->count; k++) {
			uint64_t off = wr_idx_offset(x, k);
			size_t a = lo, b = hi; /* the last one below off is before a */

			while (a < b) {
				size_t mid = a + (b - a) / 2;

				if (s->item[mid].off < off)
					a = mid + 1;
				else
					b = mid;
			}
			if (a > lo && off < s->item[a - 1].end)
				s->item[a - 1].end = off;
		}
	}
}

int
wr_send_make_items(struct wr_send *s, struct wr_err *err)
{
	WR_SCOPED(wr_freep) size_t *place = pack_places(s);

	s->item = wr_calloc(s->packed_count, sizeof(*s->item));
	for (size_t i = 0; i < s->packed_count; i++) {
		struct wr_send_item *it = &s->item[s->item_count++];
		int64_t n = wr_repo_ordinal_pack(s->m.src.repo, s->packed[i], &it->pos);

		if (n < 0)
			return wr_err_set(err, WR_E_CHANGED,
					  "the repository was repacked meanwhile");
		it->pack = (uint32_t)place[n];
		it->off = wr_idx_offset(s->pack[it->pack].idx, it->pos);
	}
	free(wr_steal(&s->packed));
	if (s->item_count)
		qsort(s->item, s->item_count, sizeof(*s->item), item_cmp);
	if (s->loose_count)
		qsort(s->loose, s->loose_count, sizeof(*s->loose), id_cmp);
	drop_doubles(s);
	find_ends(s);
	for (size_t i = 0; i < s->hist.count; i++) {
		const struct wr_hist_commit *c = &s->hist.c[i];
		int64_t n = wr_repo_ordinal(s->m.src.repo, &c->id);
		uint32_t pos;

		n = n < 0 ? n : wr_repo_ordinal_pack(s->m.src.repo, (uint64_t)n, &pos);
		if (n < 0 || (size_t)n >= s->pack_count)
			continue;
		s->pack[place[n]].has_base |= c->base;
		s->pack[place[n]].has_new |= c->target && !c->base;
	}
	return 0;
}

static uint64_t
item_bytes(const struct wr_send *s, size_t i)
{
	const struct wr_send_item *it = &s->item[i];

	/* The last one of its pack: what it takes is known when the pack is open. */
	return it->end == UINT64_MAX ? 0 : it->end - it->off + 4;
}

/*
 * Bytes that the far side may have all the same.  A save stores what no pack has yet, so what lies
 * in a pack together with a new commit and without one of the base was new with that save.
 */
static uint64_t
doubtful_bytes(const struct wr_send *s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s->item_count; i++) {
		const struct wr_send_pack *p = &s->pack[s->item[i].pack];

		if (!p->has_new || p->has_base)
			n += item_bytes(s, i);
	}
	return n;
}

static void
start_full(struct wr_send *s)
{
	wr_full_init(&s->full, &s->m.src);
	s->full.lenient = true;
	for (size_t i = 0; i < s->far.count; i++)
		if (wr_idmap_find(&s->base_id, &s->far.ref[i].id))
			wr_full_push(&s->full, &s->far.ref[i].id, WR_OBJ_NONE);
	for (size_t i = 0; i < s->have_count; i++)
		if (wr_idmap_find(&s->base_id, &s->have[i].id))
			wr_full_push(&s->full, &s->have[i].id, WR_OBJ_NONE);
	if (s->has_far_tree)
		wr_full_push(&s->full, &s->far_tree, WR_OBJ_TREE);
	s->state = WR_SEND_FULL;
}

static void
drop_base_objects(struct wr_send *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->item_count; i++) {
		struct wr_id id = wr_send_item_id(s, i);

		if (!wr_id_marks_has(&s->full.marks, &id))
			s->item[n++] = s->item[i];
	}
	s->item_count = n;
	n = 0;
	for (size_t i = 0; i < s->loose_count; i++)
		if (!wr_id_marks_has(&s->full.marks, &s->loose[i]))
			s->loose[n++] = s->loose[i];
	s->loose_count = n;
	wr_full_fini(&s->full);
}

static void
name_stream(struct wr_send *s)
{
	uint8_t list[WR_ID_LEN];
	struct wr_sha1 h;
	struct wr_id sum;

	wr_sync_list_digest(&s->m.target, list);
	wr_sha1_init(&h);
	wr_sha1_add(&h, list, sizeof(list));
	for (size_t i = 0; i < wr_send_planned(s); i++) {
		struct wr_id id = wr_send_nth(s, i);

		wr_sha1_add(&h, id.b, WR_ID_LEN);
	}
	sum = wr_sha1_end(&h);
	memcpy(s->stream.b, list, WR_STREAM_LIST_LEN);
	memcpy(s->stream.b + WR_STREAM_LIST_LEN, sum.b, WR_ID_LEN - WR_STREAM_LIST_LEN);
}

static uint64_t
planned_bytes(const struct wr_send *s)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < s->item_count; i++)
		bytes += item_bytes(s, i);
	return bytes;
}

static void
put_begin(struct wr_send *s)
{
	size_t at = wr_frame_begin(&s->m, WR_FRAME_BEGIN);
	struct wr_buf *b = &s->m.out;
	uint64_t bytes = planned_bytes(s);

	s->m.progress.objects = 0;
	s->m.progress.objects_total = wr_send_planned(s);
	s->m.progress.bytes = 0;
	s->m.progress.bytes_total = bytes;
	wr_buf_add(b, s->stream.b, WR_ID_LEN);
	wr_buf_add64be(b, s->m.progress.objects_total);
	wr_buf_add64be(b, bytes);
	wr_buf_add32be(b, (uint32_t)s->far.count);
	for (size_t i = 0; i < s->far.count; i += 8) {
		unsigned bits = 0;

		for (size_t k = i; k < i + 8 && k < s->far.count; k++)
			bits |= (unsigned)s->far.ref[k].used << (k - i);
		wr_buf_add8(b, (uint8_t)bits);
	}
	wr_frame_end(&s->m, at);
}

void
wr_send_begin(struct wr_send *s)
{
	name_stream(s);
	put_begin(s);
	wr_hist_fini(&s->hist);
	wr_pairs_fini(&s->pairs);
	wr_id_marks_fini(&s->seen);
	s->m.progress.phase = WR_SYNC_PHASE_OBJECTS;
	s->state = s->can_resume && wr_send_planned(s) > 0 ? WR_SEND_HELD : WR_SEND_DATA;
}

/* ---- newest first ---- */

/* Is it worth it, and does the far side not have it yet? Then s->tip and what is made of it are
 * set.
 */
static bool
wants_first(struct wr_send *s)
{
	const struct wr_sync_ref *ref = wr_sync_list_find(&s->m.target, WR_SYNC_MAIN), *far;
	const struct wr_hist_commit *tip = ref ? wr_hist_find(&s->hist, &ref->id) : NULL;

	if (!s->newest_first || s->first_done || s->fresh_count < 2 || !tip || tip->base ||
	    wr_sync_list_find(&s->m.target, WR_SYNC_LATEST) || planned_bytes(s) < s->first_bytes ||
	    wr_src_read(&s->m.src, &ref->id, WR_OBJ_COMMIT, NULL, &s->tip, NULL) < 0 ||
	    s->tip.len > WR_FRAME_MAX)
		return false;
	s->tip_tree = tip->tree;
	s->tip_time = tip->time;
	wr_buf_clear(&s->made);
	wr_commit_latest(&s->made, &tip->tree, tip->time);
	s->newest = wr_obj_id(WR_OBJ_COMMIT, s->made.p, s->made.len);
	far = wr_sync_list_find(&s->far, WR_SYNC_LATEST);
	if (far && wr_id_eq(&far->id, &s->newest)) {
		s->m.progress.first = s->tip_time;
		return false;
	}
	/* One that did not come ahead is part of a save there, and stays until this list comes. */
	return !far || s->has_far_tree;
}

static int
start_first(struct wr_send *s, struct wr_err *err)
{
	s->first_on = true;
	return wr_send_history(s, err);
}

static void
put_first(struct wr_send *s)
{
	size_t at = wr_frame_begin(&s->m, WR_FRAME_FIRST);

	wr_buf_add(&s->m.out, s->tip.p, s->tip.len);
	wr_frame_end(&s->m, at);
}

/* The far side begins again: with it, or because its refs had moved. */
void
wr_send_end_first(struct wr_send *s)
{
	const struct wr_sync_ref *far = wr_sync_list_find(&s->far, WR_SYNC_LATEST);

	if (!s->first_on)
		return;
	s->first_on = false;
	s->first_done = far && wr_id_eq(&far->id, &s->newest);
	if (s->first_done)
		s->m.progress.first = s->tip_time;
}

int
wr_send_work_plan(struct wr_send *s, struct wr_err *err)
{
	if (!s->full_done) {
		if (wr_send_make_items(s, err) < 0)
			return -1;
		s->full_done = true;
		if (s->base_id.count > 0 && doubtful_bytes(s) > s->waste) {
			start_full(s);
			return 0;
		}
	} else {
		drop_base_objects(s);
	}
	if (s->first_on)
		put_first(s);
	else if (wants_first(s))
		return start_first(s, err);
	wr_send_begin(s);
	return 0;
}

/* ---- what came before ---- */

/* Of the ids told: which are of the plan, each once? They are not sent again. */
int
wr_send_on_held(struct wr_send *s, struct wr_rd *r, struct wr_err *err)
{
	bool last = wr_rd8(r);
	size_t n = r->left / WR_ID_LEN, at;
	const uint8_t *ids = wr_rd_bytes(r, n * WR_ID_LEN);
	WR_SCOPED(wr_freep) uint8_t *bits = wr_calloc(n / 8 + 1, 1);

	s->told += n;
	if ((!ids && n) || n > WR_SYNC_HELD_STEP || (n == 0 && !last) || s->told > WR_SYNC_HELD_MAX)
		return wr_err_set(err, WR_E_INVALID, "the far side says badly what it has");
	if (!s->held) {
		s->held = wr_calloc(wr_send_planned(s) / 8 + 1, 1);
		table_new(&s->table, wr_send_planned(s));
		for (size_t i = 0; i < wr_send_planned(s); i++) {
			struct wr_id id = wr_send_nth(s, i);

			*table_find(s, &s->table, &id) = (uint32_t)i + 1;
		}
	}
	for (size_t i = 0; i < n; i++) {
		struct wr_id id;
		uint32_t k;

		memcpy(id.b, ids + i * WR_ID_LEN, WR_ID_LEN);
		k = *table_find(s, &s->table, &id);
		if (k-- == 0 || (s->held[k / 8] >> (k % 8) & 1))
			continue;
		s->held[k / 8] |= (uint8_t)(1u << (k % 8));
		bits[i / 8] |= (uint8_t)(1u << (i % 8));
		s->m.progress.objects++;
		if (k < s->item_count)
			s->m.progress.bytes += item_bytes(s, k);
	}
	at = wr_frame_begin(&s->m, WR_FRAME_USE);
	wr_buf_add(&s->m.out, bits, (n + 7) / 8);
	wr_frame_end(&s->m, at);
	if (last) {
		free(wr_steal(&s->table.slot));
		s->state = WR_SEND_DATA;
	}
	return 0;
}
