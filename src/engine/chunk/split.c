/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial pass over the steady boundaries of a buffer.  The first boundary of a chunk is either
 * an early one, where its window still holds zeros from before the chunk, or else the first steady
 * one at least a whole window behind the chunk's start.
 */
#include "engine/chunk/split.h"

#include "engine/chunk/rollsum.h"

void
wr_splitter_init(struct wr_splitter *s, unsigned bits)
{
	wr_assert(bits >= WR_SPLIT_BITS_MIN && bits <= WR_SPLIT_BITS_MAX);
	*s = (struct wr_splitter){.bits = bits, .block_rule = bits == 13};
}

void
wr_splitter_fini(struct wr_splitter *s)
{
	free(s->cut);
	free(s->steady);
	wr_splitter_init(s, s->bits);
}

void
wr_splitter_reset(struct wr_splitter *s)
{
	s->cut_count = 0;
	s->left = 0;
}

static void
emit(struct wr_splitter *s, size_t len, unsigned level)
{
	wr_grow(&s->cut, &s->cut_cap, s->cut_count + 1, sizeof(*s->cut));
	s->cut[s->cut_count++] = (struct wr_cut){(uint32_t)len, level};
}

/* Length of the chunk at p that an early boundary ends, 0 if there is none in len bytes. */
static size_t
find_early(const uint8_t *p, size_t len, unsigned bits, struct wr_rollsum *out)
{
	struct wr_rollsum r = WR_ROLLSUM_INIT;
	uint32_t mask = (1u << bits) - 1, sum = 0;

	len = WR_MIN(len, WR_ROLL_WINDOW - 1);
	for (size_t i = 0; i < len; i++) {
		sum += p[i];
		r.s2 += sum;
		if ((r.s2 & mask) == mask) {
			r.s1 += sum;
			*out = r;
			return i + 1;
		}
	}
	return 0;
}

size_t
wr_split_feed(struct wr_splitter *s, const uint8_t *buf, size_t len, bool eof)
{
	const size_t max = WR_SPLIT_MAX(s->bits);
	/* Once 0.33 found no boundary in the rest of its buffer it does not look at that rest
	 * again, although a cut in it starts a new window, until more bytes are there. */
	bool blind = s->block_rule && len == s->left;
	size_t at = 0, next = 0;

	wr_assert(len <= UINT32_MAX);
	s->cut_count = 0;
	s->steady_count = blind ? 0
				: wr_rollsum_find(wr_rollsum_variants() - 1, buf, len, s->bits,
						  &s->steady, &s->steady_cap);
	while (at < len) {
		size_t first = 0; /* length up to the first boundary, 0 if there is none */
		struct wr_rollsum r = WR_ROLLSUM_INIT;

		if (!blind)
			first = find_early(buf + at, len - at, s->bits, &r);
		if (!blind && !first) {
			while (next < s->steady_count && s->steady[next] < at + WR_ROLL_WINDOW)
				next++;
			if (next < s->steady_count)
				first = s->steady[next] - at;
			if (first && first <= max)
				r = wr_rollsum_of(buf + at + first - WR_ROLL_WINDOW);
		}
		if (first && first <= max) {
			emit(s, first, wr_rollsum_level(r, s->bits));
			at += first;
		} else if (len - at >= max) {
			emit(s, max, 0);
			at += max;
			blind = s->block_rule && !first;
		} else {
			break;
		}
	}
	if (eof && at < len) {
		emit(s, len - at, 0);
		at = len;
	}
	s->left = len - at;
	return at;
}
