/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/object/name.h"

static bool
ends_in(const uint8_t *s, size_t len, const char *end)
{
	size_t n = strlen(end);

	return len >= n && memcmp(s + len - n, end, n) == 0;
}

void
wr_name_mangle(struct wr_buf *out, const void *name, size_t len, bool chunked)
{
	const uint8_t *s = name;

	wr_buf_add(out, name, len);
	if (chunked)
		wr_buf_add(out, ".bup", 4);
	else if (ends_in(s, len, ".bup") || (len && ends_in(s, len - 1, ".bup")))
		wr_buf_add(out, ".bupl", 5);
}

size_t
wr_name_unmangle(const void *stored, size_t len, bool is_tree, bool *out_chunked)
{
	const uint8_t *s = stored;

	*out_chunked = false;
	if (ends_in(s, len, ".bupm")) {
		*out_chunked = is_tree;
		return len - 5;
	}
	/* A bare ".bup" or ".bupl" comes from git only: a name must remain, and the empty one is
	 * the directory's own entry. */
	if (len > 5 && ends_in(s, len, ".bupl"))
		return len - 5;
	if (len > 4 && ends_in(s, len, ".bup")) {
		*out_chunked = is_tree;
		return len - 4;
	}
	return len;
}
