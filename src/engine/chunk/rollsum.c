/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The search for steady boundaries.  With A(m) the sum of the m newest bytes at a position, and
 * W(m) the same weighted 1 (newest) .. m, a window four times as long comes from four shifted ones:
 *
 *	A(4m)[i] = sum of A(m)[i - jm],                       j = 0..3
 *	W(4m)[i] = sum of W(m)[i - jm] + m * sum of j * A(m)[i - jm]
 *
 * Three such steps lead from bytes to s2 = 124992 + W(64), for all positions of a tile at once and
 * in plain loops that compilers turn into vector code.  Arithmetic modulo 2^16 is enough for a
 * filter on at most 16 bits; what passes it is checked in full where more bits are asked for.
 */
#include "engine/chunk/rollsum.h"

#include <stdalign.h>

#if defined(__OPTIMIZE__) && !defined(__clang__)
#pragma GCC optimize("O3") /* gcc 12 vectorises such loops at no lower level */
#endif

/* Positions worked on at a time, so that all scratch arrays stay in the first-level cache. */
#define TILE 2048u
/* Positions that share one "any hit?"; a group with a hit is looked through one by one. */
#define GROUP 256u

/* Low 16 bits of s2 at n <= TILE positions, the first of them behind the 64 bytes at p.  Element i
 * of each array is for the window that starts at p[i]; its oldest part is added up first. */
static inline __attribute__((always_inline)) void
sum_tile(const uint8_t *restrict p, size_t n, uint16_t *restrict s2)
{
	alignas(64) uint16_t a4[TILE + 60], w4[TILE + 60];
	alignas(64) uint16_t a16[TILE + 48], w16[TILE + 48];

	for (size_t i = 0; i < n + 60; i++) {
		uint16_t a = p[i], w = a;

		a = (uint16_t)(a + p[i + 1]);
		w = (uint16_t)(w + a);
		a = (uint16_t)(a + p[i + 2]);
		w = (uint16_t)(w + a);
		a = (uint16_t)(a + p[i + 3]);
		a4[i] = a;
		w4[i] = (uint16_t)(w + a);
	}
	for (size_t i = 0; i < n + 48; i++) {
		uint16_t a = a4[i], ja = a;

		a = (uint16_t)(a + a4[i + 4]);
		ja = (uint16_t)(ja + a);
		a = (uint16_t)(a + a4[i + 8]);
		ja = (uint16_t)(ja + a);
		a16[i] = (uint16_t)(a + a4[i + 12]);
		w16[i] = (uint16_t)(w4[i] + w4[i + 4] + w4[i + 8] + w4[i + 12] + 4 * ja);
	}
	for (size_t i = 0; i < n; i++) {
		uint16_t a = a16[i], ja = a;

		a = (uint16_t)(a + a16[i + 16]);
		ja = (uint16_t)(ja + a);
		a = (uint16_t)(a + a16[i + 32]);
		ja = (uint16_t)(ja + a);
		s2[i] =
		    (uint16_t)(124992 + w16[i] + w16[i + 16] + w16[i + 32] + w16[i + 48] + 16 * ja);
	}
}

/* Append base + i for every i < n where all bits of mask are set in s2[i]; gives the new count.
 * Entries of s2 from n up to a multiple of GROUP may be read. */
static inline __attribute__((always_inline)) size_t
collect(const uint16_t *restrict s2, size_t n, uint16_t mask, size_t base, uint32_t *restrict pos,
	size_t count)
{
	for (size_t g = 0; g < n; g += GROUP) {
		uint16_t any = 0;

		for (size_t i = g; i < g + GROUP; i++)
			any |= (s2[i] & mask) == mask ? 1 : 0;
		if (!any)
			continue;
		for (size_t i = g; i < WR_MIN(g + GROUP, n); i++) {
			if ((s2[i] & mask) == mask)
				pos[count++] = (uint32_t)(base + i);
		}
	}
	return count;
}

/* Filter one tile: positions base .. base + n - 1, the bytes from base - 64 on are at p. */
static inline __attribute__((always_inline)) size_t
filter_tile(const uint8_t *p, size_t n, uint16_t mask, size_t base, uint32_t *pos, size_t count)
{
	alignas(64) uint16_t s2[TILE];

	sum_tile(p, n, s2);
	for (size_t i = n; i % GROUP; i++)
		s2[i] = 0;
	return collect(s2, n, mask, base, pos, count);
}

typedef size_t (*filter_fn)(const uint8_t *p, size_t n, uint16_t mask, size_t base, uint32_t *pos,
			    size_t count);

static size_t
filter_plain(const uint8_t *p, size_t n, uint16_t mask, size_t base, uint32_t *pos, size_t count)
{
	return filter_tile(p, n, mask, base, pos, count);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static size_t
filter_avx2(const uint8_t *p, size_t n, uint16_t mask, size_t base, uint32_t *pos, size_t count)
{
	return filter_tile(p, n, mask, base, pos, count);
}

__attribute__((target("avx512bw,avx512vl"))) static size_t
filter_avx512(const uint8_t *p, size_t n, uint16_t mask, size_t base, uint32_t *pos, size_t count)
{
	return filter_tile(p, n, mask, base, pos, count);
}

static const filter_fn filters[] = {filter_plain, filter_avx2, filter_avx512};

unsigned
wr_rollsum_variants(void)
{
	if (!__builtin_cpu_supports("avx2"))
		return 1;
	return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") ? 3 : 2;
}
#else
static const filter_fn filters[] = {filter_plain};

unsigned
wr_rollsum_variants(void)
{
	return 1;
}
#endif

struct wr_rollsum
wr_rollsum_of(const uint8_t *window)
{
	struct wr_rollsum r = WR_ROLLSUM_INIT;

	for (uint32_t i = 0; i < WR_ROLL_WINDOW; i++) {
		r.s1 += window[i];
		r.s2 += (WR_ROLL_WINDOW - i) * window[i];
	}
	return r;
}

unsigned
wr_rollsum_level(struct wr_rollsum r, unsigned bits)
{
	/* One bit above the boundary's is left out: a quirk of bup's that ids depend on. */
	uint32_t above = (r.s1 << 16 | (r.s2 & 0xffff)) >> (bits + 1);

	return (unsigned)__builtin_ctz(~above) / 4;
}

size_t
wr_rollsum_find(unsigned variant, const uint8_t *buf, size_t len, unsigned bits, uint32_t **pos,
		size_t *cap)
{
	uint32_t full_mask = (1u << bits) - 1;
	filter_fn filter = filters[variant];
	size_t count = 0;

	for (size_t at = WR_ROLL_WINDOW; at <= len; at += TILE) {
		size_t n = WR_MIN(len - at + 1, TILE), old = count;

		wr_grow(pos, cap, count + n, sizeof(**pos));
		count = filter(buf + at - WR_ROLL_WINDOW, n, (uint16_t)full_mask, at, *pos, count);
		if (bits <= 16)
			continue;
		size_t found = count;
		count = old;
		for (size_t i = old; i < found; i++) {
			uint32_t p = (*pos)[i];

			if (!(~wr_rollsum_of(buf + p - WR_ROLL_WINDOW).s2 & full_mask))
				(*pos)[count++] = p;
		}
	}
	return count;
}
