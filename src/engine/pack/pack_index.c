/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rebuilding the index of a pack.  First pass, front to back: find each entry's end by inflating
 * it; whole objects get their ids at once.  Then deltas, each as soon as its base can be found: one
 * whose REF base is not known yet waits under that base's id, so every delta is tried once, and
 * once more for each base that it had to wait for.
 */
#include <libdeflate.h>

#include "engine/pack/pack_int.h"
#include "sys/fs.h"

#define STEP ((size_t)1 << 20)
#define NOBODY UINT32_MAX
/* In the map: the value is not an offset but the first delta that waits for the id. */
#define WAITING (UINT64_C(1) << 63)

struct pending {
	uint32_t entry;
	uint32_t next; /* in the list of those who wait for the same id */
};

struct build {
	const struct wr_pack *p;
	wr_pack_bad_fn bad;
	void *ctx;
	struct wr_pack_reader *r;
	struct wr_buf out;

	struct wr_idx_entry *e; /* in pack order; deltas get their ids late */
	size_t count, cap;
	struct pending *d; /* the deltas */
	size_t d_count, d_cap;
	bool refs;             /* there are REF_DELTAs: known is kept */
	struct wr_idmap known; /* id -> offset, or WAITING | first in d */
	struct wr_id missing;  /* the base that base_of could not find */
	bool is_missing;
};

/* First pass: one entry, its length to *out_len. */
static int
index_entry(struct build *b, uint64_t off, uint64_t *out_len, struct wr_err *err)
{
	struct wr_pack_entry e;
	struct wr_idx_entry x = {.off = off};
	const uint8_t *bytes;
	size_t used, len;

	if (off >= b->p->size - WR_PACK_SUM_LEN)
		return wr_err_set(err, WR_E_CORRUPT, "the pack ends at offset %" PRIu64, off);
	if (wr_pack_entry_at(b->p, b->r, off, &e, err) < 0 ||
	    wr_pack_entry_inflate(b->p, b->r, &e, &b->out, &used, err) < 0)
		return -1;
	used += e.head_len;
	if (wr_pack_bytes(b->p, b->r, off, used, used, &bytes, &len, err) < 0)
		return -1;
	x.crc = libdeflate_crc32(0, bytes, used);
	if (wr_pack_is_delta(e.type)) {
		wr_grow(&b->d, &b->d_cap, b->d_count + 1, sizeof(*b->d));
		b->d[b->d_count++] = (struct pending){(uint32_t)b->count, NOBODY};
		b->refs |= e.type == WR_OBJ_REF_DELTA;
	} else {
		x.id = wr_obj_id(e.type, b->out.p, b->out.len);
	}
	wr_grow(&b->e, &b->cap, b->count + 1, sizeof(*b->e));
	b->e[b->count++] = x;
	*out_len = used;
	wr_pack_buf_reset(&b->out);
	return 0;
}

static void
index_all(struct build *b)
{
	uint64_t off = WR_PACK_HEAD_LEN, len = 0;

	for (uint32_t i = 0; i < b->p->count; i++, off += len) {
		struct wr_err err = WR_ERR_INIT;
		char why[sizeof(err.msg) + 80];

		if (index_entry(b, off, &len, &err) == 0)
			continue;
		/* Where the next one begins is not known: streams have no marks. */
		snprintf(why, sizeof(why), "%s; lost with the %" PRIu32 " objects behind it",
			 err.msg, b->p->count - i - 1);
		b->bad(b->ctx, NULL, why);
		return;
	}
}

static int
base_of(void *ctx, const struct wr_id *base, uint64_t *out_off)
{
	struct build *b = ctx;
	const uint64_t *v = wr_idmap_find(&b->known, base);

	if (!v || *v & WAITING) {
		b->missing = *base;
		b->is_missing = true;
		return -1;
	}
	*out_off = *v;
	return 0;
}

/* Make the object at off known; gives the first delta that waited for it. */
static uint32_t
set_known(struct build *b, const struct wr_id *id, uint64_t off)
{
	bool is_new;
	uint64_t *v = wr_idmap_put(&b->known, id, &is_new);
	uint32_t first = !is_new && *v & WAITING ? (uint32_t)*v : NOBODY;

	if (is_new || first != NOBODY)
		*v = off;
	return first;
}

