/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, epochs, and every signed thing: round trips, damage, and what each decoder refuses. */
#include "fleet/record/record.h"

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "fleet/record/test_values.h"

/* ---- keys ---- */

static void
from_hex(const char *hex, uint8_t *out)
{
	for (size_t i = 0; hex[2 * i]; i++) {
		char t[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

		out[i] = (uint8_t)strtoul(t, NULL, 16);
	}
}

static void
test_sign__public_key_of_rfc8032(void **state)
{
	uint8_t seed[32], pub[32];
	struct wr_sign_key k;

	(void)state;
	/* RFC 8032, 7.1, test 1 */
	from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", seed);
	from_hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", pub);
	assert_int_equal(wr_sign_key_of(seed, &k, NULL), 0);
	assert_memory_equal(k.pub.b, pub, 32);
	assert_memory_equal(k.seed, seed, 32);
	wr_sign_key_fini(&k);
	wr_sign_key_fini(&k);
	memset(seed, 0, 32);
	assert_memory_equal(k.seed, seed, 32);
}

static void
test_sign__key_domain_and_bytes_count(void **state)
{
	struct wr_sign_key k, other;
	struct wr_pub none = {{0}};
	struct wr_sig s, again;

	(void)state;
	assert_int_equal(wr_sign_key_new(&k, NULL), 0);
	assert_int_equal(wr_sign_key_new(&other, NULL), 0);
	assert_memory_not_equal(k.seed, other.seed, 32);
	assert_int_equal(wr_sign(&k, "domain a", "text", 4, &s, NULL), 0);
	assert_int_equal(wr_sign(&k, "domain a", "text", 4, &again, NULL), 0);
	assert_memory_equal(s.b, again.b, sizeof(s.b));
	assert_true(wr_sign_ok(&k.pub, "domain a", "text", 4, &s));
	assert_false(wr_sign_ok(&k.pub, "domain b", "text", 4, &s));
	assert_false(wr_sign_ok(&k.pub, "domain a", "texT", 4, &s));
	assert_false(wr_sign_ok(&k.pub, "domain a", "text", 3, &s));
	assert_false(wr_sign_ok(&other.pub, "domain a", "text", 4, &s));
	/* where the domain ends is signed, too */
	assert_false(wr_sign_ok(&k.pub, "domain", " a\0text", 7, &s));
	/* without text */
	assert_int_equal(wr_sign(&k, "d", NULL, 0, &s, NULL), 0);
	assert_true(wr_sign_ok(&k.pub, "d", NULL, 0, &s));

	/* Zeros as a key are a point of order 4: one in four texts would be signed by zeros. */
	memset(&s, 0, sizeof(s));
	for (uint8_t i = 0; i < 64; i++)
		assert_false(wr_sign_ok(&none, "d", &i, 1, &s));
}

static void
test_digest__of_fips180_and_short_names_of_keys(void **state)
{
	struct wr_digest d = wr_digest_of("abc", 3);
	struct wr_pub k = test_key(0).pub;
	char want[9];
	uint8_t b[32];

	(void)state;
	from_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", b);
	assert_memory_equal(d.b, b, 32);
	d = wr_digest_of(k.b, sizeof(k.b));
	snprintf(want, sizeof(want), "%02x%02x%02x%02x", d.b[0], d.b[1], d.b[2], d.b[3]);
	assert_string_equal(wr_pub_short(&k).s, want);
	d = wr_digest_of(NULL, 0);
}

/* ---- epochs ---- */

static void
test_epoch__ordered_as_pairs(void **state)
{
	struct wr_version v[] = {{{0, 0}, 0}, {{1, 5}, 0}, {{1, 5}, UINT64_MAX}, {{1, 6}, 0},
				 {{2, 0}, 0}, {{2, 0}, 1}, {{UINT64_MAX, 0}, 0}};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(v); i++)
		for (size_t j = 0; j < WR_ARRAY_LEN(v); j++) {
			int want = i < j ? -1 : i > j;

			assert_int_equal(wr_version_cmp(&v[i], &v[j]), want);
			if (memcmp(&v[i].n, &v[j].n, sizeof(v[i].n)) != 0)
				assert_int_equal(wr_epoch_cmp(&v[i].n, &v[j].n), want);
			else
				assert_int_equal(wr_epoch_cmp(&v[i].n, &v[j].n), 0);
		}
	assert_true(wr_epoch_none(&v[0].n));
	assert_false(wr_epoch_none(&v[1].n));
	v[0] = (struct wr_version){{7, 1}, 12};
	assert_string_equal(wr_version_text(&v[0]).s, "7.12");
	v[0] = (struct wr_version){{UINT64_MAX, 1}, UINT64_MAX};
	assert_string_equal(wr_version_text(&v[0]).s, "18446744073709551615.18446744073709551615");
}

