/* SPDX-License-Identifier: Apache-2.0 */
/* A node: what the daemon does around the rules, with a disk that keeps what was written. */
#include "sim.h"

uint64_t
node_clock(const struct world *w, int i)
{
	return WR_SECOND_NS + (w->now - w->node[i].boot_at) / 1000 * w->node[i].rate;
}

bool
node_unfrozen(struct world *w, int i, int p)
{
	const struct copy *c = &w->node[i].copy[p];

	return w->node[i].up && c->running && wr_lease_holds(&c->lease, node_clock(w, i));
}

struct wr_member_env
node_env(struct world *w, int i, int p)
{
	struct node *n = &w->node[i];
	struct copy *c = &n->copy[p];

	return (struct wr_member_env){
	    .self = n->id,
	    .fleet = &w->fleet,
	    .now_ns = node_clock(w, i),
	    .held_until_ns =
		w->mutant == MUT_GRACE || w->profile == MEMBERS ? 0 : WR_SECOND_NS + WR_HOLD_NS,
	    .heard_ns = w->mutant == MUT_HOLD || w->profile == MEMBERS ? 0 : c->heard_ns,
	    .heard_from = c->heard_from,
	    .self_runs = node_unfrozen(w, i, p),
	    .amnesia = n->amnesia && w->mutant != MUT_AMNESIA,
	    .damaged = c->damaged && w->mutant != MUT_DAMAGED,
	    .may_store = true,
	};
}

static void
write_disk(struct copy *c)
{
	wr_buf_clear(&c->disk);
	wr_member_encode(&c->s, &c->disk);
	c->pending = false;
}

/* Before an answer. false: the node crashed, before or after the write; no answer. */
static bool
durable(struct world *w, int i, int p)
{
	struct copy *c = &w->node[i].copy[p];
	bool crash = !w->calm && chance(w, 8);

	w->wrote = true;
	if (w->mutant == MUT_DURABLE) {
		c->pending = true;
		return true;
	}
	if (crash && chance(w, 500)) {
		w->wrote = false;
		node_crash(w, i);
		return false;
	}
	write_disk(c);
	if (crash)
		node_crash(w, i);
	return !crash;
}

static void
reply(struct world *w, int i, int to, struct wr_msg *a)
{
	send_msg(w, i, to, a);
}

/* After the record changed: who runs, and under which lease. */
static void
follow_record(struct world *w, int i, int p)
{
	struct node *n = &w->node[i];
	struct copy *c = &n->copy[p];

	if (wr_node_id_eq(&c->s.record.writer, &n->id) && c->s.record.state == WR_RECORD_LIVE) {
		wr_lease_record(&c->lease, &c->s.record);
	} else {
		c->running = c->want = false;
		wr_lease_drop(&c->lease);
	}
}

static void
after(struct world *w, int i, int p, const struct wr_member_out *out, const struct wr_node_id *from)
{
	struct copy *c = &w->node[i].copy[p];

	if (out->forget)
		c->heard_ns = 0;
	if (out->hold_ns) {
		c->heard_ns = out->hold_ns;
		c->heard_from = out->hold_from;
	}
	if (out->heard) {
		c->heard_ns = node_clock(w, i);
		c->heard_from = *from;
	}
}

static void
get_objects(struct world *w, struct copy *c, int p, int commit)
{
	for (; commit >= 0; commit = w->ghost[p].parent[commit])
		c->has[commit] = true;
}

static bool
has_objects(const struct world *w, const struct copy *c, int p, int commit)
{
	for (; commit >= 0; commit = w->ghost[p].parent[commit])
		if (!c->has[commit])
			return false;
	return true;
}

/* ---- as writer ---- */

static void
push(struct world *w, int i, int p, const struct wr_node_id *to, const struct wr_buf *save,
     bool fill)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_msg m = {.kind = WR_MSG_PUSH, .project = w->project[p], .flag = fill};

	wr_buf_add(&m.record, c->s.record_bytes.p, c->s.record_bytes.len);
	wr_buf_add(&m.save, save->p, save->len);
	send_msg(w, i, address(w, to), &m);
}

static void
inform(struct world *w, int i, int p, int to)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_msg m = {.kind = WR_MSG_INSTALL, .project = w->project[p]};

	wr_buf_add(&m.record, c->s.record_bytes.p, c->s.record_bytes.len);
	send_msg(w, i, to, &m);
}

