/* SPDX-License-Identifier: Apache-2.0 */
/* Hubs: no memory but what a raise is begun with, and that may be any old record. */
#include "sim.h"

/* What it signed, but for the writer. Only members keep I5 then. */
static const struct wr_record *
lie(struct world *w, struct hub *hub, const struct wr_record *e)
{
	size_t i = rnd(w, e->member_count);

	if (wr_epoch_cmp(&hub->lie.n, &e->n) == 0)
		return &hub->lie;
	hub->lie = *e;
	for (; e->member[i].role != WR_ROLE_DATA; i = (i + 1) % e->member_count)
		;
	hub->lie.writer = e->member[i].node;
	wr_assert(wr_record_sign(&hub->lie, &w->hub_key, NULL) == 0);
	return &hub->lie;
}

static void
pump(struct world *w, int h)
{
	struct hub *hub = &w->hub[h];
	struct wr_node_id to;
	const struct wr_record *e;

	for (;;) {
		struct wr_msg m = WR_MSG_INIT;

		if (!wr_raise_next(hub->raise, &to, &m))
			break;
		e = wr_raise_record(hub->raise);
		/* Who holds nobody needs no grant, and is not bound by what it did not see. */
		if (hub->lies && m.kind == WR_MSG_PREPARE && chance(w, 500))
			wr_buf_clear(&m.grant);
		if (e && hub->lies) {
			e = lie(w, hub, e);
			if (m.kind == WR_MSG_INSTALL) {
				wr_buf_clear(&m.record);
				wr_record_encode(e, &m.record);
			}
		}
		if (e)
			ghost_record(w, hub->project, e);
		if (e && w->profile == MEMBERS && !w->calm && chance(w, 250)) {
			wr_msg_fini(&m);
			hub_crash(w, h);
			return;
		}
		send_msg(w, NODES_MAX + h, address(w, &to), &m);
	}
	switch (wr_raise_state(hub->raise)) {
	case WR_RAISE_DONE:
		w->count.raises++;
		say(w, "hub %d: raise of p%d to %" PRIu64 " done", h, hub->project,
		    wr_raise_record(hub->raise)->n.number);
		break;
	case WR_RAISE_FAILED:
		w->count.failed++;
		say(w, "hub %d: raise of p%d failed: %s (%s)", h, hub->project,
		    wr_raise_err(hub->raise)->msg, wr_raise_err(hub->raise)->hint);
		break;
	default:
		return;
	}
	wr_raise_free(hub->raise);
	hub->raise = NULL;
}

void
hub_raise(struct world *w, int h, int p, const struct raise_wish *wish)
{
	struct hub *hub = &w->hub[h];
	struct ghost *g = &w->ghost[p];
	struct wr_raise_node nodes[NODES_MAX];
	struct wr_node_id all[NODES_MAX];
	struct wr_raise_opts o = {
	    .project = w->project[p],
	    .fleet = &w->fleet,
	    .key = &w->hub_key,
	    .wish = wish->wish,
	    .node = wish->node,
	    .role = wish->role,
	    .ask_grant = wish->ask_grant,
	    .accept_loss = wish->accept_loss,
	    .ask = all,
	    .ask_count = (size_t)w->nodes,
	    .nodes = nodes,
	    .node_count = (size_t)w->nodes,
	    .at = 1,
	    .request = w->request += 1000000,
	    .timeout_ns = (20 + rnd(w, 60)) * WR_SECOND_NS,
	};

	if (hub->raise)
		return;
	for (size_t i = 0; i < WR_RAISE_TRIES; i++)
		o.random[i] = rnd(w, UINT64_MAX);
	for (int i = 0; i < w->nodes; i++) {
		all[i] = w->node[i].id;
		nodes[i] = (struct wr_raise_node){
		    .node = w->node[i].id, .ready = w->node[i].up, .warm = chance(w, 300)};
	}
	if (wish->newest)
		o.known = &g->record[ghost_newest(g)].e;
	else if (chance(w, 900))
		o.known = &g->record[rnd(w, (uint64_t)g->records)].e;
	hub->project = p;
	hub->lies = wish->lies;
	hub->raise = wr_raise_new(&o, w->now);
	say(w, "hub %d: raise of p%d, wish %u, grant %u, knows %" PRIu64, h, p, wish->wish,
	    wish->ask_grant, o.known ? o.known->n.number : 0);
	pump(w, h);
}

