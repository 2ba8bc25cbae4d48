/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zlib streams as packs hold them.  Encoder: ISA-L, libdeflate for small payloads, stored blocks
 * for what does not compress (any legal stream may stand in a pack, ids do not depend on it).
 * Decoder: libdeflate.
 */
#ifndef WR_ZSTREAM_H
#define WR_ZSTREAM_H

#include "base/buf.h"
#include "base/err.h"

struct wr_deflater; /* one per thread */

/* level: 0 = stored only, 1..3 = ISA-L's levels (others are taken as the nearest) */
struct wr_deflater *wr_deflater_new(int level);
void wr_deflater_free(struct wr_deflater *d);
/* Append a zlib stream of p to *out. Never fails: what cannot be compressed is stored. */
void wr_deflate(struct wr_deflater *d, const void *p, size_t len, struct wr_buf *out);

struct wr_inflater; /* one per thread */
struct wr_inflater *wr_inflater_new(void);
void wr_inflater_free(struct wr_inflater *i);

enum wr_inflate_result {
	WR_INFLATE_OK,
	WR_INFLATE_SHORT, /* maybe the input ends too early: it is damaged, or give more */
	WR_INFLATE_BAD,   /* damaged, or not exactly out_len bytes */
};
/* Inflate exactly out_len bytes into out; *in_used tells the length of the stream, bytes behind it
 * are not looked at.  Given wr_deflate_bound(out_len) bytes or more it never says SHORT. */
enum wr_inflate_result wr_inflate(struct wr_inflater *i, const void *in, size_t in_len, void *out,
				  size_t out_len, size_t *in_used);
/* Upper bound for the stream that wr_deflate, zlib or git make of len bytes. */
size_t wr_deflate_bound(size_t len);

#endif
