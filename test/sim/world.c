/* SPDX-License-Identifier: Apache-2.0 */
/* Time, chance, the network, and what befalls everybody. */
#include "sim.h"

/* splitmix64 */
static uint64_t
draw(struct world *w)
{
	uint64_t z = w->rng += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t
rnd(struct world *w, uint64_t below)
{
	return draw(w) % below;
}

bool
chance(struct world *w, unsigned per_thousand)
{
	return rnd(w, 1000) < per_thousand;
}

void
say(struct world *w, const char *fmt, ...)
{
	va_list ap;

	if (!w->verbose)
		return;
	printf("# %9.3f ", (double)(w->now / MS) / 1000);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void
violated(struct world *w, const char *fmt, ...)
{
	va_list ap;

	if (*w->violation)
		return;
	va_start(ap, fmt);
	vsnprintf(w->violation, sizeof(w->violation), fmt, ap);
	va_end(ap);
	say(w, "VIOLATION %s", w->violation);
}

const char *
who(const struct world *w WR_UNUSED, int a)
{
	static const char *const name[] = {"A", "B", "C", "D", "E", "hub 0", "hub 1"};

	return a >= 0 && a < ADDRESSES ? name[a] : "?";
}

int
address(const struct world *w, const struct wr_node_id *id)
{
	for (int i = 0; i < w->nodes; i++)
		if (wr_node_id_eq(&w->node[i].id, id))
			return i;
	return -1;
}

/* ---- events: a heap by time ---- */

static bool
before(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void
add_event(struct world *w, struct event e)
{
	size_t i = w->heap_len++;

	e.order = w->order++;
	wr_grow(&w->heap, &w->heap_cap, w->heap_len, sizeof(*w->heap));
	for (; i > 0 && before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = e;
}

static struct event
next_event(struct world *w)
{
	struct event top = w->heap[0], last = w->heap[--w->heap_len];
	size_t i = 0;

	for (size_t k = 1; k < w->heap_len; k = 2 * i + 1) {
		if (k + 1 < w->heap_len && before(&w->heap[k + 1], &w->heap[k]))
			k++;
		if (!before(&w->heap[k], &last))
			break;
		w->heap[i] = w->heap[k];
		i = k;
	}
	w->heap[i] = last;
	return top;
}

void
later(struct world *w, enum event_kind kind, int to, uint64_t delay)
{
	add_event(w, (struct event){.at = w->now + delay, .kind = kind, .to = to});
}

void
later_letter(struct world *w, enum event_kind kind, int from, int to, unsigned life,
	     struct letter *l, uint64_t delay)
{
	l->refs++;
	add_event(w, (struct event){.at = w->now + delay,
				    .kind = kind,
				    .to = to,
				    .from = from,
				    .life = life,
				    .letter = l});
}

static void
drop_letter(struct letter *l)
{
	if (l && --l->refs == 0) {
		wr_msg_fini(&l->m);
		free(l);
	}
}

/* ---- the network ---- */

static uint64_t
delay(struct world *w)
{
	if (w->calm)
		return MS + rnd(w, 50 * MS);
	if (chance(w, 30))
		return rnd(w, 60 * WR_SECOND_NS);
	return chance(w, 200) ? rnd(w, 3 * WR_SECOND_NS) : MS + rnd(w, 200 * MS);
}

void
send_msg(struct world *w, int from, int to, struct wr_msg *m)
{
	struct letter *l;

	if (to < 0 || (!w->calm && (w->cut[from][to] || chance(w, w->loss)))) {
		wr_msg_fini(m);
		return;
	}
	l = wr_calloc(1, sizeof(*l));
	l->m = *m;
	*m = (struct wr_msg)WR_MSG_INIT;
	l->m.from = from < NODES_MAX ? w->node[from].id : w->hub[from - NODES_MAX].id;
	later_letter(w, EV_LETTER, from, to, 0, l, delay(w));
	if (!w->calm && chance(w, 50))
		later_letter(w, EV_LETTER, from, to, 0, l, delay(w));
}

/* ---- accidents ---- */

/* Each hub misses one node for a while: majorities that differ. */
static void
cut_hubs(struct world *w)
{
	for (int h = NODES_MAX; h < ADDRESSES; h++) {
		int i = (int)rnd(w, (uint64_t)w->nodes);

		memset(w->cut[h], 0, sizeof(w->cut[h]));
		w->cut[h][i] = true;
	}
}

/* Two nodes do not hear each other for a while; each hub hears all but one. */
static void
liars(struct world *w)
{
	int a = (int)rnd(w, (uint64_t)w->nodes), b = (int)rnd(w, (uint64_t)w->nodes);

	cut_hubs(w);
	if (chance(w, 60)) {
		for (int k = 0; k < NODES_MAX; k++)
			memset(w->cut[k], 0, NODES_MAX * sizeof(w->cut[k][0]));
		w->cut[a][b] = w->cut[b][a] = true;
	}
	if (chance(w, 100))
		hub_random_raise(w, (int)rnd(w, HUBS));
	later(w, EV_CHAOS, 0, 100 * MS + rnd(w, 4 * WR_SECOND_NS));
}

/* A copy is marked, one of a project at most, or is whole again.  Not while somebody counts on what
 * it said before: a disk fails at any time, but then nobody could know. */
static void
damage(struct world *w, int i)
{
	int p = (int)rnd(w, (uint64_t)w->projects);
	struct copy *c = &w->node[i].copy[p];
	bool busy = !c->s.has_save;

	for (int k = 0; k < w->nodes; k++) {
		if (w->node[k].copy[p].damaged && chance(w, 300))
			w->node[k].copy[p].damaged = false;
		busy = busy || w->node[k].copy[p].damaged || w->node[k].copy[p].dropping;
	}
	for (int h = 0; h < HUBS; h++)
		busy = busy || (w->hub[h].raise && w->hub[h].project == p);
	if (busy)
		return;
	c->damaged = true;
	say(w, "%s: its copy of p%d is damaged", who(w, i), p);
}

static void
chaos(struct world *w)
{
	int i = (int)rnd(w, (uint64_t)w->nodes), a = (int)rnd(w, ADDRESSES),
	    b = (int)rnd(w, ADDRESSES);
	struct node *n = &w->node[i];

	if (w->profile == MEMBERS)
		cut_hubs(w);
	if (w->profile == LEASES && chance(w, 200)) {
		/* The writer and one member do not hear each other, and the other one restarts. */
		w->cut[0][i] = w->cut[i][0] = true;
		node_crash(w, (i + 1) % w->nodes);
		node_boot(w, (i + 1) % w->nodes);
	}
	switch (rnd(w, w->profile == MEMBERS ? 24 : 12)) {
	case 0:
		if (chance(w, 500))
			node_crash(w, i);
		if (chance(w, 400)) /* only a moment away */
			node_boot(w, i);
		break;
	case 1:
	case 2:
		node_boot(w, i);
		break;
	case 3:
		w->cut[a][b] = true;
		for (int k = 0; k < ADDRESSES && chance(w, 800); k++)
			w->cut[a][k] = w->cut[k][a] = true;
		break;
	case 4:
	case 5:
		memset(w->cut[a], 0, sizeof(w->cut[a]));
		break;
	case 6:
		w->loss = (unsigned)rnd(w, 300);
		break;
	case 7:
		if (chance(w, 300))
			hub_crash(w, (int)rnd(w, HUBS));
		break;
	case 8:
		node_drop(w, i, (int)rnd(w, (uint64_t)w->projects));
		break;
	case 10:
		damage(w, i);
		break;
	case 9:
		for (int p = 0; p < w->projects; p++) { /* an image is taken */
			struct copy *c = &n->copy[p];

			if (!chance(w, 300))
				continue;
			wr_buf_clear(&c->old);
			wr_buf_add(&c->old, c->disk.p, c->disk.len);
			memcpy(c->old_has, c->has, sizeof(c->has));
		}
		if (chance(w, 60)) {
			bool any = false;

			for (int k = 0; k < w->nodes; k++)
				any = any || w->node[k].amnesia;
			if (!any)
				node_set_back(w, i);
		}
		break;
	default:
		hub_random_raise(w, (int)rnd(w, HUBS));
		break;
	}
	later(w, EV_CHAOS, 0, 100 * MS + rnd(w, 4 * WR_SECOND_NS));
}

void
world_step(struct world *w)
{
	struct event e = next_event(w);
	struct node *n;

	w->now = e.at;
	switch (e.kind) {
	case EV_NONE:
		break;
	case EV_LETTER:
		if (e.to >= NODES_MAX)
			hub_letter(w, e.to - NODES_MAX, e.from, &e.letter->m);
		else if (w->node[e.to].up)
			node_letter(w, e.to, e.from, &e.letter->m);
		break;
	case EV_COMMIT:
		n = &w->node[e.to];
		if (n->up && n->life == e.life)
			node_commit(w, e.to, e.from, &e.letter->m);
		break;
	case EV_TICK:
		node_tick(w, e.to);
		break;
	case EV_HUB:
		hub_tick(w, e.to - NODES_MAX);
		break;
	case EV_CHAOS:
		if (!w->calm && w->profile == LIARS)
			liars(w);
		else if (!w->calm)
			chaos(w);
		break;
	}
	drop_letter(e.letter);
	ghost_runners(w);
}

/* ---- begin and end ---- */

static struct wr_sign_key
make_key(uint8_t i)
{
	struct wr_sign_key k;
	uint8_t seed[32];

	memset(seed, i, sizeof(seed));
	wr_assert(wr_sign_key_of(seed, &k, NULL) == 0);
	return k;
}

static struct wr_uuid
make_uuid(unsigned i)
{
	struct wr_uuid u;

	snprintf(u.s, sizeof(u.s), "%08x-0000-4000-8000-000000000000", i);
	return u;
}

static void
make_nodes(struct world *w)
{
	w->hub_key = make_key(200);
	w->fleet = (struct wr_fleet){.id = make_uuid(1000), .seq = 1, .hub_count = 1};
	w->fleet.hub[0] = w->hub_key.pub;
	w->fleet.recovery = make_key(201).pub;
	w->fleet.node = wr_calloc((size_t)w->nodes, sizeof(*w->fleet.node));
	w->fleet.node_count = (size_t)w->nodes;
	for (int i = 0; i < w->nodes; i++) {
		struct node *n = &w->node[i];
		struct wr_fleet_node *f = &w->fleet.node[i];

		n->id = (struct wr_node_id){make_uuid((unsigned)i + 1), 1};
		n->key = make_key((uint8_t)(i + 1));
		n->rate = 950 + rnd(w, 101);
		f->node = n->id;
		f->pub = n->key.pub;
		f->weight = 100;
		snprintf(f->name, sizeof(f->name), "%c", 'a' + i);
		snprintf(f->dc, sizeof(f->dc), "dc%d", i);
		for (int p = 0; p < w->projects; p++) {
			wr_member_init(&n->copy[p].s, &w->project[p]);
			wr_lease_init(&n->copy[p].lease, &n->id);
		}
		/* They have been up for a while. */
		n->up = true;
		n->boot_at = 0;
		later(w, EV_TICK, i, rnd(w, 3 * WR_SECOND_NS));
	}
	for (int h = 0; h < HUBS; h++) {
		w->hub[h].id = (struct wr_node_id){make_uuid(500 + (unsigned)h), 1};
		later(w, EV_HUB, NODES_MAX + h, rnd(w, WR_SECOND_NS));
	}
}

/* The first record, there already at those that are in it. */
static void
make_project(struct world *w, int p)
{
	struct wr_raise_opts o = {.project = w->project[p],
				  .fleet = &w->fleet,
				  .key = &w->hub_key,
				  .at = 1,
				  .request = 1};
	struct wr_record first = {0};
	struct wr_raise *r;
	int members = 1 + (int)rnd(w, (uint64_t)w->nodes);

	if (w->profile != MIXED)
		members = w->nodes;
	else if (members < 3 && chance(w, 700))
		members = 3;
	o.random[0] = rnd(w, UINT64_MAX);
	for (int i = 0; i < members; i++)
		first.member[first.member_count++] =
		    (struct wr_member){w->node[i].id, WR_ROLE_DATA};
	if (members == 3 && w->profile == MIXED && chance(w, 250))
		first.member[2].role = WR_ROLE_WITNESS;
	first.writer = w->node[0].id;
	r = wr_raise_new_first(&o, &first, 0, NULL);
	wr_assert(r);
	ghost_record(w, p, wr_raise_record(r));
	for (int i = 0; i < members; i++) {
		struct copy *c = &w->node[i].copy[p];
		struct wr_msg m = {.kind = WR_MSG_INSTALL}, a = WR_MSG_INIT;
		struct wr_member_env env = node_env(w, i, p);
		struct wr_member_out out;

		wr_record_encode(wr_raise_record(r), &m.record);
		wr_member_install(&c->s, &env, &m, &a, &out);
		wr_assert(a.kind == WR_MSG_OK);
		wr_member_encode(&c->s, &c->disk);
		wr_buf_add(&c->old, c->disk.p, c->disk.len);
		wr_msg_fini(&m);
		wr_msg_fini(&a);
	}
	wr_raise_free(r);
}

void
world_init(struct world *w, uint64_t seed, enum mutant mutant, enum profile profile, bool verbose)
{
	memset(w, 0, sizeof(*w));
	w->seed = seed;
	w->rng = seed * UINT64_C(0xd1342543de82ef95) + 1;
	w->mutant = mutant;
	w->verbose = verbose;
	w->nodes = 3 + (int)rnd(w, 3);
	w->projects = 1 + (int)rnd(w, PROJECTS_MAX);
	w->loss = (unsigned)rnd(w, 150);
	w->new_members = chance(w, 300) ? 800 : 350;
	w->profile = profile;
	if (mutant == MUT_CLEAN)
		w->profile = MEMBERS;
	if (mutant == MUT_HOLD || mutant == MUT_GRACE || mutant == MUT_RELEASE)
		w->profile = LEASES;
	if (w->profile != MIXED) {
		w->nodes = w->profile == MEMBERS ? 4 : 3;
		w->projects = 1;
	}
	for (int p = 0; p < w->projects; p++) {
		w->project[p] = make_uuid(100 + (unsigned)p);
		ghost_init(&w->ghost[p]);
	}
	w->now = 60 * WR_SECOND_NS;
	make_nodes(w);
	for (int p = 0; p < w->projects; p++)
		make_project(w, p);
	later(w, EV_CHAOS, 0, WR_SECOND_NS);
}

void
world_heal(struct world *w)
{
	say(w, "all heals");
	w->calm = true;
	memset(w->cut, 0, sizeof(w->cut));
	for (int i = 0; i < w->nodes; i++) {
		node_boot(w, i);
		for (int p = 0; p < w->projects; p++)
			w->node[i].copy[p].damaged = false;
	}
	for (int h = 0; h < HUBS; h++)
		hub_crash(w, h);
}

void
world_fini(struct world *w)
{
	while (w->heap_len)
		drop_letter(w->heap[--w->heap_len].letter);
	free(w->heap);
	for (int h = 0; h < HUBS; h++)
		hub_crash(w, h);
	for (int i = 0; i < w->nodes; i++)
		for (int p = 0; p < w->projects; p++) {
			struct copy *c = &w->node[i].copy[p];

			wr_member_fini(&c->s);
			wr_buf_fini(&c->disk);
			wr_buf_fini(&c->old);
			wr_save_rec_fini(&c->fill);
			wr_drop_fini(&c->drop);
		}
	wr_fleet_fini(&w->fleet);
}
