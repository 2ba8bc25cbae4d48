/* SPDX-License-Identifier: Apache-2.0 */
/* The recovery point: up to when is everything on a majority? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "serve/control/replicas.h"

struct case_of {
	struct wr_record e;
	struct wr_holding h[WR_MEMBERS_MAX];
};

static void
add(struct case_of *c, enum wr_role role, uint64_t epoch, uint64_t seq, int64_t scan)
{
	size_t i = c->e.member_count++;

	c->e.member[i].role = role;
	c->e.member[i].node.inc = 1;
	snprintf(c->e.member[i].node.id.s, sizeof(c->e.member[i].node.id.s), "node %zu", i);
	c->h[i] = (struct wr_holding){
	    .member = &c->e.member[i], .epoch = epoch, .seq = seq, .scan_started = scan};
}

static int64_t
point(const struct case_of *c)
{
	return wr_recovery_point(&c->e, c->h, c->e.member_count);
}

static void
test_recovery_point__is_what_a_majority_holds(void **state)
{
	struct case_of c = {0};

	(void)state;
	add(&c, WR_ROLE_DATA, 3, 9, 900);
	assert_int_equal(point(&c), 900); /* alone */
	add(&c, WR_ROLE_DATA, 3, 7, 700);
	assert_int_equal(point(&c), 700); /* of two, both */
	add(&c, WR_ROLE_DATA, 2, 40, 400);
	assert_int_equal(point(&c), 700); /* an earlier epoch is older, whatever its number */
	c.h[2].epoch = 3;                 /* 3.40: two hold 3.9 and more */
	assert_int_equal(point(&c), 900);
	c.h[2] = (struct wr_holding){.member = &c.e.member[2]};
	c.h[1] = (struct wr_holding){.member = &c.e.member[1]};
	assert_int_equal(point(&c), 0); /* nothing is heard of the others */
}

static void
test_recovery_point__counts_data_alone(void **state)
{
	struct case_of c = {0};

	(void)state;
	add(&c, WR_ROLE_DATA, 1, 5, 500);
	add(&c, WR_ROLE_WITNESS, 0, 0, 0);
	add(&c, WR_ROLE_LEARNER, 1, 5, 500);
	/* Two vote: both must hold it, and a witness holds nothing, a learner does not count. */
	assert_int_equal(point(&c), 0);
	add(&c, WR_ROLE_DATA, 1, 4, 400);
	assert_int_equal(point(&c), 400);
}

static void
test_held_until__a_clock_that_was_ahead(void **state)
{
	(void)state;
	assert_int_equal(wr_held_until(0, 100, 200), 100);
	assert_int_equal(wr_held_until(150, 100, 200), 150); /* a later scan found nothing new */
	assert_int_equal(wr_held_until(150, 0, 200), 150);
	assert_int_equal(wr_held_until(3800, 190, 200), 190);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_recovery_point__is_what_a_majority_holds),
	    cmocka_unit_test(test_recovery_point__counts_data_alone),
	    cmocka_unit_test(test_held_until__a_clock_that_was_ahead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
