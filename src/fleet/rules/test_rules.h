/* SPDX-License-Identifier: Apache-2.0 */
/* For the folder's tests: a fleet of five nodes a..e with real keys, and one project's state on
 * each. */
#ifndef WR_TEST_RULES_H
#define WR_TEST_RULES_H

#include "fleet/rules/raise.h"

#include <setjmp.h>

#include <cmocka.h>

enum { TEST_NODES = 5 };

struct test_world {
	struct wr_fleet fleet;
	struct wr_sign_key hub, recovery, key[TEST_NODES];
	struct wr_node_id node[TEST_NODES];
	struct wr_uuid project;
	struct wr_member_state s[TEST_NODES];
	struct wr_member_env env[TEST_NODES]; /* now 1000 s, nobody held */
	bool down[TEST_NODES];                /* deaf to test_run */
	bool deaf_install[TEST_NODES];        /* only to INSTALL */
};
void test_world_init(struct test_world *w);
void test_world_fini(struct test_world *w);

struct wr_epoch test_n(uint64_t number);
/* Members: the nodes of roles ("ddw" = a, b data, c witness; "l" learner, "-" none). Signed. */
struct wr_record test_record(struct test_world *w, uint64_t n, uint64_t prev, const char *roles,
			     int writer);
/* Based on that save; signed anew. */
void test_base(struct test_world *w, struct wr_record *e, const struct wr_save_rec *base);
/* The first record, installed at its members. */
struct wr_record test_first(struct test_world *w, const char *roles, int writer);
/* Puts a record into a state as INSTALL does; the kind of the answer. */
enum wr_msg_kind test_install(struct test_world *w, int i, const struct wr_record *e,
			      struct wr_member_out *out);
/* A save by node writer under n, of one ref to an object that `what` names. */
void test_save(struct test_world *w, int writer, uint64_t n, uint64_t s, uint8_t what,
	       struct wr_save_rec *out);
/* PUSH to node i, from the writer, at once; what was done, the answer's kind in *answer. */
enum wr_push_do test_push(struct test_world *w, int i, const struct wr_record *e,
			  const struct wr_save_rec *s, bool fill, enum wr_msg_kind *answer);
/* PREPARE, with a grant or NULL. The answer is the caller's. */
enum wr_msg_kind test_prepare(struct test_world *w, int i, struct wr_epoch n,
			      const struct wr_grant *g, struct wr_msg *answer,
			      struct wr_member_out *out);
struct wr_grant test_grant(struct test_world *w, enum wr_grant_kind kind, int writer, uint64_t n,
			   uint64_t next);

/* A raise with the nodes that are not down, until it is over. */
struct wr_raise_opts test_opts(struct test_world *w, const struct wr_record *known, unsigned wish);
enum wr_raise_state test_run(struct test_world *w, struct wr_raise *r);

#endif