static void
acked(struct world *w, int i, int p, const struct wr_node_id *node, const struct wr_version *v)
{
	struct copy *c = &w->node[i].copy[p];
	size_t k;

	for (k = 0; k < c->acked_count; k++)
		if (wr_node_id_eq(&c->acked[k].node, node))
			break;
	if (k == WR_ARRAY_LEN(c->acked))
		return;
	if (k == c->acked_count)
		c->acked[c->acked_count++] = (struct wr_acked){.node = *node};
	if (wr_version_cmp(v, &c->acked[k].v) > 0)
		c->acked[k].v = *v;
}

static void
push_all(struct world *w, int i, int p)
{
	struct node *n = &w->node[i];
	struct copy *c = &n->copy[p];

	for (size_t k = 0; k < c->s.record.member_count; k++) {
		const struct wr_member *m = &c->s.record.member[k];
		bool have = wr_node_id_eq(&m->node, &n->id) || m->role == WR_ROLE_WITNESS;

		for (size_t a = 0; a < c->acked_count; a++)
			have = have || (wr_node_id_eq(&c->acked[a].node, &m->node) &&
					wr_version_cmp(&c->acked[a].v, &c->s.save.v) >= 0);
		if (!have)
			push(w, i, p, &m->node, &c->s.save_bytes, false);
	}
}

/* What was just signed: own objects, own disk, then the others. */
static void
saved(struct world *w, int i, int p)
{
	struct node *n = &w->node[i];
	struct copy *c = &n->copy[p];
	struct ghost_save s = {c->s.save.v, commit_of(&c->s.save), c->s.save.sig};
	bool up;

	get_objects(w, c, p, s.commit);
	say(w, "%s: save %s of p%d, commit %d", who(w, i), wr_version_text(&s.v).s, p, s.commit);
	up = durable(w, i, p);
	if (w->wrote) {
		ghost_save(w, p, &s);
		if (!c->damaged)
			ghost_accept(w, p, &n->id, &s.v);
	}
	if (up) {
		acked(w, i, p, &n->id, &s.v);
		push_all(w, i, p);
	}
}

static void
open_epoch(struct world *w, int i, int p)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_push side = WR_PUSH_INIT;

	if (wr_writer_open(&c->s, &env, wr_epoch_none(&c->fill.v.n) ? NULL : &c->fill,
			   &w->node[i].key, &side, NULL) == 0) {
		c->acked_count = 0;
		saved(w, i, p);
	}
	wr_push_fini(&side);
}

static void
save(struct world *w, int i, int p)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_save_ref ref = {.name = wr_strdup("refs/heads/main")};
	int commit = ghost_commit(w, p, commit_of(&c->s.save));

	wr_put32be(ref.id, (uint32_t)commit + 1);
	if (commit >= 0 && wr_writer_save(&c->s, &env, &ref, 1, 1, 0, &w->node[i].key, NULL) == 0) {
		w->count.saves++;
		saved(w, i, p);
	}
	free(ref.name);
}

/* W2: ask those who may have it; tell them the record first, so that they know what is asked for.
 */
static void
fetch_base(struct world *w, int i, int p)
{
	struct copy *c = &w->node[i].copy[p];

	if (wr_version_cmp(&c->fill.v, &c->s.record.base) == 0) {
		open_epoch(w, i, p);
		return;
	}
	for (int k = 0; k < w->nodes; k++) {
		struct wr_msg m = {
		    .kind = WR_MSG_FILL_ASK, .project = w->project[p], .version = c->s.record.base};

		if (k == i)
			continue;
		inform(w, i, p, k);
		send_msg(w, i, k, &m);
	}
}

static void
keep_round(struct world *w, int i, int p)
{
	struct node *n = &w->node[i];
	struct copy *c = &n->copy[p];
	struct wr_member_env env = node_env(w, i, p);

	wr_lease_record(&c->lease, &c->s.record);
	if (w->mutant == MUT_EXCLUSIVE)
		env.heard_from = n->id;
	wr_lease_round_begin(&c->lease, ++c->round, node_clock(w, i), wr_writer_keeps(&c->s, &env));
	for (size_t k = 0; k < c->s.record.member_count; k++) {
		struct wr_msg m = {.kind = WR_MSG_KEEP, .project = w->project[p]};

		if (wr_node_id_eq(&c->s.record.member[k].node, &n->id))
			continue;
		m.number = c->round;
		m.n = c->s.record.n;
		send_msg(w, i, address(w, &c->s.record.member[k].node), &m);
	}
}

