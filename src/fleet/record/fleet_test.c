/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet record: what is refused in it, who is found, which one follows another. */
#include "fleet/record/record.h"

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "fleet/record/test_values.h"

static void
refuse_fleet(struct wr_fleet *f, const char *says)
{
	struct wr_sign_key k = test_key(TEST_KEY_HUB);
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_fleet_sign(f, &k, &err), -1);
	if (!strstr(err.msg, says))
		fail_msg("'%s' lacks '%s'", err.msg, says);
}

#define REFUSE_FLEET(change, says)                                \
	do {                                                      \
		WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {0}; \
		test_fleet(&f);                                   \
		change;                                           \
		refuse_fleet(&f, (says));                         \
	} while (0)
#define SET(field, text) snprintf(field, sizeof(field), "%s", (text))

static void
test_fleet__fields_are_checked(void **state)
{
	struct wr_fleet_node n;

	(void)state;
	REFUSE_FLEET(f.id.s[0] = '\0', "id is no id");
	REFUSE_FLEET(f.at = -5, "time is no time");
	REFUSE_FLEET(f.replicas = 0, "replicas are 0");
	REFUSE_FLEET(f.replicas = WR_MEMBERS_MAX + 1, "replicas are 10");
	REFUSE_FLEET(f.hub_count = 0, "hub keys is 0");
	REFUSE_FLEET(f.hub_count = WR_HUB_KEYS_MAX + 1, "too many hub keys");
	REFUSE_FLEET(f.hub[1] = f.hub[0], "hub key is there twice");
	REFUSE_FLEET(f.hub[1] = f.recovery, "hub key is the recovery key");
	REFUSE_FLEET(memset(&f.hub[1], 0, 32), "hub key is no key");
	REFUSE_FLEET(memset(&f.node[1].pub, 0, 32), "node key is no key");
	REFUSE_FLEET(f.node[1].flags = 16, "unknown flags");
	REFUSE_FLEET(f.node[1].node.inc = 0, "node has no incarnation");
	REFUSE_FLEET((n = f.node[0], f.node[0] = f.node[1], f.node[1] = n), "ascending order");
	REFUSE_FLEET(f.node[1].node = f.node[0].node, "ascending order");
	REFUSE_FLEET((f.node[1].node = f.node[0].node, f.node[1].node.inc++),
		     "an older incarnation that is not removed");
	REFUSE_FLEET(SET(f.node[1].name, "n1"), "'n1' is there twice");
	REFUSE_FLEET(f.ca_len[0] = (16u << 10) + 1, "too large a certificate");
}

static void
test_fleet__names_and_addresses(void **state)
{
	static const char *const names[] = {"",    "N1",  "-a",   ".a",          "a b",
					    "a_b", "a\n", "\x1b", "caf\xc3\xa9", "a/b"};
	static const char *const bad[] = {
	    "n1",     "n1:",   ":1",    "n1:0",    "n1:01",      "n1:65536", "n1:123456",
	    "n1:-1",  "n1:1 ", "n1:1x", "n 1:1",   "n1\n:1",     "-n1:1",    "[::1]",
	    "[::1:1", "[]:1",  "::1:1", "[::g]:1", "http://a:1",
	};
	static const char *const good[] = {"n1:1",          "n1.example.org:65535", "[::1]:7443",
					   "192.0.2.1:443", "under_score:80",       "[fe80::1]:1"};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(names); i++) {
		REFUSE_FLEET(SET(f.node[1].name, names[i]), "node name is");
		REFUSE_FLEET(SET(f.node[1].dc, names[i]), "data center is");
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		REFUSE_FLEET(SET(f.node[1].peer, bad[i]), "peer address is");
		REFUSE_FLEET(SET(f.node[1].api, bad[i]), "api address is");
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++) {
		WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {0};
		struct wr_sign_key k = test_key(TEST_KEY_HUB);
		struct wr_err err = WR_ERR_INIT;

		test_fleet(&f);
		SET(f.node[1].peer, good[i]);
		SET(f.node[1].name,
		    "0123456789.123456789-123456789012345678901234567890123456789012");
		assert_int_equal(wr_fleet_sign(&f, &k, &err), 0);
	}
}

