/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/rules/test_rules.h"

#include "fleet/rules/safe.h"

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

/* ---- the file ---- */

static void
test_state__survives_the_disk_and_no_damage(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_save_rec s;
	struct wr_buf b = WR_BUF_INIT, again = WR_BUF_INIT;
	struct wr_member_state t;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;
	struct wr_grant g = test_grant(w, WR_GRANT_CONSENT, 0, 1, 2);

	test_save(w, 0, 1, 1, 7, &s);
	assert_int_equal(test_push(w, 1, &e, &s, false, NULL), WR_PUSH_TAKE);
	assert_int_equal(test_prepare(w, 1, test_n(2), &g, &a, &out), WR_MSG_PROMISE);
	wr_member_encode(&w->s[1], &b);
	wr_member_init(&t, &w->project);
	assert_int_equal(wr_member_decode(b.p, b.len, &w->project, &t, NULL), 0);
	wr_member_encode(&t, &again);
	assert_int_equal(again.len, b.len);
	assert_memory_equal(again.p, b.p, b.len);
	assert_true(t.has_consent && t.promised_clean && t.has_save && !t.hidden);
	for (size_t i = 0; i < b.len; i++) {
		struct wr_err err = WR_ERR_INIT;

		b.p[i] ^= 1;
		assert_int_equal(wr_member_decode(b.p, b.len, &w->project, &t, &err), -1);
		assert_int_equal(err.code, WR_E_CORRUPT);
		b.p[i] ^= 1;
		assert_int_equal(wr_member_decode(b.p, i, &w->project, &t, &err), -1);
	}
	assert_int_equal(wr_member_decode(b.p, b.len, &w->fleet.id, &t, NULL), -1);
	wr_member_fini(&t);
	wr_save_rec_fini(&s);
	wr_buf_fini(&b);
	wr_buf_fini(&again);
	wr_msg_fini(&a);
}

/* ---- M1 ---- */

/* Node i heard that writer now. */
static void
heard(struct test_world *w, int i, int writer)
{
	w->env[i].heard_ns = w->env[i].now_ns;
	w->env[i].heard_from = w->node[writer];
}

static void
test_m1__promises_only_more_and_the_same_again(void **state)
{
	struct test_world *w = *state;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	test_first(w, "ddd", 0);
	assert_int_equal(test_prepare(w, 1, test_n(1), NULL, &a, &out), WR_MSG_NACK);
	wr_msg_fini(&a);
	assert_int_equal(test_prepare(w, 1, test_n(3), NULL, &a, &out), WR_MSG_PROMISE);
	assert_true(out.changed && a.flag && a.record.len && !a.save.len);
	wr_msg_fini(&a);
	assert_int_equal(test_prepare(w, 1, test_n(3), NULL, &a, &out), WR_MSG_PROMISE);
	assert_true(!out.changed && a.flag); /* clean as it was said */
	wr_msg_fini(&a);
	assert_int_equal(test_prepare(w, 1, test_n(2), NULL, &a, &out), WR_MSG_NACK);
	assert_int_equal(wr_epoch_cmp(&a.n, &w->s[1].promised), 0);
	assert_int_equal(out.why.code, WR_E_CHANGED);
	wr_msg_fini(&a);
	assert_int_equal(test_prepare(w, 1, test_n(4), NULL, &a, &out), WR_MSG_PROMISE);
	assert_false(a.flag); /* it promised 3 since its record */
	wr_msg_fini(&a);
}

static void
test_m1__two_hubs_with_one_number(void **state)
{
	struct test_world *w = *state;
	struct wr_epoch low = {2, 5}, high = {2, 6};
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	test_first(w, "ddd", 0);
	assert_int_equal(test_prepare(w, 1, high, NULL, &a, &out), WR_MSG_PROMISE);
	wr_msg_fini(&a);
	assert_int_equal(test_prepare(w, 1, low, NULL, &a, &out), WR_MSG_NACK);
	wr_msg_fini(&a);
}

static void
test_m1__holds_while_the_writer_was_heard(void **state)
{
	struct test_world *w = *state;
	struct wr_member_env *env = &w->env[1];
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	test_first(w, "ddd", 0);
	env->heard_from = w->node[0];
	env->heard_ns = env->now_ns - WR_HOLD_NS + 1;
	assert_int_equal(test_prepare(w, 1, test_n(2), NULL, &a, &out), WR_MSG_NACK);
	assert_int_equal(a.code, WR_E_BUSY);
	assert_non_null(strstr(a.hint, "handoff"));
	assert_false(out.changed);
	wr_msg_fini(&a);
	env->heard_ns = env->now_ns - WR_HOLD_NS;
	assert_int_equal(test_prepare(w, 1, test_n(2), NULL, &a, &out), WR_MSG_PROMISE);
	wr_msg_fini(&a);

	env = &w->env[2]; /* after boot everything is held */
	env->held_until_ns = env->now_ns + 1;
	assert_int_equal(test_prepare(w, 2, test_n(2), NULL, &a, &out), WR_MSG_NACK);
	wr_msg_fini(&a);
	w->env[0].self_runs = true; /* a running writer holds itself */
	assert_int_equal(test_prepare(w, 0, test_n(2), NULL, &a, &out), WR_MSG_NACK);
	wr_msg_fini(&a);
}

