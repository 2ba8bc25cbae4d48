/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/rules/test_rules.h"

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
down(struct test_world *w, const char *who)
{
	for (int i = 0; i < TEST_NODES; i++)
		w->down[i] = strchr(who, 'a' + i) != NULL;
}

/* The record of a raise that must end well. */
static struct wr_record
raised(struct test_world *w, const struct wr_raise_opts *o)
{
	struct wr_raise *r = wr_raise_new(o, 1000 * WR_SECOND_NS);
	struct wr_record e;

	if (test_run(w, r) != WR_RAISE_DONE)
		fail_msg("%s", wr_raise_err(r)->msg);
	e = *wr_raise_record(r);
	assert_int_equal(wr_record_verify(&e, &w->fleet, NULL), 0);
	wr_raise_free(r);
	return e;
}

/* Of one that must not. */
static struct wr_err
not_raised(struct test_world *w, const struct wr_raise_opts *o)
{
	struct wr_raise *r = wr_raise_new(o, 1000 * WR_SECOND_NS);
	struct wr_err err;

	assert_int_equal(test_run(w, r), WR_RAISE_FAILED);
	err = *wr_raise_err(r);
	assert_int_not_equal(err.code, WR_E_NONE);
	wr_raise_free(r);
	return err;
}

static void
push(struct test_world *w, const struct wr_record *e, int writer, uint64_t s, const char *to)
{
	struct wr_save_rec save;

	test_save(w, writer, e->n.number, s, (uint8_t)(s + 1), &save);
	save.v.n = e->n;
	assert_int_equal(wr_save_rec_sign(&save, &w->key[writer], NULL), 0);
	for (; *to; to++)
		assert_int_equal(test_push(w, *to - 'a', e, &save, false, NULL), WR_PUSH_TAKE);
	wr_save_rec_fini(&save);
}

/* ---- H1 ---- */

static void
test_h1__outbids_what_was_promised(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_raise_opts o = test_opts(w, &e, 0);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	test_prepare(w, 1, test_n(40), NULL, &a, &out);
	wr_msg_fini(&a);
	e = raised(w, &o);
	assert_int_equal(e.n.number, 41);
	assert_int_equal(e.prev.number, 1);
	assert_true(wr_node_id_eq(&e.writer, &w->node[0])); /* the same again */
}

static void
test_h1__learns_the_record_it_does_not_know(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_WRITER);
	struct wr_record e2, e3;

	o.node = w->node[1];
	e2 = raised(w, &o);
	o = test_opts(w, NULL, 0);
	o.ask = w->node;
	o.ask_count = 3;
	e3 = raised(w, &o);
	assert_int_equal(wr_epoch_cmp(&e3.prev, &e2.n), 0);
	o = test_opts(w, NULL, 0);
	assert_int_equal(not_raised(w, &o).code, WR_E_NOT_FOUND);
}

/* ---- H2 ---- */

/* F1: s7 is on A and B; A dies, B is away for a minute. C alone is no majority. */
static void
test_f1__acknowledged_and_elected_intersect(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0), e2;
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_WRITER);
	struct wr_err err;

	push(w, &e, 0, 6, "abc");
	push(w, &e, 0, 7, "ab");
	down(w, "ab");
	err = not_raised(w, &o);
	assert_non_null(strstr(err.msg, "1 of 3 voters promised"));
	assert_non_null(strstr(err.msg, "'a', 'b'"));
	down(w, "a");
	o = test_opts(w, &e, WR_WISH_WRITER);
	e2 = raised(w, &o);
	assert_int_equal(e2.base.s, 7);
	assert_true(wr_node_id_eq(&e2.writer, &w->node[1])); /* who has it */
}