static void
writer_tick(struct world *w, int i, int p)
{
	struct node *n = &w->node[i];
	struct copy *c = &n->copy[p];
	struct wr_member_env env = node_env(w, i, p);
	enum wr_writer_stand stand;

	if (w->mutant == MUT_RELEASE)
		memset(&c->s.released, 0, sizeof(c->s.released));
	stand = wr_writer_stand(&c->s, &env, NULL);
	if (!w->calm && w->profile != MEMBERS && chance(w, c->want ? 80 : 400))
		c->want = !c->want;
	if (!w->calm && (w->profile == LEASES || w->profile == LIARS))
		c->want = true;
	if (!c->want && !w->calm)
		c->running = false;
	if (stand == WR_WRITER_OPEN)
		open_epoch(w, i, p);
	else if (stand == WR_WRITER_FETCH)
		fetch_base(w, i, p);
	if (stand == WR_WRITER_NOT || !n->up)
		return;
	if (c->want || c->running)
		keep_round(w, i, p);
	if (stand != WR_WRITER_READY)
		return;
	if (c->want && !c->running && wr_lease_holds(&c->lease, node_clock(w, i))) {
		c->running = true;
		w->count.starts++;
		say(w, "%s: starts p%d under %" PRIu64, who(w, i), p, c->s.record.n.number);
	}
	if (chance(w, w->profile == LEASES ? 100 : 400))
		save(w, i, p);
	else
		push_all(w, i, p);
}

/* W6, with what an answer brought. */
static void
lost(struct world *w, int i, int p, int from, const struct wr_buf *record)
{
	struct node *n = &w->node[i];
	struct copy *c = &n->copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_record e;
	struct raise_wish wish = {.ask_grant = WR_GRANT_CONSENT, .newest = chance(w, 500)};
	struct wr_msg install = {.kind = WR_MSG_INSTALL}, a = WR_MSG_INIT;
	struct wr_member_out out;
	bool have = record->len && wr_record_decode(record->p, record->len, &e, NULL) == 0;

	if (!c->s.has_record || !wr_node_id_eq(&c->s.record.writer, &n->id))
		return;
	switch (wr_writer_lost(&c->s, &env, have ? &e : NULL)) {
	case WR_LOST_INFORM:
		inform(w, i, p, from);
		return;
	case WR_LOST_ASK:
		if (chance(w, 200))
			hub_raise(w, (int)rnd(w, HUBS), p, &wish);
		return;
	case WR_LOST_STOP:
		c->running = c->want = false;
		break;
	case WR_LOST_GO_ON:
		break;
	}
	env = node_env(w, i, p);
	wr_buf_add(&install.record, record->p, record->len);
	install.project = w->project[p];
	wr_member_install(&c->s, &env, &install, &a, &out);
	if (!out.changed || durable(w, i, p)) {
		after(w, i, p, &out, &n->id);
		follow_record(w, i, p);
	}
	wr_msg_fini(&a);
	wr_msg_fini(&install);
}

/* ---- as member ---- */

static void
on_prepare(struct world *w, int i, int from, int p, struct wr_msg *m)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	wr_member_prepare(&c->s, &env, m, &a, &out);
	if (out.changed && !durable(w, i, p)) {
		wr_msg_fini(&a);
		return;
	}
	after(w, i, p, &out, &m->from);
	if (a.kind == WR_MSG_PROMISE && c->s.has_save && !c->damaged)
		ghost_promise(w, p, &m->n, &c->s.save.v);
	if (out.changed)
		say(w, "%s: promises %" PRIu64 " of p%d%s", who(w, i), m->n.number, p,
		    c->s.promised_clean ? ", clean" : "");
	reply(w, i, from, &a);
}

static void
on_install(struct world *w, int i, int from, int p, struct wr_msg *m)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;

	wr_member_install(&c->s, &env, m, &a, &out);
	if (out.changed && !durable(w, i, p)) {
		wr_msg_fini(&a);
		return;
	}
	after(w, i, p, &out, &m->from);
	if (out.changed) {
		follow_record(w, i, p);
		say(w, "%s: has record %" PRIu64 " of p%d", who(w, i), c->s.record.n.number, p);
	}
	reply(w, i, from, &a);
}