static void
test_m1__grants_lift_the_hold(void **state)
{
	struct test_world *w = *state;
	struct wr_grant g = test_grant(w, WR_GRANT_RELEASE, 0, 1, 0);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	test_first(w, "ddd", 0);
	for (int i = 0; i < 3; i++)
		heard(w, i, 0);
	assert_int_equal(test_prepare(w, 1, test_n(2), &g, &a, &out), WR_MSG_PROMISE);
	assert_false(w->s[1].has_consent);
	assert_true(out.forget);
	wr_msg_fini(&a);
	g = test_grant(w, WR_GRANT_CONSENT, 0, 1, 3);
	assert_int_equal(test_prepare(w, 2, test_n(2), &g, &a, &out), WR_MSG_NACK); /* for 3 */
	wr_msg_fini(&a);
	g = test_grant(w, WR_GRANT_RELEASE, 1, 1, 0); /* not of the writer */
	assert_int_equal(test_prepare(w, 2, test_n(2), &g, &a, &out), WR_MSG_NACK);
	wr_msg_fini(&a);
	g = test_grant(w, WR_GRANT_RELEASE, 0, 1, 0);
	g.sig.b[3] ^= 1;
	assert_int_equal(test_prepare(w, 2, test_n(2), &g, &a, &out), WR_MSG_NACK);
	wr_msg_fini(&a);
	/* forced: in the writer's name, by the recovery key */
	assert_int_equal(wr_grant_sign(&g, &w->recovery, NULL), 0);
	assert_int_equal(test_prepare(w, 2, test_n(2), &g, &a, &out), WR_MSG_PROMISE);
	wr_msg_fini(&a);
	assert_int_equal(wr_grant_sign(&g, &w->hub, NULL), 0); /* no other key does */
	assert_int_equal(test_prepare(w, 0, test_n(2), &g, &a, &out), WR_MSG_NACK);
	wr_msg_fini(&a);
}

/* ---- M2 ---- */

static void
test_m2__installs_what_was_promised_or_later(void **state)
{
	struct test_world *w = *state;
	struct wr_record e1 = test_first(w, "ddd", 0), e2 = test_record(w, 2, 1, "ddd", 1),
			 e3 = test_record(w, 3, 1, "ddd", 2);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	test_prepare(w, 1, test_n(3), NULL, &a, &out);
	wr_msg_fini(&a);
	assert_int_equal(test_install(w, 1, &e2, &out), WR_MSG_NACK);
	assert_int_equal(test_install(w, 1, &e1, &out), WR_MSG_OK); /* it is here */
	assert_false(out.changed);
	assert_int_equal(test_install(w, 1, &e3, &out), WR_MSG_OK);
	assert_true(out.changed && out.forget);
	assert_int_equal(test_install(w, 1, &e3, &out), WR_MSG_OK);
	assert_false(out.changed);
	assert_int_equal(test_install(w, 0, &e3, &out), WR_MSG_OK); /* without a promise */
	assert_int_equal(wr_epoch_cmp(&w->s[0].promised, &e3.n), 0);
	e3.at = 77; /* I3: not signed so */
	assert_int_equal(test_install(w, 2, &e3, &out), WR_MSG_ERROR);
	assert_int_equal(out.why.code, WR_E_DENIED);
	e3 = test_record(w, 3, 1, "ddd", 0);
	assert_int_equal(test_install(w, 1, &e3, &out), WR_MSG_NACK);
	assert_int_equal(out.why.code, WR_E_CORRUPT);
}

static void
test_m2__consent_is_for_its_writer_alone(void **state)
{
	struct test_world *w = *state;
	struct wr_grant g = test_grant(w, WR_GRANT_CONSENT, 0, 1, 2);
	struct wr_record e;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	test_first(w, "ddd", 0);
	assert_int_equal(test_prepare(w, 1, test_n(2), &g, &a, &out), WR_MSG_PROMISE);
	assert_true(w->s[1].has_consent);
	wr_msg_fini(&a);
	e = test_record(w, 2, 1, "ddd", 2);
	assert_int_equal(test_install(w, 1, &e, &out), WR_MSG_NACK);
	assert_int_equal(out.why.code, WR_E_DENIED);
	e = test_record(w, 2, 1, "ddd", 0);
	assert_int_equal(test_install(w, 1, &e, &out), WR_MSG_OK);
	assert_false(out.forget); /* it runs on */
	/* a later one had its own majority */
	g = test_grant(w, WR_GRANT_CONSENT, 0, 2, 3);
	test_prepare(w, 1, test_n(3), &g, &a, &out);
	wr_msg_fini(&a);
	e = test_record(w, 4, 2, "ddd", 2);
	assert_int_equal(test_install(w, 1, &e, &out), WR_MSG_OK);
}

/* ---- M3 ---- */

