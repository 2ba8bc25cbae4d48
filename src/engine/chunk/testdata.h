/* SPDX-License-Identifier: Apache-2.0 */
/* Contents for the tests of this folder, the same on every machine. */
#ifndef WR_CHUNK_TESTDATA_H
#define WR_CHUNK_TESTDATA_H

#include <openssl/evp.h>

#include "base/buf.h"

/* Append len bytes: the SHA-512 of "seed:0", "seed:1", ... in a row. */
static inline void
td_noise(struct wr_buf *b, const char *seed, size_t len)
{
	uint8_t digest[64];
	char text[64];

	for (unsigned i = 0; len; i++) {
		int n = snprintf(text, sizeof(text), "%s:%u", seed, i);
		size_t part = WR_MIN(len, sizeof(digest));

		wr_assert(EVP_Digest(text, (size_t)n, digest, NULL, EVP_sha512(), NULL) == 1);
		wr_buf_add(b, digest, part);
		len -= part;
	}
}

/* Append len bytes of one bit of noise each. */
static inline void
td_low(struct wr_buf *b, const char *seed, size_t len)
{
	size_t at = b->len;

	td_noise(b, seed, len);
	for (; at < b->len; at++)
		b->p[at] = b->p[at] & 1 ? 65 : 90;
}

static inline void
td_fill(struct wr_buf *b, uint8_t byte, size_t len)
{
	wr_buf_reserve(b, len);
	memset(b->p + b->len, byte, len);
	b->len += len;
}

/* The two contents on which bup 0.33 and the simple rule differ. */
static inline void
td_quirk_tail(struct wr_buf *b)
{
	td_low(b, "low8", 200000);
}

static inline void
td_quirk_block(struct wr_buf *b)
{
	td_fill(b, 0, (8u << 20) - 100000);
	td_low(b, "low67", 200000);
	td_noise(b, "tail", 60000);
}

/*
 * Append bytes up to a total of `end` such that 13 bits find no boundary behind the first 690
 * bytes, but would 43 bytes into each chunk that starts after a forced cut.  Needs an empty buffer.
 */
static inline void
td_hidden(struct wr_buf *b, size_t end)
{
	td_noise(b, "big", 690);
	td_fill(b, 'M', 128);
	while (b->len < end) {
		/* 64 bytes, so that forced cuts always meet the same phase; found by search. */
		static const uint64_t pattern = UINT64_C(0x678a5aa33b6fe507);
		size_t i = (b->len - 690) % 64;

		wr_buf_add8(b, pattern >> i & 1 ? 65 : 90);
	}
}

#endif
