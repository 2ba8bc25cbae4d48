/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes lie sorted by data centre and id, so that the order in which they were given decides
 * nothing, not even between equal draws.
 *
 * A logarithm costs 40 multiplications.  With p = 1 - u, -log2(u) is at least p/ln 2, so that a
 * node whose p/weight is too large loses without one; of a thousand nodes some ten are left.
 */
#include "fleet/place/place.h"

__extension__ typedef unsigned __int128 u128;

struct member {
	const struct wr_place_node *node; /* in the copy */
	uint64_t digest;
	size_t dc;
	size_t index; /* as given */
};

struct centre {
	const char *name; /* borrowed from the copy */
	size_t begin, end;
};

struct wr_placer {
	struct wr_place_node *nodes; /* as given; their dc lies in names */
	char **names;
	size_t count;
	struct member *members; /* by data centre and id */
	struct centre *dcs;
	size_t dc_count;
};

/* What one run knows of a data centre. */
struct bid {
	bool allowed, drawn;
	unsigned taken;
	size_t best; /* member with the lowest draw that is not taken; SIZE_MAX: none; if drawn */
	uint64_t cost;
};

struct run {
	const struct wr_placer *p;
	const struct wr_place_policy *policy;
	uint64_t digest; /* of the project */
	struct bid *bids;
	struct wr_placement out;
};

static const struct {
	const char *name, *text;
} reasons[WR_PLACE_REASONS] = {
    [WR_PLACE_UNSET] = {"unset", "not looked at"},
    [WR_PLACE_CHOSEN] = {"chosen", "chosen"},
    [WR_PLACE_REMOVED] = {"removed", "removed from the fleet"},
    [WR_PLACE_DRAINING] = {"draining", "draining"},
    [WR_PLACE_EXPERIMENTAL] = {"experimental", "experimental"},
    [WR_PLACE_FULL] = {"full", "nearly full"},
    [WR_PLACE_NO_WEIGHT] = {"no_weight", "its weight is 0"},
    [WR_PLACE_DC_NOT_ALLOWED] = {"dc_not_allowed", "its data centre is not allowed"},
    [WR_PLACE_OTHER_DC] = {"other_dc", "other data centres won"},
    [WR_PLACE_LOWER] = {"lower", "another node of its data centre won"},
};

const char *
wr_place_reason_name(enum wr_place_reason r)
{
	return reasons[r < WR_PLACE_REASONS ? r : WR_PLACE_UNSET].name;
}

const char *
wr_place_reason_text(enum wr_place_reason r)
{
	return reasons[r < WR_PLACE_REASONS ? r : WR_PLACE_UNSET].text;
}

/* The finalizer of SplitMix64, Stafford's variant 13. */
static uint64_t
mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static uint64_t
digest(const struct wr_uuid *id, uint64_t seed)
{
	uint64_t half[2] = {0, 0};
	unsigned digits = 0;

	for (const char *c = id->s; *c; c++) {
		if (*c == '-')
			continue;
		half[digits / 16] =
		    half[digits / 16] << 4 | (uint64_t)(*c <= '9' ? *c - '0' : *c - 'a' + 10);
		digits++;
	}
	return mix(mix(half[0] ^ seed) + half[1]);
}

/* Seeds: the fractional parts of the golden ratio and of the square root of 2. They keep a node and
 * a project of one id apart. */
#define SEED_PROJECT 0x9e3779b97f4a7c15u
#define SEED_NODE 0x6a09e667f3bcc908u

static uint64_t
draw_of(const struct run *r, const struct member *m)
{
	/* Odd, hence never 0, and 1 - u is never 0 either. */
	return mix(mix(r->digest ^ m->digest) + r->digest) | 1;
}

/* -log2(u / 2^64), 57 bits after the point, of which 40 are found. */
static uint64_t
neg_log2(uint64_t u)
{
	unsigned zeros = (unsigned)__builtin_clzll(u);
	uint64_t x = u << zeros; /* in [1,2), 63 bits after the point */
	uint64_t fraction = 0;

	for (unsigned bit = 0; bit < 40; bit++) {
		u128 square = (u128)x * x; /* in [1,4), 126 bits after the point */

		fraction <<= 1;
		if (square >> 127) {
			fraction |= 1;
			x = (uint64_t)(square >> 64);
		} else {
			x = (uint64_t)(square >> 63);
		}
	}
	return ((uint64_t)(zeros + 1) << 57) - (fraction << 17);
}

/* At most neg_log2(u), at little cost: (1-u) * 1.4375, where 1/ln 2 is 1.4427. */
static uint64_t
neg_log2_least(uint64_t u)
{
	uint64_t p = ~u >> 7;

	return p + (p >> 1) - (p >> 4);
}

/* a/wa < b/wb */
static bool
lower(uint64_t a, uint32_t wa, uint64_t b, uint32_t wb)
{
	return (u128)a * wb < (u128)b * wa;
}