static void
test_m3__takes_saves_of_the_writer_in_order(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddwl", 0);
	struct wr_save_rec s1, s2, forged, twin;
	enum wr_msg_kind answer;

	test_save(w, 0, 1, 1, 1, &s1);
	test_save(w, 0, 1, 2, 2, &s2);
	test_save(w, 1, 1, 3, 3, &forged);
	test_save(w, 0, 1, 2, 9, &twin);
	assert_int_equal(test_push(w, 1, &e, &s2, false, &answer), WR_PUSH_TAKE);
	assert_int_equal(answer, WR_MSG_ACK);
	assert_int_equal(test_push(w, 1, &e, &s1, false, &answer), WR_PUSH_HAVE);
	assert_int_equal(test_push(w, 1, &e, &s2, false, &answer), WR_PUSH_HAVE);
	assert_int_equal(answer, WR_MSG_ACK);
	assert_int_equal(test_push(w, 1, &e, &forged, false, &answer), WR_PUSH_REFUSE);
	assert_int_equal(answer, WR_MSG_NACK);
	assert_int_equal(test_push(w, 1, &e, &twin, false, &answer), WR_PUSH_REFUSE);
	assert_int_equal(test_push(w, 2, &e, &s2, false, &answer), WR_PUSH_REFUSE); /* witness */
	assert_int_equal(test_push(w, 3, &e, &s2, false, &answer), WR_PUSH_TAKE);   /* learner */
	assert_int_equal(test_push(w, 4, &e, &s2, false, &answer), WR_PUSH_REFUSE); /* nobody */
	assert_int_equal(answer, WR_MSG_ERROR);
	w->env[3].may_store = false;
	s2.v.s = 5;
	assert_int_equal(wr_save_rec_sign(&s2, &w->key[0], NULL), 0);
	assert_int_equal(test_push(w, 3, &e, &s2, false, &answer), WR_PUSH_REFUSE);
	wr_save_rec_fini(&s1);
	wr_save_rec_fini(&s2);
	wr_save_rec_fini(&forged);
	wr_save_rec_fini(&twin);
}

/* F8: begun under 1, and 2 was promised before the pack was complete. */
static void
test_f8__a_slow_push_outlives_its_right(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_msg m = {.kind = WR_MSG_PUSH, .from = w->node[0]}, a = WR_MSG_INIT;
	struct wr_push push = WR_PUSH_INIT;
	struct wr_member_out out;
	struct wr_save_rec s;

	test_save(w, 0, 1, 1, 1, &s);
	wr_record_encode(&e, &m.record);
	wr_save_rec_encode(&s, &m.save);
	assert_int_equal(wr_member_push_check(&w->s[1], &w->env[1], &m, &push, &a, &out),
			 WR_PUSH_TAKE);
	assert_false(out.heard);
	assert_int_equal(test_prepare(w, 1, test_n(2), NULL, &a, &out), WR_MSG_PROMISE);
	wr_msg_fini(&a);
	assert_int_equal(wr_member_push_commit(&w->s[1], &w->env[1], &m, &push, &a, &out),
			 WR_PUSH_REFUSE);
	assert_int_equal(a.kind, WR_MSG_NACK);
	assert_false(w->s[1].has_save);
	wr_push_fini(&push);
	wr_msg_fini(&m);
	wr_msg_fini(&a);
	wr_save_rec_fini(&s);
}

static void
test_m3__fill_is_the_base_and_nothing_else(void **state)
{
	struct test_world *w = *state;
	struct wr_record e1 = test_first(w, "ddd", 0), e2 = test_record(w, 2, 1, "ddd", 1);
	struct wr_save_rec s, other;
	enum wr_msg_kind answer;

	test_save(w, 0, 1, 4, 4, &s);
	test_save(w, 0, 1, 4, 5, &other);
	test_base(w, &e2, &s);
	assert_int_equal(test_push(w, 1, &e2, &other, true, &answer), WR_PUSH_REFUSE);
	assert_int_equal(test_push(w, 1, &e2, &s, true, &answer), WR_PUSH_FILL);
	assert_int_equal(answer, WR_MSG_ACK);
	assert_false(w->s[1].has_save); /* my version is unchanged, the record is not */
	assert_int_equal(wr_epoch_cmp(&w->s[1].record.n, &e2.n), 0);
	assert_int_equal(test_push(w, 2, &e1, &s, false, &answer), WR_PUSH_TAKE);
	assert_int_equal(test_push(w, 2, &e2, &s, true, &answer), WR_PUSH_FILL); /* newer record */
	assert_int_equal(test_push(w, 2, &e2, &s, true, &answer), WR_PUSH_HAVE);
	wr_save_rec_fini(&s);
	wr_save_rec_fini(&other);
}

/* F20: who is damaged promises, and says so; it acknowledges nothing, not even what it had; objects
 * come from any member. */
