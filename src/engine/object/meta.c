/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry is a run of records, each a vuint tag, a vuint length and a payload, ended by tag 0.
 * The number codecs work on the reader's fields directly: a listing decodes some thirty numbers
 * per file.
 */
#include "engine/object/meta.h"

#include <sys/stat.h>

enum tag {
	TAG_END = 0,
	TAG_COMMON_V1 = 2,
	TAG_SYMLINK = 3,
	TAG_ACL_V1 = 4,
	TAG_ATTR = 6,
	TAG_XATTR = 7,
	TAG_HARDLINK = 8,
	TAG_COMMON_V2 = 9,
	TAG_COMMON_V3 = 10,
	TAG_ACL_V2 = 11,
};

#define NUM_MAX 10 /* bytes of a vuint or vint of 64 bits */

static uint64_t
bad_number(struct wr_rd *r)
{
	r->bad = true;
	r->left = 0;
	return 0;
}

/* 7 bits per byte, low ones first, high bit = more. */
static inline uint64_t
get_vuint(struct wr_rd *r)
{
	uint64_t v = 0;

	for (unsigned shift = 0;; shift += 7) {
		uint8_t b;

		if (r->left == 0)
			return bad_number(r);
		b = *r->p++;
		r->left--;
		if (shift == 63 && b > 1)
			return bad_number(r); /* more than 64 bits */
		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80))
			return v;
	}
}

/* A vint as magnitude and sign: more bit, sign bit, 6 bits, then a vuint of what is above. */
static inline uint64_t
get_magnitude(struct wr_rd *r, bool *out_negative)
{
	uint64_t v, high;
	uint8_t b;

	*out_negative = false;
	if (r->left == 0)
		return bad_number(r);
	b = *r->p++;
	r->left--;
	v = b & 0x3f;
	if (b & 0x80) {
		high = get_vuint(r);
		if (high >> 58)
			return bad_number(r);
		v |= high << 6;
	}
	*out_negative = (b & 0x40) && v;
	return v;
}

static int64_t
get_vint(struct wr_rd *r)
{
	bool negative;
	uint64_t v = get_magnitude(r, &negative);

	if (v > (uint64_t)INT64_MAX + negative)
		return (int64_t)bad_number(r);
	return (int64_t)(negative ? 0 - v : v);
}

/* A number that cannot be negative: records before version 3 hold it as a vuint. */
static uint64_t
get_natural(struct wr_rd *r, bool as_vuint)
{
	bool negative;
	uint64_t v;

	if (as_vuint)
		return get_vuint(r);
	v = get_magnitude(r, &negative);
	return negative ? bad_number(r) : v;
}

static uint32_t
get_natural32(struct wr_rd *r, bool as_vuint)
{
	uint64_t v = get_natural(r, as_vuint);

	return (uint32_t)(v > UINT32_MAX ? bad_number(r) : v);
}

static struct wr_bytes
get_bvec(struct wr_rd *r)
{
	uint64_t len = get_vuint(r);
	struct wr_bytes b = {0};

	if (r->bad || len > r->left) {
		bad_number(r);
		return b;
	}
	b.p = r->p;
	b.len = (size_t)len;
	r->p += b.len;
	r->left -= b.len;
	return b;
}

static struct wr_ts
get_time(struct wr_rd *r)
{
	struct wr_ts t = {.s = get_vint(r)};
	uint64_t ns = get_vuint(r);

	t.ns = (uint32_t)(ns < 1000000000 ? ns : bad_number(r));
	return t;
}

static void
get_common(struct wr_rd *r, uint64_t tag, struct wr_meta *m)
{
	bool v1 = tag == TAG_COMMON_V1;

	m->mode = get_natural32(r, v1);
	m->uid = get_natural32(r, v1);
	m->user = get_bvec(r);
	m->gid = get_natural32(r, v1);
	m->group = get_bvec(r);
	m->rdev = get_natural(r, v1);
	m->atime = get_time(r);
	m->mtime = get_time(r);
	m->ctime = get_time(r);
	m->size = tag == TAG_COMMON_V3 ? get_vint(r) : -1;
	if (m->size < -1)
		bad_number(r);
	m->has_common = true;
}

