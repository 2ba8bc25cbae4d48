/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/notes.h"

void
wr_notes_add(struct wr_notes *n, const char *path, size_t len, const char *reason, uint64_t bytes)
{
	char *copy;

	if (n->count >= WR_LIST_MAX) {
		n->more++;
		return;
	}
	wr_grow(&n->note, &n->cap, n->count + 1, sizeof(*n->note));
	copy = wr_malloc(len + 1);
	memcpy(copy, path, len);
	copy[len] = '\0';
	n->note[n->count++] = (struct wr_note){copy, len, reason, bytes};
}

void
wr_notes_fini(struct wr_notes *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->note[i].path);
	free(n->note);
	*n = (struct wr_notes){0};
}