static void
test_f20__a_damaged_copy_promises_and_acknowledges_nothing(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddwl", 0);
	struct wr_msg m = {.kind = WR_MSG_PUSH}, a = WR_MSG_INIT;
	struct wr_push push = WR_PUSH_INIT;
	struct wr_member_out out;
	struct wr_save_rec s, next;
	static const struct {
		int from;
		enum wr_push_do what;
	} rows[] = {{0, WR_PUSH_MEND}, {3, WR_PUSH_MEND}, {2, WR_PUSH_REFUSE}, {4, WR_PUSH_REFUSE}};

	test_save(w, 0, 1, 1, 1, &s);
	test_save(w, 0, 1, 2, 2, &next);
	assert_int_equal(test_push(w, 1, &e, &s, false, NULL), WR_PUSH_TAKE);
	w->env[1].damaged = true;
	assert_int_equal(test_push(w, 1, &e, &s, false, NULL), WR_PUSH_MEND);
	assert_int_equal(test_push(w, 1, &e, &next, false, NULL), WR_PUSH_MEND);
	assert_int_equal(w->s[1].save.v.s, 1); /* it moves nothing */
	wr_record_encode(&e, &m.record);
	wr_save_rec_encode(&s, &m.save);
	for (size_t i = 0; i < WR_ARRAY_LEN(rows); i++) {
		m.from = w->node[rows[i].from];
		assert_int_equal(wr_member_push_check(&w->s[1], &w->env[1], &m, &push, &a, &out),
				 rows[i].what);
		assert_int_equal(out.why.code,
				 rows[i].what == WR_PUSH_MEND ? WR_E_NONE : WR_E_DENIED);
		assert_true(a.kind == (rows[i].what == WR_PUSH_MEND ? WR_MSG_NONE : WR_MSG_NACK));
		assert_false(out.changed || out.heard);
		wr_msg_fini(&a);
	}
	assert_int_equal(test_prepare(w, 1, test_n(2), NULL, &a, &out), WR_MSG_PROMISE);
	assert_true(a.damaged && a.save.len > 0);
	wr_msg_fini(&a);
	/* The fence comes first for objects, too. */
	m.from = w->node[0];
	assert_int_equal(wr_member_push_commit(&w->s[1], &w->env[1], &m, &push, &a, &out),
			 WR_PUSH_REFUSE);
	wr_msg_fini(&a);
	w->env[1].damaged = false;
	assert_int_equal(test_prepare(w, 1, test_n(2), NULL, &a, &out), WR_MSG_PROMISE);
	assert_false(a.damaged);
	wr_msg_fini(&a);
	wr_msg_fini(&m);
	wr_push_fini(&push);
	wr_save_rec_fini(&s);
	wr_save_rec_fini(&next);
}

/* A local save of the old writer; in a first record, which has no base, nothing is a fill. */
static void
test_m3__a_tip_off_the_line_becomes_a_side_branch(void **state)
{
	struct test_world *w = *state;
	struct wr_record e1 = test_first(w, "ddd", 0), e2 = test_record(w, 2, 1, "ddd", 1);
	struct wr_msg m = {.kind = WR_MSG_PUSH, .from = w->node[1]}, a = WR_MSG_INIT;
	struct wr_push push = WR_PUSH_INIT;
	struct wr_member_out out;
	struct wr_save_rec s1, s2, open;

	test_save(w, 0, 1, 1, 1, &s1);
	test_save(w, 0, 1, 2, 2, &s2);
	assert_int_equal(test_push(w, 0, &e1, &s1, true, NULL), WR_PUSH_REFUSE);
	assert_int_equal(test_push(w, 0, &e1, &s2, false, NULL), WR_PUSH_TAKE);
	test_base(w, &e2, &s1);
	test_save(w, 1, 2, 0, 1, &open);
	wr_record_encode(&e2, &m.record);
	wr_save_rec_encode(&open, &m.save);
	assert_int_equal(wr_member_push_commit(&w->s[0], &w->env[0], &m, &push, &a, &out),
			 WR_PUSH_TAKE);
	assert_true(push.side && out.heard && out.forget);
	assert_string_equal(push.side_name, "conflict-1.2-a");
	wr_push_fini(&push);
	wr_msg_fini(&m);
	wr_msg_fini(&a);
	wr_save_rec_fini(&s1);
	wr_save_rec_fini(&s2);
	wr_save_rec_fini(&open);
}

/* ---- M4, M5 ---- */

/* KEEP at b. */
static enum wr_keep_say
keep(struct test_world *w, int from, struct wr_epoch n, struct wr_member_out *out)
{
	return wr_member_keep(&w->s[1], &w->env[1], &w->node[from], &n, out);
}

static void
test_m4__keeps_for_the_writer_below_no_promise(void **state)
{
	struct test_world *w = *state;
	struct wr_epoch n = test_n(1);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	test_first(w, "ddd", 0);
	assert_int_equal(keep(w, 0, n, &out), WR_KEEP_OK);
	assert_true(out.heard);
	assert_int_equal(keep(w, 2, n, &out), WR_KEEP_LOST);
	assert_false(out.heard);
	assert_int_equal(test_prepare(w, 1, test_n(2), NULL, &a, &out), WR_MSG_PROMISE);
	wr_msg_fini(&a);
	assert_int_equal(keep(w, 0, n, &out), WR_KEEP_LOST);
	n = test_n(2);
	assert_int_equal(keep(w, 0, n, &out), WR_KEEP_LOST);
}

/* What judging said of whom b heard, as its caller does. */
static void
follow(struct test_world *w, const struct wr_member_out *out)
{
	if (out->forget)
		w->env[1].heard_ns = 0;
	if (out->hold_ns) {
		w->env[1].heard_ns = out->hold_ns;
		w->env[1].heard_from = out->hold_from;
	}
}