static void
test_h2__a_base_that_nobody_holds_needs_accept_loss(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0), e2;
	struct wr_raise_opts o;
	struct wr_raise_node nodes[3];
	struct wr_err err;

	push(w, &e, 0, 6, "abc");
	push(w, &e, 0, 7, "a"); /* LOCAL, but A promises and so it becomes the base */
	o = test_opts(w, &e, 0);
	o.node_count = 0;
	o.wish = WR_WISH_WRITER;
	o.node = w->node[1];
	e2 = raised(w, &o);
	assert_int_equal(e2.base.s, 7);
	down(w, "a");
	o = test_opts(w, &e2, WR_WISH_WRITER);
	for (int i = 0; i < 3; i++)
		nodes[i] = (struct wr_raise_node){.node = w->node[i],
						  .ready = true,
						  .held = {e.n, i ? 6 : 7},
						  .scan_started = i ? 1000 : 1150};
	o.nodes = nodes;
	o.node_count = 3;
	err = not_raised(w, &o);
	assert_string_equal(err.hint,
			    "needs --accept-loss: a has 3 min more; or wait until it is back");
	o.accept_loss = true;
	e2 = raised(w, &o);
	assert_true(e2.accept_loss);
	assert_int_equal(e2.base.s, 6);
}

/* What a damaged copy says it has may be SAFE: it counts, and somebody else must have it. */
static void
test_f20__a_damaged_copy_is_no_source(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0), e2;
	struct wr_raise_opts o;
	struct wr_err err;

	push(w, &e, 0, 6, "abc");
	push(w, &e, 0, 7, "ab");
	w->env[1].damaged = true;
	/* A has it whole, and so it goes on there, whoever is nearer. */
	o = test_opts(w, &e, 0);
	e2 = raised(w, &o);
	assert_int_equal(e2.base.s, 7);
	assert_true(wr_node_id_eq(&e2.writer, &w->node[0]));
	/* Without A: a majority promises, and 7 is known of, but nobody could give it. */
	down(w, "a");
	o = test_opts(w, &e2, WR_WISH_WRITER);
	err = not_raised(w, &o);
	assert_non_null(strstr(err.msg, "damaged copies alone: 'b'"));
	/* Refilled. */
	w->env[1].damaged = false;
	o = test_opts(w, &e2, WR_WISH_WRITER);
	e2 = raised(w, &o);
	assert_int_equal(e2.base.s, 7);
	assert_false(e2.accept_loss);
	assert_true(wr_node_id_eq(&e2.writer, &w->node[1]));
}

static void
test_f20__accept_loss_goes_on_from_what_is_whole(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0), e2;
	struct wr_raise_opts o;

	push(w, &e, 0, 6, "abc");
	push(w, &e, 0, 7, "ab");
	down(w, "a");
	w->env[1].damaged = true;
	o = test_opts(w, &e, WR_WISH_WRITER);
	o.accept_loss = true;
	e2 = raised(w, &o);
	assert_int_equal(e2.base.s, 6);
	assert_true(e2.accept_loss); /* 7 may have been SAFE */
	assert_true(wr_node_id_eq(&e2.writer, &w->node[2]));
	/* Nothing is whole: then what there is. */
	w->env[2].damaged = true;
	o = test_opts(w, &e2, WR_WISH_WRITER);
	o.accept_loss = true;
	e2 = raised(w, &o);
	assert_int_equal(e2.base.s, 7);
	assert_true(wr_node_id_eq(&e2.writer, &w->node[1]));
}

/* F18: a liar's version does not count. */
static void
test_h2__counts_saves_of_the_writer_only(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0), e2;
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_WRITER);

	push(w, &e, 0, 3, "ab");
	test_save(w, 2, 1, 1000000000, 9, &w->s[2].save);
	wr_save_rec_encode(&w->s[2].save, &w->s[2].save_bytes);
	w->s[2].has_save = true;
	e2 = raised(w, &o);
	assert_int_equal(e2.base.s, 3);
}

static void
test_h2__a_learner_may_hold_the_newest(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "dddl", 0), e2;
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_WRITER);

	push(w, &e, 0, 3, "ad");
	down(w, "a");
	e2 = raised(w, &o);
	assert_int_equal(e2.base.s, 3);
	assert_false(wr_node_id_eq(&e2.writer, &w->node[3])); /* but it writes nothing */
}

/* A was taken out while it had a LOCAL save; a hub that does not know yet asks it, too. */
static void
test_h2__only_members_hold_a_base(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "dddd", 0), e2, e3;
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_REMOVE);

	push(w, &e, 0, 1, "abcd");
	push(w, &e, 0, 9, "a");
	down(w, "a");
	o.node = w->node[0];
	e2 = raised(w, &o);
	assert_int_equal(e2.base.s, 1);
	down(w, "");
	o = test_opts(w, &e, WR_WISH_WRITER);
	e3 = raised(w, &o);
	assert_int_equal(wr_epoch_cmp(&e3.prev, &e2.n), 0);
	assert_int_equal(e3.base.s, 1);
}

