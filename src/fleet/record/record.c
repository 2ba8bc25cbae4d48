/* SPDX-License-Identifier: Apache-2.0 */
/* Epochs, versions, and what is signed for one project: records, save records, settings, grants. */
#include "fleet/record/record_int.h"

#include "base/refname.h"
#include "base/str.h"

#define MAGIC_RECORD "WRE1"
#define MAGIC_SAVE "WRS1"
#define MAGIC_SETTINGS "WRD1"
#define MAGIC_GRANT "WRG1"
#define GRANT_BYTES 137

enum { FLAG_CONSENT = 1, FLAG_ACCEPT_LOSS = 2, FLAG_FORCED = 4, FLAGS = 7 };

int
wr_epoch_cmp(const struct wr_epoch *a, const struct wr_epoch *b)
{
	if (a->number != b->number)
		return a->number < b->number ? -1 : 1;
	return (a->random > b->random) - (a->random < b->random);
}

bool
wr_epoch_none(const struct wr_epoch *e)
{
	return e->number == 0;
}

int
wr_version_cmp(const struct wr_version *a, const struct wr_version *b)
{
	int c = wr_epoch_cmp(&a->n, &b->n);

	return c ? c : (a->s > b->s) - (a->s < b->s);
}

struct wr_version_text
wr_version_text(const struct wr_version *v)
{
	struct wr_version_text t;

	snprintf(t.s, sizeof(t.s), "%" PRIu64 ".%" PRIu64, v->n.number, v->s);
	return t;
}

bool
wr_node_id_eq(const struct wr_node_id *a, const struct wr_node_id *b)
{
	return a->inc == b->inc && strcmp(a->id.s, b->id.s) == 0;
}

/* ---- E ---- */

const struct wr_member *
wr_record_member(const struct wr_record *r, const struct wr_uuid *node)
{
	for (size_t i = 0; i < r->member_count; i++)
		if (strcmp(r->member[i].node.id.s, node->s) == 0)
			return &r->member[i];
	return NULL;
}

const struct wr_member *
wr_record_has(const struct wr_record *r, const struct wr_node_id *node)
{
	const struct wr_member *m = wr_record_member(r, &node->id);

	return m && m->node.inc == node->inc ? m : NULL;
}

const char *
wr_role_name(enum wr_role role)
{
	return role == WR_ROLE_DATA ? "data" : role == WR_ROLE_WITNESS ? "witness" : "learner";
}

size_t
wr_record_voters(const struct wr_record *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->member_count; i++)
		n += r->member[i].role == WR_ROLE_DATA || r->member[i].role == WR_ROLE_WITNESS;
	return n;
}

size_t
wr_record_majority(const struct wr_record *r)
{
	return wr_record_voters(r) / 2 + 1;
}

static int
by_node(const void *a, const void *b)
{
	const struct wr_member *x = a, *y = b;

	return strcmp(x->node.id.s, y->node.id.s);
}

static void
put_record(const struct wr_record *r, struct wr_buf *out)
{
	struct wr_member m[WR_MEMBERS_MAX];
	unsigned flags = (r->has_consent ? FLAG_CONSENT : 0) |
			 (r->accept_loss ? FLAG_ACCEPT_LOSS : 0) | (r->forced ? FLAG_FORCED : 0);
	static const struct wr_node_id nobody;

	wr_assert(r->member_count <= WR_MEMBERS_MAX);
	/* Their order means nothing to those who make records, so it is made here. */
	memcpy(m, r->member, r->member_count * sizeof(*m));
	qsort(m, r->member_count, sizeof(*m), by_node);

	wr_buf_adds(out, MAGIC_RECORD);
	wr_enc_uuid(out, &r->project);
	wr_enc_epoch(out, &r->n);
	wr_enc_epoch(out, &r->prev);
	wr_enc_node(out, &r->writer);
	wr_enc_version(out, &r->base);
	wr_buf_add(out, r->base_refs.b, sizeof(r->base_refs.b));
	wr_buf_add8(out, (uint8_t)r->state);
	wr_buf_add8(out, (uint8_t)flags);
	wr_buf_add64be(out, r->settings_rev);
	wr_enc_node(out, r->has_consent ? &r->consent : &nobody);
	wr_buf_add64be(out, (uint64_t)r->at);
	wr_buf_add8(out, (uint8_t)r->member_count);
	for (size_t i = 0; i < r->member_count; i++) {
		wr_enc_node(out, &m[i].node);
		wr_buf_add8(out, (uint8_t)m[i].role);
	}
	wr_buf_add(out, r->hub.b, sizeof(r->hub.b));
}

