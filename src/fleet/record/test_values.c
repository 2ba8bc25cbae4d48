/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/record/test_values.h"

#include <setjmp.h>

#include <cmocka.h>

const char *const test_kind_name[TEST_KINDS] = {"record", "save",  "settings",
						"grant",  "fleet", "message"};

struct wr_sign_key
test_key(unsigned i)
{
	struct wr_sign_key k;
	uint8_t seed[32];

	for (unsigned j = 0; j < sizeof(seed); j++)
		seed[j] = (uint8_t)(32 * i + j);
	assert_int_equal(wr_sign_key_of(seed, &k, NULL), 0);
	return k;
}

struct wr_uuid
test_uuid(const char *s)
{
	struct wr_uuid u;

	assert_true(wr_uuid_parse(s, &u));
	return u;
}

struct wr_node_id
test_node(unsigned i)
{
	static const char *const id[] = {"10000000-0000-4000-8000-000000000001",
					 "20000000-0000-4000-8000-000000000002",
					 "30000000-0000-4000-8000-000000000003"};

	return (struct wr_node_id){test_uuid(id[i]), i + 1};
}

struct wr_epoch
test_epoch(uint64_t number)
{
	return (struct wr_epoch){number, number * UINT64_C(0x0101010101010101)};
}

void
test_save(struct wr_save_rec *s)
{
	static const char *const name[] = {"refs/heads/main", "refs/tags/v1.0",
					   "refs/warren/latest"};
	struct wr_sign_key k = test_key(TEST_KEY_NODE + 1);
	struct wr_err err = WR_ERR_INIT;

	*s = (struct wr_save_rec){
	    .project = test_uuid(TEST_PROJECT),
	    .v = {test_epoch(2), 5},
	    .ref_count = WR_ARRAY_LEN(name),
	    .scan_started = 1795342530,
	    .scan_ns = 123456789,
	    .settings_rev = 4,
	    .writer = test_node(1),
	};
	s->ref = wr_calloc(s->ref_count, sizeof(*s->ref));
	for (size_t i = 0; i < s->ref_count; i++) {
		s->ref[i].name = wr_strdup(name[i]);
		memset(s->ref[i].id, (int)(0xa0 + i), sizeof(s->ref[i].id));
	}
	assert_int_equal(wr_save_rec_sign(s, &k, &err), 0);
}

void
test_record(struct wr_record *r)
{
	struct wr_sign_key k = test_key(TEST_KEY_HUB);
	struct wr_save_rec s;

	test_save(&s);
	*r = (struct wr_record){
	    .project = s.project,
	    .n = test_epoch(3),
	    .prev = test_epoch(2),
	    .member = {{test_node(0), WR_ROLE_DATA},
		       {test_node(1), WR_ROLE_DATA},
		       {test_node(2), WR_ROLE_WITNESS}},
	    .member_count = 3,
	    .writer = test_node(0),
	    .base = s.v,
	    .base_refs = wr_save_refs_digest(&s),
	    .state = WR_RECORD_LIVE,
	    .settings_rev = 4,
	    .has_consent = true,
	    .consent = test_node(1),
	    .at = 1795342600,
	};
	wr_save_rec_fini(&s);
	assert_int_equal(wr_record_sign(r, &k, NULL), 0);
}

void
test_settings(struct wr_settings_doc *d)
{
	struct wr_sign_key k = test_key(TEST_KEY_HUB);

	*d = (struct wr_settings_doc){
	    .project = test_uuid(TEST_PROJECT),
	    .rev = 4,
	    .json = wr_strdup("{\"format\":1,\"name\":\"demo\",\"rev\":4,\"settings\":{}}"),
	};
	assert_int_equal(wr_settings_doc_sign(d, &k, NULL), 0);
}

