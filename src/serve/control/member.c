/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages that come in, judged by fleet/rules on this node's own disk.  ask.c has seen to
 * envelope, nonce and counter.  Each: authority lock, load, judge, store, answer; nobody sees an
 * effect that is not durable.
 *
 *   anyone in the fleet   HELLO FLEET_PUT INSTALL KEEP ATTEST   of what is signed, or theirs
 *   a hub                 PREPARE GRANT_ASK
 *   a member              FILL_ASK                              it gets files
 *                         START                                 open.c
 *   a hub                 INVENTORY                             reports.c
 *   to a hub              CREATE RAISE SETTINGS REPORT CERT ADDRESS   hub_int.h
 */
#include "base/log.h"
#include "serve/control/drops.h"
#include "serve/control/fleet_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* What a KEPT may carry of records. */
#define RECORDS_BYTES (512u << 10)
#define FILL_WAIT_S 60

/* ---- refusals ---- */

void
wr_peer_refused(struct wr_control *c, const struct wr_msg *q, const struct wr_err *why)
{
	struct wr_peers *p = c->fleet->peers;
	bool known = q->project.s[0] != '\0';
	unsigned hidden;

	if (wr_tally_pass(&p->refusals, wr_clock_mono_ns(), WR_REFUSALS_MAX, &hidden)) {
		json_t *detail = json_object();
		char who[128];

		snprintf(who, sizeof(who), "node %s",
			 q->from.id.s[0] ? wr_fleet_name(c, &q->from.id) : "?");
		wr_json_str(detail, "from", q->from.id.s[0] ? q->from.id.s : NULL);
		wr_json_str(detail, "kind", q->kind ? wr_msg_kind_name(q->kind) : NULL);
		wr_json_str(detail, "project", known ? q->project.s : NULL);
		wr_event(c, who, known ? &q->project : NULL, "peer.refused", why->msg, detail);
	}
	if (hidden) {
		WR_SCOPED(wr_freep) char *text = wr_asprintf("%u more refusals", hidden);

		wr_event(c, "fleet", NULL, "peer.refused", text, NULL);
	}
}

static void
refuse(struct wr_asked *k, const struct wr_err *why)
{
	wr_peer_refused(k->c, &k->q, why);
	wr_asked_fail(k, why);
}

/* ---- whom we heard ---- */

static size_t
heard_at(const struct wr_peers *p, const struct wr_uuid *project)
{
	size_t lo = 0, hi = p->heard_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(p->heard[mid].project.s, project->s) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct wr_heard *
heard_find(struct wr_peers *p, const struct wr_uuid *project)
{
	size_t i = heard_at(p, project);

	return i < p->heard_count && !strcmp(p->heard[i].project.s, project->s) ? &p->heard[i]
										: NULL;
}

static void
heard_forget(struct wr_peers *p, const struct wr_uuid *project)
{
	struct wr_heard *h = heard_find(p, project);
	size_t i = h ? (size_t)(h - p->heard) : 0;

	if (!h)
		return;
	p->heard_count--;
	memmove(p->heard + i, p->heard + i + 1, (p->heard_count - i) * sizeof(*p->heard));
}

static void
heard_set(struct wr_peers *p, const struct wr_uuid *project, const struct wr_node_id *from,
	  uint64_t ns)
{
	struct wr_heard *h = heard_find(p, project);
	size_t i;

	if (!h) {
		i = heard_at(p, project);
		wr_grow(&p->heard, &p->heard_cap, p->heard_count + 1, sizeof(*p->heard));
		memmove(p->heard + i + 1, p->heard + i, (p->heard_count - i) * sizeof(*p->heard));
		p->heard_count++;
		h = &p->heard[i];
		h->project = *project;
	}
	h->ns = ns;
	h->from = *from;
}

void
wr_heard_now(struct wr_control *c, const struct wr_uuid *project, const struct wr_node_id *from)
{
	struct wr_peers *p = c->fleet->peers;
	const struct wr_heard *h = heard_find(p, project);
	uint64_t now = wr_clock_boot_ns();

	if (!h || wr_node_id_eq(&h->from, from) || !wr_member_hold_runs(h->ns, now))
		heard_set(p, project, from, now);
}

void
wr_heard_judged(struct wr_control *c, const struct wr_uuid *project,
		const struct wr_member_out *out, const struct wr_node_id *from)
{
	if (out->forget)
		heard_forget(c->fleet->peers, project);
	if (out->hold_ns)
		heard_set(c->fleet->peers, project, &out->hold_from, out->hold_ns);
	if (out->heard)
		wr_heard_now(c, project, from);
}

void
wr_members_end(struct wr_control *c)
{
	free(c->fleet->peers->heard);
	c->fleet->peers->heard = NULL;
	c->fleet->peers->heard_count = c->fleet->peers->heard_cap = 0;
}

/* ---- what judging looks at ---- */

void
wr_heard_env(struct wr_control *c, const struct wr_uuid *project, struct wr_member_env *env)
{
	const struct wr_heard *h = heard_find(c->fleet->peers, project);

	env->heard_ns = h ? h->ns : 0;
	env->heard_from = h ? h->from : (struct wr_node_id){0};
}

void
wr_member_env_of(struct wr_control *c, const struct wr_uuid *project, struct wr_member_env *env)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_place_of place = WR_PLACE_OF_INIT;

	*env = (struct wr_member_env){
	    .self = c->fleet->auth->self,
	    .fleet = &c->fleet->auth->fleet,
	    .now_ns = wr_clock_boot_ns(),
	    .held_until_ns = p->held_until_ns,
	    .self_runs = wr_lease_runs(c, project),
	    .amnesia = c->fleet->amnesia,
	    .forgot = wr_auth_forgot(c->fleet->auth, project),
	};
	wr_heard_env(c, project, env);
	(void)wr_place_of_find(c->node, project, &place, NULL); /* a new one goes anywhere */
	env->may_store = wr_volume_takes(c->node, &place);
	env->damaged = wr_flag_is(c->node, WR_FLAG_DAMAGED, project);
	wr_place_of_fini(&place);
}

