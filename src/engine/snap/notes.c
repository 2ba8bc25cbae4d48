/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/notes.h"

static struct wr_note
note_of(const char *path, size_t len, const char *reason, uint64_t bytes)
{
	char *copy = wr_malloc(len + 1);

	memcpy(copy, path, len);
	copy[len] = '\0';
	return (struct wr_note){copy, len, reason, bytes};
}

void
wr_notes_add(struct wr_notes *n, const char *path, size_t len, const char *reason, uint64_t bytes)
{
	if (n->count >= WR_LIST_MAX || len > WR_LIST_BYTES - n->bytes) {
		n->more++;
		return;
	}
	n->bytes += len;
	wr_grow(&n->note, &n->cap, n->count + 1, sizeof(*n->note));
	n->note[n->count++] = note_of(path, len, reason, bytes);
}

/* Restore the heap (smallest on top) below place i. */
static void
sift_down(struct wr_notes *n, size_t i)
{
	for (;;) {
		size_t min = i;
		struct wr_note t = n->note[i];

		for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < n->count; child++)
			if (n->note[child].bytes < n->note[min].bytes)
				min = child;
		if (min == i)
			return;
		n->note[i] = n->note[min];
		n->note[min] = t;
		i = min;
	}
}

void
wr_notes_add_largest(struct wr_notes *n, const char *path, size_t len, const char *reason,
		     uint64_t bytes)
{
	if (n->count < WR_LIST_MAX) {
		wr_notes_add(n, path, len, reason, bytes);
		return;
	}
	n->more++;
	if (!n->heap)
		for (size_t i = n->count / 2; i-- > 0;)
			sift_down(n, i);
	n->heap = true;
	if (bytes <= n->note[0].bytes || len > WR_LIST_BYTES - n->bytes + n->note[0].path_len)
		return;
	n->bytes += len - n->note[0].path_len;
	free(n->note[0].path);
	n->note[0] = note_of(path, len, reason, bytes);
	sift_down(n, 0);
}

void
wr_notes_fini(struct wr_notes *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->note[i].path);
	free(n->note);
	*n = (struct wr_notes){0};
}
