/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of folders: what counts where, what is kept, and what becomes of damaged files. */
#include "engine/snap/sums.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/snap/test_tree.h"
#include "sys/fs.h"

#define SOURCE "/home/olga"

static const struct wr_usage_folder *
find(const struct wr_usage *u, const char *path)
{
	for (size_t i = 0; i < u->folder_count; i++)
		if (!strcmp(u->folder[i].path, path))
			return &u->folder[i];
	return NULL;
}

static void
assert_folder(const struct wr_usage *u, const char *path, uint64_t files, uint64_t bytes,
	      uint64_t stored)
{
	const struct wr_usage_folder *f = find(u, path);

	assert_non_null(f);
	assert_int_equal(f->files, files);
	assert_int_equal(f->bytes, bytes);
	assert_int_equal(f->stored, stored);
}

static struct wr_fold *
child(struct wr_sums *s, struct wr_fold *f, const char *name)
{
	return wr_sums_child(s, f, name, strlen(name));
}

/* A file in each of root, a, a/b, a/b/c and a/b/c/d. */
static struct wr_sums *
count_some(void)
{
	struct wr_sums *s = wr_sums_new();
	struct wr_fold *f = wr_sums_root(s);
	static const char *const names[] = {"a", "b", "c", "d"};

	wr_fold_live(f, 1, 1);
	for (size_t i = 0; i < WR_ARRAY_LEN(names); i++) {
		f = child(s, f, names[i]);
		wr_fold_live(f, 1, 10);
		wr_fold_stored(f, 100);
	}
	return s;
}

static void
test_sums__folders_count_with_all_below(void **state)
{
	struct wr_sums *s = count_some();
	struct wr_usage u = {0};
	bool changed;

	(void)state;
	assert_ptr_equal(child(s, wr_sums_root(s), "a"), child(s, wr_sums_root(s), "a"));
	wr_usage_add(&u, s, false, &changed);
	assert_true(changed);
	assert_int_equal(u.folder_count, 4);
	assert_int_equal(u.files, 5);
	assert_int_equal(u.bytes, 41);
	assert_folder(&u, "", 5, 41, 400);
	assert_folder(&u, "a", 4, 40, 400);
	assert_folder(&u, "a/b", 3, 30, 300);
	assert_folder(&u, "a/b/c", 2, 20, 200); /* and what is in d */
	/* The same files again: they take what they took, and cost more. */
	wr_usage_add(&u, s, false, &changed);
	assert_true(changed);
	assert_folder(&u, "a/b", 3, 30, 600);
	wr_sums_free(s);
	/* All gone but for its history. */
	s = wr_sums_new();
	wr_usage_add(&u, s, false, &changed);
	assert_folder(&u, "a/b", 0, 0, 600);
	wr_usage_add(&u, s, false, &changed);
	assert_false(changed);
	wr_sums_free(s);
	wr_usage_fini(&u);
}

static void
test_sums__the_heaviest_are_kept(void **state)
{
	struct wr_sums *s = wr_sums_new();
	struct wr_usage u = {0};
	bool changed;
	char name[16];

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		wr_fold_live(child(s, wr_sums_root(s), name), 1, i);
		wr_fold_stored(child(s, wr_sums_root(s), name), 3000 - i);
	}
	wr_usage_add(&u, s, false, &changed);
	assert_in_range(u.folder_count, WR_SUMS_KEPT, 2 * WR_SUMS_KEPT + 2);
	assert_non_null(find(&u, "d2999"));
	assert_non_null(find(&u, "d0"));
	assert_null(find(&u, "d1500"));
	assert_folder(&u, "", 3000, 2999u * 3000 / 2, 3001u * 3000 / 2);
	wr_sums_free(s);
	wr_usage_fini(&u);
}

