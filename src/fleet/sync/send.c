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
 *   FROM             when a broken-off stream of the same id lies on the far side
 *   DATA (work)      entries, then END
 *   DONE             or HELLO again, when the far side's refs have moved
 *
 * Order of the stream: by pack and offset, which reads disks in order; loose objects by id.
 */
#include "fleet/sync/sync_int.h"

#define WASTE_BYTES (UINT64_C(1) << 20)
/* New commits from which on it is worth to ask for MORE. */
#define MANY_NEW 64
/* Level of what has to be compressed again: deltas, loose objects. */
#define LEVEL 1

enum send_state {
	SEND_HELLO = 1,
	SEND_REFS,
	SEND_HISTORY,
	SEND_HAVES,
	SEND_TREES,
	SEND_FULL,
	SEND_PLAN,
	SEND_FROM,
	SEND_DATA,
	SEND_DONE,
};

struct have {
	uint32_t ref;
	struct wr_id id;
};

/* A packed object to be sent. */
struct item {
	uint64_t off, end;
	uint32_t pack, pos;
};
struct pack {
	const char
	    *name; /* all borrowed from the repository, which keeps them until it is closed */
	const struct wr_idx *idx;
	size_t number; /* in the repository, at the time of planning */
	bool has_new, has_base;
};

struct send {
	struct wr_sync m;
	uint64_t waste;
	enum send_state state;
	unsigned again;

	struct wr_sync_list far;
	size_t far_total;
	bool can_resume;
	struct wr_stream_id resume;
	bool asked_more;
	struct have *have;
	size_t have_count, have_cap;

	struct wr_hist hist;
	struct wr_idmap base_id; /* of what the far side has: known refs, trees of commits met */
	struct wr_id *tree;      /* trees that refs and tags name */
	size_t tree_count, tree_cap;
	size_t *fresh, fresh_count, fresh_at;
	struct wr_pairs pairs;

	struct wr_id_marks seen;
	uint64_t *packed; /* ordinals */
	size_t packed_count, packed_cap;
	struct wr_id *loose;
	size_t loose_count, loose_cap;
	struct wr_full full;
	bool full_done;

	struct pack *pack;
	size_t pack_count;
	struct item *item;
	size_t item_count;
	struct wr_stream_id stream;
	uint64_t at; /* objects sent */
	struct wr_pack open;
	size_t open_pack; /* number in pack + 1 */
	struct wr_pack_reader *pr;
	struct wr_deflater *deflater;
	struct wr_buf data, payload;
};

static void
forget_plan(struct send *s)
{
	wr_hist_fini(&s->hist);
	wr_idmap_fini(&s->base_id);
	wr_pairs_fini(&s->pairs);
	wr_id_marks_fini(&s->seen);
	wr_full_fini(&s->full);
	free(wr_steal(&s->tree));
	free(wr_steal(&s->fresh));
	free(wr_steal(&s->packed));
	free(wr_steal(&s->loose));
	free(wr_steal(&s->pack));
	free(wr_steal(&s->item));
	s->tree_count = s->tree_cap = 0;
	s->fresh_count = s->fresh_at = 0;
	s->packed_count = s->packed_cap = 0;
	s->loose_count = s->loose_cap = 0;
	s->pack_count = s->item_count = 0;
	s->full_done = false;
	s->at = 0;
	wr_pack_close(&s->open);
	s->open_pack = 0;
	wr_buf_clear(&s->data);
}

static void
send_free(struct wr_sync *m)
{
	struct send *s = (struct send *)m;

	forget_plan(s);
	wr_sync_list_fini(&s->far);
	free(s->have);
	wr_pack_reader_free(s->pr);
	wr_deflater_free(s->deflater);
	wr_buf_fini(&s->data);
	wr_buf_fini(&s->payload);
}

/* ---- what to send ---- */

/* True: it is new. */
static bool
add_object(struct send *s, const struct wr_id *id)
{
	int64_t n;

	if (!wr_id_marks_set(&s->seen, id))
		return false;
	n = wr_repo_ordinal(s->m.src.repo, id);
	if (n >= 0) {
		wr_grow(&s->packed, &s->packed_cap, s->packed_count + 1, sizeof(*s->packed));
		s->packed[s->packed_count++] = (uint64_t)n;
	} else {
		wr_grow(&s->loose, &s->loose_cap, s->loose_count + 1, sizeof(*s->loose));
		s->loose[s->loose_count++] = *id;
	}
	return true;
}

