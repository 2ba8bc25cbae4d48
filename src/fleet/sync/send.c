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
 *   HELD             when objects lie on the far side that came before: which of the plan's are
 * these? DATA (work)      the other entries, then END DONE             or HELLO again, when the far
 * side's refs have moved
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
#include "fleet/sync/sync_int.h"

#define WASTE_BYTES (UINT64_C(1) << 20)
/* New commits from which on it is worth to ask for MORE. */
#define MANY_NEW 64
/* From this size of a plan on the newest state goes first. */
#define FIRST_BYTES (UINT64_C(8) << 20)
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
	SEND_REACH,
	SEND_WANT,
	SEND_TRY,
	SEND_HELD,
	SEND_DATA,
	SEND_DONE,
};

struct have {
	uint32_t ref;
	struct wr_id id;
};

/* Numbers of what is planned, by id. */
struct table {
	uint32_t *slot; /* number + 1 */
	size_t cap;
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
	uint64_t waste, first_bytes;
	bool newest_first;
	enum send_state state;
	unsigned again;

	struct wr_sync_list far;
	size_t far_total;
	bool can_resume;
	bool mend;       /* the far side is damaged */
	size_t offer_at; /* items, then loose ones: before it all was offered, or tried */
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
	uint64_t at;        /* number in the plan: before it all is sent or held */
	struct table table; /* while HELD comes */
	uint64_t told;      /* ids in HELD so far */
	uint8_t *held;      /* by number in the plan */

	/* newest first */
	bool first_on, first_done;
	struct wr_buf tip;     /* the commit, as it is */
	struct wr_id newest;   /* the one that stands for it */
	struct wr_buf made;    /* its payload */
	struct wr_id tip_tree; /* of both */
	int64_t tip_time;
	bool has_far_tree;
	struct wr_id far_tree; /* of the far side's refs/warren/latest, if it is ours to know */
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
	free(wr_steal(&s->table.slot));
	free(wr_steal(&s->held));
	s->told = 0;
	s->has_far_tree = false;
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
	wr_buf_fini(&s->tip);
	wr_buf_fini(&s->made);
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
			if (s->first_on)
				return 0;
			wr_grow(&s->tree, &s->tree_cap, s->tree_count + 1, sizeof(*s->tree));
			s->tree[s->tree_count++] = at;
			return 0;
		case WR_OBJ_TAG:
			if (!s->first_on)
				add_object(s, &at);
			if (wr_src_read(&s->m.src, &at, WR_OBJ_TAG, NULL, &s->payload, err) < 0 ||
			    wr_tag_parse(&s->payload, &at, &type, err) < 0)
				return -1;
			break;
		default:
			if (!s->first_on)
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
	return best ? &best->tree : s->has_far_tree ? &s->far_tree : NULL;
}

/* The far side's newest state stands for the tree of a commit of ours: its id says which. */
static void
know_latest(struct send *s)
{
	struct wr_sync_ref *far = NULL;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	bool fresh;

	for (size_t i = 0; i < s->far.count; i++)
		if (!strcmp(s->far.ref[i].name, WR_SYNC_LATEST) && !s->far.ref[i].used)
			far = &s->far.ref[i];
	for (size_t i = 0; far && i < s->hist.count && !s->has_far_tree; i++) {
		struct wr_id id;

		wr_buf_clear(&b);
		wr_commit_latest(&b, &s->hist.c[i].tree, s->hist.c[i].time);
		id = wr_obj_id(WR_OBJ_COMMIT, b.p, b.len);
		if (!wr_id_eq(&id, &far->id) || s->hist.c[i].unread)
			continue;
		s->far_tree = s->hist.c[i].tree;
		s->has_far_tree = far->used = true;
		wr_idmap_put(&s->base_id, &s->far_tree, &fresh);
	}
}

