/* SPDX-License-Identifier: Apache-2.0 */
/* Views over several snapshots: differences, finding, versions of a path. */
#include "engine/snap/diff.h"
#include "engine/snap/find.h"
#include "engine/snap/history.h"
#include "engine/snap/test_tree.h"

static int
note_change(void *ctx, const struct wr_diff_item *it, struct wr_err *err)
{
	(void)err;
	wr_buf_addf(ctx, "%c %s %" PRIu64 " %" PRIu64 "\n", it->change,
		    it->path_len ? it->path : ".", it->a.size, it->b.size);
	return 0;
}

static void
expect_diff(const struct wr_id *a, const struct wr_id *b, unsigned flags, const char *want)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_at at_a, at_b;

	if (a)
		at_a = wr_at_root(a);
	if (b)
		at_b = wr_at_root(b);
	assert_int_equal(
	    wr_diff(tt.rd, a ? &at_a : NULL, b ? &at_b : NULL, flags, note_change, &out, &err), 0);
	assert_string_equal(wr_buf_str(&out), want);
}

#define ENT(name, blob, mtime, size)                           \
	{                                                      \
		name, S_IFREG | 0644, blob, false, mtime, size \
	}
#define SUB(name, tree)                                  \
	{                                                \
		name, S_IFDIR | 0755, tree, false, 0, -1 \
	}

static void
test_diff__kinds_of_change(void **state)
{
	struct wr_id one = tt_blob("1"), two = tt_blob("22"), x = tt_blob(""), a, b, da, db, inner;
	struct wr_id same, deep_a, deep_b;

	(void)state;
	same = tt_dir(5, (struct tt_ent[]){ENT("f", one, 1, 1), {0}});
	inner = tt_dir(5, (struct tt_ent[]){ENT("i", two, 1, 2), {0}});
	da = tt_dir(5, (struct tt_ent[]){ENT("gone", one, 1, 1), ENT("stays", one, 1, 1), {0}});
	db = tt_dir(6, (struct tt_ent[]){ENT("stays", one, 1, 1), {0}});
	deep_a = tt_dir(5, (struct tt_ent[]){SUB("d", da), {0}});
	deep_b = tt_dir(5, (struct tt_ent[]){SUB("d", db), {0}});
	a = tt_dir(1, (struct tt_ent[]){ENT("content", one, 1, 1),
					SUB("deep", deep_a),
					ENT("file2dir", one, 1, 1),
					ENT("file2fifo", x, 1, 0),
					ENT("meta", one, 1, 1),
					SUB("olddir", inner),
					SUB("same", same),
					{0}});
	b = tt_dir(2, (struct tt_ent[]){ENT("content", two, 2, 2),
					SUB("deep", deep_b),
					SUB("file2dir", inner),
					{"file2fifo", S_IFIFO | 0644, x, false, 1, -1},
					ENT("meta", one, 2, 1),
					SUB("newdir", inner),
					SUB("same", same),
					{0}});
	tt_publish();
	/* The mtime of a directory in which something came or went is no news. */
	expect_diff(&a, &b, 0,
		    "M content 1 2\n"
		    "D deep/d/gone 1 0\n"
		    "T file2dir 1 0\n"
		    "A file2dir/i 0 2\n"
		    "T file2fifo 0 0\n"
		    "m meta 1 1\n"
		    "A newdir 0 0\n"
		    "A newdir/i 0 2\n"
		    "D olddir 0 0\n"
		    "D olddir/i 2 0\n");
	expect_diff(&b, &a, WR_DIFF_NAMES,
		    "M content 0 0\n"
		    "A deep/d/gone 0 0\n"
		    "T file2dir 0 0\n"
		    "D file2dir/i 0 0\n"
		    "D newdir 0 0\n"
		    "D newdir/i 0 0\n"
		    "A olddir 0 0\n"
		    "A olddir/i 0 0\n");
	expect_diff(&a, &a, 0, "");
	expect_diff(&da, NULL, 0, "D . 0 0\nD gone 1 0\nD stays 1 0\n");
	expect_diff(NULL, &da, 0, "A . 0 0\nA gone 0 1\nA stays 0 1\n");
}