/* b never promised 2, and a hub names another writer while a, which b heard, may run. */
static void
test_m4__no_other_writer_while_a_hold_runs(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_save_rec open;
	struct wr_member_out out;
	enum wr_msg_kind answer;

	heard(w, 1, 0);
	e = test_record(w, 2, 1, "ddd", 2);
	assert_int_equal(test_install(w, 1, &e, &out), WR_MSG_OK);
	assert_false(out.forget);
	follow(w, &out);
	assert_int_equal(keep(w, 2, e.n, &out), WR_KEEP_WAIT);
	assert_false(out.heard);
	assert_int_equal(out.why.code, WR_E_BUSY);
	/* Its saves are taken, but are no sign of life that ends the hold. */
	test_save(w, 2, 2, 0, 1, &open);
	assert_int_equal(test_push(w, 1, &e, &open, false, &answer), WR_PUSH_TAKE);
	assert_int_equal(answer, WR_MSG_ACK);
	wr_save_rec_fini(&open);
	assert_int_equal(test_prepare(w, 1, test_n(3), NULL, &a, &out), WR_MSG_NACK);
	assert_non_null(strstr(a.text, "'a' was heard"));
	wr_msg_fini(&a);
	w->env[1].now_ns += WR_HOLD_NS - 1;
	assert_int_equal(keep(w, 2, e.n, &out), WR_KEEP_WAIT);
	w->env[1].now_ns++;
	assert_int_equal(keep(w, 2, e.n, &out), WR_KEEP_OK);
}

static void
test_m4__a_restarted_member_may_have_heard_the_last_writer(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_member_out out;

	w->env[1].held_until_ns = w->env[1].now_ns + WR_SECOND_NS;
	assert_int_equal(keep(w, 0, e.n, &out), WR_KEEP_OK); /* who it was, if it was */
	e = test_record(w, 2, 1, "ddd", 2);
	assert_int_equal(test_install(w, 1, &e, &out), WR_MSG_OK);
	assert_true(wr_node_id_eq(&out.hold_from, &w->node[0]));
	follow(w, &out);
	assert_int_equal(keep(w, 2, e.n, &out), WR_KEEP_WAIT);
	w->env[1].now_ns += WR_SECOND_NS;
	assert_int_equal(keep(w, 2, e.n, &out), WR_KEEP_OK);
}

/* A move, a raise after H, and a writer that learns of its successor do not wait. */
static void
test_m4__what_was_promised_frees_for_the_next(void **state)
{
	struct test_world *w = *state;
	struct wr_grant g = test_grant(w, WR_GRANT_RELEASE, 0, 1, 0);
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	w->env[1].held_until_ns = w->env[1].now_ns + WR_HOLD_NS;
	heard(w, 1, 0);
	assert_int_equal(test_prepare(w, 1, test_n(2), &g, &a, &out), WR_MSG_PROMISE);
	wr_msg_fini(&a);
	follow(w, &out);
	e = test_record(w, 2, 1, "ddd", 2);
	assert_int_equal(test_install(w, 1, &e, &out), WR_MSG_OK);
	follow(w, &out);
	assert_int_equal(keep(w, 2, e.n, &out), WR_KEEP_OK);
	/* Promised, and only then restarted: it was free. */
	w->env[1].heard_ns = 0;
	g = test_grant(w, WR_GRANT_RELEASE, 2, 2, 0);
	assert_int_equal(test_prepare(w, 1, test_n(3), &g, &a, &out), WR_MSG_PROMISE);
	wr_msg_fini(&a);
	e = test_record(w, 3, 2, "ddd", 1);
	assert_int_equal(test_install(w, 1, &e, &out), WR_MSG_OK);
	assert_int_equal(out.hold_ns, 0);
	/* b is the writer itself, and its daemon restarted. */
	e = test_record(w, 4, 3, "ddd", 0);
	assert_int_equal(test_install(w, 1, &e, &out), WR_MSG_OK);
	assert_int_equal(out.hold_ns, 0);
	assert_int_equal(keep(w, 0, e.n, &out), WR_KEEP_OK);
}

/* A consent says that its writer goes on: it frees for no other. */
static void
test_m4__a_consent_frees_nobody(void **state)
{
	struct test_world *w = *state;
	struct wr_grant g = test_grant(w, WR_GRANT_CONSENT, 0, 1, 2);
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	heard(w, 1, 0);
	assert_int_equal(test_prepare(w, 1, test_n(2), &g, &a, &out), WR_MSG_PROMISE);
	wr_msg_fini(&a);
	assert_false(out.forget);
	e = test_record(w, 3, 1, "ddd", 2);
	assert_int_equal(test_install(w, 1, &e, &out), WR_MSG_OK);
	follow(w, &out);
	assert_int_equal(keep(w, 2, e.n, &out), WR_KEEP_WAIT);
}

/* F6: set back to an image, it neither promises nor acknowledges; nor does a voter without a file.
 */
