/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/rules/test_rules.h"

#include "fleet/rules/drop.h"

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

/* a, b, c hold a save; d was a member, holds it too, and hides. */
static struct wr_drop_opts
prepare(struct test_world *w, const char *roles, struct wr_record *e2)
{
	struct wr_record e = test_first(w, "dddd", 0);
	struct wr_drop_opts o = {.nonce = {1, 2, 3}, .request = 50};
	struct wr_member_out out;
	struct wr_save_rec s;

	test_save(w, 0, 1, 1, 1, &s);
	for (int i = 0; i < 4; i++)
		assert_int_equal(test_push(w, i, &e, &s, false, NULL), WR_PUSH_TAKE);
	wr_save_rec_fini(&s);
	*e2 = test_record(w, 2, 1, roles, 0);
	test_base(w, e2, &w->s[0].save);
	for (int i = 0; i < 4; i++)
		test_install(w, i, e2, &out);
	o.expected = wr_digest_of("proof", 5);
	o.save = w->s[3].save_bytes;
	return o;
}

/* The nodes in `to` answer; has: whether they have it all. */
static void
answer(struct test_world *w, struct wr_drop *d, const char *to, bool has,
       const struct wr_digest *proof)
{
	struct wr_node_id node;

	for (;;) {
		struct wr_msg m = WR_MSG_INIT, a = WR_MSG_INIT;
		struct wr_member_out out;

		if (!wr_drop_next(d, &node, &m))
			break;
		for (int i = 0; i < TEST_NODES; i++) {
			if (!wr_node_id_eq(&node, &w->node[i]) || !strchr(to, 'a' + i))
				continue;
			wr_member_attest(&w->s[i], &w->env[i], &m, has, proof, &a, &out);
			a.from = w->node[i];
			wr_drop_answer(d, &w->env[3], &a);
		}
		wr_msg_fini(&m);
		wr_msg_fini(&a);
	}
}

static void
test_x1__a_voter_never_deletes(void **state)
{
	struct test_world *w = *state;
	struct wr_record e;
	struct wr_drop_opts o = prepare(w, "ddd-", &e);
	struct wr_drop d;

	assert_int_equal(wr_drop_need(&w->s[0], &w->env[0], NULL), WR_DROP_NEVER);
	assert_int_equal(wr_drop_need(&w->s[4], &w->env[4], NULL), WR_DROP_NEVER); /* unknown */
	assert_int_equal(wr_drop_need(&w->s[3], &w->env[3], NULL), WR_DROP_PROVE);
	assert_int_equal(wr_drop_begin(&d, &w->s[3], &w->env[3], &o, NULL), -1); /* not hidden */
	w->env[3].amnesia = true;
	assert_int_equal(wr_drop_need(&w->s[3], &w->env[3], NULL), WR_DROP_NEVER);
}

static void
test_x1__a_majority_of_the_members_proves(void **state)
{
	struct test_world *w = *state;
	struct wr_record e;
	struct wr_drop_opts o = prepare(w, "ddd-", &e);
	uint64_t now = w->env[3].now_ns;
	struct wr_drop d;

	w->s[3].hidden = true;
	assert_int_equal(wr_drop_begin(&d, &w->s[3], &w->env[3], &o, NULL), 0);
	answer(w, &d, "a", true, &o.expected);
	assert_int_equal(wr_drop_tick(&d, now), WR_DROP_WAIT);
	assert_int_equal(wr_drop_commit(&d, &w->s[3], &w->env[3], NULL), -1);
	assert_int_equal(wr_drop_tick(&d, now + 6 * WR_SECOND_NS), WR_DROP_WAIT); /* asks again */
	answer(w, &d, "ab", true, &o.expected);
	assert_int_equal(wr_drop_tick(&d, now), WR_DROP_PROVEN);
	w->s[3].hidden = false; /* a push came in between */
	assert_int_equal(wr_drop_commit(&d, &w->s[3], &w->env[3], NULL), -1);
	w->s[3].hidden = true;
	assert_int_equal(wr_drop_commit(&d, &w->s[3], &w->env[3], NULL), 0);
	assert_false(w->s[3].has_save);
	wr_drop_fini(&d);
}