static enum wr_place_reason
refusal(const struct run *r, const struct member *m)
{
	const struct wr_place_node *n = m->node;

	if (n->removed)
		return WR_PLACE_REMOVED;
	if (!r->bids[m->dc].allowed)
		return WR_PLACE_DC_NOT_ALLOWED;
	if (n->draining)
		return WR_PLACE_DRAINING;
	if (n->experimental && !r->policy->allow_experimental)
		return WR_PLACE_EXPERIMENTAL;
	if (n->full)
		return WR_PLACE_FULL;
	if (n->weight == 0)
		return WR_PLACE_NO_WEIGHT;
	return WR_PLACE_UNSET;
}

static bool
is_taken(const struct run *r, const struct member *m)
{
	for (size_t i = 0; i < r->out.count; i++)
		if (r->out.nodes[i] == m->index)
			return true;
	return false;
}

/* The lowest draw among the nodes of a data centre that are not taken. */
static struct bid *
bid_of(struct run *r, size_t dc)
{
	struct bid *b = &r->bids[dc];
	const struct centre *c = &r->p->dcs[dc];
	uint32_t weight = 0;

	if (b->drawn)
		return b;
	b->drawn = true;
	b->best = SIZE_MAX;
	for (size_t i = c->begin; i < c->end; i++) {
		const struct member *m = &r->p->members[i];
		uint64_t u, cost;

		if (refusal(r, m) != WR_PLACE_UNSET)
			continue;
		u = draw_of(r, m);
		if (b->best != SIZE_MAX &&
		    !lower(neg_log2_least(u), m->node->weight, b->cost, weight))
			continue;
		if (is_taken(r, m))
			continue;
		cost = neg_log2(u);
		if (b->best != SIZE_MAX && !lower(cost, m->node->weight, b->cost, weight))
			continue;
		b->best = i;
		b->cost = cost;
		weight = m->node->weight;
	}
	return b;
}

static void
take(struct run *r, size_t member)
{
	const struct member *m = &r->p->members[member];
	struct bid *b = &r->bids[m->dc];

	r->out.nodes[r->out.count++] = m->index;
	r->out.dcs += b->taken == 0;
	b->taken++;
	b->drawn = false;
}

/* The data centre with the lowest draw among those with fewer than limit copies; SIZE_MAX: none. */
static size_t
best_dc(struct run *r, unsigned limit)
{
	const struct member *m = r->p->members;
	size_t best = SIZE_MAX;

	for (size_t dc = 0; dc < r->p->dc_count; dc++) {
		const struct bid *b = &r->bids[dc];

		if (!b->allowed || b->taken >= limit || bid_of(r, dc)->best == SIZE_MAX)
			continue;
		if (best == SIZE_MAX || lower(b->cost, m[b->best].node->weight, r->bids[best].cost,
					      m[r->bids[best].best].node->weight))
			best = dc;
	}
	return best;
}