int
wr_member_load(struct wr_control *c, const struct wr_uuid *project, struct wr_member_state *out,
	       struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	if (wr_auth_load(c->fleet->auth, project, out, &why) == 0 || why.code == WR_E_NOT_FOUND)
		return 0;
	*err = why;
	return -1;
}

/* One project under its lock, from the question to the answer. */
struct judging {
	struct wr_asked *k;
	struct wr_uuid project;
	struct wr_lock lock;
	struct wr_member_state state;
	struct wr_member_env env;
	struct wr_member_out out;
	struct wr_msg answer;
};

/* 0: judge. -1: answered, or served again when the lock is free. */
static int
judging_begin(struct judging *j, struct wr_asked *k, const struct wr_uuid *project)
{
	struct wr_control *c = k->c;
	struct wr_err err = WR_ERR_INIT;

	memset(j, 0, sizeof(*j));
	j->k = k;
	j->project = *project;
	j->lock = (struct wr_lock)WR_LOCK_INIT;
	wr_member_init(&j->state, project);
	if (wr_auth_lock_now(c->fleet->auth, project, &j->lock, &err) < 0) {
		/* A transfer is being put into place. */
		if (err.code == WR_E_BUSY && wr_asked_again(k))
			return -1;
		wr_asked_fail(k, &err);
		return -1;
	}
	if (wr_member_load(c, project, &j->state, &err) < 0) {
		wr_lock_drop(&j->lock);
		refuse(k, &err);
		return -1;
	}
	wr_member_env_of(c, project, &j->env);
	return 0;
}

static void
judging_end(struct judging *j)
{
	wr_lock_drop(&j->lock);
	wr_member_fini(&j->state);
	wr_msg_fini(&j->answer);
}

/* The state durable if it changed, then the answer goes out. false: it could not be stored. */
static bool
judging_answer(struct judging *j)
{
	struct wr_control *c = j->k->c;
	struct wr_err err = WR_ERR_INIT;

	if (j->out.changed && wr_auth_store(c->fleet->auth, &j->project, &j->state, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "what was promised", &err);
		wr_asked_fail(j->k, &err);
		return false;
	}
	wr_heard_judged(c, &j->project, &j->out, &j->k->q.from);
	if (j->out.why.code != WR_E_NONE) {
		if (!j->k->q.project.s[0])
			j->k->q.project = j->project;
		wr_peer_refused(c, &j->k->q, &j->out.why);
	}
	wr_asked_answer(j->k, &j->answer);
	return true;
}

/* ---- the fleet ---- */

static void
on_hello(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	uint64_t ours = c->fleet->auth->fleet.seq;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_pnode *n = wr_pnode_get(c, &k->q.from);

	a.kind = WR_MSG_HELLO_OK;
	a.fleet_seq = ours;
	a.at = wr_clock_wall().s;
	if (k->q.fleet_seq < ours)
		wr_fleet_bytes(c, &a.blob);
	else if (k->q.fleet_seq > ours && n)
		n->hello_ns = 0; /* its answer to ours brings the newer one */
	wr_asked_answer(k, &a);
}