static int
on_ref(void *ctx, const struct wr_id *id, enum wr_obj_type type, bool known,
       WR_UNUSED struct wr_err *err)
{
	struct send *s = ctx;

	return !known && add_object(s, id) && type == WR_OBJ_TREE;
}

/* What the far side has: refs and commits that we know, too. */
static void
add_base(struct send *s, const struct wr_id *id, struct wr_sync_ref *ref)
{
	struct wr_id at = *id;
	enum wr_obj_type type;
	bool fresh;

	if (!wr_repo_exists(s->m.src.repo, &at))
		return;
	for (int depth = 0; depth < WR_SYNC_TAG_DEPTH; depth++) {
		if (wr_src_stat(&s->m.src, &at, &type, NULL) < 0)
			return;
		ref->used = true;
		wr_idmap_put(&s->base_id, &at, &fresh);
		if (type == WR_OBJ_COMMIT)
			(void)wr_hist_add(&s->hist, &at, false, true, NULL); /* never fails */
		if (type != WR_OBJ_TAG ||
		    wr_src_read(&s->m.src, &at, WR_OBJ_TAG, NULL, &s->payload, NULL) < 0 ||
		    wr_tag_parse(&s->payload, &at, &type, NULL) < 0)
			return;
	}
}

static int
add_target(struct send *s, const struct wr_sync_ref *ref, struct wr_err *err)
{
	struct wr_id at = ref->id;
	enum wr_obj_type type;

	for (int depth = 0; depth < WR_SYNC_TAG_DEPTH; depth++) {
		if (wr_idmap_find(&s->base_id, &at))
			return 0;
		if (wr_src_stat(&s->m.src, &at, &type, err) < 0)
			return -1;
		switch (type) {
		case WR_OBJ_COMMIT:
			return wr_hist_add(&s->hist, &at, true, false, err);
		case WR_OBJ_TREE:
			wr_grow(&s->tree, &s->tree_cap, s->tree_count + 1, sizeof(*s->tree));
			s->tree[s->tree_count++] = at;
			return 0;
		case WR_OBJ_TAG:
			add_object(s, &at);
			if (wr_src_read(&s->m.src, &at, WR_OBJ_TAG, NULL, &s->payload, err) < 0 ||
			    wr_tag_parse(&s->payload, &at, &type, err) < 0)
				return -1;
			break;
		default:
			add_object(s, &at);
			return 0;
		}
	}
	return wr_err_set(err, WR_E_CORRUPT, "more than %d tags of tags", WR_SYNC_TAG_DEPTH);
}

/* Are all refs of the target where the far side has them already? Then nothing is looked at. */
static bool
far_has_all(struct send *s)
{
	struct wr_idmap ids = WR_IDMAP_INIT;
	bool all = true, fresh;

	for (size_t i = 0; i < s->far.count; i++)
		*wr_idmap_put(&ids, &s->far.ref[i].id, &fresh) = i;
	for (size_t i = 0; i < s->m.target.count; i++) {
		const uint64_t *v = wr_idmap_find(&ids, &s->m.target.ref[i].id);

		if (v)
			s->far.ref[*v].used = true;
		all &= v != NULL;
	}
	wr_idmap_fini(&ids);
	return all;
}

static int
start_history(struct send *s, struct wr_err *err)
{
	forget_plan(s);
	wr_id_marks_init(&s->seen, s->m.src.repo);
	wr_hist_init(&s->hist, &s->m.src);
	s->hist.strict = true;
	for (size_t i = 0; i < s->far.count; i++)
		add_base(s, &s->far.ref[i].id, &s->far.ref[i]);
	for (size_t i = 0; i < s->have_count; i++)
		add_base(s, &s->have[i].id, &s->far.ref[s->have[i].ref]);
	for (size_t i = 0; i < s->m.target.count; i++)
		if (add_target(s, &s->m.target.ref[i], err) < 0)
			return wr_err_wrap(err, "ref '%s'", WR_Q(s->m.target.ref[i].name));
	s->state = SEND_HISTORY;
	return 0;
}