static void
start_trees(struct send *s)
{
	bool fresh;

	s->pairs = (struct wr_pairs){.src = &s->m.src, .fn = on_ref, .ctx = s};
	know_latest(s);
	wr_hist_new(&s->hist, &s->fresh, &s->fresh_count);
	for (size_t i = 0; i < s->hist.count; i++)
		if (s->hist.c[i].base)
			wr_idmap_put(&s->base_id, &s->hist.c[i].tree, &fresh);
	for (size_t i = 0; i < s->tree_count; i++)
		if (add_object(s, &s->tree[i]))
			wr_pairs_push(&s->pairs, &s->tree[i], NULL);
	if (s->first_on) {
		if (!wr_idmap_find(&s->base_id, &s->tip_tree) && add_object(s, &s->tip_tree))
			wr_pairs_push(&s->pairs, &s->tip_tree, some_tree(s));
		s->fresh_at = s->fresh_count;
	}
	s->state = SEND_TREES;
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

/* What is planned: packed objects, then loose ones, then the commit that is made. */
static size_t
planned(const struct send *s)
{
	return s->item_count + s->loose_count + s->first_on;
}

static struct wr_id
nth_id(const struct send *s, size_t i)
{
	if (i < s->item_count)
		return item_id(s, i);
	return i < s->item_count + s->loose_count ? s->loose[i - s->item_count] : s->newest;
}

static void
table_new(struct table *t, size_t count)
{
	for (t->cap = 16; t->cap < 2 * count; t->cap *= 2)
		;
	t->slot = wr_calloc(t->cap, sizeof(*t->slot));
}

/* Where this id stands, or its free place. */
static uint32_t *
table_find(const struct send *s, const struct table *t, const struct wr_id *id)
{
	uint64_t h;

	for (memcpy(&h, id->b, sizeof(h));; h++) {
		uint32_t *at = &t->slot[h & (t->cap - 1)];
		struct wr_id other;

		if (*at == 0)
			return at;
		other = nth_id(s, *at - 1);
		if (wr_id_eq(&other, id))
			return at;
	}
}

/* An object that lies in two packs may have been met in both: out with the second. */
static void
drop_doubles(struct send *s)
{
	struct table t;
	size_t n = 0;

	table_new(&t, s->item_count);
	for (size_t i = 0; i < s->item_count; i++) {
		struct wr_id id = item_id(s, i);
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
	if (s->has_far_tree)
		wr_full_push(&s->full, &s->far_tree, WR_OBJ_TREE);
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
	for (size_t i = 0; i < planned(s); i++) {
		struct wr_id id = nth_id(s, i);

		wr_sha1_add(&h, id.b, WR_ID_LEN);
	}
	sum = wr_sha1_end(&h);
	memcpy(s->stream.b, list, WR_STREAM_LIST_LEN);
	memcpy(s->stream.b + WR_STREAM_LIST_LEN, sum.b, WR_ID_LEN - WR_STREAM_LIST_LEN);
}

static uint64_t
planned_bytes(const struct send *s)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < s->item_count; i++)
		bytes += item_bytes(s, i);
	return bytes;
}

static void
put_begin(struct send *s)
{
	size_t at = wr_frame_begin(&s->m, WR_FRAME_BEGIN);
	struct wr_buf *b = &s->m.out;
	uint64_t bytes = planned_bytes(s);

	s->m.progress.objects = 0;
	s->m.progress.objects_total = planned(s);
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
	s->state = s->can_resume && planned(s) > 0 ? SEND_HELD : SEND_DATA;
}

/* ---- newest first ---- */

/* Is it worth it, and does the far side not have it yet? Then s->tip and what is made of it are
 * set.
 */
static bool
wants_first(struct send *s)
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
start_first(struct send *s, struct wr_err *err)
{
	s->first_on = true;
	return start_history(s, err);
}

static void
put_first(struct send *s)
{
	size_t at = wr_frame_begin(&s->m, WR_FRAME_FIRST);

	wr_buf_add(&s->m.out, s->tip.p, s->tip.len);
	wr_frame_end(&s->m, at);
}

