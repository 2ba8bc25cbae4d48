/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/record/record_int.h"

bool
wr_zeros(const void *p, size_t len)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		if (b[i])
			return false;
	return true;
}

/* ---- encoding ---- */

void
wr_enc16(struct wr_buf *b, size_t v)
{
	uint8_t t[2] = {(uint8_t)(v >> 8), (uint8_t)v};

	wr_assert(v <= UINT16_MAX);
	wr_buf_add(b, t, sizeof(t));
}

static int
digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

void
wr_enc_uuid(struct wr_buf *b, const struct wr_uuid *u)
{
	uint8_t t[16] = {0};
	const char *s = u->s;

	for (size_t i = 0; *u->s && i < sizeof(t); i++) {
		int hi, lo;

		s += *s == '-';
		hi = digit(s[0]);
		wr_assert(hi >= 0);
		lo = digit(s[1]);
		wr_assert(lo >= 0);
		t[i] = (uint8_t)(hi << 4 | lo);
		s += 2;
	}
	wr_assert(!*s);
	wr_buf_add(b, t, sizeof(t));
}

void
wr_enc_node(struct wr_buf *b, const struct wr_node_id *n)
{
	wr_enc_uuid(b, &n->id);
	wr_buf_add32be(b, n->inc);
}

void
wr_enc_epoch(struct wr_buf *b, const struct wr_epoch *e)
{
	wr_buf_add64be(b, e->number);
	wr_buf_add64be(b, e->random);
}

void
wr_enc_version(struct wr_buf *b, const struct wr_version *v)
{
	wr_enc_epoch(b, &v->n);
	wr_buf_add64be(b, v->s);
}

void
wr_enc_str(struct wr_buf *b, const void *p, size_t len)
{
	wr_enc16(b, len);
	wr_buf_add(b, p, len);
}

void
wr_enc_blob(struct wr_buf *b, const void *p, size_t len)
{
	wr_assert(len <= UINT32_MAX);
	wr_buf_add32be(b, (uint32_t)len);
	wr_buf_add(b, p, len);
}

/* ---- decoding ---- */

struct wr_dec
wr_dec(const char *kind, const char *magic, const void *p, size_t len, size_t max,
       struct wr_err *err)
{
	struct wr_dec d = {.rd = wr_rd(p, len), .kind = kind, .err = err};
	const uint8_t *have;

	if (len > max) {
		d.failed = true;
		wr_err_set(err, WR_E_LIMIT, "%s: has %zu bytes, more than %zu", kind, len, max);
		return d;
	}
	have = wr_rd_bytes(&d.rd, WR_MAGIC_LEN);
	if (!have || memcmp(have, magic, WR_MAGIC_LEN - 1) != 0) {
		wr_dec_fail(&d, "magic", "is none");
	} else if (have[WR_MAGIC_LEN - 1] != (uint8_t)magic[WR_MAGIC_LEN - 1]) {
		d.failed = true;
		wr_err_set(err, WR_E_UNSUPPORTED, "%s: format '%s', this program knows '%s'", kind,
			   wr_quote(have, WR_MAGIC_LEN).s, magic);
	}
	return d;
}

void
wr_dec_fail(struct wr_dec *d, const char *field, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (d->failed)
		return;
	d->failed = true;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	wr_err_set(d->err, WR_E_INVALID, "%s: %s %s", d->kind, field, text);
}

/* len bytes, or NULL after a failure. */
static const uint8_t *
take(struct wr_dec *d, const char *field, size_t len)
{
	const uint8_t *p = d->failed ? NULL : wr_rd_bytes(&d->rd, len);

	if (!p)
		wr_dec_fail(d, field, "is cut off");
	return p;
}

uint8_t
wr_dec8(struct wr_dec *d, const char *field)
{
	const uint8_t *p = take(d, field, 1);

	return p ? *p : 0;
}

uint32_t
wr_dec32(struct wr_dec *d, const char *field)
{
	const uint8_t *p = take(d, field, 4);

	return p ? wr_get32be(p) : 0;
}

uint64_t
wr_dec64(struct wr_dec *d, const char *field)
{
	const uint8_t *p = take(d, field, 8);

	return p ? wr_get64be(p) : 0;
}

uint8_t
wr_dec_max(struct wr_dec *d, const char *field, uint8_t min, uint8_t max)
{
	uint8_t v = wr_dec8(d, field);

	if (!d->failed && (v < min || v > max))
		wr_dec_fail(d, field, "is %u, which means nothing", v);
	return d->failed ? 0 : v;
}

