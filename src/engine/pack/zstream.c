/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoders by size: below SMALL the fixed cost of ISA-L's dynamic Huffman tables outweighs its
 * speed, and libdeflate's level 1 makes streams that are 2 % smaller in the same time.  What looks
 * like noise (media, archives, ciphertext) is stored without trying.
 */
#include "engine/pack/zstream.h"

#include <isa-l.h>
#include <libdeflate.h>

#include "engine/pack/pack_int.h"

/* Largest payload for libdeflate. */
#define SMALL 8192
/* Literals and matches in one block of ISA-L's: with fewer than it proposes (64 Ki) the Huffman
 * codes follow the data better, which makes streams 1 % smaller for 10 % more time. */
#define TOKENS (8 << 10)
/* No point in looking for noise in less. */
#define NOISE_MIN 1024
/* A stored block's length field. */
#define STORED_MAX 65535
/* LIMIT: ISA-L counts in 32 bits; longer payloads are stored. */
#define ENCODE_MAX (UINT64_C(1) << 31)

struct wr_deflater {
	struct libdeflate_compressor *small;
	struct isal_zstream z;
	int level;
	uint8_t *level_buf;
	uint32_t level_buf_size;
};

struct wr_deflater *
wr_deflater_new(int level)
{
	static const uint32_t size[] = {
	    0,
	    ISAL_DEF_LVL1_REQ + ISAL_DEF_LVL1_TOKEN_SIZE * TOKENS,
	    ISAL_DEF_LVL2_REQ + ISAL_DEF_LVL2_TOKEN_SIZE * TOKENS,
	    ISAL_DEF_LVL3_REQ + ISAL_DEF_LVL3_TOKEN_SIZE * TOKENS,
	};
	struct wr_deflater *d = wr_calloc(1, sizeof(*d));

	d->level = WR_MAX(0, WR_MIN(level, 3));
	d->level_buf_size = size[d->level];
	if (d->level > 0) {
		d->level_buf = wr_calloc(1, d->level_buf_size);
		d->small = libdeflate_alloc_compressor(1);
	}
	return d;
}

void
wr_deflater_free(struct wr_deflater *d)
{
	if (!d)
		return;
	libdeflate_free_compressor(d->small);
	free(d->level_buf);
	free(d);
}

static size_t
stored_len(size_t len)
{
	size_t blocks = WR_MAX((size_t)1, len / STORED_MAX + (len % STORED_MAX != 0));

	return 2 + len + 5 * blocks + 4;
}

static void
store(const uint8_t *p, size_t len, struct wr_buf *out)
{
	uint32_t adler = libdeflate_adler32(1, p, len);
	uint8_t *o;

	wr_buf_reserve(out, stored_len(len));
	o = out->p + out->len;
	*o++ = 0x78; /* deflate, 32 KiB window */
	*o++ = 0x01; /* fastest; makes the two bytes a multiple of 31 */
	do {
		uint16_t n = (uint16_t)WR_MIN(len, STORED_MAX);

		len -= n;
		*o++ = len == 0; /* final block or not, type 0 */
		*o++ = (uint8_t)n;
		*o++ = (uint8_t)(n >> 8);
		*o++ = (uint8_t)~n;
		*o++ = (uint8_t)((uint16_t)~n >> 8);
		if (n) {
			memcpy(o, p, n);
			o += n;
			p += n;
		}
	} while (len);
	wr_put32be(o, adler);
	out->len = (size_t)(o + 4 - out->p);
}

/* Does the string of four bytes at `at` come again behind it?  Written without an early exit, so
 * that compilers turn it into vector code. */
static bool
comes_again(const uint8_t *p, size_t len, size_t at)
{
	uint8_t a = p[at], b = p[at + 1], c = p[at + 2], d = p[at + 3], hit = 0;

	for (size_t i = at + 1; i < len - 3; i++)
		hit |= (uint8_t)((p[i] == a) & (p[i + 1] == b) & (p[i + 2] == c) & (p[i + 3] == d));
	return hit;
}

