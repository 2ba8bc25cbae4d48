/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages: two tables say which fields there are and which of them a kind has, in order; encoder
 * and decoder walk along them.
 */
#include "fleet/record/msg.h"

#include "base/str.h"
#include "fleet/record/record_int.h"
#include "model/state.h"
#include "model/text.h"

#define MAGIC_MSG "WRM1"
#define KIND_AT (WR_MAGIC_LEN + 20 + 16 + 4 * 8)
#define HEAD_LEN (KIND_AT + 2)
#define TEXT_BYTES 4096 /* LIMIT of text and hint */
#define KEEP_LEN 33
#define REPORT_LEN 82

/* Their numbers are in reports. */
_Static_assert(WR_ST_ABSENT == 1 && WR_ST_ERROR == 8, "states have changed: a new format");

enum { REPORT_DIRTY = 1, REPORT_HIDDEN = 2, REPORT_RUNNING = 4, REPORT_FLAGS = 7 };

/* ---- tables ---- */

enum field_type {
	T_UUID,
	T_EPOCH,
	T_VERSION,
	T_NODE,
	T_U64,
	T_TIME,
	T_WISH,
	T_BOOL,
	T_BLOB,
	T_DIGEST,
	T_COMMIT,
	T_CODE,
	T_TEXT,
	T_KEEPS,
	T_REPORTS,
	T_BLOBS,
	T_CHALLENGE,
	T_IDS,
};
/* name, member, type, LIMIT in bytes or items (of those that vary) */
#define FIELDS(X)                                            \
	X(PROJECT, project, T_UUID, 0)                       \
	X(N, n, T_EPOCH, 0)                                  \
	X(NEXT, next, T_EPOCH, 0)                            \
	X(VERSION, version, T_VERSION, 0)                    \
	X(NODE, node, T_NODE, 0)                             \
	X(NUMBER, number, T_U64, 0)                          \
	X(FLEET_SEQ, fleet_seq, T_U64, 0)                    \
	X(AT, at, T_TIME, 0)                                 \
	X(WISH, wish, T_WISH, 0)                             \
	X(FLAG, flag, T_BOOL, 0)                             \
	X(RECORD, record, T_BLOB, WR_RECORD_BYTES)           \
	X(SAVE, save, T_BLOB, WR_SAVE_BYTES)                 \
	X(SETTINGS, settings, T_BLOB, WR_SETTINGS_DOC_BYTES) \
	X(GRANT, grant, T_BLOB, WR_RECORD_BYTES)             \
	X(BLOB, blob, T_BLOB, WR_MSG_BYTES)                  \
	X(DIGEST, digest, T_DIGEST, 0)                       \
	X(BASE, base, T_COMMIT, 0)                           \
	X(DIRTY, dirty, T_BOOL, 0)                           \
	X(DAMAGED, damaged, T_BOOL, 0)                       \
	X(CODE, code, T_CODE, 0)                             \
	X(TEXT, text, T_TEXT, TEXT_BYTES)                    \
	X(HINT, hint, T_TEXT, TEXT_BYTES)                    \
	X(KEEP, keep, T_KEEPS, WR_MSG_KEEPS)                 \
	X(REPORT, report, T_REPORTS, WR_MSG_REPORTS)         \
	X(BLOBS, blobs, T_BLOBS, WR_MSG_BLOBS)               \
	X(CHALLENGE, challenge, T_CHALLENGE, 0)              \
	X(IDS, ids, T_IDS, WR_MSG_IDS)

