/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants I1..I5 and I9, and F20, judged by one who sees everything. */
#include "sim.h"

void
ghost_init(struct ghost *g)
{
	memset(g, 0, sizeof(*g));
	g->safe_tip = -1;
}

int
ghost_commit(struct world *w, int p, int parent)
{
	struct ghost *g = &w->ghost[p];

	if (g->commits == COMMITS_MAX) {
		w->full = true;
		return -1;
	}
	g->parent[g->commits] = parent;
	return g->commits++;
}

bool
ghost_within(const struct ghost *g, int commit, int tip)
{
	while (tip > commit)
		tip = g->parent[tip];
	return tip == commit;
}

/* The commit's number is its id; ids are never zero. */
int
commit_of(const struct wr_save_rec *s)
{
	return s->ref_count ? (int)wr_get32be(s->ref[0].id) - 1 : -1;
}

static struct ghost_save *
find_save(struct ghost *g, const struct wr_version *v)
{
	for (int i = 0; i < g->saves; i++)
		if (wr_version_cmp(&g->save[i].v, v) == 0)
			return &g->save[i];
	return NULL;
}

static struct ghost_record *
find_record(struct ghost *g, const struct wr_epoch *n)
{
	for (int i = 0; i < g->records; i++)
		if (wr_epoch_cmp(&g->record[i].e.n, n) == 0)
			return &g->record[i];
	return NULL;
}

int
ghost_newest(const struct ghost *g)
{
	int best = 0;

	for (int i = 1; i < g->records; i++)
		if (wr_epoch_cmp(&g->record[i].e.n, &g->record[best].e.n) > 0)
			best = i;
	return best;
}

static int
commit_at(struct ghost *g, const struct wr_version *v)
{
	const struct ghost_save *s = wr_epoch_none(&v->n) ? NULL : find_save(g, v);

	return s ? s->commit : -1;
}

/* I1, I2: what is SAFE in r is in the base of every later record. */
static void
check_pair(struct world *w, struct ghost *g, const struct ghost_record *r,
	   const struct wr_record *e)
{
	struct wr_version v = {r->e.n, r->safe - 1};

	if (!r->safe || wr_epoch_cmp(&e->n, &r->e.n) <= 0)
		return;
	if (!ghost_within(g, commit_at(g, &v), commit_at(g, &e->base)))
		violated(w, "I2: save %s is SAFE, and record %" PRIu64 " stands on %s without it",
			 wr_version_text(&v).s, e->n.number, wr_version_text(&e->base).s);
}

void
ghost_promise(struct world *w, int p, const struct wr_epoch *n, const struct wr_version *whole)
{
	struct ghost *g = &w->ghost[p];
	int i = 0;

	while (i < g->said_count && wr_epoch_cmp(&g->said[i].n, n) != 0)
		i++;
	if (i == (int)WR_ARRAY_LEN(g->said)) {
		w->full = true;
		return;
	}
	if (i == g->said_count)
		g->said[g->said_count++] = (struct ghost_said){*n, *whole};
	if (wr_version_cmp(whole, &g->said[i].v) > 0)
		g->said[i].v = *whole;
}

/* F20: somebody who promised it has what it stands on, in a copy that is not damaged. */
static void
check_base(struct world *w, int p, const struct wr_record *e)
{
	const struct ghost *g = &w->ghost[p];

	if (wr_epoch_none(&e->base.n) || e->accept_loss)
		return;
	for (int i = 0; i < g->said_count; i++)
		if (wr_epoch_cmp(&g->said[i].n, &e->n) == 0 &&
		    wr_version_cmp(&g->said[i].v, &e->base) >= 0)
			return;
	violated(w,
		 "I2: record %" PRIu64 " stands on %s, which only damaged copies were said to have",
		 e->n.number, wr_version_text(&e->base).s);
}

