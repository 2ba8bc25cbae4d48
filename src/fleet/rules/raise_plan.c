/* SPDX-License-Identifier: Apache-2.0 */
/* What the promises of an attempt add up to (H2), and the record that follows from them: members
 * (H3), writer (H4). */
#include "fleet/rules/raise_int.h"

/* ---- H2: what was promised ---- */

static bool
writer_known(const struct wr_record *e, const struct wr_raise_peer *p)
{
	return wr_epoch_cmp(&e->n, &p->v.n) == 0 && wr_node_id_eq(&e->writer, &p->writer);
}

/* F18: a version counts only as what a record says: its base, or a save signed by the writer of its
 * epoch, as C or a record that came with an answer names it. An operator who accepts a loss takes
 * what is signed at all. */
static bool
version_counts(const struct wr_raise *r, const struct wr_raise_peer *p)
{
	if (!p->has_save)
		return false;
	if (wr_rules_is_base(&r->c, &p->v, &p->refs))
		return true;
	if (!p->save_ok)
		return false;
	if (r->o.accept_loss || writer_known(&r->c, p))
		return true;
	for (size_t i = 0; i < r->peer_count; i++)
		if (r->peer[i].has_record && writer_known(&r->peer[i].record, p))
			return true;
	return false;
}

static struct wr_tally
tally(const struct wr_raise *r, bool skip_damaged)
{
	struct wr_tally t = {.need = wr_record_majority(&r->c)};
	size_t alive = 0;

	for (size_t i = 0; i < r->c.member_count; i++)
		alive += wr_rules_voter(&r->c.member[i]) && !wr_raise_dead(r, &r->c.member[i].node);
	if (r->o.forced) /* H6: all that are not named dead */
		t.need = WR_MAX(alive, 1u);
	for (size_t i = 0; i < r->peer_count; i++) {
		const struct wr_raise_peer *p = &r->peer[i];
		const struct wr_member *m = wr_record_has(&r->c, &p->node);
		int c;

		/* Who is no member any more holds nothing that is SAFE and C's members lack; what
		 * it holds besides would be a base that no member has. */
		if (!p->promised || !m)
			continue;
		if (wr_rules_voter(m)) {
			t.promised++;
			t.clean +=
			    p->clean && p->has_record && wr_epoch_cmp(&p->record.n, &r->c.n) == 0;
		}
		if (!version_counts(r, p) || (skip_damaged && p->damaged))
			continue;
		c = wr_version_cmp(&p->v, &t.v);
		if (c == 0 && memcmp(t.refs.b, p->refs.b, sizeof(t.refs.b)) != 0)
			t.conflict = true;
		if (c > 0) {
			t.v = p->v;
			t.refs = p->refs;
			t.whole = false;
		}
		t.whole = t.whole || (c >= 0 && !p->damaged);
	}
	t.whole = t.whole || wr_epoch_none(&t.v.n);
	return t;
}

/* F20: a damaged copy's version counts, for it may have been SAFE; only the copy is no source. An
 * operator who accepts a loss goes on from the newest one that is whole, if there is any. */
struct wr_tally
wr_raise_tally(const struct wr_raise *r)
{
	struct wr_tally t = tally(r, false), whole;

	if (t.whole || !r->o.accept_loss)
		return t;
	whole = tally(r, true);
	whole.lost = true;
	return wr_epoch_none(&whole.v.n) ? t : whole;
}

static bool
holds(const struct wr_raise *r, const struct wr_node_id *node, const struct wr_tally *t)
{
	const struct wr_raise_peer *p = wr_raise_peer_of(r, node);

	if (!p || !p->promised)
		return false;
	return wr_epoch_none(&t->v.n) || /* nothing to hold */
	       ((!p->damaged || !t->whole) && version_counts(r, p) &&
		wr_version_cmp(&p->v, &t->v) == 0);
}

/* H3: "filled": it holds something on the line, not older than the base. */
static bool
filled(const struct wr_raise *r, const struct wr_node_id *node)
{
	const struct wr_raise_peer *p = wr_raise_peer_of(r, node);

	if (wr_epoch_none(&r->c.base.n) && p && p->promised && !p->has_save)
		return true; /* there is nothing to hold */
	return p && p->promised && p->has_save && !p->damaged &&
	       (wr_rules_is_base(&r->c, &p->v, &p->refs) || writer_known(&r->c, p));
}

/* ---- texts of what is missing ---- */

static void
add_name(const struct wr_raise *r, struct wr_buf *b, const struct wr_node_id *node)
{
	wr_buf_addf(b, "%s'%s'", b->len ? ", " : "", wr_rules_name(r->o.fleet, node).s);
}