static void
on_push(struct world *w, int i, int from, int p, struct letter *l)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_push push = WR_PUSH_INIT;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;
	enum wr_push_do what = wr_member_push_check(&c->s, &env, &l->m, &push, &a, &out);

	after(w, i, p, &out, &l->m.from);
	wr_push_fini(&push);
	if (what == WR_PUSH_TAKE || what == WR_PUSH_FILL)
		/* The transfer: some are slow (F8). */
		later_letter(w, EV_COMMIT, from, i, w->node[i].life, l,
			     chance(w, 100) && !w->calm ? rnd(w, 60 * WR_SECOND_NS)
							: rnd(w, 500 * MS));
	else
		reply(w, i, from, &a);
}

void
node_commit(struct world *w, int i, int from, struct wr_msg *m)
{
	struct node *n = &w->node[i];
	int p = strcmp(m->project.s, w->project[0].s) == 0 ? 0 : 1;
	struct copy *c = &n->copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_push push = WR_PUSH_INIT;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;
	struct wr_epoch promised = c->s.promised;
	struct wr_version v;
	enum wr_push_do what;
	bool up;

	if (w->mutant == MUT_FENCE && c->s.has_record)
		c->s.promised = c->s.record.n;
	what = wr_member_push_commit(&c->s, &env, m, &push, &a, &out);
	if (wr_epoch_cmp(&promised, &c->s.promised) > 0)
		c->s.promised = promised;
	if (what == WR_PUSH_TAKE)
		get_objects(w, c, p, commit_of(&c->s.save));
	if (what == WR_PUSH_FILL) {
		get_objects(w, c, p, commit_of(&push.save));
		wr_save_rec_fini(&c->fill);
		c->fill = push.save;
		push.save = (struct wr_save_rec)WR_SAVE_REC_INIT;
	}
	v = c->s.save.v;
	wr_push_fini(&push);
	up = !out.changed || durable(w, i, p);
	if (what == WR_PUSH_TAKE && w->wrote)
		ghost_accept(w, p, &n->id, &v);
	if (!up) {
		wr_msg_fini(&a);
		return;
	}
	after(w, i, p, &out, &m->from);
	if (out.changed)
		follow_record(w, i, p);
	reply(w, i, from, &a);
}

static void
on_keep(struct world *w, int i, int from, int p, struct wr_msg *m)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;
	enum wr_keep_say says;

	if (env.amnesia)
		return;
	if (w->mutant == MUT_EXCLUSIVE)
		env.heard_from = m->from;
	says = wr_member_keep(&c->s, &env, &m->from, &m->n, &out);
	after(w, i, p, &out, &m->from);
	if (says == WR_KEEP_WAIT)
		return;
	wr_msg_answer(&a, m, &w->node[i].id, WR_MSG_KEPT);
	a.project = m->project;
	a.number = m->number;
	a.n = m->n;
	a.flag = says == WR_KEEP_OK;
	if (!a.flag)
		wr_buf_add(&a.record, c->s.record_bytes.p, c->s.record_bytes.len);
	reply(w, i, from, &a);
}

static void
on_kept(struct world *w, int i, int from, int p, struct wr_msg *m)
{
	struct copy *c = &w->node[i].copy[p];

	if (m->flag)
		wr_lease_answer(&c->lease, m->number, &m->from, &m->n, true);
	else
		lost(w, i, p, from, &m->record);
}

