/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STATE/control/ID.auth:
 *
 *   "WRAU" | u32 format 1 | project, 36 bytes of text | u8 flags | promised n | released n |
 *   consent: 36 bytes, u32 | record | save | settings, each u32 length and bytes | SHA-256
 *
 * An epoch is two u64.  What is absent is zeros, or of length 0.
 */
#include "fleet/rules/rules_int.h"

#define MAGIC "WRAU"
#define FORMAT 1
#define UUID_LEN 36
/* LIMIT: of the whole image, its parts at their largest. */
#define IMAGE_MAX (WR_RECORD_BYTES + WR_SAVE_BYTES + WR_SETTINGS_DOC_BYTES + 1024)

enum { FLAG_CLEAN = 1, FLAG_CONSENT = 2, FLAG_HIDDEN = 4, FLAGS = 7 };

void
wr_member_init(struct wr_member_state *s, const struct wr_uuid *project)
{
	memset(s, 0, sizeof(*s));
	s->project = *project;
}

void
wr_member_fini(struct wr_member_state *s)
{
	wr_buf_fini(&s->record_bytes);
	wr_save_rec_fini(&s->save);
	wr_buf_fini(&s->save_bytes);
	wr_buf_fini(&s->settings);
	s->has_record = s->has_save = false;
}

static void
buf_copy(struct wr_buf *to, const struct wr_buf *from)
{
	*to = (struct wr_buf)WR_BUF_INIT;
	wr_buf_add(to, from->p, from->len);
}

void
wr_member_copy(struct wr_member_state *to, const struct wr_member_state *from)
{
	wr_member_fini(to);
	*to = *from;
	buf_copy(&to->record_bytes, &from->record_bytes);
	buf_copy(&to->save_bytes, &from->save_bytes);
	buf_copy(&to->settings, &from->settings);
	to->save.ref = wr_calloc(from->save.ref_count, sizeof(*to->save.ref));
	for (size_t i = 0; i < from->save.ref_count; i++) {
		to->save.ref[i] = from->save.ref[i];
		to->save.ref[i].name = wr_strdup(from->save.ref[i].name);
	}
}

struct wr_version
wr_member_version(const struct wr_member_state *s)
{
	static const struct wr_version none;

	return s->has_save && !s->hidden ? s->save.v : none;
}

static void
put_uuid(struct wr_buf *b, const struct wr_uuid *u)
{
	char s[UUID_LEN] = {0};

	memcpy(s, u->s, strnlen(u->s, UUID_LEN));
	wr_buf_add(b, s, sizeof(s));
}

static void
put_epoch(struct wr_buf *b, const struct wr_epoch *n)
{
	wr_buf_add64be(b, n->number);
	wr_buf_add64be(b, n->random);
}

static void
put_bytes(struct wr_buf *b, const struct wr_buf *from)
{
	wr_assert(from->len <= UINT32_MAX);
	wr_buf_add32be(b, (uint32_t)from->len);
	wr_buf_add(b, from->p, from->len);
}

void
wr_member_encode(const struct wr_member_state *s, struct wr_buf *out)
{
	size_t start = out->len;
	struct wr_digest d;

	wr_assert(s->has_record == (s->record_bytes.len > 0));
	wr_assert(s->has_save == (s->save_bytes.len > 0));
	wr_buf_adds(out, MAGIC);
	wr_buf_add32be(out, FORMAT);
	put_uuid(out, &s->project);
	wr_buf_add8(out,
		    (uint8_t)((s->promised_clean ? FLAG_CLEAN : 0) |
			      (s->has_consent ? FLAG_CONSENT : 0) | (s->hidden ? FLAG_HIDDEN : 0)));
	put_epoch(out, &s->promised);
	put_epoch(out, &s->released);
	put_uuid(out, &s->consent.id);
	wr_buf_add32be(out, s->consent.inc);
	put_bytes(out, &s->record_bytes);
	put_bytes(out, &s->save_bytes);
	put_bytes(out, &s->settings);
	d = wr_digest_of(out->p + start, out->len - start);
	wr_buf_add(out, d.b, sizeof(d.b));
}

static struct wr_uuid
get_uuid(struct wr_rd *r)
{
	struct wr_uuid u = {{0}};
	const uint8_t *p = wr_rd_bytes(r, UUID_LEN);

	if (p)
		memcpy(u.s, p, UUID_LEN);
	return u;
}

static struct wr_epoch
get_epoch(struct wr_rd *r)
{
	struct wr_epoch n;

	n.number = wr_rd64be(r);
	n.random = wr_rd64be(r);
	return n;
}

static void
get_bytes(struct wr_rd *r, struct wr_buf *out)
{
	uint32_t len = wr_rd32be(r);
	const uint8_t *p = wr_rd_bytes(r, len);

	wr_buf_clear(out);
	if (p)
		wr_buf_add(out, p, len);
}

