/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stat cache in a restore: subtrees that are known to be as wanted are taken over without a
 * look; everything else gets new blocks, so that the next save of the target knows its files.
 */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/snap/restore_int.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* LIMIT: as deep as a stat cache is followed; deeper directories are read anew by a save. */
#define DEPTH_MAX 2000

/* Is this block still true, and does it stand for the wanted tree? */
static bool
is_wanted(const struct wr_rs *rs, uint64_t off, const struct wr_cached_dir *b,
	  const struct wr_id *tree)
{
	return wr_id_eq(&b->tree, tree) && (!rs->scan || wr_scan_clean(rs->scan, off)) &&
	       rs->o->overwrite != WR_OVERWRITE_ALWAYS && !rs->apply.names;
}

struct offsets {
	uint64_t *off;
	size_t count, cap;
};

static void
push(struct offsets *s, uint64_t off)
{
	wr_grow(&s->off, &s->cap, s->count + 1, sizeof(*s->off));
	s->off[s->count++] = off;
}

/* Entries in and below a block. False if a block is damaged. */
static bool
count_below(const struct wr_statcache *c, uint64_t off, uint64_t *out_files, uint64_t *out_dirs)
{
	WR_SCOPED(wr_cached_dir_fini) struct wr_cached_dir b = WR_CACHED_DIR_INIT;
	struct offsets todo = {0};
	struct wr_cached e;
	const char *name;
	uint64_t files = 0, dirs = 0;
	bool ok = true;

	push(&todo, off);
	while (ok && todo.count) {
		ok = wr_statcache_read(c, todo.off[--todo.count], &b);
		dirs++;
		while (ok && wr_cached_next(&b, &e, &name)) {
			if (e.kind == WR_KIND_DIR)
				push(&todo, e.child);
			else
				files++;
		}
	}
	free(todo.off);
	*out_files = files;
	*out_dirs = dirs;
	return ok;
}

static void
hand_up(struct wr_rs_dir *d, uint64_t block, const struct wr_id *tree, uint64_t bytes, bool links)
{
	if (!d->in_up) {
		d->rs->root_block = block;
		return;
	}
	d->in_up->child = block;
	d->in_up->child_tree = *tree;
	d->in_up->key = (struct wr_statkey){.size = bytes};
	d->in_up->link_hash = links;
	d->in_up->trusted = true;
	d->in_up->state = WR_RS_DONE;
}

bool
wr_rs_take_subtree(struct wr_rs_dir *d)
{
	struct wr_rs *rs = d->rs;
	uint64_t files, dirs;

	if (!rs->use_cache || !d->old_block ||
	    (d->in_up && (d->in_up->left_out || d->in_up->type != DT_DIR)) ||
	    !wr_statcache_read(rs->cache, d->old_block, &d->block) ||
	    !is_wanted(rs, d->old_block, &d->block, &d->tree) ||
	    !count_below(rs->cache, d->old_block, &files, &dirs))
		return false;
	rs->n.files += files;
	rs->n.dirs += dirs;
	rs->n.unchanged += files + dirs;
	hand_up(d, d->old_block, &d->tree, d->block.subtree_bytes, d->block.has_links);
	return true;
}

void
wr_rs_store_block(struct wr_rs_dir *d)
{
	static const struct wr_id unknown;
	WR_SCOPED(wr_block_fini) struct wr_block b = WR_BLOCK_INIT;
	struct wr_rs *rs = d->rs;
	struct wr_statkey key;
	uint64_t off, bytes;
	const struct wr_id *tree = d->inexact ? &unknown : &d->tree;

	if (d->in_up)
		d->in_up->state = WR_RS_DONE;
	if (!rs->keep || rs->failed)
		return;
	for (size_t i = 0; i < d->count; i++) {
		const struct wr_rs_item *it = &d->item[i];
		struct wr_cached e = {.key = it->key,
				      .link_hash = it->link_hash,
				      .name_len = it->name_len,
				      .trusted = it->trusted};

		if (!it->want || it->state != WR_RS_DONE)
			continue;
		e.kind = (uint8_t)wr_dirent_kind(it->want);
		e.chunked = it->want->chunked;
		e.id = it->dir ? it->child_tree : it->want->id;
		e.child = it->child;
		wr_block_add(&b, &e, it->name);
	}
	wr_statkey_of(&d->st, &key);
	if (wr_stat_racy(&key, d->now))
		key.ino = 0; /* matches nothing: to be looked at again */
	if (wr_statcache_append(rs->cache, &b, &key, d->st.st_dev, tree, &off, &bytes) < 0)
		rs->keep_failed = true;
	else
		hand_up(d, off, tree, bytes, b.has_links);
}

/* ---- hard links of what is taken over ---- */

struct place {
	char *path; /* "" or with a final slash */
	uint64_t block;
	struct wr_id tree; /* wanted there */
	bool taken;        /* it, or a directory above, is taken over */
};

struct places {
	struct place *at;
	size_t count, cap;
};

static void
push_place(struct places *s, const struct place *above, const char *name, size_t len,
	   uint64_t block, const struct wr_id *tree, bool taken)
{
	struct place p = {.block = block, .tree = *tree, .taken = taken};
	size_t base = strlen(above->path);

	p.path = wr_malloc(base + len + 2);
	memcpy(p.path, above->path, base);
	memcpy(p.path + base, name, len);
	memcpy(p.path + base + len, "/", 2);
	wr_grow(&s->at, &s->cap, s->count + 1, sizeof(*s->at));
	s->at[s->count++] = p;
}

