/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/link/link.h"

void
wr_frame_head(uint8_t out[WR_FRAME_HEAD], enum wr_frame_type type, size_t len)
{
	wr_assert(len <= WR_FRAME_MAX);
	wr_put32be(out, (uint32_t)len);
	out[4] = (uint8_t)type;
}

void
wr_frame_add(struct wr_buf *out, enum wr_frame_type type, const void *p, size_t len)
{
	uint8_t head[WR_FRAME_HEAD];

	wr_frame_head(head, type, len);
	wr_buf_reserve(out, sizeof(head) + len);
	wr_buf_add(out, head, sizeof(head));
	wr_buf_add(out, p, len);
}

int
wr_frame_next(const void *p, size_t len, struct wr_frame *out, size_t *out_used, struct wr_err *err)
{
	const uint8_t *b = p;
	uint32_t n;

	if (len < WR_FRAME_HEAD)
		return 0;
	n = wr_get32be(b);
	if (n > WR_FRAME_MAX)
		return wr_err_set(err, WR_E_INVALID,
				  "a frame of %" PRIu32 " bytes; %u are possible", n, WR_FRAME_MAX);
	if (b[4] < WR_FRAME_MSG || b[4] > WR_FRAME_STREAM_END)
		return wr_err_set(err, WR_E_INVALID, "a frame of unknown type %d", b[4]);
	if (len - WR_FRAME_HEAD < n)
		return 0;
	*out = (struct wr_frame){b[4], b + WR_FRAME_HEAD, n};
	*out_used = WR_FRAME_HEAD + n;
	return 1;
}

/* ---- a rate limit ---- */

#define SECOND UINT64_C(1000000000)

uint64_t
wr_flow_take(struct wr_flow *f, uint64_t bytes, uint64_t now_ns)
{
	const uint64_t saved = SECOND / 4;

	if (!f->per_s)
		return 0;
	/* Time that was not used is saved, but not much of it. */
	if (f->free_ns + saved < now_ns)
		f->free_ns = now_ns - saved;
	f->free_ns += (uint64_t)((double)bytes * (double)SECOND / (double)f->per_s);
	return f->free_ns > now_ns ? f->free_ns - now_ns : 0;
}
