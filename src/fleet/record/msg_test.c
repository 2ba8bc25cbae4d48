/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: every kind there and back, exactly its fields, damage, answers, errors. */
#include "fleet/record/msg.h"

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "fleet/record/test_values.h"

#define KINDS_END (WR_MSG_MARK + 1)

static bool
is_kind(unsigned k)
{
	return strcmp(wr_msg_kind_name(k), "?") != 0;
}

/* All fields set, each to something else. */
static void
fill(struct wr_msg *m, enum wr_msg_kind kind)
{
	test_hello(m);
	m->kind = kind;
	m->to_nonce = 3;
	m->project = test_uuid(TEST_PROJECT);
	m->n = test_epoch(4);
	m->next = test_epoch(5);
	m->version = (struct wr_version){test_epoch(3), 9};
	m->node = test_node(2);
	m->number = 6;
	m->wish = WR_WISH_ADD;
	m->flag = true;
	wr_buf_adds(&m->record, "a record");
	wr_buf_adds(&m->save, "a save record");
	wr_buf_adds(&m->settings, "a settings document");
	wr_buf_adds(&m->grant, "a grant");
	wr_buf_adds(&m->blob, "bytes");
	m->digest = wr_digest_of("x", 1);
	memset(m->base, 'a', 40);
	m->dirty = true;
	m->damaged = true;
	m->code = WR_E_BUSY;
	m->text = wr_strdup("it is in use\nby \xc3\xa9");
	m->hint = wr_strdup("wait");
	m->keep_count = 2;
	m->keep = wr_calloc(2, sizeof(*m->keep));
	m->keep[0] = (struct wr_keep){m->project, m->n, true};
	m->keep[1] = (struct wr_keep){m->to, {0, 0}, false};
	m->report_count = 2;
	m->report = wr_calloc(2, sizeof(*m->report));
	m->report[0] = (struct wr_report){.project = m->project,
					  .n = m->n,
					  .held = m->version,
					  .scan_started = 1795342530,
					  .repo_bytes = 1 << 20,
					  .tree_bytes = UINT64_MAX,
					  .dirty = true,
					  .running = true,
					  .state = 4};
	m->report[1] = (struct wr_report){.project = m->to, .hidden = true};
	m->blob_count = 2;
	m->blobs = wr_calloc(2, sizeof(*m->blobs));
	wr_buf_adds(&m->blobs[0], "first");
	memset(m->challenge, 0xcc, sizeof(m->challenge));
	m->id_count = 3;
	m->ids = wr_calloc(3, sizeof(*m->ids));
	memset(m->ids, 0xdd, 60);
}

static void
sealed(const struct wr_msg *m, struct wr_buf *out)
{
	struct wr_sign_key k = test_key(TEST_KEY_NODE);
	struct wr_err err = WR_ERR_INIT;

	if (wr_msg_seal(m, &k, out, &err) < 0)
		fail_msg("%s", err.msg);
}

static void
refuse(const struct wr_msg *m, const char *says)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_sign_key k = test_key(TEST_KEY_NODE);
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_msg_seal(m, &k, &b, &err), -1);
	assert_int_equal(b.len, 0);
	if (!strstr(err.msg, says))
		fail_msg("'%s' lacks '%s'", err.msg, says);
}

static bool
has(enum wr_msg_kind kind, const char *field)
{
	const char *f;

	for (size_t i = 0; (f = wr_msg_field_name(kind, i)); i++)
		if (strcmp(f, field) == 0)
			return true;
	return false;
}

static bool
same_buf(const struct wr_buf *a, const struct wr_buf *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->p, b->p, a->len) == 0);
}