void
wr_record_encode(const struct wr_record *r, struct wr_buf *out)
{
	put_record(r, out);
	wr_buf_add(out, r->sig.b, sizeof(r->sig.b));
}

static void
get_members(struct wr_dec *d, struct wr_record *r)
{
	r->member_count = wr_dec_max(d, "members", 1, WR_MEMBERS_MAX);
	for (size_t i = 0; i < r->member_count; i++) {
		struct wr_member *m = &r->member[i];

		m->node = wr_dec_node(d, "member", WR_DEC_MUST);
		m->role = wr_dec_max(d, "role", WR_ROLE_DATA, WR_ROLE_LEARNER);
		if (i && by_node(m - 1, m) >= 0)
			wr_dec_fail(d, "members", "are not in ascending order");
	}
}

/* What the fields must have to do with each other. */
static void
check_record(struct wr_dec *d, const struct wr_record *r)
{
	const struct wr_member *w = wr_record_has(r, &r->writer);

	if (wr_epoch_cmp(&r->prev, &r->n) >= 0)
		wr_dec_fail(d, "prev", "is not before n");
	else if (wr_epoch_cmp(&r->base.n, &r->n) >= 0)
		wr_dec_fail(d, "base", "is not before n");
	else if (wr_epoch_none(&r->prev) && !wr_epoch_none(&r->base.n))
		wr_dec_fail(d, "base", "is there in a first record");
	else if (wr_epoch_none(&r->prev) && !wr_zeros(r->base_refs.b, sizeof(r->base_refs.b)))
		wr_dec_fail(d, "base refs", "are there in a first record");
	else if (!w || w->role != WR_ROLE_DATA) /* so there is a voter, too */
		wr_dec_fail(d, "writer", "is no data member");
}

int
wr_record_decode(const void *p, size_t len, struct wr_record *out, struct wr_err *err)
{
	struct wr_dec d = wr_dec("record", MAGIC_RECORD, p, len, WR_RECORD_BYTES, err);
	struct wr_record r = {0};
	unsigned flags;

	r.project = wr_dec_uuid(&d, "project", WR_DEC_MUST);
	r.n = wr_dec_epoch(&d, "n", WR_DEC_MUST);
	r.prev = wr_dec_epoch(&d, "prev", WR_DEC_MAY);
	r.writer = wr_dec_node(&d, "writer", WR_DEC_MUST);
	r.base = wr_dec_version(&d, "base", WR_DEC_MAY);
	wr_dec_copy(&d, "base refs", r.base_refs.b, sizeof(r.base_refs.b));
	r.state = wr_dec_max(&d, "state", WR_RECORD_LIVE, WR_RECORD_DELETED);
	flags = wr_dec_max(&d, "flags", 0, FLAGS);
	r.has_consent = flags & FLAG_CONSENT;
	r.accept_loss = flags & FLAG_ACCEPT_LOSS;
	r.forced = flags & FLAG_FORCED;
	r.settings_rev = wr_dec64(&d, "settings rev");
	r.consent = wr_dec_node(&d, "consent", WR_DEC_MAY);
	if (r.has_consent != (*r.consent.id.s != '\0'))
		wr_dec_fail(&d, "consent", "and its flag differ");
	r.at = wr_dec_time(&d, "time");
	get_members(&d, &r);
	r.hub = wr_dec_pub(&d, "hub key", WR_DEC_MUST);
	r.sig = wr_dec_sig(&d);
	check_record(&d, &r);
	if (wr_dec_end(&d) < 0)
		return -1;
	*out = r;
	return 0;
}

/* Signing ends with a look at the result through the decoder: what every reader would refuse is
 * refused to its maker. */
int
wr_record_sign(struct wr_record *r, const struct wr_sign_key *hub, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_record again;

	if (r->member_count > WR_MEMBERS_MAX)
		return wr_err_set(err, WR_E_LIMIT, "sign a record: it has more than %d members",
				  WR_MEMBERS_MAX);
	r->hub = hub->pub;
	put_record(r, &b);
	if (wr_sign(hub, WR_DOMAIN_RECORD, b.p, b.len, &r->sig, err) < 0)
		return -1;
	wr_buf_add(&b, r->sig.b, sizeof(r->sig.b));
	if (wr_record_decode(b.p, b.len, &again, err) < 0)
		return wr_err_wrap(err, "sign");
	return 0;
}