/*
 * Even in its bytes and without repetition, judged by samples: 1024 bytes in 16 places, and four
 * strings.  Noise has 4092 +- 90 ordered pairs of equal bytes among 1024; data from which Huffman
 * coding could take 2 % has above 4600.
 */
static bool
is_noise(const uint8_t *p, size_t len)
{
	uint16_t seen[256] = {0};
	uint32_t pairs = 0;
	size_t step;

	if (len < NOISE_MIN)
		return false;
	step = (len - 64) / 15;
	for (size_t i = 0; i < 16; i++)
		for (size_t j = 0; j < 64; j++)
			seen[p[i * step + j]]++;
	for (size_t i = 0; i < 256; i++)
		pairs += (uint32_t)seen[i] * seen[i];
	if (pairs - 1024 > 4450)
		return false;
	for (size_t i = 0; i < 4; i++)
		if (comes_again(p, len, len / 10 * i))
			return false;
	return true;
}

/* Length of the stream, 0 if it did not work out. */
static size_t
encode(struct wr_deflater *d, const uint8_t *p, size_t len, uint8_t *out, size_t room)
{
	if (len <= SMALL)
		return d->small ? libdeflate_zlib_compress(d->small, p, len, out, room) : 0;
	isal_deflate_stateless_init(&d->z);
	d->z.level = (uint32_t)d->level;
	d->z.level_buf = d->level_buf;
	d->z.level_buf_size = d->level_buf_size;
	d->z.gzip_flag = IGZIP_ZLIB;
	d->z.end_of_stream = 1;
	d->z.flush = NO_FLUSH;
	d->z.next_in = (uint8_t *)(uintptr_t)p; /* not written to; the member lacks const */
	d->z.avail_in = (uint32_t)len;
	d->z.next_out = out;
	d->z.avail_out = (uint32_t)room;
	return isal_deflate_stateless(&d->z) == COMP_OK ? d->z.total_out : 0;
}

void
wr_deflate(struct wr_deflater *d, const void *p, size_t len, struct wr_buf *out)
{
	size_t n = 0;

	if (d->level > 0 && len < ENCODE_MAX && !is_noise(p, len)) {
		wr_buf_reserve(out, wr_deflate_bound(len));
		n = encode(d, p, len, out->p + out->len, wr_deflate_bound(len));
	}
	if (n && n < stored_len(len))
		out->len += n;
	else
		store(p, len, out);
}

size_t
wr_deflate_bound(size_t len)
{
	/* The worst a sane encoder does: fixed Huffman codes, nine bits for a byte. */
	return len + len / 8 + 64;
}

struct wr_inflater {
	struct libdeflate_decompressor *d;
};

struct wr_inflater *
wr_inflater_new(void)
{
	struct wr_inflater *i = wr_malloc(sizeof(*i));

	i->d = libdeflate_alloc_decompressor();
	wr_assert(i->d);
	return i;
}

void
wr_inflater_free(struct wr_inflater *i)
{
	if (!i)
		return;
	libdeflate_free_decompressor(i->d);
	free(i);
}

enum wr_inflate_result
wr_inflate(struct wr_inflater *i, const void *in, size_t in_len, void *out, size_t out_len,
	   size_t *in_used)
{
	uint8_t none;
	size_t used;

	if (libdeflate_zlib_decompress_ex(i->d, in, in_len, out_len ? out : &none, out_len, &used,
					  NULL) == LIBDEFLATE_SUCCESS) {
		*in_used = used;
		return WR_INFLATE_OK;
	}
	/* libdeflate takes a missing end for zeros, so its verdict does not tell damage from that;
	 * only the length can. */
	return in_len < wr_deflate_bound(out_len) ? WR_INFLATE_SHORT : WR_INFLATE_BAD;
}

int
wr_inflate_upto(struct wr_inflater *i, const void *in, size_t in_len, void *out, size_t room,
		size_t *out_len)
{
	size_t used, made;

	switch (libdeflate_zlib_decompress_ex(i->d, in, in_len, out, room, &used, &made)) {
	case LIBDEFLATE_SUCCESS:
		*out_len = made;
		return 1;
	case LIBDEFLATE_INSUFFICIENT_SPACE:
		return 0;
	default:
		return -1;
	}
}
