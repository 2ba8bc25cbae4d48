/* SPDX-License-Identifier: Apache-2.0 */
/* When the wall clock is believed; and that what is not believed makes nothing old. */
#include "host/node/age.h"

#include "base/str.h"
#include "host/node/test_node.h"
#include "sys/clock.h"

#define NOW INT64_C(1800000000)
#define DAY INT64_C(86400)
#define KEEP (UINT64_C(30) * 86400)

static void
test_believed__in_one_boot(void **state)
{
	struct wr_age a = {.boot = 7, .boot_s = 100, .time = NOW, .doubt_s = -1};

	(void)state;
	/* It runs, is set by some hours, forth and back. */
	assert_true(wr_age_judge(&a, 7, 160, NOW + 60, false) == 0);
	assert_true(wr_age_judge(&a, 7, 220, NOW + DAY, false) == 0);
	assert_true(a.time == NOW + DAY && a.boot_s == 220);
	assert_true(wr_age_judge(&a, 7, 280, NOW + 120, false) == 0);
	assert_true(a.time == NOW + DAY + 60);
	/* It was not looked at for long: the daemon was not there. */
	assert_true(wr_age_judge(&a, 7, 280 + 200 * DAY, NOW + 201 * DAY, false) == 0);
}

static void
test_doubted__a_jump(void **state)
{
	struct wr_age a = {.boot = 7, .boot_s = 100, .time = NOW, .doubt_s = -1};

	(void)state;
	assert_true(wr_age_judge(&a, 7, 160, NOW + 60 + 400 * DAY, false) == 400 * DAY);
	/* What passes now is time that passed. */
	assert_true(a.time == NOW + 60 && a.doubt_s == 0);
	assert_true(wr_age_judge(&a, 7, 160 + DAY, NOW + 60 + 401 * DAY, false) == 400 * DAY);
	assert_true(a.time == NOW + 60 + DAY && a.doubt_s == DAY);
	/* Neither does a boot make it good, nor time that nobody saw. */
	assert_true(wr_age_judge(&a, 8, 50, NOW + 60 + 420 * DAY, false) == 419 * DAY);
	assert_true(wr_age_judge(&a, 9, 50, NOW + 60 + 421 * DAY, false) == 420 * DAY);
	assert_true(a.doubt_s == DAY);
	/* It is set right. */
	assert_true(wr_age_judge(&a, 9, 110, NOW + 5 * DAY / 4, false) == 0);
	assert_true(a.doubt_s == -1);
}

static void
test_doubted__until_others_agree_or_long_enough(void **state)
{
	struct wr_age a = {.boot = 7, .boot_s = 100, .time = NOW, .doubt_s = -1}, b = a;

	(void)state;
	assert_true(wr_age_judge(&a, 7, 160, NOW + 9 * DAY, false) > 0);
	assert_true(wr_age_judge(&a, 7, 220, NOW + 9 * DAY + 60, true) == 0);
	assert_true(a.time == NOW + 9 * DAY + 60 && a.doubt_s == -1);
	assert_true(wr_age_judge(&b, 7, 100, NOW + 90 * DAY, false) > 0);
	assert_true(wr_age_judge(&b, 7, 99 + 30 * DAY, NOW + 120 * DAY - 1, false) > 0);
	assert_true(wr_age_judge(&b, 7, 100 + 30 * DAY, NOW + 120 * DAY, false) == 0);
	assert_true(b.time == NOW + 120 * DAY && b.doubt_s == -1);
}