static void
on_grant_ask(struct world *w, int i, int from, int p, struct wr_msg *m)
{
	struct node *n = &w->node[i];
	struct copy *c = &n->copy[p];
	struct wr_member_env env;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_grant g = {0};
	struct wr_err err = WR_ERR_INIT;
	bool changed = false;
	int ret;

	if (wr_epoch_none(&m->next) && c->s.has_record &&
	    wr_epoch_cmp(&m->n, &c->s.record.n) == 0 && w->mutant != MUT_RELEASE) {
		/* W5: freeze, save, end. The save is SAFE only if the others take it. */
		c->running = c->want = false;
		wr_lease_drop(&c->lease);
	}
	env = node_env(w, i, p);
	if (w->mutant == MUT_RELEASE)
		env.self_runs = false;
	ret = wr_epoch_none(&m->next)
		  ? wr_writer_release(&c->s, &env, &m->n, &n->key, &g, &changed, &err)
		  : wr_writer_consent(&c->s, &env, &m->n, &m->next, &n->key, &g, &err);
	if (changed && !durable(w, i, p))
		return;
	wr_msg_answer(&a, m, &n->id, ret == 0 ? WR_MSG_GRANT : WR_MSG_ERROR);
	a.project = m->project;
	if (ret == 0)
		wr_grant_encode(&g, &a.grant);
	else
		wr_msg_set_err(&a, &err);
	reply(w, i, from, &a);
}

static void
on_fill_ask(struct world *w, int i, int p, struct wr_msg *m)
{
	struct copy *c = &w->node[i].copy[p];

	if (w->node[i].amnesia || !c->s.has_save || c->s.hidden || c->damaged ||
	    wr_version_cmp(&c->s.save.v, &m->version) != 0 ||
	    wr_version_cmp(&c->s.record.base, &m->version) != 0)
		return;
	push(w, i, p, &m->from, &c->s.save_bytes, true);
}

/* ---- X1 ---- */

static struct wr_digest
proof_of(const uint8_t nonce[16])
{
	return wr_digest_of(nonce, 16);
}

static void
on_attest(struct world *w, int i, int from, int p, struct wr_msg *m)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_save_rec s = WR_SAVE_REC_INIT;
	struct wr_digest proof = proof_of(m->challenge);
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_out out;
	bool has;

	if (m->save.len)
		wr_save_rec_decode(m->save.p, m->save.len, &s, NULL);
	has = (has_objects(w, c, p, commit_of(&s)) && !c->damaged) || w->mutant == MUT_PROOF;
	wr_member_attest(&c->s, &env, m, has, &proof, &a, &out);
	wr_save_rec_fini(&s);
	reply(w, i, from, &a);
}

static void
end_drop(struct world *w, int i, int p)
{
	struct copy *c = &w->node[i].copy[p];

	wr_drop_fini(&c->drop);
	c->dropping = false;
}

void
node_drop(struct world *w, int i, int p)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_drop_opts o = {.request = w->request += 1000};

	if (!w->node[i].up || c->dropping || !c->s.has_save ||
	    wr_drop_need(&c->s, &env, NULL) != WR_DROP_PROVE)
		return;
	c->s.hidden = true;
	if (!durable(w, i, p))
		return;
	for (size_t k = 0; k < sizeof(o.nonce); k++)
		o.nonce[k] = (uint8_t)rnd(w, 256);
	o.expected = proof_of(o.nonce);
	o.save = c->s.save_bytes;
	o.timeout_ns = 20 * WR_SECOND_NS;
	c->dropping = wr_drop_begin(&c->drop, &c->s, &env, &o, NULL) == 0;
	say(w, "%s: hides its copy of p%d", who(w, i), p);
}

static void
drop_tick(struct world *w, int i, int p)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_member_env env = node_env(w, i, p);
	struct wr_node_id to;
	int commit;

	for (;;) {
		struct wr_msg m = WR_MSG_INIT;

		if (!wr_drop_next(&c->drop, &to, &m))
			break;
		send_msg(w, i, address(w, &to), &m);
	}
	switch (wr_drop_tick(&c->drop, env.now_ns)) {
	case WR_DROP_WAIT:
		return;
	case WR_DROP_PROVEN:
		commit = c->s.has_save ? commit_of(&c->s.save) : -1;
		if (wr_drop_commit(&c->drop, &c->s, &env, NULL) == 0) {
			w->count.drops++;
			say(w, "%s: deletes its copy of p%d", who(w, i), p);
			memset(c->has, 0, sizeof(c->has));
			wr_save_rec_fini(&c->fill);
			ghost_delete(w, p, &c->drop.record.n, commit);
			end_drop(w, i, p);
			(void)durable(w, i, p); /* no answer hangs on it */
			return;
		}
		break;
	case WR_DROP_KEEP:
		break;
	}
	end_drop(w, i, p);
	c->s.hidden = !c->s.has_save;
	(void)durable(w, i, p);
}