static void
on_fleet_put(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	struct wr_err err = WR_ERR_INIT;
	struct wr_msg a = WR_MSG_INIT;
	bool newer = false;

	if (wr_auth_fleet_put(c->fleet->auth, k->q.blob.p, k->q.blob.len, &newer, &err) < 0) {
		refuse(k, &err);
		return;
	}
	a.kind = WR_MSG_OK;
	wr_asked_answer(k, &a);
	if (newer)
		wr_fleet_changed(c);
}

/* ---- hub to member ---- */

static bool
from_hub(const struct wr_asked *k)
{
	const struct wr_fleet_node *f = wr_fleet_has(&k->c->fleet->auth->fleet, &k->q.from);

	return f && (f->flags & WR_FLEET_HUB);
}

static int
need_hub(struct wr_asked *k)
{
	struct wr_err err = WR_ERR_INIT;

	if (from_hub(k))
		return 0;
	wr_err_set(&err, WR_E_DENIED, "node '%s' is no hub: %s is for hubs",
		   wr_fleet_name(k->c, &k->q.from.id), wr_msg_kind_name(k->q.kind));
	refuse(k, &err);
	return -1;
}

static void
on_prepare(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	struct wr_work work = {0};
	struct judging j;

	if (need_hub(k) < 0 || judging_begin(&j, k, &k->q.project) < 0)
		return;
	if (wr_work_load(c->node, &j.project, &work, NULL) == 0) {
		j.env.work_base = work.base;
		j.env.work_dirty = work.dirty;
	}
	wr_member_prepare(&j.state, &j.env, &k->q, &j.answer, &j.out);
	if (judging_answer(&j) && j.out.changed)
		wr_lease_learn(c, &j.project);
	wr_work_fini(&work);
	judging_end(&j);
}

/* W6: what does that record mean for what runs here? Asked before the record is accepted. */
static bool
takes_away(const struct judging *j, const struct wr_record *e)
{
	return j->state.has_record && wr_node_id_eq(&j->state.record.writer, &j->env.self) &&
	       wr_epoch_cmp(&e->n, &j->state.record.n) > 0 &&
	       wr_lease_lives(j->k->c, &j->project) &&
	       wr_writer_lost(&j->state, &j->env, e) == WR_LOST_STOP;
}

/* Settings that would make of the project what this host does not allow do not come along, as with
 * a push.  The record does: who it takes the project away from must learn of it. */
static void
admit_settings(struct wr_asked *k, const struct wr_uuid *project)
{
	struct wr_err why = WR_ERR_INIT;

	if (wr_copy_admit_doc(k->c, project, &k->q.settings, &why) == 0)
		return;
	k->q.project = *project;
	wr_peer_refused(k->c, &k->q, &why);
	wr_buf_clear(&k->q.settings);
}

static void
on_install(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	struct wr_err err = WR_ERR_INIT;
	struct wr_record e;
	struct judging j;
	bool stop;

	if (wr_record_decode(k->q.record.p, k->q.record.len, &e, &err) < 0) {
		refuse(k, &err);
		return;
	}
	admit_settings(k, &e.project);
	if (judging_begin(&j, k, &e.project) < 0)
		return;
	stop = takes_away(&j, &e);
	wr_member_install(&j.state, &j.env, &k->q, &j.answer, &j.out);
	/* It stands still before anyone can know of the new writer. */
	if (stop && j.out.changed)
		wr_lease_lost(c, &j.project, "another node is its writer now");
	if (judging_answer(&j) && j.out.changed) {
		wr_lease_learn(c, &j.project);
		wr_fleet_learn(c, &j.project);
	}
	judging_end(&j);
}