void
test_grant(struct wr_grant *g)
{
	struct wr_sign_key k = test_key(TEST_KEY_NODE + 1);

	*g = (struct wr_grant){
	    .kind = WR_GRANT_CONSENT,
	    .project = test_uuid(TEST_PROJECT),
	    .n = test_epoch(2),
	    .next = test_epoch(3),
	    .writer = test_node(1),
	};
	assert_int_equal(wr_grant_sign(g, &k, NULL), 0);
}

void
test_fleet(struct wr_fleet *f)
{
	static const uint8_t der[2][5] = {{0x30, 3, 2, 1, 1}, {0x30, 3, 2, 1, 2}};
	static const char *const peer[] = {"n1.example.org:7443", "192.0.2.2:7443",
					   "[2001:db8::3]:7443"};
	struct wr_sign_key k = test_key(TEST_KEY_HUB);
	struct wr_err err = WR_ERR_INIT;

	*f = (struct wr_fleet){
	    .id = test_uuid("f0000000-0000-4000-8000-00000000000f"),
	    .seq = 7,
	    .at = 1795342000,
	    .node_count = 3,
	    .hub = {k.pub, test_key(TEST_KEY_SPARE).pub},
	    .hub_count = 2,
	    .recovery = test_key(TEST_KEY_RECOVERY).pub,
	    .replicas = 3,
	};
	for (size_t i = 0; i < 2; i++) {
		f->ca[i] = wr_memdup(der[i], sizeof(der[i]));
		f->ca_len[i] = sizeof(der[i]);
	}
	f->node = wr_calloc(f->node_count, sizeof(*f->node));
	for (unsigned i = 0; i < f->node_count; i++) {
		struct wr_fleet_node *n = &f->node[i];

		n->node = test_node(i);
		snprintf(n->name, sizeof(n->name), "n%u", i + 1);
		snprintf(n->dc, sizeof(n->dc), "dc%u", i + 1);
		snprintf(n->peer, sizeof(n->peer), "%s", peer[i]);
		n->pub = test_key(TEST_KEY_NODE + i).pub;
		n->weight = 100;
	}
	f->node[0].flags = WR_FLEET_HUB;
	snprintf(f->node[0].api, sizeof(f->node[0].api), "n1.example.org:8443");
	snprintf(f->node[0].names, sizeof(f->node[0].names), "n1.example.org,192.0.2.1");
	f->node[2].flags = WR_FLEET_DRAINING;
	assert_int_equal(wr_fleet_sign(f, &k, &err), 0);
}

void
test_hello(struct wr_msg *m)
{
	*m = (struct wr_msg){
	    .from = test_node(0),
	    .to = test_node(1).id,
	    .nonce = UINT64_C(0x1111111111111111),
	    .counter = 42,
	    .request = UINT64_C(0x2222222222222222),
	    .kind = WR_MSG_HELLO,
	    .fleet_seq = 7,
	    .at = 1795342601,
	};
}

void
test_encoded(enum test_kind k, struct wr_buf *out)
{
	struct wr_sign_key key = test_key(TEST_KEY_NODE);
	struct wr_record r;
	struct wr_save_rec s;
	struct wr_settings_doc d;
	struct wr_grant g;
	struct wr_fleet f;
	struct wr_msg m;

	switch (k) {
	case TEST_RECORD:
		test_record(&r);
		wr_record_encode(&r, out);
		break;
	case TEST_SAVE:
		test_save(&s);
		wr_save_rec_encode(&s, out);
		wr_save_rec_fini(&s);
		break;
	case TEST_SETTINGS:
		test_settings(&d);
		wr_settings_doc_encode(&d, out);
		wr_settings_doc_fini(&d);
		break;
	case TEST_GRANT:
		test_grant(&g);
		wr_grant_encode(&g, out);
		break;
	case TEST_FLEET:
		test_fleet(&f);
		wr_fleet_encode(&f, out);
		wr_fleet_fini(&f);
		break;
	default:
		test_hello(&m);
		assert_int_equal(wr_msg_seal(&m, &key, out, NULL), 0);
	}
}