/* A field that the kind has is as in m, another one is empty. */
static void
check_fields(const struct wr_msg *m, const struct wr_msg *o)
{
	static const struct wr_msg none = WR_MSG_INIT;
	enum wr_msg_kind k = o->kind;

#define VALUE(f) assert_memory_equal(&o->f, has(k, #f) ? &m->f : &none.f, sizeof(o->f))
	VALUE(project);
	VALUE(n);
	VALUE(next);
	VALUE(version);
	VALUE(number);
	VALUE(fleet_seq);
	VALUE(at);
	VALUE(wish);
	VALUE(flag);
	VALUE(digest);
	VALUE(base);
	VALUE(dirty);
	VALUE(damaged);
	VALUE(code);
	VALUE(challenge);
#define BYTES(f)                                             \
	do {                                                 \
		if (has(k, #f))                              \
			assert_true(same_buf(&m->f, &o->f)); \
		else                                         \
			assert_int_equal(o->f.len, 0);       \
	} while (0)
	BYTES(record);
	BYTES(save);
	BYTES(settings);
	BYTES(grant);
	BYTES(blob);
#define TEXT(f)                                          \
	do {                                             \
		if (has(k, #f))                          \
			assert_string_equal(m->f, o->f); \
		else                                     \
			assert_null(o->f);               \
	} while (0)
	TEXT(text);
	TEXT(hint);
	assert_int_equal(wr_node_id_eq(&m->node, &o->node), has(k, "node"));
	assert_int_equal(o->keep_count, has(k, "keep") ? 2 : 0);
	assert_int_equal(o->report_count, has(k, "report") ? 2 : 0);
	assert_int_equal(o->blob_count, has(k, "blobs") ? 2 : 0);
	assert_int_equal(o->id_count, has(k, "ids") ? 3 : 0);
	for (size_t i = 0; i < o->keep_count; i++) {
		assert_string_equal(o->keep[i].project.s, m->keep[i].project.s);
		assert_int_equal(wr_epoch_cmp(&o->keep[i].n, &m->keep[i].n), 0);
		assert_int_equal(o->keep[i].ok, m->keep[i].ok);
	}
	for (size_t i = 0; i < o->report_count; i++) {
		const struct wr_report *a = &o->report[i], *b = &m->report[i];

		assert_string_equal(a->project.s, b->project.s);
		assert_int_equal(wr_epoch_cmp(&a->n, &b->n), 0);
		assert_int_equal(wr_version_cmp(&a->held, &b->held), 0);
		assert_int_equal(a->scan_started, b->scan_started);
		assert_true(a->repo_bytes == b->repo_bytes && a->tree_bytes == b->tree_bytes);
		assert_true(a->dirty == b->dirty && a->hidden == b->hidden);
		assert_true(a->running == b->running && a->state == b->state);
	}
	for (size_t i = 0; i < o->blob_count; i++)
		assert_true(same_buf(&o->blobs[i], &m->blobs[i]));
	if (o->id_count)
		assert_memory_equal(o->ids, m->ids, 60);
}

static void
test_msg__each_kind_has_its_fields(void **state)
{
	unsigned count = 0;

	(void)state;
	for (unsigned kind = 0; kind < KINDS_END; kind++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		WR_SCOPED(wr_msg_fini) struct wr_msg m, o = WR_MSG_INIT;
		struct wr_err err = WR_ERR_INIT;

		fill(&m, kind);
		if (!is_kind(kind)) {
			refuse(&m, "there is no message of kind");
			continue;
		}
		sealed(&m, &b);
		assert_true(test_good(TEST_MESSAGE, b.p, b.len, &err));
		assert_int_equal(wr_msg_open(b.p, b.len, &o, &err), 0);
		assert_true(wr_node_id_eq(&o.from, &m.from));
		assert_string_equal(o.to.s, m.to.s);
		assert_true(o.to_nonce == m.to_nonce && o.nonce == m.nonce);
		assert_true(o.counter == m.counter && o.request == m.request);
		assert_int_equal(o.kind, kind);
		check_fields(&m, &o);
		wr_msg_fini(&m); /* and again at the end of the scope */
		count++;
	}
	assert_int_equal(count, 40);
	assert_string_equal(wr_msg_kind_name(KINDS_END), "?");
	assert_null(wr_msg_field_name(KINDS_END, 0));
	assert_null(wr_msg_field_name(WR_MSG_HELLO, 1000));
}

static void
test_msg__empty_bodies(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS_END; kind++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		struct wr_err err = WR_ERR_INIT;
		struct wr_msg m;

		if (!is_kind(kind))
			continue;
		test_hello(&m);
		m.kind = kind;
		m.wish = WR_WISH_WRITER;
		sealed(&m, &b);
		assert_true(test_good(TEST_MESSAGE, b.p, b.len, &err));
	}
}

static void
test_msg__damage_is_seen(void **state)
{
	static const enum wr_msg_kind kinds[] = {WR_MSG_PROMISE, WR_MSG_KEPT,   WR_MSG_NACK,
						 WR_MSG_ATTEST,  WR_MSG_REPORT, WR_MSG_RAISE};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(kinds); i++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		WR_SCOPED(wr_msg_fini) struct wr_msg m;

		fill(&m, kinds[i]);
		sealed(&m, &b);
		test_damage(TEST_MESSAGE, &b);
	}
}

#define REFUSE(as, change, says)                        \
	do {                                            \
		WR_SCOPED(wr_msg_fini) struct wr_msg m; \
		fill(&m, (as));                         \
		change;                                 \
		refuse(&m, (says));                     \
	} while (0)

static void
test_msg__fields_are_checked(void **state)
{
	(void)state;
	REFUSE(WR_MSG_OK, m.from.inc = 0, "sender has no incarnation");
	REFUSE(WR_MSG_OK, m.from.id.s[0] = '\0', "sender is no id");
	REFUSE(WR_MSG_OK, m.to.s[0] = '\0', "recipient is no id");
	REFUSE(WR_MSG_OK, m.nonce = 0, "nonce is none");
	REFUSE(WR_MSG_HELLO, m.at = -1, "at is no time");
	REFUSE(WR_MSG_PREPARE, m.n.number = 0, "n has no number");
	REFUSE(WR_MSG_ACK, m.version.n = ((struct wr_epoch){0, 0}), "a save without an epoch");
	REFUSE(WR_MSG_RAISE, m.wish = 0, "wish is 0");
	REFUSE(WR_MSG_RAISE, m.wish = WR_WISH_WITNESS + 1, "wish is 8");
	REFUSE(WR_MSG_RAISE, m.node.inc = 0, "node has no incarnation");
	REFUSE(WR_MSG_PROMISE, m.base[39] = '\0', "base is no commit");
	REFUSE(WR_MSG_PROMISE, m.base[0] = 'A', "base is no commit");
	REFUSE(WR_MSG_ERROR, memcpy(m.text, "\x1b", 1), "text is not UTF-8 text");
	REFUSE(WR_MSG_ERROR, memcpy(m.hint, "\xff", 1), "hint is not UTF-8 text");
	REFUSE(WR_MSG_KEEP, m.keep[0].project.s[0] = '\0', "keep is no id");
	REFUSE(WR_MSG_REPORT, m.report[1].state = 9, "report is 9");
	REFUSE(WR_MSG_REPORT, m.report[1].scan_started = -1, "report is no time");
}

static void
test_msg__limits(void **state)
{
	WR_SCOPED(wr_freep) char *big = wr_calloc(1, WR_MSG_BYTES);
	WR_SCOPED(wr_freep) char *text = wr_calloc(1, 5000);

	(void)state;
	memset(text, 'x', 4097);
	REFUSE(WR_MSG_PROMISE, wr_buf_add(&m.record, big, WR_RECORD_BYTES),
	       "record has 16392 bytes");
	REFUSE(WR_MSG_PROMISE, wr_buf_add(&m.save, big, WR_SAVE_BYTES), "save has");
	REFUSE(WR_MSG_INSTALL, wr_buf_add(&m.settings, big, WR_SETTINGS_DOC_BYTES), "settings has");
	REFUSE(WR_MSG_GRANT, wr_buf_add(&m.grant, big, WR_RECORD_BYTES), "grant has");
	REFUSE(WR_MSG_CERT, wr_buf_add(&m.blob, big, WR_MSG_BYTES), "more than 1048576");
	REFUSE(WR_MSG_ERROR, (free(m.text), m.text = wr_strdup(text)), "longer than 4096");
	REFUSE(WR_MSG_KEEP, m.keep_count = WR_MSG_KEEPS + 1, "too long");
	REFUSE(WR_MSG_REPORT, m.report_count = WR_MSG_REPORTS + 1, "too long");
	REFUSE(WR_MSG_ATTEST, m.id_count = WR_MSG_IDS + 1, "too long");
	for (int more = 0; more < 2; more++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		WR_SCOPED(wr_msg_fini) struct wr_msg m;
		struct wr_sign_key k = test_key(TEST_KEY_NODE);
		struct wr_err err = WR_ERR_INIT;

		test_hello(&m);
		m.kind = WR_MSG_CERT;
		wr_buf_add(&m.blob, big, WR_MSG_BYTES - 74 - 4 - 64 + (size_t)more);
		assert_int_equal(wr_msg_seal(&m, &k, &b, &err), -more);
		assert_int_equal(b.len, more ? 0 : WR_MSG_BYTES);
		assert_int_equal(err.code, more ? WR_E_LIMIT : WR_E_NONE);
	}
}

/* Counts that promise more than there is are refused before anything is made for them. */
static void
test_msg__counts_that_lie(void **state)
{
	static const struct {
		enum wr_msg_kind kind;
		size_t at, limit;
	} list[] = {
	    {WR_MSG_KEEP, 82, WR_MSG_KEEPS},
	    {WR_MSG_REPORT, 74, WR_MSG_REPORTS},
	    {WR_MSG_REPORTED, 74, WR_MSG_BLOBS},
	};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(list); i++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		WR_SCOPED(wr_msg_fini) struct wr_msg m, o = WR_MSG_INIT;
		struct wr_err err = WR_ERR_INIT;

		fill(&m, list[i].kind);
		sealed(&m, &b);
		assert_int_equal(wr_get32be(b.p + list[i].at), 2);
		wr_put32be(b.p + list[i].at, (uint32_t)list[i].limit);
		assert_int_equal(wr_msg_open(b.p, b.len, &o, &err), -1);
		assert_non_null(strstr(err.msg, "cut off"));
		wr_put32be(b.p + list[i].at, (uint32_t)list[i].limit + 1);
		assert_int_equal(wr_msg_open(b.p, b.len, &o, &err), -1);
		assert_non_null(strstr(err.msg, "more than"));
		wr_put32be(b.p + list[i].at, 1);
		assert_int_equal(wr_msg_open(b.p, b.len, &o, &err), -1);
	}
}

static void
test_msg__a_later_kind_is_carried(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_msg m = WR_MSG_INIT;

	(void)state;
	test_encoded(TEST_MESSAGE, &b);
	b.p[72] = 1;
	assert_int_equal(wr_msg_open(b.p, b.len, &m, &err), -1);
	assert_int_equal(err.code, WR_E_UNSUPPORTED);
	assert_int_equal(wr_msg_peek(b.p, b.len, &m, &err), 0);
	assert_int_equal(m.kind, 257);
	assert_string_equal(wr_msg_kind_name(m.kind), "?");
	b.p[72] = b.p[73] = 0;
	assert_int_equal(wr_msg_peek(b.p, b.len, &m, &err), -1);
	assert_int_equal(err.code, WR_E_INVALID);
	assert_int_equal(wr_msg_peek(b.p, 74 + 63, &m, &err), -1);
	assert_non_null(strstr(err.msg, "cut off"));
}

static void
test_msg__whose_it_is(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT, c = WR_BUF_INIT;
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {0};
	struct wr_sign_key k = test_key(TEST_KEY_NODE + 1);
	struct wr_err err = WR_ERR_INIT;
	struct wr_msg m;

	(void)state;
	test_fleet(&f);
	test_hello(&m);
	sealed(&m, &b);
	assert_int_equal(wr_msg_verify(b.p, b.len, &m, &f, &err), 0);
	f.node[0].node.inc++;
	test_denied(wr_msg_verify(b.p, b.len, &m, &f, &err), &err, "000001.1 is not in the fleet");
	f.node[0].node.inc--;
	f.node[0].flags = WR_FLEET_REMOVED;
	test_denied(wr_msg_verify(b.p, b.len, &m, &f, &err), &err, "'n1' was removed");
	f.node[0].flags = 0;
	/* Another node of the fleet in its name */
	assert_int_equal(wr_msg_seal(&m, &k, &c, &err), 0);
	test_denied(wr_msg_verify(c.p, c.len, &m, &f, &err), &err, "not signed by its sender 'n1'");
}

static void
test_msg__answers(void **state)
{
	struct wr_node_id self = test_node(1);
	struct wr_msg q, a = WR_MSG_INIT;

	(void)state;
	test_hello(&q);
	q.to_nonce = 99;
	wr_msg_answer(&a, &q, &self, WR_MSG_HELLO_OK);
	assert_true(wr_node_id_eq(&a.from, &self));
	assert_string_equal(a.to.s, q.from.id.s);
	assert_true(a.to_nonce == q.nonce && a.nonce == 99 && a.request == q.request);
	assert_int_equal(a.kind, WR_MSG_HELLO_OK);
	wr_msg_fini(&a);
}

static void
test_msg__errors_there_and_back(void **state)
{
	WR_SCOPED(wr_msg_fini) struct wr_msg m, o = WR_MSG_INIT;
	struct wr_err e = WR_ERR_INIT, got = WR_ERR_INIT;

	(void)state;
	test_hello(&m);
	m.kind = WR_MSG_NACK;
	for (unsigned c = 0; c < WR_E_COUNT; c++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

		wr_err_set(&e, c, "node '%s'", "n1");
		wr_err_hint(&e, "do %u", c);
		wr_msg_set_err(&m, &e);
		sealed(&m, &b);
		wr_msg_fini(&o);
		assert_int_equal(wr_msg_open(b.p, b.len, &o, &got), 0);
		wr_msg_get_err(&o, &got);
		assert_int_equal(got.code, c ? c : WR_E_FAILED);
		assert_string_equal(got.msg, e.msg);
		assert_string_equal(got.hint, e.hint);
	}

	/* What tools print, and texts cut within a character, get through. */
	wr_err_set(&e, WR_E_FAILED, "a\x1b[31m\tb\nc\x07\xc3");
	wr_msg_set_err(&m, &e);
	assert_string_equal(m.text, "a?[31m\tb\nc?\xef\xbf\xbd");
	assert_null(m.hint);
	memset(e.msg, 0xff, sizeof(e.msg) - 1);
	wr_msg_set_err(&m, &e);
	assert_true(strlen(m.text) <= 4096);
	wr_msg_get_err(&m, &got);
	assert_int_equal(got.code, WR_E_FAILED);
	m.code = WR_E_NONE;
	free(m.text);
	m.text = NULL;
	wr_msg_get_err(&m, &got);
	assert_string_equal(got.msg, "no message");
	assert_int_equal(got.code, WR_E_FAILED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_msg__each_kind_has_its_fields),
	    cmocka_unit_test(test_msg__empty_bodies),
	    cmocka_unit_test(test_msg__damage_is_seen),
	    cmocka_unit_test(test_msg__fields_are_checked),
	    cmocka_unit_test(test_msg__limits),
	    cmocka_unit_test(test_msg__counts_that_lie),
	    cmocka_unit_test(test_msg__a_later_kind_is_carried),
	    cmocka_unit_test(test_msg__whose_it_is),
	    cmocka_unit_test(test_msg__answers),
	    cmocka_unit_test(test_msg__errors_there_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