/* ---- all kinds ---- */

static void
test_all__damage_is_seen(void **state)
{
	(void)state;
	for (enum test_kind k = 0; k < TEST_KINDS; k++) {
		struct wr_buf b = WR_BUF_INIT;

		test_encoded(k, &b);
		test_damage(k, &b);
		wr_buf_fini(&b);
	}
}

static void
test_all__no_kind_is_another(void **state)
{
	(void)state;
	for (enum test_kind k = 0; k < TEST_KINDS; k++) {
		struct wr_buf b = WR_BUF_INIT;

		test_encoded(k, &b);
		for (enum test_kind j = 0; j < TEST_KINDS; j++) {
			struct wr_err err = WR_ERR_INIT;

			assert_int_equal(test_good(j, b.p, b.len, &err), j == k);
		}
		wr_buf_fini(&b);
	}
}

static void
test_all__a_later_format_is_named(void **state)
{
	(void)state;
	for (enum test_kind k = 0; k < TEST_KINDS; k++) {
		struct wr_buf b = WR_BUF_INIT;
		struct wr_err err = WR_ERR_INIT;

		test_encoded(k, &b);
		b.p[3] = '2';
		assert_false(test_good(k, b.p, b.len, &err));
		assert_int_equal(err.code, WR_E_UNSUPPORTED);
		assert_non_null(strstr(err.msg, "2', this program knows 'WR"));
		wr_buf_fini(&b);
	}
}

static void
test_all__limits_in_bytes(void **state)
{
	static const size_t limit[] = {WR_RECORD_BYTES, WR_SAVE_BYTES, WR_SETTINGS_DOC_BYTES, 137,
				       WR_FLEET_BYTES,  WR_MSG_BYTES};

	(void)state;
	for (enum test_kind k = 0; k < TEST_KINDS; k++) {
		WR_SCOPED(wr_freep) uint8_t *p = wr_calloc(1, limit[k] + 1);
		struct wr_err err = WR_ERR_INIT;

		assert_false(test_good(k, p, limit[k], &err));
		assert_int_equal(err.code, WR_E_INVALID);
		assert_false(test_good(k, p, limit[k] + 1, &err));
		assert_int_equal(err.code, WR_E_LIMIT);
	}
}

/* ---- E ---- */

/* Signing refuses what a decoder would refuse, so it shows what a decoder refuses. */
static void
refuse_record(const struct wr_record *r, const char *says)
{
	struct wr_sign_key k = test_key(TEST_KEY_HUB);
	struct wr_err err = WR_ERR_INIT;
	struct wr_record c = *r;

	assert_int_equal(wr_record_sign(&c, &k, &err), -1);
	if (!strstr(err.msg, says))
		fail_msg("'%s' lacks '%s'", err.msg, says);
}

#define REFUSE_RECORD(change, says)        \
	do {                               \
		struct wr_record r;        \
		test_record(&r);           \
		change;                    \
		refuse_record(&r, (says)); \
	} while (0)

