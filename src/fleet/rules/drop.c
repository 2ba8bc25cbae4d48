/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/rules/drop.h"

#include "fleet/rules/rules_int.h"

#define WHOLE_NS (60 * WR_SECOND_NS)
#define REPEAT_NS (5 * WR_SECOND_NS)

enum wr_drop_need
wr_drop_need(const struct wr_member_state *s, const struct wr_member_env *env, struct wr_err *err)
{
	if (env->amnesia || !s->has_record) {
		wr_err_set(err, WR_E_DENIED, "it is not known here who holds the project");
		return WR_DROP_NEVER;
	}
	if (s->record.state == WR_RECORD_DELETED)
		return WR_DROP_FREE;
	if (wr_rules_voter(wr_record_has(&s->record, &env->self))) {
		wr_err_set(err, WR_E_DENIED, "this node is a member in %s",
			   wr_rules_epoch(&s->record.n).s);
		wr_err_hint(err, "take it out of the members first");
		return WR_DROP_NEVER;
	}
	return WR_DROP_PROVE;
}

int
wr_drop_begin(struct wr_drop *d, const struct wr_member_state *s, const struct wr_member_env *env,
	      const struct wr_drop_opts *opts, struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec save = WR_SAVE_REC_INIT;

	memset(d, 0, sizeof(*d));
	switch (wr_drop_need(s, env, err)) {
	case WR_DROP_NEVER:
		return -1;
	case WR_DROP_FREE:
		return wr_err_set(err, WR_E_INVALID, "the project is deleted: no proof is needed");
	case WR_DROP_PROVE:
		break;
	}
	if (!s->hidden)
		return wr_err_set(err, WR_E_INVALID, "the copy is not hidden");
	if (opts->id_count > WR_MSG_IDS)
		return wr_err_set(err, WR_E_LIMIT, "a challenge has at most %d objects",
				  WR_MSG_IDS);
	if (opts->save.len) {
		if (wr_save_rec_decode(opts->save.p, opts->save.len, &save, err) < 0)
			return -1;
		d->refs = wr_save_refs_digest(&save);
	}
	wr_buf_add(&d->save, opts->save.p, opts->save.len);
	d->record = s->record;
	d->opts = *opts;
	d->ids = opts->id_count ? wr_memdup(opts->ids, opts->id_count * sizeof(*d->ids)) : NULL;
	d->opts.ids = NULL;
	d->opts.save = (struct wr_buf)WR_BUF_INIT;
	for (size_t i = 0; i < d->record.member_count; i++)
		if (d->record.member[i].role == WR_ROLE_DATA)
			d->peer[d->peer_count++] = (struct wr_drop_peer){
			    .node = d->record.member[i].node, .to_send = true};
	d->end_ns = env->now_ns + (opts->timeout_ns ? opts->timeout_ns : WHOLE_NS);
	d->repeat_ns = env->now_ns + REPEAT_NS;
	d->verdict = WR_DROP_WAIT;
	return 0;
}

void
wr_drop_fini(struct wr_drop *d)
{
	wr_buf_fini(&d->save);
	free(wr_steal(&d->ids));
}

bool
wr_drop_next(struct wr_drop *d, struct wr_node_id *to, struct wr_msg *msg)
{
	for (size_t i = 0; i < d->peer_count && d->verdict == WR_DROP_WAIT; i++) {
		struct wr_drop_peer *p = &d->peer[i];

		if (!p->to_send)
			continue;
		p->to_send = false;
		*to = p->node;
		msg->kind = WR_MSG_ATTEST;
		msg->request = d->opts.request + i;
		msg->project = d->record.project;
		msg->n = d->record.n;
		msg->digest = d->refs;
		wr_buf_add(&msg->save, d->save.p, d->save.len);
		memcpy(msg->challenge, d->opts.nonce, sizeof(msg->challenge));
		msg->id_count = d->opts.id_count;
		msg->ids = d->ids ? wr_memdup(d->ids, d->opts.id_count * sizeof(*d->ids)) : NULL;
		return true;
	}
	return false;
}

static void
keep(struct wr_drop *d, const struct wr_err *why)
{
	d->verdict = WR_DROP_KEEP;
	d->why = *why;
}