enum field {
	F_END = 0,
#define X(name, member, type, limit) F_##name,
	FIELDS(X)
#undef X
};
struct field_def {
	const char *name;
	enum field_type type;
	size_t at; /* in struct wr_msg */
	size_t limit;
};
static const struct field_def fields[] = {
#define X(name, member, type, limit) \
	[F_##name] = {#member, type, offsetof(struct wr_msg, member), limit},
    FIELDS(X)
#undef X
};

#define FIELDS_MAX 8
struct kind_def {
	const char *name;
	uint8_t field[FIELDS_MAX]; /* enum field; the rest is F_END */
};
static const struct kind_def kinds[] = {
    [WR_MSG_HELLO] = {"HELLO", {F_FLEET_SEQ, F_AT}},
    [WR_MSG_HELLO_OK] = {"HELLO_OK", {F_FLEET_SEQ, F_AT, F_BLOB}},
    [WR_MSG_WRONG_NONCE] = {"WRONG_NONCE", {F_END}},
    [WR_MSG_BEHIND] = {"BEHIND", {F_NUMBER}},
    [WR_MSG_FLEET_PUT] = {"FLEET_PUT", {F_BLOB}},
    [WR_MSG_OK] = {"OK", {F_END}},
    [WR_MSG_ERROR] = {"ERROR", {F_CODE, F_TEXT, F_HINT}},
    [WR_MSG_PREPARE] = {"PREPARE", {F_PROJECT, F_N, F_GRANT}},
    [WR_MSG_PROMISE] = {"PROMISE",
			{F_PROJECT, F_N, F_RECORD, F_SAVE, F_FLAG, F_BASE, F_DIRTY, F_DAMAGED}},
    [WR_MSG_NACK] = {"NACK", {F_PROJECT, F_N, F_RECORD, F_CODE, F_TEXT, F_HINT}},
    [WR_MSG_INSTALL] = {"INSTALL", {F_RECORD, F_SETTINGS}},
    [WR_MSG_PUSH] = {"PUSH", {F_RECORD, F_SETTINGS, F_SAVE, F_FLAG}},
    [WR_MSG_ACK] = {"ACK", {F_PROJECT, F_VERSION, F_DIGEST}},
    [WR_MSG_SIDES] = {"SIDES", {F_RECORD, F_SAVE}},
    [WR_MSG_KEEP] = {"KEEP", {F_NUMBER, F_KEEP}},
    [WR_MSG_KEPT] = {"KEPT", {F_NUMBER, F_KEEP, F_BLOBS}},
    [WR_MSG_GRANT_ASK] = {"GRANT_ASK", {F_PROJECT, F_N, F_NEXT}},
    [WR_MSG_GRANT] = {"GRANT", {F_GRANT}},
    [WR_MSG_FILL_ASK] = {"FILL_ASK", {F_PROJECT, F_VERSION}},
    [WR_MSG_START] = {"START", {F_PROJECT}},
    [WR_MSG_ATTEST] = {"ATTEST", {F_PROJECT, F_N, F_DIGEST, F_SAVE, F_CHALLENGE, F_IDS}},
    [WR_MSG_YES] = {"YES", {F_PROJECT, F_DIGEST}},
    [WR_MSG_NO] = {"NO", {F_PROJECT, F_RECORD, F_CODE, F_TEXT}},
    [WR_MSG_CREATE] = {"CREATE", {F_PROJECT, F_TEXT, F_NUMBER, F_BLOB}},
    [WR_MSG_CREATED] = {"CREATED", {F_RECORD, F_SETTINGS, F_NUMBER}},
    [WR_MSG_RAISE] = {"RAISE", {F_PROJECT, F_WISH, F_NODE, F_FLAG, F_RECORD}},
    [WR_MSG_RAISED] = {"RAISED", {F_RECORD, F_SETTINGS}},
    [WR_MSG_SETTINGS] = {"SETTINGS", {F_PROJECT, F_NUMBER, F_BLOB}},
    [WR_MSG_REPORT] = {"REPORT", {F_REPORT, F_FLAG}},
    [WR_MSG_REPORTED] = {"REPORTED", {F_BLOBS}},
    [WR_MSG_CERT] = {"CERT", {F_BLOB}},
    [WR_MSG_CERT_OK] = {"CERT_OK", {F_BLOB}},
    [WR_MSG_ADDRESS] = {"ADDRESS", {F_TEXT, F_HINT}},
    [WR_MSG_INVENTORY] = {"INVENTORY", {F_TEXT}},
    [WR_MSG_HOLDS] = {"HOLDS", {F_REPORT, F_FLAG}},
    [WR_MSG_RECORDS_ASK] = {"RECORDS_ASK", {F_KEEP}},
    [WR_MSG_RECORDS] = {"RECORDS", {F_BLOBS}},
    [WR_MSG_AUDIT] = {"AUDIT", {F_PROJECT, F_FLAG}},
    [WR_MSG_AUDITED] = {"AUDITED", {F_PROJECT, F_VERSION, F_FLAG, F_DIGEST, F_BLOB}},
    [WR_MSG_MARK] = {"MARK", {F_PROJECT}},
};

static const struct kind_def *
kind_of(unsigned k)
{
	return k < WR_ARRAY_LEN(kinds) && kinds[k].name ? &kinds[k] : NULL;
}

const char *
wr_msg_kind_name(enum wr_msg_kind k)
{
	const struct kind_def *d = kind_of(k);

	return d ? d->name : "?";
}

const char *
wr_msg_field_name(enum wr_msg_kind kind, size_t i)
{
	const struct kind_def *d = kind_of(kind);

	return d && i < FIELDS_MAX && d->field[i] ? fields[d->field[i]].name : NULL;
}

/* ---- values ---- */

void
wr_msg_fini(struct wr_msg *m)
{
	struct wr_buf *const bufs[] = {&m->record, &m->save, &m->settings, &m->grant, &m->blob};

	for (size_t i = 0; i < WR_ARRAY_LEN(bufs); i++)
		wr_buf_fini(bufs[i]);
	for (size_t i = 0; i < m->blob_count; i++)
		wr_buf_fini(&m->blobs[i]);
	free(m->blobs);
	free(m->text);
	free(m->hint);
	free(m->keep);
	free(m->report);
	free(m->ids);
	*m = (struct wr_msg)WR_MSG_INIT;
}

void
wr_msg_answer(struct wr_msg *a, const struct wr_msg *q, const struct wr_node_id *self,
	      enum wr_msg_kind kind)
{
	a->from = *self;
	a->to = q->from.id;
	a->to_nonce = q->nonce;
	a->nonce = q->to_nonce;
	a->request = q->request;
	a->kind = kind;
}

/* Texts of errors may hold anything that a tool printed, or be cut within a character. */
static char *
clean(const char *s)
{
	WR_SCOPED(wr_freep) char *text = wr_utf8_lossy(s, strlen(s));
	struct wr_buf b = WR_BUF_INIT;

	if (!*text)
		return NULL;
	for (const char *c = text; *c;) {
		size_t n = wr_utf8_len((const uint8_t *)c, strlen(c));

		if (b.len + n > TEXT_BYTES)
			break;
		if (wr_text_plain(c, n, true))
			wr_buf_add(&b, c, n);
		else
			wr_buf_add8(&b, '?');
		c += n;
	}
	return wr_buf_detach(&b, NULL);
}

void
wr_msg_set_err(struct wr_msg *m, const struct wr_err *e)
{
	free(m->text);
	free(m->hint);
	m->code = e->code;
	m->text = clean(e->msg);
	m->hint = clean(e->hint);
}

void
wr_msg_get_err(const struct wr_msg *m, struct wr_err *out)
{
	wr_err_set(out, m->code ? m->code : WR_E_FAILED, "%s", m->text ? m->text : "no message");
	if (m->hint)
		wr_err_hint(out, "%s", m->hint);
}

/* ---- encoding ---- */

static void
put_keeps(const struct wr_msg *m, struct wr_buf *out)
{
	wr_buf_add32be(out, (uint32_t)m->keep_count);
	for (size_t i = 0; i < m->keep_count; i++) {
		wr_enc_uuid(out, &m->keep[i].project);
		wr_enc_epoch(out, &m->keep[i].n);
		wr_buf_add8(out, m->keep[i].ok);
	}
}

static void
put_reports(const struct wr_msg *m, struct wr_buf *out)
{
	wr_buf_add32be(out, (uint32_t)m->report_count);
	for (size_t i = 0; i < m->report_count; i++) {
		const struct wr_report *r = &m->report[i];
		int flags = (r->dirty ? REPORT_DIRTY : 0) | (r->hidden ? REPORT_HIDDEN : 0) |
			    (r->running ? REPORT_RUNNING : 0);

		wr_enc_uuid(out, &r->project);
		wr_enc_epoch(out, &r->n);
		wr_enc_version(out, &r->held);
		wr_buf_add64be(out, (uint64_t)r->scan_started);
		wr_buf_add64be(out, r->repo_bytes);
		wr_buf_add64be(out, r->tree_bytes);
		wr_buf_add8(out, (uint8_t)flags);
		wr_buf_add8(out, r->state);
	}
}

static void
put_field(const struct wr_msg *m, const struct field_def *f, struct wr_buf *out)
{
	const void *p = (const uint8_t *)m + f->at;
	const char *s;

	switch (f->type) {
	case T_UUID:
		wr_enc_uuid(out, p);
		break;
	case T_EPOCH:
		wr_enc_epoch(out, p);
		break;
	case T_VERSION:
		wr_enc_version(out, p);
		break;
	case T_NODE:
		wr_enc_node(out, p);
		break;
	case T_U64:
	case T_TIME: /* of an int64_t its bits */
		wr_buf_add64be(out, *(const uint64_t *)p);
		break;
	case T_WISH:
		wr_buf_add8(out, (uint8_t)m->wish);
		break;
	case T_BOOL:
		wr_buf_add8(out, *(const bool *)p);
		break;
	case T_BLOB: {
		const struct wr_buf *b = p;

		wr_enc_blob(out, b->p, b->len);
		break;
	}
	case T_DIGEST:
		wr_buf_add(out, m->digest.b, sizeof(m->digest.b));
		break;
	case T_COMMIT:
		wr_enc_str(out, m->base, strlen(m->base));
		break;
	case T_CODE:
		s = wr_err_name(m->code);
		wr_enc_str(out, s, strlen(s));
		break;
	case T_TEXT:
		s = *(char *const *)p;
		wr_enc_str(out, s, s ? strlen(s) : 0);
		break;
	case T_KEEPS:
		put_keeps(m, out);
		break;
	case T_REPORTS:
		put_reports(m, out);
		break;
	case T_BLOBS:
		wr_buf_add32be(out, (uint32_t)m->blob_count);
		for (size_t i = 0; i < m->blob_count; i++)
			wr_enc_blob(out, m->blobs[i].p, m->blobs[i].len);
		break;
	case T_CHALLENGE:
		wr_buf_add(out, m->challenge, sizeof(m->challenge));
		break;
	case T_IDS:
		wr_buf_add32be(out, (uint32_t)m->id_count);
		wr_buf_add(out, m->ids, m->id_count * sizeof(*m->ids));
		break;
	}
}

/* Before the encoder: what does not fit its lengths. */
static int
check_sizes(const struct wr_msg *m, struct wr_err *err)
{
	if ((m->text && strlen(m->text) > TEXT_BYTES) || (m->hint && strlen(m->hint) > TEXT_BYTES))
		return wr_err_set(err, WR_E_LIMIT, "a text is longer than %d bytes", TEXT_BYTES);
	if (m->keep_count > WR_MSG_KEEPS || m->report_count > WR_MSG_REPORTS ||
	    m->blob_count > WR_MSG_BLOBS || m->id_count > WR_MSG_IDS)
		return wr_err_set(err, WR_E_LIMIT, "a list is too long");
	return 0;
}

static int
seal(const struct wr_msg *m, const struct kind_def *k, const struct wr_sign_key *key,
     struct wr_buf *out, struct wr_err *err)
{
	WR_SCOPED(wr_msg_fini) struct wr_msg again = WR_MSG_INIT;
	struct wr_sig sig;

	if (check_sizes(m, err) < 0)
		return -1;
	wr_buf_adds(out, MAGIC_MSG);
	wr_enc_node(out, &m->from);
	wr_enc_uuid(out, &m->to);
	wr_buf_add64be(out, m->to_nonce);
	wr_buf_add64be(out, m->nonce);
	wr_buf_add64be(out, m->counter);
	wr_buf_add64be(out, m->request);
	wr_enc16(out, m->kind);
	for (size_t i = 0; i < FIELDS_MAX && k->field[i]; i++)
		put_field(m, &fields[k->field[i]], out);
	if (wr_sign(key, WR_DOMAIN_MESSAGE, out->p, out->len, &sig, err) < 0)
		return -1;
	wr_buf_add(out, sig.b, sizeof(sig.b));
	/* As with records: nothing leaves that a reader would refuse. */
	return wr_msg_open(out->p, out->len, &again, err);
}

int
wr_msg_seal(const struct wr_msg *m, const struct wr_sign_key *key, struct wr_buf *out,
	    struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const struct kind_def *k = kind_of(m->kind);

	if (!k)
		return wr_err_set(err, WR_E_INVALID, "there is no message of kind %u", m->kind);
	if (seal(m, k, key, &b, err) < 0)
		return wr_err_wrap(err, "send %s", k->name);
	wr_buf_add(out, b.p, b.len);
	return 0;
}

/* ---- decoding ---- */

static void
get_buf(struct wr_dec *d, const char *name, size_t limit, struct wr_buf *out)
{
	size_t len;
	const uint8_t *p = wr_dec_blob(d, name, limit, &len);

	wr_buf_add(out, p, len);
}

static void
get_commit(struct wr_dec *d, const char *name, char out[41])
{
	size_t len;
	const char *s = wr_dec_str(d, name, 40, &len);

	memcpy(out, s, len);
	out[len] = '\0';
	if (!d->failed && len && (len != 40 || strspn(out, "0123456789abcdef") != 40))
		wr_dec_fail(d, name, "is no commit");
}

/* By name, so that the numbers of the enum are nobody else's. */
static enum wr_err_code
get_code(struct wr_dec *d, const char *name)
{
	size_t len;
	const char *s = wr_dec_str(d, name, 32, &len);

	for (unsigned c = 0; c < WR_E_COUNT; c++)
		if (strlen(wr_err_name(c)) == len && memcmp(wr_err_name(c), s, len) == 0)
			return c;
	wr_dec_fail(d, name, "'%s' is unknown", wr_quote(s, len).s);
	return WR_E_NONE;
}

static char *
get_text(struct wr_dec *d, const char *name, size_t limit)
{
	size_t len;
	const char *s = wr_dec_str(d, name, limit, &len);
	char *text;

	if (!len)
		return NULL;
	if (!wr_text_plain(s, len, true)) {
		wr_dec_fail(d, name, "is not UTF-8 text without control characters");
		return NULL;
	}
	text = wr_malloc(len + 1);
	memcpy(text, s, len);
	text[len] = '\0';
	return text;
}

static void
get_keeps(struct wr_dec *d, size_t limit, struct wr_msg *m)
{
	size_t count = wr_dec_count(d, "keep", limit, KEEP_LEN);

	m->keep = count ? wr_calloc(count, sizeof(*m->keep)) : NULL;
	while (m->keep_count < count && !d->failed) {
		struct wr_keep *k = &m->keep[m->keep_count++];

		k->project = wr_dec_uuid(d, "keep", WR_DEC_MUST);
		k->n = wr_dec_epoch(d, "keep", WR_DEC_MAY);
		k->ok = wr_dec_bool(d, "keep");
	}
}

static void
get_reports(struct wr_dec *d, size_t limit, struct wr_msg *m)
{
	size_t count = wr_dec_count(d, "report", limit, REPORT_LEN);

	m->report = count ? wr_calloc(count, sizeof(*m->report)) : NULL;
	while (m->report_count < count && !d->failed) {
		struct wr_report *r = &m->report[m->report_count++];
		unsigned flags;

		r->project = wr_dec_uuid(d, "report", WR_DEC_MUST);
		r->n = wr_dec_epoch(d, "report", WR_DEC_MAY);
		r->held = wr_dec_version(d, "report", WR_DEC_MAY);
		r->scan_started = wr_dec_time(d, "report");
		r->repo_bytes = wr_dec64(d, "report");
		r->tree_bytes = wr_dec64(d, "report");
		flags = wr_dec_max(d, "report", 0, REPORT_FLAGS);
		r->dirty = flags & REPORT_DIRTY;
		r->hidden = flags & REPORT_HIDDEN;
		r->running = flags & REPORT_RUNNING;
		r->state = wr_dec_max(d, "report", WR_ST_UNSET, WR_ST_ERROR);
	}
}

static void
get_blobs(struct wr_dec *d, size_t limit, struct wr_msg *m)
{
	size_t count = wr_dec_count(d, "blobs", limit, 4);

	m->blobs = count ? wr_calloc(count, sizeof(*m->blobs)) : NULL;
	while (m->blob_count < count && !d->failed)
		get_buf(d, "blobs", WR_MSG_BYTES, &m->blobs[m->blob_count++]);
}

static void
get_ids(struct wr_dec *d, size_t limit, struct wr_msg *m)
{
	size_t count = wr_dec_count(d, "ids", limit, sizeof(*m->ids));

	m->id_count = count;
	m->ids = count ? wr_calloc(count, sizeof(*m->ids)) : NULL;
	if (count)
		wr_dec_copy(d, "ids", m->ids, count * sizeof(*m->ids));
}

static void
get_field(struct wr_dec *d, const struct field_def *f, struct wr_msg *m)
{
	void *p = (uint8_t *)m + f->at;

	switch (f->type) {
	case T_UUID:
		*(struct wr_uuid *)p = wr_dec_uuid(d, f->name, WR_DEC_MAY);
		break;
	case T_EPOCH:
		*(struct wr_epoch *)p = wr_dec_epoch(d, f->name, WR_DEC_MAY);
		break;
	case T_VERSION:
		*(struct wr_version *)p = wr_dec_version(d, f->name, WR_DEC_MAY);
		break;
	case T_NODE:
		*(struct wr_node_id *)p = wr_dec_node(d, f->name, WR_DEC_MAY);
		break;
	case T_U64:
		*(uint64_t *)p = wr_dec64(d, f->name);
		break;
	case T_TIME:
		*(int64_t *)p = wr_dec_time(d, f->name);
		break;
	case T_WISH:
		m->wish = wr_dec_max(d, f->name, WR_WISH_WRITER, WR_WISH_WITNESS);
		break;
	case T_BOOL:
		*(bool *)p = wr_dec_bool(d, f->name);
		break;
	case T_BLOB:
		get_buf(d, f->name, f->limit, p);
		break;
	case T_DIGEST:
		wr_dec_copy(d, f->name, m->digest.b, sizeof(m->digest.b));
		break;
	case T_COMMIT:
		get_commit(d, f->name, m->base);
		break;
	case T_CODE:
		m->code = get_code(d, f->name);
		break;
	case T_TEXT:
		*(char **)p = get_text(d, f->name, f->limit);
		break;
	case T_KEEPS:
		get_keeps(d, f->limit, m);
		break;
	case T_REPORTS:
		get_reports(d, f->limit, m);
		break;
	case T_BLOBS:
		get_blobs(d, f->limit, m);
		break;
	case T_CHALLENGE:
		wr_dec_copy(d, f->name, m->challenge, sizeof(m->challenge));
		break;
	case T_IDS:
		get_ids(d, f->limit, m);
		break;
	}
}

/* The envelope up to its body, and that there is room for a signature behind it. */
static struct wr_dec
get_head(const void *p, size_t len, struct wr_msg *m, struct wr_err *err)
{
	struct wr_dec d = wr_dec("message", MAGIC_MSG, p, len, WR_MSG_BYTES, err);
	uint32_t hi;

	if (len < HEAD_LEN + WR_SIG_LEN)
		wr_dec_fail(&d, "envelope", "is cut off");
	m->from = wr_dec_node(&d, "sender", WR_DEC_MUST);
	m->to = wr_dec_uuid(&d, "recipient", WR_DEC_MUST);
	m->to_nonce = wr_dec64(&d, "recipient's nonce");
	m->nonce = wr_dec64(&d, "nonce");
	if (!m->nonce) /* else nobody could tell it from one that he does not know */
		wr_dec_fail(&d, "nonce", "is none");
	m->counter = wr_dec64(&d, "counter");
	m->request = wr_dec64(&d, "request");
	hi = wr_dec8(&d, "kind");
	m->kind = hi << 8 | wr_dec8(&d, "kind");
	if (m->kind == WR_MSG_NONE)
		wr_dec_fail(&d, "kind", "is none");
	return d;
}

int
wr_msg_peek(const void *p, size_t len, struct wr_msg *out, struct wr_err *err)
{
	struct wr_msg m = WR_MSG_INIT;
	struct wr_dec d = get_head(p, len, &m, err);

	if (d.failed)
		return -1;
	*out = m;
	return 0;
}

int
wr_msg_open(const void *p, size_t len, struct wr_msg *out, struct wr_err *err)
{
	WR_SCOPED(wr_msg_fini) struct wr_msg m = WR_MSG_INIT;
	struct wr_dec d = get_head(p, len, &m, err);
	const struct kind_def *k;

	if (d.failed)
		return -1;
	k = kind_of(m.kind);
	if (!k)
		return wr_err_set(err, WR_E_UNSUPPORTED, "message: kind %u is unknown here",
				  m.kind);
	d.kind = k->name;
	d.rd.left -= WR_SIG_LEN; /* get_head saw that it is there */
	for (size_t i = 0; i < FIELDS_MAX && k->field[i]; i++)
		get_field(&d, &fields[k->field[i]], &m);
	if (wr_dec_end(&d) < 0)
		return -1;
	*out = m;
	m = (struct wr_msg)WR_MSG_INIT;
	return 0;
}

int
wr_msg_verify(const void *p, size_t len, const struct wr_msg *m, const struct wr_fleet *f,
	      struct wr_err *err)
{
	const char *name = wr_msg_kind_name(m->kind);
	const struct wr_fleet_node *n = wr_fleet_has(f, &m->from);
	struct wr_msg head;
	struct wr_sig sig;

	/* m and the bytes belong together, or the caller has mixed up two messages. */
	if (wr_msg_peek(p, len, &head, err) < 0)
		return -1;
	wr_assert(wr_node_id_eq(&head.from, &m->from) && head.kind == m->kind);
	if (!n)
		return wr_err_set(err, WR_E_DENIED,
				  "%s: its sender %s.%" PRIu32 " is not in the fleet record", name,
				  m->from.id.s, m->from.inc);
	if (n->flags & WR_FLEET_REMOVED)
		return wr_err_set(err, WR_E_DENIED,
				  "%s: its sender '%s' was removed from the fleet", name, n->name);
	len -= sizeof(sig.b);
	memcpy(sig.b, (const uint8_t *)p + len, sizeof(sig.b));
	if (!wr_sign_ok(&n->pub, WR_DOMAIN_MESSAGE, p, len, &sig))
		return wr_err_set(err, WR_E_DENIED, "%s: it is not signed by its sender '%s'", name,
				  n->name);
	return 0;
}