static void
on_grant_ask(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	bool release = wr_epoch_none(&k->q.next);
	struct wr_err err = WR_ERR_INIT;
	struct wr_grant g;
	struct judging j;
	int rc;

	if (need_hub(k) < 0)
		return;
	if (release && wr_lease_lives(c, &k->q.project)) {
		wr_err_set(&err, WR_E_BUSY, "it is in use on node '%s'",
			   wr_fleet_name(c, &c->node->id));
		wr_err_hint(&err, "warren move stops it there first");
		wr_asked_fail(k, &err);
		return;
	}
	if (release)
		wr_lease_give_up(c, &k->q.project);
	if (judging_begin(&j, k, &k->q.project) < 0)
		return;
	rc = release ? wr_writer_release(&j.state, &j.env, &k->q.n, &c->fleet->auth->key, &g,
					 &j.out.changed, &err)
		     : wr_writer_consent(&j.state, &j.env, &k->q.n, &k->q.next,
					 &c->fleet->auth->key, &g, &err);
	if (rc < 0) {
		j.out.why = err;
		wr_msg_answer(&j.answer, &k->q, &j.env.self, WR_MSG_NACK);
		j.answer.project = j.project;
		j.answer.n = j.state.promised;
		wr_buf_add(&j.answer.record, j.state.record_bytes.p, j.state.record_bytes.len);
		wr_msg_set_err(&j.answer, &err);
	} else {
		wr_msg_answer(&j.answer, &k->q, &j.env.self, WR_MSG_GRANT);
		wr_grant_encode(&g, &j.answer.grant);
	}
	(void)judging_answer(&j);
	judging_end(&j);
}

/* ---- node to node ---- */

/* Entries are judged by what is on disk; nothing changes there, so no lock is needed. */
static void
keep_one(struct wr_asked *k, const struct wr_keep *q, struct wr_msg *answer, size_t *io_bytes)
{
	struct wr_control *c = k->c;
	/* All that is looked at for this. */
	struct wr_member_env env = {
	    .self = c->fleet->auth->self,
	    .fleet = &c->fleet->auth->fleet,
	    .now_ns = wr_clock_boot_ns(),
	    .amnesia = c->fleet->amnesia,
	};
	enum wr_keep_say say = WR_KEEP_LOST;
	struct wr_member_state s;
	struct wr_member_out out = {0};

	wr_heard_env(c, &q->project, &env);
	wr_member_init(&s, &q->project);
	if (wr_member_load(c, &q->project, &s, &out.why) == 0)
		say = wr_member_keep(&s, &env, &k->q.from, &q->n, &out);
	wr_heard_judged(c, &q->project, &out, &k->q.from);
	if (say != WR_KEEP_OK) {
		struct wr_msg told = {.from = k->q.from, .kind = k->q.kind, .project = q->project};

		wr_peer_refused(c, &told, &out.why);
	}
	if (say != WR_KEEP_WAIT)
		answer->keep[answer->keep_count++] =
		    (struct wr_keep){q->project, q->n, say == WR_KEEP_OK};
	if (say == WR_KEEP_LOST && answer->blob_count < WR_MSG_BLOBS) {
		struct wr_buf *b = &answer->blobs[answer->blob_count++];

		if (*io_bytes + s.record_bytes.len <= RECORDS_BYTES)
			wr_buf_add(b, s.record_bytes.p, s.record_bytes.len);
		*io_bytes += s.record_bytes.len;
	}
	wr_member_fini(&s);
}

static void
on_keep(struct wr_asked *k)
{
	const struct wr_msg *q = &k->q;
	struct wr_msg a = WR_MSG_INIT;
	size_t bytes = 0;

	a.kind = WR_MSG_KEPT;
	a.number = q->number;
	a.keep = wr_calloc(q->keep_count + 1, sizeof(*a.keep));
	a.blobs = wr_calloc(WR_MSG_BLOBS, sizeof(*a.blobs));
	for (size_t i = 0; i < q->keep_count; i++)
		keep_one(k, &q->keep[i], &a, &bytes);
	wr_asked_answer(k, &a);
}

static int
check_fill(struct wr_asked *k, const struct wr_member_state *s, struct wr_err *err)
{
	const struct wr_member *m = s->has_record ? wr_record_has(&s->record, &k->q.from) : NULL;
	struct wr_version held = wr_member_version(s);

	if (!m || m->role == WR_ROLE_WITNESS)
		return wr_err_set(err, WR_E_DENIED, "node '%s' keeps no copy of it",
				  wr_fleet_name(k->c, &k->q.from.id));
	if (wr_flag_is(k->c->node, WR_FLAG_DAMAGED, &k->q.project))
		return wr_err_set(err, WR_E_CORRUPT, "the copy here is damaged");
	if (k->q.version.n.number == 0) /* its copy is damaged: what it lacks may be here */
		return wr_epoch_none(&held.n)
			   ? wr_err_set(err, WR_E_NOT_FOUND, "no version is here")
			   : 0;
	if (wr_version_cmp(&held, &k->q.version) != 0)
		return wr_err_set(err, WR_E_NOT_FOUND, "version %s is not here",
				  wr_version_text(&k->q.version).s);
	return 0;
}

