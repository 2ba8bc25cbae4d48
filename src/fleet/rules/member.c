/* SPDX-License-Identifier: Apache-2.0 */
/* M1, M2, M4 and the answering side of X1. */
#include "fleet/rules/rules_int.h"

struct wr_node_text
wr_rules_name(const struct wr_fleet *f, const struct wr_node_id *node)
{
	const struct wr_fleet_node *n = f ? wr_fleet_find(f, &node->id) : NULL;
	struct wr_node_text t;

	if (n && *n->name)
		snprintf(t.s, sizeof(t.s), "%s", n->name);
	else
		snprintf(t.s, sizeof(t.s), "%.8s", node->id.s);
	return t;
}

struct wr_node_text
wr_rules_epoch(const struct wr_epoch *n)
{
	struct wr_node_text t;

	snprintf(t.s, sizeof(t.s), "epoch %" PRIu64, n->number);
	return t;
}

bool
wr_rules_voter(const struct wr_member *m)
{
	return m && (m->role == WR_ROLE_DATA || m->role == WR_ROLE_WITNESS);
}

bool
wr_rules_same_voters(const struct wr_record *a, const struct wr_record *b)
{
	if (wr_record_voters(a) != wr_record_voters(b))
		return false;
	for (size_t i = 0; i < a->member_count; i++)
		if (wr_rules_voter(&a->member[i]) &&
		    !wr_rules_voter(wr_record_has(b, &a->member[i].node)))
			return false;
	return true;
}

int
wr_rules_record(const struct wr_buf *bytes, const struct wr_uuid *project, const struct wr_fleet *f,
		struct wr_record *out, struct wr_err *err)
{
	if (wr_record_decode(bytes->p, bytes->len, out, err) < 0)
		return -1;
	if (project && strcmp(out->project.s, project->s) != 0)
		return wr_err_set(err, WR_E_INVALID, "record: it is of project %s", out->project.s);
	return wr_record_verify(out, f, err);
}

bool
wr_rules_is_base(const struct wr_record *e, const struct wr_version *v,
		 const struct wr_digest *refs)
{
	return !wr_epoch_none(&v->n) && wr_version_cmp(v, &e->base) == 0 &&
	       memcmp(refs->b, e->base_refs.b, sizeof(refs->b)) == 0;
}

void
wr_member_refuse(const struct wr_member_state *s, const struct wr_member_env *env,
		 const struct wr_msg *m, struct wr_msg *answer, struct wr_member_out *out,
		 enum wr_msg_kind kind)
{
	wr_assert(out->why.code != WR_E_NONE);
	wr_msg_answer(answer, m, &env->self, kind);
	wr_msg_set_err(answer, &out->why);
	if (kind == WR_MSG_ERROR)
		return;
	answer->project = s->project;
	answer->n = s->promised;
	wr_buf_clear(&answer->record);
	wr_buf_add(&answer->record, s->record_bytes.p, s->record_bytes.len);
}

/* M5. */
static int
check_memory(const struct wr_member_env *env, struct wr_err *err)
{
	if (!env->amnesia)
		return 0;
	wr_err_set(err, WR_E_DENIED,
		   "this node was set back, or lost what it knew of the project: it has no vote");
	return wr_err_hint(err,
			   "let it join anew: warren node add --rejoin, and warren join there");
}

static int
check_known(const struct wr_member_state *s, const struct wr_member_env *env, struct wr_err *err)
{
	if (check_memory(env, err) < 0)
		return -1;
	if (!s->has_record)
		return wr_err_set(err, WR_E_NOT_FOUND, "the project is unknown here");
	return 0;
}

/* ---- M1 ---- */

/* H6: the recovery key may release in the writer's name. */
static bool
signed_by_recovery(const struct wr_grant *g, const struct wr_fleet *f)
{
	struct wr_fleet_node node = {.node = g->writer, .pub = f->recovery};
	struct wr_fleet only = {.node = &node, .node_count = 1};

	return g->kind == WR_GRANT_RELEASE && wr_grant_verify(g, &only, NULL) == 0;
}

