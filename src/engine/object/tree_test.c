/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/object/tree.h"
#include "engine/object/test_util.h"

struct item {
	uint32_t mode;
	const char *name;
};

static void
add_item(struct wr_buf *b, const struct item *i)
{
	struct wr_id id = {{1, 2, 3}};

	wr_tree_add(b, i->mode, i->name, strlen(i->name), &id);
}

static int
item_cmp(const void *va, const void *vb)
{
	const struct item *a = va, *b = vb;

	return wr_tree_name_cmp(a->name, strlen(a->name), a->mode == WR_MODE_TREE, b->name,
				strlen(b->name), b->mode == WR_MODE_TREE);
}

static const struct item traps[] = {
    {WR_MODE_TREE, "foo"},     {WR_MODE_FILE, "foo-bar"},    {WR_MODE_FILE, "foo.c"},
    {WR_MODE_FILE, "foo0"},    {WR_MODE_FILE, "bar"},        {WR_MODE_TREE, "bar.d"},
    {WR_MODE_LINK, "bar-"},    {WR_MODE_TREE, "a"},          {WR_MODE_FILE, "a\x01"},
    {WR_MODE_FILE, "a\xff"},   {WR_MODE_FILE, "with space"}, {WR_MODE_FILE, "new\nline"},
    {WR_MODE_FILE, ".hidden"}, {WR_MODE_FILE, "..."},        {WR_MODE_FILE, ".bupm"},
    {0100755, "run"},          {0160000, "module"},          {WR_MODE_FILE, "\xe2\x82\xac"},
};

static void
test_tree_order__is_git_s(WR_UNUSED void **state)
{
	struct item items[WR_ARRAY_LEN(traps)];
	struct wr_buf payload = WR_BUF_INIT, list = WR_BUF_INIT, out = WR_BUF_INIT;
	struct wr_id ours, theirs = {{0}};

	memcpy(items, traps, sizeof(traps));
	qsort(items, WR_ARRAY_LEN(items), sizeof(items[0]), item_cmp);
	for (size_t i = 0; i < WR_ARRAY_LEN(items); i++)
		add_item(&payload, &items[i]);
	for (size_t i = 0; i < WR_ARRAY_LEN(traps); i++) {
		wr_buf_addf(&list, "%06o %s 0102030000000000000000000000000000000000\t%s",
			    traps[i].mode,
			    traps[i].mode == WR_MODE_TREE ? "tree"
			    : traps[i].mode == 0160000    ? "commit"
							  : "blob",
			    traps[i].name);
		wr_buf_add8(&list, 0);
	}
	write_file("list", list.p, list.len);
	assert_int_equal(run(&out, "git init -q --bare repo && git mktree -z --missing < list"), 0);
	assert_true(out.len >= 40 && wr_id_parse(wr_buf_str(&out), &theirs));
	ours = wr_obj_id(WR_OBJ_TREE, payload.p, payload.len);
	assert_id_equal(&ours, &theirs);
	assert_int_equal(wr_tree_check(payload.p, payload.len, NULL), 0);
	wr_buf_fini(&payload);
	wr_buf_fini(&list);
	wr_buf_fini(&out);
}

static void
test_tree_next__gives_back_what_was_added(WR_UNUSED void **state)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_tree_entry e;
	struct wr_err err = WR_ERR_INIT;
	struct wr_rd r;

	for (size_t i = 0; i < WR_ARRAY_LEN(traps); i++)
		add_item(&b, &traps[i]);
	r = wr_rd(b.p, b.len);
	for (size_t i = 0; i < WR_ARRAY_LEN(traps); i++) {
		assert_int_equal(wr_tree_next(&r, &e, &err), 1);
		assert_int_equal(e.mode, traps[i].mode);
		assert_int_equal(e.name_len, strlen(traps[i].name));
		assert_memory_equal(e.name, traps[i].name, e.name_len);
		assert_int_equal(e.id.b[2], 3);
	}
	assert_int_equal(wr_tree_next(&r, &e, &err), 0);
	wr_buf_fini(&b);
}

/* One entry with this text for mode and name. */
static int
next_of(const char *head, struct wr_tree_entry *e)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_rd r;
	int n;

	wr_buf_add(&b, head, strlen(head) + 1);
	wr_buf_add(&b, "12345678901234567890", 20);
	r = wr_rd(b.p, b.len);
	n = wr_tree_next(&r, e, &err);
	assert_int_equal(n < 0, err.code == WR_E_CORRUPT);
	wr_buf_fini(&b);
	return n;
}

static void
test_tree_next__modes_and_names(WR_UNUSED void **state)
{
	static const char *const good[] = {"100644 a",  "100755 a",   "100664 a",  "120000 a",
					   "40000 a",   "160000 a",   "40755 a",   "100644 ...",
					   "100644 .a", "40000 .git", "100644 a b"};
	static const char *const bad[] = {
	    "040000 a", "0100644 a",  "644 a",     "0 a",          "10644 a",
	    "100648 a", "20000 a",    "60000 a",   "140000 a",     "10000 a",
	    " a",       "100644",     "100644a a", "100644 ",      "40000 .",
	    "40000 ..", "100644 a/b", "100644 /",  "1000000644 a", "7777777777777777777 a",
	    "-40000 a", "+40000 a",   "",          "100644\ta"};
	struct wr_tree_entry e;

	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++)
		assert_int_equal(next_of(good[i], &e), 1);
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++)
		assert_int_equal(next_of(bad[i], &e), -1);
}

