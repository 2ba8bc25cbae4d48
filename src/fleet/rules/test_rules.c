/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/rules/test_rules.h"

#define NOW (1000 * WR_SECOND_NS)

static struct wr_sign_key
key_of(uint8_t i)
{
	struct wr_sign_key k;
	uint8_t seed[32];

	memset(seed, i, sizeof(seed));
	assert_int_equal(wr_sign_key_of(seed, &k, NULL), 0);
	return k;
}

static struct wr_uuid
uuid_of(unsigned i)
{
	struct wr_uuid u;

	snprintf(u.s, sizeof(u.s), "%08x-1111-4222-8333-444455556666", i);
	return u;
}

struct wr_epoch
test_n(uint64_t number)
{
	return (struct wr_epoch){number, number ? 1000 + number : 0};
}

void
test_world_init(struct test_world *w)
{
	memset(w, 0, sizeof(*w));
	w->hub = key_of(100);
	w->recovery = key_of(101);
	w->project = uuid_of(99);
	w->fleet.id = uuid_of(98);
	w->fleet.hub[w->fleet.hub_count++] = w->hub.pub;
	w->fleet.recovery = w->recovery.pub;
	w->fleet.node = wr_calloc(TEST_NODES, sizeof(*w->fleet.node));
	w->fleet.node_count = TEST_NODES;
	for (unsigned i = 0; i < TEST_NODES; i++) {
		struct wr_fleet_node *f = &w->fleet.node[i];

		w->key[i] = key_of((uint8_t)(i + 1));
		w->node[i] = (struct wr_node_id){uuid_of(i + 1), 1};
		f->node = w->node[i];
		f->pub = w->key[i].pub;
		snprintf(f->name, sizeof(f->name), "%c", (char)('a' + i));
		snprintf(f->dc, sizeof(f->dc), "dc%u", i / 2);
		wr_member_init(&w->s[i], &w->project);
		w->env[i] = (struct wr_member_env){
		    .self = w->node[i], .fleet = &w->fleet, .now_ns = NOW, .may_store = true};
	}
}

void
test_world_fini(struct test_world *w)
{
	for (int i = 0; i < TEST_NODES; i++)
		wr_member_fini(&w->s[i]);
	wr_fleet_fini(&w->fleet);
}

struct wr_record
test_record(struct test_world *w, uint64_t n, uint64_t prev, const char *roles, int writer)
{
	struct wr_record e = {.project = w->project,
			      .n = test_n(n),
			      .prev = test_n(prev),
			      .writer = w->node[writer],
			      .state = WR_RECORD_LIVE};

	for (int i = 0; roles[i]; i++)
		if (roles[i] != '-')
			e.member[e.member_count++] =
			    (struct wr_member){w->node[i], roles[i] == 'd'   ? WR_ROLE_DATA
							   : roles[i] == 'w' ? WR_ROLE_WITNESS
									     : WR_ROLE_LEARNER};
	assert_int_equal(wr_record_sign(&e, &w->hub, NULL), 0);
	return e;
}

void
test_base(struct test_world *w, struct wr_record *e, const struct wr_save_rec *base)
{
	e->base = base->v;
	e->base_refs = wr_save_refs_digest(base);
	assert_int_equal(wr_record_sign(e, &w->hub, NULL), 0);
}

enum wr_msg_kind
test_install(struct test_world *w, int i, const struct wr_record *e, struct wr_member_out *out)
{
	struct wr_msg m = {.kind = WR_MSG_INSTALL}, a = WR_MSG_INIT;
	enum wr_msg_kind kind;

	wr_record_encode(e, &m.record);
	wr_member_install(&w->s[i], &w->env[i], &m, &a, out);
	kind = a.kind;
	wr_msg_fini(&m);
	wr_msg_fini(&a);
	return kind;
}

struct wr_record
test_first(struct test_world *w, const char *roles, int writer)
{
	struct wr_record e = test_record(w, 1, 0, roles, writer);
	struct wr_member_out out;

	for (int i = 0; roles[i]; i++)
		if (roles[i] != '-')
			assert_int_equal(test_install(w, i, &e, &out), WR_MSG_OK);
	return e;
}

void
test_save(struct test_world *w, int writer, uint64_t n, uint64_t s, uint8_t what,
	  struct wr_save_rec *out)
{
	*out = (struct wr_save_rec){.project = w->project,
				    .v = {test_n(n), s},
				    .ref_count = 1,
				    .scan_started = 1,
				    .writer = w->node[writer]};
	out->ref = wr_calloc(1, sizeof(*out->ref));
	out->ref[0].name = wr_strdup("refs/heads/main");
	memset(out->ref[0].id, what, sizeof(out->ref[0].id));
	assert_int_equal(wr_save_rec_sign(out, &w->key[writer], NULL), 0);
}

