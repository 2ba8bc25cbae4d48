/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two SHA-1s at a time.  Each step of one waits for the step before it, so the CPU's unit for it
 * idles half of the time; two that have nothing to do with each other fill it.  Whoever takes in
 * objects has two: the object's id and the trailer of the pack that it goes to.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "engine/object/id.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define BLOCK SHA_CBLOCK
#define CPU __attribute__((target("sha,sse4.1")))

/* One hash: its five words, and the last 16 words of the message's schedule. */
struct lane {
	__m128i abcd, e, before;
	__m128i w[4];
};

static bool
cpu_has_it(void)
{
	static int known; /* 1 no, 2 yes; all threads find the same */
	int is = __atomic_load_n(&known, __ATOMIC_RELAXED);

	if (!is) {
		unsigned a, b = 0, c, d;
		bool sha = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);

		is = sha && __builtin_cpu_supports("sse4.1") ? 2 : 1;
		__atomic_store_n(&known, is, __ATOMIC_RELAXED);
	}
	return is == 2;
}

CPU static void
open_lane(struct lane *l, const SHA_CTX *c)
{
	l->abcd = _mm_set_epi32((int)c->h0, (int)c->h1, (int)c->h2, (int)c->h3);
	l->e = _mm_set_epi32((int)c->h4, 0, 0, 0);
}

CPU static void
close_lane(const struct lane *l, SHA_CTX *c)
{
	c->h0 = (SHA_LONG)_mm_extract_epi32(l->abcd, 3);
	c->h1 = (SHA_LONG)_mm_extract_epi32(l->abcd, 2);
	c->h2 = (SHA_LONG)_mm_extract_epi32(l->abcd, 1);
	c->h3 = (SHA_LONG)_mm_extract_epi32(l->abcd, 0);
	c->h4 = (SHA_LONG)_mm_extract_epi32(l->e, 3);
}

CPU static inline void
load(struct lane *l, const uint8_t *p)
{
	const __m128i turn = _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f);

	for (unsigned i = 0; i < 4; i++) {
		l->w[i] = _mm_loadu_si128((const __m128i_u *)(const void *)(p + 16 * (size_t)i));
		l->w[i] = _mm_shuffle_epi8(l->w[i], turn);
	}
}

/* Rounds 4 n to 4 n + 3. The constant of a round has to be known to the compiler. */
#define ROUNDS(l, n, e)                                                  \
	((l)->abcd = (n) < 5    ? _mm_sha1rnds4_epu32((l)->abcd, (e), 0) \
		     : (n) < 10 ? _mm_sha1rnds4_epu32((l)->abcd, (e), 1) \
		     : (n) < 15 ? _mm_sha1rnds4_epu32((l)->abcd, (e), 2) \
				: _mm_sha1rnds4_epu32((l)->abcd, (e), 3))

CPU static inline void
four_rounds(struct lane *l, unsigned n)
{
	__m128i *w = &l->w[n % 4], e;

	if (n >= 4) {
		*w = _mm_sha1msg1_epu32(*w, l->w[(n + 1) % 4]);
		*w = _mm_xor_si128(*w, l->w[(n + 2) % 4]);
		*w = _mm_sha1msg2_epu32(*w, l->w[(n + 3) % 4]);
	}
	e = n == 0 ? _mm_add_epi32(l->e, *w) : _mm_sha1nexte_epu32(l->before, *w);
	l->before = l->abcd;
	ROUNDS(l, n, e);
}

CPU static inline void
end_block(struct lane *l, __m128i abcd, __m128i e)
{
	l->e = _mm_sha1nexte_epu32(l->before, e);
	l->abcd = _mm_add_epi32(l->abcd, abcd);
}

CPU static void
blocks(SHA_CTX *a, const uint8_t *ap, SHA_CTX *b, const uint8_t *bp, size_t count)
{
	struct lane x, y;

	open_lane(&x, a);
	open_lane(&y, b);
	for (; count > 0; count--, ap += BLOCK, bp += BLOCK) {
		const __m128i xs = x.abcd, ys = y.abcd, xe = x.e, ye = y.e;

		load(&x, ap);
		load(&y, bp);
#pragma GCC unroll 20
		for (unsigned n = 0; n < 20; n++) {
			four_rounds(&x, n);
			four_rounds(&y, n);
		}
		end_block(&x, xs, xe);
		end_block(&y, ys, ye);
	}
	close_lane(&x, a);
	close_lane(&y, b);
}

static void
count_bytes(SHA_CTX *c, size_t len)
{
	uint64_t bits = ((uint64_t)c->Nh << 32 | c->Nl) + ((uint64_t)len << 3);

	c->Nl = (SHA_LONG)bits;
	c->Nh = (SHA_LONG)(bits >> 32);
}

/* Fill up the block that was begun. */
static size_t
align(SHA_CTX *c, const uint8_t *p, size_t len)
{
	size_t n = c->num ? WR_MIN(BLOCK - c->num, len) : 0;

	SHA1_Update(c, p, n);
	return n;
}

/* Bytes of each that were hashed; *a_done and *b_done. */
static void
hash_two(struct wr_sha1 *a, const uint8_t *ap, size_t alen, size_t *a_done, struct wr_sha1 *b,
	 const uint8_t *bp, size_t blen, size_t *b_done)
{
	SHA_CTX x, y;
	size_t count;

	memcpy(&x, a->opaque, sizeof(x));
	memcpy(&y, b->opaque, sizeof(y));
	*a_done = align(&x, ap, alen);
	*b_done = align(&y, bp, blen);
	count = WR_MIN(alen - *a_done, blen - *b_done) / BLOCK;
	if (count > 0) {
		blocks(&x, ap + *a_done, &y, bp + *b_done, count);
		count_bytes(&x, count * BLOCK);
		count_bytes(&y, count * BLOCK);
		*a_done += count * BLOCK;
		*b_done += count * BLOCK;
	}
	memcpy(a->opaque, &x, sizeof(x));
	memcpy(b->opaque, &y, sizeof(y));
}
#endif

void
wr_sha1_add_two(struct wr_sha1 *a, const void *ap, size_t alen, struct wr_sha1 *b, const void *bp,
		size_t blen)
{
	size_t a_done = 0, b_done = 0;

#if defined(__x86_64__)
	if (cpu_has_it())
		hash_two(a, ap, alen, &a_done, b, bp, blen, &b_done);
#endif
	wr_sha1_add(a, (const uint8_t *)ap + a_done, alen - a_done);
	wr_sha1_add(b, (const uint8_t *)bp + b_done, blen - b_done);
}