/* A grant by the writer of my record, for my epoch. */
static int
read_grant(const struct wr_member_state *s, const struct wr_member_env *env, const struct wr_msg *m,
	   struct wr_grant *g, struct wr_err *err)
{
	if (wr_grant_decode(m->grant.p, m->grant.len, g, err) < 0)
		return -1;
	if (strcmp(g->project.s, s->project.s) != 0 || wr_epoch_cmp(&g->n, &s->record.n) != 0 ||
	    !wr_node_id_eq(&g->writer, &s->record.writer) ||
	    (g->kind == WR_GRANT_CONSENT && wr_epoch_cmp(&g->next, &m->n) != 0))
		return wr_err_set(err, WR_E_DENIED, "the grant is for another raise");
	if (wr_grant_verify(g, env->fleet, err) < 0 && !signed_by_recovery(g, env->fleet))
		return -1;
	return 0;
}

/* WR_E_BUSY says until when. */
static int
check_hold(const struct wr_member_state *s, const struct wr_member_env *env, struct wr_err *err)
{
	uint64_t heard_end = env->heard_ns ? env->heard_ns + WR_HOLD_NS : 0;
	uint64_t end = WR_MAX(heard_end, env->held_until_ns);
	struct wr_node_text writer = wr_rules_name(
	    env->fleet, env->heard_ns && end == heard_end ? &env->heard_from : &s->record.writer);

	if (env->self_runs) {
		wr_err_set(err, WR_E_BUSY, "it runs here, on '%s'", writer.s);
		return wr_err_hint(err, "ask for a handoff");
	}
	if (env->now_ns >= end)
		return 0;
	if (end == heard_end)
		wr_err_set(err, WR_E_BUSY, "the writer '%s' was heard %" PRIu64 " s ago", writer.s,
			   (env->now_ns - env->heard_ns) / WR_SECOND_NS);
	else
		wr_err_set(err, WR_E_BUSY, "this node started a moment ago");
	return wr_err_hint(err, "ask for a handoff, or try again in %" PRIu64 " s",
			   (end - env->now_ns) / WR_SECOND_NS + 1);
}

static void
promise(const struct wr_member_state *s, const struct wr_member_env *env, const struct wr_msg *m,
	struct wr_msg *a)
{
	wr_msg_answer(a, m, &env->self, WR_MSG_PROMISE);
	a->project = s->project;
	a->n = s->promised;
	a->flag = s->promised_clean;
	wr_buf_add(&a->record, s->record_bytes.p, s->record_bytes.len);
	if (s->has_save && !s->hidden)
		wr_buf_add(&a->save, s->save_bytes.p, s->save_bytes.len);
	if (env->work_base)
		snprintf(a->base, sizeof(a->base), "%s", env->work_base);
	a->dirty = env->work_dirty;
	a->damaged = env->damaged;
}

/* What a higher number needs; fills the promise into the state. */
static void
judge_prepare(struct wr_member_state *s, const struct wr_member_env *env, const struct wr_msg *m,
	      struct wr_member_out *out)
{
	struct wr_err *err = &out->why;
	struct wr_err bad = WR_ERR_INIT;
	struct wr_grant g = {0};
	bool granted = m->grant.len > 0 && read_grant(s, env, m, &g, &bad) == 0;

	if (!granted && check_hold(s, env, err) < 0) {
		if (bad.code)
			wr_err_wrap(err, "%s", bad.msg);
		return;
	}
	s->promised_clean = wr_epoch_cmp(&s->promised, &s->record.n) == 0;
	s->promised = m->n;
	s->has_consent = granted && g.kind == WR_GRANT_CONSENT;
	memset(&s->consent, 0, sizeof(s->consent));
	if (s->has_consent)
		s->consent = g.writer;
	/* Who released runs no more; of another that was heard it says nothing. */
	out->forget = granted && !s->has_consent && wr_node_id_eq(&env->heard_from, &g.writer);
	out->changed = true;
}

void
wr_member_prepare(struct wr_member_state *s, const struct wr_member_env *env,
		  const struct wr_msg *m, struct wr_msg *answer, struct wr_member_out *out)
{
	int c = wr_epoch_cmp(&m->n, &s->promised);

	memset(out, 0, sizeof(*out));
	if (check_known(s, env, &out->why) < 0) {
		wr_member_refuse(s, env, m, answer, out, WR_MSG_ERROR);
		return;
	}
	/* The same number again is the same answer again, unless its record came meanwhile. */
	if (c < 0 || (c == 0 && wr_epoch_cmp(&m->n, &s->record.n) == 0))
		wr_err_set(&out->why, WR_E_CHANGED, "it promised %s already",
			   wr_rules_epoch(&s->promised).s);
	else if (c > 0)
		judge_prepare(s, env, m, out);
	if (out->why.code)
		wr_member_refuse(s, env, m, answer, out, WR_MSG_NACK);
	else
		promise(s, env, m, answer);
}