static void
test_f6__nodes_with_amnesia_do_not_vote(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0), e2 = test_record(w, 2, 1, "dddld", 0);
	struct wr_save_rec s;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;
	enum wr_msg_kind answer;

	test_save(w, 0, 1, 1, 1, &s);
	w->env[1].amnesia = true;
	assert_int_equal(test_prepare(w, 1, test_n(2), NULL, &a, &out), WR_MSG_ERROR);
	wr_msg_fini(&a);
	assert_int_equal(test_push(w, 1, &e, &s, false, &answer), WR_PUSH_REFUSE);
	assert_int_equal(answer, WR_MSG_ERROR);
	assert_int_equal(test_install(w, 1, &e2, &out), WR_MSG_ERROR);
	assert_int_equal(keep(w, 0, test_n(1), &out), WR_KEEP_LOST);
	w->env[0].amnesia = true;
	assert_int_equal(wr_writer_stand(&w->s[0], &w->env[0], NULL), WR_WRITER_NOT);
	/* d is new as a learner; e would be a voter that knows nothing */
	assert_int_equal(test_install(w, 3, &e2, &out), WR_MSG_OK);
	assert_int_equal(test_install(w, 4, &e2, &out), WR_MSG_ERROR);
	assert_int_equal(out.why.code, WR_E_DENIED);
	/* Nor does the first record make a voter of who was one already: its saves would count
	 * anew. */
	wr_member_fini(&w->s[2]);
	wr_member_init(&w->s[2], &w->project);
	w->env[2].forgot = true;
	assert_int_equal(test_install(w, 2, &e, &out), WR_MSG_ERROR);
	assert_int_equal(test_push(w, 2, &e, &s, false, &answer), WR_PUSH_REFUSE);
	w->env[2].forgot = false;
	assert_int_equal(test_install(w, 2, &e, &out), WR_MSG_OK);
	wr_save_rec_fini(&s);
}

/* ---- the writer ---- */

static void
test_w2__opens_with_the_base_and_nothing_older(void **state)
{
	struct test_world *w = *state;
	struct wr_record e1 = test_first(w, "ddd", 0), e2 = test_record(w, 2, 1, "ddd", 1);
	struct wr_push side = WR_PUSH_INIT;
	struct wr_save_rec s, other;
	struct wr_member_out out;

	test_save(w, 0, 1, 4, 4, &s);
	test_save(w, 0, 1, 4, 5, &other);
	test_base(w, &e2, &s);
	assert_int_equal(wr_writer_stand(&w->s[0], &w->env[0], NULL), WR_WRITER_OPEN);
	assert_int_equal(wr_writer_stand(&w->s[1], &w->env[1], NULL), WR_WRITER_NOT);
	test_install(w, 1, &e2, &out);
	assert_int_equal(wr_writer_stand(&w->s[1], &w->env[1], NULL), WR_WRITER_FETCH);
	assert_int_equal(wr_writer_open(&w->s[1], &w->env[1], NULL, &w->key[1], &side, NULL), -1);
	assert_int_equal(wr_writer_open(&w->s[1], &w->env[1], &other, &w->key[1], &side, NULL), -1);
	assert_int_equal(wr_writer_save(&w->s[1], &w->env[1], s.ref, 1, 1, 0, &w->key[1], NULL),
			 -1);
	assert_int_equal(wr_writer_open(&w->s[1], &w->env[1], &s, &w->key[1], &side, NULL), 0);
	assert_int_equal(w->s[1].save.v.s, 0);
	assert_int_equal(wr_writer_save(&w->s[1], &w->env[1], s.ref, 1, 1, 0, &w->key[1], NULL), 0);
	assert_int_equal(w->s[1].save.v.s, 1);
	assert_int_equal(wr_save_rec_verify(&w->s[1].save, &w->fleet, NULL), 0);
	(void)e1;
	wr_save_rec_fini(&s);
	wr_save_rec_fini(&other);
}

/* SIDES to node i; the kind of the answer, 0: none yet. */
static enum wr_push_do
offer_sides(struct test_world *w, int from, int i, const struct wr_record *e, const char *name,
	    uint8_t what, enum wr_err_code *code)
{
	struct wr_msg m = {.kind = WR_MSG_SIDES, .from = w->node[from]}, a = WR_MSG_INIT;
	struct wr_push push = WR_PUSH_INIT;
	struct wr_member_out out;
	struct wr_save_rec s;
	enum wr_push_do did;

	test_save(w, from, 1, 0, what, &s);
	free(s.ref[0].name);
	s.ref[0].name = wr_strdup(name);
	wr_record_encode(e, &m.record);
	wr_save_rec_encode(&s, &m.save);
	did = wr_member_push_check(&w->s[i], &w->env[i], &m, &push, &a, &out);
	*code = out.why.code;
	assert_false(out.changed);
	wr_push_fini(&push);
	wr_msg_fini(&m);
	wr_msg_fini(&a);
	wr_save_rec_fini(&s);
	return did;
}

