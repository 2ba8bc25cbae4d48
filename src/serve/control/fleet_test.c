/* SPDX-License-Identifier: Apache-2.0 */
/* Control's part with other nodes, on a real node of a fleet of one, with a real @peer (which is
 * this program, too). What several nodes do: test/cli/83-peers.bats. */
#include <signal.h>

#include "base/test_ok.h"
#include "host/node/test_node.h"
#include "serve/control/fleet_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"

static struct test_root root;
static struct wr_control *c;

static void
serve_begin(void)
{
	WR_SCOPED(wr_freep) char *db = NULL;

	c = wr_calloc(1, sizeof(*c));
	c->self = geteuid();
	c->listener.fd = c->net.listener.fd = c->signals.fd = -1;
	ok(wr_node_open(root.root, 0, &c->node, err));
	c->volume_lost = wr_calloc(c->node->volume_count, sizeof(*c->volume_lost));
	db = wr_asprintf("%s/node.db", c->node->state_path);
	ok(wr_store_open(db, false, &c->store, err));
	ok(wr_loop_init(&c->loop, err));
	ok(wr_fleet_begin(c, err));
}

static void
serve_end(void)
{
	c->draining = true;
	wr_fleet_end(c);
	wr_projs_free(c);
	wr_loop_fini(&c->loop);
	wr_store_close(c->store);
	wr_node_close(c->node);
	free(c->volume_lost);
	free(c);
}

static int
setup(void **state WR_UNUSED)
{
	struct wr_node *n;

	root = test_root_new();
	n = test_node_new(&root);
	ok(wr_auth_found(n, NULL, err));
	wr_node_close(n);
	serve_begin();
	return 0;
}

static int
teardown(void **state WR_UNUSED)
{
	serve_end();
	test_root_free(&root);
	return 0;
}

/* One who asked. */
struct asker {
	int calls;
	bool answered;
	enum wr_msg_kind kind;
	uint64_t request;
	struct wr_err why;
};

static void
on_answer(void *ctx, const struct wr_msg *a, const struct wr_err *why)
{
	struct asker *k = ctx;

	k->calls++;
	assert_true(!a != !why);
	k->answered = a != NULL;
	if (a) {
		k->kind = a->kind;
		k->request = a->request;
		wr_msg_get_err(a, &k->why);
	} else {
		k->why = *why;
	}
}

static void
run_until(const int *flag)
{
	uint64_t end = wr_clock_mono_ns() + 20 * UINT64_C(1000000000);

	while (!*flag && wr_clock_mono_ns() < end)
		ok(wr_loop_step(&c->loop, err));
	assert_true(*flag);
}

static void
ask(struct asker *k, const struct wr_uuid *to, struct wr_msg *m)
{
	*k = (struct asker){.calls = 0};
	wr_ask(c, to, m, 5000, on_answer, k);
	assert_int_equal(k->calls, 0); /* never from within */
	assert_int_equal(m->kind, WR_MSG_NONE);
	run_until(&k->calls);
	assert_int_equal(k->calls, 1);
}

static void
test_ask__ourselves(void **state WR_UNUSED)
{
	struct wr_msg m = {.kind = WR_MSG_HELLO, .request = 77};
	struct asker k;

	ask(&k, &c->node->id, &m);
	assert_int_equal(k.kind, WR_MSG_HELLO_OK);
	assert_int_equal(k.request, 77);
	m = (struct wr_msg){.kind = WR_MSG_PREPARE, .n = {5, 5}};
	wr_uuid_new(&m.project);
	ask(&k, &c->node->id, &m);
	assert_int_equal(k.kind, WR_MSG_ERROR);
	assert_int_equal(k.why.code, WR_E_NOT_FOUND);
	m = (struct wr_msg){.kind = WR_MSG_OK};
	ask(&k, &c->node->id, &m);
	assert_int_equal(k.why.code, WR_E_INVALID);
}

static void
test_ask__nobody(void **state WR_UNUSED)
{
	struct wr_msg m = {.kind = WR_MSG_HELLO};
	struct wr_uuid id;
	struct asker k;

	wr_uuid_new(&id);
	ask(&k, &id, &m);
	assert_false(k.answered);
	assert_int_equal(k.why.code, WR_E_NOT_FOUND);
}

static void
test_ask__forgotten(void **state WR_UNUSED)
{
	struct wr_msg m = {.kind = WR_MSG_HELLO};
	struct asker gone = {.calls = 0}, k;

	wr_ask(c, &c->node->id, &m, 5000, on_answer, &gone);
	wr_ask_forget(c, &gone);
	m.kind = WR_MSG_HELLO;
	ask(&k, &c->node->id, &m);
	assert_int_equal(gone.calls, 0);
}