static void
test_record__fields_are_checked(void **state)
{
	(void)state;
	REFUSE_RECORD(r.project.s[0] = '\0', "project is no id");
	REFUSE_RECORD(r.n.number = 0, "n has no number");
	REFUSE_RECORD(r.prev.number = 0, "prev has no number"); /* but random bits */
	REFUSE_RECORD(r.prev = r.n, "prev is not before n");
	REFUSE_RECORD(r.base.n = r.n, "base is not before n");
	REFUSE_RECORD(r.base = ((struct wr_version){{0, 0}, 1}), "base has a save without");
	REFUSE_RECORD(r.prev = ((struct wr_epoch){0, 0}), "base is there in a first record");
	REFUSE_RECORD((r.prev = (struct wr_epoch){0, 0}, r.base = (struct wr_version){{0, 0}, 0}),
		      "base refs are there in a first record");
	REFUSE_RECORD(r.writer.inc = 0, "writer has no incarnation");
	REFUSE_RECORD(r.writer.inc++, "writer is no data member");
	REFUSE_RECORD(r.writer = test_node(2), "writer is no data member"); /* a witness */
	REFUSE_RECORD(r.state = 0, "state is 0");
	REFUSE_RECORD(r.state = 3, "state is 3");
	REFUSE_RECORD(r.consent.id.s[0] = '\0', "consent has an incarnation only");
	REFUSE_RECORD((r.consent.id.s[0] = '\0', r.consent.inc = 0), "consent and its flag differ");
	REFUSE_RECORD(r.at = -1, "time is no time");
	REFUSE_RECORD(r.at = INT64_C(253402300800), "time is no time");
	REFUSE_RECORD(r.member_count = 0, "members is 0");
	REFUSE_RECORD(r.member_count = WR_MEMBERS_MAX + 1, "more than 9 members");
	REFUSE_RECORD(r.member[1].role = 0, "role is 0");
	REFUSE_RECORD(r.member[1].role = 4, "role is 4");
	REFUSE_RECORD(r.member[1].node = r.member[0].node, "ascending order");
	/* nor twice in two incarnations */
	REFUSE_RECORD((r.member[1].node = r.member[0].node, r.member[1].node.inc++),
		      "ascending order");
}

/* Offsets as in doc/format/records.md. */
static void
test_record__only_one_form(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
		const char *says;
	} bad[] = {
	    {4 + 6, 0x1a, "project"}, /* a UUID of version 1 */
	    {4 + 8, 0xcc, "project"}, /* of another variant */
	    {129, 8, "flags"},
	    {129, 0, "consent and its flag"},
	};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_record r;
	uint8_t m[21];

	(void)state;
	test_encoded(TEST_RECORD, &b);
	assert_int_equal(b.p[129], 1);
	assert_int_equal(b.p[166], 3);
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		uint8_t was = b.p[bad[i].at];

		b.p[bad[i].at] = bad[i].value;
		assert_int_equal(wr_record_decode(b.p, b.len, &r, &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
		assert_non_null(strstr(err.msg, bad[i].says));
		b.p[bad[i].at] = was;
	}
	/* Members in another order */
	memcpy(m, b.p + 167, 21);
	memmove(b.p + 167, b.p + 188, 21);
	memcpy(b.p + 188, m, 21);
	assert_int_equal(wr_record_decode(b.p, b.len, &r, &err), -1);
	assert_non_null(strstr(err.msg, "ascending"));
}

static void
test_record__members_are_put_in_order(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf a = WR_BUF_INIT, b = WR_BUF_INIT;
	struct wr_sign_key k = test_key(TEST_KEY_HUB);
	struct wr_record r;
	struct wr_member m;

	(void)state;
	test_encoded(TEST_RECORD, &a);
	test_record(&r);
	m = r.member[0];
	r.member[0] = r.member[2];
	r.member[2] = m;
	assert_int_equal(wr_record_sign(&r, &k, NULL), 0);
	wr_record_encode(&r, &b);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.p, b.p, a.len);
}