static void
test_tree_next__cut_anywhere(WR_UNUSED void **state)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_tree_entry e;

	for (size_t i = 0; i < 3; i++)
		add_item(&b, &traps[i]);
	for (size_t len = 0; len <= b.len; len++) {
		uint8_t *copy = wr_memdup(b.p, len); /* its end is the end of the memory */
		struct wr_rd r = wr_rd(copy, len);
		size_t count = 0;
		int n;

		while ((n = wr_tree_next(&r, &e, NULL)) > 0)
			count++;
		assert_int_equal(n == 0, len == 0 || len == 30 || len == 65 || len == b.len);
		assert_in_range(count, 0, 3);
		free(copy);
	}
	wr_buf_fini(&b);
}

/* Trees that are wrong as a whole, and what git's own check says of them. */
static void
test_tree_check__agrees_with_git_fsck(WR_UNUSED void **state)
{
	static const struct {
		bool good;
		struct item item[5];
	} cases[] = {
	    {true, {{WR_MODE_FILE, "a"}, {WR_MODE_FILE, "b"}}},
	    {true, {{WR_MODE_FILE, "a-"}, {WR_MODE_TREE, "a"}, {WR_MODE_FILE, "a0"}}},
	    {true, {{WR_MODE_FILE, "a"}, {WR_MODE_FILE, "a-"}, {WR_MODE_TREE, "a-b"}}},
	    {true, {{WR_MODE_FILE, "a"}, {WR_MODE_FILE, "aa"}, {WR_MODE_TREE, "aaa"}}},
	    {false, {{WR_MODE_FILE, "b"}, {WR_MODE_FILE, "a"}}},
	    {false, {{WR_MODE_TREE, "a"}, {WR_MODE_FILE, "a-"}}},
	    {false, {{WR_MODE_FILE, "a"}, {WR_MODE_FILE, "a"}}},
	    {false, {{WR_MODE_TREE, "a"}, {WR_MODE_TREE, "a"}}},
	    {false, {{WR_MODE_FILE, "a"}, {WR_MODE_TREE, "a"}}},
	    {false, {{WR_MODE_LINK, "a"}, {WR_MODE_FILE, "a-"}, {WR_MODE_TREE, "a"}}},
	    {false,
	     {{WR_MODE_FILE, "a"},
	      {WR_MODE_FILE, "a-"},
	      {WR_MODE_TREE, "a-b"},
	      {WR_MODE_FILE, "a.c"},
	      {WR_MODE_TREE, "a"}}},
	    {false,
	     {{WR_MODE_FILE, "a"},
	      {WR_MODE_FILE, "a-"},
	      {WR_MODE_FILE, "a--"},
	      {WR_MODE_TREE, "a-"},
	      {WR_MODE_FILE, "b"}}},
	};
	struct wr_buf b = WR_BUF_INIT, out = WR_BUF_INIT;
	struct wr_id id[WR_ARRAY_LEN(cases)];

	assert_int_equal(run(NULL, "git init -q --bare repo"), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		wr_buf_clear(&b);
		for (size_t k = 0; k < 5 && cases[i].item[k].name; k++)
			add_item(&b, &cases[i].item[k]);
		id[i] = git_hash("--literally -w -t tree", b.p, b.len);
		assert_int_equal(wr_tree_check(b.p, b.len, NULL), cases[i].good ? 0 : -1);
	}
	run(&out, "git fsck 2>&1"); /* the blobs are missing, which is not the question */
	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		struct wr_buf line = WR_BUF_INIT;

		bool bad;

		wr_buf_addf(&line, "error in tree %s: treeNotSorted", wr_id_hex(&id[i]).s);
		bad = strstr(wr_buf_str(&out), wr_buf_str(&line)) != NULL;
		wr_buf_clear(&line);
		wr_buf_addf(&line, "error in tree %s: duplicateEntries", wr_id_hex(&id[i]).s);
		bad |= strstr(wr_buf_str(&out), wr_buf_str(&line)) != NULL;
		assert_int_equal(bad, !cases[i].good);
		wr_buf_fini(&line);
	}
	assert_int_equal(wr_tree_check("", 0, NULL), 0);
	wr_buf_fini(&b);
	wr_buf_fini(&out);
}

static void
test_tree_check__survives_any_change(WR_UNUSED void **state)
{
	struct wr_buf b = WR_BUF_INIT;
	uint64_t seed = 7;

	for (size_t i = 0; i < WR_ARRAY_LEN(traps); i++)
		add_item(&b, &traps[i]);
	for (size_t i = 0; i < 20000; i++) {
		uint8_t *copy = wr_memdup(b.p, b.len);
		size_t len = i % 2 ? b.len : test_random(&seed) % b.len;

		for (size_t k = test_random(&seed) % 4; k--;)
			copy[test_random(&seed) % b.len] = (uint8_t)test_random(&seed);
		(void)wr_tree_check(copy, len, NULL); /* must come back, either way */
		free(copy);
	}
	wr_buf_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_tree_order__is_git_s, setup_dir, teardown_dir),
	    cmocka_unit_test(test_tree_next__gives_back_what_was_added),
	    cmocka_unit_test(test_tree_next__modes_and_names),
	    cmocka_unit_test(test_tree_next__cut_anywhere),
	    cmocka_unit_test_setup_teardown(test_tree_check__agrees_with_git_fsck, setup_dir,
					    teardown_dir),
	    cmocka_unit_test(test_tree_check__survives_any_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