/* ---- S ---- */

void
wr_save_rec_fini(struct wr_save_rec *s)
{
	for (size_t i = 0; i < s->ref_count; i++)
		free(s->ref[i].name);
	free(s->ref);
	*s = (struct wr_save_rec)WR_SAVE_REC_INIT;
}

static void
put_refs(const struct wr_save_rec *s, struct wr_buf *out)
{
	wr_assert(s->ref_count <= UINT32_MAX);
	wr_buf_add32be(out, (uint32_t)s->ref_count);
	for (size_t i = 0; i < s->ref_count; i++) {
		wr_enc_str(out, s->ref[i].name, strlen(s->ref[i].name));
		wr_buf_add(out, s->ref[i].id, sizeof(s->ref[i].id));
	}
}

static void
put_save(const struct wr_save_rec *s, struct wr_buf *out)
{
	wr_buf_adds(out, MAGIC_SAVE);
	wr_enc_uuid(out, &s->project);
	wr_enc_version(out, &s->v);
	wr_buf_add64be(out, (uint64_t)s->scan_started);
	wr_buf_add32be(out, s->scan_ns);
	wr_buf_add64be(out, s->settings_rev);
	wr_enc_node(out, &s->writer);
	put_refs(s, out);
}

void
wr_save_rec_encode(const struct wr_save_rec *s, struct wr_buf *out)
{
	put_save(s, out);
	wr_buf_add(out, s->sig.b, sizeof(s->sig.b));
}

/* One part of a ref's name, as git has it. */
/*
 * A branch, a tag, or refs/warren/latest: what is replicated.  The rest of refs/warren is each
 * node's own, and a name from outside must not reach it.
 */
static bool
ref_ok(const char *name, size_t len)
{
	static const char heads[] = "refs/heads/", tags[] = "refs/tags/",
			  latest[] = "refs/warren/latest";
	size_t start;

	if (len == sizeof(latest) - 1 && memcmp(name, latest, len) == 0)
		return true;
	if (len > sizeof(heads) - 1 && memcmp(name, heads, sizeof(heads) - 1) == 0)
		start = sizeof(heads) - 1;
	else if (len > sizeof(tags) - 1 && memcmp(name, tags, sizeof(tags) - 1) == 0)
		start = sizeof(tags) - 1;
	else
		return false;
	return wr_refname_ok(name + start, len - start);
}

static void
get_refs(struct wr_dec *d, struct wr_save_rec *s)
{
	size_t count = wr_dec_count(d, "refs", WR_SAVE_REFS_MAX, 2 + sizeof(s->ref->id));

	s->ref = wr_calloc(count, sizeof(*s->ref));
	while (s->ref_count < count && !d->failed) {
		struct wr_save_ref *r = &s->ref[s->ref_count++];
		size_t len;
		const char *name = wr_dec_str(d, "ref", WR_REF_NAME_LEN, &len);

		if (!d->failed && !ref_ok(name, len))
			wr_dec_fail(d, "ref", "'%s' is none that is replicated",
				    wr_quote(name, WR_MIN(len, 40u)).s);
		wr_dec_copy(d, "ref", r->id, sizeof(r->id));
		if (wr_zeros(r->id, sizeof(r->id)))
			wr_dec_fail(d, "ref", "has no object");
		r->name = wr_malloc(len + 1);
		memcpy(r->name, name, len);
		r->name[len] = '\0';
		if (s->ref_count > 1 && strcmp(r[-1].name, r->name) >= 0)
			wr_dec_fail(d, "refs", "are not in ascending order");
	}
}

int
wr_save_rec_decode(const void *p, size_t len, struct wr_save_rec *out, struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec s = WR_SAVE_REC_INIT;
	struct wr_dec d = wr_dec("save record", MAGIC_SAVE, p, len, WR_SAVE_BYTES, err);

	s.project = wr_dec_uuid(&d, "project", WR_DEC_MUST);
	s.v = wr_dec_version(&d, "version", WR_DEC_MUST);
	s.scan_started = wr_dec_time(&d, "scan time");
	s.scan_ns = wr_dec32(&d, "scan time");
	if (s.scan_ns > 999999999 || (s.scan_ns && !s.scan_started))
		wr_dec_fail(&d, "scan time", "has nanoseconds that mean nothing");
	s.settings_rev = wr_dec64(&d, "settings rev");
	s.writer = wr_dec_node(&d, "writer", WR_DEC_MUST);
	get_refs(&d, &s);
	s.sig = wr_dec_sig(&d);
	if (wr_dec_end(&d) < 0)
		return -1;
	*out = s;
	s = (struct wr_save_rec)WR_SAVE_REC_INIT;
	return 0;
}