static void
test_record__first_and_largest(void **state)
{
	struct wr_sign_key k = test_key(TEST_KEY_HUB);
	struct wr_record r = {
	    .project = test_uuid(TEST_PROJECT),
	    .n = {1, 77},
	    .member = {{test_node(0), WR_ROLE_DATA}},
	    .member_count = 1,
	    .writer = test_node(0),
	    .state = WR_RECORD_LIVE,
	};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	assert_int_equal(wr_record_sign(&r, &k, &err), 0);
	wr_record_encode(&r, &b);
	assert_true(test_good(TEST_RECORD, b.p, b.len, &err));
	assert_int_equal(wr_record_majority(&r), 1);

	r.member_count = WR_MEMBERS_MAX;
	for (unsigned i = 1; i < WR_MEMBERS_MAX; i++) {
		r.member[i] = r.member[0];
		r.member[i].node.id.s[7] = (char)('0' + i);
		r.member[i].role = 1 + i % 3;
	}
	r.state = WR_RECORD_DELETED;
	r.prev = (struct wr_epoch){1, 76}; /* the same number, smaller bits */
	r.accept_loss = true;
	assert_int_equal(wr_record_sign(&r, &k, &err), 0);
	wr_buf_clear(&b);
	wr_record_encode(&r, &b);
	assert_true(test_good(TEST_RECORD, b.p, b.len, &err));
	assert_true(b.len <= WR_RECORD_BYTES);
}

static void
test_record__who_belongs_to_it(void **state)
{
	struct wr_node_id other = test_node(1);
	struct wr_record r;

	(void)state;
	test_record(&r);
	assert_int_equal(wr_record_voters(&r), 3);
	assert_int_equal(wr_record_majority(&r), 2);
	assert_ptr_equal(wr_record_member(&r, &other.id), &r.member[1]);
	assert_ptr_equal(wr_record_has(&r, &other), &r.member[1]);
	other.inc++;
	assert_ptr_equal(wr_record_member(&r, &other.id), &r.member[1]);
	assert_null(wr_record_has(&r, &other));
	assert_null(wr_record_member(&r, &r.project));
	r.member[1].role = WR_ROLE_LEARNER;
	assert_int_equal(wr_record_voters(&r), 2);
	assert_int_equal(wr_record_majority(&r), 2);
}

static void
test_record__whose_signature(void **state)
{
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_sign_key k;
	struct wr_record r;

	(void)state;
	test_fleet(&f);
	test_record(&r);
	assert_int_equal(wr_record_verify(&r, &f, &err), 0);

	k = test_key(TEST_KEY_SPARE);
	assert_int_equal(wr_record_sign(&r, &k, &err), 0);
	assert_int_equal(wr_record_verify(&r, &f, &err), 0);
	f.hub_count = 1;
	test_denied(wr_record_verify(&r, &f, &err), &err, "no hub key");

	/* A node's key is none of a hub */
	k = test_key(TEST_KEY_NODE);
	assert_int_equal(wr_record_sign(&r, &k, &err), 0);
	test_denied(wr_record_verify(&r, &f, &err), &err, "no hub key");
	/* and to name a hub's key is not to have it */
	r.hub = test_key(TEST_KEY_HUB).pub;
	test_denied(wr_record_verify(&r, &f, &err), &err, "the signature is not of key");

	/* The recovery key forces, and does nothing else; a hub's does not force. */
	k = test_key(TEST_KEY_RECOVERY);
	assert_int_equal(wr_record_sign(&r, &k, &err), 0);
	test_denied(wr_record_verify(&r, &f, &err), &err, "no hub key");
	r.forced = true;
	assert_int_equal(wr_record_sign(&r, &k, &err), 0);
	assert_int_equal(wr_record_verify(&r, &f, &err), 0);
	k = test_key(TEST_KEY_HUB);
	assert_int_equal(wr_record_sign(&r, &k, &err), 0);
	test_denied(wr_record_verify(&r, &f, &err), &err, "not the fleet's recovery key");

	/* A fleet without recovery key */
	memset(&f.recovery, 0, sizeof(f.recovery));
	memset(&r.hub, 0, sizeof(r.hub));
	test_denied(wr_record_verify(&r, &f, &err), &err, "the signature is not of key");
}