static void
on_fill_ask(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	struct wr_op_wish w = {
	    .kind = WR_OP_REPLICATE, .by = "fleet", .may_wait = true, .wait_s = FILL_WAIT_S};
	struct wr_proj_row row = {0};
	struct wr_member_state s;
	struct wr_err err = WR_ERR_INIT;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_uuid op;
	int rc;

	wr_member_init(&s, &k->q.project);
	rc = wr_member_load(c, &k->q.project, &s, &err);
	if (rc == 0)
		rc = check_fill(k, &s, &err);
	wr_member_fini(&s);
	if (rc < 0) {
		refuse(k, &err);
		return;
	}
	if (wr_row_find(c, &k->q.project, &row, &err) == 0) {
		w.row = &row;
		w.args = json_object();
		wr_json_str(w.args, "fill_to", k->q.from.id.s);
		if (k->q.version.n.number == 0)
			wr_json_bool(w.args, "mend", true);
		rc = wr_op_submit(c, &w, &op, &err);
		wr_proj_row_fini(&row);
	} else {
		rc = -1;
	}
	if (rc < 0) {
		wr_asked_fail(k, &err);
		return;
	}
	a.kind = WR_MSG_OK;
	wr_asked_answer(k, &a);
}

/* A worker has looked at the objects; the rest is judged as it is now. */
static void
attested(struct wr_asked *k, bool has_refs, const struct wr_digest *proof)
{
	struct judging j;

	if (judging_begin(&j, k, &k->q.project) < 0)
		return;
	wr_member_attest(&j.state, &j.env, &k->q, has_refs, proof, &j.answer, &j.out);
	(void)judging_answer(&j);
	judging_end(&j);
}

static void
on_attest(struct wr_asked *k)
{
	static const struct wr_digest none;
	struct judging j;
	bool look;

	if (judging_begin(&j, k, &k->q.project) < 0)
		return;
	/* What is refused in any case is not worth a look at the objects. */
	wr_member_attest(&j.state, &j.env, &k->q, !j.env.damaged, &none, &j.answer, &j.out);
	look = j.out.why.code == WR_E_NONE;
	if (!look)
		(void)judging_answer(&j);
	judging_end(&j);
	if (look)
		wr_attest_facts(k, attested);
}

/* ---- all of them ---- */

static void
to_hub(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	struct wr_err err = WR_ERR_INIT;

	if (c->fleet->catalog) {
		wr_hub_serve(k);
		return;
	}
	wr_err_set(&err, WR_E_UNSUPPORTED, "node '%s' is no hub", wr_fleet_name(c, &c->node->id));
	for (size_t i = 0; i < f->node_count; i++)
		if ((f->node[i].flags & (WR_FLEET_HUB | WR_FLEET_REMOVED)) == WR_FLEET_HUB)
			wr_err_hint(&err, "node '%s' is one", f->node[i].name);
	wr_asked_fail(k, &err);
}

void
wr_asked_serve(struct wr_asked *k)
{
	struct wr_err err = WR_ERR_INIT;

	wr_copies_seen(k->c, &k->q.from.id);
	switch (k->q.kind) {
	case WR_MSG_HELLO:
		on_hello(k);
		return;
	case WR_MSG_FLEET_PUT:
		on_fleet_put(k);
		return;
	case WR_MSG_PREPARE:
		on_prepare(k);
		return;
	case WR_MSG_INSTALL:
		on_install(k);
		return;
	case WR_MSG_KEEP:
		on_keep(k);
		return;
	case WR_MSG_GRANT_ASK:
		on_grant_ask(k);
		return;
	case WR_MSG_FILL_ASK:
		on_fill_ask(k);
		return;
	case WR_MSG_ATTEST:
		on_attest(k);
		return;
	case WR_MSG_AUDIT:
		wr_audit_asked(k);
		return;
	case WR_MSG_MARK:
		wr_audit_mark(k);
		return;
	case WR_MSG_START:
		wr_open_asked(k);
		return;
	case WR_MSG_INVENTORY:
		if (need_hub(k) == 0)
			wr_copies_inventory(k);
		return;
	case WR_MSG_RECORDS_ASK:
		if (need_hub(k) == 0)
			wr_copies_records(k);
		return;
	case WR_MSG_CREATE:
	case WR_MSG_RAISE:
	case WR_MSG_SETTINGS:
	case WR_MSG_REPORT:
	case WR_MSG_CERT:
	case WR_MSG_ADDRESS:
		to_hub(k);
		return;
	default:
		break;
	}
	wr_err_set(&err, WR_E_INVALID, "%s is no question", wr_msg_kind_name(k->q.kind));
	refuse(k, &err);
}