/* Would it help to know more of the far side's branches? */
static bool
want_more(const struct send *s)
{
	bool unknown = false;
	size_t fresh = 0;

	for (size_t i = 0; i < s->far.count; i++)
		unknown |= !s->far.ref[i].used && !strncmp(s->far.ref[i].name, "refs/heads/", 11);
	for (size_t i = 0; i < s->hist.count && unknown && !s->asked_more; i++) {
		const struct wr_hist_commit *c = &s->hist.c[i];

		/* A beginning without base below: also of a branch that has a base, if we only
		 * knew it. */
		if (c->target && !c->base && (++fresh > MANY_NEW || c->parents == 0))
			return true;
	}
	return false;
}

static void
start_trees(struct send *s)
{
	bool fresh;

	s->pairs = (struct wr_pairs){.src = &s->m.src, .fn = on_ref, .ctx = s};
	wr_hist_new(&s->hist, &s->fresh, &s->fresh_count);
	for (size_t i = 0; i < s->hist.count; i++)
		if (s->hist.c[i].base)
			wr_idmap_put(&s->base_id, &s->hist.c[i].tree, &fresh);
	for (size_t i = 0; i < s->tree_count; i++)
		if (add_object(s, &s->tree[i]))
			wr_pairs_push(&s->pairs, &s->tree[i], NULL);
	s->state = SEND_TREES;
}

/* Tree to put beside that of a commit without parents. */
static const struct wr_id *
some_tree(const struct send *s)
{
	const struct wr_hist_commit *best = NULL;

	if (s->fresh_at > 0)
		return &s->hist.c[s->fresh[s->fresh_at - 1]].tree;
	for (size_t i = 0; i < s->hist.count; i++)
		if (s->hist.c[i].base && (!best || s->hist.c[i].time > best->time))
			best = &s->hist.c[i];
	return best ? &best->tree : NULL;
}

static void
next_commit(struct send *s)
{
	const struct wr_hist_commit *c = &s->hist.c[s->fresh[s->fresh_at]], *parent = NULL;

	if (c->parents > 0)
		parent = wr_hist_find(&s->hist, &s->hist.parent[c->parent]);
	add_object(s, &c->id);
	if (!wr_idmap_find(&s->base_id, &c->tree) && add_object(s, &c->tree))
		wr_pairs_push(&s->pairs, &c->tree, parent ? &parent->tree : some_tree(s));
	s->fresh_at++;
}

static int
work_trees(struct send *s, struct wr_err *err)
{
	int rc = wr_pairs_step(&s->pairs, WR_SLICE, err);

	if (rc != 0)
		return rc < 0 ? -1 : 0;
	for (unsigned i = 0; i < WR_SLICE && s->pairs.count == 0; i++) {
		if (s->fresh_at == s->fresh_count) {
			s->state = SEND_PLAN;
			return 0;
		}
		next_commit(s);
	}
	return 0;
}

/* ---- plan ---- */

static int
pack_cmp(const void *a, const void *b)
{
	return strcmp(((const struct pack *)a)->name, ((const struct pack *)b)->name);
}

static int
item_cmp(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->pack != y->pack)
		return x->pack < y->pack ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static int
id_cmp(const void *a, const void *b)
{
	return wr_id_cmp(a, b);
}

static struct wr_id
item_id(const struct send *s, size_t i)
{
	return wr_idx_id(s->pack[s->item[i].pack].idx, s->item[i].pos);
}

/* Which of s->pack has this number in the repository; they are sorted by name. */
static size_t *
pack_places(struct send *s)
{
	size_t *place;

	s->pack_count = wr_repo_pack_count(s->m.src.repo);
	s->pack = wr_calloc(s->pack_count, sizeof(*s->pack));
	for (size_t i = 0; i < s->pack_count; i++)
		s->pack[i] = (struct pack){.name = wr_repo_pack_name(s->m.src.repo, i),
					   .idx = wr_repo_pack_idx(s->m.src.repo, i),
					   .number = i};
	if (s->pack_count)
		qsort(s->pack, s->pack_count, sizeof(*s->pack), pack_cmp);
	place = wr_calloc(s->pack_count, sizeof(*place));
	for (size_t i = 0; i < s->pack_count; i++)
		place[s->pack[i].number] = i;
	return place;
}