/* ---- S ---- */

static void
refuse_save(const struct wr_save_rec *s, const char *says)
{
	struct wr_sign_key k = test_key(TEST_KEY_NODE + 1);
	struct wr_err err = WR_ERR_INIT;
	struct wr_save_rec c = *s;

	assert_int_equal(wr_save_rec_sign(&c, &k, &err), -1);
	if (!strstr(err.msg, says))
		fail_msg("'%s' lacks '%s'", err.msg, says);
}

#define REFUSE_SAVE(change, says)                                 \
	do {                                                      \
		WR_SCOPED(wr_save_rec_fini) struct wr_save_rec s; \
		test_save(&s);                                    \
		change;                                           \
		refuse_save(&s, (says));                          \
	} while (0)

static void
test_save__fields_are_checked(void **state)
{
	char *name;
	struct wr_save_ref ref;

	(void)state;
	REFUSE_SAVE(s.project.s[0] = '\0', "project is no id");
	REFUSE_SAVE(s.v.n.number = 0, "version has no number");
	REFUSE_SAVE(s.scan_started = -1, "scan time is no time");
	REFUSE_SAVE(s.scan_started = 0, "nanoseconds");
	REFUSE_SAVE(s.scan_ns = 1000000000, "nanoseconds");
	REFUSE_SAVE(s.writer.inc = 0, "writer has no incarnation");
	REFUSE_SAVE(memset(s.ref[1].id, 0, 20), "ref has no object");
	REFUSE_SAVE((ref = s.ref[0], s.ref[0] = s.ref[1], s.ref[1] = ref), "ascending order");
	REFUSE_SAVE((name = s.ref[1].name, s.ref[1].name = wr_strdup(s.ref[0].name), free(name)),
		    "ascending order");
}

static void
name_is(const char *name, bool good)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec s = WR_SAVE_REC_INIT;
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec again = WR_SAVE_REC_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_sign_key k = test_key(TEST_KEY_NODE + 1);
	struct wr_err err = WR_ERR_INIT;
	int ret;

	test_save(&s);
	free(s.ref[0].name);
	free(s.ref[1].name);
	free(s.ref[2].name);
	s.ref_count = 1;
	s.ref[0].name = wr_strdup(name);
	ret = wr_save_rec_sign(&s, &k, &err);
	if (ret != (good ? 0 : -1))
		fail_msg("'%s': %s", name, good ? err.msg : "taken");
	if (strlen(name) > 1024) /* the signer says it before the decoder */
		return;
	wr_save_rec_encode(&s, &b);
	assert_int_equal(wr_save_rec_decode(b.p, b.len, &again, &err), good ? 0 : -1);
}