bool
wr_dec_bool(struct wr_dec *d, const char *field)
{
	return wr_dec_max(d, field, 0, 1);
}

int64_t
wr_dec_time(struct wr_dec *d, const char *field)
{
	uint64_t v = wr_dec64(d, field);

	if (v > (uint64_t)WR_TIME_MAX) {
		wr_dec_fail(d, field, "is no time before the year 10000");
		return 0;
	}
	return (int64_t)v;
}

void
wr_dec_copy(struct wr_dec *d, const char *field, void *out, size_t len)
{
	const uint8_t *p = take(d, field, len);

	if (p)
		memcpy(out, p, len);
	else
		memset(out, 0, len);
}

struct wr_uuid
wr_dec_uuid(struct wr_dec *d, const char *field, enum wr_dec_need need)
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t *p = take(d, field, 16);
	struct wr_uuid u = {""};
	char *s = u.s;

	if (!p || (need == WR_DEC_MAY && wr_zeros(p, 16)))
		return u;
	if (p[6] >> 4 != 4 || p[8] >> 6 != 2) { /* as wr_uuid_parse */
		wr_dec_fail(d, field, "is no id");
		return u;
	}
	for (size_t i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*s++ = '-';
		*s++ = hex[p[i] >> 4];
		*s++ = hex[p[i] & 15];
	}
	*s = '\0';
	return u;
}

struct wr_node_id
wr_dec_node(struct wr_dec *d, const char *field, enum wr_dec_need need)
{
	struct wr_node_id n;

	n.id = wr_dec_uuid(d, field, need);
	n.inc = wr_dec32(d, field);
	if (!*n.id.s != !n.inc)
		wr_dec_fail(d, field, "has %s", n.inc ? "an incarnation only" : "no incarnation");
	return n;
}

struct wr_epoch
wr_dec_epoch(struct wr_dec *d, const char *field, enum wr_dec_need need)
{
	struct wr_epoch e;

	e.number = wr_dec64(d, field);
	e.random = wr_dec64(d, field);
	if (!e.number && (need == WR_DEC_MUST || e.random))
		wr_dec_fail(d, field, "has no number");
	return e;
}

struct wr_version
wr_dec_version(struct wr_dec *d, const char *field, enum wr_dec_need need)
{
	struct wr_version v;

	v.n = wr_dec_epoch(d, field, need);
	v.s = wr_dec64(d, field);
	if (!v.n.number && v.s)
		wr_dec_fail(d, field, "has a save without an epoch");
	return v;
}

static const uint8_t *
take_counted(struct wr_dec *d, const char *field, size_t n, size_t max, size_t *out_len)
{
	const uint8_t *p;

	if (!d->failed && n > max)
		wr_dec_fail(d, field, "has %zu bytes, more than %zu", n, max);
	p = take(d, field, n);
	*out_len = p ? n : 0;
	return p ? p : (const uint8_t *)"";
}

const char *
wr_dec_str(struct wr_dec *d, const char *field, size_t max, size_t *out_len)
{
	const uint8_t *p = take(d, field, 2);

	return (const char *)take_counted(d, field, p ? (size_t)(p[0] << 8 | p[1]) : 0, max,
					  out_len);
}

const uint8_t *
wr_dec_blob(struct wr_dec *d, const char *field, size_t max, size_t *out_len)
{
	return take_counted(d, field, wr_dec32(d, field), max, out_len);
}

size_t
wr_dec_count(struct wr_dec *d, const char *field, size_t max, size_t item_len)
{
	size_t n = wr_dec32(d, field);

	if (n > max)
		wr_dec_fail(d, field, "are %zu, more than %zu", n, max);
	else if (n > d->rd.left / item_len) /* before anything is made for them */
		wr_dec_fail(d, field, "are cut off");
	return d->failed ? 0 : n;
}

struct wr_pub
wr_dec_pub(struct wr_dec *d, const char *field, enum wr_dec_need need)
{
	struct wr_pub k;

	wr_dec_copy(d, field, k.b, sizeof(k.b));
	if (need == WR_DEC_MUST && wr_zeros(k.b, sizeof(k.b)))
		wr_dec_fail(d, field, "is no key");
	return k;
}

struct wr_sig
wr_dec_sig(struct wr_dec *d)
{
	struct wr_sig s;

	wr_dec_copy(d, "signature", s.b, sizeof(s.b));
	return s;
}

int
wr_dec_end(struct wr_dec *d)
{
	if (!d->failed && d->rd.left)
		wr_dec_fail(d, "end", "has %zu bytes behind it", d->rd.left);
	return d->failed ? -1 : 0;
}