/* ---- H3 ---- */

static void
test_h3__one_voter_more_or_less(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_ADD);
	struct wr_raise *r;

	push(w, &e, 0, 1, "abc");
	o.node = w->node[3];
	e = raised(w, &o);
	assert_int_equal(wr_record_has(&e, &w->node[3])->role, WR_ROLE_LEARNER);
	assert_true(wr_node_id_eq(&e.writer, &w->node[0]));
	o = test_opts(w, &e, WR_WISH_VOTER);
	o.node = w->node[3];
	r = wr_raise_new(&o, 1000 * WR_SECOND_NS);
	assert_int_equal(test_run(w, r), WR_RAISE_FAILED);
	assert_int_equal(wr_raise_err(r)->code, WR_E_BUSY); /* not filled */
	assert_int_equal(wr_epoch_cmp(&wr_raise_record(r)->prev, &e.n), 0);
	e = *wr_raise_record(r); /* it goes on as before, under the next number */
	assert_int_equal(wr_record_voters(&e), 3);
	assert_true(wr_node_id_eq(&e.writer, &w->node[0]));
	wr_raise_free(r);
	o = test_opts(w, &e, WR_WISH_VOTER);
	push(w, &e, 0, 2, "abcd");
	o.node = w->node[3];
	e = raised(w, &o);
	assert_int_equal(wr_record_voters(&e), 4);
	o = test_opts(w, &e, WR_WISH_REMOVE);
	o.node = w->node[0]; /* the writer itself */
	e = raised(w, &o);
	assert_int_equal(wr_record_voters(&e), 3);
	assert_null(wr_record_has(&e, &w->node[0]));
	assert_int_equal(e.base.s, 2);
	o = test_opts(w, &e, WR_WISH_REMOVE);
	o.node = w->node[1];
	o.min_data = 3;
	assert_int_equal(not_raised(w, &o).code, WR_E_DENIED);
}

/* F7: two hubs change one member each, from the same record of four; a third one knows only what
 * the first made. Without the rule of the clean promise the majorities {a, b} and {c, d} are
 * disjoint. */
static void
test_f7__two_changes_from_one_record(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "dddd", 0), x, y, z;
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_REMOVE);
	struct wr_raise *r;

	/* X takes c out, with the promises of a, b, d; nobody gets its record. */
	o.node = w->node[2];
	o.timeout_ns = 3 * WR_SECOND_NS;
	down(w, "c");
	memset(w->deaf_install, true, sizeof(w->deaf_install));
	r = wr_raise_new(&o, 1000 * WR_SECOND_NS);
	assert_int_equal(test_run(w, r), WR_RAISE_FAILED);
	assert_non_null(wr_raise_record(r));
	x = *wr_raise_record(r);
	wr_raise_free(r);
	assert_int_equal(wr_record_voters(&x), 3);

	/* Y takes a out, with those of b, c, d: two of them promised X's number meanwhile, so it
	 * raises with the same voters first; its record goes to c, d, and one more must have it. */
	memset(w->deaf_install, false, sizeof(w->deaf_install));
	down(w, "a");
	o = test_opts(w, &e, WR_WISH_REMOVE);
	o.node = w->node[0];
	r = wr_raise_new(&o, 1000 * WR_SECOND_NS);
	assert_int_equal(test_run(w, r), WR_RAISE_DONE);
	y = *wr_raise_record(r);
	assert_int_equal(wr_record_voters(&y), 3);
	assert_int_not_equal(wr_epoch_cmp(&y.prev, &e.n), 0); /* there was one in between */
	wr_raise_free(r);
	push(w, &y, y.writer.id.s[7] - '1', 1, "cd");

	/* Z knows only X's record, and reaches only a and b: a majority of it. */
	down(w, "cd");
	o = test_opts(w, &x, WR_WISH_WRITER);
	o.timeout_ns = 3 * WR_SECOND_NS;
	not_raised(w, &o);
	/* With c it learns of Y's, and of what is SAFE there. */
	down(w, "d");
	o = test_opts(w, &x, WR_WISH_WRITER);
	z = raised(w, &o);
	assert_int_equal(z.base.s, 1);
	assert_int_equal(wr_epoch_cmp(&z.prev, &y.n), 0);
}