int
wr_save_rec_sign(struct wr_save_rec *s, const struct wr_sign_key *node, struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec again = WR_SAVE_REC_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	for (size_t i = 0; i < s->ref_count; i++)
		if (strlen(s->ref[i].name) > WR_REF_NAME_LEN)
			return wr_err_set(err, WR_E_LIMIT,
					  "sign a save record: a ref's name is longer than %d",
					  WR_REF_NAME_LEN);
	put_save(s, &b);
	if (wr_sign(node, WR_DOMAIN_SAVE, b.p, b.len, &s->sig, err) < 0)
		return -1;
	wr_buf_add(&b, s->sig.b, sizeof(s->sig.b));
	if (wr_save_rec_decode(b.p, b.len, &again, err) < 0)
		return wr_err_wrap(err, "sign");
	return 0;
}

struct wr_digest
wr_save_refs_digest(const struct wr_save_rec *s)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	put_refs(s, &b);
	return wr_digest_of(b.p, b.len);
}

/* ---- settings ---- */

void
wr_settings_doc_fini(struct wr_settings_doc *d)
{
	free(d->json);
	*d = (struct wr_settings_doc){0};
}

static void
put_settings(const struct wr_settings_doc *d, struct wr_buf *out)
{
	wr_buf_adds(out, MAGIC_SETTINGS);
	wr_enc_uuid(out, &d->project);
	wr_buf_add64be(out, d->rev);
	wr_enc_str(out, d->json, strlen(d->json));
	wr_buf_add(out, d->hub.b, sizeof(d->hub.b));
}

void
wr_settings_doc_encode(const struct wr_settings_doc *d, struct wr_buf *out)
{
	put_settings(d, out);
	wr_buf_add(out, d->sig.b, sizeof(d->sig.b));
}

int
wr_settings_doc_decode(const void *p, size_t len, struct wr_settings_doc *out, struct wr_err *err)
{
	struct wr_dec d =
	    wr_dec("settings document", MAGIC_SETTINGS, p, len, WR_SETTINGS_DOC_BYTES, err);
	struct wr_settings_doc s = {0};
	const char *json;
	size_t n;

	s.project = wr_dec_uuid(&d, "project", WR_DEC_MUST);
	s.rev = wr_dec64(&d, "rev");
	json = wr_dec_str(&d, "json", UINT16_MAX, &n);
	/* What it says is for model/settings to judge; that it is text, for us. */
	if (!n || !wr_utf8_valid(json, n) || memchr(json, 0, n))
		wr_dec_fail(&d, "json", "is no text");
	s.hub = wr_dec_pub(&d, "hub key", WR_DEC_MUST);
	s.sig = wr_dec_sig(&d);
	if (wr_dec_end(&d) < 0)
		return -1;
	s.json = wr_malloc(n + 1);
	memcpy(s.json, json, n);
	s.json[n] = '\0';
	*out = s;
	return 0;
}

int
wr_settings_doc_sign(struct wr_settings_doc *d, const struct wr_sign_key *hub, struct wr_err *err)
{
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc again = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (strlen(d->json) > UINT16_MAX)
		return wr_err_set(err, WR_E_LIMIT,
				  "sign a settings document: it has more than %d bytes",
				  UINT16_MAX);
	d->hub = hub->pub;
	put_settings(d, &b);
	if (wr_sign(hub, WR_DOMAIN_SETTINGS, b.p, b.len, &d->sig, err) < 0)
		return -1;
	wr_buf_add(&b, d->sig.b, sizeof(d->sig.b));
	if (wr_settings_doc_decode(b.p, b.len, &again, err) < 0)
		return wr_err_wrap(err, "sign");
	return 0;
}

/* ---- grants ---- */

static void
put_grant(const struct wr_grant *g, struct wr_buf *out)
{
	wr_buf_adds(out, MAGIC_GRANT);
	wr_buf_add8(out, (uint8_t)g->kind);
	wr_enc_uuid(out, &g->project);
	wr_enc_epoch(out, &g->n);
	wr_enc_epoch(out, &g->next);
	wr_enc_node(out, &g->writer);
}

void
wr_grant_encode(const struct wr_grant *g, struct wr_buf *out)
{
	put_grant(g, out);
	wr_buf_add(out, g->sig.b, sizeof(g->sig.b));
}