/* The parts, decoded, and what they must have to do with each other. */
static int
check_parts(struct wr_member_state *s, struct wr_err *err)
{
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc doc = {0};

	s->has_record = s->record_bytes.len > 0;
	if (s->has_record &&
	    wr_record_decode(s->record_bytes.p, s->record_bytes.len, &s->record, err) < 0)
		return -1;
	if (s->save_bytes.len > 0 &&
	    wr_save_rec_decode(s->save_bytes.p, s->save_bytes.len, &s->save, err) < 0)
		return -1;
	s->has_save = s->save_bytes.len > 0;
	if (s->settings.len > 0) {
		if (wr_settings_doc_decode(s->settings.p, s->settings.len, &doc, err) < 0)
			return -1;
		s->settings_rev = doc.rev;
	}
	if ((s->has_record && strcmp(s->record.project.s, s->project.s) != 0) ||
	    (s->has_save && strcmp(s->save.project.s, s->project.s) != 0) ||
	    (doc.json && strcmp(doc.project.s, s->project.s) != 0))
		return wr_err_set(err, WR_E_CORRUPT, "a part of it is of another project");
	if (s->has_record && wr_epoch_cmp(&s->promised, &s->record.n) < 0)
		return wr_err_set(err, WR_E_CORRUPT, "it promised less than its record");
	if (s->has_save && (!s->has_record || wr_epoch_cmp(&s->save.v.n, &s->record.n) > 0))
		return wr_err_set(err, WR_E_CORRUPT, "its save is of a later epoch");
	return 0;
}

static int
decode(struct wr_rd *r, const struct wr_uuid *project, struct wr_member_state *s,
       struct wr_err *err)
{
	struct wr_uuid id = get_uuid(r);
	unsigned flags = wr_rd8(r);

	if (strcmp(id.s, project->s) != 0)
		return wr_err_set(err, WR_E_CORRUPT, "it is of project %s",
				  wr_quote(id.s, strlen(id.s)).s);
	if (flags & ~(unsigned)FLAGS)
		return wr_err_set(err, WR_E_CORRUPT, "it has unknown flags");
	s->promised_clean = flags & FLAG_CLEAN;
	s->has_consent = flags & FLAG_CONSENT;
	s->hidden = flags & FLAG_HIDDEN;
	s->promised = get_epoch(r);
	s->released = get_epoch(r);
	s->consent.id = get_uuid(r);
	s->consent.inc = wr_rd32be(r);
	get_bytes(r, &s->record_bytes);
	get_bytes(r, &s->save_bytes);
	get_bytes(r, &s->settings);
	if (r->bad || r->left)
		return wr_err_set(err, WR_E_CORRUPT, "it does not end where it should");
	if (check_parts(s, err) < 0) {
		wr_err_recode(err, WR_E_CORRUPT);
		return -1;
	}
	return 0;
}

int
wr_member_decode(const void *p, size_t len, const struct wr_uuid *project,
		 struct wr_member_state *out, struct wr_err *err)
{
	WR_SCOPED(wr_member_fini) struct wr_member_state s;
	struct wr_rd r = wr_rd(p, len);
	const uint8_t *magic = wr_rd_bytes(&r, strlen(MAGIC));
	uint32_t format = wr_rd32be(&r);
	struct wr_digest d;

	wr_member_init(&s, project);
	if (!magic || memcmp(magic, MAGIC, strlen(MAGIC)) != 0 || len > IMAGE_MAX ||
	    r.left < sizeof(d.b))
		return wr_err_set(err, WR_E_CORRUPT, "it is no file of authority, or cut");
	/* Only then the format: a damaged one asks nobody for a newer version. */
	d = wr_digest_of(p, len - sizeof(d.b));
	if (memcmp(d.b, (const uint8_t *)p + len - sizeof(d.b), sizeof(d.b)) != 0)
		return wr_err_set(err, WR_E_CORRUPT, "its checksum is wrong");
	if (format != FORMAT)
		return wr_err_set(err, WR_E_UNSUPPORTED, "it has format %" PRIu32, format);
	r.left -= sizeof(d.b);
	if (decode(&r, project, &s, err) < 0)
		return -1;
	wr_member_fini(out);
	*out = s;
	memset(&s, 0, sizeof(s));
	return 0;
}

void
wr_member_take_record(struct wr_member_state *s, const struct wr_member_env *env,
		      const struct wr_record *e, struct wr_member_out *out)
{
	struct wr_rules_hold hold = wr_rules_hold(s, env, e);

	if (s->has_record && wr_epoch_cmp(&s->record.n, &e->n) == 0)
		return;
	out->forget =
	    hold.ns == 0 && s->has_record && !wr_node_id_eq(&s->record.writer, &e->writer);
	if (hold.ns != env->heard_ns) {
		out->hold_ns = hold.ns;
		out->hold_from = hold.by;
	}
	s->record = *e;
	s->has_record = true;
	wr_buf_clear(&s->record_bytes);
	wr_record_encode(e, &s->record_bytes);
	s->promised = e->n;
	s->promised_clean = s->has_consent = false;
	memset(&s->consent, 0, sizeof(s->consent));
	out->changed = true;
}

void
wr_member_take_save(struct wr_member_state *s, struct wr_save_rec *save)
{
	wr_save_rec_fini(&s->save);
	s->save = *save;
	*save = (struct wr_save_rec)WR_SAVE_REC_INIT;
	s->has_save = true;
	wr_buf_clear(&s->save_bytes);
	wr_save_rec_encode(&s->save, &s->save_bytes);
	s->hidden = false;
}

bool
wr_member_take_settings(struct wr_member_state *s, const struct wr_msg *m, uint64_t rev)
{
	if (rev <= s->settings_rev)
		return false;
	wr_buf_clear(&s->settings);
	wr_buf_add(&s->settings, m->settings.p, m->settings.len);
	s->settings_rev = rev;
	return true;
}