/* Version 1 has the texts with a LF behind each entry; one with a comma cannot be told apart and
 * bup drops it. */
static void
get_acl(struct wr_rd *r, bool v1, struct wr_meta *m, struct wr_buf *scratch)
{
	struct wr_bytes acl[4];

	for (size_t i = 0; i < 4; i++)
		acl[i] = get_bvec(r);
	if (r->bad)
		return;
	if (v1) {
		size_t total = acl[0].len + acl[1].len + acl[2].len + acl[3].len;

		memset(m->acl, 0, sizeof(m->acl)); /* may point into scratch */
		wr_buf_clear(scratch);
		wr_buf_reserve(scratch, total + 1); /* the texts do not move any more */
		for (size_t i = 0; i < 4; i++) {
			uint8_t *text = scratch->p + scratch->len;

			if (acl[i].len && memchr(acl[i].p, ',', acl[i].len))
				return;
			wr_buf_add(scratch, acl[i].p, acl[i].len);
			while (acl[i].len && text[acl[i].len - 1] == '\n')
				acl[i].len--;
			for (size_t k = 0; k < acl[i].len; k++)
				if (text[k] == '\n')
					text[k] = ',';
			acl[i].p = text;
		}
	}
	memcpy(m->acl, acl, sizeof(acl));
}

static void
get_xattrs(struct wr_rd *r, struct wr_meta *m)
{
	uint64_t count = get_vuint(r);
	struct wr_rd walk = *r;
	struct wr_bytes name, value;
	uint64_t seen = 0;
	int n;

	while ((n = wr_meta_xattr_next(&walk, &name, &value)) > 0)
		seen++;
	if (n < 0 || seen != count || count > UINT32_MAX) {
		bad_number(r);
		return;
	}
	m->xattr_count = (uint32_t)count;
	m->xattrs.len = r->left;
	m->xattrs.p = wr_rd_bytes(r, r->left);
}

/* The stream makes no sense from here on, so that later calls fail as well. */
static int
cut_short(struct wr_rd *r, struct wr_err *err)
{
	r->bad = true;
	return wr_err_set(err, WR_E_CORRUPT, "damaged metadata: cut short");
}

int
wr_meta_next(struct wr_rd *r, struct wr_meta *out, struct wr_bytes *out_raw, struct wr_buf *scratch,
	     struct wr_err *err)
{
	struct wr_meta m = {.size = -1};
	const uint8_t *start = r->p;

	if (r->bad)
		return cut_short(r, err);
	if (r->left == 0)
		return 0;
	for (;;) {
		uint64_t tag = get_vuint(r);
		struct wr_bytes payload;
		struct wr_rd rec;

		if (r->bad)
			return cut_short(r, err);
		if (tag == TAG_END)
			break;
		payload = get_bvec(r);
		if (r->bad)
			return cut_short(r, err);
		rec = wr_rd(payload.p, payload.len);
		switch (tag) {
		case TAG_COMMON_V1:
		case TAG_COMMON_V2:
		case TAG_COMMON_V3:
			get_common(&rec, tag, &m);
			break;
		case TAG_SYMLINK:
			m.symlink = payload;
			continue;
		case TAG_HARDLINK:
			m.hardlink = payload;
			continue;
		case TAG_ACL_V1:
		case TAG_ACL_V2:
			get_acl(&rec, tag == TAG_ACL_V1, &m, scratch);
			break;
		case TAG_ATTR:
			m.attr = get_vuint(&rec);
			break;
		case TAG_XATTR:
			get_xattrs(&rec, &m);
			break;
		default:
			continue; /* of another version, or of no use here */
		}
		if (rec.bad || rec.left) {
			r->bad = true;
			return wr_err_set(err, WR_E_CORRUPT,
					  "damaged metadata: bad record of type %" PRIu64, tag);
		}
	}
	*out = m;
	out_raw->p = start;
	out_raw->len = (size_t)(r->p - start);
	return 1;
}

static uint8_t *
put_vuint(uint8_t *p, uint64_t v)
{
	for (; v > 0x7f; v >>= 7)
		*p++ = (uint8_t)(v | 0x80);
	*p++ = (uint8_t)v;
	return p;
}