int
wr_grant_decode(const void *p, size_t len, struct wr_grant *out, struct wr_err *err)
{
	struct wr_dec d = wr_dec("grant", MAGIC_GRANT, p, len, GRANT_BYTES, err);
	struct wr_grant g = {0};

	g.kind = wr_dec_max(&d, "kind", WR_GRANT_RELEASE, WR_GRANT_CONSENT);
	g.project = wr_dec_uuid(&d, "project", WR_DEC_MUST);
	g.n = wr_dec_epoch(&d, "n", WR_DEC_MUST);
	g.next = wr_dec_epoch(&d, "next", WR_DEC_MAY);
	if (g.kind == WR_GRANT_RELEASE && !wr_epoch_none(&g.next))
		wr_dec_fail(&d, "next", "is there in a release");
	if (g.kind == WR_GRANT_CONSENT && wr_epoch_cmp(&g.next, &g.n) <= 0)
		wr_dec_fail(&d, "next", "is not behind n");
	g.writer = wr_dec_node(&d, "writer", WR_DEC_MUST);
	g.sig = wr_dec_sig(&d);
	if (wr_dec_end(&d) < 0)
		return -1;
	*out = g;
	return 0;
}

int
wr_grant_sign(struct wr_grant *g, const struct wr_sign_key *node, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_grant again;

	put_grant(g, &b);
	if (wr_sign(node, WR_DOMAIN_GRANT, b.p, b.len, &g->sig, err) < 0)
		return -1;
	wr_buf_add(&b, g->sig.b, sizeof(g->sig.b));
	if (wr_grant_decode(b.p, b.len, &again, err) < 0)
		return wr_err_wrap(err, "sign");
	return 0;
}

/* ---- whose signature it is ---- */

int
wr_record_verify(const struct wr_record *r, const struct wr_fleet *f, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	bool recovery = memcmp(r->hub.b, f->recovery.b, sizeof(r->hub.b)) == 0;

	/* Without a majority's promises only the offline key may speak, and it for nothing else. */
	if (r->forced && !recovery)
		return wr_err_set(
		    err, WR_E_DENIED,
		    "record: it is forced, and key %s is not the fleet's recovery key",
		    wr_pub_short(&r->hub).s);
	if (!r->forced && !wr_fleet_hub_key(f, &r->hub))
		return wr_err_set(err, WR_E_DENIED, "record: %s is no hub key of the fleet",
				  wr_pub_short(&r->hub).s);
	put_record(r, &b);
	return wr_signed_by(&r->hub, WR_DOMAIN_RECORD, "record", &b, &r->sig, err);
}

int
wr_settings_doc_verify(const struct wr_settings_doc *d, const struct wr_fleet *f,
		       struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (!wr_fleet_hub_key(f, &d->hub))
		return wr_err_set(err, WR_E_DENIED,
				  "settings document: %s is no hub key of the fleet",
				  wr_pub_short(&d->hub).s);
	put_settings(d, &b);
	return wr_signed_by(&d->hub, WR_DOMAIN_SETTINGS, "settings document", &b, &d->sig, err);
}

static const struct wr_fleet_node *
writer_of(const struct wr_fleet *f, const struct wr_node_id *writer, const char *what,
	  struct wr_err *err)
{
	const struct wr_fleet_node *n = wr_fleet_has(f, writer);

	if (!n)
		wr_err_set(err, WR_E_DENIED, "%s: node %s.%" PRIu32 " is not in the fleet record",
			   what, writer->id.s, writer->inc);
	return n;
}

int
wr_save_rec_verify(const struct wr_save_rec *s, const struct wr_fleet *f, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const struct wr_fleet_node *n = writer_of(f, &s->writer, "save record", err);

	if (!n)
		return -1;
	put_save(s, &b);
	return wr_signed_by(&n->pub, WR_DOMAIN_SAVE, "save record", &b, &s->sig, err);
}

int
wr_grant_verify(const struct wr_grant *g, const struct wr_fleet *f, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const struct wr_fleet_node *n = writer_of(f, &g->writer, "grant", err);

	if (!n)
		return -1;
	if (n->flags & WR_FLEET_REMOVED)
		return wr_err_set(err, WR_E_DENIED, "grant: node '%s' was removed from the fleet",
				  n->name);
	put_grant(g, &b);
	return wr_signed_by(&n->pub, WR_DOMAIN_GRANT, "grant", &b, &g->sig, err);
}