static void
test_diff__directory_metadata(void **state)
{
	struct wr_id one = tt_blob("1"), a, b, c, blind, blob;
	struct wr_buf meta = WR_BUF_INIT;
	struct wr_meta m = {
	    .has_common = true, .mode = S_IFDIR | 0755, .mtime = {.s = 5}, .size = -1};

	(void)state;
	a = tt_dir(5, (struct tt_ent[]){ENT("f", one, 1, 1), {0}});
	b = tt_dir(6, (struct tt_ent[]){ENT("f", one, 1, 1), {0}});
	c = tt_dir(6, (struct tt_ent[]){ENT("f", one, 2, 1), {0}});
	/* as a, but other times that nobody sees */
	m.atime.s = m.ctime.s = 1234;
	wr_meta_encode(&meta, &m);
	tt_meta(&meta, S_IFREG | 0644, 1, 1);
	blob = tt_put(WR_OBJ_BLOB, meta.p, meta.len);
	blind = tt_tree(2, (struct wr_tree_entry[]){
			       {.mode = WR_MODE_FILE, .name = TT_NAME(".bupm"), .id = blob},
			       {.mode = WR_MODE_FILE, .name = TT_NAME("f"), .id = one}});
	tt_publish();
	expect_diff(&a, &b, 0, "m . 0 0\n");
	expect_diff(&a, &c, 0, "m . 0 0\nm f 1 1\n");
	assert_false(wr_id_eq(&a, &blind));
	expect_diff(&a, &blind, 0, "");
	wr_buf_fini(&meta);
}

static void
test_diff__places(void **state)
{
	struct wr_id one = tt_blob("1"), two = tt_blob("22"), a, b;
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	struct wr_at at_a, at_b, dir;

	(void)state;
	a = tt_dir(5, (struct tt_ent[]){ENT("f", one, 1, 1), {0}});
	b = tt_dir(5, (struct tt_ent[]){ENT("g", two, 1, 2), {0}});
	tt_publish();
	assert_int_equal(wr_at_find(tt.rd, &a, "f", 1, &at_a, NULL), 0);
	assert_int_equal(wr_at_find(tt.rd, &b, "g", 1, &at_b, NULL), 0);
	dir = wr_at_root(&b);
	assert_int_equal(wr_diff(tt.rd, &at_a, &at_b, 0, note_change, &out, NULL), 0);
	assert_int_equal(wr_diff(tt.rd, &at_a, &dir, 0, note_change, &out, NULL), 0);
	assert_int_equal(wr_diff(tt.rd, &dir, &at_a, 0, note_change, &out, NULL), 0);
	assert_int_equal(wr_diff(tt.rd, &at_a, NULL, 0, note_change, &out, NULL), 0);
	assert_int_equal(wr_diff(tt.rd, NULL, NULL, 0, note_change, &out, NULL), 0);
	assert_string_equal(wr_buf_str(&out), "M . 1 2\n"
					      "T . 1 0\nA g 0 2\n"
					      "T . 0 1\nD g 2 0\n"
					      "D . 1 0\n");
	wr_at_fini(&at_a);
	wr_at_fini(&at_b);
}

/* main: five snapshots; side: one more on top of the first. */
static void
make_history(void)
{
	struct wr_id one = tt_blob("1"), two = tt_blob("22"), sub, t[5], c[5], side;

	sub = tt_dir(5, (struct tt_ent[]){ENT("Notes.TXT", one, 1, 1), {0}});
	t[0] = tt_dir(1, (struct tt_ent[]){ENT("a.txt", one, 1, 1), SUB("sub", sub), {0}});
	t[1] = t[0];
	t[2] = tt_dir(1, (struct tt_ent[]){ENT("a.txt", two, 1, 2), SUB("sub", sub), {0}});
	t[3] = tt_dir(1, (struct tt_ent[]){SUB("sub", sub), {0}});
	t[4] = tt_dir(1, (struct tt_ent[]){ENT("a.txt", one, 9, 1), ENT("b.txt", one, 1, 1), {0}});
	for (int i = 0; i < 5; i++)
		c[i] = tt_commit(t[i], i ? &c[i - 1] : NULL, 1000000 + i * 100);
	side = tt_commit(t[2], &c[0], 1000000 + 777);
	tt_publish();
	tt_branch("main", c[4]);
	tt_branch("side", side);
}

static int64_t
nth(const struct wr_snap *s)
{
	return s->time - 1000000;
}