/* The far side begins again: with it, or because its refs had moved. */
static void
end_first(struct send *s)
{
	const struct wr_sync_ref *far = wr_sync_list_find(&s->far, WR_SYNC_LATEST);

	if (!s->first_on)
		return;
	s->first_on = false;
	s->first_done = far && wr_id_eq(&far->id, &s->newest);
	if (s->first_done)
		s->m.progress.first = s->tip_time;
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
	if (s->first_on)
		put_first(s);
	else if (wants_first(s))
		return start_first(s, err);
	finish_plan(s);
	return 0;
}

/* ---- what came before ---- */

/* Of the ids told: which are of the plan, each once? They are not sent again. */
static int
on_held(struct send *s, struct wr_rd *r, struct wr_err *err)
{
	bool last = wr_rd8(r);
	size_t n = r->left / WR_ID_LEN, at;
	const uint8_t *ids = wr_rd_bytes(r, n * WR_ID_LEN);
	WR_SCOPED(wr_freep) uint8_t *bits = wr_calloc(n / 8 + 1, 1);

	s->told += n;
	if ((!ids && n) || n > WR_SYNC_HELD_STEP || (n == 0 && !last) || s->told > WR_SYNC_HELD_MAX)
		return wr_err_set(err, WR_E_INVALID, "the far side says badly what it has");
	if (!s->held) {
		s->held = wr_calloc(planned(s) / 8 + 1, 1);
		table_new(&s->table, planned(s));
		for (size_t i = 0; i < planned(s); i++) {
			struct wr_id id = nth_id(s, i);

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
		s->state = SEND_DATA;
	}
	return 0;
}

/* ---- what a damaged repository wants ---- */

static int
on_reached(void *ctx, const struct wr_id *id, WR_UNUSED enum wr_obj_type type)
{
	struct send *s = ctx;

	if (wr_repo_exists(s->m.src.repo, id))
		add_object(s, id);
	return 0;
}

/* Refs that the far side alone keeps may be known here, too. */
static void
start_reach(struct send *s)
{
	forget_plan(s);
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
	s->state = SEND_REACH;
}

static size_t
offer_len(const struct send *s)
{
	return WR_MIN(s->item_count + s->loose_count - s->offer_at, (size_t)WR_OFFER_IDS);
}

static void
put_offer(struct send *s)
{
	size_t at = wr_frame_begin(&s->m, WR_FRAME_OFFER), n = offer_len(s);

	wr_buf_add8(&s->m.out, s->offer_at + n == s->item_count + s->loose_count);
	for (size_t i = 0; i < n; i++) {
		struct wr_id id = nth_id(s, s->offer_at + i);

		wr_buf_add(&s->m.out, id.b, WR_ID_LEN);
	}
	wr_frame_end(&s->m, at);
	s->state = SEND_WANT;
}

static int
work_reach(struct send *s, struct wr_err *err)
{
	if (wr_full_step(&s->full, WR_SLICE, err) != 0)
		return 0;
	wr_full_fini(&s->full);
	if (make_items(s, err) < 0)
		return -1;
	s->offer_at = 0;
	put_offer(s);
	return 0;
}

/* What is not wanted, or cannot be read, is marked before it goes: offsets of others depend on it.
 */
#define NOT_SENT UINT32_MAX

static void
leave_out(struct send *s, size_t i)
{
	if (i < s->item_count)
		s->item[i].pack = NOT_SENT;
	else
		memset(&s->loose[i - s->item_count], 0, sizeof(*s->loose));
}

static bool
left_out(const struct send *s, size_t i)
{
	return i < s->item_count ? s->item[i].pack == NOT_SENT
				 : wr_id_is_zero(&s->loose[i - s->item_count]);
}

static int
on_want(struct send *s, struct wr_rd *r, struct wr_err *err)
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
	s->state = SEND_TRY;
	return 0;
}

