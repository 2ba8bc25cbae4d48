/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/object/name.h"
#include "engine/object/test_util.h"

static void
test_name__examples(WR_UNUSED void **state)
{
	static const struct {
		const char *name;
		bool chunked;
		const char *stored;
	} t[] = {
	    {"plain", false, "plain"},
	    {"x.bup", false, "x.bup.bupl"},
	    {"x.bupl", false, "x.bupl.bupl"},
	    {"x.bupm", false, "x.bupm.bupl"},
	    {"x.bup1", false, "x.bup1.bupl"},
	    {".bup", false, ".bup.bupl"},
	    {".bupm", false, ".bupm.bupl"},
	    {"x.bup12", false, "x.bup12"},
	    {"bup", false, "bup"},
	    {"x.bu", false, "x.bu"},
	    {"x", true, "x.bup"},
	    {"x.bup", true, "x.bup.bup"},
	    {"x.bupl", true, "x.bupl.bup"},
	    {"x.bup.bupl", false, "x.bup.bupl.bupl"},
	};

	for (size_t i = 0; i < WR_ARRAY_LEN(t); i++) {
		struct wr_buf b = WR_BUF_INIT;
		bool chunked;
		size_t n;

		wr_name_mangle(&b, t[i].name, strlen(t[i].name), t[i].chunked);
		assert_string_equal(wr_buf_str(&b), t[i].stored);
		n = wr_name_unmangle(b.p, b.len, t[i].chunked, &chunked);
		assert_int_equal(n, strlen(t[i].name));
		assert_int_equal(chunked, t[i].chunked);
		wr_buf_fini(&b);
	}
}

static void
test_name_unmangle__own_and_foreign(WR_UNUSED void **state)
{
	bool chunked;

	assert_int_equal(wr_name_unmangle(".bupm", 5, false, &chunked), 0);
	assert_false(chunked);
	assert_int_equal(wr_name_unmangle(".bupm", 5, true, &chunked), 0);
	assert_true(chunked);
	/* Trees made by git: a blob cannot be a chunk tree, and no name becomes empty. */
	assert_int_equal(wr_name_unmangle("x.bup", 5, false, &chunked), 1);
	assert_false(chunked);
	assert_int_equal(wr_name_unmangle(".bup", 4, true, &chunked), 4);
	assert_false(chunked);
	assert_int_equal(wr_name_unmangle(".bupl", 5, false, &chunked), 5);
	assert_false(chunked);
}

static void
test_name__any_name_comes_back(WR_UNUSED void **state)
{
	static const char letters[] = ".bupldmx";
	uint64_t seed = 3;

	for (size_t i = 0; i < 200000; i++) {
		struct wr_buf b = WR_BUF_INIT;
		char name[12];
		size_t n = 1 + test_random(&seed) % sizeof(name);
		bool chunked = i % 2, got;

		for (size_t k = 0; k < n; k++)
			name[k] = letters[test_random(&seed) % (sizeof(letters) - 1)];
		if (n >= 5 && i % 3 == 0)
			memcpy(name + n - 5, ".bup", 4);
		wr_name_mangle(&b, name, n, chunked);
		assert_int_equal(wr_name_unmangle(b.p, b.len, chunked, &got), n);
		assert_memory_equal(b.p, name, n);
		assert_int_equal(got, chunked);
		/* A directory keeps its mode of a tree, and must not look chunked. */
		if (!chunked) {
			assert_int_equal(wr_name_unmangle(b.p, b.len, true, &got), n);
			assert_false(got);
		}
		wr_buf_fini(&b);
	}
}

/* Files, directories, symlinks and large files of trying names, saved by bup itself. */
static void
test_name_mangle__as_bup_stores(WR_UNUSED void **state)
{
	static const char *const base[] = {"x.bup", "x.bupl",  "x.bupm",     "x.bupd",    "x.bup1",
					   "x.bu",  "x.bup12", "x.bup.bupl", ".bup",      ".bupl",
					   ".bupm", ".bupd",   "bup",        "x.bup.bup", "plain"};
	static const char kinds[] = "fdlc";
	struct wr_buf list = WR_BUF_INIT;
	size_t met = 0;

	assert_int_equal(run(NULL, "bup init 2>/dev/null"), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(base); i++) {
		const char *n = base[i];

		assert_int_equal(
		    run(NULL,
			"mkdir -p src/f src/d/'%s' src/l src/c && echo a > src/f/'%s' && "
			"ln -s t src/l/'%s' && head -c 100000 /dev/zero > src/c/'%s'",
			n, n, n, n),
		    0);
	}
	assert_int_equal(run(NULL, "bup index src 2>/dev/null && "
				   "bup save -q --strip -n b src 2>/dev/null"),
			 0);
	for (const char *kind = kinds; *kind; kind++) {
		bool chunked = *kind == 'c';

		assert_int_equal(run(&list, "git ls-tree -z --name-only b:%c", *kind), 0);
		for (size_t i = 0; i < WR_ARRAY_LEN(base); i++) {
			struct wr_buf want = WR_BUF_INIT;
			bool found = false;

			wr_name_mangle(&want, base[i], strlen(base[i]), chunked);
			wr_buf_str(&list);
			for (size_t at = 0; at < list.len; at += strlen((char *)list.p + at) + 1)
				if (strcmp((char *)list.p + at, wr_buf_str(&want)) == 0)
					found = true;
			assert_true(found);
			met++;
			wr_buf_fini(&want);
		}
	}
	assert_int_equal(met, 4 * WR_ARRAY_LEN(base));
	wr_buf_fini(&list);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_name__examples),
	    cmocka_unit_test(test_name_unmangle__own_and_foreign),
	    cmocka_unit_test(test_name__any_name_comes_back),
	    cmocka_unit_test_setup_teardown(test_name_mangle__as_bup_stores, setup_dir,
					    teardown_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
