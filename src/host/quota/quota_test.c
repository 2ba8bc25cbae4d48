/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers: limits, grace, project ids. What file systems do is quota_conform's. */
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/quota/quota_int.h"
#include "sys/fs.h"
#include "sys/test_dir.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (MIB << 10)

static void
test_hard(void **state)
{
	(void)state;
	assert_int_equal(wr_quota_hard(100 * MIB), 164 * MIB);
	assert_int_equal(wr_quota_hard(100 * GIB), 105 * GIB);
	/* Whole blocks, never less than was asked for, never past the end. */
	assert_int_equal(wr_quota_hard(1), 4096 + 64 * MIB);
	assert_true(wr_quota_hard(UINT64_MAX) > UINT64_C(1) << 62);
	assert_true(wr_quota_hard(UINT64_MAX) < UINT64_MAX / 2);
}

static void
test_grace(void **state)
{
	const uint64_t disk = GIB, open = wr_quota_hard(disk);
	uint64_t l = 0;

	(void)state;
	l = wr_quota_next(disk, l, 0);
	assert_int_equal(l, open);
	assert_int_equal(wr_quota_next(disk, l, disk), open); /* full is not over */
	assert_string_equal(wr_quota_grace_name(wr_quota_grace(disk, l)), "open");
	l = wr_quota_next(disk, l, disk + 1);
	assert_int_equal(wr_quota_grace(disk, l), WR_GRACE_USED);
	assert_in_range(l, disk + 1, open - 1);
	/* It stays what it is while the project is over, also when nobody remembers anything. */
	assert_int_equal(wr_quota_next(disk, l, open), l);
	l = wr_quota_next(disk, l, disk);
	assert_int_equal(l, disk);
	assert_int_equal(wr_quota_next(disk, l, 2 * disk), disk);
	/* Another disk: all over again. */
	assert_int_equal(wr_quota_next(2 * disk, l, disk), wr_quota_hard(2 * disk));
	assert_int_equal(wr_quota_grace(disk / 2, wr_quota_next(disk / 2, l, disk)), WR_GRACE_USED);
}

static void
test_projid(void **state)
{
	const struct dir *d = *state;
	struct wr_err err = WR_ERR_INIT;
	uint32_t first, again, seen[200];
	struct wr_uuid id, whose;

	wr_uuid_new(&id);
	assert_int_equal(wr_projid_of(d->fd, &id, false, false, &first, &err), 0);
	assert_int_equal(first, 0);
	assert_int_equal(wr_projid_of(d->fd, &id, false, true, &first, &err), 0);
	assert_in_range(first, WR_PROJID_FIRST, WR_PROJID_LAST);
	assert_int_equal(wr_projid_of(d->fd, &id, false, false, &again, &err), 0);
	assert_int_equal(again, first);
	assert_true(wr_projid_owner(d->fd, first, &whose));
	assert_string_equal(whose.s, id.s);
	assert_false(wr_projid_owner(d->fd, first ^ 1, &whose));
	/* Scratch has one of its own, and the same owner. */
	assert_int_equal(wr_projid_of(d->fd, &id, true, false, &again, &err), 0);
	assert_int_equal(again, 0);
	assert_int_equal(wr_projid_of(d->fd, &id, true, true, &again, &err), 0);
	assert_int_not_equal(again, first);
	assert_true(wr_projid_owner(d->fd, again, &whose));
	assert_string_equal(whose.s, id.s);
	for (size_t i = 0; i < WR_ARRAY_LEN(seen); i++) {
		wr_uuid_new(&id);
		assert_int_equal(wr_projid_of(d->fd, &id, false, true, &seen[i], &err), 0);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(seen[i], seen[j]);
	}
}

/* All the places that an id leads to are taken, one by one. */
static void
test_projid_taken(void **state)
{
	const struct dir *d = *state;
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid id, other, whose;
	uint32_t last = 0, number;
	unsigned n = 0;

	wr_uuid_new(&id);
	wr_uuid_new(&other);
	while (wr_projid_of(d->fd, &id, false, true, &number, &err) == 0) {
		char name[40];

		assert_int_not_equal(number, last);
		last = number;
		assert_true(wr_projid_owner(d->fd, number, &whose));
		assert_string_equal(whose.s, id.s);
		snprintf(name, sizeof(name), "projid/%u", number);
		assert_int_equal(unlinkat(d->fd, name, 0), 0);
		assert_int_equal(symlinkat(other.s, d->fd, name), 0);
		assert_true(++n <= 8);
	}
	assert_int_equal(err.code, WR_E_LIMIT);
	assert_true(n >= 2);
}

static void
test_none(void **state)
{
	const struct dir *d = *state;
	struct wr_quota q = WR_QUOTA_INIT;
	struct wr_quota_tree t = {.parent_fd = d->fd};
	struct wr_quota_usage u;
	struct wr_err err = WR_ERR_INIT;
	struct stat st;

	wr_uuid_new(&t.id);
	assert_int_equal(wr_quota_open(d->fd, d->fd, d->path, "none", false, &q, &err), 0);
	assert_string_equal(q.caps.driver, "none");
	assert_false(q.caps.bytes);
	assert_string_equal(q.why, "[volume] quota = none");
	assert_int_equal(wr_quota_deny(&q, true), 0);
	assert_int_equal(wr_quota_make_tree(&q, &t, 0700, &err), 0);
	assert_int_equal(fstatat(d->fd, t.id.s, &st, 0), 0);
	assert_int_equal(wr_quota_make_tree(&q, &t, 0700, &err), -1);
	assert_int_equal(err.sys_errno, EEXIST);
	assert_int_equal(wr_quota_usage(&q, &t, &u, &err), -1);
	assert_int_equal(err.code, WR_E_UNSUPPORTED);
	wr_quota_close(&q);
	wr_quota_close(&q);
}

int
main(void)
{
	const struct CMUnitTest all[] = {
	    cmocka_unit_test(test_hard),
	    cmocka_unit_test(test_grace),
	    cmocka_unit_test_setup_teardown(test_projid, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_projid_taken, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_none, setup, teardown),
	};

	return cmocka_run_group_tests_name("quota", all, NULL, NULL);
}