/* F3: a hub from last night's backup proposes again what was used, and learns. */
static void
test_f3__an_old_catalog_makes_no_second_epoch(void **state)
{
	struct test_world *w = *state;
	struct wr_record e1 = test_first(w, "ddd", 0), e2, e3;
	struct wr_raise_opts o = test_opts(w, &e1, WR_WISH_WRITER);

	o.node = w->node[1];
	down(w, "c");
	e2 = raised(w, &o);
	assert_int_equal(e2.n.number, 2);
	push(w, &e2, 1, 1, "ab");
	/* The other hub knows e1 only, and meets c, which was away, and b. */
	down(w, "a");
	o = test_opts(w, &e1, WR_WISH_WRITER);
	o.node = w->node[2];
	e3 = raised(w, &o);
	assert_true(wr_epoch_cmp(&e3.n, &e2.n) > 0);
	assert_int_equal(wr_epoch_cmp(&e3.prev, &e2.n), 0);
	assert_int_equal(e3.base.s, 1);
}

/* ---- H4, H5, H6 ---- */

static void
test_h4__the_writer_is_ready_and_has_the_newest(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "dddw", 0), e2;
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_WRITER);
	struct wr_raise_node nodes[TEST_NODES];

	for (int i = 0; i < TEST_NODES; i++)
		nodes[i] = (struct wr_raise_node){.node = w->node[i], .ready = i > 0};
	nodes[1].warm = true;
	o.nodes = nodes;
	push(w, &e, 0, 1, "ac");
	e2 = raised(w, &o);
	assert_true(wr_node_id_eq(&e2.writer, &w->node[2])); /* newest before warm */
	o.known = &e2;
	o.node = w->node[3];
	assert_int_equal(not_raised(w, &o).code, WR_E_INVALID); /* a witness */
	o.node.inc = 0;
	o.node_count = 0;
	assert_int_equal(not_raised(w, &o).code, WR_E_FAILED); /* nobody is ready */
}

static void
test_h5__a_running_writer_is_asked(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0), e2;
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_WRITER);

	for (int i = 1; i < 3; i++)
		w->env[i].heard_ns = w->env[i].now_ns;
	w->env[0].self_runs = true;
	o.node = w->node[1];
	o.timeout_ns = 5 * WR_SECOND_NS;
	assert_int_equal(not_raised(w, &o).code, WR_E_BUSY);
	o.ask_grant = WR_GRANT_RELEASE;
	o.need_grant = true;
	assert_int_equal(not_raised(w, &o).code, WR_E_FAILED); /* it runs yet */
	w->env[0].self_runs = false;
	e2 = raised(w, &o);
	assert_true(wr_node_id_eq(&e2.writer, &w->node[1]));
	assert_false(e2.has_consent);
}

static void
test_h5__consent_keeps_the_writer_through_two_raises(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "dddl", 0), e2;
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_REMOVE);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	for (int i = 0; i < 3; i++) { /* some raise came to nothing: not clean */
		test_prepare(w, i, test_n(7), NULL, &a, &out);
		wr_msg_fini(&a);
		w->env[i].heard_ns = w->env[i].now_ns;
	}
	w->env[0].self_runs = true;
	o.node = w->node[2];
	o.ask_grant = WR_GRANT_CONSENT;
	e2 = raised(w, &o);
	assert_true(e2.has_consent && wr_node_id_eq(&e2.writer, &w->node[0]));
	assert_int_equal(wr_record_voters(&e2), 2);
	assert_true(e2.prev.number > 7);
}

static void
test_h6__forced_names_the_dead(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0), e2;
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_WRITER);
	struct wr_node_id dead[] = {w->node[0], w->node[1]};

	push(w, &e, 0, 4, "abc");
	down(w, "ab");
	o.forced = true;
	o.dead = dead;
	o.dead_count = 2;
	o.key = &w->recovery;
	e2 = raised(w, &o);
	assert_true(e2.forced);
	assert_int_equal(e2.member_count, 1);
	assert_int_equal(e2.base.s, 4);
}

