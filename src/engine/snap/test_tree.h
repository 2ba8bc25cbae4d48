/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: a repository in a temporary directory, filled object by object. */
#ifndef WR_TEST_TREE_H
#define WR_TEST_TREE_H

#include "base/base.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "engine/object/meta.h"
#include "engine/object/name.h"
#include "engine/object/tree.h"
#include "engine/repo/resolve.h"
#include "engine/repo/sink.h"
#include "sys/fs.h"

static struct tt {
	char dir[256];
	struct wr_repo *repo;
	struct wr_reader *rd;
	struct wr_sink *sink;
} tt;

/* One entry of a directory to be built. */
struct tt_ent {
	const char *name;
	uint32_t mode; /* st_mode; 0 ends the list */
	struct wr_id id;
	bool chunked;
	int64_t mtime;
	int64_t size; /* -1: none */
};

WR_UNUSED static int
tt_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct wr_sink_opts o = {.level = 1, .threads = 1};
	struct wr_err err = WR_ERR_INIT;
	bool existed;

	(void)state;
	snprintf(tt.dir, sizeof(tt.dir), "%s/wr-snap-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(tt.dir) || wr_repo_init(tt.dir, 13, &existed, &err) < 0 ||
	    wr_repo_open(tt.dir, &tt.repo, &err) < 0 || wr_repo_lock(tt.repo, "test", 0, &err) < 0)
		return -1;
	tt.rd = wr_reader_new(tt.repo);
	tt.sink = wr_sink_open(tt.repo, &o, &err);
	return tt.sink ? 0 : -1;
}

WR_UNUSED static int
tt_teardown(void **state)
{
	(void)state;
	if (tt.sink)
		wr_sink_abort(tt.sink);
	wr_reader_free(tt.rd);
	wr_repo_close(tt.repo);
	return wr_remove_tree(AT_FDCWD, tt.dir, NULL);
}

/* Publish what was put; nothing can be put after it. */
WR_UNUSED static void
tt_publish(void)
{
	struct wr_sink_stats st;
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_sink_commit(tt.sink, &st, &err), 0);
	tt.sink = NULL;
	assert_int_equal(wr_repo_refresh(tt.repo, &err), 0);
}

WR_UNUSED static struct wr_id
tt_put(enum wr_obj_type type, const void *p, size_t len)
{
	struct wr_id id;
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_sink_put(tt.sink, 0, type, p, len, &id, &err), 0);
	return id;
}

WR_UNUSED static struct wr_id
tt_blob(const char *text)
{
	return tt_put(WR_OBJ_BLOB, text, strlen(text));
}

/* A tree of entries as they are given: mode, name, id, ... */
WR_UNUSED static struct wr_id
tt_tree(size_t n, const struct wr_tree_entry *e)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_id id;

	wr_buf_reserve(&b, 1);
	for (size_t i = 0; i < n; i++)
		wr_tree_add(&b, e[i].mode, e[i].name, strlen((const char *)e[i].name), &e[i].id);
	id = tt_put(WR_OBJ_TREE, b.p, b.len);
	wr_buf_fini(&b);
	return id;
}

#define TT_NAME(s) (const uint8_t *)(s)

WR_UNUSED static void
tt_meta(struct wr_buf *out, uint32_t mode, int64_t mtime, int64_t size)
{
	struct wr_meta m = {.has_common = true,
			    .mode = mode,
			    .mtime = {.s = mtime},
			    .ctime = {.s = mtime},
			    .size = size};

	wr_meta_encode(out, &m);
}

/* A directory as bup stores it; entries ascending by name, which must suit git's order too. */
WR_UNUSED static struct wr_id
tt_dir(int64_t mtime, const struct tt_ent *e)
{
	struct wr_buf meta = WR_BUF_INIT, name = WR_BUF_INIT;
	struct wr_tree_entry t[64];
	char *names[64];
	size_t n = 0;
	struct wr_id id, bupm;

	tt_meta(&meta, S_IFDIR | 0755, mtime, -1);
	for (const struct tt_ent *i = e; i->mode; i++)
		if (!S_ISDIR(i->mode))
			tt_meta(&meta, i->mode, i->mtime, i->size);
	bupm = tt_put(WR_OBJ_BLOB, meta.p, meta.len);
	t[n++] = (struct wr_tree_entry){.mode = WR_MODE_FILE, .name = TT_NAME(".bupm"), .id = bupm};
	for (; e->mode; e++, n++) {
		wr_buf_clear(&name);
		wr_name_mangle(&name, e->name, strlen(e->name), e->chunked);
		names[n] = wr_strdup(wr_buf_str(&name));
		t[n] = (struct wr_tree_entry){.mode = S_ISDIR(e->mode) || e->chunked ? WR_MODE_TREE
						      : S_ISLNK(e->mode)             ? WR_MODE_LINK
										     : WR_MODE_FILE,
					      .name = TT_NAME(names[n]),
					      .id = e->id};
	}
	id = tt_tree(n, t);
	for (size_t i = 1; i < n; i++)
		free(names[i]);
	wr_buf_fini(&meta);
	wr_buf_fini(&name);
	return id;
}

WR_UNUSED static struct wr_id
tt_commit(struct wr_id tree, const struct wr_id *parent, int64_t time)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_id id;

	wr_commit_format(&b, &tree, parent, "tester <t@h>", time, "test\n");
	id = tt_put(WR_OBJ_COMMIT, b.p, b.len);
	wr_buf_fini(&b);
	return id;
}

WR_UNUSED static void
tt_branch(const char *name, struct wr_id tip)
{
	WR_SCOPED(wr_freep) char *ref = wr_asprintf("refs/heads/%s", name);
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_ref_update(tt.repo, ref, &tip, NULL, "tester <t@h>", "test", &err), 0);
}

#endif