/* What it is set back to is not believed either; and never for ever. */
static void
test_doubted__behind(void **state)
{
	struct wr_age a = {.boot = 7, .boot_s = 100, .time = NOW, .doubt_s = -1, .ran_s = DAY},
		      b = a, c = a, d = a;

	(void)state;
	assert_true(wr_age_judge(&a, 7, 160, NOW + 60 - 100 * DAY, false) == -100 * DAY);
	assert_true(a.time == NOW + 60 && a.doubt_s == 0);
	/* Set right: nothing happened. */
	b = a;
	assert_true(wr_age_judge(&b, 7, 220, NOW + 120, false) == 0);
	assert_true(b.time == NOW + 120 && b.doubt_s == -1);
	/* It was ahead before, others say; or nobody ever set it right. */
	b = a;
	assert_true(wr_age_judge(&b, 7, 220, NOW + 120 - 100 * DAY, true) == 0);
	assert_true(b.time == NOW + 120 - 100 * DAY && b.doubt_s == -1);
	assert_true(wr_age_judge(&a, 7, 160 + 30 * DAY, NOW - 70 * DAY, false) == 0);
	assert_true(a.time == NOW - 70 * DAY);
	/* The same where it is so from boot on. */
	a = c;
	assert_true(wr_age_judge(&a, 8, 30, NOW - 50 * DAY, false) == -50 * DAY);
	assert_true(a.boot == 7 && a.time == NOW);
	assert_true(wr_age_judge(&a, 8, 30 * DAY, NOW - 20 * DAY, false) == 0);
	assert_true(a.boot == 8 && a.time == NOW - 20 * DAY);
	assert_true(wr_age_judge(&c, 8, 30, NOW - 50 * DAY, true) == 0);
	assert_true(c.boot == 8 && c.time == NOW - 50 * DAY);
	/* A new host, before it heard the time. */
	d.ran_s = DAY - 61;
	assert_true(wr_age_judge(&d, 7, 160, NOW - 50 * DAY, false) == 0);
	assert_true(d.time == NOW - 50 * DAY && d.ran_s == DAY - 1);
	assert_true(wr_age_judge(&d, 8, 30, NOW - 90 * DAY, false) == 0);
	assert_true(wr_age_judge(&d, 8, 31, NOW - 190 * DAY, false) == -100 * DAY - 1);
}

static void
test_over_boots(void **state)
{
	struct wr_age a = {.boot = 7,
			   .boot_s = 100 * DAY,
			   .time = NOW,
			   .doubt_s = -1,
			   .ran_s = DAY},
		      b = a, c = a;

	(void)state;
	/* It was off for some weeks. */
	assert_true(wr_age_judge(&a, 8, 30, NOW + 29 * DAY, false) == 0);
	assert_true(a.boot == 8 && a.time == NOW + 29 * DAY);
	/* For longer than anybody leaves it off, or its clock's battery is dead. */
	assert_true(wr_age_judge(&b, 8, 30, NOW + 31 * DAY, false) == 31 * DAY);
	assert_true(b.time == NOW);
	/* Without a battery: in 1970, until it hears the time. */
	assert_true(wr_age_judge(&c, 8, 30, 40, false) == 40 - NOW);
	assert_true(wr_age_judge(&c, 8, 90, NOW + 20 * DAY, false) == 0);
	assert_true(c.boot == 8 && c.time == NOW + 20 * DAY);
}

/* ---- on a node ---- */

static struct test_root t;
static struct wr_node *node;

static int
setup(void **state)
{
	struct wr_node_init o;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	t = test_root_new();
	o = test_init_opts(&t);
	assert_ok(wr_node_init(&o, NULL, &err), &err);
	assert_ok(wr_node_open(t.root, 0, &node, &err), &err);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	wr_node_close(node);
	test_root_free(&t);
	return 0;
}

static void
put(const char *text)
{
	assert_int_equal(
	    wr_replace_file(node->state_fd, "clock.json", text, strlen(text), 0600, NULL), 0);
}

/* As if the clock had been there then, in an earlier boot. */
static void
put_days_ago(int64_t days)
{
	WR_SCOPED(wr_freep)
	char *text =
	    wr_asprintf("{\"format\":1,\"boot\":1,\"boot_s\":5,\"time\":\"%s\",\"doubt_s\":-1,"
			"\"ran_s\":86400}",
			wr_fmt_utc(wr_clock_wall().s - days * DAY).s);

	put(text);
}