enum wr_push_do
test_push(struct test_world *w, int i, const struct wr_record *e, const struct wr_save_rec *s,
	  bool fill, enum wr_msg_kind *answer)
{
	struct wr_msg m = {.kind = WR_MSG_PUSH, .from = e->writer, .flag = fill}, a = WR_MSG_INIT;
	struct wr_push push = WR_PUSH_INIT;
	struct wr_member_out out;
	enum wr_push_do what, early;

	wr_record_encode(e, &m.record);
	wr_save_rec_encode(s, &m.save);
	early = wr_member_push_check(&w->s[i], &w->env[i], &m, &push, &a, &out);
	wr_msg_fini(&a);
	what = wr_member_push_commit(&w->s[i], &w->env[i], &m, &push, &a, &out);
	assert_int_equal(early, what);
	if (answer)
		*answer = a.kind;
	wr_push_fini(&push);
	wr_msg_fini(&a);
	wr_msg_fini(&m);
	return what;
}

enum wr_msg_kind
test_prepare(struct test_world *w, int i, struct wr_epoch n, const struct wr_grant *g,
	     struct wr_msg *answer, struct wr_member_out *out)
{
	struct wr_msg m = {.kind = WR_MSG_PREPARE, .project = w->project, .n = n};

	if (g)
		wr_grant_encode(g, &m.grant);
	wr_member_prepare(&w->s[i], &w->env[i], &m, answer, out);
	wr_msg_fini(&m);
	return answer->kind;
}

struct wr_grant
test_grant(struct test_world *w, enum wr_grant_kind kind, int writer, uint64_t n, uint64_t next)
{
	struct wr_grant g = {.kind = kind,
			     .project = w->project,
			     .n = test_n(n),
			     .next = test_n(next),
			     .writer = w->node[writer]};

	assert_int_equal(wr_grant_sign(&g, &w->key[writer], NULL), 0);
	return g;
}

struct wr_raise_opts
test_opts(struct test_world *w, const struct wr_record *known, unsigned wish)
{
	static struct wr_raise_node nodes[TEST_NODES];
	static uint64_t random = 5000;
	struct wr_raise_opts o = {.project = w->project,
				  .fleet = &w->fleet,
				  .key = &w->hub,
				  .known = known,
				  .wish = wish,
				  .nodes = nodes,
				  .node_count = TEST_NODES,
				  .at = 1,
				  .request = random};

	for (int i = 0; i < TEST_NODES; i++)
		nodes[i] = (struct wr_raise_node){.node = w->node[i], .ready = true};
	for (size_t i = 0; i < WR_RAISE_TRIES; i++)
		o.random[i] = random++;
	return o;
}

/* What node i says; false: nothing. */
static bool
deliver(struct test_world *w, int i, const struct wr_msg *m, struct wr_msg *a)
{
	struct wr_member_out out;
	struct wr_grant g;
	bool changed;

	if (w->down[i])
		return false;
	switch (m->kind) {
	case WR_MSG_PREPARE:
		wr_member_prepare(&w->s[i], &w->env[i], m, a, &out);
		return true;
	case WR_MSG_INSTALL:
		if (w->deaf_install[i])
			return false;
		wr_member_install(&w->s[i], &w->env[i], m, a, &out);
		return true;
	case WR_MSG_GRANT_ASK:
		wr_msg_answer(a, m, &w->node[i], WR_MSG_GRANT);
		if ((wr_epoch_none(&m->next)
			 ? wr_writer_release(&w->s[i], &w->env[i], &m->n, &w->key[i], &g, &changed,
					     NULL)
			 : wr_writer_consent(&w->s[i], &w->env[i], &m->n, &m->next, &w->key[i], &g,
					     NULL)) < 0)
			a->kind = WR_MSG_ERROR;
		else
			wr_grant_encode(&g, &a->grant);
		return true;
	default:
		return false;
	}
}

enum wr_raise_state
test_run(struct test_world *w, struct wr_raise *r)
{
	uint64_t now = NOW;
	struct wr_node_id to;

	while (wr_raise_state(r) != WR_RAISE_DONE && wr_raise_state(r) != WR_RAISE_FAILED) {
		struct wr_msg m = WR_MSG_INIT;

		if (!wr_raise_next(r, &to, &m)) {
			now = WR_MAX(now, wr_raise_wake(r));
			wr_raise_tick(r, now);
		}
		for (int i = 0; i < TEST_NODES && m.kind; i++) {
			struct wr_msg a = WR_MSG_INIT;

			if (wr_node_id_eq(&to, &w->node[i]) && deliver(w, i, &m, &a)) {
				a.from = w->node[i];
				wr_raise_answer(r, &a, now);
				wr_raise_answer(r, &a, now); /* doubled, as networks do */
			}
			wr_msg_fini(&a);
		}
		wr_msg_fini(&m);
	}
	return wr_raise_state(r);
}