/* Decodes, encodes again into out, and judges. */
static int
judge(enum test_kind k, const void *p, size_t len, const struct wr_fleet *f, struct wr_buf *out,
      struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec s = WR_SAVE_REC_INIT;
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc d = {0};
	WR_SCOPED(wr_fleet_fini) struct wr_fleet next = {0};
	WR_SCOPED(wr_msg_fini) struct wr_msg m = WR_MSG_INIT;
	struct wr_sign_key key = test_key(TEST_KEY_NODE);
	struct wr_record r;
	struct wr_grant g;

	switch (k) {
	case TEST_RECORD:
		if (wr_record_decode(p, len, &r, err) < 0)
			return -1;
		wr_record_encode(&r, out);
		return wr_record_verify(&r, f, err);
	case TEST_SAVE:
		if (wr_save_rec_decode(p, len, &s, err) < 0)
			return -1;
		wr_save_rec_encode(&s, out);
		return wr_save_rec_verify(&s, f, err);
	case TEST_SETTINGS:
		if (wr_settings_doc_decode(p, len, &d, err) < 0)
			return -1;
		wr_settings_doc_encode(&d, out);
		return wr_settings_doc_verify(&d, f, err);
	case TEST_GRANT:
		if (wr_grant_decode(p, len, &g, err) < 0)
			return -1;
		wr_grant_encode(&g, out);
		return wr_grant_verify(&g, f, err);
	case TEST_FLEET:
		if (wr_fleet_decode(p, len, &next, err) < 0)
			return -1;
		wr_fleet_encode(&next, out);
		return wr_fleet_verify(&next, f, err);
	default:
		if (wr_msg_open(p, len, &m, err) < 0)
			return -1;
		/* The signature is not kept; all before it must be the same. */
		assert_int_equal(wr_msg_seal(&m, &key, out, err), 0);
		out->len -= WR_SIG_LEN;
		wr_buf_add(out, (const uint8_t *)p + len - WR_SIG_LEN, WR_SIG_LEN);
		return wr_msg_verify(p, len, &m, f, err);
	}
}

bool
test_good(enum test_kind k, const void *p, size_t len, struct wr_err *err)
{
	static struct wr_fleet f; /* once: the tests ask thousands of times */
	WR_SCOPED(wr_buf_fini) struct wr_buf again = WR_BUF_INIT;
	int ret;

	if (!f.node)
		test_fleet(&f);
	f.seq = 6; /* the one before */
	ret = judge(k, p, len, &f, &again, err);
	if (again.len) {
		assert_int_equal(again.len, len);
		assert_memory_equal(again.p, p, len);
	}
	return ret == 0;
}

void
test_damage(enum test_kind k, const struct wr_buf *b)
{
	struct wr_err err = WR_ERR_INIT;

	assert_true(test_good(k, b->p, b->len, &err));
	for (size_t n = 0; n <= b->len + 1; n++) {
		/* An exact copy on the heap, so that a sanitizer sees a read past it. */
		WR_SCOPED(wr_freep) uint8_t *p = wr_calloc(1, n);

		if (n == b->len)
			continue;
		memcpy(p, b->p, WR_MIN(n, b->len));
		assert_false(test_good(k, p, n, &err));
	}
	for (size_t i = 0; i < b->len; i++) {
		WR_SCOPED(wr_freep) uint8_t *p = wr_memdup(b->p, b->len);

		p[i] ^= (uint8_t)(1u << i % 8);
		assert_false(test_good(k, p, b->len, &err));
		assert_true(err.code == WR_E_INVALID || err.code == WR_E_DENIED ||
			    err.code == WR_E_UNSUPPORTED);
		p[i] = (uint8_t)~b->p[i];
		assert_false(test_good(k, p, b->len, &err));
	}
}

void
test_denied(int ret, const struct wr_err *err, const char *says)
{
	assert_int_equal(ret, -1);
	assert_int_equal(err->code, WR_E_DENIED);
	if (!strstr(err->msg, says))
		fail_msg("'%s' lacks '%s'", err->msg, says);
}
