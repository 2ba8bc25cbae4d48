/* SPDX-License-Identifier: Apache-2.0 */
/* Placement: fixed vectors, who may take a copy, spread over data centres, balance, what moves. */
#include "fleet/place/place.h"

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#define KIND_NODE 0xa0de
#define KIND_PROJECT 0x9107
#define MANY 64

static struct wr_uuid
id_of(unsigned kind, size_t i)
{
	struct wr_uuid id;

	snprintf(id.s, sizeof(id.s), "%08x-0000-4000-8000-%012x", kind, (unsigned)i);
	return id;
}

/* count nodes, in turn in dcs data centres, weights 1 to weights */
static void
make(struct wr_place_node *nodes, size_t count, size_t dcs, uint32_t weights)
{
	static const char *const names[] = {"dc1", "dc2", "dc3", "dc4", "dc5", "dc6"};

	for (size_t i = 0; i < count; i++)
		nodes[i] = (struct wr_place_node){.id = id_of(KIND_NODE, i),
						  .dc = names[i % dcs],
						  .weight = 1 + (uint32_t)i % weights};
}

static struct wr_placer *
placer(const struct wr_place_node *nodes, size_t count)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_placer *p = wr_placer_new(nodes, count, &err);

	assert_non_null(p);
	return p;
}

static struct wr_placement
run(const struct wr_placer *p, size_t project, const struct wr_place_policy *policy,
    enum wr_place_reason *why)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid id = id_of(KIND_PROJECT, project);
	struct wr_placement out;

	assert_int_equal(wr_placer_run(p, &id, policy, &out, why, &err), 0);
	return out;
}

static bool
has(const struct wr_placement *l, size_t node)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->nodes[i] == node)
			return true;
	return false;
}

/* How many of a are not in b. */
static size_t
missing(const struct wr_placement *a, const struct wr_placement *b)
{
	size_t n = 0;

	for (size_t i = 0; i < a->count; i++)
		n += !has(b, a->nodes[i]);
	return n;
}

/* Found by another program with 60 decimal digits for each logarithm. */
static void
test_place__fixed_vectors(void **state)
{
	static const size_t want[][4] = {{2, 0, 1, 6}, {7, 2, 9, 5}, {0, 4, 11, 7}, {7, 2, 6, 4},
					 {1, 3, 5, 7}, {3, 2, 7, 6}, {7, 3, 11, 1}, {11, 10, 3, 7}};
	struct wr_place_policy policy = WR_PLACE_POLICY_INIT;
	struct wr_place_node nodes[12], turned[12];
	WR_SCOPED(wr_placer_freep) struct wr_placer *p = NULL, *q = NULL;

	(void)state;
	make(nodes, 12, 3, 4);
	for (size_t i = 0; i < 12; i++)
		turned[i] = nodes[(i * 5 + 3) % 12];
	p = placer(nodes, 12);
	q = placer(turned, 12);
	policy.replicas = 4;
	for (size_t i = 0; i < WR_ARRAY_LEN(want); i++) {
		struct wr_placement a = run(p, i, &policy, NULL), b = run(q, i, &policy, NULL);

		assert_int_equal(a.count, 4);
		assert_int_equal(a.dcs, 3);
		for (size_t k = 0; k < 4; k++) {
			assert_int_equal(a.nodes[k], want[i][k]);
			/* The order in which nodes are given decides nothing. */
			assert_int_equal((b.nodes[k] * 5 + 3) % 12, want[i][k]);
		}
	}
}