/* ---- M2 ---- */

/* A project that is new to this node. Whoever votes has been a learner before, but in the first
 * record: a voter that knows nothing has lost its memory (M5), in that one too if it was here. */
static int
judge_new(const struct wr_member_env *env, const struct wr_record *e, struct wr_err *err)
{
	const struct wr_member *me = wr_record_has(e, &env->self);

	if (!me)
		return wr_err_set(err, WR_E_NOT_FOUND, "this node is no member of it");
	if (me->role != WR_ROLE_LEARNER && (env->forgot || !wr_epoch_none(&e->prev))) {
		wr_err_set(err, WR_E_DENIED,
			   "the record calls this node a voter, but it knows nothing of it");
		return wr_err_hint(
		    err, "let it join anew: warren node add --rejoin, and warren join there");
	}
	return 0;
}

int
wr_member_judge(const struct wr_member_state *s, const struct wr_member_env *env,
		const struct wr_record *e, struct wr_err *err)
{
	if (!s->has_record)
		return judge_new(env, e, err);
	if (wr_epoch_cmp(&e->n, &s->record.n) == 0 &&
	    memcmp(e->sig.b, s->record.sig.b, sizeof(e->sig.b)) != 0)
		return wr_err_set(err, WR_E_CORRUPT, "there are two records of %s",
				  wr_rules_epoch(&e->n).s);
	if (wr_epoch_cmp(&e->n, &s->promised) < 0)
		return wr_err_set(err, WR_E_CHANGED, "it promised %s already",
				  wr_rules_epoch(&s->promised).s);
	if (s->has_consent && wr_epoch_cmp(&e->n, &s->promised) == 0 &&
	    !wr_node_id_eq(&e->writer, &s->consent))
		return wr_err_set(
		    err, WR_E_DENIED,
		    "it was promised with the consent of '%s', which is to stay writer",
		    wr_rules_name(env->fleet, &s->consent).s);
	return 0;
}

int
wr_member_judge_settings(const struct wr_member_state *s, const struct wr_member_env *env,
			 const struct wr_msg *m, uint64_t *out_rev, struct wr_err *err)
{
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc doc = {0};

	*out_rev = 0;
	if (m->settings.len == 0)
		return 0;
	if (wr_settings_doc_decode(m->settings.p, m->settings.len, &doc, err) < 0 ||
	    wr_settings_doc_verify(&doc, env->fleet, err) < 0)
		return -1;
	if (strcmp(doc.project.s, s->project.s) != 0)
		return wr_err_set(err, WR_E_INVALID, "settings: they are of project %s",
				  doc.project.s);
	*out_rev = doc.rev;
	return 0;
}

void
wr_member_install(struct wr_member_state *s, const struct wr_member_env *env,
		  const struct wr_msg *m, struct wr_msg *answer, struct wr_member_out *out)
{
	struct wr_record e = {0};
	uint64_t rev;
	bool have;

	memset(out, 0, sizeof(*out));
	if (check_memory(env, &out->why) < 0 ||
	    wr_rules_record(&m->record, &s->project, env->fleet, &e, &out->why) < 0 ||
	    wr_member_judge_settings(s, env, m, &rev, &out->why) < 0) {
		wr_member_refuse(s, env, m, answer, out, WR_MSG_ERROR);
		return;
	}
	/* Of the record that is here already the answer is OK, whatever was promised since. */
	have = s->has_record && s->record_bytes.len == m->record.len &&
	       memcmp(s->record_bytes.p, m->record.p, m->record.len) == 0;
	if (!have && wr_member_judge(s, env, &e, &out->why) < 0) {
		wr_member_refuse(s, env, m, answer, out,
				 s->has_record ? WR_MSG_NACK : WR_MSG_ERROR);
		return;
	}
	if (!have)
		wr_member_take_record(s, env, &e, out);
	if (wr_member_take_settings(s, m, rev))
		out->changed = true;
	wr_msg_answer(answer, m, &env->self, WR_MSG_OK);
}

/* ---- M4 ---- */

/* What this member promised without CONSENT it promised when the writer of its record held it no
 * longer, or had released; from then on that writer got no OK. A restart forgot who was heard, and
 * then it may have been that writer; but its own processes are frozen before this node follows. */