static void
test_w7__side_branches_come_to_the_writer(void **state)
{
	static const char name[] = "refs/heads/conflict-1.1-b";
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddw", 0), e2 = test_record(w, 2, 1, "ddw", 0);
	struct wr_save_ref ref[WR_SIDES_MAX];
	struct wr_push side = WR_PUSH_INIT;
	enum wr_err_code code;

	/* Not before its epoch is open, not from who keeps no copy, not to another than the writer.
	 */
	assert_int_equal(offer_sides(w, 1, 0, &e, name, 7, &code), WR_PUSH_REFUSE);
	assert_int_equal(code, WR_E_BUSY);
	assert_int_equal(wr_writer_open(&w->s[0], &w->env[0], NULL, &w->key[0], &side, NULL), 0);
	assert_int_equal(offer_sides(w, 1, 0, &e, name, 7, &code), WR_PUSH_SIDES);
	assert_int_equal(offer_sides(w, 2, 0, &e, name, 7, &code), WR_PUSH_REFUSE);
	assert_int_equal(code, WR_E_DENIED);
	assert_int_equal(offer_sides(w, 3, 0, &e, name, 7, &code), WR_PUSH_REFUSE);
	assert_int_equal(code, WR_E_DENIED);
	assert_int_equal(offer_sides(w, 0, 1, &e, name, 7, &code), WR_PUSH_REFUSE);
	/* No other ref comes that way, nor by another record, nor where nothing may be stored. */
	assert_int_equal(offer_sides(w, 1, 0, &e, "refs/heads/main", 7, &code), WR_PUSH_REFUSE);
	assert_int_equal(code, WR_E_DENIED);
	assert_int_equal(offer_sides(w, 1, 0, &e2, name, 7, &code), WR_PUSH_REFUSE);
	w->env[0].may_store = false;
	assert_int_equal(offer_sides(w, 1, 0, &e, name, 7, &code), WR_PUSH_REFUSE);
	assert_int_equal(code, WR_E_NOSPACE);
	w->env[0].may_store = true;
	/* What a save names is here, under whatever name; and there is an end to it. */
	for (size_t i = 0; i < WR_SIDES_MAX; i++) {
		char at[64];

		snprintf(at, sizeof(at), "refs/heads/conflict-%03zu", i);
		ref[i].name = wr_strdup(at);
		memset(ref[i].id, (int)(i + 1), sizeof(ref[i].id));
	}
	assert_int_equal(
	    wr_writer_save(&w->s[0], &w->env[0], ref, WR_SIDES_MAX, 1, 0, &w->key[0], NULL), 0);
	assert_int_equal(offer_sides(w, 1, 0, &e, name, 7, &code), WR_PUSH_HAVE);
	assert_int_equal(offer_sides(w, 1, 0, &e, name, 200, &code), WR_PUSH_REFUSE);
	assert_int_equal(code, WR_E_LIMIT);
	for (size_t i = 0; i < WR_SIDES_MAX; i++)
		free(ref[i].name);
}

static void
test_m3__newer_settings_come_with_a_save_that_is_here(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_first(w, "ddd", 0);
	struct wr_settings_doc doc = {.project = w->project, .rev = 9, .json = wr_strdup("{}")};
	struct wr_msg m = {.kind = WR_MSG_PUSH, .from = w->node[0]}, a = WR_MSG_INIT;
	struct wr_push push = WR_PUSH_INIT;
	struct wr_member_out out;
	struct wr_save_rec s;

	test_save(w, 0, 1, 1, 1, &s);
	assert_int_equal(test_push(w, 1, &e, &s, false, NULL), WR_PUSH_TAKE);
	assert_int_equal(wr_settings_doc_sign(&doc, &w->hub, NULL), 0);
	wr_record_encode(&e, &m.record);
	wr_save_rec_encode(&s, &m.save);
	wr_settings_doc_encode(&doc, &m.settings);
	assert_int_equal(wr_member_push_check(&w->s[1], &w->env[1], &m, &push, &a, &out),
			 WR_PUSH_NOTE);
	assert_int_equal(a.kind, WR_MSG_NONE);
	assert_int_equal(w->s[1].settings_rev, 0);
	assert_int_equal(wr_member_push_commit(&w->s[1], &w->env[1], &m, &push, &a, &out),
			 WR_PUSH_HAVE);
	assert_true(out.changed);
	assert_int_equal(a.kind, WR_MSG_ACK);
	assert_int_equal(w->s[1].settings_rev, 9);
	wr_msg_fini(&a);
	/* Once. */
	assert_int_equal(wr_member_push_check(&w->s[1], &w->env[1], &m, &push, &a, &out),
			 WR_PUSH_HAVE);
	wr_msg_fini(&a);
	wr_msg_fini(&m);
	wr_push_fini(&push);
	wr_settings_doc_fini(&doc);
	wr_save_rec_fini(&s);
}

static void
test_w5__released_is_never_again(void **state)
{
	struct test_world *w = *state;
	struct wr_epoch n = test_n(1), other = test_n(2);
	struct wr_push side = WR_PUSH_INIT;
	struct wr_grant g;
	bool changed = false;

	test_first(w, "ddd", 0);
	assert_int_equal(wr_writer_open(&w->s[0], &w->env[0], NULL, &w->key[0], &side, NULL), 0);
	w->env[0].self_runs = true;
	assert_int_equal(
	    wr_writer_release(&w->s[0], &w->env[0], &n, &w->key[0], &g, &changed, NULL), -1);
	w->env[0].self_runs = false;
	assert_int_equal(
	    wr_writer_release(&w->s[0], &w->env[0], &other, &w->key[0], &g, &changed, NULL), -1);
	assert_int_equal(
	    wr_writer_release(&w->s[0], &w->env[0], &n, &w->key[0], &g, &changed, NULL), 0);
	assert_true(changed);
	assert_int_equal(wr_grant_verify(&g, &w->fleet, NULL), 0);
	assert_int_equal(wr_writer_stand(&w->s[0], &w->env[0], NULL), WR_WRITER_NOT);
	assert_int_equal(
	    wr_writer_release(&w->s[0], &w->env[0], &n, &w->key[0], &g, &changed, NULL), 0);
	assert_false(changed);
	assert_int_equal(wr_writer_consent(&w->s[0], &w->env[0], &n, &other, &w->key[0], &g, NULL),
			 -1);
}

