/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of this folder: repositories made by git and bup, opened and written by us. */
#ifndef WR_REPO_TEST_REPO_H
#define WR_REPO_TEST_REPO_H

#include "engine/object/test_util.h"

#include <fcntl.h>

#include "engine/object/tree.h"
#include "engine/repo/repo.h"
#include "engine/repo/sink.h"

#define assert_ok(call)                                     \
	do {                                                \
		err = (struct wr_err)WR_ERR_INIT;           \
		if ((call) < 0)                             \
			fail_msg("%s: %s", #call, err.msg); \
	} while (0)
#define assert_fails(call, want)                                                        \
	do {                                                                            \
		err = (struct wr_err)WR_ERR_INIT;                                       \
		assert_int_equal(call, -1);                                             \
		if (err.code != (want))                                                 \
			fail_msg("%s: %s (%s)", #call, err.msg, wr_err_name(err.code)); \
	} while (0)

static struct wr_err err;

/* A path below test_dir, by value. */
struct test_path {
	char s[600];
};
static WR_UNUSED struct test_path
path_of(const char *name)
{
	struct test_path p;

	snprintf(p.s, sizeof(p.s), "%s/%s", test_dir, name);
	return p;
}

static WR_UNUSED struct wr_repo *
open_repo(void)
{
	struct wr_repo *r;

	assert_ok(wr_repo_open(path_of("repo").s, &r, &err));
	return r;
}

/* A new repository, locked. */
static WR_UNUSED struct wr_repo *
new_repo(void)
{
	struct wr_repo *r;
	bool existed;

	assert_int_equal(run(NULL, "rm -rf repo"), 0);
	assert_ok(wr_repo_init(path_of("repo").s, 16, &existed, &err));
	r = open_repo();
	assert_ok(wr_repo_lock(r, "test", 0, &err));
	return r;
}

/* The id that a git command prints. */
static WR_UNUSED struct wr_id
git_id(const char *command)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	struct wr_id id = {{0}};

	if (run(&out, "%s", command) != 0 || out.len < 40 || !wr_id_parse(wr_buf_str(&out), &id))
		fail_msg("%s: %s", command, wr_buf_str(&out));
	return id;
}

static WR_UNUSED void
must_run(const char *command)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	int rc = run(&out, "{ %s\n} 2>&1", command);

	if (rc != 0)
		fail_msg("%s: exit %d: %s", command, rc, wr_buf_str(&out));
}

/* "repo" by git: `commits` commits on main, each with a file of its own and one that grows. */
static WR_UNUSED void
git_history(unsigned commits)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf s = WR_BUF_INIT, text = WR_BUF_INIT;

	for (unsigned i = 0; i < commits; i++) {
		for (unsigned k = 0; k < 40; k++)
			wr_buf_addf(&text, "line %u of %u, %u\n", k, i, (k + 1) * 2654435761u);
		wr_buf_addf(&s,
			    "commit refs/heads/main\ncommitter A <a@b> %u +0000\ndata 2\nc\n"
			    "M 644 inline grows\ndata %zu\n",
			    1000000 + 60 * i, text.len);
		wr_buf_add(&s, text.p, text.len);
		wr_buf_addf(&s, "\nM 644 inline dir/file%u\ndata 8\nnoise%03u\n", i, i);
	}
	write_file("stream", s.p, s.len);
	must_run("rm -rf repo && git init -q --bare -b main repo && "
		 "git -c fastimport.unpackLimit=0 fast-import --quiet <stream");
}

/* Every object git knows is read, and is what git says it is. */
static WR_UNUSED void
assert_reads_all(struct wr_repo *r)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf list = WR_BUF_INIT, payload = WR_BUF_INIT;
	struct wr_reader *rd = wr_reader_new(r);
	size_t count = 0;

	assert_int_equal(run(&list, "git cat-file --batch-all-objects --batch-check"), 0);
	for (char *line = wr_buf_str(&list); *line; line = strchr(line, '\n') + 1) {
		enum wr_obj_type type, type2;
		uint64_t size;
		struct wr_id id;
		char name[16];
		unsigned long want;

		assert_true(wr_id_parse(line, &id));
		assert_int_equal(sscanf(line + 41, "%15s %lu", name, &want), 2);
		assert_true(wr_repo_exists(r, &id));
		assert_ok(wr_repo_read(rd, &id, WR_OBJ_NONE, true, &type, &payload, &err));
		assert_string_equal(wr_obj_type_name(type), name);
		assert_int_equal(payload.len, want);
		assert_ok(wr_repo_stat_object(rd, &id, &type2, &size, &err));
		assert_int_equal(type2, type);
		assert_int_equal(size, want);
		count++;
	}
	assert_true(count > 0);
	wr_reader_free(rd);
}

/* A tree of one file and a commit of it are put; *parent becomes that commit. */
static WR_UNUSED void
save_one(struct wr_sink *s, const char *content, int64_t when, struct wr_id *parent)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf tree = WR_BUF_INIT, commit = WR_BUF_INIT;
	struct wr_id blob, meta, tree_id;

	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, content, strlen(content), &blob, &err));
	/* Metadata: an entry for ".", one for the file, both empty. */
	assert_ok(wr_sink_put(s, 0, WR_OBJ_BLOB, "\0\0", 2, &meta, &err));
	wr_tree_add(&tree, WR_MODE_FILE, ".bupm", 5, &meta);
	wr_tree_add(&tree, WR_MODE_FILE, "file", 4, &blob);
	assert_ok(wr_sink_put(s, 0, WR_OBJ_TREE, tree.p, tree.len, &tree_id, &err));
	wr_commit_format(&commit, &tree_id, wr_id_is_zero(parent) ? NULL : parent, "T <t@t>", when,
			 "test\n");
	assert_ok(wr_sink_put(s, 0, WR_OBJ_COMMIT, commit.p, commit.len, parent, &err));
}

#endif