static int64_t
look(bool agreed)
{
	struct wr_err err = WR_ERR_INIT;
	int64_t ahead;

	assert_ok(wr_age_look(node, agreed, &ahead, &err), &err);
	return ahead;
}

static void
assert_doubted(int64_t days)
{
	uint64_t more = wr_age_span(node, KEEP) - KEEP;
	uint64_t least = (uint64_t)(days * DAY);

	assert_true(more >= least && more <= least + 60);
}

static void
test_node(void **state)
{
	(void)state;
	/* Nothing is remembered yet, then it is. */
	assert_doubted(0);
	assert_true(look(false) == 0);
	assert_doubted(0);
	assert_true(look(false) == 0);
	put_days_ago(29);
	assert_doubted(0);
	put_days_ago(400);
	assert_doubted(400);
	/* "never" */
	assert_true(wr_age_span(node, 0) == WR_AGE_EVER_S);
	assert_true(wr_age_span(node, UINT64_MAX) >= WR_AGE_EVER_S);
	assert_true((int64_t)wr_age_span(node, UINT64_MAX) > 0);
	assert_true(look(false) >= 400 * DAY);
	/* In this boot now. */
	assert_doubted(400);
	assert_true(look(true) == 0);
	assert_doubted(0);
}

/* What begins its age while the clock is behind is no older than what began before. */
static void
test_node__behind(void **state)
{
	int64_t wall = wr_clock_wall().s, stamp;
	WR_SCOPED(wr_json_freep) json_t *args = json_object();

	(void)state;
	assert_true(look(false) == 0);
	stamp = wr_age_stamp(node);
	assert_true(stamp >= wall && stamp <= wall + 60);
	put_days_ago(-40);
	stamp = wr_age_stamp(node);
	assert_true(stamp >= wall + 40 * DAY && stamp <= wall + 40 * DAY + 60);
	assert_doubted(0);
	wr_age_floor(node, args);
	assert_true(wr_json_get_i64(args, "now", 0) >= wall + 40 * DAY);
	assert_true(wr_json_get_u64(args, "floor_s", 0) == node->config.replica_floor);
	assert_true(look(false) <= -40 * DAY + 60);
	assert_true(look(true) == 0);
	stamp = wr_age_stamp(node);
	assert_true(stamp >= wall && stamp <= wall + 60);
	/* Ahead, it is of the wall clock: should that be believed one day, it is no older. */
	put_days_ago(400);
	assert_true(wr_age_stamp(node) >= wall);
}

static void
test_node__what_cannot_be_read(void **state)
{
	struct wr_err err = WR_ERR_INIT;
	int64_t ahead;

	(void)state;
	put("{");
	assert_true(wr_age_span(node, KEEP) > 90 * KEEP);
	put("{\"format\":1,\"boot\":1,\"boot_s\":-5,\"time\":\"2026-01-01T00:00:00Z\"}");
	assert_true(wr_age_span(node, KEEP) > 90 * KEEP);
	/* What a newer release wrote stays, and nothing goes by it. */
	put("{\"format\":2}");
	assert_int_equal(wr_age_look(node, true, &ahead, &err), -1);
	assert_int_equal(err.code, WR_E_UNSUPPORTED);
	assert_true(wr_age_span(node, KEEP) > 90 * KEEP);
	/* It is remembered from now on. */
	put("{");
	assert_true(look(false) == 0);
	assert_doubted(0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_believed__in_one_boot),
	    cmocka_unit_test(test_doubted__a_jump),
	    cmocka_unit_test(test_doubted__until_others_agree_or_long_enough),
	    cmocka_unit_test(test_doubted__behind),
	    cmocka_unit_test(test_over_boots),
	    cmocka_unit_test_setup_teardown(test_node, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_node__behind, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_node__what_cannot_be_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