static void
on_proof(struct world *w, int i, int p, struct wr_msg *m)
{
	struct copy *c = &w->node[i].copy[p];
	struct wr_member_env env = node_env(w, i, p);

	if (!c->dropping)
		return;
	wr_drop_answer(&c->drop, &env, m);
	drop_tick(w, i, p);
}

/* ---- all of it ---- */

void
node_letter(struct world *w, int i, int from, struct wr_msg *m)
{
	int p = strcmp(m->project.s, w->project[0].s) == 0 ? 0 : 1;
	/* The letter around the message: a push is kept until its transfer ends. */
	struct letter *l = (struct letter *)(void *)((char *)m - offsetof(struct letter, m));

	switch (m->kind) {
	case WR_MSG_PREPARE:
		on_prepare(w, i, from, p, m);
		break;
	case WR_MSG_INSTALL:
		on_install(w, i, from, p, m);
		break;
	case WR_MSG_PUSH:
		on_push(w, i, from, p, l);
		break;
	case WR_MSG_ACK:
		acked(w, i, p, &m->from, &m->version);
		break;
	case WR_MSG_NACK:
		lost(w, i, p, from, &m->record);
		break;
	case WR_MSG_KEEP:
		on_keep(w, i, from, p, m);
		break;
	case WR_MSG_KEPT:
		on_kept(w, i, from, p, m);
		break;
	case WR_MSG_GRANT_ASK:
		on_grant_ask(w, i, from, p, m);
		break;
	case WR_MSG_FILL_ASK:
		on_fill_ask(w, i, p, m);
		break;
	case WR_MSG_ATTEST:
		on_attest(w, i, from, p, m);
		break;
	case WR_MSG_YES:
	case WR_MSG_NO:
		on_proof(w, i, p, m);
		break;
	default:
		break;
	}
}

void
node_tick(struct world *w, int i)
{
	struct node *n = &w->node[i];

	for (int p = 0; p < w->projects && n->up; p++) {
		struct copy *c = &n->copy[p];

		if (c->pending && chance(w, 300))
			write_disk(c);
		if (c->dropping)
			drop_tick(w, i, p);
		else if (n->up && c->s.hidden && c->s.has_save) {
			/* Hidden, and restarted before it was decided. */
			c->s.hidden = false;
			(void)durable(w, i, p);
		}
		if (n->up)
			writer_tick(w, i, p);
	}
	later(w, EV_TICK, i,
	      (w->profile == LEASES ? 1 : 3) * WR_SECOND_NS + rnd(w, 5 * WR_SECOND_NS));
}

void
node_crash(struct world *w, int i)
{
	struct node *n = &w->node[i];

	if (!n->up)
		return;
	say(w, "%s: crashes", who(w, i));
	w->count.crashes++;
	n->up = false;
	n->life++;
	for (int p = 0; p < w->projects; p++) {
		struct copy *c = &n->copy[p];

		end_drop(w, i, p);
		wr_member_fini(&c->s);
		wr_member_init(&c->s, &w->project[p]);
		c->heard_ns = 0;
		c->want = c->running = c->pending = false;
		c->acked_count = 0;
		wr_lease_init(&c->lease, &n->id);
	}
}

void
node_boot(struct world *w, int i)
{
	struct node *n = &w->node[i];

	if (n->up)
		return;
	say(w, "%s: boots", who(w, i));
	n->up = true;
	n->boot_at = w->now;
	for (int p = 0; p < w->projects; p++) {
		struct copy *c = &n->copy[p];
		struct wr_err err = WR_ERR_INIT;

		if (c->disk.len &&
		    wr_member_decode(c->disk.p, c->disk.len, &w->project[p], &c->s, &err) < 0)
			violated(w, "the file of authority cannot be read: %s", err.msg);
	}
}

/* From an image of an earlier day. */
void
node_set_back(struct world *w, int i)
{
	struct node *n = &w->node[i];

	node_crash(w, i);
	say(w, "%s: is set back", who(w, i));
	n->amnesia = true;
	for (int p = 0; p < w->projects; p++) {
		struct copy *c = &n->copy[p];

		wr_buf_clear(&c->disk);
		wr_buf_add(&c->disk, c->old.p, c->old.len);
		memcpy(c->has, c->old_has, sizeof(c->has));
	}
	node_boot(w, i);
}