struct wr_rules_hold
wr_rules_hold(const struct wr_member_state *s, const struct wr_member_env *env,
	      const struct wr_record *e)
{
	const struct wr_node_id *old = &s->record.writer;
	struct wr_rules_hold h = {env->heard_ns, env->heard_from};

	if (s->has_record && !wr_node_id_eq(old, &e->writer) && !wr_node_id_eq(old, &env->self)) {
		bool over = wr_epoch_cmp(&s->promised, &s->record.n) > 0 && !s->has_consent;

		if (over && wr_node_id_eq(&h.by, old))
			h.ns = 0;
		else if (!over && h.ns == 0 && env->held_until_ns > WR_HOLD_NS)
			h = (struct wr_rules_hold){env->held_until_ns - WR_HOLD_NS, *old};
	}
	if (!wr_member_hold_runs(h.ns, env->now_ns))
		h.ns = 0;
	return h;
}

enum wr_keep_say
wr_member_keep(const struct wr_member_state *s, const struct wr_member_env *env,
	       const struct wr_node_id *peer, const struct wr_epoch *n, struct wr_member_out *out)
{
	memset(out, 0, sizeof(*out));
	if (check_known(s, env, &out->why) < 0)
		return WR_KEEP_LOST;
	if (wr_epoch_cmp(&s->record.n, n) != 0 || !wr_node_id_eq(&s->record.writer, peer) ||
	    s->record.state != WR_RECORD_LIVE)
		wr_err_set(&out->why, WR_E_CHANGED, "'%s' is not the writer of %s here",
			   wr_rules_name(env->fleet, peer).s, wr_rules_epoch(n).s);
	else if (wr_epoch_cmp(&s->promised, n) > 0)
		wr_err_set(&out->why, WR_E_CHANGED, "it promised %s already",
			   wr_rules_epoch(&s->promised).s);
	if (out->why.code)
		return WR_KEEP_LOST;
	if (wr_member_hold_runs(env->heard_ns, env->now_ns) &&
	    !wr_node_id_eq(&env->heard_from, peer)) {
		wr_err_set(&out->why, WR_E_BUSY,
			   "'%s' was heard %" PRIu64 " s ago, and may run until its lease is over",
			   wr_rules_name(env->fleet, &env->heard_from).s,
			   (env->now_ns - env->heard_ns) / WR_SECOND_NS);
		return WR_KEEP_WAIT;
	}
	out->heard = true;
	return WR_KEEP_OK;
}

/* ---- X1 ---- */

struct wr_digest
wr_rules_proof_of(const struct wr_digest *proof, const struct wr_node_id *node)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	wr_buf_add(&b, proof->b, sizeof(proof->b));
	wr_buf_adds(&b, node->id.s);
	wr_buf_add32be(&b, node->inc);
	return wr_digest_of(b.p, b.len);
}

static int
judge_attest(const struct wr_member_state *s, const struct wr_member_env *env,
	     const struct wr_msg *m, bool has_refs, struct wr_err *err)
{
	const struct wr_member *me;

	if (check_known(s, env, err) < 0)
		return -1;
	if (wr_epoch_cmp(&s->record.n, &m->n) > 0)
		return wr_err_set(err, WR_E_CHANGED, "there is a newer record, of %s",
				  wr_rules_epoch(&s->record.n).s);
	if (wr_epoch_cmp(&s->record.n, &m->n) < 0)
		return wr_err_set(err, WR_E_CHANGED, "the record of %s is not here yet",
				  wr_rules_epoch(&m->n).s);
	me = wr_record_has(&s->record, &env->self);
	if (!me || me->role != WR_ROLE_DATA)
		return wr_err_set(err, WR_E_DENIED, "this node is no data member");
	if (s->hidden)
		return wr_err_set(err, WR_E_DENIED, "this copy is about to go itself");
	if (!has_refs)
		return wr_err_set(err, WR_E_NOT_FOUND, "not all of that is here");
	return 0;
}

void
wr_member_attest(const struct wr_member_state *s, const struct wr_member_env *env,
		 const struct wr_msg *m, bool has_refs, const struct wr_digest *proof,
		 struct wr_msg *answer, struct wr_member_out *out)
{
	memset(out, 0, sizeof(*out));
	if (judge_attest(s, env, m, has_refs, &out->why) < 0) {
		wr_member_refuse(s, env, m, answer, out, WR_MSG_NO);
		return;
	}
	wr_msg_answer(answer, m, &env->self, WR_MSG_YES);
	answer->project = s->project;
	answer->digest = wr_rules_proof_of(proof, &env->self);
}