static size_t
find_dc(const struct wr_placer *p, const char *name)
{
	size_t lo = 0, hi = p->dc_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int cmp = strcmp(p->dcs[mid].name, name);

		if (cmp == 0)
			return mid;
		if (cmp < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return SIZE_MAX;
}

static void
explain(const struct run *r, enum wr_place_reason *why)
{
	for (size_t i = 0; i < r->p->count; i++) {
		const struct member *m = &r->p->members[i];

		if (is_taken(r, m))
			why[m->index] = WR_PLACE_CHOSEN;
		else if ((why[m->index] = refusal(r, m)) == WR_PLACE_UNSET)
			why[m->index] = r->bids[m->dc].taken ? WR_PLACE_LOWER : WR_PLACE_OTHER_DC;
	}
}

static int
check_policy(const struct wr_placer *p, const struct wr_place_policy *policy, struct wr_err *err)
{
	if (policy->replicas > WR_PLACE_REPLICAS_MAX)
		return wr_err_set(err, WR_E_INVALID, "%u replicas, at most %d can be",
				  policy->replicas, WR_PLACE_REPLICAS_MAX);
	if (policy->has_fixed && policy->fixed >= p->count)
		return wr_err_set(err, WR_E_INVALID, "there is no node %zu of %zu", policy->fixed,
				  p->count);
	if (policy->has_fixed && p->nodes[policy->fixed].removed)
		return wr_err_set(err, WR_E_INVALID, "node '%s' was removed from the fleet",
				  p->nodes[policy->fixed].id.s);
	return 0;
}

int
wr_placer_run(const struct wr_placer *p, const struct wr_uuid *project,
	      const struct wr_place_policy *policy, struct wr_placement *out,
	      enum wr_place_reason *why, struct wr_err *err)
{
	struct bid few[16] = {0};
	WR_SCOPED(wr_freep) struct bid *many = NULL;
	struct run r = {.p = p, .policy = policy, .digest = digest(project, SEED_PROJECT)};

	if (check_policy(p, policy, err) < 0)
		return -1;
	r.out.wanted = policy->replicas ? policy->replicas : WR_PLACE_REPLICAS_DEFAULT;
	if (p->dc_count > WR_ARRAY_LEN(few))
		many = wr_calloc(p->dc_count, sizeof(*many));
	r.bids = many ? many : few;
	for (size_t i = 0; i < p->dc_count; i++)
		r.bids[i].allowed = policy->allowed_count == 0;
	for (size_t i = 0; i < policy->allowed_count; i++) {
		size_t dc = find_dc(p, policy->allowed[i]);

		if (dc != SIZE_MAX)
			r.bids[dc].allowed = true;
	}

	if (policy->has_fixed)
		for (size_t i = 0; i < p->count; i++)
			if (p->members[i].index == policy->fixed)
				take(&r, i);
	for (size_t i = 0; i < policy->first_count; i++) {
		size_t dc = find_dc(p, policy->first[i]);

		if (dc != SIZE_MAX && r.bids[dc].taken)
			continue;
		if (dc == SIZE_MAX || bid_of(&r, dc)->best == SIZE_MAX)
			r.out.first_none++;
		else if (r.out.count < r.out.wanted)
			take(&r, r.bids[dc].best);
	}
	/* One in each, then two in each, and so on: a round that finds nothing more in any ends it.
	 */
	for (unsigned limit = 1; r.out.count < r.out.wanted; limit++) {
		size_t dc;

		if (limit > r.out.wanted || (policy->per_dc && limit > policy->per_dc))
			break;
		while (r.out.count < r.out.wanted && (dc = best_dc(&r, limit)) != SIZE_MAX)
			take(&r, r.bids[dc].best);
	}

	if (r.out.count == 0) {
		wr_err_set(err, WR_E_NOT_FOUND, "none of %zu nodes may take it", p->count);
		return wr_err_hint(err,
				   "add nodes, or allow more data centres or experimental ones");
	}
	if (why)
		explain(&r, why);
	*out = r.out;
	return 0;
}

static int
by_dc_and_id(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	int cmp = strcmp(x->node->dc, y->node->dc);

	return cmp ? cmp : strcmp(x->node->id.s, y->node->id.s);
}

static int
by_id(const void *a, const void *b)
{
	const struct wr_place_node *const *x = a, *const *y = b;

	return strcmp((*x)->id.s, (*y)->id.s);
}

static int
check_nodes(const struct wr_place_node *nodes, size_t count, struct wr_err *err)
{
	WR_SCOPED(wr_freep) const struct wr_place_node **sorted = NULL;
	struct wr_uuid id;

	if (count > WR_PLACE_NODES_MAX)
		return wr_err_set(err, WR_E_LIMIT, "%zu nodes, at most %d can be", count,
				  WR_PLACE_NODES_MAX);
	sorted = wr_calloc(count, sizeof(*sorted));
	for (size_t i = 0; i < count; i++) {
		if (memchr(nodes[i].id.s, '\0', sizeof(nodes[i].id.s)) == NULL ||
		    !wr_uuid_parse(nodes[i].id.s, &id))
			return wr_err_set(err, WR_E_INVALID, "node %zu of %zu has no valid id", i,
					  count);
		if (!nodes[i].dc || !*nodes[i].dc)
			return wr_err_set(err, WR_E_INVALID, "node '%s' has no data centre", id.s);
		sorted[i] = &nodes[i];
	}
	if (count > 1)
		qsort(sorted, count, sizeof(*sorted), by_id);
	for (size_t i = 1; i < count; i++)
		if (strcmp(sorted[i - 1]->id.s, sorted[i]->id.s) == 0)
			return wr_err_set(err, WR_E_INVALID, "node '%s' is there twice",
					  sorted[i]->id.s);
	return 0;
}

struct wr_placer *
wr_placer_new(const struct wr_place_node *nodes, size_t count, struct wr_err *err)
{
	struct wr_placer *p;

	if (check_nodes(nodes, count, err) < 0)
		return NULL;
	p = wr_calloc(1, sizeof(*p));
	p->count = count;
	p->nodes = wr_calloc(count, sizeof(*p->nodes));
	p->names = wr_calloc(count, sizeof(*p->names));
	p->members = wr_calloc(count, sizeof(*p->members));
	p->dcs = wr_calloc(count, sizeof(*p->dcs));
	for (size_t i = 0; i < count; i++) {
		p->nodes[i] = nodes[i];
		p->nodes[i].dc = p->names[i] = wr_strdup(nodes[i].dc);
		p->members[i].node = &p->nodes[i];
		p->members[i].digest = digest(&nodes[i].id, SEED_NODE);
		p->members[i].index = i;
	}
	if (count > 1)
		qsort(p->members, count, sizeof(*p->members), by_dc_and_id);
	for (size_t i = 0; i < count; i++) {
		const char *name = p->members[i].node->dc;

		if (p->dc_count == 0 || strcmp(p->dcs[p->dc_count - 1].name, name) != 0)
			p->dcs[p->dc_count++] = (struct centre){.name = name, .begin = i};
		p->members[i].dc = p->dc_count - 1;
		p->dcs[p->dc_count - 1].end = i + 1;
	}
	return p;
}

void
wr_placer_free(struct wr_placer *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->count; i++)
		free(p->names[i]);
	free(p->names);
	free(p->nodes);
	free(p->members);
	free(p->dcs);
	free(p);
}

void
wr_placer_freep(struct wr_placer **p)
{
	wr_placer_free(*p);
	*p = NULL;
}