static void
test_save__names_of_refs(void **state)
{
	static const char *const good[] = {
	    "refs/heads/a",        "refs/heads/main", "refs/heads/conflict-2.5-n1",
	    "refs/heads/a/b/c",    "refs/tags/v1.0",  "refs/warren/latest",
	    "refs/heads/\xc3\xa9", "refs/heads/@",
	};
	static const char *const bad[] = {
	    "",
	    "HEAD",
	    "main",
	    "heads/main",
	    "refs",
	    "refs/",
	    "refs/heads",
	    "refs/heads/",
	    "refs/tags/",
	    "refs/remotes/a",
	    "refs/warren",
	    "refs/warren/",
	    "refs/warren/keep/a",
	    "refs/warren/fill/2.5",
	    "refs/warren/latest/a",
	    "refs/warren/lates",
	    "refs/heads/../warren/keep",
	    "refs/heads/..",
	    "refs/heads/.",
	    "refs/heads/a..b",
	    "refs/heads/.a",
	    "refs/heads/a/.b",
	    "refs/heads/a.",
	    "refs/heads/a.lock",
	    "refs/heads/a.lock/b",
	    "refs/heads//a",
	    "refs/heads/a/",
	    "refs/heads/a b",
	    "refs/heads/a\n",
	    "refs/heads/a\x1b[0m",
	    "refs/heads/a\x7f",
	    "refs/heads/a~",
	    "refs/heads/a^",
	    "refs/heads/a:b",
	    "refs/heads/a?",
	    "refs/heads/a*",
	    "refs/heads/[",
	    "refs/heads/a\\b",
	    "refs/heads/a@{b",
	    "/refs/heads/a",
	    "Refs/heads/a",
	};
	char name[2048] = "refs/heads/";
	size_t n = strlen(name);

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++)
		name_is(good[i], true);
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++)
		name_is(bad[i], false);
	memset(name + n, 'a', 250);
	name_is(name, true);
	name[n + 250] = 'a';
	name_is(name, false);
	for (size_t i = n; i < 1024; i++)
		name[i] = i % 100 ? 'a' : '/';
	name_is(name, true);
	name[1024] = 'a';
	name_is(name, false);
}

static void
test_save__a_name_with_a_nul_inside(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec s = WR_SAVE_REC_INIT;
	struct wr_err err = WR_ERR_INIT;
	uint8_t *p;

	(void)state;
	test_encoded(TEST_SAVE, &b);
	p = memmem(b.p, b.len, "refs/heads/main", 15);
	p[12] = '\0';
	assert_int_equal(wr_save_rec_decode(b.p, b.len, &s, &err), -1);
	assert_non_null(strstr(err.msg, "none that is replicated"));
}

static void
test_save__counts(void **state)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec s = WR_SAVE_REC_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_sign_key k = test_key(TEST_KEY_NODE + 1);
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	/* An opening without refs */
	s.project = test_uuid(TEST_PROJECT);
	s.v.n = test_epoch(1);
	s.writer = test_node(1);
	assert_int_equal(wr_save_rec_sign(&s, &k, &err), 0);
	wr_save_rec_encode(&s, &b);
	assert_true(test_good(TEST_SAVE, b.p, b.len, &err));
	/* A count without entries makes nothing. */
	wr_put32be(b.p + b.len - WR_SIG_LEN - 4, WR_SAVE_REFS_MAX);
	assert_false(test_good(TEST_SAVE, b.p, b.len, &err));
	assert_non_null(strstr(err.msg, "refs are cut off"));
	wr_put32be(b.p + b.len - WR_SIG_LEN - 4, UINT32_MAX);
	assert_false(test_good(TEST_SAVE, b.p, b.len, &err));
	assert_non_null(strstr(err.msg, "more than 4096"));

	/* The most there may be, and one more */
	s.ref = wr_calloc(WR_SAVE_REFS_MAX + 1, sizeof(*s.ref));
	s.ref_count = WR_SAVE_REFS_MAX + 1;
	for (size_t i = 0; i < s.ref_count; i++) {
		s.ref[i].name = wr_asprintf("refs/tags/%05zu", i);
		s.ref[i].id[0] = 1;
	}
	assert_int_equal(wr_save_rec_sign(&s, &k, &err), -1);
	assert_non_null(strstr(err.msg, "more than 4096"));
	free(s.ref[--s.ref_count].name);
	assert_int_equal(wr_save_rec_sign(&s, &k, &err), 0);
	wr_buf_clear(&b);
	wr_save_rec_encode(&s, &b);
	assert_true(test_good(TEST_SAVE, b.p, b.len, &err));
	/* So many that the whole is too large */
	for (size_t i = 0; i < s.ref_count; i++) {
		free(s.ref[i].name);
		s.ref[i].name = wr_asprintf("refs/tags/%05zu/%0200d", i, 1);
	}
	assert_int_equal(wr_save_rec_sign(&s, &k, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
}

static void
test_save__digest_of_its_refs_alone(void **state)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec s;
	struct wr_digest a, b;

	(void)state;
	test_save(&s);
	a = wr_save_refs_digest(&s);
	s.v.s++;
	s.scan_started++;
	b = wr_save_refs_digest(&s);
	assert_memory_equal(a.b, b.b, sizeof(a.b));
	s.ref[1].id[19] ^= 1;
	b = wr_save_refs_digest(&s);
	assert_memory_not_equal(a.b, b.b, sizeof(a.b));
}