static void
test_fleet__copy_and_find(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf a = WR_BUF_INIT, b = WR_BUF_INIT;
	struct wr_sign_key k = test_key(TEST_KEY_HUB);
	struct wr_err err = WR_ERR_INIT;
	struct wr_node_id id = test_node(1);
	struct wr_uuid other = test_uuid(TEST_PROJECT);
	struct wr_fleet f, c;

	(void)state;
	test_fleet(&f);
	wr_fleet_copy(&c, &f);
	wr_fleet_encode(&f, &a);
	wr_fleet_encode(&c, &b);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.p, b.p, a.len);
	wr_fleet_fini(&f);
	wr_fleet_fini(&f);

	assert_ptr_equal(wr_fleet_find(&c, &id.id), &c.node[1]);
	assert_ptr_equal(wr_fleet_has(&c, &id), &c.node[1]);
	id.inc--;
	assert_null(wr_fleet_has(&c, &id));
	assert_null(wr_fleet_find(&c, &other));
	assert_null(wr_fleet_find(&f, &other)); /* an empty one */
	assert_ptr_equal(wr_fleet_by_name(&c, "n3"), &c.node[2]);
	assert_null(wr_fleet_by_name(&c, "n4"));

	/* Two incarnations: the newest is found, also by the name that both have. */
	c.node[1].node.id = c.node[0].node.id;
	c.node[1].node.inc = UINT32_MAX;
	SET(c.node[1].name, "n1");
	c.node[0].flags = WR_FLEET_REMOVED;
	assert_int_equal(wr_fleet_sign(&c, &k, &err), 0);
	assert_ptr_equal(wr_fleet_find(&c, &c.node[0].node.id), &c.node[1]);
	assert_ptr_equal(wr_fleet_has(&c, &c.node[0].node), &c.node[0]);
	assert_ptr_equal(wr_fleet_by_name(&c, "n1"), &c.node[1]);
	c.node[1].flags = WR_FLEET_REMOVED;
	assert_ptr_equal(wr_fleet_by_name(&c, "n1"), &c.node[1]);
	assert_ptr_equal(wr_fleet_find(&c, &c.node[2].node.id), &c.node[2]);
	wr_fleet_fini(&c);
}

static void
test_fleet__which_one_follows(void **state)
{
	struct wr_sign_key hub = test_key(TEST_KEY_HUB), fresh = test_key(7);
	struct wr_err err = WR_ERR_INIT;
	struct wr_fleet have, next;

	(void)state;
	test_fleet(&have);
	test_fleet(&next);
	test_denied(wr_fleet_verify(&next, &have, &err), &err, "7 is not newer than 7");
	assert_int_equal(wr_fleet_verify(&next, NULL, &err), 0);

	/* A new hub key: signed by one that we know, or it could be anybody's. */
	next.seq = 9;
	next.hub[0] = fresh.pub;
	assert_int_equal(wr_fleet_sign(&next, &fresh, &err), 0);
	test_denied(wr_fleet_verify(&next, &have, &err), &err, "no hub key of the fleet");
	assert_int_equal(wr_fleet_verify(&next, NULL, &err), 0);
	assert_int_equal(wr_fleet_sign(&next, &hub, &err), 0);
	assert_int_equal(wr_fleet_verify(&next, &have, &err), 0);
	test_denied(wr_fleet_verify(&next, NULL, &err), &err, "no hub key of the fleet");
	hub = test_key(TEST_KEY_RECOVERY);
	assert_int_equal(wr_fleet_sign(&next, &hub, &err), 0);
	assert_int_equal(wr_fleet_verify(&next, &have, &err), 0);
	hub = test_key(TEST_KEY_NODE);
	assert_int_equal(wr_fleet_sign(&next, &hub, &err), 0);
	test_denied(wr_fleet_verify(&next, &have, &err), &err, "no hub key of the fleet");

	hub = test_key(TEST_KEY_HUB);
	next.id = test_uuid(TEST_PROJECT);
	assert_int_equal(wr_fleet_sign(&next, &hub, &err), 0);
	test_denied(wr_fleet_verify(&next, &have, &err), &err, "it is of fleet");
	assert_true(wr_fleet_hub_key(&have, &hub.pub));
	assert_false(wr_fleet_hub_key(&have, &have.recovery));
	wr_fleet_fini(&have);
	wr_fleet_fini(&next);
}

static void
test_fleet__the_largest(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {0};
	struct wr_sign_key k = test_key(TEST_KEY_HUB);
	struct wr_err err = WR_ERR_INIT;
	struct wr_fleet_node n;

	(void)state;
	test_fleet(&f);
	n = f.node[0];
	f.node = wr_reallocarray(f.node, WR_NODES_MAX + 1, sizeof(*f.node));
	f.node_count = WR_NODES_MAX + 1;
	for (unsigned i = 0; i < f.node_count; i++) {
		char id[40];

		snprintf(id, sizeof(id), "%08x-0000-4000-8000-000000000001", i);
		f.node[i] = n;
		f.node[i].node.id = test_uuid(id);
		snprintf(f.node[i].name, sizeof(n.name), "node-%u", i);
		snprintf(f.node[i].peer, sizeof(n.peer), "%0240d:1", 1);
		snprintf(f.node[i].api, sizeof(n.api), "%0240d:1", 1);
	}
	assert_int_equal(wr_fleet_sign(&f, &k, &err), -1);
	assert_non_null(strstr(err.msg, "more than 4096"));
	f.node_count--;
	assert_int_equal(wr_fleet_sign(&f, &k, &err), 0);
	wr_fleet_encode(&f, &b);
	assert_true(b.len < WR_FLEET_BYTES);
	assert_true(test_good(TEST_FLEET, b.p, b.len, &err));
	for (size_t i = 0; i < f.node_count; i += 100)
		assert_ptr_equal(wr_fleet_find(&f, &f.node[i].node.id), &f.node[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fleet__fields_are_checked),
	    cmocka_unit_test(test_fleet__names_and_addresses),
	    cmocka_unit_test(test_fleet__copy_and_find),
	    cmocka_unit_test(test_fleet__which_one_follows),
	    cmocka_unit_test(test_fleet__the_largest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
