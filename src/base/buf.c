/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

void
wr_buf_fini(struct wr_buf *b)
{
	free(b->p);
	*b = (struct wr_buf)WR_BUF_INIT;
}

void
wr_buf_reserve(struct wr_buf *b, size_t more)
{
	size_t need;

	wr_assert(!__builtin_add_overflow(b->len, more, &need));
	wr_grow(&b->p, &b->cap, need, 1);
}

void
wr_buf_add(struct wr_buf *b, const void *p, size_t len)
{
	if (!len)
		return;
	wr_buf_reserve(b, len);
	memcpy(b->p + b->len, p, len);
	b->len += len;
}

void
wr_buf_adds(struct wr_buf *b, const char *s)
{
	wr_buf_add(b, s, strlen(s));
}

void
wr_buf_add8(struct wr_buf *b, uint8_t v)
{
	wr_buf_add(b, &v, 1);
}

void
wr_buf_add32be(struct wr_buf *b, uint32_t v)
{
	uint8_t t[4];

	wr_put32be(t, v);
	wr_buf_add(b, t, 4);
}

void
wr_buf_add64be(struct wr_buf *b, uint64_t v)
{
	uint8_t t[8];

	wr_put64be(t, v);
	wr_buf_add(b, t, 8);
}

void
wr_buf_addf(struct wr_buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	wr_assert(n >= 0);
	wr_buf_reserve(b, (size_t)n + 1);
	vsnprintf((char *)b->p + b->len, (size_t)n + 1, fmt, again);
	va_end(again);
	b->len += (size_t)n;
}

char *
wr_buf_str(struct wr_buf *b)
{
	wr_buf_reserve(b, 1);
	b->p[b->len] = '\0';
	return (char *)b->p;
}

char *
wr_buf_detach(struct wr_buf *b, size_t *out_len)
{
	char *s = wr_buf_str(b);

	if (out_len)
		*out_len = b->len;
	*b = (struct wr_buf)WR_BUF_INIT;
	return s;
}

const uint8_t *
wr_rd_bytes(struct wr_rd *r, size_t len)
{
	const uint8_t *p = r->p;

	if (r->bad || len > r->left) {
		r->bad = true;
		return NULL;
	}
	r->p += len;
	r->left -= len;
	return p;
}

uint8_t
wr_rd8(struct wr_rd *r)
{
	const uint8_t *p = wr_rd_bytes(r, 1);

	return p ? *p : 0;
}

uint16_t
wr_rd16be(struct wr_rd *r)
{
	const uint8_t *p = wr_rd_bytes(r, 2);

	return (uint16_t)(p ? p[0] << 8 | p[1] : 0);
}

uint32_t
wr_rd32be(struct wr_rd *r)
{
	const uint8_t *p = wr_rd_bytes(r, 4);

	return p ? wr_get32be(p) : 0;
}

uint64_t
wr_rd64be(struct wr_rd *r)
{
	const uint8_t *p = wr_rd_bytes(r, 8);

	return p ? wr_get64be(p) : 0;
}
