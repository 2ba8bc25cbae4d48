/* SPDX-License-Identifier: Apache-2.0 */
/* A growable byte buffer, and a bounded reader over bytes from outside. Pure. */
#ifndef WR_BUF_H
#define WR_BUF_H

#include "base/base.h"

struct wr_buf {
	uint8_t *p;
	size_t len, cap;
};
#define WR_BUF_INIT \
	{           \
		0   \
	}

void wr_buf_fini(struct wr_buf *b);                 /* harmless twice */
void wr_buf_reserve(struct wr_buf *b, size_t more); /* room for more bytes after len */
void wr_buf_add(struct wr_buf *b, const void *p, size_t len);
void wr_buf_adds(struct wr_buf *b, const char *s);
void wr_buf_add8(struct wr_buf *b, uint8_t v);
void wr_buf_add32be(struct wr_buf *b, uint32_t v);
void wr_buf_add64be(struct wr_buf *b, uint64_t v);
void wr_buf_addf(struct wr_buf *b, const char *fmt, ...) WR_PRINTF(2, 3);
/* The bytes with a NUL behind them (not counted in len); borrowed, valid until the next change. */
char *wr_buf_str(struct wr_buf *b);
/* Hand the bytes (NUL-terminated) to the caller, who frees them; the buffer is empty again. */
char *wr_buf_detach(struct wr_buf *b, size_t *out_len);
static inline void
wr_buf_clear(struct wr_buf *b)
{
	b->len = 0;
}

/* Reader: after the first read past the end `bad` is set and every read gives 0 / NULL. */
struct wr_rd {
	const uint8_t *p;
	size_t left;
	bool bad;
};
static inline struct wr_rd
wr_rd(const void *p, size_t len)
{
	return (struct wr_rd){p, len, false};
}
/* len bytes, borrowed from the input, or NULL. */
const uint8_t *wr_rd_bytes(struct wr_rd *r, size_t len);
uint8_t wr_rd8(struct wr_rd *r);
uint16_t wr_rd16be(struct wr_rd *r);
uint32_t wr_rd32be(struct wr_rd *r);
uint64_t wr_rd64be(struct wr_rd *r);

static inline uint32_t
wr_get32be(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline uint64_t
wr_get64be(const uint8_t *p)
{
	return (uint64_t)wr_get32be(p) << 32 | wr_get32be(p + 4);
}
static inline void
wr_put32be(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8),
	p[3] = (uint8_t)v;
}
static inline void
wr_put64be(uint8_t *p, uint64_t v)
{
	wr_put32be(p, (uint32_t)(v >> 32));
	wr_put32be(p + 4, (uint32_t)v);
}

#endif