static void
test_save__whose_signature(void **state)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec s;
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {0};
	struct wr_sign_key k = test_key(TEST_KEY_NODE + 1), hub = test_key(TEST_KEY_HUB);
	struct wr_err err = WR_ERR_INIT;
	struct wr_fleet_node *n;

	(void)state;
	test_fleet(&f);
	test_save(&s);
	assert_int_equal(wr_save_rec_verify(&s, &f, &err), 0);
	/* Removal is about what it may do from now on. */
	f.node[1].flags = WR_FLEET_REMOVED;
	assert_int_equal(wr_save_rec_verify(&s, &f, &err), 0);

	/* Another incarnation, with the same key */
	s.writer.inc++;
	assert_int_equal(wr_save_rec_sign(&s, &k, &err), 0);
	test_denied(wr_save_rec_verify(&s, &f, &err), &err, "000002.3 is not in the fleet record");
	/* It joins again: the old one stays, so that its saves do. */
	f.node = wr_reallocarray(f.node, ++f.node_count, sizeof(*f.node));
	n = &f.node[2];
	memmove(n + 1, n, sizeof(*n));
	*n = n[-1];
	n->node.inc++;
	n->flags = 0;
	n->pub = test_key(7).pub;
	assert_int_equal(wr_fleet_sign(&f, &hub, &err), 0);
	test_denied(wr_save_rec_verify(&s, &f, &err), &err, "the signature is not of key");
	s.writer.inc--;
	assert_int_equal(wr_save_rec_sign(&s, &k, &err), 0);
	assert_int_equal(wr_save_rec_verify(&s, &f, &err), 0);

	/* The right node, another's signature */
	k = test_key(TEST_KEY_NODE);
	assert_int_equal(wr_save_rec_sign(&s, &k, &err), 0);
	test_denied(wr_save_rec_verify(&s, &f, &err), &err, "the signature is not of key");
	s.writer.id = s.project;
	test_denied(wr_save_rec_verify(&s, &f, &err), &err, "is not in the fleet record");
}

/* ---- settings ---- */