/* Folders of equal weight: as many are kept as there is room for, and the same ones again. */
static void
test_sums__equal_ones_stay_as_they_are(void **state)
{
	struct wr_usage u = {0};
	bool changed;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		struct wr_sums *s = wr_sums_new();

		/* Threads come in any order. */
		for (unsigned i = 0; i < 3000; i++) {
			const unsigned d = round ? 2999 - i : i;
			char name[16];

			snprintf(name, sizeof(name), "d%u", d);
			wr_fold_live(child(s, wr_sums_root(s), name), 1, d == 7 ? 9000 : 4096);
		}
		wr_usage_add(&u, s, false, &changed);
		assert_int_equal(changed, round == 0);
		assert_int_equal(u.folder_count, 1 + WR_SUMS_KEPT);
		assert_folder(&u, "d7", 1, 9000, 0);
		assert_folder(&u, "", 3000, 2999u * 4096 + 9000, 0);
		wr_sums_free(s);
	}
	wr_usage_fini(&u);
}

/* What is known to be as it was is not looked at again, unless the file is of another state. */
static void
test_sums__a_tree_that_is_the_same(void **state)
{
	struct wr_sums *s = count_some(), *again = wr_sums_new();
	struct wr_usage u = {0};
	bool changed;

	(void)state;
	wr_fold_live(child(again, wr_sums_root(again), "z"), 5, 41);
	wr_usage_add(&u, s, true, &changed);
	assert_true(changed);
	/* It has the totals of u, and is taken for the same. */
	wr_usage_add(&u, again, true, &changed);
	assert_false(changed);
	assert_folder(&u, "a/b", 3, 30, 300);
	assert_null(find(&u, "z"));
	wr_usage_add(&u, again, false, &changed);
	assert_true(changed);
	assert_folder(&u, "z", 5, 41, 0);
	wr_fold_live(wr_sums_root(again), 1, 0);
	wr_usage_add(&u, again, true, &changed);
	assert_true(changed);
	assert_int_equal(u.files, 6);
	wr_sums_free(s);
	wr_sums_free(again);
	wr_usage_fini(&u);
}

static int
open_file(void)
{
	char name[64];
	struct wr_id key = wr_obj_id(WR_OBJ_BLOB, SOURCE, strlen(SOURCE));
	int fd;

	snprintf(name, sizeof(name), "warren/sums/%s", wr_id_hex(&key).s);
	fd = openat(wr_repo_fd(tt.repo), name, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void
test_file__there_and_back_and_damaged(void **state)
{
	struct wr_sums *s = count_some();
	struct wr_usage u = {.at = 7, .left_out_files = 8, .left_out_bytes = 9}, back;
	bool changed;
	struct stat st;
	int fd;

	(void)state;
	wr_usage_load(tt.repo, SOURCE, &back);
	assert_int_equal(back.at, 0);
	wr_usage_add(&u, s, false, &changed);
	u.measured = 10;
	u.packs = 11;
	u.needed = 12;
	u.then = 13;
	wr_usage_store(tt.repo, SOURCE, &u);
	wr_usage_load(tt.repo, SOURCE, &back);
	assert_true(back.at == 7 && back.files == 5 && back.bytes == 41 &&
		    back.left_out_files == 8 && back.left_out_bytes == 9 && back.measured == 10 &&
		    back.packs == 11 && back.needed == 12 && back.then == 13);
	assert_int_equal(back.folder_count, 4);
	assert_folder(&back, "a/b/c", 2, 20, 200);
	wr_usage_fini(&back);
	/* A byte that is another, and an end that is missing: it is empty. */
	fd = open_file();
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t i = 0; i < st.st_size; i++) {
		uint8_t byte, other;

		assert_int_equal(pread(fd, &byte, 1, i), 1);
		other = byte ^ 1;
		assert_int_equal(pwrite(fd, &other, 1, i), 1);
		wr_usage_load(tt.repo, SOURCE, &back);
		assert_int_equal(back.folder_count, 0);
		assert_int_equal(pwrite(fd, &byte, 1, i), 1);
	}
	assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
	wr_usage_load(tt.repo, SOURCE, &back);
	assert_int_equal(back.folder_count, 0);
	close(fd);
	wr_sums_free(s);
	wr_usage_fini(&u);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sums__folders_count_with_all_below),
	    cmocka_unit_test(test_sums__the_heaviest_are_kept),
	    cmocka_unit_test(test_sums__equal_ones_stay_as_they_are),
	    cmocka_unit_test(test_sums__a_tree_that_is_the_same),
	    cmocka_unit_test(test_file__there_and_back_and_damaged),
	};

	return cmocka_run_group_tests(tests, tt_setup, tt_teardown);
}