static void
explain_majority(const struct wr_raise *r, const struct wr_tally *t, struct wr_err *out)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf silent = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf said = WR_BUF_INIT;
	const struct wr_err *held = NULL;

	for (size_t i = 0; i < r->c.member_count; i++) {
		const struct wr_member *m = &r->c.member[i];
		const struct wr_raise_peer *p = wr_raise_peer_of(r, &m->node);

		if (!wr_rules_voter(m) || !p || p->promised)
			continue;
		if (!p->why.code) {
			add_name(r, &silent, &m->node);
			continue;
		}
		wr_buf_addf(&said, "; '%s': %s", wr_rules_name(r->o.fleet, &m->node).s, p->why.msg);
		if (p->why.code == WR_E_BUSY)
			held = &p->why;
	}
	wr_err_set(out, held ? WR_E_BUSY : WR_E_FAILED,
		   "%zu of %zu voters promised %s, %zu must%s%s%s", t->promised,
		   wr_record_voters(&r->c), wr_rules_epoch(&r->n).s, t->need,
		   silent.len ? "; no answer from " : "", wr_buf_str(&silent), wr_buf_str(&said));
	if (held)
		wr_err_hint(out, "%s", held->hint);
	else
		wr_err_hint(out,
			    "bring them back; if a majority is gone for good, force a record with "
			    "the offline recovery key");
}

/* Who is reported to hold more than what answered? Texts only. */
static void
explain_base(const struct wr_raise *r, const struct wr_tally *t, struct wr_err *out)
{
	const struct wr_raise_node *best = NULL;
	int64_t have = 0;

	for (size_t i = 0; i < r->o.node_count; i++) {
		const struct wr_raise_node *n = &r->nodes[i];
		const struct wr_raise_peer *p = wr_raise_peer_of(r, &n->node);

		if (holds(r, &n->node, t))
			have = WR_MAX(have, n->scan_started);
		/* What is there was looked at. */
		if ((!p || !p->promised) && wr_version_cmp(&n->held, &t->v) > 0 &&
		    (!best || wr_version_cmp(&n->held, &best->held) > 0))
			best = n;
	}
	wr_err_set(out, WR_E_FAILED, "no node that answered holds save %s, the base of %s",
		   wr_version_text(&r->c.base).s, wr_rules_epoch(&r->c.n).s);
	if (best && best->scan_started > have && have > 0)
		wr_err_hint(out,
			    "needs --accept-loss: %s has %" PRId64
			    " min more; or wait until it is back",
			    wr_rules_name(r->o.fleet, &best->node).s,
			    (best->scan_started - have + 59) / 60);
	else if (best)
		wr_err_hint(out, "needs --accept-loss: %s has more; or wait until it is back",
			    wr_rules_name(r->o.fleet, &best->node).s);
	else
		wr_err_hint(out, "needs --accept-loss; or wait until who has it is back");
}

/* Who has it, but not whole? */
static void
explain_damaged(const struct wr_raise *r, const struct wr_tally *t, struct wr_err *out)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT;

	for (size_t i = 0; i < r->peer_count; i++)
		if (r->peer[i].promised && r->peer[i].damaged &&
		    wr_version_cmp(&r->peer[i].v, &t->v) == 0)
			add_name(r, &names, &r->peer[i].node);
	wr_err_set(out, WR_E_FAILED, "the newest save %s is in damaged copies alone: %s",
		   wr_version_text(&t->v).s, wr_buf_str(&names));
	wr_err_hint(out, "warren audit --repair refills them; or bring back who has it whole; or "
			 "--accept-loss goes on from an older one");
}

/* ---- H3: the members ---- */

static size_t
count_role(const struct wr_record *e, enum wr_role role)
{
	size_t n = 0;

	for (size_t i = 0; i < e->member_count; i++)
		n += e->member[i].role == role;
	return n;
}

static void
remove_member(struct wr_record *e, const struct wr_node_id *node)
{
	for (size_t i = 0; i < e->member_count; i++)
		if (wr_node_id_eq(&e->member[i].node, node)) {
			e->member[i] = e->member[--e->member_count];
			return;
		}
}

/* A node that joined anew takes the place of what it was: that has neither its promises nor, as far
 * as anybody can rely on it, its files. */
static int
add_learner(struct wr_raise *r, struct wr_record *e)
{
	const struct wr_member *m = wr_record_member(e, &r->o.node.id);

	if (m && m->node.inc >= r->o.node.inc)
		return wr_raise_fail(r, WR_E_EXISTS, "the node is a member already", NULL);
	if (m && m->role == WR_ROLE_DATA && count_role(e, WR_ROLE_DATA) == 1)
		return wr_raise_fail(r, WR_E_DENIED,
				     "no copy would be left but the one that it had", NULL);
	if (m) {
		e->member[m - e->member] =
		    (struct wr_member){.node = r->o.node, .role = WR_ROLE_LEARNER};
		return 0;
	}
	if (e->member_count == WR_MEMBERS_MAX)
		return wr_raise_fail(r, WR_E_LIMIT, "the project has the most members possible",
				     NULL);
	e->member[e->member_count++] =
	    (struct wr_member){.node = r->o.node, .role = WR_ROLE_LEARNER};
	return 0;
}

