/* SPDX-License-Identifier: Apache-2.0 */
/* Directories as people see them: real names, metadata at its place, damage told. */
#include "engine/snap/dirview.h"

#include "engine/snap/list.h"
#include "engine/snap/test_tree.h"

static int
collect(void *ctx, const void *p, size_t len, struct wr_err *err)
{
	(void)err;
	wr_buf_add(ctx, p, len);
	return 0;
}

static void
expect_content(const struct wr_id *id, bool chunked, const char *want)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	uint64_t size;

	assert_int_equal(wr_content_each(tt.rd, id, chunked, collect, &b, &err), 0);
	assert_string_equal(wr_buf_str(&b), want);
	assert_int_equal(wr_content_size(tt.rd, id, chunked, &size, &err), 0);
	assert_int_equal(size, strlen(want));
}

static void
expect_corrupt(struct wr_id tree, const char *part)
{
	struct wr_dirview v;
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_dirview_load(tt.rd, &tree, &v, &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	if (!strstr(err.msg, part))
		fail_msg("'%s' is not in '%s'", part, err.msg);
}

static void
test_dirview__names_and_metadata(void **state)
{
	struct wr_id blob = tt_blob("12345"), empty = tt_blob(""), chunks, inner, tree;
	struct wr_err err = WR_ERR_INIT;
	struct wr_buf scratch = WR_BUF_INIT, storage = WR_BUF_INIT;
	struct wr_dirview v;
	struct wr_meta m;
	uint64_t size;

	(void)state;
	chunks = tt_tree(
	    2, (struct wr_tree_entry[]){{.mode = WR_MODE_FILE, .name = TT_NAME("0"), .id = blob},
					{.mode = WR_MODE_FILE, .name = TT_NAME("5"), .id = blob}});
	inner = tt_dir(77, (struct tt_ent[]){{0}});
	/* In git's order "big" (big.bup/) comes behind "big-x", by its real name in front of it. */
	tree = tt_dir(1, (struct tt_ent[]){
			     {"a.bup", S_IFREG | 0600, blob, false, 10, 5},
			     {"big-x", S_IFREG | 0640, blob, false, 12, 5},
			     {"big", S_IFREG | 0604, chunks, true, 11, 10},
			     {"dev", S_IFCHR | 0666, empty, false, 13, 99},
			     {"dir", S_IFDIR | 0755, inner, false, 0, 0},
			     {"ln", S_IFLNK | 0777, blob, false, 14, 5},
			     {0},
			 });
	tt_publish();
	/* The metadata above lies in the wrong order for `big` and `big-x`: as dealt by real name,
	 * `big` gets the second entry, `big-x` the third. */
	assert_int_equal(wr_dirview_load(tt.rd, &tree, &v, &err), 0);
	assert_int_equal(v.count, 6);
	assert_string_equal(v.ent[0].name, "a.bup");
	assert_string_equal(v.ent[1].name, "big");
	assert_true(v.ent[1].chunked);
	assert_string_equal(v.ent[2].name, "big-x");
	assert_int_equal(wr_dirent_meta(&v.ent[0], &m, &scratch, &err), 0);
	assert_int_equal(m.mtime.s, 10);
	assert_int_equal(wr_dirent_meta(&v.ent[1], &m, &scratch, &err), 0);
	assert_int_equal(m.mtime.s, 12);
	assert_int_equal(wr_dirent_meta(&v.ent[2], &m, &scratch, &err), 0);
	assert_int_equal(m.mtime.s, 11);
	assert_int_equal(wr_dirent_kind(&v.ent[1]), WR_KIND_FILE);
	assert_int_equal(wr_dirent_kind(&v.ent[4]), WR_KIND_DIR);
	assert_int_equal(wr_dirent_kind(&v.ent[5]), WR_KIND_LINK);
	assert_null(v.ent[4].raw.p);
	assert_int_equal(wr_dirview_self_meta(&v, &m, &scratch, &err), 0);
	assert_int_equal(m.mtime.s, 1);
	assert_int_equal(wr_dirent_size(tt.rd, &v.ent[3], &size, &err), 0);
	assert_int_equal(size, 0); /* of a device, whatever was noted */
	assert_ptr_equal(wr_dirview_find(&v, "big-x", 5), &v.ent[2]);
	assert_null(wr_dirview_find(&v, "big-", 4));
	assert_int_equal(wr_dir_meta(tt.rd, &v.ent[4].id, &m, &storage, &scratch, &err), 0);
	assert_int_equal(m.mtime.s, 77);
	expect_content(&chunks, true, "1234512345");
	wr_dirview_fini(&v);
	wr_dirview_fini(&v);

	assert_int_equal(wr_dirview_load_names(tt.rd, &tree, &v, &err), 0);
	assert_int_equal(v.count, 6);
	assert_null(v.ent[0].raw.p);
	wr_dirview_fini(&v);
	wr_buf_fini(&scratch);
	wr_buf_fini(&storage);
}

static void
test_dirview__made_by_git(void **state)
{
	struct wr_id blob = tt_blob("x"), sub = tt_tree(0, NULL), tree;
	struct wr_err err = WR_ERR_INIT;
	struct wr_buf scratch = WR_BUF_INIT, storage = WR_BUF_INIT;
	struct wr_dirview v;
	struct wr_meta m;
	uint64_t size;

	(void)state;
	tree = tt_tree(
	    4, (struct wr_tree_entry[]){{.mode = 0100755, .name = TT_NAME("run"), .id = blob},
					{.mode = WR_MODE_LINK, .name = TT_NAME("s"), .id = blob},
					{.mode = WR_MODE_TREE, .name = TT_NAME("sub"), .id = sub},
					{.mode = 0160000, .name = TT_NAME("module"), .id = blob}});
	tt_publish();
	assert_int_equal(wr_dirview_load(tt.rd, &tree, &v, &err), 0);
	assert_int_equal(v.count, 3);
	assert_int_equal(wr_dirent_meta(&v.ent[0], &m, &scratch, &err), 0);
	assert_false(m.has_common);
	assert_int_equal(m.mode, S_IFREG | 0644);
	assert_int_equal(m.size, -1);
	assert_int_equal(wr_dirent_size(tt.rd, &v.ent[0], &size, &err), 0);
	assert_int_equal(size, 1);
	assert_int_equal(wr_dirent_meta(&v.ent[1], &m, &scratch, &err), 0);
	assert_true(S_ISLNK(m.mode));
	assert_int_equal(wr_dir_meta(tt.rd, &v.ent[2].id, &m, &storage, &scratch, &err), 0);
	assert_int_equal(m.mode, S_IFDIR | 0755);
	wr_dirview_fini(&v);
	wr_buf_fini(&scratch);
	wr_buf_fini(&storage);
}

static struct wr_id
dir_with_bupm(struct wr_id bupm, uint32_t bupm_mode, const char *a, const char *b)
{
	struct wr_id blob = tt_blob("x");
	struct wr_tree_entry e[3] = {{.mode = bupm_mode, .name = TT_NAME(".bupm"), .id = bupm},
				     {.mode = WR_MODE_FILE, .name = TT_NAME(a), .id = blob},
				     {.mode = WR_MODE_FILE, .name = TT_NAME(b), .id = blob}};

	return tt_tree(b ? 3 : a ? 2 : 1, e);
}

static void
test_dirview__metadata_does_not_match(void **state)
{
	struct wr_buf meta = WR_BUF_INIT, scratch = WR_BUF_INIT;
	struct wr_id one, two, three, part, cut, wrong, split, few, many, none, empty, good, odd;
	struct wr_err err = WR_ERR_INIT;
	struct wr_dirview v;
	struct wr_meta m;
	char offset[20];

	(void)state;
	empty = tt_blob("");
	tt_meta(&meta, S_IFDIR | 0755, 1, -1);
	one = tt_put(WR_OBJ_BLOB, meta.p, meta.len);
	tt_meta(&meta, S_IFREG | 0600, 2, 1);
	two = tt_put(WR_OBJ_BLOB, meta.p, meta.len);
	cut = tt_put(WR_OBJ_BLOB, meta.p, meta.len - 1);
	/* the same in two chunks, cut in the middle of an entry */
	part = tt_put(WR_OBJ_BLOB, meta.p, 20);
	three = tt_put(WR_OBJ_BLOB, meta.p + 20, meta.len - 20);
	snprintf(offset, sizeof(offset), "%02x", 20);
	split = tt_tree(2, (struct wr_tree_entry[]){
			       {.mode = WR_MODE_FILE, .name = TT_NAME("00"), .id = part},
			       {.mode = WR_MODE_FILE, .name = TT_NAME(offset), .id = three}});
	wr_buf_clear(&meta);
	tt_meta(&meta, S_IFDIR | 0755, 1, -1);
	tt_meta(&meta, S_IFDIR | 0700, 2, -1);
	wrong = tt_put(WR_OBJ_BLOB, meta.p, meta.len);
	few = dir_with_bupm(one, WR_MODE_FILE, "a", NULL);
	many = dir_with_bupm(two, WR_MODE_FILE, NULL, NULL);
	none = dir_with_bupm(empty, WR_MODE_FILE, NULL, NULL);
	cut = dir_with_bupm(cut, WR_MODE_FILE, "a", NULL);
	good = dir_with_bupm(split, WR_MODE_TREE, "a", NULL);
	odd = dir_with_bupm(wrong, WR_MODE_FILE, "a", NULL);
	tt_publish();
	expect_corrupt(few, "fewer metadata entries");
	expect_corrupt(many, "more metadata entries");
	expect_corrupt(none, "fewer metadata entries");
	expect_corrupt(cut, "cut short");
	assert_int_equal(wr_dirview_load(tt.rd, &good, &v, &err), 0);
	assert_int_equal(wr_dirent_meta(&v.ent[0], &m, &scratch, &err), 0);
	assert_int_equal(m.mtime.s, 2);
	wr_dirview_fini(&v);
	/* metadata of a directory beside a file */
	assert_int_equal(wr_dirview_load(tt.rd, &odd, &v, &err), 0);
	assert_int_equal(wr_dirent_meta(&v.ent[0], &m, &scratch, &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	wr_dirview_fini(&v);
	wr_buf_fini(&meta);
	wr_buf_fini(&scratch);
}

static void
test_dirview__bad_names(void **state)
{
	struct wr_id blob = tt_blob("x"), dot, dots, twice, sub;

	(void)state;
	sub = tt_tree(0, NULL);
	dot = tt_tree(1, (struct wr_tree_entry[]){
			     {.mode = WR_MODE_FILE, .name = TT_NAME("..bupl"), .id = blob}});
	dots = tt_tree(1, (struct wr_tree_entry[]){
			      {.mode = WR_MODE_TREE, .name = TT_NAME("...bupl"), .id = sub}});
	twice = tt_tree(2, (struct wr_tree_entry[]){
			       {.mode = WR_MODE_FILE, .name = TT_NAME("x"), .id = blob},
			       {.mode = WR_MODE_FILE, .name = TT_NAME("x.bupl"), .id = blob}});
	tt_publish();
	expect_corrupt(dot, "bad name");
	expect_corrupt(dots, "bad name");
	expect_corrupt(twice, "twice");
}

static int
stop_at_once(void *ctx, const void *p, size_t len, struct wr_err *err)
{
	(void)p;
	(void)len;
	(void)err;
	++*(int *)ctx;
	return 7;
}

static void
test_content__hostile_chunks(void **state)
{
	struct wr_id blob = tt_blob("12345"), none = tt_tree(0, NULL), gap, twice, deep, name, link,
		     last_none;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	uint64_t size;
	int calls = 0;

	(void)state;
	gap = tt_tree(
	    2, (struct wr_tree_entry[]){{.mode = WR_MODE_FILE, .name = TT_NAME("0"), .id = blob},
					{.mode = WR_MODE_FILE, .name = TT_NAME("6"), .id = blob}});
	twice = tt_tree(3, (struct wr_tree_entry[]){
			       {.mode = WR_MODE_TREE, .name = TT_NAME("0"), .id = none},
			       {.mode = WR_MODE_TREE, .name = TT_NAME("00"), .id = none},
			       {.mode = WR_MODE_TREE, .name = TT_NAME("000"), .id = none}});
	name = tt_tree(
	    1, (struct wr_tree_entry[]){{.mode = WR_MODE_FILE, .name = TT_NAME("0x"), .id = blob}});
	link = tt_tree(
	    1, (struct wr_tree_entry[]){{.mode = WR_MODE_LINK, .name = TT_NAME("0"), .id = blob}});
	last_none = tt_tree(
	    2, (struct wr_tree_entry[]){{.mode = WR_MODE_FILE, .name = TT_NAME("0"), .id = blob},
					{.mode = WR_MODE_TREE, .name = TT_NAME("5"), .id = none}});
	deep = blob;
	for (int i = 0; i < WR_CHUNK_DEPTH_MAX + 1; i++)
		deep = tt_tree(1, (struct wr_tree_entry[]){{.mode = i ? WR_MODE_TREE : WR_MODE_FILE,
							    .name = TT_NAME("0"),
							    .id = deep}});
	tt_publish();
	expect_content(&last_none, true, "12345");
	for (int i = 0; i < 5; i++) {
		const struct wr_id *id[] = {&gap, &twice, &name, &link, &deep};

		assert_int_equal(wr_content_each(tt.rd, id[i], true, collect, &b, &err), -1);
		assert_int_equal(err.code, WR_E_CORRUPT);
	}
	assert_int_equal(wr_content_size(tt.rd, &deep, true, &size, &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	assert_int_equal(wr_content_each(tt.rd, &blob, true, collect, &b, &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT); /* a blob, not a tree */
	assert_int_equal(wr_content_each(tt.rd, &gap, true, stop_at_once, &calls, &err), 7);
	assert_int_equal(calls, 1);
}

static struct wr_id root;

static int
check_at(const char *path, enum wr_kind want, struct wr_err *err)
{
	struct wr_at at;
	int rc = wr_at_find(tt.rd, &root, path, strlen(path), &at, err);

	if (rc < 0)
		return -1;
	assert_int_equal(at.is_dir ? WR_KIND_DIR : wr_dirent_kind(at.ent), want);
	if (!at.is_dir)
		assert_non_null(at.ent->raw.p);
	wr_at_fini(&at);
	return 0;
}

static int
join(void *ctx, const struct wr_list_item *it, struct wr_err *err)
{
	(void)err;
	wr_buf_addf(ctx, "%s", it->path);
	if (it->target.p)
		wr_buf_addf(ctx, "=%.*s", (int)it->target.len, (const char *)it->target.p);
	wr_buf_adds(ctx, "\n");
	return 0;
}

static void
test_at__paths_and_lists(void **state)
{
	struct wr_id blob = tt_blob("12345"), sub;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_at at;

	(void)state;
	sub = tt_dir(1, (struct tt_ent[]){{"f", S_IFREG | 0644, blob, false, 1, 5},
					  {"to", S_IFLNK | 0777, tt_blob("x"), false, 1, 1},
					  {0}});
	root = tt_dir(1, (struct tt_ent[]){{"d", S_IFDIR | 0755, sub, false, 1, -1},
					   {"f", S_IFREG | 0644, blob, false, 1, 5},
					   {0}});
	tt_publish();
	assert_int_equal(check_at("", WR_KIND_DIR, &err), 0);
	assert_int_equal(check_at("/", WR_KIND_DIR, &err), 0);
	assert_int_equal(check_at("./.", WR_KIND_DIR, &err), 0);
	assert_int_equal(check_at("d", WR_KIND_DIR, &err), 0);
	assert_int_equal(check_at("/d/", WR_KIND_DIR, &err), 0);
	assert_int_equal(check_at("d//f", WR_KIND_FILE, &err), 0);
	assert_int_equal(check_at("./d/./to", WR_KIND_LINK, &err), 0);
	assert_int_equal(check_at("d/../f", WR_KIND_NONE, &err), -1);
	assert_int_equal(err.code, WR_E_INVALID);
	assert_int_equal(check_at("d/x/y", WR_KIND_NONE, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "'d/x'"));
	assert_int_equal(check_at("d/f/y", WR_KIND_NONE, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "'d/f' is not a directory"));
	assert_int_equal(check_at("d/to/y", WR_KIND_NONE, &err), -1); /* links are not followed */

	assert_int_equal(wr_at_find(tt.rd, &root, "", 0, &at, &err), 0);
	assert_int_equal(wr_list(tt.rd, &at, 0, join, &b, &err), 0);
	assert_string_equal(wr_buf_str(&b), "d\nf\n");
	wr_buf_clear(&b);
	assert_int_equal(wr_list(tt.rd, &at, WR_LIST_RECURSIVE | WR_LIST_META, join, &b, &err), 0);
	assert_string_equal(wr_buf_str(&b), "d\nd/f\nd/to=x\nf\n");
	wr_at_fini(&at);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_dirview__names_and_metadata, tt_setup,
					    tt_teardown),
	    cmocka_unit_test_setup_teardown(test_dirview__made_by_git, tt_setup, tt_teardown),
	    cmocka_unit_test_setup_teardown(test_dirview__metadata_does_not_match, tt_setup,
					    tt_teardown),
	    cmocka_unit_test_setup_teardown(test_dirview__bad_names, tt_setup, tt_teardown),
	    cmocka_unit_test_setup_teardown(test_content__hostile_chunks, tt_setup, tt_teardown),
	    cmocka_unit_test_setup_teardown(test_at__paths_and_lists, tt_setup, tt_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