static void
test_x1__without_proofs_it_stays(void **state)
{
	struct test_world *w = *state;
	struct wr_record e;
	struct wr_drop_opts o = prepare(w, "ddd-", &e);
	struct wr_digest wrong = wr_digest_of("late", 4);
	uint64_t now = w->env[3].now_ns;
	struct wr_drop d;

	w->s[3].hidden = true;
	assert_int_equal(wr_drop_begin(&d, &w->s[3], &w->env[3], &o, NULL), 0);
	answer(w, &d, "a", true, &o.expected);
	assert_int_equal(wr_drop_tick(&d, now + 61 * WR_SECOND_NS), WR_DROP_KEEP);
	wr_drop_fini(&d);
	assert_int_equal(wr_drop_begin(&d, &w->s[3], &w->env[3], &o, NULL), 0);
	answer(w, &d, "abc", true, &wrong); /* of an earlier challenge */
	assert_int_equal(wr_drop_tick(&d, now), WR_DROP_KEEP);
	assert_non_null(strstr(d.why.msg, "proof is wrong"));
	wr_drop_fini(&d);
	assert_int_equal(wr_drop_begin(&d, &w->s[3], &w->env[3], &o, NULL), 0);
	answer(w, &d, "abc", false, &o.expected);
	assert_int_equal(wr_drop_tick(&d, now), WR_DROP_KEEP);
	wr_drop_fini(&d);
}

/* A member that has nothing, and hands on what another one answered. */
static void
test_x1__another_ones_proof_is_none(void **state)
{
	struct test_world *w = *state;
	struct wr_record e;
	struct wr_drop_opts o = prepare(w, "ddd-", &e);
	uint64_t now = w->env[3].now_ns;
	struct wr_digest of_a = {{0}};
	struct wr_node_id node;
	struct wr_drop d;

	w->s[3].hidden = true;
	assert_int_equal(wr_drop_begin(&d, &w->s[3], &w->env[3], &o, NULL), 0);
	for (;;) {
		struct wr_msg m = WR_MSG_INIT, a = WR_MSG_INIT;
		struct wr_member_out out;

		if (!wr_drop_next(&d, &node, &m))
			break;
		wr_member_attest(&w->s[0], &w->env[0], &m, true, &o.expected, &a, &out);
		if (wr_node_id_eq(&node, &w->node[0]))
			of_a = a.digest;
		assert_memory_equal(a.digest.b, of_a.b, sizeof(of_a.b));
		a.from = node;
		wr_drop_answer(&d, &w->env[3], &a);
		wr_msg_fini(&m);
		wr_msg_fini(&a);
	}
	assert_int_equal(wr_drop_tick(&d, now), WR_DROP_KEEP);
	assert_non_null(strstr(d.why.msg, "proof is wrong"));
	wr_drop_fini(&d);
}

/* F5: who is hidden proves nothing, nor who knows of a newer record; a witness has nothing. */
static void
test_x1__who_may_not_prove(void **state)
{
	struct test_world *w = *state;
	struct wr_record e, e3;
	struct wr_drop_opts o = prepare(w, "ddw-", &e);
	uint64_t now = w->env[3].now_ns;
	struct wr_member_out out;
	struct wr_drop d;

	w->s[3].hidden = w->s[1].hidden = true;
	assert_int_equal(wr_drop_begin(&d, &w->s[3], &w->env[3], &o, NULL), 0);
	answer(w, &d, "abc", true, &o.expected);
	assert_int_equal(wr_drop_tick(&d, now), WR_DROP_KEEP);
	wr_drop_fini(&d);
	w->s[1].hidden = false;
	e3 = test_record(w, 3, 2, "dd-d", 0);
	test_install(w, 0, &e3, &out);
	assert_int_equal(wr_drop_begin(&d, &w->s[3], &w->env[3], &o, NULL), 0);
	answer(w, &d, "a", true, &o.expected);
	assert_int_equal(wr_drop_tick(&d, now), WR_DROP_KEEP);
	assert_true(d.has_newer && wr_epoch_cmp(&d.newer.n, &e3.n) == 0);
	wr_drop_fini(&d);
}

static void
test_x3__a_deleted_project_needs_no_proof(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_member_out out;

	e = test_record(w, 2, 1, "ddd", 0);
	e.state = WR_RECORD_DELETED;
	assert_int_equal(wr_record_sign(&e, &w->hub, NULL), 0);
	test_install(w, 0, &e, &out);
	assert_int_equal(wr_drop_need(&w->s[0], &w->env[0], NULL), WR_DROP_FREE);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_x1__a_voter_never_deletes),   T(test_x1__a_majority_of_the_members_proves),
	    T(test_x1__without_proofs_it_stays), T(test_x1__another_ones_proof_is_none),
	    T(test_x1__who_may_not_prove),       T(test_x3__a_deleted_project_needs_no_proof),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