static int
make_voter(struct wr_raise *r, struct wr_record *e)
{
	const struct wr_member *m = wr_record_has(e, &r->o.node);
	enum wr_role role = r->o.role ? r->o.role : WR_ROLE_DATA;

	if (!m)
		return wr_raise_fail(r, WR_E_NOT_FOUND, "the node is no member",
				     "add it as a learner first");
	if (wr_rules_voter(m))
		return wr_raise_fail(r, WR_E_EXISTS, "the node has a vote already", NULL);
	if (role == WR_ROLE_LEARNER)
		return wr_raise_fail(r, WR_E_INVALID, "a learner has no vote", NULL);
	if (role == WR_ROLE_DATA && !filled(r, &r->o.node))
		return wr_raise_fail(r, WR_E_BUSY, "the new member does not hold the project yet",
				     "wait until it is filled");
	e->member[m - e->member].role = role;
	return 0;
}

static int
drop_member(struct wr_raise *r, struct wr_record *e)
{
	size_t min = WR_MAX(r->o.min_data, 1u);
	const struct wr_member *m = wr_record_has(e, &r->o.node);

	if (!m)
		return wr_raise_fail(r, WR_E_NOT_FOUND, "the node is no member", NULL);
	if (m->role == WR_ROLE_DATA && count_role(e, WR_ROLE_DATA) <= min)
		return wr_raise_fail(r, WR_E_DENIED, "too few copies would be left",
				     "add another one first");
	remove_member(e, &r->o.node);
	return 0;
}

/* The members of e, C's at first, as wished. */
static int
change_members(struct wr_raise *r, struct wr_record *e)
{
	for (size_t i = 0; i < r->o.dead_count && r->o.forced; i++)
		remove_member(e, &r->dead[i]);
	switch (r->o.wish) {
	case WR_WISH_ADD:
		return add_learner(r, e);
	case WR_WISH_VOTER:
		return make_voter(r, e);
	case WR_WISH_REMOVE:
		return drop_member(r, e);
	default:
		return 0;
	}
}

/* ---- H4: the writer ---- */

static const struct wr_raise_node *
opinion(const struct wr_raise *r, const struct wr_node_id *node)
{
	for (size_t i = 0; i < r->o.node_count; i++)
		if (wr_node_id_eq(&r->nodes[i].node, node))
			return &r->nodes[i];
	return NULL;
}

static int
rank(const struct wr_raise *r, const struct wr_record *e, const struct wr_member *m,
     const struct wr_tally *t)
{
	const struct wr_raise_node *o = opinion(r, &m->node);
	const struct wr_raise_peer *p = wr_raise_peer_of(r, &m->node);

	if (m->role != WR_ROLE_DATA || !p || !p->promised || !o || !o->ready)
		return -1;
	/* The same writer again rather than another: its tree is the one worked in. */
	return (holds(r, &m->node, t) ? 4 : 0) + (o->warm ? 2 : 0) +
	       (r->o.wish != WR_WISH_WRITER && wr_node_id_eq(&m->node, &e->writer) ? 1 : 0);
}

static int
fixed_writer(struct wr_raise *r, struct wr_record *e, const struct wr_node_id *node)
{
	const struct wr_member *m = wr_record_has(e, node);

	if (!m || m->role != WR_ROLE_DATA)
		return wr_raise_fail(r, WR_E_INVALID,
				     "the node that is to be the writer is no data member",
				     "add it first, and wait until it is filled");
	e->writer = *node;
	return 0;
}

/* UNDELETE: whoever asks, if it has it all. */
static int
undelete_writer(struct wr_raise *r, struct wr_record *e, const struct wr_tally *t)
{
	const struct wr_member *m = wr_record_has(e, &r->o.node);
	WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT;

	if (m && m->role == WR_ROLE_DATA && holds(r, &m->node, t))
		return fixed_writer(r, e, &m->node);
	for (size_t i = 0; i < e->member_count; i++)
		if (e->member[i].role == WR_ROLE_DATA && holds(r, &e->member[i].node, t))
			add_name(r, &names, &e->member[i].node);
	wr_err_set(&r->err, WR_E_NOT_FOUND, "'%s' does not have its newest save %s",
		   wr_rules_name(r->o.fleet, &r->o.node).s, wr_version_text(&t->v).s);
	if (names.len)
		wr_err_hint(&r->err, "undelete it on node %s", wr_buf_str(&names));
	r->state = WR_RAISE_FAILED;
	return -1;
}