static void
drop_left_out(struct send *s)
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
static void
work_try(struct send *s)
{
	size_t all = s->item_count + s->loose_count;

	for (size_t tried = 0; s->offer_at < all && tried < WR_SLICE; s->offer_at++) {
		struct wr_id id;

		if (left_out(s, s->offer_at))
			continue;
		tried++;
		id = nth_id(s, s->offer_at);
		if (wr_repo_read(s->m.src.rd, &id, WR_OBJ_NONE, true, NULL, &s->payload, NULL) < 0)
			leave_out(s, s->offer_at);
	}
	if (s->offer_at < all)
		return;
	drop_left_out(s);
	finish_plan(s);
}

/* ---- sending ---- */

static void
add_deflated(struct send *s, enum wr_obj_type type, const struct wr_buf *payload)
{
	if (!s->deflater)
		s->deflater = wr_deflater_new(LEVEL);
	wr_pack_entry_make(s->deflater, type, payload->p, payload->len, &s->data);
}

static int
add_made(struct send *s, const struct wr_id *id, struct wr_err *err)
{
	enum wr_obj_type type;

	if (wr_repo_read(s->m.src.rd, id, WR_OBJ_NONE, true, &type, &s->payload, err) < 0)
		return -1;
	add_deflated(s, type, &s->payload);
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
	uint64_t total = planned(s);

	for (; s->data.len < WR_DATA_LEN && s->at < total; s->at++)
		if (!(s->held && (s->held[s->at / 8] >> (s->at % 8) & 1)) && add_entry(s, err) < 0)
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
	uint32_t magic = wr_rd32be(r);
	uint16_t version = wr_rd16be(r);
	uint8_t bits;

	if (magic != WR_SYNC_MAGIC)
		return wr_err_set(err, WR_E_INVALID, "the far side does not speak this protocol");
	if (version != WR_SYNC_VERSION)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "the far side speaks version %u of this protocol, we speak %d",
				  version, WR_SYNC_VERSION);
	if (s->state == SEND_DONE && ++s->again > WR_SYNC_AGAIN_MAX)
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
	s->state = SEND_REFS;
	return 0;
}

static int
refs_complete(struct send *s, struct wr_err *err)
{
	if (s->far.count < s->far_total)
		return 0;
	end_first(s);
	if (s->mend) {
		start_reach(s);
		return 0;
	}
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

	if (type == WR_FRAME_HELLO && (s->state == SEND_HELLO || s->state == SEND_DONE)) {
		if (on_hello(s, r, err) < 0)
			return -1;
		return s->far_total == 0 ? refs_complete(s, err) : 0;
	}
	if (type == WR_FRAME_REFS && s->state == SEND_REFS)
		return on_refs(s, r, err);
	if (type == WR_FRAME_HAVES && s->state == SEND_HAVES)
		return on_haves(s, r, err);
	if (type == WR_FRAME_WANT && s->state == SEND_WANT)
		return on_want(s, r, err);
	if (type == WR_FRAME_HELD && s->state == SEND_HELD)
		return on_held(s, r, err);
	if (type == WR_FRAME_DONE && s->state == SEND_DONE && !s->first_on) {
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
	case SEND_REACH:
		return work_reach(s, err);
	case SEND_TRY:
		work_try(s);
		return 0;
	default:
		return work_data(s, err);
	}
}

static bool
send_busy(const struct wr_sync *m)
{
	const struct send *s = (const struct send *)m;

	return s->state == SEND_HISTORY || s->state == SEND_TREES || s->state == SEND_FULL ||
	       s->state == SEND_PLAN || s->state == SEND_REACH || s->state == SEND_TRY ||
	       s->state == SEND_DATA;
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
	s->newest_first = o && o->newest_first;
	s->first_bytes = o && o->first_bytes ? o->first_bytes : FIRST_BYTES;
	s->open = (struct wr_pack)WR_PACK_INIT;
	return &s->m;
}