static void
expect_find(const char *pattern, const char *branch, bool fold, const char *want)
{
	WR_SCOPED(wr_find_result_fini) struct wr_find_result r = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	struct wr_find_opts o = {.branch = branch, .ignore_case = fold};
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_find(tt.rd, pattern, &o, &r, &err), 0);
	for (size_t i = 0; i < r.count; i++)
		wr_buf_addf(&out, "%s %" PRId64 "-%" PRId64 " v%" PRIu64 " %d\n", r.found[i].path,
			    nth(r.found[i].first), nth(r.found[i].last), r.found[i].versions,
			    r.found[i].has_size ? (int)r.found[i].size : -1);
	assert_string_equal(wr_buf_str(&out), want);
}

static void
test_find__patterns(void **state)
{
	struct wr_find_opts o = {0};
	struct wr_find_result r;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	make_history();
	expect_find("*.txt", "main", false, "a.txt 0-400 v2 1\nb.txt 400-400 v1 1\n");
	expect_find("*.txt", NULL, false, "a.txt 0-777 v2 2\nb.txt 400-400 v1 1\n");
	expect_find("*.txt", "main", true,
		    "a.txt 0-400 v2 1\nb.txt 400-400 v1 1\nsub/Notes.TXT 0-300 v1 1\n");
	expect_find("sub/*", "main", false, "sub/Notes.TXT 0-300 v1 1\n");
	expect_find("/sub", "main", false, "sub 0-300 v1 -1\n");
	expect_find("s*/", "side", false, "sub 0-777 v1 -1\n");
	expect_find("a.txt/", NULL, false, "");
	expect_find("**/Notes*", "side", false, "sub/Notes.TXT 0-777 v1 1\n");
	expect_find("/Notes*", NULL, false, "");
	assert_int_equal(wr_find(tt.rd, "[a", &o, &r, &err), -1);
	assert_int_equal(err.code, WR_E_INVALID);
	assert_int_equal(wr_find(tt.rd, "", &o, &r, &err), -1);
	assert_int_equal(err.code, WR_E_INVALID);
	o.branch = "nope";
	assert_int_equal(wr_find(tt.rd, "*", &o, &r, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
}

static int
note_version(void *ctx, const struct wr_version *v, struct wr_err *err)
{
	(void)err;
	wr_buf_addf(ctx, "%d %" PRId64 "-%" PRId64 " n%zu %" PRIu64 " t%" PRId64 "\n", (int)v->kind,
		    nth(v->first), nth(v->last), v->snapshots, v->size, v->mtime.s);
	return 0;
}

static void
expect_versions(const char *path, const char *want)
{
	WR_SCOPED(wr_snaps_fini) struct wr_snaps snaps = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_snaps_list(tt.rd, "main", &snaps, &err), 0);
	assert_int_equal(wr_versions(tt.rd, &snaps, path, strlen(path), note_version, &out, &err),
			 want ? 0 : -1);
	if (want)
		assert_string_equal(wr_buf_str(&out), want);
	else
		assert_int_equal(err.code, strstr(path, "..") ? WR_E_INVALID : WR_E_NOT_FOUND);
}

static void
test_history__versions(void **state)
{
	(void)state;
	make_history();
	expect_versions("a.txt", "1 400-400 n1 1 t9\n"
				 "0 300-300 n1 0 t0\n"
				 "1 200-200 n1 2 t1\n"
				 "1 0-100 n2 1 t1\n");
	expect_versions("/sub//Notes.TXT", "0 400-400 n1 0 t0\n1 0-300 n4 1 t1\n");
	expect_versions("sub/", "0 400-400 n1 0 t0\n3 0-300 n4 0 t5\n");
	expect_versions("b.txt", "1 400-400 n1 1 t1\n"); /* nothing of the time before it */
	expect_versions("a.txt/x", NULL);
	expect_versions("nope", NULL);
	expect_versions("sub/../a.txt", NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_diff__kinds_of_change, tt_setup, tt_teardown),
	    cmocka_unit_test_setup_teardown(test_diff__directory_metadata, tt_setup, tt_teardown),
	    cmocka_unit_test_setup_teardown(test_diff__places, tt_setup, tt_teardown),
	    cmocka_unit_test_setup_teardown(test_find__patterns, tt_setup, tt_teardown),
	    cmocka_unit_test_setup_teardown(test_history__versions, tt_setup, tt_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