void
ghost_record(struct world *w, int p, const struct wr_record *e)
{
	struct ghost *g = &w->ghost[p];
	const struct ghost_record *same = find_record(g, &e->n);

	if (same) {
		if (memcmp(same->e.sig.b, e->sig.b, sizeof(e->sig.b)) != 0)
			violated(w, "I3: two records of epoch %" PRIu64, e->n.number);
		return;
	}
	if (g->records == RECORDS_MAX) {
		w->full = true;
		return;
	}
	for (int i = 0; i < g->records; i++)
		check_pair(w, g, &g->record[i], e);
	check_base(w, p, e);
	g->record[g->records++] = (struct ghost_record){.e = *e};
	if (w->verbose) {
		say(w, "record %" PRIu64 " of p%d: writer %s, base %s%s, members", e->n.number, p,
		    who(w, address(w, &e->writer)), wr_version_text(&e->base).s,
		    e->state == WR_RECORD_DELETED ? ", deleted" : "");
		for (size_t i = 0; i < e->member_count; i++)
			say(w, "   %s %s", who(w, address(w, &e->member[i].node)),
			    e->member[i].role == WR_ROLE_DATA      ? "data"
			    : e->member[i].role == WR_ROLE_WITNESS ? "witness"
								   : "learner");
	}
}

void
ghost_save(struct world *w, int p, const struct ghost_save *s)
{
	struct ghost *g = &w->ghost[p];
	const struct ghost_save *same = find_save(g, &s->v);

	if (same) {
		if (memcmp(same->sig.b, s->sig.b, sizeof(s->sig.b)) != 0)
			violated(w, "I3: two saves %s", wr_version_text(&s->v).s);
		return;
	}
	if (g->saves == SAVES_MAX) {
		w->full = true;
		return;
	}
	g->save[g->saves++] = *s;
}

static void
now_safe(struct world *w, int p, struct ghost_record *r, uint64_t s)
{
	struct ghost *g = &w->ghost[p];
	struct wr_version v = {r->e.n, s};
	int commit = commit_at(g, &v);

	r->safe = s + 1;
	w->count.safe++;
	say(w, "save %s of p%d is SAFE (commit %d)", wr_version_text(&v).s, p, commit);
	for (int i = 0; i < g->records; i++)
		check_pair(w, g, r, &g->record[i].e);
	if (ghost_within(g, g->safe_tip, commit))
		g->safe_tip = commit;
	else if (!ghost_within(g, commit, g->safe_tip))
		violated(w, "I4: SAFE saves %d and %d are on two lines", g->safe_tip, commit);
}

void
ghost_accept(struct world *w, int p, const struct wr_node_id *node, const struct wr_version *v)
{
	struct ghost *g = &w->ghost[p];
	struct ghost_record *r = find_record(g, &v->n);
	struct wr_acked acked[WR_MEMBERS_MAX];
	size_t n = 0;

	if (!r)
		return;
	for (size_t i = 0; i < r->e.member_count; i++) {
		uint64_t *a = &r->accepted[i];

		if (wr_node_id_eq(&r->e.member[i].node, node))
			*a = WR_MAX(*a, v->s + 1);
		if (*a)
			acked[n++] = (struct wr_acked){r->e.member[i].node, {v->n, *a - 1}};
	}
	if (v->s + 1 > r->safe && wr_safe_of(&r->e, v, acked, n, NULL).safe)
		now_safe(w, p, r, v->s);
}

void
ghost_delete(struct world *w, int p, const struct wr_epoch *n, int commit)
{
	struct ghost *g = &w->ghost[p];
	bool enough = commit < 0;

	for (int i = 0; i < w->nodes; i++) /* what an accident took was not deleted */
		enough = enough || w->node[i].amnesia;
	/* Its own record, or one that came since: some majority of members still has it all. */
	for (int i = 0; i < g->records && !enough; i++) {
		const struct wr_record *e = &g->record[i].e;
		size_t holders = 0;

		if (wr_epoch_cmp(&e->n, n) < 0)
			continue;
		for (int k = 0; k < w->nodes; k++) {
			const struct wr_member *m = wr_record_has(e, &w->node[k].id);
			const struct copy *c = &w->node[k].copy[p];

			holders += m && m->role == WR_ROLE_DATA && c->has[commit] && !c->s.hidden &&
				   !c->damaged;
		}
		enough = holders >= wr_record_majority(e);
	}
	if (!enough)
		violated(w, "I9: a copy of commit %d of p%d was deleted, too few are left", commit,
			 p);
}

void
ghost_runners(struct world *w)
{
	for (int p = 0; p < w->projects; p++) {
		int one = -1;

		for (int i = 0; i < w->nodes; i++) {
			if (!node_unfrozen(w, i, p))
				continue;
			if (one >= 0)
				violated(w, "I5: p%d runs on %d and on %d", p, one, i);
			one = i;
		}
	}
}