static void
test_settings__text_and_signature(void **state)
{
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc d;
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_sign_key k = test_key(TEST_KEY_NODE);
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	test_fleet(&f);
	test_settings(&d);
	assert_int_equal(wr_settings_doc_verify(&d, &f, &err), 0);
	assert_int_equal(wr_settings_doc_sign(&d, &k, &err), 0);
	test_denied(wr_settings_doc_verify(&d, &f, &err), &err, "no hub key");
	/* not even the recovery key: settings are a hub's */
	k = test_key(TEST_KEY_RECOVERY);
	assert_int_equal(wr_settings_doc_sign(&d, &k, &err), 0);
	test_denied(wr_settings_doc_verify(&d, &f, &err), &err, "no hub key");

	k = test_key(TEST_KEY_HUB);
	memcpy(d.json, "\xff", 1);
	assert_int_equal(wr_settings_doc_sign(&d, &k, &err), -1);
	assert_non_null(strstr(err.msg, "json is no text"));
	d.json[0] = '\0';
	assert_int_equal(wr_settings_doc_sign(&d, &k, &err), -1);

	/* The largest */
	free(d.json);
	d.json = wr_malloc(65537);
	memset(d.json, ' ', 65536);
	d.json[65536] = '\0';
	assert_int_equal(wr_settings_doc_sign(&d, &k, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	d.json[65535] = '\0';
	assert_int_equal(wr_settings_doc_sign(&d, &k, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	d.json[65410] = '\0';
	assert_int_equal(wr_settings_doc_sign(&d, &k, &err), 0);
	wr_settings_doc_encode(&d, &b);
	assert_int_equal(b.len, WR_SETTINGS_DOC_BYTES);
	assert_true(test_good(TEST_SETTINGS, b.p, b.len, &err));
}

/* ---- grants ---- */

static void
test_grant__kinds_and_signature(void **state)
{
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_sign_key k = test_key(TEST_KEY_NODE + 1);
	struct wr_err err = WR_ERR_INIT;
	struct wr_grant g;

	(void)state;
	test_fleet(&f);
	test_grant(&g);
	assert_int_equal(wr_grant_verify(&g, &f, &err), 0);
	g.next = g.n;
	assert_int_equal(wr_grant_sign(&g, &k, &err), -1);
	assert_non_null(strstr(err.msg, "next is not behind n"));
	g.next = (struct wr_epoch){0, 0};
	assert_int_equal(wr_grant_sign(&g, &k, &err), -1);
	g.kind = WR_GRANT_RELEASE;
	assert_int_equal(wr_grant_sign(&g, &k, &err), 0);
	wr_grant_encode(&g, &b);
	assert_true(test_good(TEST_GRANT, b.p, b.len, &err));
	test_damage(TEST_GRANT, &b);
	g.next = test_epoch(3);
	assert_int_equal(wr_grant_sign(&g, &k, &err), -1);
	assert_non_null(strstr(err.msg, "next is there in a release"));
	for (unsigned kind = 0; kind < 4; kind += 3) {
		g.kind = kind;
		assert_int_equal(wr_grant_sign(&g, &k, &err), -1);
		assert_non_null(strstr(err.msg, "kind is"));
	}

	test_grant(&g);
	g.writer.inc--;
	assert_int_equal(wr_grant_sign(&g, &k, &err), 0);
	test_denied(wr_grant_verify(&g, &f, &err), &err, "is not in the fleet record");
	test_grant(&g);
	f.node[1].flags = WR_FLEET_REMOVED;
	test_denied(wr_grant_verify(&g, &f, &err), &err, "was removed");
	f.node[1].flags = 0;
	k = test_key(TEST_KEY_HUB);
	assert_int_equal(wr_grant_sign(&g, &k, &err), 0);
	test_denied(wr_grant_verify(&g, &f, &err), &err, "the signature is not of key");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sign__public_key_of_rfc8032),
	    cmocka_unit_test(test_sign__key_domain_and_bytes_count),
	    cmocka_unit_test(test_digest__of_fips180_and_short_names_of_keys),
	    cmocka_unit_test(test_epoch__ordered_as_pairs),
	    cmocka_unit_test(test_all__damage_is_seen),
	    cmocka_unit_test(test_all__no_kind_is_another),
	    cmocka_unit_test(test_all__a_later_format_is_named),
	    cmocka_unit_test(test_all__limits_in_bytes),
	    cmocka_unit_test(test_record__fields_are_checked),
	    cmocka_unit_test(test_record__only_one_form),
	    cmocka_unit_test(test_record__members_are_put_in_order),
	    cmocka_unit_test(test_record__first_and_largest),
	    cmocka_unit_test(test_record__who_belongs_to_it),
	    cmocka_unit_test(test_record__whose_signature),
	    cmocka_unit_test(test_save__fields_are_checked),
	    cmocka_unit_test(test_save__names_of_refs),
	    cmocka_unit_test(test_save__a_name_with_a_nul_inside),
	    cmocka_unit_test(test_save__counts),
	    cmocka_unit_test(test_save__digest_of_its_refs_alone),
	    cmocka_unit_test(test_save__whose_signature),
	    cmocka_unit_test(test_settings__text_and_signature),
	    cmocka_unit_test(test_grant__kinds_and_signature),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