static void
test_w6__what_to_do_when_lost(void **state)
{
	struct test_world *w = *state;
	struct wr_record e1 = test_first(w, "ddd", 0), e2 = test_record(w, 2, 1, "ddd", 1),
			 mine = test_record(w, 2, 1, "ddd", 0),
			 off = test_record(w, 3, 2, "ddd", 0);
	struct wr_save_rec s, elsewhere;

	test_save(w, 0, 1, 1, 1, &s);
	test_save(w, 1, 2, 5, 5, &elsewhere);
	assert_int_equal(test_push(w, 0, &e1, &s, false, NULL), WR_PUSH_TAKE);
	test_base(w, &mine, &s);
	test_base(w, &off, &elsewhere);
	assert_int_equal(wr_writer_lost(&w->s[0], &w->env[0], NULL), WR_LOST_ASK);
	assert_int_equal(wr_writer_lost(&w->s[0], &w->env[0], &e1), WR_LOST_ASK);
	assert_int_equal(wr_writer_lost(&w->s[0], &w->env[0], &e2), WR_LOST_STOP);
	assert_int_equal(wr_writer_lost(&w->s[0], &w->env[0], &mine), WR_LOST_GO_ON);
	assert_int_equal(wr_writer_lost(&w->s[0], &w->env[0], &off), WR_LOST_STOP);
	test_install(w, 0, &mine, &(struct wr_member_out){0});
	assert_int_equal(wr_writer_lost(&w->s[0], &w->env[0], &e1), WR_LOST_INFORM);
	wr_save_rec_fini(&s);
	wr_save_rec_fini(&elsewhere);
}

static void
test_w4__safe_is_a_majority_with_the_writer(void **state)
{
	struct test_world *w = *state;
	struct wr_record e = test_record(w, 1, 0, "ddwl", 0);
	struct wr_version v = {test_n(1), 3}, later = {test_n(1), 4}, old = {test_n(1), 2};
	struct wr_acked acked[] = {
	    {w->node[1], later}, {w->node[2], v}, {w->node[3], v}, {w->node[0], old}};
	struct wr_safe s = wr_safe_of(&e, &v, acked, 4, &w->fleet);

	assert_false(s.safe); /* the witness and the learner do not count, the writer lacks it */
	assert_int_equal(s.in, 1);
	acked[3].v = v;
	s = wr_safe_of(&e, &v, acked, 4, &w->fleet);
	assert_true(s.safe);
	assert_int_equal(s.in, 2);
	assert_int_equal(s.need, 2);
	assert_int_equal(s.data, 2);
	assert_int_equal(s.voters, 3);
	assert_int_equal(s.dcs, 1);
	v.n = test_n(2);
	assert_false(wr_safe_of(&e, &v, acked, 4, NULL).safe);
	e = test_record(w, 1, 0, "d", 0);
	assert_true(wr_safe_of(&e, &acked[3].v, &acked[3], 1, NULL).safe); /* 1 of 1 */
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_state__survives_the_disk_and_no_damage),
	    T(test_m1__promises_only_more_and_the_same_again),
	    T(test_m1__two_hubs_with_one_number),
	    T(test_m1__holds_while_the_writer_was_heard),
	    T(test_m1__grants_lift_the_hold),
	    T(test_m2__installs_what_was_promised_or_later),
	    T(test_m2__consent_is_for_its_writer_alone),
	    T(test_m3__takes_saves_of_the_writer_in_order),
	    T(test_f8__a_slow_push_outlives_its_right),
	    T(test_m3__fill_is_the_base_and_nothing_else),
	    T(test_f20__a_damaged_copy_promises_and_acknowledges_nothing),
	    T(test_m3__a_tip_off_the_line_becomes_a_side_branch),
	    T(test_m4__keeps_for_the_writer_below_no_promise),
	    T(test_m4__no_other_writer_while_a_hold_runs),
	    T(test_m4__a_restarted_member_may_have_heard_the_last_writer),
	    T(test_m4__what_was_promised_frees_for_the_next),
	    T(test_m4__a_consent_frees_nobody),
	    T(test_f6__nodes_with_amnesia_do_not_vote),
	    T(test_w2__opens_with_the_base_and_nothing_older),
	    T(test_w7__side_branches_come_to_the_writer),
	    T(test_m3__newer_settings_come_with_a_save_that_is_here),
	    T(test_w5__released_is_never_again),
	    T(test_w6__what_to_do_when_lost),
	    T(test_w4__safe_is_a_majority_with_the_writer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