void
hub_random_raise(struct world *w, int h)
{
	struct raise_wish wish = {0};
	int p = (int)rnd(w, (uint64_t)w->projects);
	const struct ghost *g = &w->ghost[p];
	static const unsigned member_wish[] = {WR_WISH_ADD, WR_WISH_VOTER, WR_WISH_REMOVE};

	if (w->profile == MEMBERS) {
		wish.wish = chance(w, 500) ? WR_WISH_REMOVE : member_wish[rnd(w, 3)];
		wish.node = w->node[rnd(w, (uint64_t)w->nodes)].id;
		hub_raise(w, h, p, &wish);
		return;
	}
	if (w->profile == LIARS) {
		wish.ask_grant = WR_GRANT_CONSENT;
		wish.lies = wish.newest = true;
		hub_raise(w, h, p, &wish);
		return;
	}
	if (w->profile == LEASES) {
		wish.wish = WR_WISH_WRITER;
		wish.ask_grant = chance(w, 300) ? (unsigned)WR_GRANT_RELEASE : 0;
		wish.node = w->node[rnd(w, (uint64_t)w->nodes)].id;
		hub_raise(w, h, p, &wish);
		return;
	}
	wish.node = w->node[rnd(w, (uint64_t)w->nodes)].id;
	wish.ask_grant = chance(w, 400) ? (unsigned)WR_GRANT_RELEASE : 0;
	if (chance(w, w->new_members)) {
		wish.wish = member_wish[rnd(w, 3)];
		wish.role = chance(w, 200) ? WR_ROLE_WITNESS : WR_ROLE_DATA;
		if (!wish.ask_grant && chance(w, 500))
			wish.ask_grant = WR_GRANT_CONSENT;
	} else if (chance(w, 600)) {
		wish.wish = WR_WISH_WRITER;
		if (chance(w, 300))
			wish.node.inc = 0;
	} else if (chance(w, 50)) {
		wish.wish = WR_WISH_DELETE;
	} else {
		wish.ask_grant = WR_GRANT_CONSENT;
	}
	if (g->record[ghost_newest(g)].e.state == WR_RECORD_DELETED)
		wish.wish = WR_WISH_UNDELETE;
	hub_raise(w, h, p, &wish);
}

/* A promise that nobody gave, of one who holds nothing and knows only what the hub knows. */
static void
one_counts_for_two(struct world *w, int h, const struct wr_msg *m)
{
	struct hub *hub = &w->hub[h];
	const struct wr_record *known = wr_raise_known(hub->raise);
	int other = (int)rnd(w, (uint64_t)w->nodes);
	struct wr_msg twin = {.kind = WR_MSG_PROMISE, .project = m->project, .n = m->n};

	if (!known)
		return;
	twin.from = w->node[other].id;
	wr_record_encode(known, &twin.record);
	wr_raise_answer(hub->raise, &twin, w->now);
	wr_msg_fini(&twin);
}

void
hub_letter(struct world *w, int h, int from WR_UNUSED, struct wr_msg *m)
{
	struct hub *hub = &w->hub[h];

	if (!hub->raise)
		return;
	if (m->kind == WR_MSG_PROMISE) {
		if (w->mutant == MUT_CLEAN)
			m->flag = true;
		if (w->mutant == MUT_BASE && chance(w, 500))
			wr_buf_clear(&m->save);
		if (w->mutant == MUT_MAJORITY)
			one_counts_for_two(w, h, m);
	}
	wr_raise_answer(hub->raise, m, w->now);
	pump(w, h);
}

void
hub_tick(struct world *w, int h)
{
	if (w->hub[h].raise) {
		wr_raise_tick(w->hub[h].raise, w->now);
		pump(w, h);
	}
	later(w, EV_HUB, NODES_MAX + h, 300 * MS + rnd(w, 900 * MS));
}

void
hub_crash(struct world *w, int h)
{
	wr_raise_free(w->hub[h].raise);
	w->hub[h].raise = NULL;
}