static uint8_t *
put_vint(uint8_t *p, uint64_t magnitude, bool negative)
{
	uint8_t sign = negative ? 0x40 : 0;

	if (magnitude <= 0x3f) {
		*p++ = (uint8_t)(magnitude | sign);
		return p;
	}
	*p++ = (uint8_t)(0x80 | sign | (magnitude & 0x3f));
	return put_vuint(p, magnitude >> 6);
}

static uint8_t *
put_signed(uint8_t *p, int64_t v)
{
	return put_vint(p, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, v < 0);
}

static uint8_t *
put_bvec(uint8_t *p, const struct wr_bytes *b)
{
	p = put_vuint(p, b->len);
	if (b->len)
		memcpy(p, b->p, b->len);
	return p + b->len;
}

static uint8_t *
put_time(uint8_t *p, struct wr_ts t)
{
	return put_vuint(put_signed(p, t.s), t.ns);
}

/* Give a record of n bytes, written at body, the tag and length in front of it.  The caller left
 * room for both from start on, with the body where a length of one byte puts it. */
static void
close_record(struct wr_buf *out, enum tag tag, uint8_t *end)
{
	uint8_t head[NUM_MAX], *start = out->p + out->len, *body = start + 2;
	size_t n = (size_t)(end - body), head_len = (size_t)(put_vuint(head, n) - head);

	if (head_len > 1)
		memmove(start + 1 + head_len, body, n);
	start[0] = (uint8_t)tag;
	memcpy(start + 1, head, head_len);
	out->len += 1 + head_len + n;
}

/* Room for a record with a body of at most n bytes; gives the place of the body. */
static uint8_t *
open_record(struct wr_buf *out, size_t n)
{
	wr_buf_reserve(out, 1 + NUM_MAX + n);
	return out->p + out->len + 2;
}

static void
put_common(struct wr_buf *out, const struct wr_meta *m)
{
	uint8_t *p = open_record(out, 13 * NUM_MAX + m->user.len + m->group.len);

	p = put_vint(p, m->mode, false);
	p = put_vint(p, m->uid, false);
	p = put_bvec(p, &m->user);
	p = put_vint(p, m->gid, false);
	p = put_bvec(p, &m->group);
	p = put_vint(p, m->rdev, false);
	p = put_time(p, m->atime);
	p = put_time(p, m->mtime);
	p = put_time(p, m->ctime);
	p = put_signed(p, m->size);
	close_record(out, TAG_COMMON_V3, p);
}

static void
put_raw(struct wr_buf *out, enum tag tag, const struct wr_bytes *b)
{
	uint8_t *p;

	if (b->len == 0)
		return;
	p = open_record(out, b->len);
	memcpy(p, b->p, b->len);
	close_record(out, tag, p + b->len);
}

void
wr_meta_encode(struct wr_buf *out, const struct wr_meta *m)
{
	uint8_t *p;

	if (m->has_common)
		put_common(out, m);
	put_raw(out, TAG_SYMLINK, &m->symlink);
	put_raw(out, TAG_HARDLINK, &m->hardlink);
	if (m->acl[0].p) {
		p = open_record(out, 4 * NUM_MAX + m->acl[0].len + m->acl[1].len + m->acl[2].len +
					 m->acl[3].len);
		for (size_t i = 0; i < 4; i++)
			p = put_bvec(p, &m->acl[i]);
		close_record(out, TAG_ACL_V2, p);
	}
	if (m->attr) {
		p = open_record(out, NUM_MAX);
		close_record(out, TAG_ATTR, put_vuint(p, m->attr));
	}
	if (m->xattr_count) {
		p = open_record(out, NUM_MAX + m->xattrs.len);
		p = put_vuint(p, m->xattr_count);
		memcpy(p, m->xattrs.p, m->xattrs.len);
		close_record(out, TAG_XATTR, p + m->xattrs.len);
	}
	wr_buf_add8(out, TAG_END);
}

void
wr_meta_xattr_add(struct wr_buf *pairs, const void *name, size_t name_len, const void *value,
		  size_t value_len)
{
	const struct wr_bytes n = {name, name_len}, v = {value, value_len};
	uint8_t *p;

	wr_buf_reserve(pairs, 2 * NUM_MAX + name_len + value_len);
	p = put_bvec(pairs->p + pairs->len, &n);
	p = put_bvec(p, &v);
	pairs->len = (size_t)(p - pairs->p);
}

