/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/links.h"

void
wr_links_fini(struct wr_links *l)
{
	for (size_t i = 0; i < l->cap; i++)
		free(l->slot[i].path);
	free(l->slot);
	*l = (struct wr_links)WR_LINKS_INIT;
}

static struct wr_link_group *
slot_of(const struct wr_links *l, uint64_t dev, uint64_t ino)
{
	size_t i = (size_t)((ino * UINT64_C(0x9e3779b97f4a7c15) + dev) >> 20) & (l->cap - 1);

	while (l->slot[i].path && (l->slot[i].ino != ino || l->slot[i].dev != dev))
		i = (i + 1) & (l->cap - 1);
	return &l->slot[i];
}

static void
grow(struct wr_links *l)
{
	struct wr_links bigger = {.cap = l->cap ? l->cap * 2 : 256, .count = l->count};

	bigger.slot = wr_calloc(bigger.cap, sizeof(*bigger.slot));
	for (size_t i = 0; i < l->cap; i++)
		if (l->slot[i].path)
			*slot_of(&bigger, l->slot[i].dev, l->slot[i].ino) = l->slot[i];
	free(l->slot);
	*l = bigger;
}

void
wr_links_add(struct wr_links *l, uint64_t dev, uint64_t ino, const char *path, uint32_t cached_hash)
{
	struct wr_link_group *g;

	if (l->count * 2 >= l->cap)
		grow(l);
	g = slot_of(l, dev, ino);
	if (!g->path) {
		*g = (struct wr_link_group){dev, ino, wr_strdup(path), cached_hash, 1, false};
		l->count++;
		return;
	}
	g->names++;
	if (strcmp(path, g->path) > 0) {
		free(g->path);
		g->path = wr_strdup(path);
	}
	if (cached_hash) {
		g->mixed |= g->cached_hash && g->cached_hash != cached_hash;
		g->cached_hash = cached_hash;
	}
}

const struct wr_link_group *
wr_links_find(const struct wr_links *l, uint64_t dev, uint64_t ino)
{
	struct wr_link_group *g = l->cap ? slot_of(l, dev, ino) : NULL;

	return g && g->path ? g : NULL;
}