static void
wait_for(struct build *b, const struct wr_id *id, uint32_t i)
{
	bool is_new;
	uint64_t *v = wr_idmap_put(&b->known, id, &is_new);

	b->d[i].next = is_new ? NOBODY : (uint32_t)*v;
	*v = WAITING | i;
}

/* Resolve delta number i and all that wait for it. */
static void
resolve(struct build *b, uint32_t i)
{
	uint32_t todo = i;

	b->d[i].next = NOBODY;
	while (todo != NOBODY) {
		uint32_t at = todo, more;
		struct wr_idx_entry *x = &b->e[b->d[at].entry];
		struct wr_err err = WR_ERR_INIT;
		enum wr_obj_type type;

		todo = b->d[at].next;
		b->is_missing = false;
		if (wr_pack_read_via(b->p, base_of, b, b->r, x->off, &type, &b->out, &err) < 0) {
			if (b->is_missing)
				wait_for(b, &b->missing, at);
			else
				b->bad(b->ctx, NULL, err.msg);
			continue;
		}
		x->id = wr_obj_id(type, b->out.p, b->out.len);
		wr_pack_buf_reset(&b->out);
		if (!b->refs)
			continue;
		more = set_known(b, &x->id, x->off);
		while (more != NOBODY) {
			uint32_t next = b->d[more].next;

			b->d[more].next = todo;
			todo = more;
			more = next;
		}
	}
}

static void
resolve_all(struct build *b)
{
	for (size_t i = 0, d = 0; b->refs && i < b->count; i++) {
		if (d < b->d_count && b->d[d].entry == i)
			d++;
		else
			set_known(b, &b->e[i].id, b->e[i].off);
	}
	for (size_t i = 0; i < b->d_count; i++)
		resolve(b, (uint32_t)i);
}

static int
entry_cmp(const void *a, const void *b)
{
	const struct wr_idx_entry *x = a, *y = b;
	int c = wr_id_cmp(&x->id, &y->id);

	return c != 0 ? c : x->off < y->off ? -1 : x->off > y->off;
}

/* Take out deltas that got no id (theirs is still zero) and second copies of an object. */
static void
drop_unusable(struct build *b)
{
	size_t n = 0;

	if (b->count)
		qsort(b->e, b->count, sizeof(*b->e), entry_cmp);
	for (size_t i = 0; i < b->count; i++)
		if (!wr_id_is_zero(&b->e[i].id) &&
		    (n == 0 || !wr_id_eq(&b->e[n - 1].id, &b->e[i].id)))
			b->e[n++] = b->e[i];
	b->count = n;
}

/* Deltas whose base never came. */
static void
report_waiting(struct build *b)
{
	const struct wr_idmap_slot *s;

	for (size_t i = 0; (s = wr_idmap_next(&b->known, &i));) {
		char why[160];

		if (!(s->value & WAITING))
			continue;
		for (uint32_t at = (uint32_t)s->value; at != NOBODY; at = b->d[at].next) {
			snprintf(why, sizeof(why),
				 "object at offset %" PRIu64 ": its delta base %s is not there",
				 b->e[b->d[at].entry].off, wr_id_hex(&s->id).s);
			b->bad(b->ctx, NULL, why);
		}
	}
}

int
wr_pack_index(const struct wr_pack *p, struct wr_buf *out, wr_pack_bad_fn bad, void *ctx,
	      struct wr_err *err)
{
	struct build b = {.p = p, .bad = bad, .ctx = ctx};
	struct wr_id sum;
	int rc = 0;

	if (wr_pread_full(p->fd, sum.b, WR_PACK_SUM_LEN, p->size - WR_PACK_SUM_LEN) !=
	    WR_PACK_SUM_LEN)
		return wr_err_set(err, WR_E_CORRUPT, "pack '%s' cannot be read", WR_Q(p->name));
	b.r = wr_pack_reader_new_sized(STEP, STEP, WR_PACK_CACHE);
	index_all(&b);
	resolve_all(&b);
	report_waiting(&b);
	drop_unusable(&b);
	if (b.count == 0 && p->count > 0)
		rc = wr_err_set(err, WR_E_CORRUPT, "pack '%s': no object can be read",
				WR_Q(p->name));
	else
		wr_idx_format(out, b.e, b.count, &sum);
	wr_pack_reader_free(b.r);
	wr_idmap_fini(&b.known);
	wr_buf_fini(&b.out);
	free(b.e);
	free(b.d);
	return rc;
}