static void
register_link(struct wr_rs *rs, const struct place *p, const struct wr_cached *e,
	      const struct wr_dirent *want, dev_t dev)
{
	struct wr_rs_worker *w = wr_rs_self(rs);
	struct wr_meta m;
	struct wr_id group;

	if (!want || wr_dirent_meta(want, &m, &w->scratch, NULL) < 0 || !m.hardlink.p)
		return;
	wr_apply_want(&rs->apply, e->key.mode & S_IFMT, &m);
	wr_relink_group(&m, &want->id, want->chunked, &group);
	wr_buf_clear(&w->path);
	wr_buf_adds(&w->path, p->path);
	wr_buf_add(&w->path, want->name, want->name_len);
	if (wr_relinks_take_inode(rs->links, dev, e->key.ino, &group))
		wr_relinks_done(rs->links, &group, wr_buf_str(&w->path), w->path.len, dev,
				e->key.ino);
}

static void
visit(struct wr_rs *rs, struct places *todo, const struct place *p)
{
	WR_SCOPED(wr_cached_dir_fini) struct wr_cached_dir b = WR_CACHED_DIR_INIT;
	WR_SCOPED(wr_dirview_fini) struct wr_dirview v = WR_DIRVIEW_INIT;
	struct wr_cached e;
	const char *name;
	bool taken;

	if (!wr_statcache_read(rs->cache, p->block, &b) || !b.has_links)
		return;
	taken = p->taken || is_wanted(rs, p->block, &b, &p->tree);
	if (wr_dirview_load(wr_rs_self(rs)->reader, &p->tree, &v, NULL) < 0)
		return;
	while (wr_cached_next(&b, &e, &name)) {
		const struct wr_dirent *want = wr_dirview_find(&v, name, e.name_len);

		if (!e.link_hash)
			continue;
		if (e.kind != WR_KIND_DIR && taken)
			register_link(rs, p, &e, want, (dev_t)b.dev);
		else if (e.kind == WR_KIND_DIR && want && wr_dirent_kind(want) == WR_KIND_DIR)
			push_place(todo, p, name, e.name_len, e.child, &want->id, taken);
	}
}

void
wr_rs_known_links(struct wr_rs *rs, const struct wr_id *tree)
{
	struct places todo = {0};
	struct place p = {.path = wr_strdup(""), .tree = *tree};

	if (rs->use_cache && wr_statcache_root(rs->cache, &p.block, NULL, NULL))
		visit(rs, &todo, &p);
	free(p.path);
	while (todo.count) {
		p = todo.at[--todo.count];
		visit(rs, &todo, &p);
		free(p.path);
	}
	free(todo.at);
}

/* ---- after the restore ---- */

/* Only what other names of the inode change may differ. */
static void
refresh(int fd, const char *name, struct wr_cached *e)
{
	struct wr_ts now = wr_clock_inode();
	struct wr_statkey old = e->key, key;
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	wr_statkey_of(&st, &key);
	old.nlink = key.nlink;
	old.ctime_s = key.ctime_s;
	old.ctime_ns = key.ctime_ns;
	if (memcmp(&old, &key, sizeof(key)) != 0)
		return;
	e->key = key;
	e->trusted = e->trusted && !wr_stat_racy(&key, now);
}

static bool
settle_block(struct wr_rs *rs, int fd, uint64_t *block, uint64_t *out_bytes, int depth)
{
	WR_SCOPED(wr_cached_dir_fini) struct wr_cached_dir b = WR_CACHED_DIR_INIT;
	WR_SCOPED(wr_block_fini) struct wr_block next = WR_BLOCK_INIT;
	struct wr_cached e;
	const char *at;

	if (depth > DEPTH_MAX || !wr_statcache_read(rs->cache, *block, &b))
		return false;
	while (wr_cached_next(&b, &e, &at)) {
		WR_SCOPED(wr_freep) char *name = wr_malloc(e.name_len + 1u);

		memcpy(name, at, e.name_len);
		name[e.name_len] = '\0';
		if (e.link_hash && e.kind == WR_KIND_DIR) {
			WR_SCOPED(wr_closep) int down = wr_open_dir(fd, name);

			/* What cannot be settled stays as it is: a save looks again. */
			if (down >= 0)
				(void)settle_block(rs, down, &e.child, &e.key.size, depth + 1);
		} else if (e.link_hash) {
			refresh(fd, name, &e);
		}
		wr_block_add(&next, &e, name);
	}
	return wr_statcache_append(rs->cache, &next, &b.key, b.dev, &b.tree, block, out_bytes) == 0;
}

void
wr_rs_settle_links(struct wr_rs *rs, const struct wr_id *tree, const struct wr_id *commit)
{
	WR_SCOPED(wr_cached_dir_fini) struct wr_cached_dir b = WR_CACHED_DIR_INIT;
	uint64_t root, bytes;

	if (!wr_statcache_root(rs->cache, &root, NULL, NULL) ||
	    !wr_statcache_read(rs->cache, root, &b) || !b.has_links)
		return;
	if (settle_block(rs, rs->root_fd, &root, &bytes, 0))
		wr_statcache_commit(rs->cache, root, tree, commit);
}