static void
test_place__never_two_on_a_node_one_per_dc_while_there_is_room(void **state)
{
	struct wr_place_policy policy = WR_PLACE_POLICY_INIT;
	struct wr_place_node nodes[14];
	size_t dcs = 4;
	WR_SCOPED(wr_placer_freep) struct wr_placer *p = NULL;

	(void)state;
	make(nodes, 14, dcs, 5);
	p = placer(nodes, 14);
	for (unsigned replicas = 1; replicas <= WR_PLACE_REPLICAS_MAX; replicas++)
		for (size_t i = 0; i < 300; i++) {
			struct wr_placement l;
			unsigned in[4] = {0};

			policy.replicas = replicas;
			l = run(p, i, &policy, NULL);
			assert_int_equal(l.wanted, replicas);
			assert_int_equal(l.count, WR_MIN(replicas, 14u));
			for (size_t k = 0; k < l.count; k++) {
				in[l.nodes[k] % dcs]++;
				for (size_t j = 0; j < k; j++)
					assert_true(l.nodes[j] != l.nodes[k]);
				/* Of the first k+1 none is alone while another has two more. */
				for (size_t d = 0; d < dcs; d++)
					assert_true(in[l.nodes[k] % dcs] <= in[d] + 1 ||
						    in[d] >= 3);
			}
			assert_int_equal(l.dcs, WR_MIN(replicas, (unsigned)dcs));
		}
	policy.replicas = 10;
	policy.per_dc = 2;
	assert_int_equal(run(p, 1, &policy, NULL).count, 8);
}

