/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/rules/test_rules.h"

#include "fleet/rules/lease.h"

#define S WR_SECOND_NS

static int
setup(void **state)
{
	struct test_world *w = wr_malloc(sizeof(*w));

	test_world_init(w);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	test_world_fini(*state);
	free(*state);
	return 0;
}

static void
test_w1__counts_from_the_sending(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_record(w, 1, 0, "ddwl", 0);
	struct wr_epoch other = test_n(2);
	struct wr_lease l;

	wr_lease_init(&l, &w->node[0]);
	wr_lease_record(&l, &e);
	wr_lease_round_begin(&l, 1, 100 * S, true);
	assert_int_equal(wr_lease_until(&l), 0);
	assert_false(wr_lease_answer(&l, 1, &w->node[0], &e.n, true)); /* itself, again */
	assert_false(wr_lease_answer(&l, 1, &w->node[3], &e.n, true)); /* a learner */
	assert_false(wr_lease_answer(&l, 1, &w->node[1], &e.n, false));
	assert_false(wr_lease_answer(&l, 1, &w->node[1], &other, true));
	assert_false(wr_lease_answer(&l, 9, &w->node[1], &e.n, true));
	assert_true(wr_lease_answer(&l, 1, &w->node[2], &e.n, true)); /* a witness votes */
	assert_true(wr_lease_until(&l) == 100 * S + WR_LEASE_NS);
	assert_true(wr_lease_holds(&l, 130 * S - 1) && !wr_lease_holds(&l, 130 * S));
	/* the answer to an older round comes late: nothing becomes shorter */
	wr_lease_round_begin(&l, 2, 110 * S, true);
	wr_lease_round_begin(&l, 3, 120 * S, true);
	assert_true(wr_lease_answer(&l, 3, &w->node[1], &e.n, true));
	assert_false(wr_lease_answer(&l, 2, &w->node[1], &e.n, true));
	assert_true(wr_lease_until(&l) == 120 * S + WR_LEASE_NS);
}

static void
test_w1__one_that_promised_away_does_not_count_itself(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_record(w, 1, 0, "ddd", 0), one = test_record(w, 1, 0, "d", 0);
	struct wr_lease l;

	wr_lease_init(&l, &w->node[0]);
	wr_lease_record(&l, &e);
	wr_lease_round_begin(&l, 1, 100 * S, false);
	assert_false(wr_lease_answer(&l, 1, &w->node[1], &e.n, true));
	assert_false(wr_lease_answer(&l, 1, &w->node[2], &e.n, true));
	wr_lease_init(&l, &w->node[0]);
	wr_lease_record(&l, &one);
	wr_lease_round_begin(&l, 1, 100 * S, true); /* alone: at once */
	assert_true(wr_lease_holds(&l, 101 * S));
	wr_lease_drop(&l);
	assert_false(wr_lease_holds(&l, 101 * S));
}

static void
test_w1__goes_on_only_with_the_same_voters(void **state)
{
	struct test_world *w = *state;
	struct wr_record e1 = test_record(w, 1, 0, "ddd", 0), e2 = test_record(w, 2, 1, "dddl", 0),
			 e3 = test_record(w, 3, 2, "dddd", 0), e5 = test_record(w, 5, 4, "dddd", 0);
	struct wr_lease l;

	wr_lease_init(&l, &w->node[0]);
	wr_lease_record(&l, &e1);
	wr_lease_round_begin(&l, 1, 100 * S, true);
	wr_lease_answer(&l, 1, &w->node[1], &e1.n, true);
	wr_lease_record(&l, &e2);
	assert_true(wr_lease_holds(&l, 129 * S));
	assert_false(wr_lease_answer(&l, 1, &w->node[2], &e1.n, true)); /* of the old record */
	wr_lease_record(&l, &e3);
	assert_false(wr_lease_holds(&l, 129 * S));
	wr_lease_round_begin(&l, 2, 110 * S, true);
	wr_lease_answer(&l, 2, &w->node[1], &e3.n, true);
	assert_false(wr_lease_holds(&l, 111 * S)); /* two of four */
	wr_lease_answer(&l, 2, &w->node[2], &e3.n, true);
	assert_true(wr_lease_holds(&l, 111 * S));
	wr_lease_record(&l, &e5); /* it never saw 4 */
	assert_false(wr_lease_holds(&l, 111 * S));
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_w1__counts_from_the_sending),
	    T(test_w1__one_that_promised_away_does_not_count_itself),
	    T(test_w1__goes_on_only_with_the_same_voters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