/* M5: it joined anew; as a voter of its own it could not be taken out of two. */
static void
test_m5__a_new_incarnation_takes_the_place_of_the_old(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddw", 0);
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_ADD);
	const struct wr_member *m;

	push(w, &e, 0, 4, "ab");
	o.node = w->node[1];
	assert_int_equal(not_raised(w, &o).code, WR_E_EXISTS);
	down(w, "b");
	o = test_opts(w, &e, WR_WISH_ADD);
	o.node = w->node[1];
	o.node.inc++;
	e = raised(w, &o);
	assert_int_equal(e.member_count, 3);
	assert_int_equal(wr_record_voters(&e), 2);
	m = wr_record_has(&e, &o.node);
	assert_true(m && m->role == WR_ROLE_LEARNER);
	/* Not the last copy there is. */
	o = test_opts(w, &e, WR_WISH_ADD);
	o.node = w->node[0];
	o.node.inc++;
	assert_int_equal(not_raised(w, &o).code, WR_E_DENIED);
}

static void
test_x3__delete_and_undelete(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_DELETE);

	e = raised(w, &o);
	assert_int_equal(e.state, WR_RECORD_DELETED);
	o = test_opts(w, &e, 0);
	assert_int_equal(not_raised(w, &o).code, WR_E_NOT_FOUND);
	o = test_opts(w, &e, WR_WISH_UNDELETE);
	e = raised(w, &o);
	assert_int_equal(e.state, WR_RECORD_LIVE);
}

static void
test_x3__who_undeletes_has_it_all_and_writes(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_raise_opts o = test_opts(w, &e, WR_WISH_DELETE);
	struct wr_err err;

	push(w, &e, 0, 4, "ab");
	e = raised(w, &o);
	assert_int_equal(e.base.s, 4);
	o = test_opts(w, &e, WR_WISH_UNDELETE);
	o.node = w->node[2];
	err = not_raised(w, &o);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_string_equal(err.hint, "undelete it on node 'a', 'b'");
	o = test_opts(w, &e, WR_WISH_UNDELETE);
	o.node = w->node[1];
	e = raised(w, &o);
	assert_int_equal(e.state, WR_RECORD_LIVE);
	assert_true(wr_node_id_eq(&e.writer, &w->node[1]));
}

static void
test_first__is_installed_where_it_says(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_record(w, 1, 0, "dd", 1);
	struct wr_raise_opts o = test_opts(w, NULL, 0);
	struct wr_raise *r = wr_raise_new_first(&o, &e, 1000 * WR_SECOND_NS, NULL);

	assert_non_null(r);
	assert_int_equal(test_run(w, r), WR_RAISE_DONE);
	assert_int_equal(wr_raise_record(r)->n.number, 1);
	assert_true(w->s[0].has_record && w->s[1].has_record && !w->s[2].has_record);
	wr_raise_free(r);
	e.member_count = 0;
	assert_null(wr_raise_new_first(&o, &e, 1000 * WR_SECOND_NS, NULL));
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_h1__outbids_what_was_promised),
	    T(test_h1__learns_the_record_it_does_not_know),
	    T(test_f1__acknowledged_and_elected_intersect),
	    T(test_h2__a_base_that_nobody_holds_needs_accept_loss),
	    T(test_f20__a_damaged_copy_is_no_source),
	    T(test_f20__accept_loss_goes_on_from_what_is_whole),
	    T(test_h2__counts_saves_of_the_writer_only),
	    T(test_h2__a_learner_may_hold_the_newest),
	    T(test_h2__only_members_hold_a_base),
	    T(test_h3__one_voter_more_or_less),
	    T(test_f7__two_changes_from_one_record),
	    T(test_f3__an_old_catalog_makes_no_second_epoch),
	    T(test_h4__the_writer_is_ready_and_has_the_newest),
	    T(test_h5__a_running_writer_is_asked),
	    T(test_h5__consent_keeps_the_writer_through_two_raises),
	    T(test_h6__forced_names_the_dead),
	    T(test_m5__a_new_incarnation_takes_the_place_of_the_old),
	    T(test_x3__delete_and_undelete),
	    T(test_x3__who_undeletes_has_it_all_and_writes),
	    T(test_first__is_installed_where_it_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