static void
refused(struct wr_drop *d, const struct wr_member_env *env, struct wr_drop_peer *p,
	const struct wr_msg *m)
{
	struct wr_err e = WR_ERR_INIT;
	struct wr_record r;

	if (m->record.len &&
	    wr_rules_record(&m->record, &d->record.project, env->fleet, &r, NULL) == 0 &&
	    wr_epoch_cmp(&r.n, &d->record.n) > 0) {
		d->newer = r;
		d->has_newer = true;
		wr_err_set(&e, WR_E_CHANGED, "'%s' has a newer record, of %s",
			   wr_rules_name(env->fleet, &p->node).s, wr_rules_epoch(&r.n).s);
		wr_err_hint(&e, "take that one and begin again");
		keep(d, &e);
		return;
	}
	p->no = !p->yes;
	wr_err_set(&d->why, m->code ? m->code : WR_E_FAILED, "'%s': %s",
		   wr_rules_name(env->fleet, &p->node).s, m->text ? m->text : "no reason given");
}

static void
judge(struct wr_drop *d)
{
	size_t yes = 0, no = 0, need = wr_record_majority(&d->record);
	struct wr_err e = WR_ERR_INIT;

	for (size_t i = 0; i < d->peer_count; i++) {
		yes += d->peer[i].yes;
		no += d->peer[i].no;
	}
	if (yes >= need) {
		d->verdict = WR_DROP_PROVEN;
	} else if (d->peer_count - no < need) {
		wr_err_set(&e, WR_E_DENIED,
			   "%zu of %zu data members proved their copies, %zu must%s%s", yes,
			   d->peer_count, need, d->why.code ? "; " : "", d->why.msg);
		keep(d, &e);
	}
}

void
wr_drop_answer(struct wr_drop *d, const struct wr_member_env *env, const struct wr_msg *m)
{
	for (size_t i = 0; i < d->peer_count && d->verdict == WR_DROP_WAIT; i++) {
		struct wr_drop_peer *p = &d->peer[i];
		struct wr_digest want = wr_rules_proof_of(&d->opts.expected, &p->node);
		struct wr_msg bad = {.code = WR_E_CORRUPT};
		static char text[] = "its proof is wrong";

		if (m->request != d->opts.request + i || !wr_node_id_eq(&p->node, &m->from))
			continue;
		bad.text = text;
		if (m->kind == WR_MSG_YES && strcmp(m->project.s, d->record.project.s) == 0 &&
		    memcmp(m->digest.b, want.b, sizeof(want.b)) == 0)
			p->yes = !p->no;
		else if (m->kind == WR_MSG_YES)
			refused(d, env, p, &bad);
		else if (m->kind == WR_MSG_NO || m->kind == WR_MSG_ERROR)
			refused(d, env, p, m);
		judge(d);
	}
}

enum wr_drop_verdict
wr_drop_tick(struct wr_drop *d, uint64_t now_ns)
{
	struct wr_err e = WR_ERR_INIT;

	if (d->verdict != WR_DROP_WAIT)
		return d->verdict;
	judge(d); /* a record without enough data members is answered by nobody */
	if (d->verdict == WR_DROP_WAIT && now_ns >= d->end_ns) {
		wr_err_set(&e, WR_E_FAILED, "not enough members answered%s%s",
			   d->why.code ? "; " : "", d->why.msg);
		keep(d, &e);
	}
	if (d->verdict == WR_DROP_WAIT && now_ns >= d->repeat_ns) {
		for (size_t i = 0; i < d->peer_count; i++)
			d->peer[i].to_send = !d->peer[i].yes && !d->peer[i].no;
		d->repeat_ns = now_ns + REPEAT_NS;
	}
	return d->verdict;
}

int
wr_drop_commit(const struct wr_drop *d, struct wr_member_state *s, const struct wr_member_env *env,
	       struct wr_err *err)
{
	struct wr_digest refs = {{0}};

	if (d->verdict != WR_DROP_PROVEN)
		return wr_err_set(err, WR_E_DENIED, "it is not proved");
	if (wr_drop_need(s, env, err) == WR_DROP_NEVER)
		return -1;
	if (s->has_save)
		refs = wr_save_refs_digest(&s->save);
	if (!s->hidden || wr_epoch_cmp(&s->record.n, &d->record.n) != 0 ||
	    (s->has_save && memcmp(refs.b, d->refs.b, sizeof(refs.b)) != 0))
		return wr_err_set(err, WR_E_CHANGED, "the copy changed meanwhile");
	wr_save_rec_fini(&s->save);
	wr_buf_clear(&s->save_bytes);
	s->has_save = false;
	return 0;
}