static void
test_place__who_may_not(void **state)
{
	static const char *const only[] = {"dc2", "nowhere"};
	struct wr_place_policy policy = WR_PLACE_POLICY_INIT;
	enum wr_place_reason why[12];
	struct wr_place_node nodes[12];
	struct wr_uuid project = id_of(KIND_PROJECT, 0);
	struct wr_placement l;
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_placer_freep) struct wr_placer *p = NULL, *q = NULL;

	(void)state;
	make(nodes, 12, 3, 1);
	nodes[0].removed = true;
	nodes[1].draining = true;
	nodes[2].experimental = true;
	nodes[3].full = true;
	nodes[4].weight = 0;
	p = placer(nodes, 12);
	for (size_t i = 0; i < 2000; i++) {
		l = run(p, i, &policy, why);
		assert_int_equal(l.count, 3);
		assert_int_equal(why[0], WR_PLACE_REMOVED);
		assert_int_equal(why[1], WR_PLACE_DRAINING);
		assert_int_equal(why[2], WR_PLACE_EXPERIMENTAL);
		assert_int_equal(why[3], WR_PLACE_FULL);
		assert_int_equal(why[4], WR_PLACE_NO_WEIGHT);
		for (size_t n = 5; n < 12; n++)
			assert_int_equal(why[n], has(&l, n) ? WR_PLACE_CHOSEN : WR_PLACE_LOWER);
	}
	policy.replicas = 1;
	l = run(p, 0, &policy, why);
	for (size_t n = 5; n < 12; n++)
		assert_int_equal(why[n], n == l.nodes[0]           ? WR_PLACE_CHOSEN
					 : n % 3 == l.nodes[0] % 3 ? WR_PLACE_LOWER
								   : WR_PLACE_OTHER_DC);
	policy.replicas = 0;
	policy.allow_experimental = true;
	policy.allowed = only;
	policy.allowed_count = 1;
	l = run(p, 0, &policy, why);
	assert_int_equal(l.count, 2); /* 7 and 10; 1 and 4 are in dc2, too */
	assert_int_equal(l.dcs, 1);
	assert_int_equal(why[0], WR_PLACE_REMOVED);
	assert_int_equal(why[5], WR_PLACE_DC_NOT_ALLOWED);
	policy.replicas = 9;
	l = run(p, 0, &policy, why);
	assert_int_equal(l.wanted, 9);
	assert_int_equal(l.count, 2);
	policy.allowed = only + 1;
	assert_int_equal(wr_placer_run(p, &project, &policy, &l, NULL, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_true(*err.hint);
	/* No nodes at all is a fleet, too. */
	q = placer(NULL, 0);
	assert_int_equal(wr_placer_run(q, &project, &policy, &l, NULL, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
}

static void
test_place__first_ones(void **state)
{
	static const char *const first[] = {"dc3", "dc9", "dc1"};
	struct wr_place_policy policy = WR_PLACE_POLICY_INIT;
	struct wr_place_node nodes[20];
	WR_SCOPED(wr_placer_freep) struct wr_placer *p = NULL;

	(void)state;
	make(nodes, 20, 5, 3);
	nodes[7].draining = true;
	p = placer(nodes, 20);
	for (size_t i = 0; i < 500; i++) {
		struct wr_placement l;

		policy = (struct wr_place_policy)WR_PLACE_POLICY_INIT;
		policy.first = first;
		policy.first_count = 3;
		l = run(p, i, &policy, NULL);
		assert_int_equal(l.count, 3);
		assert_int_equal(l.dcs, 3);
		assert_int_equal(l.first_none, 1);
		assert_string_equal(nodes[l.nodes[0]].dc, "dc3");
		assert_string_equal(nodes[l.nodes[1]].dc, "dc1");
		/* The node where it is made stays first, be it draining; its centre has its share.
		 */
		policy.has_fixed = true;
		policy.fixed = 7;
		l = run(p, i, &policy, NULL);
		assert_int_equal(l.nodes[0], 7);
		assert_string_equal(nodes[l.nodes[1]].dc, "dc1");
		assert_int_equal(l.dcs, 3);
		policy.first_count = 0;
		l = run(p, i, &policy, NULL);
		assert_int_equal(l.nodes[0], 7);
		assert_int_equal(l.dcs, 3);
	}
}

/* Data centres of equal weight: each has a copy of 3 in 5 projects, each node its part of that. */
static void
test_place__balance(void **state)
{
	enum { NODES = 60, PROJECTS = 150000 };
	struct wr_place_policy policy = WR_PLACE_POLICY_INIT;
	struct wr_place_node nodes[NODES];
	size_t copies[NODES] = {0}, writers[NODES] = {0};
	double sum = 0;
	WR_SCOPED(wr_placer_freep) struct wr_placer *p = NULL;

	(void)state;
	make(nodes, NODES, 5, 1);
	for (size_t i = 0; i < NODES; i++)
		sum += nodes[i].weight = 1 + (uint32_t)(i / 5 % 3);
	p = placer(nodes, NODES);
	for (size_t i = 0; i < PROJECTS; i++) {
		struct wr_placement l = run(p, i, &policy, NULL);

		writers[l.nodes[0]]++;
		for (size_t k = 0; k < l.count; k++)
			copies[l.nodes[k]]++;
	}
	for (size_t i = 0; i < NODES; i++) {
		double ideal = PROJECTS * nodes[i].weight / sum;

		/* Five standard deviations, or a little more. */
		assert_true((double)copies[i] > 3 * ideal * 0.94);
		assert_true((double)copies[i] < 3 * ideal * 1.06);
		assert_true((double)writers[i] > ideal * 0.88);
		assert_true((double)writers[i] < ideal * 1.12);
	}
}

enum change { ADD, DRAIN, HEAVIER, LIGHTER };

/* What one change of node 5 moves: only to it, or only from it, and at most one copy a project. */
static void
moves(size_t count, size_t dcs, enum change change)
{
	enum { PROJECTS = 3000 };
	struct wr_place_policy policy = WR_PLACE_POLICY_INIT;
	struct wr_place_node nodes[MANY];
	size_t moved = 0;
	WR_SCOPED(wr_placer_freep) struct wr_placer *p = NULL, *q = NULL;

	make(nodes, count, dcs, 4);
	nodes[5].weight = 3;
	nodes[5].draining = change == ADD;
	p = placer(nodes, count);
	nodes[5].draining = change == DRAIN;
	nodes[5].weight = change == HEAVIER ? 6 : change == LIGHTER ? 1 : 3;
	q = placer(nodes, count);
	for (unsigned replicas = 1; replicas <= 5; replicas++)
		for (size_t i = 0; i < PROJECTS; i++) {
			struct wr_placement a, b;
			size_t n;

			policy.replicas = replicas;
			a = run(p, i, &policy, NULL);
			b = run(q, i, &policy, NULL);
			n = missing(&a, &b);
			assert_true(n <= 1);
			moved += n;
			if (n == 1 && (change == ADD || change == HEAVIER))
				assert_true(has(&b, 5) && !has(&a, 5));
			if (n == 1 && (change == DRAIN || change == LIGHTER))
				assert_true(has(&a, 5) && !has(&b, 5));
			if (change == ADD)
				assert_true(!has(&a, 5));
			if (change == DRAIN)
				assert_true(!has(&b, 5));
		}
	assert_true(moved > 0);
}

static void
test_place__what_moves(void **state)
{
	static const size_t dcs[] = {1, 2, 3, 5};

	(void)state;
	for (size_t d = 0; d < WR_ARRAY_LEN(dcs); d++)
		for (enum change c = ADD; c <= LIGHTER; c++) {
			moves(24, dcs[d], c);
			moves(7, dcs[d], c);
		}
}

static void
test_place__more_data_centres_than_a_few(void **state)
{
	struct wr_place_policy policy = WR_PLACE_POLICY_INIT;
	struct wr_place_node nodes[MANY];
	char names[MANY][8];
	WR_SCOPED(wr_placer_freep) struct wr_placer *p = NULL;

	(void)state;
	make(nodes, MANY, 1, 2);
	for (size_t i = 0; i < MANY; i++) {
		snprintf(names[i], sizeof(names[i]), "dc%zu", i / 2);
		nodes[i].dc = names[i];
	}
	p = placer(nodes, MANY);
	memset(names, 'x', sizeof(names)); /* what was given is no longer needed */
	policy.replicas = WR_PLACE_REPLICAS_MAX;
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(run(p, i, &policy, NULL).dcs, WR_PLACE_REPLICAS_MAX);
}

static void
test_place__refusals(void **state)
{
	struct wr_place_policy policy = WR_PLACE_POLICY_INIT;
	struct wr_uuid project = id_of(KIND_PROJECT, 0);
	struct wr_place_node nodes[3];
	struct wr_placement l;
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_placer_freep) struct wr_placer *p = NULL;

	(void)state;
	make(nodes, 3, 3, 1);
	nodes[1].id = nodes[2].id;
	assert_null(wr_placer_new(nodes, 3, &err));
	assert_non_null(strstr(err.msg, "is there twice"));
	make(nodes, 3, 3, 1);
	nodes[1].id.s[3] = 'X';
	assert_null(wr_placer_new(nodes, 3, &err));
	assert_int_equal(err.code, WR_E_INVALID);
	make(nodes, 3, 3, 1);
	nodes[1].dc = "";
	assert_null(wr_placer_new(nodes, 3, &err));
	assert_non_null(strstr(err.msg, "has no data centre"));
	assert_null(wr_placer_new(nodes, (size_t)WR_PLACE_NODES_MAX + 1, &err));
	assert_int_equal(err.code, WR_E_LIMIT);
	make(nodes, 3, 3, 1);
	nodes[2].removed = true;
	p = placer(nodes, 3);
	policy.replicas = WR_PLACE_REPLICAS_MAX + 1;
	assert_int_equal(wr_placer_run(p, &project, &policy, &l, NULL, &err), -1);
	assert_int_equal(err.code, WR_E_INVALID);
	policy.replicas = 2;
	policy.has_fixed = true;
	policy.fixed = 3;
	assert_int_equal(wr_placer_run(p, &project, &policy, &l, NULL, &err), -1);
	policy.fixed = 2;
	assert_int_equal(wr_placer_run(p, &project, &policy, &l, NULL, &err), -1);
	assert_non_null(strstr(err.msg, "was removed"));
	policy.fixed = 1;
	assert_int_equal(wr_placer_run(p, &project, &policy, &l, NULL, &err), 0);
	assert_int_equal(l.nodes[0], 1);
	for (unsigned r = 0; r <= WR_PLACE_REASONS; r++) {
		assert_non_null(wr_place_reason_name(r));
		assert_non_null(wr_place_reason_text(r));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_place__fixed_vectors),
	    cmocka_unit_test(test_place__never_two_on_a_node_one_per_dc_while_there_is_room),
	    cmocka_unit_test(test_place__who_may_not),
	    cmocka_unit_test(test_place__first_ones),
	    cmocka_unit_test(test_place__balance),
	    cmocka_unit_test(test_place__what_moves),
	    cmocka_unit_test(test_place__more_data_centres_than_a_few),
	    cmocka_unit_test(test_place__refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