static int
choose_writer(struct wr_raise *r, struct wr_record *e, const struct wr_tally *t)
{
	const struct wr_member *old = wr_record_has(e, &e->writer), *best = NULL;
	int top = -1;

	if (r->o.wish == WR_WISH_WRITER && r->o.node.inc)
		return fixed_writer(r, e, &r->o.node);
	if (r->o.wish == WR_WISH_UNDELETE && r->o.node.inc && undelete_writer(r, e, t) < 0)
		return -1;
	if (wr_raise_grant_fits(r) && r->grant.kind == WR_GRANT_CONSENT)
		return fixed_writer(r, e, &r->grant.writer);
	if (r->o.wish == WR_WISH_UNDELETE && r->o.node.inc)
		return 0;
	/* Who only asks for other members, or to delete, does not ask for another writer. */
	if (r->o.wish && r->o.wish != WR_WISH_WRITER && old && old->role == WR_ROLE_DATA)
		return 0;
	for (size_t i = 0; i < e->member_count; i++) {
		int k = rank(r, e, &e->member[i], t);

		if (k > top) {
			top = k;
			best = &e->member[i];
		}
	}
	if (!best)
		return wr_raise_fail(r, WR_E_FAILED, "no data member is ready to be the writer",
				     "look at 'warren nodes': drained, unhealthy or unreachable?");
	e->writer = best->node;
	return 0;
}

/* What was asked for is there already, or cannot be. */
static int
check_wish(struct wr_raise *r)
{
	bool deleted = r->c.state == WR_RECORD_DELETED;

	if (deleted && r->o.wish != WR_WISH_UNDELETE)
		return wr_raise_fail(r, WR_E_NOT_FOUND, "the project is deleted",
				     "undelete it first");
	if (!deleted && r->o.wish == WR_WISH_UNDELETE)
		return wr_raise_fail(r, WR_E_EXISTS, "the project is not deleted", NULL);
	return 0;
}

static bool
has_holder(const struct wr_raise *r, const struct wr_record *e, const struct wr_tally *t)
{
	for (size_t i = 0; i < e->member_count; i++)
		if (e->member[i].role != WR_ROLE_WITNESS && holds(r, &e->member[i].node, t))
			return true;
	return wr_epoch_none(&t->v.n);
}

static void
fill_base(const struct wr_raise *r, struct wr_record *e, const struct wr_tally *t)
{
	bool lost = t->lost || wr_version_cmp(&t->v, &r->c.base) < 0;

	e->n = r->n;
	e->prev = r->c.n;
	e->base = t->v;
	e->base_refs = t->refs;
	e->has_consent = wr_raise_grant_fits(r) && r->grant.kind == WR_GRANT_CONSENT;
	memset(&e->consent, 0, sizeof(e->consent));
	if (e->has_consent)
		e->consent = r->grant.writer;
	e->accept_loss = lost;
	e->forced = r->o.forced;
	if (r->undo)
		return;
	if (r->o.wish == WR_WISH_DELETE)
		e->state = WR_RECORD_DELETED;
	else if (r->o.wish == WR_WISH_UNDELETE)
		e->state = WR_RECORD_LIVE;
}

/* Members and writer as wished; *e is C's. */
static int
plan(struct wr_raise *r, struct wr_record *e, const struct wr_tally *t)
{
	if (check_wish(r) < 0 || change_members(r, e) < 0)
		return -1;
	if (!r->o.forced && !wr_rules_same_voters(&r->c, e) && t->clean < t->need) {
		/* H3: some member promised something in between, or holds an older record: first
		 * the same voters, then what was wished. */
		*e = r->c;
		r->again = true;
	}
	if (choose_writer(r, e, t) < 0)
		return -1;
	if (!has_holder(r, e, t))
		return wr_raise_fail(r, WR_E_BUSY,
				     "only the node that is to go holds the newest save",
				     "wait until another one has it");
	return 0;
}

void
wr_raise_plan(struct wr_raise *r, const struct wr_tally *t, struct wr_record *e)
{
	*e = r->c;
	r->again = false;
	if (plan(r, e, t) < 0) {
		/* The promises stopped C's writer already: without a record it could not go on. */
		*e = r->c;
		r->again = false;
		r->undo = true;
	}
	fill_base(r, e, t);
}

int
wr_raise_check(const struct wr_raise *r, const struct wr_tally *t, struct wr_err *out)
{
	if (t->promised < t->need) {
		explain_majority(r, t, out);
		return -1;
	}
	if (t->conflict)
		return wr_err_set(out, WR_E_CORRUPT, "there are two saves %s",
				  wr_version_text(&t->v).s);
	if (wr_version_cmp(&t->v, &r->c.base) < 0 && !r->o.accept_loss) {
		explain_base(r, t, out);
		return -1;
	}
	if (!t->whole && !r->o.accept_loss) {
		explain_damaged(r, t, out);
		return -1;
	}
	return 0;
}