static void
test_ask__many(void **state WR_UNUSED)
{
	static struct asker k[800];

	memset(k, 0, sizeof(k));
	for (size_t i = 0; i < WR_ARRAY_LEN(k); i++) {
		struct wr_msg m = {.kind = WR_MSG_HELLO, .request = i + 1};

		wr_ask(c, &c->node->id, &m, 5000, on_answer, &k[i]);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(k); i++) {
		run_until(&k[i].calls);
		assert_int_equal(k[i].calls, 1);
		assert_int_equal(k[i].request, i + 1);
	}
}

static void
test_end__cancels(void **state WR_UNUSED)
{
	struct wr_msg m = {.kind = WR_MSG_HELLO};
	struct asker k = {.calls = 0};

	/* Its timer has no turn any more. */
	wr_ask(c, &c->node->id, &m, 5000, on_answer, &k);
	wr_asks_end(c);
	assert_int_equal(k.calls, 1);
	assert_int_equal(k.why.code, WR_E_CANCELLED);
}

static void
test_channel__another_process_when_one_ends(void **state WR_UNUSED)
{
	struct wr_peers *p = c->fleet->peers;
	pid_t pid = p->child.pid;
	uint32_t life = p->life;
	uint64_t end = wr_clock_mono_ns() + 20 * UINT64_C(1000000000);

	assert_true(pid > 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	while ((p->child.pid == pid || p->child.pid == 0) && wr_clock_mono_ns() < end)
		ok(wr_loop_step(&c->loop, err));
	assert_int_not_equal(p->life, life);
	assert_true(p->child.pid > 0);
	assert_int_not_equal(p->child.pid, pid);
}

static void
test_counter__grows(void **state WR_UNUSED)
{
	uint64_t was = c->fleet->auth->counter;

	serve_end();
	serve_begin();
	assert_true(c->fleet->auth->counter > was);
}

static void
test_behind__until_another_incarnation(void **state WR_UNUSED)
{
	struct wr_msg m = {.kind = WR_MSG_PREPARE, .n = {5, 5}};
	struct wr_uuid other;
	struct asker k;

	wr_fleet_behind(c, &c->node->id, 1000);
	assert_true(wr_fleet_set_back(c, &k.why));
	wr_uuid_new(&m.project);
	ask(&k, &c->node->id, &m);
	assert_int_equal(k.why.code, WR_E_DENIED);
	serve_end();
	serve_begin();
	assert_true(c->fleet->amnesia);
	/* Said by one who is not in the fleet: no word any more. */
	c->fleet->amnesia = false;
	wr_uuid_new(&other);
	wr_fleet_behind(c, &other, 1000);
	serve_end();
	serve_begin();
	assert_false(c->fleet->amnesia);
}

static void
test_peers__replays_and_counters_are_remembered(void **state WR_UNUSED)
{
	struct wr_pnode *n = wr_pnode_get(c, &c->fleet->auth->self);
	struct wr_node_id later = c->fleet->auth->self;
	struct wr_err err = WR_ERR_INIT;
	uint64_t seen;

	assert_non_null(n);
	later.inc++;
	assert_null(wr_pnode_get(c, &later));
	/* Each number of a process once, in any order within the window. */
	assert_true(wr_pnode_request(n, 7, 5, 1));
	assert_false(wr_pnode_request(n, 7, 5, 1));
	assert_false(wr_pnode_request(n, 7, 5, 0));
	assert_false(wr_pnode_request(n, 0, 5, 2));
	assert_true(wr_pnode_request(n, 7, 5, 100));
	for (uint64_t i = 2; i < 100; i++)
		assert_true(wr_pnode_request(n, 7, 5, i));
	for (uint64_t i = 1; i <= 100; i++)
		assert_false(wr_pnode_request(n, 7, 5, i));
	/* What is older than the window was here or comes too late, and stays out. */
	assert_true(wr_pnode_request(n, 7, 5, 10 * WR_REPLAY_WINDOW));
	assert_false(wr_pnode_request(n, 7, 5, 101));
	assert_false(wr_pnode_request(n, 7, 5, 9 * WR_REPLAY_WINDOW));
	assert_true(wr_pnode_request(n, 7, 5, 9 * WR_REPLAY_WINDOW + 1));
	assert_false(wr_pnode_request(n, 7, 5, 9 * WR_REPLAY_WINDOW + 1));
	assert_true(wr_pnode_request(n, 7, 5, UINT64_MAX));
	assert_false(wr_pnode_request(n, 7, 5, UINT64_MAX));
	assert_true(wr_pnode_request(n, 7, 5, UINT64_MAX - 1));
	/* Other processes of it: when so many came that the first was forgotten, its messages are
	 * still refused, by their counter. */
	for (uint64_t i = 0; i < WR_SENDERS; i++)
		assert_true(wr_pnode_request(n, 100 + i, 6 + i, 1));
	assert_false(wr_pnode_request(n, 7, 5, 500));
	assert_false(wr_pnode_request(n, 8, 5, 1));
	assert_false(wr_pnode_request(n, 100, 6, 1));
	assert_true(wr_pnode_request(n, 100, 6, 2));
	assert_true(wr_pnode_request(n, 200, 6 + WR_SENDERS, 1));
	assert_false(wr_pnode_request(n, 101, 7, 1));
	assert_true(wr_pnode_request(n, 102, 8, 2));

	assert_int_equal(wr_pnode_count(c, n, 900, &seen, &err), 0);
	serve_end();
	serve_begin();
	n = wr_pnode_get(c, &c->fleet->auth->self);
	assert_int_equal(wr_pnode_count(c, n, 899, &seen, &err), -1);
	assert_int_equal(err.code, WR_E_DENIED);
	assert_int_equal(seen, 900);
	assert_true(n->behind);
	assert_int_equal(wr_pnode_count(c, n, 900, &seen, &err), 0);
	assert_false(n->behind);
}

/* Another node of the fleet, whose clock is that much ahead of ours. */
static void
tells(unsigned number, int64_t ahead_s)
{
	struct wr_fleet *f = &c->fleet->auth->fleet;
	struct wr_uuid id;

	snprintf(id.s, sizeof(id.s), "ffffffff-ffff-4fff-bfff-%012u", number);
	if (!wr_fleet_find(f, &id)) {
		f->node = wr_reallocarray(f->node, f->node_count + 1, sizeof(*f->node));
		f->node[f->node_count] = f->node[0];
		f->node[f->node_count++].node.id = id;
	}
	wr_pnode_clock(c, wr_pnode_get(c, &(struct wr_node_id){id, f->node[0].node.inc}), ahead_s);
}

static void
test_peers__do_their_clocks_agree(void **state WR_UNUSED)
{
	uint64_t then = wr_clock_mono_ns();

	/* Nobody but this one. */
	assert_false(wr_peers_clocks_agree(c, 0));
	tells(1, 5);
	assert_true(wr_peers_clocks_agree(c, then));
	tells(1, -1800);
	assert_false(wr_peers_clocks_agree(c, then));
	tells(1, -2);
	/* With three others it takes two of them. */
	tells(2, 1800);
	tells(3, 1800);
	assert_false(wr_peers_clocks_agree(c, then));
	tells(3, 60);
	assert_true(wr_peers_clocks_agree(c, then));
	/* What was said before counts no more. */
	assert_false(wr_peers_clocks_agree(c, wr_clock_mono_ns()));
	/* One that was set, too, may have heard the same wrong time. */
	tells(3, 86400);
	tells(3, 1);
	assert_false(wr_peers_clocks_agree(c, then));
}

static void
test_heard__by_project(void **state WR_UNUSED)
{
	struct wr_member_env env;
	struct wr_uuid id[50];

	for (size_t i = 0; i < WR_ARRAY_LEN(id); i++) {
		wr_uuid_new(&id[i]);
		wr_member_env_of(c, &id[i], &env);
		assert_int_equal(env.heard_ns, 0);
		wr_heard_now(c, &id[i], &c->fleet->auth->self);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(id); i++) {
		wr_member_env_of(c, &id[i], &env);
		assert_int_not_equal(env.heard_ns, 0);
		assert_true(env.held_until_ns > env.now_ns);
		assert_false(env.self_runs);
	}
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_ask__ourselves, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_ask__nobody, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_ask__forgotten, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_ask__many, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_end__cancels, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_channel__another_process_when_one_ends, setup,
					    teardown),
	    cmocka_unit_test_setup_teardown(test_counter__grows, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_behind__until_another_incarnation, setup,
					    teardown),
	    cmocka_unit_test_setup_teardown(test_peers__replays_and_counters_are_remembered, setup,
					    teardown),
	    cmocka_unit_test_setup_teardown(test_peers__do_their_clocks_agree, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_heard__by_project, setup, teardown),
	};

	if (argc > 1 && !strcmp(argv[1], "@peer"))
		return wr_peer_main(argc - 1, argv + 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
