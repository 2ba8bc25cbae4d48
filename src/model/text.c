/* SPDX-License-Identifier: Apache-2.0 */
#include "model/text.h"

#include "base/str.h"

/* LIMIT: of words that are compared. */
#define WORD_MAX 63

bool
wr_text_plain(const void *bytes, size_t len, bool lines)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len;) {
		size_t n = wr_utf8_len(p + i, len - i);
		uint32_t c = n ? wr_utf8_decode(p + i, n) : 0;

		if (n == 0 || (c < 0x20 && !(lines && (c == '\t' || c == '\n'))) ||
		    (c >= 0x7f && c < 0xa0))
			return false;
		i += n;
	}
	return true;
}

/* Edits that turn a into b: insert, delete, replace, swap of neighbours. */
static unsigned
edits(const char *a, size_t n, const char *b, size_t m)
{
	unsigned d[WORD_MAX + 1][WORD_MAX + 1];

	for (size_t i = 0; i <= n; i++)
		d[i][0] = (unsigned)i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			best = WR_MIN(best, d[i - 1][j] + 1);
			best = WR_MIN(best, d[i][j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = WR_MIN(best, d[i - 2][j - 2] + 1);
			d[i][j] = best;
		}
	}
	return d[n][m];
}

unsigned
wr_near_cost(const char *word, const char *candidate)
{
	size_t n = strlen(word), m = strlen(candidate);
	/* A third of the word may be wrong; "xy" is near nothing. */
	size_t allowed = WR_MIN(n / 3 + 1, (size_t)3);
	unsigned cost;

	if (n < 2 || n > WORD_MAX || m > WORD_MAX)
		return WR_NEAR_NO;
	/* The beginning of what was meant is near, however much is missing. */
	if (n >= 3 && m >= n && !memcmp(word, candidate, n))
		return n == m ? 0 : 1;
	if (n > m + allowed || m > n + allowed)
		return WR_NEAR_NO;
	cost = edits(word, n, candidate, m);
	return cost <= allowed ? cost : WR_NEAR_NO;
}

const char *
wr_near(const char *word, const char *const *list)
{
	const char *found = NULL;
	unsigned best = WR_NEAR_NO;

	for (; *list; list++) {
		unsigned cost = wr_near_cost(word, *list);

		if (cost < best) {
			best = cost;
			found = *list;
		}
	}
	return found;
}