int
wr_meta_xattr_next(struct wr_rd *r, struct wr_bytes *name, struct wr_bytes *value)
{
	struct wr_bytes n, v;

	if (r->left == 0 && !r->bad)
		return 0;
	n = get_bvec(r);
	v = get_bvec(r);
	if (r->bad)
		return -1;
	*name = n;
	*value = v;
	return 1;
}

static bool
bytes_eq(const struct wr_bytes *a, const struct wr_bytes *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->p, b->p, a->len) == 0);
}

struct pair {
	struct wr_bytes name, value;
};

static int
bytes_cmp(const struct wr_bytes *a, const struct wr_bytes *b)
{
	size_t n = WR_MIN(a->len, b->len);
	int c = n ? memcmp(a->p, b->p, n) : 0;

	return c ? c : (a->len > b->len) - (a->len < b->len);
}

static int
pair_cmp(const void *va, const void *vb)
{
	const struct pair *a = va, *b = vb;
	int c = bytes_cmp(&a->name, &b->name);

	return c ? c : bytes_cmp(&a->value, &b->value);
}

/* The pairs of an entry in one order for all; the caller frees them. */
static struct pair *
sorted_pairs(const struct wr_meta *m, size_t *out_count)
{
	struct wr_rd r = wr_rd(m->xattrs.p, m->xattrs.len);
	struct pair *pairs = NULL, next;
	size_t count = 0, cap = 0;

	while (wr_meta_xattr_next(&r, &next.name, &next.value) > 0) {
		wr_grow(&pairs, &cap, count + 1, sizeof(*pairs));
		pairs[count++] = next;
	}
	if (count)
		qsort(pairs, count, sizeof(*pairs), pair_cmp);
	*out_count = count;
	return pairs;
}

static bool
xattrs_same(const struct wr_meta *a, const struct wr_meta *b)
{
	WR_SCOPED(wr_freep) struct pair *pa = NULL;
	WR_SCOPED(wr_freep) struct pair *pb = NULL;
	size_t na, nb;

	if (bytes_eq(&a->xattrs, &b->xattrs))
		return true;
	if (a->xattr_count != b->xattr_count || a->xattrs.len != b->xattrs.len)
		return false;
	/* The same in another order?  listxattr gives whatever order the file system has. */
	pa = sorted_pairs(a, &na);
	pb = sorted_pairs(b, &nb);
	if (na != nb)
		return false;
	for (size_t i = 0; i < na; i++)
		if (pair_cmp(&pa[i], &pb[i]) != 0)
			return false;
	return true;
}

static bool
has_acl_xattr(const struct wr_meta *m)
{
	static const char prefix[] = "system.posix_acl_";
	struct wr_rd r = wr_rd(m->xattrs.p, m->xattrs.len);
	struct wr_bytes name, value;

	while (wr_meta_xattr_next(&r, &name, &value) > 0)
		if (name.len >= sizeof(prefix) - 1 &&
		    memcmp(name.p, prefix, sizeof(prefix) - 1) == 0)
			return true;
	return false;
}

bool
wr_meta_same(const struct wr_meta *a, const struct wr_meta *b)
{
	bool sized = S_ISREG(a->mode) || S_ISLNK(a->mode);

	if (a->has_common != b->has_common || a->mode != b->mode || a->uid != b->uid ||
	    a->gid != b->gid || a->rdev != b->rdev || wr_ts_cmp(a->mtime, b->mtime) != 0 ||
	    (sized && a->size != b->size))
		return false;
	if (((a->attr ^ b->attr) & WR_ATTR_VISIBLE) != 0)
		return false;
	if (!bytes_eq(&a->symlink, &b->symlink) || !bytes_eq(&a->hardlink, &b->hardlink) ||
	    !xattrs_same(a, b))
		return false;
	/* Equal attributes are equal ACLs; the texts then differ at most by names. */
	return has_acl_xattr(a) ||
	       (bytes_eq(&a->acl[1], &b->acl[1]) && bytes_eq(&a->acl[3], &b->acl[3]));
}