/* An object that lies in two packs may have been met in both: out with the second. */
static void
drop_doubles(struct send *s)
{
	size_t cap = 16, n = 0;
	WR_SCOPED(wr_freep) uint32_t *slot = NULL;

	while (cap < 2 * s->item_count)
		cap *= 2;
	slot = wr_calloc(cap, sizeof(*slot));
	for (size_t i = 0; i < s->item_count; i++) {
		struct wr_id id = item_id(s, i);
		uint64_t h;

		memcpy(&h, id.b, sizeof(h));
		for (;; h++) {
			uint32_t *at = &slot[h & (cap - 1)];
			struct wr_id other;

			if (*at == 0) {
				s->item[n] = s->item[i];
				*at = (uint32_t)++n;
				break;
			}
			other = item_id(s, *at - 1);
			if (wr_id_eq(&other, &id))
				break;
		}
	}
	s->item_count = n;
}

/* Where the entries end: at the nearest offset behind theirs. */
static void
find_ends(struct send *s)
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

static int
make_items(struct send *s, struct wr_err *err)
{
	WR_SCOPED(wr_freep) size_t *place = pack_places(s);

	s->item = wr_calloc(s->packed_count, sizeof(*s->item));
	for (size_t i = 0; i < s->packed_count; i++) {
		struct item *it = &s->item[s->item_count++];
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
item_bytes(const struct send *s, size_t i)
{
	const struct item *it = &s->item[i];

	/* The last one of its pack: what it takes is known when the pack is open. */
	return it->end == UINT64_MAX ? 0 : it->end - it->off + 4;
}

/*
 * Bytes that the far side may have all the same.  A save stores what no pack has yet, so what lies
 * in a pack together with a new commit and without one of the base was new with that save.
 */
static uint64_t
doubtful_bytes(const struct send *s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s->item_count; i++) {
		const struct pack *p = &s->pack[s->item[i].pack];

		if (!p->has_new || p->has_base)
			n += item_bytes(s, i);
	}
	return n;
}

static void
start_full(struct send *s)
{
	wr_full_init(&s->full, &s->m.src);
	s->full.lenient = true;
	for (size_t i = 0; i < s->far.count; i++)
		if (wr_idmap_find(&s->base_id, &s->far.ref[i].id))
			wr_full_push(&s->full, &s->far.ref[i].id, WR_OBJ_NONE);
	for (size_t i = 0; i < s->have_count; i++)
		if (wr_idmap_find(&s->base_id, &s->have[i].id))
			wr_full_push(&s->full, &s->have[i].id, WR_OBJ_NONE);
	s->state = SEND_FULL;
}

static void
drop_base_objects(struct send *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->item_count; i++) {
		struct wr_id id = item_id(s, i);

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
name_stream(struct send *s)
{
	uint8_t list[WR_ID_LEN];
	struct wr_sha1 h;
	struct wr_id sum;

	wr_sync_list_digest(&s->m.target, list);
	wr_sha1_init(&h);
	wr_sha1_add(&h, list, sizeof(list));
	for (size_t i = 0; i < s->item_count; i++) {
		struct wr_id id = item_id(s, i);

		wr_sha1_add(&h, id.b, WR_ID_LEN);
	}
	for (size_t i = 0; i < s->loose_count; i++)
		wr_sha1_add(&h, s->loose[i].b, WR_ID_LEN);
	sum = wr_sha1_end(&h);
	memcpy(s->stream.b, list, WR_STREAM_LIST_LEN);
	memcpy(s->stream.b + WR_STREAM_LIST_LEN, sum.b, WR_ID_LEN - WR_STREAM_LIST_LEN);
}

static void
put_begin(struct send *s)
{
	size_t at = wr_frame_begin(&s->m, WR_FRAME_BEGIN);
	struct wr_buf *b = &s->m.out;
	uint64_t bytes = 0;

	for (size_t i = 0; i < s->item_count; i++)
		bytes += item_bytes(s, i);
	s->m.progress.objects = 0;
	s->m.progress.objects_total = s->item_count + s->loose_count;
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

static void
finish_plan(struct send *s)
{
	name_stream(s);
	put_begin(s);
	wr_hist_fini(&s->hist);
	wr_pairs_fini(&s->pairs);
	wr_id_marks_fini(&s->seen);
	s->m.progress.phase = WR_SYNC_PHASE_OBJECTS;
	s->state = s->can_resume && memcmp(s->resume.b, s->stream.b, WR_ID_LEN) == 0 ? SEND_FROM
										     : SEND_DATA;
}

static int
work_plan(struct send *s, struct wr_err *err)
{
	if (!s->full_done) {
		if (make_items(s, err) < 0)
			return -1;
		s->full_done = true;
		if (s->base_id.count > 0 && doubtful_bytes(s) > s->waste) {
			start_full(s);
			return 0;
		}
	} else {
		drop_base_objects(s);
	}
	finish_plan(s);
	return 0;
}

/* ---- sending ---- */

static int
add_made(struct send *s, const struct wr_id *id, struct wr_err *err)
{
	enum wr_obj_type type;

	if (wr_repo_read(s->m.src.rd, id, WR_OBJ_NONE, true, &type, &s->payload, err) < 0)
		return -1;
	if (!s->deflater)
		s->deflater = wr_deflater_new(LEVEL);
	wr_pack_entry_make(s->deflater, type, s->payload.p, s->payload.len, &s->data);
	return 0;
}

/* Append the entry as its pack has it; 0: that cannot be done. */
static int
add_copied(struct send *s, const struct item *it)
{
	const struct pack *p = &s->pack[it->pack];
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
add_entry(struct send *s, struct wr_err *err)
{
	size_t start = s->data.len;
	struct wr_id id;

	wr_buf_add32be(&s->data, 0);
	if (s->at < s->item_count) {
		id = item_id(s, (size_t)s->at);
		if (!add_copied(s, &s->item[s->at]) && add_made(s, &id, err) < 0)
			return -1;
	} else if (add_made(s, &s->loose[s->at - s->item_count], err) < 0) {
		return -1;
	}
	wr_put32be(s->data.p + start, (uint32_t)(s->data.len - start - 4));
	s->at++;
	s->m.progress.objects++;
	s->m.progress.bytes += s->data.len - start;
	return 0;
}

static void
put_data(struct send *s)
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

static int
work_data(struct send *s, struct wr_err *err)
{
	uint64_t total = s->item_count + s->loose_count;

	while (s->data.len < WR_DATA_LEN && s->at < total)
		if (add_entry(s, err) < 0)
			return -1;
	put_data(s);
	if (s->at == total) {
		size_t at = wr_frame_begin(&s->m, WR_FRAME_END);

		wr_buf_add64be(&s->m.out, total);
		wr_frame_end(&s->m, at);
		s->m.progress.phase = WR_SYNC_PHASE_CHECK;
		s->state = SEND_DONE;
	}
	return 0;
}

/* ---- frames ---- */

static int
on_hello(struct send *s, struct wr_rd *r, struct wr_err *err)
{
	const uint8_t *id;
	uint32_t magic = wr_rd32be(r);
	uint16_t version = wr_rd16be(r);

	if (magic != WR_SYNC_MAGIC)
		return wr_err_set(err, WR_E_INVALID, "the far side does not speak this protocol");
	if (version != WR_SYNC_VERSION)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "the far side speaks version %u of this protocol, we speak %d",
				  version, WR_SYNC_VERSION);
	if (s->state == SEND_DONE && ++s->again > WR_SYNC_AGAIN_MAX)
		return wr_err_set(err, WR_E_LIMIT, "the far side began again %u times", s->again);
	s->far_total = wr_rd32be(r);
	s->can_resume = wr_rd8(r);
	id = wr_rd_bytes(r, WR_ID_LEN);
	if (s->far_total > WR_SYNC_REFS_MAX || !id)
		return wr_err_set(err, WR_E_INVALID, "the far side tells too many refs");
	memcpy(s->resume.b, id, WR_ID_LEN);
	wr_sync_list_fini(&s->far);
	free(wr_steal(&s->have));
	s->have_count = s->have_cap = 0;
	s->asked_more = false;
	s->m.progress.phase = WR_SYNC_PHASE_NEGOTIATE;
	s->state = SEND_REFS;
	return 0;
}

static int
refs_complete(struct send *s, struct wr_err *err)
{
	if (s->far.count < s->far_total)
		return 0;
	if (!far_has_all(s))
		return start_history(s, err);
	forget_plan(s);
	finish_plan(s);
	return 0;
}

static int
on_refs(struct send *s, struct wr_rd *r, struct wr_err *err)
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
on_haves(struct send *s, struct wr_rd *r, struct wr_err *err)
{
	bool last = wr_rd8(r);

	while (r->left > 0) {
		struct have h = {.ref = wr_rd32be(r)};
		const uint8_t *id = wr_rd_bytes(r, WR_ID_LEN);

		if (!id || h.ref >= s->far.count || s->have_count == WR_SYNC_HAVES_MAX)
			return wr_err_set(err, WR_E_INVALID, "the far side names bad commits");
		memcpy(h.id.b, id, WR_ID_LEN);
		wr_grow(&s->have, &s->have_cap, s->have_count + 1, sizeof(*s->have));
		s->have[s->have_count++] = h;
	}
	return last ? start_history(s, err) : 0;
}

static int
send_frame(struct wr_sync *m, enum wr_frame type, struct wr_rd *r, struct wr_err *err)
{
	struct send *s = (struct send *)m;
	uint64_t from;

	if (type == WR_FRAME_HELLO && (s->state == SEND_HELLO || s->state == SEND_DONE)) {
		if (on_hello(s, r, err) < 0)
			return -1;
		return s->far_total == 0 ? refs_complete(s, err) : 0;
	}
	if (type == WR_FRAME_REFS && s->state == SEND_REFS)
		return on_refs(s, r, err);
	if (type == WR_FRAME_HAVES && s->state == SEND_HAVES)
		return on_haves(s, r, err);
	if (type == WR_FRAME_FROM && s->state == SEND_FROM) {
		from = wr_rd64be(r);
		if (from > s->item_count + s->loose_count)
			return wr_err_set(err, WR_E_INVALID, "the far side has more than there is");
		s->at = s->m.progress.objects = from;
		for (size_t i = 0; i < from && i < s->item_count; i++)
			s->m.progress.bytes += item_bytes(s, i);
		s->state = SEND_DATA;
		return 0;
	}
	if (type == WR_FRAME_DONE && s->state == SEND_DONE) {
		s->m.status = WR_SYNC_DONE;
		return 0;
	}
	return wr_sync_out_of_turn(type, err);
}

static int
send_work(struct wr_sync *m, struct wr_err *err)
{
	struct send *s = (struct send *)m;
	int rc;

	switch (s->state) {
	case SEND_HISTORY:
		rc = wr_hist_step(&s->hist, WR_SLICE, err);
		if (rc != 0)
			return rc < 0 ? -1 : 0;
		if (!want_more(s)) {
			start_trees(s);
			return 0;
		}
		s->asked_more = true;
		wr_frame_end(m, wr_frame_begin(m, WR_FRAME_MORE));
		s->state = SEND_HAVES;
		return 0;
	case SEND_TREES:
		return work_trees(s, err);
	case SEND_FULL:
		if (wr_full_step(&s->full, WR_SLICE, err) == 0)
			s->state = SEND_PLAN;
		return 0;
	case SEND_PLAN:
		return work_plan(s, err);
	default:
		return work_data(s, err);
	}
}

static bool
send_busy(const struct wr_sync *m)
{
	const struct send *s = (const struct send *)m;

	return s->state == SEND_HISTORY || s->state == SEND_TREES || s->state == SEND_FULL ||
	       s->state == SEND_PLAN || s->state == SEND_DATA;
}

struct wr_sync *
wr_sync_send_new(struct wr_repo *r, const struct wr_save_rec *target,
		 const struct wr_sync_send_opts *o)
{
	static const struct wr_sync_ops ops = {send_frame, send_work, send_busy, send_free};
	struct send *s = wr_calloc(1, sizeof(*s));

	wr_sync_init(&s->m, &ops, r, target);
	s->state = SEND_HELLO;
	s->waste = o && o->waste_bytes ? o->waste_bytes : WASTE_BYTES;
	s->open = (struct wr_pack)WR_PACK_INIT;
	return &s->m;
}
